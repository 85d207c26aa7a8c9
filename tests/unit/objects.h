/* SPDX-License-Identifier: MIT */
/* What the tests of shared objects have in common: a segment, checks of all of it, chance, and one operation as a function
 * with arguments. */
#pragma once

#include <criterion/criterion.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/shm/check.h"
#include "lib/shm/internal.h"
#include "lib/shm/keys.h"
#include "lib/shm/op.h"
#include "lib/shm/slot.h"

static inline struct shm new_segment(uint64_t size) {
    struct shm s;
    uint32_t slot, gen;
    cr_assert_eq(shm_create(&s, &(struct shm_params){.size = size, .slots = 8, .tasks = 64}), 0);
    cr_assert_eq(slot_reserve(&s, 0, &slot, &gen), 0);
    cr_assert_eq(slot_attach(&s, slot, gen), 0);
    return s;
}

static inline struct shm_report checked(struct shm *s) {
    struct shm_report r;
    cr_assert_eq(shm_check(s, &r), 0);
    cr_assert_eq(r.errors, 0, "%s", r.first);
    return r;
}

/* What was deleted is taken apart and given back, to the last block. */
static inline void tidied(struct shm *s) {
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        int r;
        while ((r = op_tidy(s, i)) == 1) {
        }
        cr_assert_eq(r, 0);
    }
}

static inline uint64_t blocks_left(struct shm *s) {
    tidied(s);
    return checked(s).blocks - (get(&s->mine->undo_more) != 0);
}

static uint64_t seed = 1;

static inline uint64_t rnd(uint64_t below) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % below;
}

/* ---- one operation, as a function with arguments ---- */

struct call {
    struct key_name name;
    int (*fn)(struct shm *s, struct call *c);
    bool left;
    uint64_t index, n;
    const void *data;
    size_t len;
    struct task_bytes got;
    uint8_t copy[256];
};

static inline int run_call(struct shm *s, void *arg) {
    struct call *c = arg;
    return c->fn(s, c);
}

static inline int call(struct shm *s, struct call *c, int (*fn)(struct shm *s, struct call *c)) {
    c->fn = fn;
    return op_run(s, key_shard_bit(&c->name), run_call, c);
}

/* Several calls as one operation, which then fails on purpose when `spoil`. */
struct batch {
    uint64_t shards;
    int (*each)(struct shm *s, void *arg, int i);
    void *arg;
    int n;
    bool spoil;
};

static inline int run_batch(struct shm *s, void *arg) {
    const struct batch *b = arg;
    for (int i = 0; i < b->n; i++) {
        int r = b->each(s, b->arg, i);
        if (r < 0) {
            return r;
        }
    }
    return b->spoil ? -ECANCELED : 0;
}
