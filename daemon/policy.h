/* SPDX-License-Identifier: MIT */
/* What was asked for a task beyond "run it": kept in the segment behind its input, so that it lives
 * as long as the task. Times are of CLOCK_MONOTONIC. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/config.h"
#include "lib/shm/task.h"

enum policy_field {
#define POLICY(bit, ...) POLICY_##bit,
#include "daemon/policy.def"
#undef POLICY
    POLICY_FIELDS,
};

struct policy {
    uint32_t set; /* 1 << POLICY_*: named by the submitter, the rest is the pool's */
#define POLICY(bit, field, ...) uint64_t field;
#include "daemon/policy.def"
#undef POLICY
};

enum { POLICY_BLOCK_MAX = 8 + 8 * POLICY_FIELDS };

static inline bool policy_has(const struct policy *p, enum policy_field f) {
    return p->set >> f & 1;
}
/* The place of a number, by its field. */
uint64_t *policy_number(struct policy *p, enum policy_field f);
/* The block for the segment: its length, 0 when nothing was named. */
size_t policy_put(const struct policy *p, uint8_t out[POLICY_BLOCK_MAX]);
/* From a block, which anybody may have written: what makes no sense counts as not named. Then what
 * was not named is as the pool has it. */
void policy_get(const struct task_bytes *block, const struct pool_config *pool, struct policy *ret);
