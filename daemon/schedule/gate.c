/* SPDX-License-Identifier: MIT */
/* May a task whose turn it is be fed? Today: not while as many of its LIMIT key as it allows are fed
 * or running. Then it leaves the lane for the key's own heap, so that it is in nobody's way, and is
 * BLOCKED; whenever one of the key leaves, the first of that heap goes back to its lane and asks
 * again. So the limit is never exceeded, whatever dies: a place is held from before the task can be
 * claimed until its end, or its next pause, is known here.
 *
 * Another reason to wait is another test in gate_pass(), and somebody who calls lane_push() when it
 * is over.
 *
 * Fails: -ENOMEM from gate_join(). */
#include <errno.h>

#include "daemon/schedule/private.h"

static bool blocked_is_live(void *arg, const struct heap_entry *e) {
    const struct schedule *s = arg;
    const struct plan *p = &s->plans[e->idx];
    return p->id == e->id && p->place == BLOCKED && p->key == e->key;
}

int gate_join(struct schedule *s, uint32_t idx, const struct policy *policy) {
    struct plan *p = &s->plans[idx];
    if (!policy || !policy_has(policy, POLICY_LIMIT_KEY)) {
        return 0;
    }
    struct name *n = names_hold(&s->names, NAME_LIMIT, 0, &policy->limit_key);
    if (!n) {
        return -ENOMEM;
    }
    if (n->refs == 1) {
        heap_init(&n->waiting, blocked_is_live, s);
    }
    if (heap_room(&n->waiting, n->refs) < 0) {
        names_drop(&s->names, n);
        return -ENOMEM;
    }
    p->limit = n;
    p->limit_n = (uint32_t)policy->limit;
    return 0;
}

bool gate_pass(struct schedule *s, uint32_t idx) {
    struct plan *p = &s->plans[idx];
    struct name *n = p->limit;
    if (!n || p->holds) {
        return true;
    }
    if (n->held < p->limit_n) {
        n->held++;
        p->holds = true;
        return true;
    }
    plan_move(s, idx, BLOCKED);
    const struct heap_entry e = {.key = p->key, .id = p->id, .idx = idx};
    heap_push(&n->waiting, &e);
    return false;
}

void gate_take(struct schedule *s, uint32_t idx) {
    struct plan *p = &s->plans[idx];
    if (p->limit && !p->holds) {
        p->limit->held++;
        p->holds = true;
    }
}

void gate_leave(struct schedule *s, uint32_t idx) {
    struct plan *p = &s->plans[idx];
    struct name *n = p->limit;
    if (!n || !p->holds) {
        return;
    }
    n->held--;
    p->holds = false;
    const struct heap_entry *first = heap_first(&n->waiting);
    if (first) {
        uint32_t next = first->idx;
        heap_pop(&n->waiting);
        lane_push(s, next);
    }
}

void gate_part(struct schedule *s, uint32_t idx) {
    struct plan *p = &s->plans[idx];
    gate_leave(s, idx);
    if (p->limit) {
        names_drop(&s->names, p->limit);
        p->limit = NULL;
    }
    if (!p->keeps) {
        schedule_drop_unique(s->d, idx);
    }
    after_part(s, idx);
}
