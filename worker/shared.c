/* SPDX-License-Identifier: MIT */
/* Shared objects for handlers: the calls of lib/shm/objects.h behind the types of the public header. In the zygote there is no
 * slot, so nothing can be locked in its name: until shared_init() every call is refused.
 *
 * struct hearth_bytes of the module's header and struct task_bytes of lib/shm are the same two words. Nothing here looks into
 * an array of them: the module and the library do, each by its own name.
 *
 * Fails: as hearth_handler.h says; -EPERM before shared_init(). */
#include "worker/shared.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/shm/dirty.h"
#include "lib/shm/objects.h"
#include "worker/block.h"

enum { LOOK_MS = 100 }; /* how often a wait looks whether its task was cancelled */

_Static_assert(sizeof(struct hearth_bytes) == sizeof(struct task_bytes) &&
                   offsetof(struct hearth_bytes, len) == offsetof(struct task_bytes, len),
               "one kind of bytes");
_Static_assert((int)HEARTH_TYPE_LIST == (int)KEY_LIST && (int)HEARTH_TYPE_DICT == (int)KEY_DICT &&
                   (int)HEARTH_KEEP_TTL == (int)OBJECTS_KEEP_TTL &&
                   (int)HEARTH_IF_PRESENT == (int)OBJECTS_PRESENT &&
                   (int)HEARTH_RIGHT == (int)OBJECTS_RIGHT &&
                   (int)HEARTH_ITEMS == (int)OBJECTS_ITEMS &&
                   (int)HEARTH_DESCENDING == (int)OBJECTS_DESCENDING,
               "one set of numbers");

static _Thread_local struct objects mine;
static _Thread_local const struct task_ref *the_task;

/* For waits that are no list's: whoever sleeps asks now and then. */
static int look(void *arg) {
    (void)arg;
    return the_task && task_cancel_wanted(mine.shm, the_task) ? -ECANCELED : 0;
}

void shared_init(struct shm *s) {
    objects_init(&mine, s);
    s->wait_look = look;
    s->wait_look_ns = LOOK_MS * NS_PER_MS;
}

struct objects *shared_objects(void) {
    return mine.shm ? &mine : NULL;
}

void shared_set_task(const struct task_ref *t) {
    the_task = t;
}

static struct task_bytes as_is(struct hearth_bytes b) {
    return (struct task_bytes){b.data, b.len};
}

static const struct task_bytes *many(const struct hearth_bytes *b) {
    return (const struct task_bytes *)(const void *)b;
}

static struct task_bytes *out(struct hearth_bytes *b) {
    return (struct task_bytes *)(void *)b;
}

static const struct task_bytes **outs(const struct hearth_bytes **b) {
    return (const struct task_bytes **)(void *)b;
}

/* ---- those that differ ---- */

struct transaction {
    int (*fn)(const struct hearth_objects *objects, void *arg);
    void *arg;
};

static int run_transaction(struct objects *o, void *arg) {
    const struct transaction *t = arg;
    (void)o;
    return t->fn(shared_table(), t->arg);
}

static int shared_transaction(const struct hearth_bytes *names, size_t n,
                              int (*fn)(const struct hearth_objects *objects, void *arg),
                              void *arg) {
    struct transaction t = {fn, arg};
    return mine.shm ? objects_transaction(&mine, many(names), n, run_transaction, &t) : -EPERM;
}

static int64_t shared_remove(const struct hearth_bytes *names, size_t n) {
    return mine.shm ? objects_delete(&mine, many(names), n) : -EPERM;
}

static int shared_rename(struct hearth_bytes name, struct hearth_bytes to, int replace) {
    return mine.shm ? objects_rename(&mine, as_is(name), as_is(to), replace != 0) : -EPERM;
}

static int shared_names(uint64_t *cursor, uint32_t count, const struct hearth_bytes **ret,
                        size_t *ret_n) {
    return mine.shm ? objects_keys(&mine, cursor, count, NULL, outs(ret), ret_n) : -EPERM;
}

static int shared_dict_add_float(struct hearth_bytes name, struct hearth_bytes field, double by,
                                 double *ret) {
    long double sum = 0;
    if (!mine.shm) {
        return -EPERM;
    }
    int r = objects_dict_add_float(&mine, as_is(name), as_is(field), by, &sum);
    if (r == 0 && ret) {
        *ret = (double)sum;
    }
    return r;
}

/* A cancelled task is told by a word of its record, which nobody can sleep on together with the list's bell: so it is looked
 * at now and then. */
static int shared_list_pop_wait(struct hearth_bytes name, enum hearth_end end, int64_t ms,
                                struct hearth_bytes *ret) {
    uint64_t until = clock_now() + (ms > 0 ? (uint64_t)ms * NS_PER_MS : 0);
    if (!mine.shm) {
        return -EPERM;
    }
    for (;;) {
        uint64_t now = clock_now(), left = ms < 0 ? LOOK_MS : 0;
        if (ms > 0 && now < until) {
            left = (until - now + NS_PER_MS - 1) / NS_PER_MS;
        }
        int r = objects_list_pop_wait(&mine, as_is(name), (enum objects_end)end,
                                      left < LOOK_MS ? (int64_t)left : LOOK_MS, out(ret));
        if (r != -ETIMEDOUT || (ms >= 0 && left <= LOOK_MS)) {
            return r;
        }
        if (the_task && task_cancel_wanted(mine.shm, the_task)) {
            return -ECANCELED;
        }
    }
}

struct walk {
    int (*fn)(void *arg, uint64_t index, struct hearth_bytes element);
    void *arg;
};

static int visit(void *arg, uint64_t index, struct task_bytes element) {
    const struct walk *w = arg;
    return w->fn(w->arg, index, (struct hearth_bytes){element.data, element.len});
}

static int shared_list_walk(struct hearth_bytes name, int64_t from,
                            int (*fn)(void *arg, uint64_t index, struct hearth_bytes element),
                            void *arg) {
    struct walk w = {fn, arg};
    return mine.shm ? objects_list_walk(&mine, as_is(name), from, visit, &w) : -EPERM;
}

/* ---- those that do not ---- */

static int shared_copy(struct hearth_bytes name, struct hearth_bytes to, int replace) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_copy(&mine, as_is(name), as_is(to), replace != 0);
}

static int shared_names_like(struct hearth_bytes pattern, uint64_t *cursor, uint32_t count,
                             const struct hearth_bytes **ret, size_t *ret_n) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_keys(&mine, cursor, count, many(&pattern), outs(ret), ret_n);
}

static int shared_value_exchange(struct hearth_bytes name, struct hearth_bytes value, unsigned when,
                                 uint64_t ttl_ms, struct hearth_bytes *ret) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_value_exchange(&mine, as_is(name), as_is(value), when, ttl_ms, out(ret));
}

static int shared_value_add_float(struct hearth_bytes name, double by, double *ret) {
    long double sum = 0;
    if (!mine.shm) {
        return -EPERM;
    }
    int r = objects_value_add_float(&mine, as_is(name), by, &sum);
    if (r == 0 && ret) {
        *ret = (double)sum;
    }
    return r;
}

static int shared_dict_items(struct hearth_bytes name, enum hearth_part part,
                             const struct hearth_bytes **ret, size_t *ret_n) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_dict_items(&mine, as_is(name), (enum objects_part)part, outs(ret), ret_n);
}

static int64_t shared_list_insert_beside(struct hearth_bytes name, struct hearth_bytes pivot,
                                         int after, struct hearth_bytes element) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_list_insert_beside(&mine, as_is(name), as_is(pivot), after != 0, as_is(element));
}

static int64_t shared_list_count(struct hearth_bytes name, struct hearth_bytes element) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_list_count(&mine, as_is(name), as_is(element));
}

static int64_t shared_list_reverse(struct hearth_bytes name) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_list_reverse(&mine, as_is(name));
}

static int64_t shared_list_sort(struct hearth_bytes name, unsigned order) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_list_sort(&mine, as_is(name), order);
}

static int shared_exists(struct hearth_bytes name) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_exists(&mine, as_is(name));
}

static int shared_type(struct hearth_bytes name) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_type(&mine, as_is(name));
}

static int shared_expire(struct hearth_bytes name, int64_t ms) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_expire(&mine, as_is(name), ms);
}

static int shared_persist(struct hearth_bytes name) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_persist(&mine, as_is(name));
}

static int64_t shared_ttl(struct hearth_bytes name) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_ttl(&mine, as_is(name));
}

static int shared_value_set(struct hearth_bytes name, struct hearth_bytes value, unsigned when,
                            uint64_t ttl_ms) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_value_set(&mine, as_is(name), as_is(value), when, ttl_ms);
}

static int shared_value_add(struct hearth_bytes name, int64_t by, int64_t *ret) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_value_add(&mine, as_is(name), by, ret);
}

static int64_t shared_value_append(struct hearth_bytes name, struct hearth_bytes more) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_value_append(&mine, as_is(name), as_is(more));
}

static int64_t shared_value_write(struct hearth_bytes name, uint64_t at, struct hearth_bytes data) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_value_write(&mine, as_is(name), at, as_is(data));
}

static int shared_value_get(struct hearth_bytes name, struct hearth_bytes *ret) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_value_get(&mine, as_is(name), out(ret));
}

static int shared_value_range(struct hearth_bytes name, int64_t from, int64_t count,
                              struct hearth_bytes *ret) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_value_range(&mine, as_is(name), from, count, out(ret));
}

static int shared_dict_get(struct hearth_bytes name, struct hearth_bytes field,
                           struct hearth_bytes *ret) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_dict_get(&mine, as_is(name), as_is(field), out(ret));
}

static int shared_dict_get_many(struct hearth_bytes name, const struct hearth_bytes *fields,
                                size_t n, const struct hearth_bytes **ret) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_dict_get_many(&mine, as_is(name), many(fields), n, outs(ret));
}

static int shared_dict_set(struct hearth_bytes name, struct hearth_bytes field,
                           struct hearth_bytes value) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_dict_set(&mine, as_is(name), as_is(field), as_is(value));
}

static int64_t shared_dict_update(struct hearth_bytes name, const struct hearth_bytes *pairs,
                                  size_t n) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_dict_update(&mine, as_is(name), many(pairs), n);
}

static int shared_dict_setdefault(struct hearth_bytes name, struct hearth_bytes field,
                                  struct hearth_bytes value, struct hearth_bytes *ret) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_dict_setdefault(&mine, as_is(name), as_is(field), as_is(value), out(ret));
}

static int64_t shared_dict_delete(struct hearth_bytes name, const struct hearth_bytes *fields,
                                  size_t n) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_dict_delete(&mine, as_is(name), many(fields), n);
}

static int shared_dict_contains(struct hearth_bytes name, struct hearth_bytes field) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_dict_contains(&mine, as_is(name), as_is(field));
}

static int64_t shared_dict_length(struct hearth_bytes name) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_dict_length(&mine, as_is(name));
}

static int shared_dict_pop(struct hearth_bytes name, struct hearth_bytes field,
                           struct hearth_bytes *ret) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_dict_pop(&mine, as_is(name), as_is(field), out(ret));
}

static int shared_dict_popitem(struct hearth_bytes name, struct hearth_bytes *ret_field,
                               struct hearth_bytes *ret_value) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_dict_popitem(&mine, as_is(name), out(ret_field), out(ret_value));
}

static int shared_dict_add(struct hearth_bytes name, struct hearth_bytes field, int64_t by,
                           int64_t *ret) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_dict_add(&mine, as_is(name), as_is(field), by, ret);
}

static int shared_dict_add_many(struct hearth_bytes name, const struct hearth_bytes *fields,
                                const int64_t *by, size_t n) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_dict_add_many(&mine, as_is(name), many(fields), by, n);
}

static int shared_dict_swap(struct hearth_bytes name, struct hearth_bytes field,
                            const struct hearth_bytes *expected, const struct hearth_bytes *value) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_dict_swap(&mine, as_is(name), as_is(field), many(expected), many(value));
}

static int shared_dict_scan(struct hearth_bytes name, uint64_t *cursor, uint32_t count,
                            const struct hearth_bytes **ret, size_t *ret_n) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_dict_scan(&mine, as_is(name), cursor, count, outs(ret), ret_n);
}

static int shared_dict_clear(struct hearth_bytes name) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_dict_clear(&mine, as_is(name));
}

static int64_t shared_list_push(struct hearth_bytes name, enum hearth_end end,
                                const struct hearth_bytes *elements, size_t n) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_list_push(&mine, as_is(name), (enum objects_end)end, many(elements), n);
}

static int shared_list_pop(struct hearth_bytes name, enum hearth_end end,
                           struct hearth_bytes *ret) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_list_pop(&mine, as_is(name), (enum objects_end)end, out(ret));
}

static int shared_list_move(struct hearth_bytes from, enum hearth_end end, struct hearth_bytes to,
                            enum hearth_end to_end, struct hearth_bytes *ret) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_list_move(&mine, as_is(from), (enum objects_end)end, as_is(to),
                             (enum objects_end)to_end, out(ret));
}

static int64_t shared_list_length(struct hearth_bytes name) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_list_length(&mine, as_is(name));
}

static int shared_list_at(struct hearth_bytes name, int64_t index, struct hearth_bytes *ret) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_list_at(&mine, as_is(name), index, out(ret));
}

static int shared_list_set(struct hearth_bytes name, int64_t index, struct hearth_bytes element) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_list_set(&mine, as_is(name), index, as_is(element));
}

static int64_t shared_list_insert(struct hearth_bytes name, int64_t index,
                                  struct hearth_bytes element) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_list_insert(&mine, as_is(name), index, as_is(element));
}

static int64_t shared_list_delete(struct hearth_bytes name, int64_t from, int64_t count) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_list_delete(&mine, as_is(name), from, count);
}

static int64_t shared_list_trim(struct hearth_bytes name, int64_t from, int64_t count) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_list_trim(&mine, as_is(name), from, count);
}

static int64_t shared_list_remove(struct hearth_bytes name, struct hearth_bytes element,
                                  int64_t count) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_list_remove(&mine, as_is(name), as_is(element), count);
}

static int64_t shared_list_index(struct hearth_bytes name, struct hearth_bytes element,
                                 int64_t from) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_list_index(&mine, as_is(name), as_is(element), from);
}

static int shared_list_range(struct hearth_bytes name, int64_t from, int64_t count,
                             const struct hearth_bytes **ret, size_t *ret_n) {
    if (!mine.shm) {
        return -EPERM;
    }
    return objects_list_range(&mine, as_is(name), from, count, outs(ret), ret_n);
}

/* ---- arrays ---- */

_Static_assert((int)HEARTH_INT8 == (int)ARRAY_INT8 && (int)HEARTH_UINT8 == (int)ARRAY_UINT8 &&
                   (int)HEARTH_FLOAT == (int)ARRAY_FLOAT && (int)HEARTH_CHAR == (int)ARRAY_CHAR,
               "one set of numbers");
_Static_assert(sizeof(union hearth_number) == sizeof(union array_number), "one kind of number");
_Static_assert(sizeof(struct hearth_pin) == sizeof(struct array_pin) &&
                   offsetof(struct hearth_pin, data) == offsetof(struct array_pin, data),
               "one kind of pin");

static union array_number as_number(union hearth_number v) {
    return (union array_number){.u = v.u};
}

/* May the call be made for this type? */
static int of_type(enum hearth_array_type type) {
    return !mine.shm ? -EPERM : array_width(type) ? 0 : -EINVAL;
}

static int shared_array_create(struct hearth_bytes name, enum hearth_array_type type, uint64_t n) {
    int r = of_type(type);
    return r ? r : objects_array_create(&mine, as_is(name), (enum array_type)type, n);
}

static int shared_array_info(struct hearth_bytes name, enum hearth_array_type *ret_type,
                             uint64_t *ret_n) {
    enum array_type type = ARRAY_NONE;
    uint64_t n = 0;
    int r = mine.shm ? objects_array_view(&mine, as_is(name), &type, &n) : -EPERM;
    if (r == 0 && ret_type) {
        *ret_type = (enum hearth_array_type)type;
    }
    if (r == 0 && ret_n) {
        *ret_n = n;
    }
    return r;
}

static int shared_array_get(struct hearth_bytes name, enum hearth_array_type type, uint64_t index,
                            union hearth_number *ret) {
    union array_number v = {0};
    int r = of_type(type);
    r = r ? r : objects_array_get(&mine, as_is(name), (enum array_type)type, index, &v);
    if (r == 0 && ret) {
        ret->u = v.u;
    }
    return r;
}

static int shared_array_set(struct hearth_bytes name, enum hearth_array_type type, uint64_t index,
                            union hearth_number value) {
    int r = of_type(type);
    return r ? r
             : objects_array_set(&mine, as_is(name), (enum array_type)type, index,
                                 as_number(value));
}

static int shared_array_add(struct hearth_bytes name, enum hearth_array_type type, uint64_t index,
                            union hearth_number by, union hearth_number *ret) {
    union array_number v = {0};
    int r = of_type(type);
    r = r ? r
          : objects_array_add(&mine, as_is(name), (enum array_type)type, index, as_number(by), &v);
    if (r == 0 && ret) {
        ret->u = v.u;
    }
    return r;
}

static int shared_array_cas(struct hearth_bytes name, enum hearth_array_type type, uint64_t index,
                            union hearth_number expected, union hearth_number value) {
    int r = of_type(type);
    return r ? r
             : objects_array_cas(&mine, as_is(name), (enum array_type)type, index,
                                 as_number(expected), as_number(value));
}

static int shared_array_read(struct hearth_bytes name, enum hearth_array_type type, uint64_t from,
                             uint64_t count, void *to) {
    int r = of_type(type);
    return r ? r : objects_array_read(&mine, as_is(name), (enum array_type)type, from, count, to);
}

static int shared_array_write(struct hearth_bytes name, enum hearth_array_type type, uint64_t from,
                              uint64_t count, const void *data) {
    int r = of_type(type);
    return r ? r
             : objects_array_write(&mine, as_is(name), (enum array_type)type, from, count, data);
}

static int shared_array_fill(struct hearth_bytes name, enum hearth_array_type type, uint64_t from,
                             uint64_t count, union hearth_number value) {
    int r = of_type(type);
    return r ? r
             : objects_array_fill(&mine, as_is(name), (enum array_type)type, from, count,
                                  as_number(value));
}

static int shared_array_pin(struct hearth_bytes name, struct hearth_pin *ret) {
    struct array_pin pin;
    int r = mine.shm ? objects_array_pin(&mine, as_is(name), &pin) : -EPERM;
    if (r == 0) {
        memcpy(ret, &pin, sizeof(pin));
    }
    return r;
}

static int shared_array_unpin(const struct hearth_pin *pin) {
    struct array_pin its;
    memcpy(&its, pin, sizeof(its));
    return mine.shm ? objects_array_unpin(&mine, &its) : -EPERM;
}

/* Waits in steps, so that a task that is cancelled ends. */
static int shared_durable_sync(int64_t ms) {
    uint64_t until = ms < 0 ? UINT64_MAX : clock_now() + (uint64_t)ms * NS_PER_MS;
    if (!mine.shm) {
        return -EPERM;
    }
    if (mine.names) {
        return -EDEADLK;
    }
    for (uint32_t drain = dirty_next(mine.shm);;) {
        uint64_t now = clock_now(), left = until > now ? (until - now) / NS_PER_MS : 0;
        int r = dirty_sync(mine.shm, drain, left < LOOK_MS ? (int64_t)left : LOOK_MS);
        if (r != -EINTR && (r != -ETIMEDOUT || left <= LOOK_MS)) {
            return r;
        }
        if (the_task && task_cancel_wanted(mine.shm, the_task)) {
            return -ECANCELED;
        }
    }
}

static const struct hearth_objects table = {
    .size = sizeof(struct hearth_objects),
    .transaction = shared_transaction,
    .exists = shared_exists,
    .type = shared_type,
    .remove = shared_remove,
    .expire = shared_expire,
    .persist = shared_persist,
    .ttl = shared_ttl,
    .rename = shared_rename,
    .names = shared_names,
    .value_get = shared_value_get,
    .value_set = shared_value_set,
    .value_add = shared_value_add,
    .value_append = shared_value_append,
    .value_write = shared_value_write,
    .value_range = shared_value_range,
    .dict_get = shared_dict_get,
    .dict_get_many = shared_dict_get_many,
    .dict_set = shared_dict_set,
    .dict_update = shared_dict_update,
    .dict_setdefault = shared_dict_setdefault,
    .dict_delete = shared_dict_delete,
    .dict_contains = shared_dict_contains,
    .dict_length = shared_dict_length,
    .dict_pop = shared_dict_pop,
    .dict_popitem = shared_dict_popitem,
    .dict_add = shared_dict_add,
    .dict_add_float = shared_dict_add_float,
    .dict_add_many = shared_dict_add_many,
    .dict_swap = shared_dict_swap,
    .dict_scan = shared_dict_scan,
    .dict_clear = shared_dict_clear,
    .list_push = shared_list_push,
    .list_pop = shared_list_pop,
    .list_pop_wait = shared_list_pop_wait,
    .list_move = shared_list_move,
    .list_length = shared_list_length,
    .list_at = shared_list_at,
    .list_set = shared_list_set,
    .list_insert = shared_list_insert,
    .list_delete = shared_list_delete,
    .list_trim = shared_list_trim,
    .list_remove = shared_list_remove,
    .list_index = shared_list_index,
    .list_range = shared_list_range,
    .list_walk = shared_list_walk,
    .copy = shared_copy,
    .names_like = shared_names_like,
    .value_exchange = shared_value_exchange,
    .value_add_float = shared_value_add_float,
    .dict_items = shared_dict_items,
    .list_insert_beside = shared_list_insert_beside,
    .list_count = shared_list_count,
    .list_reverse = shared_list_reverse,
    .list_sort = shared_list_sort,
    .block_create = block_create,
    .block_open = block_open,
    .block_unlink = block_unlink,
    .block_unmap = block_unmap,
    .array_create = shared_array_create,
    .array_info = shared_array_info,
    .array_get = shared_array_get,
    .array_set = shared_array_set,
    .array_add = shared_array_add,
    .array_cas = shared_array_cas,
    .array_read = shared_array_read,
    .array_write = shared_array_write,
    .array_fill = shared_array_fill,
    .array_pin = shared_array_pin,
    .array_unpin = shared_array_unpin,
    .durable_sync = shared_durable_sync,
};

const struct hearth_objects *shared_table(void) {
    return &table;
}
