/* SPDX-License-Identifier: MIT */
/* What the kinds of sync objects are built on: objects, parties, and one table of what is different about each kind. Only for
 * lib/shm/sync*.c, queue.c, pipe.c, array.c and the like. Everything here runs inside of an operation that holds the
 * object's shard, unless "outside" is said.
 *
 * A word whose bit W is clear may be changed by anybody's compare-and-swap; one with W set only with the shard's lock held, by
 * tx_set(). So whoever looks at a word and wants to change it pins it first: sets W, by a compare-and-swap outside of
 * the log, which is harmless by itself. When the operation has ended, committed or not, W goes again unless parties wait.
 * Only locks and rlocks use that: words of other kinds have W always.
 *
 * A party that waits lies in its owner's seat. A grant answers it: takes it out of the line, writes the answer, and has its
 * owner woken after the commit. What was granted is the owner's from then on, also if it dies before it looks:
 * a kind must be able to undo a grant that nobody came for (`undo`), or leave it to `bury`. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/shm/keys.h"
#include "lib/shm/layout.h"
#include "lib/shm/segment.h"
#include "lib/shm/sync.h"

enum party_state { PARTY_IDLE, PARTY_WAITS, PARTY_ANSWERED, PARTY_HOLDS };
enum sync_state {
    SYNC_LIVES,
    SYNC_GONE, /* its key is deleted, it is being taken apart */
    SYNC_KEPT, /* ... but it stays for its holders, and is not among the doomed until they have gone */
};
enum { SYNC_KEEP = 2 }; /* says `take_apart` */

#define SYNC_W UINT64_C(0x80000000)

/* What a kind does its own way; a NULL does nothing. All may be run again (op.h), return 0 or a negative errno (-ENOBUFS after
 * tx_need() included), and are given a checked object. None allocates but `collect`. */
struct sync_kind {
    /* owner is dead: what it holds of o is given up, and who has waited for it is answered, with SYNC_DIED where that means
     * something. Its own waiting party is gone already. 1: it held something; call again. */
    int (*bury)(struct shm *s, struct shm_sync *o, uint32_t owner);
    /* A party that was waiting has gone unanswered (its time was over, `died`: its owner was): others may be able to go on. */
    int (*left)(struct shm *s, struct shm_sync *o, struct shm_party *p, bool died);
    /* p waits, and something may have changed that nobody could tell about (a holder has died): looks again. */
    int (*look)(struct shm *s, struct shm_sync *o, struct shm_party *p);
    /* The owner comes for its answer (>= 0): takes what was granted into its hands and may change *answer. It may park again
     * (sync_park()) with *answer = -EINPROGRESS. 1: it stays answered, for the call that its owner makes next. o: NULL when the object is gone since. */
    int (*collect)(struct shm *s, struct shm_sync *o, struct shm_party *p, int *answer);
    /* The owner died before that: what was granted goes back. o as above; its shard is `shard`. */
    int (*undo)(struct shm *s, struct shm_sync *o, unsigned shard, struct shm_party *p);
    /* Further shards that collect needs; reads, outside. */
    uint64_t (*also)(struct shm *s, const struct shm_party *p);
    /* A piece of the object's content is given back. 0: nothing is left; 1: there is more; SYNC_KEEP: not before its holders have
     * gone: `bury` and who else drops the last one calls sync_kept_no_more(). */
    int (*take_apart)(struct shm *s, unsigned shard, struct shm_sync *o);
    /* Calls fn for each block that the object owns, but for the list of holders, and that is charged to its account. Reads. */
    int (*blocks)(struct shm *s, const struct shm_sync *o,
                  int (*fn)(void *arg, uint64_t off, uint64_t bytes), void *arg);
    /* ... that a party owns that waits, or was answered with 0 or more and has not come yet. *account, an index as of the account
     * that pays for them (-1: nobody), is set before the first call of fn. Reads. */
    int (*party_blocks)(struct shm *s, const struct shm_party *p,
                        int (*fn)(void *arg, uint64_t off, uint64_t bytes), void *arg,
                        int *account);
    /* What is wrong with it, if anything, in words. Nobody changes it meanwhile. */
    const char *(*check)(struct shm *s, const struct shm_sync *o);
};
extern const struct sync_kind sync_kind_lock, sync_kind_rlock, sync_kind_rwlock, sync_kind_sem,
    sync_kind_event, sync_kind_cond, sync_kind_barrier;
extern const struct sync_kind sync_kind_queue, sync_kind_pipe;
/* NULL: not of a sync object. */
const struct sync_kind *sync_kind_of(unsigned type);

/* ---- words ---- */
static inline uint32_t sync_word_owner(uint64_t word) {
    return (uint32_t)(word & 0x7fffffff);
}
static inline uint32_t sync_word_serial(uint64_t word) {
    return (uint32_t)(word >> 32);
}
static inline uint64_t sync_word(uint32_t serial, bool w, uint32_t owner) {
    return (uint64_t)serial << 32 | (w ? SYNC_W : 0) | (owner & 0x7fffffff);
}
static inline unsigned sync_shard(const struct shm_sync *o) {
    return (unsigned)(atomic_load_explicit((_Atomic uint64_t *)&o->place, memory_order_relaxed) %
                      SHM_SHARDS);
}
static inline enum key_type sync_type(const struct shm_sync *o) {
    return (enum key_type)(
        atomic_load_explicit((_Atomic uint64_t *)&o->kind, memory_order_relaxed) & 0xff);
}
/* A count that a walk may go by: no more than there is room for, whatever somebody has written. */
static inline uint64_t sync_at_most(const struct shm *s, const _Atomic uint64_t *count) {
    uint64_t n = atomic_load_explicit((_Atomic uint64_t *)count, memory_order_relaxed);
    uint64_t room = s->size / sizeof(struct shm_party);
    return n < room ? n : room;
}
static inline uint32_t party_owner(const struct shm_party *p) {
    return (uint32_t)atomic_load_explicit((_Atomic uint64_t *)&p->who, memory_order_relaxed);
}
static inline uint64_t party_word(enum party_state state, unsigned kind, unsigned mode,
                                  int answer) {
    return (uint64_t)state | (uint64_t)(kind & 0xff) << 8 | (uint64_t)(mode & 0xff) << 16 |
           (uint64_t)(uint32_t)answer << 32;
}
static inline enum party_state party_state(uint64_t word) {
    return (enum party_state)(word & 0xff);
}
static inline unsigned party_kind(uint64_t word) {
    return word >> 8 & 0xff;
}
static inline unsigned party_mode(uint64_t word) {
    return word >> 16 & 0xff;
}
static inline int party_answer(uint64_t word) {
    return (int)(int32_t)(uint32_t)(word >> 32);
}

/* ---- objects ---- */
uint64_t sync_off(const struct shm *s, const void *at);
/* The sync object at an offset, checked, or NULL. Reads. */
struct shm_sync *sync_at(const struct shm *s, uint64_t off);
/* A party at an offset, in a seat or in a block; NULL: there is none. Reads. */
struct shm_party *sync_party_at(const struct shm *s, uint64_t off);
/* Finds the object of a key for changing it, or makes it (`ret_made`, may be NULL, says so). -ENOENT, -EPROTOTYPE, ... as key_open(). */
int sync_open(struct shm *s, const struct key_name *name, enum key_type type, bool make,
              struct shm_sync **ret, bool *ret_made);
/* Finds it. Reads. */
int sync_find(struct shm *s, const struct key_name *name, enum key_type type,
              struct shm_sync **ret);
/* Holds on to the word until the operation ends; see above. */
void sync_pin(struct shm *s, struct shm_sync *o);
/* For keys.c: the block of a new object; its key is being deleted; it goes under another name (`to`: the name's shard);
 * a piece of a deleted one: 1: there is more, 0: it is given back. */
int sync_make(struct shm *s, unsigned shard, enum key_type type, uint64_t *ret_off);
int sync_doom(struct shm *s, unsigned shard, uint64_t off);
int sync_renamed(struct shm *s, uint64_t off, unsigned to);
int sync_take_apart(struct shm *s, unsigned shard, struct shm_sync *o);
/* Calls fn for each block of the object but its own: holders and content. Reads; for check.c and key_memory(). */
int sync_blocks(struct shm *s, const struct shm_sync *o,
                int (*fn)(void *arg, uint64_t off, uint64_t bytes), void *arg);

/* ---- owners ---- */
struct shm_seat *sync_seat(const struct shm *s, uint32_t owner); /* NULL: a malformed word */
bool sync_is_dead(const struct shm *s, uint32_t owner);
/* The actor is about to hold or wait for something in the shard: its end will look there. */
void sync_enrol(struct shm *s, unsigned shard);

/* ---- parties that wait ---- */
/* The actor stands at the end of the line. Returns -EINPROGRESS, which op_run() commits; -EBUSY unless flags has SYNC_WAIT;
 * -EALREADY: it waits for something already. *ret (may be NULL): the party, whose data words may then be set, by tx_set(). */
int sync_park(struct shm *s, struct shm_sync *o, unsigned mode, uint64_t count, unsigned flags,
              struct shm_party **ret);
/* The same for a party whose answer is being collected, in the seat of `owner`: it goes on waiting, for o. `front`: before all others. */
int sync_park_again(struct shm *s, struct shm_sync *o, struct shm_party *p, unsigned mode,
                    uint64_t count, bool front);
/* The first in line whose owner lives (dead ones go out of it), or NULL. *ret: it failed, with an errno. */
struct shm_party *sync_first(struct shm *s, struct shm_sync *o, int *ret);
/* The next one behind p, dead or not; NULL: none. Reads. */
struct shm_party *sync_next(const struct shm *s, const struct shm_party *p);
/* The first in line, dead or not; NULL: none. Reads. */
struct shm_party *sync_first_of(const struct shm *s, const struct shm_sync *o);
/* p, a waiting party, leaves the line of its own will and is answered with an errno. */
int sync_withdraw(struct shm *s, struct shm_party *p, int answer);
/* Answers a party that waits for o: it is out of the line, and its owner will be woken. */
int sync_answer(struct shm *s, struct shm_sync *o, struct shm_party *p, int answer);
/* All of them the same. How many; one word of the log for each. */
int64_t sync_answer_all(struct shm *s, struct shm_sync *o, int answer);
/* The owner of the seat is to be woken when the operation has been committed. */
void sync_wake(struct shm *s, uint32_t owner);

/* ---- parties that hold: blocks listed in o->holders ---- */
/* The first of them; sync_next() goes on. Reads. */
struct shm_party *sync_holders(const struct shm *s, const struct shm_sync *o);
struct shm_party *sync_holder(const struct shm *s, const struct shm_sync *o, uint32_t owner);
/* owner's, made if need be, with count 0. Allocates. */
int sync_holder_make(struct shm *s, struct shm_sync *o, uint32_t owner, unsigned mode,
                     struct shm_party **ret);
int sync_holder_drop(struct shm *s, struct shm_sync *o, struct shm_party *p);
/* The last one has gone: o is taken apart now, if it was only kept for them. */
int sync_kept_no_more(struct shm *s, struct shm_sync *o);

/* ---- locks and conditions ---- */
/* Words of a lock: the conditions last used with it, each by offset and birth, in turns; whether those who wait for them are
 * to look again; whether its last owner died with it and nobody has been told: then W stays, so that the next one takes the longer
 * way and is. */
enum { LOCK_CONDS = 6, LOCK_NEXT_COND = 2 * LOCK_CONDS, LOCK_RECHECK, LOCK_DIED };
/* Modes of parties that stand in a lock's line on behalf of a condition: they do not give up. LATE: the answer will be
 * -ETIMEDOUT. */
enum { SYNC_MODE_AGAIN = 'c', SYNC_MODE_LATE = 't' };
/* The lock of that name, of either kind, if it is the actor's: -EPERM. */
int sync_lock_held(struct shm *s, const struct key_name *name, struct shm_sync **ret);
/* It goes to the next in line; how often its owner had it. */
int sync_lock_let_go(struct shm *s, struct shm_sync *o, uint64_t *ret_times);
/* The owner of p, whose answer is being taken, gets it so often: 0 or SYNC_DIED; -EINPROGRESS: p stands in line now. */
int sync_lock_take_again(struct shm *s, struct shm_sync *o, struct shm_party *p, unsigned mode,
                         uint64_t times);
/* The holder of the lock has died: everybody who waits for a condition with it looks again. Outside. 0 or -EAGAIN. */
int sync_cond_recheck(struct shm *s, uint64_t lock);

/* ---- for op.c, slot.c, check.c ---- */
/* The operation has been committed or undone: pins from `pins` on are let go. The shards are still held. */
void sync_unpin(struct shm *s, uint32_t pins);
/* Wakes those to be woken; outside. */
void sync_ring(struct shm *s);
/* Wakes everybody who waits: one that died may have meant to. Outside. */
void sync_wake_all(struct shm *s);
/* The end of a slot: its own things, and the seats it gave out; then sync_wake_all(). Outside. -EAGAIN: call again. */
int sync_bury_slot(struct shm *s, uint32_t owner);
/* A slot gets a new owner. */
void sync_seat_reset(struct shm *s, uint32_t slot);

/* ---- kinds with files of their own ---- */
extern const struct sync_kind sync_kind_array;
