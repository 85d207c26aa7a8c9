/* SPDX-License-Identifier: MIT */
/* The calls on arrays. One element is got without a lock and changed with the shard's, which only keeps the block where it is:
 * the change itself is one instruction (array.c). Many elements go over in pieces, each a look or an operation of its own: they
 * are not of one moment anyway, and nobody else is kept waiting for long.
 *
 * In a transaction there are none: what has been done to an element could not be undone with the rest.
 *
 * Fails: as objects.h says. */
#include <errno.h>

#include "lib/shm/array.h"
#include "lib/shm/objects_run.h"
#include "lib/shm/op.h"

enum { PIECE = 256 * 1024 /* bytes */ };

/* A call that runs as one piece. */
struct one {
    struct key_name name;
    enum array_type type;
    uint64_t at, count;
    union array_number a, b;
    const void *from;
    void *to;
    struct array_pin *pin;
    struct array view;
};

static struct one ask_one(const struct objects *o, struct task_bytes name) {
    return (struct one){.name = key_name(o->shm, name.data, name.len)};
}

static int ran(int r) {
    return r == -ESTALE ? -EBADMSG : r;
}

static int change(struct objects *o, struct one *a, int (*fn)(struct shm *s, void *arg)) {
    if (o->names) {
        return -EDEADLK;
    }
    return o->shm->mine ? ran(op_run(o->shm, key_shard_bit(&a->name), fn, a)) : -EPERM;
}

static int look(struct objects *o, struct one *a, int (*fn)(struct shm *s, void *arg)) {
    return o->names ? -EDEADLK : op_read(o->shm, a->name.shard, fn, a);
}

static int do_create(struct shm *s, void *arg) {
    struct one *a = arg;
    return array_create(s, &a->name, a->type, a->count);
}

int objects_array_create(struct objects *o, struct task_bytes name, enum array_type type,
                         uint64_t n) {
    struct one a = ask_one(o, name);
    a.type = type;
    a.count = n;
    return change(o, &a, do_create);
}

static int do_view(struct shm *s, void *arg) {
    struct one *a = arg;
    return array_find(s, &a->name, &a->view);
}

int objects_array_view(struct objects *o, struct task_bytes name, enum array_type *ret_type,
                       uint64_t *ret_n) {
    struct one a = ask_one(o, name);
    int r = look(o, &a, do_view);
    if (r == 0) {
        *ret_type = a.view.type;
        *ret_n = a.view.n;
    }
    return r;
}

/* Finds the array, which must be of a->type, if that is one. */
static int find_typed(struct shm *s, struct one *a) {
    int r = array_find(s, &a->name, &a->view);
    return r == 0 && a->type && a->view.type != a->type ? -EPROTOTYPE : r;
}

static int do_find_typed(struct shm *s, void *arg) {
    return find_typed(s, arg);
}

static int do_get(struct shm *s, void *arg) {
    struct one *a = arg;
    int r = find_typed(s, a);
    return r ? r : array_get(&a->view, a->at, &a->a);
}

int objects_array_get(struct objects *o, struct task_bytes name, enum array_type type, uint64_t i,
                      union array_number *ret) {
    struct one a = ask_one(o, name);
    a.type = type;
    a.at = i;
    int r = look(o, &a, do_get);
    if (r == 0) {
        *ret = a.a;
    }
    return r;
}

static int do_set(struct shm *s, void *arg) {
    struct one *a = arg;
    int r = find_typed(s, a);
    r = r || array_fits(a->view.type, a->a) ? r : -ERANGE;
    return r ? r : array_set(&a->view, a->at, a->a);
}

int objects_array_set(struct objects *o, struct task_bytes name, enum array_type type, uint64_t i,
                      union array_number v) {
    struct one a = ask_one(o, name);
    a.type = type;
    a.at = i;
    a.a = v;
    return change(o, &a, do_set);
}

static int do_add(struct shm *s, void *arg) {
    struct one *a = arg;
    int r = find_typed(s, a);
    return r ? r : array_add(&a->view, a->at, a->a, &a->b);
}

int objects_array_add(struct objects *o, struct task_bytes name, enum array_type type, uint64_t i,
                      union array_number by, union array_number *ret) {
    struct one a = ask_one(o, name);
    a.type = type;
    a.at = i;
    a.a = by;
    int r = change(o, &a, do_add);
    if (r == 0 && ret) {
        *ret = a.b;
    }
    return r;
}

static int do_cas(struct shm *s, void *arg) {
    struct one *a = arg;
    int r = find_typed(s, a);
    r = r || array_fits(a->view.type, a->b) ? r : -ERANGE;
    r = r || array_fits(a->view.type, a->a) ? r : -ERANGE;
    return r ? r : array_cas(&a->view, a->at, a->a, a->b);
}

int objects_array_cas(struct objects *o, struct task_bytes name, enum array_type type, uint64_t i,
                      union array_number expected, union array_number v) {
    struct one a = ask_one(o, name);
    a.type = type;
    a.at = i;
    a.a = expected;
    a.b = v;
    return change(o, &a, do_cas);
}

/* ---- many elements ---- */

typedef int piece_fn(struct shm *s, void *arg);

/* Calls fn for each piece; all of it must be there before the first, in an array of a->type if that is one. */
static int in_pieces(struct objects *o, struct one *a, bool changes, piece_fn *fn) {
    uint64_t left = a->count;
    int r = look(o, a, do_find_typed);
    if (r == 0 && (a->at > a->view.n || left > a->view.n - a->at)) {
        r = -ENOENT;
    }
    unsigned width = array_width(a->view.type);
    while (r == 0 && left) {
        uint64_t most = PIECE / width;
        a->count = left < most ? left : most;
        r = changes ? change(o, a, fn) : look(o, a, fn);
        left -= a->count;
        a->at += a->count;
        a->from = a->from ? (const uint8_t *)a->from + a->count * width : NULL;
        a->to = a->to ? (uint8_t *)a->to + a->count * width : NULL;
    }
    return r;
}

/* The array must still be the one that the caller has sized his memory for. */
static int find_same(struct shm *s, struct one *a, struct array *ret) {
    int r = array_find(s, &a->name, ret);
    return r == 0 && ret->type != a->view.type ? -ENOENT : r;
}

static int do_read(struct shm *s, void *arg) {
    struct one *a = arg;
    struct array found;
    int r = find_same(s, a, &found);
    return r ? r : array_read(&found, a->at, a->count, a->to);
}

int objects_array_read(struct objects *o, struct task_bytes name, enum array_type type,
                       uint64_t from, uint64_t count, void *to) {
    struct one a = ask_one(o, name);
    a.type = type;
    a.at = from;
    a.count = count;
    a.to = to;
    return in_pieces(o, &a, false, do_read);
}

static int do_write(struct shm *s, void *arg) {
    struct one *a = arg;
    struct array found;
    int r = find_same(s, a, &found);
    return r ? r : array_write(&found, a->at, a->count, a->from);
}

int objects_array_write(struct objects *o, struct task_bytes name, enum array_type type,
                        uint64_t from, uint64_t count, const void *data) {
    struct one a = ask_one(o, name);
    a.type = type;
    a.at = from;
    a.count = count;
    a.from = data;
    return in_pieces(o, &a, true, do_write);
}

static int do_fill(struct shm *s, void *arg) {
    struct one *a = arg;
    struct array found;
    int r = find_same(s, a, &found);
    r = r || array_fits(found.type, a->a) ? r : -ERANGE;
    return r ? r : array_fill(&found, a->at, a->count, a->a);
}

int objects_array_fill(struct objects *o, struct task_bytes name, enum array_type type,
                       uint64_t from, uint64_t count, union array_number v) {
    struct one a = ask_one(o, name);
    a.type = type;
    a.at = from;
    a.count = count;
    a.a = v;
    return in_pieces(o, &a, true, do_fill);
}

/* ---- pins ---- */

static int do_pin(struct shm *s, void *arg) {
    struct one *a = arg;
    return array_pin(s, &a->name, a->pin);
}

int objects_array_pin(struct objects *o, struct task_bytes name, struct array_pin *ret) {
    struct one a = ask_one(o, name);
    a.pin = ret;
    return change(o, &a, do_pin);
}

int objects_array_unpin(struct objects *o, const struct array_pin *pin) {
    if (o->names) {
        return -EDEADLK;
    }
    return o->shm->mine ? array_unpin(o->shm, pin) : -EPERM;
}
