/* SPDX-License-Identifier: MIT */
/* Descriptors from clients. A recvmsg() costs a little more than the recv() that all other connections have, and descriptors cost
 * the daemon its own limit of them, hence the leave that has to be asked for and the small number. One that comes is close-on-exec
 * from the beginning. Those of a client that is gone are closed with it, those that a command did not name wait for the next.
 *
 * Fails: a client that sends too many is closed. */
#include "daemon/serve/passed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct passed {
    int fds[PASSED_MAX];
    uint32_t n;
};

int passed_open(struct conn *c) {
    if (!c->passed) {
        c->passed = calloc(1, sizeof(*c->passed));
    }
    return c->passed ? 0 : -ENOMEM;
}

static bool keep(struct passed *p, const struct cmsghdr *h) {
    int fds[PASSED_MAX];
    size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    bool fit = true;
    memcpy(fds, CMSG_DATA(h), n * sizeof(int)); /* as many as there was room for */
    for (size_t i = 0; i < n; i++) {
        if (p->n < PASSED_MAX) {
            p->fds[p->n++] = fds[i];
        } else {
            close(fds[i]);
            fit = false;
        }
    }
    return fit;
}

ssize_t passed_recv(struct conn *c, char *data, size_t size) {
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(PASSED_MAX * sizeof(int))];
    } control;
    struct iovec iov = {data, size};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(c->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n <= 0) {
        return n;
    }
    bool fit = !(m.msg_flags & MSG_CTRUNC);
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
        if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS) {
            fit &= keep(c->passed, h);
        }
    }
    if (!fit) {
        conn_kill(c, "it sends more descriptors than it names");
        errno = EAGAIN;
        return -1;
    }
    return n;
}

int passed_take(struct conn *c) {
    struct passed *p = c->passed;
    if (!p || p->n == 0) {
        return -1;
    }
    int fd = p->fds[0];
    memmove(p->fds, p->fds + 1, --p->n * sizeof(int));
    return fd;
}

void passed_free(struct conn *c) {
    for (int fd = passed_take(c); fd >= 0; fd = passed_take(c)) {
        close(fd);
    }
    free(c->passed);
    c->passed = NULL;
}
