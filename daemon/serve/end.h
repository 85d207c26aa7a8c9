/* SPDX-License-Identifier: MIT */
/* How a task ended, as clients are told. */
#pragma once

#include "daemon/serve/conn.h"

enum { END_CAUSE = 2048 };

/* One line for people: "" when it is done, "error 3: no such file", "signal 9 (SIGKILL)". Returns
 * its length. */
size_t end_cause(struct hearthd *d, uint32_t idx, const struct task_view *v, char out[END_CAUSE]);
/* status, result or null, cause: three values appended to `to`. 0 or -ENOMEM. */
int end_put(struct conn *c, struct buf *to, uint32_t idx, const struct task_view *v);
/* TASK.CALL's reply: the result, or an error. */
void end_reply_call(struct conn *c, uint32_t idx, const struct task_view *v);
/* TASK.WAIT's: [id, status, result, cause]. */
void end_reply_wait(struct conn *c, uint32_t idx, const struct task_view *v);
/* TASK.RESULT's: [status, result, cause]. */
void end_reply_result(struct conn *c, uint32_t idx, const struct task_view *v);
