/* SPDX-License-Identifier: MIT */
/* SCHEDULE.*: tasks submitted by the clock (daemon/timetable.h). A schedule belongs to the user who
 * made it, and its tasks are his; he, root, the daemon's own user and who has the role admin may
 * change it. What a task of it is like is read by the same words as TASK.SUBMIT's.
 *
 * Fails: replies. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/serve/dispatch.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/roles.h"
#include "daemon/serve/submit.h"
#include "daemon/timetable.h"
#include "lib/base/clock.h"
#include "lib/base/num.h"

enum { MAIN_FIELDS = 10, UPCOMING = 5 };
#define EVERY_MAX (UINT64_C(366) * 86400 * 1000)

/* ---- adding ---- */

static bool read_every(struct conn *c, const struct resp_arg *a, struct timetable_words *w,
                       char when[CRON_ERROR]) {
    if (num_u64(a->data, a->len, &w->every_ms) < 0 || w->every_ms < TIMETABLE_EVERY_MIN ||
        w->every_ms > EVERY_MAX) {
        reply_errorf(c, "ERR every is not a number of milliseconds from %d to %llu",
                     TIMETABLE_EVERY_MIN, (unsigned long long)EVERY_MAX);
        return false;
    }
    snprintf(when, CRON_ERROR, "every %llu ms", (unsigned long long)w->every_ms);
    return true;
}

static bool read_cron(struct conn *c, const struct resp_arg *a, struct cron *cron,
                      char when[CRON_ERROR]) {
    char error[CRON_ERROR];
    if (a->len >= CRON_ERROR || memchr(a->data, '\0', a->len) ||
        cron_parse(a->data, a->len, cron, error) < 0) {
        reply_errorf(c, "ERR not a time: %s", a->len >= CRON_ERROR ? "it is too long" : error);
        return false;
    }
    snprintf(when, CRON_ERROR, "%.*s", (int)a->len, a->data);
    return true;
}

/* Our own pairs stand at the end, behind the task's. */
static void read_tail(const struct resp_arg *argv, uint32_t *argc, uint32_t least,
                      struct timetable_words *w) {
    while (*argc >= least + 2) {
        const struct resp_arg *word = &argv[*argc - 2], *value = &argv[*argc - 1];
        bool found = false;
        for (int i = 0; i < MISFIRES && resp_is(word, "MISFIRE") && !found; i++) {
            found = resp_is(value, misfire_names[i]);
            w->misfire = found ? (enum misfire)i : w->misfire;
        }
        if (resp_is(word, "OVERLAP") && (resp_is(value, "SKIP") || resp_is(value, "ALLOW"))) {
            found = true;
            w->overlap = resp_is(value, "ALLOW");
        }
        if (!found) {
            return;
        }
        *argc -= 2;
    }
}

static bool may_change(struct conn *c, const struct timetable_entry *e, const char *command) {
    if (e->line && (strcmp(command, "schedule.del") == 0 || strcmp(command, "schedule.add") == 0)) {
        reply_errorf(c, "ERR schedule '%s' is the configuration's", e->name);
        return false;
    }
    if (e->spec.uid == c->uid || (c->roles & ROLE_ADMIN)) {
        return true;
    }
    roles_refuse(c, command);
    return false;
}

static void reply_added(struct conn *c, int r) {
    switch (r) {
    case 0:
        reply_ok(c);
        break;
    case -EEXIST:
        reply_error(c, "EXISTS there is a schedule of this name");
        break;
    case -EINVAL:
        reply_errorf(c, "ERR a name has 1 to %d of a-z, A-Z, 0-9, _ . : and -", CRONTAB_NAME);
        break;
    case -ENOENT:
        reply_error(c, "ERR not a time: it never comes");
        break;
    case -ENOSPC:
        reply_errorf(c, "BUSY there are too many schedules, or too large ones: %d, %d MiB",
                     TIMETABLE_MAX, TIMETABLE_BYTES >> 20);
        break;
    default:
        reply_error(c, "OOM the daemon is out of memory");
    }
}

int cmd_SCHEDULE_ADD(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct hearthd *d = c->serve->d;
    struct timetable_words w = {.name = {argv[1].data, argv[1].len}};
    struct cron cron;
    struct submit_words task;
    char when[CRON_ERROR];
    uint32_t at = 3;
    bool every = resp_is(&argv[2], "EVERY");
    if (every ? !read_every(c, &argv[at++], &w, when) : !read_cron(c, &argv[2], &cron, when)) {
        return 0;
    }
    bool replace = resp_is(&argv[at], "REPLACE");
    at += replace;
    if (argc < at + 3) {
        reply_syntax(c);
        return 0;
    }
    read_tail(argv, &argc, at + 3, &w);
    /* As if the pool were the first word behind the command. */
    if (!submit_parse(c, argv + at - 1, argc - (at - 1), 4, &task)) {
        return 0;
    }
    const uint32_t never = 1u << POLICY_UNIQUE | 1u << POLICY_AFTER | 1u << POLICY_AFTER_GROUP |
                           1u << POLICY_GROUP | 1u << POLICY_OWNED;
    if ((task.policy.set & never) || task.stream || task.last) {
        reply_error(
            c, "ERR a schedule's task has no UNIQUE (see OVERLAP), AFTER, GROUP, OWNED, STREAM");
        return 0;
    }
    const struct timetable_entry *old = timetable_find(d, argv[1].data, argv[1].len);
    if (old && replace && !may_change(c, old, "schedule.add")) {
        return 0;
    }
    w.cron = every ? NULL : &cron;
    w.when = when;
    w.pool = task.pool->config->name;
    w.handler = task.pool->handlers[task.spec.handler];
    w.spec = task.spec;
    w.spec.client = 0;
    w.spec.payload = (struct task_bytes){argv[at + 2].data, argv[at + 2].len};
    w.policy = task.policy;
    reply_added(c, timetable_add(d, &w, replace));
    return 0;
}

/* ---- looking ---- */

static struct timetable_entry *entry_arg(struct conn *c, const struct resp_arg *a) {
    struct timetable_entry *e = timetable_find(c->serve->d, a->data, a->len);
    if (!e) {
        reply_errorf(c, "NOSCHEDULE no such schedule '%.*s'",
                     (int)strnlen(a->data, a->len < CRONTAB_NAME ? a->len : CRONTAB_NAME), a->data);
    }
    return e;
}

static void reply_main_fields(struct conn *c, const struct timetable_entry *e) {
    char id[TASK_ID_TEXT] = "";
    if (e->last.id) {
        task_id_text(id, e->last.id, e->last.idx);
    }
    reply_field_text(c, "name", e->name);
    reply_field_text(c, "when", e->when);
    reply_field_text(c, "pool", e->pool);
    reply_field_text(c, "handler", e->handler);
    reply_field_int(c, "next_ms", e->paused ? 0 : e->next_ms);
    reply_field_int(c, "last_ms", e->last_ms);
    reply_field_text(c, "last_task", id);
    reply_field_int(c, "runs", (int64_t)e->count.runs);
    reply_field_int(c, "skipped",
                    (int64_t)(e->count.overlapped + e->count.missed + e->count.refused));
    reply_field_text(c, "paused", e->paused ? "yes" : "");
}

static bool reply_one(void *arg, struct timetable_entry *e) {
    struct conn *c = arg;
    reply_map(c, MAIN_FIELDS);
    reply_main_fields(c, e);
    return true;
}

int cmd_SCHEDULE_LIST(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    reply_array(c, timetable_count(c->serve->d));
    timetable_each(c->serve->d, reply_one, c);
    return 0;
}

int cmd_SCHEDULE_INFO(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    const struct timetable_entry *e = entry_arg(c, &argv[1]);
    (void)argc;
    if (!e) {
        return 0;
    }
    int64_t times[UPCOMING], at = e->next_ms;
    uint32_t n = 0;
    for (; n < UPCOMING && at; at = timetable_after(e, at)) {
        times[n++] = at;
    }
    reply_map(c, MAIN_FIELDS + 10);
    reply_main_fields(c, e);
    reply_field_text(c, "misfire", misfire_names[e->misfire]);
    reply_field_text(c, "overlap", e->overlap ? "allow" : "skip");
    reply_field_int(c, "uid", e->spec.uid);
    reply_field_text(c, "configured", e->line ? "yes" : "");
    reply_field_int(c, "payload_bytes", (int64_t)e->spec.payload.len);
    reply_field_int(c, "overlapped", (int64_t)e->count.overlapped);
    reply_field_int(c, "missed", (int64_t)e->count.missed);
    reply_field_int(c, "refused", (int64_t)e->count.refused);
    reply_field_text(c, "last_error", e->error);
    reply_text(c, "upcoming_ms");
    reply_array(c, n);
    for (uint32_t i = 0; i < n; i++) {
        reply_int(c, times[i]);
    }
    return 0;
}

/* ---- steering ---- */

int cmd_SCHEDULE_RUN(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct hearthd *d = c->serve->d;
    struct timetable_entry *e = entry_arg(c, &argv[1]);
    struct task_ref ref;
    (void)argc;
    if (!e || !may_change(c, e, "schedule.run")) {
        return 0;
    }
    struct pool *p = hearthd_pool(d, e->pool, strlen(e->pool));
    int r = timetable_run(d, e, &ref);
    if (r == 0) {
        char id[TASK_ID_TEXT];
        size_t len = task_id_text(id, ref.id, ref.idx);
        reply_bulk(c, id, len);
    } else if (r == -EAGAIN) {
        return r;
    } else if (r == -ENOENT || !p) {
        reply_errorf(c, "NOHANDLER pool '%s' has no handler '%s'", e->pool, e->handler);
    } else if (r == -EDQUOT) {
        reply_errorf(c, "BUSY user %u is over a limit", (unsigned)e->spec.uid);
    } else {
        submit_refused(c, p, r);
    }
    return 0;
}

static int set_paused(struct conn *c, const struct resp_arg *a, bool on) {
    struct timetable_entry *e = entry_arg(c, a);
    if (e && may_change(c, e, on ? "schedule.pause" : "schedule.resume")) {
        timetable_pause(c->serve->d, e, on);
        reply_ok(c);
    }
    return 0;
}

int cmd_SCHEDULE_PAUSE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    return set_paused(c, &argv[1], true);
}

int cmd_SCHEDULE_RESUME(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    return set_paused(c, &argv[1], false);
}

int cmd_SCHEDULE_DEL(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct hearthd *d = c->serve->d;
    int64_t n = 0;
    for (uint32_t i = 1; i < argc; i++) {
        const struct timetable_entry *e = timetable_find(d, argv[i].data, argv[i].len);
        if (e && !may_change(c, e, "schedule.del")) {
            return 0;
        }
    }
    for (uint32_t i = 1; i < argc; i++) {
        struct timetable_entry *e = timetable_find(d, argv[i].data, argv[i].len);
        if (e) {
            timetable_delete(d, e);
            n++;
        }
    }
    reply_int(c, n);
    return 0;
}
