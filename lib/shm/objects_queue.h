/* SPDX-License-Identifier: MIT */
/* Queues and pipes as a process uses them that has the segment mapped: queue.h and pipe.h say what the calls mean, objects.h how
 * results and errors go. ms: how long to wait; < 0: for ever, 0: not at all. -EBUSY: it would have had to wait and ms is 0;
 * -ETIMEDOUT: in vain; -EDEADLK: it would wait inside of a transaction. */
#pragma once

#include <stdint.h>

#include "lib/shm/objects.h"
#include "lib/shm/pipe.h"
#include "lib/shm/queue.h"

int objects_queue_create(struct objects *o, struct task_bytes name, const struct queue_params *p);
/* Puts all n, waiting for room: how many; fewer when the time is over, or it is closed, after some; else the error. */
int64_t objects_queue_put(struct objects *o, struct task_bytes name, const struct task_bytes *items,
                          size_t n, int64_t ms);
/* Up to `max` items, waiting for the first. leases: room for `max`, or NULL. */
int objects_queue_get(struct objects *o, struct task_bytes name, uint64_t max, int64_t ms,
                      const struct task_bytes **ret, size_t *ret_n, uint64_t *leases);
int objects_queue_done(struct objects *o, struct task_bytes name, uint64_t lease);
int objects_queue_extend(struct objects *o, struct task_bytes name, uint64_t lease, int64_t ms);
int objects_queue_return(struct objects *o, struct task_bytes name, uint64_t lease);
int objects_queue_task_done(struct objects *o, struct task_bytes name);
int objects_queue_join(struct objects *o, struct task_bytes name, int64_t ms);
int objects_queue_close(struct objects *o, struct task_bytes name);
int objects_queue_view(struct objects *o, struct task_bytes name, struct queue_view *ret);

int objects_pipe_create(struct objects *o, struct task_bytes name, const struct pipe_params *p);
int objects_pipe_open(struct objects *o, struct task_bytes name, unsigned end);
int objects_pipe_close(struct objects *o, struct task_bytes name, unsigned end);
int objects_pipe_send(struct objects *o, struct task_bytes name, unsigned end,
                      struct task_bytes message, int64_t ms);
int objects_pipe_recv(struct objects *o, struct task_bytes name, unsigned end, int64_t ms,
                      struct task_bytes *ret);
/* 1: a message or the end is there, 0: not in time. */
int objects_pipe_poll(struct objects *o, struct task_bytes name, unsigned end, int64_t ms);
int objects_pipe_view(struct objects *o, struct task_bytes name, struct pipe_view *ret);
