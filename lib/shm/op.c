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
 * in the same way, so that no operation pauses for what another one deleted. Who finds the segment full does it before he says so,
 * and looks for keys whose time is over.
 *
 * Fails: -EAGAIN, and what the operation itself returns. Asserts that nested operations stay inside of the locks held. */
#include "lib/shm/op.h"

#include <assert.h>
#include <errno.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/cpu.h"
#include "lib/shm/account.h"
#include "lib/shm/alloc.h"
#include "lib/shm/internal.h"
#include "lib/shm/keys.h"
#include "lib/shm/lock.h"
#include "lib/shm/sync_private.h"

enum { READ_TRIES = 32, RETIRE = 8, RECLAIM = 64, SWEEP = 16 };
#define RECLAIM_NS (200 * UINT64_C(1000)) /* beyond the handle's patience */

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

void op_vacate(struct shm *s, const void *at, uint64_t len) {
    struct shm_vacated *v = &s->vacated;
    uint64_t from = (uint64_t)((const uint8_t *)at - s->base), to = from + len;
    for (uint32_t i = 0; i < v->n && i < ARRAY_SIZE(v->at); i++) {
        if (from <= v->at[i].to && to >= v->at[i].from) {
            v->at[i].from = from < v->at[i].from ? from : v->at[i].from;
            v->at[i].to = to > v->at[i].to ? to : v->at[i].to;
            return;
        }
    }
    if (v->n < ARRAY_SIZE(v->at)) {
        v->at[v->n].from = from;
        v->at[v->n].to = to;
    }
    if (v->n <= ARRAY_SIZE(v->at)) {
        v->n++;
    }
}

bool op_is_spare(const struct shm *s, const void *at, uint64_t len) {
    const struct shm_vacated *v = &s->vacated;
    uint64_t from = (uint64_t)((const uint8_t *)at - s->base), to = from + len;
    if (v->n > ARRAY_SIZE(v->at)) {
        return false;
    }
    for (uint32_t i = 0; i < v->n; i++) {
        if (from < v->at[i].to && to > v->at[i].from) {
            return false;
        }
    }
    return true;
}

/* Nobody will write to a block that nothing refers to any more. */
static void forget_vacated(struct shm *s, uint64_t off, uint64_t size) {
    struct shm_vacated *v = &s->vacated;
    for (uint32_t i = 0; i < v->n && v->n <= ARRAY_SIZE(v->at);) {
        if (v->at[i].from >= off && v->at[i].to <= off + size) {
            v->at[i] = v->at[--v->n];
        } else {
            i++;
        }
    }
}

void op_mark(const struct shm *s, struct op_mark *ret) {
    ret->entries = s->tx_entries;
    ret->pins = s->after.pins;
    ret->vacated.n = s->vacated.n;
    for (uint32_t i = 0; i < s->vacated.n && i < ARRAY_SIZE(s->vacated.at); i++) {
        ret->vacated.at[i] = s->vacated.at[i];
    }
}

void op_undo(struct shm *s, const struct op_mark *mark) {
    tx_abort_to(s, mark->entries);
    sync_unpin(s, mark->pins);
    s->vacated.n = mark->vacated.n;
    for (uint32_t i = 0; i < s->vacated.n && i < ARRAY_SIZE(s->vacated.at); i++) {
        s->vacated.at[i] = mark->vacated.at[i];
    }
}

void op_free(struct shm *s, unsigned shard, uint64_t off) {
    struct shm_shard *d = &s->shards[shard];
    uint64_t size = alloc_size(s, off);
    if (size) {
        tx_set(s, (_Atomic uint64_t *)(void *)(s->base + off), get(&d->garbage));
        tx_set(s, &d->garbage, off);
        account_took(s, -(int64_t)size);
        forget_vacated(s, off, size);
    }
}

void op_wake(struct shm_shard *d) {
    if (get32(&d->waiters) && atomic_exchange(&d->waiters, 0)) {
        atomic_fetch_add(&d->bell, 1);
        futex_wake(&d->bell, INT32_MAX);
    }
}

void op_wake_for_dead(struct shm_shard *d) {
    atomic_store(&d->waiters, 0);
    atomic_fetch_add(&d->bell, 1);
    futex_wake(&d->bell, INT32_MAX);
}

/* The words are as they shall be (committed or rolled back): readers may look, sleepers are woken. */
static void end_changes(struct shm *s, bool committed) {
    for (uint64_t v = s->op_changed; v; v &= v - 1) {
        struct shm_shard *d = &s->shards[__builtin_ctzll(v)];
        atomic_store_explicit(&d->seq, get(&d->seq) + 1, memory_order_release);
        if (committed) {
            op_wake(d);
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

/* ---- what is left to do ---- */

enum op_upkeep op_upkeep_shard(struct shm *s, unsigned shard) {
    const struct shm_shard *d = &s->shards[shard];
    if (get(&d->doomed) || get(&d->garbage)) {
        return OP_UNTIDY;
    }
    return get(&d->expiring) ? OP_EXPIRY : OP_IDLE;
}

enum op_upkeep op_upkeep(const struct shm *s) {
    uint32_t v = get32(&s->head->upkeep);
    return v > OP_UNTIDY ? OP_UNTIDY : (enum op_upkeep)v;
}

enum op_upkeep op_upkeep_known(struct shm *s, enum op_upkeep known) {
    atomic_store(&s->head->upkeep, known);
    /* what was left behind before the store is seen here, what comes after it finds the new word */
    enum op_upkeep most = known;
    for (unsigned i = 0; i < SHM_SHARDS && most < OP_UNTIDY; i++) {
        enum op_upkeep u = op_upkeep_shard(s, i);
        most = u > most ? u : most;
    }
    if (most > known) {
        atomic_store(&s->head->upkeep, most);
    }
    return most;
}

static void tell_upkeep(struct shm *s, uint64_t shards) {
    enum op_upkeep most = OP_IDLE;
    for (uint64_t v = shards; v; v &= v - 1) {
        enum op_upkeep u = op_upkeep_shard(s, (unsigned)__builtin_ctzll(v));
        most = u > most ? u : most;
    }
    if (most == OP_IDLE) {
        return;
    }
    atomic_thread_fence(memory_order_seq_cst);
    if (get32(&s->head->upkeep) < most) {
        put32(&s->head->upkeep, most);
        shm_ring_daemon(s);
    }
}

/* ---- running ---- */

static bool is_success(int r) {
    return r >= 0 || r == -EINPROGRESS;
}

static int run_outer(struct shm *s, uint64_t shards, int (*fn)(struct shm *s, void *arg),
                     void *arg) {
    int r = take_shards(s, shards);
    if (r) {
        return r;
    }
    s->op_depth = 1;
    s->op_short = false;
    s->vacated.n = 0;
    s->op_grown = 0;
    s->op_dirty = 0;
    s->after.pins = s->after.wakes = 0;
    r = fn(s, arg);
    if (s->op_short) {
        r = -ENOBUFS; /* whatever was made of it inside: some of it was not done */
    } else if (is_success(r) && s->op_grown) {
        int e = account_check(s, 0);
        r = e ? e : r;
    }
    if (is_success(r)) {
        if (s->op_dirty) {
            atomic_fetch_or(&s->head->dirty, s->op_dirty);
        }
        tx_commit(s);
    } else {
        tx_abort(s);
        s->after.wakes = 0;
    }
    sync_unpin(s, 0);
    end_changes(s, is_success(r));
    s->op_depth = 0;
    alloc_unlock(s);
    if (is_success(r)) {
        retire_some(s, shards);
    }
    s->op_shards = 0;
    drop_shards(s, shards);
    if (s->after.wakes) {
        sync_ring(s);
    }
    if (is_success(r)) {
        tell_upkeep(s, shards);
        if (s->op_dirty) {
            s->dirtied = true;
            shm_ring_daemon(s);
        }
    }
    return r;
}

static int run_inner(struct shm *s, uint64_t shards, int (*fn)(struct shm *s, void *arg),
                     void *arg) {
    struct op_mark mark;
    assert((shards & ~s->op_shards) == 0);
    op_mark(s, &mark);
    int r = fn(s, arg);
    if (is_success(r) && s->op_grown) {
        int e = account_check(s, mark.entries);
        r = e ? e : r;
    }
    if (!is_success(r)) {
        op_undo(s, &mark);
    }
    return r;
}

/* ---- when there is no room ---- */

struct sweep {
    unsigned shard;
    int budget;
    uint64_t cursor;
};

static int sweep_keys_over(struct shm *s, void *arg) {
    struct sweep *w = arg;
    w->cursor = s->sweep_cursor;
    return keys_expire_some(s, w->shard, clock_wall_ms(), &w->cursor, w->budget);
}

/* Removes keys whose time, or whose manager, is over, going on where the last call stopped. A bounded number of buckets is looked
 * at: who is refused for want of room all the time is not to hold up the others. */
static bool sweep_some(struct shm *s) {
    bool some = false;
    for (int i = 0; i < RECLAIM && !some; i++) {
        struct sweep w = {.shard = s->sweep_shard % SHM_SHARDS, .budget = SWEEP};
        int r = run_outer(s, UINT64_C(1) << w.shard, sweep_keys_over, &w);
        if (r == -ENOBUFS) {
            w.budget = 1;
            r = run_outer(s, UINT64_C(1) << w.shard, sweep_keys_over, &w);
        }
        s->sweep_cursor = r < 0 ? 0 : w.cursor;
        s->sweep_shard = w.shard + (s->sweep_cursor == 0);
        s->op_swept += r > 0 ? (uint32_t)r : 0;
        some = r > 0;
    }
    return some;
}

/* The segment, or an account, is full: gives back some of what waits to be. 1: there was something; 0: nothing; -EAGAIN: nothing
 * that could be had now. */
static int reclaim(struct shm *s) {
    bool some = false, busy = false;
    int budget = RECLAIM;
    s->op_reclaiming = true;
    for (unsigned i = 0; i < SHM_SHARDS && budget > 0; i++) {
        bool waits = get(&s->shards[i].doomed) || get(&s->shards[i].garbage);
        for (; budget > 0 && waits; budget--) {
            int r = op_tidy(s, i);
            some |= r >= 0;
            busy |= r == -EAGAIN;
            waits = r == 1;
        }
    }
    some = some || sweep_some(s);
    if (!some) {
        int r = alloc_trim(s);
        some = r > 0;
        busy |= r == -EAGAIN;
    }
    s->op_reclaiming = false;
    return some ? 1 : busy ? -EAGAIN : 0;
}

/* There was no room, with the error r. 0: there may be now; else what is to be returned: -EAGAIN when there is still something to
 * reclaim, but the time of who may not wait is over. */
static int make_room(struct shm *s, int r, uint64_t *began) {
    if (s->op_reclaiming) {
        return r;
    }
    int found = 0;
    if (*began == 0) {
        *began = clock_now();
        found = tx_shrink(s); /* the larger log may lie in the midst of what is free */
    }
    found = found ? found : reclaim(s);
    if (found <= 0) {
        return found ? found : r;
    }
    return clock_now() - *began < s->patience_ns + RECLAIM_NS ? 0 : -EAGAIN;
}

int op_run(struct shm *s, uint64_t shards, int (*fn)(struct shm *s, void *arg), void *arg) {
    if (s->op_depth) {
        return run_inner(s, shards, fn, arg);
    }
    for (uint64_t began = 0;;) {
        int r = run_outer(s, shards, fn, arg);
        if (r == -ENOBUFS) {
            r = tx_grow(s);
            if (r == 0) {
                continue;
            }
        }
        if (r == -ENOMEM || r == -EDQUOT) {
            r = make_room(s, r, &began);
            if (r == 0) {
                continue;
            }
        }
        return r;
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

/* ---- watching ---- */

void op_watch(struct shm *s, uint64_t shards) {
    atomic_store(&s->head->watched, shards);
}

uint64_t op_touched(struct shm *s) {
    return atomic_exchange(&s->head->touched, 0);
}

bool op_any_touched(const struct shm *s) {
    return atomic_load_explicit(&s->head->touched, memory_order_acquire) != 0;
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
