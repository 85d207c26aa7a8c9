/* SPDX-License-Identifier: MIT */
/* The end of a group, told on its channel. */
#pragma once

#include "daemon/groups.h"
#include "daemon/serve/conn.h"

#define GROUP_CHANNEL "group:"

/* For groups_on_complete(). */
void group_complete(struct hearthd *d, const struct task_group *g);
/* Somebody subscribes to a channel that begins so: one that is complete already is told at once. */
void group_subscribed(struct conn *c, const struct resp_arg *channel);
