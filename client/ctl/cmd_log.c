/* SPDX-License-Identifier: MIT */
/* log: what a task has told while it runs, and what it goes on telling.
 *
 * Fails: exit statuses. */
#include <errno.h>
#include <stdio.h>

#include "client/ctl/ctl.h"

void ctl_write_data(const struct hearth_data *d) {
    switch (d->kind) {
    case HEARTH_DATA:
    case HEARTH_DATA_STDOUT:
        fwrite(d->data, 1, d->len, stdout);
        fflush(stdout);
        break;
    case HEARTH_DATA_STDERR:
    case HEARTH_DATA_LOG:
        fwrite(d->data, 1, d->len, stderr);
        break;
    case HEARTH_DATA_RETRY:
        fprintf(stderr, "hearth: attempt %.*s\n", (int)d->len, d->data);
        break;
    default:
        break;
    }
}

struct log {
    struct ctl *c;
    struct progress progress;
};

static void on_data(struct hearth *h, const struct hearth_data *d, void *arg) {
    struct log *log = arg;
    (void)h;
    if (log->c->json) {
        printf("{\"kind\":\"%s\",", d->kind == HEARTH_DATA            ? "data"
                                    : d->kind == HEARTH_DATA_STDOUT   ? "stdout"
                                    : d->kind == HEARTH_DATA_STDERR   ? "stderr"
                                    : d->kind == HEARTH_DATA_LOG      ? "log"
                                    : d->kind == HEARTH_DATA_PROGRESS ? "progress"
                                                                      : "retry");
        if (d->kind == HEARTH_DATA_PROGRESS) {
            printf("\"done\":%llu,\"total\":%llu,", (unsigned long long)d->done,
                   (unsigned long long)d->total);
        }
        json_bytes("text", d->data, d->len);
        printf("}\n");
        fflush(stdout);
    } else if (d->kind == HEARTH_DATA_PROGRESS) {
        progress_task(&log->progress, d);
    } else {
        progress_clear(&log->progress);
        ctl_write_data(d);
    }
}

static int follow(struct ctl *c, const char *id, struct log *log) {
    struct hearth_result r;
    int error;
    ctl_catch_signals();
    do {
        error = hearth_follow(c->h, id, -1, on_data, log, &r);
    } while (error == -EINTR && !ctl_interrupted());
    progress_clear(&log->progress);
    return error == -EINTR ? CTL_INTERRUPTED : error ? ctl_failed(c, error) : ctl_exit_of(&r);
}

int cmd_log(struct ctl *c) {
    struct log log = {.c = c};
    const char *id = NULL;
    bool follows = false;
    do {
        int o;
        while ((o = ctl_option(c)) > 0) {
            follows |= o == 'f';
        }
        if (o == CTL_STOP) {
            return c->status;
        }
    } while (!id && (id = ctl_operand(c)));
    if (!id || c->argc > 0) {
        return ctl_usage(c, id ? "one ID at a time" : "which task? ID is missing");
    }
    int status = ctl_connect(c);
    if (status != CTL_OK) {
        return status;
    }
    progress_begin(&log.progress, 0);
    if (follows) {
        return follow(c, id, &log);
    }
    log.progress.on = false;
    int error = hearth_log(c->h, id, on_data, &log);
    return error ? ctl_failed(c, error) : CTL_OK;
}
