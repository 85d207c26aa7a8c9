/* SPDX-License-Identifier: MIT */
/* How many CPUs there really are for us. A container's quota is not visible in the affinity mask,
 * and a pool sized by the machine's CPUs inside a half-CPU container thrashes; so the quotas of our
 * cgroup and its ancestors count. Fails: never; what cannot be read does not limit. */
#include "lib/base/cpu.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

/* Rounds quota/period up; 0 when the file gives no limit. */
static unsigned read_quota(const char *dir, int v2) {
    char path[PATH_MAX];
    long long quota = -1, period = 0;
    if (snprintf(path, sizeof(path), "%s/%s", dir, v2 ? "cpu.max" : "cpu.cfs_quota_us") >=
        (int)sizeof(path)) {
        return 0;
    }
    FILE *f = fopen(path, "re");
    if (!f) {
        return 0;
    }
    int n = v2 ? fscanf(f, "%lld %lld", &quota, &period) : fscanf(f, "%lld", &quota);
    fclose(f);
    if (n < 1 || quota <= 0) {
        return 0;
    }
    if (!v2) {
        if (snprintf(path, sizeof(path), "%s/cpu.cfs_period_us", dir) >= (int)sizeof(path)) {
            return 0;
        }
        f = fopen(path, "re");
        if (!f) {
            return 0;
        }
        n = fscanf(f, "%lld", &period);
        fclose(f);
        if (n != 1) {
            return 0;
        }
    }
    return period > 0 ? (unsigned)((quota + period - 1) / period) : 0;
}

/* The least quota on the way from the group up to the mount point. */
static unsigned least_quota(const char *mount, char *group, int v2) {
    unsigned least = 0;
    char dir[PATH_MAX];
    for (;;) {
        if (snprintf(dir, sizeof(dir), "%s%s", mount, group) < (int)sizeof(dir)) {
            unsigned q = read_quota(dir, v2);
            if (q && (!least || q < least)) {
                least = q;
            }
        }
        char *slash = strrchr(group, '/');
        if (!slash) {
            return least;
        }
        *slash = '\0';
    }
}

unsigned cpu_quota(const char *groups, const char *mount) {
    unsigned least = 0;
    char line[PATH_MAX], v1[PATH_MAX];
    FILE *f = fopen(groups, "re");
    if (!f) {
        return 0;
    }
    if (snprintf(v1, sizeof(v1), "%s/cpu", mount) >= (int)sizeof(v1)) {
        v1[0] = '\0';
    }
    while (fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group) {
            continue;
        }
        *group++ = '\0';
        controllers++;
        int v2 = *controllers == '\0';
        if (!v2 && strcmp(controllers, "cpu") != 0 && strcmp(controllers, "cpu,cpuacct") != 0) {
            continue;
        }
        unsigned q = least_quota(v2 ? mount : v1, group, v2);
        if (q && (!least || q < least)) {
            least = q;
        }
    }
    fclose(f);
    return least;
}

unsigned cpu_available(void) {
    cpu_set_t set;
    unsigned n = 1;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        n = (unsigned)CPU_COUNT(&set);
    }
    unsigned quota = cpu_quota("/proc/self/cgroup", "/sys/fs/cgroup");
    n = quota && quota < n ? quota : n;
    return n ? n : 1;
}
