/* SPDX-License-Identifier: MIT */
/* Connections as owners of locks and other synchronisation objects (lib/shm/sync.h): their seats in the segment, and how they
 * wait. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/serve/conn.h"

#define SYNC_FOR_EVER UINT64_MAX

/* What is said when the time is over, or there was none. */
enum sync_late { LATE_NULL, LATE_NULL_ARRAY, LATE_ZERO };

/* A command that may have to wait for its turn. */
struct sync_do {
    uint64_t shards; /* those of its keys */
    /* Inside of the operation, possibly more than once; what it had replied is dropped then. flags has SYNC_WAIT if it may
     * park. */
    int (*run)(struct shm *s, void *arg, unsigned flags);
    void *arg;
    /* Replies to an answer >= 0; NULL: run() has. Unless `again`, the words of the command may be gone by then. */
    void (*say)(struct conn *c, int answer);
    uint64_t timeout_ms; /* SYNC_FOR_EVER; 0: it does not wait */
    unsigned flags;      /* SYNC_NO_CHECK */
    enum sync_late late;
    bool died; /* the answer 1 is SYNC_DIED */
    /* What it waits for is a right to do it: its words are taken again when its turn has come (lib/shm/queue.h). */
    bool again;
};

int wait_sync_open(struct serve *s);
void wait_sync_close(struct serve *s);

/* Gives the connection a seat if it has none. False: there is none to be had, and it was replied. */
bool wait_sync_seat(struct conn *c);
/* The owner word that the connection acts for; 0: none yet. */
uint32_t wait_sync_owner(const struct conn *c);
/* It lets go of all that it holds: at its end, and by RESET. */
void wait_sync_conn_ends(struct conn *c);

/* For handlers with CMD_OWN_OPS | CMD_SEAT: carries it out and replies, or lets the connection wait. 0, or a negative errno
 * as handlers return it; -EINPROGRESS: it waits, and its words are to be kept. */
int wait_sync_do(struct conn *c, const struct sync_do *what);
/* The time of a connection that waits is over; with `error`: CLIENT UNBLOCK says so. Its answer may take a moment still. */
void wait_sync_over(struct conn *c, bool error);
/* The command in hand has waited already, and its words are taken again: it must not be refused now. */
static inline bool wait_sync_again(const struct conn *c) {
    return c->sync.again;
}
/* For block_end(). */
void wait_sync_forget(struct conn *c);
/* Answers those whose turn has come. */
void wait_sync_turn(struct serve *s);
bool wait_sync_has_news(const struct serve *s);

/* For INFO. */
struct wait_sync_stats {
    uint64_t seats, waiting;         /* now */
    uint64_t deadlocks, owners_died; /* told to connections since the start */
};
void wait_sync_stats(const struct serve *s, struct wait_sync_stats *ret);
