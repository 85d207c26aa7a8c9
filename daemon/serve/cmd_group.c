/* SPDX-License-Identifier: MIT */
/* GROUP.*: groups of tasks (daemon/groups.h). Tasks join by the option GROUP of the submitting
 * commands. A group is its maker's: he and who has the role admin may close and cancel it; anybody
 * who can connect may look at it and wait for it, as for a task.
 *
 * Fails: replies. */
#include "daemon/serve/args.h"
#include "daemon/serve/group.h"

#include <stdio.h>
#include <string.h>

#include "daemon/serve/dispatch.h"
#include "daemon/serve/pubsub.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/roles.h"

enum { HEAD_MAX = GROUP_NAME_MAX + 256 };

static struct task_bytes name_of(const struct resp_arg *a) {
    return (struct task_bytes){a->data, a->len};
}

static struct task_group *group_arg(struct conn *c, const struct resp_arg *a) {
    struct task_bytes name = name_of(a);
    struct task_group *g = groups_find(c->serve->d, &name);
    if (!g) {
        reply_errorf(c, "NOGROUP no such group '%.*s'",
                     (int)strnlen(a->data, a->len < GROUP_NAME_MAX ? a->len : GROUP_NAME_MAX),
                     a->data);
    }
    return g;
}

static bool may_change(struct conn *c, const struct task_group *g, const char *command) {
    if (g->uid == c->uid || (c->roles & ROLE_ADMIN)) {
        return true;
    }
    roles_refuse(c, command);
    return false;
}

static void reply_group(struct conn *c, const struct task_group *g) {
    struct task_bytes name = group_name(g);
    reply_map(c, 8 + TASK_EXPIRED - TASK_DONE + 1);
    reply_text(c, "name");
    reply_bulk(c, name.data, name.len);
    reply_field_int(c, "uid", g->uid);
    reply_field_text(c, "closed", g->closed ? "yes" : "");
    reply_field_text(c, "complete", group_is_complete(g) ? "yes" : "");
    reply_field_int(c, "total", g->total);
    reply_field_int(c, "live", g->live);
    for (uint32_t i = TASK_DONE; i <= TASK_EXPIRED; i++) {
        reply_field_int(c, task_state_names[i], g->ended[i]);
    }
    reply_field_int(c, "created_ms", (int64_t)g->created_ms);
    reply_field_int(c, "ended_ms", (int64_t)g->ended_ms);
}

int cmd_GROUP_INFO(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    const struct task_group *g = group_arg(c, &argv[1]);
    if (g) {
        reply_group(c, g);
    }
    return 0;
}

int cmd_GROUP_CLOSE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct task_group *g = group_arg(c, &argv[1]);
    if (g && may_change(c, g, "group.close")) {
        group_close(c->serve->d, g);
        reply_ok(c);
    }
    return 0;
}

int cmd_GROUP_CANCEL(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct task_group *g = group_arg(c, &argv[1]);
    char who[128];
    if (g && may_change(c, g, "group.cancel")) {
        snprintf(who, sizeof(who), "client %llu, with its group", (unsigned long long)c->id);
        reply_int(c, group_cancel(c->serve->d, g, who));
    }
    return 0;
}

/* ---- waiting ---- */

static void wait_ended(struct group_waiter *w, const struct task_group *g) {
    struct conn *c = container_of(w, struct conn, group);
    reply_group(c, g);
    block_end(c);
}

int cmd_GROUP_WAIT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct task_group *g;
    uint64_t ms;
    if (!args_wait(c, argv + 2, argc - 2, &ms)) {
        return 0;
    }
    g = group_arg(c, &argv[1]);
    if (!g) {
        return 0;
    }
    if (group_is_complete(g)) {
        reply_group(c, g);
    } else if (ms == 0) {
        reply_null_array(c);
    } else if (block_as(c, BLOCK_GROUP, ms) < 0) {
        reply_error(c, "OOM the daemon is out of memory");
    } else {
        c->group.ended = wait_ended;
        group_wait(g, &c->group);
    }
    return 0;
}

/* ---- channels ---- */

/* "<name> ok|failed total=n done=n failed=n ...\n" */
static struct message message_of(const struct task_group *g, char head[HEAD_MAX]) {
    struct task_bytes name = group_name(g);
    size_t n =
        (size_t)snprintf(head, HEAD_MAX, "%.*s %s total=%u", (int)name.len, (const char *)name.data,
                         g->ended[TASK_DONE] == g->total ? "ok" : "failed", g->total);
    for (uint32_t i = TASK_DONE; i <= TASK_EXPIRED; i++) {
        n += (size_t)snprintf(head + n, HEAD_MAX - n, " %s=%u", task_state_names[i], g->ended[i]);
    }
    n += (size_t)snprintf(head + n, HEAD_MAX - n, "\n");
    return (struct message){.head = {head, n}};
}

void group_complete(struct hearthd *d, const struct task_group *g) {
    char channel[sizeof(GROUP_CHANNEL) + GROUP_NAME_MAX], head[HEAD_MAX];
    struct task_bytes name = group_name(g);
    uint32_t exact;
    if (pubsub_idle(d->serve)) {
        return;
    }
    int n = snprintf(channel, sizeof(channel), GROUP_CHANNEL "%.*s", (int)name.len,
                     (const char *)name.data);
    struct message m = message_of(g, head);
    pubsub_publish(d->serve, &(struct resp_arg){channel, (size_t)n}, &m, &exact);
}

void group_subscribed(struct conn *c, const struct resp_arg *channel) {
    size_t skip = strlen(GROUP_CHANNEL);
    struct task_bytes name = {channel->data + skip, channel->len - skip};
    const struct task_group *g = groups_find(c->serve->d, &name);
    char head[HEAD_MAX];
    if (g && group_is_complete(g) && list_empty(&g->news)) {
        struct message m = message_of(g, head);
        pubsub_send(c, channel, &m);
    }
}
