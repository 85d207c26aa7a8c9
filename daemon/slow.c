/* SPDX-License-Identifier: MIT */
/* A ring in the daemon's memory, made when the first slow task comes. Fails: nothing. */
#include "daemon/slow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/events.h"
#include "daemon/log.h"
#include "lib/base/clock.h"

struct slow {
    uint64_t added, cleared; /* entries ever added, and those of them that were cleared */
    struct slow_entry ring[SLOW_KEPT];
};

void slow_add(struct hearthd *d, uint32_t idx, const struct task_view *v, const char *where) {
    const struct pool *p = v->pool < d->n_pools ? &d->pools[v->pool] : NULL;
    uint64_t now = clock_now();
    uint64_t ms = now > v->started_ns ? (now - v->started_ns) / NS_PER_MS : 0;
    char id[TASK_ID_TEXT];
    task_id_text(id, v->id, idx);
    log_notice(LOG_ABOUT(.message = MESSAGE_TASK_SLOW, .pool = p ? p->config->name : NULL,
                         .task = id, .worker = (pid_t)v->worker_pid),
               "a task of %s has run for %llu ms: %s",
               p && v->handler < p->n_handlers ? p->handlers[v->handler] : "?",
               (unsigned long long)ms, where);
    events_slow(d, idx, v, where);
    if (!d->slow) {
        d->slow = calloc(1, sizeof(*d->slow));
    }
    if (!d->slow) {
        return;
    }
    struct slow_entry *e = &d->slow->ring[d->slow->added++ % SLOW_KEPT];
    *e = (struct slow_entry){.number = d->slow->added,
                             .id = v->id,
                             .idx = idx,
                             .pool = v->pool,
                             .handler = v->handler,
                             .attempt = v->attempt,
                             .worker = (pid_t)v->worker_pid,
                             .at_ms = clock_wall_ms(),
                             .run_ms = ms};
    snprintf(e->where, sizeof(e->where), "%s", where);
}

const struct slow_entry *slow_get(const struct hearthd *d, uint32_t n) {
    const struct slow *s = d->slow;
    if (!s || n >= SLOW_KEPT || n >= s->added - s->cleared) {
        return NULL;
    }
    return &s->ring[(s->added - 1 - n) % SLOW_KEPT];
}

void slow_clear(struct hearthd *d) {
    if (d->slow) {
        d->slow->cleared = d->slow->added;
    }
}

void slow_free(struct hearthd *d) {
    free(d->slow);
    d->slow = NULL;
}
