/* SPDX-License-Identifier: MIT */
/* Managers: scopes that keys belong to by their names. A name that begins with a manager's prefix, `@` + 16 lower-case hex
 * digits + `:`, belongs to it, whoever makes the key and whichever way in. When the manager ends, all its keys are gone for
 * everybody at that very moment, as if they had expired; no key can be made under its prefix ever after; the daemon gives the
 * memory back bit by bit. Any other name is ordinary, and costs a comparison or two. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/shm/layout.h"
#include "lib/shm/segment.h"

enum { MANAGER_PREFIX = 18 }; /* bytes */

/* The manager that a name belongs to, whether or not there (still) is one; 0: an ordinary name. */
uint64_t manager_parse(const char *name, size_t len);
static inline uint64_t manager_of(const void *name, size_t len) {
    const char *t = name;
    return len >= MANAGER_PREFIX && t[0] == '@' ? manager_parse(t, len) : 0;
}
void manager_prefix(uint64_t id, char ret[MANAGER_PREFIX + 1]);

/* Reads. The name belongs to a manager that has ended, or never was. */
bool manager_is_over(const struct shm *s, uint64_t id);
static inline bool manager_name_is_over(const struct shm *s, const void *name, size_t len) {
    uint64_t id = manager_of(name, len);
    return id && manager_is_over(s, id);
}

/* ---- for the daemon alone ---- */
/* -ENOSPC: as many are open, or ended with keys not yet swept, as the segment has room for. */
int manager_open(struct shm *s, uint64_t *ret_id);
/* Ends a manager; waits for nothing. Those who wait for one of its lists are woken. -ENOENT: it is not open. */
int manager_end(struct shm *s, uint64_t id);
/* Ends all. True: there are ended ones to be swept. */
bool manager_end_all(struct shm *s);
/* Its keys; approximate while others work. */
uint64_t manager_keys(const struct shm *s, uint64_t id);

/* Managers that had ended when a pass over the shards began. Once keys_expire_some() has gone through every shard, with its
 * lock held, nothing can be left of them and nobody can be about to add to them: their places are free for others. */
struct manager_pass {
    uint64_t ended[SHM_MANAGERS / 64];
    bool missed; /* a shard could not be had */
};
void manager_pass_begin(struct shm *s, struct manager_pass *ret);
/* True: some could not be freed; another pass is needed. */
bool manager_pass_end(struct shm *s, const struct manager_pass *p);

/* ---- for keys.c ---- */
/* Part of the transaction under way, with the shard's lock held: a key with this name has been made (or removed). -ENOBUFS. */
int manager_count(struct shm *s, unsigned shard, const void *name, size_t len, bool made);
/* All keys of a shard have been removed. -ENOBUFS. */
int manager_count_none(struct shm *s, unsigned shard);
/* Keys of ended managers in a shard, or in all. */
uint64_t manager_over_in(const struct shm *s, unsigned shard);
uint64_t manager_over(const struct shm *s);
