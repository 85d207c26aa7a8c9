/* SPDX-License-Identifier: MIT */
/* CLIENT: who is connected, and the knobs that client libraries turn. Replies and texts are
 * Redis's. Names go into lines that others read, so they may hold no spaces, line ends or special
 * characters.
 *
 * Fails: replies. */
#include "daemon/serve/client.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/serve/dispatch.h"
#include "daemon/serve/multi.h"
#include "daemon/serve/pubsub.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/roles.h"
#include "daemon/serve/wait_sync.h"
#include "lib/base/clock.h"

bool client_set_text(struct conn *c, char **text, const struct resp_arg *value) {
    char *copy = NULL;
    bool clean = value->len <= CONN_NAME_MAX;
    for (size_t i = 0; clean && i < value->len; i++) {
        clean = value->data[i] >= '!' && value->data[i] <= '~';
    }
    if (!clean) {
        reply_errorf(c, "ERR %s cannot contain spaces, newlines or special characters.",
                     text == &c->name ? "Client names" : "Client library names and versions");
        return false;
    }
    if (value->len > 0) {
        copy = strndup(value->data, value->len);
        if (!copy) {
            reply_error(c, "OOM the daemon is out of memory");
            return false;
        }
    }
    free(*text);
    *text = copy;
    return true;
}

static int client_id(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    reply_int(c, (int64_t)c->id);
    return 0;
}

/* ---- LIST and INFO ---- */

static void put_flags(const struct conn *c, char out[8]) {
    size_t n = 0;
    if (pubsub_count(c) > 0) {
        out[n++] = 'P';
    }
    if (c->block != BLOCK_NONE) {
        out[n++] = 'b';
    }
    if (c->closing) {
        out[n++] = 'c';
    }
    if (c->no_evict) {
        out[n++] = 'e';
    }
    if (c->no_touch) {
        out[n++] = 'T';
    }
    if (multi_count(c) >= 0) {
        out[n++] = 'x';
    }
    out[n++] = 'U';
    out[n] = '\0';
}

static int put_line(struct buf *b, const struct conn *c) {
    char flags[8], cmd[64] = "NULL", sub[64] = "";
    const char *path = c->serve->d->config->socket_path;
    const struct user *u = accounts_user(c);
    uint64_t now = clock_now();
    put_flags(c, flags);
    if (c->last_command >= 0) {
        dispatch_lower(cmd, commands[c->last_command].name);
    }
    if (c->last_sub) {
        dispatch_lower(sub, c->last_sub);
    }
    return buf_printf(
        b,
        "id=%llu addr=%s:0 laddr=%s:0 fd=%d name=%s age=%llu idle=%llu flags=%s db=0 "
        "sub=%u psub=%u ssub=0 multi=%d qbuf=%zu qbuf-free=%zu argv-mem=0 "
        "multi-mem=0 rbs=0 rbp=0 obl=%zu oll=%u omem=%zu tot-mem=%zu events=%s "
        "cmd=%s%s%s user=default redir=-1 resp=%u lib-name=%s lib-ver=%s uid=%u pid=%d "
        "tasks=%u user-clients=%u user-tasks=%u user-task-bytes=%llu user-results=%u "
        "notify=%d tot-cmds=%llu tot-net-in=%llu tot-net-out=%llu\n",
        (unsigned long long)c->id, path, path, c->fd, c->name ? c->name : "",
        (unsigned long long)((now - c->since_ns) / NS_PER_SEC),
        (unsigned long long)((now - c->active_ns) / NS_PER_SEC), flags, c->n_channels,
        c->n_patterns, multi_count(c), buf_len(&c->in), c->in.cap - buf_len(&c->in),
        buf_len(&c->out), c->refs_n, c->refs_bytes, sizeof(*c) + c->in.cap + c->out.cap,
        c->writing ? "rw" : "r", cmd, *sub ? "|" : "", sub, c->proto,
        c->lib_name ? c->lib_name : "", c->lib_ver ? c->lib_ver : "", (unsigned)c->uid, (int)c->pid,
        c->live, u->clients, u->tasks, (unsigned long long)u->task_bytes, u->results, c->notify,
        (unsigned long long)c->commands, (unsigned long long)c->bytes_in,
        (unsigned long long)c->bytes_out);
}

static bool is_type(const struct conn *c, const struct resp_arg *type) {
    if (resp_is(type, "PUBSUB")) {
        return pubsub_count(c) > 0;
    }
    return resp_is(type, "NORMAL") && pubsub_count(c) == 0;
}

static bool known_type(struct conn *c, const struct resp_arg *type) {
    static const char *const types[] = {"NORMAL", "PUBSUB", "MASTER", "REPLICA", "SLAVE"};
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        if (resp_is(type, types[i])) {
            return true;
        }
    }
    reply_errorf(c, "ERR Unknown client type '%.*s'",
                 (int)strnlen(type->data, type->len < 64 ? type->len : 64), type->data);
    return false;
}

static void reply_lines(struct conn *c, const struct buf *lines, int r) {
    if (r < 0) {
        reply_error(c, "OOM the daemon is out of memory");
    } else {
        reply_verbatim(c, lines);
    }
}

static int client_info(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    struct buf b = BUF_INIT;
    reply_lines(c, &b, put_line(&b, c));
    buf_deinit(&b);
    return 0;
}

enum { IDS_MAX = 1024 }; /* of one CLIENT LIST: its reply is much longer than its request */

static int list_ids(struct conn *c, const struct resp_arg *ids, uint32_t n, struct buf *b) {
    int r = 0;
    if (n > IDS_MAX) {
        reply_errorf(c, "ERR at most %d client IDs", IDS_MAX);
        return 1;
    }
    for (uint32_t i = 0; i < n && r >= 0; i++) {
        int64_t id;
        if (dispatch_i64(&ids[i], &id) < 0) {
            reply_error(c, "ERR Invalid client ID");
            return 1;
        }
        const struct conn *other = accounts_find(c->serve, (uint64_t)id);
        r = other ? put_line(b, other) : 0;
    }
    return r;
}

static int client_list(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct buf b = BUF_INIT;
    int r = 0;
    if (argc == 4 && resp_is(&argv[2], "TYPE")) {
        if (!known_type(c, &argv[3])) {
            return 0;
        }
    } else if (argc > 3 && resp_is(&argv[2], "ID")) {
        r = list_ids(c, argv + 3, argc - 3, &b);
        if (r <= 0) {
            reply_lines(c, &b, r);
        }
        buf_deinit(&b);
        return 0;
    } else if (argc != 2) {
        reply_syntax(c);
        return 0;
    }
    list_for_each (it, &c->serve->conns) {
        const struct conn *other = list_entry(it, struct conn, node);
        if (r >= 0 && (argc == 2 || is_type(other, &argv[3]))) {
            r = put_line(&b, other);
        }
    }
    reply_lines(c, &b, r);
    buf_deinit(&b);
    return 0;
}

/* ---- names ---- */

static int client_setname(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    if (client_set_text(c, &c->name, &argv[2])) {
        reply_ok(c);
    }
    return 0;
}

static int client_getname(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    if (c->name) {
        reply_text(c, c->name);
    } else {
        reply_null(c);
    }
    return 0;
}

static int client_setinfo(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    char **text = NULL;
    if (resp_is(&argv[2], "LIB-NAME")) {
        text = &c->lib_name;
    } else if (resp_is(&argv[2], "LIB-VER")) {
        text = &c->lib_ver;
    } else {
        reply_errorf(c, "ERR Unrecognized option '%.*s'",
                     (int)strnlen(argv[2].data, argv[2].len < 64 ? argv[2].len : 64), argv[2].data);
        return 0;
    }
    if (client_set_text(c, text, &argv[3])) {
        reply_ok(c);
    }
    return 0;
}

/* ---- KILL ---- */

struct kill_filter {
    uint64_t id;
    bool skip_me;
    const struct resp_arg *type, *addr, *laddr;
};

static bool is_address(const struct conn *c, const struct resp_arg *a) {
    const char *path = c->serve->d->config->socket_path;
    size_t n = strlen(path);
    return a->len == n + 2 && memcmp(a->data, path, n) == 0 && memcmp(a->data + n, ":0", 2) == 0;
}

/* There is one user, that of a Redis without any. */
static bool is_user(struct conn *c, const struct resp_arg *name) {
    if (name->len == 7 && memcmp(name->data, "default", 7) == 0) {
        return true;
    }
    reply_errorf(c, "ERR No such user '%.*s'",
                 (int)strnlen(name->data, name->len < 64 ? name->len : 64), name->data);
    return false;
}

static bool parse_kill(struct conn *c, const struct resp_arg *argv, uint32_t argc,
                       struct kill_filter *f) {
    for (uint32_t i = 2; i < argc; i += 2) {
        if (i + 1 == argc) {
            reply_syntax(c);
            return false;
        }
        const struct resp_arg *value = &argv[i + 1];
        if (resp_is(&argv[i], "ID")) {
            int64_t id;
            if (dispatch_i64(value, &id) < 0 || id <= 0) {
                reply_error(c, "ERR client-id should be greater than 0");
                return false;
            }
            f->id = (uint64_t)id;
        } else if (resp_is(&argv[i], "TYPE")) {
            if (!known_type(c, value)) {
                return false;
            }
            f->type = value;
        } else if (resp_is(&argv[i], "ADDR")) {
            f->addr = value;
        } else if (resp_is(&argv[i], "LADDR")) {
            f->laddr = value;
        } else if (resp_is(&argv[i], "USER")) {
            if (!is_user(c, value)) {
                return false;
            }
        } else if (resp_is(&argv[i], "SKIPME") && (resp_is(value, "YES") || resp_is(value, "NO"))) {
            f->skip_me = resp_is(value, "YES");
        } else {
            reply_syntax(c);
            return false;
        }
    }
    return true;
}

static bool matches(const struct conn *other, const struct kill_filter *f) {
    return (f->id == 0 || other->id == f->id) && (!f->type || is_type(other, f->type)) &&
           (!f->addr || is_address(other, f->addr)) && (!f->laddr || is_address(other, f->laddr));
}

/* Another user's connections are for administrators to meddle with. */
static bool is_ours(const struct conn *c, const struct conn *other) {
    return other->uid == c->uid || (c->roles & ROLE_ADMIN);
}

/* Closes those that match; the caller itself only after its reply. */
static uint32_t kill_matching(struct conn *c, const struct kill_filter *f) {
    uint32_t n = 0;
    bool me = false;
    list_for_each_safe (it, &c->serve->conns) {
        struct conn *other = list_entry(it, struct conn, node);
        if (!matches(other, f) || (other == c && f->skip_me) || !is_ours(c, other)) {
            continue;
        }
        n++;
        if (other == c) {
            me = true;
        } else {
            conn_kill(other, "CLIENT KILL by client %llu", (unsigned long long)c->id);
        }
    }
    if (me) {
        conn_finish(c);
    }
    return n;
}

static int client_kill(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct kill_filter f = {.skip_me = true};
    if (argc == 3) { /* the old form: an address. All of ours have the same: the socket's */
        f.addr = &argv[2];
        f.skip_me = false;
        if (kill_matching(c, &f) > 0) {
            reply_ok(c);
        } else {
            reply_error(c, "ERR No such client");
        }
        return 0;
    }
    if (parse_kill(c, argv, argc, &f)) {
        reply_int(c, kill_matching(c, &f));
    }
    return 0;
}

/* ---- the rest ---- */

static int client_reply(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    if (resp_is(&argv[2], "ON")) {
        c->reply_mode = REPLY_ON;
        c->muted = false;
        reply_ok(c);
    } else if (resp_is(&argv[2], "OFF")) {
        c->reply_mode = REPLY_OFF;
    } else if (resp_is(&argv[2], "SKIP")) {
        c->skip = c->reply_mode == REPLY_ON;
    } else {
        reply_syntax(c);
    }
    return 0;
}

static bool on_off(struct conn *c, const struct resp_arg *a, bool *ret) {
    bool on = resp_is(a, "ON");
    if (!on && !resp_is(a, "OFF")) {
        reply_syntax(c);
        return false;
    }
    *ret = on;
    return true;
}

static int client_no_evict(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    if (on_off(c, &argv[2], &c->no_evict)) {
        reply_ok(c);
    }
    return 0;
}

static int client_no_touch(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    if (on_off(c, &argv[2], &c->no_touch)) {
        reply_ok(c);
    }
    return 0;
}

static int client_tracking(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    bool on;
    if (!on_off(c, &argv[2], &on)) {
        return 0;
    }
    if (on) {
        reply_error(c, "ERR client tracking is not supported");
    } else {
        reply_ok(c);
    }
    return 0;
}

static int client_trackinginfo(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    reply_map(c, 3);
    reply_text(c, "flags");
    reply_set(c, 1);
    reply_text(c, "off");
    reply_field_int(c, "redirect", -1);
    reply_text(c, "prefixes");
    reply_array(c, 0);
    return 0;
}

static int client_caching(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    reply_error(c, "ERR CLIENT CACHING can be called only when the client is in tracking mode with "
                   "OPTIN or OPTOUT mode enabled");
    return 0;
}

static int client_getredir(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    reply_int(c, -1);
    return 0;
}

static int client_unblock(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    int64_t id;
    bool error = argc == 4 && resp_is(&argv[3], "ERROR");
    if (argc > 4) {
        reply_sub_syntax(c, "CLIENT", &argv[1]);
        return 0;
    }
    if ((argc == 4 && !error && !resp_is(&argv[3], "TIMEOUT"))) {
        reply_error(c, "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
        return 0;
    }
    if (dispatch_i64(&argv[2], &id) < 0) {
        reply_error(c, "ERR value is not an integer or out of range");
        return 0;
    }
    struct conn *other = accounts_find(c->serve, (uint64_t)id);
    if (!other || other->block == BLOCK_NONE || !is_ours(c, other)) {
        reply_int(c, 0);
        return 0;
    }
    if (other->block == BLOCK_SYNC) {
        wait_sync_over(other, error);
        reply_int(c, 1);
        return 0;
    }
    if (error && other->block != BLOCK_ROOM) {
        reply_error(other, "UNBLOCKED client unblocked via CLIENT UNBLOCK");
    } else {
        block_reply_over(other);
    }
    block_end(other);
    reply_int(c, 1);
    return 0;
}

static int client_help(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    static const char *const lines[] = {
        "GETNAME",
        "    Return the name of the current connection.",
        "GETREDIR",
        "    Return -1: client tracking is not supported.",
        "ID",
        "    Return the ID of the current connection.",
        "INFO",
        "    Return information about the current client connection.",
        "KILL <ip:port>",
        "    Kill connection made from <ip:port>; here, all connections of the socket.",
        "KILL <option> <value> [<option> <value> [...]]",
        "    Kill connections. Options are: ADDR, LADDR, TYPE (NORMAL|PUBSUB), USER, ID,",
        "    SKIPME (YES|NO).",
        "LIST [TYPE (NORMAL|PUBSUB) | ID <id> [<id> ...]]",
        "    Return information about client connections.",
        "NO-EVICT (ON|OFF)",
        "    Accepted, without effect: no client is ever evicted to make room.",
        "NO-TOUCH (ON|OFF)",
        "    Accepted, without effect.",
        "REPLY (ON|OFF|SKIP)",
        "    Control the replies sent to the current connection.",
        "SETINFO (LIB-NAME|LIB-VER) <value>",
        "    Tell what library the connection uses.",
        "SETNAME <name>",
        "    Assign the name <name> to the current connection.",
        "TRACKING (ON|OFF)",
        "    ON is refused.",
        "UNBLOCK <clientid> [TIMEOUT|ERROR]",
        "    Unblock the specified blocked client.",
        NULL,
    };
    reply_help(c, "CLIENT", lines);
    return 0;
}

int cmd_CLIENT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    static const struct subcommand table[] = {
        {"ID", 2, client_id},
        {"INFO", 2, client_info},
        {"LIST", -2, client_list},
        {"SETNAME", 3, client_setname},
        {"GETNAME", 2, client_getname},
        {"SETINFO", 4, client_setinfo},
        {"KILL", -3, client_kill},
        {"REPLY", 3, client_reply},
        {"NO-EVICT", 3, client_no_evict},
        {"NO-TOUCH", 3, client_no_touch},
        {"TRACKING", -3, client_tracking},
        {"TRACKINGINFO", 2, client_trackinginfo},
        {"CACHING", 3, client_caching},
        {"GETREDIR", 2, client_getredir},
        {"UNBLOCK", -3, client_unblock},
        {"HELP", 2, client_help},
        {NULL, 0, NULL},
    };
    return dispatch_sub(c, "CLIENT", table, argv, argc);
}
