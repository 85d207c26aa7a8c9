/* SPDX-License-Identifier: MIT */
/* What the measurements share: samples and their medians, the CPU a process is bound to, and the
 * table that is printed. Times are noisy, so whatever is compared is measured in
 * turns within one run, and the ratio is the median of the turns' ratios. Nothing here judges:
 * a goal missed is printed, never a failure. Not for several threads. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BENCH_SAMPLES = 64 };

struct bench_samples {
    double v[BENCH_SAMPLES];
    size_t n;
};

/* HEARTH_BENCH_QUICK is set: a run to see that everything works, of a second or two. */
bool bench_quick(void);
/* One of the two, by that. */
unsigned bench_count(unsigned full, unsigned quick);

/* More than BENCH_SAMPLES are dropped. */
void bench_add(struct bench_samples *s, double v);
/* 0 when there are none. */
double bench_median(const struct bench_samples *s);
/* Median of a.v[i] / b.v[i], over the turns that both have. */
double bench_ratio(const struct bench_samples *a, const struct bench_samples *b);
/* Seconds since `since` (clock_now()). */
double bench_seconds(uint64_t since);

/* Binds this process, and what it starts from now on, to one CPU; to all that it began with. 0 or
 * -errno. */
int bench_pin(bool one_cpu);

enum bench_goal {
    BENCH_NO_GOAL,
    BENCH_AT_MOST,  /* of the figure itself */
    BENCH_AT_LEAST, /* of the figure itself */
    BENCH_RATIO_AT_MOST,
    BENCH_RATIO_AT_LEAST,
};

struct bench_line {
    const char *what;
    const char *unit;   /* "us", "/s", "ms", "KiB", ... */
    double ours;        /* the figure */
    const char *beside; /* what it is compared with; NULL: nothing */
    double other;
    double ratio; /* 0: ours / other */
    enum bench_goal goal;
    double goal_value;
};

/* A heading, then lines below it. */
void bench_heading(const char *title);
void bench_print(const struct bench_line *l);
/* The usual line: medians of both and the ratio of the turns. `other` may be NULL. */
void bench_compare(struct bench_line l, const struct bench_samples *ours,
                   const struct bench_samples *other);
/* A sentence below a line. */
void bench_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Says what did not work and gives r back. */
int bench_failed(const char *what, int r);
