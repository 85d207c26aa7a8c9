/* SPDX-License-Identifier: MIT */
#pragma once

/* One polite pause inside a spin loop. */
static inline void cpu_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* The number of CPUs this process may use: its affinity mask, cut by the cgroup's cpu quota (v2
 * cpu.max or v1 cpu.cfs_quota_us of its own group and those above), rounded up. At least 1. */
unsigned cpu_available(void);

/* The part of it that is the quota, in whole CPUs; 0: none. groups is a file as /proc/PID/cgroup, mount where the
 * hierarchies are mounted. */
unsigned cpu_quota(const char *groups, const char *mount);
