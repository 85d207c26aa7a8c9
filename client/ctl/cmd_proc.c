/* SPDX-License-Identifier: MIT */
/* proc: processes that the daemon starts and watches. `run` hands the command this process's own standard input, output and error and
 * waits for it, so that it is like the command itself, but a child of the daemon. With --handler it is a handler of a pool's module instead,
 * whose result is what run and wait print.
 *
 * Fails: exit statuses; of wait and run the process's, 128 and the signal that killed it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/ctl/ctl.h"
#include "lib/base/cleanup.h"

enum { ENV_MAX = 64, FOLLOW_MS = 100 };

struct options {
    struct hearth_proc p;
    const char *env[ENV_MAX + 1];
    size_t n_env;
    int64_t wait_ms;
    char *handler;  /* "POOL.HANDLER" */
    const char *in; /* its payload's file */
    bool follow;
};

static bool duration(struct ctl *c, uint32_t *ret) {
    uint64_t ms;
    if (!ctl_duration(c, c->value, &ms) || ms > UINT32_MAX) {
        c->status = CTL_USAGE;
        return false;
    }
    *ret = (uint32_t)ms;
    return true;
}

static bool restart(struct ctl *c, struct options *o) {
    static const char *const names[] = {"never", "on-failure", "always"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(c->value, names[i]) == 0) {
            o->p.restart = (enum hearth_proc_restart)i;
            return true;
        }
    }
    ctl_usage(c, "--restart takes never, on-failure or always");
    c->status = CTL_USAGE;
    return false;
}

static bool one_option(struct ctl *c, struct options *o, int letter) {
    uint32_t ms;
    switch (letter) {
    case 'n':
        o->p.name = c->value;
        return true;
    case 'd':
        o->p.directory = c->value;
        return true;
    case 'e':
        if (o->n_env == ENV_MAX) {
            c->status = ctl_usage(c, "no more than %d variables", ENV_MAX);
            return false;
        }
        o->env[o->n_env++] = c->value;
        return true;
    case 'H':
        o->handler = (char *)(uintptr_t)c->value;
        return true;
    case 'i':
        o->in = c->value;
        return true;
    case 'r':
        return restart(c, o);
    case 'b':
        return duration(c, &o->p.backoff_ms);
    case 'k':
        return duration(c, &o->p.stop_ms);
    case 't':
        if (!duration(c, &ms)) {
            return false;
        }
        o->wait_ms = ms;
        return true;
    default:
        o->follow = true;
        return true;
    }
}

/* False: return c->status. */
static bool options(struct ctl *c, struct options *o) {
    int letter;
    while ((letter = ctl_option(c)) > 0) {
        if (!one_option(c, o, letter)) {
            return false;
        }
    }
    return letter != CTL_STOP;
}

static int failed(struct ctl *c, int r, const char *process) {
    return r == HEARTH_E_ABSENT ? ctl_say(c, CTL_NOTASK, "no such process: %s", process)
                                : ctl_failed(c, r);
}

/* As a shell tells the end of a command. */
static int status_of(struct ctl *c, const struct hearth_proc_info *i) {
    if (i->result.data &&
        (fwrite(i->result.data, 1, i->result.len, stdout) != i->result.len || fflush(stdout))) {
        return ctl_say(c, CTL_LOCAL, "cannot write");
    }
    if (*i->failure) {
        ctl_say(c, CTL_FAILED, "%s: %s", i->status, i->failure);
    }
    if (i->signal) {
        return 128 + i->signal;
    }
    return i->exit_status >= 0 ? i->exit_status : ctl_say(c, CTL_FAILED, "%s", i->cause);
}

static int wait_for(struct ctl *c, const char *process, int64_t ms) {
    struct hearth_proc_info info;
    int r = hearth_proc_wait(c->h, process, ms, &info);
    if (r == HEARTH_E_PENDING) {
        return ctl_say(c, CTL_PENDING, "it has not ended: %s", process);
    }
    return r == 0 ? status_of(c, &info) : failed(c, r, process);
}

/* False: return c->status. */
static bool handler(struct ctl *c, struct options *o, char **ret_payload) {
    struct hearth_task target = {0};
    if (!ctl_target(c, o->handler, &target)) {
        c->status = CTL_USAGE;
        return false;
    }
    o->p.pool = target.pool;
    o->p.handler = target.handler;
    if (o->in && !ctl_read_file(c, o->in, ret_payload, &o->p.payload_len)) {
        c->status = CTL_LOCAL;
        return false;
    }
    o->p.payload = *ret_payload;
    return true;
}

static int start(struct ctl *c, struct options *o, bool run) {
    static const int ours[] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
    char id[HEARTH_ID_MAX + 1];
    _cleanup_free_ char *directory = NULL, *payload = NULL;
    if (o->handler ? !handler(c, o, &payload) : c->argc == 0) {
        return o->handler ? c->status : ctl_usage(c, "which one? COMMAND is missing");
    }
    if (run && !o->p.directory) {
        o->p.directory = directory = getcwd(NULL, 0);
    }
    o->p.argv = (const char *const *)c->argv;
    o->p.env = o->env;
    o->p.fds = run ? ours : NULL;
    o->p.flags = run ? HEARTH_PROC_OWNED : 0;
    int status = ctl_connect(c);
    if (status != CTL_OK) {
        return status;
    }
    int r = hearth_proc_start(c->h, &o->p, id, NULL);
    if (r != 0) {
        return ctl_failed(c, r);
    }
    if (run) {
        return wait_for(c, id, -1);
    }
    puts(id);
    return CTL_OK;
}

static int proc_start(struct ctl *c, struct options *o) {
    return start(c, o, false);
}

static int proc_run(struct ctl *c, struct options *o) {
    return start(c, o, true);
}

/* The one process, which options of ours may follow. NULL: c->status. */
static const char *only_process(struct ctl *c, struct options *o) {
    const char *process = ctl_operand(c);
    if (process && !options(c, o)) {
        return NULL;
    }
    if (!process || c->argc > 0) {
        c->status = ctl_usage(c, process ? "just one PROCESS" : "which one? PROCESS is missing");
        return NULL;
    }
    return process;
}

static int proc_wait(struct ctl *c, struct options *o) {
    const char *process = only_process(c, o);
    if (!process) {
        return c->status;
    }
    int status = ctl_connect(c);
    return status == CTL_OK ? wait_for(c, process, o->wait_ms) : status;
}

static int signal_each(struct ctl *c, const char *signal) {
    const char *process = ctl_operand(c);
    if (!process) {
        return ctl_usage(c, "which one? PROCESS is missing");
    }
    int status = ctl_connect(c);
    for (; process && status == CTL_OK; process = ctl_operand(c)) {
        int r = hearth_proc_signal(c->h, process, signal);
        status = r == 0 ? CTL_OK : failed(c, r, process);
    }
    return status;
}

static int proc_kill(struct ctl *c, struct options *o) {
    (void)o;
    return signal_each(c, "KILL");
}

static int proc_stop(struct ctl *c, struct options *o) {
    (void)o;
    return signal_each(c, "TERMINATE");
}

static int proc_signal(struct ctl *c, struct options *o) {
    const char *signal = ctl_operand(c);
    (void)o;
    return signal ? signal_each(c, signal) : ctl_usage(c, "hearth proc signal SIGNAL PROCESS...");
}

static int proc_ps(struct ctl *c, struct options *o) {
    static const struct ctl_column columns[] = {
        {"id", "ID", CTL_TEXT},       {"name", "NAME", CTL_TEXT},
        {"state", "STATE", CTL_TEXT}, {"pid", "PID", CTL_NUMBER},
        {"ppid", "PPID", CTL_NUMBER}, {"started_ms", "STARTED", CTL_AGE},
        {"runs", "RUNS", CTL_NUMBER}, {"restart", "RESTART", CTL_TEXT},
        {"cause", "CAUSE", CTL_TEXT}, {"command", "COMMAND", CTL_TEXT},
    };
    const char *words[] = {"PROC.LIST"};
    (void)o;
    return ctl_list(c, 1, words, columns, ARRAY_SIZE(columns), "no processes");
}

static int proc_show(struct ctl *c, struct options *o) {
    const char *process = ctl_operand(c);
    (void)o;
    return process ? ctl_show_each(c, "PROC.INFO", process)
                   : ctl_usage(c, "which one? PROCESS is missing");
}

/* The next of what it has written; it is waited for as long as nothing comes, if that is wanted. */
static int proc_log(struct ctl *c, struct options *o) {
    const char *process = only_process(c, o);
    uint64_t from = 0;
    int ended = 0, r = 0;
    if (!process) {
        return c->status;
    }
    int status = ctl_connect(c);
    if (status != CTL_OK) {
        return status;
    }
    for (;;) {
        struct hearth_bytes text;
        struct hearth_proc_info info;
        r = hearth_proc_log(c->h, process, from, &text, &from, &ended);
        if (r != 0) {
            return failed(c, r, process);
        }
        fwrite(text.data, 1, text.len, stdout);
        from += text.len;
        if (fflush(stdout) != 0) {
            return ctl_say(c, CTL_LOCAL, "cannot write");
        }
        if (!o->follow || ended) {
            return CTL_OK;
        }
        r = hearth_proc_wait(c->h, process, FOLLOW_MS, &info);
        if (r != 0 && r != HEARTH_E_PENDING) {
            return failed(c, r, process);
        }
    }
}

static int proc_rm(struct ctl *c, struct options *o) {
    const char *process = ctl_operand(c);
    (void)o;
    if (!process) {
        return ctl_usage(c, "which one? PROCESS is missing");
    }
    int status = ctl_connect(c);
    for (; process && status == CTL_OK; process = ctl_operand(c)) {
        int r = hearth_proc_remove(c->h, process);
        status = r == 0                  ? CTL_OK
                 : r == HEARTH_E_PENDING ? ctl_say(c, CTL_PENDING, "it has not ended: %s", process)
                                         : failed(c, r, process);
    }
    return status;
}

int cmd_proc(struct ctl *c) {
    static const struct {
        const char *name;
        int (*run)(struct ctl *c, struct options *o);
    } verbs[] = {{"start", proc_start}, {"run", proc_run},   {"wait", proc_wait},
                 {"kill", proc_kill},   {"stop", proc_stop}, {"signal", proc_signal},
                 {"ps", proc_ps},       {"show", proc_show}, {"log", proc_log},
                 {"rm", proc_rm}};
    struct options o = {.wait_ms = -1};
    if (!options(c, &o)) {
        return c->status;
    }
    const char *verb = ctl_operand(c);
    if (verb && !options(c, &o)) { /* those behind the verb */
        return c->status;
    }
    for (size_t i = 0; verb && i < ARRAY_SIZE(verbs); i++) {
        if (strcmp(verb, verbs[i].name) == 0) {
            return verbs[i].run(c, &o);
        }
    }
    return ctl_usage(c, "start, run, wait, stop, kill, signal, ps, show, log or rm?");
}
