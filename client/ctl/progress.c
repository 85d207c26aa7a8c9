/* SPDX-License-Identifier: MIT */
/* The progress bar: one line on standard error, if that is a terminal, drawn over itself. The time
 * left is estimated from the whole run so far: steadier than the last seconds, and tasks of one map
 * are alike.
 *
 * Fails: never. */
#include "client/ctl/ctl.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/base/clock.h"

enum { BAR_MAX = 40, REDRAW_MS = 80 };

void progress_begin(struct progress *p, uint64_t total) {
    *p = (struct progress){.on = isatty(STDERR_FILENO) == 1, .total = total, .begin = clock_now()};
}

static int columns(void) {
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

void progress_draw(struct progress *p, uint64_t done, uint64_t failed, uint64_t flying) {
    uint64_t now = clock_now();
    if (!p->on || (p->drawn && now - p->last < REDRAW_MS * NS_PER_MS)) {
        return;
    }
    p->last = now;
    double seconds = (double)(now - p->begin) / 1e9,
           rate = seconds > 0 ? (double)done / seconds : 0;
    char line[256], tail[160];
    int n = snprintf(tail, sizeof(tail), " %.0f/s", rate);
    if (p->total && done && rate > 0) {
        uint64_t left = (uint64_t)((double)(p->total - done) / rate + 0.5);
        n += snprintf(tail + n, sizeof(tail) - (size_t)n, "  ETA %llu:%02llu",
                      (unsigned long long)(left / 60), (unsigned long long)(left % 60));
    }
    n += snprintf(tail + n, sizeof(tail) - (size_t)n, "  %llu running", (unsigned long long)flying);
    if (failed) {
        snprintf(tail + n, sizeof(tail) - (size_t)n, "  %llu failed", (unsigned long long)failed);
    }
    int width = columns();
    int bar = width - (int)strlen(tail) - 32;
    bar = bar > BAR_MAX ? BAR_MAX : bar;
    if (p->total && bar >= 5) {
        char cells[BAR_MAX + 1];
        int full = (int)((double)bar * (double)done / (double)p->total);
        memset(cells, '.', sizeof(cells));
        memset(cells, '#', (size_t)full);
        cells[bar] = 0;
        snprintf(line, sizeof(line), "%3d%% [%s] %llu/%llu",
                 (int)(100.0 * (double)done / (double)p->total), cells, (unsigned long long)done,
                 (unsigned long long)p->total);
    } else if (p->total) {
        snprintf(line, sizeof(line), "%llu/%llu", (unsigned long long)done,
                 (unsigned long long)p->total);
    } else {
        snprintf(line, sizeof(line), "%llu done", (unsigned long long)done);
    }
    fprintf(stderr, "\r\033[K%.*s", width - 1, line);
    int room = width - 1 - (int)strlen(line);
    if (room > 0) {
        fprintf(stderr, "%.*s", room, tail);
    }
    fflush(stderr);
    p->drawn = true;
}

void progress_task(struct progress *p, const struct hearth_data *d) {
    uint64_t now = clock_now();
    if (!p->on || d->kind != HEARTH_DATA_PROGRESS ||
        (p->drawn && now - p->last < REDRAW_MS * NS_PER_MS && d->done < d->total)) {
        return;
    }
    p->last = now;
    char line[512], cells[BAR_MAX + 1], text[201];
    size_t n = 0;
    for (size_t i = 0; i < d->len && n < sizeof(text) - 1; i++) {
        unsigned char ch = (unsigned char)d->data[i];
        text[n++] = ch < 0x20 || ch == 0x7f ? ' ' : (char)ch;
    }
    text[n] = 0;
    if (d->total) {
        double part = d->done < d->total ? (double)d->done / (double)d->total : 1;
        memset(cells, '.', sizeof(cells));
        memset(cells, '#', (size_t)(part * BAR_MAX));
        cells[BAR_MAX] = 0;
        snprintf(line, sizeof(line), "%3d%% [%s] %llu/%llu %s", (int)(100 * part), cells,
                 (unsigned long long)d->done, (unsigned long long)d->total, text);
    } else {
        snprintf(line, sizeof(line), "%llu %s", (unsigned long long)d->done, text);
    }
    fprintf(stderr, "\r\033[K%.*s", columns() - 1, line);
    fflush(stderr);
    p->drawn = true;
}

void progress_clear(struct progress *p) {
    if (p->drawn) {
        fputs("\r\033[K", stderr);
        p->drawn = false;
    }
}
