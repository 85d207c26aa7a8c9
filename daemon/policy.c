/* SPDX-License-Identifier: MIT */
/* The block: version (1), nothing (3), which fields follow (4), then the fields, 8 bytes each, in
 * the order of policy.def; as the machine writes them, since a segment never leaves it. A block of
 * another version, or of another length than its bits say, is as good as none.
 *
 * Fails: nothing here fails. */
#include "daemon/policy.h"

#include <string.h>

#include "lib/base/clock.h"

enum { VERSION = 1, HEAD = 8 };

uint64_t *policy_number(struct policy *p, enum policy_field f) {
    switch (f) {
#define POLICY(bit, field, ...)                                                                    \
    case POLICY_##bit:                                                                             \
        return &p->field;
#include "daemon/policy.def"
#undef POLICY
    default:
        return NULL;
    }
}

size_t policy_put(const struct policy *p, uint8_t out[POLICY_BLOCK_MAX]) {
    size_t n = HEAD;
    if (!p->set) {
        return 0;
    }
    memset(out, 0, HEAD);
    out[0] = VERSION;
    memcpy(out + 4, &p->set, 4);
    for (uint32_t f = 0; f < POLICY_FIELDS; f++) {
        if (policy_has(p, f)) {
            memcpy(out + n, policy_number((struct policy *)p, f), 8);
            n += 8;
        }
    }
    return n;
}

static void read_block(const struct task_bytes *block, struct policy *ret) {
    const uint8_t *in = block->data;
    uint32_t set;
    if (block->len < HEAD || in[0] != VERSION) {
        return;
    }
    memcpy(&set, in + 4, 4);
    if (set >> POLICY_FIELDS || block->len != HEAD + 8 * (size_t)__builtin_popcount(set)) {
        return;
    }
    in += HEAD;
    for (uint32_t f = 0; f < POLICY_FIELDS; f++) {
        if (set >> f & 1) {
            memcpy(policy_number(ret, f), in, 8);
            in += 8;
        }
    }
    ret->set = set;
}

void policy_get(const struct task_bytes *block, const struct pool_config *pool,
                struct policy *ret) {
    struct policy p = {0};
    read_block(block, &p);
    if (!policy_has(&p, POLICY_RETRIES)) {
        p.retries = pool->retries;
    }
    if (!policy_has(&p, POLICY_RETRY_ON)) {
        p.retry_on = pool->retry_kinds;
    }
    if (!policy_has(&p, POLICY_BACKOFF)) {
        p.backoff_ms = pool->backoff_ms;
    }
    if (!policy_has(&p, POLICY_BACKOFF_MAX)) {
        p.backoff_max_ms = pool->backoff_max_ms;
    }
    *ret = p;
}
