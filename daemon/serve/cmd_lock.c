/* SPDX-License-Identifier: MIT */
/* LOCK.*, RLOCK.*, RWLOCK.*: locks whose owner is the connection, or a mapped process, and which do not outlive their owner.
 * Those that acquire wait in their line (wait_sync.c); those that release hand over to the next in it, which is done by then.
 *
 * LOCK.LIST goes through all keys, shard by shard as KEYS does, and tells of each object that somebody holds or waits for.
 *
 * Fails: replies; the errnos of lib/shm. */
#include <errno.h>
#include <stdlib.h>

#include "daemon/serve/cmd_sync.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"
#include "lib/base/glob.h"
#include "lib/shm/sync.h"

enum { SHARDS = 64 };

/* ---- acquiring and releasing ---- */

static int acquire(struct conn *c, const struct resp_arg *argv, uint32_t argc, sync_named *fn) {
    return sync_wait_for(c, argv, argc, true, fn,
                         (struct sync_do){.say = sync_say_ok, .died = true});
}

int cmd_LOCK_ACQUIRE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return acquire(c, argv, argc, sync_lock_acquire);
}

int cmd_RLOCK_ACQUIRE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return acquire(c, argv, argc, sync_rlock_acquire);
}

int cmd_RWLOCK_READ(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return acquire(c, argv, argc, sync_rwlock_read);
}

int cmd_RWLOCK_WRITE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return acquire(c, argv, argc, sync_rwlock_write);
}

static int release(struct conn *c, const struct resp_arg *argv, uint32_t argc, sync_named *fn) {
    struct key_name name = object_name(c, &argv[1]);
    if (argc > 3 || (argc == 3 && !resp_is(&argv[2], "FORCE"))) {
        reply_syntax(c);
        return 0;
    }
    int r = fn(object_shm(c), &name, argc == 3 ? SYNC_FORCE : 0);
    if (r >= 0) {
        reply_ok(c);
    }
    return r < 0 ? r : 0;
}

int cmd_LOCK_RELEASE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return release(c, argv, argc, sync_lock_release);
}

int cmd_RLOCK_RELEASE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return release(c, argv, argc, sync_rlock_release);
}

int cmd_RWLOCK_RELEASE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return release(c, argv, argc, sync_rwlock_release);
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

/* ---- LOCK.LIST ---- */

/* Replies are built here, as what comes first is how many there are. */
struct list_walk {
    struct conn *c;
    const struct resp_arg *pattern; /* NULL: all */
    unsigned shard;
    struct buf found; /* maps */
    uint32_t n;
    struct sync_party_view *parties; /* of the object in hand */
    size_t n_parties, cap_parties;
};

static int keep_party(void *arg, const struct sync_party_view *v) {
    struct list_walk *w = arg;
    if (w->n_parties == w->cap_parties) {
        size_t cap = w->cap_parties ? w->cap_parties * 2 : 16;
        struct sync_party_view *to = reallocarray(w->parties, cap, sizeof(*to));
        if (!to) {
            return -ENOMEM;
        }
        w->parties = to;
        w->cap_parties = cap;
    }
    w->parties[w->n_parties++] = *v;
    return 0;
}

static int put_int(struct buf *b, const char *key, int64_t v) {
    int r = resp_put_text(b, key);
    return r < 0 ? r : resp_put_int(b, v);
}

static int put_text(struct buf *b, const char *key, const char *v) {
    int r = resp_put_text(b, key);
    return r < 0 ? r : resp_put_text(b, v);
}

static const char *mode_name(char mode) {
    switch (mode) {
    case 'r':
        return "read";
    case 'w':
        return "write";
    case 'x':
        return "exclusive";
    default:
        return "";
    }
}

static int put_party(struct list_walk *w, const struct sync_party_view *v) {
    struct buf *b = &w->found;
    const struct conn *who = v->conn ? accounts_find(w->c->serve, v->conn) : NULL;
    int r = resp_put_map(b, w->c->proto, 7);
    r = r < 0 ? r : put_int(b, "pid", v->pid);
    r = r < 0 ? r : put_int(b, "uid", v->uid);
    r = r < 0 ? r : put_int(b, "client", (int64_t)v->conn);
    r = r < 0 ? r : put_text(b, "name", who && who->name ? who->name : "");
    r = r < 0 ? r : put_text(b, "mode", mode_name(v->mode));
    r = r < 0 ? r : put_int(b, "count", (int64_t)v->count);
    return r < 0 ? r : put_int(b, "ms", v->for_ms);
}

static int put_parties(struct list_walk *w, const char *key, bool holders) {
    uint32_t n = 0;
    for (size_t i = 0; i < w->n_parties; i++) {
        n += w->parties[i].holds == holders;
    }
    int r = resp_put_text(&w->found, key);
    r = r < 0 ? r : resp_put_array(&w->found, n);
    for (size_t i = 0; i < w->n_parties && r >= 0; i++) {
        r = w->parties[i].holds == holders ? put_party(w, &w->parties[i]) : 0;
    }
    return r;
}

static int list_visit(void *arg, const void *name, size_t len, const struct shm_key *k) {
    struct list_walk *w = arg;
    struct shm *s = object_shm(w->c);
    struct key_name key = key_name(s, name, len);
    if (!key_is_sync(key_record_type(k)) ||
        (w->pattern && !glob_match(w->pattern->data, w->pattern->len, name, len))) {
        return 0;
    }
    w->n_parties = 0;
    int r = sync_parties(s, &key, keep_party, w);
    if (r < 0 || w->n_parties == 0) {
        return r == -ENOENT || r == -EPROTOTYPE ? 0 : r;
    }
    w->n++;
    r = resp_put_map(&w->found, w->c->proto, 4);
    r = r < 0 ? r : resp_put_text(&w->found, "key");
    r = r < 0 ? r : resp_put_bulk(&w->found, name, len);
    r = r < 0 ? r : put_text(&w->found, "type", key_type_names[key_record_type(k)]);
    r = r < 0 ? r : put_parties(w, "holders", true);
    return r < 0 ? r : put_parties(w, "waiters", false);
}

struct list_step {
    struct list_walk *w;
    size_t bytes;
    uint32_t n;
};

/* May be run again from the beginning. */
static int list_shard(struct shm *s, void *arg) {
    struct list_step *p = arg;
    uint64_t cursor = p->w->shard;
    int r;
    p->w->n = p->n;
    p->w->found.tail = p->w->found.head + p->bytes;
    do {
        r = keys_scan(s, &cursor, list_visit, p->w);
    } while (r == 0 && cursor && keys_cursor_shard(cursor) == p->w->shard);
    return r;
}

int cmd_LOCK_LIST(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct list_walk w = {.c = c, .pattern = argc > 1 ? &argv[1] : NULL};
    int r = 0;
    if (argc > 2) {
        reply_wrong_args(c, "LOCK.LIST", NULL);
        return 0;
    }
    for (w.shard = 0; r == 0 && w.shard < SHARDS; w.shard++) {
        struct list_step p = {&w, buf_len(&w.found), w.n};
        int tries = 0;
        do {
            r = op_run(object_shm(c), UINT64_C(1) << w.shard, list_shard, &p);
        } while (r == -EAGAIN && object_again(&tries));
    }
    if (r == 0) {
        reply_array(c, w.n);
        if (w.n) {
            REPLY(c, buf_append(&c->out, buf_head(&w.found), buf_len(&w.found)));
        }
    }
    free(w.parties);
    buf_deinit(&w.found);
    return r;
}
