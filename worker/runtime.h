/* SPDX-License-Identifier: MIT */
/* The life of a worker, from the moment it stands on its own feet to its end. */
#pragma once

#include <stdint.h>

#include "lib/shm/segment.h"
#include "worker/module.h"
#include "worker/options.h"

/* A slot that is reserved for a thread of this worker. */
struct runtime_seat {
    uint32_t slot, gen;
};

/* Serves n slots (1 to THREADS_MAX) of the attached segment, each on a thread, until told to exit. m is the pool's module, or NULL in an
 * exec pool. Returns the exit status for the process. The handle is this process's own (its slot
 * not yet attached). group: cgroup.procs of the worker's control group, or -1; consumed. */
int runtime_serve(const struct options *o, const struct module *m, struct shm *s,
                  const struct runtime_seat *seats, uint32_t n, int group);
/* The same for the one task that is ordered for this seat. Exit status 0: it is done; 1: it has failed, or could not be begun. */
int runtime_once(const struct options *o, const struct module *m, struct shm *s,
                 const struct runtime_seat *seat);
