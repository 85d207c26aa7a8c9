/* SPDX-License-Identifier: MIT */
/* Managers. The table in the segment has a word for each, which holds the id while the manager is open, the id with the bit
 * OVER while it has ended and keys of it may be left, and 0 when the place is free. So ending one is one store, at which all
 * its keys vanish, and whether a key lives is one comparison. The id is what the prefix says: the place in the table, a
 * number that counts the uses of the place, and some random bits, so that nobody meets a manager by mistake.
 *
 * How many keys a manager has is counted by shard, under the shard's lock and in the same transaction as the key. Whoever
 * makes a key holds that lock when it looks at the word, but whoever ends a manager takes none: a key may still be finished
 * just after. It is invisible then, and found by the pass, which takes each lock after the end. Only after such a pass is the
 * place given to another, so a count is always that of one manager.
 *
 * Invariant, for check.c: keys[i] of a place is the number of keys in shard i whose names carry the id in its word.
 *
 * Fails: -ENOSPC, -ENOENT, -ENOBUFS (the undo log is too small; op_run() sees to it). */
#include "lib/shm/manager.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

#include "lib/shm/internal.h"
#include "lib/shm/lock.h"
#include "lib/shm/op.h"

#define OVER (UINT64_C(1) << 63)

enum { INDEX_BITS = 10, RANDOM_BITS = 22, USES_MASK = 0x7fffffff };
_Static_assert(SHM_MANAGERS == 1 << INDEX_BITS, "the id has room for the index");

static uint32_t index_of(uint64_t id) {
    return id & (SHM_MANAGERS - 1);
}

uint64_t manager_parse(const char *name, size_t len) {
    uint64_t id = 0;
    if (len < MANAGER_PREFIX || name[MANAGER_PREFIX - 1] != ':') {
        return 0;
    }
    for (int i = 1; i < MANAGER_PREFIX - 1; i++) {
        unsigned c = (unsigned char)name[i], digit = c - '0';
        if (digit > 9) {
            digit = c - 'a' + 10;
            if (c < 'a' || c > 'f') {
                return 0;
            }
        }
        id = id << 4 | digit;
    }
    return id ? id : OVER; /* of nobody, and yet not ordinary */
}

void manager_prefix(uint64_t id, char ret[MANAGER_PREFIX + 1]) {
    snprintf(ret, MANAGER_PREFIX + 1, "@%016llx:", (unsigned long long)id);
}

bool manager_is_over(const struct shm *s, uint64_t id) {
    uint32_t i = index_of(id);
    return (id & OVER) || i >= s->n_managers || get(&s->managers[i].word) != id;
}

/* Places from here on have never been used: what they hold need not be looked at. */
static uint32_t used_places(const struct shm *s) {
    uint64_t n = get(&s->head->managers_used);
    return n < s->n_managers ? (uint32_t)n : s->n_managers;
}

static int hold_all(struct shm *s, void *arg) {
    (void)s;
    (void)arg;
    return 0;
}

/* Frees the places of ended managers that have no keys, at once rather than after the next pass. */
static void reclaim(struct shm *s) {
    struct manager_pass pass;
    manager_pass_begin(s, &pass);
    pass.missed = op_run(s, OP_ALL, hold_all, NULL) != 0;
    manager_pass_end(s, &pass);
}

static uint32_t free_place(const struct shm *s) {
    uint32_t i = 0, used = used_places(s);
    while (i < used && get(&s->managers[i].word)) {
        i++;
    }
    return i;
}

int manager_open(struct shm *s, uint64_t *ret_id) {
    uint32_t i = free_place(s), random = 0;
    if (i == s->n_managers) {
        reclaim(s);
        i = free_place(s);
    }
    if (i == s->n_managers) {
        return -ENOSPC;
    }
    struct shm_manager *m = &s->managers[i];
    uint64_t uses = (get(&m->uses) + 1) & USES_MASK;
    uses = uses ? uses : 1;
    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random)) {
        random = (uint32_t)(clock_now() >> 4);
    }
    uint64_t id = uses << 32 | (uint64_t)(random >> (32 - RANDOM_BITS)) << INDEX_BITS | i;
    put(&m->uses, uses);
    if (i == used_places(s)) {
        put(&s->head->managers_used, i + 1);
    }
    atomic_store_explicit(&m->word, id, memory_order_release);
    *ret_id = id;
    return 0;
}

/* Whoever waits for a list looks again, and finds that it will never come. */
static void wake_all(struct shm *s) {
    atomic_thread_fence(memory_order_seq_cst);
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        op_wake(&s->shards[i]);
    }
    uint64_t watched = get(&s->head->watched);
    if (watched) {
        atomic_fetch_or(&s->head->touched, watched);
        shm_ring_daemon(s);
    }
}

int manager_end(struct shm *s, uint64_t id) {
    if (manager_is_over(s, id)) {
        return -ENOENT;
    }
    atomic_store(&s->managers[index_of(id)].word, id | OVER);
    wake_all(s);
    return 0;
}

bool manager_end_all(struct shm *s) {
    bool some = false;
    for (uint32_t i = 0; i < used_places(s); i++) {
        uint64_t word = get(&s->managers[i].word);
        some |= word != 0;
        if (word && !(word & OVER)) {
            atomic_store(&s->managers[i].word, word | OVER);
        }
    }
    if (some) {
        wake_all(s);
    }
    return some;
}

static uint64_t keys_at(const struct shm *s, uint32_t i) {
    uint64_t n = 0;
    for (unsigned k = 0; k < SHM_SHARDS; k++) {
        n += get(&s->managers[i].keys[k]);
    }
    return n;
}

uint64_t manager_keys(const struct shm *s, uint64_t id) {
    return manager_is_over(s, id) ? 0 : keys_at(s, index_of(id));
}

/* ---- sweeping ---- */

void manager_pass_begin(struct shm *s, struct manager_pass *ret) {
    *ret = (struct manager_pass){0};
    for (uint32_t i = 0; i < used_places(s); i++) {
        ret->ended[i / 64] |= (get(&s->managers[i].word) >> 63) << (i % 64);
    }
}

bool manager_pass_end(struct shm *s, const struct manager_pass *p) {
    bool left = false;
    for (uint32_t i = 0; i < used_places(s); i++) {
        if (!(p->ended[i / 64] >> (i % 64) & 1)) {
            continue;
        }
        if (p->missed || keys_at(s, i)) {
            left = true;
        } else {
            atomic_store_explicit(&s->managers[i].word, 0, memory_order_release);
        }
    }
    return left;
}

uint64_t manager_over_in(const struct shm *s, unsigned shard) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < used_places(s); i++) {
        const struct shm_manager *m = &s->managers[i];
        n += get(&m->word) & OVER ? get(&m->keys[shard]) : 0;
    }
    return n;
}

uint64_t manager_over(const struct shm *s) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < used_places(s); i++) {
        n += get(&s->managers[i].word) & OVER ? keys_at(s, i) : 0;
    }
    return n;
}

/* ---- counting ---- */

int manager_count(struct shm *s, unsigned shard, const void *name, size_t len, bool made) {
    uint64_t id = manager_of(name, len);
    uint32_t i = index_of(id);
    if (!id || i >= s->n_managers) {
        return 0;
    }
    _Atomic uint64_t *keys = &s->managers[i].keys[shard];
    int r = tx_need(s, 2);
    if (r == 0 && (made || get(keys))) { /* below 0 only somebody's damage could lead */
        tx_set(s, keys, get(keys) + (made ? 1 : UINT64_MAX));
    }
    return r;
}

int manager_count_none(struct shm *s, unsigned shard) {
    for (uint32_t i = 0; i < used_places(s); i++) {
        _Atomic uint64_t *keys = &s->managers[i].keys[shard];
        int r = get(keys) ? tx_need(s, 2) : 0;
        if (r) {
            return r;
        }
        if (get(keys)) {
            tx_set(s, keys, 0);
        }
    }
    return 0;
}
