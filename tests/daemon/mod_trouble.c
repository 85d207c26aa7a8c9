/* SPDX-License-Identifier: MIT */
/* A handler module that misbehaves, for the tests of supervision.
 *
 *   deaf    never ends and never looks whether it was cancelled
 *   named   echoes the pid of its worker
 *
 * Its first argument in the configuration names a file: as long as that exists, worker_init() ends
 * the worker with status 7. With the argument "refuse", init() fails, so the pool cannot start at
 * all.
 *
 * Fails: that is what it is for. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "worker/hearth_handler.h"

static const char *sign;

static int deaf(struct hearth_task *task, const struct hearth_api *api) {
    (void)task;
    (void)api;
    for (volatile unsigned n = 0;; n++) {
    }
    return 0;
}

static int named(struct hearth_task *task, const struct hearth_api *api) {
    char text[16];
    int n = snprintf(text, sizeof(text), "%d", (int)getpid());
    return api->write(task, text, (size_t)n);
}

static int init(const struct hearth_api *api, int argc, const char *const *argv) {
    sign = argc > 0 ? argv[0] : NULL;
    if (sign && strcmp(sign, "refuse") == 0) {
        return api->fail(NULL, 5, "refused, as asked");
    }
    return 0;
}

static int worker_init(const struct hearth_api *api) {
    (void)api;
    if (sign && access(sign, F_OK) == 0) {
        _exit(7);
    }
    return 0;
}

static const struct hearth_handler handlers[] = {
    {"deaf", "never ends, never listens", deaf},
    {"named", "the pid of its worker", named},
    {0},
};

HEARTH_EXPORT const struct hearth_module hearth_module = {
    HEARTH_MODULE_HEAD,   .name = "trouble", .version = "1.0",
    .handlers = handlers, .init = init,      .worker_init = worker_init,
};
