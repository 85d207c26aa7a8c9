/* SPDX-License-Identifier: MIT */
/* Input to callbacks. Replies come in the order of the requests; pushes come whenever they like,
 * and are the only thing that may. A reply someone waits for stops the turn: its bytes stay at the
 * head of the input buffer (`held`) until the next call with the handle, so that it can be handed
 * out without a copy.
 *
 * A lost connection is found by whoever reads, but told in one place, dispatch_leave(): there every
 * outstanding callback is called. Nothing waits inside a callback (-EDEADLK): the message it runs
 * for is still being read.
 *
 * Fails: HEARTH_E_DISCONNECTED, HEARTH_E_PROTOCOL, -ENOMEM, each ending the connection. */
#include "client/handle.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"

static void consume(struct hearth *h, size_t n) {
    h->held = n;
    conn_release(h);
}

/* One whole message is in h->doc. 1: it is the reply someone waits for. */
static int handle_message(struct hearth *h) {
    if (h->doc.v[0].type == RESP_PUSH) {
        return task_pushed(h);
    }
    if (h->request_count == 0) {
        return result_say(h, HEARTH_E_PROTOCOL, "a reply came that nobody asked for%s%s",
                          h->doc.v[0].type == RESP_ERROR ? ": " : "",
                          h->doc.v[0].type == RESP_ERROR ? h->doc.v[0].data : "");
    }
    struct request q = h->requests[h->request_head];
    h->request_head = (h->request_head + 1) & (h->request_cap - 1);
    h->request_count--;
    switch (q.kind) {
    case REQUEST_SYNC:
        return 1;
    case REQUEST_IGNORE:
        return 0;
    case REQUEST_NOTIFY:
        if (h->doc.v[0].type != RESP_ERROR) {
            return 0;
        }
        result_error(h, h->doc.v);
        return HEARTH_E_PROTOCOL;
    case REQUEST_FOLLOW:
        return resume_followed(h);
    default:
        return task_accepted(h, &q);
    }
}

int dispatch_input(struct hearth *h) {
    while (buf_len(&h->in) > 0 && buf_len(&h->in) >= h->need) {
        int r = resp_parse(&h->doc, buf_head(&h->in), buf_len(&h->in));
        if (r == RESP_MORE) {
            h->need = h->doc.need;
            return 0;
        }
        h->need = 0;
        if (r == RESP_OK) {
            result_seal(&h->doc);
            size_t used = h->doc.used;
            r = handle_message(h);
            if (r == 1) {
                h->held = used;
                return 1;
            }
            consume(h, used);
        } else if (r == RESP_E_PROTO) {
            r = result_say(h, HEARTH_E_PROTOCOL, "not Hearth's protocol: %s", h->doc.error);
        }
        if (r != 0) {
            char words[sizeof(h->message)];
            memcpy(words, h->message, sizeof(words));
            return conn_lose(h, r, r == -ENOMEM ? "out of memory" : words);
        }
    }
    return 0;
}

void dispatch_lost(struct hearth *h) {
    resp_doc_reset(&h->doc);
    h->notified = false;
    h->need = 0;
    h->in.head = h->in.tail = 0;
    h->held = 0;
    task_drop_early(h);
    if (resume_may(h)) {
        resume_stash(h);
        return;
    }
    h->request_count = 0;
    resume_forget(h);
    uint32_t from = 0;
    for (struct task *t; (t = table_from(&h->table, from));) {
        from = t->slot + 1;
        resume_end(h, t, h->message);
    }
}

int dispatch_enter_now(struct hearth *h) {
    if (h->entered) {
        return -EDEADLK;
    }
    conn_release(h);
    h->entered = true;
    return h->lost ? dispatch_leave(h, HEARTH_E_DISCONNECTED) : 0;
}

int dispatch_enter(struct hearth *h) {
    if (h->entered) {
        return -EDEADLK;
    }
    conn_release(h);
    h->entered = true;
    return h->lost && !resume_again(h) ? dispatch_leave(h, HEARTH_E_DISCONNECTED) : 0;
}

int dispatch_leave(struct hearth *h, int r) {
    if (h->lost) {
        dispatch_lost(h);
    }
    h->entered = false;
    return r;
}

int dispatch_sync(struct hearth *h, uint64_t deadline) {
    for (;;) {
        int r = dispatch_input(h);
        if (r == 1 && h->direct_len) {
            return conn_lose(h, HEARTH_E_PROTOCOL, "a request was answered before it was sent");
        }
        if (r != 0) {
            return r == 1 ? 0 : r;
        }
        size_t n;
        r = conn_wait_read(h, deadline, &n);
        if (r != 0 && r != -EINTR) {
            return r;
        }
    }
}

/* Handles what came behind the last reply; then reads and handles until nothing is there or the turn is over. */
int dispatch_turn(struct hearth *h) {
    size_t total = 0;
    int r = conn_flush(h);
    if (r == 0 && conn_has_input(h)) {
        r = dispatch_input(h);
    }
    while (r == 0 && total < HANDLE_TURN) {
        size_t n;
        r = conn_read(h, &n);
        bool full = h->in.tail == h->in.cap;
        if (r == 0 && n > 0) {
            total += n;
            r = dispatch_input(h);
        }
        if (n == 0 || !full) {
            break;
        }
    }
    return r == 0 ? conn_flush(h) : r;
}

int hearth_dispatch(struct hearth *h) {
    int r = dispatch_enter_now(h);
    return r == 0 ? dispatch_leave(h, dispatch_turn(h)) : r;
}

int hearth_flush(struct hearth *h) {
    return conn_flush(h);
}

int hearth_get_fd(const struct hearth *h) {
    return h->fd;
}

int hearth_events(const struct hearth *h) {
    if (h->lost) {
        return h->table.pending > 0 && !h->entered && !resume_may(h) ? POLLIN : 0;
    }
    /* with input to handle nobody must sleep: a socket can be written to nearly always */
    bool soon = buf_len(&h->out) || h->direct_len || conn_has_input(h);
    return POLLIN | (soon ? POLLOUT : 0);
}

int hearth_run(struct hearth *h, int timeout_ms) {
    uint64_t deadline =
        timeout_ms < 0 ? UINT64_MAX : clock_now() + (uint64_t)timeout_ms * NS_PER_MS;
    bool again = resume_may(h) && !h->entered;
    int r = again ? 0 : dispatch_enter_now(h);
    if (r != 0) {
        return r;
    }
    conn_release(h);
    h->entered = true;
    while (r == 0 && h->table.pending > 0) {
        r = h->lost ? resume_wait(h, deadline) : conn_wait(h, deadline);
        if (r == 0) {
            r = dispatch_turn(h);
        }
        if (r == HEARTH_E_DISCONNECTED && resume_may(h)) {
            r = 0; /* the next time round connects again */
        }
    }
    if (r == 0) {
        r = conn_flush(h);
    }
    return dispatch_leave(h, r);
}

void hearth_on_push(struct hearth *h, hearth_push_fn fn, void *arg) {
    h->push_fn = fn;
    h->push_arg = arg;
}
