/* SPDX-License-Identifier: MIT */
/* Lists against an array, small and large elements, in operations that succeed, fail and nest; what they cost in memory; a
 * full segment. The segment is checked block by block all along. */
#include "lib/shm/list.h"

#include "lib/base/cleanup.h"
#include "tests/unit/objects.h"

TestSuite(list, .timeout = 240); /* with a sanitizer on a busy machine */

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

Test(list, like_an_array_small_elements) {
    random_list(24, 120000);
}

Test(list, like_an_array_tiny_elements) {
    seed = 7;
    random_list(3, 120000);
}

Test(list, like_an_array_middling_elements) {
    seed = 99;
    random_list(700, 60000);
}

/* ---- operations of several changes ---- */

struct spoiled {
    struct call c;
    struct model *m;
    uint64_t seed;
};

/* The same changes each time, because an operation may be run again. */
static int change_again(struct shm *s, void *arg, int i) {
    struct spoiled *p = arg;
    struct call *c = &p->c;
    uint64_t h = (p->seed + (uint64_t)i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    struct element e = {h >> 20 & 1023, (uint32_t)h};
    struct list_object l;
    e.len = h >> 32 & 7 ? e.len % 40 : e.len;
    c->left = h >> 40 & 1;
    c->data = bytes_of(e);
    c->len = e.len;
    int r = list_open(s, &c->name, true, &l);
    uint64_t count = r ? 0 : list_count(&l);
    c->index = count ? (h >> 41) % count : 0;
    c->n = 1 + (h >> 50) % 8;
    switch (h >> 60 & 7) {
    case 0:
    case 1:
        return do_push(s, c);
    case 2:
    case 3:
        return count ? do_pop(s, c) : 0;
    case 4:
        return do_insert(s, c);
    case 5:
        return count ? do_remove(s, c) : 0;
    default:
        return count ? do_set(s, c) : 0;
    }
}

Test(list, failed_operations_leave_it_as_it_was) {
    struct shm s = new_segment(64 << 20);
    struct model m = {0};
    struct call c = {.name = key_name(&s, "list", 4), .fn = do_at};
    struct spoiled p = {.c = c, .m = &m};
    for (int i = 0; i < 6000; i++) {
        struct batch b = {key_shard_bit(&c.name), change_again, &p, 1 + (int)rnd(40), true};
        p.seed = rnd(UINT64_MAX);
        cr_assert_eq(op_run(&s, b.shards, run_batch, &b), -ECANCELED);
        for (int k = 0; k < 3; k++) {
            change_list(&s, &c, &m, 60, m.n > 3000 ? 2 : 6);
        }
        if (i % 20 == 0) {
            same_as_model(&s, &c.name, &m);
            checked(&s);
        }
    }
    call(&s, &c, do_delete);
    cr_assert_eq(blocks_left(&s), 0);
    free(m.at);
    shm_detach(&s);
}

static int fail_inside(struct shm *s, void *arg, int i) {
    struct spoiled *p = arg;
    struct batch inner = {0, change_again, arg, 5, true};
    uint64_t shard = key_shard_bit(&p->c.name);
    struct element e = {20, (uint32_t)i};
    int r = op_run(s, shard, run_batch, &inner);
    cr_assert_eq(r, -ECANCELED, "%d", r);
    struct call c = {.name = p->c.name, .data = bytes_of(e), .len = e.len, .fn = do_push};
    return op_run(s, shard, run_call, &c);
}

Test(list, an_operation_that_fails_inside_of_another_is_undone_alone) {
    struct shm s = new_segment(64 << 20);
    struct model m = {0};
    struct spoiled p = {.c.name = key_name(&s, "list", 4), .m = &m};
    for (int i = 0; i < 500; i++) {
        struct batch b = {key_shard_bit(&p.c.name), fail_inside, &p, 5, i % 3 == 0};
        p.seed = rnd(UINT64_MAX);
        cr_assert_eq(op_run(&s, b.shards, run_batch, &b), b.spoil ? -ECANCELED : 0);
        for (uint32_t k = 0; k < 5 && !b.spoil; k++) {
            model_insert(&m, m.n, (struct element){20, k});
        }
        if (i % 20 == 0) {
            same_as_model(&s, &p.c.name, &m);
            checked(&s);
        }
    }
    free(m.at);
    shm_detach(&s);
}

struct popped {
    struct call c;
    struct task_bytes got[64];
};

static int pop_and_push(struct shm *s, void *arg) {
    struct popped *p = arg;
    for (int i = 0; i < 64; i++) {
        p->c.left = i & 1;
        int r = do_pop(s, &p->c);
        p->got[i] = p->c.got;
        struct element e = {(uint32_t)i * 3, 77};
        p->c.data = bytes_of(e);
        p->c.len = e.len;
        for (int k = 0; r == 0 && k < 3; k++) {
            p->c.left = k & 1;
            r = do_push(s, &p->c);
        }
        if (r) {
            return r;
        }
    }
    for (int i = 0; i < 64; i++) {
        if (p->got[i].len >= 4 && memcmp(p->got[i].data, "keep", 4) == 0) {
            p->c.n++;
        }
    }
    return 0;
}

Test(list, popped_bytes_stay_until_the_operation_ends) {
    struct shm s = new_segment(64 << 20);
    for (size_t len = 4; len < 3000; len = len * 5 / 4 + 1) {
        struct popped p = {.c = {.name = key_name(&s, "list", 4), .len = len}};
        _cleanup_free_ char *bytes = malloc(len);
        memset(bytes, '.', len);
        memcpy(bytes, "keep", 4);
        for (int i = 0; i < 32; i++) {
            p.c.data = bytes;
            p.c.left = i & 1;
            cr_assert_eq(call(&s, &p.c, do_push), 0);
        }
        memset(p.got, 0, sizeof(p.got));
        int r = op_run(&s, key_shard_bit(&p.c.name), pop_and_push, &p);
        cr_assert_eq(r, 0, "%d", r);
        cr_expect_geq(p.c.n, 1);
        checked(&s);
        cr_assert_eq(call(&s, &p.c, do_delete), 0);
    }
    shm_detach(&s);
}

/* ---- long lists, memory ---- */

static int push_many(struct shm *s, void *arg) {
    struct call *c = arg;
    struct list_object l;
    int r = list_open(s, &c->name, true, &l);
    for (uint64_t i = 0; r == 0 && i < c->n; i++) {
        r = list_push(s, &l, c->left, c->data, c->len);
    }
    return r ? r : list_close(s, &l);
}

static void fill(struct shm *s, struct call *c, uint64_t n) {
    for (uint64_t done = 0; done < n; done += c->n) {
        c->n = n - done < 20 ? n - done : 20;
        cr_assert_eq(op_run(s, key_shard_bit(&c->name), push_many, c), 0);
    }
}

Test(list, small_elements_cost_at_most_16_bytes) {
    struct shm s = new_segment(512 << 20);
    for (int left = 0; left < 2; left++) {
        for (size_t len = 0; len <= 64; len += 8) {
            for (uint64_t n = 1000; n <= 200000; n = n * 7 / 3) {
                struct call c = {
                    .name = key_name(&s, "list", 4), .left = left, .data = element_bytes};
                c.len = len;
                fill(&s, &c, n);
                tidied(&s);
                uint64_t cost = checked(&s).block_bytes - n * len;
                cr_expect_leq(cost, 16 * n, "%lu of %lu bytes: %lu over each", (unsigned long)n,
                              (unsigned long)len, (unsigned long)(cost / n));
                cr_assert_eq(call(&s, &c, do_delete), 0);
                cr_assert_eq(blocks_left(&s), 0);
            }
        }
    }
    shm_detach(&s);
}

Test(list, a_million_elements_and_most_of_them_cut_off_at_once) {
    struct shm s = new_segment(512 << 20);
    struct model m = {0};
    struct call c = {.name = key_name(&s, "list", 4)};
    for (uint32_t i = 0; i < 1000000; i++) {
        struct element e = {i % 10000 ? i % 13 : 700, i};
        bool left = i % 3 == 0 && i < 30000; /* moving an array is slow */
        c.left = left;
        c.data = bytes_of(e);
        c.len = e.len;
        cr_assert_eq(call(&s, &c, do_push), 0);
        model_insert(&m, left ? 0 : m.n, e);
    }
    same_as_model(&s, &c.name, &m);
    for (int i = 0; i < 10000; i++) {
        c.index = rnd(m.n);
        cr_assert_eq(op_read(&s, c.name.shard, at_once, &c), 0);
        cr_assert(is_element(c.got.data, c.got.len, m.at[c.index]));
    }
    uint32_t room = s.tx_room;
    for (uint64_t k = 0; k < 3; k++) {
        c.index = k == 0 ? 333333 : k == 1 ? 0 : 4000;
        c.n = k == 0 ? 500000 : k == 1 ? 100000 : m.n - 4000;
        cr_assert_eq(call(&s, &c, do_remove), 0);
        model_remove(&m, c.index, c.n);
        same_as_model(&s, &c.name, &m);
        checked(&s);
    }
    cr_expect_leq(s.tx_room, room + 4096, "words logged do not depend on how many go");
    tidied(&s);
    cr_expect_leq(checked(&s).blocks, 4000u);
    cr_assert_eq(call(&s, &c, do_delete), 0);
    cr_assert_eq(blocks_left(&s), 0);
    free(m.at);
    shm_detach(&s);
}

Test(list, a_full_segment_changes_nothing_and_can_be_emptied) {
    struct shm s = new_segment(2 << 20);
    for (size_t len = 20; len < 20000; len *= 9) {
        struct call c = {.name = key_name(&s, "list", 4)};
        struct model m = {0};
        int r;
        struct element e = {(uint32_t)len, 0};
        c.len = len;
        for (;; e.fill++) {
            c.data = bytes_of(e);
            r = call(&s, &c, do_push);
            if (r) {
                break;
            }
            model_insert(&m, m.n, e);
        }
        cr_assert_eq(r, -ENOMEM, "%d", r);
        same_as_model(&s, &c.name, &m);
        checked(&s);
        for (int i = 0; i < 50; i++) {
            c.index = rnd(m.n + 1);
            c.data = bytes_of(e);
            r = call(&s, &c, do_insert);
            cr_assert(r == 0 || r == -ENOMEM);
            if (r == 0) {
                model_insert(&m, c.index, e);
            }
        }
        same_as_model(&s, &c.name, &m);
        checked(&s);
        for (c.left = false; m.n; c.left = !c.left) {
            cr_assert_eq(call(&s, &c, do_pop), 0);
            model_remove(&m, c.left ? 0 : m.n - 1, 1);
        }
        cr_assert_eq(blocks_left(&s), 0);
        free(m.at);
    }
    shm_detach(&s);
}
