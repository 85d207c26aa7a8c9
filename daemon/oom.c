/* SPDX-License-Identifier: MIT */
/* A process that the kernel kills for want of memory dies of SIGKILL, like one that anybody else has
 * killed. The kernel counts those of a cgroup, before it sends the signal; the daemon and all its
 * workers are in one. So a SIGKILL that was not ours, or a shell's exit status 137, while the count
 * has gone up by one that nothing else has been found to account for, was that. Each is used up by
 * one death; one whose victim nobody missed (a child whose parent carried on) is credited to the next.
 *
 * Fails: without a count every answer is no, and the cause stays what is known for sure: the signal. */
#include "daemon/oom.h"

#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/log.h"
#include "lib/base/cleanup.h"

enum { TEXT = 8192 };

struct oom {
    char path[PATH_MAX]; /* "": there is none */
    uint64_t seen;       /* kills that are accounted for */
};

static bool read_text(const char *path, char out[TEXT]) {
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, TEXT - 1);
    out[n > 0 ? n : 0] = '\0';
    return n > 0;
}

static bool read_count(const char *path, uint64_t *ret) {
    char text[TEXT];
    const char *at = read_text(path, text) ? strstr(text, "oom_kill ") : NULL;
    if (!at) {
        return false;
    }
    *ret = strtoull(at + strlen("oom_kill "), NULL, 10);
    return true;
}

/* The cgroup's path behind `mark` in /proc/self/cgroup, made a file's: dir PATH "/" name. */
static bool find(struct oom *o, const char *cgroups, const char *mark, const char *dir,
                 const char *name) {
    const char *at = strstr(cgroups, mark);
    if (!at) {
        return false;
    }
    at += strlen(mark);
    int n = snprintf(o->path, sizeof(o->path), "%s%.*s/%s", dir, (int)strcspn(at, "\n"), at, name);
    return n > 0 && n < (int)sizeof(o->path) && read_count(o->path, &o->seen);
}

struct oom *oom_new(void) {
    char text[TEXT];
    struct oom *o = calloc(1, sizeof(*o));
    if (!o) {
        return NULL;
    }
    if (!read_text("/proc/self/cgroup", text) ||
        (!find(o, text, ":memory:", "/sys/fs/cgroup/memory", "memory.oom_control") &&
         !find(o, text, "0::", "/sys/fs/cgroup", "memory.events"))) {
        o->path[0] = '\0';
        log_debug(NULL, "the cgroup has no count of what is killed for want of memory: that is "
                        "reported as signal 9");
    }
    return o;
}

struct oom *oom_free(struct oom *o) {
    free(o);
    return NULL;
}

bool oom_killed(struct oom *o) {
    uint64_t now;
    if (!o || !o->path[0] || !read_count(o->path, &now) || now <= o->seen) {
        return false;
    }
    o->seen++;
    return true;
}
