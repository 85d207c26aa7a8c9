/* SPDX-License-Identifier: MIT */
/* The book of processes (daemon/proc.h) as supervise/ sees it. */
#pragma once

#include "daemon/proc.h"

enum { PROCS_HASH = 1024 };

struct procs {
    struct list all, news;
    struct proc *by_pid[PROCS_HASH];
    uint32_t n_live, n_kept, n_seats;
    uint64_t next_id;
    uint64_t next_due_ns;
    struct event *timer;
    int null_fd;
    bool retime; /* something is due, or is due at another time than before */
    bool *
        start; /* by config.processes: it is to be started when none of its name runs; NULL: none */
    bool look_at_start;
    bool trim;  /* some are gone from the configuration */
    bool sweep; /* a run is over: what it left behind is looked for */
    struct proc_stats stats;
};

/* ---- proc.c ---- */
int procs_open(struct hearthd *d); /* sets d->procs; 0 or -errno */
void procs_close(struct hearthd *d);
bool procs_have_news(const struct hearthd *d);
void procs_turn(struct hearthd *d);
/* The processes of the configuration are to be as d->config says. */
void procs_configure(struct hearthd *d);
/* Tells all to end; SIGKILL at deadline_ns at the latest. */
void procs_stop(struct hearthd *d, uint64_t deadline_ns);
bool procs_stopped(const struct hearthd *d);
/* A child that nobody knows has ended: its own children are ours now. */
void procs_orphan_ended(struct hearthd *d);
/* To be looked at in the next turn. */
void procs_news(struct proc *p);
/* The one that runs with this number; NULL. */
struct proc *procs_by_pid(const struct procs *ps, pid_t pid);
/* Waits for it, if it has ended. */
bool procs_reap(struct proc *p);
/* Lets go of the descriptors it is started with. */
void procs_close_fds(struct proc *p);

/* ---- proc_run.c ---- */
/* The process itself: sets pid, pidfd and out_fd. 0, or -errno and the step that failed. */
int procs_launch(struct proc *p, const char **ret_what);
/* Its stdin, stdout and stderr, with a pipe if that is wanted. 0, or -errno and the step that failed. */
int procs_make_fds(struct proc *p, int fds[3], const char **ret_what);
/* The daemon's own variables for it, and those of its spec. NULL: no memory. */
enum { PROC_OURS = 2 };
const char **procs_environment(const struct proc *p, char ours[PROC_OURS][48],
                               const struct config_strings *more);
/* Takes what it writes from now on. 0 or -ENOMEM. */
int procs_output_watch(struct proc *p);
/* Takes what its pipe holds. */
void procs_output_take(struct proc *p);

/* ---- proc_handler.c ---- */
/* procs_launch() of a handler. */
int procs_launch_handler(struct proc *p, const char **ret_what);
/* It is dead: settles its task and lets go of its slot. False: somebody holds a lock; try again later. True for a command. */
bool procs_unseat(struct proc *p);
