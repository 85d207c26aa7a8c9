/* SPDX-License-Identifier: MIT */
/* The tree of the leaves between a list's ends: each node has up to 31 children, with the number of elements below each, so
 * that an index is found by adding counts. A node's children lie anywhere in its block, as elements do in a leaf, and are
 * changed in place: only words that differ are logged, and the smaller side is moved. So taking children away needs no
 * memory; adding some may.
 *
 *     [ link | first n cap ] ... unused ... [ offset count ] [ offset count ] ... unused ...
 *
 * A change goes down to the leaves it is about and comes back with what each became: nothing, one or two. Whole branches that
 * are cut off are not visited but hung to an object made for that, which is among the doomed of the shard; without
 * memory for one, to the list itself, whose later changes free them.
 *
 * Invariants: all leaves are on level 0, a node's level is one more than its children's; counts are those of the leaves; a
 * root of more than one level has two children. Fails: as list_inner.h says. Recursion ends because the level decreases and
 * the height is checked. */
#include "lib/shm/list_inner.h"

#include <errno.h>
#include <string.h>

#include "lib/shm/alloc.h"
#include "lib/shm/internal.h"
#include "lib/shm/keys.h"
#include "lib/shm/lock.h"
#include "lib/shm/op.h"

enum {
    NODE_HEAD = 16,
    NODE_WORDS = 2 * BRANCHES + 8, /* that changing one may log */
    NODE_MERGE = 20,               /* neighbours with no more children become one */
    NODE_FIRST = 7,                /* children of a new node; 128 bytes */
    LEVEL_MASK = 15,
    MANY = BRANCHES + 4,
};

#define COUNT_MAX (UINT64_C(1) << 48)

struct node {
    _Atomic uint64_t *w;
    uint64_t off;
    unsigned first, n, cap;
};

static int node_read(const struct shm *s, uint64_t off, struct node *ret) {
    if (off % 16 || off < s->data_off || off > s->size - NODE_HEAD) {
        return -ESTALE;
    }
    _Atomic uint64_t *w = (void *)(s->base + off);
    uint64_t head = get(&w[1]);
    *ret = (struct node){w, off, head & 0xff, head >> 8 & 0xff, head >> 16 & 0xff};
    bool sane = ret->cap <= BRANCHES && ret->first + ret->n <= ret->cap &&
                ret->cap * sizeof(struct branch) <= s->size - NODE_HEAD - off;
    return sane ? 0 : -ESTALE;
}

static uint64_t head_word(const struct node *nd) {
    return nd->first | (uint64_t)nd->n << 8 | (uint64_t)nd->cap << 16;
}

static _Atomic uint64_t *branch_words(const struct node *nd, unsigned k) {
    return &nd->w[2 + 2 * (nd->first + k)];
}

static struct branch branch_at(const struct node *nd, unsigned k) {
    const _Atomic uint64_t *w = branch_words(nd, k);
    return (struct branch){get(&w[0]), get(&w[1])};
}

/* ---- writing nodes ---- */

static void change(struct shm *s, _Atomic uint64_t *w, uint64_t v) {
    if (get(w) != v) {
        tx_set(s, w, v);
    }
}

static uint64_t count_of(const struct branch *b, unsigned n) {
    uint64_t sum = 0;
    for (unsigned k = 0; k < n; k++) {
        sum += b[k].count;
    }
    return sum;
}

/* A new node; its unused places lie to the left or the right. */
static int node_make(struct edit *e, const struct branch *b, unsigned n, unsigned room, bool left,
                     struct branch *ret) {
    uint64_t off;
    room = room > BRANCHES ? BRANCHES : room < NODE_FIRST ? NODE_FIRST : room;
    int r = alloc_tx(e->s, NODE_HEAD + room * sizeof(*b), &off);
    if (r) {
        return r;
    }
    struct node nd = {.w = (void *)(e->s->base + off), .off = off, .n = n, .cap = room};
    nd.first = left ? room - n : 0;
    for (unsigned k = 0; k < n; k++) {
        put(&branch_words(&nd, k)[0], b[k].off);
        put(&branch_words(&nd, k)[1], b[k].count);
    }
    put(&nd.w[1], head_word(&nd));
    *ret = (struct branch){off, count_of(b, n)};
    return 0;
}

/* Children at the beginning, or at the end, that stay as they are. */
static unsigned same(const struct node *nd, const struct branch *b, unsigned n, bool from_end) {
    unsigned k = 0;
    for (; k < n && k < nd->n; k++) {
        unsigned i = from_end ? nd->n - 1 - k : k, j = from_end ? n - 1 - k : k;
        if (branch_at(nd, i).off != b[j].off) {
            break;
        }
    }
    return k;
}

static void write_in_place(struct edit *e, const struct node *nd, const struct branch *b,
                           unsigned n, bool keep_right) {
    struct node to = *nd;
    unsigned end = nd->first + nd->n;
    to.n = n;
    if (keep_right) {
        to.first = end > n ? end - n : 0;
    }
    if (to.first + n > to.cap) {
        to.first = to.cap - n;
    }
    for (unsigned k = 0; k < n; k++) {
        change(e->s, &branch_words(&to, k)[0], b[k].off);
        change(e->s, &branch_words(&to, k)[1], b[k].count);
    }
    change(e->s, &nd->w[1], head_word(&to));
}

/* Gives the node these children: in place, in a larger block, or in two. */
static int node_store(struct edit *e, const struct node *nd, const struct branch *b, unsigned n,
                      struct branches *ret) {
    unsigned front = same(nd, b, n, false), back = same(nd, b, n, true);
    bool keep_right = back > front;
    struct branch made;
    int r = tx_need(e->s, NODE_WORDS);
    if (r) {
        return r;
    }
    ret->n = n != 0;
    ret->b[0] = (struct branch){nd->off, count_of(b, n)};
    if (n == 0) {
        op_free(e->s, e->shard, nd->off);
    } else if (n <= nd->cap) {
        write_in_place(e, nd, b, n, keep_right);
    } else if (n <= BRANCHES) {
        r = node_make(e, b, n, 2 * n, keep_right, &made);
        if (r == 0) {
            op_free(e->s, e->shard, nd->off);
            ret->b[0] = made;
        }
    } else {
        /* what grows at an end leaves full nodes behind */
        unsigned cut = front + 2 > n ? n - 1 : back + 2 > n ? 1 : n / 2;
        ret->n = 2;
        if (cut > 1) {
            r = node_make(e, b + cut, n - cut, BRANCHES, false, &ret->b[1]);
            ret->b[0].count = count_of(b, cut);
        } else {
            r = node_make(e, b, cut, BRANCHES, true, &ret->b[0]);
            ret->b[1] = (struct branch){nd->off, count_of(b + cut, n - cut)};
        }
        r = r ? r : tx_need(e->s, NODE_WORDS);
        if (r == 0) {
            write_in_place(e, nd, cut > 1 ? b : b + cut, cut > 1 ? cut : n - cut, cut == 1);
        }
    }
    return r;
}

/* The root became this. */
static int root_store(struct edit *e, const struct branches *top) {
    struct shm_list *l = e->list;
    uint64_t root = top->b[0].off, height = get(&l->height);
    struct branch made;
    struct node nd;
    int r = 0;
    if (top->n == 0) {
        root = height = 0;
    } else if (top->n == 2) {
        r = height < HEIGHT_MAX ? node_make(e, top->b, 2, NODE_FIRST, false, &made) : -ENOMEM;
        root = r ? 0 : made.off;
        height++;
    }
    r = r ? r : tx_need(e->s, 3 * HEIGHT_MAX + 4);
    while (r == 0 && height > 1) {
        r = node_read(e->s, root, &nd);
        if (r || nd.n != 1) {
            break;
        }
        op_free(e->s, e->shard, root);
        root = branch_at(&nd, 0).off;
        height--;
    }
    if (r == 0) {
        change(e->s, &l->root, root);
        change(e->s, &l->height, height);
    }
    return r;
}

/* ---- finding ---- */

static int height_of(const struct shm_list *l, unsigned *ret) {
    uint64_t height = get(&l->height);
    *ret = (unsigned)height;
    return height && height <= HEIGHT_MAX ? 0 : -ESTALE;
}

int tree_find(const struct shm *s, const struct shm_list *l, uint64_t i, struct leaf *ret,
              uint64_t *ret_in) {
    unsigned level;
    uint64_t off = get(&l->root);
    for (int r = height_of(l, &level); level; level--) {
        struct node nd;
        r = r ? r : node_read(s, off, &nd);
        if (r) {
            return r;
        }
        unsigned k = 0;
        for (; k < nd.n; k++) {
            uint64_t count = get(&branch_words(&nd, k)[1]);
            if (i < count) {
                break;
            }
            i -= count;
        }
        if (k == nd.n) {
            return -ESTALE;
        }
        off = branch_at(&nd, k).off;
    }
    *ret_in = i;
    return leaf_read(s, off, ret);
}

/* ---- cutting off ---- */

int tree_bury(struct edit *e, uint64_t off, unsigned level) {
    _Atomic uint64_t *w = alloc_ptr(e->s, off, 16);
    int r = tx_need(e->s, 4);
    if (r == 0 && w) {
        tx_set(e->s, w, get(&e->list->dead));
        tx_set(e->s, &e->list->dead, off | level);
    }
    return r;
}

/* Whatever is below goes to an object of its own among the doomed. */
static int cut_off(struct edit *e, uint64_t off, unsigned level) {
    struct shm_shard *d = &e->s->shards[e->shard];
    struct leaf f;
    if (level == 0 && leaf_read(e->s, off, &f) == 0 && !f.big) {
        int r = tx_need(e->s, 4);
        if (r == 0) {
            op_free(e->s, e->shard, off);
        }
        return r;
    }
    if (!e->doomed) {
        uint64_t at;
        int r = alloc_tx(e->s, sizeof(struct shm_object), &at);
        if (r == -ENOMEM) {
            return tree_bury(e, off, level);
        }
        if (r) {
            return r;
        }
        struct shm_object *o = (void *)(e->s->base + at);
        memset(o, 0, sizeof(*o));
        put(&o->kind, KEY_LIST | (uint64_t)e->account << KEY_ACCOUNT_SHIFT);
        put(&o->link, get(&d->doomed));
        tx_set(e->s, &d->doomed, at);
        e->doomed = at;
    }
    struct edit grave = *e;
    grave.list = &((struct shm_object *)(void *)(e->s->base + e->doomed))->list;
    return tree_bury(&grave, off, level);
}

int tree_drop(struct edit *e) {
    unsigned level;
    int r = height_of(e->list, &level);
    r = r ? r : cut_off(e, get(&e->list->root), level);
    r = r ? r : tx_need(e->s, 4);
    if (r == 0) {
        tx_set(e->s, &e->list->root, 0);
        tx_set(e->s, &e->list->height, 0);
    }
    return r;
}

/* One step at the top of the dead. */
static int free_step(struct edit *e, int budget) {
    uint64_t top = get(&e->list->dead), off = top & ~(uint64_t)LEVEL_MASK;
    unsigned level = top & LEVEL_MASK;
    struct leaf f;
    struct node nd;
    int r = level ? node_read(e->s, off, &nd) : leaf_read(e->s, off, &f);
    if (r || !alloc_size(e->s, off)) {
        tx_set(e->s, &e->list->dead, 0); /* damaged by somebody: the rest cannot be found */
        return 0;
    }
    if (level && nd.n) {
        uint64_t child = branch_at(&nd, --nd.n).off;
        tx_set(e->s, &nd.w[1], head_word(&nd));
        return tree_bury(e, child, level - 1);
    }
    r = level ? 0 : leaf_strip(e, &f, budget);
    if (r == 0) {
        tx_set(e->s, &e->list->dead, get((_Atomic uint64_t *)(void *)(e->s->base + off)));
        op_free(e->s, e->shard, off);
    }
    return r < 0 ? r : 0;
}

int tree_free_dead(struct edit *e, int budget) {
    for (int i = 0; get(&e->list->dead); i++) {
        if (i == budget) {
            return 1;
        }
        int r = tx_need(e->s, 16);
        r = r ? r : free_step(e, budget);
        if (r) {
            return r;
        }
    }
    return 0;
}

/* ---- changing ---- */

static int edit_branch(struct edit *e, uint64_t off, unsigned level, uint64_t i, uint64_t n,
                       struct branches *ret);

/* Children being put together, and which of them were made by the change. */
struct pile {
    struct branch b[MANY];
    unsigned n, from, to;
};

static int edit_child(struct edit *e, struct branch child, unsigned level, uint64_t i, uint64_t n,
                      struct pile *p) {
    struct branches now = {.n = 0};
    int r;
    if (n == child.count && !e->ins) {
        r = cut_off(e, child.off, level);
    } else {
        r = edit_branch(e, child.off, level, i, n, &now);
    }
    if (p->n + now.n > MANY) {
        return -ESTALE;
    }
    p->from = p->n < p->from ? p->n : p->from;
    for (unsigned k = 0; r == 0 && k < now.n; k++) {
        p->b[p->n++] = now.b[k];
    }
    p->to = p->n;
    return r;
}

static int merge_nodes(struct edit *e, struct branch *a, const struct branch *b) {
    struct node x, y;
    struct branch all[BRANCHES];
    struct branches now;
    int r = node_read(e->s, a->off, &x);
    r = r ? r : node_read(e->s, b->off, &y);
    if (r || x.n + y.n > NODE_MERGE || !x.n || !y.n) {
        return r;
    }
    for (unsigned k = 0; k < x.n + y.n; k++) {
        all[k] = k < x.n ? branch_at(&x, k) : branch_at(&y, k - x.n);
    }
    r = node_store(e, &x, all, x.n + y.n, &now);
    r = r ? r : tx_need(e->s, 4);
    if (r) {
        return r == -ENOMEM ? 0 : r; /* they may as well stay two */
    }
    op_free(e->s, e->shard, b->off);
    *a = now.b[0];
    return 1;
}

/* Where children became smaller, neighbours may become one. */
static int merge_some(struct edit *e, unsigned level, struct pile *p) {
    unsigned k = p->from ? p->from - 1 : 0;
    while (k < p->to && k + 1 < p->n) {
        int r =
            level ? merge_nodes(e, &p->b[k], &p->b[k + 1]) : leaf_merge(e, &p->b[k], &p->b[k + 1]);
        if (r < 0) {
            return r;
        }
        if (r == 0) {
            k++;
            continue;
        }
        memmove(&p->b[k + 1], &p->b[k + 2], (p->n - k - 2) * sizeof(p->b[0]));
        p->n--;
        p->to--;
    }
    return 0;
}

static int edit_node(struct edit *e, uint64_t off, unsigned level, uint64_t i, uint64_t n,
                     struct branches *ret) {
    struct node nd;
    struct pile p = {.n = 0, .from = MANY};
    uint64_t at = 0;
    bool insert = e->ins && n == 0;
    int r = node_read(e->s, off, &nd);
    for (unsigned k = 0; r == 0 && k < nd.n; k++) {
        struct branch c = branch_at(&nd, k);
        uint64_t lo = i > at ? i - at : 0;
        if (c.count > COUNT_MAX) {
            return -ESTALE;
        }
        uint64_t hi = i + n > at ? i + n - at : 0;
        hi = hi < c.count ? hi : c.count;
        bool here = insert && (i - at < c.count || (k + 1 == nd.n && i - at == c.count));
        if (here || lo < hi) {
            r = edit_child(e, c, level - 1, lo, here ? 0 : hi - lo, &p);
            insert = false;
        } else if (p.n == MANY) {
            r = -ESTALE;
        } else {
            p.b[p.n++] = c;
        }
        at += c.count;
    }
    if (r == 0 && !e->ins && p.from < MANY) {
        r = merge_some(e, level - 1, &p);
    }
    return r ? r : node_store(e, &nd, p.b, p.n, ret);
}

static int edit_branch(struct edit *e, uint64_t off, unsigned level, uint64_t i, uint64_t n,
                       struct branches *ret) {
    struct leaf f;
    if (level) {
        return edit_node(e, off, level, i, n, ret);
    }
    int r = leaf_read(e->s, off, &f);
    return r ? r : leaf_edit(e, &f, i, n, ret);
}

int tree_edit(struct edit *e, uint64_t i, uint64_t n) {
    struct branches top;
    unsigned level;
    int r = height_of(e->list, &level);
    r = r ? r : edit_node(e, get(&e->list->root), level, i, n, &top);
    return r ? r : root_store(e, &top);
}

/* ---- the ends ---- */

/* Adds `leaf` at an end, or (NULL) takes the one that is there away. */
static int edit_end(struct edit *e, uint64_t off, unsigned level, bool left,
                    const struct branch *leaf, uint64_t *ret_taken, struct branches *ret) {
    struct node nd;
    struct branch b[MANY];
    struct branches now = {.n = 0};
    unsigned n = 0;
    int r = node_read(e->s, off, &nd);
    if (r || nd.n == 0) {
        return -ESTALE;
    }
    unsigned end = left ? 0 : nd.n - 1;
    struct branch c = branch_at(&nd, end);
    if (level > 1) {
        r = edit_end(e, c.off, level - 1, left, leaf, ret_taken, &now);
    } else if (leaf) {
        now = (struct branches){{left ? *leaf : c, left ? c : *leaf}, 2};
    } else {
        *ret_taken = c.off;
    }
    for (unsigned k = 0; r == 0 && k < nd.n; k++) {
        if (k != end) {
            b[n++] = branch_at(&nd, k);
            continue;
        }
        for (unsigned j = 0; j < now.n; j++) {
            b[n++] = now.b[j];
        }
    }
    return r ? r : node_store(e, &nd, b, n, ret);
}

int tree_push(struct edit *e, bool left, const struct branch *leaf) {
    struct branches top = {.n = 1};
    unsigned level;
    if (!get(&e->list->root)) {
        int r = node_make(e, leaf, 1, NODE_FIRST, left, &top.b[0]);
        r = r ? r : tx_need(e->s, 4);
        if (r == 0) {
            tx_set(e->s, &e->list->root, top.b[0].off);
            tx_set(e->s, &e->list->height, 1);
        }
        return r;
    }
    int r = height_of(e->list, &level);
    r = r ? r : edit_end(e, get(&e->list->root), level, left, leaf, NULL, &top);
    return r ? r : root_store(e, &top);
}

int tree_take(struct edit *e, bool left, uint64_t *ret_off) {
    struct branches top;
    unsigned level;
    int r = height_of(e->list, &level);
    r = r ? r : edit_end(e, get(&e->list->root), level, left, NULL, ret_off, &top);
    return r ? r : root_store(e, &top);
}

/* ---- walking ---- */

int tree_walk(struct walk_leaves *w, uint64_t off, unsigned level, uint64_t skip) {
    struct node nd;
    struct leaf f;
    int r = 0;
    if (w->left-- == 0) {
        w->left = 0;
        return -ESTALE;
    }
    if (level == 0) {
        r = leaf_read(w->s, off, &f);
        return r ? r : w->leaf(w, &f, skip);
    }
    r = node_read(w->s, off, &nd);
    if (r == 0 && w->node) {
        r = w->node(w, off, NODE_HEAD + nd.cap * sizeof(struct branch));
    }
    for (unsigned k = 0; r == 0 && k < nd.n; k++) {
        struct branch c = branch_at(&nd, w->down ? nd.n - 1 - k : k);
        if (skip >= c.count && skip) {
            skip -= c.count;
            continue;
        }
        if (level == 1 && k + 1 < nd.n) {
            uint64_t next = branch_at(&nd, w->down ? nd.n - 2 - k : k + 1).off;
            __builtin_prefetch(w->s->base + (next < w->s->size ? next : 0));
        }
        r = tree_walk(w, c.off, level - 1, skip);
        skip = 0;
    }
    return r;
}
