/* SPDX-License-Identifier: MIT */
/* Harness of the real daemon.
 *
 * Start: the socket listens before hearthd exists, and goes over as LISTEN_FDS=1,
 * LISTEN_FDNAMES=hearth in descriptor 3. LISTEN_PID is the daemon's own pid, which only the child
 * knows; the environment is therefore made before the fork with room for it and the number written
 * after. READY=1 comes by NOTIFY_SOCKET, on a datagram socket of ours.
 *
 * End: this process is made a child subreaper, so whatever the daemon leaves behind becomes our
 * child and is found by waitid(). Processes that die by themselves with their daemon (workers, by
 * EOF and parent-death signal) get a short time to do so; what stays is a failure, is named and is
 * killed. Children that the test itself started (child.h) are not counted.
 *
 * Fails: returns -errno. The child that cannot exec exits with 127. */
#include "tests/support/daemon.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "tests/support/child.h"

enum { STOP_LIMIT_MS = 15000, STRAY_LIMIT_MS = 3000, LISTEN_FD = 3, WORDS_MAX = 64 };

extern char **environ;

const char daemon_sample_config[] =
    "pools = (\n"
    "  { name = \"demo\"; workers = 2; module = \"demo.so\"; kill_grace = 0.2; },\n"
    "  { name = \"shell\"; workers = 2; exec = [ ]; kill_grace = 0.2; }\n"
    ");\n"
    "segment_size = \"64M\";\n"
    "stop_timeout = 5;\n";

static int unix_socket(const char *path, int type, bool listening) {
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(sa.sun_path)) {
        return -ENAMETOOLONG;
    }
    strcpy(sa.sun_path, path);
    _cleanup_close_ int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
        (listening && listen(fd, 4096) < 0)) {
        return -errno;
    }
    return steal_fd(&fd);
}

/* The environment of the daemon: ours, less what would confuse it, plus the given and our own
 * words. The word for LISTEN_PID, if there is one, is `pid_word`. */
static char **make_env(struct daemon *d, char *pid_word, char *notify_word, char *tmp_word) {
    size_t n = 0, extra = 0;
    while (environ[n]) {
        n++;
    }
    while (d->options.env && d->options.env[extra]) {
        extra++;
    }
    char **env = calloc(n + extra + 6, sizeof(*env));
    if (!env) {
        return NULL;
    }
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (strncmp(environ[i], "LISTEN_", 7) != 0 && strncmp(environ[i], "NOTIFY_", 7) != 0 &&
            strncmp(environ[i], "WATCHDOG_", 9) != 0 && strncmp(environ[i], "TMPDIR=", 7) != 0 &&
            strncmp(environ[i], "JOURNAL_", 8) != 0) {
            env[k++] = environ[i];
        }
    }
    env[k++] = tmp_word;
    for (size_t i = 0; i < extra; i++) {
        env[k++] = (char *)d->options.env[i];
    }
    env[k++] = notify_word;
    if (!d->options.own_socket) {
        env[k++] = (char *)"LISTEN_FDS=1";
        env[k++] = (char *)"LISTEN_FDNAMES=hearth";
        env[k++] = pid_word;
    }
    return env;
}

struct launch {
    struct daemon *d;
    const char *argv[WORDS_MAX];
    char **env;
    char pid_word[32];
    int log_fd;
};

static int add_words(struct launch *l, size_t *n, const char *const *words) {
    for (size_t i = 0; words && words[i]; i++) {
        if (*n + 1 >= WORDS_MAX) {
            return -E2BIG;
        }
        l->argv[(*n)++] = words[i];
    }
    return 0;
}

static int make_argv(struct launch *l, const char *hearthd) {
    struct daemon *d = l->d;
    const char *const fixed[] = {hearthd, "--foreground", "-c", d->config, NULL};
    const char *const sock[] = {"-s", d->socket, NULL};
    size_t n = 0;
    int r = add_words(l, &n, d->options.wrapper);
    r = r ? r : add_words(l, &n, fixed);
    r = r ? r : add_words(l, &n, d->options.own_socket ? sock : NULL);
    return r ? r : add_words(l, &n, d->options.args);
}

static int child_main(void *arg) {
    struct launch *l = arg;
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, 0) < 0 || dup2(l->log_fd, 1) < 0 || dup2(l->log_fd, 2) < 0) {
        return 127;
    }
    unsigned last = 2;
    if (!l->d->options.own_socket) {
        if (l->d->listen_fd == LISTEN_FD) {
            fcntl(LISTEN_FD, F_SETFD, 0);
        } else if (dup2(l->d->listen_fd, LISTEN_FD) < 0) {
            return 127;
        }
        last = LISTEN_FD;
        snprintf(l->pid_word, sizeof(l->pid_word), "LISTEN_PID=%d", (int)getpid());
    }
    syscall(SYS_close_range, last + 1, ~0U, 0);
    signal(SIGPIPE, SIG_DFL);
    execvpe(l->argv[0], (char **)l->argv, l->env);
    return 127;
}

/* Starts the process; the directory, the configuration and the sockets are there. */
static int spawn(struct daemon *d) {
    const char *hearthd = getenv("HEARTHD");
    if (!hearthd) {
        return -ENOENT;
    }
    struct launch l = {.d = d, .log_fd = -1};
    char notify_word[TMP_PATH + 48], tmp_word[TMP_PATH + 16];
    snprintf(tmp_word, sizeof(tmp_word), "TMPDIR=%s", d->dir);
    snprintf(notify_word, sizeof(notify_word), "NOTIFY_SOCKET=%s", d->notify);
    int r = make_argv(&l, hearthd);
    if (r < 0) {
        return r;
    }
    _cleanup_free_ char **env = make_env(d, l.pid_word, notify_word, tmp_word);
    _cleanup_close_ int log = open(d->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (!env || log < 0) {
        return !env ? -ENOMEM : -errno;
    }
    l.env = env;
    l.log_fd = log;
    d->ready = false;
    pid_t pid = child_start(child_main, &l);
    if (pid < 0) {
        return (int)pid;
    }
    d->pid = pid;
    if (!d->options.own_socket && !d->options.keep_listening) {
        close(steal_fd(&d->listen_fd));
    }
    return 0;
}

static int make_listener(struct daemon *d) {
    if (d->options.own_socket || d->listen_fd >= 0) {
        return 0;
    }
    unlink(d->socket);
    int fd = unix_socket(d->socket, SOCK_STREAM | SOCK_NONBLOCK, true);
    if (fd < 0) {
        return fd;
    }
    d->listen_fd = fd;
    return 0;
}

static void abandon(struct daemon *d) {
    if (d->listen_fd >= 0) {
        close(steal_fd(&d->listen_fd));
    }
    if (d->notify_fd >= 0) {
        close(steal_fd(&d->notify_fd));
    }
    tmp_remove(d->dir);
    d->dir[0] = '\0';
}

int daemon_start(struct daemon *d, const struct daemon_options *options) {
    *d = (struct daemon){.listen_fd = -1, .notify_fd = -1};
    if (options) {
        d->options = *options;
    }
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    int r = tmp_dir(d->dir);
    if (r < 0) {
        return r;
    }
    snprintf(d->socket, sizeof(d->socket), "%s/sock", d->dir);
    snprintf(d->config, sizeof(d->config), "%s/hearthd.conf", d->dir);
    snprintf(d->log, sizeof(d->log), "%s/log", d->dir);
    snprintf(d->notify, sizeof(d->notify), "%s/notify", d->dir);
    const char *text = d->options.config ? d->options.config : daemon_sample_config;
    r = tmp_write(d->dir, "hearthd.conf", text, strlen(text));
    if (r == 0) {
        d->notify_fd = unix_socket(d->notify, SOCK_DGRAM, false);
        r = d->notify_fd < 0 ? d->notify_fd : make_listener(d);
    }
    if (r == 0) {
        r = spawn(d);
    }
    if (r < 0) {
        abandon(d);
    }
    return r;
}

int daemon_restart(struct daemon *d) {
    if (d->pid != 0) {
        return -EBUSY;
    }
    int r = make_listener(d);
    return r < 0 ? r : spawn(d);
}

/* Takes the waiting notifications; sets d->ready. */
static void take_notifications(struct daemon *d) {
    char text[4096];
    ssize_t n;
    while ((n = recv(d->notify_fd, text, sizeof(text) - 1, MSG_DONTWAIT)) >= 0) {
        text[n] = '\0';
        if (strncmp(text, "READY=1", 7) == 0 || strstr(text, "\nREADY=1")) {
            d->ready = true;
        }
    }
}

int daemon_wait_ready(struct daemon *d, int ms) {
    if (d->pid == 0) {
        return -ECHILD;
    }
    _cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, d->pid, 0);
    if (pidfd < 0) {
        return -errno;
    }
    uint64_t until = clock_now() + (uint64_t)ms * NS_PER_MS;
    for (;;) {
        take_notifications(d);
        if (d->ready) {
            return 0;
        }
        uint64_t now = clock_now();
        if (now >= until) {
            return -ETIMEDOUT;
        }
        struct pollfd p[2] = {{.fd = d->notify_fd, .events = POLLIN},
                              {.fd = pidfd, .events = POLLIN}};
        if (poll(p, 2, (int)((until - now + NS_PER_MS - 1) / NS_PER_MS)) < 0 && errno != EINTR) {
            return -errno;
        }
        if (p[1].revents && !p[0].revents) {
            return -ECHILD;
        }
    }
}

int daemon_connect(struct daemon *d, struct wire *ret) {
    if (d->options.own_socket && !d->ready) {
        int r = daemon_wait_ready(d, CHILD_LIMIT_MS);
        if (r < 0) {
            return r;
        }
    }
    return wire_open(ret, d->socket);
}

int daemon_wait(struct daemon *d, int ms) {
    int r = child_wait_ms(d->pid, ms);
    if (r != -ETIMEDOUT) {
        d->pid = 0;
    }
    return r;
}

void daemon_kill(struct daemon *d) {
    if (d->pid != 0) {
        child_kill(d->pid);
        d->pid = 0;
    }
}

const char *daemon_log(struct daemon *d) {
    static char *text;
    free(steal_ptr(text));
    size_t len;
    return tmp_read(d->log, &text, &len) == 0 ? text : "";
}

/* A child of ours that the test did not start itself, or 0. The kernel lists our children by
 * thread; the test has one. */
static pid_t find_stray(void) {
    char path[64], list[8192];
    snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, list, sizeof(list) - 1);
    if (n <= 0) {
        return 0;
    }
    list[n] = '\0';
    for (char *at = list, *end; *at; at = end) {
        pid_t pid = (pid_t)strtol(at, &end, 10);
        if (end == at) {
            break;
        }
        if (!child_is_known(pid)) {
            return pid;
        }
    }
    return 0;
}

static void name_stray(pid_t pid) {
    char path[64];
    _cleanup_free_ char *text = NULL;
    size_t len = 0;
    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
    tmp_read(path, &text, &len);
    fprintf(stderr, "left behind: process %d (%s)\n", (int)pid, text ? text : "?");
}

/* Waits for the daemon's orphans to end by themselves; kills those that do not. 0 or -ECHILD. */
static int bury_strays(void) {
    int result = 0;
    uint64_t until = clock_now() + (uint64_t)STRAY_LIMIT_MS * NS_PER_MS;
    for (pid_t pid; (pid = find_stray()) > 0;) {
        uint64_t now = clock_now();
        int left = now >= until ? 0 : (int)((until - now) / NS_PER_MS);
        if (child_wait_ms(pid, left) != -ETIMEDOUT) {
            continue;
        }
        name_stray(pid);
        kill(pid, SIGKILL);
        result = -ECHILD;
        if (child_wait_ms(pid, STRAY_LIMIT_MS) < 0) {
            break;
        }
    }
    return result;
}

int daemon_stop(struct daemon *d) {
    if (d->dir[0] == '\0') {
        return 0;
    }
    int r = 0;
    if (d->pid != 0) {
        kill(d->pid, SIGTERM);
        r = daemon_wait(d, STOP_LIMIT_MS);
        daemon_kill(d);
    }
    int strays = bury_strays();
    r = r == 0 ? strays : r;
    if (r != 0) {
        fprintf(stderr, "hearthd: end %d; its log:\n%s", r, daemon_log(d));
    }
    abandon(d);
    if (r != 0) {
        abort(); /* a test's .fini cannot fail in another way: Criterion counts no assertions there */
    }
    return r;
}
