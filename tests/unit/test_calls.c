/* SPDX-License-Identifier: MIT */
/* The calls on shared objects (lib/shm/objects.h), as workers and mapped clients make them. The structures below them are
 * tested in test_objects.c. */
#include "lib/shm/objects.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/shm/check.h"
#include "lib/shm/slot.h"
#include "tests/support/child.h"
#include "tests/support/pattern.h"

static struct shm shm;
static struct objects o;

static void take_slot(struct shm *s) {
    uint32_t slot, gen;
    cr_assert_eq(slot_reserve(s, 0, &slot, &gen), 0);
    cr_assert_eq(slot_attach(s, slot, gen), 0);
}

static void begin(void) {
    struct shm_params p = {.size = 32 << 20, .slots = 8, .tasks = 64};
    cr_assert_eq(shm_create(&shm, &p), 0);
    take_slot(&shm);
    objects_init(&o, &shm);
}

static void end(void) {
    struct shm_report r;
    cr_expect_eq(shm_check(&shm, &r), 0);
    cr_expect_eq(r.errors, 0, "%s", r.first);
    objects_deinit(&o);
    shm_detach(&shm);
    child_kill_all();
}

TestSuite(calls, .timeout = 30, .init = begin, .fini = end);

static struct task_bytes T(const char *text) {
    return (struct task_bytes){text, strlen(text)};
}

#define IS(b, text) ((b).len == strlen(text) && memcmp((b).data, text, (b).len) == 0)

/* ---- values and keys ---- */

Test(calls, values) {
    struct task_bytes b;
    int64_t v = 0;
    cr_expect_eq(objects_value_get(&o, T("v"), &b), -ENOENT);
    cr_expect_eq(objects_value_set(&o, T("v"), T("x"), OBJECTS_PRESENT, 0), -ENOENT);
    cr_expect_eq(objects_value_set(&o, T("v"), T("hello"), OBJECTS_ABSENT, 0), 0);
    cr_expect_eq(objects_value_set(&o, T("v"), T("other"), OBJECTS_ABSENT, 0), -EEXIST);
    cr_expect_eq(objects_value_append(&o, T("v"), T(", world")), 12);
    cr_expect_eq(objects_value_get(&o, T("v"), &b), 0);
    cr_expect(IS(b, "hello, world"));
    cr_expect_eq(objects_value_range(&o, T("v"), -5, 3, &b), 0);
    cr_expect(IS(b, "wor"));
    cr_expect_eq(objects_value_range(&o, T("v"), -14, 4, &b), 0);
    cr_expect(IS(b, "he"));
    cr_expect_eq(objects_value_range(&o, T("v"), -20, 8, &b), 0);
    cr_expect_eq(b.len, 0);
    cr_expect_eq(objects_value_range(&o, T("none"), 0, -1, &b), 0);
    cr_expect_eq(b.len, 0);
    cr_expect_eq(objects_value_write(&o, T("v"), 14, T("!")), 15);
    cr_expect_eq(objects_value_get(&o, T("v"), &b), 0);
    cr_expect(b.len == 15 && memcmp(b.data, "hello, world\0\0!", 15) == 0);
    cr_expect_eq(objects_value_add(&o, T("v"), 1, &v), -EDOM);
    cr_expect_eq(objects_value_add(&o, T("n"), 41, NULL), 0);
    cr_expect_eq(objects_value_add(&o, T("n"), 1, &v), 0);
    cr_expect_eq(v, 42);
    cr_expect_eq(objects_value_add(&o, T("n"), INT64_MAX, &v), -ERANGE);
    cr_expect_eq(objects_dict_set(&o, T("n"), T("f"), T("v")), -EPROTOTYPE);
    cr_expect_eq(objects_value_get(&o, T("n"), &b), 0);
    cr_expect(IS(b, "42"));
}

Test(calls, keys_and_expiry) {
    struct task_bytes names[] = {T("a"), T("b"), T("c")}, b;
    objects_value_set(&o, T("a"), T("1"), 0, 60000);
    objects_dict_set(&o, T("b"), T("f"), T("2"));
    cr_expect_eq(objects_type(&o, T("a")), KEY_VALUE);
    cr_expect_eq(objects_type(&o, T("b")), KEY_DICT);
    cr_expect_eq(objects_type(&o, T("c")), KEY_NONE);
    int64_t ttl = objects_ttl(&o, T("a"));
    cr_expect(ttl > 50000 && ttl <= 60000);
    cr_expect_eq(objects_value_set(&o, T("a"), T("3"), OBJECTS_KEEP_TTL, 0), 0);
    cr_expect_gt(objects_ttl(&o, T("a")), 50000);
    cr_expect_eq(objects_persist(&o, T("a")), 1);
    cr_expect_eq(objects_persist(&o, T("a")), 0);
    cr_expect_eq(objects_persist(&o, T("c")), -ENOENT);
    cr_expect_eq(objects_ttl(&o, T("a")), -1);
    cr_expect_eq(objects_rename(&o, T("a"), T("b"), false), -EEXIST);
    cr_expect_eq(objects_rename(&o, T("c"), T("b"), true), -ENOENT);
    cr_expect_eq(objects_rename(&o, T("a"), T("b"), true), 0);
    cr_expect_eq(objects_exists(&o, T("a")), 0);
    cr_expect_eq(objects_value_get(&o, T("b"), &b), 0);
    cr_expect(IS(b, "3"));
    cr_expect_eq(objects_expire(&o, T("b"), 0), 0);
    cr_expect_eq(objects_exists(&o, T("b")), 0);
    cr_expect_eq(objects_expire(&o, T("b"), 10), -ENOENT);
    objects_value_set(&o, T("a"), T("1"), 0, 0);
    objects_list_push(&o, T("c"), OBJECTS_RIGHT, names, 3);
    cr_expect_eq(objects_delete(&o, names, 3), 2);
    cr_expect_eq(objects_delete(&o, names, 3), 0);
}

Test(calls, every_key_is_met) {
    enum { N = 3000 };
    static char seen[N];
    char name[32];
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof(name), "key:%d", i);
        objects_value_set(&o, T(name), T("x"), 0, 0);
    }
    uint64_t cursor = 0;
    int met = 0;
    do {
        const struct task_bytes *items;
        size_t n;
        cr_assert_eq(objects_keys(&o, &cursor, 50, NULL, &items, &n), 0);
        for (size_t i = 0; i < n; i++) {
            int k = atoi((const char *)items[i].data + 4);
            cr_assert(k >= 0 && k < N);
            met += !seen[k];
            seen[k] = 1;
        }
    } while (cursor);
    cr_expect_eq(met, N);
}

/* ---- dicts ---- */

Test(calls, dicts) {
    struct task_bytes b, f, v;
    int64_t n = 0;
    cr_expect_eq(objects_dict_get(&o, T("d"), T("a"), &b), -ENOENT);
    cr_expect_eq(objects_dict_length(&o, T("d")), 0);
    cr_expect_eq(objects_dict_set(&o, T("d"), T("a"), T("1")), 1);
    cr_expect_eq(objects_dict_set(&o, T("d"), T("a"), T("2")), 0);
    cr_expect_eq(objects_dict_contains(&o, T("d"), T("a")), 1);
    cr_expect_eq(objects_dict_contains(&o, T("d"), T("b")), 0);
    cr_expect_eq(objects_dict_setdefault(&o, T("d"), T("a"), T("9"), &b), 0);
    cr_expect(IS(b, "2"));
    cr_expect_eq(objects_dict_setdefault(&o, T("d"), T("b"), T("9"), &b), 1);
    cr_expect(IS(b, "9"));
    cr_expect_eq(objects_dict_add(&o, T("d"), T("b"), -10, &n), 0);
    cr_expect_eq(n, -1);
    struct task_bytes pairs[] = {T("b"), T("x"), T("c"), T(""), T("e"), T("5")};
    cr_expect_eq(objects_dict_update(&o, T("d"), pairs, 3), 2);
    cr_expect_eq(objects_dict_add(&o, T("d"), T("b"), 1, &n), -EDOM);
    const struct task_bytes *many;
    struct task_bytes fields[] = {T("c"), T("none"), T("b")};
    cr_expect_eq(objects_dict_get_many(&o, T("d"), fields, 3, &many), 0);
    cr_expect(many[0].data != NULL && many[0].len == 0);
    cr_expect_null(many[1].data);
    cr_expect(IS(many[2], "x"));
    cr_expect_eq(objects_dict_pop(&o, T("d"), T("none"), &b), -ENOENT);
    cr_expect_eq(objects_dict_pop(&o, T("d"), T("b"), &b), 0);
    cr_expect(IS(b, "x"));
    cr_expect_eq(objects_dict_length(&o, T("d")), 3);
    cr_expect_eq(objects_dict_delete(&o, T("d"), fields, 3), 1);
    cr_expect_eq(objects_dict_popitem(&o, T("d"), &f, &v), 0);
    cr_expect((IS(f, "a") && IS(v, "2")) || (IS(f, "e") && IS(v, "5")));
    cr_expect_eq(objects_dict_popitem(&o, T("d"), &f, &v), 0);
    cr_expect_eq(objects_dict_popitem(&o, T("d"), &f, &v), -ENOENT);
    cr_expect_eq(objects_exists(&o, T("d")), 0);
    cr_expect_eq(objects_dict_set(&o, T("d"), T("a"), T("1")), 1);
    cr_expect_eq(objects_dict_clear(&o, T("d")), 1);
    cr_expect_eq(objects_dict_clear(&o, T("d")), 0);
}

Test(calls, counting_is_all_or_nothing) {
    struct task_bytes fields[] = {T("a"), T("b"), T("a")}, b;
    int64_t by[] = {1, 10, 100};
    cr_expect_eq(objects_dict_add_many(&o, T("d"), fields, by, 3), 0);
    objects_dict_get(&o, T("d"), T("a"), &b);
    cr_expect(IS(b, "101"));
    objects_dict_set(&o, T("d"), T("b"), T("no number"));
    cr_expect_eq(objects_dict_add_many(&o, T("d"), fields, by, 3), -EDOM);
    objects_dict_get(&o, T("d"), T("a"), &b);
    cr_expect(IS(b, "101"));
    by[0] = INT64_MAX - 101;
    by[2] = 1;
    objects_dict_set(&o, T("d"), T("b"), T("0"));
    cr_expect_eq(objects_dict_add_many(&o, T("d"), fields, by, 3), -ERANGE);
    objects_dict_get(&o, T("d"), T("b"), &b);
    cr_expect(IS(b, "0"));
}

Test(calls, fractions) {
    long double v = 0;
    struct task_bytes b;
    cr_expect_eq(objects_dict_add_float(&o, T("d"), T("f"), 10.5L, &v), 0);
    cr_expect_eq(objects_dict_add_float(&o, T("d"), T("f"), 0.1L, &v), 0);
    objects_dict_get(&o, T("d"), T("f"), &b);
    cr_expect(IS(b, "10.6"), "%s", (const char *)b.data);
    objects_dict_set(&o, T("d"), T("f"), T("5.0e3"));
    cr_expect_eq(objects_dict_add_float(&o, T("d"), T("f"), 200, &v), 0);
    cr_expect_eq((int)v, 5200);
    objects_dict_set(&o, T("d"), T("f"), T(" 1"));
    cr_expect_eq(objects_dict_add_float(&o, T("d"), T("f"), 1, &v), -EDOM);
    objects_dict_set(&o, T("d"), T("f"), T("1e4932"));
    cr_expect_eq(objects_dict_add_float(&o, T("d"), T("f"), 1.1e4932L, &v), -ERANGE);
}

Test(calls, compare_and_set) {
    struct task_bytes one = T("1"), two = T("2"), b;
    cr_expect_eq(objects_dict_swap(&o, T("d"), T("f"), &one, &two), 0);
    cr_expect_eq(objects_dict_swap(&o, T("d"), T("f"), NULL, &one), 1);
    cr_expect_eq(objects_dict_swap(&o, T("d"), T("f"), NULL, &two), 0);
    cr_expect_eq(objects_dict_swap(&o, T("d"), T("f"), &one, &two), 1);
    objects_dict_get(&o, T("d"), T("f"), &b);
    cr_expect(IS(b, "2"));
    cr_expect_eq(objects_dict_swap(&o, T("d"), T("f"), &two, NULL), 1);
    cr_expect_eq(objects_exists(&o, T("d")), 0);
    cr_expect_eq(objects_dict_swap(&o, T("d"), T("f"), NULL, NULL), 1);
}

Test(calls, a_walk_meets_every_field_while_the_dict_changes) {
    enum { N = 5000 };
    static char seen[N];
    char field[32];
    for (int i = 0; i < N; i++) {
        snprintf(field, sizeof(field), "%d", i);
        objects_dict_set(&o, T("d"), T(field), T(field));
    }
    uint64_t cursor = 0;
    int met = 0, other = N;
    do {
        const struct task_bytes *items;
        size_t n;
        cr_assert_eq(objects_dict_scan(&o, T("d"), &cursor, 100, &items, &n), 0);
        for (size_t i = 0; i < n; i += 2) {
            int k = atoi(items[i].data);
            cr_assert(items[i].len == items[i + 1].len);
            met += k < N && !seen[k];
            if (k < N) {
                seen[k] = 1;
            }
        }
        for (int i = 0; i < 50; i++, other++) { /* it grows all the while */
            snprintf(field, sizeof(field), "%d", other);
            objects_dict_set(&o, T("d"), T(field), T(field));
        }
    } while (cursor);
    cr_expect_eq(met, N);
}

Test(calls, a_result_can_be_an_argument) {
    struct task_bytes b;
    objects_dict_set(&o, T("d"), T("a"), T("b"));
    objects_dict_set(&o, T("d"), T("b"), T("c"));
    cr_assert_eq(objects_dict_get(&o, T("d"), T("a"), &b), 0);
    cr_assert_eq(objects_dict_get(&o, T("d"), b, &b), 0);
    cr_expect(IS(b, "c"));
}

/* ---- lists ---- */

static void expect_list(const char *name, const char *all) {
    const struct task_bytes *items;
    char text[256] = "";
    size_t n;
    cr_assert_eq(objects_list_range(&o, T(name), 0, -1, &items, &n), 0);
    for (size_t i = 0; i < n; i++) {
        strncat(text, items[i].data, items[i].len);
    }
    cr_expect_str_eq(text, all);
    cr_expect_eq(objects_list_length(&o, T(name)), (int64_t)n);
}

Test(calls, lists) {
    struct task_bytes abc[] = {T("a"), T("b"), T("c")}, b;
    cr_expect_eq(objects_list_pop(&o, T("l"), OBJECTS_LEFT, &b), -ENOENT);
    cr_expect_eq(objects_list_push(&o, T("l"), OBJECTS_RIGHT, abc, 3), 3);
    cr_expect_eq(objects_list_push(&o, T("l"), OBJECTS_LEFT, abc, 3), 6);
    expect_list("l", "cbaabc");
    cr_expect_eq(objects_list_pop(&o, T("l"), OBJECTS_RIGHT, &b), 0);
    cr_expect(IS(b, "c"));
    cr_expect_eq(objects_list_at(&o, T("l"), -1, &b), 0);
    cr_expect(IS(b, "b"));
    cr_expect_eq(objects_list_at(&o, T("l"), 5, &b), -ENOENT);
    cr_expect_eq(objects_list_at(&o, T("l"), -6, &b), -ENOENT);
    cr_expect_eq(objects_list_set(&o, T("l"), 1, T("B")), 0);
    cr_expect_eq(objects_list_set(&o, T("l"), 9, T("B")), -ENOENT);
    cr_expect_eq(objects_list_insert(&o, T("l"), -1, T("x")), 6);
    cr_expect_eq(objects_list_insert(&o, T("l"), 99, T("y")), 7);
    expect_list("l", "cBaaxby");
    cr_expect_eq(objects_list_index(&o, T("l"), T("a"), 0), 2);
    cr_expect_eq(objects_list_index(&o, T("l"), T("a"), 3), 3);
    cr_expect_eq(objects_list_index(&o, T("l"), T("a"), 4), -ENOENT);
    cr_expect_eq(objects_list_delete(&o, T("l"), -2, 1), 1);
    expect_list("l", "cBaaxy");
    cr_expect_eq(objects_list_trim(&o, T("l"), 1, 4), 4);
    expect_list("l", "Baax");
    cr_expect_eq(objects_list_delete(&o, T("l"), 0, -1), 4);
    cr_expect_eq(objects_exists(&o, T("l")), 0);
}

Test(calls, elements_are_removed_by_value) {
    struct task_bytes e[] = {T("a"), T("x"), T("a"), T("a"), T("x"), T("a")};
    objects_list_push(&o, T("l"), OBJECTS_RIGHT, e, 6);
    cr_expect_eq(objects_list_remove(&o, T("l"), T("a"), 1), 1);
    expect_list("l", "xaaxa");
    cr_expect_eq(objects_list_remove(&o, T("l"), T("a"), -2), 2);
    expect_list("l", "xax");
    cr_expect_eq(objects_list_remove(&o, T("l"), T("none"), 0), 0);
    cr_expect_eq(objects_list_remove(&o, T("l"), T("x"), -5), 2);
    expect_list("l", "a");
    cr_expect_eq(objects_list_remove(&o, T("l"), T("a"), 0), 1);
    cr_expect_eq(objects_exists(&o, T("l")), 0);
}

Test(calls, elements_move_between_lists) {
    struct task_bytes e[] = {T("1"), T("2"), T("3")}, b;
    objects_list_push(&o, T("from"), OBJECTS_RIGHT, e, 3);
    cr_expect_eq(objects_list_move(&o, T("from"), OBJECTS_LEFT, T("to"), OBJECTS_LEFT, &b), 0);
    cr_expect(IS(b, "1"));
    cr_expect_eq(objects_list_move(&o, T("from"), OBJECTS_RIGHT, T("to"), OBJECTS_RIGHT, &b), 0);
    expect_list("to", "13");
    cr_expect_eq(objects_list_move(&o, T("to"), OBJECTS_LEFT, T("to"), OBJECTS_RIGHT, &b), 0);
    expect_list("to", "31");
    /* the last one of a list, to the same list: it keeps its expiry */
    objects_expire(&o, T("from"), 60000);
    cr_expect_eq(objects_list_move(&o, T("from"), OBJECTS_LEFT, T("from"), OBJECTS_RIGHT, &b), 0);
    cr_expect(IS(b, "2"));
    cr_expect_gt(objects_ttl(&o, T("from")), 0);
    objects_value_set(&o, T("v"), T("x"), 0, 0);
    cr_expect_eq(objects_list_move(&o, T("from"), OBJECTS_LEFT, T("v"), OBJECTS_LEFT, &b),
                 -EPROTOTYPE);
    expect_list("from", "2");
    cr_expect_eq(objects_list_move(&o, T("none"), OBJECTS_LEFT, T("to"), OBJECTS_LEFT, &b),
                 -ENOENT);
}

struct walked {
    uint64_t next, sum;
};

static int walk_on(void *arg, uint64_t index, struct task_bytes e) {
    struct walked *w = arg;
    cr_assert_eq(index, w->next);
    cr_assert_eq((uint64_t)atoll(e.data), index);
    w->next++;
    w->sum += index;
    return index == 9999 ? 77 : 0;
}

Test(calls, a_long_list_is_walked_in_order) {
    char text[24];
    for (int i = 0; i < 12000; i++) {
        snprintf(text, sizeof(text), "%d", i);
        struct task_bytes e = T(text);
        objects_list_push(&o, T("l"), OBJECTS_RIGHT, &e, 1);
    }
    struct walked w = {0};
    cr_expect_eq(objects_list_walk(&o, T("l"), 0, walk_on, &w), 77);
    cr_expect_eq(w.next, 10000);
    w.next = 11000;
    cr_expect_eq(objects_list_walk(&o, T("l"), -1000, walk_on, &w), 0);
    cr_expect_eq(w.next, 12000);
}

/* ---- waiting ---- */

static int push_three(void *arg) {
    struct shm s;
    struct objects mine;
    (void)arg;
    if (shm_attach(&s, shm.fd)) {
        return 1;
    }
    uint32_t slot, gen;
    if (slot_reserve(&s, 0, &slot, &gen) || slot_attach(&s, slot, gen)) {
        return 2;
    }
    objects_init(&mine, &s);
    struct task_bytes b;
    int64_t r = 0;
    for (int i = 0; i < 1000 && r >= 0; i++) { /* ping and pong */
        r = objects_list_pop_wait(&mine, T("ping"), OBJECTS_LEFT, -1, &b);
        r = r < 0 ? r : objects_list_push(&mine, T("pong"), OBJECTS_RIGHT, &b, 1);
    }
    return r < 0 ? 3 : 0;
}

Test(calls, a_pop_waits_for_a_push) {
    struct task_bytes b;
    uint64_t at = clock_now();
    cr_expect_eq(objects_list_pop_wait(&o, T("pong"), OBJECTS_LEFT, 0, &b), -ETIMEDOUT);
    cr_expect_eq(objects_list_pop_wait(&o, T("pong"), OBJECTS_LEFT, 30, &b), -ETIMEDOUT);
    cr_expect_geq(clock_now() - at, 30 * NS_PER_MS);
    pid_t child = child_start(push_three, NULL);
    for (int i = 0; i < 1000; i++) {
        char text[24];
        snprintf(text, sizeof(text), "%d", i);
        struct task_bytes e = T(text);
        cr_assert_eq(objects_list_push(&o, T("ping"), OBJECTS_RIGHT, &e, 1), 1);
        cr_assert_eq(objects_list_pop_wait(&o, T("pong"), OBJECTS_LEFT, 20000, &b), 0);
        cr_assert(IS(b, text));
    }
    cr_expect_eq(child_wait(child), 0);
}

/* ---- transactions ---- */

static int transfer(struct objects *t, void *arg) {
    int64_t left = 0;
    int r = objects_value_add(t, T("from"), -30, &left);
    r = r ? r : objects_value_add(t, T("to"), 30, NULL);
    if (r == 0 && left < 0) {
        r = -ECANCELED;
    }
    if (arg) {
        *(int *)arg += 1;
    }
    return r;
}

Test(calls, a_transaction_is_all_or_nothing) {
    struct task_bytes names[] = {T("from"), T("to")}, b;
    objects_value_set(&o, T("from"), T("50"), 0, 0);
    cr_expect_eq(objects_transaction(&o, names, 2, transfer, NULL), 0);
    cr_expect_eq(objects_transaction(&o, names, 2, transfer, NULL), -ECANCELED);
    objects_value_get(&o, T("from"), &b);
    cr_expect(IS(b, "20"));
    objects_value_get(&o, T("to"), &b);
    cr_expect(IS(b, "30"));
    cr_expect_eq(objects_transaction(&o, names, 1, transfer, NULL), -EDEADLK);
    objects_value_get(&o, T("from"), &b);
    cr_expect(IS(b, "20"));
    cr_expect_eq(objects_transaction(&o, names, 0, transfer, NULL), -EINVAL);
}

static int go_on(struct objects *t, void *arg) {
    struct task_bytes b;
    (void)arg;
    cr_assert_eq(objects_dict_set(t, T("d"), T("a"), T("1")), 1);
    cr_assert_eq(objects_list_push(t, T("d"), OBJECTS_LEFT, &b, 0), -EPROTOTYPE);
    cr_assert_eq(objects_dict_add(t, T("d"), T("x"), 1, NULL), -EDOM);
    cr_assert_eq(objects_dict_get(t, T("d"), T("a"), &b), 0);
    cr_assert(IS(b, "1"));
    cr_assert_eq(objects_list_pop_wait(t, T("l"), OBJECTS_LEFT, 1000, &b), -EDEADLK);
    struct task_bytes name = T("d");
    cr_assert_eq(objects_transaction(t, &name, 1, go_on, NULL), -EDEADLK);
    return 5;
}

Test(calls, a_failed_call_leaves_the_transaction_whole) {
    struct task_bytes names[] = {T("d"), T("l")}, b;
    objects_dict_set(&o, T("d"), T("x"), T("text"));
    cr_expect_eq(objects_transaction(&o, names, 2, go_on, NULL), 5);
    cr_expect_eq(objects_dict_get(&o, T("d"), T("a"), &b), 0);
    cr_expect_eq(objects_dict_length(&o, T("d")), 2);
}

static int fill(struct objects *t, void *arg) {
    char field[32];
    static char value[4096];
    int r = 0;
    for (int i = 0; r >= 0 && i < *(int *)arg; i++) {
        snprintf(field, sizeof(field), "f%d", i);
        r = objects_dict_set(t, T("d"), T(field), (struct task_bytes){value, sizeof(value)});
    }
    return r < 0 ? r : 0;
}

Test(calls, a_large_transaction_fits_or_leaves_nothing) {
    struct task_bytes name = T("d");
    int n = 2000;
    cr_expect_eq(objects_transaction(&o, &name, 1, fill, &n), 0);
    cr_expect_eq(objects_dict_length(&o, T("d")), 2000);
    objects_dict_clear(&o, T("d"));
    n = 20000; /* 80 MB into 32 */
    cr_expect_eq(objects_transaction(&o, &name, 1, fill, &n), -ENOMEM);
    cr_expect_eq(objects_exists(&o, T("d")), 0);
    cr_expect_eq(objects_dict_set(&o, T("d"), T("still"), T("works")), 1);
}

/* ---- many processes ---- */

enum { EACH = 20000 };

static int count_up(void *arg) {
    struct shm s;
    struct objects mine;
    uint32_t slot, gen;
    char field[8];
    (void)arg;
    if (shm_attach(&s, shm.fd) || slot_reserve(&s, 0, &slot, &gen) || slot_attach(&s, slot, gen)) {
        return 1;
    }
    objects_init(&mine, &s);
    for (int i = 0; i < EACH; i++) {
        snprintf(field, sizeof(field), "%d", i % 50);
        if (objects_dict_add(&mine, T("d"), T(field), 1, NULL)) {
            return 2;
        }
    }
    return 0;
}

Test(calls, no_count_is_lost) {
    pid_t a = child_start(count_up, NULL), b = child_start(count_up, NULL);
    cr_expect_eq(child_wait(a), 0);
    cr_expect_eq(child_wait(b), 0);
    const struct task_bytes *items;
    uint64_t cursor = 0;
    size_t n;
    long sum = 0;
    do {
        cr_assert_eq(objects_dict_scan(&o, T("d"), &cursor, 1000, &items, &n), 0);
        for (size_t i = 1; i < n; i += 2) {
            sum += atol(items[i].data);
        }
    } while (cursor);
    cr_expect_eq(sum, 2 * EACH);
}

Test(calls, without_a_slot_one_can_only_look) {
    struct shm s;
    struct objects mine;
    struct task_bytes b;
    objects_dict_set(&o, T("d"), T("f"), T("v"));
    cr_assert_eq(shm_attach(&s, shm.fd), 0);
    objects_init(&mine, &s);
    cr_expect_eq(objects_dict_get(&mine, T("d"), T("f"), &b), 0);
    cr_expect(IS(b, "v"));
    cr_expect_eq(objects_dict_set(&mine, T("d"), T("f"), T("v")), -EPERM);
    objects_deinit(&mine);
    shm_detach(&s);
}
