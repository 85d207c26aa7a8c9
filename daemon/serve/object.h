/* SPDX-License-Identifier: MIT */
/* Object commands: those that CMD_READ or CMD_WRITE marks in commands.def. Their handlers run inside of an operation on the
 * segment (lib/shm/op.h), which object_run() begins with the shards of the command's keys.
 *
 * What such a handler may count on, and must keep to:
 *   - It may be run again from the beginning: what it had replied is dropped first. So it changes nothing but the segment
 *     and its reply.
 *   - It returns 0 with its reply written; or a negative errno: then nothing of what it did stays, its reply is dropped, and
 *     object_error() says why. The errnos of lib/shm can simply be passed on.
 *   - When it must wait it blocks the connection as the last thing it does and returns 0, with nothing changed and nothing
 *     replied: only if c->exec is false.
 *   - A mistake of the client's that has no errno is replied to as an error, with 0, before anything is changed.
 *   - CMD_OWN_OPS: it is not inside of an operation, but begins its own with op_read() and op_run(), and is still run again
 *     if it returns -EAGAIN. Between MULTI and EXEC there is one around it all the same. */
#pragma once

#include "daemon/serve/conn.h"
#include "lib/shm/keys.h"
#include "lib/shm/op.h"

/* Carries the command out and replies. 0, or -EAGAIN: locks are busy, nothing is done or said; -EINPROGRESS: it waits, and its
 * words are to be taken again (wait_sync.c). */
int object_run(struct conn *c, int id, const struct resp_arg *argv, uint32_t argc);
/* The same inside of an operation that holds all shards, for EXEC: 0, or a negative errno because of which EXEC must fail
 * as a whole. A command that fails by itself has replied and left no trace. */
int object_run_inside(struct conn *c, int id, const struct resp_arg *argv, uint32_t argc);
/* The shards an object command needs; OP_ALL if its words do not tell. */
uint64_t object_shards(struct conn *c, int id, const struct resp_arg *argv, uint32_t argc);
/* After -EAGAIN: waits an instant and says whether to try once more; *tries begins with 0. */
bool object_again(int *tries);
/* Replies why a command failed. */
void object_error(struct conn *c, int r);
/* The words of it; NULL for what the client cannot be told (a damaged segment and the like). */
const char *object_error_text(int r);

/* Calls fn for the place of each key among the words, in order. False: they cannot be told from these words. */
bool object_keys(int id, const struct resp_arg *argv, uint32_t argc,
                 void (*fn)(void *arg, uint32_t i), void *arg);

/* The index of a database: 0. Replies and returns false for anything else. */
bool object_db(struct conn *c, const struct resp_arg *a);

static inline struct shm *object_shm(struct conn *c) {
    return &c->serve->d->shm;
}
/* For INFO: a reading command has looked for a key. */
static inline void object_looked(struct conn *c, bool found) {
    c->hits += found;
    c->misses += !found;
}

static inline struct key_name object_name(struct conn *c, const struct resp_arg *a) {
    return key_name(object_shm(c), a->data, a->len);
}
