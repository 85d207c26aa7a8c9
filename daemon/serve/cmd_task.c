/* SPDX-License-Identifier: MIT */
/* TASK.*: submitting, waiting, looking, cancelling.
 *
 * Whoever asks about a task has its end delivered first if the segment already knows of it
 * (status_look_up), so that one command never says "done" and the next "not ended".
 *
 * Fails: replies, in Redis's form "CODE text"; -EAGAIN from the submitting ones when a lock in the
 * segment is busy. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/serve/args.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/end.h"
#include "daemon/serve/hold.h"
#include "daemon/serve/notify_push.h"
#include "daemon/serve/partial.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/room.h"
#include "daemon/serve/status.h"
#include "daemon/serve/submit.h"
#include "lib/base/num.h"

enum { LIST_DEFAULT = 100, SHOWN = 64 };

/* ---- submitting ---- */

/* 0 with *ret set (*ret_new: as submit_task()); 1: refused, and replied; -EAGAIN; -EBUSY: it waits for room. */
static int submit_one(struct conn *c, const struct resp_arg *argv, uint32_t argc,
                      struct submit_words *w, struct task_ref *ret, bool *ret_new) {
    if (!submit_parse(c, argv, argc, 4, w)) {
        return 1;
    }
    w->spec.payload = (struct task_bytes){argv[3].data, argv[3].len};
    int r = submit_task(c, w, ret, ret_new);
    if (r == 0) {
        c->live += *ret_new;
        submit_done(c, w);
    } else if (r == -EBUSY && room_wait(c, w, 1, tasks_bytes(&w->spec))) {
        return r;
    } else if (r != -EAGAIN) {
        submit_refused(c, w->pool, r);
        r = 1;
    }
    return r;
}

int cmd_TASK_SUBMIT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct submit_words w;
    struct task_ref ref;
    bool new;
    int r = submit_one(c, argv, argc, &w, &ref, &new);
    if (r != 0) {
        return r < 0 ? r : 0;
    }
    char id[TASK_ID_TEXT];
    size_t len = task_id_text(id, ref.id, ref.idx), start = buf_len(&c->out);
    reply_bulk(c, id, len);
    hold_reply(c, start, &ref, 1);
    submit_attached(c, &ref);
    submit_follow(c, &w, ref.idx);
    return 0;
}

int cmd_TASK_CALL(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct submit_words w;
    struct task_ref ref;
    struct task_view v;
    bool new;
    int r = submit_one(c, argv, argc, &w, &ref, &new);
    if (r == 0 && !tasks_is_ended(c->serve->d, ref.idx)) {
        block_call(c, ref.idx);
        submit_follow(c, &w, ref.idx);
    } else if (r == 0 && status_view(c, ref.idx, &v)) { /* an older one, of the same key */
        end_reply_call(c, ref.idx, &v);
        status_told(c, ref.idx);
    }
    return r < 0 ? r : 0;
}

/* The words of a command that queues many. False: refused, and replied. */
static bool parse_many(struct conn *c, const struct resp_arg *argv, uint32_t argc, uint32_t first,
                       bool may_keep, struct submit_words *ret) {
    if (!submit_parse(c, argv, argc, first, ret)) {
        return false;
    }
    if (policy_has(&ret->policy, POLICY_UNIQUE) && (!may_keep || ret->unique != UNIQUE_KEEP)) {
        reply_error(c, "ERR of many tasks at most one could have the UNIQUE key");
        return false;
    }
    return true;
}

int cmd_TASK_MSUBMIT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    uint64_t n;
    if (num_u64(argv[3].data, argv[3].len, &n) < 0 || n == 0 || n > UINT32_MAX) {
        reply_error(c, "ERR n is not a positive integer");
        return 0;
    }
    if (n > argc - 4) {
        reply_error(c, "ERR there are fewer payloads than n");
        return 0;
    }
    struct submit_words w;
    if (!parse_many(c, argv, argc, 4 + (uint32_t)n, true, &w)) {
        return 0;
    }
    return partial_run(c, &w, &(struct partial_input){.payload = argv + 4, .n = (uint32_t)n});
}

/* CHUNK and DELIMITER; *ret_first: where the options begin. False: refused, and replied. */
static bool parse_split(struct conn *c, const struct resp_arg *argv, uint32_t argc,
                        struct partial_input *in, uint32_t *ret_first) {
    uint32_t at = 4;
    for (; at + 1 < argc; at += 2) {
        const struct resp_arg *value = &argv[at + 1];
        if (resp_is(&argv[at], "CHUNK")) {
            if (num_u64(value->data, value->len, &in->chunk) < 0 || in->chunk == 0) {
                reply_error(c, "ERR chunk is not a positive integer");
                return false;
            }
        } else if (resp_is(&argv[at], "DELIMITER")) {
            if (value->len == 0) {
                reply_error(c, "ERR the delimiter is empty");
                return false;
            }
            in->delimiter = *value;
        } else {
            break;
        }
    }
    *ret_first = at;
    return true;
}

int cmd_TASK_MAP(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct partial_input in = {.payload = &argv[3], .delimiter = {"\n", 1}};
    struct submit_words w;
    uint32_t first;
    if (!parse_split(c, argv, argc, &in, &first) || !parse_many(c, argv, argc, first, false, &w)) {
        return 0;
    }
    if (!c->partial) {
        partial_split(w.pool, &in);
    }
    if (in.payload->len == 0) {
        submit_done(c, &w);
        reply_array(c, 0);
        return 0;
    }
    return partial_run(c, &w, &in);
}

/* ---- looking ---- */

static bool parse_wait(struct conn *c, const struct resp_arg *argv, uint32_t argc, uint32_t *ret_n,
                       uint64_t *ret_ms) {
    *ret_ms = UINT64_MAX;
    *ret_n = argc - 1;
    if (argc >= 4 && resp_is(&argv[argc - 2], "TIMEOUT")) {
        if (!args_timeout(c, &argv[argc - 1], ret_ms)) {
            return false;
        }
        *ret_n -= 2;
    }
    return true;
}

/* Looks all ids up. The first that has ended, in the order given, is answered; else waits. */
static void wait_for(struct conn *c, const struct resp_arg *ids, uint32_t n, uint64_t ms,
                     uint32_t *idx) {
    struct hearthd *d = c->serve->d;
    for (uint32_t i = 0; i < n; i++) {
        if (!status_look_up(c, &ids[i], &idx[i])) {
            return;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        struct task_view v;
        if (!tasks_is_ended(d, idx[i])) {
            continue;
        }
        if (status_view(c, idx[i], &v)) {
            end_reply_wait(c, idx[i], &v);
            status_told(c, idx[i]);
        }
        return;
    }
    if (ms == 0) {
        reply_null_array(c);
    } else if (block_wait(c, idx, n, ms) < 0) {
        reply_error(c, "OOM the daemon is out of memory");
    }
}

int cmd_TASK_WAIT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    uint32_t n, one;
    uint64_t ms;
    if (!parse_wait(c, argv, argc, &n, &ms)) {
        return 0;
    }
    if (n == 1) {
        wait_for(c, argv + 1, n, ms, &one);
        return 0;
    }
    _cleanup_free_ uint32_t *idx = malloc(n * sizeof(*idx));
    if (!idx) {
        reply_error(c, "OOM the daemon is out of memory");
        return 0;
    }
    wait_for(c, argv + 1, n, ms, idx);
    return 0;
}

int cmd_TASK_RESULT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct hearthd *d = c->serve->d;
    struct task_view v;
    uint32_t idx;
    if (!status_look_up(c, &argv[1], &idx)) {
        return 0;
    }
    if (!tasks_is_ended(d, idx)) {
        reply_null_array(c);
    } else if (status_view(c, idx, &v)) {
        end_reply_result(c, idx, &v);
        status_told(c, idx);
    }
    return 0;
}

/* ---- status ---- */

int cmd_TASK_STATUS(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    uint32_t idx;
    struct task_view v;
    if (status_look_up(c, &argv[1], &idx) && status_view(c, idx, &v)) {
        status_reply(c, idx, &v);
    }
    return 0;
}

/* False, and replied: another user's task is for administrators to meddle with. */
static bool may_steer(struct conn *c, const struct resp_arg *id, uint32_t idx) {
    if (!status_is_ours(c, idx)) {
        reply_errorf(c, "NOPERM User %u has no permissions to change another user's task '%.*s'",
                     (unsigned)c->uid, (int)id->len, id->data);
        return false;
    }
    return true;
}

int cmd_TASK_PRIORITY(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    uint32_t idx;
    uint64_t n;
    if (num_u64(argv[2].data, argv[2].len, &n) < 0 || n > 255) {
        reply_error(c, "ERR priority is not an integer from 0 to 255");
        return 0;
    }
    if (status_look_up(c, &argv[1], &idx) && may_steer(c, &argv[1], idx)) {
        int r = tasks_set_priority(c->serve->d, idx, (uint32_t)n);
        if (r == -ENOMEM) {
            reply_error(c, "OOM the daemon is out of memory");
        } else {
            reply_int(c, r == 0);
        }
    }
    return 0;
}

/* ---- cancelling ---- */

int cmd_TASK_CANCEL(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    char who[128];
    int64_t told = 0;
    snprintf(who, sizeof(who), "client %llu%s%.60s%s", (unsigned long long)c->id,
             c->name ? " (" : "", c->name ? c->name : "", c->name ? ")" : "");
    for (uint32_t i = 1; i < argc; i++) {
        uint32_t idx;
        if (tasks_find(c->serve->d, argv[i].data, argv[i].len, &idx) == 0 &&
            !may_steer(c, &argv[i], idx)) {
            return 0;
        }
    }
    for (uint32_t i = 1; i < argc; i++) {
        uint32_t idx;
        if (tasks_find(c->serve->d, argv[i].data, argv[i].len, &idx) == 0 &&
            tasks_cancel(c->serve->d, idx, who) == 0) {
            told++;
        }
    }
    reply_int(c, told);
    return 0;
}

/* ---- listing ---- */

struct listing {
    struct conn *c;
    const struct pool *pool; /* NULL: any */
    int state;               /* -1: any */
    uint64_t count, found;
    uint32_t *idx;
    uint64_t seen;
};

enum { LIST_MAX = 10000, LIST_LOOK = 100000 };

static bool list_one(void *arg, uint32_t idx, const struct task_view *v) {
    struct listing *l = arg;
    if (l->found == l->count || l->seen++ == LIST_LOOK) {
        return false;
    }
    if ((!l->pool || v->pool == l->pool->index) &&
        (l->state < 0 || v->state == (uint32_t)l->state)) {
        l->idx[l->found++] = idx;
    }
    return true;
}

static int state_by_name(const struct resp_arg *a) {
    for (int i = TASK_WAITING; i <= TASK_EXPIRED; i++) {
        if (resp_is(a, task_state_names[i])) {
            return i;
        }
    }
    return -1;
}

static bool parse_list(struct conn *c, const struct resp_arg *argv, uint32_t argc,
                       struct listing *l) {
    for (uint32_t i = 1; i < argc; i += 2) {
        if (i + 1 == argc) {
            reply_syntax(c);
            return false;
        }
        const struct resp_arg *value = &argv[i + 1];
        if (resp_is(&argv[i], "POOL")) {
            l->pool = hearthd_pool(c->serve->d, value->data, value->len);
            if (!l->pool) {
                reply_errorf(c, "NOPOOL no such pool '%.*s'",
                             (int)strnlen(value->data, value->len < SHOWN ? value->len : SHOWN),
                             value->data);
                return false;
            }
        } else if (resp_is(&argv[i], "STATE")) {
            l->state = state_by_name(value);
            if (l->state < 0) {
                reply_error(c, "ERR state is one of waiting, queued, running, done, failed, lost, "
                               "timeout, cancelled, expired");
                return false;
            }
        } else if (resp_is(&argv[i], "COUNT")) {
            if (num_u64(value->data, value->len, &l->count) < 0 || l->count == 0) {
                reply_error(c, "ERR count is not a positive integer");
                return false;
            }
        } else {
            reply_syntax(c);
            return false;
        }
    }
    return true;
}

int cmd_TASK_LIST(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct listing l = {.c = c, .state = -1, .count = LIST_DEFAULT};
    if (!parse_list(c, argv, argc, &l)) {
        return 0;
    }
    l.count = l.count < LIST_MAX ? l.count : LIST_MAX;
    _cleanup_free_ uint32_t *idx = malloc(l.count * sizeof(*idx));
    if (!idx) {
        reply_error(c, "OOM the daemon is out of memory");
        return 0;
    }
    l.idx = idx;
    tasks_each(c->serve->d, list_one, &l);
    reply_array(c, (uint32_t)l.found);
    for (uint64_t i = 0; i < l.found; i++) {
        status_reply_short(c, idx[i]);
    }
    return 0;
}

static bool notify_id(struct conn *c, const struct resp_arg *id) {
    struct hearthd *d = c->serve->d;
    uint32_t idx;
    if (tasks_find(d, id->data, id->len, &idx) == 0) {
        tasks_ended(d, idx);
    }
    if (tasks_find(d, id->data, id->len, &idx) < 0) {
        return false;
    }
    if (notify_task(c, idx) < 0) {
        c->broken = true;
    }
    return true;
}

/* The ends of these, too. One may be forgotten while others are told: so they are counted as they are told. */
static void notify_ids(struct conn *c, const struct resp_arg *ids, uint32_t n) {
    _cleanup_free_ bool *known = malloc(n * sizeof(*known));
    uint32_t unknown = 0;
    if (!known) {
        reply_error(c, "OOM the daemon is out of memory");
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        known[i] = notify_id(c, &ids[i]);
        unknown += !known[i];
    }
    reply_array(c, unknown);
    for (uint32_t i = 0; i < n; i++) {
        if (!known[i]) {
            reply_bulk(c, ids[i].data, ids[i].len);
        }
    }
}

int cmd_TASK_NOTIFY(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    bool on = resp_is(&argv[1], "ON");
    if ((!on && !resp_is(&argv[1], "OFF")) || (!on && argc > 2)) {
        reply_syntax(c);
    } else if (on && c->proto != 3) {
        reply_error(c, "ERR TASK.NOTIFY needs RESP3: say HELLO 3 first, or SUBSCRIBE to "
                       "tasks:<client id>");
    } else if (argc > 2) {
        c->notify = true;
        notify_ids(c, argv + 2, argc - 2);
    } else {
        c->notify = on;
        if (!on) {
            notify_conn_ends(c);
        }
        reply_ok(c);
    }
    return 0;
}
