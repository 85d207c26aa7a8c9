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
 * from it: worker_init(), then run() for task after task, one at a time, then worker_exit().
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
 * during that call. Plain C99, usable from C++. */
#pragma once

#include <stddef.h>
#include <stdint.h>

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

/* Levels of api->log(), the numbers of syslog(3). */
enum hearth_log_level {
    HEARTH_LOG_ERROR = 3,
    HEARTH_LOG_WARNING = 4,
    HEARTH_LOG_NOTICE = 5,
    HEARTH_LOG_INFO = 6,
    HEARTH_LOG_DEBUG = 7
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
    /* 1 when somebody wants it stopped. A long-running handler looks now and then (a look costs
     * some nanoseconds) and returns non-zero; one that does not is killed with its worker after a
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
    /* One line to the log of the daemon; task may be NULL. */
    void (*log)(struct hearth_task *task, int level, const char *format, ...) HEARTH_PRINTF(3, 4);

    /* ---- where ---- */

    /* The pool's name. */
    const char *(*pool)(void);
    /* The worker's number, unique among the living ones; -1 in the zygote (init, exit). */
    int (*worker)(void);
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

/* What a module exports under the name `hearth_module`. */
struct hearth_module {
    uint32_t abi;          /* HEARTH_MODULE_HEAD fills in these three */
    uint32_t size;         /* sizeof(struct hearth_module) */
    uint32_t handler_size; /* sizeof(struct hearth_handler) */
    uint32_t reserved;

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

#define HEARTH_MODULE_HEAD                                                                         \
    HEARTH_ABI, (uint32_t)sizeof(struct hearth_module), (uint32_t)sizeof(struct hearth_handler), 0

extern HEARTH_EXPORT const struct hearth_module hearth_module;

#ifdef __cplusplus
}
#endif
