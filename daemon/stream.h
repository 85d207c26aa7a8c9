/* SPDX-License-Identifier: MIT */
/* Who follows what a task tells while it runs (lib/shm/stream.h), and how fast. A task is read only as fast as the slowest of
 * its followers can be given more, and then waits itself; one that nobody follows never waits.
 *
 * Followers are serve's. Tasks of programs, which the daemon itself holds, tell by lease_emit() (lease.h). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/hearthd.h"
#include "lib/shm/stream.h"

struct followed;

struct stream_follower {
    struct list node;
    struct followed *of; /* NULL: follows nothing */
    /* May it be given more? If not, stream_resume() is called when it may. */
    bool (*ready)(struct stream_follower *f);
    void (*frame)(struct stream_follower *f, uint32_t idx, uint64_t id,
                  const struct stream_frame *frame);
    /* The task has waited for it longer than it may: it is to go, but not from inside this call. */
    void (*late)(struct stream_follower *f);
    /* The task has ended, and it follows no more; v NULL: the daemon stops. */
    void (*ended)(struct stream_follower *f, uint32_t idx, const struct task_view *v);
};

/* 0 or a negative errno. */
int stream_open(struct hearthd *d);
void stream_close(struct hearthd *d);

/* Gives f what is kept, and from then on what comes. The task must be known and not ended. 0 or -ENOMEM. */
int stream_follow(struct hearthd *d, uint32_t idx, struct stream_follower *f);
/* By anybody. */
bool stream_is_followed(struct hearthd *d, uint32_t idx);
void stream_unfollow(struct hearthd *d, struct stream_follower *f);
/* What is kept of a task, ended or not, that its followers have been given; all of it if there are none. */
void stream_replay(struct hearthd *d, uint32_t idx, uint64_t id,
                   void (*fn)(void *arg, uint32_t idx, uint64_t id,
                              const struct stream_frame *frame),
                   void *arg);
/* Some follower that was not ready is. */
void stream_resume(struct hearthd *d);

/* ---- for tasks/ ---- */
/* A hint: reads what is there. ended: all of it, and there will be no more. A task that nobody follows (any more, or although it was
 * submitted with STREAM) waits for nobody from then on. */
void stream_look(struct hearthd *d, uint32_t idx, uint64_t id, bool ended);
/* Hints were dropped. */
void stream_look_all(struct hearthd *d);
/* The end has been delivered. */
void stream_ended(struct hearthd *d, uint32_t idx, const struct task_view *v);
/* Whether the stream of such a task is kept with its result, or given back by stream_ended(). */
bool stream_stays(const struct hearthd *d, const struct task_view *v);
