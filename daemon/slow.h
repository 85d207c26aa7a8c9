/* SPDX-License-Identifier: MIT */
/* The slow log: tasks that ran for longer than their pool's slow_after, each once, with what they
 * were doing then. The last SLOW_KEPT. supervise/ adds, serve/ reads. */
#pragma once

#include <stdint.h>

#include "daemon/hearthd.h"
#include "lib/shm/task.h"

enum { SLOW_KEPT = 128, SLOW_WHERE = 256 };

struct slow_entry {
    uint64_t number; /* from 1 on, never used twice by a daemon */
    uint64_t id;
    uint32_t idx, pool, handler, attempt;
    pid_t worker;
    uint64_t at_ms; /* since 1970 */
    uint64_t run_ms;
    char where[SLOW_WHERE];
};

/* Also logs it. Without memory for the ring it is only logged. */
void slow_add(struct hearthd *d, uint32_t idx, const struct task_view *v, const char *where);
/* The nth, the newest is 0; NULL: there are no more. Good until the next is added. */
const struct slow_entry *slow_get(const struct hearthd *d, uint32_t n);
void slow_clear(struct hearthd *d);
void slow_free(struct hearthd *d);
