/* SPDX-License-Identifier: MIT */
/* The daemon's supervisor: starts the pools' zygotes, has them fork workers, watches both, replaces
 * what dies, keeps the time limits, and ends everything when the daemon stops. main.c and loop.c
 * use it; serve/ only reads what it keeps in d->pools and d->workers. One thread; every function
 * returns at once, but for supervise_close(). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/hearthd.h"

/* Makes d->pools (from d->config) and d->workers, defines the pools in the segment, and starts all
 * zygotes at once. Needs d->base, d->shm with the daemon's slot attached, d->bell_fd; sets
 * d->supervise. 0 or -errno, the reason logged. */
int supervise_open(struct hearthd *d);

/* One turn: buries the dead, moves workers on, kills what is over its time. Cheap when there is no
 * news. */
void supervise_turn(struct hearthd *d);
/* There is something for the next turn: do not sleep. */
bool supervise_has_news(struct hearthd *d);

/* Before `next` takes over from d->config: makes room for its pools. 0; -EINVAL or -ENOMEM: it cannot,
 * *err says why. A queue_max that is over what the pool's ring holds is given its former value, and
 * `plan` says so. */
int supervise_prepare(struct hearthd *d, struct config *next, struct buf *plan,
                      struct config_error *err);
/* d->config is another one, which has been prepared: every pool follows. */
void supervise_configure(struct hearthd *d, struct buf *plan);

/* Starting: true once all pools' first workers are warm. */
bool supervise_ready(struct hearthd *d);
/* Starting: why it cannot, or NULL. Afterwards a pool that fails only becomes FAILING. */
const char *supervise_start_error(struct hearthd *d);

/* Workers finish the task in hand and leave; what still runs at deadline_ns is killed and ends
 * LOST, CAUSE_STOPPING. */
void supervise_stop(struct hearthd *d, uint64_t deadline_ns);
/* True once no worker and no zygote is left, but for workers that are to be handed over. */
bool supervise_stopped(struct hearthd *d);
/* Then: leaves these to the next daemon. supervise_close() does not touch them any more. */
void supervise_hand_over(struct hearthd *d);

/* Kills every process that is left, waits for them, frees everything. Accepts d->supervise == NULL.
 */
void supervise_close(struct hearthd *d);

/* Slots that the configured pools need, and mapped clients; the daemon's own included. */
uint32_t supervise_slots(const struct config *c);
