/* SPDX-License-Identifier: MIT */
/* Semaphores, events, conditions and barriers for those who have the segment mapped: each call is one operation of sync.h, and a
 * wait where it says so. They are not locks: anybody might let a waiter go, so no cycle is looked for.
 *
 * Fails: as objects_sync.h says. */
#include <errno.h>

#include "lib/shm/objects_sync.h"
#include "lib/shm/objects_wait.h"

enum { NO_CYCLE = SYNC_NO_CHECK };

/* ---- semaphores ---- */

static int sem_create(struct shm *s, void *arg) {
    const struct sync_ask *a = arg;
    return sync_sem_create(s, &a->name, a->n, a->yes);
}

static int sem_acquire(struct shm *s, void *arg) {
    const struct sync_ask *a = arg;
    return sync_sem_acquire(s, &a->name, a->n, a->flags);
}

static int sem_release(struct shm *s, void *arg) {
    const struct sync_ask *a = arg;
    return sync_sem_release(s, &a->name, a->n);
}

static int sem_value(struct shm *s, void *arg) {
    struct sync_ask *a = arg;
    a->ret = sync_sem_value(s, &a->name);
    return a->ret < 0 ? (int)a->ret : 0;
}

int objects_sem_create(struct objects *o, struct task_bytes name, uint64_t value, bool bounded) {
    struct sync_ask a = objects_sync_ask(o, name, 0);
    a.n = value;
    a.yes = bounded;
    return objects_sync_change(&a, sem_create);
}

int objects_sem_acquire(struct objects *o, struct task_bytes name, uint64_t n, int64_t ms,
                        unsigned flags) {
    struct sync_ask a = objects_sync_ask(o, name, flags | NO_CYCLE);
    a.n = n;
    return objects_sync_wait(&a, ms, sem_acquire);
}

int objects_sem_release(struct objects *o, struct task_bytes name, uint64_t n) {
    struct sync_ask a = objects_sync_ask(o, name, 0);
    a.n = n;
    return objects_sync_change(&a, sem_release);
}

int64_t objects_sem_value(struct objects *o, struct task_bytes name) {
    struct sync_ask a = objects_sync_ask(o, name, 0);
    int r = objects_sync_look(&a, sem_value);
    return r < 0 ? r : a.ret;
}

/* ---- events ---- */

static int event_set(struct shm *s, void *arg) {
    const struct sync_ask *a = arg;
    return sync_event_set(s, &a->name);
}

static int event_clear(struct shm *s, void *arg) {
    const struct sync_ask *a = arg;
    return sync_event_clear(s, &a->name);
}

static int event_is_set(struct shm *s, void *arg) {
    const struct sync_ask *a = arg;
    return sync_event_is_set(s, &a->name);
}

static int event_wait(struct shm *s, void *arg) {
    const struct sync_ask *a = arg;
    return sync_event_wait(s, &a->name, a->flags);
}

int objects_event_set(struct objects *o, struct task_bytes name) {
    struct sync_ask a = objects_sync_ask(o, name, 0);
    return objects_sync_change(&a, event_set);
}

int objects_event_clear(struct objects *o, struct task_bytes name) {
    struct sync_ask a = objects_sync_ask(o, name, 0);
    return objects_sync_change(&a, event_clear);
}

int objects_event_is_set(struct objects *o, struct task_bytes name) {
    struct sync_ask a = objects_sync_ask(o, name, 0);
    return objects_sync_look(&a, event_is_set);
}

int objects_event_wait(struct objects *o, struct task_bytes name, int64_t ms) {
    struct sync_ask a = objects_sync_ask(o, name, NO_CYCLE);
    return objects_sync_wait(&a, ms, event_wait);
}

/* ---- conditions ---- */

static int cond_wait(struct shm *s, void *arg) {
    const struct sync_ask *a = arg;
    return sync_cond_wait(s, &a->name, &a->to, a->flags);
}

static int cond_notify(struct shm *s, void *arg) {
    struct sync_ask *a = arg;
    a->ret = sync_cond_notify(s, &a->name, a->n);
    return a->ret < 0 ? (int)a->ret : 0;
}

int objects_cond_wait(struct objects *o, struct task_bytes cond, struct task_bytes lock,
                      int64_t ms) {
    struct sync_ask a = objects_sync_ask(o, cond, NO_CYCLE);
    a.to = key_name(o->shm, lock.data, lock.len);
    a.also = true;
    return objects_sync_wait(&a, ms, cond_wait);
}

int64_t objects_cond_notify(struct objects *o, struct task_bytes cond, uint64_t n) {
    struct sync_ask a = objects_sync_ask(o, cond, 0);
    a.n = n;
    int r = objects_sync_change(&a, cond_notify);
    return r < 0 ? r : a.ret;
}

/* ---- barriers ---- */

static int barrier_create(struct shm *s, void *arg) {
    const struct sync_ask *a = arg;
    return sync_barrier_create(s, &a->name, (uint32_t)a->n);
}

static int barrier_wait(struct shm *s, void *arg) {
    const struct sync_ask *a = arg;
    return sync_barrier_wait(s, &a->name, a->flags);
}

static int barrier_reset(struct shm *s, void *arg) {
    const struct sync_ask *a = arg;
    return sync_barrier_reset(s, &a->name);
}

static int barrier_abort(struct shm *s, void *arg) {
    const struct sync_ask *a = arg;
    return sync_barrier_abort(s, &a->name);
}

static int barrier_view(struct shm *s, void *arg) {
    const struct sync_ask *a = arg;
    return sync_barrier_view(s, &a->name, a->view);
}

int objects_barrier_create(struct objects *o, struct task_bytes name, uint32_t parties) {
    struct sync_ask a = objects_sync_ask(o, name, 0);
    a.n = parties;
    return objects_sync_change(&a, barrier_create);
}

int objects_barrier_wait(struct objects *o, struct task_bytes name, int64_t ms) {
    struct sync_ask a = objects_sync_ask(o, name, NO_CYCLE);
    return objects_sync_wait(&a, ms, barrier_wait);
}

int objects_barrier_reset(struct objects *o, struct task_bytes name) {
    struct sync_ask a = objects_sync_ask(o, name, 0);
    return objects_sync_change(&a, barrier_reset);
}

int objects_barrier_abort(struct objects *o, struct task_bytes name) {
    struct sync_ask a = objects_sync_ask(o, name, 0);
    return objects_sync_change(&a, barrier_abort);
}

int objects_barrier_view(struct objects *o, struct task_bytes name, struct sync_barrier_view *ret) {
    struct sync_ask a = objects_sync_ask(o, name, 0);
    struct sync_barrier_view v = {0};
    a.view = &v;
    int r = objects_sync_look(&a, barrier_view);
    if (r == 0) {
        *ret = v;
    }
    return r;
}
