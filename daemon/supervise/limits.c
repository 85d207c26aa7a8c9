/* SPDX-License-Identifier: MIT */
/* What is due in the life of a running task beside its time limit: the word that its soft limit is
 * over, a look at its memory, its line in the slow log. A worker that claims a task says when the
 * daemon must look at it: at its time limit, or after pool_look_ms(), the least of what the pool and
 * its tasks want; from then on the times are reckoned from the record, in watch.now.
 *
 * Memory is measured: every MEMORY_EVERY what the process and its descendants have of their own is
 * summed up, and only while a task with such a limit runs. Memory that
 * is grown and given back between two looks is not seen; `rlimits` and a cgroup bound that.
 *
 * Told softly: a handler by a flag it can ask for; a program as it wants to hear of a cancel; a command by the pool's soft_signal to its group,
 * sent while its slot is held, so that it cannot meet the next command.
 *
 * Fails: nothing. */
#include "daemon/supervise/private.h"

#include <stdio.h>

#include "daemon/lease.h"
#include "daemon/policy.h"
#include "daemon/slow.h"
#include "daemon/supervise/family.h"
#include "daemon/tasks.h"
#include "lib/base/clock.h"

#define NEVER        UINT64_MAX
#define MEMORY_EVERY ((uint64_t)LOOK_MEMORY_MS * NS_PER_MS)

/* Learns what is wanted of the task that the worker runs now. */
static void adopt(struct worker *w, const struct task_view *t) {
    struct watch *x = watch_of(w);
    const struct pool_config *c = w->pool->config;
    struct policy p = {0};
    if (x->now.task == t->id && x->now.started_ns == t->started_ns) {
        return;
    }
    if (t->policy.len) {
        policy_get(&t->policy, c, &p);
    }
    x->now = (struct running){
        .task = t->id,
        .started_ns = t->started_ns,
        .soft_ms = p.soft_ms ? (uint32_t)p.soft_ms : c->soft_timeout_ms,
        .memory = p.memory ? p.memory : c->memory_max,
        .memory_at_ns = t->started_ns,
    };
    if (x->joined) {
        x->now.memory = 0; /* it is not ours to look into, nor to kill */
    }
}

static uint64_t soft_time(const struct running *r) {
    return r->soft_ms && !r->soft_told ? r->started_ns + r->soft_ms * NS_PER_MS : NEVER;
}

static uint64_t slow_time(const struct worker *w, const struct running *r) {
    uint32_t ms = w->pool->config->slow_after_ms;
    return ms && !r->slow_told ? r->started_ns + ms * NS_PER_MS : NEVER;
}

static uint64_t memory_time(const struct running *r) {
    return r->memory ? r->memory_at_ns : NEVER;
}

uint64_t limits_time(struct worker *w, const struct task_view *t) {
    adopt(w, t);
    const struct running *r = &watch_of(w)->now;
    uint64_t at = soft_time(r), slow = slow_time(w, r), memory = memory_time(r);
    at = at < slow ? at : slow;
    return at < memory ? at : memory;
}

static void tell_softly(struct supervise *s, struct worker *w, uint32_t idx, uint64_t task) {
    struct shm *shm = &s->d->shm;
    int sig = w->pool->config->kind == POOL_EXEC ? w->pool->config->soft_signal : 0;
    slot_hold(shm, w->slot, true);
    if (worker_runs(s, w, task)) {
        task_set_soft(shm, idx, task, sig);
        if (sig) {
            worker_signal_command(s, w, sig);
        } else if (w->lease && lease_hears(w->lease)) {
            lease_stop(s->d, w->lease, CAUSE_SOFT);
        }
    }
    slot_hold(shm, w->slot, false);
}

void limits_look(struct supervise *s, struct worker *w, uint32_t idx, const struct task_view *t,
                 uint64_t now) {
    adopt(w, t);
    struct running *r = &watch_of(w)->now;
    if (soft_time(r) <= now) {
        r->soft_told = true;
        tell_softly(s, w, idx, t->id);
    }
    if (slow_time(w, r) <= now) {
        char where[SLOW_WHERE];
        r->slow_told = true;
        if (watch_of(w)->joined) {
            snprintf(where, sizeof(where), "a worker that has joined");
        } else {
            family_where(w->pid, where, sizeof(where));
        }
        slow_add(s->d, idx, t, where);
    }
    if (memory_time(r) <= now) {
        r->memory_at_ns = now + MEMORY_EVERY;
        if (family_memory(w->pid) > r->memory) {
            w->kill_task_id = t->id;
            w->kill_cause = CAUSE_MEMORY;
            w->kill_at_ns = now;
        }
    }
}

void limits_pool(struct supervise *s, struct pool *p) {
    if (tasks_live(s->d, p) == 0) {
        p->look_ms = 0;
    }
    task_look_after(&s->d->shm, p->index, pool_look_ms(p));
}
