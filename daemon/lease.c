/* SPDX-License-Identifier: MIT */
/* Leases: what a worker in the segment does by itself (worker/runtime.c) done on behalf of one that
 * is not there. Each has a handle of its own, so its slot is written as a worker's is: the task in
 * hand, claims, deadline, state. A daemon that dies leaves them to be buried like any dead worker's.
 *
 *     join: the slot is taken, WARM  -> told GO: SERVING -> take, done, take, fail ...
 *     max_tasks done: RETIRED, then told EXIT -> it is told to leave when it asks next
 *
 * A worker that is replaced after max_tasks asks for its replacement some tasks before its last, as
 * there.
 *
 * Fails: as lease.h says. A result that does not fit ends its task as failed: the worker cannot help
 * it. */
#include "daemon/lease.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/memory.h"
#include "lib/shm/slot.h"

#define LOOK_AFTER (100 * NS_PER_MS) /* at a worker's memory */

struct lease *lease_new(struct worker *w) {
    struct lease *l = calloc(1, sizeof(*l));
    if (l) {
        l->worker = w;
        l->main = l;
        l->shm.fd = l->shm.bell_fd = -1;
        list_init(&l->in_conn);
        list_init(&l->waiting);
        w->lease = l;
    }
    return l;
}

struct lease *lease_free(struct lease *l) {
    if (l) {
        l->worker->lease = NULL;
        shm_detach(&l->shm);
        list_del(&l->in_conn);
        list_del(&l->waiting);
        free(l);
    }
    return NULL;
}

/* How many tasks before its last a worker asks for a replacement. */
static uint64_t notice(uint64_t max_tasks) {
    uint64_t n = max_tasks / 10;
    return n < 1 ? 1 : n > 16 ? 16 : n;
}

static void set_limits(struct lease *l) {
    const struct pool_config *c = l->worker->pool->config;
    uint64_t used;
    if (c->max_tasks) {
        l->left = c->max_tasks + arc4random_uniform(c->max_tasks_jitter + 1);
    }
    if (c->max_growth && memory_private(l->worker->pid, &used) == 0) {
        l->memory = used + c->max_growth;
    }
}

/* Now and then, after a task. */
static void look_at_memory(struct lease *l) {
    uint64_t now, used;
    if (l->memory && (now = clock_now()) - l->looked_ns >= LOOK_AFTER) {
        l->looked_ns = now;
        if (memory_private(l->worker->pid, &used) == 0 && used > l->memory) {
            slot_set_ending(&l->shm, ENDING_GREW);
            l->memory = 0;
        }
    }
}

int lease_join(struct hearthd *d, struct lease *l) {
    struct worker *w = l->worker;
    struct shm s;
    shm_share(&d->shm, &s);
    int r = slot_attach_for(&s, w->slot, w->gen, (uint32_t)w->pid);
    if (r < 0) {
        return r;
    }
    l->shm = s;
    l->joined = true;
    if (w->pidfd >= 0) { /* others are not ours to replace */
        set_limits(l);
    }
    slot_set_state(&l->shm, SLOT_WARM);
    return 0;
}

bool lease_must_leave(const struct lease *l) {
    return l->joined && slot_told(&l->shm) == SLOT_EXIT;
}

void lease_retire(struct lease *l) {
    struct slot_view v;
    if (l->joined && (l->spent || slot_told(&l->shm) == SLOT_RETIRE)) {
        slot_view(&l->shm, l->worker->slot, &v);
        if (v.state < SLOT_RETIRED) {
            slot_set_state(&l->shm, SLOT_RETIRED);
        }
    }
}

bool lease_may_serve(struct lease *l) {
    struct slot_view v;
    if (!l->joined || l->spent || slot_told(&l->shm) != SLOT_GO) {
        return false;
    }
    slot_view(&l->shm, l->worker->slot, &v);
    if (v.state == SLOT_WARM) {
        slot_set_state(&l->shm, SLOT_SERVING);
        if (l->left && l->left <= notice(l->worker->pool->config->max_tasks)) {
            slot_set_ending(&l->shm, ENDING_TASKS);
        }
    }
    return v.state < SLOT_RETIRED;
}

int lease_take(struct lease *l) {
    int r = task_claim(&l->shm, l->worker->pool->index, &l->task);
    l->busy = r == 0;
    l->told = 0;
    return r;
}

static void finish(struct lease *l, const struct task_outcome *o) {
    task_finish(&l->shm, &l->task, o);
    l->busy = false;
    struct lease *m = l->main;
    m->spent |= m->left && --m->left == 0;
    if (m->left && m->left <= notice(m->worker->pool->config->max_tasks)) {
        slot_set_ending(&m->shm, ENDING_TASKS);
    }
    look_at_memory(m);
}

/* The bytes into the task's output; as task_output(). */
static int put_output(struct lease *l, const void *data, size_t len) {
    void *to = NULL;
    int r = len ? task_output(&l->shm, &l->task, 0, len, &to) : 0;
    if (r == 0 && len) {
        memcpy(to, data, len);
    }
    return r;
}

/* Ends the task with this output and log; that one is left out if there is no room for it. */
static int end_with(struct lease *l, struct task_outcome *o, const struct task_bytes *output,
                    const struct task_bytes *log, const struct lease_usage *usage) {
    int r = put_output(l, output->data, output->len);
    if (r < 0) {
        return r;
    }
    r = log->len ? task_log(&l->shm, &l->task, log->data, (uint32_t)log->len) : 0;
    if (r == -EAGAIN) {
        return r;
    }
    o->output_len = output->len;
    o->user_us = usage->user_us;
    o->system_us = usage->system_us;
    o->rss_kib = usage->rss_kib;
    finish(l, o);
    return 0;
}

/* With nothing but a message, or not even that. */
static int refuse(struct lease *l, int error, const char *text) {
    struct task_outcome o = {.state = TASK_FAILED, .cause = CAUSE_ERROR, .code = error};
    o.output_len = put_output(l, text, strlen(text)) == 0 ? strlen(text) : 0;
    finish(l, &o);
    return 0;
}

int lease_done(struct lease *l, const struct task_bytes *result, const struct task_bytes *log,
               const struct lease_usage *usage) {
    char text[96];
    uint64_t max = l->worker->pool->config->max_output;
    if (result->len > max) {
        snprintf(text, sizeof(text), "the result has %zu bytes, max_output is %llu", result->len,
                 (unsigned long long)max);
        return refuse(l, EFBIG, text);
    }
    struct task_outcome o = {.state = TASK_DONE, .cause = CAUSE_RESULT};
    int r = end_with(l, &o, result, log, usage);
    return r == 0 || r == -EAGAIN
               ? r
               : refuse(l, r == -EMSGSIZE ? EFBIG : ENOMEM, "no room for the result");
}

/* Whoever ends a task for such a reason has not failed. */
enum task_cause lease_stopped(struct lease *l) {
    const struct worker *w = l->worker;
    bool planned = w->kill_at_ns != 0 && w->kill_task_id == l->task.id;
    int sig;
    if (!task_cancel_wanted(&l->shm, &l->task)) {
        bool soft = lease_hears(l) && task_is_soft(&l->shm, &l->task, &sig);
        return soft ? CAUSE_SOFT : CAUSE_NONE;
    }
    return planned                           ? (enum task_cause)w->kill_cause
           : task_is_late(&l->shm, &l->task) ? CAUSE_DEADLINE
                                             : CAUSE_CANCELLED;
}

int lease_fail(struct lease *l, int code, const struct task_bytes *message,
               const struct task_bytes *log, const struct lease_usage *usage) {
    enum task_cause why = lease_stopped(l);
    struct task_outcome o = {
        .state = why == CAUSE_NONE        ? TASK_FAILED
                 : why == CAUSE_CANCELLED ? TASK_CANCELLED
                                          : TASK_TIMEOUT,
        .cause = why == CAUSE_NONE ? CAUSE_ERROR : why,
        .code = why == CAUSE_NONE ? code : 0,
    };
    static const struct task_bytes none = {"", 0};
    int r = end_with(l, &o, message, log, usage);
    return r == 0 || r == -EAGAIN ? r : end_with(l, &o, &none, &none, usage);
}

/* ---- what it tells ---- */

static int no_room(struct lease *l) {
    return task_cancel_wanted(&l->shm, &l->task) ? -ECANCELED : -EAGAIN;
}

int lease_emit(struct lease *l, enum stream_kind kind, const void *data, size_t len) {
    int64_t n =
        stream_put(&l->shm, &l->task, kind, (const char *)data + l->told, len - l->told, false);
    int r = n < 0 ? (int)n : 0;
    l->told += n < 0 ? 0 : (uint64_t)n;
    if (r == 0 && l->told < len) {
        r = no_room(l);
    }
    l->told = r == -EAGAIN ? l->told : 0;
    return r;
}

int lease_progress(struct lease *l, uint64_t done, uint64_t total, const struct task_bytes *text) {
    int64_t r = stream_put_progress(&l->shm, &l->task, done, total, text->data, text->len, false);
    return r == -ENOBUFS ? no_room(l) : (int)r;
}
