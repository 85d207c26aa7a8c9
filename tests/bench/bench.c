/* SPDX-License-Identifier: MIT */
/* Samples, pinning and the printed table.
 *
 * A line is: what, our figure, what stands beside it, the ratio, the goal, and whether it is met.
 * Figures keep three digits that mean something and a thousands separator, so that 1,234,567/s and
 * 12.3 us can be read in one column.
 *
 * The CPUs of the beginning are remembered at the first bench_pin(), so that a process can be bound
 * and released again in turns.
 *
 * Fails: only bench_pin(), with -errno. */
#include "tests/bench/bench.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"

bool bench_quick(void) {
    const char *text = getenv("HEARTH_BENCH_QUICK");
    return text && *text && strcmp(text, "0") != 0;
}

unsigned bench_count(unsigned full, unsigned quick) {
    return bench_quick() ? quick : full;
}

void bench_add(struct bench_samples *s, double v) {
    if (s->n < BENCH_SAMPLES) {
        s->v[s->n++] = v;
    }
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double bench_median(const struct bench_samples *s) {
    double v[BENCH_SAMPLES];
    if (s->n == 0) {
        return 0;
    }
    memcpy(v, s->v, s->n * sizeof(*v));
    qsort(v, s->n, sizeof(*v), compare);
    return s->n % 2 ? v[s->n / 2] : (v[s->n / 2 - 1] + v[s->n / 2]) / 2;
}

double bench_ratio(const struct bench_samples *a, const struct bench_samples *b) {
    struct bench_samples r = {.n = 0};
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        if (b->v[i] > 0) {
            bench_add(&r, a->v[i] / b->v[i]);
        }
    }
    return bench_median(&r);
}

double bench_seconds(uint64_t since) {
    return (double)(clock_now() - since) / (double)NS_PER_SEC;
}

int bench_pin(bool one_cpu) {
    static cpu_set_t all;
    static bool known;
    if (!known) {
        if (sched_getaffinity(0, sizeof(all), &all) < 0) {
            return -errno;
        }
        known = true;
    }
    cpu_set_t set = all;
    if (one_cpu) {
        int last = 0;
        for (int i = 0; i < CPU_SETSIZE; i++) {
            last = CPU_ISSET(i, &all) ? i : last;
        }
        CPU_ZERO(&set);
        CPU_SET(last, &set);
    }
    return sched_setaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;
}

/* "1,234,567", "12.3", "0.456": at least three digits that count. */
static void number(char out[32], double v) {
    if (fabs(v) < 1000) {
        snprintf(out, 32, "%.*f", fabs(v) < 1 ? 3 : fabs(v) < 10 ? 2 : fabs(v) < 100 ? 1 : 0, v);
        return;
    }
    char digits[32];
    int n = snprintf(digits, sizeof(digits), "%.0f", v > 1e15 ? 1e15 : v), k = 0;
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0) {
            out[k++] = ',';
        }
        out[k++] = digits[i];
    }
    out[k] = '\0';
}

static void figure(char out[48], double v, const char *unit) {
    char text[32];
    number(text, v);
    snprintf(out, 48, "%s%s%s", text, unit[0] == '/' ? "" : " ", unit);
}

void bench_heading(const char *title) {
    printf("\n%s\n%-50s %15s   %-44s %8s  %-14s\n", title, "", "measured", "beside it", "ratio",
           "goal");
    fflush(stdout);
}

static bool is_met(const struct bench_line *l, double ratio) {
    switch (l->goal) {
    case BENCH_AT_MOST:
        return l->ours <= l->goal_value;
    case BENCH_AT_LEAST:
        return l->ours >= l->goal_value;
    case BENCH_RATIO_AT_MOST:
        return ratio <= l->goal_value;
    case BENCH_RATIO_AT_LEAST:
        return ratio >= l->goal_value;
    case BENCH_NO_GOAL:
        break;
    }
    return true;
}

void bench_print(const struct bench_line *l) {
    char ours[48], beside[112] = "", ratio_text[16] = "", goal[64] = "";
    double ratio = l->ratio > 0 ? l->ratio : l->beside && l->other > 0 ? l->ours / l->other : 0;
    figure(ours, l->ours, l->unit);
    if (l->beside) {
        char other[48];
        figure(other, l->other, l->unit);
        snprintf(beside, sizeof(beside), "%s (%s)", other, l->beside);
        snprintf(ratio_text, sizeof(ratio_text), "%.2fx", ratio);
    }
    if (l->goal != BENCH_NO_GOAL) {
        char wanted[48];
        bool of_ratio = l->goal == BENCH_RATIO_AT_MOST || l->goal == BENCH_RATIO_AT_LEAST;
        if (of_ratio) {
            snprintf(wanted, sizeof(wanted), "%.4gx", l->goal_value);
        } else {
            figure(wanted, l->goal_value, l->unit);
        }
        bool most = l->goal == BENCH_AT_MOST || l->goal == BENCH_RATIO_AT_MOST;
        snprintf(goal, sizeof(goal), "%s %s: %s", most ? "<=" : ">=", wanted,
                 is_met(l, ratio) ? "met" : "not met");
    }
    printf("%-50s %15s   %-44s %8s  %s\n", l->what, ours, beside, ratio_text, goal);
    fflush(stdout);
}

void bench_compare(struct bench_line l, const struct bench_samples *ours,
                   const struct bench_samples *other) {
    l.ours = bench_median(ours);
    if (other) {
        l.other = bench_median(other);
        l.ratio = bench_ratio(ours, other);
    }
    bench_print(&l);
}

void bench_note(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    printf("    ");
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
    fflush(stdout);
}

int bench_failed(const char *what, int r) {
    fprintf(stderr, "%s: did not work: %s (%d)\n", what, r < 0 ? strerror(-r) : "refused", r);
    return r;
}
