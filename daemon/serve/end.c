/* SPDX-License-Identifier: MIT */
/* The end of a task in words. One form everywhere: status, result (only of a task that is done),
 * cause; TASK.CALL alone turns what is not done into an error reply, so that the errors of client
 * libraries just work.
 *
 * A handler's message may hold anything; what goes into a line has its control characters made
 * spaces.
 *
 * Fails: -ENOMEM, or the connection is marked broken (reply.h). */
#include "daemon/serve/end.h"

#include <stdio.h>
#include <string.h>

#include "daemon/serve/reply.h"

/* Appends the handler's own message, as much as fits. */
static size_t add_message(const struct task_view *v, char *out, size_t n) {
    const char *data = v->output.data;
    size_t len = v->output.len < END_CAUSE - 1 - n ? v->output.len : END_CAUSE - 1 - n;
    for (size_t i = 0; i < len; i++) {
        unsigned char ch = (unsigned char)data[i];
        out[n++] = ch < 0x20 || ch == 0x7f ? ' ' : (char)ch;
    }
    out[n] = '\0';
    return n;
}

size_t end_cause(struct hearthd *d, uint32_t idx, const struct task_view *v, char out[END_CAUSE]) {
    char text[128];
    if (v->state == TASK_DONE) {
        out[0] = '\0';
        return 0;
    }
    tasks_cause_text(d, idx, v, text);
    size_t n = (size_t)snprintf(out, END_CAUSE, "%s", text);
    if (v->cause == CAUSE_ERROR && v->output.len > 0) {
        out[n++] = ':';
        out[n++] = ' ';
        n = add_message(v, out, n);
    }
    return n;
}

int end_put(struct conn *c, struct buf *to, uint32_t idx, const struct task_view *v) {
    char cause[END_CAUSE];
    size_t len = end_cause(c->serve->d, idx, v, cause);
    int r = resp_put_text(to, task_state_names[v->state]);
    if (r == 0) {
        r = v->state == TASK_DONE ? output_bulk(c, to, idx, &v->output)
                                  : resp_put_null(to, c->proto);
    }
    return r < 0 ? r : resp_put_bulk(to, cause, len);
}

static void reply_failed(struct conn *c, uint32_t idx, const struct task_view *v) {
    char text[END_CAUSE];
    if (v->cause == CAUSE_ERROR) {
        add_message(v, text, 0);
    } else {
        end_cause(c->serve->d, idx, v, text);
    }
    reply_errorf(c, "FAILED %d %s", v->code, text);
}

void end_reply_call(struct conn *c, uint32_t idx, const struct task_view *v) {
    char cause[END_CAUSE];
    if (v->state == TASK_DONE) {
        REPLY(c, output_bulk(c, &c->out, idx, &v->output));
        return;
    }
    end_cause(c->serve->d, idx, v, cause);
    switch (v->state) {
    case TASK_FAILED:
        reply_failed(c, idx, v);
        break;
    case TASK_TIMEOUT:
        reply_errorf(c, "TIMEOUT %s", cause);
        break;
    case TASK_EXPIRED:
        reply_errorf(c, "EXPIRED %s", cause);
        break;
    case TASK_CANCELLED:
        reply_errorf(c, "CANCELLED %s", cause);
        break;
    default:
        reply_errorf(c, "LOST %s", cause);
    }
}

void end_reply_wait(struct conn *c, uint32_t idx, const struct task_view *v) {
    char id[TASK_ID_TEXT];
    size_t len = task_id_text(id, v->id, idx);
    reply_array(c, 4);
    reply_bulk(c, id, len);
    REPLY(c, end_put(c, &c->out, idx, v));
}

void end_reply_result(struct conn *c, uint32_t idx, const struct task_view *v) {
    reply_array(c, 3);
    REPLY(c, end_put(c, &c->out, idx, v));
}
