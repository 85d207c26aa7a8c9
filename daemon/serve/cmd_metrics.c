/* SPDX-License-Identifier: MIT */
/* The figures of metrics.def in their two forms: INFO's sections `tasks`, `sync` and `pools`, laid out as
 * Redis lays out its own, and METRICS.READ, the text format that Prometheus and what understands it
 * scrape (https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4): `hearth
 * metrics` prints it for the textfile collector of node_exporter. Names of pools need no escapes
 * there: they are made of a-z, 0-9, _ and -.
 *
 * How long tasks wait and run is a summary per pool, its quantiles over the last minute, its sum and
 * count since the start.
 *
 * Fails: replies. */
#include "daemon/serve/metrics.h"

#include "daemon/events.h"
#include "daemon/proc.h"
#include "daemon/schedule.h"
#include "daemon/serve/blocks.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/wait_sync.h"
#include "daemon/times.h"
#include "lib/base/clock.h"

typedef unsigned long long ull;

enum metric_type { GAUGE, COUNTER };

static uint64_t events_count(const struct hearthd *d) {
    return events_next(d) - events_origin(d);
}

static struct proc_stats processes(const struct hearthd *d) {
    struct proc_stats stats;
    proc_stats(d, &stats);
    return stats;
}

/* ---- INFO ---- */

int metrics_info_tasks(struct serve *s, struct buf *b) {
    const struct hearthd *d = s->d;
    struct tasks_stats stats, *t = &stats;
    int r = buf_printf(b, "# Tasks\r\n");
    tasks_stats(s->d, t);
#define METRIC_TASKS(key, value) r = r < 0 ? r : buf_printf(b, #key ":%llu\r\n", (ull)(value));
#define METRIC_SYNC(key, value)
#define METRIC_POOL(key, value)
#define METRIC(scope, key, type, value, doc) METRIC_##scope(key, value)
#include "daemon/metrics.def"
#undef METRIC_TASKS
#undef METRIC_SYNC
    return r;
}

int metrics_info_sync(struct serve *s, struct buf *b) {
    struct wait_sync_stats stats, *y = &stats;
    int r = buf_printf(b, "# Sync\r\n");
    wait_sync_stats(s, y);
#define METRIC_TASKS(key, value)
#define METRIC_SYNC(key, value) r = r < 0 ? r : buf_printf(b, #key ":%llu\r\n", (ull)(value));
#include "daemon/metrics.def"
#undef METRIC_SYNC
#undef METRIC_POOL
    return r;
}

static int info_pool(struct hearthd *d, struct pool *p, struct buf *b) {
    int r = buf_printf(b, "pool_%s:state=%s", p->config->name, pool_state_names[p->state]);
#define METRIC_SYNC(key, value)
#define METRIC_POOL(key, value) r = r < 0 ? r : buf_printf(b, "," #key "=%llu", (ull)(value));
#include "daemon/metrics.def"
#undef METRIC_TASKS
#undef METRIC_SYNC
#undef METRIC_POOL
#undef METRIC
    return r < 0 ? r : buf_append(b, "\r\n", 2);
}

int metrics_info_pools(struct serve *s, struct buf *b) {
    int r = buf_printf(b, "# Pools\r\n");
    for (uint32_t i = 0; i < s->d->n_pools && r >= 0; i++) {
        r = s->d->pools[i].gone ? 0 : info_pool(s->d, &s->d->pools[i], b);
    }
    return r;
}

/* ---- METRICS.READ ---- */

static int put_head(struct buf *b, const char *name, enum metric_type type, const char *doc) {
    const char *tail = type == COUNTER ? "_total" : "";
    return buf_printf(b, "# HELP hearth_%s%s %s\n# TYPE hearth_%s%s %s\n", name, tail, doc, name,
                      tail, type == COUNTER ? "counter" : "gauge");
}

/* Those of the daemon itself. */
static int put_own(struct hearthd *d, struct buf *b) {
    struct tasks_stats stats, *t = &stats;
    struct wait_sync_stats sync, *y = &sync;
    int r = 0;
    tasks_stats(d, t);
    wait_sync_stats(d->serve, y);
#define METRIC(scope, key, type, value, doc) METRIC_##scope(key, type, value, doc)
#define METRIC_TASKS(key, type, value, doc)                                                        \
    r = r < 0 ? r : put_head(b, #key, type, doc);                                                  \
    r = r < 0 ? r                                                                                  \
              : buf_printf(b, "hearth_" #key "%s %llu\n", type == COUNTER ? "_total" : "",         \
                           (ull)(value));
#define METRIC_SYNC METRIC_TASKS
#define METRIC_POOL(key, type, value, doc)
#include "daemon/metrics.def"
#undef METRIC_TASKS
#undef METRIC_SYNC
#undef METRIC_POOL
    return r;
}

static int put_pools(struct hearthd *d, struct buf *b) {
    int r = 0;
#define METRIC_TASKS(key, type, value, doc)
#define METRIC_SYNC(key, type, value, doc)
#define METRIC_POOL(key, type, value, doc)                                                         \
    r = r < 0 ? r : put_head(b, "pool_" #key, type, doc);                                          \
    for (uint32_t i = 0; i < d->n_pools && r >= 0; i++) {                                          \
        struct pool *p = &d->pools[i];                                                             \
        r = p->gone ? 0                                                                            \
                    : buf_printf(b, "hearth_pool_" #key "%s{pool=\"%s\"} %llu\n",                  \
                                 type == COUNTER ? "_total" : "", p->config->name, (ull)(value));  \
    }
#include "daemon/metrics.def"
#undef METRIC_TASKS
#undef METRIC_SYNC
#undef METRIC_POOL
#undef METRIC
    return r;
}

static int put_quantile(struct buf *b, const char *name, const char *pool, const char *q,
                        uint64_t us) {
    return buf_printf(b, "hearth_pool_%s_seconds{pool=\"%s\",quantile=\"%s\"} %.6f\n", name, pool,
                      q, (double)us / 1e6);
}

static int put_times(struct hearthd *d, struct buf *b, int kind, const char *name,
                     const char *doc) {
    uint64_t now = clock_now();
    int r =
        buf_printf(b, "# HELP hearth_pool_%s_seconds %s\n# TYPE hearth_pool_%s_seconds summary\n",
                   name, doc, name);
    for (uint32_t i = 0; i < d->n_pools && r >= 0; i++) {
        static const struct times none;
        const struct times *t = events_times(d, i, kind);
        if (d->pools[i].gone) {
            continue;
        }
        const char *pool = d->pools[i].config->name;
        struct times_view v;
        t = t ? t : &none;
        times_view(t, now, &v);
        r = put_quantile(b, name, pool, "0.5", v.p50_us);
        r = r < 0 ? r : put_quantile(b, name, pool, "0.9", v.p90_us);
        r = r < 0 ? r : put_quantile(b, name, pool, "0.99", v.p99_us);
        r = r < 0 ? r : put_quantile(b, name, pool, "1", v.max_us);
        r = r < 0 ? r
                  : buf_printf(b, "hearth_pool_%s_seconds_sum{pool=\"%s\"} %.6f\n", name, pool,
                               (double)t->sum_us / 1e6);
        r = r < 0 ? r
                  : buf_printf(b, "hearth_pool_%s_seconds_count{pool=\"%s\"} %llu\n", name, pool,
                               (ull)t->count);
    }
    return r;
}

int cmd_METRICS_READ(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct hearthd *d = c->serve->d;
    struct buf b = BUF_INIT;
    (void)argv;
    (void)argc;
    int r = put_own(d, &b);
    r = r < 0 ? r : put_pools(d, &b);
    r = r < 0 ? r : put_times(d, &b, TIMES_WAIT, "wait", "How long tasks waited to be begun.");
    r = r < 0 ? r : put_times(d, &b, TIMES_RUN, "run", "How long attempts of tasks ran.");
    if (r < 0) {
        reply_error(c, "OOM the daemon is out of memory");
    } else {
        reply_verbatim(c, &b);
    }
    buf_deinit(&b);
    return 0;
}
