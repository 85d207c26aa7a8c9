/* SPDX-License-Identifier: MIT */
/* Lists. The first and the last leaf belong to the list itself; the leaves between them are in a tree that knows how many
 * elements are below each branch. So a push or pop changes one word of a leaf and the count, and the tree only when a leaf
 * is full or empty, which is once in a hundred elements.
 *
 *     head                                   tail
 *     [....abc] -> ( tree: [defgh] [ijk] ) -> [lmnop...]         one leaf only: head == tail, no tree
 *
 * Leaves grow with the list: the first one is as large as a few elements need, those of a long list 4 KiB.
 *
 * Invariants: count is that of head, tree and tail; a list without elements has no leaves; none is empty. Fails: as list.h
 * says; -ESTALE from below becomes -EBADMSG in changing verbs. */
#include "lib/shm/list.h"

#include <errno.h>
#include <string.h>

#include "lib/shm/account.h"
#include "lib/shm/alloc.h"
#include "lib/shm/dirty.h"
#include "lib/shm/internal.h"
#include "lib/shm/list_inner.h"
#include "lib/shm/lock.h"
#include "lib/shm/op.h"

enum { TIDY = 2 };

/* How many elements are where. */
struct parts {
    uint64_t head, tree, tail;
    struct leaf first, last;
};

static int parts_of(const struct shm *s, const struct shm_list *l, struct parts *ret) {
    uint64_t count = get(&l->count), head = get(&l->head), tail = get(&l->tail);
    *ret = (struct parts){0};
    if (count == 0) {
        return 0;
    }
    int r = leaf_read(s, head, &ret->first);
    r = r ? r : leaf_read(s, tail, &ret->last);
    if (r) {
        return r;
    }
    ret->head = ret->first.count;
    ret->tail = head == tail ? 0 : ret->last.count;
    if (ret->head + ret->tail > count) {
        return -ESTALE;
    }
    ret->tree = count - ret->head - ret->tail;
    return (ret->tree != 0) == (get(&l->root) != 0) ? 0 : -ESTALE;
}

/* Every changing verb begins and ends with these. */
static int begin(struct shm *s, struct list_object *l, struct edit *ret) {
    *ret =
        (struct edit){.s = s, .shard = l->key.name.shard, .list = l->list, .account = l->account};
    op_changes(s, ret->shard);
    account_pays(s, ret->shard, ret->account);
    int r = get(&l->list->dead) ? tree_free_dead(ret, TIDY) : 0;
    return r < 0 ? r : tx_need(s, 16);
}

static int done(int r) {
    return r == -ESTALE ? -EBADMSG : r;
}

int list_open(struct shm *s, const struct key_name *name, bool make, struct list_object *ret) {
    int r = make ? key_open(s, name, KEY_LIST, true, &ret->key)
                 : key_find_typed(s, name, KEY_LIST, &ret->key);
    if (r) {
        return r;
    }
    struct shm_object *o = key_object(s, &ret->key);
    if (!o) {
        return make ? -EBADMSG : -ESTALE;
    }
    ret->list = &o->list;
    ret->account = key_account(&ret->key);
    return 0;
}

uint64_t list_count(const struct list_object *l) {
    return get(&l->list->count);
}

int64_t list_base(const struct list_object *l) {
    return (int64_t)get(&l->list->base);
}

int list_set_base(struct shm *s, struct list_object *l, int64_t base) {
    int r = tx_need(s, 2);
    if (r == 0) {
        op_changes(s, l->key.name.shard);
        tx_set(s, &l->list->base, (uint64_t)base);
    }
    return r;
}

int list_close(struct shm *s, struct list_object *l) {
    return list_count(l) ? key_changed(s, &l->key) : key_delete(s, &l->key);
}

/* ---- what of a durable list has changed (dirty.h) ---- */

/* The first element is at another position. */
static int move_base(struct shm *s, struct list_object *l, uint64_t by) {
    int r = dirty_is_durable(&l->key.name) ? tx_need(s, 2) : 0;
    if (r == 0 && dirty_is_durable(&l->key.name)) {
        tx_set(s, &l->list->base, get(&l->list->base) + by);
    }
    return r;
}

/* The element at an index, which may be new. */
static int note_element(struct shm *s, struct list_object *l, uint64_t index) {
    if (!dirty_is_durable(&l->key.name)) {
        return 0;
    }
    return dirty_item_more(s, &l->key.name, (int64_t)(get(&l->list->base) + index));
}

/* Of `count` elements n are gone from index on. At the ends that is told by where the list begins and ends. */
static int note_removed(struct shm *s, struct list_object *l, uint64_t index, uint64_t n,
                        uint64_t count) {
    bool removing = s->op_removing;
    s->op_removing = true;
    int r = index == 0 ? move_base(s, l, n) : 0;
    r = r ? r : dirty_key(s, &l->key.name, index != 0 && index + n < count);
    s->op_removing = removing;
    return r;
}

/* ---- the ends ---- */

/* Bytes of a new leaf: a quarter of what the list holds, judged by this element. */
static unsigned leaf_goal(const struct edit *e) {
    uint64_t count = get(&e->list->count), size = entry_size(e->ins);
    uint64_t goal = count < LEAF_MAX ? count * size / 4 : LEAF_MAX;
    return goal < LEAF_FEW ? LEAF_FEW : goal < LEAF_MAX ? (unsigned)goal : LEAF_MAX;
}

static void set_ends(struct shm_list *l, struct shm *s, uint64_t head, uint64_t tail) {
    if (get(&l->head) != head) {
        tx_set(s, &l->head, head);
    }
    if (get(&l->tail) != tail) {
        tx_set(s, &l->tail, tail);
    }
}

/* The leaf at an end has no room there, or only some that must not be written. */
static int push_full(struct edit *e, struct leaf *f, bool left, bool vacated) {
    struct shm_list *l = e->list;
    unsigned size = entry_size(e->ins), used = f->end - f->begin, goal = leaf_goal(e);
    uint64_t head = get(&l->head), tail = get(&l->tail), off;
    int r;
    if (used + size <= goal * 3 / 4 || vacated) {
        unsigned cap = (used + size) * 3 / 2 + LEAF_HEAD;
        cap = cap < goal ? cap : goal;
        r = leaf_widen(e, f, left, vacated && cap < f->cap ? f->cap : cap, &off);
        r = r ? r : leaf_read(e->s, off, f);
        r = r ? r : leaf_push(e, f, left, true);
        if (r == 0) {
            set_ends(l, e->s, left || head == tail ? off : head,
                     !left || head == tail ? off : tail);
        }
        return r > 0 ? -ESTALE : r;
    }
    r = leaf_first(e, left, goal, &off);
    if (r == 0 && head != tail) {
        r = tree_push(e, left, &(struct branch){f->off, f->count});
    }
    r = r ? r : tx_need(e->s, 8);
    if (r == 0) {
        set_ends(l, e->s, left ? off : head, left ? tail : off);
    }
    return r;
}

static int push(struct edit *e, bool left) {
    struct shm_list *l = e->list;
    uint64_t off = get(left ? &l->head : &l->tail);
    struct leaf f;
    int r;
    if (get(&l->count) == 0) {
        r = leaf_first(e, left, (entry_size(e->ins) + LEAF_HEAD) * 3 / 2, &off);
        if (r == 0) {
            set_ends(l, e->s, off, off);
        }
    } else {
        r = leaf_read(e->s, off, &f);
        r = r ? r : leaf_push(e, &f, left, false);
        if (r > 0) {
            r = push_full(e, &f, left, r == LEAF_VACATED);
        }
    }
    r = r ? r : tx_need(e->s, 4);
    if (r == 0) {
        tx_set(e->s, &l->count, get(&l->count) + 1);
    }
    return r;
}

int list_push(struct shm *s, struct list_object *l, bool left, const void *data, size_t len) {
    struct edit e;
    struct entry entry;
    int r = begin(s, l, &e);
    r = r ? r : entry_make(s, &entry, data, len);
    if (r == 0) {
        e.ins = &entry;
        r = push(&e, left);
    }
    r = r || !left ? r : move_base(s, l, UINT64_MAX);
    r = r ? r : note_element(s, l, left ? 0 : list_count(l) - 1);
    return done(r);
}

/* The leaf at an end has become these (`left`: the first one; of a single leaf either). */
static int end_became(struct edit *e, bool left, const struct branches *now) {
    struct shm_list *l = e->list;
    uint64_t head = get(&l->head), tail = get(&l->tail), off = 0;
    int r = 0;
    if (head == tail) {
        head = now->n ? now->b[0].off : 0;
        tail = now->n ? now->b[now->n - 1].off : 0;
    } else if (now->n == 0) {
        off = left ? tail : head;
        if (get(&l->root)) {
            r = tree_take(e, left, &off);
        }
        *(left ? &head : &tail) = off;
    } else {
        *(left ? &head : &tail) = now->b[left ? 0 : now->n - 1].off;
        if (now->n == 2) {
            r = tree_push(e, left, &now->b[left ? 1 : 0]);
        }
    }
    r = r ? r : tx_need(e->s, 8);
    if (r == 0) {
        set_ends(l, e->s, head, tail);
    }
    return r;
}

int list_pop(struct shm *s, struct list_object *l, bool left, struct task_bytes *ret) {
    struct edit e;
    struct leaf f;
    struct item it;
    uint64_t count = list_count(l);
    if (count == 0) {
        return -ENOENT;
    }
    int r = begin(s, l, &e);
    r = r ? r : leaf_read(s, get(left ? &l->list->head : &l->list->tail), &f);
    r = r ? r : leaf_pop(&e, &f, left, &it);
    r = r ? r : tx_need(s, 8);
    if (r == 0 && f.count == 0) {
        op_free(s, e.shard, f.off);
        r = end_became(&e, left, &(struct branches){.n = 0});
    }
    r = r ? r : tx_need(s, 4);
    if (r == 0) {
        tx_set(s, &l->list->count, count - 1);
        *ret = (struct task_bytes){it.data, it.len};
        r = note_removed(s, l, left ? 0 : count - 1, 1, count);
    }
    return done(r);
}

/* ---- reading ---- */

int list_at(struct shm *s, const struct list_object *l, uint64_t index, struct task_bytes *ret) {
    struct parts p;
    struct leaf f;
    struct item it;
    unsigned pos;
    if (index >= list_count(l)) {
        return -ENOENT;
    }
    int r = parts_of(s, l->list, &p);
    if (r) {
        return r;
    }
    if (index < p.head) {
        f = p.first;
    } else if (index - p.head >= p.tree) {
        f = p.last;
        index -= p.head + p.tree;
    } else {
        r = tree_find(s, l->list, index - p.head, &f, &index);
    }
    r = r ? r : leaf_seek(&f, index, &pos);
    r = r ? r : leaf_item(s, &f, pos, &it);
    if (r == 0) {
        *ret = (struct task_bytes){it.data, it.len};
    }
    return r;
}

struct walk {
    struct walk_leaves leaves;
    uint64_t index;
    list_visit *fn;
    void *arg;
};

static int walk_leaf(struct walk_leaves *leaves, const struct leaf *f, uint64_t skip) {
    struct walk *w = (struct walk *)(void *)leaves;
    bool down = leaves->down;
    struct item it;
    unsigned pos;
    if (skip > f->count) {
        return -ESTALE;
    }
    int r = leaf_seek(f, down ? f->count - skip : skip, &pos);
    for (uint64_t left = f->count - skip; r == 0 && left; left--) {
        r = down ? leaf_item_before(leaves->s, f, pos, &it) : leaf_item(leaves->s, f, pos, &it);
        if (r) {
            break;
        }
        pos += down ? -it.size : it.size;
        r = w->fn(w->arg, w->index, it.data, it.len);
        w->index += down ? UINT64_MAX : 1;
    }
    return r;
}

int list_walk(struct shm *s, const struct list_object *l, uint64_t from, bool down, list_visit *fn,
              void *arg) {
    struct parts p;
    struct walk w = {{s, down, walk_leaf, NULL, s->size / 16}, from, fn, arg};
    uint64_t count = list_count(l), height = get(&l->list->height);
    if (from >= count) {
        return 0;
    }
    int r = parts_of(s, l->list, &p);
    r = r ? r : p.tree && height > HEIGHT_MAX ? -ESTALE : 0;
    uint64_t skip = down ? count - 1 - from : from;
    const struct leaf *ends[] = {&p.first, &p.last};
    uint64_t n[] = {p.head, p.tree, p.tail};
    for (int i = 0; r == 0 && i < 3; i++) {
        int part = down ? 2 - i : i;
        if (skip >= n[part]) {
            skip -= n[part];
            continue;
        }
        r = part == 1 ? tree_walk(&w.leaves, get(&l->list->root), (unsigned)height, skip)
                      : walk_leaf(&w.leaves, ends[part / 2], skip);
        skip = 0;
    }
    return r;
}

/* ---- in the middle ---- */

/* Elements [i, i + n) of the leaf at an end. */
static int edit_end_leaf(struct edit *e, bool left, uint64_t i, uint64_t n) {
    struct leaf f;
    struct branches now;
    int r = leaf_read(e->s, get(left ? &e->list->head : &e->list->tail), &f);
    r = r ? r : leaf_edit(e, &f, i, n, &now);
    return r ? r : end_became(e, left, &now);
}

static int edit_one(struct edit *e, uint64_t index, uint64_t n) {
    struct parts p;
    int r = parts_of(e->s, e->list, &p);
    if (r) {
        return r;
    }
    if (index < p.head) {
        return edit_end_leaf(e, true, index, n);
    }
    index -= p.head;
    return index < p.tree ? tree_edit(e, index, n) : edit_end_leaf(e, false, index - p.tree, n);
}

int list_set(struct shm *s, struct list_object *l, uint64_t index, const void *data, size_t len) {
    struct edit e;
    struct entry entry;
    if (index >= list_count(l)) {
        return -ENOENT;
    }
    int r = begin(s, l, &e);
    r = r ? r : entry_make(s, &entry, data, len);
    if (r == 0) {
        e.ins = &entry;
        r = edit_one(&e, index, 1);
    }
    r = r ? r : note_element(s, l, index);
    return done(r);
}

int list_insert(struct shm *s, struct list_object *l, uint64_t index, const void *data,
                size_t len) {
    struct edit e;
    struct entry entry;
    uint64_t count = list_count(l);
    if (index > count) {
        return -ENOENT;
    }
    if (index == 0 || index == count) {
        return list_push(s, l, index == 0, data, len);
    }
    int r = begin(s, l, &e);
    r = r ? r : entry_make(s, &entry, data, len);
    if (r == 0) {
        e.ins = &entry;
        r = edit_one(&e, index, 0);
    }
    r = r ? r : tx_need(s, 4);
    if (r == 0) {
        tx_set(s, &l->list->count, count + 1);
        r = dirty_key(s, &l->key.name, true);
    }
    return done(r);
}

/* The part of [i, i + n) that lies in [at, at + count). */
static uint64_t overlap(uint64_t i, uint64_t n, uint64_t at, uint64_t count, uint64_t *ret_from) {
    uint64_t from = i > at ? i : at, to = i + n < at + count ? i + n : at + count;
    *ret_from = from - at;
    return to > from ? to - from : 0;
}

static int remove_range(struct shm *s, struct list_object *l, uint64_t index, uint64_t n) {
    struct edit e;
    struct parts p;
    uint64_t count = list_count(l), from, k;
    if (index >= count || n == 0) {
        return 0;
    }
    n = n < count - index ? n : count - index;
    int r = begin(s, l, &e);
    r = r ? r : parts_of(s, l->list, &p);
    if (r) {
        return done(r);
    }
    /* the tree first: when an end loses all, it gets a leaf from there */
    k = overlap(index, n, p.head, p.tree, &from);
    if (k) {
        r = k == p.tree ? tree_drop(&e) : tree_edit(&e, from, k);
    }
    k = overlap(index, n, p.head + p.tree, p.tail, &from);
    if (r == 0 && k) {
        r = edit_end_leaf(&e, false, from, k);
    }
    k = overlap(index, n, 0, p.head, &from);
    if (r == 0 && k) {
        r = edit_end_leaf(&e, true, from, k);
    }
    r = r ? r : tx_need(s, 4);
    if (r == 0) {
        tx_set(s, &l->list->count, count - n);
        r = note_removed(s, l, index, n, count);
    }
    return done(r);
}

int list_remove(struct shm *s, struct list_object *l, uint64_t index, uint64_t n) {
    s->op_removing = true; /* what is left of a leaf goes to a new one */
    int r = remove_range(s, l, index, n);
    s->op_removing = false;
    return r;
}

/* ---- for keys.c and check.c ---- */

int list_take_apart(struct shm *s, unsigned shard, struct shm_list *l, int budget) {
    struct edit e = {.s = s, .shard = shard, .list = l};
    uint64_t head = get(&l->head), tail = get(&l->tail), root = get(&l->root);
    op_changes(s, shard);
    int r = tx_need(s, 32);
    if (r == 0 && (head || tail || root)) {
        r = head ? tree_bury(&e, head, 0) : 0;
        r = r || tail == head || !tail ? r : tree_bury(&e, tail, 0);
        r = r || !root || get(&l->height) > HEIGHT_MAX
                ? r
                : tree_bury(&e, root, (unsigned)get(&l->height));
        if (r == 0) {
            tx_set(s, &l->root, 0);
            tx_set(s, &l->height, 0);
            tx_set(s, &l->count, 0);
            set_ends(l, s, 0, 0);
        }
    }
    r = r ? r : tree_free_dead(&e, budget);
    return done(r);
}

struct blocks {
    struct walk_leaves leaves;
    int (*fn)(void *arg, uint64_t off, uint64_t bytes);
    void *arg;
};

static int blocks_of_node(struct walk_leaves *leaves, uint64_t off, uint64_t bytes) {
    const struct blocks *b = (struct blocks *)(void *)leaves;
    return b->fn(b->arg, off, bytes);
}

static int blocks_of_leaf(struct walk_leaves *leaves, const struct leaf *f, uint64_t skip) {
    const struct blocks *b = (struct blocks *)(void *)leaves;
    struct item it;
    (void)skip;
    int r = b->fn(b->arg, f->off, f->cap);
    unsigned pos = f->begin;
    for (unsigned i = 0; r == 0 && f->big && i < f->count; i++, pos += it.size) {
        r = leaf_item(b->leaves.s, f, pos, &it);
        if (r == 0 && it.big) {
            r = b->fn(b->arg, it.big, it.len + 16);
        }
    }
    return r;
}

int list_blocks(const struct shm *s, const struct shm_list *l,
                int (*fn)(void *arg, uint64_t off, uint64_t bytes), void *arg) {
    struct blocks b = {{s, false, blocks_of_leaf, blocks_of_node, s->size / 32}, fn, arg};
    uint64_t head = get(&l->head), tail = get(&l->tail), root = get(&l->root);
    uint64_t height = get(&l->height);
    int r = height > HEIGHT_MAX ? -ESTALE : 0;
    r = r || !head ? r : tree_walk(&b.leaves, head, 0, 0);
    r = r || !root ? r : tree_walk(&b.leaves, root, (unsigned)height, 0);
    r = r || tail == head || !tail ? r : tree_walk(&b.leaves, tail, 0, 0);
    for (uint64_t dead = get(&l->dead), left = s->size / 32; r == 0 && dead; left--) {
        uint64_t off = dead & ~UINT64_C(15);
        r = left ? tree_walk(&b.leaves, off, dead & 15, 0) : -ESTALE;
        if (r == 0) {
            dead = get((_Atomic uint64_t *)(void *)(s->base + off));
        }
    }
    return r;
}
