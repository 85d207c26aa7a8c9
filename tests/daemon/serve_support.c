/* SPDX-License-Identifier: MIT */
/* See serve_support.h. Commands go out as inline lines, which makes tables of them readable and
 * keeps that parser at work too. Fails: by cr_assert. */
#include "tests/daemon/serve_support.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/child.h"

struct daemon server;

enum { READY_MS = 30000, LINE = 8192 };

void serve_begin(const char *config) {
    struct daemon_options o = {.config = config};
    cr_assert_eq(daemon_start(&server, &o), 0);
    cr_assert_eq(daemon_wait_ready(&server, READY_MS), 0, "%s", daemon_log(&server));
}

void serve_end(void) {
    int r = daemon_stop(&server);
    child_kill_all();
    cr_assert_eq(r, 0, "the daemon's end: %d", r);
}

void serve_connect(struct wire *w) {
    int r = daemon_connect(&server, w);
    cr_assert_eq(r, 0, "connect: %d\n%s", r, daemon_log(&server));
}

static void tell_v(struct wire *w, const char *line, va_list ap) {
    char text[LINE];
    int n = vsnprintf(text, sizeof(text) - 2, line, ap);
    cr_assert(n >= 0 && n < LINE - 2);
    memcpy(text + n, "\r\n", 2);
    cr_assert_eq(wire_send_raw(w, text, (size_t)n + 2), 0);
}

void tell(struct wire *w, const char *line, ...) {
    va_list ap;
    va_start(ap, line);
    tell_v(w, line, ap);
    va_end(ap);
}

const char *hear(struct wire *w) {
    int r = wire_read(w, WIRE_LIMIT_MS);
    cr_assert_eq(r, 0, "no reply: %s\n%s", strerror(-r), daemon_log(&server));
    return wire_show(w);
}

const char *ask(struct wire *w, const char *line, ...) {
    va_list ap;
    va_start(ap, line);
    tell_v(w, line, ap);
    va_end(ap);
    return hear(w);
}

bool like(const char *pattern, const char *text) {
    const char *star = NULL, *from = NULL;
    while (*text) {
        if (*pattern == '*') {
            star = ++pattern;
            from = text;
        } else if (*pattern == *text) {
            pattern++;
            text++;
        } else if (star) {
            pattern = star;
            text = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*') {
        pattern++;
    }
    return *pattern == '\0';
}

void expect(struct wire *w, const char *pattern, const char *line, ...) {
    va_list ap;
    va_start(ap, line);
    tell_v(w, line, ap);
    va_end(ap);
    const char *got = hear(w);
    cr_assert(like(pattern, got), "%s\n  gave: %s\n  not:  %s", line, got, pattern);
}

void expect_next(struct wire *w, const char *pattern) {
    const char *got = hear(w);
    cr_assert(like(pattern, got), "next came: %s\n  not: %s", got, pattern);
}

void expect_silence(struct wire *w) {
    expect(w, "\"nothing more\"", "ECHO 'nothing more'");
}

void expect_closed(struct wire *w) {
    int r = wire_read(w, WIRE_LIMIT_MS);
    cr_assert(r == -EPIPE || r == -ECONNRESET, "not closed: %d %s", r, r ? "" : wire_show(w));
}

void take_id(struct wire *w, char id[SERVE_ID]) {
    const struct resp_value *v = &w->doc.v[0];
    cr_assert(v->type == RESP_BULK && v->len < SERVE_ID, "no id: %s", wire_show(w));
    memcpy(id, v->data, v->len);
    id[v->len] = '\0';
}

void submit_line(struct wire *w, char id[SERVE_ID], const char *words, ...) {
    char text[LINE];
    va_list ap;
    va_start(ap, words);
    vsnprintf(text, sizeof(text), words, ap);
    va_end(ap);
    ask(w, "TASK.SUBMIT %s", text);
    take_id(w, id);
}

long long info_number(struct wire *w, const char *name) {
    char key[80];
    ask(w, "INFO everything");
    cr_assert(w->doc.v[0].type == RESP_BULK || w->doc.v[0].type == RESP_VERBATIM);
    snprintf(key, sizeof(key), "\n%s:", name);
    char *text = strndup(w->doc.v[0].data, w->doc.v[0].len);
    const char *at = strstr(text, key);
    long long v = at ? atoll(at + strlen(key)) : -1;
    free(text);
    return v;
}

void until_info(const char *name, long long n) {
    struct wire w = {.fd = -1};
    serve_connect(&w);
    while (info_number(&w, name) != n) {
    }
    wire_close(&w);
}

void until_waiting(long long n) {
    until_info("sync_waiting", n);
}

long long resident(void) {
    char path[64];
    unsigned long size = 0, pages = 0;
    snprintf(path, sizeof(path), "/proc/%d/statm", (int)server.pid);
    FILE *f = fopen(path, "re");
    cr_assert(f);
    cr_assert_eq(fscanf(f, "%lu %lu", &size, &pages), 2);
    fclose(f);
    return (long long)pages * sysconf(_SC_PAGESIZE);
}
