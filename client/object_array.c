/* SPDX-License-Identifier: MIT */
/* Functions on typed arrays; how they are done is in object.c. Over the connection elements go as they lie in memory (ARRAY.READ,
 * WRITE) with their type, which the daemon compares; only what is added or compared goes as text.
 *
 * Fails: as hearth.h says. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/object.h"
#include "lib/base/cleanup.h"
#include "lib/base/num.h"
#include "lib/shm/array.h"

_Static_assert((int)HEARTH_INT8 == (int)ARRAY_INT8 && (int)HEARTH_UINT8 == (int)ARRAY_UINT8 &&
                   (int)HEARTH_FLOAT == (int)ARRAY_FLOAT && (int)HEARTH_CHAR == (int)ARRAY_CHAR,
               "one set of numbers");
_Static_assert(sizeof(union hearth_number) == sizeof(union array_number), "one kind of number");

/* Bytes that go with one command or reply. */
enum { PIECE = 16 << 20 };

static union array_number number_in(union hearth_number v) {
    return (union array_number){.u = v.u};
}
static union hearth_number number_out(union array_number v) {
    return (union hearth_number){.u = v.u};
}
static enum array_type type_in(enum hearth_array_type type) {
    return (enum array_type)type;
}

static bool is_real(enum hearth_array_type type) {
    return type == HEARTH_FLOAT || type == HEARTH_DOUBLE;
}
static bool is_unsigned(enum hearth_array_type type) {
    return type >= HEARTH_UINT8 && type <= HEARTH_UINT64;
}

static struct hearth_bytes type_word(enum hearth_array_type type) {
    return hearth_text(type > 0 && (int)type < (int)ARRAY_TYPES ? array_type_names[type] : "none");
}

/* A number as a word of a command. */
struct word {
    char text[40];
};
static struct hearth_bytes number_word(struct word *w, enum hearth_array_type type,
                                       union hearth_number v) {
    if (type == HEARTH_CHAR) {
        w->text[0] = (char)v.u;
        return (struct hearth_bytes){w->text, 1};
    }
    if (is_real(type)) {
        locale_t c = num_locale(), old = uselocale(c);
        snprintf(w->text, sizeof(w->text), "%.17g", v.d);
        uselocale(old);
        return hearth_text(w->text);
    }
    return (struct hearth_bytes){w->text, is_unsigned(type) ? num_put_u64(w->text, v.u)
                                                            : num_put_i64(w->text, v.i)};
}

static int answered(struct hearth *h, enum hearth_array_type type, const struct hearth_reply *r,
                    union hearth_number *ret) {
    size_t len;
    const char *text = hearth_reply_text(r, &len);
    union hearth_number v = {0};
    if (type == HEARTH_FLOAT) {
        v.d = (double)strtof_l(text, NULL, num_locale());
    } else if (type == HEARTH_DOUBLE) {
        v.d = strtod_l(text, NULL, num_locale());
    } else if (num_i64(text, len, &v.i) < 0 && num_u64(text, len, &v.u) < 0) {
        return result_say(h, HEARTH_E_PROTOCOL, "an unexpected kind of reply");
    }
    if (ret) {
        *ret = v;
    }
    return 0;
}

int hearth_array_create(struct hearth *h, struct hearth_bytes name, enum hearth_array_type type,
                        uint64_t n, int *ret_made) {
    struct digits d;
    if (attach_can(h, true)) {
        return object_flag(h, objects_array_create(&h->objects, in(name), type_in(type), n),
                           ret_made);
    }
    return object_ask_flag(h, ret_made,
                           WORDS(hearth_text("ARRAY.CREATE"), name, type_word(type),
                                 object_number(&d, n > INT64_MAX ? 0 : (int64_t)n)));
}

static int ask_info(struct hearth *h, struct hearth_bytes name, enum array_type *ret_type,
                    uint64_t *ret_n) {
    const struct hearth_reply *map;
    int r = object_ask(h, &map, WORDS(hearth_text("ARRAY.INFO"), name));
    if (r == 0) {
        struct hearth_bytes text = object_text(hearth_reply_get(map, "type"));
        *ret_type = array_type_of(text.data ? text.data : "", text.len);
        *ret_n = (uint64_t)hearth_reply_int(hearth_reply_get(map, "length"));
    }
    return r;
}

int hearth_array_info(struct hearth *h, struct hearth_bytes name, enum hearth_array_type *ret_type,
                      uint64_t *ret_n) {
    enum array_type type = ARRAY_NONE;
    uint64_t n = 0;
    bool mapped = attach_can(h, false);
    int r = mapped ? objects_array_view(&h->objects, in(name), &type, &n) : 0;
    r = mapped && object_final(h, r) ? object_done(h, r) : ask_info(h, name, &type, &n);
    if (r == 0 && ret_type) {
        *ret_type = (enum hearth_array_type)type;
    }
    if (r == 0 && ret_n) {
        *ret_n = n;
    }
    return r;
}

/* ---- elements as they lie in memory ---- */

static int ask_read(struct hearth *h, struct hearth_bytes name, enum hearth_array_type type,
                    uint64_t from, uint64_t count, void *to) {
    struct digits a, b;
    struct hearth_bytes data;
    int r = object_ask_text(h, &data,
                            WORDS(hearth_text("ARRAY.READ"), name, object_number(&a, (int64_t)from),
                                  object_number(&b, (int64_t)count), hearth_text("TYPE"),
                                  type_word(type)));
    if (r == 0 && data.len != count * array_width(type)) {
        return result_say(h, HEARTH_E_PROTOCOL, "an unexpected kind of reply");
    }
    if (r == 0 && data.len) {
        memcpy(to, data.data, data.len);
    }
    return r;
}

static int ask_write(struct hearth *h, struct hearth_bytes name, enum hearth_array_type type,
                     uint64_t from, uint64_t count, const void *data) {
    struct digits a;
    const struct hearth_reply *reply;
    return object_ask(h, &reply,
                      WORDS(hearth_text("ARRAY.WRITE"), name, object_number(&a, (int64_t)from),
                            ((struct hearth_bytes){data, count * array_width(type)}),
                            hearth_text("TYPE"), type_word(type)));
}

/* Elements that go at once; 0: the numbers make no sense. */
static uint64_t piece_of(enum hearth_array_type type, uint64_t from, uint64_t count) {
    unsigned width = array_width(type);
    return width && from <= ARRAY_BYTES_MAX && count <= ARRAY_BYTES_MAX ? PIECE / width : 0;
}

static int nonsense(struct hearth *h, enum hearth_array_type type) {
    return array_width(type) ? object_done(h, -ENOENT) : object_invalid(h);
}

int hearth_array_read(struct hearth *h, struct hearth_bytes name, enum hearth_array_type type,
                      uint64_t from, uint64_t count, void *to) {
    uint64_t piece = piece_of(type, from, count);
    if (!piece) {
        return nonsense(h, type);
    }
    if (attach_can(h, false)) {
        int64_t r = objects_array_read(&h->objects, in(name), type_in(type), from, count, to);
        if (object_final(h, r)) {
            return object_done(h, r);
        }
    }
    int r = 0;
    do { /* also of none: whether there is such an array is asked once at least */
        uint64_t n = count < piece ? count : piece;
        r = ask_read(h, name, type, from, n, to);
        from += n;
        count -= n;
        to = (char *)to + n * array_width(type);
    } while (r == 0 && count);
    return r;
}

int hearth_array_write(struct hearth *h, struct hearth_bytes name, enum hearth_array_type type,
                       uint64_t from, uint64_t count, const void *data) {
    uint64_t piece = piece_of(type, from, count);
    if (!piece) {
        return nonsense(h, type);
    }
    if (attach_can(h, true)) {
        return object_done(
            h, objects_array_write(&h->objects, in(name), type_in(type), from, count, data));
    }
    uint64_t length = 0;
    int r = count > piece ? hearth_array_info(h, name, NULL, &length) : 0;
    if (r == 0 && count > piece && (from > length || count > length - from)) {
        return object_done(h, -ENOENT); /* all or nothing, as far as one can tell before */
    }
    do {
        uint64_t n = count < piece ? count : piece;
        r = r ? r : ask_write(h, name, type, from, n, data);
        from += n;
        count -= n;
        data = (const char *)data + n * array_width(type);
    } while (r == 0 && count);
    return r;
}

/* ---- one element ---- */

/* An array of one, in memory of our own, turns an element into a number and back. */
struct element {
    _Alignas(8) uint8_t data[8];
};
static struct array array_over(struct element *e, enum hearth_array_type type) {
    return (struct array){.type = type_in(type), .n = 1, .data = e->data};
}

int hearth_array_get(struct hearth *h, struct hearth_bytes name, enum hearth_array_type type,
                     uint64_t index, union hearth_number *ret) {
    struct element e = {0};
    struct array one = array_over(&e, type);
    union array_number v = {0};
    if (attach_can(h, false) && array_width(type)) {
        int64_t r = objects_array_get(&h->objects, in(name), type_in(type), index, &v);
        if (object_final(h, r)) {
            if (r == 0) {
                *ret = number_out(v);
            }
            return object_done(h, r);
        }
    }
    int r =
        piece_of(type, index, 1) ? ask_read(h, name, type, index, 1, e.data) : nonsense(h, type);
    if (r == 0) {
        array_get(&one, 0, &v);
        *ret = number_out(v);
    }
    return r;
}

int hearth_array_set(struct hearth *h, struct hearth_bytes name, enum hearth_array_type type,
                     uint64_t index, union hearth_number value) {
    struct element e = {0};
    struct array one = array_over(&e, type);
    if (!piece_of(type, index, 1)) {
        return nonsense(h, type);
    }
    if (!array_fits(type_in(type), number_in(value))) {
        return object_done(h, -ERANGE);
    }
    if (attach_can(h, true)) {
        return object_done(
            h, objects_array_set(&h->objects, in(name), type_in(type), index, number_in(value)));
    }
    array_set(&one, 0, number_in(value));
    return ask_write(h, name, type, index, 1, e.data);
}

int hearth_array_add(struct hearth *h, struct hearth_bytes name, enum hearth_array_type type,
                     uint64_t index, union hearth_number by, union hearth_number *ret) {
    struct digits d;
    struct word w;
    const struct hearth_reply *reply;
    union array_number sum = {0};
    if (!piece_of(type, index, 1)) {
        return nonsense(h, type);
    }
    if (attach_can(h, true)) {
        int r = objects_array_add(&h->objects, in(name), type_in(type), index, number_in(by), &sum);
        if (r == 0 && ret) {
            *ret = number_out(sum);
        }
        return object_done(h, r);
    }
    int r = object_ask(h, &reply,
                       WORDS(hearth_text("ARRAY.ADD"), name, object_number(&d, (int64_t)index),
                             number_word(&w, type, by), hearth_text("TYPE"), type_word(type)));
    return r ? r : answered(h, type, reply, ret);
}

int hearth_array_cas(struct hearth *h, struct hearth_bytes name, enum hearth_array_type type,
                     uint64_t index, union hearth_number expected, union hearth_number value,
                     int *ret_done) {
    struct digits d;
    struct word e, v;
    if (!piece_of(type, index, 1)) {
        return nonsense(h, type);
    }
    if (attach_can(h, true)) {
        return object_flag(h,
                           objects_array_cas(&h->objects, in(name), type_in(type), index,
                                             number_in(expected), number_in(value)),
                           ret_done);
    }
    return object_ask_flag(h, ret_done,
                           WORDS(hearth_text("ARRAY.CAS"), name, object_number(&d, (int64_t)index),
                                 number_word(&e, type, expected), number_word(&v, type, value),
                                 hearth_text("TYPE"), type_word(type)));
}

int hearth_array_fill(struct hearth *h, struct hearth_bytes name, enum hearth_array_type type,
                      uint64_t from, uint64_t count, union hearth_number value) {
    struct digits a, b;
    struct word w;
    const struct hearth_reply *reply;
    if (!piece_of(type, from, count)) {
        return nonsense(h, type);
    }
    if (attach_can(h, true)) {
        return object_done(h, objects_array_fill(&h->objects, in(name), type_in(type), from, count,
                                                 number_in(value)));
    }
    return object_ask(h, &reply,
                      WORDS(hearth_text("ARRAY.FILL"), name, object_number(&a, (int64_t)from),
                            object_number(&b, (int64_t)count), number_word(&w, type, value),
                            hearth_text("TYPE"), type_word(type)));
}

/* ---- pins ---- */

_Static_assert(sizeof(struct hearth_pin) == sizeof(struct array_pin) &&
                   offsetof(struct hearth_pin, data) == offsetof(struct array_pin, data),
               "one kind of pin");

int hearth_array_pin(struct hearth *h, struct hearth_bytes name, struct hearth_pin *ret) {
    struct array_pin pin;
    if (!attach_can(h, true)) {
        return result_say(h, h->lost ? HEARTH_E_DISCONNECTED : -EOPNOTSUPP,
                          "only an attached handle can pin an array");
    }
    int r = objects_array_pin(&h->objects, in(name), &pin);
    if (r == 0) {
        memcpy(ret, &pin, sizeof(pin));
    }
    return object_done(h, r);
}

int hearth_array_unpin(struct hearth *h, const struct hearth_pin *pin) {
    struct array_pin mine;
    memcpy(&mine, pin, sizeof(mine));
    return object_done(h, attach_can(h, true) ? objects_array_unpin(&h->objects, &mine) : -EINVAL);
}
