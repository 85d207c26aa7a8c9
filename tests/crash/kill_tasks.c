/* SPDX-License-Identifier: MIT */
/* Death at random (DESIGN section 4.2). Submitters, workers and a collector (the daemon's part: it
 * takes ended tasks, delivers, frees, and now and then cancels, holds, releases and tries again) hammer one segment; this process is
 * the supervisor, SIGKILLs them, sometimes several at once, buries the dead and starts new ones.
 *
 * A journal outside of the segment tells afterwards what happened to each task; its key is in the
 * payload. A submitter notes a task as accepted once task_submit() has returned, so all that is
 * noted must end. The collector notes an end before it frees the record, and names the task in an
 * intent word before that. A task that comes up again although its end is noted is a doubled event,
 * except for the one that the intent word of a killed collector names: that collector died between
 * noting and freeing, and its successor only frees.
 *
 * Each epoch ends with the submitters' death and must drain within 5 s. Then: no event lost or
 * doubled, none for a refused task, no task run more often than it was tried, no more tasks lost to deaths than workers
 * killed, the counts of claims exact, no block and no record leaked, shm_check() content.
 *
 * HEARTH_KILLS: how many kills (default 10000), HEARTH_SEED: which random numbers. Fails: prints
 * "not ok" with the reason, exit status 1. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/num.h"
#include "lib/shm/check.h"
#include "lib/shm/internal.h"
#include "lib/shm/lock.h"
#include "lib/shm/slot.h"
#include "lib/shm/stream.h"
#include "lib/shm/task.h"
#include "tests/support/child.h"
#include "tests/support/pattern.h"

enum {
    SUBMITTERS = 2,
    WORKERS = 4,
    COLLECTOR = SUBMITTERS + WORKERS,
    PROCS,
    POOLS = 2,
    SLOTS = 24,
    TASKS = 512,
    QUEUE_MAX = 128,
    KEYS = 1 << 20, /* tasks that one submitter may offer in one epoch */
    EPOCH_KILLS = 250,
    DOOMED_MAX = 64,
    FRONT_MAX = 16,
    WATCH_LOOK = 64,
    LARGEST = 60000,
};
#define SEGMENT_SIZE (UINT64_C(8) << 20) /* small enough to be full at times */
#define DRAIN_LIMIT  (5 * NS_PER_SEC)

enum {
    ACCEPTED = 1,
    REFUSED = 2,
    ENDED = 4,
    END_DONE = 8,
    END_FAILED = 16,
    END_LOST = 32,
    END_CANCELLED = 64,
};

struct journal {
    uint64_t salt; /* of this epoch: sizes and contents follow from it and the key */
    _Atomic uint64_t next[SUBMITTERS];
    _Atomic uint64_t intent; /* key + 1 of the task the collector is delivering */
    _Atomic uint64_t redelivered, retried, recalled, frames, watched;
    _Atomic uint32_t wrong;
    char what[200];
    _Atomic uint8_t bits[SUBMITTERS * KEYS];
    _Atomic uint8_t runs[SUBMITTERS * KEYS];
    _Atomic uint8_t attempts[SUBMITTERS * KEYS]; /* as its end says */
    _Atomic uint32_t bytes[SUBMITTERS * KEYS];
};

static struct journal *journal;
static struct shm segment;   /* the supervisor's handle */
static struct shm bystander; /* holds locks at times, so that burying must be put off */
static int bell_fd;

/* ---- what a task must look like, from its key ---- */

static uint64_t seed_of(uint64_t key, uint64_t of_what) {
    return pattern_mix(journal->salt ^ key << 8 ^ of_what);
}

/* Inline, in a small block, or in a run of chunks. */
static uint64_t some_size(uint64_t r, uint64_t inline_max) {
    switch (r % 16) {
    case 0:
        return inline_max + (r >> 8) % 2;
    case 1 ... 8:
        return (r >> 8) % inline_max;
    case 9 ... 13:
        return (r >> 8) % 8192;
    default:
        return (r >> 8) % LARGEST;
    }
}
static uint64_t payload_len(uint64_t key) {
    uint64_t n = some_size(seed_of(key, 1), 64);
    return n < 8 ? 8 : n;
}
static uint64_t output_len(uint64_t key) {
    return some_size(seed_of(key, 2), SHM_INLINE_OUT);
}
static uint32_t log_len(uint64_t key) {
    return seed_of(key, 3) % 7 ? 0 : (uint32_t)(seed_of(key, 4) % 5000);
}
static uint32_t arg_count(uint64_t key) {
    return (uint32_t)(seed_of(key, 5) % 3);
}
static uint32_t arg_len(uint64_t key, uint32_t i) {
    return (uint32_t)(seed_of(key, 6 + i) % 40);
}
static bool wants_hold(uint64_t key) {
    return seed_of(key, 12) % 4 == 0;
}
static uint32_t retries(uint64_t key) {
    return (uint32_t)(seed_of(key, 13) % 3);
}
static uint64_t frame_count(uint64_t key) {
    return seed_of(key, 14) % 5 ? 0 : seed_of(key, 15) % 24;
}
static uint64_t frame_len(uint64_t key, uint64_t i) {
    return 8 + seed_of(key, 1000 + i) % (STREAM_FRAME - 8);
}
static bool wants_failure(uint64_t key) {
    return seed_of(key, 10) % 11 == 0;
}

/* Some tasks give the killer more of a chance. */
static void linger(uint64_t key) {
    for (uint64_t n = key % 8 ? 0 : seed_of(key, 11) % 8; n; n--) {
        sched_yield();
    }
}

/* ---- children ---- */

/* The first one to complain is heard. */
__attribute__((format(printf, 1, 2), noreturn)) static void wrong(const char *fmt, ...) {
    if (atomic_fetch_add(&journal->wrong, 1) == 0) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(journal->what, sizeof(journal->what), fmt, ap);
        va_end(ap);
    }
    _exit(1);
}

struct part {
    int index; /* which of the PROCS */
    uint32_t slot, gen;
    uint64_t random;
};

static void attach(struct shm *s, const struct part *p) {
    int r = shm_attach(s, segment.fd);
    r = r ? r : slot_attach(s, p->slot, p->gen);
    if (r) {
        wrong("attaching: %s", strerror(-r));
    }
    s->bell_fd = bell_fd;
    slot_set_state(s, SLOT_SERVING);
}

static int submitter(void *arg) {
    struct part *p = arg;
    struct shm s;
    attach(&s, p);
    static uint8_t payload[LARGEST], text[2][40];
    while (!atomic_load(&journal->wrong)) {
        uint64_t seq = atomic_load(&journal->next[p->index]);
        if (seq == KEYS) {
            sched_yield();
            continue;
        }
        atomic_store(&journal->next[p->index], seq + 1);
        uint64_t key = (uint64_t)p->index * KEYS + seq;
        struct task_bytes args[2];
        memcpy(payload, &key, 8);
        pattern_fill(payload + 8, 0, payload_len(key) - 8, seed_of(key, 20));
        for (uint32_t i = 0; i < arg_count(key); i++) {
            pattern_fill(text[i], 0, arg_len(key, i), seed_of(key, 21 + i));
            args[i] = (struct task_bytes){text[i], arg_len(key, i)};
        }
        struct task_spec spec = {.pool = (uint32_t)(key % POOLS),
                                 .payload = {payload, payload_len(key)},
                                 .args = args,
                                 .nargs = arg_count(key),
                                 .policy = {&key, wants_hold(key) ? 8 : 0},
                                 .hold = wants_hold(key)};
        struct task_ref t;
        int r = task_submit(&s, &spec, &t);
        if (r && r != -ENOMEM && r != -ENOBUFS) {
            wrong("task_submit: %s", strerror(-r));
        }
        atomic_fetch_or(&journal->bits[key], r ? REFUSED : ACCEPTED);
        if (r) {
            sched_yield();
        } else if (spec.hold) {
            shm_ring_daemon(&s);
        } else {
            task_wake(&s, spec.pool, 1);
        }
    }
    return 1;
}

/* The key of a task whose input is as it was submitted. */
static uint64_t check_input(const struct task_view *v) {
    uint64_t key = UINT64_MAX;
    if (v->payload.len >= 8) {
        memcpy(&key, v->payload.data, 8);
    }
    if (key >= (uint64_t)SUBMITTERS * KEYS || v->payload.len != payload_len(key) ||
        v->pool != key % POOLS || v->nargs != arg_count(key) ||
        v->policy.len != (wants_hold(key) ? 8 : 0) ||
        memcmp(v->policy.data, &key, v->policy.len) != 0 ||
        !pattern_is((const char *)v->payload.data + 8, v->payload.len - 8, seed_of(key, 20))) {
        wrong("the input of task %llx is damaged", (unsigned long long)v->id);
    }
    size_t at = 0;
    struct task_bytes a;
    for (uint32_t i = 0; i < v->nargs; i++) {
        if (task_arg(v, &at, &a) || a.len != arg_len(key, i) ||
            !pattern_is(a.data, a.len, seed_of(key, 21 + i))) {
            wrong("an argument of task %llx is damaged", (unsigned long long)v->id);
        }
    }
    if (task_arg(v, &at, &a) != -ENOENT) {
        wrong("task %llx has too many arguments", (unsigned long long)v->id);
    }
    return key;
}

/* Writes the result in pieces. 0 or -ENOMEM. */
static int write_output(struct shm *s, const struct task_ref *t, uint64_t key) {
    uint64_t used = 0, len = output_len(key);
    while (used < len) {
        uint64_t next = used * 3 + 40;
        void *p;
        next = next < len ? next : len;
        int r = task_output(s, t, used, next, &p);
        if (r == -ENOMEM) {
            return r;
        }
        if (r) {
            wrong("task_output: %s", strerror(-r));
        }
        pattern_fill(p, used, next, seed_of(key, 30));
        linger(key);
        used = next;
    }
    return 0;
}

/* Each frame: its number, then bytes that follow from it and the key. */
static void tell_frames(struct shm *s, const struct task_ref *t, uint64_t key) {
    uint8_t frame[STREAM_FRAME];
    for (uint64_t i = 0; i < frame_count(key); i++) {
        uint64_t len = frame_len(key, i);
        memcpy(frame, &i, 8);
        pattern_fill(frame + 8, 0, len - 8, seed_of(key, 2000 + i));
        int64_t r = stream_put(s, t, STREAM_DATA, frame, len, true);
        if (r == -ENOMEM) {
            return;
        }
        if (r != (int64_t)len) {
            wrong("stream_put: %lld", (long long)r);
        }
    }
}

static void run_task(struct shm *s, const struct task_ref *t) {
    static uint8_t log[5000];
    struct task_view v;
    int r = task_view(s, t->idx, &v);
    if (r || v.id != t->id || v.state != TASK_RUNNING) {
        wrong("a claimed task cannot be read: %d", r);
    }
    uint64_t key = check_input(&v);
    atomic_fetch_add(&journal->runs[key], 1);
    linger(key);
    struct task_outcome o = {
        .state = TASK_DONE, .cause = CAUSE_RESULT, .output_len = output_len(key)};
    if (wants_failure(key)) {
        o = (struct task_outcome){.state = TASK_FAILED, .cause = CAUSE_ERROR, .code = 7};
    } else if (write_output(s, t, key)) {
        o = (struct task_outcome){.state = TASK_FAILED, .cause = CAUSE_ERROR, .code = ENOMEM};
    }
    tell_frames(s, t, key);
    pattern_fill(log, 0, log_len(key), seed_of(key, 31));
    r = task_log(s, t, log, log_len(key));
    if (r && r != -ENOMEM) {
        wrong("task_log: %s", strerror(-r));
    }
    if (task_finish(s, t, &o)) {
        wrong("task %llx was taken away from its worker", (unsigned long long)t->id);
    }
}

static uint32_t pool_of(int index) {
    return (uint32_t)index % POOLS;
}

static int worker(void *arg) {
    struct part *p = arg;
    struct shm s;
    attach(&s, p);
    while (!atomic_load(&journal->wrong)) {
        struct task_ref t;
        if (task_claim(&s, pool_of(p->index), &t) == 0) {
            run_task(&s, &t);
        } else {
            task_wait(&s, pool_of(p->index));
        }
    }
    return 1;
}

/* ---- the collector ---- */

struct collector {
    struct shm s;
    uint64_t inherited; /* the intent word of the predecessor */
    struct {
        uint32_t idx;
        uint64_t id;
    } doomed[DOOMED_MAX]; /* delivered, their memory not yet given back */
    uint32_t n_doomed;
    uint64_t random;
};

/* Whole frames only, in their order. */
static void read_frames(struct collector *c, uint32_t idx, const struct task_view *v) {
    struct stream_frame f;
    struct stream_place at = {0};
    uint64_t key, last = UINT64_MAX;
    int r;
    memcpy(&key, v->payload.data, 8);
    stream_listen(&c->s, idx, v->id);
    while ((r = stream_read(&c->s, idx, v->id, &at, &f)) == 0) {
        uint64_t i = f.words[0];
        if (f.kind != STREAM_DATA || f.len < 8 || i >= frame_count(key) ||
            f.len != frame_len(key, i) || (last != UINT64_MAX && i != last + 1) ||
            !pattern_is((char *)f.words + 8, f.len - 8, seed_of(key, 2000 + i))) {
            wrong("frame %llu of task %llx is damaged", (unsigned long long)i,
                  (unsigned long long)v->id);
        }
        last = task_state_is_terminal(v->state) ? i : UINT64_MAX;
        atomic_fetch_add(&journal->frames, 1);
        stream_sent(&c->s, idx, v->id, &at);
    }
    if (r == -EBADMSG) {
        wrong("the stream of task %llx is damaged", (unsigned long long)v->id);
    }
}

/* Follows one of those that run, or no more. */
static void watch_one(struct collector *c, uint32_t idx, bool on) {
    struct task_view v;
    if (task_view(&c->s, idx, &v) == 0 && v.state == TASK_RUNNING) {
        stream_watch(&c->s, idx, v.id, on);
        read_frames(c, idx, &v);
        atomic_fetch_add(&journal->watched, on);
    }
}

/* Not delivered, but tried again. */
static bool try_again(struct collector *c, uint32_t idx, const struct task_view *v, uint64_t key) {
    if ((v->state != TASK_FAILED && v->state != TASK_LOST) || v->attempt > retries(key)) {
        return false;
    }
    int r;
    do { /* the daemon does so a little later */
        r = task_retry(&c->s, idx, v->id, v->state == TASK_LOST);
    } while (r == -EAGAIN && sched_yield() == 0);
    if (r) {
        wrong("task_retry: %s", strerror(-r));
    }
    return r == 0;
}

static uint8_t check_end(const struct task_view *v, uint64_t key) {
    if (v->log.len &&
        (v->log.len != log_len(key) || !pattern_is(v->log.data, v->log.len, seed_of(key, 31)))) {
        wrong("the log of task %llx is damaged", (unsigned long long)v->id);
    }
    switch (v->state) {
    case TASK_DONE:
        if (v->cause == CAUSE_RESULT && v->output.len == output_len(key) &&
            pattern_is(v->output.data, v->output.len, seed_of(key, 30))) {
            return END_DONE;
        }
        break;
    case TASK_FAILED:
        if (v->cause == CAUSE_ERROR && v->code == (wants_failure(key) ? 7 : ENOMEM)) {
            return END_FAILED;
        }
        break;
    case TASK_LOST:
        if (v->cause == CAUSE_SIGNAL && v->signal == SIGKILL && v->output.len == 0) {
            return END_LOST;
        }
        break;
    case TASK_CANCELLED:
        if (v->cause == CAUSE_CANCELLED) {
            return END_CANCELLED;
        }
        break;
    }
    wrong("task %llx ended %s, with cause %s, code %d and %zu bytes", (unsigned long long)v->id,
          task_state_names[v->state], task_cause_names[v->cause], v->code, v->output.len);
}

static void retry_doomed(struct collector *c, uint32_t down_to) {
    do {
        for (uint32_t i = c->n_doomed; i-- > 0;) {
            int r = task_free(&c->s, c->doomed[i].idx, c->doomed[i].id);
            if (r == -EAGAIN) {
                continue;
            }
            if (r && r != -ESTALE) {
                wrong("task_free: %s", strerror(-r));
            }
            c->doomed[i] = c->doomed[--c->n_doomed];
        }
    } while (c->n_doomed > down_to);
}

static void free_delivered(struct collector *c, uint32_t idx, uint64_t id) {
    int r = task_free(&c->s, idx, id);
    if (r == -EAGAIN) {
        c->doomed[c->n_doomed].idx = idx;
        c->doomed[c->n_doomed++].id = id;
        if (c->n_doomed == DOOMED_MAX) {
            retry_doomed(c, DOOMED_MAX / 2);
        }
    } else if (r) {
        wrong("task_free: %s", strerror(-r));
    }
}

/* Record idx may hold an ended task: delivers it. With only_inherited it does so only for the one
 * that the dead predecessor may have delivered already. */
static void settle(struct collector *c, uint32_t idx, bool only_inherited) {
    struct task_view v;
    int r = task_view(&c->s, idx, &v);
    if (r == 0 && v.state == TASK_RUNNING) {
        read_frames(c, idx, &v);
        return;
    }
    if (r == -ENOENT || (r == 0 && !task_state_is_terminal(v.state))) {
        return;
    }
    if (r) {
        wrong("task_view: %s", strerror(-r));
    }
    uint64_t key = check_input(&v);
    read_frames(c, idx, &v);
    uint8_t end = check_end(&v, key);
    if (frame_count(key) % 2) {
        stream_drop(&c->s, idx, v.id);
    }
    if (only_inherited && c->inherited != key + 1) {
        return;
    }
    if (atomic_load(&journal->bits[key]) & ENDED) {
        if (c->inherited != key + 1) {
            wrong("the end of task %llx is delivered twice", (unsigned long long)v.id);
        }
        c->inherited = 0;
        atomic_fetch_add(&journal->redelivered, 1);
    } else if (try_again(c, idx, &v, key)) {
        atomic_fetch_add(&journal->retried, 1);
        return;
    } else {
        atomic_store(&journal->intent, key + 1);
        atomic_store(&journal->attempts[key], (uint8_t)v.attempt);
        atomic_store(&journal->bytes[key], (uint32_t)(v.payload.len + v.args_raw.len));
        atomic_fetch_or(&journal->bits[key], (uint8_t)(ENDED | end));
        linger(key);
    }
    free_delivered(c, idx, v.id);
    atomic_store(&journal->intent, 0);
}

static void sweep(struct collector *c, bool only_inherited) {
    uint32_t idx;
    for (uint32_t from = 0; task_sweep(&c->s, from, UINT32_MAX, &idx) == 0; from = idx + 1) {
        settle(c, idx, only_inherited);
    }
}

/* Releases what waits; to the front, when there is room, or to the end. */
static void release_all(struct collector *c) {
    uint32_t idx;
    for (uint32_t from = 0; task_sweep_waiting(&c->s, from, UINT32_MAX, &idx) == 0;
         from = idx + 1) {
        struct task_view v;
        if (task_view(&c->s, idx, &v) || v.state != TASK_WAITING) {
            continue;
        }
        bool front = task_front_length(&c->s, v.pool) < FRONT_MAX;
        int r = task_release(&c->s, idx, v.id, front);
        if (r && r != -ENOBUFS) {
            wrong("task_release: %s", strerror(-r));
        }
        task_wake(&c->s, v.pool, 1);
    }
}

/* Takes one back and looks at the order anew. */
static void recall_one(struct collector *c) {
    uint32_t idx = (uint32_t)(pattern_random(&c->random) % TASKS);
    struct task_view v;
    uint64_t head;
    if (task_view(&c->s, idx, &v) || v.state != TASK_QUEUED || task_recall(&c->s, idx, v.id)) {
        return;
    }
    atomic_fetch_add(&journal->recalled, 1);
    task_prune_front(&c->s, v.pool);
    task_ready_head(&c->s, v.pool, &head);
    task_wake(&c->s, v.pool, WORKERS);
}

static void cancel_one(struct collector *c) {
    uint32_t idx = (uint32_t)(pattern_random(&c->random) % TASKS);
    struct task_view v;
    if (task_view(&c->s, idx, &v) == 0 && (v.state == TASK_QUEUED || v.state == TASK_WAITING) &&
        task_end_queued(&c->s, idx, v.id, TASK_CANCELLED, CAUSE_CANCELLED) == 0) {
        settle(c, idx, false);
    }
}

static void sleep_until_rung(struct shm *s) {
    uint64_t count;
    uint32_t idx;
    shm_daemon_sleeps(s);
    if (!task_any_ended(s) && task_sweep_waiting(s, 0, UINT32_MAX, &idx)) {
        poll(&(struct pollfd){.fd = bell_fd, .events = POLLIN}, 1, -1);
    }
    shm_daemon_wakes(s);
    (void)!read(bell_fd, &count, sizeof(count));
}

static int collector(void *arg) {
    struct part *p = arg;
    static struct collector c;
    c.random = p->random;
    attach(&c.s, p);
    c.s.patience_ns = 0; /* as the daemon */
    c.inherited = atomic_load(&journal->intent);
    for (uint32_t i = 0; i < TASKS; i++) {
        watch_one(&c, i,
                  false); /* what the predecessor followed: nobody makes room there any more */
    }
    sweep(&c, true);
    c.inherited = 0;
    sweep(&c, false);
    while (!atomic_load(&journal->wrong)) {
        uint32_t idx;
        int r = task_next_ended(&c.s, &idx);
        if (r == 0) {
            settle(&c, idx, false);
        } else if (r == -EOVERFLOW) {
            sweep(&c, false);
        } else if (c.n_doomed) {
            retry_doomed(&c, DOOMED_MAX);
        } else {
            release_all(&c);
            sleep_until_rung(&c.s);
        }
        if (pattern_random(&c.random) % 32 == 0) {
            cancel_one(&c);
        }
        if (pattern_random(&c.random) % 8 == 0) {
            uint32_t from = (uint32_t)(pattern_random(&c.random) % TASKS);
            for (uint32_t i = from; i < TASKS && i < from + WATCH_LOOK; i++) {
                watch_one(&c, i, true);
            }
        }
        if (pattern_random(&c.random) % 16 == 0) {
            recall_one(&c);
        }
    }
    return 1;
}

/* ---- the supervisor ---- */

struct grave {
    uint32_t slot, gen;
};

static struct {
    pid_t pid[PROCS];
    struct part part[PROCS];
    struct grave graves[SLOTS];
    uint32_t n_graves;
    uint64_t random;
    /* of this epoch */
    uint64_t claims, bytes, killed_workers;
    /* of all */
    uint64_t kills[PROCS], crowds, busy;
    uint64_t accepted, refused, ended, done, failed, lost, cancelled, redelivered, worst_ns;
} sup;

static uint64_t random_below(uint64_t n) {
    return pattern_random(&sup.random) % n;
}

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    printf("not ok 1 - ");
    vprintf(fmt, ap);
    printf("\n1..1\n");
    va_end(ap);
    child_kill_all();
    exit(1);
}

static void pause_ns(uint64_t ns) {
    nanosleep(&(struct timespec){.tv_nsec = (long)ns}, NULL);
}

/* What the daemon does for a dead worker. False: somebody else is at it, later. */
static bool bury(const struct grave *g) {
    const struct task_outcome lost = {.state = TASK_LOST, .cause = CAUSE_SIGNAL, .signal = SIGKILL};
    uint32_t idx;
    if (slot_bury(&segment, g->slot, g->gen) == -EAGAIN ||
        task_reap(&segment, g->slot, g->gen, &lost, &idx) == -EAGAIN) {
        sup.busy++;
        return false;
    }
    struct slot_view v;
    slot_view(&segment, g->slot, &v);
    sup.claims += v.claims;
    sup.bytes += v.bytes;
    slot_release(&segment, g->slot, g->gen);
    /* the pidfd of the dead would have woken the daemon, which then looks for ended tasks too */
    uint64_t one = 1;
    (void)!write(bell_fd, &one, sizeof(one));
    return true;
}

/* Whatever locks of arenas are free just now. */
static uint32_t hold_locks(void) {
    uint32_t held = 0;
    for (uint32_t i = 0; i < SHM_ARENAS; i++) {
        held |= lock_try(&bystander, &bystander.arenas[i].lock) == 0 ? 1u << i : 0;
    }
    return held | (lock_try(&bystander, &bystander.head->chunk_lock) == 0 ? 1u << SHM_ARENAS : 0);
}

static void drop_locks(uint32_t held) {
    if (held >> SHM_ARENAS) {
        lock_drop(&bystander, &bystander.head->chunk_lock);
    }
    for (uint32_t i = 0; i < SHM_ARENAS; i++) {
        if (held >> i & 1) {
            lock_drop(&bystander, &bystander.arenas[i].lock);
        }
    }
}

static void bury_dead(void) {
    uint32_t held = sup.n_graves && random_below(4) == 0 ? hold_locks() : 0;
    for (uint32_t i = sup.n_graves; i-- > 0;) {
        if (bury(&sup.graves[i])) {
            sup.graves[i] = sup.graves[--sup.n_graves];
        }
    }
    drop_locks(held);
}

static void start(int index) {
    struct part *p = &sup.part[index];
    uint32_t pool = index >= SUBMITTERS && index < COLLECTOR ? pool_of(index) : SHM_POOLS;
    uint64_t begun = clock_now();
    *p = (struct part){.index = index, .random = pattern_random(&sup.random)};
    while (slot_reserve(&segment, pool, &p->slot, &p->gen)) {
        bury_dead();
        if (clock_now() - begun > DRAIN_LIMIT) {
            fail("the dead cannot be buried within 5 s");
        }
    }
    sup.pid[index] = child_start(index < SUBMITTERS  ? submitter
                                 : index < COLLECTOR ? worker
                                                     : collector,
                                 p);
    if (sup.pid[index] < 0) {
        fail("fork: %s", strerror(-sup.pid[index]));
    }
}

static void slay(uint32_t which) {
    for (int i = 0; i < PROCS; i++) {
        if (which >> i & 1) {
            kill(sup.pid[i], SIGKILL);
        }
    }
    for (int i = 0; i < PROCS; i++) {
        if (!(which >> i & 1)) {
            continue;
        }
        int status = child_wait_ms(sup.pid[i], CHILD_LIMIT_MS);
        if (status != CHILD_SIGNALLED + SIGKILL) {
            fail("process %d ended by itself (%d): %s", i, status, journal->what);
        }
        sup.graves[sup.n_graves++] = (struct grave){sup.part[i].slot, sup.part[i].gen};
        sup.killed_workers += i >= SUBMITTERS && i < COLLECTOR;
    }
    if (atomic_load(&journal->wrong)) {
        fail("%s", journal->what);
    }
}

static uint32_t kill_some(void) {
    uint32_t n = random_below(8) ? 1 : 2 + (uint32_t)random_below(PROCS - 2), which = 0;
    while ((uint32_t)__builtin_popcount(which) < n) {
        which |= 1u << random_below(PROCS);
    }
    slay(which);
    sup.crowds += n > 1;
    bury_dead();
    for (int i = 0; i < PROCS; i++) {
        if (which >> i & 1) {
            sup.kills[i]++;
            start(i);
        }
    }
    return n;
}

static bool all_free(void) {
    for (uint32_t i = 0; i < segment.n_tasks; i++) {
        if ((atomic_load(&segment.tasks[i].state) & 15) != TASK_FREE) {
            return false;
        }
    }
    return sup.n_graves == 0;
}

static void drain(void) {
    slay((1u << SUBMITTERS) - 1);
    uint64_t begun = clock_now(), took = 0;
    while (true) {
        bury_dead();
        if (all_free()) {
            break;
        }
        took = clock_now() - begun;
        if (took > DRAIN_LIMIT) {
            struct shm_report r = {0};
            shm_check(&segment, &r);
            fail("not drained in 5 s: building %u waiting %u queued %u running %u done %u freeing "
                 "%u, rings "
                 "%llu %llu, sweep %u, %u unburied; %s",
                 r.tasks[TASK_BUILDING], r.tasks[TASK_WAITING], r.tasks[TASK_QUEUED],
                 r.tasks[TASK_RUNNING], r.tasks[TASK_DONE], r.tasks[TASK_FREEING],
                 (unsigned long long)task_ring_length(&segment, 0),
                 (unsigned long long)task_ring_length(&segment, 1), segment.head->sweep,
                 sup.n_graves, journal->what);
        }
        pause_ns(200000);
    }
    sup.worst_ns = took > sup.worst_ns ? took : sup.worst_ns;
    uint64_t killed = sup.killed_workers;
    slay(((1u << PROCS) - 1) & ~((1u << SUBMITTERS) - 1));
    sup.killed_workers = killed; /* these had nothing in hand */
    for (int i = 0; i < 100 && sup.n_graves; i++) {
        bury_dead();
    }
    if (sup.n_graves) {
        fail("a slot cannot be buried although nobody else is there");
    }
}

/* ---- the reckoning ---- */

struct sums {
    uint64_t accepted, refused, ended, done, failed, lost, cancelled, claims, claimed_bytes;
};

static void reckon_task(uint64_t key, struct sums *n) {
    uint8_t b = journal->bits[key], runs = journal->runs[key];
    uint8_t attempts = journal->attempts[key];
    if ((b & ACCEPTED) && !(b & ENDED)) {
        fail("task %llu was accepted and has not ended", (unsigned long long)key);
    }
    if ((b & REFUSED) && ((b & ENDED) || runs)) {
        fail("task %llu was refused and has run", (unsigned long long)key);
    }
    if (runs > attempts || attempts > 1 + retries(key) || (runs && !(b & ENDED)) ||
        (!runs && (b & (END_DONE | END_FAILED)))) {
        fail("task %llu ran %u times in %u attempts, its end is %x", (unsigned long long)key, runs,
             attempts, b);
    }
    n->accepted += b & ACCEPTED ? 1 : 0;
    n->refused += b & REFUSED ? 1 : 0;
    n->ended += b & ENDED ? 1 : 0;
    n->done += b & END_DONE ? 1 : 0;
    n->failed += b & END_FAILED ? 1 : 0;
    n->lost += b & END_LOST ? 1 : 0;
    n->cancelled += b & END_CANCELLED ? 1 : 0;
    n->claims += attempts;
    n->claimed_bytes += (uint64_t)attempts * journal->bytes[key];
}

static void reckon(void) {
    struct sums n = {0};
    for (int p = 0; p < SUBMITTERS; p++) {
        for (uint64_t seq = 0; seq < journal->next[p]; seq++) {
            reckon_task((uint64_t)p * KEYS + seq, &n);
        }
    }
    if (n.lost > sup.killed_workers) {
        fail("%llu tasks lost, %llu workers killed", (unsigned long long)n.lost,
             (unsigned long long)sup.killed_workers);
    }
    if (sup.claims != n.claims || sup.bytes != n.claimed_bytes) {
        fail("%llu claims of %llu bytes are counted, %llu of %llu were made",
             (unsigned long long)sup.claims, (unsigned long long)sup.bytes,
             (unsigned long long)n.claims, (unsigned long long)n.claimed_bytes);
    }
    struct shm_report r;
    if (shm_check(&segment, &r) || r.errors) {
        fail("check: %s", r.first);
    }
    if (r.blocks != POOLS || r.tasks[TASK_FREE] != segment.n_tasks || r.dead_slots) {
        fail("%llu blocks, %u of %u records free, %u dead slots", (unsigned long long)r.blocks,
             r.tasks[TASK_FREE], segment.n_tasks, r.dead_slots);
    }
    sup.accepted += n.accepted;
    sup.refused += n.refused;
    sup.ended += n.ended;
    sup.done += n.done;
    sup.failed += n.failed;
    sup.lost += n.lost;
    sup.cancelled += n.cancelled;
    sup.redelivered += journal->redelivered;
}

static void new_page(void) {
    for (int p = 0; p < SUBMITTERS; p++) {
        size_t from = (size_t)p * KEYS, n = journal->next[p];
        memset((void *)&journal->bits[from], 0, n);
        memset((void *)&journal->runs[from], 0, n);
        memset((void *)&journal->attempts[from], 0, n);
        memset((void *)&journal->bytes[from], 0, n * sizeof(journal->bytes[0]));
        journal->next[p] = 0;
    }
    journal->redelivered = 0;
    journal->salt = pattern_random(&sup.random);
    sup.claims = sup.bytes = sup.killed_workers = 0;
}

static uint64_t epoch(uint64_t kills) {
    uint64_t n = 0;
    new_page();
    for (int i = 0; i < PROCS; i++) {
        start(i);
    }
    while (n < kills) {
        pause_ns(random_below(random_below(32) ? 1500000 : 8000000));
        n += kill_some();
    }
    drain();
    reckon();
    return n;
}

static void set_up(void) {
    journal = mmap(NULL, sizeof(*journal), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    uint32_t slot, gen;
    int r = journal == MAP_FAILED || bell_fd < 0 ? -errno : 0;
    struct shm_params params = {.size = SEGMENT_SIZE, .slots = SLOTS, .tasks = TASKS};
    r = r ? r : shm_create(&segment, &params);
    r = r ? r : slot_reserve(&segment, SHM_POOLS, &slot, &gen);
    r = r ? r : slot_attach(&segment, slot, gen);
    r = r ? r : shm_pool_create(&segment, 0, "even", QUEUE_MAX);
    r = r ? r : shm_pool_create(&segment, 1, "odd", QUEUE_MAX);
    r = r ? r : shm_attach(&bystander, segment.fd);
    r = r ? r : slot_reserve(&segment, SHM_POOLS, &slot, &gen);
    r = r ? r : slot_attach(&bystander, slot, gen);
    if (r) {
        fail("setting up: %s", strerror(-r));
    }
    segment.bell_fd = bell_fd;
    segment.patience_ns = 0;
}

static uint64_t from_environment(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    uint64_t v;
    return text && num_u64(text, strlen(text), &v) == 0 ? v : otherwise;
}

int main(void) {
    uint64_t kills = from_environment("HEARTH_KILLS", 10000), n = 0, begun = clock_now();
    setvbuf(stdout, NULL, _IOLBF, 0);
    sup.random = from_environment("HEARTH_SEED", clock_now());
    printf("# HEARTH_SEED=%llu\n", (unsigned long long)sup.random);
    set_up();
    while (n < kills) {
        n += epoch(kills - n < EPOCH_KILLS ? kills - n : EPOCH_KILLS);
    }
    uint64_t of_workers = 0;
    for (int i = SUBMITTERS; i < COLLECTOR; i++) {
        of_workers += sup.kills[i];
    }
    printf("ok 1 - %llu kills (workers %llu, submitters %llu, collector %llu; %llu times several "
           "at once): accepted %llu, ended %llu (done %llu, failed %llu, lost with their worker "
           "%llu, cancelled %llu), refused %llu; recalled %llu, tried again %llu, followed %llu, "
           "frames %llu; events lost 0, "
           "doubled 0, runs too many 0, leaks 0, "
           "check errors 0; burials put off %llu, collectors replaced between event and free %llu; "
           "worst drain %.1f ms; %.1f s\n1..1\n",
           (unsigned long long)n, (unsigned long long)of_workers,
           (unsigned long long)(sup.kills[0] + sup.kills[1]),
           (unsigned long long)sup.kills[COLLECTOR], (unsigned long long)sup.crowds,
           (unsigned long long)sup.accepted, (unsigned long long)sup.ended,
           (unsigned long long)sup.done, (unsigned long long)sup.failed,
           (unsigned long long)sup.lost, (unsigned long long)sup.cancelled,
           (unsigned long long)sup.refused, (unsigned long long)journal->recalled,
           (unsigned long long)journal->retried, (unsigned long long)journal->watched,
           (unsigned long long)journal->frames, (unsigned long long)sup.busy,
           (unsigned long long)sup.redelivered, (double)sup.worst_ns / 1e6,
           (double)(clock_now() - begun) / 1e9);
    shm_detach(&bystander);
    shm_detach(&segment);
    return 0;
}
