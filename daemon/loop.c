/* SPDX-License-Identifier: MIT */
/* The daemon's loop around libevent's: each turn does what the segment, the supervisor and the
 * clients have for us, each of them a bounded amount, then lets libevent wait.
 *
 * Waiting is most of the latency. Waking a sleeper on another CPU costs more than a short task, so
 * before it sleeps the daemon polls for up to 50 us, yielding between, if that has paid off lately:
 * the budget doubles when something came while polling and halves when nothing did, down to none.
 * It grows from nothing again when a sleep turns out to have been short: then polling would have
 * caught the event. So an idle daemon, or one with seconds between its clients' requests, never
 * polls; nor does one that has a single CPU, where polling only keeps the others from running, nor,
 * for a while, one whose yielding has cost it the CPU (lib/base/yield.h).
 *
 * Sleeping: workers ring the bell (an eventfd) only if the daemon has declared itself asleep, so
 * the order is: declare, look once more, sleep. A bell that rang too much costs one idle turn.
 *
 * The watchdog is fed from the turn, not from the timer: the timer only says that it is time, so a
 * loop that does not turn does not feed it. STATUS= is sent at most once a second and only when its
 * figures have changed.
 *
 * Fails: loop_open() returns -errno. */
#include "daemon/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/durable.h"
#include "daemon/notify.h"
#include "daemon/schedule.h"
#include "daemon/serve/serve.h"
#include "daemon/supervise/supervise.h"
#include "daemon/tasks.h"
#include "daemon/timetable.h"
#include "lib/base/clock.h"
#include "lib/base/cpu.h"
#include "lib/base/yield.h"
#include "lib/shm/task.h"

#define SPIN_MAX  (50 * UINT64_C(1000))
#define SPIN_STEP (12 * UINT64_C(1000)) /* what one short sleep adds */
#define SPIN_MIN  (4 * UINT64_C(1000))  /* below it, none */
/* Both: NONBLOCK alone goes on as long as events are found, and one whose cause only serve_turn()
 * takes away (a socket that can be written) is found for ever. */
#define AT_ONCE (EVLOOP_ONCE | EVLOOP_NONBLOCK)
#define NEAR                                                                                       \
    (150 * UINT64_C(1000)) /* a sleep this short, the wake-up included, could have been polled */

struct loop {
    struct hearthd *d;
    struct event *bell, *watchdog, *status;
    bool more;       /* the last work left some */
    bool bell_edges; /* libevent can tell edges */
    bool may_spin;
    bool spun; /* in vain, a turn ago */
    uint64_t spin_ns;
    struct yield yield;
    bool feed;           /* the watchdog is due */
    bool tells_status;   /* somebody listens */
    bool status_pending; /* its timer is set */
    uint64_t figures;    /* a sum over what STATUS= shows, as last seen */
    char said[160];
};

/* With edges each ring is an event by itself, so the count need not be taken away: a system call
 * less for each wake-up. It would overflow after 2^64 rings. */
static void on_bell(evutil_socket_t fd, short what, void *arg) {
    uint64_t n;
    (void)what;
    if (!((struct loop *)arg)->bell_edges && read(fd, &n, sizeof(n)) < 0) {
        return; /* EAGAIN: somebody has drained it */
    }
}

static void on_watchdog(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    ((struct loop *)arg)->feed = true;
}

/* ---- STATUS= ---- */

void loop_tell_status(struct loop *l) {
    uint64_t workers = 0, queued = 0, running = 0;
    uint32_t failing = 0;
    char text[160];

    for (uint32_t i = 0; i < l->d->n_pools; i++) {
        struct pool *p = &l->d->pools[i];
        workers += p->n_workers;
        queued += pool_queued(l->d, p, 0);
        running += pool_busy(l->d, p);
        failing += p->state == POOL_FAILING;
    }
    int n = snprintf(text, sizeof(text), "%u pools, %llu workers, %llu queued, %llu running",
                     l->d->n_pools, (unsigned long long)workers, (unsigned long long)queued,
                     (unsigned long long)running);
    if (failing > 0 && n > 0) {
        snprintf(text + n, sizeof(text) - (size_t)n, ", %u FAILING", failing);
    }
    if (strcmp(text, l->said) != 0) {
        memcpy(l->said, text, sizeof(text));
        notify_status("%s", text);
    }
}

static void on_status(evutil_socket_t fd, short what, void *arg) {
    struct loop *l = arg;
    (void)fd;
    (void)what;
    l->status_pending = false;
    loop_tell_status(l);
}

static uint64_t figures(const struct hearthd *d) {
    uint64_t sum = 1;
    for (uint32_t i = 0; i < d->n_pools; i++) {
        const struct pool *p = &d->pools[i];
        const struct pool_counters *c = &p->count;
        sum += c->submitted + c->done + c->failed + c->lost + c->timeout + c->cancelled +
               c->expired + c->retried;
        sum += ((uint64_t)p->n_workers << 32) + ((uint64_t)p->state << 48) + c->spawned;
    }
    return sum;
}

/* Before sleeping: has anything changed that STATUS= shows? Then it is told within a second. */
static void look_at_figures(struct loop *l) {
    uint64_t now;

    if (!l->tells_status || l->status_pending || (now = figures(l->d)) == l->figures) {
        return;
    }
    struct timeval second = {.tv_sec = 1};
    l->figures = now;
    l->status_pending = event_add(l->status, &second) == 0;
}

/* ---- waiting ---- */

static bool anything(struct hearthd *d) {
    return task_any_ended(&d->shm) || schedule_has_news(d) || supervise_has_news(d) ||
           durable_has_news(d) || (d->serve && serve_has_news(d));
}

/* True: something came. */
static bool spin(struct loop *l) {
    struct hearthd *d = l->d;
    uint64_t heard = d->heard;
    uint64_t now = clock_now();
    uint64_t until = now + l->spin_ns;

    do {
        bool news = anything(d);
        event_base_loop(d->base, AT_ONCE);
        if (news || d->heard != heard) {
            return true;
        }
        now = clock_now();
    } while (yield_cpu(&l->yield, &now) && now < until);
    return false;
}

static void sleep_until_something(struct loop *l) {
    struct hearthd *d = l->d;
    uint64_t heard = d->heard;
    uint64_t began = clock_now();

    look_at_figures(l);
    shm_daemon_sleeps(&d->shm);
    event_base_loop(d->base, anything(d) ? AT_ONCE : EVLOOP_ONCE);
    shm_daemon_wakes(&d->shm);
    bool for_work = d->heard != heard || anything(d);
    uint64_t now = clock_now();
    if (l->may_spin && for_work && now - began < NEAR && yield_may_poll(&l->yield, now)) {
        l->spin_ns = l->spin_ns + SPIN_STEP < SPIN_MAX ? l->spin_ns + SPIN_STEP : SPIN_MAX;
    }
}

void loop_wait(struct loop *l) {
    if (l->more) {
        event_base_loop(l->d->base, AT_ONCE);
        return;
    }
    if (l->spin_ns >= SPIN_MIN && !l->spun) {
        if (spin(l)) {
            l->spin_ns = l->spin_ns * 2 < SPIN_MAX ? l->spin_ns * 2 : SPIN_MAX;
            return;
        }
        l->spin_ns = yield_may_poll(&l->yield, clock_now()) ? l->spin_ns / 2 : 0;
        l->spun = true; /* a timer may have gone off meanwhile: its work first, then sleep */
        return;
    }
    l->spun = false;
    sleep_until_something(l);
}

void loop_work(struct loop *l) {
    struct hearthd *d = l->d;

    d->turns++;
    l->more = tasks_turn(d);
    supervise_turn(d);
    l->more |= schedule_turn(d);
    timetable_turn(d);
    if (d->serve) {
        l->more |= serve_turn(d);
    }
    hearthd_flush_wakes(d);
    durable_turn(d);
    if (l->feed) {
        l->feed = false;
        notify_watchdog();
    }
}

/* ---- opening ---- */

static int open_events(struct loop *l) {
    struct hearthd *d = l->d;
    uint64_t every = notify_watchdog_interval();

    l->bell_edges = (event_base_get_features(d->base) & EV_FEATURE_ET) != 0;
    short edges = l->bell_edges ? EV_ET : 0;
    l->bell = event_new(d->base, d->bell_fd, EV_READ | EV_PERSIST | edges, on_bell, l);
    l->status = evtimer_new(d->base, on_status, l);
    if (!l->bell || !l->status || event_add(l->bell, NULL) < 0) {
        return -ENOMEM;
    }
    if (every > 0) {
        struct timeval tv = {.tv_sec = (time_t)(every / 1000000),
                             .tv_usec = (suseconds_t)(every % 1000000)};
        l->watchdog = event_new(d->base, -1, EV_PERSIST, on_watchdog, l);
        if (!l->watchdog || event_add(l->watchdog, &tv) < 0) {
            return -ENOMEM;
        }
    }
    return 0;
}

int loop_open(struct hearthd *d, struct loop **ret) {
    struct loop *l = calloc(1, sizeof(*l));
    if (!l) {
        return -ENOMEM;
    }
    l->d = d;
    l->may_spin = cpu_available() > 1;
    l->tells_status = getenv("NOTIFY_SOCKET") != NULL;
    int r = open_events(l);
    if (r < 0) {
        loop_close(l);
        return r;
    }
    *ret = l;
    return 0;
}

struct loop *loop_close(struct loop *l) {
    if (l) {
        struct event *const all[] = {l->bell, l->watchdog, l->status};
        for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
            if (all[i]) {
                event_free(all[i]);
            }
        }
        free(l);
    }
    return NULL;
}
