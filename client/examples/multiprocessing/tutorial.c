/* SPDX-License-Identifier: MIT */
/* See tutorial.h. The daemon starts the children, from a directory and with an environment of its own: so a child is told by its
 * environment where the daemon is, and this program by its full path.
 *
 * Fails: by ending the program. */
#include "tutorial.h"

#include <hearth.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct hearth *tutorial_connect(void) {
    struct hearth *h;
    int r = hearth_connect(NULL, &h);
    if (r != 0) {
        fprintf(stderr, "cannot connect: %s\n", hearth_strerror(r));
        exit(1);
    }
    return h;
}

void tutorial_check(struct hearth *h, int r, const char *what) {
    if (r != 0) {
        fprintf(stderr, "%s: %s %s\n", what, hearth_strerror(r), hearth_errmsg(h));
        exit(1);
    }
}

struct child tutorial_start(struct hearth *h, const char *a, const char *b) {
    char self[PATH_MAX] = "", where[PATH_MAX];
    const char *argv[] = {self, "child", a, b, NULL};
    const char *env[] = {where, NULL};
    const int files[] = {HEARTH_PROC_NULL, STDOUT_FILENO, STDERR_FILENO};
    struct hearth_proc process = {
        .argv = argv, .env = env, .fds = files, .flags = HEARTH_PROC_OWNED};
    struct child child;
    int64_t pid;
    if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0) {
        perror("/proc/self/exe");
        exit(1);
    }
    snprintf(where, sizeof(where), "HEARTH_SOCKET=%s", hearth_path(h));
    tutorial_check(h, hearth_proc_start(h, &process, child.id, &pid), "start");
    child.pid = (long)pid;
    return child;
}

void tutorial_join(struct hearth *h, const struct child *child) {
    struct hearth_proc_info info;
    tutorial_check(h, hearth_proc_wait(h, child->id, -1, &info), "join");
    if (info.exit_status != 0) {
        fprintf(stderr, "process %s: %s\n", child->id, info.cause);
        exit(1);
    }
}
