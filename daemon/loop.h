/* SPDX-License-Identifier: MIT */
/* One turn of the daemon: work, then wait for more. main.c calls it until it is time to end. */
#pragma once

#include "daemon/hearthd.h"

struct loop;

/* Needs everything of d open but serve. 0 or -errno. */
int loop_open(struct hearthd *d, struct loop **ret);
/* A turn is these two; between them the caller looks whether it is time to go. */
/* Does what there is to do in every room, bounded. */
void loop_work(struct loop *l);
/* Waits until there is more, unless there is already, and lets libevent's callbacks run. */
void loop_wait(struct loop *l);
/* STATUS= now, if it has changed; loop_wait() sees to it by itself within a second. */
void loop_tell_status(struct loop *l);
/* Accepts NULL. Returns NULL. */
struct loop *loop_close(struct loop *l);
