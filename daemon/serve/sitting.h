/* SPDX-License-Identifier: MIT */
/* Those who sit on a lock in the segment, alive, for longer than lock_timeout. */
#pragma once

#include "daemon/serve/conn.h"

/* The command in hand could not be done for a lock, once more. True: it has waited long enough, and was answered with BUSY;
 * false: it is to be tried again. */
bool sitting_ends_wait(struct conn *c);
