/* SPDX-License-Identifier: MIT */
/* Child processes of a test. Nothing started here outlives its parent, and nothing here waits for
 * ever. Not for several threads. In a child report by exit status or through shared memory, never
 * by cr_*: Criterion would lose it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "lib/base/buf.h"

enum { CHILD_LIMIT_MS = 30000, CHILD_SIGNALLED = 1000 };

/* Forks; the child is killed when the caller's thread ends, runs fn and leaves by _exit(fn(arg)).
 * Its pid or -errno. */
pid_t child_start(int (*fn)(void *arg), void *arg);
/* Execs argv[0] (a path, or a name looked for in PATH), env added to the environment ("NAME=value",
 * NULL: none); fds in, out and err become 0, 1 and 2 (-1: /dev/null). Its pid or -errno; a failed
 * exec shows as exit status 127. */
pid_t child_exec(const char *const argv[], const char *const env[], int in, int out, int err);

/* Waits at most ms, reaps: the exit status, or CHILD_SIGNALLED + the signal's number. -ETIMEDOUT:
 * it still runs. */
int child_wait_ms(pid_t pid, int ms);
/* The same with CHILD_LIMIT_MS; a child that takes longer is killed and -ETIMEDOUT returned. */
int child_wait(pid_t pid);
/* SIGKILL and reap; harmless when it has been reaped. */
void child_kill(pid_t pid);
/* True for the pid of a child started here and not reaped yet. */
bool child_is_known(pid_t pid);
/* For .fini: kills and reaps all that was started here. */
void child_kill_all(void);

struct child_output {
    int status;          /* as child_wait() */
    struct buf out, err; /* each with a NUL behind its bytes that is not counted */
};

/* Runs a program to its end with `in` on its standard input. 0 or -errno; out is the caller's to
 * child_output_deinit(). */
int child_run(const char *const argv[], const char *const env[], const void *in, size_t in_len,
              struct child_output *ret);
void child_output_deinit(struct child_output *o);
