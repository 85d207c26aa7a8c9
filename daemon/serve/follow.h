/* SPDX-License-Identifier: MIT */
/* Connections that follow tasks: what a task tells while it runs goes to them as pushes (TASK.SUBMIT ... STREAM, TASK.LOG FOLLOW),
 * and to who listens to its channel as messages. */
#pragma once

#include "daemon/serve/conn.h"
#include "lib/shm/stream.h"

struct follow;

#define STREAM_CHANNEL ":stream" /* task:<id>:stream */

/* Pushes what the task tells to c, beginning with what is kept. end: and its end too, for who is no submitter with
 * TASK.NOTIFY ON. The task has not ended. 0 (also when c follows it already) or -ENOMEM. */
int follow_task(struct conn *c, uint32_t idx, bool end);
/* c listens to the channel of a task that has not ended. *place is the channel's own, NULL before the first. */
void follow_channel(struct conn *c, struct follow **place, uint32_t idx);
/* Nobody listens to the channel any more. Accepts NULL. */
void follow_drop(struct follow *f);
/* What is kept of a task that has ended, as pushes or as messages of its channel. */
void follow_replay(struct conn *c, uint32_t idx, uint64_t id, bool push);
/* Bytes of an ended command, as one push. */
void follow_push_bytes(struct conn *c, uint32_t idx, uint64_t id, enum stream_kind kind,
                       const struct task_bytes *bytes);
/* The end of a task, as a push without the result. */
void follow_push_end(struct conn *c, uint32_t idx, const struct task_view *v);
/* The connection has less output than before: its tasks may go on. */
void follow_drained(struct conn *c);
void follow_conn_ends(struct conn *c);
