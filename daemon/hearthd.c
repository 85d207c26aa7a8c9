/* SPDX-License-Identifier: MIT */
/* The few questions about pools that every room of the daemon asks.
 *
 * How many tasks wait in a pool is never counted by walking tasks, nor kept in one shared counter
 * that every worker would have to write: the daemon counts what it queued, each worker counts what
 * it claimed in its own slot, and the difference is what waits. The sum over the workers is made
 * only when the bound without it is not good enough, so that a submit costs no look at the slots
 * while the queue is far from full.
 *
 * Invariant: claims of a worker are in claims_seen (live) or in buried_claims (dead), never in
 * both: reap.c makes a new sum when it buries one.
 *
 * Fails: nothing here fails. Counters that do not fit together (a task cancelled at the moment it
 * was claimed) give 0, not an absurdly large number. */
#include "daemon/hearthd.h"

#include <string.h>

#include "daemon/lease.h"
#include "daemon/schedule.h"
#include "lib/shm/slot.h"
#include "lib/shm/task.h"

const char *const pool_state_names[] = {
    [POOL_STARTING] = "starting",
    [POOL_READY] = "ready",
    [POOL_FAILING] = "failing",
    [POOL_STOPPING] = "stopping",
};

struct pool *hearthd_pool(struct hearthd *d, const char *name, size_t len) {
    for (uint32_t i = 0; i < d->n_pools; i++) {
        const char *have = d->pools[i].config->name;
        if (!d->pools[i].removed && strlen(have) == len && memcmp(have, name, len) == 0) {
            return &d->pools[i];
        }
    }
    return NULL;
}

int pool_handler(const struct pool *p, const char *name, size_t len) {
    for (uint32_t i = 0; len > 0 && i < p->n_handlers; i++) {
        if (strlen(p->handlers[i]) == len && memcmp(p->handlers[i], name, len) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static void sum_claims(struct hearthd *d, struct pool *p) {
    uint64_t claims = 0, bytes = 0;

    list_for_each (it, &p->workers) {
        struct slot_view v;
        slot_view(&d->shm, list_entry(it, struct worker, in_pool)->slot, &v);
        claims += v.claims;
        bytes += v.bytes;
    }
    p->claims_seen = claims;
    p->bytes_seen = bytes;
}

static uint64_t difference(uint64_t in, uint64_t out) {
    return in > out ? in - out : 0;
}

uint64_t pool_queued(struct hearthd *d, struct pool *p, uint64_t enough) {
    uint64_t in = difference(p->count.submitted + p->count.retried, p->count.cancelled_queued);
    uint64_t bound = difference(in, p->count.buried_claims + p->claims_seen);

    if (bound < enough || bound == 0) {
        return bound;
    }
    sum_claims(d, p);
    return difference(in, p->count.buried_claims + p->claims_seen);
}

uint64_t pool_due(struct hearthd *d, struct pool *p) {
    return difference(pool_queued(d, p, 0), schedule_delayed(d, p));
}

uint64_t pool_queued_bytes(struct hearthd *d, struct pool *p, uint64_t enough) {
    uint64_t in = difference(p->count.submitted_bytes + p->count.retried_bytes,
                             p->count.cancelled_queued_bytes);
    uint64_t bound = difference(in, p->count.buried_bytes + p->bytes_seen);

    if (bound < enough || bound == 0) {
        return bound;
    }
    sum_claims(d, p);
    return difference(in, p->count.buried_bytes + p->bytes_seen);
}

uint32_t pool_busy(struct hearthd *d, const struct pool *p) {
    uint32_t n = 0;

    list_for_each (it, &p->workers) {
        struct slot_view v;
        slot_view(&d->shm, list_entry(it, struct worker, in_pool)->slot, &v);
        n += v.hand != 0 && v.started_ns != 0;
    }
    return n;
}

void hearthd_flush_wakes(struct hearthd *d) {
    schedule_feed(d);
    for (uint32_t i = 0; i < d->n_pools; i++) {
        struct pool *p = &d->pools[i];
        if (p->wake > 0) {
            d->check_sizes |= p->size_bell;
            p->size_bell = false;
        }
        if (p->wake > 0 && p->config->kind == POOL_PROGRAM) {
            p->wake = 0;
            lease_feed(d, p);
        } else if (p->wake > 0) {
            task_wake(&d->shm, p->index, p->wake);
            p->wake = 0;
        }
    }
}

static uint32_t sooner(uint32_t a, uint32_t b) {
    return a == 0 || (b != 0 && b < a) ? b : a;
}

uint32_t pool_look_ms(const struct pool *p) {
    const struct pool_config *c = p->config;
    uint32_t ms = sooner(sooner(c->soft_timeout_ms, c->slow_after_ms), p->look_ms);
    return c->memory_max ? sooner(ms, LOOK_MEMORY_MS) : ms;
}
