/* SPDX-License-Identifier: MIT */
/* Many tasks under way: no-ops a second through libhearth, and commands a second.
 *
 * One process holds all the connections in one poll() loop, as a program with an event loop would;
 * each connection keeps a number of tasks under way by submitting the next one from the callback of
 * the last. Beside it stand the coalescing chain, which passes on bytes without looking at them,
 * and Python's multiprocessing.Pool with two workers doing the same with apply_async (pool.py).
 *
 * Commands: /bin/true by an exec pool of two workers, against posix_spawn alone, two at a time from
 * one process and, since each of our workers spawns for itself, from two.
 *
 * Fails: a task that does not end as done. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "tests/bench/bench.h"
#include "tests/bench/raw.h"
#include "tests/bench/tasks.h"
#include "tests/support/child.h"

enum { CLIENTS_MAX = 32 };

struct stream {
    struct hearth_task task;
    unsigned n, submitted, ended, wrong;
};

static void ended(struct hearth *h, const struct hearth_result *result, void *arg) {
    struct stream *s = arg;
    s->ended++;
    s->wrong += result->status != HEARTH_DONE;
    if (s->submitted < s->n && hearth_submit(h, &s->task, ended, s, NULL) == 0) {
        s->submitted++;
    }
}

static int poll_clients(struct hearth **h, unsigned clients) {
    struct pollfd p[CLIENTS_MAX];
    for (unsigned i = 0; i < clients; i++) {
        p[i] = (struct pollfd){hearth_get_fd(h[i]), (short)hearth_events(h[i]), 0};
    }
    if (poll(p, clients, 10000) <= 0) {
        return -ETIMEDOUT;
    }
    int r = 0;
    for (unsigned i = 0; i < clients && r == 0; i++) {
        r = p[i].revents ? hearth_dispatch(h[i]) : 0;
    }
    return r;
}

/* Runs n tasks over the clients, each with `flight` under way: tasks a second. */
static int run(struct hearth **h, unsigned clients, unsigned flight, unsigned n,
               const struct hearth_task *task, double *ret_per_second) {
    struct stream s = {.task = *task, .n = n};
    int r = 0;
    uint64_t t = clock_now();
    for (unsigned i = 0; i < clients * flight && s.submitted < n && r == 0; i++) {
        r = hearth_submit(h[i % clients], task, ended, &s, NULL);
        s.submitted += r == 0;
    }
    for (unsigned i = 0; i < clients && r == 0; i++) {
        r = hearth_flush(h[i]);
    }
    while (r == 0 && s.ended < n) {
        r = clients == 1 ? hearth_run(h[0], 30000) : poll_clients(h, clients);
    }
    *ret_per_second = n / bench_seconds(t);
    return r ? r : s.wrong ? -EBADMSG : 0;
}

/* ---- no-ops ---- */

struct load {
    unsigned clients, flight;
    struct bench_samples rate, chain, python;
};

static int python_rate(double *ret) {
    const char *source = getenv("HEARTH_SOURCE");
    char script[4096], count[16];
    snprintf(script, sizeof(script), "%s/tests/bench/pool.py", source ? source : ".");
    snprintf(count, sizeof(count), "%u", bench_count(10000, 200));
    const char *const argv[] = {"python3", script, count, NULL};
    struct child_output out;
    int r = child_run(argv, NULL, NULL, 0, &out);
    if (r < 0) {
        return r;
    }
    r = out.status == 0 ? 0 : out.status == 127 ? -ENOENT : -EIO;
    *ret = r == 0 && buf_len(&out.out) ? strtod(buf_head(&out.out), NULL) : 0;
    child_output_deinit(&out);
    return r;
}

static int turn(struct load *l, struct hearth **h, struct raw *chain, double python) {
    double v[2];
    unsigned n = bench_count(40000, 500);
    struct hearth_task task = {.pool = "demo", .handler = "echo"};
    int r = raw_pipeline(chain, n, l->flight, &v[0]);
    r = r ? r : run(h, l->clients, l->flight, n, &task, &v[1]);
    if (r != 0) {
        return bench_failed("a stream of tasks", r);
    }
    bench_add(&l->chain, v[0]);
    bench_add(&l->rate, v[1]);
    if (python > 0) {
        bench_add(&l->python, python);
    }
    return 0;
}

static void show(const struct load *l) {
    char what[64];
    snprintf(what, sizeof(what), "no-op tasks, %u client%s, %u under way each", l->clients,
             l->clients == 1 ? "" : "s", l->flight);
    struct bench_line line = {
        .what = what, .unit = "/s", .goal = BENCH_AT_LEAST, .goal_value = 300000};
    line.beside = "chain, same number under way";
    bench_compare(line, &l->rate, &l->chain);
    if (l->python.n > 0) {
        line.beside = "Python Pool.apply_async";
        line.goal = BENCH_RATIO_AT_LEAST;
        line.goal_value = 20;
        bench_compare(line, &l->rate, &l->python);
    }
}

static int connect_all(struct site *s, struct hearth *h[CLIENTS_MAX]) {
    int r = 0;
    for (unsigned i = 0; i < CLIENTS_MAX && r == 0; i++) {
        r = hearth_connect(s->daemon.socket, &h[i]);
    }
    return r ? bench_failed("connecting", r) : 0;
}

int tasks_stream(void) {
    static struct load loads[] = {{1, 32}, {8, 32}, {32, 32}, {1, 256}, {8, 256}};
    enum { LOADS = sizeof(loads) / sizeof(*loads) };
    struct hearth *h[CLIENTS_MAX] = {NULL};
    struct site s = {.h = NULL};
    struct raw chain;
    int r = raw_open(&chain, RAW_CHAIN);
    r = r ? r : site_open(&s, site_config);
    r = r ? r : connect_all(&s, h);
    for (unsigned i = 0; i < bench_count(7, 1) && r == 0; i++) {
        double python = 0;
        r = python_rate(&python);
        r = r == -ENOENT ? 0 : r < 0 ? bench_failed("python3", r) : r;
        for (unsigned k = 0; k < LOADS && r == 0; k++) {
            r = turn(&loads[k], h, &chain, python);
        }
    }
    if (r == 0) {
        bench_heading("Many tasks under way, over the socket, two workers");
        for (unsigned k = 0; k < LOADS; k++) {
            show(&loads[k]);
        }
    }
    for (unsigned i = 0; i < CLIENTS_MAX; i++) {
        hearth_close(h[i]);
    }
    int end = site_close(&s);
    raw_close(&chain);
    return r ? r : end;
}

/* ---- commands ---- */

int tasks_exec(void) {
    static const unsigned flights[] = {2, 4, 32};
    struct bench_samples ours[3] = {{.n = 0}}, spawn = {.n = 0}, two = {.n = 0};
    struct site s;
    const char *const args[] = {"/bin/true"};
    struct hearth_task task = {.pool = "shell", .handler = "run", .args = args, .n_args = 1};
    unsigned n = bench_count(600, 20);
    int r = site_open(&s, site_config);
    for (unsigned i = 0; i < bench_count(9, 1) && r == 0; i++) {
        double v = 0;
        r = raw_spawn(n, 2, &v);
        bench_add(&spawn, v);
        r = r ? r : raw_spawn_two(n, &v);
        bench_add(&two, v);
        for (unsigned k = 0; k < 3 && r == 0; k++) {
            r = run(&s.h, 1, flights[k], n, &task, &v);
            bench_add(&ours[k], v);
        }
        if (r != 0) {
            bench_failed("running /bin/true", r);
        }
    }
    if (r == 0) {
        bench_heading("Commands, two workers");
    }
    for (unsigned k = 0; k < 3 && r == 0; k++) {
        char what[64];
        snprintf(what, sizeof(what), "/bin/true, %u under way", flights[k]);
        struct bench_line l = {.what = what,
                               .unit = "/s",
                               .beside = "posix_spawn, two in flight",
                               .goal = BENCH_RATIO_AT_LEAST,
                               .goal_value = 0.9};
        bench_compare(l, &ours[k], &spawn);
        l.beside = "posix_spawn, two processes";
        bench_compare(l, &ours[k], &two);
    }
    int end = site_close(&s);
    return r ? r : end;
}
