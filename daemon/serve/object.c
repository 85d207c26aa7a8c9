/* SPDX-License-Identifier: MIT */
/* From an object command to an operation on the segment: which shards, how often, and what an errno means in Redis's words.
 *
 * A command that reads one key reads without a lock; everything else takes the locks of its keys' shards, so that MGET and
 * RENAME happen at one moment. The daemon never waits for a lock: it tries a little longer than another process usually holds
 * one, then the command waits in its connection's buffer for a later turn.
 *
 * Inside of EXEC a command that fails is undone by itself (the undo log is rolled back to where the command began), as if
 * it had been run alone; only what concerns the operation as a whole (no memory, a busy lock) ends it as a whole.
 *
 * Fails: replies; -EAGAIN. */
#include "daemon/serve/object.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "daemon/durable.h"
#include "daemon/log.h"
#include "daemon/serve/args.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/keyspace.h"
#include "daemon/serve/reply.h"
#include "lib/base/cpu.h"
#include "lib/shm/account.h"

enum {
    SPINS = 200, /* tries with a pause between: longer than an operation lasts */
    YIELDS = 4,  /* tries that let the owner run, should it share our CPU */
};

/* ---- where the keys are ---- */

typedef void key_fn(void *arg, uint32_t i);

/* From the n-th word of argv on: numkeys key... */
static bool counted_keys(const struct resp_arg *argv, uint32_t argc, uint32_t n, key_fn *fn,
                         void *arg) {
    int64_t count;
    if (n >= argc || dispatch_i64(&argv[n], &count) < 0 || count < 1 || count > argc - n - 1) {
        return false;
    }
    for (uint32_t i = 0; i < (uint32_t)count; i++) {
        fn(arg, n + 1 + i);
    }
    return true;
}

/* SORT: another key is named only by STORE, the last one counts. Keys that BY and GET make of elements are not told here. */
static void sort_keys(const struct resp_arg *argv, uint32_t argc, key_fn *fn, void *arg) {
    uint32_t store = 0;
    fn(arg, 1);
    for (uint32_t i = 2; i < argc; i++) {
        if (resp_is(&argv[i], "LIMIT")) {
            i += 2;
        } else if (resp_is(&argv[i], "GET") || resp_is(&argv[i], "BY")) {
            i++;
        } else if (resp_is(&argv[i], "STORE") && i + 1 < argc) {
            store = ++i;
        }
    }
    if (store) {
        fn(arg, store);
    }
}

bool object_keys(int id, const struct resp_arg *argv, uint32_t argc, key_fn *fn, void *arg) {
    const char *name = commands[id].name;
    uint32_t first = command_first_key(&commands[id]);
    if (commands[id].flags & CMD_MOVABLE) {
        if (strcmp(name, "SORT") == 0) {
            sort_keys(argv, argc, fn, arg);
            return true;
        }
        if (strcmp(name, "OBJECT") == 0 || strcmp(name, "MEMORY") == 0) {
            if (argc > 2) {
                fn(arg, 2);
            }
            return argc > 2;
        }
        if (first == 0) {
            return counted_keys(argv, argc, commands[id].flags & CMD_BLOCKING ? 2 : 1, fn, arg);
        }
    }
    if (first == 0) {
        return false;
    }
    int last = command_last_key(&commands[id]);
    uint32_t end = last < 0 ? (uint32_t)((int)argc + last) : (uint32_t)last;
    for (uint32_t i = first; i <= end && i < argc; i += command_key_step(&commands[id])) {
        fn(arg, i);
    }
    return true;
}

struct shards {
    struct shm *s;
    const struct resp_arg *argv;
    uint64_t mask;
};

static void add_shard(void *arg, uint32_t i) {
    struct shards *m = arg;
    struct key_name n = key_name(m->s, m->argv[i].data, m->argv[i].len);
    m->mask |= key_shard_bit(&n);
}

/* BY and GET may lead to any key. */
static bool is_sort_by_keys(int id, const struct resp_arg *argv, uint32_t argc) {
    if (strncmp(commands[id].name, "SORT", 4) != 0) {
        return false;
    }
    for (uint32_t i = 2; i < argc; i++) {
        if (resp_is(&argv[i], "GET") || resp_is(&argv[i], "BY")) {
            return true;
        }
    }
    return false;
}

uint64_t object_shards(struct conn *c, int id, const struct resp_arg *argv, uint32_t argc) {
    struct shards m = {.s = object_shm(c), .argv = argv};
    if (is_sort_by_keys(id, argv, argc) || !object_keys(id, argv, argc, add_shard, &m)) {
        return OP_ALL;
    }
    return m.mask ? m.mask : OP_ALL;
}

/* ---- errors ---- */

const char *object_error_text(int r) {
    switch (r) {
    case -ENOMEM:
        return "OOM command not allowed when used memory > 'maxmemory'.";
    case -EPROTOTYPE:
        return "WRONGTYPE Operation against a key holding the wrong kind of value";
    case -EDOM:
        return "ERR value is not an integer or out of range";
    case -ERANGE:
        return "ERR increment or decrement would overflow";
    case -EMSGSIZE:
        return "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    case -EILSEQ:
        return "ERR Bad data format";
    case -ENOENT:
        return "ERR no such key";
    case -EIDRM:
        return "NOMANAGER the manager that the name belongs to has ended";
    case -EPERM:
        return "NOTOWNER it is not held by this connection";
    case -EDEADLK:
        return "DEADLOCK the wait would never end: who holds it waits, in the end, for this client";
    case -ECONNABORTED:
        return "BROKEN the barrier is broken";
    case -EPIPE:
        return "CLOSED nothing more is put into it";
    case -EOVERFLOW:
        return "OVERFLOW that is more than was taken";
    case -EOPNOTSUPP:
        return "ERR what processes hold or wait for cannot be copied";
    case -EBADF:
        return "ERR this end of the pipe does not do that";
    case -EINVAL:
        return "ERR that is more than there can ever be";
    case -EEXIST:
        return "EXISTS it is there already, made with other parameters";
    case -ENODEV:
        return "DURABLE there is no database: set durable_path";
    case -ENOTUNIQ:
        return "ERR only dicts, lists and values can be durable";
    default:
        return NULL;
    }
}

static void reply_over_quota(struct conn *c) {
    const struct shm *s = object_shm(c);
    struct account_view v = {0};
    account_view(s, s->over, &v);
    reply_errorf(
        c,
        "QUOTA user %u would have more than the limits let him: %llu bytes (limit %llu) and "
        "%llu objects (limit %llu) are in use",
        (unsigned)v.uid, (unsigned long long)v.bytes, (unsigned long long)v.max_bytes,
        (unsigned long long)v.objects, (unsigned long long)v.max_objects);
}

void object_error(struct conn *c, int r) {
    const char *text = object_error_text(r);
    if (r == -EDQUOT) {
        reply_over_quota(c);
        return;
    }
    if (r == -EIO) {
        reply_errorf(c, "DURABLE the database cannot be written: %s", durable_why(c->serve->d));
        return;
    }
    if (text) {
        reply_error(c, text);
        return;
    }
    log_err(LOG_ABOUT(.message = MESSAGE_SEGMENT_DAMAGED),
            "an object in the segment makes no sense (%s); another process has written over it",
            strerror(-r));
    reply_error(c, "ERR the segment is damaged: the object makes no sense");
}

/* ---- running ---- */

struct call {
    struct conn *c;
    int id;
    const struct resp_arg *argv;
    uint32_t argc;
    size_t mark; /* bytes of output before it */
    uint64_t errors;
};

static void drop_reply(const struct call *k) {
    struct buf *out = &k->c->out;
    out->tail = out->head + k->mark;
    k->c->serve->errors = k->errors;
    k->c->hits = k->c->misses = 0;
}

static int call_handler(struct shm *s, void *arg) {
    struct call *k = arg;
    s->op_gone = 0;
    drop_reply(k);
    return dispatch_handler(k->id)(k->c, k->argv, k->argc);
}

static void count_looks(struct conn *c) {
    c->serve->hits += c->hits;
    c->serve->misses += c->misses;
    keyspace_note_expired(c->serve, (uint64_t)object_shm(c)->op_gone + object_shm(c)->op_swept);
    object_shm(c)->op_gone = 0;
    object_shm(c)->op_swept = 0;
}

static int try_once(struct call *k, uint64_t shards) {
    struct shm *s = object_shm(k->c);
    uint32_t flags = commands[k->id].flags;
    if (flags & CMD_OWN_OPS) {
        return call_handler(s, k);
    }
    if ((flags & CMD_READ) && (shards & (shards - 1)) == 0) {
        return op_read(s, (unsigned)__builtin_ctzll(shards), call_handler, k);
    }
    return op_run(s, shards, call_handler, k);
}

bool object_again(int *tries) {
    if (*tries >= SPINS + YIELDS) {
        return false;
    }
    if ((*tries)++ < SPINS) {
        cpu_pause();
    } else {
        sched_yield();
    }
    return true;
}

/* What is left of an expired key goes when somebody has asked for it, as in Redis: DBSIZE tells. If a lock is busy it is left to
 * the sweep. */
static int remove_expired(struct shm *s, void *arg) {
    struct key key;
    s->op_gone = 0;
    int r = key_find_write(s, arg, &key);
    return r == -ENOENT ? 0 : r;
}

static void remove_if_expired(void *arg, uint32_t i) {
    const struct call *k = arg;
    struct shm *s = object_shm(k->c);
    struct key_name name = object_name(k->c, &k->argv[i]);
    if (op_run(s, key_shard_bit(&name), remove_expired, &name) == 0) {
        keyspace_note_expired(k->c->serve, s->op_gone);
    }
    s->op_gone = 0;
}

static void look_for_expired(struct call *k) {
    object_shm(k->c)->op_expired = false;
    object_keys(k->id, k->argv, k->argc, remove_if_expired, k);
    keyspace_stir(k->c->serve);
}

int object_run(struct conn *c, int id, const struct resp_arg *argv, uint32_t argc) {
    struct call k = {c, id, argv, argc, buf_len(&c->out), c->serve->errors};
    uint64_t shards = commands[id].flags & CMD_OWN_OPS ? 0 : object_shards(c, id, argv, argc);
    int tries = 0;
    int r = try_once(&k, shards);
    while (r == -EAGAIN && object_again(&tries)) {
        r = try_once(&k, shards);
    }
    if (r != 0) {
        drop_reply(&k);
    }
    if (r == -EAGAIN || r == -EINPROGRESS) {
        return r;
    }
    if (r < 0) {
        object_error(c, r);
    }
    count_looks(c);
    if (commands[id].flags & CMD_WRITE) {
        keyspace_stir(c->serve);
    }
    if (object_shm(c)->op_expired) {
        look_for_expired(&k);
    }
    return 0;
}

static bool ends_exec(int r) {
    return r == -EAGAIN || r == -ENOBUFS || r == -ENOMEM;
}

int object_run_inside(struct conn *c, int id, const struct resp_arg *argv, uint32_t argc) {
    struct call k = {c, id, argv, argc, buf_len(&c->out), c->serve->errors};
    int r = op_run(object_shm(c), 0, call_handler, &k); /* an inner one: undone by itself */
    if (r < 0) {
        drop_reply(&k);
        if (ends_exec(r)) {
            return r;
        }
        object_error(c, r);
    }
    count_looks(c);
    return 0;
}

bool object_db(struct conn *c, const struct resp_arg *a) {
    int64_t index;
    if (!args_i64(c, a, &index)) {
        return false;
    }
    if (index > INT32_MAX || index < INT32_MIN) {
        reply_errorf(c, "ERR value is out of range, value must between %d and %d", INT32_MIN,
                     INT32_MAX);
        return false;
    }
    if (index != 0) {
        reply_error(c, "ERR DB index is out of range");
        return false;
    }
    return true;
}
