/* SPDX-License-Identifier: MIT */
/* What task.c and task_hold.c share: the state word and the ways to a record. Not for anybody
 * else. */
#pragma once

#include "lib/shm/internal.h"
#include "lib/shm/ring.h"
#include "lib/shm/task.h"

enum {
    STOP_CANCEL = 1,
    STOP_LATE,
    STOP_MASK,
    STOP_SOFT = 4,
    STOP_TOLD = 8,         /* its end is being told, or has been */
    STOP_SIGNAL = 8,       /* a shift */
    STOP_CLOSED = 1 << 16  /* its group is closed */
};                         /* shm_task.cancel */
enum { CPU_UNIT_US = 10 }; /* shm_task.cpu_user, cpu_system */

static inline uint64_t word_make(uint32_t state, uint32_t attempt, uint32_t owner, uint32_t gen) {
    return state | (uint64_t)(attempt & 0xff) << 4 | (uint64_t)owner << 12 | (uint64_t)gen << 44;
}
static inline uint32_t word_state(uint64_t w) {
    return w & 15;
}
static inline uint32_t word_attempt(uint64_t w) {
    return w >> 4 & 0xff;
}
static inline uint32_t word_owner(uint64_t w) {
    return (uint32_t)(w >> 12);
}
static inline uint32_t word_gen(uint64_t w) {
    return (uint32_t)(w >> 44);
}
/* The same task in another state. */
static inline uint64_t word_to(uint64_t w, uint32_t state, uint32_t owner) {
    return word_make(state, word_attempt(w), owner, word_gen(w));
}

static inline uint64_t state_load(const struct shm_task *t) {
    return atomic_load_explicit((_Atomic uint64_t *)&t->state, memory_order_acquire);
}
static inline bool state_move(struct shm_task *t, uint64_t from, uint64_t to) {
    return atomic_compare_exchange_strong(&t->state, &from, to);
}

/* shm_slot.order for the task whose state word this is. */
static inline uint64_t order_make(uint32_t idx, uint64_t word) {
    return (uint64_t)word_gen(word) << 32 | ((uint64_t)idx + 1);
}

static inline void hand_set(struct shm *s, uint32_t idx) {
    put(&s->mine->hand, (uint64_t)idx + 1);
    keep_order();
}
static inline void hand_clear(struct shm *s) {
    keep_order();
    put(&s->mine->hand, 0);
}

/* The record of a task, when idx still is that task; NULL otherwise. */
static inline struct shm_task *task_record(struct shm *s, uint32_t idx, uint64_t id,
                                           uint64_t *ret_word) {
    if (idx >= s->n_tasks) {
        return NULL;
    }
    struct shm_task *t = &s->tasks[idx];
    *ret_word = state_load(t);
    return peek(t->id) == id && word_state(*ret_word) != TASK_FREE ? t : NULL;
}

/* The hint of a queued task that somebody had taken: back to the head, as far as that can be. */
static inline int hint_queued(struct shm *s, struct shm_pool *p, uint32_t idx) {
    return ring_put(s, &p->front, idx) == 0 ? 0 : ring_put(s, &p->ready, idx);
}
