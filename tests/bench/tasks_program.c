/* SPDX-License-Identifier: MIT */
/* Warm Python: a call of a function that does nothing, by the shim that forks from a parent which has
 * imported everything, beside the same call of a C module, and beside an interpreter per task, as
 * one would have it without a pool. Bound to one CPU and free, in turns.
 *
 * Fails: a call that is not answered right. Without /usr/bin/python3 there is nothing to measure. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "tests/bench/bench.h"
#include "tests/bench/tasks.h"
#include "tests/support/child.h"

static const char python[] = "/usr/bin/python3";

struct place {
    bool bound;
    struct site site;
    struct bench_samples call, module, bare;
};

static int place_open(struct place *p, bool bound) {
    static char config[2048];
    const char *source = getenv("HEARTH_SOURCE");
    p->bound = bound;
    snprintf(config, sizeof(config),
             "pools = ( { name = \"demo\"; workers = 2; module = \"demo.so\"; },\n"
             "  { name = \"python\"; workers = 2; prefork = true;\n"
             "    program = [ \"%s\", \"%s/worker/shims/hearth_worker.py\",\n"
             "                \"%s/tests/bench/tasks_program.py\" ]; } );\n"
             "stop_timeout = 5;\n",
             python, source ? source : ".", source ? source : ".");
    int r = bench_pin(bound);
    return r ? r : site_open(&p->site, config);
}

static int calls(struct site *s, const char *pool, unsigned n, double *ret_us) {
    struct hearth_task task = {.pool = pool, .handler = "echo"};
    int r = 0;
    for (unsigned i = 0; i < n / 10 + 1 && r == 0; i++) {
        r = site_call(s, &task, 0);
    }
    uint64_t t = clock_now();
    for (unsigned i = 0; i < n && r == 0; i++) {
        r = site_call(s, &task, 0);
    }
    *ret_us = bench_seconds(t) * 1e6 / n;
    return r;
}

static int interpreters(unsigned n, double *ret_us) {
    const char *const argv[] = {python, "-c", "pass", NULL};
    uint64_t t = clock_now();
    for (unsigned i = 0; i < n; i++) {
        pid_t pid = child_exec(argv, NULL, -1, -1, -1);
        int status = pid < 0 ? pid : child_wait(pid);
        if (status != 0) {
            return status < 0 ? status : -EIO;
        }
    }
    *ret_us = bench_seconds(t) * 1e6 / n;
    return 0;
}

static int turn(struct place *p) {
    double call, module, bare;
    int r = bench_pin(p->bound);
    r = r ? r : calls(&p->site, "demo", bench_count(1000, 20), &module);
    r = r ? r : calls(&p->site, "python", bench_count(1000, 20), &call);
    r = r ? r : interpreters(bench_count(5, 1), &bare);
    if (r != 0) {
        return bench_failed("a call of Python", r);
    }
    bench_add(&p->module, module);
    bench_add(&p->call, call);
    bench_add(&p->bare, bare);
    return 0;
}

static void show(const struct place *p) {
    struct bench_line l = {.what = p->bound ? "no-op call of Python, one CPU"
                                            : "no-op call of Python, all CPUs",
                           .unit = "us",
                           .beside = "the same of a C module",
                           .goal = BENCH_RATIO_AT_MOST,
                           .goal_value = 3};
    bench_compare(l, &p->call, &p->module);
    l.beside = "python3 -c pass";
    l.goal_value = 0.02;
    bench_compare(l, &p->call, &p->bare);
}

int tasks_program(void) {
    static struct place p[2];
    if (access(python, X_OK) < 0) {
        bench_heading("Workers in Python");
        bench_note("not measured: there is no %s", python);
        return 0;
    }
    int r = place_open(&p[0], true);
    r = r ? r : place_open(&p[1], false);
    for (unsigned i = 0; i < bench_count(9, 1) && r == 0; i++) {
        r = turn(&p[0]);
        r = r ? r : turn(&p[1]);
    }
    if (r == 0) {
        bench_heading("Workers in Python");
        show(&p[0]);
        show(&p[1]);
    }
    int end = site_close(&p[0].site);
    int end_too = site_close(&p[1].site);
    bench_pin(false);
    return r ? r : end ? end : end_too;
}
