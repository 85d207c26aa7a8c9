/* SPDX-License-Identifier: MIT */
/* Pipes: named pairs of ends, 0 and 1, that carry whole messages. A simplex pipe carries them from end 1 to end 0 only (as
 * multiprocessing.Pipe(False) gives (reader, writer)); a duplex one both ways.
 *
 * An end is held by owners, as a descriptor is by processes that have inherited it; who sends or receives without holding it holds
 * it from then on (if the call succeeds or waits). When an end has been held, and all its holders have closed it or died, the other one's messages come to an end:
 * pipe_recv() says -EPIPE once it is drained, pipe_send() at once. As long as nobody has ever held the other end, both
 * wait. Waiting: as queue.h says, the same call is made again.
 *
 * Inside of an operation that holds the shard of the name. Errors besides those named: -ENOENT (no such pipe), -EPROTOTYPE,
 * -EINVAL (no such end), -EBADF (simplex: that end does not do that), and as queue.h. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/shm/keys.h"
#include "lib/shm/segment.h"
#include "lib/shm/sync.h"

enum { PIPE_BUFFER = 1 << 16 };

struct pipe_params {
    bool duplex;
    uint64_t
        buffer; /* bytes that may be under way in each direction; 0: PIPE_BUFFER. A larger message goes when it is alone */
};

/* 1: made; 0: there is one with the same parameters; -EEXIST: with others. */
int pipe_create(struct shm *s, const struct key_name *name, const struct pipe_params *p);
/* The acting owner holds the end once more. */
int pipe_open(struct shm *s, const struct key_name *name, unsigned end);
/* ... once less. -EPERM: it does not hold it. */
int pipe_close(struct shm *s, const struct key_name *name, unsigned end);
/* 0; -EBUSY, -EINPROGRESS: no room; -EPIPE: nobody holds the other end any more. */
int pipe_send(struct shm *s, const struct key_name *name, unsigned end, const void *data,
              size_t len, unsigned flags);
/* Calls fn once with the next message; what fn returns, if negative, undoes it. 0; -EBUSY, -EINPROGRESS: none there; -EPIPE. */
typedef int pipe_message(void *arg, const void *data, size_t len);
int pipe_recv(struct shm *s, const struct key_name *name, unsigned end, unsigned flags,
              pipe_message *fn, void *arg);
/* 0: pipe_recv() would not wait: a message is there, or -EPIPE is; -EBUSY, -EINPROGRESS: it would. Takes nothing. */
int pipe_poll(struct shm *s, const struct key_name *name, unsigned end, unsigned flags);

struct pipe_view {
    bool duplex;
    uint64_t buffer;
    struct {
        uint64_t holders;         /* owners who hold the end */
        bool held;                /* somebody has, ever */
        uint64_t messages, bytes; /* under way to this end */
    } end[2];
};
/* Reads. */
int pipe_view(struct shm *s, const struct key_name *name, struct pipe_view *ret);
