/* SPDX-License-Identifier: MIT */
/* call and submit: one task. call submits and listens rather than use the library's hearth_call():
 * so it knows the id, can cancel on Ctrl-C, and can show what an exec task wrote to its standard
 * error.
 *
 * Fails: exit statuses; every failure is told on standard error. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/ctl.h"
#include "lib/base/cleanup.h"

struct run {
    struct ctl *c;
    struct hearth_task task;
    struct ctl_task_words words;
    char *payload;
    bool ended;
    bool stream;     /* --stream */
    bool is_command; /* of an exec pool: its standard output is its result, ... */
    bool streamed;   /* ... and has been written already */
    struct progress progress;
    int status;
    char id[HEARTH_ID_MAX + 1];
};

/* Options, POOL.HANDLER, options, then everything is an argument. */
static bool parse(struct ctl *c, struct run *run, const char **ret_in) {
    for (int pass = 0; pass < 2; pass++) {
        int o;
        while ((o = ctl_option(c)) > 0) {
            if (o == 'i') {
                *ret_in = c->value;
            } else if (o == CTL_STREAM) {
                run->stream = true;
            } else if (o < ' ' ? !ctl_task_option(c, o, &run->words, &run->task)
                               : !ctl_duration(c, c->value, &run->task.timeout_ms)) {
                run->status = CTL_USAGE;
                return false;
            }
        }
        if (o == CTL_STOP) {
            run->status = c->status;
            return false;
        }
        if (pass == 0 && !ctl_target(c, (char *)ctl_operand(c), &run->task)) {
            run->status = CTL_USAGE;
            return false;
        }
    }
    run->task.args = (const char *const *)c->argv;
    run->task.n_args = (size_t)c->argc;
    return true;
}

/* False: return run->status. */
static bool prepare(struct ctl *c, struct run *run) {
    const char *in = NULL;
    if (!parse(c, run, &in)) {
        return false;
    }
    if (in && !ctl_read_file(c, in, &run->payload, &run->task.payload_len)) {
        run->status = CTL_LOCAL;
        return false;
    }
    run->task.payload = run->payload;
    run->status = ctl_connect(c);
    return run->status == CTL_OK;
}

static void on_data(struct hearth *h, const struct hearth_data *d, void *arg) {
    struct run *run = arg;
    (void)h;
    if (d->kind == HEARTH_DATA_PROGRESS) {
        progress_task(&run->progress, d);
    } else if (run->stream) {
        progress_clear(&run->progress);
        ctl_write_data(d);
        run->streamed |= run->is_command && d->kind == HEARTH_DATA_STDOUT;
        run->c->told_errors |= d->kind == HEARTH_DATA_STDERR;
    }
}

static void on_end(struct hearth *h, const struct hearth_result *r, void *arg) {
    struct run *run = arg;
    (void)h;
    run->ended = true;
    progress_clear(&run->progress);
    run->status = ctl_exit_of(r);
    snprintf(run->id, sizeof(run->id), "%s", r->id);
    if (run->c->json && r->status != HEARTH_REFUSED) {
        json_result(r, true);
        printf("}\n");
    } else if (r->status == HEARTH_DONE && !run->streamed) {
        fwrite(r->data, 1, r->len, stdout);
    }
}

/* Reports outside of the callback, where the daemon can be asked for more. */
struct report {
    struct run *run;
    struct hearth_result r;
    char *cause;
};

static void on_end_report(struct hearth *h, const struct hearth_result *r, void *arg) {
    struct report *report = arg;
    on_end(h, r, report->run);
    report->r = *r;
    report->r.id = report->run->id;
    report->r.data = "";
    report->cause = strdup(r->cause);
    report->r.cause = report->cause ? report->cause : "";
}

/* If not, what a handler prints and what it gives back are two things. */
static bool is_command(struct ctl *c, const char *pool) {
    const struct hearth_reply *reply;
    const char *words[] = {"POOL.INFO", pool};
    if (hearth_command(c->h, 2, words, NULL, &reply) != 0) {
        return false; /* the task will be refused, and that tells why */
    }
    const struct hearth_reply *kind = hearth_reply_get(reply, "kind");
    return kind && strcmp(hearth_reply_text(kind, NULL), "exec") == 0;
}

static int call(struct ctl *c, struct run *run) {
    struct report report = {.run = run};
    uint64_t ticket = 0;
    run->is_command = run->stream && is_command(c, run->task.pool);
    ctl_catch_signals();
    progress_begin(&run->progress, 0);
    if (run->stream || run->progress.on) {
        run->task.data_fn = on_data;
        run->task.data_arg = run;
    }
    int r = hearth_submit(c->h, &run->task, on_end_report, &report, &ticket);
    bool cancelled = false;
    while (r == 0 && !run->ended) {
        /* A signal just before the library sleeps, or while it spins, interrupts nothing: so look
         * now and then. */
        r = hearth_run(c->h, 200);
        if (r == -EINTR || r == HEARTH_E_PENDING) {
            r = ctl_interrupted() && !cancelled ? hearth_cancel(c->h, ticket) : 0;
            cancelled = cancelled || ctl_interrupted();
        }
    }
    int status = run->ended ? ctl_report(c, &run->task, &report.r) : ctl_failed(c, r);
    free(report.cause);
    return cancelled && status == CTL_CANCELLED ? CTL_INTERRUPTED : status;
}

int cmd_call(struct ctl *c) {
    struct run run = {.c = c};
    int status = prepare(c, &run) ? call(c, &run) : run.status;
    free(run.payload);
    return status;
}

static int submit(struct ctl *c, struct run *run) {
    const struct hearth_task *t = &run->task;
    char limit[24];
    size_t n = 0, words = 4 + 2 * t->n_args + 2 + t->n_options;
    _cleanup_free_ const char **argv = calloc(words, sizeof(*argv));
    _cleanup_free_ size_t *lens = calloc(words, sizeof(*lens));
    if (!argv || !lens) {
        return ctl_say(c, CTL_LOCAL, "out of memory");
    }
    argv[n++] = "TASK.SUBMIT";
    argv[n++] = t->pool;
    argv[n++] = t->handler;
    argv[n++] = t->payload ? t->payload : "";
    for (size_t i = 0; i < t->n_args; i++) {
        argv[n++] = "ARG";
        argv[n++] = t->args[i];
    }
    if (t->timeout_ms) {
        snprintf(limit, sizeof(limit), "%llu", (unsigned long long)t->timeout_ms);
        argv[n++] = "TIMEOUT";
        argv[n++] = limit;
    }
    for (size_t i = 0; i < t->n_options; i++) {
        argv[n++] = t->options[i];
    }
    for (size_t i = 0; i < n; i++) {
        /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): all are texts */
        lens[i] = i == 3 ? t->payload_len : strlen(argv[i]);
    }
    const struct hearth_reply *reply;
    int r = hearth_command(c->h, n, argv, lens, &reply);
    if (r != 0) {
        return ctl_failed(c, r);
    }
    if (hearth_reply_type(reply) == HEARTH_REPLY_ERROR) {
        return ctl_refused(c, t, reply);
    }
    if (c->json) {
        printf("{\"id\":");
        json_reply(reply);
        printf("}\n");
    } else {
        printf("%s\n", hearth_reply_text(reply, NULL));
    }
    return CTL_OK;
}

int cmd_submit(struct ctl *c) {
    struct run run = {.c = c};
    int status = prepare(c, &run) ? submit(c, &run) : run.status;
    free(run.payload);
    return status;
}
