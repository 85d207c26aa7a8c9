/* SPDX-License-Identifier: MIT */
/* Semaphores: a number of units, who has taken how many, and who waits for how many.
 *
 * Units are handed over in the order of the line: nobody overtakes one that waits for more than there is. Who takes some is
 * listed with them, so that his death gives them back; so what one takes and another gives back (a semaphore used as a signal) is still
 * listed with the first, and comes back once more when he dies, in a bounded one never beyond the first value.
 *
 * The block that lists a holder is made before he stands in line, with no units yet. So a grant needs no memory: it adds to that
 * block, and what was granted to one that dies before he looks goes back with everything else that he has.
 *
 * Fails: as sync.h says. */
#include <errno.h>

#include "lib/shm/internal.h"
#include "lib/shm/lock.h"
#include "lib/shm/op.h"
#include "lib/shm/sync_private.h"

enum { VALUE, BOUND, FIRST, DIED }; /* words of the object; DIED: units came back from a dead one */
enum { HOLDER };                    /* of a waiting party: offset of the block that lists it */
#define NO_BOUND  UINT64_MAX
#define VALUE_MAX ((uint64_t)INT64_MAX)

static struct shm_party *holder_of(const struct shm *s, const struct shm_sync *o,
                                   const struct shm_party *p) {
    struct shm_party *h = sync_holder(s, o, party_owner(p));
    return h && sync_off(s, h) == get(&p->data[HOLDER]) ? h : NULL;
}

/* How many units there may be. */
static uint64_t most_of(const struct shm_sync *o) {
    uint64_t bound = get(&o->words[BOUND]);
    return bound < VALUE_MAX ? bound : VALUE_MAX;
}

/* Gives the line what there is; the first to get some is told of a death. */
static int hand_out(struct shm *s, struct shm_sync *o) {
    int r = 0;
    struct shm_party *p;
    while ((p = sync_first(s, o, &r)) && get(&o->words[VALUE]) >= get(&p->count)) {
        struct shm_party *h = holder_of(s, o, p);
        uint64_t n = get(&p->count), died = get(&o->words[DIED]);
        r = tx_need(s, 4);
        if (r) {
            return r;
        }
        if (h) {
            tx_set(s, &h->count, get(&h->count) + n);
        }
        tx_set(s, &o->words[VALUE], get(&o->words[VALUE]) - n);
        tx_set(s, &o->words[DIED], 0);
        r = sync_answer(s, o, p, died ? SYNC_DIED : 0);
        if (r) {
            return r;
        }
    }
    return r;
}

/* ---- death ---- */

static int bury(struct shm *s, struct shm_sync *o, uint32_t owner) {
    struct shm_party *h = sync_holder(s, o, owner);
    if (!h) {
        return 0;
    }
    uint64_t value = get(&o->words[VALUE]), n = get(&h->count);
    uint64_t room = value < most_of(o) ? most_of(o) - value : 0;
    int r = tx_need(s, 2);
    if (r) {
        return r;
    }
    tx_set(s, &o->words[VALUE], value + (n < room ? n : room));
    if (n) {
        tx_set(s, &o->words[DIED], 1);
    }
    r = sync_holder_drop(s, o, h);
    return r ? r : hand_out(s, o);
}

/* Takes back what dead holders have, who may not be buried for a while. */
static int take_back(struct shm *s, struct shm_sync *o) {
    struct shm_party *h = sync_party_at(s, get(&o->holders)), *next;
    int r = 0;
    for (uint64_t left = get(&o->n_holders); r == 0 && h && left; left--, h = next) {
        next = sync_next(s, h);
        if (sync_is_dead(s, party_owner(h))) {
            r = bury(s, o, party_owner(h));
        }
    }
    return r;
}

static int look(struct shm *s, struct shm_sync *o, struct shm_party *p) {
    (void)p;
    return take_back(s, o);
}

/* ---- verbs ---- */

int sync_sem_create(struct shm *s, const struct key_name *name, uint64_t value, bool bounded) {
    struct shm_sync *o;
    bool made;
    if (value > VALUE_MAX) {
        return -EINVAL;
    }
    uint64_t bound = bounded ? value : NO_BOUND;
    int r = sync_open(s, name, KEY_SEM, true, &o, &made);
    if (r || !made) {
        bool same = r == 0 && get(&o->words[FIRST]) == value && get(&o->words[BOUND]) == bound;
        return r ? r : same ? 0 : -EEXIST;
    }
    r = tx_need(s, 4);
    if (r == 0) {
        tx_set(s, &o->words[VALUE], value);
        tx_set(s, &o->words[BOUND], bound);
        tx_set(s, &o->words[FIRST], value);
        tx_set(s, &o->words[DIED], 0);
    }
    return r ? r : 1;
}

static int take(struct shm *s, struct shm_sync *o, uint64_t n) {
    struct shm_party *h;
    uint64_t died = get(&o->words[DIED]);
    int r = sync_holder_make(s, o, sync_actor(s), 'u', &h);
    r = r ? r : tx_need(s, 3);
    if (r) {
        return r;
    }
    tx_set(s, &h->count, get(&h->count) + n);
    tx_set(s, &o->words[VALUE], get(&o->words[VALUE]) - n);
    if (died) {
        tx_set(s, &o->words[DIED], 0);
    }
    return died ? SYNC_DIED : 0;
}

int sync_sem_acquire(struct shm *s, const struct key_name *name, uint64_t n, unsigned flags) {
    struct shm_sync *o;
    struct shm_party *p, *h;
    int r = sync_open(s, name, KEY_SEM, false, &o, NULL);
    if (r) {
        return r;
    }
    if (n == 0 || n > VALUE_MAX || n > get(&o->words[BOUND])) {
        return -EINVAL;
    }
    p = sync_first(s, o, &r);
    if (r) {
        return r;
    }
    if (!p && get(&o->words[VALUE]) < n) {
        r = take_back(s, o);
        if (r) {
            return r;
        }
    }
    if (!p && get(&o->words[VALUE]) >= n) {
        return take(s, o, n);
    }
    if (!(flags & SYNC_WAIT)) {
        return -EBUSY;
    }
    r = sync_holder_make(s, o, sync_actor(s), 'u', &h);
    if (r) {
        return r;
    }
    int parked = sync_park(s, o, 'u', n, flags, &p);
    if (parked != -EINPROGRESS) {
        return parked;
    }
    r = tx_need(s, 1);
    if (r == 0) {
        tx_set(s, &p->data[HOLDER], sync_off(s, h));
    }
    return r ? r : parked;
}

int sync_sem_release(struct shm *s, const struct key_name *name, uint64_t n) {
    struct shm_sync *o;
    int r = sync_open(s, name, KEY_SEM, false, &o, NULL);
    if (r) {
        return r;
    }
    uint64_t value = get(&o->words[VALUE]), most = most_of(o);
    if (n == 0) {
        return -EINVAL;
    }
    if (value > most || n > most - value) {
        return -EOVERFLOW;
    }
    struct shm_party *h = sync_holder(s, o, sync_actor(s));
    r = tx_need(s, 2);
    if (r) {
        return r;
    }
    tx_set(s, &o->words[VALUE], value + n);
    if (h && get(&h->count) > n) {
        tx_set(s, &h->count, get(&h->count) - n);
    } else if (h) {
        r = sync_holder_drop(s, o, h);
    }
    return r ? r : hand_out(s, o);
}

int64_t sync_sem_value(struct shm *s, const struct key_name *name) {
    struct shm_sync *o;
    int r = sync_find(s, name, KEY_SEM, &o);
    return r ? r : (int64_t)(get(&o->words[VALUE]) & VALUE_MAX);
}

/* Its block goes, unless it has units of before; and who stood behind it may now have what there is. */
static int left(struct shm *s, struct shm_sync *o, struct shm_party *p, bool died) {
    struct shm_party *h = holder_of(s, o, p);
    int r = h && !died && get(&h->count) == 0 ? sync_holder_drop(s, o, h) : 0;
    return r ? r : hand_out(s, o);
}

const struct sync_kind sync_kind_sem = {.bury = bury, .left = left, .look = look};
