/* SPDX-License-Identifier: MIT */
/* A module for test_shared.c: calls every function of struct hearth_objects in a worker and says, by the line's number, which
 * one did not do as the header promises. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "worker/hearth_handler.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            return api->fail(task, 1, "line %d: %s", __LINE__, #condition);                        \
        }                                                                                          \
    } while (0)
#define T(text)     hearth_text(text)
#define IS(b, text) ((b).len == strlen(text) && memcmp((b).data, text, (b).len) == 0)

static int init_result;
static void *warm; /* a block that the zygote has mapped */

static int check_values(struct hearth_task *task, const struct hearth_api *api) {
    const struct hearth_objects *o = api->objects;
    struct hearth_bytes b, names[] = {T("t:v"), T("t:n"), T("t:w")};
    const struct hearth_bytes *all;
    size_t n_names = 0, met = 0;
    uint64_t cursor = 0;
    int64_t n = 0;
    double d = 0;
    o->remove(names, 3);
    CHECK(o->value_get(T("t:v"), &b) == -ENOENT);
    CHECK(o->value_set(T("t:v"), T("abc"), HEARTH_IF_PRESENT, 0) == -ENOENT);
    CHECK(o->value_set(T("t:v"), T("abc"), HEARTH_IF_ABSENT, 60000) == 0);
    CHECK(o->value_append(T("t:v"), T("def")) == 6);
    CHECK(o->value_write(T("t:v"), 1, T("XY")) == 6);
    CHECK(o->value_range(T("t:v"), -5, 3, &b) == 0 && IS(b, "XYd"));
    CHECK(o->value_get(T("t:v"), &b) == 0 && IS(b, "aXYdef"));
    CHECK(o->value_add(T("t:n"), 5, &n) == 0 && n == 5);
    CHECK(o->value_add(T("t:v"), 5, &n) == -EDOM);
    CHECK(o->type(T("t:v")) == HEARTH_TYPE_VALUE && o->type(T("t:none")) == HEARTH_TYPE_NONE);
    CHECK(o->ttl(T("t:v")) > 0 && o->persist(T("t:v")) == 1 && o->ttl(T("t:v")) == -1);
    CHECK(o->expire(T("t:v"), 60000) == 0 && o->ttl(T("t:v")) > 50000);
    CHECK(o->rename(T("t:v"), T("t:n"), 0) == -EEXIST);
    CHECK(o->rename(T("t:v"), T("t:w"), 0) == 0 && o->exists(T("t:v")) == 0);
    CHECK(o->remove(names, 3) == 2);
    CHECK(o->value_exchange(T("t:v"), T("1.5"), HEARTH_IF_ABSENT, 60000, &b) == 0 && !b.data);
    CHECK(o->value_exchange(T("t:v"), T("x"), HEARTH_IF_ABSENT, 0, &b) == -EEXIST && IS(b, "1.5"));
    CHECK(o->value_add_float(T("t:v"), 0.25, &d) == 0 && d == 1.75 && o->ttl(T("t:v")) > 0);
    CHECK(o->copy(T("t:v"), T("t:w"), 0) == 0 && o->ttl(T("t:w")) > 0);
    CHECK(o->copy(T("t:v"), T("t:w"), 0) == -EEXIST &&
          o->copy(T("t:none"), T("t:w"), 0) == -ENOENT);
    do {
        CHECK(o->names_like(T("t:[v-w]"), &cursor, 100, &all, &n_names) == 0);
        met += n_names;
    } while (cursor);
    CHECK(met == 2 && o->remove(names, 3) == 2);
    return 0;
}

static int check_dicts(struct hearth_task *task, const struct hearth_api *api) {
    const struct hearth_objects *o = api->objects;
    struct hearth_bytes b, f, name = T("t:d"), abc[] = {T("a"), T("b"), T("c"), T("d")};
    const struct hearth_bytes *all;
    const int64_t by[] = {1, 2, 3};
    int64_t n = 0;
    double d = 0;
    size_t count = 0;
    uint64_t cursor = 0;
    o->remove(&name, 1);
    CHECK(o->dict_set(name, T("a"), T("1")) == 1 && o->dict_set(name, T("a"), T("2")) == 0);
    CHECK(o->dict_update(name, abc, 2) == 1); /* a: b, c: d */
    CHECK(o->dict_get(name, T("c"), &b) == 0 && IS(b, "d"));
    CHECK(o->dict_get(name, T("x"), &b) == -ENOENT);
    CHECK(o->dict_get_many(name, abc, 3, &all) == 0 && IS(all[0], "b") && !all[1].data);
    CHECK(o->dict_setdefault(name, T("a"), T("z"), &b) == 0 && IS(b, "b"));
    CHECK(o->dict_contains(name, T("a")) == 1 && o->dict_contains(name, T("b")) == 0);
    CHECK(o->dict_length(name) == 2 && o->dict_delete(name, abc, 3) == 2);
    CHECK(o->exists(name) == 0);
    CHECK(o->dict_add(name, T("n"), 40, &n) == 0 && o->dict_add(name, T("n"), 2, &n) == 0);
    CHECK(n == 42 && o->dict_add_float(name, T("n"), 0.5, &d) == 0 && d == 42.5);
    CHECK(o->dict_add_many(name, abc, by, 3) == 0 && o->dict_length(name) == 4);
    CHECK(o->dict_pop(name, T("n"), &b) == 0 && IS(b, "42.5"));
    CHECK(o->dict_swap(name, T("a"), &abc[1], &abc[2]) == 0);
    b = T("1");
    CHECK(o->dict_swap(name, T("a"), &b, &abc[2]) == 1);
    CHECK(o->dict_scan(name, &cursor, 100, &all, &count) == 0 && cursor == 0 && count == 6);
    CHECK(o->dict_items(name, HEARTH_ITEMS, &all, &count) == 0 && count == 6);
    CHECK(o->dict_items(name, HEARTH_FIELDS, &all, &count) == 0 && count == 3 && all[0].len == 1);
    CHECK(o->dict_popitem(name, &f, &b) == 0 && o->dict_length(name) == 2);
    CHECK(o->list_length(name) == -EPROTOTYPE);
    CHECK(o->dict_clear(name) == 1 && o->dict_clear(name) == 0);
    return 0;
}

static int sum_up(void *arg, uint64_t index, struct hearth_bytes e) {
    *(long *)arg += (long)index * (long)e.len;
    return 0;
}

static int check_lists(struct hearth_task *task, const struct hearth_api *api) {
    const struct hearth_objects *o = api->objects;
    struct hearth_bytes b, names[] = {T("t:l"), T("t:m")}, abc[] = {T("a"), T("b"), T("c")};
    struct hearth_bytes l = names[0];
    const struct hearth_bytes *all;
    size_t count = 0;
    long sum = 0;
    o->remove(names, 2);
    CHECK(o->list_push(l, HEARTH_RIGHT, abc, 3) == 3 && o->list_push(l, HEARTH_LEFT, abc, 2) == 5);
    CHECK(o->list_range(l, 0, -1, &all, &count) == 0 && count == 5 && IS(all[0], "b"));
    CHECK(o->list_at(l, -1, &b) == 0 && IS(b, "c") && o->list_at(l, 5, &b) == -ENOENT);
    CHECK(o->list_set(l, 0, T("long one")) == 0 && o->list_insert(l, 1, T("a")) == 6);
    CHECK(o->list_index(l, T("a"), 2) == 2 && o->list_remove(l, T("a"), 2) == 2);
    CHECK(o->list_walk(l, 0, sum_up, &sum) == 0 && sum == 0 + 1 + 2 + 3);
    CHECK(o->list_delete(l, 1, 1) == 1 && o->list_trim(l, 0, 2) == 2);
    CHECK(o->list_move(l, HEARTH_LEFT, names[1], HEARTH_LEFT, &b) == 0 && IS(b, "long one"));
    CHECK(o->list_pop(l, HEARTH_RIGHT, &b) == 0 && o->list_pop(l, HEARTH_LEFT, &b) == -ENOENT);
    CHECK(o->list_pop_wait(l, HEARTH_LEFT, 5, &b) == -ETIMEDOUT);
    CHECK(o->list_pop_wait(names[1], HEARTH_LEFT, -1, &b) == 0 && IS(b, "long one"));
    CHECK(o->list_insert_beside(l, T("a"), 0, T("x")) == -ENOENT && o->list_reverse(l) == 0);
    CHECK(o->list_push(l, HEARTH_RIGHT, abc, 3) == 3);
    CHECK(o->list_insert_beside(l, T("b"), 1, T("a")) == 4 && o->list_count(l, T("a")) == 2);
    CHECK(o->list_reverse(l) == 4 && o->list_index(l, T("c"), 0) == 0);
    CHECK(o->list_sort(l, 0) == -EDOM && o->list_sort(l, HEARTH_BY_BYTES) == 4);
    CHECK(o->list_index(l, T("b"), 0) == 2 && o->remove(names, 2) == 1);
    return 0;
}

static int move_two(const struct hearth_objects *o, void *arg) {
    struct hearth_bytes b;
    int r = o->list_pop(T("t:l"), HEARTH_LEFT, &b);
    if (r == 0) {
        r = o->dict_set(T("t:d"), b, T("moved"));
    }
    return r < 0 ? r : *(int *)arg;
}

static int check_transactions(struct hearth_task *task, const struct hearth_api *api) {
    const struct hearth_objects *o = api->objects;
    struct hearth_bytes names[] = {T("t:l"), T("t:d")}, e = T("x");
    int result = -ECANCELED;
    o->remove(names, 2);
    o->list_push(names[0], HEARTH_LEFT, &e, 1);
    CHECK(o->transaction(names, 2, move_two, &result) == -ECANCELED);
    CHECK(o->list_length(names[0]) == 1 && o->exists(names[1]) == 0);
    CHECK(o->transaction(names, 1, move_two, &result) == -EDEADLK);
    CHECK(o->list_length(names[0]) == 1);
    result = 7;
    CHECK(o->transaction(names, 2, move_two, &result) == 7);
    CHECK(o->exists(names[0]) == 0 && o->dict_contains(names[1], e) == 1);
    o->remove(names, 2);
    return 0;
}

static int in_array(const struct hearth_objects *o, void *arg) {
    union hearth_number one;
    one.i = 1;
    return o->array_add(*(struct hearth_bytes *)arg, HEARTH_INT32, 0, one, NULL);
}

static int check_arrays(struct hearth_task *task, const struct hearth_api *api) {
    const struct hearth_objects *o = api->objects;
    struct hearth_bytes name = T("t:a");
    union hearth_number v, w;
    struct hearth_pin pin;
    enum hearth_array_type type;
    uint64_t n = 0;
    int32_t some[3] = {7, -8, 9}, back[3];
    o->remove(&name, 1);
    v.i = 40;
    w.i = 2;
    CHECK(o->array_get(name, HEARTH_INT32, 0, &v) == -ENOENT);
    CHECK(o->array_create(name, HEARTH_INT32, 5) == 1 &&
          o->array_create(name, HEARTH_INT32, 5) == 0);
    CHECK(o->array_create(name, HEARTH_INT8, 5) == -EEXIST);
    CHECK(o->array_create(T("t:x"), (enum hearth_array_type)77, 5) == -EINVAL);
    CHECK(o->array_info(name, &type, &n) == 0 && type == HEARTH_INT32 && n == 5);
    CHECK(o->array_set(name, HEARTH_INT32, 4, v) == 0 &&
          o->array_set(name, HEARTH_INT32, 5, v) == -ENOENT);
    CHECK(o->array_add(name, HEARTH_INT32, 4, w, &v) == 0 && v.i == 42);
    CHECK(o->array_cas(name, HEARTH_INT32, 4, w, v) == 0 &&
          o->array_cas(name, HEARTH_INT32, 4, v, w) == 1);
    CHECK(o->array_get(name, HEARTH_INT32, 4, &v) == 0 && v.i == 2);
    CHECK(o->array_get(name, HEARTH_DOUBLE, 4, &v) == -EPROTOTYPE);
    CHECK(o->array_write(name, HEARTH_INT32, 1, 3, some) == 0);
    CHECK(o->array_read(name, HEARTH_INT32, 1, 3, back) == 0 &&
          memcmp(some, back, sizeof(some)) == 0);
    CHECK(o->array_fill(name, HEARTH_INT32, 1, 2, w) == 0);
    CHECK(o->array_pin(name, &pin) == 0 && pin.n == 5 && pin.type == HEARTH_INT32);
    CHECK(((int32_t *)pin.data)[1] == 2 && ((int32_t *)pin.data)[3] == 9);
    CHECK(o->transaction(&name, 1, in_array, &name) == -EDEADLK);
    CHECK(o->remove(&name, 1) == 1);
    ((int32_t *)pin.data)[1] = 1; /* it is there still */
    CHECK(o->array_unpin(&pin) == 0 && o->array_unpin(&pin) == -EINVAL);
    return 0;
}

/* bump ARRAY N: adds 1 to each of its int64 elements, N times over, in turn by a call and in place. */
static int shared_bump(struct hearth_task *task, const struct hearth_api *api) {
    const struct hearth_objects *o = api->objects;
    struct hearth_bytes name = api->arg(task, 0);
    long times = strtol(api->arg(task, 1).data, NULL, 10);
    union hearth_number one;
    struct hearth_pin pin;
    one.i = 1;
    CHECK(o->array_pin(name, &pin) == 0);
    for (long t = 0; t < times; t++) {
        for (uint64_t i = 0; i < pin.n; i++) {
            if ((t + (long)i) % 2) {
                CHECK(o->array_add(name, HEARTH_INT64, i, one, NULL) == 0);
            } else {
                __atomic_fetch_add((int64_t *)pin.data + i, 1, __ATOMIC_SEQ_CST);
            }
        }
    }
    return o->array_unpin(&pin);
}

/* pin ARRAY: pins it, and is killed. */
static int shared_pin(struct hearth_task *task, const struct hearth_api *api) {
    struct hearth_pin pin;
    CHECK(api->objects->array_pin(api->arg(task, 0), &pin) == 0);
    raise(SIGKILL);
    return 0;
}

static int check_blocks(struct hearth_task *task, const struct hearth_api *api) {
    const struct hearth_objects *o = api->objects;
    const char *name = api->id(task);
    void *a, *b, *c;
    uint64_t size = 0;
    CHECK(o->block_create(T(name), 5000, &a) == 0 && o->block_create(T(name), 5000, &b) == -EEXIST);
    memcpy((char *)a + 4995, "right", 5);
    CHECK(o->block_open(T(name), 1, &b, &size) == 0 && size == 5000);
    CHECK(memcmp((char *)b + 4995, "right", 5) == 0 && a != b);
    CHECK(o->block_unlink(T(name)) == 0 && o->block_unlink(T(name)) == -ENOENT);
    CHECK(o->block_open(T(name), 0, &c, NULL) == -ENOENT);
    memcpy(a, "left", 4); /* without a name it is there all the same */
    CHECK(memcmp(b, "left", 4) == 0);
    CHECK(o->block_unmap(a, size) == 0 && o->block_unmap(b, size) == 0);
    CHECK(o->block_create(T(name), 0, NULL) == -EINVAL &&
          o->block_create(T(""), 1, NULL) == -EINVAL);
    CHECK(o->block_create(T("@00000000000000ff:x"), 1, NULL) == -EIDRM);
    CHECK(o->block_create(T(name), UINT64_C(1) << 40, NULL) == -EDQUOT);
    CHECK(warm && memcmp(warm, "made in init", 12) == 0);
    return 0;
}

/* fill BLOCK: each byte of it becomes the payload's first. */
static int shared_fill(struct hearth_task *task, const struct hearth_api *api) {
    void *at;
    uint64_t size;
    int r = api->objects->block_open(api->arg(task, 0), 0, &at, &size);
    if (r < 0) {
        return api->fail(task, -r, "%s", strerror(-r));
    }
    memset(at, *(const char *)api->payload(task).data, size);
    return api->objects->block_unmap(at, size);
}

static int shared_check(struct hearth_task *task, const struct hearth_api *api) {
    CHECK(HEARTH_HAS(api, objects) && api->objects->size == sizeof(struct hearth_objects));
    CHECK(init_result == -EPERM); /* there is no slot in the zygote */
    int r = check_values(task, api);
    r = r ? r : check_dicts(task, api);
    r = r ? r : check_lists(task, api);
    r = r ? r : check_transactions(task, api);
    r = r ? r : check_arrays(task, api);
    r = r ? r : check_blocks(task, api);
    return r ? r : api->write(task, "well", 4);
}

/* pop LIST MS: waits for an element. */
static int shared_pop(struct hearth_task *task, const struct hearth_api *api) {
    struct hearth_bytes b;
    int64_t ms = strtoll(api->arg(task, 1).data, NULL, 10);
    int r = api->objects->list_pop_wait(api->arg(task, 0), HEARTH_LEFT, ms, &b);
    return r < 0 ? api->fail(task, -r, "%s", strerror(-r)) : api->write(task, b.data, b.len);
}

/* push LIST...: the payload goes to the end of each of them. */
static int shared_push(struct hearth_task *task, const struct hearth_api *api) {
    struct hearth_bytes payload = api->payload(task);
    for (size_t i = 0; i < api->argc(task); i++) {
        int64_t n = api->objects->list_push(api->arg(task, i), HEARTH_RIGHT, &payload, 1);
        if (n < 0) {
            return api->fail(task, (int)-n, "%s", strerror((int)-n));
        }
    }
    return 0;
}

static int stop_here(const struct hearth_objects *o, void *arg) {
    int r = o->value_set(*(struct hearth_bytes *)arg, T("half done"), 0, 0);
    raise(SIGSTOP);
    return r;
}

/* stop NAME: in the middle of a transaction. */
static int shared_stop(struct hearth_task *task, const struct hearth_api *api) {
    struct hearth_bytes name = api->arg(task, 0);
    return api->objects->transaction(&name, 1, stop_here, &name);
}

static int count_and_push(const struct hearth_objects *o, void *arg) {
    const struct hearth_bytes *names = arg;
    int64_t n;
    int r = o->value_add(names[0], 1, &n);
    int64_t len = r < 0 ? r : o->list_push(names[1], HEARTH_RIGHT, &names[0], 1);
    return len < 0 ? (int)len : len == n ? 0 : -EBADMSG;
}

/* count VALUE LIST: one more in both, at once; they must have been as large. */
static int shared_count(struct hearth_task *task, const struct hearth_api *api) {
    struct hearth_bytes names[2] = {api->arg(task, 0), api->arg(task, 1)};
    CHECK(api->objects->transaction(names, 2, count_and_push, names) == 0);
    return 0;
}

static int shared_init(const struct hearth_api *api, int argc, const char *const *argv) {
    (void)argc;
    (void)argv;
    init_result = api->objects->exists(hearth_text("t:v"));
    if (api->objects->block_create(T("warm"), 12, &warm) == 0) {
        memcpy(warm, "made in init", 12);
    }
    return 0;
}

static const struct hearth_handler handlers[] = {
    {"check", "calls everything", shared_check},
    {"pop", "LIST MS waits for an element", shared_pop},
    {"stop", "NAME stops in a transaction", shared_stop},
    {"push", "LIST... get the payload", shared_push},
    {"bump", "ARRAY N adds 1 to each element N times", shared_bump},
    {"pin", "ARRAY pins it and dies", shared_pin},
    {"fill", "BLOCK gets the payload's first byte all over", shared_fill},
    {"count", "VALUE LIST grow by one", shared_count},
    {0},
};

HEARTH_EXPORT const struct hearth_module hearth_module = {
    HEARTH_MODULE_HEAD_FLAGS(HEARTH_THREADS),
    .name = "shared",
    .version = "1.0",
    .handlers = handlers,
    .init = shared_init,
};
