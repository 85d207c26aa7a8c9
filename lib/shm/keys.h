/* SPDX-License-Identifier: MIT */
/* The keyspace: names and what they name. A key is in the shard that its hash says; the shard's lock covers the key and all
 * that belongs to it. Everything here runs inside of an operation that holds the shard (op_run); what is marked "reads" also
 * inside of op_read(). Errors besides those named: -ENOMEM, -ENOBUFS, -EAGAIN, -EBADMSG from changing verbs, -ESTALE from
 * reading ones (op_run and op_read deal with ENOBUFS and ESTALE). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/shm/hash.h"
#include "lib/shm/layout.h"
#include "lib/shm/segment.h"
#include "lib/shm/task.h" /* struct task_bytes */

enum key_type {
    KEY_NONE,
    KEY_VALUE,
    KEY_DICT,
    KEY_LIST,
    KEY_LOCK, /* from here on: sync objects (sync.h) */
    KEY_RLOCK,
    KEY_RWLOCK,
    KEY_SEM,
    KEY_EVENT,
    KEY_COND,
    KEY_BARRIER,
    KEY_QUEUE,
    KEY_PIPE,
    KEY_ARRAY,
    KEY_TYPES
};
extern const char
    *const key_type_names[KEY_TYPES]; /* as TYPE says: "none" "string" "hash" "list" "lock" ... */
static inline bool key_is_sync(enum key_type type) {
    return type >= KEY_LOCK && type < KEY_TYPES;
}

enum key_encoding { KEY_BYTES, KEY_INTEGER };

/* A name, hashed. The bytes stay the caller's. */
struct key_name {
    struct hash_word word;
    unsigned shard;
};
static inline struct key_name key_name(const struct shm *s, const void *data, size_t len) {
    struct hash_word w = hash_word(s, data, len);
    return (struct key_name){w, (unsigned)(w.hash >> 58)};
}
static inline uint64_t key_shard_bit(const struct key_name *n) {
    return UINT64_C(1) << n->shard;
}

/* A key that was found. Valid until the operation ends or the shard's keys change. */
struct key {
    struct key_name name;
    struct hash_ref ref;
    struct shm_key *k;
};

/* Of a record met in a walk. */
static inline enum key_type key_record_type(const struct shm_key *k) {
    uint64_t kind = atomic_load_explicit(&k->kind, memory_order_relaxed) & 0xff;
    return kind < KEY_TYPES ? (enum key_type)kind : KEY_NONE;
}
/* Whose it is (account.h). Bits of the words `kind` of keys and objects. */
enum { KEY_ACCOUNT_SHIFT = 16 };
static inline unsigned kind_account(uint64_t kind) {
    return (kind >> KEY_ACCOUNT_SHIFT & 0xff) % SHM_ACCOUNTS;
}
static inline unsigned key_record_account(const struct shm_key *k) {
    return kind_account(atomic_load_explicit(&k->kind, memory_order_relaxed));
}
static inline unsigned object_account(const struct shm_object *o) {
    return kind_account(atomic_load_explicit(&o->kind, memory_order_relaxed));
}
static inline enum key_type key_type(const struct key *key) {
    return key_record_type(key->k);
}
static inline unsigned key_account(const struct key *key) {
    return key_record_account(key->k);
}

/* Notes that the key is being used, and when it last was, ms since 1970: OBJECT IDLETIME. No lock is needed. */
void key_used(const struct key *key);
uint64_t key_used_ms(const struct key *key);

/* Reads. 0 or -ENOENT: no such key, or it has expired, or its manager has ended (manager.h). */
int key_find(struct shm *s, const struct key_name *name, struct key *ret);
/* Reads. The same for one type: -EPROTOTYPE: it is of another. */
int key_find_typed(struct shm *s, const struct key_name *name, enum key_type type, struct key *ret);
/* For changing verbs: an expired key is removed at once. */
int key_find_write(struct shm *s, const struct key_name *name, struct key *ret);

/* Makes a key that is not there, for the account that the handle acts for: a value with room for `room` bytes (its len is 0), or an empty dict or list. -EIDRM: the
 * name is that of a manager that has ended. So does whatever makes keys: key_open, key_rename, value_set ... */
int key_make(struct shm *s, const struct key_name *name, enum key_type type, size_t room,
             struct key *ret);
/* Finds the key of a dict or list for writing, or makes it. -EPROTOTYPE. */
int key_open(struct shm *s, const struct key_name *name, enum key_type type, bool make,
             struct key *ret);
/* The dict or list of a key. Reads. NULL: it makes no sense. */
struct shm_object *key_object(struct shm *s, const struct key *key);

/* Marks the key as changed, for WATCH and waiters; every changing verb calls it. */
int key_changed(struct shm *s, struct key *key);
/* Removes the key; a dict or list is taken apart later, bit by bit. */
int key_delete(struct shm *s, struct key *key);
/* Gives the key another name (no key has it; both shards are held). A value or object is not copied, but for
 * the record of the key itself, which holds a value's bytes. */
int key_rename(struct shm *s, struct key *key, const struct key_name *to);
/* Makes a copy under another name that no key has; both shards are held. The expiry too. -EOPNOTSUPP: a sync object. What finds the key again afterwards
 * looks it up: it may have moved. */
int key_copy(struct shm *s, const struct key *key, const struct key_name *to);
/* ms since 1970, 0: never. */
int key_set_expire(struct shm *s, struct key *key, uint64_t at_ms);
static inline uint64_t key_expire(const struct key *key) {
    return atomic_load_explicit(&key->k->expire, memory_order_relaxed);
}
/* What WATCH compares. A key that is not there may have been made and removed again in between: the shard remembers the last
 * SHM_MADE names that were given to keys. */
struct key_mark {
    uint64_t version; /* of the key; 0: there was none */
    uint64_t made;    /* of its shard */
};
/* Reads. */
struct key_mark key_mark(struct shm *s, const struct key_name *name);
/* Reads. Whether the key has been changed, made or removed since it was marked. True as well when it was not there and more
 * than SHM_MADE others of its shard have been made since. */
bool key_changed_since(struct shm *s, const struct key_name *name, const struct key_mark *mark);

/* Number of keys in all shards, without those of ended managers; approximate while others work. */
uint64_t keys_count(struct shm *s);
uint64_t keys_expiring(struct shm *s);
uint64_t keys_expiring_in(struct shm *s, unsigned shard);
/* Reads (shard *cursor & 63). Calls fn for the keys of one or a few buckets; begins and ends with cursor 0. */
typedef int keys_visit(void *arg, const void *name, size_t len, const struct shm_key *k);
unsigned keys_cursor_shard(uint64_t cursor);
int keys_scan(struct shm *s, uint64_t *cursor, keys_visit *fn, void *arg);
/* A key by chance; -ENOENT. Reads: shard is that of the random number (r & 63). */
int keys_random(struct shm *s, uint64_t r, struct key *ret);
/* The shard for a random key: each as likely as it has keys. */
unsigned keys_random_shard(const struct shm *s, uint64_t r);
/* Removes up to `budget` keys of a shard that have expired or whose manager has ended; *cursor keeps the place. Returns how
 * many. */
int keys_expire_some(struct shm *s, unsigned shard, uint64_t now_ms, uint64_t *cursor, int budget);
/* Removes every key of a shard at once, however many there are; they are taken apart later, bit by bit. */
int keys_flush(struct shm *s, unsigned shard);
/* The same for when there is not even memory for that: 1: there are more, call again (a bounded number goes at a time). */
int keys_flush_some(struct shm *s, unsigned shard, int budget);
/* Bytes the key holds in the segment, itself included; of a large dict or list the elements are estimated from `samples`
 * (0: all). Reads. */
uint64_t key_memory(struct shm *s, const struct key *key, uint32_t samples);
/* A bounded piece of the doomed objects. For op_tidy(). */
int keys_take_apart(struct shm *s, unsigned shard);

/* ---- values ---- */
/* Reads. The bytes; those of an integer are written to `digits`. -ENOENT, -EPROTOTYPE. */
int value_get(struct shm *s, const struct key_name *name, char digits[24], struct task_bytes *ret);
struct task_bytes value_bytes(struct shm *s, const struct key *key, char digits[24]);
/* Sets the key, of whatever type it was, to these bytes; the expiry goes unless keep_expire. */
int value_set(struct shm *s, const struct key_name *name, const void *data, size_t len,
              bool keep_expire);
/* Bytes [at, at + len) become data; what is before and missing becomes zeroes. -EMSGSIZE over 64 MiB. Returns 0 and the
 * new length. */
int value_write(struct shm *s, const struct key_name *name, uint64_t at, const void *data,
                size_t len, uint64_t *ret_len);
/* Adds to an integer. -EDOM: not an integer; -ERANGE: it would overflow. */
int value_add(struct shm *s, const struct key_name *name, int64_t by, int64_t *ret);
/* The integer that a value is, as Redis takes it. -EDOM. */
int value_integer(const void *data, size_t len, int64_t *ret);

/* ---- dicts: the fields are a hash table (hash.h) ---- */
struct dict {
    struct key key;
    struct shm_hash *fields;
};
/* Reads unless `make`. -ENOENT, -EPROTOTYPE. */
int dict_open(struct shm *s, const struct key_name *name, bool make, struct dict *ret);
/* Reads. The fields of the dict of that name alone, the shortest way to a look-up. -ENOENT, -EPROTOTYPE. */
int dict_fields(struct shm *s, const struct key_name *name, const struct shm_hash **ret);
/* Reads. The value, in the segment. -ENOENT. */
int dict_get(struct shm *s, const struct dict *d, const void *field, size_t len,
             struct task_bytes *ret);
/* 1: a new field, 0: replaced. */
int dict_put(struct shm *s, struct dict *d, const void *field, size_t len, const void *value,
             size_t value_len);
/* 1: removed, 0: there was none. An empty dict is not removed: dict_close(). */
int dict_remove(struct shm *s, struct dict *d, const void *field, size_t len);
/* A field that was found. */
int dict_remove_found(struct shm *s, struct dict *d, const struct hash_ref *ref);
uint64_t dict_count(const struct dict *d);
/* The end of a change: marks the key, and removes an empty dict. */
int dict_close(struct shm *s, struct dict *d);
