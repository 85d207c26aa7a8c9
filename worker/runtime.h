/* SPDX-License-Identifier: MIT */
/* The life of a worker, from the moment it stands on its own feet to its end. */
#pragma once

#include <stdint.h>

#include "lib/shm/segment.h"
#include "worker/module.h"
#include "worker/options.h"

/* Serves slot/gen of the attached segment until told to exit. m is the pool's module, or NULL in an
 * exec pool. Returns the exit status for the process. The handle is this process's own (its slot
 * not yet attached). */
int runtime_serve(const struct options *o, const struct module *m, struct shm *s, uint32_t slot,
                  uint32_t gen);
