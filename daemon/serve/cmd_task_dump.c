/* SPDX-License-Identifier: MIT */
/* TASK.SCAN and TASK.DUMP: tasks that have not ended, in the words in which TASK.SUBMIT would make them again: for `hearth dump`, which
 * carries them to another daemon. What is not named by the submitter is not named here either: the other daemon's pool has it.
 *
 * Left out, since they are of this daemon alone: the connection that OWNED names, and the name of a schedule. Times that are
 * left are told as of now.
 *
 * Fails: replies. */
#include <string.h>

#include "daemon/schedule.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/status.h"
#include "lib/base/clock.h"
#include "lib/base/num.h"
#include "lib/shm/adopt.h"

enum { SCAN_MAX = 1000, SCAN_LOOK = 65536 };

int cmd_TASK_SCAN(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct hearthd *d = c->serve->d;
    struct task_ref found[SCAN_MAX];
    uint64_t from, count = SCAN_MAX;
    uint32_t n = 0, looks = 0, idx = 0;
    if (num_u64(argv[1].data, argv[1].len, &from) < 0 || from > UINT32_MAX) {
        reply_error(c, "ERR invalid cursor");
        return 0;
    }
    if (argc != 2 && (argc != 4 || !resp_is(&argv[2], "COUNT"))) {
        reply_syntax(c);
        return 0;
    }
    if (argc == 4 && (num_u64(argv[3].data, argv[3].len, &count) < 0 || count == 0)) {
        reply_error(c, "ERR count is not a positive integer");
        return 0;
    }
    count = count < SCAN_MAX ? count : SCAN_MAX;
    bool more = task_next_used(&d->shm, (uint32_t)from, &idx) == 0;
    for (; more && n < count && looks < SCAN_LOOK; looks++) {
        struct task_view v;
        if (task_view(&d->shm, idx, &v) == 0 && tasks_is_live(d, idx, v.id)) {
            found[n++] = (struct task_ref){.idx = idx, .id = v.id};
        }
        more = task_next_used(&d->shm, idx + 1, &idx) == 0;
    }
    char text[TASK_ID_TEXT];
    reply_array(c, 2);
    reply_bulk(c, text, num_put_u64(text, more ? idx : 0));
    reply_array(c, n);
    for (uint32_t i = 0; i < n; i++) {
        reply_bulk(c, text, task_id_text(text, found[i].id, found[i].idx));
    }
    return 0;
}

/* ---- one task ---- */

/* Words, and how many there are of them: the reply has to know before. */
struct words {
    struct buf bytes;
    uint32_t n;
    int r; /* of the first that failed */
};

static void put(struct words *w, const void *data, size_t len) {
    w->n++;
    w->r = w->r < 0 ? w->r : resp_put_bulk(&w->bytes, data, len);
}

static void put_text(struct words *w, const char *text) {
    put(w, text, strlen(text));
}

static void put_number(struct words *w, const char *name, uint64_t v) {
    char digits[20];
    put_text(w, name);
    put(w, digits, num_put_u64(digits, v));
}

static void put_span(struct words *w, const char *name, uint64_t at_ns) {
    uint64_t now = clock_now();
    put_number(w, name, at_ns > now ? (at_ns - now) / NS_PER_MS : 0);
}

static void put_retries(struct words *w, const struct policy *p) {
    char kinds[64] = "";
    for (uint32_t i = 0; i < RETRY_KINDS; i++) {
        if (p->retry_on >> i & 1) {
            strcat(kinds, kinds[0] ? "," : "");
            strcat(kinds, retry_kind_names[i]);
        }
    }
    if (policy_has(p, POLICY_RETRIES)) {
        put_number(w, "RETRY", p->retries);
    }
    if (policy_has(p, POLICY_RETRY_ON) && kinds[0]) {
        put_text(w, "ON");
        put_text(w, kinds);
    }
    if (policy_has(p, POLICY_BACKOFF)) {
        put_number(w, "BACKOFF", p->backoff_ms);
    }
    if (policy_has(p, POLICY_BACKOFF_MAX)) {
        put_number(w, "MAX", p->backoff_max_ms);
    }
}

static void put_after(struct words *w, const struct policy *p) {
    static const char *const modes[] = {
        [AFTER_OK] = "OK", [AFTER_ANY] = "ANY", [AFTER_FAILED] = "FAILED"};
    struct buf ids = BUF_INIT;
    int r = 0;
    if (p->after_mode > AFTER_FAILED) {
        return;
    }
    for (size_t i = 0; i < p->after.len / sizeof(struct policy_after); i++) {
        struct policy_after on;
        char text[TASK_ID_TEXT];
        memcpy(&on, (const char *)p->after.data + i * sizeof(on), sizeof(on));
        task_id_text(text, on.id, on.idx);
        r = r < 0 ? r : buf_printf(&ids, "%s%s", i ? "," : "", text);
    }
    if (policy_has(p, POLICY_AFTER_GROUP)) {
        r = r < 0 ? r
                  : buf_printf(&ids, "group:%.*s", (int)p->after_group.len,
                               (const char *)p->after_group.data);
    }
    w->r = w->r < 0 ? w->r : r;
    if (w->r == 0) {
        put_text(w, "AFTER");
        put(w, buf_head(&ids), buf_len(&ids));
        put_text(w, modes[p->after_mode]);
    }
    buf_deinit(&ids);
}

static void put_keys(struct words *w, const struct policy *p) {
    if (policy_has(p, POLICY_LIMIT_KEY)) {
        char digits[20];
        put_text(w, "LIMIT");
        put(w, p->limit_key.data, p->limit_key.len);
        put(w, digits, num_put_u64(digits, p->limit));
    }
    if (policy_has(p, POLICY_AFTER) || policy_has(p, POLICY_AFTER_GROUP)) {
        put_after(w, p);
    }
    if (policy_has(p, POLICY_GROUP)) {
        put_text(w, "GROUP");
        put(w, p->group.data, p->group.len);
    }
    if (policy_has(p, POLICY_UNIQUE)) {
        put_text(w, "UNIQUE");
        put(w, p->unique_key.data, p->unique_key.len);
        put_text(w, policy_has(p, POLICY_UNIQUE_KEEP) ? "KEEP" : "REJECT");
    }
}

static void put_options(struct hearthd *d, struct words *w, const struct task_view *v) {
    const struct pool_config *pool = d->pools[v->pool].config;
    uint64_t now = clock_now();
    struct policy p;
    policy_get(&v->policy, pool, &p);
    if (v->timeout_ms != pool->timeout_ms) {
        put_number(w, "TIMEOUT", v->timeout_ms);
    }
    if (v->priority != pool->priority) {
        put_number(w, "PRIORITY", v->priority);
    }
    if (p.due_ns > now) {
        put_number(w, "AT", clock_wall_ms() + (p.due_ns - now) / NS_PER_MS);
    }
    if (p.expire_ns && v->attempt == 0) {
        put_span(w, "EXPIRE", p.expire_ns);
    }
    if (p.deadline_ns) {
        put_span(w, "DEADLINE", p.deadline_ns);
    }
    if (policy_has(&p, POLICY_SOFT)) {
        put_number(w, "SOFT", p.soft_ms);
    }
    if (policy_has(&p, POLICY_MEMORY)) {
        put_number(w, "MEMORY", p.memory);
    }
    if (policy_has(&p, POLICY_DURABLE)) {
        put_text(w, "DURABLE");
    }
    put_retries(w, &p);
    put_keys(w, &p);
}

static void put_args(struct words *w, const struct task_view *v) {
    struct task_bytes arg;
    for (size_t at = 0; w->n < v->nargs && task_arg(v, &at, &arg) == 0;) {
        put(w, arg.data, arg.len);
    }
}

static void reply_words(struct conn *c, const char *name, struct words *w) {
    reply_text(c, name);
    reply_array(c, w->n);
    if (w->n > 0) {
        reply_made(c,
                   w->r < 0 ? w->r : buf_append(&c->out, buf_head(&w->bytes), buf_len(&w->bytes)));
    }
    buf_deinit(&w->bytes);
}

int cmd_TASK_DUMP(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct hearthd *d = c->serve->d;
    struct task_view v;
    uint32_t idx;
    if (!status_look_up(c, &argv[1], &idx) || !status_view(c, idx, &v)) {
        return 0;
    }
    if (!status_is_ours(c, idx)) {
        reply_error(c, "NOPERM this task is another user's");
        return 0;
    }
    if (tasks_is_ended(d, idx) || v.pool >= d->n_pools) {
        reply_null(c);
        return 0;
    }
    const struct pool *p = &d->pools[v.pool];
    struct words args = {.n = 0}, options = {.n = 0};
    put_args(&args, &v);
    put_options(d, &options, &v);
    reply_map(c, 6);
    reply_field_text(c, "state", task_state_names[v.state]);
    reply_field_text(c, "pool", p->config->name);
    reply_field_text(c, "handler", v.handler < p->n_handlers ? p->handlers[v.handler] : "");
    reply_text(c, "payload");
    reply_bulk(c, v.payload.data, v.payload.len);
    reply_words(c, "args", &args);
    reply_words(c, "options", &options);
    return 0;
}
