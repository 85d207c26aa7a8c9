/* SPDX-License-Identifier: MIT */
/* Telling the end of a task without being asked again. A message on a channel is one line, "<id>
 * <status> <cause>\n", and then the bytes of the result; a push has the same as separate values.
 * Large results are sent from where they lie.
 *
 * A task's end counts as delivered (and its result may be forgotten early) when its submitter was
 * pushed it, or somebody listened to exactly its channel or its submitter's. Who listens by a
 * pattern merely watches.
 *
 * The task that has just answered a TASK.CALL is not pushed to the caller once more.
 *
 * Fails: a client for which there is no memory is marked broken and closed; the others are served.
 */
#include "daemon/serve/notify_push.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/serve/end.h"
#include "daemon/serve/events_push.h"
#include "daemon/serve/follow.h"
#include "daemon/serve/group.h"
#include "daemon/serve/pubsub.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/status.h"

#define TASK_CHANNEL  "task:"
#define TASKS_CHANNEL "tasks:"

static bool begins(const struct resp_arg *a, const char *with) {
    size_t n = strlen(with);
    return a->len >= n && memcmp(a->data, with, n) == 0;
}

bool notify_is_reserved(const struct resp_arg *channel) {
    return begins(channel, TASK_CHANNEL) || begins(channel, TASKS_CHANNEL) ||
           begins(channel, EVENTS_CHANNEL) || begins(channel, GROUP_CHANNEL);
}

struct message notify_message(struct hearthd *d, uint32_t idx, const struct task_view *v,
                              bool result, char head[NOTIFY_HEAD_MAX]) {
    char id[TASK_ID_TEXT], cause[END_CAUSE];
    task_id_text(id, v->id, idx);
    end_cause(d, idx, v, cause);
    int n = snprintf(head, NOTIFY_HEAD_MAX, "%s %s %s\n", id, task_state_names[v->state], cause);
    struct message m = {.head = {head, (size_t)n}, .idx = idx};
    if (result && v->state == TASK_DONE) {
        m.body = v->output;
    }
    return m;
}

static bool push(struct conn *c, uint32_t idx, const struct task_view *v) {
    char id[TASK_ID_TEXT];
    if (!accounts_may_push(c)) {
        return false;
    }
    struct buf *to = conn_push_buf(c);
    size_t len = task_id_text(id, v->id, idx);
    int r = resp_put_push(to, 3, 5);
    r = r < 0 ? r : resp_put_text(to, "task.done");
    r = r < 0 ? r : resp_put_bulk(to, id, len);
    r = r < 0 ? r : end_put(c, to, idx, v);
    reply_made(c, r);
    conn_dirty(c);
    return true;
}

/* ---- tasks that another connection has submitted, one that was lost perhaps ---- */

struct told {
    struct task_waiter waiter;
    struct list in_conn;
    struct conn *conn;
};

static void told_free(struct told *t) {
    tasks_unwait(&t->waiter);
    list_del(&t->in_conn);
    free(t);
}

static void told_ended(struct task_waiter *w, uint32_t idx, const struct task_view *v) {
    struct told *t = container_of(w, struct told, waiter);
    struct conn *c = t->conn;
    told_free(t);
    if (c->proto == 3 && !(c->notify && v->client == c->id) && push(c, idx, v)) {
        status_told(c, idx);
    }
}

static bool is_told(const struct task_waiter *w, const void *conn) {
    return w->ended == told_ended && container_of(w, struct told, waiter)->conn == conn;
}

int notify_task(struct conn *c, uint32_t idx) {
    struct hearthd *d = c->serve->d;
    struct task_view v;
    if (tasks_is_ended(d, idx)) {
        if (tasks_view(d, idx, &v) == 0 && push(c, idx, &v)) {
            status_told(c, idx);
        }
        return 0;
    }
    if (tasks_waiter(d, idx, is_told, c)) {
        return 0;
    }
    struct told *t = calloc(1, sizeof(*t));
    if (!t) {
        return -ENOMEM;
    }
    *t = (struct told){.waiter.ended = told_ended, .conn = c};
    list_init(&t->waiter.node);
    list_append(&c->told, &t->in_conn);
    tasks_wait(d, idx, &t->waiter);
    return 0;
}

void notify_conn_ends(struct conn *c) {
    while (!list_empty(&c->told)) {
        told_free(list_first(&c->told, struct told, in_conn));
    }
}

static bool publish(struct serve *s, uint32_t idx, const struct task_view *v) {
    char head[NOTIFY_HEAD_MAX], name[64];
    uint32_t exact_task, exact_client;
    struct message m = notify_message(s->d, idx, v, true, head);
    char id[TASK_ID_TEXT];
    task_id_text(id, v->id, idx);
    int n = snprintf(name, sizeof(name), TASK_CHANNEL "%s", id);
    pubsub_publish(s, &(struct resp_arg){name, (size_t)n}, &m, &exact_task);
    n = snprintf(name, sizeof(name), TASKS_CHANNEL "%llu", (unsigned long long)v->client);
    pubsub_publish(s, &(struct resp_arg){name, (size_t)n}, &m, &exact_client);
    return exact_task + exact_client > 0;
}

bool notify_ended(struct hearthd *d, uint32_t idx, const struct task_view *v) {
    struct serve *s = d->serve;
    bool delivered = false;
    struct conn *c = accounts_find(s, v->client);
    if (c) {
        c->live--;
        if (c->notify && c->proto == 3 && s->answered_idx != idx) {
            delivered = push(c, idx, v);
        }
    }
    s->answered_idx = UINT32_MAX;
    if (!pubsub_idle(s)) {
        delivered |= publish(s, idx, v);
    }
    return delivered;
}

void notify_subscribed(struct conn *c, const struct resp_arg *channel, struct follow **place) {
    struct hearthd *d = c->serve->d;
    size_t skip = strlen(TASK_CHANNEL), tail = strlen(STREAM_CHANNEL), len = channel->len - skip;
    uint32_t idx;
    struct task_view v;
    if (begins(channel, GROUP_CHANNEL)) {
        group_subscribed(c, channel);
    }
    if (!begins(channel, TASK_CHANNEL)) {
        return;
    }
    bool stream =
        len > tail && memcmp(channel->data + channel->len - tail, STREAM_CHANNEL, tail) == 0;
    if (tasks_find(d, channel->data + skip, len - (stream ? tail : 0), &idx) < 0) {
        return;
    }
    if (!tasks_is_ended(d, idx)) {
        if (stream) {
            follow_channel(c, place, idx);
        }
        return; /* its end will be published */
    }
    if (tasks_view(d, idx, &v) < 0) {
        return;
    }
    if (stream) {
        follow_replay(c, idx, v.id, false);
    }
    char head[NOTIFY_HEAD_MAX];
    struct message m = notify_message(d, idx, &v, !stream, head);
    pubsub_send(c, channel, &m);
    if (!stream) {
        tasks_fetched(d, idx);
    }
}
