/* SPDX-License-Identifier: MIT */
/* Taking over a segment. Nearly all that a successor must know lies in the segment anyway: whose slots the dead hold, which
 * tasks wait, what their submitters asked for. Here is the little that only a daemon writes for another daemon.
 *
 * The handlers' names of a pool are one block, its length in front. A new block is filled before it takes the place of the
 * old one, in one transaction, so a daemon that dies in between leaves one or the other; the spare one is found by the next.
 *
 * `told` is set before an end is told. Killed in between, the daemon has told nobody; but all who could have heard of it
 * without asking were connected to that daemon, and are not any more.
 *
 * Fails: as adopt.h says. What makes no sense, because another process has written there, reads as if it were not there. */
#include "lib/shm/adopt.h"

#include <errno.h>
#include <string.h>

#include "lib/shm/alloc.h"
#include "lib/shm/sync.h"
#include "lib/shm/task_private.h"

enum slot_life slot_life(const struct shm *s, uint32_t slot) {
    if (slot >= s->n_slots) {
        return SLOT_NOBODY;
    }
    /* the futex word comes first in every pthread_mutex_t of Linux: the owner's thread, and the kernel's bits */
    uint32_t life = atomic_load_explicit((_Atomic uint32_t *)(void *)&s->slots[slot].life,
                                         memory_order_acquire);
    if (life & FUTEX_OWNER_DIED) {
        return SLOT_DEAD;
    }
    return life & FUTEX_TID_MASK ? SLOT_ALIVE : SLOT_NOBODY;
}

int sync_seats_end(struct shm *s) {
    uint32_t used = get32(&s->head->seats_used);
    int r = 0;
    for (uint32_t i = s->n_slots; r == 0 && i < s->n_seats && i < used; i++) {
        if (get(&s->seats[i].conn)) {
            r = sync_seat_end(s, owner_word(i, get32(&s->seats[i].gen)));
        }
    }
    return r;
}

/* ---- pools ---- */

const char *shm_pool_name(const struct shm *s, uint32_t index) {
    const struct shm_pool *p = &s->pools[index];
    return p->name[0] && memchr(p->name, '\0', sizeof(p->name)) ? p->name : NULL;
}

uint32_t shm_pool_room_at(const struct shm *s, uint32_t index) {
    uint64_t capacity = get(&s->pools[index].ready.capacity);
    return capacity > 64 && capacity <= UINT32_MAX ? (uint32_t)((capacity - 64) / 3 * 2) : 1;
}

void shm_pool_reset(struct shm *s, uint32_t index) {
    struct shm_pool *p = &s->pools[index];
    atomic_store(&p->paused, 0);
    atomic_store(&p->refill, 0);
    atomic_store(&p->look_ms, 0);
    for (unsigned i = 0; i < sizeof(p->napping) / sizeof(p->napping[0]); i++) {
        atomic_store(&p->napping[i], 0);
    }
}

/* ---- bytes for a successor: a block, its length first ---- */

static int keep(struct shm *s, _Atomic uint64_t *owner, _Atomic uint64_t *spare, const void *data,
                size_t len) {
    uint64_t n = len;
    int r = alloc_take_back(s, spare);
    r = r == -EBADMSG ? 0 : r;
    r = r ? r : alloc_give(s, spare, sizeof(n) + len);
    if (r) {
        return r;
    }
    uint8_t *block = alloc_ptr(s, get(spare), sizeof(n) + len);
    if (!block) {
        return -EBADMSG;
    }
    memcpy(block, &n, sizeof(n));
    if (len) {
        memcpy(block + sizeof(n), data, len);
    }
    r = alloc_swap(s, owner, spare);
    if (r == 0) {
        alloc_take_back(s, spare); /* busy: the next call does it */
    }
    return r;
}

static struct task_bytes kept(const struct shm *s, const _Atomic uint64_t *owner) {
    uint64_t off = get(owner), n;
    const uint8_t *block = off ? alloc_ptr(s, off, sizeof(n)) : NULL;
    if (!block) {
        return (struct task_bytes){"", 0};
    }
    memcpy(&n, block, sizeof(n));
    if (n > ALLOC_MAX || !alloc_ptr(s, off, sizeof(n) + n)) {
        return (struct task_bytes){"", 0};
    }
    return (struct task_bytes){block + sizeof(n), n};
}

int shm_pool_keep_handlers(struct shm *s, uint32_t index, const void *names, size_t len) {
    struct shm_pool *p = &s->pools[index];
    struct task_bytes now = shm_pool_handlers(s, index);
    if (len && now.len == len && memcmp(now.data, names, len) == 0) {
        return 0;
    }
    return keep(s, &p->handlers_off, &p->handlers_spare, names, len);
}

struct task_bytes shm_pool_handlers(const struct shm *s, uint32_t index) {
    struct task_bytes b = kept(s, &s->pools[index].handlers_off);
    bool whole = b.len == 0 || ((const uint8_t *)b.data)[b.len - 1] == 0;
    return whole ? b : (struct task_bytes){"", 0};
}

int shm_keep(struct shm *s, const void *data, size_t len) {
    return keep(s, &s->head->kept_off, &s->head->kept_spare, data, len);
}

struct task_bytes shm_kept(const struct shm *s) {
    return kept(s, &s->head->kept_off);
}

void shm_kept_set(struct shm *s, size_t at, uint64_t v) {
    struct task_bytes b = shm_kept(s);
    if (at % 8 == 0 && b.len >= 8 && at <= b.len - 8) {
        atomic_store((_Atomic uint64_t *)((uintptr_t)b.data + at), v);
    }
}

/* ---- tasks ---- */

void task_set_told(struct shm *s, uint32_t idx, uint64_t id) {
    uint64_t v;
    struct shm_task *t = task_record(s, idx, id, &v);
    if (t) {
        atomic_fetch_or(&t->cancel, (uint32_t)STOP_TOLD);
    }
}

bool task_is_told(struct shm *s, uint32_t idx, uint64_t id) {
    uint64_t v;
    const struct shm_task *t = task_record(s, idx, id, &v);
    return t && (get32(&t->cancel) & STOP_TOLD);
}

void task_set_closed(struct shm *s, uint32_t idx, uint64_t id) {
    uint64_t v;
    struct shm_task *t = task_record(s, idx, id, &v);
    if (t) {
        atomic_fetch_or(&t->cancel, (uint32_t)STOP_CLOSED);
    }
}

bool task_is_closed(struct shm *s, uint32_t idx, uint64_t id) {
    uint64_t v;
    const struct shm_task *t = task_record(s, idx, id, &v);
    return t && (get32(&t->cancel) & STOP_CLOSED);
}

void task_set_past(struct shm *s, uint32_t idx, uint64_t id, uint64_t submitted_ns,
                   uint32_t attempts, uint32_t kills) {
    uint64_t v;
    struct shm_task *t = task_record(s, idx, id, &v);
    if (t && word_state(v) == TASK_WAITING) {
        poke(t->submitted_ns, submitted_ns);
        poke(t->kills, (uint8_t)kills);
        state_move(t, v, word_make(TASK_WAITING, attempts, word_owner(v), word_gen(v)));
    }
}

static int restore_block(struct shm *s, _Atomic uint64_t *owner, const struct task_bytes *b) {
    int r = alloc_give(s, owner, b->len);
    void *at = r == 0 ? alloc_ptr(s, get(owner), b->len) : NULL;
    if (at) {
        memcpy(at, b->data, b->len);
    }
    return r == 0 && !at ? -EBADMSG : r;
}

int task_restore_end(struct shm *s, uint32_t idx, uint64_t id, const struct task_outcome *o,
                     const struct task_bytes *output, const struct task_bytes *log,
                     uint64_t run_ns) {
    uint64_t v;
    struct shm_task *t = task_record(s, idx, id, &v);
    if (!t || word_state(v) != TASK_WAITING) {
        return -ESTALE;
    }
    int r = output->len ? restore_block(s, &t->output_off, output) : 0;
    r = r == 0 && log->len ? restore_block(s, &t->log_off, log) : r;
    if (r < 0) {
        return r;
    }
    poke(t->output_len, output->len);
    poke(t->log_len, (uint32_t)log->len);
    poke(t->cause, (uint8_t)o->cause);
    poke(t->code, o->code);
    poke(t->signal, o->signal);
    poke(t->core, o->core);
    uint64_t now = clock_now();
    poke(t->ended_ns, now);
    poke(t->started_ns, run_ns && run_ns < now ? now - run_ns : 0);
    atomic_fetch_or(&t->cancel, (uint32_t)STOP_TOLD);
    return state_move(t, v, word_to(v, o->state, s->me)) ? 0 : -ESTALE;
}

void task_unwatch(struct shm *s, uint32_t idx, uint64_t id) {
    uint64_t v;
    struct shm_task *t = task_record(s, idx, id, &v);
    if (t) {
        atomic_store(&t->watched, 0);
    }
}

int task_hint(struct shm *s, uint32_t idx) {
    uint64_t v = state_load(&s->tasks[idx]);
    uint32_t pool = word_owner(v);
    if (word_state(v) != TASK_QUEUED || pool >= SHM_POOLS) {
        return 0;
    }
    return ring_put(s, &s->pools[pool].ready, idx);
}

int task_next_used(struct shm *s, uint32_t from, uint32_t *ret_idx) {
    uint64_t used = get(&s->head->tasks_used);
    for (uint32_t i = from; i < used && i < s->n_tasks; i++) {
        if (word_state(state_load(&s->tasks[i])) != TASK_FREE) {
            *ret_idx = i;
            return 0;
        }
    }
    return -ENOENT;
}
