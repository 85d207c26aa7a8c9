/* SPDX-License-Identifier: MIT */
/* POOL.* and WORKER.*: what the pools and their workers are and do, and pausing them. Figures of workers
 * come from their slots in the segment and are as fresh as this moment.
 *
 * Fails: replies. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/events.h"
#include "daemon/schedule.h"
#include "daemon/serve/args.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/leases.h"
#include "daemon/serve/pools.h"
#include "daemon/serve/reply.h"
#include "daemon/times.h"
#include "lib/base/clock.h"
#include "lib/base/memory.h"
#include "lib/base/num.h"
#include "lib/shm/slot.h"

enum { SHOWN = 64, MAIN_FIELDS = 17 };

struct pool *pool_arg(struct conn *c, const struct resp_arg *a) {
    struct pool *p = hearthd_pool(c->serve->d, a->data, a->len);
    if (!p) {
        reply_errorf(c, "NOPOOL no such pool '%.*s'",
                     (int)strnlen(a->data, a->len < SHOWN ? a->len : SHOWN), a->data);
    }
    return p;
}

/* Workers over connections that wait for a task. */
static int64_t count_asking(const struct pool *p) {
    int64_t n = 0;
    list_for_each (it, &p->waiting) {
        n++;
    }
    return n;
}

static void reply_main_fields(struct conn *c, struct pool *p) {
    struct hearthd *d = c->serve->d;
    reply_field_text(c, "name", p->config->name);
    reply_field_text(c, "kind", pool_kind_names[p->config->kind]);
    reply_field_text(c, "state", p->removed ? "removing" : pool_state_names[p->state]);
    reply_field_int(c, "workers", p->n_workers);
    uint32_t busy = pool_busy(d, p);
    reply_field_int(c, "busy", busy);
    reply_field_int(c, "queued", (int64_t)pool_due(d, p));
    reply_field_int(c, "delayed", schedule_delayed(d, p));
    reply_field_int(c, "running", busy);
    reply_field_int(c, "done", (int64_t)p->count.done);
    reply_field_int(c, "failed", (int64_t)p->count.failed);
    reply_field_int(c, "lost", (int64_t)p->count.lost);
    reply_field_int(c, "timeout", (int64_t)p->count.timeout);
    reply_field_int(c, "cancelled", (int64_t)p->count.cancelled);
    reply_field_int(c, "expired", (int64_t)p->count.expired);
    reply_field_int(c, "retried", (int64_t)p->count.retried);
    reply_field_int(c, "dead", tasks_dead(d, p));
    bool out = task_is_paused(&d->shm, p->index);
    reply_field_text(c, "paused",
                     p->paused_in && out ? "in out"
                     : p->paused_in      ? "in"
                     : out               ? "out"
                                         : "");
}

int cmd_POOL_LIST(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    struct hearthd *d = c->serve->d;
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->n_pools; i++) {
        n += !d->pools[i].gone;
    }
    reply_array(c, n);
    for (uint32_t i = 0; i < d->n_pools; i++) {
        if (!d->pools[i].gone) {
            reply_map(c, MAIN_FIELDS);
            reply_main_fields(c, &d->pools[i]);
        }
    }
    return 0;
}

static void reply_words(struct conn *c, const char *key, char *const *words, uint32_t n) {
    reply_text(c, key);
    reply_array(c, n);
    for (uint32_t i = 0; i < n; i++) {
        reply_text(c, words[i]);
    }
}

/* A handler that is not there any more keeps its number, not its name. */
static void reply_handlers(struct conn *c, const struct pool *p) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n_handlers; i++) {
        n += p->handlers[i][0] != '\0';
    }
    reply_text(c, "handlers");
    reply_array(c, n);
    for (uint32_t i = 0; i < p->n_handlers; i++) {
        if (p->handlers[i][0]) {
            reply_text(c, p->handlers[i]);
        }
    }
}

/* Of the last minute. */
static void reply_times(struct conn *c, const struct pool *p, uint64_t now) {
    static const char *const names[TIMES_KINDS] = {"wait", "run"};
    struct times_view v[TIMES_KINDS] = {0};
    for (int i = 0; i < TIMES_KINDS; i++) {
        const struct times *t = events_times(c->serve->d, p->index, i);
        if (t) {
            times_view(t, now, &v[i]);
        }
    }
    reply_field_int(c, "minute_ended", (int64_t)v[TIMES_RUN].count);
    for (int i = 0; i < TIMES_KINDS; i++) {
        const struct {
            const char *name;
            uint64_t us;
        } fields[] = {
            {"p50", v[i].p50_us}, {"p90", v[i].p90_us}, {"p99", v[i].p99_us}, {"max", v[i].max_us}};
        for (size_t k = 0; k < ARRAY_SIZE(fields); k++) {
            char key[24];
            snprintf(key, sizeof(key), "%s_%s_us", names[i], fields[k].name);
            reply_field_int(c, key, (int64_t)fields[k].us);
        }
    }
}

int cmd_POOL_INFO(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct hearthd *d = c->serve->d;
    struct pool *p = pool_arg(c, &argv[1]);
    if (!p) {
        return 0;
    }
    const struct pool_config *f = p->config;
    uint64_t now = clock_now();
    reply_map(c, MAIN_FIELDS + 38 + 2 + 2 * 4);
    reply_main_fields(c, p);
    reply_handlers(c, p);
    reply_field_text(c, "module", f->module ? f->module : "");
    reply_words(c, "exec", f->exec.v, f->exec.n);
    reply_words(c, "args", f->args.v, f->args.n);
    reply_words(c, "program", f->program.v, f->program.n);
    reply_field_int(c, "asking", count_asking(p));
    reply_field_text(c, "sizing", pool_sizing_names[f->sizing]);
    reply_field_int(c, "workers_wanted", p->max);
    reply_field_int(c, "threads", f->threads);
    reply_field_int(c, "target", p->target);
    reply_field_int(c, "min", p->min);
    reply_field_int(c, "max", p->max);
    reply_field_text(c, "last_decision", p->last_decision);
    reply_field_text(c, "last_reason", p->last_reason);
    reply_field_int(c, "last_decision_ms", (int64_t)p->decided_ms);
    reply_field_int(c, "queued_bytes", (int64_t)pool_queued_bytes(d, p, 0));
    reply_field_int(c, "queue_max", f->queue_max);
    reply_field_int(c, "queue_bytes", (int64_t)f->queue_bytes);
    reply_field_text(c, "overflow", pool_overflow_names[f->overflow]);
    reply_field_int(c, "max_tasks", (int64_t)f->max_tasks);
    reply_field_int(c, "timeout_ms", f->timeout_ms);
    reply_field_int(c, "soft_timeout_ms", f->soft_timeout_ms);
    reply_field_int(c, "memory_max", (int64_t)f->memory_max);
    reply_field_int(c, "slow_after_ms", f->slow_after_ms);
    reply_field_int(c, "kill_grace_ms", f->kill_grace_ms);
    reply_field_int(c, "max_output", (int64_t)f->max_output);
    reply_field_int(c, "submitted", (int64_t)p->count.submitted);
    reply_field_int(c, "busy_refused", (int64_t)p->count.busy_refused);
    reply_field_int(c, "dropped", (int64_t)p->count.dropped);
    reply_field_int(c, "spawned", (int64_t)p->count.spawned);
    reply_field_int(c, "deaths", (int64_t)p->count.deaths);
    reply_field_int(c, "recycled", (int64_t)p->count.recycled);
    reply_field_int(c, "spawn_failures", (int64_t)p->count.spawn_failures);
    reply_field_int(c, "backoff_ms",
                    p->backoff_until_ns > now ? (int64_t)((p->backoff_until_ns - now) / NS_PER_MS)
                                              : 0);
    reply_field_int(c, "oldest_queued_ms", (int64_t)tasks_oldest_queued_ms(d, p));
    reply_times(c, p, now);
    reply_field_text(c, "rolling", p->rolling);
    reply_field_int(c, "outdated", p->outdated);
    reply_field_text(c, "roll_error", p->roll_error ? p->roll_error : "");
    reply_field_text(c, "last_error", p->last_error ? p->last_error : "");
    return 0;
}

/* ---- steering ---- */

enum { WAY_IN = 1, WAY_OUT = 2 };

static bool ways_arg(struct conn *c, const struct resp_arg *argv, uint32_t argc, int *ret) {
    *ret = argc == 2                               ? WAY_IN | WAY_OUT
           : argc == 3 && resp_is(&argv[2], "IN")  ? WAY_IN
           : argc == 3 && resp_is(&argv[2], "OUT") ? WAY_OUT
                                                   : 0;
    if (!*ret) {
        reply_syntax(c);
    }
    return *ret != 0;
}

static void tell_paused(struct hearthd *d, const struct pool *p, int ways, bool on) {
    events_pool(d, on ? EVENT_POOL_PAUSED : EVENT_POOL_RESUMED, p, 0,
                ways == WAY_IN    ? "in"
                : ways == WAY_OUT ? "out"
                                  : "in out");
}

static int set_paused(struct conn *c, const struct resp_arg *argv, uint32_t argc, bool on) {
    struct hearthd *d = c->serve->d;
    struct pool *p = pool_arg(c, &argv[1]);
    int ways;
    if (!p || !ways_arg(c, argv, argc, &ways)) {
        return 0;
    }
    if (ways & WAY_IN) {
        p->paused_in = on;
    }
    if (ways & WAY_OUT) {
        task_pause(&d->shm, p->index, on);
        p->wake = on ? p->wake : (p->n_workers + 1) * p->config->threads;
    }
    tell_paused(d, p, ways, on);
    reply_ok(c);
    return 0;
}

int cmd_POOL_PAUSE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return set_paused(c, argv, argc, true);
}

int cmd_POOL_RESUME(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return set_paused(c, argv, argc, false);
}

int cmd_POOL_DRAIN(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct pool *p = pool_arg(c, &argv[1]);
    uint64_t ms;
    if (!p || !args_wait(c, argv + 2, argc - 2, &ms)) {
        return 0;
    }
    p->paused_in = true;
    tell_paused(c->serve->d, p, WAY_IN, true);
    if (tasks_live(c->serve->d, p) == 0) {
        reply_ok(c);
    } else if (ms == 0) {
        reply_null(c);
    } else if (block_drain(c, p, ms) < 0) {
        reply_error(c, "OOM the daemon is out of memory");
    }
    return 0;
}

/* ---- workers ---- */

/* The id of the task in hand, or null. */
static void reply_task_of(struct conn *c, const struct slot_view *v) {
    struct task_view t;
    uint32_t idx = (uint32_t)v->hand - 1;
    if (v->hand && v->started_ns && task_view(&c->serve->d->shm, idx, &t) == 0 &&
        t.state == TASK_RUNNING) {
        char id[TASK_ID_TEXT];
        size_t len = task_id_text(id, t.id, idx);
        reply_bulk(c, id, len);
    } else {
        reply_null(c);
    }
}

enum { WORKER_FIELDS = 10 };

static void reply_worker(struct conn *c, const struct worker *w, uint32_t more) {
    struct slot_view v;
    uint64_t now = clock_now();
    slot_view(&c->serve->d->shm, w->slot, &v);
    if (w->pid == 0 || v.pid != (uint32_t)w->pid) {
        v = (struct slot_view){.state = v.state}; /* not there yet: the rest is its forerunner's */
    }
    uint64_t age = now > w->spawned_ns ? now - w->spawned_ns : 0;
    uint64_t running = v.hand && v.started_ns && now > v.started_ns ? now - v.started_ns : 0;
    reply_map(c, WORKER_FIELDS + more);
    reply_field_text(c, "pool", w->pool->config->name);
    reply_field_int(c, "slot", w->slot);
    reply_field_int(c, "pid", w->pid);
    reply_field_text(c, "state", v.state <= SLOT_RETIRED ? slot_state_names[v.state] : "?");
    reply_text(c, "task");
    reply_task_of(c, &v);
    reply_field_int(c, "tasks_done", (int64_t)v.finished);
    reply_field_int(c, "uptime_s", (int64_t)(age / NS_PER_SEC));
    reply_field_int(c, "running_us", (int64_t)(running / 1000));
    reply_field_int(c, "child_pid", v.child);
    reply_field_int(c, "client", (int64_t)leases_client(w->lease));
}

int cmd_WORKER_LIST(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct hearthd *d = c->serve->d;
    const struct pool *only = NULL;
    if (argc != 1 && (argc != 3 || !resp_is(&argv[1], "POOL"))) {
        reply_syntax(c);
        return 0;
    }
    if (argc == 3 && !(only = pool_arg(c, &argv[2]))) {
        return 0;
    }
    uint32_t n = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < d->n_pools; i++) {
            struct pool *p = &d->pools[i];
            if (only && p != only) {
                continue;
            }
            list_for_each (it, &p->workers) {
                if (pass == 1) {
                    reply_worker(c, list_entry(it, struct worker, in_pool), 0);
                }
                n++;
            }
        }
        if (pass == 0) {
            reply_array(c, n);
        }
    }
    return 0;
}

/* ---- one of them ---- */

/* What the kernel knows of a process; what cannot be read stays 0. */
struct process {
    uint64_t rss, private_bytes, cpu_ms;
};

static void look_at_process(pid_t pid, struct process *ret) {
    char path[48];
    unsigned long long user, system, pages;
    memory_private(pid, &ret->private_bytes);
    snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    FILE *f = fopen(path, "re");
    if (f) {
        if (fscanf(f, "%*u %llu", &pages) == 1) {
            ret->rss = pages * (uint64_t)sysconf(_SC_PAGESIZE);
        }
        fclose(f);
    }
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    f = fopen(path, "re");
    if (f) {
        /* The second word is the program's name in parentheses. */
        if (fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
                   &system) == 2) {
            ret->cpu_ms = (user + system) * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
        }
        fclose(f);
    }
}

static const struct worker *worker_arg(const struct hearthd *d, const struct resp_arg *a) {
    uint64_t pid;
    if (num_u64(a->data, a->len, &pid) < 0 || pid == 0) {
        return NULL;
    }
    for (uint32_t i = 0; i < d->n_pools; i++) {
        list_for_each (it, &d->pools[i].workers) {
            const struct worker *w = list_entry(it, struct worker, in_pool);
            if ((uint64_t)w->pid == pid) {
                return w;
            }
        }
    }
    return NULL;
}

static int64_t wall_ms(uint64_t at_ns) {
    uint64_t now = clock_now();
    return at_ns ? (int64_t)(clock_wall_ms() - (now > at_ns ? (now - at_ns) / NS_PER_MS : 0)) : 0;
}

int cmd_WORKER_INFO(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct hearthd *d = c->serve->d;
    const struct worker *w = worker_arg(d, &argv[1]);
    struct process process = {0};
    struct slot_view v;
    (void)argc;
    if (!w) {
        reply_errorf(c, "NOWORKER no such worker '%.*s'",
                     (int)strnlen(argv[1].data, argv[1].len < SHOWN ? argv[1].len : SHOWN),
                     argv[1].data);
        return 0;
    }
    slot_view(&d->shm, w->slot, &v);
    look_at_process(w->pid, &process);
    reply_worker(c, w, 6);
    reply_field_int(c, "spawned_ms", wall_ms(w->spawned_ns));
    reply_field_int(c, "warm_us",
                    w->warm_ns > w->spawned_ns ? (int64_t)((w->warm_ns - w->spawned_ns) / 1000)
                                               : 0);
    reply_field_int(c, "begun_ms", v.hand && v.started_ns ? wall_ms(v.started_ns) : 0);
    reply_field_int(c, "rss_bytes", (int64_t)process.rss);
    reply_field_int(c, "private_bytes", (int64_t)process.private_bytes);
    reply_field_int(c, "cpu_ms", (int64_t)process.cpu_ms);
    return 0;
}
