/* SPDX-License-Identifier: MIT */
/* Bounded lock-free rings of hints. A death may lose or double a hint, never block the ring: see
 * ring.c. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/shm/layout.h"
#include "lib/shm/segment.h"

/* entries: `capacity` (a power of two) zeroed words at entries_off. */
void ring_init(struct shm_ring *ring, uint64_t entries_off, uint64_t capacity);
/* 0, -ENOBUFS (full), -EBADMSG (the ring is damaged). */
int ring_put(struct shm *s, struct shm_ring *ring, uint32_t value);
/* Writes value + 1 to *hand before the ring gives the value up, so that a death in between leaves a
 * trace. 0, -EAGAIN (empty), -EBADMSG. */
int ring_take(struct shm *s, struct shm_ring *ring, _Atomic uint64_t *hand, uint32_t *ret);
/* What the next take would give, perhaps. 0, -EAGAIN (empty), -EBADMSG. */
int ring_peek(struct shm *s, struct shm_ring *ring, uint32_t *ret);
bool ring_is_empty(struct shm *s, struct shm_ring *ring);
uint64_t ring_length(struct shm_ring *ring); /* approximate */
