/* SPDX-License-Identifier: MIT */
/* The book of tasks. The truth about a task is its record in the segment; the book has one entry
 * per record, at the same index, in anonymous memory that costs nothing until it is touched. An
 * entry says whether the task is known here, who waits for its end, and when it may be forgotten.
 * Nothing is allocated per task (but the canceller's name).
 *
 *     UNKNOWN --submit--> LIVE --ended, delivered--> KEPT --fetched--> FETCHED
 *        ^                  |                          |                  | over FETCHED_MAX or
 *        |                  | abandoned                | result_keep over | FETCHED_SHARE, room is
 *        |                  v                          v                  v needed, result_keep over
 *        +--task_free()-- DOOMED <---------------------+------------------+
 *
 * A task whose retries are used up goes from LIVE to DEAD instead of KEPT: there it stays until it is
 * purged, or too many of its pool have come after it. One that has failed and is to be tried again
 * stays LIVE, and nobody hears of it (daemon/schedule.h).
 *
 * Every known entry is on the chain `all` (in order of submission) and on the chain of its state.
 * KEPT is in order of expiry, because result_keep is one constant; so one timer, for the heads,
 * serves all. DOOMED entries are those whose memory could not be given back yet: a worker held a
 * lock (tried again by the timer, never by spinning), or the result is being sent (pinned).
 *
 * An end is delivered once: the entry leaves LIVE first, and hints for entries that are not LIVE
 * are ignored.
 *
 * Fails: as tasks.h says. Asserts its own chains. Logs a record that does not make sense. */
#include "daemon/tasks.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "daemon/durable.h"
#include "daemon/events.h"
#include "daemon/groups.h"
#include "daemon/log.h"
#include "daemon/oom.h"
#include "daemon/schedule.h"
#include "daemon/slow.h"
#include "daemon/stream.h"
#include "daemon/tasks/private.h"
#include "daemon/timetable.h"
#include "daemon/users.h"
#include "lib/base/buf.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"

enum {
    TURN_ENDS = 4096,   /* ends taken in one turn */
    TURN_SWEEP = 65536, /* records looked at in one turn after hints were dropped */
    TURN_FORGET = 4096, /* entries forgotten or tried again in one turn */
    LOOK_QUEUED = 1024, /* tasks looked at for the oldest that waits */
    FETCHED_MAX = 1024, /* results that stay after they were fetched */
    FETCHED_SHARE = 16, /* ... as long as they hold less than this part of the segment */
    RETRY_MS = 2,       /* until memory that a lock kept from us is tried again */
};

/* ---- chains ---- */

static void chain_append(struct tasks *t, struct chain *c, int k, uint32_t idx) {
    struct entry *e = &t->book[idx];
    e->link[k].prev = c->last;
    e->link[k].next = 0;
    if (c->last) {
        t->book[c->last - 1].link[k].next = idx + 1;
    } else {
        c->first = idx + 1;
    }
    c->last = idx + 1;
    c->n++;
}

static void chain_remove(struct tasks *t, struct chain *c, int k, uint32_t idx) {
    struct entry *e = &t->book[idx];
    assert(c->n > 0);
    if (e->link[k].prev) {
        t->book[e->link[k].prev - 1].link[k].next = e->link[k].next;
    } else {
        assert(c->first == idx + 1);
        c->first = e->link[k].next;
    }
    if (e->link[k].next) {
        t->book[e->link[k].next - 1].link[k].prev = e->link[k].prev;
    } else {
        assert(c->last == idx + 1);
        c->last = e->link[k].prev;
    }
    c->n--;
}

static struct chain *chain_of(struct tasks *t, uint32_t idx) {
    switch (t->book[idx].where) {
    case LIVE:
        return &t->live[t->book[idx].pool];
    case KEPT:
        return &t->kept;
    case FETCHED:
        return &t->fetched;
    case DEAD:
        return &t->dead[t->book[idx].pool];
    case PINNED:
        return &t->pinned;
    case DOOMED:
        return &t->doomed;
    default:
        return NULL;
    }
}

static void count_for_user(struct tasks *t, uint32_t idx, int live, int kept) {
    const struct owner *o = &t->owners[idx];
    struct user *u = users_at(t->users, o->place);
    u->tasks += (uint32_t)live; /* -1, 0, 1; modulo 2^32 */
    u->results += (uint32_t)kept;
    u->task_bytes += (uint64_t)((int64_t)live * (int64_t)o->units * WEIGHT_UNIT);
}

/* The only place where an entry changes its state. */
void entry_move(struct tasks *t, uint32_t idx, enum where to) {
    struct entry *e = &t->book[idx];
    if (e->where != UNKNOWN) {
        chain_remove(t, chain_of(t, idx), STATE, idx);
        if (e->where == FETCHED) {
            t->fetched_weight -= e->weight;
        }
        if (e->where == KEPT) {
            t->kept_weight -= e->weight;
        }
    }
    if (entry_is_known(e->where) && !entry_is_known(to)) {
        chain_remove(t, &t->all, ALL, idx);
    } else if (!entry_is_known(e->where) && entry_is_known(to)) {
        chain_append(t, &t->all, ALL, idx);
    }
    count_for_user(t, idx, (int)(to == LIVE) - (int)(e->where == LIVE),
                   (int)(to == KEPT) - (int)(e->where == KEPT));
    e->where = to;
    if (to != UNKNOWN) {
        chain_append(t, chain_of(t, idx), STATE, idx);
        if (to == FETCHED) {
            t->fetched_weight += e->weight;
        }
        if (to == KEPT) {
            t->kept_weight += e->weight;
        }
    }
}

/* ---- forgetting ---- */

/* Gives a doomed task's record back, if nothing holds it. */
static void give_back(struct hearthd *d, uint32_t idx) {
    struct tasks *t = d->tasks;
    struct entry *e = &t->book[idx];
    assert(e->where == DOOMED && e->pins == 0);
    int r = task_free(&d->shm, idx, e->id);
    if (r == -EAGAIN) {
        return;
    }
    if (r < 0 && r != -ESTALE) {
        log_warn(LOG_ABOUT(.message = MESSAGE_SEGMENT_DAMAGED), "task record %u: %s", idx,
                 strerror(-r));
    }
    entry_move(t, idx, UNKNOWN);
    e->id = 0;
}

void entry_forget(struct hearthd *d, uint32_t idx) {
    struct entry *e = &d->tasks->book[idx];
    assert(entry_is_known(e->where) && e->where != LIVE);
    free(e->text);
    e->text = NULL;
    if (e->planned) {
        schedule_forget(d, idx);
        e->planned = 0;
    }
    if (e->durable) {
        durable_forget(d, idx, e->id);
    }
    if (e->pins > 0) {
        entry_move(d->tasks, idx, PINNED);
        return;
    }
    entry_move(d->tasks, idx, DOOMED);
    give_back(d, idx);
}

/* Those that are more than may be kept, the oldest first. */
void entries_drop_kept(struct hearthd *d) {
    struct tasks *t = d->tasks;
    const struct config *c = d->config;
    while (t->kept.first && ((c->result_max && t->kept.n > c->result_max) ||
                             (c->result_bytes && t->kept_weight * WEIGHT_UNIT > c->result_bytes))) {
        t->early[t->dropped++ % EARLY_NOTED] = t->book[t->kept.first - 1].id;
        entry_forget(d, t->kept.first - 1);
    }
}

bool tasks_was_dropped(const struct hearthd *d, const char *id, size_t len) {
    const struct tasks *t = d->tasks;
    uint64_t seq;
    uint32_t idx;
    if (task_id_parse(id, len, &seq, &idx) < 0) {
        return false;
    }
    for (uint64_t i = 0; i < t->dropped && i < EARLY_NOTED; i++) {
        if (t->early[i] == seq) {
            return true;
        }
    }
    return false;
}

/* Forgets the oldest fetched task; false when there is none. */
bool entries_forget_fetched(struct hearthd *d) {
    uint32_t first = d->tasks->fetched.first;
    if (!first) {
        return false;
    }
    entry_forget(d, first - 1);
    return true;
}

void tasks_pin(struct hearthd *d, uint32_t idx) {
    struct entry *e = &d->tasks->book[idx];
    assert(idx < d->tasks->n && entry_is_known(e->where) && e->where != LIVE &&
           e->pins < (1u << 30) - 1);
    e->pins++;
}

void tasks_unpin(struct hearthd *d, uint32_t idx) {
    struct entry *e = &d->tasks->book[idx];
    assert(idx < d->tasks->n && e->pins > 0);
    if (--e->pins == 0 && e->where == PINNED) {
        entry_move(d->tasks, idx, DOOMED);
        give_back(d, idx);
    }
}

void tasks_fetched(struct hearthd *d, uint32_t idx) {
    struct tasks *t = d->tasks;
    if (t->book[idx].where != KEPT) {
        return;
    }
    entry_move(t, idx, FETCHED);
    while (t->fetched.n > FETCHED_MAX || (t->fetched_weight > t->fetched_max && t->fetched.n > 1)) {
        entries_forget_fetched(d);
    }
}

static void forget_expired(struct hearthd *d, struct chain *c, uint32_t *budget) {
    struct tasks *t = d->tasks;
    while (*budget > 0 && c->first && t->book[c->first - 1].expires_ns <= t->now_ns) {
        entry_forget(d, c->first - 1);
        --*budget;
    }
}

/* Once around the doomed ones, or as far as the budget goes. */
static void retry_doomed(struct hearthd *d, uint32_t *budget) {
    struct tasks *t = d->tasks;
    for (uint32_t at = t->doomed.first; at && *budget > 0; --*budget) {
        uint32_t idx = at - 1;
        at = t->book[idx].link[STATE].next;
        give_back(d, idx);
    }
}

static void timer_fired(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    ((struct tasks *)arg)->timer_at_ns = 0; /* the turn that follows does the work */
}

static void timer_at(struct tasks *t, uint64_t at_ns) {
    if (t->timer_at_ns && t->timer_at_ns <= at_ns) {
        return;
    }
    uint64_t in_ns = at_ns > t->now_ns ? at_ns - t->now_ns : 0;
    in_ns += NS_PER_MS; /* libevent's clock is coarser than ours */
    struct timeval tv = {.tv_sec = (time_t)(in_ns / NS_PER_SEC),
                         .tv_usec = (suseconds_t)(in_ns % NS_PER_SEC / 1000)};
    if (event_add(t->timer, &tv) == 0) {
        t->timer_at_ns = at_ns;
    }
}

static void timer_plan(struct tasks *t) {
    if (t->kept.first) {
        timer_at(t, t->book[t->kept.first - 1].expires_ns);
    }
    if (t->fetched.first) {
        timer_at(t, t->book[t->fetched.first - 1].expires_ns);
    }
    if (t->doomed.first) {
        timer_at(t, t->now_ns + RETRY_MS * NS_PER_MS);
    }
}

/* ---- opening ---- */

int tasks_open(struct hearthd *d) {
    _cleanup_free_ struct tasks *t = calloc(1, sizeof(*t));
    if (!t) {
        return -ENOMEM;
    }
    struct shm_usage u;
    shm_usage(&d->shm, &u);
    t->n = u.tasks;
    t->sweep_from = t->n;
    t->fetched_max = d->shm.size / FETCHED_SHARE / WEIGHT_UNIT;
    t->now_ns = clock_now();
    t->book = mmap(NULL, sizeof(struct entry) * t->n, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (t->book == MAP_FAILED) {
        return -errno;
    }
    t->owners = mmap(NULL, sizeof(struct owner) * t->n, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    t->timer = evtimer_new(d->base, timer_fired, t);
    t->users = users_new();
    if (!t->timer || !t->users || t->owners == MAP_FAILED) {
        if (t->timer) {
            event_free(t->timer);
        }
        users_free(t->users);
        munmap(t->book, sizeof(struct entry) * t->n);
        return -ENOMEM;
    }
    d->users = t->users;
    t->oom = oom_new();
    d->tasks = steal_ptr(t);
    durable_on_change(d, DURABLE_TASKS, ends_saved);
    int r = schedule_open(d, u.tasks);
    r = r < 0 ? r : groups_open(d, u.tasks);
    r = r < 0 ? r : events_open(d);
    r = r < 0 ? r : timetable_open(d);
    r = r < 0 ? r : stream_open(d);
    if (r < 0) {
        tasks_close(d);
    }
    return r;
}

void tasks_close(struct hearthd *d) {
    struct tasks *t = d->tasks;
    if (!t) {
        return;
    }
    for (uint32_t at = t->all.first; at; at = t->book[at - 1].link[ALL].next) {
        free(t->book[at - 1].text);
        if (t->book[at - 1].planned) {
            schedule_forget(d, at - 1);
        }
    }
    stream_close(d);
    schedule_close(d);
    groups_close(d);
    timetable_close(d);
    events_close(d);
    slow_free(d);
    t->oom = oom_free(t->oom);
    buf_deinit(&t->saving);
    event_free(t->timer);
    munmap(t->book, sizeof(struct entry) * t->n);
    munmap(t->owners, sizeof(struct owner) * t->n);
    d->users = users_free(t->users);
    free(t);
    d->tasks = NULL;
}

/* ---- turning ---- */

/* Looks at every record for ends whose hints were dropped. True: not yet through. */
static bool sweep(struct hearthd *d) {
    struct tasks *t = d->tasks;
    uint32_t end = t->n - t->sweep_from > TURN_SWEEP ? t->sweep_from + TURN_SWEEP : t->n;
    uint32_t idx;
    while (task_sweep(&d->shm, t->sweep_from, end, &idx) == 0) {
        tasks_ended(d, idx);
        t->sweep_from = idx + 1;
    }
    t->sweep_from = end;
    return end < t->n;
}

bool tasks_turn(struct hearthd *d) {
    struct tasks *t = d->tasks;
    t->now_ns = clock_now();
    bool more = false;
    int n = 0;
    for (; n < TURN_ENDS; n++) {
        uint32_t idx;
        int r = task_next_ended(&d->shm, &idx);
        if (r == 0) {
            tasks_ended(d, idx);
        } else if (r == -EOVERFLOW) {
            t->sweep_from = 0;
            stream_look_all(d);
        } else {
            break;
        }
    }
    more = n == TURN_ENDS;
    if (t->sweep_from < t->n) {
        more |= sweep(d);
    }
    uint32_t budget = TURN_FORGET;
    forget_expired(d, &t->kept, &budget);
    forget_expired(d, &t->fetched, &budget);
    more |= budget == 0;
    retry_doomed(d, &budget);
    timer_plan(t);
    return more;
}

/* ---- looking ---- */

int tasks_find(struct hearthd *d, const char *id, size_t len, uint32_t *ret_idx) {
    struct tasks *t = d->tasks;
    uint64_t seq;
    uint32_t idx;
    if (task_id_parse(id, len, &seq, &idx) < 0 || idx >= t->n) {
        return -ENOENT;
    }
    const struct entry *e = &t->book[idx];
    if (e->id != seq || !entry_is_known(e->where) || e->orphaned) {
        return -ENOENT;
    }
    *ret_idx = idx;
    return 0;
}

bool tasks_is_ended(struct hearthd *d, uint32_t idx) {
    const struct entry *e = &d->tasks->book[idx];
    assert(idx < d->tasks->n && entry_is_known(e->where));
    return e->where != LIVE;
}

bool tasks_is_live(const struct hearthd *d, uint32_t idx, uint64_t id) {
    const struct tasks *t = d->tasks;
    return idx < t->n && t->book[idx].where == LIVE && t->book[idx].id == id;
}

bool tasks_is_durable(const struct hearthd *d, uint32_t idx) {
    return idx < d->tasks->n && d->tasks->book[idx].durable;
}

bool tasks_is_known(const struct hearthd *d, uint32_t idx, uint64_t id) {
    const struct tasks *t = d->tasks;
    return idx < t->n && entry_is_known(t->book[idx].where) && t->book[idx].id == id;
}

int tasks_view(struct hearthd *d, uint32_t idx, struct task_view *ret) {
    const struct entry *e = &d->tasks->book[idx];
    assert(idx < d->tasks->n && entry_is_known(e->where));
    int r = task_view(&d->shm, idx, ret);
    if (e->where != LIVE && (r < 0 || ret->id != e->id || !task_state_is_terminal(ret->state))) {
        *ret = entry_view_lost(e);
        return 0;
    }
    return r;
}

void tasks_each(struct hearthd *d, bool (*fn)(void *arg, uint32_t idx, const struct task_view *v),
                void *arg) {
    struct tasks *t = d->tasks;
    for (uint32_t at = t->all.last; at; at = t->book[at - 1].link[ALL].prev) {
        struct task_view v;
        if (t->book[at - 1].orphaned || task_view(&d->shm, at - 1, &v) < 0) {
            continue;
        }
        if (!fn(arg, at - 1, &v)) {
            return;
        }
    }
}

int tasks_set_priority(struct hearthd *d, uint32_t idx, uint32_t priority) {
    struct entry *e = &d->tasks->book[idx];
    struct task_view v;
    assert(idx < d->tasks->n);
    if (e->where != LIVE || task_view(&d->shm, idx, &v) < 0 || task_state_is_terminal(v.state)) {
        return -EALREADY;
    }
    int r = schedule_set_priority(d, idx, &v, priority);
    e->planned |= r == 0;
    return r;
}

uint32_t tasks_live(const struct hearthd *d, const struct pool *p) {
    return d->tasks->live[p->index].n;
}

uint64_t tasks_oldest_queued_ms(struct hearthd *d, const struct pool *p) {
    const struct tasks *t = d->tasks;
    uint64_t now = clock_now(), oldest = now, ready;
    if (task_ready_head(&d->shm, p->index, &ready) == 0) {
        oldest = ready;
    }
    int n = 0;
    for (uint32_t at = t->live[p->index].first; at && n < LOOK_QUEUED; n++) {
        uint32_t idx = at - 1;
        struct task_view v;
        struct schedule_view plan;
        at = t->book[idx].link[STATE].next;
        if (task_view(&d->shm, idx, &v) < 0 ||
            (v.state != TASK_QUEUED && v.state != TASK_WAITING)) {
            continue;
        }
        schedule_look(d, idx, &plan);
        if (plan.due_ns == 0) {
            oldest = v.submitted_ns < oldest ? v.submitted_ns : oldest;
            break; /* they are in order of submission */
        }
    }
    return oldest < now ? (now - oldest) / NS_PER_MS : 0;
}

void tasks_each_dead(struct hearthd *d, const struct pool *p,
                     bool (*fn)(void *arg, uint32_t idx, const struct task_view *v), void *arg) {
    struct tasks *t = d->tasks;
    uint32_t at = t->dead[p->index].last;
    while (at) {
        uint32_t idx = at - 1;
        struct task_view v;
        at = t->book[idx].link[STATE].prev;
        if (task_view(&d->shm, idx, &v) == 0 && !fn(arg, idx, &v)) {
            return;
        }
    }
}

bool tasks_is_dead_letter(struct hearthd *d, uint32_t idx) {
    return idx < d->tasks->n && d->tasks->book[idx].where == DEAD;
}

uint32_t tasks_dead(const struct hearthd *d, const struct pool *p) {
    return d->tasks->dead[p->index].n;
}

bool tasks_oldest_dead(const struct hearthd *d, const struct pool *p, uint32_t *ret_idx) {
    uint32_t first = d->tasks->dead[p->index].first;
    *ret_idx = first - 1;
    return first != 0;
}

void tasks_purge(struct hearthd *d, uint32_t idx) {
    if (tasks_is_dead_letter(d, idx)) {
        entry_forget(d, idx);
    }
}

void tasks_cause_text(struct hearthd *d, uint32_t idx, const struct task_view *v, char out[128]) {
    const struct tasks *t = d->tasks;
    const char *text = idx < t->n && t->book[idx].id == v->id ? t->book[idx].text : NULL;
    if (text && v->cause == CAUSE_CANCELLED) {
        snprintf(out, 128, "cancelled by %s", text);
    } else if (text && v->cause == CAUSE_NONE) {
        snprintf(out, 128, "%s", text);
    } else {
        char cause[96];
        task_cause_text(v, cause);
        snprintf(out, 128, "%s", cause);
    }
}

void tasks_stats(struct hearthd *d, struct tasks_stats *ret) {
    const struct tasks *t = d->tasks;
    *ret = (struct tasks_stats){.kept = t->kept.n, .fetched = t->fetched.n};
    ret->dead_dropped = t->dead_dropped;
    ret->kept_dropped = t->dropped;
    ret->kept_bytes = t->kept_weight * WEIGHT_UNIT;
    for (uint32_t i = 0; i < SHM_POOLS; i++) {
        ret->live += t->live[i].n;
        ret->dead += t->dead[i].n;
    }
    memcpy(ret->ended, t->ended, sizeof(ret->ended));
}
