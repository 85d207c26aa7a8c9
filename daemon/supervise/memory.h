/* SPDX-License-Identifier: MIT */
/* How much memory there is for more workers. */
#pragma once

#include <stdint.h>

struct memory_room {
    uint64_t available; /* bytes until the nearest limit; UINT64_MAX: nothing is known */
    uint64_t total;     /* of which */
    const char *limit;  /* "its cgroup" or "the machine"; NULL: nothing is known */
    uint32_t
        pressure; /* % of the last 10 s that somebody waited for memory; 0: none, or not known */
};

/* As of now: some reads of small files, no allocation. */
void memory_look(struct memory_room *ret);
