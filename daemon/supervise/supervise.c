/* SPDX-License-Identifier: MIT */
/* The supervisor as main.c and loop.c see it: opening, one turn, stopping, closing.
 *
 * Callbacks of libevent only note what happened (`says`, `exited`, the list of the dead) and raise
 * s->look; everything is done in supervise_turn(), so nothing frees an event from inside of its own
 * callback, and the order is always the same: hear the zygotes, bury the dead, look at the living,
 * let each pool take its next step, look at the clock. A turn without news costs a few loads.
 *
 * Stopping: no starts any more; workers are told to leave after the task in hand; zygotes are let
 * go of; at stop_at_ns what still runs is killed, and its tasks end LOST with CAUSE_STOPPING. With
 * restart = "handover" those who are at work are left to the next daemon (handover.c).
 *
 * Fails: supervise_open() returns -errno and has logged why. */
#include "daemon/supervise/supervise.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/supervise/cgroup.h"
#include "daemon/supervise/confine.h"
#include "daemon/supervise/private.h"
#include "daemon/supervise/procs.h"
#include "daemon/supervise/scratch.h"
#include "daemon/tasks.h"
#include "lib/base/clock.h"
#include "lib/shm/adopt.h"

enum { SLOTS_MAX = 1024, SLOTS_SPARE = 128 };
#define ZYGOTE_LEAVE (NS_PER_SEC) /* for a zygote to run its module's exit */

/* The daemon's own, and those of others than workers. A tiny segment has no places to spare for processes of handlers. */
uint64_t supervise_slots_of_others(const struct config *c) {
    return 2 + c->limits.max_mapped + (c->segment_size >> 20 < 16 ? 0 : PROC_SEATS);
}

uint32_t supervise_slots(const struct config *c) {
    uint64_t n = supervise_slots_of_others(c);
    bool joins = false;
    for (uint32_t i = 0; i < c->n_pools; i++) {
        n += 2 * (uint64_t)c->pools[i].workers * c->pools[i].threads;
        joins |= c->pools[i].kind == POOL_PROGRAM;
    }
    n += joins ? c->limits.max_joined : 0;
    /* room for a pool that is made larger; it costs address space only */
    uint64_t least = c->segment_size >> 20 < 16 ? 0 : SLOTS_SPARE + c->limits.max_mapped;
    n = n < least ? least : n;
    return n < SLOTS_MAX ? (uint32_t)n : SLOTS_MAX;
}

static void on_time(evutil_socket_t fd, short what, void *arg) {
    struct supervise *s = arg;
    (void)fd;
    (void)what;
    s->timer_at_ns = UINT64_MAX;
    s->look = true;
}

static void on_sigchld(evutil_socket_t fd, short what, void *arg) {
    struct supervise *s = arg;
    (void)fd;
    (void)what;
    s->orphans = true;
    s->look = true;
}

/* Its place, if a former daemon had a pool of that name. */
static int place_of(const struct shm *s, const char *name, uint32_t *ret) {
    for (uint32_t i = 0; i < SHM_POOLS; i++) {
        const char *there = shm_pool_name(s, i);
        if (there && strcmp(there, name) == 0) {
            *ret = i;
            return 0;
        }
    }
    return -ENOENT;
}

static int free_place(const struct hearthd *d, uint32_t *ret) {
    for (uint32_t i = 0; i < SHM_POOLS; i++) {
        if (!d->pools[i].config && !shm_pool_name(&d->shm, i)) {
            *ret = i;
            return 0;
        }
    }
    return -ENOSPC;
}

static int open_pool(struct supervise *s, const struct pool_config *c) {
    struct hearthd *d = s->d;
    uint32_t i;
    int r = place_of(&d->shm, c->name, &i);
    r = r < 0 ? free_place(d, &i) : 0;
    if (r == 0) {
        d->n_pools = i + 1 > d->n_pools ? i + 1 : d->n_pools;
        r = pool_init(s, &d->pools[i], d->config, c, i);
    }
    if (r < 0) {
        log_err(LOG_ABOUT(.pool = c->name), "cannot make the pool's queue in the segment: %s%s",
                strerror(-r),
                r == -ENOMEM ? "; make segment_size larger or queue_max smaller" : "");
    }
    return r;
}

/* A pool of the former daemon that the configuration does not have: its results are there. It is one of which nothing is ever
 * started, and which has been removed. */
static int open_gone(struct supervise *s, uint32_t i) {
    static struct config_error err; /* large */
    struct hearthd *d = s->d;
    struct config *c = NULL;
    char text[128];
    int n = snprintf(text, sizeof(text), "pools = ( { name = \"%s\"; program = [ ]; } );",
                     shm_pool_name(&d->shm, i));
    int r = config_load_text(text, (size_t)n, "(segment)", &c, &err);
    if (r == 0) {
        d->n_pools = i + 1 > d->n_pools ? i + 1 : d->n_pools;
        r = pool_init(s, &d->pools[i], c, &c->pools[0], i);
        d->pools[i].removed = d->pools[i].gone = true;
    }
    config_free(c);
    return r;
}

static int open_pools(struct supervise *s) {
    struct hearthd *d = s->d;
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < d->config->n_pools; i++) {
        r = open_pool(s, &d->config->pools[i]);
    }
    for (uint32_t i = 0; r == 0 && i < SHM_POOLS; i++) {
        if (!d->pools[i].config && shm_pool_name(&d->shm, i)) {
            r = open_gone(s, i);
        }
    }
    return r;
}

int supervise_open(struct hearthd *d) {
    struct supervise *s = calloc(1, sizeof(*s));
    struct shm_usage usage;

    if (!s) {
        return -ENOMEM;
    }
    shm_usage(&d->shm, &usage);
    d->supervise = s;
    s->d = d;
    s->slots = usage.slots;
    s->timer_at_ns = UINT64_MAX;
    s->leash[0] = s->leash[1] = -1;
    list_init(&s->dead);
    getrlimit(RLIMIT_NOFILE, &s->files);
    /* pools may come later, and none may move */
    s->zygotes = calloc(2 * (size_t)SHM_POOLS, sizeof(*s->zygotes));
    s->rolls = calloc(SHM_POOLS, sizeof(*s->rolls));
    d->pools = calloc(SHM_POOLS, sizeof(*d->pools));
    d->workers = calloc(s->slots, sizeof(*d->workers));
    s->timer = evtimer_new(d->base, on_time, s);
    s->sigchld = evsignal_new(d->base, SIGCHLD, on_sigchld, s);
    if (!s->zygotes || !s->rolls || !d->pools || !d->workers || !s->timer || !s->sigchld ||
        event_add(s->sigchld, NULL) < 0) {
        log_err(NULL, "cannot start the supervisor: out of memory");
        return -ENOMEM;
    }
    confine_open();
    s->scratch = scratch_new(handover_any(s));
    cgroups_clean(d->cgroups, handover_any(s));
    int r = procs_open(d);
    if (r < 0) {
        log_err(NULL, "cannot keep the book of processes: %s", strerror(-r));
        return r;
    }
    r = handover_open(s);
    r = r < 0 ? r : open_pools(s);
    r = r < 0 ? r : handover_adopt(s);
    if (r < 0) {
        return r;
    }
    for (uint32_t i = 0; i < d->n_pools; i++) {
        pool_turn(s, &d->pools[i]);
    }
    procs_configure(d);
    s->look = true;
    return 0;
}

/* ---- turning ---- */

static void kill_rest(struct supervise *s) {
    for (uint32_t i = 0; i < s->slots; i++) {
        struct worker *w = s->d->workers[i];
        struct slot_view v;
        struct task_view t;
        if (!w || (w->pidfd < 0 && !watch_of(w)->joined) || watch_of(w)->killed ||
            handover_stays(s, w)) {
            continue;
        }
        slot_view(&s->d->shm, i, &v);
        if (v.hand != 0 && task_view(&s->d->shm, (uint32_t)(v.hand - 1), &t) == 0) {
            w->kill_task_id = t.id;
        }
        w->kill_cause = s->d->kept ? CAUSE_DAEMON : CAUSE_STOPPING;
        worker_kill(s, w);
    }
    s->stop_killed = true;
}

bool zygote_is_needed(struct zygote *z) {
    list_for_each (it, &z->pool->workers) {
        const struct watch *x = watch_of(list_entry(it, struct worker, in_pool));
        if (x->phase == PHASE_ASKED && x->version == z->version) {
            return true;
        }
    }
    return false;
}

static void stop_turn(struct supervise *s) {
    uint64_t now = clock_now();
    bool any = false;

    if (!s->stop_killed && now >= s->stop_at_ns) {
        kill_rest(s);
    }
    for (uint32_t i = 0; i < 2 * s->d->n_pools; i++) {
        struct zygote *z = &s->zygotes[i];
        any |= handover_waits(s, z->pool);
        if (z->state != ZYGOTE_NONE && (s->stop_killed || !zygote_is_needed(z))) {
            zygote_dismiss(z);
        }
    }
    if (any) {
        return;
    }
    s->gone_ns = s->gone_ns != 0 ? s->gone_ns : now;
    for (uint32_t i = 0; i < 2 * s->d->n_pools; i++) {
        struct zygote *z = &s->zygotes[i];
        if (z->state != ZYGOTE_NONE && !z->killed && now - s->gone_ns > ZYGOTE_LEAVE) {
            zygote_kill(z);
        }
    }
    s->stop_killed = true; /* from here on the timer comes every tenth of a second */
}

static void hear_zygotes(struct supervise *s) {
    for (uint32_t i = 0; i < 2 * s->d->n_pools; i++) {
        struct zygote *z = &s->zygotes[i];
        if (z->says) {
            zygote_read(s, z);
        }
        if (z->state != ZYGOTE_NONE && z->exited) {
            zygote_bury(s, z);
        }
    }
}

bool supervise_has_news(struct hearthd *d) {
    return d->supervise->look || procs_have_news(d) || d->check_deadlines || d->check_sizes ||
           shm_news(&d->shm) != d->supervise->news;
}

void supervise_turn(struct hearthd *d) {
    struct supervise *s = d->supervise;
    uint32_t news = shm_news(&d->shm);

    procs_turn(d);
    if (!s->look && news == s->news && !d->check_deadlines && !d->check_sizes &&
        list_empty(&s->dead) && s->removing == 0) {
        return;
    }
    d->check_sizes = false;
    s->news = news;
    s->look = false;
    hear_zygotes(s);
    reap_turn(s);
    if (s->orphans) {
        reap_orphans(s);
        reap_turn(s);
        procs_turn(d);
    }
    for (uint32_t i = 0; i < d->n_pools; i++) {
        list_for_each_safe (it, &d->pools[i].workers) {
            worker_look(s, list_entry(it, struct worker, in_pool));
        }
        pool_turn(s, &d->pools[i]);
        pool_keep_handlers(s, &d->pools[i]);
    }
    deadline_turn(s);
    s->cgroups_left = cgroups_turn(d->cgroups);
    if (s->stop_at_ns != 0) {
        stop_turn(s);
    }
    deadline_timer(s);
}

bool supervise_ready(struct hearthd *d) {
    struct supervise *s = d->supervise;

    if (s->started || s->start_failed) {
        return s->started;
    }
    for (uint32_t i = 0; i < d->n_pools; i++) {
        if (!d->pools[i].removed && d->pools[i].state != POOL_READY) {
            return false;
        }
    }
    s->started = true;
    return true;
}

const char *supervise_start_error(struct hearthd *d) {
    const struct supervise *s = d->supervise;
    if (!s->start_failed) {
        return NULL;
    }
    return s->start_error ? s->start_error : "out of memory";
}

/* ---- stopping ---- */

void supervise_stop(struct hearthd *d, uint64_t deadline_ns) {
    struct supervise *s = d->supervise;

    s->stop_at_ns = deadline_ns;
    s->look = true;
    s->handing = d->kept && d->config->restart == RESTART_HANDOVER;
    procs_stop(d, deadline_ns);
    for (uint32_t i = 0; i < d->n_pools; i++) {
        d->pools[i].state = POOL_STOPPING;
        list_for_each (it, &d->pools[i].workers) {
            struct worker *w = list_entry(it, struct worker, in_pool);
            struct watch *x = watch_of(w);
            if (x->adopted || x->is_thread) {
                continue; /* it knows; its first has told it */
            }
            worker_command(s, w, SLOT_EXIT);
            if (x->phase == PHASE_STARTING && !x->killed) {
                worker_kill(s, w); /* it has nothing to finish */
            }
        }
    }
}

bool supervise_stopped(struct hearthd *d) {
    for (uint32_t i = 0; i < d->n_pools; i++) {
        const struct zygote *z = &d->supervise->zygotes[2 * i];
        if (handover_waits(d->supervise, &d->pools[i]) || z[0].state != ZYGOTE_NONE ||
            z[1].state != ZYGOTE_NONE) {
            return false;
        }
    }
    return procs_stopped(d);
}

static void forget(struct supervise *s) {
    struct hearthd *d = s->d;

    for (uint32_t i = 0; d->workers && i < s->slots; i++) {
        if (d->workers[i]) {
            worker_free(s, d->workers[i]);
        }
    }
    for (uint32_t i = 0; i < 2 * d->n_pools; i++) {
        struct zygote *z = &s->zygotes[i];
        zygote_dismiss(z);
        if (z->exit_event) {
            event_free(z->exit_event);
        }
        if (z->pidfd >= 0) {
            close(z->pidfd);
        }
        names_free(z->handlers, z->n_handlers);
        config_free(z->owner);
    }
    for (uint32_t i = 0; i < d->n_pools; i++) {
        pool_deinit(&d->pools[i]);
    }
}

void supervise_close(struct hearthd *d) {
    struct supervise *s = d->supervise;

    if (!s) {
        return;
    }
    for (uint32_t i = 0; d->workers && i < s->slots; i++) {
        struct worker *w = d->workers[i];
        if (w && !watch_of(w)->handed) {
            worker_signal_command(s, w, SIGKILL);
        }
        if (w && watch_of(w)->adopted && !watch_of(w)->handed && w->pidfd >= 0) {
            pidfd_send_signal(w->pidfd, SIGKILL, NULL, 0);
        }
    }
    reap_everything(s);
    procs_close(d);
    forget(s);
    if (s->timer) {
        event_free(s->timer);
    }
    if (s->sigchld) {
        event_free(s->sigchld);
    }
    s->scratch = scratch_free(s->scratch, s->n_handed > 0);
    d->cgroups = cgroups_close(d->cgroups, s->n_handed > 0);
    handover_close(s);
    free(s->start_error);
    free(s->zygotes);
    for (uint32_t i = 0; s->rolls && i < SHM_POOLS; i++) {
        config_free(s->rolls[i].owner);
    }
    free(s->rolls);
    free(d->pools);
    free(d->workers);
    free(s);
    d->pools = NULL;
    d->workers = NULL;
    d->n_pools = 0;
    d->supervise = NULL;
}
