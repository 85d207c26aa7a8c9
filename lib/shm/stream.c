/* SPDX-License-Identifier: MIT */
/* A task's stream (the picture is above struct shm_stream in layout.h).
 *
 * One writer, who runs the task, and one reader, the daemon. Only the writer moves head and tail; the reader says how far
 * he has come (`sent`) and whether he listens at all (shm_task.watched). So dropping the oldest frame and adding one are
 * plain stores by one process: a frame counts when tail is raised behind it, and whoever dies before has added nothing.
 * The block is made aside (spare_off), and becomes the stream by a swap once its head is in order.
 *
 * Only the reader gives the block back, when the task has ended: he writes into it too, and would write into somebody
 * else's block if the writer could take it from under him.
 *
 * The reader copies a frame and looks at head again: has it passed the frame, then what was copied may be torn, and he goes
 * on with what is kept. While he listens that cannot happen to what he has not sent, so he then misses nothing.
 *
 * Telling him: the writer raises tail and then looks at `watched`; he sets `watched` and then looks at tail. One hint in the
 * ring of ended tasks stands for all frames, until he clears `hinted`.
 *
 * Waiting for room is a sleep on a futex of the stream, never without end: the writer looks at the flag that tells a task to
 * stop each time he wakes, at least every 100 ms.
 *
 * Fails: as stream.h says. All that is read is checked: anybody with the segment may have written it. */
#include "lib/shm/stream.h"

#include <errno.h>
#include <string.h>

#include "lib/shm/alloc.h"
#include "lib/shm/ring.h"
#include "lib/shm/task_private.h"

#define LOOK_NS (100 * NS_PER_MS)

enum { WORDS = sizeof(((struct shm_stream *)0)->words) / 8, ROOM = WORDS * 8 };
_Static_assert((STREAM_FRAME + 8) * 4 < ROOM, "some frames must fit");

const char *const stream_kind_names[STREAM_KINDS] = {"",    "data",     "stdout", "stderr",
                                                     "log", "progress", "retry"};

static struct shm_stream *stream_at(struct shm *s, uint64_t off) {
    return off % SHM_LINE == 0 ? alloc_ptr(s, off, sizeof(struct shm_stream)) : NULL;
}

static uint64_t frame_size(uint64_t len) {
    return 8 + ((len + 7) & ~UINT64_C(7));
}

/* The size of the frame at `at`; 0: it makes no sense. */
static uint64_t frame_at(const struct shm_stream *m, uint64_t at, uint64_t tail,
                         uint64_t *ret_head) {
    uint64_t head = get(&m->words[at / 8 % WORDS]);
    uint64_t size = frame_size(head >> 32);
    *ret_head = head;
    return head >> 32 <= STREAM_FRAME && at % 8 == 0 && tail >= at && size <= tail - at ? size : 0;
}

/* ---- the writer ---- */

/* The task's stream, made if there is none. 0, -ENOMEM, -EAGAIN, -EBADMSG. */
static int open_stream(struct shm *s, struct shm_task *t, struct shm_stream **ret) {
    uint64_t off = get(&t->stream_off);
    if (!off) {
        int r = alloc_take_back(s, &t->spare_off); /* of an output's growth */
        r = r == -EAGAIN ? r : alloc_give(s, &t->spare_off, sizeof(struct shm_stream));
        struct shm_stream *m = r == 0 ? stream_at(s, get(&t->spare_off)) : NULL;
        if (!m) {
            return r ? r : -EBADMSG;
        }
        put(&m->head, 0);
        put(&m->tail, 0);
        put(&m->sent, 0);
        put32(&m->hinted, 0);
        put32(&m->waiting, 0);
        put32(&m->room, 0);
        poke(m->attempt, word_attempt(state_load(t)));
        atomic_thread_fence(memory_order_seq_cst);
        alloc_swap(s, &t->stream_off, &t->spare_off);
        off = get(&t->stream_off);
    }
    *ret = stream_at(s, off);
    return *ret ? 0 : -EBADMSG;
}

/* Drops the oldest frames until there is room for size bytes. False: somebody has yet to get them. */
static bool make_room(struct shm_task *t, struct shm_stream *m, uint64_t size) {
    uint64_t tail = get(&m->tail);
    for (;;) {
        uint64_t head = get(&m->head), word;
        if (head > tail || tail - head > ROOM) {
            put(&m->head, tail); /* damaged */
            continue;
        }
        if (tail - head + size <= ROOM) {
            return true;
        }
        if (head >= atomic_load(&m->sent) && atomic_load(&t->watched)) {
            return false;
        }
        uint64_t n = frame_at(m, head, tail, &word);
        put(&m->head, n ? head + n : tail);
        atomic_thread_fence(memory_order_seq_cst); /* before it is overwritten */
    }
}

static void wait_for_room(struct shm_task *t, struct shm_stream *m, uint64_t size, uint64_t ns) {
    uint32_t room = atomic_load(&m->room);
    atomic_store(&m->waiting, 1);
    if (!make_room(t, m, size)) {
        futex_wait(&m->room, room, ns);
    }
    atomic_store(&m->waiting, 0);
}

static void tell(struct shm *s, struct shm_task *t, struct shm_stream *m, uint32_t idx) {
    if (!atomic_load(&t->watched) || atomic_exchange(&m->hinted, 1)) {
        return;
    }
    if (ring_put(s, &s->head->done, idx)) {
        atomic_store(&s->head->sweep, 1);
    }
    shm_ring_daemon(s);
}

/* Bytes to whole words; the last is filled up with zeroes. */
static void put_bytes(struct shm_stream *m, uint64_t at, const char *data, uint64_t len) {
    for (uint64_t i = 0; i < len; i += 8) {
        uint64_t v = 0;
        memcpy(&v, data + i, len - i < 8 ? len - i : 8);
        put(&m->words[(at + i) / 8 % WORDS], v);
    }
}

/* One frame of a prefix (a multiple of 8 bytes) and bytes. 0; 1: no room; -ECANCELED. */
static int put_frame(struct shm *s, const struct task_ref *ref, struct shm_stream *m,
                     enum stream_kind kind, struct task_bytes prefix, struct task_bytes bytes,
                     bool wait) {
    struct shm_task *t = &s->tasks[ref->idx];
    uint64_t len = prefix.len + bytes.len, size = frame_size(len);
    while (!make_room(t, m, size)) {
        if (!wait) {
            return 1;
        }
        if (task_cancel_wanted(s, ref) || state_load(t) != ref->word) {
            return -ECANCELED;
        }
        wait_for_room(t, m, size, LOOK_NS);
    }
    uint64_t at = get(&m->tail);
    put(&m->words[at / 8 % WORDS], kind | len << 32);
    put_bytes(m, at + 8, prefix.data, prefix.len);
    put_bytes(m, at + 8 + prefix.len, bytes.data, bytes.len);
    atomic_store(&m->tail, at + size);
    tell(s, t, m, ref->idx);
    return 0;
}

int64_t stream_put(struct shm *s, const struct task_ref *ref, enum stream_kind kind,
                   const void *data, uint64_t len, bool wait) {
    struct shm_stream *m;
    int r = open_stream(s, &s->tasks[ref->idx], &m);
    uint64_t done = 0;
    while (r == 0 && done < len) {
        uint64_t n = len - done < STREAM_FRAME ? len - done : STREAM_FRAME;
        struct task_bytes part = {(const char *)data + done, n};
        r = put_frame(s, ref, m, kind, (struct task_bytes){NULL, 0}, part, wait);
        done += r == 0 ? n : 0;
    }
    return r < 0 ? r : (int64_t)done;
}

int stream_put_progress(struct shm *s, const struct task_ref *ref, uint64_t done, uint64_t total,
                        const void *text, uint64_t len, bool wait) {
    const struct stream_progress p = {done, total};
    struct shm_stream *m;
    int r = open_stream(s, &s->tasks[ref->idx], &m);
    struct task_bytes bytes = {text, len < STREAM_TEXT ? len : STREAM_TEXT};
    r = r ? r
          : put_frame(s, ref, m, STREAM_PROGRESS, (struct task_bytes){&p, sizeof(p)}, bytes, wait);
    return r == 1 ? -ENOBUFS : r;
}

bool stream_is_used(struct shm *s, const struct task_ref *ref) {
    const struct shm_task *t = &s->tasks[ref->idx];
    return get32(&t->watched) || get(&t->stream_off);
}

void stream_wait(struct shm *s, const struct task_ref *ref, uint64_t ns) {
    struct shm_task *t = &s->tasks[ref->idx];
    uint64_t off = get(&t->stream_off);
    struct shm_stream *m = off ? stream_at(s, off) : NULL;
    if (m) {
        wait_for_room(t, m, frame_size(STREAM_FRAME), ns);
    }
}

/* ---- the daemon ---- */

static struct shm_stream *stream_of(struct shm *s, uint32_t idx, uint64_t id, uint64_t *ret_off) {
    uint64_t word;
    struct shm_task *t = task_record(s, idx, id, &word);
    *ret_off = t ? atomic_load(&t->stream_off) : 0;
    return *ret_off ? stream_at(s, *ret_off) : NULL;
}

/* Reads the frame at `at` without looking whether it stays. Its size, or 0. */
static uint64_t copy_frame(const struct shm_stream *m, uint64_t at, uint64_t tail,
                           struct stream_frame *ret) {
    uint64_t word, size = frame_at(m, at, tail, &word);
    if (size == 0 || (word & 0xff) == STREAM_NONE || (word & 0xff) >= STREAM_KINDS) {
        return 0;
    }
    ret->kind = (enum stream_kind)(word & 0xff);
    ret->len = (uint32_t)(word >> 32);
    for (uint64_t i = 0; i < (size - 8) / 8; i++) {
        ret->words[i] = get(&m->words[(at / 8 + 1 + i) % WORDS]);
    }
    return ret->kind != STREAM_PROGRESS || ret->len >= sizeof(struct stream_progress) ? size : 0;
}

int stream_read(struct shm *s, uint32_t idx, uint64_t id, struct stream_place *at,
                struct stream_frame *ret) {
    uint64_t off;
    struct shm_stream *m = stream_of(s, idx, id, &off);
    if (!m) {
        return -ENOENT;
    }
    uint32_t attempt = peek(m->attempt);
    uint64_t begin = at->attempt == attempt ? at->at : 0;
    for (;;) {
        uint64_t head = atomic_load(&m->head), tail = atomic_load(&m->tail);
        uint64_t from = begin > head ? begin : head;
        if (from == tail) {
            return -EAGAIN;
        }
        uint64_t size = from < tail && tail - from <= ROOM ? copy_frame(m, from, tail, ret) : 0;
        atomic_thread_fence(memory_order_seq_cst);
        if (atomic_load(&s->tasks[idx].stream_off) != off) {
            return -ENOENT;
        }
        if (atomic_load(&m->head) > from) {
            continue; /* torn, perhaps */
        }
        if (size) {
            *at = (struct stream_place){.at = from + size, .attempt = attempt};
        }
        return size ? 0 : -EBADMSG;
    }
}

static void wake_writer(struct shm_stream *m) {
    if (atomic_load(&m->waiting) && atomic_exchange(&m->waiting, 0)) {
        atomic_fetch_add(&m->room, 1);
        futex_wake(&m->room, 1);
    }
}

void stream_sent(struct shm *s, uint32_t idx, uint64_t id, const struct stream_place *at) {
    uint64_t off;
    struct shm_stream *m = stream_of(s, idx, id, &off);
    if (m && peek(m->attempt) == at->attempt) {
        atomic_store(&m->sent, at->at);
        wake_writer(m);
    }
}

void stream_listen(struct shm *s, uint32_t idx, uint64_t id) {
    uint64_t off;
    struct shm_stream *m = stream_of(s, idx, id, &off);
    if (m) {
        atomic_store(&m->hinted, 0);
    }
}

void stream_watch(struct shm *s, uint32_t idx, uint64_t id, bool on) {
    uint64_t word, off;
    struct shm_task *t = task_record(s, idx, id, &word);
    if (!t) {
        return;
    }
    atomic_store(&t->watched, on);
    struct shm_stream *m = stream_of(s, idx, id, &off);
    if (m && !on) {
        wake_writer(m);
    }
}

void stream_drop(struct shm *s, uint32_t idx, uint64_t id) {
    uint64_t word;
    struct shm_task *t = task_record(s, idx, id, &word);
    if (t && get(&t->stream_off) && task_state_is_terminal(word_state(word))) {
        alloc_take_back(s, &t->stream_off); /* busy: it goes with the record */
    }
}
