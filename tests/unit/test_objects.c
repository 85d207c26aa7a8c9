/* SPDX-License-Identifier: MIT */
/* Dicts, keys, values and the operations around them, against plain models. The segment is checked block by block all along.
 * Lists are in test_list.c; what happens on death, in tests/crash. */
#include "lib/shm/op.h"

#include <inttypes.h>
#include <stdio.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/shm/list.h"
#include "lib/shm/lock.h"
#include "tests/unit/objects.h"

TestSuite(objects, .timeout = 60);

static int do_delete(struct shm *s, struct call *c) {
    struct key key;
    int r = key_find_write(s, &c->name, &key);
    return r ? r : key_delete(s, &key);
}

/* ---- dicts ---- */

enum { FIELDS = 200000, ALWAYS = 1000 };

/* What field i holds: 0: it is not there; else the value's length and bytes come from the number. */
struct dict_model {
    uint32_t *of;
    uint64_t n;
};

static size_t field_of(uint32_t i, char out[64]) {
    return (size_t)snprintf(out, 64, i % 5 ? "%u" : "a longer name of a field, number %u", i);
}

static size_t value_of(uint32_t v, uint8_t out[600]) {
    size_t len = v % 40 == 0 ? v / 40 % 600 : v % 32;
    for (size_t i = 0; i < len; i++) {
        out[i] = (uint8_t)(v >> (i % 4 * 8));
    }
    return len;
}

static int put_field(struct shm *s, struct call *c) {
    struct dict d;
    char field[64];
    uint8_t value[600];
    size_t len = field_of((uint32_t)c->index, field);
    int r = dict_open(s, &c->name, true, &d);
    r = r ? r : dict_put(s, &d, field, len, value, value_of((uint32_t)c->n, value));
    if (r >= 0) {
        int e = dict_close(s, &d);
        return e ? e : r;
    }
    return r;
}

static int remove_field(struct shm *s, struct call *c) {
    struct dict d;
    char field[64];
    int r = dict_open(s, &c->name, true, &d);
    r = r ? r : dict_remove(s, &d, field, field_of((uint32_t)c->index, field));
    if (r >= 0) {
        int e = dict_close(s, &d);
        return e ? e : r;
    }
    return r;
}

static int read_field(struct shm *s, void *arg) {
    struct call *c = arg;
    struct dict d;
    char field[64];
    int r = dict_open(s, &c->name, false, &d);
    return r ? r : dict_get(s, &d, field, field_of((uint32_t)c->index, field), &c->got);
}

static void same_field(struct shm *s, struct call *c, const struct dict_model *m, uint32_t i) {
    uint8_t value[600];
    c->index = i;
    int r = op_read(s, c->name.shard, read_field, c);
    cr_assert_eq(r, m->of[i] ? 0 : -ENOENT, "field %u: %d", i, r);
    if (r == 0) {
        cr_assert_eq(c->got.len, value_of(m->of[i], value));
        cr_assert_eq(memcmp(c->got.data, value, c->got.len), 0, "field %u", i);
    }
}

static void change_field(struct shm *s, struct call *c, struct dict_model *m, uint32_t i,
                         bool put) {
    c->index = i;
    if (put) {
        c->n = 1 + rnd(UINT32_MAX - 1);
        cr_assert_eq(call(s, c, put_field), !m->of[i]);
        m->n += !m->of[i];
        m->of[i] = (uint32_t)c->n;
    } else {
        cr_assert_eq(call(s, c, remove_field), m->of[i] != 0);
        m->n -= m->of[i] != 0;
        m->of[i] = 0;
    }
}

/* A scan that goes on while the dict changes. */
struct scan {
    struct shm *s;
    struct key_name name;
    uint64_t cursor, rounds, most;
    uint64_t here;        /* entries met in one step */
    uint8_t seen[ALWAYS]; /* of the fields that are always there */
};

static int scan_node(void *arg, struct shm_node *n) {
    struct scan *c = arg;
    size_t len;
    const char *field = hash_key(c->s, n, &len);
    c->here++;
    cr_assert_not_null(field);
    uint32_t i = 0;
    const char *digits = len > 10 ? field + len - 1 : field;
    while (digits > field && digits[-1] >= '0' && digits[-1] <= '9') {
        digits--;
    }
    for (; digits < field + len; digits++) {
        i = i * 10 + (uint32_t)(*digits - '0');
    }
    if (i < ALWAYS) {
        c->seen[i] = 1;
    }
    return 0;
}

static int scan_step(struct shm *s, void *arg) {
    struct scan *c = arg;
    struct dict d;
    int r = dict_open(s, &c->name, false, &d);
    c->here = 0;
    return r ? r : hash_scan(s, d.fields, &c->cursor, scan_node, c);
}

static void scan_on(struct shm *s, struct scan *c) {
    cr_assert_eq(op_read(s, c->name.shard, scan_step, c), 0);
    c->most = c->here > c->most ? c->here : c->most;
    if (c->cursor == 0) {
        for (uint32_t i = 0; i < ALWAYS; i++) {
            cr_assert(c->seen[i], "round %lu did not meet field %u", (unsigned long)c->rounds, i);
        }
        memset(c->seen, 0, sizeof(c->seen));
        c->rounds++;
    }
}

Test(objects, dict_grows_and_shrinks_and_scans_meet_every_field) {
    struct shm s = new_segment(256 << 20);
    struct dict_model m = {calloc(FIELDS, sizeof(uint32_t)), 0};
    struct call c = {.name = key_name(&s, "dict", 4)};
    _cleanup_free_ struct scan *scan = calloc(1, sizeof(*scan));
    scan->s = &s;
    scan->name = c.name;
    for (uint32_t i = 0; i < FIELDS; i++) {
        change_field(&s, &c, &m, i, true);
        if (i >= ALWAYS) {
            scan_on(&s, scan);
            same_field(&s, &c, &m, (uint32_t)rnd(FIELDS));
        }
        if (i % 10000 == 0) {
            checked(&s);
        }
    }
    cr_expect_geq(scan->rounds, 2);
    for (uint32_t i = FIELDS; i-- > ALWAYS;) {
        change_field(&s, &c, &m, i, false);
        scan_on(&s, scan);
        same_field(&s, &c, &m, (uint32_t)rnd(FIELDS));
        if (i % 10000 == 0) {
            checked(&s);
        }
    }
    cr_expect_geq(scan->rounds, 10);
    cr_expect_leq(scan->most, 100, "%lu entries in one step", (unsigned long)scan->most);
    for (uint32_t i = 0; i < ALWAYS; i++) {
        change_field(&s, &c, &m, i, false);
    }
    cr_assert_eq(m.n, 0);
    cr_assert_eq(keys_count(&s), 0);
    cr_assert_eq(blocks_left(&s), 0);
    free(m.of);
    shm_detach(&s);
}

Test(objects, dicts_that_come_and_go_leave_nothing) {
    struct shm s = new_segment(4 << 20);
    struct dict_model m = {calloc(FIELDS, sizeof(uint32_t)), 0};
    for (int round = 0; round < 1000; round++) {
        char text[32];
        struct call c = {.name = key_name(&s, text, (size_t)snprintf(text, 32, "dict %d", round))};
        uint32_t n = (uint32_t)(rnd(2) ? 1 + rnd(60) : 8 + rnd(3)); /* two buckets, or a chain */
        uint32_t from = (uint32_t)rnd(FIELDS - 60);
        for (uint32_t i = from; i < from + n; i++) {
            change_field(&s, &c, &m, i, true);
        }
        for (uint32_t i = from; i < from + n; i++) {
            change_field(&s, &c, &m, i, false);
        }
        cr_assert_eq(blocks_left(&s), 0, "%u fields", n);
    }
    free(m.of);
    shm_detach(&s);
}

struct fields {
    struct call c;
    uint64_t seed;
    uint32_t range;
};

static int some_fields(struct shm *s, void *arg, int i) {
    struct fields *f = arg;
    uint64_t h = (f->seed + (uint64_t)i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    bool dense = f->seed & 1;
    f->c.index = (h >> 32) % f->range;
    f->c.n = (uint32_t)h | 1;
    return h >> 60 < (dense ? 10 : 5) ? put_field(s, &f->c) : remove_field(s, &f->c);
}

Test(objects, dict_after_failed_operations) {
    struct shm s = new_segment(64 << 20);
    static const uint32_t ranges[] = {5, 12, 40, 3000};
    struct dict_model m = {calloc(FIELDS, sizeof(uint32_t)), 0};
    struct fields f = {.c.name = key_name(&s, "dict", 4)};
    for (int i = 0; i < 8000; i++) {
        f.range = ranges[i / 2000];
        f.seed = rnd(UINT64_MAX);
        struct batch b = {key_shard_bit(&f.c.name), some_fields, &f, 1 + (int)rnd(150), true};
        cr_assert_eq(op_run(&s, b.shards, run_batch, &b), -ECANCELED);
        for (int k = 0; k < 5; k++) {
            change_field(&s, &f.c, &m, (uint32_t)rnd(f.range), rnd(100) < 60);
        }
        for (uint32_t k = 0; k < 10; k++) {
            same_field(&s, &f.c, &m, (uint32_t)rnd(f.range));
        }
        if (i % 50 == 0) {
            for (uint32_t k = 0; k < f.range; k++) {
                same_field(&s, &f.c, &m, k);
            }
            checked(&s);
        }
    }
    call(&s, &f.c, do_delete);
    cr_assert_eq(blocks_left(&s), 0);
    free(m.of);
    shm_detach(&s);
}

/* ---- keys ---- */

static int do_expire(struct shm *s, struct call *c) {
    struct key key;
    int r = key_find_write(s, &c->name, &key);
    return r ? r : key_set_expire(s, &key, c->index);
}

static int do_value(struct shm *s, struct call *c) {
    return value_set(s, &c->name, c->data, c->len, c->left);
}

static int do_version(struct shm *s, void *arg) {
    struct call *c = arg;
    c->index = key_mark(s, &c->name).version;
    return 0;
}

static uint64_t version(struct shm *s, struct call *c) {
    cr_assert_eq(op_read(s, c->name.shard, do_version, c), 0);
    return c->index;
}

struct rename_call {
    struct key_name from, to;
};

static int do_rename(struct shm *s, void *arg) {
    struct rename_call *c = arg;
    struct key key, old;
    int r = key_find_write(s, &c->from, &key);
    if (r) {
        return r;
    }
    r = key_find_write(s, &c->to, &old);
    if (r == 0) {
        r = key_delete(s, &old);
        r = r ? r : key_find_write(s, &c->from, &key);
    } else {
        r = r == -ENOENT ? 0 : r;
    }
    return r ? r : key_rename(s, &key, &c->to);
}

static struct key_name name_of(struct shm *s, uint32_t i, char out[32]) {
    return key_name(s, out, (size_t)snprintf(out, 32, "key:%u", i));
}

static int read_value(struct shm *s, void *arg) {
    struct call *c = arg;
    char digits[24];
    int r = value_get(s, &c->name, digits, &c->got);
    if (r == 0) {
        cr_assert_leq(c->got.len, sizeof(c->copy));
        memcpy(c->copy, c->got.data, c->got.len);
    }
    return r;
}

enum { KEYS = 300 };

static int count_key(void *arg, const void *name, size_t len, const struct shm_key *k) {
    uint32_t *seen = arg;
    char text[32] = "";
    (void)k;
    cr_assert_leq(len, 20);
    memcpy(text, name, len);
    seen[strtoul(text + 4, NULL, 10)]++;
    return 0;
}

struct keys_step {
    uint64_t cursor;
    uint32_t *seen;
};

static int keys_step(struct shm *s, void *arg) {
    struct keys_step *k = arg;
    return keys_scan(s, &k->cursor, count_key, k->seen);
}

/* Every key of the model (0: none) is met by a scan, and no other. */
static void same_keys(struct shm *s, const uint32_t *of) {
    uint32_t seen[KEYS] = {0}, n = 0;
    struct keys_step k = {0, seen};
    do {
        cr_assert_eq(op_read(s, keys_cursor_shard(k.cursor), keys_step, &k), 0);
    } while (k.cursor);
    for (uint32_t i = 0; i < KEYS; i++) {
        char text[32], want[32];
        struct call c = {.name = name_of(s, i, text)};
        cr_assert_eq(seen[i] != 0, of[i] != 0, "key %u", i);
        cr_assert_eq(op_read(s, c.name.shard, read_value, &c), of[i] ? 0 : -ENOENT);
        if (of[i]) {
            size_t len = (size_t)snprintf(want, sizeof(want), of[i] % 2 ? "%u" : "v%u", of[i]);
            cr_assert_eq(c.got.len, len);
            cr_assert_eq(memcmp(c.copy, want, len), 0);
            n++;
        }
    }
    cr_assert_eq(keys_count(s), n);
}

static void change_key(struct shm *s, uint32_t *of) {
    char text[32], other[32], value[32];
    uint32_t i = (uint32_t)rnd(KEYS), j = (uint32_t)rnd(KEYS);
    struct call c = {.name = name_of(s, i, text)};
    uint64_t before = version(s, &c);
    cr_assert_eq(before != 0, of[i] != 0);
    switch (rnd(4)) {
    case 0:
    case 1: {
        uint32_t v = 1 + (uint32_t)rnd(1000000);
        c.data = value;
        c.len = (size_t)snprintf(value, sizeof(value), v % 2 ? "%u" : "v%u", v);
        cr_assert_eq(call(s, &c, do_value), 0);
        of[i] = v;
        cr_assert_neq(version(s, &c), before);
        break;
    }
    case 2:
        cr_assert_eq(call(s, &c, do_delete), of[i] ? 0 : -ENOENT);
        of[i] = 0;
        cr_assert_eq(version(s, &c), 0);
        break;
    default: {
        struct rename_call r = {c.name, name_of(s, j, other)};
        if (i != j) {
            int e = op_run(s, key_shard_bit(&r.from) | key_shard_bit(&r.to), do_rename, &r);
            cr_assert_eq(e, of[i] ? 0 : -ENOENT);
            of[j] = of[i] ? of[i] : of[j];
            of[i] = 0;
        }
    }
    }
}

Test(objects, keys_are_set_renamed_deleted_and_scanned) {
    struct shm s = new_segment(64 << 20);
    uint32_t of[KEYS] = {0};
    for (int i = 0; i < 100000; i++) {
        change_key(&s, of);
        if (i % 1000 == 0) {
            same_keys(&s, of);
            checked(&s);
        }
    }
    shm_detach(&s);
}

struct sweep_call {
    unsigned shard;
    uint64_t now_ms, cursor;
};

static int do_sweep(struct shm *s, void *arg) {
    struct sweep_call *c = arg;
    return c->now_ms ? keys_expire_some(s, c->shard, c->now_ms, &c->cursor, 20)
                     : keys_flush_some(s, c->shard, 20);
}

Test(objects, expired_keys_are_gone_at_once_and_swept_later) {
    struct shm s = new_segment(64 << 20);
    uint32_t of[KEYS] = {0};
    char text[32];
    uint64_t now = clock_wall_ms();
    for (uint32_t i = 0; i < KEYS; i++) {
        struct call c = {.name = name_of(&s, i, text), .data = "v2", .len = 2};
        cr_assert_eq(call(&s, &c, do_value), 0);
        of[i] = 2;
        c.index = i % 3 == 0 ? now - 1 : i % 3 == 1 ? now + 1000000 : 0;
        cr_assert_eq(call(&s, &c, do_expire), 0);
        of[i] = i % 3 ? of[i] : 0;
    }
    cr_assert_eq(keys_expiring(&s), 2 * KEYS / 3);
    for (uint32_t i = 0; i < KEYS; i += 3) {
        struct call c = {.name = name_of(&s, i, text)};
        cr_assert_eq(op_read(&s, c.name.shard, read_value, &c), -ENOENT);
        cr_assert_eq(version(&s, &c), 0);
        if (i % 2) {
            cr_assert_eq(call(&s, &c, do_delete), -ENOENT);
        }
    }
    int swept = 0;
    for (unsigned shard = 0; shard < SHM_SHARDS; shard++) {
        struct sweep_call c = {.shard = shard, .now_ms = now};
        do {
            int r = op_run(&s, UINT64_C(1) << shard, do_sweep, &c);
            cr_assert_geq(r, 0);
            swept += r;
        } while (c.cursor);
    }
    cr_assert_geq(swept, KEYS / 6);
    cr_assert_eq(keys_expiring(&s), KEYS / 3);
    same_keys(&s, of);
    for (unsigned shard = 0; shard < SHM_SHARDS; shard++) {
        struct sweep_call c = {.shard = shard};
        int r;
        while ((r = op_run(&s, UINT64_C(1) << shard, do_sweep, &c)) == 1) {
        }
        cr_assert_eq(r, 0);
    }
    cr_assert_eq(keys_count(&s), 0);
    cr_assert_eq(keys_expiring(&s), 0);
    cr_assert_eq(blocks_left(&s), 0);
    shm_detach(&s);
}

static int make_dict(struct shm *s, struct call *c) {
    struct dict d;
    return dict_open(s, &c->name, true, &d);
}

Test(objects, a_renamed_dict_keeps_its_fields_and_types_do_not_mix) {
    struct shm s = new_segment(16 << 20);
    struct call a = {.name = key_name(&s, "a", 1)}, v = {.name = key_name(&s, "v", 1)};
    for (a.index = 0; a.index < 100; a.index++) {
        a.n = a.index + 1;
        cr_assert_eq(call(&s, &a, put_field), 1);
    }
    v.data = "text";
    v.len = 4;
    cr_assert_eq(call(&s, &v, do_value), 0);
    cr_assert_eq(call(&s, &v, make_dict), -EPROTOTYPE);
    cr_assert_eq(op_read(&s, a.name.shard, read_value, &a), -EPROTOTYPE);
    struct rename_call r = {a.name, v.name};
    uint64_t both = key_shard_bit(&r.from) | key_shard_bit(&r.to);
    cr_assert_eq(op_run(&s, both, do_rename, &r), 0);
    cr_assert_eq(op_run(&s, both, do_rename, &r), -ENOENT);
    checked(&s);
    for (v.index = 0; v.index < 100; v.index++) {
        cr_assert_eq(op_read(&s, v.name.shard, read_field, &v), 0);
    }
    /* SET takes the place of whatever was there */
    cr_assert_eq(call(&s, &v, do_value), 0);
    cr_assert_eq(op_read(&s, v.name.shard, read_value, &v), 0);
    cr_assert_eq(call(&s, &v, do_delete), 0);
    cr_assert_eq(blocks_left(&s), 0);
    shm_detach(&s);
}

/* ---- values ---- */

struct text {
    size_t len;
    char bytes[5000];
};

static int do_write(struct shm *s, struct call *c) {
    uint64_t len;
    int r = value_write(s, &c->name, c->index, c->data, c->len, &len);
    c->n = r ? c->n : len;
    return r;
}

static int do_add(struct shm *s, struct call *c) {
    int64_t v;
    int r = value_add(s, &c->name, (int64_t)c->n, &v);
    c->index = r ? c->index : (uint64_t)v;
    return r;
}

static int same_text(struct shm *s, void *arg) {
    struct call *c = arg;
    const struct text *t = c->data;
    char digits[24];
    int r = value_get(s, &c->name, digits, &c->got);
    if (r == 0) {
        cr_assert_eq(c->got.len, t->len);
        cr_assert_eq(memcmp(c->got.data, t->bytes, t->len), 0);
    }
    return r;
}

/* One change of a value, decided by h; t is changed likewise unless NULL. */
static int change_value(struct shm *s, struct call *c, uint64_t h, struct text *t) {
    static const char letters[] = "the quick brown fox jumps over the lazy dog, and again: ";
    char bytes[1200];
    size_t len = h >> 20 & 7 ? (h >> 24) % 60 : (h >> 24) % 1200;
    for (size_t i = 0; i < len; i++) {
        bytes[i] = letters[(i + h) % (sizeof(letters) - 1)];
    }
    if (h >> 40 & 1) {
        len = (size_t)snprintf(bytes, sizeof(bytes), "%" PRId64, (int64_t)(h << 20) >> 40);
    }
    c->data = bytes;
    c->len = len;
    int r;
    switch (h >> 61) {
    case 0:
    case 1:
    case 2:
        r = call(s, c, do_value);
        if (r == 0 && t) {
            t->len = len;
            memcpy(t->bytes, bytes, len);
        }
        return r;
    case 3:
    case 4:
    case 5:
        c->index = UINT64_MAX; /* the end, found out below */
        if (t) {
            c->index = t->len;
        } else {
            struct key key;
            char digits[24];
            r = key_find_write(s, &c->name, &key);
            c->index = r ? 0 : value_bytes(s, &key, digits).len;
        }
        if (c->index + len > 4900) {
            return 0;
        }
        break;
    default:
        c->index = (h >> 50) % 3000;
    }
    r = call(s, c, do_write);
    if (r == 0 && t) {
        if (c->index > t->len) {
            memset(t->bytes + t->len, 0, c->index - t->len);
        }
        memcpy(t->bytes + c->index, bytes, len);
        t->len = c->index + len > t->len ? c->index + len : t->len;
        cr_assert_eq(c->n, t->len);
    }
    return r;
}

static int change_values(struct shm *s, void *arg, int i) {
    struct fields *f = arg;
    uint64_t h = (f->seed + (uint64_t)i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    return change_value(s, &f->c, h, NULL);
}

Test(objects, values_like_texts_with_failed_operations_between) {
    struct shm s = new_segment(64 << 20);
    _cleanup_free_ struct text *t = calloc(1, sizeof(*t));
    struct fields f = {.c.name = key_name(&s, "value", 5)};
    struct call c = {.name = f.c.name};
    for (int i = 0; i < 100000; i++) {
        cr_assert_eq(change_value(&s, &c, rnd(UINT64_MAX), t), 0);
        f.seed = rnd(UINT64_MAX);
        if (i % 4 == 0) {
            struct batch b = {key_shard_bit(&c.name), change_values, &f, 1 + (int)rnd(6), true};
            cr_assert_eq(op_run(&s, b.shards, run_batch, &b), -ECANCELED);
        }
        c.data = t;
        cr_assert_eq(op_read(&s, c.name.shard, same_text, &c), 0);
        if (i % 1000 == 0) {
            checked(&s);
        }
    }
    call(&s, &c, do_delete);
    cr_assert_eq(blocks_left(&s), 0);
    shm_detach(&s);
}

Test(objects, integers_count_and_refuse_what_is_none) {
    struct shm s = new_segment(1 << 20);
    struct call c = {.name = key_name(&s, "n", 1), .n = 1};
    for (uint64_t i = 1; i <= 1000; i++) {
        cr_assert_eq(call(&s, &c, do_add), 0);
        cr_assert_eq(c.index, i);
    }
    c.n = INT64_MAX;
    cr_assert_eq(call(&s, &c, do_add), -ERANGE);
    cr_assert_eq(op_read(&s, c.name.shard, read_value, &c), 0);
    cr_assert_eq(memcmp(c.copy, "1000", 4), 0);
    static const char *const texts[] = {"",   "-", "-0", "01", "1 ", " 1", "9223372036854775808",
                                        "1.0"};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        c.data = texts[i];
        c.len = strlen(texts[i]);
        c.n = 1;
        cr_assert_eq(call(&s, &c, do_value), 0);
        cr_expect_eq(call(&s, &c, do_add), -EDOM, "'%s'", texts[i]);
        cr_assert_eq(op_read(&s, c.name.shard, read_value, &c), 0);
        cr_expect_eq(c.got.len, c.len);
    }
    c.data = "-9223372036854775808";
    c.len = 20;
    cr_assert_eq(call(&s, &c, do_value), 0);
    cr_assert_eq(call(&s, &c, do_add), 0);
    cr_expect_eq((int64_t)c.index, INT64_MIN + 1);
    shm_detach(&s);
}

/* ---- damage ---- */

static int visit_nothing(void *arg, uint64_t index, const void *data, size_t len) {
    uint64_t *sum = arg;
    *sum += index + (len ? *(const uint8_t *)data + ((const uint8_t *)data)[len - 1] : 0);
    return 0;
}

static int read_all(struct shm *s, void *arg) {
    struct call *c = arg;
    struct list_object l;
    uint64_t sum = 0;
    int r = list_open(s, &c->name, false, &l);
    r = r ? r : list_walk(s, &l, c->index % 7, c->left, visit_nothing, &sum);
    if (r == 0 && list_at(s, &l, c->index % 500, &c->got) == 0) {
        sum += c->got.len;
    }
    return r < 0 ? r : (int)(sum & 1);
}

static int change_list(struct shm *s, struct call *c) {
    struct list_object l;
    struct task_bytes got;
    int r = list_open(s, &c->name, true, &l);
    switch (r ? 99 : c->n % 6) {
    case 0:
        r = list_push(s, &l, c->left, c->data, c->len);
        break;
    case 1:
        r = list_pop(s, &l, c->left, &got);
        break;
    case 2:
        r = list_set(s, &l, c->index % 400, c->data, c->len);
        break;
    case 3:
        r = list_insert(s, &l, c->index % 400, c->data, c->len);
        break;
    case 4:
        r = list_remove(s, &l, c->index % 400, c->index % 50);
        break;
    case 5:
        r = list_remove(s, &l, 3, UINT64_MAX);
        break;
    default:
        break;
    }
    return r ? r : list_close(s, &l);
}

/* Words here and there become others: zero, small, one more, another one's, or chance. */
static void damage(struct shm *s) {
    uint64_t used = s->data_off + 24 * SHM_CHUNK, n = 1 + rnd(6);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t from = rnd(4) ? s->data_off : (uint64_t)((uint8_t *)s->shards - s->base);
        uint64_t to = from == s->data_off ? used : from + SHM_SHARDS * sizeof(struct shm_shard);
        uint64_t *w = (void *)(s->base + from + rnd((to - from) / 8) * 8);
        const uint64_t *other = (void *)(s->base + s->data_off + rnd((used - s->data_off) / 8) * 8);
        const uint64_t to_be[] = {0,
                                  rnd(70000),
                                  *w + 1,
                                  *other,
                                  rnd(UINT64_MAX),
                                  *w ^ 1u << rnd(20),
                                  s->data_off + rnd(1000) * 16};
        *w = to_be[rnd(ARRAY_SIZE(to_be))];
    }
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        put32(&s->shards[i].lock.word, 0); /* whose lock it is, lock.c's tests say */
    }
}

static void use_damaged(struct shm *s, struct call *list, struct call *dict) {
    char bytes[900] = {1};
    struct shm_report report;
    list->data = bytes;
    for (int i = 0; i < 40; i++) {
        list->n = rnd(100);
        list->index = rnd(1000);
        list->left = rnd(2);
        list->len = rnd(4) ? rnd(40) : rnd(sizeof(bytes));
        dict->index = rnd(1000);
        dict->n = 1 + rnd(10000);
        op_read(s, list->name.shard, read_all, list);
        op_read(s, dict->name.shard, read_field, dict);
        call(s, list, change_list);
        call(s, dict, rnd(2) ? put_field : remove_field);
    }
    cr_assert_eq(shm_check(s, &report), 0);
    call(s, list, do_delete);
    call(s, dict, do_delete);
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        for (int k = 0; k < 1000 && op_tidy(s, i) == 1; k++) {
        }
    }
    cr_assert_eq(shm_check(s, &report), 0);
}

Test(objects, damage_is_survived) {
    for (int round = 0; round < 400; round++) {
        struct shm s = new_segment(2 << 20);
        char bytes[700] = "";
        struct call list = {.name = key_name(&s, "list", 4)};
        struct call dict = {.name = key_name(&s, "dict", 4)};
        for (uint64_t i = 0; i < 2000; i++) {
            list.data = bytes;
            list.len = i % 50 ? i % 90 : 700;
            list.left = i & 1;
            cr_assert_eq(call(&s, &list, change_list), 0);
            dict.index = i % 1000;
            dict.n = i;
            cr_assert_geq(call(&s, &dict, put_field), 0);
        }
        damage(&s);
        use_damaged(&s, &list, &dict);
        shm_detach(&s);
    }
}

/* ---- operations ---- */

static int add_field(struct shm *s, void *arg, int i) {
    struct call *c = arg;
    c->index = (uint64_t)i;
    c->n = 29;
    return put_field(s, c);
}

Test(objects, an_operation_of_a_hundred_thousand_words) {
    struct shm s = new_segment(128 << 20);
    struct call c = {.name = key_name(&s, "dict", 4)};
    struct batch b = {key_shard_bit(&c.name), add_field, &c, 20000, true};
    cr_assert_eq(op_run(&s, b.shards, run_batch, &b), -ECANCELED);
    cr_assert_geq(s.tx_room, 100000u);
    cr_assert_eq(keys_count(&s), 0);
    cr_assert_eq(blocks_left(&s), 0);
    b.spoil = false;
    cr_assert_eq(op_run(&s, b.shards, run_batch, &b), 0);
    checked(&s);
    for (c.index = 0; c.index < 20000; c.index++) {
        cr_assert_eq(op_read(&s, c.name.shard, read_field, &c), 0);
    }
    shm_detach(&s);
}

Test(objects, a_full_segment_changes_nothing_and_can_be_emptied) {
    struct shm s = new_segment(2 << 20);
    struct call c = {.name = key_name(&s, "dict", 4)};
    for (int round = 0; round < 3; round++) {
        uint64_t n = 0;
        int r = 1;
        for (; r == 1; n++) {
            c.index = n;
            c.n = 31;
            r = call(&s, &c, put_field);
        }
        cr_assert_eq(r, -ENOMEM, "%d", r);
        checked(&s);
        /* what is there already can still be changed in place, and the full operation had no effect */
        cr_assert_eq(op_read(&s, c.name.shard, read_field, &c), -ENOENT);
        c.index = 7;
        cr_assert_eq(call(&s, &c, put_field), 0);
        struct batch b = {key_shard_bit(&c.name), add_field, &c, (int)n + 50, false};
        cr_assert_eq(op_run(&s, b.shards, run_batch, &b), -ENOMEM);
        checked(&s);
        for (uint64_t i = 0; i + 1 < n; i++) {
            c.index = i;
            cr_assert_eq(call(&s, &c, remove_field), 1);
        }
        cr_assert_eq(blocks_left(&s), 0);
    }
    shm_detach(&s);
}

Test(objects, memory_of_what_was_deleted_is_found_when_it_is_needed) {
    struct shm s = new_segment(4 << 20);
    struct call c = {.name = key_name(&s, "dict", 4)};
    uint64_t n = 0;
    for (; n < 5000; n++) {
        c.index = n;
        c.n = 31;
        cr_assert_eq(call(&s, &c, put_field), 1);
    }
    for (int i = 0; i < 50; i++) {
        cr_assert_eq(call(&s, &c, do_delete), 0);
        for (n = 0; n < 5000; n++) {
            c.index = n;
            c.n = 31;
            cr_assert_eq(call(&s, &c, put_field), 1);
        }
    }
    checked(&s);
    shm_detach(&s);
}
