/* SPDX-License-Identifier: MIT */
/* The ends of tasks, told to those who asked: RESP3 pushes (TASK.NOTIFY ON) and the channels
 * task:<id> and tasks:<client id>. */
#pragma once

#include "daemon/serve/conn.h"
#include "daemon/serve/end.h"
#include "daemon/serve/pubsub.h"

enum { NOTIFY_HEAD_MAX = TASK_ID_TEXT + 32 + END_CAUSE };

struct follow;
/* For tasks_on_ended(). True when the result has reached somebody it was meant for. */
bool notify_ended(struct hearthd *d, uint32_t idx, const struct task_view *v);
/* The message of an end, with the result or without; its line is in head. */
struct message notify_message(struct hearthd *d, uint32_t idx, const struct task_view *v,
                              bool result, char head[NOTIFY_HEAD_MAX]);
/* c has just subscribed to `channel`: if that is task:<id> of a task that has ended, tells it at once; if it is task:<id>:stream,
 * gives it what is kept, and follows the task or tells the end. *place is the channel's. */
void notify_subscribed(struct conn *c, const struct resp_arg *channel, struct follow **place);
/* The end of this task, whoever has submitted it, is pushed to c; at once, if it has ended. 0, also when that is so already, or
 * -ENOMEM. */
int notify_task(struct conn *c, uint32_t idx);
void notify_conn_ends(struct conn *c);
/* Channels that only the daemon publishes to. */
bool notify_is_reserved(const struct resp_arg *channel);
