/* SPDX-License-Identifier: MIT */
/* The list commands that wait. Each first tries what its kin without a B does; if all its lists are empty it joins those who
 * wait (wait_keys.c) and its reply comes later, unless it is part of an EXEC, which waits for nothing.
 *
 * Fails: replies Redis's errors; negative errno for dispatch to say or to try again. */
#include <errno.h>
#include <math.h>

#include "daemon/serve/args.h"
#include "daemon/serve/cmd_list.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/wait_keys.h"
#include "lib/base/num.h"

#define FOR_EVER (UINT64_C(100) * 365 * 86400 * 1000) /* ms; about as long */

/* Seconds, with a fraction; 0 is for ever. */
static bool timeout_of(struct conn *c, const struct resp_arg *a, uint64_t *ret_ms) {
    long double s;
    if (num_float(a->data, a->len, &s) < 0) {
        reply_error(c, "ERR timeout is not a float or out of range");
        return false;
    }
    long double ms = ceill(s * 1000.0L);
    if (ms < 0 || ms >= 0x1p63L) {
        reply_error(c,
                    "ERR timeout is negative"); /* as Redis sees it: there it has wrapped around */
        return false;
    }
    *ret_ms = ms < (long double)FOR_EVER ? (uint64_t)ms : FOR_EVER;
    return true;
}

/* 0: it may take from this list. 1: others wait for it already, who come first. -EPROTOTYPE */
static int may_take(struct conn *c, const struct key_name *name) {
    struct list_object l;
    if (c->exec || !wait_keys_any(c->serve, name)) {
        return 0;
    }
    int r = list_open(object_shm(c), name, false, &l);
    return r == 0 || r == -ENOENT ? 1 : r;
}

static int pop_or_wait(struct conn *c, const struct wait_for *f) {
    for (uint32_t i = 0; i < f->n_keys; i++) {
        struct key_name name = object_name(c, &f->keys[i]);
        int r = may_take(c, &name);
        if (r == 0) {
            r = f->kind == WAIT_MPOP ? list_pop_many(c, &name, f->left, f->count)
                                     : list_pop_one(c, &name, f->left, true);
        }
        if (r <= 0) {
            return r;
        }
    }
    if (c->exec) {
        reply_null_array(c);
        return 0;
    }
    return wait_keys_block(c, f);
}

static int bpop(struct conn *c, const struct resp_arg *argv, uint32_t argc, bool left) {
    struct wait_for f = {
        .kind = WAIT_POP, .left = left, .keys = argv + 1, .n_keys = argc - 2, .count = 1};
    return timeout_of(c, &argv[argc - 1], &f.timeout_ms) ? pop_or_wait(c, &f) : 0;
}

int cmd_BLPOP(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return bpop(c, argv, argc, true);
}

int cmd_BRPOP(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return bpop(c, argv, argc, false);
}

int cmd_BLMPOP(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct list_mpop m;
    struct wait_for f = {.kind = WAIT_MPOP};
    if (!list_mpop_words(c, argv + 2, argc - 2, &m) || !timeout_of(c, &argv[1], &f.timeout_ms)) {
        return 0;
    }
    f.left = m.left;
    f.count = (uint64_t)m.count;
    f.keys = m.keys;
    f.n_keys = m.n;
    return pop_or_wait(c, &f);
}

static int move_or_wait(struct conn *c, const struct wait_for *f) {
    struct key_name from = object_name(c, f->keys), dest = object_name(c, f->dest);
    int r = may_take(c, &from);
    r = r == 0 ? list_move(c, &from, &dest, f->left, f->to_left) : r;
    if (r <= 0) {
        return r;
    }
    if (c->exec) {
        reply_null(c);
        return 0;
    }
    return wait_keys_block(c, f);
}

int cmd_BLMOVE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct wait_for f = {.kind = WAIT_MOVE, .keys = argv + 1, .n_keys = 1, .dest = argv + 2};
    (void)argc;
    if (!list_end(c, &argv[3], &f.left) || !list_end(c, &argv[4], &f.to_left) ||
        !timeout_of(c, &argv[5], &f.timeout_ms)) {
        return 0;
    }
    return move_or_wait(c, &f);
}

int cmd_BRPOPLPUSH(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct wait_for f = {.kind = WAIT_MOVE, .keys = argv + 1, .n_keys = 1, .dest = argv + 2};
    (void)argc;
    f.to_left = true;
    return timeout_of(c, &argv[3], &f.timeout_ms) ? move_or_wait(c, &f) : 0;
}
