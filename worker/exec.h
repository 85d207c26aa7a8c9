/* SPDX-License-Identifier: MIT */
/* Running a task as a command: its payload on stdin, its result from stdout, the end of its stderr
 * kept. */
#pragma once

#include <stdint.h>

#include "lib/shm/segment.h"
#include "lib/shm/task.h"

enum { EXEC_LOG = 65536 }; /* the last bytes of stderr that are kept */

/* Private to exec.c; what one worker uses for all of its commands. */
struct exec {
    int argc; /* the pool's words; not owned */
    char **argv;
    uint64_t max_output;
    char **words; /* argv of the command at hand */
    size_t words_cap;
    char **env; /* inherited, with three of our own at the end, or four */
    char env_pool[64], env_task[64], env_attempt[32];
    char *paths; /* $PATH, cut into pieces */
    uint32_t paths_count;
    char *known_name, *known_path; /* the name looked up last, and where it was */
    char path[4096];               /* the one being tried */
    char *log;                     /* 2 * EXEC_LOG bytes */
    int group_fd;        /* cgroup.procs of the worker's group; not above 2: none; not owned */
    int tmp_fd;          /* the directory for temporary files; not above 2: none */
    char tmp_word[4096]; /* "TMPDIR=" and its path */
};
#define EXEC_INIT                                                                                  \
    { 0 }

/* argv: the pool's words, ending with NULL, kept. 0 or -ENOMEM. */
int exec_init(struct exec *e, const char *pool, int argc, char **argv, uint64_t max_output);
/* From now on commands have a directory of their own for temporary files, below dir, as their TMPDIR; it is emptied after each,
 * and removed by exec_deinit(). 0 or -errno. */
int exec_private_tmp(struct exec *e, const char *dir, uint32_t slot);
void exec_deinit(struct exec *e);

/* Runs the command of a claimed task and says how it ended:
 *
 *   cannot be started             FAILED     CAUSE_START, code errno, output why
 *   exit status 0                 DONE       CAUSE_RESULT
 *   another status                FAILED     CAUSE_EXIT, code status
 *   a signal                      FAILED     CAUSE_SIGNAL, signal, core
 *   SIGTERM (or status 143) with the cancel word set:
 *     before its time limit       CANCELLED  CAUSE_CANCELLED
 *     after it                    TIMEOUT    CAUSE_TIMEOUT
 *   the signal of its soft limit (or 128 + that), sent:
 *                               TIMEOUT    CAUSE_SOFT
 *   output over max_output        FAILED     CAUSE_ERROR, code EFBIG, output why
 *   no memory for it              FAILED     CAUSE_ERROR, code ENOMEM, output why
 *
 * In the others the output is what the command wrote. While it runs its process group is named in
 * the slot; what is left of that when it ends is killed, and what is left in the worker's control group, if there is one. */
void exec_run(struct exec *e, struct shm *s, const struct task_ref *ref, const struct task_view *v,
              struct task_outcome *ret);
