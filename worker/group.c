/* SPDX-License-Identifier: MIT */
/* What a command has started and left behind: it may have left its process group, its session and its environment, and its
 * parents may be gone, but not its control group. The group is the worker's, so it is read and each member killed, and not
 * cgroup.kill written. The worker runs one command at a time and nothing else: who is in it is the last command's.
 *
 * One system call when there is nobody, as there nearly always is. A number that is read may be another process's when it is
 * opened: it counts only if it is still in the list then.
 *
 * Fails: nothing; who forks faster than that is killed with the worker, or by its limits. */
#include "worker/group.h"

#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "lib/base/cleanup.h"

enum { TEXT = 8192, ROUNDS = 64 };

static bool read_list(int fd, char out[TEXT]) {
    ssize_t n = pread(fd, out, TEXT - 1, 0);
    out[n > 0 ? n : 0] = '\0';
    return n > 0;
}

static bool is_in(char *list, long pid) {
    for (char *at = list, *end;; at = end) {
        long other = strtol(at, &end, 10);
        if (end == at || other == pid) {
            return end != at;
        }
    }
}

/* How many others there were. */
static int kill_others(int fd) {
    char list[TEXT], again[TEXT];
    int n = 0;
    if (!read_list(fd, list)) {
        return 0;
    }
    for (char *at = list, *end;; at = end) {
        long pid = strtol(at, &end, 10);
        if (end == at) {
            return n;
        }
        if (pid <= 1 || pid == getpid()) {
            continue;
        }
        _cleanup_close_ int one = pidfd_open((pid_t)pid, 0);
        n++;
        if (one >= 0 && read_list(fd, again) && is_in(again, pid)) {
            pidfd_send_signal(one, SIGKILL, NULL, 0);
        }
    }
}

void group_clear(int fd) {
    for (int i = 0; i < ROUNDS && kill_others(fd) > 0; i++) {
        sched_yield();
    }
}
