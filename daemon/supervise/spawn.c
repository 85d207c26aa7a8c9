/* SPDX-License-Identifier: MIT */
/* Zygotes: one process per pool that has the pool's module loaded and initialised, and forks
 * workers from itself when the daemon asks (lib/wire/control.h). Asking and answering are messages
 * on a socketpair; nothing here waits for an answer.
 *
 * A zygote is exec'd with the pool's environment, directory, nice and limits, so its workers have
 * them without further steps, and it is the leader of a session, away from the terminal's signals.
 * It dies with the daemon (PDEATHSIG and the end of its socket). Its own end does not touch its
 * workers: they are children of the daemon and serve on.
 *
 * What it says is checked before use: it runs a stranger's module. A worker it announces must be
 * one that was asked for.
 *
 * Fails: a zygote that cannot start, fails its initializer, talks nonsense or dies is reported to
 * pool_failed(), which decides when to try again. */
#include "daemon/supervise/private.h"

#include <errno.h>
#include <event2/event.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/supervise/cgroup.h"
#include "daemon/supervise/confine.h"
#include "daemon/supervise/launch.h"
#include "daemon/supervise/scratch.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/fd.h"
#include "lib/wire/control.h"

enum { OWN_PATHS = 3 };

static const char *worker_path(void) {
    const char *path = getenv("HEARTH_WORKER");
    return path && *path ? path : HEARTH_LIBEXEC_DIR "/hearth-worker";
}

static void on_message(evutil_socket_t fd, short what, void *arg) {
    struct zygote *z = arg;
    (void)fd;
    (void)what;
    /* Read in supervise_turn(), not here: burying a zygote frees this very event. */
    event_del(z->sock_event);
    z->says = true;
    z->supervise->look = true;
}

static void on_exit_seen(evutil_socket_t fd, short what, void *arg) {
    struct zygote *z = arg;
    (void)fd;
    (void)what;
    event_del(z->exit_event);
    z->exited = true;
    z->supervise->look = true;
}

/* hearth-worker --pool NAME --index N (--module PATH | --exec | --program | --prefork) --max-tasks N --max-tasks-jitter N --threads N
 * --max-growth BYTES --max-output BYTES [--known NAMES] [--tmp DIR] [--once SLOT:GEN] -- ARGS... */
static char **make_argv(const struct zygote *z, char numbers[6][24], char *known, const char *tmp,
                        char *once) {
    const struct pool_config *c = z->config;
    const struct config_strings *rest = c->kind == POOL_EXEC      ? &c->exec
                                        : c->kind == POOL_PROGRAM ? &c->program
                                                                  : &c->args;
    char **argv = calloc(25 + rest->n, sizeof(*argv));
    size_t n = 0;

    if (!argv) {
        return NULL;
    }
    snprintf(numbers[0], sizeof(numbers[0]), "%u", z->pool->index);
    snprintf(numbers[1], sizeof(numbers[1]), "%llu", (unsigned long long)c->max_tasks);
    snprintf(numbers[2], sizeof(numbers[2]), "%llu", (unsigned long long)c->max_output);
    snprintf(numbers[3], sizeof(numbers[3]), "%u", c->max_tasks_jitter);
    snprintf(numbers[4], sizeof(numbers[4]), "%llu", (unsigned long long)c->max_growth);
    snprintf(numbers[5], sizeof(numbers[5]), "%u", c->threads);
    argv[n++] = (char *)"hearth-worker";
    argv[n++] = (char *)"--pool";
    argv[n++] = c->name;
    argv[n++] = (char *)"--index";
    argv[n++] = numbers[0];
    argv[n++] = (char *)(c->kind == POOL_EXEC     ? "--exec"
                         : c->kind == POOL_MODULE ? "--module"
                         : c->prefork             ? "--prefork"
                                                  : "--program");
    if (c->kind == POOL_MODULE) {
        argv[n++] = c->module;
    }
    argv[n++] = (char *)"--max-tasks";
    argv[n++] = numbers[1];
    argv[n++] = (char *)"--max-tasks-jitter";
    argv[n++] = numbers[3];
    argv[n++] = (char *)"--threads";
    argv[n++] = numbers[5];
    argv[n++] = (char *)"--max-growth";
    argv[n++] = numbers[4];
    argv[n++] = (char *)"--max-output";
    argv[n++] = numbers[2];
    if (c->kind == POOL_MODULE && known) {
        argv[n++] = (char *)"--known";
        argv[n++] = known;
    }
    if (tmp) {
        argv[n++] = (char *)"--tmp";
        argv[n++] = (char *)(uintptr_t)tmp;
    }
    if (once) {
        argv[n++] = (char *)"--once";
        argv[n++] = once;
    }
    argv[n++] = (char *)"--";
    for (uint32_t i = 0; i < rest->n; i++) {
        argv[n++] = rest->v[i];
    }
    return argv;
}

/* "echo,sleep": the handlers that tasks may name by their numbers. NULL: none yet, or no memory. */
static char *known_handlers(const struct pool *p) {
    size_t len = 1;
    for (uint32_t i = 0; i < p->n_handlers; i++) {
        len += strlen(p->handlers[i]) + 1;
    }
    char *text = p->n_handlers ? malloc(len) : NULL;
    char *at = text;
    for (uint32_t i = 0; text && i < p->n_handlers; i++) {
        at = stpcpy(at, p->handlers[i]);
        *at++ = i + 1 < p->n_handlers ? ',' : '\0';
    }
    return text;
}

/* What its processes read and run, whatever paths_read says. */
static void own_paths(const struct pool_config *c, const char *out[OWN_PATHS + 1]) {
    const char *command = c->kind == POOL_EXEC && c->exec.n         ? c->exec.v[0]
                          : c->kind == POOL_PROGRAM && c->program.n ? c->program.v[0]
                                                                    : NULL;
    size_t n = 0;
    out[n++] = worker_path();
    if (c->kind == POOL_MODULE) {
        out[n++] = c->module;
    }
    if (command && *command == '/') {
        out[n++] = command;
    }
    out[n] = NULL;
}

/* The pool's directory for its commands' temporary files; NULL: they have the one that its environment names, or all have. */
static const char *temporary(struct supervise *s, const struct pool_config *c) {
    for (uint32_t i = 0; i < c->env.n; i++) {
        if (strncmp(c->env.v[i], "TMPDIR=", 7) == 0) {
            return NULL;
        }
    }
    return c->kind == POOL_EXEC ? scratch_pool(s->scratch, c->name) : NULL;
}

int worker_launch(const struct zygote *z, char *once, struct launch *l, pid_t *ret_pid,
                  int *ret_pidfd, const char **ret_what) {
    struct supervise *s = z->supervise;
    const struct pool_config *c = z->config;
    char numbers[6][24];
    const char *tmp = temporary(s, c);
    _cleanup_free_ char *known = known_handlers(z->pool);
    _cleanup_free_ char **argv = make_argv(z, numbers, known, tmp, once);

    *ret_what = "argv";
    if (!argv) {
        return -ENOMEM;
    }
    l->path = worker_path();
    l->argv = argv;
    l->nice = c->nice;
    l->files = s->files;
    memcpy(l->rlimit, c->rlimit, sizeof(l->rlimit));
    struct confinement confinement;
    const char *own[OWN_PATHS + 1];
    own_paths(c, own);
    int r = confine_prepare(c, own, tmp, &confinement, ret_what);
    if (r < 0) {
        return r;
    }
    l->confinement = &confinement;
    r = launch_run(l, ret_pid, ret_pidfd, ret_what);
    l->confinement = NULL;
    l->argv = NULL;
    confine_release(&confinement);
    return r;
}

static int launch_zygote(struct supervise *s, struct zygote *z, int sock, const char **ret_what) {
    struct launch l = {
        .env = (const char *const *)z->config->env.v,
        .fds = {sock, s->d->shm.fd, s->d->bell_fd, s->d->door_fds[1]},
        .n_fds = 4,
        .first_fd = 3,
        .directory = z->config->working_directory,
    };
    _cleanup_close_ int cgroup = -1;
    cgroup_pool(s->d->cgroups, z->config, &cgroup);
    l.cgroup_fd = cgroup;
    return worker_launch(z, NULL, &l, &z->pid, &z->pidfd, ret_what);
}

int zygote_start(struct supervise *s, struct zygote *z, const char **ret_what) {
    _cleanup_close_ int ours = -1;
    _cleanup_close_ int theirs = -1;
    int pair[2];

    *ret_what = "socketpair";
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return -errno;
    }
    ours = pair[0];
    theirs = pair[1];
    int r = fd_set_nonblock(ours, 1);
    if (r < 0) {
        return r;
    }
    r = launch_zygote(s, z, theirs, ret_what);
    if (r < 0) {
        return r;
    }
    stamp_of(z->config->module, &z->module);
    z->state = ZYGOTE_STARTING;
    z->started_ns = clock_now();
    z->sock = steal_fd(&ours);
    z->exited = z->killed = z->says = false;
    z->sock_event = event_new(s->d->base, z->sock, EV_READ | EV_PERSIST, on_message, z);
    z->exit_event = event_new(s->d->base, z->pidfd, EV_READ | EV_PERSIST, on_exit_seen, z);
    if (!z->sock_event || !z->exit_event || event_add(z->sock_event, NULL) < 0 ||
        event_add(z->exit_event, NULL) < 0) {
        /* Nobody would notice its end: undo all. */
        pidfd_send_signal(z->pidfd, SIGKILL, NULL, 0);
        zygote_bury(s, z);
        *ret_what = "event";
        return -ENOMEM;
    }
    return 0;
}

int zygote_ask(struct zygote *z, uint32_t slot, uint32_t gen, const int *fds, size_t n,
               bool cgroup) {
    static struct control_msg m; /* 8 KiB, one thread */
    const struct worker *w = z->supervise->d->workers[slot];
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(CONTROL_SPAWN_FDS * sizeof(int))];
    } control = {0};
    struct iovec iov = {&m, CONTROL_HEAD};
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};

    memset(&m, 0, CONTROL_HEAD);
    m.text_len = (uint32_t)threads_put(w, m.text, sizeof(m.text));
    m.kind = CONTROL_SPAWN;
    m.slot = slot;
    m.gen = gen;
    m.pid = cgroup;
    if (z->sock < 0) {
        return -EPIPE;
    }
    iov.iov_len = CONTROL_HEAD + m.text_len;
    if (n > 0) {
        h.msg_control = control.space;
        h.msg_controllen = CMSG_SPACE(n * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n * sizeof(int));
    }
    return sendmsg(z->sock, &h, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

void names_free(char **names, uint32_t n) {
    while (names && n > 0) {
        free(names[--n]);
    }
    free(names);
}

/* "echo\nsleep\n" as an array. 0 or -ENOMEM. */
static int split_names(const char *text, size_t len, char ***ret, uint32_t *ret_n) {
    uint32_t n = 0;
    for (size_t i = 0; i < len; i++) {
        n += text[i] == '\n';
    }
    char **names = calloc(n + 1, sizeof(*names));
    if (!names) {
        return -ENOMEM;
    }
    for (uint32_t at = 0; at < n; at++) {
        const char *end = memchr(text, '\n', len);
        names[at] = strndup(text, (size_t)(end - text));
        if (!names[at]) {
            names_free(names, at);
            return -ENOMEM;
        }
        len -= (size_t)(end + 1 - text);
        text = end + 1;
    }
    *ret = names;
    *ret_n = n;
    return 0;
}

/* Queued tasks and serving workers know handlers by their number, so a zygote has them in the order
 * in which it was told them, new ones behind; one that has no name is not there any more. What is
 * different becomes known when the last worker of the former kind is gone (roll.c). -ESTALE: the
 * module has been exchanged, and nobody asked for that. */
static int take_handlers(struct zygote *z, const char *text, size_t len) {
    struct pool *p = z->pool;
    char **names;
    uint32_t n;
    int r = split_names(text, len, &names, &n);
    if (r < 0) {
        return r;
    }
    if (z->trial) {
        names_free(z->handlers, z->n_handlers);
        z->handlers = names;
        z->n_handlers = n;
        return 0;
    }
    if (p->handlers_adopted) { /* it was told them, and has kept their places */
        names_free(p->handlers, p->n_handlers);
        p->handlers = NULL;
        p->handlers_adopted = false;
    }
    if (!p->handlers) {
        p->handlers = names;
        p->n_handlers = n;
        p->handlers_kept = false;
        return 0;
    }
    bool same = n >= p->n_handlers;
    for (uint32_t i = 0; same && i < p->n_handlers; i++) {
        same = strcmp(names[i], p->handlers[i]) == 0;
    }
    names_free(names, n);
    return same ? 0 : -ESTALE;
}

static struct worker *worker_in(struct supervise *s, const struct zygote *z,
                                const struct control_msg *m, enum phase phase) {
    struct worker *w = m->slot < s->slots ? s->d->workers[m->slot] : NULL;
    return w && w->pool == z->pool && watch_of(w)->version == z->version && w->gen == m->gen &&
                   watch_of(w)->phase == phase
               ? w
               : NULL;
}

/* The worker that was asked for and has not been announced yet. */
static struct worker *asked(struct supervise *s, const struct zygote *z,
                            const struct control_msg *m) {
    return worker_in(s, z, m, PHASE_ASKED);
}

void zygote_kill(struct zygote *z) {
    z->killed = true;
    pidfd_send_signal(z->pidfd, SIGKILL, NULL, 0);
}

static void on_ready(struct supervise *s, struct zygote *z, const struct control_msg *m) {
    if (z->state != ZYGOTE_STARTING) {
        return;
    }
    bool program = z->config->kind == POOL_PROGRAM; /* its workers say */
    int r = program ? 0 : take_handlers(z, m->text, m->text_len);
    if (r < 0) {
        zygote_failed(s, z, "%s",
                      r == -ESTALE ? "its module has been exchanged and lacks handlers: reload it"
                                   : strerror(-r));
        zygote_kill(z);
        return;
    }
    z->state = ZYGOTE_READY;
    z->proved = true;
    log_debug(LOG_ABOUT(.pool = z->pool->config->name), "zygote %d is ready, %u handlers",
              (int)z->pid, z->pool->n_handlers);
}

static void on_failed(struct supervise *s, struct zygote *z, const struct control_msg *m) {
    int len = (int)m->text_len;
    if (m->slot == 0) {
        zygote_failed(s, z, "%.*s", len, m->text);
        zygote_kill(z); /* it is about to exit by itself: that end is not another failure */
        return;
    }
    struct worker *w = asked(s, z, m), *begun = worker_in(s, z, m, PHASE_STARTING);
    if (w) {
        zygote_failed(s, z, "cannot fork a worker: %.*s", len, m->text);
        worker_unask(s, w);
    } else if (begun) { /* it is about to exit: that is not another failure */
        zygote_failed(s, z, "%.*s", len, m->text);
        watch_of(begun)->explained = true;
    }
}

static void on_said(struct supervise *s, struct zygote *z, const struct control_msg *m) {
    struct worker *w;

    switch (m->kind) {
    case CONTROL_READY:
        on_ready(s, z, m);
        break;
    case CONTROL_SPAWNED:
        w = asked(s, z, m);
        if (w && m->pid > 1) {
            worker_spawned(s, w, m->pid);
        }
        s->orphans = true; /* its end may have been seen before its name was known */
        break;
    case CONTROL_FAILED:
        on_failed(s, z, m);
        break;
    default:
        break;
    }
}

void zygote_read(struct supervise *s, struct zygote *z) {
    static struct control_msg m; /* 8 KiB, one thread */

    while (z->sock >= 0) {
        ssize_t n = recv(z->sock, &m, sizeof(m), MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            break;
        }
        bool whole = n >= (ssize_t)CONTROL_HEAD && m.text_len <= sizeof(m.text) &&
                     (size_t)n == CONTROL_HEAD + m.text_len;
        if (!whole) { /* its end, or nonsense: it is of no more use, and zygote_bury() says so */
            pidfd_send_signal(z->pidfd, SIGKILL, NULL, 0);
            zygote_dismiss(z);
            break;
        }
        on_said(s, z, &m);
    }
    if (z->says && z->sock >= 0) {
        z->says = false;
        event_add(z->sock_event, NULL);
    }
}

void zygote_dismiss(struct zygote *z) {
    if (z->sock_event) {
        event_free(z->sock_event);
        z->sock_event = NULL;
    }
    if (z->sock >= 0) {
        close(z->sock);
        z->sock = -1;
    }
    z->says = false;
}

/* Workers it was asked for: those it has forked live on and will show up in their slots, see
 * worker_look(). */
static void orphan_asked(struct zygote *z) {
    uint64_t now = clock_now();
    list_for_each (it, &z->pool->workers) {
        struct watch *x = watch_of(list_entry(it, struct worker, in_pool));
        if (x->phase == PHASE_ASKED && x->version == z->version && x->orphaned_ns == 0) {
            x->orphaned_ns = now;
        }
    }
}

void zygote_bury(struct supervise *s, struct zygote *z) {
    siginfo_t si = {0};
    char how[64];
    bool wanted = z->killed || s->stop_at_ns != 0;
    enum zygote_state was = z->state;

    zygote_read(s, z); /* its last words: why it could not start, workers it has made */
    while (waitid(P_PIDFD, (id_t)z->pidfd, &si, WEXITED) < 0 && errno == EINTR) {
    }
    reap_text(&si, how);
    wanted |= z->killed;
    zygote_dismiss(z);
    if (z->exit_event) {
        event_free(z->exit_event);
        z->exit_event = NULL;
    }
    close(z->pidfd);
    z->pidfd = -1;
    z->state = ZYGOTE_NONE;
    orphan_asked(z);
    if (!wanted) {
        log_warn(LOG_ABOUT(.message = MESSAGE_ZYGOTE_DIED, .pool = z->pool->config->name),
                 "zygote %d died: %s", (int)z->pid, how);
        if (was == ZYGOTE_STARTING) {
            zygote_failed(s, z, "its zygote ended while starting: %s", how);
        } else {
            if (z->trial) {
                zygote_failed(s, z, "its zygote died: %s", how);
            } else {
                pool_died(s, z->pool, z->started_ns, "its zygote died: %s", how);
            }
        }
    }
    z->pid = 0;
}
