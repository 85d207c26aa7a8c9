/* SPDX-License-Identifier: MIT */
/* libhearth on locks, queues and pipes: the same story over the connection and mapped, with another process that does it the
 * same way or the other one; interrupted waits; descriptors of pipes; handlers that wait for what a client releases. */
#include "client/hearth.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/daemon/pool_support.h"
#include "tests/support/child.h"
#include "tests/support/daemon.h"

static struct daemon d;
static struct hearth *h;

static void begin(void) {
    static char config[1024];
    snprintf(
        config, sizeof(config),
        "limits = { max_mapped = 8; };\n"
        "map_users = [ \"@daemon\" ];\n"
        "segment_size = \"64M\";\n"
        "pools = ( { name = \"sync\"; workers = 1; module = \"%s/tests/daemon/mod_sync.so\"; } "
        ");\n",
        getenv("HEARTH_BUILD"));
    const struct daemon_options options = {.config = config};
    cr_assert_eq(daemon_start(&d, &options), 0);
    cr_assert_eq(hearth_connect(d.socket, &h), 0, "%s", daemon_log(&d));
}

static void end(void) {
    hearth_close(h);
    h = NULL;
    cr_expect_eq(daemon_stop(&d), 0);
    child_kill_all();
}

TestSuite(client_sync, .init = begin, .fini = end, .timeout = 90);

#define T           hearth_text
#define IS(b, text) ((b).data && (b).len == strlen(text) && memcmp((b).data, text, (b).len) == 0)
#define OK(call)    cr_expect_eq((call), 0, "%s: %s", #call, hearth_errmsg(h))
enum { LONG = 20000 };

/* What SEGMENT.CHECK finds. */
static void check(void) {
    const struct hearth_reply *r;
    const char *words[] = {"SEGMENT.CHECK"};
    cr_assert_eq(hearth_command(h, 1, words, NULL, &r), 0);
    cr_expect_eq(hearth_reply_int(hearth_reply_get(r, "errors")), 0, "%s",
                 hearth_reply_text(hearth_reply_get(r, "first_error"), NULL));
}

/* How many there are in LOCK.LIST that hold ("holders") or wait for ("waiters") it. */
static int rows(struct hearth *of, const char *name, const char *key) {
    const char *words[] = {"LOCK.LIST", name};
    const struct hearth_reply *all;
    if (hearth_command(of, 2, words, NULL, &all) != 0) {
        return -1;
    }
    return (int)hearth_reply_count(hearth_reply_get(hearth_reply_first(all), key));
}

/* Until somebody waits for (or holds) it. */
static bool await(struct hearth *of, const char *name, const char *key) {
    double until = now_ms() + within(LONG);
    int n;
    while ((n = rows(of, name, key)) == 0 && now_ms() < until) {
    }
    return n > 0;
}

/* Short waits are over: the next one is for long. */
static int ready(struct hearth *mine) {
    return hearth_value_set(mine, T("ready"), T(""), 0, 0);
}

static bool await_ready(const char *name) {
    const struct hearth_bytes word = T("ready");
    double until = now_ms() + within(LONG);
    uint64_t n = 0;
    while (hearth_object_delete(h, &word, 1, &n) == 0 && n == 0 && now_ms() < until) {
    }
    return n == 1 && await(h, name, "waiters");
}

/* ---- the other one: a process that does one thing ---- */

static bool he_maps; /* this one attaches, too */

struct other {
    int (*fn)(struct hearth *mine);
};

static int other_main(void *arg) {
    const struct other *o = arg;
    struct hearth *mine;
    if (hearth_connect(d.socket, &mine) || (he_maps && hearth_attach(mine, 0))) {
        return 100;
    }
    return o->fn(mine);
}

static pid_t other(int (*fn)(struct hearth *mine)) {
    struct other o = {fn};
    pid_t pid = child_start(other_main, &o);
    cr_assert_gt(pid, 0);
    return pid;
}

#define ENDS_WELL(pid) cr_expect_eq(child_wait(pid), 0)
#define TRY(condition)                                                                             \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, hearth_errmsg(mine));       \
            return __LINE__ % 90 + 1;                                                              \
        }                                                                                          \
    } while (0)

/* ---- locks ---- */

static int takes_and_gives(struct hearth *mine) {
    int died = 5;
    TRY(hearth_lock_acquire(mine, T("l"), 0, 0, NULL) == HEARTH_E_PENDING);
    TRY(hearth_lock_acquire(mine, T("l"), 20, 0, NULL) == HEARTH_E_PENDING);
    TRY(hearth_lock_release(mine, T("l"), 0) == HEARTH_E_NOTOWNER);
    TRY(ready(mine) == 0);
    TRY(hearth_lock_acquire(mine, T("l"), -1, 0, &died) == 0 && died == 0);
    TRY(hearth_lock_release(mine, T("l"), 0) == 0);
    return 0;
}

static int dies_with_it(struct hearth *mine) {
    TRY(hearth_lock_acquire(mine, T("l"), -1, 0, NULL) == 0);
    TRY(hearth_rwlock_write(mine, T("rw"), -1, 0, NULL) == 0);
    TRY(await(mine, "l", "waiters"));
    raise(SIGKILL);
    return 1;
}

static int closes_with_it(struct hearth *mine) {
    struct hearth *again;
    TRY(hearth_lock_acquire(mine, T("l"), -1, 0, NULL) == 0);
    TRY(hearth_event_set(mine, T("e")) == 0);
    hearth_close(mine);
    mine = NULL;
    TRY(hearth_connect(d.socket, &again) == 0);
    mine = again;
    TRY(hearth_event_wait(mine, T("back"), LONG) == 0); /* lives on */
    return 0;
}

static int closes_a_circle(struct hearth *mine) {
    TRY(hearth_lock_acquire(mine, T("b"), -1, 0, NULL) == 0);
    TRY(hearth_lock_acquire(mine, T("l"), LONG, 0, NULL) == 0);
    TRY(hearth_lock_release(mine, T("l"), 0) == 0);
    TRY(hearth_lock_release(mine, T("b"), 0) == 0);
    return 0;
}

static int is_told_it_is_gone(struct hearth *mine) {
    TRY(hearth_lock_acquire(mine, T("l"), LONG, 0, NULL) == HEARTH_E_ENDED);
    return 0;
}

static void story_of_locks(void) {
    int died = 5, held = 5;
    enum hearth_object_type type;
    OK(hearth_lock_acquire(h, T("l"), -1, 0, &died));
    cr_expect_eq(died, 0);
    OK(hearth_object_type(h, T("l"), &type));
    cr_expect_eq(type, HEARTH_TYPE_LOCK);
    OK(hearth_lock_is_held(h, T("l"), &held));
    cr_expect_eq(held, 1);
    cr_expect_eq(hearth_lock_acquire(h, T("l"), -1, 0, NULL), HEARTH_E_DEADLOCK);
    cr_expect_eq(hearth_lock_acquire(h, T("l"), 10, HEARTH_NO_CHECK, NULL), HEARTH_E_PENDING);
    pid_t pid = other(takes_and_gives);
    cr_assert(await_ready("l"));
    OK(hearth_lock_release(h, T("l"), 0));
    ENDS_WELL(pid);
    cr_expect_eq(hearth_lock_release(h, T("l"), 0), HEARTH_E_NOTOWNER);
    /* who dies with it */
    pid = other(dies_with_it);
    cr_assert(await(h, "rw", "holders"));
    OK(hearth_lock_acquire(h, T("l"), LONG, 0, &died));
    cr_expect_eq(died, 1);
    cr_expect_eq(child_wait(pid), CHILD_SIGNALLED + SIGKILL);
    OK(hearth_rwlock_read(h, T("rw"), LONG, 0, NULL));
    OK(hearth_rwlock_release(h, T("rw"), 0));
    OK(hearth_lock_release(h, T("l"), 0));
    /* who closes its handle */
    pid = other(closes_with_it);
    OK(hearth_event_wait(h, T("e"), LONG));
    OK(hearth_lock_acquire(h, T("l"), LONG, 0, &died));
    OK(hearth_event_set(h, T("back")));
    ENDS_WELL(pid);
    OK(hearth_object_delete(h, (struct hearth_bytes[]){T("e"), T("back")}, 2, NULL));
    /* a circle */
    pid = other(closes_a_circle);
    cr_assert(await(h, "l", "waiters"));
    cr_expect_eq(hearth_lock_acquire(h, T("b"), LONG, 0, NULL), HEARTH_E_DEADLOCK);
    OK(hearth_lock_release(h, T("l"), 0));
    ENDS_WELL(pid);
    /* deleted */
    OK(hearth_lock_acquire(h, T("l"), -1, 0, NULL));
    pid = other(is_told_it_is_gone);
    cr_assert(await(h, "l", "waiters"));
    OK(hearth_object_delete(h, (struct hearth_bytes[]){T("l"), T("b"), T("rw")}, 3, NULL));
    ENDS_WELL(pid);
    cr_expect_eq(hearth_lock_release(h, T("l"), 0), HEARTH_E_NOTOWNER);
}

static int wants_a_recursive_one(struct hearth *mine) {
    struct hearth_lock *l;
    int died = 5;
    TRY(hearth_lock_open(mine, T("r"), 1, &l) == 0);
    TRY(hearth_lock_enter(l, 0, 0, NULL) == HEARTH_E_PENDING);
    TRY(hearth_lock_leave(l, 0) == HEARTH_E_NOTOWNER);
    TRY(hearth_lock_enter(l, LONG, 0, &died) == 0 && died == 0);
    TRY(hearth_lock_enter(l, 0, 0, NULL) == 0);
    TRY(hearth_lock_leave(l, 0) == 0 && hearth_lock_leave(l, 0) == 0);
    TRY(hearth_lock_leave(l, 0) == HEARTH_E_NOTOWNER);
    hearth_lock_close(l);
    return 0;
}

static int wants_one_at_hand(struct hearth *mine) {
    struct hearth_lock *l;
    TRY(hearth_lock_open(mine, T("l"), 0, &l) == 0);
    for (int i = 0; i < 200; i++) {
        int64_t n;
        TRY(hearth_lock_enter(l, LONG, 0, NULL) == 0);
        TRY(hearth_value_add(mine, T("n"), 1, &n) == 0);
        TRY(hearth_value_add(mine, T("n"), -1, &n) == 0 && n == 0);
        TRY(hearth_lock_leave(l, 0) == 0);
    }
    hearth_lock_close(l);
    return 0;
}

static void story_of_locks_at_hand(void) {
    struct hearth_lock *l = NULL;
    OK(hearth_lock_open(h, T("l"), 0, &l));
    OK(hearth_lock_enter(l, -1, 0, NULL));
    cr_expect_eq(hearth_lock_enter(l, -1, 0, NULL), HEARTH_E_DEADLOCK);
    pid_t pid = other(wants_one_at_hand);
    cr_assert(await(h, "l", "waiters"));
    OK(hearth_lock_leave(l, 0));
    cr_expect_eq(wants_one_at_hand(h), 0); /* both at once */
    ENDS_WELL(pid);
    hearth_lock_close(l);
    /* a deleted one is made anew */
    OK(hearth_lock_open(h, T("l"), 0, &l));
    OK(hearth_lock_enter(l, -1, 0, NULL));
    OK(hearth_lock_leave(l, 0));
    OK(hearth_object_delete(h, (struct hearth_bytes[]){T("l")}, 1, NULL));
    OK(hearth_lock_enter(l, -1, 0, NULL));
    OK(hearth_lock_leave(l, 0));
    hearth_lock_close(l);
    hearth_lock_close(NULL);

    OK(hearth_lock_open(h, T("r"), 1, &l));
    OK(hearth_lock_enter(l, -1, 0, NULL));
    OK(hearth_lock_enter(l, 0, 0, NULL));
    OK(hearth_rlock_acquire(h, T("r"), 0, 0, NULL));
    OK(hearth_rlock_release(h, T("r"), 0));
    pid = other(wants_a_recursive_one);
    cr_assert(await(h, "r", "waiters"));
    OK(hearth_lock_leave(l, 0));
    cr_expect_gt(rows(h, "r", "waiters"), 0);
    OK(hearth_lock_leave(l, 0));
    ENDS_WELL(pid);
    hearth_lock_close(l);
    OK(hearth_object_delete(h, (struct hearth_bytes[]){T("l"), T("r"), T("n")}, 3, NULL));
}

static int writes(struct hearth *mine) {
    TRY(hearth_rwlock_read(mine, T("rw"), 0, 0, NULL) == 0);
    TRY(hearth_rwlock_release(mine, T("rw"), 0) == 0);
    TRY(hearth_rwlock_write(mine, T("rw"), 0, 0, NULL) == HEARTH_E_PENDING);
    TRY(hearth_rwlock_write(mine, T("rw"), LONG, 0, NULL) == 0);
    TRY(hearth_rwlock_release(mine, T("rw"), 0) == 0);
    TRY(hearth_rwlock_release(mine, T("rw"), 0) == HEARTH_E_NOTOWNER);
    TRY(hearth_rwlock_release(mine, T("rw"), HEARTH_FORCE) == HEARTH_E_NOTOWNER);
    return 0;
}

static int gives_back_for_others(struct hearth *mine) {
    TRY(hearth_rlock_release(mine, T("r"), 0) == HEARTH_E_NOTOWNER);
    TRY(hearth_rlock_release(mine, T("r"), HEARTH_FORCE) == 0); /* all of it */
    TRY(hearth_rlock_acquire(mine, T("r"), 0, 0, NULL) == 0);
    TRY(hearth_rwlock_release(mine, T("rw"), 0) == HEARTH_E_NOTOWNER);
    TRY(hearth_rwlock_release(mine, T("rw"), HEARTH_FORCE) == 0);
    TRY(hearth_rwlock_write(mine, T("rw"), 0, 0, NULL) == 0);
    TRY(hearth_lock_release(mine, T("l"), HEARTH_FORCE) == 0);
    return 0;
}

static void story_of_force(void) {
    OK(hearth_rlock_acquire(h, T("r"), -1, 0, NULL));
    OK(hearth_rlock_acquire(h, T("r"), -1, 0, NULL));
    OK(hearth_rwlock_write(h, T("rw"), -1, 0, NULL));
    OK(hearth_lock_acquire(h, T("l"), -1, 0, NULL));
    ENDS_WELL(other(gives_back_for_others));
    cr_expect_eq(hearth_rlock_release(h, T("r"), 0), HEARTH_E_NOTOWNER);
    OK(hearth_object_delete(h, (struct hearth_bytes[]){T("l"), T("r"), T("rw")}, 3, NULL));
}

static void story_of_readers(void) {
    OK(hearth_rwlock_read(h, T("rw"), -1, 0, NULL));
    pid_t pid = other(writes);
    cr_assert(await(h, "rw", "waiters"));
    OK(hearth_rwlock_release(h, T("rw"), 0));
    ENDS_WELL(pid);
    OK(hearth_rwlock_write(h, T("rw"), -1, 0, NULL));
    OK(hearth_rwlock_release(h, T("rw"), 0));
    OK(hearth_object_delete(h, (struct hearth_bytes[]){T("rw")}, 1, NULL));
}

/* ---- semaphores, events, conditions, barriers ---- */

static int takes_units(struct hearth *mine) {
    TRY(hearth_sem_acquire(mine, T("s"), 2, 0) == HEARTH_E_PENDING);
    TRY(hearth_sem_acquire(mine, T("s"), 2, LONG) == 0);
    TRY(hearth_event_wait(mine, T("e"), LONG) == 0);
    return 0; /* they go back by themselves */
}

static void story_of_semaphores(void) {
    int made = 5;
    uint64_t n = 0;
    cr_expect_eq(hearth_sem_acquire(h, T("s"), 1, 0), HEARTH_E_ABSENT);
    OK(hearth_sem_create(h, T("s"), 3, 1, &made));
    cr_expect_eq(made, 1);
    OK(hearth_sem_create(h, T("s"), 3, 1, &made));
    cr_expect_eq(made, 0);
    cr_expect_eq(hearth_sem_create(h, T("s"), 4, 1, &made), HEARTH_E_EXISTS);
    cr_expect_eq(hearth_sem_release(h, T("s"), 1), HEARTH_E_OVERFLOW);
    OK(hearth_sem_acquire(h, T("s"), 2, 0));
    OK(hearth_sem_value(h, T("s"), &n));
    cr_expect_eq(n, 1);
    pid_t pid = other(takes_units);
    cr_assert(await(h, "s", "waiters"));
    OK(hearth_sem_release(h, T("s"), 2));
    OK(hearth_event_set(h, T("e")));
    ENDS_WELL(pid);
    OK(hearth_sem_acquire(h, T("s"), 3, LONG));
    OK(hearth_sem_release(h, T("s"), 3));
    OK(hearth_object_delete(h, (struct hearth_bytes[]){T("s"), T("e")}, 2, NULL));
}

static int waits_for_an_event(struct hearth *mine) {
    int set = 5;
    TRY(hearth_event_is_set(mine, T("e"), &set) == 0 && set == 0);
    TRY(hearth_event_wait(mine, T("e"), 10) == HEARTH_E_PENDING);
    TRY(ready(mine) == 0);
    TRY(hearth_event_wait(mine, T("e"), LONG) == 0);
    TRY(hearth_event_is_set(mine, T("e"), &set) == 0 && set == 1);
    TRY(hearth_event_clear(mine, T("e")) == 0);
    TRY(hearth_event_set(mine, T("back")) == 0);
    return 0;
}

static void story_of_events(void) {
    int set = 5;
    pid_t pid = other(waits_for_an_event);
    cr_assert(await_ready("e"));
    OK(hearth_event_set(h, T("e")));
    OK(hearth_event_wait(h, T("back"), LONG));
    OK(hearth_event_is_set(h, T("e"), &set));
    cr_expect_eq(set, 0);
    ENDS_WELL(pid);
    OK(hearth_object_delete(h, (struct hearth_bytes[]){T("e"), T("back")}, 2, NULL));
}

static int waits_for_a_condition(struct hearth *mine) {
    int64_t n;
    TRY(hearth_cond_wait(mine, T("c"), T("l"), 10, NULL) == HEARTH_E_NOTOWNER);
    TRY(hearth_lock_acquire(mine, T("l"), LONG, 0, NULL) == 0);
    TRY(hearth_cond_wait(mine, T("c"), T("l"), 10, NULL) == HEARTH_E_PENDING);
    TRY(ready(mine) == 0);
    TRY(hearth_cond_wait(mine, T("c"), T("l"), LONG, NULL) == 0);
    TRY(hearth_value_add(mine, T("n"), 1, &n) == 0 && n == 2); /* the lock is his again */
    TRY(hearth_lock_release(mine, T("l"), 0) == 0);
    return 0;
}

static void story_of_conditions(void) {
    uint64_t n = 5;
    int64_t v;
    OK(hearth_cond_notify(h, T("c"), UINT64_MAX, &n));
    cr_expect_eq(n, 0);
    pid_t pid = other(waits_for_a_condition);
    cr_assert(await_ready("c"));
    OK(hearth_lock_acquire(h, T("l"), LONG, 0, NULL));
    OK(hearth_cond_notify(h, T("c"), 1, &n));
    cr_expect_eq(n, 1);
    OK(hearth_value_add(h, T("n"), 1, &v));
    OK(hearth_lock_release(h, T("l"), 0));
    ENDS_WELL(pid);
    OK(hearth_object_delete(h, (struct hearth_bytes[]){T("c"), T("l"), T("n")}, 3, NULL));
}

static int meets(struct hearth *mine) {
    uint32_t index = 5;
    TRY(hearth_barrier_wait(mine, T("b"), LONG, &index) == 0 && index < 2);
    TRY(hearth_barrier_wait(mine, T("b"), LONG, &index) == HEARTH_E_BROKEN);
    return 10 + (int)index;
}

static void story_of_barriers(void) {
    struct hearth_barrier_info info;
    uint32_t index = 5;
    int made = 5;
    cr_expect_eq(hearth_barrier_wait(h, T("b"), 0, &index), HEARTH_E_ABSENT);
    OK(hearth_barrier_create(h, T("b"), 2, &made));
    cr_expect_eq(made, 1);
    cr_expect_eq(hearth_barrier_create(h, T("b"), 3, &made), HEARTH_E_EXISTS);
    pid_t pid = other(meets);
    OK(hearth_barrier_wait(h, T("b"), LONG, &index));
    cr_assert(await(h, "b", "waiters"));
    OK(hearth_barrier_info(h, T("b"), &info));
    cr_expect(info.parties == 2 && info.waiting == 1 && !info.broken);
    OK(hearth_barrier_abort(h, T("b")));
    cr_expect_eq(child_wait(pid), 10 + (index == 0));
    cr_expect_eq(hearth_barrier_wait(h, T("b"), -1, &index), HEARTH_E_BROKEN);
    OK(hearth_barrier_reset(h, T("b")));
    cr_expect_eq(hearth_barrier_wait(h, T("b"), 10, &index), HEARTH_E_PENDING);
    OK(hearth_barrier_info(h, T("b"), &info));
    cr_expect(info.broken);
    OK(hearth_object_delete(h, (struct hearth_bytes[]){T("b")}, 1, NULL));
}

/* ---- queues and pipes ---- */

static int eats(struct hearth *mine) {
    struct hearth_bytes b;
    uint64_t lease = 5;
    TRY(hearth_queue_get(mine, T("q"), LONG, &b, &lease) == 0 && IS(b, "one") && lease == 0);
    TRY(hearth_queue_task_done(mine, T("q")) == 0);
    TRY(hearth_queue_get(mine, T("q"), LONG, &b, NULL) == 0 && IS(b, "two"));
    TRY(hearth_queue_task_done(mine, T("q")) == 0);
    TRY(hearth_queue_task_done(mine, T("q")) == HEARTH_E_OVERFLOW);
    TRY(hearth_queue_get(mine, T("q"), LONG, &b, NULL) == HEARTH_E_CLOSED);
    return 0;
}

static int dies_with_an_item(struct hearth *mine) {
    struct hearth_bytes b;
    uint64_t lease = 0;
    TRY(hearth_queue_get(mine, T("q"), LONG, &b, &lease) == 0 && lease != 0);
    raise(SIGKILL);
    return 1;
}

static void story_of_queues(void) {
    const struct hearth_queue_options bounded = {.max_items = 2}, leased = {.lease_ms = -1};
    struct hearth_queue_info info;
    struct hearth_bytes b;
    const struct hearth_bytes *items;
    const uint64_t *leases;
    uint64_t lease;
    size_t n = 0;
    int made = 5;
    OK(hearth_queue_create(h, T("q"), &bounded, &made));
    cr_expect_eq(made, 1);
    cr_expect_eq(hearth_queue_create(h, T("q"), &leased, &made), HEARTH_E_EXISTS);
    pid_t pid = other(eats);
    cr_assert(await(h, "q", "waiters"));
    OK(hearth_queue_put(h, T("q"), T("one"), 0));
    OK(hearth_queue_put(h, T("q"), T("two"), LONG));
    OK(hearth_queue_join(h, T("q"), LONG));
    OK(hearth_queue_close(h, T("q")));
    cr_expect_eq(hearth_queue_put(h, T("q"), T("three"), 0), HEARTH_E_CLOSED);
    ENDS_WELL(pid);
    OK(hearth_object_delete(h, (struct hearth_bytes[]){T("q")}, 1, NULL));

    OK(hearth_queue_create(h, T("q"), &bounded, NULL));
    OK(hearth_queue_put_many(h, T("q"), (struct hearth_bytes[]){T("a"), T("b"), T("c")}, 3, 0, &n));
    cr_expect_eq(n, 2);
    cr_expect_eq(hearth_queue_put(h, T("q"), T("c"), 10), HEARTH_E_PENDING);
    OK(hearth_queue_get_many(h, T("q"), 10, 0, &items, &n, &leases));
    cr_expect(n == 2 && IS(items[0], "a") && IS(items[1], "b") && leases[0] == 0);
    cr_expect_eq(hearth_queue_get(h, T("q"), 0, &b, &lease), HEARTH_E_PENDING);
    OK(hearth_object_delete(h, (struct hearth_bytes[]){T("q")}, 1, NULL));

    OK(hearth_queue_create(h, T("q"), &leased, NULL));
    OK(hearth_queue_put(h, T("q"), T("x"), 0));
    cr_expect_eq(child_wait(other(dies_with_an_item)), CHILD_SIGNALLED + SIGKILL);
    OK(hearth_queue_get(h, T("q"), LONG, &b, &lease)); /* it comes back */
    cr_expect(IS(b, "x") && lease != 0);
    OK(hearth_queue_extend(h, T("q"), lease, LONG));
    OK(hearth_queue_info(h, T("q"), &info));
    cr_expect(info.items == 0 && info.leased == 1 && info.unfinished == 1 && !info.closed);
    OK(hearth_queue_return(h, T("q"), lease));
    cr_expect_eq(hearth_queue_done(h, T("q"), lease), HEARTH_E_ABSENT);
    OK(hearth_queue_get(h, T("q"), 0, &b, &lease));
    OK(hearth_queue_done(h, T("q"), lease));
    OK(hearth_queue_join(h, T("q"), 0));
    OK(hearth_object_delete(h, (struct hearth_bytes[]){T("q")}, 1, NULL));
    cr_expect_eq(hearth_queue_info(h, T("q"), &info), HEARTH_E_ABSENT);
}

static int talks(struct hearth *mine) {
    struct hearth_bytes b;
    TRY(hearth_pipe_send(mine, T("p"), 1, T("one"), LONG) == 0);
    TRY(hearth_pipe_send(mine, T("p"), 1, T(""), LONG) == 0);
    TRY(hearth_pipe_recv(mine, T("p"), 1, LONG, &b) == 0 && IS(b, "answer"));
    return 0; /* which closes it */
}

static void story_of_pipes(void) {
    struct hearth_bytes b;
    int made = 5, there = 5;
    cr_expect_eq(hearth_pipe_open(h, T("p"), 0), HEARTH_E_ABSENT);
    OK(hearth_pipe_create(h, T("p"), 1, 0, &made));
    cr_expect_eq(made, 1);
    cr_expect_eq(hearth_pipe_create(h, T("p"), 0, 0, &made), HEARTH_E_EXISTS);
    cr_expect_eq(hearth_pipe_open(h, T("p"), 2), -EINVAL);
    OK(hearth_pipe_open(h, T("p"), 0));
    OK(hearth_pipe_poll(h, T("p"), 0, 0, &there));
    cr_expect_eq(there, 0);
    cr_expect_eq(hearth_pipe_recv(h, T("p"), 0, 10, &b), HEARTH_E_PENDING);
    pid_t pid = other(talks);
    OK(hearth_pipe_recv(h, T("p"), 0, LONG, &b));
    cr_expect(IS(b, "one"));
    OK(hearth_pipe_recv(h, T("p"), 0, LONG, &b));
    cr_expect_eq(b.len, 0);
    OK(hearth_pipe_send(h, T("p"), 0, T("answer"), LONG));
    cr_expect_eq(hearth_pipe_recv(h, T("p"), 0, LONG, &b), HEARTH_E_CLOSED);
    ENDS_WELL(pid);
    OK(hearth_pipe_poll(h, T("p"), 0, -1, &there));
    cr_expect_eq(there, 1);
    cr_expect_eq(hearth_pipe_send(h, T("p"), 0, T("x"), LONG), HEARTH_E_CLOSED);
    OK(hearth_pipe_close(h, T("p"), 0));
    cr_expect_eq(hearth_pipe_close(h, T("p"), 0), HEARTH_E_NOTOWNER);
    OK(hearth_object_delete(h, (struct hearth_bytes[]){T("p")}, 1, NULL));
    OK(hearth_pipe_create(h, T("p"), 0, 4096, NULL));
    cr_expect_eq(hearth_pipe_send(h, T("p"), 0, T("x"), 0), -EBADF);
    OK(hearth_object_delete(h, (struct hearth_bytes[]){T("p")}, 1, NULL));
}

/* ---- one story, four ways ---- */

static void tell_all(void) {
    story_of_locks();
    story_of_locks_at_hand();
    story_of_readers();
    story_of_force();
    story_of_semaphores();
    story_of_events();
    story_of_conditions();
    story_of_barriers();
    story_of_queues();
    story_of_pipes();
    check();
}

Test(client_sync, both_over_the_connection) {
    tell_all();
}
Test(client_sync, the_other_mapped) {
    he_maps = true;
    tell_all();
}
Test(client_sync, this_one_mapped) {
    OK(hearth_attach(h, 0));
    tell_all();
}
Test(client_sync, this_one_mapped_for_reading) {
    he_maps = true;
    OK(hearth_attach(h, 1));
    tell_all();
}
Test(client_sync, both_mapped) {
    he_maps = true;
    OK(hearth_attach(h, 0));
    tell_all();
}

/* ---- without a daemon ---- */

static int holds_till_the_daemon_is_dead(struct hearth *mine) {
    struct hearth_lock *l;
    int r;
    TRY(hearth_lock_open(mine, T("at hand"), 0, &l) == 0);
    TRY(hearth_lock_enter(l, -1, 0, NULL) == 0);
    TRY(hearth_lock_acquire(mine, T("l"), -1, 0, NULL) == 0);
    TRY(hearth_sem_acquire(mine, T("s"), 1, -1) == 0);
    TRY(await(mine, "l", "waiters"));
    kill(d.pid, SIGKILL);
    while ((r = hearth_rlock_acquire(mine, T("other"), -1, 0, NULL)) == 0) {
    }
    TRY(r == HEARTH_E_DISCONNECTED);
    TRY(hearth_sem_release(mine, T("s"), 1) == 0);
    TRY(hearth_lock_leave(l, 0) == 0);
    TRY(hearth_lock_release(mine, T("l"), 0) == 0);
    hearth_lock_close(l);
    pause();
    return 0;
}

Test(client_sync, what_is_held_in_memory_is_given_back_without_a_daemon) {
    int died = 5;
    he_maps = true;
    OK(hearth_sem_create(h, T("s"), 1, 1, NULL));
    OK(hearth_attach(h, 0));
    pid_t pid = other(holds_till_the_daemon_is_dead);
    cr_assert(await(h, "l", "holders"));
    OK(hearth_lock_acquire(h, T("l"), LONG, 0, &died));
    cr_expect_eq(died, 0);
    child_kill(pid);
    OK(hearth_lock_release(h, T("l"), 0));
    daemon_kill(&d);
    cr_assert_eq(daemon_restart(&d), 0);
    cr_expect_eq(hearth_event_set(h, T("e")), HEARTH_E_DISCONNECTED);
    OK(hearth_reconnect(h));
}

/* ---- signals ---- */

static int stop_after;
static int asked;

static void nothing(int sig) {
    (void)sig;
}

static int interrupt(struct hearth *of, void *arg) {
    (void)of;
    (void)arg;
    return ++asked >= stop_after;
}

static int is_interrupted(struct hearth *mine) {
    const struct sigaction sa = {.sa_handler = nothing};
    const struct itimerval often = {.it_interval.tv_usec = 20000, .it_value.tv_usec = 20000};
    struct hearth_bytes b;
    int held;
    sigaction(SIGALRM, &sa, NULL);
    hearth_on_interrupt(mine, interrupt, NULL);
    stop_after = 3;
    setitimer(ITIMER_REAL, &often, NULL);
    TRY(hearth_event_wait(mine, T("e"), -1) == -EINTR);
    TRY(asked == 3);
    asked = 0;
    TRY(hearth_queue_get(mine, T("q"), LONG, &b, NULL) == -EINTR);
    asked = 0;
    TRY(hearth_lock_acquire(mine, T("l"), 0, 0, NULL) == 0);
    TRY(hearth_cond_wait(mine, T("c"), T("l"), -1, NULL) == -EINTR);
    TRY(hearth_lock_is_held(mine, T("l"), &held) == 0 && held == 1);
    TRY(hearth_lock_release(mine, T("l"), 0) == 0);
    hearth_on_interrupt(mine, NULL, NULL);
    TRY(hearth_event_wait(mine, T("e"), 100) == HEARTH_E_PENDING);
    return 0;
}

/* ---- ... when there is no descriptor to tell the daemon with, at first ---- */

static struct rlimit files;
static int signals;

static void gives_them_back(int sig) {
    (void)sig;
    if (asked && ++signals == 3) {
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static int takes_all_files(struct hearth *of, void *arg) {
    struct rlimit none = {.rlim_max = files.rlim_max};
    (void)of;
    (void)arg;
    asked++;
    return setrlimit(RLIMIT_NOFILE, &none) == 0;
}

static int is_interrupted_later(struct hearth *mine) {
    const struct sigaction sa = {.sa_handler = gives_them_back};
    const struct itimerval often = {.it_interval.tv_usec = 20000, .it_value.tv_usec = 20000};
    TRY(getrlimit(RLIMIT_NOFILE, &files) == 0);
    sigaction(SIGALRM, &sa, NULL);
    hearth_on_interrupt(mine, takes_all_files, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    TRY(hearth_event_wait(mine, T("e"), -1) == -EINTR);
    TRY(asked == 1 && signals >= 3);
    return 0;
}

Test(client_sync, waits_end_by_signals) {
    ENDS_WELL(other(is_interrupted_later));
    ENDS_WELL(other(is_interrupted));
    he_maps = true;
    ENDS_WELL(other(is_interrupted));
    check();
}

/* ---- descriptors ---- */

static int has_the_other_end(struct hearth *mine) {
    char text[10] = "";
    int fd = -1;
    TRY(hearth_pipe_fd(mine, T("pair"), 1, &fd) == 0);
    TRY(recv(fd, text, sizeof(text), 0) == 5 && strcmp(text, "hello") == 0);
    TRY(send(fd, "back", 4, 0) == 4);
    return 0;
}

Test(client_sync, a_socketpair_by_name) {
    char text[10] = "";
    int fd = -1;
    OK(hearth_pipe_fd(h, T("pair"), 0, &fd));
    cr_assert_geq(fd, 0);
    cr_expect_eq(hearth_pipe_fd(h, T("pair"), 0, &fd), HEARTH_E_EXISTS);
    cr_expect_eq(hearth_pipe_fd(h, T("pair"), 7, &fd), -EINVAL);
    pid_t pid = other(has_the_other_end);
    cr_expect_eq(send(fd, "hello", 5, 0), 5);
    cr_expect_eq(recv(fd, text, sizeof(text), 0), 4);
    cr_expect_str_eq(text, "back");
    ENDS_WELL(pid);
    cr_expect_eq(recv(fd, text, sizeof(text), 0), 0); /* it has ended */
    close(fd);
}

/* ---- handlers ---- */

static void on_end(struct hearth *of, const struct hearth_result *r, void *arg) {
    (void)of;
    snprintf(arg, 200, "%s|%.*s%s", hearth_status_name(r->status), (int)r->len, r->data, r->cause);
}

static uint64_t start(const char *handler, char end_of_it[200]) {
    const struct hearth_task t = {.pool = "sync", .handler = handler};
    uint64_t ticket = 0;
    end_of_it[0] = 0;
    OK(hearth_submit(h, &t, on_end, end_of_it, &ticket));
    OK(hearth_flush(h));
    return ticket;
}

static const char *run(const char *handler) {
    static char end_of_it[200];
    start(handler, end_of_it);
    OK(hearth_run(h, LONG));
    return end_of_it;
}

Test(client_sync, handlers) {
    char end_of_it[200];
    uint64_t ticket;
    int died = 5;
    cr_expect_str_eq(run("check"), "done|well");
    /* it waits for what a client releases over the socket */
    OK(hearth_lock_acquire(h, T("l"), -1, 0, NULL));
    ticket = start("lock", end_of_it);
    cr_assert(await(h, "l", "waiters"));
    OK(hearth_lock_release(h, T("l"), 0));
    OK(hearth_run(h, LONG));
    cr_expect_str_eq(end_of_it, "done|taken 0");
    /* and stops waiting when it is cancelled */
    OK(hearth_lock_acquire(h, T("l"), LONG, 0, &died));
    ticket = start("lock", end_of_it);
    cr_assert(await(h, "l", "waiters"));
    OK(hearth_cancel(h, ticket));
    OK(hearth_run(h, LONG));
    cr_expect(strncmp(end_of_it, "cancelled|", 10) == 0, "%s", end_of_it);
    cr_expect_eq(rows(h, "l", "waiters"), 0);
    OK(hearth_lock_release(h, T("l"), 0));
    /* it leaves a lock held */
    cr_expect_str_eq(run("leave"), "done|left");
    OK(hearth_lock_acquire(h, T("l"), 0, 0, NULL));
    OK(hearth_lock_release(h, T("l"), 0));
    cr_expect(strstr(daemon_log(&d), "held"), "%s", daemon_log(&d));
    /* and dies with it */
    cr_expect(strncmp(run("die"), "lost|", 5) == 0);
    OK(hearth_lock_acquire(h, T("l"), LONG, 0, &died));
    check();
}
