/* SPDX-License-Identifier: MIT */
/* Kills a process at every instruction of an operation on the segment. A child runs prepare() and then op(), step by step;
 * whenever the segment has changed, a copy of it is taken, the child's slot is marked dead in the copy as the kernel would mark it,
 * and verify() recovers and judges the copy. Then the same for who recovers, from copies taken inside of transactions.
 * Of a whole test: step_run() and step_line() print its TAP lines, numbered, and step_end() the plan. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/shm/check.h"
#include "lib/shm/segment.h"
#include "lib/shm/slot.h"
#include "lib/shm/task.h"

enum { STEP_SUPERVISOR = 0, STEP_VICTIM = 1, STEP_OTHER = 2, STEP_SLOTS = 6, STEP_POOL = 0 };

struct step_case {
    const char *name;
    void (*setup)(struct shm *supervisor); /* in the parent, before the child exists */
    void (*prepare)(struct shm *victim);   /* in the child, not stepped */
    void (*op)(struct shm *victim);        /* stepped */
    /* Judges a copy in which the victim is dead; `finished`: op() had returned. NULL: fine, else
     * what is wrong. */
    const char *(*verify)(struct shm *copy, bool finished);
    uint32_t victim;   /* slot of the stepped process; 0: STEP_VICTIM */
    const void *image; /* start from this segment (of step_size bytes) instead of a new one */
    /* From up to so many copies in which the victim had a transaction under way, evenly spread: who recovers it is killed, too. */
    uint32_t rescues;
    uint32_t rescuer;  /* its slot; 0: STEP_OTHER */
    bool instructions; /* every instruction is stepped, not only those that store */
    uint64_t *ret_sum; /* if set: of all states judged, in order */
};

extern const uint64_t step_size;
/* A segment with a pool, and slots for all; of step_size bytes. */
void *step_new_segment(void);

/* Runs the case. How many rescues there were. */
uint32_t step_run(const struct step_case *c);
/* Tells of something else that was tried. bad: what is wrong, or NULL. */
void step_line(const char *name, const char *bad);
/* After the last one. What main() returns. */
int step_end(void);

/* A handle on the segment at base for a slot that this process (the parent) plays itself. */
struct shm step_handle(void *base, uint32_t slot);
/* A copy of the segment as it is, for this process to foresee in it what the victim does; good until the next one is made. */
struct shm step_foresee(const struct shm *s, uint32_t slot);
/* Marks the owner of a slot dead, as the kernel does. */
void step_mark_dead(struct shm *s, uint32_t slot);
/* Buries the slot, ends what it ran as LOST, releases it. NULL, or what is wrong. */
const char *step_recover(struct shm *s, uint32_t slot);

/* Whether the segment is sound. NULL, or `when`. */
const char *step_check(struct shm *s, const char *when, uint64_t *ret_blocks);
/* Gives back what can be given back. NULL, or what is wrong. */
const char *step_tidy(struct shm *s);
/* The same, and nothing is left but the pool. */
const char *step_check_end(struct shm *s);
/* Removes every key first. */
const char *step_remove_all(struct shm *s);

struct step_counts {
    uint32_t done_by_us;         /* tasks that were still queued and that we have run now */
    uint32_t state[TASK_STATES]; /* ended tasks by state, ours included */
    uint32_t bad_output;         /* done by the victim, and not what it should have written */
};
/* Releases what waits, runs every queued task, counts and frees everything that has ended, and checks that nothing is
 * left. */
const char *step_settle(struct shm *s, struct step_counts *ret);
