/* SPDX-License-Identifier: MIT */
/* Keys that tasks have in common: under a LIMIT key only so many run at once; under a UNIQUE key
 * there is only one. A key lives as long as a plan holds it. And names of groups. */
#pragma once

#include "daemon/schedule/heap.h"
#include "lib/shm/task.h"

enum name_kind { NAME_LIMIT, NAME_UNIQUE, NAME_GROUP };

struct name {
    struct name *next;
    uint64_t hash;
    enum name_kind kind;
    uint32_t pool;            /* UNIQUE: in which it is; LIMIT: 0, one for all */
    uint32_t refs;            /* plans */
    uint32_t held;            /* LIMIT: of these fed or running */
    uint32_t idx;             /* UNIQUE: the task */
    struct heap waiting;      /* LIMIT: those whose turn it was */
    struct task_group *group; /* GROUP */
    size_t len;
    char key[];
};

struct names {
    struct name **table;
    size_t size, n;
};

void names_deinit(struct names *t); /* nothing is held any more */
/* NULL: there is none. */
struct name *names_find(const struct names *t, enum name_kind kind, uint32_t pool,
                        const struct task_bytes *key);
/* Finds or makes it. NULL: no memory. */
struct name *names_hold(struct names *t, enum name_kind kind, uint32_t pool,
                        const struct task_bytes *key);
void names_drop(struct names *t, struct name *n);
