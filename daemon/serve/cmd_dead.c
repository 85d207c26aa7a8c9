/* SPDX-License-Identifier: MIT */
/* DEAD.*: tasks that had retries and have failed for good. Their submitters have been told so; what
 * is kept is the evidence, and the task itself, for another try. That is a new task with a new id and
 * its own single end: nobody who waited for the old one is told twice.
 *
 * Fails: replies; -EAGAIN from requeueing when a lock in the segment is busy. */
#include <errno.h>
#include <stdlib.h>

#include "daemon/schedule.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/status.h"
#include "lib/base/cleanup.h"
#include "lib/base/num.h"

enum { LIST_DEFAULT = 100, LIST_MAX = 10000 };

struct listing {
    struct conn *c;
    uint64_t count, found;
    uint32_t *idx;
};

static bool list_one(void *arg, uint32_t idx, const struct task_view *v) {
    struct listing *l = arg;
    (void)v;
    l->idx[l->found++] = idx;
    return l->found < l->count;
}

static struct pool *pool_arg(struct conn *c, const struct resp_arg *a) {
    struct pool *p = hearthd_pool(c->serve->d, a->data, a->len);
    if (!p) {
        reply_error(c, "NOPOOL no such pool");
    }
    return p;
}

static bool parse_list(struct conn *c, const struct resp_arg *argv, uint32_t argc,
                       struct listing *l, struct pool **ret) {
    for (uint32_t i = 1; i < argc; i += 2) {
        if (i + 1 < argc && resp_is(&argv[i], "POOL")) {
            *ret = pool_arg(c, &argv[i + 1]);
            if (!*ret) {
                return false;
            }
        } else if (i + 1 < argc && resp_is(&argv[i], "COUNT")) {
            if (num_u64(argv[i + 1].data, argv[i + 1].len, &l->count) < 0 || l->count == 0) {
                reply_error(c, "ERR count is not a positive integer");
                return false;
            }
        } else {
            reply_syntax(c);
            return false;
        }
    }
    l->count = l->count < LIST_MAX ? l->count : LIST_MAX;
    return true;
}

int cmd_DEAD_LIST(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct hearthd *d = c->serve->d;
    struct listing l = {.c = c, .count = LIST_DEFAULT};
    struct pool *only = NULL;
    if (!parse_list(c, argv, argc, &l, &only)) {
        return 0;
    }
    _cleanup_free_ uint32_t *idx = calloc(l.count, sizeof(*idx));
    if (!idx) {
        reply_error(c, "OOM the daemon is out of memory");
        return 0;
    }
    l.idx = idx;
    for (uint32_t i = 0; i < d->n_pools && l.found < l.count; i++) {
        if (!only || only == &d->pools[i]) {
            tasks_each_dead(d, &d->pools[i], list_one, &l);
        }
    }
    reply_array(c, (uint32_t)l.found);
    for (uint64_t i = 0; i < l.found; i++) {
        struct task_view v = {.pool = UINT32_MAX};
        task_view(&d->shm, idx[i], &v);
        status_reply_dead(c, idx[i], &v);
    }
    return 0;
}

/* False: no dead letter has this id. */
static bool find_dead(struct conn *c, const struct resp_arg *id, uint32_t *ret_idx) {
    struct hearthd *d = c->serve->d;
    return tasks_find(d, id->data, id->len, ret_idx) == 0 && tasks_is_dead_letter(d, *ret_idx);
}

int cmd_DEAD_INFO(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    uint32_t idx;
    struct task_view v;
    if (!find_dead(c, &argv[1], &idx)) {
        reply_error(c, "NOTASK no such dead letter");
    } else if (status_view(c, idx, &v)) {
        status_reply(c, idx, &v);
    }
    return 0;
}

/* ---- another try ---- */

/* The task of a dead letter anew, from its first attempt on; times that were set for it are over. */
static int requeue(struct conn *c, uint32_t idx, const struct task_view *v, struct task_ref *ret) {
    struct hearthd *d = c->serve->d;
    struct pool *p = &d->pools[v->pool];
    struct policy policy;
    _cleanup_free_ struct task_bytes *args = calloc(v->nargs + 1, sizeof(*args));
    size_t at = 0;
    if (!args) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < v->nargs; i++) {
        if (task_arg(v, &at, &args[i]) < 0) {
            return -EBADMSG;
        }
    }
    policy_get(&v->policy, p->config, &policy);
    policy.set &= ~(1u << POLICY_DUE | 1u << POLICY_EXPIRE | 1u << POLICY_DEADLINE |
                    1u << POLICY_AFTER | 1u << POLICY_AFTER_MODE | 1u << POLICY_AFTER_GROUP |
                    1u << POLICY_GROUP | 1u << POLICY_OWNED);
    uint32_t other;
    if (policy_has(&policy, POLICY_UNIQUE) && schedule_unique(d, p, &policy.unique_key, &other) &&
        other != idx) {
        return -EEXIST;
    }
    policy.due_ns = policy.expire_ns = policy.deadline_ns = 0;
    struct task_spec spec = {.pool = v->pool,
                             .handler = v->handler,
                             .timeout_ms = v->timeout_ms,
                             .uid = c->uid,
                             .client = c->id,
                             .priority = v->priority,
                             .payload = v->payload,
                             .args = args,
                             .nargs = v->nargs};
    return tasks_submit(d, p, &spec, policy.set ? &policy : NULL, ret);
}

/* One of those named. 0: replied; -EAGAIN. */
static int requeue_one(struct conn *c, const struct resp_arg *id) {
    struct hearthd *d = c->serve->d;
    struct task_view v;
    struct task_ref ref = {0};
    uint32_t idx;
    int r = find_dead(c, id, &idx) ? task_view(&d->shm, idx, &v) : -ENOENT;
    if (r == 0 &&
        (v.pool >= d->n_pools || !(c->may_submit >> v.pool & 1) || !status_is_ours(c, idx))) {
        r = -EACCES;
    }
    if (r == 0) {
        tasks_pin(d, idx); /* while its bytes are copied */
        r = accounts_may_submit(c, 1, v.payload.len + v.args_raw.len);
        r = r < 0 ? r : requeue(c, idx, &v, &ref);
        tasks_unpin(d, idx);
    }
    if (r == -EAGAIN) {
        return r;
    }
    if (r < 0) {
        reply_null(c);
        return 0;
    }
    char text[TASK_ID_TEXT];
    reply_bulk(c, text, task_id_text(text, ref.id, ref.idx));
    c->live++;
    tasks_purge(d, idx);
    return 0;
}

int cmd_DEAD_REQUEUE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    reply_array(c, argc - 1);
    for (uint32_t i = 1; i < argc; i++) {
        if (requeue_one(c, &argv[i]) < 0) {
            reply_null(c); /* the segment is busy: it is still there for another time */
        }
    }
    return 0;
}

static uint32_t purge_pool(struct hearthd *d, const struct pool *p) {
    uint32_t n = tasks_dead(d, p);
    for (uint32_t idx; tasks_oldest_dead(d, p, &idx);) {
        tasks_purge(d, idx);
    }
    return n;
}

int cmd_DEAD_PURGE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct hearthd *d = c->serve->d;
    struct pool *only = NULL;
    uint32_t n = 0;
    if (argc == 3 && resp_is(&argv[1], "POOL")) {
        only = pool_arg(c, &argv[2]);
        if (!only) {
            return 0;
        }
    }
    for (uint32_t i = 0; (argc == 1 || only) && i < d->n_pools; i++) {
        n += !only || only == &d->pools[i] ? purge_pool(d, &d->pools[i]) : 0;
    }
    for (uint32_t i = 1; !only && i < argc; i++) {
        uint32_t idx;
        if (find_dead(c, &argv[i], &idx)) {
            tasks_purge(d, idx);
            n++;
        }
    }
    reply_int(c, n);
    return 0;
}
