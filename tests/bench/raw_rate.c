/* SPDX-License-Identifier: MIT */
/* Rates: a ring in shared memory, processes by posix_spawn and by fork.
 *
 * The ring is the plainest there is, one writer and one reader, each keeping a copy of the other's
 * position so that they touch each other's cache line only when the ring looks full or empty; who
 * has to wait gives the CPU away after a while. Processes are spawned from a small process of its
 * own, so that they can be waited for in any order without meeting other children of ours, and so
 * that the size of the measuring process does not count.
 *
 * Fails: -errno, -EIO when a process did not end well. */
#include <errno.h>
#include <sched.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "lib/base/clock.h"
#include "lib/base/cpu.h"
#include "tests/bench/bench.h"
#include "tests/bench/raw.h"
#include "tests/support/child.h"

enum { RING_SIZE = 4096, SPINS = 200 };

extern char **environ;

struct ring {
    _Alignas(64) _Atomic uint64_t tail;
    _Alignas(64) _Atomic uint64_t head;
    _Alignas(64) uint64_t words[RING_SIZE];
    uint64_t n, sum;
    double per_second;
};

static void pause_or_yield(unsigned *spins) {
    if (++*spins < SPINS) {
        cpu_pause();
    } else {
        *spins = 0;
        sched_yield();
    }
}

static int run_writer(void *arg) {
    struct ring *q = arg;
    uint64_t head = 0;
    for (uint64_t i = 0; i < q->n; i++) {
        for (unsigned spins = 0; i - head == RING_SIZE;) {
            head = atomic_load_explicit(&q->head, memory_order_acquire);
            if (i - head == RING_SIZE) {
                pause_or_yield(&spins);
            }
        }
        q->words[i % RING_SIZE] = i;
        atomic_store_explicit(&q->tail, i + 1, memory_order_release);
    }
    return 0;
}

static void read_ring(struct ring *q) {
    uint64_t tail = 0, sum = 0;
    for (uint64_t i = 0; i < q->n; i++) {
        for (unsigned spins = 0; i == tail;) {
            tail = atomic_load_explicit(&q->tail, memory_order_acquire);
            if (i == tail) {
                pause_or_yield(&spins);
            }
        }
        sum += q->words[i % RING_SIZE];
        atomic_store_explicit(&q->head, i + 1, memory_order_release);
    }
    q->sum = sum;
}

static void *shared(size_t n) {
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

int raw_ring(unsigned long n, double *ret_per_second) {
    struct ring *q = shared(sizeof(*q));
    if (!q) {
        return -ENOMEM;
    }
    q->n = n;
    uint64_t t = clock_now();
    pid_t pid = child_start(run_writer, q);
    int r = pid < 0 ? (int)pid : 0;
    if (r == 0) {
        read_ring(q);
        *ret_per_second = (double)n / bench_seconds(t);
        r = child_wait(pid) == 0 && q->sum == (uint64_t)n * (n - 1) / 2 ? 0 : -EIO;
    }
    munmap(q, sizeof(*q));
    return r;
}

struct spawner {
    unsigned n, flight;
    double per_second;
};

static int run_spawner(void *arg) {
    struct spawner *s = arg;
    char *argv[] = {(char *)"true", NULL};
    uint64_t t = clock_now();
    unsigned started = 0;
    for (unsigned ended = 0; ended < s->n; ended++) {
        for (; started < s->n && started - ended < s->flight; started++) {
            pid_t pid;
            if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ) != 0) {
                return 1;
            }
        }
        int status;
        if (waitpid(-1, &status, 0) < 0 || status != 0) {
            return 1;
        }
    }
    s->per_second = s->n / bench_seconds(t);
    return 0;
}

static int run_nothing(void *arg) {
    (void)arg;
    return 0;
}

static int run_forker(void *arg) {
    struct spawner *s = arg;
    uint64_t t = clock_now();
    for (unsigned i = 0; i < s->n; i++) {
        pid_t pid = child_start(run_nothing, NULL);
        if (pid < 0 || child_wait(pid) != 0) {
            return 1;
        }
    }
    s->per_second = s->n / bench_seconds(t);
    return 0;
}

static int run_small(int (*fn)(void *), unsigned n, unsigned flight, double *ret_per_second) {
    struct spawner *s = shared(sizeof(*s));
    if (!s) {
        return -ENOMEM;
    }
    *s = (struct spawner){.n = n, .flight = flight};
    pid_t pid = child_start(fn, s);
    int r = pid < 0 ? (int)pid : child_wait(pid) == 0 ? 0 : -EIO;
    if (r == 0) {
        *ret_per_second = s->per_second;
    }
    munmap(s, sizeof(*s));
    return r;
}

int raw_spawn(unsigned n, unsigned flight, double *ret_per_second) {
    return run_small(run_spawner, n, flight, ret_per_second);
}

int raw_spawn_two(unsigned n, double *ret_per_second) {
    struct spawner s[2] = {{.n = n / 2, .flight = 1}, {.n = n - n / 2, .flight = 1}};
    pid_t pid[2];
    uint64_t t = clock_now();
    for (unsigned i = 0; i < 2; i++) {
        pid[i] = child_start(run_spawner, &s[i]);
    }
    int r = 0;
    for (unsigned i = 0; i < 2; i++) {
        if (pid[i] < 0 || child_wait(pid[i]) != 0) {
            r = -EIO;
        }
    }
    if (r == 0) {
        *ret_per_second = n / bench_seconds(t);
    }
    return r;
}

int raw_fork(unsigned n, double *ret_per_second) {
    return run_small(run_forker, n, 1, ret_per_second);
}
