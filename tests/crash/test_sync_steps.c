/* SPDX-License-Identifier: MIT */
/* Every instruction of what holders of locks and waiters do: getting, standing in line, letting go, giving up, the short way,
 * renaming and deleting under them, seats, and the burial itself (DESIGN section 4.1). After each death, and the burial, everybody
 * who has an answer has been woken, everybody else gets one as soon as those before have let go, nothing stays held, and nothing is
 * left when the keys are removed. Then the same for who buries, from copies taken inside of transactions.
 * Fails: prints "not ok" and exits 1. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/shm/alloc.h"
#include "lib/shm/internal.h"
#include "lib/shm/keys.h"
#include "lib/shm/op.h"
#include "lib/shm/sync.h"
#include "lib/shm/sync_private.h"
#include "tests/crash/step.h"

enum { THIRD = 3, DEAD = 4, UNDERTAKER = 5, ROUNDS = 12 };

/* ---- verbs ---- */

typedef int flagged(struct shm *s, const struct key_name *name, unsigned flags);

struct act {
    flagged *fn;
    struct key_name name, to;
    unsigned flags;
};

static struct key_name name_of(const struct shm *s, const char *text) {
    return key_name(s, text, strlen(text));
}

static int run_act(struct shm *s, void *arg) {
    const struct act *a = arg;
    return a->fn(s, &a->name, a->flags);
}

static int act(struct shm *s, flagged *fn, const char *text, unsigned flags) {
    struct act a = {.fn = fn, .name = name_of(s, text), .flags = flags};
    return op_run(s, key_shard_bit(&a.name), run_act, &a);
}

static int as(struct shm *s, uint32_t slot, flagged *fn, const char *text) {
    struct shm h = step_handle(s->base, slot);
    return act(&h, fn, text, SYNC_WAIT);
}

static int delete_key(struct shm *s, const struct key_name *n, unsigned flags) {
    struct key key;
    (void)flags;
    int r = key_find_write(s, n, &key);
    return r ? r : key_delete(s, &key);
}

static int flush_shard(struct shm *s, const struct key_name *n, unsigned flags) {
    (void)flags;
    return keys_flush(s, n->shard);
}

static int run_rename(struct shm *s, void *arg) {
    struct act *a = arg;
    struct key key;
    int r = key_find_write(s, &a->name, &key);
    return r ? r : key_rename(s, &key, &a->to);
}

static int rename_key(struct shm *s, const char *from, const char *to) {
    struct act a = {.name = name_of(s, from), .to = name_of(s, to)};
    return op_run(s, key_shard_bit(&a.name) | key_shard_bit(&a.to), run_rename, &a);
}

static void must(int r, int want) {
    if (r != want) {
        fprintf(stderr, "# a step of the setting returned %d, not %d\n", r, want);
        abort();
    }
}

/* ---- settings: who holds, who waits ---- */

static void held_by_other(struct shm *s) {
    must(as(s, STEP_OTHER, sync_lock_acquire, "l"), 0);
}
static void free_lock(struct shm *s) {
    held_by_other(s);
    must(as(s, STEP_OTHER, sync_lock_release, "l"), 0);
}
static void two_wait(struct shm *s) {
    must(as(s, STEP_VICTIM, sync_lock_acquire, "l"), 0);
    must(as(s, STEP_OTHER, sync_lock_acquire, "l"), -EINPROGRESS);
    must(as(s, THIRD, sync_lock_acquire, "l"), -EINPROGRESS);
}
static void victim_waits(struct shm *s) {
    must(as(s, DEAD, sync_lock_acquire, "l"), 0);
    must(as(s, STEP_OTHER, sync_lock_acquire, "l"), -EINPROGRESS);
    must(as(s, STEP_VICTIM, sync_lock_acquire, "l"), -EINPROGRESS);
    must(as(s, THIRD, sync_lock_acquire, "l"), -EINPROGRESS);
    must(as(s, DEAD, sync_lock_release, "l"), 0);
    struct shm h = step_handle(s->base, STEP_OTHER);
    must(sync_poll(&h), 0);
}
static void victim_was_granted(struct shm *s) {
    victim_waits(s);
    must(as(s, STEP_OTHER, sync_lock_release, "l"), 0);
}
static void dead_holder(struct shm *s) {
    must(as(s, DEAD, sync_lock_acquire, "l"), 0);
    must(as(s, DEAD, sync_lock_acquire, "l2"), 0);
    must(as(s, DEAD, sync_rlock_acquire, "r"), 0);
    must(as(s, DEAD, sync_rwlock_write, "w"), 0);
    must(as(s, DEAD, sync_rwlock_read, "w2"), 0);
    must(as(s, THIRD, sync_lock_acquire, "l3"), 0);
    must(as(s, DEAD, sync_lock_acquire, "l3"), -EINPROGRESS);
    must(as(s, STEP_OTHER, sync_lock_acquire, "l"), -EINPROGRESS);
    must(as(s, THIRD, sync_rwlock_read, "w"), -EINPROGRESS);
    step_mark_dead(s, DEAD);
}
static void all_but_victim_in_cycle(struct shm *s) {
    must(as(s, STEP_VICTIM, sync_lock_acquire, "l"), 0);
    must(as(s, STEP_OTHER, sync_rwlock_read, "w"), 0);
    must(as(s, STEP_OTHER, sync_lock_acquire, "l"), -EINPROGRESS);
    must(as(s, STEP_VICTIM, sync_rwlock_write, "w"), -EINPROGRESS);
    must(as(s, THIRD, sync_rwlock_read, "w"), -EINPROGRESS);
}
static void rlock_twice(struct shm *s) {
    must(as(s, STEP_VICTIM, sync_rlock_acquire, "r"), 0);
    must(as(s, STEP_VICTIM, sync_rlock_acquire, "r"), 0);
    must(as(s, STEP_OTHER, sync_rlock_acquire, "r"), -EINPROGRESS);
}
static void rlock_once(struct shm *s) {
    rlock_twice(s);
    must(as(s, STEP_VICTIM, sync_rlock_release, "r"), 1);
}
static void other_reads(struct shm *s) {
    must(as(s, STEP_OTHER, sync_rwlock_read, "w"), 0);
}
static void victim_writes(struct shm *s) {
    must(as(s, STEP_VICTIM, sync_rwlock_write, "w"), 0);
    must(as(s, STEP_OTHER, sync_rwlock_read, "w"), -EINPROGRESS);
    must(as(s, THIRD, sync_rwlock_read, "w"), -EINPROGRESS);
}
static void victim_reads(struct shm *s) {
    must(as(s, STEP_VICTIM, sync_rwlock_read, "w"), 0);
    must(as(s, STEP_OTHER, sync_rwlock_write, "w"), -EINPROGRESS);
    must(as(s, THIRD, sync_rwlock_read, "w"), -EINPROGRESS);
}
static void victim_is_first_writer(struct shm *s) {
    must(as(s, STEP_OTHER, sync_rwlock_read, "w"), 0);
    must(as(s, STEP_VICTIM, sync_rwlock_write, "w"), -EINPROGRESS);
    must(as(s, THIRD, sync_rwlock_read, "w"), -EINPROGRESS);
}
static void other_writes(struct shm *s) {
    must(as(s, STEP_OTHER, sync_rwlock_write, "w"), 0);
    must(as(s, THIRD, sync_rwlock_write, "w"), -EINPROGRESS);
}
static void deleted(struct shm *s) {
    two_wait(s);
    must(act(s, delete_key, "l", 0), 0);
}
static void deleted_rwlock(struct shm *s) {
    victim_reads(s);
    must(act(s, delete_key, "w", 0), 0);
}
static void flushed(struct shm *s) {
    two_wait(s);
    must(act(s, flush_shard, "l", 0), 0);
}
static void do_tidy(struct shm *s) {
    must(step_tidy(s) != NULL, 0);
}
static void free_block(struct shm *s) {
    free_lock(s);
    must(act(s, delete_key, "l", 0), 0);
    do_tidy(s);
}
static void victim_has_much(struct shm *s) {
    two_wait(s);
    must(as(s, STEP_VICTIM, sync_rwlock_read, "w"), 0);
    must(as(s, STEP_VICTIM, sync_rlock_acquire, "r"), 0);
}

/* ---- what the victim does; each returns what it must return ---- */

static struct sync_ref ref;
static uint32_t seat;

static void know_lock(struct shm *s) {
    ref = (struct sync_ref){.name = name_of(s, "l")};
    must(sync_ref_lock(s, &ref), 0);
    must(sync_ref_unlock(s, &ref), 0);
}
static void hold_short(struct shm *s) {
    know_lock(s);
    must(sync_ref_lock(s, &ref), 0);
}
static void know_rlock(struct shm *s) {
    ref = (struct sync_ref){.name = name_of(s, "r")};
    must(act(s, sync_rlock_acquire, "r", 0), 0);
    must(act(s, sync_rlock_release, "r", 0), 0);
    must(sync_ref_rlock(s, &ref), 0);
}
static void give_seats(struct shm *s) {
    uint32_t second;
    must(sync_seat_take(s, 77, 1, 2, &seat), 0);
    must(sync_seat_take(s, 78, 1, 2, &second), 0);
    s->actor = seat;
    must(act(s, sync_lock_acquire, "l", SYNC_WAIT), 0);
    must(act(s, sync_rwlock_read, "w", SYNC_WAIT), 0);
    must(as(s, STEP_OTHER, sync_lock_acquire, "l"), -EINPROGRESS);
    s->actor = second;
    must(act(s, sync_lock_acquire, "l", SYNC_WAIT), -EINPROGRESS);
    s->actor = 0;
}

static void do_acquire(struct shm *s) {
    must(act(s, sync_lock_acquire, "l", SYNC_WAIT), 0);
}
static void do_acquire_busy(struct shm *s) {
    must(act(s, sync_lock_acquire, "l", SYNC_WAIT), -EINPROGRESS);
}
static void do_acquire_dead(struct shm *s) {
    must(act(s, sync_lock_acquire, "l2", SYNC_WAIT), SYNC_DIED);
}
static void do_release(struct shm *s) {
    must(act(s, sync_lock_release, "l", 0), 0);
}
static void do_poll(struct shm *s) {
    must(sync_poll(s), 0);
}
static void do_give_up(struct shm *s) {
    must(sync_give_up(s), -ETIMEDOUT);
}
static void do_delete_lock(struct shm *s) {
    must(act(s, delete_key, "l", 0), 0);
}
static void do_delete_rwlock(struct shm *s) {
    must(act(s, delete_key, "w", 0), 0);
}
static void do_flush(struct shm *s) {
    must(act(s, flush_shard, "l", 0), 0);
}
static void do_rename(struct shm *s) {
    must(rename_key(s, "l", "somewhere else"), 0);
}
static void do_bury(struct shm *s) {
    must(slot_bury(s, DEAD, get32(&s->slots[DEAD].gen)), 0);
}
static void do_check_cycle(struct shm *s) {
    must(sync_check_cycle(s), -EDEADLK);
}
static void do_rlock_again(struct shm *s) {
    must(act(s, sync_rlock_acquire, "r", SYNC_WAIT), 0);
}
static void do_rlock_release_one(struct shm *s) {
    must(act(s, sync_rlock_release, "r", 0), 1);
}
static void do_rlock_release(struct shm *s) {
    must(act(s, sync_rlock_release, "r", 0), 0);
}
static void do_read(struct shm *s) {
    must(act(s, sync_rwlock_read, "w", SYNC_WAIT), 0);
}
static void do_read_busy(struct shm *s) {
    must(act(s, sync_rwlock_read, "w", SYNC_WAIT), -EINPROGRESS);
}
static void do_read_dead(struct shm *s) {
    must(act(s, sync_rwlock_read, "w", SYNC_WAIT), SYNC_DIED);
}
static void do_write(struct shm *s) {
    must(act(s, sync_rwlock_write, "w", SYNC_WAIT), 0);
}
static void do_write_busy(struct shm *s) {
    must(act(s, sync_rwlock_write, "w", SYNC_WAIT), -EINPROGRESS);
}
static void do_rw_release(struct shm *s) {
    must(act(s, sync_rwlock_release, "w", 0), 0);
}
static void do_release_all(struct shm *s) {
    must(sync_release_all(s), 3);
}
static void do_short_lock(struct shm *s) {
    must(sync_ref_lock(s, &ref), 0);
}
static void do_short_unlock(struct shm *s) {
    must(sync_ref_unlock(s, &ref), 0);
}
static void do_short_rlock(struct shm *s) {
    must(sync_ref_rlock(s, &ref), 0);
    must(sync_ref_runlock(s, &ref), 1);
    must(sync_ref_runlock(s, &ref), 0);
}
static void do_take_seat(struct shm *s) {
    must(sync_seat_take(s, 99, 1, 2, &seat), 0);
}
static void do_end_seat(struct shm *s) {
    must(sync_seat_end(s, seat), 0);
}

/* ---- judging ---- */

enum { OK = 1, DIED = 2, REMOVED = 4, WAITS = 8, IDLE = 16, TAKEN = 32 };

static unsigned kind_of_answer(int r) {
    return r == 0              ? OK
           : r == SYNC_DIED    ? DIED
           : r == -EIDRM       ? REMOVED
           : r == -EINVAL      ? IDLE
           : r == -EINPROGRESS ? WAITS
                               : 0;
}

struct sync_case {
    const char *name;
    void (*setup)(struct shm *s);
    void (*prepare)(struct shm *s);
    void (*op)(struct shm *s);
    unsigned other,
        other_after; /* what the other may hear first: at any point; when the victim was through */
    unsigned third, third_after;
};
static const struct sync_case *current;
static uint32_t bells[STEP_SLOTS];

/* Whoever has an answer has been woken since the setting was made. */
static const char *is_woken(const struct shm *s, uint32_t slot) {
    const struct shm_seat *t = &s->seats[slot];
    bool answered =
        get(&t->waiting.object) && party_state(get(&t->waiting.state)) == PARTY_ANSWERED;
    return answered && get32(&t->bell) == bells[slot] ? "somebody has an answer and sleeps on"
                                                      : NULL;
}

static const char *nothing_is_held(struct shm *s) {
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        const struct shm_sync *o = sync_at(s, get(&s->shards[i].syncs));
        for (; o; o = sync_at(s, get(&o->next))) {
            if (get(&o->place) >> 32 == SYNC_LIVES &&
                (sync_word_owner(get(&o->word)) || get(&o->first) || get(&o->holders))) {
                return "something is still held";
            }
        }
    }
    for (uint32_t i = s->n_slots; i < s->n_seats; i++) {
        if (get(&s->seats[i].conn)) {
            return "a seat is not free";
        }
    }
    return NULL;
}

/* Each lets go of what it has and takes what it is given, until nobody waits. */
static const char *drain(struct shm *s) {
    static const uint32_t slots[] = {STEP_OTHER, THIRD};
    for (int round = 0; round < ROUNDS; round++) {
        bool waits = false;
        for (size_t i = 0; i < ARRAY_SIZE(slots); i++) {
            struct shm h = step_handle(s->base, slots[i]);
            int r = sync_poll(&h);
            waits |= r == -EINPROGRESS;
            if (r != -EINPROGRESS && sync_release_all(&h) < 0) {
                return "letting go failed";
            }
        }
        if (!waits) {
            return NULL;
        }
    }
    return "somebody waits for ever";
}

static const char *judge_answer(struct shm *s, uint32_t slot, unsigned allowed) {
    struct shm h = step_handle(s->base, slot);
    int r = sync_poll(&h);
    if (allowed & kind_of_answer(r)) {
        return NULL;
    }
    fprintf(stderr, "# slot %u hears %d\n", slot, r);
    return "the wrong answer";
}

static const char *judge(struct shm *s, bool finished) {
    const char *bad = step_recover(s, STEP_VICTIM);
    if (!bad && slot_is_dead(s, owner_word(DEAD, get32(&s->slots[DEAD].gen)))) {
        bad = step_recover(s, DEAD);
    }
    bad = bad ? bad : step_check(s, "check after recovery", NULL);
    bad = bad ? bad : is_woken(s, STEP_OTHER);
    bad = bad ? bad : is_woken(s, THIRD);
    bad = bad ? bad : judge_answer(s, STEP_OTHER, finished ? current->other_after : current->other);
    bad = bad ? bad : judge_answer(s, THIRD, finished ? current->third_after : current->third);
    bad = bad ? bad : drain(s);
    bad = bad ? bad : nothing_is_held(s);
    return bad ? bad : step_remove_all(s);
}

static void set_up(struct shm *s) {
    if (current->setup) {
        current->setup(s);
    }
    for (uint32_t i = 0; i < STEP_SLOTS; i++) {
        bells[i] = get32(&s->seats[i].bell);
    }
}

#define ALONE IDLE, IDLE, IDLE, IDLE

static const struct sync_case cases[] = {
    {"a lock is made and got", NULL, NULL, do_acquire, ALONE},
    {"a lock is got", free_lock, NULL, do_acquire, ALONE},
    {"a lock is made in a former one's block", free_block, NULL, do_acquire, ALONE},
    {"standing in line", held_by_other, NULL, do_acquire_busy, ALONE},
    {"a lock is let go", free_lock, do_acquire, do_release, ALONE},
    {"a lock is handed over", two_wait, NULL, do_release, OK | DIED, OK, WAITS, WAITS},
    {"a lock is got from a dead holder", dead_holder, NULL, do_acquire_dead, DIED, DIED, DIED,
     DIED},
    {"the answer is taken", victim_was_granted, NULL, do_poll, IDLE, IDLE, DIED, DIED},
    {"giving up", victim_waits, NULL, do_give_up, IDLE, IDLE, WAITS, WAITS},
    {"a lock is deleted", two_wait, NULL, do_delete_lock, REMOVED | DIED, REMOVED, REMOVED | WAITS,
     REMOVED},
    {"a deleted lock is taken apart", deleted, NULL, do_tidy, REMOVED, REMOVED, REMOVED, REMOVED},
    {"a lock is flushed", two_wait, NULL, do_flush, DIED, DIED, WAITS, WAITS},
    {"a flushed lock is taken apart", flushed, NULL, do_tidy, REMOVED | DIED, REMOVED,
     REMOVED | WAITS, REMOVED},
    {"a lock is renamed", two_wait, NULL, do_rename, DIED, DIED, WAITS, WAITS},
    {"a burial", dead_holder, NULL, do_bury, DIED, DIED, DIED, DIED},
    {"a cycle is left", all_but_victim_in_cycle, NULL, do_check_cycle, DIED, DIED, OK | WAITS, OK},
    {"an rlock is got once more", rlock_once, NULL, do_rlock_again, DIED, DIED, IDLE, IDLE},
    {"an rlock is let go once", rlock_twice, NULL, do_rlock_release_one, DIED, DIED, IDLE, IDLE},
    {"an rlock is handed over", rlock_once, NULL, do_rlock_release, OK | DIED, OK, IDLE, IDLE},
    {"reading, first", NULL, NULL, do_read, ALONE},
    {"reading with others", other_reads, NULL, do_read, ALONE},
    {"reading, in line", other_writes, NULL, do_read_busy, IDLE, IDLE, WAITS, WAITS},
    {"reading behind a dead writer", dead_holder, NULL, do_read_dead, DIED, DIED, DIED, DIED},
    {"writing", NULL, NULL, do_write, ALONE},
    {"writing, in line", other_reads, NULL, do_write_busy, ALONE},
    {"a writer lets readers in", victim_writes, NULL, do_rw_release, OK | DIED, OK, OK | DIED, OK},
    {"a reader lets a writer in", victim_reads, NULL, do_rw_release, OK, OK, WAITS, WAITS},
    {"a first writer gives up", victim_is_first_writer, NULL, do_give_up, IDLE, IDLE, OK, OK},
    {"an rwlock is deleted", victim_reads, NULL, do_delete_rwlock, REMOVED | OK, REMOVED,
     REMOVED | WAITS, REMOVED},
    {"a deleted rwlock is taken apart", deleted_rwlock, NULL, do_tidy, REMOVED, REMOVED, REMOVED,
     REMOVED},
    {"letting go of everything", victim_has_much, NULL, do_release_all, DIED, DIED, WAITS, WAITS},
    {"the short way in", free_lock, know_lock, do_short_lock, ALONE},
    {"the short way out", free_lock, hold_short, do_short_unlock, ALONE},
    {"the short way of rlocks", NULL, know_rlock, do_short_rlock, ALONE},
    {"a seat is taken", NULL, NULL, do_take_seat, ALONE},
    {"a seat is given back", NULL, give_seats, do_end_seat, DIED, DIED, IDLE, IDLE},
};

int main(void) {
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        current = &cases[i];
        step_run(&(struct step_case){.name = current->name,
                                     .setup = set_up,
                                     .prepare = current->prepare,
                                     .op = current->op,
                                     .verify = judge,
                                     .rescues = 4,
                                     .rescuer = UNDERTAKER});
    }
    return step_end();
}
