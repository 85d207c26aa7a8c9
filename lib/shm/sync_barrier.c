/* SPDX-License-Identifier: MIT */
/* Barriers: whoever comes waits until so many have come, and each is told his place in the order of coming. One that goes
 * away before that, by death or because his time is over, breaks the barrier: everybody who waits is told, and so is
 * whoever comes, until it is reset. The line is who has come; a round ends with everybody in it answered at once, so that
 * the next round can begin while some have not yet looked.
 *
 * Fails: as sync.h says. */
#include <errno.h>

#include "lib/shm/internal.h"
#include "lib/shm/lock.h"
#include "lib/shm/op.h"
#include "lib/shm/sync_private.h"

enum { PARTIES, BROKEN }; /* words of the object */

static int answer_all(struct shm *s, struct shm_sync *o, int answer) {
    int64_t n = sync_answer_all(s, o, answer);
    return n < 0 ? (int)n : 0;
}

static int set_broken(struct shm *s, struct shm_sync *o, uint64_t v) {
    int r = tx_need(s, 1);
    if (r == 0) {
        op_changes(s, sync_shard(o));
        tx_set(s, &o->words[BROKEN], v);
        r = answer_all(s, o, -ECONNABORTED);
    }
    return r;
}

int sync_barrier_create(struct shm *s, const struct key_name *name, uint32_t parties) {
    struct shm_sync *o;
    bool made;
    if (parties == 0 || parties > INT32_MAX) {
        return -EINVAL;
    }
    int r = sync_open(s, name, KEY_BARRIER, true, &o, &made);
    if (r || !made) {
        return r ? r : get(&o->words[PARTIES]) == parties ? 0 : -EEXIST;
    }
    r = tx_need(s, 2);
    if (r == 0) {
        tx_set(s, &o->words[PARTIES], parties);
        tx_set(s, &o->words[BROKEN], 0);
    }
    return r ? r : 1;
}

static bool has_dead(const struct shm *s, const struct shm_sync *o) {
    struct shm_party *p = sync_party_at(s, get(&o->first));
    for (uint64_t left = get(&o->waiting); p && left; left--, p = sync_next(s, p)) {
        if (sync_is_dead(s, party_owner(p))) {
            return true;
        }
    }
    return false;
}

/* Everybody who waits goes on. */
static int pass(struct shm *s, struct shm_sync *o) {
    int r;
    struct shm_party *p;
    while ((p = sync_first(s, o, &r))) {
        r = sync_answer(s, o, p, (int)get(&p->count));
        if (r) {
            break;
        }
    }
    return r;
}

int sync_barrier_wait(struct shm *s, const struct key_name *name, unsigned flags) {
    struct shm_sync *o;
    int r = sync_open(s, name, KEY_BARRIER, false, &o, NULL);
    if (r) {
        return r;
    }
    uint64_t index = get(&o->waiting);
    if (get(&o->words[BROKEN])) {
        return -ECONNABORTED;
    }
    bool last = index + 1 >= get(&o->words[PARTIES]), dead = last && has_dead(s, o);
    if (last && !dead) {
        r = pass(s, o);
        return r ? r : (int)index;
    }
    r = sync_park(s, o, 'w', index, flags, NULL);
    if (r == -EINPROGRESS &&
        dead) { /* one has died and is not buried yet: this one learns it with the others */
        int e = set_broken(s, o, 1);
        return e ? e : r;
    }
    return r;
}

int sync_barrier_reset(struct shm *s, const struct key_name *name) {
    struct shm_sync *o;
    int r = sync_open(s, name, KEY_BARRIER, false, &o, NULL);
    return r ? r : set_broken(s, o, 0);
}

int sync_barrier_abort(struct shm *s, const struct key_name *name) {
    struct shm_sync *o;
    int r = sync_open(s, name, KEY_BARRIER, false, &o, NULL);
    return r ? r : set_broken(s, o, 1);
}

int sync_barrier_view(struct shm *s, const struct key_name *name, struct sync_barrier_view *ret) {
    struct shm_sync *o;
    int r = sync_find(s, name, KEY_BARRIER, &o);
    if (r == 0) {
        *ret = (struct sync_barrier_view){.parties = (uint32_t)get(&o->words[PARTIES]),
                                          .waiting = (uint32_t)get(&o->waiting),
                                          .broken = get(&o->words[BROKEN]) != 0};
    }
    return r;
}

/* ---- what the core asks ---- */

static int left(struct shm *s, struct shm_sync *o, struct shm_party *p, bool died) {
    (void)p;
    (void)died;
    return set_broken(s, o, 1);
}

static int look(struct shm *s, struct shm_sync *o, struct shm_party *p) {
    (void)p;
    return has_dead(s, o) ? set_broken(s, o, 1) : 0;
}

const struct sync_kind sync_kind_barrier = {.left = left, .look = look};
