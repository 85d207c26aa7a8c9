/* SPDX-License-Identifier: MIT */
/* Plans, and the clock. A task has a plan when it is to wait for something, or may have to: the plan
 * says where it is (the picture is in private.h) and when something is to happen to it. What was
 * asked for lies in the segment behind its input, and its priority in its record, so a plan holds
 * only what is needed at any time.
 *
 * One heap holds all times. An entry counts as long as the plan still says the same, so nothing has
 * to be taken out when plans change. One timer serves the first of them.
 *
 * Invariants: a plan that is DELAYED or DUE belongs to a record that is WAITING; `n` of a lane counts
 * its plans by place.
 *
 * Fails: -ENOMEM from opening and preparing; a plan that has been made has its room in the heaps. */
#include "daemon/schedule.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "daemon/schedule/private.h"
#include "daemon/tasks.h"
#include "lib/base/clock.h"

enum { TURN_TIMES = 4096 }; /* of one turn */

/* ---- plans ---- */

static struct lane *lane_of(struct schedule *s, const struct plan *p) {
    return &s->lanes[p->pool];
}

static bool is_live(unsigned place) {
    return place != NOWHERE && place != ENDED;
}

void plan_move(struct schedule *s, uint32_t idx, enum place to) {
    struct plan *p = &s->plans[idx];
    struct lane *l = lane_of(s, p);
    assert(p->place == NOWHERE || l->n[p->place] > 0);
    l->n[p->place] -= p->place != NOWHERE;
    l->n[to] += to != NOWHERE;
    s->live -= is_live(p->place);
    s->live += is_live(to);
    if (p->flow) {
        p->flow->n_due += (to == DUE) - (p->place == DUE);
        p->flow->plans += is_live(to) - is_live(p->place);
    }
    p->place = (uint8_t)to;
}

/* Room for one plan more. */
static int room(struct schedule *s, uint32_t pool, uint32_t uid) {
    struct lane *l = &s->lanes[pool];
    uint32_t live = 1;
    if (s->d->pools[pool].config->fair) {
        struct flow *f = flow_of(s, &s->d->pools[pool], uid);
        int r = f ? heap_room(&f->due, f->plans + 1) : -ENOMEM;
        return r < 0 ? r : heap_room(&s->times, TIMES * ((size_t)s->live + 1));
    }
    for (uint32_t i = NOWHERE + 1; i < PLACES; i++) {
        live += i != ENDED ? l->n[i] : 0;
    }
    int r = heap_room(&l->due, live);
    return r < 0 ? r : heap_room(&s->times, TIMES * ((size_t)s->live + 1));
}

int64_t plan_key(const struct pool *p, uint64_t from_ns, uint32_t priority) {
    int64_t levels = (int64_t)priority - (int64_t)p->config->priority;
    return (int64_t)from_ns - levels * (int64_t)(p->config->ageing_ms * NS_PER_MS);
}

/* A new plan, READY until something else is decided. */
static struct plan *plan_new(struct schedule *s, uint32_t idx, uint64_t id, uint32_t pool,
                             uint32_t uid) {
    struct plan *p = &s->plans[idx];
    assert(idx < s->n && p->place == NOWHERE && pool < s->d->n_pools);
    *p = (struct plan){.id = id, .pool = (uint8_t)pool};
    p->flow = s->d->pools[pool].config->fair ? flow_of(s, &s->d->pools[pool], uid) : NULL;
    plan_move(s, idx, READY);
    return p;
}

bool plan_make(struct schedule *s, uint32_t idx, const struct task_view *v) {
    if (s->plans[idx].place == NOWHERE) {
        if (room(s, v->pool, v->uid) < 0) {
            return false;
        }
        struct plan *p = plan_new(s, idx, v->id, v->pool, v->uid);
        p->key = plan_key(&s->d->pools[v->pool], v->submitted_ns, v->priority);
    }
    return true;
}

static bool time_is_live(void *arg, const struct heap_entry *e) {
    const struct schedule *s = arg;
    const struct plan *p = &s->plans[e->idx];
    if (p->id != e->id || !is_live(p->place)) {
        return false;
    }
    switch (e->what) {
    case TIME_DUE:
        return (p->place == DELAYED || p->place == STUCK) && p->due_ns == (uint64_t)e->key;
    case TIME_EXPIRE:
        return p->expire_ns == (uint64_t)e->key;
    default:
        return p->deadline_ns == (uint64_t)e->key;
    }
}

void time_push(struct schedule *s, uint32_t idx, uint32_t what, uint64_t at_ns) {
    const struct heap_entry e = {
        .key = (int64_t)at_ns, .id = s->plans[idx].id, .idx = idx, .what = what};
    heap_push(&s->times, &e);
}

void plan_wait(struct schedule *s, uint32_t idx, uint64_t at_ns) {
    struct plan *p = &s->plans[idx];
    p->due_ns = at_ns;
    if (at_ns > clock_now()) {
        plan_move(s, idx, DELAYED);
        time_push(s, idx, TIME_DUE, at_ns);
    } else if (after_is_over(s, idx)) {
        lane_push(s, idx);
    }
}

/* ---- submitting ---- */

static uint64_t expiry(const struct pool *p, const struct policy *policy, uint64_t now) {
    if (policy && policy_has(policy, POLICY_EXPIRE)) {
        return policy->expire_ns;
    }
    return p->config->expire_ms ? now + p->config->expire_ms * NS_PER_MS : 0;
}

int schedule_prepare(struct hearthd *d, const struct pool *p, const struct policy *policy,
                     struct task_spec *spec, uint8_t block[POLICY_BLOCK_MAX]) {
    struct schedule *s = d->schedule;
    bool in_turn = spec->priority == p->config->priority && !p->config->fair;
    if (in_turn && (!policy || !policy->set) && p->config->expire_ms == 0) {
        return 0;
    }
    if (policy) {
        spec->policy = (struct task_bytes){block, policy_put(policy, block)};
    }
    spec->hold =
        !in_turn ||
        (policy && (policy->due_ns > clock_now() || policy_has(policy, POLICY_LIMIT_KEY) ||
                    policy_has(policy, POLICY_AFTER) || policy_has(policy, POLICY_AFTER_GROUP)));
    return room(s, p->index, spec->uid) < 0 ? -ENOMEM : 1;
}

/* The newest has the key: a former holder that is known still, and had it taken away, may have it in its record. */
static int hold_unique(struct schedule *s, uint32_t idx, const struct pool *p,
                       const struct policy *policy) {
    struct plan *plan = &s->plans[idx];
    struct name *n = names_find(&s->names, NAME_UNIQUE, p->index, &policy->unique_key);
    if (n) {
        schedule_drop_unique(s->d, n->idx);
    }
    n = names_hold(&s->names, NAME_UNIQUE, p->index, &policy->unique_key);
    if (!n) {
        return -ENOMEM;
    }
    n->idx = idx;
    plan->unique = n;
    plan->keeps = policy_has(policy, POLICY_UNIQUE_KEEP);
    return 0;
}

/* over: it waits for nobody any more. */
static int join_all(struct schedule *s, uint32_t idx, const struct pool *p,
                    const struct policy *policy, bool over) {
    struct plan *plan = &s->plans[idx];
    if (plan->expire_ns) {
        time_push(s, idx, TIME_EXPIRE, plan->expire_ns);
    }
    if (plan->deadline_ns) {
        time_push(s, idx, TIME_DEADLINE, plan->deadline_ns);
    }
    int r = gate_join(s, idx, policy);
    if (r == 0 && policy && policy_has(policy, POLICY_UNIQUE)) {
        r = hold_unique(s, idx, p, policy);
    }
    return r || over ? r : after_join(s, idx, policy);
}

int schedule_add(struct hearthd *d, const struct pool *p, const struct policy *policy,
                 const struct task_spec *spec, const struct task_ref *ref) {
    struct schedule *s = d->schedule;
    uint64_t now = clock_now();
    uint64_t due = policy && policy->due_ns > now ? policy->due_ns : now;
    struct plan *plan = plan_new(s, ref->idx, ref->id, p->index, spec->uid);
    plan->key = plan_key(p, due, spec->priority);
    plan->expire_ns = expiry(p, policy, now);
    plan->deadline_ns = policy ? policy->deadline_ns : 0;
    int r = join_all(s, ref->idx, p, policy, false);
    if (plan->after) {
        /* nothing ends from within a submission: so it is looked at in the next turn */
        plan->due_ns = due;
        plan_move(s, ref->idx, DELAYED);
        time_push(s, ref->idx, TIME_DUE, due);
    } else if (spec->hold) {
        plan_wait(s, ref->idx, due);
    }
    return r;
}

/* What the front ring held, and what was not in its turn, goes through our hands again. */
static bool take_back(struct hearthd *d, const struct pool *p, uint32_t idx,
                      const struct task_view *v, const struct policy *policy) {
    bool own_turn = v->priority != p->config->priority || p->config->fair ||
                    policy_has(policy, POLICY_LIMIT_KEY) || policy_has(policy, POLICY_AFTER) ||
                    policy_has(policy, POLICY_AFTER_GROUP);
    return v->state == TASK_QUEUED && own_turn && task_recall(&d->shm, idx, v->id) == 0;
}

int schedule_adopt(struct hearthd *d, uint32_t idx, const struct task_view *v) {
    struct schedule *s = d->schedule;
    const struct pool *p = &d->pools[v->pool];
    struct policy policy;
    policy_get(&v->policy, p->config, &policy);
    bool held = v->state == TASK_WAITING || take_back(d, p, idx, v, &policy);
    if (!held && !policy.set && p->config->expire_ms == 0 && v->attempt == 0) {
        return 0;
    }
    if (room(s, p->index, v->uid) < 0) {
        return -ENOMEM;
    }
    struct plan *plan = plan_new(s, idx, v->id, p->index, v->uid);
    uint64_t due = policy.due_ns > v->submitted_ns ? policy.due_ns : v->submitted_ns;
    plan->key = plan_key(p, due, v->priority);
    plan->expire_ns = v->attempt ? 0 : expiry(p, &policy, v->submitted_ns);
    plan->deadline_ns = policy.deadline_ns;
    bool runs = v->state == TASK_RUNNING; /* by a worker that was handed over */
    int r = join_all(s, idx, p, &policy, runs || task_state_is_terminal(v->state));
    if (runs) {
        gate_take(s, idx);
    }
    if (held) {
        /* in the next turn, when every other task is known, too */
        uint64_t now = clock_now();
        if (v->state == TASK_WAITING && v->attempt) {
            due = (v->ended_ns ? v->ended_ns : now) + retry_pause(s, &policy, v->attempt);
        }
        plan->due_ns = due > now ? due : now;
        plan_move(s, idx, DELAYED);
        time_push(s, idx, TIME_DUE, plan->due_ns);
    }
    return r < 0 ? r : 1;
}

void schedule_drop_unique(struct hearthd *d, uint32_t idx) {
    struct plan *p = &d->schedule->plans[idx];
    if (p->unique) {
        names_drop(&d->schedule->names, p->unique);
        p->unique = NULL;
    }
}

bool schedule_unique(const struct hearthd *d, const struct pool *p, const struct task_bytes *key,
                     uint32_t *ret_idx) {
    const struct name *n = names_find(&d->schedule->names, NAME_UNIQUE, p->index, key);
    if (n) {
        *ret_idx = n->idx;
    }
    return n != NULL;
}

int schedule_set_priority(struct hearthd *d, uint32_t idx, const struct task_view *v,
                          uint32_t priority) {
    struct schedule *s = d->schedule;
    if (v->pool >= d->n_pools) {
        return -EINVAL;
    }
    const struct pool *p = &d->pools[v->pool];
    if (!plan_make(s, idx, v)) {
        return -ENOMEM;
    }
    struct plan *plan = &s->plans[idx];
    int64_t key = plan->key - plan_key(p, 0, v->priority) + plan_key(p, 0, priority);
    task_set_priority(&d->shm, idx, v->id, priority);
    if (key == plan->key) {
        return 0;
    }
    plan->key = key;
    if ((plan->place == FED || plan->place == READY) && task_recall(&d->shm, idx, v->id) == 0) {
        lane_drop(s, idx);
        plan_move(s, idx, DUE);
        gate_leave(s, idx);
    }
    if (plan->place == DUE || (plan->place == BLOCKED && !plan->after)) {
        lane_push(s, idx);
    }
    return 0;
}

/* ---- ends ---- */

bool schedule_knows(const struct hearthd *d, uint32_t idx) {
    return d->schedule->plans[idx].place != NOWHERE;
}

void schedule_ended(struct hearthd *d, uint32_t idx) {
    struct schedule *s = d->schedule;
    if (!is_live(s->plans[idx].place)) {
        return;
    }
    lane_drop(s, idx);
    lane_of(s, &s->plans[idx])->dirty = true;
    plan_move(s, idx, ENDED);
    gate_part(s, idx);
}

void schedule_forget(struct hearthd *d, uint32_t idx) {
    struct schedule *s = d->schedule;
    struct plan *p = &s->plans[idx];
    if (p->place != NOWHERE) {
        schedule_ended(d, idx);
        plan_move(s, idx, NOWHERE);
        schedule_drop_unique(d, idx);
        free(p->history);
        *p = (struct plan){0};
    }
}

/* ---- the clock ---- */

static void has_come(struct schedule *s, const struct heap_entry *e) {
    struct plan *p = &s->plans[e->idx];
    switch (e->what) {
    case TIME_DUE:
        p->due_ns = 0;
        if (p->place == STUCK) {
            tasks_ended(s->d, e->idx); /* which tries again */
        } else if (after_is_over(s, e->idx)) {
            lane_push(s, e->idx);
        }
        break;
    case TIME_EXPIRE:
        p->expire_ns = 0;
        tasks_expire(s->d, e->idx);
        break;
    default:
        p->deadline_ns = 0;
        tasks_deadline(s->d, e->idx);
    }
}

static void timer_fired(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    ((struct schedule *)arg)->timer_at_ns = 0; /* the turn that follows does the work */
}

static void timer_plan(struct schedule *s, uint64_t now) {
    const struct heap_entry *e = heap_first(&s->times);
    if (!e || (s->timer_at_ns && s->timer_at_ns <= (uint64_t)e->key)) {
        return; /* one that is too early only costs a turn */
    }
    uint64_t at = (uint64_t)e->key, in_ns = at > now ? at - now : 0;
    in_ns += 999999; /* libevent counts in milliseconds and must not wake up just before the time */
    struct timeval tv = {.tv_sec = (time_t)(in_ns / NS_PER_SEC),
                         .tv_usec = (suseconds_t)(in_ns % NS_PER_SEC / 1000)};
    if (event_add(s->timer, &tv) == 0) {
        s->timer_at_ns = at;
    }
}

bool schedule_turn(struct hearthd *d) {
    struct schedule *s = d->schedule;
    uint64_t now = clock_now();
    int n = 0;
    for (; n < TURN_TIMES; n++) {
        const struct heap_entry *first = heap_first(&s->times);
        if (!first || first->key > (int64_t)now) {
            break;
        }
        struct heap_entry e = *first;
        heap_pop(&s->times);
        has_come(s, &e);
    }
    timer_plan(s, now);
    return n == TURN_TIMES;
}

void schedule_feed(struct hearthd *d) {
    for (uint32_t i = 0; i < d->n_pools; i++) {
        const struct lane *l = &d->schedule->lanes[i];
        if (l->n[DUE] > 0 || l->n_fed > 0 || l->dirty) {
            lane_feed(d->schedule, &d->pools[i]);
        }
    }
}

bool schedule_has_news(struct hearthd *d) {
    for (uint32_t i = 0; i < d->n_pools; i++) {
        const struct lane *l = &d->schedule->lanes[i];
        if (l->dirty || (l->n[DUE] > 0 && task_taken(&d->shm, i) != l->taken)) {
            return true;
        }
    }
    return false;
}

/* ---- looking ---- */

void schedule_look(struct hearthd *d, uint32_t idx, struct schedule_view *ret) {
    const struct plan *p = &d->schedule->plans[idx];
    *ret = (struct schedule_view){.why = ""};
    if (p->place == NOWHERE) {
        return;
    }
    bool failed = p->history != NULL;
    ret->why = p->place == DUE       ? "priority"
               : p->after            ? "after"
               : p->place == BLOCKED ? "limit"
               : p->place != DELAYED ? ""
               : failed              ? "retry"
                                     : "delay";
    ret->due_ns = p->place == DELAYED ? p->due_ns : 0;
    ret->expire_ns = p->expire_ns;
    ret->deadline_ns = p->deadline_ns;
    if (failed) {
        const struct history *h = p->history;
        ret->n_attempts = h->n < ATTEMPTS_KEPT ? h->n : ATTEMPTS_KEPT;
        for (uint32_t i = 0; i < ret->n_attempts; i++) {
            ret->attempts[i] = h->attempts[(h->n - ret->n_attempts + i) % ATTEMPTS_KEPT];
        }
    }
}

uint32_t schedule_delayed(const struct hearthd *d, const struct pool *p) {
    const struct lane *l = &d->schedule->lanes[p->index];
    return l->n[DELAYED] + l->n[STUCK];
}

uint32_t schedule_blocked(const struct hearthd *d, const struct pool *p) {
    return d->schedule->lanes[p->index].n[BLOCKED];
}

/* ---- opening ---- */

int schedule_open(struct hearthd *d, uint32_t tasks) {
    struct schedule *s = calloc(1, sizeof(*s));
    if (!s) {
        return -ENOMEM;
    }
    d->schedule = s;
    s->d = d;
    s->n = tasks;
    s->random = clock_now();
    heap_init(&s->times, time_is_live, s);
    s->plans = mmap(NULL, sizeof(struct plan) * tasks, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    s->plans = s->plans == MAP_FAILED ? NULL : s->plans;
    s->lanes = calloc(SHM_POOLS, sizeof(*s->lanes));
    s->timer = evtimer_new(d->base, timer_fired, s);
    if (!s->plans || !s->lanes || !s->timer) {
        schedule_close(d);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < SHM_POOLS; i++) {
        lane_open(s, i);
    }
    return 0;
}

void schedule_close(struct hearthd *d) {
    struct schedule *s = d->schedule;
    if (!s) {
        return;
    }
    for (uint32_t i = 0; s->lanes && i < SHM_POOLS; i++) {
        lane_close(&s->lanes[i]);
    }
    if (s->timer) {
        event_free(s->timer);
    }
    if (s->plans) {
        munmap(s->plans, sizeof(struct plan) * s->n);
    }
    heap_deinit(&s->times);
    names_deinit(&s->names);
    free(s->lanes);
    free(s);
    d->schedule = NULL;
}
