/* SPDX-License-Identifier: MIT */
/* COMMAND: the table of commands as Redis tells it, for redis-cli's completion and hints and for
 * libraries that look.
 *
 * Fails: replies. */
#include <stdio.h>
#include <string.h>

#include "daemon/serve/dispatch.h"
#include "lib/base/glob.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"

enum { NAMES_MAX = 1024 };

static void reply_lower(struct conn *c, const char *name) {
    char out[64];
    reply_text(c, dispatch_lower(out, name));
}

static void reply_flags(struct conn *c, const struct command *cmd) {
    static const struct {
        uint32_t flag;
        const char *name;
    } flags[] = {
        {CMD_WRITE, "write"},       {CMD_READ, "readonly"},   {CMD_GROWS, "denyoom"},
        {CMD_ADMIN, "admin"},       {CMD_PUBSUB, "pubsub"},   {CMD_BLOCKING, "blocking"},
        {CMD_FAST, "fast"},         {CMD_NO_AUTH, "no_auth"}, {CMD_MOVABLE, "movablekeys"},
        {CMD_NO_MULTI, "no_multi"}, {CMD_SUBMIT, "submit"},   {CMD_PROC, "proc"},
    };
    uint32_t n = 0, shown = cmd->flags;
    if (cmd->args[0] >= 'A' && cmd->args[0] <= 'Z') {
        shown &= ~(uint32_t)CMD_MOVABLE; /* it is its subcommands that have keys */
    }
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
        n += (shown & flags[i].flag) != 0;
    }
    reply_set(c, n);
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
        if (shown & flags[i].flag) {
            reply_simple(c, flags[i].name);
        }
    }
}

static void reply_info(struct conn *c, const struct command *cmd) {
    reply_array(c, 10);
    reply_lower(c, cmd->name);
    reply_int(c, cmd->arity);
    reply_flags(c, cmd);
    reply_int(c, (int)command_first_key(cmd));
    reply_int(c, command_last_key(cmd));
    reply_int(c, (int)command_key_step(cmd));
    reply_set(c, 1);
    REPLY(c, buf_printf(&c->out, "+@%s\r\n", cmd->group));
    reply_array(c, 0); /* tips */
    reply_array(c, 0); /* key specifications */
    reply_array(c, 0); /* subcommands */
}

static void reply_docs(struct conn *c, const struct command *cmd) {
    reply_lower(c, cmd->name);
    reply_map(c, 4);
    reply_field_text(c, "summary", cmd->summary);
    reply_field_text(c, "since", "0.1.0");
    reply_field_text(c, "group", cmd->group);
    reply_text(c, "arguments");
    reply_array(c, cmd->args[0] ? 1 : 0);
    if (cmd->args[0]) {
        reply_map(c, 3);
        reply_field_text(c, "name", cmd->args);
        reply_field_text(c, "type", "string");
        reply_field_text(c, "display_text", cmd->args);
    }
}

static int command_count(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    reply_int(c, COMMAND_COUNT_OF);
    return 0;
}

/* A reply is much longer than the names that ask for it. */
static bool too_many(struct conn *c, uint32_t argc) {
    if (argc - 2 > NAMES_MAX) {
        reply_errorf(c, "ERR at most %d command names", NAMES_MAX);
        return true;
    }
    return false;
}

static int command_info(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    if (too_many(c, argc)) {
        return 0;
    }
    uint32_t n = argc == 2 ? COMMAND_COUNT_OF : argc - 2;
    reply_array(c, n);
    for (uint32_t i = 0; i < n; i++) {
        int id = argc == 2 ? (int)i : command_find(&argv[i + 2]);
        if (id < 0) {
            reply_null(c);
        } else {
            reply_info(c, &commands[id]);
        }
    }
    return 0;
}

static int command_docs(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    if (argc == 2) {
        reply_map(c, COMMAND_COUNT_OF);
        for (uint32_t i = 0; i < COMMAND_COUNT_OF; i++) {
            reply_docs(c, &commands[i]);
        }
        return 0;
    }
    if (too_many(c, argc)) {
        return 0;
    }
    uint32_t n = 0;
    for (uint32_t i = 2; i < argc; i++) {
        n += command_find(&argv[i]) >= 0;
    }
    reply_map(c, n);
    for (uint32_t i = 2; i < argc; i++) {
        int id = command_find(&argv[i]);
        if (id >= 0) {
            reply_docs(c, &commands[id]);
        }
    }
    return 0;
}

/* COMMAND LIST: goes through all names, those of subcommands too ("client|list"). */
struct names {
    struct conn *c;
    const struct resp_arg *by, *what; /* FILTERBY by what; NULL: all */
    const struct command *cmd;
    bool count; /* only counts */
    uint32_t n;
};

static void one_name(struct names *l, const char *name) {
    if (l->by && resp_is(l->by, "PATTERN")) {
        if (!glob_match_nocase(l->what->data, l->what->len, name, strlen(name))) {
            return;
        }
    } else if (l->by && !(resp_is(l->by, "ACLCAT") && resp_is(l->what, l->cmd->group))) {
        return;
    }
    l->n++;
    if (!l->count) {
        reply_text(l->c, name);
    }
}

static void one_sub(void *arg, const char *sub) {
    struct names *l = arg;
    char name[64], of[64], both[130];
    snprintf(both, sizeof(both), "%s|%s", dispatch_lower(of, l->cmd->name),
             dispatch_lower(name, sub));
    one_name(l, both);
}

static void all_names(struct names *l) {
    for (int i = 0; i < COMMAND_COUNT_OF; i++) {
        char name[64];
        l->cmd = &commands[i];
        one_name(l, dispatch_lower(name, l->cmd->name));
        dispatch_subs(l->c, i, one_sub, l);
    }
}

static int command_list(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    if (argc != 2 && (argc != 5 || !resp_is(&argv[2], "FILTERBY") ||
                      (!resp_is(&argv[3], "PATTERN") && !resp_is(&argv[3], "ACLCAT") &&
                       !resp_is(&argv[3], "MODULE")))) {
        reply_syntax(c);
        return 0;
    }
    struct names l = {.c = c, .count = true};
    if (argc == 5) {
        l.by = &argv[3];
        l.what = &argv[4];
    }
    all_names(&l);
    reply_array(c, l.n);
    l.count = false;
    all_names(&l);
    return 0;
}

struct get_keys {
    struct conn *c;
    const struct resp_arg *argv;
    uint32_t n;
};

static void count_key(void *arg, uint32_t i) {
    (void)i;
    ((struct get_keys *)arg)->n++;
}

static void reply_key(void *arg, uint32_t i) {
    struct get_keys *g = arg;
    reply_bulk(g->c, g->argv[i].data, g->argv[i].len);
}

static bool has_keys(const struct command *cmd) {
    return command_first_key(cmd) || (cmd->flags & CMD_MOVABLE);
}

static int command_getkeys(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct get_keys g = {.c = c, .argv = argv + 2};
    int id = command_find(&argv[2]);
    argc -= 2;
    if (id < 0) {
        reply_error(c, "ERR Invalid command specified");
    } else if (!has_keys(&commands[id])) {
        reply_error(c, "ERR The command has no key arguments");
    } else if (commands[id].arity > 0 ? argc != (uint32_t)commands[id].arity
                                      : argc < (uint32_t)-commands[id].arity) {
        reply_error(c, "ERR Invalid number of arguments specified for command");
    } else if (!object_keys(id, g.argv, argc, count_key, &g)) {
        reply_error(c, "ERR Invalid arguments specified for command");
    } else {
        reply_array(c, g.n);
        object_keys(id, g.argv, argc, reply_key, &g);
    }
    return 0;
}

static int command_help(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    static const char *const lines[] = {
        "(no subcommand)",
        "    Return details about all commands.",
        "COUNT",
        "    Return the total number of commands.",
        "LIST",
        "    Return a list of all commands.",
        "INFO [<command-name> ...]",
        "    Return details about multiple commands.",
        "DOCS [<command-name> ...]",
        "    Return documentation details about multiple commands.",
        "GETKEYS <full-command>",
        "    Return the keys from a full command.",
        NULL,
    };
    reply_help(c, "COMMAND", lines);
    return 0;
}

int cmd_COMMAND(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    static const struct subcommand table[] = {
        {"COUNT", 2, command_count},
        {"LIST", -2, command_list},
        {"INFO", -2, command_info},
        {"DOCS", -2, command_docs},
        {"GETKEYS", -4, command_getkeys},
        {"HELP", 2, command_help},
        {NULL, 0, NULL},
    };
    if (argc == 1) {
        reply_array(c, COMMAND_COUNT_OF);
        for (uint32_t i = 0; i < COMMAND_COUNT_OF; i++) {
            reply_info(c, &commands[i]);
        }
        return 0;
    }
    return dispatch_sub(c, "COMMAND", table, argv, argc);
}
