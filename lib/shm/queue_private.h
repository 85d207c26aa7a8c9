/* SPDX-License-Identifier: MIT */
/* What queue.c and queue_lease.c share. Not for anybody else. */
#pragma once

#include "lib/shm/internal.h"
#include "lib/shm/queue.h"

enum queue_wait { WAIT_GET, WAIT_PUT, WAIT_JOIN, WAITS }; /* modes of parties */

/* Puts an item on lease to the acting owner. item: one that had come back, or NULL: these bytes get a block. */
int lease_grant(struct shm *s, unsigned shard, struct shm_queue *c, struct shm_item *item,
                const struct task_bytes *bytes, uint64_t *ret_lease);
/* The item of a lease. -ENOENT; -EPERM: another's, and not `force`. */
int lease_find(struct shm *s, const struct shm_queue *c, uint64_t lease, bool force,
               struct shm_item **ret);
/* Its lease is over: it is in no chain and has no number; the block is the caller's. */
int lease_end(struct shm *s, struct shm_queue *c, struct shm_item *item);
/* The same, and it comes back to the front. */
int lease_return(struct shm *s, struct shm_queue *c, struct shm_item *item);
/* It ends ms from now, or (< 0) with its taker. */
int lease_set(struct shm *s, unsigned shard, struct shm_queue *c, struct shm_item *item,
              int64_t ms);
/* Items of this owner come back, the oldest to the very front; at most `budget`: how many. */
int lease_bury(struct shm *s, struct shm_queue *c, uint32_t owner, int budget);
/* Items whose time is over at now_ms come back. 1: there are more. *next_ms: lowered to when the next one's is. */
int lease_expire(struct shm *s, struct shm_queue *c, uint64_t now_ms, int budget,
                 uint64_t *next_ms);
/* Items of dead takers come back, of the first `budget`: how many. */
int lease_look(struct shm *s, struct shm_queue *c, int budget);
/* The daemon is to look at leases then, and hears of it if that is sooner than it knew. */
void lease_tell(struct shm *s, uint64_t until_ms);
/* Whether somebody else than this owner has something on lease. */
bool lease_others(struct shm *s, const struct shm_queue *c, uint32_t owner);
/* Frees some of what leases own, for a queue that is gone. 1: there is more. */
int lease_take_apart(struct shm *s, unsigned shard, struct shm_queue *c, int budget);
/* Every block that leases own, and those that came back. Bounded. */
int lease_blocks(const struct shm *s, const struct shm_queue *c,
                 int (*fn)(void *arg, uint64_t off, uint64_t bytes), void *arg);
/* Takes the first of those that came back off the front. -ENOENT: there is none. */
int lease_pop_front(struct shm *s, struct shm_queue *c, struct shm_item **ret);
static inline uint64_t item_off(const struct shm *s, const struct shm_item *item) {
    return (uint64_t)((const uint8_t *)item - s->base);
}
/* For the kinds: `check` of struct sync_kind. */
struct shm_sync;
const char *queue_check(struct shm *s, const struct shm_sync *o);
const char *pipe_check(struct shm *s, const struct shm_sync *o);
