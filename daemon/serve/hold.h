/* SPDX-License-Identifier: MIT */
/* Replies that wait for the disk. */
#pragma once

#include "daemon/serve/conn.h"

/* The reply that begins at `start` (bytes of output before it) is of durable tasks that have just been submitted: neither it nor
 * what follows is sent before they are on the disk. If they cannot be put there the reply becomes an error, and they are taken
 * back (but for older ones, as of submit_task()). Does nothing for tasks that are not durable. */
void hold_reply(struct conn *c, size_t start, const struct task_ref *refs, uint32_t n);
/* The same for a command, or EXEC, that has changed durable keys; those stay as they are. */
void hold_objects(struct conn *c, size_t start);
/* Bytes of output that may be sent now. */
size_t hold_limit(const struct conn *c);
void hold_forget(struct conn *c);
/* For durable_on_change(). */
void hold_turn(struct hearthd *d, uint64_t done, const char *trouble);
