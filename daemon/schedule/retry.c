/* SPDX-License-Identifier: MIT */
/* After a failed attempt: once more, or not. What may be tried again, how often and after which
 * failures is the submitter's to say, else the pool's. The pause doubles from attempt to attempt up
 * to a longest one, a tenth more or less at random, so that tasks which failed of one cause do not
 * come back together. It keeps its place in the order: it came when it came.
 *
 * Never tried again: what was cancelled; what would begin after its deadline; anything while the
 * daemon stops; and poison, a task that has cost the pool's `poison` of workers their lives, however
 * many retries it has left. A task that had retries and has failed for good belongs to the dead
 * letters.
 *
 * Of each failed attempt a note is kept (the last ATTEMPTS_KEPT) as long as the task is known; that
 * there were attempts, and how many cost a worker, is in the record and outlives the daemon.
 *
 * Fails: without memory for a plan or a note a task is not tried again, or its note is missing. */
#include <errno.h>
#include <stdlib.h>

#include "daemon/log.h"
#include "daemon/schedule/private.h"
#include "lib/base/clock.h"

enum { STUCK_NS = 2 * 1000000, DOUBLINGS = 30, MS_MAX = 86400000 };

enum retry_kind schedule_kind(const struct task_view *v) {
    if (v->cause == CAUSE_MEMORY) {
        return RETRY_MEMORY;
    }
    switch (v->state) {
    case TASK_FAILED:
        return v->cause == CAUSE_SIGNAL ? RETRY_CRASH : RETRY_ERROR;
    case TASK_LOST:
        return v->cause == CAUSE_STOPPING ? RETRY_KINDS : RETRY_CRASH;
    case TASK_TIMEOUT:
        return v->cause == CAUSE_DEADLINE ? RETRY_KINDS : RETRY_TIMEOUT;
    default:
        return RETRY_KINDS;
    }
}

/* The daemon's end is no fault of the task's. */
static bool cost_a_worker(const struct task_view *v) {
    return v->state == TASK_LOST && v->cause != CAUSE_DAEMON;
}

/* SplitMix64. */
static uint64_t random_next(struct schedule *s) {
    uint64_t z = s->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t retry_pause(struct schedule *s, const struct policy *policy, uint32_t attempt) {
    uint32_t doublings = attempt > DOUBLINGS ? DOUBLINGS : attempt - (attempt > 0);
    uint64_t ms = policy->backoff_ms < MS_MAX ? policy->backoff_ms : MS_MAX;
    uint64_t max = policy->backoff_max_ms < MS_MAX ? policy->backoff_max_ms : MS_MAX;
    ms <<= doublings;
    ms = ms < max ? ms : max;
    uint64_t ns = ms * NS_PER_MS, fifth = ns / 5;
    return fifth ? ns - fifth / 2 + random_next(s) % fifth : ns;
}

static void note(struct plan *p, const struct task_view *v) {
    if (!p->history) {
        p->history = calloc(1, sizeof(*p->history));
    }
    if (!p->history) {
        return;
    }
    uint64_t run = v->started_ns && v->ended_ns > v->started_ns ? v->ended_ns - v->started_ns : 0;
    p->history->attempts[p->history->n++ % ATTEMPTS_KEPT] =
        (struct attempt){.ended_ms = clock_wall_ms(),
                         .run_ms = (uint32_t)(run / NS_PER_MS),
                         .pid = v->worker_pid,
                         .state = v->state,
                         .cause = v->cause,
                         .code = v->code,
                         .signal = v->signal,
                         .core = v->core};
}

/* Back to the waiting, or, while locks are busy, a little later. */
static bool put_back(struct schedule *s, struct pool *pool, uint32_t idx, const struct task_view *v,
                     uint64_t pause) {
    struct plan *p = &s->plans[idx];
    int r = task_retry(&s->d->shm, idx, v->id, cost_a_worker(v));
    if (r == -EAGAIN) {
        p->due_ns = clock_now() + STUCK_NS;
        plan_move(s, idx, STUCK);
        time_push(s, idx, TIME_DUE, p->due_ns);
        return true;
    }
    if (r < 0) {
        return false;
    }
    gate_leave(s, idx);
    pool->count.retried++;
    pool->count.retried_bytes += v->payload.len + v->args_raw.len;
    plan_wait(s, idx, clock_now() + pause);
    return true;
}

bool schedule_retry(struct hearthd *d, uint32_t idx, const struct task_view *v, bool *ret_dead) {
    struct schedule *s = d->schedule;
    struct policy policy;
    enum retry_kind kind = schedule_kind(v);
    *ret_dead = false;
    if (kind == RETRY_KINDS || v->pool >= d->n_pools) {
        return false;
    }
    struct pool *pool = &d->pools[v->pool];
    policy_get(&v->policy, pool->config, &policy);
    if (policy.retries == 0 || !plan_make(s, idx, v)) {
        return false;
    }
    struct plan *p = &s->plans[idx];
    lane_drop(s, idx);
    if (p->place != STUCK) {
        note(p, v);
    }
    bool poison = v->kills + cost_a_worker(v) >= pool->config->poison;
    uint64_t pause = retry_pause(s, &policy, v->attempt);
    bool in_time = !policy.deadline_ns || clock_now() + pause < policy.deadline_ns;
    bool again = !poison && v->attempt <= policy.retries && policy.retry_on >> kind & 1 &&
                 in_time && put_back(s, pool, idx, v, pause);
    *ret_dead = !again;
    return again;
}

bool schedule_is_dead_letter(struct hearthd *d, const struct task_view *v) {
    struct policy policy;
    if (schedule_kind(v) == RETRY_KINDS || v->pool >= d->n_pools) {
        return false;
    }
    policy_get(&v->policy, d->pools[v->pool].config, &policy);
    return policy.retries > 0;
}
