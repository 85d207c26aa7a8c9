/* SPDX-License-Identifier: MIT */
/* One turn of the daemon: work, then wait for more. main.c calls it until it is time to end. */
#pragma once

#include "daemon/hearthd.h"

struct loop;

/* Needs everything of d open but serve. 0 or -errno. */
int loop_open(struct hearthd *d, struct loop **ret);
/* Does what there is to do in every room, bounded, then waits until there is more. */
void loop_turn(struct loop *l);
/* Accepts NULL. Returns NULL. */
struct loop *loop_close(struct loop *l);
