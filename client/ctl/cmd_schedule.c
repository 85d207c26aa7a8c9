/* SPDX-License-Identifier: MIT */
/* schedule: tasks by the clock. What is added is written as a line of a crontab is: when, then what.
 *
 * Fails: exit statuses. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/ctl.h"
#include "lib/base/cleanup.h"

struct adding {
    struct hearth_task task;
    struct ctl_task_words words;
    const char *in, *misfire, *overlap;
    char timeout[24];
    bool replace;
};

/* False: return c->status. */
static bool add_options(struct ctl *c, struct adding *a) {
    int o;
    while ((o = ctl_option(c)) > 0) {
        uint64_t ms;
        bool ok = true;
        a->replace |= o == 'r';
        a->in = o == 'i' ? c->value : a->in;
        a->misfire = o == 'm' ? c->value : a->misfire;
        a->overlap = o == 'o' ? "ALLOW" : a->overlap;
        if (o == 't') {
            ok = ctl_duration(c, c->value, &ms);
            snprintf(a->timeout, sizeof(a->timeout), "%llu", (unsigned long long)(ok ? ms : 0));
        } else if (o < ' ') {
            ok = ctl_task_option(c, o, &a->words, &a->task);
        }
        if (!ok) {
            c->status = CTL_USAGE;
            return false;
        }
    }
    return o != CTL_STOP;
}

/* "every 5m", or an expression. */
static bool put_when(struct ctl *c, const char *when, const char **words, size_t *n, char ms[24]) {
    uint64_t v;
    if (strncmp(when, "every ", 6) != 0) {
        words[(*n)++] = when;
        return true;
    }
    if (!ctl_duration(c, when + 6, &v)) {
        return false;
    }
    snprintf(ms, 24, "%llu", (unsigned long long)v);
    words[(*n)++] = "EVERY";
    words[(*n)++] = ms;
    return true;
}

static int send_add(struct ctl *c, struct adding *a, const char *name, const char *when,
                    const char *payload, size_t payload_len) {
    size_t n = 0, most = 24 + a->words.n + 2 * (size_t)c->argc;
    _cleanup_free_ const char **words = calloc(most, sizeof(*words));
    _cleanup_free_ size_t *lens = calloc(most, sizeof(*lens));
    const struct hearth_reply *reply;
    char every[24];
    if (!words || !lens) {
        return ctl_say(c, CTL_LOCAL, "out of memory");
    }
    words[n++] = "SCHEDULE.ADD";
    words[n++] = name;
    if (!put_when(c, when, words, &n, every)) {
        return CTL_USAGE;
    }
    if (a->replace) {
        words[n++] = "REPLACE";
    }
    words[n++] = a->task.pool;
    words[n++] = a->task.handler;
    size_t at = n;
    words[n++] = payload;
    for (int i = 0; i < c->argc; i++) {
        words[n++] = "ARG";
        words[n++] = c->argv[i];
    }
    for (size_t i = 0; i < a->words.n; i++) {
        words[n++] = a->words.words[i];
    }
    const char *pairs[][2] = {{"TIMEOUT", a->timeout[0] ? a->timeout : NULL},
                              {"MISFIRE", a->misfire},
                              {"OVERLAP", a->overlap}};
    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
        if (pairs[i][1]) {
            words[n++] = pairs[i][0];
            words[n++] = pairs[i][1];
        }
    }
    for (size_t i = 0; i < n; i++) {
        lens[i] = strlen(words[i]);
    }
    lens[at] = payload_len;
    return ctl_ask(c, n, words, lens, &reply);
}

static void say_next(struct ctl *c, const char *name) {
    const char *words[] = {"SCHEDULE.INFO", name};
    const struct hearth_reply *reply;
    if (ctl_ask(c, 2, words, NULL, &reply) == CTL_OK) {
        char date[32];
        if (c->json) {
            json_reply(reply);
            putchar('\n');
            return;
        }
        table_date(hearth_reply_int(hearth_reply_get(reply, "next_ms")), date);
        printf("%s: next at %s\n", name, date);
    }
}

static int add(struct ctl *c) {
    struct adding a = {.timeout = ""};
    _cleanup_free_ char *payload = NULL;
    size_t len = 0;
    if (!add_options(c, &a)) {
        return c->status;
    }
    const char *name = ctl_operand(c), *when = ctl_operand(c);
    if (!name || !when) {
        return ctl_usage(c,
                         "add what? NAME WHEN POOL.HANDLER, WHEN as '*/5 * * * *' or 'every 5m'");
    }
    if (!add_options(c, &a)) {
        return c->status;
    }
    if (!ctl_target(c, (char *)ctl_operand(c), &a.task)) {
        return CTL_USAGE;
    }
    if (!add_options(c, &a)) {
        return c->status;
    }
    if (a.in && !ctl_read_file(c, a.in, &payload, &len)) {
        return CTL_LOCAL;
    }
    int status = send_add(c, &a, name, when, payload ? payload : "", len);
    if (status == CTL_OK) {
        say_next(c, name);
    }
    return status;
}

static int list(struct ctl *c) {
    static const struct ctl_column columns[] = {
        {"name", "NAME", CTL_TEXT},      {"when", "WHEN", CTL_TEXT},
        {"pool", "POOL", CTL_TEXT},      {"handler", "HANDLER", CTL_TEXT},
        {"next_ms", "NEXT", CTL_DATE},   {"last_ms", "LAST", CTL_DATE},
        {"runs", "RUNS", CTL_NUMBER},    {"skipped", "SKIPPED", CTL_NUMBER},
        {"last_task", "TASK", CTL_TEXT}, {"paused", "PAUSED", CTL_TEXT},
    };
    const char *words[] = {"SCHEDULE.LIST"};
    return ctl_option(c) == CTL_STOP ? c->status
           : ctl_operand(c)          ? ctl_usage(c, "list takes no more words")
                            : ctl_list(c, 1, words, columns, sizeof(columns) / sizeof(columns[0]),
                                       "no schedules");
}

/* Those that take a name and answer OK, an id or a number. */
static int one(struct ctl *c, const char *command) {
    const struct hearth_reply *reply;
    const char *words[2] = {command, NULL};
    int status = CTL_OK, n = 0;
    while (status == CTL_OK && ctl_option(c) != CTL_STOP && (words[1] = ctl_operand(c))) {
        n++;
        status = ctl_ask(c, 2, words, NULL, &reply);
        if (status != CTL_OK) {
            break;
        }
        if (hearth_reply_type(reply) == HEARTH_REPLY_INT && hearth_reply_int(reply) == 0) {
            status = ctl_say(c, CTL_NOTASK, "no such schedule: %s", words[1]);
        } else if (c->json) {
            json_reply(reply);
            putchar('\n');
        } else if (strcmp(command, "SCHEDULE.RUN") == 0) {
            printf("%s\n", hearth_reply_text(reply, NULL));
        }
    }
    return n > 0 ? status : ctl_usage(c, "which one? NAME is missing");
}

int cmd_schedule(struct ctl *c) {
    static const char *const verbs[][2] = {{"run", "SCHEDULE.RUN"},
                                           {"pause", "SCHEDULE.PAUSE"},
                                           {"resume", "SCHEDULE.RESUME"},
                                           {"del", "SCHEDULE.DEL"}};
    if (ctl_option(c) == CTL_STOP) {
        return c->status;
    }
    const char *verb = ctl_operand(c);
    if (!verb || strcmp(verb, "list") == 0) {
        return list(c);
    }
    if (strcmp(verb, "add") == 0) {
        return add(c);
    }
    if (strcmp(verb, "show") == 0) {
        const char *name = ctl_operand(c);
        return name ? ctl_show_each(c, "SCHEDULE.INFO", name)
                    : ctl_usage(c, "which one? NAME is missing");
    }
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        if (strcmp(verb, verbs[i][0]) == 0) {
            return one(c, verbs[i][1]);
        }
    }
    return ctl_usage(c, "add, list, show, run, pause, resume or del?");
}
