/* SPDX-License-Identifier: MIT */
/* Slots. The owner holds the slot's robust mutex for life: when it dies, however it dies, the
 * kernel marks the mutex, so anybody who meets one of its locks can tell without asking the
 * supervisor. A generation, bumped before the life word is made anew, keeps words of earlier owners
 * from naming the next one.
 *
 * Only the supervisor reserves, buries and releases, and it does so after it has reaped the
 * process: these verbs trust it that the owner is dead. They may be interrupted by the supervisor's
 * own death anywhere and be done again. Fails: -ENOSPC (no slot), -ESTALE (not this slot's
 * generation), -EAGAIN (a rescue under way). */
#include "lib/shm/slot.h"

#include <assert.h>
#include <errno.h>

#include "lib/shm/alloc.h"
#include "lib/shm/internal.h"
#include "lib/shm/lock.h"
#include "lib/shm/op.h"
#include "lib/shm/sync_private.h"

const char *const slot_state_names[] = {"free", "starting", "warm", "serving", "retired"};

static void life_init(struct shm_slot *d) {
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&d->life, &a);
    pthread_mutexattr_destroy(&a);
}

int slot_reserve(struct shm *s, uint32_t pool, uint32_t *ret_slot, uint32_t *ret_gen) {
    for (uint32_t i = 0; i < s->n_slots; i++) {
        struct shm_slot *d = &s->slots[i];
        if (get32(&d->state) != SLOT_FREE || !tx_rescue_enter(s, i)) {
            continue;
        }
        atomic_fetch_add(&d->gen, 1);
        tx_rescue_leave(s,
                        i); /* late rescuers of the former owner see the generation from now on */
        life_init(d);
        put32(&d->pid, 0);
        put32(&d->pool, pool);
        put32(&d->command, SLOT_STAY);
        put32(&d->child, 0);
        put32(&d->ending, 0);
        put32(&d->hold, 0);
        put(&d->order, 0);
        put(&d->hand, 0);
        put(&d->claims, 0);
        put(&d->next_claims, 0);
        put(&d->bytes, 0);
        put(&d->next_bytes, 0);
        put(&d->started_ns, 0);
        put(&d->deadline_ns, 0);
        put(&d->finished, 0);
        put(&d->undo_count, 0);
        sync_seat_reset(s, i);
        atomic_store(&d->state, SLOT_STARTING);
        *ret_slot = i;
        *ret_gen = get32(&d->gen);
        return 0;
    }
    return -ENOSPC;
}

static void wake_slot(struct shm_slot *d) {
    atomic_fetch_add(&d->bell, 1);
    futex_wake(&d->bell, 1);
}

void slot_command(struct shm *s, uint32_t slot, enum slot_command command) {
    assert(slot < s->n_slots);
    struct shm_slot *d = &s->slots[slot];
    atomic_store(&d->command, (uint32_t)command);
    wake_slot(d);
}

void slot_hold(struct shm *s, uint32_t slot, bool on) {
    assert(slot < s->n_slots);
    struct shm_slot *d = &s->slots[slot];
    atomic_store(&d->hold, on);
    atomic_thread_fence(memory_order_seq_cst); /* before the task's state is looked at */
    if (!on) {
        wake_slot(d);
    }
}

int slot_bury(struct shm *s, uint32_t slot, uint32_t gen) {
    assert(slot < s->n_slots);
    struct shm_slot *d = &s->slots[slot];
    if (get32(&d->gen) != gen) {
        return 0;
    }
    int r = tx_rescue(s, slot, gen);
    if (r) {
        return r;
    }
    if (alloc_take_back(s, &d->undo_more) == -EAGAIN) {
        return -EAGAIN;
    }
    /* it may have died between a commit and waking those who wait for it, or in the midst of waking */
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        op_wake_for_dead(&s->shards[i]);
    }
    atomic_fetch_or(&s->head->touched, get(&s->head->watched));
    r = sync_bury_slot(s, owner_word(slot, gen));
    if (r) {
        return r;
    }
    uint32_t pool = get32(&d->pool);
    if (pool < SHM_POOLS) {
        atomic_fetch_and(&s->pools[pool].napping[slot / 64], ~(UINT64_C(1) << (slot % 64)));
    }
    return 0;
}

void slot_release(struct shm *s, uint32_t slot, uint32_t gen) {
    assert(slot < s->n_slots);
    struct shm_slot *d = &s->slots[slot];
    if (get32(&d->gen) == gen) {
        atomic_store(&d->state, SLOT_FREE);
    }
}

void slot_view(struct shm *s, uint32_t slot, struct slot_view *ret) {
    assert(slot < s->n_slots);
    const struct shm_slot *d = &s->slots[slot];
    uint32_t state = atomic_load_explicit((_Atomic uint32_t *)&d->state, memory_order_acquire);
    *ret = (struct slot_view){.state = state <= SLOT_RETIRED ? state : SLOT_FREE,
                              .gen = get32(&d->gen),
                              .pid = get32(&d->pid),
                              .pool = get32(&d->pool),
                              .command = get32(&d->command),
                              .child = get32(&d->child),
                              .ending = get32(&d->ending),
                              .order = get(&d->order),
                              .hand = get(&d->hand),
                              .claims = get(&d->claims),
                              .bytes = get(&d->bytes),
                              .finished = get(&d->finished),
                              .started_ns = get(&d->started_ns),
                              .deadline_ns = get(&d->deadline_ns)};
}

int slot_attach_for(struct shm *s, uint32_t slot, uint32_t gen, uint32_t pid) {
    if (slot >= s->n_slots) {
        return -ESTALE;
    }
    struct shm_slot *d = &s->slots[slot];
    if (get32(&d->gen) != gen || get32(&d->state) != SLOT_STARTING) {
        return -ESTALE;
    }
    int r = pthread_mutex_trylock(&d->life);
    if (r) {
        return -ESTALE;
    }
    put32(&d->pid, pid);
    s->slot = slot;
    s->mine = d;
    s->me = owner_word(slot, gen);
    return 0;
}

int slot_attach(struct shm *s, uint32_t slot, uint32_t gen) {
    return slot_attach_for(s, slot, gen, (uint32_t)getpid());
}

static void tell_supervisor(struct shm *s) {
    atomic_fetch_add(&s->head->news, 1);
    shm_ring_daemon(s);
}

void slot_set_state(struct shm *s, enum slot_state state) {
    atomic_store(&s->mine->state, (uint32_t)state);
    tell_supervisor(s);
}

enum slot_command slot_told(const struct shm *s) {
    enum slot_command told = atomic_load_explicit(&s->mine->command, memory_order_acquire);
    return told == SLOT_HANDED ? SLOT_EXIT : told;
}

void slot_wait_command(struct shm *s, enum slot_command now) {
    uint32_t bell = atomic_load(&s->mine->bell);
    if (slot_told(s) == now) {
        futex_wait(&s->mine->bell, bell, 3600 * NS_PER_SEC);
    }
}

void slot_wait_held(struct shm *s) {
    while (atomic_load(&s->mine->hold)) { /* after the last task's state was changed */
        uint32_t bell = atomic_load(&s->mine->bell);
        if (atomic_load(&s->mine->hold)) {
            futex_wait(&s->mine->bell, bell, 3600 * NS_PER_SEC);
        }
    }
}

void slot_retire_other(struct shm *s, uint32_t slot) {
    assert(slot < s->n_slots);
    struct shm_slot *d = &s->slots[slot];
    uint32_t go = SLOT_GO; /* SLOT_EXIT stays: it says more */
    atomic_compare_exchange_strong(&d->command, &go, (uint32_t)SLOT_RETIRE);
    wake_slot(d);
}

void slot_set_child(struct shm *s, uint32_t pgid) {
    atomic_store(&s->mine->child, pgid);
}

void slot_set_ending(struct shm *s, enum slot_ending why) {
    if (!get32(&s->mine->ending)) {
        atomic_store(&s->mine->ending, (uint32_t)why);
        tell_supervisor(s);
    }
}

bool slot_is_dead(const struct shm *s, uint32_t owner) {
    uint32_t slot = owner_slot(owner);
    if (slot >= s->n_slots) {
        return true;
    }
    struct shm_slot *d = &s->slots[slot];
    if ((atomic_load_explicit(&d->gen, memory_order_acquire) & 0x7fff) != owner_gen(owner)) {
        return true;
    }
    /* the futex word comes first in every pthread_mutex_t of Linux; the kernel sets the bit */
    uint32_t life =
        atomic_load_explicit((_Atomic uint32_t *)(void *)&d->life, memory_order_acquire);
    return life & FUTEX_OWNER_DIED;
}
