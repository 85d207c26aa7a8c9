/* SPDX-License-Identifier: MIT */
/* What the files of daemon/schedule share. */
#pragma once

#include "daemon/schedule.h"
#include "daemon/schedule/heap.h"
#include "daemon/schedule/names.h"

/*              +------------ to be tried again ------------+
 *              v                                           |
 *  NOWHERE -> DELAYED --due--> DUE --fed--> FED --claimed--+--> ENDED -> NOWHERE
 *       |                       ^--recalled--|             |
 *       +--> READY -----------------------------claimed----+
 * DELAYED in `times`, DUE in the lane's heap, FED in the lane's list and the segment's front ring,
 * READY in the segment's ready ring. FED and READY may have been claimed: the record knows. BLOCKED:
 * its turn has come, but it must wait for others of its key, in that key's heap (gate.c). STUCK:
 * failed, to be tried again, but a lock was busy. */
enum place { NOWHERE, DELAYED, DUE, BLOCKED, FED, READY, STUCK, ENDED, PLACES };

struct history {
    uint32_t n; /* ever */
    struct attempt attempts[ATTEMPTS_KEPT];
};

/* A user of a pool with `fair`: flow.c. */
struct flow {
    uint32_t uid, weight;
    uint32_t plans, n_due; /* his plans that have not ended; those of them that are DUE */
    uint64_t start, finish;
    struct heap due;
};

/* One per record, at the same index, in memory that costs nothing until it is touched. */
struct plan {
    uint64_t id;
    int64_t key; /* in the lane: smaller is sooner */
    uint64_t due_ns, expire_ns, deadline_ns;
    struct history *history;     /* NULL: no attempt has failed */
    struct name *limit, *unique; /* NULL: none */
    struct flow *flow;           /* NULL: the pool is not fair */
    struct after *after;         /* NULL: it comes after nobody, or they have ended */
    uint32_t limit_n;
    uint8_t place; /* enum place */
    uint8_t pool;
    bool holds;  /* one of the limit's */
    bool keeps;  /* its unique key until it is forgotten */
    bool listed; /* in the lane's `fed`: as far as we know not claimed */
};

/* The scheduled tasks of one pool. */
struct lane {
    struct heap due;
    uint32_t n[PLACES];
    struct flow **flows; /* of a fair pool; `due` is empty then */
    uint32_t n_flows;
    uint64_t virtual;
    uint32_t *fed; /* indices */
    uint32_t n_fed, cap_fed;
    int64_t until;    /* as task_refill() was told */
    int64_t fed_last; /* largest key of those */
    uint32_t depth;   /* how many are fed per worker */
    uint64_t taken;   /* as task_taken() was when it was fed */
    bool hear;        /* of each claim, whatever is held */
    bool dirty;       /* look again, whatever the workers did */
};

enum { TIME_DUE, TIME_EXPIRE, TIME_DEADLINE, TIMES };

struct after;
struct event;

struct schedule {
    struct hearthd *d;
    struct plan *plans;
    uint32_t n;
    uint32_t live;     /* plans that have not ended */
    struct heap times; /* what: TIME_* */
    struct names names;
    struct lane *lanes;
    struct event *timer;
    uint64_t timer_at_ns; /* 0: not set */
    uint64_t random;
};

/* ---- schedule.c ---- */
/* Makes a plan for a task that has none. False: no memory. */
bool plan_make(struct schedule *s, uint32_t idx, const struct task_view *v);
/* The only place where a plan changes its place. */
void plan_move(struct schedule *s, uint32_t idx, enum place to);
/* WAITING in the segment: held until at_ns, or now to be fed in its turn. */
void plan_wait(struct schedule *s, uint32_t idx, uint64_t at_ns);
int64_t plan_key(const struct pool *p, uint64_t from_ns, uint32_t priority);
void time_push(struct schedule *s, uint32_t idx, uint32_t what, uint64_t at_ns);

/* ---- retry.c ---- */
/* How long a task that has failed so often is left alone, in ns. */
uint64_t retry_pause(struct schedule *s, const struct policy *policy, uint32_t attempt);

/* ---- gate.c ---- */
/* Takes the keys that its policy names. 0 or -ENOMEM. */
int gate_join(struct schedule *s, uint32_t idx, const struct policy *policy);
/* Its turn has come: may it be fed? False: it is BLOCKED, and lane_push() brings it back. */
bool gate_pass(struct schedule *s, uint32_t idx);
/* It runs already: it has a place, whatever its key allows. */
void gate_take(struct schedule *s, uint32_t idx);
/* It is neither fed nor running any more. */
void gate_leave(struct schedule *s, uint32_t idx);
/* And will not be again. */
void gate_part(struct schedule *s, uint32_t idx);

/* ---- after.c ---- */
/* Begins to wait for those that its policy names. 0 or -ENOMEM. */
int after_join(struct schedule *s, uint32_t idx, const struct policy *policy);
/* It is due: may it take its turn? False: it is BLOCKED still, or has been ended. */
bool after_is_over(struct schedule *s, uint32_t idx);
void after_part(struct schedule *s, uint32_t idx);

/* ---- flow.c ---- */
/* The user's; NULL: no memory. */
struct flow *flow_of(struct schedule *s, const struct pool *p, uint32_t uid);
void flows_close(struct lane *l);
/* He had nothing that is due, and is about to. */
void flow_begins(struct lane *l, struct flow *f);
/* Whose turn it is; NULL: nobody's. */
struct flow *flow_next(struct lane *l);
/* He has had it. */
void flow_served(struct lane *l, struct flow *f);

/* ---- feed.c ---- */
int lane_open(struct schedule *s, uint32_t pool);
void lane_close(struct lane *l);
/* Into the order of those that are due. */
void lane_push(struct schedule *s, uint32_t idx);
/* No longer fed, if it was. */
void lane_drop(struct schedule *s, uint32_t idx);
void lane_feed(struct schedule *s, struct pool *p);
