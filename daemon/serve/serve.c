/* SPDX-License-Identifier: MIT */
/* The gateway as a whole: opening and closing it, and its turn.
 *
 * A turn of the loop, seen from here: libevent's callbacks read what clients sent and queue tasks;
 * tasks_turn() delivers ends into the clients' output; serve_turn() goes on with clients that were
 * held back, writes every client's output with one system call each, and buries closed connections.
 * So answers of one turn to one client share one write, and nothing is freed while a callback may
 * still hold it.
 *
 * Fails: serve_open() returns -errno, logged; nothing else fails. */
#include "daemon/serve/serve.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "daemon/durable.h"
#include "daemon/events.h"
#include "daemon/log.h"
#include "daemon/serve/blocks.h"
#include "daemon/serve/conn.h"
#include "daemon/serve/door.h"
#include "daemon/serve/events_push.h"
#include "daemon/serve/group.h"
#include "daemon/serve/hold.h"
#include "daemon/serve/keyspace.h"
#include "daemon/serve/listen.h"
#include "daemon/serve/manager.h"
#include "daemon/serve/mapped.h"
#include "daemon/serve/notify_push.h"
#include "daemon/serve/pipes.h"
#include "daemon/serve/pubsub.h"
#include "daemon/serve/queue.h"
#include "daemon/serve/roles.h"
#include "daemon/serve/room.h"
#include "daemon/serve/wait_keys.h"
#include "daemon/serve/wait_sync.h"
#include "lib/base/clock.h"

enum {
    FILES_OWN = 64,        /* descriptors the daemon needs beside clients and workers */
    FILES_WORKER = 2,      /* per worker, replacements included; as many again for a program's */
    FILES_CLIENTS_MIN = 4, /* clients we try to serve however few descriptors there are */
};

/* How many clients the descriptors suffice for, after asking for more. Workers come first: a daemon
 * full of clients must still be able to replace one. Raw blocks share with the clients what is left. */
static uint32_t clients_that_fit(const struct hearthd *d) {
    uint64_t own = FILES_OWN;
    for (uint32_t i = 0; i < d->config->n_pools; i++) {
        const struct pool_config *p = &d->config->pools[i];
        own += 4 + (uint64_t)p->workers * FILES_WORKER * (p->kind == POOL_PROGRAM ? 2 : 1);
    }
    const struct config_limits *l = &d->config->limits;
    uint64_t wanted = (uint64_t)l->max_clients + l->blocks_max + own;
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) < 0) {
        return l->max_clients;
    }
    if (r.rlim_cur < wanted) {
        r.rlim_cur = r.rlim_max < wanted ? r.rlim_max : wanted;
        setrlimit(RLIMIT_NOFILE, &r); /* if refused, what we have must do */
        getrlimit(RLIMIT_NOFILE, &r);
    }
    if (r.rlim_cur >= wanted) {
        return UINT32_MAX; /* max_clients and blocks_max are the limits, and refuse */
    }
    uint64_t fit = r.rlim_cur > own ? r.rlim_cur - own : 0;
    fit = fit > FILES_CLIENTS_MIN ? fit : FILES_CLIENTS_MIN;
    if (fit >= l->max_clients) {
        return (uint32_t)fit; /* only when there are blocks besides */
    }
    log_warn(LOG_ABOUT(.message = MESSAGE_NO_FILES),
             "the limit of %llu open files allows about %llu clients, not the max_clients of %u; "
             "more will have to wait",
             (unsigned long long)r.rlim_cur, (unsigned long long)fit, l->max_clients);
    return (uint32_t)fit;
}

/* Commands that met a busy lock: their time has come. */
static void on_retry(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    struct serve *s = arg;
    s->d->heard++;
    while (!list_empty(&s->retry)) {
        struct list *node = s->retry.next;
        list_del(node);
        list_append(&s->ready, node);
    }
}

static int open_parts(struct serve *s) {
    s->scratch = malloc(CONN_READ);
    s->ev_retry = evtimer_new(s->d->base, on_retry, s);
    if (!s->scratch || !s->ev_retry) {
        return -ENOMEM;
    }
    int r = accounts_open(s);
    r = r < 0 ? r : pubsub_open(s);
    r = r < 0 ? r : keyspace_open(s);
    r = r < 0 ? r : roles_open(s);
    r = r < 0 ? r : mapped_open(s);
    r = r < 0 ? r : wait_keys_open(s);
    r = r < 0 ? r : wait_sync_open(s);
    r = r < 0 ? r : queues_open(s);
    r = r < 0 ? r : managers_open(s);
    r = r < 0 ? r : blocks_open(s);
    r = r < 0 ? r : door_open(s);
    return r < 0 ? r : listen_open(s);
}

static void follow_limits(struct serve *s) {
    s->stall_at = s->d->config->limits.client_max_output / 2;
    s->out_max = s->d->config->limits.client_max_output;
    s->conns_max = clients_that_fit(s->d);
}

int serve_prepare(struct hearthd *d, const struct config *next) {
    return roles_prepare(d->serve, next);
}

void serve_configure(struct hearthd *d) {
    follow_limits(d->serve);
    accounts_configure(d->serve);
    roles_configure(d->serve);
    listen_update(d->serve);
}

int serve_open(struct hearthd *d) {
    struct serve *s = calloc(1, sizeof(*s));
    if (!s) {
        return -ENOMEM;
    }
    s->d = d;
    s->listen_fd = s->lock_fd = -1;
    s->answered_idx = UINT32_MAX;
    s->now_ns = clock_now();
    s->random = s->now_ns;
    list_init(&s->conns);
    list_init(&s->dirty);
    list_init(&s->ready);
    list_init(&s->retry);
    list_init(&s->dead);
    list_init(&s->holding);
    durable_on_change(d, DURABLE_SERVE, hold_turn);
    list_init(&s->in_room);
    pipes_open(s);
    follow_limits(s);
    s->events_told = events_next(d);
    d->serve = s;
    int r = open_parts(s);
    if (r < 0) {
        serve_close(d);
        return r;
    }
    tasks_on_ended(d, notify_ended);
    groups_on_complete(d, group_complete);
    return 0;
}

void serve_accepting(struct hearthd *d, bool on) {
    d->serve->accepting = on;
    listen_update(d->serve);
}

static void flush(struct conn *c) {
    if (c->overrun) {
        c->serve->closed_output++;
        conn_kill(c, "it does not read, or asks for too much: %zu bytes of output wait",
                  conn_pending(c) + buf_len(&c->held));
        return;
    }
    int r = c->blocked_write || c->broken ? 0 : output_flush(c);
    if (r < 0) {
        conn_kill(c, NULL); /* it is gone */
        return;
    }
    conn_settle(c);
}

static void flush_dirty(struct serve *s) {
    while (!list_empty(&s->dirty)) {
        struct conn *c = list_first(&s->dirty, struct conn, dirty);
        list_del(&c->dirty);
        flush(c);
    }
}

static void bury_dead(struct serve *s) {
    while (!list_empty(&s->dead)) {
        struct conn *c = list_first(&s->dead, struct conn, node);
        owned_end(c);
        conn_free(c);
    }
}

/* Everybody who is ready now gets one go; who is ready again after it waits for the next turn. */
static void go_on(struct serve *s) {
    struct list now;
    if (list_empty(&s->ready)) {
        return;
    }
    list_init(&now);
    while (!list_empty(&s->ready)) {
        struct list *node = s->ready.next;
        list_del(node);
        list_append(&now, node);
    }
    s->now_ns = clock_now();
    while (!list_empty(&now)) {
        struct conn *c = list_first(&now, struct conn, ready);
        list_del(&c->ready);
        if (c->block == BLOCK_NONE && !c->stalled) {
            conn_process(c);
        }
        conn_dirty(c); /* so that it is settled */
    }
    hearthd_flush_wakes(s->d);
}

uint64_t serve_random(struct serve *s) {
    uint64_t v = s->random += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64, by S. Vigna */
    v = (v ^ v >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    v = (v ^ v >> 27) * UINT64_C(0x94d049bb133111eb);
    return v ^ v >> 31;
}

bool serve_turn(struct hearthd *d) {
    struct serve *s = d->serve;
    keyspace_stir(s);
    wait_keys_turn(s);
    wait_sync_turn(s);
    queues_turn(s);
    block_drain_turn(s);
    room_turn(s);
    go_on(s);
    bool told = groups_turn(d);
    events_push_turn(s);
    flush_dirty(s);
    accounts_relieve(s);
    bury_dead(s);
    accounts_give_back(s);
    return !list_empty(&s->ready) || !list_empty(&s->dirty) || room_has_news(s) || told;
}

bool serve_has_news(struct hearthd *d) {
    return keyspace_has_news(d->serve) || wait_keys_has_news(d->serve) ||
           wait_sync_has_news(d->serve) || queues_have_news(d->serve) ||
           events_push_has_news(d->serve) || room_has_news(d->serve);
}

static bool any_output(const struct serve *s) {
    list_for_each (it, &s->conns) {
        if (conn_pending(list_entry(it, struct conn, node)) > 0) {
            return true;
        }
    }
    return false;
}

void serve_flush(struct hearthd *d, uint64_t deadline_ns) {
    struct serve *s = d->serve;
    flush_dirty(s);
    while (any_output(s) && clock_now() < deadline_ns) {
        /* Few are left: those whose sockets are full. libevent tells which can go on. */
        struct timeval tick = {.tv_usec = 10000};
        event_base_loopexit(d->base, &tick);
        event_base_loop(d->base, EVLOOP_ONCE);
        flush_dirty(s);
    }
    bury_dead(s);
}

void serve_close(struct hearthd *d) {
    struct serve *s = d->serve;
    if (!s) {
        return;
    }
    s->accepting = false;
    while (!list_empty(&s->conns)) {
        conn_kill(list_first(&s->conns, struct conn, node), NULL);
    }
    bury_dead(s);
    listen_close(s);
    if (s->pubsub) {
        pubsub_close(s);
    }
    keyspace_close(s);
    mapped_close(s);
    roles_close(s);
    wait_keys_close(s);
    wait_sync_close(s);
    queues_close(s);
    pipes_close(s);
    managers_close(s);
    blocks_close(s);
    door_close(s);
    if (s->ev_retry) {
        event_free(s->ev_retry);
    }
    free(s->by_id);
    free(s->scratch);
    free(s->args);
    free(s);
    d->serve = NULL;
}
