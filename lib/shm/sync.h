/* SPDX-License-Identifier: MIT */
/* Locks and the other objects by which processes wait for each other: keys like any other, whose holders and waiters may die at
 * any instruction. An owner is a slot, or a connection of the daemon that has been given a seat.
 *
 * Verbs run inside of an operation (op.h) that holds the shards of the names, unless "outside" is said; none sleeps. Results
 * common to all: 0 or positive: done. -EBUSY: it would have to wait. -EINPROGRESS (with SYNC_WAIT): it stands in line
 * now, which op_run() commits although it is negative: the answer comes by sync_poll(), sync_wait() or sync_give_up(). An owner
 * waits for one thing at a time: -EALREADY. -EIDRM: the object was deleted meanwhile. -EPROTOTYPE: the name is of another
 * type. And those of keys.h. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/shm/keys.h"
#include "lib/shm/segment.h"

enum { SYNC_DIED = 1 }; /* done; and the former holder died holding it */
enum sync_flag {
    SYNC_WAIT = 1,     /* may stand in line */
    SYNC_NO_CHECK = 2, /* no look for cycles of waiters */
    SYNC_FORCE = 4,    /* release: whoever holds it */
};

/* ---- owners; outside ---- */
/* For whom the handle acts: s->actor, or its own slot. */
static inline uint32_t sync_actor(const struct shm *s) {
    return s->actor ? s->actor : s->me;
}
/* The daemon's: a seat for a connection (conn is not 0). -ENOSPC: none is left. */
int sync_seat_take(struct shm *s, uint64_t conn, uint32_t pid, uint32_t uid, uint32_t *ret_owner);
/* Its end: everything is released, and the seat is free. -EAGAIN: call again. */
int sync_seat_end(struct shm *s, uint32_t owner);
/* Releases what a dead or departing owner holds, and takes it out of the line it stands in; so do slot_bury() and
 * sync_seat_end(). -EAGAIN: call again; it goes on where it was. */
int sync_bury(struct shm *s, uint32_t owner);
/* The same for the actor, which lives on: how many things it held. The next owners hear SYNC_DIED. */
int sync_release_all(struct shm *s);
/* The daemon's: an owner, of those given a seat, whose wait may be over, and its connection; each is told once. 0: none. */
uint32_t sync_next_granted(struct shm *s, uint64_t *ret_conn);
/* Whether there may be one. */
bool sync_any_granted(const struct shm *s);

/* ---- the one thing the actor waits for; outside ---- */
/* -EINPROGRESS, or the final answer, which is told once. -EINVAL: it waits for nothing. -EAGAIN: call again (a connection's
 * bit is set again meanwhile). */
int sync_poll(struct shm *s);
/* Its time is over: the final answer: -ETIMEDOUT, or what it had been given already. -EINPROGRESS: only of a condition (it
 * stands in the lock's line now). -EAGAIN: call again. */
int sync_give_up(struct shm *s);
/* It waits no more, and does not come for what it had been given, which goes to the next in line. -EAGAIN: call again. */
int sync_forgo(struct shm *s);
/* A slot's: sleeps until the answer is there, or gives up after ms (< 0: never). */
int sync_wait(struct shm *s, int64_t ms);

/* After -EINPROGRESS from a lock, unless the caller wants no such check: can the wait ever end? -EDEADLK: no, it would wait for
 * itself; it has left the line, and s->cycle_pids tells who waits for whom. Else as sync_poll(). -EAGAIN: locks were busy; it stands in line. */
int sync_check_cycle(struct shm *s);

/* ---- locks ---- */
/* 0 or SYNC_DIED; made by first use. -EDEADLK: the actor has it already; with SYNC_NO_CHECK it waits for itself. */
int sync_lock_acquire(struct shm *s, const struct key_name *name, unsigned flags);
/* -EPERM: it is not the actor's (with SYNC_FORCE: not locked). */
int sync_lock_release(struct shm *s, const struct key_name *name, unsigned flags);
/* Reads. 1 or 0. */
int sync_lock_is_held(struct shm *s, const struct key_name *name);

/* ---- locks that their owner may take again ---- */
int sync_rlock_acquire(struct shm *s, const struct key_name *name, unsigned flags);
/* 0; 1: the owner still has it. -EPERM. SYNC_FORCE: all of it at once, whoever holds it. */
int sync_rlock_release(struct shm *s, const struct key_name *name, unsigned flags);

/* ---- semaphores; n >= 1 ---- */
/* 1: made; 0: there already. -EEXIST: with other parameters. `bounded`: never more units than at first. */
int sync_sem_create(struct shm *s, const struct key_name *name, uint64_t value, bool bounded);
/* 0, or SYNC_DIED: among the units may be some of one that died with them. Units that somebody holds when he dies come back; so a
 * semaphore by which one process signals to another should not be taken from by mortals. In the order of the line: who
 * wants many is not overtaken. -ENOENT: not made yet. -EINVAL: more than there can ever be. */
int sync_sem_acquire(struct shm *s, const struct key_name *name, uint64_t n, unsigned flags);
/* By anybody; of who holds less than n the rest is added all the same. -EOVERFLOW: above the bound. */
int sync_sem_release(struct shm *s, const struct key_name *name, uint64_t n);
/* Reads. Free units. */
int64_t sync_sem_value(struct shm *s, const struct key_name *name);

/* ---- events ---- */
/* Everybody who waits goes on. Made by first use, as by waiting. */
int sync_event_set(struct shm *s, const struct key_name *name);
int sync_event_clear(struct shm *s, const struct key_name *name);
/* Reads. 1 or 0. */
int sync_event_is_set(struct shm *s, const struct key_name *name);
/* 0: it was set, at least for a moment. */
int sync_event_wait(struct shm *s, const struct key_name *name, unsigned flags);

/* ---- conditions; both shards are held ---- */
/* Stands in the condition's line and lets go of the lock (a lock or an rlock, of any depth) in one operation. The answer comes when
 * the actor has the lock again, as before: 0: notified; SYNC_DIED: likewise, and a former holder of the lock died with it;
 * -ETIMEDOUT: its time was over. sync_give_up() may say -EINPROGRESS: it stands in the lock's line, go on with sync_poll().
 * When a holder of the lock dies, everybody looks again, as if notified. -EPERM: the lock is not the actor's. -EIDRM: the
 * lock, or the condition, was deleted: the actor does not have the lock. */
int sync_cond_wait(struct shm *s, const struct key_name *cond, const struct key_name *lock,
                   unsigned flags);
/* n of those who wait, in order; UINT64_MAX: all. By anybody, with the lock or without. How many. */
int64_t sync_cond_notify(struct shm *s, const struct key_name *cond, uint64_t n);

/* ---- barriers ---- */
/* As sync_sem_create(); parties: 1 .. INT32_MAX. */
int sync_barrier_create(struct shm *s, const struct key_name *name, uint32_t parties);
/* The place in the order of coming, 0 .. parties - 1. -ECONNABORTED: it is broken, or was while the actor waited. -ETIMEDOUT: the
 * actor's time was over, which breaks it. */
int sync_barrier_wait(struct shm *s, const struct key_name *name, unsigned flags);
/* Breaks it for those who wait; it is whole again for those who come. */
int sync_barrier_reset(struct shm *s, const struct key_name *name);
int sync_barrier_abort(struct shm *s, const struct key_name *name);
struct sync_barrier_view {
    uint32_t parties, waiting;
    bool broken;
};
/* Reads. */
int sync_barrier_view(struct shm *s, const struct key_name *name, struct sync_barrier_view *ret);

/* ---- reader-writer locks: in the order of coming ---- */
/* 0 or SYNC_DIED (the last writer died writing); made by first use. As often as one likes. -EDEADLK: the actor writes. */
int sync_rwlock_read(struct shm *s, const struct key_name *name, unsigned flags);
/* -EDEADLK: the actor reads or writes. */
int sync_rwlock_write(struct shm *s, const struct key_name *name, unsigned flags);
/* 0; 1: the actor still reads. -EPERM. SYNC_FORCE: a writer's, whoever it is. */
int sync_rwlock_release(struct shm *s, const struct key_name *name, unsigned flags);

/* ---- a handle for locks and rlocks that are mostly free; outside ---- */
/* All zero but for the name, whose bytes must stay. For one thread. */
struct sync_ref {
    struct key_name name;
    uint64_t off, flushes; /* the object; valid as long as the shard's `flushes` are these */
    uint32_t serial;
};
/* As the verbs of the same names, without waiting for anything. -EBUSY: take the other way (it is held, waited for, new ...). */
int sync_ref_lock(struct shm *s, struct sync_ref *ref);
int sync_ref_unlock(struct shm *s, struct sync_ref *ref);
int sync_ref_rlock(struct shm *s, struct sync_ref *ref);
int sync_ref_runlock(struct shm *s, struct sync_ref *ref);

/* ---- who holds and waits ---- */
struct sync_party_view {
    uint32_t owner, pid, uid;
    uint64_t conn;  /* 0: a slot */
    int64_t for_ms; /* how long; -1: not known (taken the short way) */
    uint64_t count; /* units, or times */
    bool holds;     /* else it waits */
    bool dead;
    char mode; /* of locks: 'x' exclusive, 'r' reads, 'w' writes; of others 0 */
};
/* Reads. Calls fn for each holder, then for each that waits, in order; until it returns something else than 0, which is returned.
 * In op_read() it may begin anew. -ENOENT; -EPROTOTYPE: not of this family. */
int sync_parties(struct shm *s, const struct key_name *name,
                 int (*fn)(void *arg, const struct sync_party_view *v), void *arg);
