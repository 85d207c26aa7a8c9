/* SPDX-License-Identifier: MIT */
/* What a process that the daemon starts cannot do any more, nor what descends from it. */
#pragma once

#include <linux/filter.h>

#include "daemon/config.h"

/* What of it is made ready by the daemon, since the child may call system calls only. */
struct confinement {
    int ruleset_fd;           /* Landlock's; -1: none */
    struct sock_fprog filter; /* seccomp's; len 0: none */
};

/* What a pool's keys seccomp, paths_read and paths_write ask for. `own`: paths beside those of the keys that its processes
 * read and run, NULL-terminated; `tmp`: one they write to, or NULL. 0; -errno with *ret_what naming the key, or the path, for
 * which it cannot be had: then the pool must not start. */
int confine_prepare(const struct pool_config *c, const char *const *own, const char *tmp,
                    struct confinement *ret, const char **ret_what);
void confine_release(struct confinement *c);

/* Once, before anything is started: from now on neither this process nor any that it starts gains a capability by an exec. What
 * this one has it keeps. */
void confine_open(void);

/* In the child. First: no new privileges, and Landlock if c says so; before the descriptors are put to their places. */
int confine_first(const struct confinement *c, const char **ret_what);
/* Last: no capabilities, and the filter; what needs either has been done. */
int confine_last(const struct confinement *c, const char **ret_what);
