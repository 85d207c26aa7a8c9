/* SPDX-License-Identifier: MIT */
/* A pool without hearthd: a segment, a real hearth-worker as its zygote, and the test itself in the
 * daemon's part: it is the subreaper, reserves the slots, asks for workers, submits tasks and sees
 * them end. One rig in a process. No step waits longer than RIG_LIMIT_MS. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <sys/types.h>

#include "lib/shm/segment.h"
#include "lib/shm/slot.h"
#include "lib/shm/task.h"
#include "lib/wire/control.h"

enum { RIG_LIMIT_MS = 20000, RIG_POOL = 3 };

struct rig {
    struct shm s;
    int control, bell;
    pid_t zygote;
};

struct rig_worker {
    uint32_t slot, gen;
    pid_t pid;
};

/* Whether valgrind runs us: it has no pidfd_open(), which commands need, and looks into compilers
 * too, which leak. */
bool rig_under_valgrind(void);

/* Starts a zygote: module NULL means --exec; more: further words of the command line, ending with
 * NULL ("--max-tasks", "5",
 * "--", "arg"). 0 or -errno. */
int rig_open(struct rig *r, const char *module, const char *const more[]);
/* The zygote's next message. 0; -EPIPE at EOF; -errno. */
int rig_hear(struct rig *r, struct control_msg *ret);
/* rig_hear() that expects READY. */
int rig_ready(struct rig *r);
/* Asks for a worker and waits until it is warm; with `go`, until it serves. */
int rig_worker(struct rig *r, bool go, struct rig_worker *ret);
int rig_wait_state(struct rig *r, uint32_t slot, enum slot_state state);
/* Waits for a worker's death: the wait status, or -errno. Buries it; its task, if it had one, ends
 * LOST. */
int rig_bury(struct rig *r, const struct rig_worker *w);
/* Tells a worker to exit and waits for it: the wait status. */
int rig_retire(struct rig *r, const struct rig_worker *w);
/* Closes the control socket and waits for the zygote: its exit status as of child_wait(), or
 * -errno. */
int rig_hang_up(struct rig *r);
/* Everything away, whatever state it is in. */
void rig_close(struct rig *r);

/* Submits; args end with NULL (args NULL: none). */
int rig_submit(struct rig *r, uint32_t handler, uint32_t timeout_ms, const void *payload,
               size_t len, const char *const args[], struct task_ref *ret);
/* Waits for the task's end; the view is valid until it is freed. */
int rig_result(struct rig *r, const struct task_ref *t, struct task_view *ret);
/* Both, with a payload that is text, and args. */
int rig_run(struct rig *r, uint32_t handler, const void *payload, size_t len,
            const char *const args[], struct task_view *ret);
