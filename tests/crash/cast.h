/* SPDX-License-Identifier: MIT */
/* Steps of what one process does to others: the victim of step.h in the midst of those who hold and wait, connections with seats and a
 * slot that sleeps. A case is who has done what before, and what the victim does. After each death and burial all must be as if
 * the victim had died before the operation, or just after it; whoever has an answer is told; and when all have gone
 * nothing is left. */
#pragma once

#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/shm/segment.h"

enum { CAST_ME, CAST_SEATS = 5, CAST_SLOT = CAST_SEATS + 1, CAST_PEOPLE, CAST_PREP = 10 };
enum { CAST_BURY = -1 }; /* the end of `who`; in `prep` a connection, which comes again */

/* By whom (CAST_ME: the victim; 1 .. CAST_SEATS: a connection; CAST_SLOT: the one that sleeps), and what: a verb of the test's own. */
struct cast_act {
    unsigned who;
    int verb;
    const char *word; /* NULL: no act */
    int64_t n;
};

enum {
    CAST_AGAIN = 1, /* what was begun is done again from the start, and then it is as after */
    CAST_DEAD = 2,  /* the slot that sleeps has died before the operation, and is not buried */
};

struct cast_case {
    const char *name;
    struct cast_act prep[CAST_PREP], op;
    unsigned how;
    uint64_t n; /* for judge_end() */
};

struct cast {
    /* As `owner` (0: the handle's own slot). */
    int64_t (*act)(struct shm *s, uint32_t owner, const struct cast_act *a);
    /* Whether an operation may say that. */
    bool (*may_say)(int64_t r);
    /* All that may change, as text; inside of an operation. */
    void (*dump)(struct shm *s, struct buf *b);
    /* When all have gone, before the keys are removed. NULL, or what is wrong. */
    const char *(*judge_end)(struct shm *s, const struct cast_case *c);
};

/* Runs the cases that have `only` in their names (NULL: all). What main() returns. */
int cast_run(const struct cast *cast, const struct cast_case *cases, size_t n, const char *only);
