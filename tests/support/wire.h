/* SPDX-License-Identifier: MIT */
/* A small RESP client for tests, on the codec of lib/wire but on nothing of client/: every read has
 * a time limit, bad bytes can be sent, and a reply is compared as one line of text. Not for several
 * threads. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/wire/resp.h"

enum { WIRE_LIMIT_MS = 10000 };

struct wire {
    int fd;
    struct buf in;
    size_t taken;        /* bytes of `in` that the message in doc occupies */
    struct resp_doc doc; /* the last message read: doc.v[0] and on; valid until the next read */
    struct buf text;     /* what wire_show() gave */
};

/* Connects. 0 or -errno. */
int wire_open(struct wire *w, const char *socket_path);
/* Harmless when it is closed or was zeroed and never opened. */
void wire_close(struct wire *w);

/* A command of C strings, the last one NULL. 0 or -errno. */
int wire_send(struct wire *w, const char *word, ...) __attribute__((sentinel));
/* A command of n words of any bytes. */
int wire_send_words(struct wire *w, const struct resp_arg *words, size_t n);
/* Bytes as they are. */
int wire_send_raw(struct wire *w, const void *data, size_t len);

/* The next message, waited for at most ms: 0, -ETIMEDOUT, -EPIPE (the other side closed), -EPROTO
 * or -errno. */
int wire_read(struct wire *w, int ms);
/* Sends a command and reads one message: its text as by wire_show(), or "!" and the error's text
 * when something failed. The result is valid until the next call with w. */
const char *wire_call(struct wire *w, const char *word, ...) __attribute__((sentinel));

/* The last message as one line: +OK, -ERR text, :1, "bulk \n\x00", [a b] for an array, {k v} for a
 * map, ~[a] for a set,
 * >[a b] for a push, nil, ,1.5 for a double, #1 or #0 for a boolean. */
const char *wire_show(struct wire *w);
/* The same of the value at index i of doc. */
const char *wire_show_at(struct wire *w, uint32_t i);
/* Index in doc of the value of `key` in the map or flat array of pairs at index i; 0 when there is
 * none (index 0 is never a value inside a container). */
uint32_t wire_find(const struct wire *w, uint32_t i, const char *key);
