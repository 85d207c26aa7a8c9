/* SPDX-License-Identifier: MIT */
/* A module for real_use.py: the half of a rate limiter, a session cache and a work log that lives in workers, on the same keys
 * that Python programs use over the socket. Each handler does its work many times, so that both sides meet. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/hearth_handler.h"

#define T hearth_text

static int failed(struct hearth_task *task, const struct hearth_api *api, int64_t r) {
    return api->fail(task, (int)-r, "%s", strerror((int)-r));
}

static int say(struct hearth_task *task, const struct hearth_api *api, int64_t n) {
    char text[24];
    return api->write(task, text, (size_t)snprintf(text, sizeof(text), "%lld", (long long)n));
}

static int64_t number(const struct hearth_api *api, struct hearth_task *task, size_t i) {
    return strtoll(api->arg(task, i).data, NULL, 10);
}

/* ---- the rate limiter: so many requests in a window of time ---- */

struct window {
    struct hearth_bytes key;
    int64_t used;
};

/* INCR and EXPIRE as one, as the other side's MULTI does it. */
static int take_one(const struct hearth_objects *o, void *arg) {
    struct window *w = arg;
    int r = o->value_add(w->key, 1, &w->used);
    return r ? r : o->expire(w->key, 60000);
}

/* limit KEY LIMIT TIMES: how many of its requests were let through. */
static int use_limit(struct hearth_task *task, const struct hearth_api *api) {
    struct window w = {.key = api->arg(task, 0)};
    int64_t limit = number(api, task, 1), allowed = 0;
    for (int64_t i = number(api, task, 2); i > 0; i--) {
        int r = api->objects->transaction(&w.key, 1, take_one, &w);
        if (r < 0) {
            return failed(task, api, r);
        }
        allowed += w.used <= limit;
    }
    return say(task, api, allowed);
}

/* token KEY: takes tokens of a bucket, one by one, until there are none: how many. */
static int use_token(struct hearth_task *task, const struct hearth_api *api) {
    struct hearth_bytes key = api->arg(task, 0), now;
    int64_t taken = 0;
    for (;;) {
        char text[24];
        int r = api->objects->dict_get(key, T("tokens"), &now);
        long long left = r ? 0 : strtoll(now.data, NULL, 10);
        if (r < 0 || left == 0) {
            return r < 0 ? failed(task, api, r) : say(task, api, taken);
        }
        struct hearth_bytes next = {text, (size_t)snprintf(text, sizeof(text), "%lld", left - 1)};
        r = api->objects->dict_swap(key, T("tokens"), &now, &next);
        if (r < 0) {
            return failed(task, api, r);
        }
        taken += r;
    }
}

/* ---- the session cache ---- */

struct session {
    struct hearth_bytes key;
    int64_t views;
};

static int view(const struct hearth_objects *o, void *arg) {
    struct session *s = arg;
    struct hearth_bytes user;
    int r = o->dict_get(s->key, T("user"), &user);
    r = r ? r : o->dict_add(s->key, T("views"), 1, &s->views);
    r = r ? r : o->dict_set(s->key, T("last"), user);
    return r < 0 ? r : o->expire(s->key, 60000);
}

/* visit KEY TIMES: views a page in a session so often; how many views it has then. No session: "gone". */
static int use_visit(struct hearth_task *task, const struct hearth_api *api) {
    struct session s = {.key = api->arg(task, 0)};
    for (int64_t i = number(api, task, 1); i > 0; i--) {
        int r = api->objects->transaction(&s.key, 1, view, &s);
        if (r == -ENOENT) {
            return api->write(task, "gone", 4);
        }
        if (r < 0) {
            return failed(task, api, r);
        }
    }
    return say(task, api, s.views);
}

/* ---- the work log ---- */

/* append LIST NAME TIMES: appends NAME:0, NAME:1, ... */
static int use_append(struct hearth_task *task, const struct hearth_api *api) {
    for (int64_t i = 0, n = number(api, task, 2); i < n; i++) {
        char text[64];
        struct hearth_bytes entry = {text, (size_t)snprintf(text, sizeof(text), "%s:%lld",
                                                            (const char *)api->arg(task, 1).data,
                                                            (long long)i)};
        int64_t r = api->objects->list_push(api->arg(task, 0), HEARTH_RIGHT, &entry, 1);
        if (r < 0) {
            return failed(task, api, r);
        }
    }
    return 0;
}

/* tail LIST: takes entries as they come until one is "end"; gives them, a line each. */
static int use_tail(struct hearth_task *task, const struct hearth_api *api) {
    for (;;) {
        struct hearth_bytes entry;
        int r = api->objects->list_pop_wait(api->arg(task, 0), HEARTH_LEFT, -1, &entry);
        if (r < 0) {
            return failed(task, api, r);
        }
        if (entry.len == 3 && memcmp(entry.data, "end", 3) == 0) {
            return 0;
        }
        if (api->write(task, entry.data, entry.len) || api->write(task, "\n", 1)) {
            return api->fail(task, 1, "no memory");
        }
    }
}

/* sync: waits until what is durable is on the disk. */
static int use_sync(struct hearth_task *task, const struct hearth_api *api) {
    int r = api->objects->durable_sync(10000);
    return r ? failed(task, api, r) : say(task, api, r);
}

static const struct hearth_handler handlers[] = {
    {"limit", "KEY LIMIT TIMES", use_limit},
    {"token", "KEY", use_token},
    {"visit", "KEY TIMES", use_visit},
    {"append", "LIST NAME TIMES", use_append},
    {"tail", "LIST until the entry end", use_tail},
    {"sync", "", use_sync},
    {0},
};

HEARTH_EXPORT const struct hearth_module hearth_module = {
    HEARTH_MODULE_HEAD,
    .name = "use",
    .version = "1.0",
    .handlers = handlers,
};
