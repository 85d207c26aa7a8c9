/* SPDX-License-Identifier: MIT */
/* Locks: with nobody else there, beside a robust process-shared mutex; and with two processes that want the same one, adding up
 * a plain number under it, which must be right at the end. Hearth's lock goes to who came first, so with two that want it all
 * the time every acquisition is a hand-over to a process that may sleep; the mutex is taken by who runs, many times in a row.
 *
 * Fails: -errno; -EIO when the sum is wrong. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/base/clock.h"
#include "lib/shm/objects_sync.h"
#include "lib/shm/op.h"
#include "tests/bench/bench.h"
#include "tests/bench/sync.h"
#include "tests/support/child.h"

#define T(text) ((struct task_bytes){text, strlen(text)})

enum what { BY_HANDLE, BY_NAME, AGAIN, LONG_WAY, MUTEX, TWO, TWO_MUTEX, WHATS };

/* In memory that processes share. */
struct arena {
    pthread_mutex_t mutex;
    _Alignas(64) volatile uint64_t sum;
    _Alignas(64) _Atomic uint32_t ready;
};

struct rig {
    struct sync_bench b;
    struct arena *arena;
    struct sync_ref lock, rlock;
    unsigned n, quick;
    bool with_mutex;
};

static int mutex_lock(pthread_mutex_t *m) {
    int r = pthread_mutex_lock(m);
    if (r == EOWNERDEAD) {
        r = pthread_mutex_consistent(m);
    }
    return r;
}

/* ---- alone ---- */

static int by_handle(struct rig *g) {
    int r = sync_ref_lock(&g->b.shm[0], &g->lock);
    return r ? r : sync_ref_unlock(&g->b.shm[0], &g->lock);
}
static int by_name(struct rig *g) {
    int r = objects_lock_acquire(&g->b.objects[0], T("by name"), 0, 0);
    return r ? r : objects_lock_release(&g->b.objects[0], T("by name"), 0);
}
static int again(struct rig *g) {
    int r = sync_ref_rlock(&g->b.shm[0], &g->rlock);
    return r ? r : sync_ref_runlock(&g->b.shm[0], &g->rlock);
}
static int long_way(struct rig *g) {
    int r = objects_rwlock_write(&g->b.objects[0], T("written"), 0, 0);
    return r ? r : objects_rwlock_release(&g->b.objects[0], T("written"), 0);
}
static int plain_mutex(struct rig *g) {
    int r = mutex_lock(&g->arena->mutex);
    return r ? -r : -pthread_mutex_unlock(&g->arena->mutex);
}

/* Nanoseconds of each. One loop for each, so that each is called directly. */
#define TURN(name)                                                                                 \
    static double name##_turn(struct rig *g, unsigned n) {                                         \
        uint64_t since = clock_now();                                                              \
        for (unsigned i = 0; i < n; i++) {                                                         \
            int r = name(g);                                                                       \
            if (r) {                                                                               \
                return r;                                                                          \
            }                                                                                      \
        }                                                                                          \
        return bench_seconds(since) * 1e9 / n;                                                     \
    }
TURN(by_handle)
TURN(by_name)
TURN(again)
TURN(long_way)
TURN(plain_mutex)

/* ---- two ---- */

static int add_up(struct rig *g, int me) {
    for (unsigned i = 0; i < g->n; i++) {
        int r = g->with_mutex ? mutex_lock(&g->arena->mutex)
                              : objects_lock_acquire(&g->b.objects[me], T("two"), 10000, 0);
        if (r) {
            return r < 0 ? r : -r;
        }
        g->arena->sum = g->arena->sum + 1;
        r = g->with_mutex ? -pthread_mutex_unlock(&g->arena->mutex)
                          : objects_lock_release(&g->b.objects[me], T("two"), 0);
        if (r) {
            return r;
        }
    }
    return 0;
}

static int second(void *arg) {
    struct rig *g = arg;
    atomic_store(&g->arena->ready, 1);
    while (atomic_load(&g->arena->ready) != 2) {
    }
    return add_up(g, 1) ? 1 : 0;
}

static double two_turn(struct rig *g, unsigned n, bool with_mutex) {
    g->n = n;
    g->with_mutex = with_mutex;
    g->arena->sum = 0;
    atomic_store(&g->arena->ready, 0);
    pid_t pid = child_start(second, g);
    if (pid < 0) {
        return pid;
    }
    while (!atomic_load(&g->arena->ready)) {
    }
    uint64_t since = clock_now();
    atomic_store(&g->arena->ready, 2);
    int r = add_up(g, 0);
    int status = child_wait(pid);
    double ns = bench_seconds(since) * 1e9 / (2.0 * n);
    return r ? r : status || g->arena->sum != 2 * (uint64_t)n ? -EIO : ns;
}
static double lock_two_turn(struct rig *g, unsigned n) {
    return two_turn(g, n, false);
}
static double mutex_two_turn(struct rig *g, unsigned n) {
    return two_turn(g, n, true);
}

static const struct {
    const char *name;
    double (*turn)(struct rig *g, unsigned n);
    unsigned n, quick;
} whats[WHATS] = {
    [BY_HANDLE] = {"lock by handle", by_handle_turn, 2000000, 10000},
    [BY_NAME] = {"lock by name", by_name_turn, 1000000, 10000},
    [AGAIN] = {"rlock", again_turn, 2000000, 10000},
    [LONG_WAY] = {"rwlock, written", long_way_turn, 200000, 5000},
    [MUTEX] = {"robust mutex", plain_mutex_turn, 2000000, 10000},
    [TWO] = {"a lock that two want", lock_two_turn, 20000, 500},
    [TWO_MUTEX] = {"a mutex that two want", mutex_two_turn, 200000, 2000},
};

static int open_rig(struct rig *g) {
    pthread_mutexattr_t a;
    g->arena =
        mmap(NULL, sizeof(*g->arena), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (g->arena == MAP_FAILED) {
        return -errno;
    }
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&g->arena->mutex, &a);
    pthread_mutexattr_destroy(&a);
    int r = sync_bench_open(&g->b);
    struct shm *s = &g->b.shm[0];
    struct objects *o = &g->b.objects[0];
    g->lock.name = key_name(s, "lock", 4);
    g->rlock.name = key_name(s, "rlock", 5);
    r = r ? r : objects_lock_acquire(o, T("lock"), 0, 0);
    r = r ? r : objects_lock_release(o, T("lock"), 0);
    r = r ? r : objects_rlock_acquire(o, T("rlock"), 0, 0);
    return r ? r : objects_rlock_release(o, T("rlock"), 0);
}

static int measure(struct rig *g, struct bench_samples s[WHATS]) {
    for (unsigned turn = 0; turn < bench_count(11, 1); turn++) {
        for (int k = 0; k < WHATS; k++) {
            double v = whats[k].turn(g, bench_count(whats[k].n, whats[k].quick));
            if (v < 0) {
                return bench_failed(whats[k].name, (int)v);
            }
            bench_add(&s[k], v);
        }
    }
    return 0;
}

static void print(const struct bench_samples s[WHATS]) {
    bench_heading("Locks: acquire and release");
    struct bench_line l = {"lock, by handle",   "ns", 0, "robust mutex", 0, 0,
                           BENCH_RATIO_AT_MOST, 1.5};
    bench_compare(l, &s[BY_HANDLE], &s[MUTEX]);
    l.what = "rlock, by handle";
    bench_compare(l, &s[AGAIN], &s[MUTEX]);
    l.what = "lock, by name";
    l.goal = BENCH_NO_GOAL;
    bench_compare(l, &s[BY_NAME], &s[MUTEX]);
    l.what = "rwlock, to write";
    bench_compare(l, &s[LONG_WAY], &s[MUTEX]);
    l.what = "lock that two processes want";
    bench_compare(l, &s[TWO], &s[TWO_MUTEX]);
    bench_note(
        "the lock changes hands each time, in the order of coming; the mutex stays with who runs");
}

int sync_bench_locks(void) {
    struct rig g = {0};
    struct bench_samples s[WHATS] = {0};
    int r = open_rig(&g);
    r = r ? bench_failed("opening", r) : measure(&g, s);
    if (r == 0) {
        print(s);
    }
    sync_bench_close(&g.b);
    munmap(g.arena, sizeof(*g.arena));
    return r;
}
