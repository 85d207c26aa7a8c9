/* SPDX-License-Identifier: MIT */
/* redis-benchmark against hearthd and against redis-server, both on Unix sockets, in turns.
 *
 * The one client program drives both, with few and many clients, one request at a time and 64; commands that hearthd does not
 * know are left out. Before each turn both keyspaces are emptied, so that lists are equally long.
 *
 * Fails: what did not work is said on stderr and returned; without redis-benchmark or redis-server it is skipped. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/bench.h"
#include "tests/bench/objects.h"
#include "tests/support/child.h"
#include "tests/support/daemon.h"

static const char config[] =
    "pools = ( { name = \"demo\"; workers = 1; module = \"demo.so\"; } );\n"
    "stop_timeout = 5;\n";

/* What one run of redis-benchmark measures: its -t, and what its lines are called. */
static const struct group {
    const char *tests;
    const char *needs; /* a command */
    const char *names[4];
    unsigned part; /* runs so many times fewer requests */
} groups[] = {
    {"set,get,incr", "INCR", {"SET", "GET", "INCR"}, 1},
    {"hset", "HSET", {"HSET"}, 1},
    {NULL, "HGET", {"HGET"}, 1}, /* it has no -t */
    {"lpush,rpush,lpop", "LPUSH", {"LPUSH", "RPUSH", "LPOP"}, 1},
    {"lrange_100", "LRANGE", {"LRANGE_100 (first 100 elements)"}, 4},
};
enum { GROUPS = sizeof(groups) / sizeof(*groups), NAMES = 4, LOADS = 4 };

static const struct {
    unsigned clients, pipeline, n;
} loads[LOADS] = {{1, 1, 20000}, {50, 1, 50000}, {1, 64, 200000}, {50, 64, 300000}};

static struct bench_samples hearth[LOADS][GROUPS][NAMES], redis[LOADS][GROUPS][NAMES];
static bool known[GROUPS];

/* The figure of the line `"NAME","figure",...` (older versions give no quotes to the figure). */
static double csv_figure(const char *text, const char *name) {
    char begin[64];
    snprintf(begin, sizeof(begin), "\"%.40s\",", name);
    const char *at = strstr(text, begin);
    at = at ? at + strlen(begin) : NULL;
    return at ? strtod(*at == '"' ? at + 1 : at, NULL) : 0;
}

static int measure(const char *socket, unsigned load, unsigned group, struct bench_samples *ret) {
    const struct group *g = &groups[group];
    char n[16], clients[16], pipeline[16];
    snprintf(n, sizeof(n), "%u", bench_count(loads[load].n / g->part, loads[load].n / 20));
    snprintf(clients, sizeof(clients), "%u", loads[load].clients);
    snprintf(pipeline, sizeof(pipeline), "%u", loads[load].pipeline);
    const char *argv[20] = {"redis-benchmark", "-s", socket,   "-n", n,       "-c",
                            clients,           "-P", pipeline, "-r", "10000", "--csv"};
    int k = 12;
    if (g->tests) {
        argv[k++] = "-d";
        argv[k++] = "64";
        argv[k++] = "-t";
        argv[k++] = g->tests;
    } else {
        argv[k++] = "HGET";
        argv[k++] = "myhash";
        argv[k++] = "element:__rand_int__";
    }
    struct child_output out;
    int r = child_run(argv, NULL, NULL, 0, &out);
    for (unsigned i = 0; r == 0 && i < NAMES && g->names[i]; i++) {
        double v = csv_figure(buf_head(&out.out),
                              g->tests ? g->names[i] : "HGET myhash element:__rand_int__");
        if (out.status || v <= 0) {
            fprintf(stderr, "%s%s", (char *)buf_head(&out.out), (char *)buf_head(&out.err));
            r = -EBADMSG;
        }
        bench_add(&ret[i], v);
    }
    child_output_deinit(&out);
    return r < 0 ? bench_failed("redis-benchmark", r) : 0;
}

static int measure_both(const char *ours, struct wire *our_wire, struct redis *theirs) {
    for (unsigned turn = 0; turn < bench_count(3, 1); turn++) {
        for (unsigned load = 0; load < LOADS; load++) {
            wire_call(our_wire, "FLUSHALL", NULL);
            wire_call(&theirs->wire, "FLUSHALL", NULL);
            for (unsigned g = 0; g < GROUPS; g++) {
                int r = known[g] ? measure(ours, load, g, hearth[load][g]) : 0;
                r = r < 0 || !known[g] ? r : measure(theirs->socket, load, g, redis[load][g]);
                if (r < 0) {
                    return r;
                }
            }
        }
    }
    return 0;
}

static void print(void) {
    struct bench_samples ratios = {.n = 0};
    bench_heading("Over the socket: redis-benchmark, -d 64 -r 10000");
    for (unsigned load = 0; load < LOADS; load++) {
        for (unsigned g = 0; g < GROUPS; g++) {
            for (unsigned i = 0; i < NAMES && groups[g].names[i] && known[g]; i++) {
                char what[80];
                snprintf(what, sizeof(what), "%.10s, %u clients, pipeline %u", groups[g].names[i],
                         loads[load].clients, loads[load].pipeline);
                struct bench_line l = {what, "/s", 0, "redis-server", 0, 0, BENCH_RATIO_AT_LEAST,
                                       1};
                bench_compare(l, &hearth[load][g][i], &redis[load][g][i]);
                bench_add(&ratios, bench_ratio(&hearth[load][g][i], &redis[load][g][i]));
            }
        }
    }
    struct bench_line l = {"median of the ratios", "x", bench_median(&ratios), NULL, 0, 0,
                           BENCH_AT_LEAST,         1.3};
    bench_print(&l);
}

static int with_daemon(struct redis *theirs) {
    struct daemon d;
    struct daemon_options options = {.config = config};
    struct wire w = {.fd = -1};
    int r = daemon_start(&d, &options);
    if (r < 0) {
        return bench_failed("starting hearthd", r);
    }
    r = daemon_wait_ready(&d, 30000);
    r = r < 0 ? r : daemon_connect(&d, &w);
    for (unsigned g = 0; r == 0 && g < GROUPS; g++) {
        const char *info = wire_call(&w, "COMMAND", "INFO", groups[g].needs, NULL);
        known[g] = strncmp(info, "[[", 2) == 0;
        if (!known[g]) {
            bench_note("%s: not known to hearthd yet", groups[g].needs);
        }
    }
    r = r < 0 ? bench_failed("hearthd", r) : measure_both(d.socket, &w, theirs);
    wire_close(&w);
    int stopped = daemon_stop(&d);
    return r < 0 ? r : stopped ? bench_failed("stopping hearthd", stopped) : 0;
}

int objects_socket(void) {
    const char *const version[] = {"redis-benchmark", "--version", NULL};
    struct child_output out;
    struct redis theirs;
    int r = child_run(version, NULL, NULL, 0, &out);
    bool there = r == 0 && out.status == 0;
    if (r == 0) {
        child_output_deinit(&out);
    }
    if (!there) {
        bench_note("redis-benchmark: not installed, nothing to drive both servers with");
        return 0;
    }
    r = redis_open(&theirs);
    if (r <= 0) {
        return r;
    }
    r = with_daemon(&theirs);
    redis_close(&theirs);
    if (r == 0) {
        print();
    }
    return r;
}
