/* SPDX-License-Identifier: MIT */
/* Another configuration for pools that run. What can fail is done before it is put in force (supervise_prepare): places for new
 * pools, their rings in the segment, room for more workers. Then each pool is given its part of the new configuration, by name;
 * most values are looked at when they are needed, and count from then on. If what its workers are started with has changed, or
 * the module's file, they are replaced (roll.c).
 *
 * A pool that is not there any more takes no tasks, and those it has taken are run to their end: that was promised. It is
 * `removed` meanwhile, found by nobody but in POOL.LIST, and `gone` afterwards. Its place stays its own, as records of tasks name
 * it: a pool of the same name that comes later gets it back.
 *
 * Fails: -EINVAL and -ENOMEM before, nothing afterwards. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/events.h"
#include "daemon/log.h"
#include "daemon/supervise/cgroup.h"
#include "daemon/supervise/private.h"
#include "daemon/supervise/procs.h"
#include "daemon/tasks.h"
#include "lib/base/buf.h"

static int refuse(struct config_error *err, const struct pool_config *c, const char *key,
                  const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static int refuse(struct config_error *err, const struct pool_config *c, const char *key,
                  const char *fmt, ...) {
    va_list ap;
    *err = (struct config_error){.line = c->line};
    snprintf(err->file, sizeof(err->file), "%s", c->file);
    snprintf(err->key, sizeof(err->key), "pools.%s%s", c->name, key);
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    return -EINVAL;
}

/* Those that have been removed, too. */
static struct pool *place_of(struct hearthd *d, const char *name) {
    for (uint32_t i = 0; i < d->n_pools; i++) {
        if (strcmp(d->pools[i].config->name, name) == 0) {
            return &d->pools[i];
        }
    }
    return NULL;
}

static int prepare_known(struct pool *p, struct pool_config *c, struct buf *plan,
                         struct config_error *err) {
    if (c->kind != p->config->kind && !p->gone) {
        return refuse(err, c, "",
                      "a pool stays of the kind it is while the daemon runs: give it another name, "
                      "or restart hearthd");
    }
    if (c->queue_max > p->queue_room) {
        if (p->config->queue_max > p->queue_room || p->removed) {
            return refuse(err, c, ".queue_max", "its ring holds no more than %u until a restart",
                          p->queue_room);
        }
        buf_printf(plan, "pools.%s.queue_max: stays %u, %u needs a restart (up to %u do not)\n",
                   c->name, p->config->queue_max, c->queue_max, p->queue_room);
        c->queue_max = p->config->queue_max;
    }
    return 0;
}

/* In the segment, and at its place; nothing is started yet. */
static int prepare_new(struct supervise *s, struct config *next, struct pool_config *c,
                       struct config_error *err) {
    struct hearthd *d = s->d;
    if (d->n_pools == SHM_POOLS) {
        return refuse(err, c, "",
                      "more than %d pools since the start, those that are gone included",
                      SHM_POOLS);
    }
    struct pool *p = &d->pools[d->n_pools];
    int r = pool_init(s, p, next, c, d->n_pools);
    p->removed = p->gone = true; /* until the configuration is in force */
    d->n_pools++;
    if (r < 0) {
        refuse(err, c, "", "its queue does not fit into the segment: %s", strerror(-r));
    }
    return r;
}

int supervise_prepare(struct hearthd *d, struct config *next, struct buf *plan,
                      struct config_error *err) {
    struct supervise *s = d->supervise;
    uint64_t slots = supervise_slots_of_others(d->config);
    for (uint32_t i = 0; i < next->n_pools; i++) {
        struct pool_config *c = &next->pools[i];
        struct pool *p = place_of(d, c->name);
        slots += (uint64_t)(c->max + 1 + c->max / 8) * c->threads; /* with those being replaced */
        if (slots > s->slots) {
            return refuse(err, c, ".workers",
                          "the segment has no room for so many workers: it has %u places, for them "
                          "and max_mapped; a restart makes more",
                          s->slots);
        }
        int r = p ? prepare_known(p, c, plan, err) : prepare_new(s, next, c, err);
        if (r < 0) {
            return r == -ENOMEM ? -EINVAL : r;
        }
    }
    return 0;
}

/* ---- in force ---- */

static void forget_handlers(struct pool *p) {
    names_free(p->handlers, p->n_handlers);
    p->handlers = NULL;
    p->n_handlers = 0;
}

static void revive(struct supervise *s, struct pool *p, const struct pool_config *c) {
    bool fresh = p->gone;
    s->removing -= p->removed && !p->gone;
    p->removed = p->gone = p->paused_in = false;
    if (fresh) {
        forget_handlers(p);
        p->state = POOL_STARTING;
        zygote_adopt(s, zygote_of(p), s->d->config, c);
    }
}

static void follow(struct supervise *s, struct pool *p, const struct pool_config *c,
                   struct buf *plan) {
    struct config *former = p->owner;
    struct zygote *z = zygote_of(p);
    bool back = p->removed;
    bool kept = config_rolls(z->config, p->config); /* what was wanted before had not started */
    p->owner = config_ref(s->d->config);
    p->config = c;
    config_free(former);
    size_configure(s, p);
    task_look_after(&s->d->shm, p->index, pool_look_ms(p));
    if (back) {
        revive(s, p, c);
        return;
    }
    bool other = config_rolls(z->config, c);
    bool exchanged = !other && roll_module_changed(z);
    if (other || exchanged) {
        if (exchanged) {
            buf_printf(plan, "pools.%s: %s has been exchanged: its workers are replaced\n", c->name,
                       c->module);
        }
        roll_start(s, p, s->d->config, c);
    } else if (s->rolls[p->index].trying) {
        roll_start(s, p, s->d->config, c); /* the trial was of what is not wanted any more */
    } else if (kept) {
        buf_printf(plan, "pools.%s: what runs is what is wanted again: its workers stay\n",
                   c->name);
        roll_forget(p);
    }
}

static void remove_pool(struct supervise *s, struct pool *p) {
    p->removed = true;
    p->paused_in = true;
    s->removing++;
    task_pause(&s->d->shm, p->index, false);
    p->wake = p->n_workers * p->config->threads;
}

void pool_vanish(struct supervise *s, struct pool *p) {
    struct zygote *z = &s->zygotes[2 * (size_t)p->index];
    uint32_t idx;
    if (p->gone) {
        return;
    }
    list_for_each_safe (it, &p->workers) {
        struct worker *w = list_entry(it, struct worker, in_pool);
        if (watch_of(w)->joined && watch_of(w)->phase < PHASE_DEAD) {
            worker_kill(s, w);
        }
    }
    if (!list_empty(&p->workers)) {
        size_trim(s, p, UINT32_MAX);
        return;
    }
    for (int i = 0; i < 2; i++) {
        if (z[i].state != ZYGOTE_NONE && !z[i].killed) {
            zygote_kill(&z[i]);
        }
    }
    if (z[0].state != ZYGOTE_NONE || z[1].state != ZYGOTE_NONE) {
        return;
    }
    while (tasks_oldest_dead(s->d, p, &idx)) {
        tasks_purge(s->d, idx);
    }
    cgroup_pool_end(s->d->cgroups, p->config);
    p->gone = true;
    s->removing--;
    log_notice(LOG_ABOUT(.message = MESSAGE_POOL_REMOVED, .pool = p->config->name),
               "removed: all its tasks have ended");
    events_pool(s->d, EVENT_POOL_REMOVED, p, 0, NULL);
}

void supervise_configure(struct hearthd *d, struct buf *plan) {
    struct supervise *s = d->supervise;
    procs_configure(d);
    for (uint32_t i = 0; i < d->n_pools; i++) {
        struct pool *p = &d->pools[i];
        const struct pool_config *c = NULL;
        for (uint32_t k = 0; k < d->config->n_pools; k++) {
            if (strcmp(d->config->pools[k].name, p->config->name) == 0) {
                c = &d->config->pools[k];
            }
        }
        if (c) {
            follow(s, p, c, plan);
        } else if (!p->removed) {
            remove_pool(s, p);
        }
    }
    s->look = true;
}
