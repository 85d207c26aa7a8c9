/* SPDX-License-Identifier: MIT */
/* The life of a handle, and the functions that send one request and wait for its reply.
 *
 * The greeting asks for RESP3 and for the server's name. Pushes are asked for by the first
 * submission (task.c), not here: what is pushed counts as fetched, and a handle that only calls,
 * waits and commands fetches nothing unasked. hearth_call() uses TASK.CALL, one request and one
 * reply, rather than a submission and a push: half the messages on the path whose latency matters.
 *
 * Fails: see hearth.h; everything a reply says is checked. */
#include "client/handle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/num.h"

enum { GREETING_MS = 30000, WAIT_MAX = 1000000 };

/* ---- the handle ---- */

static void close_fd(struct hearth *h) {
    if (h->fd >= 0) {
        close(h->fd);
        h->fd = -1;
    }
}

void hearth_close(struct hearth *h) {
    if (!h) {
        return;
    }
    attach_end(h);
    resume_forget(h);
    free(h->items);
    free(h->leases);
    buf_deinit(&h->kept);
    close_fd(h);
    task_drop_early(h);
    table_deinit(&h->early);
    table_deinit(&h->table);
    buf_deinit(&h->in);
    buf_deinit(&h->out);
    buf_deinit(&h->text);
    resp_doc_deinit(&h->doc);
    free(h->requests);
    free(h);
}

/* What answers HELLO 3 with a map that names it hearth is one. */
static int check_server(struct hearth *h) {
    const struct hearth_reply *map = (const struct hearth_reply *)(const void *)h->doc.v;
    if (hearth_reply_type(map) != HEARTH_REPLY_MAP) {
        result_error(h, h->doc.v);
        return HEARTH_E_PROTOCOL;
    }
    const char *server = hearth_reply_text(hearth_reply_get(map, "server"), NULL);
    h->client_id = (uint64_t)hearth_reply_int(hearth_reply_get(map, "id"));
    return strcmp(server, "hearth") == 0
               ? 0
               : result_say(h, HEARTH_E_PROTOCOL, "this is %s, not hearth", server);
}

static int greet(struct hearth *h, uint64_t deadline) {
    int r = command_put_head(h, 2);
    if (r == 0) {
        r = command_put_text(h, "HELLO");
    }
    if (r == 0) {
        r = command_put_text(h, "3");
    }
    if (r == 0) {
        r = command_expect(h, REQUEST_SYNC, NULL, 0);
    }
    if (r == 0) {
        r = dispatch_sync(h, deadline);
    }
    if (r == 0) {
        r = check_server(h);
    }
    conn_release(h);
    return r == HEARTH_E_PENDING ? -ETIMEDOUT : r == HEARTH_E_DISCONNECTED ? -ECONNRESET : r;
}

static int open_and_greet(struct hearth *h, uint64_t deadline) {
    int r = conn_open(h);
    if (r == 0) {
        h->entered = true;
        r = greet(h, deadline);
        h->entered = false;
    }
    if (r != 0) {
        h->lost = true;
        dispatch_lost(h);
    }
    return r;
}

static uint64_t greeting_end(void) {
    return clock_now() + GREETING_MS * NS_PER_MS;
}

static struct hearth *new_handle(void) {
    struct hearth *h = calloc(1, sizeof(*h));
    if (h) {
        h->fd = h->also_fd = -1;
        h->shm.fd = h->shm.bell_fd = -1;
    }
    return h;
}

int hearth_connect(const char *path, struct hearth **ret_h) {
    if (!path) {
        path = getenv("HEARTH_SOCKET");
        if (!path || !*path) {
            path = HEARTH_DEFAULT_SOCKET;
        }
    }
    size_t len = strlen(path);
    struct hearth *h = new_handle();
    int r = h ? 0 : -ENOMEM;
    if (h && len >= sizeof(h->addr.sun_path)) {
        r = -ENAMETOOLONG;
    } else if (h && len == 0) {
        r = -ENOENT;
    }
    if (r == 0) {
        h->addr.sun_family = AF_UNIX;
        memcpy(h->addr.sun_path, path, len + 1);
        h->has_path = true;
        r = open_and_greet(h, greeting_end());
    }
    if (r != 0) {
        hearth_close(h);
        return r;
    }
    *ret_h = h;
    return 0;
}

int hearth_connect_fd(int fd, struct hearth **ret_h) {
    struct hearth *h = new_handle();
    if (!h) {
        close(fd);
        return -ENOMEM;
    }
    h->fd = fd;
    int r = open_and_greet(h, greeting_end());
    if (r != 0) {
        hearth_close(h);
        return r;
    }
    *ret_h = h;
    return 0;
}

int call_connect(struct hearth *h, uint64_t deadline) {
    uint64_t lost_ns = h->lost_ns;
    attach_end(h);
    close_fd(h);
    h->passes = false;
    int r = open_and_greet(h, deadline);
    if (r == 0) {
        attach_again(h);
        conn_release(h);
        r = h->lost ? HEARTH_E_DISCONNECTED : resume_put(h);
    }
    if (r != 0) {
        h->lost_ns = lost_ns; /* another try is not another loss */
    }
    return r;
}

int hearth_reconnect(struct hearth *h) {
    int r = dispatch_enter_now(h);
    if (r == 0) {
        return dispatch_leave(h, -EISCONN);
    }
    if (r != HEARTH_E_DISCONNECTED) {
        return r;
    }
    return h->has_path ? call_connect(h, greeting_end()) : -ENOTSUP;
}

const char *hearth_path(const struct hearth *h) {
    return h->has_path ? h->addr.sun_path : "";
}

const char *hearth_errmsg(const struct hearth *h) {
    return h->message;
}

/* ---- requests with one reply ---- */

/* The request has been appended from mark on with the outcome r: sends it and waits for the reply,
 * which is h->doc. */
static int exchange(struct hearth *h, size_t mark, int r) {
    if (r == 0) {
        r = command_expect(h, REQUEST_SYNC, NULL, 0);
    }
    if (r != 0) {
        h->direct_len = 0;
        command_undo(h, mark);
        return r;
    }
    return dispatch_sync(h, UINT64_MAX);
}

int hearth_call(struct hearth *h, const struct hearth_task *task, struct hearth_result *ret) {
    int r = dispatch_enter(h);
    if (r != 0) {
        return r;
    }
    char text[RESUME_KEY];
    const char *key = resume_key(h, task, text);
    do {
        size_t mark = buf_len(&h->out);
        h->live = (struct live){.fn = task->data_fn, .arg = task->data_arg};
        r = exchange(h, mark, task_put_call(h, task, task->payload_len >= HANDLE_DIRECT, key));
    } while (resume_is_kept(task, key) && resume_again(h));
    h->live.fn = NULL;
    if (r != 0) {
        return dispatch_leave(h, r);
    }
    struct hearth_result end;
    result_init(&end);
    const struct resp_value *v = h->doc.v;
    if (value_is_text(v)) {
        end.data = v->data;
        end.len = v->len;
    } else {
        r = result_call_error(h, v, &end);
    }
    if (r == 0) {
        *ret = end;
    }
    return dispatch_leave(h, r);
}

static int put_ids(struct hearth *h, const char *verb, const char *const *ids, size_t n,
                   size_t more) {
    int r = command_put_head(h, 1 + n + more);
    if (r == 0) {
        r = command_put_text(h, verb);
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        r = command_put_text(h, ids[i]);
    }
    return r;
}

static int ask_wait(struct hearth *h, const char *const *ids, size_t n, int64_t timeout_ms) {
    size_t mark = buf_len(&h->out);
    int r = put_ids(h, "TASK.WAIT", ids, n, timeout_ms < 0 ? 0 : 2);
    if (timeout_ms >= 0 && r == 0) {
        char digits[21];
        r = command_put_text(h, "TIMEOUT");
        if (r == 0) {
            r = command_put(h, digits, num_put_i64(digits, timeout_ms));
        }
    }
    return exchange(h, mark, r);
}

int hearth_wait(struct hearth *h, const char *const *ids, size_t n, int64_t timeout_ms,
                struct hearth_result *ret) {
    int r = dispatch_enter(h);
    if (r != 0) {
        return r;
    }
    if (n == 0 || n > WAIT_MAX) {
        return dispatch_leave(h, result_say(h, -EINVAL, "1 to %d ids at a time", WAIT_MAX));
    }
    uint64_t until = timeout_ms < 0 ? 0 : clock_now() + (uint64_t)timeout_ms * NS_PER_MS;
    do {
        r = ask_wait(h, ids, n, timeout_ms);
        uint64_t now = clock_now();
        timeout_ms = timeout_ms < 0 ? -1 : until > now ? (int64_t)((until - now) / NS_PER_MS) : 0;
    } while (resume_again(h));
    if (r != 0) {
        return dispatch_leave(h, r);
    }
    const struct resp_value *v = h->doc.v;
    struct hearth_result end;
    result_init(&end);
    if (v->type == RESP_NULL) {
        r = result_say(h, HEARTH_E_PENDING, "not ended within the time given");
    } else if (v->type == RESP_ARRAY && v->count >= 4 && value_is_text(v + 1)) {
        end.id = v[1].data;
        r = result_fill(h, value_next(v + 1), &end);
    } else {
        r = result_error(h, v);
    }
    if (r == 0) {
        *ret = end;
    }
    return dispatch_leave(h, r);
}

/* "VERB id", with the reply in h->doc; of what can be asked twice. */
static int ask(struct hearth *h, const char *verb, const char *id) {
    int r;
    do {
        size_t mark = buf_len(&h->out);
        r = exchange(h, mark, put_ids(h, verb, &id, 1, 0));
    } while (resume_again(h));
    return r;
}

int hearth_fetch(struct hearth *h, const char *id, struct hearth_result *ret) {
    int r = dispatch_enter(h);
    if (r != 0) {
        return r;
    }
    r = ask(h, "TASK.RESULT", id);
    if (r != 0) {
        return dispatch_leave(h, r);
    }
    const struct resp_value *v = h->doc.v;
    struct hearth_result end;
    result_init(&end);
    if (v->type == RESP_NULL) {
        r = result_say(h, HEARTH_E_PENDING, "not ended yet");
    } else if (v->type == RESP_ARRAY && v->count >= 3) {
        end.id = id;
        r = result_fill(h, v + 1, &end);
    } else {
        r = result_error(h, v);
    }
    if (r == 0) {
        *ret = end;
    }
    return dispatch_leave(h, r);
}

int hearth_status(struct hearth *h, const char *id, struct hearth_task_info *ret) {
    int r = dispatch_enter(h);
    if (r != 0) {
        return r;
    }
    r = ask(h, "TASK.STATUS", id);
    if (r == 0 && h->doc.v[0].type != RESP_MAP) {
        r = result_error(h, h->doc.v);
    }
    if (r != 0) {
        return dispatch_leave(h, r);
    }
    const struct hearth_reply *map = (const struct hearth_reply *)(const void *)h->doc.v;
#define TEXT(key) hearth_reply_text(hearth_reply_get(map, key), NULL)
#define INT(key)  hearth_reply_int(hearth_reply_get(map, key))
    *ret = (struct hearth_task_info){
        .id = TEXT("id"),
        .pool = TEXT("pool"),
        .handler = TEXT("handler"),
        .state = TEXT("state"),
        .attempt = INT("attempt"),
        .worker_pid = INT("worker_pid"),
        .wait_us = INT("wait_us"),
        .run_us = INT("run_us"),
        .user_us = INT("user_us"),
        .system_us = INT("system_us"),
        .max_rss_kib = INT("max_rss_kib"),
        .submitted_ms = INT("submitted_ms"),
        .payload_bytes = INT("payload_bytes"),
        .result_bytes = INT("result_bytes"),
        .cause = TEXT("cause"),
        .cause_code = INT("cause_code"),
        .cause_text = TEXT("cause_text"),
        .error_output = TEXT("stderr"),
    };
#undef TEXT
#undef INT
    return dispatch_leave(h, 0);
}

int hearth_cancel_id(struct hearth *h, const char *id) {
    int r = dispatch_enter(h);
    if (r != 0) {
        return r;
    }
    r = ask(h, "TASK.CANCEL", id);
    if (r == 0 && h->doc.v[0].type != RESP_INT) {
        r = result_error(h, h->doc.v);
    } else if (r == 0 && h->doc.v[0].integer == 0) {
        r = result_say(h, HEARTH_E_NOTASK, "no task %s that has not ended", id);
    }
    return dispatch_leave(h, r);
}

/* ---- any command ---- */

static bool word_is(const char *const *argv, const size_t *lens, size_t i, const char *word) {
    size_t len = lens ? lens[i] : strlen(argv[i]);
    return len == strlen(word) && strncasecmp(argv[i], word, len) == 0;
}

static bool is_subscription(const char *const *argv, const size_t *lens) {
    static const char *const words[] = {"SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE"};
    for (size_t i = 0; i < 4; i++) {
        if (word_is(argv, lens, 0, words[i])) {
            return true;
        }
    }
    return false;
}

static bool upsets(size_t argc, const char *const *argv, const size_t *lens) {
    return word_is(argv, lens, 0, "RESET") || word_is(argv, lens, 0, "TASK.NOTIFY") ||
           (argc > 1 && word_is(argv, lens, 0, "HELLO") && !word_is(argv, lens, 1, "3")) ||
           (argc > 1 && word_is(argv, lens, 0, "CLIENT") && word_is(argv, lens, 1, "REPLY"));
}

int hearth_command(struct hearth *h, size_t argc, const char *const *argv, const size_t *lens,
                   const struct hearth_reply **ret_reply) {
    int r = dispatch_enter(h);
    if (r != 0) {
        return r;
    }
    if (argc == 0 || upsets(argc, argv, lens)) {
        r = argc == 0 ? -EINVAL : -EOPNOTSUPP;
        return dispatch_leave(h, result_say(h, r, "this command would upset the connection"));
    }
    size_t mark = buf_len(&h->out);
    r = command_put_head(h, argc);
    for (size_t i = 0; i < argc && r == 0; i++) {
        r = command_put(h, argv[i], lens ? lens[i] : strlen(argv[i]));
    }
    bool subscription = is_subscription(argv, lens);
    if (subscription && r != 0) {
        command_undo(h, mark);
    }
    r = subscription ? (r == 0 ? conn_flush(h) : r) : exchange(h, mark, r);
    if (r == 0) {
        *ret_reply = subscription ? NULL : (const struct hearth_reply *)(const void *)h->doc.v;
    }
    return dispatch_leave(h, r);
}
