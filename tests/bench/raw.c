/* SPDX-License-Identifier: MIT */
/* Round trips and the chain.
 *
 *     pair:   we <--> peer
 *     chain:  we <--> relay <--> worker        four hops, as a task over a socket takes at least
 *
 * The relay and the worker forward whatever has come, so that with many messages under way they
 * coalesce by themselves: this is the limit of a daemon that does nothing but pass bytes on. All
 * messages have the same length and no content.
 *
 * Who polls must not go on polling when nobody measures: the shared word `hot` says which it is,
 * and a process that finds it cold sleeps in its epoll_wait() until the next message.
 *
 * Fails: -errno in the measuring process; the others end by themselves on any error, which the
 * measuring one finds as EOF, or are killed by raw_close(). A lost futex word ends by its time
 * limit. */
#include "tests/bench/raw.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/fd.h"
#include "tests/bench/bench.h"
#include "tests/support/child.h"

enum { CHUNK = 64 * 1024 };

const char *const raw_names[] = {
    [RAW_FUTEX] = "futex, there and back",
    [RAW_EVENTFD] = "eventfd, there and back",
    [RAW_SOCKET] = "Unix socket, there and back",
    [RAW_MEBIBYTE] = "Unix socket, 1 MiB there and back",
    [RAW_CHAIN] = "4-hop chain, sockets and epoll",
    [RAW_CHAIN_POLL] = "4-hop chain, polling with sched_yield",
};

struct raw_shared {
    _Alignas(64) _Atomic uint32_t ask;
    _Alignas(64) _Atomic uint32_t answer;
    _Alignas(64) _Atomic uint32_t hot;
};

/* ---- waiting ---- */

static int futex_await(_Atomic uint32_t *word, uint32_t old, time_t seconds) {
    struct timespec limit = {seconds, 0};
    while (atomic_load(word) == old) {
        if (syscall(SYS_futex, word, FUTEX_WAIT, old, &limit, NULL, 0) < 0 && errno == ETIMEDOUT) {
            return -ETIMEDOUT;
        }
    }
    return 0;
}

static void futex_tell(_Atomic uint32_t *word) {
    atomic_fetch_add(word, 1);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Waits for input; which of the watched it is in *ret_which. */
static int await(const struct raw *r, int epoll, uint32_t *ret_which) {
    for (;;) {
        struct epoll_event e;
        bool poll = r->kind == RAW_CHAIN_POLL && atomic_load(&r->shared->hot);
        int n = epoll_wait(epoll, &e, 1, poll ? 0 : -1);
        if (n == 1) {
            *ret_which = e.data.u32;
            return 0;
        }
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (poll) {
            sched_yield();
        }
    }
}

static int watch(int epoll, int fd, uint32_t which) {
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = which};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

/* ---- the other processes ---- */

struct job {
    const struct raw *r;
    int fd[2]; /* relay: its two sides; else: read and write */
};

static int run_futex(void *arg) {
    const struct job *j = arg;
    for (uint32_t seen = 0;; seen++) {
        if (futex_await(&j->r->shared->ask, seen, 3600) < 0) {
            return 1;
        }
        futex_tell(&j->r->shared->answer);
    }
}

static size_t message_size(enum raw_kind kind) {
    return kind == RAW_MEBIBYTE ? RAW_LONG : kind == RAW_EVENTFD ? sizeof(uint64_t) : RAW_MESSAGE;
}

static int read_all(int fd, char *data, size_t n) {
    for (size_t got = 0; got < n;) {
        ssize_t k = read(fd, data + got, n - got);
        if (k <= 0) {
            return -EIO;
        }
        got += (size_t)k;
    }
    return 0;
}

static int run_echo(void *arg) {
    const struct job *j = arg;
    static char message[RAW_LONG];
    size_t n = message_size(j->r->kind);
    while (read_all(j->fd[0], message, n) == 0 && fd_write_all(j->fd[1], message, n) == 0) {
    }
    return 1;
}

/* Forwards between fd[0] and fd[1]; with both the same it answers. */
static int run_forward(void *arg) {
    const struct job *j = arg;
    static char chunk[CHUNK];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0 || watch(epoll, j->fd[0], 0) < 0 ||
        (j->fd[1] != j->fd[0] && watch(epoll, j->fd[1], 1) < 0)) {
        return 1;
    }
    for (;;) {
        uint32_t which = 0;
        if (await(j->r, epoll, &which) < 0) {
            return 1;
        }
        ssize_t n = read(j->fd[which], chunk, sizeof(chunk));
        if (n <= 0 || fd_write_all(j->fd[!which], chunk, (size_t)n) < 0) {
            return 1;
        }
    }
}

/* ---- opening ---- */

static int start(struct raw *r, unsigned which, int (*fn)(void *), int in, int out) {
    struct job j = {.r = r, .fd = {in, out}};
    pid_t pid = child_start(fn, &j);
    if (pid < 0) {
        return (int)pid;
    }
    r->pid[which] = pid;
    return 0;
}

static int open_eventfds(struct raw *r) {
    int ask = eventfd(0, EFD_CLOEXEC), answer = eventfd(0, EFD_CLOEXEC);
    r->fd[0] = answer;
    r->fd[1] = ask;
    return ask < 0 || answer < 0 ? -EMFILE : start(r, 0, run_echo, ask, answer);
}

static int open_socket(struct raw *r) {
    int s[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) < 0) {
        return -errno;
    }
    r->fd[0] = r->fd[1] = s[0];
    int e = start(r, 0, run_echo, s[1], s[1]);
    close(s[1]);
    return e;
}

static int open_chain(struct raw *r) {
    int a[2], b[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, a) < 0) {
        return -errno;
    }
    r->fd[0] = r->fd[1] = a[0];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b) < 0) {
        close(a[1]);
        return -errno;
    }
    int e = start(r, 0, run_forward, a[1], b[0]);
    e = e < 0 ? e : start(r, 1, run_forward, b[1], b[1]);
    close(a[1]);
    close(b[0]);
    close(b[1]);
    r->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (e == 0) {
        e = r->epoll < 0 ? -errno : watch(r->epoll, r->fd[0], 0);
    }
    return e;
}

int raw_open(struct raw *r, enum raw_kind kind) {
    *r = (struct raw){.kind = kind, .fd = {-1, -1}, .epoll = -1};
    r->shared =
        mmap(NULL, sizeof(*r->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (r->shared == MAP_FAILED) {
        r->shared = NULL;
        return -errno;
    }
    int e = 0;
    switch (kind) {
    case RAW_FUTEX:
        e = start(r, 0, run_futex, -1, -1);
        break;
    case RAW_EVENTFD:
        e = open_eventfds(r);
        break;
    case RAW_SOCKET:
    case RAW_MEBIBYTE:
        e = open_socket(r);
        break;
    case RAW_CHAIN:
    case RAW_CHAIN_POLL:
        e = open_chain(r);
        break;
    }
    if (e < 0) {
        raw_close(r);
    }
    return e;
}

void raw_close(struct raw *r) {
    if (!r->shared) {
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        if (r->pid[i] > 0) {
            child_kill(r->pid[i]);
        }
    }
    if (r->fd[1] >= 0 && r->fd[1] != r->fd[0]) {
        close(r->fd[1]);
    }
    if (r->fd[0] >= 0) {
        close(r->fd[0]);
    }
    if (r->epoll >= 0) {
        close(r->epoll);
    }
    munmap(r->shared, sizeof(*r->shared));
    *r = (struct raw){.fd = {-1, -1}, .epoll = -1};
}

/* ---- measuring ---- */

static int trip_futex(struct raw *r) {
    uint32_t old = atomic_load(&r->shared->answer);
    futex_tell(&r->shared->ask);
    return futex_await(&r->shared->answer, old, 10);
}

static int trip_fd(struct raw *r) {
    static char message[RAW_LONG] = {1};
    size_t n = message_size(r->kind);
    int e = fd_write_all(r->fd[1], message, n);
    uint32_t which = 0;
    if (e == 0 && r->epoll >= 0) {
        e = await(r, r->epoll, &which);
    }
    return e < 0 ? e : read_all(r->fd[0], message, n);
}

static int some_trips(struct raw *r, unsigned n) {
    int e = 0;
    for (unsigned i = 0; i < n && e == 0; i++) {
        e = r->kind == RAW_FUTEX ? trip_futex(r) : trip_fd(r);
    }
    return e;
}

int raw_trips(struct raw *r, unsigned n, double *ret_us) {
    atomic_store(&r->shared->hot, 1);
    int e = some_trips(r, n / 10 + 1);
    uint64_t t = clock_now();
    e = e < 0 ? e : some_trips(r, n);
    double us = bench_seconds(t) * 1e6 / n;
    atomic_store(&r->shared->hot, 0);
    if (e == 0) {
        *ret_us = us;
    }
    return e;
}

int raw_pipeline(struct raw *r, unsigned n, unsigned flight, double *ret_per_second) {
    static char chunk[CHUNK];
    size_t most = sizeof(chunk) / RAW_MESSAGE;
    size_t total = (size_t)n * RAW_MESSAGE, sent = 0, got = 0, limit = (size_t)flight * RAW_MESSAGE;
    if (flight > most) {
        return -EINVAL;
    }
    atomic_store(&r->shared->hot, 1);
    uint64_t t = clock_now();
    while (got < total) {
        size_t room = limit - (sent - got);
        room = room < total - sent ? room : total - sent;
        room -= room % RAW_MESSAGE;
        if (room > 0) {
            int e = fd_write_all(r->fd[1], chunk, room);
            if (e < 0) {
                return e;
            }
            sent += room;
        }
        uint32_t which = 0;
        int e = await(r, r->epoll, &which);
        ssize_t k = e < 0 ? -1 : read(r->fd[0], chunk, sizeof(chunk));
        if (k <= 0) {
            return e < 0 ? e : -EIO;
        }
        got += (size_t)k;
    }
    *ret_per_second = n / bench_seconds(t);
    atomic_store(&r->shared->hot, 0);
    return 0;
}
