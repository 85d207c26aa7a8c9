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
 * With threads each of them does this loop, with a slot and a handle of its own; the first speaks for
 * all: it is warm when all are, and has retired when all have. Whoever brings the worker's end about
 * tells the others by the same word that the daemon would use.
 *
 * Fails: exit status 1 when the worker cannot start (said on stderr), 2 when the segment cannot be
 * used any more. Anything a handler does to the process (crash, exit) is the daemon's to see. */
#include "worker/runtime.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/shm/account.h"
#include "lib/base/clock.h"
#include "lib/base/memory.h"
#include "lib/shm/slot.h"
#include "lib/shm/task.h"
#include "worker/api.h"
#include "worker/exec.h"
#include "worker/say.h"
#include "worker/shared.h"
#include "worker/usage.h"

enum { STATUS_START = 1, STATUS_SEGMENT = 2 };

/* What brings a worker's end about. */
struct age {
    uint64_t left, notice; /* tasks until its last; 0: it has none. And from when on to say so */
    uint64_t memory;       /* private memory above which it is replaced; 0: never */
    uint64_t looked_ns;    /* at its memory, last */
};

struct crew;

/* A thread that runs tasks; the first one is the process's own. */
struct hand {
    struct crew *crew;
    struct shm *s;
    uint32_t slot, gen;
    pthread_t thread;
};

struct crew {
    const struct options *o;
    const struct module *m;
    struct exec *e;
    pthread_mutex_t lock; /* of `age`, when there are several */
    struct age age;
    atomic_bool last; /* no more tasks */
    pthread_barrier_t begin;
    uint32_t n;
    struct hand hands[THREADS_MAX];
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
                    const struct task_ref *ref, struct task_outcome *ret) {
    struct task_view v;
    int r = task_view(s, ref->idx, &v);
    if (r < 0) {
        say(HEARTH_LOG_ERROR, NULL, "the record of a claimed task is damaged: %s", strerror(-r));
        return false;
    }
    account_act_as(s, v.uid); /* what a task makes is its submitter's */
    if (m != NULL) {
        usage_begin(v.started_ns);
        api_run(m, s, ref, &v, o->max_output, ret);
        usage_end(v.started_ns, ret);
    } else {
        exec_run(e, s, ref, &v, ret);
    }
    r = task_finish(s, ref, ret);
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

/* Says for the process that it is to be replaced. */
static void end_all(struct crew *c) {
    atomic_store(&c->last, true);
    for (uint32_t i = 0; i < c->n; i++) {
        slot_retire_other(c->hands[0].s, c->hands[i].s->slot);
    }
}

static void after_task(struct crew *c) {
    if (c->n > 1) {
        pthread_mutex_lock(&c->lock);
    }
    bool last = age_task(&c->age, c->hands[0].s);
    if (c->n > 1) {
        pthread_mutex_unlock(&c->lock);
    }
    if (last) {
        end_all(c);
    }
}

static void when_idle(struct crew *c) {
    if (c->n == 1) {
        look_at_memory(&c->age, c->hands[0].s, LOOK_IDLE);
    } else if (pthread_mutex_trylock(&c->lock) == 0) {
        look_at_memory(&c->age, c->hands[0].s, LOOK_IDLE);
        pthread_mutex_unlock(&c->lock);
    }
}

/* What each thread does. */
static int serve(struct hand *h) {
    struct crew *c = h->crew;
    struct shm *s = h->s;
    if (!wait_for_go(s)) {
        return 0;
    }
    slot_set_state(s, SLOT_SERVING);
    while (!atomic_load_explicit(&c->last, memory_order_relaxed) && slot_told(s) < SLOT_EXIT) {
        struct task_ref ref;
        struct task_outcome end;
        int r = task_claim(s, c->o->index, &ref);
        if (r == -EAGAIN) {
            when_idle(c);
            task_wait(s, c->o->index);
            continue;
        }
        if (r < 0 || !run_one(c->o, c->m, c->e, s, &ref, &end)) {
            return STATUS_SEGMENT;
        }
        after_task(c);
    }
    /* in case it was woken for a task just before it was told to leave */
    task_wake(s, c->o->index, 1);
    return 0;
}

/* ---- threads ---- */

/* A thread beside the first. When it cannot go on, nor can the process: its slots are one worker. */
static void *run_thread(void *arg) {
    struct hand *h = arg;
    int r = slot_attach(h->s, h->slot, h->gen);
    if (r < 0) {
        say(HEARTH_LOG_ERROR, NULL, "slot %u is not for this thread: %s", h->slot, strerror(-r));
        _exit(STATUS_START);
    }
    shared_init(h->s);
    api_thread(h->crew->hands[0].s, (int)h->slot);
    slot_set_state(h->s, SLOT_WARM);
    pthread_barrier_wait(&h->crew->begin);
    int status = serve(h);
    if (status != 0) {
        _exit(status);
    }
    slot_set_state(h->s, SLOT_RETIRED);
    return NULL;
}

/* 0 or -errno: some may run already. */
static int start_threads(struct crew *c, const struct runtime_seat *seats) {
    pthread_mutex_init(&c->lock, NULL);
    pthread_barrier_init(&c->begin, NULL, c->n);
    for (uint32_t i = 1; i < c->n; i++) {
        struct hand *h = &c->hands[i];
        *h = (struct hand){.crew = c, .slot = seats[i].slot, .gen = seats[i].gen};
        h->s = calloc(1, sizeof(*h->s));
        if (h->s == NULL) {
            return -ENOMEM;
        }
        shm_share(c->hands[0].s, h->s);
        h->s->bell_fd = c->hands[0].s->bell_fd;
        int r = pthread_create(&h->thread, NULL, run_thread, h);
        if (r != 0) {
            return -r;
        }
    }
    pthread_barrier_wait(&c->begin);
    return 0;
}

/* The whole of the worker's service: returns when all threads are through. */
static int serve_all(struct crew *c, const struct runtime_seat *seats) {
    struct shm *s = c->hands[0].s;
    age_init(&c->age, c->o);
    bool soon = c->age.left > 0 && c->age.left <= c->age.notice;
    if (c->n > 1) { /* each serves as soon as all are there and it is told to */
        int r = start_threads(c, seats);
        if (r < 0) {
            say(HEARTH_LOG_ERROR, NULL, "cannot start %u threads: %s", c->n, strerror(-r));
            return STATUS_START;
        }
    }
    if (soon) {
        slot_set_ending(s, ENDING_TASKS);
    }
    slot_set_state(s, SLOT_WARM);
    int status = serve(&c->hands[0]);
    if (c->n > 1 && status == 0 && slot_told(s) == SLOT_EXIT) {
        slot_set_state(s, SLOT_RETIRED); /* it claims no more, while others have a task in hand */
    }
    for (uint32_t i = 1; i < c->n && status == 0; i++) {
        pthread_join(c->hands[i].thread, NULL);
    }
    if (status == 0 && slot_told(s) != SLOT_EXIT) {
        retire(s);
    }
    return status;
}

/* Takes the process's own slot. NULL: not to be had. */
static const struct hearth_api *sit_down(const struct options *o, struct shm *s,
                                         const struct runtime_seat *seat) {
    int r = slot_attach(s, seat->slot, seat->gen);
    if (r < 0) {
        say(HEARTH_LOG_ERROR, NULL, "slot %u is not for this worker: %s", seat->slot, strerror(-r));
        return NULL;
    }
    shared_init(s);
    const struct hearth_api *api = api_init(o->pool, (int)seat->slot);
    api_thread(s, (int)seat->slot);
    return api;
}

static bool init_module(const struct module *m, const struct hearth_api *api) {
    if (m->head.worker_init != NULL && m->head.worker_init(api) != 0) {
        const char *why = api_why();
        say(HEARTH_LOG_ERROR, NULL, "module %s: worker_init failed%s%s", m->head.name,
            *why ? ": " : "", why);
        return false;
    }
    return true;
}

int runtime_once(const struct options *o, const struct module *m, struct shm *s,
                 const struct runtime_seat *seat) {
    struct task_ref ref;
    struct task_outcome end;
    const struct hearth_api *api = sit_down(o, s, seat);
    if (api == NULL || !init_module(m, api)) {
        return STATUS_START;
    }
    slot_set_state(s, SLOT_SERVING);
    if (task_claim_ordered(s, o->index, &ref) < 0) {
        return STATUS_START; /* it has been cancelled meanwhile */
    }
    if (!run_one(o, m, NULL, s, &ref, &end)) {
        return STATUS_SEGMENT;
    }
    if (m->head.worker_exit != NULL) {
        m->head.worker_exit(api);
    }
    return end.state == TASK_DONE ? 0 : STATUS_START;
}

int runtime_serve(const struct options *o, const struct module *m, struct shm *s,
                  const struct runtime_seat *seats, uint32_t n, int group) {
    struct exec e = EXEC_INIT;
    struct crew c = {.o = o, .m = m, .e = &e, .n = n};
    const struct hearth_api *api = sit_down(o, s, &seats[0]);
    if (api == NULL) {
        return STATUS_START;
    }
    c.hands[0] = (struct hand){.crew = &c, .s = s};
    if (m == NULL) {
        int r = exec_init(&e, o->pool, o->argc, o->argv, o->max_output);
        e.group_fd = group;
        if (r == 0 && o->tmp != NULL) {
            r = exec_private_tmp(&e, o->tmp, seats[0].slot);
        }
        if (r < 0) {
            say(HEARTH_LOG_ERROR, NULL, "cannot start: %s", strerror(-r));
            return STATUS_START;
        }
    } else if (!init_module(m, api)) {
        return STATUS_START;
    }
    int status = serve_all(&c, seats);
    if (status == 0 && m != NULL && m->head.worker_exit != NULL) {
        m->head.worker_exit(api);
    }
    exec_deinit(&e);
    if (group >= 0) {
        close(group);
    }
    return status;
}
