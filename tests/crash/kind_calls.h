/* SPDX-License-Identifier: MIT */
/* The verbs of semaphores, events, conditions and barriers (and of the locks that conditions need), each as an operation of its own,
 * by an enum: for tests that run them by owner and in tables. */
#pragma once

#include <errno.h>
#include <string.h>

#include "lib/shm/keys.h"
#include "lib/shm/op.h"
#include "lib/shm/sync.h"

enum kind_verb {
    LOCK_TAKE,
    LOCK_GIVE,
    RLOCK_TAKE,
    RLOCK_GIVE,
    SEM_CREATE,
    SEM_CREATE_BOUNDED,
    SEM_TAKE,
    SEM_GIVE,
    SEM_VALUE,
    EVENT_SET,
    EVENT_CLEAR,
    EVENT_IS_SET,
    EVENT_WAIT,
    COND_WAIT,       /* with "lock" */
    COND_WAIT_RLOCK, /* with "rlock" */
    COND_NOTIFY,
    BARRIER_CREATE,
    BARRIER_WAIT,
    BARRIER_RESET,
    BARRIER_ABORT,
    DELETE,
    RENAME, /* to "moved" */
    POLL,   /* outside, as the next two */
    GIVE_UP,
    BURY, /* n: the owner */
};

struct kind_call {
    enum kind_verb verb;
    const char *name;
    uint64_t n;
    unsigned no_wait;
    int64_t ret;
};

static inline struct key_name kind_name(const struct shm *s, const char *text) {
    return key_name(s, text, strlen(text));
}

static inline int kind_delete(struct shm *s, const struct key_name *k) {
    struct key key;
    int r = key_find_write(s, k, &key);
    return r ? r : key_delete(s, &key);
}

static inline int kind_rename(struct shm *s, const struct key_name *k) {
    struct key_name to = kind_name(s, "moved");
    struct key key;
    int r = key_find_write(s, k, &key);
    return r ? r : key_rename(s, &key, &to);
}

static inline int64_t kind_verb_run(struct shm *s, const struct kind_call *c) {
    struct key_name k = kind_name(s, c->name), lock = kind_name(s, "lock"),
                    rlock = kind_name(s, "rlock");
    unsigned flags = c->no_wait ? 0 : SYNC_WAIT;
    switch (c->verb) {
    case LOCK_TAKE:
        return sync_lock_acquire(s, &k, flags);
    case LOCK_GIVE:
        return sync_lock_release(s, &k, 0);
    case RLOCK_TAKE:
        return sync_rlock_acquire(s, &k, flags);
    case RLOCK_GIVE:
        return sync_rlock_release(s, &k, 0);
    case SEM_CREATE:
    case SEM_CREATE_BOUNDED:
        return sync_sem_create(s, &k, c->n, c->verb == SEM_CREATE_BOUNDED);
    case SEM_TAKE:
        return sync_sem_acquire(s, &k, c->n, flags);
    case SEM_GIVE:
        return sync_sem_release(s, &k, c->n);
    case SEM_VALUE:
        return sync_sem_value(s, &k);
    case EVENT_SET:
        return sync_event_set(s, &k);
    case EVENT_CLEAR:
        return sync_event_clear(s, &k);
    case EVENT_IS_SET:
        return sync_event_is_set(s, &k);
    case EVENT_WAIT:
        return sync_event_wait(s, &k, flags);
    case COND_WAIT:
        return sync_cond_wait(s, &k, &lock, flags);
    case COND_WAIT_RLOCK:
        return sync_cond_wait(s, &k, &rlock, flags);
    case COND_NOTIFY:
        return sync_cond_notify(s, &k, c->n);
    case BARRIER_CREATE:
        return sync_barrier_create(s, &k, (uint32_t)c->n);
    case BARRIER_WAIT:
        return sync_barrier_wait(s, &k, flags);
    case BARRIER_RESET:
        return sync_barrier_reset(s, &k);
    case BARRIER_ABORT:
        return sync_barrier_abort(s, &k);
    case DELETE:
        return kind_delete(s, &k);
    case RENAME:
        return kind_rename(s, &k);
    default:
        return -ENOSYS;
    }
}

static inline int kind_in_op(struct shm *s, void *arg) {
    struct kind_call *c = arg;
    c->ret = kind_verb_run(s, c);
    return c->ret < 0 ? (int)c->ret : 0;
}

/* As `owner` (0: the handle's own slot). A negative answer, or what the verb returned. */
static inline int64_t kind_call(struct shm *s, uint32_t owner, enum kind_verb verb,
                                const char *name, uint64_t n) {
    struct kind_call c = {.verb = verb, .name = name ? name : "", .n = n};
    uint32_t before = s->actor;
    s->actor = owner;
    int r = verb == POLL      ? sync_poll(s)
            : verb == GIVE_UP ? sync_give_up(s)
            : verb == BURY    ? sync_bury(s, (uint32_t)n)
                              : op_run(s, OP_ALL, kind_in_op, &c);
    s->actor = before;
    return verb < POLL && r >= 0 ? c.ret : r;
}
