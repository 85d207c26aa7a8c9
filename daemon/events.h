/* SPDX-License-Identifier: MIT */
/* The last things that happened, by number: a ring in the daemon's memory. Whoever does something
 * worth telling adds a record, which costs a few stores; it is put into words only when somebody
 * reads it. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/hearthd.h"
#include "lib/shm/task.h"

struct proc;

enum event_kind {
#define EVENT(id, ...) EVENT_##id,
#include "daemon/events.def"
#undef EVENT
    EVENT_KINDS,
};

enum event_type {
    EVENTS_TASK = 1,
    EVENTS_WORKER = 2,
    EVENTS_POOL = 4,
    EVENTS_SCHEDULE = 8,
    EVENTS_PROC = 16,
    EVENTS_ALL = 31,
};
enum { EVENT_TYPES = 5 };
extern const char
    *const event_type_names[EVENT_TYPES]; /* "task" "worker" ...; 1 << index is the type */

/* Room for config.limits.events_kept of them; sets d->events. 0 or -ENOMEM. */
int events_open(struct hearthd *d);
void events_close(struct hearthd *d);

/* ---- adding; all do nothing while d->events is NULL ---- */
void events_submitted(struct hearthd *d, const struct pool *p, const struct task_spec *spec,
                      const struct task_ref *ref);
/* An attempt has failed, and is not the last one. */
void events_retried(struct hearthd *d, uint32_t idx, const struct task_view *v);
/* And notes how long it waited and ran: events_times(). */
void events_ended(struct hearthd *d, uint32_t idx, const struct task_view *v);
void events_slow(struct hearthd *d, uint32_t idx, const struct task_view *v, const char *where);
/* text NULL: none; it is copied. */
void events_worker(struct hearthd *d, enum event_kind kind, const struct worker *w, uint64_t number,
                   const char *text);
void events_pool(struct hearthd *d, enum event_kind kind, const struct pool *p, uint64_t number,
                 const char *text);

/* ref NULL: there is no task. */
void events_schedule(struct hearthd *d, enum event_kind kind, const char *name, uint64_t number,
                     const struct task_ref *ref);

/* number: behind its id. */
void events_proc(struct hearthd *d, enum event_kind kind, const struct proc *p, uint64_t number,
                 const char *text);

/* ---- reading ---- */
/* Numbers grow by one from event to event, also across restarts of the daemon; those from first on
 * are kept, next is that of the next one. */
uint64_t events_first(const struct hearthd *d);
uint64_t events_next(const struct hearthd *d);
uint64_t events_origin(const struct hearthd *d);                    /* the first there ever was */
enum event_type events_type(const struct hearthd *d, uint64_t seq); /* first <= seq < next */

enum { EVENT_FIELDS = 16, EVENT_TEXT = 192 };
struct event_field {
    const char *key;
    const char *text; /* NULL: a number */
    int64_t number;
};
struct event_view {
    enum event_type type;
    uint32_t n;
    struct event_field fields[EVENT_FIELDS]; /* seq, time_ms, event, ... */
    char id[TASK_ID_TEXT], cause[EVENT_TEXT];
};
/* The texts point into *ret, or are the daemon's until its next turn. */
void events_view(const struct hearthd *d, uint64_t seq, struct event_view *ret);

/* ---- how long tasks waited and ran ---- */
struct times;
enum { TIMES_WAIT, TIMES_RUN, TIMES_KINDS };
const struct times *events_times(const struct hearthd *d, uint32_t pool, int kind); /* NULL: none */
