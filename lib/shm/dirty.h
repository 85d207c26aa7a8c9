/* SPDX-License-Identifier: MIT */
/* What of the durable keys has changed and is not on the disk yet. A key is durable by its name, so every process knows without
 * asking: it begins with "durable:". The daemon alone takes and clears what is noted (daemon/durable/objects.c). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lib/shm/keys.h"

#define DURABLE_PREFIX "durable:" /* one word: it costs others one comparison */

static inline bool dirty_is_durable(const struct key_name *n) {
    return n->word.len >= sizeof(DURABLE_PREFIX) - 1 &&
           memcmp(n->word.data, DURABLE_PREFIX, sizeof(DURABLE_PREFIX) - 1) == 0;
}

/* May durable keys be changed? In the header; the daemon's to set. */
enum dirty_state { DIRTY_NO_DATABASE, DIRTY_READY, DIRTY_TROUBLE };
void dirty_set_state(struct shm *s, enum dirty_state state);

/* ---- inside of an operation that holds the key's shard, before or after the change ---- */
/* 0; -ENODEV: there is no database; -EIO: it cannot be written now; errors as hash_add(). Keys that are not durable: 0. */
/* The key's type, expiry and value, and where a list begins and ends; whole: it was made, removed or renamed, or every
 * part of it may be another. */
int dirty_key_more(struct shm *s, const struct key_name *name, bool whole);
int dirty_field_more(struct shm *s, const struct key_name *name, const void *field, size_t len);
/* Element at a position; the first element of a list is at its `base`. */
int dirty_item_more(struct shm *s, const struct key_name *name, int64_t position);
static inline int dirty_key(struct shm *s, const struct key_name *name, bool whole) {
    return dirty_is_durable(name) ? dirty_key_more(s, name, whole) : 0;
}
static inline int dirty_field(struct shm *s, const struct key_name *name, const void *field,
                              size_t len) {
    return dirty_is_durable(name) ? dirty_field_more(s, name, field, len) : 0;
}

/* ---- the daemon's side ---- */
enum dirty_kind { DIRTY_KEY, DIRTY_FIELD, DIRTY_ITEM };
struct dirty {
    enum dirty_kind kind;
    bool whole; /* DIRTY_KEY */
    struct key_name name;
    struct task_bytes field; /* DIRTY_FIELD */
    int64_t position;        /* DIRTY_ITEM */
};
typedef int dirty_visit(void *arg, struct shm *s, const struct dirty *d);

/* Durable keys in all shards, or in one. */
uint64_t dirty_keys(const struct shm *s);
uint64_t dirty_keys_in(const struct shm *s, unsigned shard);
/* Shards in which something may be noted. */
uint64_t dirty_shards(const struct shm *s);
/* At the start: looks at all shards. */
void dirty_look(struct shm *s);
/* As one operation: meets all that is noted in the shards, and sets it apart, so that what is noted from now on is not
 * cleared by dirty_clear(). `begin` is called first, once more when the operation is run again. Returns how much was met, or what
 * fn returned, or as op_run(): nothing is set apart then. */
int dirty_take(struct shm *s, uint64_t shards, void (*begin)(void *arg), dirty_visit *fn,
               void *arg);
/* What was set apart is on the disk. 0; 1: more is to be cleared; -EAGAIN. */
int dirty_clear(struct shm *s, unsigned shard);

/* ---- waiting for the disk ---- */
/* Drains begun and ended are counted by the daemon. */
void dirty_say(struct shm *s, uint32_t begun, uint32_t done);
/* Does somebody wait for one? dirty_asked(): it begins now. */
bool dirty_is_asked(const struct shm *s);
void dirty_asked(struct shm *s);
/* The drain that is to have what has been committed so far: for dirty_sync(). */
uint32_t dirty_next(const struct shm *s);
/* Waits until it is on the disk, at most `ms` (< 0: for ever). 0, -ETIMEDOUT, -ENODEV, -EIO, -EINTR: a signal handler has run. */
int dirty_sync(struct shm *s, uint32_t drain, int64_t ms);
/* A new daemon goes on counting where the former one was, and begins a drain for those who may wait. */
uint32_t dirty_go_on(struct shm *s);
