/* SPDX-License-Identifier: MIT */
/* Sync objects and parties: what all kinds have in common.
 *
 * An object is a key whose block lies in a list of its shard, so that the end of an owner finds what it held. Blocks are never
 * given back to the allocator but kept for the next sync object of the shard: whoever holds on to an offset for its fast path
 * finds a word with another serial there, or one with W.
 *
 * All changes are made by tx_set() with the shard's lock held, with two exceptions. The words of locks change by compare-and-swap
 * while W is clear, and W itself is set by one: nothing is logged then, so nothing can be rolled back over a change of somebody
 * else. It is cleared after the commit, still with the lock held, if nobody stands in line; who dies before leaves a W
 * behind that makes the next one take the longer way and clear it. And blocks that are new to the operation are filled plainly.
 *
 * A party that waits lies in the seat of its owner, and so does its answer: who grants needs no memory, and can be killed
 * anywhere. Waking comes after the commit; who dies between is followed by slot_bury(), which wakes everybody who waits.
 *
 * Fails: as sync.h says. Offsets found in the segment are checked before use, walks are bounded. */
#include "lib/shm/sync_private.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/shm/account.h"
#include "lib/shm/alloc.h"
#include "lib/shm/internal.h"
#include "lib/shm/lock.h"
#include "lib/shm/op.h"

enum { HOLDERS_APART = 16 };

static const struct sync_kind *const kinds[KEY_TYPES] = {
    [KEY_ARRAY] = &sync_kind_array, [KEY_LOCK] = &sync_kind_lock,
    [KEY_RLOCK] = &sync_kind_rlock, [KEY_RWLOCK] = &sync_kind_rwlock,
    [KEY_SEM] = &sync_kind_sem,     [KEY_EVENT] = &sync_kind_event,
    [KEY_COND] = &sync_kind_cond,   [KEY_BARRIER] = &sync_kind_barrier,
    [KEY_QUEUE] = &sync_kind_queue, [KEY_PIPE] = &sync_kind_pipe,
};

const struct sync_kind *sync_kind_of(unsigned type) {
    return type < KEY_TYPES ? kinds[type] : NULL;
}

uint64_t sync_off(const struct shm *s, const void *at) {
    return at ? (uint64_t)((const uint8_t *)at - s->base) : 0;
}

struct shm_sync *sync_at(const struct shm *s, uint64_t off) {
    struct shm_sync *o = off ? alloc_ptr(s, off, sizeof(*o)) : NULL;
    return o && key_is_sync(sync_type(o)) ? o : NULL;
}

struct shm_party *sync_party_at(const struct shm *s, uint64_t off) {
    uint64_t first = sync_off(s, &s->seats[0].waiting);
    if (off >= first && (off - first) / sizeof(struct shm_seat) < s->n_seats) {
        return (off - first) % sizeof(struct shm_seat) ? NULL : (void *)(s->base + off);
    }
    return off ? alloc_ptr(s, off, sizeof(struct shm_party)) : NULL;
}

/* ---- words of locks ---- */

/* Only these kinds have words that change without the shard's lock. */
static bool has_fast_word(const struct shm_sync *o) {
    return sync_type(o) == KEY_LOCK || sync_type(o) == KEY_RLOCK;
}

void sync_pin(struct shm *s, struct shm_sync *o) {
    assert(s->op_shards >> sync_shard(o) & 1);
    if (!has_fast_word(o)) {
        return;
    }
    uint64_t v = get(&o->word);
    while (!(v & SYNC_W) && !atomic_compare_exchange_weak(&o->word, &v, v | SYNC_W)) {
    }
    /* one that is not noted keeps W until the next one comes along */
    if (s->after.pins < ARRAY_SIZE(s->after.pin)) {
        s->after.pin[s->after.pins++] = sync_off(s, o);
    }
}

void sync_unpin(struct shm *s, uint32_t pins) {
    while (s->after.pins > pins) {
        struct shm_sync *o = sync_at(s, s->after.pin[--s->after.pins]);
        if (!o || !has_fast_word(o) || get(&o->place) >> 32 != SYNC_LIVES || get(&o->first) ||
            get(&o->words[LOCK_DIED])) {
            continue;
        }
        uint64_t v = get(&o->word);
        if (v & SYNC_W) {
            atomic_compare_exchange_strong(&o->word, &v, v & ~SYNC_W);
        }
    }
}

/* ---- objects ---- */

static int link_object(struct shm *s, unsigned shard, struct shm_sync *o) {
    struct shm_shard *d = &s->shards[shard];
    struct shm_sync *next = sync_at(s, get(&d->syncs));
    int r = tx_need(s, 4);
    if (r == 0) {
        tx_set(s, &o->next, get(&d->syncs));
        tx_set(s, &o->prev, 0);
        if (next) {
            tx_set(s, &next->prev, sync_off(s, o));
        }
        tx_set(s, &d->syncs, sync_off(s, o));
    }
    return r;
}

static int unlink_object(struct shm *s, unsigned shard, struct shm_sync *o) {
    struct shm_sync *next = sync_at(s, get(&o->next)), *prev = sync_at(s, get(&o->prev));
    int r = tx_need(s, 2);
    if (r == 0) {
        tx_set(s, prev ? &prev->next : &s->shards[shard].syncs, get(&o->next));
        if (next) {
            tx_set(s, &next->prev, get(&o->prev));
        }
    }
    return r;
}

/* A block: one of a former object, or a new one. Its word has a serial that nobody has seen. */
static int take_block(struct shm *s, unsigned shard, struct shm_sync **ret) {
    struct shm_shard *d = &s->shards[shard];
    uint64_t off = get(&d->sync_free);
    struct shm_sync *o = off ? alloc_ptr(s, off, sizeof(*o)) : NULL;
    int r = tx_need(s, 8);
    if (r || !o) {
        r = r ? r : alloc_tx(s, sizeof(*o), &off);
        if (r == 0) {
            *ret = (void *)(s->base + off);
            memset(*ret, 0, sizeof(**ret));
            put(&(*ret)->word, sync_word(1, false, 0));
        }
        return r;
    }
    tx_set(s, &d->sync_free, get(&o->link));
    tx_set(s, &o->link, 0);
    tx_set(s, &o->birth, get(&o->birth) + 1);
    account_took(s, (int64_t)alloc_size(s, off));
    tx_set(s, &o->word, sync_word(sync_word_serial(get(&o->word)) + 1, false, 0));
    *ret = o;
    return 0;
}

int sync_make(struct shm *s, unsigned shard, enum key_type type, uint64_t *ret_off) {
    struct shm_sync *o;
    int r = take_block(s, shard, &o);
    if (r) {
        return r;
    }
    /* nothing looks at what a free block holds beyond the words that are logged above */
    put(&o->kind, type | (uint64_t)s->account << KEY_ACCOUNT_SHIFT);
    put(&o->place, shard);
    _Atomic uint64_t *words[] = {&o->extra,   &o->since,   &o->first,    &o->last,
                                 &o->waiting, &o->holders, &o->n_holders};
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        put(words[i], 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(o->words); i++) {
        put(&o->words[i], 0);
    }
    if (!has_fast_word(o)) {
        tx_set(s, &o->word, get(&o->word) | SYNC_W);
    }
    *ret_off = sync_off(s, o);
    return link_object(s, shard, o);
}

static int object_of(struct shm *s, const struct key *key, struct shm_sync **ret) {
    struct shm_sync *o = sync_at(s, get(&key->k->object));
    if (!o || sync_type(o) != key_type(key) || sync_shard(o) != key->name.shard) {
        return -ESTALE;
    }
    *ret = o;
    return 0;
}

int sync_open(struct shm *s, const struct key_name *name, enum key_type type, bool make,
              struct shm_sync **ret, bool *ret_made) {
    struct key key;
    int r = key_find_write(s, name, &key);
    bool made = r == -ENOENT && make;
    if (made) {
        r = key_make(s, name, type, 0, &key);
    } else if (r == 0 && key_type(&key) != type) {
        r = -EPROTOTYPE;
    }
    r = r ? r : object_of(s, &key, ret);
    if (r == 0) {
        op_changes(s, name->shard);
        key_used(&key);
    }
    if (r == 0 && ret_made) {
        *ret_made = made;
    }
    return r == -ESTALE ? -EBADMSG : r;
}

int sync_find(struct shm *s, const struct key_name *name, enum key_type type,
              struct shm_sync **ret) {
    struct key key;
    int r = key_find_typed(s, name, type, &key);
    return r ? r : object_of(s, &key, ret);
}

int sync_doom(struct shm *s, unsigned shard, uint64_t off) {
    struct shm_shard *d = &s->shards[shard];
    struct shm_sync *o = sync_at(s, off);
    if (!o) {
        return 0; /* damaged by somebody */
    }
    sync_pin(s, o);
    int64_t n = sync_answer_all(s, o, -EIDRM);
    int r = n < 0 ? (int)n : tx_need(s, 4);
    if (r == 0) {
        tx_set(s, &o->place, shard | (uint64_t)SYNC_GONE << 32);
        tx_set(s, &o->link, get(&d->doomed));
        tx_set(s, &d->doomed, off);
    }
    return r;
}

int sync_renamed(struct shm *s, uint64_t off, unsigned to) {
    struct shm_sync *o = sync_at(s, off);
    if (!o) {
        return -EBADMSG;
    }
    unsigned from = sync_shard(o);
    sync_pin(s, o);
    int r = tx_need(s, 8);
    if (r) {
        return r;
    }
    /* who still goes by the former name finds another serial, and looks the name up */
    uint64_t v = get(&o->word);
    tx_set(s, &o->word, sync_word(sync_word_serial(v) + 1, v & SYNC_W, sync_word_owner(v)));
    if (from == to) {
        return 0;
    }
    op_changes(s, from);
    op_changes(s, to);
    atomic_fetch_or(&s->head->strays, UINT64_C(1) << to);
    r = unlink_object(s, from, o);
    r = r ? r : link_object(s, to, o);
    if (r == 0) {
        tx_set(s, &o->place, to | (get(&o->place) >> 32) << 32);
    }
    return r;
}

static int drop_holders(struct shm *s, struct shm_sync *o) {
    for (int i = 0; i < HOLDERS_APART && get(&o->holders) && get(&o->n_holders); i++) {
        struct shm_party *p = sync_party_at(s, get(&o->holders));
        int r = tx_need(s, 8);
        r = r || p ? r : -EBADMSG;
        r = r ? r : sync_holder_drop(s, o, p);
        if (r == -EBADMSG) {
            tx_set(s, &o->holders, 0); /* damaged: what is behind it cannot be found */
            r = 0;
        }
        if (r) {
            return r;
        }
    }
    if (get(&o->holders) && !get(&o->n_holders)) {
        int r = tx_need(s, 1);
        if (r) {
            return r;
        }
        tx_set(s, &o->holders, 0); /* damaged: it goes in circles */
    }
    return get(&o->holders) != 0;
}

/* Off the list of the doomed, whose first it is. */
static int keep_object(struct shm *s, unsigned shard, struct shm_sync *o) {
    int r = tx_need(s, 4);
    if (r == 0) {
        tx_set(s, &s->shards[shard].doomed, get(&o->link));
        tx_set(s, &o->link, 0);
        tx_set(s, &o->place, shard | (uint64_t)SYNC_KEPT << 32);
    }
    return r;
}

int sync_kept_no_more(struct shm *s, struct shm_sync *o) {
    unsigned shard = sync_shard(o);
    int r = tx_need(s, 4);
    if (r == 0 && get(&o->place) >> 32 == SYNC_KEPT) {
        struct shm_shard *d = &s->shards[shard];
        op_changes(s, shard);
        tx_set(s, &o->place, shard | (uint64_t)SYNC_GONE << 32);
        tx_set(s, &o->link, get(&d->doomed));
        tx_set(s, &d->doomed, sync_off(s, o));
    }
    return r;
}

int sync_take_apart(struct shm *s, unsigned shard, struct shm_sync *o) {
    const struct sync_kind *k = sync_kind_of(sync_type(o));
    int r = k && k->take_apart ? k->take_apart(s, shard, o) : 0;
    if (r == SYNC_KEEP) {
        return keep_object(s, shard, o);
    }
    r = r ? r : drop_holders(s, o);
    r = r ? r : unlink_object(s, shard, o);
    r = r ? r : tx_need(s, 4);
    if (r) {
        return r;
    }
    struct shm_shard *d = &s->shards[shard];
    uint64_t size = alloc_size(s, sync_off(s, o)), next = get(&o->link);
    tx_set(s, &d->doomed, next);
    tx_set(s, &o->link, get(&d->sync_free));
    tx_set(s, &d->sync_free, sync_off(s, o));
    account_took(s, -(int64_t)size);
    return 0;
}

int sync_blocks(struct shm *s, const struct shm_sync *o,
                int (*fn)(void *arg, uint64_t off, uint64_t bytes), void *arg) {
    const struct sync_kind *k = sync_kind_of(sync_type(o));
    uint64_t off = get(&o->holders), n = 0;
    while (off) {
        const struct shm_party *p = sync_party_at(s, off);
        int r = p && n++ < s->size / sizeof(*p) ? fn(arg, off, sizeof(*p)) : -ESTALE;
        if (r) {
            return r;
        }
        off = get(&p->next);
    }
    return k && k->blocks ? k->blocks(s, o, fn, arg) : 0;
}

/* ---- parties that wait ---- */

void sync_wake(struct shm *s, uint32_t owner) {
    uint32_t n = s->after.wakes;
    if (n < ARRAY_SIZE(s->after.wake)) {
        s->after.wake[n] = owner_slot(owner);
    }
    if (n <= ARRAY_SIZE(s->after.wake)) {
        s->after.wakes++;
    }
}

static uint64_t now_ms(void) {
    return clock_now() / NS_PER_MS;
}

static int join_line(struct shm *s, struct shm_sync *o, struct shm_party *p, bool front) {
    uint64_t off = sync_off(s, p);
    struct shm_party *prev = front ? NULL : sync_party_at(s, get(&o->last));
    struct shm_party *next = front ? sync_party_at(s, get(&o->first)) : NULL;
    tx_set(s, &p->prev, sync_off(s, prev));
    tx_set(s, &p->next, sync_off(s, next));
    tx_set(s, prev ? &prev->next : &o->first, off);
    tx_set(s, next ? &next->prev : &o->last, off);
    tx_set(s, &o->waiting, get(&o->waiting) + 1);
    return 0;
}

static int leave_line(struct shm *s, struct shm_sync *o, struct shm_party *p) {
    struct shm_party *prev = sync_party_at(s, get(&p->prev)),
                     *next = sync_party_at(s, get(&p->next));
    int r = tx_need(s, 4);
    if (r == 0) {
        tx_set(s, prev ? &prev->next : &o->first, sync_off(s, next));
        tx_set(s, next ? &next->prev : &o->last, sync_off(s, prev));
        tx_set(s, &o->waiting, get(&o->waiting) - 1);
    }
    return r;
}

int sync_park_again(struct shm *s, struct shm_sync *o, struct shm_party *p, unsigned mode,
                    uint64_t count, bool front) {
    int r = tx_need(s, 16);
    if (r) {
        return r;
    }
    op_changes(s, sync_shard(o));
    sync_pin(s, o);
    tx_set(s, &p->object, sync_off(s, o));
    tx_set(s, &p->state, party_word(PARTY_WAITS, sync_type(o), mode, 0));
    tx_set(s, &p->who, party_owner(p) | get(&o->birth) << 32);
    tx_set(s, &p->since, now_ms());
    tx_set(s, &p->count, count);
    return join_line(s, o, p, front);
}

int sync_park(struct shm *s, struct shm_sync *o, unsigned mode, uint64_t count, unsigned flags,
              struct shm_party **ret) {
    uint32_t me = sync_actor(s);
    struct shm_seat *seat = sync_seat(s, me);
    if (!(flags & SYNC_WAIT)) {
        return -EBUSY;
    }
    if (!seat || get(&seat->waiting.object)) {
        return seat ? -EALREADY : -EPERM;
    }
    int r = tx_need(s, 24);
    if (r) {
        return r;
    }
    struct shm_party *p = &seat->waiting;
    sync_enrol(s, sync_shard(o));
    atomic_store_explicit(&s->head->parked, 1, memory_order_relaxed);
    tx_set(s, &p->who, me);
    for (size_t i = 0; i < ARRAY_SIZE(p->data); i++) {
        if (get(&p->data[i])) {
            tx_set(s, &p->data[i], 0);
        }
    }
    r = sync_park_again(s, o, p, mode, count, false);
    if (r == 0 && ret) {
        *ret = p;
    }
    return r ? r : -EINPROGRESS;
}

int sync_answer(struct shm *s, struct shm_sync *o, struct shm_party *p, int answer) {
    int r = tx_need(s, 8);
    r = r ? r : leave_line(s, o, p);
    if (r == 0) {
        uint64_t v = get(&p->state);
        op_changes(s, sync_shard(o));
        tx_set(s, &p->state, party_word(PARTY_ANSWERED, party_kind(v), party_mode(v), answer));
        sync_wake(s, party_owner(p));
    }
    return r;
}

int64_t sync_answer_all(struct shm *s, struct shm_sync *o, int answer) {
    uint64_t most = sync_at_most(s, &o->waiting);
    int64_t n = 0;
    int r = tx_need(s, 4);
    if (r) {
        return r;
    }
    op_changes(s, sync_shard(o));
    for (struct shm_party *p = sync_party_at(s, get(&o->first)); p && (uint64_t)n < most; n++) {
        uint64_t v = get(&p->state);
        r = tx_need(s, 4);
        if (r) {
            return r;
        }
        tx_set(s, &p->state, party_word(PARTY_ANSWERED, party_kind(v), party_mode(v), answer));
        sync_wake(s, party_owner(p));
        p = sync_party_at(s, get(&p->next));
    }
    if (get(&o->first)) {
        tx_set(s, &o->first, 0);
        tx_set(s, &o->last, 0);
        tx_set(s, &o->waiting, 0);
    }
    return n;
}

struct shm_party *sync_next(const struct shm *s, const struct shm_party *p) {
    return sync_party_at(s, get(&p->next));
}

struct shm_party *sync_first_of(const struct shm *s, const struct shm_sync *o) {
    return sync_party_at(s, get(&o->first));
}

struct shm_party *sync_first(struct shm *s, struct shm_sync *o, int *ret) {
    struct shm_party *p;
    *ret = 0;
    for (uint64_t most = sync_at_most(s, &o->waiting);
         (p = sync_party_at(s, get(&o->first))) && most; most--) {
        if (!sync_is_dead(s, party_owner(p))) {
            return p;
        }
        *ret = sync_answer(s, o, p, -EOWNERDEAD); /* nobody will come for it */
        if (*ret) {
            return NULL;
        }
    }
    return NULL;
}

/* ---- parties that hold ---- */

struct shm_party *sync_holders(const struct shm *s, const struct shm_sync *o) {
    return sync_party_at(s, get(&o->holders));
}

struct shm_party *sync_holder(const struct shm *s, const struct shm_sync *o, uint32_t owner) {
    struct shm_party *p = sync_party_at(s, get(&o->holders));
    for (uint64_t n = sync_at_most(s, &o->n_holders); p && n > 0; n--) {
        if (party_owner(p) == owner) {
            return p;
        }
        p = sync_party_at(s, get(&p->next));
    }
    return NULL;
}

int sync_holder_make(struct shm *s, struct shm_sync *o, uint32_t owner, unsigned mode,
                     struct shm_party **ret) {
    uint64_t off;
    struct shm_party *p = sync_holder(s, o, owner);
    if (p) {
        *ret = p;
        return 0;
    }
    unsigned shard = sync_shard(o);
    op_changes(s, shard);
    account_pays(s, shard, kind_account(get(&o->kind)));
    int r = alloc_tx(s, sizeof(*p), &off);
    r = r ? r : tx_need(s, 4);
    if (r) {
        return r;
    }
    p = (void *)(s->base + off);
    memset(p, 0, sizeof(*p));
    struct shm_party *next = sync_party_at(s, get(&o->holders));
    put(&p->object, sync_off(s, o));
    put(&p->who, owner | get(&o->birth) << 32);
    put(&p->since, now_ms());
    put(&p->state, party_word(PARTY_HOLDS, sync_type(o), mode, 0));
    put(&p->next, sync_off(s, next));
    if (next) {
        tx_set(s, &next->prev, off);
    }
    tx_set(s, &o->holders, off);
    tx_set(s, &o->n_holders, get(&o->n_holders) + 1);
    if (owner == sync_actor(s)) {
        sync_enrol(s, shard);
    }
    *ret = p;
    return 0;
}

int sync_holder_drop(struct shm *s, struct shm_sync *o, struct shm_party *p) {
    struct shm_party *prev = sync_party_at(s, get(&p->prev)),
                     *next = sync_party_at(s, get(&p->next));
    unsigned shard = sync_shard(o);
    int r = tx_need(s, 8);
    if (r) {
        return r;
    }
    op_changes(s, shard);
    tx_set(s, prev ? &prev->next : &o->holders, sync_off(s, next));
    if (next) {
        tx_set(s, &next->prev, sync_off(s, prev));
    }
    tx_set(s, &o->n_holders, get(&o->n_holders) - 1);
    account_pays(s, shard, kind_account(get(&o->kind)));
    op_free(s, shard, sync_off(s, p));
    return 0;
}
