/* SPDX-License-Identifier: MIT */
/* The ring of events. A record is 64 bytes of numbers, in memory that costs nothing until it is
 * touched; only the rare kinds have a text of their own (why a pool fails), which is allocated and
 * goes with the record. Names are looked up when a record is read, so adding one for each task
 * costs a few stores, whether anybody reads or not, and putting them into words nothing while nobody
 * does.
 *
 * An event's number says where it lies: number % cap. The first number is the time of the daemon's
 * start, so that numbers go on growing over a restart, and who asks for one of the former daemon's
 * is told that it is gone instead of being given another event of the same number.
 *
 * That a task was begun is no event: workers take tasks from shared memory without telling anybody.
 * Its end says how long it waited and ran, and where.
 *
 * Fails: events_open() with -ENOMEM; a text for which there is no memory is left out. */
#include "daemon/events.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "daemon/proc.h"
#include "daemon/times.h"
#include "lib/base/clock.h"

enum { NO_POOL = 255, TEXT_MAX = 200 };

struct record {
    uint64_t at_ms;
    uint64_t id; /* of the task; 0: none */
    uint64_t numbers[2];
    char *text;
    uint32_t idx;
    int32_t pid, code; /* code: the limit, in ms, of one that timed out */
    uint16_t handler;
    uint8_t kind, pool, state, cause, signal, core;
    uint8_t attempt, priority;
};
_Static_assert(sizeof(struct record) == 64, "one cache line");
_Static_assert(SHM_POOLS < 255, "record.pool");

struct events {
    struct record *ring;
    uint64_t cap, origin, first, next;
    struct times *times[SHM_POOLS]; /* TIMES_KINDS each */
};

const char *const event_type_names[EVENT_TYPES] = {"task", "worker", "pool", "schedule", "proc"};

static const struct kind {
    enum event_type type;
    const char *name, *numbers[2], *text;
} kinds[EVENT_KINDS] = {
#define EVENT(id, type, name, n1, n2, text, doc) {EVENTS_##type, name, {n1, n2}, text},
#include "daemon/events.def"
#undef EVENT
};

int events_open(struct hearthd *d) {
    struct events *e = calloc(1, sizeof(*e));
    if (!e) {
        return -ENOMEM;
    }
    e->cap = d->config->limits.events_kept;
    e->origin = e->first = e->next = clock_wall_ms() * 1000;
    e->ring = mmap(NULL, sizeof(struct record) * e->cap, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (e->ring == MAP_FAILED) {
        free(e);
        return -ENOMEM;
    }
    d->events = e;
    return 0;
}

void events_close(struct hearthd *d) {
    struct events *e = d->events;
    if (!e) {
        return;
    }
    for (uint64_t at = e->first; at < e->next; at++) {
        free(e->ring[at % e->cap].text);
    }
    for (uint32_t i = 0; i < SHM_POOLS; i++) {
        free(e->times[i]);
    }
    munmap(e->ring, sizeof(struct record) * e->cap);
    free(e);
    d->events = NULL;
}

/* ---- adding ---- */

/* The time of day as of the last tick: a few milliseconds old, and nearly free. */
static uint64_t coarse_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME_COARSE, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / NS_PER_MS;
}

static struct record *add(struct events *e, enum event_kind kind, uint32_t pool) {
    struct record *r = &e->ring[e->next % e->cap];
    if (e->next - e->first == e->cap) {
        free(r->text);
        e->first++;
    }
    e->next++;
    *r = (struct record){.at_ms = coarse_ms(), .kind = (uint8_t)kind};
    r->pool = pool < SHM_POOLS ? (uint8_t)pool : NO_POOL;
    return r;
}

static void add_text(struct record *r, const char *text) {
    r->text = text ? strndup(text, TEXT_MAX) : NULL;
}

void events_submitted(struct hearthd *d, const struct pool *p, const struct task_spec *spec,
                      const struct task_ref *ref) {
    if (d->events) {
        struct record *r = add(d->events, EVENT_TASK_SUBMITTED, p->index);
        r->id = ref->id;
        r->idx = ref->idx;
        r->handler = (uint16_t)spec->handler;
        r->priority = (uint8_t)spec->priority;
        r->numbers[0] = spec->payload.len;
        r->numbers[1] = spec->client;
    }
}

static uint64_t us_between(uint64_t from_ns, uint64_t to_ns) {
    return from_ns && to_ns > from_ns ? (to_ns - from_ns) / 1000 : 0;
}

static void add_attempt(struct events *e, enum event_kind kind, uint32_t idx,
                        const struct task_view *v) {
    struct record *r = add(e, kind, v->pool);
    r->id = v->id;
    r->idx = idx;
    r->handler = (uint16_t)v->handler;
    r->priority = (uint8_t)v->priority;
    r->attempt = (uint8_t)(v->attempt < UINT8_MAX ? v->attempt : UINT8_MAX);
    r->pid = (int32_t)v->worker_pid;
    r->state = (uint8_t)v->state;
    r->cause = (uint8_t)v->cause;
    r->code = v->cause == CAUSE_TIMEOUT ? (int32_t)v->timeout_ms : v->code;
    r->signal = v->signal;
    r->core = v->core;
    r->numbers[0] = us_between(v->submitted_ns, v->started_ns ? v->started_ns : v->ended_ns);
    r->numbers[1] = us_between(v->started_ns, v->ended_ns);
}

void events_retried(struct hearthd *d, uint32_t idx, const struct task_view *v) {
    if (d->events) {
        add_attempt(d->events, EVENT_TASK_RETRIED, idx, v);
    }
}

void events_slow(struct hearthd *d, uint32_t idx, const struct task_view *v, const char *where) {
    if (d->events) {
        struct task_view now = *v;
        now.ended_ns = clock_now();
        add_attempt(d->events, EVENT_TASK_SLOW, idx, &now);
        add_text(&d->events->ring[(d->events->next - 1) % d->events->cap], where);
    }
}

void events_ended(struct hearthd *d, uint32_t idx, const struct task_view *v) {
    struct events *e = d->events;
    if (!e) {
        return;
    }
    add_attempt(e, EVENT_TASK_ENDED, idx, v);
    if (!v->started_ns || v->pool >= SHM_POOLS) {
        return;
    }
    struct times **t = &e->times[v->pool];
    if (!*t) {
        *t = calloc(TIMES_KINDS, sizeof(**t));
    }
    if (*t) {
        times_add(&(*t)[TIMES_WAIT], v->ended_ns, us_between(v->submitted_ns, v->started_ns));
        times_add(&(*t)[TIMES_RUN], v->ended_ns, us_between(v->started_ns, v->ended_ns));
    }
}

void events_worker(struct hearthd *d, enum event_kind kind, const struct worker *w, uint64_t number,
                   const char *text) {
    if (d->events) {
        struct record *r = add(d->events, kind, w->pool->index);
        r->pid = w->pid;
        r->numbers[0] = w->slot;
        r->numbers[1] = number;
        add_text(r, text);
    }
}

void events_pool(struct hearthd *d, enum event_kind kind, const struct pool *p, uint64_t number,
                 const char *text) {
    if (d->events) {
        struct record *r = add(d->events, kind, p->index);
        r->numbers[0] = number;
        add_text(r, text);
    }
}

void events_schedule(struct hearthd *d, enum event_kind kind, const char *name, uint64_t number,
                     const struct task_ref *ref) {
    if (d->events) {
        struct record *r = add(d->events, kind, NO_POOL);
        r->id = ref ? ref->id : 0;
        r->idx = ref ? ref->idx : 0;
        r->numbers[0] = number;
        add_text(r, name);
    }
}

void events_proc(struct hearthd *d, enum event_kind kind, const struct proc *p, uint64_t number,
                 const char *text) {
    if (d->events) {
        struct record *r = add(d->events, kind, NO_POOL);
        r->pid = p->pid;
        r->numbers[0] = p->id;
        r->numbers[1] = number;
        add_text(r, text);
    }
}

/* ---- reading ---- */

uint64_t events_first(const struct hearthd *d) {
    return d->events->first;
}

uint64_t events_next(const struct hearthd *d) {
    return d->events->next;
}

uint64_t events_origin(const struct hearthd *d) {
    return d->events->origin;
}

static const struct record *record_of(const struct hearthd *d, uint64_t seq) {
    const struct events *e = d->events;
    assert(seq >= e->first && seq < e->next);
    return &e->ring[seq % e->cap];
}

enum event_type events_type(const struct hearthd *d, uint64_t seq) {
    return kinds[record_of(d, seq)->kind].type;
}

static void put_text(struct event_view *v, const char *key, const char *text) {
    assert(v->n < EVENT_FIELDS);
    v->fields[v->n++] = (struct event_field){.key = key, .text = text};
}

static void put_number(struct event_view *v, const char *key, uint64_t number) {
    assert(v->n < EVENT_FIELDS);
    v->fields[v->n++] = (struct event_field){.key = key, .number = (int64_t)number};
}

static void put_task(const struct hearthd *d, const struct record *r, struct event_view *v) {
    const struct pool *p = r->pool < d->n_pools ? &d->pools[r->pool] : NULL;
    task_id_text(v->id, r->id, r->idx);
    put_text(v, "task", v->id);
    if (kinds[r->kind].type != EVENTS_TASK) {
        return;
    }
    put_text(v, "handler", p && r->handler < p->n_handlers ? p->handlers[r->handler] : "?");
    put_number(v, "priority", r->priority);
    if (r->kind == EVENT_TASK_SUBMITTED) {
        return;
    }
    const struct task_view t = {.state = r->state,
                                .cause = (enum task_cause)r->cause,
                                .code = r->cause == CAUSE_TIMEOUT ? 0 : r->code,
                                .timeout_ms = r->cause == CAUSE_TIMEOUT ? (uint32_t)r->code : 0,
                                .signal = r->signal,
                                .core = r->core};
    put_text(v, "state", task_state_names[r->state]);
    put_number(v, "attempt", r->attempt);
    put_number(v, "worker_pid", (uint64_t)r->pid);
    if (r->state != TASK_DONE && !r->text) {
        task_cause_text(&t, v->cause);
    }
}

void events_view(const struct hearthd *d, uint64_t seq, struct event_view *ret) {
    const struct record *r = record_of(d, seq);
    const struct kind *k = &kinds[r->kind];
    ret->type = k->type;
    ret->n = 0;
    ret->cause[0] = '\0';
    if (r->text) {
        snprintf(ret->cause, sizeof(ret->cause), "%s", r->text);
    }
    put_number(ret, "seq", seq);
    put_number(ret, "time_ms", r->at_ms);
    put_text(ret, "event", k->name);
    if (k->type != EVENTS_SCHEDULE && k->type != EVENTS_PROC) {
        put_text(ret, "pool", r->pool < d->n_pools ? d->pools[r->pool].config->name : "?");
    }
    if (r->id) {
        put_task(d, r, ret);
    }
    if (k->type == EVENTS_WORKER) {
        put_number(ret, "worker_pid", (uint64_t)r->pid);
    }
    if (k->type == EVENTS_PROC) {
        const struct proc *p = proc_by_id(d, r->numbers[0]);
        put_text(ret, "name", p ? p->spec.name : "");
        put_number(ret, "pid", (uint64_t)r->pid);
    }
    for (int i = 0; i < 2; i++) {
        if (k->numbers[i][0]) {
            put_number(ret, k->numbers[i], r->numbers[i]);
        }
    }
    if (k->text[0]) {
        put_text(ret, k->text, ret->cause);
    }
}

const struct times *events_times(const struct hearthd *d, uint32_t pool, int kind) {
    const struct times *t = d->events && pool < SHM_POOLS ? d->events->times[pool] : NULL;
    return t ? &t[kind] : NULL;
}
