/* SPDX-License-Identifier: MIT */
/* Dispatch. The table of commands (lib/wire/commands.def) gives names, arity and flags; here each
 * line gets its function, so that a command without one does not link. What is the same for all
 * commands is checked here, in Redis's order and words: does it exist, is the number of words
 * right, may it be used while subscribed in RESP2, has the user the roles it needs.
 *
 * An HTTP request is not a mistyped command but an attack by way of somebody's browser: the
 * connection is closed at its first line, as Redis does.
 *
 * Fails: replies to the client; -EAGAIN as dispatch.h says. */
#include "daemon/serve/dispatch.h"
#include "daemon/serve/hold.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "daemon/serve/multi.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/roles.h"
#include "daemon/serve/sitting.h"
#include "daemon/serve/wait_sync.h"
#include "lib/base/num.h"

static command_handler *const handlers[] = {
#define COMMAND(id, ...) [COMMAND_##id] = cmd_##id,
#include "lib/wire/commands.def"
#undef COMMAND
};

command_handler *dispatch_handler(int id) {
    return handlers[id];
}

enum { DISPATCH_FOUND = 2 }; /* dispatch_sub(), when it is only asked whether there is one */
enum { QUOTED = 128 };       /* bytes of a client's words that an error repeats */

const char *dispatch_lower(char out[64], const char *name) {
    size_t n = 0;
    for (; n < 63 && name[n]; n++) {
        out[n] = (char)tolower((unsigned char)name[n]);
    }
    out[n] = '\0';
    return out;
}

/* Bytes of a word that %.*s may print: it has no NUL at its end, and may have some inside. */
static int quotable(const struct resp_arg *a, size_t max) {
    return (int)strnlen(a->data, a->len < max ? a->len : max);
}

static void unknown(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    char args[QUOTED + 8];
    size_t n = 0;
    args[0] = '\0';
    for (uint32_t i = 1; i < argc && n < QUOTED; i++) {
        int r = snprintf(args + n, sizeof(args) - n, "'%.*s' ", quotable(&argv[i], QUOTED - n),
                         argv[i].data);
        n += (size_t)r;
    }
    reply_errorf(c, "ERR unknown command '%.*s', with args beginning with: %s",
                 quotable(&argv[0], QUOTED), argv[0].data, args);
}

void reply_wrong_args(struct conn *c, const char *command, const char *sub) {
    char a[64], b[64];
    reply_errorf(c, "ERR wrong number of arguments for '%s%s%s' command",
                 dispatch_lower(a, command), sub ? "|" : "", sub ? dispatch_lower(b, sub) : "");
}

void reply_unknown_sub(struct conn *c, const char *command, const struct resp_arg *sub) {
    reply_errorf(c, "ERR unknown subcommand '%.*s'. Try %s HELP.", quotable(sub, QUOTED), sub->data,
                 command);
}

void reply_sub_syntax(struct conn *c, const char *command, const struct resp_arg *sub) {
    reply_errorf(c, "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try %s HELP.",
                 quotable(sub, QUOTED), sub->data, command);
}

int dispatch_i64(const struct resp_arg *a, int64_t *ret) {
    size_t sign = a->len > 0 && a->data[0] == '-';
    bool zero = a->len > sign && a->data[sign] == '0';
    return zero && a->len > 1 ? -EINVAL : num_i64(a->data, a->len, ret);
}

void reply_help(struct conn *c, const char *command, const char *const *lines) {
    uint32_t n = 0;
    while (lines[n]) {
        n++;
    }
    reply_array(c, n + 3);
    if (!c->muted) {
        reply_made(c, buf_printf(&c->out,
                                 "+%s <subcommand> [<arg> [value] [opt] ...]. "
                                 "Subcommands are:\r\n",
                                 command));
    }
    for (uint32_t i = 0; i < n; i++) {
        reply_simple(c, lines[i]);
    }
    reply_simple(c, "HELP");
    reply_simple(c, "    Print this help.");
}

static bool arity_ok(int arity, uint32_t argc) {
    return arity >= 0 ? argc == (uint32_t)arity : argc >= (uint32_t)-arity;
}

/* In RESP2 a subscribed connection's replies could not be told from messages. */
static bool refuses_subscribed(struct conn *c, const char *command, const char *sub) {
    char a[64], b[64];
    if (c->proto != 2 || c->n_channels + c->n_patterns == 0) {
        return false;
    }
    reply_errorf(c,
                 "ERR Can't execute '%s%s%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT "
                 "/ RESET are allowed in this context",
                 dispatch_lower(a, command), sub ? "|" : "", sub ? dispatch_lower(b, sub) : "");
    return true;
}

int dispatch_sub(struct conn *c, const char *command, const struct subcommand *table,
                 const struct resp_arg *argv, uint32_t argc) {
    for (const struct subcommand *s = table; c->each_sub.fn && s->name; s++) {
        c->each_sub.fn(c->each_sub.arg, s->name);
    }
    if (c->each_sub.fn) {
        return 0;
    }
    for (const struct subcommand *s = table; s->name; s++) {
        if (!resp_is(&argv[1], s->name)) {
            continue;
        }
        if (!arity_ok(s->arity, argc)) {
            reply_wrong_args(c, command, s->name);
            return 0;
        }
        if (refuses_subscribed(c, command, s->name)) {
            return 0;
        }
        c->last_sub = s->name;
        return c->checking ? DISPATCH_FOUND : s->run(c, argv, argc);
    }
    reply_unknown_sub(c, command, &argv[1]);
    return 0;
}

/* Commands that lead to others with dispatch_sub(). */
static bool is_container(int id) {
    switch (id) {
    case COMMAND_CLIENT:
    case COMMAND_COMMAND:
    case COMMAND_CONFIG:
    case COMMAND_DEBUG:
    case COMMAND_FUNCTION:
    case COMMAND_PUBSUB:
    case COMMAND_OBJECT:
    case COMMAND_MEMORY:
        return true;
    default:
        return false;
    }
}

void dispatch_subs(struct conn *c, int id, void (*fn)(void *arg, const char *sub), void *arg) {
    const struct resp_arg words[2] = {{"", 0}, {"", 0}};
    if (is_container(id)) {
        c->each_sub.fn = fn;
        c->each_sub.arg = arg;
        handlers[id](c, words, ARRAY_SIZE(words));
        c->each_sub.fn = NULL;
    }
}

/* What a RESP2 connection may say while it is subscribed; of a container, dispatch_sub() decides.
 */
static bool allowed_subscribed(int id, uint32_t argc) {
    switch (id) {
    case COMMAND_SUBSCRIBE:
    case COMMAND_UNSUBSCRIBE:
    case COMMAND_PSUBSCRIBE:
    case COMMAND_PUNSUBSCRIBE:
    case COMMAND_PING:
    case COMMAND_QUIT:
    case COMMAND_RESET:
        return true;
    default:
        return is_container(id) && argc > 1;
    }
}

/* Into the queue of MULTI, unless there is no such subcommand, which must be said at once. */
static void queue(struct conn *c, int id, const struct resp_arg *argv, uint32_t argc) {
    if (is_container(id) && argc > 1) {
        c->checking = true;
        int r = handlers[id](c, argv, argc);
        c->checking = false;
        if (r != DISPATCH_FOUND) {
            multi_failed(c);
            return;
        }
    }
    multi_queue(c, id, argv, argc);
}

/* True: it is not carried out, and the client has been told why. */
static bool refuses(struct conn *c, int id, uint32_t argc) {
    if (!arity_ok(commands[id].arity, argc)) {
        if (id == COMMAND_EXEC) {
            reply_error(c, "EXECABORT Transaction discarded because of: wrong number of arguments "
                           "for 'exec' command");
            multi_free(c);
            return true;
        }
        reply_wrong_args(c, commands[id].name, NULL);
        return true;
    }
    if (!allowed_subscribed(id, argc) && refuses_subscribed(c, commands[id].name, NULL)) {
        return true;
    }
    uint32_t lacks = commands[id].flags & CMD_ROLES & ~c->roles;
    if (lacks && !wait_sync_again(c)) {
        roles_refuse(c, commands[id].name);
        return true;
    }
    return (commands[id].flags & CMD_SEAT) && !wait_sync_seat(c);
}

static int run(struct conn *c, int id, const struct resp_arg *argv, uint32_t argc) {
    uint64_t errors = c->serve->errors;
    if (refuses(c, id, argc)) {
        c->serve->rejected[id]++;
        multi_failed(c);
        return 0;
    }
    c->last_command = id;
    c->last_sub = NULL;
    if (multi_takes(c, id)) {
        queue(c, id, argv, argc);
        return 0;
    }
    struct shm *s = &c->serve->d->shm;
    size_t start = buf_len(&c->out);
    s->dirtied = false;
    int r = command_is_object(&commands[id]) ? object_run(c, id, argv, argc)
                                             : handlers[id](c, argv, argc);
    c->dirtied |= s->dirtied;
    if (r == 0 && c->dirtied) {
        c->dirtied = false;
        hold_objects(c, start);
    }
    if (r == 0) {
        c->serve->calls[id]++;
        c->serve->failed[id] += c->serve->errors != errors;
    }
    return r;
}

int dispatch(struct conn *c) {
    const struct resp_arg *argv = c->reader.argv;
    uint32_t argc = c->reader.argc;
    if (argc == 0) {
        return 0;
    }
    c->serve->d->shm.account = c->account;
    c->serve->d->shm.actor = wait_sync_owner(c);
    c->muted = c->reply_mode == REPLY_OFF || c->skip;
    bool skip = c->skip;
    c->skip = false;
    int r = 0;
    int id = command_find(&argv[0]);
    if (id >= 0) {
        r = run(c, id, argv, argc);
    } else if (resp_is(&argv[0], "POST") || resp_is(&argv[0], "Host:")) {
        c->serve->closed_protocol++;
        conn_kill(c, "it speaks HTTP: possibly a cross-protocol attack");
        return 0;
    } else {
        unknown(c, argv, argc);
        multi_failed(c);
    }
    if (r == -EAGAIN && sitting_ends_wait(c)) {
        if (id == COMMAND_EXEC) {
            multi_free(c);
        }
    } else if (r < 0) {
        c->skip = skip;
        return r;
    }
    c->busy_since_ns = 0;
    c->room.first = c->room.over = false;
    c->commands++;
    c->serve->commands++;
    return 0;
}
