/* SPDX-License-Identifier: MIT */
/* The process of a struct proc: its program, environment and descriptors, and what it writes.
 *
 * What it writes to stdout and stderr, unless it was given others, comes by one pipe, in the order in which it was written, and
 * the last limits.process_output bytes of it are kept, over restarts too. The daemon takes all there is and drops the oldest, so
 * a process never waits for a reader. The reading end does not block; the daemon keeps the other too, so that the end of a process
 * wakes it once, by the pidfd, and not also by the pipe's end.
 *
 * The buffer holds up to twice what is kept before the older half is dropped, so that a byte is moved once.
 *
 * Fails: procs_launch() with the step; output for which there is no memory is dropped, and counted all the same. */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/supervise/cgroup.h"
#include "daemon/supervise/launch.h"
#include "daemon/supervise/private.h"
#include "daemon/supervise/procs.h"
#include "lib/base/cleanup.h"
#include "lib/base/fd.h"

enum { TAKE = 64 * 1024, TAKES = 4, PIPE_TAKES = 64 };

/* ---- what it writes ---- */

static void keep(struct proc *p, const char *data, size_t n) {
    uint64_t most = p->d->config->limits.process_output;
    p->written += n;
    if (n > most) {
        data += n - most;
        n = most;
    }
    if (buf_append(&p->output, data, n) < 0) {
        return;
    }
    if (buf_len(&p->output) > 2 * most) {
        buf_consume(&p->output, buf_len(&p->output) - most);
    }
}

/* What read() said. */
static ssize_t take(struct proc *p) {
    static char data[TAKE];
    ssize_t n = read(p->out_fd, data, sizeof(data));
    if (n > 0) {
        keep(p, data, (size_t)n);
    }
    return n;
}

void procs_output_take(struct proc *p) {
    /* more than any pipe holds is somebody else's, who has left the group and writes on */
    for (int n = 0; n < PIPE_TAKES && take(p) > 0; n++) {
    }
}

static void on_output(evutil_socket_t fd, short what, void *arg) {
    struct proc *p = arg;
    (void)fd;
    (void)what;
    for (int n = 0; n < TAKES && take(p) == TAKE; n++) {
    }
}

int procs_output_watch(struct proc *p) {
    p->out_event = event_new(p->d->base, p->out_fd, EV_READ | EV_PERSIST, on_output, p);
    return p->out_event && event_add(p->out_event, NULL) == 0 ? 0 : -ENOMEM;
}

/* ---- starting ---- */

static const char *path_of(const struct proc *p) {
    for (const char *const *e = p->spec.env; *e; e++) {
        if (strncmp(*e, "PATH=", 5) == 0) {
            return *e + 5;
        }
    }
    const char *path = getenv("PATH");
    return path ? path : "/usr/bin:/bin";
}

/* Looks for the program as execvp(3) does. 0 or -errno. */
static int find_program(const struct proc *p, char out[PATH_MAX]) {
    const char *name = p->spec.argv[0];
    if (strchr(name, '/')) {
        return snprintf(out, PATH_MAX, "%s", name) < PATH_MAX ? 0 : -ENAMETOOLONG;
    }
    int r = -ENOENT;
    for (const char *dir = path_of(p); *name; dir++) {
        int n = (int)strcspn(dir, ":");
        struct stat st;
        if (snprintf(out, PATH_MAX, "%.*s%s%s", n, dir, n ? "/" : "", name) < PATH_MAX &&
            stat(out, &st) == 0 && S_ISREG(st.st_mode)) {
            if (faccessat(AT_FDCWD, out, X_OK, AT_EACCESS) == 0) {
                return 0;
            }
            r = -EACCES;
        }
        dir += n;
        if (!*dir) {
            break;
        }
    }
    return r;
}

static int make_pipe(struct proc *p) {
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) < 0) {
        return -errno;
    }
    p->out_fd = pair[0];
    p->out_write_fd = pair[1];
    return fd_set_nonblock(pair[0], 1);
}

static bool is_set(const char **env, const char *entry) {
    size_t len = strcspn(entry, "=") + 1;
    while (*env && strncmp(*env, entry, len) != 0) {
        env++;
    }
    return *env;
}

const char **procs_environment(const struct proc *p, char ours[PROC_OURS][48],
                               const struct config_strings *more) {
    size_t n = 0, at = PROC_OURS;
    while (p->spec.env[n]) {
        n++;
    }
    const char **env = calloc(n + PROC_OURS + (more ? more->n : 0) + 1, sizeof(*env));
    if (!env) {
        return NULL;
    }
    snprintf(ours[0], sizeof(ours[0]), "HEARTH_PROC=%llu", (unsigned long long)p->id);
    snprintf(ours[1], sizeof(ours[1]), "HEARTH_PROC_RUN=%u", p->runs);
    for (size_t i = 0; i < PROC_OURS; i++) {
        env[i] = ours[i];
    }
    for (size_t i = 0; i < n; i++) {
        env[at++] = p->spec.env[i];
    }
    for (uint32_t i = 0; more && i < more->n; i++) {
        if (!is_set(env, more->v[i])) {
            env[at++] = more->v[i];
        }
    }
    return env;
}

int procs_make_fds(struct proc *p, int fds[3], const char **ret_what) {
    int null_fd = p->d->procs->null_fd;
    for (int i = 0; i < 3; i++) {
        fds[i] = p->fds[i] >= 0 ? p->fds[i] : i == 0 || p->spec.null[i] ? null_fd : p->out_write_fd;
        if (fds[i] < 0) {
            *ret_what = "pipe";
            int r = make_pipe(p);
            if (r < 0) {
                return r;
            }
            fds[i] = p->out_write_fd;
        }
    }
    return 0;
}

int procs_launch(struct proc *p, const char **ret_what) {
    static char program[PATH_MAX], what[80];
    char ours[PROC_OURS][48];
    if (p->spec.pool) {
        return procs_launch_handler(p, ret_what);
    }
    _cleanup_free_ const char **env = procs_environment(p, ours, NULL);
    struct launch l = {
        .n_fds = 3,
        .path = program,
        .argv = (char *const *)(uintptr_t)p->spec.argv,
        .env = env,
        .directory = p->spec.directory,
        .files = p->d->supervise->files,
    };
    *ret_what = "environment";
    if (!env) {
        return -ENOMEM;
    }
    for (int i = 0; i < RLIM_NLIMITS; i++) {
        l.rlimit[i] = UINT64_MAX;
    }
    *ret_what = what;
    snprintf(what, sizeof(what), "%s", p->spec.argv[0]);
    int r = find_program(p, program);
    r = r < 0 ? r : procs_make_fds(p, l.fds, ret_what);
    if (r < 0) {
        return r;
    }
    _cleanup_close_ int cgroup = -1;
    cgroup_process(p->d->cgroups, p->id, p->runs, &cgroup);
    l.cgroup_fd = cgroup;
    return launch_run(&l, &p->pid, &p->pidfd, ret_what);
}
