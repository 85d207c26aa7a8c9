/* SPDX-License-Identifier: MIT */
/* Locks whose owners may die, and the undo log.
 *
 * A lock word names its owner (slot and generation). Taking it uncontended is one compare-and-swap.
 * A waiter that finds the owner dead rolls back that owner's undo log and only then takes the word
 * over: nobody ever holds a lock over a half-made change.
 *
 * The log lives in the owner's slot, not in the lock: one store of undo_count commits whatever the
 * process changed under however many locks. Two finders of two locks of one dead owner are kept
 * apart by the slot's rescue lock; its own holder may die too, and is then simply replaced, since
 * rolling back twice is the same as once. Nobody can have changed the words meanwhile: all the dead
 * owner's locks still bear its name until its log is empty.
 *
 * A killed process has executed a prefix of its program order, so between the log's two stores, the
 * count and the change a compiler barrier is all that is needed. Other CPUs see the words in order
 * by the acquire and release on lock words.
 *
 * Fails: -EAGAIN (no lock within the patience). Asserts that the log has room and that a lock is
 * dropped only with the transaction ended, by a count of the handle's own. Damaged logs (another
 * process may write anything) are skipped word by word. */
#include "lib/shm/lock.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/cpu.h"
#include "lib/shm/alloc.h"
#include "lib/shm/internal.h"
#include "lib/shm/slot.h"

#define WAITERS 0x80000000u

enum { SPINS = 100, WAIT_STEP_NS = 2000000, TX_FIRST_MORE = 4096 };

/* ---- the undo log ---- */

/* Entry n of a log: the first ones lie in the slot, more of them in the block that the slot owns. */
static struct shm_undo *undo_entry(const struct shm *s, struct shm_slot *d, uint64_t n) {
    if (n < SHM_UNDO) {
        return &d->undo[n];
    }
    uint64_t more = n - SHM_UNDO;
    struct shm_undo *block = alloc_ptr(s, get(&d->undo_more), (more + 1) * sizeof(struct shm_undo));
    return block ? &block[more] : NULL;
}

int tx_need(struct shm *s, uint32_t n) {
    if (s->tx_entries + n <= s->tx_room) {
        return 0;
    }
    s->op_short = true;
    return -ENOBUFS;
}

int tx_shrink(struct shm *s) {
    assert(s->tx_entries == 0);
    if (s->tx_room == SHM_UNDO || alloc_take_back(s, &s->mine->undo_more)) {
        return 0;
    }
    s->tx_room = SHM_UNDO;
    return 1;
}

int tx_grow(struct shm *s) {
    assert(s->tx_entries == 0);
    uint64_t want = s->tx_room == SHM_UNDO ? TX_FIRST_MORE : (s->tx_room - SHM_UNDO) * 2;
    int r = alloc_take_back(s, &s->mine->undo_more);
    if (r == -EAGAIN) {
        return r;
    }
    s->tx_room = SHM_UNDO;
    s->op_removing = true; /* deleting needs a log, too */
    r = alloc_give(s, &s->mine->undo_more, want * sizeof(struct shm_undo));
    s->op_removing = false;
    if (r == 0) {
        s->tx_room = SHM_UNDO + (uint32_t)want;
    }
    return r == -EMSGSIZE ? -ENOMEM : r;
}

void tx_set(struct shm *s, _Atomic uint64_t *word, uint64_t value) {
    struct shm_slot *d = s->mine;
    uint32_t n = s->tx_entries++;
    assert(n < s->tx_room);
    struct shm_undo *u = n < SHM_UNDO ? &d->undo[n] : undo_entry(s, d, n);
    if (!u) {
        /* the block was taken from under us by another process's damage: nothing may be changed now */
        s->tx_entries--;
        return;
    }
    put(&u->off, (uint64_t)((uint8_t *)word - s->base));
    put(&u->old, get(word));
    keep_order();
    put(&d->undo_count, n + 1);
    keep_order();
    put(word, value);
}

/* Eight bytes of `from`, or fewer (1 ..) in front of what is in the word. */
static inline uint64_t merged(const _Atomic uint64_t *w, const uint8_t *from, size_t n) {
    uint64_t v;
    if (n >= 8) {
        memcpy(&v, from, 8);
        return v;
    }
    v = get(w);
    memcpy(&v, from, n);
    return v;
}

void tx_set_bytes(struct shm *s, void *to, const void *from, size_t n) {
    _Atomic uint64_t *w = to;
    const uint8_t *p = from;
    uint32_t words = (uint32_t)((n + 7) / 8), first = s->tx_entries;
    if (words > SHM_UNDO || first > SHM_UNDO - words) {
        for (size_t left = n; left; left -= left < 8 ? left : 8, w++, p += 8) {
            tx_set(s, w, merged(w, p, left));
        }
        return;
    }
    /* all are logged, then one store makes all the entries count, then all are changed */
    struct shm_undo *u = &s->mine->undo[first];
    uint64_t off = (uint64_t)((uint8_t *)to - s->base);
    for (uint32_t i = 0; i < words; i++) {
        put(&u[i].off, off + i * 8);
        put(&u[i].old, get(&w[i]));
    }
    s->tx_entries = first + words;
    keep_order();
    put(&s->mine->undo_count, first + words);
    keep_order();
    for (; n >= 8; n -= 8, w++, p += 8) {
        put(w, merged(w, p, 8));
    }
    if (n) {
        put(w, merged(w, p, n));
    }
}

void tx_set32(struct shm *s, _Atomic uint32_t *word, uint32_t value) {
    uint64_t off = (uint64_t)((uint8_t *)word - s->base);
    _Atomic uint64_t *pair = (void *)(s->base + (off & ~UINT64_C(7)));
    unsigned shift = off & 4 ? 32 : 0; /* little-endian halves */
    uint64_t old = get(pair);
    tx_set(s, pair, (old & ~(UINT64_C(0xffffffff) << shift)) | (uint64_t)value << shift);
}

uint64_t tx_before(const struct shm *s, const _Atomic uint64_t *word, uint32_t from) {
    uint64_t off = (uint64_t)((const uint8_t *)word - s->base);
    for (uint32_t n = from; n < s->tx_entries; n++) {
        const struct shm_undo *u = undo_entry(s, s->mine, n);
        if (!u || get(&u->off) == off) {
            return u ? get(&u->old) : get(word);
        }
    }
    return get(word);
}

void tx_commit(struct shm *s) {
    s->tx_entries = 0;
    keep_order();
    put(&s->mine->undo_count, 0);
    keep_order();
}

/* Puts back the old words of entries n-1 down to `to`. */
static void put_back(struct shm *s, struct shm_slot *d, uint64_t n, uint64_t to) {
    while (n > to) {
        const struct shm_undo *u = undo_entry(s, d, --n);
        if (!u) {
            n = SHM_UNDO; /* damaged: what lies in the slot is all there is */
            continue;
        }
        uint64_t off = get(&u->off);
        if (off % 8 == 0 && off <= s->size - 8) {
            put((void *)(s->base + off), get(&u->old));
        }
    }
}

static void roll_back(struct shm *s, struct shm_slot *d, uint64_t n) {
    put_back(s, d, n, 0);
    /* whoever finds the log empty may rely on the old words being back */
    atomic_store_explicit(&d->undo_count, 0, memory_order_release);
    keep_order();
}

void tx_abort(struct shm *s) {
    roll_back(s, s->mine, s->tx_entries);
    s->tx_entries = 0;
}

void tx_abort_to(struct shm *s, uint32_t entries) {
    put_back(s, s->mine, s->tx_entries, entries);
    s->tx_entries = entries;
    /* killed before this store, all is rolled back, these entries twice, in the same order */
    keep_order();
    put(&s->mine->undo_count, entries);
    keep_order();
}

bool tx_rescue_enter(struct shm *s, uint32_t slot) {
    struct shm_lock *l = &s->slots[slot].rescue;
    uint32_t v = 0;
    return atomic_compare_exchange_strong(&l->word, &v, s->me) || v == s->me ||
           (slot_is_dead(s, v) && atomic_compare_exchange_strong(&l->word, &v, s->me));
}

void tx_rescue_leave(struct shm *s, uint32_t slot) {
    atomic_store_explicit(&s->slots[slot].rescue.word, 0, memory_order_release);
}

int tx_rescue(struct shm *s, uint32_t slot, uint32_t gen) {
    assert(slot < s->n_slots);
    struct shm_slot *d = &s->slots[slot];
    if (atomic_load(&d->undo_count) == 0 || (get32(&d->gen) & 0x7fff) != (gen & 0x7fff)) {
        return 0;
    }
    if (!tx_rescue_enter(s, slot)) {
        return -EAGAIN;
    }
    if ((get32(&d->gen) & 0x7fff) == (gen & 0x7fff)) {
        roll_back(s, d, get(&d->undo_count));
    }
    tx_rescue_leave(s, slot);
    return 0;
}

/* ---- locks ---- */

/* Takes over from v, whose owner is dead. True when the lock is ours now. */
static bool take_over(struct shm *s, struct shm_lock *lock, uint32_t v, uint32_t mine) {
    uint32_t slot = owner_slot(v & ~WAITERS);
    if (slot < s->n_slots && tx_rescue(s, slot, owner_gen(v & ~WAITERS))) {
        return false;
    }
    return atomic_compare_exchange_strong_explicit(&lock->word, &v, mine, memory_order_acquire,
                                                   memory_order_relaxed);
}

static void note_busy(struct shm *s, const struct shm_lock *lock, uint32_t v) {
    s->busy_lock = (uint64_t)((const uint8_t *)lock - s->base);
    s->busy_owner = v & ~WAITERS;
}

static void name_lock(struct shm *s, struct lock_holder *h) {
    uint64_t shards = (uint64_t)((uint8_t *)s->shards - s->base);
    uint64_t arenas = (uint64_t)((uint8_t *)s->arenas - s->base);
    if (s->busy_lock >= shards && s->busy_lock < shards + SHM_SHARDS * sizeof(*s->shards)) {
        unsigned i = (unsigned)((s->busy_lock - shards) / sizeof(*s->shards));
        snprintf(h->what, sizeof(h->what), "part %u of the keyspace", i);
        h->progress = get(&s->shards[i].seq);
    } else if (s->busy_lock >= arenas && s->busy_lock < arenas + SHM_ARENAS * sizeof(*s->arenas)) {
        snprintf(h->what, sizeof(h->what), "arena %u of the memory",
                 (unsigned)((s->busy_lock - arenas) / sizeof(*s->arenas)));
    } else {
        snprintf(h->what, sizeof(h->what), "the map of the memory");
    }
}

bool lock_holder(struct shm *s, struct lock_holder *ret) {
    const struct shm_lock *lock = (void *)(s->base + s->busy_lock);
    struct lock_holder h = {.slot = owner_slot(s->busy_owner), .gen = owner_gen(s->busy_owner)};
    if (!s->busy_lock || (get32(&lock->word) & ~WAITERS) != s->busy_owner || h.slot >= s->n_slots) {
        return false;
    }
    h.pid = get32(&s->slots[h.slot].pid);
    name_lock(s, &h);
    *ret = h;
    return true;
}

int lock_try(struct shm *s, struct shm_lock *lock) {
    uint32_t v = 0;
    if (atomic_compare_exchange_strong_explicit(&lock->word, &v, s->me, memory_order_acquire,
                                                memory_order_relaxed)) {
        return 0;
    }
    /* keep the waiters' bit, so that the drop wakes whoever waited for the dead */
    if (v && slot_is_dead(s, v & ~WAITERS) && take_over(s, lock, v, s->me | (v & WAITERS))) {
        return 0;
    }
    note_busy(s, lock, v);
    return -EAGAIN;
}

static int lock_wait(struct shm *s, struct shm_lock *lock) {
    for (int i = 0; i < SPINS; i++) {
        if (!get32(&lock->word) && lock_try(s, lock) == 0) {
            return 0;
        }
        cpu_pause();
    }
    uint64_t give_up = clock_now() + s->patience_ns;
    for (;;) {
        uint32_t v = get32(&lock->word);
        if (!v) {
            /* there may be other waiters: take it with their bit set */
            if (atomic_compare_exchange_strong_explicit(
                    &lock->word, &v, s->me | WAITERS, memory_order_acquire, memory_order_relaxed)) {
                return 0;
            }
            continue;
        }
        if (slot_is_dead(s, v & ~WAITERS) && take_over(s, lock, v, s->me | WAITERS)) {
            return 0;
        }
        if (clock_now() >= give_up) {
            return -EAGAIN;
        }
        if (!(v & WAITERS) && !atomic_compare_exchange_strong(&lock->word, &v, v | WAITERS)) {
            continue;
        }
        /* a short step, because the owner's death wakes nobody */
        futex_wait(&lock->word, v | WAITERS, WAIT_STEP_NS);
    }
}

int lock_take(struct shm *s, struct shm_lock *lock) {
    int r = lock_try(s, lock);
    if (r == 0 || s->patience_ns == 0) {
        return r;
    }
    return lock_wait(s, lock);
}

void lock_drop(struct shm *s, struct shm_lock *lock) {
    assert(s->tx_entries == 0);
    uint32_t v = atomic_exchange_explicit(&lock->word, 0, memory_order_release);
    if (v & WAITERS) {
        futex_wake(&lock->word, 1);
    }
}
