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

#include "daemon/schedule.h"
#include "daemon/groups.h"
#include "daemon/serve/follow.h"
#include "daemon/serve/notify_push.h"
#include "daemon/durable.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/roles.h"
#include "daemon/serve/room.h"
#include "daemon/serve/status.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/num.h"
#include "lib/shm/alloc.h"

enum { SHOWN = 64, ARGS_MAX = 65535, ARGS_FIRST = 16 };
#define SPAN_MAX (UINT64_C(10) * 366 * 86400 * 1000) /* ms */

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

/* ---- options ---- */

static bool bad_number(struct conn *c, const char *what) {
    reply_errorf(c, "ERR %s is not an integer or out of range", what);
    return false;
}

/* 0 leaves the pool's own limit. */
static bool read_timeout(struct conn *c, const struct resp_arg *a, struct submit_words *w) {
    uint64_t ms;
    if (num_u64(a->data, a->len, &ms) < 0 || ms > UINT32_MAX) {
        return bad_number(c, "timeout");
    }
    if (ms != 0) {
        w->spec.timeout_ms = (uint32_t)ms;
    }
    return true;
}

static bool read_priority(struct conn *c, const struct resp_arg *a, struct submit_words *w) {
    uint64_t n;
    if (num_u64(a->data, a->len, &n) < 0 || n > 255) {
        reply_error(c, "ERR priority is not an integer from 0 to 255");
        return false;
    }
    w->spec.priority = (uint32_t)n;
    return true;
}

static void set_policy(struct submit_words *w, enum policy_field f, uint64_t v) {
    w->policy.set |= UINT32_C(1) << f;
    *policy_number(&w->policy, f) = v;
}

/* A time from now on. */
static bool read_span(struct conn *c, const struct resp_arg *a, struct submit_words *w,
                      enum policy_field f, const char *what) {
    uint64_t ms;
    if (num_u64(a->data, a->len, &ms) < 0 || ms > SPAN_MAX) {
        return bad_number(c, what);
    }
    set_policy(w, f, clock_now() + ms * NS_PER_MS);
    return true;
}

static bool read_delay(struct conn *c, const struct resp_arg *a, struct submit_words *w) {
    return read_span(c, a, w, POLICY_DUE, "delay");
}

static bool read_expire(struct conn *c, const struct resp_arg *a, struct submit_words *w) {
    return read_span(c, a, w, POLICY_EXPIRE, "expire");
}

static bool read_deadline(struct conn *c, const struct resp_arg *a, struct submit_words *w) {
    return read_span(c, a, w, POLICY_DEADLINE, "deadline");
}

/* A time of day, which may be over. */
static bool read_at(struct conn *c, const struct resp_arg *a, struct submit_words *w) {
    uint64_t at, now = clock_wall_ms();
    if (num_u64(a->data, a->len, &at) < 0 || (at > now && at - now > SPAN_MAX)) {
        return bad_number(c, "at");
    }
    set_policy(w, POLICY_DUE, clock_now() + (at > now ? at - now : 0) * NS_PER_MS);
    return true;
}

/* error,crash,... */
static bool read_on(struct conn *c, const struct resp_arg *a, struct submit_words *w) {
    uint32_t kinds = 0;
    for (size_t at = 0; at <= a->len;) {
        const char *comma = memchr(a->data + at, ',', a->len - at);
        size_t len = comma ? (size_t)(comma - a->data) - at : a->len - at;
        uint32_t bit = retry_kind_bit(a->data + at, len);
        if (!bit) {
            reply_error(c, "ERR on is a list of error, crash, timeout, memory, with commas");
            return false;
        }
        kinds |= bit;
        at += len + 1;
    }
    set_policy(w, POLICY_RETRY_ON, kinds);
    return true;
}

static bool read_arg(struct conn *c, const struct resp_arg *a, struct submit_words *w) {
    return add_arg(c, w, a);
}

static bool read_key(struct conn *c, const struct resp_arg *a, struct submit_words *w,
                     enum policy_field f) {
    if (a->len == 0 || a->len > POLICY_KEY_MAX) {
        reply_errorf(c, "ERR a key has 1 to %d bytes", POLICY_KEY_MAX);
        return false;
    }
    w->policy.set |= UINT32_C(1) << f;
    *policy_key(&w->policy, f) = (struct task_bytes){a->data, a->len};
    return true;
}

/* key n */
static bool read_limit(struct conn *c, const struct resp_arg *a, struct submit_words *w) {
    uint64_t n;
    if (num_u64(a[1].data, a[1].len, &n) < 0 || n == 0 || n > UINT32_MAX) {
        reply_error(c, "ERR the number of a limit is not a positive integer");
        return false;
    }
    set_policy(w, POLICY_LIMIT, n);
    return read_key(c, a, w, POLICY_LIMIT_KEY);
}

/* key REJECT|ATTACH|REPLACE|KEEP */
static bool read_unique(struct conn *c, const struct resp_arg *a, struct submit_words *w) {
    static const char *const modes[] = {"REJECT", "ATTACH", "REPLACE", "KEEP"};
    for (uint32_t i = 0; i < ARRAY_SIZE(modes); i++) {
        if (resp_is(&a[1], modes[i])) {
            w->unique = i;
            w->policy.set &= ~(UINT32_C(1) << POLICY_UNIQUE_KEEP);
            if (i == UNIQUE_KEEP) {
                set_policy(w, POLICY_UNIQUE_KEEP, 1);
            }
            return read_key(c, a, w, POLICY_UNIQUE);
        }
    }
    reply_error(c, "ERR unique is followed by a key and REJECT, ATTACH, REPLACE or KEEP");
    return false;
}

#define OF_GROUP "group:"

static bool read_after_group(struct conn *c, const struct resp_arg *a, struct submit_words *w) {
    const struct resp_arg name = {a->data + strlen(OF_GROUP), a->len - strlen(OF_GROUP)};
    if (!groups_find(c->serve->d, &(struct task_bytes){name.data, name.len})) {
        reply_errorf(c, "NOGROUP no such group '%.*s'", shown(&name), name.data);
        return false;
    }
    return read_key(c, &name, w, POLICY_AFTER_GROUP);
}

/* ids OK|ANY|FAILED, the ids with commas between; or group:name OK|ANY|FAILED */
static bool read_after(struct conn *c, const struct resp_arg *a, struct submit_words *w) {
    static const char *const modes[] = {"OK", "ANY", "FAILED"};
    struct hearthd *d = c->serve->d;
    uint32_t n = 0, mode = 0;
    while (mode < ARRAY_SIZE(modes) && !resp_is(&a[1], modes[mode])) {
        mode++;
    }
    if (mode == ARRAY_SIZE(modes)) {
        reply_error(c, "ERR after is followed by ids, with commas, and OK, ANY or FAILED");
        return false;
    }
    set_policy(w, POLICY_AFTER_MODE, mode);
    if (a->len > strlen(OF_GROUP) && memcmp(a->data, OF_GROUP, strlen(OF_GROUP)) == 0) {
        return read_after_group(c, a, w);
    }
    for (size_t at = 0; at <= a->len; n++) {
        const char *comma = memchr(a->data + at, ',', a->len - at);
        size_t len = comma ? (size_t)(comma - a->data) - at : a->len - at;
        struct task_view v;
        uint32_t idx;
        if (n == POLICY_AFTER_MAX) {
            reply_errorf(c, "ERR a task comes after at most %zu others", (size_t)POLICY_AFTER_MAX);
            return false;
        }
        if (tasks_find(d, a->data + at, len, &idx) < 0 || task_view(&d->shm, idx, &v) < 0) {
            reply_errorf(c, "NOTASK no such task '%.*s'", (int)(len < SHOWN ? len : SHOWN),
                         a->data + at);
            return false;
        }
        w->after[n] = (struct policy_after){.idx = idx, .id = v.id};
        at += len + 1;
    }
    w->policy.set |= UINT32_C(1) << POLICY_AFTER;
    w->policy.after.len = n * sizeof(w->after[0]);
    return true;
}

static bool read_group(struct conn *c, const struct resp_arg *a, struct submit_words *w) {
    struct task_bytes name = {a->data, a->len};
    if (!group_name_ok(&name)) {
        reply_errorf(c, "ERR a group's name has 1 to %d printable bytes, no blank and no comma",
                     GROUP_NAME_MAX);
        return false;
    }
    return read_key(c, a, w, POLICY_GROUP);
}

/* Is it one that is there already, or the first of many? Then its group may have been closed behind it. */
static bool is_again(struct conn *c, const struct submit_words *w) {
    struct task_bytes key = w->policy.unique_key;
    char first[POLICY_KEY_MAX + 2];
    uint32_t idx;
    if (!policy_has(&w->policy, POLICY_UNIQUE_KEEP)) {
        return false;
    }
    memcpy(first, key.data, key.len);
    memcpy(first + key.len, ":0", 2);
    return schedule_unique(c->serve->d, w->pool, &key, &idx) ||
           schedule_unique(c->serve->d, w->pool, &(struct task_bytes){first, key.len + 2}, &idx);
}

static bool check_group(struct conn *c, struct submit_words *w) {
    uint32_t uid = c->roles & ROLE_ADMIN ? UINT32_MAX : c->uid;
    if (c->partial /* of which tasks are in it already */ || is_again(c, w)) {
        return true;
    }
    switch (groups_may_join(c->serve->d, &w->policy.group, uid)) {
    case 0:
        return true;
    case -EACCES:
        reply_error(c, "NOPERM this group is another user's");
        return false;
    case -ENOSPC:
        reply_errorf(c, "BUSY there are %d groups", GROUPS_MAX);
        return false;
    default:
        submit_refused(c, w->pool, -EPIPE);
        return false;
    }
}

static bool read_last(struct conn *c, const struct resp_arg *a, struct submit_words *w) {
    (void)c;
    (void)a;
    w->last = true;
    return true;
}

static bool read_owned(struct conn *c, const struct resp_arg *a, struct submit_words *w) {
    (void)c;
    (void)a;
    w->owned = true;
    w->policy.owned = 1; /* for a daemon that takes over, when that connection is no more */
    w->policy.set |= 1u << POLICY_OWNED;
    return true;
}

static bool read_durable(struct conn *c, const struct resp_arg *a, struct submit_words *w) {
    (void)c;
    (void)a;
    w->policy.durable = 1;
    w->policy.set |= 1u << POLICY_DURABLE;
    return true;
}

static bool read_stream(struct conn *c, const struct resp_arg *a, struct submit_words *w) {
    (void)a;
    if (c->proto != 3) {
        reply_error(c,
                    "ERR STREAM needs RESP3: say HELLO 3 first, or SUBSCRIBE to task:<id>:stream");
        return false;
    }
    w->stream = w->spec.watched = true;
    return true;
}

static const struct option {
    const char *name;
    uint32_t words; /* behind it */
    bool (*read)(struct conn *c, const struct resp_arg *a, struct submit_words *w);
} options[] = {
    {"ARG", 1, read_arg},           {"TIMEOUT", 1, read_timeout}, {"PRIORITY", 1, read_priority},
    {"DELAY", 1, read_delay},       {"AT", 1, read_at},           {"EXPIRE", 1, read_expire},
    {"DEADLINE", 1, read_deadline}, {"ON", 1, read_on},           {"LIMIT", 2, read_limit},
    {"UNIQUE", 2, read_unique},     {"AFTER", 2, read_after},     {"OWNED", 0, read_owned},
    {"DURABLE", 0, read_durable},   {"STREAM", 0, read_stream},   {"GROUP", 1, read_group},
    {"LAST", 0, read_last},
};

/* Those that are a number of the policy and nothing else. */
static const struct {
    const char *name;
    uint64_t max;
} numbers[POLICY_FIELDS] = {
#define POLICY(bit, field, option, most, ...) [POLICY_##bit] = {option, most},
#include "daemon/policy.def"
#undef POLICY
};

static bool read_number(struct conn *c, const struct resp_arg *name, const struct resp_arg *value,
                        struct submit_words *w) {
    for (uint32_t f = 0; f < POLICY_FIELDS; f++) {
        uint64_t n;
        if (!numbers[f].name || !resp_is(name, numbers[f].name)) {
            continue;
        }
        if (num_u64(value->data, value->len, &n) < 0 || n > numbers[f].max) {
            reply_errorf(c, "ERR %s is not an integer from 0 to %llu", numbers[f].name,
                         (unsigned long long)numbers[f].max);
            return false;
        }
        set_policy(w, f, n);
        return true;
    }
    reply_syntax(c);
    return false;
}

/* The option at argv[*at], which then is the next. */
static bool read_option(struct conn *c, const struct resp_arg *argv, uint32_t argc, uint32_t *at,
                        struct submit_words *w) {
    const struct option *o = NULL;
    for (size_t i = 0; !o && i < ARRAY_SIZE(options); i++) {
        o = resp_is(&argv[*at], options[i].name) ? &options[i] : NULL;
    }
    const struct resp_arg *name = &argv[*at];
    uint32_t words = o ? o->words : 1;
    if (argc - *at <= words) {
        reply_syntax(c);
        return false;
    }
    *at += 1 + words;
    return o ? o->read(c, name + 1, w) : read_number(c, name, name + 1, w);
}

bool submit_parse(struct conn *c, const struct resp_arg *argv, uint32_t argc, uint32_t first,
                  struct submit_words *ret) {
    struct submit_words w = {.spec = {.uid = c->uid, .client = c->id}};
    if (!find_target(c, argv, &w)) {
        return false;
    }
    w.spec.timeout_ms = w.pool->config->timeout_ms;
    w.spec.priority = w.pool->config->priority;
    for (uint32_t at = first; at < argc;) {
        if (!read_option(c, argv, argc, &at, &w)) {
            return false;
        }
    }
    if (policy_has(&w.policy, POLICY_GROUP) && policy_has(&w.policy, POLICY_AFTER_GROUP) &&
        w.policy.group.len == w.policy.after_group.len &&
        memcmp(w.policy.group.data, w.policy.after_group.data, w.policy.group.len) == 0) {
        reply_error(c, "ERR a task cannot come after its own group");
        return false;
    }
    if (policy_has(&w.policy, POLICY_GROUP) && !check_group(c, &w)) {
        return false;
    }
    if (w.last && !policy_has(&w.policy, POLICY_GROUP)) {
        reply_error(c, "ERR LAST closes a group: name it with GROUP");
        return false;
    }
    w.spec.args = c->serve->args;
    *ret = w;
    ret->policy.after.data = ret->after;
    return true;
}

/* Those it comes after and that have ended must not be forgotten for want of room for it. */
static void pin_after(struct hearthd *d, const struct submit_words *w, uint64_t *pinned) {
    for (uint32_t i = 0; i < w->policy.after.len / sizeof(w->after[0]); i++) {
        if (!tasks_is_live(d, w->after[i].idx, w->after[i].id)) {
            tasks_pin(d, w->after[i].idx);
            *pinned |= UINT64_C(1) << i;
        }
    }
}

int submit_new(struct conn *c, const struct submit_words *w, struct task_ref *ret) {
    struct hearthd *d = c->serve->d;
    uint64_t pinned = 0;
    int r = accounts_may_submit(c, 1, tasks_bytes(&w->spec));
    if (r == 0 && w->owned && owned_room(c) < 0) {
        r = -ENOMEM;
    }
    if (r < 0) {
        return r;
    }
    pin_after(d, w, &pinned);
    r = room_is_ours(c, w->pool) ? tasks_submit(d, w->pool, &w->spec, submit_policy(w), ret)
                                 : -EBUSY;
    for (; pinned; pinned &= pinned - 1) {
        tasks_unpin(d, w->after[__builtin_ctzll(pinned)].idx);
    }
    if (r == 0 && w->owned) {
        owned_add(c, ret);
    }
    return r;
}

int submit_task(struct conn *c, const struct submit_words *w, struct task_ref *ret, bool *ret_new) {
    struct hearthd *d = c->serve->d;
    struct task_view v;
    uint32_t idx;
    *ret_new = true;
    while (policy_has(&w->policy, POLICY_UNIQUE) &&
           schedule_unique(d, w->pool, &w->policy.unique_key, &idx)) {
        tasks_ended(d, idx); /* it may have ended already, which may set the key free */
        if (!schedule_unique(d, w->pool, &w->policy.unique_key, &idx)) {
            break;
        }
        if (w->unique == UNIQUE_REPLACE) {
            tasks_replace(d, idx);
            continue;
        }
        if (task_view(&d->shm, idx, &v) < 0) {
            return -EBADMSG;
        }
        *ret = (struct task_ref){.idx = idx, .id = v.id};
        *ret_new = false;
        bool same = w->unique == UNIQUE_KEEP && status_is_ours(c, idx);
        return same || w->unique == UNIQUE_ATTACH ? 0 : -EEXIST;
    }
    return submit_new(c, w, ret);
}

void submit_attached(struct conn *c, const struct task_ref *ref) {
    if (c->notify && task_ref_is_older(ref) && tasks_is_known(c->serve->d, ref->idx, ref->id) &&
        notify_task(c, ref->idx) < 0) {
        c->broken = true;
    }
}

void submit_follow(struct conn *c, const struct submit_words *w, uint32_t idx) {
    if (w->stream && !tasks_is_ended(c->serve->d, idx) && follow_task(c, idx, false) < 0) {
        c->broken = true;
    }
}

void submit_done(struct conn *c, const struct submit_words *w) {
    struct hearthd *d = c->serve->d;
    struct task_group *g =
        w->last && policy_has(&w->policy, POLICY_GROUP) ? groups_find(d, &w->policy.group) : NULL;
    if (g) {
        group_close(d, g);
    }
}

void submit_refused(struct conn *c, const struct pool *p, int r) {
    switch (r) {
    case -EBUSY:
        if (p->paused_in) {
            reply_errorf(c, "BUSY pool '%s' is paused", p->config->name);
            break;
        }
        reply_errorf(c, "BUSY the queue of pool '%s' is full", p->config->name);
        break;
    case -EPIPE:
        reply_error(c, "CLOSED this group takes no more tasks");
        break;
    case -EEXIST:
        reply_error(c, "EXISTS there is a task with this unique key");
        break;
    case -EDQUOT:
        reply_error(c, c->serve->quota);
        break;
    case -ENOMEM:
        reply_error(c, "OOM the segment is full: fetch results, or raise segment_size");
        break;
    case -ENAMETOOLONG:
        reply_errorf(c, "ERR a key of many has up to %d bytes", POLICY_KEY_MAX - 12);
        break;
    case -EMSGSIZE:
        reply_errorf(c, "ERR payload and arguments are over the limit of %llu bytes",
                     (unsigned long long)ALLOC_MAX);
        break;
    case -ENODEV:
        reply_error(c, "DURABLE there is no database: set durable_path");
        break;
    case -EIO:
        reply_errorf(c, "DURABLE the database cannot be written: %s", durable_why(c->serve->d));
        break;
    case -ESHUTDOWN:
        reply_error(c, "ERR the daemon is stopping");
        break;
    default:
        reply_errorf(c, "ERR cannot submit: %s", strerror(-r));
    }
}
