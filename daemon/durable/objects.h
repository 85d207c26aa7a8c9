/* SPDX-License-Identifier: MIT */
/* Durable objects: what the segment's journal names (lib/shm/dirty.h) is copied into the database's next batch. Not for anybody
 * but daemon/durable. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/durable.h"
#include "daemon/durable/journal.h"

struct event;

struct durable {
    struct journal *journal;
    int lock; /* of the database: no other daemon has it */
    struct event *ready, *retry;
    uint64_t done, last;
    bool troubled;
    durable_fn *fn[DURABLE_LISTENERS];
    /* of the objects: a drain copies all that is noted into one batch */
    uint64_t drains_begun, drains_done;
    uint64_t batch;  /* that of the drain under way; 0: none */
    uint64_t taken;  /* shards to be cleared when it is on the disk, ... */
    bool clearing;   /* ... which it is */
    bool complained; /* that it cannot be copied */
    bool again;      /* a lock was busy; the timer is set */
};

/* There is no database. */
void objects_journal_none(struct hearthd *d);
/* Restores the objects into a segment that is new; reconciles one that is not. 0 or -errno, logged. */
int objects_journal_open(struct hearthd *d);
/* At the end of a turn, before the batch is handed over. */
void objects_journal_turn(struct hearthd *d);
/* More is on the disk, or there is trouble. */
void objects_journal_looked(struct hearthd *d);
/* Something is to be taken, and nothing keeps us from it. */
bool objects_journal_has_news(const struct hearthd *d);
/* All that was noted is on the disk. */
bool objects_journal_is_clean(const struct hearthd *d);

/* restore.c */
int objects_restore(struct hearthd *d);
int objects_reconcile(struct hearthd *d);
