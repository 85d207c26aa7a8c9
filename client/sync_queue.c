/* SPDX-License-Identifier: MIT */
/* Queues and pipes; how a function that may wait is done is in sync.c.
 *
 * hearth_pipe_fd() is no pipe of the segment: the daemon makes a socketpair and hands out its ends, which then belong to the
 * kernel. It is always asked, since a descriptor comes over a socket only.
 *
 * Fails: as hearth.h says. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/sync.h"
#include "lib/shm/objects_queue.h"

enum { MANY = 1024 }; /* items got at a time */

/* ---- queues ---- */

int hearth_queue_create(struct hearth *h, struct hearth_bytes name,
                        const struct hearth_queue_options *options, int *ret_made) {
    const struct queue_params p = {.max_items = options->max_items, .lease_ms = options->lease_ms};
    struct objects *o = wait_mapped(h);
    struct digits most, lease;
    if (p.max_items > INT64_MAX) {
        return object_invalid(h);
    }
    if (o) {
        return object_flag(h, objects_queue_create(o, in(name), &p), ret_made);
    }
    return object_ask_flag(h, ret_made,
                           WORDS(hearth_text("QUEUE.CREATE"), name, hearth_text("MAX"),
                                 object_number(&most, (int64_t)p.max_items), hearth_text("LEASE"),
                                 object_number(&lease, p.lease_ms)));
}

int hearth_queue_put_many(struct hearth *h, struct hearth_bytes name,
                          const struct hearth_bytes *items, size_t n, int64_t ms, size_t *ret_n) {
    struct objects *o = wait_mapped(h);
    struct digits d;
    struct hearth_bytes words[5] = {hearth_text("QUEUE.PUT"), name};
    const struct hearth_reply *reply = NULL;
    size_t k = 2;
    int64_t put = 0;
    if (n == 0) {
        return object_none(h);
    }
    if (o) {
        int r = wait_done(h, objects_queue_put(o, in(name), ins(items), n, ms), &put);
        if (r == 0 && ret_n) {
            *ret_n = (size_t)put;
        }
        return r;
    }
    if (ms >= 0) {
        words[k++] = hearth_text("TIMEOUT");
        words[k++] = object_number(&d, ms);
    }
    words[k++] = hearth_text("ITEM");
    int r = wait_ask_more(h, &reply, ms != 0, words, k, items, n);
    if (r == 0 && ret_n) {
        *ret_n = (size_t)hearth_reply_int(reply);
    }
    return r;
}

int hearth_queue_put(struct hearth *h, struct hearth_bytes name, struct hearth_bytes item,
                     int64_t ms) {
    return hearth_queue_put_many(h, name, &item, 1, ms, NULL);
}

/* Room for the leases of n items. */
static uint64_t *room(struct hearth *h, size_t n) {
    if (n > h->leases_cap) {
        uint64_t *more = realloc(h->leases, n * sizeof(*more));
        if (!more) {
            return NULL;
        }
        h->leases = more;
        h->leases_cap = n;
    }
    return h->leases;
}

/* [[item, lease], [item, lease] ...] */
static int take_items(struct hearth *h, const struct hearth_reply *array,
                      const struct hearth_bytes **ret, size_t *ret_n) {
    size_t n;
    int r = object_items(h, array, ret, &n); /* makes room for them */
    if (r == 0 && !room(h, n)) {
        r = -ENOMEM;
    }
    const struct hearth_reply *pair = hearth_reply_first(array);
    for (size_t i = 0; i < n && r == 0; i++, pair = hearth_reply_next(pair)) {
        const struct hearth_reply *item = hearth_reply_first(pair);
        h->items[i] = object_text(item);
        h->leases[i] = (uint64_t)hearth_reply_int(hearth_reply_next(item));
    }
    if (r == 0) {
        *ret_n = n;
    }
    return r;
}

int hearth_queue_get_many(struct hearth *h, struct hearth_bytes name, size_t max, int64_t ms,
                          const struct hearth_bytes **ret, size_t *ret_n,
                          const uint64_t **ret_leases) {
    struct objects *o = wait_mapped(h);
    const struct hearth_reply *reply = NULL;
    struct digits d;
    int r;
    if (max == 0) {
        return object_none(h);
    }
    max = max < MANY ? max : MANY;
    if (o) {
        uint64_t *leases = room(h, max);
        if (!leases) {
            return -ENOMEM;
        }
        r = wait_done(h, objects_queue_get(o, in(name), max, ms, outs(ret), ret_n, leases), NULL);
    } else {
        r = wait_ask(h, &reply, ms,
                     WORDS(hearth_text("QUEUE.GET"), name, hearth_text("COUNT"),
                           object_number(&d, (int64_t)max)));
        r = r ? r : take_items(h, reply, ret, ret_n);
    }
    if (r == 0 && ret_leases) {
        *ret_leases = h->leases;
    }
    return r;
}

int hearth_queue_get(struct hearth *h, struct hearth_bytes name, int64_t ms,
                     struct hearth_bytes *ret, uint64_t *ret_lease) {
    const struct hearth_bytes *items;
    const uint64_t *leases;
    size_t n = 0;
    int r = hearth_queue_get_many(h, name, 1, ms, &items, &n, &leases);
    if (r == 0 && n != 1) {
        return result_say(h, HEARTH_E_PROTOCOL, "an unexpected kind of reply");
    }
    if (r == 0 && ret) {
        *ret = items[0];
    }
    if (r == 0 && ret_lease) {
        *ret_lease = leases[0];
    }
    return r;
}

int hearth_queue_done(struct hearth *h, struct hearth_bytes name, uint64_t lease) {
    const struct hearth_reply *reply;
    struct objects *o = wait_mapped(h);
    struct digits d;
    return o ? wait_done(h, objects_queue_done(o, in(name), lease), NULL)
             : object_ask(
                   h, &reply,
                   WORDS(hearth_text("QUEUE.DONE"), name, object_number(&d, (int64_t)lease)));
}

int hearth_queue_extend(struct hearth *h, struct hearth_bytes name, uint64_t lease, int64_t ms) {
    const struct hearth_reply *reply;
    struct objects *o = wait_mapped(h);
    struct digits a, b;
    return o ? wait_done(h, objects_queue_extend(o, in(name), lease, ms), NULL)
             : object_ask(h, &reply,
                          WORDS(hearth_text("QUEUE.EXTEND"), name,
                                object_number(&a, (int64_t)lease), object_number(&b, ms)));
}

int hearth_queue_return(struct hearth *h, struct hearth_bytes name, uint64_t lease) {
    const struct hearth_reply *reply;
    struct objects *o = wait_mapped(h);
    struct digits d;
    return o ? wait_done(h, objects_queue_return(o, in(name), lease), NULL)
             : object_ask(
                   h, &reply,
                   WORDS(hearth_text("QUEUE.RETURN"), name, object_number(&d, (int64_t)lease)));
}

int hearth_queue_task_done(struct hearth *h, struct hearth_bytes name) {
    const struct hearth_reply *reply;
    struct objects *o = wait_mapped(h);
    return o ? wait_done(h, objects_queue_task_done(o, in(name)), NULL)
             : object_ask(h, &reply, WORDS(hearth_text("QUEUE.TASKDONE"), name));
}

int hearth_queue_join(struct hearth *h, struct hearth_bytes name, int64_t ms) {
    struct objects *o = wait_mapped(h);
    return o ? wait_done(h, objects_queue_join(o, in(name), ms), NULL)
             : wait_ask_taken(h, NULL, ms, WORDS(hearth_text("QUEUE.JOIN"), name));
}

int hearth_queue_close(struct hearth *h, struct hearth_bytes name) {
    const struct hearth_reply *reply;
    struct objects *o = wait_mapped(h);
    return o ? wait_done(h, objects_queue_close(o, in(name)), NULL)
             : object_ask(h, &reply, WORDS(hearth_text("QUEUE.CLOSE"), name));
}

int hearth_queue_info(struct hearth *h, struct hearth_bytes name, struct hearth_queue_info *ret) {
    const struct hearth_reply *map;
    struct queue_view v;
    if (attach_can(h, false)) {
        int r = objects_queue_view(&h->objects, in(name), &v);
        if (object_final(h, r)) {
            if (r == 0) {
                *ret = (struct hearth_queue_info){v.max_items,  v.lease_ms, v.items,   v.leased,
                                                  v.unfinished, v.getters,  v.putters, v.closed};
            }
            return wait_done(h, r, NULL);
        }
    }
    int r = object_ask(h, &map, WORDS(hearth_text("QUEUE.INFO"), name));
    if (r == 0) {
#define NUMBER(key) hearth_reply_int(hearth_reply_get(map, key))
        *ret = (struct hearth_queue_info){
            .max_items = (uint64_t)NUMBER("max_items"),
            .lease_ms = NUMBER("lease_ms"),
            .items = (uint64_t)NUMBER("items"),
            .leased = (uint64_t)NUMBER("leased"),
            .unfinished = (uint64_t)NUMBER("unfinished"),
            .getters = (uint64_t)NUMBER("getters"),
            .putters = (uint64_t)NUMBER("putters"),
            .closed = (int)NUMBER("closed"),
        };
#undef NUMBER
    }
    return r;
}

/* ---- pipes ---- */

/* An end that there is. */
static bool is_end(struct hearth *h, int end) {
    if (end != 0 && end != 1) {
        result_say(h, -EINVAL, "the ends of a pipe are 0 and 1");
        return false;
    }
    return true;
}

static struct hearth_bytes end_word(int end) {
    return hearth_text(end ? "1" : "0");
}

int hearth_pipe_create(struct hearth *h, struct hearth_bytes name, int duplex, uint64_t buffer,
                       int *ret_made) {
    const struct pipe_params p = {.duplex = duplex != 0, .buffer = buffer};
    struct objects *o = wait_mapped(h);
    struct hearth_bytes words[5] = {hearth_text("PIPE.CREATE"), name};
    struct digits d;
    size_t n = 2;
    if (buffer > INT64_MAX) {
        return object_invalid(h);
    }
    if (o) {
        return object_flag(h, objects_pipe_create(o, in(name), &p), ret_made);
    }
    if (duplex) {
        words[n++] = hearth_text("DUPLEX");
    }
    if (buffer) {
        words[n++] = hearth_text("BUFFER");
        words[n++] = object_number(&d, (int64_t)buffer);
    }
    return object_ask_flag(h, ret_made, words, n);
}

int hearth_pipe_open(struct hearth *h, struct hearth_bytes name, int end) {
    const struct hearth_reply *reply;
    struct objects *o = wait_mapped(h);
    if (!is_end(h, end)) {
        return -EINVAL;
    }
    return o ? wait_done(h, objects_pipe_open(o, in(name), (unsigned)end), NULL)
             : object_ask(h, &reply, WORDS(hearth_text("PIPE.OPEN"), name, end_word(end)));
}

int hearth_pipe_close(struct hearth *h, struct hearth_bytes name, int end) {
    const struct hearth_reply *reply;
    struct objects *o = wait_mapped(h);
    if (!is_end(h, end)) {
        return -EINVAL;
    }
    return o ? wait_done(h, objects_pipe_close(o, in(name), (unsigned)end), NULL)
             : object_ask(h, &reply, WORDS(hearth_text("PIPE.CLOSE"), name, end_word(end)));
}

int hearth_pipe_send(struct hearth *h, struct hearth_bytes name, int end,
                     struct hearth_bytes message, int64_t ms) {
    struct objects *o = wait_mapped(h);
    if (!is_end(h, end)) {
        return -EINVAL;
    }
    return o ? wait_done(h, objects_pipe_send(o, in(name), (unsigned)end, in(message), ms), NULL)
             : wait_ask_taken(h, NULL, ms,
                              WORDS(hearth_text("PIPE.SEND"), name, end_word(end), message));
}

int hearth_pipe_recv(struct hearth *h, struct hearth_bytes name, int end, int64_t ms,
                     struct hearth_bytes *ret) {
    const struct hearth_reply *reply = NULL;
    struct objects *o = wait_mapped(h);
    if (!is_end(h, end)) {
        return -EINVAL;
    }
    if (o) {
        return wait_done(h, objects_pipe_recv(o, in(name), (unsigned)end, ms, out(ret)), NULL);
    }
    int r = wait_ask(h, &reply, ms, WORDS(hearth_text("PIPE.RECV"), name, end_word(end)));
    if (r == 0) {
        *ret = object_text(reply);
    }
    return r;
}

int hearth_pipe_poll(struct hearth *h, struct hearth_bytes name, int end, int64_t ms, int *ret) {
    const struct hearth_reply *reply = NULL;
    struct objects *o = wait_mapped(h);
    if (!is_end(h, end)) {
        return -EINVAL;
    }
    if (o) {
        return object_flag(h, objects_pipe_poll(o, in(name), (unsigned)end, ms), ret);
    }
    int r = wait_ask(h, &reply, ms, WORDS(hearth_text("PIPE.POLL"), name, end_word(end)));
    if (r == 0) {
        *ret = hearth_reply_int(reply) != 0;
    }
    return r;
}

int hearth_pipe_fd(struct hearth *h, struct hearth_bytes name, int end, int *ret_fd) {
    const struct hearth_reply *reply;
    if (!is_end(h, end)) {
        return -EINVAL;
    }
    return object_ask_fd(h, &reply, ret_fd, WORDS(hearth_text("PIPE.FD"), name, end_word(end)));
}
