/* SPDX-License-Identifier: MIT */
/* SORT and SORT_RO: the elements of a list in order, by themselves or by what other keys say of them, as they are or with
 * what other keys say of them, answered or stored.
 *
 *     SORT ids BY age:* GET # GET user:*->name       ids: 7 3     looks at age:7, age:3, user:7, user:3
 *
 * The elements and all that is compared are copied first: STORE may replace the very list, and a reader without a lock
 * must not sort what is being changed. Text is compared byte by byte, not by the rules of a locale.
 *
 * Fails: replies; the errnos of lib/shm. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/serve/args.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"
#include "lib/base/cleanup.h"
#include "lib/base/num.h"
#include "lib/shm/list.h"

struct item {
    size_t at, len; /* the element, in sort.text */
    double score;
    size_t by_at, by_len; /* what is compared instead, for ALPHA with BY */
    bool has_by;
};

struct sort {
    struct conn *c;
    bool descending, alpha, dont_sort;
    int64_t offset, count;
    const struct resp_arg *by; /* NULL: the elements themselves */
    const struct resp_arg *store;
    const struct resp_arg *argv; /* GET patterns are looked for here again */
    uint32_t argc, n_gets;
    struct buf text;
    struct item *items;
    uint32_t n, cap;
};

/* ---- the words ---- */

static bool is_pattern(const struct resp_arg *a) {
    return memchr(a->data, '*', a->len) != NULL;
}

/* One option at argv[i] with `left` words behind it: how many words it took besides itself; -1: it is none; -2: replied. */
static int parse_option(struct sort *s, uint32_t i, uint32_t left, bool read_only) {
    const struct resp_arg *a = &s->argv[i];
    if (resp_is(a, "ASC") || resp_is(a, "DESC")) {
        s->descending = resp_is(a, "DESC");
        return 0;
    }
    if (resp_is(a, "ALPHA")) {
        s->alpha = true;
        return 0;
    }
    if (resp_is(a, "LIMIT") && left >= 2) {
        return args_i64(s->c, a + 1, &s->offset) && args_i64(s->c, a + 2, &s->count) ? 2 : -2;
    }
    if (!read_only && resp_is(a, "STORE") && left >= 1) {
        s->store = a + 1;
        return 1;
    }
    if (resp_is(a, "BY") && left >= 1) {
        s->by = a + 1;
        s->dont_sort = !is_pattern(s->by);
        return 1;
    }
    if (resp_is(a, "GET") && left >= 1) {
        s->n_gets++;
        return 1;
    }
    return -1;
}

/* False: replied. */
static bool parse(struct sort *s, bool read_only) {
    for (uint32_t i = 2; i < s->argc; i++) {
        int took = parse_option(s, i, s->argc - i - 1, read_only);
        if (took == -1) {
            reply_syntax(s->c);
        }
        if (took < 0) {
            return false;
        }
        i += (uint32_t)took;
    }
    return true;
}

/* The next GET pattern behind argv[*i]. The words have been parsed, so options are where they belong. */
static const struct resp_arg *next_get(const struct sort *s, uint32_t *i) {
    while (++*i < s->argc) {
        const struct resp_arg *a = &s->argv[*i];
        if (resp_is(a, "LIMIT")) {
            *i += 2;
        } else if (resp_is(a, "STORE") || resp_is(a, "BY")) {
            *i += 1;
        } else if (resp_is(a, "GET")) {
            return &s->argv[++*i];
        }
    }
    return NULL;
}

/* ---- other keys ---- */

static size_t find_arrow(const struct resp_arg *p, size_t from) {
    for (size_t i = from; i + 2 < p->len; i++) {
        if (p->data[i] == '-' && p->data[i + 1] == '>') {
            return i;
        }
    }
    return p->len;
}

static int look_up(struct conn *c, const struct key_name *name, const struct resp_arg *field,
                   char digits[24], struct task_bytes *ret) {
    struct dict d;
    if (!field) {
        return value_get(object_shm(c), name, digits, ret);
    }
    int r = dict_open(object_shm(c), name, false, &d);
    return r ? r : dict_get(object_shm(c), &d, field->data, field->len, ret);
}

/* What the pattern with the element in place of its * leads to. 1: found; 0: nothing. */
static int follow(struct conn *c, const struct resp_arg *pattern, const char *element, size_t len,
                  char digits[24], struct task_bytes *ret) {
    const char *star = memchr(pattern->data, '*', pattern->len);
    if (pattern->len == 1 && pattern->data[0] == '#') {
        *ret = (struct task_bytes){element, len};
        return 1;
    }
    if (!star) {
        return 0;
    }
    size_t before = (size_t)(star - pattern->data), arrow = find_arrow(pattern, before + 1);
    size_t after = arrow - before - 1;
    struct resp_arg field = {pattern->data + arrow + 2, 0};
    if (arrow < pattern->len) {
        field.len = pattern->len - arrow - 2;
    }
    _cleanup_free_ char *key = malloc(before + len + after + 1);
    if (!key) {
        return -ENOMEM;
    }
    memcpy(key, pattern->data, before);
    memcpy(key + before, element, len);
    memcpy(key + before + len, star + 1, after);
    struct key_name name = key_name(object_shm(c), key, before + len + after);
    int r = look_up(c, &name, arrow < pattern->len ? &field : NULL, digits, ret);
    return r == 0 ? 1 : r == -ENOENT || r == -EPROTOTYPE ? 0 : r;
}

/* ---- the elements ---- */

static int take_element(void *arg, uint64_t index, const void *data, size_t len) {
    struct sort *s = arg;
    (void)index;
    if (s->n == s->cap) {
        uint32_t cap = s->cap ? s->cap * 2 : 64;
        struct item *items = reallocarray(s->items, cap, sizeof(*items));
        if (!items) {
            return -ENOMEM;
        }
        s->items = items;
        s->cap = cap;
    }
    s->items[s->n++] = (struct item){.at = buf_len(&s->text), .len = len};
    return buf_append(&s->text, data, len);
}

static int take_list(struct sort *s) {
    struct list_object l;
    struct key_name name = object_name(s->c, &s->argv[1]);
    int r = list_open(object_shm(s->c), &name, false, &l);
    if (r) {
        return r == -ENOENT ? 0 : r;
    }
    uint64_t n = list_count(&l);
    bool down = s->dont_sort && s->descending && n > 0;
    return list_walk(object_shm(s->c), &l, down ? n - 1 : 0, down, take_element, s);
}

/* A number as strtod() reads it, for that is what Redis does. */
static bool parse_score(const char *data, size_t len, double *ret) {
    char text[NUM_FLOAT], *end;
    if (len >= sizeof(text)) {
        return false;
    }
    memcpy(text, data, len);
    text[len] = '\0';
    errno = 0;
    *ret = strtod(text, &end);
    return *end == '\0' && errno != ERANGE && !isnan(*ret);
}

/* Fills in what an item is compared by. 1: it is no number. */
static int weigh(struct sort *s, struct item *it) {
    char digits[24];
    struct task_bytes b = {buf_head(&s->text) + it->at, it->len};
    if (s->by) {
        int r = follow(s->c, s->by, b.data, b.len, digits, &b);
        if (r <= 0) {
            return r;
        }
    }
    if (!s->alpha) {
        return !parse_score(b.data, b.len, &it->score);
    }
    if (s->by) {
        it->has_by = true;
        it->by_at = buf_len(&s->text);
        it->by_len = b.len;
        return buf_append(&s->text, b.data, b.len);
    }
    return 0;
}

/* ---- the order ---- */

static int compare_bytes(const char *a, size_t a_len, const char *b, size_t b_len) {
    int r = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return r ? r : (a_len > b_len) - (a_len < b_len);
}

static int compare(const void *pa, const void *pb, void *arg) {
    const struct item *a = pa, *b = pb;
    const struct sort *s = arg;
    const char *text = buf_head(&s->text);
    int r = 0;
    if (!s->alpha) {
        r = (a->score > b->score) - (a->score < b->score);
    } else if (s->by) {
        r = a->has_by && b->has_by
                ? compare_bytes(text + a->by_at, a->by_len, text + b->by_at, b->by_len)
                : a->has_by - b->has_by;
    }
    r = r ? r : compare_bytes(text + a->at, a->len, text + b->at, b->len);
    return s->descending ? -r : r;
}

/* 1: something is no number. */
static int put_in_order(struct sort *s) {
    for (uint32_t i = 0; i < s->n; i++) {
        int r = weigh(s, &s->items[i]);
        if (r) {
            return r;
        }
    }
    if (s->n > 1) {
        qsort_r(s->items, s->n, sizeof(*s->items), compare, s);
    }
    return 0;
}

/* ---- the result ---- */

/* Which items LIMIT leaves: from .. to - 1. */
static void limit(const struct sort *s, uint32_t *from, uint32_t *to) {
    int64_t n = s->n, start = s->offset < 0 ? 0 : s->offset < n ? s->offset : n;
    int64_t count = s->count < 0 || s->count > n - start ? n - start : s->count;
    *from = (uint32_t)start;
    *to = (uint32_t)(start + count);
}

typedef int out_fn(void *arg, const void *data, size_t len); /* data NULL: nothing was found */

static int put_out(struct sort *s, uint32_t from, uint32_t to, out_fn *fn, void *arg) {
    int r = 0;
    for (uint32_t i = from; r == 0 && i < to; i++) {
        const char *element = buf_head(&s->text) + s->items[i].at;
        size_t len = s->items[i].len;
        uint32_t at = 1;
        const struct resp_arg *pattern;
        if (!s->n_gets) {
            r = fn(arg, element, len);
        }
        while (r == 0 && s->n_gets && (pattern = next_get(s, &at))) {
            char digits[24];
            struct task_bytes b = {0};
            r = follow(s->c, pattern, element, len, digits, &b);
            r = r < 0 ? r : fn(arg, r ? b.data : NULL, b.len);
        }
    }
    return r;
}

static int out_reply(void *arg, const void *data, size_t len) {
    struct conn *c = arg;
    if (data) {
        reply_bulk(c, data, len);
    } else {
        reply_null(c);
    }
    return 0;
}

/* Lengths and bytes one after the other: what is stored is gathered before anything changes. */
static int out_gather(void *arg, const void *data, size_t len) {
    int r = buf_append(arg, &len, sizeof(len));
    return r || !len ? r : buf_append(arg, data, len);
}

static int push_gathered(struct conn *c, const struct key_name *name, const struct buf *b) {
    struct list_object l;
    const char *p = buf_head(b), *end = p + buf_len(b);
    int r = list_open(object_shm(c), name, true, &l);
    while (r == 0 && p < end) {
        size_t len;
        memcpy(&len, p, sizeof(len));
        p += sizeof(len);
        r = list_push(object_shm(c), &l, false, p, len);
        p += len;
    }
    return r ? r : list_close(object_shm(c), &l);
}

static int store(struct sort *s, uint32_t from, uint32_t to, uint32_t n) {
    struct buf b = BUF_INIT;
    struct key key;
    struct key_name name = object_name(s->c, s->store);
    int r = put_out(s, from, to, out_gather, &b);
    if (r == 0) {
        r = key_find_write(object_shm(s->c), &name, &key);
        r = r == 0 ? key_delete(object_shm(s->c), &key) : r == -ENOENT ? 0 : r;
    }
    if (r == 0 && n > 0) {
        r = push_gathered(s->c, &name, &b);
    }
    buf_deinit(&b);
    if (r == 0) {
        reply_int(s->c, n);
    }
    return r;
}

static int answer(struct sort *s) {
    uint32_t from, to;
    limit(s, &from, &to);
    uint32_t n = (to - from) * (s->n_gets ? s->n_gets : 1);
    if (s->store) {
        return store(s, from, to, n);
    }
    reply_array(s->c, n);
    return put_out(s, from, to, out_reply, s->c);
}

static int sort(struct conn *c, const struct resp_arg *argv, uint32_t argc, bool read_only) {
    struct sort s = {.c = c, .count = -1, .argv = argv, .argc = argc};
    if (!parse(&s, read_only)) {
        return 0;
    }
    int r = buf_append(&s.text, "", 1); /* so that an empty element has an address too */
    r = r ? r : take_list(&s);
    if (r == 0 && !s.dont_sort) {
        r = put_in_order(&s);
    }
    if (r == 0) {
        r = answer(&s);
    } else if (r > 0) {
        reply_error(c, "ERR One or more scores can't be converted into double");
        r = 0;
    }
    free(s.items);
    buf_deinit(&s.text);
    return r;
}

int cmd_SORT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return sort(c, argv, argc, false);
}

int cmd_SORT_RO(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return sort(c, argv, argc, true);
}
