/* SPDX-License-Identifier: MIT */
/* The benchmark `socket`: redis-benchmark against hearthd and against redis-server, both on Unix sockets, in turns.
 *
 * The one client program drives both, with few and many clients, one request at a time and 64. Runs are short and there are
 * many turns, in each of which every command is measured on one server and at once on the other, now in this order and now in
 * that: what else the machine does meets both alike. Before each turn both keyspaces are emptied, so that lists are equally
 * long.
 *
 * Throughput is often the client's limit, so beside it stands the CPU time that each server has taken per operation, which a
 * loaded machine hardly changes. (hearthd's includes its polling: loop.c.) `chrt -r 1` before it keeps what else runs off the
 * CPUs, and the throughputs mean something too.
 *
 * Fails: exit status 1 when something does not work, which is said on stderr; without redis-benchmark or redis-server there
 * is nothing to measure, which is noted. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/cleanup.h"
#include "tests/bench/bench.h"
#include "tests/bench/objects.h"
#include "tests/support/child.h"
#include "tests/support/daemon.h"

static const char config[] =
    "pools = ( { name = \"demo\"; workers = 1; module = \"demo.so\"; } );\n"
    "stop_timeout = 5;\n";

#define VALUE "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct {
    const char *name;
    const char *words[4];
    unsigned part; /* is run so many times fewer */
} commands[] = {
    {"SET", {"SET", "key:__rand_int__", VALUE}, 1},
    {"GET", {"GET", "key:__rand_int__"}, 1},
    {"INCR", {"INCR", "counter:__rand_int__"}, 1},
    {"HSET", {"HSET", "hash", "field:__rand_int__", VALUE}, 1},
    {"HGET", {"HGET", "hash", "field:__rand_int__"}, 1},
    {"LPUSH", {"LPUSH", "list", VALUE}, 1},
    {"RPUSH", {"RPUSH", "list", VALUE}, 1},
    {"LPOP", {"LPOP", "list"}, 1},
    {"LRANGE_100", {"LRANGE", "list", "0", "99"}, 8},
};
static const struct {
    unsigned clients, pipeline, n;
} loads[] = {{1, 1, 6000}, {50, 1, 20000}, {1, 64, 120000}, {50, 64, 200000}};

enum { COMMANDS = ARRAY_SIZE(commands), LOADS = ARRAY_SIZE(loads), WORDS = 4, TURNS = 7 };

struct table {
    struct bench_samples at[LOADS][COMMANDS];
};

/* One of the two servers. */
struct server {
    const char *socket;
    pid_t pid;
    struct wire *wire;
    struct table rate, cpu; /* per second; us each */
};

/* The last line's second word: `"NAME","figure",...` (older versions give no quotes to the figure). */
static double csv_figure(char *text) {
    size_t len = strlen(text);
    while (len > 0 && text[len - 1] == '\n') {
        text[--len] = '\0';
    }
    const char *line = strrchr(text, '\n');
    const char *at = strstr(line ? line : text, "\",");
    return at ? strtod(at + 2 + (at[2] == '"'), NULL) : 0;
}

/* CPU time in us that a process has taken so far. */
static double cpu_of(pid_t pid) {
    clockid_t id;
    struct timespec t = {0};
    if (clock_getcpuclockid(pid, &id) == 0) {
        clock_gettime(id, &t);
    }
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int measure(struct server *s, unsigned load, unsigned command) {
    unsigned full = loads[load].n / commands[command].part;
    unsigned count = bench_count(full, full / 20 + 1);
    char n[16], clients[16], pipeline[16];
    snprintf(n, sizeof(n), "%u", count);
    snprintf(clients, sizeof(clients), "%u", loads[load].clients);
    snprintf(pipeline, sizeof(pipeline), "%u", loads[load].pipeline);
    const char *argv[20] = {"redis-benchmark", "-s", s->socket, "-n", n,       "-c",
                            clients,           "-P", pipeline,  "-r", "10000", "--csv"};
    for (int i = 0; i < WORDS; i++) {
        argv[12 + i] = commands[command].words[i];
    }
    struct child_output out;
    double before = cpu_of(s->pid);
    int r = child_run(argv, NULL, NULL, 0, &out);
    if (r < 0) {
        return bench_failed("redis-benchmark", r);
    }
    double rate = csv_figure((char *)(uintptr_t)buf_head(&out.out));
    if (out.status || rate <= 0) {
        fprintf(stderr, "%s%s", buf_head(&out.out), buf_head(&out.err));
        r = bench_failed("redis-benchmark", -EBADMSG);
    }
    bench_add(&s->rate.at[load][command], rate);
    bench_add(&s->cpu.at[load][command], (cpu_of(s->pid) - before) / count);
    child_output_deinit(&out);
    return r;
}

static int measure_both(struct server *ours, struct server *theirs) {
    struct server *const order[] = {ours, theirs, ours};
    int r = 0;
    for (unsigned turn = 0; turn < bench_count(TURNS, 1); turn++) {
        for (unsigned load = 0; load < LOADS; load++) {
            wire_call(ours->wire, "FLUSHALL", NULL);
            wire_call(theirs->wire, "FLUSHALL", NULL);
            for (unsigned c = 0; r == 0 && c < COMMANDS; c++) {
                r = measure(order[turn % 2], load, c);
                r = r < 0 ? r : measure(order[turn % 2 + 1], load, c);
            }
        }
    }
    return r;
}

static void print_table(const char *unit, const struct table *ours, const struct table *theirs,
                        enum bench_goal each, enum bench_goal median) {
    struct bench_samples ratios = {.n = 0};
    for (unsigned load = 0; load < LOADS; load++) {
        for (unsigned c = 0; c < COMMANDS; c++) {
            const struct bench_samples *a = &ours->at[load][c], *b = &theirs->at[load][c];
            char what[80];
            snprintf(what, sizeof(what), "%s, %u client%s, pipeline %u", commands[c].name,
                     loads[load].clients, loads[load].clients > 1 ? "s" : "", loads[load].pipeline);
            struct bench_line l = {what, unit, 0, "redis-server", 0, 0, each, 1};
            bench_compare(l, a, b);
            bench_add(&ratios, bench_ratio(a, b));
        }
    }
    struct bench_line l = {
        "median of the ratios", "x", bench_median(&ratios), NULL, 0, 0, median, 1.3};
    bench_print(&l);
}

static int with_daemon(struct redis *redis) {
    static struct server ours, theirs;
    struct daemon d;
    struct daemon_options options = {.config = config};
    struct wire w = {.fd = -1};
    int r = daemon_start(&d, &options);
    if (r < 0) {
        return bench_failed("starting hearthd", r);
    }
    r = daemon_wait_ready(&d, 30000);
    r = r < 0 ? r : daemon_connect(&d, &w);
    if (r < 0) {
        bench_failed("hearthd", r);
    } else {
        ours = (struct server){.socket = d.socket, .pid = d.pid, .wire = &w};
        theirs = (struct server){.socket = redis->socket, .pid = redis->pid, .wire = &redis->wire};
        r = measure_both(&ours, &theirs);
    }
    wire_close(&w);
    int stopped = daemon_stop(&d);
    if (r == 0) {
        bench_heading("Over the socket: redis-benchmark, values of 64 bytes, 10,000 keys");
        print_table("/s", &ours.rate, &theirs.rate, BENCH_RATIO_AT_LEAST, BENCH_AT_LEAST);
        bench_heading("The server's CPU time per operation");
        print_table("us", &ours.cpu, &theirs.cpu, BENCH_NO_GOAL, BENCH_NO_GOAL);
    }
    return r < 0 ? r : stopped ? bench_failed("stopping hearthd", stopped) : 0;
}

static int run(void) {
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
    return r;
}

int main(void) {
    int r = run();
    child_kill_all();
    return r ? 1 : 0;
}
