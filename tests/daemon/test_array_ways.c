/* SPDX-License-Identifier: MIT */
/* Typed arrays by all three ways in at once: libhearth over the connection, mapped, and mapped for reading only, commands, and
 * handlers; pins of processes that are killed; the command of the shell. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/hearth.h"
#include "lib/base/clock.h"
#include "tests/daemon/pool_support.h"
#include "tests/support/child.h"
#include "tests/support/daemon.h"

static struct daemon d;
static struct hearth *h;

static void begin(void) {
    char config[1024];
    snprintf(config, sizeof(config),
             "segment_size = \"96M\"; stop_timeout = 1;\n"
             "pools = ( { name = \"shared\"; workers = 2; retries = 0; "
             "module = \"%s/tests/daemon/mod_shared.so\"; } );\n",
             getenv("HEARTH_BUILD"));
    const struct daemon_options options = {.config = config};
    cr_assert_eq(daemon_start(&d, &options), 0);
    cr_assert_eq(daemon_wait_ready(&d, within(20000)), 0, "%s", daemon_log(&d));
    cr_assert_eq(hearth_connect(d.socket, &h), 0, "%s", daemon_log(&d));
}

static void end(void) {
    hearth_close(h);
    h = NULL;
    cr_expect_eq(daemon_stop(&d), 0);
    child_kill_all();
}

TestSuite(array_ways, .init = begin, .fini = end, .timeout = 90);

#define T        hearth_text
#define OK(call) cr_expect_eq((call), 0, "%s: %s", #call, hearth_errmsg(h))

static union hearth_number I(int64_t v) {
    return (union hearth_number){.i = v};
} static union hearth_number D(double v) {
    return (union hearth_number){.d = v};
}

/* An integer reply of a command. */
static int64_t
ask(const char *a, const char *b, const char *c, const char *e) {
    const char *words[] = {a, b, c, e};
    const struct hearth_reply *r;
    cr_assert_eq(hearth_command(h, e ? 4 : c ? 3 : b ? 2 : 1, words, NULL, &r), 0);
    cr_expect_neq(hearth_reply_type(r), HEARTH_REPLY_ERROR, "%s: %s", a,
                  hearth_reply_text(r, NULL));
    return hearth_reply_type(r) == HEARTH_REPLY_MAP
               ? hearth_reply_int(hearth_reply_get(r, "errors")) +
                     hearth_reply_int(hearth_reply_get(r, "pinned"))
               : hearth_reply_int(r);
}

static void story_of_integers(void) {
    union hearth_number v = {0};
    enum hearth_array_type type;
    uint64_t n = 0;
    int made = -1, done = -1;
    cr_expect_eq(hearth_array_get(h, T("a"), HEARTH_INT32, 0, &v), HEARTH_E_ABSENT);
    cr_expect_eq(hearth_array_set(h, T("a"), HEARTH_INT32, 0, v), HEARTH_E_ABSENT);
    cr_expect_eq(hearth_array_info(h, T("a"), &type, &n), HEARTH_E_ABSENT);
    OK(hearth_array_create(h, T("a"), HEARTH_INT32, 1000, &made));
    cr_expect_eq(made, 1);
    OK(hearth_array_create(h, T("a"), HEARTH_INT32, 1000, &made));
    cr_expect_eq(made, 0);
    cr_expect_eq(hearth_array_create(h, T("a"), HEARTH_INT32, 999, NULL), HEARTH_E_EXISTS);
    cr_expect_eq(hearth_array_create(h, T("x"), HEARTH_INT64, 9 << 20, NULL), -EMSGSIZE);
    OK(hearth_array_info(h, T("a"), &type, &n));
    cr_expect(type == HEARTH_INT32 && n == 1000);
    OK(hearth_array_set(h, T("a"), HEARTH_INT32, 999, I(-5)));
    OK(hearth_array_get(h, T("a"), HEARTH_INT32, 999, &v));
    cr_expect_eq(v.i, -5);
    cr_expect_eq(hearth_array_set(h, T("a"), HEARTH_INT32, 0, I(INT64_C(1) << 31)),
                 HEARTH_E_NUMBER);
    cr_expect_eq(hearth_array_set(h, T("a"), HEARTH_INT32, 1000, I(1)), HEARTH_E_ABSENT);
    cr_expect_eq(hearth_array_get(h, T("a"), HEARTH_UINT32, 0, &v), HEARTH_E_TYPE);
    cr_expect_eq(hearth_array_set(h, T("a"), HEARTH_UINT32, 0, I(1)), HEARTH_E_TYPE);
    OK(hearth_array_add(h, T("a"), HEARTH_INT32, 999, I(-10), &v));
    cr_expect_eq(v.i, -15);
    OK(hearth_array_cas(h, T("a"), HEARTH_INT32, 999, I(0), I(1), &done));
    cr_expect_eq(done, 0);
    OK(hearth_array_cas(h, T("a"), HEARTH_INT32, 999, I(-15), I(INT32_MAX), &done));
    cr_expect_eq(done, 1);
    OK(hearth_array_add(h, T("a"), HEARTH_INT32, 999, I(1), &v));
    cr_expect_eq(v.i, INT32_MIN);
    OK(hearth_array_fill(h, T("a"), HEARTH_INT32, 10, 20, I(-3)));
    cr_expect_eq(ask("ARRAY.GET", "a", "29", NULL), -3);
    cr_expect_eq(ask("ARRAY.GET", "a", "30", NULL), 0);
    OK(hearth_array_create(h, T("u"), HEARTH_UINT64, 2, NULL));
    OK(hearth_array_add(h, T("u"), HEARTH_UINT64, 0, I(-1), &v));
    cr_expect_eq(v.u, UINT64_MAX);
    OK(hearth_array_get(h, T("u"), HEARTH_UINT64, 0, &v));
    cr_expect_eq(v.u, UINT64_MAX);
    OK(hearth_array_cas(h, T("u"), HEARTH_UINT64, 0, I(-1), I(7), &done));
    cr_expect_eq(done, 1);
}

static void story_of_others(void) {
    union hearth_number v = {0};
    int done = -1;
    char text[8] = "";
    OK(hearth_array_create(h, T("d"), HEARTH_DOUBLE, 3, NULL));
    OK(hearth_array_set(h, T("d"), HEARTH_DOUBLE, 1, D(0.1)));
    OK(hearth_array_add(h, T("d"), HEARTH_DOUBLE, 1, D(0.2), &v));
    cr_expect_eq(v.d, 0.1 + 0.2);
    OK(hearth_array_cas(h, T("d"), HEARTH_DOUBLE, 1, D(0.1 + 0.2), D(-INFINITY), &done));
    cr_expect_eq(done, 1);
    OK(hearth_array_get(h, T("d"), HEARTH_DOUBLE, 1, &v));
    cr_expect(isinf(v.d) && v.d < 0);
    OK(hearth_array_create(h, T("f"), HEARTH_FLOAT, 1, NULL));
    OK(hearth_array_add(h, T("f"), HEARTH_FLOAT, 0, D(0.1), &v));
    cr_expect_eq(v.d, (double)0.1f);
    OK(hearth_array_create(h, T("c"), HEARTH_CHAR, 6, NULL));
    OK(hearth_array_write(h, T("c"), HEARTH_CHAR, 1, 5, "hello"));
    OK(hearth_array_read(h, T("c"), HEARTH_CHAR, 0, 6, text));
    cr_expect_eq(memcmp(text, "\0hello", 6), 0);
    OK(hearth_array_get(h, T("c"), HEARTH_CHAR, 2, &v));
    cr_expect_eq(v.u, 'e');
    cr_expect_eq(hearth_array_add(h, T("c"), HEARTH_CHAR, 2, I(1), NULL), HEARTH_E_TYPE);
    OK(hearth_array_cas(h, T("c"), HEARTH_CHAR, 2, I('e'), I('\r'), &done));
    cr_expect_eq(done, 1);
}

static void story_of_many(void) {
    uint64_t n = (40 << 20) / 4; /* more than goes in one piece */
    uint32_t *data = malloc(n * 4), *back = malloc(n * 4);
    for (uint64_t i = 0; i < n; i++) {
        data[i] = (uint32_t)(i * 2654435761u);
    }
    OK(hearth_array_create(h, T("big"), HEARTH_UINT32, n, NULL));
    OK(hearth_array_write(h, T("big"), HEARTH_UINT32, 0, n, data));
    OK(hearth_array_read(h, T("big"), HEARTH_UINT32, 0, n, back));
    cr_expect_eq(memcmp(data, back, n * 4), 0);
    cr_expect_eq(hearth_array_write(h, T("big"), HEARTH_UINT32, 1, n, data), HEARTH_E_ABSENT);
    cr_expect_eq(hearth_array_read(h, T("big"), HEARTH_UINT32, n - 1, 2, back), HEARTH_E_ABSENT);
    cr_expect_eq(hearth_array_read(h, T("big"), HEARTH_UINT32, n, 0, back), 0);
    cr_expect_eq(hearth_array_read(h, T("big"), HEARTH_INT32, 0, 1, back), HEARTH_E_TYPE);
    cr_expect_eq(hearth_array_read(h, T("no"), HEARTH_INT32, 0, 0, back), HEARTH_E_ABSENT);
    OK(hearth_array_read(h, T("big"), HEARTH_UINT32, 0, 2, back));
    cr_expect_eq(memcmp(data, back, 8), 0);
    free(data);
    free(back);
}

static void story(void) {
    story_of_integers();
    story_of_others();
    story_of_many();
    cr_expect_eq(ask("DEL", "a", "u", "d"), 3);
    cr_expect_eq(ask("DEL", "f", "c", "big"), 3);
    cr_expect_eq(ask("SEGMENT.CHECK", NULL, NULL, NULL), 0);
}

Test(array_ways, over_the_connection) {
    struct hearth_pin pin;
    story();
    OK(hearth_array_create(h, T("a"), HEARTH_INT8, 1, NULL));
    cr_expect_eq(hearth_array_pin(h, T("a"), &pin), -EOPNOTSUPP);
}

Test(array_ways, mapped) {
    OK(hearth_attach(h, 0));
    story();
}

Test(array_ways, mapped_for_reading_only) {
    OK(hearth_attach(h, 1));
    story();
}

static void submit_bump(int times, uint64_t *ret_ticket) {
    char number[16];
    const char *args[] = {"n", number};
    const struct hearth_task t = {.pool = "shared", .handler = "bump", .args = args, .n_args = 2};
    snprintf(number, sizeof(number), "%d", times);
    cr_assert_eq(hearth_submit(h, &t, NULL, NULL, ret_ticket), 0);
}

/* Two handlers, a mapped client in two ways, and one over the connection: nothing is lost. */
Test(array_ways, all_ways_at_once) {
    enum { TIMES = 2000, ELEMENTS = 4 };
    struct hearth *mapped;
    struct hearth_pin pin;
    uint64_t tickets[2];
    union hearth_number v;
    cr_assert_eq(hearth_connect(d.socket, &mapped), 0);
    cr_assert_eq(hearth_attach(mapped, 0), 0);
    OK(hearth_array_create(h, T("n"), HEARTH_INT64, ELEMENTS, NULL));
    cr_assert_eq(hearth_array_pin(mapped, T("n"), &pin), 0);
    submit_bump(TIMES, &tickets[0]);
    submit_bump(TIMES, &tickets[1]);
    for (int i = 0; i < TIMES; i++) {
        uint64_t at = (uint64_t)i % ELEMENTS;
        OK(hearth_array_add(h, T("n"), HEARTH_INT64, at, I(1), NULL));
        cr_assert_eq(hearth_array_add(mapped, T("n"), HEARTH_INT64, at, I(1), NULL), 0);
        __atomic_fetch_add((int64_t *)pin.data + at, 1, __ATOMIC_SEQ_CST);
    }
    cr_assert_eq(hearth_run(h, 30000), 0);
    for (uint64_t i = 0; i < ELEMENTS; i++) {
        OK(hearth_array_get(h, T("n"), HEARTH_INT64, i, &v));
        cr_expect_eq(v.i, 2 * TIMES + 3 * TIMES / ELEMENTS);
    }
    cr_expect_eq(ask("ARRAY.INFO", "n", NULL, NULL), 1);
    cr_assert_eq(hearth_array_unpin(mapped, &pin), 0);
    cr_expect_eq(ask("ARRAY.INFO", "n", NULL, NULL), 0);
    hearth_close(mapped);
    cr_expect_eq(ask("SEGMENT.CHECK", NULL, NULL, NULL), 0);
}

Test(array_ways, the_pin_of_a_killed_worker_goes) {
    struct hearth_result r;
    const char *args[] = {"n"};
    const struct hearth_task t = {.pool = "shared", .handler = "pin", .args = args, .n_args = 1};
    OK(hearth_array_create(h, T("n"), HEARTH_INT64, 1, NULL));
    OK(hearth_call(h, &t, &r));
    cr_expect_eq(r.status, HEARTH_LOST);
    uint64_t until = clock_now() + 10 * NS_PER_SEC;
    while (ask("ARRAY.INFO", "n", NULL, NULL) != 0) {
        cr_assert(clock_now() < until, "it is pinned by a dead one");
    }
}

/* A mapped process pins an array that is then deleted; its memory goes with the process. */
static int pin_and_stay(void *arg) {
    struct hearth *mine;
    struct hearth_pin pin;
    (void)arg;
    if (hearth_connect(d.socket, &mine) || hearth_attach(mine, 0) ||
        hearth_array_pin(mine, T("n"), &pin) ||
        hearth_object_delete(mine, &(struct hearth_bytes){"n", 1}, 1, NULL)) {
        return 1;
    }
    ((int8_t *)pin.data)[0] = 1;
    if (hearth_value_set(mine, T("ready"), T("1"), 0, 0)) {
        return 2;
    }
    pause();
    return 0;
}

static int64_t free_bytes(void) {
    const char *words[] = {"SEGMENT.INFO"};
    const struct hearth_reply *r;
    cr_assert_eq(hearth_command(h, 1, words, NULL, &r), 0);
    return hearth_reply_int(hearth_reply_get(r, "free_bytes"));
}

Test(array_ways, the_memory_of_a_deleted_array_goes_with_the_last_who_has_it) {
    enum { SIZE = 30 << 20 };
    int64_t before = free_bytes();
    OK(hearth_array_create(h, T("n"), HEARTH_INT8, SIZE, NULL));
    pid_t pid = child_start(pin_and_stay, NULL);
    uint64_t until = clock_now() + 20 * NS_PER_SEC;
    while (ask("EXISTS", "ready", NULL, NULL) == 0) {
        cr_assert(clock_now() < until);
    }
    cr_expect_eq(ask("EXISTS", "n", NULL, NULL), 0);
    for (int i = 0; i < 50; i++) { /* the daemon tidies meanwhile */
        cr_assert(free_bytes() < before - SIZE);
    }
    cr_expect_eq(ask("SEGMENT.CHECK", NULL, NULL, NULL), 0);
    child_kill(pid);
    while (free_bytes() < before - (SIZE >> 4)) {
        cr_assert(clock_now() < until, "it is still there");
    }
    cr_expect_eq(ask("SEGMENT.CHECK", NULL, NULL, NULL), 0);
}

Test(array_ways, not_in_a_transaction_but_a_key_like_others) {
    const char *set[] = {"ARRAY.SET", "n", "0", "1"}, *get[] = {"ARRAY.GET", "n", "0"};
    const struct hearth_reply *r;
    OK(hearth_array_create(h, T("n"), HEARTH_INT64, 1, NULL));
    ask("MULTI", NULL, NULL, NULL);
    OK(hearth_command(h, 3, get, NULL, &r));
    cr_expect_eq(hearth_reply_type(r), HEARTH_REPLY_TEXT, "QUEUED");
    OK(hearth_command(h, 4, set, NULL, &r));
    cr_expect_eq(hearth_reply_type(r), HEARTH_REPLY_ERROR);
    ask("DISCARD", NULL, NULL, NULL);
    OK(hearth_object_expire(h, T("n"), 60000));
    OK(hearth_object_rename(h, T("n"), T("m"), 0));
    const char *type[] = {"TYPE", "m"};
    OK(hearth_command(h, 2, type, NULL, &r));
    cr_expect_str_eq(hearth_reply_text(r, NULL), "array");
    cr_expect(ask("MEMORY", "USAGE", "m", NULL) > 8);
    cr_expect(ask("TTL", "m", NULL, NULL) > 50);
}
