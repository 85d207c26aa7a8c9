/* SPDX-License-Identifier: MIT */
/* Slots, locks whose owners die or dawdle, transactions, memory, rings: the parts below the tasks.
 * Owners die for real: a child takes what it takes and leaves by SIGKILL. */
#include "lib/shm/lock.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/shm/alloc.h"
#include "lib/shm/check.h"
#include "lib/shm/internal.h"
#include "lib/shm/ring.h"
#include "lib/shm/slot.h"
#include "tests/support/child.h"
#include "tests/support/pattern.h"

TestSuite(shm_lock, .timeout = 30, .fini = child_kill_all);

static struct shm new_segment(uint64_t size) {
    struct shm s;
    uint32_t slot, gen;
    cr_assert_eq(shm_create(&s, &(struct shm_params){.size = size, .slots = 6, .tasks = 64}), 0);
    cr_assert_eq(slot_reserve(&s, 0, &slot, &gen), 0);
    cr_assert_eq(slot_attach(&s, slot, gen), 0);
    return s;
}

static struct shm_report checked(struct shm *s) {
    struct shm_report r;
    cr_assert_eq(shm_check(s, &r), 0);
    cr_assert_eq(r.errors, 0, "%s", r.first);
    return r;
}

/* Words of the segment that nothing else uses here: owners of blocks that check() knows. */
static _Atomic uint64_t *owner_at(struct shm *s, unsigned i) {
    s->tasks[i / 4].state = 1; /* being built */
    _Atomic uint64_t *const four[] = {&s->tasks[i / 4].input_off, &s->tasks[i / 4].output_off,
                                      &s->tasks[i / 4].log_off, &s->tasks[i / 4].spare_off};
    return four[i % 4];
}

/* ---- slots ---- */

Test(shm_lock, slots_are_given_out_until_none_is_left) {
    struct shm s = new_segment(1 << 20), other;
    uint32_t slot, gen;
    struct slot_view v;
    for (uint32_t i = 1; i < 6; i++) {
        cr_assert_eq(slot_reserve(&s, i, &slot, &gen), 0);
        cr_expect_eq(slot, i);
        slot_view(&s, slot, &v);
        cr_expect(v.state == SLOT_STARTING && v.pool == i && v.gen == gen && v.pid == 0);
    }
    cr_expect_eq(slot_reserve(&s, 0, &slot, &gen), -ENOSPC);
    slot_view(&s, 3, &v);
    cr_assert_eq(shm_attach(&other, s.fd), 0);
    cr_expect_eq(slot_attach(&other, 3, v.gen + 1), -ESTALE);
    cr_expect_eq(slot_attach(&other, 6, 1), -ESTALE);
    cr_expect_eq(slot_attach(&other, 0, 1), -ESTALE, "it is taken");
    cr_expect_eq(slot_attach(&other, 3, v.gen), 0);
    cr_expect_not(slot_is_dead(&s, other.me));
    slot_release(&s, 2, v.gen + 7);
    slot_view(&s, 2, &v);
    cr_expect_eq(v.state, SLOT_STARTING, "of another generation");
    slot_release(&s, 2, v.gen);
    cr_assert_eq(slot_reserve(&s, 0, &slot, &gen), 0);
    cr_expect(slot == 2 && gen == v.gen + 1);
    cr_expect(slot_is_dead(&s, owner_word(2, v.gen)) && !slot_is_dead(&s, owner_word(2, gen)));
    cr_expect(slot_is_dead(&s, 0) && slot_is_dead(&s, 0xffff) && slot_is_dead(&s, UINT32_MAX));
    shm_detach(&other);
    shm_detach(&s);
}

Test(shm_lock, the_supervisor_hears_of_states_and_commands_the_owner) {
    struct shm s = new_segment(1 << 20);
    struct slot_view v;
    uint32_t news = shm_news(&s);
    slot_set_state(&s, SLOT_WARM);
    cr_expect_neq(shm_news(&s), news);
    news = shm_news(&s);
    cr_expect_eq(slot_told(&s), SLOT_STAY);
    slot_command(&s, s.slot, SLOT_GO);
    cr_expect_eq(slot_told(&s), SLOT_GO);
    slot_wait_command(&s, SLOT_STAY); /* returns at once */
    slot_set_ending(&s, ENDING_TASKS);
    cr_expect_neq(shm_news(&s), news);
    news = shm_news(&s);
    slot_set_ending(&s, ENDING_TASKS);
    cr_expect_eq(shm_news(&s), news, "said once");
    slot_set_child(&s, 4711);
    slot_view(&s, s.slot, &v);
    cr_expect(v.state == SLOT_WARM && v.command == SLOT_GO && v.ending == 1 && v.child == 4711);
    cr_expect_eq(v.pid, (uint32_t)getpid());
    shm_detach(&s);
}

/* ---- locks ---- */

struct holder {
    struct shm *s;
    uint32_t slot, gen;
    unsigned at; /* the lock of this arena */
    bool changes;
};

/* Takes a lock, changes what it protects without committing, and waits to be killed. */
static int hold(void *arg) {
    struct holder *h = arg;
    struct shm s;
    if (shm_attach(&s, h->s->fd) || slot_attach(&s, h->slot, h->gen) ||
        lock_take(&s, &s.arenas[h->at].lock)) {
        return 1;
    }
    if (h->changes) {
        tx_set(&s, &s.tasks[60].input_off, 4712);
        tx_set32(&s, &s.arenas[h->at].partial[3], 99);
        tx_set(&s, &s.tasks[60].input_off, 4713);
    }
    slot_set_state(&s, SLOT_WARM);
    pause();
    return 2;
}

static pid_t start_holder(struct shm *s, struct holder *h, unsigned at, bool changes) {
    *h = (struct holder){.s = s, .at = at, .changes = changes};
    cr_assert_eq(slot_reserve(s, 0, &h->slot, &h->gen), 0);
    pid_t pid = child_start(hold, h);
    cr_assert_gt(pid, 0);
    struct slot_view v;
    do {
        sched_yield();
        slot_view(s, h->slot, &v);
        cr_assert(child_wait_ms(pid, 0) == -ETIMEDOUT, "the holder ended");
    } while (v.state != SLOT_WARM);
    return pid;
}

Test(shm_lock, a_live_owner_is_waited_for_only_so_long) {
    struct shm s = new_segment(1 << 20);
    struct holder h;
    pid_t pid = start_holder(&s, &h, 2, false);
    struct shm_lock *lock = &s.arenas[2].lock;
    cr_expect_eq(lock_try(&s, lock), -EAGAIN);
    s.patience_ns = 0;
    cr_expect_eq(lock_take(&s, lock), -EAGAIN);
    s.patience_ns = 30 * NS_PER_MS;
    uint64_t begun = clock_now();
    cr_expect_eq(lock_take(&s, lock), -EAGAIN);
    uint64_t took = clock_now() - begun;
    cr_expect_geq(took, 30 * NS_PER_MS);
    cr_expect_lt(took, 5 * NS_PER_SEC);
    /* an allocation goes to another arena rather than wait for this one */
    s.slot = 2;
    cr_expect_eq(alloc_give(&s, owner_at(&s, 0), 100), 0);
    s.patience_ns = 0;
    cr_expect_eq(alloc_give(&s, owner_at(&s, 1), 100), 0);
    s.slot = 0;
    child_kill(pid);
    cr_expect_eq(lock_take(&s, lock), 0, "now it is dead");
    lock_drop(&s, lock);
    checked(&s);
    shm_detach(&s);
}

Test(shm_lock, what_the_dead_left_half_made_is_undone) {
    struct shm s = new_segment(1 << 20);
    struct holder h;
    s.tasks[60].input_off = 17;
    uint32_t class3 = s.arenas[1].partial[3], class2 = s.arenas[1].partial[2];
    pid_t pid = start_holder(&s, &h, 1, true);
    cr_expect_eq(s.tasks[60].input_off, 4713);
    cr_expect_eq(s.arenas[1].partial[3], 99);
    child_kill(pid);
    cr_expect(slot_is_dead(&s, owner_word(h.slot, h.gen)));
    cr_expect_eq(lock_take(&s, &s.arenas[1].lock), 0);
    cr_expect_eq(s.tasks[60].input_off, 17);
    cr_expect_eq(s.arenas[1].partial[3], class3);
    cr_expect_eq(s.arenas[1].partial[2], class2);
    lock_drop(&s, &s.arenas[1].lock);
    cr_expect_eq(slot_bury(&s, h.slot, h.gen), 0);
    cr_expect_eq(slot_bury(&s, h.slot, h.gen), 0);
    s.tasks[60].input_off = 0;
    checked(&s);
    shm_detach(&s);
}

Test(shm_lock, burying_undoes_too_unless_somebody_is_at_it) {
    struct shm s = new_segment(1 << 20);
    struct holder h, other;
    s.tasks[60].input_off = 17;
    child_kill(start_holder(&s, &h, 1, true));
    pid_t alive = start_holder(&s, &other, 3, false);
    atomic_store(&s.slots[h.slot].rescue.word, owner_word(other.slot, other.gen));
    cr_expect_eq(slot_bury(&s, h.slot, h.gen), -EAGAIN);
    cr_expect_eq(lock_try(&s, &s.arenas[1].lock), -EAGAIN);
    cr_expect_eq(s.tasks[60].input_off, 4713);
    child_kill(alive); /* the rescuer dies: it is replaced */
    cr_expect_eq(slot_bury(&s, h.slot, h.gen), 0);
    cr_expect_eq(s.tasks[60].input_off, 17);
    slot_release(&s, h.slot, h.gen);
    shm_detach(&s);
}

/* A rescuer that looked at the dead owner and was then slow must not meet the next owner's log. */
Test(shm_lock, a_slot_is_not_given_out_while_a_rescuer_is_inside) {
    struct shm s = new_segment(1 << 20);
    struct holder h, other;
    uint32_t slot, gen;
    child_kill(start_holder(&s, &h, 1, false));
    pid_t alive = start_holder(&s, &other, 3, false);
    cr_assert_eq(slot_bury(&s, h.slot, h.gen), 0);
    slot_release(&s, h.slot, h.gen);
    atomic_store(&s.slots[h.slot].rescue.word, owner_word(other.slot, other.gen));
    cr_assert_eq(slot_reserve(&s, 0, &slot, &gen), 0);
    cr_expect_neq(slot, h.slot);
    atomic_store(&s.slots[h.slot].rescue.word, 0);
    cr_assert_eq(slot_reserve(&s, 0, &slot, &gen), 0);
    cr_expect_eq(slot, h.slot);
    child_kill(alive);
    shm_detach(&s);
}

struct counter {
    struct shm *s;
    uint32_t slot, gen;
    unsigned rounds;
};

static int count_up(void *arg) {
    struct counter *c = arg;
    struct shm s;
    if (shm_attach(&s, c->s->fd) || slot_attach(&s, c->slot, c->gen)) {
        return 1;
    }
    for (unsigned i = 0; i < c->rounds; i++) {
        if (lock_take(&s, &s.arenas[0].lock)) {
            return 2;
        }
        tx_set(&s, &s.tasks[60].log_off, get(&s.tasks[60].log_off) + 1);
        tx_set(&s, &s.tasks[60].spare_off, get(&s.tasks[60].spare_off) + 1);
        if (i % 3) {
            tx_commit(&s);
        } else {
            tx_abort(&s);
        }
        lock_drop(&s, &s.arenas[0].lock);
    }
    shm_detach(&s);
    return 0;
}

Test(shm_lock, processes_exclude_each_other) {
    enum { N = 3, ROUNDS = 30000 };
    struct shm s = new_segment(1 << 20);
    struct counter c[N];
    pid_t pid[N];
    for (int i = 0; i < N; i++) {
        c[i] = (struct counter){.s = &s, .rounds = ROUNDS};
        cr_assert_eq(slot_reserve(&s, 0, &c[i].slot, &c[i].gen), 0);
        pid[i] = child_start(count_up, &c[i]);
    }
    for (int i = 0; i < N; i++) {
        cr_expect_eq(child_wait(pid[i]), 0);
    }
    cr_expect_eq(s.tasks[60].log_off, N * ROUNDS / 3 * 2);
    cr_expect_eq(s.tasks[60].spare_off, N * ROUNDS / 3 * 2);
    shm_detach(&s);
}

Test(shm_lock, an_abort_puts_every_word_back) {
    struct shm s = new_segment(1 << 20);
    cr_assert_eq(lock_take(&s, &s.arenas[0].lock), 0);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < SHM_UNDO; i++) {
            tx_set(&s, &s.tasks[i % 16].log_off, (uint64_t)i + 5);
        }
        tx_abort(&s);
        for (int i = 0; i < 16; i++) {
            cr_expect_eq(s.tasks[i].log_off, 0);
        }
    }
    lock_drop(&s, &s.arenas[0].lock);
    shm_detach(&s);
}

/* ---- memory ---- */

Test(shm_lock, blocks_of_every_size_up_to_the_largest) {
    struct shm s = new_segment(UINT64_C(200) << 20);
    for (uint64_t size = 1; size <= ALLOC_MAX; size += size < 20000 ? 37 : size / 7) {
        _Atomic uint64_t *o = owner_at(&s, (unsigned)(size % 40));
        cr_assert_eq(alloc_give(&s, o, size), 0, "%llu", (unsigned long long)size);
        uint64_t off = get(o);
        cr_expect_eq(off % 16, 0);
        cr_expect_geq(alloc_size(&s, off), size);
        cr_expect(size < 100 || alloc_size(&s, off) <= size + size / 2 + SHM_CHUNK / 2);
        char *p = alloc_ptr(&s, off, size);
        cr_assert_not_null(p);
        p[0] = p[size - 1] = 1;
        cr_expect_null(alloc_ptr(&s, off, alloc_size(&s, off) + 1));
        cr_expect_null(alloc_ptr(&s, off + 16, UINT64_MAX));
        cr_assert_eq(alloc_take_back(&s, o), 0);
        cr_expect_eq(get(o), 0);
    }
    cr_expect_eq(alloc_give(&s, owner_at(&s, 0), ALLOC_MAX), 0);
    checked(&s);
    cr_expect_eq(alloc_give(&s, owner_at(&s, 1), ALLOC_MAX + 1), -EMSGSIZE);
    cr_expect_eq(alloc_take_back(&s, owner_at(&s, 0)), 0);
    cr_expect_eq(alloc_take_back(&s, owner_at(&s, 0)), 0, "there is none");
    cr_expect_eq(checked(&s).blocks, 0);
    shm_detach(&s);
}

Test(shm_lock, memory_is_used_up_and_all_comes_back) {
    struct shm s = new_segment(2 << 20);
    struct shm_usage fresh, u;
    static const uint64_t sizes[] = {40000, 8192, 3000, 48};
    shm_usage(&s, &fresh);
    for (unsigned round = 0; round < 4; round++) {
        unsigned n = 0;
        uint64_t size = sizes[round];
        while (n < 256 && alloc_give(&s, owner_at(&s, n), size) == 0) {
            pattern_fill(alloc_ptr(&s, get(owner_at(&s, n)), size), 0, size, n);
            n++;
        }
        struct shm_report before = checked(&s), after;
        cr_expect_eq(before.blocks, n);
        if (n < 256) {
            cr_expect_eq(alloc_give(&s, owner_at(&s, n), size), -ENOMEM);
            after = checked(&s);
            cr_expect_eq(memcmp(&before, &after, sizeof(before)), 0);
        }
        for (unsigned i = 0; i < n; i++) {
            unsigned k = i % 2 ? n - 1 - i / 2 : i / 2; /* from both ends */
            cr_expect(pattern_is(alloc_ptr(&s, get(owner_at(&s, k)), size), size, k));
            cr_assert_eq(alloc_take_back(&s, owner_at(&s, k)), 0);
        }
        cr_expect_eq(checked(&s).blocks, 0);
        shm_usage(&s, &u);
        cr_expect_leq(fresh.chunks_free - u.chunks_free, round + 1,
                      "a chunk per class may stay behind");
    }
    shm_detach(&s);
}

Test(shm_lock, a_random_walk_of_blocks_stays_in_order) {
    struct shm s = new_segment(3 << 20);
    enum { OWNERS = 200 };
    uint64_t random = 7, len[OWNERS] = {0};
    for (int i = 0; i < 20000; i++) {
        unsigned k = (unsigned)(pattern_random(&random) % OWNERS), j = (k + 1) % OWNERS;
        _Atomic uint64_t *o = owner_at(&s, k);
        s.slot = (uint32_t)(random >> 20) % 6; /* the arena follows from it */
        if (get(o)) {
            cr_assert(pattern_is(alloc_ptr(&s, get(o), len[k]), len[k], k));
            cr_assert_eq(alloc_take_back(&s, o), 0);
            continue;
        }
        len[k] = (random >> 32) % (random % 8 ? 500 : 50000) + 1;
        int r = alloc_give(&s, o, len[k]);
        cr_assert(r == 0 || r == -ENOMEM);
        if (r == 0) {
            pattern_fill(alloc_ptr(&s, get(o), len[k]), 0, len[k], k);
        } else if (get(owner_at(&s, j))) {
            cr_assert_eq(alloc_swap(&s, o, owner_at(&s, j)), 0);
            cr_assert_eq(alloc_swap(&s, o, owner_at(&s, j)), 0);
        }
        if (i % 500 == 0) {
            checked(&s);
        }
    }
    for (unsigned k = 0; k < OWNERS; k++) {
        cr_assert_eq(alloc_take_back(&s, owner_at(&s, k)), 0);
    }
    cr_expect_eq(checked(&s).blocks, 0);
    s.slot = 0;
    shm_detach(&s);
}

Test(shm_lock, an_owner_that_names_no_block_is_cleared) {
    struct shm s = new_segment(2 << 20);
    _Atomic uint64_t *small = owner_at(&s, 0), *run = owner_at(&s, 1), *bad = owner_at(&s, 2);
    cr_assert_eq(alloc_give(&s, small, 100), 0);
    cr_assert_eq(alloc_give(&s, run, 50000), 0);
    uint64_t wrong[] = {1,
                        8,
                        s.data_off - 16,
                        get(small) + 16,
                        get(small) + 112 * 20, /* never used yet */
                        get(run) + 16,
                        get(run) + SHM_CHUNK,
                        s.data_off + (uint64_t)(s.n_chunks - 1) * SHM_CHUNK,
                        s.size - 8,
                        s.size,
                        UINT64_MAX};
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        put(bad, wrong[i]);
        cr_expect_eq(alloc_take_back(&s, bad), -EBADMSG, "case %zu", i);
        cr_expect_eq(get(bad), 0);
        cr_expect_eq(checked(&s).blocks, 2, "case %zu", i);
    }
    shm_detach(&s);
}

/* ---- rings ---- */

Test(shm_lock, a_ring_is_full_and_empty_at_the_right_places) {
    struct shm s = new_segment(1 << 20);
    struct shm_ring ring;
    _Atomic uint64_t hand = 0;
    uint32_t got;
    cr_assert_eq(alloc_give(&s, owner_at(&s, 0), 64), 0);
    memset(s.base + get(owner_at(&s, 0)), 0, 64);
    ring_init(&ring, get(owner_at(&s, 0)), 8);
    for (uint32_t round = 0; round < 50; round++) {
        uint32_t n = round % 9;
        cr_assert(ring_is_empty(&s, &ring));
        cr_expect_eq(ring_take(&s, &ring, &hand, &got), -EAGAIN);
        for (uint32_t i = 0; i < n; i++) {
            cr_assert_eq(ring_put(&s, &ring, round * 100 + i), 0);
        }
        cr_expect_eq(ring_length(&ring), n);
        if (n == 8) {
            cr_expect_eq(ring_put(&s, &ring, 1), -ENOBUFS);
            cr_expect_eq(ring_length(&ring), 8);
        }
        for (uint32_t i = 0; i < n; i++) {
            cr_assert_eq(ring_take(&s, &ring, &hand, &got), 0);
            cr_expect(got == round * 100 + i && hand == (uint64_t)got + 1);
        }
    }
    /* killed between the entry and the tail: the next one goes on */
    cr_assert_eq(ring_put(&s, &ring, 5), 0);
    atomic_fetch_sub(&ring.tail, 1);
    cr_expect_not(ring_is_empty(&s, &ring));
    cr_assert_eq(ring_put(&s, &ring, 6), 0);
    cr_assert(ring_take(&s, &ring, &hand, &got) == 0 && got == 5);
    cr_assert(ring_take(&s, &ring, &hand, &got) == 0 && got == 6);
    /* killed so, and everything taken before anybody helped */
    cr_assert_eq(ring_put(&s, &ring, 7), 0);
    atomic_fetch_sub(&ring.tail, 1);
    cr_assert(ring_take(&s, &ring, &hand, &got) == 0 && got == 7);
    cr_expect_eq(ring_length(&ring), 0);
    for (uint32_t i = 0; i < 8; i++) {
        cr_assert_eq(ring_put(&s, &ring, i), 0);
    }
    cr_expect_eq(ring_put(&s, &ring, 8), -ENOBUFS);
    shm_detach(&s);
}

Test(shm_lock, a_damaged_ring_is_refused) {
    struct shm s = new_segment(1 << 20);
    _Atomic uint64_t hand = 0;
    uint32_t got;
    static const struct {
        uint64_t off, capacity;
    } bad[] = {{4096, 0},       {4096, 3},       {4097, 8},           {1 << 20, 8},
               {UINT64_MAX, 8}, {4096, 1 << 20}, {(1 << 20) - 56, 8}, {4096, UINT64_C(1) << 63}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct shm_ring ring;
        ring_init(&ring, bad[i].off, bad[i].capacity);
        cr_expect_eq(ring_put(&s, &ring, 1), -EBADMSG, "case %zu", i);
        cr_expect_eq(ring_take(&s, &ring, &hand, &got), -EBADMSG, "case %zu", i);
        cr_expect(ring_is_empty(&s, &ring));
    }
    struct shm_ring ring;
    cr_assert_eq(alloc_give(&s, owner_at(&s, 0), 64), 0);
    _Atomic uint64_t *entries = alloc_ptr(&s, get(owner_at(&s, 0)), 64);
    for (int i = 0; i < 8; i++) {
        put(&entries[i], UINT64_C(77) << 32);
    }
    ring_init(&ring, get(owner_at(&s, 0)), 8);
    cr_expect_eq(ring_put(&s, &ring, 1), -EBADMSG);
    cr_expect_eq(ring_take(&s, &ring, &hand, &got), -EBADMSG);
    shm_detach(&s);
}
