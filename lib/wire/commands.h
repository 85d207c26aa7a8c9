/* SPDX-License-Identifier: MIT */
/* The table of commands (commands.def) as data: names, arity, flags, documentation. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/wire/resp.h"

enum command_flag {
    CMD_FAST = 1 << 0,     /* bounded small work */
    CMD_BLOCKING = 1 << 1, /* the reply may come later; later commands of the connection wait */
    CMD_ADMIN = 1 << 2,
    CMD_PUBSUB = 1 << 3,
    CMD_NO_AUTH = 1 << 4, /* allowed before a handshake */
    /* Object commands, which work on the keyspace: their handlers run inside of an operation on the
     * segment (daemon/serve/object.h). */
    CMD_READ = 1 << 5,
    CMD_WRITE = 1 << 6,
    CMD_GROWS = 1 << 7,     /* may need memory ("denyoom") */
    CMD_OWN_OPS = 1 << 8,   /* walks the whole keyspace, in operations of its own */
    CMD_MOVABLE = 1 << 9,   /* has keys that its key specification does not tell */
    CMD_NO_MULTI = 1 << 10, /* refused between MULTI and EXEC */
    CMD_SUBMIT = 1 << 11,   /* queues tasks */
    CMD_PROC = 1 << 12,     /* starts processes, or meddles with them */
    CMD_SEAT = 1 << 13,     /* may hold or wait for something in the segment: wait_sync.h */
    /* What a user must have been granted: these flags are the roles too (daemon/serve/roles.h). */
    CMD_ROLES = CMD_READ | CMD_WRITE | CMD_ADMIN | CMD_SUBMIT | CMD_PROC,
};

/* Where the keys are, as COMMAND INFO tells it: position of the first one, of the last one (from
 * the end if negative), and the step between them. A part of the flags. */
#define CMD_KEYS(first, last, step)                                                                \
    ((uint32_t)(first) << 16 | (uint32_t)((last)&0xff) << 20 | (uint32_t)(step) << 28)

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

static inline bool command_is_object(const struct command *c) {
    return c->flags & (CMD_READ | CMD_WRITE);
}
/* 0: it has none, or none that the specification tells. */
static inline uint32_t command_first_key(const struct command *c) {
    return c->flags >> 16 & 0xf;
}
static inline int command_last_key(const struct command *c) {
    return (int8_t)(c->flags >> 20 & 0xff);
}
static inline uint32_t command_key_step(const struct command *c) {
    return c->flags >> 28;
}

/* Finds a command by its first word, any case; -1 when there is none. Thread-safe. O(1) expected.
 */
int command_find(const struct resp_arg *name);
