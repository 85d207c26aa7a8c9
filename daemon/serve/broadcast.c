/* SPDX-License-Identifier: MIT */
/* POOL.BROADCAST: a task that runs once in every worker of a pool that serves now. It is as many tasks, each of which the daemon
 * holds and orders one worker to take (task_order()), before any other. So a worker at work takes it after the task in hand, and
 * one that leaves before ends it as lost; nobody else runs it, and it is not tried again. The reply has all ends.
 *
 * Until then the connection waits, and the ends are pinned where they are. Invariant: c->block is BLOCK_BROADCAST while
 * c->broadcast is there, but for the time of its making.
 *
 * Fails: replies; -EAGAIN. */
#include "daemon/serve/broadcast.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/serve/dispatch.h"
#include "daemon/serve/end.h"
#include "daemon/serve/pools.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/submit.h"
#include "lib/shm/slot.h"

struct one {
    struct task_waiter waiter;
    struct broadcast *all;
    uint32_t idx, slot;
    pid_t pid;
    bool ended; /* pinned */
};

struct broadcast {
    struct conn *conn;
    uint32_t n, open;
    struct one v[];
};

void broadcast_forget(struct conn *c) {
    struct broadcast *b = c->broadcast;
    if (!b) {
        return;
    }
    c->broadcast = NULL;
    for (uint32_t i = 0; i < b->n; i++) {
        tasks_unwait(&b->v[i].waiter);
        if (b->v[i].ended) {
            tasks_unpin(c->serve->d, b->v[i].idx);
        }
    }
    free(b);
}

/* [pid, id, status, result, cause] of each. */
static void reply_all(struct conn *c, const struct broadcast *b) {
    struct hearthd *d = c->serve->d;
    reply_array(c, b->n);
    for (uint32_t i = 0; i < b->n; i++) {
        const struct one *o = &b->v[i];
        struct task_view v = {.state = TASK_LOST};
        char id[TASK_ID_TEXT];
        task_view(&d->shm, o->idx, &v);
        size_t len = task_id_text(id, v.id, o->idx);
        reply_array(c, 5);
        reply_int(c, o->pid);
        reply_bulk(c, id, len);
        REPLY(c, end_put(c, &c->out, o->idx, &v));
    }
}

static void on_ended(struct task_waiter *w, uint32_t idx, const struct task_view *v) {
    struct one *o = container_of(w, struct one, waiter);
    struct broadcast *b = o->all;
    struct conn *c = b->conn;
    (void)v;
    o->ended = true;
    tasks_pin(c->serve->d, idx);
    if (--b->open > 0) {
        return;
    }
    reply_all(c, b);
    for (uint32_t i = 0; i < b->n; i++) {
        tasks_fetched(c->serve->d, b->v[i].idx);
    }
    block_end(c);
}

/* A process may be several workers: threads, or a program with capacity for more tasks than one. */
static bool is_first(const struct pool *p, const struct worker *w) {
    list_for_each (it, &p->workers) {
        const struct worker *other = list_entry(it, struct worker, in_pool);
        if (other->pid == w->pid) {
            return other == w;
        }
    }
    return false;
}

/* Those that would take it now; one that is warm and has been told to go is about to serve. */
static uint32_t find_workers(struct conn *c, const struct pool *p, struct broadcast *b) {
    uint32_t n = 0;
    list_for_each (it, &p->workers) {
        const struct worker *w = list_entry(it, struct worker, in_pool);
        struct slot_view v;
        slot_view(&c->serve->d->shm, w->slot, &v);
        if ((v.state == SLOT_SERVING || v.state == SLOT_WARM) && v.command == SLOT_GO &&
            v.pid == (uint32_t)w->pid && is_first(p, w)) {
            if (b) {
                b->v[n] = (struct one){.all = b, .slot = w->slot, .pid = w->pid};
                list_init(&b->v[n].waiter.node);
                b->v[n].waiter.ended = on_ended;
            }
            n++;
        }
    }
    return n;
}

static void take_back(struct conn *c, struct broadcast *b, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        if (tasks_abandon(c->serve->d, b->v[i].idx)) {
            c->live--;
        }
    }
    free(b);
}

/* All are queued, then all ordered: 0, or nothing of it has happened. */
static int submit_all(struct conn *c, struct submit_words *w, struct broadcast *b) {
    for (uint32_t i = 0; i < b->n; i++) {
        struct task_ref ref;
        int r = submit_new(c, w, &ref);
        if (r < 0) {
            take_back(c, b, i);
            return r;
        }
        b->v[i].idx = ref.idx;
        c->live++;
    }
    c->broadcast = b;
    c->block = BLOCK_BROADCAST;
    for (uint32_t i = 0; i < b->n; i++) {
        tasks_wait(c->serve->d, b->v[i].idx, &b->v[i].waiter);
    }
    return 0;
}

static bool any_ordered(struct conn *c, const struct broadcast *b) {
    for (uint32_t i = 0; i < b->n; i++) {
        struct slot_view v;
        slot_view(&c->serve->d->shm, b->v[i].slot, &v);
        if (v.order) {
            return true;
        }
    }
    return false;
}

int cmd_POOL_BROADCAST(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct submit_words w;
    struct pool *p = pool_arg(c, &argv[1]);
    if (!p || !submit_parse(c, argv, argc, 4, &w)) {
        return 0;
    }
    if (w.policy.set || w.last || w.stream || w.spec.priority != p->config->priority) {
        reply_error(c, "ERR a broadcast has no options but ARG and TIMEOUT");
        return 0;
    }
    uint32_t n = find_workers(c, p, NULL);
    if (n == 0) {
        reply_array(c, 0);
        return 0;
    }
    struct broadcast *b = calloc(1, sizeof(*b) + n * sizeof(b->v[0]));
    if (!b) {
        reply_error(c, "OOM the daemon is out of memory");
        return 0;
    }
    b->conn = c;
    b->n = b->open = find_workers(c, p, b);
    if (any_ordered(c, b)) {
        free(b);
        reply_errorf(c, "BUSY pool '%s' has not begun the last broadcast everywhere",
                     p->config->name);
        return 0;
    }
    w.spec.payload = (struct task_bytes){argv[3].data, argv[3].len};
    w.spec.hold = true;
    int r = submit_all(c, &w, b);
    if (r < 0 && r != -EAGAIN) {
        submit_refused(c, p, r);
    }
    if (r == 0) {
        uint32_t all = b->n;
        for (uint32_t i = 0; i < all; i++) { /* the last one's end may free b */
            tasks_order(c->serve->d, b->v[i].idx, b->v[i].slot);
        }
        p->ordered = true; /* for programs that wait for a task */
        p->wake += all;
    }
    return r == -EAGAIN ? r : 0;
}
