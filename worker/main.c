/* SPDX-License-Identifier: MIT */
/* hearth-worker: the command line of the zygote. It is started by hearthd and by nobody else; by
 * hand it can tell what it is, and list the handlers of a module (--list), which checks it just as
 * a pool would.
 *
 * Fails: exit status 2 for a wrong command line, 1 for the rest; see hearth-worker(8). */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/base/num.h"
#include "lib/shm/segment.h"
#include "lib/wire/control.h"
#include "worker/module.h"
#include "worker/options.h"
#include "worker/say.h"
#include "worker/zygote.h"

enum {
    OPT_POOL = 1,
    OPT_INDEX,
    OPT_MODULE,
    OPT_EXEC,
    OPT_PROGRAM,
    OPT_PREFORK,
    OPT_KNOWN,
    OPT_TASKS,
    OPT_JITTER,
    OPT_GROWTH,
    OPT_THREADS,
    OPT_OUTPUT,
    OPT_TMP,
    OPT_ONCE,
    OPT_LIST,
    OPT_VERSION
};

static const struct option longs[] = {
    {"pool", required_argument, NULL, OPT_POOL},
    {"index", required_argument, NULL, OPT_INDEX},
    {"module", required_argument, NULL, OPT_MODULE},
    {"exec", no_argument, NULL, OPT_EXEC},
    {"program", no_argument, NULL, OPT_PROGRAM},
    {"prefork", no_argument, NULL, OPT_PREFORK},
    {"known", required_argument, NULL, OPT_KNOWN},
    {"max-tasks", required_argument, NULL, OPT_TASKS},
    {"max-tasks-jitter", required_argument, NULL, OPT_JITTER},
    {"max-growth", required_argument, NULL, OPT_GROWTH},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"max-output", required_argument, NULL, OPT_OUTPUT},
    {"tmp", required_argument, NULL, OPT_TMP},
    {"once", required_argument, NULL, OPT_ONCE},
    {"list", required_argument, NULL, OPT_LIST},
    {"version", no_argument, NULL, OPT_VERSION},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static const char help[] =
    "hearth-worker: runs the workers of one pool of hearthd, which starts it.\n"
    "\n"
    "  hearth-worker --pool NAME --index N (--module PATH | --exec | --program | --prefork)\n"
    "                [--max-tasks N] [--max-tasks-jitter N] [--max-growth BYTES]\n"
    "                [--threads N] [--max-output BYTES] [--tmp DIR] [--once SLOT:GEN]\n"
    "                [-- ARG...]\n"
    "  hearth-worker --list PATH     check a handler module and list its handlers\n"
    "  hearth-worker --version\n"
    "\n"
    "To write a module see hearth_handler(3); to configure pools, hearthd.conf(5).\n";

static int wrong(const char *what) {
    fprintf(stderr, "hearth-worker: %s (see hearth-worker --help)\n", what);
    return 2;
}

static int list_handlers(const char *path) {
    struct module m = {0};
    char why[MODULE_WHY];
    char plain[4096];
    if (strchr(path, '/') == NULL) {
        snprintf(plain, sizeof(plain), "./%s", path);
        path = plain;
    }
    if (module_load(&m, path, why) < 0) {
        fprintf(stderr, "hearth-worker: %s\n", why);
        return 1;
    }
    printf("%s %s\n", m.head.name, m.head.version != NULL ? m.head.version : "");
    for (uint32_t i = 0; i < m.count; i++) {
        const char *summary = m.handlers[i].summary;
        printf("  %-16s %s\n", m.handlers[i].name, summary != NULL ? summary : "");
    }
    module_deinit(&m);
    return 0;
}

static bool number(const char *text, uint64_t max, uint64_t *ret) {
    uint64_t v;
    if (num_u64(text, strlen(text), &v) != 0 || v > max) {
        return false;
    }
    *ret = v;
    return true;
}

/* "SLOT:GEN" */
static bool seat(const char *text, struct options *o) {
    uint64_t slot, gen;
    const char *colon = strchr(text, ':');
    if (colon == NULL || num_u64(text, (size_t)(colon - text), &slot) != 0 || slot > UINT32_MAX ||
        !number(colon + 1, UINT32_MAX, &gen)) {
        return false;
    }
    o->once = true;
    o->slot = (uint32_t)slot;
    o->gen = (uint32_t)gen;
    return true;
}

/* 0, or the exit status + 1 of a program that is done already. */
static int parse(int argc, char **argv, struct options *o) {
    uint64_t index = UINT64_MAX, threads = 1;
    bool exec = false;
    int c;
    while ((c = getopt_long(argc, argv, "+h", longs, NULL)) != -1) {
        bool good = true;
        switch (c) {
        case OPT_POOL:
            o->pool = optarg;
            break;
        case OPT_INDEX:
            good = number(optarg, SHM_POOLS - 1, &index);
            break;
        case OPT_MODULE:
            o->module = optarg;
            break;
        case OPT_EXEC:
            exec = true;
            break;
        case OPT_PROGRAM:
        case OPT_PREFORK:
            o->program = true;
            o->prefork = c == OPT_PREFORK;
            break;
        case OPT_KNOWN:
            o->known = optarg;
            break;
        case OPT_TASKS:
            good = number(optarg, UINT64_MAX, &o->max_tasks);
            break;
        case OPT_JITTER:
            good = number(optarg, INT32_MAX, &o->max_tasks_jitter);
            break;
        case OPT_GROWTH:
            good = number(optarg, UINT64_MAX, &o->max_growth);
            break;
        case OPT_THREADS:
            good = number(optarg, THREADS_MAX, &threads) && threads > 0;
            o->threads = (uint32_t)threads;
            break;
        case OPT_OUTPUT:
            good = number(optarg, UINT64_MAX, &o->max_output);
            break;
        case OPT_TMP:
            o->tmp = optarg;
            break;
        case OPT_ONCE:
            good = seat(optarg, o);
            break;
        case OPT_LIST:
            return list_handlers(optarg) + 1;
        case OPT_VERSION:
            printf("hearth-worker %s, handler ABI %u\n", HEARTH_VERSION, HEARTH_ABI);
            return 1;
        case 'h':
            fputs(help, stdout);
            return 1;
        default:
            return 2 + 1;
        }
        if (!good) {
            return wrong("a number is out of range") + 1;
        }
    }
    if (o->pool == NULL || index == UINT64_MAX || exec + o->program + (o->module != NULL) != 1) {
        return wrong("it is started by hearthd, with --pool, --index, and one of --module, --exec, "
                     "--program, --prefork") +
               1;
    }
    if (o->once && o->module == NULL) {
        return wrong("--once needs a module") + 1;
    }
    if (o->program && optind == argc) {
        return wrong("--program needs a command") + 1;
    }
    o->index = (uint32_t)index;
    o->argc = argc - optind;
    o->argv = argv + optind;
    return 0;
}

int main(int argc, char **argv) {
    struct options o = {.threads = 1, .max_output = UINT64_C(64) << 20};
    int done = parse(argc, argv, &o);
    if (done != 0) {
        return done - 1;
    }
    int type = 0;
    socklen_t len = sizeof(type);
    if (!o.once && (getsockopt(CONTROL_FD_SOCKET, SOL_SOCKET, SO_TYPE, &type, &len) < 0 ||
                    type != SOCK_SEQPACKET)) {
        return wrong("descriptor 3 is not hearthd's control socket: it is started by hearthd");
    }
    say_init(o.pool);
    return zygote_run(&o);
}
