/* SPDX-License-Identifier: MIT */
/* Managers (lib/shm/manager.h) and the connections that have opened them. */
#pragma once

#include "daemon/serve/conn.h"

/* Ends what a daemon before us has left open in a kept segment. 0 or -ENOMEM. */
int managers_open(struct serve *s);
void managers_close(struct serve *s);
/* The connection ends: so do its managers. */
void managers_conn_ends(struct conn *c);
