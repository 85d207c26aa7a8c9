/* SPDX-License-Identifier: MIT */
/* lock, sem: a command that runs while something is held, as flock(1) does it.
 *
 * What is held is this process's connection's, so it goes when this process ends, however it does. The command must not go on as
 * if it still had it: it is told by SIGTERM when this process dies (PR_SET_PDEATHSIG), and when the daemon does, or hangs up. It finds
 * HEARTH_OWNER_DIED=1 in its environment when the holder before it died, and may have left things half done.
 *
 * Signals are passed on that were sent to this process. Those that come from the terminal are not: it has sent them to the
 * command as well. This process never ends before its command, but by SIGKILL.
 *
 * Fails: the command's exit status, 128 and the signal that killed it; 1, or what --conflict-exit-code says, when it
 * could not be had in time; else an exit status of ctl.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/ctl/ctl.h"
#include "lib/base/cleanup.h"

enum { CONFLICT = 1, NOT_FOUND = 127, NOT_RUN = 126 };

/* ---- the command ---- */

struct child {
    pid_t pid;
    int pidfd, signals;
    sigset_t mask; /* as it was */
};

static const int passed[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

/* In the child: becomes the command, or says why not. */
static _Noreturn void become(const struct child *ch, char **argv, pid_t parent, int report) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) {
        _exit(NOT_RUN); /* it has died meanwhile, and what it held is gone */
    }
    sigprocmask(SIG_SETMASK, &ch->mask, NULL);
    execvp(argv[0], argv);
    int error = errno;
    (void)!write(report, &error, sizeof(error));
    _exit(error == ENOENT ? NOT_FOUND : NOT_RUN);
}

/* CTL_OK, or an exit status. */
static int start(struct ctl *c, char **argv, struct child *ch) {
    _cleanup_close_ int read_end = -1, write_end = -1;
    int error = 0, fds[2];
    pid_t parent = getpid();
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(passed) / sizeof(passed[0]); i++) {
        sigaddset(&set, passed[i]);
    }
    sigprocmask(SIG_BLOCK, &set, &ch->mask);
    ch->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (ch->signals < 0 || pipe2(fds, O_CLOEXEC) < 0) {
        return ctl_say(c, CTL_LOCAL, "cannot run %s: %s", argv[0], strerror(errno));
    }
    read_end = fds[0];
    write_end = fds[1];
    fflush(stdout);
    ch->pid = fork();
    if (ch->pid == 0) {
        become(ch, argv, parent, write_end);
    }
    close(steal_fd(&write_end));
    ch->pidfd = ch->pid > 0 ? pidfd_open(ch->pid, 0) : -1;
    if (ch->pid < 0) {
        return ctl_say(c, CTL_LOCAL, "cannot run %s: %s", argv[0], strerror(errno));
    }
    if (read(read_end, &error, sizeof(error)) == (ssize_t)sizeof(error)) {
        waitpid(ch->pid, NULL, 0);
        return ctl_say(c, error == ENOENT ? NOT_FOUND : NOT_RUN, "cannot run %s: %s", argv[0],
                       strerror(error));
    }
    return CTL_OK;
}

static void pass_on(const struct child *ch) {
    struct signalfd_siginfo info;
    while (read(ch->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_code != SI_KERNEL) {
            kill(ch->pid, (int)info.ssi_signo);
        }
    }
}

/* Waits for the command's end; its exit status as a shell tells it. *ret_lost: the connection was lost before. */
static int wait_for(struct ctl *c, const struct child *ch, bool *ret_lost) {
    int status = 0;
    struct pollfd p[] = {{.fd = ch->pidfd, .events = POLLIN},
                         {.fd = ch->signals, .events = POLLIN},
                         {.fd = hearth_get_fd(c->h), .events = POLLIN}};
    while (!(p[0].revents & POLLIN) && ch->pidfd >= 0) {
        if (poll(p, 3, -1) < 0) {
            continue;
        }
        if (p[1].revents) {
            pass_on(ch);
        }
        if (p[2].revents && hearth_dispatch(c->h) != 0) {
            ctl_say(c, 0,
                    "the daemon is gone, and what was held with it: the command is told to end");
            kill(ch->pid, SIGTERM);
            *ret_lost = true;
            p[2].fd = -1;
            p[2].revents = 0;
        }
    }
    while (waitpid(ch->pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Runs the command of the words left. */
static int run(struct ctl *c, int died, bool *ret_lost) {
    struct child ch = {.pidfd = -1, .signals = -1};
    if ((died ? setenv("HEARTH_OWNER_DIED", "1", 1) : unsetenv("HEARTH_OWNER_DIED")) < 0) {
        return ctl_say(c, CTL_LOCAL, "out of memory");
    }
    int status = start(c, c->argv, &ch);
    if (status == CTL_OK) {
        status = wait_for(c, &ch, ret_lost);
    }
    if (ch.pidfd >= 0) {
        close(ch.pidfd);
    }
    if (ch.signals >= 0) {
        close(ch.signals);
    }
    return status;
}

/* ---- lock, sem ---- */

struct what {
    uint64_t limit_ms, most, conflict;
    bool nonblock, list, given;
    const char *name;
};

/* Takes options and the name; the command is left. CTL_OK, or an exit status. */
static int parse(struct ctl *c, struct what *w) {
    *w = (struct what){.conflict = CONFLICT};
    for (;;) {
        int o = ctl_option(c);
        bool good = true;
        switch (o) {
        case CTL_STOP:
            return c->status;
        case CTL_END:
            if (w->name || !(w->name = ctl_operand(c))) {
                return CTL_OK;
            }
            break;
        case 't':
            good = ctl_duration(c, c->value, &w->limit_ms);
            break;
        case 'n':
            w->nonblock = true;
            break;
        case 'E':
            good = ctl_count(c, c->value, 255, &w->conflict);
            break;
        case 'm':
            good = ctl_count(c, c->value, INT64_MAX, &w->most);
            break;
        default:
            w->list = true;
        }
        if (!good) {
            return CTL_USAGE;
        }
    }
}

static int64_t limit_of(const struct what *w) {
    return w->nonblock ? 0 : w->limit_ms ? (int64_t)w->limit_ms : -1;
}

static int no_words(struct ctl *c, const struct what *w) {
    return ctl_usage(c, w->name ? "run what? COMMAND is missing" : "NAME is missing");
}

/* It could not be had: said, unless it is only that there was no time. */
static int not_had(struct ctl *c, const struct what *w, int r) {
    return r == HEARTH_E_PENDING ? (int)w->conflict : ctl_failed(c, r);
}

/* The rows of those who hold, or who wait. */
static void print_parties(const struct hearth_reply *object, const char *key, const char *state) {
    const struct hearth_reply *all = hearth_reply_get(object, key), *p = hearth_reply_first(all);
    for (size_t n = hearth_reply_count(all); n > 0; n--, p = hearth_reply_next(p)) {
        const char *mode = hearth_reply_text(hearth_reply_get(p, "mode"), NULL);
#define NUMBER(field) ((long long)hearth_reply_int(hearth_reply_get(p, field)))
        printf("%-20s %-9s %-5s %-9s %5lld %7lld %5lld %6lld %8lld\n",
               hearth_reply_text(hearth_reply_get(object, "key"), NULL),
               hearth_reply_text(hearth_reply_get(object, "type"), NULL), state, *mode ? mode : "-",
               NUMBER("count"), NUMBER("pid"), NUMBER("uid"), NUMBER("client"), NUMBER("ms"));
#undef NUMBER
    }
}

static int list_locks(struct ctl *c, const char *pattern) {
    const char *words[] = {"LOCK.LIST", pattern};
    const struct hearth_reply *all;
    int status = ctl_ask(c, pattern ? 2 : 1, words, NULL, &all);
    if (status != CTL_OK) {
        return status;
    }
    const struct hearth_reply *o = hearth_reply_first(all);
    if (!o && !c->json) {
        return ctl_say(c, CTL_OK, "nothing is held or waited for");
    }
    if (!c->json) {
        printf("%-20s %-9s %-5s %-9s %5s %7s %5s %6s %8s\n", "NAME", "TYPE", "STATE", "MODE",
               "COUNT", "PID", "UID", "CLIENT", "MS");
    }
    for (size_t n = hearth_reply_count(all); n > 0; n--, o = hearth_reply_next(o)) {
        if (c->json) {
            json_reply(o);
            putchar('\n');
        } else {
            print_parties(o, "holders", "holds");
            print_parties(o, "waiters", "waits");
        }
    }
    return CTL_OK;
}

int cmd_lock(struct ctl *c) {
    struct what w;
    bool lost = false;
    int died = 0, status = parse(c, &w);
    if (status != CTL_OK) {
        return status;
    }
    if (w.list) {
        return c->argc > 0 ? ctl_usage(c, "a word too many: %s", c->argv[0])
                           : list_locks(c, w.name);
    }
    if (!w.name || c->argc == 0) {
        return no_words(c, &w);
    }
    status = ctl_connect(c);
    if (status != CTL_OK) {
        return status;
    }
    int r = hearth_lock_acquire(c->h, hearth_text(w.name), limit_of(&w), 0, &died);
    if (r != 0) {
        return not_had(c, &w, r);
    }
    if (died) {
        ctl_say(c, 0, "OWNER_DIED: the holder before died holding %s", w.name);
    }
    status = run(c, died, &lost);
    r = lost ? 0 : hearth_lock_release(c->h, hearth_text(w.name), 0);
    if (r != 0) {
        ctl_failed(c,
                   r); /* somebody has taken it away; the command's status is what was asked for */
    }
    return lost ? CTL_CONNECT : status;
}

/* With --max: sees to it that there is one. */
static int make_sem(struct ctl *c, const struct what *w) {
    int r = w->most ? hearth_sem_create(c->h, hearth_text(w->name), w->most, 1, NULL) : 0;
    return r == HEARTH_E_EXISTS
               ? ctl_say(c, CTL_REFUSED, "%s is there with another --max (hearth del %s)", w->name,
                         w->name)
           : r ? ctl_failed(c, r)
               : CTL_OK;
}

int cmd_sem(struct ctl *c) {
    struct what w;
    bool lost = false;
    int status = parse(c, &w);
    if (status != CTL_OK) {
        return status;
    }
    if (!w.name || c->argc == 0) {
        return no_words(c, &w);
    }
    status = ctl_connect(c);
    status = status ? status : make_sem(c, &w);
    if (status != CTL_OK) {
        return status;
    }
    int r = hearth_sem_acquire(c->h, hearth_text(w.name), 1, limit_of(&w));
    if (r == HEARTH_E_ABSENT) {
        return ctl_say(c, CTL_NOTASK, "there is no semaphore %s: --max N makes one", w.name);
    }
    if (r != 0) {
        return not_had(c, &w, r);
    }
    status = run(c, 0, &lost);
    r = lost ? 0 : hearth_sem_release(c->h, hearth_text(w.name), 1);
    if (r != 0) {
        ctl_failed(c, r);
    }
    return lost ? CTL_CONNECT : status;
}
