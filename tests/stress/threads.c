/* SPDX-License-Identifier: MIT */
/* The segment's algorithms by threads of one process over one mapping, because the race detector
 * does not see other processes: submitters, workers, a collector that frees and cancels, and an
 * onlooker that reads whatever is there. Each has a handle and a slot of its own.
 *
 * All tasks must come out once, with the right bytes, the claims be counted exactly and the segment
 * be empty in the end. HEARTH_TASKS: how many per submitter (default 100000). Fails: an assertion,
 * or a report of the sanitizer. */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/num.h"
#include "lib/shm/check.h"
#include "lib/shm/segment.h"
#include "lib/shm/slot.h"
#include "lib/shm/task.h"
#include "tests/support/pattern.h"

#ifdef NDEBUG
#error "this test is its assertions"
#endif

enum { SUBMITTERS = 2, WORKERS = 3, POOL = 0, TASKS = 256, LARGEST = 40000 };

static struct shm segment;
static int bell_fd;
static uint64_t per_submitter = 100000;
static _Atomic uint64_t ended, cancelled; /* by the collector */
static _Atomic bool over;
static _Atomic uint8_t *seen; /* per key: has ended */

struct part {
    pthread_t thread;
    int index;
    uint32_t slot, gen;
    uint64_t claims;
};

static struct shm attach(const struct part *p) {
    struct shm s;
    int r = shm_view(&s, segment.base, segment.size);
    assert(r == 0);
    r = slot_attach(&s, p->slot, p->gen);
    assert(r == 0);
    s.bell_fd = bell_fd;
    slot_set_state(&s, SLOT_SERVING);
    return s;
}

/* Sizes around what is inline, a small block, a run. */
static uint64_t len_of(uint64_t key, uint64_t what) {
    uint64_t r = pattern_mix(key ^ what << 40);
    uint64_t n = r % 16 < 10 ? r / 16 % 80 : r % 16 < 15 ? r / 16 % 6000 : r / 16 % LARGEST;
    return n < 8 ? 8 : n;
}

static void *submitter(void *arg) {
    struct part *p = arg;
    struct shm s = attach(p);
    char *payload = malloc(LARGEST);
    assert(payload);
    for (uint64_t i = 0; i < per_submitter;) {
        uint64_t key = (uint64_t)p->index * per_submitter + i;
        memcpy(payload, &key, 8);
        pattern_fill(payload + 8, 0, len_of(key, 1) - 8, key);
        struct task_bytes args[] = {{"an argument", 11}};
        struct task_spec spec = {.pool = POOL,
                                 .payload = {payload, len_of(key, 1)},
                                 .args = args,
                                 .nargs = key % 3 == 0,
                                 .timeout_ms = key % 5 ? 0 : 1000};
        struct task_ref t;
        int r = task_submit(&s, &spec, &t);
        if (r) {
            assert(r == -ENOMEM || r == -ENOBUFS);
            sched_yield();
            continue;
        }
        task_wake(&s, POOL, 1);
        i++;
    }
    free(payload);
    shm_detach(&s);
    return NULL;
}

static uint64_t check_payload(const struct task_view *v) {
    uint64_t key;
    assert(v->payload.len >= 8);
    memcpy(&key, v->payload.data, 8);
    assert(key < SUBMITTERS * per_submitter && v->payload.len == len_of(key, 1));
    assert(pattern_is((const char *)v->payload.data + 8, v->payload.len - 8, key));
    return key;
}

static void run_task(struct shm *s, const struct task_ref *t) {
    struct task_view v;
    int r = task_view(s, t->idx, &v);
    assert(r == 0 && v.id == t->id && v.state == TASK_RUNNING);
    uint64_t key = check_payload(&v), used = 0, len = len_of(key, 2);
    struct task_outcome o = {.state = TASK_DONE, .cause = CAUSE_RESULT};
    while (used < len && r == 0) {
        uint64_t next = used * 2 + 30 < len ? used * 2 + 30 : len;
        void *to;
        r = task_output(s, t, used, next, &to);
        if (r == 0) {
            pattern_fill(to, used, next, ~key);
            used = next;
        }
    }
    assert(r == 0 || r == -ENOMEM);
    o.output_len = r ? 0 : len;
    if (key % 11 == 0) {
        task_log(s, t, "a line of log", 13);
    }
    task_cancel_wanted(s, t);
    r = task_finish(s, t, &o);
    assert(r == 0);
}

static void *worker(void *arg) {
    struct part *p = arg;
    struct shm s = attach(p);
    struct task_ref t;
    while (slot_told(&s) != SLOT_EXIT) {
        if (task_claim(&s, POOL, &t) == 0) {
            p->claims++;
            run_task(&s, &t);
        } else {
            task_wait(&s, POOL);
        }
    }
    slot_set_state(&s, SLOT_RETIRED);
    shm_detach(&s);
    return NULL;
}

static void settle(struct shm *s, uint32_t idx) {
    struct task_view v;
    int r = task_view(s, idx, &v);
    if (r == -ENOENT || (r == 0 && !task_state_is_terminal(v.state))) {
        return;
    }
    assert(r == 0);
    uint64_t key = check_payload(&v);
    assert(v.state == TASK_CANCELLED || v.output.len == 0 ||
           (v.output.len == len_of(key, 2) && pattern_is(v.output.data, v.output.len, ~key)));
    uint8_t before = atomic_fetch_add(&seen[key], 1);
    assert(before == 0);
    while ((r = task_free(s, idx, v.id)) == -EAGAIN) {
        sched_yield();
    }
    assert(r == 0);
    atomic_fetch_add(&cancelled, v.state == TASK_CANCELLED);
    atomic_fetch_add(&ended, 1);
}

static void cancel_one(struct shm *s, uint32_t idx) {
    struct task_view v;
    if (task_view(s, idx, &v)) {
        return;
    }
    task_set_cancel(s, idx, v.id);
    if (task_end_queued(s, idx, v.id, TASK_CANCELLED, CAUSE_CANCELLED) == 0) {
        settle(s, idx);
    }
}

static void *collector(void *arg) {
    struct shm s = attach(arg);
    uint64_t random = 1;
    s.patience_ns = 0; /* as the daemon */
    while (atomic_load(&ended) < SUBMITTERS * per_submitter) {
        uint32_t idx;
        int r = task_next_ended(&s, &idx);
        if (r == 0) {
            settle(&s, idx);
        } else if (r == -EOVERFLOW) {
            for (uint32_t from = 0; task_sweep(&s, from, UINT32_MAX, &idx) == 0; from = idx + 1) {
                settle(&s, idx);
            }
        } else {
            uint64_t count;
            shm_daemon_sleeps(&s);
            if (!task_any_ended(&s)) {
                poll(&(struct pollfd){.fd = bell_fd, .events = POLLIN}, 1, -1);
            }
            shm_daemon_wakes(&s);
            (void)!read(bell_fd, &count, sizeof(count));
        }
        if (pattern_random(&random) % 8 == 0) {
            cancel_one(&s, (uint32_t)(random >> 8) % 48);
        }
    }
    shm_detach(&s);
    return NULL;
}

static void *onlooker(void *arg) {
    struct shm s = attach(arg);
    uint64_t random = 2, found = 0;
    while (!atomic_load(&over)) {
        struct task_view v;
        struct slot_view w;
        struct shm_usage u;
        found += task_view(&s, (uint32_t)(pattern_random(&random) % TASKS), &v) == 0;
        slot_view(&s, (uint32_t)(random >> 8) % segment.n_slots, &w);
        shm_next_check(&s, random);
        shm_usage(&s, &u);
        found += task_ring_length(&s, POOL) + shm_news(&s);
        sched_yield();
    }
    assert(found);
    shm_detach(&s);
    return NULL;
}

static void start(struct part *p, int index, void *(*fn)(void *)) {
    p->index = index;
    int r = slot_reserve(&segment, POOL, &p->slot, &p->gen);
    assert(r == 0);
    r = pthread_create(&p->thread, NULL, fn, p);
    assert(r == 0);
}

int main(void) {
    static struct part sub[SUBMITTERS], work[WORKERS], collect, look;
    const char *text = getenv("HEARTH_TASKS");
    if (text) {
        num_u64(text, strlen(text), &per_submitter);
    }
    seen = calloc(SUBMITTERS * per_submitter, sizeof(*seen));
    bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert(seen && bell_fd >= 0);
    int r =
        shm_create(&segment, &(struct shm_params){.size = 6 << 20, .slots = 12, .tasks = TASKS});
    assert(r == 0);
    uint32_t slot, gen;
    r = slot_reserve(&segment, POOL, &slot, &gen);
    assert(r == 0);
    r = slot_attach(&segment, slot, gen);
    assert(r == 0);
    r = shm_pool_create(&segment, POOL, "pool", 100);
    assert(r == 0);

    for (int i = 0; i < WORKERS; i++) {
        start(&work[i], i, worker);
    }
    start(&collect, 0, collector);
    start(&look, 0, onlooker);
    for (int i = 0; i < SUBMITTERS; i++) {
        start(&sub[i], i, submitter);
    }
    for (int i = 0; i < SUBMITTERS; i++) {
        pthread_join(sub[i].thread, NULL);
    }
    pthread_join(collect.thread, NULL);
    atomic_store(&over, true);
    pthread_join(look.thread, NULL);
    uint64_t claims = 0, counted = 0;
    for (int i = 0; i < WORKERS; i++) {
        slot_command(&segment, work[i].slot, SLOT_EXIT);
        pthread_join(work[i].thread, NULL);
        struct slot_view v;
        slot_view(&segment, work[i].slot, &v);
        claims += work[i].claims;
        counted += v.claims;
    }
    struct shm_report report;
    r = shm_check(&segment, &report);
    assert(r == 0);
    assert(report.errors == 0 && report.blocks == 1 && report.tasks[TASK_FREE] == TASKS);
    assert(claims == counted && claims + cancelled == SUBMITTERS * per_submitter);
    printf("%llu tasks, %llu of them cancelled, each ended once\n",
           (unsigned long long)(SUBMITTERS * per_submitter), (unsigned long long)cancelled);
    shm_detach(&segment);
    close(bell_fd);
    free((void *)seen);
    return 0;
}
