/* SPDX-License-Identifier: MIT */
/* Workers that have no segment: programs in any language, which take tasks over a connection. The
 * daemon claims for them, in slots of theirs, so that whatever looks at workers by their slots finds
 * these too. A lease is one such slot: one task at a time, for as long as the connection lasts.
 *
 * serve/ has the connections, supervise/ the workers; they meet here. One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/hearthd.h"
#include "lib/shm/stream.h"
#include "lib/shm/task.h"

struct conn;

struct lease {
    struct worker *worker;
    struct shm shm; /* a handle with the worker's slot, once it has joined */
    bool joined;
    struct lease *main;   /* the first of its connection: what limits a worker counts there */
    bool spent;           /* main: has run its max_tasks */
    bool busy;            /* has a task: */
    struct task_ref task; /* which */
    uint64_t told;        /* bytes of what it is about to tell that are in the stream already */
    uint64_t left;        /* tasks until it is replaced; 0: no limit */
    uint64_t memory;      /* private memory above which it is; 0: no limit */
    uint64_t looked_ns;   /* at its memory, last */
    struct list in_conn;  /* conn.leases */
    struct list waiting;  /* pool.waiting: asks for a task, and may have one */
    struct conn *conn;    /* serve's; NULL: it has ended */
};

/* ---- lease.c ---- */
/* Of a worker that has none. NULL: no memory. */
struct lease *lease_new(struct worker *w);
/* Lets go of the slot; the connection must have ended. NULL is accepted. Returns NULL. */
struct lease *lease_free(struct lease *l);
/* The worker is there: takes its slot for it. 0 or -ESTALE. */
int lease_join(struct hearthd *d, struct lease *l);
/* Its worker has no task in hand: retires, if it is to. */
void lease_retire(struct lease *l);
/* True: it may be given tasks. From then on it serves. */
bool lease_may_serve(struct lease *l);
/* True: it is to go. */
bool lease_must_leave(const struct lease *l);
/* The next task of its pool. 0 or -EAGAIN: there is none. */
int lease_take(struct lease *l);
/* What a task has used, as its worker says; 0: not known. */
struct lease_usage {
    uint64_t user_us, system_us, rss_kib;
};
/* Ends the task: it is done, with this result, ... */
int lease_done(struct lease *l, const struct task_bytes *result, const struct task_bytes *log,
               const struct lease_usage *usage);
/* ... or has failed, of its own accord or because it was to stop; log: as of a command's stderr. Both
 * 0, or -EAGAIN: locks are busy, nothing has happened, try again later. */
int lease_fail(struct lease *l, int code, const struct task_bytes *message,
               const struct task_bytes *log, const struct lease_usage *usage);
/* What the task tells while it runs. 0; -EAGAIN: there is no room for the rest until the followers have
 * read, or locks are busy: the same again later; -ECANCELED: the task is to stop, and waits for no
 * room; -ENOMEM; -EBADMSG. */
int lease_emit(struct lease *l, enum stream_kind kind, const void *data, size_t len);
int lease_progress(struct lease *l, uint64_t done, uint64_t total, const struct task_bytes *text);
/* Why the task is to stop; CAUSE_NONE: it is not. */
enum task_cause lease_stopped(struct lease *l);

/* ---- serve's, for supervise and tasks ---- */
/* A connection for a worker that is about to be started; *ret_fd is its end. 0 or -errno. */
int lease_connect(struct hearthd *d, struct worker *w, int *ret_fd);
/* Ends it. What was in it counts no more. */
void lease_close(struct hearthd *d, struct lease *l);
/* The worker's slot has been told something. */
void lease_told(struct hearthd *d, struct lease *l);
/* Whether the worker wants to hear that its task is to stop; and telling it. */
bool lease_hears(const struct lease *l);
void lease_stop(struct hearthd *d, struct lease *l, enum task_cause why);
/* Gives the pool's tasks to the workers that ask for one. */
void lease_feed(struct hearthd *d, struct pool *p);

/* ---- supervise's, for serve ---- */
/* A worker that joins by itself, ready to serve, with a lease. 0; -ENOSPC: there are as many as may
 * be; -ENOMEM. */
int worker_attach(struct hearthd *d, struct pool *p, pid_t pid, struct worker **ret);
/* Its connection has ended: so has its lease. */
void worker_hung_up(struct hearthd *d, struct worker *w);
/* The handlers of a pool of kind program, as its first worker names them; later ones must name the
 * same, in any order. w: a worker that we have started, which may be of a new version with others;
 * else NULL. 0; -ESTALE: they are others; -ENOMEM. */
int pool_name_handlers(struct hearthd *d, struct pool *p, const struct worker *w,
                       const struct task_bytes *names, uint32_t n);
