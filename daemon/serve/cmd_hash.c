/* SPDX-License-Identifier: MIT */
/* Redis's hash commands on dicts in the segment. Each runs inside of an operation on its key's shard (dispatch.c): the readers
 * without a lock, so what they find may be changing under them. Then they say -ESTALE, or something is said that will
 * be cut off again, and they are run anew.
 *
 * Where a command refuses its words or what it finds, it does so before it changes anything.
 *
 * Fails: replies Redis's errors; negative errno for dispatch to say or to try again. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/serve/args.h"
#include "daemon/serve/dispatch.h"
#include "lib/base/glob.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"
#include "lib/base/num.h"
#include "lib/shm/keys.h"

enum {
    SCAN_WHOLE = 128, /* dicts up to this size are scanned in one step, as Redis does */
    RANDOM_REPLY = 7, /* bytes of the shortest field in a reply */
};

/* Opens the dict that argv[1] names. 1: there is none. */
static int open_dict(struct conn *c, const struct resp_arg *argv, struct dict *ret) {
    struct key_name name = object_name(c, &argv[1]);
    int r = dict_open(object_shm(c), &name, false, ret);
    return r == -ENOENT ? 1 : r;
}

static int make_dict(struct conn *c, const struct resp_arg *argv, struct dict *ret) {
    struct key_name name = object_name(c, &argv[1]);
    return dict_open(object_shm(c), &name, true, ret);
}

/* 1: there is no such dict or field. */
static int get_field(struct conn *c, const struct resp_arg *argv, const struct resp_arg *field,
                     struct task_bytes *ret) {
    struct dict d;
    int r = open_dict(c, argv, &d);
    if (r == 0) {
        r = dict_get(object_shm(c), &d, field->data, field->len, ret);
    }
    return r == -ENOENT ? 1 : r;
}

/* ---- one field, or several given ones ---- */

/* Puts the pairs; returns how many fields are new. */
static int set_pairs(struct conn *c, const struct resp_arg *argv, uint32_t argc, int64_t *ret_new) {
    struct dict d;
    int64_t added = 0;
    int r = make_dict(c, argv, &d);
    for (uint32_t i = 2; r >= 0 && i < argc; i += 2) {
        r = dict_put(object_shm(c), &d, argv[i].data, argv[i].len, argv[i + 1].data,
                     argv[i + 1].len);
        added += r == 1;
    }
    r = r < 0 ? r : dict_close(object_shm(c), &d);
    if (r == 0) {
        *ret_new = added;
    }
    return r;
}

int cmd_HSET(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    int64_t added;
    if (argc % 2) {
        reply_wrong_args(c, "HSET", NULL);
        return 0;
    }
    int r = set_pairs(c, argv, argc, &added);
    if (r == 0) {
        reply_int(c, added);
    }
    return r;
}

int cmd_HMSET(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    int64_t added;
    if (argc % 2) {
        reply_wrong_args(c, "HMSET", NULL);
        return 0;
    }
    int r = set_pairs(c, argv, argc, &added);
    if (r == 0) {
        reply_ok(c);
    }
    return r;
}

int cmd_HSETNX(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct task_bytes old;
    int64_t added = 0;
    int r = get_field(c, argv, &argv[2], &old);
    if (r == 1) {
        r = set_pairs(c, argv, argc, &added);
    }
    if (r == 0) {
        reply_int(c, added);
    }
    return r;
}

int cmd_HGET(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct task_bytes v;
    (void)argc;
    int r = get_field(c, argv, &argv[2], &v);
    if (r == 0) {
        reply_bulk(c, v.data, v.len);
    } else if (r == 1) {
        reply_null(c);
    }
    return r < 0 ? r : 0;
}

int cmd_HMGET(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct dict d;
    int none = open_dict(c, argv, &d);
    if (none < 0) {
        return none;
    }
    reply_array(c, argc - 2);
    for (uint32_t i = 2; i < argc; i++) {
        struct task_bytes v;
        int r = none ? -ENOENT : dict_get(object_shm(c), &d, argv[i].data, argv[i].len, &v);
        if (r == 0) {
            reply_bulk(c, v.data, v.len);
        } else if (r == -ENOENT) {
            reply_null(c);
        } else {
            return r;
        }
    }
    return 0;
}

int cmd_HLEN(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct dict d;
    (void)argc;
    int r = open_dict(c, argv, &d);
    if (r >= 0) {
        reply_int(c, r == 0 ? (int64_t)dict_count(&d) : 0);
    }
    return r < 0 ? r : 0;
}

int cmd_HSTRLEN(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct task_bytes v;
    (void)argc;
    int r = get_field(c, argv, &argv[2], &v);
    if (r >= 0) {
        reply_int(c, r == 0 ? (int64_t)v.len : 0);
    }
    return r < 0 ? r : 0;
}

int cmd_HEXISTS(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct task_bytes v;
    (void)argc;
    int r = get_field(c, argv, &argv[2], &v);
    if (r >= 0) {
        reply_int(c, r == 0);
    }
    return r < 0 ? r : 0;
}

int cmd_HDEL(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct dict d;
    int64_t gone = 0;
    int r = open_dict(c, argv, &d);
    if (r == 0) {
        for (uint32_t i = 2; r >= 0 && i < argc; i++) {
            r = dict_remove(object_shm(c), &d, argv[i].data, argv[i].len);
            gone += r == 1;
        }
        if (r >= 0 && gone) {
            r = dict_close(object_shm(c), &d);
        }
    }
    if (r >= 0) {
        reply_int(c, gone);
    }
    return r < 0 ? r : 0;
}

/* ---- counting ---- */

static int put_number(struct conn *c, const struct resp_arg *argv, const char *digits, size_t len) {
    struct dict d;
    int r = make_dict(c, argv, &d);
    if (r == 0) {
        r = dict_put(object_shm(c), &d, argv[2].data, argv[2].len, digits, len);
    }
    return r < 0 ? r : dict_close(object_shm(c), &d);
}

int cmd_HINCRBY(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct task_bytes old;
    int64_t by, v = 0;
    char digits[24];
    (void)argc;
    if (!args_i64(c, &argv[3], &by)) {
        return 0;
    }
    int r = get_field(c, argv, &argv[2], &old);
    if (r == 0 && value_integer(old.data, old.len, &v) < 0) {
        reply_error(c, "ERR hash value is not an integer");
        return 0;
    }
    if (r >= 0 && __builtin_add_overflow(v, by, &v)) {
        reply_error(c, "ERR increment or decrement would overflow");
        return 0;
    }
    r = r < 0 ? r : put_number(c, argv, digits, num_put_i64(digits, v));
    if (r == 0) {
        reply_int(c, v);
    }
    return r;
}

int cmd_HINCRBYFLOAT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct task_bytes old;
    long double by, v = 0;
    char digits[NUM_FLOAT];
    (void)argc;
    if (num_float(argv[3].data, argv[3].len, &by) < 0) {
        reply_error(c, "ERR value is not a valid float");
        return 0;
    }
    if (!isfinite(by)) {
        reply_error(c, "ERR value is NaN or Infinity");
        return 0;
    }
    int r = get_field(c, argv, &argv[2], &old);
    if (r == 0 && num_float(old.data, old.len, &v) < 0) {
        reply_error(c, "ERR hash value is not a float");
        return 0;
    }
    v += by;
    if (r >= 0 && !isfinite(v)) {
        reply_error(c, "ERR increment would produce NaN or Infinity");
        return 0;
    }
    size_t len = num_put_float(digits, v);
    r = r < 0 ? r : put_number(c, argv, digits, len);
    if (r == 0) {
        reply_bulk(c, digits, len);
    }
    return r;
}

/* ---- all of it ---- */

enum parts { KEYS = 1, VALUES = 2 };

struct listing {
    struct conn *c;
    int parts;
    uint64_t left; /* entries that the reply's head still promises */
};

static int put_parts(struct conn *c, const struct shm_node *n, int parts) {
    size_t klen, vlen;
    const void *key = hash_key(object_shm(c), n, &klen),
               *value = hash_value(object_shm(c), n, &vlen);
    if (!key || !value) {
        return -ESTALE;
    }
    if (parts & KEYS) {
        reply_bulk(c, key, klen);
    }
    if (parts & VALUES) {
        reply_bulk(c, value, vlen);
    }
    return 0;
}

static int list_entry_of(void *arg, struct shm_node *n) {
    struct listing *l = arg;
    if (l->left-- == 0) {
        return -ESTALE;
    }
    return put_parts(l->c, n, l->parts);
}

/* Every entry once. */
static int visit_all(struct conn *c, const struct dict *d, hash_visit *fn, void *arg) {
    uint64_t cursor = 0;
    int r;
    do {
        r = hash_scan(object_shm(c), d->fields, &cursor, fn, arg);
    } while (r == 0 && cursor);
    return r;
}

static int list_parts(struct conn *c, const struct resp_arg *argv, int parts) {
    struct dict d;
    int r = open_dict(c, argv, &d);
    if (r < 0) {
        return r;
    }
    struct listing l = {.c = c, .parts = parts, .left = r == 0 ? dict_count(&d) : 0};
    if (parts == (KEYS | VALUES)) {
        reply_map(c, (uint32_t)l.left);
    } else {
        reply_array(c, (uint32_t)l.left);
    }
    r = r == 0 ? visit_all(c, &d, list_entry_of, &l) : 0;
    return r == 0 && l.left ? -ESTALE : r;
}

int cmd_HGETALL(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    return list_parts(c, argv, KEYS | VALUES);
}

int cmd_HKEYS(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    return list_parts(c, argv, KEYS);
}

int cmd_HVALS(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    return list_parts(c, argv, VALUES);
}

/* ---- HSCAN ---- */

struct scan {
    struct conn *c;
    struct args_scan args;
    struct buf found;
    uint32_t n;
    uint64_t met;
};

static int scan_entry(void *arg, struct shm_node *n) {
    struct scan *w = arg;
    size_t klen, vlen;
    const struct shm *s = object_shm(w->c);
    const void *key = hash_key(s, n, &klen), *value = hash_value(s, n, &vlen);
    if (!key || !value) {
        return -ESTALE;
    }
    w->met++;
    const struct resp_arg *m = w->args.match;
    if (m && !glob_match(m->data, m->len, key, klen)) {
        return 0;
    }
    w->n += 2;
    int r = resp_put_bulk(&w->found, key, klen);
    return r < 0 ? r : resp_put_bulk(&w->found, value, vlen);
}

int cmd_HSCAN(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct scan w = {.c = c};
    struct dict d;
    uint64_t cursor;
    if (!args_cursor(c, &argv[2], &cursor)) {
        return 0;
    }
    int r = open_dict(c, argv, &d);
    if (r < 0) {
        return r;
    }
    if (r == 1) {
        cursor = 0;
    } else if (!args_scan(c, argv + 3, argc - 3, &w.args)) {
        return 0;
    } else {
        bool whole = dict_count(&d) <= SCAN_WHOLE;
        do {
            r = hash_scan(object_shm(c), d.fields, &cursor, scan_entry, &w);
        } while (r == 0 && cursor && (whole || w.met < (uint64_t)w.args.count));
    }
    if (r >= 0) {
        reply_array(c, 2);
        reply_textf(c, "%llu", (unsigned long long)cursor);
        reply_array(c, w.n);
        REPLY(c, w.n ? buf_append(&c->out, buf_head(&w.found), buf_len(&w.found)) : 0);
    }
    buf_deinit(&w.found);
    return r < 0 ? r : 0;
}

/* ---- HRANDFIELD ---- */

static int put_random(struct conn *c, const struct shm_node *n, bool values) {
    if (values && c->proto > 2) {
        reply_array(c, 2);
    }
    return put_parts(c, n, values ? KEYS | VALUES : KEYS);
}

/* n entries by chance, the same one several times perhaps. */
static int random_any(struct conn *c, const struct dict *d, uint64_t n, bool values) {
    for (uint64_t i = 0; i < n; i++) {
        struct hash_ref ref;
        if (!hash_random(object_shm(c), d->fields, serve_random(c->serve), &ref)) {
            return -ESTALE;
        }
        int r = put_random(c, ref.node, values);
        if (r) {
            return r;
        }
    }
    return 0;
}

struct choice {
    struct conn *c;
    uint64_t left, wanted; /* entries still to come, and how many of them are to be taken */
    bool values;
};

static int choose(void *arg, struct shm_node *n) {
    struct choice *h = arg;
    if (h->left == 0) {
        return -ESTALE;
    }
    bool take = serve_random(h->c->serve) % h->left < h->wanted;
    h->left--;
    h->wanted -= take;
    return take ? put_random(h->c, n, h->values) : 0;
}

/* Different ones, when they are a large part of all: each entry in turn is taken or not. */
static int random_part(struct conn *c, const struct dict *d, uint64_t n, bool values) {
    struct choice h = {.c = c, .left = dict_count(d), .wanted = n, .values = values};
    int r = visit_all(c, d, choose, &h);
    return r == 0 && h.wanted ? -ESTALE : r;
}

/* Different ones, when they are few: drawn by chance, those drawn before being known by a table of what was drawn. */
static int random_few(struct conn *c, const struct dict *d, uint64_t n, bool values) {
    uint64_t size = 16;
    while (size < n * 2) {
        size *= 2;
    }
    const struct shm_node **seen = calloc(size, sizeof(const struct shm_node *));
    if (!seen) {
        return -ENOMEM;
    }
    int r = 0;
    uint64_t tries = 0;
    while (r == 0 && n) {
        struct hash_ref ref;
        if (tries++ > size * 64 ||
            !hash_random(object_shm(c), d->fields, serve_random(c->serve), &ref)) {
            r = -ESTALE;
            break;
        }
        uint64_t i = ((uintptr_t)ref.node >> 4) % size;
        while (seen[i] && seen[i] != ref.node) {
            i = (i + 1) % size;
        }
        if (!seen[i]) {
            seen[i] = ref.node;
            r = put_random(c, ref.node, values);
            n--;
        }
    }
    free(seen);
    return r;
}

static int random_fields(struct conn *c, const struct resp_arg *argv, int64_t count, bool values) {
    struct dict d;
    int r = open_dict(c, argv, &d);
    if (r < 0) {
        return r;
    }
    uint64_t all = r == 0 ? dict_count(&d) : 0;
    uint64_t n = count < 0 ? (uint64_t)-count : (uint64_t)count;
    if (all == 0) {
        n = 0;
    } else if (count > 0 && n > all) {
        n = all;
    }
    if (n > c->serve->d->config->limits.client_max_output / RANDOM_REPLY) {
        reply_error(c, "ERR value is out of range"); /* nobody could read such a reply */
        return 0;
    }
    reply_array(c, (uint32_t)(values && c->proto == 2 ? n * 2 : n));
    if (n == 0) {
        return 0;
    }
    if (count < 0) {
        return random_any(c, &d, n, values);
    }
    return n * 8 > all ? random_part(c, &d, n, values) : random_few(c, &d, n, values);
}

int cmd_HRANDFIELD(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    int64_t count;
    if (argc > 2) {
        if (!args_range(c, &argv[2], -INT64_MAX, INT64_MAX, NULL, &count)) {
            return 0;
        }
        bool values = argc == 4;
        if (argc > 4 || (values && !resp_is(&argv[3], "WITHVALUES"))) {
            reply_syntax(c);
            return 0;
        }
        if (values && (count < -INT64_MAX / 2 || count > INT64_MAX / 2)) {
            reply_error(c, "ERR value is out of range");
            return 0;
        }
        return random_fields(c, argv, count, values);
    }
    struct dict d;
    struct hash_ref ref;
    int r = open_dict(c, argv, &d);
    if (r == 1) {
        reply_null(c);
        return 0;
    }
    if (r < 0) {
        return r;
    }
    const struct shm_node *n = hash_random(object_shm(c), d.fields, serve_random(c->serve), &ref);
    return n ? put_parts(c, n, KEYS) : -ESTALE;
}
