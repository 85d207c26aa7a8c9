/* SPDX-License-Identifier: MIT */
/* Tasks: records in the segment whose state word is the only authority. Submitters, workers and the
 * daemon each do their part here without a lock on the way; only blocks for large inputs and
 * outputs take the allocator's. "idx" is a record's index; it means a task only together with its
 * id or state word. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/shm/segment.h"

enum task_state {
    TASK_FREE,
    TASK_BUILDING, /* a submitter fills it in */
    TASK_WAITING,  /* the daemon holds it: until it is due, its turn, or to be tried again */
    TASK_QUEUED,
    TASK_RUNNING,
    TASK_DONE, /* from here on terminal */
    TASK_FAILED,
    TASK_LOST,
    TASK_TIMEOUT,
    TASK_CANCELLED,
    TASK_EXPIRED, /* it was not begun in time */
    TASK_FREEING, /* its blocks are being given back */
    TASK_STATES,
};
extern const char
    *const task_state_names[TASK_STATES]; /* "free" "building" "waiting" "queued" ... */
static inline bool task_state_is_terminal(uint32_t state) {
    return state >= TASK_DONE && state <= TASK_EXPIRED;
}

enum task_cause {
    CAUSE_NONE,
    CAUSE_RESULT,    /* the handler gave a result */
    CAUSE_ERROR,     /* the handler failed: code, and its message as output */
    CAUSE_SIGNAL,    /* the worker, or its command, died by `signal`, with a core or not */
    CAUSE_EXIT,      /* the worker, or its command, exited with status `code` */
    CAUSE_TIMEOUT,   /* over its time limit (timeout_ms) */
    CAUSE_CANCELLED, /* by whom is the daemon's to know */
    CAUSE_STOPPING,  /* the daemon was stopping */
    CAUSE_START,     /* the command could not be started: code is the errno */
    CAUSE_EXPIRED,   /* not begun in time */
    CAUSE_DEADLINE,  /* not ended by its deadline */
    CAUSE_HANGUP,    /* the connection of its worker ended */
    CAUSE_SOFT,      /* it ended unfinished when told that it was over its soft limit */
    CAUSE_MEMORY,    /* killed for its memory: code is the limit in KiB; 0: by the kernel */
    CAUSE_DAEMON,    /* the daemon ended, in whatever way, while it ran */
    TASK_CAUSES,
};
extern const char *const
    task_cause_names[TASK_CAUSES]; /* "none" "result" "error" "signal" "exit" "timeout" ... */

struct task_bytes {
    const void *data;
    size_t len;
};

struct task_spec {
    uint32_t pool, handler;
    uint32_t timeout_ms; /* 0: none */
    uint32_t uid;
    uint64_t client;
    struct task_bytes payload;
    const struct task_bytes *args;
    uint32_t nargs;           /* <= 65535 */
    uint32_t priority;        /* 0 to 255: for the daemon, and to be shown */
    struct task_bytes policy; /* <= 65535 bytes of the daemon's own, kept with the task */
    bool hold;                /* WAITING until task_release() */
    bool watched;             /* as by stream_watch(), from the beginning */
    /* A task of old, as the only one at work in the segment: its id, and the record it had, which it gets if that is free. */
    uint64_t id; /* 0: a new task */
    uint32_t idx;
};

/* A task as submitted or claimed: which record, and the state word that proves it is still that
 * task. */
struct task_ref {
    uint32_t idx;
    uint64_t id;
    uint64_t word;
};

/* ---- submitter ---- */
/* Queues a task. The caller then calls task_wake() (once for many). -ENOMEM: the segment or the
 * table of records is full; -ENOBUFS: the pool's ring is full; -EMSGSIZE: payload and arguments
 * over ALLOC_MAX; -EAGAIN: locks are busy (daemon). */
int task_submit(struct shm *s, const struct task_spec *spec, struct task_ref *ret);
/* Drops the hints of tasks that are not queued any more from the pool's rings, where they stay until
 * a worker comes upon them. For who alone submits to the pool, when task_submit() has said -ENOBUFS;
 * once around the rings. The workers are to be woken then: while it runs they may look empty. */
void task_prune(struct shm *s, uint32_t pool);
/* Wakes up to n sleeping workers of the pool. */
void task_wake(struct shm *s, uint32_t pool, uint32_t n);

/* ---- worker ---- */
/* Takes the next task of the pool. 0, or -EAGAIN when there is none. On 0 the record is the
 * caller's until task_finish. */
int task_claim(struct shm *s, uint32_t pool, struct task_ref *ret);
/* The same, of nothing but the task that is ordered for this worker alone. */
int task_claim_ordered(struct shm *s, uint32_t pool, struct task_ref *ret);
/* Waits until there may be work or a command (slot_told). Spins for a while when that has paid off
 * lately. */
void task_wait(struct shm *s, uint32_t pool);
/* A place for at least size bytes of output, to be written directly; the first `used` bytes written
 * to the former place are kept (copied when it moves; it at least doubles then). Valid until the
 * next call. -ENOMEM, -EMSGSIZE, -EAGAIN. */
int task_output(struct shm *s, const struct task_ref *t, uint64_t used, uint64_t size, void **ret);
/* Keeps a copy of a command's stderr (shown with the task). */
int task_log(struct shm *s, const struct task_ref *t, const void *data, uint32_t len);
struct task_outcome {
    enum task_state state; /* DONE, FAILED, or as the worker judges its command: LOST, ... */
    enum task_cause cause;
    int32_t code;
    uint8_t signal, core;
    uint64_t output_len;                  /* bytes of task_output() that count */
    uint64_t user_us, system_us, rss_kib; /* what it has used; 0: not known */
};
/* Ends the claimed task and hands it to the daemon. 0, or -ESTALE when it is no longer this
 * worker's: somebody has written over its record, and the daemon is told to look. */
int task_finish(struct shm *s, const struct task_ref *t, const struct task_outcome *o);
/* It is to stop: because its time is over, or somebody cancelled it. */
bool task_cancel_wanted(struct shm *s, const struct task_ref *t);
bool task_is_late(struct shm *s, const struct task_ref *t);
/* It has run for longer than its soft limit, of which its command is told by this signal; 0: by none. */
bool task_is_soft(struct shm *s, const struct task_ref *t, int *ret_signal);

/* ---- daemon ---- */
/* The next ended task. 0, -EAGAIN (none), or -EOVERFLOW: hints were dropped; look at every record
 * with task_sweep. A hint may come twice or be stale: the caller checks the id and state by
 * task_view(). */
int task_next_ended(struct shm *s, uint32_t *ret_idx);
bool task_any_ended(struct shm *s);
/* From record `from` to before `end`, the next one in a terminal state; -ENOENT: no more. On the way
 * it goes on freeing what this handle, or somebody who has died, could not free because locks were
 * busy. Records that were never used are not looked at: that would cost their memory. */
int task_sweep(struct shm *s, uint32_t from, uint32_t end, uint32_t *ret_idx);
/* QUEUED or WAITING -> a terminal state (CANCELLED, EXPIRED, LOST ...) by the daemon. 0, or -ESTALE
 * when it is neither any more. */
int task_end_queued(struct shm *s, uint32_t idx, uint64_t id, enum task_state state,
                    enum task_cause cause);
/* WAITING -> QUEUED, with a hint in the front ring or at the end of the other; then task_wake(). 0;
 * -ESTALE: it does not wait; -ENOBUFS: the ring is full, it still waits. */
int task_release(struct shm *s, uint32_t idx, uint64_t id, bool front);
/* A WAITING task is for this one worker, who takes it before any other, paused pool or not. 0; -ESTALE: it
 * does not wait; -EBUSY: he has one already that he has not begun. */
int task_order(struct shm *s, uint32_t idx, uint64_t id, uint32_t slot);
/* What slot_view.order names: the task it is, while it waits. 0, or -ENOENT. */
int task_order_of(struct shm *s, uint64_t order, uint32_t *ret_idx, uint64_t *ret_id);
/* QUEUED -> WAITING. The hint stays in its ring; it counts again if the task is released, so whoever
 * recalls to change the order calls task_prune_front() before he releases. 0, or -ESTALE: it is not
 * queued any more. */
int task_recall(struct shm *s, uint32_t idx, uint64_t id);
/* FAILED, LOST or TIMEOUT -> WAITING, to be tried again: output and log are given back, attempts are
 * kept; `killed` counts a death more. For an end that has not been delivered. 0; -ESTALE; -EAGAIN:
 * locks are busy, try again later (the output may be gone already). */
int task_retry(struct shm *s, uint32_t idx, uint64_t id, bool killed);
/* Drops the hints of tasks that are not queued any more from the front ring. */
void task_prune_front(struct shm *s, uint32_t pool);
/* When the first task of the ready ring was submitted; hints before it that count no more are taken
 * off. 0, or -EAGAIN: the ring is empty. */
int task_ready_head(struct shm *s, uint32_t pool, uint64_t *ret_submitted_ns);
bool task_is_queued(struct shm *s, uint32_t idx, uint64_t id);
/* How many hints have ever been taken from the pool's rings. */
uint64_t task_taken(struct shm *s, uint32_t pool);
/* Hints in the front ring, those that count no more included. */
uint64_t task_front_length(struct shm *s, uint32_t pool);
/* While on, workers ring the daemon at each claim, and when they find nothing; and they leave in the
 * ready ring what was not submitted before until_ns, for something that the daemon holds comes
 * before it. */
void task_refill(struct shm *s, uint32_t pool, bool on, int64_t until_ns);
bool task_refill_is_on(const struct shm *s, uint32_t pool);
/* While on, no task of the pool is claimed, but for claims that were under way. Off: wake them. */
void task_pause(struct shm *s, uint32_t pool, bool on);
bool task_is_paused(const struct shm *s, uint32_t pool);
void task_set_priority(struct shm *s, uint32_t idx, uint64_t id, uint32_t priority);
/* Asks a running task to stop (the handler sees it); late: because it should have ended by now. */
void task_set_cancel(struct shm *s, uint32_t idx, uint64_t id);
void task_set_late(struct shm *s, uint32_t idx, uint64_t id);
void task_set_soft(struct shm *s, uint32_t idx, uint64_t id, int signal);
/* Another cause, without a code, of one that has ended and whose end has not been delivered. */
void task_set_cause(struct shm *s, uint32_t idx, uint64_t id, enum task_cause cause);
/* From the next claim on: the daemon is to look at a task of the pool that runs for so long, even if it has no time limit, or
 * a longer one; 0: not. */
void task_look_after(struct shm *s, uint32_t pool, uint32_t ms);
/* From record `from` to before `end`, the next one in state WAITING; -ENOENT: no more. For a daemon
 * that takes over: nobody else knows of them. */
int task_sweep_waiting(struct shm *s, uint32_t from, uint32_t end, uint32_t *ret_idx);
/* After slot_bury(): settles the task a dead owner had in hand: its hint is made again, a
 * half-built record is freed, a running task ends as `o` says (*ret_idx, returns 1: a terminal
 * event the caller must deliver). 0: nothing ended. -EAGAIN: busy, try again later. Idempotent. */
int task_reap(struct shm *s, uint32_t slot, uint32_t gen, const struct task_outcome *o,
              uint32_t *ret_idx);
/* Gives an ended task's memory back. 0; -EAGAIN: try again later; -ESTALE: not an ended task of
 * that id. */
int task_free(struct shm *s, uint32_t idx, uint64_t id);
/* Hints in the pool's ready ring, those of cancelled tasks included until they are skipped. */
uint64_t task_ring_length(struct shm *s, uint32_t pool);

/* ---- reading ---- */
/* A checked copy of a record; pointers lead into the segment (input: valid while the task is not
 * freed; output: once terminal, until freed). */
struct task_view {
    uint64_t id;
    uint32_t state, attempt, owner, pool, handler;
    uint64_t client;
    uint32_t uid, timeout_ms, worker_pid;
    uint32_t priority, kills;
    enum task_cause cause;
    int32_t code;
    uint8_t signal, core;
    uint64_t submitted_ns, started_ns,
        ended_ns; /* CLOCK_MONOTONIC; 0: not yet. WAITING: when the last attempt ended */
    uint64_t user_us, system_us, rss_kib; /* of the last attempt; 0: not known */
    struct task_bytes payload, output, log, policy;
    uint64_t stream_bytes; /* that its stream takes up */
    uint32_t nargs;
    struct task_bytes args_raw; /* private to task_arg() */
};
/* 0; -ENOENT: idx out of range or the record is free; -EBADMSG: its offsets do not make sense. */
int task_view(struct shm *s, uint32_t idx, struct task_view *ret);
/* Steps through the arguments: *at begins as 0. 0, -ENOENT at the end, -EBADMSG. Each is followed
 * by a NUL byte. */
int task_arg(const struct task_view *v, size_t *at, struct task_bytes *ret);

/* ---- ids as text: hex sequence, '-', hex index ---- */
enum { TASK_ID_TEXT = 28 };
size_t task_id_text(char out[TASK_ID_TEXT], uint64_t id,
                    uint32_t idx); /* with NUL; returns its length */
int task_id_parse(const char *text, size_t len, uint64_t *ret_id,
                  uint32_t *ret_idx); /* 0 or -EINVAL */
/* The cause for people: "error 3", "signal 11 (SIGSEGV), core dumped", "exit status 2", "time limit
 * of 500 ms". */
void task_cause_text(const struct task_view *v, char out[96]);
