/* SPDX-License-Identifier: MIT */
/* Arrays. The object's words say what is in the block; they are written once, when the array is made.
 *
 * Elements are changed by atomic instructions and never by tx_set(): a log that puts old words back would undo what others, who
 * have the array pinned, have done since. So an element needs no lock by itself; the shard's lock, or the look at its seq, only
 * sees to it that the block is still the array's.
 *
 * Who pins is listed as a holder. An array that is deleted while it is pinned is taken off the list of the doomed when its turn
 * comes, and put there again with its last pin; meanwhile the shard's list of sync objects has it, where the burial of a dead
 * owner finds it.
 *
 * What a chunk of 16 bytes' alignment lacks to one of 64 is allocated beside.
 *
 * Fails: as array.h says. Type, length and place are checked anew each time: another process may have written over them. */
#include "lib/shm/array.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/shm/account.h"
#include "lib/shm/alloc.h"
#include "lib/shm/internal.h"
#include "lib/shm/lock.h"
#include "lib/shm/op.h"
#include "lib/shm/sync_private.h"

enum { BLOCK, LENGTH, TYPE }; /* words of the object */
enum { SLACK = ARRAY_ALIGN - 16, UNPIN_TRIES = 64 };

const char *const array_type_names[ARRAY_TYPES] = {"",       "int8",  "int16",  "int32",
                                                   "int64",  "uint8", "uint16", "uint32",
                                                   "uint64", "float", "double", "char"};

enum array_type array_type_of(const char *name, size_t len) {
    for (unsigned i = 1; i < ARRAY_TYPES; i++) {
        if (strlen(array_type_names[i]) == len && memcmp(array_type_names[i], name, len) == 0) {
            return (enum array_type)i;
        }
    }
    return ARRAY_NONE;
}

unsigned array_width(unsigned type) {
    static const uint8_t widths[ARRAY_TYPES] = {0, 1, 2, 4, 8, 1, 2, 4, 8, 4, 8, 1};
    return type < ARRAY_TYPES ? widths[type] : 0;
}

bool array_fits(enum array_type type, union array_number v) {
    unsigned bits = array_width(type) * 8;
    switch (type) {
    case ARRAY_INT8:
    case ARRAY_INT16:
    case ARRAY_INT32:
        return v.i >= -(INT64_C(1) << (bits - 1)) && v.i < INT64_C(1) << (bits - 1);
    case ARRAY_UINT8:
    case ARRAY_UINT16:
    case ARRAY_UINT32:
    case ARRAY_CHAR:
        return v.u < UINT64_C(1) << bits;
    case ARRAY_FLOAT:
        return !isfinite(v.d) || isfinite((float)v.d);
    default:
        return true;
    }
}

/* ---- where it is ---- */

static uint64_t align(uint64_t off) {
    return (off + ARRAY_ALIGN - 1) & ~(uint64_t)(ARRAY_ALIGN - 1);
}

/* What the object says, if it makes sense. */
static bool describe(const struct shm *s, const struct shm_sync *o, struct array *ret) {
    uint64_t off = get(&o->words[BLOCK]), n = get(&o->words[LENGTH]), type = get(&o->words[TYPE]);
    unsigned width = type < ARRAY_TYPES ? array_width((unsigned)type) : 0;
    if (!width || n == 0 || n > ARRAY_BYTES_MAX / width) {
        return false;
    }
    uint64_t shift = align(off) - off;
    uint8_t *at = alloc_ptr(s, off, shift + n * width);
    ret->type = (enum array_type)type;
    ret->n = n;
    ret->pinned = get(&o->n_holders);
    ret->data = at ? at + shift : NULL;
    return at != NULL;
}

int array_find(struct shm *s, const struct key_name *name, struct array *ret) {
    struct array a = {0};
    int r = sync_find(s, name, KEY_ARRAY, &a.object);
    if (r == 0 && !describe(s, a.object, &a)) {
        return -ESTALE;
    }
    if (r == 0) {
        *ret = a;
    }
    return r;
}

int array_create(struct shm *s, const struct key_name *name, enum array_type type, uint64_t n) {
    struct shm_sync *o;
    struct array a;
    bool made;
    uint64_t off;
    unsigned width = array_width(type);
    if (!width || n == 0) {
        return -EINVAL;
    }
    if (n > ARRAY_BYTES_MAX / width) {
        return -EMSGSIZE;
    }
    int r = sync_open(s, name, KEY_ARRAY, true, &o, &made);
    if (r) {
        return r;
    }
    if (!made) {
        return !describe(s, o, &a) ? -EBADMSG : a.type == type && a.n == n ? 0 : -EEXIST;
    }
    account_pays(s, name->shard, kind_account(get(&o->kind)));
    r = alloc_tx(s, n * width + SLACK, &off);
    r = r ? r : tx_need(s, 4);
    if (r) {
        return r;
    }
    memset(s->base + align(off), 0, n * width); /* nobody's before the commit */
    tx_set(s, &o->words[LENGTH], n);
    tx_set(s, &o->words[TYPE], type);
    tx_set(s, &o->words[BLOCK], off);
    return 1;
}

/* ---- one element ---- */

/* The bits of a number as an element of the type, and back. */
static uint64_t bits_of(enum array_type type, union array_number v) {
    if (type == ARRAY_FLOAT) {
        float f = (float)v.d;
        uint32_t bits;
        memcpy(&bits, &f, sizeof(bits));
        return bits;
    }
    return v.u;
}

static union array_number number_of(enum array_type type, uint64_t bits) {
    union array_number v = {.u = bits};
    uint32_t half = (uint32_t)bits;
    float f;
    switch (type) {
    case ARRAY_INT8:
        v.i = (int8_t)bits;
        break;
    case ARRAY_INT16:
        v.i = (int16_t)bits;
        break;
    case ARRAY_INT32:
        v.i = (int32_t)bits;
        break;
    case ARRAY_FLOAT:
        memcpy(&f, &half, sizeof(f));
        v.d = (double)f;
        break;
    default:
        break;
    }
    return v;
}

/* One of the four widths, each by the instruction for it. */
#define BY_WIDTH(width, at, call)                                                                  \
    do {                                                                                           \
        switch (width) {                                                                           \
        case 1: {                                                                                  \
            typedef uint8_t word;                                                                  \
            call((word *)(void *)(at));                                                            \
            break;                                                                                 \
        }                                                                                          \
        case 2: {                                                                                  \
            typedef uint16_t word;                                                                 \
            call((word *)(void *)(at));                                                            \
            break;                                                                                 \
        }                                                                                          \
        case 4: {                                                                                  \
            typedef uint32_t word;                                                                 \
            call((word *)(void *)(at));                                                            \
            break;                                                                                 \
        }                                                                                          \
        default: {                                                                                 \
            typedef uint64_t word;                                                                 \
            call((word *)(void *)(at));                                                            \
        }                                                                                          \
        }                                                                                          \
    } while (0)

static uint64_t load(const struct array *a, uint64_t i) {
    unsigned width = array_width(a->type);
    uint64_t v = 0;
#define LOAD(at) v = __atomic_load_n(at, __ATOMIC_SEQ_CST)
    BY_WIDTH(width, a->data + i * width, LOAD);
    return v;
}

static void store(const struct array *a, uint64_t i, uint64_t bits) {
    unsigned width = array_width(a->type);
#define STORE(at) __atomic_store_n(at, (word)bits, __ATOMIC_SEQ_CST)
    BY_WIDTH(width, a->data + i * width, STORE);
}

static uint64_t fetch_add(const struct array *a, uint64_t i, uint64_t by) {
    unsigned width = array_width(a->type);
    uint64_t v = 0;
#define ADD(at) v = __atomic_add_fetch(at, (word)by, __ATOMIC_SEQ_CST)
    BY_WIDTH(width, a->data + i * width, ADD);
    return v;
}

static bool swap(const struct array *a, uint64_t i, uint64_t expected, uint64_t bits) {
    unsigned width = array_width(a->type);
    bool done = false;
#define SWAP(at)                                                                                   \
    word before = (word)expected;                                                                  \
    done = __atomic_compare_exchange_n(at, &before, (word)bits, false, __ATOMIC_SEQ_CST,           \
                                       __ATOMIC_SEQ_CST)
    BY_WIDTH(width, a->data + i * width, SWAP);
    return done;
}

int array_get(const struct array *a, uint64_t i, union array_number *ret) {
    if (i >= a->n) {
        return -ENOENT;
    }
    *ret = number_of(a->type, load(a, i));
    return 0;
}

int array_set(const struct array *a, uint64_t i, union array_number v) {
    if (i >= a->n) {
        return -ENOENT;
    }
    store(a, i, bits_of(a->type, v));
    return 0;
}

int array_add(const struct array *a, uint64_t i, union array_number by, union array_number *ret) {
    union array_number sum;
    if (i >= a->n) {
        return -ENOENT;
    }
    switch (a->type) {
    case ARRAY_CHAR:
        return -EPROTOTYPE;
    case ARRAY_FLOAT:
    case ARRAY_DOUBLE:
        for (;;) {
            uint64_t before = load(a, i);
            sum.d = number_of(a->type, before).d + by.d;
            if (swap(a, i, before, bits_of(a->type, sum))) {
                sum = number_of(a->type, bits_of(a->type, sum));
                break;
            }
        }
        break;
    default:
        sum = number_of(a->type, fetch_add(a, i, by.u));
    }
    if (ret) {
        *ret = sum;
    }
    return 0;
}

int array_cas(const struct array *a, uint64_t i, union array_number expected,
              union array_number v) {
    if (i >= a->n) {
        return -ENOENT;
    }
    return swap(a, i, bits_of(a->type, expected), bits_of(a->type, v));
}

/* ---- many elements ---- */

static int check_range(const struct array *a, uint64_t from, uint64_t count) {
    return from <= a->n && count <= a->n - from ? 0 : -ENOENT;
}

/* Copies so that each element goes over whole. `shared` is the side in the segment, which is aligned as its elements are. */
static void copy_whole(void *to, const void *from, const void *shared, size_t bytes,
                       unsigned width) {
    uint8_t *t = to;
    const uint8_t *f = from;
    size_t at = 0;
    while (at < bytes) {
        uintptr_t place = (uintptr_t)shared + at;
        size_t step = place % 8 == 0 && bytes - at >= 8 ? 8 : width;
        uint64_t v = 0;
        if (shared == from) {
#define TAKE(p) v = __atomic_load_n(p, __ATOMIC_RELAXED)
            BY_WIDTH(step, (uintptr_t)(f + at), TAKE);
            memcpy(t + at, &v, step); /* little-endian, as all machines we run on: asserted below */
        } else {
            memcpy(&v, f + at, step);
#define PLACE(p) __atomic_store_n(p, (word)v, __ATOMIC_RELAXED)
            BY_WIDTH(step, (uintptr_t)(t + at), PLACE);
        }
        at += step;
    }
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the low bytes of a word come first");

int array_read(const struct array *a, uint64_t from, uint64_t count, void *to) {
    unsigned width = array_width(a->type);
    int r = check_range(a, from, count);
    if (r == 0) {
        const uint8_t *at = a->data + from * width;
        copy_whole(to, at, at, count * width, width);
        atomic_thread_fence(memory_order_acquire);
    }
    return r;
}

int array_write(const struct array *a, uint64_t from, uint64_t count, const void *data) {
    unsigned width = array_width(a->type);
    int r = check_range(a, from, count);
    if (r == 0) {
        uint8_t *at = a->data + from * width;
        atomic_thread_fence(memory_order_release);
        copy_whole(at, data, at, count * width, width);
    }
    return r;
}

int array_fill(const struct array *a, uint64_t from, uint64_t count, union array_number v) {
    uint64_t bits = bits_of(a->type, v);
    int r = check_range(a, from, count);
    for (uint64_t i = 0; r == 0 && i < count; i++) {
        store(a, from + i, bits);
    }
    return r;
}

/* ---- pins ---- */

int array_pin(struct shm *s, const struct key_name *name, struct array_pin *ret) {
    struct array a;
    struct shm_party *p;
    int r = sync_open(s, name, KEY_ARRAY, false, &a.object, NULL);
    if (r == 0 && !describe(s, a.object, &a)) {
        r = -EBADMSG;
    }
    r = r ? r : sync_holder_make(s, a.object, sync_actor(s), 'p', &p);
    r = r ? r : tx_need(s, 2);
    if (r == 0) {
        tx_set(s, &p->count, get(&p->count) + 1);
        *ret = (struct array_pin){.type = a.type,
                                  .n = a.n,
                                  .data = a.data,
                                  .object = sync_off(s, a.object),
                                  .birth = (uint32_t)get(&a.object->birth)};
    }
    return r;
}

/* A holder goes; with the last one, what has been kept for them. */
static int drop(struct shm *s, struct shm_sync *o, struct shm_party *p) {
    int r = sync_holder_drop(s, o, p);
    return r || get(&o->holders) ? r : sync_kept_no_more(s, o);
}

struct unpin {
    const struct array_pin *pin;
    unsigned shard;
};

static int unpin(struct shm *s, void *arg) {
    const struct unpin *u = arg;
    struct shm_sync *o = sync_at(s, u->pin->object);
    if (!o || sync_type(o) != KEY_ARRAY || (uint32_t)get(&o->birth) != u->pin->birth) {
        return -EINVAL;
    }
    if (sync_shard(o) != u->shard) {
        return 1; /* it was renamed just now */
    }
    struct shm_party *p = sync_holder(s, o, sync_actor(s));
    int r = p ? tx_need(s, 2) : -EINVAL;
    if (r == 0 && get(&p->count) > 1) {
        op_changes(s, u->shard);
        tx_set(s, &p->count, get(&p->count) - 1);
        return 0;
    }
    return r ? r : drop(s, o, p);
}

int array_unpin(struct shm *s, const struct array_pin *pin) {
    struct unpin u = {.pin = pin};
    int r = 1;
    for (int i = 0; r == 1 && i < UNPIN_TRIES; i++) {
        const struct shm_sync *o = sync_at(s, pin->object);
        u.shard = o ? sync_shard(o) : 0;
        r = op_run(s, UINT64_C(1) << u.shard, unpin, &u);
    }
    return r == 1 ? -EAGAIN : r;
}

/* ---- the kind ---- */

static int bury(struct shm *s, struct shm_sync *o, uint32_t owner) {
    struct shm_party *p = sync_holder(s, o, owner);
    int r = p ? drop(s, o, p) : 0;
    return r || !p ? r : 1;
}

static int take_apart(struct shm *s, unsigned shard, struct shm_sync *o) {
    uint64_t off = get(&o->words[BLOCK]);
    if (get(&o->holders)) {
        return SYNC_KEEP;
    }
    int r = off ? tx_need(s, 4) : 0;
    if (r == 0 && off) {
        account_pays(s, shard, kind_account(get(&o->kind)));
        tx_set(s, &o->words[BLOCK], 0);
        op_free(s, shard, off);
    }
    return r;
}

static int blocks(struct shm *s, const struct shm_sync *o,
                  int (*fn)(void *arg, uint64_t off, uint64_t bytes), void *arg) {
    uint64_t off = get(&o->words[BLOCK]);
    struct array a;
    if (!off) {
        return 0; /* it is being made, or taken apart */
    }
    return describe(s, o, &a) ? fn(arg, off, a.n * array_width(a.type)) : -ESTALE;
}

const struct sync_kind sync_kind_array = {.bury = bury, .take_apart = take_apart, .blocks = blocks};
