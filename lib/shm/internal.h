/* SPDX-License-Identifier: MIT */
/* Small things the files of lib/shm share. Not for anybody else. */
#pragma once

#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/shm/layout.h"
#include "lib/shm/segment.h"

#define SHM_SPIN_MAX 50000u /* ns a sleeper polls before it sleeps, when that has paid off */

static inline uint64_t get(const _Atomic uint64_t *w) {
    return atomic_load_explicit((_Atomic uint64_t *)w, memory_order_relaxed);
}
static inline void put(_Atomic uint64_t *w, uint64_t v) {
    atomic_store_explicit(w, v, memory_order_relaxed);
}
static inline uint32_t get32(const _Atomic uint32_t *w) {
    return atomic_load_explicit((_Atomic uint32_t *)w, memory_order_relaxed);
}
static inline void put32(_Atomic uint32_t *w, uint32_t v) {
    atomic_store_explicit(w, v, memory_order_relaxed);
}
/* Plain fields of a record belong to one process at a time, but one that follows a stale hint may
 * read them when they are not its own; it then finds that by the state word. So they are loaded and
 * stored whole, and read only once. */
#define peek(field)        __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define poke(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)

/* A killed process keeps program order, so against death the compiler is the only one to hold back.
 */
static inline void keep_order(void) {
    atomic_signal_fence(memory_order_seq_cst);
}

/* True: a signal handler has run. */
static inline bool futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t ns) {
    struct timespec t = {(time_t)(ns / NS_PER_SEC), (long)(ns % NS_PER_SEC)};
    return syscall(SYS_futex, word, FUTEX_WAIT, value, &t, NULL, 0) < 0 && errno == EINTR;
}
static inline void futex_wake(_Atomic uint32_t *word, int n) {
    syscall(SYS_futex, word, FUTEX_WAKE, n, NULL, NULL, 0);
}

static inline uint32_t owner_word(uint32_t slot, uint32_t gen) {
    return (slot + 1) | (gen & 0x7fff) << 16;
}
static inline uint32_t owner_slot(uint32_t owner) {
    return (owner & 0xffff) - 1;
}
static inline uint32_t owner_gen(uint32_t owner) {
    return owner >> 16 & 0x7fff;
}

/* Kind of an object among the doomed: a whole table of keys (keys_flush()). */
enum { DOOMED_KEYS = 255 };

/* What a chunk is used for, for check.c. False: its head makes no sense. All zero: free, or inside
 * of a run. */
struct alloc_chunk {
    bool small;
    uint32_t run; /* chunks of the run that begins here */
    unsigned cls, arena, size, total, first, fresh, used;
};
bool alloc_describe(const struct shm *s, uint32_t chunk, struct alloc_chunk *ret);
