/* SPDX-License-Identifier: MIT */
/* Going on after a lost connection, for who has asked for it (hearth_set_reconnect()).
 *
 * What a task needs for that: once its id is known, the id; before, its whole request again, under a key of its own, so that a
 * daemon that had heard the first one starts nothing and answers with that one's id (UNIQUE key KEEP). So each request is kept
 * from when it is made until it is answered.
 *
 *     lost --dispatch_lost()--> the unanswered are put aside, in order; tasks with an id stay as they are
 *          --resume_connect()-> greeted, attached; TASK.NOTIFY ON, TASK.NOTIFY ON id... for those with an id, then what was
 *                               put aside again. Nothing of that is waited for: it is answered like any other request
 *
 * Who waits connects again by himself, with growing pauses, until the time is over; then every callback that is still
 * outstanding is called with HEARTH_DISCONNECTED. What had been asked for beside tasks is not asked again, as it may have
 * been done.
 *
 * Fails: -errno; a task for whose request there is no memory ends HEARTH_DISCONNECTED when the connection is lost. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "client/handle.h"
#include "lib/base/clock.h"

enum { IDS_AT_ONCE = 32, PAUSE_MIN_MS = 5, PAUSE_MAX_MS = 100 };

int hearth_set_reconnect(struct hearth *h, int limit_ms) {
    uint64_t word[2];
    if (limit_ms > 0 && !h->has_path) {
        return result_say(h, -ENOTSUP, "this connection cannot be made again");
    }
    if (limit_ms > 0 && !h->resume.prefix[0]) {
        if (getrandom(word, sizeof(word), 0) != (ssize_t)sizeof(word)) {
            return -errno;
        }
        snprintf(h->resume.prefix, sizeof(h->resume.prefix), "hearth:%016llx%016llx",
                 (unsigned long long)word[0], (unsigned long long)word[1]);
    }
    h->resume.limit_ms = limit_ms > 0 ? (uint32_t)limit_ms : 0;
    return 0;
}

bool resume_may(const struct hearth *h) {
    return h->lost && h->resume.limit_ms && h->lost_for == HEARTH_E_DISCONNECTED &&
           clock_now() < h->lost_ns + h->resume.limit_ms * NS_PER_MS;
}

const char *resume_key(struct hearth *h, const struct hearth_task *task, char out[RESUME_KEY]) {
    for (size_t i = 0; i < task->n_options; i++) {
        if (strcasecmp(task->options[i], "UNIQUE") == 0) {
            return NULL;
        }
    }
    if (!h->resume.limit_ms) {
        return NULL;
    }
    snprintf(out, RESUME_KEY, "%s:%llu", h->resume.prefix, (unsigned long long)h->resume.keys++);
    return out;
}

bool resume_is_kept(const struct hearth_task *task, const char *key) {
    for (size_t i = 0; !key && i + 2 < task->n_options; i++) {
        if (strcasecmp(task->options[i], "UNIQUE") == 0) {
            return strcasecmp(task->options[i + 2], "KEEP") == 0;
        }
    }
    return key != NULL;
}

static int put_aside(struct hearth *h, const struct request *q) {
    struct resume *s = &h->resume;
    if (s->n == s->cap) {
        uint32_t cap = s->cap ? s->cap * 2 : 64;
        struct request *more = realloc(s->unanswered, cap * sizeof(*more));
        if (!more) {
            return -ENOMEM;
        }
        s->unanswered = more;
        s->cap = cap;
    }
    s->unanswered[s->n++] = *q;
    return 0;
}

int resume_expect(struct hearth *h, size_t mark, const struct hearth_task *task, const char *key,
                  const struct request *q) {
    size_t len = buf_len(&h->out) - mark;
    if (h->resume.limit_ms && resume_is_kept(task, key)) {
        q->task->again = malloc(len);
        if (!q->task->again) {
            return -ENOMEM;
        }
        memcpy(q->task->again, buf_head(&h->out) + mark, len);
        q->task->again_len = len;
    }
    if (!h->lost) {
        return command_expect(h, q->kind, q->task, q->n);
    }
    int r = q->task->again ? put_aside(h, q) : HEARTH_E_DISCONNECTED;
    if (r == 0) {
        command_undo(h, mark);
    }
    return r;
}

static void end_request(struct hearth *h, const struct request *q, const char *why) {
    for (struct task *t = q->task, *next; t; t = next) {
        next = q->kind == REQUEST_MANY ? t->next : NULL;
        resume_end(h, t, why);
    }
}

void resume_end(struct hearth *h, struct task *t, const char *why) {
    struct hearth_result r;
    result_init(&r);
    r.status = HEARTH_DISCONNECTED;
    r.cause = why;
    task_end(h, t, &r);
}

void resume_stash(struct hearth *h) {
    while (h->request_count > 0) {
        struct request q = h->requests[h->request_head];
        h->request_head = (h->request_head + 1) & (h->request_cap - 1);
        h->request_count--;
        if (q.kind != REQUEST_SUBMIT && q.kind != REQUEST_MANY) {
            continue;
        }
        if (!q.task->again || put_aside(h, &q) < 0) {
            end_request(h, &q, h->message);
        }
    }
}

void resume_forget(struct hearth *h) {
    free(h->resume.unanswered);
    h->resume.unanswered = NULL;
    h->resume.n = h->resume.cap = 0;
}

/* ---- on the new connection ---- */

static int put_ids(struct hearth *h, struct task *const *tasks, size_t n) {
    size_t mark = buf_len(&h->out);
    int r = command_put_head(h, 2 + n);
    r = r ? r : command_put_text(h, "TASK.NOTIFY");
    r = r ? r : command_put_text(h, "ON");
    for (size_t i = 0; i < n && r == 0; i++) {
        r = command_put_text(h, tasks[i]->id);
    }
    r = r ? r : command_expect(h, REQUEST_FOLLOW, NULL, 0);
    if (r != 0) {
        command_undo(h, mark);
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        r = tasks[i]->cancel ? task_put_cancel(h, tasks[i]) : 0;
    }
    return r;
}

static int put_named(struct hearth *h) {
    struct task *some[IDS_AT_ONCE];
    size_t n = 0;
    uint32_t from = 0;
    int r = 0;
    for (struct task *t; r == 0 && (t = table_from(&h->table, from)); from = t->slot + 1) {
        if (t->id[0]) {
            some[n++] = t;
        }
        if (n == IDS_AT_ONCE) {
            r = put_ids(h, some, n);
            n = 0;
        }
    }
    return r == 0 && n > 0 ? put_ids(h, some, n) : r;
}

static int put_unanswered(struct hearth *h) {
    struct resume *s = &h->resume;
    uint32_t i = 0;
    int r = 0;
    for (; r == 0 && i < s->n; i++) {
        const struct request *q = &s->unanswered[i];
        size_t mark = buf_len(&h->out);
        r = buf_append(&h->out, q->task->again, q->task->again_len);
        r = r ? r : command_expect(h, q->kind, q->task, q->n);
        if (r != 0) {
            command_undo(h, mark);
            i--;
        }
    }
    s->n -= i;
    memmove(s->unanswered, s->unanswered + i, s->n * sizeof(*s->unanswered));
    return r;
}

int resume_put(struct hearth *h) {
    if (h->table.pending == 0) {
        return 0;
    }
    int r = task_put_notify(h);
    r = r ? r : put_named(h);
    r = r || h->resume.n == 0 ? r : put_unanswered(h);
    return r == 0 ? 0 : conn_lose(h, r, "out of memory");
}

int resume_followed(struct hearth *h) {
    const struct resp_value *v = h->doc.v, *id = v + 1;
    if (v->type != RESP_ARRAY) {
        result_error(h, v);
        return HEARTH_E_PROTOCOL;
    }
    for (uint32_t i = 0; i < v->count; i++, id = value_next(id)) {
        struct task *t = value_is_text(id) ? table_find(&h->table, id->data, id->len) : NULL;
        if (t) {
            resume_end(h, t, "the daemon does not know the task any more");
        }
    }
    return 0;
}

int resume_wait(struct hearth *h, uint64_t deadline) {
    int pause = PAUSE_MIN_MS;
    dispatch_lost(h);
    while (resume_may(h)) {
        uint64_t until = h->lost_ns + h->resume.limit_ms * NS_PER_MS;
        h->entered = false;
        int r = call_connect(h, until < deadline ? until : deadline);
        h->entered = true;
        if (r == 0 || r == HEARTH_E_PROTOCOL) {
            return r;
        }
        if (clock_now() >= deadline) {
            return HEARTH_E_PENDING;
        }
        if (poll(NULL, 0, pause) < 0) {
            return -EINTR;
        }
        pause = pause * 2 < PAUSE_MAX_MS ? pause * 2 : PAUSE_MAX_MS;
    }
    return HEARTH_E_DISCONNECTED;
}

bool resume_again(struct hearth *h) {
    int r = h->lost ? resume_wait(h, UINT64_MAX) : HEARTH_E_DISCONNECTED;
    while (r == -EINTR) {
        r = resume_wait(h, UINT64_MAX);
    }
    return r == 0;
}
