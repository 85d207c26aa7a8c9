/* SPDX-License-Identifier: MIT */
/* Frames of a task's stream on their way to clients. There is one follower per connection and task for pushes, and one per
 * channel task:<id>:stream, whoever listens to it: a channel is as slow as its slowest listener. It is another one than task:<id>,
 * on which exactly one message comes.
 *
 * A connection may be AHEAD bytes behind with its output; then its tasks wait (daemon/stream.c), until it is down to half of
 * that. Data is given to a channel's own listeners only, not to those of a pattern, who would slow tasks down that they do not
 * know of.
 *
 * Fails: -ENOMEM; a client for which a message cannot be made is marked broken. */
#include "daemon/serve/follow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/serve/end.h"
#include "daemon/serve/notify_push.h"
#include "daemon/serve/pubsub.h"
#include "daemon/serve/reply.h"
#include "daemon/stream.h"

enum { AHEAD = 256 * 1024, NAME_MAX_ = 64, HEAD_MAX = TASK_ID_TEXT + 64 };

struct follow {
    struct stream_follower follower;
    struct serve *serve;
    struct conn *conn;     /* of pushes; NULL: of a channel, ... */
    struct follow **place; /* ... which has this pointer to it */
    struct list in_conn;
    uint32_t idx;
    uint64_t id;
    bool end;
};

/* ---- one frame ---- */

static struct task_bytes bytes_of(const struct stream_frame *f) {
    size_t skip = f->kind == STREAM_PROGRESS ? sizeof(struct stream_progress) : 0;
    return (struct task_bytes){(const char *)f->words + skip, f->len - skip};
}

static struct stream_progress progress_of(const struct stream_frame *f) {
    struct stream_progress p;
    memcpy(&p, f->words, sizeof(p));
    return p;
}

static void push(struct conn *c, uint32_t idx, uint64_t id, const struct stream_frame *f) {
    char text[TASK_ID_TEXT];
    bool progress = f->kind == STREAM_PROGRESS;
    if (c->proto != 3 || !accounts_may_push(c)) {
        return;
    }
    struct buf *to = conn_push_buf(c);
    struct task_bytes bytes = bytes_of(f);
    size_t len = task_id_text(text, id, idx);
    int r = resp_put_push(to, 3, progress ? 5 : 4);
    r = r < 0 ? r : resp_put_text(to, progress ? "task.progress" : "task.data");
    r = r < 0 ? r : resp_put_bulk(to, text, len);
    if (progress) {
        struct stream_progress p = progress_of(f);
        r = r < 0 ? r : resp_put_int(to, (int64_t)p.done);
        r = r < 0 ? r : resp_put_int(to, (int64_t)p.total);
    } else {
        r = r < 0 ? r : resp_put_text(to, stream_kind_names[f->kind]);
    }
    r = r < 0 ? r : resp_put_bulk(to, bytes.data, bytes.len);
    reply_made(c, r);
    conn_dirty(c);
}

void follow_push_bytes(struct conn *c, uint32_t idx, uint64_t id, enum stream_kind kind,
                       const struct task_bytes *bytes) {
    char text[TASK_ID_TEXT];
    if (!accounts_may_push(c)) {
        return;
    }
    struct buf *to = conn_push_buf(c);
    size_t len = task_id_text(text, id, idx);
    int r = resp_put_push(to, 3, 4);
    r = r < 0 ? r : resp_put_text(to, "task.data");
    r = r < 0 ? r : resp_put_bulk(to, text, len);
    r = r < 0 ? r : resp_put_text(to, stream_kind_names[kind]);
    r = r < 0 ? r : resp_put_bulk(to, bytes->data, bytes->len);
    reply_made(c, r);
    conn_dirty(c);
}

static struct message make_message(uint32_t idx, uint64_t id, const struct stream_frame *f,
                                   char head[HEAD_MAX]) {
    char text[TASK_ID_TEXT];
    struct message m = {.head = {head, 0}, .body = bytes_of(f), .idx = idx};
    task_id_text(text, id, idx);
    int n;
    if (f->kind == STREAM_PROGRESS) {
        struct stream_progress p = progress_of(f);
        n = snprintf(head, HEAD_MAX, "%s progress %llu %llu\n", text, (unsigned long long)p.done,
                     (unsigned long long)p.total);
    } else if (f->kind == STREAM_RETRY) {
        n = snprintf(head, HEAD_MAX, "%s retry %.*s\n", text, (int)f->len, (const char *)f->words);
        m.body.len = 0;
    } else {
        n = snprintf(head, HEAD_MAX, "%s %s \n", text, stream_kind_names[f->kind]);
    }
    m.head.len = (size_t)n;
    return m;
}

static struct resp_arg channel_of(uint32_t idx, uint64_t id, char name[NAME_MAX_]) {
    char text[TASK_ID_TEXT];
    task_id_text(text, id, idx);
    int n = snprintf(name, NAME_MAX_, "task:%s" STREAM_CHANNEL, text);
    return (struct resp_arg){name, (size_t)n};
}

/* ---- followers ---- */

static struct follow *follow_of(struct stream_follower *f) {
    return container_of(f, struct follow, follower);
}

static bool conn_ready(struct conn *c) {
    if (c->dead || c->overrun || conn_pending(c) + buf_len(&c->held) < AHEAD) {
        return true;
    }
    c->behind = true;
    return false;
}

static bool conn_late(struct conn *c) {
    if (!conn_ready(c)) {
        c->overrun = true;
        conn_dirty(c);
    }
    return true;
}

static bool ready(struct stream_follower *f) {
    struct follow *w = follow_of(f);
    char name[NAME_MAX_];
    struct resp_arg channel = channel_of(w->idx, w->id, name);
    return w->conn ? conn_ready(w->conn) : pubsub_all(w->serve, &channel, conn_ready);
}

static void late(struct stream_follower *f) {
    struct follow *w = follow_of(f);
    char name[NAME_MAX_];
    struct resp_arg channel = channel_of(w->idx, w->id, name);
    w->conn ? conn_late(w->conn) : pubsub_all(w->serve, &channel, conn_late);
}

static void frame(struct stream_follower *f, uint32_t idx, uint64_t id,
                  const struct stream_frame *frame) {
    struct follow *w = follow_of(f);
    char name[NAME_MAX_], head[HEAD_MAX];
    if (w->conn) {
        push(w->conn, idx, id, frame);
        return;
    }
    struct resp_arg channel = channel_of(idx, id, name);
    struct message m = make_message(idx, id, frame, head);
    pubsub_tell(w->serve, &channel, &m);
}

static void follow_free(struct follow *w) {
    if (w->place) {
        *w->place = NULL;
    }
    list_del(&w->in_conn);
    free(w);
}

void follow_push_end(struct conn *c, uint32_t idx, const struct task_view *v) {
    char id[TASK_ID_TEXT], cause[END_CAUSE];
    if (c->proto != 3 || !accounts_may_push(c)) {
        return;
    }
    struct buf *to = conn_push_buf(c);
    size_t len = task_id_text(id, v->id, idx), n = end_cause(c->serve->d, idx, v, cause);
    int r = resp_put_push(to, 3, 5);
    r = r < 0 ? r : resp_put_text(to, "task.done");
    r = r < 0 ? r : resp_put_bulk(to, id, len);
    r = r < 0 ? r : resp_put_text(to, task_state_names[v->state]);
    r = r < 0 ? r : resp_put_null(to, c->proto);
    r = r < 0 ? r : resp_put_bulk(to, cause, n);
    reply_made(c, r);
    conn_dirty(c);
}

static void ended(struct stream_follower *f, uint32_t idx, const struct task_view *v) {
    struct follow *w = follow_of(f);
    struct conn *c = w->conn;
    if (c && v && w->end && !(c->notify && v->client == c->id)) {
        follow_push_end(c, idx, v);
    }
    if (!c && v) {
        char name[NAME_MAX_], head[NOTIFY_HEAD_MAX];
        struct resp_arg channel = channel_of(w->idx, w->id, name);
        struct message m = notify_message(w->serve->d, idx, v, false, head);
        pubsub_tell(w->serve, &channel, &m);
    }
    follow_free(w);
}

static struct follow *follow_new(struct serve *s, uint32_t idx) {
    struct task_view v;
    struct follow *w = task_view(&s->d->shm, idx, &v) == 0 ? calloc(1, sizeof(*w)) : NULL;
    if (w) {
        *w = (struct follow){
            .follower = {.ready = ready, .frame = frame, .late = late, .ended = ended},
            .serve = s,
            .idx = idx,
            .id = v.id};
        list_init(&w->in_conn);
    }
    return w;
}

/* c's own follower of the task; NULL. */
static struct follow *find(struct conn *c, uint32_t idx) {
    if (stream_is_followed(c->serve->d, idx)) {
        list_for_each (it, &c->follows) {
            struct follow *w = list_entry(it, struct follow, in_conn);
            if (w->idx == idx) {
                return w;
            }
        }
    }
    return NULL;
}

int follow_task(struct conn *c, uint32_t idx, bool end) {
    struct follow *w = find(c, idx);
    if (w) {
        w->end |= end;
        return 0;
    }
    w = follow_new(c->serve, idx);
    if (!w) {
        return -ENOMEM;
    }
    w->conn = c;
    w->end = end;
    list_append(&c->follows, &w->in_conn);
    int r = stream_follow(c->serve->d, idx, &w->follower);
    if (r < 0) {
        follow_free(w);
    }
    return r;
}

static void replay_message(void *arg, uint32_t idx, uint64_t id, const struct stream_frame *frame) {
    char name[NAME_MAX_], head[HEAD_MAX];
    struct resp_arg channel = channel_of(idx, id, name);
    struct message m = make_message(idx, id, frame, head);
    pubsub_send(arg, &channel, &m);
}

static void replay_push(void *arg, uint32_t idx, uint64_t id, const struct stream_frame *frame) {
    push(arg, idx, id, frame);
}

void follow_replay(struct conn *c, uint32_t idx, uint64_t id, bool as_push) {
    stream_replay(c->serve->d, idx, id, as_push ? replay_push : replay_message, c);
}

void follow_channel(struct conn *c, struct follow **place, uint32_t idx) {
    struct serve *s = c->serve;
    if (*place) {
        follow_replay(c, idx, (*place)->id, false);
        return;
    }
    struct follow *w = follow_new(s, idx);
    if (!w || stream_follow(s->d, idx, &w->follower) < 0) {
        free(w);
        c->broken = true;
        return;
    }
    w->place = place;
    *place = w;
}

void follow_drop(struct follow *w) {
    if (w) {
        stream_unfollow(w->serve->d, &w->follower);
        follow_free(w);
    }
}

void follow_drained(struct conn *c) {
    if (c->behind && conn_pending(c) + buf_len(&c->held) <= AHEAD / 2) {
        c->behind = false;
        stream_resume(c->serve->d);
    }
}

void follow_conn_ends(struct conn *c) {
    while (!list_empty(&c->follows)) {
        follow_drop(list_first(&c->follows, struct follow, in_conn));
    }
}
