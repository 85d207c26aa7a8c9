/* SPDX-License-Identifier: MIT */
/* Processes: PROC.START and PROC.WAIT of /bin/true by libhearth, beside posix_spawn() and waitpid() of the same program by a small
 * process. Both are measured in turns.
 *
 * Fails: a process that does not start, or does not end well. */
#include <errno.h>

#include "lib/base/clock.h"
#include "tests/bench/bench.h"
#include "tests/bench/raw.h"
#include "tests/bench/tasks.h"

/* Microseconds of one, start and wait. */
static int start_and_wait(struct site *s, unsigned n, bool captured, double *ret_us) {
    static const char *const argv[] = {"/bin/true", NULL};
    static const int fds[] = {HEARTH_PROC_NULL, HEARTH_PROC_NULL, HEARTH_PROC_NULL};
    const struct hearth_proc p = {.argv = argv, .fds = captured ? NULL : fds};
    uint64_t t = clock_now();
    for (unsigned i = 0; i < n; i++) {
        char id[HEARTH_ID_MAX + 1];
        struct hearth_proc_info info;
        int r = hearth_proc_start(s->h, &p, id, NULL);
        r = r ? r : hearth_proc_wait(s->h, id, -1, &info);
        if (r != 0 || info.exit_status != 0) {
            return r ? r : -EBADMSG;
        }
    }
    *ret_us = bench_seconds(t) * 1e6 / n;
    return 0;
}

static int measure(struct site *s) {
    static const char *const names[] = {"PROC.START and PROC.WAIT of /bin/true",
                                        "the same, its output captured"};
    struct bench_samples us[2] = {{.n = 0}}, raw = {.n = 0};
    unsigned n = bench_count(200, 10);
    for (unsigned i = 0; i < bench_count(11, 2); i++) {
        double rate = 1, v[2];
        int r = raw_spawn(n, 1, &rate);
        for (int k = 0; k < 2 && r == 0; k++) {
            r = start_and_wait(s, n, k == 1, &v[k]);
        }
        if (r != 0) {
            return bench_failed("processes", r);
        }
        bench_add(&raw, 1e6 / rate);
        bench_add(&us[0], v[0]);
        bench_add(&us[1], v[1]);
    }
    for (int k = 0; k < 2; k++) {
        bench_compare((struct bench_line){.what = names[k],
                                          .unit = "us",
                                          .beside = "posix_spawn and waitpid",
                                          .goal = BENCH_RATIO_AT_MOST,
                                          .goal_value = 1.3},
                      &us[k], &raw);
    }
    return 0;
}

int tasks_process(void) {
    static const char *const headings[] = {"Processes, all on one CPU",
                                           "Processes, free to use all CPUs"};
    int r = 0;
    for (int free_to_move = 0; free_to_move < 2 && r == 0; free_to_move++) {
        struct site s = {.h = NULL};
        r = bench_pin(!free_to_move);
        bench_heading(headings[free_to_move]);
        r = r < 0 ? r : site_open(&s, "");
        r = r ? r : measure(&s);
        int end = site_close(&s);
        r = r ? r : end;
    }
    return r;
}
