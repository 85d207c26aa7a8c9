/* SPDX-License-Identifier: MIT */
/* Typed arrays: n numbers of one kind in one block of the segment, beginning at a multiple of 64 bytes. An array of one is a Value.
 *
 * Setting, adding to, and comparing and setting an element is one instruction of the machine: done or not done, whatever dies,
 * and seen whole by everybody, those who have the array pinned and change it by instructions of their own among them. Reading and
 * writing many elements is many such instructions: each element is whole, all of them together are not of one moment.
 *
 * Verbs run inside of an operation that holds the name's shard, unless "outside" is said; what reads also inside of op_read().
 * None of those on elements logs anything, so what has been done to an element stays when the operation fails afterwards: it is
 * the last thing that an operation does. Elements are no news to WATCH. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/shm/keys.h"
#include "lib/shm/segment.h"

enum array_type {
    ARRAY_NONE,
    ARRAY_INT8,
    ARRAY_INT16,
    ARRAY_INT32,
    ARRAY_INT64,
    ARRAY_UINT8,
    ARRAY_UINT16,
    ARRAY_UINT32,
    ARRAY_UINT64,
    ARRAY_FLOAT,
    ARRAY_DOUBLE,
    ARRAY_CHAR, /* a byte that is no number */
    ARRAY_TYPES
};
extern const char *const array_type_names[ARRAY_TYPES]; /* "" "int8" ... "double" "char" */
/* ARRAY_NONE: there is no such type. */
enum array_type array_type_of(const char *name, size_t len);
/* Bytes of an element; 0: not a type. */
unsigned array_width(unsigned type);

#define ARRAY_BYTES_MAX (UINT64_C(64) << 20)
enum { ARRAY_ALIGN = 64 };

/* An element by itself: .i of the signed types, .u of the unsigned ones and char, .d of float and double. */
union array_number {
    int64_t i;
    uint64_t u;
    double d;
};
/* Whether an element of the type can be this number. */
bool array_fits(enum array_type type, union array_number v);

/* An array that was found: good until the operation ends. */
struct array {
    struct shm_sync *object;
    enum array_type type;
    uint64_t n;
    uint8_t *data;
    uint64_t pinned; /* by so many owners */
};

/* Makes one, all zeroes: 1; 0: there is one of this type and length; -EEXIST: of another. -EINVAL: n is 0, or no type; -EMSGSIZE:
 * over 64 MiB. */
int array_create(struct shm *s, const struct key_name *name, enum array_type type, uint64_t n);
/* Reads. -ENOENT. */
int array_find(struct shm *s, const struct key_name *name, struct array *ret);

/* -ENOENT: there is no such element (or not all of them). Of a number that does not fit (array_fits()) the low bits are taken. */
int array_get(const struct array *a, uint64_t i, union array_number *ret);
int array_set(const struct array *a, uint64_t i, union array_number v);
/* Integers wrap. *ret: the sum. -EPROTOTYPE: a char. */
int array_add(const struct array *a, uint64_t i, union array_number by, union array_number *ret);
/* 1: it was `expected`, bit by bit, and is v now; 0: it was not. */
int array_cas(const struct array *a, uint64_t i, union array_number expected, union array_number v);
/* Elements as they lie in memory. */
int array_read(const struct array *a, uint64_t from, uint64_t count, void *to);
int array_write(const struct array *a, uint64_t from, uint64_t count, const void *data);
int array_fill(const struct array *a, uint64_t from, uint64_t count, union array_number v);

/* A place in memory that stays valid: the array may be deleted, but its memory is there until the last pin is gone. Pins are their
 * owner's (sync.h): they go with him. */
struct array_pin {
    enum array_type type;
    uint64_t n;
    void *data;
    /* private */
    uint64_t object;
    uint32_t birth;
};
int array_pin(struct shm *s, const struct key_name *name, struct array_pin *ret);
/* Outside. -EINVAL: the actor has no such pin. */
int array_unpin(struct shm *s, const struct array_pin *pin);
