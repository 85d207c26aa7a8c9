/* SPDX-License-Identifier: MIT */
/* Locks and their kin as a process uses them that has the segment mapped: sync.h says what the calls mean, objects.h how names and
 * errors go. ms: how long to wait; < 0: for ever, 0: not at all. -EBUSY: it would have had to wait and ms is 0; -ETIMEDOUT: in
 * vain; -EDEADLK: it would wait for itself, or wait inside of a transaction. flags: SYNC_NO_CHECK, SYNC_FORCE. */
#pragma once

#include <stdint.h>

#include "lib/shm/objects.h"
#include "lib/shm/sync.h"

/* Lets go of everything that the handle's slot holds: how many things. */
int objects_sync_release_all(struct objects *o);

int objects_lock_acquire(struct objects *o, struct task_bytes name, int64_t ms, unsigned flags);
int objects_lock_release(struct objects *o, struct task_bytes name, unsigned flags);
int objects_lock_is_held(struct objects *o, struct task_bytes name);

int objects_rlock_acquire(struct objects *o, struct task_bytes name, int64_t ms, unsigned flags);
int objects_rlock_release(struct objects *o, struct task_bytes name, unsigned flags);

int objects_rwlock_read(struct objects *o, struct task_bytes name, int64_t ms, unsigned flags);
int objects_rwlock_write(struct objects *o, struct task_bytes name, int64_t ms, unsigned flags);
int objects_rwlock_release(struct objects *o, struct task_bytes name, unsigned flags);

/* 1: made, 0: there already. */
int objects_sem_create(struct objects *o, struct task_bytes name, uint64_t value, bool bounded);
int objects_sem_acquire(struct objects *o, struct task_bytes name, uint64_t n, int64_t ms,
                        unsigned flags);
int objects_sem_release(struct objects *o, struct task_bytes name, uint64_t n);
int64_t objects_sem_value(struct objects *o, struct task_bytes name);

int objects_event_set(struct objects *o, struct task_bytes name);
int objects_event_clear(struct objects *o, struct task_bytes name);
int objects_event_is_set(struct objects *o, struct task_bytes name);
int objects_event_wait(struct objects *o, struct task_bytes name, int64_t ms);

/* -ETIMEDOUT: the lock is held again, too. */
int objects_cond_wait(struct objects *o, struct task_bytes cond, struct task_bytes lock,
                      int64_t ms);
/* n: UINT64_MAX: all. How many. */
int64_t objects_cond_notify(struct objects *o, struct task_bytes cond, uint64_t n);

/* 1: made, 0: there already. */
int objects_barrier_create(struct objects *o, struct task_bytes name, uint32_t parties);
/* The place in the order of coming. */
int objects_barrier_wait(struct objects *o, struct task_bytes name, int64_t ms);
int objects_barrier_reset(struct objects *o, struct task_bytes name);
int objects_barrier_abort(struct objects *o, struct task_bytes name);
int objects_barrier_view(struct objects *o, struct task_bytes name, struct sync_barrier_view *ret);
