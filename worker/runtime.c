/* SPDX-License-Identifier: MIT */
/* The loop of a worker: claim, run, finish.
 *
 *     attach the slot -> worker_init -> WARM
 *     told GO         -> SERVING: claim, run, finish, claim, run, finish ...
 *     told EXIT       -> worker_exit, exit 0
 *     max_tasks done  -> RETIRED, until told EXIT
 *
 * Tasks come straight from the segment and go back there; the daemon is not asked. It speaks to a
 * worker through two words of its slot (GO and EXIT), which the worker looks at between tasks and
 * is woken for. What the daemon must know (state, the task in hand, its deadline) the verbs of
 * lib/shm write into the slot; a worker reports nothing by itself, since a report that its death
 * could prevent is worth nothing.
 *
 * A worker with max_tasks asks for its replacement some tasks before its last, so that the pool is
 * never one short: the new one is warm by then, and is told GO when this one retires.
 *
 * Fails: exit status 1 when the worker cannot start (said on stderr), 2 when the segment cannot be
 * used any more. Anything a handler does to the process (crash, exit) is the daemon's to see. */
#include "worker/runtime.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/shm/account.h"
#include "lib/shm/slot.h"
#include "lib/shm/task.h"
#include "worker/api.h"
#include "worker/exec.h"
#include "worker/say.h"
#include "worker/shared.h"

enum { STATUS_START = 1, STATUS_SEGMENT = 2 };

/* How many tasks before its last a worker asks for a replacement. */
static uint64_t notice(uint64_t max_tasks) {
    uint64_t n = max_tasks / 10;
    return n < 1 ? 1 : n > 16 ? 16 : n;
}

/* Runs the claimed task to its end. False: the segment is not to be trusted any more. */
static bool run_one(const struct options *o, const struct module *m, struct exec *e, struct shm *s,
                    const struct task_ref *ref) {
    struct task_view v;
    struct task_outcome end;
    int r = task_view(s, ref->idx, &v);
    if (r < 0) {
        say(HEARTH_LOG_ERROR, NULL, "the record of a claimed task is damaged: %s", strerror(-r));
        return false;
    }
    account_act_as(s, v.uid); /* what a task makes is its submitter's */
    if (m != NULL) {
        api_run(m, s, ref, &v, o->max_output, &end);
    } else {
        exec_run(e, s, ref, &v, &end);
    }
    r = task_finish(s, ref, &end);
    if (r < 0) {
        /* it was taken from us: only somebody who thought us dead does that */
        say(HEARTH_LOG_ERROR, NULL, "a task ended without its worker: %s", strerror(-r));
    }
    return true;
}

static void wait_for(struct shm *s, enum slot_command other) {
    for (;;) {
        enum slot_command now = slot_told(s);
        if (now == other || now == SLOT_EXIT) {
            return;
        }
        slot_wait_command(s, now);
    }
}

static int serve(const struct options *o, const struct module *m, struct exec *e, struct shm *s) {
    uint64_t left = o->max_tasks;
    slot_set_state(s, SLOT_WARM);
    wait_for(s, SLOT_GO);
    if (slot_told(s) == SLOT_EXIT) {
        return 0;
    }
    slot_set_state(s, SLOT_SERVING);
    if (o->max_tasks != 0 && left <= notice(o->max_tasks)) {
        slot_set_ending(s);
    }
    while (slot_told(s) != SLOT_EXIT) {
        struct task_ref ref;
        int r = task_claim(s, o->index, &ref);
        if (r == -EAGAIN) {
            task_wait(s, o->index);
            continue;
        }
        if (r < 0 || !run_one(o, m, e, s, &ref)) {
            return STATUS_SEGMENT;
        }
        if (o->max_tasks != 0) {
            left--;
            if (left == 0) {
                slot_set_state(s, SLOT_RETIRED);
                wait_for(s, SLOT_EXIT);
            } else if (left <= notice(o->max_tasks)) {
                slot_set_ending(s);
            }
        }
    }
    task_wake(s, o->index,
              1); /* in case it was woken for a task just before it was told to leave */
    return 0;
}

int runtime_serve(const struct options *o, const struct module *m, struct shm *s, uint32_t slot,
                  uint32_t gen) {
    struct exec e = EXEC_INIT;
    int r = slot_attach(s, slot, gen);
    if (r < 0) {
        say(HEARTH_LOG_ERROR, NULL, "slot %u is not for this worker: %s", slot, strerror(-r));
        return STATUS_START;
    }
    shared_init(s);
    const struct hearth_api *api = api_init(o->pool, (int)slot);
    if (m == NULL) {
        r = exec_init(&e, o->pool, o->argc, o->argv, o->max_output);
        if (r < 0) {
            say(HEARTH_LOG_ERROR, NULL, "cannot start: %s", strerror(-r));
            return STATUS_START;
        }
    } else if (m->head.worker_init != NULL && m->head.worker_init(api) != 0) {
        const char *why = api_why();
        say(HEARTH_LOG_ERROR, NULL, "module %s: worker_init failed%s%s", m->head.name,
            *why ? ": " : "", why);
        return STATUS_START;
    }
    int status = serve(o, m, &e, s);
    if (m != NULL && m->head.worker_exit != NULL) {
        m->head.worker_exit(api);
    }
    exec_deinit(&e);
    return status;
}
