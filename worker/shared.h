/* SPDX-License-Identifier: MIT */
/* The functions of struct hearth_objects: what a handler calls on shared objects. */
#pragma once

#include "lib/shm/objects.h"
#include "lib/shm/segment.h"
#include "lib/shm/task.h"
#include "worker/hearth_handler.h"

/* From now on the table works on this segment, with the handle's slot, for this thread. */
void shared_init(struct shm *s);
/* The task whose cancelling ends a wait; NULL: none. */
void shared_set_task(const struct task_ref *t);
const struct hearth_objects *shared_table(void);
/* This thread's handle; NULL before shared_init(). */
struct objects *shared_objects(void);
