/* SPDX-License-Identifier: MIT */
/* Lists in the segment: byte strings in order, O(1) at both ends, O(log n) anywhere. Changing verbs run inside an operation
 * that holds the shard's lock (op.h); what is marked "reads" also inside of op_read(). No verb touches more than a bounded
 * number of elements besides those it is about. Errors common to the changing verbs: -ENOMEM, -ENOBUFS (tx_need), -EAGAIN
 * (allocator's locks), -EBADMSG (damaged by another process); from reading ones: -ESTALE. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/shm/keys.h"

struct list_object {
    struct key key; /* of lists that are no keys: only name.shard */
    struct shm_list *list;
    unsigned account; /* who pays for it */
};
/* Reads unless `make`. -ENOENT, -EPROTOTYPE. */
int list_open(struct shm *s, const struct key_name *name, bool make, struct list_object *ret);
/* The end of a change: marks the key, and removes an empty list. */
int list_close(struct shm *s, struct list_object *l);
uint64_t list_count(const struct list_object *l);
/* The position of the first element, of a durable list (dirty.h): it goes down with each element pushed before it, and up with each
 * taken away. */
int64_t list_base(const struct list_object *l);
/* Of an empty list. */
int list_set_base(struct shm *s, struct list_object *l, int64_t base);

int list_push(struct shm *s, struct list_object *l, bool left, const void *data, size_t len);
/* Removes the first or last element. The bytes stay readable until the operation ends. -ENOENT: empty. */
int list_pop(struct shm *s, struct list_object *l, bool left, struct task_bytes *ret);

/* Reads. Element `index` (0 ..). -ENOENT beyond the end. */
int list_at(struct shm *s, const struct list_object *l, uint64_t index, struct task_bytes *ret);
/* Reads. Calls fn(arg, index, data, len) for elements from `from` on, upwards or downwards, until it returns non-zero
 * (returned) or the list ends (0). Sequential, at the speed of memory. */
typedef int list_visit(void *arg, uint64_t index, const void *data, size_t len);
int list_walk(struct shm *s, const struct list_object *l, uint64_t from, bool down, list_visit *fn,
              void *arg);

int list_set(struct shm *s, struct list_object *l, uint64_t index, const void *data, size_t len);
/* Before the element at index; index == count appends. */
int list_insert(struct shm *s, struct list_object *l, uint64_t index, const void *data, size_t len);
/* Removes n elements from index on. Whole leaves go at once. */
int list_remove(struct shm *s, struct list_object *l, uint64_t index, uint64_t n);

/* For keys.c: a bounded piece of the taking apart; 1: there is more. */
int list_take_apart(struct shm *s, unsigned shard, struct shm_list *l, int budget);
/* For check.c and MEMORY USAGE: every block the list owns. Bounded. */
int list_blocks(const struct shm *s, const struct shm_list *l,
                int (*fn)(void *arg, uint64_t off, uint64_t bytes), void *arg);
