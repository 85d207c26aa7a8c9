/* SPDX-License-Identifier: MIT */
/* events and metrics: what happens, a line each, and the daemon's figures for Prometheus. With -f the
 * daemon is asked again and again for what comes next, a second at a time; whoever is too slow is
 * told how much he has missed.
 *
 * Fails: exit statuses. */
#include <stdio.h>
#include <string.h>

#include "client/ctl/ctl.h"

enum { TAIL = 100, TAIL_FOLLOW = 10, BATCH = 1000 };

struct follow {
    struct ctl *c;
    const char *type; /* NULL: all */
    uint64_t from;    /* where to go on */
    bool follow, started;
};

static int ask(struct follow *f, const char *from, bool block, const struct hearth_reply **ret) {
    char count[24];
    const char *words[9] = {"EVENTS.READ", "FROM", from, "COUNT", count};
    size_t n = 5;
    snprintf(count, sizeof(count), "%d", BATCH);
    if (f->type) {
        words[n++] = "TYPE";
        words[n++] = f->type;
    }
    if (block) {
        words[n++] = "BLOCK";
        words[n++] = "1000";
    }
    return ctl_ask(f->c, n, words, NULL, ret);
}

static bool ends_with(const char *text, const char *tail, size_t *ret_len) {
    size_t n = strlen(text), m = strlen(tail);
    *ret_len = n >= m ? n - m : n;
    return n >= m && strcmp(text + n - m, tail) == 0;
}

static void print_field(const char *key, const struct hearth_reply *v) {
    const char *text = hearth_reply_text(v, NULL);
    size_t len;
    if (!*text) {
        return;
    }
    if (ends_with(key, "_us", &len)) {
        printf("  %.*s %s", (int)len, key, table_micros(hearth_reply_int(v)));
    } else if (ends_with(key, "_bytes", &len)) {
        printf("  %.*s %s", (int)len, key, table_bytes(hearth_reply_int(v)));
    } else {
        printf("  %s ", key);
        for (; *text; text++) {
            putchar((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text);
        }
    }
}

static void print_event(const struct hearth_reply *e) {
    const struct hearth_reply *key = hearth_reply_first(e);
    char date[32];
    table_date(hearth_reply_int(hearth_reply_get(e, "time_ms")), date);
    printf("%s  %-15s", date, hearth_reply_text(hearth_reply_get(e, "event"), NULL));
    for (size_t n = hearth_reply_count(e), i = 0; i < n; i++) {
        const struct hearth_reply *v = hearth_reply_next(key);
        const char *name = hearth_reply_text(key, NULL);
        if (strcmp(name, "seq") != 0 && strcmp(name, "time_ms") != 0 &&
            strcmp(name, "event") != 0) {
            print_field(name, v);
        }
        key = hearth_reply_next(v);
    }
    putchar('\n');
}

/* Prints a batch; how many. */
static size_t print_events(struct follow *f, const struct hearth_reply *reply) {
    const struct hearth_reply *events = hearth_reply_get(reply, "events");
    const struct hearth_reply *e = hearth_reply_first(events);
    int64_t missed = hearth_reply_int(hearth_reply_get(reply, "missed"));
    size_t n = hearth_reply_count(events);
    if (missed > 0 && f->started) {
        ctl_say(f->c, 0, "%lld events are gone: the daemon keeps events_kept of them",
                (long long)missed);
    }
    f->started = true;
    for (size_t i = 0; i < n; i++, e = hearth_reply_next(e)) {
        if (f->c->json) {
            json_reply(e);
            putchar('\n');
        } else {
            print_event(e);
        }
    }
    f->from = (uint64_t)hearth_reply_int(hearth_reply_get(reply, "next"));
    fflush(stdout);
    return n;
}

static int run(struct follow *f) {
    const struct hearth_reply *reply;
    int status;
    size_t n;
    do {
        char from[24];
        snprintf(from, sizeof(from), "%llu", (unsigned long long)f->from);
        status = ask(f, from, f->follow, &reply);
        n = status == CTL_OK ? print_events(f, reply) : 0;
    } while (status == CTL_OK && !ferror(stdout) && (f->follow || n > 0));
    return status;
}

/* The last `n`, of whatever type. */
static int find_tail(struct follow *f, uint64_t n) {
    const struct hearth_reply *reply;
    int status = ask(f, "$", false, &reply);
    if (status == CTL_OK) {
        uint64_t next = (uint64_t)hearth_reply_int(hearth_reply_get(reply, "next"));
        uint64_t first = (uint64_t)hearth_reply_int(hearth_reply_get(reply, "first"));
        f->from = next - first > n ? next - n : first;
        f->started = true;
    }
    return status;
}

int cmd_events(struct ctl *c) {
    struct follow f = {.c = c};
    uint64_t tail = 0;
    bool from = false;
    int o;
    while ((o = ctl_option(c)) > 0) {
        f.follow |= o == 'f';
        f.type = o == 't' ? c->value : f.type;
        from |= o == 'F';
        if ((o == 'n' && !ctl_count(c, c->value, UINT32_MAX, &tail)) ||
            (o == 'F' && !ctl_count(c, c->value, UINT64_MAX, &f.from))) {
            return CTL_USAGE;
        }
    }
    if (o == CTL_STOP) {
        return c->status;
    }
    if (ctl_operand(c)) {
        return ctl_usage(c, "takes no operands");
    }
    if (from && tail) {
        return ctl_usage(c, "--from says where to begin, --count how far from the end: not both");
    }
    f.started = from;
    int status = from ? CTL_OK : find_tail(&f, tail ? tail : f.follow ? TAIL_FOLLOW : TAIL);
    return status == CTL_OK ? run(&f) : status;
}

int cmd_metrics(struct ctl *c) {
    const char *words[] = {"METRICS.READ"};
    const struct hearth_reply *reply;
    if (ctl_option(c) == CTL_STOP) {
        return c->status;
    }
    int status = ctl_ask(c, 1, words, NULL, &reply);
    if (status == CTL_OK) {
        size_t len;
        const char *text = hearth_reply_text(reply, &len);
        fwrite(text, 1, len, stdout);
    }
    return status;
}
