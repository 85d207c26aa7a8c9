/* SPDX-License-Identifier: MIT */
/* Rings of hints. Each entry holds the cycle (how often the ring has gone round) in which it was
 * written and a value; a put writes the entry with one compare-and-swap and then advances the tail,
 * a take advances the head. Whoever finds an entry written and the tail behind advances it for the
 * writer, so a process killed between the two blocks nobody.
 *
 * Hints may be lost (killed after taking) or doubled (made again by the reaper): the record's state
 * word decides what a hint is worth. Positions are compared signed: the head may already be past a
 * tail that was read earlier, and unsigned such a ring looks full. Cycles begin at 1, so zeroed
 * entries are empty.
 *
 * Fails: -ENOBUFS (full), -EAGAIN (empty), -EBADMSG (a ring that another process has damaged: the
 * loops are bounded). */
#include "lib/shm/ring.h"

#include <errno.h>

#include "lib/shm/internal.h"

enum { TRIES = 1 << 16 }; /* each failure means that somebody else got on in that instant */

void ring_init(struct shm_ring *ring, uint64_t entries_off, uint64_t capacity) {
    put(&ring->entries_off, entries_off);
    put(&ring->head, capacity);
    put(&ring->tail, capacity);
    put(&ring->capacity, capacity);
}

struct view {
    _Atomic uint64_t *entries;
    uint64_t mask;
    unsigned shift;
};

/* Checked at each use: three loads and compares, all in one line that everybody only reads. */
static int ring_view(struct shm *s, const struct shm_ring *ring, struct view *v) {
    uint64_t off = get(&ring->entries_off), capacity = get(&ring->capacity);
    if (capacity == 0 || (capacity & (capacity - 1)) || off % 8 || off > s->size ||
        capacity > (s->size - off) / 8) {
        return -EBADMSG;
    }
    *v = (struct view){(void *)(s->base + off), capacity - 1, (unsigned)__builtin_ctzll(capacity)};
    return 0;
}

int ring_put(struct shm *s, struct shm_ring *ring, uint32_t value) {
    struct view v;
    int r = ring_view(s, ring, &v);
    for (int i = 0; r == 0 && i < TRIES; i++) {
        uint64_t t = atomic_load(&ring->tail);
        uint64_t e = atomic_load(&v.entries[t & v.mask]);
        uint32_t cycle = (uint32_t)(t >> v.shift), written = (uint32_t)(e >> 32);
        if (written == cycle) {
            atomic_compare_exchange_strong(&ring->tail, &t, t + 1);
            continue;
        }
        if ((uint32_t)(written + 1) != cycle) {
            continue;
        }
        if ((int64_t)(t - atomic_load(&ring->head)) > (int64_t)v.mask) {
            return -ENOBUFS;
        }
        if (atomic_compare_exchange_strong(&v.entries[t & v.mask], &e,
                                           (uint64_t)cycle << 32 | value)) {
            atomic_compare_exchange_strong(&ring->tail, &t, t + 1);
            return 0;
        }
    }
    return -EBADMSG;
}

int ring_take(struct shm *s, struct shm_ring *ring, _Atomic uint64_t *hand, uint32_t *ret) {
    struct view v;
    int r = ring_view(s, ring, &v);
    for (int i = 0; r == 0 && i < TRIES; i++) {
        uint64_t h = atomic_load(&ring->head);
        uint64_t e = atomic_load(&v.entries[h & v.mask]);
        uint32_t cycle = (uint32_t)(h >> v.shift), written = (uint32_t)(e >> 32);
        if (written != cycle) {
            if ((uint32_t)(written + 1) == cycle) {
                return -EAGAIN;
            }
            continue;
        }
        put(hand, (e & 0xffffffff) + 1);
        keep_order();
        if (atomic_compare_exchange_strong(&ring->head, &h, h + 1)) {
            *ret = (uint32_t)e;
            return 0;
        }
    }
    return -EBADMSG;
}

int ring_peek(struct shm *s, struct shm_ring *ring, uint32_t *ret) {
    struct view v;
    if (ring_view(s, ring, &v)) {
        return -EBADMSG;
    }
    uint64_t h = atomic_load(&ring->head);
    uint64_t e = atomic_load(&v.entries[h & v.mask]);
    if ((uint32_t)(e >> 32) != (uint32_t)(h >> v.shift)) {
        return -EAGAIN;
    }
    *ret = (uint32_t)e;
    return 0;
}

bool ring_is_empty(struct shm *s, struct shm_ring *ring) {
    struct view v;
    if (ring_view(s, ring, &v)) {
        return true;
    }
    uint64_t h = atomic_load(&ring->head);
    return (uint32_t)(atomic_load(&v.entries[h & v.mask]) >> 32) != (uint32_t)(h >> v.shift);
}

uint64_t ring_length(struct shm_ring *ring) {
    int64_t n = (int64_t)(atomic_load(&ring->tail) - atomic_load(&ring->head));
    return n > 0 ? (uint64_t)n : 0;
}
