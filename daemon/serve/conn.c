/* SPDX-License-Identifier: MIT */
/* Connections. Input is read into one buffer shared by all and parsed there; only an unfinished
 * message, or commands that must wait, are copied to the connection, so thousands of idle clients
 * cost no buffers. Everything a client says in one turn is answered by one write at the end of the
 * turn; long replies (CONN_FLUSH) are written between two commands, while they are in the CPU's cache
 * and so that the client can begin with them.
 *
 * A connection is held, that is its commands wait unparsed, while
 *     it is blocked          TASK.CALL and TASK.WAIT, until the task ends; BLPOP and its kin;
 *     it is stalled          over serve.stall_at of unread replies, until half of it is read;
 *     it is on serve.ready   its CONN_COMMANDS for this turn are used up, or it has been sent
 *                            CONN_FLUSH_MAX, so the others come first;
 *     it is on serve.retry   a lock in the segment was busy: 1 ms later.
 * What is held is not read beyond CONN_HELD_MAX, so a client's memory is bounded by its limits
 * whatever it does.
 *
 * A client that has shut its side down (half-closed) still gets its replies; one that is gone
 * altogether is closed at once.
 *
 * Nothing is freed inside a callback: conn_kill() closes the descriptor and moves the connection to
 * serve.dead, which is swept once per turn. Only conn_interest() adds and removes events.
 *
 * Fails: kills the connection and says why in the log; a client's mistake is never more than its
 * own connection. */
#include "daemon/serve/conn.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/serve/blocks.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/leases.h"
#include "daemon/serve/follow.h"
#include "daemon/serve/hold.h"
#include "daemon/serve/listen.h"
#include "daemon/serve/manager.h"
#include "daemon/serve/mapped.h"
#include "daemon/serve/multi.h"
#include "daemon/serve/notify_push.h"
#include "daemon/serve/partial.h"
#include "daemon/serve/passed.h"
#include "daemon/serve/pipes.h"
#include "daemon/serve/pubsub.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/roles.h"
#include "daemon/serve/wait_keys.h"
#include "daemon/serve/wait_sync.h"
#include "lib/base/clock.h"

enum {
    READ_AHEAD_MAX =
        1024 * 1024, /* buffer made at once for a message whose length has been announced */
    RETRY_US = 1000,
};

static bool is_held(const struct conn *c) {
    return c->block != BLOCK_NONE || c->stalled || !list_empty(&c->ready);
}

static void want(struct event *ev, bool *is, bool should) {
    if (*is == should) {
        return;
    }
    if ((should ? event_add(ev, NULL) : event_del(ev)) == 0) {
        *is = should;
    }
}

/* The one place that decides what libevent watches. */
static void conn_interest(struct conn *c) {
    bool full = is_held(c) && buf_len(&c->in) >= CONN_HELD_MAX;
    bool behind = conn_pending(c) > c->serve->stall_at;
    want(&c->ev_read, &c->reading, !c->dead && !c->eof && !c->closing && !full && !behind);
    want(&c->ev_write, &c->writing, !c->dead && c->blocked_write);
}

/* ---- the end of a connection ---- */

void conn_kill(struct conn *c, const char *why, ...) {
    struct serve *s = c->serve;
    if (c->dead) {
        return;
    }
    if (why) {
        char text[200];
        va_list ap;
        va_start(ap, why);
        vsnprintf(text, sizeof(text), why, ap);
        va_end(ap);
        log_notice(LOG_ABOUT(.message = MESSAGE_CLIENT_REFUSED),
                   "closing client %llu (pid %d, uid %u%s%s): %s", (unsigned long long)c->id,
                   (int)c->pid, (unsigned)c->uid, c->name ? ", " : "", c->name ? c->name : "",
                   text);
    }
    c->dead = true;
    conn_interest(c);
    block_end(c);
    wait_sync_conn_ends(c);
    mapped_conn_ends(c);
    managers_conn_ends(c);
    blocks_conn_ends(c);
    pipes_conn_ends(c);
    leases_conn_ends(c);
    pubsub_drop(c);
    follow_conn_ends(c);
    notify_conn_ends(c);
    partial_drop(c);
    hold_forget(c);
    output_deinit(c);
    close(c->fd);
    c->fd = -1;
    list_del(&c->dirty);
    list_del(&c->ready);
    list_del(&c->node);
    list_append(&s->dead, &c->node);
    accounts_remove(c);
    listen_resume(s);
}

void conn_free(struct conn *c) {
    output_deinit(c); /* what was still said to it after its end */
    list_del(&c->dirty);
    list_del(&c->ready);
    list_del(&c->node);
    multi_free(c);
    passed_free(c);
    resp_reader_deinit(&c->reader);
    buf_deinit(&c->in);
    buf_deinit(&c->held);
    if (c->timer) {
        event_free(c->timer);
    }
    free(c->name);
    free(c->lib_name);
    free(c->lib_ver);
    free(c);
}

void conn_finish(struct conn *c) {
    c->closing = true;
    conn_dirty(c);
}

void conn_dirty(struct conn *c) {
    if (!c->dead && list_empty(&c->dirty)) {
        list_append(&c->serve->dirty, &c->dirty);
    }
}

void conn_resume(struct conn *c) {
    if (!c->dead && list_empty(&c->ready)) {
        list_append(&c->serve->ready, &c->ready);
    }
}

static void conn_retry(struct conn *c) {
    struct serve *s = c->serve;
    if (list_empty(&s->retry)) {
        event_add(s->ev_retry, &(struct timeval){.tv_usec = RETRY_US});
    }
    list_append(&s->retry, &c->ready);
}

void conn_settle(struct conn *c) {
    if (c->dead) {
        return;
    }
    if (c->broken) {
        conn_kill(c, "no memory for its replies");
        return;
    }
    follow_drained(c);
    size_t pending = conn_pending(c);
    if (c->stalled && pending <= c->serve->stall_at / 2) {
        c->stalled = false;
        conn_resume(c);
    }
    if (pending == 0 && (c->closing || (c->eof && !is_held(c)))) {
        conn_kill(c, NULL);
        return;
    }
    accounts_charge(c);
    conn_interest(c);
}

/* ---- commands ---- */

static void protocol_error(struct conn *c) {
    struct serve *s = c->serve;
    s->closed_protocol++;
    log_notice(LOG_ABOUT(.message = MESSAGE_CLIENT_REFUSED),
               "client %llu (pid %d, uid %u) does not speak RESP: %s", (unsigned long long)c->id,
               (int)c->pid, (unsigned)c->uid, c->reader.error);
    c->muted = false;
    reply_errorf(c, "ERR Protocol error: %s", c->reader.error);
    conn_finish(c);
}

/* Why parsing stops here, if it must; sent: bytes written since it began. */
static bool must_stop(struct conn *c, int done, uint64_t sent) {
    if (c->dead || c->closing || c->overrun || c->block != BLOCK_NONE) {
        return true;
    }
    if (conn_pending(c) > c->serve->stall_at) {
        c->stalled = true;
        return true;
    }
    if (done == CONN_COMMANDS || sent >= CONN_FLUSH_MAX) {
        conn_resume(c);
        return true;
    }
    return false;
}

/* Between two commands: does not let long replies grow into a heap that is written at the end. */
static void flush_long(struct conn *c) {
    bool may = !c->dead && !c->blocked_write && !c->broken && !c->overrun;
    if (may && conn_pending(c) >= CONN_FLUSH && output_flush(c) < 0) {
        conn_kill(c, NULL); /* it is gone */
    }
}

/* Carries out the commands in data; returns how many bytes of it are done with. */
static size_t process(struct conn *c, const char *data, size_t len) {
    size_t used = 0;
    uint64_t began = c->bytes_out;
    leases_said_more(c);
    for (int n = 0; used < len && !must_stop(c, n, c->bytes_out - began); n++) {
        int r = resp_read(&c->reader, data + used, len - used);
        if (r == RESP_MORE) {
            break;
        }
        if (r == RESP_E_PROTO) {
            protocol_error(c);
            return len;
        }
        if (r < 0) {
            conn_kill(c, "no memory for its request");
            return len;
        }
        int held = dispatch(c);
        if (held == -EAGAIN) {
            conn_retry(c);
        }
        if (held < 0) {
            break;
        }
        used += c->reader.used;
        wait_keys_turn(c->serve);
        wait_sync_turn(c->serve);
        if (used < len) {
            leases_said_more(c);
        }
        flush_long(c);
    }
    if (buf_len(&c->out) > 0) {
        conn_dirty(c);
    }
    return used;
}

void conn_process(struct conn *c) {
    if (c->dead || buf_len(&c->in) == 0) {
        return;
    }
    size_t used = process(c, buf_head(&c->in), buf_len(&c->in));
    buf_consume(&c->in, used);
}

/* ---- reading ---- */

/* Where to read to, and how much fits. */
static char *read_room(struct conn *c, size_t *ret_size) {
    size_t have = buf_len(&c->in);
    if (have == 0) {
        *ret_size = CONN_READ;
        return c->serve->scratch;
    }
    size_t size = CONN_READ;
    if (!is_held(c) && c->reader.need > have + size) {
        size_t ahead = have > READ_AHEAD_MAX ? have : READ_AHEAD_MAX;
        size = c->reader.need - have < ahead ? c->reader.need - have : ahead;
    }
    *ret_size = size;
    return buf_room(&c->in, size);
}

static void take(struct conn *c, const char *data, size_t n) {
    leases_said_more(c);
    if (data != c->serve->scratch) {
        buf_wrote(&c->in, n);
        if (!is_held(c)) {
            conn_process(c);
        }
        return;
    }
    size_t used = is_held(c) ? 0 : process(c, data, n);
    if (used < n && !c->dead && buf_append(&c->in, data + used, n - used) < 0) {
        conn_kill(c, "no memory for its request");
    }
}

static void read_end(struct conn *c) {
    struct pollfd p = {.fd = c->fd};
    c->eof = true;
    if (poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR))) {
        conn_kill(c, NULL);
    }
}

static void conn_read(struct conn *c) {
    struct serve *s = c->serve;
    s->now_ns = c->active_ns = clock_now();
    for (int i = 0; i < CONN_READS && !c->dead; i++) {
        size_t size;
        char *data = read_room(c, &size);
        if (!data) {
            conn_kill(c, "no memory for its request");
            break;
        }
        ssize_t n = c->passed ? passed_recv(c, data, size) : recv(c->fd, data, size, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            break;
        }
        if (n < 0) {
            conn_kill(c, NULL);
            break;
        }
        if (n == 0) {
            read_end(c);
            break;
        }
        c->bytes_in += (uint64_t)n;
        s->bytes_in += (uint64_t)n;
        s->d->heard++;
        take(c, data, (size_t)n);
        if ((size_t)n < size || is_held(c) || c->closing) {
            break;
        }
    }
    hearthd_flush_wakes(s->d);
    conn_settle(c);
}

static void on_read(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    conn_read(arg);
}

static void on_write(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    struct conn *c = arg;
    c->blocked_write = false;
    c->serve->d->heard++;
    conn_dirty(c);
}

struct conn *conn_new(struct serve *s, int fd) {
    struct conn *c = calloc(1, sizeof(*c));
    if (!c) {
        close(fd);
        return NULL;
    }
    c->serve = s;
    c->fd = fd;
    c->proto = 2;
    c->last_command = -1;
    list_init(&c->node);
    list_init(&c->dirty);
    list_init(&c->ready);
    list_init(&c->subs);
    list_init(&c->leases);
    list_init(&c->told);
    list_init(&c->follows);
    list_init(&c->holding);
    list_init(&c->room.node);
    list_init(&c->group.node);
    list_init(&c->proc.node);
    list_init(&c->sync.node);
    list_init(&c->one.waiter.node);
    struct resp_limits limits = resp_limits_default;
    uint64_t max = s->d->config->limits.client_max_input;
    limits.max_total = max;
    limits.max_bulk = limits.max_bulk < max ? limits.max_bulk : max;
    resp_reader_init(&c->reader, &limits);
    struct ucred cred = {.uid = (uid_t)-1}; /* nobody, should the kernel not tell */
    socklen_t len = sizeof(cred);
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
    c->uid = cred.uid;
    c->pid = cred.pid;
    roles_grant(c, cred.gid);
    c->since_ns = c->active_ns = s->now_ns;
    event_assign(&c->ev_read, s->d->base, fd, EV_READ | EV_PERSIST, on_read, c);
    event_assign(&c->ev_write, s->d->base, fd, EV_WRITE | EV_PERSIST, on_write, c);
    list_append(&s->conns, &c->node);
    accounts_add(c);
    conn_interest(c);
    return c;
}
