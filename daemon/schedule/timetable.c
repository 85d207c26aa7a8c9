/* SPDX-License-Identifier: MIT */
/* The timetable: a list of schedules in order of their names, of which each knows when it comes next.
 * There are a thousand at most, and something is due seldom, so the next one is found by looking at
 * all.
 *
 * Times are those of the wall clock, because "every day at three" is. The timer is set for no longer
 * than half a minute, so that a clock that is set, or a machine that has slept, is noticed.
 *
 * When a time comes late, by more than a minute, it was missed: the machine slept, or its clock was
 * set. What then happens with it is the schedule's misfire policy: `skip` lets it go, `once` makes
 * up for all of them by one task, `all` by one each (as far back as MISSED_MAX). Of several times
 * that have passed the latest counts as met if it is not late. A task is not submitted while that of
 * the time before has not ended, unless the schedule allows overlap.
 *
 * What a schedule holds is copied into one block of its own. Pools and handlers are looked up by name
 * each time, so that a new configuration may change them. A policy's times were read as moments and
 * are moved along.
 *
 * Fails: as timetable.h says; what cannot be submitted is counted, told as an event, and shown. */
#include "daemon/timetable.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/events.h"
#include "daemon/log.h"
#include "daemon/users.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"

enum { MISSED_MAX = 1000, LOOK_MS = 30000, BUSY_MS = 5, TURN_FIRES = 256 };

const char *const misfire_names[MISFIRES] = {"skip", "once", "all"};

struct timetable {
    struct list entries;
    uint32_t n;
    size_t bytes;
    struct event *timer;
    bool look; /* the timer has gone off */
    bool more;
    bool quiet, unkept; /* changes are kept later; and could not be just now */
    int64_t offset_ms;  /* of the wall clock to the one that nobody sets */
};

/* ---- the clock ---- */

static int64_t wall_now(void) {
    return (int64_t)clock_wall_ms();
}

int64_t timetable_after(const struct timetable_entry *e, int64_t ms) {
    int64_t s;
    if (e->every_ms) {
        return ms + (int64_t)e->every_ms;
    }
    return cron_next(&e->cron, ms / 1000, &s) == 0 ? s * 1000 : 0;
}

static void timer_fired(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    ((struct timetable *)arg)->look = true; /* the turn that follows does the work */
}

static void timer_set(struct timetable *t, int64_t now) {
    int64_t next = 0;
    list_for_each (it, &t->entries) {
        const struct timetable_entry *e = list_entry(it, struct timetable_entry, node);
        if (!e->paused && e->next_ms && (next == 0 || e->next_ms < next)) {
            next = e->next_ms;
        }
    }
    if (next == 0 && !t->unkept) {
        event_del(t->timer);
        return;
    }
    int64_t in = t->more || t->unkept ? BUSY_MS : next > now ? next - now : 0;
    in = in < LOOK_MS ? in : LOOK_MS;
    struct timeval tv = {.tv_sec = in / 1000, .tv_usec = in % 1000 * 1000 + 500};
    event_add(t->timer, &tv);
}

int timetable_open(struct hearthd *d) {
    struct timetable *t = calloc(1, sizeof(*t));
    if (t) {
        list_init(&t->entries);
        t->offset_ms = wall_now() - (int64_t)(clock_now() / NS_PER_MS);
        t->timer = evtimer_new(d->base, timer_fired, t);
    }
    if (!t || !t->timer) {
        free(t);
        return -ENOMEM;
    }
    d->timetable = t;
    t->quiet = true;
    if (d->found) {
        timetable_restore(d);
    }
    timetable_configure(d);
    return 0;
}

void timetable_close(struct hearthd *d) {
    struct timetable *t = d->timetable;
    if (t) {
        t->quiet = true;
        while (!list_empty(&t->entries)) {
            timetable_delete(d, list_first(&t->entries, struct timetable_entry, node));
        }
        event_free(t->timer);
        free(t);
        d->timetable = NULL;
    }
}

/* Schedules have come, gone, or been paused: their successors are to know of it. */
static void changed(struct hearthd *d) {
    struct timetable *t = d->timetable;
    if (!t->quiet) {
        t->unkept = timetable_keep(d) < 0;
    }
    event_add(t->timer, &(struct timeval){.tv_usec = t->unkept ? BUSY_MS * 1000 : 0});
}

/* ---- submitting ---- */

/* The limits of its user count, as for what he submits himself (serve/accounts.c). */
static bool user_may(struct hearthd *d, const struct task_spec *spec) {
    const struct config_limits *l = &d->config->limits;
    uint32_t place = users_place(d->users, spec->uid);
    const struct user *u = users_at(d->users, place);
    return place == 0 || spec->uid == 0 || spec->uid == getuid() ||
           ((!l->user_tasks || u->tasks < l->user_tasks) &&
            (!l->user_task_bytes || u->task_bytes + tasks_bytes(spec) <= l->user_task_bytes) &&
            (!l->user_results || u->results < l->user_results));
}

static int submit(struct hearthd *d, struct timetable_entry *e, struct task_ref *ret) {
    struct pool *p = hearthd_pool(d, e->pool, strlen(e->pool));
    int handler = p ? pool_handler(p, e->handler, strlen(e->handler)) : -1;
    struct task_spec spec = e->spec;
    struct policy policy = e->policy;
    uint64_t moved = clock_now() - e->base_ns;
    if (handler < 0) {
        return -ENOENT;
    }
    if (!user_may(d, &spec)) {
        return -EDQUOT;
    }
    spec.pool = p->index;
    spec.handler = (uint32_t)handler;
    policy.due_ns += policy_has(&policy, POLICY_DUE) ? moved : 0;
    policy.expire_ns += policy_has(&policy, POLICY_EXPIRE) ? moved : 0;
    policy.deadline_ns += policy_has(&policy, POLICY_DEADLINE) ? moved : 0;
    policy.set |= UINT32_C(1) << POLICY_SCHEDULE;
    policy.schedule = (struct task_bytes){e->name, strlen(e->name)};
    return tasks_submit(d, p, &spec, &policy, ret);
}

int timetable_run(struct hearthd *d, struct timetable_entry *e, struct task_ref *ret) {
    struct task_ref ref;
    int r = submit(d, e, &ref);
    if (r == 0) {
        e->last = ref;
        e->last_ms = wall_now();
        e->count.runs++;
        timetable_keep_times(d, e);
        *ret = ref;
    }
    return r;
}

static bool last_is_over(struct hearthd *d, const struct timetable_entry *e) {
    char id[TASK_ID_TEXT];
    uint32_t idx;
    if (!e->last.id) {
        return true;
    }
    size_t len = task_id_text(id, e->last.id, e->last.idx);
    if (tasks_find(d, id, len, &idx) < 0) {
        return true;
    }
    tasks_ended(d, idx); /* it may have ended a moment ago */
    return tasks_find(d, id, len, &idx) < 0 || tasks_is_ended(d, idx);
}

/* For a time that has come. False: locks are busy, and it is to be tried again. */
static bool fire(struct hearthd *d, struct timetable_entry *e, int64_t due_ms, int64_t now) {
    struct task_ref ref;
    if (!e->overlap && !last_is_over(d, e)) {
        e->count.overlapped++;
        events_schedule(d, EVENT_SCHEDULE_OVERLAPPED, e->name, 1, NULL);
        return true;
    }
    int r = timetable_run(d, e, &ref);
    if (r == -EAGAIN) {
        return false;
    }
    if (r < 0) {
        e->count.refused++;
        snprintf(e->error, sizeof(e->error), "%s",
                 r == -ENOENT   ? "its pool or handler is not there"
                 : r == -EBUSY  ? "the pool's queue is full, or paused"
                 : r == -EDQUOT ? "its user is over a limit"
                 : r == -ENOMEM ? "out of memory"
                                : strerror(-r));
        events_schedule(d, EVENT_SCHEDULE_REFUSED, e->name, 1, NULL);
        return true;
    }
    events_schedule(d, EVENT_SCHEDULE_FIRED, e->name, (uint64_t)(now - due_ms), &ref);
    return true;
}

/* How many times have come by now, and the latest. */
static uint32_t count_due(const struct timetable_entry *e, int64_t now, int64_t *ret_latest) {
    uint32_t n = 0;
    if (e->every_ms) {
        uint64_t more = (uint64_t)(now - e->next_ms) / e->every_ms;
        *ret_latest = e->next_ms + (int64_t)(more * e->every_ms);
        return more < MISSED_MAX ? (uint32_t)more + 1 : MISSED_MAX;
    }
    int64_t at = e->next_ms, s = 0;
    for (; at && at <= now && n < MISSED_MAX; n++) {
        *ret_latest = at;
        at = timetable_after(e, at);
    }
    if (n == MISSED_MAX && cron_next(&e->cron, (now - TIMETABLE_GRACE_MS) / 1000, &s) == 0 &&
        s * 1000 <= now) {
        *ret_latest = s * 1000;
    }
    return n;
}

/* False: to be tried again. */
static bool come_due(struct hearthd *d, struct timetable_entry *e, int64_t now) {
    int64_t latest = e->next_ms;
    uint32_t n = count_due(e, now, &latest);
    bool met = now - latest <= TIMETABLE_GRACE_MS;
    uint32_t missed = met ? n - 1 : n;
    uint32_t fires = e->misfire == MISFIRE_ALL ? n : met ? 1 : e->misfire == MISFIRE_ONCE;
    for (uint32_t i = 0; i < fires; i++) {
        if (!fire(d, e, latest, now)) {
            e->next_ms = latest; /* what was submitted is not to come again */
            return i > 0;
        }
    }
    if (missed > 0) {
        e->count.missed += missed;
        events_schedule(d, EVENT_SCHEDULE_MISSED, e->name, missed, NULL);
    }
    e->next_ms = timetable_after(e, e->every_ms ? latest : now);
    return true;
}

/* Has somebody set the clock back since the last look? */
static bool set_back(struct timetable *t, int64_t now) {
    int64_t before = t->offset_ms;
    t->offset_ms = now - (int64_t)(clock_now() / NS_PER_MS);
    return t->offset_ms < before - 1000;
}

/* As cron does: by less than three hours, and what has come does not come again; by more, and the
 * clock was wrong before. */
static void follow_clock(struct timetable_entry *e, int64_t now) {
    int64_t at = timetable_after(e, now), most = e->every_ms ? (int64_t)e->every_ms : 3 * 3600000;
    if (at && e->next_ms - at > most) {
        e->next_ms = at;
    }
}

void timetable_turn(struct hearthd *d) {
    struct timetable *t = d->timetable;
    int n = 0;
    if (!t->look) {
        return;
    }
    int64_t now = wall_now();
    bool back = set_back(t, now);
    t->look = t->more = false;
    t->unkept = t->unkept && timetable_keep(d) < 0;
    list_for_each (it, &t->entries) {
        struct timetable_entry *e = list_entry(it, struct timetable_entry, node);
        if (e->paused || !e->next_ms) {
            continue;
        }
        if (back) {
            follow_clock(e, now);
        }
        if (e->next_ms <= now) {
            t->more |= n++ >= TURN_FIRES || !come_due(d, e, now);
            timetable_keep_times(d, e);
        }
    }
    timer_set(t, now);
}

/* ---- keeping ---- */

static size_t bytes_of(const struct timetable_words *w) {
    size_t n = w->spec.payload.len + w->spec.nargs * (sizeof(struct task_bytes) + 1);
    struct policy p = w->policy;
    for (uint32_t i = 0; i < w->spec.nargs; i++) {
        n += w->spec.args[i].len;
    }
    for (uint32_t f = 0; f < POLICY_FIELDS; f++) {
        const struct task_bytes *key = policy_key(&p, f);
        n += key && policy_has(&p, f) ? key->len : 0;
    }
    return n;
}

static struct task_bytes move(char **at, const struct task_bytes *from) {
    struct task_bytes to = {*at, from->len};
    if (from->len > 0) {
        memcpy(*at, from->data, from->len);
    }
    *at += from->len;
    return to;
}

static void copy_bytes(struct timetable_entry *e, const struct timetable_words *w) {
    struct task_bytes *args = e->bytes;
    char *at = (char *)(args + w->spec.nargs);
    e->spec = w->spec;
    e->policy = w->policy;
    for (uint32_t i = 0; i < w->spec.nargs; i++) {
        args[i] = move(&at, &w->spec.args[i]);
    }
    e->spec.args = args;
    e->spec.payload = move(&at, &w->spec.payload);
    for (uint32_t f = 0; f < POLICY_FIELDS; f++) {
        struct task_bytes *key = policy_key(&e->policy, f);
        if (key && policy_has(&e->policy, f)) {
            *key = move(&at, key);
        }
    }
}

static void entry_free(struct timetable_entry *e) {
    free(e->line);
    free(e->when);
    free(e->pool);
    free(e->handler);
    free(e->bytes);
    free(e);
}

static struct timetable_entry *entry_new(const struct timetable_words *w, size_t n_bytes) {
    struct timetable_entry *e = calloc(1, sizeof(*e));
    if (!e) {
        return NULL;
    }
    e->n_bytes = n_bytes;
    e->when = strdup(w->when);
    e->pool = strdup(w->pool);
    e->handler = strdup(w->handler);
    e->bytes = malloc(n_bytes ? n_bytes : 1);
    if (!e->when || !e->pool || !e->handler || !e->bytes) {
        entry_free(e);
        return NULL;
    }
    memcpy(e->name, w->name.data, w->name.len);
    copy_bytes(e, w);
    e->cron = w->cron ? *w->cron : (struct cron){.minutes = 0};
    e->every_ms = w->every_ms;
    e->misfire = w->misfire;
    e->overlap = w->overlap;
    e->base_ns = clock_now();
    return e;
}

static void drop(struct hearthd *d, struct timetable_entry *e) {
    d->timetable->n--;
    d->timetable->bytes -= e->n_bytes;
    list_del(&e->node);
    entry_free(e);
}

int timetable_add(struct hearthd *d, const struct timetable_words *w, bool replace) {
    struct timetable *t = d->timetable;
    if (!crontab_is_name(w->name.data, w->name.len)) {
        return -EINVAL;
    }
    struct timetable_entry *old = timetable_find(d, w->name.data, w->name.len);
    if (old && !replace) {
        return -EEXIST;
    }
    size_t n_bytes = bytes_of(w), freed = old ? old->n_bytes : 0;
    if ((!old && t->n == TIMETABLE_MAX) || n_bytes > TIMETABLE_BYTES ||
        t->bytes - freed + n_bytes > TIMETABLE_BYTES) {
        return -ENOSPC;
    }
    struct timetable_entry *e = entry_new(w, n_bytes);
    if (!e) {
        return -ENOMEM;
    }
    e->next_ms = timetable_after(e, wall_now());
    if (!e->next_ms) {
        entry_free(e);
        return -ENOENT;
    }
    if (old) {
        drop(d, old);
    }
    struct list *before = &t->entries;
    list_for_each (it, &t->entries) {
        if (strcmp(list_entry(it, struct timetable_entry, node)->name, e->name) > 0) {
            before = it;
            break;
        }
    }
    list_link(before, &e->node);
    t->n++;
    t->bytes += n_bytes;
    changed(d);
    return 0;
}

struct timetable_entry *timetable_find(struct hearthd *d, const char *name, size_t len) {
    list_for_each (it, &d->timetable->entries) {
        struct timetable_entry *e = list_entry(it, struct timetable_entry, node);
        if (strlen(e->name) == len && memcmp(e->name, name, len) == 0) {
            return e;
        }
    }
    return NULL;
}

void timetable_delete(struct hearthd *d, struct timetable_entry *e) {
    drop(d, e);
    changed(d);
}

void timetable_pause(struct hearthd *d, struct timetable_entry *e, bool on) {
    if (e->paused && !on) {
        e->next_ms = timetable_after(e, wall_now()); /* what came meanwhile was not missed */
    }
    e->paused = on;
    changed(d);
}

uint32_t timetable_count(const struct hearthd *d) {
    return d->timetable->n;
}

void timetable_each(struct hearthd *d, bool (*fn)(void *arg, struct timetable_entry *e),
                    void *arg) {
    list_for_each (it, &d->timetable->entries) {
        if (!fn(arg, list_entry(it, struct timetable_entry, node))) {
            return;
        }
    }
}

/* ---- the configuration ---- */

/* What follows from the pool's keys, and may change with them. */
static void take_defaults(struct task_spec *spec, const struct pool_config *p) {
    spec->timeout_ms = p->timeout_ms;
    spec->priority = p->priority;
}

static int add_line(struct hearthd *d, const struct pool_config *p, const char *text,
                    const struct crontab_line *l) {
    struct timetable_words w = {.name = {l->name, strlen(l->name)},
                                .cron = l->every_ms ? NULL : &l->cron,
                                .when = l->when,
                                .every_ms = l->every_ms,
                                .pool = p->name,
                                .handler = l->words[0]};
    _cleanup_free_ struct task_bytes *args = calloc(l->n_words, sizeof(*args));
    if (!args) {
        return -ENOMEM;
    }
    for (uint32_t i = 1; i < l->n_words; i++) {
        args[i - 1] = (struct task_bytes){l->words[i], strlen(l->words[i])};
    }
    w.spec = (struct task_spec){.uid = geteuid(), .args = args, .nargs = l->n_words - 1};
    take_defaults(&w.spec, p);
    int r = timetable_add(d, &w, true);
    if (r == 0) {
        struct timetable_entry *e = timetable_find(d, l->name, strlen(l->name));
        e->line = strdup(text);
        e->listed = true;
        r = e->line ? 0 : -ENOMEM;
    }
    return r;
}

static int configure_line(struct hearthd *d, const struct pool_config *p, const char *text) {
    struct crontab_line l;
    char error[CRON_ERROR];
    int r = crontab_parse(text, &l, error);
    if (r < 0) {
        return r; /* the configuration was checked: the time may have come and gone */
    }
    struct timetable_entry *e = timetable_find(d, l.name, strlen(l.name));
    if (e && e->line && strcmp(e->line, text) == 0 && strcmp(e->pool, p->name) == 0) {
        e->listed = true;
        take_defaults(&e->spec, p);
    } else {
        r = add_line(d, p, text, &l);
    }
    crontab_deinit(&l);
    return r;
}

void timetable_configure(struct hearthd *d) {
    d->timetable->quiet = true;
    list_for_each (it, &d->timetable->entries) {
        list_entry(it, struct timetable_entry, node)->listed = false;
    }
    for (uint32_t i = 0; i < d->config->n_pools; i++) {
        const struct pool_config *p = &d->config->pools[i];
        for (uint32_t k = 0; k < p->schedules.n; k++) {
            int r = configure_line(d, p, p->schedules.v[k]);
            if (r < 0) {
                log_warn(LOG_ABOUT(.pool = p->name), "schedule \"%s\": %s", p->schedules.v[k],
                         strerror(-r));
            }
        }
    }
    list_for_each_safe (it, &d->timetable->entries) {
        struct timetable_entry *e = list_entry(it, struct timetable_entry, node);
        if (e->line && !e->listed) {
            timetable_delete(d, e);
        }
    }
    d->timetable->quiet = false;
    changed(d);
}
