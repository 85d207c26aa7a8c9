/* SPDX-License-Identifier: MIT */
/* What the files objects*.c share. Not for anybody else. */
#pragma once

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

/* An ask about one name, with an empty place for what it finds. */
struct ask objects_ask(struct objects *o, struct task_bytes name);
/* Runs fn under the lock of a->name's shard; with `also`, that of a->to too. */
int objects_change(struct ask *a, bool also, objects_fn *fn);
/* Runs fn without a lock if possible. */
int objects_look(struct ask *a, objects_fn *fn);

bool objects_same_name(const struct key_name *a, const struct key_name *b);

/* Each run begins here: what an earlier one found is forgotten. */
void objects_begin(struct ask *a);
/* Walks in steps: what was found up to here stays, and a step that is run again goes back to here first. */
void objects_mark(struct ask *a);
void objects_back(struct ask *a);
/* Copies bytes that lie in the segment; data NULL: absent. -ENOMEM; -ESTALE: of no possible length. */
int objects_keep(struct ask *a, const void *data, size_t len);
/* What was found, at its final place: n items. */
const struct task_bytes *objects_items(struct ask *a, size_t *ret_n);
/* The first of them. */
struct task_bytes objects_item(struct ask *a);

/* Bytes as a decimal number, and back: as Redis reads and writes them. */
enum { OBJECTS_FLOAT = 5 * 1024 };
int objects_float(struct task_bytes b, long double *ret);
size_t objects_put_float(char out[OBJECTS_FLOAT], long double v);

/* from and count, counted from the end where negative, cut to 0 .. length. */
void objects_cut(int64_t from, int64_t count, uint64_t length, uint64_t *ret_from, uint64_t *ret_n);
