/* SPDX-License-Identifier: MIT */
/* A poller yields so that whoever it waits for can run on its CPU. When that is all who want the CPU, it comes back within
 * microseconds. When somebody is there who computes, the kernel gives him a whole slice, some milliseconds, and a poller
 * gets none of the credit that a sleeper has when it is woken: then each look costs a slice, and sleeping is far better.
 *
 * How long a yield took tells the two apart, whatever the reason is (a loaded machine, a small cgroup share, another
 * virtual machine). After such a loss polling is left alone for some times as long as it lasted; when it is tried again and
 * soon lost again, for twice as long, up to HOLD_MAX, so that little is lost to trying on a machine that stays crowded,
 * and little of polling's gain on one that is so now and then.
 *
 * Fails: nothing here fails. */
#include "lib/base/yield.h"

#include <sched.h>

#include "lib/base/clock.h"

#define LOST     (300 * UINT64_C(1000)) /* no answer to a message takes as long, a slice takes longer */
#define HOLD_MAX (500 * NS_PER_MS)

enum { HOLD_TIMES = 16 };

bool yield_cpu(struct yield *y, uint64_t *now) {
    uint64_t before = *now;
    sched_yield();
    *now = clock_now();
    uint64_t lost = *now - before;
    if (lost < LOST) {
        return true;
    }
    bool again = before - y->crowded_until < y->hold_ns / 2;
    y->hold_ns = again ? y->hold_ns * 2 : lost * HOLD_TIMES;
    y->hold_ns = y->hold_ns < HOLD_MAX ? y->hold_ns : HOLD_MAX;
    y->crowded_until = *now + y->hold_ns;
    return false;
}
