/* SPDX-License-Identifier: MIT */
/* Slots: who is attached. The supervisor reserves a slot and hands (slot, gen) to a new process,
 * which attaches; when that process is dead the supervisor buries it. Nothing in the segment is
 * owned by a bare pid. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/shm/segment.h"

/*  FREE --supervisor--> STARTING --owner--> WARM --owner, told to--> SERVING --owner--> RETIRED
 *    ^                      |                |                         |                   |
 *    +---- supervisor, after the owner's death (slot_bury, slot_release) ------------------+   */
enum slot_state {
    SLOT_FREE,
    SLOT_STARTING, /* reserved, not yet initialised */
    SLOT_WARM,     /* initialised, waits for SLOT_GO */
    SLOT_SERVING,  /* takes tasks */
    SLOT_RETIRED,  /* takes no more; waits for SLOT_EXIT */
};
extern const char *const slot_state_names[]; /* "free" "starting" "warm" "serving" "retired" */

enum slot_command {
    SLOT_STAY,   /* none yet */
    SLOT_GO,     /* serve as soon as warm */
    SLOT_EXIT,   /* finish the task in hand, then exit */
    SLOT_RETIRE, /* finish the task in hand, then be RETIRED */
    SLOT_HANDED, /* as SLOT_EXIT; and the next daemon is to take the worker over as it is */
};

/* Why a worker is to be replaced. */
enum slot_ending {
    ENDING_NOT,
    ENDING_TASKS, /* it has run so many tasks: retires by itself */
    ENDING_ASKED, /* its handler wants it: retires by itself after this task */
    ENDING_GREW,  /* it has grown: serves on until its replacement is warm (SLOT_RETIRE) */
    ENDINGS,
};

/* ---- supervisor ---- */
/* -ENOSPC when all are taken. */
int slot_reserve(struct shm *s, uint32_t pool, uint32_t *ret_slot, uint32_t *ret_gen);
void slot_command(struct shm *s, uint32_t slot,
                  enum slot_command command); /* and wakes the owner */
/* While a slot is held its owner, once through with the task in hand, claims no other. So a signal
 * that is meant for that task cannot meet the next one: hold, see that it still runs, send the
 * signal, let go. */
void slot_hold(struct shm *s, uint32_t slot, bool on);
/* After the owner is dead (its pidfd said so): rolls its transaction back, forgets its sleep,
 * completes its counters, releases what it held of sync objects. -EAGAIN: somebody else is at it; try later. Call task_reap() between this
 * and slot_release(). Idempotent. */
int slot_bury(struct shm *s, uint32_t slot, uint32_t gen);
void slot_release(struct shm *s, uint32_t slot, uint32_t gen);

/* A reading of a slot, for supervision and WORKER.LIST. */
struct slot_view {
    uint32_t state, gen, pid, pool, command, child, ending;
    uint64_t order; /* a task for it alone: task_order_of() */
    uint64_t hand;  /* task index + 1, or 0 */
    uint64_t claims, bytes, finished, started_ns, deadline_ns;
};
void slot_view(struct shm *s, uint32_t slot, struct slot_view *ret); /* slot < usage.slots */

/* ---- owner ---- */
/* Takes the slot for this handle for life. -ESTALE: another generation. */
int slot_attach(struct shm *s, uint32_t slot, uint32_t gen);
/* The same on behalf of a process that has no segment: this one does in it what that one says. */
int slot_attach_for(struct shm *s, uint32_t slot, uint32_t gen, uint32_t pid);
void slot_set_state(struct shm *s, enum slot_state state); /* and tells the supervisor */
/* SLOT_HANDED reads as SLOT_EXIT: it is the same to the owner. */
enum slot_command slot_told(const struct shm *s);
/* Blocks until told something other than `now`, or woken. */
void slot_wait_command(struct shm *s, enum slot_command now);
/* Waits while the slot is held. Before each claim; a load when it is not. */
void slot_wait_held(struct shm *s);
void slot_set_child(struct shm *s, uint32_t pgid);
/* Another thread of this process, in that slot, is to retire if it has been told to serve. */
void slot_retire_other(struct shm *s, uint32_t slot);
/* Asks for a replacement; tells the supervisor. The first reason stays. */
void slot_set_ending(struct shm *s, enum slot_ending why);

/* ---- anybody ---- */
/* True when the process behind an owner word is dead or its slot has moved on. A malformed word
 * counts as dead. */
bool slot_is_dead(const struct shm *s, uint32_t owner);
