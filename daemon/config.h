/* SPDX-License-Identifier: MIT */
/* The configuration: read with libconfig, checked against the table in options.def, and given out
 * as plain structs in base units (bytes, milliseconds). A struct config never changes after
 * config_load(), but for config_set_socket() and config_settle(): a daemon that runs gets another
 * one, whole, and the former is freed when nobody refers to it any more. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>

#include "daemon/log.h"

enum {
    CONFIG_POOL_NAME_MAX = 32,    /* bytes of a pool's name: a-z 0-9 _ - */
    CONFIG_HANDLERS_MAX = 256,    /* of a program, ... */
    CONFIG_HANDLER_NAME_MAX = 64, /* ... and bytes of their names */
    CONFIG_WORKERS_MAX = 500,     /* in all pools; while one is replaced there are two of it */
};

/* The value of an rlimit that is not set: the pool has the daemon's own. */
#define CONFIG_INHERIT UINT64_MAX

/* A list of strings; v is never NULL and ends with a NULL pointer, as argv does. */
struct config_strings {
    char **v;
    uint32_t n;
};

/* What becomes of running tasks when the daemon is stopped. */
enum config_restart { RESTART_DRAIN, RESTART_HANDOVER, RESTARTS };
extern const char *const config_restart_names[RESTARTS]; /* "drain" "handover" */

enum pool_kind { POOL_MODULE, POOL_EXEC, POOL_PROGRAM };
extern const char *const pool_kind_names[]; /* "module" "exec" "program" */

enum pool_sizing { SIZING_STATIC, SIZING_DYNAMIC, SIZING_ONDEMAND, SIZINGS };
extern const char *const pool_sizing_names[SIZINGS]; /* "static" "dynamic" "ondemand" */

/* What becomes of a task for which the queue has no room. */
enum pool_overflow { OVERFLOW_REJECT, OVERFLOW_BLOCK, OVERFLOW_DROP, OVERFLOWS };
extern const char *const pool_overflow_names[OVERFLOWS]; /* "reject" "block" "drop_oldest" */

/* How an attempt can fail; a set of them is a word of bits. */
enum retry_kind { RETRY_ERROR, RETRY_CRASH, RETRY_TIMEOUT, RETRY_MEMORY, RETRY_KINDS };
extern const char *const retry_kind_names[RETRY_KINDS]; /* "error" "crash" "timeout" "memory" */
/* The bit of a kind by its name, in any case; 0: there is none. */
uint32_t retry_kind_bit(const char *name, size_t len);

/* Which system calls its processes are refused; daemon/supervise/confine.c. */
enum pool_seccomp { POOL_SECCOMP_NONE, POOL_SECCOMP_BASIC, POOL_SECCOMP_OFFLINE, POOL_SECCOMPS };
extern const char *const pool_seccomp_names[POOL_SECCOMPS]; /* "none" "basic" "offline" */

struct pool_config {
    char *name;
    enum pool_kind kind;
    enum pool_sizing sizing;
    uint32_t workers;           /* the most there will be; "auto" is resolved: >= 1 */
    uint32_t min, max;          /* static: both are `workers`; ondemand: min is 0 */
    uint32_t threads;           /* tasks at once in each worker; >= 1 */
    uint32_t spare;             /* idle workers kept ready; only dynamic has any */
    uint32_t spawn_rate;        /* workers a second that a pool grows by at most */
    uint32_t idle_timeout_ms;   /* after which a worker that is not needed ends */
    char *module;               /* POOL_MODULE: absolute path of a file that existed; else NULL */
    struct config_strings exec; /* POOL_EXEC: first words of the command; n == 0: the task's
                                   arguments are all of it */
    struct config_strings program;      /* POOL_PROGRAM: the command; n == 0: workers only join */
    uint32_t prefork;                   /* POOL_PROGRAM: it forks its workers itself */
    struct config_strings handlers;     /* POOL_PROGRAM: their names; n == 0: as its workers say */
    struct config_strings args;         /* for the module's initializer */
    struct config_strings submit_users; /* as config.read_users */
    struct config_strings worker_users;
    uint64_t max_tasks;                     /* a worker is replaced after so many; 0: never */
    uint32_t max_tasks_jitter;              /* up to so many more */
    uint32_t max_age_ms, max_age_jitter_ms; /* 0: never */
    uint64_t max_growth;       /* bytes of private memory since it was warm; 0: never */
    uint32_t timeout_ms;       /* time limit of a task that names none; 0: none */
    uint32_t soft_timeout_ms;  /* as timeout_ms: told to end; 0: none */
    int32_t soft_signal;       /* for a command then; 0: none */
    uint64_t memory_max;       /* bytes of a task that names none; 0: no limit */
    uint32_t slow_after_ms;    /* into the slow log after so long; 0: never */
    uint32_t kill_grace_ms;    /* from the cancel flag (exec: SIGTERM) to SIGKILL */
    uint32_t start_timeout_ms; /* for loading the module and warming a worker */
    uint32_t queue_max;        /* tasks waiting */
    uint64_t queue_bytes;      /* bytes of their payloads and arguments; 0: as the segment holds */
    enum pool_overflow overflow;
    uint32_t durable;              /* its tasks are written down */
    uint32_t fair;                 /* users take turns, ... */
    struct config_strings weights; /* ... so many of them each: "user:weight" */
    uint32_t priority;             /* of a task that names none: 0 to 255 */
    uint32_t ageing_ms;            /* what one level of priority is worth */
    uint32_t expire_ms;            /* a task must have begun by then; 0: never mind */
    uint32_t retries;
    struct config_strings retry_on;
    uint32_t retry_kinds; /* the same as bits */
    uint32_t backoff_ms, backoff_max_ms;
    uint32_t poison;                 /* deaths of workers after which a task is given up */
    uint32_t dead_letters;           /* kept */
    struct config_strings schedules; /* daemon/crontab.h */
    uint64_t max_output;             /* bytes of one result */
    struct config_strings env;       /* "NAME=value", set over the daemon's own environment */
    char *working_directory;         /* absolute */
    int32_t nice;                    /* added to the daemon's own */
    uint64_t rlimit[RLIM_NLIMITS];   /* by RLIMIT_*, soft and hard alike; CONFIG_INHERIT: not set */
    /* of a worker with all it starts; 0: no limit */
    uint64_t cgroup_memory_max, cgroup_memory_high;
    uint32_t cgroup_pids_max;
    uint64_t cgroup_pool_memory; /* of all together */
    uint32_t cgroup_cpu_weight;  /* against other pools; 0: as it is */
    enum pool_seccomp seccomp;
    /* absolute: what they may read, and write; both empty: as the daemon may */
    struct config_strings paths_read, paths_write;
    const char *file; /* where it is defined, for messages; owned by the config */
    unsigned line;
};

/* When a process is started again. */
enum proc_restart { PROC_NEVER, PROC_ON_FAILURE, PROC_ALWAYS, PROC_RESTARTS };
extern const char *const proc_restart_names[PROC_RESTARTS]; /* "never" "on-failure" "always" */

/* A process that is to run; daemon/proc.h. */
struct process_config {
    char *name;
    struct config_strings command; /* n >= 1 */
    struct config_strings env;
    char *working_directory;
    enum proc_restart restart;
    uint32_t backoff_ms, max_restarts, window_ms, stop_ms;
    const char *file; /* as in struct pool_config */
    unsigned line;
};

struct config_limits {
    uint32_t max_clients;      /* connections; more are refused */
    uint32_t client_max_tasks; /* tasks of one connection that have not ended; 0: no limit */
    uint64_t client_max_input; /* bytes of one request */
    uint64_t
        client_max_output; /* bytes of replies one connection has not read; over it, it is closed */
    uint32_t max_joined;   /* tasks in the hands of workers that have joined by themselves */
    uint32_t max_mapped;   /* clients that have the segment mapped for writing */
    uint64_t user_memory;  /* bytes of one user's objects; 0: no limit */
    uint64_t user_objects; /* ... and how many; 0: no limit */
    /* of one user, all his connections together; 0: no limit */
    uint32_t user_clients, user_tasks, user_results;
    uint64_t user_task_bytes;
    uint32_t blocks_max;                     /* raw blocks, ... */
    uint64_t blocks_bytes, user_block_bytes; /* ... all together, and of one user; 0: no limit */
    uint32_t max_processes;                  /* that have not ended */
    uint32_t user_processes;                 /* of one user; 0: no limit */
    uint64_t process_output;                 /* bytes kept of what one writes */
    uint32_t events_kept;                    /* of the past, for EVENTS.READ */
    uint32_t follow_stall_ms;                /* until a follower is closed that holds a task up */
    uint64_t clients_memory; /* bytes of requests and replies of all connections together */
};

/* Keys that are to have other values: "pools.demo.workers" and the value as one writes it in the
 * file. */
struct config_edits {
    struct config_edit {
        char *key, *value;
    } * v;
    uint32_t n;
};

struct config {
    char *socket_path;    /* absolute, unless it came from config_set_socket() */
    uint32_t socket_mode; /* permission bits */
    char *socket_owner;   /* user name or number; "": the daemon's own */
    char *socket_group;
    uint64_t segment_size; /* bytes */
    char *durable_path;    /* absolute, or "" */
    char *cgroup;          /* "auto", "none", or absolute */
    char *segment_path;    /* "auto", "none", or absolute */
    uint32_t tasks_max;    /* task records; 0: from the segment's size */
    uint32_t stop_timeout_ms;
    enum config_restart restart;
    uint32_t result_keep_ms;
    uint32_t result_max;      /* results kept that nobody has fetched, ... */
    uint64_t result_bytes;    /* ... and their bytes; 0: no limit */
    uint32_t lock_timeout_ms; /* a lock of the segment held by a process that does nothing */
    uint32_t allow_root;      /* it may run as root */
    enum log_level log_level;
    /* names or numbers of users, @ before those of groups, "*": everybody who can connect */
    struct config_strings read_users, write_users, admin_users, map_users, map_read_users,
        proc_users;
    struct config_limits limits;
    struct pool_config *pools;
    uint32_t n_pools;
    struct process_config *processes;
    uint32_t n_processes;
    char **files; /* every file read, in order; NULL-terminated; private owner of pools[].file */
    struct config_edits edits; /* private to config.c: what override_pools says */
    uint32_t refs;
};

/* What is wrong and where. line 0: the whole file; key "": no key in particular. */
struct config_error {
    char file[PATH_MAX];
    unsigned line;
    char key[128];  /* with its place: "pools[1].workers", "limits.max_clients" */
    char text[512]; /* what was expected, and how to write it */
};

/* Reads a file and its drop-ins (PATH.d/ *.conf, in order of their names): a later scalar overrides
 * an earlier one, pools are added. path NULL: the defaults, with no pools. Relative `module` names
 * are looked up in the directories of $HEARTH_MODULE_PATH (colon-separated), if set, else in the
 * installed module directory. 0; -EINVAL: refused, *err says why; -errno: a file could not be read
 * (also in *err); -ENOMEM. `err` may not be NULL. */
int config_load(const char *path, struct config **ret, struct config_error *err);
/* The same from memory, without drop-ins; @include is refused. `name` stands for the file in
 * messages. */
int config_load_text(const char *text, size_t len, const char *name, struct config **ret,
                     struct config_error *err);
/* Gives a reference back; the last one frees. Accepts NULL. Returns NULL. */
struct config *config_free(struct config *c);
struct config *config_ref(struct config *c);

/* Another socket, as -s on the command line gives it. 0, -ENAMETOOLONG (longer than a socket
 * address), -ENOMEM. */
int config_set_socket(struct config *c, const char *path);

/* Writes a complete configuration with every effective value; config_load() reads it back to the
 * same. */
void config_print(const struct config *c, FILE *f);

/* "FILE:LINE: KEY: TEXT", without the parts that are absent. Returns out. */
char *config_error_format(const struct config_error *err, char *out, size_t n);

/* When a new value of a key counts, for a daemon that runs. */
enum config_when { CONFIG_NOW, CONFIG_ROLL, CONFIG_RESTART };

/* ---- changing a configuration that is in force ---- */

/* A key and its value: "log_level", "limits.max_clients", "pools.demo.workers",
 * "pools.demo.rlimits.nofile". */
struct config_at {
    const char *key; /* valid until the next one */
    const struct option *option;
    const void *base;
};
/* Every key that has a value. fn returns false to stop. */
void config_each(const struct config *c, bool (*fn)(void *arg, const struct config_at *at),
                 void *arg);
/* The value as CONFIG GET shows it and CONFIG SET takes it: sizes in bytes, strings without quotes.
 */
void config_show(const struct config_at *at, FILE *f);
/* Environment variables may hold secrets. */
bool config_is_private(const struct config_at *at);

/* Adds a change, in the words of CONFIG SET or of the file. 0; -ENOENT: there is no such key, or no
 * such pool; -EEXIST: it is among the edits already; -EPERM: it counts at the next start only;
 * -ENOMEM. */
int config_edit(struct config_edits *e, const struct config *c, const char *key, const char *value);
void config_edits_free(struct config_edits *e);
/* A configuration that differs from c in these, checked as any other. `by` stands for the file in
 * errors. As config_load(). */
int config_with(const struct config *c, const struct config_edits *e, const char *by,
                struct config **ret, struct config_error *err);

/* What is different in a new configuration. */
struct config_change {
    enum {
        CONFIG_CHANGED,
        CONFIG_POOL_ADDED,
        CONFIG_POOL_REMOVED,
        CONFIG_PROCESS_ADDED,
        CONFIG_PROCESS_REMOVED,
        CONFIG_PROCESS_CHANGED,
    } what;
    enum config_when when;
    bool is_private;       /* the values are not to be told */
    const char *key;       /* with its place; POOL_*, PROCESS_*: the name */
    const char *from, *to; /* as one writes them in the file */
};
typedef void config_change_fn(void *arg, const struct config_change *change);
/* Walks all differences; fn NULL: nobody wants to hear. How many there are, or -ENOMEM. */
int config_compare(const struct config *from, const struct config *to, config_change_fn *fn,
                   void *arg);
/* 1: they are different; 0; -ENOMEM. */
int config_process_differs(const struct process_config *a, const struct process_config *b);
/* Is anything else that a pool's workers are started with? */
bool config_rolls(const struct pool_config *from, const struct pool_config *to);
/* Before `to` takes over from `from` in a daemon that runs: what counts only for the next start is
 * given the value it has. 0 or -ENOMEM. */
int config_settle(const struct config *from, struct config *to);

/* Writes what c has other than its files into PATH.d/config-rewrite.conf, which is read last: all of
 * it or nothing; no file when there is no difference. The files themselves stay as they are. 0;
 * -ENOENT: c came from no file; -EINVAL or -errno, *err filled. */
int config_rewrite(const struct config *c, struct config_error *err);

/* The table, for documentation and tests: every key there is. */
struct config_key {
    const char *section; /* "" (top level), "limits", "pools", "rlimits" (inside of a pool) */
    const char *name;
    const char *type;     /* "size", "seconds", "count", ... */
    const char *fallback; /* the default as one writes it; NULL: there is none */
    enum config_when when;
    const char *doc;
};
/* The i-th key, or NULL past the end. */
const struct config_key *config_key(unsigned i);
