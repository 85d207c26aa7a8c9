/* SPDX-License-Identifier: MIT */
/* Modules with something wrong or odd about them, one for each value of BAD, for
 * test_handlers_zygote.c. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/hearth_handler.h"

#define NO_SYMBOL         0
#define OTHER_ABI         1
#define NO_HANDLERS       2
#define TWICE             3
#define INIT_FAILS        4
#define THREADS           5
#define WORKER_INIT_FAILS 6
#define ODD               7 /* nothing is wrong: it uses everything */

#if BAD == NO_SYMBOL
extern HEARTH_EXPORT const int hearth_modul;
HEARTH_EXPORT const int hearth_modul = 1;
#else

/* What init() was told and how often what ran in this process, for the handler to give back. */
static char told[256];
static int inits, worker_inits;

static int run(struct hearth_task *task, const struct hearth_api *api) {
    char text[512];
    char *at = stpcpy(text, told);
    *at++ = (char)('0' + inits);
    *at++ = (char)('0' + worker_inits);
    *at = '\0';
    if (!HEARTH_HAS(api, worker) || api->worker() < 0 || strcmp(api->pool(), "rig") != 0 ||
        api->attempt(task) != 1 || strlen(api->id(task)) < 3) {
        return 90;
    }
    int64_t left = api->deadline_ms(task);
    if (api->argc(task) == 1 && (left <= 0 || left > 60000)) {
        return 91;
    }
    if (api->argc(task) == 0 && left != -1) {
        return 92;
    }
    /* in place: more than was committed does not count */
    char *out = api->reserve(task, 4096);
    if (out == NULL) {
        return 93;
    }
    memset(out, 'x', 4096);
    memcpy(out, text, strlen(text));
    api->commit(task, strlen(text));
    return api->write(task, "!", 1);
}

static int init(const struct hearth_api *api, int argc, const char *const *argv) {
    inits++;
    for (int i = 0; i < argc; i++) {
        strncat(told, argv[i], 100);
        strcat(told, ",");
    }
    if (BAD == INIT_FAILS) {
        return api->fail(NULL, 5, "no model at %s", argc > 0 ? argv[0] : "?");
    }
    return 0;
}

static void *sit(void *arg) {
    pause();
    return arg;
}

static int init_threads(const struct hearth_api *api, int argc, const char *const *argv) {
    pthread_t t;
    (void)argc;
    (void)argv;
    return pthread_create(&t, NULL, sit, (void *)(uintptr_t)api);
}

static int worker_init(const struct hearth_api *api) {
    worker_inits++;
    return BAD == WORKER_INIT_FAILS ? api->fail(NULL, 3, "no licence") : 0;
}

/* Tells the test by a directory of a name of its own. */
static void leave_mark(const char *what) {
    char path[512];
    const char *dir = getenv("HEARTH_TEST_MARKS");
    if (dir != NULL) {
        strcpy(path, dir);
        strcat(path, what);
        if (mkdtemp(path) == NULL) {
            abort();
        }
    }
}

static void on_exit_hook(const struct hearth_api *api) {
    (void)api;
    leave_mark("/exit-XXXXXX");
}

static void on_worker_exit(const struct hearth_api *api) {
    (void)api;
    leave_mark("/worker-XXXXXX");
}

static const struct hearth_handler handlers[] = {
    {"first", "gives back what init was told", run},
    {BAD == TWICE ? "first" : "second", NULL, run},
    {0},
};

HEARTH_EXPORT const struct hearth_module hearth_module = {
    BAD == OTHER_ABI ? HEARTH_ABI + 1 : HEARTH_ABI,
    sizeof(struct hearth_module),
    sizeof(struct hearth_handler),
    0,
    .name = "bad",
    .handlers = BAD == NO_HANDLERS ? handlers + 2 : handlers,
    .init = BAD == THREADS ? init_threads : init,
    .exit = on_exit_hook,
    .worker_init = worker_init,
    .worker_exit = on_worker_exit,
};
#endif
