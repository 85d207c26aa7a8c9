/* SPDX-License-Identifier: MIT */
/* What hearthd and a zygote (hearth-worker) say to each other, and what a zygote and its workers
 * inherit: the whole of it is in this header. Both programs come from one build; the segment's
 * signature refuses a mix.
 *
 * hearthd execs one zygote per pool:
 *     hearth-worker --pool NAME --index N (--module PATH | --exec | --program | --prefork)
 *                   [--] ARGS...
 * with these descriptors and no others beside 0 (/dev/null), 1 and 2 (the daemon's stderr).
 *
 * With --prefork it execs the words after "--", which then says and does what a zygote does, on the
 * socket that HEARTH_CONTROL_FD names; it and its workers have no segment. That much is public
 * (PROTOCOL.md), so the head of a message never changes. */
#pragma once

#include <stdint.h>

enum control_fd {
    CONTROL_FD_SOCKET = 3, /* SOCK_SEQPACKET, carries struct control_msg; EOF: the daemon is gone */
    CONTROL_FD_SEGMENT = 4, /* the segment's memfd */
    CONTROL_FD_BELL = 5,    /* eventfd towards the daemon */
    /* SOCK_SEQPACKET, shared by all: whose one end of a SOCK_STREAM socketpair is sent here, with one byte, has a connection
     * to the daemon by the other, as any client has; the pair's maker is who it is */
    CONTROL_FD_DOOR = 6,
};

enum control_kind {
    /* daemon -> zygote */
    /* fork a worker for slot/gen; text: slot and gen (two uint32_t) of each further thread. Of a
     * program: the descriptor that comes with it is its connection; of others, its leash, if it gets one. If `pid` is 1, which it
     * is not with --prefork, the last descriptor is the cgroup.procs of the worker's control group, which it is to join */
    CONTROL_SPAWN = 1,
    /* zygote -> daemon */
    /* the module is loaded and initialised; text: handler names, each ended by '\n' */
    CONTROL_READY = 2,
    /* slot/gen now has process pid. The worker is a child of the daemon (made by a double fork
     * below a subreaper), so only the daemon reaps it and the pid cannot be reused */
    CONTROL_SPAWNED = 3,
    /* the pool cannot start, or (slot != 0) one fork failed; text: why */
    CONTROL_FAILED = 4,
};

enum { CONTROL_TEXT = 8000, CONTROL_SPAWN_FDS = 2 };

/* Sent up to the end of text (text_len bytes, not NUL-terminated). */
struct control_msg {
    uint32_t kind; /* enum control_kind */
    uint32_t slot;
    uint32_t gen;
    int32_t pid;
    uint32_t text_len;
    char text[CONTROL_TEXT];
};

#define CONTROL_HEAD offsetof(struct control_msg, text)

/* What a program finds in its environment: the number of its connection's descriptor, or with
 * --prefork that of the control socket; and the pool's name. */
#define CONTROL_ENV_WORKER  "HEARTH_WORKER_FD"
#define CONTROL_ENV_CONTROL "HEARTH_CONTROL_FD"
#define CONTROL_ENV_POOL    "HEARTH_POOL"

/* The handler name of an exec pool, which has just this one. */
#define CONTROL_EXEC_HANDLER "run"
