/* SPDX-License-Identifier: MIT */
/* What each user has, by all his connections: connections, tasks that have not ended and the bytes given with them, results that
 * nobody has fetched. tasks/ and serve/ count; serve/ holds it against limits.user_*. What his objects hold is counted in the
 * segment (lib/shm/account.h). */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct users;

struct user {
    uid_t uid;
    uint32_t clients, tasks, results;
    uint64_t task_bytes;
};

enum { USERS_MAX = 4096 }; /* places; users that come when all are taken share the first */

/* NULL: no memory. */
struct users *users_new(void);
struct users *users_free(struct users *u);
/* A user's place, made if need be; 0: he has none of his own. */
uint32_t users_place(struct users *u, uid_t uid);
/* What is counted at a place, valid until the next users_place(). */
struct user *users_at(struct users *u, uint32_t place);
