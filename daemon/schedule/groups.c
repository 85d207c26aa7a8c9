/* SPDX-License-Identifier: MIT */
/* Groups. A group is made by its first task, and lives in the daemon's memory; which
 * group a task is in is also in its policy's block. Each record has a place in the list of its
 * group's live tasks, in memory that costs nothing until it is touched.
 *
 * Ends of tasks come in the middle of anything, so a group that has become complete is only noted
 * there and told in the turn, after all of its tasks' ends.
 *
 * A group in which nothing lives is forgotten result_keep after it became idle, complete or not, unless
 * somebody waits for it; since that is one constant they are in order of it. When there are
 * GROUPS_MAX, the first of these goes early.
 *
 * Fails: -ENOMEM from opening and joining. */
#include "daemon/groups.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "daemon/schedule/names.h"
#include "daemon/policy.h"
#include "daemon/tasks.h"
#include "lib/base/clock.h"
#include "lib/shm/adopt.h"

struct member {
    struct task_group *group; /* NULL: the record's task is in none, or has ended */
    uint32_t prev, next;      /* in its list: index + 1 */
};

struct groups {
    struct names names;
    struct member *members;
    uint32_t n; /* of these */
    struct list idle, news;
    void (*on_complete)(struct hearthd *d, const struct task_group *g);
};

int groups_open(struct hearthd *d, uint32_t tasks) {
    struct groups *s = calloc(1, sizeof(*s));
    if (!s) {
        return -ENOMEM;
    }
    s->n = tasks;
    s->members = mmap(NULL, sizeof(struct member) * tasks, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (s->members == MAP_FAILED) {
        free(s);
        return -ENOMEM;
    }
    list_init(&s->idle);
    list_init(&s->news);
    d->groups = s;
    return 0;
}

static void forget(struct groups *s, struct task_group *g) {
    assert(g->live == 0 && list_empty(&g->waiters));
    list_del(&g->order);
    list_del(&g->news);
    names_drop(&s->names, g->name);
    free(g);
}

void groups_close(struct hearthd *d) {
    struct groups *s = d->groups;
    if (!s) {
        return;
    }
    for (uint32_t i = 0; s->names.n > 0 && i < s->n; i++) {
        groups_leave(d, i);
    }
    while (!list_empty(&s->idle)) {
        forget(s, list_first(&s->idle, struct task_group, order));
    }
    names_deinit(&s->names);
    munmap(s->members, sizeof(struct member) * s->n);
    free(s);
    d->groups = NULL;
}

/* ---- names ---- */

struct task_bytes group_name(const struct task_group *g) {
    return (struct task_bytes){g->name->key, g->name->len};
}

bool group_name_ok(const struct task_bytes *name) {
    const char *text = name->data;
    for (size_t i = 0; i < name->len; i++) {
        if (text[i] <= ' ' || text[i] > '~' || text[i] == ',') {
            return false;
        }
    }
    return name->len > 0 && name->len <= GROUP_NAME_MAX;
}

static void forget_old(struct groups *s) {
    uint64_t now = clock_now();
    while (!list_empty(&s->idle)) {
        struct task_group *g = list_first(&s->idle, struct task_group, order);
        if (g->forget_ns > now && s->names.n < GROUPS_MAX) {
            break;
        }
        if (!list_empty(&g->news)) {
            break; /* its turn is not over */
        }
        if (list_empty(&g->waiters)) {
            forget(s, g);
        } else {
            list_del(&g->order);
            list_append(&s->idle, &g->order);
            g->forget_ns = now + NS_PER_SEC;
            break;
        }
    }
}

struct task_group *groups_find(struct hearthd *d, const struct task_bytes *name) {
    forget_old(d->groups);
    struct name *n = names_find(&d->groups->names, NAME_GROUP, 0, name);
    return n ? n->group : NULL;
}

int groups_may_join(struct hearthd *d, const struct task_bytes *name, uint32_t uid) {
    const struct task_group *g = groups_find(d, name);
    if (!g) {
        return d->groups->names.n < GROUPS_MAX ? 0 : -ENOSPC;
    }
    if (g->uid != uid && uid != UINT32_MAX) {
        return -EACCES;
    }
    return g->closed ? -EPIPE : 0;
}

/* ---- what becomes of one ---- */

static void set_idle(struct hearthd *d, struct task_group *g) {
    struct groups *s = d->groups;
    list_del(&g->order);
    list_append(&s->idle, &g->order);
    g->forget_ns = clock_now() + (uint64_t)d->config->result_keep_ms * NS_PER_MS;
    if (g->closed && g->ended_ms == 0) {
        g->ended_ms = clock_wall_ms();
        list_append(&s->news, &g->news);
    }
}

static struct task_group *find_or_make(struct hearthd *d, const struct task_bytes *name,
                                       uint32_t uid) {
    struct groups *s = d->groups;
    struct name *n = names_find(&s->names, NAME_GROUP, 0, name);
    if (n) {
        return n->group;
    }
    struct task_group *g = calloc(1, sizeof(*g));
    n = g ? names_hold(&s->names, NAME_GROUP, 0, name) : NULL;
    if (!n) {
        free(g);
        return NULL;
    }
    list_init(&g->order);
    list_init(&g->news);
    list_init(&g->waiters);
    g->name = n;
    g->uid = uid;
    g->created_ms = clock_wall_ms();
    n->group = g;
    return g;
}

int groups_join(struct hearthd *d, uint32_t idx, const struct task_bytes *name, uint32_t uid) {
    struct groups *s = d->groups;
    struct member *m = &s->members[idx];
    struct task_group *g = find_or_make(d, name, uid);
    if (!g) {
        return -ENOMEM;
    }
    if (g->closed) {
        return -EPIPE;
    }
    assert(idx < s->n && !m->group);
    *m = (struct member){.group = g, .next = g->first};
    if (g->first) {
        s->members[g->first - 1].prev = idx + 1;
    }
    g->first = idx + 1;
    g->total++;
    g->live++;
    list_del(&g->order);
    return 0;
}

static struct task_group *take_out(struct groups *s, uint32_t idx) {
    struct member *m = &s->members[idx];
    struct task_group *g = m->group;
    if (m->prev) {
        s->members[m->prev - 1].next = m->next;
    } else {
        g->first = m->next;
    }
    if (m->next) {
        s->members[m->next - 1].prev = m->prev;
    }
    *m = (struct member){0};
    g->live--;
    return g;
}

void groups_ended(struct hearthd *d, uint32_t idx, enum task_state state) {
    struct groups *s = d->groups;
    if (s->names.n == 0 || !s->members[idx].group) {
        return;
    }
    struct task_group *g = take_out(s, idx);
    g->ended[state]++;
    g->last = idx + 1;
    if (g->live == 0) {
        set_idle(d, g);
    }
}

void groups_leave(struct hearthd *d, uint32_t idx) {
    struct groups *s = d->groups;
    if (s->names.n == 0 || !s->members[idx].group) {
        return;
    }
    struct task_group *g = take_out(s, idx);
    g->total--;
    if (g->live == 0) {
        set_idle(d, g);
    }
}

/* Is there a task of the group in this record still? */
static bool is_of(struct hearthd *d, uint32_t idx, const struct task_group *g,
                  struct task_view *ret) {
    struct policy policy;
    if (task_view(&d->shm, idx, ret) < 0 || ret->pool >= d->n_pools) {
        return false;
    }
    policy_get(&ret->policy, d->pools[ret->pool].config, &policy);
    return policy_has(&policy, POLICY_GROUP) && policy.group.len == g->name->len &&
           memcmp(policy.group.data, g->name->key, g->name->len) == 0;
}

/* Its tasks' records know it, too, for a daemon that takes over: those that live, or the last one of those that are over. */
static void note_closed(struct hearthd *d, const struct task_group *g) {
    struct task_view v;
    for (uint32_t at = g->first; at; at = d->groups->members[at - 1].next) {
        if (task_view(&d->shm, at - 1, &v) == 0) {
            task_set_closed(&d->shm, at - 1, v.id);
        }
    }
    if (g->first == 0 && g->last && is_of(d, g->last - 1, g, &v)) {
        task_set_closed(&d->shm, g->last - 1, v.id);
    }
}

void groups_restore(struct hearthd *d, uint32_t idx) {
    struct task_view v;
    struct policy policy;
    if (task_view(&d->shm, idx, &v) < 0 || !task_is_closed(&d->shm, idx, v.id)) {
        return;
    }
    policy_get(&v.policy, d->pools[v.pool].config, &policy);
    struct task_group *g = policy_has(&policy, POLICY_GROUP) ? groups_find(d, &policy.group) : NULL;
    if (g && !g->closed) {
        g->closed = true;
        g->ended_ms = g->live == 0 ? clock_wall_ms() : 0;
    }
}

void group_close(struct hearthd *d, struct task_group *g) {
    if (!g->closed) {
        g->closed = true;
        note_closed(d, g);
        if (g->live == 0) {
            set_idle(d, g);
        }
    }
}

uint32_t group_cancel(struct hearthd *d, struct task_group *g, const char *who) {
    struct groups *s = d->groups;
    uint32_t told = 0;
    for (uint32_t at = g->first; at;) {
        uint32_t idx = at - 1;
        at = s->members[idx].next; /* one end makes no other task leave it */
        told += tasks_cancel(d, idx, who) == 0;
    }
    return told;
}

/* ---- telling ---- */

void group_wait(struct task_group *g, struct group_waiter *w) {
    list_append(&g->waiters, &w->node);
}

void group_unwait(struct group_waiter *w) {
    list_del(&w->node);
}

void groups_on_complete(struct hearthd *d,
                        void (*fn)(struct hearthd *d, const struct task_group *g)) {
    d->groups->on_complete = fn;
}

bool groups_turn(struct hearthd *d) {
    struct groups *s = d->groups;
    bool any = false;
    while (!list_empty(&s->news)) {
        struct task_group *g = list_first(&s->news, struct task_group, news);
        any = true;
        while (!list_empty(&g->waiters)) {
            struct group_waiter *w = list_first(&g->waiters, struct group_waiter, node);
            list_del(&w->node);
            w->ended(w, g);
        }
        if (s->on_complete) {
            s->on_complete(d, g);
        }
        list_del(&g->news);
    }
    forget_old(s);
    return any;
}
