/* SPDX-License-Identifier: MIT */
/* Who holds and who waits: for people who ask, and for finding waits that can never end.
 *
 * A cycle of waiters is looked for by each that has just stood in a lock's line, without any lock: from the lock to who
 * holds it, from each of those to what it waits for. What is read may be half of two moments, so a suspicion is confirmed with
 * all shards held, and if it is right this waiter leaves the line in the same operation. The last that came into a cycle
 * sees all of it; of two that come at once one finds the other gone. Those who wait for anything but locks are left out: anybody
 * might notify them.
 *
 * Fails: -EAGAIN (locks). A search gives up after so many owners; then nothing is found. */
#include <errno.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/shm/internal.h"
#include "lib/shm/lock.h"
#include "lib/shm/op.h"
#include "lib/shm/sync_private.h"

enum { OWNERS_MAX = 512 };

struct search {
    uint32_t n;
    uint32_t owners[OWNERS_MAX]; /* met; the first `done` have been followed */
    uint32_t from[OWNERS_MAX];   /* number + 1 of the one that waits for it; 0: the actor */
    uint32_t done;
};

static bool is_lock(unsigned kind) {
    return kind == KEY_LOCK || kind == KEY_RLOCK || kind == KEY_RWLOCK;
}

static void meet(struct search *f, uint32_t owner) {
    for (uint32_t i = 0; i < f->n; i++) {
        if (f->owners[i] == owner) {
            return;
        }
    }
    if (owner && f->n < OWNERS_MAX) {
        f->from[f->n] = f->done;
        f->owners[f->n++] = owner;
    }
}

/* The lock that an owner waits for, or NULL. */
static const struct shm_sync *waits_for(const struct shm *s, uint32_t owner) {
    const struct shm_seat *seat = sync_seat(s, owner);
    uint64_t state = seat ? get(&seat->waiting.state) : 0;
    bool waits = seat && get(&seat->waiting.object) && party_state(state) == PARTY_WAITS &&
                 party_owner(&seat->waiting) == owner && is_lock(party_kind(state));
    return waits ? sync_at(s, get(&seat->waiting.object)) : NULL;
}

static void meet_holders(const struct shm *s, const struct shm_sync *o, struct search *f) {
    meet(f, sync_word_owner(get(&o->word)));
    const struct shm_party *p = sync_holders(s, o);
    for (uint64_t n = sync_at_most(s, &o->n_holders); p && n > 0 && f->n < OWNERS_MAX; n--) {
        if (get(&p->count)) {
            meet(f, party_owner(p));
        }
        p = sync_next(s, p);
    }
}

/* Whether the actor waits for itself, over however many others. */
static bool finds_itself(const struct shm *s, uint32_t me, struct search *f) {
    const struct shm_sync *o = waits_for(s, me);
    f->n = f->done = 0;
    while (o) {
        meet_holders(s, o, f);
        for (o = NULL; !o && f->done < f->n;) {
            uint32_t owner = f->owners[f->done++];
            if (owner == me) {
                return true;
            }
            o = waits_for(s, owner);
        }
    }
    return false;
}

static uint32_t pid_of(const struct shm *s, uint32_t owner) {
    const struct shm_seat *seat = sync_seat(s, owner);
    uint32_t i = owner_slot(owner);
    return !seat ? 0 : i < s->n_slots ? get32(&s->slots[i].pid) : get32(&seat->pid);
}

/* The last one followed is the actor; back from there, each waits for the one before. */
static void note_cycle(struct shm *s, const struct search *f) {
    s->cycle_n = 0;
    for (uint32_t i = f->done; i > 0; i = f->from[i - 1]) {
        if (s->cycle_n < SHM_CYCLE) {
            s->cycle_pids[s->cycle_n] = pid_of(s, f->owners[i - 1]);
        }
        s->cycle_n++;
    }
}

static int confirm(struct shm *s, void *arg) {
    uint32_t me = sync_actor(s);
    struct search *f = arg;
    if (!finds_itself(s, me, f)) {
        return 1;
    }
    note_cycle(s, f);
    return sync_withdraw(s, &sync_seat(s, me)->waiting, -EDEADLK);
}

int sync_check_cycle(struct shm *s) {
    struct search f;
    if (!finds_itself(s, sync_actor(s), &f)) {
        return sync_poll(s);
    }
    int r = op_run(s, OP_ALL, confirm, &f);
    return r < 0 ? r : sync_poll(s);
}

/* ---- for people ---- */

static struct sync_party_view view_of(const struct shm *s, uint32_t owner, uint64_t since) {
    const struct shm_seat *seat = sync_seat(s, owner);
    uint32_t i = owner_slot(owner);
    uint64_t now = clock_now() / NS_PER_MS;
    struct sync_party_view v = {.owner = owner, .dead = sync_is_dead(s, owner), .count = 1};
    if (seat) {
        v.pid = pid_of(s, owner);
        v.uid = get32(&seat->uid);
        v.conn = i < s->n_slots ? 0 : get(&seat->conn);
    }
    v.for_ms = since && since < now ? (int64_t)(now - since) : since ? 0 : -1;
    return v;
}

/* Who comes back from a condition to its lock is marked otherwise there, and other kinds have marks of their own. */
static char mode_of(const struct shm_sync *o, unsigned mark) {
    unsigned type = sync_type(o);
    if (type == KEY_RWLOCK) {
        return (char)mark;
    }
    return type == KEY_LOCK || type == KEY_RLOCK ? 'x' : 0;
}

static int tell(const struct shm *s, const struct shm_sync *o, const struct shm_party *p,
                bool holds, int (*fn)(void *arg, const struct sync_party_view *v), void *arg) {
    struct sync_party_view v = view_of(s, party_owner(p), get(&p->since));
    v.holds = holds;
    v.count = get(&p->count);
    v.mode = mode_of(o, party_mode(get(&p->state)));
    return holds && !v.count ? 0 : fn(arg, &v);
}

int sync_parties(struct shm *s, const struct key_name *name,
                 int (*fn)(void *arg, const struct sync_party_view *v), void *arg) {
    struct key key;
    int r = key_find(s, name, &key);
    struct shm_sync *o = r ? NULL : sync_at(s, get(&key.k->object));
    if (r || !key_is_sync(key_type(&key)) || !o) {
        return r ? r : key_is_sync(key_type(&key)) ? -ESTALE : -EPROTOTYPE;
    }
    uint32_t owner = sync_word_owner(get(&o->word));
    if (owner) {
        struct sync_party_view v = view_of(s, owner, get(&o->since));
        v.holds = true;
        v.count = sync_type(o) == KEY_RLOCK ? get(&o->extra) + 1 : 1;
        v.mode = mode_of(o, 'w');
        r = fn(arg, &v);
    }
    struct shm_party *p = sync_holders(s, o);
    for (uint64_t n = sync_at_most(s, &o->n_holders); r == 0 && p && n > 0; n--) {
        r = tell(s, o, p, true, fn, arg);
        p = sync_next(s, p);
    }
    p = sync_first_of(s, o);
    for (uint64_t n = sync_at_most(s, &o->waiting); r == 0 && p && n > 0; n--) {
        r = tell(s, o, p, false, fn, arg);
        p = sync_next(s, p);
    }
    return r;
}
