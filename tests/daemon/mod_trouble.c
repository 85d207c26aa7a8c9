/* SPDX-License-Identifier: MIT */
/* A handler module that misbehaves, for the tests of supervision.
 *
 *   deaf    never ends and never looks whether it was cancelled
 *   named   echoes the pid of its worker
 *   soft    goes on until its soft limit is over: then returns its first argument, having written "part"
 *   greedy  takes so many MiB as its first argument says, and goes on for ever
 *   stuck   sleeps for ever, whatever signals come
 *   wild    writes over its own task's record: its state as said by the first argument, a number; then
 *           marks the record as free in the map. With a second argument it never ends.
 *   scribble  writes as many words as its second argument says anywhere into the segment, by chance that its
 *           first argument seeds
 *   grow    as named, and keeps so many bytes of memory for ever
 *   chatty  logs its payload
 *   last    as named, and wants its worker to end
 *
 * Its first argument in the configuration names a file: as long as that exists, worker_init() ends
 * the worker with status 7. With the argument "slow" a worker takes a second to be warm. With the
 * argument "refuse", init() fails, so the pool cannot start at
 * all.
 *
 * Fails: that is what it is for. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/shm/layout.h"
#include "worker/hearth_handler.h"

static const char *sign;
static char *leaked;

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

/* Where the mapping begins that has this address in it. */
static struct shm_header *segment_of(const void *at) {
    uintptr_t from, to, found = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512];
    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &from, &to) == 2 && (uintptr_t)at >= from &&
            (uintptr_t)at < to) {
            found = from;
        }
    }
    if (f) {
        fclose(f);
    }
    return (struct shm_header *)found;
}

static int wild(struct hearth_task *task, const struct hearth_api *api) {
    /* so small an input lies in the record itself */
    char *in = (char *)(uintptr_t)api->payload(task).data;
    struct shm_task *record = (struct shm_task *)(in - offsetof(struct shm_task, in));
    struct shm_header *head = segment_of(record);
    if (!head || head->magic != SHM_MAGIC) {
        return 1;
    }
    uint64_t idx = (uint64_t)((char *)record - (char *)head - head->tasks_off) / sizeof(*record);
    _Atomic uint64_t *map = (_Atomic uint64_t *)((char *)head + head->free_off);
    uint64_t state = strtoull(api->arg(task, 0).data, NULL, 10);
    int forever = api->argc(task) > 1;
    atomic_store(&record->state, state);
    atomic_fetch_or(&map[idx / 64], UINT64_C(1) << idx % 64);
    atomic_store(&head->free_hint, idx / 64);
    return forever ? deaf(task, api) : 0;
}

static int grow(struct hearth_task *task, const struct hearth_api *api) {
    size_t n = strtoul(api->arg(task, 0).data, NULL, 10);
    char *kept = malloc(n);
    if (!kept) {
        return 1;
    }
    memset(kept, 1, n);
    *(char *volatile *)&leaked = kept;
    return named(task, api);
}

static int last(struct hearth_task *task, const struct hearth_api *api) {
    api->retire(task);
    return named(task, api);
}

static int soft(struct hearth_task *task, const struct hearth_api *api) {
    while (!api->soft_limit(task)) {
        usleep(1000);
    }
    api->write(task, "part", 4);
    return (int)strtol(api->arg(task, 0).data, NULL, 10);
}

static int greedy(struct hearth_task *task, const struct hearth_api *api) {
    size_t size = strtoul(api->arg(task, 0).data, NULL, 10) << 20;
    char *all = malloc(size);
    if (!all) {
        return 1;
    }
    memset(all, 1, size);
    for (;;) {
        pause();
    }
    return all[0];
}

static int stuck(struct hearth_task *task, const struct hearth_api *api) {
    sigset_t all;
    (void)task;
    (void)api;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (;;) {
        sleep(1000);
    }
    return 0;
}

static uint64_t chance(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Mostly into what is in use, at the front of each area; what is written is mostly something like what
 * was there. */
static int scribble(struct hearth_task *task, const struct hearth_api *api) {
    struct shm_header *head = segment_of(api->payload(task).data);
    if (!head || head->magic != SHM_MAGIC) {
        return 1;
    }
    uint64_t seed = strtoull(api->arg(task, 0).data, NULL, 10);
    const uint64_t areas[] = {head->pools_off,  head->slots_off,    head->done_off,
                              head->free_off,   head->tasks_off,    head->shards_off,
                              head->uses_off,   head->accounts_off, head->arenas_off,
                              head->chunks_off, head->map_off,      head->data_off};
    for (long n = strtol(api->arg(task, 1).data, NULL, 10); n > 0; n--) {
        uint64_t area = areas[chance(&seed) % (sizeof(areas) / sizeof(*areas))];
        uint64_t off = (area + chance(&seed) % (chance(&seed) % 2 ? 4096 : 65536)) & ~UINT64_C(7);
        _Atomic uint64_t *word = (_Atomic uint64_t *)((char *)head + off);
        uint64_t old = atomic_load(word), new[] = {0,
                                                   old + 1,
                                                   old - 1,
                                                   old ^ UINT64_C(1) << chance(&seed) % 64,
                                                   chance(&seed) % head->size,
                                                   chance(&seed),
                                                   UINT64_MAX,
                                                   old << 1};
        atomic_store(word, new[chance(&seed) % (sizeof(new) / sizeof(*new))]);
    }
    return 0;
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
    if (sign && strcmp(sign, "slow") == 0) {
        usleep(1000000);
    }
    if (sign && access(sign, F_OK) == 0) {
        _exit(7);
    }
    return 0;
}

static int chatty(struct hearth_task *task, const struct hearth_api *api) {
    struct hearth_bytes in = api->payload(task);
    api->log(task, HEARTH_LOG_NOTICE, "is told %.*s", (int)in.len, (const char *)in.data);
    return 0;
}

static const struct hearth_handler handlers[] = {
    {"deaf", "never ends, never listens", deaf},
    {"named", "the pid of its worker", named},
    {"soft", "ends at its soft limit", soft},
    {"greedy", "takes memory", greedy},
    {"stuck", "sleeps for ever", stuck},
    {"scribble", "writes anywhere", scribble},
    {"wild", "writes over its record", wild},
    {"grow", "keeps memory", grow},
    {"chatty", "logs its payload", chatty},
    {"last", "the last task of its worker", last},
    {0},
};

HEARTH_EXPORT const struct hearth_module hearth_module = {
    HEARTH_MODULE_HEAD,   .name = "trouble", .version = "1.0",
    .handlers = handlers, .init = init,      .worker_init = worker_init,
};
