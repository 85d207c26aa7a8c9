/* SPDX-License-Identifier: MIT */
/* Time: limits of running tasks, planned kills, starts that take too long, pauses that are over.
 *
 * A worker writes when its task must be looked at into its slot (its deadline, or what limits.c wants to
 * look at before) and rings only when that is earlier than the
 * time at which the daemon will look anyway (shm_next_check). So a stream of short tasks with long
 * limits rings once per limit, not once per task: when the timer fires, the deadline that set it is
 * usually long gone, and the next one is looked up. After that time has been put later the slots
 * are read once more, because a worker may have judged by the old one meanwhile.
 *
 * A module's task that is over its limit costs its worker: SIGKILL, at once. A command first gets
 * SIGTERM (and SIGCONT, or a stopped one would not hear it) and, if it is still the same task after
 * kill_grace, SIGKILL with its group and its worker. The same for a cancel, which tasks_cancel()
 * has planned in kill_at_ns. Before each signal the slot is read: `hand` must still be that task,
 * running, by this worker, which is kept from claiming another one meanwhile (slot_hold). The end the task gets is decided when the worker is buried, reap.c.
 *
 * Fails: nothing. */
#include "daemon/supervise/private.h"

#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "daemon/lease.h"
#include "daemon/supervise/cgroup.h"
#include "daemon/supervise/family.h"
#include "daemon/tasks.h"
#include "lib/base/clock.h"

#define NEVER        UINT64_MAX
#define DEAD_RETRY   (2 * NS_PER_MS) /* for slots that could not be buried */
#define ASKED_LOOK   (20 * NS_PER_MS)
#define GROUPS_RETRY (50 * NS_PER_MS) /* for groups that could not be removed */

static uint64_t earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* ---- killing ---- */

void worker_signal_command(struct supervise *s, struct worker *w, int sig) {
    struct slot_view v;

    if (w->pool->config->kind == POOL_PROGRAM && !watch_of(w)->joined && !watch_of(w)->adopted &&
        w->pid > 1 && !watch_of(w)->status_known) {
        kill(-w->pid,
             sig); /* it leads a group; it has not been waited for, so the number is its own */
    }
    if (w->pool->config->kind != POOL_EXEC && !watch_of(w)->adopted) {
        return;
    }
    slot_view(&s->d->shm, w->slot, &v);
    /* The number comes from the segment: never let it mean everybody, ourselves, or a process that
     * we keep. */
    if (v.child <= 1 || v.child > INT32_MAX || (pid_t)v.child == getpgrp() ||
        (pid_t)v.child == getpid()) {
        return;
    }
    for (uint32_t i = 0; i < s->d->n_pools; i++) {
        if (s->zygotes[i].pid == (pid_t)v.child) {
            return;
        }
    }
    kill(-(pid_t)v.child, sig);
}

void worker_kill(struct supervise *s, struct worker *w) {
    struct watch *x = watch_of(w);
    struct family f;
    char name[CGROUP_NAME];

    x->killed = true;
    if (x->first && !x->first->killed) { /* the process, for what one of its threads does */
        x->first->killed = true;
        x->first->worker->kill_cause = w->kill_cause;
        x->first->worker->kill_task_id = 0;
    }
    if (w->lease) {
        lease_close(s->d, w->lease); /* what it may still say counts no more */
    }
    if (x->joined) {
        return; /* that was its end */
    }
    family_collect(w->pid, &f); /* while it can still be told from others */
    /* The worker first: or it would see its command die and judge that in the instant it has left.
     */
    pidfd_send_signal(w->pidfd, SIGKILL, NULL, 0);
    worker_signal_command(s, w, SIGKILL);
    cgroup_worker_name(w, name);
    cgroup_kill(s->d->cgroups, name);
    family_kill(&f);
    family_release(&f);
}

struct orphans {
    struct supervise *s;
    const char *task;
    struct family f;
};

static bool is_known(void *arg, pid_t child) {
    const struct orphans *k = arg;
    return supervise_knows(k->s, child);
}

static void collect(void *arg, pid_t child, const char *env, size_t len) {
    struct orphans *k = arg;
    const char *task = family_variable(env, len, "HEARTH_TASK");
    if (task && strcmp(task, k->task) == 0) {
        family_add_child(&k->f, child);
    }
}

void worker_kill_orphans(struct supervise *s, struct worker *w, uint64_t task, uint32_t idx) {
    char id[TASK_ID_TEXT];
    struct orphans k = {s, id, {0}};
    bool none = w->pool->config->kind != POOL_EXEC;

    task_id_text(id, task, idx);
    for (int i = 0; i < 8 && !none; i++) { /* who forks faster than that gets away */
        family_each_orphan(is_known, collect, &k);
        family_kill(&k.f);
        none = k.f.n == 0;
        family_release(&k.f);
    }
}

/* The id of the task this worker runs now, or 0. */
static uint64_t running(struct supervise *s, const struct worker *w, struct slot_view *v,
                        uint32_t *ret_idx, struct task_view *ret_task) {
    struct task_view t;

    slot_view(&s->d->shm, w->slot, v);
    if (v->hand == 0 || v->hand > UINT32_MAX) {
        return 0;
    }
    uint32_t idx = (uint32_t)(v->hand - 1);
    if (task_view(&s->d->shm, idx, &t) < 0 || t.state != TASK_RUNNING ||
        (t.owner & 0xffff) != w->slot + 1) {
        return 0;
    }
    *ret_idx = idx;
    *ret_task = t;
    return t.id;
}

bool worker_runs(struct supervise *s, struct worker *w, uint64_t task) {
    struct slot_view v;
    struct task_view t;
    uint32_t idx;
    return running(s, w, &v, &idx, &t) == task;
}

uint64_t worker_task(struct supervise *s, const struct worker *w) {
    struct slot_view v;
    struct task_view t;
    uint32_t idx;
    return running(s, w, &v, &idx, &t);
}

static void plan(struct worker *w, uint64_t task, int cause, uint64_t at) {
    w->kill_task_id = task;
    w->kill_cause = cause;
    w->kill_at_ns = at;
}

/* Ends the worker, or tells its command to end, if it still runs this task: the slot is held from
 * before the look until the signal is sent, so the signal cannot meet the next one. */
static void strike(struct supervise *s, struct worker *w, uint64_t task, bool for_good) {
    struct shm *shm = &s->d->shm;
    struct slot_view v;
    struct task_view t;
    uint32_t idx;

    slot_hold(shm, w->slot, true);
    bool same = running(s, w, &v, &idx, &t) == task;
    if (same && for_good) {
        worker_kill(s, w);
        return; /* held until it is dead */
    }
    if (same && v.child != 0) {
        watch_of(w)->term_id = task;
        watch_of(w)->term_idx = idx;
        worker_signal_command(s, w, SIGTERM);
        worker_signal_command(s, w, SIGCONT);
    }
    slot_hold(shm, w->slot, false);
}

/* Whether its task's limit can still change anything: not when it is over, nor when a command that
 * was cancelled has had its SIGTERM already. (A handler does not get its grace beyond its limit.) */
static bool limit_counts(const struct worker *w) {
    return w->kill_at_ns == 0 ||
           (w->kill_cause == CAUSE_CANCELLED && w->pool->config->kind != POOL_EXEC);
}

/* When its time limit is over. */
static uint64_t limit_of(const struct task_view *t) {
    return t->timeout_ms && t->started_ns ? t->started_ns + t->timeout_ms * NS_PER_MS : NEVER;
}

static void look_at_task(struct supervise *s, struct worker *w, uint64_t now) {
    struct watch *x = watch_of(w);
    struct slot_view v;
    struct task_view t;
    uint32_t idx = 0;

    if (x->killed || x->phase < PHASE_STARTING || x->phase == PHASE_DEAD) {
        return;
    }
    uint64_t task = running(s, w, &v, &idx, &t);
    if (!w->astray && task == 0 && v.hand != 0 && v.hand <= UINT32_MAX &&
        tasks_is_astray(s->d, w->slot, (uint32_t)(v.hand - 1))) {
        w->astray = true;
        tasks_damaged(s->d, (uint32_t)(v.hand - 1));
    }
    if (w->astray) { /* the record may be another task's by now */
        worker_kill(s, w);
        return;
    }
    if (w->kill_at_ns != 0 && task != w->kill_task_id) {
        plan(w, 0, 0, 0); /* it has ended by itself */
    }
    if (x->term_id != 0 && task != x->term_id) {
        worker_kill_orphans(s, w, x->term_id, x->term_idx);
        x->term_id = 0;
    }
    if (task == 0) {
        return;
    }
    bool is_command = w->pool->config->kind == POOL_EXEC;
    bool hears = is_command || (w->lease && lease_hears(w->lease));
    if (t.started_ns != 0) {
        limits_look(s, w, idx, &t, now);
    }
    if (limit_counts(w) && limit_of(&t) <= now) {
        if (hears) {
            task_set_cancel(&s->d->shm, idx, task); /* says why SIGTERM comes, to its worker */
        }
        plan(w, task, CAUSE_TIMEOUT,
             hears ? now + w->pool->config->kill_grace_ms * NS_PER_MS : now);
        if (hears && w->lease) {
            lease_stop(s->d, w->lease, CAUSE_TIMEOUT);
        }
    }
    bool term = is_command && x->term_id != task && v.child != 0;
    if (w->kill_at_ns != 0 && (w->kill_at_ns <= now || term)) {
        strike(s, w, task, w->kill_at_ns <= now);
    }
}

static void look_at_start(struct supervise *s, struct worker *w, uint64_t now) {
    struct watch *x = watch_of(w);
    uint64_t limit = w->pool->config->start_timeout_ms * NS_PER_MS;
    uint64_t claims;

    if (now - x->since_ns < limit || x->killed) {
        return;
    }
    if (x->phase == PHASE_LEAVING && worker_busy(s, w, &claims) > 0) {
        x->since_ns = now; /* it was told to leave as it claimed this task, which is its last */
        return;
    }
    if (x->phase == PHASE_ASKED && x->orphaned_ns == 0) {
        struct zygote *z = zygote_of(w->pool);
        z = z->version == x->version ? z : zygote_other(s, z);
        zygote_kill(z); /* it does not fork: its end settles the rest */
    } else if (x->phase == PHASE_STARTING || x->phase == PHASE_LEAVING) {
        x->late = true;
        worker_kill(s, w);
    }
}

static void look_at_zygote(struct supervise *s, struct zygote *z, uint64_t now) {
    uint64_t limit = z->config ? z->config->start_timeout_ms * NS_PER_MS : 0;
    if (z->config && z->state == ZYGOTE_STARTING && !z->killed && now - z->started_ns >= limit) {
        zygote_failed(s, z, "its module was not loaded within %u ms", z->config->start_timeout_ms);
        zygote_kill(z);
    }
}

void deadline_turn(struct supervise *s) {
    uint64_t now = clock_now();

    s->d->check_deadlines = false;
    for (uint32_t i = 0; i < s->d->n_pools; i++) {
        look_at_zygote(s, &s->zygotes[2 * i], now);
        look_at_zygote(s, &s->zygotes[2 * i + 1], now);
        limits_pool(s, &s->d->pools[i]);
        list_for_each (it, &s->d->pools[i].workers) {
            struct worker *w = list_entry(it, struct worker, in_pool);
            look_at_task(s, w, now);
            look_at_start(s, w, now);
        }
    }
}

/* ---- the timer ---- */

/* When this worker's task must be looked at. */
static uint64_t task_time(struct supervise *s, struct worker *w) {
    const struct watch *x = watch_of(w);
    struct slot_view v;
    struct task_view t;
    uint32_t idx;
    uint64_t at = NEVER;

    if (x->killed || x->phase == PHASE_DEAD) {
        return NEVER;
    }
    if (running(s, w, &v, &idx, &t) != 0 && t.started_ns != 0) {
        at = limits_time(w, &t);
        at = limit_counts(w) ? earlier(at, limit_of(&t)) : at;
    } else if (v.hand != 0 && v.deadline_ns != 0) {
        at = v.deadline_ns;
    }
    return w->kill_at_ns != 0 ? earlier(at, w->kill_at_ns) : at;
}

/* The earliest of what only tasks decide. */
static uint64_t tasks_time(struct supervise *s) {
    uint64_t at = NEVER;

    for (uint32_t i = 0; i < s->d->n_pools; i++) {
        list_for_each (it, &s->d->pools[i].workers) {
            at = earlier(at, task_time(s, list_entry(it, struct worker, in_pool)));
        }
    }
    return at;
}

static uint64_t worker_time(const struct worker *w) {
    const struct watch *x = watch_of((struct worker *)w);
    uint64_t limit = w->pool->config->start_timeout_ms * NS_PER_MS;

    if (x->phase == PHASE_ASKED && x->orphaned_ns != 0) {
        return clock_now() + ASKED_LOOK;
    }
    if (x->phase == PHASE_SERVING && !x->tired) {
        return x->old_ns;
    }
    bool timed = x->phase == PHASE_ASKED || x->phase == PHASE_STARTING || x->phase == PHASE_LEAVING;
    return timed && !x->killed ? x->since_ns + limit : NEVER;
}

static uint64_t pools_time(struct supervise *s) {
    uint64_t at = NEVER;

    for (uint32_t i = 0; i < s->d->n_pools; i++) {
        const struct pool *p = &s->d->pools[i];
        for (const struct zygote *z = &s->zygotes[2 * i]; z < &s->zygotes[2 * i + 2]; z++) {
            if (z->state == ZYGOTE_STARTING && !z->killed) {
                at = earlier(at, z->started_ns + z->config->start_timeout_ms * NS_PER_MS);
            }
        }
        if (p->backoff_until_ns > clock_now()) {
            at = earlier(at, p->backoff_until_ns);
        } else if (zygote_of((struct pool *)p)->state == ZYGOTE_READY) {
            at = earlier(at, zygote_of((struct pool *)p)->size.look_at_ns);
        }
        list_for_each (it, &p->workers) {
            at = earlier(at, worker_time(list_entry(it, struct worker, in_pool)));
        }
    }
    return at;
}

void deadline_timer(struct supervise *s) {
    uint64_t now = clock_now();
    uint64_t of_tasks = tasks_time(s);

    shm_next_check(&s->d->shm, of_tasks);
    of_tasks = earlier(of_tasks, tasks_time(s));
    shm_next_check(&s->d->shm, of_tasks);

    uint64_t at = earlier(earlier(of_tasks, pools_time(s)), handover_time(s));
    if (!list_empty(&s->dead)) {
        at = earlier(at, now + DEAD_RETRY);
    }
    if (s->cgroups_left) {
        at = earlier(at, now + GROUPS_RETRY);
    }
    if (s->stop_at_ns != 0) {
        at = earlier(at, s->stop_killed ? now + 100 * NS_PER_MS : s->stop_at_ns);
    }
    if (at == s->timer_at_ns && at > now) {
        return;
    }
    s->timer_at_ns = at;
    if (at == NEVER) {
        event_del(s->timer);
        return;
    }
    uint64_t wait = at > now ? at - now : 0;
    /* libevent counts in milliseconds and must not wake up just before the time. */
    wait += 999 * 1000;
    struct timeval tv = {.tv_sec = (time_t)(wait / NS_PER_SEC),
                         .tv_usec = (suseconds_t)(wait % NS_PER_SEC / 1000)};
    event_add(s->timer, &tv);
}
