/* SPDX-License-Identifier: MIT */
/* What the files of queues and pipes share. Not for anybody else. */
#pragma once

#include "lib/shm/internal.h"
#include "lib/shm/layout.h"
#include "lib/shm/lock.h"
#include "lib/shm/queue.h"
#include "lib/shm/sync_private.h"

/* ---- rights and content (queue_right.c) ---- */
/* The actor's own party. 0: it stands nowhere here; 1: it has a right (*ret); -EINPROGRESS: it waits for one; -EALREADY: for
 * something else; or the answer that sync_poll() is to bring. */
int right_of(struct shm *s, const struct shm_sync *o, unsigned mode, struct shm_party **ret);
/* The actor stands in line; `waiting` counts those who do so in that mode. As sync_park(). */
int right_await(struct shm *s, struct shm_sync *o, unsigned mode, uint64_t count, unsigned flags,
                _Atomic uint64_t *waiting);
/* For the kinds: `collect` of struct sync_kind: the right stays its owner's, who makes his call again. */
int right_collect(struct shm *s, struct shm_sync *o, struct shm_party *p, int *answer);
/* The block that words[0] of an object names. NULL: it has none, or none that makes sense. Reads. */
void *content_at(const struct shm *s, const struct shm_sync *o, size_t size);
/* Makes it, all zero, at the expense of the object's account. */
int content_make(struct shm *s, unsigned shard, struct shm_sync *o, size_t size, void **ret);
int content_free(struct shm *s, unsigned shard, struct shm_sync *o);
static inline void word_add(struct shm *s, _Atomic uint64_t *word, uint64_t by) {
    tx_set(s, word, get(word) + by);
}
/* Never below 0: somebody may have written anything. */
static inline void word_take(struct shm *s, _Atomic uint64_t *word, uint64_t by) {
    uint64_t v = get(word);
    tx_set(s, word, v > by ? v - by : 0);
}

/* ---- leases (queue_lease.c) ---- */
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
const char *queue_check(struct shm *s, const struct shm_sync *o);
const char *pipe_check(struct shm *s, const struct shm_sync *o);
