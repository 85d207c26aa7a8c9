/* SPDX-License-Identifier: MIT */
/* The tasks of a handle that have not ended: found by ticket and, once the daemon has named them,
 * by id. Both O(1). Tasks live in chunks that are kept until the handle is closed, so a task costs
 * no allocation in the steady state. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/hearth.h"

struct task {
    struct task *next; /* free list; or the next of one TASK.MSUBMIT */
    hearth_done_fn fn;
    void *arg;
    hearth_data_fn data_fn;
    void *data_arg;
    uint32_t slot, generation; /* the ticket: generation << 32 | slot + 1 */
    uint32_t hash, index;
    bool used, cancel; /* cancel: as soon as the id is known; and again after a reconnection */
    char *again; /* the request, until it is answered: resume.c; NULL: it is not to be made again */
    size_t again_len;
    char id[HEARTH_ID_MAX + 1];
};

struct table_entry {
    uint32_t hash;
    struct task *task; /* NULL: empty */
};

struct table {
    struct task **chunks;
    uint32_t n_chunks;
    struct task *free;
    size_t pending;
    size_t unnamed;              /* pending tasks without an id */
    struct table_entry *entries; /* open addressing, linear; cap is a power of two */
    uint32_t cap, count;
};

void table_deinit(struct table *t);
/* A task in use without an id; NULL: no memory. Also makes sure that table_name() cannot fail for
 * it. */
struct task *table_new(struct table *t);
/* Ends its use: its ticket and its id find nothing any more. */
void table_free(struct table *t, struct task *task);
/* Gives it its id (len <= HEARTH_ID_MAX); several may have the same. */
void table_name(struct table *t, struct task *task, const char *id, size_t len);
struct task *table_find(const struct table *t, const char *id, size_t len);
struct task *table_by_ticket(const struct table *t, uint64_t ticket);
/* Any task in use whose slot is at least from; NULL when there is none. */
struct task *table_from(const struct table *t, uint32_t from);
static inline uint64_t table_ticket(const struct task *task) {
    return (uint64_t)task->generation << 32 | (task->slot + 1);
}
