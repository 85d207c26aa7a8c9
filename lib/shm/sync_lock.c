/* SPDX-License-Identifier: MIT */
/* Lock and RLock. Whose it is stands in the object's word, so an uncontended acquire or release is one compare-and-swap. With
 * somebody in line the word has W, and a release hands over: the first in line is the owner before the releaser has
 * left the operation, and nobody can come between. How often the owner of an rlock has it, beyond the first time, is a word
 * that only the owner writes, and that is 0 whenever it changes hands (but for a condition's waiter, who gets back what it had).
 *
 * Who meets a dead owner gives the lock on as the burial would.
 *
 * Fails: as sync.h says. */
#include <errno.h>

#include "lib/base/clock.h"
#include "lib/shm/internal.h"
#include "lib/shm/lock.h"
#include "lib/shm/op.h"
#include "lib/shm/sync_private.h"

/* The word of a pinned lock. */
static int set_owner(struct shm *s, struct shm_sync *o, uint32_t owner, uint64_t extra) {
    int r = tx_need(s, 4);
    if (r == 0) {
        op_changes(s, sync_shard(o));
        tx_set(s, &o->word, sync_word(sync_word_serial(get(&o->word)), true, owner));
        if (get(&o->extra) != extra) {
            tx_set(s, &o->extra, extra);
        }
        tx_set(s, &o->since, owner ? clock_now() / NS_PER_MS : 0);
    }
    return r;
}

/* To the first in line, or to nobody. The lock is pinned. */
static int hand_over(struct shm *s, struct shm_sync *o, int answer) {
    int r = answer == SYNC_DIED && get(&o->words[0]) ? tx_need(s, 1) : 0;
    if (r) {
        return r;
    }
    if (answer == SYNC_DIED && get(&o->words[0])) {
        tx_set(s, &o->words[LOCK_RECHECK], 1);
    }
    struct shm_party *p = sync_first(s, o, &r);
    if (r) {
        return r;
    }
    if (!p) {
        r = answer == SYNC_DIED ? tx_need(s, 1) : 0;
        if (r == 0 && answer == SYNC_DIED) {
            tx_set(s, &o->words[LOCK_DIED], 1);
        }
        return r ? r : set_owner(s, o, 0, 0);
    }
    uint64_t times = get(&p->count);
    bool late = party_mode(get(&p->state)) == SYNC_MODE_LATE;
    r = sync_answer(s, o, p, late ? -ETIMEDOUT : answer);
    return r ? r : set_owner(s, o, party_owner(p), times ? times - 1 : 0);
}

static int bury(struct shm *s, struct shm_sync *o, uint32_t owner) {
    if (sync_word_owner(get(&o->word)) != owner) {
        return 0;
    }
    sync_pin(s, o);
    int r = hand_over(s, o, SYNC_DIED);
    return r ? r : 1;
}

static int look(struct shm *s, struct shm_sync *o, struct shm_party *p) {
    uint32_t owner = sync_word_owner(get(&o->word));
    (void)p;
    if (owner && !sync_is_dead(s, owner)) {
        return 0;
    }
    sync_pin(s, o);
    return hand_over(s, o, owner ? SYNC_DIED : 0);
}

const struct sync_kind sync_kind_lock = {.bury = bury, .look = look};
const struct sync_kind sync_kind_rlock = {.bury = bury, .look = look};

/* Pins it and takes it from a dead owner. */
static int look_after(struct shm *s, struct shm_sync *o, uint32_t *ret_owner) {
    sync_pin(s, o);
    uint32_t owner = sync_word_owner(get(&o->word));
    int r = owner && sync_is_dead(s, owner) ? hand_over(s, o, SYNC_DIED) : 0;
    if (r == 0) {
        *ret_owner = sync_word_owner(get(&o->word));
    }
    return r;
}

/* A pinned lock that is free. */
static int take(struct shm *s, struct shm_sync *o, uint32_t owner, uint64_t extra) {
    bool died = get(&o->words[LOCK_DIED]);
    sync_enrol(s, sync_shard(o));
    int r = set_owner(s, o, owner, extra);
    r = r ? r : tx_need(s, 1);
    if (r == 0 && died) {
        tx_set(s, &o->words[LOCK_DIED], 0);
    }
    return r ? r : died ? SYNC_DIED : 0;
}

static int acquire(struct shm *s, struct shm_sync *o, unsigned flags) {
    uint32_t owner, me = sync_actor(s);
    int r = look_after(s, o, &owner);
    if (r) {
        return r;
    }
    if (owner == me && !(flags & SYNC_NO_CHECK)) {
        return -EDEADLK;
    }
    if (owner) {
        return sync_park(s, o, 'x', 1, flags, NULL);
    }
    return take(s, o, me, 0);
}

/* Pins a lock that is to be released, by its owner unless forced. */
static int find_held(struct shm *s, const struct key_name *name, enum key_type type, unsigned flags,
                     struct shm_sync **ret) {
    int r = sync_open(s, name, type, false, ret, NULL);
    if (r) {
        return r == -ENOENT ? -EPERM : r;
    }
    sync_pin(s, *ret);
    uint32_t owner = sync_word_owner(get(&(*ret)->word));
    return owner && (owner == sync_actor(s) || flags & SYNC_FORCE) ? 0 : -EPERM;
}

int sync_lock_acquire(struct shm *s, const struct key_name *name, unsigned flags) {
    struct shm_sync *o;
    int r = sync_open(s, name, KEY_LOCK, true, &o, NULL);
    return r ? r : acquire(s, o, flags);
}

int sync_lock_release(struct shm *s, const struct key_name *name, unsigned flags) {
    struct shm_sync *o;
    int r = find_held(s, name, KEY_LOCK, flags, &o);
    return r ? r : hand_over(s, o, 0);
}

int sync_lock_is_held(struct shm *s, const struct key_name *name) {
    struct shm_sync *o;
    int r = sync_find(s, name, KEY_LOCK, &o);
    uint32_t owner = r ? 0 : sync_word_owner(get(&o->word));
    return r == -ENOENT ? 0 : r ? r : owner && !sync_is_dead(s, owner);
}

int sync_rlock_acquire(struct shm *s, const struct key_name *name, unsigned flags) {
    struct shm_sync *o;
    int r = sync_open(s, name, KEY_RLOCK, true, &o, NULL);
    if (r == 0 && sync_word_owner(get(&o->word)) == sync_actor(s)) {
        r = tx_need(s, 2);
        if (r == 0) {
            tx_set(s, &o->extra, get(&o->extra) + 1);
        }
        return r;
    }
    return r ? r : acquire(s, o, flags);
}

int sync_rlock_release(struct shm *s, const struct key_name *name, unsigned flags) {
    struct shm_sync *o;
    int r = find_held(s, name, KEY_RLOCK, flags, &o);
    if (r == 0 && get(&o->extra) && !(flags & SYNC_FORCE)) {
        r = tx_need(s, 2);
        if (r == 0) {
            tx_set(s, &o->extra, get(&o->extra) - 1);
        }
        return r ? r : 1;
    }
    return r ? r : hand_over(s, o, 0);
}

/* ---- for conditions ---- */

int sync_lock_held(struct shm *s, const struct key_name *name, struct shm_sync **ret) {
    int r = find_held(s, name, KEY_LOCK, 0, ret);
    return r == -EPROTOTYPE ? find_held(s, name, KEY_RLOCK, 0, ret) : r;
}

int sync_lock_let_go(struct shm *s, struct shm_sync *o, uint64_t *ret_times) {
    uint64_t times = get(&o->extra) + 1;
    int r = hand_over(s, o, 0);
    if (r == 0) {
        *ret_times = times;
    }
    return r;
}

int sync_lock_take_again(struct shm *s, struct shm_sync *o, struct shm_party *p, unsigned mode,
                         uint64_t times) {
    uint32_t owner;
    int r = look_after(s, o, &owner);
    if (r == 0 && owner) {
        r = sync_park_again(s, o, p, mode, times, false);
        return r ? r : -EINPROGRESS;
    }
    return r ? r : take(s, o, party_owner(p), times ? times - 1 : 0);
}
