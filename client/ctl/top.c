/* SPDX-License-Identifier: MIT */
/* top: pools, workers and what happens, over one connection: POOL.LIST, POOL.INFO of each pool,
 * WORKER.LIST and EVENTS.READ, once a second. Rates are differences between two looks; the first
 * look takes them from what the daemon says of the last minute.
 *
 * The lines are made here for whatever width there is and know nothing of a terminal, so --once
 * prints just what the screen shows. Texts that come from tasks are made harmless.
 *
 * Fails: exit statuses. What is more than the arrays hold is not shown, and the head says how much. */
#include "client/ctl/top.h"

#include <langinfo.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"

/* ---- reading ---- */

/* Trouble is told on the terminal as it was before. An error reply is none: a pool may have gone. */
static int ask(struct top *t, size_t n, const char *const *words, const struct hearth_reply **ret) {
    int r = hearth_command(t->c->h, n, words, NULL, ret);
    if (r == 0) {
        return CTL_OK;
    }
    if (t->leave) {
        t->leave();
    }
    return ctl_failed(t->c, r);
}

static int64_t number(const struct hearth_reply *map, const char *key) {
    return hearth_reply_int(hearth_reply_get(map, key));
}

static void copy(char *out, size_t size, const char *text) {
    size_t i = 0;
    for (; i + 1 < size && text[i]; i++) {
        unsigned char ch = (unsigned char)text[i];
        out[i] = ch < 0x20 || ch >= 0x7f ? '?' : (char)ch;
    }
    out[i] = '\0';
}

static void text_of(char out[TOP_TEXT], const struct hearth_reply *map, const char *key) {
    copy(out, TOP_TEXT, hearth_reply_text(hearth_reply_get(map, key), NULL));
}

static void remember(float history[TOP_HISTORY], double rate) {
    memmove(history, history + 1, (TOP_HISTORY - 1) * sizeof(history[0]));
    history[TOP_HISTORY - 1] = (float)rate;
}

static struct top_pool *pool_of(struct top *t, const char *name) {
    for (size_t i = 0; i < t->n_pools; i++) {
        if (strcmp(t->pools[i].name, name) == 0) {
            return &t->pools[i];
        }
    }
    if (t->n_pools == TOP_POOLS) {
        return NULL;
    }
    struct top_pool *p = &t->pools[t->n_pools++];
    *p = (struct top_pool){.ended = -1};
    snprintf(p->name, sizeof(p->name), "%s", name);
    return p;
}

static void read_pool(struct top *t, const struct hearth_reply *map, double seconds) {
    char name[TOP_TEXT];
    text_of(name, map, "name");
    struct top_pool *p = pool_of(t, name);
    if (!p) {
        return;
    }
    text_of(p->state, map, "state");
    text_of(p->paused, map, "paused");
    p->seen = true;
    p->workers = number(map, "workers");
    p->busy = number(map, "busy");
    p->queued = number(map, "queued");
    p->delayed = number(map, "delayed");
    p->dead = number(map, "dead");
    p->failed = number(map, "failed") + number(map, "lost") + number(map, "timeout") +
                number(map, "expired");
    int64_t ended = number(map, "done") + p->failed + number(map, "cancelled");
    p->rate = p->ended >= 0 && seconds > 0 ? (double)(ended - p->ended) / seconds : -1;
    p->ended = ended;
}

static int read_info(struct top *t, struct top_pool *p) {
    const char *words[] = {"POOL.INFO", p->name};
    const struct hearth_reply *map;
    int status = ask(t, 2, words, &map);
    if (status == CTL_OK && hearth_reply_type(map) != HEARTH_REPLY_ERROR) {
        p->oldest_ms = number(map, "oldest_queued_ms");
        p->wait_p50 = number(map, "wait_p50_us");
        p->wait_p99 = number(map, "wait_p99_us");
        p->run_p50 = number(map, "run_p50_us");
        p->run_p99 = number(map, "run_p99_us");
        p->rate = p->rate < 0 ? (double)number(map, "minute_ended") / 60 : p->rate;
        remember(p->history, p->rate);
    }
    return status;
}

static int read_pools(struct top *t, double seconds) {
    const char *words[] = {"POOL.LIST"};
    const struct hearth_reply *rows;
    int status = ask(t, 1, words, &rows);
    if (status != CTL_OK) {
        return status;
    }
    for (size_t i = 0; i < t->n_pools; i++) {
        t->pools[i].seen = false;
    }
    const struct hearth_reply *row = hearth_reply_first(rows);
    for (size_t n = hearth_reply_count(rows); n > 0; n--, row = hearth_reply_next(row)) {
        read_pool(t, row, seconds);
    }
    t->rate = 0;
    for (size_t i = 0; i < t->n_pools;) {
        if (!t->pools[i].seen) {
            t->pools[i] = t->pools[--t->n_pools]; /* a new configuration has it no more */
            continue;
        }
        status = status == CTL_OK ? read_info(t, &t->pools[i]) : status;
        t->rate += t->pools[i].rate > 0 ? t->pools[i].rate : 0;
        i++;
    }
    remember(t->history, t->rate);
    return status;
}

static int read_workers(struct top *t) {
    const char *words[] = {"WORKER.LIST"};
    const struct hearth_reply *rows;
    int status = ask(t, 1, words, &rows);
    if (status != CTL_OK) {
        return status;
    }
    const struct hearth_reply *row = hearth_reply_first(rows);
    t->n_all_workers = hearth_reply_count(rows);
    t->n_workers = t->n_all_workers < TOP_WORKERS ? t->n_all_workers : TOP_WORKERS;
    for (size_t i = 0; i < t->n_workers; i++, row = hearth_reply_next(row)) {
        struct top_worker *w = &t->workers[i];
        text_of(w->pool, row, "pool");
        text_of(w->state, row, "state");
        text_of(w->task, row, "task");
        w->pid = number(row, "pid");
        w->done = number(row, "tasks_done");
        w->uptime_s = number(row, "uptime_s");
        w->running_us = number(row, "running_us");
    }
    return CTL_OK;
}

static void add_event(struct top *t, const struct hearth_reply *e) {
    if (t->n_events == TOP_EVENTS) {
        memmove(t->events, t->events + 1, sizeof(t->events) - sizeof(t->events[0]));
        t->n_events--;
    }
    char date[32], event[TOP_TEXT], what[2 * TOP_TEXT] = "", how[128];
    static const char *const whats[] = {"pool", "schedule"}, *const hows[] = {"state", "cause",
                                                                              "reason", "ways"};
    table_date(number(e, "time_ms"), date);
    text_of(event, e, "event");
    for (size_t i = 0; i < 2 && !*what; i++) {
        text_of(what, e, whats[i]);
    }
    char *out = t->events[t->n_events++];
    size_t size = sizeof(t->events[0]);
    int64_t pid = number(e, "worker_pid");
    int n = snprintf(out, size, "%.12s  %-16s %-12s", date + 11, event, what);
    if (pid) {
        n += snprintf(out + n, size - (size_t)n, " %lld", (long long)pid);
    }
    for (size_t i = 0; i < 4; i++) {
        copy(how, sizeof(how), hearth_reply_text(hearth_reply_get(e, hows[i]), NULL));
        if (*how && n > 0 && (size_t)n < size) {
            n += snprintf(out + n, size - (size_t)n, "  %s", how);
        }
    }
}

/* Those of workers, pools and schedules; of tasks there may be a hundred thousand a second. */
static int read_events(struct top *t) {
    char from[24];
    const char *words[] = {"EVENTS.READ", "FROM", from,   "COUNT", "1000",    "TYPE",
                           "worker",      "TYPE", "pool", "TYPE",  "schedule"};
    const struct hearth_reply *reply;
    snprintf(from, sizeof(from), "%llu", (unsigned long long)t->next_event);
    int status = ask(t, sizeof(words) / sizeof(words[0]), words, &reply);
    if (status != CTL_OK) {
        return status;
    }
    const struct hearth_reply *events = hearth_reply_get(reply, "events");
    const struct hearth_reply *e = hearth_reply_first(events);
    for (size_t n = hearth_reply_count(events); n > 0; n--, e = hearth_reply_next(e)) {
        add_event(t, e);
    }
    t->next_event = (uint64_t)number(reply, "next");
    return CTL_OK;
}

static int64_t info_number(const char *text, const char *name) {
    const char *at = strstr(text, name);
    return at ? strtoll(at + strlen(name), NULL, 10) : 0;
}

static int read_server(struct top *t) {
    const char *words[] = {"INFO", "server", "clients"};
    const struct hearth_reply *reply;
    int status = ask(t, 3, words, &reply);
    if (status == CTL_OK) {
        const char *text = hearth_reply_text(reply, NULL);
        const char *version = strstr(text, "hearth_version:");
        t->uptime_s = info_number(text, "uptime_in_seconds:");
        t->clients = info_number(text, "connected_clients:");
        copy(t->version, sizeof(t->version), version ? version + strlen("hearth_version:") : "");
        t->version[strcspn(t->version, "?")] = '\0';
    }
    return status;
}

static enum top_sort sort_by;
static bool sort_reversed;

static int compare_pools(const void *a, const void *b) {
    const struct top_pool *x = a, *y = b;
    double d = sort_by == TOP_BY_RATE    ? y->rate - x->rate
               : sort_by == TOP_BY_QUEUE ? (double)(y->queued - x->queued)
               : sort_by == TOP_BY_BUSY  ? (double)(y->busy - x->busy)
                                         : 0;
    int order = d > 0 ? 1 : d < 0 ? -1 : strcmp(x->name, y->name);
    return sort_reversed ? -order : order;
}

/* Those at work first, those longest at it before the others. */
static int compare_workers(const void *a, const void *b) {
    const struct top_worker *x = a, *y = b;
    bool at_work = *x->task, other = *y->task;
    if (at_work != other) {
        return at_work ? -1 : 1;
    }
    if (x->running_us != y->running_us) {
        return x->running_us > y->running_us ? -1 : 1;
    }
    int order = strcmp(x->pool, y->pool);
    return order ? order : x->pid < y->pid ? -1 : x->pid > y->pid;
}

int top_read(struct top *t) {
    uint64_t now = clock_now();
    double seconds = t->read_ns ? (double)(now - t->read_ns) / 1e9 : 0;
    t->read_ns = now;
    int status = read_server(t);
    status = status == CTL_OK ? read_pools(t, seconds) : status;
    status = status == CTL_OK ? read_workers(t) : status;
    status = status == CTL_OK ? read_events(t) : status;
    sort_by = t->sort;
    sort_reversed = t->reverse;
    qsort(t->pools, t->n_pools, sizeof(t->pools[0]), compare_pools);
    qsort(t->workers, t->n_workers, sizeof(t->workers[0]), compare_workers);
    return status;
}

/* ---- lines ---- */

struct out {
    const struct top *t;
    int width, left; /* columns; lines */
    void (*line)(void *arg, enum top_style style, const char *text);
    void *arg;
};

/* Cuts a text to so many columns; each character has one. */
static void cut(char *text, int width) {
    int columns = 0;
    for (char *p = text; *p; p++) {
        if (((unsigned char)*p & 0xc0) != 0x80 && columns++ == width) {
            *p = '\0';
            return;
        }
    }
}

static void __attribute__((format(printf, 3, 4)))
put(struct out *o, enum top_style style, const char *fmt, ...) {
    char text[TOP_LINE];
    va_list ap;
    if (o->left <= 0) {
        return;
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    cut(text, o->width);
    o->left--;
    o->line(o->arg, style, text);
}

/* The last n values as small bars, the greatest as a full one. Static: one result at a time. */
static const char *spark(const struct top *t, const float history[TOP_HISTORY], int n) {
    static const char *const bars[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    static const char *const plain[] = {" ", ".", ".", ":", ":", "-", "=", "#", "#"};
    static char out[TOP_HISTORY * 4];
    float most = 0;
    n = n < TOP_HISTORY ? n : TOP_HISTORY;
    out[0] = '\0';
    for (int i = TOP_HISTORY - n; i < TOP_HISTORY; i++) {
        most = history[i] > most ? history[i] : most;
    }
    for (int i = TOP_HISTORY - n; i < TOP_HISTORY; i++) {
        int level = most > 0 ? (int)(history[i] / most * 8 + 0.5f) : 0;
        level = level == 0 && history[i] > 0 ? 1 : level;
        strcat(out, (t->unicode ? bars : plain)[level]);
    }
    return out;
}

static const char *rate_text(double rate) {
    static char out[4][16];
    static unsigned turn;
    char *to = out[turn++ % 4];
    if (rate >= 10000) {
        snprintf(to, 16, "%.0fk", rate / 1000);
    } else {
        snprintf(to, 16, rate > 0 && rate < 10 ? "%.1f" : "%.0f", rate > 0 ? rate : 0);
    }
    return to;
}

static void put_head(struct out *o) {
    const struct top *t = o->t;
    int64_t busy = 0, queued = 0, delayed = 0, dead = 0, failed = 0;
    for (size_t i = 0; i < t->n_pools; i++) {
        busy += t->pools[i].busy;
        queued += t->pools[i].queued;
        delayed += t->pools[i].delayed;
        dead += t->pools[i].dead;
        failed += t->pools[i].failed;
    }
    put(o, TOP_TITLE, "hearthd %s at %s  up %lld:%02lld:%02lld  %lld clients", t->version,
        hearth_path(t->c->h), (long long)t->uptime_s / 3600, (long long)(t->uptime_s / 60 % 60),
        (long long)(t->uptime_s % 60), (long long)t->clients);
    put(o, TOP_PLAIN,
        "workers: %zu, %lld busy  tasks: %lld queued, %lld delayed, %lld failed, %lld dead",
        t->n_all_workers, (long long)busy, (long long)queued, (long long)delayed, (long long)failed,
        (long long)dead);
    put(o, TOP_PLAIN, "ended/s %6s  %s", rate_text(t->rate),
        spark(t, t->history, o->width > 20 ? o->width - 18 : 0));
}

static enum top_style style_of(const struct top_pool *p) {
    return strcmp(p->state, "failing") == 0               ? TOP_BAD
           : *p->paused || strcmp(p->state, "ready") != 0 ? TOP_WARN
           : p->oldest_ms > 1000                          ? TOP_WARN
                                                          : TOP_PLAIN;
}

static void put_pools(struct out *o, int lines) {
    const struct top *t = o->t;
    static const char *const marks[TOP_SORTS] = {"name", "rate", "queue", "busy"};
    char head[TOP_TEXT];
    snprintf(head, sizeof(head), "POOL by %s%s", marks[t->sort], t->reverse ? "-" : "");
    put(o, TOP_HEAD, "%-14s %-8s %6s %6s %6s %6s %7s %7s  %s", head, "STATE", "BUSY", "QUEUED",
        "END/s", "FAILED", "WAIT99", "RUN50", "TREND");
    for (size_t i = 0; i < t->n_pools && lines > 1; i++, lines--) {
        const struct top_pool *p = &t->pools[i];
        char busy[32];
        snprintf(busy, sizeof(busy), "%lld/%lld", (long long)p->busy, (long long)p->workers);
        put(o, style_of(p), "%-14.14s %-8.8s %6s %6lld %6s %6lld %7s %7s  %s", p->name,
            *p->paused ? "paused" : p->state, busy, (long long)p->queued, rate_text(p->rate),
            (long long)p->failed, p->wait_p99 ? table_micros(p->wait_p99) : "-",
            p->run_p50 ? table_micros(p->run_p50) : "-",
            spark(t, p->history, o->width > 70 ? o->width - 69 : 0));
    }
}

static void put_workers(struct out *o, int lines) {
    const struct top *t = o->t;
    put(o, TOP_HEAD, "%-7s %-14s %-8s %8s %8s %8s  %s", "PID", "POOL", "STATE", "DONE", "UP",
        "AT IT", "TASK");
    for (size_t i = 0; i < t->n_workers && lines > 1; i++, lines--) {
        const struct top_worker *w = &t->workers[i];
        bool at_work = *w->task != '\0';
        put(o, at_work ? TOP_GOOD : TOP_DIM, "%-7lld %-14.14s %-8.8s %8lld %8s %8s  %s",
            (long long)w->pid, w->pool, w->state, (long long)w->done,
            w->uptime_s > 0 ? table_micros(w->uptime_s * 1000000) : "0 s",
            at_work ? table_micros(w->running_us) : "-", at_work ? w->task : "-");
    }
}

static void put_events(struct out *o, int lines) {
    const struct top *t = o->t;
    size_t n = lines > 1 ? (size_t)lines - 1 : 0;
    put(o, TOP_HEAD, "EVENTS");
    for (size_t i = t->n_events > n ? t->n_events - n : 0; i < t->n_events; i++) {
        bool bad = strstr(t->events[i], "failing") || strstr(t->events[i], "died");
        put(o, bad ? TOP_BAD : TOP_DIM, "%s", t->events[i]);
    }
}

/* Of the lines under the head the events get a quarter, the pools what they need of the rest up to
 * half of it, the workers what is left. */
void top_lines(const struct top *t, int width, int height,
               void (*line)(void *arg, enum top_style style, const char *text), void *arg) {
    struct out o = {.t = t, .width = width, .left = height, .line = line, .arg = arg};
    put_head(&o);
    int events = o.left / 4 < 3 ? 3 : o.left / 4;
    events = (size_t)events > t->n_events + 1 ? (int)t->n_events + 1 : events;
    int rest = o.left - events;
    int workers = (int)t->n_workers + 1;
    int pools = (int)t->n_pools + 1;
    if (pools + workers > rest) {
        pools = pools < rest / 2 || rest - workers > rest / 2 ? pools : rest / 2;
        pools = pools + workers > rest && rest - workers > pools ? rest - workers : pools;
        workers = rest - pools;
    }
    put_pools(&o, pools);
    put_workers(&o, workers);
    put_events(&o, events);
}

/* ---- the command ---- */

static void print_line(void *arg, enum top_style style, const char *text) {
    (void)arg;
    (void)style;
    printf("%s\n", text);
}

int cmd_top(struct ctl *c) {
    struct top *t = calloc(1, sizeof(*t));
    bool once = false;
    uint64_t interval = 1000;
    int o;
    if (!t) {
        return ctl_say(c, CTL_LOCAL, "out of memory");
    }
    setlocale(LC_CTYPE, "");
    t->c = c;
    t->unicode = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    int status = CTL_OK;
    while ((o = ctl_option(c)) > 0 && status == CTL_OK) {
        once |= o == 'o';
        status = o == 'd' && !ctl_duration(c, c->value, &interval) ? CTL_USAGE : CTL_OK;
    }
    status = o == CTL_STOP ? c->status : status;
    if (o == CTL_STOP || status != CTL_OK) {
        free(t);
        return status;
    }
    if (ctl_operand(c)) {
        status = ctl_usage(c, "takes no operands");
    } else {
        status = ctl_connect(c);
        status = status == CTL_OK ? top_read(t) : status;
        if (status == CTL_OK && once) {
            top_lines(t, 132, 8 + (int)(t->n_pools + t->n_workers + t->n_events), print_line, NULL);
        } else if (status == CTL_OK) {
            status = top_screen(t, interval);
        }
    }
    free(t);
    return status;
}
