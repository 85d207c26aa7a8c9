/* SPDX-License-Identifier: MIT */
/* Output of a connection: one buffer of copied bytes, and between them references to large results
 * that lie in the segment. A reference pins its task, so the record outlives being forgotten until
 * its bytes have been sent; a connection that is killed unpins all. Small results are copied: that
 * costs less than an iovec.
 *
 *     out:   [+OK $40000.....][ .. $50000...][ .. ]     positions count all bytes ever put into out,
 *     refs:                   ^ at           ^ at       so they stay right when sent bytes are consumed
 *
 * Descriptors travel beside bytes, so a reply that passes some is sent at once, out of an output that was empty before it: it
 * is the next thing the client reads.
 *
 * MSG_NOSIGNAL: a client that is gone is -EPIPE, not a signal.
 * Fails: -ENOMEM, and the errors of send(2). */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "daemon/serve/conn.h"
#include "daemon/serve/hold.h"
#include "daemon/serve/reply.h"

enum {
    PIECES = 16, /* of one sendmsg() */
    REFS_FIRST = 4,
};

static int ref_add(struct conn *c, uint32_t idx, const struct task_bytes *bytes) {
    if (c->refs_first + c->refs_n == c->refs_cap) {
        if (c->refs_first > c->refs_cap / 2) {
            memmove(c->refs, c->refs + c->refs_first, c->refs_n * sizeof(*c->refs));
        } else {
            uint32_t cap = c->refs_cap ? c->refs_cap * 2 : REFS_FIRST;
            struct out_ref *refs = malloc(cap * sizeof(*refs));
            if (!refs) {
                return -ENOMEM;
            }
            if (c->refs_n) {
                memcpy(refs, c->refs + c->refs_first, c->refs_n * sizeof(*refs));
            }
            free(c->refs);
            c->refs = refs;
            c->refs_cap = cap;
        }
        c->refs_first = 0;
    }
    tasks_pin(c->serve->d, idx);
    c->refs[c->refs_first + c->refs_n++] = (struct out_ref){
        .at = c->out_sent + buf_len(&c->out),
        .data = bytes->data,
        .len = bytes->len,
        .idx = idx,
    };
    c->refs_bytes += bytes->len;
    return 0;
}

int output_bytes(struct conn *c, struct buf *to, uint32_t idx, const struct task_bytes *bytes) {
    if (to != &c->out || bytes->len <= CONN_COPY_MAX || c->dead) {
        return buf_append(to, bytes->data, bytes->len);
    }
    return ref_add(c, idx, bytes);
}

int output_bulk(struct conn *c, struct buf *to, uint32_t idx, const struct task_bytes *bytes) {
    if (to != &c->out || bytes->len <= CONN_COPY_MAX || c->dead) {
        return resp_put_bulk(to, bytes->data, bytes->len);
    }
    int r = resp_put_bulk_head(to, bytes->len);
    r = r < 0 ? r : ref_add(c, idx, bytes);
    return r < 0 ? r : buf_append(to, "\r\n", 2);
}

static void ref_done(struct conn *c) {
    uint32_t idx = c->refs[c->refs_first].idx;
    c->refs_first++;
    c->ref_done = 0;
    if (--c->refs_n == 0) {
        c->refs_first = 0;
    }
    tasks_unpin(c->serve->d, idx);
}

void output_deinit(struct conn *c) {
    while (c->refs_n > 0) {
        ref_done(c);
    }
    c->refs_bytes = 0;
    free(c->refs);
    c->refs = NULL;
    c->refs_cap = c->refs_first = 0;
    buf_deinit(&c->out);
}

static int gather(const struct conn *c, struct iovec iov[PIECES], size_t *ret_total) {
    int n = 0;
    size_t total = 0, done = 0; /* done: bytes of out put into iov */
    size_t copied = buf_len(&c->out), limit = hold_limit(c);
    copied = copied < limit ? copied : limit;
    for (uint32_t i = 0; n < PIECES - 1; i++) {
        const struct out_ref *ref = i < c->refs_n ? &c->refs[c->refs_first + i] : NULL;
        if (ref && (size_t)(ref->at - c->out_sent) > copied) {
            ref = NULL; /* behind what is held */
        }
        size_t until = ref ? (size_t)(ref->at - c->out_sent) : copied;
        if (until > done) {
            iov[n++] = (struct iovec){(char *)(uintptr_t)buf_head(&c->out) + done, until - done};
            total += until - done;
            done = until;
        }
        if (!ref) {
            break;
        }
        size_t skip = i == 0 ? c->ref_done : 0;
        iov[n++] = (struct iovec){(char *)(uintptr_t)ref->data + skip, ref->len - skip};
        total += ref->len - skip;
    }
    *ret_total = total;
    return n;
}

static void sent(struct conn *c, size_t n) {
    while (n > 0) {
        const struct out_ref *ref = c->refs_n ? &c->refs[c->refs_first] : NULL;
        size_t before = ref ? (size_t)(ref->at - c->out_sent) : buf_len(&c->out);
        if (before > 0) {
            size_t k = n < before ? n : before;
            buf_consume(&c->out, k);
            c->out_sent += k;
            n -= k;
            continue;
        }
        assert(ref); /* no more was sent than there was */
        size_t k = n < ref->len - c->ref_done ? n : ref->len - c->ref_done;
        c->ref_done += k;
        c->refs_bytes -= k;
        n -= k;
        if (c->ref_done == ref->len) {
            ref_done(c);
        }
    }
}

/* One system call; send() where it will do, which costs the kernel less than a vector. */
static ssize_t send_some(const struct conn *c, size_t *ret_total) {
    const int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    if (c->refs_n == 0) {
        size_t n = buf_len(&c->out), limit = hold_limit(c);
        *ret_total = n < limit ? n : limit;
        return send(c->fd, buf_head(&c->out), *ret_total, flags);
    }
    struct iovec iov[PIECES];
    struct msghdr msg = {.msg_iov = iov};
    msg.msg_iovlen = (size_t)gather(c, iov, ret_total);
    return sendmsg(c->fd, &msg, flags);
}

/* Is there anything in front of what is held? */
static bool sendable(const struct conn *c) {
    return conn_pending(c) > 0 && (!c->holds || hold_limit(c) > 0 ||
                                   (c->refs_n && c->refs[c->refs_first].at == c->out_sent));
}

int output_flush(struct conn *c) {
    size_t written = 0;
    while (sendable(c) && written < CONN_FLUSH_MAX) {
        size_t total;
        ssize_t n = send_some(c, &total);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno != EAGAIN) {
            return -errno;
        }
        if (n > 0) {
            sent(c, (size_t)n);
            written += (size_t)n;
            c->bytes_out += (uint64_t)n;
            c->serve->bytes_out += (uint64_t)n;
        }
        if (n < (ssize_t)total) {
            c->blocked_write = true;
            return 0;
        }
    }
    c->blocked_write = sendable(c); /* go on when the socket says so, after the others */
    return 0;
}

/* ---- descriptors ---- */

bool output_can_pass(struct conn *c, const char *command) {
    if (conn_pending(c) == 0 || (output_flush(c) == 0 && conn_pending(c) == 0)) {
        if (!c->muted && !c->exec) {
            return true;
        }
    }
    reply_errorf(c, "ERR %s comes after all replies have been read", command);
    return false;
}

void output_pass(struct conn *c, const int *fds, size_t n) {
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(OUTPUT_FDS * sizeof(int))];
    } control = {0};
    struct iovec iov = {(char *)(uintptr_t)buf_head(&c->out), buf_len(&c->out)};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.space,
                       .msg_controllen = CMSG_SPACE(n * sizeof(int))};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    assert(n > 0 && n <= OUTPUT_FDS);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(n * sizeof(int));
    memcpy(CMSG_DATA(h), fds, n * sizeof(int));
    ssize_t sent;
    do {
        sent = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    if (sent <= 0) {
        c->broken = true; /* the reply without its descriptors would be a lie */
        return;
    }
    buf_consume(&c->out, (size_t)sent);
    c->out_sent += (uint64_t)sent;
    c->bytes_out += (uint64_t)sent;
    c->serve->bytes_out += (uint64_t)sent;
}
