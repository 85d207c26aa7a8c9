/* SPDX-License-Identifier: MIT */
/* Every instruction of every verb that changes the segment (DESIGN section 4.1): submitting,
 * claiming, writing output, finishing, cancelling, holding, releasing, recalling, trying again, freeing, reaping; with inputs and outputs
 * inline, in small blocks and in runs of chunks. Then the recovery itself: from copies taken in the
 * middle of transactions, the rescuer is killed at each of its instructions. Fails: prints "not ok"
 * and exits 1. */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/shm/adopt.h"
#include "lib/shm/alloc.h"
#include "lib/shm/internal.h"
#include "lib/shm/ring.h"
#include "lib/shm/stream.h"
#include "tests/crash/step.h"

static char text[200000];

static void submit(struct shm *s, size_t len, uint32_t nargs) {
    struct task_ref t;
    struct task_bytes args[2] = {{"first", 5}, {"", 0}};
    struct task_spec spec = {
        .pool = STEP_POOL, .payload = {text, len}, .args = args, .nargs = nargs};
    int r = task_submit(s, &spec, &t);
    assert(r == 0);
}

static void run_one(struct shm *s, size_t out) {
    struct task_ref t;
    void *p = NULL;
    int r = task_claim(s, STEP_POOL, &t);
    assert(r == 0);
    r = task_output(s, &t, 0, out, &p);
    assert(r == 0);
    memcpy(p, text, out);
    r = task_finish(
        s, &t,
        &(struct task_outcome){.state = TASK_DONE, .cause = CAUSE_RESULT, .output_len = out});
    assert(r == 0);
}

/* The usual end: recover, settle, and between lo and hi tasks ended, at most one of them lost. */
static const char *expect(struct shm *s, uint32_t lo, uint32_t hi, uint32_t lost_max) {
    struct step_counts n = {0};
    const char *bad = step_recover(s, STEP_VICTIM);
    bad = bad ? bad : step_settle(s, &n);
    if (bad) {
        return bad;
    }
    uint32_t all = 0;
    for (uint32_t i = 0; i < TASK_STATES; i++) {
        all += n.state[i];
    }
    if (all < lo || all > hi) {
        fprintf(stderr, "# %u tasks ended, expected %u to %u\n", all, lo, hi);
        return "wrong number of tasks";
    }
    if (n.state[TASK_LOST] > lost_max) {
        return "too many tasks lost";
    }
    return n.bad_output ? "a result is damaged" : NULL;
}

/* ---- submit ---- */
static void setup_two(struct shm *s) {
    submit(s, 3, 0);
    submit(s, 3000, 2);
}
static void op_submit_inline(struct shm *s) {
    submit(s, 10, 2);
}
static void op_submit_block(struct shm *s) {
    submit(s, 1000, 1);
}
static void op_submit_run(struct shm *s) {
    submit(s, 20000, 0);
}
static const char *verify_submit(struct shm *s, bool finished) {
    return expect(s, finished ? 3 : 2, 3, 0);
}

/* A worker sleeps: whoever takes its bit out of `napping` and dies before it rings must not leave it asleep. */
static void setup_asleep(struct shm *s) {
    setup_two(s);
    atomic_fetch_or(&s->pools[STEP_POOL].napping[0], UINT64_C(1) << STEP_OTHER);
}
static void op_submit_and_wake(struct shm *s) {
    submit(s, 10, 2);
    task_wake(s, STEP_POOL, 1);
}
static const char *verify_woken(struct shm *s, bool finished) {
    uint32_t bell = get32(&s->slots[STEP_OTHER].bell);
    const char *bad = expect(s, finished ? 3 : 2, 3, 0);
    bool rung = finished || get32(&s->slots[STEP_OTHER].bell) != bell;
    return bad ? bad : rung ? NULL : "a worker is not woken";
}
/* one small class is used up, so that the submit carves a new chunk */
static void setup_full_chunk(struct shm *s) {
    submit(s, 8000, 0);
    submit(s, 8000, 0);
}
static void op_submit_chunk(struct shm *s) {
    submit(s, 8100, 0);
}

/* a block of the class was given back: the submit takes it from the free list */
static void setup_reuse(struct shm *s) {
    struct shm worker = step_handle(s->base, STEP_OTHER);
    struct task_view v;
    submit(s, 1000, 1);
    submit(s, 1000, 1);
    submit(s, 1000, 1);
    struct task_ref t;
    int r = task_claim(&worker, STEP_POOL, &t);
    assert(r == 0);
    r = task_finish(&worker, &t, &(struct task_outcome){.state = TASK_DONE, .cause = CAUSE_RESULT});
    assert(r == 0);
    r = task_view(s, t.idx, &v);
    assert(r == 0);
    r = task_free(s, t.idx, v.id);
    assert(r == 0);
}

/* ---- full segment ---- */
static void setup_full(struct shm *s) {
    while (1) {
        struct task_ref t;
        struct task_spec spec = {.pool = STEP_POOL, .payload = {text, 30000}};
        if (task_submit(s, &spec, &t)) {
            return;
        }
    }
}
static uint32_t full_count(struct shm *s) {
    struct shm_report r;
    shm_check(s, &r);
    return r.tasks[TASK_QUEUED];
}
static void op_submit_full(struct shm *s) {
    struct task_ref t;
    struct task_spec spec = {.pool = STEP_POOL, .payload = {text, 60000}};
    int r = task_submit(s, &spec, &t);
    assert(r < 0);
}
static const char *verify_full(struct shm *s, bool finished) {
    (void)finished;
    uint32_t n = full_count(s);
    return n ? expect(s, n, n, 0) : "nothing queued";
}

/* ---- claim ---- */
static void op_claim(struct shm *s) {
    struct task_ref t;
    int r = task_claim(s, STEP_POOL, &t);
    assert(r == 0);
}
static const char *verify_claim(struct shm *s, bool finished) {
    struct slot_view before, after;
    slot_view(s, STEP_VICTIM, &before);
    struct step_counts n = {0};
    const char *bad = step_recover(s, STEP_VICTIM);
    slot_view(s, STEP_VICTIM, &after);
    bad = bad ? bad : step_settle(s, &n);
    if (bad) {
        return bad;
    }
    if (n.state[TASK_DONE] + n.state[TASK_LOST] != 2 || n.state[TASK_LOST] > 1) {
        return "a task is lost or doubled";
    }
    /* queued = submitted - claims must be exact */
    if (after.claims != n.state[TASK_LOST] || (finished && after.claims != 1)) {
        return "the count of claims is wrong";
    }
    return NULL;
}

/* ---- output and finish ---- */
static struct task_ref claimed;
static void prepare_claim(struct shm *s) {
    int r = task_claim(s, STEP_POOL, &claimed);
    assert(r == 0);
}
static void op_finish_inline(struct shm *s) {
    void *p = NULL;
    int r = task_output(s, &claimed, 0, 20, &p);
    assert(r == 0);
    memcpy(p, text, 20);
    r = task_finish(
        s, &claimed,
        &(struct task_outcome){.state = TASK_DONE, .cause = CAUSE_RESULT, .output_len = 20});
    assert(r == 0);
}
static void op_finish_growing(struct shm *s) {
    static const uint32_t sizes[] = {40, 300, 3000, 18000};
    void *p = NULL;
    uint64_t used = 0;
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        int r = task_output(s, &claimed, used, sizes[i], &p);
        assert(r == 0);
        memcpy((char *)p + used, text + used, sizes[i] - used);
        used = sizes[i];
    }
    int r = task_log(s, &claimed, "a warning", 9);
    assert(r == 0);
    r = task_finish(
        s, &claimed,
        &(struct task_outcome){.state = TASK_DONE, .cause = CAUSE_RESULT, .output_len = used});
    assert(r == 0);
}
static const char *verify_finish(struct shm *s, bool finished) {
    return expect(s, 2, 2, finished ? 0 : 1);
}

/* ---- the stream: whole frames, each with the bytes of its place in the text, or none ---- */
static void emit(struct shm *s, uint64_t from, uint64_t len, bool wait) {
    int64_t r = stream_put(s, &claimed, STREAM_DATA, text + from, len, wait);
    assert(r == (int64_t)len);
}
static void prepare_stream(struct shm *s) {
    prepare_claim(s);
    emit(s, 0, 100, false);
}
static void prepare_full_stream(struct shm *s) {
    prepare_claim(s);
    emit(s, 0, 8 * STREAM_FRAME + 1, false);
}
static void op_emit(struct shm *s) {
    emit(s, 0, 3000, false);
}
static void op_emit_more(struct shm *s) {
    emit(s, 100, 20, false);
    int r = stream_put_progress(s, &claimed, 1, 2, text, 9, false);
    assert(r == 0);
}
static void op_emit_full(struct shm *s) {
    emit(s, 8 * STREAM_FRAME + 1, 300, false);
}
/* Somebody follows: the hint, and no room. */
static void setup_followed(struct shm *s) {
    setup_two(s);
    struct task_view v;
    int r = task_view(s, 0, &v);
    assert(r == 0);
    stream_watch(s, 0, v.id, true);
}
static void op_emit_too_much(struct shm *s) {
    int64_t r = stream_put(s, &claimed, STREAM_DATA, text, 30000, false);
    assert(r > 0 && r < 30000);
}
static const char *read_frames(struct shm *s, bool finished, uint64_t least) {
    struct stream_frame f;
    struct stream_place at = {0};
    uint64_t from = 0;
    int r;
    while ((r = stream_read(s, 0, s->tasks[0].id, &at, &f)) == 0) {
        struct stream_progress p;
        memcpy(&p, f.words, sizeof(p));
        if (f.kind == STREAM_PROGRESS) {
            if (p.done != 1 || p.total != 2 || memcmp(f.words + 2, text, 9) != 0) {
                return "a torn progress";
            }
            continue;
        }
        if (from == 0 && f.len && memcmp(f.words, text, f.len) != 0) {
            from = STREAM_FRAME; /* the first one was pushed out */
        }
        if (f.kind != STREAM_DATA || memcmp(f.words, text + from, f.len) != 0) {
            return "a torn frame";
        }
        from += f.len;
    }
    if (r == -EBADMSG || (finished && from < least)) {
        return "frames are missing";
    }
    return expect(s, 2, 2, 1);
}
static const char *verify_stream(struct shm *s, bool finished) {
    return read_frames(s, finished, 120);
}
static const char *verify_full_stream(struct shm *s, bool finished) {
    return read_frames(s, finished, 8 * STREAM_FRAME + 301);
}
/* What the daemon does, and how it frees a task that has a stream, or tries it again. */
static void setup_streamed(struct shm *s, enum task_state state) {
    struct shm worker = step_handle(s->base, STEP_OTHER);
    submit(s, 2000, 2);
    submit(s, 3, 0);
    int r = task_claim(&worker, STEP_POOL, &claimed);
    assert(r == 0);
    emit(&worker, 0, 5000, false);
    r = task_finish(&worker, &claimed,
                    &(struct task_outcome){.state = state, .cause = CAUSE_ERROR});
    assert(r == 0);
}
static void setup_streamed_done(struct shm *s) {
    setup_streamed(s, TASK_DONE);
}
static void setup_streamed_failed(struct shm *s) {
    setup_streamed(s, TASK_FAILED);
}
static void op_read_stream(struct shm *s) {
    struct stream_frame f;
    struct stream_place at = {0};
    uint64_t id = s->tasks[0].id;
    stream_watch(s, 0, id, true);
    stream_listen(s, 0, id);
    while (stream_read(s, 0, id, &at, &f) == 0) {
        stream_sent(s, 0, id, &at);
    }
    stream_watch(s, 0, id, false);
    stream_drop(s, 0, id);
}

/* ---- cancel ---- */
static void op_cancel(struct shm *s) {
    struct task_view v;
    int r = task_view(s, 0, &v);
    assert(r == 0);
    r = task_end_queued(s, 0, v.id, TASK_CANCELLED, CAUSE_CANCELLED);
    assert(r == 0);
}
static const char *verify_cancel(struct shm *s, bool finished) {
    (void)finished;
    return expect(s, 2, 2, 0);
}

/* ---- free ---- */
static void setup_ended(struct shm *s) {
    struct shm worker = step_handle(s->base, STEP_OTHER);
    submit(s, 2000, 2);
    run_one(&worker, 50000);
}
static void setup_ended_inline(struct shm *s) {
    struct shm worker = step_handle(s->base, STEP_OTHER);
    submit(s, 5, 0);
    run_one(&worker, 5);
}
static void free_idx(struct shm *s, uint32_t idx) {
    struct task_view v;
    int r = task_view(s, idx, &v);
    assert(r == 0);
    r = task_free(s, idx, v.id);
    assert(r == 0);
}
static void op_free(struct shm *s) {
    free_idx(s, 0);
}
static const char *verify_free(struct shm *s, bool finished) {
    return expect(s, 0, finished ? 0 : 1, 0);
}
/* two chunks of one class, one half used, the other to become empty: it goes back to the map */
static void setup_release(struct shm *s) {
    struct shm worker = step_handle(s->base, STEP_OTHER);
    for (int i = 0; i < 4; i++) {
        submit(s, 8000, 0);
    }
    for (int i = 0; i < 4; i++) {
        run_one(&worker, 1);
    }
    free_idx(s, 0);
    free_idx(s, 2);
}
static void op_free_last(struct shm *s) {
    free_idx(s, 3);
}
static const char *verify_release(struct shm *s, bool finished) {
    return expect(s, finished ? 1 : 1, finished ? 1 : 2, 0);
}

/* ---- reap: the victim reaps STEP_OTHER, which died with a task in hand ---- */
static void setup_dead_worker(struct shm *s) {
    struct shm other = step_handle(s->base, STEP_OTHER);
    struct task_ref t;
    void *p;
    submit(s, 3000, 1);
    submit(s, 3, 0);
    int r = task_claim(&other, STEP_POOL, &t);
    assert(r == 0);
    r = task_output(&other, &t, 0, 30000, &p);
    assert(r == 0);
    step_mark_dead(s, STEP_OTHER);
}
static void op_reap(struct shm *s) {
    const char *bad = step_recover(s, STEP_OTHER);
    assert(!bad);
}
static const char *verify_reap(struct shm *s, bool finished) {
    (void)finished;
    const char *bad = step_recover(s, STEP_VICTIM);
    bad = bad ? bad : step_recover(s, STEP_OTHER);
    struct step_counts n = {0};
    bad = bad ? bad : step_settle(s, &n);
    if (bad) {
        return bad;
    }
    return n.state[TASK_LOST] == 1 && n.state[TASK_DONE] == 1 ? NULL : "wrong number of tasks";
}

/* ---- sweep: the victim goes on with what STEP_OTHER, which died, had put off freeing ---- */
static void setup_put_off(struct shm *s) {
    setup_ended(s);
    struct shm other = step_handle(s->base, STEP_OTHER);
    uint64_t w = get(&s->tasks[0].state);
    put(&s->tasks[0].state,
        (w & ~UINT64_C(0xfffffffffff)) | TASK_FREEING | (w & 0xff0) | (uint64_t)other.me << 12);
    step_mark_dead(s, STEP_OTHER);
}
static void op_sweep(struct shm *s) {
    uint32_t idx;
    int r = task_sweep(s, 0, UINT32_MAX, &idx);
    assert(r == -ENOENT);
}
static const char *verify_sweep(struct shm *s, bool finished) {
    (void)finished;
    const char *bad = step_recover(s, STEP_OTHER);
    return bad ? bad : expect(s, 0, 0, 0);
}

/* ---- prune: two tasks among the hints of two that were cancelled ---- */
static void setup_cancelled(struct shm *s) {
    for (uint32_t i = 0; i < 4; i++) {
        submit(s, 3, 0);
        if (i % 2 == 0) {
            struct task_view v;
            int r = task_view(s, i, &v);
            assert(r == 0);
            r = task_end_queued(s, i, v.id, TASK_CANCELLED, CAUSE_CANCELLED);
            assert(r == 0);
        }
    }
}
static void op_prune(struct shm *s) {
    task_prune(s, STEP_POOL);
}
static const char *verify_prune(struct shm *s, bool finished) {
    if (finished && task_ring_length(s, STEP_POOL) != 2) {
        return "a hint too much or too few";
    }
    return expect(s, 4, 4, 0);
}

/* ---- what the daemon holds: the victim is the daemon ---- */
static void hold(struct shm *s, size_t len) {
    struct task_ref t;
    struct task_spec spec = {.pool = STEP_POOL,
                             .payload = {text, len},
                             .policy = {"policy", 6},
                             .priority = 200,
                             .hold = true};
    int r = task_submit(s, &spec, &t);
    assert(r == 0);
}
static uint64_t id_of(struct shm *s, uint32_t idx) {
    struct task_view v;
    int r = task_view(s, idx, &v);
    assert(r == 0);
    return v.id;
}
static void setup_held(struct shm *s) {
    hold(s, 3);
    submit(s, 3, 0);
}
static void op_submit_held(struct shm *s) {
    hold(s, 1000);
}
static void op_release_front(struct shm *s) {
    int r = task_release(s, 0, id_of(s, 0), true);
    assert(r == 0);
}
static void op_release_ready(struct shm *s) {
    int r = task_release(s, 0, id_of(s, 0), false);
    assert(r == 0);
}
static void fill_front(struct shm *s) {
    setup_held(s);
    while (ring_put(s, &s->pools[STEP_POOL].front, 0) == 0) {
    }
}
static void op_release_full(struct shm *s) {
    int r = task_release(s, 0, id_of(s, 0), true);
    assert(r == -ENOBUFS);
}
static void op_expire(struct shm *s) {
    int r = task_end_queued(s, 0, id_of(s, 0), TASK_EXPIRED, CAUSE_EXPIRED);
    assert(r == 0);
}
static const char *verify_held(struct shm *s, bool finished) {
    (void)finished;
    return expect(s, 2, 2, 0);
}
static void setup_ordered(struct shm *s) {
    setup_held(s);
    int r = task_order(s, 0, id_of(s, 0), STEP_VICTIM);
    assert(r == 0);
}
static void op_claim_ordered(struct shm *s) {
    struct task_ref t;
    int r = task_claim(s, STEP_POOL, &t);
    assert(r == 0 && t.idx == 0);
}
static void op_claim_alone(struct shm *s) {
    struct task_ref t;
    int r = task_claim_ordered(s, STEP_POOL, &t);
    assert(r == 0 && t.idx == 0);
}
static const char *verify_ordered(struct shm *s, bool finished) {
    (void)finished;
    return expect(s, 2, 2, 1);
}
static void op_order(struct shm *s) {
    int r = task_order(s, 0, id_of(s, 0), STEP_OTHER);
    assert(r == 0);
}
/* Two were released; a better one has come. */
static void setup_fed(struct shm *s) {
    for (uint32_t i = 0; i < 3; i++) {
        hold(s, 3);
    }
    for (uint32_t i = 0; i < 2; i++) {
        int r = task_release(s, i, id_of(s, i), true);
        assert(r == 0);
    }
    submit(s, 3, 0);
}
static void op_reorder(struct shm *s) {
    for (uint32_t i = 0; i < 2; i++) {
        int r = task_recall(s, i, id_of(s, i));
        assert(r == 0);
    }
    task_prune_front(s, STEP_POOL);
    int r = task_release(s, 2, id_of(s, 2), true);
    assert(r == 0);
}
static const char *verify_reorder(struct shm *s, bool finished) {
    if (finished && task_front_length(s, STEP_POOL) != 1) {
        return "a hint too much or too few";
    }
    return expect(s, 4, 4, 0);
}
/* The first hint of the ready ring is of a task that was recalled. */
static void setup_stale_head(struct shm *s) {
    submit(s, 3, 0);
    submit(s, 3, 0);
    int r = task_recall(s, 0, id_of(s, 0));
    assert(r == 0);
}
static void op_head(struct shm *s) {
    uint64_t head;
    int r = task_ready_head(s, STEP_POOL, &head);
    assert(r == 0 && task_ring_length(s, STEP_POOL) == 1);
}
/* A command that failed, with much output and a log. */
static void setup_failed(struct shm *s) {
    struct shm worker = step_handle(s->base, STEP_OTHER);
    struct task_ref t;
    void *p;
    submit(s, 2000, 1);
    submit(s, 3, 0);
    int r = task_claim(&worker, STEP_POOL, &t);
    r = r ? r : task_output(&worker, &t, 0, 30000, &p);
    r = r ? r : task_log(&worker, &t, text, 300);
    r = r ? r
          : task_finish(&worker, &t,
                        &(struct task_outcome){
                            .state = TASK_FAILED, .cause = CAUSE_EXIT, .output_len = 30000});
    assert(r == 0);
}
static void op_retry(struct shm *s) {
    int r = task_retry(s, 0, id_of(s, 0), true);
    assert(r == 0);
}

/* Whether killed before, in it or after: ended once, with a cause that is the old or the new one. */
static void op_set_cause(struct shm *s) {
    task_set_cause(s, 0, id_of(s, 0), CAUSE_MEMORY);
}
static const char *verify_cause(struct shm *s, bool finished) {
    struct task_view v;
    if (task_view(s, 0, &v) < 0 || v.code != 0 ||
        v.cause != (finished                  ? CAUSE_MEMORY
                    : v.cause == CAUSE_MEMORY ? CAUSE_MEMORY
                                              : CAUSE_EXIT)) {
        return "neither the old cause nor the new one";
    }
    return expect(s, 2, 2, 0);
}

static const char *verify_free_one(struct shm *s, bool finished) {
    return expect(s, 1, finished ? 1 : 2, 0);
}

/* ---- what the daemon keeps for its successor: as before, or as after; and marks in a record ---- */
static void keep_text(struct shm *s, size_t from, size_t len) {
    int r = shm_keep(s, text + from, len);
    assert(r == 0);
}
static void setup_kept(struct shm *s) {
    setup_two(s);
    keep_text(s, 0, 300);
}
static void op_keep(struct shm *s) {
    keep_text(s, 1000, 20000);
}
static void op_keep_word(struct shm *s) {
    shm_kept_set(s, 8, UINT64_MAX);
    shm_kept_set(s, 296, 0); /* past the end */
    task_set_closed(s, 0, s->tasks[0].id);
}
/* Gives it back: what is left then belongs to tasks. */
static const char *expect_two(struct shm *s) {
    alloc_take_back(s, &s->head->kept_off);
    alloc_take_back(s, &s->head->kept_spare);
    return expect(s, 2, 2, 0);
}
static const char *verify_kept(struct shm *s, bool finished) {
    const char *bad = step_recover(s, STEP_VICTIM);
    struct task_bytes b = shm_kept(s);
    bool old = b.len == 300 && memcmp(b.data, text, 300) == 0;
    bool new = b.len == 20000 && memcmp(b.data, text + 1000, 20000) == 0;
    if (bad || (!new && (!old || finished))) {
        return bad ? bad : "neither the old nor the new";
    }
    return expect_two(s);
}
static const char *verify_kept_word(struct shm *s, bool finished) {
    struct task_bytes b = shm_kept(s);
    uint64_t v = 0;
    if (b.len != 300 || memcmp(b.data, text, 8) != 0 ||
        memcmp((char *)b.data + 16, text + 16, 284)) {
        return "other words have changed";
    }
    memcpy(&v, (const char *)b.data + 8, 8);
    if (v != UINT64_MAX && (finished || memcmp(&v, text + 8, 8) != 0)) {
        return "a torn word";
    }
    if (finished && !task_is_closed(s, 0, s->tasks[0].id)) {
        return "not marked";
    }
    return expect_two(s);
}

static const struct step_case cases[] = {
    {"submit, inline", setup_two, NULL, op_submit_inline, verify_submit},
    {"submit, block", setup_two, NULL, op_submit_block, verify_submit},
    {"submit, run of chunks", setup_two, NULL, op_submit_run, verify_submit},
    {"submit, new chunk for a class", setup_full_chunk, NULL, op_submit_chunk, verify_submit},
    {"submit, a block that was free", setup_reuse, NULL, op_submit_block, verify_submit},
    {"submit into a full segment", setup_full, NULL, op_submit_full, verify_full},
    {"claim", setup_two, NULL, op_claim, verify_claim},
    {"finish, inline", setup_two, prepare_claim, op_finish_inline, verify_finish},
    {"finish, output grown from inline to a run, log", setup_two, prepare_claim, op_finish_growing,
     verify_finish},
    {"cancel a queued task", setup_two, NULL, op_cancel, verify_cancel},
    {"free, inline", setup_ended_inline, NULL, op_free, verify_free},
    {"free, block and run", setup_ended, NULL, op_free, verify_free},
    {"free that gives a chunk back", setup_release, NULL, op_free_last, verify_release},
    {"reap a dead worker", setup_dead_worker, NULL, op_reap, verify_reap},
    {"prune", setup_cancelled, NULL, op_prune, verify_prune},
    {"submit, held", setup_two, NULL, op_submit_held, verify_submit},
    {"release to the front", setup_held, NULL, op_release_front, verify_held},
    {"release to the end", setup_held, NULL, op_release_ready, verify_held},
    {"release to a ring that is full", fill_front, NULL, op_release_full, verify_held},
    {"claim the one that is for it alone", setup_ordered, NULL, op_claim_ordered, verify_ordered},
    {"claim nothing else than that", setup_ordered, NULL, op_claim_alone, verify_ordered},
    {"order a worker to take one", setup_held, NULL, op_order, verify_held},
    {"expire", setup_held, NULL, op_expire, verify_held},
    {"recall two for a better one", setup_fed, NULL, op_reorder, verify_reorder},
    {"look past a stale hint", setup_stale_head, NULL, op_head, verify_held},
    {"retry", setup_failed, NULL, op_retry, verify_held},
    {"another cause", setup_failed, NULL, op_set_cause, verify_cause},
    {"emit, a new stream", setup_two, prepare_claim, op_emit, verify_stream},
    {"emit, a stream that is there", setup_two, prepare_stream, op_emit_more, verify_stream},
    {"emit, pushing out", setup_two, prepare_full_stream, op_emit_full, verify_full_stream},
    {"emit, followed", setup_followed, prepare_claim, op_emit_too_much, verify_stream},
    {"read a stream", setup_streamed_done, NULL, op_read_stream, verify_held},
    {"retry, with a stream", setup_streamed_failed, NULL, op_retry, verify_held},
    {"free, with a stream", setup_streamed_done, NULL, op_free, verify_free_one},
    {"sweep what a dead one had put off freeing", setup_put_off, NULL, op_sweep, verify_sweep},
    {"submit, and wake one who sleeps", setup_asleep, NULL, op_submit_and_wake, verify_woken},
    {"keep for a successor", setup_kept, NULL, op_keep, verify_kept},
    {"change a word of what is kept", setup_kept, NULL, op_keep_word, verify_kept_word},
};

/* Those whose rescue is stepped, too. */
static bool is_rescued(const struct step_case *c) {
    return c->op == op_submit_run || c->op == op_finish_growing ||
           (c->op == op_free && c->setup == setup_ended);
}

int main(void) {
    for (size_t i = 0; i < sizeof(text); i++) {
        text[i] = (char)('a' + i % 26);
    }
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct step_case c = cases[i];
        c.rescues = is_rescued(&c) ? 12 : 0;
        uint32_t n = step_run(&c);
        if (c.rescues) {
            step_line("somebody dies in the rescue", n ? NULL : "in no copy");
        }
    }
    return step_end();
}
