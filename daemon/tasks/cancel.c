/* SPDX-License-Identifier: MIT */
/* Ending tasks before their time: those that wait end at once, by the state word, which only one of us and a worker gets; those
 * that run are told, and the worker's end is planned (supervise/deadline.c) for the case that they do not listen. Also what was
 * ordered of one worker, which nobody else will do.
 *
 * Fails: as tasks.h says. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "daemon/groups.h"
#include "daemon/lease.h"
#include "daemon/schedule.h"
#include "daemon/tasks/private.h"
#include "lib/base/clock.h"

int entry_end_queued(struct hearthd *d, uint32_t idx, enum task_state state,
                     enum task_cause cause) {
    struct task_view v;
    int r = task_view(&d->shm, idx, &v);
    if (r < 0) {
        return r;
    }
    r = task_end_queued(&d->shm, idx, d->tasks->book[idx].id, state, cause);
    if (r < 0) {
        return r;
    }
    if (v.pool < d->n_pools) {
        struct pool_counters *c = &d->pools[v.pool].count;
        c->cancelled_queued++;
        c->cancelled_queued_bytes += v.payload.len + v.args_raw.len;
    }
    return 0;
}

/* Tells a running task to stop, and plans what happens if it does not: a handler that is late has no
 * grace, as with its time limit. */
static void stop_running(struct hearthd *d, uint32_t idx, const struct task_view *v,
                         enum task_cause why) {
    if (why == CAUSE_DEADLINE) {
        task_set_late(&d->shm, idx, v->id);
    } else {
        task_set_cancel(&d->shm, idx, v->id);
    }
    uint32_t slot = (v->owner & 0xffff) - 1;
    struct shm_usage u;
    shm_usage(&d->shm, &u);
    struct worker *w = slot < u.slots ? d->workers[slot] : NULL;
    if (!w) {
        return; /* it is dead already: the reaper ends the task */
    }
    const struct pool_config *c = w->pool->config;
    bool hears = c->kind == POOL_EXEC || (w->lease && lease_hears(w->lease));
    bool at_once = why == CAUSE_DEADLINE && !hears;
    uint64_t at = clock_now() + (at_once ? 0 : (uint64_t)c->kill_grace_ms * NS_PER_MS);
    if (w->kill_at_ns && w->kill_task_id == v->id && w->kill_at_ns <= at) {
        return;
    }
    w->kill_at_ns = at;
    w->kill_task_id = v->id;
    w->kill_cause = (int)why;
    d->check_deadlines = true;
    if (w->lease && hears) {
        lease_stop(d, w->lease, why);
    }
}

/* 0: it was queued and has ended (not delivered yet); 1: it runs and has been told; -EALREADY. */
static int cancel(struct hearthd *d, uint32_t idx) {
    if (entry_end_queued(d, idx, TASK_CANCELLED, CAUSE_CANCELLED) == 0) {
        return 0;
    }
    struct task_view v;
    if (task_view(&d->shm, idx, &v) < 0 || v.state != TASK_RUNNING) {
        return -EALREADY; /* its end is on the way to us */
    }
    stop_running(d, idx, &v, CAUSE_CANCELLED);
    return 1;
}

void tasks_expire(struct hearthd *d, uint32_t idx) {
    struct task_view v;
    if (d->tasks->book[idx].where == LIVE && task_view(&d->shm, idx, &v) == 0 && v.attempt == 0 &&
        entry_end_queued(d, idx, TASK_EXPIRED, CAUSE_EXPIRED) == 0) {
        tasks_ended(d, idx);
    }
}

void tasks_deadline(struct hearthd *d, uint32_t idx) {
    struct task_view v;
    if (d->tasks->book[idx].where != LIVE || task_view(&d->shm, idx, &v) < 0) {
        return;
    }
    if (entry_end_queued(d, idx, v.attempt ? TASK_TIMEOUT : TASK_EXPIRED, CAUSE_DEADLINE) == 0) {
        tasks_ended(d, idx);
    } else if (task_view(&d->shm, idx, &v) == 0 && v.state == TASK_RUNNING) {
        stop_running(d, idx, &v, CAUSE_DEADLINE);
    }
}

int tasks_cancel(struct hearthd *d, uint32_t idx, const char *text) {
    struct tasks *t = d->tasks;
    if (idx >= t->n || !entry_is_known(t->book[idx].where)) {
        return -ENOENT;
    }
    struct entry *e = &t->book[idx];
    if (e->where != LIVE) {
        return -EALREADY;
    }
    int r = cancel(d, idx);
    if (r < 0) {
        return r;
    }
    e->cancelled = 1;
    if (!e->text && text) {
        e->text = strdup(text); /* without it the cause merely names nobody */
    }
    if (r == 0) {
        tasks_ended(d, idx);
    }
    return 0;
}

void tasks_replace(struct hearthd *d, uint32_t idx) {
    tasks_cancel(d, idx, "its replacement");
    schedule_drop_unique(d, idx);
}

bool tasks_abandon(struct hearthd *d, uint32_t idx) {
    struct tasks *t = d->tasks;
    assert(idx < t->n);
    struct entry *e = &t->book[idx];
    if (e->where != LIVE) {
        if (e->where == KEPT || e->where == FETCHED) {
            entry_forget(d, idx);
        }
        return false;
    }
    e->orphaned = 1;
    schedule_drop_unique(d, idx);
    groups_leave(d, idx);
    cancel(d, idx);
    tasks_ended(d, idx); /* unless it still runs */
    return true;
}

static void order_lost(struct hearthd *d, uint32_t idx) {
    struct entry *e = &d->tasks->book[idx];
    if (entry_end_queued(d, idx, TASK_LOST, CAUSE_NONE) == 0) {
        if (!e->text) {
            e->text = strdup("its worker has left");
        }
        tasks_ended(d, idx);
    }
}

void tasks_order(struct hearthd *d, uint32_t idx, uint32_t slot) {
    struct entry *e = &d->tasks->book[idx];
    assert(idx < d->tasks->n && e->where == LIVE);
    e->cancelled = 1;
    if (task_order(&d->shm, idx, e->id, slot) < 0) {
        order_lost(d, idx);
    }
}

void tasks_order_lost(struct hearthd *d, uint64_t order) {
    uint32_t idx;
    uint64_t id;
    if (task_order_of(&d->shm, order, &idx, &id) == 0 && d->tasks->book[idx].where == LIVE &&
        d->tasks->book[idx].id == id) {
        order_lost(d, idx);
    }
}

void tasks_end_all_queued(struct hearthd *d, enum task_state state, enum task_cause cause) {
    struct tasks *t = d->tasks;
    for (uint32_t i = 0; i < SHM_POOLS; i++) {
        for (uint32_t at = t->live[i].first; at;) {
            uint32_t idx = at - 1;
            at = t->book[idx]
                     .link[STATE]
                     .next; /* delivering one end makes no other task leave this chain */
            if (entry_end_queued(d, idx, state, cause) == 0) {
                tasks_ended(d, idx);
            }
        }
    }
}
