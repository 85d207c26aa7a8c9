/* SPDX-License-Identifier: MIT */
/* The command line, from the tables of options. Not getopt: a handler's arguments may begin with a
 * dash and follow ours, so parsing has to stop where a command says, and options may stand before
 * and behind operands.
 *
 * Fails: CTL_STOP after a message that names the word and the way to help. */
#include "client/ctl/ctl.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/num.h"

enum { OPTION_JSON = 1, OPTION_HELP = 2, OPTION_SOCKET = 3 };

const struct ctl_option ctl_common_options[] = {
    {"socket", OPTION_SOCKET, "PATH", "the daemon's socket (-s; also $HEARTH_SOCKET)"},
    {"json", OPTION_JSON, NULL, "print JSON, one object a line"},
    {"help", OPTION_HELP, NULL, "show help (-h)"},
    {0},
};

static int stop(struct ctl *c, int status) {
    c->status = status;
    return CTL_STOP;
}

static const struct ctl_option *find_long(const struct ctl_option *o, const char *name,
                                          size_t len) {
    for (; o && o->name; o++) {
        if (strlen(o->name) == len && memcmp(o->name, name, len) == 0) {
            return o;
        }
    }
    return NULL;
}

static const struct ctl_option *find_short(const struct ctl *c, char letter) {
    if (letter == 's' || letter == 'h') {
        return &ctl_common_options[letter == 's' ? 0 : 2];
    }
    for (const struct ctl_option *o = c->command ? c->command->options : NULL; o && o->name; o++) {
        if (o->letter == letter) {
            return o;
        }
    }
    return NULL;
}

/* Deals with the options every command has; the letter of others. */
static int common(struct ctl *c, const struct ctl_option *o) {
    switch (o->letter) {
    case OPTION_SOCKET:
        c->socket = c->value;
        return ctl_option(c);
    case OPTION_JSON:
        c->json = true;
        return ctl_option(c);
    case OPTION_HELP:
        if (c->command) {
            ctl_help_command(c->command);
        } else {
            ctl_help();
        }
        return stop(c, CTL_OK);
    default:
        return o->letter;
    }
}

static int long_option(struct ctl *c, char *word) {
    char *equals = strchr(word, '=');
    size_t len = equals ? (size_t)(equals - word) : strlen(word);
    const struct ctl_option *o =
        find_long(c->command ? c->command->options : NULL, word + 2, len - 2);
    if (!o) {
        o = find_long(ctl_common_options, word + 2, len - 2);
    }
    if (!o) {
        return stop(c, ctl_usage(c, "there is no option %s", word));
    }
    c->argc--;
    c->argv++;
    c->value = equals ? equals + 1 : NULL;
    if (!o->arg && equals) {
        return stop(c, ctl_usage(c, "--%s takes no value", o->name));
    }
    if (o->arg && !equals && !(c->value = ctl_operand(c))) {
        return stop(c, ctl_usage(c, "--%s needs a value: %s", o->name, o->arg));
    }
    return common(c, o);
}

static int short_option(struct ctl *c, char *word) {
    const struct ctl_option *o = find_short(c, word[1]);
    if (!o) {
        return stop(c, ctl_usage(c, "there is no option -%c", word[1]));
    }
    if (!o->arg && word[2]) {
        /* More letters behind: take this one off. */
        memmove(word + 1, word + 2, strlen(word + 2) + 1);
        return common(c, o);
    }
    c->argc--;
    c->argv++;
    c->value = word[2] ? word + 2 : NULL;
    if (o->arg && !word[2] && !(c->value = ctl_operand(c))) {
        return stop(c, ctl_usage(c, "-%c needs a value: %s", word[1], o->arg));
    }
    return common(c, o);
}

int ctl_option(struct ctl *c) {
    if (c->verbatim || c->argc == 0 || c->argv[0][0] != '-' || !c->argv[0][1]) {
        return CTL_END;
    }
    if (strcmp(c->argv[0], "--") == 0) {
        c->argc--;
        c->argv++;
        c->verbatim = true;
        return CTL_END;
    }
    return c->argv[0][1] == '-' ? long_option(c, c->argv[0]) : short_option(c, c->argv[0]);
}

const char *ctl_operand(struct ctl *c) {
    if (c->argc == 0) {
        return NULL;
    }
    c->argc--;
    return *c->argv++;
}

bool ctl_duration(struct ctl *c, const char *text, uint64_t *ret_ms) {
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    char *end = (char *)text;
    double v = text[0] >= '0' && text[0] <= '9' ? strtod(text, &end) : -1;
    for (size_t i = 0; v >= 0 && i < sizeof(units) / sizeof(units[0]); i++) {
        double ms = v * units[i].ms;
        if (strcmp(end, units[i].unit) == 0 && isfinite(ms) && ms < 1e15) {
            *ret_ms = ms < 1 ? 1 : (uint64_t)ms;
            return true;
        }
    }
    ctl_usage(c, "not a time: %s (as 500ms, 2s, 1.5m)", text);
    return false;
}

bool ctl_count(struct ctl *c, const char *text, uint64_t max, uint64_t *ret) {
    uint64_t v;
    if (num_u64(text, strlen(text), &v) < 0 || v == 0 || v > max) {
        ctl_usage(c, "not a number from 1 to %llu: %s", (unsigned long long)max, text);
        return false;
    }
    *ret = v;
    return true;
}

bool ctl_target(struct ctl *c, char *text, struct hearth_task *ret) {
    if (!text) {
        ctl_usage(c, "what is to run? POOL.HANDLER is missing");
        return false;
    }
    char *dot = strchr(text, '.');
    if (dot == text || (dot && !dot[1]) || !*text) {
        ctl_usage(c, "not POOL.HANDLER: %s", text);
        return false;
    }
    ret->pool = text;
    ret->handler = dot ? dot + 1 : "run";
    if (dot) {
        *dot = 0;
    }
    return true;
}

/* "KEY=VALUE" in two; without a value `other`, if there is one. The command line is ours to change. */
static bool split(struct ctl *c, const char *other, const char **ret_value) {
    char *equals = strrchr((char *)c->value, '=');
    if (equals) {
        *equals = 0;
    }
    *ret_value = equals ? equals + 1 : other;
    return *ret_value || ctl_usage(c, "not KEY=N: %s", c->value) == CTL_OK;
}

bool ctl_task_option(struct ctl *c, int o, struct ctl_task_words *w, struct hearth_task *task) {
    static const struct {
        const char *word;
        enum { PLAIN, TIME, SIZE, KEY, FLAG } kind;
        const char *other;
    } options[CTL_TASK_WORDS] = {
        {"PRIORITY", PLAIN, NULL}, {"DELAY", TIME, NULL},     {"EXPIRE", TIME, NULL},
        {"DEADLINE", TIME, NULL},  {"RETRY", PLAIN, NULL},    {"ON", PLAIN, NULL},
        {"BACKOFF", TIME, NULL},   {"LIMIT", KEY, NULL},      {"AFTER", KEY, "ok"},
        {"GROUP", PLAIN, NULL},    {"UNIQUE", KEY, "reject"}, {"LAST", FLAG, NULL},
        {"OWNED", FLAG, NULL},     {"SOFT", TIME, NULL},      {"MEMORY", SIZE, NULL},
        {"DURABLE", FLAG, NULL}};
    o -= CTL_PRIORITY;
    const char *value = c->value, *second = NULL;
    if (options[o].kind == TIME) {
        uint64_t ms;
        if (!ctl_duration(c, value, &ms)) {
            return false;
        }
        snprintf(w->numbers[o], sizeof(w->numbers[0]), "%llu", (unsigned long long)ms);
        value = w->numbers[o];
    }
    if (options[o].kind == SIZE) {
        uint64_t bytes;
        if (num_size(value, &bytes) < 0) {
            ctl_usage(c, "not a size: %s (as 64M, 1G)", value);
            return false;
        }
        snprintf(w->numbers[o], sizeof(w->numbers[0]), "%llu", (unsigned long long)bytes);
        value = w->numbers[o];
    }
    if (options[o].kind == KEY && !split(c, options[o].other, &second)) {
        return false;
    }
    w->of[o].word[0] = options[o].word;
    w->of[o].word[1] = value;
    w->of[o].word[2] = second;
    w->of[o].n = options[o].kind == FLAG ? 1 : second ? 3 : 2;
    w->n = 0;
    for (size_t i = 0; i < CTL_TASK_WORDS; i++) {
        for (size_t k = 0; k < w->of[i].n; k++) {
            w->words[w->n++] = w->of[i].word[k];
        }
    }
    task->options = w->words;
    task->n_options = w->n;
    return true;
}
