/* SPDX-License-Identifier: MIT */
/* A process that runs a handler of a pool's module, on one task, and ends: PROC.START HANDLER.
 *
 * It is hearth-worker, started as any process is, with the pool's module, arguments, environment, directory, limits and confinement, and a slot of
 * its own in the segment: so its handler has all that a worker's has. Its task is one of the pool's that is held for this slot alone
 * (tasks_order()), as POOL.BROADCAST does; no worker takes it, and it is not tried again. To the pool it is no worker: it does not
 * count towards its size and gets none of its tasks. The task's record has the result, as of any task.
 *
 * Its end: the process is waited for; then its slot is buried, which rolls back what it was at and releases what it held, its task is
 * ended as its death says unless it has ended by itself, and the slot is free again. A slot that is being
 * rescued by another makes that wait. When the daemon dies the process does (PDEATHSIG), and the next daemon buries its slot as a worker's.
 *
 * Fails: procs_launch_handler() with the step. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "daemon/supervise/cgroup.h"
#include "daemon/supervise/launch.h"
#include "daemon/supervise/private.h"
#include "daemon/supervise/procs.h"
#include "daemon/tasks.h"
#include "lib/base/cleanup.h"
#include "lib/shm/slot.h"

static struct task_outcome judge(const struct proc *p) {
    struct task_outcome o = {.state = TASK_LOST, .cause = CAUSE_SIGNAL};
    if (p->d->stopping) {
        o.cause = p->d->kept ? CAUSE_DAEMON : CAUSE_STOPPING;
    } else if (WIFEXITED(p->status)) {
        o.cause = CAUSE_EXIT;
        o.code = WEXITSTATUS(p->status);
    } else {
        o.signal = (uint8_t)WTERMSIG(p->status);
        o.core = WCOREDUMP(p->status);
    }
    return o;
}

/* For the pool's sums its task is taken from the beginning, and not as much as waits. */
static void count_claim(struct proc *p) {
    struct pool *pool = p->spec.pool;
    struct task_view v;
    if (task_view(&p->d->shm, p->spec.task, &v) == 0) {
        p->task_bytes = v.payload.len + v.args_raw.len;
    }
    pool->count.buried_claims++;
    pool->count.buried_bytes += p->task_bytes;
}

static void let_go(struct proc *p) {
    struct slot_view v;
    slot_view(&p->d->shm, p->slot, &v);
    if (v.claims == 0) {
        p->spec.pool->count.buried_claims--;
        p->spec.pool->count.buried_bytes -= p->task_bytes;
    }
    slot_release(&p->d->shm, p->slot, p->gen);
    tasks_order_lost(p->d, v.order);
    p->seated = false;
    p->d->procs->n_seats--;
}

bool procs_unseat(struct proc *p) {
    struct hearthd *d = p->d;
    uint32_t idx;
    if (!p->seated) {
        return true;
    }
    struct task_outcome o = judge(p);
    if (slot_bury(&d->shm, p->slot, p->gen) == -EAGAIN ||
        task_reap(&d->shm, p->slot, p->gen, &o, &idx) == -EAGAIN) {
        return false;
    }
    let_go(p);
    if (tasks_is_live(d, p->spec.task, p->spec.task_id)) {
        tasks_ended(d, p->spec.task);
    }
    return true;
}

static int launch(struct proc *p, char *once, const char **ret_what) {
    const struct hearthd *d = p->d;
    const struct zygote *z = zygote_of(p->spec.pool);
    char ours[PROC_OURS][48];
    _cleanup_free_ const char **env = procs_environment(p, ours, &z->config->env);
    struct launch l = {
        .env = env,
        .fds = {-1, -1, -1, d->procs->null_fd, d->shm.fd, d->bell_fd, d->door_fds[1]},
        .n_fds = 7,
        .directory = p->spec.directory,
    };
    *ret_what = "environment";
    int r = env ? procs_make_fds(p, l.fds, ret_what) : -ENOMEM;
    _cleanup_close_ int cgroup = -1;
    cgroup_process(d->cgroups, p->id, p->runs, &cgroup);
    l.cgroup_fd = cgroup;
    return r < 0 ? r : worker_launch(z, once, &l, &p->pid, &p->pidfd, ret_what);
}

int procs_launch_handler(struct proc *p, const char **ret_what) {
    char once[32];
    *ret_what = "a place in the segment";
    int r = slot_reserve(&p->d->shm, p->spec.pool->index, &p->slot, &p->gen);
    if (r < 0) {
        return r;
    }
    p->seated = true;
    p->d->procs->n_seats++;
    count_claim(p);
    tasks_order(p->d, p->spec.task, p->slot);
    snprintf(once, sizeof(once), "%u:%u", p->slot, p->gen);
    r = launch(p, once, ret_what);
    if (r < 0) { /* nobody has been in it */
        let_go(p);
    }
    return r;
}
