/* SPDX-License-Identifier: MIT */
/* The block: version (1), nothing (3), which fields follow (4), then the fields in the order of
 * policy.def: numbers of 8 bytes, keys as a length (2) and their bytes; as the machine writes them,
 * since a segment never leaves it. A block of another version, or of another length than it says, is
 * as good as none.
 *
 * Fails: nothing here fails. */
#include "daemon/policy.h"

#include <assert.h>
#include <string.h>

#include "lib/base/clock.h"

enum { VERSION = 3, HEAD = 8 };

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

struct task_bytes *policy_key(struct policy *p, enum policy_field f) {
    switch (f) {
#define POLICY(...)
#define POLICY_KEY(bit, field, ...)                                                                \
    case POLICY_##bit:                                                                             \
        return &p->field;
#include "daemon/policy.def"
#undef POLICY
#undef POLICY_KEY
    default:
        return NULL;
    }
}

size_t policy_put(const struct policy *policy, uint8_t out[POLICY_BLOCK_MAX]) {
    struct policy p = *policy;
    size_t n = HEAD;
    if (!p.set) {
        return 0;
    }
    memset(out, 0, HEAD);
    out[0] = VERSION;
    memcpy(out + 4, &p.set, 4);
    for (uint32_t f = 0; f < POLICY_FIELDS; f++) {
        const uint64_t *number = policy_number(&p, f);
        const struct task_bytes *key = policy_key(&p, f);
        if (policy_has(&p, f) && number) {
            memcpy(out + n, number, 8);
            n += 8;
        } else if (policy_has(&p, f)) {
            uint16_t len = (uint16_t)key->len;
            assert(key->len <= POLICY_KEY_MAX);
            memcpy(out + n, &len, 2);
            memcpy(out + n + 2, key->data, len);
            n += 2 + (size_t)len;
        }
    }
    return n;
}

/* The next field of a block, from *at on. False: it is cut short. */
static bool read_field(const struct task_bytes *block, size_t *at, struct policy *p, uint32_t f) {
    const uint8_t *in = (const uint8_t *)block->data + *at;
    size_t left = block->len - *at;
    uint64_t *number = policy_number(p, f);
    uint16_t len = 0;
    if (left < (number ? 8 : 2)) {
        return false;
    }
    if (number) {
        memcpy(number, in, 8);
        *at += 8;
        return true;
    }
    memcpy(&len, in, 2);
    *policy_key(p, f) = (struct task_bytes){in + 2, len};
    *at += 2 + (size_t)len;
    return len <= POLICY_KEY_MAX && *at <= block->len;
}

static void read_block(const struct task_bytes *block, struct policy *ret) {
    struct policy p = {0};
    size_t at = HEAD;
    if (block->len < HEAD || ((const uint8_t *)block->data)[0] != VERSION) {
        return;
    }
    memcpy(&p.set, (const uint8_t *)block->data + 4, 4);
    for (uint32_t f = 0; f < 32; f++) {
        if (policy_has(&p, f) && (f >= POLICY_FIELDS || !read_field(block, &at, &p, f))) {
            return;
        }
    }
    if (at == block->len) {
        *ret = p;
    }
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
