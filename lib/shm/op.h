/* SPDX-License-Identifier: MIT */
/* Operations on the shared objects: a set of shards is locked, a function changes words, and all of it is committed or
 * nothing. Operations nest: inside of one, another just runs as a part of it, which is how MULTI and lists of operations
 * are all or nothing too (the outer one locks every shard they need).
 *
 * Lock order: shards ascending, then one arena, then the chunk lock. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/shm/segment.h"

#define OP_ALL UINT64_MAX

/* Runs fn with the shards locked. fn returns 0 or a positive value (committed; op_run returns it), or a negative one
 * (everything is as before; op_run returns it), but for -EINPROGRESS, which is committed too: it stands in line (sync.h). It may be run again from the beginning when the undo log was too small,
 * so it must not keep anything of an earlier run. -EAGAIN: a lock is busy beyond the handle's patience.
 * -ENOMEM: ... though all that was deleted has been given back, and some of what has expired. While deleted things are left and
 * patience has run out it is -EAGAIN instead. -EDQUOT: it took more than the limit of an account (shm.over) lets it. Nested: fn's
 * shards must be among those held; when it fails, what it changed is undone and the outer operation may go on. */
int op_run(struct shm *s, uint64_t shards, int (*fn)(struct shm *s, void *arg), void *arg);

/* ---- for the functions that run inside ---- */
/* Before the first change under a shard's lock: readers look again from now on. */
void op_changes(struct shm *s, unsigned shard);
/* A block nothing refers to any more as of this transaction; it is given back after the commit. Three logged words. */
void op_free(struct shm *s, unsigned shard, uint64_t off);
/* Bytes outside of what is in use need no log when they are written, unless they were in use when the operation began (a
 * roll-back brings them back) or somebody was given them (list_pop). Who takes bytes out of use says so, and who wants to
 * write without a log asks. */
void op_vacate(struct shm *s, const void *at, uint64_t len);
bool op_is_spare(const struct shm *s, const void *at, uint64_t len);

/* A place in an operation to which it can be undone. */
struct op_mark {
    uint32_t entries, pins;
    struct shm_vacated vacated;
};
void op_mark(const struct shm *s, struct op_mark *ret);
void op_undo(struct shm *s, const struct op_mark *mark);

/* Wakes those who sleep on the shard's bell. They have raised its flag `waiters` before they looked for the last time, under
 * the lock, and raise it again if they go on sleeping. */
void op_wake(struct shm_shard *d);
/* The same whatever the flag says: one that died may have taken it down and not come to wake. */
void op_wake_for_dead(struct shm_shard *d);

/* Runs a bounded piece of what is left to do in a shard (blocks to give back, objects to take apart). 1: there is more,
 * 0: done, -EAGAIN. The daemon calls it for idle shards; every operation does a little by itself. */
int op_tidy(struct shm *s, unsigned shard);

/* What waits to be done in the keyspace when nobody works on it; the larger, the sooner. */
enum op_upkeep {
    OP_IDLE,
    OP_EXPIRY, /* keys will expire */
    OP_UNTIDY, /* blocks to be given back, objects to be taken apart: op_tidy() */
};
enum op_upkeep op_upkeep_shard(struct shm *s, unsigned shard);
/* The most urgent that any process has left behind since the daemon last said what it knows of; the daemon's bell rings
 * when it becomes more. */
enum op_upkeep op_upkeep(const struct shm *s);
/* The daemon has looked: says what it will see to. Returns it, or more if more is there by now. */
enum op_upkeep op_upkeep_known(struct shm *s, enum op_upkeep known);

/* ---- the daemon's clients who wait for keys ---- */
/* Commits that touch these shards are noted from now on, and ring the daemon. Called inside of an operation that holds a
 * shard, it misses no later commit there. */
void op_watch(struct shm *s, uint64_t shards);
/* Watched shards that were touched since the last call. */
uint64_t op_touched(struct shm *s);
bool op_any_touched(const struct shm *s);

/* ---- readers without a lock ---- */
/* Calls fn until it ran without a change in between; after some tries under the lock. fn copies out what it needs, bounds-
 * checks every offset and length, and returns -ESTALE when what it finds makes no sense. Returns what fn returned;
 * -EAGAIN as op_run; -EBADMSG: it made no sense under the lock either. */
int op_read(struct shm *s, unsigned shard, int (*fn)(struct shm *s, void *arg), void *arg);
