/* SPDX-License-Identifier: MIT */
/* fork and exec of a zygote, or of a process that a client wants, by vfork(): the daemon is stopped until the exec has
 * happened, and no page table is copied, so that the start costs the same whatever the daemon has mapped.
 *
 * Between vfork() and execve() the child runs on the parent's memory. It calls system calls only,
 * writes nothing but its own stack and the two words of `struct failure`, and no signal handler can
 * run in it: all signals are blocked around the vfork, and are unblocked in the child after every
 * disposition is the default again (exec would keep the ignored ones).
 *
 * Descriptors: those for it are first moved above everything that may be in their way, then put to
 * their places; all others are closed. The environment is ours without what the service manager meant
 * for us alone. What it may not do any more (confine.h) is taken away in two steps: what must come before its descriptors are in
 * their places, and, last, the privileges that the steps between may need.
 *
 * Fails: -errno and the name of the step. */
#include "daemon/supervise/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/supervise/confine.h"
#include "lib/base/cleanup.h"

enum { FDS = ARRAY_SIZE(((struct launch *)0)->fds), ABOVE = 16 };

struct failure {
    volatile int error;
    const char *volatile what;
};

static const char *const private_names[] = {
    "NOTIFY_SOCKET=", "WATCHDOG_USEC=",  "WATCHDOG_PID=", "LISTEN_FDS=",
    "LISTEN_PID=",    "LISTEN_FDNAMES=", "FDSTORE="};

static bool is_private(const char *entry) {
    for (size_t i = 0; i < ARRAY_SIZE(private_names); i++) {
        if (strncmp(entry, private_names[i], strlen(private_names[i])) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_overridden(const char *entry, const char *const *env) {
    size_t len = strcspn(entry, "=") + 1;
    for (; *env; env++) {
        if (strncmp(entry, *env, len) == 0) {
            return true;
        }
    }
    return false;
}

/* The pointers only: the strings stay where they are. */
static const char **make_environment(const char *const *env) {
    size_t n = 1, at = 0;
    for (char **e = environ; e && *e; e++) {
        n++;
    }
    for (const char *const *e = env; *e; e++) {
        n++;
    }
    const char **made = calloc(n, sizeof(*made));
    if (!made) {
        return NULL;
    }
    for (char **e = environ; e && *e; e++) {
        if (!is_private(*e) && !is_overridden(*e, env)) {
            made[at++] = *e;
        }
    }
    for (const char *const *e = env; *e; e++) {
        made[at++] = *e;
    }
    return made;
}

static _Noreturn void fail(struct failure *f, const char *what) {
    f->error = errno;
    f->what = what;
    _exit(127);
}

static void confine(int (*how)(const struct confinement *c, const char **ret_what),
                    const struct launch *l, struct failure *f) {
    const char *what;
    int r = how(l->confinement, &what);
    if (r < 0) {
        errno = -r;
        fail(f, what);
    }
}

/* What it writes goes where ours goes: into the log. */
static void keep_output(struct failure *f) {
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null_fd < 0) {
        fail(f, "/dev/null");
    }
    if (dup2(null_fd, 0) < 0 || dup2(2, 1) < 0) {
        fail(f, "descriptors");
    }
}

static void place_fds(const struct launch *l, struct failure *f) {
    int moved[FDS];

    for (int i = 0; i < l->n_fds; i++) {
        moved[i] = fcntl(l->fds[i], F_DUPFD_CLOEXEC, ABOVE);
        if (moved[i] < 0) {
            fail(f, "descriptors");
        }
    }
    if (l->first_fd > 0) {
        keep_output(f);
    }
    for (int i = 0; i < l->n_fds; i++) {
        if (dup2(moved[i], l->first_fd + i) < 0) {
            fail(f, "descriptors");
        }
    }
    if (close_range((unsigned)(l->first_fd + l->n_fds), ~0U, CLOSE_RANGE_CLOEXEC) < 0) {
        fail(f, "descriptors");
    }
}

static void set_limits(const struct launch *l, struct failure *f) {
    if (setrlimit(RLIMIT_NOFILE, &l->files) < 0) {
        fail(f, "rlimits");
    }
    for (int i = 0; i < RLIM_NLIMITS; i++) {
        if (l->rlimit[i] != UINT64_MAX) {
            struct rlimit r = {.rlim_cur = l->rlimit[i], .rlim_max = l->rlimit[i]};
            if (setrlimit(i, &r) < 0) {
                fail(f, "rlimits");
            }
        }
    }
}

static void reset_signals(void) {
    struct sigaction dfl = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int i = 1; i < NSIG; i++) {
        sigaction(i, &dfl, NULL); /* SIGKILL, SIGSTOP and libc's own refuse: as it should be */
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static __attribute__((noinline)) _Noreturn void
child(const struct launch *l, const char *const *env, pid_t parent, struct failure *f) {
    setsid();
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) {
        fail(f, "prctl");
    }
    if (getppid() != parent) {
        _exit(127);
    }
    if (l->cgroup_fd >= 0 && write(l->cgroup_fd, "0", 1) < 0) {
        fail(f, "cgroup");
    }
    confine(confine_first, l, f);
    place_fds(l, f);
    if (chdir(l->directory) < 0) {
        fail(f, "working_directory");
    }
    if (l->nice != 0) {
        errno = 0;
        int now = getpriority(PRIO_PROCESS, 0);
        if (errno != 0 || setpriority(PRIO_PROCESS, 0, now + l->nice) < 0) {
            fail(f, "nice");
        }
    }
    set_limits(l, f);
    reset_signals();
    confine(confine_last, l, f);
    execve(l->path, l->argv, (char *const *)env);
    fail(f, l->path);
}

int launch_run(const struct launch *l, pid_t *ret_pid, int *ret_pidfd, const char **ret_what) {
    _cleanup_free_ const char **env = make_environment(l->env);
    struct failure f = {0};
    sigset_t all, before;
    pid_t parent = getpid();

    if (!env) {
        *ret_what = "environment";
        return -ENOMEM;
    }
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    pid_t pid = vfork();
    if (pid == 0) {
        child(l, env, parent, &f);
    }
    int saved = errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (pid < 0) {
        *ret_what = "fork";
        return -saved;
    }
    int pidfd = f.error == 0 ? pidfd_open(pid, 0) : -1;
    if (pidfd < 0) {
        int r = f.error ? -f.error : -errno;
        *ret_what = f.error ? f.what : "pidfd_open";
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return r;
    }
    *ret_pid = pid;
    *ret_pidfd = pidfd;
    return 0;
}
