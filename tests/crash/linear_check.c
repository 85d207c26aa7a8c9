/* SPDX-License-Identifier: MIT */
/* The decision procedure: J. Wing and C. Gong, "Testing and verifying concurrent objects" (1993), in the just-in-time form of
 * G. Lowe, "Testing for linearizability" (2017): events are met in order of time, and a set of configurations is kept, each
 * the state of the object and which of the calls in hand have already had their effect. At a response, every configuration in
 * which that call has not had it is extended by calls in hand until it has; those that give another result than was recorded
 * die. No configuration left: not linearizable. Configurations are kept once (the memoisation), so what it costs grows
 * with the calls in hand at a time, not with the length of the history.
 *
 * Each object is checked by itself, which suffices: linearizability is local (M. Herlihy, J. Wing 1990).
 *
 * A process that dies in a call leaves one without a result. Since its grave-digger rolls back or keeps what it did, the call may
 * have its effect up to its burial and not later; that is strict linearizability (M. Aguilera, S. Frolund 2003). At the
 * burial, configurations with the effect and without it both live on.
 *
 * Fails: -ENOMEM, -EINVAL. */
#include "tests/crash/linear_check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"

const char *const linear_names[LINEAR_KINDS] = {
    "get",        "set",      "add",       "swap",   "push left",
    "push right", "pop left", "pop right", "length", "first",
};

#define IMPOSSIBLE (INT64_MIN + 1) /* nobody records this result */

struct state {
    uint32_t done; /* calls in hand that have had their effect, a bit per process */
    uint32_t n;
    int64_t at[LINEAR_LIST]; /* zero from n on */
};

/* ---- what the calls mean ---- */

static int64_t value_of(const struct state *s) {
    return s->n ? s->at[0] : LINEAR_NONE;
}

static void become(struct state *s, int64_t v) {
    s->n = v != LINEAR_NONE;
    s->at[0] = s->n ? v : 0;
}

static int64_t push(struct state *s, bool left, int64_t v) {
    if (s->n == LINEAR_LIST) {
        return IMPOSSIBLE;
    }
    if (left) {
        memmove(&s->at[1], &s->at[0], s->n * sizeof(s->at[0]));
    }
    s->at[left ? 0 : s->n] = v;
    return ++s->n;
}

static int64_t pop(struct state *s, bool left) {
    if (!s->n) {
        return LINEAR_NONE;
    }
    int64_t v = s->at[left ? 0 : s->n - 1];
    s->n--;
    if (left) {
        memmove(&s->at[0], &s->at[1], s->n * sizeof(s->at[0]));
    }
    s->at[s->n] = 0;
    return v;
}

/* Changes the state as the call does: its result. */
static int64_t apply(struct state *s, const struct linear_call *c) {
    bool same = value_of(s) == c->a;
    switch ((enum linear_kind)c->kind) {
    case LINEAR_GET:
    case LINEAR_FIRST:
        return value_of(s);
    case LINEAR_SET:
        become(s, c->a);
        return 0;
    case LINEAR_ADD:
        become(s, (s->n ? s->at[0] : 0) + c->a);
        return s->at[0];
    case LINEAR_SWAP:
        if (same) {
            become(s, c->b);
        }
        return same;
    case LINEAR_PUSH_LEFT:
    case LINEAR_PUSH_RIGHT:
        return push(s, c->kind == LINEAR_PUSH_LEFT, c->a);
    case LINEAR_POP_LEFT:
    case LINEAR_POP_RIGHT:
        return pop(s, c->kind == LINEAR_POP_LEFT);
    case LINEAR_LENGTH:
        return s->n;
    case LINEAR_KINDS:
        break;
    }
    return IMPOSSIBLE;
}

/* ---- a set of configurations ---- */

struct set {
    struct state *v;
    size_t n, cap;
    uint32_t *table; /* index + 1; 2 * cap places, a power of two */
};

static void set_deinit(struct set *s) {
    free(s->v);
    free(s->table);
}

static void set_clear(struct set *s) {
    s->n = 0;
    if (s->table) {
        memset(s->table, 0, s->cap * 2 * sizeof(*s->table));
    }
}

static size_t hash_of(const struct state *s) {
    uint64_t h = s->done * UINT64_C(0x9e3779b97f4a7c15) + s->n;
    for (uint32_t i = 0; i < s->n; i++) {
        h = (h ^ (uint64_t)s->at[i]) * UINT64_C(0xff51afd7ed558ccd);
        h ^= h >> 32;
    }
    return (size_t)h;
}

static bool same_state(const struct state *a, const struct state *b) {
    return a->done == b->done && a->n == b->n && memcmp(a->at, b->at, a->n * sizeof(a->at[0])) == 0;
}

static uint32_t *place(struct set *s, const struct state *what) {
    size_t i = hash_of(what) & (s->cap * 2 - 1);
    while (s->table[i] && !same_state(&s->v[s->table[i] - 1], what)) {
        i = (i + 1) & (s->cap * 2 - 1);
    }
    return &s->table[i];
}

static int set_grow(struct set *s) {
    size_t cap = s->cap ? s->cap * 2 : 64;
    struct state *v = realloc(s->v, cap * sizeof(*v));
    if (!v) {
        return -ENOMEM;
    }
    s->v = v;
    uint32_t *table = calloc(cap * 2, sizeof(*table));
    if (!table) {
        return -ENOMEM;
    }
    free(s->table);
    s->table = table;
    s->cap = cap;
    for (size_t i = 0; i < s->n; i++) {
        *place(s, &s->v[i]) = (uint32_t)i + 1;
    }
    return 0;
}

static int set_add(struct set *s, const struct state *what) {
    if (s->n == s->cap && set_grow(s)) {
        return -ENOMEM;
    }
    uint32_t *at = place(s, what);
    if (!*at) {
        s->v[s->n++] = *what;
        *at = (uint32_t)s->n;
    }
    return 0;
}

/* ---- events in order ---- */

struct event {
    uint64_t at;
    struct linear_call *call;
    bool response;
};

struct checker {
    const struct linear_call *in_hand[LINEAR_PROCESSES];
    struct set now, seen, next;
};

/* Extends the configurations of `now` by calls in hand until the one of process p has had its effect: `next`, in which the bit
 * of p is free again. */
static int respond(struct checker *k, const struct linear_call *c) {
    uint32_t bit = UINT32_C(1) << c->process;
    set_clear(&k->next);
    /* `seen` grows while it is walked */
    set_clear(&k->seen);
    for (size_t i = 0; i < k->now.n; i++) {
        if (set_add(&k->seen, &k->now.v[i])) {
            return -ENOMEM;
        }
    }
    for (size_t i = 0; i < k->seen.n; i++) {
        struct state s = k->seen.v[i];
        bool done = s.done & bit;
        if (done || c->unknown) {
            struct state free_again = s;
            free_again.done &= ~bit;
            if (set_add(&k->next, &free_again)) {
                return -ENOMEM;
            }
        }
        if (done) {
            continue;
        }
        for (int p = 0; p < LINEAR_PROCESSES; p++) {
            const struct linear_call *q = k->in_hand[p];
            struct state then = s;
            if (!q || s.done >> p & 1) {
                continue;
            }
            int64_t r = apply(&then, q);
            then.done |= UINT32_C(1) << p;
            if ((q->unknown || r == q->result) && r != IMPOSSIBLE && set_add(&k->seen, &then)) {
                return -ENOMEM;
            }
        }
    }
    struct set swap = k->now;
    k->now = k->next;
    k->next = swap;
    return 0;
}

static int by_time(const void *a, const void *b) {
    const struct event *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

static int by_invocation(const void *a, const void *b) {
    const struct linear_call *x = a, *y = b;
    return (x->invoked > y->invoked) - (x->invoked < y->invoked);
}

static int walk(struct checker *k, const struct event *events, size_t n,
                struct linear_call **ret_bad) {
    const struct state empty = {0};
    int r = set_add(&k->now, &empty);
    for (size_t i = 0; r == 0 && i < n; i++) {
        struct linear_call *c = events[i].call;
        const struct linear_call **hand = &k->in_hand[c->process];
        if (!events[i].response) {
            if (*hand || c->responded <= c->invoked) {
                return -EINVAL;
            }
            *hand = c;
            continue;
        }
        r = respond(k, c);
        *hand = NULL;
        if (r == 0 && k->now.n == 0) {
            *ret_bad = c;
            return 0;
        }
    }
    return r ? r : 1;
}

int linear_check(struct linear_call *calls, size_t n, size_t *ret_bad) {
    struct checker k = {0};
    _cleanup_free_ struct event *events = calloc(2 * n + 1, sizeof(*events));
    struct linear_call *bad = NULL;
    if (!events) {
        return -ENOMEM;
    }
    qsort(calls, n, sizeof(*calls), by_invocation);
    for (size_t i = 0; i < n; i++) {
        if (calls[i].process >= LINEAR_PROCESSES) {
            return -EINVAL;
        }
        events[2 * i] = (struct event){calls[i].invoked, &calls[i], false};
        events[2 * i + 1] = (struct event){calls[i].responded, &calls[i], true};
    }
    qsort(events, 2 * n, sizeof(*events), by_time);
    int r = walk(&k, events, 2 * n, &bad);
    if (r == 0) {
        *ret_bad = (size_t)(bad - calls);
    }
    set_deinit(&k.now);
    set_deinit(&k.seen);
    set_deinit(&k.next);
    return r;
}
