/* SPDX-License-Identifier: MIT */
/* What lies where in the segment. Included only from lib/shm (and its tests): everybody else goes
 * through the verbs in segment.h, slot.h, lock.h, alloc.h, ring.h, task.h and check.h.
 *
 *   0            header        magic, version, signature, where the rest is, the doorbell's words
 *   pools_off    pools         SHM_POOLS records: name, two rings of hints: front and ready
 *   slots_off    slots         one per attached process: life, hand, counters, undo log
 *   seats_off    seats         who holds and waits for sync objects: one per slot, the rest for the daemon's connections
 *   granted_off  granted       one bit per seat: its wait may be over
 *   done_off     done ring     hints of ended tasks, towards the daemon
 *   free_off     free map      one bit per task record: 1 = probably free
 *   tasks_off    task records  256 bytes each
 *   shards_off   shards        the keyspace: a lock, a table of keys, what is to be tidied
 *   managers_off managers      scopes that keys belong to, and how many they have
 *   uses_off     uses          what each account has in each shard
 *   accounts_off accounts      whose they are, and how much each may have
 *   arenas_off   arenas        a lock, and lists of partly used chunks, per size class
 *   chunks_off   chunk heads   what each chunk of the data area is used for
 *   map_off      chunk map     one bit per chunk: 1 = free
 *   data_off     data area     chunks of 16 KiB: blocks of one size class each, or runs
 *
 * Rules for every field: fixed width, offsets from the start of the segment (0 = none), no
 * pointers, no enums. A word that more than one process may write is _Atomic. Whatever a reader
 * takes from here is bounds-checked before use: another process may have written anything.
 *
 * If you change a struct here: 1. bump SHM_VERSION, 2. mend its _Static_assert, 3. mend check.c, 4.
 * run the crash tests. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#define SHM_MAGIC   UINT64_C(0x4d48534854524148) /* "HARTHSHM" */
#define SHM_VERSION 17u

enum {
    SHM_LINE = 64, /* cache line */
    SHM_UNDO =
        320, /* words one transaction may change; the largest (freeing a 64 MiB run) needs 70 */
    SHM_CHUNK = 16384,   /* bytes of a chunk */
    SHM_SHARDS = 64,     /* of the keyspace; a set of them is one word */
    SHM_MANAGERS = 1024, /* in segments of 16 MiB or more, 16 in smaller ones */
    SHM_ACCOUNTS = 64,   /* users whose use of the keyspace is counted; a set of them is one word */
    SHM_ARENAS = 8,   /* small blocks are sharded by slot, so that workers rarely meet on a lock */
    SHM_CLASSES = 32, /* size classes of small blocks, see alloc.c */
    SHM_INLINE_IN = 64, /* a task's input up to this size lives in its record */
    SHM_INLINE_OUT = 32,
    SHM_STREAM = 16384,  /* bytes of a task's stream, its head included */
    SHM_MADE = 64,       /* names of new keys that a shard remembers */
    SHM_SYNC_WORDS = 16, /* of a sync object that belong to its kind */
    SHM_PARTY_WORDS = 4, /* of a party, likewise */
};

/* A bounded ring of hints (task indices), many producers and consumers, see ring.c. */
struct shm_ring {
    _Alignas(SHM_LINE) _Atomic uint64_t head;        /* next position to take */
    _Alignas(SHM_LINE) _Atomic uint64_t tail;        /* next position to put */
    _Alignas(SHM_LINE) _Atomic uint64_t entries_off; /* capacity words: cycle << 32 | value */
    _Atomic uint64_t capacity;                       /* a power of two */
};

/* owner word: bit 31 waiters | bits 16-30 generation | bits 0-15 slot + 1; 0 = free */
struct shm_lock {
    _Atomic uint32_t word;
    uint32_t reserved;
};

struct shm_undo {
    _Atomic uint64_t off;
    _Atomic uint64_t old;
};

struct shm_slot {
    _Alignas(SHM_LINE) pthread_mutex_t
        life;               /* robust; held by the owner for life, so the kernel marks its death */
    _Atomic uint32_t gen;   /* +1 for each reservation; written by the supervisor only */
    _Atomic uint32_t state; /* enum slot_state */
    _Atomic uint32_t pid;
    _Atomic uint32_t pool; /* index of the pool served */
    /* a line of its own: words that wake the owner */
    _Alignas(SHM_LINE) _Atomic uint32_t bell; /* futex: +1 and woken when there may be work */
    _Atomic uint32_t command;                 /* enum slot_command, by the supervisor */
    _Atomic uint32_t child;  /* process group of the command an exec worker runs, or 0 */
    _Atomic uint32_t ending; /* enum slot_ending: why the owner is to be replaced */
    _Atomic uint32_t hold;   /* 1: no further task is to be claimed now; by the supervisor */
    _Atomic uint64_t
        order; /* a waiting task that is for this owner alone: index + 1 (32), generation
                                (20); by the daemon; 0: none. The owner takes it away */
    /* the owner's work; written by the owner, read by the supervisor */
    _Alignas(SHM_LINE) _Atomic uint64_t
        hand; /* index + 1 of the task being touched; set BEFORE touching it */
    _Atomic uint64_t claims,
        next_claims; /* tasks claimed; next_* is written before the claim, so that the */
    _Atomic uint64_t bytes,
        next_bytes;               /* reaper can complete the count of one that died just after it */
    _Atomic uint64_t started_ns;  /* when the task in hand began; 0 = idle */
    _Atomic uint64_t deadline_ns; /* when the daemon is to look at it: its time limit, or
                                     sooner; 0 = never */
    _Atomic uint64_t finished;    /* tasks ended by this owner, for statistics */
    /* the transaction under way */
    _Alignas(SHM_LINE) struct shm_lock rescue; /* held while somebody rolls this log back */
    _Atomic uint64_t undo_count; /* entries that count; 0 = no transaction: the commit point */
    _Atomic uint64_t
        undo_more; /* block with more entries, for the owner's larger transactions; 0: none */
    struct shm_undo undo[SHM_UNDO];
};

struct shm_pool {
    _Alignas(SHM_LINE) char name[40]; /* NUL-terminated; empty = unused */
    _Atomic uint32_t paused;          /* 1: no task is to be claimed; by the daemon */
    _Atomic uint32_t refill;  /* 1: the daemon holds tasks back and wants to hear of every claim */
    _Atomic uint32_t look_ms; /* the daemon is to look at a task that runs for so long; 0: not */
    _Atomic uint64_t until;   /* refill: of the ready ring only what was submitted before this */
    _Atomic uint64_t handlers_off; /* names of its handlers, for the daemon's successor (adopt.c) */
    _Atomic uint64_t handlers_spare;
    struct shm_ring ready;
    struct shm_ring front; /* looked at first; small; filled by the daemon alone */
    _Alignas(
        SHM_LINE) _Atomic uint64_t napping[16]; /* bit per slot: asleep and not yet being woken */
};

struct shm_arena {
    _Alignas(SHM_LINE) struct shm_lock lock;
    /* chunk index + 1 of the first chunk with a free block, per class; under lock */
    _Atomic uint32_t partial[SHM_CLASSES];
};

/* Head of a chunk. w0 is written with the chunk-map lock held, the rest under its arena's lock.
 *   kind: 0 free or inside of a run, 1 small blocks, 2 first of a run */
struct shm_chunk {
    _Atomic uint64_t w0; /* kind (8) | class (8) | arena (16) | chunks in the run (32) */
    _Atomic uint64_t
        w1; /* first free block + 1 (16) | never used yet from block (16) | used blocks (16) */
    _Atomic uint64_t
        link; /* previous (32) and next (32) chunk of the partial list, each index + 1 */
    _Atomic uint64_t reserved;
};

/* state word: 0-3 state | 4-11 attempts | 12-43 owner word (WAITING, QUEUED: the pool) | 44-63 generation.
 *
 *  FREE --submitter--> BUILDING --submitter--> QUEUED --worker--> RUNNING --worker--> DONE | FAILED
 *    ^                    | |  submitter       ^  | | daemon         | reaper
 *    |                    | |   (hold)  daemon |  | |                +--> LOST TIMEOUT CANCELLED
 *    |                    | +-----> WAITING ---+  | +--> CANCELLED EXPIRED ...
 *    |                    |          | ^ ^--------+         ^
 *    |                    | reaper   | | daemon, to order   |
 *    |                    |          | +-- daemon: FAILED LOST TIMEOUT, to be tried again
 *    |                    |          +----- daemon ---------+
 *    +---- FREEING <------+
 *             ^--------------- daemon: any terminal state
 *
 * Each arrow is one CAS. The other words of a record belong to whoever the state word names: the
 * builder, the running worker, or (WAITING, terminal states) the daemon. */
struct shm_task {
    _Alignas(SHM_LINE) _Atomic uint64_t state;
    uint64_t id;
    _Atomic uint64_t input_off; /* owners of blocks: changed only inside a transaction of the
                                   allocator; 0: inline */
    _Atomic uint64_t output_off;
    _Atomic uint64_t log_off;   /* stderr of a command */
    _Atomic uint64_t spare_off; /* the larger block while an output grows */
    uint64_t input_len;         /* payload bytes; the arguments and the policy follow */
    uint32_t args_len;
    uint16_t nargs;
    uint16_t handler;
    uint64_t output_len;
    uint32_t log_len;
    int32_t code;
    uint64_t submitted_ns, started_ns, ended_ns;
    uint64_t client;
    uint32_t uid;
    uint32_t timeout_ms;
    uint32_t worker_pid;
    uint8_t cause; /* enum task_cause */
    uint8_t signal;
    uint8_t core;
    uint8_t kills;           /* attempts that ended with a worker's death */
    _Atomic uint32_t cancel; /* bits 0-1: somebody wants it stopped: 1 cancelled, 2 its time is
                                over; bit 2: past its soft limit; bit 3: its end is told; bits 8-15: the signal for that; bit 16: its group is closed */
    uint8_t pool;
    uint8_t priority;
    uint16_t policy_len;           /* bytes behind the arguments that are the daemon's own */
    _Atomic uint64_t stream_off;   /* struct shm_stream: what it tells while it runs */
    uint32_t cpu_user, cpu_system; /* of the last attempt, in 10 us */
    uint32_t rss_kib;              /* most memory of a command */
    _Atomic uint32_t watched;      /* 1: the daemon wants to hear of what is in the stream */
    uint8_t in[SHM_INLINE_IN];
    uint8_t out[SHM_INLINE_OUT];
};

/* What a running task tells (stream.c): frames in a ring of bytes, the oldest first. A frame is a word, kind (8) | length (32) << 32,
 * and its bytes, filled up to whole words. Positions count all bytes ever put in; a frame's place is its position modulo the
 * room. Who runs the task writes head and tail, the daemon the rest. */
struct shm_stream {
    _Alignas(SHM_LINE) _Atomic uint64_t
        head;                 /* the oldest frame kept; raised before it is overwritten */
    _Atomic uint64_t tail;    /* raised when a frame is whole */
    _Atomic uint64_t sent;    /* frames before it have been handed on, and may be dropped */
    _Atomic uint32_t hinted;  /* 1: a hint of the task is on its way to the daemon */
    _Atomic uint32_t waiting; /* 1: the writer sleeps on `room` */
    _Atomic uint32_t room;    /* futex: +1 when there is room again */
    uint32_t attempt;         /* of the task, to which the stream belongs */
    uint32_t reserved[6];
    _Atomic uint64_t words[(SHM_STREAM - 64) / 8];
};

/* A hash table that grows and shrinks by one bucket at a time (hash.c). A bucket is one cache line: seven slots, each a
 * tag (16) and the offset (48) of a node, and the offset of an overflow bucket. All words under the lock of the shard. */
struct shm_hash {
    _Atomic uint64_t count;   /* nodes */
    _Atomic uint64_t buckets; /* >= 1; 0 reads as 1 */
    _Atomic uint64_t
        dir_off; /* block of offsets of the stretches that buckets 1.. lie in; 0: none yet */
    _Atomic uint64_t dir_cap;  /* words in it */
    _Atomic uint64_t first[8]; /* bucket 0 */
};

/* A node of a hash table: lengths, the value (padded to 8 bytes), then the key. */
struct shm_node {
    _Atomic uint64_t lens; /* key bytes (32) | value bytes (32) << 32 */
    uint8_t data[];
};

/* A part of the keyspace: the keys whose hash begins with its number, and all that belongs to them. */
struct shm_shard {
    _Alignas(SHM_LINE) struct shm_lock lock;
    _Atomic uint64_t seq;     /* odd while words are being changed: readers look again */
    _Atomic uint64_t version; /* +1 with each change of a key: what WATCH compares */
    _Atomic uint64_t
        garbage; /* blocks that nothing uses any more, linked by their first word, to be given back */
    _Atomic uint64_t doomed; /* objects to be taken apart, linked by their first word */
    _Atomic uint64_t
        moved; /* +1 when a key of the shard is made, removed or renamed: what handles compare */
    _Atomic uint64_t expiring; /* keys with an expiry */
    _Atomic uint32_t waiters;  /* 1: somebody may sleep on `bell` */
    _Atomic uint32_t bell;     /* futex: +1 after a commit while somebody waits */
    struct shm_hash keys;
    _Atomic uint64_t syncs;      /* sync objects of the shard, linked by next and prev */
    _Atomic uint64_t sync_free;  /* blocks of former ones, linked by their first words */
    _Atomic uint64_t flushes;    /* +1 when all keys of the shard were removed at once */
    _Atomic uint64_t durables;   /* keys whose names say that they are durable */
    _Atomic uint64_t dirty_turn; /* bit 0: which of these two fills (dirty.c) */
    struct shm_hash dirty[2];
    _Atomic uint64_t made; /* +1 when a name is given to a key that was not there, ... */
    _Atomic uint64_t made_last[SHM_MADE]; /* ... and the hashes of the last ones, in turn: WATCH */
};

/* A manager (manager.c). `word` and `uses` are the daemon's alone to write; keys[i] is under the lock of shard i. */
struct shm_manager {
    _Alignas(SHM_LINE) _Atomic uint64_t
        word; /* the id while it is open; with bit 63: it has ended; 0: the place is free */
    _Atomic uint64_t uses; /* of the place, so far */
    _Alignas(SHM_LINE) _Atomic uint64_t keys[SHM_SHARDS];
};

/* A user. Written by the daemon. */
struct shm_account {
    _Atomic uint64_t user;      /* uid + 1; 0: unused, and so are those behind it */
    _Atomic uint64_t max_bytes; /* 0: no limit */
    _Atomic uint64_t max_objects;
    _Atomic uint64_t reserved;
};

/* What an account has of a shard: modulo 2^64, only the sum over all shards is a number by itself. Under the shard's lock. */
struct shm_use {
    _Atomic uint64_t bytes;
    _Atomic uint64_t objects;
};

/* A list: the first and the last leaf, and a tree of the leaves between them with the number of elements below each branch
 * (list.c). All words under the lock of the shard. */
struct shm_list {
    _Atomic uint64_t count; /* elements */
    _Atomic uint64_t head,
        tail;                /* first and last leaf, not in the tree; the same when there is one */
    _Atomic uint64_t root;   /* 0: no leaves between them */
    _Atomic uint64_t height; /* levels of nodes */
    _Atomic uint64_t
        dead; /* leaves and nodes cut off and yet to be freed, linked by their first words, level in bits 0-3 */
    _Atomic uint64_t
        base; /* position of the first element, signed: of a durable list it goes with the ends */
    _Atomic uint64_t reserved[5];
};

/* The block of a dict or list. */
struct shm_object {
    _Atomic uint64_t
        link; /* next of the doomed; the block's first word, so that it can go to the garbage as well */
    _Atomic uint64_t kind; /* enum key_type (8) | 0 (8) | account (8) */
    union {
        struct shm_hash dict;
        struct shm_list list;
    };
};

/* Who waits for a sync object, or holds some of it (sync_private.h). Lies in a seat (the one thing its owner waits for) or in a
 * block of its own (holders). Under the lock of the object's shard; an idle one (object 0) and an answered one are the owner's. */
struct shm_party {
    _Atomic uint64_t next, prev; /* offsets of parties of the same object */
    _Atomic uint64_t object;     /* offset of the shm_sync; 0: idle */
    _Atomic uint64_t
        state; /* enum party_state (8) | kind, enum key_type (8) | mode (8) | 0 (8) | answer (32, signed) */
    _Atomic uint64_t who;                   /* owner word (32) | birth of the object << 32 */
    _Atomic uint64_t since;                 /* clock_now() in ms when it came */
    _Atomic uint64_t count;                 /* of what it wants or has */
    _Atomic uint64_t data[SHM_PARTY_WORDS]; /* the kind's */
};

/* One who can hold and wait: slot i is seat i; the seats behind the slots are the daemon's to give to connections. */
struct shm_seat {
    _Alignas(SHM_LINE) _Atomic uint32_t gen; /* of a connection's; a slot has its own */
    _Atomic uint32_t pid, uid;
    _Atomic uint32_t bell;    /* futex of a slot: +1 when its wait may be over */
    _Atomic uint64_t conn;    /* the daemon's name for the connection; 0: the seat is free */
    _Atomic uint64_t shards;  /* in which it has ever held or waited for something */
    _Atomic uint32_t by;      /* owner word of the daemon that gave it out */
    _Atomic uint32_t asleep;  /* 1: it may sleep on the bell */
    struct shm_party waiting; /* the one thing it waits for */
};

/* A sync object. The block is never anything else: given back, it lies in a list of its shard for the next one, so that who
 * still has its offset finds a word with another serial. All under the shard's lock but for `word` while its bit W is
 * clear, and `extra`, which is its owner's. */
struct shm_sync {
    _Atomic uint64_t link;        /* next of the doomed, or of the free ones */
    _Atomic uint64_t kind;        /* enum key_type (8) | 0 (8) | account (8) */
    _Atomic uint64_t word;        /* owner (31) | W (1) | serial << 32; sync_private.h */
    _Atomic uint64_t extra;       /* of an rlock: times its owner has it beyond the first */
    _Atomic uint64_t next, prev;  /* of the shard's sync objects */
    _Atomic uint64_t place;       /* number of the shard (32) | enum sync_state << 32 */
    _Atomic uint64_t since;       /* ms, when the owner came; 0: not known */
    _Atomic uint64_t first, last; /* parties that wait, in order */
    _Atomic uint64_t waiting;     /* how many */
    _Atomic uint64_t holders; /* parties that hold, where that is not in the word: linked blocks */
    _Atomic uint64_t n_holders;
    _Atomic uint64_t birth; /* +1 when the block becomes another object */
    _Atomic uint64_t reserved[2];
    _Atomic uint64_t words[SHM_SYNC_WORDS]; /* the kind's */
};

/* What a queue holds (queue.c): the block that words[0] of its object names. Under the shard's lock. */
struct shm_chain {
    _Atomic uint64_t first, last;
};
struct shm_queue {
    struct shm_list list;       /* what is to be got, behind `front` */
    _Atomic uint64_t max_items; /* 0: no bound */
    _Atomic uint64_t lease_ms;  /* 0: no leases; signed, -1: until the taker dies */
    _Atomic uint64_t closed;
    _Atomic uint64_t unfinished;
    _Atomic uint64_t waiting[3];  /* who stand in line, by what they wait for */
    _Atomic uint64_t rights[2];   /* to items, to places: handed out and not yet used */
    _Atomic uint64_t front;       /* items that came back, linked by `next` */
    _Atomic uint64_t returned;    /* how many */
    struct shm_chain chains[2];   /* items on lease: until death; and by when they end */
    _Atomic uint64_t leased;      /* how many */
    _Atomic uint64_t lease_table; /* block of words: an item's offset, or 2 * next free place + 1 */
    _Atomic uint64_t lease_cap;   /* words */
    _Atomic uint64_t lease_free;  /* first free place + 1 */
    _Atomic uint64_t lease_serial;
};

/* An item on lease, or that came back. */
struct shm_item {
    _Atomic uint64_t next, prev; /* of its chain */
    _Atomic uint64_t lease;      /* its number; 0: it came back */
    _Atomic uint64_t owner;      /* owner word */
    _Atomic uint64_t until_ms;   /* of clock_now(); 0: until the owner dies */
    _Atomic uint64_t len;
    uint8_t bytes[];
};

/* What a pipe holds (pipe.c), likewise. way[e]: towards end e. */
struct shm_pipe_way {
    struct shm_list list;
    _Atomic uint64_t bytes;       /* of its messages */
    _Atomic uint64_t rights;      /* to messages, handed out and not yet used */
    _Atomic uint64_t room, rooms; /* bytes that were promised to senders, and to how many */
    _Atomic uint64_t waiting[3];  /* who stand in line, by what they wait for */
};
struct shm_pipe {
    _Atomic uint64_t duplex;
    _Atomic uint64_t buffer;     /* bytes */
    _Atomic uint64_t held;       /* a bit for each end that somebody ever held */
    _Atomic uint64_t holders[2]; /* owners who hold an end */
    struct shm_pipe_way way[2];
};

/* The value of a node in shard.keys: what a key is. For values the bytes follow. */
struct shm_key {
    _Atomic uint64_t
        kind; /* enum key_type (8) | encoding (8) | account (8) | 0 (8) | owner slot's word (32), 0: nobody's */
    _Atomic uint64_t expire;  /* ms since 1970; 0: never */
    _Atomic uint64_t version; /* of the shard, when it was last changed */
    _Atomic uint64_t
        object;           /* block of the dict or list; a value that is an integer: the integer */
    _Atomic uint64_t len; /* bytes of a value; they lie in bytes[], whose room is the node's */
    _Atomic uint64_t used_ms; /* last use, roughly (OBJECT IDLETIME) */
    uint8_t bytes[];
};

struct shm_header {
    uint64_t magic;
    uint32_t version;
    uint32_t signature; /* over sizes and offsets of every struct here */
    uint64_t size;
    uint64_t created_ms;
    uint64_t pools_off, slots_off, seats_off, granted_off, done_off, free_off, tasks_off,
        shards_off, managers_off, uses_off, accounts_off, arenas_off, chunks_off, map_off, data_off;
    uint32_t pools, slots, seats, tasks, managers, chunks;
    uint64_t seed; /* of the hash of keys and fields */
    _Alignas(SHM_LINE) _Atomic uint64_t next_id;
    _Atomic uint64_t free_hint;                    /* word of the free map where searching begins */
    _Atomic uint64_t tasks_used;                   /* records from here on have never been used */
    _Atomic uint64_t managers_used;                /* the same for the places of managers */
    _Alignas(SHM_LINE) struct shm_lock chunk_lock; /* the chunk map and every w0 */
    _Atomic uint64_t chunk_hint; /* word of the chunk map where searching begins */
    _Atomic uint64_t chunks_free;
    _Alignas(SHM_LINE) _Atomic uint32_t asleep; /* the daemon is about to sleep: ring its bell */
    _Atomic uint32_t news;   /* +1 when a slot has something to tell the supervisor */
    _Atomic uint32_t sweep;  /* 1: the done ring was full; the daemon must look at all records */
    _Atomic uint32_t upkeep; /* enum op_upkeep: the most urgent that waits in the shards */
    _Atomic uint64_t next_check_ns; /* when the daemon will look at deadlines anyway */
    _Atomic uint64_t watched;       /* shards with keys the daemon's clients wait for */
    _Atomic uint64_t touched; /* those of them in which something was committed since it looked */
    struct shm_ring done;
    _Alignas(SHM_LINE) _Atomic uint32_t
        seats_used;             /* seats from here on have never been given out */
    _Atomic uint32_t seat_hint; /* where looking for a free seat begins */
    _Atomic uint32_t parked;    /* 1: somebody has waited for a sync object */
    _Atomic uint32_t granted;   /* 1: there may be bits in the map of granted seats */
    _Atomic uint64_t strays;    /* shards that a sync object was moved to from another */
    _Atomic uint64_t
        lease_next; /* ms of clock_now() at which the daemon is to look at leases; 0: not */
    _Atomic uint64_t lease_shards; /* where there may be some that end by time */
    /* durable keys (dirty.c) */
    _Alignas(SHM_LINE) _Atomic uint64_t dirty; /* shards in which something may be noted */
    _Atomic uint32_t durable;                  /* enum dirty_state */
    _Atomic uint32_t drains_begun, drains_done;
    _Atomic uint32_t drain_wanted;  /* 1: somebody waits for the next one */
    _Atomic uint32_t drain_waiters; /* 1: somebody may sleep on the bell */
    _Atomic uint32_t drain_bell;    /* futex: +1 after a drain while somebody waits */
    _Atomic uint64_t kept_off;      /* bytes of the daemon's own, for its successor (adopt.c) */
    _Atomic uint64_t kept_spare;
};

_Static_assert(sizeof(struct shm_task) == 256, "a queued task costs 256 bytes and its payload");
_Static_assert(sizeof(struct shm_stream) == SHM_STREAM, "one chunk");
_Static_assert(sizeof(struct shm_chunk) == 32, "chunk head");
_Static_assert(sizeof(struct shm_seat) == 128, "two lines");
_Static_assert(sizeof(struct shm_sync) == 256, "a size class of the allocator");
_Static_assert(sizeof(pthread_mutex_t) <= 64, "life word");
