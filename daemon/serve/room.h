/* SPDX-License-Identifier: MIT */
/* Submitters that wait for room in a pool's queue (overflow = "block"). */
#pragma once

#include "daemon/serve/submit.h"

/* Nobody waits for room in this pool, or this connection is the one whose turn it is. */
bool room_is_ours(const struct conn *c, const struct pool *p);
/* The queue is full. True: the connection waits for room for n tasks of `bytes` in all; the command
 * returns -EBUSY, and its words are taken again when there is some. False: it is to be refused. */
bool room_wait(struct conn *c, const struct submit_words *w, uint32_t n, uint64_t bytes);
/* Its wait is over, whether it came to anything or not: block.c. */
void room_leave(struct conn *c);
/* Lets those go on for whom there is room now, one of each pool. */
void room_turn(struct serve *s);
bool room_has_news(struct serve *s);
