/* SPDX-License-Identifier: MIT */
/* A handler module in several versions (VERSION), for the tests of reloading:
 *
 *   who     the version's number
 *   slow    the same, after 50 ms
 *   old     version 1 only
 *   new     version 2 only, and the order is another
 *
 * Version 3 refuses to start; in version 4 the zygote starts, and no worker does. */
#include <time.h>
#include <unistd.h>

#include "worker/hearth_handler.h"

#define TEXT_OF(x) TEXT(x)
#define TEXT(x)    #x

static int who(struct hearth_task *task, const struct hearth_api *api) {
    return api->write(task, TEXT_OF(VERSION), 1);
}

static int slow(struct hearth_task *task, const struct hearth_api *api) {
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    return who(task, api);
}

static int init(const struct hearth_api *api, int argc, const char *const *argv) {
    (void)argc;
    (void)argv;
    return VERSION == 3 ? api->fail(NULL, 5, "version 3 refuses") : 0;
}

static int worker_init(const struct hearth_api *api) {
    (void)api;
    if (VERSION == 4) {
        _exit(9);
    }
    return 0;
}

static const struct hearth_handler handlers[] = {
#if VERSION == 1
    {"who", "", who},
    {"old", "", who},
    {"slow", "", slow},
#else
    {"slow", "", slow},
    {"new", "", who},
    {"who", "", who},
#endif
    {0},
};

HEARTH_EXPORT const struct hearth_module hearth_module = {
    HEARTH_MODULE_HEAD,   .name = "version", .version = TEXT_OF(VERSION),
    .handlers = handlers, .init = init,      .worker_init = worker_init,
};
