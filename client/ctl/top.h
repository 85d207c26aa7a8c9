/* SPDX-License-Identifier: MIT */
/* What `hearth top` shows, and the lines it makes of it; where they go is the caller's. */
#pragma once

#include "client/ctl/ctl.h"

enum {
    TOP_POOLS = 64,
    TOP_WORKERS = 512,
    TOP_EVENTS = 16,
    TOP_HISTORY = 60,
    TOP_TEXT = 40,
    TOP_LINE = 512
};

enum top_sort { TOP_BY_NAME, TOP_BY_RATE, TOP_BY_QUEUE, TOP_BY_BUSY, TOP_SORTS };
enum top_style { TOP_PLAIN, TOP_TITLE, TOP_HEAD, TOP_GOOD, TOP_WARN, TOP_BAD, TOP_DIM, TOP_STYLES };

struct top_pool {
    char name[TOP_TEXT], state[TOP_TEXT], paused[TOP_TEXT];
    int64_t workers, busy, queued, delayed, dead, oldest_ms;
    int64_t ended, failed; /* ever; failed: all ends but done */
    int64_t wait_p50, wait_p99, run_p50, run_p99;
    double rate;                /* ends a second */
    float history[TOP_HISTORY]; /* of the rate, the latest last */
    bool seen;
};

struct top_worker {
    char pool[TOP_TEXT], state[TOP_TEXT], task[TOP_TEXT];
    int64_t pid, done, uptime_s, running_us;
};

struct top {
    struct ctl *c;
    struct top_pool pools[TOP_POOLS];
    struct top_worker workers[TOP_WORKERS];
    char events[TOP_EVENTS][TOP_LINE / 2]; /* the latest last */
    size_t n_pools, n_workers, n_events, n_all_workers;
    float history[TOP_HISTORY];
    double rate;
    uint64_t read_ns; /* when the figures were read; 0: not yet */
    uint64_t next_event;
    int64_t uptime_s, clients;
    char version[TOP_TEXT];
    enum top_sort sort;
    bool reverse, unicode;
    int (*leave)(void); /* gives the terminal back; NULL: it was not taken */
};

/* Asks the daemon for everything. An exit status. */
int top_read(struct top *t);
/* Makes at most `height` lines of at most `width` columns, without ends of line. */
void top_lines(const struct top *t, int width, int height,
               void (*line)(void *arg, enum top_style style, const char *text), void *arg);

/* ---- top_screen.c ---- */
/* On the terminal until the user has enough of it. interval_ms: between two looks. An exit status. */
int top_screen(struct top *t, uint64_t interval_ms);
