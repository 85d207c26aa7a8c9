/* SPDX-License-Identifier: MIT */
/* libhearth: run functions of warm worker processes through a hearthd on this machine.
 *
 *     struct hearth *h;
 *     struct hearth_result r;
 *     struct hearth_task t = {.pool = "text", .handler = "words", .payload = doc, .payload_len =
 * n}; if (hearth_connect(NULL, &h) == 0 && hearth_call(h, &t, &r) == 0 && r.status == HEARTH_DONE)
 * { fwrite(r.data, 1, r.len, stdout);
 *     }
 *     hearth_close(h);
 *
 * A task is a handler's name, a payload and text arguments. Each task accepted by the daemon ends
 * exactly once, in one of: done, failed, lost, timeout, cancelled, expired. There are two ways to hear of
 * it: hearth_call() and hearth_map() block; hearth_submit() returns at once and calls a function of
 * yours later, from inside hearth_dispatch() (call it when your event loop says the descriptor is
 * ready) or hearth_run() (which is such a loop).
 *
 * Return values: 0; a negative errno (-ENOMEM, -EINVAL, ...) for what should not happen; a positive
 * HEARTH_E_ code for what may. hearth_strerror() names both; hearth_errmsg() has the daemon's own
 * words for the last failure of a handle.
 *
 * Threads: a handle is used by one thread at a time; the library takes no lock. Different handles
 * are independent and there is no global state, so give each thread its own handle. Signals: no
 * function raises SIGPIPE or changes a handler. Fork: descriptors are close-on-exec; a child of
 * fork() must not use its parent's handles; hearth_abandon() lets go of them.
 *
 * Memory: what a function puts into a hearth_result, hearth_task_info or hearth_reply belongs to
 * the handle and is valid until the next call with that handle (in a callback: until it returns).
 * What you pass in is copied before the function returns, unless stated otherwise. Nothing given to
 * you is ever yours to free, except the handle. */
#ifndef HEARTH_H
#define HEARTH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define HEARTH_API __attribute__((visibility("default")))
#else
#define HEARTH_API
#endif

/* Where hearth_connect(NULL) goes when $HEARTH_SOCKET is not set. */
#define HEARTH_DEFAULT_SOCKET "/run/hearth/hearth.sock"
/* The longest id, without its NUL. */
#define HEARTH_ID_MAX 63

/* ---- what can go wrong ---- */

enum hearth_error {
    HEARTH_E_REFUSED = 1,   /* the daemon said no, in words that hearth_errmsg() has */
    HEARTH_E_NOPOOL = 2,    /* there is no pool of that name */
    HEARTH_E_NOHANDLER = 3, /* the pool has no handler of that name */
    HEARTH_E_BUSY = 4, /* the pool's queue is full: try again when some of your tasks have ended */
    HEARTH_E_OOM = 5,  /* the daemon's segment is full */
    HEARTH_E_NOTASK = 6,       /* no task of that id: never accepted, or forgotten since */
    HEARTH_E_PENDING = 7,      /* not ended yet, or the time given is over */
    HEARTH_E_DISCONNECTED = 8, /* the connection is lost: see hearth_reconnect() */
    HEARTH_E_PROTOCOL =
        9, /* the other side does not speak Hearth's protocol; the connection is lost */
    HEARTH_E_ABSENT = 10,     /* no such shared object, field or element */
    HEARTH_E_EXISTS = 11,     /* there is one already */
    HEARTH_E_TYPE = 12,       /* the object is of another type */
    HEARTH_E_NUMBER = 13,     /* not a number, or the sum is none */
    HEARTH_E_UNEXPECTED = 14, /* a transaction found something that was to be otherwise */
    HEARTH_E_ENDED =
        15, /* the manager that the name belongs to has ended; what was waited for has been deleted */
    HEARTH_E_QUOTA =
        16, /* a user would have more objects, or bytes in them, than the daemon's limits let him */
    HEARTH_E_NOTOWNER = 17, /* it is not this handle that holds it */
    HEARTH_E_DEADLOCK = 18, /* to wait would close a circle in which each waits for another */
    HEARTH_E_BROKEN = 19,   /* the barrier is broken */
    HEARTH_E_CLOSED = 20,   /* the queue, or the other end of the pipe, is closed */
    HEARTH_E_OVERFLOW = 21  /* more is given back than was taken */
};

/* A static text for a return value of this library, of either sign. Never NULL. Thread-safe. */
HEARTH_API const char *hearth_strerror(int error);

/* ---- the connection ---- */

struct hearth;

/* Connects to the daemon's socket and greets it; blocks for up to 30 s. path NULL: $HEARTH_SOCKET
 * if set and not empty, else HEARTH_DEFAULT_SOCKET. Errors: those of connect(2), of which -ENOENT
 * and -ECONNREFUSED mean that no daemon is there and -EACCES that this user may not; -ENAMETOOLONG:
 * more than 107 bytes; -ETIMEDOUT: no answer; HEARTH_E_PROTOCOL: something else listens there.
 * *ret_h is set on success only and ended by hearth_close(). */
HEARTH_API int hearth_connect(const char *path, struct hearth **ret_h);

/* The same over a connected stream socket, which the handle owns from now on, also on failure. Such
 * a handle cannot hearth_reconnect(). */
HEARTH_API int hearth_connect_fd(int fd, struct hearth **ret_h);

/* Closes and frees. Accepted tasks go on in the daemon; callbacks still outstanding are not called.
 * Output not yet sent is dropped (hearth_run() before, if it matters). NULL is fine. Not from a
 * callback. */
HEARTH_API void hearth_close(struct hearth *h);

/* In a child of fork(), for a handle of the parent's: closes this process's descriptors and unmaps, and says nothing to anybody: for
 * the parent nothing has changed. The handle must not be used after. Its memory is not freed, as another thread of the parent
 * may have been at work on it. NULL is fine. */
HEARTH_API void hearth_abandon(struct hearth *h);

/* Connects again, to the same path, after the connection was lost. A lost connection is never
 * repaired silently, unless hearth_set_reconnect() says so: every outstanding callback is called with HEARTH_DISCONNECTED and the task's
 * id (empty when the daemon had not yet answered, so that the task may or may not have been
 * accepted), and every function returns HEARTH_E_DISCONNECTED until this one succeeds. Tasks that
 * were accepted went on meanwhile: hearth_wait() with their ids finds their results. Returns as
 * hearth_connect(); -EISCONN: it is not lost; -ENOTSUP: made by hearth_connect_fd(). The descriptor
 * changes. Not from a callback (-EDEADLK). */
HEARTH_API int hearth_reconnect(struct hearth *h);

/* From now on a lost connection is made again, for limit_ms at most (0, as at first: never), and tasks go on: nobody hears of the
 * loss but by the time it takes. hearth_run(), _call(), _map(), _wait() and all others that wait connect again by themselves,
 * and attach again to the segment. Pending tasks whose id is known are asked for anew; those whose submission was not answered, and
 * those submitted meanwhile, are submitted with a key (UNIQUE key KEEP: no other may be in their options), so that they are
 * not run twice: as long as the daemon finds its segment or database again, each callback tells the real end. When the time is
 * over, or the daemon does not know a task any more, it is HEARTH_DISCONNECTED. A task that is OWNED ends with the connection that was
 * lost; data_fn hears no more of a task that was accepted before.
 * Any other command that was under way fails with HEARTH_E_DISCONNECTED, as it may have been carried out; the next one
 * works again. hearth_dispatch() never waits: it returns HEARTH_E_DISCONNECTED, and you call hearth_reconnect() now and then until
 * it returns 0 (or hearth_pending() is 0: the time was over), and watch the new descriptor.
 * -ENOTSUP: made by hearth_connect_fd(). */
HEARTH_API int hearth_set_reconnect(struct hearth *h, int limit_ms);

/* The path connected to; "" after hearth_connect_fd(). */
HEARTH_API const char *hearth_path(const struct hearth *h);

/* The last failure of a function of this handle, in words; "" if there was none. Valid until the
 * next failure. */
HEARTH_API const char *hearth_errmsg(const struct hearth *h);

/* ---- tasks ---- */

/* What a task tells while it runs. */
enum hearth_data_kind {
    HEARTH_DATA = 0,          /* a part of the output, as its handler gives it */
    HEARTH_DATA_STDOUT = 1,   /* of a command or program */
    HEARTH_DATA_STDERR = 2,   /* the same */
    HEARTH_DATA_LOG = 3,      /* a line of the handler's */
    HEARTH_DATA_PROGRESS = 4, /* how far it has come */
    HEARTH_DATA_RETRY = 5     /* it has failed and is tried again: all before this is void */
};
struct hearth_data {
    const char *id;
    uint64_t ticket; /* of hearth_submit(); 0 elsewhere */
    size_t index;    /* position in hearth_submit_many(); 0 elsewhere */
    enum hearth_data_kind kind;
    const char *
        data; /* the bytes, followed by a NUL that is not counted; of a progress: text; of a retry: the attempt's number */
    size_t len;
    uint64_t done, total; /* of a progress; total 0: not known */
};
/* Called for each piece, in order, and not after the task's end has been told; from where a hearth_done_fn is called, and with
 * the same restrictions. A task waits while this handle is not read: be quick, or dispatch often. */
typedef void (*hearth_data_fn)(struct hearth *h, const struct hearth_data *d, void *arg);

/* A task to run. Zero what you do not use. */
struct hearth_task {
    const char *pool;        /* required */
    const char *handler;     /* required; the handler of an exec pool is "run" */
    const void *payload;     /* any bytes, up to 64 MiB */
    size_t payload_len;      /* 0: the empty payload */
    const char *const *args; /* n_args texts */
    const size_t *arg_lens;  /* their lengths; NULL: they end at their NUL */
    size_t n_args;
    uint64_t timeout_ms; /* time limit of a run, from its start; 0: the pool's own */
    /* Further options of TASK.SUBMIT, a name and a value in turn: "PRIORITY", "200", "DELAY", "5000",
     * "EXPIRE", "DEADLINE", "RETRY", "3", "ON", "crash,timeout", "BACKOFF", "MAX", and those
     * with two ("LIMIT", key, "3", "UNIQUE", key, "KEEP", "AFTER", "group:name", "OK") or none
     * ("GROUP", "name", "LAST", "DURABLE"): PROTOCOL.md has all. */
    const char *const *options;
    size_t n_options; /* words */
    /* If set: called as data_fn(h, data, data_arg) for what the task tells. */
    hearth_data_fn data_fn;
    void *data_arg;
};

enum hearth_status {
    HEARTH_DONE = 0,         /* data is the result */
    HEARTH_FAILED = 1,       /* the handler said so: code and cause */
    HEARTH_LOST = 2,         /* its worker died: cause says how */
    HEARTH_TIMEOUT = 3,      /* over its time limit */
    HEARTH_CANCELLED = 4,    /* cancelled by someone, or the daemon stopped */
    HEARTH_REFUSED = 5,      /* never accepted: error says why. No id */
    HEARTH_DISCONNECTED = 6, /* the connection was lost first: see hearth_reconnect() */
    HEARTH_EXPIRED = 7 /* not begun in time: EXPIRE or DEADLINE of its options, or the pool's */
};

/* "done", "failed", ... A static text, never NULL. Thread-safe. */
HEARTH_API const char *hearth_status_name(enum hearth_status status);

/* How a task ended. */
struct hearth_result {
    const char *id;  /* "" when it has none or (hearth_call) it is not told */
    uint64_t ticket; /* of hearth_submit(); 0 elsewhere */
    size_t index;    /* position in hearth_submit_many() or hearth_map(); 0 elsewhere */
    enum hearth_status status;
    int error;        /* HEARTH_REFUSED: an enum hearth_error; else 0 */
    int code;         /* HEARTH_FAILED: the handler's code, or the command's exit status; else 0 */
    const char *data; /* the result, followed by a NUL that is not counted; "" unless HEARTH_DONE */
    size_t len;
    const char *cause; /* one line for people, as "signal 9 (SIGKILL)"; "" when done */
};

/* Called once per task, from hearth_dispatch(), hearth_run() or another function that waits; never
 * from hearth_submit(). In it you may call hearth_submit(), hearth_submit_many(), hearth_cancel(),
 * hearth_pending() and the functions that only look; those that wait return -EDEADLK. */
typedef void (*hearth_done_fn)(struct hearth *h, const struct hearth_result *r, void *arg);

/* Queues a task (multiprocessing's apply_async): fn(h, result, arg) will be called when it has
 * ended. Does not block and does not wait for the daemon's answer: a refusal is told to fn too. It
 * is sent by the next hearth_dispatch(), hearth_run() or hearth_flush(), or when 64 KiB have
 * gathered. *ret_ticket (may be NULL) is this handle's number of the task, never 0, and not used
 * again. fn may be NULL: nobody wants to know. -EINVAL: pool or handler missing; -ENOMEM;
 * HEARTH_E_DISCONNECTED: then fn is not called. */
HEARTH_API int hearth_submit(struct hearth *h, const struct hearth_task *task, hearth_done_fn fn,
                             void *arg, uint64_t *ret_ticket);

struct hearth_bytes {
    const void *data;
    size_t len;
};

/* Queues n (1 to 1,000,000) tasks that differ in their payloads only (task's own is ignored), in
 * one request: all are accepted or none. fn is called for each, result.index telling which.
 * ret_tickets (may be NULL) has room for n. Errors as hearth_submit(). */
HEARTH_API int hearth_submit_many(struct hearth *h, const struct hearth_task *task,
                                  const struct hearth_bytes *payloads, size_t n, hearth_done_fn fn,
                                  void *arg, uint64_t *ret_tickets);

/* Asks for a task of this handle to be cancelled, queued or running. Does not block. Its callback
 * is called as ever: with HEARTH_CANCELLED, or with how it ended if that came first. A ticket of an
 * ended task: HEARTH_E_NOTASK. */
HEARTH_API int hearth_cancel(struct hearth *h, uint64_t ticket);

/* The id the daemon gave to the task of a ticket: "" while not known, NULL when it has ended. */
HEARTH_API const char *hearth_ticket_id(const struct hearth *h, uint64_t ticket);

/* How many tasks of this handle have not had their callback. */
HEARTH_API size_t hearth_pending(const struct hearth *h);

/* ---- with an event loop of yours ---- */

/* The descriptor to watch. It stays the same, and open, until hearth_reconnect() or hearth_close().
 */
HEARTH_API int hearth_get_fd(const struct hearth *h);

/* What to watch it for: POLLIN, with POLLOUT while output waits; 0 when the connection is lost. Ask
 * again after each hearth_dispatch() and after submitting. */
HEARTH_API int hearth_events(const struct hearth *h);

/* Sends what waits, reads what has come, calls callbacks. Never blocks; bounded work (about 1 MiB
 * of input), so a level-triggered loop calls again. 0, or HEARTH_E_DISCONNECTED, HEARTH_E_PROTOCOL,
 * -ENOMEM (the connection is lost, all callbacks have been called). -EDEADLK from a callback. */
HEARTH_API int hearth_dispatch(struct hearth *h);

/* Sends what waits, as far as the socket takes it now. Never blocks, calls no callback. */
HEARTH_API int hearth_flush(struct hearth *h);

/* ---- blocking ---- */

/* Dispatches until no task is pending (0), or timeout_ms (-1: none) have passed (HEARTH_E_PENDING),
 * or a signal handler ran (-EINTR: look at your flags and call again). Errors as hearth_dispatch().
 */
HEARTH_API int hearth_run(struct hearth *h, int timeout_ms);

/* Runs one task and waits for its end (multiprocessing's apply). 0 when it was accepted, whatever
 * its end: look at ret->status. HEARTH_E_NOPOOL, _NOHANDLER, _BUSY, _OOM, _REFUSED when it was not.
 * Callbacks of other tasks are called meanwhile. Goes on after signals. */
HEARTH_API int hearth_call(struct hearth *h, const struct hearth_task *task,
                           struct hearth_result *ret);

/* Waits for the first of n (1 to 1,000,000) tasks, of any connection, to end; timeout_ms -1: for
 * ever, 0: only looks. A task that has ended already counts. HEARTH_E_PENDING: none in time.
 * HEARTH_E_NOTASK: one of them is not known. Goes on after signals. */
HEARTH_API int hearth_wait(struct hearth *h, const char *const *ids, size_t n, int64_t timeout_ms,
                           struct hearth_result *ret);

/* The result of a task of any connection. HEARTH_E_PENDING: not ended; HEARTH_E_NOTASK. */
HEARTH_API int hearth_fetch(struct hearth *h, const char *id, struct hearth_result *ret);

/* What the daemon knows of a task. Texts are never NULL; numbers not known are 0. */
struct hearth_task_info {
    const char *id, *pool, *handler;
    const char *state;       /* waiting queued running done failed lost timeout cancelled expired */
    int64_t attempt;         /* 1: the first */
    int64_t worker_pid;      /* 0: none yet */
    int64_t wait_us, run_us; /* in the queue, in a worker */
    int64_t user_us, system_us, max_rss_kib; /* what it has used, once it has ended */
    int64_t submitted_ms;                    /* since 1970 */
    int64_t payload_bytes, result_bytes;
    const char *
        cause; /* none result error exit signal start timeout deadline expired cancelled stopping */
    int64_t cause_code;       /* of the error; exit status, signal or errno; else 0 */
    const char *cause_text;   /* one line for people, as "signal 9 (SIGKILL)" */
    const char *error_output; /* the end of what an exec task wrote to its standard error */
};

/* HEARTH_E_NOTASK when it is not known. */
HEARTH_API int hearth_status(struct hearth *h, const char *id, struct hearth_task_info *ret);

/* Follows a task of any connection: calls fn for what is kept of what it has told (the last 16 KiB), then for what it tells, until it has
 * ended; *ret is its end, without the result (hearth_fetch()). Of a command that has ended: for the end of its standard output
 * and standard error. timeout_ms -1: for ever. HEARTH_E_PENDING: not ended in time; HEARTH_E_NOTASK; -EINTR: a signal
 * handler ran. */
HEARTH_API int hearth_follow(struct hearth *h, const char *id, int64_t timeout_ms,
                             hearth_data_fn fn, void *arg, struct hearth_result *ret);

/* Only what is kept, at once. fn makes no call with this handle. HEARTH_E_NOTASK. */
HEARTH_API int hearth_log(struct hearth *h, const char *id, hearth_data_fn fn, void *arg);

/* Cancels a task of any connection by its id. 0; HEARTH_E_NOTASK: not known, or ended already; HEARTH_E_REFUSED: it is another
 * user's, and this one is no administrator. */
HEARTH_API int hearth_cancel_id(struct hearth *h, const char *id);

/* Runs a task for each of many payloads (multiprocessing's map, imap, imap_unordered). */
struct hearth_map {
    struct hearth_task task; /* pool, handler, args, timeout of each; valid during the map */
    /* The payloads: an array of n (it must stay as it is during the map), ... */
    const struct hearth_bytes *payloads;
    size_t n;
    /* ... or, if next is set, as many as next() gives, each asked for when there is room for it. It
     * sets *ret_payload to bytes that stay valid until done() has been called for this index, and
     * returns 1; or 0: no more; or a negative errno: hearth_map() gives up with it. -EAGAIN: none
     * now; it is asked again when input_fd can be read, and after each end and tick. */
    int (*next)(void *arg, size_t index, struct hearth_bytes *ret_payload);
    /* Called once for each, in order of completion or, if ordered is set, of index. Anything but 0:
     * hearth_map() stops. */
    int (*done)(void *arg, const struct hearth_result *r);
    /* If set: called about every tick_ms (0: 200) and after signals. Anything but 0: hearth_map()
     * stops. */
    int (*tick)(void *arg);
    int tick_ms;
    void *arg;
    int ordered;   /* results that come early are kept in memory until their turn */
    size_t window; /* most tasks in the daemon at a time; 0: 256. Ordered: also most results kept */
    size_t window_bytes; /* no task is added while the payloads there exceed this; 0: 64 MiB */
    /* If set: called with a copy of task before it is submitted, to give it its own arguments or whatever else differs
     * (starmap). What it points to must stay as the payload must. May be called again when the daemon was full. */
    void (*vary)(void *arg, size_t index, struct hearth_task *task);
    int input_fd; /* used after next() returned -EAGAIN only */
    int busy_ms;  /* how long to try again when refused as busy or out of memory while nothing of
                    this map is left in the daemon; then the task ends HEARTH_REFUSED. 0: 30 s */
};

/* 0 when done() has been called for every payload, whatever the statuses. What done() or tick()
 * returned to stop it, or the error of next(): the tasks in the daemon have then been told to
 * cancel, and done() will not be called for them. A full queue is met by waiting, not by failing.
 * Lost connection: done() is called for what was in the daemon, with HEARTH_DISCONNECTED, then
 * HEARTH_E_DISCONNECTED is returned. */
HEARTH_API int hearth_map(struct hearth *h, const struct hearth_map *map);

/* The same as an iterator (multiprocessing's imap, and imap_unordered without `ordered`): payloads are asked for, and tasks
 * run, no further ahead of the results taken than the window, and at most twice as many results are kept. *map is copied, what it
 * points to must stay; done and tick are not used. The handle may be used for other things between two calls, and must not be closed
 * before the iterator. -ENOMEM. */
struct hearth_imap;
HEARTH_API int hearth_imap_open(struct hearth *h, const struct hearth_map *map,
                                struct hearth_imap **ret);
/* Waits for the next result, valid until the next call with this iterator. HEARTH_E_ABSENT: that were all. Errors as hearth_map(); after a lost
 * connection what was in the daemon comes with HEARTH_DISCONNECTED first. Not from a callback. */
HEARTH_API int hearth_imap_next(struct hearth_imap *it, struct hearth_result *ret);
/* Cancels what has not ended. NULL is fine. */
HEARTH_API void hearth_imap_close(struct hearth_imap *it);

/* ---- shared objects ----
 *
 * Dicts, lists and values by name, in the daemon's shared memory: the same ones that its workers use, and every Redis client.
 * Each function is one transaction. Names, fields and values are bytes. A dict or list is made by the first thing put into it
 * and goes with the last one.
 *
 * They go over the connection or, after hearth_attach(), are done in memory with no round trip; the caller need not know.
 * A `ret` may be NULL when a function does something besides. What is given is followed by a NUL that is not counted.
 *
 * Errors of all: HEARTH_E_TYPE, HEARTH_E_OOM (the segment is full; nothing has changed), HEARTH_E_QUOTA (likewise), HEARTH_E_BUSY (somebody sits on a lock
 * in memory), HEARTH_E_DISCONNECTED, HEARTH_E_PROTOCOL, -ENOMEM; -EMSGSIZE: over 64 MiB; -EINVAL: none of what there must be one of at least;
 * -EDEADLK from a callback, unless done in memory.
 *
 * Dicts, lists and values whose names begin with "durable:" are kept on the disk too, and survive the loss of power. Over the
 * connection a function that has changed one returns when that is on the disk; done in memory it is there with the next write
 * (hearth_durable_sync()). -ENODEV: the daemon has no database; -EIO: it cannot be written; nothing has changed then, unless hearth_errmsg()
 * says that it is done but not on the disk yet. */

/* A C string as bytes, without its NUL. */
static inline struct hearth_bytes hearth_text(const char *text) {
    struct hearth_bytes b;
    b.data = text;
    b.len = strlen(text);
    return b;
}

/* Maps the daemon's shared memory, so that what follows is done there. For root, the daemon's own user and those in map_users of
 * its configuration. With `readonly` it is mapped for reading (map_read_users): what only looks is done in memory, the rest goes over
 * the connection. HEARTH_E_REFUSED: not for this user, or too many have; then all goes on over the connection. -EPROTO: the
 * daemon is of another version. -EISCONN: done already.
 *
 * A mapped process is as trusted as a worker. What it does is safe against its own death at any instruction. The thread that
 * attached must live, and be the one that closes, as long as the handle does. hearth_reconnect() attaches again. */
HEARTH_API int hearth_attach(struct hearth *h, int readonly);
/* 0: not attached; 1: for reading; 2: for both. */
HEARTH_API int hearth_attached(const struct hearth *h);

enum hearth_object_type {
    HEARTH_TYPE_NONE = 0,
    HEARTH_TYPE_VALUE = 1,
    HEARTH_TYPE_DICT = 2,
    HEARTH_TYPE_LIST = 3,
    HEARTH_TYPE_LOCK = 4,
    HEARTH_TYPE_RLOCK = 5,
    HEARTH_TYPE_RWLOCK = 6,
    HEARTH_TYPE_SEMAPHORE = 7,
    HEARTH_TYPE_EVENT = 8,
    HEARTH_TYPE_CONDITION = 9,
    HEARTH_TYPE_BARRIER = 10,
    HEARTH_TYPE_QUEUE = 11,
    HEARTH_TYPE_PIPE = 12,
    HEARTH_TYPE_ARRAY = 13
};
/* Flags of hearth_value_set(). */
enum hearth_when {
    HEARTH_ALWAYS = 0,
    HEARTH_IF_ABSENT = 1,  /* HEARTH_E_EXISTS otherwise */
    HEARTH_IF_PRESENT = 2, /* HEARTH_E_ABSENT otherwise */
    HEARTH_KEEP_TTL = 4    /* may be added, without a ttl: an expiry stays */
};
enum hearth_end { HEARTH_LEFT = 0, HEARTH_RIGHT = 1 };

/* Names of any type. */
/* *ret: 1 or 0. */
HEARTH_API int hearth_object_exists(struct hearth *h, struct hearth_bytes name, int *ret);
HEARTH_API int hearth_object_type(struct hearth *h, struct hearth_bytes name,
                                  enum hearth_object_type *ret);
/* Deletes those of n (at least 1) names that exist; *ret_n: how many. */
HEARTH_API int hearth_object_delete(struct hearth *h, const struct hearth_bytes *names, size_t n,
                                    uint64_t *ret_n);
/* Lets it expire in ms (0: now). HEARTH_E_ABSENT. */
HEARTH_API int hearth_object_expire(struct hearth *h, struct hearth_bytes name, int64_t ms);
/* Takes the expiry away. HEARTH_E_ABSENT: there is no such object. */
HEARTH_API int hearth_object_persist(struct hearth *h, struct hearth_bytes name);
/* Waits until all changes of durable objects made so far, by whomever, are on the disk. Over the connection, always. -ENODEV, -EIO. */
HEARTH_API int hearth_durable_sync(struct hearth *h);
/* Milliseconds until it expires, -1: never. HEARTH_E_ABSENT. */
HEARTH_API int hearth_object_ttl(struct hearth *h, struct hearth_bytes name, int64_t *ret_ms);
/* HEARTH_E_ABSENT; HEARTH_E_EXISTS: `to` is there and may not be replaced. */
HEARTH_API int hearth_object_rename(struct hearth *h, struct hearth_bytes name,
                                    struct hearth_bytes to, int replace);

/* A copy under another name, its expiry too. HEARTH_E_ABSENT; HEARTH_E_EXISTS: `to` is there and may not be replaced, or is the
 * same name. */
HEARTH_API int hearth_object_copy(struct hearth *h, struct hearth_bytes name,
                                  struct hearth_bytes to, int replace);
/* Names that match a pattern (* ? [abc] [^abc] [a-z]; NULL: all), about `count` of them, from *cursor on (0: begins; 0 again:
 * that was all). A call may give none and the walk go on. Names there throughout are met, some perhaps twice. */
HEARTH_API int hearth_object_names(struct hearth *h, const char *pattern, uint64_t *cursor,
                                   uint32_t count, const struct hearth_bytes **ret, size_t *ret_n);

/* Values. HEARTH_E_ABSENT. */
HEARTH_API int hearth_value_get(struct hearth *h, struct hearth_bytes name,
                                struct hearth_bytes *ret);
/* ttl_ms 0: for ever. -EINVAL: flags that contradict each other. */
HEARTH_API int hearth_value_set(struct hearth *h, struct hearth_bytes name,
                                struct hearth_bytes value, unsigned when, uint64_t ttl_ms);
/* The same; *ret is the value before, data NULL: there was none. It is set also with HEARTH_E_EXISTS or HEARTH_E_ABSENT. */
HEARTH_API int hearth_value_exchange(struct hearth *h, struct hearth_bytes name,
                                     struct hearth_bytes value, unsigned when, uint64_t ttl_ms,
                                     struct hearth_bytes *ret);
/* Adds to an integer (a number); an absent one counts as 0. HEARTH_E_NUMBER. */
HEARTH_API int hearth_value_add_float(struct hearth *h, struct hearth_bytes name, double by,
                                      double *ret);
HEARTH_API int hearth_value_add(struct hearth *h, struct hearth_bytes name, int64_t by,
                                int64_t *ret);
HEARTH_API int hearth_value_append(struct hearth *h, struct hearth_bytes name,
                                   struct hearth_bytes more, uint64_t *ret_len);
/* Overwrites from byte `at` on; what is missing before it becomes zeroes. *ret_len: the new length. */
HEARTH_API int hearth_value_write(struct hearth *h, struct hearth_bytes name, uint64_t at,
                                  struct hearth_bytes data, uint64_t *ret_len);
/* `count` (< 0: all that follow) bytes from `from` (negative: from the end) on. */
HEARTH_API int hearth_value_range(struct hearth *h, struct hearth_bytes name, int64_t from,
                                  int64_t count, struct hearth_bytes *ret);

/* Dicts. HEARTH_E_ABSENT: no such field. */
HEARTH_API int hearth_dict_get(struct hearth *h, struct hearth_bytes name,
                               struct hearth_bytes field, struct hearth_bytes *ret);
/* (*ret)[0 .. n-1]; data NULL: absent. n is at least 1. */
HEARTH_API int hearth_dict_get_many(struct hearth *h, struct hearth_bytes name,
                                    const struct hearth_bytes *fields, size_t n,
                                    const struct hearth_bytes **ret);
/* *ret_new: 1: a new field, 0: replaced. */
HEARTH_API int hearth_dict_set(struct hearth *h, struct hearth_bytes name,
                               struct hearth_bytes field, struct hearth_bytes value, int *ret_new);
/* n (at least 1) pairs (field, value, field, value ...), all at once; *ret_new: how many fields are new. */
HEARTH_API int hearth_dict_update(struct hearth *h, struct hearth_bytes name,
                                  const struct hearth_bytes *pairs, size_t n, uint64_t *ret_new);
/* Sets the field if it is absent; *ret is what is there now. */
HEARTH_API int hearth_dict_setdefault(struct hearth *h, struct hearth_bytes name,
                                      struct hearth_bytes field, struct hearth_bytes value,
                                      struct hearth_bytes *ret);
/* *ret_n: how many of n (at least 1) fields were there. */
HEARTH_API int hearth_dict_delete(struct hearth *h, struct hearth_bytes name,
                                  const struct hearth_bytes *fields, size_t n, uint64_t *ret_n);
HEARTH_API int hearth_dict_contains(struct hearth *h, struct hearth_bytes name,
                                    struct hearth_bytes field, int *ret);
HEARTH_API int hearth_dict_length(struct hearth *h, struct hearth_bytes name, uint64_t *ret);
/* Removes a field and gives its value; popitem: any field. HEARTH_E_ABSENT. */
HEARTH_API int hearth_dict_pop(struct hearth *h, struct hearth_bytes name,
                               struct hearth_bytes field, struct hearth_bytes *ret);
HEARTH_API int hearth_dict_popitem(struct hearth *h, struct hearth_bytes name,
                                   struct hearth_bytes *ret_field, struct hearth_bytes *ret_value);
/* Adds to a number; an absent field counts as 0. HEARTH_E_NUMBER. */
HEARTH_API int hearth_dict_add(struct hearth *h, struct hearth_bytes name,
                               struct hearth_bytes field, int64_t by, int64_t *ret);
HEARTH_API int hearth_dict_add_float(struct hearth *h, struct hearth_bytes name,
                                     struct hearth_bytes field, double by, double *ret);
/* Adds by[i] to fields[i], n (at least 1) of them: all or none. HEARTH_E_NUMBER. */
HEARTH_API int hearth_dict_add_many(struct hearth *h, struct hearth_bytes name,
                                    const struct hearth_bytes *fields, const int64_t *by, size_t n);
/* Compare and set: if the field is as expected (NULL: absent), it becomes value (NULL: absent) and *ret_done is 1; else 0. */
HEARTH_API int hearth_dict_swap(struct hearth *h, struct hearth_bytes name,
                                struct hearth_bytes field, const struct hearth_bytes *expected,
                                const struct hearth_bytes *value, int *ret_done);
enum hearth_part { HEARTH_FIELDS = 1, HEARTH_VALUES = 2, HEARTH_ITEMS = 3 };
/* All fields, all values, or fields and values in turn, of one moment; *ret_n counts both. Of a dict that may be large
 * hearth_dict_scan() is the better way: it keeps nobody waiting. */
HEARTH_API int hearth_dict_items(struct hearth *h, struct hearth_bytes name, enum hearth_part part,
                                 const struct hearth_bytes **ret, size_t *ret_n);
/* Fields and values in turn, about `count` pairs, from *cursor on (0: begins; 0 again: that was all); *ret_n counts both. What is
 * there throughout is met, some perhaps twice. */
HEARTH_API int hearth_dict_scan(struct hearth *h, struct hearth_bytes name, uint64_t *cursor,
                                uint32_t count, const struct hearth_bytes **ret, size_t *ret_n);
/* Removes all fields. */
HEARTH_API int hearth_dict_clear(struct hearth *h, struct hearth_bytes name);

/* Lists; an index < 0 counts from the end. n (at least 1) elements, one after the other. */
HEARTH_API int hearth_list_push(struct hearth *h, struct hearth_bytes name, enum hearth_end end,
                                const struct hearth_bytes *elements, size_t n, uint64_t *ret_len);
/* HEARTH_E_ABSENT: there is none. */
HEARTH_API int hearth_list_pop(struct hearth *h, struct hearth_bytes name, enum hearth_end end,
                               struct hearth_bytes *ret);
/* Waits for one, at most ms (< 0: for ever). HEARTH_E_PENDING. */
HEARTH_API int hearth_list_pop_wait(struct hearth *h, struct hearth_bytes name, enum hearth_end end,
                                    int64_t ms, struct hearth_bytes *ret);
/* From an end of one list to an end of another, or the same one. HEARTH_E_ABSENT. */
HEARTH_API int hearth_list_move(struct hearth *h, struct hearth_bytes from, enum hearth_end end,
                                struct hearth_bytes to, enum hearth_end to_end,
                                struct hearth_bytes *ret);
HEARTH_API int hearth_list_length(struct hearth *h, struct hearth_bytes name, uint64_t *ret);
/* HEARTH_E_ABSENT: out of range. */
HEARTH_API int hearth_list_at(struct hearth *h, struct hearth_bytes name, int64_t index,
                              struct hearth_bytes *ret);
HEARTH_API int hearth_list_set(struct hearth *h, struct hearth_bytes name, int64_t index,
                               struct hearth_bytes element);
/* Before the element at index, or at the end; *ret_len: the new length. */
HEARTH_API int hearth_list_insert(struct hearth *h, struct hearth_bytes name, int64_t index,
                                  struct hearth_bytes element, uint64_t *ret_len);
/* Before, or after, the first element equal to pivot. HEARTH_E_ABSENT: there is none. */
HEARTH_API int hearth_list_insert_beside(struct hearth *h, struct hearth_bytes name,
                                         struct hearth_bytes pivot, int after,
                                         struct hearth_bytes element, uint64_t *ret_len);
/* Deletes `count` (< 0: all that follow) elements from `from` on; *ret_n: how many. */
HEARTH_API int hearth_list_delete(struct hearth *h, struct hearth_bytes name, int64_t from,
                                  int64_t count, uint64_t *ret_n);
/* Keeps `count` (< 0: all that follow) elements from `from` on. */
HEARTH_API int hearth_list_trim(struct hearth *h, struct hearth_bytes name, int64_t from,
                                int64_t count);
/* Removes elements equal to this: the first `count`, the last -count, or (0) all; *ret_n: how many. */
HEARTH_API int hearth_list_remove(struct hearth *h, struct hearth_bytes name,
                                  struct hearth_bytes element, int64_t count, uint64_t *ret_n);
/* Where the first element equal to this is. HEARTH_E_ABSENT. */
HEARTH_API int hearth_list_index(struct hearth *h, struct hearth_bytes name,
                                 struct hearth_bytes element, uint64_t *ret);
/* `count` (< 0: all that follow) elements from `from` on. */
HEARTH_API int hearth_list_range(struct hearth *h, struct hearth_bytes name, int64_t from,
                                 int64_t count, const struct hearth_bytes **ret, size_t *ret_n);

/* How many elements equal this. */
HEARTH_API int hearth_list_count(struct hearth *h, struct hearth_bytes name,
                                 struct hearth_bytes element, uint64_t *ret);
/* Turns the order round. */
HEARTH_API int hearth_list_reverse(struct hearth *h, struct hearth_bytes name);
/* Flags of hearth_list_sort(); 0: by number, equal ones by their bytes, the smallest first. */
enum hearth_order {
    HEARTH_BY_BYTES = 1,  /* byte by byte, as memcmp() */
    HEARTH_DESCENDING = 2 /* the largest first */
};
/* Sorts in place. HEARTH_E_NUMBER: an element is none. */
HEARTH_API int hearth_list_sort(struct hearth *h, struct hearth_bytes name, unsigned order);

/* ---- typed arrays ----
 *
 * n (at least 1) numbers of one type, up to 64 MiB of them: multiprocessing's Array, and with n 1 its Value. They are names as dicts and
 * lists are, but made by hearth_array_create() alone, and stay until they are deleted. `type` is what the caller takes the array
 * for: HEARTH_E_TYPE if it is of another. HEARTH_E_ABSENT: no such array, or element; HEARTH_E_NUMBER: the type has no such number.
 *
 * Setting, adding, and comparing and setting one element is done or not done, whatever dies, and seen whole by everybody, those
 * who have the array pinned included. Of many elements each is whole, but all are not of one moment: that is what a lock is for, by
 * convention the rlock whose name is the array's and ":lock". None of this goes into a transaction, and WATCH does not
 * notice it. */

enum hearth_array_type {
    HEARTH_INT8 = 1,
    HEARTH_INT16 = 2,
    HEARTH_INT32 = 3,
    HEARTH_INT64 = 4,
    HEARTH_UINT8 = 5,
    HEARTH_UINT16 = 6,
    HEARTH_UINT32 = 7,
    HEARTH_UINT64 = 8,
    HEARTH_FLOAT = 9,
    HEARTH_DOUBLE = 10,
    HEARTH_CHAR = 11 /* a byte that is no number */
};
/* An element: .i of the signed types, .u of the unsigned ones and char, .d of float and double. */
union hearth_number {
    int64_t i;
    uint64_t u;
    double d;
};
/* An array that stays where it is. */
struct hearth_pin {
    enum hearth_array_type type;
    uint64_t n;
    void *data; /* n elements, beginning at a multiple of 64 bytes */
    uint64_t reserved[2];
};

/* All zeroes. *ret_made (NULL: not wanted): 1, or 0: there was one like it. HEARTH_E_EXISTS: of another type or length. -EMSGSIZE. */
HEARTH_API int hearth_array_create(struct hearth *h, struct hearth_bytes name,
                                   enum hearth_array_type type, uint64_t n, int *ret_made);
HEARTH_API int hearth_array_info(struct hearth *h, struct hearth_bytes name,
                                 enum hearth_array_type *ret_type, uint64_t *ret_n);
HEARTH_API int hearth_array_get(struct hearth *h, struct hearth_bytes name,
                                enum hearth_array_type type, uint64_t index,
                                union hearth_number *ret);
HEARTH_API int hearth_array_set(struct hearth *h, struct hearth_bytes name,
                                enum hearth_array_type type, uint64_t index,
                                union hearth_number value);
/* Integers wrap. *ret (NULL: not wanted): the sum. HEARTH_E_TYPE: a char. */
HEARTH_API int hearth_array_add(struct hearth *h, struct hearth_bytes name,
                                enum hearth_array_type type, uint64_t index, union hearth_number by,
                                union hearth_number *ret);
/* Compare and set. *ret_done: 1; 0: it was not as expected, bit by bit. */
HEARTH_API int hearth_array_cas(struct hearth *h, struct hearth_bytes name,
                                enum hearth_array_type type, uint64_t index,
                                union hearth_number expected, union hearth_number value,
                                int *ret_done);
/* `count` elements from `from` on, as they lie in memory. */
HEARTH_API int hearth_array_read(struct hearth *h, struct hearth_bytes name,
                                 enum hearth_array_type type, uint64_t from, uint64_t count,
                                 void *to);
HEARTH_API int hearth_array_write(struct hearth *h, struct hearth_bytes name,
                                  enum hearth_array_type type, uint64_t from, uint64_t count,
                                  const void *data);
HEARTH_API int hearth_array_fill(struct hearth *h, struct hearth_bytes name,
                                 enum hearth_array_type type, uint64_t from, uint64_t count,
                                 union hearth_number value);
/* Where an array is in this process's memory, for an attached handle (-EOPNOTSUPP otherwise). It stays there until hearth_array_unpin(), the end of
 * the handle or of the process, though it be deleted or renamed: use it with atomic instructions, or under a lock. As many
 * unpins as pins. -EINVAL: there is no such pin. */
HEARTH_API int hearth_array_pin(struct hearth *h, struct hearth_bytes name, struct hearth_pin *ret);
HEARTH_API int hearth_array_unpin(struct hearth *h, const struct hearth_pin *pin);

/* One operation of a transaction. Zero what is not used. */
enum hearth_op_kind {
    HEARTH_OP_DELETE = 1,   /* number: 1, or 0 when there was none */
    HEARTH_OP_EXPIRE,       /* in `by` ms; number: 1, or 0 when there was none */
    HEARTH_OP_RENAME,       /* to `to`, replacing it. HEARTH_E_ABSENT */
    HEARTH_OP_VALUE_GET,    /* bytes: the value, data NULL when there is none */
    HEARTH_OP_VALUE_SET,    /* value */
    HEARTH_OP_VALUE_ADD,    /* by; number: the sum. HEARTH_E_NUMBER */
    HEARTH_OP_VALUE_APPEND, /* value; number: the new length */
    HEARTH_OP_VALUE_EXPECT, /* it is `value` (data NULL: absent), else HEARTH_E_UNEXPECTED */
    HEARTH_OP_DICT_GET,     /* field; bytes: its value, data NULL when there is none */
    HEARTH_OP_DICT_SET,     /* field, value; number: 1: a new field, 0: replaced */
    HEARTH_OP_DICT_DELETE,  /* field; number: 1, or 0 when there was none */
    HEARTH_OP_DICT_POP,     /* field, which goes; bytes: its value, data NULL when there was none */
    HEARTH_OP_DICT_ADD,     /* field, by; number: the sum. HEARTH_E_NUMBER */
    HEARTH_OP_DICT_EXPECT,  /* field is `value` (data NULL: absent), else HEARTH_E_UNEXPECTED */
    HEARTH_OP_LIST_PUSH,    /* value at `end`; number: the new length */
    HEARTH_OP_LIST_POP,     /* from `end`; bytes: the element, data NULL when there was none */
    HEARTH_OP_LIST_MOVE     /* from `end` to `to`'s to_end; bytes as above */
};
struct hearth_op {
    enum hearth_op_kind kind;
    struct hearth_bytes name, to, field, value;
    int64_t by;
    enum hearth_end end, to_end;
    /* What it gave, set by hearth_transaction(); bytes is valid until the next call with the handle. */
    int64_t number;
    struct hearth_bytes bytes;
};
enum { HEARTH_OPS_MAX = 128 };
/* Runs n (1 to HEARTH_OPS_MAX) operations, one after the other, as one transaction: nobody sees a part of it, and whatever dies
 * in the middle, all of it has happened or nothing. When one fails nothing has happened, and its error is returned: those above,
 * HEARTH_E_TYPE, HEARTH_E_OOM. That nothing was found where the comment says so is no failure: let an EXPECT say what must
 * be. -EINVAL: n, or an unknown kind. What they gave is defined only after 0. */
HEARTH_API int hearth_transaction(struct hearth *h, struct hearth_op *ops, size_t n);

/* ---- managers: scopes for shared objects ----
 *
 * Whatever has a name that begins with a manager's prefix belongs to it, whoever makes it, this client, another one or a worker;
 * renaming gives away and takes in. When the manager ends, all of that is gone for everybody at that moment, and nobody can make
 * anything under the prefix any more (HEARTH_E_ENDED; looking there finds nothing).
 *
 * To nest containers, put the *name* of another one into a dict or list. Nothing is copied: who follows the name changes the one
 * object that all see. Removing the outer one leaves the inner ones; give them names under one prefix, and they go together.
 * Inner names must be unique: the outer one's name, ':' and the field make one.
 * client/examples/nested.c shows it. */

/* The longest prefix, without its NUL. */
#define HEARTH_PREFIX_MAX 31

/* Opens a manager. It belongs to this handle and ends with hearth_manager_close(), hearth_close(), the end of the process, or a
 * lost connection: hearth_reconnect() does not bring it back. Asks the daemon also when the handle is attached. HEARTH_E_BUSY: as
 * many are open as may be; HEARTH_E_REFUSED: ... by this handle (64), or this user may not write. */
HEARTH_API int hearth_manager_open(struct hearth *h, char ret_prefix[HEARTH_PREFIX_MAX + 1]);
/* Ends a manager of this handle. HEARTH_E_ENDED: it is not open; HEARTH_E_REFUSED: it is another's. */
HEARTH_API int hearth_manager_close(struct hearth *h, const char *prefix);
/* Builds prefix and name in buf, which must have room for them and a NUL (-ENAMETOOLONG), and stay as long as *ret is used. Any
 * thread; no handle is needed. */
HEARTH_API int hearth_manager_name(const char *prefix, struct hearth_bytes name, char *buf,
                                   size_t size, struct hearth_bytes *ret);

/* ---- raw blocks ----
 *
 * Named memory that is nothing but bytes (multiprocessing's SharedMemory): of a fixed size, zeroes at first, beside the segment, so
 * hearth_attach() is not needed. The daemon keeps the name and gives descriptors to those who ask (so these go over the connection,
 * also when the handle is attached); what is written to a block nobody watches over. A block is there until hearth_block_unlink(),
 * the end of the manager that its name belongs to, the end of the handle (HEARTH_BLOCK_OWNED), or the daemon's end; its memory
 * until, besides, all have closed and unmapped it. A name has 1 to 255 bytes, and is no key.
 *
 * Errors: HEARTH_E_ABSENT: no such block; HEARTH_E_EXISTS; HEARTH_E_ENDED; HEARTH_E_QUOTA, HEARTH_E_OOM: over a limit; HEARTH_E_REFUSED: not for this
 * user, or a bad name or size; HEARTH_E_DISCONNECTED, HEARTH_E_PROTOCOL, -ENOMEM, -EINVAL; -EDEADLK from a callback. */

enum hearth_block_flag {
    HEARTH_BLOCK_OWNED = 1 /* it goes with this handle's connection */
};
/* Makes a block of `size` bytes. *ret_fd (NULL: not wanted) is a descriptor of it, close-on-exec, the caller's to close. */
HEARTH_API int hearth_block_create(struct hearth *h, struct hearth_bytes name, uint64_t size,
                                   unsigned flags, int *ret_fd);
/* The same of one that is there. With `readonly` the descriptor cannot be written through, nor made so. *ret_size (may be NULL). */
HEARTH_API int hearth_block_open(struct hearth *h, struct hearth_bytes name, int readonly,
                                 int *ret_fd, uint64_t *ret_size);
/* Takes the name away. */
HEARTH_API int hearth_block_unlink(struct hearth *h, struct hearth_bytes name);
/* Maps all of a block; it stays mapped when fd is closed. 0 or -errno (-EACCES: fd is for reading). *ret_size may be NULL. Any
 * thread; no handle is needed. */
HEARTH_API int hearth_block_map(int fd, int readonly, void **ret, uint64_t *ret_size);
HEARTH_API int hearth_block_unmap(void *at, uint64_t size);

/* ---- processes ----
 *
 * The daemon starts any command, watches it, tells how it ended, and starts it again if it is to (multiprocessing's Process, and a
 * service manager's services), or a handler of a pool's module in a process of its own. It is the daemon's child and runs as the daemon's user; it lives on when this handle is closed, unless
 * it is HEARTH_PROC_OWNED. `process` is an id, or a name.
 *
 * Errors: HEARTH_E_ABSENT: no such process; HEARTH_E_EXISTS: one of that name has not ended; HEARTH_E_QUOTA; HEARTH_E_REFUSED: not for this user,
 * or it cannot be started (hearth_errmsg() says at which step); HEARTH_E_DISCONNECTED, HEARTH_E_PROTOCOL, -ENOMEM, -EINVAL; -EDEADLK from a
 * callback. Everything given by pointer is valid until the next call with the handle. */

enum hearth_proc_restart {
    HEARTH_PROC_NEVER,
    HEARTH_PROC_ON_FAILURE, /* it is started again if it has not ended with exit status 0 */
    HEARTH_PROC_ALWAYS
};
enum hearth_proc_flag {
    HEARTH_PROC_OWNED = 1 /* it ends with this handle's connection */
};
/* In place of a descriptor. */
#define HEARTH_PROC_DEFAULT                                                                        \
    (-1) /* stdin: /dev/null; stdout, stderr: kept by the daemon, hearth_proc_log() */
#define HEARTH_PROC_NULL (-2) /* /dev/null */

/* What is to be started. Begin with all members 0. */
struct hearth_proc {
    const char *const *
        argv; /* ends with NULL; argv[0] is looked for in the daemon's PATH. Of a handler: its arguments, or NULL */
    const char *const *env; /* "NAME=value" over the daemon's; ends with NULL. NULL: none */
    const char *name;       /* NULL: none */
    const char *directory;  /* absolute; NULL: "/" */
    const int *
        fds; /* three: its stdin, stdout and stderr, not consumed. NULL: HEARTH_PROC_DEFAULT each */
    unsigned flags; /* enum hearth_proc_flag */
    enum hearth_proc_restart restart;
    uint32_t backoff_ms; /* pause before the first restart, then doubled; 0: a second */
    uint32_t max_restarts, window_ms; /* so many in so long, then it has ended; 0: no limit */
    uint32_t stop_ms;                 /* from SIGTERM to SIGKILL; 0: 10 s */
    /* In place of a command: a handler of a pool's module, which runs one task as a worker would, in a process that is none of the pool's
     * workers, loads the module anew, and ends. It has no time limit and is never started again. */
    const char *pool, *handler;
    const void *payload;
    size_t payload_len;
};
/* Starts it; it has been executed when this returns. *ret_id and *ret_pid may be NULL. */
HEARTH_API int hearth_proc_start(struct hearth *h, const struct hearth_proc *p,
                                 char ret_id[HEARTH_ID_MAX + 1], int64_t *ret_pid);

struct hearth_proc_info {
    const char *id, *name, *state; /* "running", "pausing", "stopping", "ended" */
    const char *command, *directory, *restart;
    const char *cause; /* how its last run ended: "exit status 3"; "": none has */
    int64_t pid, ppid; /* 0: it does not run now */
    int64_t uid, runs;
    int64_t started_ms, ended_ms; /* of the last run; ended_ms 0: it has not */
    int exit_status;              /* -1: it did not exit */
    int signal;                   /* that has killed it; 0: none */
    int core;                     /* 1: there is a core dump */
    int64_t user_us, system_us, max_rss_kib;
    int64_t written;  /* bytes it has written to what is kept */
    const char *task; /* of a handler: its task's id; "": it is a command */
    /* By hearth_proc_wait() only, how that has ended: "done", "failed", ...; "": there is none, or it has been forgotten
     * (result_keep). result.data is NULL unless it is done; failure says why it is not. */
    const char *status, *failure;
    struct hearth_bytes result;
};
/* Waits for its end, timeout_ms at most (-1: for ever). HEARTH_E_PENDING: it has not ended in time. */
HEARTH_API int hearth_proc_wait(struct hearth *h, const char *process, int64_t timeout_ms,
                                struct hearth_proc_info *ret);
HEARTH_API int hearth_proc_info(struct hearth *h, const char *process,
                                struct hearth_proc_info *ret);
/* All of them, who was started first first. fn makes no call with this handle; it returns 0 to go on. */
HEARTH_API int hearth_proc_list(struct hearth *h,
                                int (*fn)(void *arg, const struct hearth_proc_info *info),
                                void *arg);
/* A signal by name or number ("HUP", "10") for it and all that descends from it. "KILL", and "TERMINATE" (SIGTERM, then SIGKILL), end it
 * for good. HEARTH_E_PENDING: it does not run now. */
HEARTH_API int hearth_proc_signal(struct hearth *h, const char *process, const char *signal);
/* What it has written from an offset on, as far as it is kept; *ret_from is the offset of the first byte. ret_ended may be NULL. */
HEARTH_API int hearth_proc_log(struct hearth *h, const char *process, uint64_t from,
                               struct hearth_bytes *ret, uint64_t *ret_from, int *ret_ended);
/* Forgets one that has ended. HEARTH_E_PENDING: it has not. */
HEARTH_API int hearth_proc_remove(struct hearth *h, const char *process);

/* ---- locks, and what else one waits for ----
 *
 * By name, for every process on the machine: the objects of LOCK.*, RLOCK.*, RWLOCK.*, SEM.*, EVENT.*, COND.*, BARRIER.*, QUEUE.*
 * and PIPE.*, which handlers have as hearth_sync. They are names as dicts and lists are: hearth_object_delete(), _expire(), _type(),
 * managers' prefixes, quotas. They stay until they are deleted. Whoever waits for one that is deleted gets HEARTH_E_ENDED.
 *
 * What is held is held by the handle, and let go when the handle is closed (which counts as its death), its connection is lost, or its
 * process dies, at whatever instruction. So each thread is an owner of its own. A handle that was attached when it took something must be attached
 * when it gives it back: attach first. What such a handle holds it holds in memory: a lost connection takes nothing away before
 * hearth_reconnect(), and until then locks and units of semaphores can be given back, for those who wait, without a daemon.
 *
 * ms < 0: waits for ever; 0: not at all; too late: HEARTH_E_PENDING. Waiters are served in the order of their coming. Nobody waits longer
 * because some other died. *ret_died (it may be NULL): 1: taken, and the holder before died holding it, so that what it guards
 * may be half done; else 0. Errors of all: those of shared objects, HEARTH_E_ENDED, -EINTR (see hearth_on_interrupt()). */

enum hearth_sync_flag {
    HEARTH_NO_CHECK =
        1,           /* acquire: no look for a circle of waiters: who locks twice waits for ever */
    HEARTH_FORCE = 2 /* release: also when another holds it */
};

/* A lock has one holder. HEARTH_E_PENDING, HEARTH_E_DEADLOCK (this handle has it already, or each of a circle would wait for
 * another). It is made by first use. */
HEARTH_API int hearth_lock_acquire(struct hearth *h, struct hearth_bytes name, int64_t ms,
                                   unsigned flags, int *ret_died);
/* HEARTH_E_NOTOWNER: also when nobody holds it. */
HEARTH_API int hearth_lock_release(struct hearth *h, struct hearth_bytes name, unsigned flags);
/* *ret: 1: somebody holds it, 0: nobody. */
HEARTH_API int hearth_lock_is_held(struct hearth *h, struct hearth_bytes name, int *ret);
/* A lock that its holder may take again, and gives back as often. */
HEARTH_API int hearth_rlock_acquire(struct hearth *h, struct hearth_bytes name, int64_t ms,
                                    unsigned flags, int *ret_died);
HEARTH_API int hearth_rlock_release(struct hearth *h, struct hearth_bytes name, unsigned flags);
/* Many readers, or one writer. Readers behind a waiting writer wait. */
HEARTH_API int hearth_rwlock_read(struct hearth *h, struct hearth_bytes name, int64_t ms,
                                  unsigned flags, int *ret_died);
HEARTH_API int hearth_rwlock_write(struct hearth *h, struct hearth_bytes name, int64_t ms,
                                   unsigned flags, int *ret_died);
HEARTH_API int hearth_rwlock_release(struct hearth *h, struct hearth_bytes name, unsigned flags);

/* The same locks, kept at hand: of an attached handle and with nobody else wanting it, taking one is a compare-and-swap. A
 * hearth_lock belongs to the handle (and its thread) and is closed before it. */
struct hearth_lock;
/* recursive: an RLock. The name is copied. -ENOMEM. */
HEARTH_API int hearth_lock_open(struct hearth *h, struct hearth_bytes name, int recursive,
                                struct hearth_lock **ret);
/* As hearth_lock_acquire() and hearth_lock_release(). */
HEARTH_API int hearth_lock_enter(struct hearth_lock *l, int64_t ms, unsigned flags, int *ret_died);
HEARTH_API int hearth_lock_leave(struct hearth_lock *l, unsigned flags);
/* Does not release. NULL is fine. */
HEARTH_API void hearth_lock_close(struct hearth_lock *l);

/* Semaphores: so many units. bounded: no more are given back than it had at first. HEARTH_E_EXISTS: there with another value or bound;
 * *ret_made: 1: made, 0: it was there. */
HEARTH_API int hearth_sem_create(struct hearth *h, struct hearth_bytes name, uint64_t value,
                                 int bounded, int *ret_made);
/* n units, all or none. HEARTH_E_ABSENT: there is no such semaphore; HEARTH_E_PENDING. What this handle has taken and not given back goes back by
 * itself when it ends. */
HEARTH_API int hearth_sem_acquire(struct hearth *h, struct hearth_bytes name, uint64_t n,
                                  int64_t ms);
/* Anybody may. HEARTH_E_OVERFLOW. */
HEARTH_API int hearth_sem_release(struct hearth *h, struct hearth_bytes name, uint64_t n);
HEARTH_API int hearth_sem_value(struct hearth *h, struct hearth_bytes name, uint64_t *ret);

/* Events: set or not. */
HEARTH_API int hearth_event_set(struct hearth *h, struct hearth_bytes name);
HEARTH_API int hearth_event_clear(struct hearth *h, struct hearth_bytes name);
HEARTH_API int hearth_event_is_set(struct hearth *h, struct hearth_bytes name, int *ret);
/* HEARTH_E_PENDING. */
HEARTH_API int hearth_event_wait(struct hearth *h, struct hearth_bytes name, int64_t ms);

/* Conditions. Lets go of `lock` (a lock or rlock that this handle holds, else HEARTH_E_NOTOWNER), waits to be notified, and takes it
 * again, at its former depth: it is held after 0 and after HEARTH_E_PENDING, however long that takes; after other errors it is not,
 * but after HEARTH_E_NOTOWNER as before. */
HEARTH_API int hearth_cond_wait(struct hearth *h, struct hearth_bytes cond,
                                struct hearth_bytes lock, int64_t ms, int *ret_died);
/* Wakes the n (UINT64_MAX: all) that have waited longest; *ret_n: how many that were. */
HEARTH_API int hearth_cond_notify(struct hearth *h, struct hearth_bytes cond, uint64_t n,
                                  uint64_t *ret_n);

/* Barriers: so many wait until all are there. HEARTH_E_EXISTS: there for another number. */
HEARTH_API int hearth_barrier_create(struct hearth *h, struct hearth_bytes name, uint32_t parties,
                                     int *ret_made);
/* *ret_index: 0 to parties-1, another one for each. HEARTH_E_BROKEN: it is broken, now or before: somebody was too late (he gets
 * HEARTH_E_PENDING), died waiting, or aborted it. HEARTH_E_ABSENT. */
HEARTH_API int hearth_barrier_wait(struct hearth *h, struct hearth_bytes name, int64_t ms,
                                   uint32_t *ret_index);
/* Makes it as new; those that wait get HEARTH_E_BROKEN. */
HEARTH_API int hearth_barrier_reset(struct hearth *h, struct hearth_bytes name);
/* Breaks it. */
HEARTH_API int hearth_barrier_abort(struct hearth *h, struct hearth_bytes name);
struct hearth_barrier_info {
    uint32_t parties, waiting;
    int broken;
};
HEARTH_API int hearth_barrier_info(struct hearth *h, struct hearth_bytes name,
                                   struct hearth_barrier_info *ret);

/* Queues of items of up to 64 MiB. One that is not created is made by its first use, without a bound and without leases. */
struct hearth_queue_options {
    uint64_t max_items; /* 0: no bound */
    int64_t lease_ms;   /* 0: an item belongs to who got it, and is gone if he dies; > 0: it comes
                           back to the front after so long, or when he dies, unless
                           hearth_queue_done() was called; < 0: only when he dies */
};
/* HEARTH_E_EXISTS: there with others; *ret_made: 1: made, 0: it was there. */
HEARTH_API int hearth_queue_create(struct hearth *h, struct hearth_bytes name,
                                   const struct hearth_queue_options *options, int *ret_made);
/* HEARTH_E_PENDING: it is full; HEARTH_E_CLOSED. */
HEARTH_API int hearth_queue_put(struct hearth *h, struct hearth_bytes name,
                                struct hearth_bytes item, int64_t ms);
/* n items, in order, as room comes; *ret_n: how many are in. 0 when all are, or some before the time was over or it was closed. */
HEARTH_API int hearth_queue_put_many(struct hearth *h, struct hearth_bytes name,
                                     const struct hearth_bytes *items, size_t n, int64_t ms,
                                     size_t *ret_n);
/* The oldest. *ret_lease: for the functions below; 0: there are no leases in this queue. HEARTH_E_PENDING: it is empty; HEARTH_E_CLOSED: and
 * closed. */
HEARTH_API int hearth_queue_get(struct hearth *h, struct hearth_bytes name, int64_t ms,
                                struct hearth_bytes *ret, uint64_t *ret_lease);
/* Up to `max` (at least 1) items, waiting for the first: (*ret)[0 .. *ret_n-1], and the lease of each in (*ret_leases). */
HEARTH_API int hearth_queue_get_many(struct hearth *h, struct hearth_bytes name, size_t max,
                                     int64_t ms, const struct hearth_bytes **ret, size_t *ret_n,
                                     const uint64_t **ret_leases);
/* The item has been dealt with; counts as hearth_queue_task_done() too. HEARTH_E_ABSENT: it is not on this lease any more;
 * HEARTH_E_NOTOWNER: another handle got it. */
HEARTH_API int hearth_queue_done(struct hearth *h, struct hearth_bytes name, uint64_t lease);
/* The lease ends in ms (< 0: with this handle). Errors as above. */
HEARTH_API int hearth_queue_extend(struct hearth *h, struct hearth_bytes name, uint64_t lease,
                                   int64_t ms);
/* Gives it back to the front at once. Errors as above. */
HEARTH_API int hearth_queue_return(struct hearth *h, struct hearth_bytes name, uint64_t lease);
/* One of the items put has been dealt with. HEARTH_E_OVERFLOW: they all have been. */
HEARTH_API int hearth_queue_task_done(struct hearth *h, struct hearth_bytes name);
/* Waits until all that were put have been dealt with. HEARTH_E_PENDING. */
HEARTH_API int hearth_queue_join(struct hearth *h, struct hearth_bytes name, int64_t ms);
/* Nothing more can be put; what is there can be got. */
HEARTH_API int hearth_queue_close(struct hearth *h, struct hearth_bytes name);
struct hearth_queue_info {
    uint64_t max_items;
    int64_t lease_ms;
    uint64_t items, leased;    /* in it, and got but not yet done */
    uint64_t unfinished;       /* what hearth_queue_join() waits for */
    uint64_t getters, putters; /* who wait */
    int closed;
};
/* HEARTH_E_ABSENT. */
HEARTH_API int hearth_queue_info(struct hearth *h, struct hearth_bytes name,
                                 struct hearth_queue_info *ret);

/* Pipes: two ends, 0 and 1, and messages of up to 64 MiB between them. One that is not duplex goes from end 1 to end 0 only. A name
 * can be given to a task, which then has the other end. `buffer`: bytes under way in each direction; 0: 64 KiB; a larger
 * message goes alone. HEARTH_E_EXISTS: there with others. */
HEARTH_API int hearth_pipe_create(struct hearth *h, struct hearth_bytes name, int duplex,
                                  uint64_t buffer, int *ret_made);
/* This handle holds the end (once more); so does who sends or receives without it. When all that held an end have closed it or
 * died, the other is at its end. -EINVAL: no such end; HEARTH_E_ABSENT. */
HEARTH_API int hearth_pipe_open(struct hearth *h, struct hearth_bytes name, int end);
/* Once less. HEARTH_E_NOTOWNER. */
HEARTH_API int hearth_pipe_close(struct hearth *h, struct hearth_bytes name, int end);
/* HEARTH_E_PENDING: no room; HEARTH_E_CLOSED: nobody holds the other end any more; -EBADF: this end does not send. */
HEARTH_API int hearth_pipe_send(struct hearth *h, struct hearth_bytes name, int end,
                                struct hearth_bytes message, int64_t ms);
/* HEARTH_E_PENDING; HEARTH_E_CLOSED: nothing is left, and nobody holds the other end any more. */
HEARTH_API int hearth_pipe_recv(struct hearth *h, struct hearth_bytes name, int end, int64_t ms,
                                struct hearth_bytes *ret);
/* *ret: 1: hearth_pipe_recv() would not wait, 0: not in time. */
HEARTH_API int hearth_pipe_poll(struct hearth *h, struct hearth_bytes name, int end, int64_t ms,
                                int *ret);
/* An end of a real socketpair(2) (SOCK_SEQPACKET), close-on-exec, for poll() and programs that know nothing of Hearth: the caller's
 * to close. The daemon keeps the other end under the name until it is asked for, or this connection ends; each is given out once
 * (HEARTH_E_EXISTS). HEARTH_E_BUSY: 16 of this handle wait for that. It has nothing to do with a pipe made by hearth_pipe_create(). The daemon is asked, also when the handle is attached. */
HEARTH_API int hearth_pipe_fd(struct hearth *h, struct hearth_bytes name, int end, int *ret_fd);

/* fn (NULL: none) is called, by the thread that waits in a function of this section, when a signal handler has run meanwhile. Anything but 0
 * ends the wait: the function returns -EINTR, unless it got what it wanted at that moment. Without it waits go on after signals.
 * A handle made by hearth_connect_fd() and not attached goes on all the same. */
typedef int (*hearth_interrupt_fn)(struct hearth *h, void *arg);
HEARTH_API void hearth_on_interrupt(struct hearth *h, hearth_interrupt_fn fn, void *arg);

/* ---- any command ---- */

enum hearth_reply_type {
    HEARTH_REPLY_NULL,
    HEARTH_REPLY_TEXT,  /* bytes: RESP's simple, bulk, verbatim strings and big numbers */
    HEARTH_REPLY_ERROR, /* text: "CODE message" */
    HEARTH_REPLY_INT,
    HEARTH_REPLY_DOUBLE,
    HEARTH_REPLY_BOOL,
    HEARTH_REPLY_ARRAY, /* also sets and pushes */
    HEARTH_REPLY_MAP
};

struct hearth_reply;

/* Sends a command of argc (at least 1) words and waits for its reply, of whatever kind: also an
 * error reply gives 0. lens NULL: the words end at their NUL. *ret_reply is valid until the next
 * call with this handle. The answers to SUBSCRIBE and its kin are pushes (hearth_on_push()): for
 * them *ret_reply is NULL. Refused with -EOPNOTSUPP, as they would upset the handle: RESET, HELLO
 * 2, CLIENT REPLY, TASK.NOTIFY. */
HEARTH_API int hearth_command(struct hearth *h, size_t argc, const char *const *argv,
                              const size_t *lens, const struct hearth_reply **ret_reply);

/* fn (NULL: none) is called with each push that is not the end of a task of this handle: what one
 * has subscribed to. The rules of hearth_done_fn hold. */
typedef void (*hearth_push_fn)(struct hearth *h, const struct hearth_reply *push, void *arg);
HEARTH_API void hearth_on_push(struct hearth *h, hearth_push_fn fn, void *arg);

/* The accessors take any reply, NULL included, and answer with nothing for what it is not. */
HEARTH_API enum hearth_reply_type hearth_reply_type(const struct hearth_reply *r);
/* The text of a TEXT, ERROR or number, followed by a NUL; else "" with *ret_len 0. ret_len may be
 * NULL. */
HEARTH_API const char *hearth_reply_text(const struct hearth_reply *r, size_t *ret_len);
/* An INT or BOOL, or a text that is a decimal integer; else 0. */
HEARTH_API int64_t hearth_reply_int(const struct hearth_reply *r);
/* A DOUBLE, or hearth_reply_int(). */
HEARTH_API double hearth_reply_double(const struct hearth_reply *r);
/* Elements of an ARRAY, pairs of a MAP; else 0. */
HEARTH_API size_t hearth_reply_count(const struct hearth_reply *r);
/* The first element (of a map: its first key) and the one behind an element; only as many as there
 * are. A map's keys and values alternate. O(1). */
HEARTH_API const struct hearth_reply *hearth_reply_first(const struct hearth_reply *r);
HEARTH_API const struct hearth_reply *hearth_reply_next(const struct hearth_reply *element);
/* The value of a key of a MAP (or of an array of keys and values); NULL when there is none.
 * O(count). */
HEARTH_API const struct hearth_reply *hearth_reply_get(const struct hearth_reply *r,
                                                       const char *key);

#ifdef __cplusplus
}
#endif
#endif
