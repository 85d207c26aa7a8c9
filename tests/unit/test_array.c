/* SPDX-License-Identifier: MIT */
/* Arrays, by handles of one process: every type and its bounds, elements and ranges, what is refused, and pins: they outlive the
 * name, however it goes, and go with their owner.
 * Fails: as a Criterion suite. */
#include "tests/unit/objects.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>

#include "lib/base/clock.h"
#include "lib/shm/account.h"
#include "lib/shm/array.h"
#include "lib/shm/objects.h"

TestSuite(array, .timeout = 60);

#define T(text) ((struct task_bytes){text, strlen(text)})

static struct shm s, t; /* two owners */
static struct objects o, p;

static void begin_of(uint64_t size) {
    uint32_t slot, gen;
    s = new_segment(size);
    shm_share(&s, &t);
    cr_assert_eq(slot_reserve(&s, 0, &slot, &gen), 0);
    cr_assert_eq(slot_attach(&t, slot, gen), 0);
    objects_init(&o, &s);
    objects_init(&p, &t);
}

static void begin(void) {
    begin_of(8 << 20);
}

static void end(void) {
    objects_deinit(&p);
    objects_deinit(&o);
    shm_detach(&t);
    shm_detach(&s);
}

static union array_number I(int64_t v) {
    return (union array_number){.i = v};
} static union array_number D(double v) {
    return (union array_number){.d = v};
} static union array_number at(const char *name, uint64_t i) {
    union array_number v = {0};
    cr_assert_eq(objects_array_get(&p, T(name), ARRAY_NONE, i, &v), 0);
    return v;
}

Test(array, every_integer_type_has_its_bounds_and_wraps) {
    static const struct {
        const char *type;
        int64_t min, max;
    } types[] = {{"int8", INT8_MIN, INT8_MAX},    {"int16", INT16_MIN, INT16_MAX},
                 {"int32", INT32_MIN, INT32_MAX}, {"int64", INT64_MIN, INT64_MAX},
                 {"uint8", 0, UINT8_MAX},         {"uint16", 0, UINT16_MAX},
                 {"uint32", 0, UINT32_MAX},       {"uint64", 0, -1}};
    begin();
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        const char *name = types[i].type;
        enum array_type type = array_type_of(name, strlen(name));
        union array_number v = {0};
        bool wide = array_width(type) == 8;
        cr_assert_eq(objects_array_create(&o, T(name), type, 3), 1);
        cr_assert_eq(objects_array_set(&o, T(name), ARRAY_NONE, 0, I(types[i].min)), 0);
        cr_assert_eq(objects_array_set(&o, T(name), ARRAY_NONE, 1, I(types[i].max)), 0);
        cr_expect_eq(at(name, 0).i, types[i].min, "%s", name);
        cr_expect_eq(at(name, 1).i, types[i].max, "%s", name);
        cr_expect_eq(at(name, 2).i, 0);
        cr_expect_eq(objects_array_add(&o, T(name), ARRAY_NONE, 1, I(1), &v), 0);
        cr_expect_eq(v.i, types[i].min, "%s wraps", name);
        cr_expect_eq(objects_array_add(&o, T(name), ARRAY_NONE, 0, I(-1), &v), 0);
        cr_expect_eq(v.i, types[i].max, "%s wraps", name);
        cr_expect_eq(at(name, 2).i, 0, "its neighbour has nothing of it");
        if (!wide) {
            cr_expect_eq(objects_array_set(&o, T(name), ARRAY_NONE, 2, I(types[i].max + 1)),
                         -ERANGE);
            cr_expect_eq(objects_array_set(&o, T(name), ARRAY_NONE, 2, I(types[i].min - 1)),
                         -ERANGE);
            cr_expect_eq(objects_array_cas(&o, T(name), ARRAY_NONE, 2, I(0), I(types[i].max + 1)),
                         -ERANGE);
            cr_expect_eq(objects_array_fill(&o, T(name), ARRAY_NONE, 0, 3, I(types[i].max + 1)),
                         -ERANGE);
        }
        cr_expect_eq(objects_array_cas(&o, T(name), ARRAY_NONE, 2, I(1), I(7)), 0);
        cr_expect_eq(objects_array_cas(&o, T(name), ARRAY_NONE, 2, I(0), I(7)), 1);
        cr_expect_eq(at(name, 2).i, 7);
        cr_expect_eq(objects_type(&p, T(name)), KEY_ARRAY);
    }
    checked(&s);
    end();
}

Test(array, floats_and_chars) {
    union array_number v;
    begin();
    cr_assert_eq(objects_array_create(&o, T("f"), ARRAY_FLOAT, 2), 1);
    cr_assert_eq(objects_array_create(&o, T("d"), ARRAY_DOUBLE, 2), 1);
    cr_assert_eq(objects_array_create(&o, T("c"), ARRAY_CHAR, 16), 1);
    cr_assert_eq(objects_array_set(&o, T("f"), ARRAY_NONE, 1, D(0.1)), 0);
    cr_expect_eq(at("f", 1).d, (double)0.1f);
    cr_assert_eq(objects_array_add(&o, T("f"), ARRAY_NONE, 1, D(1), &v), 0);
    cr_expect_eq(v.d, (double)1.1f);
    cr_expect_eq(objects_array_set(&o, T("f"), ARRAY_NONE, 0, D(1e300)), -ERANGE);
    cr_expect_eq(objects_array_set(&o, T("f"), ARRAY_NONE, 0, D(-INFINITY)), 0);
    cr_assert_eq(objects_array_set(&o, T("d"), ARRAY_NONE, 1, D(1e300)), 0);
    cr_assert_eq(objects_array_add(&o, T("d"), ARRAY_NONE, 1, D(1e300), &v), 0);
    cr_expect_eq(v.d, 2e300);
    cr_expect_eq(objects_array_cas(&o, T("d"), ARRAY_NONE, 1, D(2e300), D(0.5)), 1);
    cr_expect_eq(at("d", 1).d, 0.5);
    cr_assert_eq(objects_array_write(&o, T("c"), ARRAY_CHAR, 3, 5, "hello"), 0);
    char text[16];
    cr_assert_eq(objects_array_read(&p, T("c"), ARRAY_CHAR, 0, 16, text), 0);
    cr_expect_eq(memcmp(text, "\0\0\0hello\0\0\0\0\0\0\0\0", 16), 0);
    cr_expect_eq(at("c", 4).u, 'e');
    cr_expect_eq(objects_array_add(&o, T("c"), ARRAY_NONE, 4, I(1), NULL), -EPROTOTYPE);
    end();
}

Test(array, what_is_refused) {
    int32_t some[4] = {0};
    enum array_type type;
    uint64_t n;
    union array_number v;
    begin();
    cr_expect_eq(objects_array_create(&o, T("a"), ARRAY_INT32, 0), -EINVAL);
    cr_expect_eq(objects_array_create(&o, T("a"), ARRAY_NONE, 1), -EINVAL);
    cr_expect_eq(objects_array_create(&o, T("a"), ARRAY_TYPES, 1), -EINVAL);
    cr_expect_eq(objects_array_create(&o, T("a"), ARRAY_INT64, ARRAY_BYTES_MAX / 8 + 1), -EMSGSIZE);
    cr_expect_eq(objects_array_create(&o, T("a"), ARRAY_INT8, 32 << 20), -ENOMEM);
    cr_expect_eq(objects_array_view(&o, T("a"), &type, &n), -ENOENT);
    cr_expect_eq(blocks_left(&s), 0);
    cr_assert_eq(objects_array_create(&o, T("a"), ARRAY_INT32, 4), 1);
    cr_expect_eq(objects_array_create(&p, T("a"), ARRAY_INT32, 4), 0);
    cr_expect_eq(objects_array_create(&p, T("a"), ARRAY_UINT32, 4), -EEXIST);
    cr_expect_eq(objects_array_create(&p, T("a"), ARRAY_INT32, 5), -EEXIST);
    cr_expect_eq(objects_array_get(&p, T("a"), ARRAY_NONE, 4, &v), -ENOENT);
    cr_expect_eq(objects_array_get(&p, T("a"), ARRAY_NONE, UINT64_MAX, &v), -ENOENT);
    cr_expect_eq(objects_array_set(&p, T("a"), ARRAY_NONE, 4, I(1)), -ENOENT);
    cr_expect_eq(objects_array_read(&p, T("a"), ARRAY_INT32, 1, 4, some), -ENOENT);
    cr_expect_eq(objects_array_read(&p, T("a"), ARRAY_INT32, UINT64_MAX, 2, some), -ENOENT);
    cr_expect_eq(objects_array_write(&p, T("a"), ARRAY_INT32, 2, UINT64_MAX, some), -ENOENT);
    cr_expect_eq(objects_array_read(&p, T("a"), ARRAY_UINT32, 0, 4, some), -EPROTOTYPE);
    cr_expect_eq(objects_array_read(&p, T("a"), ARRAY_INT32, 4, 0, some), 0);
    cr_assert_eq(objects_value_set(&o, T("v"), T("x"), 0, 0), 0);
    cr_expect_eq(objects_array_get(&p, T("v"), ARRAY_NONE, 0, &v), -EPROTOTYPE);
    cr_expect_eq(objects_array_create(&p, T("v"), ARRAY_INT8, 1), -EPROTOTYPE);
    cr_expect_eq(objects_value_add(&p, T("a"), 1, &v.i), -EPROTOTYPE);
    cr_expect_eq(objects_copy(&p, T("a"), T("b"), false), -EOPNOTSUPP);
    checked(&s);
    end();
}

static int add_inside(struct objects *objects, void *arg) {
    (void)arg;
    return objects_array_add(objects, T("a"), ARRAY_NONE, 0, I(1), NULL);
}

Test(array, not_in_a_transaction) {
    struct task_bytes name = T("a");
    begin();
    cr_assert_eq(objects_array_create(&o, name, ARRAY_INT32, 1), 1);
    cr_expect_eq(objects_transaction(&o, &name, 1, add_inside, NULL), -EDEADLK);
    cr_expect_eq(at("a", 0).i, 0);
    end();
}

Test(array, large_ones_and_places) {
    struct array_pin pin;
    begin_of(96 << 20);
    uint64_t n = ARRAY_BYTES_MAX / 4;
    cr_assert_eq(objects_array_create(&o, T("big"), ARRAY_UINT32, n), 1);
    cr_expect_eq(at("big", n - 1).u, 0);
    uint32_t *data = malloc(ARRAY_BYTES_MAX), *back = malloc(ARRAY_BYTES_MAX);
    for (uint64_t i = 0; i < n; i++) {
        data[i] = (uint32_t)(i * 2654435761u);
    }
    cr_assert_eq(objects_array_write(&o, T("big"), ARRAY_UINT32, 0, n, data), 0);
    cr_assert_eq(objects_array_read(&p, T("big"), ARRAY_UINT32, 0, n, back), 0);
    cr_expect_eq(memcmp(data, back, ARRAY_BYTES_MAX), 0);
    cr_assert_eq(objects_array_read(&p, T("big"), ARRAY_UINT32, 7, 100001, back), 0);
    cr_expect_eq(memcmp(data + 7, back, 400004), 0);
    cr_assert_eq(objects_array_fill(&p, T("big"), ARRAY_NONE, 1, n - 2, I(5)), 0);
    cr_expect_eq(at("big", 0).u, data[0]);
    cr_expect_eq(at("big", n - 2).u, 5);
    cr_expect_eq(at("big", n - 1).u, data[n - 1]);
    cr_assert_eq(objects_delete(&o, (struct task_bytes[]){T("big")}, 1), 1);
    for (uint64_t i = 1; i < 3000; i = i * 5 / 4 + 1) { /* beginning at whole lines */
        char name[16];
        snprintf(name, sizeof(name), "a%u", (unsigned)i);
        cr_assert_eq(objects_array_create(&o, T(name), ARRAY_CHAR, i), 1);
        cr_assert_eq(objects_array_pin(&o, T(name), &pin), 0);
        cr_expect_eq((uintptr_t)pin.data % ARRAY_ALIGN, 0);
        cr_assert_eq(objects_array_unpin(&o, &pin), 0);
    }
    checked(&s);
    free(data);
    free(back);
    end();
}

static void drop_name(const char *name) {
    struct task_bytes b = T(name);
    cr_assert_eq(objects_delete(&o, &b, 1), 1);
}

Test(array, a_pin_outlives_the_name) {
    struct array_pin a, b, again;
    begin();
    cr_assert_eq(objects_array_create(&o, T("a"), ARRAY_INT64, 4), 1);
    cr_assert_eq(objects_array_pin(&o, T("a"), &a), 0);
    cr_assert_eq(objects_array_pin(&p, T("a"), &b), 0);
    cr_assert_eq(a.data, b.data);
    cr_assert_eq(b.n, 4);
    ((int64_t *)a.data)[2] = 17;
    cr_expect_eq(at("a", 2).i, 17);
    cr_assert_eq(objects_array_add(&p, T("a"), ARRAY_NONE, 2, I(3), NULL), 0);
    cr_expect_eq(((int64_t *)a.data)[2], 20);
    cr_assert_eq(objects_rename(&o, T("a"), T("other name"), false), 0);
    cr_assert_eq(objects_array_pin(&o, T("other name"), &again), 0);
    cr_assert_eq(again.data, a.data);
    checked(&s);
    drop_name("other name");
    cr_expect_eq(blocks_left(&s), 4, "the object, its numbers, who holds it (twice)");
    cr_assert_eq(objects_array_create(&o, T("a"), ARRAY_INT64, 4), 1);
    ((int64_t *)b.data)[2]++;
    cr_expect_eq(((int64_t *)a.data)[2], 21);
    cr_expect_eq(at("a", 2).i, 0, "another one");
    drop_name("a");
    cr_assert_eq(objects_array_unpin(&o, &a), 0);
    cr_expect_eq(blocks_left(&s), 4);
    cr_assert_eq(objects_array_unpin(&o, &again), 0);
    cr_expect_eq(objects_array_unpin(&o, &again), -EINVAL);
    cr_expect_eq(blocks_left(&s), 3);
    cr_assert_eq(objects_array_unpin(&p, &b), 0);
    cr_expect_eq(blocks_left(&s), 0);
    cr_expect_eq(objects_array_unpin(&p, &b), -EINVAL, "there is nothing any more");
    end();
}

static int in_flush(struct shm *shm, void *arg) {
    return keys_flush(shm, ((struct key_name *)arg)->shard);
}

Test(array, a_pin_goes_with_its_owner) {
    struct array_pin a, b;
    struct key_name name, other;
    char text[16];
    begin();
    name = key_name(&s, "a", 1);
    unsigned n = 0;
    do { /* which the flush of a's shard leaves alone: names fall into shards by chance */
        snprintf(text, sizeof(text), "b%u", n++);
        other = key_name(&s, text, strlen(text));
    } while (other.shard == name.shard);
    cr_assert_eq(objects_array_create(&o, T("a"), ARRAY_INT64, 4), 1);
    cr_assert_eq(objects_array_create(&o, T(text), ARRAY_INT64, 4), 1);
    cr_assert_eq(objects_array_pin(&p, T("a"), &a), 0);
    cr_assert_eq(objects_array_pin(&p, T(text), &b), 0);
    cr_assert_eq(op_run(&s, key_shard_bit(&name), in_flush, &name), 0);
    tidied(&s);
    checked(&s);
    ((int64_t *)a.data)[0] = 1;
    *(_Atomic uint32_t *)(void *)&t.mine->life |= FUTEX_OWNER_DIED;
    cr_assert_eq(slot_bury(&s, t.slot, get32(&t.mine->gen)), 0);
    tidied(&s);
    checked(&s);
    cr_expect_eq(objects_array_unpin(&p, &a), -EINVAL);
    drop_name(text);
    cr_expect_eq(blocks_left(&s), 0);
    end();
}

Test(array, it_is_charged_to_who_made_it_while_it_is_there) {
    struct account_view v;
    struct array_pin pin;
    unsigned account;
    begin();
    cr_assert_eq(account_open(&s, 1234, 100000, 0, &account), 0);
    s.account = account;
    cr_expect_eq(objects_array_create(&o, T("a"), ARRAY_INT8, 100000), -EDQUOT);
    cr_assert_eq(objects_array_create(&o, T("a"), ARRAY_INT8, 60000), 1);
    cr_assert_eq(objects_array_pin(&p, T("a"), &pin), 0);
    drop_name("a");
    tidied(&s);
    cr_assert(account_view(&s, account, &v));
    cr_expect(v.bytes > 60000 && v.objects == 0);
    cr_expect_eq(objects_array_create(&o, T("a"), ARRAY_INT8, 60000), -EDQUOT);
    cr_assert_eq(objects_array_unpin(&p, &pin), 0);
    tidied(&s);
    cr_assert(account_view(&s, account, &v));
    cr_expect_eq(v.bytes, 0);
    cr_assert_eq(objects_array_create(&o, T("a"), ARRAY_INT8, 60000), 1);
    end();
}

Test(array, a_time_to_live) {
    union array_number v;
    begin();
    cr_assert_eq(objects_array_create(&o, T("a"), ARRAY_INT8, 5), 1);
    cr_assert_eq(objects_expire(&o, T("a"), 0), 0);
    cr_expect_eq(objects_array_get(&o, T("a"), ARRAY_NONE, 0, &v), -ENOENT);
    cr_expect_eq(objects_array_set(&o, T("a"), ARRAY_NONE, 0, I(1)), -ENOENT);
    cr_expect_eq(objects_array_create(&o, T("a"), ARRAY_INT16, 5), 1);
    checked(&s);
    end();
}

enum { ROUNDS = 20000, THREADS = 3 };

static void *count_up(void *arg) {
    struct shm *mine = arg;
    struct objects objects;
    struct array_pin pin;
    objects_init(&objects, mine);
    bool bad = objects_array_pin(&objects, T("n"), &pin) != 0;
    for (int i = 0; i < ROUNDS && !bad; i++) {
        bad = objects_array_add(&objects, T("n"), ARRAY_NONE, 1, I(1), NULL) != 0 ||
              objects_array_add(&objects, T("f"), ARRAY_NONE, 0, D(1), NULL) != 0;
        __atomic_fetch_add(&((int32_t *)pin.data)[2], 1, __ATOMIC_SEQ_CST);
        for (union array_number v; !bad;) { /* a third way */
            bad = objects_array_get(&objects, T("n"), ARRAY_NONE, 3, &v) != 0;
            if (objects_array_cas(&objects, T("n"), ARRAY_NONE, 3, v, I(v.i + 1)) == 1) {
                break;
            }
        }
    }
    bad |= objects_array_unpin(&objects, &pin) != 0;
    objects_deinit(&objects);
    return bad ? mine : NULL;
}

Test(array, nobodys_addition_is_lost) {
    struct shm h[THREADS];
    pthread_t threads[THREADS];
    begin();
    cr_assert_eq(objects_array_create(&o, T("n"), ARRAY_INT32, 4), 1);
    cr_assert_eq(objects_array_create(&o, T("f"), ARRAY_FLOAT, 1), 1);
    for (int i = 0; i < THREADS; i++) {
        uint32_t slot, gen;
        shm_share(&s, &h[i]);
        cr_assert_eq(slot_reserve(&s, 0, &slot, &gen), 0);
        cr_assert_eq(slot_attach(&h[i], slot, gen), 0);
        cr_assert_eq(pthread_create(&threads[i], NULL, count_up, &h[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *bad;
        cr_assert_eq(pthread_join(threads[i], &bad), 0);
        cr_expect_null(bad);
    }
    for (uint64_t i = 1; i < 4; i++) {
        cr_expect_eq(at("n", i).i, ROUNDS * THREADS);
    }
    cr_expect_eq(at("f", 0).d, (double)(ROUNDS * THREADS));
    checked(&s);
    end();
}
