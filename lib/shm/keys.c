/* SPDX-License-Identifier: MIT */
/* Keys. A key is a node of its shard's table whose value is a struct shm_key; the bytes of a string value follow in the same
 * node, so that GET is one look-up. Dicts and lists have a block of their own (struct shm_object) that a rename carries over
 * and a deletion only links to the shard's doomed, to be taken apart a few entries at a time.
 *
 * An expired key is as if it were not there, and so is one whose manager has ended: readers pass over it, writers remove it,
 * the daemon sweeps the rest.
 *
 * A handle remembers where it found the last keys (struct shm_seen), since most calls are about the same few: as long as the
 * shard's `moved` is what it was, no slot of its table has another meaning, and the slot leads to the node as it is now.
 *
 * Fails: as keys.h says. */
#include "lib/shm/keys.h"

#include <errno.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/num.h"
#include "lib/shm/account.h"
#include "lib/shm/alloc.h"
#include "lib/shm/dirty.h"
#include "lib/shm/internal.h"
#include "lib/shm/list.h"
#include "lib/shm/lock.h"
#include "lib/shm/manager.h"
#include "lib/shm/op.h"
#include "lib/shm/sync_private.h"

const char *const key_type_names[KEY_TYPES] = {
    "none",      "string", "hash",      "list",    "lock",  "rlock", "rwlock",
    "semaphore", "event",  "condition", "barrier", "queue", "pipe",  "array"};

enum { TAKE_APART = 16 };
_Static_assert((int)DOOMED_KEYS > (int)KEY_TYPES, "a kind of its own");

#define KEY_HEAD offsetof(struct shm_key, bytes)

static struct shm_shard *shard_of(struct shm *s, const struct key_name *name) {
    return &s->shards[name->shard];
}

static int bind_key(struct shm *s, const struct key_name *name, const struct hash_ref *ref,
                    struct key *ret) {
    size_t len;
    void *v = hash_value(s, ref->node, &len);
    if (!v || len < KEY_HEAD) {
        return -ESTALE;
    }
    *ret = (struct key){*name, *ref, v};
    return 0;
}

/* Looks a key up and remembers where it was, if the shard was at rest meanwhile: what is seen while somebody changes it,
 * this process included, may be rolled back, and `moved` with it. */
static int search(struct shm *s, const struct key_name *name, struct shm_seen *seen,
                  struct hash_ref *ret) {
    const struct shm_shard *d = shard_of(s, name);
    uint64_t seq = atomic_load_explicit(&d->seq, memory_order_acquire), moved = get(&d->moved);
    int r = hash_find(s, &d->keys, &name->word, ret);
    atomic_thread_fence(memory_order_acquire);
    if (r == 0 && seq % 2 == 0 && get(&d->seq) == seq) {
        uint64_t slot = (uint64_t)((uint8_t *)ret->slot - s->base);
        *seen = (struct shm_seen){name->word.hash, moved, slot};
    }
    return r;
}

static inline int find_node(struct shm *s, const struct key_name *name, struct hash_ref *ret) {
    struct shm_seen *seen = &s->seen[name->word.hash % SHM_SEEN];
    if (seen->hash == name->word.hash && seen->moved == get(&shard_of(s, name)->moved)) {
        ret->slot = (void *)(s->base + seen->slot);
        ret->node = hash_recall(s, ret->slot, &name->word);
        if (ret->node) {
            return 0;
        }
    }
    return search(s, name, seen, ret);
}

static int find(struct shm *s, const struct key_name *name, struct key *ret) {
    struct hash_ref ref;
    int r = find_node(s, name, &ref);
    return r ? r : bind_key(s, name, &ref, ret);
}

/* Its time is over, or its manager's. */
static bool is_past(const struct shm *s, const void *name, size_t len, uint64_t at) {
    return manager_name_is_over(s, name, len) || (at && at <= clock_wall_ms());
}

static bool is_over(const struct shm *s, const struct key *key) {
    return is_past(s, key->name.word.data, key->name.word.len, key_expire(key));
}

int key_find(struct shm *s, const struct key_name *name, struct key *ret) {
    int r = find(s, name, ret);
    if (r == 0 && is_over(s, ret)) {
        s->op_expired = true;
        r = -ENOENT;
    }
    return r;
}

int key_find_typed(struct shm *s, const struct key_name *name, enum key_type type,
                   struct key *ret) {
    int r = key_find(s, name, ret);
    return r == 0 && key_type(ret) != type ? -EPROTOTYPE : r;
}

int dict_fields(struct shm *s, const struct key_name *name, const struct shm_hash **ret) {
    struct hash_ref ref;
    size_t len;
    int r = find_node(s, name, &ref);
    if (r) {
        return r;
    }
    const struct shm_key *k = hash_value(s, ref.node, &len);
    if (!k || len < KEY_HEAD) {
        return -ESTALE;
    }
    if (is_past(s, name->word.data, name->word.len, get(&k->expire))) {
        return -ENOENT;
    }
    if (key_record_type(k) != KEY_DICT) {
        return -EPROTOTYPE;
    }
    /* only read from: that it lies in the segment is enough */
    uint64_t off = get(&k->object);
    if (off % 8 || off < s->data_off || off > s->size - sizeof(struct shm_object)) {
        return -ESTALE;
    }
    *ret = &((const struct shm_object *)(const void *)(s->base + off))->dict;
    return 0;
}

int key_find_write(struct shm *s, const struct key_name *name, struct key *ret) {
    int r = find(s, name, ret);
    if (r == 0 && is_over(s, ret)) {
        s->op_expiring = true;
        r = key_delete(s, ret);
        s->op_expiring = false;
        s->op_gone += r == 0;
        return r ? r : -ENOENT;
    }
    return r == -ESTALE ? -EBADMSG : r;
}

void key_used(const struct key *key) {
    put(&key->k->used_ms, clock_wall_ms());
}

uint64_t key_used_ms(const struct key *key) {
    return get(&key->k->used_ms);
}

/* ---- making and removing ---- */

/* Remembers that a name was given to a key. */
static int note_made(struct shm *s, const struct key_name *name) {
    struct shm_shard *d = shard_of(s, name);
    int r = tx_need(s, 4);
    if (r == 0) {
        uint64_t n = get(&d->made);
        tx_set(s, &d->made_last[n % SHM_MADE], name->word.hash);
        tx_set(s, &d->made, n + 1);
    }
    return r;
}

static int64_t node_bytes(const struct shm *s, const void *node) {
    return (int64_t)alloc_size(s, (uint64_t)((const uint8_t *)node - s->base));
}

/* What holds a shard's keys together is nobody's, each key's node is its account's: so they are charged here. */
static void key_came(struct shm *s, const struct key *key, int sign) {
    account_add(s, key->name.shard, key_account(key), sign * node_bytes(s, key->ref.node), sign);
}

static int make_object(struct shm *s, unsigned shard, enum key_type type, uint64_t *ret_off) {
    account_pays(s, shard, s->account);
    if (key_is_sync(type)) {
        return sync_make(s, shard, type, ret_off);
    }
    int r = alloc_tx(s, sizeof(struct shm_object), ret_off);
    if (r == 0) {
        struct shm_object *o = (void *)(s->base + *ret_off);
        memset(o, 0, sizeof(*o));
        put(&o->kind, type | (uint64_t)s->account << KEY_ACCOUNT_SHIFT);
    }
    return r;
}

/* Nobody makes a key that nobody could ever see; and only dicts, lists and values can be durable. */
static int may_make(const struct shm *s, const struct key_name *name, enum key_type type) {
    if (key_is_sync(type) && dirty_is_durable(name)) {
        return -ENOTUNIQ;
    }
    return manager_name_is_over(s, name->word.data, name->word.len) ? -EIDRM : 0;
}

/* A name is given to a key, or to none any more. */
static int count_owned(struct shm *s, const struct key_name *name, bool made) {
    int r = manager_count(s, name->shard, name->word.data, name->word.len, made);
    if (r == 0 && dirty_is_durable(name)) {
        _Atomic uint64_t *n = &shard_of(s, name)->durables;
        s->op_removing |= !made;
        r = tx_need(s, 2);
        if (r == 0) {
            tx_set(s, n, get(n) + (made ? 1 : UINT64_MAX));
            r = dirty_key(s, name, true);
        }
        s->op_removing &= made;
    }
    return r;
}

int key_make(struct shm *s, const struct key_name *name, enum key_type type, size_t room,
             struct key *ret) {
    struct shm_shard *d = shard_of(s, name);
    uint64_t object = 0;
    struct hash_ref ref;
    op_changes(s, name->shard);
    int r = may_make(s, name, type);
    if (r == 0 && type != KEY_VALUE) {
        r = make_object(s, name->shard, type, &object);
    }
    account_nobody_pays(s);
    if (r == 0) {
        r = hash_add(s, name->shard, &d->keys, &name->word, NULL, KEY_HEAD + room, &ref);
    }
    if (r == 0) {
        r = bind_key(s, name, &ref, ret);
    }
    if (r) {
        return r == -ESTALE ? -EBADMSG : r;
    }
    /* the node is new: nobody sees it before the commit */
    memset(ret->k, 0, KEY_HEAD);
    put(&ret->k->kind, type | (uint64_t)s->account << KEY_ACCOUNT_SHIFT);
    put(&ret->k->object, object);
    put(&ret->k->used_ms, clock_wall_ms());
    tx_set(s, &d->moved, get(&d->moved) + 1);
    key_came(s, ret, 1);
    r = note_made(s, name);
    r = r ? r : count_owned(s, name, true);
    return r ? r : key_changed(s, ret);
}

int key_open(struct shm *s, const struct key_name *name, enum key_type type, bool make,
             struct key *ret) {
    int r = key_find_write(s, name, ret);
    if (r == -ENOENT && make) {
        return key_make(s, name, type, 0, ret);
    }
    return r == 0 && key_type(ret) != type ? -EPROTOTYPE : r;
}

struct shm_object *key_object(struct shm *s, const struct key *key) {
    return alloc_ptr(s, get(&key->k->object), sizeof(struct shm_object));
}

int key_changed(struct shm *s, struct key *key) {
    struct shm_shard *d = &s->shards[key->name.shard];
    op_changes(s, key->name.shard);
    int r = tx_need(s, 4);
    if (r == 0) {
        uint64_t version = get(&d->version) + 1;
        tx_set(s, &d->version, version);
        tx_set(s, &key->k->version, version);
        /* of dicts and lists their verbs say what it was */
        r = key_type(key) == KEY_VALUE ? dirty_key(s, &key->name, false) : 0;
    }
    return r;
}

static int count_expiring(struct shm *s, unsigned shard, bool before, bool after) {
    _Atomic uint64_t *n = &s->shards[shard].expiring;
    if (before != after) {
        tx_set(s, n, get(n) + (after ? 1 : UINT64_MAX));
    }
    return 0;
}

/* Takes the key's node away; the object is the caller's. */
static int unlink_key(struct shm *s, struct key *key) {
    struct shm_shard *d = &s->shards[key->name.shard];
    op_changes(s, key->name.shard);
    int r = tx_need(s, 8);
    if (r) {
        return r;
    }
    tx_set(s, &d->version, get(&d->version) + 1);
    tx_set(s, &d->moved, get(&d->moved) + 1);
    count_expiring(s, key->name.shard, key_expire(key) != 0, false);
    key_came(s, key, -1);
    account_nobody_pays(s);
    r = count_owned(s, &key->name, false);
    return r ? r : hash_del(s, key->name.shard, &d->keys, &key->ref);
}

/* The object of a key that goes joins those to be taken apart. */
static int doom_object(struct shm *s, unsigned shard, enum key_type type, uint64_t off) {
    struct shm_shard *d = &s->shards[shard];
    if (key_is_sync(type)) {
        return sync_doom(s, shard, off);
    }
    struct shm_object *o =
        type == KEY_DICT || type == KEY_LIST ? alloc_ptr(s, off, sizeof(*o)) : NULL;
    int r = tx_need(s, 4);
    if (r == 0 && o) {
        tx_set(s, &o->link, get(&d->doomed));
        tx_set(s, &d->doomed, off);
    }
    return r;
}

int key_delete(struct shm *s, struct key *key) {
    uint64_t object = get(&key->k->object);
    enum key_type type = key_type(key);
    int r = unlink_key(s, key);
    return r ? r : doom_object(s, key->name.shard, type, object);
}

int key_rename(struct shm *s, struct key *key, const struct key_name *to) {
    size_t len;
    const void *value = hash_value(s, key->ref.node, &len);
    struct shm_shard *d = shard_of(s, to);
    struct hash_ref ref;
    struct key moved;
    if (!value) {
        return -EBADMSG;
    }
    account_nobody_pays(s);
    int r = may_make(s, to, key_type(key));
    r = r ? r : hash_add(s, to->shard, &d->keys, &to->word, value, len, &ref);
    if (r == 0) {
        r = bind_key(s, to, &ref, &moved);
    }
    if (r) {
        return r == -ESTALE ? -EBADMSG : r;
    }
    r = key_is_sync(key_type(&moved)) ? sync_renamed(s, get(&moved.k->object), to->shard) : 0;
    r = r ? r : tx_need(s, 8);
    if (r == 0) {
        tx_set(s, &d->moved, get(&d->moved) + 1);
        count_expiring(s, to->shard, false, key_expire(&moved) != 0);
        key_came(s, &moved, 1);
        r = note_made(s, to);
        r = r ? r : count_owned(s, to, true);
        r = r ? r : key_changed(s, &moved);
    }
    /* adding may have moved the old one's slot, when both are in one table */
    if (r == 0) {
        r = find(s, &key->name, key);
    }
    return r ? (r == -ESTALE ? -EBADMSG : r) : unlink_key(s, key);
}

int key_set_expire(struct shm *s, struct key *key, uint64_t at_ms) {
    int r = tx_need(s, 8);
    if (r == 0) {
        op_changes(s, key->name.shard);
        count_expiring(s, key->name.shard, key_expire(key) != 0, at_ms != 0);
        tx_set(s, &key->k->expire, at_ms);
        r = key_changed(s, key);
        r = r ? r : dirty_key(s, &key->name, false);
    }
    return r;
}

struct key_mark key_mark(struct shm *s, const struct key_name *name) {
    struct key key;
    uint64_t version = key_find(s, name, &key) == 0 ? get(&key.k->version) : 0;
    return (struct key_mark){version, get(&shard_of(s, name)->made)};
}

bool key_changed_since(struct shm *s, const struct key_name *name, const struct key_mark *mark) {
    const struct shm_shard *d = shard_of(s, name);
    struct key_mark now = key_mark(s, name);
    if (now.version != mark->version || now.version) {
        return now.version != mark->version;
    }
    bool made = now.made - mark->made > SHM_MADE;
    for (uint64_t i = mark->made; !made && i != now.made; i++) {
        made = get(&d->made_last[i % SHM_MADE]) == name->word.hash;
    }
    return made;
}

/* ---- the whole keyspace ---- */

uint64_t keys_count(struct shm *s) {
    uint64_t n = 0, over = manager_over(s);
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        n += get(&s->shards[i].keys.count);
    }
    return n > over ? n - over : 0;
}

uint64_t keys_expiring(struct shm *s) {
    uint64_t n = 0;
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        n += get(&s->shards[i].expiring);
    }
    return n;
}

uint64_t keys_expiring_in(struct shm *s, unsigned shard) {
    return get(&s->shards[shard].expiring);
}

struct visit {
    struct shm *s;
    keys_visit *fn;
    void *arg;
};

static int visit_key(void *arg, struct shm_node *n) {
    struct visit *v = arg;
    size_t len, vlen;
    const void *name = hash_key(v->s, n, &len);
    const struct shm_key *k = hash_value(v->s, n, &vlen);
    if (!name || !k || vlen < KEY_HEAD) {
        return -ESTALE;
    }
    uint64_t at = get(&k->expire);
    return is_past(v->s, name, len, at) ? 0 : v->fn(v->arg, name, len, k);
}

unsigned keys_cursor_shard(uint64_t cursor) {
    return cursor % SHM_SHARDS;
}

int keys_scan(struct shm *s, uint64_t *cursor, keys_visit *fn, void *arg) {
    struct visit v = {s, fn, arg};
    uint64_t shard = *cursor % SHM_SHARDS, in = *cursor / SHM_SHARDS;
    int r = hash_scan(s, &s->shards[shard].keys, &in, visit_key, &v);
    if (r) {
        return r;
    }
    if (in == 0) {
        shard++;
    }
    *cursor = shard == SHM_SHARDS ? 0 : in * SHM_SHARDS + shard;
    return 0;
}

int keys_random(struct shm *s, uint64_t r, struct key *ret) {
    unsigned shard = r % SHM_SHARDS;
    struct hash_ref ref;
    struct shm_node *n = hash_random(s, &s->shards[shard].keys, r >> 6, &ref);
    size_t len;
    const void *name = n ? hash_key(s, n, &len) : NULL;
    if (!name) {
        return -ENOENT;
    }
    struct key_name k = key_name(s, name, len);
    int e = bind_key(s, &k, &ref, ret);
    return e == 0 && is_over(s, ret) ? -ENOENT : e;
}

unsigned keys_random_shard(const struct shm *s, uint64_t r) {
    uint64_t counts[SHM_SHARDS], all = 0;
    for (unsigned i = 0; i < SHM_SHARDS; i++) { /* once: they change meanwhile */
        counts[i] = get(&s->shards[i].keys.count);
        all += counts[i];
    }
    uint64_t left = all ? r % all : 0;
    for (unsigned i = 0; all && i < SHM_SHARDS; i++) {
        if (left < counts[i]) {
            return i;
        }
        left -= counts[i];
    }
    return r % SHM_SHARDS;
}

struct sweep {
    struct shm *s;
    uint64_t now_ms; /* 0: any key will do */
    struct shm_node *found;
};

/* Durable keys that go with all others: each is noted. Few shards have any. */
static int note_durable(void *arg, struct shm_node *n) {
    struct shm *s = arg;
    size_t len;
    const void *name = hash_key(s, n, &len);
    if (!name) {
        return -EBADMSG;
    }
    struct key_name k = key_name(s, name, len);
    return dirty_key(s, &k, true);
}

static int note_durables(struct shm *s, unsigned shard) {
    struct shm_shard *d = &s->shards[shard];
    uint64_t cursor = 0;
    int r = get(&d->durables) ? tx_need(s, 2) : 0;
    if (r || !get(&d->durables)) {
        return r;
    }
    op_changes(s, shard);
    s->op_removing = true;
    do {
        r = hash_scan(s, &d->keys, &cursor, note_durable, s);
    } while (r == 0 && cursor);
    s->op_removing = false;
    if (r == 0) {
        tx_set(s, &d->durables, 0);
    }
    return r == -ESTALE ? -EBADMSG : r;
}

static int find_over(void *arg, struct shm_node *n) {
    struct sweep *w = arg;
    size_t len;
    const struct shm_key *k = hash_value(w->s, n, &len);
    if (!k || len < KEY_HEAD) {
        return -ESTALE;
    }
    uint64_t at = get(&k->expire);
    if (w->now_ms && (!at || at > w->now_ms)) {
        const void *name = hash_key(w->s, n, &len);
        if (!name || !manager_name_is_over(w->s, name, len)) {
            return name ? 0 : -ESTALE;
        }
    }
    w->found = n;
    return 1;
}

static int delete_node(struct shm *s, struct shm_node *n) {
    size_t len;
    const void *name = hash_key(s, n, &len);
    if (!name) {
        return -EBADMSG;
    }
    struct key key;
    struct key_name k = key_name(s, name, len);
    int r = find(s, &k, &key);
    return r ? -EBADMSG : key_delete(s, &key);
}

/* Removes the keys that `w` looks for, walking on from *cursor. Returns how many. */
static int sweep_keys(struct shm *s, unsigned shard, struct sweep *w, uint64_t *cursor,
                      int budget) {
    int gone = 0;
    for (int looked = 0; looked < budget; looked++) {
        uint64_t at = *cursor;
        w->found = NULL;
        int r = hash_scan(s, &s->shards[shard].keys, &at, find_over, w);
        if (r < 0) {
            return -EBADMSG;
        }
        if (r == 1) {
            s->op_expiring = w->now_ms != 0;
            r = delete_node(s, w->found);
            s->op_expiring = false;
            if (r) {
                return r;
            }
            gone++;
            continue;
        }
        *cursor = at;
        if (at == 0) {
            break;
        }
    }
    return gone;
}

int keys_expire_some(struct shm *s, unsigned shard, uint64_t now_ms, uint64_t *cursor, int budget) {
    struct sweep w = {.s = s, .now_ms = now_ms};
    if (!keys_expiring_in(s, shard) && !manager_over_in(s, shard)) {
        *cursor = 0;
        return 0;
    }
    return sweep_keys(s, shard, &w, cursor, budget);
}

int keys_flush_some(struct shm *s, unsigned shard, int budget) {
    struct sweep w = {.s = s};
    uint64_t cursor = 0;
    int r = 0;
    while (budget > 0 && get(&s->shards[shard].keys.count)) {
        r = sweep_keys(s, shard, &w, &cursor, budget);
        if (r < 0) {
            return r;
        }
        budget -= r > 0 ? r : 1;
    }
    return get(&s->shards[shard].keys.count) != 0;
}

/* The table goes over to an object among the doomed, as it is. */
int keys_flush(struct shm *s, unsigned shard) {
    struct shm_shard *d = &s->shards[shard];
    _Atomic uint64_t *words = (void *)&d->keys;
    uint64_t off;
    if (!get(&d->keys.count)) {
        return 0;
    }
    int r = note_durables(s, shard);
    r = r ? r : tx_need(s, 32);
    account_nobody_pays(s);
    s->op_removing = true;
    r = r ? r : alloc_tx(s, sizeof(struct shm_object), &off);
    s->op_removing = false;
    r = r ? r : tx_need(s, 32 + SHM_ACCOUNTS);
    if (r) {
        return r;
    }
    struct shm_object *o = (void *)(s->base + off);
    op_changes(s, shard);
    memset(o, 0, sizeof(*o));
    memcpy(&o->dict, &d->keys, sizeof(d->keys));
    put(&o->kind, DOOMED_KEYS);
    put(&o->link, get(&d->doomed));
    for (size_t i = 0; i < sizeof(d->keys) / sizeof(*words); i++) {
        tx_set(s, &words[i], 0);
    }
    tx_set(s, &d->doomed, off);
    tx_set(s, &d->expiring, 0);
    r = manager_count_none(s, shard);
    r = r ? r : tx_need(s, SHM_ACCOUNTS + 8);
    if (r) {
        return r;
    }
    account_flushed(s, shard);
    tx_set(s, &d->version, get(&d->version) + 1);
    tx_set(s, &d->moved, get(&d->moved) + 1);
    tx_set(s, &d->flushes, get(&d->flushes) + 1);
    return 0;
}

struct weigh {
    const struct shm *s;
    uint64_t bytes;
};

static int weigh_block(void *arg, uint64_t off, uint64_t bytes) {
    struct weigh *w = arg;
    (void)bytes;
    w->bytes += alloc_size(w->s, off);
    return 0;
}

struct sample {
    const struct shm *s;
    uint64_t bytes, n, max;
};

static int weigh_node(void *arg, struct shm_node *n) {
    struct sample *p = arg;
    p->bytes += alloc_size(p->s, (uint64_t)((uint8_t *)n - p->s->base));
    return ++p->n == p->max;
}

/* What holds the fields, and as much for each field as some of them take on average. */
static uint64_t dict_memory(struct shm *s, const struct shm_hash *h, uint32_t samples) {
    struct sample p = {.s = s, .max = samples};
    uint64_t cursor = 0, buckets = get(&h->buckets), own = get(&h->dir_cap) * 8;
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < samples * 8; i++) {
        r = hash_scan(s, h, &cursor, weigh_node, &p);
        if (cursor == 0) {
            break;
        }
    }
    own += buckets > 1 ? (buckets - 1) * SHM_LINE : 0;
    return own + (p.n ? p.bytes * get(&h->count) / p.n : 0);
}

uint64_t key_memory(struct shm *s, const struct key *key, uint32_t samples) {
    struct weigh w = {.s = s};
    uint64_t own = alloc_size(s, (uint64_t)((uint8_t *)key->ref.node - s->base));
    struct shm_object *o = key_object(s, key);
    if (!o || key_type(key) == KEY_VALUE) {
        return own;
    }
    own += alloc_size(s, get(&key->k->object));
    if (key_is_sync(key_type(key))) {
        const struct shm_sync *y = sync_at(s, get(&key->k->object));
        if (y) {
            sync_blocks(s, y, weigh_block, &w);
        }
        return own + w.bytes;
    }
    if (key_type(key) == KEY_LIST) { /* few blocks for many elements: all of them are counted */
        list_blocks(s, &o->list, weigh_block, &w);
        return own + w.bytes;
    }
    if (samples) {
        return own + dict_memory(s, &o->dict, samples);
    }
    hash_blocks(s, &o->dict, weigh_block, NULL, &w);
    return own + w.bytes;
}

struct doom {
    struct shm *s;
    unsigned shard;
};

/* A key of a flushed table goes: its object joins the doomed. */
static int doom_node(void *arg, struct shm_node *n) {
    struct doom *w = arg;
    size_t len;
    const struct shm_key *k = hash_value(w->s, n, &len);
    enum key_type type = k && len >= KEY_HEAD ? key_record_type(k) : KEY_NONE;
    if (type != KEY_NONE) { /* its account has one object fewer since the flush */
        account_add(w->s, w->shard, key_record_account(k), -node_bytes(w->s, n), 0);
    }
    return type == KEY_NONE ? 0 : doom_object(w->s, w->shard, type, get(&k->object));
}

static int take_object_apart(struct shm *s, unsigned shard, struct shm_object *o) {
    struct doom w = {s, shard};
    switch (get(&o->kind) & 0xff) {
    case KEY_LIST:
        return list_take_apart(s, shard, &o->list, TAKE_APART);
    case DOOMED_KEYS:
        return hash_take_apart(s, shard, &o->dict, TAKE_APART, doom_node, &w);
    default:
        return hash_take_apart(s, shard, &o->dict, TAKE_APART, NULL, NULL);
    }
}

int keys_take_apart(struct shm *s, unsigned shard) {
    struct shm_shard *d = &s->shards[shard];
    uint64_t off = get(&d->doomed);
    if (!off) {
        return 0;
    }
    struct shm_object *o = alloc_ptr(s, off, sizeof(*o));
    int r;
    op_changes(s, shard);
    if (!o || (key_is_sync(get(&o->kind) & 0xff) && !sync_at(s, off))) {
        tx_set(s, &d->doomed,
               0); /* damaged by somebody: what is behind it cannot be found any more */
        return 0;
    }
    if ((get(&o->kind) & 0xff) == DOOMED_KEYS) {
        account_nobody_pays(s);
    } else {
        account_pays(s, shard, object_account(o));
    }
    if (key_is_sync(get(&o->kind) & 0xff)) {
        r = sync_take_apart(s, shard, (void *)o);
        return r ? r : get(&d->doomed) != 0;
    }
    r = take_object_apart(s, shard, o);
    if (r) {
        return r;
    }
    if (get(&d->doomed) != off) {
        return 1; /* objects of its keys lie above it now and come first */
    }
    r = tx_need(s, 4);
    if (r == 0) {
        tx_set(s, &d->doomed, get(&o->link));
        op_free(s, shard, off);
    }
    return r ? r : get(&d->doomed) != 0;
}
