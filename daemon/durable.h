/* SPDX-License-Identifier: MIT */
/* Durable tasks: what is accepted, and how it ended, is in a database on the disk before anybody is told, and survives the loss
 * of the segment and of power. One thread. Without a database everything here does nothing but refuse. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/hearthd.h"
#include "lib/shm/task.h"

/* Opens the database of the configuration, if it has one. 0 or -errno, logged. Before the pools. */
int durable_open(struct hearthd *d);
void durable_close(struct hearthd *d);

/* May a durable task be accepted? 0; -ENODEV: there is no database; -EIO: it cannot be written, durable_why() says why. */
int durable_may(const struct hearthd *d);
const char *durable_why(const struct hearthd *d);

/* Puts down a task, from its record, that it is tried again, its end, that it is forgotten: the number of the batch (later ones are
 * larger); 0: it cannot be, -EIO and -ENOMEM alike. */
uint64_t durable_task(struct hearthd *d, uint32_t idx);
uint64_t durable_attempt(struct hearthd *d, uint32_t idx);
uint64_t durable_end(struct hearthd *d, uint32_t idx, const struct task_view *v);
uint64_t durable_forget(struct hearthd *d, uint32_t idx, uint64_t id);
/* Is everything up to that batch on the disk? */
bool durable_is_done(const struct hearthd *d, uint64_t batch);
/* Of the last change that was put. */
uint64_t durable_last(const struct hearthd *d);

/* Called when more is on the disk, or (trouble: why) cannot be written for now. Set by serve/ and tasks/. */
typedef void durable_fn(struct hearthd *d, uint64_t done, const char *trouble);
void durable_on_change(struct hearthd *d, int which, durable_fn *fn);
void durable_tell(struct hearthd *d);
enum { DURABLE_TASKS, DURABLE_SERVE, DURABLE_LISTENERS };
/* Hands over what was put in this turn. After everything else, before the loop sleeps. */
void durable_turn(struct hearthd *d);

/* Durable objects (lib/shm/dirty.h) are to be written down, and can be. */
bool durable_has_news(const struct hearthd *d);
/* Nothing that was noted is yet to be written. */
bool durable_is_clean(const struct hearthd *d);
/* The drain that has everything that was committed before now; it is on the disk when durable_drained() has come to it. */
uint64_t durable_next_drain(const struct hearthd *d);
uint64_t durable_drained(const struct hearthd *d);

/* Waits until all that was put is on the disk, or cannot be, or until_ns. When the loop has ended. */
void durable_drain(struct hearthd *d, uint64_t until_ns);

/* The names of the pool's handlers that durable tasks name, each with a NUL, into buf (a struct buf). */
int durable_handlers(struct hearthd *d, const char *pool, struct buf *ret);
/* Before tasks_recover(): of a segment that is new, restores the tasks that the database has; of one that is a former daemon's,
 * drops the rows of tasks that it does not have any more. 0 or -errno, logged. */
int durable_recover(struct hearthd *d);
