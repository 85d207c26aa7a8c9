/* SPDX-License-Identifier: MIT */
/* File descriptor helpers. Fails: -errno of the failing call, -EFBIG and -EMSGSIZE for what is too
 * long; an fd that arrives with a message that is refused is closed. */
#include "lib/base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/cleanup.h"

static int set_flag(int fd, int get, int set, int flag, int on) {
    int v = fcntl(fd, get);
    if (v < 0) {
        return -errno;
    }
    int want = on ? v | flag : v & ~flag;
    if (want != v && fcntl(fd, set, want) < 0) {
        return -errno;
    }
    return 0;
}

int fd_set_nonblock(int fd, int on) {
    return set_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK, on);
}

int fd_set_cloexec(int fd, int on) {
    return set_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC, on);
}

int fd_write_all(int fd, const void *data, size_t n) {
    const char *p = data;
    while (n) {
        ssize_t w = write(fd, p, n);
        if (w < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -errno;
        }
        p += w;
        n -= (size_t)w;
    }
    return 0;
}

int fd_read_all(int fd, size_t max, char **ret, size_t *ret_len) {
    _cleanup_(buf_deinit) struct buf b = BUF_INIT;
    for (;;) {
        char *room = buf_room(&b, 64 * 1024);
        if (!room) {
            return -ENOMEM;
        }
        ssize_t n = read(fd, room, 64 * 1024 - 1);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -errno;
        }
        buf_wrote(&b, (size_t)n);
        if (buf_len(&b) > max) {
            return -EFBIG;
        }
        if (n == 0) {
            room[0] = '\0';
            *ret_len = buf_len(&b);
            *ret = b.data;
            b = BUF_INIT;
            return 0;
        }
    }
}

ssize_t fd_recv(int sock, void *data, size_t n, int *ret_fd) {
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {data, n};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.space,
                       .msg_controllen = sizeof(control.space)};
    ssize_t r;
    do {
        r = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
    } while (r < 0 && errno == EINTR);
    if (r < 0) {
        return -errno;
    }
    _cleanup_close_ int fd = -1;
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof(int))) {
        memcpy(&fd, CMSG_DATA(c), sizeof(int));
    }
    if (m.msg_flags & MSG_TRUNC) {
        return -EMSGSIZE;
    }
    *ret_fd = steal_fd(&fd);
    return r;
}
