/* SPDX-License-Identifier: MIT */
/* ARRAY.*: typed arrays (lib/shm/array.h). Numbers are words of text, as everywhere; READ and WRITE have elements as they lie in
 * memory, for clients that know them. What changes elements cannot be undone, so it does not go into a transaction
 * (CMD_NO_MULTI), and is the last thing a command does: by then all of its words have been read.
 *
 * A word TYPE behind the others says what the client takes the array for; it is refused when it is of another.
 *
 * Fails: replies; the errnos of lib/shm. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/serve/args.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"
#include "lib/base/cleanup.h"
#include "lib/base/num.h"
#include "lib/shm/array.h"

enum { NUMBER_MAX = 64 /* bytes of a number as a word */ };

static bool is_real(enum array_type type) {
    return type == ARRAY_FLOAT || type == ARRAY_DOUBLE;
}

static bool is_unsigned(enum array_type type) {
    return type >= ARRAY_UINT8 && type <= ARRAY_UINT64;
}

/* ---- words ---- */

/* Finds the array that the first word names, for a command of n words beside TYPE. 0: found; 1: it has been refused. */
static int find(struct conn *c, const struct resp_arg *argv, uint32_t *argc, uint32_t n,
                struct array *ret) {
    struct key_name name = object_name(c, &argv[1]);
    enum array_type wanted = ARRAY_NONE;
    if (*argc == n + 2 && resp_is(&argv[n], "TYPE")) {
        wanted = array_type_of(argv[n + 1].data, argv[n + 1].len);
        *argc = n;
    }
    if (*argc != n) {
        reply_syntax(c);
        return 1;
    }
    int r = array_find(object_shm(c), &name, ret);
    return r == 0 && wanted && ret->type != wanted ? -EPROTOTYPE : r;
}

static int refuse(struct conn *c, const char *text) {
    reply_errorf(c, "ERR %s", text);
    return 1;
}

static int out_of_range(struct conn *c) {
    return refuse(c, "index out of range");
}

/* An index, with `count` (-1: all that follow) elements behind it that must be there. 0, or 1: refused. */
static int range(struct conn *c, const struct array *a, const struct resp_arg *from,
                 const struct resp_arg *count, uint64_t *ret_from, uint64_t *ret_count) {
    int64_t f, n = 1;
    if (!args_i64(c, from, &f) || (count && !args_i64(c, count, &n))) {
        return 1;
    }
    if (f < 0 || (uint64_t)f > a->n || n < -1) {
        return out_of_range(c);
    }
    uint64_t left = a->n - (uint64_t)f;
    if (n != -1 && (uint64_t)n > left) {
        return out_of_range(c);
    }
    *ret_from = (uint64_t)f;
    *ret_count = n == -1 ? left : (uint64_t)n;
    return 0;
}

static int real(struct conn *c, const struct resp_arg *w, double *ret) {
    char copy[NUMBER_MAX], *end;
    size_t len = w->len < sizeof(copy) ? w->len : 0;
    memcpy(copy, w->data, len);
    copy[len] = '\0';
    double v = strtod(copy, &end);
    if (len == 0 || isspace((unsigned char)copy[0]) || end != copy + len) {
        return refuse(c, "value is not a valid float");
    }
    *ret = v;
    return 0;
}

/* A word as an element. 0, or 1: refused. */
static int number(struct conn *c, enum array_type type, const struct resp_arg *w,
                  union array_number *ret) {
    union array_number v = {0};
    bool good;
    if (type == ARRAY_CHAR) {
        if (w->len != 1) {
            return refuse(c, "value is not one byte");
        }
        ret->u = (uint8_t)w->data[0];
        return 0;
    }
    if (is_real(type)) {
        int r = real(c, w, &v.d);
        if (r) {
            return r;
        }
        good = array_fits(type, v);
    } else if (is_unsigned(type)) {
        good = num_u64(w->data, w->len, &v.u) == 0 && array_fits(type, v);
    } else {
        good = dispatch_i64(w, &v.i) == 0 && array_fits(type, v);
    }
    if (!good) {
        return refuse(c, "value is not an integer or out of range");
    }
    *ret = v;
    return 0;
}

/* What is to be added: of an unsigned type it may be negative. */
static int addend(struct conn *c, enum array_type type, const struct resp_arg *w,
                  union array_number *ret) {
    if (is_real(type)) {
        return real(c, w, &ret->d);
    }
    if (is_unsigned(type) && num_u64(w->data, w->len, &ret->u) == 0) {
        return 0;
    }
    return args_i64(c, w, &ret->i) ? 0 : 1;
}

/* ---- replies ---- */

static void reply_number(struct conn *c, enum array_type type, union array_number v) {
    char byte = (char)v.u;
    if (type == ARRAY_CHAR) {
        reply_bulk(c, &byte, 1);
    } else if (is_real(type)) { /* as many digits as bring it back exactly */
        reply_textf(c, "%.*g", type == ARRAY_FLOAT ? 9 : 17, v.d);
    } else if (is_unsigned(type) && v.u > INT64_MAX) {
        reply_textf(c, "%llu", (unsigned long long)v.u);
    } else {
        reply_int(c, v.i);
    }
}

static int put_elements(struct buf *out, const struct array *a, uint64_t from, uint64_t count) {
    size_t len = count * array_width(a->type);
    int r = resp_put_bulk_head(out, len);
    char *to = r < 0 ? NULL : buf_room(out, len + 2);
    if (!to) {
        return -ENOMEM;
    }
    array_read(a, from, count, to);
    memcpy(to + len, "\r\n", 2);
    buf_wrote(out, len + 2);
    return 0;
}

/* ---- the commands; `done` turns a refusal into the 0 that a handler returns ---- */

static int done(int r) {
    return r == 1 ? 0 : r;
}

int cmd_ARRAY_CREATE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct key_name name = object_name(c, &argv[1]);
    enum array_type type = array_type_of(argv[2].data, argv[2].len);
    int64_t n;
    (void)argc;
    if (!type) {
        reply_error(c, "ERR no such type: int8 to int64, uint8 to uint64, float, double, char");
        return 0;
    }
    if (!args_range(c, &argv[3], 1, INT64_MAX, "an array has one element at least", &n)) {
        return 0;
    }
    int r = array_create(object_shm(c), &name, type, (uint64_t)n);
    if (r == -EEXIST) {
        reply_error(c, "EXISTS there is an array of another type or length");
    } else if (r == -EMSGSIZE) {
        reply_error(c, "ERR an array has 64 MiB at most");
    } else if (r >= 0) {
        reply_int(c, r);
    } else {
        return r;
    }
    return 0;
}

int cmd_ARRAY_GET(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct array a;
    uint64_t i, n;
    union array_number v = {0};
    int r = find(c, argv, &argc, 3, &a);
    r = r ? r : range(c, &a, &argv[2], NULL, &i, &n);
    if (r == 0) {
        array_get(&a, i, &v);
        reply_number(c, a.type, v);
    }
    return done(r);
}

/* Several values are written as one piece of memory. */
static int set_many(struct conn *c, const struct array *a, uint64_t from,
                    const struct resp_arg *values, uint32_t n) {
    unsigned width = array_width(a->type);
    _cleanup_free_ uint8_t *data = malloc((size_t)n * width);
    union array_number v;
    if (!data) {
        return -ENOMEM;
    }
    struct array copy = {.type = a->type, .n = n, .data = data};
    for (uint32_t i = 0; i < n; i++) {
        int r = number(c, a->type, &values[i], &v);
        if (r) {
            return r;
        }
        /* an element of the same width, in memory of our own; aligned, as malloc() aligns */
        array_set(&copy, i, v);
    }
    return array_write(a, from, n, data);
}

int cmd_ARRAY_SET(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct array a;
    uint64_t i, room;
    union array_number v;
    const struct resp_arg all = {"-1", 2};
    bool typed = argc > 5 && resp_is(&argv[argc - 2], "TYPE");
    uint32_t n = argc - 3 - (typed ? 2 : 0);
    int r = find(c, argv, &argc, 3 + n, &a);
    r = r ? r : range(c, &a, &argv[2], &all, &i, &room);
    if (r == 0 && n > room) {
        r = out_of_range(c);
    }
    if (r == 0 && n == 1) {
        r = number(c, a.type, &argv[3], &v);
        r = r ? r : array_set(&a, i, v);
    } else if (r == 0) {
        r = set_many(c, &a, i, argv + 3, n);
    }
    if (r == 0) {
        reply_ok(c);
    }
    return done(r);
}

int cmd_ARRAY_ADD(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct array a;
    uint64_t i, n;
    union array_number v;
    int r = find(c, argv, &argc, 4, &a);
    r = r ? r : range(c, &a, &argv[2], NULL, &i, &n);
    r = r || a.type != ARRAY_CHAR ? r : -EPROTOTYPE;
    r = r ? r : addend(c, a.type, &argv[3], &v);
    r = r ? r : array_add(&a, i, v, &v);
    if (r == 0) {
        reply_number(c, a.type, v);
    }
    return done(r);
}

int cmd_ARRAY_CAS(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct array a;
    uint64_t i, n;
    union array_number expected, v;
    int r = find(c, argv, &argc, 5, &a);
    r = r ? r : range(c, &a, &argv[2], NULL, &i, &n);
    r = r ? r : number(c, a.type, &argv[3], &expected);
    r = r ? r : number(c, a.type, &argv[4], &v);
    if (r == 0) {
        reply_int(c, array_cas(&a, i, expected, v));
    }
    return done(r);
}

int cmd_ARRAY_FILL(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct array a;
    uint64_t from, count;
    union array_number v;
    int r = find(c, argv, &argc, 5, &a);
    r = r ? r : range(c, &a, &argv[2], &argv[3], &from, &count);
    r = r ? r : number(c, a.type, &argv[4], &v);
    r = r ? r : array_fill(&a, from, count, v);
    if (r == 0) {
        reply_ok(c);
    }
    return done(r);
}

int cmd_ARRAY_RANGE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct array a;
    uint64_t from, count;
    union array_number v = {0};
    int r = find(c, argv, &argc, 4, &a);
    r = r ? r : range(c, &a, &argv[2], &argv[3], &from, &count);
    if (r == 0) {
        reply_array(c, (uint32_t)count);
        for (uint64_t i = 0; i < count && !c->overrun; i++) {
            array_get(&a, from + i, &v);
            reply_number(c, a.type, v);
        }
    }
    return done(r);
}

int cmd_ARRAY_READ(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct array a;
    uint64_t from, count;
    int r = find(c, argv, &argc, 4, &a);
    r = r ? r : range(c, &a, &argv[2], &argv[3], &from, &count);
    if (r == 0) {
        REPLY(c, put_elements(&c->out, &a, from, count));
    }
    return done(r);
}

int cmd_ARRAY_WRITE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct array a;
    uint64_t from, room;
    const struct resp_arg all = {"-1", 2};
    int r = find(c, argv, &argc, 4, &a);
    r = r ? r : range(c, &a, &argv[2], &all, &from, &room);
    if (r == 0 && argv[3].len % array_width(a.type)) {
        r = refuse(c, "the bytes are no whole elements");
    }
    if (r == 0 && argv[3].len / array_width(a.type) > room) {
        r = out_of_range(c);
    }
    if (r == 0) {
        array_write(&a, from, argv[3].len / array_width(a.type), argv[3].data);
        reply_ok(c);
    }
    return done(r);
}

int cmd_ARRAY_INFO(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct array a;
    int r = find(c, argv, &argc, 2, &a);
    if (r == 0) {
        reply_map(c, 4);
        reply_field_text(c, "type", array_type_names[a.type]);
        reply_field_int(c, "length", (int64_t)a.n);
        reply_field_int(c, "width", array_width(a.type));
        reply_field_int(c, "pinned", (int64_t)a.pinned);
    }
    return done(r);
}
