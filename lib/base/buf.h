/* SPDX-License-Identifier: MIT */
/* A growable byte queue: append at the tail, consume at the head. One contiguous area, so a parser
 * sees whole messages. Errors: -ENOMEM leaves the buffer as it was. Not thread-safe. */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data;  /* NULL when nothing is allocated */
    size_t head; /* first byte not yet consumed */
    size_t tail; /* one past the last byte */
    size_t cap;
};

#define BUF_INIT ((struct buf){0})

void buf_deinit(struct buf *b);

/* The unread bytes. The pointer is valid until the next call that appends or consumes. */
static inline const char *buf_head(const struct buf *b) {
    return b->data + b->head;
}
static inline size_t buf_len(const struct buf *b) {
    return b->tail - b->head;
}

/* Makes room for n more bytes and returns where to write them (then call buf_wrote); NULL: no
 * memory. */
char *buf_room(struct buf *b, size_t n);
static inline void buf_wrote(struct buf *b, size_t n) {
    b->tail += n;
}

/* Drops n (<= buf_len) bytes at the head. An emptied buffer gives back memory over 64 KiB. */
void buf_consume(struct buf *b, size_t n);

/* Drops all; as buf_consume(). */
enum { BUF_KEEP = 64 * 1024 };
static inline void buf_clear(struct buf *b) {
    b->head = b->tail = 0;
    if (b->cap > BUF_KEEP) {
        buf_deinit(b);
    }
}

/* 0 or -ENOMEM. */
int buf_append(struct buf *b, const void *data, size_t n);
int buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int buf_vprintf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
