/* SPDX-License-Identifier: MIT */
/* The key commands: what can be done with keys whatever they name. Those on single keys run inside of an operation
 * (object.h). KEYS, SCAN, RANDOMKEY, DBSIZE and FLUSHALL go through the shards one after the other, each in an operation of
 * its own, so that nobody else is kept waiting for longer than one shard takes.
 *
 * Fails: replies; the errnos of lib/shm. */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "daemon/serve/dispatch.h"
#include "daemon/serve/expiry.h"
#include "lib/base/glob.h"
#include "daemon/serve/args.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"
#include "lib/base/clock.h"

enum {
    SHARDS = 64,
    FLUSH_BUDGET = 64, /* keys per operation */
    RANDOM_DRAWS = 32, /* of a shard by the number of its keys, before ... */
    RANDOM_ROUNDS = 4, /* ... going through all shards, while expired keys are met */
};

/* ---- there or not ---- */

static int delete_keys(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    int64_t n = 0;
    for (uint32_t i = 1; i < argc; i++) {
        struct key key;
        struct key_name name = object_name(c, &argv[i]);
        int r = key_find_write(object_shm(c), &name, &key);
        if (r == 0) {
            r = key_delete(object_shm(c), &key);
            n++;
        }
        if (r && r != -ENOENT) {
            return r;
        }
    }
    reply_int(c, n);
    return 0;
}

int cmd_DEL(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return delete_keys(c, argv, argc);
}

int cmd_UNLINK(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return delete_keys(c, argv, argc);
}

static int count_keys(struct conn *c, const struct resp_arg *argv, uint32_t argc, bool touch) {
    int64_t n = 0;
    for (uint32_t i = 1; i < argc; i++) {
        struct key key;
        struct key_name name = object_name(c, &argv[i]);
        int r = key_find(object_shm(c), &name, &key);
        object_looked(c, r == 0);
        object_looked(c, r == 0);
        if (r && r != -ENOENT) {
            return r;
        }
        if (r == 0 && touch) {
            key_used(&key);
        }
        n += r == 0;
    }
    reply_int(c, n);
    return 0;
}

int cmd_EXISTS(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return count_keys(c, argv, argc, false);
}

int cmd_TOUCH(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return count_keys(c, argv, argc, true);
}

int cmd_TYPE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key key;
    struct key_name name = object_name(c, &argv[1]);
    int r = key_find(object_shm(c), &name, &key);
    object_looked(c, r == 0);
    if (r && r != -ENOENT) {
        return r;
    }
    reply_simple(c, key_type_names[r ? KEY_NONE : key_type(&key)]);
    return 0;
}

/* ---- all of them ---- */

struct walk {
    struct conn *c;
    unsigned shard;
    uint64_t cursor;
    const struct resp_arg *pattern; /* NULL: all */
    int type;                       /* enum key_type; -1: any; KEY_TYPES: none is of it */
    struct buf found;               /* names, as bulk strings */
    uint32_t n;
};

static int walk_visit(void *arg, const void *name, size_t len, const struct shm_key *k) {
    struct walk *w = arg;
    if (w->type >= 0 && (int)key_record_type(k) != w->type) {
        return 0;
    }
    if (w->pattern && !glob_match(w->pattern->data, w->pattern->len, name, len)) {
        return 0;
    }
    w->n++;
    return resp_put_bulk(&w->found, name, len);
}

/* Where a walk was before a piece of it that may be run again. */
struct step {
    struct walk *w;
    uint64_t cursor;
    size_t bytes;
    uint32_t n;
};

static int step_again(struct shm *s, void *arg) {
    struct step *p = arg;
    p->w->cursor = p->cursor;
    p->w->n = p->n;
    p->w->found.tail = p->w->found.head + p->bytes;
    return keys_scan(s, &p->w->cursor, walk_visit, p->w);
}

static int walk_one(struct walk *w) {
    struct step p = {w, w->cursor, buf_len(&w->found), w->n};
    int tries = 0, r;
    do {
        r = op_read(object_shm(w->c), keys_cursor_shard(w->cursor), step_again, &p);
    } while (r == -EAGAIN && object_again(&tries));
    return r;
}

static void put_found(struct conn *c, const struct walk *w) {
    reply_array(c, w->n);
    if (w->n) {
        REPLY(c, buf_append(&c->out, buf_head(&w->found), buf_len(&w->found)));
    }
}

/* A whole shard under its lock: so no key is met twice. */
static int walk_shard(struct shm *s, void *arg) {
    struct step *p = arg;
    int r;
    p->w->n = p->n;
    p->w->found.tail = p->w->found.head + p->bytes;
    p->w->cursor = p->w->shard;
    do {
        r = keys_scan(s, &p->w->cursor, walk_visit, p->w);
    } while (r == 0 && p->w->cursor && keys_cursor_shard(p->w->cursor) == p->w->shard);
    return r;
}

int cmd_KEYS(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    bool all = argv[1].len == 1 && argv[1].data[0] == '*';
    struct walk w = {.c = c, .pattern = all ? NULL : &argv[1], .type = -1};
    int r = 0;
    for (w.shard = 0; r == 0 && w.shard < SHARDS; w.shard++) {
        struct step p = {&w, 0, buf_len(&w.found), w.n};
        int tries = 0;
        do {
            r = op_run(object_shm(c), UINT64_C(1) << w.shard, walk_shard, &p);
        } while (r == -EAGAIN && object_again(&tries));
    }
    if (r == 0) {
        put_found(c, &w);
    }
    buf_deinit(&w.found);
    return r;
}

static int type_named(const struct resp_arg *a) {
    for (int t = KEY_VALUE; t < KEY_TYPES; t++) {
        if (resp_is(a, key_type_names[t])) {
            return t;
        }
    }
    return KEY_TYPES;
}

/* False: replied. */
static bool parse_scan(struct conn *c, const struct resp_arg *argv, uint32_t argc, struct walk *w,
                       int64_t *count) {
    if (!args_cursor(c, &argv[1], &w->cursor)) {
        return false;
    }
    for (uint32_t i = 2; i < argc; i += 2) {
        bool more = i + 1 < argc;
        if (more && resp_is(&argv[i], "COUNT")) {
            if (!args_i64(c, &argv[i + 1], count)) {
                return false;
            }
            if (*count < 1) {
                reply_syntax(c);
                return false;
            }
        } else if (more && resp_is(&argv[i], "MATCH")) {
            w->pattern = &argv[i + 1];
        } else if (more && resp_is(&argv[i], "TYPE")) {
            w->type = type_named(&argv[i + 1]);
        } else {
            reply_syntax(c);
            return false;
        }
    }
    return true;
}

int cmd_SCAN(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct walk w = {.c = c, .type = -1};
    int64_t count = 10;
    if (!parse_scan(c, argv, argc, &w, &count)) {
        return 0;
    }
    int64_t steps = count > INT64_MAX / 10 ? INT64_MAX : count * 10;
    int r = 0;
    do {
        r = walk_one(&w);
    } while (r == 0 && w.cursor && --steps > 0 && w.n < count);
    if (r == 0) {
        reply_array(c, 2);
        reply_textf(c, "%llu", (unsigned long long)w.cursor);
        put_found(c, &w);
    }
    buf_deinit(&w.found);
    return r;
}

struct pick {
    struct conn *c;
    uint64_t random;
    size_t mark;
};

static int pick_one(struct shm *s, void *arg) {
    struct pick *p = arg;
    struct key key;
    p->c->out.tail = p->c->out.head + p->mark;
    int r = keys_random(s, p->random, &key);
    if (r == 0) {
        reply_bulk(p->c, key.name.word.data, key.name.word.len);
    }
    return r;
}

int cmd_RANDOMKEY(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    struct pick p = {.c = c, .mark = buf_len(&c->out)};
    if (getrandom(&p.random, sizeof(p.random), 0) < 0) {
        p.random = c->serve->commands * UINT64_C(0x9e3779b97f4a7c15);
    }
    uint64_t random = p.random;
    for (int i = 0; i < SHARDS * RANDOM_ROUNDS; i++) {
        if (i < RANDOM_DRAWS) {
            random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            p.random = random & ~UINT64_C(63);
            p.random |= keys_random_shard(object_shm(c), random >> 16);
        } else { /* mostly expired ones: whatever there is */
            p.random++;
        }
        int r = op_read(object_shm(c), p.random % SHARDS, pick_one, &p);
        if (r != -ENOENT) {
            return r;
        }
    }
    reply_null(c);
    return 0;
}

int cmd_DBSIZE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    reply_int(c, (int64_t)keys_count(object_shm(c)));
    return 0;
}

struct flush {
    unsigned shard;
    int budget;
};

static int flush_some(struct shm *s, void *arg) {
    struct flush *f = arg;
    return keys_flush_some(s, f->shard, f->budget);
}

static int flush_all(struct shm *s, void *arg) {
    (void)arg;
    int r = 0;
    for (unsigned i = 0; r == 0 && i < SHARDS; i++) {
        r = keys_flush(s, i);
    }
    return r;
}

/* The segment is full to the last block: key by key, which frees some. */
static int flush_slowly(struct conn *c) {
    struct flush f = {.budget = FLUSH_BUDGET};
    int r = 0;
    for (; r == 0 && f.shard < SHARDS; f.shard++) {
        int tries = 0;
        do {
            r = op_run(object_shm(c), UINT64_C(1) << f.shard, flush_some, &f);
            if (r == -ENOMEM && f.budget > 1) { /* not even for a larger log: one by one */
                f.budget = 1;
                r = 1;
            }
        } while (r == 1 || (r == -EAGAIN && object_again(&tries)));
    }
    return r;
}

static int flush(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    if (argc > 2 || (argc == 2 && !resp_is(&argv[1], "ASYNC") && !resp_is(&argv[1], "SYNC"))) {
        reply_syntax(c);
        return 0;
    }
    int r = op_run(object_shm(c), OP_ALL, flush_all, NULL);
    if (r == -ENOMEM) {
        r = flush_slowly(c);
    }
    if (r == 0) {
        reply_ok(c);
    }
    return r;
}

int cmd_FLUSHALL(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return flush(c, argv, argc);
}

int cmd_FLUSHDB(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return flush(c, argv, argc);
}

/* ---- other names, and copies ---- */

/* Makes the name free. 1: a key had it, and has been removed if `remove`; 0: none had. */
static int make_free(struct conn *c, const struct key_name *name, bool remove) {
    struct key key;
    int r = key_find_write(object_shm(c), name, &key);
    if (r) {
        return r == -ENOENT ? 0 : r;
    }
    r = remove ? key_delete(object_shm(c), &key) : 0;
    return r ? r : 1;
}

static bool same_word(const struct resp_arg *a, const struct resp_arg *b) {
    return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

/* 1: renamed; 0: the new name is taken and `replace` is not set. */
static int rename_key(struct conn *c, const struct resp_arg *argv, bool replace) {
    struct shm *s = object_shm(c);
    struct key key;
    struct key_name from = object_name(c, &argv[1]), to = object_name(c, &argv[2]);
    int r = key_find_write(s, &from, &key);
    if (r) {
        return r;
    }
    if (same_word(&argv[1], &argv[2])) {
        return replace;
    }
    r = make_free(c, &to, replace);
    if (r < 0 || (r == 1 && !replace)) {
        return r < 0 ? r : 0;
    }
    r = key_find_write(s, &from, &key); /* it may have moved */
    r = r ? r : key_rename(s, &key, &to);
    return r ? r : 1;
}

int cmd_RENAME(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    int r = rename_key(c, argv, true);
    if (r < 0) {
        return r;
    }
    reply_ok(c);
    return 0;
}

int cmd_RENAMENX(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    int r = rename_key(c, argv, false);
    if (r < 0) {
        return r;
    }
    reply_int(c, r);
    return 0;
}

/* False: replied. */
static bool parse_copy(struct conn *c, const struct resp_arg *argv, uint32_t argc, bool *replace) {
    for (uint32_t i = 3; i < argc; i++) {
        if (resp_is(&argv[i], "REPLACE")) {
            *replace = true;
        } else if (resp_is(&argv[i], "DB") && i + 1 < argc) {
            if (!object_db(c, &argv[++i])) {
                return false;
            }
        } else {
            reply_syntax(c);
            return false;
        }
    }
    return true;
}

int cmd_COPY(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct shm *s = object_shm(c);
    struct key key;
    bool replace = false;
    if (!parse_copy(c, argv, argc, &replace)) {
        return 0;
    }
    if (same_word(&argv[1], &argv[2])) {
        reply_error(c, "ERR source and destination objects are the same");
        return 0;
    }
    struct key_name from = object_name(c, &argv[1]), to = object_name(c, &argv[2]);
    int r = key_find_write(s, &from, &key);
    if (r == -ENOENT) {
        reply_int(c, 0);
        return 0;
    }
    r = r ? r : make_free(c, &to, replace);
    if (r < 0 || (r == 1 && !replace)) {
        reply_int(c, 0);
        return r < 0 ? r : 0;
    }
    r = key_find_write(s, &from, &key);
    r = r ? r : key_copy(s, &key, &to);
    if (r == 0) {
        reply_int(c, 1);
    }
    return r;
}

/* ---- expiry ---- */

enum { IF_NONE = 1 << 0, IF_ANY = 1 << 1, IF_LATER = 1 << 2, IF_SOONER = 1 << 3 };

/* False: replied. */
static bool parse_conditions(struct conn *c, const struct resp_arg *argv, uint32_t argc,
                             uint32_t *ret) {
    static const char *const names[] = {"NX", "XX", "GT", "LT"};
    uint32_t flags = 0;
    for (uint32_t i = 3; i < argc; i++) {
        unsigned k = 0;
        while (k < 4 && !resp_is(&argv[i], names[k])) {
            k++;
        }
        if (k == 4) {
            reply_errorf(c, "ERR Unsupported option %.*s",
                         (int)strnlen(argv[i].data, argv[i].len < 128 ? argv[i].len : 128),
                         argv[i].data);
            return false;
        }
        flags |= 1u << k;
    }
    if ((flags & IF_NONE) && (flags & ~(uint32_t)IF_NONE)) {
        reply_error(c, "ERR NX and XX, GT or LT options at the same time are not compatible");
        return false;
    }
    if ((flags & IF_LATER) && (flags & IF_SOONER)) {
        reply_error(c, "ERR GT and LT options at the same time are not compatible");
        return false;
    }
    *ret = flags;
    return true;
}

static bool conditions_hold(uint32_t flags, uint64_t now_at, int64_t at) {
    bool has = now_at != 0, later = at > (int64_t)now_at, sooner = at < (int64_t)now_at;
    return !((flags & IF_NONE) && has) && !((flags & IF_ANY) && !has) &&
           !((flags & IF_LATER) && (!has || !later)) && !((flags & IF_SOONER) && has && !sooner);
}

static int expire(struct conn *c, const struct resp_arg *argv, uint32_t argc, const char *command,
                  bool seconds, bool relative) {
    struct shm *s = object_shm(c);
    struct key key;
    uint32_t flags;
    int64_t at, now = (int64_t)clock_wall_ms();
    if (!parse_conditions(c, argv, argc, &flags) || !args_i64(c, &argv[2], &at)) {
        return 0;
    }
    if ((seconds && __builtin_mul_overflow(at, 1000, &at)) ||
        (relative && __builtin_add_overflow(at, now, &at))) {
        expiry_invalid(c, command);
        return 0;
    }
    struct key_name name = object_name(c, &argv[1]);
    int r = key_find_write(s, &name, &key);
    if (r && r != -ENOENT) {
        return r;
    }
    if (r || !conditions_hold(flags, key_expire(&key), at)) {
        reply_int(c, 0);
        return 0;
    }
    r = at <= now ? key_delete(s, &key) : key_set_expire(s, &key, (uint64_t)at);
    reply_int(c, 1);
    return r;
}

int cmd_EXPIRE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return expire(c, argv, argc, "expire", true, true);
}

int cmd_PEXPIRE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return expire(c, argv, argc, "pexpire", false, true);
}

int cmd_EXPIREAT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return expire(c, argv, argc, "expireat", true, false);
}

int cmd_PEXPIREAT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return expire(c, argv, argc, "pexpireat", false, false);
}

static int reply_time(struct conn *c, const struct resp_arg *argv, bool seconds, bool relative) {
    struct key key;
    struct key_name name = object_name(c, &argv[1]);
    int r = key_find(object_shm(c), &name, &key);
    object_looked(c, r == 0);
    if (r && r != -ENOENT) {
        return r;
    }
    if (r || !key_expire(&key)) {
        reply_int(c, r ? -2 : -1);
        return 0;
    }
    int64_t ms = (int64_t)key_expire(&key) - (relative ? (int64_t)clock_wall_ms() : 0);
    ms = ms < 0 ? 0 : ms;
    reply_int(c, seconds ? ms / 1000 + (ms % 1000 >= 500) : ms);
    return 0;
}

int cmd_TTL(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    return reply_time(c, argv, true, true);
}

int cmd_PTTL(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    return reply_time(c, argv, false, true);
}

int cmd_EXPIRETIME(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    return reply_time(c, argv, true, false);
}

int cmd_PEXPIRETIME(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    return reply_time(c, argv, false, false);
}

int cmd_PERSIST(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key key;
    struct key_name name = object_name(c, &argv[1]);
    int r = key_find_write(object_shm(c), &name, &key);
    if (r && r != -ENOENT) {
        return r;
    }
    bool had = r == 0 && key_expire(&key);
    r = had ? key_set_expire(object_shm(c), &key, 0) : 0;
    reply_int(c, had);
    return r;
}
