/* SPDX-License-Identifier: MIT */
/* The segment: creating, attaching, and the handle that every other verb of lib/shm takes.
 * A handle belongs to one thread; a second thread of a process attaches with a handle and a slot of
 * its own. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/base/yield.h"

struct shm_header;
struct shm_slot;
struct shm_pool;
struct shm_task;
struct shm_arena;
struct shm_shard;
struct shm_manager;
struct shm_account;
struct shm_use;
struct shm_chunk;
struct shm_seat;

/* Bytes that an operation took out of use and a roll-back may bring back. */
struct shm_vacated {
    uint32_t n; /* one more than there is room for: some are missing */
    struct {
        uint64_t from, to; /* offsets */
    } at[16];
};

/* Where a key was found: a hint that is good as long as no key of its shard was made, removed or renamed (keys.c). */
struct shm_seen {
    uint64_t hash, moved;
    uint64_t slot; /* offset of the word that refers to its node; 0: unused */
};
enum { SHM_SEEN = 16, SHM_CYCLE = 8 };

/* How long looking before a sleep has been worth it of late (spin.h). */
struct spin {
    uint64_t ns;
    uint32_t skipped; /* waits without a look since the last try */
};

/* What sync.c does when the operation under way has ended: words of locks that it holds on to, and seats to be woken. */
struct shm_sync_after {
    uint32_t pins, wakes; /* wakes: one more than there is room for: some are missing */
    uint64_t pin[16];     /* offsets of sync objects */
    uint32_t wake[16];    /* numbers of seats */
};

struct shm {
    uint8_t *base; /* NULL: not attached */
    uint64_t size;
    int fd;      /* the memfd, owned by the handle, close-on-exec; -1: a view of memory */
    int bell_fd; /* eventfd towards the daemon, borrowed; -1: none (the daemon itself) */
    uint32_t me; /* owner word of this handle's slot; 0 before slot_attach */
    uint32_t slot;
    struct shm_slot *mine; /* the slot itself */
    uint64_t busy_lock;    /* offset of the lock that was last not to be had, ... */
    uint32_t busy_owner;   /* ... and the owner word of who held it: lock_holder() */
    uint64_t patience_ns;  /* how long a verb may wait for a lock: 0 = only try, then -EAGAIN (the
                              daemon).  5 s unless set */
    struct spin work_spin; /* how long looking is worth before a wait for tasks sleeps, ... */
    struct spin sync_spin; /* ... and before one for sync objects */
    struct yield yield;    /* ... and whether it may */
    uint32_t tx_room;      /* words the undo log has room for */
    uint32_t tx_entries;   /* entries of the undo log in this transaction, beyond anybody's reach */
    /* the operation on objects under way (op.c) */
    uint64_t op_shards;    /* locks held, a bit per shard */
    uint64_t op_changed;   /* shards whose seq is odd */
    uint64_t op_grown;     /* accounts that took something, a bit each (account.c) */
    struct shm_use *payer; /* who takes and gives back blocks; NULL: nobody */
    uint32_t account;      /* whose the keys are that are made */
    uint32_t over;         /* account over its limit, when an operation returned -EDQUOT */
    uint32_t op_depth;     /* operations inside of an operation */
    int32_t op_arena;      /* arena whose lock is held; -1: none */
    bool op_chunks;        /* the chunk lock is held */
    bool
        op_removing; /* what it allocates is for the sake of removing: the reserve is open to it (alloc.c) */
    bool op_reclaiming;   /* op.c: it is looking for memory */
    unsigned sweep_shard; /* ... and has looked for keys that are over so far */
    uint64_t sweep_cursor;
    bool op_short; /* tx_need() said no: the operation is run again with a larger log */
    bool
        op_expired; /* a reading verb has met a key whose time is over; whoever cares sets it back */
    uint32_t op_gone;  /* expired keys that changing verbs have removed; the same */
    uint32_t op_swept; /* ... and that went because room was needed; the same */
    uint64_t op_dirty; /* shards in which durable keys are noted (dirty.c) */
    bool op_expiring;  /* what is removed is so because its time is over */
    bool op_restoring; /* nothing is noted: it comes from the disk */
    bool dirtied; /* an operation that noted something was committed; whoever cares sets it back */
    struct shm_vacated vacated; /* what op_vacate() was told */
    struct shm_seen seen[SHM_SEEN];
    uint64_t
        lease_said;   /* queue_expire_leases(): when it wants to be called again, ms; 0: no need */
    uint32_t cycle_n; /* after -EDEADLK of sync_check_cycle(): how long the circle is; ... */
    uint32_t cycle_pids[SHM_CYCLE]; /* ... the actor, and so on: each waits for the one before */
    uint32_t actor;                 /* owner word that it holds and waits for (sync.h); 0: `me` */
    struct shm_sync_after after;
    /* sync_wait() calls it when a signal handler has run, and every look_ns (0: not) that it has waited, outside of any operation: not 0: the
     * wait is given up, and that is its answer if it had none. */
    int (*wait_look)(void *arg);
    void *wait_arg;
    uint64_t wait_look_ns;
    /* where things are, checked once when the segment was attached, so that nobody can move them
     * later */
    struct shm_header *head;
    struct shm_pool *pools;
    struct shm_slot *slots;
    struct shm_seat *seats;
    _Atomic uint64_t *granted; /* a bit for each seat */
    _Atomic uint64_t *free_map;
    struct shm_task *tasks;
    struct shm_shard *shards;
    struct shm_manager *managers;
    struct shm_use *uses; /* a row of SHM_ACCOUNTS for each shard */
    struct shm_account *accounts;
    struct shm_arena *arenas;
    struct shm_chunk *chunks;
    _Atomic uint64_t *chunk_map;
    uint64_t data_off, seed;
    uint32_t n_slots, n_seats, n_tasks, n_managers, n_chunks;
};

struct shm_params {
    uint64_t size;  /* bytes of address space, 1 MiB .. 1 TiB; only touched pages cost memory */
    uint32_t slots; /* attached processes, 2 .. 1024 */
    uint32_t tasks; /* task records, 16 .. 16 M; 0: a quarter of the segment's size */
};

enum { SHM_POOLS = 64 };

/* Makes a memfd, lays it out and seals it against resizing. -EINVAL: the parameters do not fit;
 * -errno of the system. The caller still needs a slot: slot_reserve() and slot_attach(). */
int shm_create(struct shm *ret, const struct shm_params *params);

/* The same in a file that is open for reading and writing, in place of what is in it. It cannot be sealed. fd is not consumed.
 * Killed meanwhile, it leaves a file that is no segment. */
int shm_create_in(struct shm *ret, const struct shm_params *params, int fd);

/* Maps a segment: a memfd, or a file that has a name. fd is not consumed. -EBADMSG: not a segment, or damaged; -EPROTO: of another
 * layout; -errno. */
int shm_attach(struct shm *ret, int fd);

/* Maps a segment for reading only: no verb may be used with the handle but those that are said to read (op_read(), objects.h's
 * that only look). fd may be one that cannot write. Errors as shm_attach(). */
int shm_attach_readonly(struct shm *ret, int fd);

/* A handle on a segment that lies in ordinary memory (an image of one: tests, fsck of a dump). The
 * memory stays the caller's. Errors as shm_attach(). */
int shm_view(struct shm *ret, void *base, uint64_t size);

/* A further handle on the same mapping, for a slot of its own; it is detached before `s` is. */
void shm_share(const struct shm *s, struct shm *ret);

/* Unmaps, closes, and lets go of the slot's life word. Accepts a handle that was never attached. */
void shm_detach(struct shm *s);

/* Defines pool `index` (0 .. SHM_POOLS-1) with a ring that holds queue_max tasks and some more.
 * Supervisor only, once per index. -ENOMEM: the segment is full; -EEXIST; -EINVAL; -EAGAIN. */
int shm_pool_create(struct shm *s, uint32_t index, const char *name, uint32_t queue_max);
/* How many tasks such a ring holds at least, dead hints and all. */
uint32_t shm_pool_room(uint32_t queue_max);

/* Tells the daemon that there is something to look at, if it sleeps. Any process. */
void shm_ring_daemon(struct shm *s);

/* Figures for INFO; approximate while others work. */
struct shm_usage {
    uint64_t size, chunk_bytes, chunks, chunks_free;
    uint32_t tasks, slots;
};
void shm_usage(struct shm *s, struct shm_usage *ret);

/* The daemon's side of its doorbell. */
void shm_daemon_sleeps(
    struct shm *s); /* declares it is about to sleep; then it must look once more for work */
void shm_daemon_wakes(struct shm *s);
uint32_t
shm_news(struct shm *s); /* changes whenever a slot has changed state or has a nearer deadline */
void shm_next_check(
    struct shm *s,
    uint64_t at_ns); /* when the daemon looks at deadlines by itself; UINT64_MAX: never */
