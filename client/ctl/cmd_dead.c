/* SPDX-License-Identifier: MIT */
/* dead, group, priority: tasks that have failed for good, tasks that belong together, and another
 * place in the order.
 *
 * Fails: exit statuses. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/ctl.h"
#include "lib/base/cleanup.h"

/* Sends the command and the words that are left. */
static int send_rest(struct ctl *c, const char *command, const struct hearth_reply **ret) {
    size_t n = 1;
    _cleanup_free_ const char **words = calloc((size_t)c->argc + 2, sizeof(*words));
    if (!words) {
        return ctl_say(c, CTL_LOCAL, "out of memory");
    }
    words[0] = command;
    for (const char *word; (word = ctl_operand(c));) {
        words[n++] = word;
    }
    return ctl_ask(c, n, words, NULL, ret);
}

/* A number says how many; none is a failure. */
static int show_number(struct ctl *c, const struct hearth_reply *r) {
    if (c->json) {
        json_reply(r);
        putchar('\n');
    } else {
        printf("%lld\n", (long long)hearth_reply_int(r));
    }
    return hearth_reply_int(r) > 0 ? CTL_OK : CTL_NOTASK;
}

/* New ids, a line each; what was no dead letter is told. */
static int requeue(struct ctl *c) {
    const struct hearth_reply *r = NULL;
    int status =
        c->argc > 0 ? send_rest(c, "DEAD.REQUEUE", &r) : ctl_usage(c, "which ones? ID is missing");
    if (status != CTL_OK) {
        return status;
    }
    if (c->json) {
        json_reply(r);
        putchar('\n');
    }
    const struct hearth_reply *e = hearth_reply_first(r);
    for (size_t n = hearth_reply_count(r); n > 0; n--, e = hearth_reply_next(e)) {
        if (hearth_reply_type(e) == HEARTH_REPLY_NULL) {
            status = ctl_say(c, CTL_NOTASK, "one is no dead letter, or its pool takes nothing");
        } else if (!c->json) {
            printf("%s\n", hearth_reply_text(e, NULL));
        }
    }
    return status;
}

static int list_dead(struct ctl *c) {
    static const struct ctl_column columns[] = {
        {"id", "ID", CTL_TEXT},
        {"pool", "POOL", CTL_TEXT},
        {"handler", "HANDLER", CTL_TEXT},
        {"state", "STATE", CTL_TEXT},
        {"attempt", "ATTEMPTS", CTL_NUMBER},
        {"kills", "KILLS", CTL_NUMBER},
        {"ended_ms", "ENDED", CTL_DATE},
        {"cause_text", "CAUSE", CTL_TEXT},
    };
    const char *words[] = {"DEAD.LIST", "COUNT", "1000", "POOL", ctl_operand(c)};
    return ctl_list(c, words[4] ? 5 : 3, words, columns, sizeof(columns) / sizeof(columns[0]),
                    "no dead letters");
}

int cmd_dead(struct ctl *c) {
    const struct hearth_reply *r = NULL;
    if (ctl_option(c) == CTL_STOP) {
        return c->status;
    }
    const char *verb = ctl_operand(c);
    if (ctl_option(c) == CTL_STOP) {
        return c->status;
    }
    if (!verb || strcmp(verb, "list") == 0) {
        return list_dead(c);
    }
    if (strcmp(verb, "info") == 0) {
        const char *id = ctl_operand(c);
        return id ? ctl_show_each(c, "DEAD.INFO", id) : ctl_usage(c, "which one? ID is missing");
    }
    if (strcmp(verb, "requeue") == 0) {
        return requeue(c);
    }
    if (strcmp(verb, "purge") == 0) {
        int status = send_rest(c, "DEAD.PURGE", &r);
        return status == CTL_OK ? show_number(c, r) : status;
    }
    return ctl_usage(c, "list, info, requeue or purge?");
}

int cmd_group(struct ctl *c) {
    static const char *const verbs[][2] = {{"wait", "GROUP.WAIT"},
                                           {"info", "GROUP.INFO"},
                                           {"close", "GROUP.CLOSE"},
                                           {"cancel", "GROUP.CANCEL"}};
    const struct hearth_reply *r = NULL;
    if (ctl_option(c) == CTL_STOP) {
        return c->status;
    }
    const char *verb = ctl_operand(c), *command = NULL;
    if (ctl_option(c) == CTL_STOP) {
        return c->status;
    }
    const char *name = ctl_operand(c);
    for (size_t i = 0; verb && i < ARRAY_SIZE(verbs); i++) {
        command = strcmp(verb, verbs[i][0]) == 0 ? verbs[i][1] : command;
    }
    if (!command || !name) {
        return ctl_usage(c, "wait, info, close or cancel NAME");
    }
    if (command == verbs[0][1] || command == verbs[1][1]) {
        return ctl_show_each(c, command, name);
    }
    const char *words[] = {command, name};
    int status = ctl_ask(c, 2, words, NULL, &r);
    return status == CTL_OK && hearth_reply_type(r) == HEARTH_REPLY_INT ? show_number(c, r)
                                                                        : status;
}

int cmd_priority(struct ctl *c) {
    const struct hearth_reply *r = NULL;
    if (ctl_option(c) == CTL_STOP) {
        return c->status;
    }
    const char *words[] = {"TASK.PRIORITY", ctl_operand(c), ctl_operand(c)};
    if (!words[1] || !words[2]) {
        return ctl_usage(c, "which task, and what priority? ID N");
    }
    int status = ctl_ask(c, 3, words, NULL, &r);
    if (status == CTL_OK && hearth_reply_int(r) == 0) {
        return ctl_say(c, CTL_NOTASK, "it has ended: %s", words[1]);
    }
    return status;
}
