/* SPDX-License-Identifier: MIT */
/* Control groups (version 2) of what the daemon starts, where it has been given a part of the tree:
 *
 *     supervisor                    the daemon itself
 *     pool.NAME                     all of a pool: its weight, and the memory of all together
 *     pool.NAME/zygote
 *     pool.NAME/worker.SLOT.GEN     a worker with all that descends from it
 *     processes/ID.RUN              a run of a process of PROC.START or the configuration
 *
 * All functions take NULL for "there are none", and then do nothing. Names are as above. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/config.h"

struct cgroups;
struct family;
struct worker;

enum { CGROUP_NAME = 96 };

/* As config.cgroup says; the log says what there is, once. *ret NULL: none. 0; -errno: a directory was asked for that cannot be
 * used, and the log says why. Moves this process. */
int cgroups_open(const struct config *c, struct cgroups **ret);
/* What a former daemon has left goes; in_use: its workers go on, so only what is empty. */
void cgroups_clean(struct cgroups *g, bool in_use);
/* When all that was started is gone; in_use: but for workers that are left to the next daemon. Moves this process back. Returns
 * NULL. */
struct cgroups *cgroups_close(struct cgroups *g, bool in_use);

/* Those of a pool and its zygote, with what the configuration says; *ret_fd: a process joins the zygote's by writing 0 there; -1:
 * none. The log says what cannot be kept of it. */
void cgroup_pool(struct cgroups *g, const struct pool_config *c, int *ret_fd);
void cgroup_pool_end(struct cgroups *g, const struct pool_config *c);
/* A worker's, likewise. */
void cgroup_worker(struct cgroups *g, const struct worker *w, const struct pool_config *c,
                   int *ret_fd);
void cgroup_worker_name(const struct worker *w, char out[CGROUP_NAME]);
/* That of a run of a process, likewise. */
void cgroup_process(struct cgroups *g, uint64_t id, uint32_t run, int *ret_fd);
void cgroup_process_name(uint64_t id, uint32_t run, char out[CGROUP_NAME]);

/* A process that exists. */
void cgroup_move(struct cgroups *g, const char *name, int pid);
/* SIGKILL for all that is in it. */
void cgroup_kill(struct cgroups *g, const char *name);
/* The kernel has killed in it for want of memory. */
bool cgroup_was_short(struct cgroups *g, const char *name);
/* What is in it; adds to ret. */
void cgroup_members(struct cgroups *g, const char *name, struct family *ret);
/* Kills what is in it, and removes it: now, or in a later turn. */
void cgroup_end(struct cgroups *g, const char *name);
/* Removes those that could not be removed before. True: some are left. */
bool cgroups_turn(struct cgroups *g);
