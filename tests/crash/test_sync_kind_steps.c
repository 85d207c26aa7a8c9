/* SPDX-License-Identifier: MIT */
/* Every instruction of every verb of locks, semaphores, events, conditions and barriers, of coming for an answer and of giving up, and of
 * the end of owners (DESIGN section 4.1). The victim is a slot; connections with seats, and a slot that sleeps, hold and wait
 * around it. After each death and burial everything must be as if the victim had died before the operation, or just after
 * it; whoever has an answer is told; and when all have gone no unit is missing or doubled and no block is left.
 * Fails: prints "not ok" and exits 1. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/base/buf.h"
#include "lib/shm/alloc.h"
#include "lib/shm/internal.h"
#include "lib/shm/keys.h"
#include "lib/shm/lock.h"
#include "lib/shm/op.h"
#include "lib/shm/sync_private.h"
#include "tests/crash/kind_calls.h"
#include "tests/crash/step.h"

enum { SLEEPER = 3, SEATS = 5, ME = 0, SLOT = SEATS + 1, PEOPLE };
enum { PREP = 10 };

/* By whom (ME: the victim; 1 .. SEATS: a connection; SLOT: the one that sleeps), and what. */
struct act {
    unsigned who;
    enum kind_verb verb;
    const char *name;
    uint64_t n;
};

enum how {
    ONCE,   /* as before or as after */
    RESUME, /* what was begun is done again from the start, and then it is as after */
};

struct kind_case {
    const char *name;
    struct act prep[PREP];
    struct act op;
    uint64_t units; /* free units of "sem" when all have gone; 0: not looked at */
    enum how how;
    unsigned dead; /* who has died before the operation and is not buried: SLOT */
};

static const struct kind_case *current;
static struct buf before, after;
static uint32_t who[PEOPLE], bell;
static void *scratch;
static const char *const names[] = {"lock", "rlock", "sem", "event", "cond", "bar", "moved"};

/* ---- acting ---- */

static int64_t act(void *base, const struct act *a) {
    bool slot = a->who == ME || a->who == SLOT;
    unsigned n = a->who == ME ? STEP_VICTIM : a->who == SLOT ? SLEEPER : STEP_SUPERVISOR;
    struct shm s = step_handle(base, n);
    if (a->verb == BURY) { /* and comes again */
        int r = sync_seat_end(&s, who[a->who]);
        return r ? r : sync_seat_take(&s, a->who, 1, 0, &who[a->who]);
    }
    return kind_call(&s, slot ? 0 : who[a->who], a->verb, a->name, a->n);
}

static void act_all(void *base, const struct act *a) {
    for (int i = 0; i < PREP && a[i].name; i++) {
        int64_t r = act(base, &a[i]);
        if (r < 0 && r != -EINPROGRESS) {
            printf("# %s: step %d: %lld\n", current->name, i, (long long)r);
        }
        assert(r >= 0 || r == -EINPROGRESS);
    }
}

/* The operation, by the victim: some cases end others. */
static int64_t run_op(struct shm *s) {
    const struct act *a = &current->op;
    if (a->verb != BURY) {
        return kind_call(s, 0, a->verb, a->name, a->n);
    }
    return a->who == SLOT ? slot_bury(s, SLEEPER, get32(&s->slots[SLEEPER].gen))
                          : sync_seat_end(s, who[a->who]);
}

/* ---- everything, as text ---- */

static void dump_party(struct buf *b, const struct shm_party *p) {
    uint64_t v = get(&p->state);
    if (get(&p->object)) {
        buf_printf(b, " %s %u %c %d x%llu\n",
                   party_state(v) == PARTY_WAITS ? "waits for" : "is answered by", party_kind(v),
                   (int)party_mode(v), party_answer(v), (unsigned long long)get(&p->count));
    } else {
        buf_printf(b, " idle\n");
    }
}

static void dump_object(struct shm *s, struct buf *b, const char *name) {
    struct key_name k = kind_name(s, name);
    struct key key;
    if (key_find(s, &k, &key)) {
        return;
    }
    const struct shm_sync *o = sync_at(s, get(&key.k->object));
    assert(o);
    bool lock = sync_type(o) == KEY_LOCK || sync_type(o) == KEY_RLOCK;
    buf_printf(b, "%s: %u waiting", name, (unsigned)get(&o->waiting));
    if (lock) {
        buf_printf(b, " owner %x +%u%s", sync_word_owner(get(&o->word)), (unsigned)get(&o->extra),
                   get(&o->words[LOCK_DIED]) ? " died" : "");
    }
    for (unsigned i = 0; i < 4 && !lock; i++) {
        buf_printf(b, " %lld", (long long)get(&o->words[i]));
    }
    const struct shm_party *p = sync_party_at(s, get(&o->holders));
    for (; p; p = sync_next(s, p)) {
        buf_printf(b, " %x has %u", party_owner(p), (unsigned)get(&p->count));
    }
    buf_printf(b, "\n");
}

static int in_dump(struct shm *s, void *arg) {
    struct buf *b = arg;
    for (unsigned i = 1; i < PEOPLE; i++) {
        buf_printf(b, "%u", i);
        dump_party(b, &sync_seat(s, who[i])->waiting);
    }
    for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
        dump_object(s, b, names[i]);
    }
    return 0;
}

static void dump(struct shm *s, struct buf *ret) {
    buf_deinit(ret);
    int r = op_run(s, OP_ALL, in_dump, ret);
    assert(r == 0);
    buf_append(ret, "", 1);
}

/* ---- the cases ---- */

static bool is_told(struct shm *s, unsigned i) {
    uint32_t seat = owner_slot(who[i]);
    if (i == SLOT) {
        return get32(&s->seats[seat].bell) != bell;
    }
    return s->head->granted && get(&s->granted[seat / 64]) >> (seat % 64) & 1;
}

static const char *all_told(struct shm *s) {
    for (unsigned i = 1; i < PEOPLE; i++) {
        const struct shm_party *p = &sync_seat(s, who[i])->waiting;
        if (get(&p->object) && party_state(get(&p->state)) == PARTY_ANSWERED && !is_told(s, i)) {
            return "one who has an answer sleeps";
        }
    }
    return NULL;
}

static void setup(struct shm *s) {
    for (unsigned i = 1; i <= SEATS; i++) {
        int r = sync_seat_take(s, i, 1, 0, &who[i]);
        assert(r == 0);
    }
    struct shm sleeper = step_handle(s->base, SLEEPER);
    who[SLOT] = sleeper.me;
    act_all(s->base, current->prep);
    if (current->dead) {
        step_mark_dead(s, SLEEPER);
    }
    uint64_t conn;
    while (sync_next_granted(s, &conn)) { /* what they were told before does not count */
    }
    bell = get32(&s->seats[SLEEPER].bell);

    memcpy(scratch, s->base, step_size);
    struct shm copy = step_handle(scratch, STEP_SUPERVISOR);
    step_mark_dead(&copy, STEP_VICTIM);
    const char *bad = step_recover(&copy, STEP_VICTIM);
    assert(!bad);
    dump(&copy, &before);

    memcpy(scratch, s->base, step_size);
    struct shm victim = step_handle(scratch, STEP_VICTIM);
    int64_t r = run_op(&victim);
    assert(r >= 0 || r == -EINPROGRESS || r == -ETIMEDOUT || r == -ECONNABORTED || r == -EIDRM);
    bad = all_told(&copy); /* by the operation itself */
    step_mark_dead(&copy, STEP_VICTIM);
    bad = bad ? bad : step_recover(&copy, STEP_VICTIM);
    if (bad) {
        printf("# %s: %s\n", current->name, bad);
    }
    assert(!bad);
    dump(&copy, &after);
}

static void op(struct shm *s) {
    run_op(s);
}

static int in_flush(struct shm *s, void *arg) {
    return keys_flush_some(s, *(unsigned *)arg, 1000);
}

static const char *checked(struct shm *s, uint64_t blocks, const char *when) {
    struct shm_report report;
    if (shm_check(s, &report) || report.errors) {
        fprintf(stderr, "# %s\n", report.first);
        return when;
    }
    return blocks && report.blocks != blocks ? "a block is lost" : NULL;
}

/* Everybody goes, then every object. */
static const char *end_all(struct shm *s) {
    for (unsigned i = 1; i <= SEATS; i++) {
        if (sync_seat_end(s, who[i])) {
            return "a connection cannot be ended";
        }
    }
    if (!current->dead) {
        step_mark_dead(s, SLEEPER);
    }
    const char *bad = step_recover(s, SLEEPER);
    struct key_name k = kind_name(s, "sem");
    if (!bad && current->units && sync_sem_value(s, &k) != (int64_t)current->units) {
        bad = "a unit is lost or doubled";
    }
    bad = bad ? bad : checked(s, 0, "check after everybody has gone");
    for (unsigned i = 0; i < SHM_SHARDS && !bad; i++) {
        int r;
        do {
            r = op_run(s, UINT64_C(1) << i, in_flush, &i);
        } while (r == 1);
        while (r == 0 && (r = op_tidy(s, i)) == 1) {
            r = 0;
        }
        bad = r ? "objects cannot be removed" : NULL;
    }
    /* the one is the pool's ring */
    return bad ? bad : checked(s, 1, "check after everything was removed");
}

static bool same(const struct buf *a, const struct buf *b) {
    return buf_len(a) == buf_len(b) && memcmp(buf_head(a), buf_head(b), buf_len(a)) == 0;
}

static const char *judge(struct shm *s, bool finished) {
    struct buf now = BUF_INIT;
    const char *bad = checked(s, 0, "check after recovery");
    bad = bad ? bad : all_told(s);
    if (!bad && current->how == RESUME) {
        bad = run_op(s) ? "it cannot be done again" : all_told(s);
        finished = true;
    }
    if (bad) {
        return bad;
    }
    dump(s, &now);
    if (!same(&now, &after) && (finished || !same(&now, &before))) {
        bad = finished ? "the operation has no effect" : "neither as before nor as after";
        fprintf(stderr, "# is:\n%s# before:\n%s# after:\n%s", buf_head(&now), buf_head(&before),
                buf_head(&after));
    }
    buf_deinit(&now);
    return bad ? bad : end_all(s);
}

static const char *verify(struct shm *s, bool finished) {
    const char *bad = step_recover(s, STEP_VICTIM);
    return bad ? bad : judge(s, finished);
}

static void op_rescue(struct shm *s) {
    const char *bad = step_recover(s, STEP_VICTIM);
    assert(!bad);
}

static const char *verify_rescue(struct shm *s, bool finished) {
    (void)finished;
    const char *bad = step_recover(s, STEP_OTHER);
    bad = bad ? bad : step_recover(s, STEP_VICTIM);
    return bad ? bad : judge(s, false);
}

#define ALL UINT64_MAX
static const struct kind_case cases[] = {
    {"lock: taken",
     {{1, LOCK_TAKE, "lock", 0}, {1, LOCK_GIVE, "lock", 0}},
     {ME, LOCK_TAKE, "lock", 0},
     0,
     ONCE,
     0},
    {"lock: stood in line for",
     {{1, LOCK_TAKE, "lock", 0}, {2, LOCK_TAKE, "lock", 0}},
     {ME, LOCK_TAKE, "lock", 0},
     0,
     ONCE,
     0},
    {"lock: handed over",
     {{ME, LOCK_TAKE, "lock", 0}, {SLOT, LOCK_TAKE, "lock", 0}, {2, LOCK_TAKE, "lock", 0}},
     {ME, LOCK_GIVE, "lock", 0},
     0,
     ONCE,
     0},
    {"lock: taken from a dead one",
     {{SLOT, LOCK_TAKE, "lock", 0}},
     {ME, LOCK_TAKE, "lock", 0},
     0,
     ONCE,
     SLOT},
    {"lock: taken after a dead one",
     {{1, LOCK_TAKE, "lock", 0}, {1, BURY, "", 0}},
     {ME, LOCK_TAKE, "lock", 0},
     0,
     ONCE,
     0},
    {"rlock: given up by one who had it twice",
     {{ME, RLOCK_TAKE, "rlock", 0}, {ME, RLOCK_TAKE, "rlock", 0}, {1, RLOCK_TAKE, "rlock", 0}},
     {ME, RLOCK_GIVE, "rlock", 0},
     0,
     ONCE,
     0},
    {"sem: made", {{0}}, {ME, SEM_CREATE, "sem", 3}, 0, ONCE, 0},
    {"sem: taken", {{1, SEM_CREATE, "sem", 3}}, {ME, SEM_TAKE, "sem", 2}, 3, ONCE, 0},
    {"sem: more taken",
     {{1, SEM_CREATE, "sem", 3}, {ME, SEM_TAKE, "sem", 1}},
     {ME, SEM_TAKE, "sem", 2},
     3,
     ONCE,
     0},
    {"sem: stood in line for",
     {{1, SEM_CREATE, "sem", 1}, {1, SEM_TAKE, "sem", 1}, {2, SEM_TAKE, "sem", 1}},
     {ME, SEM_TAKE, "sem", 1},
     1,
     ONCE,
     0},
    {"sem: given back by its holder, handed over",
     {{ME, SEM_CREATE, "sem", 2},
      {ME, SEM_TAKE, "sem", 2},
      {1, SEM_TAKE, "sem", 1},
      {SLOT, SEM_TAKE, "sem", 1},
      {2, SEM_TAKE, "sem", 1}},
     {ME, SEM_GIVE, "sem", 2},
     2,
     ONCE,
     0},
    {"sem: some of it given back",
     {{ME, SEM_CREATE_BOUNDED, "sem", 2}, {ME, SEM_TAKE, "sem", 2}},
     {ME, SEM_GIVE, "sem", 1},
     2,
     ONCE,
     0},
    {"sem: given by one who has none",
     {{1, SEM_CREATE, "sem", 1},
      {1, SEM_TAKE, "sem", 1},
      {2, SEM_TAKE, "sem", 2},
      {SLOT, SEM_TAKE, "sem", 1}},
     {ME, SEM_GIVE, "sem", 3},
     0,
     ONCE,
     0},
    {"sem: its time over, the next one goes on",
     {{1, SEM_CREATE, "sem", 1}, {ME, SEM_TAKE, "sem", 2}, {SLOT, SEM_TAKE, "sem", 1}},
     {ME, GIVE_UP, "", 0},
     1,
     ONCE,
     0},
    {"sem: come for",
     {{1, SEM_CREATE, "sem", 1},
      {1, SEM_TAKE, "sem", 1},
      {ME, SEM_TAKE, "sem", 1},
      {1, SEM_GIVE, "sem", 1}},
     {ME, POLL, "", 0},
     1,
     ONCE,
     0},
    {"sem: taken from a dead holder",
     {{SLOT, SEM_CREATE, "sem", 2}, {SLOT, SEM_TAKE, "sem", 2}},
     {ME, SEM_TAKE, "sem", 1},
     2,
     ONCE,
     SLOT},
    {"sem: deleted",
     {{1, SEM_CREATE, "sem", 1}, {1, SEM_TAKE, "sem", 1}, {SLOT, SEM_TAKE, "sem", 1}},
     {ME, DELETE, "sem", 0},
     0,
     ONCE,
     0},
    {"sem: renamed",
     {{1, SEM_CREATE, "sem", 1}, {1, SEM_TAKE, "sem", 1}, {SLOT, SEM_TAKE, "sem", 1}},
     {ME, RENAME, "sem", 0},
     0,
     ONCE,
     0},
    {"event: set, made by that", {{0}}, {ME, EVENT_SET, "event", 0}, 0, ONCE, 0},
    {"event: set for those who wait",
     {{1, EVENT_WAIT, "event", 0},
      {SLOT, EVENT_WAIT, "event", 0},
      {2, EVENT_WAIT, "event", 0},
      {3, EVENT_WAIT, "event", 0}},
     {ME, EVENT_SET, "event", 0},
     0,
     ONCE,
     0},
    {"event: cleared", {{1, EVENT_SET, "event", 0}}, {ME, EVENT_CLEAR, "event", 0}, 0, ONCE, 0},
    {"event: waited for", {{1, EVENT_WAIT, "event", 0}}, {ME, EVENT_WAIT, "event", 0}, 0, ONCE, 0},
    {"event: its time over",
     {{1, EVENT_WAIT, "event", 0}, {ME, EVENT_WAIT, "event", 0}, {2, EVENT_WAIT, "event", 0}},
     {ME, GIVE_UP, "", 0},
     0,
     ONCE,
     0},
    {"event: come for",
     {{ME, EVENT_WAIT, "event", 0}, {1, EVENT_SET, "event", 0}},
     {ME, POLL, "", 0},
     0,
     ONCE,
     0},
    {"cond: waited for, the lock free",
     {{ME, LOCK_TAKE, "lock", 0}},
     {ME, COND_WAIT, "cond", 0},
     0,
     ONCE,
     0},
    {"cond: notified, one",
     {{1, LOCK_TAKE, "lock", 0},
      {1, COND_WAIT, "cond", 0},
      {2, LOCK_TAKE, "lock", 0},
      {2, COND_WAIT, "cond", 0},
      {SLOT, LOCK_TAKE, "lock", 0}},
     {ME, COND_NOTIFY, "cond", 1},
     0,
     ONCE,
     0},
    {"cond: notified, all",
     {{1, LOCK_TAKE, "lock", 0},
      {1, COND_WAIT, "cond", 0},
      {2, LOCK_TAKE, "lock", 0},
      {2, COND_WAIT, "cond", 0},
      {SLOT, LOCK_TAKE, "lock", 0},
      {SLOT, COND_WAIT, "cond", 0}},
     {ME, COND_NOTIFY, "cond", ALL},
     0,
     ONCE,
     0},
    {"cond: come for, into the lock's line",
     {{ME, RLOCK_TAKE, "rlock", 0},
      {ME, RLOCK_TAKE, "rlock", 0},
      {ME, COND_WAIT_RLOCK, "cond", 0},
      {1, RLOCK_TAKE, "rlock", 0},
      {SLOT, RLOCK_TAKE, "rlock", 0},
      {1, COND_NOTIFY, "cond", 1}},
     {ME, POLL, "", 0},
     0,
     ONCE,
     0},
    {"cond: its time over, into the lock's line",
     {{ME, LOCK_TAKE, "lock", 0}, {ME, COND_WAIT, "cond", 0}, {1, LOCK_TAKE, "lock", 0}},
     {ME, GIVE_UP, "", 0},
     0,
     ONCE,
     0},
    {"cond: a lock given to one whose time was over",
     {{1, LOCK_TAKE, "lock", 0},
      {1, COND_WAIT, "cond", 0},
      {ME, LOCK_TAKE, "lock", 0},
      {1, GIVE_UP, "", 0}},
     {ME, LOCK_GIVE, "lock", 0},
     0,
     ONCE,
     0},
    {"cond: deleted",
     {{1, LOCK_TAKE, "lock", 0}, {1, COND_WAIT, "cond", 0}},
     {ME, DELETE, "cond", 0},
     0,
     ONCE,
     0},
    {"barrier: made", {{0}}, {ME, BARRIER_CREATE, "bar", 3}, 0, ONCE, 0},
    {"barrier: waited at",
     {{1, BARRIER_CREATE, "bar", 3}, {1, BARRIER_WAIT, "bar", 0}},
     {ME, BARRIER_WAIT, "bar", 0},
     0,
     ONCE,
     0},
    {"barrier: the last one comes",
     {{1, BARRIER_CREATE, "bar", 4},
      {1, BARRIER_WAIT, "bar", 0},
      {SLOT, BARRIER_WAIT, "bar", 0},
      {2, BARRIER_WAIT, "bar", 0}},
     {ME, BARRIER_WAIT, "bar", 0},
     0,
     ONCE,
     0},
    {"barrier: reset",
     {{1, BARRIER_CREATE, "bar", 4}, {1, BARRIER_WAIT, "bar", 0}, {SLOT, BARRIER_WAIT, "bar", 0}},
     {ME, BARRIER_RESET, "bar", 0},
     0,
     ONCE,
     0},
    {"barrier: aborted",
     {{1, BARRIER_CREATE, "bar", 4}, {1, BARRIER_WAIT, "bar", 0}, {SLOT, BARRIER_WAIT, "bar", 0}},
     {ME, BARRIER_ABORT, "bar", 0},
     0,
     ONCE,
     0},
    {"barrier: its time over",
     {{1, BARRIER_CREATE, "bar", 4}, {1, BARRIER_WAIT, "bar", 0}, {ME, BARRIER_WAIT, "bar", 0}},
     {ME, GIVE_UP, "", 0},
     0,
     ONCE,
     0},
    {"barrier: the last one meets a dead one",
     {{1, BARRIER_CREATE, "bar", 3}, {1, BARRIER_WAIT, "bar", 0}, {SLOT, BARRIER_WAIT, "bar", 0}},
     {ME, BARRIER_WAIT, "bar", 0},
     0,
     ONCE,
     SLOT},
    {"end: of a connection that holds and waits",
     {{1, SEM_CREATE, "sem", 3},
      {1, SEM_TAKE, "sem", 2},
      {1, LOCK_TAKE, "lock", 0},
      {2, SEM_TAKE, "sem", 2},
      {3, LOCK_TAKE, "lock", 0},
      {SLOT, SEM_TAKE, "sem", 1},
      {1, SEM_TAKE, "sem", 1}},
     {1, BURY, "", 0},
     3,
     RESUME,
     0},
    {"end: of a slot that holds a lock with conditions",
     {{1, LOCK_TAKE, "lock", 0},
      {1, COND_WAIT, "cond", 0},
      {2, LOCK_TAKE, "lock", 0},
      {2, COND_WAIT, "cond", 0},
      {SLOT, LOCK_TAKE, "lock", 0},
      {3, LOCK_TAKE, "lock", 0}},
     {SLOT, BURY, "", 0},
     0,
     RESUME,
     SLOT},
    {"end: of a slot at a barrier",
     {{1, BARRIER_CREATE, "bar", 3}, {1, BARRIER_WAIT, "bar", 0}, {SLOT, BARRIER_WAIT, "bar", 0}},
     {SLOT, BURY, "", 0},
     0,
     RESUME,
     SLOT},
    {"end: of a slot with a notification that it did not come for",
     {{SLOT, LOCK_TAKE, "lock", 0},
      {SLOT, COND_WAIT, "cond", 0},
      {1, LOCK_TAKE, "lock", 0},
      {1, COND_WAIT, "cond", 0},
      {2, COND_NOTIFY, "cond", 1}},
     {SLOT, BURY, "", 0},
     0,
     RESUME,
     SLOT},
};

enum { KEEP = 3 };

static bool step_case(const struct kind_case *k, unsigned *number) {
    void *keep[KEEP] = {0};
    uint32_t kept = 0;
    struct step_case c = {.name = k->name,
                          .setup = setup,
                          .op = op,
                          .verify = verify,
                          .keep = keep,
                          .n_kept = &kept,
                          .n_keep = KEEP};
    current = k;
    bool ok = step_run(&c, (*number)++);
    for (uint32_t i = 0; i < kept; i++) {
        char name[128];
        snprintf(name, sizeof(name), "rescue %u of: %s", i, k->name);
        struct step_case r = {.name = name,
                              .op = op_rescue,
                              .verify = verify_rescue,
                              .victim = STEP_OTHER,
                              .image = keep[i]};
        ok &= step_run(&r, (*number)++);
        free(keep[i]);
    }
    return ok;
}

int main(void) {
    unsigned number = 1;
    bool ok = true;
    scratch = mmap(NULL, step_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert(scratch != MAP_FAILED);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        ok &= step_case(&cases[i], &number);
    }
    printf("1..%u\n", number - 1);
    buf_deinit(&before);
    buf_deinit(&after);
    return ok ? 0 : 1;
}
