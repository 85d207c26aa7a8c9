/* SPDX-License-Identifier: MIT */
/* What is known of a task, as TASK.STATUS, TASK.LIST and DEAD.* tell it. */
#pragma once

#include "daemon/serve/conn.h"

/* TASK.STATUS's map. */
void status_reply(struct conn *c, uint32_t idx, const struct task_view *v);
/* One of TASK.LIST. */
void status_reply_short(struct conn *c, uint32_t idx);
/* One of DEAD.LIST. */
void status_reply_dead(struct conn *c, uint32_t idx, const struct task_view *v);
/* Looks an id up, its end delivered if there is one. False: not known, and replied. */
bool status_look_up(struct conn *c, const struct resp_arg *id, uint32_t *ret_idx);
/* False when the record is damaged, and replied. */
bool status_view(struct conn *c, uint32_t idx, struct task_view *ret);
/* The task was submitted by the user of this connection, or he is an administrator: who else may see it may not steer it. */
bool status_is_ours(struct conn *c, uint32_t idx);
/* Its end has been told to this connection. That counts as fetched if the task is ours. */
void status_told(struct conn *c, uint32_t idx);
