/* SPDX-License-Identifier: MIT */
/* Accepting tasks: is there room, for this pool's queue and in the segment; then the record, its entry in the book, and what the
 * submitter asked for beyond that (daemon/schedule.h, daemon/groups.h, daemon/durable.h).
 *
 * The record is there, and a worker may have it in hand, before the rest is known to succeed. What fails then is taken back like
 * any task whose submitter has not been told its id: tasks_abandon().
 *
 * Fails: as tasks.h says. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "daemon/durable.h"
#include "daemon/events.h"
#include "daemon/groups.h"
#include "daemon/schedule.h"
#include "daemon/tasks/private.h"
#include "daemon/users.h"

/* ---- room ---- */

/* As the workers count them when they claim: an argument has its length and a NUL with it. */
uint64_t tasks_bytes(const struct task_spec *spec) {
    uint64_t bytes = spec->payload.len;
    for (uint32_t i = 0; i < spec->nargs; i++) {
        bytes += sizeof(uint32_t) + spec->args[i].len + 1;
    }
    return bytes;
}

bool tasks_has_room(struct hearthd *d, struct pool *p, uint32_t n, uint64_t bytes) {
    uint64_t max = p->config->queue_max, max_bytes = p->config->queue_bytes;
    if (n > max || pool_queued(d, p, max - n + 1) + n > max) {
        return false;
    }
    return !max_bytes || (bytes <= max_bytes &&
                          pool_queued_bytes(d, p, max_bytes - bytes + 1) + bytes <= max_bytes);
}

bool tasks_could_have_room(const struct pool *p, uint32_t n, uint64_t bytes) {
    const struct pool_config *c = p->config;
    return n <= c->queue_max && (!c->queue_bytes || bytes <= c->queue_bytes);
}

/* False: all of the pool's tasks have begun. */
static bool drop_oldest(struct hearthd *d, struct pool *p) {
    struct tasks *t = d->tasks;
    for (uint32_t at = t->live[p->index].first; at;) {
        struct entry *e = &t->book[at - 1];
        uint32_t idx = at - 1;
        at = e->link[STATE].next;
        if (entry_end_queued(d, idx, TASK_CANCELLED, CAUSE_CANCELLED) == 0) {
            e->cancelled = 1;
            e->text = e->text ? e->text : strdup("a newer one: the queue was full");
            p->count.dropped++;
            tasks_ended(d, idx);
            return true;
        }
    }
    return false;
}

int tasks_room(struct hearthd *d, struct pool *p, uint32_t n, uint64_t bytes) {
    enum pool_overflow way = p->config->overflow;
    bool room = !p->paused_in && tasks_has_room(d, p, n, bytes);
    bool drop = way == OVERFLOW_DROP && !p->paused_in && tasks_could_have_room(p, n, bytes);
    while (!room && drop && drop_oldest(d, p)) {
        room = tasks_has_room(d, p, n, bytes);
    }
    p->count.busy_refused += !room && (way != OVERFLOW_BLOCK || p->paused_in);
    return room ? 0 : -EBUSY;
}

/* ---- submitting ---- */

/* As task_submit(); forgets fetched results, oldest first, while there is no room. The queue itself
 * has room: a ring that is full is full of what was cancelled while all workers were at work. */
static int submit_with_room(struct hearthd *d, struct pool *p, const struct task_spec *spec,
                            struct task_ref *ret) {
    bool pruned = false;
    for (;;) {
        int r = task_submit(&d->shm, spec, ret);
        if (r == -ENOBUFS && !pruned) {
            task_prune(&d->shm, p->index);
            p->wake = p->n_workers * p->config->threads;
            pruned = true;
        } else if (r != -ENOMEM || !entries_forget_fetched(d)) {
            return r;
        }
    }
}

/* A record was taken for a new task while the book has another one in it: somebody has written over
 * its state. That one ends here; what is still being sent from the record stays pinned. */
static void supplant(struct hearthd *d, uint32_t idx) {
    const struct entry *e = &d->tasks->book[idx];
    if (e->where == LIVE) {
        tasks_damaged(d, idx);
    }
    if (entry_is_known(e->where)) {
        entry_forget(d, idx);
    }
}

/* It wants to be looked at: its worker must know of that before it can claim it. */
static void look_sooner(struct hearthd *d, struct pool *p, const struct policy *policy) {
    uint64_t ms = policy->memory ? LOOK_MEMORY_MS : policy->soft_ms;
    ms = policy->soft_ms && policy->soft_ms < ms ? policy->soft_ms : ms;
    if (ms && (p->look_ms == 0 || ms < p->look_ms)) {
        p->look_ms = (uint32_t)ms;
        task_look_after(&d->shm, p->index, pool_look_ms(p));
    }
}

int tasks_submit(struct hearthd *d, struct pool *p, const struct task_spec *spec,
                 const struct policy *policy, struct task_ref *ret) {
    struct tasks *t = d->tasks;
    struct task_spec planned;
    uint8_t block[POLICY_BLOCK_MAX];
    bool plan = !spec->hold && (spec->priority != p->config->priority || policy ||
                                p->config->expire_ms || p->config->fair);
    if (d->stopping) {
        return -ESHUTDOWN;
    }
    bool durable = p->config->durable || (policy && policy_has(policy, POLICY_DURABLE));
    uint64_t bytes = tasks_bytes(spec);
    int r = durable ? durable_may(d) : 0;
    r = r < 0 ? r : tasks_room(d, p, 1, bytes);
    if (r == 0 && plan) {
        planned = *spec;
        spec = &planned;
        r = schedule_prepare(d, p, policy, &planned, block);
        plan = r == 1;
    }
    if (r < 0) {
        return r;
    }
    if (policy) {
        look_sooner(d, p, policy);
    }
    struct task_ref ref;
    r = submit_with_room(d, p, spec, &ref);
    if (r < 0) {
        return r == -ENOBUFS ? -EBUSY : r;
    }
    assert(ref.idx < t->n);
    struct entry *e = &t->book[ref.idx];
    if (e->where != UNKNOWN) {
        supplant(d, ref.idx);
    }
    e->id = ref.id;
    e->weight = 0;
    e->orphaned = 0;
    e->cancelled = 0;
    e->durable = durable;
    e->saving = 0;
    e->pool = p->index & 63;
    e->planned = plan;
    list_init(&e->waiters);
    t->owners[ref.idx] = (struct owner){.place = users_place(t->users, spec->uid) & (USERS_MAX - 1),
                                        .units = (bytes / WEIGHT_UNIT + 1) & WEIGHT_MAX};
    entry_move(t, ref.idx, LIVE);
    p->count.submitted++;
    p->count.submitted_bytes += bytes;
    events_submitted(d, p, spec, &ref);
    r = policy && policy_has(policy, POLICY_GROUP)
            ? groups_join(d, ref.idx, &policy->group, spec->uid)
            : 0;
    r = r < 0 || !plan ? r : schedule_add(d, p, policy, spec, &ref);
    if (r == 0 && durable && durable_task(d, ref.idx) == 0) {
        r = -EIO;
    }
    if (r < 0) {
        tasks_abandon(d, ref.idx);
        return r;
    }
    p->wake += !spec->hold;
    *ret = ref;
    return 0;
}
