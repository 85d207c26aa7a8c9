/* SPDX-License-Identifier: MIT */
/* Random death of those who hold, wait, put and get (DESIGN section 4.2): processes use locks, rlocks, reader-writer locks, semaphores,
 * events, conditions, barriers, queues and pipes at random while the supervisor kills them, buries them and starts others in
 * their place.
 *
 * What must be true is noted in memory that the segment knows nothing of:
 *   - who is inside of a lock says so, and finds nobody else who lives there; of a semaphore's units no more than there are
 *     are in the hands of the living
 *   - every item put has a number; nobody gets one that was dealt with; two who live never have the same one on lease (while it
 *     has not run out); all that was put is got in the end, but for what was in the hands of one who died getting from a
 *     queue without leases, or receiving
 *   - no wait takes longer than its time by more than 5 s, and everybody who lives goes on
 *   - when all are dead and buried nothing is held, nobody waits, and the segment is sound, block by block; at the end
 *     nothing is left
 *
 * HEARTH_KILLS: how many (default 400); HEARTH_SEED repeats a series of choices.
 * Fails: says what is wrong, kills what it started, exit status 1. */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/num.h"
#include "lib/shm/alloc.h"
#include "lib/shm/check.h"
#include "lib/shm/internal.h"
#include "lib/shm/objects_queue.h"
#include "lib/shm/objects_sync.h"
#include "lib/shm/op.h"
#include "lib/shm/slot.h"
#include "lib/shm/sync_private.h"
#include "lib/shm/task.h"
#include "tests/support/child.h"

enum {
    PROCESSES = 8,
    NUMBERS = 1 << 19, /* of items, for each process and stream */
    UNITS = 3,
    PARTIES = 3,
    AT_ONCE = 5,
    CHECK_EVERY = 100,
    PADDING = 700,
};
#define OVERSLEPT (5 * NS_PER_SEC)
#define STUCK     (20 * NS_PER_SEC)

/* Where items go: a bounded queue, one with leases until death, one with leases of 3 ms, a pipe. */
enum stream_of { PLAIN, LEASED, TIMED, PIPED, STREAMS };
enum { PUT = 1, GOT = 2, DEALT = 4 }; /* what is known of an item */

struct stream {
    _Atomic uint32_t next[PROCESSES]; /* the number of the next item to be put */
    _Atomic uint32_t holder[PROCESSES][NUMBERS];
    _Atomic uint8_t known[PROCESSES][NUMBERS];
};

struct journal {
    _Atomic uint32_t inside[2], writer; /* owner words */
    _Atomic uint32_t readers[PROCESSES], units[PROCESSES];
    _Atomic uint64_t progress[PROCESSES], getting[PROCESSES];
    _Atomic uint64_t done[16], died, overslept_ns, broken, cond_met, refused;
    struct stream streams[STREAMS];
};

static struct journal *journal;
static struct shm segment;
static struct objects objects; /* the supervisor's */
static struct worker {
    pid_t pid;
    uint32_t slot, gen;
    uint64_t seen, since; /* progress, and when it was made */
} workers[PROCESSES];
static uint64_t seed, first_seed, allowed[STREAMS], lost[STREAMS];

#define NAME(text) ((struct task_bytes){text, sizeof(text) - 1})
static const struct task_bytes lock_names[2] = {{"lock", 4}, {"rlock", 5}};
static const struct task_bytes stream_names[STREAMS] = {
    {"plain", 5}, {"leased", 6}, {"timed", 5}, {"pipe", 4}};

static uint64_t rnd(uint64_t below) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % below;
}

/* ---- those who work ---- */

/* What a process is. */
struct me {
    struct objects o;
    uint32_t p, owner;
    bool fine;
};

__attribute__((format(printf, 2, 3))) static void wrong(struct me *m, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "# process %u: ", m->p);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    m->fine = false;
}

static bool lives(const struct me *m, uint32_t owner) {
    return owner && owner != m->owner && !sync_is_dead(m->o.shm, owner);
}

/* How long a call may wait, and whether it did what it may. */
struct timed {
    int64_t ms;
    uint64_t began;
};
static struct timed timed(void) {
    return (struct timed){rnd(8) ? (int64_t)rnd(6) : 0, clock_now()};
}
static bool ended(struct me *m, const struct timed *t, int64_t r, const char *what) {
    uint64_t took = clock_now() - t->began, limit = (uint64_t)t->ms * NS_PER_MS;
    if (took > limit + get(&journal->overslept_ns)) {
        put(&journal->overslept_ns, took - limit);
    }
    if (took > limit + OVERSLEPT) {
        wrong(m, "%s took %llu ms of %lld", what, (unsigned long long)(took / NS_PER_MS),
              (long long)t->ms);
    }
    if (r == SYNC_DIED) {
        atomic_fetch_add(&journal->died, 1);
    }
    bool waited = r == -EBUSY || r == -ETIMEDOUT || r == -EPIPE;
    if (r < 0 && !waited) {
        wrong(m, "%s: %s", what, strerror((int)-r));
    }
    atomic_fetch_add(&journal->refused, waited);
    return r >= 0;
}

static void enter(struct me *m, _Atomic uint32_t *place, const char *what) {
    uint32_t former = atomic_exchange(place, m->owner);
    if (lives(m, former)) {
        wrong(m, "two are in a %s", what);
    }
}

static void leave(struct me *m, _Atomic uint32_t *place, const char *what) {
    if (atomic_exchange(place, 0) != m->owner) {
        wrong(m, "another was in a %s", what);
    }
}

static void use_lock(struct me *m) {
    struct timed t = timed();
    int r = objects_lock_acquire(&m->o, lock_names[0], t.ms, 0);
    if (!ended(m, &t, r, "a lock")) {
        return;
    }
    enter(m, &journal->inside[0], "lock");
    if (rnd(3) == 0) { /* a condition: somebody else may come in meanwhile */
        leave(m, &journal->inside[0], "lock");
        t = timed();
        r = objects_cond_wait(&m->o, NAME("cond"), lock_names[0], t.ms);
        if (r == 0 || r == SYNC_DIED) {
            atomic_fetch_add(&journal->cond_met, 1);
        } else if (r != -ETIMEDOUT && r != -EBUSY) {
            wrong(m, "a condition: %s", strerror(-r));
            return;
        }
        enter(m, &journal->inside[0], "lock");
    } else if (objects_cond_notify(&m->o, NAME("cond"), rnd(2) ? 1 : UINT64_MAX) < 0) {
        wrong(m, "a notification");
    }
    leave(m, &journal->inside[0], "lock");
    r = objects_lock_release(&m->o, lock_names[0], 0);
    if (r) {
        wrong(m, "releasing a lock: %s", strerror(-r));
    }
}

static void use_rlock(struct me *m) {
    struct timed t = timed();
    int r = objects_rlock_acquire(&m->o, lock_names[1], t.ms, 0);
    if (!ended(m, &t, r, "an rlock")) {
        return;
    }
    enter(m, &journal->inside[1], "rlock");
    uint64_t times = rnd(3);
    for (uint64_t i = 0; i < times; i++) {
        if (objects_rlock_acquire(&m->o, lock_names[1], 0, 0)) {
            wrong(m, "its own rlock");
        }
    }
    for (uint64_t i = 0; i < times; i++) {
        if (objects_rlock_release(&m->o, lock_names[1], 0) != 1) {
            wrong(m, "releasing an rlock, not the last time");
        }
    }
    leave(m, &journal->inside[1], "rlock");
    if (objects_rlock_release(&m->o, lock_names[1], 0)) {
        wrong(m, "releasing an rlock");
    }
}

static void use_rwlock(struct me *m) {
    struct timed t = timed();
    bool write = rnd(3) == 0;
    int r = write ? objects_rwlock_write(&m->o, NAME("rwlock"), t.ms, 0)
                  : objects_rwlock_read(&m->o, NAME("rwlock"), t.ms, 0);
    if (!ended(m, &t, r, "an rwlock")) {
        return;
    }
    if (write) {
        enter(m, &journal->writer, "rwlock, writing");
        for (int i = 0; i < PROCESSES; i++) {
            if (lives(m, get32(&journal->readers[i]))) {
                wrong(m, "one reads while another writes");
            }
        }
        leave(m, &journal->writer, "rwlock, writing");
    } else {
        atomic_store(&journal->readers[m->p], m->owner);
        if (lives(m, atomic_load(&journal->writer))) {
            wrong(m, "one writes while another reads");
        }
        atomic_store(&journal->readers[m->p], 0);
    }
    if (objects_rwlock_release(&m->o, NAME("rwlock"), 0)) {
        wrong(m, "releasing an rwlock");
    }
}

static void use_sem(struct me *m) {
    struct timed t = timed();
    if (!ended(m, &t, objects_sem_acquire(&m->o, NAME("sem"), 1, t.ms, 0), "a semaphore")) {
        return;
    }
    atomic_store(&journal->units[m->p], m->owner);
    int n = 1;
    for (int i = 0; i < PROCESSES; i++) {
        n += lives(m, get32(&journal->units[i]));
    }
    if (n > UNITS) {
        wrong(m, "%d have a unit, there are %d", n, UNITS);
    }
    atomic_store(&journal->units[m->p], 0);
    if (objects_sem_release(&m->o, NAME("sem"), 1)) {
        wrong(m, "releasing a semaphore");
    }
}

static void use_event(struct me *m) {
    struct timed t = timed();
    switch (rnd(4)) {
    case 0:
        ended(m, &t, objects_event_set(&m->o, NAME("event")), "setting an event");
        break;
    case 1:
        ended(m, &t, objects_event_clear(&m->o, NAME("event")), "clearing an event");
        break;
    default:
        ended(m, &t, objects_event_wait(&m->o, NAME("event"), t.ms), "an event");
    }
}

static void use_barrier(struct me *m) {
    struct timed t = timed();
    int r = objects_barrier_wait(&m->o, NAME("barrier"), t.ms);
    if (r == -ECONNABORTED) {
        atomic_fetch_add(&journal->broken, 1);
        r = objects_barrier_reset(&m->o, NAME("barrier"));
    }
    ended(m, &t, r, "a barrier");
    if (r >= PARTIES) {
        wrong(m, "place %d at a barrier for %d", r, PARTIES);
    }
}

/* ---- items ---- */

struct number {
    uint32_t p, n;
};

/* Some more, numbered. NULL: the numbers are used up. */
static const struct task_bytes *number_items(struct me *m, enum stream_of to, uint32_t n) {
    static char bytes[AT_ONCE][sizeof(struct number) + PADDING];
    static struct task_bytes items[AT_ONCE];
    _Atomic uint32_t *next = &journal->streams[to].next[m->p];
    uint32_t first = get32(next);
    if (first + n > NUMBERS) {
        return NULL;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct number number = {m->p, first + i};
        memcpy(bytes[i], &number, sizeof(number));
        size_t more = rnd(16) == 0 ? rnd(PADDING) : rnd(8);
        items[i] = (struct task_bytes){bytes[i], sizeof(number) + more};
    }
    put32(next, first + n);
    keep_order();
    return items;
}

static void were_put(struct me *m, enum stream_of to, const struct task_bytes *items, int64_t n) {
    keep_order();
    for (int64_t i = 0; i < n; i++) {
        struct number number;
        memcpy(&number, items[i].data, sizeof(number));
        atomic_fetch_or(&journal->streams[to].known[m->p][number.n], PUT);
    }
}

static bool number_of(struct me *m, struct task_bytes b, struct number *ret) {
    if (b.len < sizeof(*ret)) {
        wrong(m, "an item of %zu bytes", b.len);
        return false;
    }
    memcpy(ret, b.data, sizeof(*ret));
    if (ret->p >= PROCESSES || ret->n >= NUMBERS) {
        wrong(m, "an item that nobody put");
        return false;
    }
    return true;
}

/* An item was got by this owner. */
static void was_got(struct me *m, enum stream_of from, struct task_bytes b) {
    struct stream *j = &journal->streams[from];
    struct number n;
    if (!number_of(m, b, &n)) {
        return;
    }
    uint8_t known = atomic_fetch_or(&j->known[n.p][n.n], GOT);
    if (known & DEALT || ((from == PLAIN || from == PIPED) && known & GOT)) {
        wrong(m, "item %u of %u came twice (%u)", n.n, n.p, from);
    }
    if (from == LEASED) {
        uint32_t former = atomic_exchange(&j->holder[n.p][n.n], m->owner);
        if (lives(m, former)) {
            wrong(m, "item %u of %u is on lease to two", n.n, n.p);
        }
    }
}

static void deal_with(struct me *m, enum stream_of from, struct number n, uint64_t lease) {
    struct stream *j = &journal->streams[from];
    if (from == LEASED) {
        atomic_store(&j->holder[n.p][n.n], 0);
    }
    bool back = rnd(10) == 0;
    int r = back ? objects_queue_return(&m->o, stream_names[from], lease)
                 : objects_queue_done(&m->o, stream_names[from], lease);
    if (r == 0 && !back) {
        atomic_fetch_or(&j->known[n.p][n.n], DEALT);
    } else if (r && (from == LEASED || r != -ENOENT)) {
        wrong(m, "done with item %u of %u: %s", n.n, n.p, strerror(-r));
    }
}

static void get_items(struct me *m, enum stream_of from) {
    const struct task_bytes *items;
    struct number numbers[AT_ONCE];
    uint64_t leases[AT_ONCE], most = 1 + rnd(AT_ONCE);
    size_t n = 0;
    struct timed t = timed();
    put(&journal->getting[m->p], most | (uint64_t)from << 32);
    keep_order();
    int r = objects_queue_get(&m->o, stream_names[from], most, t.ms, &items, &n, leases);
    for (size_t i = 0; r == 0 && i < n; i++) {
        was_got(m, from, items[i]);
        m->fine = m->fine && number_of(m, items[i], &numbers[i]);
    }
    keep_order();
    put(&journal->getting[m->p], 0);
    ended(m, &t, r, "getting");
    for (size_t i = 0; from != PLAIN && r == 0 && i < n && m->fine; i++) {
        deal_with(m, from, numbers[i], leases[i]);
    }
}

static void use_queue(struct me *m, enum stream_of which) {
    if (rnd(2)) {
        get_items(m, which);
        return;
    }
    uint32_t n = 1 + (uint32_t)rnd(AT_ONCE);
    const struct task_bytes *items = number_items(m, which, n);
    struct timed t = timed();
    int64_t r = items ? objects_queue_put(&m->o, stream_names[which], items, n, t.ms) : 0;
    were_put(m, which, items, r);
    ended(m, &t, r > 0 ? 0 : r, "putting");
}

static void use_pipe(struct me *m) {
    unsigned end = m->p % 2;
    struct timed t = timed();
    struct task_bytes b;
    int r;
    switch (rnd(8)) {
    case 0:
        r = objects_pipe_close(&m->o, stream_names[PIPED], end);
        ended(m, &t, r == -EPERM ? 0 : r, "closing an end");
        break;
    case 1:
        ended(m, &t, objects_pipe_open(&m->o, stream_names[PIPED], end), "opening an end");
        break;
    case 2:
        r = objects_pipe_poll(&m->o, stream_names[PIPED], end, t.ms);
        ended(m, &t, r > 0 ? 0 : r, "polling");
        break;
    case 3:
    case 4: {
        const struct task_bytes *items = number_items(m, PIPED, 1);
        r = items ? objects_pipe_send(&m->o, stream_names[PIPED], end, *items, t.ms) : 0;
        were_put(m, PIPED, items, items && r == 0);
        ended(m, &t, r, "sending");
        break;
    }
    default:
        put(&journal->getting[m->p], 1 | (uint64_t)PIPED << 32);
        keep_order();
        r = objects_pipe_recv(&m->o, stream_names[PIPED], end, t.ms, &b);
        if (r == 0) {
            was_got(m, PIPED, b);
        }
        keep_order();
        put(&journal->getting[m->p], 0);
        ended(m, &t, r, "receiving");
    }
}

static void do_one(struct me *m) {
    uint64_t what = rnd(10);
    switch (what) {
    case 0:
        use_lock(m);
        break;
    case 1:
        use_rlock(m);
        break;
    case 2:
        use_rwlock(m);
        break;
    case 3:
        use_sem(m);
        break;
    case 4:
        use_event(m);
        break;
    case 5:
        use_barrier(m);
        break;
    case 6:
        use_pipe(m);
        break;
    default:
        use_queue(m, (enum stream_of)(PLAIN + what - 7));
    }
    atomic_fetch_add(&journal->done[what], 1);
}

static int work(void *arg) {
    struct me m = {.p = (uint32_t)(intptr_t)arg, .fine = true};
    struct shm s = segment;
    s.mine = NULL;
    s.tx_room = SHM_UNDO;
    seed += 977 * (uint64_t)getpid();
    if (slot_attach(&s, workers[m.p].slot, workers[m.p].gen)) {
        return 2;
    }
    m.owner = s.me;
    objects_init(&m.o, &s);
    while (m.fine) {
        do_one(&m);
        atomic_fetch_add(&journal->progress[m.p], 1);
    }
    return 3;
}

/* ---- the supervisor ---- */

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    printf("not ok 1 - random kills of those who wait and hold: ");
    vprintf(fmt, ap);
    printf(" (seed %llu)\n1..1\n", (unsigned long long)first_seed);
    va_end(ap);
    child_kill_all();
    exit(1);
}

static void start(int p) {
    struct worker *w = &workers[p];
    if (slot_reserve(&segment, 0, &w->slot, &w->gen)) {
        die("no slot");
    }
    rnd(1 << 20);
    w->since = clock_now();
    w->pid = child_start(work, (void *)(intptr_t)p);
    if (w->pid < 0) {
        die("fork: %s", strerror((int)-w->pid));
    }
}

static void slay(int p) {
    kill(workers[p].pid, SIGKILL);
    int status = child_wait(workers[p].pid);
    if (status != CHILD_SIGNALLED + SIGKILL) {
        die("process %d ended by itself, status %d", p, status);
    }
    /* what it may have had in its hands is gone */
    uint64_t getting = get(&journal->getting[p]);
    allowed[getting >> 32 & 3] += getting & 0xff;
    put(&journal->getting[p], 0);
    put32(&journal->readers[p], 0);
    put32(&journal->units[p], 0);
}

static void bury(int p) {
    const struct task_outcome gone = {.state = TASK_LOST, .cause = CAUSE_SIGNAL};
    uint64_t until = clock_now() + 5 * NS_PER_SEC;
    uint32_t idx;
    while (slot_bury(&segment, workers[p].slot, workers[p].gen) ||
           task_reap(&segment, workers[p].slot, workers[p].gen, &gone, &idx) < 0) {
        if (clock_now() > until) {
            die("a burial does not succeed");
        }
    }
    slot_release(&segment, workers[p].slot, workers[p].gen);
}

/* All die before any is buried: the living meet what the dead held. */
static uint64_t slay_all(unsigned victims) {
    uint64_t n = 0;
    for (int p = 0; p < PROCESSES; p++) {
        if (victims >> p & 1) {
            slay(p);
            n++;
        }
    }
    if (rnd(4) == 0) {
        usleep((useconds_t)rnd(3000));
    }
    for (int p = 0; p < PROCESSES; p++) {
        if (victims >> p & 1) {
            bury(p);
        }
    }
    return n;
}

static void all_go_on(void) {
    for (int p = 0; p < PROCESSES; p++) {
        struct worker *w = &workers[p];
        uint64_t now = get(&journal->progress[p]);
        if (now != w->seen) {
            w->seen = now;
            w->since = clock_now();
        } else if (clock_now() - w->since > STUCK) {
            die("process %d is stuck", p);
        }
    }
}

/* All are dead and buried: nothing is held, nobody waits. */
static void nothing_is_held(void) {
    struct shm_report report;
    struct sync_barrier_view b = {0};
    struct queue_view v = {0};
    struct pipe_view pv = {0};
    if (shm_check(&segment, &report) || report.errors) {
        die("%s", report.first);
    }
    if (objects_lock_is_held(&objects, lock_names[0]) > 0 ||
        objects_rlock_acquire(&objects, lock_names[1], 0, 0) < 0 ||
        objects_rlock_release(&objects, lock_names[1], 0)) {
        die("a lock stays held");
    }
    if (objects_rwlock_write(&objects, NAME("rwlock"), 0, 0) < 0 ||
        objects_rwlock_release(&objects, NAME("rwlock"), 0)) {
        die("a reader-writer lock stays held");
    }
    int64_t units = objects_sem_value(&objects, NAME("sem"));
    if (units != UNITS) {
        die("%lld units are left of %d", (long long)units, UNITS);
    }
    if (objects_barrier_view(&objects, NAME("barrier"), &b) || b.waiting) {
        die("%u wait at the barrier", b.waiting);
    }
    for (int i = 0; i < PIPED; i++) {
        if (objects_queue_view(&objects, stream_names[i], &v) || v.leased || v.getters ||
            v.putters) {
            die("%llu items on lease, %llu wait to get, %llu to put", (unsigned long long)v.leased,
                (unsigned long long)v.getters, (unsigned long long)v.putters);
        }
    }
    if (objects_pipe_view(&objects, stream_names[PIPED], &pv) || pv.end[0].holders ||
        pv.end[1].holders) {
        die("an end stays held");
    }
}

/* ---- the end ---- */

static void drain(void) {
    struct me m = {.owner = segment.me, .fine = true};
    const struct task_bytes *items;
    struct task_bytes b;
    size_t n;
    m.o = objects;
    for (int i = 0; i < PIPED; i++) {
        uint64_t lease;
        while (objects_queue_get(&m.o, stream_names[i], 1, 0, &items, &n, &lease) == 0) {
            was_got(&m, (enum stream_of)i, *items);
            if (i != PLAIN && objects_queue_done(&m.o, stream_names[i], lease)) {
                die("a lease cannot be ended");
            }
        }
    }
    for (unsigned end = 0; end < 2; end++) {
        while (objects_pipe_recv(&m.o, stream_names[PIPED], end, 0, &b) == 0) {
            was_got(&m, PIPED, b);
        }
        objects_pipe_close(&m.o, stream_names[PIPED], end);
    }
    objects = m.o;
    if (!m.fine) {
        die("what was left was not as it should be");
    }
}

static uint64_t count_lost(void) {
    uint64_t all = 0;
    for (int i = 0; i < STREAMS; i++) {
        const struct stream *j = &journal->streams[i];
        for (int p = 0; p < PROCESSES; p++) {
            for (uint32_t n = 0; n < get32(&j->next[p]); n++) {
                uint8_t known = j->known[p][n];
                lost[i] += known & PUT && !(known & GOT);
                all += (known & GOT) != 0;
            }
        }
        uint64_t most = i == PLAIN || i == PIPED ? allowed[i] : 0;
        if (lost[i] > most) {
            die("%llu items of %.*s are lost, %llu may be", (unsigned long long)lost[i],
                (int)stream_names[i].len, (const char *)stream_names[i].data,
                (unsigned long long)most);
        }
    }
    return all;
}

static int in_flush(struct shm *s, void *arg) {
    return keys_flush_some(s, *(unsigned *)arg, 1000);
}

static void remove_everything(void) {
    struct shm_report report;
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        while (op_run(&segment, UINT64_C(1) << i, in_flush, &i) == 1) {
        }
        while (op_tidy(&segment, i) == 1) {
        }
    }
    alloc_take_back(&segment, &segment.mine->undo_more);
    segment.tx_room = SHM_UNDO;
    if (shm_check(&segment, &report) || report.errors || report.blocks) {
        die("%llu blocks are left at the end; %s", (unsigned long long)report.blocks, report.first);
    }
}

static uint64_t number_from(const char *variable, uint64_t otherwise) {
    const char *text = getenv(variable);
    uint64_t v;
    return text && num_u64(text, strlen(text), &v) == 0 ? v : otherwise;
}

static void prepare(void) {
    journal =
        mmap(NULL, sizeof(*journal), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert(journal != MAP_FAILED);
    uint32_t slot, gen;
    if (shm_create(&segment, &(struct shm_params){.size = 64 << 20, .slots = 16, .tasks = 64}) ||
        slot_reserve(&segment, 0, &slot, &gen) || slot_attach(&segment, slot, gen)) {
        die("no segment");
    }
    objects_init(&objects, &segment);
    if (objects_sem_create(&objects, NAME("sem"), UNITS, true) < 0 ||
        objects_barrier_create(&objects, NAME("barrier"), PARTIES) < 0 ||
        objects_queue_create(&objects, stream_names[PLAIN], &(struct queue_params){16, 0}) < 0 ||
        objects_queue_create(&objects, stream_names[LEASED], &(struct queue_params){0, -1}) < 0 ||
        objects_queue_create(&objects, stream_names[TIMED], &(struct queue_params){32, 3}) < 0 ||
        objects_pipe_create(&objects, stream_names[PIPED], &(struct pipe_params){true, 2000}) < 0) {
        die("the objects cannot be made");
    }
}

static void run(uint64_t kills) {
    uint64_t killed = 0, checked = 0;
    for (int p = 0; p < PROCESSES; p++) {
        start(p);
    }
    while (killed < kills) {
        unsigned victims = 1u << rnd(PROCESSES);
        usleep((useconds_t)rnd(rnd(4) ? 2000 : 9000));
        queue_expire_leases(&segment);
        all_go_on();
        if (rnd(4) == 0) {
            victims |= 1u << rnd(PROCESSES) | 1u << rnd(PROCESSES);
        }
        bool all = killed >= checked + CHECK_EVERY || killed + PROCESSES >= kills;
        victims = all ? (1u << PROCESSES) - 1 : victims;
        killed += slay_all(victims);
        if (all) {
            nothing_is_held();
            checked = killed;
        }
        for (int p = 0; p < PROCESSES && killed < kills; p++) {
            if (victims >> p & 1) {
                start(p);
            }
        }
    }
}

int main(void) {
    uint64_t kills = number_from("HEARTH_KILLS", 400), began = clock_now(), done = 0;
    first_seed = number_from("HEARTH_SEED", clock_wall_ms());
    seed = first_seed * 2654435761u + 1;
    prepare();
    run(kills);
    drain();
    uint64_t items = count_lost();
    for (size_t i = 0; i < ARRAY_SIZE(journal->done); i++) {
        done += get(&journal->done[i]);
    }
    printf("# oversleeping %.1f ms at most; %llu owners had died, %llu barriers broke, %llu "
           "conditions were "
           "met, %llu waits in vain; of items without leases %llu and %llu went with those who got "
           "them (of at most %llu "
           "and %llu)\n",
           (double)get(&journal->overslept_ns) / 1e6, (unsigned long long)get(&journal->died),
           (unsigned long long)get(&journal->broken), (unsigned long long)get(&journal->cond_met),
           (unsigned long long)get(&journal->refused), (unsigned long long)lost[PLAIN],
           (unsigned long long)lost[PIPED], (unsigned long long)allowed[PLAIN],
           (unsigned long long)allowed[PIPED]);
    remove_everything();
    objects_deinit(&objects);
    shm_detach(&segment);
    printf("ok 1 - %llu kills, %llu calls, %llu items: nothing stayed held, none doubled, none "
           "lost, 0 leaked, 0 "
           "stuck; %.1f s\n1..1\n",
           (unsigned long long)kills, (unsigned long long)done, (unsigned long long)items,
           (double)(clock_now() - began) / 1e9);
    return 0;
}
