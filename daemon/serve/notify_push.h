/* SPDX-License-Identifier: MIT */
/* The ends of tasks, told to those who asked: RESP3 pushes (TASK.NOTIFY ON) and the channels
 * task:<id> and tasks:<client id>. */
#pragma once

#include "daemon/serve/conn.h"

/* For tasks_on_ended(). True when the result has reached somebody it was meant for. */
bool notify_ended(struct hearthd *d, uint32_t idx, const struct task_view *v);
/* c has just subscribed to `channel`: if that is task:<id> of a task that has ended, tells it at
 * once. */
void notify_subscribed(struct conn *c, const struct resp_arg *channel);
/* Channels that only the daemon publishes to. */
bool notify_is_reserved(const struct resp_arg *channel);
