/* SPDX-License-Identifier: MIT */
/* The module `demo`: handlers that show what can become of a task, for trying Hearth and for its
 * tests.
 *
 * echo gives its payload back; sleep and spin take a while and can be cancelled; fail, crash, exit
 * and leak go wrong in the four ways a handler can. The last three end or fatten the worker itself
 * on purpose.
 *
 * Fails: a bad argument is a failure with EINVAL. */
#include <stdatomic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "worker/handlers/args.h"
#include "worker/hearth_handler.h"

static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int demo_echo(struct hearth_task *task, const struct hearth_api *api) {
    struct hearth_bytes in = api->payload(task);
    if (in.len > 0) {
        return api->write(task, in.data, in.len) < 0 ? api->fail(task, ENOMEM, "no memory") : 0;
    }
    for (size_t i = 0; i < api->argc(task); i++) {
        struct hearth_bytes a = api->arg(task, i);
        if ((i > 0 && api->write(task, " ", 1) < 0) || api->write(task, a.data, a.len) < 0) {
            return api->fail(task, ENOMEM, "no memory");
        }
    }
    return 0;
}

static int demo_sleep(struct hearth_task *task, const struct hearth_api *api) {
    long long ms = 0;
    int r = args_number(task, api, 0, "MS", 0, 86400000, 1000, &ms);
    long long end = now_ns() + ms * 1000000;
    for (long long left = ms * 1000000; r == 0 && left > 0; left = end - now_ns()) {
        struct timespec nap = {0, left < 10000000 ? left : 10000000};
        if (api->cancelled(task)) {
            return api->fail(task, ECANCELED, "cancelled with %lld ms to go", left / 1000000);
        }
        nanosleep(&nap, NULL);
    }
    return r;
}

static int demo_spin(struct hearth_task *task, const struct hearth_api *api) {
    long long ms = 0;
    int r = args_number(task, api, 0, "MS", 0, 86400000, 1000, &ms);
    long long end = now_ns() + ms * 1000000;
    while (r == 0 && now_ns() < end) {
        if (api->cancelled(task)) {
            return api->fail(task, ECANCELED, "cancelled");
        }
    }
    return r;
}

static int demo_fail(struct hearth_task *task, const struct hearth_api *api) {
    struct hearth_bytes message = api->arg(task, 0);
    long long code = 0;
    int r = args_number(task, api, 1, "CODE", 1, 255, 1, &code);
    if (r != 0) {
        return r;
    }
    return api->fail(task, (int)code, "%s",
                     message.data != NULL ? (const char *)message.data : "failed, as asked");
}

static int demo_crash(struct hearth_task *task, const struct hearth_api *api) {
    static const struct {
        const char *name;
        int number;
    } names[] = {{"ABRT", SIGABRT}, {"SEGV", SIGSEGV}, {"BUS", SIGBUS},  {"FPE", SIGFPE},
                 {"ILL", SIGILL},   {"KILL", SIGKILL}, {"TERM", SIGTERM}};
    struct hearth_bytes a = api->arg(task, 0);
    const char *text = a.data != NULL ? a.data : "SEGV";
    long long number = 0;
    if (strncmp(text, "SIG", 3) == 0) {
        text += 3;
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i].name) == 0) {
            number = names[i].number;
        }
    }
    if (number == 0) {
        int r =
            args_number(task, api, 0, "SIGNAL (a name such as SEGV, or)", 1, 64, SIGSEGV, &number);
        if (r != 0) {
            return r;
        }
    }
    signal((int)number, SIG_DFL); /* fails for KILL, which needs it least */
    kill(getpid(), (int)number);
    return api->fail(task, 1, "signal %lld did not end the worker", number);
}

static int demo_exit(struct hearth_task *task, const struct hearth_api *api) {
    long long status = 0;
    int r = args_number(task, api, 0, "STATUS", 0, 255, 1, &status);
    if (r == 0) {
        _exit((int)status);
    }
    return r;
}

static int demo_steps(struct hearth_task *task, const struct hearth_api *api) {
    long long n = 0, ms = 0, bytes = 0;
    int r = args_number(task, api, 0, "N", 1, 1000000000, 3, &n);
    r = r != 0 ? r : args_number(task, api, 1, "MS", 0, 3600000, 100, &ms);
    r = r != 0 ? r : args_number(task, api, 2, "BYTES", 0, 1 << 20, 0, &bytes);
    if (r != 0) {
        return r;
    }
    size_t len = bytes > 64 ? (size_t)bytes : 64;
    char *text = malloc(len);
    if (text == NULL) {
        return api->fail(task, ENOMEM, "no memory");
    }
    memset(text, '.', len);
    for (long long i = 1; i <= n && r == 0 && !api->cancelled(task); i++) {
        size_t used = (size_t)snprintf(text, 64, "step %lld\n", i);
        text[used] = '.';
        nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
        r = api->emit(task, text, bytes > (long long)used ? (size_t)bytes : used);
        r = r != 0 ? r : api->progress(task, (uint64_t)i, (uint64_t)n, "stepping");
    }
    free(text);
    return r == 0 && !api->cancelled(task) ? api->write(task, "all steps", 9)
                                           : api->fail(task, ECANCELED, "stopped");
}

/* What leak() has taken, as a chain, so that no compiler finds the memory unused. */
static void *_Atomic leaked;

static int demo_leak(struct hearth_task *task, const struct hearth_api *api) {
    long long bytes = 0;
    int r = args_number(task, api, 0, "BYTES", 1, 1LL << 40, 1 << 20, &bytes);
    if (r != 0) {
        return r;
    }
    size_t size = (size_t)bytes < sizeof(void *) ? sizeof(void *) : (size_t)bytes;
    void **block = malloc(size);
    if (block == NULL) {
        return api->fail(task, ENOMEM, "no memory for %lld bytes", bytes);
    }
    memset(block, 1, size);
    *block = atomic_exchange(&leaked, block);
    return 0;
}

static const struct hearth_handler handlers[] = {
    {"echo", "gives back its payload, or its arguments when that is empty", demo_echo},
    {"sleep", "[MS] sleeps that long; can be cancelled", demo_sleep},
    {"spin", "[MS] keeps a CPU busy that long; can be cancelled", demo_spin},
    {"fail", "[MESSAGE [CODE]] fails", demo_fail},
    {"crash", "[SIGNAL] dies by that signal", demo_crash},
    {"exit", "[STATUS] leaves with that status", demo_exit},
    {"leak", "[BYTES] takes memory and never gives it back", demo_leak},
    {"steps", "[N [MS [BYTES]]] takes N steps of that length, and tells of each", demo_steps},
    {0},
};

HEARTH_EXPORT const struct hearth_module hearth_module = {
    HEARTH_MODULE_HEAD_FLAGS(HEARTH_THREADS),
    .name = "demo",
    .version = "1.0",
    .handlers = handlers,
};
