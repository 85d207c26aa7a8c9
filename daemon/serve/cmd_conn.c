/* SPDX-License-Identifier: MIT */
/* The commands about one's own connection, with Redis's replies: what client libraries send when
 * they connect must succeed.
 *
 * AUTH is refused in the words of a Redis that has no password, because libraries know them to the
 * letter: some warn and go on.
 *
 * Fails: replies. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/serve/client.h"
#include "daemon/serve/blocks.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/follow.h"
#include "daemon/serve/manager.h"
#include "daemon/serve/multi.h"
#include "daemon/serve/notify_push.h"
#include "daemon/serve/pipes.h"
#include "daemon/serve/pubsub.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/wait_sync.h"

static const char no_auth[] =
    "ERR AUTH <password> called without any password configured for the default user. Are you sure "
    "your configuration is correct?";

/* Checks the options; *ret_name: the word behind SETNAME, or NULL. False: refused, and replied. */
static bool parse_hello(struct conn *c, const struct resp_arg *argv, uint32_t argc,
                        const struct resp_arg **ret_name) {
    *ret_name = NULL;
    for (uint32_t i = 2; i < argc;) {
        if (resp_is(&argv[i], "AUTH") && argc - i > 2) {
            reply_error(c, no_auth);
            return false;
        }
        if (resp_is(&argv[i], "SETNAME") && argc - i > 1) {
            *ret_name = &argv[i + 1];
            i += 2;
            continue;
        }
        reply_errorf(c, "ERR Syntax error in HELLO option '%.*s'",
                     (int)strnlen(argv[i].data, argv[i].len < 128 ? argv[i].len : 128),
                     argv[i].data);
        return false;
    }
    return true;
}

int cmd_HELLO(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    const struct resp_arg *name = NULL;
    int64_t proto = c->proto;
    if (argc > 1 && dispatch_i64(&argv[1], &proto) < 0) {
        reply_error(c, "ERR Protocol version is not an integer or out of range");
        return 0;
    }
    if (proto != 2 && proto != 3) {
        reply_error(c, "NOPROTO unsupported protocol version");
        return 0;
    }
    if (!parse_hello(c, argv, argc, &name) || (name && !client_set_text(c, &c->name, name))) {
        return 0;
    }
    c->proto = (uint8_t)proto;
    c->notify &= proto == 3;
    reply_map(c, 7);
    reply_field_text(c, "server", "hearth");
    reply_field_text(c, "version", HEARTH_VERSION);
    reply_field_int(c, "proto", proto);
    reply_field_int(c, "id", (int64_t)c->id);
    reply_field_text(c, "mode", "standalone");
    reply_field_text(c, "role", "master");
    reply_text(c, "modules");
    reply_array(c, 0);
    return 0;
}

int cmd_AUTH(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    if (argc > 3) {
        reply_syntax(c);
    } else {
        reply_error(c, no_auth);
    }
    return 0;
}

int cmd_PING(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    if (argc > 2) {
        reply_wrong_args(c, "PING", NULL);
    } else if (c->proto == 2 && pubsub_count(c) > 0) {
        reply_array(c, 2);
        reply_text(c, "pong");
        reply_bulk(c, argc == 2 ? argv[1].data : "", argc == 2 ? argv[1].len : 0);
    } else if (argc == 2) {
        reply_bulk(c, argv[1].data, argv[1].len);
    } else {
        reply_simple(c, "PONG");
    }
    return 0;
}

int cmd_ECHO(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    reply_bulk(c, argv[1].data, argv[1].len);
    return 0;
}

int cmd_QUIT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    reply_ok(c);
    conn_finish(c);
    return 0;
}

int cmd_RESET(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    pubsub_drop(c);
    follow_conn_ends(c);
    notify_conn_ends(c);
    multi_free(c);
    managers_conn_ends(c);
    blocks_conn_ends(c);
    pipes_conn_ends(c);
    wait_sync_conn_ends(c);
    c->proto = 2;
    c->notify = c->no_evict = c->no_touch = false;
    c->reply_mode = REPLY_ON;
    c->muted = false;
    free(c->name);
    c->name = NULL;
    reply_simple(c, "RESET");
    return 0;
}

int cmd_SELECT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    int64_t index;
    if (dispatch_i64(&argv[1], &index) < 0) {
        reply_error(c, "ERR value is not an integer or out of range");
    } else if (index > INT32_MAX || index < INT32_MIN) {
        reply_errorf(c, "ERR value is out of range, value must between %d and %d", INT32_MIN,
                     INT32_MAX);
    } else if (index != 0) {
        reply_error(c, "ERR DB index is out of range");
    } else {
        reply_ok(c);
    }
    return 0;
}
