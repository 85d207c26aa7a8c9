/* SPDX-License-Identifier: MIT */
/* The policy of a pool: how many workers, which of them may serve, when to start more, when to
 * wait.
 *
 * pool_turn() compares what is with what should be and does the next step; it holds no plan, so it
 * does not matter in which order things happened, and a step that failed (no slot free, socket
 * full) is simply found undone the next time.
 *   - As many workers as size.c has decided (p->target) must be there or coming. One that is about to retire counts no
 * longer, so that its replacement is warm before it leaves.
 *   - Who is to be replaced for what we know of it (age, memory, an order) goes on serving until its
 * replacement is warm, and is told to retire then; an eighth of a pool at a time.
 *   - At most that many have a seat. A seat is given as early as possible: when the worker is asked
 * for, if one is free then (it serves the moment it is warm, without waiting for us), else when an
 * old one has retired.
 *   - Failures while starting are followed by a pause: 100 ms, doubled each time up to 30 s, with a
 * jitter of a tenth, so that pools broken by one cause do not start in step. Many failures of one
 * round count once. A worker that dies before its first task within a second of being warm counts
 * as a failed start too: else it would be a spin. A worker that died at work is replaced at once.
 *
 * Invariants: d->workers[w->slot] == w and w is on its pool's list, from asked to freed.
 *
 * Fails: out of memory is treated like any other failed start. */
#include "daemon/supervise/private.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/durable.h"
#include "daemon/events.h"
#include "daemon/lease.h"
#include "daemon/log.h"
#include "daemon/supervise/cgroup.h"
#include "daemon/tasks.h"
#include "lib/base/cleanup.h"
#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/shm/adopt.h"
#include "lib/wire/control.h"

#define BACKOFF_MIN (100 * NS_PER_MS)
#define BACKOFF_MAX (30 * NS_PER_SEC)
#define CALM                                                                                       \
    (5 *                                                                                           \
     NS_PER_SEC) /* so long without a failure after a pause, and the next pause is the shortest */
#define YOUNG       NS_PER_SEC
#define ORPHAN_WAIT NS_PER_SEC /* for a forked worker to reach its slot */

/* 0 or -ENOMEM; then the pool has those it had. */
static int set_handlers(struct pool *p, const struct task_bytes *names, uint32_t n) {
    char **made = calloc((size_t)n + 1, sizeof(*made));
    uint32_t at = 0;
    while (made && at < n && (made[at] = strndup(names[at].data, names[at].len))) {
        at++;
    }
    char **old = made && at == n ? p->handlers : made;
    uint32_t n_old = old == made ? at : p->n_handlers;
    if (old != made) {
        p->handlers = made;
        p->n_handlers = n;
        p->handlers_kept = false;
    }
    for (uint32_t i = 0; i < n_old; i++) {
        free(old[i]);
    }
    free(old);
    return p->handlers && p->handlers == made ? 0 : -ENOMEM;
}

static int configured_handlers(struct pool *p, const struct config_strings *l) {
    struct task_bytes names[CONFIG_HANDLERS_MAX];
    uint32_t n = l->n < CONFIG_HANDLERS_MAX ? l->n : CONFIG_HANDLERS_MAX;
    for (uint32_t i = 0; i < n; i++) {
        names[i] = (struct task_bytes){l->v[i], strlen(l->v[i])};
    }
    return n ? set_handlers(p, names, n) : 0;
}

/* Nothing is started for it. */
bool pool_only_joined(const struct pool *p) {
    return p->config->kind == POOL_PROGRAM && p->config->program.n == 0;
}

/* The handlers a former daemon knew keep their numbers; those of the configuration that it did not come behind. */
static int adopt_handlers(struct pool *p, struct task_bytes kept) {
    struct task_bytes names[CONFIG_HANDLERS_MAX];
    const struct config_strings *wanted = &p->config->handlers;
    uint32_t n = 0;
    for (size_t at = 0; at < kept.len && n < CONFIG_HANDLERS_MAX;) {
        const char *name = (const char *)kept.data + at;
        names[n++] = (struct task_bytes){name, strlen(name)};
        at += strlen(name) + 1;
    }
    for (uint32_t i = 0; i < wanted->n && n < CONFIG_HANDLERS_MAX; i++) {
        bool known = false;
        for (uint32_t k = 0; k < n && !known; k++) {
            known = strcmp(names[k].data, wanted->v[i]) == 0;
        }
        if (!known) {
            names[n++] = (struct task_bytes){wanted->v[i], strlen(wanted->v[i])};
        }
    }
    p->handlers_adopted = n > 0;
    return n ? set_handlers(p, names, n) : 0;
}

/* The pool of that name of a former daemon. Its rings are made anew, as tasks/adopt.c puts all that is queued into them. */
static int adopt_pool(struct supervise *s, struct pool *p) {
    struct shm *shm = &s->d->shm;
    uint32_t room = shm_pool_room_at(shm, p->index), queue_max = p->config->queue_max;
    shm_pool_reset(shm, p->index);
    int r = shm_pool_renew(shm, p->index, room > queue_max ? room : queue_max);
    p->queue_room = shm_pool_room_at(shm, p->index);
    return r < 0 ? r : adopt_handlers(p, shm_pool_handlers(shm, p->index));
}

int pool_init(struct supervise *s, struct pool *p, struct config *owner,
              const struct pool_config *c, uint32_t index) {
    struct zygote *z = &s->zygotes[2 * (size_t)index];

    p->index = index;
    p->owner = config_ref(owner);
    p->config = c;
    p->state = POOL_STARTING;
    p->rolling = "";
    p->zygote = z;
    list_init(&p->workers);
    list_init(&p->waiting);
    size_init(p);
    if (pool_only_joined(p)) {
        p->min = p->max = p->target = 0;
    }
    for (int i = 0; i < 2; i++) {
        z[i].supervise = s;
        z[i].pool = p;
        z[i].sock = z[i].pidfd = -1;
    }
    zygote_adopt(s, z, owner, c);
    const char *there = shm_pool_name(&s->d->shm, index);
    if (there) {
        return adopt_pool(s, p);
    }
    p->queue_room = shm_pool_room(c->queue_max);
    struct buf names = BUF_INIT;
    int r = shm_pool_create(&s->d->shm, index, c->name, c->queue_max);
    r = r < 0 ? r : durable_handlers(s->d, c->name, &names);
    if (r == 0 && buf_len(&names) > 0) {
        r = adopt_handlers(p, (struct task_bytes){buf_head(&names), buf_len(&names)});
    } else if (r == 0) {
        r = configured_handlers(p, &c->handlers);
    }
    buf_deinit(&names);
    return r;
}

/* So that a successor of this daemon gives the same numbers to the same names. */
void pool_keep_handlers(struct supervise *s, struct pool *p) {
    if (!s->d->kept || !p->handlers || p->handlers_kept) {
        return;
    }
    struct buf text = BUF_INIT;
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < p->n_handlers; i++) {
        r = buf_append(&text, p->handlers[i], strlen(p->handlers[i]) + 1);
    }
    r = r < 0 ? r : shm_pool_keep_handlers(&s->d->shm, p->index, buf_head(&text), buf_len(&text));
    p->handlers_kept = r == 0; /* else in the next turn */
    buf_deinit(&text);
}

void pool_deinit(struct pool *p) {
    for (uint32_t i = 0; i < p->n_handlers; i++) {
        free(p->handlers[i]);
    }
    free(p->handlers);
    free(p->last_error);
    free(p->roll_error);
    p->handlers = NULL;
    p->n_handlers = 0;
    p->last_error = p->roll_error = NULL;
    p->owner = config_free(p->owner);
}

/* ---- failures ---- */

static uint64_t next_pause(struct zygote *z, uint64_t now, uint64_t until) {
    if (now > until + z->backoff_ns + CALM) {
        z->failures = 0;
    }
    uint32_t doublings = z->failures < 10 ? z->failures : 10;
    uint64_t pause = BACKOFF_MIN << doublings;
    if (pause > BACKOFF_MAX) {
        pause = BACKOFF_MAX;
    }
    z->failures++;
    /* A tenth up or down; the nanoseconds of the clock are random enough for that. */
    return pause - pause / 10 + (now * UINT64_C(2654435761) >> 16) % (pause / 5);
}

static void failed(struct supervise *s, struct pool *p, char *text) {
    struct zygote *z = zygote_of(p);
    uint64_t now = clock_now();

    p->count.spawn_failures++;
    z->proved = false;
    free(p->last_error);
    p->last_error = text;
    if (now < p->backoff_until_ns || s->stop_at_ns != 0) {
        return; /* one more of the same round */
    }
    z->backoff_ns = next_pause(z, now, p->backoff_until_ns);
    p->backoff_until_ns = now + z->backoff_ns;
    if (!s->started) {
        if (!s->start_error &&
            asprintf(&s->start_error, "pool %s: %s", p->config->name, text ? text : "failed") < 0) {
            s->start_error = NULL;
        }
        s->start_failed = true;
        return;
    }
    p->state = POOL_FAILING;
    events_pool(s->d, EVENT_POOL_FAILING, p, z->backoff_ns / NS_PER_MS, text);
    log_err(LOG_ABOUT(.message = MESSAGE_POOL_FAILING, .pool = p->config->name),
            "cannot start: %s; trying again in %llu ms", text ? text : "out of memory",
            (unsigned long long)(z->backoff_ns / NS_PER_MS));
}

void pool_failed(struct supervise *s, struct pool *p, const char *fmt, ...) {
    char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0) {
        text = NULL;
    }
    va_end(ap);
    failed(s, p, text);
}

void zygote_failed(struct supervise *s, struct zygote *z, const char *fmt, ...) {
    char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0) {
        text = NULL;
    }
    va_end(ap);
    if (z->trial) {
        roll_failed(s, z->pool, text);
    } else {
        failed(s, z->pool, text);
    }
}

void pool_died(struct supervise *s, struct pool *p, uint64_t since_ns, const char *fmt, ...) {
    char *text = NULL;
    va_list ap;

    if (clock_now() - since_ns >= YOUNG) {
        return;
    }
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0) {
        text = NULL;
    }
    va_end(ap);
    failed(s, p, text);
}

/* ---- workers ---- */

void worker_set_phase(struct worker *w, enum phase phase) {
    struct watch *x = watch_of(w);

    assert(phase > x->phase || (phase == PHASE_ASKED && x->phase == PHASE_ASKED));
    x->phase = phase;
    x->since_ns = clock_now();
    if (phase == PHASE_LEAVING || phase == PHASE_DEAD) {
        x->seat = false;
    }
}

void worker_free(struct supervise *s, struct worker *w) {
    struct watch *x = watch_of(w);

    assert(s->d->workers[w->slot] == w);
    s->d->workers[w->slot] = NULL;
    if (w->lease) {
        lease_close(s->d, w->lease);
        lease_free(w->lease);
    }
    s->n_joined -= x->joined;
    s->n_adopted -= x->adopted;
    list_del(&w->in_pool);
    list_del(&x->dead_node);
    list_del(&x->team);
    w->pool->n_workers -= !x->is_thread;
    if (!x->joined && !x->is_thread && !x->handed) {
        char name[CGROUP_NAME];
        cgroup_worker_name(w, name);
        cgroup_end(s->d->cgroups, name);
    }
    if (x->exit_event) {
        event_free(x->exit_event);
    }
    if (w->pidfd >= 0 && !x->is_thread) {
        close(w->pidfd);
    }
    if (x->leash >= 0) {
        close(x->leash);
    }
    free(x);
    free(w);
    s->look = true;
}

void worker_unask(struct supervise *s, struct worker *w) {
    threads_release(s, w);
    slot_release(&s->d->shm, w->slot, w->gen);
    worker_free(s, w);
}

int worker_in_slot(struct supervise *s, struct pool *p, uint32_t slot, uint32_t gen,
                   struct worker **ret) {
    struct worker *w = calloc(1, sizeof(*w));
    struct watch *x = calloc(1, sizeof(*x));

    if (!w || !x) {
        free(w);
        free(x);
        return -ENOMEM;
    }
    assert(slot < s->slots && !s->d->workers[slot]);
    w->slot = slot;
    w->gen = gen;
    x->leash = -1;
    x->supervise = s;
    x->worker = w;
    list_init(&x->dead_node);
    list_init(&x->team);
    w->supervise = x;
    w->pool = p;
    w->pidfd = -1;
    w->spawned_ns = clock_now();
    list_append(&p->workers, &w->in_pool);
    p->n_workers++;
    s->d->workers[w->slot] = w;
    *ret = w;
    return 0;
}

int worker_new(struct supervise *s, struct pool *p, struct worker **ret) {
    uint32_t slot, gen;
    int r = slot_reserve(&s->d->shm, p->index, &slot, &gen);
    if (r == 0 && (r = worker_in_slot(s, p, slot, gen, ret)) < 0) {
        slot_release(&s->d->shm, slot, gen);
    }
    return r;
}

int worker_ask(struct supervise *s, struct zygote *z, bool seat) {
    struct pool *p = z->pool;
    _cleanup_close_ int fd = -1;
    _cleanup_close_ int cgroup = -1;
    struct worker *w;
    int r = worker_new(s, p, &w);

    if (r < 0) {
        return r;
    }
    watch_of(w)->seat = seat;
    watch_of(w)->trial = z->trial;
    watch_of(w)->version = z->version;
    worker_set_phase(w, PHASE_ASKED);
    if (p->config->kind == POOL_PROGRAM) {
        r = lease_connect(s->d, w, &fd);
    } else if ((r = threads_reserve(s, w, z->config->threads)) == 0) {
        r = handover_leash(s, w);
    }
    if (seat) {
        worker_command(s, w, SLOT_GO);
    }
    if (r == 0) {
        int fds[CONTROL_SPAWN_FDS];
        size_t n = 0;
        cgroup_worker(s->d->cgroups, w, z->config, &cgroup);
        if (fd >= 0 || watch_of(w)->leash >= 0) {
            fds[n++] = fd >= 0 ? fd : watch_of(w)->leash;
        }
        bool joins = cgroup >= 0 && !z->config->prefork;
        if (joins) {
            fds[n++] = cgroup;
        }
        r = zygote_ask(z, w->slot, w->gen, fds, n, joins);
    }
    if (r < 0) {
        bool look = s->look;
        worker_unask(s, w);
        s->look = look; /* nothing has happened: the zygote's next word is what to wait for */
    }
    return r;
}

static void on_exit_seen(evutil_socket_t fd, short what, void *arg) {
    struct watch *x = arg;
    (void)fd;
    (void)what;
    worker_died(x->supervise, x->worker);
}

int worker_watch(struct supervise *s, struct worker *w) {
    struct watch *x = watch_of(w);
    x->exit_event = w->pidfd < 0
                        ? NULL
                        : event_new(s->d->base, w->pidfd, EV_READ | EV_PERSIST, on_exit_seen, x);
    return x->exit_event && event_add(x->exit_event, NULL) == 0 ? 0 : -ENOMEM;
}

void worker_spawned(struct supervise *s, struct worker *w, pid_t pid) {
    struct watch *x = watch_of(w);

    w->pid = pid;
    if (w->pool->config->prefork) { /* its maker knows nothing of groups */
        char name[CGROUP_NAME];
        cgroup_worker_name(w, name);
        cgroup_move(s->d->cgroups, name, pid);
    }
    w->pool->count.spawned++;
    events_worker(s->d, EVENT_WORKER_SPAWNED, w, 0, NULL);
    worker_set_phase(w, PHASE_STARTING);
    w->pidfd = pidfd_open(pid, 0);
    threads_spawned(w);
    if (worker_watch(s, w) < 0) {
        /* Its end could not be noticed later, so it ends now. */
        x->killed = true;
        x->late = true;
        kill(pid, SIGKILL);
        if (w->pidfd < 0) {
            while (waitid(P_PID, (id_t)pid, &x->status, WEXITED) < 0 && errno == EINTR) {
            }
            x->status_known = true;
        }
        worker_died(s, w);
    } else if (s->stop_at_ns != 0 || x->hung_up_ns != 0) {
        worker_kill(s, w);
    }
    s->look = true;
}

/* ---- workers of programs ---- */

int worker_attach(struct hearthd *d, struct pool *p, pid_t pid, struct worker **ret) {
    struct supervise *s = d->supervise;
    struct worker *w;

    if (s->n_joined >= d->config->limits.max_joined) {
        return -ENOSPC;
    }
    int r = worker_new(s, p, &w);
    if (r < 0) {
        return r;
    }
    watch_of(w)->joined = true;
    watch_of(w)->old_ns = UINT64_MAX;
    s->n_joined++;
    w->pid = pid;
    w->warm_ns = w->spawned_ns;
    worker_set_phase(w, PHASE_SERVING);
    slot_command(&d->shm, w->slot, SLOT_GO);
    if (!lease_new(w) || lease_join(d, w->lease) < 0) {
        worker_unask(s, w);
        return -ENOMEM;
    }
    events_worker(d, EVENT_WORKER_WARM, w, 0, NULL);
    log_info(LOG_ABOUT(.message = MESSAGE_WORKER_STARTED, .pool = p->config->name, .worker = pid),
             "worker %d has joined", (int)pid);
    *ret = w;
    return 0;
}

void worker_hung_up(struct hearthd *d, struct worker *w) {
    struct watch *x = watch_of(w);

    if (x->phase == PHASE_DEAD || x->hung_up_ns != 0) {
        return;
    }
    x->hung_up_ns = clock_now();
    if (x->joined) {
        memset(&x->status, 0, sizeof(x->status));
        x->status_known = true;
        worker_died(d->supervise, w);
    } else if (w->pidfd >= 0 && x->phase < PHASE_LEAVING && !x->killed) {
        worker_died(d->supervise, w); /* or it is about to: see reap.c */
    }
}

static bool is_named(const struct task_bytes *names, uint32_t n, const char *name) {
    for (uint32_t i = 0; i < n; i++) {
        if (strlen(name) == names[i].len && memcmp(name, names[i].data, names[i].len) == 0) {
            return true;
        }
    }
    return false;
}

static bool any_has_joined(const struct pool *p) {
    list_for_each (it, &p->workers) {
        const struct worker *w = list_entry(it, struct worker, in_pool);
        if (w->lease && w->lease->joined) {
            return true;
        }
    }
    return false;
}

/* Those without a name are not there any more. */
static bool same_handlers(char *const *have, uint32_t n_have, const struct task_bytes *names,
                          uint32_t n) {
    uint32_t named = 0;
    for (uint32_t i = 0; i < n_have; i++) {
        if (have[i][0] && !is_named(names, n, have[i])) {
            return false;
        }
        named += have[i][0] != '\0';
    }
    return named == n;
}

/* In the order in which they are known, new ones behind, into `to`. */
static int order_handlers(const struct pool *p, const struct task_bytes *names, uint32_t n,
                          struct pool *to) {
    struct task_bytes order[2 * CONFIG_HANDLERS_MAX];
    uint32_t at = 0;
    for (; at < p->n_handlers && at < CONFIG_HANDLERS_MAX; at++) {
        const char *name = is_named(names, n, p->handlers[at]) ? p->handlers[at] : "";
        order[at] = (struct task_bytes){name, strlen(name)};
    }
    for (uint32_t i = 0; i < n; i++) {
        bool known = false;
        for (uint32_t k = 0; k < p->n_handlers; k++) {
            known |= is_named(&names[i], 1, p->handlers[k]);
        }
        if (!known && at < 2 * CONFIG_HANDLERS_MAX) {
            order[at++] = names[i];
        }
    }
    return set_handlers(to, order, at);
}

/* A version on trial has others (roll.c). */
static int try_handlers(struct zygote *z, const struct pool *p, const struct task_bytes *names,
                        uint32_t n) {
    struct pool all = {.n_handlers = 0};
    int r = order_handlers(p, names, n, &all);
    if (r == 0) {
        names_free(z->handlers, z->n_handlers);
        z->handlers = all.handlers;
        z->n_handlers = all.n_handlers;
    }
    return r;
}

int pool_name_handlers(struct hearthd *d, struct pool *p, const struct worker *w,
                       const struct task_bytes *names, uint32_t n) {
    struct zygote *z = zygote_of(p), *other = zygote_other(d->supervise, z);
    if (w && watch_of((struct worker *)w)->version == other->version) {
        z = other;
    }
    if (w && z->handlers && same_handlers(z->handlers, z->n_handlers, names, n)) {
        return 0;
    }
    if (same_handlers(p->handlers, p->n_handlers, names, n)) {
        return 0;
    }
    if (w && z->trial && !p->config->handlers.n) {
        return try_handlers(z, p, names, n);
    }
    if (p->handlers_adopted && !p->config->handlers.n) {
        p->handlers_adopted = false;
        return order_handlers(p, names, n, p);
    }
    if (p->n_handlers && (p->config->handlers.n || any_has_joined(p) || tasks_live(d, p))) {
        return -ESTALE;
    }
    return set_handlers(p, names, n);
}

/* Its zygote died between forking it and telling us, or before forking: the slot tells which. */
static void look_for_orphan(struct supervise *s, struct worker *w, const struct slot_view *v) {
    if (v->pid > 1) {
        worker_spawned(s, w, (pid_t)v->pid);
    } else if (clock_now() - watch_of(w)->orphaned_ns > ORPHAN_WAIT) {
        worker_unask(s, w);
    }
}

static uint64_t old_age(const struct worker *w) {
    const struct pool_config *c = w->pool->config;
    if (c->max_age_ms == 0) {
        return UINT64_MAX;
    }
    uint64_t ms = c->max_age_ms;
    ms += c->max_age_jitter_ms ? arc4random_uniform(c->max_age_jitter_ms) : 0;
    return w->warm_ns + ms * NS_PER_MS;
}

void worker_look(struct supervise *s, struct worker *w) {
    struct watch *x = watch_of(w);
    struct slot_view v;

    slot_view(&s->d->shm, w->slot, &v);
    if (x->phase == PHASE_ASKED) {
        if (x->orphaned_ns != 0) {
            look_for_orphan(s, w, &v);
        }
        return;
    }
    if (x->phase == PHASE_STARTING && v.state >= SLOT_WARM) {
        w->warm_ns = clock_now();
        zygote_of(w->pool)->proved = true;
        x->old_ns = old_age(w);
        worker_set_phase(w, x->seat ? PHASE_SERVING : PHASE_WARM);
        events_worker(s->d, EVENT_WORKER_WARM, w, (w->warm_ns - w->spawned_ns) / 1000, NULL);
        log_debug(LOG_ABOUT(.message = MESSAGE_WORKER_STARTED, .pool = w->pool->config->name,
                            .worker = w->pid),
                  "worker %d is warm after %.1f ms", (int)w->pid,
                  (double)(w->warm_ns - w->spawned_ns) / NS_PER_MS);
    }
    if (x->phase == PHASE_SERVING) {
        if (v.ending != ENDING_NOT && !x->ending) {
            x->ending = true;
            x->tired = v.ending == ENDING_GREW    ? "its memory has grown"
                       : v.ending == ENDING_ASKED ? "its handler wants it"
                                                  : x->tired;
            x->told = v.ending != ENDING_GREW; /* retires by itself */
        }
        if (v.state == SLOT_RETIRED) {
            x->ending = true;
            worker_set_phase(w, PHASE_LEAVING);
            worker_command(s, w, SLOT_EXIT);
        }
    }
}

/* ---- the pool ---- */

struct census {
    uint32_t coming, seats, warm;
};

static struct census count_workers(const struct pool *p) {
    struct census n = {0};

    list_for_each (it, &p->workers) {
        const struct watch *x = watch_of(list_entry(it, struct worker, in_pool));
        if (x->joined || x->trial) {
            continue;
        }
        n.coming += x->phase <= PHASE_SERVING && !x->ending;
        n.seats += x->seat;
        n.warm += x->phase == PHASE_WARM || x->phase == PHASE_SERVING;
    }
    return n;
}

/* Warm ones first: they serve at once. */
static void give_seats(struct supervise *s, struct pool *p, uint32_t have) {
    for (int pass = 0; pass < 2; pass++) {
        list_for_each (it, &p->workers) {
            struct worker *w = list_entry(it, struct worker, in_pool);
            struct watch *x = watch_of(w);
            bool fits = !x->joined && (pass == 0 ? x->phase == PHASE_WARM : x->phase < PHASE_WARM);
            if (have >= p->target) {
                return;
            }
            if (!fits || x->seat || x->trial) {
                continue;
            }
            x->seat = true;
            have++;
            if (x->phase == PHASE_WARM) {
                worker_set_phase(w, PHASE_SERVING);
            }
            worker_command(s, w, SLOT_GO);
        }
    }
}

/* ---- replacing ---- */

void pool_recycle(struct hearthd *d, struct pool *p, const char *why) {
    list_for_each (it, &p->workers) {
        struct watch *x = watch_of(list_entry(it, struct worker, in_pool));
        x->tired = x->tired || x->joined ? x->tired : why;
    }
    d->supervise->look = true;
}

/* Whose max_age has come. */
static void look_at_age(struct pool *p, uint64_t now) {
    list_for_each (it, &p->workers) {
        struct watch *x = watch_of(list_entry(it, struct worker, in_pool));
        if (!x->tired && x->phase == PHASE_SERVING && now >= x->old_ns) {
            x->tired = "its max_age has come";
        }
    }
}

/* Lets some of those that are to be replaced ask for their replacement. */
static void begin_replacing(struct pool *p) {
    uint32_t may = 1 + p->target / 8;

    list_for_each (it, &p->workers) {
        const struct watch *x = watch_of(list_entry(it, struct worker, in_pool));
        may -= may > 0 && x->phase <= PHASE_SERVING && x->ending && !x->joined;
    }
    list_for_each (it, &p->workers) {
        struct watch *x = watch_of(list_entry(it, struct worker, in_pool));
        if (x->tired && !x->ending && x->phase == PHASE_SERVING && may > 0) {
            x->ending = true;
            may--;
        }
    }
}

/* Those whose replacements are warm may go. */
static void end_replacing(struct supervise *s, struct pool *p) {
    int64_t warm = 0;

    list_for_each (it, &p->workers) {
        const struct watch *x = watch_of(list_entry(it, struct worker, in_pool));
        warm += x->phase == PHASE_WARM && !x->seat && !x->trial;
        warm -= x->phase == PHASE_SERVING && x->ending && x->told && !x->surplus;
    }
    list_for_each (it, &p->workers) {
        struct worker *w = list_entry(it, struct worker, in_pool);
        struct watch *x = watch_of(w);
        if (warm > 0 && x->phase == PHASE_SERVING && x->ending && !x->told) {
            x->told = true;
            warm--;
            worker_command(s, w, SLOT_RETIRE);
        }
    }
}

static void start_zygote(struct supervise *s, struct pool *p) {
    const char *what = NULL;
    int r = zygote_start(s, zygote_of(p), &what);
    if (r < 0) {
        pool_failed(s, p, "cannot start its zygote: %s: %s", what, strerror(-r));
    }
}

/* A pool that was removed lives as long as it has tasks. */
uint32_t pool_target(const struct supervise *s, const struct pool *p) {
    return p->gone || (p->removed && tasks_live(s->d, p) == 0) ? 0 : p->target;
}

void pool_turn(struct supervise *s, struct pool *p) {
    if (s->stop_at_ns != 0) {
        return;
    }
    roll_turn(s, p);
    struct zygote *z = zygote_of(p);
    if (p->gone || (p->removed && pool_target(s, p) == 0)) {
        pool_vanish(s, p);
        return;
    }
    bool only_joined = pool_only_joined(p);
    bool may_start = p->backoff_until_ns == 0 || clock_now() >= p->backoff_until_ns;
    if (z->state == ZYGOTE_NONE && may_start && !only_joined) {
        start_zygote(s, p);
    }
    look_at_age(p, clock_now());
    if (z->state == ZYGOTE_READY && may_start) {
        size_turn(s, p);
    }
    begin_replacing(p);
    struct census n = count_workers(p);
    give_seats(s, p, n.seats);
    end_replacing(s, p);
    n = count_workers(p);
    if (n.coming > p->target) {
        size_trim(s, p, n.coming - p->target);
    }
    while (z->state == ZYGOTE_READY && may_start && n.coming < p->target) {
        bool seat = n.seats < p->target;
        if (worker_ask(s, z, seat) < 0) {
            break;
        }
        n.coming++;
        n.seats += seat;
    }
    bool proved = only_joined || (z->proved && z->state == ZYGOTE_READY);
    if (n.warm >= p->target && proved && p->state != POOL_READY) {
        events_pool(s->d, p->state == POOL_FAILING ? EVENT_POOL_RECOVERED : EVENT_POOL_READY, p,
                    n.warm, NULL);
        p->state = POOL_READY;
        log_info(LOG_ABOUT(.message = MESSAGE_POOL_READY, .pool = p->config->name),
                 "%u workers are warm", n.warm);
    }
}
