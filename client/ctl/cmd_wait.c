/* SPDX-License-Identifier: MIT */
/* wait, result, cancel: tasks by id, of whichever connection.
 *
 * Fails: exit statuses; the first failure of several tasks is the one that counts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/ctl.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"

static void print_result(struct ctl *c, const struct hearth_result *r, bool tagged) {
    if (c->json) {
        json_result(r, true);
        printf("}\n");
    } else if (r->status == HEARTH_DONE && tagged) {
        ctl_print_tagged(r->id, r->data, r->len);
    } else if (r->status == HEARTH_DONE) {
        fwrite(r->data, 1, r->len, stdout);
    }
    fflush(stdout);
}

/* Prints, then reports: asking for more ends what the result points to. */
static int show(struct ctl *c, struct hearth_result *r, bool tagged) {
    print_result(c, r, tagged);
    if (r->status == HEARTH_DONE) {
        return CTL_OK;
    }
    _cleanup_free_ char *id = strdup(r->id);
    _cleanup_free_ char *cause = strdup(r->cause);
    if (!id || !cause) {
        return ctl_exit_of(r);
    }
    r->id = id;
    r->cause = cause;
    return ctl_report(c, NULL, r);
}

static void forget(const char **ids, size_t *n, const char *id) {
    for (size_t i = 0; i < *n; i++) {
        if (strcmp(ids[i], id) == 0) {
            ids[i] = ids[--*n];
            return;
        }
    }
    *n = 0; /* an answer we did not ask for: no endless loop */
}

static void on_data(struct hearth *h, const struct hearth_data *d, void *arg) {
    (void)h;
    progress_task(arg, d);
}

/* On a terminal: shows how far the task has come until it ends, or the wait is to do what there is to do. */
static void watch(struct ctl *c, const char *id) {
    struct hearth_result r;
    struct progress p;
    progress_begin(&p, 0);
    if (p.on) {
        hearth_follow(c->h, id, -1, on_data, &p, &r);
        progress_clear(&p);
    }
}

int cmd_wait(struct ctl *c) {
    bool any = false;
    uint64_t limit = 0;
    size_t n = 0;
    _cleanup_free_ const char **ids = calloc((size_t)c->argc + 1, sizeof(*ids));
    if (!ids) {
        return ctl_say(c, CTL_LOCAL, "out of memory");
    }
    do {
        int o;
        while ((o = ctl_option(c)) > 0) {
            if (o == 'a') {
                any = true;
            } else if (!ctl_duration(c, c->value, &limit)) {
                return CTL_USAGE;
            }
        }
        if (o == CTL_STOP) {
            return c->status;
        }
    } while ((ids[n] = ctl_operand(c)) && ++n);
    if (n == 0) {
        return ctl_usage(c, "which task? ID is missing");
    }
    int status = ctl_connect(c);
    if (status != CTL_OK) {
        return status;
    }
    if (n == 1 && limit == 0) {
        watch(c, ids[0]);
    }
    bool tagged = n > 1 && !any;
    uint64_t deadline = clock_now() + limit * NS_PER_MS;
    while (n > 0) {
        uint64_t now = clock_now();
        int64_t left = limit == 0        ? -1
                       : now >= deadline ? 0
                                         : (int64_t)((deadline - now) / NS_PER_MS);
        struct hearth_result r;
        int error = hearth_wait(c->h, ids, n, left, &r);
        if (error != 0) {
            return ctl_failed(c, error);
        }
        forget(ids, &n, r.id);
        int mine = show(c, &r, tagged);
        status = status ? status : mine;
        if (any) {
            break;
        }
    }
    return status;
}

int cmd_result(struct ctl *c) {
    if (ctl_option(c) == CTL_STOP) {
        return c->status;
    }
    const char *id = ctl_operand(c);
    if (!id) {
        return ctl_usage(c, "which task? ID is missing");
    }
    if (ctl_option(c) == CTL_STOP) {
        return c->status;
    }
    int status = ctl_connect(c);
    if (status != CTL_OK) {
        return status;
    }
    struct hearth_result r;
    int error = hearth_fetch(c->h, id, &r);
    return error ? ctl_failed(c, error) : show(c, &r, false);
}

int cmd_cancel(struct ctl *c) {
    if (ctl_option(c) == CTL_STOP) {
        return c->status;
    }
    size_t n = (size_t)c->argc;
    if (n == 0) {
        return ctl_usage(c, "which task? ID is missing");
    }
    _cleanup_free_ const char **words = calloc(n + 2, sizeof(*words));
    if (!words) {
        return ctl_say(c, CTL_LOCAL, "out of memory");
    }
    words[0] = "TASK.CANCEL";
    size_t i = 1;
    int o = CTL_END;
    while ((o = ctl_option(c)) == CTL_END && (words[i] = ctl_operand(c))) {
        i++;
    }
    int status = o == CTL_STOP ? c->status : ctl_connect(c);
    if (status != CTL_OK || o == CTL_STOP) {
        return status;
    }
    const struct hearth_reply *reply;
    int r = hearth_command(c->h, i, words, NULL, &reply);
    if (r != 0) {
        return ctl_failed(c, r);
    }
    if (hearth_reply_type(reply) == HEARTH_REPLY_ERROR) {
        return ctl_refused(c, NULL, reply);
    }
    long long told = (long long)hearth_reply_int(reply);
    printf(c->json ? "{\"cancelled\":%lld}\n" : "%lld\n", told);
    return told > 0 ? CTL_OK : CTL_NOTASK;
}
