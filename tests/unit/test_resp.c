/* SPDX-License-Identifier: MIT */
/* The codec, held against the protocol's text. Every message that appears here is also fed cut in
 * two at each of its bytes, and byte by byte, from memory of exactly that size (so that a sanitizer
 * sees a read too far): how a stream is cut into reads must not matter. */
#include "lib/wire/resp.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(resp, .timeout = 30);

/* A string literal with its length: messages hold NUL bytes. */
#define S(text) (text), sizeof(text) - 1

static char *exact_copy(const char *data, size_t len) {
    char *copy = malloc(len ? len : 1);
    cr_assert_not_null(copy);
    return memcpy(copy, data, len);
}

/* Appends what the reader found, as "<used> [word][word]" or "error: text". */
static void tell_request(struct buf *b, const struct resp_reader *r, int result) {
    if (result == RESP_OK) {
        buf_printf(b, "%zu ", r->used);
        for (uint32_t i = 0; i < r->argc; i++) {
            buf_append(b, "[", 1);
            buf_append(b, r->argv[i].data, r->argv[i].len);
            buf_append(b, "]", 1);
        }
    } else if (result == RESP_MORE) {
        buf_printf(b, "more %zu", r->need);
    } else {
        buf_printf(b, "error: %s", r->error);
    }
}

static int read_copy(struct resp_reader *r, const char *data, size_t len, struct buf *told) {
    char *copy = exact_copy(data, len);
    int result = resp_read(r, copy, len);
    told->head = told->tail = 0;
    tell_request(told, r, result);
    free(copy);
    return result;
}

static void check_told(const struct buf *told, const char *want, size_t want_len, size_t cut) {
    cr_assert(buf_len(told) == want_len && memcmp(buf_head(told), want, want_len) == 0,
              "cut at %zu: got \"%.*s\", want \"%s\"", cut, (int)buf_len(told), buf_head(told),
              want);
}

/* Reads data whole, cut in two at every byte, and byte by byte. */
static void expect_request(const struct resp_limits *limits, const char *data, size_t len,
                           const char *want, size_t want_len) {
    struct buf told = BUF_INIT;
    for (size_t cut = 0; cut <= len + 1; cut++) {
        struct resp_reader r;
        resp_reader_init(&r, limits);
        int result = RESP_MORE;
        size_t n = cut <= len ? cut : 0, step = cut <= len ? len - cut : 1;
        for (;;) {
            result = read_copy(&r, data, n, &told);
            if (result != RESP_MORE || n == len) {
                break;
            }
            cr_assert_gt(r.need, n);
            n += step ? step : 1;
        }
        check_told(&told, want, want_len, cut);
        if (result == RESP_E_PROTO) {
            cr_assert_eq(resp_read(&r, data, len), RESP_E_PROTO, "an error is for good");
        }
        resp_reader_deinit(&r);
    }
    buf_deinit(&told);
}

#define REQUEST(data, want)         expect_request(NULL, S(data), S(want))
#define LIMITED(limits, data, want) expect_request((limits), S(data), S(want))

Test(resp, requests) {
    REQUEST("*1\r\n$4\r\nPING\r\n", "14 [PING]");
    REQUEST("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n", "26 [SET][k][]");
    REQUEST("*2\r\n$4\r\nECHO\r\n$6\r\n\r\n\0$1\r\r\n", "26 [ECHO][\r\n\0$1\r]");
    REQUEST("*12\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n$1\r\ne\r\n$1\r\nf\r\n$1\r\ng\r\n$"
            "1\r\nh\r\n"
            "$1\r\ni\r\n$1\r\nj\r\n$1\r\nk\r\n$11\r\nlllllllllll\r\n",
            "100 [a][b][c][d][e][f][g][h][i][j][k][lllllllllll]");
    REQUEST("*0\r\n", "4 ");
    REQUEST("*-1\r\n", "5 ");
    REQUEST("\r\n", "2 ");
    REQUEST("\n", "1 ");
    REQUEST("  \t \r\n", "6 ");
}

Test(resp, only_the_first_message_is_taken) {
    static const char two[] = "*1\r\n$1\r\na\r\nPING b\r\n*1\r\n$1\r\nc\r\n";
    struct resp_reader r;
    resp_reader_init(&r, NULL);
    const char *p = two;
    size_t len = sizeof(two) - 1;
    static const char *const first[] = {"a", "PING", "c"};
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(resp_read(&r, p, len), RESP_OK);
        cr_assert(resp_is(&r.argv[0], first[i]));
        p += r.used;
        len -= r.used;
    }
    cr_assert_eq(len, 0);
    cr_assert_eq(resp_read(&r, p, 0), RESP_MORE);
    resp_reader_deinit(&r);
}

Test(resp, request_errors_in_the_words_of_redis) {
    REQUEST("*x\r\n", "error: invalid multibulk length");
    REQUEST("*\r\n", "error: invalid multibulk length");
    REQUEST("*-\r\n", "error: invalid multibulk length");
    REQUEST("*-0\r\n", "error: invalid multibulk length");
    REQUEST("*01\r\n", "error: invalid multibulk length");
    REQUEST("* 1\r\n", "error: invalid multibulk length");
    REQUEST("*+1\r\n", "error: invalid multibulk length");
    REQUEST("*1 \r\n", "error: invalid multibulk length");
    REQUEST("*1\rx", "error: invalid multibulk length");
    REQUEST("*1048577\r\n", "error: invalid multibulk length");
    REQUEST("*2147483648\r\n", "error: invalid multibulk length");
    REQUEST("*4294967297\r\n", "error: invalid multibulk length");
    REQUEST("*9223372036854775807\r\n", "error: invalid multibulk length");
    REQUEST("*18446744073709551617\r\n", "error: invalid multibulk length");
    REQUEST("*00000000000000000000000000000000000000", "error: too big mbulk count string");
    REQUEST("*-11111111111111111111111111111111111111", "error: too big mbulk count string");
    REQUEST("*1\r\n$11111111111111111111111111111111111", "error: too big bulk count string");
    REQUEST("*1\r\n$x\r\n", "error: invalid bulk length");
    REQUEST("*1\r\n$-1\r\n", "error: invalid bulk length");
    REQUEST("*1\r\n$18446744073709551615\r\n", "error: invalid bulk length");
    REQUEST("*1\r\n$999999999999999999\r\n", "error: invalid bulk length");
    REQUEST("*1\r\n$67174401\r\n", "error: invalid bulk length");
    REQUEST("*1\r\n:4\r\n", "error: expected '$', got ':'");
    REQUEST("*1\r\n\r\n", "error: expected '$', got '?'");
    REQUEST("*1\r\n\xff", "error: expected '$', got '?'");
    REQUEST("*2\r\n$1\r\na\r\n*", "error: expected '$', got '*'");
    REQUEST("*1\r\n$1\r\nabc", "error: bulk string not followed by CRLF");
    REQUEST("*1\r\n$1\r\na\rc", "error: bulk string not followed by CRLF");
}

Test(resp, unfinished_requests_say_what_they_need) {
    REQUEST("", "more 1");
    REQUEST("*", "more 2");
    REQUEST("*1\r", "more 4");
    REQUEST("*1\r\n", "more 5");
    REQUEST("*1\r\n$5\r\n", "more 15");
    REQUEST("*1\r\n$5\r\nhello\r", "more 15");
    REQUEST("*1\r\n$67174400\r\n", "more 67174417");
    REQUEST("PING", "more 5");
}

Test(resp, limits) {
    struct resp_limits l = {.max_args = 3, .max_bulk = 10, .max_total = 40, .max_inline = 8};
    LIMITED(&l, "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n", "25 [a][b][c]");
    LIMITED(&l, "*4\r\n$1\r\na\r\n", "error: invalid multibulk length");
    LIMITED(&l, "*1\r\n$10\r\n0123456789\r\n", "21 [0123456789]");
    LIMITED(&l, "*1\r\n$11\r\n0123456789a\r\n", "error: invalid bulk length");
    LIMITED(&l, "*2\r\n$10\r\n0123456789\r\n$10\r\n0123456789\r\n", "38 [0123456789][0123456789]");
    LIMITED(&l, "*3\r\n$10\r\n0123456789\r\n$10\r\n0123456789\r\n$1\r\n", "error: too big request");
    LIMITED(&l, "abcdefgh\n", "9 [abcdefgh]");
    LIMITED(&l, "abcdefg\r\n", "9 [abcdefg]");
    LIMITED(&l, "abcdefghi\n", "error: too big inline request");
    LIMITED(&l, "abcdefghijklm", "error: too big inline request");
    LIMITED(&l, "a b c\n", "6 [a][b][c]");
    LIMITED(&l, "a b c d\n", "error: too big inline request");
}

Test(resp, inline_words) {
    REQUEST("PING\r\n", "6 [PING]");
    REQUEST("  SET  k\tv  \n", "13 [SET][k][v]");
    REQUEST("a\0b \0\r\n", "7 [a\0b][\0]");
    REQUEST("s \"a b\" 'c d'\r\n", "15 [s][a b][c d]");
    REQUEST("s \"\" ''\r\n", "9 [s][][]");
    REQUEST("s \"\\n\\r\\t\\b\\a\\\\\\\"\\q\"\r\n", "22 [s][\n\r\t\b\a\\\"q]");
    REQUEST("s \"\\x41\\x0a\\xfF\\xzz\\x1\"\r\n", "25 [s][A\n\xffxzzx1]");
    REQUEST("s 'a\\'b\\n\\ '\r\n", "14 [s][a'b\\n\\ ]");
    REQUEST("foo\"bar baz\"\r\n", "14 [foobar baz]");
    REQUEST("back\\slash\r\n", "12 [back\\slash]");
    REQUEST("s \"a\r\n", "error: unbalanced quotes in request");
    REQUEST("s 'a\r\n", "error: unbalanced quotes in request");
    REQUEST("s \"a\"b\r\n", "error: unbalanced quotes in request");
    REQUEST("s 'a'b\r\n", "error: unbalanced quotes in request");
    REQUEST("s \"a\\\"\r\n", "error: unbalanced quotes in request");
    REQUEST("s \"a\\\r\n", "error: unbalanced quotes in request");
    REQUEST("GET / HTTP/1.1\r\n", "16 [GET][/][HTTP/1.1]");
}

/* A request in pieces of one word each must cost what one in a single piece costs: nothing is read
 * twice. */
Test(resp, many_words_in_many_pieces) {
    enum { WORDS = 100000 };
    struct buf b = BUF_INIT;
    resp_put_array(&b, WORDS);
    for (int i = 0; i < WORDS; i++) {
        resp_put_textf(&b, "%d", i);
    }
    struct resp_reader r;
    resp_reader_init(&r, NULL);
    size_t n = 0;
    int result;
    while ((result = resp_read(&r, buf_head(&b), n)) == RESP_MORE) {
        n = r.need;
        cr_assert_leq(n, buf_len(&b));
    }
    cr_assert_eq(result, RESP_OK);
    cr_assert_eq(r.argc, WORDS);
    cr_assert_eq(r.used, buf_len(&b));
    cr_assert(resp_is(&r.argv[0], "0") && resp_is(&r.argv[WORDS - 1], "99999"));
    cr_assert_eq(resp_read(&r, S("PING\r\n")), RESP_OK);
    cr_assert_leq(r.cap, 1024, "the room for many words is given back");
    resp_reader_deinit(&r);
    buf_deinit(&b);
}

Test(resp, a_head_alone_takes_no_memory) {
    struct resp_reader r;
    resp_reader_init(&r, NULL);
    cr_assert_eq(resp_read(&r, S("*1048576\r\n")), RESP_MORE);
    cr_assert_eq(r.cap, 0);
    resp_reader_deinit(&r);
    struct resp_doc d = {0};
    cr_assert_eq(resp_parse(&d, S("*16777216\r\n")), RESP_MORE);
    cr_assert_leq(d.cap, 8);
    resp_doc_deinit(&d);
}

/* ---- values ---- */

/* Appends the tree as text, reading it by count and next both, which must agree. */
static void tell_value(struct buf *b, const struct resp_doc *d, uint32_t i) {
    const struct resp_value *v = &d->v[i];
    buf_append(b, &v->type, 1);
    switch (v->type) {
    case RESP_ARRAY:
    case RESP_MAP:
    case RESP_SET:
    case RESP_PUSH:
        buf_append(b, "(", 1);
        uint32_t at = i + 1;
        for (uint32_t k = 0; k < v->count; k++) {
            cr_assert_lt(at, d->n);
            tell_value(b, d, at);
            at = d->v[at].next;
        }
        cr_assert_eq(at, v->next);
        buf_append(b, ")", 1);
        return;
    case RESP_NULL:
        cr_assert_null(v->data);
        break;
    case RESP_INT:
    case RESP_BOOL:
        buf_printf(b, "%lld", (long long)v->integer);
        break;
    case RESP_DOUBLE:
        buf_printf(b, "%g", v->number);
        break;
    default:
        buf_append(b, v->data, v->len);
    }
    buf_append(b, " ", 1);
    cr_assert_eq(v->next, i + 1);
}

static void tell_doc(struct buf *b, const struct resp_doc *d, int result) {
    if (result == RESP_OK) {
        cr_assert_eq(d->v[0].next, d->n);
        tell_value(b, d, 0);
    } else if (result == RESP_MORE) {
        buf_printf(b, "more %zu", d->need);
    } else {
        buf_printf(b, "error: %s", d->error);
    }
}

static void expect_value(const char *data, size_t len, const char *want, size_t want_len) {
    struct buf told = BUF_INIT;
    for (size_t cut = 0; cut <= len + 1; cut++) {
        struct resp_doc d = {0};
        char *copy = NULL;
        size_t n = cut <= len ? cut : 0, step = cut <= len ? len - cut : 1;
        int result;
        for (;;) {
            char *moved = exact_copy(data, n);
            free(copy);
            copy = moved;
            result = resp_parse(&d, copy, n);
            if (result != RESP_MORE || n == len) {
                break;
            }
            cr_assert_gt(d.need, n);
            n += step ? step : 1;
        }
        told.head = told.tail = 0;
        tell_doc(&told, &d, result);
        check_told(&told, want, want_len, cut);
        if (result == RESP_OK) {
            cr_assert_eq(d.used, n);
        }
        free(copy);
        resp_doc_deinit(&d);
    }
    buf_deinit(&told);
}

#define VALUE(data, want) expect_value(S(data), S(want))

Test(resp, values_of_every_type) {
    VALUE("+OK\r\n", "+OK ");
    VALUE("+\r\n", "+ ");
    VALUE("-ERR no such thing\r\n", "-ERR no such thing ");
    VALUE(":0\r\n", ":0 ");
    VALUE(":+7\r\n", ":7 ");
    VALUE(":9223372036854775807\r\n", ":9223372036854775807 ");
    VALUE(":-9223372036854775808\r\n", ":-9223372036854775808 ");
    VALUE("$5\r\na\r\nb\0\r\n", "$a\r\nb\0 ");
    VALUE("$0\r\n\r\n", "$ ");
    VALUE("$-1\r\n", "_ ");
    VALUE("*-1\r\n", "_ ");
    VALUE("_\r\n", "_ ");
    VALUE(",1.5\r\n", ",1.5 ");
    VALUE(",-2e3\r\n", ",-2000 ");
    VALUE(",inf\r\n", ",inf ");
    VALUE(",-inf\r\n", ",-inf ");
    VALUE("#t\r\n", "#1 ");
    VALUE("#f\r\n", "#0 ");
    VALUE("!8\r\nERR a\r\nb\r\n", "!ERR a\r\nb ");
    VALUE("=7\r\ntxt:abc\r\n", "=abc ");
    VALUE("=4\r\nmkd:\r\n", "= ");
    VALUE("(-123456789012345678901234567890\r\n", "(-123456789012345678901234567890 ");
    VALUE("*0\r\n", "*()");
    VALUE("*3\r\n:1\r\n*2\r\n+a\r\n*0\r\n$1\r\nb\r\n", "*(:1 *(+a *())$b )");
    VALUE("%2\r\n+a\r\n:1\r\n+b\r\n%0\r\n", "%(+a :1 +b %())");
    VALUE("~2\r\n#t\r\n_\r\n", "~(#1 _ )");
    VALUE(">2\r\n$4\r\ndone\r\n%1\r\n:1\r\n:2\r\n", ">($done %(:1 :2 ))");
}

Test(resp, attributes_are_skipped) {
    VALUE("|1\r\n+ttl\r\n:3\r\n$1\r\na\r\n", "$a ");
    VALUE("|0\r\n+a\r\n", "+a ");
    VALUE("*2\r\n|1\r\n+k\r\n*2\r\n:1\r\n:2\r\n:5\r\n:6\r\n", "*(:5 :6 )");
    VALUE("|1\r\n|1\r\n:1\r\n:2\r\n+k\r\n%1\r\n:1\r\n:2\r\n|0\r\n*0\r\n", "*()");
    VALUE("|1\r\n+k\r\n+v\r\n", "more 13");
}

Test(resp, value_errors) {
    VALUE("?\r\n", "error: unknown type byte");
    VALUE("\r\n", "error: unknown type byte");
    VALUE("*1\r\nx", "error: unknown type byte");
    VALUE(":\r\n", "error: invalid integer");
    VALUE(":1x\r\n", "error: invalid integer");
    VALUE(":+-1\r\n", "error: invalid integer");
    VALUE(":9223372036854775808\r\n", "error: invalid integer");
    VALUE(",\r\n", "error: invalid double");
    VALUE(",1.5x\r\n", "error: invalid double");
    VALUE(", 1\r\n", "error: invalid double");
    VALUE("#x\r\n", "error: invalid boolean");
    VALUE("#\r\n", "error: invalid boolean");
    VALUE("_x\r\n", "error: invalid null");
    VALUE("(\r\n", "error: invalid big number");
    VALUE("(-\r\n", "error: invalid big number");
    VALUE("(1.0\r\n", "error: invalid big number");
    VALUE("=3\r\nabc\r\n", "error: invalid verbatim string");
    VALUE("=4\r\nabcd\r\n", "error: invalid verbatim string");
    VALUE("+a\n", "error: line not ended by CRLF");
    VALUE("+\n", "error: line not ended by CRLF");
    VALUE("$x\r\n", "error: invalid bulk length");
    VALUE("$-2\r\n", "error: invalid bulk length");
    VALUE("!-1\r\n", "error: invalid bulk length");
    VALUE("=-1\r\n", "error: invalid bulk length");
    VALUE("$536870913\r\n", "error: invalid bulk length");
    VALUE("$1\r\nabc", "error: bulk string not followed by CRLF");
    VALUE("*-2\r\n", "error: invalid multibulk length");
    VALUE("%-1\r\n", "error: invalid multibulk length");
    VALUE("*?\r\n", "error: invalid multibulk length");
    VALUE("*16777217\r\n", "error: too many elements");
    VALUE("%8388609\r\n", "error: too many elements");
    VALUE("*2\r\n*16777215\r\n", "error: too many elements");
    VALUE("*999999999999999999\r\n", "error: too many elements");
    VALUE("$536870912\r\n", "more 536870926");
}

Test(resp, depth) {
    struct buf b = BUF_INIT;
    for (int extra = 0; extra <= 1; extra++) {
        b.head = b.tail = 0;
        for (int i = 0; i < RESP_DEPTH + extra; i++) {
            resp_put_array(&b, 1);
        }
        resp_put_array(&b, 0);
        struct resp_doc d = {0};
        int result = resp_parse(&d, buf_head(&b), buf_len(&b));
        cr_assert_eq(result, extra ? RESP_E_PROTO : RESP_OK);
        if (extra) {
            cr_assert_str_eq(d.error, "nested too deep");
        } else {
            cr_assert_eq(d.n, RESP_DEPTH + 1);
        }
        resp_doc_deinit(&d);
    }
    buf_deinit(&b);
}

Test(resp, reset_forgets_half_a_message) {
    struct resp_doc d = {0};
    cr_assert_eq(resp_parse(&d, S("*2\r\n+a\r\n")), RESP_MORE);
    resp_doc_reset(&d);
    cr_assert_eq(resp_parse(&d, S(":5\r\n")), RESP_OK);
    cr_assert(d.n == 1 && d.v[0].integer == 5 && d.used == 4);
    cr_assert_eq(resp_parse(&d, S("?")), RESP_E_PROTO);
    cr_assert_eq(resp_parse(&d, S(":5\r\n")), RESP_E_PROTO);
    resp_doc_reset(&d);
    cr_assert_eq(resp_parse(&d, S(":6\r\n")), RESP_OK);
    resp_doc_deinit(&d);
}

/* ---- writing ---- */

static void check_put(struct buf *b, int result, const char *want, size_t len) {
    cr_assert_eq(result, 0);
    cr_assert(buf_len(b) == len && memcmp(buf_head(b), want, len) == 0, "got \"%.*s\", want \"%s\"",
              (int)buf_len(b), buf_head(b), want);
    buf_deinit(b);
}
#define PUT(want, call) check_put(&b, (call), S(want))

Test(resp, put) {
    struct buf b = BUF_INIT;
    PUT("+OK\r\n", resp_put_simple(&b, "OK"));
    PUT("-ERR a  b c\r\n", resp_put_error(&b, "ERR a\r\nb\nc"));
    PUT("-ERR unknown  '7'\r\n", resp_put_errorf(&b, "ERR unknown \n'%d'", 7));
    PUT(":0\r\n", resp_put_int(&b, 0));
    PUT(":10\r\n", resp_put_int(&b, 10));
    PUT(":-1\r\n", resp_put_int(&b, -1));
    PUT(":9223372036854775807\r\n", resp_put_int(&b, INT64_MAX));
    PUT(":-9223372036854775808\r\n", resp_put_int(&b, INT64_MIN));
    PUT("$0\r\n\r\n", resp_put_bulk(&b, NULL, 0));
    PUT("$3\r\na\0b\r\n", resp_put_bulk(&b, "a\0b", 3));
    PUT("$2\r\nhi\r\n", resp_put_text(&b, "hi"));
    PUT("$4\r\nx\r\n1\r\n", resp_put_textf(&b, "%s\r\n%d", "x", 1));
    PUT("$1234\r\n", resp_put_bulk_head(&b, 1234));
    PUT("*4294967295\r\n", resp_put_array(&b, UINT32_MAX));
    PUT("*8589934590\r\n", resp_put_map(&b, 2, UINT32_MAX));
    PUT("*3\r\n$4\r\nPING\r\n$0\r\n\r\n$2\r\nhi\r\n", resp_put_command(&b, "PING", "", "hi", NULL));
}

Test(resp, put_both_protocols) {
    struct buf b = BUF_INIT;
    PUT("*4\r\n", resp_put_map(&b, 2, 2));
    PUT("%2\r\n", resp_put_map(&b, 3, 2));
    PUT("*2\r\n", resp_put_set(&b, 2, 2));
    PUT("~2\r\n", resp_put_set(&b, 3, 2));
    PUT("*2\r\n", resp_put_push(&b, 2, 2));
    PUT(">2\r\n", resp_put_push(&b, 3, 2));
    PUT("$-1\r\n", resp_put_null(&b, 2));
    PUT("_\r\n", resp_put_null(&b, 3));
    PUT("*-1\r\n", resp_put_null_array(&b, 2));
    PUT("_\r\n", resp_put_null_array(&b, 3));
    PUT(":1\r\n", resp_put_bool(&b, 2, true));
    PUT(":0\r\n", resp_put_bool(&b, 2, false));
    PUT("#t\r\n", resp_put_bool(&b, 3, true));
    PUT("#f\r\n", resp_put_bool(&b, 3, false));
    PUT("$3\r\n1.5\r\n", resp_put_double(&b, 2, 1.5));
    PUT(",1.5\r\n", resp_put_double(&b, 3, 1.5));
    PUT(",0.1\r\n", resp_put_double(&b, 3, 0.1));
    PUT(",3\r\n", resp_put_double(&b, 3, 3));
    PUT(",inf\r\n", resp_put_double(&b, 3, INFINITY));
    PUT("$4\r\n-inf\r\n", resp_put_double(&b, 2, -INFINITY));
    PUT(",nan\r\n", resp_put_double(&b, 3, NAN));
}

Test(resp, long_formats) {
    struct buf b = BUF_INIT;
    char text[1001];
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    text[700] = '\n';
    cr_assert_eq(resp_put_textf(&b, "%s", text), 0);
    cr_assert_eq(buf_len(&b), 7 + 1000 + 2);
    cr_assert_eq(memcmp(buf_head(&b), "$1000\r\n", 7), 0);
    cr_assert_eq(memcmp(buf_head(&b) + 7, text, 1000), 0);
    buf_deinit(&b);
    cr_assert_eq(resp_put_errorf(&b, "%s", text), 0);
    cr_assert_eq(buf_len(&b), 1 + 1000 + 2);
    cr_assert_eq(buf_head(&b)[701], ' ');
    buf_deinit(&b);
}

Test(resp, is_ignores_case) {
    struct resp_arg a = {"TiMeOuT", 7};
    cr_assert(resp_is(&a, "TIMEOUT") && resp_is(&a, "timeout"));
    cr_assert(!resp_is(&a, "timeou") && !resp_is(&a, "timeouts") && !resp_is(&a, ""));
    cr_assert(resp_is(&(struct resp_arg){"", 0}, ""));
    cr_assert(!resp_is(&(struct resp_arg){"[", 1}, "{"), "only letters have case");
}

/* ---- what is written reads back the same ---- */

static uint64_t rng = 88172645463325252;
static uint32_t rnd(uint32_t below) {
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)(rng >> 33) % below;
}

/* Writes a random value in RESP3 and what tell_value() will say of it. */
static void put_random(struct buf *b, struct buf *told, int depth) {
    char bytes[40];
    size_t len = rnd(sizeof(bytes));
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (char)rnd(256);
    }
    static const char types[] = "$$:#_,*%~>";
    char type = types[rnd(depth < 6 ? 10 : 6)];
    uint32_t n = rnd(5);
    buf_append(told, &type, 1);
    switch (type) {
    case '$':
        resp_put_bulk(b, bytes, len);
        buf_append(told, bytes, len);
        break;
    case ':': {
        int64_t v = (int64_t)(rng >> rnd(64)) * (rnd(2) ? 1 : -1);
        resp_put_int(b, v);
        buf_printf(told, "%lld", (long long)v);
        break;
    }
    case '#':
        resp_put_bool(b, 3, n & 1);
        buf_printf(told, "%u", n & 1);
        break;
    case '_':
        resp_put_null(b, 3);
        break;
    case ',': {
        double v = (double)rng / (1 + rnd(1000000));
        resp_put_double(b, 3, v);
        buf_printf(told, "%g", v);
        break;
    }
    default:
        if (type == '*') {
            resp_put_array(b, n);
        } else if (type == '~') {
            resp_put_set(b, 3, n);
        } else if (type == '>') {
            resp_put_push(b, 3, n);
        } else {
            resp_put_map(b, 3, n);
            n *= 2;
        }
        buf_append(told, "(", 1);
        while (n--) {
            put_random(b, told, depth + 1);
        }
        buf_append(told, ")", 1);
        return;
    }
    buf_append(told, " ", 1);
}

Test(resp, random_values_read_back) {
    struct buf b = BUF_INIT, want = BUF_INIT, told = BUF_INIT;
    struct resp_doc d = {0};
    for (int round = 0; round < 5000; round++) {
        b.head = b.tail = want.head = want.tail = told.head = told.tail = 0;
        put_random(&b, &want, 0);
        size_t n = rnd((uint32_t)buf_len(&b));
        cr_assert_eq(resp_parse(&d, buf_head(&b), n), RESP_MORE);
        cr_assert_leq(d.need, buf_len(&b), "no more is asked for than the message has");
        cr_assert_eq(resp_parse(&d, buf_head(&b), buf_len(&b)), RESP_OK);
        cr_assert_eq(d.used, buf_len(&b));
        tell_doc(&told, &d, RESP_OK);
        check_told(&told, buf_head(&want), buf_len(&want), n);
    }
    resp_doc_deinit(&d);
    buf_deinit(&b);
    buf_deinit(&want);
    buf_deinit(&told);
}

Test(resp, random_requests_read_back) {
    struct buf b = BUF_INIT, words = BUF_INIT;
    struct resp_reader r;
    resp_reader_init(&r, NULL);
    for (int round = 0; round < 5000; round++) {
        b.head = b.tail = words.head = words.tail = 0;
        uint32_t n = 1 + rnd(20);
        resp_put_array(&b, n);
        size_t lens[20];
        for (uint32_t i = 0; i < n; i++) {
            char bytes[100];
            lens[i] = rnd(sizeof(bytes));
            for (size_t k = 0; k < lens[i]; k++) {
                bytes[k] = (char)rnd(256);
            }
            resp_put_bulk(&b, bytes, lens[i]);
            buf_append(&words, bytes, lens[i]);
        }
        size_t have = 0;
        int result;
        while ((result = resp_read(&r, buf_head(&b), have)) == RESP_MORE) {
            have += 1 + rnd(30);
            have = have < buf_len(&b) ? have : buf_len(&b);
        }
        cr_assert_eq(result, RESP_OK);
        cr_assert(r.used == buf_len(&b) && r.argc == n);
        const char *p = buf_head(&words);
        for (uint32_t i = 0; i < n; p += lens[i], i++) {
            cr_assert(r.argv[i].len == lens[i] && memcmp(r.argv[i].data, p, lens[i]) == 0);
        }
    }
    resp_reader_deinit(&r);
    buf_deinit(&b);
    buf_deinit(&words);
}

Test(resp, doubles_read_back_exactly) {
    struct buf b = BUF_INIT;
    struct resp_doc d = {0};
    static const double fixed[] = {0.1, 1e300, 5e-324, 1.7976931348623157e308, 1.0 / 3, -0.0};
    for (int i = 0; i < 2000; i++) {
        double v = i < 6 ? fixed[i] : (double)rng / (double)(rng >> rnd(60));
        rnd(2);
        b.head = b.tail = 0;
        resp_put_double(&b, 3, v);
        cr_assert_eq(resp_parse(&d, buf_head(&b), buf_len(&b)), RESP_OK);
        cr_assert(d.v[0].number == v, "%a became %a", v, d.v[0].number);
    }
    resp_doc_deinit(&d);
    buf_deinit(&b);
}
