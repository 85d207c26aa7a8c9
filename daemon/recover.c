/* SPDX-License-Identifier: MIT */
/* A daemon takes over the segment of one that has ended: killed, crashed, or stopped to be started again.
 *
 *   slots   Workers die with their daemon; those that are not through with it yet are killed, so that from here on nobody but
 *           us and mapped clients is at work in the segment, and those workers that were handed over to us: they have a task in
 *           hand and claim no other, and supervise/ takes them up (handover.c). Every dead slot is buried: its transaction is rolled back, its locks
 *           are free, what it had in hand is settled. A task that was running ends LOST, with the daemon's end as its cause.
 *           A mapped client that lives on keeps its slot, and serve/ watches it (mapped.c).
 *   scopes  Connections are gone, and so are their managers and what they owned.
 *   pools   By name, each at the place where it was, since records name pools by number (pool_init). Those that the configuration
 *           does not have any more are there as removed ones, for their results' sake.
 *   tasks   From the records: tasks_recover().
 *
 * May be killed anywhere and be done again by the next one.
 *
 * Fails: -errno, logged; the segment is as usable as before, for another try. */
#include "daemon/recover.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "daemon/keep.h"
#include "daemon/log.h"
#include "daemon/tasks.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/shm/adopt.h"
#include "lib/shm/check.h"
#include "lib/shm/manager.h"
#include "lib/shm/slot.h"
#include "lib/shm/task.h"

#define ABOUT    LOG_ABOUT(.message = MESSAGE_SEGMENT)
#define PATIENCE (5 * NS_PER_SEC) /* for a lock that somebody alive holds */

enum { DIE_MS = 10000, STEP_MS = 10 };

static bool is_worker(const struct slot_view *v) {
    return v->pool < SHM_POOLS;
}

/* A worker of the former daemon, alive: its parent's end has killed it, or will. */
static void see_off(struct hearthd *d, uint32_t slot, const struct slot_view *v) {
    _cleanup_close_ int fd = v->pid ? pidfd_open((pid_t)v->pid, 0) : -1;
    for (int ms = 0; ms < DIE_MS && slot_life(&d->shm, slot) == SLOT_ALIVE; ms += STEP_MS) {
        if (fd >= 0 && (int)v->pid != getpid()) {
            pidfd_send_signal(fd, SIGKILL, NULL, 0);
        }
        poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, STEP_MS);
    }
}

/* A task that waits for this worker alone waits in vain. */
static void drop_order(struct hearthd *d, const struct slot_view *v) {
    uint32_t idx;
    uint64_t id;
    if (task_order_of(&d->shm, v->order, &idx, &id) == 0) {
        task_end_queued(&d->shm, idx, id, TASK_LOST, CAUSE_NONE);
    }
}

static int bury(struct hearthd *d, uint32_t slot, const struct slot_view *v, uint32_t *lost) {
    const struct task_outcome o = {.state = TASK_LOST, .cause = CAUSE_DAEMON};
    uint32_t idx;
    drop_order(d, v);
    int r = slot_bury(&d->shm, slot, v->gen);
    r = r < 0 ? r : task_reap(&d->shm, slot, v->gen, &o, &idx);
    if (r < 0) {
        return r;
    }
    *lost += (uint32_t)r;
    slot_release(&d->shm, slot, v->gen);
    return 0;
}

static int bury_all(struct hearthd *d, uint32_t *lost, uint32_t *clients, uint32_t *handed) {
    struct shm_usage u;
    shm_usage(&d->shm, &u);
    for (uint32_t i = 0; i < u.slots; i++) {
        struct slot_view v;
        slot_view(&d->shm, i, &v);
        if (v.state == SLOT_FREE || i == d->shm.slot) {
            continue;
        }
        if (is_worker(&v) && v.command == SLOT_HANDED && slot_life(&d->shm, i) == SLOT_ALIVE) {
            drop_order(d, &v);
            ++*handed;
            continue;
        }
        if (is_worker(&v) && slot_life(&d->shm, i) == SLOT_ALIVE) {
            see_off(d, i, &v);
        }
        if (slot_life(&d->shm, i) == SLOT_ALIVE) {
            *clients += !is_worker(&v);
            if (is_worker(&v)) {
                log_err(ABOUT, "a worker of the former daemon, %u, does not die", v.pid);
                return -EBUSY;
            }
            continue;
        }
        int r = bury(d, i, &v, lost);
        if (r < 0) {
            log_err(ABOUT, "cannot settle what process %u had in hand: %s", v.pid, strerror(-r));
            return r;
        }
    }
    return 0;
}

int recover_slots(struct hearthd *d) {
    uint32_t lost = 0, clients = 0, handed = 0;
    if (!d->found) {
        return 0;
    }
    uint64_t patience = d->shm.patience_ns;
    d->shm.patience_ns = PATIENCE;
    int r = bury_all(d, &lost, &clients, &handed);
    if (r == 0 && (r = sync_seats_end(&d->shm)) < 0) {
        log_err(ABOUT, "cannot release what connections held: %s", strerror(-r));
    }
    d->shm.patience_ns = patience;
    if (r == 0) {
        shm_next_check(&d->shm, UINT64_MAX);
        manager_end_all(&d->shm);
        log_info(ABOUT,
                 "recovered: %u tasks were running, %u mapped clients live on, %u workers too",
                 lost, clients, handed);
    } else {
        keep_advise(d);
    }
    return r;
}

int recover_tasks(struct hearthd *d) {
    struct tasks_recovered n;
    if (!d->found && !d->restored) {
        return 0;
    }
    uint64_t patience = d->shm.patience_ns;
    d->shm.patience_ns = PATIENCE;
    int r = tasks_recover(d, &n);
    d->shm.patience_ns = patience;
    if (r < 0) {
        log_err(ABOUT, "cannot take over the tasks in the segment: %s", strerror(-r));
        keep_advise(d);
        return r;
    }
    log_notice(ABOUT, "recovered after %.1f ms: %u tasks go on, %u results are kept",
               (double)(clock_now() - d->started_ns) / NS_PER_MS, n.waiting, n.kept);
    return 0;
}
