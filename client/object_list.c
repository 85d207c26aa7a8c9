/* SPDX-License-Identifier: MIT */
/* Functions on shared lists; how they are done is in object.c.
 *
 * Fails: as hearth.h says. */
#include <errno.h>
#include <stdio.h>

#include "client/object.h"

static enum objects_end end_of(enum hearth_end end) {
    return end == HEARTH_LEFT ? OBJECTS_LEFT : OBJECTS_RIGHT;
}

int hearth_list_push(struct hearth *h, struct hearth_bytes name, enum hearth_end end,
                     const struct hearth_bytes *elements, size_t n, uint64_t *ret_len) {
    const struct hearth_reply *reply;
    if (n == 0) {
        return object_none(h);
    }
    if (attach_can(h, true)) {
        return object_count(
            h, objects_list_push(&h->objects, in(name), end_of(end), ins(elements), n), ret_len);
    }
    int r = object_ask_more(
        h, &reply, WORDS(hearth_text(end == HEARTH_LEFT ? "LPUSH" : "RPUSH"), name), elements, n);
    return r ? r : object_count(h, hearth_reply_int(reply), ret_len);
}

int hearth_list_pop(struct hearth *h, struct hearth_bytes name, enum hearth_end end,
                    struct hearth_bytes *ret) {
    if (attach_can(h, true)) {
        return object_done(h, objects_list_pop(&h->objects, in(name), end_of(end), out(ret)));
    }
    return object_ask_text(h, ret, WORDS(hearth_text(end == HEARTH_LEFT ? "LPOP" : "RPOP"), name));
}

int hearth_list_pop_wait(struct hearth *h, struct hearth_bytes name, enum hearth_end end,
                         int64_t ms, struct hearth_bytes *ret) {
    const struct hearth_reply *reply;
    char seconds[32];
    if (attach_can(h, true)) {
        return object_done(h,
                           objects_list_pop_wait(&h->objects, in(name), end_of(end), ms, out(ret)));
    }
    if (ms == 0) {
        int r = hearth_list_pop(h, name, end, ret);
        return r == HEARTH_E_ABSENT ? object_done(h, -ETIMEDOUT) : r;
    }
    int64_t limit = ms < 0 ? 0 : ms; /* 0 is Redis's for ever */
    snprintf(seconds, sizeof(seconds), "%lld.%03d", (long long)(limit / 1000), (int)(limit % 1000));
    int r = object_ask(
        h, &reply,
        WORDS(hearth_text(end == HEARTH_LEFT ? "BLPOP" : "BRPOP"), name, hearth_text(seconds)));
    if (r == 0 && hearth_reply_type(reply) == HEARTH_REPLY_NULL) {
        return object_done(h, -ETIMEDOUT);
    }
    if (r == 0 && ret) {
        *ret = object_text(hearth_reply_next(hearth_reply_first(reply)));
    }
    return r;
}

int hearth_list_move(struct hearth *h, struct hearth_bytes from, enum hearth_end end,
                     struct hearth_bytes to, enum hearth_end to_end, struct hearth_bytes *ret) {
    if (attach_can(h, true)) {
        return object_done(h, objects_list_move(&h->objects, in(from), end_of(end), in(to),
                                                end_of(to_end), out(ret)));
    }
    return object_ask_text(h, ret,
                           WORDS(hearth_text("LMOVE"), from, to,
                                 hearth_text(end == HEARTH_LEFT ? "LEFT" : "RIGHT"),
                                 hearth_text(to_end == HEARTH_LEFT ? "LEFT" : "RIGHT")));
}

int hearth_list_length(struct hearth *h, struct hearth_bytes name, uint64_t *ret) {
    if (attach_can(h, false)) {
        int64_t r = objects_list_length(&h->objects, in(name));
        if (object_final(h, r)) {
            return object_count(h, r, ret);
        }
    }
    return object_ask_count(h, ret, WORDS(hearth_text("LLEN"), name));
}

int hearth_list_at(struct hearth *h, struct hearth_bytes name, int64_t index,
                   struct hearth_bytes *ret) {
    struct digits d;
    if (attach_can(h, false)) {
        int r = objects_list_at(&h->objects, in(name), index, out(ret));
        if (object_final(h, r)) {
            return object_done(h, r);
        }
    }
    return object_ask_text(h, ret, WORDS(hearth_text("LINDEX"), name, object_number(&d, index)));
}

int hearth_list_set(struct hearth *h, struct hearth_bytes name, int64_t index,
                    struct hearth_bytes element) {
    const struct hearth_reply *reply;
    struct digits d;
    if (attach_can(h, true)) {
        return object_done(h, objects_list_set(&h->objects, in(name), index, in(element)));
    }
    return object_ask(h, &reply,
                      WORDS(hearth_text("LSET"), name, object_number(&d, index), element));
}

int hearth_list_insert(struct hearth *h, struct hearth_bytes name, int64_t index,
                       struct hearth_bytes element, uint64_t *ret_len) {
    struct digits d;
    if (attach_can(h, true)) {
        return object_count(h, objects_list_insert(&h->objects, in(name), index, in(element)),
                            ret_len);
    }
    return object_ask_count(
        h, ret_len, WORDS(hearth_text("LIST.INSERT"), name, object_number(&d, index), element));
}

int hearth_list_insert_beside(struct hearth *h, struct hearth_bytes name, struct hearth_bytes pivot,
                              int after, struct hearth_bytes element, uint64_t *ret_len) {
    const struct hearth_reply *reply;
    if (attach_can(h, true)) {
        return object_count(
            h,
            objects_list_insert_beside(&h->objects, in(name), in(pivot), after != 0, in(element)),
            ret_len);
    }
    int r = object_ask(h, &reply,
                       WORDS(hearth_text("LINSERT"), name, hearth_text(after ? "AFTER" : "BEFORE"),
                             pivot, element));
    int64_t len = hearth_reply_int(r ? NULL : reply);
    return r ? r : object_count(h, len > 0 ? len : -ENOENT, ret_len);
}

int hearth_list_delete(struct hearth *h, struct hearth_bytes name, int64_t from, int64_t count,
                       uint64_t *ret_n) {
    struct digits a, b;
    if (attach_can(h, true)) {
        return object_count(h, objects_list_delete(&h->objects, in(name), from, count), ret_n);
    }
    return object_ask_count(
        h, ret_n,
        WORDS(hearth_text("LIST.DELETE"), name, object_number(&a, from), object_number(&b, count)));
}

int hearth_list_count(struct hearth *h, struct hearth_bytes name, struct hearth_bytes element,
                      uint64_t *ret) {
    if (attach_can(h, false)) {
        int64_t r = objects_list_count(&h->objects, in(name), in(element));
        if (object_final(h, r)) {
            return object_count(h, r, ret);
        }
    }
    return object_ask_count(h, ret, WORDS(hearth_text("LIST.COUNT"), name, element));
}

int hearth_list_reverse(struct hearth *h, struct hearth_bytes name) {
    if (attach_can(h, true)) {
        return object_done(h, objects_list_reverse(&h->objects, in(name)));
    }
    return object_ask_count(h, NULL, WORDS(hearth_text("LIST.REVERSE"), name));
}

int hearth_list_sort(struct hearth *h, struct hearth_bytes name, unsigned order) {
    const struct hearth_bytes words[] = {hearth_text("LIST.SORT"), name,
                                         hearth_text(order & HEARTH_DESCENDING ? "DESC" : "ASC"),
                                         hearth_text("ALPHA")};
    if (attach_can(h, true)) {
        return object_done(h, objects_list_sort(&h->objects, in(name), order));
    }
    return object_ask_count(h, NULL, words, order & HEARTH_BY_BYTES ? 4 : 3);
}

int hearth_list_trim(struct hearth *h, struct hearth_bytes name, int64_t from, int64_t count) {
    const struct hearth_reply *reply;
    struct digits a, b;
    int64_t first, last;
    if (attach_can(h, true)) {
        return object_done(h, objects_list_trim(&h->objects, in(name), from, count));
    }
    object_range(from, count, &first, &last);
    return object_ask(
        h, &reply,
        WORDS(hearth_text("LTRIM"), name, object_number(&a, first), object_number(&b, last)));
}

int hearth_list_remove(struct hearth *h, struct hearth_bytes name, struct hearth_bytes element,
                       int64_t count, uint64_t *ret_n) {
    struct digits d;
    if (attach_can(h, true)) {
        return object_count(h, objects_list_remove(&h->objects, in(name), in(element), count),
                            ret_n);
    }
    return object_ask_count(h, ret_n,
                            WORDS(hearth_text("LREM"), name, object_number(&d, count), element));
}

int hearth_list_index(struct hearth *h, struct hearth_bytes name, struct hearth_bytes element,
                      uint64_t *ret) {
    const struct hearth_reply *reply;
    if (attach_can(h, false)) {
        int64_t r = objects_list_index(&h->objects, in(name), in(element), 0);
        if (object_final(h, r)) {
            return object_count(h, r, ret);
        }
    }
    int r = object_ask(h, &reply, WORDS(hearth_text("LPOS"), name, element));
    bool none = r == 0 && hearth_reply_type(reply) == HEARTH_REPLY_NULL;
    return r ? r : object_count(h, none ? -ENOENT : hearth_reply_int(reply), ret);
}

int hearth_list_range(struct hearth *h, struct hearth_bytes name, int64_t from, int64_t count,
                      const struct hearth_bytes **ret, size_t *ret_n) {
    const struct hearth_reply *reply;
    struct digits a, b;
    int64_t first, last;
    if (attach_can(h, false)) {
        int r = objects_list_range(&h->objects, in(name), from, count, outs(ret), ret_n);
        if (object_final(h, r)) {
            return object_done(h, r);
        }
    }
    object_range(from, count, &first, &last);
    int r = object_ask(
        h, &reply,
        WORDS(hearth_text("LRANGE"), name, object_number(&a, first), object_number(&b, last)));
    return r ? r : object_items(h, reply, ret, ret_n);
}
