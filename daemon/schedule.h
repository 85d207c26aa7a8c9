/* SPDX-License-Identifier: MIT */
/* When a task is to run: priority, delay, expiry, deadline, retries. Only tasks that need any of
 * that have a plan here; all others go the short way through the pool's ready ring and cost nothing.
 * tasks/ is the only one who changes plans; serve/ and supervise/ look. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/hearthd.h"
#include "daemon/policy.h"
#include "lib/shm/task.h"

/* Room for what is known of so many tasks, of which memory is used as they come; 0 or a negative errno. */
int schedule_open(struct hearthd *d, uint32_t tasks);
void schedule_close(struct hearthd *d);

/* ---- for tasks/ ---- */
/* Before a task is queued: must it have a plan? Fills in what of the spec follows from that (the
 * policy's block, hold), and makes sure of the memory. policy NULL: none. 0: no plan; 1; -ENOMEM. */
int schedule_prepare(struct hearthd *d, const struct pool *p, const struct policy *policy,
                     struct task_spec *spec, uint8_t block[POLICY_BLOCK_MAX]);
/* After it has been submitted. 0; -ENOMEM: there is no memory for its keys, and it must not stay. */
int schedule_add(struct hearthd *d, const struct pool *p, const struct policy *policy,
                 const struct task_spec *spec, const struct task_ref *ref);
/* A task has failed, and this has not been told anybody. True: it will be tried again (it may have a
 * plan now that had none). False: this is its end; *ret_dead then says that it had retries, and belongs
 * to the dead letters. */
bool schedule_retry(struct hearthd *d, uint32_t idx, const struct task_view *v, bool *ret_dead);
/* Of a task that a former daemon has left, in whatever state: makes the plan anew that its record asks for. A task that
 * is queued and would have had to wait for its turn waits for it again; one that has ended, and that nobody can be told of any more, is
 * schedule_ended() after it. 1: it has a plan; 0: it needs none; -ENOMEM. */
int schedule_adopt(struct hearthd *d, uint32_t idx, const struct task_view *v);
/* Has it used up its retries? Of one that has ended. */
bool schedule_is_dead_letter(struct hearthd *d, const struct task_view *v);
bool schedule_knows(const struct hearthd *d, uint32_t idx); /* has it a plan? */
/* It has ended for good: no more of it happens here, but what was noted of its attempts stays. */
void schedule_ended(struct hearthd *d, uint32_t idx);
/* Its record is given back. Any time, whether it has a plan or not. */
void schedule_forget(struct hearthd *d, uint32_t idx);
/* Another place in the order; for a task that has not ended. 0 or -ENOMEM. */
int schedule_set_priority(struct hearthd *d, uint32_t idx, const struct task_view *v,
                          uint32_t priority);

/* ---- turns ---- */
/* What has become due. True: there is more. */
bool schedule_turn(struct hearthd *d);
/* Gives the workers what is next; cheap when nothing is held. Before they are woken. */
void schedule_feed(struct hearthd *d);
/* Before the loop sleeps: have the workers taken something that is to be made up for? */
bool schedule_has_news(struct hearthd *d);

/* While on, the daemon is to hear of each claim of a task of the pool. */
void schedule_hear(struct hearthd *d, const struct pool *p, bool on);

/* ---- looking ---- */
enum { ATTEMPTS_KEPT = 8 };
struct attempt {
    uint64_t ended_ms; /* since 1970 */
    uint32_t run_ms, pid;
    uint32_t state; /* enum task_state */
    enum task_cause cause;
    int32_t code;
    uint8_t signal, core;
};
struct schedule_view {
    const char *why; /* "delay" "priority" "limit" "after" "retry", or "" */
    uint64_t due_ns, expire_ns, deadline_ns;
    uint32_t n_attempts; /* failed ones that are known, the latest last */
    struct attempt attempts[ATTEMPTS_KEPT];
};
/* All zeroes but `why` for a task without a plan. */
void schedule_look(struct hearthd *d, uint32_t idx, struct schedule_view *ret);
/* The task of the pool that has this UNIQUE key: it has not ended, or keeps it. False: there is none. */
bool schedule_unique(const struct hearthd *d, const struct pool *p, const struct task_bytes *key,
                     uint32_t *ret_idx);
/* The key is free from now on, although the task may still run. */
void schedule_drop_unique(struct hearthd *d, uint32_t idx);
/* Tasks of the pool that are held for a later time. */
uint32_t schedule_delayed(const struct hearthd *d, const struct pool *p);
/* That wait for others, of their limit's key or before them. */
uint32_t schedule_blocked(const struct hearthd *d, const struct pool *p);
/* How an attempt failed; RETRY_KINDS when it did not, or was not meant to go on. */
enum retry_kind schedule_kind(const struct task_view *v);
