/* SPDX-License-Identifier: MIT */
/* MULTI, EXEC, DISCARD, WATCH, UNWATCH. A queued command is a copy of its words. EXEC looks at the watched keys and runs the
 * queued object commands in one operation, whose shards are those of all their keys: all of it is committed, or nothing.
 *
 * Commands of other families (PING, PUBLISH, TASK.SUBMIT) may be queued too. They cannot be undone, and an operation may be
 * run more than once, so they are carried out after the commit; their replies are put between the others where they belong.
 *
 *     MULTI --> open: words are queued --> EXEC --> operation: watched keys, object commands --> the other commands
 *                 |  one cannot be queued: EXEC will say EXECABORT
 *                 +--> DISCARD, RESET, the end of the connection
 *
 * A command that fails when it is carried out is answered with its error, as in Redis, and the others are carried out all the
 * same; after EXEC.ALL the operation is given up, and the error is the answer to all. Out of memory is different here: then nothing of the transaction has happened, and EXEC says EXECABORT.
 *
 * WATCH compares versions, and of keys that are not there whether they have been made since (key_mark()).
 *
 * Fails: replies; EXEC and WATCH -EAGAIN. */
#include "daemon/serve/multi.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/serve/dispatch.h"
#include "daemon/serve/keyspace.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"
#include "lib/base/cleanup.h"

enum { WATCHED_HAS_CHANGED = 1, ONE_HAS_FAILED = -EREMOTEIO };

struct queued {
    int id;
    bool failed;
    uint32_t argc;
    size_t end; /* of its reply, behind the head of EXEC's, when it has been carried out */
    struct resp_arg *argv;
};

struct watched {
    struct key_mark mark;
    struct resp_arg name;
};

struct multi {
    bool open;   /* after MULTI */
    bool failed; /* a command could not be queued */
    size_t bytes;
    struct queued *queued;
    uint32_t n_queued, cap_queued;
    struct watched *watched;
    uint32_t n_watched, cap_watched;
};

/* ---- the state of a connection ---- */

static struct multi *multi_get(struct conn *c) {
    if (!c->multi) {
        c->multi = calloc(1, sizeof(*c->multi));
        c->broken |= !c->multi;
    }
    return c->multi;
}

static void unwatch(struct multi *m) {
    for (uint32_t i = 0; i < m->n_watched; i++) {
        m->bytes -= m->watched[i].name.len + sizeof(*m->watched);
        free((void *)(uintptr_t)m->watched[i].name.data);
    }
    free(m->watched);
    m->watched = NULL;
    m->n_watched = m->cap_watched = 0;
}

void multi_free(struct conn *c) {
    struct multi *m = c->multi;
    if (!m) {
        return;
    }
    for (uint32_t i = 0; i < m->n_queued; i++) {
        free(m->queued[i].argv);
    }
    free(m->queued);
    unwatch(m);
    free(m);
    c->multi = NULL;
}

void multi_failed(struct conn *c) {
    if (c->multi && c->multi->open) {
        c->multi->failed = true;
    }
}

int multi_count(const struct conn *c) {
    return c->multi && c->multi->open ? (int)c->multi->n_queued : -1;
}

size_t multi_bytes(const struct conn *c) {
    return c->multi ? c->multi->bytes : 0;
}

/* An array that has room for one more element. NULL: no memory, the old one stays. */
static void *grown(void *array, uint32_t n, uint32_t *cap, size_t size) {
    if (n < *cap) {
        return array;
    }
    uint32_t more = *cap ? *cap * 2 : 8;
    void *to = reallocarray(array, more, size);
    if (to) {
        *cap = more;
    }
    return to;
}

/* What a client may have us keep. */
static bool takes_bytes(struct conn *c, size_t bytes) {
    if (c->multi->bytes + bytes > c->serve->d->config->limits.client_max_input) {
        return false;
    }
    c->multi->bytes += bytes;
    return true;
}

/* ---- queueing ---- */

bool multi_takes(const struct conn *c, int id) {
    if (!c->multi || !c->multi->open) {
        return false;
    }
    switch (id) {
    case COMMAND_EXEC:
    case COMMAND_EXEC_ALL:
    case COMMAND_DISCARD:
    case COMMAND_MULTI:
    case COMMAND_WATCH:
    case COMMAND_QUIT:
    case COMMAND_RESET:
        return false;
    default:
        return true;
    }
}

/* The words and their bytes in one piece. */
static struct resp_arg *copy_words(const struct resp_arg *argv, uint32_t argc, size_t bytes) {
    struct resp_arg *words = malloc(argc * sizeof(*words) + bytes);
    if (words) {
        char *to = (char *)(words + argc);
        for (uint32_t i = 0; i < argc; i++) {
            memcpy(to, argv[i].data, argv[i].len);
            words[i] = (struct resp_arg){to, argv[i].len};
            to += argv[i].len;
        }
    }
    return words;
}

void multi_queue(struct conn *c, int id, const struct resp_arg *argv, uint32_t argc) {
    struct multi *m = c->multi;
    size_t bytes = 0;
    if (commands[id].flags & CMD_NO_MULTI) {
        reply_error(c, "ERR Command not allowed inside a transaction");
        m->failed = true;
        return;
    }
    for (uint32_t i = 0; i < argc; i++) {
        bytes += argv[i].len;
    }
    if (!takes_bytes(c, bytes + argc * sizeof(*argv) + sizeof(*m->queued))) {
        reply_error(c, "ERR the transaction is larger than one request may be");
        m->failed = true;
        return;
    }
    struct queued *to = grown(m->queued, m->n_queued, &m->cap_queued, sizeof(*to));
    struct resp_arg *words = to ? copy_words(argv, argc, bytes) : NULL;
    m->queued = to ? to : m->queued;
    if (!words) {
        reply_error(c, "OOM the daemon is out of memory");
        m->failed = true;
        return;
    }
    m->queued[m->n_queued++] = (struct queued){.id = id, .argc = argc, .argv = words};
    reply_simple(c, "QUEUED");
}

int cmd_MULTI(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    struct multi *m = multi_get(c);
    if (m && m->open) {
        reply_error(c, "ERR MULTI calls can not be nested");
    } else if (m) {
        m->open = true;
        reply_ok(c);
    }
    return 0;
}

int cmd_DISCARD(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    if (!c->multi || !c->multi->open) {
        reply_error(c, "ERR DISCARD without MULTI");
        return 0;
    }
    multi_free(c);
    reply_ok(c);
    return 0;
}

/* ---- watching ---- */

struct look {
    struct key_name name;
    struct key_mark mark;
};

static int look_at(struct shm *s, void *arg) {
    struct look *l = arg;
    l->mark = key_mark(s, &l->name);
    return 0;
}

static bool is_watched(const struct multi *m, const struct resp_arg *name) {
    for (uint32_t i = 0; i < m->n_watched; i++) {
        const struct resp_arg *w = &m->watched[i].name;
        if (w->len == name->len && memcmp(w->data, name->data, name->len) == 0) {
            return true;
        }
    }
    return false;
}

/* 0, -EAGAIN, or -ENOMEM. */
static int watch_one(struct conn *c, const struct resp_arg *name) {
    struct multi *m = c->multi;
    struct look l = {.name = object_name(c, name)};
    int tries = 0, r;
    do {
        r = op_read(object_shm(c), l.name.shard, look_at, &l);
    } while (r == -EAGAIN && object_again(&tries));
    if (r) {
        return r;
    }
    struct watched *to = grown(m->watched, m->n_watched, &m->cap_watched, sizeof(*to));
    char *data = to && takes_bytes(c, name->len + sizeof(*to)) ? malloc(name->len + 1) : NULL;
    m->watched = to ? to : m->watched;
    if (!data) {
        return -ENOMEM;
    }
    memcpy(data, name->data, name->len);
    m->watched[m->n_watched++] = (struct watched){l.mark, {data, name->len}};
    return 0;
}

int cmd_WATCH(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct multi *m = multi_get(c);
    if (!m) {
        return 0;
    }
    if (m->open) {
        reply_error(c, "ERR WATCH inside MULTI is not allowed");
        return 0;
    }
    for (uint32_t i = 1; i < argc; i++) {
        int r = is_watched(m, &argv[i]) ? 0 : watch_one(c, &argv[i]);
        if (r == -EAGAIN) {
            return r;
        }
        if (r) {
            reply_error(c, "OOM too many watched keys");
            return 0;
        }
    }
    reply_ok(c);
    return 0;
}

int cmd_UNWATCH(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    if (c->multi) {
        unwatch(c->multi);
    }
    reply_ok(c);
    return 0;
}

/* ---- EXEC ---- */

struct exec {
    struct conn *c;
    struct multi *m;
    size_t mark; /* bytes of output before its reply */
    size_t body; /* ... and with the reply's head */
    bool all;    /* EXEC.ALL: one that fails ends it */
    char why[256];
};

static void drop_replies(const struct exec *x, size_t to) {
    x->c->out.tail = x->c->out.head + to;
}

static uint64_t exec_shards(const struct exec *x) {
    uint64_t shards = 0;
    for (uint32_t i = 0; i < x->m->n_watched; i++) {
        struct key_name name = object_name(x->c, &x->m->watched[i].name);
        shards |= key_shard_bit(&name);
    }
    for (uint32_t i = 0; i < x->m->n_queued; i++) {
        const struct queued *q = &x->m->queued[i];
        if (commands[q->id].flags & CMD_OWN_OPS) {
            return OP_ALL;
        }
        if (command_is_object(&commands[q->id])) {
            shards |= object_shards(x->c, q->id, q->argv, q->argc);
        }
    }
    return shards;
}

/* The reply that begins at `at` is an error: its words, for the whole transaction's. */
static void keep_error(struct exec *x, size_t at) {
    const char *text = buf_head(&x->c->out) + at + 1; /* behind the '-' */
    size_t len = buf_len(&x->c->out) > at ? buf_len(&x->c->out) - at - 1 : 0;
    const char *end = len ? memchr(text, '\r', len) : NULL;
    snprintf(x->why, sizeof(x->why), "%.*s", end ? (int)(end - text) : 0, text);
}

/* Inside of the operation. */
static int exec_objects(struct shm *s, void *arg) {
    struct exec *x = arg;
    drop_replies(x, x->body);
    for (uint32_t i = 0; i < x->m->n_watched; i++) {
        struct key_name name = object_name(x->c, &x->m->watched[i].name);
        if (key_changed_since(s, &name, &x->m->watched[i].mark)) {
            return WATCHED_HAS_CHANGED;
        }
    }
    for (uint32_t i = 0; i < x->m->n_queued; i++) {
        struct queued *q = &x->m->queued[i];
        uint64_t errors = x->c->serve->errors;
        if (command_is_object(&commands[q->id])) {
            size_t at = buf_len(&x->c->out);
            int r = object_run_inside(x->c, q->id, q->argv, q->argc);
            if (r < 0) {
                return r;
            }
            if (x->all && x->c->serve->errors != errors) {
                keep_error(x, at);
                return ONE_HAS_FAILED;
            }
        }
        q->failed = x->c->serve->errors != errors;
        q->end = buf_len(&x->c->out) - x->body;
    }
    return 0;
}

static int run_other(struct conn *c, const struct queued *q) {
    int tries = 0, r;
    do {
        r = dispatch_handler(q->id)(c, q->argv, q->argc);
    } while (r == -EAGAIN && object_again(&tries));
    if (r == -EAGAIN) {
        reply_error(c, "BUSY a lock in the segment is held, try again");
    }
    return r;
}

/* After the commit: what is not an object command, and the replies in their order. */
static void exec_others(struct exec *x) {
    struct conn *c = x->c;
    uint32_t others = 0;
    for (uint32_t i = 0; i < x->m->n_queued; i++) {
        const struct queued *q = &x->m->queued[i];
        c->serve->calls[q->id]++;
        c->serve->failed[q->id] += q->failed;
        others += !command_is_object(&commands[q->id]);
    }
    if (others == 0) {
        return;
    }
    size_t len = buf_len(&c->out) - x->body, at = 0;
    _cleanup_free_ char *replies = malloc(len + 1);
    if (!replies) {
        c->broken = true;
        return;
    }
    if (len) {
        memcpy(replies, buf_head(&c->out) + x->body, len);
    }
    drop_replies(x, x->body);
    for (uint32_t i = 0; i < x->m->n_queued && !c->dead; i++) {
        const struct queued *q = &x->m->queued[i];
        if (!command_is_object(&commands[q->id])) {
            run_other(c, q);
        } else if (q->end > at) {
            reply_made(c, buf_append(&c->out, replies + at, q->end - at));
        }
        at = q->end;
    }
}

static void exec_reply_failure(struct conn *c, const struct exec *x, int r) {
    const char *text = r == ONE_HAS_FAILED ? x->why : object_error_text(r);
    if (text) {
        reply_errorf(c, "EXECABORT Transaction discarded because of: %s", text);
    } else {
        object_error(c, r);
    }
}

static int exec_run(struct exec *x) {
    uint64_t shards = exec_shards(x);
    if (!shards) {
        return exec_objects(object_shm(x->c), x);
    }
    int tries = 0, r;
    do {
        r = op_run(object_shm(x->c), shards, exec_objects, x);
    } while (r == -EAGAIN && object_again(&tries));
    keyspace_stir(x->c->serve);
    return r;
}

/* Pushes that came meanwhile go out behind the reply. */
static void release_held(struct conn *c) {
    if (!c->dead && buf_len(&c->held) > 0) {
        reply_made(c, buf_append(&c->out, buf_head(&c->held), buf_len(&c->held)));
        conn_dirty(c);
    }
    buf_deinit(&c->held);
}

static int exec(struct conn *c, bool all) {
    struct multi *m = c->multi;
    if (!m || !m->open) {
        reply_errorf(c, "ERR %s without MULTI", all ? "EXEC.ALL" : "EXEC");
        return 0;
    }
    if (m->failed) {
        multi_free(c);
        reply_error(c, "EXECABORT Transaction discarded because of previous errors.");
        return 0;
    }
    struct exec x = {.c = c, .m = m, .all = all, .mark = buf_len(&c->out)};
    reply_array(c, m->n_queued);
    x.body = buf_len(&c->out);
    c->exec = true;
    c->multi = NULL; /* a queued command sees a connection without MULTI */
    int r = exec_run(&x);
    if (r == 0) {
        exec_others(&x);
    } else {
        drop_replies(&x, x.mark);
    }
    c->exec = false;
    if (r == -EAGAIN) {
        c->multi = m;
        return r;
    }
    if (r == WATCHED_HAS_CHANGED) {
        reply_null_array(c);
    } else if (r < 0) {
        exec_reply_failure(c, &x, r);
    }
    release_held(c);
    struct multi *begun = c->multi; /* by a queued command? None may: but nothing is lost */
    c->multi = m;
    multi_free(c);
    c->multi = begun;
    return 0;
}

int cmd_EXEC(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    return exec(c, false);
}

int cmd_EXEC_ALL(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    return exec(c, true);
}
