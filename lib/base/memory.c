/* SPDX-License-Identifier: MIT */
/* Private memory, from /proc/PID/smaps_rollup. No one line of it says what we want: Private_* counts
 * a page of a shared segment that only this process has touched so far, and Pss_Anon counts a part
 * of each page that was inherited and never written to, a part that grows when siblings end. The
 * smaller of both is at least what is really the process's own, and rises only when that does.
 * Kernels without smaps_rollup have statm, whose resident minus shared pages are all anonymous ones,
 * inherited or not.
 *
 * Fails: -ESRCH, -ENOENT, -EACCES and what else open and read say; -EBADMSG: not what we expected. */
#include "lib/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/cleanup.h"

static int read_proc(pid_t pid, const char *name, char *out, size_t size) {
    char path[64] = "/proc/self/";
    out[0] = '\0';
    if (pid != 0) {
        snprintf(path, sizeof(path), "/proc/%d/", (int)pid);
    }
    strncat(path, name, sizeof(path) - strlen(path) - 1);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);
    if (n < 0) {
        return -errno;
    }
    out[n] = '\0';
    return 0;
}

uint64_t memory_line(const char *text, const char *name) {
    size_t len = strlen(name);
    for (const char *at = text; at; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, name, len) == 0 && at[len] == ':') {
            return strtoull(at + len + 1, NULL, 10) * 1024;
        }
    }
    return UINT64_MAX;
}

static int from_statm(pid_t pid, uint64_t *ret) {
    char text[256];
    uint64_t size, resident, shared;
    int r = read_proc(pid, "statm", text, sizeof(text));
    if (r < 0) {
        return r;
    }
    if (sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64, &size, &resident, &shared) != 3 ||
        shared > resident) {
        return -EBADMSG;
    }
    *ret = (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
    return 0;
}

int memory_private(pid_t pid, uint64_t *ret) {
    char text[4096];
    int r = read_proc(pid, "smaps_rollup", text, sizeof(text));
    if (r == -ENOENT) {
        return from_statm(pid, ret);
    }
    if (r < 0) {
        return r;
    }
    uint64_t clean = memory_line(text, "Private_Clean");
    uint64_t dirty = memory_line(text, "Private_Dirty");
    uint64_t anon = memory_line(text, "Pss_Anon"); /* since Linux 5.9; missing: the largest */
    if (clean == UINT64_MAX || dirty == UINT64_MAX) {
        return -EBADMSG;
    }
    *ret = clean + dirty < anon ? clean + dirty : anon;
    return 0;
}
