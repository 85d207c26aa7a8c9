/* SPDX-License-Identifier: MIT */
/* The segment as a whole and the tasks in it: what is refused, what a full one does, what comes
 * back, who is woken. Words and ids are in test_shm_text.c, locks and memory in test_shm_lock.c;
 * what happens on death, in tests/crash. */
#include "lib/shm/segment.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/shm/check.h"
#include "lib/shm/internal.h"
#include "lib/shm/slot.h"
#include "lib/shm/task.h"
#include "tests/support/child.h"

TestSuite(shm, .timeout = 30, .fini = child_kill_all);

enum { TASKS = 64 };

static void take_slot(struct shm *s) {
    uint32_t slot, gen;
    cr_assert_eq(slot_reserve(s, 0, &slot, &gen), 0);
    cr_assert_eq(slot_attach(s, slot, gen), 0);
}

static struct shm new_segment(uint64_t size) {
    struct shm s;
    cr_assert_eq(shm_create(&s, &(struct shm_params){.size = size, .slots = 8, .tasks = TASKS}), 0);
    take_slot(&s);
    cr_assert_eq(shm_pool_create(&s, 0, "pool", TASKS), 0);
    return s;
}

/* Another handle on the same segment, as another process has it. */
static struct shm second(struct shm *of) {
    struct shm s;
    cr_assert_eq(shm_attach(&s, of->fd), 0);
    take_slot(&s);
    return s;
}

static int submit(struct shm *s, const void *payload, size_t len, struct task_ref *ret) {
    struct task_spec spec = {.payload = {payload, len}, .handler = 3, .uid = 12, .client = 99};
    return task_submit(s, &spec, ret);
}

static struct shm_report checked(struct shm *s) {
    struct shm_report r;
    cr_assert_eq(shm_check(s, &r), 0);
    cr_assert_eq(r.errors, 0, "%s", r.first);
    return r;
}

/* ---- creating and attaching ---- */

Test(shm, parameters_out_of_range_are_refused) {
    static const struct shm_params bad[] = {
        {.size = (1 << 20) - 1, .slots = 4, .tasks = 64},
        {.size = 0, .slots = 4, .tasks = 64},
        {.size = (UINT64_C(1) << 40) + 1, .slots = 4, .tasks = 64},
        {.size = UINT64_MAX, .slots = 4, .tasks = 64},
        {.size = 4 << 20, .slots = 1, .tasks = 64},
        {.size = 4 << 20, .slots = 1025, .tasks = 64},
        {.size = 4 << 20, .slots = 4, .tasks = 15},
        {.size = 1 << 30, .slots = 4, .tasks = (16 << 20) + 1},
        {.size = 1 << 20, .slots = 4, .tasks = 1 << 20}, /* no room for data */
        {.size = 1 << 20, .slots = 1024, .tasks = 64},   /* nor here */
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct shm s = {.fd = 77};
        cr_expect_eq(shm_create(&s, &bad[i]), -EINVAL, "case %zu", i);
        cr_expect_eq(s.fd, 77, "case %zu touched the handle", i);
    }
}

Test(shm, defaults_and_sizes_between_the_limits_are_laid_out) {
    static const struct shm_params good[] = {
        {.size = 1 << 20, .slots = 2, .tasks = 16},
        {.size = (1 << 20) + 5, .slots = 3, .tasks = 17},
        {.size = 256 << 20, .slots = 64},
        {.size = UINT64_C(8) << 30, .slots = 1024, .tasks = 1 << 20},
    };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        struct shm s;
        struct shm_usage u;
        cr_assert_eq(shm_create(&s, &good[i]), 0, "case %zu", i);
        shm_usage(&s, &u);
        cr_expect_geq(u.size, good[i].size);
        cr_expect_eq(u.slots, good[i].slots);
        cr_expect_eq(u.tasks, good[i].tasks ? good[i].tasks : u.size / 4 / 256);
        cr_expect_eq(u.chunks, u.chunks_free);
        cr_expect_leq(s.data_off + u.chunks * u.chunk_bytes, u.size);
        if (i < 3) {
            checked(&s);
        }
        shm_detach(&s);
    }
}

Test(shm, attach_refuses_what_is_no_segment) {
    struct shm s, own = new_segment(1 << 20);
    _cleanup_close_ int unsealed = memfd_create("u", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    cr_assert_eq(ftruncate(unsealed, 1 << 20), 0);
    cr_assert_eq(pwrite(unsealed, own.base, 1 << 20, 0), 1 << 20);
    cr_expect_eq(shm_attach(&s, unsealed), -EBADMSG, "not sealed against resizing");
    cr_assert_eq(fcntl(unsealed, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    cr_expect_eq(shm_attach(&s, unsealed), 0);
    shm_detach(&s);

    _cleanup_close_ int small = memfd_create("s", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    cr_assert_eq(ftruncate(small, 4096), 0);
    cr_assert_eq(fcntl(small, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    cr_expect_eq(shm_attach(&s, small), -EBADMSG, "truncated");

    _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    cr_expect_eq(shm_attach(&s, null), -EBADMSG);
    cr_expect_eq(shm_attach(&s, -1), -EBADF);
    shm_detach(&own);
}

Test(shm, view_refuses_a_damaged_header) {
    struct shm s, own = new_segment(1 << 20);
    _cleanup_free_ void *copy = aligned_alloc(4096, 1 << 20);
    cr_assert_not_null(copy);
    struct shm_header *h = copy;

    memcpy(copy, own.base, 1 << 20);
    cr_expect_eq(shm_view(&s, copy, 1 << 20), 0);
    cr_expect_eq(shm_view(&s, copy, (1 << 20) - 4096), -EBADMSG, "truncated");
    cr_expect_eq(shm_view(&s, copy, 100), -EBADMSG, "shorter than its header");
    h->magic++;
    cr_expect_eq(shm_view(&s, copy, 1 << 20), -EBADMSG, "magic");
    h->magic--;
    h->version++;
    cr_expect_eq(shm_view(&s, copy, 1 << 20), -EPROTO, "version");
    h->version--;
    h->signature ^= 1;
    cr_expect_eq(shm_view(&s, copy, 1 << 20), -EPROTO, "signature");
    h->signature ^= 1;
    uint64_t *places[] = {&h->size,     &h->pools_off, &h->slots_off,  &h->done_off,
                          &h->free_off, &h->tasks_off, &h->arenas_off, &h->chunks_off,
                          &h->map_off,  &h->data_off};
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        *places[i] += 4096;
        cr_expect_eq(shm_view(&s, copy, 1 << 20), -EBADMSG, "place %zu", i);
        *places[i] -= 4096;
    }
    uint32_t *counts[] = {&h->pools, &h->slots, &h->tasks, &h->chunks};
    static const uint32_t wrong[] = {0, 1, 1 << 30, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        uint32_t right = *counts[i];
        for (size_t k = 0; k < ARRAY_SIZE(wrong); k++) {
            *counts[i] = wrong[k];
            cr_expect_eq(shm_view(&s, copy, 1 << 20), -EBADMSG, "count %zu, %u", i, wrong[k]);
        }
        *counts[i] = right;
    }
    cr_expect_eq(shm_view(&s, copy, 1 << 20), 0);
    shm_detach(&own);
}

Test(shm, a_pool_is_made_once) {
    struct shm s = new_segment(1 << 20);
    cr_expect_eq(shm_pool_create(&s, 0, "again", 10), -EEXIST);
    cr_expect_eq(shm_pool_create(&s, 1, "", 10), -EINVAL);
    cr_expect_eq(shm_pool_create(&s, 1, "a_name_of_forty_bytes_leaves_no_room_nul", 10), -EINVAL);
    cr_expect_eq(shm_pool_create(&s, SHM_POOLS, "x", 10), -EINVAL);
    cr_expect_eq(shm_pool_create(&s, 1, "x", 0), -EINVAL);
    cr_expect_eq(shm_pool_create(&s, 1, "x", 4 << 20), -ENOMEM);
    checked(&s);
    cr_expect_eq(shm_pool_create(&s, 1, "x", 1), 0);
    cr_expect_eq(checked(&s).blocks, 2);
    shm_detach(&s);
}

/* ---- tasks ---- */

static void hold(struct shm *s, uint32_t priority, struct task_ref *ret) {
    struct task_spec spec = {
        .payload = {"p", 1}, .priority = priority, .policy = {"behind", 6}, .hold = true};
    cr_assert_eq(task_submit(s, &spec, ret), 0);
}

static void claims(struct shm *w, const struct task_ref *t) {
    struct task_ref c;
    cr_assert_eq(task_claim(w, 0, &c), 0);
    cr_assert_eq(c.id, t->id);
    cr_assert_eq(task_finish(w, &c, &(struct task_outcome){.state = TASK_DONE}), 0);
}

Test(shm, held_tasks_are_claimed_in_the_order_of_their_release) {
    struct shm s = new_segment(4 << 20), w = second(&s);
    struct task_ref held[3], plain, c;
    struct task_view v;
    uint64_t head;
    cr_expect_eq(task_ready_head(&s, 0, &head), -EAGAIN);
    for (uint32_t i = 0; i < 3; i++) {
        hold(&s, 10 + i, &held[i]);
    }
    cr_expect_eq(task_claim(&w, 0, &c), -EAGAIN, "they are held");
    cr_assert_eq(task_view(&s, held[1].idx, &v), 0);
    cr_expect(v.state == TASK_WAITING && v.priority == 11 && v.policy.len == 6);
    cr_expect_arr_eq(v.policy.data, "behind", 6);
    cr_assert_eq(submit(&s, "x", 1, &plain), 0);
    cr_expect_eq(task_ready_head(&s, 0, &head), 0);
    cr_assert_eq(task_release(&s, held[0].idx, held[0].id, true), 0);
    cr_expect_eq(task_release(&s, held[0].idx, held[0].id, true), -ESTALE);
    /* a better one: the first is recalled, and comes behind it */
    cr_assert_eq(task_recall(&s, held[0].idx, held[0].id), 0);
    cr_expect_eq(task_recall(&s, held[0].idx, held[0].id), -ESTALE);
    task_prune_front(&s, 0);
    cr_expect_eq(task_front_length(&s, 0), 0);
    cr_assert_eq(task_release(&s, held[2].idx, held[2].id, true), 0);
    cr_assert_eq(task_release(&s, held[0].idx, held[0].id, true), 0);
    cr_assert_eq(task_release(&s, held[1].idx, held[1].id, false), 0);
    claims(&w, &held[2]);
    claims(&w, &held[0]);
    task_refill(&s, 0, true, 1);
    cr_expect_eq(task_claim(&w, 0, &c), -EAGAIN, "the daemon has something better");
    task_refill(&s, 0, true, INT64_MAX);
    task_pause(&s, 0, true);
    cr_expect_eq(task_claim(&w, 0, &c), -EAGAIN, "the pool is paused");
    task_pause(&s, 0, false);
    claims(&w, &plain);
    claims(&w, &held[1]);
    checked(&s);
    shm_detach(&w);
    shm_detach(&s);
}

Test(shm, a_failed_task_is_tried_again) {
    struct shm s = new_segment(4 << 20), w = second(&s);
    struct task_ref t, c;
    struct task_view v;
    void *p;
    cr_assert_eq(submit(&s, "x", 1, &t), 0);
    cr_expect_eq(task_retry(&s, t.idx, t.id, false), -ESTALE, "it has not failed");
    cr_assert_eq(task_claim(&w, 0, &c), 0);
    cr_assert_eq(task_output(&w, &c, 0, 5000, &p), 0);
    cr_assert_eq(task_log(&w, &c, "said", 4), 0);
    task_set_late(&s, t.idx, t.id);
    cr_expect(task_cancel_wanted(&w, &c) && task_is_late(&w, &c));
    cr_assert_eq(
        task_finish(&w, &c, &(struct task_outcome){.state = TASK_FAILED, .output_len = 5000}), 0);
    cr_assert_eq(task_retry(&s, t.idx, t.id, true), 0);
    cr_assert_eq(task_view(&s, t.idx, &v), 0);
    cr_expect(v.state == TASK_WAITING && v.attempt == 1 && v.kills == 1 && v.worker_pid == 0);
    cr_expect_eq(checked(&s).blocks, 1, "output and log are given back");
    uint32_t idx;
    cr_assert_eq(task_sweep_waiting(&s, 0, UINT32_MAX, &idx), 0);
    cr_expect_eq(idx, t.idx);
    cr_assert_eq(task_release(&s, t.idx, t.id, false), 0);
    cr_assert_eq(task_claim(&w, 0, &c), 0);
    cr_expect_not(task_cancel_wanted(&w, &c));
    cr_assert_eq(task_view(&s, t.idx, &v), 0);
    cr_expect_eq(v.attempt, 2);
    shm_detach(&w);
    shm_detach(&s);
}

Test(shm, a_task_goes_through_two_handles) {
    struct shm s = new_segment(4 << 20), w = second(&s);
    struct task_ref t, c;
    struct task_view v;
    struct task_bytes args[] = {{"one", 3}, {"", 0}, {"\0\n", 2}}, a;
    struct task_spec spec = {
        .payload = {"bytes", 5}, .args = args, .nargs = 3, .handler = 4, .client = 8, .uid = 9};
    cr_assert_eq(task_claim(&w, 0, &c), -EAGAIN);
    cr_assert_eq(task_submit(&s, &spec, &t), 0);
    cr_expect_eq(task_ring_length(&s, 0), 1);
    cr_assert_eq(task_view(&s, t.idx, &v), 0);
    cr_expect_eq(v.state, TASK_QUEUED);
    cr_assert_eq(task_claim(&w, 0, &c), 0);
    cr_expect(c.idx == t.idx && c.id == t.id);
    cr_assert_eq(task_view(&s, t.idx, &v), 0);
    cr_expect(v.state == TASK_RUNNING && v.attempt == 1 && v.worker_pid == (uint32_t)getpid());
    cr_expect(v.id == t.id && v.handler == 4 && v.client == 8 && v.uid == 9 && v.nargs == 3);
    cr_expect_eq(v.payload.len, 5);
    cr_expect_arr_eq(v.payload.data, "bytes", 5);
    size_t at = 0;
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(task_arg(&v, &at, &a), 0);
        cr_expect_eq(a.len, args[i].len);
        cr_expect_eq(memcmp(a.data, args[i].data, a.len), 0);
        cr_expect_eq(((const char *)a.data)[a.len], '\0');
    }
    cr_expect_eq(task_arg(&v, &at, &a), -ENOENT);

    cr_expect_not(task_cancel_wanted(&w, &c));
    task_set_cancel(&s, t.idx, t.id + 1);
    cr_expect_not(task_cancel_wanted(&w, &c));
    task_set_cancel(&s, t.idx, t.id);
    cr_expect(task_cancel_wanted(&w, &c));

    void *p;
    uint32_t idx;
    cr_assert_eq(task_output(&w, &c, 0, 2, &p), 0);
    memcpy(p, "ok", 2);
    cr_expect_eq(task_log(&w, &c, "said", 4), 0);
    cr_expect_eq(task_log(&w, &c, "more", 4), -EEXIST);
    struct task_outcome o = {
        .state = TASK_FAILED, .cause = CAUSE_ERROR, .code = -5, .output_len = 2};
    cr_expect_eq(task_free(&s, t.idx, t.id), -ESTALE, "it is running");
    cr_expect_eq(task_end_queued(&s, t.idx, t.id, TASK_CANCELLED, CAUSE_CANCELLED), -ESTALE);
    cr_expect_not(task_any_ended(&s));
    cr_assert_eq(task_finish(&w, &c, &o), 0);
    cr_expect_eq(task_finish(&w, &c, &o), -ESTALE);
    cr_expect(task_any_ended(&s));
    cr_assert_eq(task_next_ended(&s, &idx), 0);
    cr_expect_eq(idx, t.idx);
    cr_expect_eq(task_next_ended(&s, &idx), 0, "who finishes in vain has the daemon look");
    cr_expect_eq(task_next_ended(&s, &idx), -EAGAIN);
    cr_assert_eq(task_view(&s, t.idx, &v), 0);
    cr_expect(v.state == TASK_FAILED && v.cause == CAUSE_ERROR && v.code == -5);
    cr_expect(v.output.len == 2 && memcmp(v.output.data, "ok", 2) == 0);
    cr_expect(v.log.len == 4 && memcmp(v.log.data, "said", 4) == 0);
    cr_expect(v.submitted_ns <= v.started_ns && v.started_ns <= v.ended_ns);
    cr_expect_eq(task_free(&s, t.idx, t.id + 1), -ESTALE, "another id");
    cr_expect_eq(task_free(&s, t.idx, t.id), 0);
    cr_expect_eq(task_free(&s, t.idx, t.id), -ESTALE);
    cr_expect_eq(task_view(&s, t.idx, &v), -ENOENT);
    cr_expect_eq(task_view(&s, TASKS, &v), -ENOENT);
    cr_expect_eq(checked(&s).blocks, 1);
    shm_detach(&w);
    shm_detach(&s);
}

Test(shm, a_cancelled_task_is_never_claimed) {
    struct shm s = new_segment(4 << 20);
    struct task_ref t, c;
    struct task_view v;
    cr_assert_eq(submit(&s, "x", 1, &t), 0);
    cr_assert_eq(task_end_queued(&s, t.idx, t.id, TASK_CANCELLED, CAUSE_CANCELLED), 0);
    cr_expect_eq(task_end_queued(&s, t.idx, t.id, TASK_CANCELLED, CAUSE_CANCELLED), -ESTALE);
    cr_expect_eq(task_claim(&s, 0, &c), -EAGAIN);
    cr_assert_eq(task_view(&s, t.idx, &v), 0);
    cr_expect(v.state == TASK_CANCELLED && v.cause == CAUSE_CANCELLED && v.output.len == 0);
    uint32_t idx;
    cr_assert_eq(task_sweep(&s, 0, UINT32_MAX, &idx), 0);
    cr_expect_eq(idx, t.idx);
    cr_expect_eq(task_sweep(&s, idx + 1, UINT32_MAX, &idx), -ENOENT);
    cr_expect_eq(task_free(&s, t.idx, t.id), 0);
    shm_detach(&s);
}

Test(shm, results_and_payloads_of_any_size) {
    struct shm s = new_segment(UINT64_C(400) << 20);
    static const size_t sizes[] = {0,
                                   1,
                                   55,
                                   56,
                                   57,
                                   63,
                                   64,
                                   65,
                                   127,
                                   1000,
                                   8191,
                                   8192,
                                   8193,
                                   16384,
                                   16385,
                                   100000,
                                   1000000,
                                   1 << 25,
                                   (64 << 20) - 1,
                                   64 << 20};
    _cleanup_free_ char *bytes = malloc(64 << 20);
    cr_assert_not_null(bytes);
    for (size_t i = 0; i < 64 << 20; i++) {
        bytes[i] = (char)(i * 31 >> 3);
    }
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct task_ref t, c;
        struct task_view v;
        void *p;
        cr_assert_eq(submit(&s, bytes, sizes[i], &t), 0, "%zu", sizes[i]);
        cr_assert_eq(task_claim(&s, 0, &c), 0);
        cr_assert_eq(task_output(&s, &c, 0, sizes[i], &p), 0);
        memcpy(p, bytes, sizes[i]);
        struct task_outcome o = {.state = TASK_DONE, .cause = CAUSE_RESULT, .output_len = sizes[i]};
        cr_assert_eq(task_finish(&s, &c, &o), 0);
        cr_assert_eq(task_view(&s, t.idx, &v), 0);
        cr_assert(v.payload.len == sizes[i] && v.output.len == sizes[i]);
        cr_expect_eq(memcmp(v.payload.data, bytes, sizes[i]), 0, "payload of %zu", sizes[i]);
        cr_expect_eq(memcmp(v.output.data, bytes, sizes[i]), 0, "output of %zu", sizes[i]);
        checked(&s);
        cr_assert_eq(task_free(&s, t.idx, t.id), 0);
    }
    struct task_ref t;
    cr_expect_eq(submit(&s, bytes, (64 << 20) + 65537, &t), -EMSGSIZE);
    cr_expect_eq(submit(&s, NULL, SIZE_MAX, &t), -EMSGSIZE);
    cr_expect_eq(checked(&s).blocks, 1);
    shm_detach(&s);
}

Test(shm, a_full_segment_says_so_and_stays_whole) {
    struct shm s = new_segment(2 << 20);
    static const size_t sizes[] = {30000, 5000, 200};
    static char bytes[30000];
    struct task_ref t, refs[TASKS];
    struct shm_report before, after;
    size_t n = 0;
    for (size_t k = 0; k < ARRAY_SIZE(sizes); k++) {
        while (n < TASKS && submit(&s, bytes, sizes[k], &refs[n]) == 0) {
            n++;
        }
        before = checked(&s);
        for (int i = 0; i < 3; i++) {
            cr_expect_eq(submit(&s, bytes, sizes[k], &t), -ENOMEM);
        }
        after = checked(&s);
        cr_expect_eq(memcmp(&before, &after, sizeof(before)), 0, "size %zu", sizes[k]);
    }
    cr_expect_eq(task_ring_length(&s, 0), n);
    for (size_t i = 0; i < n; i++) {
        cr_assert_eq(task_end_queued(&s, refs[i].idx, refs[i].id, TASK_LOST, CAUSE_STOPPING), 0);
        cr_assert_eq(task_free(&s, refs[i].idx, refs[i].id), 0);
    }
    after = checked(&s);
    cr_expect_eq(after.blocks, 1);
    cr_expect_eq(after.tasks[TASK_FREE], TASKS);
    shm_detach(&s);
}

Test(shm, no_record_left_and_no_room_in_the_ring) {
    struct shm s = new_segment(2 << 20);
    struct task_ref t;
    cr_assert_eq(shm_pool_create(&s, 1, "small", 1), 0);
    struct task_spec spec = {.pool = 1, .payload = {"x", 1}};
    for (int i = 0; i < TASKS; i++) {
        cr_assert_eq(task_submit(&s, &spec, &t), 0);
    }
    cr_expect_eq(task_submit(&s, &spec, &t), -ENOMEM, "all records are taken");
    /* hints of tasks that are gone still fill the ring */
    int r = 0;
    for (int i = 0; r == 0 && i < 200; i++) {
        cr_assert_eq(task_end_queued(&s, t.idx, t.id, TASK_CANCELLED, CAUSE_CANCELLED), 0);
        cr_assert_eq(task_free(&s, t.idx, t.id), 0);
        r = task_submit(&s, &spec, &t);
    }
    cr_expect_eq(r, -ENOBUFS);
    struct shm_report report = checked(&s);
    cr_expect(report.tasks[TASK_QUEUED] == TASKS - 1 && report.tasks[TASK_FREE] == 1);
    cr_expect_eq(task_submit(&s, &spec, &t), -ENOBUFS);
    task_prune(&s, 1);
    cr_expect_eq(task_ring_length(&s, 1), TASKS - 1);
    cr_expect_eq(task_submit(&s, &spec, &t), 0);
    checked(&s);
    uint64_t last = 0;
    for (int i = 0; i < TASKS; i++) {
        cr_assert_eq(task_claim(&s, 1, &t), 0, "and the queued ones are still there");
        cr_expect_gt(t.id, last, "in their order");
        last = t.id;
    }
    cr_expect_eq(task_claim(&s, 1, &t), -EAGAIN);
    shm_detach(&s);
}

Test(shm, a_sweep_looks_where_it_is_told_and_where_records_were_used) {
    struct shm s = new_segment(2 << 20);
    struct task_ref t[3];
    uint32_t idx;
    for (uint32_t i = 0; i < 3; i++) {
        cr_assert_eq(submit(&s, "x", 1, &t[i]), 0);
        cr_assert_eq(t[i].idx, i);
    }
    cr_assert_eq(task_end_queued(&s, 1, t[1].id, TASK_CANCELLED, CAUSE_CANCELLED), 0);
    cr_expect_eq(task_sweep(&s, 0, 1, &idx), -ENOENT);
    cr_expect_eq(task_sweep(&s, 0, 2, &idx), 0);
    cr_expect_eq(idx, 1);
    cr_expect_eq(task_sweep(&s, 2, UINT32_MAX, &idx), -ENOENT);
    cr_expect_eq(s.head->tasks_used, 3);
    s.head->tasks_used = UINT64_MAX; /* another process may write anything */
    cr_expect_eq(task_sweep(&s, 2, UINT32_MAX, &idx), -ENOENT);
    shm_detach(&s);
}

Test(shm, output_grows_and_keeps_what_was_written) {
    struct shm s = new_segment(4 << 20);
    struct task_ref t, c;
    struct task_view v;
    char *p;
    uint64_t used = 0;
    cr_assert_eq(submit(&s, "x", 1, &t), 0);
    cr_assert_eq(task_claim(&s, 0, &c), 0);
    for (uint64_t n = 1; n <= 100000; n += n / 2 + 1) {
        cr_assert_eq(task_output(&s, &c, used, n, (void **)&p), 0);
        for (; used < n; used++) {
            p[used] = (char)(used * 7);
        }
        checked(&s);
    }
    cr_expect_eq(task_output(&s, &c, used, UINT64_MAX, (void **)&p), -EMSGSIZE);
    cr_expect_eq(task_output(&s, &c, used, 4 << 20, (void **)&p), -ENOMEM);
    cr_expect_eq(task_output(&s, &c, UINT64_MAX, 1, (void **)&p), -EBADMSG);
    struct task_outcome o = {.state = TASK_DONE, .cause = CAUSE_RESULT, .output_len = used};
    cr_assert_eq(task_finish(&s, &c, &o), 0);
    cr_assert_eq(task_view(&s, t.idx, &v), 0);
    cr_assert_eq(v.output.len, used);
    for (uint64_t i = 0; i < used; i++) {
        cr_assert_eq(((const char *)v.output.data)[i], (char)(i * 7));
    }
    shm_detach(&s);
}

Test(shm, records_that_make_no_sense_are_refused) {
    struct shm s = new_segment(2 << 20);
    struct task_ref t;
    struct task_view v;
    static char bytes[1000];
    cr_assert_eq(submit(&s, bytes, sizeof(bytes), &t), 0);
    struct shm_task *r = &s.tasks[t.idx];
    static const uint64_t lengths[] = {1025, 1 << 20, UINT64_C(1) << 40, UINT64_MAX};
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        r->input_len = lengths[i];
        cr_expect_eq(task_view(&s, t.idx, &v), -EBADMSG, "length %zu", i);
    }
    r->input_len = sizeof(bytes);
    r->args_len = UINT32_MAX;
    cr_expect_eq(task_view(&s, t.idx, &v), -EBADMSG);
    r->args_len = 0;
    uint64_t right = r->input_off;
    uint64_t wrong[] = {0, 1, right + 16, s.size - 8, s.size, UINT64_MAX, s.data_off + (1 << 20)};
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        r->input_off = wrong[i];
        cr_expect_eq(task_view(&s, t.idx, &v), -EBADMSG, "offset %zu", i);
    }
    r->input_off = right;
    r->pool = SHM_POOLS;
    cr_expect_eq(task_view(&s, t.idx, &v), -EBADMSG);
    r->pool = 0;
    cr_expect_eq(task_view(&s, t.idx, &v), 0);
    shm_detach(&s);
}

/* ---- bells ---- */

static bool rung(int fd) {
    uint64_t n;
    return read(fd, &n, sizeof(n)) == sizeof(n);
}

Test(shm, the_daemon_is_rung_only_when_it_sleeps) {
    struct shm s = new_segment(2 << 20);
    struct task_ref t;
    struct task_outcome o = {.state = TASK_DONE, .cause = CAUSE_RESULT};
    _cleanup_close_ int bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s.bell_fd = bell;
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(submit(&s, "x", 1, &t), 0);
    }
    cr_assert(task_claim(&s, 0, &t) == 0 && task_finish(&s, &t, &o) == 0);
    cr_expect_not(rung(bell), "it is awake");
    shm_daemon_sleeps(&s);
    cr_assert(task_claim(&s, 0, &t) == 0 && task_finish(&s, &t, &o) == 0);
    cr_expect(rung(bell), "it sleeps");
    cr_assert(task_claim(&s, 0, &t) == 0 && task_finish(&s, &t, &o) == 0);
    cr_expect_not(rung(bell), "it has been rung already");
    shm_daemon_sleeps(&s);
    shm_daemon_wakes(&s);
    cr_assert(task_claim(&s, 0, &t) == 0 && task_finish(&s, &t, &o) == 0);
    cr_expect_not(rung(bell));
    shm_detach(&s);
}

Test(shm, a_deadline_rings_when_it_is_nearer_than_the_next_look) {
    struct shm s = new_segment(2 << 20);
    struct task_ref t;
    struct task_outcome o = {.state = TASK_DONE, .cause = CAUSE_RESULT};
    struct slot_view v;
    _cleanup_close_ int bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s.bell_fd = bell;
    static const uint32_t limits[] = {0, 10000, 10000, 5000};
    for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
        struct task_spec spec = {.payload = {"x", 1}, .timeout_ms = limits[i]};
        cr_assert_eq(task_submit(&s, &spec, &t), 0);
    }
    uint64_t now = clock_now();
    static const bool expected[] = {false, true, false, true};
    for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
        uint32_t news = shm_news(&s);
        shm_daemon_sleeps(&s);
        cr_assert_eq(task_claim(&s, 0, &t), 0);
        cr_expect_eq(rung(bell), expected[i], "task %zu", i);
        cr_expect_eq(shm_news(&s) != news, expected[i], "task %zu", i);
        slot_view(&s, s.slot, &v);
        uint64_t limit = limits[i] * NS_PER_MS;
        cr_expect(limit ? v.deadline_ns >= now + limit : v.deadline_ns == 0);
        if (expected[i]) {
            shm_next_check(&s, i == 1 ? now + 8000 * NS_PER_MS : v.deadline_ns);
        }
        shm_daemon_wakes(&s);
        cr_assert_eq(task_finish(&s, &t, &o), 0);
        slot_view(&s, s.slot, &v);
        cr_expect(v.deadline_ns == 0 && v.started_ns == 0 && v.hand == 0);
    }
    shm_detach(&s);
}

struct sleeper {
    struct shm *s;
    uint32_t slot, gen;
};

/* Waits once for a task; says by its exit status whether it got one. */
static int sleep_for_task(void *arg) {
    struct sleeper *a = arg;
    struct shm s;
    struct task_ref t;
    if (shm_attach(&s, a->s->fd) || slot_attach(&s, a->slot, a->gen)) {
        return 9;
    }
    s.work_spin.ns = 0;
    while (task_claim(&s, 0, &t)) {
        if (slot_told(&s) == SLOT_EXIT) {
            return 1;
        }
        task_wait(&s, 0);
    }
    struct task_outcome o = {.state = TASK_DONE, .cause = CAUSE_RESULT};
    return task_finish(&s, &t, &o) ? 8 : 0;
}

static unsigned napping(struct shm *s) {
    return (unsigned)__builtin_popcountll(atomic_load(&s->pools[0].napping[0]));
}

static char state_of(pid_t pid) {
    char path[64], line[512] = "";
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    cr_assert(f && fgets(line, sizeof(line), f));
    fclose(f);
    return strrchr(line, ')')[2];
}

Test(shm, a_slot_that_is_held_claims_nothing) {
    struct shm s = new_segment(2 << 20);
    struct sleeper a = {.s = &s};
    struct task_ref t;
    struct task_view v;
    struct slot_view slot;
    uint32_t idx;
    cr_assert_eq(submit(&s, "x", 1, &t), 0);
    cr_assert_eq(slot_reserve(&s, 0, &a.slot, &a.gen), 0);
    slot_hold(&s, a.slot, true);
    pid_t pid = child_start(sleep_for_task, &a);
    cr_assert_gt(pid, 0);
    do {
        slot_view(&s, a.slot, &slot);
    } while (slot.pid == 0 || state_of(pid) != 'S');
    cr_assert_eq(task_view(&s, t.idx, &v), 0);
    cr_expect_eq(v.state, TASK_QUEUED);
    cr_expect_eq(napping(&s), 0, "it does not wait for work");
    slot_hold(&s, a.slot, false);
    cr_expect_eq(child_wait(pid), 0);
    cr_expect_eq(task_next_ended(&s, &idx), 0);
    shm_detach(&s);
}

Test(shm, wake_wakes_as_many_sleepers_as_it_says) {
    struct shm s = new_segment(2 << 20);
    struct sleeper a[3];
    pid_t pid[3];
    for (int i = 0; i < 3; i++) {
        a[i].s = &s;
        cr_assert_eq(slot_reserve(&s, 0, &a[i].slot, &a[i].gen), 0);
        pid[i] = child_start(sleep_for_task, &a[i]);
        cr_assert_gt(pid[i], 0);
    }
    while (napping(&s) < 3) {
        sched_yield();
    }
    task_wake(&s, 0, 0);
    cr_expect_eq(napping(&s), 3);
    struct task_ref t;
    uint32_t idx;
    cr_assert_eq(submit(&s, "x", 1, &t), 0);
    task_wake(&s, 0, 1);
    while (task_next_ended(&s, &idx)) {
        sched_yield();
    }
    cr_expect_eq(napping(&s), 2, "one woke, two sleep");
    task_wake(&s, 1, 5);
    cr_expect_eq(napping(&s), 2, "another pool");
    for (int i = 0; i < 3; i++) {
        slot_command(&s, a[i].slot, SLOT_EXIT);
    }
    int got = 0;
    for (int i = 0; i < 3; i++) {
        int status = child_wait(pid[i]);
        cr_expect(status == 0 || status == 1, "%d", status);
        got += status == 0;
    }
    cr_expect_eq(got, 1);
    shm_detach(&s);
}
