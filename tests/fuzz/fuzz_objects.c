/* SPDX-License-Identifier: MIT */
/* Shared objects in a segment in which another process may have written anything. A valid small one with dicts, lists, values,
 * keys of a manager and of one that has ended, garbage and doomed objects is patched as the input says and then used as it says: first byte, how many patches; each
 * patch, a place and a value; then verbs, one byte each and an operand. Nothing may crash, assert, read or write outside
 * (the image lies in memory of exactly its size) or take long. With no patch at all the segment must be in order
 * afterwards. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/shm/account.h"
#include "lib/shm/alloc.h"
#include "lib/shm/check.h"
#include "lib/shm/internal.h"
#include "lib/shm/keys.h"
#include "lib/shm/list.h"
#include "lib/shm/manager.h"
#include "lib/shm/op.h"
#include "lib/shm/slot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SIZE = 1 << 20, PATCHES_MAX = 24, VERBS_MAX = 32, PLACES_MAX = 4096 };

#define OPEN_ID      (UINT64_C(1) << 32)
#define ENDED_ID     (UINT64_C(1) << 32 | 1)
#define OPEN_PREFIX  "@0000000100000000:"
#define ENDED_PREFIX "@0000000100000001:"

static uint8_t *image, *work;
static uint64_t
    places[PLACES_MAX]; /* words that differ from an empty segment, and those of the shards */
static uint32_t n_places;
static char text[20000];

static void require(int truth) {
    if (!truth) {
        abort();
    }
}

/* A handle on a slot without its life word, which belongs to the C library and to a live segment. */
static void become(struct shm *s, uint32_t slot) {
    s->patience_ns = 0;
    s->slot = slot;
    s->mine = &s->slots[slot];
    s->me = owner_word(slot, get32(&s->mine->gen));
}

/* ---- verbs ---- */

struct act {
    uint8_t verb;
    uint32_t n;
};

static struct key_name pick(struct shm *s, uint32_t n) {
    static const char *const names[] = {"v1", "v2", "d1", "d2", "l1", "l2", "l3", "other"};
    /* an input must mean the same each time: make_image() gives the managers these ids */
    static const char *const owned[] = {OPEN_PREFIX "v", OPEN_PREFIX "d", OPEN_PREFIX "new",
                                        ENDED_PREFIX "v"};
    const char *t = n >> 31 ? owned[n % ARRAY_SIZE(owned)] : names[n % ARRAY_SIZE(names)];
    return key_name(s, t, strlen(t));
}

static int ignore_element(void *arg, uint64_t index, const void *data, size_t len) {
    uint64_t *sum = arg;
    *sum += index + len + (len ? *(const uint8_t *)data + ((const uint8_t *)data)[len - 1] : 0);
    return 0;
}

static int ignore_node(void *arg, struct shm_node *n) {
    (void)n;
    ++*(uint64_t *)arg;
    return 0;
}

static int change_list(struct shm *s, const struct act *a, const struct key_name *k) {
    struct list_object l;
    struct task_bytes b;
    int r = list_open(s, k, a->verb % 2, &l);
    if (r) {
        return r;
    }
    uint64_t i = a->n >> 8 & 1023;
    size_t len = a->n >> 4 & 4095;
    switch (a->verb % 6) {
    case 0:
        r = list_push(s, &l, a->n & 8, text, len);
        break;
    case 1:
        r = list_pop(s, &l, a->n & 8, &b);
        break;
    case 2:
        r = list_insert(s, &l, i, text, len);
        break;
    case 3:
        r = list_set(s, &l, i, text, len);
        break;
    case 4:
        r = list_remove(s, &l, i, a->n >> 20);
        break;
    default: {
        uint64_t sum = 0;
        r = list_walk(s, &l, i, a->n & 8, ignore_element, &sum);
        r = r ? r : list_at(s, &l, i, &b);
    }
    }
    return r ? r : list_close(s, &l);
}

static int change_dict(struct shm *s, const struct act *a, const struct key_name *k) {
    struct dict d;
    struct task_bytes b;
    char field[16];
    int n = snprintf(field, sizeof(field), "f%u", a->n >> 8 & 63);
    int r = dict_open(s, k, a->verb % 2, &d);
    if (r) {
        return r;
    }
    uint64_t cursor = a->n, seen = 0;
    struct hash_ref ref;
    switch (a->verb % 5) {
    case 0:
        r = dict_put(s, &d, field, (size_t)n, text, a->n >> 14 & 1023);
        break;
    case 1:
        r = dict_remove(s, &d, field, (size_t)n);
        break;
    case 2:
        r = dict_get(s, &d, field, (size_t)n, &b);
        break;
    case 3:
        r = hash_scan(s, d.fields, &cursor, ignore_node, &seen);
        break;
    default:
        hash_random(s, d.fields, a->n * UINT64_C(0x9e3779b97f4a7c15), &ref);
    }
    return r < 0 ? r : dict_close(s, &d);
}

static int ignore_key(void *arg, const void *name, size_t len, const struct shm_key *k) {
    *(uint64_t *)arg += len + (len ? *(const uint8_t *)name : 0) + get(&k->kind);
    return 0;
}

static int change_key(struct shm *s, const struct act *a, const struct key_name *k) {
    struct key key;
    uint64_t cursor = a->n & 63, sum = 0, len;
    int64_t v;
    int r = 0;
    switch (a->verb % 8) {
    case 0:
        return value_set(s, k, text, a->n >> 8 & 4095, a->n & 8);
    case 1:
        return value_write(s, k, a->n >> 20, text, a->n >> 8 & 1023, &len);
    case 2:
        return value_add(s, k, (int32_t)a->n, &v);
    case 3:
        return keys_scan(s, &cursor, ignore_key, &sum);
    case 4:
        return keys_expire_some(s, k->shard, UINT64_MAX, &cursor, 10);
    default:
        r = key_find_write(s, k, &key);
    }
    if (r) {
        return r;
    }
    struct key_name to = pick(s, a->n >> 3);
    struct key there;
    switch (a->verb % 8) {
    case 5:
        return key_delete(s, &key);
    case 6:
        key_memory(s, &key, a->n & 7);
        return key_set_expire(s, &key, a->n >> 4);
    default:
        return key_find_write(s, &to, &there) == -ENOENT ? key_rename(s, &key, &to) : 0;
    }
}

static int in_act(struct shm *s, void *arg) {
    const struct act *a = arg;
    struct key_name k = pick(s, a->n);
    switch (a->verb >> 3 & 3) {
    case 0:
        return change_list(s, a, &k);
    case 1:
        return change_dict(s, a, &k);
    default:
        return change_key(s, a, &k);
    }
}

static int in_read(struct shm *s, void *arg) {
    const struct act *a = arg;
    struct key_name k = pick(s, a->n);
    struct dict d;
    struct list_object l;
    struct task_bytes b;
    char digits[24];
    const struct shm_hash *fields;
    if (dict_fields(s, &k, &fields) == 0) {
        hash_get(s, fields, "f4", 2, &b.data, &b.len);
    }
    int r = value_get(s, &k, digits, &b);
    if (r == -EPROTOTYPE && dict_open(s, &k, false, &d) == 0) {
        r = dict_get(s, &d, "f3", 2, &b);
    }
    if (r == -EPROTOTYPE && list_open(s, &k, false, &l) == 0) {
        r = list_at(s, &l, a->n >> 8 & 1023, &b);
    }
    return r;
}

static void act_as_daemon(struct shm *s, const struct act *a) {
    static struct manager_pass pass;
    struct account_view view;
    uint64_t id;
    unsigned account;
    switch (a->n % 8) {
    case 0:
        manager_open(s, &id);
        break;
    case 1:
        manager_end(s, a->n & 8 ? OPEN_ID : a->n);
        break;
    case 2:
        manager_pass_begin(s, &pass);
        break;
    case 3:
        manager_pass_end(s, &pass);
        break;
    case 4:
        alloc_trim(s);
        break;
    case 5:
        account_open(s, a->n >> 8 & 127, a->n & 8 ? 1000 : 0, a->n & 16 ? 3 : 0, &account);
        account_view(s, account, &view);
        account_act_as(s, a->n >> 16 & 127);
        break;
    case 6:
        manager_keys(s, OPEN_ID);
        manager_over(s);
        keys_count(s);
        break;
    default:
        manager_end_all(s);
    }
}

static void act(struct shm *s, const struct act *a) {
    struct key_name k = pick(s, a->n);
    struct shm_report report;
    switch (a->verb >> 5) {
    case 0:
        op_read(s, k.shard, in_read, (void *)(uintptr_t)a);
        break;
    case 1:
        if (a->verb & 8) {
            act_as_daemon(s, a);
        } else {
            op_tidy(s, a->n % SHM_SHARDS);
        }
        break;
    case 2:
        shm_check(s, &report);
        break;
    default:
        op_run(s, OP_ALL, in_act, (void *)(uintptr_t)a);
    }
}

/* ---- the image ---- */

static int fill(struct shm *s, void *arg) {
    struct dict d;
    struct list_object l;
    char field[16];
    int r = 0;
    (void)arg;
    for (uint32_t i = 0; r >= 0 && i < 4; i++) {
        struct key_name k = pick(s, i | 1u << 31);
        if (i == 1) {
            r = dict_open(s, &k, true, &d);
            r = r ? r : dict_put(s, &d, "f1", 2, text, 30);
        } else if (i != 2) {
            r = value_set(s, &k, text, 40, false);
        }
    }
    for (uint32_t i = 0; r >= 0 && i < 2; i++) {
        struct key_name k = pick(s, i);
        r = value_set(s, &k, i ? "41" : text, i ? 2 : 300, false);
    }
    for (uint32_t i = 0; r >= 0 && i < 50; i++) {
        struct key_name k = pick(s, i < 6 ? 2 : 3);
        int n = snprintf(field, sizeof(field), "f%u", i);
        r = dict_open(s, &k, true, &d);
        r = r ? r : dict_put(s, &d, field, (size_t)n, text, i * 7);
    }
    for (uint32_t i = 0; r >= 0 && i < 500; i++) {
        struct key_name k = pick(s, i < 10 ? 4 : i < 490 ? 5 : 6);
        r = list_open(s, &k, true, &l);
        r = r ? r : list_push(s, &l, i % 3 == 0, text, i < 490 ? i % 60 : 900);
    }
    return r < 0 ? r : 0;
}

static void make_image(void) {
    struct shm s, empty;
    struct shm_params params = {.size = SIZE, .slots = 2, .tasks = 16};
    uint32_t slot, gen;
    memset(text, 't', sizeof(text));
    require(shm_create(&s, &params) == 0);
    s.head->seed = 42; /* an input must mean the same each time */
    image = malloc(SIZE);
    work = aligned_alloc(4096, SIZE);
    require(image && work && shm_view(&empty, s.base, SIZE) == 0);
    s.seed = 42;
    require(slot_reserve(&s, 0, &slot, &gen) == 0);
    become(&s, 0);
    memcpy(work, s.base, SIZE);
    for (uint64_t i = 0, id; i < 2; i++) {
        require(manager_open(&s, &id) == 0);
        put(&s.managers[i].word, OPEN_ID | i);
    }
    require(op_run(&s, OP_ALL, fill, NULL) == 0);
    require(manager_end(&s, ENDED_ID) == 0);
    struct act gone = {.verb = 3 << 5 | 2 << 3 | 5, .n = 6};
    act(&s, &gone);
    const uint64_t *a = (const void *)work, *b = (const void *)s.base;
    for (uint64_t i = 0; i < SIZE / 8 && n_places < PLACES_MAX; i++) {
        uint64_t off = i * 8;
        bool shard = off >= (uint64_t)((uint8_t *)s.shards - s.base) &&
                     off < (uint64_t)((uint8_t *)(s.shards + SHM_SHARDS) - s.base);
        if (off > sizeof(struct shm_header) && (a[i] != b[i] || (shard && i % 4 == 0))) {
            places[n_places++] = off;
        }
    }
    memcpy(image, s.base, SIZE);
    s.mine = NULL; /* never locked */
    shm_detach(&s);
}

/* ---- the input ---- */

struct input {
    const uint8_t *p;
    size_t left;
};

static uint64_t take(struct input *in, size_t bytes) {
    uint64_t v = 0;
    for (size_t i = 0; i < bytes && in->left; i++, in->p++, in->left--) {
        v |= (uint64_t)*in->p << i * 8;
    }
    return v;
}

/* Small numbers, offsets of real things, bits of what is there, anything. */
static uint64_t value_for(struct input *in, uint64_t old) {
    switch (take(in, 1) % 5) {
    case 0:
        return take(in, 1);
    case 1:
        return places[take(in, 2) % n_places];
    case 2:
        return old ^ UINT64_C(1) << take(in, 1) % 64;
    case 3:
        return (old & ~((UINT64_C(1) << 48) - 1)) | places[take(in, 2) % n_places];
    default:
        return take(in, 8);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    struct shm s;
    struct shm_report report;
    if (!image) {
        make_image();
    }
    memcpy(work, image, SIZE);
    uint64_t patches = take(&in, 1) % (PATCHES_MAX + 1);
    for (uint64_t i = 0; i < patches; i++) {
        uint64_t *w = (void *)(work + places[take(&in, 2) % n_places]);
        *w = value_for(&in, *w);
    }
    if (shm_view(&s, work, SIZE)) {
        return 0;
    }
    become(&s, 0);
    for (int i = 0; i < VERBS_MAX && in.left; i++) {
        struct act a = {.verb = (uint8_t)take(&in, 1), .n = (uint32_t)take(&in, 4)};
        act(&s, &a);
    }
    require(shm_check(&s, &report) == 0);
    require(patches || report.errors == 0);
    return 0;
}
