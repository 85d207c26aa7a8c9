/* SPDX-License-Identifier: MIT */
/* Memory in the segment. A block always has an owner: a word in the segment that holds its offset.
 * Giving a block to a word and taking it back are each one transaction, so at no instruction is a
 * block owned by nobody or by two. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "lib/shm/segment.h"

#define ALLOC_MAX                                                                                  \
    ((UINT64_C(64) << 20) + 65536) /* the largest block: a payload of 64 MiB and its arguments */

/* Takes a block of at least size (1 .. ALLOC_MAX) bytes, 16-byte aligned, not cleared, and stores
 * its offset in *owner, which holds 0. -ENOMEM: no room; -EAGAIN: locks are busy beyond the
 * handle's patience; -EMSGSIZE: too large. */
int alloc_give(struct shm *s, _Atomic uint64_t *owner, uint64_t size);
/* Gives the block that *owner names back and stores 0. 0 when *owner is 0 already; -EAGAIN as
 * above; -EBADMSG: *owner does not name a block (another process damaged it); it is set to 0 and
 * nothing is freed. */
int alloc_take_back(struct shm *s, _Atomic uint64_t *owner);
/* Each arena keeps an empty chunk of each class at hand: gives them all back, for when there is no other room. How many; -EAGAIN: none,
 * but a lock was busy. */
int alloc_trim(struct shm *s);
/* *owner gets the block of *spare, and *spare that of *owner, as one transaction. */
int alloc_swap(struct shm *s, _Atomic uint64_t *owner, _Atomic uint64_t *spare);
/* Usable bytes of the block at off; 0 when off names no block. */
uint64_t alloc_size(const struct shm *s, uint64_t off);
/* The bytes at off .. off+len inside one block, or NULL when they are not. */
void *alloc_ptr(const struct shm *s, uint64_t off, uint64_t len);

/* ---- inside of an operation (op.h) ---- */
/* Takes a block as part of the transaction under way; its locks are held until alloc_unlock(). The block may be written
 * freely at once. Errors as alloc_give(), and -ENOBUFS: tx_need(). */
int alloc_tx(struct shm *s, uint64_t size, uint64_t *ret_off);
/* After the commit or abort: drops the allocator's locks. */
void alloc_unlock(struct shm *s);
/* Gives back the first block of a list whose blocks are linked by their first words, as a transaction of its own under the
 * lock of the list. 0; -ENOENT: the list is empty; -EAGAIN; -EBADMSG: what it named was no block (the list ends there). */
int alloc_retire(struct shm *s, _Atomic uint64_t *list);
