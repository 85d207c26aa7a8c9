/* SPDX-License-Identifier: MIT */
/* What the kernel says of a process. 0 or -errno. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

struct proc_memory {
    double rss_kib, pss_kib;
    double shared_kib;  /* of the PSS: shared memory, such as the segment */
    double private_kib; /* clean and dirty */
};

int proc_memory(pid_t pid, struct proc_memory *ret);
/* Time on a CPU since its start, of its first thread. */
int proc_cpu_ms(pid_t pid, double *ret);
/* Pids of its children, at most max; how many. */
size_t proc_children(pid_t pid, pid_t *pids, size_t max);
