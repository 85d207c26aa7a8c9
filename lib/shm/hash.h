/* SPDX-License-Identifier: MIT */
/* Hash tables in the segment: the fields of dicts, and the keys of a shard. Byte strings to byte strings. All changing
 * verbs run inside an operation (op.h) that holds the shard's lock; looking verbs also without, inside of op_read().
 * No verb touches more than a bounded number of entries. Errors common to the changing verbs: -ENOMEM, -ENOBUFS (tx_need),
 * -EAGAIN (allocator's locks), -EBADMSG (damaged by another process). */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lib/shm/layout.h"
#include "lib/shm/segment.h"

struct hash_word {
    const void *data;
    size_t len;
    uint64_t hash;
};

static inline uint64_t hash_mix(uint64_t a, uint64_t b) {
    unsigned __int128 r = (unsigned __int128)a * b;
    return (uint64_t)r ^ (uint64_t)(r >> 64);
}

static inline uint64_t hash_load8(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static inline uint64_t hash_load4(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* Multiply-and-fold over 16 bytes at a time, keyed by the segment's random seed; after the idea of wyhash (W. Yi, public
 * domain). Every process of a segment must agree on it. */
static inline uint64_t hash_bytes(const uint8_t *p, size_t n, uint64_t seed) {
    uint64_t h = seed ^ (n * UINT64_C(0x9e3779b97f4a7c15)), a = 0, b = 0;
    for (; n > 16; p += 16, n -= 16) {
        h = hash_mix(hash_load8(p) ^ UINT64_C(0xa0761d6478bd642f) ^ h,
                     hash_load8(p + 8) ^ UINT64_C(0xe7037ed1a0b428db));
    }
    if (n >= 8) {
        a = hash_load8(p);
        b = hash_load8(p + n - 8);
    } else if (n >= 4) {
        a = hash_load4(p);
        b = hash_load4(p + n - 4);
    } else if (n) {
        a = (uint64_t)p[0] << 16 | (uint64_t)p[n / 2] << 8 | p[n - 1];
    }
    return hash_mix(a ^ UINT64_C(0x8ebc6af09c88c6e3) ^ h,
                    hash_mix(b ^ UINT64_C(0x589965cc75374cc3) ^ h, UINT64_C(0x1d8e4e27c47d124f)));
}

/* Computes the hash (keyed with the segment's seed). */
static inline struct hash_word hash_word(const struct shm *s, const void *data, size_t len) {
    return (struct hash_word){data, len, hash_bytes((const uint8_t *)data, len, s->seed)};
}

/* A node that was found: where it is and which word refers to it. Valid until the table changes. */
struct hash_ref {
    struct shm_node *node;
    _Atomic uint64_t *slot;
};

/* 0, -ENOENT, or -ESTALE: what is there makes no sense (being changed, or damaged). */
int hash_find(const struct shm *s, const struct shm_hash *h, const struct hash_word *key,
              struct hash_ref *ret);

/* The value, in the segment, of a key; errors as hash_find(). */
int hash_get(const struct shm *s, const struct shm_hash *h, const void *key, size_t key_len,
             const void **ret, size_t *ret_len);

/* The node that a slot refers to, if it is there and of this key; else NULL. For those who remember where a key was. */
struct shm_node *hash_recall(const struct shm *s, const _Atomic uint64_t *slot,
                             const struct hash_word *key);

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
 * nothing. Afterwards it can be used anew. node (NULL: none) is called for each entry before, and may change three words. */
int hash_take_apart(struct shm *s, unsigned shard, struct shm_hash *h, int budget, hash_visit *node,
                    void *arg);

/* Every block the table owns, for check.c: fn(arg, offset, bytes). Bounded walks. */
int hash_blocks(const struct shm *s, const struct shm_hash *h,
                int (*fn)(void *arg, uint64_t off, uint64_t bytes), hash_visit *node, void *arg);
