/* SPDX-License-Identifier: MIT */
/* Tasks that the daemon holds: released to a ring, recalled from it, tried again; and what else the
 * daemon does to the pool's rings to keep tasks in an order of its own. All by the daemon alone,
 * each transition one compare-and-swap, with `hand` naming the record meanwhile: whoever buries a
 * dead daemon's slot makes the hint of a queued task again, and its successor finds the waiting ones
 * by a sweep.
 *
 * A hint in a ring is never taken out by name. Recalling leaves it there, and it counts for nothing
 * until the task is queued again; so whoever recalls in order to change the order prunes the front
 * ring in between, or the old hint would lead a worker to the task in its old place.
 *
 * Fails: -ESTALE, -ENOBUFS, -EAGAIN, -ENOENT as task.h says. */
#include <errno.h>

#include "lib/shm/alloc.h"
#include "lib/shm/task_private.h"

/* ---- the rings ---- */

static bool is_queued(struct shm *s, uint32_t idx, uint32_t pool) {
    uint64_t v = idx < s->n_tasks ? state_load(&s->tasks[idx]) : 0;
    return word_state(v) == TASK_QUEUED && word_owner(v) == pool;
}

/* Claims by nobody: each hint is taken, and put back if it still is one. `hand` names it meanwhile,
 * so that the reaper makes it again. The place it came from cannot be lost to others, since nobody
 * else puts. */
static void prune_ring(struct shm *s, uint32_t pool, struct shm_ring *ring) {
    uint32_t idx;
    for (uint64_t n = ring_length(ring); n && ring_take(s, ring, &s->mine->hand, &idx) == 0; n--) {
        if (is_queued(s, idx, pool)) {
            ring_put(s, ring, idx);
        }
    }
    hand_clear(s);
}

void task_prune_front(struct shm *s, uint32_t pool) {
    prune_ring(s, pool, &s->pools[pool].front);
}

void task_prune(struct shm *s, uint32_t pool) {
    prune_ring(s, pool, &s->pools[pool].ready);
    prune_ring(s, pool, &s->pools[pool].front);
}

uint64_t task_front_length(struct shm *s, uint32_t pool) {
    return ring_length(&s->pools[pool].front);
}

/* ---- holding and releasing ---- */

int task_release(struct shm *s, uint32_t idx, uint64_t id, bool front) {
    uint64_t v;
    struct shm_task *t = task_record(s, idx, id, &v);
    uint32_t pool = t ? word_owner(v) : SHM_POOLS;
    if (!t || word_state(v) != TASK_WAITING || pool >= SHM_POOLS) {
        return -ESTALE;
    }
    struct shm_pool *p = &s->pools[pool];
    uint64_t queued = word_to(v, TASK_QUEUED, pool);
    hand_set(s, idx);
    int r = state_move(t, v, queued) ? ring_put(s, front ? &p->front : &p->ready, idx) : -ESTALE;
    if (r < 0 && r != -ESTALE && !state_move(t, queued, v)) {
        r = 0; /* an old hint has led a worker to it meanwhile */
    }
    hand_clear(s);
    return r;
}

int task_order(struct shm *s, uint32_t idx, uint64_t id, uint32_t slot) {
    uint64_t v, none = 0;
    const struct shm_task *t = task_record(s, idx, id, &v);
    struct shm_slot *d = &s->slots[slot];
    if (!t || word_state(v) != TASK_WAITING) {
        return -ESTALE;
    }
    if (!atomic_compare_exchange_strong(&d->order, &none, order_make(idx, v))) {
        return -EBUSY;
    }
    atomic_fetch_add(&d->bell, 1);
    futex_wake(&d->bell, 1);
    return 0;
}

int task_order_of(struct shm *s, uint64_t order, uint32_t *ret_idx, uint64_t *ret_id) {
    uint32_t idx = (uint32_t)order - 1;
    if (!order || idx >= s->n_tasks) {
        return -ENOENT;
    }
    uint64_t v = state_load(&s->tasks[idx]), id = peek(s->tasks[idx].id);
    if (order_make(idx, v) != order || word_state(v) != TASK_WAITING) {
        return -ENOENT;
    }
    *ret_idx = idx;
    *ret_id = id;
    return 0;
}

int task_recall(struct shm *s, uint32_t idx, uint64_t id) {
    uint64_t v;
    struct shm_task *t = task_record(s, idx, id, &v);
    if (!t || word_state(v) != TASK_QUEUED) {
        return -ESTALE;
    }
    hand_set(s, idx);
    bool moved = state_move(t, v, word_to(v, TASK_WAITING, word_owner(v)));
    hand_clear(s);
    return moved ? 0 : -ESTALE;
}

int task_retry(struct shm *s, uint32_t idx, uint64_t id, bool killed) {
    uint64_t v = 0;
    struct shm_task *t = task_record(s, idx, id, &v);
    uint32_t state = word_state(v), pool = t ? peek(t->pool) : SHM_POOLS;
    if (!t || (state != TASK_FAILED && state != TASK_LOST && state != TASK_TIMEOUT) ||
        pool >= SHM_POOLS) {
        return -ESTALE;
    }
    hand_set(s, idx);
    poke(t->output_len, 0); /* before its block goes */
    poke(t->log_len, 0);
    int r = alloc_take_back(s, &t->output_off);
    r = r ? r : alloc_take_back(s, &t->log_off);
    r = r ? r : alloc_take_back(s, &t->spare_off);
    r = r ? r : alloc_take_back(s, &t->stream_off);
    if (r == 0) {
        poke(t->started_ns, 0);
        poke(t->worker_pid, 0);
        put32(&t->cancel, 0);
        r = state_move(t, v, word_to(v, TASK_WAITING, pool)) ? 0 : -ESTALE;
    }
    if (r == 0) { /* not before: who is killed leaves an end with its cause, or a task that waits */
        poke(t->cause, CAUSE_NONE);
        poke(t->kills, (uint8_t)(peek(t->kills) + killed));
    }
    hand_clear(s);
    return r;
}

int task_ready_head(struct shm *s, uint32_t pool, uint64_t *ret_submitted_ns) {
    struct shm_pool *p = &s->pools[pool];
    uint32_t idx;
    while (ring_peek(s, &p->ready, &idx) == 0) {
        if (is_queued(s, idx, pool)) {
            *ret_submitted_ns = peek(s->tasks[idx].submitted_ns);
            return 0;
        }
        /* a worker may have taken that one meanwhile, and we the next: it stays the first */
        if (ring_take(s, &p->ready, &s->mine->hand, &idx) == 0 && is_queued(s, idx, pool)) {
            hint_queued(s, p, idx);
        }
        hand_clear(s);
    }
    return -EAGAIN;
}

bool task_is_queued(struct shm *s, uint32_t idx, uint64_t id) {
    uint64_t v;
    return task_record(s, idx, id, &v) && word_state(v) == TASK_QUEUED;
}

uint64_t task_taken(struct shm *s, uint32_t pool) {
    const struct shm_pool *p = &s->pools[pool];
    return atomic_load(&p->front.head) + atomic_load(&p->ready.head);
}

void task_refill(struct shm *s, uint32_t pool, bool on, int64_t until_ns) {
    atomic_store(&s->pools[pool].until, (uint64_t)until_ns);
    if (get32(&s->pools[pool].refill) != on) {
        atomic_store(&s->pools[pool].refill, on);
    }
}

bool task_refill_is_on(const struct shm *s, uint32_t pool) {
    return get32(&s->pools[pool].refill);
}

void task_pause(struct shm *s, uint32_t pool, bool on) {
    atomic_store(&s->pools[pool].paused, on);
}

bool task_is_paused(const struct shm *s, uint32_t pool) {
    return get32(&s->pools[pool].paused);
}

void task_set_cause(struct shm *s, uint32_t idx, uint64_t id, enum task_cause cause) {
    uint64_t v;
    struct shm_task *t = task_record(s, idx, id, &v);
    if (t && task_state_is_terminal(word_state(v))) {
        poke(t->code, 0);
        poke(t->cause, (uint8_t)cause);
    }
}

void task_look_after(struct shm *s, uint32_t pool, uint32_t ms) {
    atomic_store(&s->pools[pool].look_ms, ms);
}

void task_set_priority(struct shm *s, uint32_t idx, uint64_t id, uint32_t priority) {
    uint64_t v;
    struct shm_task *t = task_record(s, idx, id, &v);
    if (t) {
        poke(t->priority, (uint8_t)priority);
    }
}

int task_sweep_waiting(struct shm *s, uint32_t from, uint32_t end, uint32_t *ret_idx) {
    uint64_t used = get(&s->head->tasks_used);
    for (uint32_t i = from; i < end && i < used && i < s->n_tasks; i++) {
        if (word_state(state_load(&s->tasks[i])) == TASK_WAITING) {
            *ret_idx = i;
            return 0;
        }
    }
    return -ENOENT;
}
