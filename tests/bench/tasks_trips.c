/* SPDX-License-Identifier: MIT */
/* One task at a time: the time of a call.
 *
 * A call over the socket crosses four process boundaries, client, daemon, worker, daemon, client,
 * and so is held against the chain of the same four hops over bare sockets (raw.h). Two daemons
 * run, one with all its processes and this one bound to one CPU and one free, each beside a chain
 * bound alike; all are measured in turns.
 *
 * Fails: a call that is not answered right. */
#include <stdlib.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "tests/bench/bench.h"
#include "tests/bench/raw.h"
#include "tests/bench/tasks.h"

struct place {
    bool bound;
    struct site site;
    struct raw chain, polling, large;
    struct bench_samples call, call_large, us_chain, us_polling, us_large;
};

static int calls(struct site *s, const struct hearth_task *task, unsigned n, double *ret_us) {
    int r = 0;
    for (unsigned i = 0; i < n / 10 + 1 && r == 0; i++) {
        r = site_call(s, task, task->payload_len);
    }
    uint64_t t = clock_now();
    for (unsigned i = 0; i < n && r == 0; i++) {
        r = site_call(s, task, task->payload_len);
    }
    *ret_us = bench_seconds(t) * 1e6 / n;
    return r;
}

static int turn(struct place *p, const char *mebibyte) {
    unsigned n = bench_count(1000, 20), few = bench_count(20, 2);
    struct hearth_task task = {.pool = "demo", .handler = "echo"};
    double v[5] = {0};
    int r = bench_pin(p->bound);
    r = r ? r : raw_trips(&p->chain, n, &v[0]);
    r = r ? r : calls(&p->site, &task, n, &v[1]);
    r = r ? r : raw_trips(&p->polling, n, &v[2]);
    task.payload = mebibyte;
    task.payload_len = RAW_LONG;
    r = r ? r : calls(&p->site, &task, few, &v[3]);
    r = r ? r : raw_trips(&p->large, few, &v[4]);
    if (r != 0) {
        return bench_failed("a call", r);
    }
    bench_add(&p->us_chain, v[0]);
    bench_add(&p->call, v[1]);
    bench_add(&p->us_polling, v[2]);
    bench_add(&p->call_large, v[3] / 1000);
    bench_add(&p->us_large, v[4] / 1000);
    return 0;
}

static int place_open(struct place *p, bool bound) {
    p->bound = bound;
    int r = bench_pin(bound);
    r = r ? r : site_open(&p->site, site_config);
    r = r ? r : raw_open(&p->chain, RAW_CHAIN);
    r = r ? r : raw_open(&p->polling, RAW_CHAIN_POLL);
    return r ? r : raw_open(&p->large, RAW_MEBIBYTE);
}

static int place_close(struct place *p) {
    raw_close(&p->chain);
    raw_close(&p->polling);
    raw_close(&p->large);
    return site_close(&p->site);
}

static void show(const struct place *p) {
    struct bench_line l = {.what = p->bound ? "no-op call, one CPU" : "no-op call, all CPUs",
                           .unit = "us",
                           .beside = "4-hop chain",
                           .goal = BENCH_RATIO_AT_MOST,
                           .goal_value = 1.0};
    bench_compare(l, &p->call, &p->us_chain);
    l.beside = "4-hop chain that polls";
    l.goal = BENCH_NO_GOAL;
    bench_compare(l, &p->call, &p->us_polling);
    l = (struct bench_line){.what = p->bound ? "1 MiB there and back, one CPU"
                                             : "1 MiB there and back, all CPUs",
                            .unit = "ms",
                            .beside = "one socket, no daemon",
                            .goal = BENCH_AT_MOST,
                            .goal_value = 0.8};
    bench_compare(l, &p->call_large, &p->us_large);
}

int tasks_trips(void) {
    static struct place p[2];
    _cleanup_free_ char *mebibyte = calloc(1, RAW_LONG);
    int r = mebibyte ? place_open(&p[0], true) : -1;
    r = r ? r : place_open(&p[1], false);
    for (unsigned i = 0; i < bench_count(15, 2) && r == 0; i++) {
        r = turn(&p[0], mebibyte);
        r = r ? r : turn(&p[1], mebibyte);
    }
    if (r == 0) {
        bench_heading("One task at a time, over the socket");
        show(&p[0]);
        show(&p[1]);
    }
    int end = place_close(&p[0]);
    int end_too = place_close(&p[1]);
    bench_pin(false);
    return r ? r : end ? end : end_too;
}
