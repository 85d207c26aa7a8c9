/* SPDX-License-Identifier: MIT */
/* The functions of struct hearth_sync: what a handler calls on locks, queues and pipes. */
#pragma once

#include <stdbool.h>

#include "worker/hearth_handler.h"

const struct hearth_sync *sync_table(void);
/* Whether this thread may hold something: sync_end_task() has to look then. */
bool sync_may_hold(void);
/* Between two tasks: lets go of what the one before (its id, or NULL) has left held on this thread, and logs that it had. */
void sync_end_task(const char *id);
