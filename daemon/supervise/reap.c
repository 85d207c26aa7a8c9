/* SPDX-License-Identifier: MIT */
/* Death of a worker: what it was, what it held, who must hear of it.
 *
 * A worker's pidfd becomes readable at its end. It is then taken to pieces in a fixed order, each
 * step of which can be repeated: its exit status is fetched; what is left of its command is killed;
 * slot_bury() rolls back the transaction it was in; task_reap() settles the task it had in hand,
 * which may end that task, and then the submitter hears of it in this very turn; its counters move
 * to the pool; its slot is released. bury and reap never wait: when somebody else is at it they say
 * EAGAIN, the worker stays on s->dead and the next turn goes on.
 *
 * Which end the task is given: if we killed the worker for exactly this task, the reason of that
 * (time limit, cancel, stop); else LOST, with the signal or exit status. The daemon is a subreaper,
 * so orphans of commands become its children too; those are waited for without stealing the status
 * of a process we know: SIGCHLD only peeks (WNOWAIT) at who it is.
 *
 * Fails: nothing is reported upwards; an exit status that cannot be had is told as such. */
#include "daemon/supervise/private.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/events.h"
#include "daemon/lease.h"
#include "daemon/log.h"
#include "daemon/supervise/cgroup.h"
#include "daemon/supervise/procs.h"
#include "daemon/tasks.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/num.h"

#define STATUS_WAIT (500 * NS_PER_MS) /* for a dying worker to become our child */
#define HANGUP_WAIT (50 * NS_PER_MS)  /* for a program to end after its connection */
#define KILL_WAIT   (2 * NS_PER_SEC)  /* for killed processes to be gone */

void worker_died(struct supervise *s, struct worker *w) {
    struct watch *x = watch_of(w);

    if (x->exit_event) {
        event_del(x->exit_event);
    }
    if (list_empty(&x->dead_node)) {
        x->dead_ns = clock_now();
        list_append(&s->dead, &x->dead_node);
    }
    s->look = true;
}

void reap_text(const siginfo_t *si, char out[64]) {
    if (si->si_pid == 0) {
        snprintf(out, 64, "exit status unknown");
    } else if (si->si_code == CLD_EXITED) {
        snprintf(out, 64, "exit status %d", si->si_status);
    } else {
        const char *name = sigabbrev_np(si->si_status);
        snprintf(out, 64, "signal %d (SIG%s)%s", si->si_status, name ? name : "?",
                 si->si_code == CLD_DUMPED ? ", core dumped" : "");
    }
}

/* A program's connection usually ends because the program does, and then its status says why. One
 * that has merely closed it is of no more use. */
static void cut_off(struct supervise *s, struct watch *x) {
    if (x->hung_up_ns != 0 && !x->cut && clock_now() - x->hung_up_ns > HANGUP_WAIT) {
        x->cut = true;
        x->dead_ns = clock_now();
        pidfd_send_signal(x->worker->pidfd, SIGKILL, NULL, 0);
        worker_signal_command(s, x->worker, SIGKILL);
    }
}

/* True when the status is known, or given up. What else is in its process group goes first: until it
 * is waited for, the number is its own. */
static bool fetch_status(struct supervise *s, struct watch *x) {
    if (x->adopted) {
        x->status_known = true; /* somebody else waits for it */
    }
    if (!x->status_known && x->worker->pool->config->kind == POOL_PROGRAM) {
        siginfo_t si = {0};
        if (waitid(P_PIDFD, (id_t)x->worker->pidfd, &si, WEXITED | WNOHANG | WNOWAIT) == 0 &&
            si.si_pid != 0) {
            worker_signal_command(s, x->worker, SIGKILL);
        } else {
            cut_off(s, x);
        }
    }
    if (!x->status_known) {
        int r = waitid(P_PIDFD, (id_t)x->worker->pidfd, &x->status, WEXITED | WNOHANG);
        if (r == 0 && x->status.si_pid != 0) {
            x->status_known = true;
        } else if (clock_now() - x->dead_ns > STATUS_WAIT) {
            memset(&x->status, 0, sizeof(x->status));
            x->status_known = true;
        }
    }
    return x->status_known;
}

/* The task it had in hand, running: its id, or 0. */
static uint64_t task_in_hand(struct hearthd *d, const struct worker *w, const struct slot_view *v,
                             uint32_t *ret_idx) {
    struct task_view t;

    if (v->hand == 0 || v->hand > UINT32_MAX) {
        return 0;
    }
    uint32_t idx = (uint32_t)(v->hand - 1);
    if (task_view(&d->shm, idx, &t) < 0 || t.state != TASK_RUNNING ||
        (t.owner & 0xffff) != w->slot + 1) {
        return 0;
    }
    *ret_idx = idx;
    return t.id;
}

static struct task_outcome judge(const struct worker *w, uint64_t task) {
    const struct watch *x = watch_of((struct worker *)w);
    struct task_outcome o = {.state = TASK_LOST, .cause = CAUSE_SIGNAL, .signal = SIGKILL};

    if (x->killed && task != 0 && task == w->kill_task_id) {
        o.signal = 0;
        o.cause = (enum task_cause)w->kill_cause;
        o.code = o.cause == CAUSE_MEMORY ? (int32_t)(x->now.memory / 1024) : 0;
        o.state = o.cause == CAUSE_TIMEOUT || o.cause == CAUSE_DEADLINE ? TASK_TIMEOUT
                  : o.cause == CAUSE_CANCELLED                          ? TASK_CANCELLED
                                                                        : TASK_LOST;
    } else if (x->short_of_memory) {
        o.signal = 0;
        o.cause = CAUSE_MEMORY;
        o.code = (int32_t)(w->pool->config->cgroup_memory_max / 1024);
    } else if (x->joined || x->cut) {
        o.signal = 0;
        o.cause = CAUSE_HANGUP;
    } else if (x->status.si_pid != 0 && x->status.si_code == CLD_EXITED) {
        o.cause = CAUSE_EXIT;
        o.code = x->status.si_status;
        o.signal = 0;
    } else if (x->status.si_pid != 0) {
        o.signal = (uint8_t)x->status.si_status;
        o.core = x->status.si_code == CLD_DUMPED;
    }
    return o;
}

static const char *killed_for(const struct worker *w) {
    return watch_of((struct worker *)w)->late ? "it did not start or leave in time"
           : w->kill_cause == CAUSE_TIMEOUT   ? "over the time limit"
           : w->kill_cause == CAUSE_DEADLINE  ? "its task was over its deadline"
           : w->kill_cause == CAUSE_CANCELLED ? "its task was cancelled"
           : w->kill_cause == CAUSE_STOPPING  ? "stopping"
           : w->kill_cause == CAUSE_DAEMON    ? "stopping"
           : w->kill_cause == CAUSE_MEMORY    ? "over the memory limit"
           : w->astray                        ? "the record of its task was damaged"
                                              : "it was told to go";
}

/* Said once, when the status is known: `task` is what it had in hand, 0: nothing; it has ended
 * `done` before. */
static void tell(struct supervise *s, struct worker *w, uint64_t task, uint32_t idx,
                 uint64_t done) {
    struct watch *x = watch_of(w);
    struct pool *p = w->pool;
    char how[64], id[TASK_ID_TEXT] = "";
    bool asked_to = x->phase == PHASE_LEAVING || s->stop_at_ns != 0;

    if (x->is_thread) {
        return;
    }
    reap_text(&x->status, how);
    if (task != 0) {
        task_id_text(id, task, idx);
    }
    struct log_fields about = {
        .pool = p->config->name, .worker = w->pid, .task = task != 0 ? id : NULL};
    if (x->killed) {
        about.message = MESSAGE_WORKER_KILLED;
        p->count.deaths++;
        log_notice(&about, "worker %d was killed: %s", (int)w->pid, killed_for(w));
        events_worker(s->d, EVENT_WORKER_KILLED, w, done, killed_for(w));
    } else if (x->adopted && task == 0) {
        about.message = MESSAGE_WORKER_RECYCLED;
        log_info(&about, "worker %d has left, which the former daemon had handed over",
                 (int)w->pid);
        events_worker(s->d, EVENT_WORKER_RECYCLED, w, done, "handed over");
    } else if (x->joined) {
        about.message = MESSAGE_WORKER_DIED;
        p->count.deaths += task != 0;
        log_info(&about, "worker %d has gone%s", (int)w->pid, task != 0 ? ", from its task" : "");
        events_worker(s->d, EVENT_WORKER_DIED, w, done, "its connection has ended");
    } else if (asked_to && x->status.si_code == CLD_EXITED && x->status.si_status == 0) {
        about.message = MESSAGE_WORKER_RECYCLED;
        p->count.recycled += x->phase == PHASE_LEAVING && !x->surplus;
        const char *why = x->phase != PHASE_LEAVING ? "stopping"
                          : x->surplus              ? "not needed"
                          : x->tired                ? x->tired
                                                    : "its max_tasks are done";
        log_at(x->tired && !x->surplus ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG, &about,
               "worker %d has left: %s", (int)w->pid, why);
        events_worker(s->d, EVENT_WORKER_RECYCLED, w, done, why);
    } else {
        about.message = MESSAGE_WORKER_DIED;
        p->count.deaths++;
        log_warn(&about, "worker %d died: %s%s", (int)w->pid, how,
                 x->short_of_memory ? ", for want of memory in its cgroup" : "");
        events_worker(s->d, EVENT_WORKER_DIED, w, done, how);
    }
}

/* Deaths that must be followed by a pause. */
static void count_failure(struct supervise *s, struct worker *w, const struct slot_view *v) {
    struct watch *x = watch_of(w);
    char how[64];

    reap_text(&x->status, how);
    if (x->trial) {
        roll_trial_died(s, w, how);
        return;
    }
    if (s->stop_at_ns != 0 || x->phase == PHASE_LEAVING || x->joined || x->explained ||
        x->is_thread) {
        return;
    }
    if (x->late) {
        pool_failed(s, w->pool, "a worker was not warm within %u ms",
                    w->pool->config->start_timeout_ms);
    } else if (w->warm_ns == 0 && v->state < SLOT_WARM) {
        pool_failed(s, w->pool, "a worker ended while starting: %s", how);
    } else if (v->claims == 0 && !x->killed) {
        pool_died(s, w->pool, w->spawned_ns, "a worker ended before its first task: %s", how);
    }
}

/* Claims of the dead leave the sums over the living. */
static void move_counters(struct supervise *s, struct worker *w) {
    struct pool *p = w->pool;
    struct slot_view v;

    slot_view(&s->d->shm, w->slot, &v);
    p->count.buried_claims += v.claims;
    p->count.buried_bytes += v.bytes;
    p->claims_seen = p->bytes_seen = 0;
    list_for_each (it, &p->workers) {
        const struct worker *other = list_entry(it, struct worker, in_pool);
        if (other != w) {
            slot_view(&s->d->shm, other->slot, &v);
            p->claims_seen += v.claims;
            p->bytes_seen += v.bytes;
        }
    }
}

/* True: it is gone. */
static bool bury(struct supervise *s, struct worker *w) {
    struct watch *x = watch_of(w);
    struct hearthd *d = s->d;
    struct slot_view v;
    uint32_t idx = 0, ended = 0;

    if (!fetch_status(s, x)) {
        return false;
    }
    threads_died(s, w);
    slot_view(&d->shm, w->slot, &v);
    if (x->phase != PHASE_DEAD) {
        x->task_in_hand = task_in_hand(d, w, &v, &idx);
        tell(s, w, x->task_in_hand, idx, v.finished);
        worker_signal_command(s, w, SIGKILL);
        if (!x->joined && !x->is_thread) {
            char name[CGROUP_NAME];
            cgroup_worker_name(w, name);
            x->short_of_memory = !x->killed && cgroup_was_short(s->d->cgroups, name);
            cgroup_kill(s->d->cgroups, name);
        }
        if (x->task_in_hand != 0) {
            worker_kill_orphans(s, w, x->task_in_hand, idx);
        }
        count_failure(s, w, &v);
        worker_set_phase(w, PHASE_DEAD);
    }
    if (slot_bury(&d->shm, w->slot, w->gen) == -EAGAIN) {
        return false;
    }
    struct task_outcome o = judge(w, x->task_in_hand);
    int r = task_reap(&d->shm, w->slot, w->gen, &o, &ended);
    if (r == -EAGAIN) {
        return false;
    }
    move_counters(s, w);
    if (w->lease) {
        lease_close(d, w->lease);
        lease_free(w->lease); /* lets go of the slot before it can be anybody's */
    }
    slot_release(&d->shm, w->slot, w->gen);
    tasks_order_lost(d, v.order);
    w->pool->wake++; /* it may have had a task in hand that is queued again */
    worker_free(s, w);
    if (r == 1) {
        tasks_ended(d, ended);
    } else if (v.hand != 0 && v.hand <= UINT32_MAX) {
        tasks_ended(d, (uint32_t)(v.hand - 1)); /* its record may be damaged */
    }
    return true;
}

bool reap_turn(struct supervise *s) {
    list_for_each_safe (it, &s->dead) {
        bury(s, list_entry(it, struct watch, dead_node)->worker);
    }
    return !list_empty(&s->dead);
}

/* ---- children nobody knows ---- */

static struct worker *worker_by_pid(struct supervise *s, pid_t pid) {
    for (uint32_t i = 0; i < s->slots; i++) {
        if (s->d->workers[i] && s->d->workers[i]->pid == pid &&
            !watch_of(s->d->workers[i])->is_thread && !watch_of(s->d->workers[i])->adopted) {
            return s->d->workers[i];
        }
    }
    return NULL;
}

static struct zygote *zygote_by_pid(struct supervise *s, pid_t pid) {
    for (uint32_t i = 0; i < 2 * s->d->n_pools; i++) {
        if (s->zygotes[i].state != ZYGOTE_NONE && s->zygotes[i].pid == pid) {
            return &s->zygotes[i];
        }
    }
    return NULL;
}

bool supervise_knows(struct supervise *s, pid_t pid) {
    return worker_by_pid(s, pid) || zygote_by_pid(s, pid) || procs_by_pid(s->d->procs, pid);
}

/* A worker may have died before CONTROL_SPAWNED told us its pid. */
static bool any_asked(struct supervise *s) {
    for (uint32_t i = 0; i < s->slots; i++) {
        const struct worker *w = s->d->workers[i];
        if (w && watch_of((struct worker *)w)->phase == PHASE_ASKED) {
            return true;
        }
    }
    return false;
}

void reap_orphans(struct supervise *s) {
    s->orphans = false;
    for (;;) {
        siginfo_t si = {0};
        if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || si.si_pid == 0) {
            return;
        }
        struct proc *p = procs_by_pid(s->d->procs, si.si_pid);
        struct worker *w = worker_by_pid(s, si.si_pid);
        struct zygote *z = zygote_by_pid(s, si.si_pid);
        if (p) {
            procs_reap(p);
        } else if (w) {
            worker_died(s, w);
            if (!fetch_status(s, watch_of(w))) {
                return;
            }
        } else if (z) {
            z->exited =
                true; /* waited for by zygote_bury(), after which SIGCHLD is looked at again */
            s->look = true;
            s->orphans = true;
            return;
        } else if (any_asked(s)) {
            return; /* the next word of a zygote brings us here again */
        } else {
            waitid(P_PID, (id_t)si.si_pid, &si, WEXITED | WNOHANG);
            procs_orphan_ended(s->d);
        }
    }
}

static bool is_handed(struct supervise *s, pid_t pid) {
    const struct worker *w = worker_by_pid(s, pid);
    return w && watch_of((struct worker *)w)->handed;
}

/* The pids in /proc/self/task/SELF/children; our own direct children whoever made them. False: there are none. */
static bool kill_children(struct supervise *s) {
    char path[64];
    _cleanup_close_ int fd = -1;
    static char text[65536];

    snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (n <= 0) {
        return n < 0;
    }
    text[n] = '\0';
    bool any = false;
    char *rest = NULL;
    for (char *word = strtok_r(text, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
        uint64_t pid;
        if (num_u64(word, strlen(word), &pid) == 0 && pid > 1 && pid <= INT32_MAX &&
            !is_handed(s, (pid_t)pid)) {
            kill((pid_t)pid, SIGKILL);
            any = true;
        }
    }
    return any;
}

void reap_everything(struct supervise *s) {
    uint64_t end = clock_now() + KILL_WAIT;

    /* Children of the killed become ours, hence again until there are none. */
    while (clock_now() < end) {
        bool any = kill_children(s);
        pid_t pid = waitpid(-1, NULL, WNOHANG);
        if ((pid < 0 && errno == ECHILD) || (pid == 0 && !any)) {
            return;
        }
        if (pid == 0) {
            nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
        }
    }
}
