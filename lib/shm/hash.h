/* SPDX-License-Identifier: MIT */
/* Hash tables in the segment: the fields of dicts, and the keys of a shard. Byte strings to byte strings. All changing
 * verbs run inside an operation (op.h) that holds the shard's lock; looking verbs also without, inside of op_read().
 * No verb touches more than a bounded number of entries. Errors common to the changing verbs: -ENOMEM, -ENOBUFS (tx_need),
 * -EAGAIN (allocator's locks), -EBADMSG (damaged by another process). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/shm/layout.h"
#include "lib/shm/segment.h"

struct hash_word {
    const void *data;
    size_t len;
    uint64_t hash;
};
/* Computes the hash (keyed with the segment's seed). */
struct hash_word hash_word(const struct shm *s, const void *data, size_t len);

/* A node that was found: where it is and which word refers to it. Valid until the table changes. */
struct hash_ref {
    struct shm_node *node;
    _Atomic uint64_t *slot;
};

/* 0, -ENOENT, or -ESTALE: what is there makes no sense (being changed, or damaged). */
int hash_find(const struct shm *s, const struct shm_hash *h, const struct hash_word *key,
              struct hash_ref *ret);

/* Parts of a node, bounds-checked: NULL when they do not lie in the segment. The value is aligned to 8 bytes. */
const void *hash_key(const struct shm *s, const struct shm_node *n, size_t *ret_len);
void *hash_value(const struct shm *s, const struct shm_node *n, size_t *ret_len);

/* Adds a key that is not there; room for `len` bytes of value, copied from `value` unless that is NULL. */
int hash_add(struct shm *s, unsigned shard, struct shm_hash *h, const struct hash_word *key,
             const void *value, size_t len, struct hash_ref *ret);
/* Replaces the value of a node that was found (in place when the room is the same and small). Updates *ref. */
int hash_set(struct shm *s, unsigned shard, struct shm_hash *h, struct hash_ref *ref,
             const void *value, size_t len);
int hash_del(struct shm *s, unsigned shard, struct shm_hash *h, const struct hash_ref *ref);

/* Calls fn for every entry of one or a few buckets and moves the cursor on; a walk begins and ends with cursor 0 and has
 * then met every entry that was there throughout, some perhaps twice. fn returns 0 to go on. -ESTALE as above. */
typedef int hash_visit(void *arg, struct shm_node *n);
int hash_scan(const struct shm *s, const struct shm_hash *h, uint64_t *cursor, hash_visit *fn,
              void *arg);
/* Some entry, chosen with the random number r; NULL when the table is empty or makes no sense. */
struct shm_node *hash_random(const struct shm *s, const struct shm_hash *h, uint64_t r,
                             struct hash_ref *ret);

/* Gives about `budget` entries and what held them to the garbage. 1: there is more; 0: the table is empty and owns
 * nothing. Afterwards it can be used anew. node (NULL: none) is called for each entry before, and may change two words. */
int hash_take_apart(struct shm *s, unsigned shard, struct shm_hash *h, int budget, hash_visit *node,
                    void *arg);

/* Every block the table owns, for check.c: fn(arg, offset, bytes). Bounded walks. */
int hash_blocks(const struct shm *s, const struct shm_hash *h,
                int (*fn)(void *arg, uint64_t off, uint64_t bytes), hash_visit *node, void *arg);
