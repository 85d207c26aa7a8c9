/* SPDX-License-Identifier: MIT */
/* Groups of tasks with one end: a group is complete when it is closed, so that no task can join it any
 * more, and all of its tasks have ended. That is told once, after the ends of the tasks. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/hearthd.h"
#include "lib/base/list.h"
#include "lib/shm/task.h"

enum { GROUP_NAME_MAX = 200, GROUPS_MAX = 16384 };

struct task_group {
    struct list order;   /* of those that are idle: no task of theirs is live */
    struct list news;    /* complete, and not told */
    struct list waiters; /* struct group_waiter */
    struct name *name;   /* and its place in the table */
    uint32_t uid;        /* who made it */
    bool closed;
    uint32_t last;        /* that has ended: index + 1; 0: none */
    uint32_t first;       /* of its live tasks: index + 1 */
    uint32_t total, live; /* tasks ever, and those that have not ended */
    uint32_t ended[TASK_STATES];
    uint64_t created_ms, ended_ms; /* since 1970; 0: not complete */
    uint64_t forget_ns;            /* while it is idle */
};

/* Room for the groups of so many tasks; 0 or -ENOMEM. */
int groups_open(struct hearthd *d, uint32_t tasks);
void groups_close(struct hearthd *d);

static inline bool group_is_complete(const struct task_group *g) {
    return g->closed && g->live == 0;
}
struct task_bytes group_name(const struct task_group *g);
/* 1 to GROUP_NAME_MAX printable bytes without blanks and commas. */
bool group_name_ok(const struct task_bytes *name);
/* NULL: none is known. */
struct task_group *groups_find(struct hearthd *d, const struct task_bytes *name);
/* May somebody's tasks join it? 0, also when there is none yet; -EPIPE: it is closed; -EACCES: it is
 * somebody else's (uid UINT32_MAX may join any); -ENOSPC: there are too many groups. */
int groups_may_join(struct hearthd *d, const struct task_bytes *name, uint32_t uid);
/* No task joins it from now on. */
void group_close(struct hearthd *d, struct task_group *g);
/* Cancels those that have not ended; as tasks_cancel(). Returns how many were told. */
uint32_t group_cancel(struct hearthd *d, struct task_group *g, const char *who);

/* ---- for tasks/ ---- */
/* A live task joins; makes the group. 0, -ENOMEM, or -EPIPE. */
int groups_join(struct hearthd *d, uint32_t idx, const struct task_bytes *name, uint32_t uid);
void groups_ended(struct hearthd *d, uint32_t idx, enum task_state state);
/* It is as if it had never been in it. */
void groups_leave(struct hearthd *d, uint32_t idx);

/* Of a task that a former daemon has left, when all of them are known: if its group was closed, it is so again. It is not told again. */
void groups_restore(struct hearthd *d, uint32_t idx);

/* ---- ends ---- */
/* `ended` is called once, from groups_turn(), off the list. */
struct group_waiter {
    struct list node;
    void (*ended)(struct group_waiter *w, const struct task_group *g);
};
/* It must not be complete and told; one that is complete is told in the next turn. */
void group_wait(struct task_group *g, struct group_waiter *w);
void group_unwait(struct group_waiter *w); /* any time */
void groups_on_complete(struct hearthd *d,
                        void (*fn)(struct hearthd *d, const struct task_group *g));
/* Tells of those that are complete; forgets old ones. True: there were some. */
bool groups_turn(struct hearthd *d);
