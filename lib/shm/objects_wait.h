/* SPDX-License-Identifier: MIT */
/* What the files objects_sync*.c share. Not for anybody else. */
#pragma once

#include "lib/shm/objects_run.h"
#include "lib/shm/objects_sync.h"

/* One call: what it was asked and what it answers. */
struct sync_ask {
    struct objects *o;
    struct key_name name, to;
    bool also; /* `to` is in use */
    unsigned flags;
    uint64_t n;
    bool yes;
    void *view;
    int64_t ret;
};
typedef int sync_fn(struct shm *s, void *ask);

struct sync_ask objects_sync_ask(struct objects *o, struct task_bytes name, unsigned flags);
/* Runs fn, and waits for the answer if it stands in line. */
int objects_sync_wait(struct sync_ask *a, int64_t ms, sync_fn *fn);
/* Runs fn, which does not wait. */
int objects_sync_change(struct sync_ask *a, sync_fn *fn);
/* The same without a lock if possible. */
int objects_sync_look(struct sync_ask *a, sync_fn *fn);
