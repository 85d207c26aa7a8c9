/* SPDX-License-Identifier: MIT */
/* Reading a submission. Everything that can be known to be wrong is refused here, before anything
 * is queued: the pool, the handler, the words, the size, the connection's own limit. The arguments
 * are collected in an array that belongs to serve and is used again for each command.
 *
 * Fails: replies. */
#include "daemon/serve/submit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/serve/reply.h"
#include "lib/base/num.h"
#include "lib/shm/alloc.h"

enum { SHOWN = 64, ARGS_MAX = 65535, ARGS_FIRST = 16 };

static int shown(const struct resp_arg *a) {
    return (int)strnlen(a->data, a->len < SHOWN ? a->len : SHOWN);
}

static bool find_target(struct conn *c, const struct resp_arg *argv, struct submit_words *w) {
    struct pool *p = hearthd_pool(c->serve->d, argv[1].data, argv[1].len);
    if (!p) {
        reply_errorf(c, "NOPOOL no such pool '%.*s'", shown(&argv[1]), argv[1].data);
        return false;
    }
    if (!(c->may_submit >> p->index & 1)) {
        reply_errorf(c, "NOPERM User %u has no permissions to use pool '%s'", (unsigned)c->uid,
                     p->config->name);
        return false;
    }
    if (p->n_handlers == 0) { /* its module has never been loaded yet */
        reply_errorf(c, "BUSY pool '%s' is not ready: %s", p->config->name,
                     p->last_error ? p->last_error : pool_state_names[p->state]);
        return false;
    }
    int handler = pool_handler(p, argv[2].data, argv[2].len);
    if (handler < 0) {
        reply_errorf(c, "NOHANDLER pool '%s' has no handler '%.*s'", p->config->name,
                     shown(&argv[2]), argv[2].data);
        return false;
    }
    w->pool = p;
    w->spec.pool = p->index;
    w->spec.handler = (uint32_t)handler;
    return true;
}

static bool add_arg(struct conn *c, struct submit_words *w, const struct resp_arg *a) {
    struct serve *s = c->serve;
    if (w->spec.nargs == ARGS_MAX) {
        reply_errorf(c, "ERR a task has at most %d arguments", ARGS_MAX);
        return false;
    }
    if (w->spec.nargs == s->args_cap) {
        uint32_t cap = s->args_cap ? s->args_cap * 2 : ARGS_FIRST;
        struct task_bytes *args = realloc(s->args, cap * sizeof(*args));
        if (!args) {
            reply_error(c, "OOM the daemon is out of memory");
            return false;
        }
        s->args = args;
        s->args_cap = cap;
    }
    s->args[w->spec.nargs++] = (struct task_bytes){a->data, a->len};
    return true;
}

/* 0 leaves the pool's own limit. */
static bool read_timeout(struct conn *c, const struct resp_arg *a, uint32_t *ret) {
    uint64_t ms;
    if (num_u64(a->data, a->len, &ms) < 0 || ms > UINT32_MAX) {
        reply_error(c, "ERR timeout is not an integer or out of range");
        return false;
    }
    if (ms != 0) {
        *ret = (uint32_t)ms;
    }
    return true;
}

bool submit_parse(struct conn *c, const struct resp_arg *argv, uint32_t argc, uint32_t options,
                  struct submit_words *ret) {
    struct submit_words w = {.spec = {.uid = c->uid, .client = c->id}};
    if (!find_target(c, argv, &w)) {
        return false;
    }
    w.spec.timeout_ms = w.pool->config->timeout_ms;
    for (uint32_t i = options; i < argc; i += 2) {
        bool arg = resp_is(&argv[i], "ARG");
        if (i + 1 == argc || (!arg && !resp_is(&argv[i], "TIMEOUT"))) {
            reply_syntax(c);
            return false;
        }
        if (arg ? !add_arg(c, &w, &argv[i + 1])
                : !read_timeout(c, &argv[i + 1], &w.spec.timeout_ms)) {
            return false;
        }
    }
    w.spec.args = c->serve->args;
    *ret = w;
    return true;
}

void submit_refused(struct conn *c, const struct pool *p, int r) {
    switch (r) {
    case -EBUSY:
        reply_errorf(c, "BUSY the queue of pool '%s' is full", p->config->name);
        break;
    case -EDQUOT:
        reply_errorf(c, "BUSY this connection has %u tasks that have not ended, the limit is %u",
                     c->live, c->serve->d->config->limits.client_max_tasks);
        break;
    case -ENOMEM:
        reply_error(c, "OOM the segment is full: fetch results, or raise segment_size");
        break;
    case -EMSGSIZE:
        reply_errorf(c, "ERR payload and arguments are over the limit of %llu bytes",
                     (unsigned long long)ALLOC_MAX);
        break;
    case -ESHUTDOWN:
        reply_error(c, "ERR the daemon is stopping");
        break;
    default:
        reply_errorf(c, "ERR cannot submit: %s", strerror(-r));
    }
}
