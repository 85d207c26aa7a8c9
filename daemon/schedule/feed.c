/* SPDX-License-Identifier: MIT */
/* The order of a pool's tasks. Each has a key that never changes by itself: when it came, less what
 * its priority is worth in time (config key `ageing`, per level). So there is nothing to re-sort as
 * tasks age, and none starves: whoever comes later by more than the levels between them are worth
 * has the larger key. Plain tasks have the time of their submission as key and lie in the ready
 * ring, in order; all others lie in a heap.
 *
 * Workers look at the front ring first. It is fed a few at a time, as long as the first of the heap
 * comes before the head of the ready ring; the daemon hears of each claim meanwhile, and nobody takes from the
 * ready ring what comes after the first of the heap (task_refill).
 * When one that comes before what has been fed turns up, on the heap or in the ready ring, all that
 * is fed and not yet claimed is recalled and the front is fed anew. So the order is exact, but for
 * what a worker had already claimed.
 *
 * How many are fed: one for each worker, so that one who is through finds its next task without us;
 * twice as many each time all were gone when we came, half when half of them were still there.
 *
 * Fails: without memory for the list of the fed, nothing is fed until a later turn. */
#include <errno.h>
#include <stdlib.h>

#include "daemon/schedule/private.h"

enum { DEPTH_MAX = 64, FED_MAX = 1024, FED_FIRST = 16 };

static bool due_is_live(void *arg, const struct heap_entry *e) {
    const struct schedule *s = arg;
    const struct plan *p = &s->plans[e->idx];
    return p->id == e->id && p->place == DUE && p->key == e->key;
}

int lane_open(struct schedule *s, uint32_t pool) {
    struct lane *l = &s->lanes[pool];
    heap_init(&l->due, due_is_live, s);
    l->depth = 1;
    l->until = INT64_MAX;
    return 0;
}

void lane_close(struct lane *l) {
    heap_deinit(&l->due);
    flows_close(l);
    free(l->fed);
    l->fed = NULL;
}

static struct lane *lane_of(struct schedule *s, uint32_t idx) {
    return &s->lanes[s->plans[idx].pool];
}

void lane_push(struct schedule *s, uint32_t idx) {
    const struct plan *p = &s->plans[idx];
    const struct heap_entry e = {.key = p->key, .id = p->id, .idx = idx};
    struct lane *l = lane_of(s, idx);
    struct flow *f = p->flow;
    if (f && f->n_due == 0) {
        flow_begins(l, f);
    }
    plan_move(s, idx, DUE);
    heap_push(f ? &f->due : &l->due, &e);
    l->dirty = true;
}

void lane_drop(struct schedule *s, uint32_t idx) {
    struct lane *l = lane_of(s, idx);
    for (uint32_t i = 0; s->plans[idx].listed && i < l->n_fed; i++) {
        if (l->fed[i] == idx) {
            l->fed[i] = l->fed[--l->n_fed];
            s->plans[idx].listed = false;
        }
    }
}

static int fed_reserve(struct lane *l) {
    if (l->n_fed < l->cap_fed) {
        return 0;
    }
    uint32_t cap = l->cap_fed ? l->cap_fed * 2 : FED_FIRST;
    uint32_t *fed = realloc(l->fed, cap * sizeof(*fed));
    if (!fed) {
        return -ENOMEM;
    }
    l->fed = fed;
    l->cap_fed = cap;
    return 0;
}

/* Forgets what has been claimed. Claimed plans stay FED until they end: only their records know. */
static void settle_fed(struct schedule *s, struct lane *l) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->n_fed; i++) {
        uint32_t idx = l->fed[i];
        if (task_is_queued(&s->d->shm, idx, s->plans[idx].id)) {
            l->fed[n++] = idx;
        } else {
            s->plans[idx].listed = false;
        }
    }
    l->n_fed = n;
}

static void recall_all(struct schedule *s, struct lane *l, uint32_t pool) {
    for (uint32_t i = 0; i < l->n_fed; i++) {
        uint32_t idx = l->fed[i];
        s->plans[idx].listed = false;
        if (task_recall(&s->d->shm, idx, s->plans[idx].id) == 0) {
            lane_push(s, idx);
            gate_leave(s, idx);
        }
    }
    l->n_fed = 0;
    task_prune_front(&s->d->shm, pool);
}

/* The key of what a worker would take from the ready ring. */
static int64_t ready_key(struct schedule *s, uint32_t pool) {
    uint64_t submitted;
    return task_ready_head(&s->d->shm, pool, &submitted) == 0 ? (int64_t)submitted : INT64_MAX;
}

/* What is to be fed next, and the heap it is in; NULL: nothing. */
static const struct heap_entry *next_due(struct lane *l, struct flow **ret_flow) {
    *ret_flow = flow_next(l);
    return heap_first(*ret_flow ? &(*ret_flow)->due : &l->due);
}

/* As many as there should be on the front. */
static uint32_t wanted(struct lane *l, const struct pool *p, uint32_t before) {
    if (before > 0 && l->n_fed == 0) {
        l->depth = l->depth * 2 < DEPTH_MAX ? l->depth * 2 : DEPTH_MAX;
    } else if (l->n_fed > before / 2) {
        l->depth = l->depth > 1 ? l->depth / 2 : 1;
    }
    uint32_t n = l->depth * (p->n_workers ? p->n_workers : 1);
    return n < FED_MAX ? n : FED_MAX;
}

/* False: it cannot be fed now. */
static bool feed_one(struct schedule *s, struct pool *p, const struct heap_entry *e,
                     struct flow *f) {
    struct lane *l = &s->lanes[p->index];
    uint32_t idx = e->idx;
    int64_t key = e->key;
    if (fed_reserve(l) < 0) {
        return false;
    }
    if (!gate_pass(s, idx)) {
        return true; /* its entry counts no more */
    }
    int r = task_release(&s->d->shm, idx, e->id, true);
    if (r == -ENOBUFS) {
        task_prune_front(&s->d->shm, p->index);
        r = task_release(&s->d->shm, idx, e->id, true);
    }
    if (r == -ENOBUFS) {
        gate_leave(s, idx);
        return false;
    }
    heap_pop(f ? &f->due : &l->due);
    plan_move(s, idx, FED);
    if (f) {
        flow_served(l, f);
    }
    if (r == 0) {
        l->fed[l->n_fed++] = idx;
        s->plans[idx].listed = true;
        l->fed_last = l->n_fed == 1 || key > l->fed_last ? key : l->fed_last;
        p->wake++;
    }
    return true;
}

void schedule_hear(struct hearthd *d, const struct pool *p, bool on) {
    struct lane *l = &d->schedule->lanes[p->index];
    l->hear = on;
    task_refill(&d->shm, p->index, on || l->n[DUE] > 0, l->until);
}

void lane_feed(struct schedule *s, struct pool *p) {
    struct lane *l = &s->lanes[p->index];
    uint64_t taken = task_taken(&s->d->shm, p->index);
    if (taken == l->taken && !l->dirty && p->wake == 0) {
        return;
    }
    uint32_t before = l->n_fed;
    settle_fed(s, l);
    struct flow *flow;
    const struct heap_entry *first = next_due(l, &flow);
    int64_t ready = ready_key(s, p->index);
    uint32_t want = wanted(l, p, before);
    if (l->n_fed > 0 && !flow && (ready < l->fed_last || (first && first->key < l->fed_last))) {
        recall_all(s, l, p->index);
    }
    bool stuck = false;
    while (!stuck && l->n_fed < want && (first = next_due(l, &flow)) &&
           (flow || first->key <= ready)) {
        stuck = !feed_one(s, p, first, flow);
    }
    first = next_due(l, &flow);
    int64_t until = first && !flow && !stuck ? first->key : INT64_MAX;
    if (ready != INT64_MAX && ready >= l->until && ready < until) {
        p->wake = p->n_workers; /* who sleeps because the head was not to be had */
    }
    l->until = until;
    if (first || l->hear || task_refill_is_on(&s->d->shm, p->index)) {
        task_refill(&s->d->shm, p->index, first || l->hear, until);
    }
    l->taken = taken;
    l->dirty = false;
}
