/* SPDX-License-Identifier: MIT */
/* A segment in which another process may have written anything. A valid small one, with tasks in
 * every state, blocks, runs and free lists, is patched as the input says and then used as it says:
 * first byte, how many patches; each patch, an area, a place and a value; then verbs, one byte each
 * and an operand. Nothing may crash, assert, read or write outside (the image lies in memory of
 * exactly its size) or take long. With no patch at all the segment must be in order afterwards. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/shm/alloc.h"
#include "lib/shm/check.h"
#include "lib/shm/internal.h"
#include "lib/shm/slot.h"
#include "lib/shm/stream.h"
#include "lib/shm/task.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SIZE = 1 << 20, SLOTS = 4, TASKS = 64, PATCHES_MAX = 32, VERBS_MAX = 48, REFS = 4 };

static void require(int truth) {
    if (!truth) {
        abort();
    }
}

/* ---- the image ---- */

static uint8_t *image, *work;
static struct shm_header layout;

/* A handle on a slot without its life word, which belongs to the C library and to a live segment.
 */
static void become(struct shm *s, uint32_t slot) {
    s->patience_ns = 0;
    s->slot = slot;
    s->mine = &s->slots[slot];
    s->me = owner_word(slot, get32(&s->mine->gen));
}

static const char text[40000] = "input";

static void offer(struct shm *s, uint32_t pool, size_t len, uint32_t nargs) {
    struct task_bytes args[3] = {{"one", 3}, {"", 0}, {text, 50}};
    struct task_spec spec = {.pool = pool,
                             .payload = {text, len},
                             .args = args,
                             .nargs = nargs,
                             .timeout_ms = nargs * 1000,
                             .client = 7};
    struct task_ref t;
    task_submit(s, &spec, &t);
}

static void run_one(struct shm *s, size_t out, bool finish) {
    struct task_ref t;
    void *p;
    if (task_claim(s, 0, &t) || task_output(s, &t, 0, out, &p)) {
        return;
    }
    memset(p, 'r', out);
    task_log(s, &t, text, (uint32_t)(out % 100));
    if (out % 3 == 0) {
        stream_put(s, &t, STREAM_DATA, text, out % 7000, false);
        stream_put_progress(s, &t, 1, 2, text, 5, false);
    }
    struct task_outcome o = {.state = TASK_DONE, .cause = CAUSE_RESULT, .output_len = out};
    if (finish) {
        task_finish(s, &t, &o);
    }
}

static void free_one(struct shm *s) {
    uint32_t idx;
    struct task_view v;
    if (task_next_ended(s, &idx) == 0 && task_view(s, idx, &v) == 0) {
        task_free(s, idx, v.id);
    }
}

static void make_image(void) {
    struct shm s, other;
    struct shm_params params = {.size = SIZE, .slots = SLOTS, .tasks = TASKS};
    require(shm_create(&s, &params) == 0);
    image = malloc(SIZE);
    work = aligned_alloc(4096, SIZE);
    require(image && work);
    require(shm_view(&other, s.base, SIZE) == 0);
    uint32_t slot, gen;
    for (uint32_t i = 0; i + 1 < SLOTS; i++) {
        require(slot_reserve(&s, 0, &slot, &gen) == 0);
    }
    become(&s, 0);
    become(&other, 1);
    require(shm_pool_create(&s, 0, "zero", 8) == 0 && shm_pool_create(&s, 1, "one", 8) == 0);
    static const size_t sizes[] = {0, 20, 64, 65, 300, 5000, 20000, 40000, 100, 100, 100};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        offer(i % 2 ? &s : &other, 0, sizes[i], i % 4);
    }
    static const size_t outs[] = {10, SHM_INLINE_OUT, SHM_INLINE_OUT + 1, 3000, 30000, 8, 9};
    for (size_t i = 0; i < ARRAY_SIZE(outs); i++) {
        run_one(&other, outs[i], true);
    }
    free_one(&s);
    free_one(&s);
    free_one(&s);
    run_one(&other, 2000, false); /* its worker dies with it in hand */
    offer(&s, 1, 200, 2);
    memcpy(&layout, s.base, sizeof(layout));
    memcpy(image, s.base, SIZE);
    s.mine = NULL; /* never locked */
    shm_detach(&s);
}

/* ---- the input ---- */

struct input {
    const uint8_t *p;
    size_t left;
};

static uint64_t take(struct input *in, size_t bytes) {
    uint64_t v = 0;
    for (size_t i = 0; i < bytes && in->left; i++, in->p++, in->left--) {
        v |= (uint64_t)*in->p << i * 8;
    }
    return v;
}

/* A place in one of the areas of the segment, 8-byte aligned. */
static uint64_t place(struct input *in) {
    const struct {
        uint64_t begin, end;
    } areas[] = {
        {0, layout.pools_off},
        {layout.pools_off, layout.slots_off},
        {layout.slots_off, layout.done_off},
        {layout.done_off, layout.free_off},
        {layout.free_off, layout.tasks_off},
        {layout.tasks_off, layout.arenas_off},
        {layout.arenas_off, layout.chunks_off},
        {layout.chunks_off, layout.map_off},
        {layout.map_off, layout.data_off},
        {layout.data_off, SIZE},
        {layout.tasks_off, layout.tasks_off + 16 * sizeof(struct shm_task)},
        {layout.chunks_off, layout.chunks_off + 16 * sizeof(struct shm_chunk)},
        {layout.pools_off, layout.pools_off + 2 * sizeof(struct shm_pool)},
        {offsetof(struct shm_header, next_id), sizeof(struct shm_header)},
    };
    size_t area = take(in, 1) % ARRAY_SIZE(areas);
    uint64_t words = (areas[area].end - areas[area].begin) / 8;
    return areas[area].begin + take(in, 2) % words * 8;
}

static void patch(struct input *in) {
    uint64_t off = place(in), kind = take(in, 1), v;
    memcpy(&v, work + off, 8);
    unsigned shift = kind >> 3 & 7;
    switch (kind & 7) {
    case 0:
        v = take(in, 8);
        break;
    case 1:
        v ^= UINT64_C(1) << (take(in, 1) & 63);
        break;
    case 2:
        v = (v & ~(UINT64_C(0xff) << shift * 8)) | take(in, 1) << shift * 8;
        break;
    case 3:
        v = (v & ~(UINT64_C(0xffffffff) << (shift & 1) * 32)) | take(in, 4) << (shift & 1) * 32;
        break;
    case 4:
        v += take(in, 1) - 128;
        break;
    case 5:
        memcpy(&v, work + place(in), 8);
        break;
    case 6:
        v = place(in); /* an offset */
        break;
    default:
        v = UINT64_MAX << (take(in, 1) & 63);
    }
    memcpy(work + off, &v, 8);
}

/* ---- the verbs ---- */

/* Reads every byte, by a function that the sanitizer watches as a whole. */
static void touch(struct task_bytes b) {
    static uint8_t copy[SIZE];
    require(b.len <= SIZE);
    if (b.len) {
        memcpy(copy, b.data, b.len);
    }
}

static void read_all(struct shm *s) {
    for (uint32_t i = 0; i < TASKS + 1; i++) {
        struct task_view v;
        if (task_view(s, i, &v)) {
            continue;
        }
        touch(v.payload);
        touch(v.output);
        touch(v.log);
        struct task_bytes a;
        size_t at = 0;
        while (task_arg(&v, &at, &a) == 0) {
            touch(a);
        }
        struct stream_frame f;
        struct stream_place from = {0};
        while (stream_read(s, i, v.id, &from, &f) == 0) {
            touch((struct task_bytes){f.words, f.len});
        }
        char cause[96], id[TASK_ID_TEXT];
        task_cause_text(&v, cause);
        require(strlen(cause) < sizeof(cause) && task_id_text(id, v.id, i) < sizeof(id));
    }
}

static void bury(struct shm *s, uint32_t slot) {
    const struct task_outcome lost = {.state = TASK_LOST, .cause = CAUSE_SIGNAL, .signal = 9};
    struct slot_view v;
    uint32_t idx = 0;
    slot_view(s, slot, &v);
    if (s->mine == &s->slots[slot] || slot_bury(s, slot, v.gen)) {
        return;
    }
    int r = task_reap(s, slot, v.gen, &lost, &idx);
    require(r != 1 || idx < TASKS);
    if (r >= 0) {
        slot_release(s, slot, v.gen);
    }
}

static void work_on(struct shm *s, struct task_ref *t, uint8_t how) {
    struct task_outcome o = {.state = how & 1 ? TASK_DONE : TASK_FAILED, .cause = CAUSE_RESULT};
    void *p;
    if (task_output(s, t, how & 2 ? 10 : 0, (uint64_t)how * how, &p) == 0) {
        memset(p, how, (size_t)how * how);
        o.output_len = (uint64_t)how * how;
    }
    if (how & 4) {
        task_log(s, t, text, how * 10u);
    }
    if (how & 16) {
        stream_put(s, t, how % STREAM_KINDS, text, how * 100u, false);
        stream_put_progress(s, t, how, 2, text, how, false);
    }
    task_cancel_wanted(s, t);
    if (how & 8) {
        task_finish(s, t, &o);
    }
}

static void do_verb(struct shm *s, struct task_ref refs[REFS], uint8_t verb, uint8_t x) {
    uint32_t idx = x % (TASKS + 1), pool = x & 1;
    uint64_t id = idx < TASKS ? s->tasks[idx].id : 0;
    struct shm_usage usage;
    switch (verb % 13) {
    case 0:
        offer(s, pool, (size_t)x * x / 2, x & 3);
        task_wake(s, pool, 2);
        break;
    case 1:
        if (task_claim(s, pool, &refs[x / 2 % REFS]) == 0) {
            require(refs[x / 2 % REFS].idx < TASKS);
        }
        break;
    case 2:
        work_on(s, &refs[x / 16 % REFS], x);
        break;
    case 3:
        task_end_queued(s, idx, id, TASK_CANCELLED, CAUSE_CANCELLED);
        break;
    case 4:
        task_set_cancel(s, idx, id);
        stream_watch(s, idx, id, x & 64);
        stream_sent(s, idx, id, &(struct stream_place){x * 8u, 1});
        stream_listen(s, idx, id);
        break;
    case 5:
        if (task_next_ended(s, &idx) == 0) {
            require(idx < TASKS);
        }
        task_any_ended(s);
        break;
    case 6:
        for (uint32_t from = 0; task_sweep(s, from, UINT32_MAX, &idx) == 0; from = idx + 1) {
            require(idx < TASKS);
        }
        break;
    case 7:
        task_free(s, idx, id);
        break;
    case 8:
        bury(s, x % SLOTS);
        break;
    case 9: {
        uint32_t slot, gen;
        if (slot_reserve(s, pool, &slot, &gen) == 0) {
            require(slot < SLOTS);
        }
        break;
    }
    case 10:
        shm_pool_create(s, x % SHM_POOLS, "more", x * 4u + 1);
        break;
    case 11:
        read_all(s);
        break;
    default:
        shm_usage(s, &usage);
        task_ring_length(s, pool);
        slot_is_dead(s, (uint32_t)(id >> 3));
    }
}

static bool claimed_by_us(struct shm *s, const struct task_ref *t) {
    return t->word && get(&s->tasks[t->idx].state) == t->word;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!image) {
        make_image();
    }
    memcpy(work, image, SIZE);
    struct input in = {data, size};
    uint64_t patches = take(&in, 1) % (PATCHES_MAX + 1);
    for (uint64_t i = 0; i < patches; i++) {
        patch(&in);
    }
    struct shm s;
    struct shm_report report;
    int r = shm_view(&s, work, SIZE);
    require(r == 0 || patches);
    if (r) {
        return 0;
    }
    require(shm_check(&s, &report) == 0 && (patches || report.errors == 0));
    read_all(&s);
    uint32_t slot, gen;
    become(&s, slot_reserve(&s, 0, &slot, &gen) ? SLOTS - 1 : slot);
    struct task_ref refs[REFS] = {0};
    for (int i = 0; i < VERBS_MAX && in.left; i++) {
        uint8_t verb = (uint8_t)take(&in, 1), x = (uint8_t)take(&in, 1);
        if (verb % 13 == 2 && !claimed_by_us(&s, &refs[x / 16 % REFS])) {
            continue; /* a worker's verbs are for the task it has claimed */
        }
        do_verb(&s, refs, verb, x);
    }
    read_all(&s);
    require(shm_check(&s, &report) == 0 && (patches || report.errors == 0));
    return 0;
}
