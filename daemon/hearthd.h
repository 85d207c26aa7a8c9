/* SPDX-License-Identifier: MIT */
/* What the rooms of the daemon share: one struct hearthd, its pools and its workers. supervise/
 * changes pools and workers, serve/ only reads them; tasks/ keeps the book of tasks for both;
 * main.c owns the loop and joins them. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/config.h"
#include "lib/base/list.h"
#include "lib/shm/segment.h"

struct buf;
struct event_base;
struct tasks;
struct schedule;
struct groups;
struct slow;
struct events;
struct timetable;
struct streams;
struct durable;
struct supervise;
struct serve;
struct users;
struct lease;
struct procs;

/*  STARTING --all first workers warm--> READY <--warm again-- FAILING (back-off; last_error: why)
 *  any --stop--> STOPPING   */
enum pool_state { POOL_STARTING, POOL_READY, POOL_FAILING, POOL_STOPPING };
extern const char *const pool_state_names[]; /* "starting" "ready" "failing" "stopping" */

struct pool_counters {
    uint64_t submitted, done, failed, lost, timeout, cancelled, expired;
    uint64_t submitted_bytes;        /* payloads and arguments */
    uint64_t retried, retried_bytes; /* queued again after a failed attempt */
    uint64_t cancelled_queued;       /* ended by the daemon while queued, ... */
    uint64_t cancelled_queued_bytes;
    uint64_t buried_claims; /* claims by workers that are gone, ... */
    uint64_t buried_bytes;  /* so that queued = submitted + retried - claims - these */
    uint64_t spawned, deaths, recycled, spawn_failures;
    uint64_t busy_refused;
    uint64_t dropped; /* for newer ones: overflow = "drop_oldest" */
};

struct pool {
    uint32_t index; /* in hearthd.pools and in the segment */
    const struct pool_config *config;
    enum pool_state state;
    char **handlers; /* as the zygote reported them; the index is the handler's number */
    uint32_t n_handlers;
    bool
        handlers_adopted; /* they are a former daemon's, and no worker of ours has named them yet */
    bool handlers_kept;   /* a successor would find them in the segment */
    struct pool_counters count;
    uint64_t claims_seen, bytes_seen; /* sums over live workers at the last look: pool_queued() */
    struct list workers;              /* struct worker.in_pool */
    uint32_t n_workers;
    struct list waiting; /* struct lease.waiting: connections of workers that ask for a task */
    /* How many workers there are to be now (supervise/size.c), between min and max; what was last
     * decided about that ("" or "grow", "shrink", "refused"), why, and when (ms since 1970). */
    uint32_t target, min, max;
    const char *last_decision;
    char last_reason[160];
    uint64_t decided_ms;
    bool size_bell;   /* the supervisor wants to hear when tasks are queued */
    char *last_error; /* why the pool is failing, or why it last was; NULL: never */
    uint64_t backoff_until_ns;
    void *zygote;         /* supervise's own */
    struct config *owner; /* whose part `config` is; a reference */
    uint32_t queue_room;  /* what queue_max may be at most */
    bool
        removed; /* not in the configuration any more: takes no tasks; ends when it has none, ... */
    bool gone;   /* ... and has: it is as if it had never been, but for its name */
    const char *rolling; /* "" "starting" "replacing" "failed": a new version of its workers, ... */
    char *roll_error;    /* ... why the last one did not start; NULL: it did */
    uint32_t outdated;   /* workers still to be replaced */
    bool ordered;        /* tasks wait that are for one worker each: tasks_order() */
    bool paused_in;      /* takes no tasks */
    uint32_t look_ms; /* the least that SOFT or MEMORY of a task want; 0: nothing: pool_look_ms() */
    uint32_t wake;    /* tasks queued in this turn whose workers must still be woken:
                      hearthd_flush_wakes() */
};

struct worker {
    struct list in_pool;
    struct pool *pool;
    uint32_t slot, gen;
    pid_t pid;
    int pidfd;
    uint64_t spawned_ns, warm_ns;
    uint64_t
        kill_at_ns; /* 0: nothing planned; else the time of SIGKILL for the task in hand, ... */
    uint64_t kill_task_id; /* ... if it still is this task */
    int kill_cause;        /* enum task_cause to report */
    bool astray;           /* runs a task whose record is damaged: to be killed */
    void *supervise;       /* its own */
    struct lease *lease;   /* of a program's worker: daemon/lease.h; NULL: it has the segment */
};

struct hearthd {
    struct event_base *base;
    struct config *config;
    struct shm shm;
    int bell_fd;
    /* Processes of modules send the end of a socketpair through [1], which makes it a connection: serve/door.c. */
    int door_fds[2];
    struct pool *pools;
    uint32_t n_pools;
    struct worker **workers; /* by slot; NULL: none */
    struct users *users;     /* made by tasks_open() */
    struct tasks *tasks;
    struct schedule *schedule;
    struct groups *groups;
    struct slow *slow; /* NULL: nothing yet */
    struct events *events;
    struct timetable *timetable;
    struct streams *streams;
    struct cgroups *cgroups; /* daemon/supervise/cgroup.h; NULL: none */
    struct supervise *supervise;
    struct procs *procs; /* daemon/proc.h; made by supervise_open() */
    struct serve *serve;
    bool stopping; /* no new connections or tasks */
    bool kept;     /* the segment outlives us, and what is queued in it: keep.h */
    bool in_store; /* the manager's store of descriptors is where */
    bool found;    /* it is a former daemon's */
    uint64_t
        last_client; /* connections of former daemons that have left tasks had ids up to this */
    bool restored;   /* tasks in it come from the database */
    struct durable *durable; /* NULL: no database */
    bool check_deadlines;    /* something nearer was planned: look at kill_at_ns in this turn */
    bool check_sizes;        /* tasks were queued in a pool with its size_bell set */
    /* Puts another configuration in force, checked and whole, which is consumed; `by` is for the log.
     * What changes is added to `plan`, a line each. 0; -EINVAL: refused, *err says why, and all is as
     * it was; -ENOMEM. Set by main.c. */
    int (*reconfigure)(struct hearthd *d, struct config *next, const char *by, struct buf *plan,
                       struct config_error *err);
    /* The same with what the files say now. */
    int (*reload)(struct hearthd *d, const char *by, struct buf *plan, struct config_error *err);
    bool socket_is_passed; /* by the service manager: what the configuration says of it is unused */
    uint64_t reloads;      /* configurations put in force since the start */
    char *reload_error;    /* why the last one was refused; NULL: it was not */
    uint64_t started_ns, started_wall_ms;
    uint64_t turns;
    uint64_t heard; /* +1 by every callback that did something for a client: tells the loop whether
                       spinning pays */
};

/* By name (len bytes); NULL when there is none, or it has been removed. */
struct pool *hearthd_pool(struct hearthd *d, const char *name, size_t len);
/* Index of a handler in a pool; -1. */
int pool_handler(const struct pool *p, const char *name, size_t len);
/* Tasks and payload bytes now waiting, exact while nobody dies: counters, never a walk of the
 * tasks. Walks the workers only when the cheap upper bound is at least `enough`. */
uint64_t pool_queued(struct hearthd *d, struct pool *p, uint64_t enough);
/* Of these, those that a worker could begin now. */
uint64_t pool_due(struct hearthd *d, struct pool *p);
uint64_t pool_queued_bytes(struct hearthd *d, struct pool *p, uint64_t enough);
enum { LOOK_MEMORY_MS = 20 }; /* how often a task's memory is measured */
/* After how long the daemon must look at a task of the pool, whatever its time limit; 0: not. */
uint32_t pool_look_ms(const struct pool *p);
/* Workers with a task in hand. */
uint32_t pool_busy(struct hearthd *d, const struct pool *p);
/* Replaces all workers that the pool has now, an eighth of it at a time, each by one that is warm
 * before it retires after the task in hand. `why` is kept, not copied. */
void pool_recycle(struct hearthd *d, struct pool *p, const char *why);
/* Loads its module anew, by another zygote; once a first worker of that is warm it takes over and all
 * others are replaced; else all stays as it is. 0; -EALREADY: one is being started. */
int pool_reload(struct hearthd *d, struct pool *p);
/* Wakes workers for the tasks queued since the last call (p->wake); called before the loop sleeps,
 * and by serve after it has handled what a client sent. */
void hearthd_flush_wakes(struct hearthd *d);
