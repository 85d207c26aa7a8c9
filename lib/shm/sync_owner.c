/* SPDX-License-Identifier: MIT */
/* Owners: their seats, the one thing each waits for, and their end.
 *
 * An answer is read without a lock: a party of one's own is only changed by who answers it, and what he writes counts once
 * his shard's seq is even and has not moved meanwhile; before that it may be rolled back. Kinds that have to take something
 * into their hands (collect) do so with the shard's lock.
 *
 * A sleeper says so (asleep), looks once more, and sleeps on its bell; who answers rings after the commit. If he is killed
 * between, his burial rings for everybody. As a last resort each sleeper looks by itself now and then whether the
 * holder it waits for has died, so that nobody depends on the daemon's being there.
 *
 * The end of an owner (sync_bury) first takes it out of the line, then goes through the objects of the shards it has been in,
 * a bounded piece at a time. Killed anywhere, it is done again: what has been given up is not there any more.
 *
 * Fails: as sync.h says. */
#include <assert.h>
#include <errno.h>
#include <stddef.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/cpu.h"
#include "lib/shm/alloc.h"
#include "lib/shm/internal.h"
#include "lib/shm/lock.h"
#include "lib/shm/op.h"
#include "lib/shm/slot.h"
#include "lib/shm/spin.h"
#include "lib/shm/sync_private.h"

enum { LOOKS = 64, PIECE = 160 };
#define HEARTBEAT_NS (500 * NS_PER_MS)

/* ---- seats ---- */

struct shm_seat *sync_seat(const struct shm *s, uint32_t owner) {
    uint32_t i = owner_slot(owner);
    return i < s->n_seats ? &s->seats[i] : NULL;
}

bool sync_is_dead(const struct shm *s, uint32_t owner) {
    uint32_t i = owner_slot(owner);
    if (i < s->n_slots || i >= s->n_seats) {
        return slot_is_dead(s, owner);
    }
    const struct shm_seat *seat = &s->seats[i];
    return (get32(&seat->gen) & 0x7fff) != owner_gen(owner) || slot_is_dead(s, get32(&seat->by));
}

void sync_seat_reset(struct shm *s, uint32_t slot) {
    struct shm_seat *seat = &s->seats[slot];
    put(&seat->waiting.object, 0);
    put(&seat->shards, 0);
    put32(&seat->asleep, 0);
    put32(&seat->uid, 0);
    put(&seat->conn, 0);
}

void sync_enrol(struct shm *s, unsigned shard) {
    struct shm_seat *seat = sync_seat(s, sync_actor(s));
    uint64_t bit = UINT64_C(1) << shard;
    if (seat && !(get(&seat->shards) & bit)) {
        put(&seat->shards, get(&seat->shards) | bit);
        if (seat == &s->seats[s->slot]) {
            put32(&seat->uid, (uint32_t)(get(&s->accounts[s->account].user) - 1));
        }
        keep_order();
    }
}

static uint32_t seats_used(const struct shm *s) {
    uint32_t n = get32(&s->head->seats_used);
    return n < s->n_slots ? s->n_slots : n > s->n_seats ? s->n_seats : n;
}

static uint32_t seats_hint(const struct shm *s, uint32_t used) {
    uint32_t n = get32(&s->head->seat_hint);
    return n < s->n_slots || n >= used ? s->n_slots : n;
}

/* One that was used before, looking on from where one was found last; else a new one. */
static uint32_t free_seat(struct shm *s) {
    uint32_t used = seats_used(s), span = used - s->n_slots, from = seats_hint(s, used);
    for (uint32_t n = 0; n < span; n++) {
        uint32_t i = s->n_slots + (from - s->n_slots + n) % span;
        if (!get(&s->seats[i].conn)) {
            return i;
        }
    }
    return used;
}

int sync_seat_take(struct shm *s, uint64_t conn, uint32_t pid, uint32_t uid, uint32_t *ret_owner) {
    assert(conn && s->mine);
    uint32_t i = free_seat(s);
    if (i >= s->n_seats) {
        return -ENOSPC;
    }
    struct shm_seat *seat = &s->seats[i];
    put(&seat->waiting.object, 0);
    put(&seat->shards, 0);
    put32(&seat->pid, pid);
    put32(&seat->uid, uid);
    put32(&seat->by, s->me);
    if (i >= seats_used(s)) {
        put32(&s->head->seats_used, i + 1);
    }
    put32(&s->head->seat_hint, i + 1);
    put(&s->seats[s->slot].conn, 1); /* it has given out some */
    keep_order();
    atomic_fetch_add(&seat->gen, 1);
    atomic_store_explicit(&seat->conn, conn, memory_order_release);
    *ret_owner = owner_word(i, get32(&seat->gen));
    return 0;
}

int sync_seat_end(struct shm *s, uint32_t owner) {
    struct shm_seat *seat = sync_seat(s, owner);
    if (!seat || owner_slot(owner) < s->n_slots || !get(&seat->conn) ||
        (get32(&seat->gen) & 0x7fff) != owner_gen(owner)) {
        return 0;
    }
    int r = sync_bury(s, owner);
    if (r == 0) {
        atomic_fetch_add(&seat->gen, 1);
        uint32_t i = owner_slot(owner);
        atomic_fetch_and(&s->granted[i / 64], ~(UINT64_C(1) << (i % 64)));
        atomic_store_explicit(&seat->conn, 0, memory_order_release);
    }
    return r;
}

/* ---- waking ---- */

/* True: the daemon is to be told. */
static bool ring_seat(struct shm *s, uint32_t i) {
    struct shm_seat *seat = &s->seats[i];
    if (i < s->n_slots) {
        atomic_fetch_add(&seat->bell, 1);
        if (atomic_load(&seat->asleep)) {
            futex_wake(&seat->bell, INT32_MAX);
        }
        return false;
    }
    atomic_fetch_or(&s->granted[i / 64], UINT64_C(1) << (i % 64));
    atomic_store(&s->head->granted, 1);
    return true;
}

void sync_wake_all(struct shm *s) {
    bool tell = false;
    for (uint32_t i = 0, n = get32(&s->head->parked) ? seats_used(s) : 0; i < n; i++) {
        if (get(&s->seats[i].waiting.object)) {
            tell |= ring_seat(s, i);
        }
    }
    if (tell) {
        shm_ring_daemon(s);
    }
}

void sync_ring(struct shm *s) {
    uint32_t n = s->after.wakes;
    bool tell = false;
    s->after.wakes = 0;
    if (n > ARRAY_SIZE(s->after.wake)) {
        sync_wake_all(s);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (s->after.wake[i] < s->n_seats) {
            tell |= ring_seat(s, s->after.wake[i]);
        }
    }
    if (tell) {
        shm_ring_daemon(s);
    }
}

bool sync_any_granted(const struct shm *s) {
    return atomic_load_explicit(&s->head->granted, memory_order_acquire) != 0;
}

static uint32_t take_granted(struct shm *s, uint64_t *ret_conn) {
    for (uint32_t w = 0; w < (seats_used(s) + 63) / 64; w++) {
        for (uint64_t v; (v = get(&s->granted[w])) != 0;) {
            uint32_t i = w * 64 + (uint32_t)__builtin_ctzll(v);
            atomic_fetch_and(&s->granted[w], ~(v & -v));
            if (i < s->n_seats && get(&s->seats[i].conn)) {
                *ret_conn = get(&s->seats[i].conn);
                return owner_word(i, get32(&s->seats[i].gen));
            }
        }
    }
    return 0;
}

uint32_t sync_next_granted(struct shm *s, uint64_t *ret_conn) {
    if (!sync_any_granted(s)) {
        return 0;
    }
    uint32_t owner = take_granted(s, ret_conn);
    if (!owner) {
        /* who sets a bit after this look raises the flag again */
        atomic_store(&s->head->granted, 0);
        owner = take_granted(s, ret_conn);
        if (owner) {
            atomic_store(&s->head->granted, 1);
        }
    }
    return owner;
}

/* ---- the answer ---- */

enum wanted { TO_LOOK, TO_TAKE, TO_GIVE_UP };

struct coming {
    struct shm_party *p;
    uint64_t off, held;
    enum wanted want;
    bool elsewhere; /* other shards were needed */
    int answer;
};

/* The object that an answered party waited for, or NULL: it is gone. */
static struct shm_sync *still_there(const struct shm *s, const struct shm_party *p) {
    struct shm_sync *o = sync_at(s, get(&p->object));
    bool same = o && get(&o->birth) % (UINT64_C(1) << 32) == get(&p->who) >> 32 &&
                get(&o->place) >> 32 == SYNC_LIVES;
    return same ? o : NULL;
}

static int take_answer(struct shm *s, struct coming *c) {
    const struct sync_kind *k = sync_kind_of(party_kind(get(&c->p->state)));
    int r = tx_need(s, 4);
    c->answer = party_answer(get(&c->p->state));
    if (r == 0 && c->answer >= 0 && k && k->collect) {
        r = k->collect(s, still_there(s, c->p), c->p, &c->answer);
    }
    r = r ? r : tx_need(s, 1);
    if (r == 0 && c->answer != -EINPROGRESS) {
        tx_set(s, &c->p->object, 0);
    }
    return r;
}

int sync_withdraw(struct shm *s, struct shm_party *p, int answer) {
    struct shm_sync *o = sync_at(s, get(&p->object));
    if (!o || party_state(get(&p->state)) != PARTY_WAITS) {
        return 0;
    }
    const struct sync_kind *k = sync_kind_of(sync_type(o));
    int r = sync_answer(s, o, p, answer);
    return r == 0 && k && k->left ? k->left(s, o, p, answer == -EOWNERDEAD) : r;
}

/* In a lock's line on behalf of a condition: it does not come back without the lock. */
static bool stays(const struct shm_party *p) {
    unsigned mode = party_mode(get(&p->state));
    return mode == SYNC_MODE_AGAIN || mode == SYNC_MODE_LATE;
}

static int come(struct shm *s, void *arg) {
    struct coming *c = arg;
    struct shm_sync *o = sync_at(s, c->off);
    c->answer = -EINPROGRESS;
    c->elsewhere = get(&c->p->object) != c->off || !o || !(c->held >> sync_shard(o) & 1);
    if (c->elsewhere) {
        return 0;
    }
    const struct sync_kind *k = sync_kind_of(sync_type(o));
    int r = 0;
    if (party_state(get(&c->p->state)) == PARTY_WAITS && k && k->look) {
        r = k->look(s, o, c->p);
    }
    if (r == 0 && party_state(get(&c->p->state)) == PARTY_WAITS && c->want == TO_GIVE_UP &&
        !stays(c->p)) {
        r = sync_withdraw(s, c->p, -ETIMEDOUT);
    }
    if (r == 0 && c->want != TO_LOOK && party_state(get(&c->p->state)) == PARTY_ANSWERED) {
        op_changes(s, sync_shard(o));
        r = take_answer(s, c);
    }
    return r;
}

/* With the lock. */
static int come_in(struct shm *s, struct shm_party *p, enum wanted want) {
    for (int i = 0; i < LOOKS; i++) {
        struct coming c = {.p = p, .off = get(&p->object), .want = want};
        const struct sync_kind *k = sync_kind_of(party_kind(get(&p->state)));
        const struct shm_sync *o = sync_at(s, c.off);
        if (!o) {
            put(&p->object, 0);
            return c.off ? -EBADMSG : -EINVAL;
        }
        c.held = UINT64_C(1) << sync_shard(o) | (k && k->also ? k->also(s, p) : 0);
        int r = op_run(s, c.held, come, &c);
        if (r < 0) {
            return r;
        }
        if (!c.elsewhere) {
            return c.answer;
        }
    }
    return -EAGAIN;
}

/* Without one: 0: *ret is what sync_poll() returns. */
static int glance(struct shm *s, struct shm_party *p, int *ret) {
    for (int i = 0; i < LOOKS; i++) {
        uint64_t state = atomic_load_explicit(&p->state, memory_order_acquire);
        const struct shm_sync *o = sync_at(s, get(&p->object));
        const struct sync_kind *k = sync_kind_of(party_kind(state));
        if (!o ||
            (party_state(state) == PARTY_ANSWERED && k && k->collect && party_answer(state) >= 0)) {
            return -EAGAIN;
        }
        if (party_state(state) == PARTY_WAITS) {
            *ret = -EINPROGRESS;
            return 0;
        }
        unsigned shard = sync_shard(o);
        uint64_t seq = atomic_load_explicit(&s->shards[shard].seq, memory_order_acquire);
        state = get(&p->state);
        bool same = sync_shard(o) == shard && party_state(state) == PARTY_ANSWERED;
        atomic_thread_fence(memory_order_acquire);
        if (seq % 2 == 0 && same && get(&s->shards[shard].seq) == seq) {
            put(&p->object, 0);
            *ret = party_answer(state);
            return 0;
        }
        cpu_pause();
    }
    return -EAGAIN;
}

static int answer_of(struct shm *s, enum wanted want) {
    struct shm_seat *seat = sync_seat(s, sync_actor(s));
    int r;
    assert(!s->op_depth);
    if (!seat || !get(&seat->waiting.object)) {
        return -EINVAL;
    }
    if (want != TO_TAKE || glance(s, &seat->waiting, &r)) {
        r = come_in(s, &seat->waiting, want);
    }
    if (want == TO_TAKE && r == -EAGAIN && owner_slot(sync_actor(s)) >= s->n_slots) {
        ring_seat(s, owner_slot(sync_actor(s)));
    }
    return r;
}

int sync_poll(struct shm *s) {
    return answer_of(s, TO_TAKE);
}

int sync_give_up(struct shm *s) {
    return answer_of(s, TO_GIVE_UP);
}

/* Sleeps until the bell rings or the time is over; looks after the holder if nothing was heard for long. True: a signal handler
 * may have run. */
static bool doze(struct shm *s, struct shm_seat *seat, uint32_t bell, uint64_t until) {
    uint64_t now = clock_now(), step = until - now < HEARTBEAT_NS ? until - now : HEARTBEAT_NS;
    if (until <= now) {
        return false;
    }
    bool signalled = futex_wait(&seat->bell, bell, step);
    if (step == HEARTBEAT_NS && atomic_load(&seat->bell) == bell &&
        clock_now() - now >= HEARTBEAT_NS) {
        answer_of(s, TO_LOOK);
        return true; /* a signal that came while it did not sleep interrupted nothing */
    }
    return signalled;
}

struct heard {
    const struct shm_seat *seat;
    uint32_t bell;
};

static bool has_rung(const void *arg) {
    const struct heard *h = arg;
    return get32(&h->seat->bell) != h->bell;
}

/* Before it says that it sleeps, so that nobody takes the trouble to wake it: looks whether the answer is about to come. Who waits at
 * a queue or a pipe has looked before it went into the line. */
static void spin(struct shm *s, const struct shm_seat *seat, int64_t ms) {
    struct heard h = {seat, get32(&seat->bell)};
    uint64_t state = atomic_load(&seat->waiting.state);
    if (ms && party_state(state) == PARTY_WAITS && party_kind(state) != KEY_QUEUE &&
        party_kind(state) != KEY_PIPE) {
        spin_for(s, has_rung, &h);
    }
}

/* How long a wait lasts. */
struct patience {
    uint64_t until, look; /* UINT64_MAX: never */
    int over;             /* the answer when it is; 0: it is not */
    bool signalled;
};

static uint64_t next_look(const struct shm *s) {
    return s->wait_look && s->wait_look_ns ? clock_now() + s->wait_look_ns : UINT64_MAX;
}

/* Whether it has just ended. */
static bool has_ended(struct shm *s, struct patience *p) {
    uint64_t now = p->until != UINT64_MAX || p->look != UINT64_MAX ? clock_now() : 0;
    if (s->wait_look && (p->signalled || now >= p->look)) {
        p->signalled = false;
        p->look = next_look(s);
        p->over = s->wait_look(s->wait_arg);
    }
    if (!p->over && now >= p->until) {
        p->over = -ETIMEDOUT;
    }
    if (p->over) { /* a condition's waiter may have to stand in the lock's line yet, which has no end */
        p->until = p->look = UINT64_MAX;
    }
    return p->over;
}

int sync_wait(struct shm *s, int64_t ms) {
    struct shm_seat *seat = &s->seats[s->slot];
    struct patience p = {.until = ms < 0 ? UINT64_MAX : clock_now() + (uint64_t)ms * NS_PER_MS,
                         .look = next_look(s)};
    assert(s->mine && !s->actor);
    spin(s, seat, ms);
    for (bool leaving = false;;) {
        uint32_t bell = atomic_load(&seat->bell);
        atomic_store(&seat->asleep, 1);
        int r = sync_poll(s);
        if (r == -EINPROGRESS && !p.over) {
            leaving = has_ended(s, &p);
        }
        if (r == -EINPROGRESS && leaving) {
            r = sync_give_up(s);
            leaving = r == -EAGAIN;
        }
        if (r != -EINPROGRESS && r != -EAGAIN) {
            atomic_store(&seat->asleep, 0);
            return r == -ETIMEDOUT && p.over ? p.over : r;
        }
        if (r == -EINPROGRESS) {
            p.signalled = doze(s, seat, bell, p.until < p.look ? p.until : p.look);
        }
    }
}

/* ---- the end ---- */

struct end {
    uint32_t owner;
    struct shm_party *p;
    uint64_t off;
    unsigned shard;
    int found;        /* things it held, in this operation */
    uint64_t recheck; /* a lock whose conditions are to be looked at again */
};

/* Out of the line; or what it had been granted, and had not come for, goes back. */
static int end_waiting(struct shm *s, void *arg) {
    const struct end *e = arg;
    struct shm_sync *o = sync_at(s, e->off);
    int r = tx_need(s, 1);
    if (r || !o || sync_shard(o) != e->shard || get(&e->p->object) != e->off) {
        return r ? r : o ? 1 : 0;
    }
    op_changes(s, e->shard);
    if (party_state(get(&e->p->state)) == PARTY_WAITS) {
        r = sync_withdraw(s, e->p, -EOWNERDEAD);
    } else if (party_answer(get(&e->p->state)) >= 0) {
        const struct sync_kind *k = sync_kind_of(party_kind(get(&e->p->state)));
        r = k && k->undo ? k->undo(s, still_there(s, e->p), e->shard, e->p) : 0;
    }
    r = r ? r : tx_need(s, 1);
    if (r == 0) {
        tx_set(s, &e->p->object, 0);
    }
    return r;
}

/* What it holds in a shard, as much of it as fits into one operation of moderate size. 1: there may be more. */
static int end_holding(struct shm *s, void *arg) {
    struct end *e = arg;
    e->found = 0;
    uint64_t off = get(&s->shards[e->shard].syncs), most = s->size / sizeof(struct shm_sync);
    struct shm_sync *o;
    e->recheck = 0;
    for (; (o = sync_at(s, off)) && most; off = get(&o->next), most--) {
        const struct sync_kind *k = sync_kind_of(sync_type(o));
        int r;
        if (sync_shard(o) != e->shard) {
            return -EBADMSG; /* damaged by somebody */
        }
        while (k && k->bury && (r = k->bury(s, o, e->owner)) != 0) {
            e->found++;
            if (r < 0 || s->tx_entries > PIECE) {
                return r;
            }
        }
        bool lock = sync_type(o) == KEY_LOCK || sync_type(o) == KEY_RLOCK;
        if (lock && get(&o->words[LOCK_RECHECK])) {
            e->recheck = off;
        }
    }
    return 0;
}

static int end_in_shard(struct shm *s, struct end *e, int *ret_n) {
    int r;
    do {
        r = op_run(s, UINT64_C(1) << e->shard, end_holding, e);
        *ret_n += r >= 0 ? e->found : 0;
        if (r == 0 && e->recheck) {
            r = sync_cond_recheck(s, e->recheck);
            r = r ? r : 1;
        }
    } while (r == 1);
    return r;
}

static int end_wait(struct shm *s, struct shm_seat *seat) {
    struct end e = {.p = &seat->waiting};
    while ((e.off = get(&e.p->object)) != 0) {
        const struct shm_sync *o = sync_at(s, e.off);
        e.shard = o ? sync_shard(o) : 0;
        int r = o ? op_run(s, UINT64_C(1) << e.shard, end_waiting, &e) : 0;
        if (!o || r == -EBADMSG) {
            put(&e.p->object, 0); /* damaged by somebody */
        } else if (r < 0) {
            return -EAGAIN;
        }
    }
    return 0;
}

int sync_forgo(struct shm *s) {
    struct shm_seat *seat = sync_seat(s, sync_actor(s));
    return seat ? end_wait(s, seat) : 0;
}

/* All that it holds and waits for. *ret_n: how many it held. */
static int end_all(struct shm *s, uint32_t owner, int *ret_n) {
    struct shm_seat *seat = sync_seat(s, owner);
    struct end e = {.owner = owner};
    int wait = end_wait(s, seat);
    if (wait) {
        return wait;
    }
    uint64_t been = get(&seat->shards);
    for (uint64_t v = been ? been | get(&s->head->strays) : 0; v; v &= v - 1) {
        e.shard = (unsigned)__builtin_ctzll(v);
        int r = end_in_shard(s, &e, ret_n);
        if (r < 0 && r != -EBADMSG) {
            return -EAGAIN;
        }
    }
    put(&seat->shards, 0);
    return 0;
}

int sync_bury(struct shm *s, uint32_t owner) {
    int n = 0;
    return sync_seat(s, owner) ? end_all(s, owner, &n) : 0;
}

int sync_release_all(struct shm *s) {
    int n = 0, r = end_all(s, sync_actor(s), &n);
    return r ? r : n;
}

int sync_bury_slot(struct shm *s, uint32_t owner) {
    int r = sync_bury(s, owner);
    bool gave = get(&s->seats[owner_slot(owner)].conn) != 0;
    for (uint32_t i = s->n_slots; r == 0 && gave && i < seats_used(s); i++) {
        const struct shm_seat *seat = &s->seats[i];
        if (get(&seat->conn) && get32(&seat->by) == owner) {
            r = sync_seat_end(s, owner_word(i, get32(&seat->gen)));
        }
    }
    sync_wake_all(s);
    return r;
}
