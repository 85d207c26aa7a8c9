/* SPDX-License-Identifier: MIT */
/* Tasks with a callback: submitted, named by the reply, ended by a push.
 *
 *     hearth_submit() --> unnamed --reply: id--> named --push task.done--> callback
 *                            |                     \--connection lost----> callback
 * (HEARTH_DISCONNECTED, id)
 *                            \--reply: error-----------------------------> callback
 * (HEARTH_REFUSED)
 *
 * A worker may be so quick that the push overtakes the reply with the id. Such an early end is
 * copied aside under its id and found when the reply comes; when no task is unnamed any more, what
 * is left there was not ours and is dropped. A callback runs after its task has left the table, so
 * it may submit again at once.
 *
 * Fails: -ENOMEM and HEARTH_E_PROTOCOL end the connection; a task is never forgotten. */
#include "client/handle.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/num.h"

enum { MANY_MAX = 1000000 };

struct early {
    enum hearth_status status;
    int code;
    size_t len, cause_len;
    char bytes[]; /* data NUL cause NUL */
};

/* ---- requests ---- */

static int put_rest(struct hearth *h, const struct hearth_task *task, const char *key) {
    int r = 0;
    for (size_t i = 0; i < task->n_args && r == 0; i++) {
        size_t len = task->arg_lens ? task->arg_lens[i] : strlen(task->args[i]);
        r = command_put(h, "ARG", 3);
        if (r == 0) {
            r = command_put(h, task->args[i], len);
        }
    }
    if (task->timeout_ms && r == 0) {
        char digits[20];
        r = command_put(h, "TIMEOUT", 7);
        if (r == 0) {
            r = command_put(h, digits, num_put_u64(digits, task->timeout_ms));
        }
    }
    for (size_t i = 0; i < task->n_options && r == 0; i++) {
        r = command_put_text(h, task->options[i]);
    }
    if (task->data_fn && r == 0) {
        r = command_put_text(h, "STREAM");
    }
    if (key && r == 0) {
        r = command_put_text(h, "UNIQUE");
        r = r ? r : command_put_text(h, key);
        r = r ? r : command_put_text(h, "KEEP");
    }
    return r;
}

static size_t n_words(const struct hearth_task *task, const char *key) {
    return 3 + 2 * task->n_args + (task->timeout_ms ? 2 : 0) + task->n_options +
           (task->data_fn != NULL) + (key ? 3 : 0);
}

static int put_names(struct hearth *h, const char *verb, size_t words,
                     const struct hearth_task *task) {
    int r = command_put_head(h, words);
    if (r == 0) {
        r = command_put_text(h, verb);
    }
    if (r == 0) {
        r = command_put_text(h, task->pool);
    }
    if (r == 0) {
        r = command_put_text(h, task->handler);
    }
    return r;
}

static int check_task(struct hearth *h, const struct hearth_task *task) {
    if (!task->pool || !task->handler || (task->n_args && !task->args)) {
        return result_say(h, -EINVAL, "a task needs a pool, a handler and its arguments");
    }
    return 0;
}

int task_put_call(struct hearth *h, const struct hearth_task *task, bool direct, const char *key) {
    int r = check_task(h, task);
    if (r == 0) {
        r = put_names(h, "TASK.CALL", n_words(task, key) + 1, task);
    }
    if (r == 0 && direct) {
        r = command_put(h, NULL, 0);
        if (r == 0) {
            /* "$0\r\n\r\n" was only there to make room: say the length, leave out the bytes. */
            h->out.tail -= 6;
            char *to = h->out.data + h->out.tail;
            size_t n = 1 + num_put_u64(to + 1, task->payload_len);
            memcpy(to + n, "\r\n\r\n", 4);
            buf_wrote(&h->out, n + 4);
            h->direct = task->payload;
            h->direct_len = task->payload_len;
            h->direct_at = buf_len(&h->out) - 2;
        }
    } else if (r == 0) {
        r = command_put(h, task->payload, task->payload_len);
    }
    return r == 0 ? put_rest(h, task, key) : r;
}

static void may_flush(struct hearth *h) {
    if (buf_len(&h->out) >= HANDLE_FLUSH) {
        (void)conn_flush(h); /* a loss is told by the next dispatch */
    }
}

/* Before the first submission on a connection. */
int task_put_notify(struct hearth *h) {
    if (h->notified || h->lost) {
        return 0;
    }
    size_t mark = buf_len(&h->out);
    int r = command_put_head(h, 2);
    if (r == 0) {
        r = command_put_text(h, "TASK.NOTIFY");
    }
    if (r == 0) {
        r = command_put_text(h, "ON");
    }
    if (r == 0) {
        r = command_expect(h, REQUEST_NOTIFY, NULL, 0);
    }
    if (r != 0) {
        command_undo(h, mark);
        return r;
    }
    h->notified = true;
    return 0;
}

int hearth_submit(struct hearth *h, const struct hearth_task *task, hearth_done_fn fn, void *arg,
                  uint64_t *ret_ticket) {
    char text[RESUME_KEY];
    if (h->lost && !resume_may(h)) {
        return HEARTH_E_DISCONNECTED;
    }
    int r = check_task(h, task);
    if (r == 0) {
        r = task_put_notify(h);
    }
    if (r != 0) {
        return r;
    }
    struct task *t = table_new(&h->table);
    if (!t) {
        return -ENOMEM;
    }
    t->fn = fn;
    t->arg = arg;
    t->data_fn = task->data_fn;
    t->data_arg = task->data_arg;
    size_t mark = buf_len(&h->out);
    const char *key = resume_key(h, task, text);
    r = put_names(h, "TASK.SUBMIT", n_words(task, key) + 1, task);
    if (r == 0) {
        r = command_put(h, task->payload, task->payload_len);
    }
    if (r == 0) {
        r = put_rest(h, task, key);
    }
    if (r == 0) {
        r = resume_expect(h, mark, task, key, &(struct request){t, 1, REQUEST_SUBMIT});
    }
    if (r != 0) {
        command_undo(h, mark);
        table_free(&h->table, t);
        return r;
    }
    if (ret_ticket) {
        *ret_ticket = table_ticket(t);
    }
    may_flush(h);
    return 0;
}

/* n tasks in a chain, the first returned; NULL: no memory. */
static struct task *new_chain(struct hearth *h, const struct hearth_task *task, size_t n,
                              hearth_done_fn fn, void *arg) {
    struct task *first = NULL;
    for (size_t i = n; i-- > 0;) {
        struct task *t = table_new(&h->table);
        if (!t) {
            while (first) {
                struct task *next = first->next;
                table_free(&h->table, first);
                first = next;
            }
            return NULL;
        }
        t->fn = fn;
        t->arg = arg;
        t->data_fn = task->data_fn;
        t->data_arg = task->data_arg;
        t->index = (uint32_t)i;
        t->next = first;
        first = t;
    }
    return first;
}

static int put_many(struct hearth *h, const struct hearth_task *task,
                    const struct hearth_bytes *payloads, size_t n, struct task *first) {
    char digits[20], text[RESUME_KEY];
    size_t mark = buf_len(&h->out);
    const char *key = resume_key(h, task, text);
    int r = put_names(h, "TASK.MSUBMIT", n_words(task, key) + 1 + n, task);
    if (r == 0) {
        r = command_put(h, digits, num_put_u64(digits, n));
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        r = command_put(h, payloads[i].data, payloads[i].len);
    }
    if (r == 0) {
        r = put_rest(h, task, key);
    }
    const struct request q = {first, (uint32_t)n, REQUEST_MANY};
    return r == 0 ? resume_expect(h, mark, task, key, &q) : r;
}

int hearth_submit_many(struct hearth *h, const struct hearth_task *task,
                       const struct hearth_bytes *payloads, size_t n, hearth_done_fn fn, void *arg,
                       uint64_t *ret_tickets) {
    if (h->lost && !resume_may(h)) {
        return HEARTH_E_DISCONNECTED;
    }
    int r = check_task(h, task);
    if (r != 0) {
        return r;
    }
    if (n == 0 || n > MANY_MAX) {
        return result_say(h, -EINVAL, "1 to %d tasks at a time", MANY_MAX);
    }
    r = task_put_notify(h);
    struct task *first = r == 0 ? new_chain(h, task, n, fn, arg) : NULL;
    if (!first) {
        return -ENOMEM;
    }
    size_t mark = buf_len(&h->out);
    r = put_many(h, task, payloads, n, first);
    if (r != 0) {
        command_undo(h, mark);
    }
    size_t i = 0;
    for (struct task *t = first, *next; t; t = next) {
        next = t->next;
        if (r != 0) {
            table_free(&h->table, t);
        } else if (ret_tickets) {
            ret_tickets[i++] = table_ticket(t);
        }
    }
    may_flush(h);
    return r;
}

int task_put_cancel(struct hearth *h, const struct task *t) {
    size_t mark = buf_len(&h->out);
    int r = command_put_head(h, 2);
    if (r == 0) {
        r = command_put_text(h, "TASK.CANCEL");
    }
    if (r == 0) {
        r = command_put_text(h, t->id);
    }
    if (r == 0) {
        r = command_expect(h, REQUEST_IGNORE, NULL, 0);
    }
    if (r != 0) {
        command_undo(h, mark);
    }
    return r;
}

int hearth_cancel(struct hearth *h, uint64_t ticket) {
    struct task *t = table_by_ticket(&h->table, ticket);
    if (h->lost && !resume_may(h)) {
        return HEARTH_E_DISCONNECTED;
    }
    if (!t) {
        return result_say(h, HEARTH_E_NOTASK, "no task of that ticket: it has ended");
    }
    t->cancel = true;
    return t->id[0] && !h->lost ? task_put_cancel(h, t) : 0;
}

const char *hearth_ticket_id(const struct hearth *h, uint64_t ticket) {
    const struct task *t = table_by_ticket(&h->table, ticket);
    return t ? t->id : NULL;
}

size_t hearth_pending(const struct hearth *h) {
    return h->table.pending;
}

/* ---- ends ---- */

void task_end(struct hearth *h, struct task *t, struct hearth_result *r) {
    char id[HEARTH_ID_MAX + 1];
    memcpy(id, t->id, sizeof(id));
    hearth_done_fn fn = t->fn;
    void *arg = t->arg;
    r->id = id;
    r->ticket = table_ticket(t);
    r->index = t->index;
    table_free(&h->table, t);
    if (fn) {
        fn(h, r, arg);
    }
    r->id = ""; /* the text above ends with this function */
}

void task_drop_early(struct hearth *h) {
    for (struct task *e = table_from(&h->early, 0); e; e = table_from(&h->early, e->slot)) {
        free(e->arg);
        table_free(&h->early, e);
    }
}

static int keep_early(struct hearth *h, const struct resp_value *id,
                      const struct hearth_result *r) {
    if (id->len == 0 || id->len > HEARTH_ID_MAX || table_find(&h->early, id->data, id->len)) {
        return 0;
    }
    size_t cause_len = strlen(r->cause);
    struct early *e = malloc(sizeof(*e) + r->len + cause_len + 2);
    struct task *t = e ? table_new(&h->early) : NULL;
    if (!t) {
        free(e);
        return -ENOMEM;
    }
    *e =
        (struct early){.status = r->status, .code = r->code, .len = r->len, .cause_len = cause_len};
    memcpy(e->bytes, r->data, r->len + 1);
    memcpy(e->bytes + r->len + 1, r->cause, cause_len + 1);
    t->arg = e;
    table_name(&h->early, t, id->data, id->len);
    return 0;
}

static void end_early(struct hearth *h, struct task *t) {
    struct task *kept = table_find(&h->early, t->id, strlen(t->id));
    if (!kept) {
        return;
    }
    struct early *e = kept->arg;
    table_free(&h->early, kept);
    struct hearth_result r;
    result_init(&r);
    r.status = e->status;
    r.code = e->code;
    r.data = e->bytes;
    r.len = e->len;
    r.cause = e->bytes + e->len + 1;
    task_end(h, t, &r);
    free(e);
}

static int name_task(struct hearth *h, struct task *t, const struct resp_value *id) {
    if (!value_is_text(id) || id->len == 0 || id->len > HEARTH_ID_MAX) {
        return result_say(h, HEARTH_E_PROTOCOL, "a task was given an impossible id");
    }
    table_name(&h->table, t, id->data, id->len);
    free(t->again);
    t->again = NULL;
    int r = t->cancel ? task_put_cancel(h, t) : 0;
    if (h->early.count) {
        end_early(h, t);
    }
    return r;
}

static void refuse(struct hearth *h, const struct request *q, int error) {
    char words[sizeof(h->message)];
    memcpy(words, h->message, sizeof(words));
    for (struct task *t = q->task, *next; t; t = next) {
        next = q->kind == REQUEST_MANY ? t->next : NULL;
        struct hearth_result r;
        result_init(&r);
        r.status = HEARTH_REFUSED;
        r.error = error;
        r.cause = words;
        task_end(h, t, &r);
    }
}

int task_accepted(struct hearth *h, const struct request *q) {
    const struct resp_value *v = h->doc.v;
    int r = 0;
    if (v->type == RESP_ERROR || v->type == RESP_BLOB_ERROR) {
        refuse(h, q, result_error(h, v));
    } else if (q->kind == REQUEST_SUBMIT) {
        r = name_task(h, q->task, v);
    } else if (v->type != RESP_ARRAY || v->count != q->n) {
        r = result_say(h, HEARTH_E_PROTOCOL, "%u tasks were not given as many ids", q->n);
    } else {
        struct task *t = q->task;
        const struct resp_value *id = v + 1;
        while (t && r == 0) {
            struct task *next = t->next;
            const struct resp_value *next_id = value_next(id);
            r = name_task(h, t, id);
            t = next;
            id = next_id;
        }
    }
    if (h->early.pending && h->table.unnamed == 0) {
        task_drop_early(h);
    }
    return r;
}

int task_pushed(struct hearth *h) {
    const struct resp_value *v = h->doc.v, *kind = v + 1;
    if (v->count >= 5 && value_is_text(kind) && kind->len == 9 &&
        memcmp(kind->data, "task.done", 9) == 0) {
        const struct resp_value *id = value_next(kind);
        struct hearth_result r;
        result_init(&r);
        int error = value_is_text(id) ? result_fill(h, value_next(id), &r) : HEARTH_E_PROTOCOL;
        if (error != 0) {
            return error;
        }
        stream_ended(h, id->data, id->len, &r);
        struct task *t = table_find(&h->table, id->data, id->len);
        bool ours = t != NULL;
        for (; t; t = table_find(&h->table, id->data, id->len)) {
            task_end(h, t, &r); /* several, if a UNIQUE key has made one task of them */
        }
        if (ours) {
            return 0;
        }
        if (h->table.unnamed > 0) {
            return keep_early(h, id, &r);
        }
    }
    if (stream_pushed(h)) {
        return 0;
    }
    if (h->push_fn && v->count > 0) {
        h->push_fn(h, (const struct hearth_reply *)(const void *)v, h->push_arg);
    }
    return 0;
}
