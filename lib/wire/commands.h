/* SPDX-License-Identifier: MIT */
/* The table of commands (commands.def) as data: names, arity, flags, documentation. */
#pragma once

#include <stdint.h>

#include "lib/wire/resp.h"

enum command_flag {
    CMD_FAST = 1 << 0,     /* bounded small work */
    CMD_BLOCKING = 1 << 1, /* the reply may come later; later commands of the connection wait */
    CMD_ADMIN = 1 << 2,
    CMD_PUBSUB = 1 << 3,
    CMD_NO_AUTH = 1 << 4, /* allowed before a handshake */
};

enum command_id {
#define COMMAND(id, ...) COMMAND_##id,
#include "lib/wire/commands.def"
#undef COMMAND
    COMMAND_COUNT_OF,
};

struct command {
    const char *name; /* upper case */
    int arity;        /* > 0: exactly, < 0: at least -arity words, name included */
    uint32_t flags;
    const char *group;
    const char *args; /* synopsis without the name */
    const char *summary;
};

/* Indexed by enum command_id. */
extern const struct command commands[COMMAND_COUNT_OF];

/* Finds a command by its first word, any case; -1 when there is none. Thread-safe. O(1) expected.
 */
int command_find(const struct resp_arg *name);
