/* SPDX-License-Identifier: MIT */
/* Every instruction of every verb of locks, semaphores, events, conditions and barriers, of coming for an answer and of giving up, and of
 * the end of owners (DESIGN section 4.1). The victim is a slot; connections with seats, and a slot that sleeps, hold and wait
 * around it. After each death and burial everything must be as if the victim had died before the operation, or just after
 * it; whoever has an answer is told; and when all have gone no unit is missing or doubled and no block is left.
 * Fails: prints "not ok" and exits 1. */
#include <assert.h>
#include <errno.h>

#include "lib/base/cleanup.h"
#include "lib/shm/internal.h"
#include "lib/shm/sync_private.h"
#include "tests/crash/cast.h"
#include "tests/crash/kind_calls.h"

static const char *const names[] = {"lock", "rlock", "sem", "event", "cond", "bar", "moved"};

static int64_t act(struct shm *s, uint32_t owner, const struct cast_act *a) {
    return kind_call(s, owner, (enum kind_verb)a->verb, a->word, (uint64_t)a->n);
}

static bool may_say(int64_t r) {
    return r >= 0 || r == -EINPROGRESS || r == -ETIMEDOUT || r == -ECONNABORTED || r == -EIDRM;
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

static void dump(struct shm *s, struct buf *b) {
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        dump_object(s, b, names[i]);
    }
}

/* c->n: free units of "sem"; 0: not looked at. */
static const char *judge_end(struct shm *s, const struct cast_case *c) {
    struct key_name k = kind_name(s, "sem");
    bool fine = !c->n || sync_sem_value(s, &k) == (int64_t)c->n;
    return fine ? NULL : "a unit is lost or doubled";
}

static const struct cast kinds = {act, may_say, dump, judge_end};

static const struct cast_case cases[] = {
    {"lock: taken",
     {{1, LOCK_TAKE, "lock", 0}, {1, LOCK_GIVE, "lock", 0}},
     {CAST_ME, LOCK_TAKE, "lock", 0},
     0,
     0},
    {"lock: stood in line for",
     {{1, LOCK_TAKE, "lock", 0}, {2, LOCK_TAKE, "lock", 0}},
     {CAST_ME, LOCK_TAKE, "lock", 0},
     0,
     0},
    {"lock: handed over",
     {{CAST_ME, LOCK_TAKE, "lock", 0},
      {CAST_SLOT, LOCK_TAKE, "lock", 0},
      {2, LOCK_TAKE, "lock", 0}},
     {CAST_ME, LOCK_GIVE, "lock", 0},
     0,
     0},
    {"lock: taken from a dead one",
     {{CAST_SLOT, LOCK_TAKE, "lock", 0}},
     {CAST_ME, LOCK_TAKE, "lock", 0},
     CAST_DEAD,
     0},
    {"lock: taken after a dead one",
     {{1, LOCK_TAKE, "lock", 0}, {1, CAST_BURY, "", 0}},
     {CAST_ME, LOCK_TAKE, "lock", 0},
     0,
     0},
    {"rlock: given up by one who had it twice",
     {{CAST_ME, RLOCK_TAKE, "rlock", 0},
      {CAST_ME, RLOCK_TAKE, "rlock", 0},
      {1, RLOCK_TAKE, "rlock", 0}},
     {CAST_ME, RLOCK_GIVE, "rlock", 0},
     0,
     0},
    {"sem: made", {{0}}, {CAST_ME, SEM_CREATE, "sem", 3}, 0, 0},
    {"sem: taken", {{1, SEM_CREATE, "sem", 3}}, {CAST_ME, SEM_TAKE, "sem", 2}, 0, 3},
    {"sem: more taken",
     {{1, SEM_CREATE, "sem", 3}, {CAST_ME, SEM_TAKE, "sem", 1}},
     {CAST_ME, SEM_TAKE, "sem", 2},
     0,
     3},
    {"sem: stood in line for",
     {{1, SEM_CREATE, "sem", 1}, {1, SEM_TAKE, "sem", 1}, {2, SEM_TAKE, "sem", 1}},
     {CAST_ME, SEM_TAKE, "sem", 1},
     0,
     1},
    {"sem: given back by its holder, handed over",
     {{CAST_ME, SEM_CREATE, "sem", 2},
      {CAST_ME, SEM_TAKE, "sem", 2},
      {1, SEM_TAKE, "sem", 1},
      {CAST_SLOT, SEM_TAKE, "sem", 1},
      {2, SEM_TAKE, "sem", 1}},
     {CAST_ME, SEM_GIVE, "sem", 2},
     0,
     2},
    {"sem: some of it given back",
     {{CAST_ME, SEM_CREATE_BOUNDED, "sem", 2}, {CAST_ME, SEM_TAKE, "sem", 2}},
     {CAST_ME, SEM_GIVE, "sem", 1},
     0,
     2},
    {"sem: given by one who has none",
     {{1, SEM_CREATE, "sem", 1},
      {1, SEM_TAKE, "sem", 1},
      {2, SEM_TAKE, "sem", 2},
      {CAST_SLOT, SEM_TAKE, "sem", 1}},
     {CAST_ME, SEM_GIVE, "sem", 3},
     0,
     0},
    {"sem: its time over, the next one goes on",
     {{1, SEM_CREATE, "sem", 1}, {CAST_ME, SEM_TAKE, "sem", 2}, {CAST_SLOT, SEM_TAKE, "sem", 1}},
     {CAST_ME, GIVE_UP, "", 0},
     0,
     1},
    {"sem: come for",
     {{1, SEM_CREATE, "sem", 1},
      {1, SEM_TAKE, "sem", 1},
      {CAST_ME, SEM_TAKE, "sem", 1},
      {1, SEM_GIVE, "sem", 1}},
     {CAST_ME, POLL, "", 0},
     0,
     1},
    {"sem: taken from a dead holder",
     {{CAST_SLOT, SEM_CREATE, "sem", 2}, {CAST_SLOT, SEM_TAKE, "sem", 2}},
     {CAST_ME, SEM_TAKE, "sem", 1},
     CAST_DEAD,
     2},
    {"sem: deleted",
     {{1, SEM_CREATE, "sem", 1}, {1, SEM_TAKE, "sem", 1}, {CAST_SLOT, SEM_TAKE, "sem", 1}},
     {CAST_ME, DELETE, "sem", 0},
     0,
     0},
    {"sem: renamed",
     {{1, SEM_CREATE, "sem", 1}, {1, SEM_TAKE, "sem", 1}, {CAST_SLOT, SEM_TAKE, "sem", 1}},
     {CAST_ME, RENAME, "sem", 0},
     0,
     0},
    {"event: set, made by that", {{0}}, {CAST_ME, EVENT_SET, "event", 0}, 0, 0},
    {"event: set for those who wait",
     {{1, EVENT_WAIT, "event", 0},
      {CAST_SLOT, EVENT_WAIT, "event", 0},
      {2, EVENT_WAIT, "event", 0},
      {3, EVENT_WAIT, "event", 0}},
     {CAST_ME, EVENT_SET, "event", 0},
     0,
     0},
    {"event: cleared", {{1, EVENT_SET, "event", 0}}, {CAST_ME, EVENT_CLEAR, "event", 0}, 0, 0},
    {"event: waited for", {{1, EVENT_WAIT, "event", 0}}, {CAST_ME, EVENT_WAIT, "event", 0}, 0, 0},
    {"event: its time over",
     {{1, EVENT_WAIT, "event", 0}, {CAST_ME, EVENT_WAIT, "event", 0}, {2, EVENT_WAIT, "event", 0}},
     {CAST_ME, GIVE_UP, "", 0},
     0,
     0},
    {"event: come for",
     {{CAST_ME, EVENT_WAIT, "event", 0}, {1, EVENT_SET, "event", 0}},
     {CAST_ME, POLL, "", 0},
     0,
     0},
    {"cond: waited for, the lock free",
     {{CAST_ME, LOCK_TAKE, "lock", 0}},
     {CAST_ME, COND_WAIT, "cond", 0},
     0,
     0},
    {"cond: notified, one",
     {{1, LOCK_TAKE, "lock", 0},
      {1, COND_WAIT, "cond", 0},
      {2, LOCK_TAKE, "lock", 0},
      {2, COND_WAIT, "cond", 0},
      {CAST_SLOT, LOCK_TAKE, "lock", 0}},
     {CAST_ME, COND_NOTIFY, "cond", 1},
     0,
     0},
    {"cond: notified, all",
     {{1, LOCK_TAKE, "lock", 0},
      {1, COND_WAIT, "cond", 0},
      {2, LOCK_TAKE, "lock", 0},
      {2, COND_WAIT, "cond", 0},
      {CAST_SLOT, LOCK_TAKE, "lock", 0},
      {CAST_SLOT, COND_WAIT, "cond", 0}},
     {CAST_ME, COND_NOTIFY, "cond", -1},
     0,
     0},
    {"cond: come for, into the lock's line",
     {{CAST_ME, RLOCK_TAKE, "rlock", 0},
      {CAST_ME, RLOCK_TAKE, "rlock", 0},
      {CAST_ME, COND_WAIT_RLOCK, "cond", 0},
      {1, RLOCK_TAKE, "rlock", 0},
      {CAST_SLOT, RLOCK_TAKE, "rlock", 0},
      {1, COND_NOTIFY, "cond", 1}},
     {CAST_ME, POLL, "", 0},
     0,
     0},
    {"cond: its time over, into the lock's line",
     {{CAST_ME, LOCK_TAKE, "lock", 0}, {CAST_ME, COND_WAIT, "cond", 0}, {1, LOCK_TAKE, "lock", 0}},
     {CAST_ME, GIVE_UP, "", 0},
     0,
     0},
    {"cond: a lock given to one whose time was over",
     {{1, LOCK_TAKE, "lock", 0},
      {1, COND_WAIT, "cond", 0},
      {CAST_ME, LOCK_TAKE, "lock", 0},
      {1, GIVE_UP, "", 0}},
     {CAST_ME, LOCK_GIVE, "lock", 0},
     0,
     0},
    {"cond: deleted",
     {{1, LOCK_TAKE, "lock", 0}, {1, COND_WAIT, "cond", 0}},
     {CAST_ME, DELETE, "cond", 0},
     0,
     0},
    {"barrier: made", {{0}}, {CAST_ME, BARRIER_CREATE, "bar", 3}, 0, 0},
    {"barrier: waited at",
     {{1, BARRIER_CREATE, "bar", 3}, {1, BARRIER_WAIT, "bar", 0}},
     {CAST_ME, BARRIER_WAIT, "bar", 0},
     0,
     0},
    {"barrier: the last one comes",
     {{1, BARRIER_CREATE, "bar", 4},
      {1, BARRIER_WAIT, "bar", 0},
      {CAST_SLOT, BARRIER_WAIT, "bar", 0},
      {2, BARRIER_WAIT, "bar", 0}},
     {CAST_ME, BARRIER_WAIT, "bar", 0},
     0,
     0},
    {"barrier: reset",
     {{1, BARRIER_CREATE, "bar", 4},
      {1, BARRIER_WAIT, "bar", 0},
      {CAST_SLOT, BARRIER_WAIT, "bar", 0}},
     {CAST_ME, BARRIER_RESET, "bar", 0},
     0,
     0},
    {"barrier: aborted",
     {{1, BARRIER_CREATE, "bar", 4},
      {1, BARRIER_WAIT, "bar", 0},
      {CAST_SLOT, BARRIER_WAIT, "bar", 0}},
     {CAST_ME, BARRIER_ABORT, "bar", 0},
     0,
     0},
    {"barrier: its time over",
     {{1, BARRIER_CREATE, "bar", 4},
      {1, BARRIER_WAIT, "bar", 0},
      {CAST_ME, BARRIER_WAIT, "bar", 0}},
     {CAST_ME, GIVE_UP, "", 0},
     0,
     0},
    {"barrier: the last one meets a dead one",
     {{1, BARRIER_CREATE, "bar", 3},
      {1, BARRIER_WAIT, "bar", 0},
      {CAST_SLOT, BARRIER_WAIT, "bar", 0}},
     {CAST_ME, BARRIER_WAIT, "bar", 0},
     CAST_DEAD,
     0},
    {"end: of a connection that holds and waits",
     {{1, SEM_CREATE, "sem", 3},
      {1, SEM_TAKE, "sem", 2},
      {1, LOCK_TAKE, "lock", 0},
      {2, SEM_TAKE, "sem", 2},
      {3, LOCK_TAKE, "lock", 0},
      {CAST_SLOT, SEM_TAKE, "sem", 1},
      {1, SEM_TAKE, "sem", 1}},
     {1, CAST_BURY, "", 0},
     CAST_AGAIN,
     3},
    {"end: of a slot that holds a lock with conditions",
     {{1, LOCK_TAKE, "lock", 0},
      {1, COND_WAIT, "cond", 0},
      {2, LOCK_TAKE, "lock", 0},
      {2, COND_WAIT, "cond", 0},
      {CAST_SLOT, LOCK_TAKE, "lock", 0},
      {3, LOCK_TAKE, "lock", 0}},
     {CAST_SLOT, CAST_BURY, "", 0},
     CAST_AGAIN | CAST_DEAD,
     0},
    {"end: of a slot at a barrier",
     {{1, BARRIER_CREATE, "bar", 3},
      {1, BARRIER_WAIT, "bar", 0},
      {CAST_SLOT, BARRIER_WAIT, "bar", 0}},
     {CAST_SLOT, CAST_BURY, "", 0},
     CAST_AGAIN | CAST_DEAD,
     0},
    {"end: of a slot with a notification that it did not come for",
     {{CAST_SLOT, LOCK_TAKE, "lock", 0},
      {CAST_SLOT, COND_WAIT, "cond", 0},
      {1, LOCK_TAKE, "lock", 0},
      {1, COND_WAIT, "cond", 0},
      {2, COND_NOTIFY, "cond", 1}},
     {CAST_SLOT, CAST_BURY, "", 0},
     CAST_AGAIN | CAST_DEAD,
     0},
};

int main(int argc, char **argv) {
    return cast_run(&kinds, cases, ARRAY_SIZE(cases), argc < 2 ? NULL : argv[1]);
}
