/* SPDX-License-Identifier: MIT */
/* Letting others run between two looks of a polling loop, and noticing when that costs more than sleeping would. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What one polling thread knows about its CPU; zero at first. */
struct yield {
    uint64_t crowded_until; /* clock_now() before which polling is left alone */
    uint64_t hold_ns;       /* how long that was last time */
};

/* May this thread poll now? */
static inline bool yield_may_poll(const struct yield *y, uint64_t now) {
    return now >= y->crowded_until;
}

/* sched_yield(). Sets *now, which is clock_now() of a moment ago, to clock_now(). False: somebody kept the CPU for so long
 * that polling is no use; yield_may_poll() says false for some time, longer each time that it happens again soon. */
bool yield_cpu(struct yield *y, uint64_t *now);
