/* SPDX-License-Identifier: MIT */
/* Sync objects, by handles of one process: who holds, who waits, who is woken, and what is left when owners end.
 * Fails: as a Criterion suite. */
#include "tests/unit/objects.h"

#include <stdio.h>

#include "lib/shm/sync.h"
#include "lib/shm/sync_private.h"
#include "tests/support/child.h"

TestSuite(sync, .timeout = 30);

enum { HANDLES = 4 };

static struct shm h[HANDLES];
static struct key_name name;

static void begin(void) {
    h[0] = new_segment(8 << 20);
    for (int i = 1; i < HANDLES; i++) {
        uint32_t slot, gen;
        shm_share(&h[0], &h[i]);
        cr_assert_eq(slot_reserve(&h[0], 0, &slot, &gen), 0);
        cr_assert_eq(slot_attach(&h[i], slot, gen), 0);
    }
    name = key_name(&h[0], "the lock", 8);
}

static void end(void) {
    for (int i = HANDLES - 1; i >= 0; i--) {
        shm_detach(&h[i]);
    }
}

struct verb {
    const struct key_name *name;
    int (*fn)(struct shm *s, const struct key_name *name, unsigned flags);
    unsigned flags;
};

static int run_verb(struct shm *s, void *arg) {
    const struct verb *v = arg;
    return v->fn(s, v->name, v->flags);
}

static int verb(struct shm *s, int (*fn)(struct shm *s, const struct key_name *name, unsigned),
                unsigned flags) {
    return op_run(s, key_shard_bit(&name), run_verb, &(struct verb){&name, fn, flags});
}

#define ACQUIRE(i)  verb(&h[i], sync_lock_acquire, SYNC_WAIT)
#define RELEASE(i)  verb(&h[i], sync_lock_release, 0)
#define RACQUIRE(i) verb(&h[i], sync_rlock_acquire, SYNC_WAIT)
#define RRELEASE(i) verb(&h[i], sync_rlock_release, 0)

static int delete_it(struct shm *s, const struct key_name *n, unsigned flags) {
    struct key key;
    (void)flags;
    int r = key_find_write(s, n, &key);
    return r ? r : key_delete(s, &key);
}

static struct key_name second;

static int rename_it(struct shm *s, void *arg) {
    struct key key;
    (void)arg;
    int r = key_find_write(s, &name, &key);
    return r ? r : key_rename(s, &key, &second);
}

static void mark_dead(struct shm *s) {
    *(_Atomic uint32_t *)(void *)&s->mine->life |= FUTEX_OWNER_DIED;
}

Test(sync, a_lock_goes_to_who_came_first) {
    begin();
    cr_assert_eq(ACQUIRE(0), 0);
    cr_assert_eq(ACQUIRE(0), -EDEADLK);
    cr_assert_eq(verb(&h[1], sync_lock_acquire, 0), -EBUSY);
    cr_assert_eq(RELEASE(1), -EPERM);
    cr_assert_eq(ACQUIRE(1), -EINPROGRESS);
    cr_assert_eq(ACQUIRE(2), -EINPROGRESS);
    cr_assert_eq(ACQUIRE(2), -EALREADY);
    cr_assert_eq(sync_poll(&h[1]), -EINPROGRESS);
    checked(&h[0]);
    cr_assert_eq(RELEASE(0), 0);
    cr_assert_eq(verb(&h[0], sync_lock_acquire, 0), -EBUSY, "it was handed over");
    cr_assert_eq(sync_poll(&h[2]), -EINPROGRESS);
    cr_assert_eq(sync_poll(&h[1]), 0);
    cr_assert_eq(sync_poll(&h[1]), -EINVAL);
    cr_assert_eq(RELEASE(1), 0);
    cr_assert_eq(sync_wait(&h[2], 1000), 0);
    cr_assert_eq(RELEASE(2), 0);
    cr_assert_eq(RELEASE(2), -EPERM);
    checked(&h[0]);
    end();
}

Test(sync, whose_time_is_over_goes) {
    begin();
    cr_assert_eq(ACQUIRE(0), 0);
    cr_assert_eq(ACQUIRE(1), -EINPROGRESS);
    cr_assert_eq(ACQUIRE(2), -EINPROGRESS);
    cr_assert_eq(ACQUIRE(3), -EINPROGRESS);
    cr_assert_eq(sync_wait(&h[2], 1), -ETIMEDOUT);
    checked(&h[0]);
    cr_assert_eq(sync_give_up(&h[1]), -ETIMEDOUT);
    cr_assert_eq(RELEASE(0), 0);
    cr_assert_eq(sync_give_up(&h[3]), 0, "it had come already");
    cr_assert_eq(RELEASE(3), 0);
    checked(&h[0]);
    end();
}

Test(sync, an_rlock_counts) {
    begin();
    cr_assert_eq(RACQUIRE(0), 0);
    cr_assert_eq(RACQUIRE(0), 0);
    cr_assert_eq(RACQUIRE(1), -EINPROGRESS);
    cr_assert_eq(RRELEASE(0), 1);
    cr_assert_eq(sync_poll(&h[1]), -EINPROGRESS);
    cr_assert_eq(RRELEASE(0), 0);
    cr_assert_eq(sync_poll(&h[1]), 0);
    cr_assert_eq(RRELEASE(0), -EPERM);
    cr_assert_eq(ACQUIRE(0), -EPROTOTYPE);
    cr_assert_eq(RRELEASE(1), 0);
    end();
}

Test(sync, the_next_owner_hears_that_the_last_one_died) {
    begin();
    cr_assert_eq(ACQUIRE(1), 0);
    cr_assert_eq(ACQUIRE(2), -EINPROGRESS);
    cr_assert_eq(ACQUIRE(0), -EINPROGRESS);
    mark_dead(&h[1]);
    cr_assert_eq(slot_bury(&h[3], h[1].slot, get32(&h[1].mine->gen)), 0);
    cr_assert_eq(sync_poll(&h[2]), SYNC_DIED);
    checked(&h[0]);
    mark_dead(&h[2]);
    cr_assert_eq(sync_wait(&h[0], 5000), SYNC_DIED, "without a burial, too");
    cr_assert_eq(RELEASE(0), 0);
    cr_assert_eq(slot_bury(&h[3], h[2].slot, get32(&h[2].mine->gen)), 0);
    cr_assert_eq(ACQUIRE(0), 0);
    checked(&h[0]);
    end();
}

Test(sync, who_is_granted_and_dies_passes_it_on) {
    begin();
    cr_assert_eq(ACQUIRE(0), 0);
    cr_assert_eq(ACQUIRE(1), -EINPROGRESS);
    cr_assert_eq(ACQUIRE(2), -EINPROGRESS);
    cr_assert_eq(RELEASE(0), 0);
    mark_dead(&h[1]);
    cr_assert_eq(slot_bury(&h[3], h[1].slot, get32(&h[1].mine->gen)), 0);
    cr_assert_eq(sync_poll(&h[2]), SYNC_DIED);
    checked(&h[0]);
    end();
}

Test(sync, a_deleted_lock_lets_everybody_go) {
    begin();
    cr_assert_eq(ACQUIRE(0), 0);
    cr_assert_eq(ACQUIRE(1), -EINPROGRESS);
    cr_assert_eq(ACQUIRE(2), -EINPROGRESS);
    cr_assert_eq(verb(&h[3], delete_it, 0), 0);
    checked(&h[0]);
    cr_assert_eq(ACQUIRE(3), 0, "another lock");
    cr_assert_eq(sync_poll(&h[1]), -EIDRM);
    cr_assert_eq(blocks_left(&h[0]), 2, "the key and its object");
    cr_assert_eq(sync_poll(&h[2]), -EIDRM);
    cr_assert_eq(RELEASE(0), -EPERM);
    cr_assert_eq(verb(&h[3], delete_it, 0), 0);
    cr_assert_eq(blocks_left(&h[0]), 0);
    cr_assert_eq(ACQUIRE(3), 0, "in the block of the former one");
    cr_assert_eq(blocks_left(&h[0]), 2);
    end();
}

Test(sync, a_renamed_lock_is_still_found_at_the_end) {
    begin();
    for (int i = 0; i == 0 || second.shard == name.shard; i++) {
        static char text[32];
        snprintf(text, sizeof(text), "second %d", i);
        second = key_name(&h[0], text, strlen(text));
    }
    cr_assert_eq(ACQUIRE(1), 0);
    cr_assert_eq(ACQUIRE(2), -EINPROGRESS);
    cr_assert_eq(op_run(&h[0], key_shard_bit(&name) | key_shard_bit(&second), rename_it, NULL), 0);
    checked(&h[0]);
    mark_dead(&h[1]);
    cr_assert_eq(slot_bury(&h[3], h[1].slot, get32(&h[1].mine->gen)), 0);
    cr_assert_eq(sync_poll(&h[2]), SYNC_DIED);
    name = second;
    cr_assert_eq(RELEASE(2), 0);
    checked(&h[0]);
    end();
}

Test(sync, connections_have_seats) {
    uint32_t a, b, c;
    uint64_t conn = 0;
    begin();
    cr_assert_eq(sync_seat_take(&h[0], 100, 1, 2, &a), 0);
    cr_assert_eq(sync_seat_take(&h[0], 200, 1, 2, &b), 0);
    h[0].actor = a;
    cr_assert_eq(ACQUIRE(0), 0);
    h[0].actor = b;
    cr_assert_eq(ACQUIRE(0), -EINPROGRESS);
    cr_assert_eq(ACQUIRE(1), -EINPROGRESS);
    cr_assert_eq(sync_next_granted(&h[0], &conn), 0);
    h[0].actor = 0;
    cr_assert_eq(sync_seat_end(&h[0], a), 0);
    cr_assert_eq(sync_next_granted(&h[0], &conn), b);
    cr_assert_eq(conn, 200);
    cr_assert_eq(sync_next_granted(&h[0], &conn), 0);
    cr_assert_not(sync_any_granted(&h[0]));
    h[0].actor = b;
    cr_assert_eq(sync_poll(&h[0]), SYNC_DIED);
    cr_assert_eq(RELEASE(0), 0);
    cr_assert_eq(sync_poll(&h[1]), 0);
    h[0].actor = 0;
    cr_assert_eq(sync_seat_take(&h[0], 300, 1, 2, &c), 0);
    cr_assert_neq(c, a, "another generation");
    checked(&h[0]);
    mark_dead(&h[0]);
    h[0].actor = c;
    cr_assert(sync_is_dead(&h[1], b) && sync_is_dead(&h[1], c), "the daemon's end is theirs");
    end();
}

static int wait_in_child(void *arg) {
    (void)arg;
    struct shm s;
    uint32_t slot = h[1].slot;
    shm_share(&h[0], &s);
    s.slot = slot;
    s.mine = h[1].mine;
    s.me = h[1].me;
    h[1] = s;
    int r = ACQUIRE(1);
    return r == -EINPROGRESS ? sync_wait(&h[1], 10000) == 0 : r == 0;
}

Test(sync, a_sleeper_is_woken) {
    begin();
    cr_assert_eq(ACQUIRE(0), 0);
    pid_t pid = child_start(wait_in_child, NULL);
    const struct shm_seat *seat = &h[0].seats[h[1].slot];
    while (!get32(&seat->asleep) || !get(&seat->waiting.object)) {
        sched_yield();
    }
    cr_assert_eq(RELEASE(0), 0);
    cr_assert_eq(child_wait(pid), 1);
    cr_assert_eq(sync_lock_is_held(&h[0], &name), 1);
    checked(&h[0]);
    end();
}

/* ---- reader-writer locks ---- */

#define READ(i)      verb(&h[i], sync_rwlock_read, SYNC_WAIT)
#define WRITE(i)     verb(&h[i], sync_rwlock_write, SYNC_WAIT)
#define RWRELEASE(i) verb(&h[i], sync_rwlock_release, 0)

Test(sync, readers_share_and_do_not_pass_a_writer) {
    begin();
    cr_assert_eq(READ(0), 0);
    cr_assert_eq(READ(1), 0);
    cr_assert_eq(WRITE(0), -EDEADLK);
    cr_assert_eq(WRITE(2), -EINPROGRESS);
    cr_assert_eq(READ(3), -EINPROGRESS, "behind the writer");
    cr_assert_eq(READ(0), 0, "once more");
    checked(&h[0]);
    cr_assert_eq(RWRELEASE(0), 1);
    cr_assert_eq(RWRELEASE(0), 0);
    cr_assert_eq(sync_poll(&h[2]), -EINPROGRESS);
    cr_assert_eq(RWRELEASE(1), 0);
    cr_assert_eq(sync_poll(&h[2]), 0);
    cr_assert_eq(READ(0), -EINPROGRESS);
    cr_assert_eq(RWRELEASE(2), 0);
    cr_assert_eq(sync_poll(&h[0]), 0);
    cr_assert_eq(sync_poll(&h[3]), 0);
    cr_assert_eq(RWRELEASE(1), -EPERM);
    cr_assert_eq(WRITE(2), -EINPROGRESS);
    cr_assert_eq(READ(1), -EINPROGRESS);
    cr_assert_eq(sync_give_up(&h[2]), -ETIMEDOUT);
    cr_assert_eq(sync_poll(&h[1]), 0, "the writer went");
    checked(&h[0]);
    cr_assert_eq(verb(&h[3], delete_it, 0), 0);
    cr_assert_eq(blocks_left(&h[0]), 0);
    end();
}

Test(sync, a_dead_writer_or_reader_lets_go) {
    begin();
    cr_assert_eq(WRITE(1), 0);
    cr_assert_eq(READ(0), -EINPROGRESS);
    cr_assert_eq(READ(2), -EINPROGRESS);
    mark_dead(&h[1]);
    cr_assert_eq(slot_bury(&h[3], h[1].slot, get32(&h[1].mine->gen)), 0);
    cr_assert_eq(sync_poll(&h[0]), SYNC_DIED);
    cr_assert_eq(sync_poll(&h[2]), SYNC_DIED);
    cr_assert_eq(WRITE(3), -EINPROGRESS);
    cr_assert_eq(RWRELEASE(0), 0);
    mark_dead(&h[2]);
    cr_assert_eq(sync_wait(&h[3], 5000), 0, "without a burial, too");
    cr_assert_eq(slot_bury(&h[3], h[2].slot, get32(&h[2].mine->gen)), 0);
    checked(&h[0]);
    end();
}

/* ---- cycles ---- */

Test(sync, who_would_wait_for_itself_is_told) {
    struct key_name names[3];
    begin();
    for (int i = 0; i < 3; i++) {
        static char text[3][8];
        snprintf(text[i], sizeof(text[i]), "lock %d", i);
        name = names[i] = key_name(&h[0], text[i], strlen(text[i]));
        cr_assert_eq(i == 1 ? READ(i) : ACQUIRE(i), 0);
    }
    name = names[1];
    cr_assert_eq(WRITE(0), -EINPROGRESS);
    cr_assert_eq(sync_check_cycle(&h[0]), -EINPROGRESS);
    name = names[2];
    cr_assert_eq(ACQUIRE(1), -EINPROGRESS);
    cr_assert_eq(sync_check_cycle(&h[1]), -EINPROGRESS);
    name = names[0];
    cr_assert_eq(ACQUIRE(2), -EINPROGRESS);
    cr_assert_eq(sync_check_cycle(&h[2]), -EDEADLK);
    cr_assert_eq(sync_poll(&h[2]), -EINVAL);
    name = names[2];
    cr_assert_eq(RELEASE(2), 0);
    cr_assert_eq(sync_check_cycle(&h[1]), 0);
    checked(&h[0]);
    end();
}

/* ---- the short way ---- */

Test(sync, the_short_way_gives_way) {
    struct sync_ref a, b;
    begin();
    a = b = (struct sync_ref){.name = name};
    cr_assert_eq(sync_ref_lock(&h[0], &a), -EBUSY, "it is not there");
    cr_assert_eq(ACQUIRE(0), 0);
    cr_assert_eq(sync_ref_unlock(&h[0], &a), -EBUSY, "not known");
    cr_assert_eq(RELEASE(0), 0);
    cr_assert_eq(sync_ref_lock(&h[0], &a), 0);
    cr_assert_eq(sync_ref_lock(&h[0], &a), -EBUSY);
    cr_assert_eq(sync_ref_lock(&h[1], &b), -EBUSY);
    cr_assert_eq(ACQUIRE(1), -EINPROGRESS);
    cr_assert_eq(sync_ref_unlock(&h[0], &a), -EBUSY, "somebody waits");
    cr_assert_eq(RELEASE(0), 0);
    cr_assert_eq(sync_poll(&h[1]), 0);
    cr_assert_eq(sync_ref_unlock(&h[1], &b), 0);
    cr_assert_eq(sync_ref_lock(&h[0], &a), 0);
    mark_dead(&h[0]);
    cr_assert_eq(ACQUIRE(1), SYNC_DIED);
    cr_assert_eq(slot_bury(&h[1], h[0].slot, get32(&h[0].mine->gen)), 0);
    cr_assert_eq(verb(&h[1], delete_it, 0), 0);
    cr_assert_eq(sync_ref_unlock(&h[1], &b), -EBUSY);
    tidied(&h[1]);
    cr_assert_eq(ACQUIRE(2), 0);
    cr_assert_eq(RELEASE(2), 0);
    cr_assert_eq(sync_ref_lock(&h[1], &b), 0, "the new one, looked up");
    cr_assert_eq(sync_lock_is_held(&h[2], &name), 1);
    checked(&h[1]);
    end();
}

static int flush_it(struct shm *s, void *arg) {
    (void)arg;
    return keys_flush(s, name.shard);
}

Test(sync, a_flushed_lock_is_not_taken_any_more) {
    struct sync_ref a;
    begin();
    a = (struct sync_ref){.name = name};
    cr_assert_eq(RACQUIRE(0), 0);
    cr_assert_eq(sync_ref_rlock(&h[0], &a), -EBUSY);
    cr_assert_eq(RRELEASE(0), 0);
    cr_assert_eq(sync_ref_rlock(&h[0], &a), 0);
    cr_assert_eq(sync_ref_rlock(&h[0], &a), 0);
    cr_assert_eq(sync_ref_runlock(&h[0], &a), 1);
    cr_assert_eq(RACQUIRE(1), -EINPROGRESS);
    cr_assert_eq(op_run(&h[2], key_shard_bit(&name), flush_it, NULL), 0);
    checked(&h[0]);
    cr_assert_eq(sync_ref_runlock(&h[0], &a), -EBUSY);
    cr_assert_eq(sync_ref_rlock(&h[0], &a), -EBUSY);
    cr_assert_eq(blocks_left(&h[0]), 0);
    cr_assert_eq(sync_poll(&h[1]), -EIDRM);
    checked(&h[0]);
    end();
}

struct listed {
    unsigned n, holds;
    uint32_t pid[8];
};

static int list_party(void *arg, const struct sync_party_view *v) {
    struct listed *l = arg;
    l->holds += v->holds;
    l->pid[l->n++ % 8] = v->pid;
    return 0;
}

static int list_parties(struct shm *s, void *arg) {
    *(struct listed *)arg = (struct listed){0};
    return sync_parties(s, &name, list_party, arg);
}

Test(sync, who_holds_and_who_waits_is_listed) {
    struct listed l;
    begin();
    cr_assert_eq(READ(0), 0);
    cr_assert_eq(READ(1), 0);
    cr_assert_eq(WRITE(2), -EINPROGRESS);
    cr_assert_eq(READ(3), -EINPROGRESS);
    cr_assert_eq(op_read(&h[0], name.shard, list_parties, &l), 0);
    cr_assert(l.n == 4 && l.holds == 2 && l.pid[3] == (uint32_t)getpid());
    cr_assert_eq(sync_release_all(&h[0]), 1);
    cr_assert_eq(sync_release_all(&h[3]), 0);
    cr_assert_eq(op_read(&h[0], name.shard, list_parties, &l), 0);
    cr_assert(l.n == 2 && l.holds == 1);
    checked(&h[0]);
    end();
}
