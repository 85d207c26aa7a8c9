/* SPDX-License-Identifier: MIT */
/* Telling events to those who listen or wait for them. */
#pragma once

#include "daemon/serve/conn.h"

#define EVENTS_CHANNEL "events:" /* and the type's name */

/* Once in a turn: publishes what has happened since the last one, and answers readers. */
void events_push_turn(struct serve *s);
/* Is there somebody to be told something? */
bool events_push_has_news(const struct serve *s);
/* The reply to an EVENTS.READ whose time is over. */
void events_reply_over(struct conn *c);
