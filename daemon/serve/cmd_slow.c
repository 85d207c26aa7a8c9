/* SPDX-License-Identifier: MIT */
/* TASK.SLOW: the slow log. Fails: replies. */
#include "daemon/serve/dispatch.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/roles.h"
#include "daemon/slow.h"
#include "lib/base/num.h"

static void reply_entry(struct conn *c, const struct slow_entry *e) {
    const struct hearthd *d = c->serve->d;
    const struct pool *p = e->pool < d->n_pools ? &d->pools[e->pool] : NULL;
    char id[TASK_ID_TEXT];
    task_id_text(id, e->id, e->idx);
    reply_map(c, 9);
    reply_field_int(c, "number", (int64_t)e->number);
    reply_field_text(c, "id", id);
    reply_field_text(c, "pool", p ? p->config->name : "?");
    reply_field_text(c, "handler", p && e->handler < p->n_handlers ? p->handlers[e->handler] : "?");
    reply_field_int(c, "attempt", e->attempt);
    reply_field_int(c, "worker_pid", e->worker);
    reply_field_int(c, "time_ms", (int64_t)e->at_ms);
    reply_field_int(c, "run_ms", (int64_t)e->run_ms);
    reply_field_text(c, "where", e->where);
}

int cmd_TASK_SLOW(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct hearthd *d = c->serve->d;
    uint64_t count = 10;
    uint32_t n = 0;
    if (argc == 2 && resp_is(&argv[1], "RESET")) {
        if (!(c->roles & ROLE_ADMIN)) {
            roles_refuse(c, "task.slow|reset");
            return 0;
        }
        slow_clear(d);
        reply_ok(c);
        return 0;
    }
    if (argc == 3 && resp_is(&argv[1], "COUNT")) {
        if (num_u64(argv[2].data, argv[2].len, &count) < 0 || count == 0) {
            reply_error(c, "ERR count is not a positive integer");
            return 0;
        }
    } else if (argc != 1) {
        reply_syntax(c);
        return 0;
    }
    while (n < count && slow_get(d, n)) {
        n++;
    }
    reply_array(c, n);
    for (uint32_t i = 0; i < n; i++) {
        reply_entry(c, slow_get(d, i));
    }
    return 0;
}
