/* SPDX-License-Identifier: MIT */
/* RESP2 and RESP3 (the Redis serialization protocol), both directions, pure: bytes in, message or
 * error out. No function here touches an fd, a clock or a log; none trusts its input. Nothing is
 * thread-safe by itself: one reader belongs to one connection. The format is Redis's public
 * protocol specification. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/buf.h"

enum resp_result {
    RESP_OK = 0,   /* one whole message */
    RESP_MORE = 1, /* not yet whole: call again with at least `need` bytes */
    RESP_E_PROTO =
        2, /* malformed or over a limit: `error` says what; the stream cannot be resumed */
};

/* ---- requests (the server's side) ---- */

struct resp_arg {
    const char *data; /* not NUL-terminated */
    size_t len;
};

struct resp_limits {
    uint32_t max_args;   /* words in one request */
    uint64_t max_bulk;   /* bytes in one word */
    uint64_t max_total;  /* bytes in one request */
    uint32_t max_inline; /* bytes in one inline request line (64 KiB in Redis) */
};

extern const struct resp_limits
    resp_limits_default; /* 1,048,576 words, 64 MiB + 64 KiB, 128 MiB, 64 KiB */

/* A resumable parser of requests: arrays of bulk strings, or an inline line of words (quotes as in
 * Redis). It keeps what it has found, so that a large request arriving in many pieces is scanned
 * once. */
struct resp_reader {
    struct resp_limits limits;
    struct resp_arg *argv; /* after RESP_OK: the words; they point into the data passed to that
                              call, inline words into `words` */
    uint32_t argc;
    size_t used; /* after RESP_OK: bytes the message took; the caller consumes them */
    size_t need; /* after RESP_MORE: least length of data at which progress is possible */
    const char
        *error; /* after RESP_E_PROTO: static text in Redis's words ("invalid bulk length") */
    /* private */
    size_t *offsets;
    uint32_t cap, want;
    size_t pos;
    struct buf words;
    char text[24]; /* an error with the byte that caused it */
};

void resp_reader_init(struct resp_reader *r, const struct resp_limits *limits);
void resp_reader_deinit(struct resp_reader *r);
/* Parses the message that begins at data. Between a RESP_MORE and the next call the caller may move
 * and extend the data but not change or consume it. After RESP_OK the next call begins a new
 * message. An empty message (a bare CRLF, "*0") gives RESP_OK with argc 0. -ENOMEM is possible
 * beside enum resp_result. */
int resp_read(struct resp_reader *r, const char *data, size_t len);

/* ---- values (the client's side, and tests) ---- */

enum resp_type {
    RESP_SIMPLE = '+',
    RESP_ERROR = '-',
    RESP_INT = ':',
    RESP_BULK = '$',
    RESP_ARRAY = '*',
    RESP_NULL = '_', /* also "$-1" and "*-1" */
    RESP_DOUBLE = ',',
    RESP_BOOL = '#',
    RESP_BLOB_ERROR = '!',
    RESP_VERBATIM = '=',
    RESP_BIG = '(',
    RESP_MAP = '%',
    RESP_SET = '~',
    RESP_PUSH = '>',
};

enum { RESP_DEPTH = 32 };

/* One value of a parsed message. The tree is flat: a container at index i holds its `count`
 * elements (a map: 2 per pair) in order behind it; the subtree ends before index `next`, which is
 * also the index of its next sibling. */
struct resp_value {
    uint8_t type;   /* enum resp_type */
    uint32_t count; /* direct elements of a container */
    uint32_t next;
    const char *data; /* text of scalars, into the data passed; verbatim without its "txt:" */
    size_t len;
    int64_t integer; /* RESP_INT, RESP_BOOL (0, 1) */
    double number;   /* RESP_DOUBLE */
};

struct resp_doc {
    struct resp_value *v; /* v[0] is the message; valid until the next parse */
    uint32_t n, cap;
    size_t used;       /* after RESP_OK */
    size_t need;       /* after RESP_MORE */
    const char *error; /* after RESP_E_PROTO */
    /* private */
    const char *base;
    size_t pos, seen;
    uint64_t declared;
    uint32_t depth;
    struct resp_level {
        uint32_t index, left, attribute;
    } level[RESP_DEPTH];
};

void resp_doc_deinit(struct resp_doc *d);
/* Forgets a half-parsed message (its connection has gone), keeping the memory. */
void resp_doc_reset(struct resp_doc *d);
/* Parses one value of any type that begins at data; attributes ("|") are skipped. Depth is limited
 * to RESP_DEPTH, elements to 16,777,216 in all, bulk strings to 512 MiB. RESP_OK, RESP_MORE,
 * RESP_E_PROTO or -ENOMEM. Resumable as resp_read() is: between a RESP_MORE and the next call the
 * data may be moved and extended, not changed or consumed; what was parsed is not parsed again. A
 * doc begins zeroed. */
int resp_parse(struct resp_doc *d, const char *data, size_t len);

/* ---- writing ---- */
/* Each appends to b and returns 0 or -ENOMEM. proto is 2 or 3: with 2 the RESP3 types take their
 * RESP2 forms as Redis gives them (map: flat array; null: "$-1"; set and push: array; double: bulk
 * string; bool: integer). */
int resp_put_simple(struct buf *b, const char *text);
int resp_put_error(struct buf *b, const char *text); /* "CODE message"; CR and LF are made spaces */
int resp_put_errorf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int resp_put_int(struct buf *b, int64_t v);
int resp_put_bulk(struct buf *b, const void *data, size_t len);
int resp_put_text(struct buf *b, const char *text); /* a bulk string */
int resp_put_textf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int resp_put_bulk_head(struct buf *b,
                       size_t len); /* "$len\r\n": the caller sends the bytes and CRLF himself */
int resp_put_array(struct buf *b, uint32_t n);
int resp_put_map(struct buf *b, int proto, uint32_t pairs);
int resp_put_set(struct buf *b, int proto, uint32_t n);
int resp_put_push(struct buf *b, int proto, uint32_t n);
int resp_put_null(struct buf *b, int proto);
int resp_put_null_array(struct buf *b, int proto); /* "*-1" in RESP2, "_" in RESP3 */
int resp_put_bool(struct buf *b, int proto, bool v);
int resp_put_double(struct buf *b, int proto, double v);
int resp_put_verbatim(
    struct buf *b, int proto, const void *text,
    size_t len); /* a text for people: "txt:" before it in RESP3, else a bulk string */
/* A request: resp_put_array(n), then n bulks. Words given as C strings, the last one NULL. */
int resp_put_command(struct buf *b, const char *word, ...) __attribute__((sentinel));

/* ASCII case-insensitive equality of a word and a C string. */
bool resp_is(const struct resp_arg *a, const char *word);
