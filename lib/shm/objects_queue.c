/* SPDX-License-Identifier: MIT */
/* The calls on queues and pipes for processes that have the segment mapped: each is made until it has an answer, and the process
 * sleeps in between (sync_wait()), standing in line. It first makes the call without standing in line, and looks for a little
 * while whether anything happens in the shard: on a machine with a CPU to spare that is far cheaper than sleeping.
 *
 * Fails: as objects_queue.h says. */
#include "lib/shm/objects_queue.h"

#include <errno.h>

#include "lib/base/clock.h"
#include "lib/shm/internal.h"
#include "lib/shm/objects_run.h"
#include "lib/shm/spin.h"

/* One call. The ask comes first, so that a pointer to it is one to the whole. */
struct call {
    struct ask ask;
    unsigned flags, end;
    uint64_t max, lease;
    uint64_t *leases;
    size_t n_leases;
    const struct queue_params *queue;
    const struct pipe_params *pipe;
    struct queue_view queue_view;
    struct pipe_view pipe_view;
};

static struct call call_on(struct objects *o, struct task_bytes name) {
    return (struct call){.ask = objects_ask(o, name)};
}

/* ---- waiting ---- */

struct seen {
    const _Atomic uint64_t *seq;
    uint64_t before;
};

static bool has_changed(const void *arg) {
    const struct seen *v = arg;
    return get(v->seq) != v->before;
}

/* Looks for a while whether somebody changes something in the shard. */
static bool spin(struct shm *s, unsigned shard) {
    const _Atomic uint64_t *seq = &s->shards[shard].seq;
    return spin_for(s, has_changed, &(struct seen){seq, get(seq)});
}

/* Makes the call until it has an answer, or `until` (UINT64_MAX: for ever; 0: just once). */
static int make_until(struct call *c, objects_fn *fn, uint64_t until) {
    struct shm *s = c->ask.o->shm;
    c->flags = 0;
    int r = objects_change(&c->ask, false, fn);
    if (r != -EBUSY || until == 0) {
        return r;
    }
    if (c->ask.o->names) {
        return -EDEADLK;
    }
    if (spin(s, c->ask.name.shard)) {
        r = objects_change(&c->ask, false, fn);
        if (r != -EBUSY) {
            return r;
        }
    }
    c->flags = SYNC_WAIT;
    r = objects_change(&c->ask, false, fn);
    while (r == -EINPROGRESS) {
        uint64_t now = clock_now();
        uint64_t left = until <= now ? 0 : until == UINT64_MAX ? 0 : (until - now) / NS_PER_MS + 1;
        r = sync_wait(s, until == UINT64_MAX ? -1 : (int64_t)left);
        if (r) {
            return r;
        }
        r = objects_change(&c->ask, false, fn);
        if (r < 0 && r != -EINPROGRESS) {
            sync_forgo(s);
            r = r == -EALREADY ? -EIDRM : r; /* it waits at what has another name now */
        }
    }
    return r;
}

static uint64_t until_of(int64_t ms) {
    return ms < 0 ? UINT64_MAX : ms ? clock_now() + (uint64_t)ms * NS_PER_MS : 0;
}

static int make(struct call *c, objects_fn *fn, int64_t ms) {
    return make_until(c, fn, until_of(ms));
}

/* ---- queues ---- */

static int create_queue(struct shm *s, void *arg) {
    const struct call *c = arg;
    return queue_create(s, &c->ask.name, c->queue);
}

int objects_queue_create(struct objects *o, struct task_bytes name, const struct queue_params *p) {
    struct call c = call_on(o, name);
    c.queue = p;
    return objects_change(&c.ask, false, create_queue);
}

static int put_items(struct shm *s, void *arg) {
    const struct call *c = arg;
    return queue_put(s, &c->ask.name, c->ask.many, c->ask.n, c->flags);
}

int64_t objects_queue_put(struct objects *o, struct task_bytes name, const struct task_bytes *items,
                          size_t n, int64_t ms) {
    struct call c = call_on(o, name);
    uint64_t until = until_of(ms);
    size_t all = 0;
    while (all < n) {
        c.ask.many = items + all;
        c.ask.n = n - all;
        int r = make_until(&c, put_items, until);
        if (r < 0) {
            return all ? (int64_t)all : r;
        }
        all += (size_t)r;
    }
    return (int64_t)all;
}

static int keep_item(void *arg, const void *data, size_t len, uint64_t lease) {
    struct call *c = arg;
    if (c->leases && c->n_leases < c->max) {
        c->leases[c->n_leases++] = lease;
    }
    return objects_keep(&c->ask, data, len);
}

static int get_items(struct shm *s, void *arg) {
    struct call *c = arg;
    c->n_leases = 0;
    objects_begin(&c->ask);
    return queue_get(s, &c->ask.name, c->max, c->flags, keep_item, c);
}

int objects_queue_get(struct objects *o, struct task_bytes name, uint64_t max, int64_t ms,
                      const struct task_bytes **ret, size_t *ret_n, uint64_t *leases) {
    struct call c = call_on(o, name);
    if (max == 0) {
        return -EINVAL;
    }
    c.max = max;
    c.leases = leases;
    int r = make(&c, get_items, ms);
    if (r < 0) {
        return r;
    }
    *ret = objects_items(&c.ask, ret_n);
    return 0;
}

static int done_item(struct shm *s, void *arg) {
    const struct call *c = arg;
    return queue_done(s, &c->ask.name, c->lease, 0);
}

int objects_queue_done(struct objects *o, struct task_bytes name, uint64_t lease) {
    struct call c = call_on(o, name);
    c.lease = lease;
    return objects_change(&c.ask, false, done_item);
}

static int extend_lease(struct shm *s, void *arg) {
    const struct call *c = arg;
    return queue_extend(s, &c->ask.name, c->lease, c->ask.by, 0);
}

int objects_queue_extend(struct objects *o, struct task_bytes name, uint64_t lease, int64_t ms) {
    struct call c = call_on(o, name);
    c.lease = lease;
    c.ask.by = ms;
    return objects_change(&c.ask, false, extend_lease);
}

static int return_item(struct shm *s, void *arg) {
    const struct call *c = arg;
    return queue_return(s, &c->ask.name, c->lease, 0);
}

int objects_queue_return(struct objects *o, struct task_bytes name, uint64_t lease) {
    struct call c = call_on(o, name);
    c.lease = lease;
    return objects_change(&c.ask, false, return_item);
}

static int task_done(struct shm *s, void *arg) {
    const struct call *c = arg;
    return queue_task_done(s, &c->ask.name);
}

int objects_queue_task_done(struct objects *o, struct task_bytes name) {
    struct call c = call_on(o, name);
    return objects_change(&c.ask, false, task_done);
}

static int join_queue(struct shm *s, void *arg) {
    const struct call *c = arg;
    return queue_join(s, &c->ask.name, c->flags);
}

int objects_queue_join(struct objects *o, struct task_bytes name, int64_t ms) {
    struct call c = call_on(o, name);
    return make(&c, join_queue, ms);
}

static int close_queue(struct shm *s, void *arg) {
    const struct call *c = arg;
    return queue_close(s, &c->ask.name);
}

int objects_queue_close(struct objects *o, struct task_bytes name) {
    struct call c = call_on(o, name);
    return objects_change(&c.ask, false, close_queue);
}

static int view_queue(struct shm *s, void *arg) {
    struct call *c = arg;
    return queue_view(s, &c->ask.name, &c->queue_view);
}

int objects_queue_view(struct objects *o, struct task_bytes name, struct queue_view *ret) {
    struct call c = call_on(o, name);
    int r = objects_look(&c.ask, view_queue);
    if (r == 0) {
        *ret = c.queue_view;
    }
    return r;
}

/* ---- pipes ---- */

static int create_pipe(struct shm *s, void *arg) {
    const struct call *c = arg;
    return pipe_create(s, &c->ask.name, c->pipe);
}

int objects_pipe_create(struct objects *o, struct task_bytes name, const struct pipe_params *p) {
    struct call c = call_on(o, name);
    c.pipe = p;
    return objects_change(&c.ask, false, create_pipe);
}

static int open_end(struct shm *s, void *arg) {
    const struct call *c = arg;
    return pipe_open(s, &c->ask.name, c->end);
}

int objects_pipe_open(struct objects *o, struct task_bytes name, unsigned end) {
    struct call c = call_on(o, name);
    c.end = end;
    return objects_change(&c.ask, false, open_end);
}

static int close_end(struct shm *s, void *arg) {
    const struct call *c = arg;
    return pipe_close(s, &c->ask.name, c->end);
}

int objects_pipe_close(struct objects *o, struct task_bytes name, unsigned end) {
    struct call c = call_on(o, name);
    c.end = end;
    return objects_change(&c.ask, false, close_end);
}

static int send_message(struct shm *s, void *arg) {
    const struct call *c = arg;
    return pipe_send(s, &c->ask.name, c->end, c->ask.value.data, c->ask.value.len, c->flags);
}

int objects_pipe_send(struct objects *o, struct task_bytes name, unsigned end,
                      struct task_bytes message, int64_t ms) {
    struct call c = call_on(o, name);
    c.end = end;
    c.ask.value = message;
    return make(&c, send_message, ms);
}

static int keep_message(void *arg, const void *data, size_t len) {
    struct call *c = arg;
    return objects_keep(&c->ask, data, len);
}

static int receive_message(struct shm *s, void *arg) {
    struct call *c = arg;
    objects_begin(&c->ask);
    return pipe_recv(s, &c->ask.name, c->end, c->flags, keep_message, c);
}

int objects_pipe_recv(struct objects *o, struct task_bytes name, unsigned end, int64_t ms,
                      struct task_bytes *ret) {
    struct call c = call_on(o, name);
    c.end = end;
    int r = make(&c, receive_message, ms);
    if (r == 0) {
        *ret = objects_item(&c.ask);
    }
    return r;
}

static int poll_end(struct shm *s, void *arg) {
    const struct call *c = arg;
    return pipe_poll(s, &c->ask.name, c->end, c->flags);
}

int objects_pipe_poll(struct objects *o, struct task_bytes name, unsigned end, int64_t ms) {
    struct call c = call_on(o, name);
    c.end = end;
    int r = make(&c, poll_end, ms);
    return r == 0 ? 1 : r == -EBUSY || r == -ETIMEDOUT ? 0 : r;
}

static int view_pipe(struct shm *s, void *arg) {
    struct call *c = arg;
    return pipe_view(s, &c->ask.name, &c->pipe_view);
}

int objects_pipe_view(struct objects *o, struct task_bytes name, struct pipe_view *ret) {
    struct call c = call_on(o, name);
    int r = objects_look(&c.ask, view_pipe);
    if (r == 0) {
        *ret = c.pipe_view;
    }
    return r;
}
