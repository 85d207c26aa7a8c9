/* SPDX-License-Identifier: MIT */
/* Four children to a node: half as deep as with two, and the four lie in two cache lines. The keys
 * lie in the heap itself, so that sifting touches nothing else.
 *
 * Room is made for twice what can be live at a time, so that looking for the dead ones always frees as
 * much as it costs.
 *
 * Fails: -ENOMEM when it cannot grow; then nothing has changed. */
#include "daemon/schedule/heap.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum { CHILDREN = 4, FIRST = 64, FILTER_MIN = 1024 };

void heap_init(struct heap *h, bool (*is_live)(void *arg, const struct heap_entry *e), void *arg) {
    *h = (struct heap){.is_live = is_live, .arg = arg};
}

void heap_deinit(struct heap *h) {
    free(h->v);
    h->v = NULL;
    h->n = h->cap = 0;
}

static bool before(const struct heap_entry *a, const struct heap_entry *b) {
    return a->key != b->key ? a->key < b->key : a->id < b->id;
}

static void sift_up(struct heap *h, size_t at) {
    struct heap_entry e = h->v[at];
    while (at > 0) {
        size_t up = (at - 1) / CHILDREN;
        if (!before(&e, &h->v[up])) {
            break;
        }
        h->v[at] = h->v[up];
        at = up;
    }
    h->v[at] = e;
}

static void sift_down(struct heap *h, size_t at) {
    struct heap_entry e = h->v[at];
    for (;;) {
        size_t first = at * CHILDREN + 1, least = at;
        const struct heap_entry *best = &e;
        for (size_t i = first; i < first + CHILDREN && i < h->n; i++) {
            if (before(&h->v[i], best)) {
                best = &h->v[i];
                least = i;
            }
        }
        if (least == at) {
            break;
        }
        h->v[at] = *best;
        at = least;
    }
    h->v[at] = e;
}

static void set_filter(struct heap *h) {
    size_t at = h->n * 2 > FILTER_MIN ? h->n * 2 : FILTER_MIN;
    h->filter_at = at < h->cap ? at : h->cap;
}

/* Throws out what counts no more; each entry is looked at as often as the heap doubles. */
static void filter(struct heap *h) {
    size_t n = 0;
    for (size_t i = 0; i < h->n; i++) {
        if (h->is_live(h->arg, &h->v[i])) {
            h->v[n++] = h->v[i];
        }
    }
    h->n = n;
    for (size_t i = n / CHILDREN + 1; i-- > 0 && n > 1;) {
        sift_down(h, i);
    }
    set_filter(h);
}

int heap_room(struct heap *h, size_t n) {
    size_t cap = h->cap ? h->cap : FIRST;
    while (cap < n * 2) {
        cap *= 2;
    }
    if (cap == h->cap) {
        return 0;
    }
    struct heap_entry *v = realloc(h->v, cap * sizeof(*v));
    if (!v) {
        return -ENOMEM;
    }
    h->v = v;
    h->cap = cap;
    set_filter(h);
    return 0;
}

void heap_push(struct heap *h, const struct heap_entry *e) {
    if (h->n >= h->filter_at) {
        filter(h);
    }
    assert(h->n < h->cap);
    h->v[h->n++] = *e;
    sift_up(h, h->n - 1);
}

void heap_pop(struct heap *h) {
    assert(h->n > 0);
    h->v[0] = h->v[--h->n];
    if (h->n > 0) {
        sift_down(h, 0);
    }
}

const struct heap_entry *heap_first(struct heap *h) {
    while (h->n > 0 && !h->is_live(h->arg, &h->v[0])) {
        heap_pop(h);
    }
    return h->n > 0 ? &h->v[0] : NULL;
}
