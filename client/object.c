/* SPDX-License-Identifier: MIT */
/* Functions on shared objects: what is common to them, and those on names and values.
 *
 * Each is written twice, side by side: as a call of lib/shm/objects.h on the mapped segment, and as a command to the daemon
 * (which does the same there): Redis's own where it has one, else one of ours.
 *
 * Fails: as hearth.h says. */
#include "client/object.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/num.h"

_Static_assert(sizeof(struct hearth_bytes) == sizeof(struct task_bytes) &&
                   offsetof(struct hearth_bytes, len) == offsetof(struct task_bytes, len),
               "one kind of bytes");
_Static_assert((int)HEARTH_TYPE_LIST == (int)KEY_LIST && (int)HEARTH_TYPE_DICT == (int)KEY_DICT &&
                   (int)HEARTH_TYPE_LOCK == (int)KEY_LOCK &&
                   (int)HEARTH_TYPE_ARRAY == (int)KEY_ARRAY &&
                   (int)HEARTH_KEEP_TTL == (int)OBJECTS_KEEP_TTL &&
                   (int)HEARTH_IF_PRESENT == (int)OBJECTS_PRESENT &&
                   (int)HEARTH_RIGHT == (int)OBJECTS_RIGHT &&
                   (int)HEARTH_ITEMS == (int)OBJECTS_ITEMS &&
                   (int)HEARTH_DESCENDING == (int)OBJECTS_DESCENDING,
               "one set of numbers");

enum { FEW_WORDS = 16, WORD_MAX = (64 << 20) + (64 << 10) /* as the daemon has it */ };

#define EXPIRE_MAX (INT64_MAX / 4)

/* ---- answers ---- */

static int error_of(int64_t r) {
    switch (r) {
    case -ENOENT:
        return HEARTH_E_ABSENT;
    case -EEXIST:
        return HEARTH_E_EXISTS;
    case -EPROTOTYPE:
        return HEARTH_E_TYPE;
    case -EDOM:
    case -ERANGE:
        return HEARTH_E_NUMBER;
    case -ENOMEM:
        return HEARTH_E_OOM;
    case -EDQUOT:
        return HEARTH_E_QUOTA;
    case -EAGAIN:
        return HEARTH_E_BUSY;
    case -ETIMEDOUT:
        return HEARTH_E_PENDING;
    case -EIDRM:
        return HEARTH_E_ENDED;
    case -ECANCELED:
        return HEARTH_E_UNEXPECTED;
    default:
        return (int)r;
    }
}

int object_count(struct hearth *h, int64_t r, uint64_t *ret) {
    if (r < 0) {
        int error = error_of(r);
        return result_say(h, error, "%s",
                          error == HEARTH_E_BUSY ? "somebody sits on a lock in memory"
                                                 : hearth_strerror(error));
    }
    if (ret) {
        *ret = (uint64_t)r;
    }
    return 0;
}

int object_flag(struct hearth *h, int64_t r, int *ret) {
    uint64_t v = 0;
    int e = object_count(h, r, &v);
    if (e == 0 && ret) {
        *ret = (int)v;
    }
    return e;
}

int object_none(struct hearth *h) {
    return result_say(h, -EINVAL, "nothing is named");
}

int object_invalid(struct hearth *h) {
    return result_say(h, -EINVAL, "%s", hearth_strerror(-EINVAL));
}

/* An error reply to a command on objects. */
static int refused(struct hearth *h, const struct hearth_reply *r) {
    static const struct {
        const char *part;
        int error;
    } parts[] = {
        {"WRONGTYPE", HEARTH_E_TYPE},      {"not an integer", HEARTH_E_NUMBER},
        {"not a float", HEARTH_E_NUMBER},  {"not a valid float", HEARTH_E_NUMBER},
        {"overflow", HEARTH_E_NUMBER},     {"NaN or Infinity", HEARTH_E_NUMBER},
        {"no such key", HEARTH_E_ABSENT},  {"index out of range", HEARTH_E_ABSENT},
        {"into double", HEARTH_E_NUMBER},  {"UNEXPECTED", HEARTH_E_UNEXPECTED},
        {"NOBLOCK", HEARTH_E_ABSENT},      {"EXISTS there is", HEARTH_E_EXISTS},
        {"NOPROC", HEARTH_E_ABSENT},       {"EXISTS process", HEARTH_E_EXISTS},
        {"has 64 MiB at most", -EMSGSIZE}, {"RUNNING", HEARTH_E_PENDING},
        {"OOM command", HEARTH_E_OOM},     {"maximum allowed size", -EMSGSIZE},
        {"DURABLE there", -ENODEV},        {"DURABLE", -EIO},
        {"NOLEASE", HEARTH_E_ABSENT},      {"does not do that", -EBADF},
    };
    const char *text = hearth_reply_text(r, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        if (strstr(text, parts[i].part)) {
            return result_say(h, parts[i].error, "%s", text);
        }
    }
    return result_error(h, (const struct resp_value *)(const void *)r);
}

static int wrong_reply(struct hearth *h) {
    return result_say(h, HEARTH_E_PROTOCOL, "an unexpected kind of reply");
}

struct hearth_bytes object_text(const struct hearth_reply *r) {
    struct hearth_bytes b = {NULL, 0};
    if (hearth_reply_type(r) == HEARTH_REPLY_TEXT) {
        b.data = hearth_reply_text(r, &b.len);
    }
    return b;
}

int object_items(struct hearth *h, const struct hearth_reply *array,
                 const struct hearth_bytes **ret, size_t *ret_n) {
    bool pairs = hearth_reply_type(array) == HEARTH_REPLY_MAP;
    if (!pairs && hearth_reply_type(array) != HEARTH_REPLY_ARRAY) {
        return wrong_reply(h);
    }
    size_t n = hearth_reply_count(array) << pairs;
    if (n > h->items_cap) {
        struct hearth_bytes *more = realloc(h->items, n * sizeof(*more));
        if (!more) {
            return -ENOMEM;
        }
        h->items = more;
        h->items_cap = n;
    }
    const struct hearth_reply *e = hearth_reply_first(array);
    for (size_t i = 0; i < n; i++, e = hearth_reply_next(e)) {
        h->items[i] = object_text(e);
    }
    *ret = h->items;
    if (ret_n) {
        *ret_n = n;
    }
    return 0;
}

/* ---- commands ---- */

struct hearth_bytes object_number(struct digits *d, int64_t v) {
    return (struct hearth_bytes){d->text, num_put_i64(d->text, v)};
}

static bool too_long(const struct hearth_bytes *words, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (words[i].len > WORD_MAX) {
            return true;
        }
    }
    return false;
}

int object_ask_more(struct hearth *h, const struct hearth_reply **ret,
                    const struct hearth_bytes *first, size_t n, const struct hearth_bytes *more,
                    size_t m) {
    if (too_long(first, n) || too_long(more, m)) { /* the daemon would hang up */
        return result_say(h, -EMSGSIZE, "%s", hearth_strerror(-EMSGSIZE));
    }
    const char *few[FEW_WORDS], **argv = few;
    size_t few_lens[FEW_WORDS], *lens = few_lens;
    _cleanup_free_ void *many = NULL;
    if (n + m > FEW_WORDS) {
        many = calloc(n + m, sizeof(*argv) + sizeof(*lens));
        if (!many) {
            return -ENOMEM;
        }
        argv = many;
        lens = (size_t *)(void *)(argv + n + m);
    }
    for (size_t i = 0; i < n + m; i++) {
        const struct hearth_bytes *w = i < n ? &first[i] : &more[i - n];
        argv[i] = w->len ? w->data : "";
        lens[i] = w->len;
    }
    int r = hearth_command(h, n + m, argv, lens, ret);
    return r == 0 && hearth_reply_type(*ret) == HEARTH_REPLY_ERROR ? refused(h, *ret) : r;
}

int object_ask(struct hearth *h, const struct hearth_reply **ret, const struct hearth_bytes *first,
               size_t n) {
    return object_ask_more(h, ret, first, n, NULL, 0);
}

int object_ask_fd(struct hearth *h, const struct hearth_reply **ret, int *ret_fd,
                  const struct hearth_bytes *first, size_t n) {
    h->takes_fds = true;
    int r = object_ask(h, ret, first, n);
    h->takes_fds = false;
    if (r == 0 && h->n_fds != 1) {
        r = result_say(h, HEARTH_E_PROTOCOL, "no descriptor has come with the reply");
    }
    if (r == 0) {
        *ret_fd = steal_fd(&h->fds[0]);
        h->n_fds = 0;
    }
    attach_drop_fds(h);
    return r;
}

int object_ask_count(struct hearth *h, uint64_t *ret, const struct hearth_bytes *first, size_t n) {
    const struct hearth_reply *reply = NULL;
    int r = object_ask(h, &reply, first, n);
    if (r == 0 && hearth_reply_type(reply) != HEARTH_REPLY_INT) {
        return wrong_reply(h);
    }
    if (r == 0 && ret) {
        *ret = (uint64_t)hearth_reply_int(reply);
    }
    return r;
}

int object_ask_flag(struct hearth *h, int *ret, const struct hearth_bytes *first, size_t n) {
    uint64_t v = 0;
    int r = object_ask_count(h, &v, first, n);
    if (r == 0 && ret) {
        *ret = (int)v;
    }
    return r;
}

int object_ask_text(struct hearth *h, struct hearth_bytes *ret, const struct hearth_bytes *first,
                    size_t n) {
    const struct hearth_reply *reply = NULL;
    int r = object_ask(h, &reply, first, n);
    if (r == 0 && hearth_reply_type(reply) == HEARTH_REPLY_NULL) {
        return object_done(h, -ENOENT);
    }
    if (r == 0 && hearth_reply_type(reply) != HEARTH_REPLY_TEXT) {
        return wrong_reply(h);
    }
    if (r == 0 && ret) {
        *ret = object_text(reply);
    }
    return r;
}

/* Appends a command whose reply nobody waits for. */
static int put_queued(struct hearth *h, const struct hearth_bytes *words, size_t n) {
    int r = command_put_head(h, n);
    for (size_t i = 0; i < n && r == 0; i++) {
        r = command_put(h, words[i].len ? words[i].data : "", words[i].len);
    }
    return r ? r : command_expect(h, REQUEST_IGNORE, NULL, 0);
}

/* All in one piece: what cannot be queued makes EXEC.ALL fail, so the replies before its own say nothing. */
static int put_transaction(struct hearth *h, const struct object_command *c, size_t n) {
    size_t mark = buf_len(&h->out);
    uint32_t requests = h->request_count;
    int r = dispatch_enter(h);
    if (r) {
        return r;
    }
    r = put_queued(h, WORDS(hearth_text("MULTI")));
    for (size_t i = 0; i < n && r == 0; i++) {
        r = put_queued(h, c[i].words, c[i].n);
    }
    if (r) {
        command_undo(h, mark);
        h->request_count = requests;
    }
    return dispatch_leave(h, r);
}

int object_ask_float(struct hearth *h, double *ret, double by, const struct hearth_bytes *first,
                     size_t n) {
    char text[64];
    locale_t before = uselocale(num_locale());
    struct hearth_bytes sum, word = {text, (size_t)snprintf(text, sizeof(text), "%.17g", by)};
    uselocale(before);
    const struct hearth_reply *reply;
    int r = object_ask_more(h, &reply, first, n, &word, 1);
    sum = object_text(r ? NULL : reply);
    if (r == 0 && !sum.data) {
        return wrong_reply(h);
    }
    if (r == 0 && ret) {
        *ret = strtod_l(sum.data, NULL, num_locale());
    }
    return r;
}

int object_exec(struct hearth *h, const struct hearth_reply **ret, const struct object_command *c,
                size_t n) {
    const struct hearth_reply *reply = NULL;
    int r = put_transaction(h, c, n);
    r = r ? r : object_ask(h, &reply, WORDS(hearth_text("EXEC.ALL")));
    if (r == 0 && hearth_reply_count(reply) != n) {
        return wrong_reply(h);
    }
    if (r == 0) {
        *ret = reply;
    }
    return r;
}

void object_range(int64_t from, int64_t count, int64_t *ret_first, int64_t *ret_last) {
    int64_t last;
    *ret_first = count ? from : 1; /* 1 to 0 is empty */
    *ret_last = count ? -1 : 0;
    if (count > 0 && !__builtin_add_overflow(from, count - 1, &last) && (last < 0) == (from < 0)) {
        *ret_last = last;
    }
}

int object_scan(struct hearth *h, const struct hearth_bytes *first, size_t n,
                const struct hearth_bytes *pattern, uint64_t *cursor, uint32_t count,
                const struct hearth_bytes **ret, size_t *ret_n) {
    struct hearth_bytes words[8];
    const struct hearth_reply *reply;
    struct digits at, most;
    memcpy(words, first, n * sizeof(*words));
    words[n++] = (struct hearth_bytes){at.text, num_put_u64(at.text, *cursor)};
    words[n++] = hearth_text("COUNT");
    words[n++] = object_number(&most, count ? count : 1);
    if (pattern) {
        words[n++] = hearth_text("MATCH");
        words[n++] = *pattern;
    }
    int r = object_ask(h, &reply, words, n);
    const struct hearth_reply *next = r ? NULL : hearth_reply_first(reply);
    uint64_t to = next ? strtoull(hearth_reply_text(next, NULL), NULL, 10) : 0;
    r = r ? r : object_items(h, hearth_reply_next(next), ret, ret_n);
    if (r == 0) {
        *cursor = to;
    }
    return r;
}

/* ---- names ---- */

int hearth_object_type(struct hearth *h, struct hearth_bytes name, enum hearth_object_type *ret) {
    const struct hearth_reply *reply;
    if (attach_can(h, false)) {
        int r = objects_type(&h->objects, in(name));
        if (object_final(h, r)) {
            *ret = r > 0 ? (enum hearth_object_type)r : HEARTH_TYPE_NONE;
            return object_done(h, r);
        }
    }
    int r = object_ask(h, &reply, WORDS(hearth_text("TYPE"), name));
    if (r == 0) {
        const char *text = hearth_reply_text(reply, NULL);
        *ret = HEARTH_TYPE_NONE;
        for (int i = 0; i < KEY_TYPES; i++) {
            if (strcmp(text, key_type_names[i]) == 0) {
                *ret = (enum hearth_object_type)i;
            }
        }
    }
    return r;
}

int hearth_object_exists(struct hearth *h, struct hearth_bytes name, int *ret) {
    enum hearth_object_type type;
    int r = hearth_object_type(h, name, &type);
    if (r == 0) {
        *ret = type != HEARTH_TYPE_NONE;
    }
    return r;
}

int hearth_object_delete(struct hearth *h, const struct hearth_bytes *names, size_t n,
                         uint64_t *ret_n) {
    const struct hearth_reply *reply;
    if (n == 0) {
        return object_none(h);
    }
    if (attach_can(h, true)) {
        return object_count(h, objects_delete(&h->objects, ins(names), n), ret_n);
    }
    struct hearth_bytes word = hearth_text("DEL");
    int r = object_ask_more(h, &reply, &word, 1, names, n);
    return r ? r : object_count(h, hearth_reply_int(reply), ret_n);
}

int hearth_object_expire(struct hearth *h, struct hearth_bytes name, int64_t ms) {
    struct digits d;
    uint64_t there = 0;
    ms = ms < 0 ? 0 : ms > EXPIRE_MAX ? EXPIRE_MAX : ms; /* as good as never, and no overflow */
    if (attach_can(h, true)) {
        return object_done(h, objects_expire(&h->objects, in(name), ms));
    }
    int r = object_ask_count(h, &there, WORDS(hearth_text("PEXPIRE"), name, object_number(&d, ms)));
    return r ? r : object_done(h, there ? 0 : -ENOENT);
}

int hearth_object_persist(struct hearth *h, struct hearth_bytes name) {
    uint64_t there = 0;
    if (attach_can(h, true)) {
        return object_done(h, objects_persist(&h->objects, in(name)));
    }
    int r = object_ask_count(h, &there, WORDS(hearth_text("PERSIST"), name));
    if (r == 0 && !there) { /* no expiry, or no object */
        r = object_ask_count(h, &there, WORDS(hearth_text("EXISTS"), name));
    }
    return r ? r : object_done(h, there ? 0 : -ENOENT);
}

int hearth_durable_sync(struct hearth *h) {
    const struct hearth_reply *r;
    return object_ask(h, &r, WORDS(hearth_text("DURABLE.SYNC")));
}

int hearth_object_ttl(struct hearth *h, struct hearth_bytes name, int64_t *ret_ms) {
    uint64_t ms = 0;
    int64_t ttl;
    if (attach_can(h, false)) {
        ttl = objects_ttl(&h->objects, in(name));
        if (object_final(h, ttl)) {
            if (ttl >= -1) {
                *ret_ms = ttl;
            }
            return ttl >= -1 ? 0 : object_done(h, ttl);
        }
    }
    int r = object_ask_count(h, &ms, WORDS(hearth_text("PTTL"), name));
    ttl = (int64_t)ms;
    if (r == 0 && ttl == -2) {
        return object_done(h, -ENOENT);
    }
    if (r == 0) {
        *ret_ms = ttl;
    }
    return r;
}

int hearth_object_rename(struct hearth *h, struct hearth_bytes name, struct hearth_bytes to,
                         int replace) {
    const struct hearth_reply *reply;
    if (attach_can(h, true)) {
        return object_done(h, objects_rename(&h->objects, in(name), in(to), replace != 0));
    }
    int r = object_ask(h, &reply, WORDS(hearth_text(replace ? "RENAME" : "RENAMENX"), name, to));
    return r == 0 && !replace && hearth_reply_int(reply) == 0 ? object_done(h, -EEXIST) : r;
}

int hearth_object_copy(struct hearth *h, struct hearth_bytes name, struct hearth_bytes to,
                       int replace) {
    const struct hearth_bytes words[] = {hearth_text("COPY"), name, to, hearth_text("REPLACE")};
    uint64_t done = 0;
    if (attach_can(h, true)) {
        return object_done(h, objects_copy(&h->objects, in(name), in(to), replace != 0));
    }
    bool same = name.len == to.len && (name.len == 0 || memcmp(name.data, to.data, name.len) == 0);
    int r = same ? 0 : object_ask_count(h, &done, words, replace ? 4 : 3);
    if (r == 0 && !done) { /* which of the two it was, the reply does not tell */
        int there = 0;
        r = hearth_object_exists(h, name, &there);
        return r ? r : object_done(h, there ? -EEXIST : -ENOENT);
    }
    return r;
}

int hearth_object_names(struct hearth *h, const char *pattern, uint64_t *cursor, uint32_t count,
                        const struct hearth_bytes **ret, size_t *ret_n) {
    struct hearth_bytes like = hearth_text(pattern ? pattern : "*");
    if (attach_can(h, false)) {
        int r =
            objects_keys(&h->objects, cursor, count, pattern ? ins(&like) : NULL, outs(ret), ret_n);
        if (object_final(h, r)) {
            return object_done(h, r);
        }
    }
    return object_scan(h, WORDS(hearth_text("SCAN")), &like, cursor, count, ret, ret_n);
}

/* ---- values ---- */

int hearth_value_get(struct hearth *h, struct hearth_bytes name, struct hearth_bytes *ret) {
    if (attach_can(h, false)) {
        int r = objects_value_get(&h->objects, in(name), out(ret));
        if (object_final(h, r)) {
            return object_done(h, r);
        }
    }
    return object_ask_text(h, ret, WORDS(hearth_text("GET"), name));
}

/* The flags and the time as words behind SET name value; returns how many words that is, or -EINVAL. */
static int set_words(struct hearth *h, struct hearth_bytes *words, struct digits *d, unsigned when,
                     uint64_t ttl_ms) {
    int n = 3;
    bool both = (when & HEARTH_IF_ABSENT) && (when & HEARTH_IF_PRESENT);
    if (both || (when & HEARTH_KEEP_TTL && ttl_ms) || ttl_ms > INT64_MAX / 2) {
        return result_say(h, -EINVAL, "flags that contradict each other, or too long a time");
    }
    if (when & (HEARTH_IF_ABSENT | HEARTH_IF_PRESENT)) {
        words[n++] = hearth_text(when & HEARTH_IF_ABSENT ? "NX" : "XX");
    }
    if (when & HEARTH_KEEP_TTL) {
        words[n++] = hearth_text("KEEPTTL");
    } else if (ttl_ms) {
        words[n++] = hearth_text("PX");
        words[n++] = object_number(d, (int64_t)ttl_ms);
    }
    return n;
}

int hearth_value_set(struct hearth *h, struct hearth_bytes name, struct hearth_bytes value,
                     unsigned when, uint64_t ttl_ms) {
    const struct hearth_reply *reply;
    struct hearth_bytes words[6] = {hearth_text("SET"), name, value};
    struct digits d;
    int n = set_words(h, words, &d, when, ttl_ms);
    if (n < 0) {
        return n;
    }
    if (attach_can(h, true)) {
        return object_done(h, objects_value_set(&h->objects, in(name), in(value), when, ttl_ms));
    }
    int r = object_ask(h, &reply, words, (size_t)n);
    if (r == 0 && hearth_reply_type(reply) == HEARTH_REPLY_NULL) {
        return object_done(h, when & HEARTH_IF_ABSENT ? -EEXIST : -ENOENT);
    }
    return r;
}

int hearth_value_exchange(struct hearth *h, struct hearth_bytes name, struct hearth_bytes value,
                          unsigned when, uint64_t ttl_ms, struct hearth_bytes *ret) {
    const struct hearth_reply *reply;
    struct hearth_bytes words[7] = {hearth_text("SET"), name, value};
    struct digits d;
    int n = set_words(h, words, &d, when, ttl_ms);
    if (n < 0) {
        return n;
    }
    if (attach_can(h, true)) {
        return object_done(
            h, objects_value_exchange(&h->objects, in(name), in(value), when, ttl_ms, out(ret)));
    }
    words[n++] = hearth_text("GET");
    int r = object_ask(h, &reply, words, (size_t)n);
    if (r == 0) { /* what was there tells whether it was replaced */
        *ret = object_text(reply);
        if (ret->data && when & HEARTH_IF_ABSENT) {
            return object_done(h, -EEXIST);
        }
        if (!ret->data && when & HEARTH_IF_PRESENT) {
            return object_done(h, -ENOENT);
        }
    }
    return r;
}

int hearth_value_add_float(struct hearth *h, struct hearth_bytes name, double by, double *ret) {
    long double sum = 0;
    if (attach_can(h, true)) {
        int r = objects_value_add_float(&h->objects, in(name), by, &sum);
        if (r == 0 && ret) {
            *ret = (double)sum;
        }
        return object_done(h, r);
    }
    return object_ask_float(h, ret, by, WORDS(hearth_text("INCRBYFLOAT"), name));
}

int hearth_value_write(struct hearth *h, struct hearth_bytes name, uint64_t at,
                       struct hearth_bytes data, uint64_t *ret_len) {
    struct digits d;
    if (at > INT64_MAX) {
        return result_say(h, -EMSGSIZE, "%s", hearth_strerror(-EMSGSIZE));
    }
    if (attach_can(h, true)) {
        return object_count(h, objects_value_write(&h->objects, in(name), at, in(data)), ret_len);
    }
    return object_ask_count(
        h, ret_len, WORDS(hearth_text("SETRANGE"), name, object_number(&d, (int64_t)at), data));
}

int hearth_value_add(struct hearth *h, struct hearth_bytes name, int64_t by, int64_t *ret) {
    struct digits d;
    uint64_t sum = 0;
    if (attach_can(h, true)) {
        return object_done(h, objects_value_add(&h->objects, in(name), by, ret));
    }
    int r = object_ask_count(h, &sum, WORDS(hearth_text("INCRBY"), name, object_number(&d, by)));
    if (r == 0 && ret) {
        *ret = (int64_t)sum;
    }
    return r;
}

int hearth_value_append(struct hearth *h, struct hearth_bytes name, struct hearth_bytes more,
                        uint64_t *ret_len) {
    if (attach_can(h, true)) {
        return object_count(h, objects_value_append(&h->objects, in(name), in(more)), ret_len);
    }
    return object_ask_count(h, ret_len, WORDS(hearth_text("APPEND"), name, more));
}

int hearth_value_range(struct hearth *h, struct hearth_bytes name, int64_t from, int64_t count,
                       struct hearth_bytes *ret) {
    struct digits a, b;
    int64_t first, last;
    if (attach_can(h, false)) {
        int r = objects_value_range(&h->objects, in(name), from, count, out(ret));
        if (object_final(h, r)) {
            return object_done(h, r);
        }
    }
    object_range(from, count, &first, &last);
    const struct hearth_bytes len[] = {hearth_text("STRLEN"), name};
    const struct hearth_bytes get[] = {hearth_text("GETRANGE"), name, object_number(&a, first),
                                       object_number(&b, last)};
    if (last >= -1) {
        return object_ask_text(h, ret, get, 4);
    }
    /* an end before the beginning is the first byte to GETRANGE, not nothing */
    const struct object_command both[] = {{len, 2}, {get, 4}};
    const struct hearth_reply *replies = NULL;
    int r = object_exec(h, &replies, both, 2);
    if (r == 0) {
        const struct hearth_reply *length = hearth_reply_first(replies);
        *ret = hearth_reply_int(length) + last < 0 ? hearth_text("")
                                                   : object_text(hearth_reply_next(length));
    }
    return r;
}
