/* SPDX-License-Identifier: MIT */
/* Accounts. Each shard has a row of counters, two for each account: bytes (of blocks, as the allocator gives them out) and
 * objects. They change under the shard's lock and by tx_set() with the words that took or gave back the block, so they are
 * right after a death at any instruction; nothing is shared between shards, so nobody waits for anybody. What an account
 * has is the sum of its column. A key renamed into another shard may take its blocks' counts along or not: only the sum means
 * anything, and one shard's part of it may be below zero.
 *
 * An operation is held against the limits at its end, once, and only if it took something and there is a limit: then the
 * column is added up, and how much of it is this operation's own is read from the undo log. So an operation that gives
 * back more than it takes always passes, and an account can be over a limit that was lowered.
 *
 * Entry 0 is the daemon's own user. Entries are never given up: they live as long as the segment.
 *
 * Fails: -EDQUOT; -ENOSPC (account_open()). Numbers in the segment are taken modulo the table's size. */
#include "lib/shm/account.h"

#include <errno.h>

#include "lib/shm/internal.h"
#include "lib/shm/lock.h"

enum { LAST = SHM_ACCOUNTS - 1 };

static struct shm_use *use_at(const struct shm *s, unsigned shard, unsigned account) {
    return &s->uses[shard * SHM_ACCOUNTS + account % SHM_ACCOUNTS];
}

/* ---- users ---- */

static bool is_of(const struct shm_account *a, uint32_t uid) {
    return atomic_load_explicit(&((struct shm_account *)(uintptr_t)a)->user,
                                memory_order_acquire) == (uint64_t)uid + 1;
}

unsigned account_find(const struct shm *s, uint32_t uid) {
    unsigned i = 0;
    while (i < LAST && get(&s->accounts[i].user) && !is_of(&s->accounts[i], uid)) {
        i++;
    }
    return is_of(&s->accounts[i], uid) ? i : LAST;
}

void account_act_as(struct shm *s, uint32_t uid) {
    if (!is_of(&s->accounts[s->account], uid)) {
        s->account = account_find(s, uid);
    }
}

int account_open(struct shm *s, uint32_t uid, uint64_t max_bytes, uint64_t max_objects,
                 unsigned *ret) {
    unsigned i = 0;
    while (i < LAST && get(&s->accounts[i].user) && !is_of(&s->accounts[i], uid)) {
        i++;
    }
    struct shm_account *a = &s->accounts[i];
    bool other = get(&a->user) && !is_of(a, uid);
    *ret = i;
    put(&a->max_bytes, max_bytes);
    put(&a->max_objects, max_objects);
    if (!other) {
        atomic_store_explicit(&a->user, (uint64_t)uid + 1, memory_order_release);
    }
    return other ? -ENOSPC : 0;
}

static void sum_up(const struct shm *s, unsigned account, uint64_t *ret_bytes,
                   uint64_t *ret_objects) {
    uint64_t bytes = 0, objects = 0;
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        const struct shm_use *u = use_at(s, i, account);
        bytes += get(&u->bytes);
        objects += get(&u->objects);
    }
    /* the parts are not read at one moment */
    *ret_bytes = (int64_t)bytes < 0 ? 0 : bytes;
    *ret_objects = (int64_t)objects < 0 ? 0 : objects;
}

bool account_view(const struct shm *s, unsigned account, struct account_view *ret) {
    if (account >= SHM_ACCOUNTS || !get(&s->accounts[account].user)) {
        return false;
    }
    const struct shm_account *a = &s->accounts[account];
    *ret = (struct account_view){.uid = (uint32_t)(get(&a->user) - 1),
                                 .shared = account == LAST,
                                 .max_bytes = get(&a->max_bytes),
                                 .max_objects = get(&a->max_objects)};
    sum_up(s, account, &ret->bytes, &ret->objects);
    return true;
}

/* ---- counting ---- */

void account_pays(struct shm *s, unsigned shard, unsigned account) {
    s->payer = use_at(s, shard, account);
}

void account_nobody_pays(struct shm *s) {
    s->payer = NULL;
}

static void grew(struct shm *s, const struct shm_use *u) {
    s->op_grown |= UINT64_C(1) << (u - s->uses) % SHM_ACCOUNTS;
}

void account_took(struct shm *s, int64_t bytes) {
    struct shm_use *u = s->payer;
    if (u) {
        tx_set(s, &u->bytes, get(&u->bytes) + (uint64_t)bytes);
        if (bytes > 0) {
            grew(s, u);
        }
    }
}

void account_add(struct shm *s, unsigned shard, unsigned account, int64_t bytes, int64_t objects) {
    struct shm_use *u = use_at(s, shard, account);
    if (bytes) {
        tx_set(s, &u->bytes, get(&u->bytes) + (uint64_t)bytes);
    }
    if (objects) {
        tx_set(s, &u->objects, get(&u->objects) + (uint64_t)objects);
    }
    if (bytes > 0 || objects > 0) {
        grew(s, u);
    }
}

void account_flushed(struct shm *s, unsigned shard) {
    for (unsigned i = 0; i < SHM_ACCOUNTS; i++) {
        struct shm_use *u = use_at(s, shard, i);
        if (get(&u->objects)) {
            tx_set(s, &u->objects, 0);
        }
    }
}

/* ---- limits ---- */

/* What the words of a column have become more since the log had `from` entries. */
static int64_t added(const struct shm *s, unsigned account, bool objects, uint32_t from) {
    uint64_t more = 0;
    for (uint64_t v = s->op_changed; v; v &= v - 1) {
        const struct shm_use *u = use_at(s, (unsigned)__builtin_ctzll(v), account);
        const _Atomic uint64_t *w = objects ? &u->objects : &u->bytes;
        more += get(w) - tx_before(s, w, from);
    }
    return (int64_t)more;
}

static bool is_over(struct shm *s, unsigned account, uint32_t from) {
    const struct shm_account *a = &s->accounts[account];
    uint64_t max_bytes = get(&a->max_bytes), max_objects = get(&a->max_objects), bytes, objects;
    if (!max_bytes && !max_objects) {
        return false;
    }
    sum_up(s, account, &bytes, &objects);
    return (max_bytes && bytes > max_bytes && added(s, account, false, from) > 0) ||
           (max_objects && objects > max_objects && added(s, account, true, from) > 0);
}

int account_check(struct shm *s, uint32_t from) {
    uint64_t grown = s->op_grown;
    s->op_grown = 0;
    for (; grown; grown &= grown - 1) {
        unsigned account = (unsigned)__builtin_ctzll(grown);
        if (is_over(s, account, from)) {
            s->over = account;
            return -EDQUOT;
        }
    }
    return 0;
}
