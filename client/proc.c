/* SPDX-License-Identifier: MIT */
/* Processes that the daemon starts. Each function is one command; descriptors go out with the first byte of PROC.START, after the
 * daemon has once been told that this connection will send some.
 *
 * Fails: as hearth.h says. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/object.h"
#include "lib/base/cleanup.h"

enum { OPTION_WORDS = 32 };

struct starting {
    struct hearth_bytes words[OPTION_WORDS];
    size_t n;
    struct digits digits[8];
    size_t n_digits;
    int fds[CONN_GIVE];
    int n_fds;
};

static void put(struct starting *s, const char *word) {
    s->words[s->n++] = hearth_text(word);
}

static void put_number(struct starting *s, uint64_t v) {
    s->words[s->n++] = object_number(&s->digits[s->n_digits++], (int64_t)v);
}

static void put_if(struct starting *s, const char *word, uint64_t v) {
    if (v) {
        put(s, word);
        put_number(s, v);
    }
}

static void put_fds(struct starting *s, const int *fds) {
    for (int i = 0; fds && i < 3; i++) {
        if (fds[i] != HEARTH_PROC_DEFAULT) {
            put(s, fds[i] >= 0 ? "FD" : "NULL");
            put_number(s, (uint64_t)i);
        }
        if (fds[i] >= 0) {
            s->fds[s->n_fds++] = fds[i];
        }
    }
}

static void put_options(struct starting *s, const struct hearth_proc *p) {
    static const char *const restarts[] = {"never", "on-failure", "always"};
    put(s, "PROC.START");
    if (p->name) {
        put(s, "NAME");
        put(s, p->name);
    }
    if (p->directory) {
        put(s, "DIR");
        put(s, p->directory);
    }
    put_fds(s, p->fds);
    if (p->restart != HEARTH_PROC_NEVER) {
        put(s, "RESTART");
        put(s, restarts[p->restart]);
    }
    put_if(s, "BACKOFF", p->backoff_ms);
    if (p->max_restarts) {
        put(s, "MAX");
        put_number(s, p->max_restarts);
        put_number(s, p->window_ms);
    }
    put_if(s, "STOP", p->stop_ms);
    if (p->flags & HEARTH_PROC_OWNED) {
        put(s, "OWNED");
    }
}

static size_t count(const char *const *words) {
    size_t n = 0;
    while (words && words[n]) {
        n++;
    }
    return n;
}

static void put_handler(const struct hearth_proc *p, struct hearth_bytes *words, size_t *n) {
    words[(*n)++] = hearth_text("HANDLER");
    words[(*n)++] = hearth_text(p->pool);
    words[(*n)++] = hearth_text(p->handler);
    words[(*n)++] = (struct hearth_bytes){p->payload, p->payload_len};
    for (size_t i = 0; p->argv && p->argv[i]; i++) {
        words[(*n)++] = hearth_text("ARG");
        words[(*n)++] = hearth_text(p->argv[i]);
    }
}

/* "ENV", each variable, "COMMAND", each word; or "HANDLER" and what follows. NULL: no memory. */
static struct hearth_bytes *put_words(const struct hearth_proc *p, size_t *ret_n) {
    size_t n_env = count(p->env), n_argv = count(p->argv), n = 0;
    struct hearth_bytes *words = calloc(2 * n_env + 4 + 2 * n_argv, sizeof(*words));
    for (size_t i = 0; words && i < n_env; i++) {
        words[n++] = hearth_text("ENV");
        words[n++] = hearth_text(p->env[i]);
    }
    if (words && p->pool) {
        put_handler(p, words, &n);
    } else if (words) {
        words[n++] = hearth_text("COMMAND");
    }
    for (size_t i = 0; words && !p->pool && i < n_argv; i++) {
        words[n++] = hearth_text(p->argv[i]);
    }
    *ret_n = n;
    return words;
}

static int let_pass(struct hearth *h) {
    const struct hearth_reply *reply;
    int r = h->passes ? 0 : object_ask(h, &reply, WORDS(hearth_text("PROC.PASS")));
    h->passes |= r == 0;
    return r;
}

int hearth_proc_start(struct hearth *h, const struct hearth_proc *p, char ret_id[HEARTH_ID_MAX + 1],
                      int64_t *ret_pid) {
    struct starting s = {.n = 0};
    const struct hearth_reply *reply;
    size_t n;
    if ((p->pool ? !p->handler || (p->payload_len && !p->payload) : count(p->argv) == 0) ||
        p->flags & ~(unsigned)HEARTH_PROC_OWNED || (unsigned)p->restart > HEARTH_PROC_ALWAYS) {
        return object_invalid(h);
    }
    put_options(&s, p);
    _cleanup_free_ struct hearth_bytes *words = put_words(p, &n);
    int r = !words ? -ENOMEM : s.n_fds > 0 ? let_pass(h) : 0;
    if (r == 0) {
        h->give = s.fds;
        h->n_give = s.n_fds;
        r = object_ask_more(h, &reply, s.words, s.n, words, n);
        h->n_give = 0;
        h->give = NULL;
    }
    if (r == 0 && hearth_reply_type(reply) != HEARTH_REPLY_MAP) {
        r = result_say(h, HEARTH_E_PROTOCOL, "an unexpected kind of reply");
    }
    if (r == 0 && ret_id) {
        const char *id = hearth_reply_text(hearth_reply_get(reply, "id"), NULL);
        memset(ret_id, 0, HEARTH_ID_MAX + 1);
        memcpy(ret_id, id, strnlen(id, HEARTH_ID_MAX));
    }
    if (r == 0 && ret_pid) {
        *ret_pid = hearth_reply_int(hearth_reply_get(reply, "pid"));
    }
    return r;
}

/* ---- what is known of one ---- */

static int fill(struct hearth *h, const struct hearth_reply *map, struct hearth_proc_info *ret) {
    if (hearth_reply_type(map) == HEARTH_REPLY_NULL) {
        return result_say(h, HEARTH_E_PENDING, "not ended within the time given");
    }
    if (hearth_reply_type(map) != HEARTH_REPLY_MAP) {
        return result_say(h, HEARTH_E_PROTOCOL, "an unexpected kind of reply");
    }
#define TEXT(key) hearth_reply_text(hearth_reply_get(map, key), NULL)
#define INT(key)  hearth_reply_int(hearth_reply_get(map, key))
    *ret = (struct hearth_proc_info){
        .id = TEXT("id"),
        .name = TEXT("name"),
        .state = TEXT("state"),
        .command = TEXT("command"),
        .directory = TEXT("directory"),
        .restart = TEXT("restart"),
        .cause = TEXT("cause"),
        .pid = INT("pid"),
        .ppid = INT("ppid"),
        .uid = INT("uid"),
        .runs = INT("runs"),
        .started_ms = INT("started_ms"),
        .ended_ms = INT("ended_ms"),
        .exit_status = (int)INT("exit_status"),
        .signal = (int)INT("signal"),
        .core = (int)INT("core"),
        .user_us = INT("user_us"),
        .system_us = INT("system_us"),
        .max_rss_kib = INT("max_rss_kib"),
        .written = INT("written"),
        .task = TEXT("task"),
        .status = TEXT("status"),
        .failure = TEXT("failure"),
        .result = object_text(hearth_reply_get(map, "result")),
    };
#undef TEXT
#undef INT
    return 0;
}

int hearth_proc_wait(struct hearth *h, const char *process, int64_t timeout_ms,
                     struct hearth_proc_info *ret) {
    struct digits d;
    const struct hearth_reply *reply;
    const struct hearth_bytes words[] = {hearth_text("PROC.WAIT"), hearth_text(process),
                                         hearth_text("TIMEOUT"),
                                         object_number(&d, timeout_ms < 0 ? 0 : timeout_ms)};
    int r = object_ask(h, &reply, words, timeout_ms < 0 ? 2 : 4);
    return r == 0 ? fill(h, reply, ret) : r;
}

int hearth_proc_info(struct hearth *h, const char *process, struct hearth_proc_info *ret) {
    const struct hearth_reply *reply;
    int r = object_ask(h, &reply, WORDS(hearth_text("PROC.INFO"), hearth_text(process)));
    return r == 0 ? fill(h, reply, ret) : r;
}

int hearth_proc_list(struct hearth *h, int (*fn)(void *arg, const struct hearth_proc_info *info),
                     void *arg) {
    const struct hearth_reply *reply;
    int r = object_ask(h, &reply, WORDS(hearth_text("PROC.LIST")));
    size_t n = r == 0 ? hearth_reply_count(reply) : 0;
    const struct hearth_reply *at = n ? hearth_reply_first(reply) : NULL;
    for (size_t i = 0; i < n && r == 0; i++, at = hearth_reply_next(at)) {
        struct hearth_proc_info info;
        r = fill(h, at, &info);
        if (r == 0 && fn(arg, &info) != 0) {
            break;
        }
    }
    return r;
}

/* ---- the others ---- */

int hearth_proc_signal(struct hearth *h, const char *process, const char *signal) {
    uint64_t n = 0;
    int r = object_ask_count(
        h, &n, WORDS(hearth_text("PROC.SIGNAL"), hearth_text(process), hearth_text(signal)));
    return r == 0 && n == 0 ? result_say(h, HEARTH_E_PENDING, "it does not run now") : r;
}

int hearth_proc_log(struct hearth *h, const char *process, uint64_t from, struct hearth_bytes *ret,
                    uint64_t *ret_from, int *ret_ended) {
    struct digits d;
    const struct hearth_reply *reply;
    int r = object_ask(h, &reply,
                       WORDS(hearth_text("PROC.LOG"), hearth_text(process), hearth_text("FROM"),
                             object_number(&d, from > INT64_MAX ? INT64_MAX : (int64_t)from)));
    if (r == 0 &&
        (hearth_reply_type(reply) != HEARTH_REPLY_ARRAY || hearth_reply_count(reply) != 3)) {
        r = result_say(h, HEARTH_E_PROTOCOL, "an unexpected kind of reply");
    }
    if (r == 0) {
        const struct hearth_reply *at = hearth_reply_first(reply);
        *ret_from = (uint64_t)hearth_reply_int(at);
        at = hearth_reply_next(at);
        *ret = object_text(at);
        if (ret_ended) {
            *ret_ended = (int)hearth_reply_int(hearth_reply_next(at));
        }
    }
    return r;
}

int hearth_proc_remove(struct hearth *h, const char *process) {
    const struct hearth_reply *reply;
    return object_ask(h, &reply, WORDS(hearth_text("PROC.REMOVE"), hearth_text(process)));
}
