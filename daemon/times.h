/* SPDX-License-Identifier: MIT */
/* A distribution of durations over the last minute or so, in a fixed amount of memory: adding is a
 * few instructions, and percentiles are within an eighth of the truth. */
#pragma once

#include <stdint.h>

enum {
    TIMES_SUB = 8,      /* buckets per doubling */
    TIMES_OCTAVES = 34, /* up to 2^36 us, 19 hours; what is longer counts as that */
    TIMES_BUCKETS = TIMES_SUB * (TIMES_OCTAVES + 1),
    TIMES_SLICES = 4,
    TIMES_SLICE_S = 15,
};

struct times_slice {
    uint64_t number; /* of its 15 seconds since the clock began */
    uint64_t max_us;
    uint32_t n[TIMES_BUCKETS];
};

struct times {
    struct times_slice slices[TIMES_SLICES];
    uint64_t count, sum_us; /* ever */
};

struct times_view {
    uint64_t count; /* in the window */
    uint64_t p50_us, p90_us, p99_us, max_us;
};

/* Zeroed memory is an empty one. at_ns: CLOCK_MONOTONIC, when it was. */
void times_add(struct times *t, uint64_t at_ns, uint64_t us);
/* Over the 45 to 60 seconds before now. All 0 when there was nothing. */
void times_view(const struct times *t, uint64_t now_ns, struct times_view *ret);
