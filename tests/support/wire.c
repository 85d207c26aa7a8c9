/* SPDX-License-Identifier: MIT */
/* The tests' own client. It shares the codec with the product (there is one codec, tested and
 * fuzzed by itself) and nothing else, so that an error in libhearth cannot hide one in the daemon.
 *
 * The socket is blocking for writing and polled for reading. The bytes of the message in doc stay
 * in the buffer until the next read, since doc points into them.
 *
 * Fails: returns -errno; wire_call() and wire_show() give a text that no reply looks like. */
#include "tests/support/wire.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"

enum { WIRE_CHUNK = 65536 };

int wire_open(struct wire *w, const char *socket_path) {
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(socket_path) >= sizeof(sa.sun_path)) {
        return -ENAMETOOLONG;
    }
    strcpy(sa.sun_path, socket_path);
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
        return -errno;
    }
    *w = (struct wire){.fd = steal_fd(&fd)};
    return 0;
}

void wire_close(struct wire *w) {
    if (w->fd > 0) {
        close(w->fd);
    }
    buf_deinit(&w->in);
    buf_deinit(&w->text);
    resp_doc_deinit(&w->doc);
    *w = (struct wire){.fd = -1};
}

int wire_send_raw(struct wire *w, const void *data, size_t len) {
    const char *p = data;
    while (len > 0) {
        ssize_t n = send(w->fd, p, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n > 0) {
            p += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

int wire_send_words(struct wire *w, const struct resp_arg *words, size_t n) {
    struct buf b = BUF_INIT;
    int r = resp_put_array(&b, (uint32_t)n);
    for (size_t i = 0; i < n && r == 0; i++) {
        r = resp_put_bulk(&b, words[i].data, words[i].len);
    }
    if (r == 0) {
        r = wire_send_raw(w, buf_head(&b), buf_len(&b));
    }
    buf_deinit(&b);
    return r;
}

static int send_list(struct wire *w, const char *word, va_list ap) {
    struct resp_arg words[64];
    size_t n = 0;
    for (; word; word = va_arg(ap, const char *)) {
        if (n == ARRAY_SIZE(words)) {
            return -E2BIG;
        }
        words[n++] = (struct resp_arg){word, strlen(word)};
    }
    return wire_send_words(w, words, n);
}

int wire_send(struct wire *w, const char *word, ...) {
    va_list ap;
    va_start(ap, word);
    int r = send_list(w, word, ap);
    va_end(ap);
    return r;
}

/* Waits until `until` for bytes and takes what is there. */
static int read_some(struct wire *w, uint64_t until) {
    uint64_t now = clock_now();
    int left = now >= until ? 0 : (int)((until - now + NS_PER_MS - 1) / NS_PER_MS);
    struct pollfd p = {.fd = w->fd, .events = POLLIN};
    int n = poll(&p, 1, left);
    if (n <= 0) {
        return n == 0 ? -ETIMEDOUT : errno == EINTR ? 0 : -errno;
    }
    char *room = buf_room(&w->in, WIRE_CHUNK);
    if (!room) {
        return -ENOMEM;
    }
    ssize_t got = recv(w->fd, room, WIRE_CHUNK, 0);
    if (got <= 0) {
        return got == 0 || errno == ECONNRESET ? -EPIPE : errno == EINTR ? 0 : -errno;
    }
    buf_wrote(&w->in, (size_t)got);
    return 0;
}

int wire_read(struct wire *w, int ms) {
    if (w->taken > 0) { /* else the parser may be in the middle of a message */
        buf_consume(&w->in, w->taken);
        w->taken = 0;
        w->doc.n = 0;
    }
    uint64_t until = clock_now() + (uint64_t)ms * NS_PER_MS;
    size_t need = 1;
    for (;;) {
        if (buf_len(&w->in) >= need) {
            int r = resp_parse(&w->doc, buf_head(&w->in), buf_len(&w->in));
            if (r == RESP_OK) {
                w->taken = w->doc.used;
                return 0;
            }
            if (r != RESP_MORE) {
                return r < 0 ? r : -EPROTO;
            }
            need = w->doc.need > buf_len(&w->in) ? w->doc.need : buf_len(&w->in) + 1;
        }
        int r = read_some(w, until);
        if (r < 0) {
            return r;
        }
    }
}

const char *wire_call(struct wire *w, const char *word, ...) {
    va_list ap;
    va_start(ap, word);
    int r = send_list(w, word, ap);
    va_end(ap);
    if (r == 0) {
        r = wire_read(w, WIRE_LIMIT_MS);
    }
    if (r == 0) {
        return wire_show(w);
    }
    buf_consume(&w->text, buf_len(&w->text));
    buf_printf(&w->text, "!%s", strerror(-r));
    return buf_head(&w->text);
}

static void show_bytes(struct buf *b, const char *data, size_t len) {
    buf_append(b, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)data[i];
        if (c == '"' || c == '\\') {
            buf_printf(b, "\\%c", c);
        } else if (c == '\n' || c == '\r') {
            buf_append(b, c == '\n' ? "\\n" : "\\r", 2);
        } else if (c < 32 || c >= 127) {
            buf_printf(b, "\\x%02x", c);
        } else {
            buf_append(b, &data[i], 1);
        }
    }
    buf_append(b, "\"", 1);
}

static void show(struct buf *b, const struct resp_doc *d, uint32_t i);

static void show_inside(struct buf *b, const struct resp_doc *d, uint32_t i, const char *open,
                        const char *close) {
    buf_append(b, open, strlen(open));
    for (uint32_t at = i + 1, first = at; at < d->v[i].next; at = d->v[at].next) {
        if (at != first) {
            buf_append(b, " ", 1);
        }
        show(b, d, at);
    }
    buf_append(b, close, strlen(close));
}

static void show(struct buf *b, const struct resp_doc *d, uint32_t i) {
    const struct resp_value *v = &d->v[i];
    switch ((enum resp_type)v->type) {
    case RESP_NULL:
        buf_append(b, "nil", 3);
        break;
    case RESP_BULK:
    case RESP_VERBATIM:
        show_bytes(b, v->data, v->len);
        break;
    case RESP_INT:
    case RESP_BOOL:
        buf_printf(b, "%c%" PRId64, v->type, v->integer);
        break;
    case RESP_DOUBLE:
        buf_printf(b, ",%g", v->number);
        break;
    case RESP_ARRAY:
        show_inside(b, d, i, "[", "]");
        break;
    case RESP_MAP:
        show_inside(b, d, i, "{", "}");
        break;
    case RESP_SET:
        show_inside(b, d, i, "~[", "]");
        break;
    case RESP_PUSH:
        show_inside(b, d, i, ">[", "]");
        break;
    case RESP_SIMPLE:
    case RESP_ERROR:
    case RESP_BLOB_ERROR:
    case RESP_BIG:
        buf_printf(b, "%c%.*s", v->type, (int)v->len, v->data);
        break;
    }
}

const char *wire_show_at(struct wire *w, uint32_t i) {
    buf_consume(&w->text, buf_len(&w->text));
    if (i >= w->doc.n) {
        buf_append(&w->text, "!no value", 9);
    } else {
        show(&w->text, &w->doc, i);
    }
    return buf_append(&w->text, "", 1) < 0 ? "!no memory" : buf_head(&w->text);
}

const char *wire_show(struct wire *w) {
    return wire_show_at(w, 0);
}

uint32_t wire_find(const struct wire *w, uint32_t i, const char *key) {
    if (i >= w->doc.n) {
        return 0;
    }
    const struct resp_value *v = w->doc.v;
    uint32_t end = v[i].next;
    for (uint32_t at = i + 1; at < end;) {
        uint32_t value = v[at].next;
        if (value >= end) {
            break;
        }
        if (v[at].len == strlen(key) && memcmp(v[at].data, key, v[at].len) == 0) {
            return value;
        }
        at = v[value].next;
    }
    return 0;
}
