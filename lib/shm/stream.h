/* SPDX-License-Identifier: MIT */
/* What a task tells while it runs: a stream of frames, in a block of its own that is made with the first one. Who runs
 * the task writes, the daemon reads, and neither takes a lock for it.
 *
 * While nobody follows the task, new frames push out the oldest: the last 16 KiB or so are kept for whoever comes later.
 * While somebody does, only what has been handed on to him is pushed out: the writer waits until the daemon has taken more. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/shm/task.h"

enum stream_kind {
    STREAM_NONE,
    STREAM_DATA,   /* a part of the output, as the handler gives it */
    STREAM_STDOUT, /* of a command or program */
    STREAM_STDERR,
    STREAM_LOG,      /* a line of the handler's */
    STREAM_PROGRESS, /* struct stream_progress, then text */
    STREAM_RETRY, /* the daemon's own: what follows is of another attempt, whose number it is, in decimal */
    STREAM_KINDS,
};
extern const char *const
    stream_kind_names[STREAM_KINDS]; /* "" "data" "stdout" "stderr" "log" "progress" "retry" */

enum {
    STREAM_FRAME = 2040, /* bytes of one frame; more makes several */
    STREAM_TEXT = 200,   /* of a progress */
};

struct stream_progress {
    uint64_t done, total; /* total 0: not known */
};

/* ---- who runs the task ---- */
/* Adds frames. Returns how many bytes were taken, fewer than len only without `wait`: then there is no more room for now;
 * -ECANCELED: the task is to stop, and waits no longer; -ENOMEM (no block for the stream), -EAGAIN (locks), -EBADMSG. */
int64_t stream_put(struct shm *s, const struct task_ref *t, enum stream_kind kind, const void *data,
                   uint64_t len, bool wait);
/* One frame: at most STREAM_TEXT bytes of the text count. 0, or as above; -ENOBUFS: no room, without `wait`. */
int stream_put_progress(struct shm *s, const struct task_ref *t, uint64_t done, uint64_t total,
                        const void *text, uint64_t len, bool wait);
/* Somebody follows the task, or it has told something already. */
bool stream_is_used(struct shm *s, const struct task_ref *t);
/* Sleeps until there is room for a frame, at most so long. For who has also other things to look at. */
void stream_wait(struct shm *s, const struct task_ref *t, uint64_t ns);

/* ---- daemon ---- */
struct stream_frame {
    enum stream_kind kind;
    uint32_t len;
    uint64_t words[STREAM_FRAME / 8]; /* the bytes */
};
/* How far somebody has read. Begins as zeroes: at the oldest frame kept. */
struct stream_place {
    uint64_t at;
    uint32_t attempt; /* 0: has read nothing */
};
/* Copies the frame at *at, or the first one kept after it, and moves *at behind it; to the beginning first if the stream is of
 * another attempt than the place. 0; -EAGAIN: no further one; -ENOENT: there is no stream, or the task is not that one; -EBADMSG:
 * damaged. */
int stream_read(struct shm *s, uint32_t idx, uint64_t id, struct stream_place *at,
                struct stream_frame *ret);
/* All before `at` has been handed on: wakes the writer if he waits for room. */
void stream_sent(struct shm *s, uint32_t idx, uint64_t id, const struct stream_place *at);
/* The next frame is to be hinted again (task_next_ended()). Before reading. */
void stream_listen(struct shm *s, uint32_t idx, uint64_t id);
/* The stream of a task that has ended is not needed any more, since all of it is kept in another form: gives its block back. */
void stream_drop(struct shm *s, uint32_t idx, uint64_t id);
/* From now on a hint comes when there is something in the stream, and nothing is pushed out that stream_sent() has not
 * named; or not any more. */
void stream_watch(struct shm *s, uint32_t idx, uint64_t id, bool on);
