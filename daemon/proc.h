/* SPDX-License-Identifier: MIT */
/* Processes that clients, or the configuration, have the daemon start and watch: any command, each the leader of a session of its
 * own. supervise/ keeps them, serve/ speaks of them. They have nothing to do with pools and their workers.
 *
 *     RUNNING --end, to be started again--> PAUSING --its pause is over--> RUNNING
 *     RUNNING --told to end--> STOPPING --end--> ENDED
 *     RUNNING, PAUSING --end--> ENDED
 *
 * An ended one is kept, so that one can ask how it ended, until it is removed or limits.max_processes later ones have ended. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "daemon/hearthd.h"
#include "lib/base/buf.h"
#include "lib/base/list.h"

enum proc_state { PROC_RUNNING, PROC_PAUSING, PROC_STOPPING, PROC_ENDED, PROC_STATES };
extern const char *const proc_state_names[PROC_STATES]; /* "running" "pausing" ... */

enum {
    PROC_NAME_MAX = 64,
    PROC_WORDS_MAX = 4096, /* of a command, and as many variables */
    PROC_STOP_MS = 10000,  /* from SIGTERM to SIGKILL, if nothing else is said */
    PROC_BACKOFF_MS = 1000,
    PROC_BACKOFF_MAX_MS = 60000,
    PROC_WINDOW_MS = 60000,
};

/* Processes of handlers at a time. */
enum { PROC_SEATS = 32 };

/* What is to be started: a command, or a handler of a pool's module, which runs one task. Strings are the caller's, and copied. */
struct proc_spec {
    const char *name;        /* "": none */
    const char *const *argv; /* ends with NULL; at least one word, which is looked for in PATH */
    const char *const *env;  /* "NAME=value", over the daemon's own; ends with NULL */
    const char *directory;   /* absolute */
    enum proc_restart restart;
    uint32_t backoff_ms;   /* before the first restart; doubled up to PROC_BACKOFF_MAX_MS */
    uint32_t max_restarts; /* within window_ms; over it, it has ended. 0: no limit */
    uint32_t window_ms;
    uint32_t stop_ms;
    bool null[3];    /* what it has for 0, 1 and 2 is /dev/null */
    bool configured; /* it is the configuration's */
    struct pool
        *pool;     /* NULL: a command. Else argv is for show, it is never restarted, and runs ... */
    uint32_t task; /* ... this task, which is held for it */
    uint64_t task_id;
};

struct proc {
    struct list node; /* procs.all: in the order of their ids */
    struct list news; /* procs.news: there is something to be done */
    struct hearthd *d;
    uint64_t id;
    struct proc_spec spec; /* its own copies, ... */
    void *block;           /* ... in here */
    struct proc *pid_next; /* of those that run, by their numbers */
    enum proc_state state;
    uint64_t client; /* with whose connection it ends; 0: with none */
    uid_t uid;       /* who has started it */
    pid_t pid;       /* 0: there is none now */
    int pidfd;
    int fds[3];     /* what it has for stdin, stdout and stderr; -1: /dev/null, or captured */
    uint32_t runs;  /* how often it was started */
    uint64_t since; /* wall clock, ms: the start of its last run, ... */
    uint64_t ended; /* ... and its end; 0: not yet */
    uint64_t started_ns;
    /* how the last run ended, when runs > 0 and ended != 0 */
    int status; /* as wait(2) tells it */
    struct rusage usage;
    char why[96]; /* in words: "exit status 1", "signal 9 (SIGKILL)"; why it could not be started */
    bool failed;  /* its last run could not be started */
    /* what it has written, the last of it */
    struct buf output;
    uint64_t written; /* in all */
    int out_fd; /* read end; -1: there is none; and the other, kept so that its end wakes nobody */
    int out_write_fd;
    struct list waiters;
    /* supervise's own */
    uint32_t slot, gen; /* of a handler, ... */
    bool seated;        /* ... while this */
    uint64_t task_bytes;
    struct event *exit_event, *out_event;
    bool exited;        /* its pidfd says so */
    bool removed;       /* gone from the configuration: forgotten once it has ended */
    uint64_t due_ns;    /* PAUSING: the next start; STOPPING: SIGKILL. 0: nothing */
    uint32_t pause_ms;  /* the last one */
    uint64_t window_ns; /* when the window began, ... */
    uint32_t in_window; /* ... and restarts since */
};

/* fds: for 0, 1 and 2, duplicated as needed, not consumed; -1: stdin is /dev/null, the others are captured. They are kept while it
 * may be started again. uid: for whom; client: as in struct proc. 0; -EEXIST: a process of that name has not ended; -EDQUOT: as
 * many run as may, in all or of this user; -errno: it cannot be started, and `why` says at which step. */
int proc_start(struct hearthd *d, const struct proc_spec *spec, const int fds[3], uid_t uid,
               uint64_t client, struct proc **ret, char why[128]);
/* By its id in digits, or by its name: the one that has not ended, else the latest. NULL. */
struct proc *proc_find(struct hearthd *d, const char *word, size_t len);
/* By id alone; NULL. */
struct proc *proc_by_id(const struct hearthd *d, uint64_t id);
/* Walks all, in the order of their ids; NULL: the first. NULL at the end. */
struct proc *proc_next(const struct hearthd *d, const struct proc *p);

/* A signal for all of it: its session's group, and what descends from it and has left that; or for the process alone. 0;
 * -ESRCH: it does not run. */
int proc_signal(struct proc *p, int sig, bool alone);
/* Ends it for good: SIGTERM, then SIGKILL after stop_ms; `now`: SIGKILL. Harmless when it has ended. */
void proc_stop(struct proc *p, bool now);
/* Forgets one that has ended. */
void proc_remove(struct proc *p);
/* Those that end with a connection. */
void proc_client_ends(struct hearthd *d, uint64_t client);

/* Waits for the end: `ended` is called once, from the daemon's turn, and may free the waiter. */
struct proc_waiter {
    struct list node;
    void (*ended)(struct proc_waiter *w, const struct proc *p);
};
/* p has not ended. */
void proc_wait(struct proc *p, struct proc_waiter *w);
/* Harmless when it does not wait. */
void proc_unwait(struct proc_waiter *w);

struct proc_stats {
    uint32_t running; /* those that pause or stop included */
    uint32_t kept;    /* ended */
    uint64_t started; /* runs */
    uint64_t failed;  /* runs that did not end with exit status 0, or could not be started */
    uint64_t restarts;
};
void proc_stats(const struct hearthd *d, struct proc_stats *ret);

/* The name of a signal without SIG, in any case, or its number: the number; 0: there is none. */
int proc_signal_number(const char *text, size_t len);
