/* SPDX-License-Identifier: MIT */
/* How many workers a pool is to have. A static pool: what is configured. The others: looked at when
 * tasks are queued, and by the timer while there is something to decide; an idle pool that has
 * its size costs nothing.
 *
 * A pool grows
 *   - at once, when there is a task and no worker;
 *   - when the oldest task has waited for WAIT, by as many workers as it takes to be through with
 *     the queue in DRAIN at the rate of tasks per worker seen since the last look (one for each
 *     task, if none has been begun since): a long queue of short tasks alone is no reason;
 *   - by one, when tasks wait and the workers were busy for 90 % of the last second or so;
 *   - when fewer than `spare` workers are idle or starting (dynamic).
 * All that within `max`, at most spawn_rate workers a second (a second's worth at once after a
 * calm), and as far as there is memory: what is left of it (memory.c), less a reserve, must hold
 * the private memory of as many workers as are to come, measured on a warm one. The first `min`
 * workers, replacements, and a first one where there is none are not asked for memory.
 *
 * It shrinks, but not below `min` nor below what was busy of late plus `spare`, by workers that have
 * been idle for idle_timeout, or are idle when they should be replaced (else a pool whose max_age is
 * short would renew idle workers for ever). They are told SLOT_EXIT, which a worker looks at between tasks: one
 * that has just claimed a task finishes it first.
 *
 * Each decision is logged with its reason and kept for POOL.INFO; one that is refused for want of
 * memory once, until something else is decided.
 *
 * Fails: nothing; memory that cannot be measured counts as none. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "daemon/events.h"
#include "daemon/log.h"
#include "daemon/schedule.h"
#include "daemon/supervise/memory.h"
#include "daemon/supervise/private.h"
#include "lib/base/clock.h"
#include "lib/base/memory.h"
#include "lib/base/num.h"
#include "lib/shm/task.h"

#define NEVER     UINT64_MAX
#define LOOK_MIN  (10 * NS_PER_MS)  /* between two looks */
#define WAIT      (20 * NS_PER_MS)  /* a task that waits longer is a reason to grow */
#define DRAIN     (100 * NS_PER_MS) /* in which a queue should be worked off */
#define WINDOW    NS_PER_SEC        /* of the average of busy workers */
#define REFUSED   NS_PER_SEC        /* until memory is looked at again */
#define COST_KEPT (10 * NS_PER_SEC) /* how long a measurement of a worker is good */

enum { BUSY_SHARE = 90, PRESSURE = 20, RESERVE = 32 }; /* %, %, the 32nd part */

struct load {
    uint32_t coming, starting, idle, busy; /* workers */
    uint32_t at_work;                      /* tasks: more than `busy` if a worker has threads */
    uint64_t due, oldest_ns, claims;
    double rate; /* tasks begun a nanosecond since the last look */
};

void size_init(struct pool *p) {
    const struct pool_config *c = p->config;
    struct sizer *z = &zygote_of(p)->size;

    p->min = c->min;
    p->max = c->max;
    p->target = c->min > c->spare ? c->min : c->spare;
    p->last_decision = "";
    z->look_at_ns = NEVER;
    z->allowance = c->spawn_rate;
}

static void __attribute__((format(printf, 3, 4)))
decide(struct pool *p, const char *decision, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p->last_reason, sizeof(p->last_reason), fmt, ap);
    va_end(ap);
    p->last_decision = decision;
    p->decided_ms = clock_wall_ms();
    log_info(LOG_ABOUT(.message = MESSAGE_POOL_SIZED, .pool = p->config->name),
             "%s, %u workers wanted: %s", decision, p->target, p->last_reason);
    events_pool(zygote_of(p)->supervise->d, EVENT_POOL_SIZED, p, p->target, p->last_reason);
}

/* ---- the load ---- */

static void look_at_worker(struct supervise *s, struct worker *w, struct load *l, uint64_t now) {
    struct watch *x = watch_of(w);
    uint64_t claims;

    if (x->phase > PHASE_SERVING || x->ending || x->joined) {
        return;
    }
    l->coming++;
    if (x->phase < PHASE_WARM) {
        l->starting++;
        return;
    }
    uint32_t busy = worker_busy(s, w, &claims);
    l->busy += busy > 0;
    l->idle += busy == 0;
    l->at_work += busy;
    if (busy || claims != x->idle_claims || x->idle_since_ns == 0) {
        x->idle_claims = claims;
        x->idle_since_ns = now;
    }
}

static uint64_t oldest(struct supervise *s, struct pool *p, struct sizer *z) {
    uint64_t submitted;
    /* of those in an order of their own only the backlog's age is known at once */
    return task_ready_head(&s->d->shm, p->index, &submitted) == 0 && submitted < z->backlog_ns
               ? submitted
               : z->backlog_ns;
}

static void take_load(struct supervise *s, struct pool *p, struct load *l, uint64_t now) {
    struct sizer *z = &zygote_of(p)->size;
    uint64_t span = now - z->looked_ns;

    list_for_each (it, &p->workers) {
        look_at_worker(s, list_entry(it, struct worker, in_pool), l, now);
    }
    if (l->coming < p->target) { /* to be asked for in this turn */
        l->starting += p->target - l->coming;
        l->coming = p->target;
    }
    uint64_t due = task_is_paused(&s->d->shm, p->index) ? 0 : pool_due(s->d, p);
    uint64_t blocked = schedule_blocked(s->d, p);
    l->due = due > blocked ? due - blocked : 0;
    l->claims = p->count.buried_claims + p->claims_seen;
    z->backlog_ns = l->due == 0 ? 0 : z->backlog_ns ? z->backlog_ns : now;
    l->oldest_ns = l->due == 0 ? 0 : oldest(s, p, z);
    if (z->looked_ns != 0 && span < NS_PER_SEC && l->claims > z->claims) {
        l->rate = (double)(l->claims - z->claims) / (double)span;
    }
    double part = (double)span / (double)(span + WINDOW);
    double busy = (double)l->at_work / p->config->threads;
    z->busy += z->looked_ns == 0 ? busy : (z->busy_last - z->busy) * part;
    z->allowance += (double)span / NS_PER_SEC * p->config->spawn_rate;
    if (z->looked_ns == 0 || z->allowance > p->config->spawn_rate) {
        z->allowance = p->config->spawn_rate;
    }
    z->busy_last = busy;
    z->claims = l->claims;
    z->looked_ns = now;
}

/* ---- memory ---- */

/* Private memory of a warm worker; 0: not known. */
static uint64_t worker_cost(struct pool *p, uint64_t now) {
    struct sizer *z = &zygote_of(p)->size;

    if (z->cost_at_ns != 0 && now - z->cost_at_ns < COST_KEPT) {
        return z->cost;
    }
    list_for_each (it, &p->workers) {
        const struct worker *w = list_entry(it, struct worker, in_pool);
        const struct watch *x = watch_of((struct worker *)w);
        uint64_t cost;
        if (x->phase == PHASE_SERVING && !x->joined && w->warm_ns != 0 &&
            memory_private(w->pid, &cost) == 0) {
            z->cost = cost;
            z->cost_at_ns = now;
            break;
        }
    }
    return z->cost;
}

/* How many of `more` workers there is memory for; if not for all, why. */
static uint32_t fitting(struct pool *p, const struct load *l, uint32_t more, uint64_t now,
                        char why[160]) {
    struct memory_room m;
    char left[24], each[24];

    if (l->coming == 0) {
        return 1;
    }
    memory_look(&m);
    if (m.pressure >= PRESSURE) {
        snprintf(why, 160, "memory pressure: somebody waited for memory in %u %% of the last 10 s",
                 m.pressure);
        return 0;
    }
    if (!m.limit) {
        return more;
    }
    uint64_t cost = worker_cost(p, now), kept = m.total / RESERVE + l->starting * cost;
    uint64_t room = m.available > kept ? m.available - kept : 0;
    uint64_t n = room == 0 ? 0 : cost == 0 ? more : room / cost;
    snprintf(why, 160, "memory: %s left within the limit of %s, a worker takes %s",
             num_size_text(left, m.available), m.limit, num_size_text(each, cost));
    return n < more ? (uint32_t)n : more;
}

/* ---- growing ---- */

/* By how many workers it should grow, and why. */
static uint32_t wish(struct pool *p, const struct load *l, uint64_t now, char why[160]) {
    const struct sizer *z = &zygote_of(p)->size;
    uint32_t threads = p->config->threads, all = l->coming * threads;
    uint64_t hands = all > l->at_work ? all - l->at_work : 0,
             waits = l->due ? now - l->oldest_ns : 0, more = 0;
    uint32_t warm = l->coming - l->starting;

    if (l->coming == 0 && l->due > 0) {
        snprintf(why, 160, "a task waits and there is no worker");
        return 1;
    }
    if (l->due > hands && waits >= WAIT) {
        more = (l->due - hands + threads - 1) / threads;
        double drain = l->rate > 0 ? (double)l->due / l->rate : 0;
        double missing = l->coming * (drain / DRAIN - 1);
        if (l->rate > 0 && missing < (double)more) {
            more = missing > 0 ? (uint64_t)missing : 0;
        }
        snprintf(why, 160, "queue: the oldest of %llu tasks has waited for %llu ms",
                 (unsigned long long)l->due, (unsigned long long)(waits / NS_PER_MS));
    }
    if (more == 0 && l->due > hands && l->starting == 0 && z->busy * 100 >= warm * BUSY_SHARE) {
        more = 1;
        snprintf(why, 160, "busy: %u of %u workers on average, and tasks wait",
                 (uint32_t)(z->busy + 0.5), warm);
    }
    uint64_t idle = (hands > l->due ? hands - l->due : 0) / threads;
    uint64_t ready = idle > l->starting ? idle : l->starting;
    if (ready < p->config->spare && p->config->spare - ready > more) {
        more = p->config->spare - ready;
        snprintf(why, 160, "spare: %llu of %u idle", (unsigned long long)ready, p->config->spare);
    }
    uint32_t room = p->max > l->coming ? p->max - l->coming : 0;
    return more < room ? (uint32_t)more : room;
}

/* When to look again, after growing or not. */
static uint64_t grow(struct pool *p, const struct load *l, uint64_t now) {
    struct sizer *z = &zygote_of(p)->size;
    char why[160], refusal[160];
    uint32_t more = wish(p, l, now, why);
    uint64_t again = l->due > 0 && l->coming < p->max ? now + WAIT : NEVER;

    if (more == 0) {
        return again;
    }
    if (z->allowance < 1) {
        return now + (uint64_t)((1 - z->allowance) * NS_PER_SEC / p->config->spawn_rate) +
               NS_PER_MS;
    }
    more = more < z->allowance ? more : (uint32_t)z->allowance;
    uint32_t n = fitting(p, l, more, now, refusal);
    if (n == 0) {
        if (!z->refused) {
            decide(p, "refused", "%s", refusal);
        }
        z->refused = true;
        return now + REFUSED;
    }
    z->refused = false;
    z->allowance -= n;
    p->target = l->coming + n;
    decide(p, "grow", "%s", why);
    return now + WAIT;
}

/* ---- shrinking ---- */

/* When the first may be through with its idle time. */
static uint64_t shrink(struct supervise *s, struct pool *p, const struct load *l, uint64_t now) {
    const struct sizer *z = &zygote_of(p)->size;
    uint64_t timeout = p->config->idle_timeout_ms * NS_PER_MS;
    uint32_t of_late = (uint32_t)(z->busy + 0.5);
    uint32_t keep = (l->busy > of_late ? l->busy : of_late) + p->config->spare;
    uint32_t least = p->min > p->config->spare ? p->min : p->config->spare;
    uint64_t at = NEVER;

    keep = keep > p->min ? keep : p->min;
    uint32_t over = l->coming > keep && l->due == 0 ? l->coming - keep : 0;
    uint32_t ended = 0, renewed = 0;
    if (l->coming <= least) {
        return NEVER;
    }
    list_for_each (it, &p->workers) {
        struct worker *w = list_entry(it, struct worker, in_pool);
        struct watch *x = watch_of(w);
        if (x->phase != PHASE_SERVING || x->ending || x->joined) {
            continue;
        }
        bool idle = now > x->idle_since_ns; /* one at work, or seen through just now, has `now` */
        uint64_t end = x->idle_since_ns + (idle ? timeout : timeout / 4 + LOOK_MIN);
        if (ended < over && idle && (end <= now || x->tired)) {
            renewed += end > now;
            x->ending = x->surplus = true;
            worker_set_phase(w, PHASE_LEAVING);
            worker_command(s, w, SLOT_EXIT);
            ended++;
        } else {
            at = end < at ? end : at;
        }
    }
    if (ended > 0) {
        p->target = l->coming - ended;
        if (renewed > 0) {
            decide(p, "shrink", "%u idle when they were to be replaced", ended);
        } else {
            decide(p, "shrink", "%u idle for %llu ms", ended,
                   (unsigned long long)p->config->idle_timeout_ms);
        }
    }
    return at > now ? at : now + timeout / 4 + LOOK_MIN;
}

/* ---- another size ---- */

void size_configure(struct supervise *s, struct pool *p) {
    uint32_t min = p->config->min, max = p->config->max;

    if (pool_only_joined(p) || (min == p->min && max == p->max)) {
        return;
    }
    const char *way = p->target < min || max > p->max ? "grow" : "shrink";
    p->min = min;
    p->max = max;
    p->target = p->target < min ? min : p->target > max ? max : p->target;
    decide(p, way, "asked for: %u to %u workers", min, max);
    p->size_bell = false;
    zygote_of(p)->size.look_at_ns = clock_now();
    s->look = true;
}

/* Ends workers over what is wanted: those without a seat, then the idle, then others after the task in
 * hand. Those that start are the first to go, as soon as they are warm. */
void size_trim(struct supervise *s, struct pool *p, uint32_t over) {
    list_for_each (it, &p->workers) {
        const struct watch *x = watch_of(list_entry(it, struct worker, in_pool));
        over -= over > 0 && x->phase < PHASE_WARM && !x->ending && !x->trial;
    }
    for (int pass = 0; pass < 3 && over > 0; pass++) {
        list_for_each (it, &p->workers) {
            struct worker *w = list_entry(it, struct worker, in_pool);
            struct watch *x = watch_of(w);
            if (x->joined || x->trial) {
                continue;
            }
            uint64_t claims;
            bool serves = x->phase == PHASE_SERVING;
            bool fits = pass == 0   ? x->phase == PHASE_WARM
                        : pass == 1 ? serves && worker_busy(s, w, &claims) == 0
                                    : serves;
            if (over > 0 && fits && !x->ending) {
                x->ending = x->surplus = x->told = true;
                over--;
                if (!serves) {
                    worker_set_phase(w, PHASE_LEAVING);
                }
                worker_command(s, w, serves ? SLOT_RETIRE : SLOT_EXIT);
            }
        }
    }
}

void size_turn(struct supervise *s, struct pool *p) {
    struct sizer *z = &zygote_of(p)->size;
    uint64_t now = clock_now();
    struct load l = {0};

    if (p->config->sizing == SIZING_STATIC) {
        return;
    }
    if (p->n_workers > 0 && now < z->looked_ns + LOOK_MIN) {
        uint64_t soon = z->looked_ns + LOOK_MIN;
        z->look_at_ns = p->size_bell || z->look_at_ns < soon ? z->look_at_ns : soon;
        return;
    }
    take_load(s, p, &l, now);
    uint64_t grown = grow(p, &l, now), shrunk = shrink(s, p, &l, now);
    uint64_t at = grown < shrunk ? grown : shrunk;
    z->look_at_ns = at > now + LOOK_MIN ? at : now + LOOK_MIN;
    p->size_bell = true;
}
