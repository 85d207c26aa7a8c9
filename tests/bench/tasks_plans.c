/* SPDX-License-Identifier: MIT */
/* Queued tasks that the daemon orders: with priorities at random, and a delay for every fifth. What
 * does one more cost, and what does taking one cost, when a thousand wait, and when a million do?
 *
 * The pool begins nothing while it is filled, a hundred tasks to a request (which have their options in
 * common); the cost at a depth is the median of the last requests. Then it begins, and the time
 * until all have ended is that of taking them. Short queues are filled and emptied many times. Delays
 * are over when taking begins. Each depth comes twice, and the second time counts, so that the memory
 * is there: what its first use costs has nothing to do with the depth.
 *
 * Fails: a request that is refused, a queue that does not drain. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/base/clock.h"
#include "tests/bench/bench.h"
#include "tests/bench/tasks.h"

enum { BATCH = 100, DEPTHS = 4, OPTIONS = 4, DELAY_MAX = 50, FILLED = 20000 };

static const char config[] =
    "pools = (\n"
    "  { name = \"demo\"; workers = 2; module = \"demo.so\"; queue_max = 1100000; }\n"
    ");\n"
    "segment_size = \"1G\";\n"
    "tasks_max = 1200000;\n"
    "result_keep = 0;\n"
    "limits = { client_max_tasks = 0; };\n"
    "stop_timeout = 5;\n";

struct plans {
    struct site site;
    const char *words[4 + BATCH + OPTIONS];
    unsigned batches;
};

static int say(struct plans *p, const char *command, const char *way) {
    const char *const words[] = {command, "demo", way};
    const struct hearth_reply *reply;
    return hearth_command(p->site.h, way ? 3 : 2, words, NULL, &reply);
}

/* One request; nanoseconds of each of its tasks. */
static int submit(struct plans *p, double *ret_ns) {
    const struct hearth_reply *reply;
    char priority[8], delay[8];
    bool delayed = p->batches++ % 5 == 0;
    snprintf(priority, sizeof(priority), "%d", rand() % 256);
    snprintf(delay, sizeof(delay), "%d", 1 + rand() % DELAY_MAX);
    p->words[4 + BATCH] = "PRIORITY";
    p->words[4 + BATCH + 1] = priority;
    p->words[4 + BATCH + 2] = "DELAY";
    p->words[4 + BATCH + 3] = delay;
    uint64_t t = clock_now();
    int r = hearth_command(p->site.h, 4 + BATCH + (delayed ? 4 : 2), p->words, NULL, &reply);
    *ret_ns = bench_seconds(t) * 1e9 / BATCH;
    if (r == 0 && hearth_reply_count(reply) != BATCH) {
        size_t len;
        fprintf(stderr, "TASK.MSUBMIT: %s\n", hearth_reply_text(reply, &len));
        r = -EBADMSG;
    }
    return r;
}

static int wait_for_delays(struct plans *p) {
    const char *const words[] = {"POOL.INFO", "demo"};
    const struct hearth_reply *reply;
    int r;
    do {
        r = hearth_command(p->site.h, 2, words, NULL, &reply);
    } while (r == 0 && hearth_reply_int(hearth_reply_get(reply, "delayed")) > 0);
    return r;
}

/* Fills the queue and empties it. */
static int once(struct plans *p, unsigned depth, struct bench_samples *in,
                struct bench_samples *out) {
    int r = say(p, "POOL.PAUSE", "OUT");
    for (unsigned n = 0; n < depth && r == 0; n += BATCH) {
        double ns;
        r = submit(p, &ns);
        if (r == 0 && n >= depth / 2 && n + BATCH * BENCH_SAMPLES / 2 >= depth) {
            bench_add(in, ns);
        }
    }
    r = r ? r : wait_for_delays(p);
    uint64_t t = clock_now();
    r = r ? r : say(p, "POOL.RESUME", "OUT");
    r = r ? r : say(p, "POOL.DRAIN", NULL);
    bench_add(out, bench_seconds(t) * 1e9 / depth);
    return r ? r : say(p, "POOL.RESUME", NULL);
}

static void show(const char *what, unsigned depth, double ns, double thousand) {
    char text[80];
    snprintf(text, sizeof(text), what, depth);
    struct bench_line l = {.what = text, .unit = "ns", .ours = ns};
    if (depth > 1000) {
        l.beside = "of 1,000";
        l.other = thousand;
        l.goal = BENCH_RATIO_AT_MOST;
        l.goal_value = 2;
    }
    bench_print(&l);
}

static int measure(struct plans *p) {
    static const unsigned depths[DEPTHS] = {1000, 10000, 100000, 1000000};
    static struct bench_samples in[DEPTHS], out[DEPTHS];
    unsigned n = bench_count(DEPTHS, 2);
    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; k < FILLED / depths[i] + 2; k++) {
            struct bench_samples first[2] = {{.n = 0}};
            int r = once(p, depths[i], k ? &in[i] : &first[0], k ? &out[i] : &first[1]);
            if (r != 0) {
                return r;
            }
        }
        show("submitting one more of %u", depths[i], bench_median(&in[i]), bench_median(&in[0]));
        show("taking one of %u, and its end", depths[i], bench_median(&out[i]),
             bench_median(&out[0]));
    }
    return 0;
}

int tasks_plans(void) {
    static struct plans p;
    char count[16];
    snprintf(count, sizeof(count), "%d", BATCH);
    p.words[0] = "TASK.MSUBMIT";
    p.words[1] = "demo";
    p.words[2] = "echo";
    p.words[3] = count;
    for (unsigned i = 0; i < BATCH; i++) {
        p.words[4 + i] = "";
    }
    srand(1);
    bench_heading("Queued tasks with priorities and delays");
    int r = site_open(&p.site, config);
    if (r != 0) {
        return r;
    }
    r = measure(&p);
    if (r != 0) {
        bench_failed("the queue", r);
    }
    int end = site_close(&p.site);
    return r ? r : end;
}
