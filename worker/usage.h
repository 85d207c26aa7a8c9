/* SPDX-License-Identifier: MIT */
/* The processor time of a task that runs in the worker itself, on the calling thread. */
#pragma once

#include <stdint.h>

#include "lib/shm/task.h"

/* Before a task that was claimed at started_ns. */
void usage_begin(uint64_t started_ns);
/* After it: sets the times of *o. */
void usage_end(uint64_t started_ns, struct task_outcome *o);
