/* SPDX-License-Identifier: MIT */
/* Items of queues on lease. Such an item has a block of its own from the moment somebody got it: bytes, whose it is, until when.
 * So giving it back to the front is a matter of links and needs no memory, which the burial of a dead taker could not do without.
 *
 *     chains[0]: until their takers die     chains[1]: by the time they end     front: came back, to be got first
 *                                                                               (singly linked by next, prev is 0)
 *
 * A lease's number is an index into a table of the queue that names the block, under a serial number: what a client says
 * leads nowhere but into that table. Free places of the table are linked: odd words, index of the next + 1 above the lowest bit.
 *
 * Invariants: an item is in one chain and one place of the table, or in the front and in none; `leased` and `returned` count
 * them. The header's lease_next is never later than the earliest end of a committed lease, unless the daemon is looking.
 *
 * Fails: as queue.h says; -EBADMSG where a link leads nowhere. */
#include <errno.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/shm/account.h"
#include "lib/shm/alloc.h"
#include "lib/shm/lock.h"
#include "lib/shm/op.h"
#include "lib/shm/queue_private.h"
#include "lib/shm/sync_private.h"

enum { TABLE_FIRST = 16, INDEX_BITS = 24, WORDS = 24 };
#define INDEX_MASK ((UINT64_C(1) << INDEX_BITS) - 1)

static struct shm_item *item_at(const struct shm *s, uint64_t off) {
    return alloc_ptr(s, off, sizeof(struct shm_item));
}

/* Links that a walk follows at most: what somebody has bent into a circle ends. */
static uint64_t bound(const struct shm *s, const struct shm_queue *c) {
    uint64_t most = s->size / sizeof(struct shm_item), n = get(&c->leased);
    return n < most ? n : most;
}

static _Atomic uint64_t *table_of(const struct shm *s, const struct shm_queue *c) {
    uint64_t cap = get(&c->lease_cap);
    return cap && cap <= INDEX_MASK ? alloc_ptr(s, get(&c->lease_table), cap * 8) : NULL;
}

/* ---- the table ---- */

static int grow_table(struct shm *s, unsigned shard, struct shm_queue *c) {
    uint64_t cap = get(&c->lease_cap), more = cap ? cap * 2 : TABLE_FIRST, off;
    const _Atomic uint64_t *old = table_of(s, c);
    if (cap && !old) {
        return -EBADMSG;
    }
    if (more > INDEX_MASK) {
        return -ENOMEM;
    }
    int r = alloc_tx(s, more * 8, &off);
    r = r ? r : tx_need(s, WORDS);
    if (r) {
        return r;
    }
    _Atomic uint64_t *t = (void *)(s->base + off);
    for (uint64_t i = 0; i < cap; i++) {
        put(&t[i], get(&old[i]));
    }
    for (uint64_t i = cap; i < more; i++) {
        put(&t[i], (i + 1 < more ? i + 2 : 0) << 1 | 1);
    }
    if (cap) {
        op_free(s, shard, get(&c->lease_table));
    }
    tx_set(s, &c->lease_table, off);
    tx_set(s, &c->lease_cap, more);
    tx_set(s, &c->lease_free, cap + 1);
    return 0;
}

static int number_take(struct shm *s, unsigned shard, struct shm_queue *c, uint64_t item,
                       uint64_t *ret) {
    int r = get(&c->lease_free) ? 0 : grow_table(s, shard, c);
    if (r) {
        return r;
    }
    _Atomic uint64_t *t = table_of(s, c);
    uint64_t i = get(&c->lease_free) - 1, serial = get(&c->lease_serial) + 1;
    if (!t || i >= get(&c->lease_cap) || get(&t[i]) % 2 == 0) {
        return -EBADMSG;
    }
    r = tx_need(s, WORDS);
    if (r == 0) {
        tx_set(s, &c->lease_free, get(&t[i]) >> 1);
        tx_set(s, &t[i], item);
        tx_set(s, &c->lease_serial, serial);
        *ret = (serial << INDEX_BITS | i) & INT64_MAX;
    }
    return r;
}

static void number_drop(struct shm *s, struct shm_queue *c, uint64_t lease) {
    _Atomic uint64_t *t = table_of(s, c);
    uint64_t i = lease & INDEX_MASK;
    if (t && i < get(&c->lease_cap)) {
        tx_set(s, &t[i], get(&c->lease_free) << 1 | 1);
        tx_set(s, &c->lease_free, i + 1);
    }
}

int lease_find(struct shm *s, const struct shm_queue *c, uint64_t lease, bool force,
               struct shm_item **ret) {
    const _Atomic uint64_t *t = table_of(s, c);
    uint64_t i = lease & INDEX_MASK;
    if (!t || !lease || i >= get(&c->lease_cap) || get(&t[i]) % 2) {
        return -ENOENT;
    }
    struct shm_item *item = item_at(s, get(&t[i]));
    if (!item) {
        return -EBADMSG;
    }
    if (get(&item->lease) != lease) {
        return -ENOENT;
    }
    if (!force && get(&item->owner) != sync_actor(s)) {
        return -EPERM;
    }
    *ret = item;
    return 0;
}

/* ---- the chains ---- */

static struct shm_chain *chain_of(struct shm_queue *c, const struct shm_item *item) {
    return &c->chains[get(&item->until_ms) != 0];
}

/* Behind those that end sooner. */
static int chain_add(struct shm *s, struct shm_queue *c, struct shm_item *item) {
    struct shm_chain *chain = chain_of(c, item);
    uint64_t prev = get(&chain->last), next = 0, off = item_off(s, item);
    struct shm_item *before = prev ? item_at(s, prev) : NULL, *after = NULL;
    for (uint64_t left = bound(s, c); before && left; left--) {
        if (get(&before->until_ms) <= get(&item->until_ms)) {
            break;
        }
        after = before;
        next = prev;
        prev = get(&before->prev);
        before = prev ? item_at(s, prev) : NULL;
    }
    if (prev && !before) {
        return -EBADMSG;
    }
    tx_set(s, &item->prev, prev);
    tx_set(s, &item->next, next);
    tx_set(s, before ? &before->next : &chain->first, off);
    tx_set(s, after ? &after->prev : &chain->last, off);
    return 0;
}

static int chain_remove(struct shm *s, struct shm_queue *c, struct shm_item *item) {
    struct shm_chain *chain = chain_of(c, item);
    uint64_t prev = get(&item->prev), next = get(&item->next);
    struct shm_item *before = prev ? item_at(s, prev) : NULL,
                    *after = next ? item_at(s, next) : NULL;
    if ((prev && !before) || (next && !after)) {
        return -EBADMSG;
    }
    tx_set(s, before ? &before->next : &chain->first, next);
    tx_set(s, after ? &after->prev : &chain->last, prev);
    return 0;
}

void lease_tell(struct shm *s, uint64_t until_ms) {
    _Atomic uint64_t *w = &s->head->lease_next;
    uint64_t next = atomic_load(w);
    while (until_ms && (!next || until_ms < next)) {
        if (atomic_compare_exchange_weak(w, &next, until_ms)) {
            shm_ring_daemon(s);
            return;
        }
    }
}

/* Before the commit: who looks then has to wait for the shard's lock. */
static void note_end(struct shm *s, unsigned shard, uint64_t until_ms) {
    if (until_ms) {
        atomic_fetch_or(&s->head->lease_shards, UINT64_C(1) << shard);
        lease_tell(s, until_ms);
    }
}

static uint64_t end_of(int64_t ms) {
    return ms < 0 ? 0 : clock_now() / NS_PER_MS + (uint64_t)ms + 1;
}

static int make_item(struct shm *s, const struct task_bytes *bytes, struct shm_item **ret) {
    uint64_t off;
    int r = alloc_tx(s, sizeof(struct shm_item) + bytes->len, &off);
    if (r == 0) {
        *ret = (void *)(s->base + off);
        put(&(*ret)->len, bytes->len);
        memcpy((*ret)->bytes, bytes->data, bytes->len);
    }
    return r;
}

int lease_grant(struct shm *s, unsigned shard, struct shm_queue *c, struct shm_item *item,
                const struct task_bytes *bytes, uint64_t *ret_lease) {
    uint64_t lease, until = end_of((int64_t)get(&c->lease_ms));
    int r = item ? 0 : make_item(s, bytes, &item);
    r = r ? r : number_take(s, shard, c, item_off(s, item), &lease);
    r = r ? r : tx_need(s, WORDS);
    if (r) {
        return r;
    }
    tx_set(s, &item->lease, lease);
    tx_set(s, &item->owner, sync_actor(s));
    tx_set(s, &item->until_ms, until);
    tx_set(s, &c->leased, get(&c->leased) + 1);
    r = chain_add(s, c, item);
    if (r == 0) {
        note_end(s, shard, until);
        *ret_lease = lease;
    }
    return r;
}

int lease_end(struct shm *s, struct shm_queue *c, struct shm_item *item) {
    struct shm_item *known;
    int r = tx_need(s, WORDS);
    if (r == 0 && (lease_find(s, c, get(&item->lease), true, &known) || known != item)) {
        r = -EBADMSG; /* so that chains that somebody has bent into circles end */
    }
    r = r ? r : chain_remove(s, c, item);
    if (r == 0) {
        number_drop(s, c, get(&item->lease));
        tx_set(s, &item->lease, 0);
        tx_set(s, &c->leased, get(&c->leased) - 1);
    }
    return r;
}

int lease_return(struct shm *s, struct shm_queue *c, struct shm_item *item) {
    int r = lease_end(s, c, item);
    if (r == 0) {
        tx_set(s, &item->prev, 0);
        tx_set(s, &item->next, get(&c->front));
        tx_set(s, &c->front, item_off(s, item));
        tx_set(s, &c->returned, get(&c->returned) + 1);
    }
    return r;
}

int lease_pop_front(struct shm *s, struct shm_queue *c, struct shm_item **ret) {
    uint64_t off = get(&c->front);
    struct shm_item *item = off ? item_at(s, off) : NULL;
    if (!item || !get(&c->returned)) {
        return off || get(&c->returned) ? -EBADMSG : -ENOENT;
    }
    int r = tx_need(s, WORDS);
    if (r == 0) {
        tx_set(s, &c->front, get(&item->next));
        tx_set(s, &c->returned, get(&c->returned) - 1);
        *ret = item;
    }
    return r;
}

int lease_set(struct shm *s, unsigned shard, struct shm_queue *c, struct shm_item *item,
              int64_t ms) {
    int r = tx_need(s, WORDS);
    r = r ? r : chain_remove(s, c, item);
    if (r == 0) {
        tx_set(s, &item->until_ms, end_of(ms));
        r = chain_add(s, c, item);
        note_end(s, shard, get(&item->until_ms));
    }
    return r;
}

/* ---- those whose taker has died, or whose time is over ---- */

int lease_bury(struct shm *s, struct shm_queue *c, uint32_t owner, int budget) {
    int n = 0;
    for (int i = 1; i >= 0; i--) {
        uint64_t off = get(&c->chains[i].last);
        for (uint64_t left = bound(s, c); n < budget && off && left; left--) {
            struct shm_item *item = item_at(s, off);
            if (!item) {
                return -EBADMSG;
            }
            off = get(&item->prev);
            if (get(&item->owner) == owner) {
                int r = lease_return(s, c, item);
                if (r) {
                    return r;
                }
                n++;
            }
        }
    }
    return n;
}

int lease_expire(struct shm *s, struct shm_queue *c, uint64_t now_ms, int budget,
                 uint64_t *next_ms) {
    const struct shm_chain *timed = &c->chains[1];
    struct shm_item *item = NULL;
    uint64_t off = get(&timed->first);
    int n = 0, r = 0;
    /* how many; then from the last of them on, so that the oldest comes to the very front */
    while (off && n <= budget) {
        struct shm_item *next = item_at(s, off);
        if (!next) {
            return -EBADMSG;
        }
        if (get(&next->until_ms) > now_ms) {
            *next_ms = get(&next->until_ms) < *next_ms ? get(&next->until_ms) : *next_ms;
            break;
        }
        if (n++ == budget) {
            break;
        }
        item = next;
        off = get(&next->next);
    }
    for (int i = n < budget ? n : budget; r == 0 && i && item; i--) {
        uint64_t prev = get(&item->prev);
        r = lease_return(s, c, item);
        item = prev ? item_at(s, prev) : NULL;
    }
    return r ? r : n > budget;
}

int lease_look(struct shm *s, struct shm_queue *c, int budget) {
    int n = 0, r = 0;
    for (int i = 0; i < 2; i++) {
        uint64_t off = get(&c->chains[i].first);
        while (r == 0 && off && budget-- > 0) {
            struct shm_item *item = item_at(s, off);
            if (!item) {
                return -EBADMSG;
            }
            off = get(&item->next);
            if (sync_is_dead(s, (uint32_t)get(&item->owner))) {
                r = lease_return(s, c, item);
                n++;
            }
        }
    }
    return r ? r : n;
}

bool lease_others(struct shm *s, const struct shm_queue *c, uint32_t owner) {
    uint64_t left = bound(s, c);
    for (int i = 0; i < 2; i++) {
        for (uint64_t off = get(&c->chains[i].first); off && left; left--) {
            const struct shm_item *item = item_at(s, off);
            if (!item || get(&item->owner) != owner) {
                return item != NULL;
            }
            off = get(&item->next);
        }
    }
    return false;
}

/* ---- for keys.c and check.c ---- */

int lease_take_apart(struct shm *s, unsigned shard, struct shm_queue *c, int budget) {
    _Atomic uint64_t *heads[] = {&c->front, &c->chains[0].first, &c->chains[1].first};
    for (unsigned i = 0; i < 3; i++) {
        while (get(heads[i])) {
            if (budget-- <= 0) {
                return 1;
            }
            struct shm_item *item = item_at(s, get(heads[i]));
            int r = tx_need(s, WORDS);
            if (r) {
                return r;
            }
            if (item) {
                uint64_t off = get(heads[i]);
                tx_set(s, heads[i], get(&item->next));
                op_free(s, shard, off);
            } else {
                tx_set(s, heads[i], 0); /* damaged: what is behind it cannot be found */
            }
        }
    }
    int r = tx_need(s, WORDS);
    if (r == 0 && get(&c->lease_table)) {
        op_free(s, shard, get(&c->lease_table));
        tx_set(s, &c->lease_table, 0);
        tx_set(s, &c->lease_cap, 0);
    }
    return r;
}

int lease_blocks(const struct shm *s, const struct shm_queue *c,
                 int (*fn)(void *arg, uint64_t off, uint64_t bytes), void *arg) {
    uint64_t heads[] = {get(&c->front), get(&c->chains[0].first), get(&c->chains[1].first)};
    uint64_t left = s->size / sizeof(struct shm_item), table = get(&c->lease_table);
    int r = table ? fn(arg, table, get(&c->lease_cap) * 8) : 0;
    for (unsigned i = 0; i < 3; i++) {
        for (uint64_t off = heads[i]; r == 0 && off; left--) {
            const struct shm_item *item = item_at(s, off);
            if (!item || !left) {
                return -ESTALE;
            }
            r = fn(arg, off, sizeof(*item) + get(&item->len));
            off = get(&item->next);
        }
    }
    return r;
}
