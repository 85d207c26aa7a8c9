/* SPDX-License-Identifier: MIT */
/* What Hearth is held against in the benchmark `peers`: things that run work for others. Each is started privately, with two
 * workers, and measured by the same rows. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "tests/bench/objects.h"

enum peer_row {
    ROW_CALL,    /* a no-op, one at a time */
    ROW_FLIGHT,  /* no-ops, PEER_FLIGHT under way */
    ROW_MAP,     /* a map of no-ops in pieces: Python's Pool.map of an eighth each, ours TASK.MAP */
    ROW_EACH,    /* a map with a task for each */
    ROW_LARGE,   /* 1 MiB there and back */
    ROW_COMMAND, /* /bin/true by the peer's command line, one at a time */
    ROW_QUEUED,  /* /bin/true, many at once */
    PEER_ROWS
};
enum { PEER_FLIGHT = 32, PEER_LARGE = 1 << 20, PEER_WORKERS = 2, PEER_LIMIT_MS = 30000 };

struct peer {
    const char *name;
    /* 1: it runs; 0: it is not installed; -errno. After anything but 1 there is nothing to close. */
    int (*open)(struct peer *p);
    /* Runs a row's work n times. 0, -ENOTSUP: it has no such thing; other failures. */
    int (*run)(struct peer *p, enum peer_row row, unsigned n);
    void (*close)(struct peer *p);
    const void *kind;             /* what tells peers of one implementation apart */
    void *state;                  /* of the implementation; NULL: not open */
    pid_t pids[1 + PEER_WORKERS]; /* its processes; those below them belong to it too */
};

/* gearmand, redis-server and beanstalkd as queues (peers_queue.c). */
struct queue_protocol;
extern const struct queue_protocol queue_gearmand, queue_redis, queue_beanstalkd;
int queue_open(struct peer *p);
int queue_run(struct peer *p, enum peer_row row, unsigned n);
void queue_shut(struct peer *p);
