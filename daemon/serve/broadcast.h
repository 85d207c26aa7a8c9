/* SPDX-License-Identifier: MIT */
/* POOL.BROADCAST under way. */
#pragma once

#include "daemon/serve/conn.h"

/* The connection waits no more; the tasks go on. */
void broadcast_forget(struct conn *c);
