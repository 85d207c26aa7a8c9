/* SPDX-License-Identifier: MIT */
/* Reading /proc/PID: smaps_rollup (memory, with shared pages divided among those who map them),
 * schedstat (nanoseconds on a CPU; stat counts in ticks of 10 ms, too coarse for a daemon at rest)
 * and children.
 *
 * Fails: -errno when the process is gone, -EBADMSG when a field is missing. */
#include "tests/bench/proc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "tests/support/tmp.h"

static int read_proc(pid_t pid, const char *name, char **ret) {
    char path[128];
    size_t len;
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    return tmp_read(path, ret, &len);
}

/* The number behind "\nfield:". */
static double field(const char *text, const char *name) {
    const char *at = strstr(text, name);
    return at ? strtod(at + strlen(name), NULL) : 0;
}

int proc_memory(pid_t pid, struct proc_memory *ret) {
    _cleanup_free_ char *text = NULL;
    int r = read_proc(pid, "smaps_rollup", &text);
    if (r < 0) {
        return r;
    }
    struct proc_memory m = {
        .rss_kib = field(text, "\nRss:"),
        .pss_kib = field(text, "\nPss:"),
        .shared_kib = field(text, "\nPss_Shmem:"),
        .private_kib = field(text, "\nPrivate_Clean:") + field(text, "\nPrivate_Dirty:"),
    };
    if (m.rss_kib <= 0) {
        return -EBADMSG;
    }
    *ret = m;
    return 0;
}

int proc_cpu_ms(pid_t pid, double *ret) {
    _cleanup_free_ char *text = NULL;
    int r = read_proc(pid, "schedstat", &text);
    if (r < 0) {
        return r;
    }
    *ret = strtod(text, NULL) / 1e6;
    return 0;
}

size_t proc_children(pid_t pid, pid_t *pids, size_t max) {
    char name[64];
    _cleanup_free_ char *text = NULL;
    snprintf(name, sizeof(name), "task/%d/children", (int)pid);
    if (read_proc(pid, name, &text) < 0) {
        return 0;
    }
    size_t n = 0;
    for (char *at = text, *end; n < max; at = end) {
        long child = strtol(at, &end, 10);
        if (end == at) {
            break;
        }
        pids[n++] = (pid_t)child;
    }
    return n;
}
