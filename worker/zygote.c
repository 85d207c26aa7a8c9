/* SPDX-License-Identifier: MIT */
/* The zygote of a pool: loads the module once, then forks workers when the daemon asks for them.
 *
 * It is exec'd fresh, stays single-threaded (checked after the module's init, since a fork keeps
 * only the calling thread) and does nothing but wait, so a fork of it is cheap and its pages stay
 * shared with the workers. It is in a session of its own: ^C on the daemon's terminal reaches
 * neither it nor the workers, whose end is the daemon's to decide.
 *
 *     zygote --fork--> A --fork--> W
 *       ^                |
 *       +-- waits for A -+    A tells the daemon the pid of W, and exits
 *
 * W is the daemon's child then (the daemon is a subreaper), so only the daemon reaps it.
 * The daemon learns W's pid from A before W can have been reaped, so the pid is W's for sure. W
 * waits until A is gone, makes sure that its parent is the daemon, and from then on dies with it
 * (PDEATHSIG). Without a daemon nothing survives: the control socket's EOF ends the zygote.
 *
 * A worker that the daemon may want to leave to its successor gets a leash instead: a descriptor of a pipe that only the
 * daemon can write to. When the daemon is gone the kernel sends the owner of the descriptor SIGKILL (F_SETSIG), as
 * PDEATHSIG would. But what says so belongs to the open file, which the daemon has, too, so that it can let the worker go
 * without its help, in the midst of whatever a handler does.
 *
 * Signals are put to their defaults (the daemon's may be ignored, and that is inherited). In module
 * pools SIGPIPE is ignored, so that a handler's broken socket is an error and not the worker's
 * death; commands of exec pools want the default.
 *
 * With --once there is no zygote: a process that was started for a handler alone (PROC.START HANDLER) loads the module and
 * runs its task itself. It dies with the daemon from the beginning, and has no control socket: what there is to say goes to its stderr.
 *
 * Fails: before READY with CONTROL_FAILED and a text, exit status 1; a fork that fails later is
 * reported for its slot. */
#include "worker/zygote.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/shm/segment.h"
#include "lib/wire/control.h"
#include "worker/api.h"
#include "worker/module.h"
#include "worker/runtime.h"
#include "worker/say.h"

struct zygote {
    const struct options *o;
    pid_t daemon;
    struct shm segment; /* mapped once; workers inherit the mapping */
    struct module module;
    struct runtime_seat seats[THREADS_MAX]; /* of the worker that is being made */
    uint32_t n_seats;
};

/* ---- talking to the daemon ---- */

/* False: it is gone. */
static bool tell(const struct control_msg *m) {
    size_t len = CONTROL_HEAD + m->text_len;
    ssize_t n;
    do {
        n = send(CONTROL_FD_SOCKET, m, len, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t)len;
}

static void __attribute__((format(printf, 3, 4)))
tell_failed(uint32_t slot, uint32_t gen, const char *format, ...) {
    struct control_msg m = {.kind = CONTROL_FAILED, .slot = slot, .gen = gen};
    va_list ap;
    va_start(ap, format);
    vsnprintf(m.text, sizeof(m.text), format, ap);
    va_end(ap);
    m.text_len = (uint32_t)strlen(m.text);
    if (!tell(&m)) {
        say(HEARTH_LOG_ERROR, NULL, "%s", m.text);
    }
}

/* False: the names do not fit, or the daemon is gone. */
static bool tell_ready(const struct zygote *z) {
    struct control_msg m = {.kind = CONTROL_READY, .pid = getpid()};
    if (z->o->module == NULL && !z->o->program) {
        m.text_len = (uint32_t)sprintf(m.text, "%s\n", CONTROL_EXEC_HANDLER);
    }
    for (uint32_t i = 0; i < z->module.count; i++) {
        const char *name = z->module.handlers[i].name;
        size_t n = strlen(name);
        if (m.text_len + n + 1 > sizeof(m.text)) {
            tell_failed(0, 0, "%s: its handlers' names are too long together", z->o->module);
            return false;
        }
        memcpy(m.text + m.text_len, name, n);
        m.text[m.text_len + n] = '\n';
        m.text_len += (uint32_t)n + 1;
    }
    return tell(&m);
}

/* ---- the worker's first steps ---- */

/* A program's worker: a group of its own, so that what it starts ends with it. */
static void __attribute__((noreturn))
be_program(struct zygote *z, int fd, uint32_t slot, uint32_t gen) {
    char number[16];
    setsid();
    snprintf(number, sizeof(number), "%d", CONTROL_FD_SEGMENT);
    setenv(CONTROL_ENV_WORKER, number, 1);
    setenv(CONTROL_ENV_POOL, z->o->pool, 1);
    if (dup2(fd, CONTROL_FD_SEGMENT) >= 0) { /* a small number, for shells */
        execvp(z->o->argv[0], z->o->argv);
    }
    tell_failed(slot, gen, "cannot run %s: %s", z->o->argv[0], strerror(errno));
    _exit(127);
}

static bool take_leash(int fd) {
    return fcntl(fd, F_SETOWN, getpid()) == 0 && fcntl(fd, F_SETSIG, SIGKILL) == 0 &&
           fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK) == 0;
}

static void __attribute__((noreturn))
be_worker(struct zygote *z, pid_t between, int fd, int cgroup, uint32_t slot, uint32_t gen) {
    char title[16];
    while (getppid() == between) {
        sched_yield(); /* it has one message to send before it exits */
    }
    bool leashed = fd >= 0 && !z->o->program;
    bool dies = leashed ? take_leash(fd) : prctl(PR_SET_PDEATHSIG, SIGKILL) == 0;
    if (!dies || getppid() != z->daemon) {
        _exit(1); /* the daemon is gone */
    }
    if (z->o->program) {
        be_program(z, fd, slot, gen);
    }
    z->seats[0] = (struct runtime_seat){slot, gen};
    close(CONTROL_FD_SOCKET); /* the zygote's alone, or its EOF would wait for us */
    snprintf(title, sizeof(title), "hearth:%s", z->o->pool);
    prctl(PR_SET_NAME, title);
    int status = runtime_serve(z->o, z->o->module != NULL ? &z->module : NULL, &z->segment,
                               z->seats, z->n_seats, cgroup);
    fflush(NULL);
    _exit(status); /* what was registered to run at exit belongs to the zygote */
}

static void __attribute__((noreturn))
be_between(struct zygote *z, int fd, int cgroup, uint32_t slot, uint32_t gen) {
    pid_t me = getpid();
    if (cgroup >= 0 && write(cgroup, "0", 1) < 0) {
        say(HEARTH_LOG_WARNING, NULL, "a worker is not in a cgroup of its own: %s",
            strerror(errno));
    }
    pid_t worker = fork();
    if (worker == 0) {
        be_worker(z, me, fd, cgroup, slot, gen);
    }
    if (worker < 0) {
        _exit(errno > 0 && errno < 256 ? errno : 255);
    }
    struct control_msg m = {
        .kind = CONTROL_SPAWNED, .slot = slot, .gen = gen, .pid = (int32_t)worker};
    if (!tell(&m)) {
        kill(worker, SIGKILL);
    }
    _exit(0);
}

/* The slots of the worker that is asked for. */
static void take_seats(struct zygote *z, const struct control_msg *m) {
    z->n_seats = 1; /* beside the first */
    for (size_t at = 0; z->n_seats < z->o->threads && at + 8 <= m->text_len; at += 8) {
        uint32_t seat[2];
        memcpy(seat, m->text + at, sizeof(seat));
        z->seats[z->n_seats++] = (struct runtime_seat){seat[0], seat[1]};
    }
}

static void spawn(struct zygote *z, int fd, int cgroup, uint32_t slot, uint32_t gen) {
    int status = 0;
    fflush(NULL);
    pid_t between = fork();
    if (between == 0) {
        be_between(z, fd, cgroup, slot, gen);
    }
    if (between < 0) {
        tell_failed(slot, gen, "cannot fork: %s", strerror(errno));
        return;
    }
    while (waitpid(between, &status, 0) < 0) {
        if (errno != EINTR) {
            return; /* the module has reaped it, or ignores SIGCHLD: the daemon has its news anyway
                     */
        }
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
        tell_failed(slot, gen, "cannot fork: %s", strerror(WEXITSTATUS(status)));
    } else if (WIFSIGNALED(status)) {
        tell_failed(slot, gen, "a process on the way to the worker was killed by signal %d",
                    WTERMSIG(status));
    }
}

/* ---- start and end ---- */

static void default_signals(bool ignore_pipe) {
    struct sigaction usual = {.sa_handler = SIG_DFL};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigset_t none;
    for (int i = 1; i < SIGRTMAX; i++) {
        sigaction(i, i == SIGPIPE && ignore_pipe ? &ignore : &usual, NULL);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static unsigned count_threads(void) {
    unsigned n = 0;
    DIR *d = opendir("/proc/self/task");
    if (d == NULL) {
        return 1; /* no /proc here: nothing to check by */
    }
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        n += e->d_name[0] != '.';
    }
    closedir(d);
    return n;
}

/* Loads and initialises the module. False: the daemon was told why not. */
static bool load(struct zygote *z) {
    char why[MODULE_WHY];
    if (z->o->module == NULL) {
        return true;
    }
    if (module_load(&z->module, z->o->module, why) < 0 ||
        (z->o->known != NULL && module_order(&z->module, z->o->known, why) < 0)) {
        tell_failed(0, 0, "%s", why);
        return false;
    }
    if (z->o->threads > 1 && !(z->module.head.flags & HEARTH_THREADS)) {
        tell_failed(0, 0,
                    "%s: the module does not say that it may run on threads "
                    "(HEARTH_MODULE_HEAD_FLAGS(HEARTH_THREADS)): write threads = 1",
                    z->o->module);
        return false;
    }
    const struct hearth_api *api = api_init(z->o->pool, -1);
    if (z->module.head.init != NULL) {
        int r = z->module.head.init(api, z->o->argc, (const char *const *)z->o->argv);
        if (r != 0) {
            tell_failed(0, 0, "%s: init failed with %d%s%s", z->o->module, r,
                        *api_why() ? ": " : "", api_why());
            return false;
        }
    }
    unsigned threads = count_threads();
    if (threads != 1) {
        tell_failed(0, 0,
                    "%s: init made %u threads, which a fork would lose: make them in worker_init",
                    z->o->module, threads - 1);
        return false;
    }
    return true;
}

static bool attach(struct zygote *z) {
    int r = shm_attach(&z->segment, CONTROL_FD_SEGMENT);
    if (r < 0) {
        tell_failed(0, 0, "cannot attach the segment: %s",
                    r == -EPROTO ? "hearthd and hearth-worker are of different builds"
                                 : strerror(-r));
        return false;
    }
    z->segment.bell_fd = CONTROL_FD_BELL;
    return true;
}

/* The next message, and how many descriptors came with it. As recv(). */
static ssize_t hear(struct control_msg *m, int fds[CONTROL_SPAWN_FDS], size_t *ret_n) {
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(CONTROL_SPAWN_FDS * sizeof(int))];
    } control;
    struct iovec iov = {m, sizeof(*m)};
    struct msghdr h = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.space,
                       .msg_controllen = sizeof(control.space)};
    *ret_n = 0;
    ssize_t n = recvmsg(CONTROL_FD_SOCKET, &h, MSG_CMSG_CLOEXEC);
    const struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&h) : NULL;
    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        *ret_n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(c), *ret_n * sizeof(int));
    }
    return n;
}

/* Serves the daemon until it hangs up. */
static void serve(struct zygote *z) {
    struct control_msg m;
    for (;;) {
        int fds[CONTROL_SPAWN_FDS];
        size_t got;
        ssize_t n = hear(&m, fds, &got);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return;
        }
        if ((size_t)n < CONTROL_HEAD || m.kind != CONTROL_SPAWN) {
            say(HEARTH_LOG_ERROR, NULL, "a message from the daemon that makes no sense");
            continue;
        }
        take_seats(z, &m);
        size_t other = got - (got > 0 && m.pid == 1);
        spawn(z, other > 0 ? fds[0] : -1, other < got ? fds[other] : -1, m.slot, m.gen);
        while (got > 0) {
            close(fds[--got]);
        }
    }
}

/* A process for one task: the module is loaded, and then this is a worker at once. */
static int be_once(struct zygote *z) {
    char title[16];
    const struct runtime_seat seat = {z->o->slot, z->o->gen};
    snprintf(title, sizeof(title), "hearth:%s", z->o->pool);
    prctl(PR_SET_NAME, title);
    int status = runtime_once(z->o, &z->module, &z->segment, &seat);
    if (z->module.head.exit != NULL) {
        z->module.head.exit(api_init(z->o->pool, -1));
    }
    return status;
}

/* The program takes our place. Returns when it cannot. */
static void be_prefork(struct zygote *z) {
    char number[16];
    snprintf(number, sizeof(number), "%d", CONTROL_FD_SOCKET);
    setenv(CONTROL_ENV_CONTROL, number, 1);
    setenv(CONTROL_ENV_POOL, z->o->pool, 1);
    if (fcntl(CONTROL_FD_SOCKET, F_SETFD, 0) == 0) {
        execvp(z->o->argv[0], z->o->argv);
    }
    tell_failed(0, 0, "cannot run %s: %s", z->o->argv[0], strerror(errno));
}

int zygote_run(const struct options *o) {
    struct zygote z = {.o = o, .daemon = getppid()};
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* an init that hangs must not outlive the daemon */
    close_range(CONTROL_FD_SOCKET, ~0U, CLOSE_RANGE_CLOEXEC);
    setsid(); /* fails when we lead a group already, which serves as well */
    default_signals(o->module != NULL);
    if (getppid() != z.daemon) {
        return 1;
    }
    if (o->prefork) {
        be_prefork(&z);
        return 1;
    }
    if (!o->program && !attach(&z)) {
        return 1;
    }
    bool up = load(&z);
    if (up && o->once) {
        return be_once(&z);
    }
    if (up) {
        prctl(PR_SET_PDEATHSIG, 0); /* from here on EOF ends us, with the module's exit */
        up = tell_ready(&z);
    }
    if (up) {
        serve(&z);
        if (o->module != NULL && z.module.head.exit != NULL) {
            z.module.head.exit(api_init(o->pool, -1));
        }
    }
    module_deinit(&z.module);
    if (!o->program) {
        shm_detach(&z.segment);
    }
    return up ? 0 : 1;
}
