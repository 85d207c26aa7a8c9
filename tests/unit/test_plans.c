/* SPDX-License-Identifier: MIT */
/* What the schedule is made of: the heap against a sorted list, keys that are held, and the block of a
 * task's policy, whole, cut short and written by anybody. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/policy.h"
#include "daemon/schedule/heap.h"
#include "daemon/schedule/names.h"

/* ---- heap ---- */

enum { N = 3000 };
static bool live[N];

static bool is_live(void *arg, const struct heap_entry *e) {
    (void)arg;
    return live[e->idx];
}

static int by_key(const void *a, const void *b) {
    const struct heap_entry *x = a, *y = b;
    return x->key != y->key ? (x->key < y->key ? -1 : 1) : x->id < y->id ? -1 : x->id > y->id;
}

Test(plans, the_heap_gives_what_lives_in_order) {
    static struct heap_entry sorted[N];
    struct heap h;
    uint32_t n = 0;
    srand(1);
    heap_init(&h, is_live, NULL);
    cr_assert_null(heap_first(&h));
    cr_assert_eq(heap_room(&h, N), 0);
    for (uint32_t i = 0; i < N; i++) {
        const struct heap_entry e = {.key = rand() % 500 - 250, .id = i + 1, .idx = i};
        live[i] = true;
        sorted[i] = e;
        heap_push(&h, &e);
    }
    for (uint32_t i = 0; i < N; i++) {
        live[i] = rand() % 3 != 0;
    }
    qsort(sorted, N, sizeof(sorted[0]), by_key);
    for (const struct heap_entry *e; (e = heap_first(&h)); heap_pop(&h), n++) {
        while (!live[sorted[n].idx]) {
            memmove(&sorted[n], &sorted[n + 1], (N - n - 1) * sizeof(sorted[0]));
        }
        cr_assert_eq(e->id, sorted[n].id, "place %u", n);
    }
    for (uint32_t i = 0; i < N; i++) {
        n -= live[i];
    }
    cr_assert_eq(n, 0);
    heap_deinit(&h);
}

/* Entries that nobody wants any more are thrown out, whatever comes: room for ten is enough. */
Test(plans, dead_entries_take_no_room) {
    struct heap h;
    heap_init(&h, is_live, NULL);
    cr_assert_eq(heap_room(&h, 10), 0);
    for (uint32_t i = 0; i < 100000; i++) {
        uint32_t at = i % 20;
        live[at] = true;
        live[(at + 10) % 20] = false;
        const struct heap_entry e = {.key = 100000 - (int64_t)i, .id = i + 1, .idx = at};
        heap_push(&h, &e);
    }
    cr_assert_leq(h.n, h.cap);
    cr_assert_leq(h.cap, 64);
    heap_deinit(&h);
}

/* ---- names ---- */

Test(plans, names_are_found_by_kind_and_pool) {
    enum { KEYS = 5000 };
    static struct name *held[KEYS];
    struct names t = {0};
    char text[16];
    for (int i = 0; i < KEYS; i++) {
        struct task_bytes key = {text, (size_t)snprintf(text, sizeof(text), "%d", i % 2500)};
        cr_assert_null(names_find(&t, i < 2500 ? NAME_LIMIT : NAME_UNIQUE, 1, &key));
        held[i] = names_hold(&t, i < 2500 ? NAME_LIMIT : NAME_UNIQUE, 1, &key);
        cr_assert_eq(names_hold(&t, held[i]->kind, 1, &key), held[i]);
        cr_assert_eq(held[i]->refs, 2);
        cr_assert_null(names_find(&t, held[i]->kind, 2, &key));
    }
    cr_assert_eq(t.n, KEYS);
    for (int i = 0; i < KEYS; i++) {
        struct task_bytes key = {text, (size_t)snprintf(text, sizeof(text), "%d", i % 2500)};
        names_drop(&t, held[i]);
        cr_assert_eq(names_find(&t, held[i]->kind, 1, &key), held[i]);
        names_drop(&t, held[i]);
        cr_assert_null(names_find(&t, i < 2500 ? NAME_LIMIT : NAME_UNIQUE, 1, &key));
    }
    cr_assert_eq(t.n, 0);
    names_deinit(&t);
}

/* ---- policy ---- */

static const struct pool_config pool = {
    .retries = 7, .retry_kinds = 3, .backoff_ms = 11, .backoff_max_ms = 12};

/* Every field, each with a value of its own. */
static size_t whole_block(uint8_t out[POLICY_BLOCK_MAX]) {
    static char keys[POLICY_FIELDS][POLICY_KEY_MAX];
    struct policy p = {.set = (UINT32_C(1) << POLICY_FIELDS) - 1};
    for (uint32_t f = 0; f < POLICY_FIELDS; f++) {
        uint64_t *number = policy_number(&p, f);
        memset(keys[f], 'a' + (int)f, sizeof(keys[f]));
        if (number) {
            *number = 1000 + f;
        } else {
            *policy_key(&p, f) = (struct task_bytes){keys[f], f % 2 ? POLICY_KEY_MAX : f};
        }
    }
    return policy_put(&p, out);
}

Test(plans, a_policy_is_read_as_it_was_written) {
    uint8_t block[POLICY_BLOCK_MAX];
    size_t len = whole_block(block);
    struct policy p;
    cr_assert(len > 8 && len <= sizeof(block));
    policy_get(&(struct task_bytes){block, len}, &pool, &p);
    cr_assert_eq(p.set, (UINT32_C(1) << POLICY_FIELDS) - 1);
    for (uint32_t f = 0; f < POLICY_FIELDS; f++) {
        const uint64_t *number = policy_number(&p, f);
        const struct task_bytes *key = policy_key(&p, f);
        cr_assert((number != NULL) != (key != NULL), "field %u", f);
        if (number) {
            cr_assert_eq(*number, 1000 + f);
        } else {
            cr_assert_eq(key->len, f % 2 ? POLICY_KEY_MAX : f);
            cr_assert(key->len == 0 || ((const char *)key->data)[key->len - 1] == 'a' + (int)f);
        }
    }
    cr_assert_eq(policy_put(&(struct policy){0}, block), 0);
}

/* Asserts that it counts as none: all is the pool's. */
static void expect_none(const uint8_t *block, size_t len) {
    /* a copy that ends where the block does, for the sanitizers and valgrind */
    uint8_t *copy = malloc(len ? len : 1);
    struct policy p;
    if (len) {
        memcpy(copy, block, len);
    }
    policy_get(&(struct task_bytes){copy, len}, &pool, &p);
    cr_assert_eq(p.set, 0, "of %zu bytes", len);
    cr_assert(p.retries == 7 && p.retry_on == 3 && p.backoff_ms == 11 && p.backoff_max_ms == 12);
    cr_assert_eq(p.limit_key.len, 0);
    free(copy);
}

Test(plans, a_block_that_makes_no_sense_is_none) {
    uint8_t block[POLICY_BLOCK_MAX + 1];
    size_t len = whole_block(block);
    for (size_t n = 0; n < len; n++) {
        expect_none(block, n);
    }
    block[len] = 0;
    expect_none(block, len + 1);
    block[0] ^= 3; /* another version */
    expect_none(block, len);
    block[0] ^= 3;
    for (uint32_t f = POLICY_FIELDS; f < 32; f++) { /* fields that there are not */
        block[4 + f / 8] ^= (uint8_t)(1 << f % 8);
        expect_none(block, len);
        block[4 + f / 8] ^= (uint8_t)(1 << f % 8);
    }
}

/* Whatever bytes there are: what is read lies within the block, and the keys are as long as they may. */
Test(plans, hostile_blocks) {
    uint8_t whole[POLICY_BLOCK_MAX];
    size_t most = whole_block(whole);
    srand(2);
    for (int i = 0; i < 100000; i++) {
        size_t len = i % 2 ? most : (size_t)rand() % most;
        uint8_t *block = malloc(len ? len : 1);
        struct policy p;
        memcpy(block, whole, len);
        for (int k = 0; len && k < 4; k++) {
            block[(size_t)rand() % (k ? len : len < 40 ? len : 40)] = (uint8_t)rand();
        }
        policy_get(&(struct task_bytes){block, len}, &pool, &p);
        for (uint32_t f = 0; f < POLICY_FIELDS; f++) {
            const struct task_bytes *key = policy_key(&p, f);
            if (policy_has(&p, f) && key) {
                const uint8_t *data = key->data;
                cr_assert(key->len <= POLICY_KEY_MAX && data >= block &&
                          data + key->len <= block + len);
            }
        }
        free(block);
    }
}
