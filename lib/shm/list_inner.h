/* SPDX-License-Identifier: MIT */
/* What the three files of lists share: list.c (the verbs), list_tree.c (the leaves between the ends), list_leaf.c (packed
 * elements). Not for anybody else. Changing functions return 0, -ENOMEM, -ENOBUFS, -EAGAIN, and -ESTALE where a word makes
 * no sense, which list.c turns into -EBADMSG. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/shm/layout.h"
#include "lib/shm/list.h"
#include "lib/shm/segment.h"

enum {
    LEAF_HEAD = 16,
    LEAF_MAX = 4096, /* bytes of the largest leaf */
    LEAF_ROOM = LEAF_MAX - LEAF_HEAD,
    LEAF_FEW = 512,   /* a list's first leaves are no larger */
    INLINE_MAX = 512, /* larger elements have a block of their own */
    ENTRY_MAX = INLINE_MAX + 4,
    BRANCHES = 31,   /* children of a node; a full node takes 512 bytes */
    HEIGHT_MAX = 15, /* of the tree; what is higher was damaged */
};

/* A leaf and the number of its elements, or a node and that of all elements below it. */
struct branch {
    uint64_t off, count;
};

/* What one leaf or node becomes by a change: nothing, itself or another, or two. */
struct branches {
    struct branch b[2];
    unsigned n;
};

/* An element to be stored. */
struct entry {
    const void *data;
    size_t len;
    uint64_t big; /* its block; 0: it lies in the leaf */
};

/* A change under way. */
struct edit {
    struct shm *s;
    unsigned shard, account;
    struct shm_list *list;
    const struct entry *ins; /* what is inserted or set, or NULL */
    uint64_t doomed;         /* object that collects what is cut off */
};

/* ---- leaves ---- */

struct leaf {
    uint8_t *at; /* where it begins in memory */
    uint64_t off;
    unsigned begin, end, count, cap; /* elements lie in [begin, end) of its cap bytes */
    bool big;                        /* some may have blocks of their own */
};

/* An element of a leaf. */
struct item {
    unsigned size; /* bytes in the leaf */
    const uint8_t *data;
    size_t len;
    uint64_t big;
};

static inline unsigned entry_size(const struct entry *e) {
    return 4 + (unsigned)(e->big ? 8 : e->len);
}
/* Makes a block for an element that needs one. */
int entry_make(struct shm *s, struct entry *e, const void *data, size_t len);

/* Reads. */
int leaf_read(const struct shm *s, uint64_t off, struct leaf *ret);
/* Reads. Where element i begins (i == count: the end). */
int leaf_seek(const struct leaf *f, uint64_t i, unsigned *ret);
/* Reads. The element that begins, or ends, there. */
int leaf_item(const struct shm *s, const struct leaf *f, unsigned pos, struct item *ret);
int leaf_item_before(const struct shm *s, const struct leaf *f, unsigned pos, struct item *ret);

/* A leaf with one element, with room for more towards that end. */
int leaf_first(struct edit *e, bool left, unsigned cap, uint64_t *ret_off);
/* Adds e->ins at an end. LEAF_FULL: no room there; LEAF_VACATED: there is, but it was in use when the operation began (a
 * `fresh` leaf was made since). */
enum { LEAF_FULL = 1, LEAF_VACATED };
int leaf_push(struct edit *e, struct leaf *f, bool left, bool fresh);
/* A copy with more room towards that end, which takes its place. */
int leaf_widen(struct edit *e, const struct leaf *f, bool left, unsigned cap, uint64_t *ret_off);
/* Takes the element at an end off. The leaf may be empty afterwards. */
int leaf_pop(struct edit *e, struct leaf *f, bool left, struct item *ret);
/* Elements [i, i + n) give way to e->ins, or to nothing. */
int leaf_edit(struct edit *e, const struct leaf *f, uint64_t i, uint64_t n, struct branches *ret);
/* Makes one of two neighbours when both are rather empty: 1, in *a. */
int leaf_merge(struct edit *e, struct branch *a, const struct branch *b);
/* Frees the blocks of elements at its end, at most `max`; 1: there are more. */
int leaf_strip(struct edit *e, struct leaf *f, int max);

/* ---- the tree ---- */

/* Reads. The leaf of element i of the tree, and where in it. */
int tree_find(const struct shm *s, const struct shm_list *l, uint64_t i, struct leaf *ret,
              uint64_t *ret_in);
/* Elements [i, i + n) of the tree give way to e->ins, or to nothing. */
int tree_edit(struct edit *e, uint64_t i, uint64_t n);
/* Adds a leaf at an end of the tree, takes one away. */
int tree_push(struct edit *e, bool left, const struct branch *leaf);
int tree_take(struct edit *e, bool left, uint64_t *ret_off);
/* The whole tree is cut off, to be freed later. */
int tree_drop(struct edit *e);
/* Hangs a leaf (level 0) or node to the list's dead. */
int tree_bury(struct edit *e, uint64_t off, unsigned level);
/* Frees a piece of the list's dead; 1: there are more. */
int tree_free_dead(struct edit *e, int budget);

/* Reads. Visits all leaves in order, or in the opposite one, but not the first `skip` elements. */
struct walk_leaves {
    const struct shm *s;
    bool down;
    int (*leaf)(struct walk_leaves *w, const struct leaf *f, uint64_t skip);
    int (*node)(struct walk_leaves *w, uint64_t off, uint64_t bytes); /* or NULL */
    uint64_t left; /* leaves and nodes it may look at: hostile trees end */
};
int tree_walk(struct walk_leaves *w, uint64_t off, unsigned level, uint64_t skip);
