/* SPDX-License-Identifier: MIT */
/* Functions on shared dicts; how they are done is in object.c.
 *
 * Fails: as hearth.h says. */
#include <errno.h>
#include <stdlib.h>

#include "client/object.h"
#include "lib/base/cleanup.h"

int hearth_dict_get(struct hearth *h, struct hearth_bytes name, struct hearth_bytes field,
                    struct hearth_bytes *ret) {
    if (attach_can(h, false)) {
        int r = objects_dict_get(&h->objects, in(name), in(field), out(ret));
        if (object_final(h, r)) {
            return r ? object_done(h, r) : 0;
        }
    }
    return object_ask_text(h, ret, WORDS(hearth_text("HGET"), name, field));
}

int hearth_dict_get_many(struct hearth *h, struct hearth_bytes name,
                         const struct hearth_bytes *fields, size_t n,
                         const struct hearth_bytes **ret) {
    const struct hearth_reply *reply;
    if (n == 0) {
        return object_none(h);
    }
    if (attach_can(h, false)) {
        int r = objects_dict_get_many(&h->objects, in(name), ins(fields), n, outs(ret));
        if (object_final(h, r)) {
            return object_done(h, r);
        }
    }
    int r = object_ask_more(h, &reply, WORDS(hearth_text("HMGET"), name), fields, n);
    return r ? r : object_items(h, reply, ret, NULL);
}

int hearth_dict_set(struct hearth *h, struct hearth_bytes name, struct hearth_bytes field,
                    struct hearth_bytes value, int *ret_new) {
    if (attach_can(h, true)) {
        return object_flag(h, objects_dict_set(&h->objects, in(name), in(field), in(value)),
                           ret_new);
    }
    return object_ask_flag(h, ret_new, WORDS(hearth_text("HSET"), name, field, value));
}

int hearth_dict_update(struct hearth *h, struct hearth_bytes name, const struct hearth_bytes *pairs,
                       size_t n, uint64_t *ret_new) {
    const struct hearth_reply *reply;
    if (n == 0) {
        return object_none(h);
    }
    if (attach_can(h, true)) {
        return object_count(h, objects_dict_update(&h->objects, in(name), ins(pairs), n), ret_new);
    }
    int r = object_ask_more(h, &reply, WORDS(hearth_text("HSET"), name), pairs, n * 2);
    return r ? r : object_count(h, hearth_reply_int(reply), ret_new);
}

int hearth_dict_setdefault(struct hearth *h, struct hearth_bytes name, struct hearth_bytes field,
                           struct hearth_bytes value, struct hearth_bytes *ret) {
    if (attach_can(h, true)) {
        return object_done(
            h, objects_dict_setdefault(&h->objects, in(name), in(field), in(value), out(ret)));
    }
    return object_ask_text(h, ret, WORDS(hearth_text("DICT.SETDEFAULT"), name, field, value));
}

int hearth_dict_delete(struct hearth *h, struct hearth_bytes name,
                       const struct hearth_bytes *fields, size_t n, uint64_t *ret_n) {
    const struct hearth_reply *reply;
    if (n == 0) {
        return object_none(h);
    }
    if (attach_can(h, true)) {
        return object_count(h, objects_dict_delete(&h->objects, in(name), ins(fields), n), ret_n);
    }
    int r = object_ask_more(h, &reply, WORDS(hearth_text("HDEL"), name), fields, n);
    return r ? r : object_count(h, hearth_reply_int(reply), ret_n);
}

int hearth_dict_contains(struct hearth *h, struct hearth_bytes name, struct hearth_bytes field,
                         int *ret) {
    if (attach_can(h, false)) {
        int r = objects_dict_contains(&h->objects, in(name), in(field));
        if (object_final(h, r)) {
            return object_flag(h, r, ret);
        }
    }
    return object_ask_flag(h, ret, WORDS(hearth_text("HEXISTS"), name, field));
}

int hearth_dict_length(struct hearth *h, struct hearth_bytes name, uint64_t *ret) {
    if (attach_can(h, false)) {
        int64_t r = objects_dict_length(&h->objects, in(name));
        if (object_final(h, r)) {
            return object_count(h, r, ret);
        }
    }
    return object_ask_count(h, ret, WORDS(hearth_text("HLEN"), name));
}

int hearth_dict_pop(struct hearth *h, struct hearth_bytes name, struct hearth_bytes field,
                    struct hearth_bytes *ret) {
    if (attach_can(h, true)) {
        return object_done(h, objects_dict_pop(&h->objects, in(name), in(field), out(ret)));
    }
    return object_ask_text(h, ret, WORDS(hearth_text("DICT.POP"), name, field));
}

int hearth_dict_popitem(struct hearth *h, struct hearth_bytes name, struct hearth_bytes *ret_field,
                        struct hearth_bytes *ret_value) {
    const struct hearth_reply *reply;
    if (attach_can(h, true)) {
        return object_done(
            h, objects_dict_popitem(&h->objects, in(name), out(ret_field), out(ret_value)));
    }
    int r = object_ask(h, &reply, WORDS(hearth_text("DICT.POPITEM"), name));
    const struct hearth_reply *field = r ? NULL : hearth_reply_first(reply);
    if (r == 0 && !field) {
        return object_done(h, -ENOENT);
    }
    if (r == 0 && ret_field) {
        *ret_field = object_text(field);
    }
    if (r == 0 && ret_value) {
        *ret_value = object_text(hearth_reply_next(field));
    }
    return r;
}

int hearth_dict_add(struct hearth *h, struct hearth_bytes name, struct hearth_bytes field,
                    int64_t by, int64_t *ret) {
    struct digits d;
    uint64_t sum = 0;
    if (attach_can(h, true)) {
        return object_done(h, objects_dict_add(&h->objects, in(name), in(field), by, ret));
    }
    int r = object_ask_count(h, &sum,
                             WORDS(hearth_text("HINCRBY"), name, field, object_number(&d, by)));
    if (r == 0 && ret) {
        *ret = (int64_t)sum;
    }
    return r;
}

int hearth_dict_add_float(struct hearth *h, struct hearth_bytes name, struct hearth_bytes field,
                          double by, double *ret) {
    if (attach_can(h, true)) {
        long double v = 0;
        int r = objects_dict_add_float(&h->objects, in(name), in(field), by, &v);
        if (r == 0 && ret) {
            *ret = (double)v;
        }
        return object_done(h, r);
    }
    return object_ask_float(h, ret, by, WORDS(hearth_text("HINCRBYFLOAT"), name, field));
}

int hearth_dict_add_many(struct hearth *h, struct hearth_bytes name,
                         const struct hearth_bytes *fields, const int64_t *by, size_t n) {
    const struct hearth_reply *reply;
    if (n == 0) {
        return object_none(h);
    }
    if (attach_can(h, true)) {
        return object_done(h, objects_dict_add_many(&h->objects, in(name), ins(fields), by, n));
    }
    _cleanup_free_ struct hearth_bytes *words = calloc(n + 1, 2 * sizeof(*words));
    _cleanup_free_ struct digits *d = calloc(n + 1, sizeof(*d));
    if (!words || !d) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        words[i * 2] = fields[i];
        words[i * 2 + 1] = object_number(&d[i], by[i]);
    }
    return object_ask_more(h, &reply, WORDS(hearth_text("DICT.ADD"), name), words, n * 2);
}

int hearth_dict_swap(struct hearth *h, struct hearth_bytes name, struct hearth_bytes field,
                     const struct hearth_bytes *expected, const struct hearth_bytes *value,
                     int *ret_done) {
    struct hearth_bytes words[7] = {hearth_text("DICT.SWAP"), name, field};
    size_t n = 3;
    if (attach_can(h, true)) {
        return object_flag(
            h, objects_dict_swap(&h->objects, in(name), in(field), ins(expected), ins(value)),
            ret_done);
    }
    words[n++] = hearth_text(expected ? "IF" : "ABSENT");
    if (expected) {
        words[n++] = *expected;
    }
    words[n++] = hearth_text(value ? "SET" : "DEL");
    if (value) {
        words[n++] = *value;
    }
    return object_ask_flag(h, ret_done, words, n);
}

int hearth_dict_clear(struct hearth *h, struct hearth_bytes name) {
    const struct hearth_reply *reply;
    if (attach_can(h, true)) {
        return object_done(h, objects_dict_clear(&h->objects, in(name)));
    }
    return object_ask(h, &reply, WORDS(hearth_text("DICT.CLEAR"), name));
}

int hearth_dict_items(struct hearth *h, struct hearth_bytes name, enum hearth_part part,
                      const struct hearth_bytes **ret, size_t *ret_n) {
    const struct hearth_reply *reply;
    if (attach_can(h, false)) {
        int r =
            objects_dict_items(&h->objects, in(name), (enum objects_part)part, outs(ret), ret_n);
        if (object_final(h, r)) {
            return object_done(h, r);
        }
    }
    const char *command = part == HEARTH_FIELDS   ? "HKEYS"
                          : part == HEARTH_VALUES ? "HVALS"
                                                  : "HGETALL";
    int r = object_ask(h, &reply, WORDS(hearth_text(command), name));
    return r ? r : object_items(h, reply, ret, ret_n);
}

/* A walk stays on the way on which it began as long as that is there: their cursors are the same, but that is not promised. */
int hearth_dict_scan(struct hearth *h, struct hearth_bytes name, uint64_t *cursor, uint32_t count,
                     const struct hearth_bytes **ret, size_t *ret_n) {
    if (attach_can(h, false)) {
        return object_done(
            h, objects_dict_scan(&h->objects, in(name), cursor, count, outs(ret), ret_n));
    }
    return object_scan(h, WORDS(hearth_text("HSCAN"), name), NULL, cursor, count, ret, ret_n);
}
