/* SPDX-License-Identifier: MIT */
/* Writing RESP. A reply is a handful of bytes written a hundred thousand times a second, so each
 * function asks for room once, for the most it can need, and writes the digits itself; printf is
 * only behind the two functions that take a format. RESP2 forms of RESP3 types are Redis's own.
 *
 * Fails: -ENOMEM with the buffer as it was. */
#include "lib/wire/resp.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD_MAX = 1 + 20 + 2 }; /* type byte, number, CRLF */

/* buf_room() without the call when the room is there. */
static inline char *room(struct buf *b, size_t n) {
    return b->cap - b->tail >= n ? b->data + b->tail : buf_room(b, n);
}

static inline void wrote(struct buf *b, const char *end) {
    b->tail = (size_t)(end - b->data);
}

static inline char *put_crlf(char *p) {
    p[0] = '\r';
    p[1] = '\n';
    return p + 2;
}

static inline char *put_digits(char *p, uint64_t v) {
    if (v < 10) {
        *p = (char)('0' + v);
        return p + 1;
    }
    if (v < 100) {
        p[0] = (char)('0' + v / 10);
        p[1] = (char)('0' + v % 10);
        return p + 2;
    }
    char tmp[20];
    size_t at = sizeof(tmp);
    while (v) {
        tmp[--at] = (char)('0' + v % 10);
        v /= 10;
    }
    for (size_t i = at; i < sizeof(tmp); i++) {
        *p++ = tmp[i];
    }
    return p;
}

static inline char *put_head(char *p, char type, uint64_t v) {
    *p = type;
    return put_crlf(put_digits(p + 1, v));
}

static inline char *put_bytes(char *p, const void *data, size_t len) {
    if (len) {
        memcpy(p, data, len);
    }
    return p + len;
}

static int put_only_head(struct buf *b, char type, uint64_t v) {
    char *p = room(b, HEAD_MAX);
    if (!p) {
        return -ENOMEM;
    }
    wrote(b, put_head(p, type, v));
    return 0;
}

static int put_fixed(struct buf *b, const char *text, size_t len) {
    char *p = room(b, len);
    if (!p) {
        return -ENOMEM;
    }
    wrote(b, put_bytes(p, text, len));
    return 0;
}
#define PUT_FIXED(b, text) put_fixed((b), (text), sizeof(text) - 1)

/* The text of a line, which must not hold a line end. */
static void flatten(char *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\r' || p[i] == '\n') {
            p[i] = ' ';
        }
    }
}

static int put_line(struct buf *b, char type, const char *text) {
    size_t len = strlen(text);
    char *p = len <= SIZE_MAX / 4 ? room(b, len + 3) : NULL;
    if (!p) {
        return -ENOMEM;
    }
    *p++ = type;
    memcpy(p, text, len);
    flatten(p, len);
    wrote(b, put_crlf(p + len));
    return 0;
}

int resp_put_simple(struct buf *b, const char *text) {
    return put_line(b, RESP_SIMPLE, text);
}

int resp_put_error(struct buf *b, const char *text) {
    return put_line(b, RESP_ERROR, text);
}

/* Puts type byte or bulk head, the formatted text and CRLF. */
static int put_formatted(struct buf *b, char type, const char *fmt, va_list ap) {
    char small[256];
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(small, sizeof(small), fmt, ap);
    int r = n < 0 ? -EINVAL : 0;
    char *p = r == 0 ? room(b, HEAD_MAX + (size_t)n + 3) : NULL;
    if (r == 0 && !p) {
        r = -ENOMEM;
    }
    if (r == 0) {
        if (type == RESP_BULK) {
            p = put_head(p, RESP_BULK, (uint64_t)n);
        } else {
            *p++ = type;
        }
        if ((size_t)n < sizeof(small)) {
            memcpy(p, small, (size_t)n);
        } else {
            vsnprintf(p, (size_t)n + 1, fmt, again);
        }
        if (type != RESP_BULK) {
            flatten(p, (size_t)n);
        }
        wrote(b, put_crlf(p + n));
    }
    va_end(again);
    return r;
}

int resp_put_errorf(struct buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int r = put_formatted(b, RESP_ERROR, fmt, ap);
    va_end(ap);
    return r;
}

int resp_put_textf(struct buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int r = put_formatted(b, RESP_BULK, fmt, ap);
    va_end(ap);
    return r;
}

int resp_put_int(struct buf *b, int64_t v) {
    char *p = room(b, HEAD_MAX + 1);
    if (!p) {
        return -ENOMEM;
    }
    *p++ = RESP_INT;
    if (v < 0) {
        *p++ = '-';
    }
    wrote(b, put_crlf(put_digits(p, v < 0 ? ~(uint64_t)v + 1 : (uint64_t)v)));
    return 0;
}

int resp_put_bulk(struct buf *b, const void *data, size_t len) {
    char *p = len <= SIZE_MAX / 4 ? room(b, HEAD_MAX + len + 2) : NULL;
    if (!p) {
        return -ENOMEM;
    }
    wrote(b, put_crlf(put_bytes(put_head(p, RESP_BULK, len), data, len)));
    return 0;
}

int resp_put_text(struct buf *b, const char *text) {
    return resp_put_bulk(b, text, strlen(text));
}

int resp_put_bulk_head(struct buf *b, size_t len) {
    return put_only_head(b, RESP_BULK, len);
}

int resp_put_array(struct buf *b, uint32_t n) {
    return put_only_head(b, RESP_ARRAY, n);
}

int resp_put_map(struct buf *b, int proto, uint32_t pairs) {
    return proto >= 3 ? put_only_head(b, RESP_MAP, pairs)
                      : put_only_head(b, RESP_ARRAY, (uint64_t)pairs * 2);
}

int resp_put_set(struct buf *b, int proto, uint32_t n) {
    return put_only_head(b, proto >= 3 ? RESP_SET : RESP_ARRAY, n);
}

int resp_put_push(struct buf *b, int proto, uint32_t n) {
    return put_only_head(b, proto >= 3 ? RESP_PUSH : RESP_ARRAY, n);
}

int resp_put_verbatim(struct buf *b, int proto, const void *text, size_t len) {
    if (proto < 3) {
        return resp_put_bulk(b, text, len);
    }
    int r = buf_printf(b, "=%zu\r\ntxt:", len + 4);
    r = r < 0 ? r : buf_append(b, text, len);
    return r < 0 ? r : buf_append(b, "\r\n", 2);
}

int resp_put_null(struct buf *b, int proto) {
    return proto >= 3 ? PUT_FIXED(b, "_\r\n") : PUT_FIXED(b, "$-1\r\n");
}

int resp_put_null_array(struct buf *b, int proto) {
    return proto >= 3 ? PUT_FIXED(b, "_\r\n") : PUT_FIXED(b, "*-1\r\n");
}

int resp_put_bool(struct buf *b, int proto, bool v) {
    if (proto >= 3) {
        return v ? PUT_FIXED(b, "#t\r\n") : PUT_FIXED(b, "#f\r\n");
    }
    return v ? PUT_FIXED(b, ":1\r\n") : PUT_FIXED(b, ":0\r\n");
}

/* The shortest of the forms that read back as the same number, always with a decimal point. */
static size_t double_text(char out[32], double v) {
    if (isnan(v) || isinf(v)) {
        const char *text = isnan(v) ? "nan" : v > 0 ? "inf" : "-inf";
        memcpy(out, text, strlen(text));
        return strlen(text);
    }
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    locale_t old = uselocale(c);
    int n = 0;
    for (int digits = 15; digits <= 17; digits++) {
        n = snprintf(out, 32, "%.*g", digits, v);
        if (strtod(out, NULL) == v) {
            break;
        }
    }
    uselocale(old);
    freelocale(c);
    return (size_t)n;
}

int resp_put_double(struct buf *b, int proto, double v) {
    char text[32];
    size_t len = double_text(text, v);
    if (proto < 3) {
        return resp_put_bulk(b, text, len);
    }
    char *p = room(b, len + 3);
    if (!p) {
        return -ENOMEM;
    }
    *p++ = RESP_DOUBLE;
    wrote(b, put_crlf(put_bytes(p, text, len)));
    return 0;
}

int resp_put_command(struct buf *b, const char *word, ...) {
    uint32_t n = 0;
    size_t bytes = HEAD_MAX;
    va_list ap;
    va_start(ap, word);
    for (const char *w = word; w; w = va_arg(ap, const char *)) {
        n++;
        bytes += HEAD_MAX + strlen(w) + 2;
    }
    va_end(ap);
    char *p = room(b, bytes);
    if (!p) {
        return -ENOMEM;
    }
    p = put_head(p, RESP_ARRAY, n);
    va_start(ap, word);
    for (const char *w = word; w; w = va_arg(ap, const char *)) {
        size_t len = strlen(w);
        p = put_crlf(put_bytes(put_head(p, RESP_BULK, len), w, len));
    }
    va_end(ap);
    wrote(b, p);
    return 0;
}

static inline unsigned char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c + 32) : (unsigned char)c;
}

bool resp_is(const struct resp_arg *a, const char *word) {
    size_t i;
    for (i = 0; i < a->len && word[i]; i++) {
        if (lower(a->data[i]) != lower(word[i])) {
            return false;
        }
    }
    return i == a->len && !word[i];
}
