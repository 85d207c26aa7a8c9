/* SPDX-License-Identifier: MIT */
/* Asking the kernel costs as much as a short task, so it is asked about long ones only. The sample before a task is taken if
 * the last one is older than a millisecond; the sample after it if the task has run for LONG. So a run of short tasks costs
 * one question in a millisecond, and a long task is charged at most a millisecond that is not its own, and never more than it
 * took. Of shorter ones nothing is said.
 *
 * Fails: never; without an answer nothing is said. */
#include "worker/usage.h"

#include <sys/resource.h>

#include "lib/base/clock.h"

#define SAMPLE_NS NS_PER_MS
#define LONG_NS   (100 * UINT64_C(1000))

struct sample {
    uint64_t at_ns;
    uint64_t user_us, system_us;
};

static _Thread_local struct sample last;

static uint64_t us_of(const struct timeval *tv) {
    return (uint64_t)tv->tv_sec * 1000000 + (uint64_t)tv->tv_usec;
}

static struct sample take(uint64_t now) {
    struct rusage u = {0};
    getrusage(RUSAGE_THREAD, &u);
    return (struct sample){now, us_of(&u.ru_utime), us_of(&u.ru_stime)};
}

void usage_begin(uint64_t started_ns) {
    if (last.at_ns == 0 || started_ns - last.at_ns > SAMPLE_NS) {
        last = take(started_ns);
    }
}

static uint64_t at_most(uint64_t n, uint64_t most) {
    return n < most ? n : most;
}

void usage_end(uint64_t started_ns, struct task_outcome *o) {
    uint64_t now = clock_now(), ran = now - started_ns;
    if (ran < LONG_NS) {
        return;
    }
    struct sample s = take(now);
    o->user_us = at_most(s.user_us - last.user_us, ran / 1000);
    o->system_us = at_most(s.system_us - last.system_us, ran / 1000 - o->user_us);
    last = s;
}
