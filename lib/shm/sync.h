/* SPDX-License-Identifier: MIT */
/* Locks and the other objects by which processes wait for each other: keys like any other, whose holders and waiters may die at
 * any instruction. An owner is a slot, or a connection of the daemon that has been given a seat.
 *
 * Verbs run inside of an operation (op.h) that holds the shards of the names, unless "outside" is said; none sleeps. Results
 * common to all: 0 or positive: done. -EBUSY: it would have to wait. -EINPROGRESS (with SYNC_WAIT): it stands in line
 * now, which op_run() commits although it is negative: the answer comes by sync_poll(), sync_wait() or sync_give_up(). An owner
 * waits for one thing at a time: -EALREADY. -EIDRM: the object was deleted meanwhile. -EPROTOTYPE: the name is of another
 * type. And those of keys.h. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/shm/keys.h"
#include "lib/shm/segment.h"

enum { SYNC_DIED = 1 }; /* done; and the former holder died holding it */
enum sync_flag {
    SYNC_WAIT = 1,     /* may stand in line */
    SYNC_NO_CHECK = 2, /* no look for cycles of waiters */
    SYNC_FORCE = 4,    /* release: whoever holds it */
};

/* ---- owners; outside ---- */
/* For whom the handle acts: s->actor, or its own slot. */
static inline uint32_t sync_actor(const struct shm *s) {
    return s->actor ? s->actor : s->me;
}
/* The daemon's: a seat for a connection (conn is not 0). -ENOSPC: none is left. */
int sync_seat_take(struct shm *s, uint64_t conn, uint32_t pid, uint32_t uid, uint32_t *ret_owner);
/* Its end: everything is released, and the seat is free. -EAGAIN: call again. */
int sync_seat_end(struct shm *s, uint32_t owner);
/* Releases what a dead or departing owner holds, and takes it out of the line it stands in; so do slot_bury() and
 * sync_seat_end(). -EAGAIN: call again; it goes on where it was. */
int sync_bury(struct shm *s, uint32_t owner);
/* The daemon's: an owner, of those given a seat, whose wait may be over, and its connection; each is told once. 0: none. */
uint32_t sync_next_granted(struct shm *s, uint64_t *ret_conn);
/* Whether there may be one. */
bool sync_any_granted(const struct shm *s);

/* ---- the one thing the actor waits for; outside ---- */
/* -EINPROGRESS, or the final answer, which is told once. -EINVAL: it waits for nothing. -EAGAIN: call again (a connection's
 * bit is set again meanwhile). */
int sync_poll(struct shm *s);
/* Its time is over: the final answer: -ETIMEDOUT, or what it had been given already. -EINPROGRESS: only of a condition (it
 * stands in the lock's line now). -EAGAIN: call again. */
int sync_give_up(struct shm *s);
/* A slot's: sleeps until the answer is there, or gives up after ms (< 0: never). */
int sync_wait(struct shm *s, int64_t ms);

/* ---- locks ---- */
/* 0 or SYNC_DIED; made by first use. -EDEADLK: the actor has it already. */
int sync_lock_acquire(struct shm *s, const struct key_name *name, unsigned flags);
/* -EPERM: it is not the actor's (with SYNC_FORCE: not locked). */
int sync_lock_release(struct shm *s, const struct key_name *name, unsigned flags);
/* Reads. 1 or 0. */
int sync_lock_is_held(struct shm *s, const struct key_name *name);

/* ---- locks that their owner may take again ---- */
int sync_rlock_acquire(struct shm *s, const struct key_name *name, unsigned flags);
/* 0; 1: the owner still has it. -EPERM. SYNC_FORCE: all of it at once, whoever holds it. */
int sync_rlock_release(struct shm *s, const struct key_name *name, unsigned flags);
/* Reads. How many times the actor has it. */
int64_t sync_rlock_depth(struct shm *s, const struct key_name *name);
