/* SPDX-License-Identifier: MIT */
/* Requests: their bytes in the output buffer, and the ring that remembers, in order, what each
 * reply is for. The two are kept in step by the callers: append, then expect; if either fails,
 * command_undo() takes the bytes back, so that half a request is never sent.
 *
 * Fails: -ENOMEM. */
#include "client/handle.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/num.h"

/* "<kind><n>\r\n" at to; returns its length. */
static size_t put_count(char *to, char kind, uint64_t n) {
    to[0] = kind;
    size_t len = 1 + num_put_u64(to + 1, n);
    to[len++] = '\r';
    to[len++] = '\n';
    return len;
}

int command_put_head(struct hearth *h, size_t n_words) {
    char *to = buf_room(&h->out, 24);
    if (!to) {
        return -ENOMEM;
    }
    buf_wrote(&h->out, put_count(to, '*', n_words));
    return 0;
}

int command_put(struct hearth *h, const void *word, size_t len) {
    char *to = len < SIZE_MAX / 8 ? buf_room(&h->out, len + 32) : NULL;
    if (!to) {
        return -ENOMEM;
    }
    size_t n = put_count(to, '$', len);
    if (len) {
        memcpy(to + n, word, len);
        n += len;
    }
    to[n++] = '\r';
    to[n++] = '\n';
    buf_wrote(&h->out, n);
    return 0;
}

int command_put_text(struct hearth *h, const char *word) {
    return command_put(h, word, strlen(word));
}

void command_undo(struct hearth *h, size_t len) {
    assert(buf_len(&h->out) >= len);
    h->out.tail = h->out.head + len;
}

int command_expect(struct hearth *h, enum request_kind kind, struct task *task, uint32_t n) {
    if (h->request_count == h->request_cap) {
        uint32_t cap = h->request_cap ? h->request_cap * 2 : 64;
        struct request *ring = calloc(cap, sizeof(*ring));
        if (!ring) {
            return -ENOMEM;
        }
        for (uint32_t i = 0; i < h->request_count; i++) {
            ring[i] = h->requests[(h->request_head + i) & (h->request_cap - 1)];
        }
        free(h->requests);
        h->requests = ring;
        h->request_cap = cap;
        h->request_head = 0;
    }
    uint32_t at = (h->request_head + h->request_count++) & (h->request_cap - 1);
    h->requests[at] = (struct request){task, n, kind};
    return 0;
}
