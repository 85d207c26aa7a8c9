/* SPDX-License-Identifier: MIT */
/* The life of a task in the segment (the picture is above struct shm_task in layout.h).
 *
 * The state word is the only authority; each transition is one compare-and-swap by the one who is
 * entitled to it. The rings and the free map only hint where to look, so losing or doubling a hint
 * is harmless as long as somebody makes it again: whoever touches a record first writes its index
 * into the `hand` word of its own slot, and after a death the reaper looks at that one record. So
 * nothing here blocks on anybody, and nothing must be scanned after a death.
 *
 * The free map is one bit per record; setting a bit twice is the same as once, so a free record
 * cannot be lost or given out twice: the bit is a hint, FREE -> BUILDING decides. Lowest records
 * first, which keeps the touched pages few.
 *
 * A pool has two rings. Plain tasks go to `ready` and are claimed in order of submission. What has an
 * order of its own, or a time, the daemon holds (WAITING) and releases to `front`, which workers look
 * at first, few at a time; it takes them back (recall) when a better one has come. A worker knows of
 * that only one word: while `refill` is set it rings the daemon at each claim, and takes from `ready` only what comes
 * before all that is held.
 *
 * A claim is counted in the slot (claims, bytes): the value it will have is written before the
 * claim, so the reaper can complete the count, and "queued = submitted - claimed" stays exact
 * whoever dies.
 *
 * Fails: -ENOMEM, -ENOBUFS, -EMSGSIZE, -EAGAIN, -ESTALE, -ENOENT, -EBADMSG as task.h says. What is
 * read from a record is checked against the bounds of its block, since any process with the segment
 * may have written it. */
#include "lib/shm/task.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/shm/alloc.h"
#include "lib/shm/internal.h"
#include "lib/shm/lock.h"
#include "lib/shm/ring.h"
#include "lib/shm/slot.h"
#include "lib/shm/spin.h"
#include "lib/shm/task_private.h"

/* ---- records ---- */

static void record_hint_free(struct shm *s, uint32_t idx) {
    atomic_fetch_or(&s->free_map[idx / 64], UINT64_C(1) << (idx % 64));
    if (idx / 64 < get(&s->head->free_hint)) {
        put(&s->head->free_hint, idx / 64);
    }
}

/* Before record idx is used. */
static void note_used(struct shm *s, uint32_t idx) {
    uint64_t used = get(&s->head->tasks_used);
    while (idx >= used &&
           !atomic_compare_exchange_weak(&s->head->tasks_used, &used, (uint64_t)idx + 1)) {
    }
}

/* Tries to make record idx ours. */
static bool record_build(struct shm *s, uint32_t idx, uint64_t *ret_word) {
    struct shm_task *t = &s->tasks[idx];
    note_used(s, idx);
    uint64_t v = state_load(t);
    uint64_t w = word_make(TASK_BUILDING, 0, s->me, word_gen(v) + 1);
    if (word_state(v) != TASK_FREE || !state_move(t, v, w)) {
        return false;
    }
    *ret_word = w;
    return true;
}

static int record_take(struct shm *s, uint32_t *ret_idx, uint64_t *ret_word) {
    uint64_t words = ((uint64_t)s->n_tasks + 63) / 64;
    uint64_t begin = get(&s->head->free_hint);
    if (begin >= words) {
        begin = 0;
    }
    for (uint64_t i = 0; i < words; i++) {
        uint64_t w = begin + i < words ? begin + i : begin + i - words;
        for (uint64_t bits = get(&s->free_map[w]); bits; bits = get(&s->free_map[w])) {
            uint64_t bit = bits & -bits;
            uint32_t idx = (uint32_t)(w * 64 + (uint64_t)__builtin_ctzll(bits));
            if (idx >= s->n_tasks) {
                break;
            }
            hand_set(s, idx);
            if (!(atomic_fetch_and(&s->free_map[w], ~bit) & bit)) {
                continue;
            }
            if (record_build(s, idx, ret_word)) {
                if (w != begin) {
                    put(&s->head->free_hint, w);
                }
                *ret_idx = idx;
                return 0;
            }
        }
    }
    hand_clear(s);
    return -ENOMEM;
}

/* Gives all blocks of a record that nobody else touches back, then the record. -EAGAIN: go on
 * later. */
static int record_clear(struct shm *s, uint32_t idx, uint64_t word) {
    struct shm_task *t = &s->tasks[idx];
    _Atomic uint64_t *const owners[] = {&t->input_off, &t->output_off, &t->log_off, &t->spare_off,
                                        &t->stream_off};
    for (size_t i = 0; i < ARRAY_SIZE(owners); i++) {
        if (get(owners[i]) && alloc_take_back(s, owners[i]) == -EAGAIN) {
            return -EAGAIN;
        }
    }
    atomic_store(&t->state, word_to(word, TASK_FREE, 0));
    record_hint_free(s, idx);
    return 0;
}

/* ---- submitter ---- */

static void write_input(char *out, const struct task_spec *spec) {
    if (spec->payload.len) {
        memcpy(out, spec->payload.data, spec->payload.len);
    }
    out += spec->payload.len;
    for (uint32_t i = 0; i < spec->nargs; i++) {
        uint32_t len = (uint32_t)spec->args[i].len;
        memcpy(out, &len, sizeof(len));
        if (len) {
            memcpy(out + sizeof(len), spec->args[i].data, len);
        }
        out[sizeof(len) + len] = '\0';
        out += sizeof(len) + len + 1;
    }
    if (spec->policy.len) {
        memcpy(out, spec->policy.data, spec->policy.len);
    }
}

/* Payload, arguments and policy together; over ALLOC_MAX when they do not fit. */
static uint64_t input_size(const struct task_spec *spec) {
    uint64_t n = spec->payload.len + spec->policy.len;
    for (uint32_t i = 0; i < spec->nargs && n <= ALLOC_MAX; i++) {
        n += sizeof(uint32_t) + spec->args[i].len + 1;
    }
    return n;
}

static int fill_record(struct shm *s, struct shm_task *t, const struct task_spec *spec,
                       uint64_t size) {
    char *in = (char *)t->in;
    if (size > SHM_INLINE_IN) {
        int r = alloc_give(s, &t->input_off, size);
        if (r) {
            return r;
        }
        in = alloc_ptr(s, get(&t->input_off), size);
        if (!in) {
            return -EBADMSG; /* somebody has written to the record or the chunk meanwhile */
        }
    }
    write_input(in, spec);
    poke(t->id, spec->id ? spec->id
                         : atomic_fetch_add_explicit(&s->head->next_id, 1, memory_order_relaxed));
    poke(t->input_len, spec->payload.len);
    poke(t->args_len, (uint32_t)(size - spec->payload.len - spec->policy.len));
    poke(t->policy_len, (uint16_t)spec->policy.len);
    poke(t->nargs, (uint16_t)spec->nargs);
    poke(t->handler, (uint16_t)spec->handler);
    poke(t->pool, (uint8_t)spec->pool);
    poke(t->priority, (uint8_t)spec->priority);
    poke(t->kills, 0);
    poke(t->output_len, 0);
    poke(t->log_len, 0);
    poke(t->code, 0);
    poke(t->started_ns, 0);
    poke(t->ended_ns, 0);
    poke(t->submitted_ns, clock_now());
    poke(t->client, spec->client);
    poke(t->uid, spec->uid);
    poke(t->timeout_ms, spec->timeout_ms);
    poke(t->worker_pid, 0);
    poke(t->cause, CAUSE_NONE);
    poke(t->signal, 0);
    poke(t->core, 0);
    put32(&t->cancel, 0);
    put32(&t->watched, spec->watched);
    poke(t->cpu_user, 0);
    poke(t->cpu_system, 0);
    poke(t->rss_kib, 0);
    return 0;
}

static bool record_take_at(struct shm *s, uint32_t idx, uint64_t *ret_word) {
    if (idx >= s->n_tasks) {
        return false;
    }
    uint64_t bit = UINT64_C(1) << (idx % 64);
    hand_set(s, idx);
    return (atomic_fetch_and(&s->free_map[idx / 64], ~bit) & bit) && record_build(s, idx, ret_word);
}

int task_submit(struct shm *s, const struct task_spec *spec, struct task_ref *ret) {
    assert(spec->pool < SHM_POOLS && spec->nargs <= UINT16_MAX && spec->policy.len <= UINT16_MAX);
    uint64_t size = input_size(spec), word = 0;
    uint32_t idx = 0;
    if (size > ALLOC_MAX) {
        return -EMSGSIZE;
    }
    bool old = spec->id && record_take_at(s, spec->idx, &word);
    int r = old ? 0 : record_take(s, &idx, &word);
    if (r) {
        return r;
    }
    idx = old ? spec->idx : idx;
    struct shm_task *t = &s->tasks[idx];
    r = fill_record(s, t, spec, size);
    if (r == 0) {
        uint64_t queued = word_to(word, spec->hold ? TASK_WAITING : TASK_QUEUED, spec->pool);
        *ret = (struct task_ref){idx, peek(t->id), queued};
        atomic_store(&t->state, queued);
        r = spec->hold ? 0 : ring_put(s, &s->pools[spec->pool].ready, idx);
        if (r == 0 || !state_move(t, queued, word)) {
            hand_clear(s); /* an old hint of this record may have led a worker to it: then it is
                              queued all right */
            return 0;
        }
    }
    if (record_clear(s, idx, word)) {
        /* the arena is busy: leave the record to the daemon's sweep, as nobody's */
        atomic_store(&t->state, word_to(word, TASK_FREEING, 0));
        atomic_store(&s->head->sweep, 1);
    }
    hand_clear(s);
    return r;
}

void task_wake(struct shm *s, uint32_t pool, uint32_t n) {
    struct shm_pool *p = &s->pools[pool];
    for (uint32_t w = 0; n && w * 64 < s->n_slots; w++) {
        /* sequentially consistent, as ring_put() was: the sleeper sets its bit, then looks */
        for (uint64_t v = atomic_load(&p->napping[w]); n && v; v &= v - 1) {
            uint64_t bit = v & -v;
            uint32_t slot = w * 64 + (uint32_t)__builtin_ctzll(v);
            if (slot < s->n_slots && (atomic_fetch_and(&p->napping[w], ~bit) & bit)) {
                atomic_fetch_add(&s->slots[slot].bell, 1);
                futex_wake(&s->slots[slot].bell, 1);
                n--;
            }
        }
    }
}

uint64_t task_ring_length(struct shm *s, uint32_t pool) {
    return ring_length(&s->pools[pool].ready);
}

/* May the head of the ready ring be taken, or does the daemon hold something that comes before it? */
static bool ready_is_open(struct shm *s, struct shm_pool *p) {
    uint32_t idx;
    if (!atomic_load(&p->refill) || ring_peek(s, &p->ready, &idx) < 0 || idx >= s->n_tasks) {
        return true;
    }
    const struct shm_task *t = &s->tasks[idx];
    return word_state(state_load(t)) != TASK_QUEUED ||
           (int64_t)peek(t->submitted_ns) < (int64_t)atomic_load(&p->until);
}

/* Tasks to be had in the pool's rings, as far as one can tell without looking at their states. */
static bool any_hint(struct shm *s, struct shm_pool *p) {
    return !get32(&p->paused) &&
           (!ring_is_empty(s, &p->front) || (!ring_is_empty(s, &p->ready) && ready_is_open(s, p)));
}

/* ---- worker ---- */

/* The daemon looks at deadlines when it has to; tell it only when this one comes before. */
static void note_deadline(struct shm *s, uint64_t at) {
    atomic_store(&s->mine->deadline_ns, at); /* before next_check_ns is looked at */
    if (at < atomic_load(&s->head->next_check_ns)) {
        atomic_fetch_add(&s->head->news, 1);
        shm_ring_daemon(s);
    }
}

static void begin_claimed(struct shm *s, struct shm_pool *p, struct shm_task *t) {
    uint64_t now = clock_now();
    put(&s->mine->claims, get(&s->mine->next_claims));
    put(&s->mine->bytes, get(&s->mine->next_bytes));
    poke(t->started_ns, now);
    poke(t->worker_pid, get32(&s->mine->pid));
    put(&s->mine->started_ns, now);
    uint32_t ms = peek(t->timeout_ms), look_ms = get32(&p->look_ms);
    if (look_ms && (!ms || look_ms < ms)) {
        ms = look_ms;
    }
    if (ms) {
        note_deadline(s, now + ms * NS_PER_MS);
    }
}

/* The task in hand, if it still is in that state. 0 or -ESTALE. */
static int claim_hand(struct shm *s, uint32_t pool, uint32_t idx, uint64_t v,
                      struct task_ref *ret) {
    struct shm_slot *me = s->mine;
    struct shm_task *t = &s->tasks[idx];
    put(&me->next_claims, get(&me->claims) + 1);
    put(&me->next_bytes, get(&me->bytes) + peek(t->input_len) + peek(t->args_len));
    keep_order();
    uint64_t w = word_make(TASK_RUNNING, word_attempt(v) + 1, s->me, word_gen(v));
    if (!state_move(t, v, w)) {
        return -ESTALE;
    }
    *ret = (struct task_ref){idx, peek(t->id), w};
    begin_claimed(s, &s->pools[pool], t);
    return 0;
}

/* The one that is for us alone. A worker that dies before it has begun it leaves it waiting, and its
 * order in the slot for the daemon to find. */
static int claim_order(struct shm *s, uint32_t pool, struct task_ref *ret) {
    uint64_t order = atomic_load(&s->mine->order);
    uint32_t idx = (uint32_t)order - 1;
    int r = -ESTALE;
    if (idx < s->n_tasks) {
        hand_set(s, idx);
        uint64_t v = state_load(&s->tasks[idx]);
        if (word_state(v) == TASK_WAITING && word_owner(v) == pool && order_make(idx, v) == order) {
            r = claim_hand(s, pool, idx, v, ret);
        }
    }
    atomic_compare_exchange_strong(&s->mine->order, &order, 0);
    return r;
}

int task_claim(struct shm *s, uint32_t pool, struct task_ref *ret) {
    struct shm_slot *me = s->mine;
    struct shm_pool *p = &s->pools[pool];
    uint32_t idx;
    slot_wait_held(s);
    if (get(&me->order) && claim_order(s, pool, ret) == 0) {
        return 0;
    }
    while (!get32(&p->paused) &&
           (ring_take(s, &p->front, &me->hand, &idx) == 0 ||
            (ready_is_open(s, p) && ring_take(s, &p->ready, &me->hand, &idx) == 0))) {
        if (idx >= s->n_tasks) {
            continue;
        }
        uint64_t v = state_load(&s->tasks[idx]);
        if (word_state(v) != TASK_QUEUED || word_owner(v) != pool) {
            continue;
        }
        if (claim_hand(s, pool, idx, v, ret) == 0) {
            if (get32(&p->refill)) {
                shm_ring_daemon(s);
            }
            return 0;
        }
    }
    hand_clear(s);
    return -EAGAIN;
}

int task_claim_ordered(struct shm *s, uint32_t pool, struct task_ref *ret) {
    slot_wait_held(s);
    if (get(&s->mine->order) && claim_order(s, pool, ret) == 0) {
        return 0;
    }
    hand_clear(s);
    return -EAGAIN;
}

static bool any_for_us(struct shm *s, struct shm_pool *p) {
    return get(&s->mine->order) != 0 || any_hint(s, p);
}

/* Polls for a while before sleeping. */
static bool spin_for_work(struct shm *s, struct shm_pool *p) {
    uint64_t now, until = spin_until(s, &s->work_spin, &now);
    if (!until) {
        return false;
    }
    do {
        if (any_for_us(s, p)) {
            spin_paid(&s->work_spin);
            return true;
        }
        if (slot_told(s) >= SLOT_EXIT) {
            return true;
        }
        now = clock_now();
    } while (yield_cpu(&s->yield, &now) && now < until);
    spin_in_vain(&s->work_spin);
    return false;
}

void task_wait(struct shm *s, uint32_t pool) {
    struct shm_pool *p = &s->pools[pool];
    if (spin_for_work(s, p)) {
        return;
    }
    uint64_t bit = UINT64_C(1) << (s->slot % 64);
    _Atomic uint64_t *napping = &p->napping[s->slot / 64];
    uint32_t bell = atomic_load(&s->mine->bell);
    atomic_fetch_or(napping, bit);
    if (!any_for_us(s, p) && slot_told(s) < SLOT_EXIT) {
        if (get32(&p->refill)) {
            shm_ring_daemon(s); /* it may believe that there is still a task to be had */
        }
        futex_wait(&s->mine->bell, bell, 3600 * NS_PER_SEC);
    }
    atomic_fetch_and(napping, ~bit);
}

int task_output(struct shm *s, const struct task_ref *ref, uint64_t used, uint64_t size,
                void **ret) {
    struct shm_task *t = &s->tasks[ref->idx];
    uint64_t off = get(&t->output_off);
    uint64_t have = off ? alloc_size(s, off) : SHM_INLINE_OUT;
    if (size > ALLOC_MAX) {
        return -EMSGSIZE;
    }
    if (used > have) {
        return -EBADMSG;
    }
    if (size > have) {
        uint64_t want = off && have * 2 > size ? have * 2 : size;
        int r = alloc_take_back(s, &t->spare_off); /* of an earlier growth, see below */
        if (r == -EAGAIN) {
            return r;
        }
        r = alloc_give(s, &t->spare_off, want < ALLOC_MAX ? want : ALLOC_MAX);
        if (r == -ENOMEM && want > size) {
            r = alloc_give(s, &t->spare_off, size);
        }
        if (r) {
            return r;
        }
        void *to = alloc_ptr(s, get(&t->spare_off), size);
        const void *from = off ? alloc_ptr(s, off, used) : t->out;
        if (!to || (used && !from)) {
            return -EBADMSG;
        }
        if (used) {
            memcpy(to, from, used);
        }
        alloc_swap(s, &t->output_off, &t->spare_off);
        alloc_take_back(s, &t->spare_off); /* busy: it stays until the next growth or the end */
        off = get(&t->output_off);
    }
    void *p = off ? alloc_ptr(s, off, size) : t->out;
    if (!p) {
        return -EBADMSG;
    }
    *ret = p;
    return 0;
}

int task_log(struct shm *s, const struct task_ref *ref, const void *data, uint32_t len) {
    struct shm_task *t = &s->tasks[ref->idx];
    if (len == 0 || get(&t->log_off)) {
        return len == 0 ? 0 : -EEXIST;
    }
    int r = alloc_give(s, &t->log_off, len);
    void *p = r == 0 ? alloc_ptr(s, get(&t->log_off), len) : NULL;
    if (p) {
        memcpy(p, data, len);
        poke(t->log_len, len);
    }
    return r == 0 && !p ? -EBADMSG : r;
}

static uint32_t at_most_32(uint64_t n) {
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

static void record_end(struct shm_task *t, const struct task_outcome *o) {
    poke(t->cause, (uint8_t)o->cause);
    poke(t->code, o->code);
    poke(t->signal, o->signal);
    poke(t->core, o->core);
    poke(t->output_len, o->output_len);
    poke(t->cpu_user, at_most_32(o->user_us / CPU_UNIT_US));
    poke(t->cpu_system, at_most_32(o->system_us / CPU_UNIT_US));
    poke(t->rss_kib, at_most_32(o->rss_kib));
    poke(t->ended_ns, clock_now());
}

static void hint_ended(struct shm *s, uint32_t idx) {
    if (ring_put(s, &s->head->done, idx)) {
        atomic_store(&s->head->sweep, 1);
    }
}

int task_finish(struct shm *s, const struct task_ref *ref, const struct task_outcome *o) {
    assert(task_state_is_terminal(o->state));
    struct shm_task *t = &s->tasks[ref->idx];
    put(&s->mine->deadline_ns, 0);
    put(&s->mine->started_ns, 0);
    if (state_load(t) != ref->word) {
        hint_ended(s, ref->idx); /* somebody has written over it: the daemon is to look */
        hand_clear(s);
        shm_ring_daemon(s);
        return -ESTALE;
    }
    record_end(t, o);
    bool moved = state_move(t, ref->word, word_to(ref->word, o->state, s->me));
    if (moved) {
        put(&s->mine->finished, get(&s->mine->finished) + 1);
        hint_ended(s, ref->idx);
    }
    hand_clear(s);
    shm_ring_daemon(s);
    return moved ? 0 : -ESTALE;
}

bool task_cancel_wanted(struct shm *s, const struct task_ref *ref) {
    return (get32(&s->tasks[ref->idx].cancel) & STOP_MASK) != 0;
}

bool task_is_late(struct shm *s, const struct task_ref *ref) {
    return (get32(&s->tasks[ref->idx].cancel) & STOP_MASK) == STOP_LATE;
}

bool task_is_soft(struct shm *s, const struct task_ref *ref, int *ret_signal) {
    uint32_t v = get32(&s->tasks[ref->idx].cancel);
    *ret_signal = (int)(v >> STOP_SIGNAL & 0xff);
    return v & STOP_SOFT;
}

/* ---- daemon ---- */

int task_next_ended(struct shm *s, uint32_t *ret_idx) {
    _Atomic uint64_t
        hand; /* a hint the daemon loses by dying is made again when its successor sweeps */
    uint32_t idx;
    int r = ring_take(s, &s->head->done, &hand, &idx);
    if (r == 0 && idx < s->n_tasks) {
        *ret_idx = idx;
        return 0;
    }
    if (r == 0) {
        return -EOVERFLOW;
    }
    return atomic_exchange(&s->head->sweep, 0) ? -EOVERFLOW : -EAGAIN;
}

bool task_any_ended(struct shm *s) {
    return !ring_is_empty(s, &s->head->done) || atomic_load(&s->head->sweep);
}

/* Goes on freeing a record whose freeing was put off because locks were busy: our own, or that of
 * one who has died since, which its `hand` no longer names. */
static void sweep_freeing(struct shm *s, uint32_t idx, uint64_t v) {
    if (word_owner(v) != s->me && !slot_is_dead(s, word_owner(v))) {
        return;
    }
    hand_set(s, idx);
    uint64_t w = word_to(v, TASK_FREEING, s->me);
    if ((v == w || state_move(&s->tasks[idx], v, w)) && record_clear(s, idx, w)) {
        atomic_store(&s->head->sweep, 1);
    }
    hand_clear(s);
}

int task_sweep(struct shm *s, uint32_t from, uint32_t end, uint32_t *ret_idx) {
    uint64_t used = get(&s->head->tasks_used);
    for (uint32_t i = from; i < end && i < used && i < s->n_tasks; i++) {
        uint64_t v = state_load(&s->tasks[i]);
        if (task_state_is_terminal(word_state(v))) {
            *ret_idx = i;
            return 0;
        }
        if (word_state(v) == TASK_FREEING) {
            sweep_freeing(s, i, v);
        }
    }
    return -ENOENT;
}

int task_end_queued(struct shm *s, uint32_t idx, uint64_t id, enum task_state state,
                    enum task_cause cause) {
    assert(task_state_is_terminal(state));
    uint64_t v;
    struct shm_task *t = task_record(s, idx, id, &v);
    if (!t || (word_state(v) != TASK_QUEUED && word_state(v) != TASK_WAITING)) {
        return -ESTALE;
    }
    hand_set(s, idx);
    bool moved = state_move(t, v, word_to(v, state, s->me));
    if (moved) {
        record_end(t, &(struct task_outcome){.state = state, .cause = cause});
    }
    hand_clear(s);
    return moved ? 0 : -ESTALE;
}

static void stop_task(struct shm *s, uint32_t idx, uint64_t id, uint32_t why) {
    uint64_t v;
    struct shm_task *t = task_record(s, idx, id, &v);
    if (t) { /* the daemon alone writes it */
        atomic_store(&t->cancel, (get32(&t->cancel) & ~(uint32_t)STOP_MASK) | why);
    }
}

void task_set_soft(struct shm *s, uint32_t idx, uint64_t id, int signal) {
    uint64_t v;
    struct shm_task *t = task_record(s, idx, id, &v);
    if (t) {
        atomic_store(&t->cancel, (get32(&t->cancel) & (STOP_MASK | STOP_CLOSED)) | STOP_SOFT |
                                     (uint32_t)(signal & 0xff) << STOP_SIGNAL);
    }
}

void task_set_cancel(struct shm *s, uint32_t idx, uint64_t id) {
    stop_task(s, idx, id, STOP_CANCEL);
}

void task_set_late(struct shm *s, uint32_t idx, uint64_t id) {
    stop_task(s, idx, id, STOP_LATE);
}

/* ---- after a death ---- */

/* Ends the task that a dead worker was running. */
static int reap_running(struct shm *s, struct shm_slot *d, uint32_t idx, uint64_t v,
                        const struct task_outcome *o) {
    struct shm_task *t = &s->tasks[idx];
    put(&d->claims, get(&d->next_claims));
    put(&d->bytes, get(&d->next_bytes));
    keep_order();
    if (alloc_take_back(s, &t->spare_off) == -EAGAIN ||
        alloc_take_back(s, &t->output_off) == -EAGAIN) {
        return -EAGAIN;
    }
    record_end(t, o);
    poke(t->output_len, 0);
    poke(t->worker_pid, get32(&d->pid));
    return state_move(t, v, word_to(v, o->state, s->me)) ? 1 : 0;
}

static int reap_hand(struct shm *s, struct shm_slot *d, uint32_t idx, uint32_t dead,
                     const struct task_outcome *o) {
    struct shm_task *t = &s->tasks[idx];
    uint64_t v = state_load(t);
    uint32_t state = word_state(v);
    if (state == TASK_QUEUED) {
        uint32_t pool = word_owner(v);
        return pool < SHM_POOLS && hint_queued(s, &s->pools[pool], idx) == -ENOBUFS ? -EAGAIN : 0;
    }
    if (state == TASK_WAITING) {
        return 0; /* the daemon knows of it, or its successor sweeps */
    }
    if (state == TASK_FREE) {
        record_hint_free(s, idx);
        return 0;
    }
    if (task_state_is_terminal(state)) {
        hint_ended(s, idx);
        return 0;
    }
    if (word_owner(v) == dead && state == TASK_RUNNING) {
        return reap_running(s, d, idx, v, o);
    }
    /* half built or half freed: it becomes ours first, because a sweep may come upon it as well */
    uint64_t w = word_to(v, TASK_FREEING, s->me);
    if (v != w && (word_owner(v) != dead || !state_move(t, v, w))) {
        return 0;
    }
    return record_clear(s, idx, w);
}

/* The dead one may have eaten a wake-up, or have taken a sleeper's bit down and not come to wake it: all are woken. */
static void wake_for_dead(struct shm *s, uint32_t pool) {
    for (uint32_t i = 0; i < s->n_slots; i++) {
        struct shm_slot *d = &s->slots[i];
        if (get32(&d->state) != SLOT_FREE && get32(&d->pool) == pool) {
            atomic_fetch_add(&d->bell, 1);
            futex_wake(&d->bell, 1);
        }
    }
}

int task_reap(struct shm *s, uint32_t slot, uint32_t gen, const struct task_outcome *o,
              uint32_t *ret_idx) {
    assert(slot < s->n_slots && task_state_is_terminal(o->state));
    struct shm_slot *d = &s->slots[slot];
    if (get32(&d->gen) != gen) {
        return 0;
    }
    uint64_t hand = get(&d->hand);
    int r = 0;
    if (hand && hand <= s->n_tasks) {
        uint32_t idx = (uint32_t)(hand - 1);
        hand_set(s, idx);
        r = reap_hand(s, d, idx, owner_word(slot, gen), o);
        if (r >= 0) {
            keep_order();
            put(&d->hand, 0);
        }
        if (r == 1) {
            hint_ended(s, idx); /* should this process die before it has delivered the event */
            *ret_idx = idx;
        }
        hand_clear(s);
    }
    for (uint32_t i = 0; i < SHM_POOLS; i++) {
        if (s->pools[i].name[0] && any_hint(s, &s->pools[i])) {
            wake_for_dead(s, i);
        }
    }
    return r;
}

int task_free(struct shm *s, uint32_t idx, uint64_t id) {
    uint64_t v;
    struct shm_task *t = task_record(s, idx, id, &v);
    if (!t) {
        return -ESTALE;
    }
    hand_set(s, idx);
    int r = -ESTALE;
    if (word_state(v) == TASK_FREEING && word_owner(v) == s->me) {
        r = record_clear(s, idx, v);
    } else if (task_state_is_terminal(word_state(v))) {
        uint64_t w = word_to(v, TASK_FREEING, s->me);
        r = state_move(t, v, w) ? record_clear(s, idx, w) : -ESTALE;
    }
    hand_clear(s);
    return r;
}

/* ---- reading ---- */

static const void *input_at(struct shm *s, const struct shm_task *t, uint64_t size) {
    return size <= SHM_INLINE_IN ? t->in : alloc_ptr(s, get(&t->input_off), size);
}

static int view_output(struct shm *s, const struct shm_task *t, struct task_view *v) {
    uint64_t off = get(&t->output_off), len = peek(t->output_len);
    uint32_t log_len = peek(t->log_len);
    if (len && off) {
        v->output.data = alloc_ptr(s, off, len);
    } else if (len <= SHM_INLINE_OUT) {
        v->output.data = t->out;
    }
    v->output.len = len;
    if (log_len) {
        v->log.data = alloc_ptr(s, get(&t->log_off), log_len);
        v->log.len = v->log.data ? log_len : 0;
    }
    return v->output.data ? 0 : -EBADMSG;
}

/* task_end_queued() names the cause after it has ended the task, and may die between. */
static enum task_cause view_cause(const struct shm_task *t, uint32_t state) {
    uint8_t cause = peek(t->cause);
    if (cause == CAUSE_NONE && state == TASK_CANCELLED) {
        return CAUSE_CANCELLED;
    }
    if (cause == CAUSE_NONE && state == TASK_EXPIRED) {
        return CAUSE_EXPIRED;
    }
    return cause < TASK_CAUSES ? cause : CAUSE_NONE;
}

int task_view(struct shm *s, uint32_t idx, struct task_view *ret) {
    if (idx >= s->n_tasks) {
        return -ENOENT;
    }
    const struct shm_task *t = &s->tasks[idx];
    uint64_t word = state_load(t);
    uint32_t state = word_state(word);
    if (state == TASK_FREE || state == TASK_BUILDING || state >= TASK_FREEING) {
        return -ENOENT;
    }
    struct task_view v = {.id = peek(t->id),
                          .state = state,
                          .attempt = word_attempt(word),
                          .owner = word_owner(word),
                          .pool = peek(t->pool),
                          .handler = peek(t->handler),
                          .client = peek(t->client),
                          .uid = peek(t->uid),
                          .timeout_ms = peek(t->timeout_ms),
                          .priority = peek(t->priority),
                          .kills = peek(t->kills),
                          .submitted_ns = peek(t->submitted_ns),
                          .nargs = peek(t->nargs)};
    if (state != TASK_QUEUED && state != TASK_WAITING) {
        v.started_ns = peek(t->started_ns);
        v.worker_pid = peek(t->worker_pid);
    }
    uint64_t len = peek(t->input_len);
    uint32_t args_len = peek(t->args_len), policy_len = peek(t->policy_len);
    const char *in = input_at(s, t, len <= ALLOC_MAX ? len + args_len + policy_len : UINT64_MAX);
    if (!in || v.pool >= SHM_POOLS) {
        return -EBADMSG;
    }
    v.payload = (struct task_bytes){in, len};
    v.args_raw = (struct task_bytes){in + len, args_len};
    v.policy = (struct task_bytes){in + len + args_len, policy_len};
    if (state == TASK_WAITING) {
        v.ended_ns = peek(t->ended_ns);
    }
    if (task_state_is_terminal(state)) {
        v.ended_ns = peek(t->ended_ns);
        v.cause = view_cause(t, state);
        v.code = peek(t->code);
        v.signal = peek(t->signal);
        v.core = peek(t->core);
        v.user_us = (uint64_t)peek(t->cpu_user) * CPU_UNIT_US;
        v.system_us = (uint64_t)peek(t->cpu_system) * CPU_UNIT_US;
        v.rss_kib = peek(t->rss_kib);
        v.stream_bytes = get(&t->stream_off) ? SHM_STREAM : 0;
        int r = view_output(s, t, &v);
        if (r) {
            return r;
        }
    }
    *ret = v;
    return 0;
}

int task_arg(const struct task_view *v, size_t *at, struct task_bytes *ret) {
    uint32_t len;
    size_t left = v->args_raw.len - *at;
    if (left == 0) {
        return -ENOENT;
    }
    if (left < sizeof(len) + 1) {
        return -EBADMSG;
    }
    const char *p = (const char *)v->args_raw.data + *at;
    memcpy(&len, p, sizeof(len));
    if (len > left - sizeof(len) - 1 || p[sizeof(len) + len] != '\0') {
        return -EBADMSG;
    }
    *ret = (struct task_bytes){p + sizeof(len), len};
    *at += sizeof(len) + len + 1;
    return 0;
}
