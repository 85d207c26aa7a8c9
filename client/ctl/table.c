/* SPDX-License-Identifier: MIT */
/* Arrays of maps as aligned columns, numbers to the right, units for people. Control characters in
 * texts are shown as
 * '?', for what a task says must not drive the terminal.
 *
 * Fails: CTL_LOCAL when out of memory. */
#include "client/ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/num.h"

enum { CELL = 96 };

static char *turn_buffer(void) {
    static char buffers[4][32];
    static unsigned turn;
    return buffers[turn++ % 4];
}

const char *table_micros(int64_t us) {
    char *out = turn_buffer();
    if (us < 1000) {
        snprintf(out, 32, "%lld us", (long long)us);
    } else if (us < 1000000) {
        snprintf(out, 32, "%.3g ms", (double)us / 1e3);
    } else if (us < 100 * INT64_C(1000000)) {
        snprintf(out, 32, "%.3g s", (double)us / 1e6);
    } else {
        snprintf(out, 32, "%lld:%02lld", (long long)(us / 60000000),
                 (long long)(us / 1000000 % 60));
    }
    return out;
}

const char *table_bytes(int64_t bytes) {
    return num_size_text(turn_buffer(), bytes < 0 ? 0 : (uint64_t)bytes);
}

char *table_date(int64_t ms, char out[32]) {
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    char text[24];
    if (ms <= 0) {
        snprintf(out, 32, "-");
    } else if (localtime_r(&seconds, &tm) &&
               strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm)) {
        snprintf(out, 32, "%s.%03d", text, (int)(ms % 1000));
    } else {
        snprintf(out, 32, "%lld", (long long)ms);
    }
    return out;
}

static void cell(char out[CELL], const struct hearth_reply *v, enum ctl_kind kind) {
    const char *text = "";
    char date[32];
    switch (kind) {
    case CTL_MICROS:
        text = table_micros(hearth_reply_int(v));
        break;
    case CTL_SECONDS:
        text = hearth_reply_int(v) > 0 ? table_micros(hearth_reply_int(v) * 1000000) : "0 s";
        break;
    case CTL_BYTES:
        text = table_bytes(hearth_reply_int(v));
        break;
    case CTL_AGE: {
        int64_t ms = (int64_t)clock_wall_ms() - hearth_reply_int(v);
        text = table_micros((ms < 0 ? 0 : ms) * 1000);
        break;
    }
    case CTL_DATE:
        text = table_date(hearth_reply_int(v) / 1000 * 1000, date);
        date[strcspn(date, ".")] = '\0';
        break;
    default:
        text = hearth_reply_text(v, NULL);
    }
    size_t i = 0;
    for (; i < CELL - 1 && text[i]; i++) {
        unsigned char ch = (unsigned char)text[i];
        out[i] = ch < 0x20 || ch == 0x7f ? '?' : (char)ch;
    }
    out[i] = 0;
    if (i == 0) {
        memcpy(out, "-", 2);
    }
}

static void print_row(const struct ctl_column *columns, const size_t *widths, size_t n,
                      const char (*cells)[CELL]) {
    bool first = true;
    for (size_t i = 0; i < n; i++) {
        if (widths[i] == 0) {
            continue;
        }
        bool last = i + 1 == n;
        int width = (int)widths[i];
        if (!first) {
            fputs("  ", stdout);
        }
        first = false;
        if (columns[i].kind != CTL_TEXT) {
            printf("%*s", width, cells[i]);
        } else {
            printf("%-*s", last ? 0 : width, cells[i]);
        }
    }
    putchar('\n');
}

int table_print(struct ctl *c, const struct hearth_reply *rows, const struct ctl_column *columns,
                size_t n, const char *none) {
    size_t n_rows = hearth_reply_count(rows);
    if (n_rows == 0) {
        fprintf(stderr, "%s\n", none);
        return CTL_OK;
    }
    _cleanup_free_ char(*cells)[CELL] = calloc((n_rows + 1) * n, CELL);
    _cleanup_free_ size_t *widths = calloc(n, sizeof(size_t));
    if (!cells || !widths) {
        return ctl_say(c, CTL_LOCAL, "out of memory");
    }
    const struct hearth_reply *row = hearth_reply_first(rows);
    for (size_t i = 0; i <= n_rows; i++) {
        for (size_t k = 0; k < n; k++) {
            char *out = cells[i * n + k];
            const struct hearth_reply *v = i ? hearth_reply_get(row, columns[k].key) : NULL;
            if (i == 0) {
                snprintf(out, CELL, "%s", columns[k].header);
            } else {
                cell(out, v, columns[k].kind);
            }
            size_t len = strlen(out);
            if (i && v && widths[k] == 0) {
                widths[k] = strlen(columns[k].header);
            }
            if (i && v && len > widths[k]) {
                widths[k] = len;
            }
        }
        row = i ? hearth_reply_next(row) : row;
    }
    for (size_t i = 0; i <= n_rows; i++) {
        print_row(columns, widths, n, cells + i * n);
    }
    return CTL_OK;
}
