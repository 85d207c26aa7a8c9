/* SPDX-License-Identifier: MIT */
/* What tasks tell while they run, as pushes. They belong to a task of the table, found by its id; or to whoever waits just now:
 * hearth_call(), which does not know its task's id but is the only one whose task is not in the table, or hearth_follow(), which
 * knows no more than the id.
 *
 * Fails: as hearth.h says; a push that makes no sense is no message of ours and goes on to hearth_on_push(). */
#include "client/handle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"

static const char *const kind_names[] = {
    [HEARTH_DATA] = "data",    [HEARTH_DATA_STDOUT] = "stdout",     [HEARTH_DATA_STDERR] = "stderr",
    [HEARTH_DATA_LOG] = "log", [HEARTH_DATA_PROGRESS] = "progress", [HEARTH_DATA_RETRY] = "retry"};

static bool text_is(const struct resp_value *v, const char *text) {
    return value_is_text(v) && v->len == strlen(text) && memcmp(v->data, text, v->len) == 0;
}

static int kind_of(const struct resp_value *v) {
    for (size_t i = 0; i < ARRAY_SIZE(kind_names); i++) {
        if (text_is(v, kind_names[i])) {
            return (int)i;
        }
    }
    return -1;
}

static bool is_live(const struct hearth *h, const char *id, size_t len) {
    return h->live.fn &&
           (h->live.id[0] == 0 || (strlen(h->live.id) == len && memcmp(h->live.id, id, len) == 0));
}

/* Tells whoever it is for. */
static void tell(struct hearth *h, const struct resp_value *id, struct hearth_data *d) {
    struct task *t = table_find(&h->table, id->data, id->len);
    d->id = id->data;
    if (t && t->data_fn) {
        d->ticket = table_ticket(t);
        d->index = t->index;
        t->data_fn(h, d, t->data_arg);
    } else if (is_live(h, id->data, id->len)) {
        h->live.fn(h, d, h->live.arg);
    }
}

bool stream_pushed(struct hearth *h) {
    const struct resp_value *v = h->doc.v, *what = v + 1;
    if (v->count < 4 || !value_is_text(value_next(what))) {
        return false;
    }
    const struct resp_value *id = value_next(what), *a = value_next(id), *b = value_next(a);
    struct hearth_data d = {.kind = HEARTH_DATA_PROGRESS};
    if (text_is(what, "task.progress") && v->count >= 5 && a->type == RESP_INT &&
        b->type == RESP_INT && value_is_text(value_next(b))) {
        d.done = (uint64_t)a->integer;
        d.total = (uint64_t)b->integer;
        d.data = value_next(b)->data;
        d.len = value_next(b)->len;
    } else if (text_is(what, "task.data") && kind_of(a) >= 0 && value_is_text(b)) {
        d.kind = (enum hearth_data_kind)kind_of(a);
        d.data = b->data;
        d.len = b->len;
    } else {
        return text_is(what, "task.data"); /* of a kind that a later daemon knows */
    }
    tell(h, id, &d);
    return true;
}

void stream_ended(struct hearth *h, const char *id, size_t len, const struct hearth_result *r) {
    if (h->live.id[0] && is_live(h, id, len)) {
        h->live.ended = true;
        h->live.end = *r;
        h->live.end.data = "";
        h->live.end.len = 0;
        size_t n = strlen(r->cause);
        n = n < sizeof(h->live.cause) ? n : sizeof(h->live.cause) - 1;
        memcpy(h->live.cause, r->cause, n);
        h->live.cause[n] = 0;
        h->live.end.cause = h->live.cause;
        h->live.end.id = h->live.id;
    }
}

int hearth_follow(struct hearth *h, const char *id, int64_t timeout_ms, hearth_data_fn fn,
                  void *arg, struct hearth_result *ret) {
    const char *const words[] = {"TASK.LOG", id, "FOLLOW"};
    uint64_t deadline =
        timeout_ms < 0 ? UINT64_MAX : clock_now() + (uint64_t)timeout_ms * NS_PER_MS;
    const struct hearth_reply *reply;
    if (!fn || strlen(id) == 0 || strlen(id) > HEARTH_ID_MAX) {
        return result_say(h, fn ? HEARTH_E_NOTASK : -EINVAL, "no such task");
    }
    if (h->entered) {
        return -EDEADLK;
    }
    h->live = (struct live){.fn = fn, .arg = arg};
    memcpy(h->live.id, id, strlen(id) + 1);
    int r = hearth_command(h, 3, words, NULL, &reply);
    if (r == 0 && hearth_reply_type(reply) == HEARTH_REPLY_ERROR) {
        r = result_error(h, h->doc.v);
    }
    r = r == 0 ? dispatch_enter(h) : r;
    if (r == 0) {
        while (r == 0 && !h->live.ended) {
            r = conn_wait(h, deadline);
            r = r == 0 ? dispatch_turn(h) : r;
        }
        r = dispatch_leave(h, r);
    }
    h->live.fn = NULL;
    if (r == 0) {
        *ret = h->live.end;
    }
    return r;
}

int hearth_log(struct hearth *h, const char *id, hearth_data_fn fn, void *arg) {
    const char *const words[] = {"TASK.LOG", id};
    const struct hearth_reply *reply;
    int r = fn ? hearth_command(h, 2, words, NULL, &reply) : -EINVAL;
    if (r != 0) {
        return r;
    }
    const struct resp_value *v = h->doc.v;
    if (v->type != RESP_ARRAY) {
        return result_error(h, v);
    }
    const struct resp_value *frame = v + 1;
    h->entered = true; /* what is being read must stay */
    for (uint32_t i = 0; i < v->count; i++, frame = value_next(frame)) {
        const struct resp_value *kind = frame + 1;
        if (frame->type != RESP_ARRAY || frame->count < 2 || kind_of(kind) < 0) {
            continue;
        }
        const struct resp_value *bytes = value_next(kind);
        struct hearth_data d = {.id = id,
                                .kind = (enum hearth_data_kind)kind_of(kind),
                                .data = bytes->data,
                                .len = bytes->len};
        if (frame->count >= 4) {
            d.done = (uint64_t)value_next(bytes)->integer;
            d.total = (uint64_t)value_next(value_next(bytes))->integer;
        }
        fn(h, &d, arg);
    }
    h->entered = false;
    return 0;
}
