/* SPDX-License-Identifier: MIT */
/* pool, config, reload: steering the daemon. A verb is a command of the protocol (POOL.RESIZE, CONFIG SET), the words behind it
 * are its words.
 *
 * Fails: exit statuses. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/ctl.h"
#include "lib/base/cleanup.h"

/* Sends the command and the words that are left. */
static int send_rest(struct ctl *c, const char *const *head, size_t n_head,
                     const struct hearth_reply **ret) {
    size_t n = 0;
    _cleanup_free_ const char **words = calloc(n_head + (size_t)c->argc + 1, sizeof(*words));
    if (!words) {
        return ctl_say(c, CTL_LOCAL, "out of memory");
    }
    for (; n < n_head; n++) {
        words[n] = head[n];
    }
    while (c->argc > 0) {
        words[n++] = ctl_operand(c);
    }
    return ctl_ask(c, n, words, NULL, ret);
}

/* An OK says nothing, a list its lines. */
static void show_lines(struct ctl *c, const struct hearth_reply *r) {
    const struct hearth_reply *e = hearth_reply_first(r);
    if (c->json) {
        json_reply(r);
        putchar('\n');
        return;
    }
    for (size_t n = hearth_reply_count(r); n > 0; n--, e = hearth_reply_next(e)) {
        size_t len;
        const char *text = hearth_reply_text(e, &len);
        ctl_print_line(text, len);
    }
}

static const char *pool_command(const char *verb) {
    static const char *const verbs[][2] = {
        {"resize", "POOL.RESIZE"}, {"recycle", "POOL.RECYCLE"}, {"pause", "POOL.PAUSE"},
        {"resume", "POOL.RESUME"}, {"drain", "POOL.DRAIN"},     {"broadcast", "POOL.BROADCAST"},
    };
    for (size_t i = 0; verb && i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strcmp(verb, verbs[i][0]) == 0) {
            return verbs[i][1];
        }
    }
    return NULL;
}

/* [pid, id, status, result, cause] of each worker: its lines with the pid before them. */
static int show_ends(struct ctl *c, const struct hearth_reply *r) {
    const struct hearth_reply *one = hearth_reply_first(r);
    int status = CTL_OK;
    if (c->json) {
        json_reply(r);
        putchar('\n');
    }
    for (size_t n = hearth_reply_count(r); n > 0; n--, one = hearth_reply_next(one)) {
        const struct hearth_reply *pid = hearth_reply_first(one);
        const struct hearth_reply *how = hearth_reply_next(hearth_reply_next(pid));
        const struct hearth_reply *result = hearth_reply_next(how);
        bool done = strcmp(hearth_reply_text(how, NULL), "done") == 0;
        char tag[24];
        size_t len;
        const char *text = hearth_reply_text(result, &len);
        snprintf(tag, sizeof(tag), "%lld", (long long)hearth_reply_int(pid));
        if (done && !c->json) {
            ctl_print_tagged(tag, text, len);
        } else if (!done) {
            status = ctl_say(c, CTL_FAILED, "%s: %s: %s", tag, hearth_reply_text(how, NULL),
                             hearth_reply_text(hearth_reply_next(result), NULL));
        }
    }
    return status;
}

int cmd_pool(struct ctl *c) {
    const struct hearth_reply *r = NULL;
    if (ctl_option(c) == CTL_STOP) {
        return c->status;
    }
    const char *command = pool_command(ctl_operand(c));
    if (!command) {
        return ctl_usage(c, "resize, recycle, broadcast, pause, resume or drain?");
    }
    if (c->argc == 0) {
        return ctl_usage(c, "which pool?");
    }
    int status = send_rest(c, &command, 1, &r);
    if (status == CTL_OK && hearth_reply_type(r) == HEARTH_REPLY_ARRAY) {
        return show_ends(c, r);
    }
    if (status == CTL_OK && hearth_reply_type(r) == HEARTH_REPLY_NULL) {
        return ctl_say(c, CTL_PENDING, "not all tasks have ended in that time");
    }
    return status;
}

static void show_config(struct ctl *c, const struct hearth_reply *r) {
    const struct hearth_reply *e = hearth_reply_first(r);
    if (c->json) {
        json_reply(r);
        putchar('\n');
        return;
    }
    for (size_t n = hearth_reply_count(r); n > 0; n--) {
        const struct hearth_reply *value = hearth_reply_next(e);
        printf("%s = %s\n", hearth_reply_text(e, NULL), hearth_reply_text(value, NULL));
        e = hearth_reply_next(value);
    }
}

int cmd_config(struct ctl *c) {
    static const char *const verbs[] = {"get", "set", "rewrite", "resetstat"};
    const struct hearth_reply *r = NULL;
    if (ctl_option(c) == CTL_STOP) {
        return c->status;
    }
    const char *verb = ctl_operand(c);
    for (size_t i = 0; verb && i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strcmp(verb, verbs[i]) != 0) {
            continue;
        }
        const char *head[] = {"CONFIG", verb, "*"};
        bool all = i == 0 && c->argc == 0;
        int status = send_rest(c, head, all ? 3 : 2, &r);
        if (status == CTL_OK && i == 0) {
            show_config(c, r);
        }
        return status;
    }
    return ctl_usage(c, "get, set, rewrite or resetstat?");
}

int cmd_reload(struct ctl *c) {
    const char *const words[] = {"CONFIG", "RELOAD"};
    const struct hearth_reply *r = NULL;
    if (ctl_option(c) == CTL_STOP) {
        return c->status;
    }
    if (ctl_operand(c)) {
        return ctl_usage(c, "reload takes no words");
    }
    int status = ctl_ask(c, 2, words, NULL, &r);
    if (status == CTL_OK) {
        show_lines(c, r);
    }
    return status;
}
