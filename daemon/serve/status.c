/* SPDX-License-Identifier: MIT */
/* Tasks described. Whoever asks about a task has its end delivered first if the segment already knows
 * of it (status_look_up), so that one command never says "done" and the next "not ended".
 *
 * Fails: replies. */
#include "daemon/serve/status.h"

#include <string.h>

#include "daemon/schedule.h"
#include "daemon/serve/end.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/roles.h"
#include "lib/base/clock.h"

enum { SHOWN = 64 };

/* The record of an id, its end delivered if there is one. False: not known, and replied. */
bool status_look_up(struct conn *c, const struct resp_arg *id, uint32_t *ret_idx) {
    struct hearthd *d = c->serve->d;
    uint32_t idx;
    if (tasks_find(d, id->data, id->len, &idx) == 0) {
        tasks_ended(d, idx);
        if (tasks_find(d, id->data, id->len, &idx) == 0) {
            *ret_idx = idx;
            return true;
        }
    }
    reply_errorf(c, "NOTASK no such task '%.*s'%s",
                 (int)strnlen(id->data, id->len < SHOWN ? id->len : SHOWN), id->data,
                 tasks_was_dropped(d, id->data, id->len)
                     ? ": its result is forgotten, there were too many (result_max, result_bytes)"
                     : "");
    return false;
}

/* The view of an ended task; false when it is damaged, and replied. */
bool status_view(struct conn *c, uint32_t idx, struct task_view *ret) {
    if (tasks_view(c->serve->d, idx, ret) == 0) {
        return true;
    }
    reply_error(c, "ERR the task's record is damaged");
    return false;
}

static const char *pool_name(struct hearthd *d, const struct task_view *v) {
    return v->pool < d->n_pools ? d->pools[v->pool].config->name : "?";
}

static const char *handler_name(struct hearthd *d, const struct task_view *v) {
    if (v->pool >= d->n_pools || v->handler >= d->pools[v->pool].n_handlers) {
        return "?";
    }
    return d->pools[v->pool].handlers[v->handler];
}

static int64_t us_between(uint64_t from_ns, uint64_t to_ns) {
    return from_ns && to_ns > from_ns ? (int64_t)((to_ns - from_ns) / 1000) : 0;
}

/* The time of day at which a moment of the monotonic clock was. */
static int64_t wall_ms(uint64_t at_ns) {
    uint64_t now = clock_now();
    return (int64_t)(clock_wall_ms() - (now > at_ns ? (now - at_ns) / NS_PER_MS : 0));
}

/* The same of one that is to come; 0: of none. */
static int64_t later_ms(uint64_t at_ns) {
    uint64_t now = clock_now();
    return at_ns ? (int64_t)(clock_wall_ms() + (at_ns > now ? (at_ns - now) / NS_PER_MS : 0)) : 0;
}

static void reply_failures(struct conn *c, const struct task_view *v,
                           const struct schedule_view *plan) {
    reply_text(c, "failures");
    reply_array(c, plan->n_attempts);
    for (uint32_t i = 0; i < plan->n_attempts; i++) {
        const struct attempt *a = &plan->attempts[i];
        const struct task_view as = {.state = a->state,
                                     .cause = a->cause,
                                     .code = a->code,
                                     .signal = a->signal,
                                     .core = a->core,
                                     .timeout_ms = v->timeout_ms};
        char text[96];
        task_cause_text(&as, text);
        reply_map(c, 5);
        reply_field_int(c, "ended_ms", (int64_t)a->ended_ms);
        reply_field_int(c, "run_ms", a->run_ms);
        reply_field_int(c, "worker_pid", a->pid);
        reply_field_text(c, "state", task_state_names[a->state]);
        reply_field_text(c, "cause_text", text);
    }
}

/* The schedule that has submitted it, or nothing. */
static void reply_schedule(struct conn *c, const struct task_view *v) {
    struct hearthd *d = c->serve->d;
    struct policy p = {0};
    if (v->pool < d->n_pools) {
        policy_get(&v->policy, d->pools[v->pool].config, &p);
    }
    bool has = policy_has(&p, POLICY_SCHEDULE);
    reply_text(c, "schedule");
    reply_bulk(c, has ? p.schedule.data : "", has ? p.schedule.len : 0);
}

void status_reply(struct conn *c, uint32_t idx, const struct task_view *v) {
    struct hearthd *d = c->serve->d;
    char id[TASK_ID_TEXT], cause[END_CAUSE];
    struct schedule_view plan;
    uint64_t now = clock_now();
    bool ended = task_state_is_terminal(v->state);
    uint64_t until = ended ? v->ended_ns : now;
    task_id_text(id, v->id, idx);
    end_cause(d, idx, v, cause);
    schedule_look(d, idx, &plan);
    reply_map(c, 26);
    reply_field_text(c, "id", id);
    reply_field_text(c, "pool", pool_name(d, v));
    reply_field_text(c, "handler", handler_name(d, v));
    reply_field_text(c, "state", task_state_names[v->state]);
    reply_field_int(c, "attempt", v->attempt);
    reply_field_int(c, "kills", v->kills);
    reply_field_int(c, "priority", v->priority);
    reply_field_text(c, "waits_for", plan.why);
    reply_field_int(c, "due_ms", later_ms(plan.due_ns));
    reply_field_int(c, "expire_ms", later_ms(plan.expire_ns));
    reply_field_int(c, "deadline_ms", later_ms(plan.deadline_ns));
    reply_schedule(c, v);
    reply_field_int(c, "worker_pid", v->worker_pid);
    reply_field_int(c, "wait_us",
                    us_between(v->submitted_ns, v->started_ns ? v->started_ns : until));
    reply_field_int(c, "run_us", us_between(v->started_ns, until));
    reply_field_int(c, "user_us", (int64_t)v->user_us);
    reply_field_int(c, "system_us", (int64_t)v->system_us);
    reply_field_int(c, "max_rss_kib", (int64_t)v->rss_kib);
    reply_field_int(c, "submitted_ms", wall_ms(v->submitted_ns));
    reply_field_int(c, "payload_bytes", (int64_t)v->payload.len);
    reply_field_int(c, "result_bytes", v->state == TASK_DONE ? (int64_t)v->output.len : 0);
    reply_field_text(c, "cause", ended ? task_cause_names[v->cause] : "");
    reply_field_int(c, "cause_code", v->cause == CAUSE_SIGNAL ? v->signal : v->code);
    reply_field_text(c, "cause_text", ended ? cause : "");
    reply_text(c, "stderr");
    reply_bulk(c, v->log.data ? v->log.data : "", v->log.len);
    reply_failures(c, v, &plan);
}

void status_reply_short(struct conn *c, uint32_t idx) {
    struct hearthd *d = c->serve->d;
    char id[TASK_ID_TEXT];
    struct task_view v;
    if (task_view(&d->shm, idx, &v) < 0) {
        v = (struct task_view){.pool = UINT32_MAX};
    }
    uint64_t until = task_state_is_terminal(v.state) ? v.ended_ns : clock_now();
    task_id_text(id, v.id, idx);
    reply_map(c, 7);
    reply_field_text(c, "id", id);
    reply_field_text(c, "pool", pool_name(d, &v));
    reply_field_text(c, "handler", handler_name(d, &v));
    reply_field_text(c, "state", task_state_names[v.state]);
    reply_field_int(c, "worker_pid", v.worker_pid);
    reply_field_int(c, "wait_us", us_between(v.submitted_ns, v.started_ns ? v.started_ns : until));
    reply_field_int(c, "run_us", us_between(v.started_ns, until));
}

void status_reply_dead(struct conn *c, uint32_t idx, const struct task_view *v) {
    struct hearthd *d = c->serve->d;
    char id[TASK_ID_TEXT], cause[END_CAUSE];
    task_id_text(id, v->id, idx);
    end_cause(d, idx, v, cause);
    reply_map(c, 8);
    reply_field_text(c, "id", id);
    reply_field_text(c, "pool", pool_name(d, v));
    reply_field_text(c, "handler", handler_name(d, v));
    reply_field_text(c, "state", task_state_names[v->state]);
    reply_field_int(c, "attempt", v->attempt);
    reply_field_int(c, "kills", v->kills);
    reply_field_int(c, "ended_ms", wall_ms(v->ended_ns));
    reply_field_text(c, "cause_text", cause);
}

bool status_is_ours(struct conn *c, uint32_t idx) {
    struct task_view v; /* a damaged record is nobody's */
    return (c->roles & ROLE_ADMIN) ||
           (task_view(&c->serve->d->shm, idx, &v) == 0 && v.uid == (uint32_t)c->uid);
}

void status_told(struct conn *c, uint32_t idx) {
    if (status_is_ours(c, idx)) {
        tasks_fetched(c->serve->d, idx);
    }
}
