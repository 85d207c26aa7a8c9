/* SPDX-License-Identifier: MIT */
/* TASK.LOG: what a task has told while it runs, as far as it is kept, and what follows.
 *
 * The stream of a command that has ended is not kept, because it all lies in its record: the output, and the end of its
 * standard error. From there it is answered in the same form.
 *
 * Fails: replies. */
#include <errno.h>
#include <string.h>

#include "daemon/serve/dispatch.h"
#include "daemon/serve/follow.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/status.h"
#include "daemon/stream.h"

enum { KEPT_MAX = 64 * 1024 }; /* of a command's output, as of its standard error */

/* Frames are put together aside: how many there are is said before them. */
struct frames {
    struct buf out;
    uint32_t n;
    int error;
};

static void add_frame(void *arg, uint32_t idx, uint64_t id, const struct stream_frame *f) {
    struct frames *to = arg;
    struct stream_progress p = {0};
    size_t skip = f->kind == STREAM_PROGRESS ? sizeof(p) : 0;
    (void)idx;
    (void)id;
    int r = resp_put_array(&to->out, skip ? 4 : 2);
    r = r < 0 ? r : resp_put_text(&to->out, stream_kind_names[f->kind]);
    r = r < 0 ? r : resp_put_bulk(&to->out, (const char *)f->words + skip, f->len - skip);
    if (skip) {
        memcpy(&p, f->words, sizeof(p));
        r = r < 0 ? r : resp_put_int(&to->out, (int64_t)p.done);
        r = r < 0 ? r : resp_put_int(&to->out, (int64_t)p.total);
    }
    to->n++;
    to->error = to->error < 0 ? to->error : r;
}

static void add_bytes(struct frames *to, enum stream_kind kind, const struct task_bytes *b) {
    int r = resp_put_array(&to->out, 2);
    r = r < 0 ? r : resp_put_text(&to->out, stream_kind_names[kind]);
    r = r < 0 ? r : resp_put_bulk(&to->out, b->data, b->len);
    to->n++;
    to->error = to->error < 0 ? to->error : r;
}

static struct task_bytes tail_of(struct task_bytes b) {
    size_t skip = b.len > KEPT_MAX ? b.len - KEPT_MAX : 0;
    return (struct task_bytes){(const char *)b.data + skip, b.len - skip};
}

/* Of a command that has ended. One that failed has left the beginning of its output; an error of ours has put its message
 * there. False: it is none. */
static bool output_of(const struct hearthd *d, const struct task_view *v,
                      struct task_bytes *ret_out, struct task_bytes *ret_err) {
    bool ours = v->cause == CAUSE_ERROR || v->cause == CAUSE_START;
    *ret_out = (struct task_bytes){0};
    if (!ours) {
        *ret_out = tail_of(v->output);
    }
    *ret_err = tail_of(v->log);
    return v->pool < d->n_pools && d->pools[v->pool].config->kind == POOL_EXEC;
}

static void reply_kept(struct conn *c, uint32_t idx, const struct task_view *v) {
    struct hearthd *d = c->serve->d;
    struct frames frames = {.n = 0};
    struct task_bytes out, err;
    if (tasks_is_ended(d, idx) && output_of(d, v, &out, &err)) {
        if (out.len) {
            add_bytes(&frames, STREAM_STDOUT, &out);
        }
        if (err.len) {
            add_bytes(&frames, STREAM_STDERR, &err);
        }
    } else {
        stream_replay(d, idx, v->id, add_frame, &frames);
    }
    reply_array(c, frames.n);
    if (frames.error == 0 && frames.n) {
        frames.error = buf_append(&c->out, buf_head(&frames.out), buf_len(&frames.out));
    }
    reply_made(c, frames.error);
    buf_deinit(&frames.out);
}

static void push_kept(struct conn *c, uint32_t idx, const struct task_view *v) {
    struct task_bytes out, err;
    if (!output_of(c->serve->d, v, &out, &err)) {
        follow_replay(c, idx, v->id, true);
        return;
    }
    if (out.len) {
        follow_push_bytes(c, idx, v->id, STREAM_STDOUT, &out);
    }
    if (err.len) {
        follow_push_bytes(c, idx, v->id, STREAM_STDERR, &err);
    }
}

static void follow(struct conn *c, uint32_t idx, const struct task_view *v) {
    if (c->proto != 3) {
        reply_error(c,
                    "ERR FOLLOW needs RESP3: say HELLO 3 first, or SUBSCRIBE to task:<id>:stream");
        return;
    }
    reply_ok(c);
    if (tasks_is_ended(c->serve->d, idx)) {
        push_kept(c, idx, v);
        follow_push_end(c, idx, v);
    } else if (follow_task(c, idx, true) < 0) {
        c->broken = true;
    }
}

int cmd_TASK_LOG(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct task_view v;
    uint32_t idx;
    bool follows = argc == 3 && resp_is(&argv[2], "FOLLOW");
    if (argc > 3 || (argc == 3 && !follows)) {
        reply_syntax(c);
    } else if (status_look_up(c, &argv[1], &idx) && status_view(c, idx, &v)) {
        follows ? follow(c, idx, &v) : reply_kept(c, idx, &v);
    }
    return 0;
}
