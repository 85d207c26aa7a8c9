/* SPDX-License-Identifier: MIT */
/* The two parsers. Requests and values are parsed apart because their needs differ: a request is a
 * flat list of words, read by the hundred thousand a second, and an error in it ends the
 * connection; a value is a tree of any type.
 *
 * Both keep the position up to which they understood the message, so a message in many pieces costs
 * no more than one in a single piece, and both decide from left to right: the verdict on a stream
 * does not depend on how it was cut into reads. (The tests and the fuzz targets hold them to that,
 * at every split point.) Because the data may move between pieces, positions are kept as offsets
 * and become pointers when the message is whole.
 *
 * Memory follows what has arrived, never what a header announces: "*1000000" alone costs nothing.
 * Lengths are at most 18 digits, hence sums of them and of positions cannot overflow 64 bits.
 *
 * Where Redis is lax (the byte after a CR, the two bytes after a bulk string) we are strict: a
 * client whose lengths are wrong is told so at the first word, not after its bytes have been taken
 * for a command.
 *
 * Fails: RESP_E_PROTO with a static text for anything malformed or over a limit, again on each
 * later call of the same reader; -ENOMEM, after which the same call may be repeated. */
#include "lib/wire/resp.h"

#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/num.h"

const struct resp_limits resp_limits_default = {
    .max_args = 1024 * 1024, /* as Redis */
    .max_bulk = UINT64_C(64) * 1024 * 1024 + 64 * 1024,
    .max_total = UINT64_C(128) * 1024 * 1024,
    .max_inline = 64 * 1024,
};

enum {
    LENGTH_DIGITS = 18, /* what fits an int64_t whatever the digits are */
    LENGTH_MAX = 32,    /* a longer line is no number: stop waiting for its end */
    ARGS_FIRST = 8,
    ARGS_KEEP = 1024, /* room for more words than this is given back after the message */
    WORDS_KEEP = 4096,
};

enum length_result { LENGTH_OK, LENGTH_MORE, LENGTH_BAD, LENGTH_LONG };

/* The rare forms and all the errors of scan_length(). */
static enum length_result scan_length_slow(const char *p, size_t n, int64_t *ret, size_t *ret_len) {
    size_t i = 0;
    bool negative = n && p[0] == '-';
    size_t first = negative;
    int64_t v = 0;
    for (i = first; i < n && p[i] != '\r'; i++) {
        unsigned d = (unsigned char)p[i] - (unsigned)'0';
        if (d > 9) {
            return LENGTH_BAD;
        }
        if (i >= LENGTH_MAX) {
            return LENGTH_LONG;
        }
        v = i - first < LENGTH_DIGITS ? v * 10 + (int64_t)d : 0;
    }
    if (i + 1 >= n) {
        return LENGTH_MORE;
    }
    size_t digits = i - first;
    if (p[i + 1] != '\n' || digits == 0 || digits > LENGTH_DIGITS ||
        (p[first] == '0' && (digits > 1 || negative))) {
        return LENGTH_BAD;
    }
    *ret = negative ? -v : v;
    *ret_len = i + 2;
    return LENGTH_OK;
}

/* The number of a header line, from behind its type byte up to and with its CRLF. */
static inline enum length_result scan_length(const char *p, size_t n, int64_t *ret,
                                             size_t *ret_len) {
    size_t most = n < LENGTH_DIGITS ? n : LENGTH_DIGITS;
    size_t i = 0;
    int64_t v = 0;
    unsigned d;
    while (i < most && (d = (unsigned char)p[i] - (unsigned)'0') <= 9) {
        v = v * 10 + (int64_t)d;
        i++;
    }
    if (__builtin_expect(
            i && i + 1 < n && p[i] == '\r' && p[i + 1] == '\n' && (p[0] != '0' || i == 1), 1)) {
        *ret = v;
        *ret_len = i + 2;
        return LENGTH_OK;
    }
    return scan_length_slow(p, n, ret, ret_len);
}

/* ---- requests ---- */

void resp_reader_init(struct resp_reader *r, const struct resp_limits *limits) {
    *r = (struct resp_reader){.limits = limits ? *limits : resp_limits_default};
}

static void reader_free_args(struct resp_reader *r) {
    free(r->argv);
    free(r->offsets);
    r->argv = NULL;
    r->offsets = NULL;
    r->argc = r->cap = 0;
}

void resp_reader_deinit(struct resp_reader *r) {
    reader_free_args(r);
    buf_deinit(&r->words);
}

static int reader_error(struct resp_reader *r, const char *text) {
    r->error = text;
    return RESP_E_PROTO;
}

static int reader_more(struct resp_reader *r, size_t need) {
    r->need = need;
    return RESP_MORE;
}

static int reader_done(struct resp_reader *r, size_t used) {
    r->used = used;
    r->pos = 0;
    r->need = 0;
    return RESP_OK;
}

static int reader_grow(struct resp_reader *r) {
    size_t cap = r->cap ? (size_t)r->cap * 2 : ARGS_FIRST;
    struct resp_arg *argv = realloc(r->argv, cap * sizeof(*argv));
    if (!argv) {
        return -ENOMEM;
    }
    r->argv = argv;
    size_t *offsets = realloc(r->offsets, cap * sizeof(*offsets));
    if (!offsets) {
        return -ENOMEM;
    }
    r->offsets = offsets;
    r->cap = (uint32_t)cap;
    return 0;
}

static int reader_expected_bulk(struct resp_reader *r, char got) {
    static const char text[] = "expected '$', got '?'";
    _Static_assert(sizeof(text) <= sizeof(r->text), "the text fits");
    memcpy(r->text, text, sizeof(text));
    if (got > ' ' && got < 127) {
        r->text[sizeof(text) - 3] = got;
    }
    return reader_error(r, r->text);
}

static int read_multibulk_head(struct resp_reader *r, const char *data, size_t len) {
    int64_t count;
    size_t line;
    switch (scan_length(data + 1, len - 1, &count, &line)) {
    case LENGTH_OK:
        break;
    case LENGTH_MORE:
        return reader_more(r, len + 1);
    case LENGTH_LONG:
        return reader_error(r, "too big mbulk count string");
    default:
        return reader_error(r, "invalid multibulk length");
    }
    if (count > (int64_t)r->limits.max_args) {
        return reader_error(r, "invalid multibulk length");
    }
    r->want = count < 0 ? 0 : (uint32_t)count;
    r->pos = 1 + line;
    return RESP_OK;
}

static int read_multibulk(struct resp_reader *r, const char *data, size_t len) {
    bool resumed = r->pos != 0;
    if (!resumed) {
        int e = read_multibulk_head(r, data, len);
        if (e != RESP_OK) {
            return e;
        }
    }
    size_t pos = r->pos;
    uint32_t argc = r->argc;
    int result = RESP_OK;
    while (argc < r->want) {
        if (pos >= len) {
            result = reader_more(r, len + 1);
            break;
        }
        if (data[pos] != '$') {
            result = reader_expected_bulk(r, data[pos]);
            break;
        }
        int64_t size;
        size_t line;
        enum length_result lr = scan_length(data + pos + 1, len - pos - 1, &size, &line);
        if (__builtin_expect(lr != LENGTH_OK, 0)) {
            result = lr == LENGTH_MORE   ? reader_more(r, len + 1)
                     : lr == LENGTH_LONG ? reader_error(r, "too big bulk count string")
                                         : reader_error(r, "invalid bulk length");
            break;
        }
        if (size < 0 || (uint64_t)size > r->limits.max_bulk) {
            result = reader_error(r, "invalid bulk length");
            break;
        }
        size_t begin = pos + 1 + line, end = begin + (size_t)size;
        if (end + 2 > r->limits.max_total) {
            result = reader_error(r, "too big request");
            break;
        }
        if (end + 2 > len) {
            result = reader_more(r, end + 2);
            break;
        }
        if (data[end] != '\r' || data[end + 1] != '\n') {
            result = reader_error(r, "bulk string not followed by CRLF");
            break;
        }
        if (argc == r->cap && reader_grow(r) != 0) {
            result = -ENOMEM;
            break;
        }
        r->argv[argc] = (struct resp_arg){data + begin, (size_t)size};
        r->offsets[argc] = begin;
        argc++;
        pos = end + 2;
    }
    r->pos = pos;
    r->argc = argc;
    if (result != RESP_OK) {
        return result;
    }
    for (uint32_t i = 0; resumed && i < argc; i++) {
        r->argv[i].data = data + r->offsets[i];
    }
    return reader_done(r, pos);
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* One escape inside "...": p is at the backslash, at least one byte follows it. Returns the bytes
 * taken. */
static size_t inline_escape(const char *p, const char *end, char *ret) {
    if (p[1] == 'x' && end - p >= 4 && hex_digit(p[2]) >= 0 && hex_digit(p[3]) >= 0) {
        *ret = (char)(hex_digit(p[2]) * 16 + hex_digit(p[3]));
        return 4;
    }
    switch (p[1]) {
    case 'n':
        *ret = '\n';
        break;
    case 'r':
        *ret = '\r';
        break;
    case 't':
        *ret = '\t';
        break;
    case 'b':
        *ret = '\b';
        break;
    case 'a':
        *ret = '\a';
        break;
    default:
        *ret = p[1];
    }
    return 2;
}

/* One word, with redis-cli's quoting: "..." knows escapes, '...' only \', and a closing quote ends
 * the word. Returns the byte behind the word, or NULL for unbalanced quotes. *out moves behind what
 * was written. */
static const char *inline_word(const char *p, const char *end, char **out) {
    char quote = 0, *o = *out;
    while (p < end) {
        if (!quote) {
            if (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n') {
                break;
            }
            if (*p == '"' || *p == '\'') {
                quote = *p++;
                continue;
            }
        } else if (*p == quote) {
            if (p + 1 < end && !is_space(p[1])) {
                return NULL;
            }
            *out = o;
            return p + 1;
        } else if (*p == '\\' && p + 1 < end && (quote == '"' || p[1] == '\'')) {
            p += inline_escape(p, end, o++);
            continue;
        }
        *o++ = *p++;
    }
    *out = o;
    return quote ? NULL : p;
}

static int read_inline(struct resp_reader *r, const char *data, size_t len) {
    size_t most = (size_t)r->limits.max_inline + 1;
    size_t n = len < most ? len : most;
    const char *newline = n > r->pos ? memchr(data + r->pos, '\n', n - r->pos) : NULL;
    if (!newline) {
        r->pos = n;
        return len >= most ? reader_error(r, "too big inline request") : reader_more(r, len + 1);
    }
    size_t line = (size_t)(newline - data);
    const char *p = data, *end = data + line;
    if (end > p && end[-1] == '\r') {
        end--;
    }
    r->words.head = r->words.tail = 0;
    r->argc = 0;
    char *out = buf_room(&r->words, line + 1);
    if (!out) {
        return -ENOMEM;
    }
    for (;;) {
        while (p < end && is_space(*p)) {
            p++;
        }
        if (p == end) {
            return reader_done(r, line + 1);
        }
        if (r->argc == r->limits.max_args) {
            return reader_error(r, "too big inline request");
        }
        if (r->argc == r->cap && reader_grow(r) != 0) {
            return -ENOMEM;
        }
        char *word = out;
        p = inline_word(p, end, &out);
        if (!p) {
            return reader_error(r, "unbalanced quotes in request");
        }
        r->argv[r->argc++] = (struct resp_arg){word, (size_t)(out - word)};
    }
}

int resp_read(struct resp_reader *r, const char *data, size_t len) {
    if (__builtin_expect(r->error != NULL, 0)) {
        return RESP_E_PROTO;
    }
    if (r->pos == 0) {
        if (__builtin_expect(r->cap > ARGS_KEEP, 0)) {
            reader_free_args(r);
        }
        if (__builtin_expect(r->words.cap > WORDS_KEEP, 0)) {
            buf_deinit(&r->words);
        }
        r->argc = 0;
        r->used = 0;
    }
    if (len == 0) {
        return reader_more(r, 1);
    }
    if (len < r->need) {
        return RESP_MORE;
    }
    return data[0] == '*' ? read_multibulk(r, data, len) : read_inline(r, data, len);
}

/* ---- values ---- */

enum {
    ELEMENTS_MAX = 16 * 1024 * 1024,
    BULK_MAX = 512 * 1024 * 1024,
    DOC_FIRST = 8,
    DOC_KEEP = 1024
};

void resp_doc_reset(struct resp_doc *d) {
    d->pos = d->seen = d->need = 0;
    d->depth = 0;
    d->declared = 0;
    d->error = NULL;
}

void resp_doc_deinit(struct resp_doc *d) {
    free(d->v);
    *d = (struct resp_doc){0};
}

static int doc_error(struct resp_doc *d, const char *text) {
    d->error = text;
    return RESP_E_PROTO;
}

static int doc_more(struct resp_doc *d, size_t need) {
    d->need = need;
    return RESP_MORE;
}

static int doc_add(struct resp_doc *d, const struct resp_value *v) {
    if (d->n == d->cap) {
        size_t cap = d->cap ? (size_t)d->cap * 2 : DOC_FIRST;
        struct resp_value *grown = realloc(d->v, cap * sizeof(*grown));
        if (!grown) {
            return -ENOMEM;
        }
        d->v = grown;
        d->cap = (uint32_t)cap;
    }
    d->v[d->n] = *v;
    d->v[d->n].next = d->n + 1;
    d->n++;
    return RESP_OK;
}

static bool parse_double(const char *text, size_t len, double *ret) {
    char copy[64];
    if (len == 0 || len >= sizeof(copy) || is_space(text[0])) {
        return false;
    }
    memcpy(copy, text, len);
    copy[len] = '\0';
    /* The application's locale may write 1,5. glibc's "C" locale is static: nothing is allocated.
     */
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c == (locale_t)0) {
        return false;
    }
    char *end;
    double v = strtod_l(copy, &end, c);
    freelocale(c);
    if (end != copy + len) {
        return false;
    }
    *ret = v;
    return true;
}

static bool parse_int(const char *text, size_t len, int64_t *ret) {
    bool plus = len > 1 && text[0] == '+' && text[1] != '-';
    return num_i64(text + plus, len - plus, ret) == 0;
}

/* A value that is one line: text between its type byte and its CRLF. Fills v; NULL, or what is
 * wrong. */
static const char *parse_line(struct resp_value *v, const char *text, size_t len) {
    v->data = text;
    v->len = len;
    switch (v->type) {
    case RESP_INT:
        return parse_int(text, len, &v->integer) ? NULL : "invalid integer";
    case RESP_DOUBLE:
        return parse_double(text, len, &v->number) ? NULL : "invalid double";
    case RESP_BOOL:
        v->integer = len == 1 && text[0] == 't';
        return len == 1 && (text[0] == 't' || text[0] == 'f') ? NULL : "invalid boolean";
    case RESP_NULL:
        v->data = NULL;
        return len == 0 ? NULL : "invalid null";
    case RESP_BIG: {
        size_t sign = len && (text[0] == '-' || text[0] == '+');
        for (size_t i = sign; i < len; i++) {
            if (text[i] < '0' || text[i] > '9') {
                return "invalid big number";
            }
        }
        return len > sign ? NULL : "invalid big number";
    }
    default:
        return NULL;
    }
}

static int parse_scalar_line(struct resp_doc *d, struct resp_value *v, const char *data,
                             size_t len) {
    size_t from = d->seen > d->pos ? d->seen : d->pos + 1;
    const char *newline = len > from ? memchr(data + from, '\n', len - from) : NULL;
    if (!newline) {
        d->seen = len;
        return doc_more(d, len + 1);
    }
    size_t begin = d->pos + 1, end = (size_t)(newline - data);
    if (end == begin || data[end - 1] != '\r') {
        return doc_error(d, "line not ended by CRLF");
    }
    const char *wrong = parse_line(v, data + begin, end - 1 - begin);
    if (wrong) {
        return doc_error(d, wrong);
    }
    int e = doc_add(d, v);
    if (e == RESP_OK) {
        d->pos = end + 1;
    }
    return e;
}

static int parse_bulk(struct resp_doc *d, struct resp_value *v, const char *data, size_t len,
                      size_t begin, int64_t size) {
    if (size > BULK_MAX) {
        return doc_error(d, "invalid bulk length");
    }
    size_t end = begin + (size_t)size;
    if (end + 2 > len) {
        return doc_more(d, end + 2);
    }
    if (data[end] != '\r' || data[end + 1] != '\n') {
        return doc_error(d, "bulk string not followed by CRLF");
    }
    v->data = data + begin;
    v->len = (size_t)size;
    if (v->type == RESP_VERBATIM) {
        if (size < 4 || v->data[3] != ':') {
            return doc_error(d, "invalid verbatim string");
        }
        v->data += 4;
        v->len -= 4;
    }
    int e = doc_add(d, v);
    if (e == RESP_OK) {
        d->pos = end + 2;
    }
    return e;
}

/* Attributes are parsed as containers like any other, then dropped by doc_close(). */
static int parse_container(struct resp_doc *d, struct resp_value *v, size_t begin, int64_t size) {
    bool attribute = v->type == '|';
    uint64_t elements = (uint64_t)size * (v->type == RESP_MAP || attribute ? 2 : 1);
    if (elements > ELEMENTS_MAX - d->declared) {
        return doc_error(d, "too many elements");
    }
    v->count = (uint32_t)elements;
    if (elements && d->depth == RESP_DEPTH) {
        return doc_error(d, "nested too deep");
    }
    if (elements || !attribute) {
        int e = doc_add(d, v);
        if (e != RESP_OK) {
            return e;
        }
    }
    if (elements) {
        d->level[d->depth++] = (struct resp_level){d->n - 1, v->count, attribute};
    }
    d->declared += elements;
    d->pos = begin;
    return RESP_OK;
}

static int parse_headed(struct resp_doc *d, struct resp_value *v, const char *data, size_t len) {
    bool bulk = v->type == RESP_BULK || v->type == RESP_BLOB_ERROR || v->type == RESP_VERBATIM;
    int64_t size;
    size_t line;
    switch (scan_length(data + d->pos + 1, len - d->pos - 1, &size, &line)) {
    case LENGTH_OK:
        break;
    case LENGTH_MORE:
        return doc_more(d, len + 1);
    default:
        return doc_error(d, bulk ? "invalid bulk length" : "invalid multibulk length");
    }
    size_t begin = d->pos + 1 + line;
    if (size == -1 && (v->type == RESP_BULK || v->type == RESP_ARRAY)) {
        v->type = RESP_NULL;
        int e = doc_add(d, v);
        if (e == RESP_OK) {
            d->pos = begin;
        }
        return e;
    }
    if (size < 0) {
        return doc_error(d, bulk ? "invalid bulk length" : "invalid multibulk length");
    }
    return bulk ? parse_bulk(d, v, data, len, begin, size) : parse_container(d, v, begin, size);
}

static int parse_one(struct resp_doc *d, const char *data, size_t len) {
    if (d->pos >= len) {
        return doc_more(d, d->pos + 1);
    }
    struct resp_value v = {.type = (uint8_t)data[d->pos]};
    switch (v.type) {
    case RESP_SIMPLE:
    case RESP_ERROR:
    case RESP_INT:
    case RESP_NULL:
    case RESP_DOUBLE:
    case RESP_BOOL:
    case RESP_BIG:
        return parse_scalar_line(d, &v, data, len);
    case RESP_BULK:
    case RESP_BLOB_ERROR:
    case RESP_VERBATIM:
    case RESP_ARRAY:
    case RESP_MAP:
    case RESP_SET:
    case RESP_PUSH:
    case '|':
        return parse_headed(d, &v, data, len);
    default:
        return doc_error(d, "unknown type byte");
    }
}

/* After a value without elements: closes the containers that end with it. True when the message is
 * whole. */
static bool doc_close(struct resp_doc *d) {
    while (d->depth) {
        struct resp_level *l = &d->level[d->depth - 1];
        if (--l->left) {
            return false;
        }
        d->depth--;
        if (l->attribute) {
            d->n = l->index; /* not a value: the one it describes is still to come */
            return false;
        }
        d->v[l->index].next = d->n;
    }
    return d->n != 0;
}

static void doc_begin(struct resp_doc *d) {
    if (d->cap > DOC_KEEP) {
        free(d->v);
        d->v = NULL;
        d->cap = 0;
    }
    d->n = 0;
    d->used = 0;
    resp_doc_reset(d);
}

static void doc_rebase(struct resp_doc *d, const char *data) {
    for (uint32_t i = 0; i < d->n; i++) {
        if (d->v[i].data) {
            d->v[i].data = data + ((uintptr_t)d->v[i].data - (uintptr_t)d->base);
        }
    }
}

int resp_parse(struct resp_doc *d, const char *data, size_t len) {
    if (d->error) {
        return RESP_E_PROTO;
    }
    if (d->pos == 0) {
        size_t seen = d->seen;
        doc_begin(d);
        d->seen = seen;
    } else if (d->base != data) {
        doc_rebase(d, data);
    }
    d->base = data;
    for (;;) {
        uint32_t depth = d->depth, n = d->n;
        int e = parse_one(d, data, len);
        if (e != RESP_OK) {
            return e;
        }
        bool opened = d->depth > depth, attribute_only = d->n == n;
        if (!opened && !attribute_only && doc_close(d)) {
            break;
        }
    }
    d->used = d->pos;
    d->pos = d->seen = d->need = 0;
    return RESP_OK;
}
