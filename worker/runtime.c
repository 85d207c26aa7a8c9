/* SPDX-License-Identifier: MIT */
/* The loop of a worker: claim, run, finish.
 *
 *     attach the slot -> worker_init -> WARM
 *     told GO         -> SERVING: claim, run, finish, claim, run, finish ...
 *     told EXIT       -> worker_exit, exit 0
 *     max_tasks done, or its handler wants it, or told RETIRE -> RETIRED, until told EXIT
 *
 * Tasks come straight from the segment and go back there; the daemon is not asked. It speaks to a
 * worker through two words of its slot (GO and EXIT), which the worker looks at between tasks and
 * is woken for. What the daemon must know (state, the task in hand, its deadline) the verbs of
 * lib/shm write into the slot; a worker reports nothing by itself, since a report that its death
 * could prevent is worth nothing.
 *
 * A worker with max_tasks asks for its replacement some tasks before its last, so that the pool is
 * never one short: the new one is warm by then, and is told GO when this one retires. One that has
 * grown (max_growth) asks, too, and serves on until it is told RETIRE. It looks at its memory now
 * and then after a task, since that costs more than a short task.
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
#include "lib/base/clock.h"
#include "lib/base/memory.h"
#include "lib/shm/slot.h"
#include "lib/shm/task.h"
#include "worker/api.h"
#include "worker/exec.h"
#include "worker/say.h"
#include "worker/shared.h"

enum { STATUS_START = 1, STATUS_SEGMENT = 2 };

/* What brings a worker's end about. */
struct age {
    uint64_t left, notice; /* tasks until its last; 0: it has none. And from when on to say so */
    uint64_t memory;       /* private memory above which it is replaced; 0: never */
    uint64_t looked_ns;    /* at its memory, last */
};

#define LOOK_AFTER (100 * NS_PER_MS) /* at memory, after a task */
#define LOOK_IDLE  (10 * NS_PER_MS)  /* when there is nothing else to do */

static void age_init(struct age *a, const struct options *o) {
    uint64_t n = o->max_tasks, before = n / 10, used;
    *a = (struct age){.notice = before < 1 ? 1 : before > 16 ? 16 : before};
    if (n != 0) {
        a->left = n + arc4random_uniform((uint32_t)o->max_tasks_jitter + 1);
    }
    if (o->max_growth != 0 && memory_private(0, &used) == 0) {
        a->memory = used + o->max_growth;
    }
}

static void look_at_memory(struct age *a, struct shm *s, uint64_t after) {
    uint64_t now, used;
    if (a->memory != 0 && (now = clock_now()) - a->looked_ns >= after) {
        a->looked_ns = now;
        if (memory_private(0, &used) == 0 && used > a->memory) {
            slot_set_ending(s, ENDING_GREW);
            a->memory = 0;
        }
    }
}

/* After a task. True: it was the last. */
static bool age_task(struct age *a, struct shm *s) {
    if (a->left > 0 && --a->left == 0) {
        return true;
    }
    if (a->left > 0 && a->left <= a->notice) {
        slot_set_ending(s, ENDING_TASKS);
    }
    look_at_memory(a, s, LOOK_AFTER);
    return api_retires();
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

/* Until told to serve (and perhaps to retire at once); false: to exit instead. */
static bool wait_for_go(struct shm *s) {
    enum slot_command told;
    while ((told = slot_told(s)) == SLOT_STAY) {
        slot_wait_command(s, told);
    }
    return told != SLOT_EXIT;
}

static void retire(struct shm *s) {
    enum slot_command told;
    slot_set_state(s, SLOT_RETIRED);
    while ((told = slot_told(s)) != SLOT_EXIT) {
        slot_wait_command(s, told);
    }
}

static int serve(const struct options *o, const struct module *m, struct exec *e, struct shm *s) {
    struct age age;
    age_init(&age, o);
    slot_set_state(s, SLOT_WARM);
    if (!wait_for_go(s)) {
        return 0;
    }
    slot_set_state(s, SLOT_SERVING);
    if (age.left > 0 && age.left <= age.notice) {
        slot_set_ending(s, ENDING_TASKS);
    }
    bool last = false;
    while (!last && slot_told(s) < SLOT_EXIT) {
        struct task_ref ref;
        int r = task_claim(s, o->index, &ref);
        if (r == -EAGAIN) {
            look_at_memory(&age, s, LOOK_IDLE);
            task_wait(s, o->index);
            continue;
        }
        if (r < 0 || !run_one(o, m, e, s, &ref)) {
            return STATUS_SEGMENT;
        }
        last = age_task(&age, s);
    }
    task_wake(s, o->index,
              1); /* in case it was woken for a task just before it was told to leave */
    if (slot_told(s) != SLOT_EXIT) {
        retire(s);
    }
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
