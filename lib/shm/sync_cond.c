/* SPDX-License-Identifier: MIT */
/* Conditions. To wait is to stand in the condition's line and to let go of the lock, in one operation; to be notified is to be
 * answered. Whoever comes for that answer takes the lock again, or moves from his seat's place in the condition's line to one in the
 * lock's: it is the same party, so he waits for one thing at any time. His call ends when he has the lock, as often as
 * he had it before. One whose time is over goes the same way, and is told so at its end.
 *
 * Anybody may notify, whether he holds the lock or not.
 *
 * Deaths: a notification that its receiver dies with, before he came for it, goes to the next in line. When the holder of
 * a lock dies, he may have changed what others wait for and told nobody: everybody who waits for a condition with that lock is
 * woken to look again. For that a lock remembers its conditions, the last few, and the burial of the holder passes
 * them on (sync_cond_recheck).
 *
 * Fails: as sync.h says. */
#include <errno.h>

#include "lib/shm/internal.h"
#include "lib/shm/lock.h"
#include "lib/shm/op.h"
#include "lib/shm/sync_private.h"

enum { TRIES = 64 };
enum {
    LOCK,
    BIRTH,
    TIMES
}; /* data of a waiting party: offset and birth of its lock, how often it had it */

static struct shm_sync *lock_of(const struct shm *s, const struct shm_party *p) {
    struct shm_sync *o = sync_at(s, get(&p->data[LOCK]));
    bool same = o && (sync_type(o) == KEY_LOCK || sync_type(o) == KEY_RLOCK) &&
                get(&o->birth) == get(&p->data[BIRTH]) && get(&o->place) >> 32 == SYNC_LIVES;
    return same ? o : NULL;
}

/* The lock remembers that the condition is used with it. */
static int remember(struct shm *s, struct shm_sync *lock, const struct shm_sync *cond) {
    uint64_t off = sync_off(s, cond), birth = get(&cond->birth);
    for (unsigned i = 0; i < LOCK_CONDS; i++) {
        if (get(&lock->words[2 * i]) == off && get(&lock->words[2 * i + 1]) == birth) {
            return 0;
        }
    }
    unsigned at = (unsigned)(get(&lock->words[LOCK_NEXT_COND]) % LOCK_CONDS);
    int r = tx_need(s, 3);
    if (r == 0) {
        tx_set(s, &lock->words[2 * at], off);
        tx_set(s, &lock->words[2 * at + 1], birth);
        tx_set(s, &lock->words[LOCK_NEXT_COND], at + 1);
    }
    return r;
}

int sync_cond_wait(struct shm *s, const struct key_name *cond, const struct key_name *lock,
                   unsigned flags) {
    struct shm_sync *c, *l;
    struct shm_party *p;
    uint64_t times;
    if (!(flags & SYNC_WAIT)) {
        return -EBUSY;
    }
    int r = sync_lock_held(s, lock, &l);
    r = r ? r : sync_open(s, cond, KEY_COND, true, &c, NULL);
    r = r ? r : remember(s, l, c);
    if (r) {
        return r;
    }
    r = sync_park(s, c, 'w', 0, flags, &p);
    if (r != -EINPROGRESS) {
        return r;
    }
    r = sync_lock_let_go(s, l, &times);
    r = r ? r : tx_need(s, 3);
    if (r) {
        return r;
    }
    tx_set(s, &p->data[LOCK], sync_off(s, l));
    tx_set(s, &p->data[BIRTH], get(&l->birth));
    tx_set(s, &p->data[TIMES], times);
    return -EINPROGRESS;
}

int64_t sync_cond_notify(struct shm *s, const struct key_name *cond, uint64_t n) {
    struct shm_sync *c;
    struct shm_party *p;
    uint64_t told = 0;
    int r = sync_open(s, cond, KEY_COND, false, &c, NULL);
    if (r) {
        return r == -ENOENT ? 0 : r;
    }
    if (n >= get(&c->waiting)) {
        return sync_answer_all(s, c, 0);
    }
    for (; told < n && (p = sync_first(s, c, &r)); told++) {
        r = sync_answer(s, c, p, 0);
        if (r) {
            break;
        }
    }
    return r ? r : (int64_t)told;
}

/* ---- what the core asks ---- */

static uint64_t also(struct shm *s, const struct shm_party *p) {
    const struct shm_sync *o = lock_of(s, p);
    return o ? UINT64_C(1) << sync_shard(o) : 0;
}

/* To the lock: 0 or SYNC_DIED: it is his; -EINPROGRESS: he stands in its line; -EIDRM: it is gone; -EAGAIN: it has moved to
 * a shard that is not held. */
static int go_to_lock(struct shm *s, struct shm_party *p, unsigned mode) {
    struct shm_sync *o = lock_of(s, p);
    if (!o) {
        return -EIDRM;
    }
    return s->op_shards >> sync_shard(o) & 1
               ? sync_lock_take_again(s, o, p, mode, get(&p->data[TIMES]))
               : -EAGAIN;
}

static int collect(struct shm *s, struct shm_sync *o, struct shm_party *p, int *answer) {
    (void)o;
    int r = go_to_lock(s, p, SYNC_MODE_AGAIN);
    if (r == 0 || r == SYNC_DIED || r == -EINPROGRESS || r == -EIDRM) {
        *answer = r;
        return 0;
    }
    return r;
}

/* Its time is over: it has been answered, which stands only if it gets the lock at once. */
static int left(struct shm *s, struct shm_sync *o, struct shm_party *p, bool died) {
    (void)o;
    if (died) {
        return 0;
    }
    int r = go_to_lock(s, p, SYNC_MODE_LATE);
    if (r == -EIDRM) {
        r = tx_need(s, 1);
        if (r == 0) {
            tx_set(s, &p->state, party_word(PARTY_ANSWERED, KEY_COND, 'w', -EIDRM));
        }
    }
    return r == SYNC_DIED || r == -EINPROGRESS ? 0 : r;
}

static int undo(struct shm *s, struct shm_sync *o, unsigned shard, struct shm_party *p) {
    int r = 0;
    (void)shard;
    (void)p;
    struct shm_party *next = o ? sync_first(s, o, &r) : NULL;
    return next ? sync_answer(s, o, next, 0) : r;
}

const struct sync_kind sync_kind_cond = {
    .left = left, .collect = collect, .undo = undo, .also = also};

/* ---- the death of a lock's holder ---- */

struct recheck {
    uint64_t lock, held;
    bool elsewhere;
};

/* The condition that a lock remembers at this place, if it is still there. */
static struct shm_sync *cond_of(const struct shm *s, const struct shm_sync *lock, unsigned i) {
    struct shm_sync *o = sync_at(s, get(&lock->words[2 * i]));
    bool same = o && sync_type(o) == KEY_COND && get(&o->birth) == get(&lock->words[2 * i + 1]) &&
                get(&o->place) >> 32 == SYNC_LIVES;
    return same ? o : NULL;
}

static uint64_t shards_of(const struct shm *s, const struct shm_sync *lock) {
    uint64_t shards = UINT64_C(1) << sync_shard(lock);
    for (unsigned i = 0; i < LOCK_CONDS; i++) {
        const struct shm_sync *o = cond_of(s, lock, i);
        shards |= o ? UINT64_C(1) << sync_shard(o) : 0;
    }
    return shards;
}

/* Those who wait for this condition with this lock. One condition is meant to be used with one lock, so that is everybody. */
static int recheck(struct shm *s, void *arg) {
    struct recheck *a = arg;
    struct shm_sync *lock = sync_at(s, a->lock);
    a->elsewhere = lock && shards_of(s, lock) & ~a->held;
    if (!lock || a->elsewhere) {
        return 0;
    }
    for (unsigned i = 0; i < LOCK_CONDS; i++) {
        struct shm_sync *o = cond_of(s, lock, i);
        int64_t n = o ? sync_answer_all(s, o, 0) : 0;
        if (n < 0) {
            return (int)n;
        }
    }
    int r = tx_need(s, 2 * LOCK_CONDS + 2);
    for (unsigned i = 0; r == 0 && i <= LOCK_RECHECK; i++) {
        op_changes(s, sync_shard(lock));
        tx_set(s, &lock->words[i], 0); /* who waits again is remembered again */
    }
    return r;
}

int sync_cond_recheck(struct shm *s, uint64_t lock) {
    for (int i = 0; i < TRIES; i++) {
        const struct shm_sync *o = sync_at(s, lock);
        struct recheck a = {.lock = lock, .held = o ? shards_of(s, o) : 0};
        int r = o ? op_run(s, a.held, recheck, &a) : 0;
        if (r < 0 || !a.elsewhere) {
            return r < 0 ? -EAGAIN : 0;
        }
    }
    return -EAGAIN;
}
