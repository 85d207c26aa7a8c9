/* SPDX-License-Identifier: MIT */
/* The functions of struct hearth_api, and running one claimed task through a module's handler. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/shm/segment.h"
#include "lib/shm/task.h"
#include "worker/hearth_handler.h"
#include "worker/module.h"

/* What api->fail(NULL, ...) said last; "" when nothing. */
const char *api_why(void);

/* Whether the handler of a task has asked for this worker's end. */
bool api_retires(void);

/* The table, for a process that serves pool (kept, not copied) as this worker (-1: the zygote). The
 * same table each time. */
const struct hearth_api *api_init(const char *pool, int worker);

/* On each thread that runs tasks, before its first: this is its number as a worker, and `process` the
 * handle whose slot speaks for the whole process. */
void api_thread(struct shm *process, int worker);

/* Runs the handler of a claimed task and says how it ended. v is a view of it. Allocates nothing
 * per task unless it has arguments; one task at a time on a thread. */
void api_run(const struct module *m, struct shm *s, const struct task_ref *ref,
             const struct task_view *v, uint64_t max_output, struct task_outcome *ret);
