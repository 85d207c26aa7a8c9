/* SPDX-License-Identifier: MIT */
/* restart = "handover": a daemon that is stopped leaves the workers that have a task in hand to the next one.
 *
 *   stopping  All are told to exit after the task in hand; those without one do so. Who runs one, in a module or a command, stays:
 *             nobody waits for it (handover_stays). Programs' tasks end with their connection, so these are waited for, as
 *             without handover; so is a task that has been told to stop.
 *   leaving   supervise_hand_over() lets go of the leash (worker/zygote.c) and marks the slots. A daemon that is killed
 *             before the mark is there takes its workers with it, or its successor does.
 *   the next  finds the mark, leaves these slots alone (recover.c) and has a struct worker for each of them: LEAVING, with a
 *             seat, so that no more tasks run than the pool may. Limits and cancels go by slot and pidfd, as ever. It is no
 *             child, so how it ends is not known but by what it has done to its task.
 *
 * Who has been told to exit, and runs a task since, touches no ring any more: so the next daemon may make them anew.
 *
 * The bell that such a worker rings was the former daemon's, and cannot be had from it. So as long as there is one, we look
 * every LOOK without being rung for.
 *
 * Fails: -errno from what may fail for want of descriptors or memory; then the daemon does not start, or the worker. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/supervise/private.h"
#include "lib/base/clock.h"
#include "lib/shm/adopt.h"

#define LOOK (5 * NS_PER_MS)

/* ---- leashes ---- */

int handover_open(struct supervise *s) {
    if (s->d->config->restart != RESTART_HANDOVER) {
        return 0;
    }
    if (!s->d->kept) {
        log_warn(LOG_ABOUT(.message = MESSAGE_SEGMENT),
                 "restart = \"handover\" has no effect: the segment ends with the daemon");
        return 0;
    }
    if (pipe2(s->leash, O_CLOEXEC | O_NONBLOCK) < 0) {
        int r = -errno;
        log_err(NULL, "cannot make a pipe to hold workers by: %m");
        return r;
    }
    return 0;
}

void handover_close(struct supervise *s) {
    for (int i = 0; i < 2; i++) {
        if (s->leash[i] >= 0) {
            close(s->leash[i]);
        }
    }
}

int handover_leash(struct supervise *s, struct worker *w) {
    char path[64];
    if (s->leash[0] < 0) {
        return 0;
    }
    /* an open file of its own, as its owner and its flags are not the other workers' */
    snprintf(path, sizeof(path), "/proc/self/fd/%d", s->leash[0]);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return -errno;
    }
    watch_of(w)->leash = fd;
    return 0;
}

/* ---- stopping ---- */

/* It has been told to stop, or is about to be. */
static bool is_condemned(const struct watch *x) {
    return x->killed || x->worker->kill_at_ns != 0 || x->worker->astray || x->term_id != 0;
}

/* 1: it runs a task, and will claim no other; 0: it is through; -1: it may claim one yet, or is to end. */
static int work_of(struct supervise *s, const struct watch *x) {
    struct slot_view v;
    if (is_condemned(x)) {
        return -1;
    }
    if (worker_task(s, x->worker) != 0) {
        return 1;
    }
    slot_view(&s->d->shm, x->worker->slot, &v);
    return v.state == SLOT_RETIRED || v.command == SLOT_HANDED ? 0 : -1;
}

bool handover_stays(struct supervise *s, const struct worker *w) {
    const struct watch *x = watch_of((struct worker *)w), *first = x->is_thread ? x->first : x;
    if (!s->handing || !first || (!first->adopted && first->leash < 0)) {
        return false;
    }
    int work = work_of(s, first), busy = work;
    list_for_each (it, &first->team) {
        if (work >= 0) {
            work = work_of(s, list_entry(it, struct watch, team));
            busy += work;
        }
    }
    return work >= 0 && busy > 0;
}

bool handover_waits(struct supervise *s, const struct pool *p) {
    list_for_each (it, &p->workers) {
        if (!handover_stays(s, list_entry(it, struct worker, in_pool))) {
            return true;
        }
    }
    return false;
}

uint64_t handover_time(const struct supervise *s) {
    return s->handing || s->n_adopted > 0 ? clock_now() + LOOK : UINT64_MAX;
}

/* False: it is killed with the rest. */
static bool let_go(struct supervise *s, struct worker *w) {
    struct watch *x = watch_of(w);
    if (!x->adopted && (x->leash < 0 || fcntl(x->leash, F_SETFL, O_NONBLOCK) < 0)) {
        return false;
    }
    worker_command(s, w, SLOT_HANDED);
    x->handed = true;
    return true;
}

void supervise_hand_over(struct hearthd *d) {
    struct supervise *s = d->supervise;
    for (uint32_t i = 0; s->handing && i < d->n_pools; i++) {
        list_for_each (it, &d->pools[i].workers) {
            struct worker *w = list_entry(it, struct worker, in_pool);
            s->n_handed += !watch_of(w)->is_thread && let_go(s, w);
        }
    }
    if (s->n_handed > 0) {
        log_notice(LOG_ABOUT(.message = MESSAGE_STOPPED),
                   "%u workers go on with their tasks, for the next daemon", s->n_handed);
    }
}

/* ---- taking over ---- */

static struct worker *find_first(const struct pool *p, uint32_t pid) {
    list_for_each (it, &p->workers) {
        struct worker *w = list_entry(it, struct worker, in_pool);
        if ((uint32_t)w->pid == pid && watch_of(w)->adopted) {
            return w;
        }
    }
    return NULL;
}

static void join_team(struct worker *w, struct worker *first) {
    struct watch *x = watch_of(w);
    x->first = watch_of(first);
    x->is_thread = true;
    w->pool->n_workers--;
    list_append(&x->first->team, &x->team);
    w->pidfd = first->pidfd;
    worker_set_phase(w, PHASE_THREAD);
}

static int be_first(struct supervise *s, struct worker *w) {
    struct watch *x = watch_of(w);
    x->adopted = true;
    s->n_adopted++;
    worker_set_phase(w, PHASE_LEAVING);
    x->seat = true;
    w->pidfd = w->pid > 1 ? pidfd_open(w->pid, 0) : -1;
    if (w->pidfd < 0 && w->pid > 1 && errno != ESRCH) {
        return -errno;
    }
    /* it lives after the descriptor was had, so that is its own */
    if (w->pidfd < 0 || slot_life(&s->d->shm, w->slot) != SLOT_ALIVE) {
        if (w->pidfd >= 0) {
            close(w->pidfd);
            w->pidfd = -1;
        }
        worker_died(s, w);
        return 0;
    }
    log_info(LOG_ABOUT(.message = MESSAGE_WORKER_STARTED, .pool = w->pool->config->name,
                       .worker = w->pid),
             "worker %d of the former daemon goes on with its task", (int)w->pid);
    return worker_watch(s, w);
}

static int adopt(struct supervise *s, uint32_t slot, const struct slot_view *v) {
    struct pool *p = &s->d->pools[v->pool];
    struct worker *w, *first = find_first(p, v->pid);
    int r = worker_in_slot(s, p, slot, v->gen, &w);
    if (r < 0) {
        return r;
    }
    w->pid = (pid_t)v->pid;
    w->warm_ns = w->spawned_ns;
    /* What it has claimed is in no sum of ours; as it is counted now, it is to be taken off (pool_queued). */
    p->count.buried_claims -= v->claims;
    p->count.buried_bytes -= v->bytes;
    p->claims_seen += v->claims;
    p->bytes_seen += v->bytes;
    if (first) {
        join_team(w, first);
        return 0;
    }
    return be_first(s, w);
}

static bool is_handed(const struct supervise *s, uint32_t slot, struct slot_view *v) {
    slot_view(&s->d->shm, slot, v);
    return v->state != SLOT_FREE && v->pool < SHM_POOLS && v->command == SLOT_HANDED;
}

bool handover_any(const struct supervise *s) {
    struct slot_view v;
    bool any = false;
    for (uint32_t i = 0; s->d->found && !any && i < s->slots; i++) {
        any = is_handed(s, i, &v);
    }
    return any;
}

int handover_adopt(struct supervise *s) {
    for (uint32_t i = 0; s->d->found && i < s->slots; i++) {
        struct slot_view v;
        if (!is_handed(s, i, &v) || !s->d->pools[v.pool].config) {
            continue;
        }
        int r = adopt(s, i, &v);
        if (r < 0) {
            log_err(NULL, "cannot take over worker %u of the former daemon: %s", v.pid,
                    strerror(-r));
            return r;
        }
    }
    return 0;
}
