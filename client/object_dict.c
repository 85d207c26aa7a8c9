/* SPDX-License-Identifier: MIT */
/* Functions on shared dicts; how they are done is in object.c.
 *
 * Fails: as hearth.h says. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/object.h"

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
    const struct hearth_bytes set[] = {hearth_text("HSETNX"), name, field, value};
    const struct hearth_bytes get[] = {hearth_text("HGET"), name, field};
    const struct object_command both[] = {{set, 4}, {get, 3}};
    const struct hearth_reply *replies;
    int r = object_exec(h, &replies, both, 2);
    if (r == 0 && ret) {
        *ret = object_text(hearth_reply_next(hearth_reply_first(replies)));
    }
    return r;
}

int hearth_dict_delete(struct hearth *h, struct hearth_bytes name,
                       const struct hearth_bytes *fields, size_t n, uint64_t *ret_n) {
    const struct hearth_reply *reply;
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

/* Takes a field out: HEARTH_E_ABSENT if there is none. */
static int take(struct hearth *h, struct hearth_bytes name, struct hearth_bytes field,
                struct hearth_bytes *ret) {
    const struct hearth_bytes get[] = {hearth_text("HGET"), name, field};
    const struct hearth_bytes del[] = {hearth_text("HDEL"), name, field};
    const struct object_command both[] = {{get, 3}, {del, 3}};
    const struct hearth_reply *replies;
    int r = object_exec(h, &replies, both, 2);
    struct hearth_bytes value = object_text(r ? NULL : hearth_reply_first(replies));
    if (r == 0 && !value.data) {
        return object_done(h, -ENOENT);
    }
    if (r == 0 && ret) {
        *ret = value;
    }
    return r;
}

int hearth_dict_pop(struct hearth *h, struct hearth_bytes name, struct hearth_bytes field,
                    struct hearth_bytes *ret) {
    if (attach_can(h, true)) {
        return object_done(h, objects_dict_pop(&h->objects, in(name), in(field), out(ret)));
    }
    return take(h, name, field, ret);
}

int hearth_dict_popitem(struct hearth *h, struct hearth_bytes name, struct hearth_bytes *ret_field,
                        struct hearth_bytes *ret_value) {
    if (attach_can(h, true)) {
        return object_done(
            h, objects_dict_popitem(&h->objects, in(name), out(ret_field), out(ret_value)));
    }
    for (;;) { /* until the field chosen is still there */
        struct hearth_bytes field;
        int r = object_ask_text(h, &field, WORDS(hearth_text("HRANDFIELD"), name));
        if (r) {
            return r;
        }
        field = object_keep(h, field);
        if (!field.data) {
            return -ENOMEM;
        }
        r = take(h, name, field, ret_value);
        if (r != HEARTH_E_ABSENT) {
            if (r == 0 && ret_field) {
                *ret_field = field;
            }
            return r;
        }
    }
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
    char text[64];
    struct hearth_bytes sum;
    if (attach_can(h, true)) {
        long double v = 0;
        int r = objects_dict_add_float(&h->objects, in(name), in(field), by, &v);
        if (r == 0 && ret) {
            *ret = (double)v;
        }
        return object_done(h, r);
    }
    snprintf(text, sizeof(text), "%.17g", by);
    int r = object_ask_text(h, &sum,
                            WORDS(hearth_text("HINCRBYFLOAT"), name, field, hearth_text(text)));
    if (r == 0 && ret) {
        *ret = strtod(sum.data, NULL);
    }
    return r;
}

/* ---- those that look first ---- */

static int unwatch(struct hearth *h, int r) {
    const struct hearth_reply *unused;
    if (r == 0) {
        r = object_ask(h, &unused, WORDS(hearth_text("UNWATCH")));
    } else if (!h->lost) {
        char said[sizeof(h->message)];
        memcpy(said, h->message, sizeof(said));
        object_ask(h, &unused, WORDS(hearth_text("UNWATCH")));
        memcpy(h->message, said, sizeof(said));
    }
    return r;
}

static int swap_once(struct hearth *h, struct hearth_bytes name, struct hearth_bytes field,
                     const struct hearth_bytes *expected, const struct hearth_bytes *value,
                     int *ret_done) {
    const struct hearth_reply *replies;
    struct hearth_bytes now = {NULL, 0};
    int r = object_ask(h, &replies, WORDS(hearth_text("WATCH"), name));
    r = r ? r : object_ask_text(h, &now, WORDS(hearth_text("HGET"), name, field));
    if (r == HEARTH_E_ABSENT) {
        r = 0;
    }
    bool same = expected ? now.data && now.len == expected->len &&
                               memcmp(now.data, expected->len ? expected->data : "", now.len) == 0
                         : !now.data;
    if (r || !same) {
        *ret_done = 0;
        return unwatch(h, r);
    }
    const struct hearth_bytes words[] = {hearth_text(value ? "HSET" : "HDEL"), name, field,
                                         value ? *value : field};
    const struct object_command change = {words, value ? 4 : 3};
    r = object_exec(h, &replies, &change, 1);
    *ret_done = r == 0;
    return r;
}

int hearth_dict_swap(struct hearth *h, struct hearth_bytes name, struct hearth_bytes field,
                     const struct hearth_bytes *expected, const struct hearth_bytes *value,
                     int *ret_done) {
    int done = 0, r;
    if (attach_can(h, true)) {
        return object_flag(
            h, objects_dict_swap(&h->objects, in(name), in(field), ins(expected), ins(value)),
            ret_done);
    }
    do {
        r = swap_once(h, name, field, expected, value, &done);
    } while (r == HEARTH_E_PENDING);
    if (r == 0 && ret_done) {
        *ret_done = done;
    }
    return r;
}

int hearth_dict_clear(struct hearth *h, struct hearth_bytes name) {
    const struct hearth_reply *replies;
    const struct hearth_bytes words[] = {hearth_text("DEL"), name};
    const struct object_command del = {words, 2};
    enum hearth_object_type type;
    int r;
    if (attach_can(h, true)) {
        return object_done(h, objects_dict_clear(&h->objects, in(name)));
    }
    do {
        r = object_ask(h, &replies, WORDS(hearth_text("WATCH"), name));
        r = r ? r : hearth_object_type(h, name, &type);
        if (r || type != HEARTH_TYPE_DICT) {
            r = r || type == HEARTH_TYPE_NONE ? r : object_done(h, -EPROTOTYPE);
            return unwatch(h, r);
        }
        r = object_exec(h, &replies, &del, 1);
    } while (r == HEARTH_E_PENDING);
    return r;
}

/* A walk stays on the way on which it began as long as that is there: their cursors are the same, but that is not promised. */
int hearth_dict_scan(struct hearth *h, struct hearth_bytes name, uint64_t *cursor, uint32_t count,
                     const struct hearth_bytes **ret, size_t *ret_n) {
    const struct hearth_reply *reply;
    char at[24];
    struct digits n;
    if (attach_can(h, false)) {
        return object_done(
            h, objects_dict_scan(&h->objects, in(name), cursor, count, outs(ret), ret_n));
    }
    snprintf(at, sizeof(at), "%llu", (unsigned long long)*cursor);
    int r = object_ask(h, &reply,
                       WORDS(hearth_text("HSCAN"), name, hearth_text(at), hearth_text("COUNT"),
                             object_number(&n, count ? count : 1)));
    const struct hearth_reply *next = r ? NULL : hearth_reply_first(reply);
    uint64_t to = next ? strtoull(hearth_reply_text(next, NULL), NULL, 10) : 0;
    r = r ? r : object_items(h, hearth_reply_next(next), ret, ret_n);
    if (r == 0) {
        *cursor = to;
    }
    return r;
}
