/* SPDX-License-Identifier: MIT */
/* Looking for a while before a wait for a sync object sleeps. Not for anybody outside of lib/shm. */
#pragma once

#include <stdbool.h>

#include "lib/shm/segment.h"

/* True: there is news. False: not in the time that looking has been worth of late, which may be none. */
bool spin_for(struct shm *s, bool (*news)(const void *arg), const void *arg);
