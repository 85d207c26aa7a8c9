/* SPDX-License-Identifier: MIT */
/* TASK.MSUBMIT. The queue's room is checked for all tasks first, so a refusal is the rule before
 * the first one is queued. What can still fail on the way is memory of the segment: then those
 * already queued are taken back. One that a worker has begun by then cannot be undone; it is told
 * to stop and its result is dropped: in no case does the client hear of it.
 *
 * A busy lock stops the work in the middle (-EAGAIN), and so does the turn's bound, so that 100,000 tasks in one go hold
 * nobody else up. The command's words stay in the connection's buffer and are parsed again on a later turn; struct partial says how
 * far it has come. Pushes for tasks that end meanwhile are held back, since the client does not know their ids yet.
 *
 * Fails: replies; -EAGAIN. */
#include "daemon/serve/partial.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "daemon/serve/reply.h"
#include "daemon/serve/room.h"
#include "daemon/serve/submit.h"

enum { TURN_TASKS = 4096 };

struct partial {
    uint32_t done;
    struct {
        uint32_t idx;
        uint64_t id;
    } task[];
};

static void partial_end(struct conn *c) {
    free(c->partial);
    c->partial = NULL;
    if (buf_len(&c->held) > 0) {
        reply_made(c, buf_append(&c->out, buf_head(&c->held), buf_len(&c->held)));
        buf_deinit(&c->held);
        conn_dirty(c);
    }
}

static void take_back(struct conn *c) {
    for (uint32_t i = 0; i < c->partial->done; i++) {
        if (tasks_abandon(c->serve->d, c->partial->task[i].idx)) {
            c->live--;
        }
    }
    buf_deinit(&c->held);
}

void partial_drop(struct conn *c) {
    if (c->partial) {
        take_back(c);
        partial_end(c);
    }
}

/* 0 or the reason for a refusal. */
static int check(struct conn *c, const struct submit_words *w, const struct resp_arg *payloads,
                 uint32_t n, uint64_t *ret_bytes) {
    struct task_spec spec = w->spec;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        bytes += payloads[i].len;
    }
    spec.payload.len = 0;
    bytes += n * tasks_bytes(&spec);
    *ret_bytes = bytes;
    int r = accounts_may_submit(c, n, bytes);
    if (r == 0 && !room_is_ours(c, w->pool)) {
        r = -EBUSY;
    }
    return r < 0 ? r : tasks_room(c->serve->d, w->pool, n, bytes);
}

static int submit_rest(struct conn *c, struct submit_words *w, const struct resp_arg *payloads,
                       uint32_t n) {
    struct partial *p = c->partial;
    for (uint32_t i = 0; p->done < n; i++) {
        if (i == TURN_TASKS) {
            return -EAGAIN; /* the other clients come first */
        }
        struct task_ref ref;
        w->spec.payload = (struct task_bytes){payloads[p->done].data, payloads[p->done].len};
        int r = submit_new(c, w, &ref);
        if (r < 0) {
            return r;
        }
        p->task[p->done].idx = ref.idx;
        p->task[p->done].id = ref.id;
        p->done++;
        c->live++;
    }
    return 0;
}

int partial_run(struct conn *c, const struct submit_words *words, const struct resp_arg *payloads,
                uint32_t n) {
    struct submit_words w = *words;
    uint64_t bytes = 0;
    int r = c->partial ? 0 : check(c, &w, payloads, n, &bytes);
    if (r == -EBUSY && room_wait(c, &w, n, bytes)) {
        return r;
    }
    if (r == 0 && !c->partial) {
        c->partial = calloc(1, sizeof(*c->partial) + n * sizeof(c->partial->task[0]));
        r = c->partial ? 0 : -ENOMEM;
    }
    if (r == 0) {
        r = submit_rest(c, &w, payloads, n);
    }
    if (r == -EAGAIN) {
        return r;
    }
    if (r < 0) {
        if (c->partial) {
            take_back(c);
        }
        submit_refused(c, w.pool, r);
    } else {
        assert(c->partial);
        submit_done(c, &w);
        reply_array(c, n);
        for (uint32_t i = 0; i < n; i++) {
            char id[TASK_ID_TEXT];
            size_t len = task_id_text(id, c->partial->task[i].id, c->partial->task[i].idx);
            reply_bulk(c, id, len);
        }
        for (uint32_t i = 0; w.stream && i < n; i++) {
            submit_follow(c, &w, c->partial->task[i].idx);
        }
    }
    if (c->partial) {
        partial_end(c);
    }
    return 0;
}
