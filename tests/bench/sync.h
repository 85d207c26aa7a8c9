/* SPDX-License-Identifier: MIT */
/* What the files of the benchmark `sync` share. */
#pragma once

#include "lib/shm/objects.h"
#include "lib/shm/segment.h"

enum { SYNC_BENCH_HANDLES = 4 };

/* A segment, and handles with slots of their own on it: one for this process, the others for its children. */
struct sync_bench {
    struct shm shm[SYNC_BENCH_HANDLES];
    struct objects objects[SYNC_BENCH_HANDLES];
};
int sync_bench_open(struct sync_bench *b); /* 0 or -errno */
void sync_bench_close(struct sync_bench *b);

/* The measurements; 0 or -errno. */
int sync_bench_locks(void);
int sync_bench_queue(void);
