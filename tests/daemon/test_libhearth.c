/* SPDX-License-Identifier: MIT */
/* libhearth against the real daemon: every way a task can end, callbacks, map, cancel, and a daemon
 * that is killed and comes back. What only a misbehaving server can show is
 * tests/unit/test_client.c's. */
#include "client/hearth.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/child.h"
#include "tests/support/daemon.h"

static struct daemon d;
static struct hearth *h;

static void begin(void) {
    static const struct daemon_options options = {.keep_listening = true};
    cr_assert_eq(daemon_start(&d, &options), 0);
    cr_assert_eq(hearth_connect(d.socket, &h), 0, "%s", daemon_log(&d));
}

static void end(void) {
    hearth_close(h);
    h = NULL;
    cr_expect_eq(daemon_stop(&d), 0); /* before child_kill_all(), which would not spare it */
    child_kill_all();
}

TestSuite(libhearth, .init = begin, .fini = end, .timeout = 60);

static struct hearth_task task_of(const char *handler, const char *payload) {
    return (struct hearth_task){.pool = "demo",
                                .handler = handler,
                                .payload = payload,
                                .payload_len = payload ? strlen(payload) : 0};
}

static const char *one_arg[1];

static struct hearth_task task_with(const char *handler, const char *arg) {
    struct hearth_task t = task_of(handler, NULL);
    one_arg[0] = arg;
    t.args = one_arg;
    t.n_args = 1;
    return t;
}

Test(libhearth, call_ends_in_every_way) {
    struct hearth_result r;
    struct hearth_task t = task_of("echo", "hello");
    cr_assert_eq(hearth_call(h, &t, &r), 0);
    cr_assert_eq(r.status, HEARTH_DONE);
    cr_assert_str_eq(r.data, "hello");
    cr_assert_str_eq(r.cause, "");
    t = task_with("fail", "no such file");
    cr_assert_eq(hearth_call(h, &t, &r), 0);
    cr_assert_eq(r.status, HEARTH_FAILED);
    cr_assert_neq(r.code, 0);
    cr_assert(strstr(r.cause, "no such file"), "%s", r.cause);
    t = task_with("crash", "9");
    cr_assert_eq(hearth_call(h, &t, &r), 0);
    cr_assert_eq(r.status, HEARTH_LOST);
    cr_assert(strstr(r.cause, "signal 9"), "%s", r.cause);
    t = task_with("sleep", "30000");
    t.timeout_ms = 50;
    cr_assert_eq(hearth_call(h, &t, &r), 0);
    cr_assert_eq(r.status, HEARTH_TIMEOUT);
    cr_assert_str_eq(r.cause, "time limit of 50 ms");
    t.timeout_ms = 0;
    t.options = (const char *const[]){"PRIORITY", "200", "DEADLINE", "50"};
    t.n_options = 4;
    cr_assert_eq(hearth_call(h, &t, &r), 0);
    cr_assert_eq(r.status, HEARTH_TIMEOUT);
    t.options = (const char *const[]){"DELAY", "30000", "EXPIRE", "20"};
    cr_assert_eq(hearth_call(h, &t, &r), 0);
    cr_assert_eq(r.status, HEARTH_EXPIRED);
    cr_assert_str_eq(hearth_status_name(r.status), "expired");
    cr_assert_str_eq(r.cause, "not begun in time");
    t = task_of("nonesuch", NULL);
    cr_assert_eq(hearth_call(h, &t, &r), HEARTH_E_NOHANDLER);
    t.pool = "nonesuch";
    cr_assert_eq(hearth_call(h, &t, &r), HEARTH_E_NOPOOL);
}

struct tally {
    size_t ended[8];
    char last_id[HEARTH_ID_MAX + 1];
};

static void count(struct hearth *handle, const struct hearth_result *r, void *arg) {
    struct tally *tally = arg;
    (void)handle;
    tally->ended[r->status]++;
    snprintf(tally->last_id, sizeof(tally->last_id), "%s", r->id);
}

Test(libhearth, the_same_cause_by_call_and_by_push) {
    static const char *const handlers[] = {"fail", "crash"};
    static const char *const args[] = {"some words", "11"};
    for (size_t i = 0; i < 2; i++) {
        struct hearth_result r;
        struct tally tally = {0};
        struct hearth_task t = task_with(handlers[i], args[i]);
        cr_assert_eq(hearth_submit(h, &t, count, &tally, NULL), 0);
        cr_assert_eq(hearth_run(h, 20000), 0);
        cr_assert_eq(hearth_fetch(h, tally.last_id, &r), 0);
        int code = r.code;
        char cause[200];
        snprintf(cause, sizeof(cause), "%s", r.cause);
        cr_assert_eq(hearth_call(h, &t, &r), 0);
        cr_expect_eq(r.code, code);
        cr_expect_str_eq(r.cause, cause);
    }
}

Test(libhearth, many_submissions_each_end_once) {
    struct tally tally = {0};
    for (int i = 0; i < 20000; i++) {
        struct hearth_task t = task_of("echo", "x");
        cr_assert_eq(hearth_submit(h, &t, count, &tally, NULL), 0);
    }
    cr_assert_eq(hearth_run(h, 50000), 0);
    cr_assert_eq(tally.ended[HEARTH_DONE], 20000);
    struct hearth_bytes payloads[1000];
    for (size_t i = 0; i < 1000; i++) {
        payloads[i] = (struct hearth_bytes){"abc", i % 4};
    }
    struct hearth_task t = task_of("echo", NULL);
    cr_assert_eq(hearth_submit_many(h, &t, payloads, 1000, count, &tally, NULL), 0);
    cr_assert_eq(hearth_run(h, 50000), 0);
    cr_assert_eq(tally.ended[HEARTH_DONE], 21000);
}

Test(libhearth, cancel_before_and_while_it_runs) {
    struct tally tally = {0};
    uint64_t tickets[8];
    struct hearth_task t = task_with("sleep", "30000");
    for (size_t i = 0; i < 8; i++) {
        cr_assert_eq(hearth_submit(h, &t, count, &tally, &tickets[i]), 0);
        cr_assert_eq(hearth_cancel(h, tickets[i]), 0);
    }
    cr_assert_eq(hearth_run(h, 20000), 0);
    cr_assert_eq(tally.ended[HEARTH_CANCELLED], 8);
    cr_assert_eq(hearth_cancel(h, tickets[0]), HEARTH_E_NOTASK);
}

Test(libhearth, by_id_from_another_connection) {
    struct hearth *other;
    struct hearth_result r;
    struct hearth_task_info info;
    struct tally tally = {0};
    uint64_t ticket;
    struct hearth_task t = task_with("sleep", "30000");
    cr_assert_eq(hearth_connect(d.socket, &other), 0);
    cr_assert_eq(hearth_submit(h, &t, count, &tally, &ticket), 0);
    while (!hearth_ticket_id(h, ticket)[0]) {
        struct pollfd p = {.fd = hearth_get_fd(h), .events = (short)hearth_events(h)};
        cr_assert_gt(poll(&p, 1, 10000), 0);
        cr_assert_eq(hearth_dispatch(h), 0);
    }
    const char *id = hearth_ticket_id(h, ticket);
    cr_assert_eq(hearth_fetch(other, id, &r), HEARTH_E_PENDING);
    cr_assert_eq(hearth_wait(other, &id, 1, 30, &r), HEARTH_E_PENDING);
    cr_assert_eq(hearth_wait(other, &id, 1, 0, &r), HEARTH_E_PENDING);
    cr_assert_eq(hearth_status(other, id, &info), 0);
    cr_assert_str_eq(info.id, id);
    cr_assert_str_eq(info.handler, "sleep");
    cr_assert_eq(hearth_cancel_id(other, id), 0);
    cr_assert_eq(hearth_wait(other, &id, 1, -1, &r), 0);
    cr_assert_eq(r.status, HEARTH_CANCELLED);
    cr_assert_str_eq(r.id, id);
    cr_assert_eq(hearth_run(h, 20000), 0);
    cr_assert_eq(tally.ended[HEARTH_CANCELLED], 1);
    cr_assert_eq(hearth_cancel_id(other, "0-0"), HEARTH_E_NOTASK);
    cr_assert_eq(hearth_status(other, "0-0", &info), HEARTH_E_NOTASK);
    hearth_close(other);
}

struct collect {
    size_t n, next, wrong;
};

static int in_order(void *arg, const struct hearth_result *r) {
    struct collect *c = arg;
    char want[24];
    snprintf(want, sizeof(want), "%zu", r->index);
    c->wrong += r->status != HEARTH_DONE || strcmp(r->data, want) != 0 || r->index != c->next;
    c->next++;
    return 0;
}

static int numbers(void *arg, size_t index, struct hearth_bytes *ret) {
    static char texts[4096][24]; /* at most `window` are in use */
    struct collect *c = arg;
    if (index == c->n) {
        return 0;
    }
    char *text = texts[index % 4096];
    ret->len = (size_t)snprintf(text, sizeof(texts[0]), "%zu", index);
    ret->data = text;
    return 1;
}

Test(libhearth, an_ordered_map_of_many) {
    struct collect c = {.n = 30000};
    struct hearth_map map = {.task = task_of("echo", NULL),
                             .next = numbers,
                             .done = in_order,
                             .arg = &c,
                             .ordered = 1,
                             .window = 500};
    cr_assert_eq(hearth_map(h, &map), 0);
    cr_assert_eq(c.next, 30000);
    cr_assert_eq(c.wrong, 0);
}

Test(libhearth, sizes_without_a_cliff) {
    size_t sizes[] = {0, 1, 4095, 4096, 65535, 65536, 1 << 20, 9000000};
    char *payload = malloc(9000000);
    cr_assert_not_null(payload);
    for (size_t i = 0; i < 9000000; i++) {
        payload[i] = (char)(i * 7 + i / 251);
    }
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct hearth_result r;
        struct hearth_task t = task_of("echo", NULL);
        t.payload = payload;
        t.payload_len = sizes[i];
        cr_assert_eq(hearth_call(h, &t, &r), 0);
        cr_assert_eq(r.status, HEARTH_DONE, "%zu: %s", sizes[i], r.cause);
        cr_assert_eq(r.len, sizes[i]);
        cr_assert_eq(memcmp(r.data, payload, r.len), 0);
    }
    free(payload);
}

Test(libhearth, several_submissions_of_one_key_are_one_task) {
    struct tally tally = {0};
    struct hearth_task t = task_with("sleep", "100");
    uint64_t ticket[3];
    t.options = (const char *const[]){"UNIQUE", "k", "KEEP"};
    t.n_options = 3;
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(hearth_submit(h, &t, count, &tally, &ticket[i]), 0);
    }
    cr_assert_eq(hearth_run(h, 20000), 0, "%s", hearth_errmsg(h));
    cr_assert_eq(tally.ended[HEARTH_DONE], 3);
    cr_assert_eq(hearth_submit(h, &t, count, &tally, NULL), 0); /* it has ended */
    cr_assert_eq(hearth_run(h, 20000), 0, "%s", hearth_errmsg(h));
    cr_assert_eq(tally.ended[HEARTH_DONE], 4);
}

Test(libhearth, a_killed_daemon_is_reported_and_reconnected_to) {
    struct tally tally = {0};
    struct hearth_result r;
    struct hearth_task t = task_with("sleep", "30000");
    uint64_t ticket;
    cr_assert_eq(hearth_submit(h, &t, count, &tally, &ticket), 0);
    cr_assert_eq(hearth_run(h, 200), HEARTH_E_PENDING);
    cr_assert_neq(hearth_ticket_id(h, ticket)[0], 0);
    daemon_kill(&d);
    cr_assert_eq(hearth_run(h, 20000), HEARTH_E_DISCONNECTED);
    cr_assert_eq(tally.ended[HEARTH_DISCONNECTED], 1);
    cr_assert_neq(tally.last_id[0], 0);
    struct hearth_task echo = task_of("echo", "again");
    cr_assert_eq(hearth_call(h, &echo, &r), HEARTH_E_DISCONNECTED);
    cr_assert_eq(daemon_restart(&d), 0);
    cr_assert_eq(hearth_reconnect(h), 0);
    cr_assert_eq(hearth_reconnect(h), -EISCONN);
    cr_assert_eq(hearth_call(h, &echo, &r), 0);
    cr_assert_str_eq(r.data, "again");
    cr_assert_eq(hearth_submit(h, &echo, count, &tally, NULL), 0);
    cr_assert_eq(hearth_run(h, 20000), 0);
    cr_assert_eq(tally.ended[HEARTH_DONE], 1);
}

/* ---- what tasks tell ---- */

struct heard {
    char data[256];
    uint64_t done, total;
    int pieces, ends;
    enum hearth_status status;
};

static void on_data(struct hearth *of, const struct hearth_data *data, void *arg) {
    struct heard *heard = arg;
    (void)of;
    heard->pieces++;
    if (data->kind == HEARTH_DATA_PROGRESS) {
        heard->done = data->done;
        heard->total = data->total;
    } else {
        strncat(heard->data, data->data, sizeof(heard->data) - strlen(heard->data) - 1);
    }
}

static void on_told_end(struct hearth *of, const struct hearth_result *r, void *arg) {
    struct heard *heard = arg;
    (void)of;
    heard->ends++;
    heard->status = r->status;
}

Test(libhearth, what_tasks_tell) {
    struct heard heard = {.pieces = 0};
    struct hearth_result r;
    struct hearth_task t = task_with("steps", "2");
    t.data_fn = on_data;
    t.data_arg = &heard;
    cr_assert_eq(hearth_submit(h, &t, on_told_end, &heard, NULL), 0);
    cr_assert_eq(hearth_run(h, 20000), 0);
    cr_assert_str_eq(heard.data, "step 1\nstep 2\n");
    cr_assert(heard.done == 2 && heard.total == 2 && heard.ends == 1);
    heard = (struct heard){.pieces = 0};
    cr_assert_eq(hearth_call(h, &t, &r), 0);
    cr_assert_str_eq(r.data, "all steps");
    cr_assert_str_eq(heard.data, "step 1\nstep 2\n");
    heard = (struct heard){.pieces = 0};
    struct hearth_bytes many[3] = {{"a", 1}, {"b", 1}, {"c", 1}};
    cr_assert_eq(hearth_submit_many(h, &t, many, 3, on_told_end, &heard, NULL), 0);
    cr_assert_eq(hearth_run(h, 20000), 0);
    cr_assert(heard.pieces == 12 && heard.ends == 3);
}

Test(libhearth, tasks_of_others_can_be_followed) {
    struct heard heard = {.pieces = 0};
    struct hearth_result r;
    struct hearth *other = NULL;
    struct hearth_task t = task_with("steps", "3");
    uint64_t ticket;
    char id[HEARTH_ID_MAX + 1];
    cr_assert_eq(hearth_connect(d.socket, &other), 0);
    cr_assert_eq(hearth_submit(h, &t, on_told_end, &heard, &ticket), 0);
    while (!hearth_ticket_id(h, ticket)[0]) {
        hearth_dispatch(h);
    }
    snprintf(id, sizeof(id), "%s", hearth_ticket_id(h, ticket));
    cr_assert_eq(hearth_follow(other, id, 1, on_data, &heard, &r), HEARTH_E_PENDING);
    heard = (struct heard){.pieces = 0};
    cr_assert_eq(hearth_follow(other, id, -1, on_data, &heard, &r), 0);
    cr_assert_eq(r.status, HEARTH_DONE);
    cr_assert_str_eq(r.id, id);
    cr_assert(strstr(heard.data, "step 3\n"), "%s", heard.data);
    /* one's own, and the end is told twice: here and to the callback */
    cr_assert_eq(hearth_run(h, 20000), 0);
    heard = (struct heard){.pieces = 0};
    cr_assert_eq(hearth_submit(h, &t, on_told_end, &heard, &ticket), 0);
    while (!hearth_ticket_id(h, ticket)[0]) {
        hearth_dispatch(h);
    }
    snprintf(id, sizeof(id), "%s", hearth_ticket_id(h, ticket));
    cr_assert_eq(hearth_follow(h, id, -1, on_data, &heard, &r), 0);
    cr_assert(heard.ends == 1 && heard.status == HEARTH_DONE);
    cr_assert_str_eq(heard.data, "step 1\nstep 2\nstep 3\n");
    heard = (struct heard){.pieces = 0};
    cr_assert_eq(hearth_log(h, id, on_data, &heard), 0);
    cr_assert(heard.pieces == 6 && heard.done == 3);
    cr_assert_eq(hearth_log(h, "1-1", on_data, &heard), HEARTH_E_NOTASK);
    cr_assert_eq(hearth_follow(h, "1-1", -1, on_data, &heard, &r), HEARTH_E_NOTASK);
    hearth_close(other);
}

/* ---- iterators ---- */

static size_t asked;

static int numbered(void *arg, size_t index, struct hearth_bytes *ret) {
    static char text[2000][8];
    size_t n = *(const size_t *)arg;
    if (index >= n) {
        return 0;
    }
    asked = index + 1;
    *ret = (struct hearth_bytes){text[index], (size_t)sprintf(text[index], "%zu", index)};
    return 1;
}

Test(libhearth, results_one_at_a_time) {
    size_t n = 1000;
    struct hearth_map map = {
        .task = task_of("echo", NULL), .next = numbered, .arg = &n, .window = 8};
    struct hearth_imap *it;
    struct hearth_result r;
    for (map.ordered = 0; map.ordered < 2; map.ordered++) {
        char seen[1000] = {0};
        asked = 0;
        cr_assert_eq(hearth_imap_open(h, &map, &it), 0);
        for (size_t i = 0; i < n; i++) {
            cr_assert_eq(hearth_imap_next(it, &r), 0);
            size_t index = strtoul(r.data, NULL, 10);
            cr_assert(r.status == HEARTH_DONE && index < n && r.index == index && !seen[index]);
            cr_assert(!map.ordered || index == i);
            cr_assert(asked <= i + 1 + 3 * map.window, "%zu asked for at %zu", asked, i);
            seen[index] = 1;
        }
        cr_assert_eq(hearth_imap_next(it, &r), HEARTH_E_ABSENT);
        hearth_imap_close(it);
    }
    /* closed in the midst: what runs is cancelled, the handle goes on */
    struct hearth_task t = task_with("sleep", "60000");
    map.task = t;
    cr_assert_eq(hearth_imap_open(h, &map, &it), 0);
    struct hearth_task quick = task_of("echo", "x");
    n = 2;
    map.task = quick;
    struct hearth_imap *other;
    cr_assert_eq(hearth_imap_open(h, &map, &other), 0);
    cr_assert_eq(hearth_imap_next(other, &r), 0);
    hearth_imap_close(other);
    hearth_imap_close(it);
    cr_assert_eq(hearth_run(h, 10000), 0);
    cr_assert_eq(hearth_call(h, &quick, &r), 0);
    cr_assert_str_eq(r.data, "x");
    hearth_imap_close(NULL);
}

static void own_args(void *arg, size_t index, struct hearth_task *task) {
    static const char *const pairs[][2] = {{"a", "b"}, {"c", "d"}, {"e", "f"}};
    (void)arg;
    task->args = pairs[index];
    task->n_args = 2;
}

Test(libhearth, arguments_of_each_task) {
    static const struct hearth_bytes none[3];
    static const char *const want[] = {"a b", "c d", "e f"};
    struct hearth_map map = {
        .task = task_of("echo", NULL), .payloads = none, .n = 3, .ordered = 1, .vary = own_args};
    struct hearth_imap *it;
    struct hearth_result r;
    cr_assert_eq(hearth_imap_open(h, &map, &it), 0);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(hearth_imap_next(it, &r), 0);
        cr_assert_str_eq(r.data, want[i]);
    }
    hearth_imap_close(it);
}
