/* SPDX-License-Identifier: MIT */
/* From a command's words to the function that carries it out. */
#pragma once

#include "daemon/serve/conn.h"

/* One function per command, cmd_NAME, in its family's file. It replies, or blocks the connection.
 * 0, or -EAGAIN: nothing was done or said, and the same words are to be tried again a little later.
 */
#define COMMAND(id, ...) int cmd_##id(struct conn *c, const struct resp_arg *argv, uint32_t argc);
#include "lib/wire/commands.def"
#undef COMMAND

typedef int command_handler(struct conn *c, const struct resp_arg *argv, uint32_t argc);
command_handler *dispatch_handler(int id);

/* Carries out the words in c->reader: 0 or -EAGAIN as above. May kill c. */
int dispatch(struct conn *c);

/* A name in lower case, at most 63 characters of it. */
const char *dispatch_lower(char out[64], const char *name);
/* An integer as Redis reads it: no leading zeros, no "-0". 0, -EINVAL or -ERANGE. */
int dispatch_i64(const struct resp_arg *a, int64_t *ret);

/* A subcommand of a container command, with its arity as in commands.def (its own name and the
 * command's counted). */
struct subcommand {
    const char *name; /* upper case; NULL ends the table */
    int arity;
    int (*run)(struct conn *c, const struct resp_arg *argv, uint32_t argc);
};
/* Finds and runs argv[1]; replies when there is none, the number of words is wrong, or the
 * connection is subscribed in RESP2. */
int dispatch_sub(struct conn *c, const char *command, const struct subcommand *table,
                 const struct resp_arg *argv, uint32_t argc);
/* Calls fn for each subcommand that a command has. */
void dispatch_subs(struct conn *c, int id, void (*fn)(void *arg, const char *sub), void *arg);
