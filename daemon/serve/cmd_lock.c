/* SPDX-License-Identifier: MIT */
/* LOCK.*, RLOCK.*: locks whose owner is the connection, or a mapped process, and which do not outlive their owner.
 * Those that acquire wait in their line (wait_sync.c); those that release hand over to the next in it, which is done by then.
 *
 * Fails: replies; the errnos of lib/shm. */
#include "daemon/serve/cmd_sync.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"
#include "lib/base/clock.h"
#include "lib/base/num.h"
#include "lib/shm/sync.h"

/* ---- words ---- */

bool sync_words(struct conn *c, const struct resp_arg *argv, uint32_t argc, bool check,
                struct sync_words *ret) {
    struct sync_words w = {.timeout_ms = SYNC_FOR_EVER};
    for (uint32_t i = 0; i < argc; i++) {
        if (resp_is(&argv[i], "NOWAIT")) {
            w.timeout_ms = 0;
        } else if (check && resp_is(&argv[i], "NOCHECK")) {
            w.flags |= SYNC_NO_CHECK;
        } else if (i + 1 < argc && resp_is(&argv[i], "TIMEOUT")) {
            i++;
            if (num_u64(argv[i].data, argv[i].len, &w.timeout_ms) < 0 ||
                w.timeout_ms > (uint64_t)INT64_MAX / NS_PER_MS) {
                reply_error(c, "ERR timeout is not an integer or out of range");
                return false;
            }
        } else {
            reply_syntax(c);
            return false;
        }
    }
    *ret = w;
    return true;
}

bool sync_count(struct conn *c, const struct resp_arg *a, uint64_t *ret) {
    int64_t v;
    if (dispatch_i64(a, &v) < 0 || v < 1) {
        reply_error(c, "ERR value is out of range, must be positive");
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

int sync_wait_for(struct conn *c, const struct resp_arg *argv, uint32_t argc, uint32_t from,
                  sync_named *fn, bool check) {
    struct named n = {object_name(c, &argv[1]), fn};
    struct sync_words w;
    if (!sync_words(c, argv + from, argc - from, check, &w)) {
        return 0;
    }
    return wait_sync_do(c, &(struct sync_do){
                               .shards = key_shard_bit(&n.name),
                               .run = run_named,
                               .arg = &n,
                               .say = sync_say_ok,
                               .died = true,
                               .timeout_ms = w.timeout_ms,
                               .flags = w.flags | (check ? 0 : SYNC_NO_CHECK),
                           });
}

/* ---- acquiring and releasing ---- */

int cmd_LOCK_ACQUIRE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return sync_wait_for(c, argv, argc, 2, sync_lock_acquire, true);
}

int cmd_RLOCK_ACQUIRE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return sync_wait_for(c, argv, argc, 2, sync_rlock_acquire, true);
}

static int release(struct conn *c, const struct resp_arg *argv, sync_named *fn, unsigned flags) {
    struct key_name name = object_name(c, &argv[1]);
    int r = fn(object_shm(c), &name, flags);
    if (r >= 0) {
        reply_ok(c);
    }
    return r < 0 ? r : 0;
}

int cmd_LOCK_RELEASE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    if (argc > 3 || (argc == 3 && !resp_is(&argv[2], "FORCE"))) {
        reply_syntax(c);
        return 0;
    }
    return release(c, argv, sync_lock_release, argc == 3 ? SYNC_FORCE : 0);
}

int cmd_RLOCK_RELEASE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    return release(c, argv, sync_rlock_release, 0);
}

int cmd_LOCK_ISHELD(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key_name name = object_name(c, &argv[1]);
    int r = sync_lock_is_held(object_shm(c), &name);
    if (r >= 0) {
        reply_int(c, r);
    }
    return r < 0 ? r : 0;
}
