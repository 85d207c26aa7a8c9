/* SPDX-License-Identifier: MIT */
/* The segment, and where it outlives the daemon. One thread. */
#pragma once

#include <stdbool.h>

#include "daemon/hearthd.h"

/* Takes back the segment that a former daemon left, or makes one; sets d->shm, with a slot of this daemon's, d->kept (it
 * outlives us) and d->found (it is a former daemon's, to be recovered). 0 or -errno, logged. */
int keep_open(struct hearthd *d);
/* Lets go of it. `all_done`: nothing in it is worth keeping for a successor, if nobody has asked for it to be kept. */
void keep_close(struct hearthd *d, bool all_done);
/* Logs how to start without the segment that was found, which cannot be taken over. */
void keep_advise(const struct hearthd *d);
/* Where the segment is, in words: "the service manager's file descriptor store", a path, "memory of its own". */
const char *keep_where(const struct hearthd *d);
