/* SPDX-License-Identifier: MIT */
/* DUMP and RESTORE: a key as bytes, to be kept or carried to another server. RESTORE makes the key while it reads, inside of
 * the operation: when the bytes turn out to be bad, all of it is undone.
 *
 * Fails: replies; -EILSEQ ("Bad data format"), and the errnos of lib/shm. */
#include <errno.h>

#include "daemon/serve/args.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/dump.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"
#include "lib/base/clock.h"
#include "lib/shm/list.h"

/* ---- DUMP ---- */

struct out {
    struct shm *s;
    struct buf b;
};

static int put_field(void *arg, struct shm_node *n) {
    struct out *o = arg;
    size_t len, value_len;
    const void *field = hash_key(o->s, n, &len), *value = hash_value(o->s, n, &value_len);
    if (!field || !value) {
        return -ESTALE;
    }
    int r = dump_put_string(&o->b, field, len);
    return r ? r : dump_put_string(&o->b, value, value_len);
}

static int put_dict(struct out *o, const struct key_name *name) {
    struct dict d;
    uint64_t cursor = 0;
    int r = dict_open(o->s, name, false, &d);
    r = r ? r : dump_put_type(&o->b, DUMP_HASH);
    r = r ? r : dump_put_len(&o->b, dict_count(&d));
    do {
        r = r ? r : hash_scan(o->s, d.fields, &cursor, put_field, o);
    } while (r == 0 && cursor);
    return r;
}

static int put_element(void *arg, uint64_t index, const void *data, size_t len) {
    (void)index;
    return dump_put_string(&((struct out *)arg)->b, data, len);
}

static int put_list(struct out *o, const struct key_name *name) {
    struct list_object l;
    int r = list_open(o->s, name, false, &l);
    r = r ? r : dump_put_type(&o->b, DUMP_LIST);
    r = r ? r : dump_put_len(&o->b, list_count(&l));
    return r ? r : list_walk(o->s, &l, 0, false, put_element, o);
}

static int put_value(struct out *o, const struct key *key) {
    char digits[24];
    struct task_bytes b = value_bytes(o->s, key, digits);
    int r = dump_put_type(&o->b, DUMP_STRING);
    return r ? r : dump_put_string(&o->b, b.data, b.len);
}

int cmd_DUMP(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct out o = {.s = object_shm(c)};
    struct key key;
    struct key_name name = object_name(c, &argv[1]);
    int r = key_find(o.s, &name, &key);
    if (r == -ENOENT) {
        reply_null(c);
        return 0;
    }
    if (r == 0) {
        r = key_is_sync(key_type(&key))  ? -EOPNOTSUPP
            : key_type(&key) == KEY_DICT ? put_dict(&o, &name)
            : key_type(&key) == KEY_LIST ? put_list(&o, &name)
                                         : put_value(&o, &key);
    }
    r = r ? r : dump_put_end(&o.b);
    if (r == 0) {
        reply_bulk(c, buf_head(&o.b), buf_len(&o.b));
    }
    buf_deinit(&o.b);
    return r;
}

/* ---- RESTORE ---- */

struct restore {
    struct shm *s;
    struct dict dict;
    struct list_object list;
    struct buf field; /* of the pair whose value is to come */
    bool has_field;
};

static int add_element(void *arg, const void *data, size_t len) {
    struct restore *w = arg;
    return list_push(w->s, &w->list, false, data, len);
}

/* Field, value, field, ... A field that comes twice is bad. */
static int add_word(void *arg, const void *data, size_t len) {
    struct restore *w = arg;
    if (!w->has_field) {
        buf_consume(&w->field, buf_len(&w->field));
        w->has_field = true;
        return buf_append(&w->field, data, len);
    }
    w->has_field = false;
    int r = dict_put(w->s, &w->dict, w->field.data ? buf_head(&w->field) : "", buf_len(&w->field),
                     data, len);
    return r == 1 ? 0 : r == 0 ? -EILSEQ : r;
}

/* n strings, each given to fn. */
static int read_strings(struct dump *d, uint64_t n, int (*fn)(void *, const void *, size_t),
                        void *arg) {
    int r = 0;
    for (uint64_t i = 0; r == 0 && i < n; i++) {
        const void *data;
        size_t len;
        r = dump_string(d, &data, &len);
        r = r ? r : fn(arg, data, len);
    }
    return r;
}

static int read_listpack(struct dump *d, int (*fn)(void *, const void *, size_t), void *arg) {
    const void *data;
    size_t len;
    int r = dump_string(d, &data, &len);
    return r ? r : dump_listpack(data, len, fn, arg);
}

static int read_quicklist(struct dump *d, struct restore *w, uint64_t nodes) {
    int r = 0;
    for (uint64_t i = 0; r == 0 && i < nodes; i++) {
        uint64_t kind;
        r = dump_len(d, &kind);
        if (r == 0) {
            r = kind == DUMP_PACKED  ? read_listpack(d, add_element, w)
                : kind == DUMP_PLAIN ? read_strings(d, 1, add_element, w)
                                     : -EILSEQ;
        }
    }
    return r;
}

static int make_list(struct restore *w, const struct key_name *name, struct dump *d, uint8_t type) {
    uint64_t n;
    int r = dump_len(d, &n);
    r = r ? r : list_open(w->s, name, true, &w->list);
    if (r == 0) {
        r = type == DUMP_LIST ? read_strings(d, n, add_element, w) : read_quicklist(d, w, n);
    }
    if (r == 0 && list_count(&w->list) == 0) {
        r = -EILSEQ;
    }
    return r ? r : list_close(w->s, &w->list);
}

static int make_dict(struct restore *w, const struct key_name *name, struct dump *d, uint8_t type) {
    uint64_t n = 0;
    int r = type == DUMP_HASH ? dump_len(d, &n) : 0;
    r = r ? r : dict_open(w->s, name, true, &w->dict);
    if (r == 0 && n > UINT64_MAX / 2) {
        r = -EILSEQ;
    }
    if (r == 0) {
        r = type == DUMP_HASH ? read_strings(d, 2 * n, add_word, w) : read_listpack(d, add_word, w);
    }
    if (r == 0 && (w->has_field || dict_count(&w->dict) == 0)) {
        r = -EILSEQ;
    }
    return r ? r : dict_close(w->s, &w->dict);
}

static int make_value(struct restore *w, const struct key_name *name, struct dump *d) {
    const void *data;
    size_t len;
    int r = dump_string(d, &data, &len);
    return r ? r : value_set(w->s, name, data, len, false);
}

static int make_key(struct shm *s, const struct key_name *name, struct dump *d) {
    struct restore w = {.s = s};
    uint8_t type;
    int r = dump_byte(d, &type);
    if (r == 0) {
        switch (type) {
        case DUMP_STRING:
            r = make_value(&w, name, d);
            break;
        case DUMP_LIST:
        case DUMP_LIST_QUICKLIST:
            r = make_list(&w, name, d, type);
            break;
        case DUMP_HASH:
        case DUMP_HASH_LISTPACK:
            r = make_dict(&w, name, d, type);
            break;
        default:
            r = -EILSEQ;
        }
    }
    buf_deinit(&w.field);
    return r;
}

struct options {
    bool replace, absolute;
    int64_t idle, freq, ttl;
};

/* False: replied. */
static bool parse_options(struct conn *c, const struct resp_arg *argv, uint32_t argc,
                          struct options *o) {
    for (uint32_t i = 4; i < argc; i++) {
        bool more = i + 1 < argc;
        if (resp_is(&argv[i], "REPLACE")) {
            o->replace = true;
        } else if (resp_is(&argv[i], "ABSTTL")) {
            o->absolute = true;
        } else if (resp_is(&argv[i], "IDLETIME") && more && o->freq < 0) {
            if (!args_i64(c, &argv[++i], &o->idle)) {
                return false;
            }
            if (o->idle < 0) {
                reply_error(c, "ERR Invalid IDLETIME value, must be >= 0");
                return false;
            }
        } else if (resp_is(&argv[i], "FREQ") && more && o->idle < 0) {
            if (!args_i64(c, &argv[++i], &o->freq)) {
                return false;
            }
            if (o->freq < 0 || o->freq > 255) {
                reply_error(c, "ERR Invalid FREQ value, must be >= 0 and <= 255");
                return false;
            }
        } else {
            reply_syntax(c);
            return false;
        }
    }
    return true;
}

/* Sets the expiry of the new key, or lets it go at once. */
static int set_expiry(struct shm *s, const struct key_name *name, const struct options *o) {
    struct key key;
    uint64_t now = clock_wall_ms(), at = (uint64_t)o->ttl;
    if (!o->ttl) {
        return 0;
    }
    at += o->absolute ? 0 : now;
    int r = key_find(s, name, &key);
    return r ? r : at <= now ? key_delete(s, &key) : key_set_expire(s, &key, at);
}

int cmd_RESTORE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct options o = {.idle = -1, .freq = -1};
    struct shm *s = object_shm(c);
    struct dump d;
    struct key key;
    if (!parse_options(c, argv, argc, &o)) {
        return 0;
    }
    struct key_name name = object_name(c, &argv[1]);
    int there = key_find_write(s, &name, &key);
    if (there && there != -ENOENT) {
        return there;
    }
    if (there == 0 && !o.replace) {
        reply_error(c, "BUSYKEY Target key name already exists.");
        return 0;
    }
    if (!args_i64(c, &argv[2], &o.ttl)) {
        return 0;
    }
    if (o.ttl < 0) {
        reply_error(c, "ERR Invalid TTL value, must be >= 0");
        return 0;
    }
    if (dump_open(&d, argv[3].data, argv[3].len)) {
        reply_error(c, "ERR DUMP payload version or checksum are wrong");
        return 0;
    }
    int r = there == 0 ? key_delete(s, &key) : 0;
    r = r ? r : make_key(s, &name, &d);
    r = r ? r : set_expiry(s, &name, &o);
    dump_close(&d);
    if (r == 0) {
        reply_ok(c);
    }
    return r;
}
