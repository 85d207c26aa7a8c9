/* SPDX-License-Identifier: MIT */
/* The daemon's book of tasks. The truth is in the segment; here is who waits for which task, what
 * has been delivered, what may be forgotten when, and the limits. Used by serve/ (submit, wait,
 * look up, cancel) and supervise/ (a task ended by a worker's death). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/hearthd.h"
#include "daemon/policy.h"
#include "lib/shm/task.h"

/* 0 or a negative errno. Before whatever submits, or ends tasks. */
int tasks_open(struct hearthd *d);
void tasks_close(struct hearthd *d);

/* Takes over the tasks that a former daemon has left in the segment; its workers are dead and buried, and the pools are there. What
 * has ended without its end being told is told now; what waits goes on waiting. 0 or -ENOMEM, -ENOBUFS. */
struct tasks_recovered {
    uint32_t waiting, kept;
};
int tasks_recover(struct hearthd *d, struct tasks_recovered *ret);

/* ---- submitting ---- */
/* Checks the pool's limits and queues; the workers are woken by hearthd_flush_wakes(). 0; -EBUSY:
 * queue_max or queue_bytes reached (nothing queued); -ENOMEM: segment or table full, even after
 * forgetting fetched tasks; -ESHUTDOWN: stopping; -EMSGSIZE; -EAGAIN: locks busy, the caller tries
 * again on a later turn; -EPIPE: its group is closed. */
/* policy: what the submitter asked for beyond that; NULL: nothing. spec->priority must be set. */
int tasks_submit(struct hearthd *d, struct pool *p, const struct task_spec *spec,
                 const struct policy *policy, struct task_ref *ret);
/* What a task counts towards queue_bytes. */
uint64_t tasks_bytes(const struct task_spec *spec);
/* For MSUBMIT: room for n tasks of `bytes` in all? Makes it, if that is the pool's way. 0 or -EBUSY. */
int tasks_room(struct hearthd *d, struct pool *p, uint32_t n, uint64_t bytes);
/* The same, only looking; and whether an empty queue would have. */
bool tasks_has_room(struct hearthd *d, struct pool *p, uint32_t n, uint64_t bytes);
bool tasks_could_have_room(const struct pool *p, uint32_t n, uint64_t bytes);

/* A task that was submitted to be held (spec->hold) is for one worker alone, and not tried again. What
 * cannot be ordered ends as lost. */
void tasks_order(struct hearthd *d, uint32_t idx, uint32_t slot);
/* A worker is gone that may not have begun what it was ordered to: that ends as lost. */
void tasks_order_lost(struct hearthd *d, uint64_t order);

/* ---- ends ---- */
/* Somebody waiting for a task's end. `ended` is called once, from tasks_turn() or tasks_ended(),
 * never from tasks_wait(); the waiter is off the list by then. It must not free the task. */
struct task_waiter {
    struct list node;
    void (*ended)(struct task_waiter *w, uint32_t idx, const struct task_view *v);
};
/* The task must be known and not ended. */
void tasks_wait(struct hearthd *d, uint32_t idx, struct task_waiter *w);
void tasks_unwait(struct task_waiter *w); /* any time */
/* The first of those who wait for it that is(w, arg) says yes to; NULL. */
struct task_waiter *tasks_waiter(struct hearthd *d, uint32_t idx,
                                 bool (*is)(const struct task_waiter *w, const void *arg),
                                 const void *arg);
/* Called for each ended task after its waiters: pub/sub and pushes. Set by serve. Returns true when
 * it delivered the result. */
void tasks_on_ended(struct hearthd *d,
                    bool (*fn)(struct hearthd *d, uint32_t idx, const struct task_view *v));

/* A hint that idx has ended: delivers it once, however often it is hinted. */
void tasks_ended(struct hearthd *d, uint32_t idx);
/* Its record does not make sense: it ends LOST, and a worker that is still at it is to be killed. */
void tasks_damaged(struct hearthd *d, uint32_t idx);
/* Is the worker in this slot at task idx, while the record says that it is not? */
bool tasks_is_astray(struct hearthd *d, uint32_t slot, uint32_t idx);
/* It has not been begun by the time it should: ends EXPIRED, if it still has not. */
void tasks_expire(struct hearthd *d, uint32_t idx);
/* Its deadline has come: ends EXPIRED or TIMEOUT; a running one is stopped. */
void tasks_deadline(struct hearthd *d, uint32_t idx);
/* Takes the ends the workers reported (bounded number), frees what is due. True: there is more. */
bool tasks_turn(struct hearthd *d);

/* ---- looking ---- */
/* 0 and the record's index, or -ENOENT: not known (never was, or forgotten). */
int tasks_find(struct hearthd *d, const char *id, size_t len, uint32_t *ret_idx);
/* Its result had to go before its time, because too many were kept. Of the last ones only. */
bool tasks_was_dropped(const struct hearthd *d, const char *id, size_t len);
/* Its end has been delivered. The record may say "ended" a little earlier: until then it can be
 * waited for. */
bool tasks_is_ended(struct hearthd *d, uint32_t idx);
/* Of one that is known: is it written down? */
bool tasks_is_durable(const struct hearthd *d, uint32_t idx);
bool tasks_is_known(const struct hearthd *d, uint32_t idx, uint64_t id);
/* It is known, and its end has not been delivered. */
bool tasks_is_live(const struct hearthd *d, uint32_t idx, uint64_t id);
/* task_view() of a known task; of one that has ended and whose record does not say so any more: LOST. */
int tasks_view(struct hearthd *d, uint32_t idx, struct task_view *ret);
/* The result has reached its submitter: forget it when room is needed. */
void tasks_fetched(struct hearthd *d, uint32_t idx);
/* While a task is pinned its record and blocks stay, even if it is forgotten meanwhile: for results
 * that are being sent straight from the segment. Only ended tasks are pinned; every pin is undone
 * once. */
void tasks_pin(struct hearthd *d, uint32_t idx);
void tasks_unpin(struct hearthd *d, uint32_t idx);
/* Newest first; fn returns false to stop. */
void tasks_each(struct hearthd *d, bool (*fn)(void *arg, uint32_t idx, const struct task_view *v),
                void *arg);

/* Of a task that has not ended. 0; -EALREADY: it has; -ENOMEM. */
int tasks_set_priority(struct hearthd *d, uint32_t idx, uint32_t priority);
/* Tasks of the pool that have not ended. */
uint32_t tasks_live(const struct hearthd *d, const struct pool *p);

/* How long the oldest task of the pool's queue has waited; of tasks that are held for their turn only
 * the first thousand are looked at. 0: none waits. */
uint64_t tasks_oldest_queued_ms(struct hearthd *d, const struct pool *p);

/* ---- dead letters: ended, and not forgotten until somebody says so or there are too many ---- */
/* Newest first; fn returns false to stop. */
void tasks_each_dead(struct hearthd *d, const struct pool *p,
                     bool (*fn)(void *arg, uint32_t idx, const struct task_view *v), void *arg);
bool tasks_is_dead_letter(struct hearthd *d, uint32_t idx);
uint32_t tasks_dead(const struct hearthd *d, const struct pool *p);
bool tasks_oldest_dead(const struct hearthd *d, const struct pool *p, uint32_t *ret_idx);
/* Forgets a dead letter. */
void tasks_purge(struct hearthd *d, uint32_t idx);

/* ---- cancelling ---- */
/* Waiting or queued: ends it at once. Running: tells the handler, and plans the worker's end after the pool's
 * kill_grace. `text` (who) becomes part of the cause. 0; -ENOENT; -EALREADY: it has ended. */
int tasks_cancel(struct hearthd *d, uint32_t idx, const char *text);
/* Cancels a task that another one replaces, and takes its UNIQUE key away at once. */
void tasks_replace(struct hearthd *d, uint32_t idx);
/* Takes back a task whose id its submitter has not been told: cancelled, not found any more, its end
 * reported to no one but who waits for it already (ids can be guessed, and listed), forgotten at
 * once. True: it had not ended yet. */
bool tasks_abandon(struct hearthd *d, uint32_t idx);
/* Ends every queued task of every pool (stopping). */
void tasks_end_all_queued(struct hearthd *d, enum task_state state, enum task_cause cause);
/* The cause in words, including who cancelled. */
void tasks_cause_text(struct hearthd *d, uint32_t idx, const struct task_view *v, char out[128]);

struct tasks_stats {
    uint64_t live, kept, fetched;      /* known and not ended; ended and kept; ended and fetched */
    uint64_t kept_bytes, kept_dropped; /* of those kept; those that were too many (result_max) */
    uint64_t dead, dead_dropped;       /* dead letters; those that were too many */
    uint64_t ended[TASK_STATES];
};
void tasks_stats(struct hearthd *d, struct tasks_stats *ret);
