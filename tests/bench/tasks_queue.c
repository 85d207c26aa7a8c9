/* SPDX-License-Identifier: MIT */
/* Queued tasks: what one costs in time and memory, and whether the thousandth costs what the
 * millionth does.
 *
 * The workers of the pool are kept busy by two tasks that sleep, so that everything else stays in
 * the queue. No-ops are submitted a hundred to a request (TASK.MSUBMIT, so that neither the round
 * trip nor the client's own table of tasks counts) until there are a million; the cost at a depth
 * is the median of the last requests before it. Memory is the growth of the daemon and of the
 * segment between the first thousand and the last. Then the sleepers are cancelled, and the time
 * until the last task has ended gives the rate at which the queue drains.
 *
 * Fails: a request that is refused, a queue that does not drain. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "tests/bench/bench.h"
#include "tests/bench/proc.h"
#include "tests/bench/tasks.h"

enum { BATCH = 100, DEPTHS = 4, SLEEPERS = 2, ID_MAX = 64 };

static const char config[] =
    "pools = (\n"
    "  { name = \"demo\"; workers = 2; module = \"demo.so\"; queue_max = 1100000; }\n"
    ");\n"
    "segment_size = \"1G\";\n"
    "tasks_max = 1100000;\n"
    "limits = { client_max_tasks = 0; };\n"
    "stop_timeout = 5;\n";

struct queue {
    struct site site;
    const char *words[4 + BATCH];
    unsigned depth;
    char last[ID_MAX]; /* id of the newest task */
    char sleepers[SLEEPERS][ID_MAX];
};

static int keep_id(char out[ID_MAX], const struct hearth_reply *id) {
    size_t len;
    const char *text = hearth_reply_text(id, &len);
    if (len == 0 || len >= ID_MAX) {
        return -EBADMSG;
    }
    memcpy(out, text, len + 1);
    return 0;
}

static int occupy(struct queue *q) {
    const char *const words[] = {"TASK.SUBMIT", "demo", "sleep", "", "ARG", "3600000"};
    int r = 0;
    for (unsigned i = 0; i < SLEEPERS && r == 0; i++) {
        const struct hearth_reply *reply;
        r = hearth_command(q->site.h, 6, words, NULL, &reply);
        r = r ? r : keep_id(q->sleepers[i], reply);
    }
    return r;
}

/* One request of BATCH tasks; nanoseconds of each. */
static int submit(struct queue *q, double *ret_ns) {
    const struct hearth_reply *reply;
    uint64_t t = clock_now();
    int r = hearth_command(q->site.h, 4 + BATCH, q->words, NULL, &reply);
    double ns = bench_seconds(t) * 1e9 / BATCH;
    if (r != 0 || hearth_reply_count(reply) != BATCH) {
        size_t len;
        fprintf(stderr, "TASK.MSUBMIT at %u: %s\n", q->depth,
                r ? hearth_errmsg(q->site.h) : hearth_reply_text(reply, &len));
        return r ? r : -EBADMSG;
    }
    const struct hearth_reply *id = hearth_reply_first(reply);
    for (unsigned i = 1; i < BATCH; i++) {
        id = hearth_reply_next(id);
    }
    q->depth += BATCH;
    *ret_ns = ns;
    return keep_id(q->last, id);
}

static int fill(struct queue *q, unsigned depth, struct bench_samples *last) {
    unsigned from = depth - depth / 2;
    from = depth - from > BATCH * BENCH_SAMPLES ? depth - BATCH * BENCH_SAMPLES : from;
    int r = 0;
    while (q->depth < depth && r == 0) {
        double ns;
        bool counts = q->depth >= from;
        r = submit(q, &ns);
        if (r == 0 && counts) {
            bench_add(last, ns);
        }
    }
    return r;
}

static int drain(struct queue *q) {
    int r = 0;
    uint64_t t = clock_now();
    for (unsigned i = 0; i < SLEEPERS && r == 0; i++) {
        r = hearth_cancel_id(q->site.h, q->sleepers[i]);
    }
    const char *const id[] = {q->last};
    struct hearth_result result;
    r = r ? r : hearth_wait(q->site.h, id, 1, 60000, &result);
    r = r ? r : result.status == HEARTH_DONE ? 0 : -EBADMSG;
    if (r == 0) {
        struct bench_line l = {.what = "draining that queue, no-ops, two workers", .unit = "/s"};
        l.ours = q->depth / bench_seconds(t);
        bench_print(&l);
    }
    return r;
}

static void show_bytes(const struct proc_memory *a, const struct proc_memory *b, unsigned n) {
    double shared = (b->shared_kib - a->shared_kib) * 1024 / n;
    double private = (b->private_kib - a->private_kib) * 1024 / n;
    struct bench_line l = {.what = "a queued task with an empty payload, in all",
                           .unit = "bytes",
                           .ours = (b->pss_kib - a->pss_kib) * 1024 / n,
                           .goal = BENCH_AT_MOST,
                           .goal_value = 256};
    bench_print(&l);
    bench_note("of these %.0f in shared memory; %.0f private to the daemon or mapped by it alone",
               shared, private);
}

static int measure(struct queue *q) {
    unsigned depths[DEPTHS] = {1000, 10000, 100000, 1000000};
    unsigned n = bench_count(DEPTHS, 2);
    struct bench_samples ns[DEPTHS] = {{.n = 0}};
    struct proc_memory first, last;
    int r = occupy(q);
    for (unsigned i = 0; i < n && r == 0; i++) {
        r = fill(q, depths[i], &ns[i]);
        r = r ? r : proc_memory(q->site.daemon.pid, i == 0 ? &first : &last);
        if (r == 0) {
            char what[64];
            snprintf(what, sizeof(what), "submitting one more of %u queued", depths[i]);
            struct bench_line l = {.what = what, .unit = "ns", .ours = bench_median(&ns[i])};
            if (i > 0) {
                l.beside = "of 1,000 queued";
                l.other = bench_median(&ns[0]);
                l.goal = BENCH_RATIO_AT_MOST;
                l.goal_value = 1.5;
            }
            bench_print(&l);
        }
    }
    if (r != 0) {
        return r;
    }
    show_bytes(&first, &last, depths[n - 1] - depths[0]);
    return drain(q);
}

int tasks_queue(void) {
    static struct queue q;
    char count[16];
    snprintf(count, sizeof(count), "%d", BATCH);
    q.words[0] = "TASK.MSUBMIT";
    q.words[1] = "demo";
    q.words[2] = "echo";
    q.words[3] = count;
    for (unsigned i = 0; i < BATCH; i++) {
        q.words[4 + i] = "";
    }
    bench_heading("Queued tasks");
    int r = site_open(&q.site, config);
    if (r != 0) {
        return r;
    }
    r = measure(&q);
    if (r != 0) {
        bench_failed("the queue", r);
    }
    int end = site_close(&q.site);
    return r ? r : end;
}
