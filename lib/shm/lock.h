/* SPDX-License-Identifier: MIT */
/* Locks in the segment, and transactions. Death of the holder at any instruction leaves every word
 * that was changed through tx_set() as it was before the transaction, or (once tx_commit() has
 * stored its one word) as after it.
 *
 * A process runs one transaction at a time and its undo log lives in its slot, so that one commit
 * covers words under several locks. Who meets a lock whose owner is dead first rolls that owner's
 * log back (whole), then takes the lock.
 *
 *     lock_take(s, &a->lock);  tx_set(s, &a->x, 1);  tx_set(s, &a->y, 2);  tx_commit(s);
 * lock_drop(s, &a->lock);
 *
 * Lock order (README.md): an arena's lock, then the chunk lock. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/shm/layout.h"
#include "lib/shm/segment.h"

/* 0, or -EAGAIN when it was not free within the handle's patience. A dead owner's lock is free. */
int lock_take(struct shm *s, struct shm_lock *lock);
/* Waits for nobody: 0 or -EAGAIN. */
int lock_try(struct shm *s, struct shm_lock *lock);
void lock_drop(struct shm *s, struct shm_lock *lock);

/* Who the last -EAGAIN was about. */
struct lock_holder {
    uint32_t slot, gen, pid;
    uint64_t progress; /* changes while he changes something under the lock, if it is a shard's */
    char what[40];     /* which lock, in words */
};
/* False: nobody, or he has let go of it since. */
bool lock_holder(struct shm *s, struct lock_holder *ret);

/* Logs the old value of an aligned word in the segment, then changes it. Asserts that the log has
 * room: each operation has a bound below SHM_UNDO. The lock that protects the word must be held. */
void tx_set(struct shm *s, _Atomic uint64_t *word, uint64_t value);
void tx_set32(struct shm *s, _Atomic uint32_t *word,
              uint32_t value); /* logs the aligned 8 bytes around it: the caller
                                  holds the lock of both halves */
/* The same for n bytes from `to` (aligned to 8) on, whole words at a time: needs (n + 7) / 8 words of the log. */
void tx_set_bytes(struct shm *s, void *to, const void *from, size_t n);
/* Room for n more words in this transaction's log? 0 or -ENOBUFS: abort, tx_grow(), do it all again (op_run() does). */
int tx_need(struct shm *s, uint32_t n);
/* At least doubles the room, between transactions. -ENOMEM, -EAGAIN. */
int tx_grow(struct shm *s);
/* Gives a larger log back, between transactions. 1, or 0 when there is none, or not now. */
int tx_shrink(struct shm *s);
/* What a word was when this transaction's log had `from` entries. */
uint64_t tx_before(const struct shm *s, const _Atomic uint64_t *word, uint32_t from);
void tx_commit(struct shm *s);
void tx_abort(struct shm *s); /* everything as before */
/* As it was when the log had `entries` (s->tx_entries then); the transaction goes on from there. */
void tx_abort_to(struct shm *s, uint32_t entries);

/* Rolls back the log of a slot whose owner is dead. 0, or -EAGAIN (somebody else is at it).
 * Idempotent. */
int tx_rescue(struct shm *s, uint32_t slot, uint32_t gen);
/* Keeps rescuers of the slot out meanwhile, so that none of them, having looked at the dead owner,
 * rolls back the log of the next one. False: there is one inside. */
bool tx_rescue_enter(struct shm *s, uint32_t slot);
void tx_rescue_leave(struct shm *s, uint32_t slot);
