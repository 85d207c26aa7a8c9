/* SPDX-License-Identifier: MIT */
/* Semaphores, events, conditions and barriers, by owners that one process plays: connections with seats, whose end is what a
 * death is; and by processes that really sleep. The segment is checked block by block after each step that could leave
 * something behind.
 * Fails: as a Criterion suite. */
#include "tests/unit/objects.h"

#include <stdio.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/shm/sync.h"
#include "lib/shm/sync_private.h"
#include "tests/crash/kind_calls.h"
#include "tests/support/child.h"

TestSuite(kinds, .timeout = 60);

enum { OWNERS = 6, CROWD = 10000 };

static struct shm s;
static uint32_t who[OWNERS];

static uint32_t seat(uint64_t conn) {
    uint32_t owner;
    cr_assert_eq(sync_seat_take(&s, conn, 1, 0, &owner), 0);
    return owner;
}

static void begin_size(uint64_t size) {
    s = new_segment(size);
    for (unsigned i = 0; i < OWNERS; i++) {
        who[i] = seat(i + 1);
    }
}

static void begin(void) {
    begin_size(8 << 20);
}

static void end(void) {
    checked(&s);
    for (unsigned i = 0; i < OWNERS; i++) {
        cr_assert_eq(sync_seat_end(&s, who[i]), 0);
    }
    checked(&s);
    shm_detach(&s);
}

#define CALL(i, verb, name, n) kind_call(&s, who[i], verb, name, n)
#define IS(i, verb, name, n, expect)                                                               \
    do {                                                                                           \
        int64_t got = CALL(i, verb, name, n);                                                      \
        cr_assert_eq(got, (int64_t)(expect), "%s: %lld", #verb, (long long)got);                   \
    } while (0)
#define DIES(i)                                                                                    \
    do {                                                                                           \
        cr_assert_eq(sync_seat_end(&s, who[i]), 0);                                                \
        checked(&s);                                                                               \
    } while (0)

/* Whether the owner's bit among the granted ones was set; takes all of them. */
static uint32_t told(void) {
    uint32_t bits = 0, owner;
    uint64_t conn;
    while ((owner = sync_next_granted(&s, &conn))) {
        cr_assert(conn >= 1 && conn <= 31);
        bits |= UINT32_C(1) << (conn - 1);
    }
    return bits;
}

/* ---- semaphores ---- */

Test(kinds, units_are_taken_and_given) {
    begin();
    IS(0, SEM_TAKE, "sem", 1, -ENOENT);
    IS(0, SEM_GIVE, "sem", 1, -ENOENT);
    IS(0, SEM_VALUE, "sem", 0, -ENOENT);
    IS(0, SEM_CREATE, "sem", 3, 1);
    IS(1, SEM_CREATE, "sem", 3, 0);
    IS(1, SEM_CREATE, "sem", 4, -EEXIST);
    IS(1, SEM_CREATE_BOUNDED, "sem", 3, -EEXIST);
    IS(1, EVENT_SET, "sem", 0, -EPROTOTYPE);
    IS(0, SEM_TAKE, "sem", 0, -EINVAL);
    IS(0, SEM_GIVE, "sem", 0, -EINVAL);
    IS(0, SEM_TAKE, "sem", 2, 0);
    IS(1, SEM_TAKE, "sem", 1, 0);
    IS(2, SEM_VALUE, "sem", 0, 0);
    struct kind_call c = {.verb = SEM_TAKE, .name = "sem", .n = 1, .no_wait = 1};
    cr_assert_eq(op_run(&s, OP_ALL, kind_in_op, &c), -EBUSY);
    IS(0, SEM_GIVE, "sem", 1, 0);
    IS(0, SEM_GIVE, "sem", 1, 0);
    IS(1, SEM_GIVE, "sem", 1, 0);
    IS(1, SEM_GIVE, "sem", 5, 0);
    IS(2, SEM_VALUE, "sem", 0, 8);
    IS(1, SEM_GIVE, "sem", INT64_MAX, -EOVERFLOW);
    end();
}

Test(kinds, a_bounded_semaphore_has_never_more_than_at_first) {
    begin();
    IS(0, SEM_CREATE_BOUNDED, "sem", 2, 1);
    IS(0, SEM_GIVE, "sem", 1, -EOVERFLOW);
    IS(0, SEM_TAKE, "sem", 3, -EINVAL);
    IS(0, SEM_TAKE, "sem", 2, 0);
    IS(1, SEM_GIVE, "sem", 2, 0);
    IS(1, SEM_GIVE, "sem", 1, -EOVERFLOW);
    DIES(0); /* is still listed with the two that another gave back */
    IS(1, SEM_VALUE, "sem", 0, 2);
    end();
}

Test(kinds, units_go_to_who_came_first) {
    begin();
    IS(0, SEM_CREATE, "sem", 1, 1);
    IS(0, SEM_TAKE, "sem", 1, 0);
    IS(1, SEM_TAKE, "sem", 3, -EINPROGRESS);
    IS(2, SEM_TAKE, "sem", 1, -EINPROGRESS);
    IS(3, SEM_TAKE, "sem", 1, -EINPROGRESS);
    IS(3, SEM_TAKE, "sem", 1, -EALREADY);
    IS(4, SEM_GIVE, "sem", 1, 0);
    IS(5, SEM_TAKE, "sem", 1, -EINPROGRESS);
    IS(2, POLL, NULL, 0, -EINPROGRESS);
    cr_assert_eq(told(), 0);
    IS(4, SEM_GIVE, "sem", 3, 0);
    cr_assert_eq(told(), 6);
    IS(1, POLL, NULL, 0, 0);
    IS(2, POLL, NULL, 0, 0);
    IS(2, POLL, NULL, 0, -EINVAL);
    IS(3, POLL, NULL, 0, -EINPROGRESS);
    checked(&s);
    IS(1, SEM_GIVE, "sem", 1, 0);
    IS(3, POLL, NULL, 0, 0);
    IS(5, GIVE_UP, NULL, 0, -ETIMEDOUT);
    IS(0, SEM_VALUE, "sem", 0, 0);
    end();
}

Test(kinds, who_stands_in_front_for_many_and_leaves_lets_others_pass) {
    begin();
    IS(0, SEM_CREATE, "sem", 1, 1);
    IS(1, SEM_TAKE, "sem", 2, -EINPROGRESS);
    IS(2, SEM_TAKE, "sem", 1, -EINPROGRESS);
    IS(1, GIVE_UP, NULL, 0, -ETIMEDOUT);
    IS(2, POLL, NULL, 0, 0);
    IS(1, SEM_TAKE, "sem", 2, -EINPROGRESS);
    IS(3, SEM_TAKE, "sem", 1, -EINPROGRESS);
    IS(2, SEM_GIVE, "sem", 1, 0);
    DIES(1);
    IS(3, POLL, NULL, 0, 0);
    end();
}

Test(kinds, the_units_of_the_dead_come_back) {
    begin();
    IS(0, SEM_CREATE, "sem", 3, 1);
    IS(0, SEM_TAKE, "sem", 2, 0);
    IS(1, SEM_TAKE, "sem", 1, 0);
    IS(2, SEM_TAKE, "sem", 2, -EINPROGRESS);
    IS(3, SEM_TAKE, "sem", 1, -EINPROGRESS);
    DIES(0);
    IS(2, POLL, NULL, 0, SYNC_DIED);
    IS(3, POLL, NULL, 0, -EINPROGRESS);
    DIES(2);
    cr_assert_eq(told() & 8, 8);
    DIES(3); /* with a unit that it has not yet come for */
    IS(4, SEM_VALUE, "sem", 0, 2);
    IS(4, SEM_TAKE, "sem", 1, SYNC_DIED);
    IS(4, SEM_TAKE, "sem", 1, 0);
    IS(4, SEM_VALUE, "sem", 0, 0);
    DIES(4);
    DIES(1);
    IS(5, SEM_VALUE, "sem", 0, 3);
    IS(5, DELETE, "sem", 0, 0);
    end();
}

Test(kinds, a_deleted_semaphore_is_gone_for_those_who_wait) {
    begin();
    IS(0, SEM_CREATE, "sem", 1, 1);
    IS(0, SEM_TAKE, "sem", 1, 0);
    IS(1, SEM_TAKE, "sem", 1, -EINPROGRESS);
    IS(0, DELETE, "sem", 0, 0);
    IS(1, POLL, NULL, 0, -EIDRM);
    IS(0, SEM_CREATE, "sem", 1, 1);
    DIES(0);
    IS(1, SEM_VALUE, "sem", 0, 1);
    end();
}

Test(kinds, a_renamed_semaphore_keeps_its_line) {
    begin();
    IS(0, SEM_CREATE, "sem", 1, 1);
    IS(0, SEM_TAKE, "sem", 1, 0);
    IS(1, SEM_TAKE, "sem", 1, -EINPROGRESS);
    IS(2, RENAME, "sem", 0, 0);
    checked(&s);
    IS(2, SEM_TAKE, "moved", 1, -EINPROGRESS);
    DIES(0);
    IS(1, POLL, NULL, 0, SYNC_DIED);
    IS(1, SEM_GIVE, "moved", 1, 0);
    IS(2, POLL, NULL, 0, 0);
    end();
}

/* ---- events ---- */

Test(kinds, an_event_lets_everybody_go_on) {
    begin();
    IS(0, EVENT_IS_SET, "event", 0, 0);
    IS(0, EVENT_CLEAR, "event", 0, 0);
    IS(0, EVENT_WAIT, "event", 0, -EINPROGRESS);
    IS(1, EVENT_WAIT, "event", 0, -EINPROGRESS);
    IS(2, EVENT_WAIT, "event", 0, -EINPROGRESS);
    IS(2, GIVE_UP, NULL, 0, -ETIMEDOUT);
    told();
    IS(3, EVENT_SET, "event", 0, 0);
    cr_assert_eq(told(), 3);
    IS(3, EVENT_IS_SET, "event", 0, 1);
    IS(3, EVENT_SET, "event", 0, 0);
    IS(3, EVENT_WAIT, "event", 0, 0);
    IS(3, EVENT_CLEAR, "event", 0, 0);
    IS(3, EVENT_IS_SET, "event", 0, 0);
    IS(0, POLL, NULL, 0, 0);
    IS(1, GIVE_UP, NULL, 0, 0);
    IS(1, EVENT_WAIT, "event", 0, -EINPROGRESS);
    DIES(1);
    IS(3, DELETE, "event", 0, 0);
    end();
}

Test(kinds, thousands_wait_for_one_event) {
    static uint32_t crowd[CROWD];
    begin_size(128 << 20);
    for (unsigned i = 0; i < CROWD; i++) {
        crowd[i] = seat(1000 + i);
        cr_assert_eq(kind_call(&s, crowd[i], EVENT_WAIT, "event", 0), -EINPROGRESS);
    }
    checked(&s);
    IS(0, EVENT_SET, "event", 0, 0);
    checked(&s);
    unsigned n = 0;
    for (uint64_t conn; sync_next_granted(&s, &conn); n++) {
        cr_assert_eq(kind_call(&s, crowd[conn - 1000], POLL, NULL, 0), 0);
    }
    cr_assert_eq(n, CROWD);
    for (unsigned i = 0; i < CROWD; i++) {
        cr_assert_eq(sync_seat_end(&s, crowd[i]), 0);
    }
    end();
}

/* ---- conditions ---- */

Test(kinds, the_next_one_is_told_even_if_nobody_waited) {
    struct sync_ref ref;
    begin();
    ref = (struct sync_ref){.name = kind_name(&s, "lock")};
    IS(0, LOCK_TAKE, "lock", 0, 0);
    DIES(0);
    cr_assert_eq(sync_ref_lock(&s, &ref), -EBUSY);
    IS(1, LOCK_TAKE, "lock", 0, SYNC_DIED);
    IS(1, LOCK_GIVE, "lock", 0, 0);
    cr_assert_eq(sync_ref_lock(&s, &ref), 0);
    cr_assert_eq(sync_ref_unlock(&s, &ref), 0);
    IS(1, LOCK_TAKE, "lock", 0, 0);
    end();
}

Test(kinds, who_waits_for_a_condition_gives_the_lock_away_and_gets_it_back) {
    begin();
    IS(0, COND_WAIT, "cond", 0, -EPERM);
    IS(0, LOCK_TAKE, "lock", 0, 0);
    IS(1, COND_WAIT, "cond", 0, -EPERM);
    IS(1, COND_NOTIFY, "cond", 1, 0);
    IS(0, COND_WAIT, "cond", 0, -EINPROGRESS);
    IS(1, LOCK_TAKE, "lock", 0, 0);
    IS(1, COND_WAIT, "cond", 0, -EINPROGRESS);
    IS(2, LOCK_TAKE, "lock", 0, 0);
    IS(2, COND_NOTIFY, "cond", 1, 1);
    cr_assert_eq(told(), 1);
    IS(0, POLL, NULL, 0, -EINPROGRESS);
    IS(1, POLL, NULL, 0, -EINPROGRESS);
    checked(&s);
    IS(2, LOCK_GIVE, "lock", 0, 0);
    cr_assert_eq(told(), 1);
    IS(0, POLL, NULL, 0, 0);
    IS(2, COND_NOTIFY, "cond", UINT64_MAX, 1); /* without the lock */
    IS(1, POLL, NULL, 0, -EINPROGRESS);
    IS(0, LOCK_GIVE, "lock", 0, 0);
    IS(1, POLL, NULL, 0, 0);
    IS(1, LOCK_GIVE, "lock", 0, 0);
    IS(1, LOCK_GIVE, "lock", 0, -EPERM);
    end();
}

Test(kinds, an_rlock_comes_back_as_deep_as_it_was) {
    begin();
    IS(0, RLOCK_TAKE, "rlock", 0, 0);
    IS(0, RLOCK_TAKE, "rlock", 0, 0);
    IS(0, RLOCK_TAKE, "rlock", 0, 0);
    IS(0, COND_WAIT_RLOCK, "cond", 0, -EINPROGRESS);
    IS(1, RLOCK_TAKE, "rlock", 0, 0);
    IS(1, RLOCK_TAKE, "rlock", 0, 0);
    IS(1, COND_NOTIFY, "cond", 1, 1);
    IS(0, POLL, NULL, 0, -EINPROGRESS);
    IS(1, RLOCK_GIVE, "rlock", 0, 1);
    IS(1, RLOCK_GIVE, "rlock", 0, 0);
    IS(0, POLL, NULL, 0, 0);
    IS(0, RLOCK_GIVE, "rlock", 0, 1);
    IS(0, RLOCK_GIVE, "rlock", 0, 1);
    IS(0, COND_WAIT_RLOCK, "cond", 0, -EINPROGRESS);
    IS(1, COND_NOTIFY, "cond", 1, 1);
    IS(0, POLL, NULL, 0, 0);
    IS(0, RLOCK_GIVE, "rlock", 0, 0);
    end();
}

Test(kinds, one_whose_time_is_over_comes_back_with_the_lock) {
    begin();
    IS(0, LOCK_TAKE, "lock", 0, 0);
    IS(0, COND_WAIT, "cond", 0, -EINPROGRESS);
    IS(0, GIVE_UP, NULL, 0, -ETIMEDOUT);
    IS(0, COND_WAIT, "cond", 0, -EINPROGRESS);
    IS(1, LOCK_TAKE, "lock", 0, 0);
    IS(0, GIVE_UP, NULL, 0, -EINPROGRESS);
    IS(0, GIVE_UP, NULL, 0, -EINPROGRESS);
    IS(2, COND_NOTIFY, "cond", 1, 0);
    IS(1, LOCK_GIVE, "lock", 0, 0);
    IS(0, POLL, NULL, 0, -ETIMEDOUT);
    IS(0, LOCK_GIVE, "lock", 0, 0);
    /* notified just before */
    IS(0, LOCK_TAKE, "lock", 0, 0);
    IS(0, COND_WAIT, "cond", 0, -EINPROGRESS);
    IS(2, COND_NOTIFY, "cond", 1, 1);
    IS(0, GIVE_UP, NULL, 0, 0);
    IS(0, LOCK_GIVE, "lock", 0, 0);
    end();
}

Test(kinds, a_notification_is_not_lost_with_the_dead) {
    begin();
    for (unsigned i = 0; i < 3; i++) {
        IS(i, LOCK_TAKE, "lock", 0, 0);
        IS(i, COND_WAIT, "cond", 0, -EINPROGRESS);
    }
    IS(3, COND_NOTIFY, "cond", 1, 1);
    DIES(0);
    IS(1, POLL, NULL, 0, 0);
    IS(2, POLL, NULL, 0, -EINPROGRESS);
    DIES(2);
    IS(1, LOCK_GIVE, "lock", 0, 0);
    end();
}

Test(kinds, when_a_locks_holder_dies_all_look_again) {
    begin();
    IS(0, LOCK_TAKE, "lock", 0, 0);
    IS(0, COND_WAIT, "one", 0, -EINPROGRESS);
    IS(1, LOCK_TAKE, "lock", 0, 0);
    IS(1, COND_WAIT, "other", 0, -EINPROGRESS);
    IS(2, LOCK_TAKE, "lock", 0, 0);
    IS(3, LOCK_TAKE, "lock", 0, -EINPROGRESS);
    DIES(2);
    cr_assert_eq(told(), 1 | 2 | 8);
    IS(3, POLL, NULL, 0, SYNC_DIED);
    IS(0, POLL, NULL, 0, -EINPROGRESS);
    IS(1, POLL, NULL, 0, -EINPROGRESS);
    IS(3, LOCK_GIVE, "lock", 0, 0);
    IS(0, POLL, NULL, 0, 0);
    DIES(0);
    IS(1, POLL, NULL, 0, SYNC_DIED);
    end();
}

Test(kinds, a_condition_outlives_neither_itself_nor_its_lock) {
    begin();
    IS(0, LOCK_TAKE, "lock", 0, 0);
    IS(0, COND_WAIT, "cond", 0, -EINPROGRESS);
    IS(1, LOCK_TAKE, "lock", 0, 0);
    IS(1, COND_WAIT, "cond", 0, -EINPROGRESS);
    IS(2, LOCK_TAKE, "lock", 0, 0);
    IS(2, LOCK_GIVE, "lock", 0, 0);
    IS(2, DELETE, "lock", 0, 0);
    IS(2, LOCK_TAKE, "lock", 0, 0); /* another one */
    IS(0, GIVE_UP, NULL, 0, -EIDRM);
    IS(2, COND_NOTIFY, "cond", 1, 1);
    IS(1, POLL, NULL, 0, -EIDRM);
    IS(2, COND_WAIT, "cond", 0, -EINPROGRESS);
    IS(3, DELETE, "cond", 0, 0);
    IS(2, POLL, NULL, 0, -EIDRM);
    /* both renamed */
    IS(2, LOCK_TAKE, "lock", 0, 0);
    IS(2, COND_WAIT, "cond", 0, -EINPROGRESS);
    IS(3, RENAME, "lock", 0, 0);
    IS(3, LOCK_TAKE, "moved", 0, 0);
    IS(3, COND_NOTIFY, "cond", 1, 1);
    IS(2, POLL, NULL, 0, -EINPROGRESS);
    IS(3, LOCK_GIVE, "moved", 0, 0);
    IS(2, POLL, NULL, 0, 0);
    end();
}

/* ---- barriers ---- */

Test(kinds, a_barrier_lets_go_when_all_have_come) {
    struct sync_barrier_view v;
    struct key_name k;
    begin();
    k = kind_name(&s, "bar");
    IS(0, BARRIER_WAIT, "bar", 0, -ENOENT);
    IS(0, BARRIER_CREATE, "bar", 0, -EINVAL);
    IS(0, BARRIER_CREATE, "bar", 3, 1);
    IS(0, BARRIER_CREATE, "bar", 3, 0);
    IS(0, BARRIER_CREATE, "bar", 4, -EEXIST);
    for (int round = 0; round < 3; round++) {
        IS(0, BARRIER_WAIT, "bar", 0, -EINPROGRESS);
        IS(1, BARRIER_WAIT, "bar", 0, -EINPROGRESS);
        cr_assert_eq(sync_barrier_view(&s, &k, &v), 0);
        cr_assert(v.parties == 3 && v.waiting == 2 && !v.broken);
        told();
        IS(2, BARRIER_WAIT, "bar", 0, 2);
        cr_assert_eq(told(), 3);
        IS(3, BARRIER_WAIT, "bar", 0, -EINPROGRESS); /* the next round begins before they look */
        IS(1, POLL, NULL, 0, 1);
        IS(0, POLL, NULL, 0, 0);
        IS(3, POLL, NULL, 0, -EINPROGRESS);
        IS(4, BARRIER_RESET, "bar", 0, 0);
        IS(3, POLL, NULL, 0, -ECONNABORTED);
    }
    IS(0, BARRIER_CREATE, "alone", 1, 1);
    IS(0, BARRIER_WAIT, "alone", 0, 0);
    end();
}

Test(kinds, a_barrier_breaks) {
    begin();
    IS(0, BARRIER_CREATE, "bar", 3, 1);
    IS(0, BARRIER_WAIT, "bar", 0, -EINPROGRESS);
    IS(1, BARRIER_WAIT, "bar", 0, -EINPROGRESS);
    DIES(1);
    cr_assert_eq(told(), 1);
    IS(0, POLL, NULL, 0, -ECONNABORTED);
    IS(0, BARRIER_WAIT, "bar", 0, -ECONNABORTED);
    IS(0, BARRIER_RESET, "bar", 0, 0);
    IS(0, BARRIER_WAIT, "bar", 0, -EINPROGRESS);
    IS(2, BARRIER_WAIT, "bar", 0, -EINPROGRESS);
    IS(2, GIVE_UP, NULL, 0, -ETIMEDOUT);
    IS(0, POLL, NULL, 0, -ECONNABORTED);
    IS(0, BARRIER_RESET, "bar", 0, 0);
    IS(0, BARRIER_WAIT, "bar", 0, -EINPROGRESS);
    IS(2, BARRIER_ABORT, "bar", 0, 0);
    IS(0, POLL, NULL, 0, -ECONNABORTED);
    IS(2, BARRIER_WAIT, "bar", 0, -ECONNABORTED);
    /* one dies in time, but has not yet looked: the others went on */
    IS(0, BARRIER_RESET, "bar", 0, 0);
    IS(0, BARRIER_WAIT, "bar", 0, -EINPROGRESS);
    IS(2, BARRIER_WAIT, "bar", 0, -EINPROGRESS);
    IS(3, BARRIER_WAIT, "bar", 0, 2);
    DIES(2);
    IS(0, POLL, NULL, 0, 0);
    IS(0, BARRIER_WAIT, "bar", 0, -EINPROGRESS);
    end();
}

/* ---- processes that sleep, and one that is killed ---- */

enum { SLEEPERS = 3 };
static struct shm h[SLEEPERS];

static void handles(void) {
    begin();
    for (int i = 0; i < SLEEPERS; i++) {
        uint32_t slot, gen;
        shm_share(&s, &h[i]);
        cr_assert_eq(slot_reserve(&s, 0, &slot, &gen), 0);
        h[i].slot = slot;
    }
}

static int at_barrier(void *arg) {
    struct shm *me = arg;
    if (slot_attach(me, me->slot, get32(&me->slots[me->slot].gen))) {
        return 100;
    }
    int r = (int)kind_call(me, 0, BARRIER_WAIT, "bar", 0);
    r = r == -EINPROGRESS ? sync_wait(me, 20000) : r;
    return r < 0 ? 99 : r;
}

Test(kinds, processes_meet_at_a_barrier) {
    pid_t pid[SLEEPERS];
    int status, seen = 0;
    handles();
    IS(0, BARRIER_CREATE, "bar", SLEEPERS, 1);
    for (int i = 0; i < SLEEPERS; i++) {
        pid[i] = child_start(at_barrier, &h[i]);
        cr_assert(pid[i] > 0);
    }
    for (int i = 0; i < SLEEPERS; i++) {
        cr_assert_eq(waitpid(pid[i], &status, 0), pid[i]);
        cr_assert(WIFEXITED(status), "%d", status);
        seen |= 1 << WEXITSTATUS(status);
    }
    cr_assert_eq(seen, 7);
    checked(&s);
}

/* Takes a unit and sleeps; or, told 0, waits for one. */
static int holds_a_unit(void *arg) {
    struct shm *me = arg;
    if (slot_attach(me, me->slot, get32(&me->slots[me->slot].gen)) ||
        kind_call(me, 0, SEM_TAKE, "sem", 1) || kind_call(me, 0, EVENT_SET, "taken", 0)) {
        return 100;
    }
    pause();
    return 101;
}

static int wants_a_unit(void *arg) {
    struct shm *me = arg;
    if (slot_attach(me, me->slot, get32(&me->slots[me->slot].gen))) {
        return 100;
    }
    int r = (int)kind_call(me, 0, EVENT_WAIT, "taken", 0);
    r = r == -EINPROGRESS ? sync_wait(me, 20000) : r;
    r = r ? r : (int)kind_call(me, 0, SEM_TAKE, "sem", 1);
    r = r == -EINPROGRESS ? sync_wait(me, 0) : r; /* not in time */
    if (r != -ETIMEDOUT || kind_call(me, 0, EVENT_SET, "waits", 0)) {
        return 102;
    }
    r = (int)kind_call(me, 0, SEM_TAKE, "sem", 1);
    return r == -EINPROGRESS ? sync_wait(me, 20000) : 103;
}

Test(kinds, a_killed_holder_is_found_even_if_nobody_buries_it) {
    int status;
    uint64_t conn;
    handles();
    IS(0, SEM_CREATE, "sem", 1, 1);
    pid_t holder = child_start(holds_a_unit, &h[0]), waiter = child_start(wants_a_unit, &h[1]);
    cr_assert(holder > 0 && waiter > 0);
    int r = (int)kind_call(&s, who[0], EVENT_WAIT, "waits", 0);
    while (r == -EINPROGRESS) {
        while (!sync_next_granted(&s, &conn)) {
            sched_yield();
        }
        r = (int)CALL(0, POLL, NULL, 0);
    }
    cr_assert_eq(r, 0);
    kill(holder, SIGKILL);
    cr_assert_eq(waitpid(holder, &status, 0), holder);
    cr_assert_eq(waitpid(waiter, &status, 0), waiter);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == SYNC_DIED, "%d", status);
    checked(&s);
}
