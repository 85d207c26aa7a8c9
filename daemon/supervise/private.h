/* SPDX-License-Identifier: MIT */
/* What the files of supervise/ share.
 *
 *   ASKED --SPAWNED--> STARTING --slot warm--> WARM --told to go--> SERVING
 *   SERVING --slot retired, told to exit--> LEAVING
 *   asked for --THREAD until dead: the further threads of a worker, threads.c
 *   any --pidfd readable--> DEAD --buried, its task settled--> freed
 *
 * A worker that serves, or was told it may, has one of the pool's N seats: concurrency never
 * exceeds N, whoever is being replaced. worker_set_phase() is the only place that changes a phase.
 */
#pragma once

#include <signal.h>

#include "daemon/supervise/supervise.h"
#include "lib/base/list.h"
#include "lib/shm/slot.h"
#include "lib/shm/task.h"

struct event;

enum phase {
    PHASE_ASKED,
    PHASE_STARTING,
    PHASE_WARM,
    PHASE_SERVING,
    PHASE_LEAVING,
    PHASE_THREAD,
    PHASE_DEAD
};

/* What is wanted of the task that a worker runs; limits.c. */
struct running {
    uint64_t task, started_ns; /* whose it is */
    uint32_t soft_ms;          /* 0: none */
    uint64_t memory;           /* bytes; 0: no limit */
    uint64_t memory_at_ns;     /* the next look at that */
    bool soft_told, slow_told;
};

/* What struct worker.supervise points at. */
struct watch {
    struct list dead_node; /* supervise.dead */
    struct supervise *supervise;
    struct worker *worker;
    struct event *exit_event;
    enum phase phase;
    bool seat;
    bool joined;          /* by itself: no process of ours, no seat; its connection is its life */
    bool explained;       /* why it could not start has been told */
    uint64_t hung_up_ns;  /* a program's, when its connection ended; 0: it has not */
    bool cut;             /* killed for that */
    bool ending;          /* its replacement is asked for */
    bool killed;          /* by us; worker.kill_task_id and kill_cause say for what */
    bool short_of_memory; /* killed by the kernel, its group says */
    bool late;            /* killed because it did not start, or leave, in time */
    uint64_t since_ns;    /* when it entered its phase */
    bool status_known;    /* waited for: `status` holds how it ended */
    bool trial;           /* the first of a new version: not one of the pool's yet */
    uint32_t version;     /* of the zygote it was asked from */
    siginfo_t status;
    uint64_t dead_ns;      /* when its end was noticed */
    uint64_t orphaned_ns;  /* ASKED, and its zygote died before it said SPAWNED */
    uint64_t task_in_hand; /* at its death */
    uint64_t term_id;      /* the task whose command was sent SIGTERM; 0: none, or it is over */
    uint32_t term_idx;
    struct running now;
    uint64_t idle_claims;   /* its claims when it was last seen to have done something, ... */
    uint64_t idle_since_ns; /* ... and when that was */
    bool surplus;           /* LEAVING because the pool shrinks */
    const char *tired;      /* why we want it replaced, in its turn; NULL: we do not */
    bool told;              /* SLOT_RETIRE */
    struct list team;       /* of the first thread: the others; of these: where they are on it */
    struct watch *first;    /* of the others, while their process lives: the first */
    bool is_thread;         /* one of the others */
    int leash;       /* it dies when the pipe's other end is closed, unless we say no; -1: none */
    bool adopted;    /* of a former daemon: no child of ours, so how it ends is not to be known */
    bool handed;     /* to the next daemon */
    uint64_t old_ns; /* when it will have lived for max_age; UINT64_MAX: never */
};

/* What a file was when it was loaded. */
struct stamp {
    uint64_t dev, ino, size, mtime_ns;
};

enum zygote_state { ZYGOTE_NONE, ZYGOTE_STARTING, ZYGOTE_READY };

/* What is known of a pool's load; size.c. */
struct sizer {
    uint64_t looked_ns;        /* 0: never */
    uint64_t look_at_ns;       /* when something may be due; UINT64_MAX: nothing */
    uint64_t backlog_ns;       /* since when tasks wait without a break; 0: none does */
    uint64_t claims;           /* of all workers, as of looked_ns */
    double busy;               /* workers at work, averaged over the last second or so */
    double busy_last;          /* as of looked_ns */
    double allowance;          /* workers it may grow by now */
    uint64_t cost, cost_at_ns; /* private memory of one worker, as measured then; 0: never */
    bool refused;              /* the last word was that there is no memory */
};

/* What struct pool.zygote points at. */
struct zygote {
    struct supervise *supervise;
    struct pool *pool;
    struct config *owner;             /* of `config`; a reference */
    const struct pool_config *config; /* as of which it is, or will be, started */
    struct stamp module;              /* as it was then */
    uint32_t version;                 /* another with each configuration, or load, of the module */
    bool trial;                       /* it is to take another's place if it starts well */
    char **handlers;                  /* trial: what it has reported */
    uint32_t n_handlers;
    enum zygote_state state;
    pid_t pid;
    int pidfd;
    int sock; /* -1: none, or told to go */
    struct event *exit_event, *sock_event;
    uint64_t started_ns;
    bool says;           /* there are messages to read */
    bool exited;         /* its pidfd said so */
    bool killed;         /* by us */
    uint32_t failures;   /* in a row; the exponent of the back-off */
    uint64_t backoff_ns; /* the last delay */
    bool proved;         /* it, or a worker of it, has started well since the last failure */
    struct sizer size;
};

/* A new version of a pool's workers, on trial until a first one is warm. */
struct roll {
    bool trying;
    bool launched;                    /* the other zygote is the one on trial */
    struct config *owner;             /* not launched: a reference, ... */
    const struct pool_config *config; /* ... and what it is to be started with */
};

struct supervise {
    struct hearthd *d;
    struct zygote *zygotes; /* two for each pool: the pool's, and one that may take its place */
    struct roll *rolls;     /* by pool */
    uint32_t versions;
    uint32_t removing; /* pools that still have tasks, or workers */
    struct scratch *scratch;
    struct list dead;
    uint32_t news;
    uint32_t slots; /* length of d->workers */
    uint32_t n_joined;
    bool look;         /* something happened: look at pools and slots in this turn */
    bool cgroups_left; /* some are to be removed later */
    bool orphans;      /* SIGCHLD: there may be children nobody knows */
    bool started;      /* all pools have been ready once */
    bool start_failed;
    char *start_error; /* NULL if there was no memory for it */
    struct event *timer, *sigchld;
    struct rlimit files;  /* RLIMIT_NOFILE as it was at the start: what zygotes get */
    uint64_t timer_at_ns; /* UINT64_MAX: not set */
    uint64_t stop_at_ns;  /* 0: not stopping */
    bool stop_killed;     /* what still ran then has been killed */
    uint64_t gone_ns;     /* when the last worker was gone */
    int leash[2];         /* handover.c; -1: workers die with us by PDEATHSIG */
    bool handing;         /* stopping, and who is at work is left to the next daemon */
    uint32_t n_adopted, n_handed;
};

static inline struct watch *watch_of(struct worker *w) {
    return w->supervise;
}
static inline struct zygote *zygote_of(struct pool *p) {
    return p->zygote;
}

/* ---- spawn.c ---- */
/* 0 or -errno; *ret_what then says which step failed. */
int zygote_start(struct supervise *s, struct zygote *z, const char **ret_what);
void names_free(char **names, uint32_t n);
/* What the file is now; all 0: there is none. path NULL: likewise. */
void stamp_of(const char *path, struct stamp *ret);
/* Asks for a worker in a slot; up to CONTROL_SPAWN_FDS descriptors go along, the last one that of its control group? 0, -EAGAIN (the socket is full), -errno. */
int zygote_ask(struct zygote *z, uint32_t slot, uint32_t gen, const int *fds, size_t n,
               bool cgroup);
/* Reads what zygotes have said so far. */
void zygote_read(struct supervise *s, struct zygote *z);
struct launch;
/* Starts hearth-worker as z's pool has it: a zygote, or (once: "SLOT:GEN") a process for one task. l has its environment, directory and
 * descriptors. As launch_run(). */
int worker_launch(const struct zygote *z, char *once, struct launch *l, pid_t *ret_pid,
                  int *ret_pidfd, const char **ret_what);
uint64_t supervise_slots_of_others(const struct config *c);
/* Lets go of the control socket, at which the zygote exits. */
void zygote_dismiss(struct zygote *z);
void zygote_kill(struct zygote *z);
/* A worker it was asked for has not come yet. */
bool zygote_is_needed(struct zygote *z);
/* After its end has been noticed: waits for it, closes everything; logs. */
void zygote_bury(struct supervise *s, struct zygote *z);

/* ---- pool.c ---- */
void pool_keep_handlers(struct supervise *s, struct pool *p);
int pool_init(struct supervise *s, struct pool *p, struct config *owner,
              const struct pool_config *c, uint32_t index);
void pool_deinit(struct pool *p);
/* Starts, replaces and seats workers as the pool's state needs. */
void pool_turn(struct supervise *s, struct pool *p);
/* A start failed: counts it, waits before the next, and remembers why. */
void pool_failed(struct supervise *s, struct pool *p, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same of one zygote, or a worker of it: one on trial is told apart. */
void zygote_failed(struct supervise *s, struct zygote *z, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same if it lived less than a second; else its replacement may start at once. */
void pool_died(struct supervise *s, struct pool *p, uint64_t since_ns, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void worker_set_phase(struct worker *w, enum phase phase);
/* CONTROL_SPAWNED: the worker has a process now. */
void worker_spawned(struct supervise *s, struct worker *w, pid_t pid);
/* The fork did not happen: gives the slot back. */
void worker_unask(struct supervise *s, struct worker *w);
/* Unlinks and frees one; its slot is released already. */
void worker_free(struct supervise *s, struct worker *w);
/* Looks at its slot and moves it on. */
void worker_look(struct supervise *s, struct worker *w);

/* A worker in a slot, on its pool's list; not asked for yet. 0 or -errno. */
int worker_new(struct supervise *s, struct pool *p, struct worker **ret);
/* The same in a slot that is somebody's already. */
int worker_in_slot(struct supervise *s, struct pool *p, uint32_t slot, uint32_t gen,
                   struct worker **ret);
/* Its pidfd is there: its end will be noticed. 0 or -errno. */
int worker_watch(struct supervise *s, struct worker *w);

/* ---- handover.c ---- */
int handover_open(struct supervise *s);
void handover_close(struct supervise *s);
/* A worker about to be asked for gets a leash, if it is to. 0 or -errno. */
int handover_leash(struct supervise *s, struct worker *w);
/* Is there anybody who was handed over to us? Before they are adopted. */
bool handover_any(const struct supervise *s);
/* Those who are left by a former daemon, at work, become workers of ours. 0 or -errno. */
int handover_adopt(struct supervise *s);
/* Stopping: it has a task in hand, takes no other, and is to be left to the next daemon. */
bool handover_stays(struct supervise *s, const struct worker *w);
/* A worker of the pool, or none, is still waited for. */
bool handover_waits(struct supervise *s, const struct pool *p);
/* When to look again although nobody rings; UINT64_MAX: not needed. */
uint64_t handover_time(const struct supervise *s);

/* ---- threads.c ---- */
/* The further threads of a worker that is about to be asked for, all but the first. 0 or -errno. */
int threads_reserve(struct supervise *s, struct worker *w, uint32_t threads);
/* Their slots and generations, for the zygote: the length. */
size_t threads_put(const struct worker *w, char *out, size_t size);
/* Its process is there; is dead, and how is known; will never be there. */
void threads_spawned(struct worker *w);
void threads_died(struct supervise *s, struct worker *w);
void threads_release(struct supervise *s, struct worker *w);
/* Tells its slot, those of its threads, and whoever acts in it for the worker. */
void worker_command(struct supervise *s, struct worker *w, enum slot_command command);
/* How many of its threads have a task in hand; *ret_claims: what they have claimed together. */
uint32_t worker_busy(struct supervise *s, const struct worker *w, uint64_t *ret_claims);

/* ---- size.c ---- */
void size_init(struct pool *p);
/* Ends so many workers, the busy ones after the task in hand. */
void size_trim(struct supervise *s, struct pool *p, uint32_t over);
/* Another configuration: the size is brought within its limits. */
void size_configure(struct supervise *s, struct pool *p);
/* Looks at the load, unless it has just done so: sets p->target, and ends idle workers. */
void size_turn(struct supervise *s, struct pool *p);

/* A free worker record, asked for from a zygote. */
int worker_ask(struct supervise *s, struct zygote *z, bool seat);
/* Nothing is started for it. */
bool pool_only_joined(const struct pool *p);

/* How many workers are to be there. */
uint32_t pool_target(const struct supervise *s, const struct pool *p);

/* ---- reconfigure.c ---- */
/* A removed pool's next step. */
void pool_vanish(struct supervise *s, struct pool *p);

/* ---- roll.c ---- */
void roll_turn(struct supervise *s, struct pool *p);
/* Starts over with a configuration (its owner's reference is taken), or NULL: the one there is. */
void roll_start(struct supervise *s, struct pool *p, struct config *owner,
                const struct pool_config *c);
/* A trial has failed: all stays as it was. `text` is consumed; NULL: no memory for it. */
void roll_failed(struct supervise *s, struct pool *p, char *text);
/* What failed is not to be told any more. */
void roll_forget(struct pool *p);
/* The trial's first worker ended before it was warm. */
void roll_trial_died(struct supervise *s, struct worker *w, const char *how);
/* Has the pool's module been exchanged since it was loaded? */
bool roll_module_changed(const struct zygote *z);
/* Gives a zygote another configuration to be started with. */
void zygote_adopt(struct supervise *s, struct zygote *z, struct config *owner,
                  const struct pool_config *c);
static inline struct zygote *zygote_other(const struct supervise *s, const struct zygote *z) {
    return s->zygotes + ((size_t)(z - s->zygotes) ^ 1);
}

/* ---- reap.c ---- */
/* Buries those on s->dead as far as they can be now. True: some are left for a later turn. */
bool reap_turn(struct supervise *s);
/* Waits for children that nobody knows: orphans of workers' commands. */
void reap_orphans(struct supervise *s);
/* Is it a worker, a zygote, or a process of daemon/proc.h? */
bool supervise_knows(struct supervise *s, pid_t pid);
/* Notices a worker's end. */
void worker_died(struct supervise *s, struct worker *w);
/* "signal 11 (SIGSEGV), core dumped", "exit status 3". */
void reap_text(const siginfo_t *si, char out[64]);
/* Kills every child of this process but those that were handed over, and theirs, and waits for them. */
void reap_everything(struct supervise *s);

/* ---- deadline.c ---- */
/* Acts on everything that is due, then sets the timer for the next. */
void deadline_turn(struct supervise *s);
void deadline_timer(struct supervise *s);
/* Whether it runs this task now, by its record. */
bool worker_runs(struct supervise *s, struct worker *w, uint64_t task);
/* The id of the task it runs now, by its record; 0: none. */
uint64_t worker_task(struct supervise *s, const struct worker *w);
/* SIGKILL for the worker, its command, and all that descend from it. */
void worker_kill(struct supervise *s, struct worker *w);
/* A signal for the group of its command, if it has one that can be meant. */
void worker_signal_command(struct supervise *s, struct worker *w, int sig);
/* What is left of a command that was told to end and has left its group: SIGKILL. */
void worker_kill_orphans(struct supervise *s, struct worker *w, uint64_t task, uint32_t idx);

/* ---- limits.c ---- */
/* Acts on what is due of a running task but its time limit; may plan its worker's end. */
void limits_look(struct supervise *s, struct worker *w, uint32_t idx, const struct task_view *t,
                 uint64_t now);
/* When that is next; UINT64_MAX: never. t->started_ns != 0. */
uint64_t limits_time(struct worker *w, const struct task_view *t);
/* Tells the pool's workers when to have their tasks looked at. */
void limits_pool(struct supervise *s, struct pool *p);
