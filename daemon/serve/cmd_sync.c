/* SPDX-License-Identifier: MIT */
/* SEM.*, EVENT.*, COND.*, BARRIER.*: the commands on semaphores, events, conditions and barriers. Each is a few words around
 * its verb in lib/shm/sync.h; how a connection waits is in wait_sync.c.
 *
 * Fails: replies; the errnos of lib/shm. */
#include "daemon/serve/cmd_sync.h"

#include "daemon/serve/args.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"
#include "lib/shm/sync.h"

/* ---- words, and waiting ---- */

/* True: *what has them; false: replied. */
static bool read_words(struct conn *c, const struct resp_arg *words, uint32_t n, bool check,
                       struct sync_do *what) {
    what->timeout_ms = SYNC_FOR_EVER;
    what->flags = check ? 0 : SYNC_NO_CHECK;
    for (uint32_t i = 0; i < n; i++) {
        if (resp_is(&words[i], "NOWAIT")) {
            what->timeout_ms = 0;
        } else if (check && resp_is(&words[i], "NOCHECK")) {
            what->flags |= SYNC_NO_CHECK;
        } else if (i + 1 < n && resp_is(&words[i], "TIMEOUT")) {
            if (!args_timeout(c, &words[++i], &what->timeout_ms)) {
                return false;
            }
        } else {
            reply_syntax(c);
            return false;
        }
    }
    return true;
}

int sync_wait_words(struct conn *c, const struct resp_arg *words, uint32_t n, bool check,
                    struct sync_do what) {
    return read_words(c, words, n, check, &what) ? wait_sync_do(c, &what) : 0;
}

bool sync_count(struct conn *c, const struct resp_arg *a, uint64_t *ret) {
    int64_t v;
    if (!args_range(c, a, 1, INT64_MAX, "value is out of range, must be positive", &v)) {
        return false;
    }
    *ret = (uint64_t)v;
    return true;
}

void sync_say_ok(struct conn *c, int answer) {
    reply_simple(c, answer == SYNC_DIED ? "OWNER_DIED" : "OK");
}

struct named {
    struct key_name name;
    sync_named *fn;
};

static int run_named(struct shm *s, void *arg, unsigned flags) {
    const struct named *n = arg;
    return n->fn(s, &n->name, flags);
}

int sync_wait_for(struct conn *c, const struct resp_arg *argv, uint32_t argc, bool check,
                  sync_named *fn, struct sync_do what) {
    struct named n = {object_name(c, &argv[1]), fn};
    what.shards = key_shard_bit(&n.name);
    what.run = run_named;
    what.arg = &n;
    return sync_wait_words(c, argv + 2, argc - 2, check, what);
}

/* ---- semaphores ---- */

int cmd_SEM_CREATE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct key_name name = object_name(c, &argv[1]);
    int64_t value;
    if (argc > 4 || (argc == 4 && !resp_is(&argv[3], "BOUNDED"))) {
        reply_syntax(c);
        return 0;
    }
    if (!args_range(c, &argv[2], 0, INT64_MAX, "value is out of range, must not be negative",
                    &value)) {
        return 0;
    }
    int r = sync_sem_create(object_shm(c), &name, (uint64_t)value, argc == 4);
    if (r >= 0) {
        reply_int(c, r);
    }
    return r < 0 ? r : 0;
}

struct units {
    struct key_name name;
    uint64_t n;
};

static int sem_acquire(struct shm *s, void *arg, unsigned flags) {
    const struct units *u = arg;
    return sync_sem_acquire(s, &u->name, u->n, flags);
}

/* Where the words about waiting begin: behind a number, if there is one. */
static bool units_of(struct conn *c, const struct resp_arg *argv, uint32_t argc, struct units *ret,
                     uint32_t *ret_from) {
    bool number = argc > 2 && !resp_is(&argv[2], "TIMEOUT") && !resp_is(&argv[2], "NOWAIT");
    ret->name = object_name(c, &argv[1]);
    ret->n = 1;
    *ret_from = number ? 3 : 2;
    return !number || sync_count(c, &argv[2], &ret->n);
}

int cmd_SEM_ACQUIRE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct units u;
    uint32_t from;
    if (!units_of(c, argv, argc, &u, &from)) {
        return 0;
    }
    return sync_wait_words(c, argv + from, argc - from, false,
                           (struct sync_do){.shards = key_shard_bit(&u.name),
                                            .run = sem_acquire,
                                            .arg = &u,
                                            .say = sync_say_ok,
                                            .died = true});
}

int cmd_SEM_RELEASE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct units u = {object_name(c, &argv[1]), 1};
    if (argc > 3) {
        reply_syntax(c);
        return 0;
    }
    if (argc == 3 && !sync_count(c, &argv[2], &u.n)) {
        return 0;
    }
    int r = sync_sem_release(object_shm(c), &u.name, u.n);
    if (r >= 0) {
        reply_ok(c);
    }
    return r < 0 ? r : 0;
}

int cmd_SEM_VALUE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key_name name = object_name(c, &argv[1]);
    int64_t v = sync_sem_value(object_shm(c), &name);
    if (v >= 0) {
        reply_int(c, v);
    }
    return v < 0 ? (int)v : 0;
}

/* ---- events ---- */

int cmd_EVENT_SET(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key_name name = object_name(c, &argv[1]);
    int r = sync_event_set(object_shm(c), &name);
    if (r >= 0) {
        reply_ok(c);
    }
    return r < 0 ? r : 0;
}

int cmd_EVENT_CLEAR(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key_name name = object_name(c, &argv[1]);
    int r = sync_event_clear(object_shm(c), &name);
    if (r >= 0) {
        reply_ok(c);
    }
    return r < 0 ? r : 0;
}

int cmd_EVENT_ISSET(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key_name name = object_name(c, &argv[1]);
    int r = sync_event_is_set(object_shm(c), &name);
    if (r >= 0) {
        reply_int(c, r);
    }
    return r < 0 ? r : 0;
}

int cmd_EVENT_WAIT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return sync_wait_for(c, argv, argc, false, sync_event_wait,
                         (struct sync_do){.say = sync_say_ok});
}

/* ---- conditions ---- */

struct cond_call {
    struct key_name cond, lock;
};

static int cond_wait(struct shm *s, void *arg, unsigned flags) {
    const struct cond_call *k = arg;
    return sync_cond_wait(s, &k->cond, &k->lock, flags);
}

int cmd_COND_WAIT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct cond_call k = {object_name(c, &argv[1]), object_name(c, &argv[2])};
    return sync_wait_words(
        c, argv + 3, argc - 3, false,
        (struct sync_do){.shards = key_shard_bit(&k.cond) | key_shard_bit(&k.lock),
                         .run = cond_wait,
                         .arg = &k,
                         .say = sync_say_ok,
                         .died = true});
}

static int notify(struct conn *c, const struct resp_arg *argv, uint64_t n) {
    struct key_name name = object_name(c, &argv[1]);
    int64_t r = sync_cond_notify(object_shm(c), &name, n);
    if (r >= 0) {
        reply_int(c, r);
    }
    return r < 0 ? (int)r : 0;
}

int cmd_COND_NOTIFY(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    uint64_t n = 1;
    if (argc > 3) {
        reply_syntax(c);
        return 0;
    }
    if (argc == 3 && !sync_count(c, &argv[2], &n)) {
        return 0;
    }
    return notify(c, argv, n);
}

int cmd_COND_NOTIFYALL(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    return notify(c, argv, UINT64_MAX);
}

/* ---- barriers ---- */

int cmd_BARRIER_CREATE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key_name name = object_name(c, &argv[1]);
    int64_t parties;
    if (!args_range(c, &argv[2], 1, UINT32_MAX, NULL, &parties)) {
        return 0;
    }
    int r = sync_barrier_create(object_shm(c), &name, (uint32_t)parties);
    if (r >= 0) {
        reply_int(c, r);
    }
    return r < 0 ? r : 0;
}

static void say_index(struct conn *c, int index) {
    reply_int(c, index);
}

int cmd_BARRIER_WAIT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return sync_wait_for(c, argv, argc, false, sync_barrier_wait,
                         (struct sync_do){.say = say_index});
}

int cmd_BARRIER_RESET(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key_name name = object_name(c, &argv[1]);
    int r = sync_barrier_reset(object_shm(c), &name);
    if (r >= 0) {
        reply_ok(c);
    }
    return r < 0 ? r : 0;
}

int cmd_BARRIER_ABORT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key_name name = object_name(c, &argv[1]);
    int r = sync_barrier_abort(object_shm(c), &name);
    if (r >= 0) {
        reply_ok(c);
    }
    return r < 0 ? r : 0;
}

int cmd_BARRIER_INFO(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key_name name = object_name(c, &argv[1]);
    struct sync_barrier_view v;
    int r = sync_barrier_view(object_shm(c), &name, &v);
    if (r >= 0) {
        reply_map(c, 3);
        reply_field_int(c, "parties", v.parties);
        reply_field_int(c, "waiting", v.waiting);
        reply_field_int(c, "broken", v.broken);
    }
    return r < 0 ? r : 0;
}
