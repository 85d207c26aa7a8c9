/* SPDX-License-Identifier: MIT */
/* The journal of durable keys. It does not say what was done but what is no longer as it is on the disk: a key, a field of
 * a dict, an element of a list. So an entry is noted once however often its subject changes, and whoever writes it down
 * reads how it is now; to do so twice is to do it once.
 *
 * Each shard has two hash tables (hash.h) of entries. Changes go into the one that fills, as part of their own transaction; the
 * daemon, in one operation over all shards that have entries, copies what these name and lets the tables change places, and
 * empties the other one when the copies are on the disk. An operation is thus in one batch with all it changed, whatever the
 * number of shards. A daemon that dies in between leaves a table that is not empty: its successor copies both, and only
 * then do they change places again.
 *
 *     entry    key: length of the name (32) | kind (32), name, field      value: one word, 1: the whole key
 *
 * When the whole key is noted its fields and elements need no entries. The header's word of shards is written before the commit, so a
 * death right behind it hides nothing; a bit without an entry costs one look.
 *
 * Nobody pays for the tables: what is noted is gone soon. Fails: as dirty.h says. */
#include "lib/shm/dirty.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "lib/base/clock.h"
#include "lib/shm/internal.h"
#include "lib/shm/lock.h"
#include "lib/shm/op.h"

enum { SHORT = 512, APART = 16 };

_Static_assert(sizeof(DURABLE_PREFIX) == sizeof(uint64_t) + 1, "one word");

struct entry_head {
    uint32_t name_len, kind;
};

void dirty_set_state(struct shm *s, enum dirty_state state) {
    atomic_store(&s->head->durable, (uint32_t)state);
    dirty_say(s, get32(&s->head->drains_begun), get32(&s->head->drains_done));
}

/* 0; 1: it need not be noted; or why it must not be changed. What goes because its time is over goes in any case. */
static int may_change(const struct shm *s) {
    uint32_t state = get32(&s->head->durable);
    if (s->op_restoring) {
        return 1;
    }
    if (state == DIRTY_READY) {
        return 0;
    }
    if (s->op_expiring) {
        return state == DIRTY_NO_DATABASE;
    }
    return state == DIRTY_NO_DATABASE ? -ENODEV : -EIO;
}

static struct shm_hash *filling(struct shm_shard *d) {
    return &d->dirty[get(&d->dirty_turn) & 1];
}

static struct shm_hash *apart(struct shm_shard *d) {
    return &d->dirty[~get(&d->dirty_turn) & 1];
}

/* ---- noting ---- */

struct entry {
    struct hash_word word;
    uint8_t room[SHORT];
    uint8_t *large;
};

static int entry_make(const struct shm *s, struct entry *e, const struct key_name *name,
                      enum dirty_kind kind, const void *field, size_t len) {
    const struct entry_head head = {(uint32_t)name->word.len, kind};
    size_t size = sizeof(head) + name->word.len + len;
    e->large = size > sizeof(e->room) ? malloc(size) : NULL;
    uint8_t *to = e->large ? e->large : e->room;
    if (size > sizeof(e->room) && !e->large) {
        return -ENOMEM;
    }
    memcpy(to, &head, sizeof(head));
    memcpy(to + sizeof(head), name->word.data, name->word.len);
    if (len) {
        memcpy(to + sizeof(head) + name->word.len, field, len);
    }
    e->word = hash_word(s, to, size);
    return 0;
}

static _Atomic uint64_t *entry_word(struct shm *s, const struct shm_node *n) {
    size_t len = 0;
    void *v = hash_value(s, n, &len);
    return len >= sizeof(uint64_t) ? v : NULL;
}

/* 1: it is there, and says that the whole key is to be written. */
static int find_whole(struct shm *s, const struct shm_hash *h, const struct key_name *name) {
    struct entry e;
    struct hash_ref ref;
    int r = entry_make(s, &e, name, DIRTY_KEY, NULL, 0);
    if (r) {
        return r;
    }
    r = hash_find(s, h, &e.word, &ref);
    free(e.large);
    if (r) {
        return r == -ENOENT ? 0 : -EBADMSG;
    }
    const _Atomic uint64_t *w = entry_word(s, ref.node);
    return w && get(w) ? 1 : 0;
}

static int add(struct shm *s, unsigned shard, struct shm_hash *h, const struct hash_word *word,
               bool whole) {
    const uint64_t value = whole;
    struct shm_use *payer = s->payer;
    struct hash_ref ref;
    s->payer = NULL;
    int r = hash_add(s, shard, h, word, &value, sizeof(value), &ref);
    s->payer = payer;
    return r;
}

static int note(struct shm *s, const struct key_name *name, enum dirty_kind kind, const void *field,
                size_t len, bool whole) {
    struct shm_hash *h = filling(&s->shards[name->shard]);
    struct entry e;
    struct hash_ref ref;
    int r = may_change(s);
    if (r) {
        return r > 0 ? 0 : r;
    }
    s->op_dirty |= key_shard_bit(name);
    r = kind == DIRTY_KEY ? 0 : find_whole(s, h, name);
    if (r) {
        return r > 0 ? 0 : r;
    }
    r = entry_make(s, &e, name, kind, field, len);
    if (r) {
        return r;
    }
    r = hash_find(s, h, &e.word, &ref);
    if (r == -ENOENT) {
        op_changes(s, name->shard);
        r = add(s, name->shard, h, &e.word, whole);
    } else if (r == 0 && whole) {
        _Atomic uint64_t *w = entry_word(s, ref.node);
        r = w ? tx_need(s, 2) : -EBADMSG;
        if (r == 0 && !get(w)) {
            op_changes(s, name->shard);
            tx_set(s, w, 1);
        }
    } else if (r) {
        r = -EBADMSG;
    }
    free(e.large);
    return r;
}

int dirty_key_more(struct shm *s, const struct key_name *name, bool whole) {
    return note(s, name, DIRTY_KEY, NULL, 0, whole);
}

int dirty_field_more(struct shm *s, const struct key_name *name, const void *field, size_t len) {
    return note(s, name, DIRTY_FIELD, field, len, false);
}

int dirty_item_more(struct shm *s, const struct key_name *name, int64_t position) {
    return note(s, name, DIRTY_ITEM, &position, sizeof(position), false);
}

/* ---- taking ---- */

uint64_t dirty_keys_in(const struct shm *s, unsigned shard) {
    return get(&s->shards[shard].durables);
}

uint64_t dirty_keys(const struct shm *s) {
    uint64_t n = 0;
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        n += dirty_keys_in(s, i);
    }
    return n;
}

uint64_t dirty_shards(const struct shm *s) {
    return atomic_load_explicit(&s->head->dirty, memory_order_acquire);
}

void dirty_look(struct shm *s) {
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        if (get(&s->shards[i].dirty[0].count) || get(&s->shards[i].dirty[1].count)) {
            atomic_fetch_or(&s->head->dirty, UINT64_C(1) << i);
        }
    }
}

struct take {
    struct shm *s;
    uint64_t shards;
    void (*begin)(void *arg);
    dirty_visit *fn;
    void *arg;
    int n;
};

static int visit_entry(void *arg, struct shm_node *n) {
    struct take *t = arg;
    struct entry_head head;
    size_t len;
    const uint8_t *key = hash_key(t->s, n, &len);
    const _Atomic uint64_t *w = entry_word(t->s, n);
    if (!key || !w || len < sizeof(head)) {
        return -EBADMSG;
    }
    memcpy(&head, key, sizeof(head));
    if (head.name_len > len - sizeof(head)) {
        return -EBADMSG;
    }
    struct dirty d = {
        .kind = head.kind,
        .whole = get(w) != 0,
        .name = key_name(t->s, key + sizeof(head), head.name_len),
        .field = {key + sizeof(head) + head.name_len, len - sizeof(head) - head.name_len}};
    if (head.kind == DIRTY_ITEM && d.field.len == sizeof(d.position)) {
        memcpy(&d.position, d.field.data, sizeof(d.position));
    }
    t->n++;
    return t->fn(t->arg, t->s, &d);
}

static int visit_table(struct take *t, const struct shm_hash *h) {
    uint64_t cursor = 0;
    int r = 0;
    while (r == 0 && get(&h->count)) {
        r = hash_scan(t->s, h, &cursor, visit_entry, t);
        if (cursor == 0) {
            break;
        }
    }
    return r == -ESTALE ? -EBADMSG : r;
}

static int take(struct shm *s, void *arg) {
    struct take *t = arg;
    int r = 0;
    t->n = 0;
    t->begin(t->arg);
    for (uint64_t v = t->shards; r == 0 && v; v &= v - 1) {
        unsigned shard = (unsigned)__builtin_ctzll(v);
        struct shm_shard *d = &s->shards[shard];
        bool change = get(&apart(d)->count) == 0 && get(&filling(d)->count);
        r = visit_table(t, apart(d));
        r = r ? r : visit_table(t, filling(d));
        r = r || !change ? r : tx_need(s, 2);
        if (r == 0 && change) {
            op_changes(s, shard);
            tx_set(s, &d->dirty_turn, get(&d->dirty_turn) + 1);
        }
    }
    return r;
}

int dirty_take(struct shm *s, uint64_t shards, void (*begin)(void *arg), dirty_visit *fn,
               void *arg) {
    struct take t = {s, shards, begin, fn, arg, 0};
    atomic_fetch_and(&s->head->dirty, ~shards); /* who comes after this look says so again */
    int r = op_run(s, shards, take, &t);
    if (r < 0) {
        atomic_fetch_or(&s->head->dirty, shards);
        return r;
    }
    for (uint64_t v = shards; v; v &= v - 1) { /* of a predecessor: taken, and not set apart */
        struct shm_shard *d = &s->shards[__builtin_ctzll(v)];
        if (get(&filling(d)->count)) {
            atomic_fetch_or(&s->head->dirty, v & -v);
        }
    }
    return t.n;
}

static int clear(struct shm *s, void *arg) {
    const unsigned *shard = arg;
    s->payer = NULL;
    return hash_take_apart(s, *shard, apart(&s->shards[*shard]), APART, NULL, NULL);
}

int dirty_clear(struct shm *s, unsigned shard) {
    const struct shm_hash *h = apart(&s->shards[shard]);
    if (get(&h->count) == 0 && get(&h->buckets) <= 1 && !get(&h->dir_off)) {
        return 0;
    }
    return op_run(s, UINT64_C(1) << shard, clear, &shard);
}

/* ---- waiting ---- */

void dirty_say(struct shm *s, uint32_t begun, uint32_t done) {
    atomic_store(&s->head->drains_begun, begun);
    atomic_store(&s->head->drains_done, done);
    if (atomic_exchange(&s->head->drain_waiters, 0)) {
        atomic_fetch_add(&s->head->drain_bell, 1);
        futex_wake(&s->head->drain_bell, INT32_MAX);
    }
}

bool dirty_is_asked(const struct shm *s) {
    return get32(&s->head->drain_wanted) != 0;
}

void dirty_asked(struct shm *s) {
    atomic_store(&s->head->drain_wanted, 0);
}

uint32_t dirty_go_on(struct shm *s) {
    atomic_store(&s->head->drain_wanted, 1);
    return atomic_load(&s->head->drains_begun);
}

uint32_t dirty_next(const struct shm *s) {
    return atomic_load(&s->head->drains_begun) + 1;
}

int dirty_sync(struct shm *s, uint32_t drain, int64_t ms) {
    uint64_t until = ms < 0 ? UINT64_MAX : clock_now() + (uint64_t)ms * NS_PER_MS;
    for (bool asked = false;;) {
        uint32_t bell = atomic_load(&s->head->drain_bell);
        uint64_t now = clock_now();
        atomic_store(&s->head->drain_waiters, 1);
        uint32_t state = get32(&s->head->durable);
        if (state != DIRTY_READY) {
            return state == DIRTY_NO_DATABASE ? -ENODEV : -EIO;
        }
        if ((int32_t)(atomic_load(&s->head->drains_done) - drain) >= 0) {
            return 0;
        }
        if (now >= until) {
            return -ETIMEDOUT;
        }
        if (!asked) {
            asked = true;
            atomic_store(&s->head->drain_wanted, 1);
            shm_ring_daemon(s);
        }
        uint64_t left = until - now;
        if (futex_wait(&s->head->drain_bell, bell, left < NS_PER_SEC ? left : NS_PER_SEC)) {
            return -EINTR;
        }
    }
}
