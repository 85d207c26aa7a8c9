/* SPDX-License-Identifier: MIT */
/* The end of a task, once: noticed by a hint or a look, tried again if it may be, written down first if it is durable, and
 * delivered to who waits. And records that do not make sense, whose tasks end here all the same.
 *
 *     hint --> ended? --retry--> QUEUED again
 *                |  \--durable--> saving --on the disk, or cannot be--\
 *                \----------------------------------------------------> finish: counted, moved, told
 *
 * Fails: nothing; an end that cannot be written down is told at once. Logs a record that does not make sense. */
#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/durable.h"
#include "daemon/events.h"
#include "daemon/groups.h"
#include "daemon/log.h"
#include "daemon/oom.h"
#include "daemon/schedule.h"
#include "daemon/stream.h"
#include "daemon/tasks/private.h"
#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/shm/adopt.h"
#include "lib/shm/slot.h"

void tasks_wait(struct hearthd *d, uint32_t idx, struct task_waiter *w) {
    struct entry *e = &d->tasks->book[idx];
    assert(idx < d->tasks->n && e->where == LIVE);
    list_append(&e->waiters, &w->node);
}

void tasks_unwait(struct task_waiter *w) {
    list_del(&w->node);
}

struct task_waiter *tasks_waiter(struct hearthd *d, uint32_t idx,
                                 bool (*is)(const struct task_waiter *w, const void *arg),
                                 const void *arg) {
    struct entry *e = &d->tasks->book[idx];
    assert(idx < d->tasks->n && e->where == LIVE);
    list_for_each (it, &e->waiters) {
        struct task_waiter *w = list_entry(it, struct task_waiter, node);
        if (is(w, arg)) {
            return w;
        }
    }
    return NULL;
}

void tasks_on_ended(struct hearthd *d,
                    bool (*fn)(struct hearthd *d, uint32_t idx, const struct task_view *v)) {
    d->tasks->on_ended = fn;
}

static void count_end(struct hearthd *d, const struct task_view *v) {
    d->tasks->ended[v->state]++;
    if (v->pool >= d->n_pools) {
        return;
    }
    struct pool_counters *c = &d->pools[v->pool].count;
    switch (v->state) {
    case TASK_DONE:
        c->done++;
        break;
    case TASK_FAILED:
        c->failed++;
        break;
    case TASK_LOST:
        c->lost++;
        break;
    case TASK_TIMEOUT:
        c->timeout++;
        break;
    case TASK_EXPIRED:
        c->expired++;
        break;
    default:
        c->cancelled++;
        break;
    }
}

static void deliver(struct hearthd *d, uint32_t idx, const struct task_view *v) {
    struct tasks *t = d->tasks;
    struct entry *e = &t->book[idx];
    struct list waiters;
    list_init(&waiters);
    while (!list_empty(&e->waiters)) {
        struct list *node = e->waiters.next;
        list_del(node);
        list_append(&waiters, node);
    }
    /* Pinned: no waiter's fetch, nor what it makes others do, takes the record away under the rest.
     */
    tasks_pin(d, idx);
    while (!list_empty(&waiters)) {
        struct task_waiter *w = list_first(&waiters, struct task_waiter, node);
        list_del(&w->node);
        w->ended(w, idx, v);
    }
    if (!e->orphaned && t->on_ended && t->on_ended(d, idx, v)) {
        tasks_fetched(d, idx);
    }
    stream_ended(d, idx, v);
    tasks_unpin(d, idx);
}

/* A record that cannot be read still ends in one event. */
static void view_damaged(struct hearthd *d, uint32_t idx, struct task_view *ret) {
    struct entry *e = &d->tasks->book[idx];
    char id[TASK_ID_TEXT];
    task_id_text(id, e->id, idx);
    log_err(LOG_ABOUT(.message = MESSAGE_SEGMENT_DAMAGED, .task = id),
            "the record of task %s does not make sense: another process has damaged the segment",
            id);
    free(e->text);
    e->text = strdup("record damaged");
    *ret = entry_view_lost(e);
}

/* Is the worker in this slot at a task whose record does not say so? Then what it runs has written
 * over the record, or somebody else has. Two equal looks at the slot with one at the record between
 * them: an honest worker has begun no task that is not RUNNING by it. */
static bool is_astray(struct hearthd *d, uint32_t slot, uint32_t idx) {
    struct slot_view a, b;
    struct task_view v;
    slot_view(&d->shm, slot, &a);
    if (a.hand != (uint64_t)idx + 1 || a.started_ns == 0) {
        return false;
    }
    int r = task_view(&d->shm, idx, &v);
    slot_view(&d->shm, slot, &b);
    return b.hand == a.hand && b.started_ns == a.started_ns &&
           (r < 0 || v.state != TASK_RUNNING || (v.owner & 0xffff) != slot + 1);
}

/* Who still runs a task whose record is lost is out of everybody's control: no limit or cancel would
 * ever meet it. */
static void stop_astray(struct hearthd *d, uint32_t idx) {
    struct shm_usage u;
    shm_usage(&d->shm, &u);
    for (uint32_t i = 0; i < u.slots; i++) {
        if (d->workers[i] && is_astray(d, i, idx)) {
            d->workers[i]->astray = true;
            d->check_deadlines = true;
        }
    }
}

/* Running, says the record, but by a worker that has another in hand. */
static bool is_nobodys(struct hearthd *d, uint32_t idx, const struct task_view *v) {
    uint32_t slot = (v->owner & 0xffff) - 1;
    struct shm_usage u;
    struct slot_view w;
    struct task_view again;
    if (v->state != TASK_RUNNING) {
        return false;
    }
    shm_usage(&d->shm, &u);
    if (slot < u.slots) {
        slot_view(&d->shm, slot, &w);
        if (w.hand == (uint64_t)idx + 1) {
            return false;
        }
    }
    return task_view(&d->shm, idx, &again) == 0 && again.state == v->state &&
           again.owner == v->owner && again.attempt == v->attempt;
}

static uint64_t expiry_of(const struct hearthd *d) {
    return d->tasks->now_ns + (uint64_t)d->config->result_keep_ms * NS_PER_MS;
}

/* It has failed, but this is not its end. *ret_dead: it is, and it belongs to the dead letters. */
static bool tried_again(struct hearthd *d, uint32_t idx, const struct task_view *v,
                        bool *ret_dead) {
    struct entry *e = &d->tasks->book[idx];
    if ((d->stopping && !d->kept) || e->cancelled || e->orphaned ||
        schedule_kind(v) == RETRY_KINDS ||
        (!e->planned && d->pools[e->pool].config->retries == 0)) {
        return false;
    }
    bool again = schedule_retry(d, idx, v, ret_dead);
    if (again) {
        events_retried(d, idx, v);
        if (e->durable) {
            durable_attempt(d, idx);
        }
    }
    e->planned = schedule_knows(d, idx);
    *ret_dead = *ret_dead && d->pools[e->pool].config->dead_letters > 0;
    return again;
}

/* Those that are too many, the oldest first: from now on results like any other. */
static void drop_dead(struct hearthd *d, uint32_t pool) {
    struct tasks *t = d->tasks;
    while (t->dead[pool].n > d->pools[pool].config->dead_letters) {
        uint32_t idx = t->dead[pool].first - 1;
        t->dead_dropped++;
        t->book[idx].expires_ns = expiry_of(d);
        entry_move(t, idx, KEPT);
    }
}

uint64_t entry_weight(const struct task_view *v, bool stream) {
    return (v->payload.len + v->output.len + v->args_raw.len + v->log.len +
            (stream ? v->stream_bytes : 0)) /
               WEIGHT_UNIT +
           1;
}

/* The one event of a task that was LIVE. */
static void finish(struct hearthd *d, uint32_t idx, const struct task_view *v, bool dead) {
    struct tasks *t = d->tasks;
    struct entry *e = &t->book[idx];
    if (e->planned) {
        schedule_ended(d, idx);
    }
    count_end(d, v);
    events_ended(d, idx, v);
    uint64_t weight = entry_weight(v, stream_stays(d, v));
    e->expires_ns = expiry_of(d);
    e->weight = weight & WEIGHT_MAX;
    entry_move(t, idx, dead ? DEAD : KEPT);
    task_set_told(&d->shm, idx, e->id);
    deliver(d, idx, v);
    if (dead) {
        drop_dead(d, e->pool);
    }
    groups_ended(d, idx, v->state);
    entries_drop_kept(d);
    if (e->orphaned && entry_is_known(e->where)) {
        entry_forget(d, idx);
    }
}

/* Died of a SIGKILL that is not ours, or a shell says that of its child; and the kernel has killed. */
static bool was_short_of_memory(struct tasks *t, const struct task_view *v) {
    bool killed = (v->cause == CAUSE_SIGNAL && v->signal == SIGKILL) ||
                  (v->cause == CAUSE_EXIT && v->code == 128 + SIGKILL);
    return (v->state == TASK_FAILED || v->state == TASK_LOST) && killed && oom_killed(t->oom);
}

/* Notes that the end is being written down, and is to be told after that. False: it cannot be, and is told at once. */
static bool save(struct hearthd *d, uint32_t idx, const struct task_view *v, bool dead) {
    struct tasks *t = d->tasks;
    struct entry *e = &t->book[idx];
    uint64_t batch = durable_may(d) == 0 ? durable_end(d, idx, v) : 0;
    if (!batch || e->orphaned) {
        return false;
    }
    const struct saving s = {batch, e->id, idx, dead};
    if (buf_append(&t->saving, &s, sizeof(s)) < 0) {
        return false;
    }
    e->saving = 1;
    return true;
}

/* For durable_on_change(). */
void ends_saved(struct hearthd *d, uint64_t done, const char *trouble) {
    struct tasks *t = d->tasks;
    struct saving s;
    while (buf_len(&t->saving) > 0) {
        memcpy(&s, buf_head(&t->saving), sizeof(s));
        if (s.batch > done && !trouble) {
            break;
        }
        buf_consume(&t->saving, sizeof(s));
        struct entry *e = &t->book[s.idx];
        struct task_view v;
        if (e->where != LIVE || e->id != s.id) {
            continue;
        }
        e->saving = 0;
        if (task_view(&d->shm, s.idx, &v) < 0 || v.id != s.id) {
            tasks_damaged(d, s.idx);
        } else {
            finish(d, s.idx, &v, s.dead);
        }
    }
}

void tasks_ended(struct hearthd *d, uint32_t idx) {
    struct tasks *t = d->tasks;
    if (idx >= t->n || t->book[idx].where != LIVE || t->book[idx].saving) {
        return;
    }
    struct task_view v;
    bool dead = false;
    int r = task_view(&d->shm, idx, &v);
    if (r == 0 && v.id == t->book[idx].id) {
        stream_look(d, idx, v.id, task_state_is_terminal(v.state));
    }
    if (r == 0 && v.id == t->book[idx].id && was_short_of_memory(t, &v)) {
        task_set_cause(&d->shm, idx, v.id, CAUSE_MEMORY);
        r = task_view(&d->shm, idx, &v);
    }
    if (r < 0 || is_nobodys(d, idx, &v)) {
        tasks_damaged(d, idx);
    } else if (v.id == t->book[idx].id && task_state_is_terminal(v.state) &&
               !tried_again(d, idx, &v, &dead) &&
               !(t->book[idx].durable && save(d, idx, &v, dead))) {
        finish(d, idx, &v, dead);
    }
}

void tasks_damaged(struct hearthd *d, uint32_t idx) {
    struct tasks *t = d->tasks;
    struct task_view v;
    if (idx < t->n && t->book[idx].where == LIVE) {
        stop_astray(d, idx);
        view_damaged(d, idx, &v);
        finish(d, idx, &v, false);
    }
}

bool tasks_is_astray(struct hearthd *d, uint32_t slot, uint32_t idx) {
    return is_astray(d, slot, idx);
}
