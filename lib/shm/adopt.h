/* SPDX-License-Identifier: MIT */
/* What a daemon needs that takes over the segment of one that has ended, and what it leaves for its successor. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/shm/segment.h"
#include "lib/shm/task.h"

/* Who is behind a slot, by the word that the kernel marks. */
enum slot_life {
    SLOT_NOBODY, /* nobody has attached yet, or he has let go of it */
    SLOT_DEAD,
    SLOT_ALIVE,
};
enum slot_life slot_life(const struct shm *s, uint32_t slot);

/* Ends the seats of connections, none of which are there any more. 0; -EAGAIN: locks are busy, call again. Outside. */
int sync_seats_end(struct shm *s);

/* ---- pools: the daemon's alone ---- */
/* The name of the pool at `index` (< SHM_POOLS); NULL: there is none. Valid as long as the handle. */
const char *shm_pool_name(const struct shm *s, uint32_t index);
/* As shm_pool_room(), of a ring that is there. */
uint32_t shm_pool_room_at(const struct shm *s, uint32_t index);
/* Makes the rings anew, empty, for `queue_max` tasks, while nobody uses them. The tasks that are queued need task_hint() then.
 * Errors as shm_pool_create(). May be cut off anywhere and be done again. */
int shm_pool_renew(struct shm *s, uint32_t index, uint32_t queue_max);
/* Whatever the former daemon wanted of its workers (pause, claims to be heard of) is wanted no more. */
void shm_pool_reset(struct shm *s, uint32_t index);
/* The names of the pool's handlers, each followed by a NUL, in the order of their numbers: kept for a successor, who has to
 * give the same numbers to the same names. 0; -ENOMEM, -EAGAIN, -EMSGSIZE: what was kept before still is. */
int shm_pool_keep_handlers(struct shm *s, uint32_t index, const void *names, size_t len);
/* What was kept; empty: nothing. */
struct task_bytes shm_pool_handlers(const struct shm *s, uint32_t index);

/* ---- bytes of the daemon's own, for its successor ---- */
/* In place of what was kept before. Errors as shm_pool_keep_handlers(). */
int shm_keep(struct shm *s, const void *data, size_t len);
/* What was kept, by anybody who may write to the segment; empty: nothing. Valid until the next shm_keep(). 8-byte aligned. */
struct task_bytes shm_kept(const struct shm *s);
/* Changes one word of it, `at` bytes from the start, in place. */
void shm_kept_set(struct shm *s, size_t at, uint64_t v);

/* ---- tasks ---- */
/* Notes that the task's group takes no more tasks. */
void task_set_closed(struct shm *s, uint32_t idx, uint64_t id);
bool task_is_closed(struct shm *s, uint32_t idx, uint64_t id);
/* Notes that the end of the task is being told, so that nobody tells it again. */
void task_set_told(struct shm *s, uint32_t idx, uint64_t id);
bool task_is_told(struct shm *s, uint32_t idx, uint64_t id);
/* Of a task that was just restored (task_spec.id), held: when it was submitted, in terms of CLOCK_MONOTONIC, and the attempts that it
 * has behind it. */
void task_set_past(struct shm *s, uint32_t idx, uint64_t id, uint64_t submitted_ns,
                   uint32_t attempts, uint32_t kills);
/* ... ends it again, as it had ended, told and all. 0, -ENOMEM, -EAGAIN, -ESTALE. */
int task_restore_end(struct shm *s, uint32_t idx, uint64_t id, const struct task_outcome *o,
                     const struct task_bytes *output, const struct task_bytes *log,
                     uint64_t run_ns);
/* Nobody listens to what it tells any more. */
void task_unwatch(struct shm *s, uint32_t idx, uint64_t id);
/* A queued task goes to the end of its pool's ring. 0 or -ENOBUFS. */
int task_hint(struct shm *s, uint32_t idx);
/* From record `from` on, the next one that is in use; -ENOENT: no more. */
int task_next_used(struct shm *s, uint32_t from, uint32_t *ret_idx);
