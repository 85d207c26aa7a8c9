/* SPDX-License-Identifier: MIT */
/* The book of tasks, as the files of daemon/tasks see it; the picture of an entry's states is in tasks.c. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/hearthd.h"
#include "daemon/tasks.h"
#include "daemon/users.h"
#include "lib/base/buf.h"
#include "lib/base/list.h"

struct oom;

enum {
    EARLY_NOTED = 4096,
    WEIGHT_UNIT = 256,
    WEIGHT_MAX = (1 << 20) - 1,
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

/* Known to those who ask; else the entry is unused, or merely waits for its record to be given
 * back. */
static inline bool entry_is_known(unsigned where) {
    return where == LIVE || where == KEPT || where == FETCHED || where == DEAD;
}

/* Of one that has ended and whose record does not say so. */
static inline struct task_view entry_view_lost(const struct entry *e) {
    return (struct task_view){.id = e->id, .state = TASK_LOST, .pool = e->pool};
}

/* ---- tasks.c ---- */
/* The only place where an entry changes its state. */
void entry_move(struct tasks *t, uint32_t idx, enum where to);
/* It has ended: its record is given back, as soon as nothing holds it. */
void entry_forget(struct hearthd *d, uint32_t idx);
/* The oldest fetched one; false when there is none. */
bool entries_forget_fetched(struct hearthd *d);
/* Those that are more than may be kept, the oldest first. */
void entries_drop_kept(struct hearthd *d);

/* ---- ends.c ---- */
/* In WEIGHT_UNITs; stream: with what its stream holds. */
uint64_t entry_weight(const struct task_view *v, bool stream);
/* For durable_on_change(). */
void ends_saved(struct hearthd *d, uint64_t done, const char *trouble);

/* ---- cancel.c ---- */
/* Ends one that nobody has begun; its end is not delivered yet. 0, or -errno: it is not queued. */
int entry_end_queued(struct hearthd *d, uint32_t idx, enum task_state state, enum task_cause cause);
