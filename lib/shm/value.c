/* SPDX-License-Identifier: MIT */
/* Values and dicts: what a key of these types can do. A value that looks like an integer is kept as one, so that counting is
 * one logged word; otherwise its bytes lie behind the key's record, in the same node, with room to grow by appending.
 *
 * Fails: as keys.h says. */
#include <errno.h>
#include <string.h>

#include "lib/base/num.h"
#include "lib/shm/account.h"
#include "lib/shm/alloc.h"
#include "lib/shm/dirty.h"
#include "lib/shm/internal.h"
#include "lib/shm/keys.h"
#include "lib/shm/lock.h"
#include "lib/shm/op.h"

#define KEY_HEAD offsetof(struct shm_key, bytes)

enum { IN_PLACE = 128 };

static bool is_integer(const struct key *key) {
    return (get(&key->k->kind) >> 8 & 0xff) == KEY_INTEGER;
}

/* Bytes there is room for behind the key's record. */
static size_t room_of(struct shm *s, const struct key *key) {
    size_t len = 0;
    return hash_value(s, key->ref.node, &len) && len > KEY_HEAD ? len - KEY_HEAD : 0;
}

struct task_bytes value_bytes(struct shm *s, const struct key *key, char digits[24]) {
    if (is_integer(key)) {
        return (struct task_bytes){digits, num_put_i64(digits, (int64_t)get(&key->k->object))};
    }
    uint64_t len = get(&key->k->len), room = room_of(s, key);
    return (struct task_bytes){key->k->bytes, len < room ? len : room};
}

int value_get(struct shm *s, const struct key_name *name, char digits[24], struct task_bytes *ret) {
    struct key key;
    int r = key_find_typed(s, name, KEY_VALUE, &key);
    if (r == 0) {
        *ret = value_bytes(s, &key, digits);
    }
    return r;
}

int value_integer(const void *data, size_t len, int64_t *ret) {
    const char *t = data;
    size_t first = len && t[0] == '-';
    /* one way to write it only: else the text would not come back as it was */
    if (len > 20 || len == first || (t[first] == '0' && (len > 1))) {
        return -EDOM;
    }
    return num_i64(data, len, ret) ? -EDOM : 0;
}

/* The word `kind` of a value with this encoding: whose the key is stays. */
static uint64_t value_kind(const struct key *key, enum key_encoding as) {
    return (get(&key->k->kind) & ~UINT64_C(0xffff)) | KEY_VALUE | (uint64_t)as << 8;
}

static int as_integer(struct shm *s, struct key *key, int64_t v) {
    int r = tx_need(s, 8);
    if (r == 0) {
        op_changes(s, key->name.shard);
        if (!is_integer(key)) {
            op_vacate(s, key->k->bytes, room_of(s, key));
        }
        tx_set(s, &key->k->kind, value_kind(key, KEY_INTEGER));
        tx_set(s, &key->k->object, (uint64_t)v);
        r = key_changed(s, key);
    }
    return r;
}

static int64_t node_bytes(const struct shm *s, const struct key *key) {
    return (int64_t)alloc_size(s, (uint64_t)((uint8_t *)key->ref.node - s->base));
}

/* A new key record with this room in place of the old one: its head and the first `keep` bytes are copied. */
static int move_to_room(struct shm *s, struct key *key, size_t room, size_t keep) {
    struct shm_hash *keys = &s->shards[key->name.shard].keys;
    char digits[24];
    struct task_bytes old = value_bytes(s, key, digits);
    struct shm_key head;
    memcpy(&head, key->k, KEY_HEAD);
    const uint8_t *from = is_integer(key) ? (const uint8_t *)digits : key->k->bytes;
    keep = keep < old.len ? keep : old.len;
    int64_t before = node_bytes(s, key);
    account_nobody_pays(s);
    int r = hash_set(s, key->name.shard, keys, &key->ref, NULL, KEY_HEAD + room);
    if (r) {
        return r;
    }
    account_add(s, key->name.shard, kind_account(get(&head.kind)), node_bytes(s, key) - before, 0);
    /* a new node: nobody sees it before the commit. The old one's bytes are whole but for its first word */
    size_t len;
    key->k = hash_value(s, key->ref.node, &len);
    if (!key->k) {
        return -EBADMSG;
    }
    memcpy(key->k, &head, KEY_HEAD);
    put(&key->k->kind, value_kind(key, KEY_BYTES));
    put(&key->k->object, 0);
    put(&key->k->len, keep);
    memcpy(key->k->bytes, from, keep);
    return 0;
}

static int set_bytes(struct shm *s, struct key *key, const void *data, size_t len) {
    int r = tx_need(s, IN_PLACE / 8 + 16);
    if (r) {
        return r;
    }
    op_changes(s, key->name.shard);
    size_t room = room_of(s, key);
    if (len <= room && len <= IN_PLACE && room <= 2 * IN_PLACE) {
        op_vacate(s, key->k->bytes + len, room - len);
        tx_set(s, &key->k->kind, value_kind(key, KEY_BYTES));
        tx_set(s, &key->k->len, len);
        tx_set_bytes(s, key->k->bytes, data, len);
        return key_changed(s, key);
    }
    r = move_to_room(s, key, len, 0);
    if (r == 0) {
        put(&key->k->len, len);
        if (len) {
            memcpy(key->k->bytes, data, len);
        }
        r = key_changed(s, key);
    }
    return r;
}

/* A new value, in place of nothing or of what is removed before. */
static int make_value(struct shm *s, const struct key_name *name, const void *data, size_t len,
                      uint64_t expire) {
    struct key key;
    int64_t v = 0;
    bool integer = value_integer(data, len, &v) == 0;
    int r = key_make(s, name, KEY_VALUE, integer ? 0 : len, &key);
    if (r == 0 && integer) {
        r = as_integer(s, &key, v);
    } else if (r == 0) {
        put(&key.k->len, len);
        if (len) {
            memcpy(key.k->bytes, data, len);
        }
    }
    return r || !expire ? r : key_set_expire(s, &key, expire);
}

int value_set(struct shm *s, const struct key_name *name, const void *data, size_t len,
              bool keep_expire) {
    struct key key;
    int64_t v;
    int r = key_find_write(s, name, &key);
    if (r == -ENOENT) {
        return make_value(s, name, data, len, 0);
    }
    if (r == 0 && key_type(&key) != KEY_VALUE) {
        uint64_t expire = keep_expire ? key_expire(&key) : 0;
        r = key_delete(s, &key);
        return r ? r : make_value(s, name, data, len, expire);
    }
    if (r == 0 && !keep_expire && key_expire(&key)) {
        r = key_set_expire(s, &key, 0);
    }
    if (r) {
        return r;
    }
    return value_integer(data, len, &v) == 0 ? as_integer(s, &key, v)
                                             : set_bytes(s, &key, data, len);
}

int value_write(struct shm *s, const struct key_name *name, uint64_t at, const void *data,
                size_t len, uint64_t *ret_len) {
    struct key key;
    if (at > ALLOC_MAX - 4096 || len > ALLOC_MAX - 4096 - at) {
        return -EMSGSIZE;
    }
    int r = key_open(s, name, KEY_VALUE, true, &key);
    if (r) {
        return r;
    }
    char digits[24];
    uint64_t old = value_bytes(s, &key, digits).len, end = at + len > old ? at + len : old;
    bool append = at >= old && !is_integer(&key) && end <= room_of(s, &key) &&
                  op_is_spare(s, key.k->bytes + old, end - old);
    if (append) {
        /* behind the end nobody reads: the bytes need no log, only the length */
        r = tx_need(s, 8);
        if (r == 0) {
            op_changes(s, key.name.shard);
            memset(key.k->bytes + old, 0, at - old);
            memcpy(key.k->bytes + at, data, len);
            tx_set(s, &key.k->len, end);
        }
    } else {
        size_t room = end < 64 ? 64 : end < (1 << 20) ? end * 2 : end + (1 << 20);
        r = move_to_room(s, &key, room < ALLOC_MAX - 4096 ? room : end, old);
        if (r == 0) {
            if (at > old) {
                memset(key.k->bytes + old, 0, at - old);
            }
            memcpy(key.k->bytes + at, data, len);
            put(&key.k->len, end);
        }
    }
    if (r == 0) {
        *ret_len = end;
        r = key_changed(s, &key);
    }
    return r;
}

int value_add(struct shm *s, const struct key_name *name, int64_t by, int64_t *ret) {
    struct key key;
    char digits[24];
    int64_t v = 0;
    int r = key_open(s, name, KEY_VALUE, false, &key);
    if (r == -ENOENT) {
        r = key_make(s, name, KEY_VALUE, 0, &key);
    } else if (r == 0 && is_integer(&key)) {
        v = (int64_t)get(&key.k->object);
    } else if (r == 0) {
        struct task_bytes b = value_bytes(s, &key, digits);
        r = value_integer(b.data, b.len, &v);
    }
    if (r) {
        return r;
    }
    if (__builtin_add_overflow(v, by, &v)) {
        return -ERANGE;
    }
    r = as_integer(s, &key, v);
    if (r == 0) {
        *ret = v;
    }
    return r;
}

/* ---- dicts ---- */

int dict_open(struct shm *s, const struct key_name *name, bool make, struct dict *ret) {
    int r = make ? key_open(s, name, KEY_DICT, true, &ret->key)
                 : key_find_typed(s, name, KEY_DICT, &ret->key);
    if (r) {
        return r;
    }
    struct shm_object *o = key_object(s, &ret->key);
    if (!o) {
        return make ? -EBADMSG : -ESTALE;
    }
    ret->fields = &o->dict;
    return 0;
}

int dict_get(struct shm *s, const struct dict *d, const void *field, size_t len,
             struct task_bytes *ret) {
    return hash_get(s, d->fields, field, len, &ret->data, &ret->len);
}

int dict_put(struct shm *s, struct dict *d, const void *field, size_t len, const void *value,
             size_t value_len) {
    struct hash_word w = hash_word(s, field, len);
    struct hash_ref ref;
    unsigned shard = d->key.name.shard;
    int r = dirty_field(s, &d->key.name, field, len);
    if (r) {
        return r;
    }
    r = hash_find(s, d->fields, &w, &ref);
    account_pays(s, shard, key_account(&d->key));
    if (r == 0) {
        return hash_set(s, shard, d->fields, &ref, value_len ? value : "", value_len);
    }
    if (r != -ENOENT) {
        return -EBADMSG;
    }
    r = hash_add(s, shard, d->fields, &w, value, value_len, &ref);
    return r ? r : 1;
}

static int note_removed(struct shm *s, const struct dict *d, const struct hash_ref *ref) {
    size_t len;
    const void *field = hash_key(s, ref->node, &len);
    s->op_removing = true;
    int r = field ? dirty_field(s, &d->key.name, field, len) : -EBADMSG;
    s->op_removing = false;
    return r;
}

int dict_remove_found(struct shm *s, struct dict *d, const struct hash_ref *ref) {
    int r = dirty_is_durable(&d->key.name) ? note_removed(s, d, ref) : 0;
    if (r) {
        return r;
    }
    account_pays(s, d->key.name.shard, key_account(&d->key));
    return hash_del(s, d->key.name.shard, d->fields, ref);
}

int dict_remove(struct shm *s, struct dict *d, const void *field, size_t len) {
    struct hash_word w = hash_word(s, field, len);
    struct hash_ref ref;
    int r = hash_find(s, d->fields, &w, &ref);
    if (r == 0) {
        r = dict_remove_found(s, d, &ref);
        return r ? r : 1;
    }
    return r == -ENOENT ? 0 : -EBADMSG;
}

uint64_t dict_count(const struct dict *d) {
    return get(&d->fields->count);
}

int dict_close(struct shm *s, struct dict *d) {
    return dict_count(d) ? key_changed(s, &d->key) : key_delete(s, &d->key);
}
