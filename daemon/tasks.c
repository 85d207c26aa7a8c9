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
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "daemon/durable.h"
#include "daemon/events.h"
#include "daemon/groups.h"
#include "daemon/lease.h"
#include "daemon/log.h"
#include "daemon/oom.h"
#include "daemon/schedule.h"
#include "daemon/slow.h"
#include "daemon/users.h"
#include "daemon/timetable.h"
#include "daemon/stream.h"
#include "lib/base/buf.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/shm/adopt.h"
#include "lib/shm/alloc.h"
#include "lib/shm/slot.h"

enum {
    TURN_ENDS = 4096,   /* ends taken in one turn */
    TURN_SWEEP = 65536, /* records looked at in one turn after hints were dropped */
    TURN_FORGET = 4096, /* entries forgotten or tried again in one turn */
    LOOK_QUEUED = 1024, /* tasks looked at for the oldest that waits */
    FETCHED_MAX = 1024, /* results that stay after they were fetched */
    FETCHED_SHARE = 16, /* ... as long as they hold less than this part of the segment */
    EARLY_NOTED = 4096,
    WEIGHT_UNIT = 256,
    WEIGHT_MAX = (1 << 20) - 1,
    RETRY_MS = 2, /* until memory that a lock kept from us is tried again */
};

enum where { UNKNOWN, LIVE, KEPT, FETCHED, DEAD, PINNED, DOOMED };
enum { ALL, STATE, LINKS }; /* the two chains an entry is on */

struct entry {
    uint64_t id;
    struct list waiters;
    struct {
        uint32_t prev, next; /* index + 1; 0: none */
    } link[LINKS];
    uint64_t expires_ns;
    char *text; /* who cancelled it, or what else there is to say about its end */
    uint32_t pins : 30;
    uint32_t durable : 1; /* written down: daemon/durable.h */
    uint32_t saving : 1;  /* its end is being, and is told after that */
    uint32_t
        weight : 20; /* bytes it holds in the segment, in WEIGHT_UNITs; known once it has ended */
    uint32_t where : 3; /* enum where */
    uint32_t pool : 6;
    uint32_t planned : 1;   /* the schedule knows of it */
    uint32_t cancelled : 1; /* is not to be tried again */
    uint32_t orphaned : 1;  /* abandoned: its end goes to those who wait for it already, and to
                              nobody else */
};
_Static_assert(sizeof(struct entry) == 64, "one cache line per task");
_Static_assert(SHM_POOLS <= 64, "entry.pool");

/* Whom a task is counted for, and how many bytes of input, while it has not ended. Beside the book: an
 * entry is full. */
struct owner {
    uint32_t place : 12; /* in d->users */
    uint32_t units : 20; /* WEIGHT_UNITs */
};
_Static_assert(USERS_MAX == 1 << 12, "owner.place");

struct chain {
    uint32_t first, last; /* index + 1; 0: empty */
    uint32_t n;
};

/* An end that is being written down. */
struct saving {
    uint64_t batch, id;
    uint32_t idx;
    bool dead;
};

struct tasks {
    struct buf saving; /* struct saving, in order */
    struct entry *book;
    struct owner *owners; /* by record */
    struct users *users;
    uint32_t n; /* entries, one per record */
    struct chain all, kept, fetched, pinned, doomed;
    struct chain live[SHM_POOLS], dead[SHM_POOLS];
    uint64_t dead_dropped;
    uint64_t fetched_weight, fetched_max;
    uint64_t kept_weight;
    uint64_t dropped;            /* results that went before result_keep was over, ... */
    uint64_t early[EARLY_NOTED]; /* ... and the ids of the last ones */
    uint64_t now_ns;             /* as of this turn */
    uint32_t sweep_from;         /* n: no sweep under way */
    struct event *timer;
    uint64_t timer_at_ns; /* 0: not set */
    uint64_t ended[TASK_STATES];
    struct oom *oom;
    bool (*on_ended)(struct hearthd *d, uint32_t idx, const struct task_view *v);
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

/* Known to those who ask; else the entry is unused, or merely waits for its record to be given
 * back. */
static bool is_known(unsigned where) {
    return where == LIVE || where == KEPT || where == FETCHED || where == DEAD;
}

static void count_for_user(struct tasks *t, uint32_t idx, int live, int kept) {
    const struct owner *o = &t->owners[idx];
    struct user *u = users_at(t->users, o->place);
    u->tasks += (uint32_t)live; /* -1, 0, 1; modulo 2^32 */
    u->results += (uint32_t)kept;
    u->task_bytes += (uint64_t)((int64_t)live * (int64_t)o->units * WEIGHT_UNIT);
}

/* The only place where an entry changes its state. */
static void entry_move(struct tasks *t, uint32_t idx, enum where to) {
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
    if (is_known(e->where) && !is_known(to)) {
        chain_remove(t, &t->all, ALL, idx);
    } else if (!is_known(e->where) && is_known(to)) {
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

static int end_queued(struct hearthd *d, uint32_t idx, enum task_state state,
                      enum task_cause cause);
static uint64_t weight_of(const struct task_view *v, bool stream);
static void saved(struct hearthd *d, uint64_t done, const char *trouble);

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

static void forget(struct hearthd *d, uint32_t idx) {
    struct entry *e = &d->tasks->book[idx];
    assert(is_known(e->where) && e->where != LIVE);
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
static void drop_kept(struct hearthd *d) {
    struct tasks *t = d->tasks;
    const struct config *c = d->config;
    while (t->kept.first && ((c->result_max && t->kept.n > c->result_max) ||
                             (c->result_bytes && t->kept_weight * WEIGHT_UNIT > c->result_bytes))) {
        t->early[t->dropped++ % EARLY_NOTED] = t->book[t->kept.first - 1].id;
        forget(d, t->kept.first - 1);
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
static bool forget_fetched(struct hearthd *d) {
    uint32_t first = d->tasks->fetched.first;
    if (!first) {
        return false;
    }
    forget(d, first - 1);
    return true;
}

void tasks_pin(struct hearthd *d, uint32_t idx) {
    struct entry *e = &d->tasks->book[idx];
    assert(idx < d->tasks->n && is_known(e->where) && e->where != LIVE && e->pins < (1u << 30) - 1);
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
        forget_fetched(d);
    }
}

static void forget_expired(struct hearthd *d, struct chain *c, uint32_t *budget) {
    struct tasks *t = d->tasks;
    while (*budget > 0 && c->first && t->book[c->first - 1].expires_ns <= t->now_ns) {
        forget(d, c->first - 1);
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
    durable_on_change(d, DURABLE_TASKS, saved);
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

/* ---- submitting ---- */

/* As the workers count them when they claim: an argument has its length and a NUL with it. */
uint64_t tasks_bytes(const struct task_spec *spec) {
    uint64_t bytes = spec->payload.len;
    for (uint32_t i = 0; i < spec->nargs; i++) {
        bytes += sizeof(uint32_t) + spec->args[i].len + 1;
    }
    return bytes;
}

bool tasks_has_room(struct hearthd *d, struct pool *p, uint32_t n, uint64_t bytes) {
    uint64_t max = p->config->queue_max, max_bytes = p->config->queue_bytes;
    if (n > max || pool_queued(d, p, max - n + 1) + n > max) {
        return false;
    }
    return !max_bytes || (bytes <= max_bytes &&
                          pool_queued_bytes(d, p, max_bytes - bytes + 1) + bytes <= max_bytes);
}

bool tasks_could_have_room(const struct pool *p, uint32_t n, uint64_t bytes) {
    const struct pool_config *c = p->config;
    return n <= c->queue_max && (!c->queue_bytes || bytes <= c->queue_bytes);
}

/* As task_submit(); forgets fetched results, oldest first, while there is no room. The queue itself
 * has room: a ring that is full is full of what was cancelled while all workers were at work. */
static int submit_with_room(struct hearthd *d, struct pool *p, const struct task_spec *spec,
                            struct task_ref *ret) {
    bool pruned = false;
    for (;;) {
        int r = task_submit(&d->shm, spec, ret);
        if (r == -ENOBUFS && !pruned) {
            task_prune(&d->shm, p->index);
            p->wake = p->n_workers * p->config->threads;
            pruned = true;
        } else if (r != -ENOMEM || !forget_fetched(d)) {
            return r;
        }
    }
}

/* A record was taken for a new task while the book has another one in it: somebody has written over
 * its state. That one ends here; what is still being sent from the record stays pinned. */
static void supplant(struct hearthd *d, uint32_t idx) {
    const struct entry *e = &d->tasks->book[idx];
    if (e->where == LIVE) {
        tasks_damaged(d, idx);
    }
    if (is_known(e->where)) {
        forget(d, idx);
    }
}

/* It wants to be looked at: its worker must know of that before it can claim it. */
static void look_sooner(struct hearthd *d, struct pool *p, const struct policy *policy) {
    uint64_t ms = policy->memory ? LOOK_MEMORY_MS : policy->soft_ms;
    ms = policy->soft_ms && policy->soft_ms < ms ? policy->soft_ms : ms;
    if (ms && (p->look_ms == 0 || ms < p->look_ms)) {
        p->look_ms = (uint32_t)ms;
        task_look_after(&d->shm, p->index, pool_look_ms(p));
    }
}

int tasks_submit(struct hearthd *d, struct pool *p, const struct task_spec *spec,
                 const struct policy *policy, struct task_ref *ret) {
    struct tasks *t = d->tasks;
    struct task_spec planned;
    uint8_t block[POLICY_BLOCK_MAX];
    bool plan = !spec->hold && (spec->priority != p->config->priority || policy ||
                                p->config->expire_ms || p->config->fair);
    if (d->stopping) {
        return -ESHUTDOWN;
    }
    bool durable = p->config->durable || (policy && policy_has(policy, POLICY_DURABLE));
    uint64_t bytes = tasks_bytes(spec);
    int r = durable ? durable_may(d) : 0;
    r = r < 0 ? r : tasks_room(d, p, 1, bytes);
    if (r == 0 && plan) {
        planned = *spec;
        spec = &planned;
        r = schedule_prepare(d, p, policy, &planned, block);
        plan = r == 1;
    }
    if (r < 0) {
        return r;
    }
    if (policy) {
        look_sooner(d, p, policy);
    }
    struct task_ref ref;
    r = submit_with_room(d, p, spec, &ref);
    if (r < 0) {
        return r == -ENOBUFS ? -EBUSY : r;
    }
    assert(ref.idx < t->n);
    struct entry *e = &t->book[ref.idx];
    if (e->where != UNKNOWN) {
        supplant(d, ref.idx);
    }
    e->id = ref.id;
    e->weight = 0;
    e->orphaned = 0;
    e->cancelled = 0;
    e->durable = durable;
    e->saving = 0;
    e->pool = p->index & 63;
    e->planned = plan;
    list_init(&e->waiters);
    t->owners[ref.idx] = (struct owner){.place = users_place(t->users, spec->uid) & (USERS_MAX - 1),
                                        .units = (bytes / WEIGHT_UNIT + 1) & WEIGHT_MAX};
    entry_move(t, ref.idx, LIVE);
    p->count.submitted++;
    p->count.submitted_bytes += bytes;
    events_submitted(d, p, spec, &ref);
    r = policy && policy_has(policy, POLICY_GROUP)
            ? groups_join(d, ref.idx, &policy->group, spec->uid)
            : 0;
    r = r < 0 || !plan ? r : schedule_add(d, p, policy, spec, &ref);
    if (r == 0 && durable && durable_task(d, ref.idx) == 0) {
        r = -EIO;
    }
    if (r < 0) {
        tasks_abandon(d, ref.idx);
        return r;
    }
    p->wake += !spec->hold;
    *ret = ref;
    return 0;
}

/* ---- what a former daemon has left ---- */

/* Live until its end has been told: whoever looks hears of it in the first turn. */
static int adopt(struct hearthd *d, uint32_t idx, const struct task_view *v, uint64_t *expires_ns) {
    struct tasks *t = d->tasks;
    struct entry *e = &t->book[idx];
    struct pool_counters *c = &d->pools[v->pool].count;
    uint64_t bytes = v->payload.len + v->args_raw.len;
    bool told = task_is_told(&d->shm, idx, v->id) && task_state_is_terminal(v->state);
    *e = (struct entry){.id = v->id, .pool = v->pool & 63};
    e->planned = v->policy.len > 0; /* it may have asked to be tried again */
    list_init(&e->waiters);
    t->owners[idx] = (struct owner){.place = users_place(t->users, v->uid) & (USERS_MAX - 1),
                                    .units = (bytes / WEIGHT_UNIT + 1) & WEIGHT_MAX};
    if (told) {
        uint64_t until = v->ended_ns + (uint64_t)d->config->result_keep_ms * NS_PER_MS;
        *expires_ns = until > *expires_ns ? until : *expires_ns; /* in order: see KEPT */
        e->expires_ns = *expires_ns;
        e->weight = weight_of(v, true) & WEIGHT_MAX;
        bool dead = schedule_is_dead_letter(d, v) && d->pools[v->pool].config->dead_letters > 0;
        entry_move(t, idx, dead ? DEAD : KEPT);
        return 0;
    }
    entry_move(t, idx, LIVE);
    task_unwatch(&d->shm, idx, v->id);
    if (v->state == TASK_QUEUED || v->state == TASK_WAITING) {
        c->submitted++;
        c->submitted_bytes += bytes;
    }
    return v->state == TASK_QUEUED ? task_hint(&d->shm, idx) : 0;
}

/* Once all are known: who comes after whom, who belongs to which group. */
static int adopt_plan(struct hearthd *d, uint32_t idx) {
    struct entry *e = &d->tasks->book[idx];
    struct task_view v;
    struct policy policy;
    if (task_view(&d->shm, idx, &v) < 0 || v.id != e->id) {
        return 0;
    }
    policy_get(&v.policy, d->pools[e->pool].config, &policy);
    e->durable = policy_has(&policy, POLICY_DURABLE) || d->pools[e->pool].config->durable;
    if (e->durable && d->found && e->where == LIVE && durable_task(d, idx) && v.attempt) {
        durable_attempt(d, idx); /* it may have been killed before that was on the disk */
    }
    int r = policy_has(&policy, POLICY_GROUP) ? groups_join(d, idx, &policy.group, v.uid) : 0;
    if (r == 0 && (e->where == LIVE || policy_has(&policy, POLICY_UNIQUE_KEEP))) {
        r = schedule_adopt(d, idx, &v);
        e->planned = r == 1;
        r = r < 0 ? r : 0;
    }
    if (e->where != LIVE) {
        schedule_ended(d, idx);
        groups_ended(d, idx, v.state);
        return r;
    }
    if (policy_has(&policy, POLICY_OWNED) && !task_state_is_terminal(v.state)) {
        tasks_cancel(d, idx, "the end of its client");
    } else if (d->pools[e->pool].gone && end_queued(d, idx, TASK_LOST, CAUSE_NONE) == 0) {
        e->text = e->text ? e->text : strdup("its pool is not in the configuration any more");
    }
    return r;
}

struct found {
    uint64_t id;
    uint32_t idx;
};

static int by_age(const void *a, const void *b) {
    const struct found *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

/* Every record that is in use, in order of submission. The array is the caller's. */
static int find_all(struct hearthd *d, struct found **ret, uint32_t *ret_n) {
    struct found *all = NULL;
    uint32_t n = 0, cap = 0, idx;
    struct task_view v;
    for (uint32_t i = 0; task_next_used(&d->shm, i, &idx) == 0; i = idx + 1) {
        int r = task_view(&d->shm, idx, &v);
        if (r == -EBADMSG || (r == 0 && v.pool >= d->n_pools)) {
            log_err(LOG_ABOUT(.message = MESSAGE_SEGMENT_DAMAGED),
                    "task record %u does not make sense: it is left alone", idx);
        }
        if (r < 0 || v.pool >= d->n_pools) {
            continue;
        }
        if (n == cap) {
            cap = cap ? cap * 2 : 1024;
            struct found *more = realloc(all, cap * sizeof(*all));
            if (!more) {
                free(all);
                return -ENOMEM;
            }
            all = more;
        }
        all[n++] = (struct found){v.id, idx};
    }
    if (n > 1) {
        qsort(all, n, sizeof(*all), by_age);
    }
    *ret = all;
    *ret_n = n;
    return 0;
}

int tasks_recover(struct hearthd *d, struct tasks_recovered *ret) {
    struct tasks *t = d->tasks;
    _cleanup_free_ struct found *all = NULL;
    uint32_t n, idx;
    uint64_t expires_ns = t->now_ns = clock_now();
    while (task_next_ended(&d->shm, &idx) != -EAGAIN) {
        /* all records are looked at */
    }
    int r = find_all(d, &all, &n);
    for (uint32_t i = 0; r == 0 && i < n; i++) {
        struct task_view v;
        if (task_view(&d->shm, all[i].idx, &v) == 0) {
            d->last_client = v.client > d->last_client ? v.client : d->last_client;
            r = adopt(d, all[i].idx, &v, &expires_ns);
        }
    }
    *ret = (struct tasks_recovered){0};
    for (uint32_t i = 0; r == 0 && i < n; i++) {
        r = t->book[all[i].idx].where != UNKNOWN ? adopt_plan(d, all[i].idx) : 0;
    }
    for (uint32_t i = 0; r == 0 && i < n; i++) {
        if (t->book[all[i].idx].where != UNKNOWN) {
            groups_restore(d, all[i].idx);
        }
    }
    for (uint32_t i = 0; r == 0 && i < n; i++) {
        ret->waiting += t->book[all[i].idx].where == LIVE;
        ret->kept += t->book[all[i].idx].where == KEPT || t->book[all[i].idx].where == DEAD;
        tasks_ended(d, all[i].idx); /* those whose end nobody has been told */
    }
    return r;
}

/* ---- ends ---- */

void tasks_wait(struct hearthd *d, uint32_t idx, struct task_waiter *w) {
    struct entry *e = &d->tasks->book[idx];
    assert(idx < d->tasks->n && e->where == LIVE);
    list_append(&e->waiters, &w->node);
}

void tasks_unwait(struct task_waiter *w) {
    list_del(&w->node);
}

struct task_waiter *tasks_waiter(struct hearthd *d, uint32_t idx,
                                 bool (*is)(const struct task_waiter *w, const void *arg),
                                 const void *arg) {
    struct entry *e = &d->tasks->book[idx];
    assert(idx < d->tasks->n && e->where == LIVE);
    list_for_each (it, &e->waiters) {
        struct task_waiter *w = list_entry(it, struct task_waiter, node);
        if (is(w, arg)) {
            return w;
        }
    }
    return NULL;
}

void tasks_on_ended(struct hearthd *d,
                    bool (*fn)(struct hearthd *d, uint32_t idx, const struct task_view *v)) {
    d->tasks->on_ended = fn;
}

static void count_end(struct hearthd *d, const struct task_view *v) {
    d->tasks->ended[v->state]++;
    if (v->pool >= d->n_pools) {
        return;
    }
    struct pool_counters *c = &d->pools[v->pool].count;
    switch (v->state) {
    case TASK_DONE:
        c->done++;
        break;
    case TASK_FAILED:
        c->failed++;
        break;
    case TASK_LOST:
        c->lost++;
        break;
    case TASK_TIMEOUT:
        c->timeout++;
        break;
    case TASK_EXPIRED:
        c->expired++;
        break;
    default:
        c->cancelled++;
        break;
    }
}

static void deliver(struct hearthd *d, uint32_t idx, const struct task_view *v) {
    struct tasks *t = d->tasks;
    struct entry *e = &t->book[idx];
    struct list waiters;
    list_init(&waiters);
    while (!list_empty(&e->waiters)) {
        struct list *node = e->waiters.next;
        list_del(node);
        list_append(&waiters, node);
    }
    /* Pinned: no waiter's fetch, nor what it makes others do, takes the record away under the rest.
     */
    tasks_pin(d, idx);
    while (!list_empty(&waiters)) {
        struct task_waiter *w = list_first(&waiters, struct task_waiter, node);
        list_del(&w->node);
        w->ended(w, idx, v);
    }
    if (!e->orphaned && t->on_ended && t->on_ended(d, idx, v)) {
        tasks_fetched(d, idx);
    }
    stream_ended(d, idx, v);
    tasks_unpin(d, idx);
}

static struct task_view view_lost(const struct entry *e) {
    return (struct task_view){.id = e->id, .state = TASK_LOST, .pool = e->pool};
}

/* A record that cannot be read still ends in one event. */
static void view_damaged(struct hearthd *d, uint32_t idx, struct task_view *ret) {
    struct entry *e = &d->tasks->book[idx];
    char id[TASK_ID_TEXT];
    task_id_text(id, e->id, idx);
    log_err(LOG_ABOUT(.message = MESSAGE_SEGMENT_DAMAGED, .task = id),
            "the record of task %s does not make sense: another process has damaged the segment",
            id);
    free(e->text);
    e->text = strdup("record damaged");
    *ret = view_lost(e);
}

/* Is the worker in this slot at a task whose record does not say so? Then what it runs has written
 * over the record, or somebody else has. Two equal looks at the slot with one at the record between
 * them: an honest worker has begun no task that is not RUNNING by it. */
static bool is_astray(struct hearthd *d, uint32_t slot, uint32_t idx) {
    struct slot_view a, b;
    struct task_view v;
    slot_view(&d->shm, slot, &a);
    if (a.hand != (uint64_t)idx + 1 || a.started_ns == 0) {
        return false;
    }
    int r = task_view(&d->shm, idx, &v);
    slot_view(&d->shm, slot, &b);
    return b.hand == a.hand && b.started_ns == a.started_ns &&
           (r < 0 || v.state != TASK_RUNNING || (v.owner & 0xffff) != slot + 1);
}

/* Who still runs a task whose record is lost is out of everybody's control: no limit or cancel would
 * ever meet it. */
static void stop_astray(struct hearthd *d, uint32_t idx) {
    struct shm_usage u;
    shm_usage(&d->shm, &u);
    for (uint32_t i = 0; i < u.slots; i++) {
        if (d->workers[i] && is_astray(d, i, idx)) {
            d->workers[i]->astray = true;
            d->check_deadlines = true;
        }
    }
}

/* Running, says the record, but by a worker that has another in hand. */
static bool is_nobodys(struct hearthd *d, uint32_t idx, const struct task_view *v) {
    uint32_t slot = (v->owner & 0xffff) - 1;
    struct shm_usage u;
    struct slot_view w;
    struct task_view again;
    if (v->state != TASK_RUNNING) {
        return false;
    }
    shm_usage(&d->shm, &u);
    if (slot < u.slots) {
        slot_view(&d->shm, slot, &w);
        if (w.hand == (uint64_t)idx + 1) {
            return false;
        }
    }
    return task_view(&d->shm, idx, &again) == 0 && again.state == v->state &&
           again.owner == v->owner && again.attempt == v->attempt;
}

static uint64_t expiry_of(const struct hearthd *d) {
    return d->tasks->now_ns + (uint64_t)d->config->result_keep_ms * NS_PER_MS;
}

/* It has failed, but this is not its end. *ret_dead: it is, and it belongs to the dead letters. */
static bool tried_again(struct hearthd *d, uint32_t idx, const struct task_view *v,
                        bool *ret_dead) {
    struct entry *e = &d->tasks->book[idx];
    if ((d->stopping && !d->kept) || e->cancelled || e->orphaned ||
        schedule_kind(v) == RETRY_KINDS ||
        (!e->planned && d->pools[e->pool].config->retries == 0)) {
        return false;
    }
    bool again = schedule_retry(d, idx, v, ret_dead);
    if (again) {
        events_retried(d, idx, v);
        if (e->durable) {
            durable_attempt(d, idx);
        }
    }
    e->planned = schedule_knows(d, idx);
    *ret_dead = *ret_dead && d->pools[e->pool].config->dead_letters > 0;
    return again;
}

/* Those that are too many, the oldest first: from now on results like any other. */
static void drop_dead(struct hearthd *d, uint32_t pool) {
    struct tasks *t = d->tasks;
    while (t->dead[pool].n > d->pools[pool].config->dead_letters) {
        uint32_t idx = t->dead[pool].first - 1;
        t->dead_dropped++;
        t->book[idx].expires_ns = expiry_of(d);
        entry_move(t, idx, KEPT);
    }
}

static uint64_t weight_of(const struct task_view *v, bool stream) {
    return (v->payload.len + v->output.len + v->args_raw.len + v->log.len +
            (stream ? v->stream_bytes : 0)) /
               WEIGHT_UNIT +
           1;
}

/* The one event of a task that was LIVE. */
static void finish(struct hearthd *d, uint32_t idx, const struct task_view *v, bool dead) {
    struct tasks *t = d->tasks;
    struct entry *e = &t->book[idx];
    if (e->planned) {
        schedule_ended(d, idx);
    }
    count_end(d, v);
    events_ended(d, idx, v);
    uint64_t weight = weight_of(v, stream_stays(d, v));
    e->expires_ns = expiry_of(d);
    e->weight = weight & WEIGHT_MAX;
    entry_move(t, idx, dead ? DEAD : KEPT);
    task_set_told(&d->shm, idx, e->id);
    deliver(d, idx, v);
    if (dead) {
        drop_dead(d, e->pool);
    }
    groups_ended(d, idx, v->state);
    drop_kept(d);
    if (e->orphaned && is_known(e->where)) {
        forget(d, idx);
    }
}

/* Died of a SIGKILL that is not ours, or a shell says that of its child; and the kernel has killed. */
static bool was_short_of_memory(struct tasks *t, const struct task_view *v) {
    bool killed = (v->cause == CAUSE_SIGNAL && v->signal == SIGKILL) ||
                  (v->cause == CAUSE_EXIT && v->code == 128 + SIGKILL);
    return (v->state == TASK_FAILED || v->state == TASK_LOST) && killed && oom_killed(t->oom);
}

/* Notes that the end is being written down, and is to be told after that. False: it cannot be, and is told at once. */
static bool save(struct hearthd *d, uint32_t idx, const struct task_view *v, bool dead) {
    struct tasks *t = d->tasks;
    struct entry *e = &t->book[idx];
    uint64_t batch = durable_may(d) == 0 ? durable_end(d, idx, v) : 0;
    if (!batch || e->orphaned) {
        return false;
    }
    const struct saving s = {batch, e->id, idx, dead};
    if (buf_append(&t->saving, &s, sizeof(s)) < 0) {
        return false;
    }
    e->saving = 1;
    return true;
}

/* For durable_on_change(). */
static void saved(struct hearthd *d, uint64_t done, const char *trouble) {
    struct tasks *t = d->tasks;
    struct saving s;
    while (buf_len(&t->saving) > 0) {
        memcpy(&s, buf_head(&t->saving), sizeof(s));
        if (s.batch > done && !trouble) {
            break;
        }
        buf_consume(&t->saving, sizeof(s));
        struct entry *e = &t->book[s.idx];
        struct task_view v;
        if (e->where != LIVE || e->id != s.id) {
            continue;
        }
        e->saving = 0;
        if (task_view(&d->shm, s.idx, &v) < 0 || v.id != s.id) {
            tasks_damaged(d, s.idx);
        } else {
            finish(d, s.idx, &v, s.dead);
        }
    }
}

void tasks_ended(struct hearthd *d, uint32_t idx) {
    struct tasks *t = d->tasks;
    if (idx >= t->n || t->book[idx].where != LIVE || t->book[idx].saving) {
        return;
    }
    struct task_view v;
    bool dead = false;
    int r = task_view(&d->shm, idx, &v);
    if (r == 0 && v.id == t->book[idx].id) {
        stream_look(d, idx, v.id, task_state_is_terminal(v.state));
    }
    if (r == 0 && v.id == t->book[idx].id && was_short_of_memory(t, &v)) {
        task_set_cause(&d->shm, idx, v.id, CAUSE_MEMORY);
        r = task_view(&d->shm, idx, &v);
    }
    if (r < 0 || is_nobodys(d, idx, &v)) {
        tasks_damaged(d, idx);
    } else if (v.id == t->book[idx].id && task_state_is_terminal(v.state) &&
               !tried_again(d, idx, &v, &dead) &&
               !(t->book[idx].durable && save(d, idx, &v, dead))) {
        finish(d, idx, &v, dead);
    }
}

void tasks_damaged(struct hearthd *d, uint32_t idx) {
    struct tasks *t = d->tasks;
    struct task_view v;
    if (idx < t->n && t->book[idx].where == LIVE) {
        stop_astray(d, idx);
        view_damaged(d, idx, &v);
        finish(d, idx, &v, false);
    }
}

bool tasks_is_astray(struct hearthd *d, uint32_t slot, uint32_t idx) {
    return is_astray(d, slot, idx);
}

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
    if (e->id != seq || !is_known(e->where) || e->orphaned) {
        return -ENOENT;
    }
    *ret_idx = idx;
    return 0;
}

bool tasks_is_ended(struct hearthd *d, uint32_t idx) {
    const struct entry *e = &d->tasks->book[idx];
    assert(idx < d->tasks->n && is_known(e->where));
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
    return idx < t->n && is_known(t->book[idx].where) && t->book[idx].id == id;
}

int tasks_view(struct hearthd *d, uint32_t idx, struct task_view *ret) {
    const struct entry *e = &d->tasks->book[idx];
    assert(idx < d->tasks->n && is_known(e->where));
    int r = task_view(&d->shm, idx, ret);
    if (e->where != LIVE && (r < 0 || ret->id != e->id || !task_state_is_terminal(ret->state))) {
        *ret = view_lost(e);
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
        forget(d, idx);
    }
}

/* ---- cancelling ---- */

static int end_queued(struct hearthd *d, uint32_t idx, enum task_state state,
                      enum task_cause cause) {
    struct task_view v;
    int r = task_view(&d->shm, idx, &v);
    if (r < 0) {
        return r;
    }
    r = task_end_queued(&d->shm, idx, d->tasks->book[idx].id, state, cause);
    if (r < 0) {
        return r;
    }
    if (v.pool < d->n_pools) {
        struct pool_counters *c = &d->pools[v.pool].count;
        c->cancelled_queued++;
        c->cancelled_queued_bytes += v.payload.len + v.args_raw.len;
    }
    return 0;
}

/* False: all of the pool's tasks have begun. */
static bool drop_oldest(struct hearthd *d, struct pool *p) {
    struct tasks *t = d->tasks;
    for (uint32_t at = t->live[p->index].first; at;) {
        struct entry *e = &t->book[at - 1];
        uint32_t idx = at - 1;
        at = e->link[STATE].next;
        if (end_queued(d, idx, TASK_CANCELLED, CAUSE_CANCELLED) == 0) {
            e->cancelled = 1;
            e->text = e->text ? e->text : strdup("a newer one: the queue was full");
            p->count.dropped++;
            tasks_ended(d, idx);
            return true;
        }
    }
    return false;
}

int tasks_room(struct hearthd *d, struct pool *p, uint32_t n, uint64_t bytes) {
    enum pool_overflow way = p->config->overflow;
    bool room = !p->paused_in && tasks_has_room(d, p, n, bytes);
    bool drop = way == OVERFLOW_DROP && !p->paused_in && tasks_could_have_room(p, n, bytes);
    while (!room && drop && drop_oldest(d, p)) {
        room = tasks_has_room(d, p, n, bytes);
    }
    p->count.busy_refused += !room && (way != OVERFLOW_BLOCK || p->paused_in);
    return room ? 0 : -EBUSY;
}

/* Tells a running task to stop, and plans what happens if it does not: a handler that is late has no
 * grace, as with its time limit. */
static void stop_running(struct hearthd *d, uint32_t idx, const struct task_view *v,
                         enum task_cause why) {
    if (why == CAUSE_DEADLINE) {
        task_set_late(&d->shm, idx, v->id);
    } else {
        task_set_cancel(&d->shm, idx, v->id);
    }
    uint32_t slot = (v->owner & 0xffff) - 1;
    struct shm_usage u;
    shm_usage(&d->shm, &u);
    struct worker *w = slot < u.slots ? d->workers[slot] : NULL;
    if (!w) {
        return; /* it is dead already: the reaper ends the task */
    }
    const struct pool_config *c = w->pool->config;
    bool hears = c->kind == POOL_EXEC || (w->lease && lease_hears(w->lease));
    bool at_once = why == CAUSE_DEADLINE && !hears;
    uint64_t at = clock_now() + (at_once ? 0 : (uint64_t)c->kill_grace_ms * NS_PER_MS);
    if (w->kill_at_ns && w->kill_task_id == v->id && w->kill_at_ns <= at) {
        return;
    }
    w->kill_at_ns = at;
    w->kill_task_id = v->id;
    w->kill_cause = (int)why;
    d->check_deadlines = true;
    if (w->lease && hears) {
        lease_stop(d, w->lease, why);
    }
}

/* 0: it was queued and has ended (not delivered yet); 1: it runs and has been told; -EALREADY. */
static int cancel(struct hearthd *d, uint32_t idx) {
    if (end_queued(d, idx, TASK_CANCELLED, CAUSE_CANCELLED) == 0) {
        return 0;
    }
    struct task_view v;
    if (task_view(&d->shm, idx, &v) < 0 || v.state != TASK_RUNNING) {
        return -EALREADY; /* its end is on the way to us */
    }
    stop_running(d, idx, &v, CAUSE_CANCELLED);
    return 1;
}

void tasks_expire(struct hearthd *d, uint32_t idx) {
    struct task_view v;
    if (d->tasks->book[idx].where == LIVE && task_view(&d->shm, idx, &v) == 0 && v.attempt == 0 &&
        end_queued(d, idx, TASK_EXPIRED, CAUSE_EXPIRED) == 0) {
        tasks_ended(d, idx);
    }
}

void tasks_deadline(struct hearthd *d, uint32_t idx) {
    struct task_view v;
    if (d->tasks->book[idx].where != LIVE || task_view(&d->shm, idx, &v) < 0) {
        return;
    }
    if (end_queued(d, idx, v.attempt ? TASK_TIMEOUT : TASK_EXPIRED, CAUSE_DEADLINE) == 0) {
        tasks_ended(d, idx);
    } else if (task_view(&d->shm, idx, &v) == 0 && v.state == TASK_RUNNING) {
        stop_running(d, idx, &v, CAUSE_DEADLINE);
    }
}

int tasks_cancel(struct hearthd *d, uint32_t idx, const char *text) {
    struct tasks *t = d->tasks;
    if (idx >= t->n || !is_known(t->book[idx].where)) {
        return -ENOENT;
    }
    struct entry *e = &t->book[idx];
    if (e->where != LIVE) {
        return -EALREADY;
    }
    int r = cancel(d, idx);
    if (r < 0) {
        return r;
    }
    e->cancelled = 1;
    if (!e->text && text) {
        e->text = strdup(text); /* without it the cause merely names nobody */
    }
    if (r == 0) {
        tasks_ended(d, idx);
    }
    return 0;
}

void tasks_replace(struct hearthd *d, uint32_t idx) {
    tasks_cancel(d, idx, "its replacement");
    schedule_drop_unique(d, idx);
}

bool tasks_abandon(struct hearthd *d, uint32_t idx) {
    struct tasks *t = d->tasks;
    assert(idx < t->n);
    struct entry *e = &t->book[idx];
    if (e->where != LIVE) {
        if (e->where == KEPT || e->where == FETCHED) {
            forget(d, idx);
        }
        return false;
    }
    e->orphaned = 1;
    schedule_drop_unique(d, idx);
    groups_leave(d, idx);
    cancel(d, idx);
    tasks_ended(d, idx); /* unless it still runs */
    return true;
}

static void order_lost(struct hearthd *d, uint32_t idx) {
    struct entry *e = &d->tasks->book[idx];
    if (end_queued(d, idx, TASK_LOST, CAUSE_NONE) == 0) {
        if (!e->text) {
            e->text = strdup("its worker has left");
        }
        tasks_ended(d, idx);
    }
}

void tasks_order(struct hearthd *d, uint32_t idx, uint32_t slot) {
    struct entry *e = &d->tasks->book[idx];
    assert(idx < d->tasks->n && e->where == LIVE);
    e->cancelled = 1;
    if (task_order(&d->shm, idx, e->id, slot) < 0) {
        order_lost(d, idx);
    }
}

void tasks_order_lost(struct hearthd *d, uint64_t order) {
    uint32_t idx;
    uint64_t id;
    if (task_order_of(&d->shm, order, &idx, &id) == 0 && d->tasks->book[idx].where == LIVE &&
        d->tasks->book[idx].id == id) {
        order_lost(d, idx);
    }
}

void tasks_end_all_queued(struct hearthd *d, enum task_state state, enum task_cause cause) {
    struct tasks *t = d->tasks;
    for (uint32_t i = 0; i < SHM_POOLS; i++) {
        for (uint32_t at = t->live[i].first; at;) {
            uint32_t idx = at - 1;
            at = t->book[idx]
                     .link[STATE]
                     .next; /* delivering one end makes no other task leave this chain */
            if (end_queued(d, idx, state, cause) == 0) {
                tasks_ended(d, idx);
            }
        }
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
