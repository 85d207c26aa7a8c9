/* SPDX-License-Identifier: MIT */
/* The daemon at rest: how soon it is ready, what memory it and its workers hold, and that it does
 * nothing when there is nothing to do.
 *
 * Ready is when READY=1 arrives: eight workers warm. Memory is what /proc/PID/smaps_rollup says of
 * an idle daemon that has run some tasks. CPU time is read from /proc/PID/schedstat, in
 * nanoseconds, before and after a second in which nobody asks for anything.
 *
 * Fails: a daemon that is not ready or whose figures cannot be read. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "tests/bench/bench.h"
#include "tests/bench/proc.h"
#include "tests/bench/raw.h"
#include "tests/bench/tasks.h"

enum { WORKERS = 8 };

static const char config[] =
    "pools = ( { name = \"demo\"; workers = 8; module = \"demo.so\"; } );\n"
    "stop_timeout = 5;\n";

static int ready(void) {
    struct bench_samples ms = {.n = 0}, forks = {.n = 0};
    for (unsigned i = 0; i < bench_count(15, 2); i++) {
        struct daemon d;
        struct daemon_options o = {.config = config};
        double rate = 1;
        uint64_t t = clock_now();
        int r = daemon_start(&d, &o);
        if (r < 0) {
            return bench_failed("starting hearthd", r);
        }
        r = daemon_wait_ready(&d, 30000);
        bench_add(&ms, bench_seconds(t) * 1e3);
        int end = daemon_stop(&d);
        r = r ? r : end;
        r = r ? r : raw_fork(bench_count(200, 20), &rate);
        if (r != 0) {
            return bench_failed("starting and stopping hearthd", r);
        }
        bench_add(&forks, WORKERS * 1e3 / rate);
    }
    struct bench_line l = {.what = "exec of hearthd to READY, 8 workers",
                           .unit = "ms",
                           .beside = "8 bare forks",
                           .goal = BENCH_AT_MOST,
                           .goal_value = 30};
    bench_compare(l, &ms, &forks);
    return 0;
}

/* ---- at rest ---- */

static int worker_pids(struct site *s, pid_t pids[WORKERS]) {
    const struct hearth_reply *reply;
    const char *const words[] = {"WORKER.LIST"};
    int r = hearth_command(s->h, 1, words, NULL, &reply);
    if (r != 0 || hearth_reply_count(reply) != WORKERS) {
        return r ? r : -EBADMSG;
    }
    const struct hearth_reply *w = hearth_reply_first(reply);
    for (unsigned i = 0; i < WORKERS; i++, w = hearth_reply_next(w)) {
        pids[i] = (pid_t)hearth_reply_int(hearth_reply_get(w, "pid"));
    }
    return 0;
}

static void show_memory(const struct proc_memory *daemon, const struct proc_memory *worker,
                        double all_pss) {
    struct bench_line l = {.unit = "KiB", .goal = BENCH_AT_MOST};
    l.what = "idle daemon, RSS";
    l.ours = daemon->rss_kib;
    l.goal_value = 4096;
    bench_print(&l);
    l.what = "idle worker, PSS";
    l.ours = worker->pss_kib;
    l.goal_value = 400;
    bench_print(&l);
    l.what = "daemon, zygote and 8 workers, PSS";
    l.ours = all_pss;
    l.goal_value = 7168;
    bench_print(&l);
    bench_note("daemon: PSS %.0f KiB, private %.0f KiB; worker: RSS %.0f KiB, private %.0f KiB",
               daemon->pss_kib, daemon->private_kib, worker->rss_kib, worker->private_kib);
}

/* Of the daemon and all below it. */
static int sum(pid_t daemon, double *ret_pss, double *ret_cpu_ms) {
    pid_t pids[64];
    size_t n = proc_children(daemon, pids + 1, 63) + 1;
    double pss = 0, cpu = 0;
    pids[0] = daemon;
    for (size_t i = 0; i < n; i++) {
        struct proc_memory m;
        double ms;
        int r = proc_memory(pids[i], &m);
        r = r ? r : proc_cpu_ms(pids[i], &ms);
        if (r < 0) {
            return r;
        }
        pss += m.pss_kib;
        cpu += ms;
    }
    *ret_pss = pss;
    *ret_cpu_ms = cpu;
    return 0;
}

static int at_rest(struct site *s) {
    struct hearth_task task = {.pool = "demo", .handler = "echo"};
    pid_t pids[WORKERS];
    struct proc_memory daemon, worker, one;
    int r = 0;
    for (unsigned i = 0; i < 100 && r == 0; i++) {
        r = site_call(s, &task, 0);
    }
    r = r ? r : worker_pids(s, pids);
    r = r ? r : proc_memory(s->daemon.pid, &daemon);
    r = r ? r : proc_memory(pids[0], &worker);
    for (unsigned i = 1; i < WORKERS && r == 0; i++) {
        r = proc_memory(pids[i], &one);
        worker.pss_kib += one.pss_kib;
        worker.rss_kib += one.rss_kib;
        worker.private_kib += one.private_kib;
    }
    double pss, before, after;
    r = r ? r : sum(s->daemon.pid, &pss, &before);
    if (r != 0) {
        return r;
    }
    struct timespec quiet = {1, 0};
    while (nanosleep(&quiet, &quiet) < 0 && errno == EINTR) {
    }
    r = sum(s->daemon.pid, &pss, &after);
    worker.pss_kib /= WORKERS;
    worker.rss_kib /= WORKERS;
    worker.private_kib /= WORKERS;
    if (r == 0) {
        show_memory(&daemon, &worker, pss);
        struct bench_line l = {.what = "CPU of all in a second of rest",
                               .unit = "ms",
                               .ours = after - before,
                               .goal = BENCH_AT_MOST,
                               .goal_value = 1};
        bench_print(&l);
    }
    return r;
}

int tasks_start(void) {
    struct site s;
    bench_heading("Start and rest");
    int r = ready();
    r = r ? r : site_open(&s, config);
    if (r != 0) {
        return r;
    }
    r = at_rest(&s);
    if (r != 0) {
        bench_failed("the daemon at rest", r);
    }
    int end = site_close(&s);
    return r ? r : end;
}
