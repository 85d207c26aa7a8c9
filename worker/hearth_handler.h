/* SPDX-License-Identifier: MIT */
/* How to write a handler module for Hearth: a shared object that exports one `struct hearth_module`
 * named `hearth_module`. The whole of the interface is in this header; a module links against
 * nothing of Hearth.
 *
 *     #include <hearth_handler.h>
 *
 *     static int hello(struct hearth_task *task, const struct hearth_api *api) {
 *         struct hearth_bytes who = api->payload(task);
 *         return api->write(task, "hello, ", 7) || api->write(task, who.data, who.len);
 *     }
 *     static const struct hearth_handler handlers[] = {
 *         {"hello", "greets the payload", hello}, {0}};
 *     HEARTH_EXPORT const struct hearth_module hearth_module = {
 *         HEARTH_MODULE_HEAD, .name = "greeter", .version = "1.0", .handlers = handlers};
 *
 *     cc -shared -fPIC -o greeter.so greeter.c
 *     # and in the config:  module = "/path/greeter.so"
 *
 * LIFE. Per pool, one process (the zygote) loads the module and calls init() once; what it builds
 * (tables, models, pages of memory) is shared with every worker, copy-on-write. Workers are forked
 * from it: worker_init(), then run() for task after task, then worker_exit().
 * Threads must not exist when init() returns (a fork would lose them, and hearthd refuses the
 * module); worker_init() may make them.
 *
 * GROWTH. Members are only ever appended to the structs here, and each struct says how large it is.
 * So a module built against an older header goes on working, and one built against a newer header
 * runs under an older hearthd if it looks at api->size before it uses a member that came later
 * (HEARTH_HAS). HEARTH_ABI changes only when that is impossible, and then the module is refused at
 * load.
 *
 * THREADS. The functions of hearth_api are for the thread that called into the module, and only
 * during that call. A module whose handlers may run on several threads at once begins its struct
 * with HEARTH_MODULE_HEAD_FLAGS(HEARTH_THREADS); in a pool with `threads = n` each worker then runs n
 * tasks at once. init(), worker_init() and worker_exit() are called once, while no task runs.
 * Plain C99, usable from C++. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HEARTH_ABI 1u

#if defined(__GNUC__)
#define HEARTH_EXPORT       __attribute__((visibility("default")))
#define HEARTH_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define HEARTH_EXPORT
#define HEARTH_PRINTF(f, a)
#endif

/* A task, as long as its run() runs. */
struct hearth_task;

/* Some bytes somebody else owns. */
struct hearth_bytes {
    const void *data;
    size_t len;
};

/* A C string as bytes, without its NUL. */
static inline struct hearth_bytes hearth_text(const char *text) {
    struct hearth_bytes b;
    b.data = text;
    b.len = strlen(text);
    return b;
}

/* Levels of api->log(), the numbers of syslog(3). */
enum hearth_log_level {
    HEARTH_LOG_ERROR = 3,
    HEARTH_LOG_WARNING = 4,
    HEARTH_LOG_NOTICE = 5,
    HEARTH_LOG_INFO = 6,
    HEARTH_LOG_DEBUG = 7
};

/* ---- shared objects ----
 *
 * Dicts, lists and values by name, in shared memory: the same ones that other workers, mapped clients and Redis commands over
 * the socket see. Each call is one transaction: a crash in the middle of it leaves everything as before or as after. A dict or
 * list is made by the first thing put into it and goes with the last one.
 *
 * What a call gives is copied to this worker: it is valid until the next call but one of these functions (so it may be an
 * argument of the next one), and no longer than the task. A NUL follows each text. A `ret` may be NULL when a call does
 * something besides.
 *
 * Errors of every call: -EPROTOTYPE (the name is of another type), -ENOMEM (the segment is full; nothing has changed), -EDQUOT
 * (likewise: the user whose object it is, for a new one the task's submitter, has as much as he may), -EAGAIN (somebody sits
 * on a lock), -EMSGSIZE (over 64 MiB), -EPERM (in init(): there are no shared objects yet), -EBADMSG (the memory is damaged),
 * -EDEADLK (in a transaction: a name it does not list, or a call that waits). */

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

/* Flags of value_set(). */
enum hearth_when {
    HEARTH_ALWAYS = 0,
    HEARTH_IF_ABSENT = 1,  /* -EEXIST otherwise */
    HEARTH_IF_PRESENT = 2, /* -ENOENT otherwise */
    HEARTH_KEEP_TTL = 4    /* may be added: an expiry stays */
};

enum hearth_end { HEARTH_LEFT = 0, HEARTH_RIGHT = 1 };

/* What dict_items() gives. */
enum hearth_part { HEARTH_FIELDS = 1, HEARTH_VALUES = 2, HEARTH_ITEMS = 3 };

/* Flags of list_sort(); 0: by number, equal ones by their bytes, the smallest first. */
enum hearth_order {
    HEARTH_BY_BYTES = 1,  /* byte by byte, as memcmp() */
    HEARTH_DESCENDING = 2 /* the largest first */
};

/* Names that begin with a manager's prefix (MANAGER.OPEN, hearth_manager_open()) are gone when it ends; a handler gets such names
 * from who submits the task. Whatever would make one under the prefix of a manager that has ended returns -EIDRM and changes
 * nothing, and so does list_pop_wait() there; looking there finds nothing. Nobody wants the result any more: fail the task.
 * To nest containers, put the name of another one into a dict or list: nothing is copied, all see what is changed there. */
/* Types of arrays. */
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

struct hearth_objects {
    uint32_t size; /* sizeof(struct hearth_objects) of the running Hearth */
    uint32_t reserved;

    /* Runs fn(this table, arg) with n names locked (1 to 256): what it does counts when it returns 0 or more, all at once, and
     * none of it when it returns a negative value; either is returned. fn uses no other names, and may be run several times,
     * each time from the beginning: it changes nothing else that this would hurt. Others wait meanwhile: be quick. */
    int (*transaction)(const struct hearth_bytes *names, size_t n,
                       int (*fn)(const struct hearth_objects *objects, void *arg), void *arg);

    /* ---- names ---- */
    /* 1 or 0. */
    int (*exists)(struct hearth_bytes name);
    /* enum hearth_object_type. */
    int (*type)(struct hearth_bytes name);
    /* Deletes those of n names that exist, as one transaction: how many. */
    int64_t (*remove)(const struct hearth_bytes *names, size_t n);
    /* Lets it expire in ms (0: now). -ENOENT. */
    int (*expire)(struct hearth_bytes name, int64_t ms);
    /* Takes the expiry away: 1, or 0 when there was none. -ENOENT. */
    int (*persist)(struct hearth_bytes name);
    /* Milliseconds until it expires; -1: never; -ENOENT. */
    int64_t (*ttl)(struct hearth_bytes name);
    /* -ENOENT; -EEXIST: `to` is there and may not be replaced. */
    int (*rename)(struct hearth_bytes name, struct hearth_bytes to, int replace);
    /* About `count` names, from *cursor on (0: begins; 0 again: that was all). Those there throughout are met, some perhaps
     * twice. names_like() below gives those of a pattern. */
    int (*names)(uint64_t *cursor, uint32_t count, const struct hearth_bytes **ret, size_t *ret_n);

    /* ---- values ---- */
    /* -ENOENT. */
    int (*value_get)(struct hearth_bytes name, struct hearth_bytes *ret);
    /* when: flags of enum hearth_when; ttl_ms 0: for ever. */
    int (*value_set)(struct hearth_bytes name, struct hearth_bytes value, unsigned when,
                     uint64_t ttl_ms);
    /* Adds; an absent one counts as 0. -EDOM: not an integer; -ERANGE. */
    int (*value_add)(struct hearth_bytes name, int64_t by, int64_t *ret);
    /* The new length. */
    int64_t (*value_append)(struct hearth_bytes name, struct hearth_bytes more);
    /* Overwrites from byte `at` on; what is missing before it becomes zeroes. The new length. */
    int64_t (*value_write)(struct hearth_bytes name, uint64_t at, struct hearth_bytes data);
    /* `count` bytes from `from` (negative: from the end) on; count < 0: all that follow. */
    int (*value_range)(struct hearth_bytes name, int64_t from, int64_t count,
                       struct hearth_bytes *ret);

    /* ---- dicts: fields to values ---- */
    /* -ENOENT: no such field. */
    int (*dict_get)(struct hearth_bytes name, struct hearth_bytes field, struct hearth_bytes *ret);
    /* (*ret)[0 .. n-1] are the values; data NULL: absent. */
    int (*dict_get_many)(struct hearth_bytes name, const struct hearth_bytes *fields, size_t n,
                         const struct hearth_bytes **ret);
    /* 1: a new field; 0: replaced. */
    int (*dict_set)(struct hearth_bytes name, struct hearth_bytes field, struct hearth_bytes value);
    /* n pairs (field, value, field, value ...) as one transaction: how many fields are new. */
    int64_t (*dict_update)(struct hearth_bytes name, const struct hearth_bytes *pairs, size_t n);
    /* Sets the field if it is absent (1) or leaves it (0); *ret is what is there now. */
    int (*dict_setdefault)(struct hearth_bytes name, struct hearth_bytes field,
                           struct hearth_bytes value, struct hearth_bytes *ret);
    /* How many of n fields were there and are removed. */
    int64_t (*dict_delete)(struct hearth_bytes name, const struct hearth_bytes *fields, size_t n);
    /* 1 or 0. */
    int (*dict_contains)(struct hearth_bytes name, struct hearth_bytes field);
    int64_t (*dict_length)(struct hearth_bytes name);
    /* Removes a field and gives its value; popitem: any field. -ENOENT. */
    int (*dict_pop)(struct hearth_bytes name, struct hearth_bytes field, struct hearth_bytes *ret);
    int (*dict_popitem)(struct hearth_bytes name, struct hearth_bytes *ret_field,
                        struct hearth_bytes *ret_value);
    /* Adds; an absent field counts as 0. -EDOM: not an integer (a number); -ERANGE. */
    int (*dict_add)(struct hearth_bytes name, struct hearth_bytes field, int64_t by, int64_t *ret);
    int (*dict_add_float)(struct hearth_bytes name, struct hearth_bytes field, double by,
                          double *ret);
    /* Adds by[i] to fields[i], all as one transaction. */
    int (*dict_add_many)(struct hearth_bytes name, const struct hearth_bytes *fields,
                         const int64_t *by, size_t n);
    /* Compare and set: if the field is as expected (NULL: absent), it becomes value (NULL: absent) and 1 is returned; else
     * 0. */
    int (*dict_swap)(struct hearth_bytes name, struct hearth_bytes field,
                     const struct hearth_bytes *expected, const struct hearth_bytes *value);
    /* Fields and values in turn, about `count` pairs, with a cursor as names(); *ret_n counts both. */
    int (*dict_scan)(struct hearth_bytes name, uint64_t *cursor, uint32_t count,
                     const struct hearth_bytes **ret, size_t *ret_n);
    /* 1, or 0 when there was none. */
    int (*dict_clear)(struct hearth_bytes name);

    /* ---- lists; an index < 0 counts from the end ---- */
    /* n elements, one after the other: the new length. */
    int64_t (*list_push)(struct hearth_bytes name, enum hearth_end end,
                         const struct hearth_bytes *elements, size_t n);
    /* -ENOENT: there is none. */
    int (*list_pop)(struct hearth_bytes name, enum hearth_end end, struct hearth_bytes *ret);
    /* Waits for one, at most ms (< 0: for ever). -ETIMEDOUT; -ECANCELED: the task was cancelled meanwhile. */
    int (*list_pop_wait)(struct hearth_bytes name, enum hearth_end end, int64_t ms,
                         struct hearth_bytes *ret);
    /* From an end of one list to an end of another, or the same one. -ENOENT. */
    int (*list_move)(struct hearth_bytes from, enum hearth_end end, struct hearth_bytes to,
                     enum hearth_end to_end, struct hearth_bytes *ret);
    int64_t (*list_length)(struct hearth_bytes name);
    /* -ENOENT: out of range. */
    int (*list_at)(struct hearth_bytes name, int64_t index, struct hearth_bytes *ret);
    int (*list_set)(struct hearth_bytes name, int64_t index, struct hearth_bytes element);
    /* Before the element at index, or at the end. The new length. */
    int64_t (*list_insert)(struct hearth_bytes name, int64_t index, struct hearth_bytes element);
    /* Deletes `count` (< 0: all that follow) elements from `from` on: how many. */
    int64_t (*list_delete)(struct hearth_bytes name, int64_t from, int64_t count);
    /* Keeps only those: the new length. */
    int64_t (*list_trim)(struct hearth_bytes name, int64_t from, int64_t count);
    /* Removes elements equal to this: the first `count`, the last -count, or (0) all. How many. */
    int64_t (*list_remove)(struct hearth_bytes name, struct hearth_bytes element, int64_t count);
    /* Index of the first element equal to this, from index `from` on. -ENOENT. */
    int64_t (*list_index)(struct hearth_bytes name, struct hearth_bytes element, int64_t from);
    /* `count` (< 0: all that follow) elements from `from` on. */
    int (*list_range)(struct hearth_bytes name, int64_t from, int64_t count,
                      const struct hearth_bytes **ret, size_t *ret_n);
    /* Calls fn for the elements from `from` on until it returns non-zero, which is returned. The list may change meanwhile:
     * stretches of it are read at once. fn makes no other call of this table. */
    int (*list_walk)(struct hearth_bytes name, int64_t from,
                     int (*fn)(void *arg, uint64_t index, struct hearth_bytes element), void *arg);

    /* ---- more of each ---- */
    /* A copy under another name, its expiry too. -ENOENT; -EEXIST: `to` is there and may not be replaced, or is the same
     * name. */
    int (*copy)(struct hearth_bytes name, struct hearth_bytes to, int replace);
    /* names() of those that match a pattern: * ? [abc] [^abc] [a-z] and \ before a character that means itself. */
    int (*names_like)(struct hearth_bytes pattern, uint64_t *cursor, uint32_t count,
                      const struct hearth_bytes **ret, size_t *ret_n);
    /* value_set(); *ret is the value before, data NULL: there was none. It is set also with -EEXIST and -ENOENT. */
    int (*value_exchange)(struct hearth_bytes name, struct hearth_bytes value, unsigned when,
                          uint64_t ttl_ms, struct hearth_bytes *ret);
    /* Adds to a number; an absent one counts as 0. -EDOM: not a number; -ERANGE. */
    int (*value_add_float)(struct hearth_bytes name, double by, double *ret);
    /* All fields, all values, or fields and values in turn, of one moment; *ret_n counts both. */
    int (*dict_items)(struct hearth_bytes name, enum hearth_part part,
                      const struct hearth_bytes **ret, size_t *ret_n);
    /* Before, or after, the first element equal to pivot: the new length. -ENOENT: there is none. */
    int64_t (*list_insert_beside)(struct hearth_bytes name, struct hearth_bytes pivot, int after,
                                  struct hearth_bytes element);
    /* How many elements equal this. */
    int64_t (*list_count)(struct hearth_bytes name, struct hearth_bytes element);
    /* Turns the order round: the length. */
    int64_t (*list_reverse)(struct hearth_bytes name);
    /* Sorts in place; flags of enum hearth_order. The length. -EDOM: an element is no number. */
    int64_t (*list_sort)(struct hearth_bytes name, unsigned order);

    /* ---- raw blocks: named memory that is nothing but bytes, beside the segment ----
     *
     * Of a fixed size, zeroes at first, mapped whole; what is written there nobody watches over. The daemon keeps the names and is
     * asked by each of these calls, over a connection made for it; they may be used in init() too, and what is
     * mapped there is so in every worker. A mapping stays, whatever becomes of the name, until block_unmap() or the end of the
     * process: not with the task. A name has 1 to 255 bytes and is no key. Errors: -EEXIST, -ENOENT, -EIDRM, -EDQUOT and -ENOMEM
     * (over a limit), -EINVAL (a bad name or size), -EACCES, -ETIMEDOUT (the daemon does not answer). */

    /* Makes one; *ret: where it is mapped (NULL: it is not to be). */
    int (*block_create)(struct hearth_bytes name, uint64_t size, void **ret);
    /* Maps one that is there; *ret_size may be NULL. */
    int (*block_open)(struct hearth_bytes name, int readonly, void **ret, uint64_t *ret_size);
    /* Takes the name away. */
    int (*block_unlink)(struct hearth_bytes name);
    int (*block_unmap)(void *at, uint64_t size);

    /* ---- typed arrays: n (at least 1) numbers of one type, up to 64 MiB of them ----
     *
     * Made by array_create() alone; they stay until they are removed. `type` is what the caller takes the array for: -EPROTOTYPE if
     * it is of another. -ENOENT: no such array, or element; -ERANGE: the type has no such number; -EDEADLK: in a transaction.
     * Setting, adding, and comparing and setting one element is done or not done, and seen whole by everybody, those who have the
     * array pinned included. Of many elements each is whole, but all are not of one moment: take a lock, by convention the rlock
     * whose name is the array's and ":lock". */

    /* All zeroes. 1, or 0: there was one like it. -EEXIST: of another type or length. */
    int (*array_create)(struct hearth_bytes name, enum hearth_array_type type, uint64_t n);
    int (*array_info)(struct hearth_bytes name, enum hearth_array_type *ret_type, uint64_t *ret_n);
    int (*array_get)(struct hearth_bytes name, enum hearth_array_type type, uint64_t index,
                     union hearth_number *ret);
    int (*array_set)(struct hearth_bytes name, enum hearth_array_type type, uint64_t index,
                     union hearth_number value);
    /* Integers wrap. *ret: the sum. */
    int (*array_add)(struct hearth_bytes name, enum hearth_array_type type, uint64_t index,
                     union hearth_number by, union hearth_number *ret);
    /* Compare and set: 1; 0: it was not as expected, bit by bit. */
    int (*array_cas)(struct hearth_bytes name, enum hearth_array_type type, uint64_t index,
                     union hearth_number expected, union hearth_number value);
    /* `count` elements from `from` on, as they lie in memory. */
    int (*array_read)(struct hearth_bytes name, enum hearth_array_type type, uint64_t from,
                      uint64_t count, void *to);
    int (*array_write)(struct hearth_bytes name, enum hearth_array_type type, uint64_t from,
                       uint64_t count, const void *data);
    int (*array_fill)(struct hearth_bytes name, enum hearth_array_type type, uint64_t from,
                      uint64_t count, union hearth_number value);
    /* Where an array is. It stays there until array_unpin() or the end of the worker (not of the task), though it be removed or
     * renamed: use it with atomic instructions, or under a lock. As many unpins as pins, by the same thread. -EINVAL: there
     * is no such pin. */
    int (*array_pin)(struct hearth_bytes name, struct hearth_pin *ret);
    int (*array_unpin)(const struct hearth_pin *pin);

    /* ---- durable objects ----
     * Dicts, lists and values whose names begin with "durable:" are kept on the disk too, and survive the loss of power: a change is there
     * with the next write. Changing them returns -ENODEV (the daemon has no database) or -EIO (it cannot be
     * written), and nothing has changed. */
    /* Waits, at most ms (< 0: for ever), until all changes made so far, by whomever, are on the disk. -ETIMEDOUT; -ENODEV; -EIO;
     * -ECANCELED: the task is to stop; -EDEADLK: in a transaction. */
    int (*durable_sync)(int64_t ms);
};

/* ---- locks, and what else one waits for ----
 *
 * The objects of LOCK.*, RLOCK.*, RWLOCK.*, SEM.*, EVENT.*, COND.*, BARRIER.*, QUEUE.* and PIPE.* over the socket, by name, as
 * libhearth has them too: a handler waits for what a Redis client releases, and the other way round. Names and their prefixes are
 * as for shared objects above, whose remove(), type(), expire() and so on are for these also.
 *
 * What is held is held by the thread that runs the task, for the task: what it has not let go of when run() returns is let go of then, and the
 * log says so (a lock left to the next task would be nobody's). So it is when the worker dies, at whatever instruction. What is to
 * outlast a task is an event, a semaphore that is never given back, a value.
 *
 * ms < 0: waits for ever; 0: not at all: -EBUSY; too late: -ETIMEDOUT. Waiters are served in the order of their coming. When the task is
 * cancelled a wait ends with -ECANCELED. HEARTH_OWNER_DIED (1): taken, and the holder before died holding it, so that what it
 * guards may be half done.
 *
 * Errors of every call: those of shared objects, -EIDRM (deleted meanwhile), -EDEADLK (also: called in a transaction), -EPERM in
 * init(). */

enum { HEARTH_OWNER_DIED = 1 };

enum hearth_sync_flag {
    HEARTH_NO_CHECK =
        1,           /* acquire: no look for a circle of waiters: who locks twice waits for ever */
    HEARTH_FORCE = 2 /* release: also when another holds it */
};

struct hearth_barrier_info {
    uint32_t parties, waiting;
    int broken;
};

struct hearth_queue_options {
    uint64_t max_items; /* 0: no bound */
    int64_t lease_ms;   /* 0: an item belongs to who got it, and is gone if he dies; > 0: it comes
                           back to the front after so long, or when he dies (or his task ends),
                           unless queue_done() was called; < 0: only when he dies */
};

struct hearth_queue_info {
    uint64_t max_items;
    int64_t lease_ms;
    uint64_t items, leased;    /* in it, and got but not yet done */
    uint64_t unfinished;       /* what queue_join() waits for */
    uint64_t getters, putters; /* who wait */
    int closed;
};

struct hearth_sync {
    uint32_t size; /* sizeof(struct hearth_sync) of the running Hearth */
    uint32_t reserved;

    /* ---- locks; made by first use ---- */
    /* -EDEADLK: this thread has it already, or each of a circle would wait for another. */
    int (*lock_acquire)(struct hearth_bytes name, int64_t ms, unsigned flags);
    /* -EPERM: it is not this thread that holds it. */
    int (*lock_release)(struct hearth_bytes name, unsigned flags);
    /* 1: somebody holds it, 0: nobody. */
    int (*lock_is_held)(struct hearth_bytes name);
    /* A lock that its holder may take again, and gives back as often. */
    int (*rlock_acquire)(struct hearth_bytes name, int64_t ms, unsigned flags);
    int (*rlock_release)(struct hearth_bytes name, unsigned flags);
    /* Many readers, or one writer. Readers behind a waiting writer wait. */
    int (*rwlock_read)(struct hearth_bytes name, int64_t ms, unsigned flags);
    int (*rwlock_write)(struct hearth_bytes name, int64_t ms, unsigned flags);
    int (*rwlock_release)(struct hearth_bytes name, unsigned flags);

    /* ---- semaphores ---- */
    /* 1: made, 0: it was there; -EEXIST: with another value or bound. bounded: no more are given back than it had at first. */
    int (*sem_create)(struct hearth_bytes name, uint64_t value, int bounded);
    /* n units, all or none. -ENOENT. */
    int (*sem_acquire)(struct hearth_bytes name, uint64_t n, int64_t ms);
    /* Anybody may. -EOVERFLOW; -ENOENT. */
    int (*sem_release)(struct hearth_bytes name, uint64_t n);
    int64_t (*sem_value)(struct hearth_bytes name);

    /* ---- events; made by first use ---- */
    int (*event_set)(struct hearth_bytes name);
    int (*event_clear)(struct hearth_bytes name);
    int (*event_is_set)(struct hearth_bytes name);
    int (*event_wait)(struct hearth_bytes name, int64_t ms);

    /* ---- conditions; made by first use ---- */
    /* Lets go of the lock or rlock, waits to be notified, and takes it again at its former depth, also after -ETIMEDOUT and
     * -ECANCELED. -EPERM: it is not held. */
    int (*cond_wait)(struct hearth_bytes cond, struct hearth_bytes lock, int64_t ms);
    /* Wakes the n (UINT64_MAX: all) that have waited longest: how many that were. */
    int64_t (*cond_notify)(struct hearth_bytes cond, uint64_t n);

    /* ---- barriers ---- */
    /* 1: made, 0: it was there; -EEXIST: for another number. */
    int (*barrier_create)(struct hearth_bytes name, uint32_t parties);
    /* 0 to parties-1, another one for each. -ECONNABORTED: it is broken, now or before: somebody was too late (he gets
     * -ETIMEDOUT), died waiting or was cancelled, or aborted it. -ENOENT. */
    int (*barrier_wait)(struct hearth_bytes name, int64_t ms);
    /* Makes it as new; those that wait get -ECONNABORTED. */
    int (*barrier_reset)(struct hearth_bytes name);
    /* Breaks it. */
    int (*barrier_abort)(struct hearth_bytes name);
    int (*barrier_info)(struct hearth_bytes name, struct hearth_barrier_info *ret);

    /* ---- queues; made by first use, then without a bound and leases ---- */
    /* 1: made, 0: it was there; -EEXIST: with other options. */
    int (*queue_create)(struct hearth_bytes name, const struct hearth_queue_options *options);
    /* -EPIPE: it is closed. */
    int (*queue_put)(struct hearth_bytes name, struct hearth_bytes item, int64_t ms);
    /* n items, in order, as room comes: how many. Fewer than n when some were in before an error. */
    int64_t (*queue_put_many)(struct hearth_bytes name, const struct hearth_bytes *items, size_t n,
                              int64_t ms);
    /* The oldest. *ret_lease (it may be NULL): for the functions below; 0: this queue has no leases. -EPIPE: it is empty and closed. */
    int (*queue_get)(struct hearth_bytes name, int64_t ms, struct hearth_bytes *ret,
                     uint64_t *ret_lease);
    /* Up to `max`, waiting for the first. leases: room for `max`, or NULL. */
    int (*queue_get_many)(struct hearth_bytes name, size_t max, int64_t ms,
                          const struct hearth_bytes **ret, size_t *ret_n, uint64_t *leases);
    /* The item has been dealt with; counts as queue_task_done() too. -ENOENT: it is not on this lease any more; -EPERM: another got it. */
    int (*queue_done)(struct hearth_bytes name, uint64_t lease);
    /* The lease ends in ms (< 0: with its taker). */
    int (*queue_extend)(struct hearth_bytes name, uint64_t lease, int64_t ms);
    /* Gives it back to the front at once. */
    int (*queue_return)(struct hearth_bytes name, uint64_t lease);
    /* One of the items put has been dealt with. -EOVERFLOW: they all have been. */
    int (*queue_task_done)(struct hearth_bytes name);
    /* Waits until all that were put have been dealt with. */
    int (*queue_join)(struct hearth_bytes name, int64_t ms);
    /* Nothing more can be put; what is there can be got. -ENOENT. */
    int (*queue_close)(struct hearth_bytes name);
    /* -ENOENT. */
    int (*queue_info)(struct hearth_bytes name, struct hearth_queue_info *ret);

    /* ---- pipes; ends 0 and 1 ---- */
    /* 1: made, 0: it was there; -EEXIST: with others. Not duplex: from end 1 to end 0 only. buffer: bytes under way in each
     * direction; 0: 64 KiB; a larger message goes alone. */
    int (*pipe_create)(struct hearth_bytes name, int duplex, uint64_t buffer);
    /* The task holds the end (once more); so does one that sends or receives without it. When all that held an end have closed it
     * or died, the other is at its end. -ENOENT; -EINVAL: no such end. */
    int (*pipe_open)(struct hearth_bytes name, int end);
    /* Once less. -EPERM. */
    int (*pipe_close)(struct hearth_bytes name, int end);
    /* -EPIPE: nobody holds the other end any more; -EBADF: this end does not send. */
    int (*pipe_send)(struct hearth_bytes name, int end, struct hearth_bytes message, int64_t ms);
    /* -EPIPE: nothing is left, and nobody holds the other end any more. */
    int (*pipe_recv)(struct hearth_bytes name, int end, int64_t ms, struct hearth_bytes *ret);
    /* 1: pipe_recv() would not wait, 0: not in time. */
    int (*pipe_poll)(struct hearth_bytes name, int end, int64_t ms);
};

/* What a handler may call. */
struct hearth_api {
    uint32_t size; /* sizeof(struct hearth_api) of the running Hearth */
    uint32_t abi;  /* its HEARTH_ABI */

    /* ---- the task's input; valid until run() returns ---- */

    /* The payload, in shared memory: read it, never write to it. Not NUL-terminated. */
    struct hearth_bytes (*payload)(struct hearth_task *task);
    /* The number of arguments. */
    size_t (*argc)(struct hearth_task *task);
    /* Argument i. Arguments are bytes: `len` is exact, and a NUL follows. {NULL, 0} when there is
     * none. */
    struct hearth_bytes (*arg)(struct hearth_task *task, size_t i);

    /* ---- what the task is ---- */

    /* Its id as text, as clients see it. */
    const char *(*id)(struct hearth_task *task);
    /* 1 for the first attempt. */
    uint32_t (*attempt)(struct hearth_task *task);
    /* Milliseconds until its time limit (0: reached, the worker is about to be killed), or -1: it
     * has none. */
    int64_t (*deadline_ms)(struct hearth_task *task);
    /* 1 when somebody wants it stopped. A long-running handler looks now and then (it costs
     * next to nothing) and returns non-zero; one that does not is killed with its worker after a
     * grace period. */
    int (*cancelled)(struct hearth_task *task);

    /* ---- its output, built in shared memory; nothing is sent before run() returns ---- */

    /* Room for `size` more bytes behind what was written so far; write there, then commit(). NULL:
     * no memory, or over the pool's max_output. Valid until the next reserve(), write() or fail().
     */
    void *(*reserve)(struct hearth_task *task, size_t size);
    /* The first `len` bytes of the room (at most the `size` reserved) belong to the output now. */
    void (*commit)(struct hearth_task *task, size_t len);
    /* Appends a copy. 0, -ENOMEM, or -EMSGSIZE (over max_output); the output is as before then. */
    int (*write)(struct hearth_task *task, const void *data, size_t len);

    /* ---- failure and logging ---- */

    /* Marks the task failed, with a code (0 counts as 1) and a message of up to 4000 bytes, which
     * replaces its output. Returns the code, so that `return api->fail(task, 2, "no page %d", n);`
     * does it. In init() and worker_init() task is NULL: the message is why the pool cannot start.
     */
    int (*fail)(struct hearth_task *task, int code, const char *format, ...) HEARTH_PRINTF(3, 4);
    /* One line to the log of the daemon, and to who follows the task; task may be NULL. */
    void (*log)(struct hearth_task *task, int level, const char *format, ...) HEARTH_PRINTF(3, 4);

    /* ---- where ---- */

    /* The pool's name. */
    const char *(*pool)(void);
    /* The worker's number, unique among the living ones; -1 in the zygote (init, exit). */
    int (*worker)(void);

    /* ---- what all share ---- */

    /* The shared objects. */
    const struct hearth_objects *objects;

    /* ---- limits ---- */

    /* 1 once the task has run for longer than its soft limit (SOFT, soft_timeout): it should come to
     * an end, with what it has or without. A handler that has been told so here and returns non-zero
     * ends as `timeout`, cause `soft`; the time limit proper is not changed by it. */
    int (*soft_limit)(struct hearth_task *task);

    /* ---- its worker ---- */

    /* This worker is to end after this task, for instance because something in it has been left in
     * a state that cannot be mended. Its replacement is started at once, so that it is warm by then
     * if the task goes on for a while. */
    void (*retire)(struct hearth_task *task);

    /* ---- while it runs ----
     *
     * What a task tells goes at once to whoever follows it (SUBSCRIBE task:<id>:stream, hearth call --stream, hearth log -f) and
     * is no part of the result. While somebody follows, both wait for him when he is slow; while nobody does, they never wait,
     * and the last 16 KiB or so are kept for who comes later. A retried task begins anew.
     *
     * Both return 0; -ECANCELED: the task has been told to stop, end it; -ENOMEM: no room for it in shared memory. */

    /* A part of the output, of any length: followers get all of it in order, perhaps in other pieces. */
    int (*emit)(struct hearth_task *task, const void *data, size_t len);
    /* How far it has come: done of total (0: not known), and at most 200 bytes of text (NULL: none). Call it as often as is of
     * use to a reader, some times a second. */
    int (*progress)(struct hearth_task *task, uint64_t done, uint64_t total, const char *text);

    /* ---- what all share: locks, queues, pipes ---- */
    const struct hearth_sync *sync;
};

/* Whether the running Hearth has a member of hearth_api: HEARTH_HAS(api, worker). */
#define HEARTH_HAS(api, member)                                                                    \
    ((api)->size >= offsetof(struct hearth_api, member) + sizeof((api)->member))

/* One thing a module can do. */
struct hearth_handler {
    const char *name;    /* what clients call it: 1 to 63 of A-Z a-z 0-9 _ - . */
    const char *summary; /* a line for people, or NULL */
    /* Runs a task. 0: done, the output is the result. Anything else: failed with that code (unless
     * fail() said more), or cancelled, when that was asked for. A crash or exit() is the end of
     * this worker only, and is reported. */
    int (*run)(struct hearth_task *task, const struct hearth_api *api);
};

enum hearth_module_flag {
    /* The handlers may run on several threads of a process at once. */
    HEARTH_THREADS = 1
};

/* What a module exports under the name `hearth_module`. */
struct hearth_module {
    uint32_t abi;          /* HEARTH_MODULE_HEAD fills in these */
    uint32_t size;         /* sizeof(struct hearth_module) */
    uint32_t handler_size; /* sizeof(struct hearth_handler) */
    uint32_t flags;        /* enum hearth_module_flag */

    const char *name;
    const char *version;                   /* or NULL */
    const struct hearth_handler *handlers; /* ends with one whose name is NULL; at least one */

    /* Any of these may be NULL. */

    /* Once per pool, in the zygote, with the pool's `args`. Non-zero: the pool cannot start (see
     * fail). */
    int (*init)(const struct hearth_api *api, int argc, const char *const *argv);
    /* In the zygote, when the pool ends. */
    void (*exit)(const struct hearth_api *api);
    /* In each worker, before its first task. Non-zero: this worker cannot start. */
    int (*worker_init)(const struct hearth_api *api);
    /* In each worker that ends in an orderly way. */
    void (*worker_exit)(const struct hearth_api *api);
};

#define HEARTH_MODULE_HEAD_FLAGS(flags)                                                            \
    HEARTH_ABI, (uint32_t)sizeof(struct hearth_module), (uint32_t)sizeof(struct hearth_handler),   \
        flags
#define HEARTH_MODULE_HEAD HEARTH_MODULE_HEAD_FLAGS(0)

extern HEARTH_EXPORT const struct hearth_module hearth_module;

#ifdef __cplusplus
}
#endif
