/* SPDX-License-Identifier: MIT */
/* The memory that is left: for each cgroup (version 2) from ours up to the root that has a limit
 * (memory.high or memory.max), the limit less what it uses, page cache that is not in use not
 * counted; and MemAvailable of the machine. The least counts. Pressure is what the kernel says in
 * PSI form ("some avg10=1.23 ..."): of our cgroup if it has that, else of the machine.
 *
 * What is not there is skipped: other kernels, containers without /sys, cgroup version 1.
 *
 * All files are found by open_file() below a root that is "/" but for tests, which make a tree of
 * their own and name it in HEARTH_MEMORY_ROOT.
 *
 * Fails: nothing; what cannot be read is not known. */
#include "daemon/supervise/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/memory.h"
#include "lib/base/num.h"

enum { TEXT = 8192 };

static int open_file(const char *path) {
    const char *root = getenv("HEARTH_MEMORY_ROOT");
    char whole[PATH_MAX];
    if (snprintf(whole, sizeof(whole), "%s%s", root ? root : "", path) >= (int)sizeof(whole)) {
        return -ENAMETOOLONG;
    }
    int fd = open(whole, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* The file's text; false: there is none. */
static bool read_text(const char *dir, const char *name, char out[TEXT]) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path)) {
        return false;
    }
    _cleanup_close_ int fd = open_file(path);
    ssize_t n = fd < 0 ? -1 : read(fd, out, TEXT - 1);
    if (n < 0) {
        return false;
    }
    out[n] = '\0';
    return true;
}

/* A file with one number; UINT64_MAX for "max", and when there is none. */
static uint64_t read_number(const char *dir, const char *name) {
    char text[TEXT];
    uint64_t v;
    if (!read_text(dir, name, text) || num_u64(text, strcspn(text, "\n"), &v) < 0) {
        return UINT64_MAX;
    }
    return v;
}

static bool read_pressure(const char *dir, const char *name, uint32_t *ret) {
    char text[TEXT];
    const char *at = read_text(dir, name, text) ? strstr(text, "some avg10=") : NULL;
    if (!at) {
        return false;
    }
    *ret = (uint32_t)strtoul(at + strlen("some avg10="), NULL, 10); /* up to the point */
    return true;
}

static void look_at_machine(struct memory_room *m) {
    char text[TEXT];
    if (!read_text("/proc", "meminfo", text)) {
        return;
    }
    uint64_t available = memory_line(text, "MemAvailable");
    if (available < m->available) {
        m->available = available;
        m->total = memory_line(text, "MemTotal");
        m->limit = "the machine";
    }
}

/* "inactive_file 4096" of memory.stat: cache that goes when memory is needed. */
static uint64_t idle_cache(const char *dir) {
    char text[TEXT];
    const char *at = read_text(dir, "memory.stat", text) ? strstr(text, "\ninactive_file ") : NULL;
    return at ? strtoull(at + strlen("\ninactive_file "), NULL, 10) : 0;
}

static void look_at_cgroup(struct memory_room *m, const char *dir) {
    uint64_t high = read_number(dir, "memory.high"), max = read_number(dir, "memory.max");
    uint64_t limit = high < max ? high : max, used = read_number(dir, "memory.current");
    if (limit == UINT64_MAX || used == UINT64_MAX) {
        return;
    }
    uint64_t cache = idle_cache(dir);
    used -= cache < used ? cache : used;
    uint64_t left = limit > used ? limit - used : 0;
    if (left < m->available) {
        *m = (struct memory_room){left, limit, "its cgroup", m->pressure};
    }
}

/* The directory of our cgroup; false: there is none of version 2. */
static bool find_cgroup(char out[PATH_MAX]) {
    char text[TEXT];
    if (!read_text("/proc/self", "cgroup", text)) {
        return false;
    }
    const char *at = strncmp(text, "0::/", 4) == 0 ? text : strstr(text, "\n0::/");
    if (!at) {
        return false;
    }
    at += strcspn(at, "/");
    int n = snprintf(out, PATH_MAX, "/sys/fs/cgroup%.*s", (int)strcspn(at, "\n"), at);
    return n > 0 && n < PATH_MAX;
}

void memory_look(struct memory_room *ret) {
    struct memory_room m = {.available = UINT64_MAX, .total = UINT64_MAX};
    char dir[PATH_MAX];
    bool told = false;
    look_at_machine(&m);
    if (find_cgroup(dir)) {
        told = read_pressure(dir, "memory.pressure", &m.pressure);
        for (char *slash; strlen(dir) > strlen("/sys/fs/cgroup"); *slash = '\0') {
            look_at_cgroup(&m, dir);
            slash = strrchr(dir, '/');
        }
    }
    if (!told) {
        read_pressure("/proc/pressure", "memory", &m.pressure);
    }
    *ret = m;
}
