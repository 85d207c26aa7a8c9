/* SPDX-License-Identifier: MIT */
/* What a process costs in memory, as the kernel counts it. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* The memory that would be free again if this process ended: what it has for itself alone, not what
 * it shares with those it was forked from, nor mapped files and segments. pid 0: this process. The
 * kernel walks all its pages for that, so it takes the longer the more it has. 0; -errno: no such process, or not ours to look at. */
int memory_private(pid_t pid, uint64_t *ret);
/* The number of a line such as "Pss_Anon:   112 kB" in text, in bytes; UINT64_MAX: no such line. */
uint64_t memory_line(const char *text, const char *name);
