/* SPDX-License-Identifier: MIT */
/* Connections that wait: for tasks here, for the rest in the files that call block_as(). The waiter of TASK.CALL (and of
 * TASK.WAIT for one task) lies in the connection itself; only TASK.WAIT for several needs memory. The first end answers and
 * takes the other waiters off their tasks. Later commands of the connection stay unparsed meanwhile, so replies keep their
 * order.
 *
 * Invariant: while c->block is set, something that will end it knows of the connection, or the timer runs.
 *
 * Fails: -ENOMEM; then nothing has changed. */
#include <errno.h>
#include <stdlib.h>

#include "daemon/serve/broadcast.h"
#include "daemon/serve/conn.h"
#include "daemon/serve/end.h"
#include "daemon/serve/events_push.h"
#include "daemon/serve/leases.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/status.h"
#include "daemon/serve/room.h"
#include "daemon/serve/wait_keys.h"
#include "daemon/serve/wait_sync.h"
#include "lib/base/clock.h"

void block_end(struct conn *c) {
    if (c->block == BLOCK_NONE) {
        return;
    }
    c->serve->n_draining -= c->block == BLOCK_DRAIN;
    c->serve->n_event_readers -= c->block == BLOCK_EVENTS;
    if (c->block == BLOCK_SYNC) {
        wait_sync_forget(c);
    }
    c->block = BLOCK_NONE;
    tasks_unwait(&c->one.waiter);
    for (uint32_t i = 0; i < c->n_many; i++) {
        tasks_unwait(&c->many[i].waiter);
    }
    free(c->many);
    c->many = NULL;
    c->n_many = 0;
    broadcast_forget(c);
    wait_keys_forget(c);
    leases_unwait(c);
    room_leave(c);
    group_unwait(&c->group);
    proc_unwait(&c->proc);
    if (c->timer) {
        event_del(c->timer);
    }
    conn_dirty(c);
    if (buf_len(&c->in) > 0) {
        conn_resume(c);
    }
}

static void call_ended(struct task_waiter *w, uint32_t idx, const struct task_view *v) {
    struct conn *c = container_of(w, struct conn_waiter, waiter)->conn;
    end_reply_call(c, idx, v);
    block_end(c);
    tasks_fetched(c->serve->d, idx);
    if (v->client == c->id) {
        c->serve->answered_idx = idx;
    }
}

static void wait_ended(struct task_waiter *w, uint32_t idx, const struct task_view *v) {
    struct conn *c = container_of(w, struct conn_waiter, waiter)->conn;
    end_reply_wait(c, idx, v);
    block_end(c);
    status_told(c, idx);
}

void block_reply_over(struct conn *c) {
    if (c->block == BLOCK_ROOM) {
        c->room.over = true; /* its words are taken again, and refused */
    } else if (c->block == BLOCK_CALL || c->block == BLOCK_DRAIN) {
        reply_null(c);
    } else if (c->block == BLOCK_EVENTS) {
        events_reply_over(c);
    } else {
        reply_null_array(c);
    }
}

static int timer_set(struct conn *c, uint64_t ms) {
    struct timeval tv = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
    return event_add(c->timer, &tv);
}

/* libevent counts from the time it looked at the clock last, and by a coarse clock: a timer may be early. */
static void wait_over(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    struct conn *c = arg;
    uint64_t now = clock_now();
    if (now < c->wait_until_ns && timer_set(c, (c->wait_until_ns - now) / NS_PER_MS + 1) == 0) {
        return;
    }
    c->serve->d->heard++;
    if (c->block == BLOCK_SYNC) {
        wait_sync_over(c, false);
        return;
    }
    block_reply_over(c);
    block_end(c);
}

static void wait_on(struct conn *c, struct conn_waiter *w, uint32_t idx,
                    void (*ended)(struct task_waiter *, uint32_t, const struct task_view *)) {
    w->conn = c;
    w->waiter.ended = ended;
    list_init(&w->waiter.node);
    tasks_wait(c->serve->d, idx, &w->waiter);
}

void block_call(struct conn *c, uint32_t idx) {
    c->block = BLOCK_CALL;
    wait_on(c, &c->one, idx, call_ended);
}

static int timer_start(struct conn *c, uint64_t ms) {
    if (!c->timer) {
        c->timer = evtimer_new(c->serve->d->base, wait_over, c);
    }
    c->wait_until_ns = clock_now() + ms * NS_PER_MS;
    return c->timer && timer_set(c, ms) == 0 ? 0 : -ENOMEM;
}

int block_as(struct conn *c, enum conn_block what, uint64_t timeout_ms) {
    if (timeout_ms != UINT64_MAX && timer_start(c, timeout_ms) < 0) {
        return -ENOMEM;
    }
    c->block = what;
    return 0;
}

int block_wait(struct conn *c, const uint32_t *idx, uint32_t n, uint64_t timeout_ms) {
    struct conn_waiter *many = NULL;
    if (n > 1) {
        many = calloc(n, sizeof(*many));
        if (!many) {
            return -ENOMEM;
        }
    }
    if (block_as(c, BLOCK_WAIT, timeout_ms) < 0) {
        free(many);
        return -ENOMEM;
    }
    c->many = many;
    c->n_many = n > 1 ? n : 0;
    for (uint32_t i = 0; i < n; i++) {
        wait_on(c, many ? &many[i] : &c->one, idx[i], wait_ended);
    }
    return 0;
}

int block_drain(struct conn *c, const struct pool *p, uint64_t timeout_ms) {
    if (block_as(c, BLOCK_DRAIN, timeout_ms) < 0) {
        return -ENOMEM;
    }
    c->drain = p;
    c->serve->n_draining++;
    return 0;
}

int block_events(struct conn *c, const struct event_wish *w, uint64_t timeout_ms) {
    if (block_as(c, BLOCK_EVENTS, timeout_ms) < 0) {
        return -ENOMEM;
    }
    c->wish = *w;
    c->serve->n_event_readers++;
    return 0;
}

void block_drain_turn(struct serve *s) {
    if (s->n_draining == 0) {
        return;
    }
    list_for_each (it, &s->conns) {
        struct conn *c = list_entry(it, struct conn, node);
        if (c->block == BLOCK_DRAIN && tasks_live(s->d, c->drain) == 0) {
            reply_ok(c);
            block_end(c);
        }
    }
}
