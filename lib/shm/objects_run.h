/* SPDX-License-Identifier: MIT */
/* What the files objects*.c share. Not for anybody else. */
#pragma once

#include <errno.h>
#include <string.h>

#include "lib/shm/alloc.h"
#include "lib/shm/internal.h"
#include "lib/shm/objects.h"

/* One call: what it was asked and what it answers. The functions that op.h runs take it as their argument. */
struct ask {
    struct objects *o;
    struct objects_found *found; /* emptied at the start of each run by objects_begin() */
    struct key_name name, to;
    struct task_bytes field, value;
    const struct task_bytes *expected, *next;
    const struct task_bytes *many;
    const int64_t *counts;
    size_t n;
    int64_t by, from;
    long double by_float;
    uint64_t at, ttl_ms;
    uint64_t *cursor;
    enum objects_end end, to_end;
    unsigned when;
    bool replace;
    size_t mark_n, mark_bytes;
    int64_t ret; /* a count or sum */
    long double ret_float;
};

typedef int objects_fn(struct shm *s, void *ask);

/* The place for what this call finds. Many items are not kept from call to call. */
enum { OBJECTS_ITEMS_KEEP = 1024 };
void objects_forget_items(struct objects_found *f);
static inline struct objects_found *objects_turn(struct objects *o) {
    struct objects_found *f = &o->found[o->turn++ & 1];
    if (f->cap > OBJECTS_ITEMS_KEEP) {
        objects_forget_items(f);
    }
    return f;
}

/* An ask about one name, with an empty place for what it finds. */
struct ask objects_ask(struct objects *o, struct task_bytes name);
/* The same for calls whose time is counted in nanoseconds, where clearing the whole would be a good part of it: only o, found
 * and name are set. */
static inline void objects_ask_only(struct ask *a, struct objects *o, struct task_bytes name) {
    a->o = o;
    a->found = objects_turn(o);
    a->name = key_name(o->shm, name.data, name.len);
}
/* Runs fn under the lock of a->name's shard; with `also`, that of a->to too. */
int objects_change(struct ask *a, bool also, objects_fn *fn);
/* The same; on success what fn left in a->ret. */
int64_t objects_change_ret(struct ask *a, bool also, objects_fn *fn);
/* Runs fn without a lock if possible. */
int objects_look(struct ask *a, objects_fn *fn);
/* The same with the first try inlined, fn included. */
static inline __attribute__((always_inline)) int objects_glance(struct ask *a, objects_fn *fn) {
    struct shm *s = a->o->shm;
    const _Atomic uint64_t *seq = &s->shards[a->name.shard].seq;
    uint64_t before = atomic_load_explicit(seq, memory_order_acquire);
    if (!a->o->names && !s->op_shards && before % 2 == 0) {
        int r = fn(s, a);
        atomic_thread_fence(memory_order_acquire);
        if (r != -ESTALE && get(seq) == before) {
            return r;
        }
    }
    return objects_look(a, fn);
}

/* Opens a list for changing. -ENOENT: there is none. */
struct list_object;
int objects_open_list(struct shm *s, const struct key_name *name, struct list_object *ret);

bool objects_same_name(const struct key_name *a, const struct key_name *b);

/* Each run begins here: what an earlier one found is forgotten. */
static inline void objects_begin(struct ask *a) {
    a->found->n = 0;
    buf_clear(&a->found->bytes);
    a->ret = 0;
}
/* Walks in steps: what was found up to here stays, and a step that is run again goes back to here first. */
void objects_mark(struct ask *a);
void objects_back(struct ask *a);
/* Copies bytes that lie in the segment; data NULL: absent. -ENOMEM; -ESTALE: of no possible length. */
int objects_keep_more(struct ask *a, const void *data, size_t len);
static inline int objects_keep(struct ask *a, const void *data, size_t len) {
    enum { STEP = 16, SHORT = 128 };
    struct objects_found *f = a->found;
    if (f->n == f->cap || !data || len < STEP || len > SHORT ||
        f->bytes.cap - f->bytes.tail <= len) {
        return objects_keep_more(a, data, len);
    }
    /* a few moves that overlap at the end instead of a call */
    char *to = f->bytes.data + f->bytes.tail;
    const char *from = data;
    for (size_t i = 0; i + STEP < len; i += STEP) {
        memcpy(to + i, from + i, STEP);
    }
    memcpy(to + len - STEP, from + len - STEP, STEP);
    to[len] = '\0';
    f->items[f->n++] = (struct task_bytes){to, len};
    buf_wrote(&f->bytes, len + 1);
    return 0;
}
/* What was found, at its final place: n items. */
const struct task_bytes *objects_items(struct ask *a, size_t *ret_n);
/* The first of them. */
static inline struct task_bytes objects_item(struct ask *a) {
    struct objects_found *f = a->found;
    if (f->n == 1 && f->items[0].data) {
        return f->items[0]; /* nothing came behind it for which the buffer could have moved */
    }
    return f->n ? *objects_items(a, NULL) : (struct task_bytes){"", 0};
}

/* num_float() of bytes. -EDOM: they are none. */
int objects_float(struct task_bytes b, long double *ret);

/* from and count, counted from the end where negative, cut to 0 .. length. */
void objects_cut(int64_t from, int64_t count, uint64_t length, uint64_t *ret_from, uint64_t *ret_n);
