/* SPDX-License-Identifier: MIT */
/* Walks the whole segment and accounts for every block: free, owned by exactly one word, or an
 * error. */
#pragma once

#include <stdint.h>

#include "lib/shm/segment.h"

struct shm_report {
    uint64_t errors;              /* 0: all is well */
    char first[160];              /* the first error, for people */
    uint64_t blocks, block_bytes; /* live blocks, as allocated */
    uint64_t runs, chunks_used;
    uint32_t tasks[16];  /* records by state */
    uint32_t dead_slots; /* slots whose owner is dead and not yet buried */
};

/* Nobody may be changing the segment meanwhile (tests, fsck, attach after a crash). Never loops,
 * never reads outside, whatever the segment holds. 0 (see ret->errors) or -ENOMEM. */
int shm_check(struct shm *s, struct shm_report *ret);

/* The same while others live: holds every lock meanwhile, so that no block is taken or given back; everybody else waits. Task
 * records change without a lock: what seems wrong of them is looked at again, some times. -EAGAIN: a lock is busy; -EPERM: the
 * handle has no slot. */
int shm_check_live(struct shm *s, struct shm_report *ret);
