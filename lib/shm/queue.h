/* SPDX-License-Identifier: MIT */
/* Queues of byte strings, bounded or not, for many who put and many who get, any of whom may die.
 *
 * A getter or putter who waits stands in line (sync.h). What it is handed then is not the item itself, but the right to one (or to
 * a place): the item stays in the queue until the call is made again. So:
 *
 *     r = queue_get(..., SYNC_WAIT, ...);   -EINPROGRESS: it stands in line. Later, when its seat's bell has rung:
 *     r = sync_poll(s);                     -EINPROGRESS: not yet; 0: it has a right; an error: the final answer
 *     r = queue_get(..., SYNC_WAIT, ...);   the same call again uses the right up: the item, or an error
 *     r = sync_give_up(s);                  its time is over: -ETIMEDOUT; 0: it has a right all the same: the same call again
 *     r = sync_forgo(s);                    it will not make the call again (or that failed): the right goes to the next in line
 *
 * The same for a right whose owner dies; no item is ever in nobody's hand.
 *
 * Without leases an item belongs to who got it the moment the call committed: if that process dies, it is gone. With leases an
 * item got stays in the queue's keeping until queue_done(); it comes back to the front when its taker dies, or its time is over.
 *
 * Inside of an operation (op.h) that holds the shard of the name, unless "outside" is said; none sleeps; "reads": also inside of
 * op_read(). Errors besides those named: -EPROTOTYPE, -EIDRM, -ENOMEM, -ENOBUFS, -EAGAIN, -EBADMSG, -EMSGSIZE (over 64 MiB);
 * from reading ones -ESTALE. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/shm/keys.h"
#include "lib/shm/segment.h"
#include "lib/shm/sync.h"

struct queue_params {
    uint64_t max_items; /* 0: no bound */
    int64_t
        lease_ms; /* 0: no leases; > 0: an item comes back after so long; < 0: only when its taker dies */
};

/* 1: made; 0: there is one with the same parameters; -EEXIST: with others. */
int queue_create(struct shm *s, const struct key_name *name, const struct queue_params *p);

/* Puts as many of n items as there is room for, at least one: how many. Makes an unbounded queue where there is none. n == 0: 0.
 * -EBUSY, -EINPROGRESS: no room for any; -EPIPE: closed. */
int queue_put(struct shm *s, const struct key_name *name, const struct task_bytes *items, size_t n,
              unsigned flags);

/* Calls fn for up to `max` items, at least one, oldest first: how many. fn copies the bytes; it returns 0 or an error, which
 * undoes it all. lease: for queue_done(), 0 in queues without leases. Makes an unbounded queue where there is none and SYNC_WAIT.
 * -EBUSY (also when there is no such queue), -EINPROGRESS: it is empty; -EPIPE: empty and closed. */
typedef int queue_item(void *arg, const void *data, size_t len, uint64_t lease);
int queue_get(struct shm *s, const struct key_name *name, uint64_t max, unsigned flags,
              queue_item *fn, void *arg);

/* The item of a lease is dealt with; counts as queue_task_done() too. -ENOENT: it is not, or no longer, on lease (it has come
 * back). -EPERM: on lease to another; SYNC_FORCE: by anybody. */
int queue_done(struct shm *s, const struct key_name *name, uint64_t lease, unsigned flags);
/* The lease ends `ms` from now (< 0: with its taker). Errors as above. */
int queue_extend(struct shm *s, const struct key_name *name, uint64_t lease, int64_t ms,
                 unsigned flags);
/* Gives the item back to the front at once. Errors as above. */
int queue_return(struct shm *s, const struct key_name *name, uint64_t lease, unsigned flags);

/* One item put has been dealt with. -EOVERFLOW: more often than items were put; -ENOENT: no such queue. */
int queue_task_done(struct shm *s, const struct key_name *name);
/* 0: all that was put has been dealt with (or there is no such queue). -EBUSY, -EINPROGRESS. */
int queue_join(struct shm *s, const struct key_name *name, unsigned flags);
/* Nothing can be put any more; what is in it can be got. Who waits to put is told -EPIPE, and who waits to get when it is empty.
 * -ENOENT. Twice is once. */
int queue_close(struct shm *s, const struct key_name *name);

struct queue_view {
    uint64_t max_items;
    int64_t lease_ms;
    uint64_t items;            /* qsize */
    uint64_t leased;           /* got and not yet done */
    uint64_t unfinished;       /* what join waits for */
    uint64_t getters, putters; /* who wait */
    bool closed;
    /* empty: items == 0; full: max_items && items >= max_items */
};
/* Reads. -ENOENT. */
int queue_view(struct shm *s, const struct key_name *name, struct queue_view *ret);

/* The daemon's: leases whose time is over, brings their items back. Outside. Milliseconds until it is to be called again; -1: not
 * before queue_lease_news() says so. */
int64_t queue_expire_leases(struct shm *s);
/* Whether a lease has been taken that ends sooner than queue_expire_leases() last said: call it then. The daemon's bell rings when
 * that comes about, so it is enough to ask when it rang. Outside, a load. */
bool queue_lease_news(const struct shm *s);
