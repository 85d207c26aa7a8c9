/* SPDX-License-Identifier: MIT */
/* What a former daemon has left in the segment, and what was restored from the database, becomes this daemon's. In three rounds,
 * each in order of submission: every record that is in use has an entry; then, as all are known, who comes after whom, who
 * belongs to which group, what is written down; then the ends that nobody has been told are told.
 *
 * A record that does not make sense is left alone: nothing that it says could be believed.
 *
 * Fails: as tasks.h says; the segment is as usable as before, for another try. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/durable.h"
#include "daemon/groups.h"
#include "daemon/log.h"
#include "daemon/schedule.h"
#include "daemon/tasks/private.h"
#include "daemon/users.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/shm/adopt.h"

/* Live until its end has been told: whoever looks hears of it in the first turn. */
static int adopt(struct hearthd *d, uint32_t idx, const struct task_view *v, uint64_t *expires_ns) {
    struct tasks *t = d->tasks;
    struct entry *e = &t->book[idx];
    struct pool_counters *c = &d->pools[v->pool].count;
    uint64_t bytes = v->payload.len + v->args_raw.len;
    bool told = task_is_told(&d->shm, idx, v->id) && task_state_is_terminal(v->state);
    *e = (struct entry){.id = v->id, .pool = v->pool & 63};
    e->planned = v->policy.len > 0; /* it may have asked to be tried again */
    list_init(&e->waiters);
    t->owners[idx] = (struct owner){.place = users_place(t->users, v->uid) & (USERS_MAX - 1),
                                    .units = (bytes / WEIGHT_UNIT + 1) & WEIGHT_MAX};
    if (told) {
        uint64_t until = v->ended_ns + (uint64_t)d->config->result_keep_ms * NS_PER_MS;
        *expires_ns = until > *expires_ns ? until : *expires_ns; /* in order: see KEPT */
        e->expires_ns = *expires_ns;
        e->weight = entry_weight(v, true) & WEIGHT_MAX;
        bool dead = schedule_is_dead_letter(d, v) && d->pools[v->pool].config->dead_letters > 0;
        entry_move(t, idx, dead ? DEAD : KEPT);
        return 0;
    }
    entry_move(t, idx, LIVE);
    task_unwatch(&d->shm, idx, v->id);
    if (v->state == TASK_QUEUED || v->state == TASK_WAITING) {
        c->submitted++;
        c->submitted_bytes += bytes;
    }
    return v->state == TASK_QUEUED ? task_hint(&d->shm, idx) : 0;
}

/* Once all are known: who comes after whom, who belongs to which group. */
static int adopt_plan(struct hearthd *d, uint32_t idx) {
    struct entry *e = &d->tasks->book[idx];
    struct task_view v;
    struct policy policy;
    if (task_view(&d->shm, idx, &v) < 0 || v.id != e->id) {
        return 0;
    }
    policy_get(&v.policy, d->pools[e->pool].config, &policy);
    e->durable = policy_has(&policy, POLICY_DURABLE) || d->pools[e->pool].config->durable;
    if (e->durable && d->found && e->where == LIVE && durable_task(d, idx) && v.attempt) {
        durable_attempt(d, idx); /* it may have been killed before that was on the disk */
    }
    int r = policy_has(&policy, POLICY_GROUP) ? groups_join(d, idx, &policy.group, v.uid) : 0;
    if (r == 0 && (e->where == LIVE || policy_has(&policy, POLICY_UNIQUE_KEEP))) {
        r = schedule_adopt(d, idx, &v);
        e->planned = r == 1;
        r = r < 0 ? r : 0;
    }
    if (e->where != LIVE) {
        schedule_ended(d, idx);
        groups_ended(d, idx, v.state);
        return r;
    }
    if (policy_has(&policy, POLICY_OWNED) && !task_state_is_terminal(v.state)) {
        tasks_cancel(d, idx, "the end of its client");
    } else if (d->pools[e->pool].gone && entry_end_queued(d, idx, TASK_LOST, CAUSE_NONE) == 0) {
        e->text = e->text ? e->text : strdup("its pool is not in the configuration any more");
    }
    return r;
}

struct found {
    uint64_t id;
    uint32_t idx;
};

static int by_age(const void *a, const void *b) {
    const struct found *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

/* Every record that is in use, in order of submission. The array is the caller's. */
static int find_all(struct hearthd *d, struct found **ret, uint32_t *ret_n) {
    struct found *all = NULL;
    uint32_t n = 0, cap = 0, idx;
    struct task_view v;
    for (uint32_t i = 0; task_next_used(&d->shm, i, &idx) == 0; i = idx + 1) {
        int r = task_view(&d->shm, idx, &v);
        if (r == -EBADMSG || (r == 0 && v.pool >= d->n_pools)) {
            log_err(LOG_ABOUT(.message = MESSAGE_SEGMENT_DAMAGED),
                    "task record %u does not make sense: it is left alone", idx);
        }
        if (r < 0 || v.pool >= d->n_pools) {
            continue;
        }
        if (n == cap) {
            cap = cap ? cap * 2 : 1024;
            struct found *more = realloc(all, cap * sizeof(*all));
            if (!more) {
                free(all);
                return -ENOMEM;
            }
            all = more;
        }
        all[n++] = (struct found){v.id, idx};
    }
    if (n > 1) {
        qsort(all, n, sizeof(*all), by_age);
    }
    *ret = all;
    *ret_n = n;
    return 0;
}

int tasks_recover(struct hearthd *d, struct tasks_recovered *ret) {
    struct tasks *t = d->tasks;
    _cleanup_free_ struct found *all = NULL;
    uint32_t n, idx;
    uint64_t expires_ns = t->now_ns = clock_now();
    while (task_next_ended(&d->shm, &idx) != -EAGAIN) {
        /* all records are looked at */
    }
    int r = find_all(d, &all, &n);
    for (uint32_t i = 0; r == 0 && i < n; i++) {
        struct task_view v;
        if (task_view(&d->shm, all[i].idx, &v) == 0) {
            d->last_client = v.client > d->last_client ? v.client : d->last_client;
            r = adopt(d, all[i].idx, &v, &expires_ns);
        }
    }
    *ret = (struct tasks_recovered){0};
    for (uint32_t i = 0; r == 0 && i < n; i++) {
        r = t->book[all[i].idx].where != UNKNOWN ? adopt_plan(d, all[i].idx) : 0;
    }
    for (uint32_t i = 0; r == 0 && i < n; i++) {
        if (t->book[all[i].idx].where != UNKNOWN) {
            groups_restore(d, all[i].idx);
        }
    }
    for (uint32_t i = 0; r == 0 && i < n; i++) {
        ret->waiting += t->book[all[i].idx].where == LIVE;
        ret->kept += t->book[all[i].idx].where == KEPT || t->book[all[i].idx].where == DEAD;
        tasks_ended(d, all[i].idx); /* those whose end nobody has been told */
    }
    return r;
}
