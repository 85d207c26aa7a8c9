/* SPDX-License-Identifier: MIT */
/* Connections that are workers. Each has as many leases as tasks it may have in hand; the connection's
 * end is theirs, and supervise/ settles what was in them.
 *
 * WORKER.NEXT is answered at once or when a task comes: those that wait are on pool.waiting, the
 * longest first, and lease_feed() gives them what hearthd_flush_wakes() would wake other workers
 * for. Whoever says anything else while it waits is answered that there is none: so a worker with
 * several tasks in hand can end one of them, and no answer overtakes another. A worker that is to go
 * is answered with an empty array.
 *
 * Fails: replies; without memory for a reply the connection is closed, and its tasks go to others. */
#include "daemon/serve/leases.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/serve/reply.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/fd.h"

uint64_t leases_client(const struct lease *l) {
    return l && l->conn ? l->conn->id : 0;
}

/* ---- for supervise/ and tasks/ ---- */

int lease_connect(struct hearthd *d, struct worker *w, int *ret_fd) {
    int pair[2];
    if (!d->serve) {
        return -ESHUTDOWN;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        return -errno;
    }
    _cleanup_close_ int theirs = pair[1];
    int r = fd_set_nonblock(pair[0], 1);
    struct lease *l = r == 0 ? lease_new(w) : NULL;
    if (!l) {
        close(pair[0]);
        return r < 0 ? r : -ENOMEM;
    }
    struct conn *c = conn_new(d->serve, pair[0]);
    if (!c) {
        lease_free(l);
        return -ENOMEM;
    }
    c->own = true;
    d->serve->n_own++;
    c->pid = 0; /* ours, says the kernel: the worker's is known when it is there */
    l->conn = c;
    list_append(&c->leases, &l->in_conn);
    *ret_fd = steal_fd(&theirs);
    return 0;
}

void lease_close(struct hearthd *d, struct lease *l) {
    (void)d;
    if (l->conn) {
        conn_kill(l->conn, NULL);
    }
}

bool lease_hears(const struct lease *l) {
    return l->conn && l->conn->hears != HEARS_NOT;
}

void lease_stop(struct hearthd *d, struct lease *l, enum task_cause why) {
    (void)d;
    struct conn *c = l->conn;
    if (!c || !l->busy) {
        return;
    }
    if (c->hears == HEARS_SIGNAL && l->worker->pidfd >= 0) {
        pidfd_send_signal(l->worker->pidfd, SIGTERM, NULL, 0);
        pidfd_send_signal(l->worker->pidfd, SIGCONT, NULL, 0);
    }
    if (c->hears == HEARS_PUSH && accounts_may_push(c)) {
        char id[TASK_ID_TEXT];
        size_t len = task_id_text(id, l->task.id, l->task.idx);
        struct buf *to = conn_push_buf(c);
        int r = resp_put_push(to, c->proto, 3);
        r = r < 0 ? r : resp_put_text(to, "worker.cancel");
        r = r < 0 ? r : resp_put_bulk(to, id, len);
        r = r < 0 ? r : resp_put_text(to, task_cause_names[why]);
        c->broken |= r < 0;
        conn_dirty(c);
    }
}

/* ---- the end ---- */

void leases_conn_ends(struct conn *c) {
    while (!list_empty(&c->leases)) {
        struct lease *l = list_first(&c->leases, struct lease, in_conn);
        list_del(&l->in_conn);
        list_del(&l->waiting);
        l->conn = NULL;
        worker_hung_up(c->serve->d, l->worker);
    }
    c->works_for = NULL;
}

void leases_unwait(struct conn *c) {
    list_for_each (it, &c->leases) {
        list_del(&list_entry(it, struct lease, in_conn)->waiting);
    }
}

void leases_said_more_now(struct conn *c) {
    block_reply_over(c);
    block_end(c);
}

static bool any_busy(const struct conn *c) {
    list_for_each (it, &c->leases) {
        if (list_entry(it, struct lease, in_conn)->busy) {
            return true;
        }
    }
    return false;
}

static bool must_leave(const struct conn *c) {
    return !list_empty(&c->leases) &&
           lease_must_leave(list_first(&c->leases, struct lease, in_conn));
}

/* There are no more tasks for it. */
static void reply_leave(struct conn *c) {
    reply_array(c, 0);
}

/* Whether it may have a task: a worker with several as a whole, as its first lease says. */
static bool may_serve(struct lease *l) {
    return lease_may_serve(l->main) && lease_may_serve(l);
}

void leases_settle(struct conn *c) {
    if (!list_empty(&c->leases) && !any_busy(c)) {
        lease_retire(list_first(&c->leases, struct lease, in_conn));
    }
    if (!c->own && must_leave(c) && !any_busy(c)) {
        conn_finish(c);
    }
}

/* ---- the next task ---- */

static int64_t time_left_ms(const struct task_view *v) {
    uint64_t now = clock_now(), end = v->started_ns + v->timeout_ms * NS_PER_MS;
    return v->timeout_ms == 0 ? 0 : end > now ? (int64_t)((end - now) / NS_PER_MS) + 1 : 1;
}

static void reply_args(struct conn *c, const struct task_view *v) {
    struct task_bytes arg;
    size_t at = 0;
    uint32_t n = 0;
    while (task_arg(v, &at, &arg) == 0) {
        n++;
    }
    reply_array(c, n);
    at = 0;
    for (; n && task_arg(v, &at, &arg) == 0; n--) {
        reply_bulk(c, arg.data, arg.len);
    }
    for (; n; n--) {
        reply_text(c, ""); /* somebody damages it this moment: the frame at least holds */
    }
}

/* False: its record makes no sense, and it has been ended. */
static bool reply_task(struct conn *c, struct lease *l) {
    struct task_view v;
    char id[TASK_ID_TEXT];
    const struct pool *p = l->worker->pool;
    if (task_view(&l->shm, l->task.idx, &v) < 0 || v.handler >= p->n_handlers) {
        static const struct task_bytes why = {"the task's record is damaged", 28}, none = {"", 0};
        lease_fail(l, EBADMSG, &why, &none, &(struct lease_usage){0});
        return false;
    }
    size_t len = task_id_text(id, v.id, l->task.idx);
    reply_array(c, 7);
    reply_bulk(c, id, len);
    reply_text(c, p->handlers[v.handler]);
    reply_bulk(c, v.payload.data, v.payload.len);
    reply_args(c, &v);
    reply_int(c, v.attempt);
    reply_int(c, time_left_ms(&v));
    reply_int(c, v.uid);
    return true;
}

/* 0: it has been given one. -EAGAIN: there is none. */
static int give_one(struct conn *c, struct lease *l) {
    while (lease_take(l) == 0) {
        if (reply_task(c, l)) {
            return 0;
        }
    }
    return -EAGAIN;
}

static struct lease *free_lease(struct conn *c) {
    list_for_each (it, &c->leases) {
        struct lease *l = list_entry(it, struct lease, in_conn);
        if (!l->busy) {
            return l;
        }
    }
    return NULL;
}

void leases_next(struct conn *c, uint64_t timeout_ms) {
    struct lease *l = free_lease(c);
    if (must_leave(c)) {
        reply_leave(c);
        leases_settle(c);
        return;
    }
    if (!l) {
        reply_error(c, "BUSY this worker has as many tasks in hand as it has capacity for");
        return;
    }
    struct pool *p = l->worker->pool;
    bool may = may_serve(l);
    if (may && list_empty(&p->waiting) && give_one(c, l) == 0) {
        return;
    }
    if (timeout_ms == 0) {
        reply_null_array(c);
        return;
    }
    if (block_as(c, BLOCK_NEXT, timeout_ms) < 0) {
        reply_error(c, "OOM the daemon is out of memory");
        return;
    }
    if (may) {
        list_append(&p->waiting, &l->waiting);
    }
}

void lease_feed(struct hearthd *d, struct pool *p) {
    (void)d;
    list_for_each_safe (it, &p->waiting) {
        struct lease *l = list_entry(it, struct lease, waiting);
        struct conn *c = l->conn;
        if (give_one(c, l) == 0) {
            block_end(c);
            conn_dirty(c);
        } else if (!p->ordered) {
            return;
        }
    }
    p->ordered = false; /* who has an order, and waits, has been given it */
}

void lease_told(struct hearthd *d, struct lease *l) {
    (void)d;
    struct conn *c = l->conn;
    if (!c || !l->joined) {
        return;
    }
    bool asks = c->block == BLOCK_NEXT;
    leases_settle(c);
    struct lease *next = free_lease(c);
    if (must_leave(c)) {
        if (asks) {
            reply_leave(c);
            block_end(c);
        }
        leases_settle(c);
    } else if (next && !may_serve(next)) {
        leases_unwait(c);
    } else if (asks && next && list_empty(&next->waiting)) {
        list_append(&l->worker->pool->waiting, &next->waiting);
        l->worker->pool->wake++;
    }
}
