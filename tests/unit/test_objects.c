/* SPDX-License-Identifier: MIT */
/* Shared objects against plain models: lists, dicts, keys, values, and the operations around them. The segment is checked
 * block by block all along. What happens on death is in tests/crash. */
#include "lib/shm/op.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/shm/alloc.h"
#include "lib/shm/check.h"
#include "lib/shm/internal.h"
#include "lib/shm/keys.h"
#include "lib/shm/list.h"
#include "lib/shm/lock.h"
#include "lib/shm/slot.h"

TestSuite(objects, .timeout = 60);

static struct shm new_segment(uint64_t size) {
    struct shm s;
    uint32_t slot, gen;
    cr_assert_eq(shm_create(&s, &(struct shm_params){.size = size, .slots = 8, .tasks = 64}), 0);
    cr_assert_eq(slot_reserve(&s, 0, &slot, &gen), 0);
    cr_assert_eq(slot_attach(&s, slot, gen), 0);
    return s;
}

static struct shm_report checked(struct shm *s) {
    struct shm_report r;
    cr_assert_eq(shm_check(s, &r), 0);
    cr_assert_eq(r.errors, 0, "%s", r.first);
    return r;
}

/* What was deleted is taken apart and given back, to the last block. */
static void tidied(struct shm *s) {
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        int r;
        while ((r = op_tidy(s, i)) == 1) {
        }
        cr_assert_eq(r, 0);
    }
}

static uint64_t blocks_left(struct shm *s) {
    tidied(s);
    return checked(s).blocks - (get(&s->mine->undo_more) != 0);
}

static uint64_t seed = 1;

static uint64_t rnd(uint64_t below) {
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

static int run_call(struct shm *s, void *arg) {
    struct call *c = arg;
    return c->fn(s, c);
}

static int call(struct shm *s, struct call *c, int (*fn)(struct shm *s, struct call *c)) {
    c->fn = fn;
    return op_run(s, key_shard_bit(&c->name), run_call, c);
}

/* ---- lists ---- */

static int do_push(struct shm *s, struct call *c) {
    struct list_object l;
    int r = list_open(s, &c->name, true, &l);
    r = r ? r : list_push(s, &l, c->left, c->data, c->len);
    return r ? r : list_close(s, &l);
}

static int do_pop(struct shm *s, struct call *c) {
    struct list_object l;
    int r = list_open(s, &c->name, true, &l);
    r = r ? r : list_pop(s, &l, c->left, &c->got);
    r = r ? r : list_close(s, &l);
    if (r == 0) {
        memcpy(c->copy, c->got.data, c->got.len < 256 ? c->got.len : 256);
    }
    return r;
}

static int do_set(struct shm *s, struct call *c) {
    struct list_object l;
    int r = list_open(s, &c->name, true, &l);
    r = r ? r : list_set(s, &l, c->index, c->data, c->len);
    return r ? r : list_close(s, &l);
}

static int do_insert(struct shm *s, struct call *c) {
    struct list_object l;
    int r = list_open(s, &c->name, true, &l);
    r = r ? r : list_insert(s, &l, c->index, c->data, c->len);
    return r ? r : list_close(s, &l);
}

static int do_remove(struct shm *s, struct call *c) {
    struct list_object l;
    int r = list_open(s, &c->name, true, &l);
    r = r ? r : list_remove(s, &l, c->index, c->n);
    return r ? r : list_close(s, &l);
}

static int do_at(struct shm *s, struct call *c) {
    struct list_object l;
    int r = list_open(s, &c->name, false, &l);
    return r ? r : list_at(s, &l, c->index, &c->got);
}

static int do_delete(struct shm *s, struct call *c) {
    struct key key;
    int r = key_find_write(s, &c->name, &key);
    return r ? r : key_delete(s, &key);
}

/* The model: an array of elements, each a length and a number its bytes are made from. */
struct element {
    uint32_t len, fill;
};

struct model {
    struct element *at;
    size_t n, cap;
};

static void model_insert(struct model *m, size_t i, struct element e) {
    if (m->n == m->cap) {
        m->cap = m->cap ? m->cap * 2 : 1024;
        m->at = realloc(m->at, m->cap * sizeof(*m->at));
        cr_assert_not_null(m->at);
    }
    memmove(&m->at[i + 1], &m->at[i], (m->n - i) * sizeof(*m->at));
    m->at[i] = e;
    m->n++;
}

static void model_remove(struct model *m, size_t i, size_t n) {
    memmove(&m->at[i], &m->at[i + n], (m->n - i - n) * sizeof(*m->at));
    m->n -= n;
}

enum { LARGEST = 1 << 20 };
static uint8_t element_bytes[LARGEST];

static const uint8_t *bytes_of(struct element e) {
    for (uint32_t i = 0; i < e.len && i < 4096; i++) {
        element_bytes[i] = (uint8_t)(e.fill + i * (e.fill >> 8 | 1));
    }
    if (e.len > 4096) {
        memset(element_bytes + 4096, (int)(e.fill & 0xff), e.len - 4096);
    }
    return element_bytes;
}

static bool is_element(const void *data, size_t len, struct element e) {
    return len == e.len && memcmp(data, bytes_of(e), len) == 0;
}

static struct element some_element(uint32_t usual) {
    uint64_t kind = rnd(1000);
    uint32_t len = kind == 0    ? (uint32_t)rnd(LARGEST + 1)
                   : kind < 20  ? (uint32_t)rnd(6000)
                   : kind < 120 ? (uint32_t)rnd(600)
                                : (uint32_t)rnd(usual + 1);
    return (struct element){len, (uint32_t)rnd(UINT32_MAX)};
}

struct compare {
    struct shm *s;
    const struct key_name *name;
    const struct model *m;
    uint64_t from, expect;
    bool down;
};

static int compare_one(void *arg, uint64_t index, const void *data, size_t len) {
    struct compare *c = arg;
    cr_assert_eq(index, c->expect);
    cr_assert(is_element(data, len, c->m->at[index]), "element %lu", (unsigned long)index);
    c->expect += c->down ? UINT64_MAX : 1;
    return 0;
}

static int compare_all(struct shm *s, void *arg) {
    struct compare *c = arg;
    struct list_object l;
    int r = list_open(s, c->name, false, &l);
    c->expect = c->from;
    return r ? r : list_walk(s, &l, c->from, c->down, compare_one, c);
}

static void same_as_model(struct shm *s, const struct key_name *name, const struct model *m) {
    for (int i = 0; i < 4; i++) {
        bool down = i & 1;
        uint64_t from = !m->n ? 0 : i < 2 ? (down ? m->n - 1 : 0) : rnd(m->n);
        struct compare c = {s, name, m, from, 0, down};
        int r = op_read(s, name->shard, compare_all, &c);
        cr_assert_eq(r, m->n ? 0 : -ENOENT);
        cr_assert_eq(c.expect, !m->n ? c.expect : down ? UINT64_MAX : m->n);
    }
}

static int at_once(struct shm *s, void *arg) {
    return do_at(s, arg);
}

/* One random change to both; `grow` of 10 make the list longer. */
static void change_list(struct shm *s, struct call *c, struct model *m, uint32_t usual,
                        unsigned grow) {
    struct element e = some_element(usual);
    uint64_t what = rnd(20), at = m->n ? rnd(m->n) : 0;
    bool more = rnd(10) < grow;
    *c = (struct call){.name = c->name, .left = rnd(2), .data = bytes_of(e), .len = e.len};
    if (what < 12 && more) {
        cr_assert_eq(call(s, c, do_push), 0);
        model_insert(m, c->left ? 0 : m->n, e);
    } else if (what < 12) {
        size_t i = c->left || !m->n ? 0 : m->n - 1;
        int r = call(s, c, do_pop);
        cr_assert_eq(r, m->n ? 0 : -ENOENT, "pop: %d", r);
        if (m->n) {
            cr_assert_eq(c->got.len, m->at[i].len);
            cr_assert_eq(
                memcmp(c->copy, bytes_of(m->at[i]), m->at[i].len < 256 ? m->at[i].len : 256), 0);
            model_remove(m, i, 1);
        }
    } else if (what < 15 && more) {
        c->index = rnd(m->n + 1);
        cr_assert_eq(call(s, c, do_insert), 0);
        model_insert(m, c->index, e);
    } else if (what < 15) {
        c->index = at;
        c->n = 1 + rnd(rnd(500) ? 3 : 1 + m->n / 4);
        int r = call(s, c, do_remove);
        size_t n = m->n - at < c->n ? m->n - at : c->n;
        cr_assert_eq(r, 0, "remove: %d", r);
        model_remove(m, at, n);
    } else if (m->n) {
        c->index = at;
        if (rnd(2) && m->at[at].len < 300) {
            e.len = m->at[at].len;
            c->len = e.len;
            c->data = bytes_of(e);
        }
        cr_assert_eq(call(s, c, do_set), 0);
        m->at[at] = e;
    }
    if (m->n) {
        c->index = rnd(m->n);
        cr_assert_eq(op_read(s, c->name.shard, at_once, c), 0);
        cr_assert(is_element(c->got.data, c->got.len, m->at[c->index]));
    }
}

static void random_list(uint32_t usual, int rounds) {
    struct shm s = new_segment(256 << 20);
    struct model m = {0};
    struct call c = {.name = key_name(&s, "list", 4), .fn = do_at};
    cr_assert_eq(blocks_left(&s), 0);
    for (int i = 0; i < rounds; i++) {
        unsigned grow = i / (rounds / 4) % 2 ? 3 : 8;
        change_list(&s, &c, &m, usual, grow);
        if (i % 1000 == 999) {
            same_as_model(&s, &c.name, &m);
            same_as_model(&s, &c.name, &m);
            checked(&s);
        }
    }
    call(&s, &c, do_delete);
    cr_assert_eq(blocks_left(&s), 0);
    free(m.at);
    shm_detach(&s);
}

Test(objects, list_like_an_array_small_elements) {
    random_list(24, 120000);
}

Test(objects, list_like_an_array_tiny_elements) {
    seed = 7;
    random_list(3, 120000);
}

Test(objects, list_like_an_array_middling_elements) {
    seed = 99;
    random_list(700, 60000);
}
