/* SPDX-License-Identifier: MIT */
/* Changes of kill_objects to dicts: single fields, many at once (so that tables split and join), sums, copying, renaming.
 *
 * Fails: run() returns false when a call gives something else than the model says. */
#include <errno.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "tests/crash/kill_model.h"

#define RUN_ARGS                                                                                   \
    struct objects *o, const struct task_bytes *names, struct change *c,                           \
        const struct model *before, struct model *after

enum { RUN = 60 }; /* fields changed by one call at most */

static struct task_bytes dict_name(const struct task_bytes *names, bool moved) {
    return names[moved ? NAME_DICT_MOVED : NAME_DICT];
}

static bool is_empty(const struct model_dict *d) {
    static const struct model_dict nothing;
    return memcmp(d, &nothing, sizeof(nothing)) == 0;
}

/* A field that is there, if one is found soon. */
static void draw_field(const struct model *m, struct change *c) {
    c->a = change_random(c, MODEL_FIELDS);
    for (int i = 0; i < 20 && !m->dict.fields[c->a]; i++) {
        c->a = (c->a + 1) % MODEL_FIELDS;
    }
}

/* ---- one field ---- */

static void plan_put(struct model *m, struct change *c) {
    c->a = change_random(c, MODEL_FIELDS);
    m->dict.fields[c->a] = c->id;
}

static bool run_put(RUN_ARGS) {
    char f[16], v[CONTENT_MAX];
    (void)after;
    c->r = objects_dict_set(o, dict_name(names, before->dict_moved), field_name((uint32_t)c->a, f),
                            content_of(c->id, v));
    return c->r == !before->dict.fields[c->a];
}

static void plan_default(struct model *m, struct change *c) {
    c->a = change_random(c, MODEL_FIELDS);
    if (!m->dict.fields[c->a]) {
        m->dict.fields[c->a] = c->id;
    }
}

static bool run_default(RUN_ARGS) {
    char f[16], v[CONTENT_MAX];
    struct task_bytes now;
    c->r = objects_dict_setdefault(o, dict_name(names, before->dict_moved),
                                   field_name((uint32_t)c->a, f), content_of(c->id, v), &now);
    return c->r == !before->dict.fields[c->a] && content_id(now) == after->dict.fields[c->a];
}

static void plan_remove(struct model *m, struct change *c) {
    draw_field(m, c);
    m->dict.fields[c->a] = 0;
}

static bool run_remove(RUN_ARGS) {
    char f[16];
    struct task_bytes field = field_name((uint32_t)c->a, f);
    (void)after;
    c->r = objects_dict_delete(o, dict_name(names, before->dict_moved), &field, 1);
    return c->r == (before->dict.fields[c->a] != 0);
}

static bool run_pop(RUN_ARGS) {
    char f[16];
    struct task_bytes was;
    uint32_t id = before->dict.fields[c->a];
    (void)after;
    c->r = objects_dict_pop(o, dict_name(names, before->dict_moved), field_name((uint32_t)c->a, f),
                            &was);
    return id ? c->r == 0 && content_id(was) == id : c->r == -ENOENT;
}

static void plan_popitem(struct model *m, struct change *c) {
    (void)m;
    c->b = 1; /* any one field: kill_objects.c knows */
}

static bool run_popitem(RUN_ARGS) {
    struct task_bytes field, value;
    c->r = objects_dict_popitem(o, dict_name(names, before->dict_moved), &field, &value);
    if (c->r) {
        return c->r == -ENOENT && is_empty(&before->dict);
    }
    int i = field_index(field);
    if (i >= MODEL_FIELDS) {
        i -= MODEL_FIELDS;
        after->dict.sums[i] = 0;
        return before->dict.sums[i] != 0;
    }
    if (i < 0 || content_id(value) != before->dict.fields[i]) {
        return false;
    }
    after->dict.fields[i] = 0;
    return true;
}

/* Compare and set, with the right expectation or a wrong one; to nothing now and then. */
static void plan_swap(struct model *m, struct change *c) {
    draw_field(m, c);
    c->b = change_random(c, 4); /* 0: wrong, 1: to nothing */
    if (c->b) {
        m->dict.fields[c->a] = c->b == 1 ? 0 : c->id;
    }
}

static bool run_swap(RUN_ARGS) {
    char f[16], v[CONTENT_MAX], w[CONTENT_MAX];
    uint32_t was = before->dict.fields[c->a];
    struct task_bytes is = content_of(was, w), next = content_of(c->id, v);
    (void)after;
    c->r = objects_dict_swap(o, dict_name(names, before->dict_moved), field_name((uint32_t)c->a, f),
                             c->b == 0 ? &next
                             : was     ? &is
                                       : NULL,
                             c->b == 1 ? NULL : &next);
    return c->r == (c->b != 0);
}

/* ---- many fields ---- */

static void plan_update(struct model *m, struct change *c) {
    c->a = change_random(c, MODEL_FIELDS);
    c->n = 1 + change_random(c, change_random(c, 4) ? 8 : RUN);
    for (uint64_t i = 0; i < c->n; i++) {
        m->dict.fields[(c->a + i) % MODEL_FIELDS] = c->id;
    }
}

static bool run_update(RUN_ARGS) {
    char f[RUN][16], v[CONTENT_MAX];
    struct task_bytes pairs[2 * RUN], value = content_of(c->id, v);
    int64_t fresh = 0;
    (void)after;
    for (uint64_t i = 0; i < c->n; i++) {
        uint32_t at = (uint32_t)((c->a + i) % MODEL_FIELDS);
        pairs[2 * i] = field_name(at, f[i]);
        pairs[2 * i + 1] = value;
        fresh += before->dict.fields[at] == 0;
    }
    c->r = objects_dict_update(o, dict_name(names, before->dict_moved), pairs, c->n);
    return c->r == fresh;
}

static void plan_delete_many(struct model *m, struct change *c) {
    c->a = change_random(c, MODEL_FIELDS);
    c->n = 1 + change_random(c, change_random(c, 3) ? 8 : RUN);
    for (uint64_t i = 0; i < c->n; i++) {
        m->dict.fields[(c->a + i) % MODEL_FIELDS] = 0;
    }
}

static bool run_delete_many(RUN_ARGS) {
    char f[RUN][16];
    struct task_bytes fields[RUN];
    int64_t there = 0;
    (void)after;
    for (uint64_t i = 0; i < c->n; i++) {
        uint32_t at = (uint32_t)((c->a + i) % MODEL_FIELDS);
        fields[i] = field_name(at, f[i]);
        there += before->dict.fields[at] != 0;
    }
    c->r = objects_dict_delete(o, dict_name(names, before->dict_moved), fields, c->n);
    return c->r == there;
}

static void plan_clear(struct model *m, struct change *c) {
    c->a = change_random(c, 4) == 0; /* seldom, so that it grows */
    if (c->a) {
        memset(&m->dict, 0, sizeof(m->dict));
    }
}

static bool run_clear(RUN_ARGS) {
    (void)after;
    c->r = c->a ? objects_dict_clear(o, dict_name(names, before->dict_moved)) : 0;
    return c->r == (c->a && !is_empty(&before->dict));
}

/* ---- sums ---- */

static void plan_add(struct model *m, struct change *c) {
    c->a = change_random(c, MODEL_SUMS);
    c->n = 1 + change_random(c, 100);
    m->dict.sums[c->a] += (int64_t)c->n;
}

static bool run_add(RUN_ARGS) {
    char f[16];
    struct task_bytes name = dict_name(names, before->dict_moved);
    struct task_bytes field = field_name((uint32_t)(MODEL_FIELDS + c->a), f);
    int64_t now = 0;
    if (c->id % 2) {
        long double sum = 0;
        c->r = objects_dict_add_float(o, name, field, (long double)c->n, &sum);
        now = (int64_t)sum;
    } else {
        c->r = objects_dict_add(o, name, field, (int64_t)c->n, &now);
    }
    return c->r == 0 && now == after->dict.sums[c->a];
}

static void plan_add_many(struct model *m, struct change *c) {
    for (int i = 0; i < MODEL_SUMS; i++) {
        m->dict.sums[i] += i + 1;
    }
    (void)c;
}

static bool run_add_many(RUN_ARGS) {
    static const int64_t by[MODEL_SUMS] = {1, 2, 3, 4};
    char f[MODEL_SUMS][16];
    struct task_bytes fields[MODEL_SUMS];
    (void)after;
    for (uint32_t i = 0; i < MODEL_SUMS; i++) {
        fields[i] = field_name(MODEL_FIELDS + i, f[i]);
    }
    c->r = objects_dict_add_many(o, dict_name(names, before->dict_moved), fields, by, MODEL_SUMS);
    return c->r == 0;
}

/* ---- whole dicts ---- */

static void plan_copy(struct model *m, struct change *c) {
    (void)c;
    m->copy = m->dict;
}

struct copying {
    struct task_bytes from, to;
};

static int copy_dict(struct objects *o, void *arg) {
    const struct copying *k = arg;
    uint64_t cursor = 0;
    int64_t r = objects_delete(o, &k->to, 1);
    do {
        const struct task_bytes *pairs;
        size_t n;
        int e = objects_dict_scan(o, k->from, &cursor, 32, &pairs, &n);
        r = e ? e : r;
        r = r < 0 ? r : objects_dict_update(o, k->to, pairs, n / 2);
    } while (r >= 0 && cursor);
    return r < 0 ? (int)r : 0;
}

static bool run_copy(RUN_ARGS) {
    struct copying k = {dict_name(names, before->dict_moved), names[NAME_COPY]};
    struct task_bytes both[2] = {k.from, k.to};
    (void)after;
    if (c->id % 2 && !is_empty(&before->dict)) {
        c->r = objects_copy(o, k.from, k.to, true);
        return c->r == 0;
    }
    c->r = objects_transaction(o, both, 2, copy_dict, &k);
    return c->r == 0;
}

static void plan_copy_deleted(struct model *m, struct change *c) {
    (void)c;
    memset(&m->copy, 0, sizeof(m->copy));
}

static bool run_copy_deleted(RUN_ARGS) {
    (void)after;
    c->r = objects_delete(o, &names[NAME_COPY], 1);
    return c->r == !is_empty(&before->copy);
}

static void plan_rename(struct model *m, struct change *c) {
    (void)c;
    if (!is_empty(&m->dict)) {
        m->dict_moved ^= 1;
    }
}

static bool run_rename(RUN_ARGS) {
    (void)after;
    c->r = objects_rename(o, dict_name(names, before->dict_moved),
                          dict_name(names, !before->dict_moved), c->id % 2);
    return c->r == (is_empty(&before->dict) ? -ENOENT : 0);
}

/* Over the copy, which goes. */
static void plan_rename_over(struct model *m, struct change *c) {
    c->a = change_random(c, 3) == 0;
    if (c->a && !is_empty(&m->dict)) {
        m->copy = m->dict;
        memset(&m->dict, 0, sizeof(m->dict));
    }
}

static bool run_rename_over(RUN_ARGS) {
    (void)after;
    c->r =
        c->a ? objects_rename(o, dict_name(names, before->dict_moved), names[NAME_COPY], true) : 0;
    return c->r == (c->a && is_empty(&before->dict) ? -ENOENT : 0);
}

const struct change_kind dict_kinds[] = {
    {"field put", plan_put, run_put},
    {"field put", plan_put, run_put},
    {"field set by default", plan_default, run_default},
    {"field removed", plan_remove, run_remove},
    {"field popped", plan_remove, run_pop},
    {"any field popped", plan_popitem, run_popitem},
    {"field compared and set", plan_swap, run_swap},
    {"fields updated", plan_update, run_update},
    {"fields updated", plan_update, run_update},
    {"fields deleted", plan_delete_many, run_delete_many},
    {"dict cleared", plan_clear, run_clear},
    {"sum added to", plan_add, run_add},
    {"sums added to", plan_add_many, run_add_many},
    {"dict copied", plan_copy, run_copy},
    {"copy deleted", plan_copy_deleted, run_copy_deleted},
    {"dict renamed", plan_rename, run_rename},
    {"dict renamed over another", plan_rename_over, run_rename_over},
};
const uint32_t n_dict_kinds = ARRAY_SIZE(dict_kinds);
