/* SPDX-License-Identifier: MIT */
/* TASK.MSUBMIT and TASK.MAP. The queue's room is checked for all tasks first, so a refusal is the rule before
 * the first one is queued. What can still fail on the way is memory of the segment: then those
 * already queued are taken back. One that a worker has begun by then cannot be undone; it is told
 * to stop and its result is dropped: in no case does the client hear of it.
 *
 * A busy lock stops the work in the middle (-EAGAIN), and so does the turn's bound, so that 100,000 tasks in one go hold
 * nobody else up. The command's words stay in the connection's buffer and are parsed again on a later turn; struct partial says how
 * far it has come. Pushes for tasks that end meanwhile are held back, since the client does not know their ids yet.
 *
 * TASK.MAP's payload is counted first, since n must be known for that check, and cut as the tasks are queued; where the next
 * cut begins is kept in between. How many pieces a task gets is settled at the first turn: the pool may change its size.
 *
 * Fails: replies; -EAGAIN. */
#include "daemon/serve/hold.h"
#include "daemon/serve/partial.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/schedule.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/room.h"
#include "daemon/serve/submit.h"

enum { TURN_TASKS = 4096, CHUNKS_PER_WORKER = 4, PLACE_MAX = 12 /* bytes of ":" and a number */ };

struct partial {
    uint32_t done, n;
    uint64_t chunk;
    size_t at; /* of the payload that is split */
    struct task_ref task[];
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
        const struct task_ref *ref = &c->partial->task[i];
        if (!task_ref_is_older(ref) && tasks_abandon(c->serve->d, ref->idx)) {
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

/* ---- splitting ---- */

/* Where the piece that begins at `at` ends. */
static size_t piece_end(const struct partial_input *in, size_t at) {
    const struct resp_arg *all = in->payload, *d = &in->delimiter;
    const char *found = memmem(all->data + at, all->len - at, d->data, d->len);
    return found ? (size_t)(found - all->data) + d->len : all->len;
}

static size_t chunk_end(const struct partial_input *in, size_t at) {
    for (uint64_t i = 0; i < in->chunk && at < in->payload->len; i++) {
        at = piece_end(in, at);
    }
    return at;
}

void partial_split(const struct pool *p, struct partial_input *in) {
    uint64_t pieces = 0, chunks = (uint64_t)p->config->workers * CHUNKS_PER_WORKER;
    for (size_t at = 0; at < in->payload->len; pieces++) {
        at = piece_end(in, at);
    }
    if (in->chunk == 0) {
        in->chunk = pieces / chunks + (pieces % chunks != 0);
    }
    uint64_t n = pieces == 0 ? 0 : (pieces - 1) / in->chunk + 1;
    in->n = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX; /* for which no queue has room */
}

static struct task_bytes next_payload(struct partial *p, const struct partial_input *in) {
    if (p->chunk == 0) {
        return (struct task_bytes){in->payload[p->done].data, in->payload[p->done].len};
    }
    return (struct task_bytes){in->payload->data + p->at, chunk_end(in, p->at) - p->at};
}

/* ---- queuing ---- */

/* With UNIQUE KEEP each task has a key of its own: the key of all, ':' and its place. out: room for it. */
static struct task_bytes key_of(const struct task_bytes *all, uint32_t i,
                                char out[POLICY_KEY_MAX]) {
    memcpy(out, all->data, all->len);
    int n = snprintf(out + all->len, PLACE_MAX, ":%u", i);
    return (struct task_bytes){out, all->len + (size_t)n};
}

/* Of many that say UNIQUE KEEP: is the i-th there already? */
static bool is_there(struct conn *c, const struct submit_words *w, uint32_t i) {
    char text[POLICY_KEY_MAX];
    uint32_t idx;
    if (w->unique != UNIQUE_KEEP || !policy_has(&w->policy, POLICY_UNIQUE)) {
        return false;
    }
    struct task_bytes key = key_of(&w->policy.unique_key, i, text);
    return schedule_unique(c->serve->d, w->pool, &key, &idx);
}

/* 0 or the reason for a refusal. */
static int check(struct conn *c, const struct submit_words *w, const struct partial_input *in,
                 uint64_t *ret_bytes) {
    struct task_spec spec = w->spec;
    uint64_t bytes = 0;
    uint32_t n = in->n;
    if (w->unique == UNIQUE_KEEP && w->policy.unique_key.len + PLACE_MAX > POLICY_KEY_MAX) {
        return -ENAMETOOLONG;
    }
    for (uint32_t i = 0; i < (in->chunk ? 1 : in->n); i++) {
        bool there = is_there(c, w, i);
        n -= there;
        bytes += there ? 0 : in->payload[i].len;
    }
    spec.payload.len = 0;
    bytes += (uint64_t)n * tasks_bytes(&spec);
    *ret_bytes = bytes;
    if (n == 0) {
        return 0;
    }
    int r = accounts_may_submit(c, n, bytes);
    if (r == 0 && !room_is_ours(c, w->pool)) {
        r = -EBUSY;
    }
    return r < 0 ? r : tasks_room(c->serve->d, w->pool, n, bytes);
}

static int submit_rest(struct conn *c, struct submit_words *w, const struct partial_input *in) {
    struct partial *p = c->partial;
    const struct task_bytes key = w->policy.unique_key;
    char text[POLICY_KEY_MAX];
    for (uint32_t i = 0; p->done < p->n; i++) {
        if (i == TURN_TASKS) {
            return -EAGAIN; /* the other clients come first */
        }
        struct task_ref ref;
        w->spec.payload = next_payload(p, in);
        bool new;
        if (key.len) {
            w->policy.unique_key = key_of(&key, p->done, text);
        }
        int r = submit_task(c, w, &ref, &new);
        w->policy.unique_key = key;
        if (r < 0) {
            return r;
        }
        p->task[p->done] = ref;
        p->done++;
        p->at += w->spec.payload.len;
        c->live += new;
    }
    return 0;
}

static int begin(struct conn *c, const struct partial_input *in) {
    c->partial = calloc(1, sizeof(*c->partial) + in->n * sizeof(c->partial->task[0]));
    if (!c->partial) {
        return -ENOMEM;
    }
    c->partial->n = in->n;
    c->partial->chunk = in->chunk;
    return 0;
}

static void reply_ids(struct conn *c, const struct submit_words *w) {
    const struct partial *p = c->partial;
    size_t start = buf_len(&c->out);
    reply_array(c, p->n);
    for (uint32_t i = 0; i < p->n; i++) {
        char id[TASK_ID_TEXT];
        size_t len = task_id_text(id, p->task[i].id, p->task[i].idx);
        reply_bulk(c, id, len);
    }
    hold_reply(c, start, p->task, p->n);
    for (uint32_t i = 0; i < p->n; i++) {
        submit_attached(c, &p->task[i]);
    }
    for (uint32_t i = 0; w->stream && i < p->n; i++) {
        submit_follow(c, w, p->task[i].idx);
    }
}

int partial_run(struct conn *c, const struct submit_words *words,
                const struct partial_input *input) {
    struct submit_words w = *words;
    struct partial_input in = *input;
    uint64_t bytes = 0;
    int r = c->partial ? 0 : check(c, &w, &in, &bytes);
    if (r == -EBUSY && room_wait(c, &w, in.n, bytes)) {
        return r;
    }
    if (r == 0 && !c->partial) {
        r = begin(c, &in);
    }
    if (r == 0) {
        in.chunk = c->partial->chunk;
        r = submit_rest(c, &w, &in);
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
        reply_ids(c, &w);
    }
    if (c->partial) {
        partial_end(c);
    }
    return 0;
}
