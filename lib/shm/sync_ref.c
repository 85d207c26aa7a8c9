/* SPDX-License-Identifier: MIT */
/* The short way to a lock that nobody else wants: a few loads and one compare-and-swap, without the shard's lock.
 *
 * What a handle knows of the object (its place, its serial) may be out of date at any moment; the compare-and-swap finds that
 * out. The block is a sync object's for ever, its serial moves on when it is used anew or gets another name, and W is set for
 * good when it is deleted. Only keys_flush() leaves objects behind as they are: it is counted in `flushes`. An acquisition may so
 * come just before a deletion, but never after it.
 *
 * The bit that says where its end has to look is set before the word is; and whoever dies right after the swap has a word that
 * says so. `extra` is the owner's alone.
 *
 * Fails: -EBUSY: the other way must be taken, whatever the reason. */
#include <errno.h>

#include "lib/shm/alloc.h"
#include "lib/shm/internal.h"
#include "lib/shm/op.h"
#include "lib/shm/sync_private.h"

struct finding {
    struct sync_ref *ref;
    enum key_type type;
    uint64_t off, flushes;
    uint32_t serial;
};

static int find_object(struct shm *s, void *arg) {
    struct finding *f = arg;
    struct shm_sync *o;
    int r = sync_find(s, &f->ref->name, f->type, &o);
    if (r == 0) {
        f->off = sync_off(s, o);
        f->flushes = get(&s->shards[f->ref->name.shard].flushes);
        f->serial = sync_word_serial(get(&o->word));
    }
    return r;
}

/* Looks the name up; NULL: there is no such lock. */
static struct shm_sync *look_up(struct shm *s, struct sync_ref *ref, enum key_type type) {
    struct finding f = {.ref = ref, .type = type};
    ref->off = 0;
    if (s->op_depth || op_read(s, ref->name.shard, find_object, &f)) {
        return NULL;
    }
    ref->off = f.off;
    ref->flushes = f.flushes;
    ref->serial = f.serial;
    return (void *)(s->base + f.off);
}

/* As it was when last seen, without a look at whether it is still the same. */
static inline struct shm_sync *seen(const struct shm *s, const struct sync_ref *ref) {
    const _Atomic uint64_t *flushes = &s->shards[ref->name.shard].flushes;
    return ref->off && get(flushes) == ref->flushes ? (void *)(s->base + ref->off) : NULL;
}

static inline bool swap_owner(struct shm_sync *o, const struct sync_ref *ref, uint32_t from,
                              uint32_t to, memory_order order) {
    uint64_t v = sync_word(ref->serial, false, from);
    return atomic_compare_exchange_strong_explicit(&o->word, &v, sync_word(ref->serial, false, to),
                                                   order, memory_order_relaxed);
}

static inline bool is_same(const struct shm_sync *o, const struct sync_ref *ref) {
    return sync_word_serial(get(&o->word)) == ref->serial;
}

static int acquire(struct shm *s, struct sync_ref *ref, enum key_type type) {
    struct shm_sync *o = seen(s, ref);
    if (!o || !is_same(o, ref)) {
        o = look_up(s, ref, type);
    }
    if (!o) {
        return -EBUSY;
    }
    sync_enrol(s, ref->name.shard);
    if (!swap_owner(o, ref, 0, sync_actor(s), memory_order_acquire)) {
        return -EBUSY;
    }
    put(&o->since, 0);
    return 0;
}

int sync_ref_lock(struct shm *s, struct sync_ref *ref) {
    return acquire(s, ref, KEY_LOCK);
}

int sync_ref_unlock(struct shm *s, struct sync_ref *ref) {
    struct shm_sync *o = seen(s, ref);
    return o && swap_owner(o, ref, sync_actor(s), 0, memory_order_release) ? 0 : -EBUSY;
}

/* Whether the word says that the rlock is the actor's. Nobody but the actor changes that. */
static inline bool is_mine(const struct shm *s, const struct shm_sync *o,
                           const struct sync_ref *ref) {
    uint64_t v = get(&o->word);
    return sync_word_serial(v) == ref->serial && sync_word_owner(v) == sync_actor(s);
}

int sync_ref_rlock(struct shm *s, struct sync_ref *ref) {
    struct shm_sync *o = seen(s, ref);
    if (o && is_mine(s, o, ref)) {
        put(&o->extra, get(&o->extra) + 1);
        return 0;
    }
    return acquire(s, ref, KEY_RLOCK);
}

int sync_ref_runlock(struct shm *s, struct sync_ref *ref) {
    struct shm_sync *o = seen(s, ref);
    if (!o || !is_mine(s, o, ref)) {
        return -EBUSY;
    }
    if (get(&o->extra)) {
        put(&o->extra, get(&o->extra) - 1);
        return 1;
    }
    return swap_owner(o, ref, sync_actor(s), 0, memory_order_release) ? 0 : -EBUSY;
}
