/* SPDX-License-Identifier: MIT */
/* Leaves: elements packed in a block, each between its length and its length again, so that a leaf is read from either end:
 *
 *     [ link | begin end count cap ] ... unused ... [ len bytes len ][ len bytes len ] ... unused ...
 *
 * An element that is too large has the length 0xffff and for its bytes the offset of a block: link, length, bytes.
 *
 * Pushing writes behind what is in use, where nobody reads before the head's one word is changed, and popping changes just
 * that word; bytes that were in use when the operation began are left alone until it ends (op_vacate). Removing elements
 * at an end of a leaf changes the word too, so cutting a list short needs no memory. Any other change writes a new leaf,
 * of the size it needs; only an element of the same length is written in place, word by word.
 *
 * Invariants: begin, end and cap fit the block; count elements fill [begin, end) exactly. Readers without a lock may meet
 * anything: every step is checked against begin and end. Fails: as list_inner.h says. */
#include "lib/shm/list_inner.h"

#include <errno.h>
#include <string.h>

#include "lib/shm/alloc.h"
#include "lib/shm/internal.h"
#include "lib/shm/lock.h"
#include "lib/shm/op.h"

enum {
    MARK = 0xffff, /* the length of an element with a block of its own */
    CAP_BIG = 0x8000,
    IN_PLACE = 256,
    MERGE = LEAF_ROOM * 3 / 4, /* neighbours with less than this become one */
    PIECES = LEAF_ROOM + ENTRY_MAX,
};

static unsigned load16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static void store16(uint8_t *p, unsigned v) {
    uint16_t w = (uint16_t)v;
    memcpy(p, &w, sizeof(w));
}

static _Atomic uint64_t *head_of(const struct leaf *f) {
    return (_Atomic uint64_t *)(void *)f->at + 1;
}

static uint64_t head_word(const struct leaf *f) {
    return f->begin | (uint64_t)f->end << 16 | (uint64_t)f->count << 32 |
           (uint64_t)(f->cap | (f->big ? CAP_BIG : 0)) << 48;
}

int leaf_read(const struct shm *s, uint64_t off, struct leaf *ret) {
    if (off % 16 || off < s->data_off || off > s->size - LEAF_HEAD) {
        return -ESTALE;
    }
    uint64_t w = get((_Atomic uint64_t *)(void *)(s->base + off) + 1);
    *ret = (struct leaf){.at = s->base + off,
                         .off = off,
                         .begin = w & 0xffff,
                         .end = w >> 16 & 0xffff,
                         .count = w >> 32 & 0xffff,
                         .cap = w >> 48 & ~CAP_BIG & 0xffff,
                         .big = w >> 48 & CAP_BIG};
    bool sane = ret->begin >= LEAF_HEAD && ret->begin <= ret->end && ret->end <= ret->cap &&
                ret->cap <= LEAF_MAX && ret->cap <= s->size - off &&
                ret->count <= (ret->end - ret->begin) / 4;
    return sane ? 0 : -ESTALE;
}

/* ---- elements ---- */

int entry_make(struct shm *s, struct entry *e, const void *data, size_t len) {
    *e = (struct entry){.data = data, .len = len};
    if (len <= INLINE_MAX) {
        return 0;
    }
    if (len > ALLOC_MAX - 16) {
        return -EMSGSIZE;
    }
    int r = alloc_tx(s, len + 16, &e->big);
    if (r == 0) {
        put((_Atomic uint64_t *)(void *)(s->base + e->big) + 1, len);
        memcpy(s->base + e->big + 16, data, len);
    }
    return r;
}

static void entry_write(uint8_t *to, const struct entry *e) {
    unsigned body = entry_size(e) - 4, len = e->big ? MARK : body;
    store16(to, len);
    if (body) {
        memcpy(to + 2, e->big ? (const void *)&e->big : e->data, body);
    }
    store16(to + 2 + body, len);
}

static unsigned size_of(unsigned len) {
    return 4 + (len == MARK ? 8 : len);
}

int leaf_seek(const struct leaf *f, uint64_t i, unsigned *ret) {
    unsigned pos;
    if (i > f->count) {
        return -ESTALE;
    }
    if (i <= f->count / 2) {
        for (pos = f->begin; i; i--) {
            if (pos + 4 > f->end) {
                return -ESTALE;
            }
            pos += size_of(load16(f->at + pos));
        }
        if (pos > f->end) {
            return -ESTALE;
        }
    } else {
        for (pos = f->end; i < f->count; i++) {
            if (pos < f->begin + 4) {
                return -ESTALE;
            }
            unsigned size = size_of(load16(f->at + pos - 2));
            if (size > pos - f->begin) {
                return -ESTALE;
            }
            pos -= size;
        }
    }
    *ret = pos;
    return 0;
}

static int item_bytes(const struct shm *s, const struct leaf *f, unsigned pos, unsigned len,
                      struct item *ret) {
    if (len != MARK) {
        *ret = (struct item){.size = len + 4, .data = f->at + pos + 2, .len = len};
        return 0;
    }
    uint64_t off;
    memcpy(&off, f->at + pos + 2, sizeof(off));
    if (off % 16 || off < s->data_off || off > s->size - 16) {
        return -ESTALE;
    }
    uint64_t n = get((_Atomic uint64_t *)(void *)(s->base + off) + 1);
    if (n > s->size - 16 - off) {
        return -ESTALE;
    }
    *ret = (struct item){.size = 12, .data = s->base + off + 16, .len = n, .big = off};
    return 0;
}

int leaf_item(const struct shm *s, const struct leaf *f, unsigned pos, struct item *ret) {
    if (pos < f->begin || pos + 4 > f->end) {
        return -ESTALE;
    }
    unsigned len = load16(f->at + pos);
    return size_of(len) <= f->end - pos ? item_bytes(s, f, pos, len, ret) : -ESTALE;
}

int leaf_item_before(const struct shm *s, const struct leaf *f, unsigned pos, struct item *ret) {
    if (pos > f->end || pos < f->begin + 4) {
        return -ESTALE;
    }
    unsigned len = load16(f->at + pos - 2), size = size_of(len);
    return size <= pos - f->begin ? item_bytes(s, f, pos - size, len, ret) : -ESTALE;
}

/* ---- making ---- */

/* A new leaf of at least cap bytes that holds these; the unused ones lie to the left or the right of them. */
static int leaf_make(struct edit *e, const uint8_t *bytes, const struct leaf *like, unsigned cap,
                     bool left, struct leaf *ret) {
    unsigned n = like->end - like->begin;
    uint64_t off;
    int r = alloc_tx(e->s, cap, &off);
    if (r) {
        return r;
    }
    uint64_t size = alloc_size(e->s, off);
    struct leaf f = {.at = e->s->base + off,
                     .off = off,
                     .count = like->count,
                     .cap = size < LEAF_MAX ? (unsigned)size : LEAF_MAX,
                     .big = like->big};
    f.begin = left ? f.cap - n : LEAF_HEAD;
    f.end = f.begin + n;
    memcpy(f.at + f.begin, bytes, n);
    put(head_of(&f), head_word(&f));
    *ret = f;
    return 0;
}

int leaf_first(struct edit *e, bool left, unsigned cap, uint64_t *ret_off) {
    uint8_t bytes[ENTRY_MAX];
    struct leaf f = {.end = entry_size(e->ins), .count = 1, .big = e->ins->big != 0};
    entry_write(bytes, e->ins);
    int r = leaf_make(e, bytes, &f, cap > f.end + LEAF_HEAD ? cap : f.end + LEAF_HEAD, left, &f);
    if (r == 0) {
        *ret_off = f.off;
    }
    return r;
}

int leaf_push(struct edit *e, struct leaf *f, bool left, bool fresh) {
    unsigned n = entry_size(e->ins);
    uint8_t *to = left ? f->at + f->begin - n : f->at + f->end;
    if (left ? n > f->begin - LEAF_HEAD : n > f->cap - f->end) {
        return LEAF_FULL;
    }
    if (!fresh && !op_is_spare(e->s, to, n)) {
        return LEAF_VACATED;
    }
    int r = tx_need(e->s, 4);
    if (r) {
        return r;
    }
    entry_write(to, e->ins);
    keep_order();
    f->count++;
    f->begin -= left ? n : 0;
    f->end += left ? 0 : n;
    f->big |= e->ins->big != 0;
    tx_set(e->s, head_of(f), head_word(f));
    return 0;
}

int leaf_widen(struct edit *e, const struct leaf *f, bool left, unsigned cap, uint64_t *ret_off) {
    struct leaf to;
    int r = leaf_make(e, f->at + f->begin, f, cap, left, &to);
    if (r == 0) {
        op_free(e->s, e->shard, f->off);
        *ret_off = to.off;
    }
    return r;
}

int leaf_pop(struct edit *e, struct leaf *f, bool left, struct item *ret) {
    int r = left ? leaf_item(e->s, f, f->begin, ret) : leaf_item_before(e->s, f, f->end, ret);
    r = r ? r : f->count ? tx_need(e->s, 8) : -ESTALE;
    if (r) {
        return r;
    }
    f->count--;
    f->begin += left ? ret->size : 0;
    f->end -= left ? 0 : ret->size;
    op_vacate(e->s, f->at + (left ? f->begin - ret->size : f->end), ret->size);
    tx_set(e->s, head_of(f), head_word(f));
    if (ret->big) {
        op_free(e->s, e->shard, ret->big);
    }
    return 0;
}

/* ---- changing in the middle ---- */

/* Frees the blocks of the elements in [from, to). */
static int free_bigs(struct edit *e, const struct leaf *f, unsigned from, unsigned to) {
    struct item it;
    for (unsigned pos = from; f->big && pos < to; pos += it.size) {
        int r = leaf_item(e->s, f, pos, &it);
        r = r ? r : tx_need(e->s, 4);
        if (r) {
            return r;
        }
        if (it.big) {
            op_free(e->s, e->shard, it.big);
        }
    }
    return 0;
}

/* Bytes of an element that readers may be looking at: whole aligned words, each logged. */
static void write_logged(struct shm *s, uint8_t *to, const uint8_t *from, size_t len) {
    size_t lead = (uintptr_t)to % 8;
    for (size_t i = 0; i < len;) {
        _Atomic uint64_t *w = (void *)(to + i - lead);
        uint64_t v = get(w);
        size_t n = 8 - lead < len - i ? 8 - lead : len - i;
        memcpy((uint8_t *)&v + lead, from + i, n);
        if (v != get(w)) {
            tx_set(s, w, v);
        }
        i += n;
        lead = 0;
    }
}

/* The pieces of a leaf that is written anew. */
static int write_anew(struct edit *e, const uint8_t *bytes, unsigned n, unsigned count, bool big,
                      struct branches *ret) {
    struct leaf all = {.at = (uint8_t *)(uintptr_t)bytes, .end = n, .count = count, .big = big}, f;
    unsigned cut = n, before = count;
    if (n > LEAF_ROOM) {
        /* by bytes, not by elements: both halves must fit */
        for (cut = 0, before = 0; cut < n / 2; before++) {
            cut += size_of(load16(bytes + cut));
        }
        if (cut > LEAF_ROOM || cut >= n || before >= count) {
            return -ESTALE;
        }
    }
    all.end = cut;
    all.count = before;
    int r = leaf_make(e, bytes, &all, cut + LEAF_HEAD, false, &f);
    ret->n = 1;
    ret->b[0] = (struct branch){f.off, before};
    if (r == 0 && cut < n) {
        all.end = n - cut;
        all.count = count - before;
        r = leaf_make(e, bytes + cut, &all, n - cut + LEAF_HEAD, false, &f);
        ret->n = 2;
        ret->b[1] = (struct branch){f.off, count - before};
    }
    return r;
}

/* Takes the elements in [a, b) away where that needs no new leaf. 1: it does. */
static int cut_ends(struct edit *e, const struct leaf *f, unsigned a, unsigned b, unsigned n,
                    struct branches *ret) {
    struct leaf cut = *f;
    if (a > f->begin && b < f->end) {
        return 1;
    }
    if (n == f->count) {
        op_free(e->s, e->shard, f->off);
        ret->n = 0;
        return 0;
    }
    cut.count -= n;
    if (a == f->begin) {
        cut.begin = b;
    } else {
        cut.end = a;
    }
    op_vacate(e->s, f->at + a, b - a);
    tx_set(e->s, head_of(f), head_word(&cut));
    *ret = (struct branches){{{f->off, cut.count}}, 1};
    return 0;
}

/* Writes over an element of the same length. 1: it is not. */
static int set_in_place(struct edit *e, const struct leaf *f, unsigned a, struct branches *ret) {
    struct item it;
    int r = leaf_item(e->s, f, a, &it);
    if (r) {
        return r;
    }
    if (it.big || e->ins->big || it.len != e->ins->len || it.len > IN_PLACE) {
        return 1;
    }
    write_logged(e->s, f->at + a + 2, e->ins->data, it.len);
    *ret = (struct branches){{{f->off, f->count}}, 1};
    return 0;
}

int leaf_edit(struct edit *e, const struct leaf *f, uint64_t i, uint64_t n, struct branches *ret) {
    unsigned a, b;
    uint8_t bytes[PIECES];
    int r = leaf_seek(f, i, &a);
    r = r ? r : leaf_seek(f, i + n, &b);
    if (r || a > b) {
        return -ESTALE;
    }
    r = tx_need(e->s, IN_PLACE / 8 + 16);
    if (r == 0 && e->ins && n == 1) {
        r = set_in_place(e, f, a, ret);
        if (r <= 0) {
            return r;
        }
    }
    r = r < 0 ? r : free_bigs(e, f, a, b);
    r = r < 0 ? r : tx_need(e->s, 16);
    if (r == 0 && !e->ins) {
        r = cut_ends(e, f, a, b, (unsigned)n, ret);
        if (r <= 0) {
            return r;
        }
    }
    if (r < 0) {
        return r;
    }
    unsigned size = 0, add = e->ins ? entry_size(e->ins) : 0;
    memcpy(bytes, f->at + f->begin, a - f->begin);
    size = a - f->begin;
    if (e->ins) {
        entry_write(bytes + size, e->ins);
        size += add;
    }
    memcpy(bytes + size, f->at + b, f->end - b);
    size += f->end - b;
    unsigned count = f->count - (unsigned)n + (e->ins != NULL);
    r = write_anew(e, bytes, size, count, f->big || (e->ins && e->ins->big), ret);
    if (r == 0) {
        op_free(e->s, e->shard, f->off);
    }
    return r;
}

int leaf_merge(struct edit *e, struct branch *a, const struct branch *b) {
    struct leaf x, y, to;
    uint8_t bytes[PIECES];
    int r = leaf_read(e->s, a->off, &x);
    r = r ? r : leaf_read(e->s, b->off, &y);
    if (r) {
        return r;
    }
    unsigned n = x.end - x.begin, more = y.end - y.begin;
    if (n + more > MERGE || (n > MERGE / 3 && more > MERGE / 3)) {
        return 0;
    }
    memcpy(bytes, x.at + x.begin, n);
    memcpy(bytes + n, y.at + y.begin, more);
    struct leaf like = {.end = n + more, .count = x.count + y.count, .big = x.big || y.big};
    r = leaf_make(e, bytes, &like, n + more + LEAF_HEAD, false, &to);
    if (r) {
        return r == -ENOMEM ? 0 : r; /* they may as well stay two */
    }
    op_free(e->s, e->shard, a->off);
    op_free(e->s, e->shard, b->off);
    *a = (struct branch){to.off, like.count};
    return 1;
}

int leaf_strip(struct edit *e, struct leaf *f, int max) {
    struct item it;
    int r = tx_need(e->s, 3 * (uint32_t)max + 8);
    if (r || !f->big) {
        return r;
    }
    struct leaf cut = *f;
    while (cut.count && cut.end > cut.begin && max > 0) {
        if (leaf_item_before(e->s, &cut, cut.end, &it)) {
            cut.count = 0; /* damaged by somebody: the rest cannot be found */
            break;
        }
        if (it.big) {
            op_free(e->s, e->shard, it.big);
            max--;
        }
        cut.end -= it.size;
        cut.count--;
    }
    tx_set(e->s, head_of(f), head_word(&cut));
    return cut.count != 0;
}
