/* SPDX-License-Identifier: MIT */
/* Connections: bytes in, commands out to dispatch, replies back. What all of serve/ shares is here:
 * struct serve, struct conn and how a reply is written (reply.h). */
#pragma once

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/hearthd.h"
#include "daemon/groups.h"
#include "daemon/proc.h"
#include "daemon/tasks.h"
#include "daemon/users.h"
#include "lib/base/buf.h"
#include "lib/base/list.h"
#include "lib/wire/commands.h"
#include "lib/wire/resp.h"

enum {
    CONN_READ = 64 * 1024,        /* bytes read at a time */
    CONN_READS = 4,               /* reads per connection and turn */
    CONN_COMMANDS = 1024,         /* commands per connection and turn */
    CONN_FLUSH = 64 * 1024,       /* bytes of replies that are written before the turn's end */
    CONN_FLUSH_MAX = 1024 * 1024, /* bytes written at a time, per connection */
    CONN_HELD_MAX =
        64 * 1024, /* unparsed input at which a connection that is held is not read further */
    CONN_COPY_MAX = 32 * 1024, /* results over this are sent straight from the segment */
    CONN_NAME_MAX = 256,       /* CLIENT SETNAME, SETINFO */
};

enum reply_mode { REPLY_ON, REPLY_OFF };

/*   IDLE --TASK.CALL--> CALL --+        IDLE: commands are taken
 *    ^  |--TASK.WAIT--> WAIT --+        else: later commands wait in the buffer
 *    |  |--POOL.DRAIN-> DRAIN -+
 *    |  |--GROUP.WAIT-> GROUP -+
 *    |  |--POOL.BROADCAST> BROADCAST +
 *    |  |--PROC.WAIT--> PROC --+
 *    |  |--WORKER.NEXT> NEXT --+        NEXT: a further command ends it
 *    |  |--BLPOP ...--> KEYS --+
 *    |  |--TASK.SUBMIT> ROOM --+        ROOM: its words are taken again then (room.h)
 *    |  |--LOCK.ACQUIRE, QUEUE.GET and their kin> SYNC +
 *    |  \--EVENTS.READ> EVENTS +
 *    +-------------------------+  */
enum conn_block {
    BLOCK_NONE,
    BLOCK_CALL,
    BLOCK_WAIT,
    BLOCK_DRAIN,
    BLOCK_KEYS,
    BLOCK_EVENTS,
    BLOCK_NEXT,
    BLOCK_ROOM,
    BLOCK_GROUP,
    BLOCK_BROADCAST,
    BLOCK_PROC,
    BLOCK_SYNC
};

/* What is asked of the segment next for a connection in BLOCK_SYNC: wait_sync.c */
enum conn_sync_phase { PHASE_CHECK, PHASE_POLL, PHASE_GIVE_UP };

/* A result in the segment that goes out behind `at` bytes of the output. */
struct out_ref {
    uint64_t at; /* position in the stream of copied bytes (conn.out_sent counts them) */
    const char *data;
    size_t len;
    uint32_t idx; /* pinned */
};

struct conn_waiter {
    struct task_waiter waiter;
    struct conn *conn;
};

/* What an EVENTS.READ asks for. */
struct event_wish {
    uint64_t from, count;
    uint32_t types; /* enum event_type bits */
};

struct partial;   /* an MSUBMIT or MAP under way: partial.c */
struct managers;  /* cmd_manager.c */
struct blocks;    /* blocks.c */
struct multi;     /* MULTI and WATCH: cmd_multi.c */
struct keyspace;  /* keyspace.c */
struct peer;      /* mapped.c */
struct broadcast; /* broadcast.c */
struct passed;    /* passed.c */
struct conn_keys; /* the lists that a client waits for, ... */
struct wait_keys; /* ... and those of all: wait_keys.c */
struct seat;      /* an owner of locks in the segment, ... */
struct wait_sync; /* ... and those of all: wait_sync.c */

/* How a worker wants to hear that its task is to stop. */
enum conn_hears { HEARS_NOT, HEARS_PUSH, HEARS_SIGNAL };

struct conn {
    struct serve *serve;
    struct list node;  /* serve.conns */
    struct list dirty; /* serve.dirty: has output */
    struct list ready; /* serve.ready: has commands to go on with; or serve.retry: a little later */
    struct conn *hash_next;
    uint64_t id;
    int fd;
    struct event ev_read, ev_write;
    bool reading, writing; /* the events are added; conn_interest() alone changes that */
    bool dead;             /* on serve.dead, closed; freed at the end of the turn */
    bool closing;          /* no more commands; closed once the output is written */
    bool eof;              /* the client has shut its side down */
    bool blocked_write;    /* the socket took no more */
    bool broken;           /* a reply could not be made: no memory */
    bool muted;            /* replies to the command in hand are dropped */
    bool skip;             /* CLIENT REPLY SKIP: mute the next one */
    bool notify;           /* TASK.NOTIFY ON */
    bool no_evict, no_touch;
    bool behind;        /* with what tasks tell: they wait for it (follow.c) */
    bool stalled;       /* commands wait until the client has read more of its replies */
    bool exec;          /* EXEC is carrying out what was queued: nothing blocks */
    bool checking;      /* a container command is only to look whether its subcommand exists */
    bool overrun;       /* so far behind with pushes, or its reply so long, that it must go */
    uint8_t proto;      /* 2 or 3 */
    uint8_t reply_mode; /* enum reply_mode */
    uint8_t block;      /* enum conn_block */
    /* bytes */
    struct buf in; /* what is not parsed yet; empty while the client is idle */
    struct resp_reader reader;
    struct buf out;
    uint64_t out_sent; /* bytes of `out` ever consumed */
    struct out_ref *refs;
    uint32_t refs_first, refs_n, refs_cap;
    size_t refs_bytes; /* not yet sent */
    size_t ref_done;   /* bytes of the first one already sent */
    /* waiting */
    struct conn_waiter one; /* TASK.CALL, or TASK.WAIT for one task */
    struct conn_waiter *many;
    uint32_t n_many;
    const struct pool *drain;    /* BLOCK_DRAIN */
    struct group_waiter group;   /* BLOCK_GROUP */
    struct proc_waiter proc;     /* BLOCK_PROC */
    struct broadcast *broadcast; /* BLOCK_BROADCAST */
    struct conn_keys *keys;      /* BLPOP and its kin */
    struct event_wish wish;      /* BLOCK_EVENTS */
    struct seat *seat;           /* NULL: it holds and waits for nothing */
    struct conn_sync {           /* BLOCK_SYNC */
        struct list node;        /* wait_sync.retry */
        void (*say)(struct conn *c, int answer);
        uint8_t phase;     /* enum conn_sync_phase */
        uint8_t late;      /* enum sync_late */
        bool died;         /* the answer 1 says so */
        bool error;        /* CLIENT UNBLOCK ... ERROR */
        bool again;        /* its words are kept, and taken again */
        bool answered;     /* ... only for the sake of `answer` */
        int answer;        /* negative */
        uint64_t until_ns; /* of `again`; UINT64_MAX: for ever */
    } sync;
    struct room { /* BLOCK_ROOM: room.c */
        struct list node;
        struct pool *pool;
        uint32_t n;
        uint64_t bytes;
        bool first, over; /* it is its turn; it has waited for too long: of the command in hand */
    } room;
    struct event *timer;    /* a wait with a limit, ... */
    uint64_t wait_until_ns; /* ... which is then */
    struct partial *partial;
    struct list leases; /* struct lease.in_conn: it is a worker, or is to be one: leases.c */
    const struct pool *works_for; /* NULL: it has not joined */
    bool own;                     /* made by us for a worker that we started */
    uint8_t hears;                /* enum conn_hears */
    struct buf held;        /* pushes that must not go out before the reply of `partial` or EXEC */
    struct peer *peer;      /* has the segment mapped: mapped.c; NULL: not */
    uint32_t managers;      /* that it has open: cmd_manager.c */
    uint32_t blocks;        /* that go with it: blocks.c */
    uint32_t pairs;         /* of PIPE.FD, half given out */
    struct multi *multi;    /* NULL: neither queues nor watches */
    struct task_ref *owned; /* tasks that end with it; some have ended already */
    uint32_t n_owned, cap_owned;
    bool owns_procs;       /* processes too */
    struct passed *passed; /* descriptors that were sent along: passed.c; NULL: takes none */
    /* subscriptions */
    struct list subs;
    uint32_t n_channels, n_patterns;
    struct holds *holds; /* replies that wait for the disk: hold.c; NULL: none */
    bool dirtied;        /* the command under way has changed durable keys */
    struct list holding; /* serve.holding */
    struct list told;    /* tasks of others whose ends are pushed to it: notify_push.c */
    struct list follows; /* tasks whose streams are pushed to it: follow.c */
    /* accounts */
    size_t charged; /* bytes of its buffers, as counted in serve.charged */
    uint32_t live;  /* tasks submitted here that have not ended */
    uid_t uid;
    uint32_t user; /* his place in d->users */
    pid_t pid;
    uint64_t busy_since_ns, busy_progress; /* its command waits for a lock: sitting.c */
    uint32_t busy_owner;
    unsigned account;    /* in the segment: lib/shm/account.h */
    uint32_t roles;      /* enum role bits, ... */
    uint64_t may_submit; /* ... and pools, by index: what this user may do, as of connecting */
    uint64_t may_work;   /* pools whose tasks he may take */
    char *name, *lib_name, *lib_ver; /* NULL: none */
    uint64_t since_ns, active_ns;
    uint64_t commands, bytes_in, bytes_out;
    uint32_t hits, misses; /* of the command in hand: object_looked() */
    int last_command;      /* enum command_id; -1: none */
    struct {
        void (*fn)(void *arg, const char *sub);
        void *arg;
    } each_sub;           /* dispatch_subs() */
    const char *last_sub; /* its subcommand; NULL: none */
};

struct serve {
    struct hearthd *d;
    int listen_fd;
    int lock_fd;     /* of our own socket's lock file; -1: none */
    bool own_socket; /* we made the file and remove it */
    bool accepting;  /* as serve_accepting() said */
    bool paused;     /* out of descriptors */
    struct event *ev_accept, *ev_resume, *ev_retry;
    uint32_t conns_max; /* as the descriptors allow; at it accepting pauses */
    dev_t socket_dev;
    ino_t socket_ino;
    struct list conns, dirty, ready, retry, dead, holding;
    /* Unread replies at which a client's next commands wait. Many clients send a whole pipeline
     * before they read, so it is half of what one may have at all. */
    size_t stall_at;
    size_t out_max; /* limits.client_max_output */
    uint32_t n_conns;
    uint32_t n_own;             /* of these, connections of workers that we started */
    uint32_t n_draining;        /* connections in BLOCK_DRAIN, ... */
    uint32_t n_event_readers;   /* ... in BLOCK_EVENTS */
    struct list in_room;        /* ... in BLOCK_ROOM: conn.room, who came first first, ... */
    uint32_t n_room[SHM_POOLS]; /* ... and how many, by pool */
    uint64_t events_told;       /* events before this one have been told */
    uint64_t sat_lock;          /* the last who was reported for sitting on a lock: sitting.c */
    uint32_t sat_owner;
    uint64_t lock_timeouts;
    bool accounts_full;    /* it was said */
    uint64_t charged;      /* bytes of all connections' buffers */
    uint64_t charged_most; /* since memory was last given back */
    struct conn **by_id;   /* hash: id & (by_id_size - 1) */
    uint32_t by_id_size;
    uint64_t next_id;
    char quota[160]; /* why accounts_may_submit() refused */
    char *scratch; /* CONN_READ bytes: input is parsed here and only what is left over is copied */
    struct task_bytes *args;
    uint32_t args_cap;
    struct pubsub *pubsub;
    struct keyspace *keyspace;
    struct roles *roles, *roles_next; /* roles.c */
    struct mapped *mapped;            /* mapped.c */
    struct managers *managers;
    struct blocks *blocks;
    struct event *ev_door; /* door.c */
    struct wait_keys *wait_keys;
    struct wait_sync *wait_sync;
    struct event *ev_queues; /* the next lease of an item ends: cmd_queue.c */
    struct list pairs;       /* struct pair: cmd_pipe_fd.c */
    uint32_t n_pairs;
    uint64_t random;       /* state of serve_random() */
    uint64_t now_ns;       /* as of the last event */
    uint32_t answered_idx; /* task whose end has just been given as TASK.CALL's reply: no push;
                              UINT32_MAX: none */
    /* INFO */
    uint64_t accepted, refused, commands, errors, bytes_in, bytes_out, closed_output,
        closed_protocol;
    uint64_t hits, misses;
    uint64_t calls[COMMAND_COUNT_OF];
    uint64_t rejected[COMMAND_COUNT_OF]; /* not carried out */
    uint64_t failed[COMMAND_COUNT_OF];   /* carried out, and answered with an error */
};

/* ---- conn.c ---- */
/* fd is consumed, also on failure. NULL: no memory. */
struct conn *conn_new(struct serve *s, int fd);
/* Closes at once; freed at the end of the turn. why (as for printf) is logged; NULL: nothing is.
 * Not while subscribers are being walked: set overrun there. */
void conn_kill(struct conn *c, const char *why, ...) __attribute__((format(printf, 2, 3)));
void conn_free(struct conn *c);
/* No more commands; closed when all output has been written. */
void conn_finish(struct conn *c);
/* The output has grown: it is written in this turn. */
void conn_dirty(struct conn *c);
/* Commands wait in the buffer: goes on with them at the end of this turn. */
void conn_resume(struct conn *c);
/* Carries out the commands in the buffer, within the turn's bounds. */
void conn_process(struct conn *c);
/* After anything has changed: closes what is over, goes on with what can, watches what is to be
 * watched. */
void conn_settle(struct conn *c);
/* Bytes of output that the client has not taken. */
static inline size_t conn_pending(const struct conn *c) {
    return buf_len(&c->out) + c->refs_bytes;
}
/* Where messages go that are no reply: behind the reply of an MSUBMIT or EXEC that is under way. */
static inline struct buf *conn_push_buf(struct conn *c) {
    return c->partial || c->exec ? &c->held : &c->out;
}

/* ---- output.c ---- */
/* Writes what the socket takes. 0 (also when some is left: c->blocked_write) or -errno. */
int output_flush(struct conn *c);
/* Appends bytes of an ended task to `to`, without a head or end: by reference, pinned until sent,
 * when they are many and `to` is c->out. 0 or -ENOMEM. */
int output_bytes(struct conn *c, struct buf *to, uint32_t idx, const struct task_bytes *bytes);
/* The same as a bulk string. */
int output_bulk(struct conn *c, struct buf *to, uint32_t idx, const struct task_bytes *bytes);
/* May a command that passes descriptors with its reply go on? False: it has been told why not. */
bool output_can_pass(struct conn *c, const char *command);
/* Sends the reply just made with n (at most OUTPUT_FDS) descriptors, which stay the caller's. What the socket does not take
 * at once waits in the output. */
enum { OUTPUT_FDS = 2 };
void output_pass(struct conn *c, const int *fds, size_t n);
/* Drops all output. */
void output_deinit(struct conn *c);

/* ---- block.c ---- */
/* TASK.CALL: the reply comes when the task (which has not ended) ends. */
void block_call(struct conn *c, uint32_t idx);
/* TASK.WAIT for the first of n tasks, none of which has ended. timeout_ms UINT64_MAX: for ever. 0
 * or -ENOMEM. */
int block_wait(struct conn *c, const uint32_t *idx, uint32_t n, uint64_t timeout_ms);
/* POOL.DRAIN: until no task of the pool is left. As block_wait(). */
int block_drain(struct conn *c, const struct pool *p, uint64_t timeout_ms);
/* EVENTS.READ: until there is something that is asked for. As block_wait(). */
int block_events(struct conn *c, const struct event_wish *w, uint64_t timeout_ms);
/* Answers those whose pools are empty. */
void block_drain_turn(struct serve *s);
/* What else connections wait for: who calls it keeps the rest, and ends it in block_end(). As block_wait(). */
int block_as(struct conn *c, enum conn_block what, uint64_t timeout_ms);
/* The time is up: the reply of a wait that nothing came of. */
void block_reply_over(struct conn *c);
/* The wait is over, without a reply. */
void block_end(struct conn *c);

/* ---- owned.c ---- */
/* Room for one task more that ends with the connection. 0 or -ENOMEM. */
int owned_room(struct conn *c);
void owned_add(struct conn *c, const struct task_ref *t); /* room has been made */
/* Cancels them, and ends processes. */
void owned_end(struct conn *c);

/* ---- serve.c ---- */
/* A random number; not for secrets. */
uint64_t serve_random(struct serve *s);

/* ---- accounts.c ---- */
int accounts_open(struct serve *s);
void accounts_add(struct conn *c); /* gives it an id */
/* The limits of users are other ones. */
void accounts_configure(struct serve *s);
void accounts_remove(struct conn *c);
struct conn *accounts_find(struct serve *s, uint64_t id); /* NULL: it is gone */
/* May this connection, and its user, queue n more tasks of so many bytes in all? 0, or -EDQUOT:
 * serve.quota says which limit is in the way. */
int accounts_may_submit(struct conn *c, uint64_t n, uint64_t bytes);
/* May this user connect once more? As above. */
int accounts_may_connect(struct serve *s, uid_t uid);
/* What the user of a connection has. */
const struct user *accounts_user(const struct conn *c);
/* Counts what the connection's buffers hold now. */
void accounts_charge(struct conn *c);
/* Closes those that hold the most until all together are within limits.clients_memory. */
void accounts_relieve(struct serve *s);
/* After a flood, gives the kernel back what the C library has kept of its memory. */
void accounts_give_back(struct serve *s);
/* A message nobody asked for is to be added: false when the client is so far behind that it is
 * closed instead. */
bool accounts_may_push(struct conn *c);
