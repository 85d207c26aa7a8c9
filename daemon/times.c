/* SPDX-License-Identifier: MIT */
/* A log-linear histogram, as Gil Tene's HdrHistogram (https://hdrhistogram.org) has it: each doubling of the value is cut into eight equal buckets, so a bucket's width is at most an
 * eighth of what it stands for, and its number is two shifts and a subtraction. Values below eight
 * have a bucket each.
 *
 * The window slides in steps: four histograms of 15 seconds each, of which the oldest is emptied
 * when its turn comes again. A reader adds up those that are not too old. What is added late, after
 * its slice was emptied, is counted in the present one: an end is told within milliseconds.
 *
 * A percentile is the upper edge of the bucket it falls into, but never more than the greatest value
 * seen, so that one task shows the time it took and not a rounder one.
 *
 * Fails: nothing here fails. */
#include "daemon/times.h"

#include <string.h>

#include "lib/base/clock.h"

static uint32_t bucket_of(uint64_t us) {
    if (us < TIMES_SUB) {
        return (uint32_t)us;
    }
    uint32_t octave = 61 - (uint32_t)__builtin_clzll(us); /* 8 to 15: 1 */
    uint32_t b = octave * TIMES_SUB + (uint32_t)(us >> (octave - 1) & (TIMES_SUB - 1));
    return b < TIMES_BUCKETS ? b : TIMES_BUCKETS - 1;
}

/* The greatest value that falls into it. */
static uint64_t edge_of(uint32_t bucket) {
    uint32_t octave = bucket / TIMES_SUB;
    if (octave == 0) {
        return bucket;
    }
    return ((uint64_t)(TIMES_SUB + bucket % TIMES_SUB + 1) << (octave - 1)) - 1;
}

static uint64_t slice_of(uint64_t ns) {
    return ns / (TIMES_SLICE_S * NS_PER_SEC) + 1; /* 0: never used */
}

void times_add(struct times *t, uint64_t at_ns, uint64_t us) {
    uint64_t number = slice_of(at_ns);
    struct times_slice *s = &t->slices[number % TIMES_SLICES];
    if (s->number < number) {
        memset(s, 0, sizeof(*s));
        s->number = number;
    }
    s->n[bucket_of(us)]++;
    s->max_us = us > s->max_us ? us : s->max_us;
    t->count++;
    t->sum_us += us;
}

static uint64_t percentile(const uint64_t sums[TIMES_BUCKETS], const struct times_view *v,
                           uint64_t percent) {
    uint64_t want = (v->count * percent + 99) / 100, seen = 0;
    for (uint32_t b = 0; b < TIMES_BUCKETS; b++) {
        seen += sums[b];
        if (seen >= want) {
            uint64_t edge = edge_of(b);
            return edge < v->max_us ? edge : v->max_us;
        }
    }
    return v->max_us;
}

void times_view(const struct times *t, uint64_t now_ns, struct times_view *ret) {
    uint64_t sums[TIMES_BUCKETS] = {0}, now = slice_of(now_ns);
    struct times_view v = {0};
    for (uint32_t i = 0; i < TIMES_SLICES; i++) {
        const struct times_slice *s = &t->slices[i];
        if (s->number == 0 || s->number + TIMES_SLICES <= now) {
            continue;
        }
        for (uint32_t b = 0; b < TIMES_BUCKETS; b++) {
            sums[b] += s->n[b];
            v.count += s->n[b];
        }
        v.max_us = s->max_us > v.max_us ? s->max_us : v.max_us;
    }
    if (v.count > 0) {
        v.p50_us = percentile(sums, &v, 50);
        v.p90_us = percentile(sums, &v, 90);
        v.p99_us = percentile(sums, &v, 99);
    }
    *ret = v;
}
