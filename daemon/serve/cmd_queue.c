/* SPDX-License-Identifier: MIT */
/* QUEUE.*: queues of items. Who waits to put or to get is granted the right to do so when it is his turn, and his command is
 * then carried out as if it had just come (wait_sync.c); an item leaves the queue in the same operation that puts it into the
 * reply, so a connection that ends meanwhile takes none with it.
 *
 * The time limits of leases are the daemon's to keep (lib/shm/queue.h): a timer brings the items back whose time is over.
 *
 * Fails: replies; the errnos of lib/shm. */
#include "daemon/serve/queue.h"

#include <errno.h>

#include "daemon/serve/args.h"
#include "daemon/serve/cmd_sync.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"
#include "lib/base/clock.h"
#include "lib/shm/queue.h"

#define LEASE_MAX (INT64_MAX / (int64_t)NS_PER_MS)

/* ---- making one, and what it is like ---- */

static bool create_words(struct conn *c, const struct resp_arg *argv, uint32_t argc,
                         struct queue_params *ret) {
    int64_t max = 0;
    for (uint32_t i = 2; i < argc; i += 2) {
        bool more = i + 1 < argc;
        if (more && resp_is(&argv[i], "MAX")) {
            if (!args_range(c, &argv[i + 1], 0, INT64_MAX, NULL, &max)) {
                return false;
            }
        } else if (more && resp_is(&argv[i], "LEASE")) {
            if (!args_range(c, &argv[i + 1], -1, LEASE_MAX, NULL, &ret->lease_ms)) {
                return false;
            }
        } else {
            reply_syntax(c);
            return false;
        }
    }
    ret->max_items = (uint64_t)max;
    return true;
}

int cmd_QUEUE_CREATE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct key_name name = object_name(c, &argv[1]);
    struct queue_params p = {0};
    if (!create_words(c, argv, argc, &p)) {
        return 0;
    }
    int r = queue_create(object_shm(c), &name, &p);
    if (r >= 0) {
        reply_int(c, r);
    }
    return r < 0 ? r : 0;
}

int cmd_QUEUE_INFO(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key_name name = object_name(c, &argv[1]);
    struct queue_view v;
    int r = queue_view(object_shm(c), &name, &v);
    if (r >= 0) {
        reply_map(c, 8);
        reply_field_int(c, "max_items", (int64_t)v.max_items);
        reply_field_int(c, "lease_ms", v.lease_ms);
        reply_field_int(c, "items", (int64_t)v.items);
        reply_field_int(c, "leased", (int64_t)v.leased);
        reply_field_int(c, "unfinished", (int64_t)v.unfinished);
        reply_field_int(c, "getters", (int64_t)v.getters);
        reply_field_int(c, "putters", (int64_t)v.putters);
        reply_field_int(c, "closed", v.closed);
    }
    return r < 0 ? r : 0;
}

int cmd_QUEUE_SIZE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key_name name = object_name(c, &argv[1]);
    struct queue_view v = {0};
    int r = queue_view(object_shm(c), &name, &v);
    if (r >= 0 || r == -ENOENT) {
        reply_int(c, (int64_t)v.items);
    }
    return r < 0 && r != -ENOENT ? r : 0;
}

static int close_inside(struct conn *c, const struct key_name *name) {
    int r = queue_close(object_shm(c), name);
    if (r >= 0) {
        reply_ok(c);
    }
    return r < 0 ? r : 0;
}

int cmd_QUEUE_CLOSE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key_name name = object_name(c, &argv[1]);
    return close_inside(c, &name);
}

/* ---- putting ---- */

enum { ITEMS_FEW = 16 };

struct put {
    struct key_name name;
    const struct resp_arg *items;
    uint32_t n;
};

static int put_inside(struct shm *s, void *arg, unsigned flags) {
    const struct put *p = arg;
    struct task_bytes few[ITEMS_FEW];
    uint32_t done = 0;
    while (done < p->n) { /* in pieces: only the first may wait */
        uint32_t k = p->n - done < ITEMS_FEW ? p->n - done : ITEMS_FEW;
        for (uint32_t i = 0; i < k; i++) {
            few[i] = (struct task_bytes){p->items[done + i].data, p->items[done + i].len};
        }
        int r = queue_put(s, &p->name, few, k, done ? flags & ~(unsigned)SYNC_WAIT : flags);
        if (r == -EBUSY && done) {
            break;
        }
        if (r < 0) {
            return r;
        }
        done += (uint32_t)r;
        if ((uint32_t)r < k) {
            break;
        }
    }
    return (int)done;
}

static void say_number(struct conn *c, int answer) {
    reply_int(c, answer);
}

int cmd_QUEUE_PUT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct put p = {object_name(c, &argv[1]), argv + 2, 1};
    uint32_t words = 0;
    if (argc > 3) {
        while (2 + words < argc && !resp_is(&argv[2 + words], "ITEM")) {
            words++;
        }
        if (2 + words + 1 >= argc) {
            reply_syntax(c);
            return 0;
        }
        p.items += words + 1;
        p.n = argc - 2 - words - 1;
    }
    return sync_wait_words(c, argv + 2, words, false,
                           (struct sync_do){.shards = key_shard_bit(&p.name),
                                            .run = put_inside,
                                            .arg = &p,
                                            .say = say_number,
                                            .again = true});
}

/* ---- getting ---- */

struct get {
    struct conn *c;
    struct key_name name;
    uint64_t max; /* 0: one, by itself */
    struct buf found;
    struct buf *to; /* where items go: `found`, or the reply itself */
};

static int take_item(void *arg, const void *data, size_t len, uint64_t lease) {
    struct get *g = arg;
    if (g->c->muted) {
        return 0;
    }
    if (buf_len(g->to) + len >= g->c->serve->out_max) {
        return -EMSGSIZE; /* the connection would be closed, and the item be lost */
    }
    int r = resp_put_array(g->to, 2);
    r = r < 0 ? r : resp_put_bulk(g->to, data, len);
    return r < 0 ? r : resp_put_int(g->to, (int64_t)lease);
}

static int get_inside(struct shm *s, void *arg, unsigned flags) {
    struct get *g = arg;
    buf_clear(&g->found);
    g->to = g->max ? &g->found : &g->c->out;
    int r = queue_get(s, &g->name, g->max ? g->max : 1, flags, take_item, g);
    if (r > 0 && g->max && !g->c->muted) {
        int e = resp_put_array(&g->c->out, (uint32_t)r);
        e = e < 0 ? e : buf_append(&g->c->out, buf_head(&g->found), buf_len(&g->found));
        return e < 0 ? e : r;
    }
    return r;
}

int cmd_QUEUE_GET(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct get g = {.c = c, .name = object_name(c, &argv[1])};
    uint32_t from = 2;
    if (argc > 3 && resp_is(&argv[2], "COUNT")) {
        if (!sync_count(c, &argv[3], &g.max)) {
            return 0;
        }
        g.max = g.max > INT32_MAX ? INT32_MAX : g.max;
        from = 4;
    }
    int r = sync_wait_words(c, argv + from, argc - from, false,
                            (struct sync_do){.shards = key_shard_bit(&g.name),
                                             .run = get_inside,
                                             .arg = &g,
                                             .late = LATE_NULL_ARRAY,
                                             .again = true});
    buf_deinit(&g.found);
    return r;
}

/* ---- what has been got ---- */

/* key lease ... [FORCE] */
static bool lease_words(struct conn *c, const struct resp_arg *argv, uint32_t argc, uint32_t words,
                        uint64_t *ret_lease, unsigned *ret_flags) {
    int64_t lease;
    if (argc > words + 1 || (argc == words + 1 && !resp_is(&argv[words], "FORCE"))) {
        reply_syntax(c);
        return false;
    }
    if (!args_range(c, &argv[2], 1, INT64_MAX, "a lease is a positive number", &lease)) {
        return false;
    }
    *ret_lease = (uint64_t)lease;
    *ret_flags = argc > words ? SYNC_FORCE : 0;
    return true;
}

static int lease_end(struct conn *c, int r) {
    if (r >= 0) {
        reply_ok(c);
    } else if (r == -ENOENT) {
        reply_error(c, "NOLEASE the item is not on this lease, or not any more");
        return 0;
    }
    return r < 0 ? r : 0;
}

int cmd_QUEUE_DONE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct key_name name = object_name(c, &argv[1]);
    uint64_t lease;
    unsigned flags;
    if (!lease_words(c, argv, argc, 3, &lease, &flags)) {
        return 0;
    }
    return lease_end(c, queue_done(object_shm(c), &name, lease, flags));
}

int cmd_QUEUE_RETURN(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct key_name name = object_name(c, &argv[1]);
    uint64_t lease;
    unsigned flags;
    if (!lease_words(c, argv, argc, 3, &lease, &flags)) {
        return 0;
    }
    return lease_end(c, queue_return(object_shm(c), &name, lease, flags));
}

int cmd_QUEUE_EXTEND(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct key_name name = object_name(c, &argv[1]);
    uint64_t lease;
    unsigned flags;
    int64_t ms;
    if (!lease_words(c, argv, argc, 4, &lease, &flags) ||
        !args_range(c, &argv[3], -1, LEASE_MAX, NULL, &ms)) {
        return 0;
    }
    return lease_end(c, queue_extend(object_shm(c), &name, lease, ms, flags));
}

int cmd_QUEUE_TASKDONE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key_name name = object_name(c, &argv[1]);
    int r = queue_task_done(object_shm(c), &name);
    if (r >= 0) {
        reply_ok(c);
    }
    return r < 0 ? r : 0;
}

int cmd_QUEUE_JOIN(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return sync_wait_for(c, argv, argc, false, queue_join,
                         (struct sync_do){.say = sync_say_ok, .again = true});
}

/* ---- the time limits of leases ---- */

static void expire(struct serve *s) {
    int64_t ms = queue_expire_leases(&s->d->shm);
    event_del(s->ev_queues);
    if (ms >= 0) {
        struct timeval tv = {.tv_sec = (time_t)(ms / 1000),
                             .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
        event_add(s->ev_queues, &tv);
    }
}

static void on_expire(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    struct serve *s = arg;
    s->d->heard++;
    expire(s);
}

int queues_open(struct serve *s) {
    s->ev_queues = evtimer_new(s->d->base, on_expire, s);
    if (s->ev_queues) {
        expire(s); /* what an earlier daemon has left in the segment */
    }
    return s->ev_queues ? 0 : -ENOMEM;
}

void queues_close(struct serve *s) {
    if (s->ev_queues) {
        event_free(s->ev_queues);
    }
}

void queues_turn(struct serve *s) {
    if (queue_lease_news(&s->d->shm)) {
        expire(s);
    }
}

bool queues_have_news(const struct serve *s) {
    return queue_lease_news(&s->d->shm);
}
