/* SPDX-License-Identifier: MIT */
/* The only place of the tests that forks (tests/checks sees to it).
 *
 * Criterion runs a test in a process of its own and loses track when that process's children live
 * on, or come back into the test's body: it hangs, and whoever reads its output hangs too. So a
 * child here asks the kernel to be killed with its parent, looks whether the parent died before it
 * asked, and can only leave by _exit() or exec. Every wait goes through a pidfd with a limit: no
 * SIGALRM, no sleep, no test that never ends.
 *
 * The pids started and not reaped are kept in a small table, for child_kill_all() and so that
 * daemon.c can tell its own stray processes from a test's.
 *
 * Fails: returns -errno; in a child, _exit(127) when exec fails and _exit(126) when it cannot be
 * tied to its parent. */
#include "tests/support/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/fd.h"

enum { CHILDREN_MAX = 4096 };

static pid_t children[CHILDREN_MAX];

static int remember(pid_t pid) {
    for (size_t i = 0; i < ARRAY_SIZE(children); i++) {
        if (children[i] == 0) {
            children[i] = pid;
            return 0;
        }
    }
    return -ENOSPC;
}

static void forget(pid_t pid) {
    for (size_t i = 0; i < ARRAY_SIZE(children); i++) {
        if (children[i] == pid) {
            children[i] = 0;
        }
    }
}

bool child_is_known(pid_t pid) {
    for (size_t i = 0; i < ARRAY_SIZE(children); i++) {
        if (children[i] == pid) {
            return true;
        }
    }
    return false;
}

/* Forks a process tied to this one's life: 0 in the child, its pid or -errno in the parent. */
static pid_t fork_tied(void) {
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0) {
        return -errno;
    }
    if (pid == 0) {
        memset(children, 0, sizeof(children));
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent) {
            _exit(126);
        }
        return 0;
    }
    int r = remember(pid);
    if (r < 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return r;
    }
    return pid;
}

pid_t child_start(int (*fn)(void *arg), void *arg) {
    pid_t pid = fork_tied();
    if (pid == 0) {
        _exit(fn(arg));
    }
    return pid;
}

/* Puts fd (or /dev/null) at number `to`, which stays open over exec. */
static void place_fd(int fd, int to) {
    if (fd < 0) {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    }
    if (fd == to ? fd_set_cloexec(fd, 0) < 0 : dup2(fd, to) < 0) {
        _exit(127);
    }
}

pid_t child_exec(const char *const argv[], const char *const env[], int in, int out, int err) {
    pid_t pid = fork_tied();
    if (pid != 0) {
        return pid;
    }
    for (size_t i = 0; env && env[i]; i++) {
        putenv((char *)env[i]);
    }
    /* The three may overlap with 0, 1 and 2 in any order: first out of the way, then into place. */
    int fds[3] = {in, out, err};
    for (int i = 0; i < 3; i++) {
        if (fds[i] >= 0 && fds[i] < 3) {
            fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
        }
    }
    for (int i = 0; i < 3; i++) {
        place_fd(fds[i], i);
    }
    signal(SIGPIPE, SIG_DFL);
    execvp(argv[0], (char **)argv);
    _exit(127);
}

static int status_of(int wstatus) {
    return WIFEXITED(wstatus) ? WEXITSTATUS(wstatus) : CHILD_SIGNALLED + WTERMSIG(wstatus);
}

/* Milliseconds from now to `until`, rounded up. */
static int ms_left(uint64_t until) {
    uint64_t now = clock_now();
    return now >= until ? 0 : (int)((until - now + NS_PER_MS - 1) / NS_PER_MS);
}

/* Waits for the end of a child through its pidfd; it is not reaped. */
static int await_pidfd(int fd, uint64_t until) {
    for (;;) {
        int left = ms_left(until);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int n = poll(&p, 1, left);
        if (n != 0) {
            if (n > 0 || errno != EINTR) {
                return n > 0 ? 0 : -errno;
            }
        } else if (left == 0) {
            return -ETIMEDOUT;
        }
    }
}

/* The same where there are no pidfds (under valgrind): SIGCHLD, blocked so that none is lost. */
static int await_signal(pid_t pid, uint64_t until) {
    sigset_t chld, old;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_BLOCK, &chld, &old);
    int r = -ETIMEDOUT;
    for (;;) {
        siginfo_t info = {0};
        int left = ms_left(until);
        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0) {
            r = -errno;
            break;
        }
        if (info.si_pid == pid || left == 0) {
            r = info.si_pid == pid ? 0 : r;
            break;
        }
        struct timespec ts = {left / 1000, left % 1000 * 1000000L};
        sigtimedwait(&chld, NULL, &ts);
    }
    sigprocmask(SIG_SETMASK, &old, NULL);
    return r;
}

int child_wait_ms(pid_t pid, int ms) {
    if (pid <= 0) {
        return -EINVAL;
    }
    uint64_t until = clock_now() + (uint64_t)ms * NS_PER_MS;
    _cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0 && errno != ENOSYS) {
        return -errno;
    }
    int r = fd < 0 ? await_signal(pid, until) : await_pidfd(fd, until);
    if (r < 0) {
        return r;
    }
    int wstatus;
    pid_t got;
    do {
        got = waitpid(pid, &wstatus, 0);
    } while (got < 0 && errno == EINTR);
    forget(pid);
    return got < 0 ? -errno : status_of(wstatus);
}

int child_wait(pid_t pid) {
    int r = child_wait_ms(pid, CHILD_LIMIT_MS);
    if (r == -ETIMEDOUT) {
        child_kill(pid);
    }
    return r;
}

void child_kill(pid_t pid) {
    if (pid > 0 && child_is_known(pid)) {
        kill(pid, SIGKILL);
        child_wait_ms(pid, CHILD_LIMIT_MS);
    }
}

void child_kill_all(void) {
    for (size_t i = 0; i < ARRAY_SIZE(children); i++) {
        child_kill(children[i]);
    }
}

/* Reads all of a memfd into b, with a NUL behind it. */
static int slurp(int fd, struct buf *b) {
    struct stat st;
    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    size_t len = (size_t)st.st_size, have = 0;
    char *room = buf_room(b, len + 1);
    if (!room) {
        return -ENOMEM;
    }
    while (have < len) {
        ssize_t n = pread(fd, room + have, len - have, (off_t)have);
        if (n <= 0) {
            return n < 0 ? -errno : -EIO;
        }
        have += (size_t)n;
    }
    room[len] = '\0';
    buf_wrote(b, len);
    return 0;
}

/* Files in memory rather than pipes: they neither fill up nor stay open in a grandchild that lives
 * on. */
int child_run(const char *const argv[], const char *const env[], const void *in, size_t in_len,
              struct child_output *ret) {
    _cleanup_close_ int fd_in = memfd_create("in", MFD_CLOEXEC);
    _cleanup_close_ int fd_out = memfd_create("out", MFD_CLOEXEC);
    _cleanup_close_ int fd_err = memfd_create("err", MFD_CLOEXEC);
    if (fd_in < 0 || fd_out < 0 || fd_err < 0) {
        return -errno;
    }
    int r = in_len > 0 ? fd_write_all(fd_in, in, in_len) : 0;
    if (r < 0 || lseek(fd_in, 0, SEEK_SET) < 0) {
        return r < 0 ? r : -errno;
    }
    pid_t pid = child_exec(argv, env, fd_in, fd_out, fd_err);
    if (pid < 0) {
        return (int)pid;
    }
    struct child_output o = {.status = child_wait(pid)};
    r = o.status == -ETIMEDOUT ? o.status : slurp(fd_out, &o.out);
    if (r == 0) {
        r = slurp(fd_err, &o.err);
    }
    if (r < 0) {
        child_output_deinit(&o);
        return r;
    }
    *ret = o;
    return 0;
}

void child_output_deinit(struct child_output *o) {
    buf_deinit(&o->out);
    buf_deinit(&o->err);
}
