/* SPDX-License-Identifier: MIT */
/* Starting a program with exactly the descriptors, environment and limits it is meant to have: the
 * one place where the daemon makes a process. */
#pragma once

#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

struct confinement;

struct launch {
    const char *path;
    char *const *argv;
    const char *const *env; /* "NAME=value" over our own; NULL-terminated */
    int fds[7], n_fds;      /* become first_fd and those behind it */
    int first_fd;           /* 3, with 0 to 2 as ours but for an empty stdin; or 0 */
    const char *directory;
    int nice;                      /* added to ours */
    struct rlimit files;           /* RLIMIT_NOFILE, unless below: ours is raised for clients */
    uint64_t rlimit[RLIM_NLIMITS]; /* UINT64_MAX: as it is */
    int cgroup_fd;                 /* -1; or its cgroup.procs, which it writes itself into */
    const struct confinement *confinement; /* more than what all have (confine.h); NULL: nothing */
};

/* 0, or -errno with *ret_what naming the step that failed ("exec", "working_directory", ...). The
 * child is the leader of a session of its own, dies with this process, and has no capabilities nor any way to new ones. */
int launch_run(const struct launch *l, pid_t *ret_pid, int *ret_pidfd, const char **ret_what);
