/* SPDX-License-Identifier: MIT */
/* Locks, queues and pipes for handlers: the calls of lib/shm/objects_sync.h and objects_queue.h behind the types of the public
 * header, on the handle of the thread (shared.c).
 *
 * A wait of a task that is cancelled ends: the sleeper looks now and then whether it is (wait_look), without leaving its place in
 * the line.
 *
 * A handler may return, fail or be cancelled with a lock in its hand. Since the slot lives on, nobody would ever take that lock
 * away, so it is done here between two tasks. It costs a look into the segment, therefore a count is kept of what was taken and
 * not given back. It may be wrong on the safe side only: what it does not understand (an end of a pipe, a release by force) makes
 * it not zero.
 *
 * Fails: as hearth_handler.h says; -EPERM before shared_init(). */
#include "worker/sync.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "lib/shm/objects_queue.h"
#include "lib/shm/objects_sync.h"
#include "worker/say.h"
#include "worker/shared.h"

/* What this thread's task holds, about. */
static _Thread_local int64_t balance;
static _Thread_local bool unsure;

static struct task_bytes as_is(struct hearth_bytes b) {
    return (struct task_bytes){b.data, b.len};
}

static struct task_bytes *out(struct hearth_bytes *b) {
    return (struct task_bytes *)(void *)b;
}

static unsigned flags_of(unsigned flags) {
    return (flags & HEARTH_NO_CHECK ? SYNC_NO_CHECK : 0) | (flags & HEARTH_FORCE ? SYNC_FORCE : 0);
}

/* Notes that `n` have been taken, or (n < 0) given back, if the call did so. */
static int count(int r, int64_t n) {
    if (r >= 0) {
        balance += n;
    }
    return r;
}

bool sync_may_hold(void) {
    return balance != 0 || unsure;
}

void sync_end_task(const char *id) {
    struct objects *o = shared_objects();
    if (o) {
        int n = objects_sync_release_all(o);
        if (n > 0) {
            say(HEARTH_LOG_WARNING, id, "the handler left %d %s held: let go", n,
                n == 1 ? "thing" : "things");
        } else if (n < 0) {
            say(HEARTH_LOG_ERROR, id, "what the handler left held cannot be let go: %s",
                strerror(-n));
        }
    }
    balance = 0;
    unsure = false;
}

/* ---- locks ---- */

#define ACQUIRE(kind, verb)                                                                        \
    static int api_##kind##_##verb(struct hearth_bytes name, int64_t ms, unsigned flags) {         \
        struct objects *o = shared_objects();                                                      \
        return o ? count(objects_##kind##_##verb(o, as_is(name), ms, flags_of(flags)), 1)          \
                 : -EPERM;                                                                         \
    }
#define RELEASE(kind)                                                                              \
    static int api_##kind##_release(struct hearth_bytes name, unsigned flags) {                    \
        struct objects *o = shared_objects();                                                      \
        unsure |= (flags & HEARTH_FORCE) != 0; /* perhaps another's */                             \
        return o ? count(objects_##kind##_release(o, as_is(name), flags_of(flags)), -1) : -EPERM;  \
    }

ACQUIRE(lock, acquire)
RELEASE(lock)
ACQUIRE(rlock, acquire)
RELEASE(rlock)
ACQUIRE(rwlock, read)
ACQUIRE(rwlock, write)
RELEASE(rwlock)

static int api_lock_is_held(struct hearth_bytes name) {
    struct objects *o = shared_objects();
    return o ? objects_lock_is_held(o, as_is(name)) : -EPERM;
}

/* ---- semaphores, events, conditions, barriers ---- */

static int api_sem_create(struct hearth_bytes name, uint64_t value, int bounded) {
    struct objects *o = shared_objects();
    return o ? objects_sem_create(o, as_is(name), value, bounded != 0) : -EPERM;
}

static int api_sem_acquire(struct hearth_bytes name, uint64_t n, int64_t ms) {
    struct objects *o = shared_objects();
    unsure = true; /* of whom a release takes units away is the semaphore's to know */
    return o ? objects_sem_acquire(o, as_is(name), n, ms, 0) : -EPERM;
}

static int api_sem_release(struct hearth_bytes name, uint64_t n) {
    struct objects *o = shared_objects();
    return o ? objects_sem_release(o, as_is(name), n) : -EPERM;
}

static int64_t api_sem_value(struct hearth_bytes name) {
    struct objects *o = shared_objects();
    return o ? objects_sem_value(o, as_is(name)) : -EPERM;
}

static int api_event_set(struct hearth_bytes name) {
    struct objects *o = shared_objects();
    return o ? objects_event_set(o, as_is(name)) : -EPERM;
}

static int api_event_clear(struct hearth_bytes name) {
    struct objects *o = shared_objects();
    return o ? objects_event_clear(o, as_is(name)) : -EPERM;
}

static int api_event_is_set(struct hearth_bytes name) {
    struct objects *o = shared_objects();
    return o ? objects_event_is_set(o, as_is(name)) : -EPERM;
}

static int api_event_wait(struct hearth_bytes name, int64_t ms) {
    struct objects *o = shared_objects();
    return o ? objects_event_wait(o, as_is(name), ms) : -EPERM;
}

static int api_cond_wait(struct hearth_bytes cond, struct hearth_bytes lock, int64_t ms) {
    struct objects *o = shared_objects();
    return o ? objects_cond_wait(o, as_is(cond), as_is(lock), ms) : -EPERM;
}

static int64_t api_cond_notify(struct hearth_bytes cond, uint64_t n) {
    struct objects *o = shared_objects();
    return o ? objects_cond_notify(o, as_is(cond), n) : -EPERM;
}

static int api_barrier_create(struct hearth_bytes name, uint32_t parties) {
    struct objects *o = shared_objects();
    return o ? objects_barrier_create(o, as_is(name), parties) : -EPERM;
}

static int api_barrier_wait(struct hearth_bytes name, int64_t ms) {
    struct objects *o = shared_objects();
    return o ? objects_barrier_wait(o, as_is(name), ms) : -EPERM;
}

static int api_barrier_reset(struct hearth_bytes name) {
    struct objects *o = shared_objects();
    return o ? objects_barrier_reset(o, as_is(name)) : -EPERM;
}

static int api_barrier_abort(struct hearth_bytes name) {
    struct objects *o = shared_objects();
    return o ? objects_barrier_abort(o, as_is(name)) : -EPERM;
}

static int api_barrier_info(struct hearth_bytes name, struct hearth_barrier_info *ret) {
    struct objects *o = shared_objects();
    struct sync_barrier_view v;
    int r = o ? objects_barrier_view(o, as_is(name), &v) : -EPERM;
    if (r == 0) {
        *ret = (struct hearth_barrier_info){v.parties, v.waiting, v.broken};
    }
    return r;
}

/* ---- queues ---- */

static int api_queue_create(struct hearth_bytes name, const struct hearth_queue_options *options) {
    const struct queue_params p = {.max_items = options->max_items, .lease_ms = options->lease_ms};
    struct objects *o = shared_objects();
    return o ? objects_queue_create(o, as_is(name), &p) : -EPERM;
}

static int64_t api_queue_put_many(struct hearth_bytes name, const struct hearth_bytes *items,
                                  size_t n, int64_t ms) {
    struct objects *o = shared_objects();
    return o ? objects_queue_put(o, as_is(name), (const struct task_bytes *)(const void *)items, n,
                                 ms)
             : -EPERM;
}

static int api_queue_put(struct hearth_bytes name, struct hearth_bytes item, int64_t ms) {
    int64_t r = api_queue_put_many(name, &item, 1, ms);
    return r < 0 ? (int)r : 0;
}

static int api_queue_get_many(struct hearth_bytes name, size_t max, int64_t ms,
                              const struct hearth_bytes **ret, size_t *ret_n, uint64_t *leases) {
    struct objects *o = shared_objects();
    unsure = true; /* they may be on lease */
    return o ? objects_queue_get(o, as_is(name), max, ms, (const struct task_bytes **)(void *)ret,
                                 ret_n, leases)
             : -EPERM;
}

static int api_queue_get(struct hearth_bytes name, int64_t ms, struct hearth_bytes *ret,
                         uint64_t *ret_lease) {
    const struct hearth_bytes *items;
    uint64_t lease = 0;
    size_t n = 0;
    int r = api_queue_get_many(name, 1, ms, &items, &n, &lease);
    if (r == 0 && ret) {
        *ret = items[0];
    }
    if (r == 0 && ret_lease) {
        *ret_lease = lease;
    }
    return r;
}

static int api_queue_done(struct hearth_bytes name, uint64_t lease) {
    struct objects *o = shared_objects();
    return o ? objects_queue_done(o, as_is(name), lease) : -EPERM;
}

static int api_queue_extend(struct hearth_bytes name, uint64_t lease, int64_t ms) {
    struct objects *o = shared_objects();
    return o ? objects_queue_extend(o, as_is(name), lease, ms) : -EPERM;
}

static int api_queue_return(struct hearth_bytes name, uint64_t lease) {
    struct objects *o = shared_objects();
    return o ? objects_queue_return(o, as_is(name), lease) : -EPERM;
}

static int api_queue_task_done(struct hearth_bytes name) {
    struct objects *o = shared_objects();
    return o ? objects_queue_task_done(o, as_is(name)) : -EPERM;
}

static int api_queue_join(struct hearth_bytes name, int64_t ms) {
    struct objects *o = shared_objects();
    return o ? objects_queue_join(o, as_is(name), ms) : -EPERM;
}

static int api_queue_close(struct hearth_bytes name) {
    struct objects *o = shared_objects();
    return o ? objects_queue_close(o, as_is(name)) : -EPERM;
}

static int api_queue_info(struct hearth_bytes name, struct hearth_queue_info *ret) {
    struct objects *o = shared_objects();
    struct queue_view v;
    int r = o ? objects_queue_view(o, as_is(name), &v) : -EPERM;
    if (r == 0) {
        *ret = (struct hearth_queue_info){v.max_items,  v.lease_ms, v.items,   v.leased,
                                          v.unfinished, v.getters,  v.putters, v.closed};
    }
    return r;
}

/* ---- pipes ---- */

/* The handle, if there is one, for a call that takes hold of an end. */
static struct objects *at_end(int end) {
    unsure = true;
    return end == 0 || end == 1 ? shared_objects() : NULL;
}

static int no_end(int end) {
    return end == 0 || end == 1 ? -EPERM : -EINVAL;
}

static int api_pipe_create(struct hearth_bytes name, int duplex, uint64_t buffer) {
    const struct pipe_params p = {.duplex = duplex != 0, .buffer = buffer};
    struct objects *o = shared_objects();
    return o ? objects_pipe_create(o, as_is(name), &p) : -EPERM;
}

static int api_pipe_open(struct hearth_bytes name, int end) {
    struct objects *o = at_end(end);
    return o ? objects_pipe_open(o, as_is(name), (unsigned)end) : no_end(end);
}

static int api_pipe_close(struct hearth_bytes name, int end) {
    struct objects *o = at_end(end);
    return o ? objects_pipe_close(o, as_is(name), (unsigned)end) : no_end(end);
}

static int api_pipe_send(struct hearth_bytes name, int end, struct hearth_bytes message,
                         int64_t ms) {
    struct objects *o = at_end(end);
    return o ? objects_pipe_send(o, as_is(name), (unsigned)end, as_is(message), ms) : no_end(end);
}

static int api_pipe_recv(struct hearth_bytes name, int end, int64_t ms, struct hearth_bytes *ret) {
    struct objects *o = at_end(end);
    return o ? objects_pipe_recv(o, as_is(name), (unsigned)end, ms, out(ret)) : no_end(end);
}

static int api_pipe_poll(struct hearth_bytes name, int end, int64_t ms) {
    struct objects *o = at_end(end);
    return o ? objects_pipe_poll(o, as_is(name), (unsigned)end, ms) : no_end(end);
}

static const struct hearth_sync table = {
    .size = sizeof(struct hearth_sync),
    .lock_acquire = api_lock_acquire,
    .lock_release = api_lock_release,
    .lock_is_held = api_lock_is_held,
    .rlock_acquire = api_rlock_acquire,
    .rlock_release = api_rlock_release,
    .rwlock_read = api_rwlock_read,
    .rwlock_write = api_rwlock_write,
    .rwlock_release = api_rwlock_release,
    .sem_create = api_sem_create,
    .sem_acquire = api_sem_acquire,
    .sem_release = api_sem_release,
    .sem_value = api_sem_value,
    .event_set = api_event_set,
    .event_clear = api_event_clear,
    .event_is_set = api_event_is_set,
    .event_wait = api_event_wait,
    .cond_wait = api_cond_wait,
    .cond_notify = api_cond_notify,
    .barrier_create = api_barrier_create,
    .barrier_wait = api_barrier_wait,
    .barrier_reset = api_barrier_reset,
    .barrier_abort = api_barrier_abort,
    .barrier_info = api_barrier_info,
    .queue_create = api_queue_create,
    .queue_put = api_queue_put,
    .queue_put_many = api_queue_put_many,
    .queue_get = api_queue_get,
    .queue_get_many = api_queue_get_many,
    .queue_done = api_queue_done,
    .queue_extend = api_queue_extend,
    .queue_return = api_queue_return,
    .queue_task_done = api_queue_task_done,
    .queue_join = api_queue_join,
    .queue_close = api_queue_close,
    .queue_info = api_queue_info,
    .pipe_create = api_pipe_create,
    .pipe_open = api_pipe_open,
    .pipe_close = api_pipe_close,
    .pipe_send = api_pipe_send,
    .pipe_recv = api_pipe_recv,
    .pipe_poll = api_pipe_poll,
};

const struct hearth_sync *sync_table(void) {
    return &table;
}
