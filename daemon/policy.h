/* SPDX-License-Identifier: MIT */
/* What was asked for a task beyond "run it": kept in the segment behind its input, so that it lives
 * as long as the task. Times are of CLOCK_MONOTONIC. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/config.h"
#include "lib/shm/task.h"

enum policy_field {
#define POLICY(bit, ...)     POLICY_##bit,
#define POLICY_KEY(bit, ...) POLICY_##bit,
#include "daemon/policy.def"
#undef POLICY
#undef POLICY_KEY
    POLICY_FIELDS,
};

enum { POLICY_KEY_MAX = 512 }; /* bytes of a key */

struct policy {
    uint32_t set; /* 1 << POLICY_*: named by the submitter, the rest is the pool's */
#define POLICY(bit, field, ...)     uint64_t field;
#define POLICY_KEY(bit, field, ...) struct task_bytes field;
#include "daemon/policy.def"
#undef POLICY
#undef POLICY_KEY
};

/* A task that another one comes after, and how it must have ended for that. */
struct policy_after {
    uint32_t idx, zero;
    uint64_t id;
};
enum policy_after_mode { AFTER_OK, AFTER_ANY, AFTER_FAILED };
enum { POLICY_AFTER_MAX = POLICY_KEY_MAX / sizeof(struct policy_after) };

enum { POLICY_BLOCK_MAX = 8 + POLICY_FIELDS * (2 + POLICY_KEY_MAX) };

static inline bool policy_has(const struct policy *p, enum policy_field f) {
    return p->set >> f & 1;
}
/* The place of a number, or of a key; NULL when it is the other. */
uint64_t *policy_number(struct policy *p, enum policy_field f);
struct task_bytes *policy_key(struct policy *p, enum policy_field f);
/* The block for the segment: its length, 0 when nothing was named. */
size_t policy_put(const struct policy *p, uint8_t out[POLICY_BLOCK_MAX]);
/* From a block, which anybody may have written: one that makes no sense counts as none. Then what
 * was not named is as the pool has it. Keys point into the block. */
void policy_get(const struct task_bytes *block, const struct pool_config *pool, struct policy *ret);
