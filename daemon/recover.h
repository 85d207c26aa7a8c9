/* SPDX-License-Identifier: MIT */
/* Taking over what a former daemon has left in the segment. One thread. Each does nothing if d->found is false. */
#pragma once

#include "daemon/hearthd.h"

/* First: ends what the former daemon's workers were at, and buries its dead. 0 or -errno, logged. */
int recover_slots(struct hearthd *d);
/* Once the pools are there, and before anything is submitted: its tasks go on. 0 or -errno, logged. */
int recover_tasks(struct hearthd *d);
