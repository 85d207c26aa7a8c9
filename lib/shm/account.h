/* SPDX-License-Identifier: MIT */
/* Accounts: what each user has in the keyspace, and how much he may. A key, and all the blocks that belong to it, is charged
 * to the account of the user who made it, whoever changes it later. */
#pragma once

#include <stdint.h>

#include "lib/shm/layout.h"
#include "lib/shm/segment.h"

/* ---- for everybody ---- */

/* The account of a user. One that has none yet (the daemon makes them, account_open()) has the last, which such users share. */
unsigned account_find(const struct shm *s, uint32_t uid);
/* Keys that the handle makes from here on are this user's: sets shm.account. */
void account_act_as(struct shm *s, uint32_t uid);

struct account_view {
    uint32_t uid;
    bool shared;                     /* the last one: of all users that came after it */
    uint64_t bytes, objects;         /* in use; about, while others work */
    uint64_t max_bytes, max_objects; /* 0: no limit */
};
/* False: no such account is in use. */
bool account_view(const struct shm *s, unsigned account, struct account_view *ret);

/* ---- for the daemon ---- */

/* The account of a user, made if need be, and its limits (0: none). -ENOSPC: there is no room for another; it is the last one,
 * in *ret all the same. */
int account_open(struct shm *s, uint32_t uid, uint64_t max_bytes, uint64_t max_objects,
                 unsigned *ret);

/* ---- for operations (inside of op_run(), the shard's lock held) ---- */

/* Blocks that the operation takes and gives back from here on, for things in this shard, are this account's. */
void account_pays(struct shm *s, unsigned shard, unsigned account);
/* ... are nobody's: what holds the keyspace itself together. */
void account_nobody_pays(struct shm *s);
/* The handle's payer took (or gave back) so many bytes. For alloc_tx() and op_free(); one logged word. */
void account_took(struct shm *s, int64_t bytes);
/* An account has so many bytes and objects more, or fewer; two logged words at most. */
void account_add(struct shm *s, unsigned shard, unsigned account, int64_t bytes, int64_t objects);
/* The objects of a shard, of all accounts, are none any more; a logged word for each account. */
void account_flushed(struct shm *s, unsigned shard);
/* 0, or -EDQUOT: an account has grown since the undo log had `from` entries and is over its limit. Who only shrinks, or stays
 * as he is, never is refused. shm.over then says which account. */
int account_check(struct shm *s, uint32_t from);
