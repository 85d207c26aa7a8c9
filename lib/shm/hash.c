/* SPDX-License-Identifier: MIT */
/* Linear hashing (W. Litwin, "Linear hashing: a new tool for file and table addressing", 1980): the table grows by splitting
 * one bucket at a time, so no operation ever moves more than the entries of one bucket, and shrinks by joining the last
 * bucket to the one it was split from.
 *
 * Buckets are cache lines of seven slots (16 bits of the hash, 48 of the node's offset) and an overflow link. Bucket 0
 * lies in the table's head, so a dict of up to seven fields owns nothing but its nodes. Buckets 1.. lie in stretches that
 * double in size up to 1 MiB (16,384 buckets); a directory of their offsets is copied to a larger block when it is full.
 * A stretch is not cleared when it is made: a bucket is written when a split creates it.
 *
 *     bucket i >= 1, k = log2(i):  k < 14: directory[k], i - 2^k     else: directory[13 + i / 16384], i % 16384
 *
 * Scanning follows the reversed bits of the bucket number, as P. Noordhuis devised it for Redis: whatever splits and joins
 * between two steps, the buckets still to come hold all entries not yet met.
 *
 * Invariants: every key is in the bucket its hash says; count is the number of nodes; buckets beyond `buckets` hold
 * nothing that is alive. Fails: as hash.h says; -ESTALE for anything that makes no sense, which a reader without the
 * lock takes for a change under way. */
#include "lib/shm/hash.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "lib/shm/alloc.h"
#include "lib/shm/internal.h"
#include "lib/shm/lock.h"
#include "lib/shm/op.h"

enum {
    SLOTS = 7,
    LINK = 7, /* word of a bucket: the next one in its chain */
    STRETCH_BITS = 14,
    FULL = 5,         /* entries per bucket at which the table grows, */
    EMPTY = 2,        /* ... and below which it shrinks */
    CHAINS_FULL = 16, /* so many times fuller when there is no memory to grow, but no more */
    CHAIN_MAX = 1024,
    IN_PLACE = 128, /* values up to this size are changed word by word */
    DIR_FIRST = 4,
};

#define ALWAYS_INLINE inline __attribute__((always_inline))

#define OFF_MASK    ((UINT64_C(1) << 48) - 1)
#define BUCKETS_MAX (UINT64_C(1) << 40)

/* ---- the hash ---- */

/* Bits that neither the bucket number nor the shard number comes from. */
static uint64_t tag_of(uint64_t hash) {
    return hash >> 40 & 0xffff;
}

/* ---- nodes ---- */

static inline uint64_t pad8(uint64_t n) {
    return (n + 7) & ~UINT64_C(7);
}

static inline struct shm_node *node_at(const struct shm *s, uint64_t slot) {
    uint64_t off = slot & OFF_MASK;
    if (off % 8 || off < s->data_off || off > s->size - sizeof(struct shm_node)) {
        return NULL;
    }
    return (void *)(s->base + off);
}

static uint64_t node_off(const struct shm *s, const struct shm_node *n) {
    return (uint64_t)((const uint8_t *)n - s->base);
}

static uint64_t lens_make(uint64_t klen, uint64_t vlen) {
    return klen | vlen << 32;
}

const void *hash_key(const struct shm *s, const struct shm_node *n, size_t *ret_len) {
    uint64_t lens = get(&n->lens), klen = lens & 0xffffffff, at = pad8(lens >> 32);
    if (at + klen > s->size - node_off(s, n) - sizeof(*n)) {
        return NULL;
    }
    *ret_len = klen;
    return n->data + at;
}

static inline void *value_of(const struct shm *s, const struct shm_node *n, size_t *ret_len) {
    uint64_t vlen = get(&n->lens) >> 32;
    if (vlen > s->size - node_off(s, n) - sizeof(*n)) {
        return NULL;
    }
    *ret_len = vlen;
    return (void *)(uintptr_t)n->data;
}

void *hash_value(const struct shm *s, const struct shm_node *n, size_t *ret_len) {
    return value_of(s, n, ret_len);
}

/* ---- buckets ---- */

/* A number that no segment has room for is damage; scans would go round and round by it. */
static uint64_t bucket_count(const struct shm_hash *h) {
    uint64_t n = get(&h->buckets);
    return n && n <= BUCKETS_MAX ? n : 1;
}

static unsigned log2_of(uint64_t n) {
    return 63 - (unsigned)__builtin_clzll(n);
}

static uint64_t bucket_of(uint64_t hash, uint64_t n) {
    uint64_t mask = (UINT64_C(2) << log2_of(n)) - 1; /* one bit more than the full rounds */
    uint64_t i = hash & mask;
    return i < n ? i : i & mask >> 1;
}

static void place(uint64_t i, uint64_t *ret_dir, uint64_t *ret_in) {
    unsigned k = log2_of(i);
    if (k < STRETCH_BITS) {
        *ret_dir = k;
        *ret_in = i - (UINT64_C(1) << k);
    } else {
        *ret_dir = STRETCH_BITS - 1 + (i >> STRETCH_BITS);
        *ret_in = i & ((1 << STRETCH_BITS) - 1);
    }
}

/* Buckets in the stretch of directory word d. */
static uint64_t stretch_size(uint64_t d) {
    return UINT64_C(1) << (d < STRETCH_BITS ? d : STRETCH_BITS);
}

static inline _Atomic uint64_t *dir_at(const struct shm *s, const struct shm_hash *h, uint64_t d) {
    uint64_t off = get(&h->dir_off), cap = get(&h->dir_cap);
    if (d >= cap || off % 8 || off < s->data_off || off > s->size || cap > (s->size - off) / 8) {
        return NULL;
    }
    return (_Atomic uint64_t *)(void *)(s->base + off) + d;
}

static inline _Atomic uint64_t *line_at(const struct shm *s, uint64_t off) {
    if (off % SHM_LINE || off < s->data_off || off > s->size - SHM_LINE) {
        return NULL;
    }
    return (void *)(s->base + off);
}

/* The words of bucket i; NULL when they make no sense (or, for the one to be made next, do not exist). */
static ALWAYS_INLINE _Atomic uint64_t *bucket_at(const struct shm *s, const struct shm_hash *h,
                                                 uint64_t i) {
    if (i == 0) {
        return (_Atomic uint64_t *)h->first;
    }
    uint64_t d, in;
    place(i, &d, &in);
    _Atomic uint64_t *dir = dir_at(s, h, d);
    uint64_t off = dir ? get(dir) : 0;
    return off ? line_at(s, off + in * SHM_LINE) : NULL;
}

/* Keys are short: comparing whole words here costs less than a call. */
static ALWAYS_INLINE bool same_bytes(const uint8_t *a, const uint8_t *b, size_t n) {
    if (n > 4 * sizeof(uint64_t)) {
        return memcmp(a, b, n) == 0;
    }
    if (n >= 8) {
        uint64_t differ = hash_load8(a + n - 8) ^ hash_load8(b + n - 8);
        for (size_t i = 0; i + 8 < n; i += 8) {
            differ |= hash_load8(a + i) ^ hash_load8(b + i);
        }
        return differ == 0;
    }
    if (n >= 4) {
        return hash_load4(a) == hash_load4(b) && hash_load4(a + n - 4) == hash_load4(b + n - 4);
    }
    return n == 0 || (a[0] == b[0] && a[n / 2] == b[n / 2] && a[n - 1] == b[n - 1]);
}

static ALWAYS_INLINE bool key_is(const struct shm *s, const struct shm_node *n,
                                 const struct hash_word *key) {
    uint64_t lens = get(&n->lens), at = pad8(lens >> 32);
    if ((lens & 0xffffffff) != key->len || at + key->len > s->size - node_off(s, n) - sizeof(*n)) {
        return false;
    }
    return same_bytes(n->data + at, key->data, key->len);
}

struct shm_node *hash_recall(const struct shm *s, const _Atomic uint64_t *slot,
                             const struct hash_word *key) {
    struct shm_node *n = node_at(s, get(slot));
    return n && key_is(s, n, key) ? n : NULL;
}

/* Bits for the slots of a bucket that have the tag: SLOT_OF() says which. Empty ones have the tag 0. All are compared
 * before any is looked at: which of them it is cannot be foreseen, so a jump for each would cost more than the comparisons. */
#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__)
/* Sixteen bytes at a time, which only a damaged offset leaves unaligned. Each word is loaded whole, as x86 has it, and looked at
 * again by whoever follows the bit. */
#define SLOT_OF(bit) ((bit) >> 2)
static inline unsigned slots_tagged(const _Atomic uint64_t *b, uint64_t tag) {
    const __m128i *v = (const __m128i *)(const void *)b, want = _mm_set1_epi16((short)tag);
    __m128i a = _mm_packs_epi16(_mm_cmpeq_epi16(_mm_loadu_si128(v), want),
                                _mm_cmpeq_epi16(_mm_loadu_si128(v + 1), want));
    __m128i c = _mm_packs_epi16(_mm_cmpeq_epi16(_mm_loadu_si128(v + 2), want),
                                _mm_cmpeq_epi16(_mm_loadu_si128(v + 3), want));
    unsigned found = (unsigned)_mm_movemask_epi8(a) | (unsigned)_mm_movemask_epi8(c) << 16;
    return found &
           0x08888888; /* the tag is the last quarter of a word; the eighth word is the link */
}
#else
#define SLOT_OF(bit) (bit)
static inline unsigned slots_tagged(const _Atomic uint64_t *b, uint64_t tag) {
    unsigned found = 0;
    for (int i = 0; i < SLOTS; i++) {
        found |= (unsigned)(get(&b[i]) >> 48 == tag) << i;
    }
    return found;
}
#endif

static ALWAYS_INLINE int find(const struct shm *s, const struct shm_hash *h,
                              const struct hash_word *key, struct hash_ref *ret) {
    uint64_t tag = tag_of(key->hash);
    _Atomic uint64_t *b = bucket_at(s, h, bucket_of(key->hash, bucket_count(h)));
    for (int hops = 0; b && hops < CHAIN_MAX; hops++) {
        for (unsigned found = slots_tagged(b, tag); found; found &= found - 1) {
            _Atomic uint64_t *slot = &b[SLOT_OF(__builtin_ctz(found))];
            uint64_t word = get(slot);
            struct shm_node *n = node_at(s, word);
            if (!word) {
                continue;
            }
            if (!n) {
                return -ESTALE;
            }
            /* the key lies behind the value, mostly in the next line: both are fetched at once */
            __builtin_prefetch((const uint8_t *)n + SHM_LINE);
            if (key_is(s, n, key)) {
                *ret = (struct hash_ref){n, slot};
                return 0;
            }
        }
        uint64_t link = get(&b[LINK]);
        if (!link) {
            return -ENOENT;
        }
        b = line_at(s, link);
    }
    return -ESTALE;
}

int hash_find(const struct shm *s, const struct shm_hash *h, const struct hash_word *key,
              struct hash_ref *ret) {
    return find(s, h, key, ret);
}

int hash_get(const struct shm *s, const struct shm_hash *h, const void *key, size_t key_len,
             const void **ret, size_t *ret_len) {
    struct hash_word w = hash_word(s, key, key_len);
    struct hash_ref ref;
    int r = find(s, h, &w, &ref);
    if (r == 0) {
        *ret = value_of(s, ref.node, ret_len);
        r = *ret ? 0 : -ESTALE;
    }
    return r;
}

/* ---- chains ---- */

static int new_bucket(struct shm *s, uint64_t *ret_off) {
    int r = alloc_tx(s, SHM_LINE, ret_off);
    if (r == 0) {
        _Atomic uint64_t *b = (void *)(s->base + *ret_off);
        for (int i = 0; i <= LINK; i++) {
            put(&b[i], 0);
        }
    }
    return r;
}

/* Puts a slot word into a chain, at the first free place or into a new overflow bucket. `fresh`: nobody can see this chain
 * yet, so its words need no log. */
static int chain_put(struct shm *s, _Atomic uint64_t *b, uint64_t slot, bool fresh,
                     _Atomic uint64_t **ret) {
    int r = tx_need(s, 8);
    for (int hops = 0; r == 0 && b && hops < CHAIN_MAX; hops++) {
        for (int i = 0; i < SLOTS; i++) {
            if (get(&b[i]) == 0) {
                if (fresh) {
                    put(&b[i], slot);
                } else {
                    tx_set(s, &b[i], slot);
                }
                *ret = &b[i];
                return 0;
            }
        }
        uint64_t link = get(&b[LINK]);
        if (!link) {
            r = new_bucket(s, &link);
            if (r) {
                return r;
            }
            if (fresh) {
                put(&b[LINK], link);
            } else {
                tx_set(s, &b[LINK], link);
            }
        }
        b = line_at(s, link);
    }
    return r ? r : -EBADMSG;
}

/* Takes overflow buckets without entries out of a chain. */
static int chain_tidy(struct shm *s, unsigned shard, _Atomic uint64_t *b) {
    for (int hops = 0; hops < CHAIN_MAX; hops++) {
        uint64_t link = get(&b[LINK]);
        _Atomic uint64_t *next = link ? line_at(s, link) : NULL;
        if (!next) {
            return link ? -EBADMSG : 0;
        }
        bool empty = true;
        for (int i = 0; i < SLOTS; i++) {
            empty &= get(&next[i]) == 0;
        }
        if (empty) {
            int r = tx_need(s, 4);
            if (r) {
                return r;
            }
            tx_set(s, &b[LINK], get(&next[LINK]));
            op_free(s, shard, link);
        } else {
            b = next;
        }
    }
    return -EBADMSG;
}

/* ---- growing and shrinking ---- */

static int dir_grow(struct shm *s, unsigned shard, struct shm_hash *h) {
    uint64_t cap = get(&h->dir_cap), off;
    uint64_t more = cap ? cap * 2 : DIR_FIRST;
    int r = alloc_tx(s, more * 8, &off);
    if (r) {
        return r;
    }
    _Atomic uint64_t *to = (void *)(s->base + off);
    for (uint64_t i = 0; i < more; i++) {
        const _Atomic uint64_t *from = i < cap ? dir_at(s, h, i) : NULL;
        put(&to[i], from ? get(from) : 0);
    }
    uint64_t old = get(&h->dir_off);
    tx_set(s, &h->dir_off, off);
    tx_set(s, &h->dir_cap, more);
    if (old) {
        op_free(s, shard, old);
    }
    return 0;
}

/* Makes sure that bucket i has a place; clears it. */
static int bucket_make(struct shm *s, unsigned shard, struct shm_hash *h, uint64_t i,
                       _Atomic uint64_t **ret) {
    uint64_t d, in, off;
    place(i, &d, &in);
    int r = tx_need(s, 16);
    if (r == 0 && d >= get(&h->dir_cap)) {
        r = dir_grow(s, shard, h);
    }
    _Atomic uint64_t *dir = r == 0 ? dir_at(s, h, d) : NULL;
    if (r == 0 && !dir) {
        r = -EBADMSG;
    }
    if (r == 0 && in == 0 && get(dir) == 0) {
        r = alloc_tx(s, stretch_size(d) * SHM_LINE, &off);
        if (r == 0) {
            tx_set(s, dir, off);
        }
    }
    if (r) {
        return r;
    }
    _Atomic uint64_t *b = bucket_at(s, h, i);
    if (!b) {
        return -EBADMSG;
    }
    /* joined to another in this operation, it may have to come back as it was */
    bool spare = op_is_spare(s, b, SHM_LINE);
    for (int k = 0; k <= LINK; k++) {
        if (spare) {
            put(&b[k], 0);
        } else {
            tx_set(s, &b[k], 0);
        }
    }
    *ret = b;
    return 0;
}

static int rehash(const struct shm *s, uint64_t slot, uint64_t *ret) {
    struct shm_node *n = node_at(s, slot);
    size_t len;
    const void *key = n ? hash_key(s, n, &len) : NULL;
    if (!key) {
        return -EBADMSG;
    }
    *ret = hash_bytes(key, len, s->seed);
    return 0;
}

/* Moves those of bucket `from` that belong into the new last bucket. */
static int grow(struct shm *s, unsigned shard, struct shm_hash *h) {
    uint64_t n = bucket_count(h);
    _Atomic uint64_t *to, *unused;
    int r = bucket_make(s, shard, h, n, &to);
    if (r) {
        return r;
    }
    _Atomic uint64_t *from = bucket_at(s, h, n - (UINT64_C(1) << log2_of(n)));
    _Atomic uint64_t *b = from;
    for (int hops = 0; b && hops < CHAIN_MAX; hops++) {
        r = tx_need(s, 16);
        for (int i = 0; r == 0 && i < SLOTS; i++) {
            uint64_t slot = get(&b[i]), hash = 0;
            r = slot ? rehash(s, slot, &hash) : 0;
            if (r == 0 && slot && bucket_of(hash, n + 1) == n) {
                r = chain_put(s, to, slot, true, &unused);
                if (r == 0) {
                    tx_set(s, &b[i], 0);
                }
            }
        }
        if (r) {
            return r;
        }
        uint64_t link = get(&b[LINK]);
        if (!link) {
            tx_set(s, &h->buckets, n + 1);
            return chain_tidy(s, shard, from);
        }
        b = line_at(s, link);
    }
    return -EBADMSG;
}

/* Joins the last bucket to the one it was split from. */
static int shrink(struct shm *s, unsigned shard, struct shm_hash *h) {
    uint64_t last = bucket_count(h) - 1, d, in;
    _Atomic uint64_t *b = bucket_at(s, h, last), *unused;
    _Atomic uint64_t *to = bucket_at(s, h, last - (UINT64_C(1) << log2_of(last)));
    bool overflow = false;
    if (b) {
        op_vacate(s, b, SHM_LINE);
    }
    for (int hops = 0; b && to && hops < CHAIN_MAX; hops++) {
        uint64_t link = get(&b[LINK]);
        for (int i = 0; i < SLOTS; i++) {
            uint64_t slot = get(&b[i]);
            int r = slot ? chain_put(s, to, slot, false, &unused) : 0;
            if (r) {
                return r;
            }
        }
        int r = tx_need(s, 16);
        if (r) {
            return r;
        }
        if (overflow) {
            op_free(s, shard, (uint64_t)((uint8_t *)b - s->base));
        }
        overflow = true;
        if (!link) {
            tx_set(s, &h->buckets, last);
            place(last, &d, &in);
            _Atomic uint64_t *dir = dir_at(s, h, d);
            if (in == 0 && dir) {
                op_free(s, shard, get(dir));
                tx_set(s, dir, 0);
            }
            if (last == 1) {
                op_free(s, shard, get(&h->dir_off));
                tx_set(s, &h->dir_off, 0);
                tx_set(s, &h->dir_cap, 0);
            }
            return 0;
        }
        b = line_at(s, link);
    }
    return -EBADMSG;
}

/* Either; when it fails, all is as before. */
static int resize(struct shm *s, unsigned shard, struct shm_hash *h,
                  int (*fn)(struct shm *s, unsigned shard, struct shm_hash *h)) {
    struct op_mark mark;
    op_mark(s, &mark);
    int r = fn(s, shard, h);
    if (r) {
        op_undo(s, &mark);
    }
    return r;
}

/* ---- changing ---- */

static int node_make(struct shm *s, const struct hash_word *key, const void *value, size_t len,
                     uint64_t *ret_off) {
    if (key->len > UINT32_MAX || len > UINT32_MAX) {
        return -EMSGSIZE;
    }
    int r = alloc_tx(s, sizeof(struct shm_node) + pad8(len) + key->len, ret_off);
    if (r) {
        return r;
    }
    struct shm_node *n = (void *)(s->base + *ret_off);
    put(&n->lens, lens_make(key->len, len));
    if (value && len) {
        memcpy(n->data, value, len);
    }
    if (key->len) {
        memcpy(n->data + pad8(len), key->data, key->len);
    }
    return 0;
}

int hash_add(struct shm *s, unsigned shard, struct shm_hash *h, const struct hash_word *key,
             const void *value, size_t len, struct hash_ref *ret) {
    op_changes(s, shard);
    uint64_t off, count = get(&h->count), n = bucket_count(h);
    int r = count >= n * FULL ? resize(s, shard, h, grow) : 0;
    if (r == -ENOMEM && count < n * FULL * CHAINS_FULL) {
        r = 0; /* no room for another bucket: the chains get longer */
    }
    if (r == 0) {
        r = node_make(s, key, value, len, &off);
    }
    if (r) {
        return r;
    }
    _Atomic uint64_t *b = bucket_at(s, h, bucket_of(key->hash, bucket_count(h))), *slot;
    if (!b) {
        return -EBADMSG;
    }
    r = chain_put(s, b, tag_of(key->hash) << 48 | off, false, &slot);
    if (r == 0) {
        tx_set(s, &h->count, count + 1);
        *ret = (struct hash_ref){(void *)(s->base + off), slot};
    }
    return r;
}

int hash_set(struct shm *s, unsigned shard, struct shm_hash *h, struct hash_ref *ref,
             const void *value, size_t len) {
    (void)h;
    op_changes(s, shard);
    uint64_t lens = get(&ref->node->lens), old = lens >> 32;
    int r = tx_need(s, IN_PLACE / 8 + 8);
    if (r) {
        return r;
    }
    if (pad8(old) == pad8(len) && len <= IN_PLACE && value) {
        if (old != len) {
            tx_set(s, &ref->node->lens, lens_make(lens & 0xffffffff, len));
        }
        tx_set_bytes(s, ref->node->data, value, len);
        return 0;
    }
    struct hash_word key = {0};
    key.data = hash_key(s, ref->node, &key.len);
    uint64_t off;
    if (!key.data) {
        return -EBADMSG;
    }
    r = node_make(s, &key, value, len, &off);
    if (r == 0) {
        uint64_t slot = get(ref->slot);
        tx_set(s, ref->slot, (slot & ~OFF_MASK) | off);
        op_free(s, shard, slot & OFF_MASK);
        ref->node = (void *)(s->base + off);
    }
    return r;
}

int hash_del(struct shm *s, unsigned shard, struct shm_hash *h, const struct hash_ref *ref) {
    op_changes(s, shard);
    int r = tx_need(s, 8);
    if (r) {
        return r;
    }
    uint64_t slot = get(ref->slot), count = get(&h->count), n = bucket_count(h);
    tx_set(s, ref->slot, 0);
    tx_set(s, &h->count, count - 1);
    op_free(s, shard, slot & OFF_MASK);
    if (n > 1 && count < n * EMPTY) {
        r = resize(s, shard, h, shrink);
        r = r == -ENOMEM ? 0 : r; /* no room for an overflow bucket: it stays as it is */
    }
    if (r == 0 && count == 1 && bucket_count(h) == 1) {
        r = chain_tidy(s, shard, h->first); /* an empty table owns nothing */
    }
    return r;
}

/* ---- walking ---- */

static int visit_chain(const struct shm *s, _Atomic uint64_t *b, hash_visit *fn, void *arg) {
    for (int hops = 0; b && hops < CHAIN_MAX; hops++) {
        for (int i = 0; i < SLOTS; i++) {
            uint64_t slot = get(&b[i]);
            if (!slot) {
                continue;
            }
            struct shm_node *n = node_at(s, slot);
            int r = n ? fn(arg, n) : -ESTALE;
            if (r) {
                return r;
            }
        }
        uint64_t link = get(&b[LINK]);
        if (!link) {
            return 0;
        }
        b = line_at(s, link);
    }
    return -ESTALE;
}

static uint64_t reverse(uint64_t v) {
    v = (v >> 1 & UINT64_C(0x5555555555555555)) | (v & UINT64_C(0x5555555555555555)) << 1;
    v = (v >> 2 & UINT64_C(0x3333333333333333)) | (v & UINT64_C(0x3333333333333333)) << 2;
    v = (v >> 4 & UINT64_C(0x0f0f0f0f0f0f0f0f)) | (v & UINT64_C(0x0f0f0f0f0f0f0f0f)) << 4;
    return __builtin_bswap64(v);
}

int hash_scan(const struct shm *s, const struct shm_hash *h, uint64_t *cursor, hash_visit *fn,
              void *arg) {
    uint64_t n = bucket_count(h), full = UINT64_C(1) << log2_of(n);
    uint64_t i = bucket_of(*cursor, n);
    /* buckets already split in this round, and their new halves, are told apart by one bit more */
    uint64_t mask = i >= full || i < n - full ? full * 2 - 1 : full - 1;
    int r = visit_chain(s, bucket_at(s, h, i), fn, arg);
    if (r) {
        return r;
    }
    *cursor = reverse(reverse(*cursor | ~mask) + 1);
    return 0;
}

struct pick {
    uint64_t left; /* entries to be passed over */
    struct shm_node *node;
};

static int pick_one(void *arg, struct shm_node *n) {
    struct pick *p = arg;
    if (p->left--) {
        return 0;
    }
    p->node = n;
    return 1;
}

/* The entry at a place of a bucket; NULL when there are not so many. */
static struct shm_node *pick(const struct shm *s, const struct shm_hash *h, uint64_t bucket,
                             uint64_t place, int *ret) {
    struct pick p = {.left = place};
    *ret = visit_chain(s, bucket_at(s, h, bucket), pick_one, &p);
    return *ret < 0 ? NULL : p.node;
}

/* A bucket and a place in it are drawn until there is an entry, so all entries are equally likely as long as no bucket has more of
 * them than there are places. Those not yet split hold twice the average, and chance doubles that once in 10^10. */
struct shm_node *hash_random(const struct shm *s, const struct shm_hash *h, uint64_t r,
                             struct hash_ref *ret) {
    enum { PLACES = 16, DRAWS = 512 };
    uint64_t n = bucket_count(h), max = s->size / SHM_LINE, count = get(&h->count);
    n = n < max ? n : max;
    uint64_t places = n > 1 ? PLACES + 4 * (count / n) : count; /* the only bucket has them all */
    struct shm_node *node = NULL;
    int e = 0;
    for (int i = 0; i < DRAWS && !node && e >= 0 && count; i++) {
        r = r * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint64_t v = hash_mix(r, UINT64_C(0x9e3779b97f4a7c15)); /* its high bits alone are good */
        node = pick(s, h, (v >> 16) % n, (v & 0xffff) % places, &e);
    }
    for (uint64_t i = 0; i < n && !node && e >= 0 && count; i++) {
        node = pick(s, h, i, 0, &e); /* almost empty: any */
    }
    size_t len;
    const void *key = node ? hash_key(s, node, &len) : NULL;
    struct hash_word w = key ? hash_word(s, key, len) : (struct hash_word){0};
    return key && hash_find(s, h, &w, ret) == 0 ? ret->node : NULL;
}

/* ---- taking apart ---- */

struct apart {
    struct shm *s;
    unsigned shard;
    struct shm_hash *h;
    int budget;
    hash_visit *node;
    void *arg;
};

/* Gives the nodes in the slots of one bucket to the garbage. */
static int drop_nodes(struct apart *a, _Atomic uint64_t *b, bool clear) {
    int r = tx_need(a->s, SLOTS * 8 + 16);
    for (int i = 0; r == 0 && i < SLOTS; i++) {
        uint64_t slot = get(&b[i]);
        if (!slot) {
            continue;
        }
        struct shm_node *n = node_at(a->s, slot);
        if (n && a->node) {
            r = a->node(a->arg, n);
            r = r ? r : tx_need(a->s, 8);
            if (r) {
                break;
            }
        }
        tx_set(a->s, &a->h->count, get(&a->h->count) - 1);
        op_free(a->s, a->shard, slot & OFF_MASK);
        if (clear) {
            tx_set(a->s, &b[i], 0);
        }
        a->budget--;
    }
    return r ? r : tx_need(a->s, 8);
}

/* Frees the nodes of the last bucket, then the bucket. */
static int drop_last(struct apart *a) {
    struct shm *s = a->s;
    struct shm_hash *h = a->h;
    uint64_t last = bucket_count(h) - 1, d, in;
    _Atomic uint64_t *b = bucket_at(s, h, last);
    bool overflow = false;
    for (int hops = 0; b && hops < CHAIN_MAX; hops++) {
        uint64_t link = get(&b[LINK]);
        int r = drop_nodes(a, b, !overflow);
        if (r) {
            return r;
        }
        if (overflow) {
            op_free(s, a->shard, (uint64_t)((uint8_t *)b - s->base));
        } else {
            tx_set(s, &b[LINK], 0);
        }
        overflow = true;
        b = link ? line_at(s, link) : NULL;
        if (!b && link) {
            return -EBADMSG;
        }
    }
    if (last > 0) {
        place(last, &d, &in);
        _Atomic uint64_t *dir = dir_at(s, h, d);
        tx_set(s, &h->buckets, last);
        if (in == 0 && dir) {
            op_free(s, a->shard, get(dir));
            tx_set(s, dir, 0);
        }
    }
    return 0;
}

int hash_take_apart(struct shm *s, unsigned shard, struct shm_hash *h, int budget, hash_visit *node,
                    void *arg) {
    struct apart a = {s, shard, h, budget, node, arg};
    op_changes(s, shard);
    while (get(&h->count) || bucket_count(h) > 1 || get(&h->first[LINK])) {
        if (a.budget-- <= 0) {
            return 1;
        }
        bool first = bucket_count(h) == 1;
        int r = drop_last(&a);
        if (r) {
            return r;
        }
        if (first && get(&h->count)) {
            tx_set(s, &h->count, 0); /* damaged by somebody: nothing is left to find */
        }
    }
    int r = tx_need(s, 8);
    if (r == 0 && get(&h->dir_off)) {
        op_free(s, shard, get(&h->dir_off));
        tx_set(s, &h->dir_off, 0);
        tx_set(s, &h->dir_cap, 0);
    }
    return r;
}

/* ---- for check.c ---- */

struct blocks {
    const struct shm *s;
    int (*fn)(void *arg, uint64_t off, uint64_t bytes);
    hash_visit *node;
    void *arg;
};

static int block_of_node(void *arg, struct shm_node *n) {
    struct blocks *b = arg;
    uint64_t lens = get(&n->lens);
    int r = b->fn(b->arg, node_off(b->s, n), sizeof(*n) + pad8(lens >> 32) + (lens & 0xffffffff));
    return r == 0 && b->node ? b->node(b->arg, n) : r;
}

static int block_of_chain(struct blocks *k, _Atomic uint64_t *b) {
    int r = visit_chain(k->s, b, block_of_node, k);
    for (int hops = 0; r == 0 && hops < CHAIN_MAX; hops++) {
        uint64_t link = get(&b[LINK]);
        if (!link) {
            return 0;
        }
        b = line_at(k->s, link);
        r = b ? k->fn(k->arg, link, SHM_LINE) : -ESTALE;
    }
    return r;
}

int hash_blocks(const struct shm *s, const struct shm_hash *h,
                int (*fn)(void *arg, uint64_t off, uint64_t bytes), hash_visit *node, void *arg) {
    struct blocks k = {s, fn, node, arg};
    uint64_t n = bucket_count(h), cap = get(&h->dir_cap);
    if (n > s->size / SHM_LINE || cap > s->size / 8) {
        return -ESTALE;
    }
    int r = get(&h->dir_off) ? fn(arg, get(&h->dir_off), cap * 8) : 0;
    for (uint64_t d = 0; r == 0 && d < cap; d++) {
        const _Atomic uint64_t *dir = dir_at(s, h, d);
        if (!dir) {
            return -ESTALE;
        }
        r = get(dir) ? fn(arg, get(dir), stretch_size(d) * SHM_LINE) : 0;
    }
    for (uint64_t i = 0; r == 0 && i < n; i++) {
        _Atomic uint64_t *b = bucket_at(s, h, i);
        r = b ? block_of_chain(&k, b) : -ESTALE;
    }
    return r;
}
