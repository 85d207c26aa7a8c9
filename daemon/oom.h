/* SPDX-License-Identifier: MIT */
/* Whether the kernel has killed for want of memory: the count it keeps of our cgroup. */
#pragma once

#include <stdbool.h>

struct oom;

/* Finds the count of the cgroup this process is in (memory.events of version 2, memory.oom_control of
 * version 1), and says in the log if there is none. NULL: no memory. */
struct oom *oom_new(void);
struct oom *oom_free(struct oom *o); /* NULL is accepted; returns NULL */
/* A process in the cgroup was killed that no earlier call has answered for. False when there is no
 * count, or o is NULL. */
bool oom_killed(struct oom *o);
