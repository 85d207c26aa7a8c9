/* SPDX-License-Identifier: MIT */
/* A chained hash table that doubles. Keys come from clients, who could choose such that collide, so
 * the hash begins with a number of the process's own.
 *
 * Fails: NULL without memory; then nothing has changed. */
#include "daemon/schedule/names.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"

enum { SIZE_FIRST = 64 };

static uint64_t hash_of(enum name_kind kind, uint32_t pool, const struct task_bytes *key) {
    static uint64_t seed;
    if (!seed) {
        seed = clock_now() * UINT64_C(0x9e3779b97f4a7c15) | 1;
    }
    uint64_t h = seed ^ ((uint64_t)kind << 32 | pool);
    for (size_t i = 0; i < key->len; i++) {
        h = (h ^ ((const uint8_t *)key->data)[i]) * UINT64_C(0xff51afd7ed558ccd);
        h ^= h >> 32;
    }
    return h;
}

static struct name *find(const struct names *t, uint64_t hash, enum name_kind kind, uint32_t pool,
                         const struct task_bytes *key) {
    struct name *n = t->size ? t->table[hash & (t->size - 1)] : NULL;
    while (n && (n->hash != hash || n->kind != kind || n->pool != pool || n->len != key->len ||
                 memcmp(n->key, key->data, key->len) != 0)) {
        n = n->next;
    }
    return n;
}

struct name *names_find(const struct names *t, enum name_kind kind, uint32_t pool,
                        const struct task_bytes *key) {
    return find(t, hash_of(kind, pool, key), kind, pool, key);
}

static bool grow(struct names *t) {
    size_t size = t->size ? t->size * 2 : SIZE_FIRST;
    struct name **table = calloc(size, sizeof(*table));
    if (!table) {
        return t->size > 0; /* longer chains will do */
    }
    for (size_t i = 0; i < t->size; i++) {
        for (struct name *n = t->table[i], *next; n; n = next) {
            next = n->next;
            n->next = table[n->hash & (size - 1)];
            table[n->hash & (size - 1)] = n;
        }
    }
    free(t->table);
    t->table = table;
    t->size = size;
    return true;
}

struct name *names_hold(struct names *t, enum name_kind kind, uint32_t pool,
                        const struct task_bytes *key) {
    uint64_t hash = hash_of(kind, pool, key);
    struct name *n = find(t, hash, kind, pool, key);
    if (!n) {
        if (t->n >= t->size && !grow(t)) {
            return NULL;
        }
        n = calloc(1, sizeof(*n) + key->len);
        if (!n) {
            return NULL;
        }
        n->hash = hash;
        n->kind = kind;
        n->pool = pool;
        n->len = key->len;
        memcpy(n->key, key->data, key->len);
        n->next = t->table[hash & (t->size - 1)];
        t->table[hash & (t->size - 1)] = n;
        t->n++;
    }
    n->refs++;
    return n;
}

void names_drop(struct names *t, struct name *n) {
    assert(n->refs > 0);
    if (--n->refs > 0) {
        return;
    }
    struct name **at = &t->table[n->hash & (t->size - 1)];
    while (*at != n) {
        at = &(*at)->next;
    }
    *at = n->next;
    t->n--;
    heap_deinit(&n->waiting);
    free(n);
}

void names_deinit(struct names *t) {
    assert(t->n == 0);
    free(t->table);
    t->table = NULL;
    t->size = 0;
}
