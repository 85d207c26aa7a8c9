/* SPDX-License-Identifier: MIT */
/* Tasks that come after others. A dependent task waits for the ends of those it names with the same
 * waiters as a client does; once the last has ended, or one not as it should, it is looked at in the
 * schedule's next turn, never from within another's end: so a chain of any length ends without
 * recursion. What a dependency's retries do in between is no end, so it does not matter.
 *
 * Fails: -ENOMEM from after_join(). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/groups.h"
#include "daemon/schedule/private.h"
#include "daemon/tasks.h"
#include "lib/base/clock.h"

struct after_one {
    struct task_waiter waiter;
    struct after *after;
};

struct after {
    struct schedule *s;
    uint32_t idx;  /* who waits */
    uint32_t left; /* for so many */
    uint64_t mode; /* enum policy_after */
    bool bad;
    char why[48]; /* the one that did not end as it should */
    struct group_waiter group;
    uint32_t n;
    struct after_one ones[];
};

static void note_end(struct after *a, uint32_t idx, const struct task_view *v) {
    bool ok = v->state == TASK_DONE;
    a->left--;
    if ((a->mode == AFTER_OK && !ok) || (a->mode == AFTER_FAILED && ok)) {
        a->bad = true;
        task_id_text(a->why, v->id, idx);
    }
}

/* Looks at it in the next turn. */
static void look_soon(struct schedule *s, uint32_t idx) {
    s->plans[idx].due_ns = clock_now();
    plan_move(s, idx, DELAYED);
    time_push(s, idx, TIME_DUE, s->plans[idx].due_ns);
}

static void one_ended(struct task_waiter *w, uint32_t idx, const struct task_view *v) {
    struct after *a = container_of(w, struct after_one, waiter)->after;
    struct plan *p = &a->s->plans[a->idx];
    note_end(a, idx, v);
    if (a->bad || (a->left == 0 && p->place == BLOCKED)) {
        look_soon(a->s, a->idx);
    }
}

static void note_group(struct after *a, const struct task_group *g) {
    bool ok = g && g->ended[TASK_DONE] == g->total;
    a->left--;
    if ((a->mode == AFTER_OK && !ok) || (a->mode == AFTER_FAILED && ok)) {
        struct task_bytes name = g ? group_name(g) : (struct task_bytes){"", 0};
        a->bad = true;
        snprintf(a->why, sizeof(a->why), "group %.*s", (int)name.len, (const char *)name.data);
    }
}

static void group_ended(struct group_waiter *w, const struct task_group *g) {
    struct after *a = container_of(w, struct after, group);
    note_group(a, g);
    if (a->bad || (a->left == 0 && a->s->plans[a->idx].place == BLOCKED)) {
        look_soon(a->s, a->idx);
    }
}

static void join_group(struct after *a, const struct policy *policy) {
    struct task_group *g = groups_find(a->s->d, &policy->after_group);
    a->left++;
    if (!g || group_is_complete(g)) {
        note_group(a, g);
    } else {
        a->group.ended = group_ended;
        group_wait(g, &a->group);
    }
}

int after_join(struct schedule *s, uint32_t idx, const struct policy *policy) {
    if (!policy || (!policy_has(policy, POLICY_AFTER) && !policy_has(policy, POLICY_AFTER_GROUP))) {
        return 0;
    }
    uint32_t n = (uint32_t)(policy->after.len / sizeof(struct policy_after));
    struct after *a = calloc(1, sizeof(*a) + n * sizeof(a->ones[0]));
    if (!a) {
        return -ENOMEM;
    }
    a->s = s;
    a->idx = idx;
    a->n = a->left = n;
    a->mode = policy->after_mode;
    list_init(&a->group.node);
    if (policy_has(policy, POLICY_AFTER_GROUP)) {
        join_group(a, policy);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct policy_after on;
        struct task_view v;
        memcpy(&on, (const char *)policy->after.data + i * sizeof(on), sizeof(on));
        list_init(&a->ones[i].waiter.node);
        a->ones[i].waiter.ended = one_ended;
        a->ones[i].after = a;
        if (tasks_is_live(s->d, on.idx, on.id)) {
            tasks_wait(s->d, on.idx, &a->ones[i].waiter);
            continue;
        }
        if (task_view(&s->d->shm, on.idx, &v) < 0 || v.id != on.id) {
            v = (struct task_view){.id = on.id, .state = TASK_LOST}; /* nobody knows any more */
        }
        note_end(a, on.idx, &v);
    }
    s->plans[idx].after = a;
    return 0;
}

bool after_is_over(struct schedule *s, uint32_t idx) {
    struct after *a = s->plans[idx].after;
    if (a && a->bad) {
        char who[80];
        snprintf(who, sizeof(who), "%s, which it comes after", a->why);
        tasks_cancel(s->d, idx, who);
        return false;
    }
    if (a && a->left > 0) {
        plan_move(s, idx, BLOCKED);
        return false;
    }
    after_part(s, idx);
    return true;
}

void after_part(struct schedule *s, uint32_t idx) {
    struct after *a = s->plans[idx].after;
    for (uint32_t i = 0; a && i < a->n; i++) {
        tasks_unwait(&a->ones[i].waiter);
    }
    if (a) {
        group_unwait(&a->group);
    }
    free(a);
    s->plans[idx].after = NULL;
}
