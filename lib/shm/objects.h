/* SPDX-License-Identifier: MIT */
/* The shared objects as a process uses them that has the segment mapped: each call locks, does its work and copies out what
 * was found; it is one transaction. Worker and client library stand on this, and mean the same by it.
 *
 * Results (struct task_bytes that a call sets) lie in the handle: they are valid until the next call but one with it, so that
 * the result of one call can be an argument of the next. A handle is used by one thread at a time.
 *
 * Errors common to all: -EPROTOTYPE (the name is of another type), -ENOMEM (the segment, or this process, has no room;
 * nothing has changed), -EAGAIN (a lock was busy beyond the handle's patience), -EBADMSG (damaged by another process),
 * -EMSGSIZE (over 64 MiB), -EIDRM (to be made, or waited for: a name of a manager that has ended, see manager.h), -EDEADLK (in a transaction: a name that it did not list, or a call that waits). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/shm/array.h"
#include "lib/shm/keys.h"
#include "lib/shm/segment.h"
#include "lib/shm/sync.h"

/* What a call found, copied out of the segment. */
struct objects_found {
    struct task_bytes *items; /* data NULL: absent */
    size_t n, cap;
    struct buf bytes;
};

/* A lock or rlock used before, found by its name. */
struct objects_lock {
    struct sync_ref ref;
    uint8_t text[48]; /* of the name */
};
enum { OBJECTS_LOCKS = 8 };

struct objects {
    struct shm *shm;
    struct objects_found found[2]; /* the last result, and the one before */
    unsigned turn;
    uint64_t random;
    /* the transaction under way */
    const struct key_name *names; /* NULL: none */
    size_t n_names;
    struct objects_lock *locks; /* OBJECTS_LOCKS for each of the two kinds; NULL: none used yet */
};

/* The segment's handle stays the caller's and has a slot, or can only read (-EAGAIN where readers must lock). */
void objects_init(struct objects *o, struct shm *s);
void objects_deinit(struct objects *o);

/* Runs fn with the names locked: all that it does commits when it returns 0 or more, and nothing when it returns a negative
 * value; either is returned. A call inside that fails has changed nothing, and fn may go on. fn may run several times (each
 * time from the beginning, with nothing done before). -E2BIG: over OBJECTS_NAMES. */
enum { OBJECTS_NAMES = 256 };
int objects_transaction(struct objects *o, const struct task_bytes *names, size_t n,
                        int (*fn)(struct objects *o, void *arg), void *arg);

/* ---- keys ---- */
/* 1 or 0. */
int objects_exists(struct objects *o, struct task_bytes name);
/* enum key_type, KEY_NONE if there is none. */
int objects_type(struct objects *o, struct task_bytes name);
/* Deletes those of n names that exist: how many, as one transaction. */
int64_t objects_delete(struct objects *o, const struct task_bytes *names, size_t n);
/* Expires in ms (<= 0: at once). -ENOENT. */
int objects_expire(struct objects *o, struct task_bytes name, int64_t ms);
/* No longer expires: 1, 0 if it did not. -ENOENT. */
int objects_persist(struct objects *o, struct task_bytes name);
/* Milliseconds until it expires; -1: never; -ENOENT. */
int64_t objects_ttl(struct objects *o, struct task_bytes name);
/* -ENOENT; -EEXIST: `to` is there and may not be replaced. */
int objects_rename(struct objects *o, struct task_bytes name, struct task_bytes to, bool replace);
/* A copy under another name, its expiry too. -ENOENT; -EEXIST: `to` is there and may not be replaced, or is the same name. */
int objects_copy(struct objects *o, struct task_bytes name, struct task_bytes to, bool replace);
/* Names that match a pattern (NULL: all; as glob.h says): about `count` of them, from *cursor on (0 begins; 0 again: that was
 * all). Those there throughout are met, some perhaps twice. */
int objects_keys(struct objects *o, uint64_t *cursor, uint32_t count,
                 const struct task_bytes *pattern, const struct task_bytes **ret, size_t *ret_n);

/* ---- values ---- */
enum objects_when {
    OBJECTS_ALWAYS = 0,
    OBJECTS_ABSENT = 1,   /* only if there is none: -EEXIST */
    OBJECTS_PRESENT = 2,  /* only if there is one: -ENOENT */
    OBJECTS_KEEP_TTL = 4, /* may be added: an expiry stays */
};
/* -ENOENT. */
int objects_value_get(struct objects *o, struct task_bytes name, struct task_bytes *ret);
/* ttl_ms 0: for ever. */
int objects_value_set(struct objects *o, struct task_bytes name, struct task_bytes value,
                      unsigned when, uint64_t ttl_ms);
/* The same; *ret is the value before, data NULL: there was none. It is set also where -EEXIST or -ENOENT is returned. A dict or
 * list of that name: -EPROTOTYPE. */
int objects_value_exchange(struct objects *o, struct task_bytes name, struct task_bytes value,
                           unsigned when, uint64_t ttl_ms, struct task_bytes *ret);
/* Adds to a number in decimal notation. -EDOM: not a number; -ERANGE: the sum is none. ret may be NULL. */
int objects_value_add_float(struct objects *o, struct task_bytes name, long double by,
                            long double *ret);
/* -EDOM: not an integer; -ERANGE. An absent one counts as 0. ret may be NULL. */
int objects_value_add(struct objects *o, struct task_bytes name, int64_t by, int64_t *ret);
/* The new length. */
int64_t objects_value_append(struct objects *o, struct task_bytes name, struct task_bytes more);
/* Overwrites from byte `at`; what is missing before it becomes zeroes. The new length. */
int64_t objects_value_write(struct objects *o, struct task_bytes name, uint64_t at,
                            struct task_bytes data);
/* `count` bytes from `from` (negative: from the end); count < 0: all that follow. Empty when there is none. */
int objects_value_range(struct objects *o, struct task_bytes name, int64_t from, int64_t count,
                        struct task_bytes *ret);

/* ---- dicts ---- */
/* -ENOENT: no such field, or no such dict. */
int objects_dict_get(struct objects *o, struct task_bytes name, struct task_bytes field,
                     struct task_bytes *ret);
/* n values, in order; data NULL: absent. */
int objects_dict_get_many(struct objects *o, struct task_bytes name,
                          const struct task_bytes *fields, size_t n, const struct task_bytes **ret);
/* 1: a new field; 0: replaced. */
int objects_dict_set(struct objects *o, struct task_bytes name, struct task_bytes field,
                     struct task_bytes value);
/* n pairs (field, value, field, value ...), all or none: how many were new. */
int64_t objects_dict_update(struct objects *o, struct task_bytes name,
                            const struct task_bytes *pairs, size_t n);
/* Sets the field if it is not there (1), else leaves it (0); *ret is what is there now. ret may be NULL. */
int objects_dict_setdefault(struct objects *o, struct task_bytes name, struct task_bytes field,
                            struct task_bytes value, struct task_bytes *ret);
/* How many of n fields were removed. */
int64_t objects_dict_delete(struct objects *o, struct task_bytes name,
                            const struct task_bytes *fields, size_t n);
int objects_dict_contains(struct objects *o, struct task_bytes name, struct task_bytes field);
int64_t objects_dict_length(struct objects *o, struct task_bytes name);
/* Removes and gives. -ENOENT. */
int objects_dict_pop(struct objects *o, struct task_bytes name, struct task_bytes field,
                     struct task_bytes *ret);
int objects_dict_popitem(struct objects *o, struct task_bytes name, struct task_bytes *ret_field,
                         struct task_bytes *ret_value);
/* -EDOM: not an integer; -ERANGE. ret may be NULL. */
int objects_dict_add(struct objects *o, struct task_bytes name, struct task_bytes field, int64_t by,
                     int64_t *ret);
/* Adds to a number in decimal notation. -EDOM: not a number; -ERANGE: the sum is none. */
int objects_dict_add_float(struct objects *o, struct task_bytes name, struct task_bytes field,
                           long double by, long double *ret);
/* Adds 1 .. n counts to n fields as one transaction. -EDOM, -ERANGE. */
int objects_dict_add_many(struct objects *o, struct task_bytes name,
                          const struct task_bytes *fields, const int64_t *by, size_t n);
/* If the field is as expected (NULL: absent), it becomes value (NULL: absent): 1. Else 0. */
int objects_dict_swap(struct objects *o, struct task_bytes name, struct task_bytes field,
                      const struct task_bytes *expected, const struct task_bytes *value);
/* All of it at one moment: fields, values, or both in turn. *ret_n counts both. */
enum objects_part { OBJECTS_FIELDS = 1, OBJECTS_VALUES = 2, OBJECTS_ITEMS = 3 };
int objects_dict_items(struct objects *o, struct task_bytes name, enum objects_part part,
                       const struct task_bytes **ret, size_t *ret_n);
/* Pairs, as objects_keys(): *ret_n counts fields and values. */
int objects_dict_scan(struct objects *o, struct task_bytes name, uint64_t *cursor, uint32_t count,
                      const struct task_bytes **ret, size_t *ret_n);
/* 1, or 0 if there was none. */
int objects_dict_clear(struct objects *o, struct task_bytes name);

/* ---- lists: index < 0 counts from the end ---- */
enum objects_end { OBJECTS_LEFT, OBJECTS_RIGHT };
/* n elements, one after the other: the new length. */
int64_t objects_list_push(struct objects *o, struct task_bytes name, enum objects_end end,
                          const struct task_bytes *elements, size_t n);
/* -ENOENT: empty, or no such list. */
int objects_list_pop(struct objects *o, struct task_bytes name, enum objects_end end,
                     struct task_bytes *ret);
/* Waits until there is one, at most `ms` (< 0: for ever). -ETIMEDOUT. */
int objects_list_pop_wait(struct objects *o, struct task_bytes name, enum objects_end end,
                          int64_t ms, struct task_bytes *ret);
/* From one list's end to another's (or the same one's). -ENOENT. */
int objects_list_move(struct objects *o, struct task_bytes from, enum objects_end end,
                      struct task_bytes to, enum objects_end to_end, struct task_bytes *ret);
int64_t objects_list_length(struct objects *o, struct task_bytes name);
/* -ENOENT: out of range. */
int objects_list_at(struct objects *o, struct task_bytes name, int64_t index,
                    struct task_bytes *ret);
int objects_list_set(struct objects *o, struct task_bytes name, int64_t index,
                     struct task_bytes element);
/* Before the element at index; at or beyond the end it is appended. The new length. */
int64_t objects_list_insert(struct objects *o, struct task_bytes name, int64_t index,
                            struct task_bytes element);
/* Before, or after, the first element equal to pivot: the new length. -ENOENT: there is none. */
int64_t objects_list_insert_beside(struct objects *o, struct task_bytes name,
                                   struct task_bytes pivot, bool after, struct task_bytes element);
/* `count` (< 0: all that follow) from `from` on: how many. */
int64_t objects_list_delete(struct objects *o, struct task_bytes name, int64_t from, int64_t count);
/* Keeps only those: the new length. */
int64_t objects_list_trim(struct objects *o, struct task_bytes name, int64_t from, int64_t count);
/* Removes elements equal to this: the first `count`, the last -count, or (0) all. How many. */
int64_t objects_list_remove(struct objects *o, struct task_bytes name, struct task_bytes element,
                            int64_t count);
/* Of the first element equal to this, from index `from` on. -ENOENT. */
int64_t objects_list_index(struct objects *o, struct task_bytes name, struct task_bytes element,
                           int64_t from);
/* How many elements equal this. */
int64_t objects_list_count(struct objects *o, struct task_bytes name, struct task_bytes element);
/* Turns the order round: the length. */
int64_t objects_list_reverse(struct objects *o, struct task_bytes name);
/* Puts the elements in order, as Redis's SORT: by number, equal ones by their bytes; or by bytes alone. The length. -EDOM: an
 * element is no number. */
enum objects_order { OBJECTS_ALPHA = 1, OBJECTS_DESCENDING = 2 };
int64_t objects_list_sort(struct objects *o, struct task_bytes name, unsigned order);
int objects_list_range(struct objects *o, struct task_bytes name, int64_t from, int64_t count,
                       const struct task_bytes **ret, size_t *ret_n);
/* Walks without copying the whole: fn sees elements from `from` on in stretches that were read at once, until it returns
 * non-zero (returned). */
int objects_list_walk(struct objects *o, struct task_bytes name, int64_t from,
                      int (*fn)(void *arg, uint64_t index, struct task_bytes element), void *arg);

/* ---- arrays (array.h); -EDEADLK in a transaction ---- */
/* 1: made, all zeroes; 0: there was one like it. -EEXIST: of another type or length; -EINVAL: n is 0. */
int objects_array_create(struct objects *o, struct task_bytes name, enum array_type type,
                         uint64_t n);
int objects_array_view(struct objects *o, struct task_bytes name, enum array_type *ret_type,
                       uint64_t *ret_n);
/* From here on `type` is what the array is taken for; -EPROTOTYPE: it is of another. ARRAY_NONE: any will do. -ENOENT: no such array, or element;
 * -ERANGE: the type has no such number. */
int objects_array_get(struct objects *o, struct task_bytes name, enum array_type type, uint64_t i,
                      union array_number *ret);
int objects_array_set(struct objects *o, struct task_bytes name, enum array_type type, uint64_t i,
                      union array_number v);
/* *ret (may be NULL): the sum. */
int objects_array_add(struct objects *o, struct task_bytes name, enum array_type type, uint64_t i,
                      union array_number by, union array_number *ret);
/* 1: done; 0: it was not as expected. */
int objects_array_cas(struct objects *o, struct task_bytes name, enum array_type type, uint64_t i,
                      union array_number expected, union array_number v);
/* Elements as they lie in memory. All are there or nothing is done; but an array
 * that is deleted while it is written to may have got a part (-ENOENT). */
int objects_array_read(struct objects *o, struct task_bytes name, enum array_type type,
                       uint64_t from, uint64_t count, void *to);
int objects_array_write(struct objects *o, struct task_bytes name, enum array_type type,
                        uint64_t from, uint64_t count, const void *data);
int objects_array_fill(struct objects *o, struct task_bytes name, enum array_type type,
                       uint64_t from, uint64_t count, union array_number v);
int objects_array_pin(struct objects *o, struct task_bytes name, struct array_pin *ret);
int objects_array_unpin(struct objects *o, const struct array_pin *pin);
