/* SPDX-License-Identifier: MIT */
/* A process and all that descend from it, as far as /proc tells: also those that have left its
 * process group or session. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { FAMILY_MAX = 64 };

/* Descendants that were seen, each held by a pidfd, so that no number can become another's. */
struct family {
    uint32_t n;
    pid_t pid[FAMILY_MAX];
    int fd[FAMILY_MAX];
};

/* Those of root, without itself. What cannot be read, or is too much, is missing. */
void family_collect(pid_t root, struct family *ret);
/* Adds those of root. */
void family_add(struct family *f, pid_t root);
/* SIGKILL for each. */
void family_kill(const struct family *f);
void family_release(struct family *f);

/* Orphans of commands and processes, which come to us: fn is called for each child of this process that is not `known`, with its
 * environment (NUL-terminated words). */
void family_each_orphan(bool (*known)(void *arg, pid_t child),
                        void (*fn)(void *arg, pid_t child, const char *env, size_t len), void *arg);
/* The value of a variable in such an environment; NULL. */
const char *family_variable(const char *env, size_t len, const char *name);
/* Adds a child of this process, and what descends from it. */
void family_add_child(struct family *f, pid_t child);

/* Bytes of memory of its own that a process has: heap, stacks, copies, not what is mapped from files
 * or shared. 0: there is no such process. */
uint64_t family_memory_of(pid_t pid);
/* The same of a process and its family. */
uint64_t family_memory(pid_t root);

/* What a process is doing, for people: "sh > sleep: sleeping in hrtimer_nanosleep
 * (clock_nanosleep), 3 ms of CPU": of the youngest in the line of its last children. */
void family_where(pid_t root, char *out, size_t n);
