/* SPDX-License-Identifier: MIT */
/* Raw blocks for handlers. Their descriptors are the daemon's to give, so each call asks it over a connection of its own, made
 * through the door (lib/wire/control.h) and closed with the answer: no state between calls, nothing that threads or forks
 * would have to share, and nothing to be found stale. A block is mapped once and used for long.
 *
 * The answer is read byte by byte as far as its end is unknown; it is short. The descriptor comes with its first byte.
 *
 * Fails: -errno as hearth_handler.h says; the error codes of PROTOCOL.md are turned into those. -ETIMEDOUT: the daemon does
 * not answer; -ENOTCONN: there is no door (the process was not started by hearthd). */
#include "worker/block.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/cleanup.h"
#include "lib/base/fd.h"
#include "lib/base/num.h"
#include "lib/wire/control.h"
#include "lib/wire/resp.h"

enum { ANSWER_MS = 30000, ANSWER_MAX = 1024 };

/* Hands one end of a new socketpair through the door; *ret is the other. */
static int connect_daemon(int *ret) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        return -errno;
    }
    _cleanup_close_ int ours = pair[0], theirs = pair[1];
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {(char[]){'c'}, 1};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.space,
                       .msg_controllen = sizeof(control.space)};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(h), &theirs, sizeof(int));
    ssize_t n;
    do {
        n = sendmsg(CONTROL_FD_DOOR, &m, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno == EBADF || errno == ENOTSOCK ? -ENOTCONN : -errno;
    }
    *ret = steal_fd(&ours);
    return 0;
}

static int error_of(const struct resp_value *v) {
    static const struct {
        const char *word;
        int error;
    } codes[] = {
        {"NOBLOCK ", -ENOENT}, {"EXISTS ", -EEXIST}, {"NOMANAGER ", -EIDRM},
        {"QUOTA ", -EDQUOT},   {"OOM ", -ENOMEM},    {"ERR ", -EINVAL},
    };
    for (size_t i = 0; v->type == RESP_ERROR && i < ARRAY_SIZE(codes); i++) {
        size_t n = strlen(codes[i].word);
        if (v->len > n && memcmp(v->data, codes[i].word, n) == 0) {
            return codes[i].error;
        }
    }
    return v->type == RESP_ERROR ? -EACCES : -EPROTO;
}

/* The whole answer in text; *ret_fd: what came with it, or -1. */
static int read_answer(int sock, char text[ANSWER_MAX], struct resp_doc *doc, int *ret_fd) {
    size_t n = 0;
    _cleanup_close_ int fd = -1;
    while (n < ANSWER_MAX) {
        struct pollfd p = {.fd = sock, .events = POLLIN};
        int more = -1, r = poll(&p, 1, ANSWER_MS);
        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r <= 0) {
            return r < 0 ? -errno : -ETIMEDOUT;
        }
        ssize_t got = fd_recv(sock, text + n, ANSWER_MAX - n, &more);
        if (more >= 0 && fd >= 0) {
            close(more); /* one was promised */
        } else if (more >= 0) {
            fd = more;
        }
        if (got <= 0) {
            return got < 0 ? (int)got : -ECONNRESET;
        }
        n += (size_t)got;
        r = resp_parse(doc, text, n);
        if (r == RESP_OK) {
            *ret_fd = steal_fd(&fd);
            return 0;
        }
        if (r != RESP_MORE) {
            return r < 0 ? r : -EPROTO;
        }
    }
    return -EPROTO;
}

/* Sends n words. *ret_fd as above; *ret_number: what was answered, if it was an integer. */
static int ask(const struct hearth_bytes *words, size_t n, int *ret_fd, int64_t *ret_number) {
    _cleanup_close_ int sock = -1;
    struct buf out = BUF_INIT;
    struct resp_doc doc = {0};
    char text[ANSWER_MAX];
    int r = connect_daemon(&sock);
    r = r < 0 ? r : resp_put_array(&out, (uint32_t)n);
    for (size_t i = 0; i < n && r == 0; i++) {
        r = resp_put_bulk(&out, words[i].data, words[i].len);
    }
    for (size_t at = 0; r == 0 && at < buf_len(&out);) {
        ssize_t sent = send(sock, buf_head(&out) + at, buf_len(&out) - at, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR) {
            r = -errno;
        }
        at += sent > 0 ? (size_t)sent : 0;
    }
    r = r < 0 ? r : read_answer(sock, text, &doc, ret_fd);
    if (r == 0 && doc.v[0].type == RESP_ERROR) {
        r = error_of(&doc.v[0]);
    }
    if (r == 0 && doc.v[0].type == RESP_INT) {
        *ret_number = doc.v[0].integer;
    }
    resp_doc_deinit(&doc);
    buf_deinit(&out);
    return r;
}

/* Asks for a descriptor and maps what it is of. */
static int ask_map(const struct hearth_bytes *words, size_t n, int readonly, void **ret,
                   uint64_t *ret_size) {
    _cleanup_close_ int fd = -1;
    int64_t none;
    struct stat st;
    int r = ask(words, n, &fd, &none);
    if (r < 0) {
        return r;
    }
    if (fd < 0) {
        return -EPROTO;
    }
    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    void *at = mmap(NULL, (size_t)st.st_size, readonly ? PROT_READ : PROT_READ | PROT_WRITE,
                    MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        return -errno;
    }
    *ret = at;
    if (ret_size) {
        *ret_size = (uint64_t)st.st_size;
    }
    return 0;
}

int block_create(struct hearth_bytes name, uint64_t size, void **ret) {
    char digits[20];
    int64_t none;
    int fd = -1;
    const struct hearth_bytes words[] = {hearth_text("BLOCK.CREATE"),
                                         name,
                                         {digits, num_put_u64(digits, size)},
                                         hearth_text("OPEN")};
    return ret ? ask_map(words, 4, 0, ret, NULL) : ask(words, 3, &fd, &none);
}

int block_open(struct hearth_bytes name, int readonly, void **ret, uint64_t *ret_size) {
    const struct hearth_bytes words[] = {hearth_text("BLOCK.OPEN"), name, hearth_text("READONLY")};
    return ask_map(words, readonly ? 3 : 2, readonly, ret, ret_size);
}

int block_unlink(struct hearth_bytes name) {
    const struct hearth_bytes words[] = {hearth_text("BLOCK.UNLINK"), name};
    int64_t n = 0;
    int fd = -1, r = ask(words, 2, &fd, &n);
    return r == 0 && n == 0 ? -ENOENT : r;
}

int block_unmap(void *at, uint64_t size) {
    return munmap(at, (size_t)size) < 0 ? -errno : 0;
}
