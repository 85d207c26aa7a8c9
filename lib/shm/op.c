/* SPDX-License-Identifier: MIT */
/* Locking, committing and tidying around operations on objects.
 *
 * A shard's seq is odd while an operation changes its words, and readers without a lock look again. Whoever takes the
 * lock and finds it odd follows an owner that died: the lock's takeover has rolled its changes back, and seq is made
 * even, never back to a value a reader may have seen.
 *
 * What an operation frees is only linked to its shard's garbage (one logged word each), because giving a block back needs
 * the lock of the arena it came from, and two arenas' locks in one operation would have to be ordered. The garbage is given
 * back after the commit, a few blocks by each operation, each in a transaction of its own. Large objects are taken apart
 * in the same way, so that no operation pauses for what another one deleted.
 *
 * Fails: -EAGAIN, and what the operation itself returns. Asserts that nested operations stay inside of the locks held. */
#include "lib/shm/op.h"

#include <assert.h>
#include <errno.h>

#include "lib/base/cpu.h"
#include "lib/shm/alloc.h"
#include "lib/shm/internal.h"
#include "lib/shm/keys.h"
#include "lib/shm/lock.h"

enum { READ_TRIES = 32, RETIRE = 8 };

static void drop_shards(struct shm *s, uint64_t shards) {
    for (uint64_t v = shards; v; v &= v - 1) {
        lock_drop(s, &s->shards[__builtin_ctzll(v)].lock);
    }
}

static int take_shards(struct shm *s, uint64_t shards) {
    uint64_t held = 0;
    for (uint64_t v = shards; v; v &= v - 1) {
        struct shm_shard *d = &s->shards[__builtin_ctzll(v)];
        int r = lock_take(s, &d->lock);
        if (r) {
            drop_shards(s, held);
            return r;
        }
        held |= v & -v;
        uint64_t seq = get(&d->seq);
        if (seq & 1) {
            atomic_store_explicit(&d->seq, seq + 1, memory_order_release);
        }
    }
    s->op_shards = shards;
    return 0;
}

void op_changes(struct shm *s, unsigned shard) {
    uint64_t bit = UINT64_C(1) << shard;
    assert(s->op_shards & bit);
    if (!(s->op_changed & bit)) {
        s->op_changed |= bit;
        put(&s->shards[shard].seq, get(&s->shards[shard].seq) + 1);
        atomic_thread_fence(memory_order_release);
    }
}

void op_free(struct shm *s, unsigned shard, uint64_t off) {
    struct shm_shard *d = &s->shards[shard];
    if (alloc_size(s, off)) {
        tx_set(s, (_Atomic uint64_t *)(void *)(s->base + off), get(&d->garbage));
        tx_set(s, &d->garbage, off);
    }
}

/* The words are as they shall be (committed or rolled back): readers may look, sleepers are woken. */
static void end_changes(struct shm *s, bool committed) {
    for (uint64_t v = s->op_changed; v; v &= v - 1) {
        struct shm_shard *d = &s->shards[__builtin_ctzll(v)];
        atomic_store_explicit(&d->seq, get(&d->seq) + 1, memory_order_release);
        if (committed && get32(&d->waiters)) {
            atomic_fetch_add(&d->bell, 1);
            futex_wake(&d->bell, INT32_MAX);
        }
    }
    if (committed && s->op_changed && (get(&s->head->watched) & s->op_changed)) {
        atomic_fetch_or(&s->head->touched, s->op_changed);
        shm_ring_daemon(s);
    }
    s->op_changed = 0;
}

static void retire_some(struct shm *s, uint64_t shards) {
    for (uint64_t v = shards; v; v &= v - 1) {
        struct shm_shard *d = &s->shards[__builtin_ctzll(v)];
        for (int i = 0; i < RETIRE && get(&d->garbage); i++) {
            if (alloc_retire(s, &d->garbage) == -EAGAIN) {
                break;
            }
        }
    }
}

static int run_outer(struct shm *s, uint64_t shards, int (*fn)(struct shm *s, void *arg),
                     void *arg) {
    int r = take_shards(s, shards);
    if (r) {
        return r;
    }
    s->op_depth = 1;
    r = fn(s, arg);
    if (r >= 0) {
        tx_commit(s);
    } else {
        tx_abort(s);
    }
    end_changes(s, r >= 0);
    s->op_depth = 0;
    alloc_unlock(s);
    if (r >= 0) {
        retire_some(s, shards);
    }
    s->op_shards = 0;
    drop_shards(s, shards);
    return r;
}

int op_run(struct shm *s, uint64_t shards, int (*fn)(struct shm *s, void *arg), void *arg) {
    if (s->op_depth) {
        assert((shards & ~s->op_shards) == 0);
        return fn(s, arg);
    }
    for (;;) {
        int r = run_outer(s, shards, fn, arg);
        if (r != -ENOBUFS) {
            return r;
        }
        r = tx_grow(s);
        if (r) {
            return r;
        }
    }
}

/* ---- tidying ---- */

static int take_apart(struct shm *s, void *arg) {
    return keys_take_apart(s, *(unsigned *)arg);
}

int op_tidy(struct shm *s, unsigned shard) {
    struct shm_shard *d = &s->shards[shard];
    if (!get(&d->doomed) && !get(&d->garbage)) {
        return 0;
    }
    int r = op_run(s, UINT64_C(1) << shard, take_apart, &shard);
    return r < 0 ? r : get(&d->doomed) || get(&d->garbage);
}

/* ---- reading ---- */

static int read_once(struct shm *s, const struct shm_shard *d, int (*fn)(struct shm *s, void *arg),
                     void *arg, int *ret) {
    uint64_t seq = atomic_load_explicit((_Atomic uint64_t *)&d->seq, memory_order_acquire);
    if (seq & 1) {
        return -EAGAIN;
    }
    int r = fn(s, arg);
    atomic_thread_fence(memory_order_acquire);
    if (get(&d->seq) != seq || r == -ESTALE) {
        return -EAGAIN;
    }
    *ret = r;
    return 0;
}

int op_read(struct shm *s, unsigned shard, int (*fn)(struct shm *s, void *arg), void *arg) {
    int r;
    if (s->op_shards >> shard & 1) {
        r = fn(s, arg); /* inside of an operation that holds the lock */
        return r == -ESTALE ? -EBADMSG : r;
    }
    for (int i = 0; i < READ_TRIES; i++) {
        if (read_once(s, &s->shards[shard], fn, arg, &r) == 0) {
            return r;
        }
        cpu_pause();
    }
    if (!s->mine) {
        return -EAGAIN; /* a mapping without a slot cannot take locks */
    }
    r = op_run(s, UINT64_C(1) << shard, fn, arg);
    return r == -ESTALE ? -EBADMSG : r;
}
