/* SPDX-License-Identifier: MIT */
/* What each of these calls is given. Nothing here may depend on chance or the clock: the call is made several times, on copies of
 * one segment, and must do the same each time.
 *
 * Fails: as the call does. */
#include "tests/crash/object_calls.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/shm/keys.h"

enum { FIELDS = 30 };

static struct task_bytes text(const char *t) {
    return (struct task_bytes){t, strlen(t)};
}

static int64_t value_call(struct objects *o, enum object_call call, struct task_bytes name,
                          struct task_bytes to) {
    const struct task_bytes several[] = {name, to, text("d2"), text("none")};
    struct task_bytes old;
    switch (call) {
    case CALL_COPY:
        return objects_copy(o, name, to, true);
    case CALL_EXCHANGE:
        return objects_value_exchange(o, name, text("another"), OBJECTS_PRESENT, 0, &old);
    case CALL_ADD_FLOAT:
        return objects_value_add_float(o, name, 0.25L, NULL);
    case CALL_EXPIRE_NOW:
        return objects_expire(o, name, 0);
    case CALL_PERSIST:
        return objects_persist(o, name);
    case CALL_SET_TTL:
        return objects_value_set(o, name, text("kept"), OBJECTS_PRESENT | OBJECTS_KEEP_TTL, 0);
    case CALL_DELETE_SEVERAL:
        return objects_delete(o, several, ARRAY_SIZE(several));
    case CALL_RENAME_OVER:
        return objects_rename(o, name, to, true);
    default:
        return objects_value_write(o, name, 3500, text("beyond"));
    }
}

static int64_t fields_call(struct objects *o, enum object_call call, struct task_bytes name,
                           const char *letters) {
    char names[FIELDS][16];
    struct task_bytes fields[FIELDS], pairs[2 * FIELDS];
    int64_t by[FIELDS];
    for (int i = 0; i < FIELDS; i++) {
        snprintf(names[i], sizeof(names[i]), call == CALL_ADD_FIELDS ? "n%d" : "f%d", i);
        fields[i] = pairs[2 * i] = text(names[i]);
        pairs[2 * i + 1] = (struct task_bytes){letters + i, 45};
        by[i] = i * 100;
    }
    return call == CALL_UPDATE          ? objects_dict_update(o, name, pairs, FIELDS / 2)
           : call == CALL_DELETE_FIELDS ? objects_dict_delete(o, name, fields, FIELDS)
                                        : objects_dict_add_many(o, name, fields, by, FIELDS / 3);
}

static int64_t dict_call(struct objects *o, enum object_call call, struct task_bytes name,
                         const char *letters) {
    struct task_bytes was = {letters, 20}, next = {letters + 4, 90}, got, field;
    o->random = 1;
    switch (call) {
    case CALL_DEFAULT:
        return objects_dict_setdefault(o, name, text("unset"), next, &got);
    case CALL_POP_FIELD:
        return objects_dict_pop(o, name, text("f3"), &got);
    case CALL_POP_ITEM:
        return objects_dict_popitem(o, name, &field, &got);
    case CALL_SWAP:
        return objects_dict_swap(o, name, text("f2"), &was, &next);
    case CALL_SWAP_AWAY:
        return objects_dict_swap(o, name, text("f2"), &was, NULL);
    case CALL_ADD_FIELD:
        return objects_dict_add(o, name, text("sum"), 5, NULL);
    case CALL_ADD_FIELD_FLOAT:
        return objects_dict_add_float(o, name, text("sum"), 1.5L, NULL);
    case CALL_CLEAR:
        return objects_dict_clear(o, name);
    default:
        return fields_call(o, call, name, letters);
    }
}

static int64_t list_call(struct objects *o, enum object_call call, struct task_bytes name,
                         struct task_bytes to, const char *letters) {
    struct task_bytes several[20], element = {letters + 5, 20};
    struct task_bytes got;
    for (size_t i = 0; i < ARRAY_SIZE(several); i++) {
        several[i] = (struct task_bytes){letters + i, 10 + 31 * i};
    }
    switch (call) {
    case CALL_BESIDE:
        return objects_list_insert_beside(o, name, element, true, text("beside"));
    case CALL_REVERSE:
        return objects_list_reverse(o, name);
    case CALL_SORT:
        return objects_list_sort(o, name, OBJECTS_ALPHA | OBJECTS_DESCENDING);
    case CALL_PUSH_SEVERAL:
        return objects_list_push(o, name, OBJECTS_LEFT, several, ARRAY_SIZE(several));
    case CALL_POP_WAIT:
        return objects_list_pop_wait(o, name, OBJECTS_RIGHT, 1000, &got);
    case CALL_MOVE:
        return objects_list_move(o, name, OBJECTS_RIGHT, to, OBJECTS_LEFT, &got);
    case CALL_TRIM:
        return objects_list_trim(o, name, 40, 100);
    default:
        return objects_list_remove(o, name, element, 0);
    }
}

/* A call inside that fails is undone by itself, and the rest goes on. */
static int in_transaction(struct objects *o, void *arg) {
    const char *letters = arg;
    struct task_bytes element = {letters, 60};
    int r = objects_dict_set(o, text("d1"), text("in it"), element);
    r = r < 0 ? r : objects_value_add(o, text("gone"), 8, NULL);
    int64_t n = r < 0 ? r : objects_list_push(o, text("v1"), OBJECTS_LEFT, &element, 1);
    n = n == -EPROTOTYPE ? objects_list_push(o, text("l1"), OBJECTS_LEFT, &element, 1) : -EBADE;
    return n < 0 ? (int)n : objects_rename(o, text("d3"), text("big"), true);
}

/* A dozen keys of one shard, so that the table of its keys splits. */
static int64_t fill_shard(struct objects *o, const char *letters) {
    char names[12][16];
    struct task_bytes found[12];
    size_t n = 0;
    for (int i = 0; n < ARRAY_SIZE(found); i++) {
        int len = snprintf(names[n], sizeof(names[n]), "key %d", i);
        if (key_name(o->shm, names[n], (size_t)len).shard == 7) {
            found[n] = (struct task_bytes){names[n], (size_t)len};
            n++;
        }
    }
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++) {
        r = objects_value_set(o, found[i], (struct task_bytes){letters, 30 + i}, OBJECTS_ALWAYS, 0);
    }
    return r;
}

int64_t object_call(struct objects *o, enum object_call call, const char *key, const char *to,
                    const char *letters) {
    const struct task_bytes names[] = {text("d1"), text("gone"), text("v1"),
                                       text("l1"), text("d3"),   text("big")};
    struct task_bytes name = text(key), other = to ? text(to) : (struct task_bytes){"", 0};
    switch (call) {
    case CALL_BESIDE:
    case CALL_REVERSE:
    case CALL_SORT:
    case CALL_PUSH_SEVERAL:
    case CALL_POP_WAIT:
    case CALL_MOVE:
    case CALL_TRIM:
    case CALL_REMOVE_EQUAL:
        return list_call(o, call, name, other, letters);
    case CALL_TRANSACTION:
        return objects_transaction(o, names, ARRAY_SIZE(names), in_transaction, (void *)letters);
    case CALL_ONE_SHARD:
        return fill_shard(o, letters);
    default:
        return call >= CALL_DEFAULT ? dict_call(o, call, name, letters)
                                    : value_call(o, call, name, other);
    }
}
