/* SPDX-License-Identifier: MIT */
/* The string commands: values of bytes, and of integers. Handlers run inside of an operation (object.h), so each of them is
 * one transaction; what must be checked is checked before anything is changed.
 *
 * Fails: replies; the errnos of lib/shm. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "daemon/serve/dispatch.h"
#include "daemon/serve/expiry.h"
#include "daemon/serve/args.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"
#include "lib/base/clock.h"
#include "lib/base/num.h"

/* ---- reading ---- */

/* Replies with the value. 1: it did; 0: there is none, nothing is said. */
static int put_value(struct conn *c, const struct key_name *name) {
    char digits[24];
    struct task_bytes b;
    int r = value_get(object_shm(c), name, digits, &b);
    object_looked(c, r == 0);
    if (r == -ENOENT) {
        return 0;
    }
    if (r) {
        return r;
    }
    reply_bulk(c, b.data, b.len);
    return 1;
}

static int put_value_or_null(struct conn *c, const struct key_name *name) {
    int r = put_value(c, name);
    if (r == 0) {
        reply_null(c);
    }
    return r < 0 ? r : 0;
}

int cmd_GET(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key_name name = object_name(c, &argv[1]);
    return put_value_or_null(c, &name);
}

int cmd_MGET(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    reply_array(c, argc - 1);
    for (uint32_t i = 1; i < argc; i++) {
        struct key_name name = object_name(c, &argv[i]);
        int r = put_value(c, &name);
        if (r == 0 || r == -EPROTOTYPE) {
            reply_null(c);
        } else if (r < 0) {
            return r;
        }
    }
    return 0;
}

int cmd_STRLEN(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    char digits[24];
    struct task_bytes b = {0};
    struct key_name name = object_name(c, &argv[1]);
    int r = value_get(object_shm(c), &name, digits, &b);
    object_looked(c, r == 0);
    if (r && r != -ENOENT) {
        return r;
    }
    reply_int(c, (int64_t)b.len);
    return 0;
}

int cmd_GETRANGE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    int64_t from, to;
    char digits[24];
    struct task_bytes b = {0};
    if (!args_i64(c, &argv[2], &from) || !args_i64(c, &argv[3], &to)) {
        return 0;
    }
    struct key_name name = object_name(c, &argv[1]);
    int r = value_get(object_shm(c), &name, digits, &b);
    object_looked(c, r == 0);
    if (r && r != -ENOENT) {
        return r;
    }
    int64_t len = (int64_t)b.len;
    bool backwards = from < 0 && to < 0 && from > to;
    from = from < 0 ? from + len : from;
    to = to < 0 ? to + len : to;
    from = from < 0 ? 0 : from;
    to = to < 0 ? 0 : to >= len ? len - 1 : to;
    if (r || backwards || from > to || len == 0) {
        reply_bulk(c, "", 0);
    } else {
        reply_bulk(c, (const char *)b.data + from, (size_t)(to - from + 1));
    }
    return 0;
}

int cmd_SUBSTR(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return cmd_GETRANGE(c, argv, argc);
}

/* ---- times ---- */

void expiry_invalid(struct conn *c, const char *command) {
    reply_errorf(c, "ERR invalid expire time in '%s' command", command);
}

bool expiry_arg(struct conn *c, const struct resp_arg *a, const char *command, bool seconds,
                bool relative, uint64_t *ret_ms) {
    int64_t ms;
    if (!args_i64(c, a, &ms)) {
        return false;
    }
    bool over = ms <= 0 || (seconds && __builtin_mul_overflow(ms, 1000, &ms)) ||
                (relative && __builtin_add_overflow(ms, (int64_t)clock_wall_ms(), &ms));
    if (over) {
        expiry_invalid(c, command);
        return false;
    }
    *ret_ms = (uint64_t)ms;
    return true;
}

/* ---- SET ---- */

enum set_flag {
    SET_NX = 1 << 0,
    SET_XX = 1 << 1,
    SET_GET = 1 << 2,
    SET_KEEPTTL = 1 << 3,
    SET_PERSIST = 1 << 4,
    SET_EX = 1 << 5, /* then the other three units: see units[] */
    SET_PX = 1 << 6,
    SET_EXAT = 1 << 7,
    SET_PXAT = 1 << 8,
};

static const struct {
    const char *name;
    enum set_flag flag;
    bool seconds, relative;
} units[] = {
    {"EX", SET_EX, true, true},
    {"PX", SET_PX, false, true},
    {"EXAT", SET_EXAT, true, false},
    {"PXAT", SET_PXAT, false, false},
};
#define SET_TIMES (SET_EX | SET_PX | SET_EXAT | SET_PXAT)

struct set_options {
    uint32_t flags;
    const struct resp_arg *time; /* of the unit among flags */
};

/* The options that SET has and GETEX has not are `extra`, those that may not be together with a present one `against`. */
static bool take_flag(struct set_options *o, const struct resp_arg *a, const char *name,
                      uint32_t flag, uint32_t against) {
    if (!resp_is(a, name) || (o->flags & against)) {
        return false;
    }
    o->flags |= flag;
    return true;
}

static bool take_unit(struct set_options *o, const struct resp_arg *a,
                      const struct resp_arg *next) {
    for (size_t i = 0; next && i < ARRAY_SIZE(units); i++) {
        uint32_t others = (SET_TIMES & ~(uint32_t)units[i].flag) | SET_KEEPTTL | SET_PERSIST;
        if (take_flag(o, a, units[i].name, units[i].flag, others)) {
            o->time = next;
            return true;
        }
    }
    return false;
}

static bool parse_options(const struct resp_arg *argv, uint32_t argc, uint32_t from, bool is_set,
                          struct set_options *o) {
    for (uint32_t i = from; i < argc; i++) {
        const struct resp_arg *a = &argv[i];
        if (is_set &&
            (take_flag(o, a, "NX", SET_NX, SET_XX) || take_flag(o, a, "XX", SET_XX, SET_NX) ||
             take_flag(o, a, "GET", SET_GET, 0) ||
             take_flag(o, a, "KEEPTTL", SET_KEEPTTL, SET_TIMES | SET_PERSIST))) {
            continue;
        }
        if (!is_set && take_flag(o, a, "PERSIST", SET_PERSIST, SET_TIMES | SET_KEEPTTL)) {
            continue;
        }
        if (!take_unit(o, a, i + 1 < argc ? &argv[i + 1] : NULL)) {
            return false;
        }
        i++;
    }
    return true;
}

/* When, as the unit says; 0: no time was given. */
static bool option_time(struct conn *c, const struct set_options *o, const char *command,
                        uint64_t *ret_ms) {
    *ret_ms = 0;
    for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
        if (o->flags & units[i].flag) {
            return expiry_arg(c, o->time, command, units[i].seconds, units[i].relative, ret_ms);
        }
    }
    return true;
}

static int set_until(struct conn *c, const struct key_name *name, const struct resp_arg *value,
                     bool keep, uint64_t at_ms) {
    struct shm *s = object_shm(c);
    struct key key;
    int r = value_set(s, name, value->data, value->len, keep);
    if (r == 0 && at_ms) {
        r = key_find(s, name, &key);
        r = r ? r : key_set_expire(s, &key, at_ms);
    }
    return r;
}

/* 1: the key exists; 0; or an error. */
static int exists(struct conn *c, const struct key_name *name) {
    struct key key;
    int r = key_find_write(object_shm(c), name, &key);
    return r == 0 ? 1 : r == -ENOENT ? 0 : r;
}

int cmd_SET(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct set_options o = {0};
    uint64_t at_ms;
    struct key_name name = object_name(c, &argv[1]);
    if (argc == 3) {
        int r = value_set(object_shm(c), &name, argv[2].data, argv[2].len, false);
        if (r == 0) {
            reply_ok(c);
        }
        return r;
    }
    if (!parse_options(argv, argc, 3, true, &o)) {
        reply_syntax(c);
        return 0;
    }
    if (!option_time(c, &o, "set", &at_ms)) {
        return 0;
    }
    int r = o.flags & SET_GET ? put_value_or_null(c, &name) : 0;
    int there = r ? r : exists(c, &name);
    if (there < 0) {
        return there;
    }
    if ((o.flags & SET_NX && there) || (o.flags & SET_XX && !there)) {
        if (!(o.flags & SET_GET)) {
            reply_null(c);
        }
        return 0;
    }
    r = set_until(c, &name, &argv[2], o.flags & SET_KEEPTTL, at_ms);
    if (r == 0 && !(o.flags & SET_GET)) {
        reply_ok(c);
    }
    return r;
}

static int set_for(struct conn *c, const struct resp_arg *argv, const char *command, bool seconds) {
    uint64_t at_ms;
    if (!expiry_arg(c, &argv[2], command, seconds, true, &at_ms)) {
        return 0;
    }
    struct key_name name = object_name(c, &argv[1]);
    int r = set_until(c, &name, &argv[3], false, at_ms);
    if (r == 0) {
        reply_ok(c);
    }
    return r;
}

int cmd_SETEX(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    return set_for(c, argv, "setex", true);
}

int cmd_PSETEX(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    return set_for(c, argv, "psetex", false);
}

int cmd_SETNX(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key_name name = object_name(c, &argv[1]);
    int there = exists(c, &name);
    int r = there ? (there < 0 ? there : 0)
                  : value_set(object_shm(c), &name, argv[2].data, argv[2].len, false);
    if (r == 0) {
        reply_int(c, !there);
    }
    return r;
}

int cmd_GETSET(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key_name name = object_name(c, &argv[1]);
    int r = put_value_or_null(c, &name);
    return r ? r : value_set(object_shm(c), &name, argv[2].data, argv[2].len, false);
}

int cmd_GETDEL(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key key;
    struct key_name name = object_name(c, &argv[1]);
    int r = put_value_or_null(c, &name);
    if (r) {
        return r;
    }
    r = key_find_write(object_shm(c), &name, &key);
    return r == -ENOENT ? 0 : r ? r : key_delete(object_shm(c), &key);
}

int cmd_GETEX(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct set_options o = {0};
    struct shm *s = object_shm(c);
    struct key key;
    uint64_t at_ms;
    if (!parse_options(argv, argc, 2, false, &o)) {
        reply_syntax(c);
        return 0;
    }
    struct key_name name = object_name(c, &argv[1]);
    int r = key_find_write(s, &name, &key);
    if (r == -ENOENT) {
        reply_null(c);
        return 0;
    }
    if (r || key_type(&key) != KEY_VALUE) {
        return r ? r : -EPROTOTYPE;
    }
    if (!option_time(c, &o, "getex", &at_ms)) {
        return 0;
    }
    r = put_value_or_null(c, &name);
    if (r == 0 && at_ms && at_ms <= clock_wall_ms()) {
        return key_delete(s, &key);
    }
    if (r == 0 && (at_ms || ((o.flags & SET_PERSIST) && key_expire(&key)))) {
        r = key_set_expire(s, &key, at_ms);
    }
    return r;
}

/* ---- several ---- */

static int set_all(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    int r = 0;
    for (uint32_t i = 1; r == 0 && i < argc; i += 2) {
        struct key_name name = object_name(c, &argv[i]);
        r = value_set(object_shm(c), &name, argv[i + 1].data, argv[i + 1].len, false);
    }
    return r;
}

int cmd_MSET(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    if (argc % 2 == 0) {
        reply_wrong_args(c, "MSET", NULL);
        return 0;
    }
    int r = set_all(c, argv, argc);
    if (r == 0) {
        reply_ok(c);
    }
    return r;
}

int cmd_MSETNX(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    if (argc % 2 == 0) {
        reply_wrong_args(c, "MSETNX", NULL);
        return 0;
    }
    for (uint32_t i = 1; i < argc; i += 2) {
        struct key_name name = object_name(c, &argv[i]);
        int there = exists(c, &name);
        if (there) {
            reply_int(c, 0);
            return there < 0 ? there : 0;
        }
    }
    int r = set_all(c, argv, argc);
    reply_int(c, 1);
    return r;
}

/* ---- parts ---- */

/* The length of a value, 0 when there is none. */
static int length(struct conn *c, const struct key_name *name, uint64_t *ret) {
    char digits[24];
    struct task_bytes b = {0};
    int r = value_get(object_shm(c), name, digits, &b);
    *ret = b.len;
    return r == -ENOENT ? 0 : r;
}

static int write_at(struct conn *c, const struct key_name *name, uint64_t at,
                    const struct resp_arg *value) {
    uint64_t len;
    int r = value_write(object_shm(c), name, at, value->data, value->len, &len);
    if (r == 0) {
        reply_int(c, (int64_t)len);
    }
    return r;
}

int cmd_APPEND(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    uint64_t len;
    struct key_name name = object_name(c, &argv[1]);
    int r = length(c, &name, &len);
    return r ? r : write_at(c, &name, len, &argv[2]);
}

int cmd_SETRANGE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    int64_t at;
    uint64_t len;
    if (!args_i64(c, &argv[2], &at)) {
        return 0;
    }
    if (at < 0) {
        reply_error(c, "ERR offset is out of range");
        return 0;
    }
    struct key_name name = object_name(c, &argv[1]);
    int r = length(c, &name, &len);
    if (r) {
        return r;
    }
    if (argv[3].len == 0) {
        reply_int(c, (int64_t)len);
        return 0;
    }
    return write_at(c, &name, (uint64_t)at, &argv[3]);
}

/* ---- counting ---- */

static int add(struct conn *c, const struct resp_arg *key, int64_t by) {
    int64_t v;
    struct key_name name = object_name(c, key);
    int r = value_add(object_shm(c), &name, by, &v);
    if (r == 0) {
        reply_int(c, v);
    }
    return r;
}

int cmd_INCR(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    return add(c, &argv[1], 1);
}

int cmd_DECR(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    return add(c, &argv[1], -1);
}

int cmd_INCRBY(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    int64_t by;
    return args_i64(c, &argv[2], &by) ? add(c, &argv[1], by) : 0;
}

int cmd_DECRBY(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    int64_t by;
    if (!args_i64(c, &argv[2], &by)) {
        return 0;
    }
    if (by == INT64_MIN) {
        reply_error(c, "ERR decrement would overflow");
        return 0;
    }
    return add(c, &argv[1], -by);
}

int cmd_INCRBYFLOAT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    char digits[24], text[NUM_FLOAT];
    struct task_bytes b;
    long double v = 0, by;
    struct key_name name = object_name(c, &argv[1]);
    int r = value_get(object_shm(c), &name, digits, &b);
    object_looked(c, r == 0);
    if (r && r != -ENOENT) {
        return r;
    }
    if ((r == 0 && num_float(b.data, b.len, &v)) || num_float(argv[2].data, argv[2].len, &by)) {
        reply_error(c, "ERR value is not a valid float");
        return 0;
    }
    v += by;
    if (isnan(v) || isinf(v)) {
        reply_error(c, "ERR increment would produce NaN or Infinity");
        return 0;
    }
    size_t len = num_put_float(text, v);
    r = value_set(object_shm(c), &name, text, len, true);
    if (r == 0) {
        reply_bulk(c, text, len);
    }
    return r;
}
