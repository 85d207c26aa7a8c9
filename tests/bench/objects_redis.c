/* SPDX-License-Identifier: MIT */
/* A redis-server to be compared with: on a Unix socket, without persistence, as somebody would run it who wants what we do.
 *
 * It says on its output when it is ready, so nothing is polled.
 *
 * Fails: what did not work is said on stderr and returned. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/objects.h"
#include "tests/support/child.h"

/* Reads until it says so; false when its output ended. */
static bool is_ready(int fd) {
    char text[16384];
    size_t n = 0;
    ssize_t got;
    while (n < sizeof(text) - 1 && (got = read(fd, text + n, sizeof(text) - 1 - n)) > 0) {
        n += (size_t)got;
        text[n] = '\0';
        if (strstr(text, "eady to accept connections")) {
            return true;
        }
    }
    return false;
}

int redis_open(struct redis *r) {
    int out[2];
    *r = (struct redis){.wire = {.fd = -1}};
    int e = tmp_dir(r->dir);
    if (e < 0 || pipe(out)) {
        return bench_failed("a directory for redis-server", e < 0 ? e : -errno);
    }
    snprintf(r->socket, sizeof(r->socket), "%s/redis.sock", r->dir);
    const char *const argv[] = {
        "redis-server", "--port", "0",           "--unixsocket", r->socket,      "--save", "",
        "--dir",        r->dir,   "--daemonize", "no",           "--appendonly", "no",     NULL};
    r->pid = child_exec(argv, NULL, -1, out[1], -1);
    close(out[1]);
    bool ready = r->pid > 0 && is_ready(out[0]);
    close(out[0]);
    e = ready ? wire_open(&r->wire, r->socket) : 0;
    if (!ready || e < 0) {
        redis_close(r);
    }
    if (!ready) {
        bench_note("redis-server: not installed, nothing to compare with");
    }
    return e < 0 ? bench_failed("connecting to redis-server", e) : ready;
}

void redis_close(struct redis *r) {
    if (r->wire.fd >= 0) {
        wire_close(&r->wire);
    }
    if (r->pid > 0) {
        child_kill(r->pid);
        r->pid = 0;
    }
    if (r->dir[0]) {
        tmp_remove(r->dir);
        r->dir[0] = '\0';
    }
}
