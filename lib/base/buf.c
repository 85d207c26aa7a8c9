/* SPDX-License-Identifier: MIT */
/* Byte queue. The consumed gap at the head is reclaimed by moving the rest down only when room runs
 * out and the gap is at least half of the area, so that appending stays O(1) amortised however
 * small the consumed pieces are. Fails: -ENOMEM (also for sizes whose sum would overflow); asserts
 * that no more is consumed than is there. */
#include "lib/base/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUF_MIN = 256 };

void buf_deinit(struct buf *b) {
    free(b->data);
    *b = BUF_INIT;
}

char *buf_room(struct buf *b, size_t n) {
    if (b->cap - b->tail >= n) {
        return b->data + b->tail;
    }
    size_t len = b->tail - b->head;
    if (n > SIZE_MAX / 4 || len > SIZE_MAX / 4) {
        return NULL;
    }
    if (b->head >= b->cap / 2 && b->cap - len >= n) {
        memmove(b->data, b->data + b->head, len);
    } else {
        size_t cap = b->cap ? b->cap : BUF_MIN;
        while (cap - len < n) {
            cap *= 2;
        }
        char *data = malloc(cap);
        if (!data) {
            return NULL;
        }
        if (len) {
            memcpy(data, b->data + b->head, len);
        }
        free(b->data);
        b->data = data;
        b->cap = cap;
    }
    b->head = 0;
    b->tail = len;
    return b->data + b->tail;
}

void buf_consume(struct buf *b, size_t n) {
    assert(n <= buf_len(b));
    b->head += n;
    if (b->head == b->tail) {
        buf_clear(b);
    }
}

int buf_append(struct buf *b, const void *data, size_t n) {
    if (n == 0) {
        return 0;
    }
    char *room = buf_room(b, n);
    if (!room) {
        return -ENOMEM;
    }
    memcpy(room, data, n);
    b->tail += n;
    return 0;
}

int buf_vprintf(struct buf *b, const char *fmt, va_list ap) {
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    int r = -EINVAL;
    if (n >= 0) {
        char *room = buf_room(b, (size_t)n + 1);
        r = room ? 0 : -ENOMEM;
        if (room) {
            vsnprintf(room, (size_t)n + 1, fmt, again);
            b->tail += (size_t)n;
        }
    }
    va_end(again);
    return r;
}

int buf_printf(struct buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int r = buf_vprintf(b, fmt, ap);
    va_end(ap);
    return r;
}
