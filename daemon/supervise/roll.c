/* SPDX-License-Identifier: MIT */
/* Another version of a pool's workers: its module has been exchanged, or what they are started with has changed.
 *
 * The new version proves itself beside the old one. A second zygote is started, and one worker of it, without a seat: it takes no
 * task. Until that worker is warm the pool is as it was; if it never is, the new zygote is ended, the old one goes on, and
 * POOL.INFO says why (roll_error). Once it is warm the zygotes change places, which cannot be undone, and the workers of before
 * are replaced as any others are (pool.c): no task is lost, and at no time are fewer workers at work than there were.
 *
 * Tasks know their handlers by number: see take_handlers() in spawn.c. Handlers that the new version lacks are not to be had from
 * the change of places on; new ones when the last worker of before is gone, as none of those could run them.
 *
 * Invariant: the zygote that is not p->zygote is on trial, on its way out, or none.
 *
 * Fails: the outcome of a trial is logged, and in p->rolling and p->roll_error. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/events.h"
#include "daemon/log.h"
#include "daemon/supervise/private.h"
#include "lib/base/clock.h"

static struct roll *roll_of(const struct supervise *s, const struct pool *p) {
    return &s->rolls[p->index];
}

void stamp_of(const char *path, struct stamp *ret) {
    struct stat st;
    *ret = (struct stamp){0};
    if (path && stat(path, &st) == 0) {
        *ret = (struct stamp){.dev = st.st_dev,
                              .ino = st.st_ino,
                              .size = (uint64_t)st.st_size,
                              .mtime_ns = (uint64_t)st.st_mtim.tv_sec * NS_PER_SEC +
                                          (uint64_t)st.st_mtim.tv_nsec};
    }
}

bool roll_module_changed(const struct zygote *z) {
    struct stamp now;
    stamp_of(z->config->module, &now);
    return z->state != ZYGOTE_NONE && memcmp(&now, &z->module, sizeof(now)) != 0;
}

void zygote_adopt(struct supervise *s, struct zygote *z, struct config *owner,
                  const struct pool_config *c) {
    struct config *former = z->owner;
    z->owner = config_ref(owner);
    z->config = c;
    z->version = ++s->versions;
    config_free(former);
}

/* ---- the state ---- */

static bool counts(const struct watch *x) {
    return !x->joined && !x->trial && !x->is_thread && x->phase < PHASE_DEAD;
}

/* For people. */
static void show_state(struct supervise *s, struct pool *p) {
    p->outdated = 0;
    list_for_each (it, &p->workers) {
        const struct watch *x = watch_of(list_entry(it, struct worker, in_pool));
        p->outdated += counts(x) && x->tired && !x->surplus;
    }
    p->rolling = roll_of(s, p)->trying ? "starting"
                 : p->outdated         ? "replacing"
                 : p->roll_error       ? "failed"
                                       : "";
}

static void set_trying(struct supervise *s, struct pool *p, bool trying) {
    struct roll *r = roll_of(s, p);
    r->trying = trying;
    r->launched = false;
    r->owner = config_free(r->owner);
    show_state(s, p);
    s->look = true;
}

/* ---- the trial ---- */

static void end_trial(struct supervise *s, struct pool *p) {
    struct zygote *z = zygote_other(s, zygote_of(p));
    list_for_each (it, &p->workers) {
        struct worker *w = list_entry(it, struct worker, in_pool);
        struct watch *x = watch_of(w);
        if (!x->trial || x->ending || x->phase >= PHASE_LEAVING) {
            continue;
        }
        x->ending = x->surplus = true;
        if (x->phase == PHASE_WARM) {
            worker_set_phase(w, PHASE_LEAVING);
        }
        worker_command(s, w, SLOT_EXIT);
    }
    if (z->state != ZYGOTE_NONE && !z->killed) {
        zygote_kill(z);
    }
}

void roll_start(struct supervise *s, struct pool *p, struct config *owner,
                const struct pool_config *c) {
    struct zygote *z = zygote_of(p);
    struct roll *r = roll_of(s, p);
    if (r->launched) {
        end_trial(s, p);
    }
    if ((z->state == ZYGOTE_NONE && list_empty(&p->workers)) || pool_only_joined(p)) {
        zygote_adopt(s, z, owner, c); /* there is nothing to be kept */
        p->backoff_until_ns = 0;
        set_trying(s, p, false);
        return;
    }
    struct config *keep = config_ref(owner);
    set_trying(s, p, true);
    r->owner = keep;
    r->config = c;
}

int pool_reload(struct hearthd *d, struct pool *p) {
    if (roll_of(d->supervise, p)->trying) {
        return -EALREADY;
    }
    roll_start(d->supervise, p, p->owner, p->config);
    return 0;
}

void roll_failed(struct supervise *s, struct pool *p, char *text) {
    if (!roll_of(s, p)->trying) {
        free(text);
        return;
    }
    free(p->roll_error);
    p->roll_error = text ? text : strdup("out of memory");
    log_err(LOG_ABOUT(.message = MESSAGE_POOL_ROLL, .pool = p->config->name),
            "its new version cannot start, the old one goes on: %s",
            p->roll_error ? p->roll_error : "out of memory");
    events_pool(s->d, EVENT_POOL_KEPT, p, 0, p->roll_error);
    end_trial(s, p);
    set_trying(s, p, false);
}

void roll_forget(struct pool *p) {
    free(p->roll_error);
    p->roll_error = NULL;
}

void roll_trial_died(struct supervise *s, struct worker *w, const char *how) {
    char *text;
    if (watch_of(w)->version != zygote_other(s, zygote_of(w->pool))->version) {
        return; /* of an earlier trial */
    }
    if (asprintf(&text, "its first worker ended while starting: %s", how) < 0) {
        text = NULL;
    }
    roll_failed(s, w->pool, text);
}

static void launch(struct supervise *s, struct pool *p, struct zygote *z) {
    struct roll *r = roll_of(s, p);
    const char *what = NULL;
    zygote_adopt(s, z, r->owner, r->config);
    r->owner = config_free(r->owner);
    r->launched = true;
    z->trial = true;
    z->failures = 0;
    int e = zygote_start(s, z, &what);
    if (e < 0) {
        zygote_failed(s, z, "cannot start its zygote: %s: %s", what, strerror(-e));
    }
}

/* What the new version lacks is not to be had any more. */
static void drop_handlers(struct pool *p, const struct zygote *z) {
    for (uint32_t i = 0; i < p->n_handlers && i < z->n_handlers; i++) {
        if (!z->handlers[i][0]) {
            p->handlers[i][0] = '\0';
            p->handlers_kept = false;
        }
    }
}

/* The workers of before are to be replaced; one of them, idle if there is one, by the first of the new. */
static uint32_t outdate(struct supervise *s, struct pool *p, uint32_t version) {
    struct watch *one = NULL;
    uint32_t n = 0;
    list_for_each (it, &p->workers) {
        struct worker *w = list_entry(it, struct worker, in_pool);
        struct watch *x = watch_of(w);
        struct slot_view v;
        if (!counts(x) || x->version == version) {
            continue;
        }
        n++;
        x->tired = "a new version has taken over";
        slot_view(&s->d->shm, w->slot, &v);
        if (x->phase == PHASE_SERVING && !x->ending && (!one || v.hand == 0)) {
            one = x;
        }
    }
    if (one) {
        one->ending = true;
    }
    return n;
}

/* The zygotes change places. */
static void commit(struct supervise *s, struct pool *p, struct worker *first) {
    struct zygote *z = zygote_of(p), *next = zygote_other(s, z);
    next->trial = false;
    next->size = z->size;
    next->proved = true;
    watch_of(first)->trial = false;
    p->zygote = next;
    p->backoff_until_ns = 0;
    roll_forget(p);
    drop_handlers(p, next);
    log_notice(LOG_ABOUT(.message = MESSAGE_POOL_ROLL, .pool = p->config->name),
               "its new version is warm: %u workers are to be replaced",
               outdate(s, p, next->version));
    events_pool(s->d, EVENT_POOL_REPLACED, p, next->version, NULL);
    set_trying(s, p, false);
}

static void try_turn(struct supervise *s, struct pool *p) {
    struct roll *r = roll_of(s, p);
    struct zygote *z = zygote_other(s, zygote_of(p));
    struct worker *first = NULL;
    if (!r->launched) {
        if (z->state == ZYGOTE_NONE) { /* else another one is on its way out */
            launch(s, p, z);
        }
        return;
    }
    if (z->state != ZYGOTE_READY) {
        return;
    }
    list_for_each (it, &p->workers) {
        struct worker *w = list_entry(it, struct worker, in_pool);
        if (watch_of(w)->trial && watch_of(w)->version == z->version) {
            first = w;
        }
    }
    if (!first) {
        int e = worker_ask(s, z, false);
        if (e < 0 && e != -EAGAIN) {
            zygote_failed(s, z, "cannot start a worker of it: %s",
                          e == -ENOSPC ? "too many workers are being replaced" : strerror(-e));
        }
    } else if (watch_of(first)->phase == PHASE_WARM) {
        commit(s, p, first);
    }
}

/* ---- afterwards ---- */

static void take_new_handlers(struct pool *p) {
    struct zygote *z = zygote_of(p);
    list_for_each (it, &p->workers) {
        const struct watch *x = watch_of(list_entry(it, struct worker, in_pool));
        if (counts(x) && x->version != z->version) {
            return; /* it does not know them */
        }
    }
    log_info(LOG_ABOUT(.message = MESSAGE_POOL_ROLL, .pool = p->config->name),
             "all its workers are of the new version");
    names_free(p->handlers, p->n_handlers);
    p->handlers = z->handlers;
    p->n_handlers = z->n_handlers;
    p->handlers_kept = false;
    z->handlers = NULL;
    z->n_handlers = 0;
}

void roll_turn(struct supervise *s, struct pool *p) {
    if (roll_of(s, p)->trying) {
        try_turn(s, p);
    }
    if (zygote_of(p)->handlers) {
        take_new_handlers(p);
    }
    struct zygote *other = zygote_other(s, zygote_of(p));
    if (other->state != ZYGOTE_NONE && !other->trial && other->sock >= 0 &&
        !zygote_is_needed(other)) {
        other->killed = true; /* its end is no news */
        zygote_dismiss(other);
    }
    show_state(s, p);
}
