/* SPDX-License-Identifier: MIT */
/* WORKER.JOIN, NEXT, DONE, FAIL, EMIT, PROGRESS, CANCELLED: workers in any language. WORKER.LIST is in cmd_pool.c.
 *
 * A worker that hearthd has started has its connection from it and may join its own pool only. Who
 * else may join is the pool's `worker_users`.
 *
 * Fails: replies; -EAGAIN while a lock is busy, or the process of a worker is not known yet. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/serve/args.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/leases.h"
#include "daemon/serve/reply.h"
#include "lib/base/num.h"

enum { SHOWN = 64, CAPACITY_MAX = 64, LOG_MAX = 64 * 1024 };

static int shown(const struct resp_arg *a) {
    return (int)strnlen(a->data, a->len < SHOWN ? a->len : SHOWN);
}

/* ---- joining ---- */

struct joining {
    struct pool *pool;
    uint64_t capacity;
    enum conn_hears hears;
    uint32_t n;
    struct task_bytes names[CONFIG_HANDLERS_MAX];
};

static bool read_names(struct conn *c, const struct resp_arg *argv, uint32_t argc,
                       struct joining *j) {
    for (uint32_t i = 0; i < argc; i++) {
        const struct resp_arg *a = &argv[i];
        if (a->len == 0 || a->len > CONFIG_HANDLER_NAME_MAX || memchr(a->data, 0, a->len) ||
            j->n == CONFIG_HANDLERS_MAX) {
            reply_errorf(c, "ERR handlers are 1 to %d names of 1 to %d characters",
                         CONFIG_HANDLERS_MAX, CONFIG_HANDLER_NAME_MAX);
            return false;
        }
        j->names[j->n++] = (struct task_bytes){a->data, a->len};
    }
    return true;
}

static bool read_hears(struct conn *c, const struct resp_arg *a, struct joining *j) {
    j->hears = resp_is(a, "PUSH") ? HEARS_PUSH : resp_is(a, "SIGNAL") ? HEARS_SIGNAL : HEARS_NOT;
    if (j->hears == HEARS_NOT) {
        reply_syntax(c);
    } else if (j->hears == HEARS_PUSH && c->proto != 3) {
        reply_error(c, "ERR CANCEL PUSH needs RESP3: say HELLO 3 first");
    } else if (j->hears == HEARS_SIGNAL && !c->own) {
        reply_error(c, "ERR CANCEL SIGNAL is for workers that the daemon has started");
    } else {
        return true;
    }
    return false;
}

static bool read_join(struct conn *c, const struct resp_arg *argv, uint32_t argc,
                      struct joining *j) {
    for (uint32_t i = 2; i < argc; i += 2) {
        if (resp_is(&argv[i], "HANDLERS") && i + 1 < argc) {
            return read_names(c, argv + i + 1, argc - i - 1, j);
        }
        if (i + 1 == argc) {
            reply_syntax(c);
            return false;
        }
        if (resp_is(&argv[i], "CAPACITY")) {
            if (num_u64(argv[i + 1].data, argv[i + 1].len, &j->capacity) < 0 || j->capacity == 0 ||
                j->capacity > CAPACITY_MAX) {
                reply_errorf(c, "ERR capacity is not an integer from 1 to %d", CAPACITY_MAX);
                return false;
            }
        } else if (!resp_is(&argv[i], "CANCEL")) {
            reply_syntax(c);
            return false;
        } else if (!read_hears(c, &argv[i + 1], j)) {
            return false;
        }
    }
    return true;
}

/* The worker that the connection was made for; NULL: it is anybody's. */
static struct worker *own_worker(const struct conn *c) {
    return c->own && !list_empty(&c->leases) ? list_first(&c->leases, struct lease, in_conn)->worker
                                             : NULL;
}

static bool may_join(struct conn *c, const struct resp_arg *name, struct joining *j) {
    const struct worker *w = own_worker(c);
    struct pool *p = hearthd_pool(c->serve->d, name->data, name->len);
    if (c->works_for) {
        reply_errorf(c, "ERR this connection has joined pool '%s' already",
                     c->works_for->config->name);
    } else if (!p) {
        reply_errorf(c, "NOPOOL no such pool '%.*s'", shown(name), name->data);
    } else if (p->config->kind != POOL_PROGRAM) {
        reply_errorf(c, "ERR pool '%s' is of kind %s: only pools with program can be joined",
                     p->config->name, pool_kind_names[p->config->kind]);
    } else if (w ? w->pool != p : !(c->may_work >> p->index & 1)) {
        reply_errorf(c, "NOPERM User %u has no permissions to work for pool '%s'", (unsigned)c->uid,
                     p->config->name);
    } else if (c->serve->d->stopping) {
        reply_error(c, "ERR the daemon is stopping");
    } else {
        j->pool = p;
        return true;
    }
    return false;
}

/* A pool whose handlers nobody has named has one, as an exec pool. */
static int name_handlers(struct conn *c, struct joining *j) {
    struct pool *p = j->pool;
    static const struct task_bytes run = {"run", 3};
    int r = 0;
    if (j->n) {
        r = pool_name_handlers(c->serve->d, p, own_worker(c), j->names, j->n);
    } else if (!p->n_handlers) {
        r = pool_name_handlers(c->serve->d, p, own_worker(c), &run, 1);
    }
    if (r == -ESTALE) {
        reply_errorf(c, "ERR pool '%s' has other handlers: '%s'%s", p->config->name, p->handlers[0],
                     p->n_handlers > 1 ? " ..." : "");
    } else if (r < 0) {
        reply_error(c, "OOM the daemon is out of memory");
    }
    return r;
}

/* Leases up to the capacity. 0 or -errno. */
static int add_leases(struct conn *c, struct joining *j, uint64_t have) {
    for (; have < j->capacity; have++) {
        struct worker *w;
        int r = worker_attach(c->serve->d, j->pool, c->pid, &w);
        if (r < 0) {
            return r;
        }
        w->lease->conn = c;
        if (!list_empty(&c->leases)) {
            w->lease->main = list_first(&c->leases, struct lease, in_conn);
        }
        list_append(&c->leases, &w->lease->in_conn);
    }
    return 0;
}

static void drop_attached(struct conn *c) {
    list_for_each_safe (it, &c->leases) {
        struct lease *l = list_entry(it, struct lease, in_conn);
        if (l->worker->pidfd < 0) {
            list_del(&l->in_conn);
            l->conn = NULL;
            worker_hung_up(c->serve->d, l->worker);
        }
    }
}

int cmd_WORKER_JOIN(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct joining j = {.capacity = 1};
    struct worker *own = own_worker(c);
    if (!may_join(c, &argv[1], &j) || !read_join(c, argv, argc, &j)) {
        return 0;
    }
    if (own && own->pid == 0) {
        return -EAGAIN; /* the zygote's word of it is on the way */
    }
    if (name_handlers(c, &j) < 0) {
        return 0;
    }
    if (own) {
        c->pid = own->pid;
    }
    int r = add_leases(c, &j, own != NULL);
    if (r == 0 && own) {
        r = lease_join(c->serve->d, own->lease);
    }
    if (r < 0) {
        drop_attached(c);
        reply_errorf(c, r == -ENOSPC ? "BUSY as many workers have joined by themselves as may be"
                                     : "ERR cannot join: no memory, or no slot");
        return 0;
    }
    c->works_for = j.pool;
    c->hears = (uint8_t)j.hears;
    reply_ok(c);
    return 0;
}

/* ---- tasks ---- */

static bool has_joined(struct conn *c) {
    if (!c->works_for) {
        reply_error(c, "ERR this connection is no worker: WORKER.JOIN comes first");
    }
    return c->works_for != NULL;
}

int cmd_WORKER_NEXT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    uint64_t ms;
    if (has_joined(c) && args_wait(c, argv + 1, argc - 1, &ms)) {
        leases_next(c, ms);
    }
    return 0;
}

static struct lease *find_task(struct conn *c, const struct resp_arg *id) {
    uint64_t task;
    uint32_t idx;
    if (task_id_parse(id->data, id->len, &task, &idx) == 0) {
        list_for_each (it, &c->leases) {
            struct lease *l = list_entry(it, struct lease, in_conn);
            if (l->busy && l->task.id == task && l->task.idx == idx) {
                return l;
            }
        }
    }
    reply_errorf(c, "NOTASK this worker has no task '%.*s'", shown(id), id->data);
    return NULL;
}

/* What follows the result or message. */
struct ending {
    struct task_bytes log;
    struct lease_usage usage;
    bool next;
    uint64_t ms;
};

static bool read_usage(struct conn *c, const struct resp_arg *argv, struct lease_usage *ret) {
    uint64_t *const to[] = {&ret->user_us, &ret->system_us, &ret->rss_kib};
    for (int i = 0; i < 3; i++) {
        if (num_u64(argv[i].data, argv[i].len, to[i]) < 0) {
            reply_error(c, "ERR usage is three integers from 0 on");
            return false;
        }
    }
    return true;
}

/* [LOG text] [USAGE user_us system_us rss_kib] [NEXT [TIMEOUT ms]] */
static bool read_ending(struct conn *c, const struct resp_arg *argv, uint32_t argc,
                        struct ending *ret) {
    *ret = (struct ending){.log = {"", 0}};
    uint32_t at = 0;
    if (argc >= at + 2 && resp_is(&argv[at], "LOG")) {
        const struct resp_arg *a = &argv[at + 1];
        size_t skip = a->len > LOG_MAX ? a->len - LOG_MAX : 0; /* the end tells most */
        ret->log = (struct task_bytes){a->data + skip, a->len - skip};
        at += 2;
    }
    if (argc >= at + 4 && resp_is(&argv[at], "USAGE")) {
        if (!read_usage(c, &argv[at + 1], &ret->usage)) {
            return false;
        }
        at += 4;
    }
    if (at == argc) {
        return true;
    }
    if (!resp_is(&argv[at], "NEXT")) {
        reply_syntax(c);
        return false;
    }
    ret->next = true;
    return args_wait(c, argv + at + 1, argc - at - 1, &ret->ms);
}

static void reply_ended(struct conn *c, const struct ending *e) {
    if (!e->next) {
        reply_ok(c);
    }
    leases_settle(c);
    if (e->next) {
        leases_next(c, e->ms);
    }
}

int cmd_WORKER_DONE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct lease *l;
    struct ending e;
    if (!has_joined(c) || !read_ending(c, argv + 3, argc - 3, &e) ||
        !(l = find_task(c, &argv[1]))) {
        return 0;
    }
    const struct task_bytes result = {argv[2].data, argv[2].len};
    int r = lease_done(l, &result, &e.log, &e.usage);
    if (r == 0) {
        reply_ended(c, &e);
    }
    return r;
}

int cmd_WORKER_FAIL(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct lease *l;
    struct ending e;
    int64_t code;
    if (!has_joined(c)) {
        return 0;
    }
    if (dispatch_i64(&argv[2], &code) < 0 || code < INT32_MIN || code > INT32_MAX) {
        reply_error(c, "ERR code is not an integer or out of range");
        return 0;
    }
    if (!read_ending(c, argv + 4, argc - 4, &e) || !(l = find_task(c, &argv[1]))) {
        return 0;
    }
    const struct task_bytes message = {argv[3].data, argv[3].len};
    int r = lease_fail(l, code ? (int)code : 1, &message, &e.log, &e.usage);
    if (r == 0) {
        reply_ended(c, &e);
    }
    return r;
}

/* ---- while it runs ---- */

static int reply_told(struct conn *c, int r) {
    if (r == -EAGAIN) {
        return r;
    }
    if (r == 0) {
        reply_ok(c);
    } else if (r == -ECANCELED) {
        reply_error(c, "CANCELLED the task is to stop");
    } else {
        reply_error(c, "OOM the segment has no room for what the task tells");
    }
    return 0;
}

static enum stream_kind read_kind(const struct resp_arg *argv, uint32_t argc) {
    return argc == 3                     ? STREAM_DATA
           : argc > 4                    ? STREAM_NONE
           : resp_is(&argv[3], "STDOUT") ? STREAM_STDOUT
           : resp_is(&argv[3], "STDERR") ? STREAM_STDERR
           : resp_is(&argv[3], "LOG")    ? STREAM_LOG
                                         : STREAM_NONE;
}

int cmd_WORKER_EMIT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    enum stream_kind kind = read_kind(argv, argc);
    struct lease *l = has_joined(c) ? find_task(c, &argv[1]) : NULL;
    if (!l) {
        return 0;
    }
    if (kind == STREAM_NONE) {
        reply_syntax(c);
        return 0;
    }
    return reply_told(c, lease_emit(l, kind, argv[2].data, argv[2].len));
}

int cmd_WORKER_PROGRESS(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    uint64_t done, total;
    struct task_bytes text = {"", 0};
    struct lease *l = has_joined(c) ? find_task(c, &argv[1]) : NULL;
    if (!l) {
        return 0;
    }
    if (argc > 5) {
        reply_syntax(c);
        return 0;
    }
    if (num_u64(argv[2].data, argv[2].len, &done) < 0 ||
        num_u64(argv[3].data, argv[3].len, &total) < 0) {
        reply_error(c, "ERR done and total are integers from 0 on");
        return 0;
    }
    if (argc == 5) {
        text = (struct task_bytes){argv[4].data, argv[4].len};
    }
    return reply_told(c, lease_progress(l, done, total, &text));
}

int cmd_WORKER_CANCELLED(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct lease *l = has_joined(c) ? find_task(c, &argv[1]) : NULL;
    if (l) {
        enum task_cause why = lease_stopped(l);
        if (why == CAUSE_NONE) {
            reply_null(c);
        } else {
            reply_text(c, task_cause_names[why]);
        }
    }
    return 0;
}
