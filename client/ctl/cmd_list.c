/* SPDX-License-Identifier: MIT */
/* tasks, pools, workers: what the daemon has, as tables, or with --json as it says it, one object a
 * line.
 *
 * Fails: exit statuses. */
#include <stdio.h>
#include <string.h>

#include "client/ctl/ctl.h"

static void print_lines(const struct hearth_reply *rows) {
    const struct hearth_reply *row = hearth_reply_first(rows);
    for (size_t n = hearth_reply_count(rows); n > 0; n--, row = hearth_reply_next(row)) {
        json_reply(row);
        putchar('\n');
    }
}

int ctl_list(struct ctl *c, size_t n, const char *const *words, const struct ctl_column *columns,
             size_t n_columns, const char *none) {
    const struct hearth_reply *rows;
    int status = ctl_ask(c, n, words, NULL, &rows);
    if (status != CTL_OK) {
        return status;
    }
    if (c->json) {
        print_lines(rows);
        return CTL_OK;
    }
    return table_print(c, rows, columns, n_columns, none);
}

static bool ends_with(const char *text, const char *tail) {
    size_t n = strlen(text), m = strlen(tail);
    return n >= m && strcmp(text + n - m, tail) == 0;
}

/* Moments, not spans. */
static bool is_date(const char *key) {
    static const char *const dates[] = {"submitted_ms", "spawned_ms", "begun_ms",
                                        "next_ms",      "last_ms",    "last_decision_ms"};
    for (size_t i = 0; i < sizeof(dates) / sizeof(dates[0]); i++) {
        if (strcmp(key, dates[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void print_value(const char *key, const struct hearth_reply *v) {
    if (hearth_reply_type(v) == HEARTH_REPLY_INT && ends_with(key, "_us")) {
        printf("%s", table_micros(hearth_reply_int(v)));
    } else if (hearth_reply_type(v) == HEARTH_REPLY_INT && ends_with(key, "_bytes")) {
        printf("%s", table_bytes(hearth_reply_int(v)));
    } else if (hearth_reply_type(v) == HEARTH_REPLY_INT && is_date(key)) {
        char date[32];
        printf("%s", table_date(hearth_reply_int(v), date));
    } else if (hearth_reply_type(v) == HEARTH_REPLY_ARRAY) {
        const struct hearth_reply *e = hearth_reply_first(v);
        for (size_t n = hearth_reply_count(v); n > 0; n--, e = hearth_reply_next(e)) {
            char date[32];
            bool moment = strcmp(key, "upcoming_ms") == 0;
            printf("%s%s",
                   moment ? table_date(hearth_reply_int(e), date) : hearth_reply_text(e, NULL),
                   n <= 1   ? ""
                   : moment ? ", "
                            : " ");
        }
    } else if (hearth_reply_type(v) == HEARTH_REPLY_BOOL) {
        printf("%s", hearth_reply_int(v) ? "yes" : "no");
    } else {
        ctl_print_value(v);
    }
}

/* A map, one key a line. */
static void print_map(const struct hearth_reply *map) {
    const struct hearth_reply *key = hearth_reply_first(map);
    size_t n = hearth_reply_count(map) / (hearth_reply_type(map) == HEARTH_REPLY_MAP ? 1 : 2);
    for (; n > 0; n--) {
        const struct hearth_reply *v = hearth_reply_next(key);
        printf("%-14s ", hearth_reply_text(key, NULL));
        print_value(hearth_reply_text(key, NULL), v);
        putchar('\n');
        key = hearth_reply_next(v);
    }
}

/* Each word left is asked for by `verb`. */
int ctl_show_each(struct ctl *c, const char *verb, const char *first) {
    int status = CTL_OK, shown = 0;
    for (const char *name = first; name; name = ctl_operand(c)) {
        const char *words[2] = {verb, name};
        const struct hearth_reply *map;
        int mine = ctl_ask(c, 2, words, NULL, &map);
        if (mine == CTL_CONNECT) {
            return mine;
        }
        status = status ? status : mine;
        if (mine != CTL_OK) {
            continue;
        }
        if (c->json) {
            json_reply(map);
            putchar('\n');
        } else {
            if (shown++) {
                putchar('\n');
            }
            print_map(map);
        }
        if (ctl_option(c) == CTL_STOP) {
            return c->status;
        }
    }
    return status;
}

int cmd_tasks(struct ctl *c) {
    static const struct ctl_column columns[] = {
        {"id", "ID", CTL_TEXT},
        {"pool", "POOL", CTL_TEXT},
        {"handler", "HANDLER", CTL_TEXT},
        {"state", "STATE", CTL_TEXT},
        {"submitted_ms", "AGE", CTL_AGE},
        {"wait_us", "WAIT", CTL_MICROS},
        {"run_us", "RUN", CTL_MICROS},
        {"attempt", "TRY", CTL_NUMBER},
        {"worker_pid", "PID", CTL_NUMBER},
        {"payload_bytes", "PAYLOAD", CTL_BYTES},
        {"result_bytes", "RESULT", CTL_BYTES},
        {"cause_text", "CAUSE", CTL_TEXT},
    };
    const char *words[7] = {"TASK.LIST"};
    const char *count = "100";
    size_t n = 1;
    uint64_t checked;
    int o;
    while ((o = ctl_option(c)) > 0) {
        if (o == 'n') {
            count = c->value;
            if (!ctl_count(c, count, 1000000, &checked)) {
                return CTL_USAGE;
            }
        } else if (n < 5) {
            words[n++] = o == 'p' ? "POOL" : "STATE";
            words[n++] = c->value;
        } else {
            return ctl_usage(c, "--pool and --state once each");
        }
    }
    if (o == CTL_STOP) {
        return c->status;
    }
    const char *id = ctl_operand(c);
    if (id) {
        return ctl_show_each(c, "TASK.STATUS", id);
    }
    words[n++] = "COUNT";
    words[n++] = count;
    return ctl_list(c, n, words, columns, sizeof(columns) / sizeof(columns[0]), "no tasks");
}

int cmd_pools(struct ctl *c) {
    static const struct ctl_column columns[] = {
        {"name", "POOL", CTL_TEXT},         {"kind", "KIND", CTL_TEXT},
        {"state", "STATE", CTL_TEXT},       {"workers", "WORKERS", CTL_NUMBER},
        {"busy", "BUSY", CTL_NUMBER},       {"queued", "QUEUED", CTL_NUMBER},
        {"running", "RUNNING", CTL_NUMBER}, {"done", "DONE", CTL_NUMBER},
        {"failed", "FAILED", CTL_NUMBER},
    };
    if (ctl_option(c) == CTL_STOP) {
        return c->status;
    }
    const char *name = ctl_operand(c);
    if (name) {
        return ctl_show_each(c, "POOL.INFO", name);
    }
    const char *words[] = {"POOL.LIST"};
    return ctl_list(c, 1, words, columns, sizeof(columns) / sizeof(columns[0]),
                    "no pools: see pools in hearthd.conf");
}

int ctl_list_managers(struct ctl *c) {
    static const struct ctl_column columns[] = {
        {"prefix", "PREFIX", CTL_TEXT},   {"client", "CLIENT", CTL_NUMBER},
        {"uid", "UID", CTL_NUMBER},       {"keys", "KEYS", CTL_NUMBER},
        {"age_ms", "AGE_MS", CTL_NUMBER},
    };
    const char *words[] = {"MANAGER.LIST"};
    return ctl_list(c, 1, words, columns, sizeof(columns) / sizeof(columns[0]), "no managers");
}

int cmd_workers(struct ctl *c) {
    static const struct ctl_column columns[] = {
        {"pool", "POOL", CTL_TEXT},      {"pid", "PID", CTL_NUMBER},
        {"state", "STATE", CTL_TEXT},    {"tasks_done", "DONE", CTL_NUMBER},
        {"uptime_s", "UP", CTL_SECONDS}, {"task", "TASK", CTL_TEXT},
    };
    const char *words[3] = {"WORKER.LIST"};
    size_t n = 1;
    int o;
    while ((o = ctl_option(c)) > 0) {
        words[1] = "POOL";
        words[2] = c->value;
        n = 3;
    }
    if (o == CTL_STOP) {
        return c->status;
    }
    const char *pid = ctl_operand(c);
    if (pid && (!*pid || pid[strspn(pid, "0123456789")])) {
        return ctl_usage(c, "not a pid: %s (--pool POOL selects)", pid);
    }
    if (pid) {
        return ctl_show_each(c, "WORKER.INFO", pid);
    }
    return ctl_list(c, n, words, columns, sizeof(columns) / sizeof(columns[0]), "no workers");
}
