/* SPDX-License-Identifier: MIT */
/* Queues and pipes from one process to another, both mapped: items of 64 bytes a second, many in a call and one in a call, beside
 * multiprocessing.Queue and a pipe of the kernel's; and round trips of a message, beside a socket pair and
 * multiprocessing.Pipe. All by the clock on the wall, since it takes two.
 *
 * Fails: -errno; -EIO when a child does not end well. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/shm/objects_queue.h"
#include "tests/bench/bench.h"
#include "tests/bench/sync.h"
#include "tests/support/child.h"

enum { ITEM = 64, BATCH = 64, TURNS = 5 };

static const struct task_bytes queue = {"queue", 5}, pipe_name = {"pipe", 4};
static char bytes[ITEM];

struct rig {
    struct sync_bench b;
    unsigned n, batch;
    int fds[2];
    _Atomic uint32_t *ready; /* in memory that processes share */
};

static void meet(const struct rig *g) {
    atomic_fetch_add(g->ready, 1);
    while (atomic_load(g->ready) < 2) {
        usleep(50);
    }
}

/* ---- a queue ---- */

static int put_all(void *arg) {
    struct rig *g = arg;
    struct task_bytes items[BATCH];
    for (int i = 0; i < BATCH; i++) {
        items[i] = (struct task_bytes){bytes, ITEM};
    }
    meet(g);
    for (unsigned i = 0; i < g->n; i += g->batch) {
        if (objects_queue_put(&g->b.objects[1], queue, items, g->batch, -1) != g->batch) {
            return 1;
        }
    }
    return 0;
}

static int get_all(struct rig *g) {
    const struct task_bytes *items;
    size_t n;
    for (unsigned i = 0; i < g->n; i += (unsigned)n) {
        int r = objects_queue_get(&g->b.objects[0], queue, g->batch, -1, &items, &n, NULL);
        if (r) {
            return r;
        }
    }
    return 0;
}

/* ---- what the kernel has ---- */

static int write_all(void *arg) {
    struct rig *g = arg;
    meet(g);
    for (unsigned i = 0; i < g->n; i++) {
        if (write(g->fds[1], bytes, ITEM) != ITEM) {
            return 1;
        }
    }
    return 0;
}

static int read_all(struct rig *g) {
    char in[ITEM];
    for (unsigned i = 0; i < g->n; i++) {
        if (read(g->fds[0], in, ITEM) != ITEM) {
            return -EIO;
        }
    }
    return 0;
}

static int answer_socket(void *arg) {
    struct rig *g = arg;
    char in[ITEM];
    meet(g);
    for (unsigned i = 0; i < g->n; i++) {
        if (read(g->fds[1], in, ITEM) != ITEM || write(g->fds[1], in, ITEM) != ITEM) {
            return 1;
        }
    }
    return 0;
}

static int ask_socket(struct rig *g) {
    char in[ITEM];
    for (unsigned i = 0; i < g->n; i++) {
        if (write(g->fds[0], bytes, ITEM) != ITEM || read(g->fds[0], in, ITEM) != ITEM) {
            return -EIO;
        }
    }
    return 0;
}

/* ---- a pipe ---- */

static int answer_pipe(void *arg) {
    struct rig *g = arg;
    struct task_bytes b;
    meet(g);
    for (unsigned i = 0; i < g->n; i++) {
        if (objects_pipe_recv(&g->b.objects[1], pipe_name, 1, -1, &b) ||
            objects_pipe_send(&g->b.objects[1], pipe_name, 1, b, -1)) {
            return 1;
        }
    }
    return 0;
}

static int ask_pipe(struct rig *g) {
    struct task_bytes b;
    for (unsigned i = 0; i < g->n; i++) {
        int r =
            objects_pipe_send(&g->b.objects[0], pipe_name, 0, (struct task_bytes){bytes, ITEM}, -1);
        r = r ? r : objects_pipe_recv(&g->b.objects[0], pipe_name, 0, -1, &b);
        if (r) {
            return r;
        }
    }
    return 0;
}

/* ---- turns ---- */

/* A child does the one, this process the other: a second's worth is added. */
static int turn(struct rig *g, int (*theirs)(void *), int (*ours)(struct rig *),
                struct bench_samples *ret) {
    atomic_store(g->ready, 0);
    pid_t pid = child_start(theirs, g);
    if (pid < 0) {
        return (int)pid;
    }
    meet(g);
    uint64_t since = clock_now();
    int r = ours(g);
    bench_add(ret, g->n / bench_seconds(since));
    int status = child_wait(pid);
    return r ? r : status ? -EIO : 0;
}

static int with_fds(struct rig *g, bool sockets, int (*theirs)(void *), int (*ours)(struct rig *),
                    struct bench_samples *ret) {
    int r = sockets ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, g->fds) : pipe2(g->fds, 0);
    if (r) {
        return -errno;
    }
    r = turn(g, theirs, ours, ret);
    close(g->fds[0]);
    close(g->fds[1]);
    return r;
}

/* 0 where there is no python3. */
static void ask_python(double *ret_rate, double *ret_trips) {
    const char *source = getenv("HEARTH_SOURCE");
    char script[4096], count[16];
    snprintf(script, sizeof(script), "%s/tests/bench/sync_queue.py", source ? source : ".");
    snprintf(count, sizeof(count), "%u", bench_count(100000, 2000));
    const char *const argv[] = {"python3", script, count, NULL};
    struct child_output o;
    *ret_rate = *ret_trips = 0;
    if (child_run(argv, NULL, NULL, 0, &o) == 0) {
        if (o.status || sscanf(buf_head(&o.out), "%lf %lf", ret_rate, ret_trips) != 2) {
            *ret_rate = *ret_trips = 0;
        }
        child_output_deinit(&o);
    }
}

struct samples {
    struct bench_samples batch, single, kernel, trips, sockets;
};

static int measure(struct rig *g, struct samples *s) {
    int r = 0;
    for (unsigned i = 0; r == 0 && i < bench_count(TURNS, 1); i++) {
        g->n = bench_count(2000000, 2048) / BATCH * BATCH;
        g->batch = BATCH;
        r = turn(g, put_all, get_all, &s->batch);
        g->n = bench_count(500000, 1000);
        g->batch = 1;
        r = r ? r : turn(g, put_all, get_all, &s->single);
        r = r ? r : with_fds(g, false, write_all, read_all, &s->kernel);
        g->n = bench_count(100000, 500);
        r = r ? r : turn(g, answer_pipe, ask_pipe, &s->trips);
        r = r ? r : with_fds(g, true, answer_socket, ask_socket, &s->sockets);
    }
    return r;
}

static void print(const struct samples *s) {
    double rate, trips;
    ask_python(&rate, &trips);
    bench_heading("Queues and pipes, mapped, from one process to another, 64 bytes");
    bench_print(&(struct bench_line){.what = "queue, 64 items a call",
                                     .unit = "/s",
                                     .ours = bench_median(&s->batch),
                                     .goal = BENCH_AT_LEAST,
                                     .goal_value = 2e6});
    bench_compare(
        (struct bench_line){.what = "queue, one item a call", .unit = "/s", .beside = "pipe(2)"},
        &s->single, &s->kernel);
    if (rate > 0) {
        bench_print(&(struct bench_line){.what = "queue, one item a call",
                                         .unit = "/s",
                                         .ours = bench_median(&s->single),
                                         .beside = "multiprocessing.Queue",
                                         .other = rate,
                                         .goal = BENCH_RATIO_AT_LEAST,
                                         .goal_value = 10});
    }
    bench_compare((struct bench_line){.what = "pipe, round trips",
                                      .unit = "/s",
                                      .beside = "socketpair(2)",
                                      .goal = BENCH_RATIO_AT_LEAST,
                                      .goal_value = 1 / 1.1},
                  &s->trips, &s->sockets);
    if (trips > 0) {
        bench_print(&(struct bench_line){.what = "pipe, round trips",
                                         .unit = "/s",
                                         .ours = bench_median(&s->trips),
                                         .beside = "multiprocessing.Pipe",
                                         .other = trips});
    }
}

int sync_bench_queue(void) {
    static struct rig g;
    static struct samples s;
    g.ready = mmap(NULL, 64, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (g.ready == MAP_FAILED) {
        return bench_failed("memory", -errno);
    }
    int r = sync_bench_open(&g.b);
    if (r) {
        return r;
    }
    r = objects_queue_create(&g.b.objects[0], queue, &(struct queue_params){1024, 0});
    r = r < 0 ? r : objects_pipe_create(&g.b.objects[0], pipe_name, &(struct pipe_params){true, 0});
    r = r < 0 ? r : measure(&g, &s);
    if (r == 0) {
        print(&s);
    }
    sync_bench_close(&g.b);
    munmap((void *)(uintptr_t)g.ready, 64);
    return r < 0 ? bench_failed("queues and pipes", r) : 0;
}
