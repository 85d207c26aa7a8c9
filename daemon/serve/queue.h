/* SPDX-License-Identifier: MIT */
/* The time limits of leases on queues' items: cmd_queue.c. */
#pragma once

#include "daemon/serve/conn.h"

int queues_open(struct serve *s);
void queues_close(struct serve *s);
/* Once a turn. */
void queues_turn(struct serve *s);
/* There is something for queues_turn(). */
bool queues_have_news(const struct serve *s);
