/* SPDX-License-Identifier: MIT */
/* Looking for a while before a wait sleeps, for as long as that has been worth it of late. Not for anybody outside of lib/shm. */
#pragma once

#include <stdbool.h>

#include "lib/shm/segment.h"

/* Until when to look, from *ret_now on; 0: not at all this time. What came of it is then told to one of the next two. */
uint64_t spin_until(struct shm *s, struct spin *b, uint64_t *ret_now);
void spin_paid(struct spin *b);
void spin_in_vain(struct spin *b);

/* All of that for who waits for a sync object. True: there is news. */
bool spin_for(struct shm *s, bool (*news)(const void *arg), const void *arg);
