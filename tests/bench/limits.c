/* SPDX-License-Identifier: MIT */
/* The benchmark `limits`: what this machine can do at best, measured with the bare primitives that
 * Hearth is made of. Nothing of Hearth runs here, so nothing has a goal; what `tasks` prints is to
 * be read against these figures.
 *
 * Each primitive is measured twice, once with all its processes bound to one CPU, where a wake-up
 * is a plain switch, and once free, where on virtual machines a wake-up of a sleeper on another CPU
 * may cost ten times as much. All rigs stay open and are measured in turns, so that a busy moment
 * of the machine meets all of them.
 *
 * Fails: exit status 1 when a primitive does not work. */
#include <stdio.h>

#include "tests/bench/bench.h"
#include "tests/bench/raw.h"
#include "tests/support/child.h"

enum { KINDS = RAW_CHAIN_POLL + 1 };

struct trial {
    struct raw raw;
    bool bound;
    struct bench_samples us;
};

static int measure_trips(struct trial *t, unsigned turns) {
    for (unsigned i = 0; i < turns; i++) {
        for (unsigned k = 0; k < 2 * KINDS; k++) {
            double us;
            int r = bench_pin(t[k].bound);
            bool large = t[k].raw.kind == RAW_MEBIBYTE;
            r = r < 0 ? r : raw_trips(&t[k].raw, bench_count(large ? 50 : 2000, 20), &us);
            if (r < 0) {
                return bench_failed(raw_names[t[k].raw.kind], r);
            }
            bench_add(&t[k].us, us);
        }
    }
    return 0;
}

static int trips(void) {
    static struct trial t[2 * KINDS];
    int r = 0;
    unsigned opened = 0;
    for (; opened < 2 * KINDS && r == 0; opened++) {
        t[opened].bound = opened < KINDS;
        r = bench_pin(t[opened].bound);
        r = r < 0 ? r : raw_open(&t[opened].raw, (enum raw_kind)(opened % KINDS));
        if (r < 0) {
            bench_failed("opening a rig", r);
            break;
        }
    }
    r = r < 0 ? r : measure_trips(t, bench_count(11, 2));
    for (unsigned k = 0; k < 2 * KINDS && r == 0; k++) {
        if (k % KINDS == 0) {
            bench_heading(k == 0 ? "Round trips, all processes on one CPU"
                                 : "Round trips, free to use all CPUs");
        }
        bench_compare((struct bench_line){.what = raw_names[k % KINDS], .unit = "us"}, &t[k].us,
                      NULL);
    }
    for (unsigned k = 0; k < opened; k++) {
        raw_close(&t[k].raw);
    }
    return r;
}

static int pipelines(void) {
    static const unsigned flights[] = {1, 32, 256};
    bench_heading("4-hop chain that coalesces, free to use all CPUs");
    struct raw chain;
    int r = bench_pin(false);
    r = r < 0 ? r : raw_open(&chain, RAW_CHAIN);
    if (r < 0) {
        return bench_failed("opening the chain", r);
    }
    for (unsigned k = 0; k < 3 && r == 0; k++) {
        struct bench_samples s = {.n = 0};
        for (unsigned i = 0; i < bench_count(7, 2) && r == 0; i++) {
            double rate = 0;
            r = raw_pipeline(&chain, bench_count(2000 * flights[k], 50 * flights[k]), flights[k],
                             &rate);
            bench_add(&s, rate);
        }
        char what[64];
        snprintf(what, sizeof(what), "messages, %u under way", flights[k]);
        bench_compare((struct bench_line){.what = what, .unit = "/s"}, &s, NULL);
    }
    raw_close(&chain);
    return r < 0 ? bench_failed("the chain", r) : 0;
}

static int rates(void) {
    static const char *const names[] = {
        "ring in shared memory, 8-byte messages",  "posix_spawn of /bin/true, one at a time",
        "posix_spawn of /bin/true, two at a time", "posix_spawn of /bin/true, by two processes",
        "fork of a small process, and its end",
    };
    enum { RATES = sizeof(names) / sizeof(*names) };
    struct bench_samples s[RATES] = {{.n = 0}};
    unsigned n = bench_count(400, 20);
    bench_heading("Rates, free to use all CPUs");
    for (unsigned i = 0; i < bench_count(7, 1); i++) {
        double v[RATES] = {0};
        int r = raw_ring(bench_count(5000000, 100000), &v[0]);
        r = r < 0 ? r : raw_spawn(n, 1, &v[1]);
        r = r < 0 ? r : raw_spawn(n, 2, &v[2]);
        r = r < 0 ? r : raw_spawn_two(n, &v[3]);
        r = r < 0 ? r : raw_fork(n, &v[4]);
        if (r < 0) {
            return bench_failed("ring and processes", r);
        }
        for (unsigned k = 0; k < RATES; k++) {
            bench_add(&s[k], v[k]);
        }
    }
    for (unsigned k = 0; k < RATES; k++) {
        bench_compare((struct bench_line){.what = names[k], .unit = "/s"}, &s[k], NULL);
    }
    return 0;
}

int main(void) {
    int r = trips();
    r = r < 0 ? r : pipelines();
    r = r < 0 ? r : rates();
    child_kill_all();
    return r < 0 ? 1 : 0;
}
