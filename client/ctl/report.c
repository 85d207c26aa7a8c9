/* SPDX-License-Identifier: MIT */
/* What the command says on standard error: what went wrong, and what to do about it.
 *
 * Fails: never; if the daemon cannot be asked for more, less is said. */
#include "client/ctl/ctl.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile sig_atomic_t interrupted;

static void on_signal(int sig) {
    (void)sig;
    interrupted++;
    if (interrupted > 1) {
        signal(sig, SIG_DFL); /* a third one ends us whatever we do */
    }
}

void ctl_catch_signals(void) {
    struct sigaction sa = {.sa_handler = on_signal};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
}

bool ctl_interrupted(void) {
    return interrupted > 0;
}

static void say(const struct ctl *c, const char *fmt, va_list ap) {
    fprintf(stderr, "hearth: ");
    if (c->command) {
        fprintf(stderr, "%s: ", c->command->name);
    }
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
}

int ctl_say(const struct ctl *c, int status, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    say(c, fmt, ap);
    va_end(ap);
    return status;
}

int ctl_usage(struct ctl *c, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    say(c, fmt, ap);
    va_end(ap);
    if (c->command) {
        fprintf(stderr, "usage: hearth %s%s%s%s   (more: hearth help %s)\n", c->command->name,
                c->command->options->name ? " [OPTIONS]" : "", c->command->args[0] ? " " : "",
                c->command->args, c->command->name);
    } else {
        fprintf(stderr, "`hearth help` shows the commands.\n");
    }
    return CTL_USAGE;
}

static const char *socket_of(const struct ctl *c) {
    const char *env = getenv("HEARTH_SOCKET");
    return c->socket ? c->socket : env && *env ? env : HEARTH_DEFAULT_SOCKET;
}

int ctl_connect(struct ctl *c) {
    if (c->h) {
        return CTL_OK;
    }
    int r = hearth_connect(c->socket, &c->h);
    if (r == 0) {
        return CTL_OK;
    }
    const char *path = socket_of(c);
    switch (r) {
    case -ENOENT:
    case -ECONNREFUSED:
        fprintf(stderr,
                "hearth: no daemon at %s (%s)\n"
                "Start one:  systemctl start hearthd.socket       the system's daemon\n"
                "            hearthd --foreground -s %s\n"
                "Elsewhere:  hearth -s PATH ..., or set HEARTH_SOCKET\n",
                path, hearth_strerror(r), path);
        break;
    case -EACCES:
    case -EPERM:
        fprintf(
            stderr,
            "hearth: you may not connect to %s (%s)\n"
            "Its group may: see `ls -l %s`; an administrator adds you with  adduser USER GROUP\n",
            path, hearth_strerror(r), path);
        break;
    case HEARTH_E_PROTOCOL:
        fprintf(stderr, "hearth: what listens at %s is not hearthd\n", path);
        break;
    case -ETIMEDOUT:
        fprintf(stderr,
                "hearth: the daemon at %s does not answer\n"
                "Look at its log:  journalctl -u hearthd\n",
                path);
        break;
    default:
        fprintf(stderr, "hearth: cannot connect to %s: %s\n", path, hearth_strerror(r));
    }
    return CTL_CONNECT;
}

static int exit_of_error(int error) {
    switch (error) {
    case HEARTH_E_NOTASK:
        return CTL_NOTASK;
    case HEARTH_E_PENDING:
        return CTL_PENDING;
    case HEARTH_E_DISCONNECTED:
    case HEARTH_E_PROTOCOL:
        return CTL_CONNECT;
    default:
        return error > 0 ? CTL_REFUSED : CTL_LOCAL;
    }
}

/* Lists one text of each map in an array. */
static void list_names(const struct hearth_reply *rows, const char *key) {
    const struct hearth_reply *row = hearth_reply_first(rows);
    for (size_t n = hearth_reply_count(rows); n > 0; n--, row = hearth_reply_next(row)) {
        const struct hearth_reply *name = key ? hearth_reply_get(row, key) : row;
        fprintf(stderr, " %s", hearth_reply_text(name, NULL));
    }
    fprintf(stderr, "\n");
}

static void advise(struct ctl *c, int error, const struct hearth_task *task) {
    const struct hearth_reply *reply;
    const char *words[2] = {"POOL.LIST", NULL};
    if (error == HEARTH_E_NOPOOL && hearth_command(c->h, 1, words, NULL, &reply) == 0) {
        fprintf(stderr, "The pools are:");
        list_names(reply, "name");
    } else if (error == HEARTH_E_NOHANDLER && task) {
        words[0] = "POOL.INFO";
        words[1] = task->pool;
        if (hearth_command(c->h, 2, words, NULL, &reply) == 0) {
            fprintf(stderr, "The handlers of %s are:", task->pool);
            list_names(hearth_reply_get(reply, "handlers"), NULL);
        }
    } else if (error == HEARTH_E_BUSY) {
        fprintf(
            stderr,
            "Try again later, or raise queue_max of the pool. `hearth pools` shows the queues.\n");
    } else if (error == HEARTH_E_OOM) {
        fprintf(stderr,
                "Fetch or wait for results, or raise segment_size. `hearth info` shows its use.\n");
    }
}

int ctl_failed(struct ctl *c, int error) {
    const char *words = c->h ? hearth_errmsg(c->h) : "";
    ctl_say(c, 0, "%s",
            (error > 0 || error == -EOPNOTSUPP || error == -EBADF) && words[0]
                ? words
                : hearth_strerror(error));
    if (error > 0) {
        advise(c, error, NULL);
    }
    return exit_of_error(error);
}

int ctl_refused(struct ctl *c, const struct hearth_task *task, const struct hearth_reply *reply) {
    static const struct {
        const char *word;
        int error;
    } codes[] = {
        {"NOPOOL ", HEARTH_E_NOPOOL}, {"NOHANDLER ", HEARTH_E_NOHANDLER}, {"BUSY ", HEARTH_E_BUSY},
        {"OOM ", HEARTH_E_OOM},       {"NOTASK ", HEARTH_E_NOTASK},
    };
    const char *text = hearth_reply_text(reply, NULL);
    int error = HEARTH_E_REFUSED;
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (strncmp(text, codes[i].word, strlen(codes[i].word)) == 0) {
            error = codes[i].error;
        }
    }
    ctl_say(c, 0, "%s", text);
    advise(c, error, task);
    return exit_of_error(error);
}

int ctl_exit_of(const struct hearth_result *r) {
    static const int exits[] = {
        [HEARTH_DONE] = CTL_OK,
        [HEARTH_FAILED] = CTL_FAILED,
        [HEARTH_LOST] = CTL_LOST,
        [HEARTH_TIMEOUT] = CTL_TIMEOUT,
        [HEARTH_CANCELLED] = CTL_CANCELLED,
        [HEARTH_REFUSED] = CTL_REFUSED,
        [HEARTH_DISCONNECTED] = CTL_CONNECT,
        [HEARTH_EXPIRED] = CTL_TIMEOUT,
    };
    return exits[r->status];
}

/* The standard error of an exec task, indented. */
static void show_error_output(struct ctl *c, const char *id) {
    struct hearth_task_info info;
    if (!id[0] || hearth_status(c->h, id, &info) != 0 || !info.error_output[0]) {
        return;
    }
    const char *text = info.error_output;
    while (*text) {
        size_t len = strcspn(text, "\n");
        fprintf(stderr, "  | %.*s\n", (int)len, text);
        text += len + (text[len] == '\n');
    }
}

int ctl_report(struct ctl *c, const struct hearth_task *task, const struct hearth_result *r) {
    switch (r->status) {
    case HEARTH_DONE:
        break;
    case HEARTH_REFUSED:
        ctl_say(c, 0, "refused: %s", r->cause);
        advise(c, r->error, task);
        break;
    case HEARTH_DISCONNECTED:
        ctl_say(c, 0, "the connection was lost: %s", r->cause);
        if (r->id[0]) {
            fprintf(stderr, "The task goes on if the daemon does:  hearth wait %s\n", r->id);
        }
        break;
    default:
        ctl_say(c, 0, "task %s %s: %s", r->id, hearth_status_name(r->status), r->cause);
        if (!c->told_errors) {
            show_error_output(c, r->id);
        }
    }
    return ctl_exit_of(r);
}

int ctl_ask(struct ctl *c, size_t n, const char *const *words, const size_t *lens,
            const struct hearth_reply **ret) {
    int status = ctl_connect(c);
    if (status != CTL_OK) {
        return status;
    }
    int r = hearth_command(c->h, n, words, lens, ret);
    if (r != 0) {
        return ctl_failed(c, r);
    }
    return hearth_reply_type(*ret) == HEARTH_REPLY_ERROR ? ctl_refused(c, NULL, *ret) : CTL_OK;
}
