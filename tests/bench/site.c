/* SPDX-License-Identifier: MIT */
/* A private daemon under measurement, and one client of it.
 *
 * The daemon inherits the CPUs that this process is bound to, so whoever wants a daemon on one CPU
 * binds itself first.
 *
 * Fails: what did not work is said on stderr and returned. */
#include <errno.h>

#include "tests/bench/bench.h"
#include "tests/bench/tasks.h"

enum { READY_MS = 30000 };

const char site_config[] = "pools = (\n"
                           "  { name = \"demo\"; workers = 2; module = \"demo.so\"; },\n"
                           "  { name = \"shell\"; workers = 2; exec = [ ]; }\n"
                           ");\n"
                           "stop_timeout = 5;\n";

int site_open(struct site *s, const char *config) {
    *s = (struct site){.h = NULL};
    struct daemon_options o = {.config = config};
    int r = daemon_start(&s->daemon, &o);
    if (r < 0) {
        s->daemon.dir[0] = '\0';
        return bench_failed("starting hearthd", r);
    }
    r = daemon_wait_ready(&s->daemon, READY_MS);
    r = r < 0 ? r : hearth_connect(s->daemon.socket, &s->h);
    if (r != 0) {
        bench_failed("hearthd", r);
        site_close(s);
    }
    return r;
}

int site_close(struct site *s) {
    hearth_close(s->h);
    s->h = NULL;
    int r = daemon_stop(&s->daemon);
    s->daemon.dir[0] = '\0';
    return r == 0 ? 0 : bench_failed("stopping hearthd", r);
}

int site_call(struct site *s, const struct hearth_task *task, size_t want_len) {
    struct hearth_result result;
    int r = hearth_call(s->h, task, &result);
    if (r == 0 && (result.status != HEARTH_DONE || result.len != want_len)) {
        r = -EBADMSG;
    }
    return r;
}
