/* SPDX-License-Identifier: MIT */
/* The allocator. The data area is cut into chunks of 16 KiB. A chunk holds small blocks of one size
 * class, or is part of a run that holds one large block. Chunk heads and the map of free chunks lie
 * outside of the data, so that a handler that overruns its block destroys payloads, not structure;
 * only the links of free small blocks lie in the blocks.
 *
 * Small blocks belong to one of eight arenas, each with a lock and, per class, a list of its chunks
 * that have room. A process uses the arena of its slot number and gives a block back to the arena
 * of its chunk. Whole chunks come from and return to the map under the chunk lock (order: arena,
 * chunk). The map is searched first-fit from a hint below which no chunk is free, so memory stays
 * dense.
 *
 * Each verb is one transaction that also changes the word that owns the block. The first word of a
 * block is logged when the block is handed out, because it may be overwritten before the commit and
 * holds the link while the block is free. Log entries needed: at most 16 for small blocks; a run of
 * 64 MiB changes 66 words of the map and 4 more.
 *
 * Fails: -ENOMEM, -EMSGSIZE, -EAGAIN (locks), -EBADMSG (an offset that names no block, lists that
 * make no sense: another process wrote there); then nothing is changed, except that
 * alloc_take_back() clears such an owner. */
#include "lib/shm/alloc.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>

#include "lib/base/cleanup.h"
#include "lib/shm/account.h"
#include "lib/shm/internal.h"
#include "lib/shm/lock.h"

enum { KIND_NONE = 0, KIND_SMALL = 1, KIND_RUN = 2 };
enum { TRIM_LOOK = 64 };
enum { RESERVE = 32, RESERVE_MAX = 256 }; /* one chunk of so many, but not more: 4 MiB */

/* About four steps to a doubling; each divides a chunk with little waste. */
static const uint16_t class_size[] = {32,   48,   64,   80,   96,   112,  128,  160, 192,  224,
                                      256,  320,  384,  448,  512,  640,  768,  896, 1024, 1280,
                                      1536, 1792, 2048, 2720, 3264, 4096, 5456, 8192};
_Static_assert(ARRAY_SIZE(class_size) <= SHM_CLASSES, "size classes");
#define CLASS_MAX 8192u

/* ---- chunk heads ---- */

static unsigned w0_kind(uint64_t w) {
    return w & 0xff;
}
static unsigned w0_class(uint64_t w) {
    return w >> 8 & 0xff;
}
static unsigned w0_arena(uint64_t w) {
    return w >> 16 & 0xffff;
}
static uint32_t w0_run(uint64_t w) {
    return (uint32_t)(w >> 32);
}
static uint64_t w0_make(unsigned kind, unsigned cls, unsigned arena, uint32_t run) {
    return kind | (uint64_t)cls << 8 | (uint64_t)arena << 16 | (uint64_t)run << 32;
}

struct use { /* w1, unpacked */
    unsigned first, fresh, used;
};
static struct use use_of(uint64_t w) {
    return (struct use){w & 0xffff, w >> 16 & 0xffff, w >> 32 & 0xffff};
}
static uint64_t use_word(struct use u) {
    return u.first | (uint64_t)u.fresh << 16 | (uint64_t)u.used << 32;
}

static uint64_t chunk_off(const struct shm *s, uint32_t chunk) {
    return s->data_off + (uint64_t)chunk * SHM_CHUNK;
}

static _Atomic uint64_t *word_at(const struct shm *s, uint64_t off) {
    return (void *)(s->base + off);
}

/* The head of the chunk that off lies in, checked; NULL when it is in no used chunk. */
static struct shm_chunk *chunk_at(const struct shm *s, uint64_t off, uint32_t *ret_chunk,
                                  uint64_t *ret_w0) {
    if (off < s->data_off || (off - s->data_off) / SHM_CHUNK >= s->n_chunks) {
        return NULL;
    }
    uint32_t chunk = (uint32_t)((off - s->data_off) / SHM_CHUNK);
    uint64_t w0 = get(&s->chunks[chunk].w0);
    bool small = w0_kind(w0) == KIND_SMALL && w0_class(w0) < ARRAY_SIZE(class_size) &&
                 w0_arena(w0) < SHM_ARENAS;
    bool run = w0_kind(w0) == KIND_RUN && w0_run(w0) && w0_run(w0) <= s->n_chunks - chunk;
    if (!small && !run) {
        return NULL;
    }
    *ret_chunk = chunk;
    *ret_w0 = w0;
    return &s->chunks[chunk];
}

uint64_t alloc_size(const struct shm *s, uint64_t off) {
    uint32_t chunk;
    uint64_t w0;
    if (!chunk_at(s, off, &chunk, &w0)) {
        return 0;
    }
    uint64_t in = off - chunk_off(s, chunk);
    if (w0_kind(w0) == KIND_RUN) {
        return in == 0 ? (uint64_t)w0_run(w0) * SHM_CHUNK : 0;
    }
    unsigned size = class_size[w0_class(w0)];
    return (uint32_t)in % size == 0 && in + size <= SHM_CHUNK ? size : 0;
}

void *alloc_ptr(const struct shm *s, uint64_t off, uint64_t len) {
    uint64_t size = alloc_size(s, off);
    return size && len <= size ? s->base + off : NULL;
}

/* ---- the chunk map (chunk lock held) ---- */

/* The first bit at or after `from` that equals `value`; n_chunks when there is none. */
static uint64_t map_next(const struct shm *s, uint64_t from, bool value) {
    for (uint64_t w = from / 64; w * 64 < s->n_chunks; w++) {
        uint64_t bits = get(&s->chunk_map[w]);
        if (!value) {
            bits = ~bits;
        }
        if (w == from / 64) {
            bits &= UINT64_MAX << (from % 64);
        }
        if (bits) {
            uint64_t at = w * 64 + (uint64_t)__builtin_ctzll(bits);
            return at < s->n_chunks ? at : s->n_chunks;
        }
    }
    return s->n_chunks;
}

static void map_set(struct shm *s, uint32_t chunk, uint32_t n, bool value) {
    for (uint32_t i = chunk; i < chunk + n;) {
        unsigned bit = i % 64;
        uint32_t here = 64 - bit < chunk + n - i ? 64 - bit : chunk + n - i;
        uint64_t mask = (here == 64 ? UINT64_MAX : (UINT64_C(1) << here) - 1) << bit;
        _Atomic uint64_t *w = &s->chunk_map[i / 64];
        tx_set(s, w, value ? get(w) | mask : get(w) & ~mask);
        i += here;
    }
    uint64_t free = get(&s->head->chunks_free);
    tx_set(s, &s->head->chunks_free, value ? free + n : free - n);
}

/* Chunks kept free for what helps to remove things: undo logs, and the record of a shard that is flushed. Without them a full
 * segment could not be emptied. */
static uint64_t reserve(const struct shm *s) {
    uint64_t n = s->n_chunks / RESERVE;
    return s->op_removing ? 0 : n < RESERVE_MAX ? n : RESERVE_MAX;
}

/* Finds n free chunks in a row. */
static int map_find(struct shm *s, uint32_t n, uint32_t *ret) {
    if (get(&s->head->chunks_free) < n + reserve(s)) {
        return -ENOMEM;
    }
    uint64_t hint = get(&s->head->chunk_hint) * 64;
    for (uint64_t at = hint < s->n_chunks ? hint : 0; at < s->n_chunks;) {
        uint64_t begin = map_next(s, at, true);
        if (n == 1) {
            put(&s->head->chunk_hint, begin / 64);
        }
        at = map_next(s, begin, false);
        if (begin < s->n_chunks && at - begin >= n) {
            *ret = (uint32_t)begin;
            return 0;
        }
    }
    return -ENOMEM;
}

static void map_give_back(struct shm *s, uint32_t chunk, uint32_t n) {
    map_set(s, chunk, n, true);
    tx_set(s, &s->chunks[chunk].w0, 0);
    if (chunk / 64 < get(&s->head->chunk_hint)) {
        put(&s->head->chunk_hint, chunk / 64);
    }
}

/* ---- lists of chunks with room (arena lock held) ---- */

static bool link_bad(const struct shm *s, uint32_t i) {
    return i > s->n_chunks;
}

static void partial_push(struct shm *s, struct shm_arena *a, unsigned cls, uint32_t chunk) {
    uint32_t first = get32(&a->partial[cls]);
    if (link_bad(s, first)) {
        first = 0;
    }
    tx_set(s, &s->chunks[chunk].link, (uint64_t)first << 32);
    if (first) {
        _Atomic uint64_t *l = &s->chunks[first - 1].link;
        tx_set(s, l, (get(l) & ~UINT64_C(0xffffffff)) | (chunk + 1));
    }
    tx_set32(s, &a->partial[cls], chunk + 1);
}

static void partial_remove(struct shm *s, struct shm_arena *a, unsigned cls, uint32_t chunk) {
    uint64_t link = get(&s->chunks[chunk].link);
    uint32_t prev = (uint32_t)link, next = (uint32_t)(link >> 32);
    if (link_bad(s, prev) || link_bad(s, next)) {
        return; /* damaged by somebody else; check will tell */
    }
    if (prev) {
        _Atomic uint64_t *l = &s->chunks[prev - 1].link;
        tx_set(s, l, (get(l) & 0xffffffff) | (uint64_t)next << 32);
    } else {
        tx_set32(s, &a->partial[cls], next);
    }
    if (next) {
        _Atomic uint64_t *l = &s->chunks[next - 1].link;
        tx_set(s, l, (get(l) & ~UINT64_C(0xffffffff)) | prev);
    }
    tx_set(s, &s->chunks[chunk].link, 0);
}

/* ---- small blocks ---- */

static unsigned class_for(uint64_t size) {
    unsigned lo = 0, hi = ARRAY_SIZE(class_size) - 1;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        if (class_size[mid] >= size) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    return lo;
}

/* A new chunk for the class, put on its list. The chunk lock is held as well. */
static int class_grow(struct shm *s, unsigned arena, unsigned cls, uint32_t *ret) {
    uint32_t chunk;
    int r = map_find(s, 1, &chunk);
    if (r) {
        return r;
    }
    map_set(s, chunk, 1, false);
    tx_set(s, &s->chunks[chunk].w0, w0_make(KIND_SMALL, cls, arena, 1));
    tx_set(s, &s->chunks[chunk].w1, 0);
    partial_push(s, &s->arenas[arena], cls, chunk);
    *ret = chunk;
    return 0;
}

/* Takes a block out of a chunk with room. */
static int block_take(struct shm *s, struct shm_arena *a, uint32_t chunk, uint64_t *ret_off) {
    unsigned cls = w0_class(get(&s->chunks[chunk].w0));
    unsigned size = class_size[cls], total = SHM_CHUNK / size;
    struct use u = use_of(get(&s->chunks[chunk].w1));
    uint64_t off;
    if (u.first) {
        if (u.first > u.fresh || u.fresh > total) {
            return -EBADMSG;
        }
        off = chunk_off(s, chunk) + (uint64_t)(u.first - 1) * size;
        uint64_t link = get(word_at(s, off));
        if (link > u.fresh) {
            return -EBADMSG;
        }
        tx_set(s, word_at(s, off), link);
        u.first = (unsigned)link;
    } else {
        if (u.fresh >= total) {
            return -EBADMSG;
        }
        off = chunk_off(s, chunk) + (uint64_t)u.fresh++ * size;
    }
    u.used++;
    tx_set(s, &s->chunks[chunk].w1, use_word(u));
    if (!u.first && u.fresh == total) {
        partial_remove(s, a, cls, chunk);
    }
    *ret_off = off;
    return 0;
}

/* Locks taken for allocation are kept in the handle until alloc_unlock(), so that an operation which needs several
 * blocks commits them all at once. */
static int hold_arena(struct shm *s, unsigned arena) {
    if (s->op_arena >= 0) {
        return 0;
    }
    int r = lock_take(s, &s->arenas[arena].lock);
    if (r == 0) {
        s->op_arena = (int32_t)arena;
    }
    return r;
}

static int hold_chunks(struct shm *s) {
    if (s->op_chunks) {
        return 0;
    }
    int r = lock_take(s, &s->head->chunk_lock);
    s->op_chunks = r == 0;
    return r;
}

void alloc_unlock(struct shm *s) {
    if (s->op_chunks) {
        s->op_chunks = false;
        lock_drop(s, &s->head->chunk_lock);
    }
    if (s->op_arena >= 0) {
        struct shm_arena *a = &s->arenas[s->op_arena];
        s->op_arena = -1;
        lock_drop(s, &a->lock);
    }
}

static int give_small(struct shm *s, unsigned arena, unsigned cls, uint64_t *ret_off) {
    int r = hold_arena(s, arena);
    if (r) {
        return r;
    }
    arena = (unsigned)s->op_arena;
    struct shm_arena *a = &s->arenas[arena];
    uint32_t first = get32(&a->partial[cls]), chunk = first - 1, at;
    uint64_t w0;
    if (!first) {
        r = hold_chunks(s);
        if (r == 0) {
            r = class_grow(s, arena, cls, &chunk);
        }
    } else if (first > s->n_chunks || !chunk_at(s, chunk_off(s, chunk), &at, &w0) ||
               w0_kind(w0) != KIND_SMALL || w0_class(w0) != cls) {
        r = -EBADMSG;
    }
    return r ? r : block_take(s, a, chunk, ret_off);
}

static int give_run(struct shm *s, uint64_t size, uint64_t *ret_off) {
    uint32_t n = (uint32_t)((size + SHM_CHUNK - 1) / SHM_CHUNK), chunk;
    int r = hold_chunks(s);
    if (r == 0) {
        r = map_find(s, n, &chunk);
    }
    if (r == 0) {
        map_set(s, chunk, n, false);
        tx_set(s, &s->chunks[chunk].w0, w0_make(KIND_RUN, 0, 0, n));
        *ret_off = chunk_off(s, chunk);
    }
    return r;
}

int alloc_tx(struct shm *s, uint64_t size, uint64_t *ret_off) {
    assert(size > 0);
    if (size > ALLOC_MAX) {
        return -EMSGSIZE;
    }
    int r = tx_need(s, 80);
    if (r) {
        return r;
    }
    if (size <= CLASS_MAX) {
        unsigned cls = class_for(size);
        r = give_small(s, s->slot % SHM_ARENAS, cls, ret_off);
        size = class_size[cls];
    } else {
        /* lock order: it may be needed later in the operation */
        r = hold_arena(s, s->slot % SHM_ARENAS);
        r = r ? r : give_run(s, size, ret_off);
        size = (size + SHM_CHUNK - 1) / SHM_CHUNK * SHM_CHUNK;
    }
    if (r == 0) {
        account_took(s, (int64_t)size);
    }
    return r;
}

static int give_once(struct shm *s, _Atomic uint64_t *owner, uint64_t size, unsigned arena) {
    uint64_t off;
    int r =
        size > CLASS_MAX ? give_run(s, size, &off) : give_small(s, arena, class_for(size), &off);
    if (r == 0) {
        tx_set(s, owner, off);
        tx_commit(s);
    } else {
        tx_abort(s);
    }
    alloc_unlock(s);
    return r;
}

static int give(struct shm *s, _Atomic uint64_t *owner, uint64_t size) {
    int worst = 0;
    for (unsigned i = 0; i < SHM_ARENAS; i++) {
        int r = give_once(s, owner, size, (s->slot + i) % SHM_ARENAS);
        if (r == 0 || size > CLASS_MAX) {
            return r;
        }
        if (worst != -EAGAIN) {
            worst = r;
        }
    }
    return worst;
}

int alloc_give(struct shm *s, _Atomic uint64_t *owner, uint64_t size) {
    assert(size > 0 && s->op_depth == 0 && s->op_arena < 0);
    if (size > ALLOC_MAX) {
        return -EMSGSIZE;
    }
    int r = give(s, owner, size);
    return r == -ENOMEM && alloc_trim(s) > 0 ? give(s, owner, size) : r;
}

static int take_back_run(struct shm *s, _Atomic uint64_t *owner, uint64_t left) {
    int r = lock_take(s, &s->head->chunk_lock);
    if (r) {
        return r;
    }
    uint32_t chunk;
    uint64_t w0;
    uint64_t off = get(owner);
    if (!chunk_at(s, off, &chunk, &w0) || w0_kind(w0) != KIND_RUN || off != chunk_off(s, chunk)) {
        r = -EBADMSG;
    } else if (map_next(s, chunk, true) < (uint64_t)chunk + w0_run(w0)) {
        r = -EBADMSG; /* part of it is free already */
    } else if (w0_run(w0) > ALLOC_MAX / SHM_CHUNK + 1) {
        r = -EBADMSG;
    } else {
        map_give_back(s, chunk, w0_run(w0));
    }
    tx_set(s, owner, left);
    tx_commit(s);
    lock_drop(s, &s->head->chunk_lock);
    return r;
}

/* Gives an empty chunk back to the map unless it is the only one of its class here. A busy chunk
 * lock is no reason to wait: the chunk just stays. Returns whether the chunk lock is held now. */
static bool release_empty(struct shm *s, struct shm_arena *a, unsigned cls, uint32_t chunk) {
    uint64_t link = get(&s->chunks[chunk].link);
    if (!link || lock_try(s, &s->head->chunk_lock)) {
        return false;
    }
    partial_remove(s, a, cls, chunk);
    map_give_back(s, chunk, 1);
    tx_set(s, &s->chunks[chunk].w1, 0);
    return true;
}

static int block_return(struct shm *s, struct shm_arena *a, uint32_t chunk, uint64_t off,
                        bool *ret_chunk_locked) {
    unsigned cls = w0_class(get(&s->chunks[chunk].w0));
    unsigned size = class_size[cls], total = SHM_CHUNK / size;
    uint64_t in = off - chunk_off(s, chunk);
    struct use u = use_of(get(&s->chunks[chunk].w1));
    if (in % size || in / size >= u.fresh || u.fresh > total || u.first > u.fresh || !u.used) {
        return -EBADMSG;
    }
    bool was_full = !u.first && u.fresh == total;
    tx_set(s, word_at(s, off), u.first);
    u.first = (unsigned)(in / size) + 1;
    u.used--;
    tx_set(s, &s->chunks[chunk].w1, use_word(u));
    if (was_full) {
        partial_push(s, a, cls, chunk);
    }
    if (!u.used) {
        *ret_chunk_locked = release_empty(s, a, cls, chunk);
    }
    return 0;
}

/* Gives the block that *owner names back and leaves `left` in *owner. */
static int take_back(struct shm *s, _Atomic uint64_t *owner, uint64_t left) {
    uint64_t off = get(owner), w0;
    uint32_t chunk;
    struct shm_chunk *c = chunk_at(s, off, &chunk, &w0);
    if (!c || w0_kind(w0) == KIND_RUN) {
        return take_back_run(s, owner, left);
    }
    struct shm_arena *a = &s->arenas[w0_arena(w0)];
    bool chunk_locked = false;
    int r = lock_take(s, &a->lock);
    if (r) {
        return r;
    }
    r = get(&c->w0) == w0 ? block_return(s, a, chunk, off, &chunk_locked) : -EBADMSG;
    tx_set(s, owner, left);
    tx_commit(s);
    if (chunk_locked) {
        lock_drop(s, &s->head->chunk_lock);
    }
    lock_drop(s, &a->lock);
    return r;
}

int alloc_take_back(struct shm *s, _Atomic uint64_t *owner) {
    return get(owner) ? take_back(s, owner, 0) : 0;
}

int alloc_retire(struct shm *s, _Atomic uint64_t *list) {
    uint64_t off = get(list);
    if (!off) {
        return -ENOENT;
    }
    return take_back(s, list, alloc_size(s, off) ? get(word_at(s, off)) : 0);
}

int alloc_swap(struct shm *s, _Atomic uint64_t *owner, _Atomic uint64_t *spare) {
    /* both words are the caller's own: no lock, only all or nothing */
    uint64_t a = get(owner), b = get(spare);
    tx_set(s, owner, b);
    tx_set(s, spare, a);
    tx_commit(s);
    return 0;
}

/* An empty chunk among the first few of a list; 0: there is none. */
static uint32_t find_empty(const struct shm *s, uint32_t first) {
    for (int i = 0; i < TRIM_LOOK && first && !link_bad(s, first); i++) {
        const struct shm_chunk *c = &s->chunks[first - 1];
        if (!use_of(get(&c->w1)).used) {
            return first;
        }
        first = (uint32_t)(get(&c->link) >> 32);
    }
    return 0;
}

/* The arena's lock is held. */
static int trim_class(struct shm *s, struct shm_arena *a, unsigned cls) {
    uint32_t at, chunk = find_empty(s, get32(&a->partial[cls])) - 1;
    uint64_t w0;
    if (chunk == UINT32_MAX || !chunk_at(s, chunk_off(s, chunk), &at, &w0) ||
        w0_kind(w0) != KIND_SMALL || w0_class(w0) != cls || &s->arenas[w0_arena(w0)] != a) {
        return 0;
    }
    int r = lock_take(s, &s->head->chunk_lock);
    if (r) {
        return r;
    }
    partial_remove(s, a, cls, chunk);
    map_give_back(s, chunk, 1);
    tx_set(s, &s->chunks[chunk].w1, 0);
    tx_commit(s);
    lock_drop(s, &s->head->chunk_lock);
    return 1;
}

int alloc_trim(struct shm *s) {
    int n = 0;
    bool busy = false;
    for (unsigned i = 0; i < SHM_ARENAS; i++) {
        struct shm_arena *a = &s->arenas[i];
        if (lock_take(s, &a->lock)) {
            busy = true;
            continue;
        }
        for (unsigned cls = 0; cls < ARRAY_SIZE(class_size); cls++) {
            int r = trim_class(s, a, cls);
            n += r > 0;
            busy |= r < 0;
        }
        lock_drop(s, &a->lock);
    }
    return n ? n : busy ? -EAGAIN : 0;
}

/* ---- for check.c ---- */

bool alloc_describe(const struct shm *s, uint32_t chunk, struct alloc_chunk *ret) {
    uint32_t at;
    uint64_t w0;
    *ret = (struct alloc_chunk){0};
    if (get(&s->chunks[chunk].w0) == 0) {
        return true;
    }
    if (!chunk_at(s, chunk_off(s, chunk), &at, &w0)) {
        return false;
    }
    struct use u = use_of(get(&s->chunks[chunk].w1));
    *ret = (struct alloc_chunk){.small = w0_kind(w0) == KIND_SMALL,
                                .run = w0_kind(w0) == KIND_RUN ? w0_run(w0) : 0,
                                .cls = w0_class(w0),
                                .arena = w0_arena(w0),
                                .first = u.first,
                                .fresh = u.fresh,
                                .used = u.used};
    if (ret->small) {
        ret->size = class_size[ret->cls];
        ret->total = SHM_CHUNK / ret->size;
    }
    return true;
}
