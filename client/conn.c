/* SPDX-License-Identifier: MIT */
/* The socket of a handle: buffered output, big reads, and how to wait.
 *
 * Output gathers in one buffer and leaves in as few system calls as the socket allows. A large
 * payload of a blocking call is not copied into it: it is sent from where it lies, between the
 * bytes before and behind it (`direct`).
 *
 * Waiting: a sleeper on another CPU is woken far more slowly, on virtual machines above all, than one that polls
 * sees the byte. So conn_wait() first polls for up to 50 us, giving its CPU away each time
 * round since the daemon and a worker may need it. That is wasted when the answer takes longer, so
 * each miss doubles how many waits in a row go straight to sleep (up to 63), and each hit halves
 * it. With one CPU there is nothing to win and it never spins.
 *
 * The fd stays open after a loss: an event loop may still watch it, and a closed number could be
 * reused.
 *
 * Fails: whatever send() and recv() say ends the connection; ENOMEM does too, for a reply must not
 * be skipped. */
#include "client/handle.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "lib/base/clock.h"
#include "lib/base/cpu.h"
#include "lib/base/fd.h"

static bool can_spin(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 1;
}

int conn_open(struct hearth *h) {
    if (h->has_path) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0) {
            return -errno;
        }
        int r;
        do {
            r = connect(fd, (const struct sockaddr *)&h->addr, sizeof(h->addr)) < 0 ? -errno : 0;
        } while (r == -EINTR);
        if (r < 0) {
            close(fd);
            return r;
        }
        h->fd = fd;
    }
    h->can_spin = can_spin();
    h->lost = false;
    return fd_set_nonblock(h->fd, 0);
}

int conn_lose(struct hearth *h, int reason, const char *text) {
    if (!h->lost) {
        h->lost = true;
        h->lost_for = reason;
        h->lost_ns = clock_now();
        h->out.head = h->out.tail = 0;
        h->direct_len = 0;
        result_say(h, reason, "%s", text);
    }
    return reason;
}

/* Empties without giving memory back, unless it is much: a stream of requests would otherwise
 * allocate per flush. */
static void drop(struct buf *b, size_t n) {
    b->head += n;
    if (b->head == b->tail) {
        b->head = b->tail = 0;
        if (b->cap > HANDLE_KEEP) {
            buf_deinit(b);
        }
    }
}

void conn_release(struct hearth *h) {
    drop(&h->in, h->held);
    h->held = 0;
}

static int pieces(struct hearth *h, struct iovec iov[3]) {
    size_t len = buf_len(&h->out);
    size_t before = h->direct_len ? h->direct_at : len;
    char *data = h->out.data ? h->out.data + h->out.head : NULL;
    int n = 0;
    if (before) {
        iov[n++] = (struct iovec){data, before};
    }
    if (h->direct_len) {
        iov[n++] = (struct iovec){(void *)(uintptr_t)h->direct, h->direct_len};
    }
    if (len > before) {
        iov[n++] = (struct iovec){data + before, len - before};
    }
    return n;
}

static void sent(struct hearth *h, size_t n) {
    if (h->direct_len) {
        size_t before = n < h->direct_at ? n : h->direct_at;
        h->direct_at -= before;
        drop(&h->out, before);
        n -= before;
        size_t middle = n < h->direct_len ? n : h->direct_len;
        h->direct = (const char *)h->direct + middle;
        h->direct_len -= middle;
        n -= middle;
    }
    drop(&h->out, n);
}

/* The descriptors that are to go along with the next bytes. */
static void give_fds(struct hearth *h, struct msghdr *msg, void *control) {
    size_t bytes = (size_t)h->n_give * sizeof(int);
    msg->msg_control = control;
    msg->msg_controllen = CMSG_SPACE(bytes);
    struct cmsghdr *c = memset(control, 0, CMSG_SPACE(bytes));
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(bytes);
    memcpy(CMSG_DATA(c), h->give, bytes);
}

int conn_flush(struct hearth *h) {
    if (h->lost) {
        return HEARTH_E_DISCONNECTED;
    }
    struct iovec iov[3];
    struct msghdr msg = {.msg_iov = iov};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(CONN_GIVE * sizeof(int))];
    } control;
    if (h->n_give > 0) {
        give_fds(h, &msg, &control);
    }
    while ((msg.msg_iovlen = (size_t)pieces(h, iov)) > 0) {
        ssize_t n = sendmsg(h->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return 0;
        }
        if (n < 0) {
            /* What the daemon said before it closed is still to be read; the read finds the end. */
            if (errno == EPIPE || errno == ECONNRESET) {
                h->out.head = h->out.tail = 0;
                h->direct_len = 0;
                return 0;
            }
            return conn_lose(h, HEARTH_E_DISCONNECTED, strerror(errno));
        }
        sent(h, (size_t)n);
        h->n_give = 0;
        msg.msg_control = NULL;
        msg.msg_controllen = 0;
    }
    return 0;
}

/* recv() that keeps up to two descriptors. */
static ssize_t take_fds(struct hearth *h, char *to, size_t room, int flags) {
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(h->fds))];
    } control;
    struct iovec iov = {to, room};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.space,
                       .msg_controllen = sizeof(control.space)};
    ssize_t n = recvmsg(h->fd, &m, flags | MSG_CMSG_CLOEXEC);
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && h->n_fds == 0) {
        h->n_fds = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(h->fds, CMSG_DATA(c), (size_t)h->n_fds * sizeof(int));
    }
    return n;
}

static int take(struct hearth *h, int flags, size_t *ret_n) {
    size_t have = buf_len(&h->in);
    size_t room = h->need > have + HANDLE_READ ? h->need - have : HANDLE_READ;
    char *to = buf_room(&h->in, room);
    if (!to) {
        return conn_lose(h, -ENOMEM, "out of memory");
    }
    room = h->in.cap - h->in.tail;
    ssize_t n;
    do {
        n = h->takes_fds ? take_fds(h, to, room, flags) : recv(h->fd, to, room, flags);
        if (n < 0 && errno == EINTR && h->waits) {
            wait_signalled(h);
            errno = EINTR;
        }
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        buf_wrote(&h->in, (size_t)n);
        *ret_n = (size_t)n;
        return 0;
    }
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        *ret_n = 0;
        return 0;
    }
    return conn_lose(h, HEARTH_E_DISCONNECTED,
                     n == 0 ? "the daemon closed the connection" : strerror(errno));
}

int conn_read(struct hearth *h, size_t *ret_n) {
    return take(h, MSG_DONTWAIT, ret_n);
}

/* True: something has come. */
static bool spin(struct hearth *h, uint64_t deadline) {
    if (h->spin_skip > 0) {
        h->spin_skip--;
        return false;
    }
    uint64_t now = clock_now();
    uint64_t end = now + HANDLE_SPIN_US * UINT64_C(1000);
    bool cut = deadline < end;
    if (!yield_may_poll(&h->yield, now)) {
        return false;
    }
    do {
        char byte;
        ssize_t n = recv(h->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);
        if (n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
            h->spin_penalty /= 2;
            h->spin_skip = (1u << h->spin_penalty) - 1;
            return true;
        }
        now = clock_now();
    } while (yield_cpu(&h->yield, &now) && now < (cut ? deadline : end));
    if (!cut && h->spin_penalty < 6) {
        h->spin_penalty++;
    }
    h->spin_skip = (1u << h->spin_penalty) - 1;
    return false;
}

static bool is_writing(const struct hearth *h) {
    return h->direct_len || buf_len(&h->out);
}

/* Sleeps; what conn_wait() says. */
static int sleep_until(struct hearth *h, uint64_t deadline) {
    bool writing = is_writing(h);
    struct timespec ts, *timeout = NULL;
    if (deadline != UINT64_MAX) {
        uint64_t now = clock_now();
        uint64_t left = deadline > now ? deadline - now : 0;
        ts = (struct timespec){(time_t)(left / NS_PER_SEC), (long)(left % NS_PER_SEC)};
        timeout = &ts;
    }
    struct pollfd p[2] = {
        {.fd = h->fd, .events = (short)(POLLIN | (writing ? POLLOUT : 0))},
        {.fd = h->also_fd, .events = POLLIN}, /* poll() passes over -1 */
    };
    int n = ppoll(p, 2, timeout, NULL);
    if (n < 0) {
        return errno == EINTR ? -EINTR : conn_lose(h, HEARTH_E_DISCONNECTED, strerror(errno));
    }
    return n == 0 ? HEARTH_E_PENDING : 0;
}

bool conn_has_input(const struct hearth *h) {
    size_t len = buf_len(&h->in) - h->held;
    return len > 0 && len >= h->need;
}

int conn_wait(struct hearth *h, uint64_t deadline) {
    int r = conn_flush(h);
    if (r != 0 || conn_has_input(h) ||
        (!is_writing(h) && h->can_spin && deadline != 0 && spin(h, deadline))) {
        return r;
    }
    return sleep_until(h, deadline);
}

int conn_wait_read(struct hearth *h, uint64_t deadline, size_t *ret_n) {
    int r = conn_flush(h);
    if (r != 0) {
        return r;
    }
    if (!is_writing(h)) {
        bool come = h->can_spin && deadline != 0 && spin(h, deadline);
        if (come || deadline == UINT64_MAX) {
            return take(h, come ? MSG_DONTWAIT : 0, ret_n);
        }
    }
    r = sleep_until(h, deadline);
    return r == 0 ? take(h, MSG_DONTWAIT, ret_n) : r;
}
