/* SPDX-License-Identifier: MIT */
/* Changes of kill_objects to its two lists: both ends, anywhere, from one to the other, turned round and sorted.
 *
 * Fails: run() returns false when a call gives something else than the model says. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "tests/crash/kill_model.h"

#define RUN_ARGS                                                                                   \
    struct objects *o, const struct task_bytes *names, struct change *c,                           \
        const struct model *before, struct model *after

enum { PUSHED = 24 };

/* c->b: which of the two lists. */
static struct task_bytes list_name(const struct task_bytes *names, const struct change *c) {
    return names[NAME_LIST + c->b];
}

static void insert_at(struct model_list *l, uint32_t i, uint32_t id) {
    memmove(&l->at[i + 1], &l->at[i], (l->n - i) * sizeof(l->at[0]));
    l->at[i] = id;
    l->n++;
}

static void remove_at(struct model_list *l, uint32_t i, uint32_t n) {
    memmove(&l->at[i], &l->at[i + n], (l->n - i - n) * sizeof(l->at[0]));
    memset(&l->at[l->n - n], 0, n * sizeof(l->at[0]));
    l->n -= n;
}

/* Draws the list, an end (c->a) and a place in it (c->n). */
static struct model_list *draw(struct model *m, struct change *c) {
    c->b = change_random(c, 2);
    c->a = change_random(c, 2);
    struct model_list *l = &m->list[c->b];
    c->n = change_random(c, l->n + 1);
    return l;
}

static enum objects_end end_of(const struct change *c) {
    return c->a ? OBJECTS_LEFT : OBJECTS_RIGHT;
}

/* ---- the ends ---- */

static void plan_push(struct model *m, struct change *c) {
    struct model_list *l = draw(m, c);
    uint64_t room = MODEL_ELEMENTS - l->n;
    c->n = 1 + change_random(c, change_random(c, 3) ? 2 : PUSHED);
    c->n = c->n < room ? c->n : room;
    for (uint64_t i = 0; i < c->n; i++) {
        insert_at(l, c->a ? 0 : l->n, c->id + (uint32_t)i);
    }
}

static bool run_push(RUN_ARGS) {
    static char bytes[PUSHED][CONTENT_MAX];
    struct task_bytes elements[PUSHED];
    (void)before;
    for (uint64_t i = 0; i < c->n; i++) {
        elements[i] = content_of(c->id + (uint32_t)i, bytes[i]);
    }
    c->r = objects_list_push(o, list_name(names, c), end_of(c), elements, c->n);
    return c->r == after->list[c->b].n;
}

static void plan_pop(struct model *m, struct change *c) {
    struct model_list *l = draw(m, c);
    if (l->n) {
        remove_at(l, c->a ? 0 : l->n - 1, 1);
    }
}

static bool run_pop(RUN_ARGS) {
    const struct model_list *l = &before->list[c->b];
    struct task_bytes was;
    (void)after;
    /* waiting for what is there is the same */
    c->r = c->id % 2 ? objects_list_pop(o, list_name(names, c), end_of(c), &was)
                     : objects_list_pop_wait(o, list_name(names, c), end_of(c), 0, &was);
    if (!l->n) {
        return c->r == (c->id % 2 ? -ENOENT : -ETIMEDOUT);
    }
    return c->r == 0 && content_id(was) == l->at[c->a ? 0 : l->n - 1];
}

/* From an end of one to an end of the other, or of itself. */
static void plan_move(struct model *m, struct change *c) {
    struct model_list *from = draw(m, c);
    c->n = change_random(c, 4); /* 1: left; 2: to itself */
    struct model_list *to = c->n & 2 ? from : &m->list[!c->b];
    if (from->n && (to == from || to->n < MODEL_ELEMENTS)) {
        uint32_t id = from->at[c->a ? 0 : from->n - 1];
        remove_at(from, c->a ? 0 : from->n - 1, 1);
        insert_at(to, c->n & 1 ? 0 : to->n, id);
    } else if (from->n) {
        c->n = 4;
    }
}

static bool run_move(RUN_ARGS) {
    const struct model_list *l = &before->list[c->b];
    struct task_bytes was, to = names[NAME_LIST + (c->n & 2 ? c->b : !c->b)];
    (void)after;
    if (c->n == 4) {
        return true; /* no room in the model */
    }
    c->r = objects_list_move(o, list_name(names, c), end_of(c), to,
                             c->n & 1 ? OBJECTS_LEFT : OBJECTS_RIGHT, &was);
    return l->n ? c->r == 0 && content_id(was) == l->at[c->a ? 0 : l->n - 1] : c->r == -ENOENT;
}

/* ---- anywhere ---- */

static void plan_insert(struct model *m, struct change *c) {
    struct model_list *l = draw(m, c);
    if (l->n < MODEL_ELEMENTS) {
        if (l->n && change_random(c, 3) == 0) { /* one that is there already */
            c->id = l->at[change_random(c, l->n)];
        }
        insert_at(l, (uint32_t)c->n, c->id);
    } else {
        c->n = UINT64_MAX;
    }
}

static bool run_insert(RUN_ARGS) {
    char v[CONTENT_MAX];
    (void)before;
    if (c->n == UINT64_MAX) {
        return true;
    }
    c->r = objects_list_insert(o, list_name(names, c), (int64_t)c->n, content_of(c->id, v));
    return c->r == after->list[c->b].n;
}

static void plan_put(struct model *m, struct change *c) {
    struct model_list *l = draw(m, c);
    if (c->n < l->n) {
        l->at[c->n] = c->id;
    }
}

static bool run_put(RUN_ARGS) {
    const struct model_list *l = &before->list[c->b];
    char v[CONTENT_MAX];
    (void)after;
    c->r = objects_list_set(o, list_name(names, c), (int64_t)c->n, content_of(c->id, v));
    return c->r == (c->n < l->n ? 0 : -ENOENT);
}

static void plan_delete(struct model *m, struct change *c) {
    struct model_list *l = draw(m, c);
    uint64_t n = 1 + change_random(c, change_random(c, 3) ? 5 : 80);
    c->a = n < l->n - c->n ? n : l->n - c->n;
    remove_at(l, (uint32_t)c->n, (uint32_t)c->a);
}

static bool run_delete(RUN_ARGS) {
    (void)before;
    (void)after;
    c->r = objects_list_delete(o, list_name(names, c), (int64_t)c->n, (int64_t)c->a);
    return c->r == (int64_t)c->a;
}

/* Cuts off a few at both ends; now and then nothing is left. */
static void plan_trim(struct model *m, struct change *c) {
    struct model_list *l = draw(m, c);
    c->n = change_random(c, 4);
    c->n = c->n < l->n ? c->n : l->n;
    c->a = l->n - c->n;
    uint64_t right = change_random(c, 16) ? change_random(c, 4) : c->a;
    c->a -= right < c->a ? right : c->a;
    remove_at(l, (uint32_t)(c->n + c->a), l->n - (uint32_t)(c->n + c->a));
    remove_at(l, 0, (uint32_t)c->n);
    if (c->a == 0) {
        memset(l, 0, sizeof(*l));
    }
}

static bool run_trim(RUN_ARGS) {
    (void)before;
    (void)after;
    c->r = objects_list_trim(o, list_name(names, c), (int64_t)c->n, (int64_t)c->a);
    return c->r == (int64_t)c->a;
}

/* All that equal the one at c->n: some are there several times. */
static void plan_remove_equal(struct model *m, struct change *c) {
    struct model_list *l = draw(m, c);
    c->a = c->n < l->n ? l->at[c->n] : c->id;
    c->n = 0;
    for (uint32_t i = l->n; i-- > 0;) {
        if (l->at[i] == c->a) {
            remove_at(l, i, 1);
            c->n++;
        }
    }
}

static bool run_remove_equal(RUN_ARGS) {
    char v[CONTENT_MAX];
    (void)before;
    (void)after;
    c->r = objects_list_remove(o, list_name(names, c), content_of((uint32_t)c->a, v), 0);
    return c->r == (int64_t)c->n;
}

/* ---- the whole: read, pushed again in another order, the old ones cut off, as one transaction ---- */

static int by_number(const void *a, const void *b) {
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void plan_order(struct model *m, struct change *c) {
    struct model_list *l = draw(m, c);
    if (c->a) {
        qsort(l->at, l->n, sizeof(l->at[0]), by_number);
        return;
    }
    for (uint32_t i = 0; i < l->n / 2; i++) {
        uint32_t id = l->at[i];
        l->at[i] = l->at[l->n - 1 - i];
        l->at[l->n - 1 - i] = id;
    }
}

struct ordering {
    struct task_bytes name;
    bool sort;
};

static int by_content(const void *a, const void *b) {
    uint32_t x = content_id(*(const struct task_bytes *)a);
    uint32_t y = content_id(*(const struct task_bytes *)b);
    return (x > y) - (x < y);
}

static int order_list(struct objects *o, void *arg) {
    const struct ordering *g = arg;
    const struct task_bytes *found;
    struct task_bytes items[MODEL_ELEMENTS];
    size_t n;
    int r = objects_list_range(o, g->name, 0, -1, &found, &n);
    if (r || n == 0 || n > MODEL_ELEMENTS) {
        return r;
    }
    memcpy(items, found, n * sizeof(*items));
    if (g->sort) {
        qsort(items, n, sizeof(*items), by_content);
    }
    int64_t e = objects_list_push(o, g->name, g->sort ? OBJECTS_RIGHT : OBJECTS_LEFT, items, n);
    if (e == 2 * (int64_t)n) {
        e = objects_list_trim(o, g->name, g->sort ? (int64_t)n : 0, (int64_t)n);
    }
    return e < 0 ? (int)e : e == (int64_t)n ? 0 : -EBADE;
}

static bool run_order(RUN_ARGS) {
    struct ordering g = {list_name(names, c), c->a};
    (void)after;
    if (!c->a && c->id % 2) {
        c->r = objects_list_reverse(o, g.name);
        return c->r == before->list[c->b].n;
    }
    c->r = objects_transaction(o, &names[NAME_LIST + c->b], 1, order_list, &g);
    return c->r == 0;
}

static void plan_gone(struct model *m, struct change *c) {
    struct model_list *l = draw(m, c);
    c->a = change_random(c, 6) == 0;
    c->n = l->n;
    if (c->a) {
        memset(l, 0, sizeof(*l));
    }
}

static bool run_gone(RUN_ARGS) {
    (void)before;
    (void)after;
    c->r = c->a ? objects_delete(o, &names[NAME_LIST + c->b], 1) : 0;
    return c->r == (c->a && c->n);
}

const struct change_kind list_kinds[] = {
    {"elements pushed", plan_push, run_push},
    {"elements pushed", plan_push, run_push},
    {"elements pushed", plan_push, run_push},
    {"element popped", plan_pop, run_pop},
    {"element moved", plan_move, run_move},
    {"element moved", plan_move, run_move},
    {"element inserted", plan_insert, run_insert},
    {"element set", plan_put, run_put},
    {"elements deleted", plan_delete, run_delete},
    {"list trimmed", plan_trim, run_trim},
    {"equal elements removed", plan_remove_equal, run_remove_equal},
    {"list reversed or sorted", plan_order, run_order},
    {"list deleted", plan_gone, run_gone},
};
const uint32_t n_list_kinds = ARRAY_SIZE(list_kinds);
