/* SPDX-License-Identifier: MIT */
/* The keyspace as a whole: flushing it, expiry, and what is left behind for the daemon to tidy. The segment is checked block
 * by block after each. */
#include "lib/shm/keys.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/shm/check.h"
#include "lib/shm/internal.h"
#include "lib/shm/list.h"
#include "lib/shm/lock.h"
#include "lib/shm/manager.h"
#include "lib/shm/objects.h"
#include "lib/shm/op.h"
#include "lib/shm/slot.h"

TestSuite(keyspace, .timeout = 60);

enum { KEYS = 20000, FIELDS = 100 };

static struct shm segment(uint64_t size) {
    struct shm s;
    uint32_t slot, gen;
    cr_assert_eq(shm_create(&s, &(struct shm_params){.size = size, .slots = 4, .tasks = 64}), 0);
    cr_assert_eq(slot_reserve(&s, 0, &slot, &gen), 0);
    cr_assert_eq(slot_attach(&s, slot, gen), 0);
    return s;
}

static uint64_t checked_at(struct shm *s, int line) {
    struct shm_report r;
    cr_assert_eq(shm_check(s, &r), 0);
    cr_assert_eq(r.errors, 0, "line %d: %s", line, r.first);
    return r.blocks - (get(&s->mine->undo_more) != 0);
}

#define checked(s) checked_at((s), __LINE__)

static void tidy(struct shm *s, bool check) {
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        int r;
        for (int n = 0; (r = op_tidy(s, i)) == 1; n++) {
            if (check && n % 64 == 0) {
                checked(s);
            }
        }
        cr_assert_eq(r, 0);
        cr_assert_neq(op_upkeep_shard(s, i), OP_UNTIDY);
    }
}

/* A value, or now and then a dict or a list, with an expiry if it is to have one. */
struct make {
    char name[32];
    int kind;
    uint64_t expire;
};

static int make(struct shm *s, void *arg) {
    const struct make *m = arg;
    struct key_name name = key_name(s, m->name, strlen(m->name));
    struct list_object l;
    struct dict d;
    struct key key;
    int r = 0;
    if (m->kind == KEY_VALUE) {
        r = value_set(s, &name, m->name, strlen(m->name), false);
    } else if (m->kind == KEY_DICT) {
        r = dict_open(s, &name, true, &d);
        for (int i = 0; r >= 0 && i < FIELDS; i++) {
            r = dict_put(s, &d, &i, sizeof(i), m->name, sizeof(m->name));
        }
        r = r < 0 ? r : dict_close(s, &d);
    } else {
        r = list_open(s, &name, true, &l);
        for (int i = 0; r >= 0 && i < FIELDS; i++) {
            r = list_push(s, &l, i % 2, m->name, sizeof(m->name));
        }
        r = r < 0 ? r : list_close(s, &l);
    }
    if (r == 0 && m->expire) {
        r = key_find(s, &name, &key);
        r = r ? r : key_set_expire(s, &key, m->expire);
    }
    return r;
}

static int make_one(struct shm *s, int n, uint64_t expire) {
    struct make m = {.kind = n % 50 ? KEY_VALUE : n % 100 ? KEY_DICT : KEY_LIST, .expire = expire};
    snprintf(m.name, sizeof(m.name), "key:%d", n);
    struct key_name name = key_name(s, m.name, strlen(m.name));
    return op_run(s, key_shard_bit(&name), make, &m);
}

static int flush_all(struct shm *s, void *arg) {
    int r = 0;
    for (unsigned i = 0; r == 0 && i < SHM_SHARDS; i++) {
        r = keys_flush(s, i);
    }
    return r ? r : *(int *)arg;
}

Test(keyspace, flushed_at_once_and_taken_apart_later) {
    struct shm s = segment(64 << 20);
    int fails = -EDOM, works = 0;
    for (int n = 0; n < KEYS; n++) {
        cr_assert_eq(make_one(&s, n, n % 3 ? 0 : clock_wall_ms() + 1000000), 0);
    }
    cr_assert_eq(keys_count(&s), KEYS);
    cr_assert_gt(keys_expiring(&s), 0);
    tidy(&s, false);
    uint64_t blocks = checked(&s);
    cr_assert_eq(op_run(&s, OP_ALL, flush_all, &fails), -EDOM);
    cr_assert_eq(keys_count(&s), KEYS, "a flush that is rolled back has not been");
    cr_assert_eq(checked(&s), blocks);
    cr_assert_eq(op_run(&s, OP_ALL, flush_all, &works), 0);
    cr_assert_eq(keys_count(&s), 0);
    cr_assert_eq(keys_expiring(&s), 0);
    checked(&s);
    /* the same names again, while the old ones are being taken apart */
    for (int n = 0; n < KEYS / 10; n++) {
        cr_assert_eq(make_one(&s, n, 0), 0);
    }
    tidy(&s, true);
    cr_assert_eq(keys_count(&s), KEYS / 10);
    cr_assert_eq(op_run(&s, OP_ALL, flush_all, &works), 0);
    tidy(&s, true);
    cr_assert_eq(checked(&s), 0);
    shm_detach(&s);
}

static int flush_some(struct shm *s, void *arg) {
    return keys_flush_some(s, *(unsigned *)arg, 64);
}

Test(keyspace, flushed_key_by_key) {
    struct shm s = segment(64 << 20);
    for (int n = 0; n < KEYS; n++) {
        cr_assert_eq(make_one(&s, n, 0), 0);
    }
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        int r;
        while ((r = op_run(&s, UINT64_C(1) << i, flush_some, &i)) == 1) {
        }
        cr_assert_eq(r, 0);
    }
    cr_assert_eq(keys_count(&s), 0);
    tidy(&s, true);
    cr_assert_leq(checked(&s), 3 * SHM_SHARDS, "what the tables have kept");
    shm_detach(&s);
}

struct sweep {
    unsigned shard;
    uint64_t now, cursor;
};

static int sweep(struct shm *s, void *arg) {
    struct sweep *w = arg;
    struct sweep was = *w;
    int r = keys_expire_some(s, w->shard, w->now, &was.cursor, 16);
    w->cursor = was.cursor;
    return r;
}

Test(keyspace, what_has_expired_is_swept_and_nothing_else) {
    struct shm s = segment(64 << 20);
    uint64_t at = clock_wall_ms() + 1000000;
    int gone = 0;
    for (int n = 0; n < KEYS; n++) {
        cr_assert_eq(make_one(&s, n, n % 4 == 0 ? at : n % 4 == 1 ? at + 10 : 0), 0);
    }
    cr_assert_eq(keys_expiring(&s), KEYS / 2);
    for (struct sweep w = {.now = at}; w.shard < SHM_SHARDS; w.shard += w.cursor == 0) {
        int r = op_run(&s, UINT64_C(1) << w.shard, sweep, &w);
        cr_assert_geq(r, 0);
        gone += r;
    }
    cr_assert_eq(gone, KEYS / 4);
    cr_assert_eq(keys_expiring(&s), KEYS / 4);
    cr_assert_eq(keys_count(&s), KEYS * 3 / 4);
    tidy(&s, false);
    checked(&s);
    shm_detach(&s);
}

Test(keyspace, whoever_leaves_work_behind_says_so) {
    struct shm s = segment(16 << 20);
    int works = 0;
    cr_assert_eq(op_upkeep(&s), OP_IDLE);
    cr_assert_eq(make_one(&s, 1, 0), 0);
    cr_assert_eq(op_upkeep(&s), OP_IDLE);
    cr_assert_eq(make_one(&s, 2, clock_wall_ms() + 100000), 0);
    cr_assert_eq(op_upkeep(&s), OP_EXPIRY);
    cr_assert_eq(op_upkeep_known(&s, OP_IDLE), OP_EXPIRY, "what is there is not forgotten");
    cr_assert_eq(make_one(&s, 50, 0), 0);
    cr_assert_eq(op_run(&s, OP_ALL, flush_all, &works), 0);
    cr_assert_eq(op_upkeep(&s), OP_UNTIDY);
    cr_assert_eq(op_upkeep_known(&s, OP_EXPIRY), OP_UNTIDY);
    tidy(&s, true);
    cr_assert_eq(op_upkeep_known(&s, OP_IDLE), OP_IDLE);
    cr_assert_eq(op_upkeep(&s), OP_IDLE);
    shm_detach(&s);
}

struct usage {
    struct key_name name;
    uint32_t samples;
    uint64_t bytes;
};

static int usage(struct shm *s, void *arg) {
    struct usage *u = arg;
    struct key key;
    int r = key_find(s, &u->name, &key);
    if (r == 0) {
        u->bytes = key_memory(s, &key, u->samples);
    }
    return r;
}

Test(keyspace, memory_by_samples_is_near_the_truth) {
    struct shm s = segment(64 << 20);
    cr_assert_eq(make_one(&s, 50, 0), 0);
    struct usage u = {.name = key_name(&s, "key:50", 6)};
    cr_assert_eq(op_read(&s, u.name.shard, usage, &u), 0);
    uint64_t exact = u.bytes;
    cr_assert_gt(exact, FIELDS * 40);
    u.samples = 5;
    cr_assert_eq(op_read(&s, u.name.shard, usage, &u), 0);
    cr_assert(u.bytes > exact * 3 / 4 && u.bytes < exact * 5 / 4, "%llu, not %llu",
              (unsigned long long)u.bytes, (unsigned long long)exact);
    shm_detach(&s);
}

/* ---- chance ---- */

struct draws {
    struct key_name name;
    int fields, n;
    int seen[256];
};

static int add_fields(struct shm *s, void *arg) {
    struct draws *w = arg;
    struct dict d;
    int r = dict_open(s, &w->name, true, &d);
    for (int i = 0; i < w->fields && r >= 0; i++) {
        uint8_t field = (uint8_t)i;
        r = dict_put(s, &d, &field, 1, "v", 1);
    }
    return r < 0 ? r : dict_close(s, &d);
}

static int draw_fields(struct shm *s, void *arg) {
    struct draws *w = arg;
    struct dict d;
    int r = dict_open(s, &w->name, false, &d);
    for (int i = 0; i < w->n && r == 0; i++) {
        struct hash_ref ref;
        size_t len;
        const struct shm_node *n = hash_random(s, d.fields, (uint64_t)i, &ref);
        const uint8_t *field = n ? hash_key(s, n, &len) : NULL;
        if (!field || len != 1) {
            return -EBADMSG;
        }
        w->seen[*field]++;
    }
    return r;
}

Test(keyspace, every_field_is_drawn_as_often_as_another) {
    struct shm s = segment(16 << 20);
    static const int sizes[] = {1, 2, 5, 6, 30, 200};
    for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        char name[16];
        int len = snprintf(name, sizeof(name), "dice:%d", sizes[k]);
        struct draws w = {.name = key_name(&s, name, (size_t)len), .fields = sizes[k]};
        w.n = 1000 * w.fields;
        cr_assert_geq(op_run(&s, key_shard_bit(&w.name), add_fields, &w), 0);
        cr_assert_eq(op_run(&s, key_shard_bit(&w.name), draw_fields, &w), 0);
        for (int i = 0; i < w.fields; i++) {
            /* 200 are six standard deviations */
            cr_assert(w.seen[i] > 800 && w.seen[i] < 1200, "field %d of %d: %d times", i, w.fields,
                      w.seen[i]);
        }
    }
    shm_detach(&s);
}

/* ---- watching ---- */

Test(keyspace, what_is_watched_tells_when_it_is_touched) {
    struct shm s = segment(16 << 20);
    struct draws w = {.name = key_name(&s, "watched", 7), .fields = 1};
    uint64_t bit = key_shard_bit(&w.name);
    char name[] = "a";
    struct draws other = {.name = key_name(&s, name, 1), .fields = 1};
    while (key_shard_bit(&other.name) == bit) {
        name[0]++;
        other.name = key_name(&s, name, 1);
    }
    cr_assert_geq(op_run(&s, bit, add_fields, &w), 0);
    cr_assert(!op_any_touched(&s), "nothing is watched");
    op_watch(&s, bit);
    cr_assert_geq(op_run(&s, key_shard_bit(&other.name), add_fields, &other), 0);
    w.n = 1;
    cr_assert_eq(op_run(&s, bit, draw_fields, &w), 0);
    cr_assert(!op_any_touched(&s), "reading is no touch");
    cr_assert_geq(op_run(&s, bit, add_fields, &w), 0);
    cr_assert(op_any_touched(&s));
    cr_assert_eq(op_touched(&s), bit);
    cr_assert(!op_any_touched(&s));
    op_watch(&s, 0);
    cr_assert_geq(op_run(&s, bit, add_fields, &w), 0);
    cr_assert(!op_any_touched(&s));
    shm_detach(&s);
}

/* ---- what a handle remembers of where keys are ---- */

/* Names of one shard, enough for its table to split and join buckets; each is a dict whose one field says which, or not there. */
enum { CLOSE_NAMES = 40, STEPS = 6000, CALLS = 30 };

struct close_keys {
    struct task_bytes names[CLOSE_NAMES];
    char text[CLOSE_NAMES][24];
    uint64_t is[CLOSE_NAMES], before[CLOSE_NAMES]; /* 0: not there */
    uint64_t seed, seed_before, next;
    bool spoil, falling;
};

static uint64_t draw(struct close_keys *k, uint64_t below) {
    k->seed = k->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (k->seed >> 33) % below;
}

static void close_names(struct close_keys *k, const struct shm *s) {
    for (int i = 0, n = 0; n < CLOSE_NAMES; i++) {
        int len = snprintf(k->text[n], sizeof(k->text[n]), "n%d", i);
        if (key_name(s, k->text[n], (size_t)len).shard == 5) {
            k->names[n] = (struct task_bytes){k->text[n], (size_t)len};
            n++;
        }
    }
}

static void is_as_known(struct objects *o, const struct close_keys *k, uint64_t i) {
    struct task_bytes b;
    int r = objects_dict_get(o, k->names[i], (struct task_bytes){"f", 1}, &b);
    cr_assert_eq(r, k->is[i] ? 0 : -ENOENT, "%s: %d", k->text[i], r);
    cr_assert(r || (b.len == sizeof(k->is[i]) && memcmp(b.data, &k->is[i], b.len) == 0));
}

static int change_close(struct objects *o, void *arg) {
    struct close_keys *k = arg;
    k->seed = k->seed_before;
    memcpy(k->is, k->before, sizeof(k->is));
    for (uint64_t n = 1 + draw(k, CALLS); n; n--) {
        uint64_t i = draw(k, CLOSE_NAMES), to = draw(k, CLOSE_NAMES), v = ++k->next;
        uint64_t what = draw(k, 5);
        int64_t r;
        switch (k->falling && what > 2 ? 0 : what) {
        case 0:
            r = objects_delete(o, &k->names[i], 1);
            if (r == -ENOBUFS) {
                return (int)r;
            }
            cr_assert_eq(r, k->is[i] != 0);
            k->is[i] = 0;
            break;
        case 1:
            if (objects_rename(o, k->names[i], k->names[to], true) == 0 && i != to) {
                k->is[to] = k->is[i];
                k->is[i] = 0;
            }
            break;
        default:
            r = objects_dict_set(o, k->names[i], (struct task_bytes){"f", 1},
                                 (struct task_bytes){&v, sizeof(v)});
            if (r == -ENOBUFS) {
                return (int)r; /* the whole is run again with a larger log */
            }
            cr_assert_geq(r, 0, "%d", (int)r);
            k->is[i] = v;
        }
        is_as_known(o, k, to);
    }
    return k->spoil ? -ECANCELED : 0;
}

Test(keyspace, what_is_remembered_of_keys_is_never_stale) {
    struct shm s = segment(16 << 20), other;
    static struct close_keys k;
    struct objects mine, theirs;
    cr_assert_eq(shm_attach_readonly(&other, s.fd), 0);
    objects_init(&mine, &s);
    objects_init(&theirs, &other);
    k.seed = 1;
    close_names(&k, &s);
    for (int n = 0; n < STEPS; n++) {
        memcpy(k.before, k.is, sizeof(k.is));
        k.seed_before = k.seed;
        k.spoil = draw(&k, 2);
        k.falling = draw(&k, 2);
        k.seed_before = k.seed;
        int r = objects_transaction(&mine, k.names, CLOSE_NAMES, change_close, &k);
        cr_assert_eq(r, k.spoil ? -ECANCELED : 0);
        if (k.spoil) {
            memcpy(k.is, k.before, sizeof(k.is));
        }
        for (int i = 0; i < 8; i++) {
            is_as_known(i % 2 ? &mine : &theirs, &k, draw(&k, CLOSE_NAMES));
        }
    }
    checked(&s);
    objects_deinit(&theirs);
    objects_deinit(&mine);
    shm_detach(&other);
    shm_detach(&s);
}

/* ---- a full segment ---- */

static const char filling[3000];

struct filler {
    char prefix[32];
    int n; /* the next one */
    uint64_t expire;
    size_t len;
};

static int put_filling(struct shm *s, void *arg) {
    const struct filler *f = arg;
    char text[48];
    int len = snprintf(text, sizeof(text), "%s%d", f->prefix, f->n);
    struct key_name name = key_name(s, text, (size_t)len);
    struct key key;
    int r = value_set(s, &name, filling, f->len, false);
    if (r == 0 && f->expire) {
        r = key_find_write(s, &name, &key);
        r = r ? r : key_set_expire(s, &key, f->expire);
    }
    return r;
}

/* Until there is no room; how many. */
static int fill(struct shm *s, struct filler *f) {
    int r = 0;
    for (f->n = 0; r == 0; f->n++) {
        r = op_run(s, OP_ALL, put_filling, f);
    }
    cr_assert_eq(r, -ENOMEM, "%d", r);
    return f->n;
}

static int flush_all_shards(struct shm *s, void *arg) {
    int r = 0;
    (void)arg;
    for (unsigned i = 0; i < SHM_SHARDS && r == 0; i++) {
        r = keys_flush(s, i);
    }
    return r;
}

static int delete_fillings(struct shm *s, void *arg) {
    struct filler *f = arg;
    int r = 0;
    for (int i = 0; i < f->n && r == 0; i++) {
        char text[48];
        struct key key;
        int len = snprintf(text, sizeof(text), "%s%d", f->prefix, i);
        struct key_name name = key_name(s, text, (size_t)len);
        r = key_find_write(s, &name, &key);
        r = r ? r : key_delete(s, &key);
    }
    return r;
}

Test(keyspace, a_full_segment_can_be_flushed_and_deleted_from) {
    struct shm s = segment(4 << 20);
    struct filler f = {.prefix = "fill:", .len = 100};
    int n = fill(&s, &f);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(op_run(&s, OP_ALL, flush_all_shards, NULL), 0);
        int again = fill(&s, &f);
        cr_assert_geq(again, n / 2, "round %d: %d, not %d", i, again, n);
    }
    f.n = 250; /* more than the log in the slot is for */
    cr_assert_eq(op_run(&s, OP_ALL, delete_fillings, &f), 0);
    shm_detach(&s);
}

Test(keyspace, what_has_expired_makes_room_at_once) {
    struct shm s = segment(4 << 20);
    struct filler f = {.prefix = "fill:", .len = 1000, .expire = 1};
    int n = 0;
    /* made and expired at once: none of them is in the way of another, though nobody sweeps */
    for (f.n = 0; f.n < 20000; f.n++) {
        n += op_run(&s, OP_ALL, put_filling, &f) == 0;
    }
    cr_assert_eq(n, 20000);
    f.expire = 0;
    n = fill(&s, &f);
    cr_assert_eq(keys_expiring(&s), 0);
    cr_assert_geq(n, 1000, "%d", n);
    checked(&s);
    shm_detach(&s);
}

Test(keyspace, what_an_ended_manager_had_makes_room_at_once) {
    struct shm s = segment(4 << 20);
    struct filler f = {.len = 1000};
    uint64_t id;
    cr_assert_eq(manager_open(&s, &id), 0);
    manager_prefix(id, f.prefix);
    int n = fill(&s, &f);
    cr_assert_eq(manager_end(&s, id), 0);
    strcpy(f.prefix, "others:");
    int again = fill(&s, &f);
    /* what goes bit by bit leaves chunks half empty, which serve one size only */
    cr_assert_geq(again, n / 2, "%d, not %d", again, n);
    cr_assert_eq(manager_over(&s), 0);
    checked(&s);
    shm_detach(&s);
}

static int push_and_remove(struct shm *s, void *arg) {
    const struct filler *f = arg;
    struct key_name name = key_name(s, f->prefix, strlen(f->prefix));
    struct list_object l;
    int r = list_open(s, &name, true, &l);
    if (f->n < 0) {
        r = r ? r : list_remove(s, &l, 1000, 3);
    } else {
        for (int i = 0; i < 100 && r == 0; i++) {
            r = list_push(s, &l, false, filling, f->len);
        }
    }
    return r ? r : list_close(s, &l);
}

Test(keyspace, elements_in_the_midst_of_a_list_can_be_removed_from_a_full_segment) {
    struct shm s = segment(4 << 20);
    struct filler f = {.prefix = "list", .len = 50};
    while (op_run(&s, OP_ALL, push_and_remove, &f) == 0) {
    }
    struct filler rest = {.prefix = "fill:", .len = 1};
    for (size_t len = 2000; len; len /= 2) {
        rest.len = len;
        snprintf(rest.prefix, sizeof(rest.prefix), "fill%zu:", len);
        fill(&s, &rest);
    }
    f.n = -1;
    cr_assert_eq(op_run(&s, OP_ALL, push_and_remove, &f), 0);
    checked(&s);
    shm_detach(&s);
}

/* Room that was in small pieces is one again, though arenas keep an empty chunk of each class at hand. */
Test(keyspace, what_was_many_small_things_can_be_one_large) {
    struct shm s = segment(4 << 20);
    static char large[4 << 20];
    struct key_name name = key_name(&s, "large", 5);
    struct filler f = {0};
    uint64_t room = get(&s.head->chunks_free);
    for (int round = 0; round < 3; round++) {
        for (f.len = 2500; f.len > 30; f.len = f.len * 3 / 4) {
            snprintf(f.prefix, sizeof(f.prefix), "%zu:", f.len);
            for (f.n = 0; f.n < 50; f.n++) {
                cr_assert_eq(op_run(&s, OP_ALL, put_filling, &f), 0);
            }
        }
        cr_assert_eq(op_run(&s, OP_ALL, flush_all_shards, NULL), 0);
        struct objects o;
        objects_init(&o, &s);
        size_t len = (size_t)(room - room / 16 - 1) * SHM_CHUNK;
        cr_assert_leq(len, sizeof(large));
        cr_assert_eq(objects_value_set(&o, (struct task_bytes){name.word.data, name.word.len},
                                       (struct task_bytes){large, len}, OBJECTS_ALWAYS, 0),
                     0, "round %d", round);
        objects_delete(&o, &(struct task_bytes){name.word.data, name.word.len}, 1);
        objects_deinit(&o);
    }
    checked(&s);
    shm_detach(&s);
}
