/* SPDX-License-Identifier: MIT */
/* libhearth on shared objects: the same story over the connection, mapped, and mapped for reading only; who may map; and mapped
 * clients that die. */
#include "client/hearth.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/handle.h"
#include "lib/base/clock.h"
#include "lib/base/fd.h"
#include "lib/shm/op.h"
#include "tests/daemon/pool_support.h"
#include "tests/support/child.h"
#include "tests/support/daemon.h"

static struct daemon d;
static struct hearth *h;

static void begin(void) {
    static const struct daemon_options options = {
        .keep_listening = true,
        .config = "limits = { max_mapped = 3; };\n"
                  "map_users = [ \"@daemon\" ];\n"
                  "map_read_users = [ \"nobody\" ];\n"
                  "lock_timeout = 0.3;\n"
                  "segment_size = \"64M\";\n"
                  "pools = ( { name = \"text\"; workers = 1; module = \"text.so\"; } );\n"};
    cr_assert_eq(daemon_start(&d, &options), 0);
    cr_assert_eq(hearth_connect(d.socket, &h), 0, "%s", daemon_log(&d));
}

static void end(void) {
    hearth_close(h);
    h = NULL;
    cr_expect_eq(daemon_stop(&d), 0);
    child_kill_all();
}

TestSuite(mapped, .init = begin, .fini = end, .timeout = 90);

#define T           hearth_text
#define IS(b, text) ((b).data && (b).len == strlen(text) && memcmp((b).data, text, (b).len) == 0)
#define OK(call)    cr_expect_eq((call), 0, "%s: %s", #call, hearth_errmsg(h))

/* What SEGMENT.CHECK finds. */
static void check(void) {
    const struct hearth_reply *r;
    const char *words[] = {"SEGMENT.CHECK"};
    cr_assert_eq(hearth_command(h, 1, words, NULL, &r), 0);
    cr_expect_eq(hearth_reply_type(r), HEARTH_REPLY_MAP, "%s", hearth_reply_text(r, NULL));
    cr_expect_eq(hearth_reply_int(hearth_reply_get(r, "errors")), 0, "%s",
                 hearth_reply_text(hearth_reply_get(r, "first_error"), NULL));
}

/* ---- one story, three ways ---- */

static void story_of_values(void) {
    struct hearth_bytes b, names[] = {T("v"), T("w"), T("none")};
    enum hearth_object_type type;
    uint64_t n = 0;
    int64_t v = 0;
    cr_expect_eq(hearth_value_get(h, T("v"), &b), HEARTH_E_ABSENT);
    cr_expect_eq(hearth_value_set(h, T("v"), T("x"), HEARTH_IF_PRESENT, 0), HEARTH_E_ABSENT);
    OK(hearth_value_set(h, T("v"), T("hello"), HEARTH_IF_ABSENT, 60000));
    cr_expect_eq(hearth_value_set(h, T("v"), T("x"), HEARTH_IF_ABSENT, 0), HEARTH_E_EXISTS);
    cr_expect_eq(hearth_value_set(h, T("v"), T("x"), HEARTH_KEEP_TTL, 5), -EINVAL);
    OK(hearth_value_append(h, T("v"), T(", world"), &n));
    cr_expect_eq(n, 12);
    OK(hearth_value_get(h, T("v"), &b));
    cr_expect(IS(b, "hello, world"));
    static const struct {
        int64_t from, count;
        const char *text;
    } ranges[] = {{0, -1, "hello, world"},
                  {7, 2, "wo"},
                  {-5, 3, "wor"},
                  {-14, 4, "he"},
                  {-20, 8, ""},
                  {2, 0, ""},
                  {99, 5, ""},
                  {-3, 9, "rld"},
                  {0, INT64_MAX, "hello, world"}};
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        OK(hearth_value_range(h, T("v"), ranges[i].from, ranges[i].count, &b));
        cr_expect(IS(b, ranges[i].text), "range %zu: %s", i, (const char *)b.data);
    }
    cr_expect_eq(hearth_value_add(h, T("v"), 1, &v), HEARTH_E_NUMBER);
    OK(hearth_value_add(h, T("n"), INT64_MAX, &v));
    cr_expect_eq(hearth_value_add(h, T("n"), 1, &v), HEARTH_E_NUMBER);
    cr_expect_eq(v, INT64_MAX);
    OK(hearth_object_ttl(h, T("v"), &v));
    cr_expect(v > 50000 && v <= 60000);
    OK(hearth_object_persist(h, T("v")));
    OK(hearth_object_persist(h, T("v")));
    cr_expect_eq(hearth_object_persist(h, T("none")), HEARTH_E_ABSENT);
    OK(hearth_object_ttl(h, T("v"), &v));
    cr_expect_eq(v, -1);
    cr_expect_eq(hearth_object_ttl(h, T("none"), &v), HEARTH_E_ABSENT);
    OK(hearth_object_type(h, T("v"), &type));
    cr_expect_eq(type, HEARTH_TYPE_VALUE);
    cr_expect_eq(hearth_object_rename(h, T("v"), T("n"), 0), HEARTH_E_EXISTS);
    cr_expect_eq(hearth_object_rename(h, T("none"), T("n"), 1), HEARTH_E_ABSENT);
    OK(hearth_object_rename(h, T("v"), T("w"), 0));
    OK(hearth_object_rename(h, T("w"), T("n"), 1));
    OK(hearth_object_expire(h, T("n"), 0));
    cr_expect_eq(hearth_object_expire(h, T("n"), 1000), HEARTH_E_ABSENT);
    OK(hearth_value_set(h, T("w"), T(""), 0, 0));
    OK(hearth_object_delete(h, names, 3, &n));
    cr_expect_eq(n, 1);
}

/* What cannot be is refused in the same way, and the connection lives. */
static void story_of_wrong_words(void) {
    struct hearth_bytes b, large = {NULL, 65 << 20};
    const struct hearth_bytes *many;
    uint64_t n = 0;
    int flag = 0;
    large.data = calloc(1, large.len);
    cr_assert_not_null(large.data);
    cr_expect_eq(hearth_value_set(h, T("v"), large, 0, 0), -EMSGSIZE);
    cr_expect_eq(hearth_dict_set(h, T("d"), T("f"), large, &flag), -EMSGSIZE);
    cr_expect_eq(hearth_list_push(h, T("l"), HEARTH_LEFT, &large, 1, &n), -EMSGSIZE);
    cr_expect_eq(hearth_list_push(h, T("l"), HEARTH_LEFT, NULL, 0, &n), -EINVAL);
    cr_expect_eq(hearth_dict_get_many(h, T("d"), NULL, 0, &many), -EINVAL);
    cr_expect_eq(hearth_dict_update(h, T("d"), NULL, 0, &n), -EINVAL);
    cr_expect_eq(hearth_dict_delete(h, T("d"), NULL, 0, &n), -EINVAL);
    cr_expect_eq(hearth_dict_add_many(h, T("d"), NULL, NULL, 0), -EINVAL);
    cr_expect_eq(hearth_object_delete(h, NULL, 0, &n), -EINVAL);
    cr_expect_eq(hearth_value_get(h, T("v"), &b), HEARTH_E_ABSENT);
    cr_expect_eq(hearth_value_write(h, T("v"), UINT64_C(1) << 60, T("x"), &n), -EMSGSIZE);
    OK(hearth_value_set(h, T("v"), T("x"), 0, 0));
    OK(hearth_object_expire(h, T("v"), INT64_MAX));
    OK(hearth_value_get(h, T("v"), &b));
    OK(hearth_object_expire(h, T("v"), INT64_MIN));
    cr_expect_eq(hearth_value_get(h, T("v"), &b), HEARTH_E_ABSENT);
    free((void *)large.data);
}

static void story_of_more_values(void) {
    struct hearth_bytes b;
    const struct hearth_bytes *names;
    uint64_t n = 0, cursor = 0;
    size_t count = 0, met = 0;
    double sum = 0;
    int flag = -1;
    OK(hearth_value_exchange(h, T("x"), T("1"), 0, 0, &b));
    cr_expect(!b.data);
    OK(hearth_value_exchange(h, T("x"), T("2"), HEARTH_IF_PRESENT, 60000, &b));
    cr_expect(IS(b, "1"));
    cr_expect_eq(hearth_value_exchange(h, T("x"), T("3"), HEARTH_IF_ABSENT, 0, &b),
                 HEARTH_E_EXISTS);
    cr_expect(IS(b, "2"));
    cr_expect_eq(hearth_value_exchange(h, T("none"), T("3"), HEARTH_IF_PRESENT, 0, &b),
                 HEARTH_E_ABSENT);
    cr_expect(!b.data);
    OK(hearth_value_add_float(h, T("x"), -0.5, &sum));
    cr_expect_eq(sum, 1.5);
    OK(hearth_object_exists(h, T("x"), &flag));
    cr_expect_eq(flag, 1);
    OK(hearth_object_exists(h, T("none"), &flag));
    cr_expect_eq(flag, 0);
    OK(hearth_object_copy(h, T("x"), T("xx"), 0));
    cr_expect_eq(hearth_object_copy(h, T("x"), T("xx"), 0), HEARTH_E_EXISTS);
    cr_expect_eq(hearth_object_copy(h, T("x"), T("x"), 1), HEARTH_E_EXISTS);
    cr_expect_eq(hearth_object_copy(h, T("none"), T("xx"), 1), HEARTH_E_ABSENT);
    OK(hearth_object_copy(h, T("x"), T("xx"), 1));
    int64_t ttl = 0;
    OK(hearth_object_ttl(h, T("xx"), &ttl));
    cr_expect(ttl > 50000);
    OK(hearth_value_write(h, T("xx"), 5, T("abc"), &n));
    cr_expect_eq(n, 8);
    OK(hearth_value_get(h, T("xx"), &b));
    cr_expect(b.len == 8 && memcmp(b.data, "1.5\0\0abc", 8) == 0);
    cr_expect_eq(hearth_value_add_float(h, T("xx"), 1, &sum), HEARTH_E_NUMBER);
    for (int all = 0; all < 2; all++, met = 0) {
        do {
            OK(hearth_object_names(h, all ? NULL : "x?", &cursor, 10, &names, &count));
            met += count;
        } while (cursor);
        cr_expect_eq(met, all ? 2 : 1);
    }
    OK(hearth_object_delete(h, (struct hearth_bytes[]){T("x"), T("xx")}, 2, &n));
    cr_expect_eq(n, 2);
}

static void story_of_transactions(void) {
    struct hearth_op ops[] = {
        {.kind = HEARTH_OP_DICT_EXPECT, .name = T("from"), .field = T("a"), .value = T("10")},
        {.kind = HEARTH_OP_DICT_EXPECT, .name = T("to"), .field = T("a")},
        {.kind = HEARTH_OP_DICT_ADD, .name = T("from"), .field = T("a"), .by = -3},
        {.kind = HEARTH_OP_DICT_ADD, .name = T("to"), .field = T("a"), .by = 3},
        {.kind = HEARTH_OP_LIST_PUSH, .name = T("log"), .value = T("moved"), .end = HEARTH_RIGHT},
        {.kind = HEARTH_OP_VALUE_SET, .name = T("last"), .value = T("5")},
        {.kind = HEARTH_OP_VALUE_ADD, .name = T("last"), .by = 1},
        {.kind = HEARTH_OP_VALUE_GET, .name = T("last")},
        {.kind = HEARTH_OP_DICT_GET, .name = T("to"), .field = T("none")},
        {.kind = HEARTH_OP_EXPIRE, .name = T("last"), .by = 60000},
        {.kind = HEARTH_OP_LIST_MOVE,
         .name = T("log"),
         .to = T("old"),
         .end = HEARTH_LEFT,
         .to_end = HEARTH_RIGHT},
        {.kind = HEARTH_OP_LIST_POP, .name = T("log")},
        {.kind = HEARTH_OP_VALUE_EXPECT, .name = T("log")},
        {.kind = HEARTH_OP_VALUE_APPEND, .name = T("last"), .value = T("7")},
        {.kind = HEARTH_OP_DICT_POP, .name = T("to"), .field = T("a")},
        {.kind = HEARTH_OP_DICT_SET, .name = T("to"), .field = T("b"), .value = T("")},
        {.kind = HEARTH_OP_DICT_DELETE, .name = T("to"), .field = T("a")},
        {.kind = HEARTH_OP_RENAME, .name = T("last"), .to = T("newest")},
        {.kind = HEARTH_OP_DELETE, .name = T("old")},
    };
    size_t n = sizeof(ops) / sizeof(ops[0]);
    struct hearth_bytes names[] = {T("from"), T("to"), T("newest")};
    uint64_t gone = 0;
    cr_expect_eq(hearth_transaction(h, ops, n), HEARTH_E_UNEXPECTED);
    OK(hearth_dict_set(h, T("from"), T("a"), T("10"), NULL));
    OK(hearth_transaction(h, ops, n));
    static const int64_t numbers[] = {0, 0, 7, 3, 1, 0, 6, 0, 0, 1, 0, 0, 0, 2, 0, 1, 0, 0, 1};
    static const char *const texts[] = {NULL, NULL, NULL, NULL,    NULL, NULL, NULL,
                                        "6",  NULL, NULL, "moved", NULL, NULL, NULL,
                                        "3",  NULL, NULL, NULL,    NULL};
    for (size_t i = 0; i < n; i++) {
        cr_expect_eq(ops[i].number, numbers[i], "operation %zu: %lld", i, (long long)ops[i].number);
        cr_expect(texts[i] ? IS(ops[i].bytes, texts[i]) : !ops[i].bytes.data, "operation %zu", i);
    }
    /* one that fails at the end: nothing of those before it */
    struct hearth_op bad[] = {
        {.kind = HEARTH_OP_DICT_ADD, .name = T("from"), .field = T("a"), .by = 1},
        {.kind = HEARTH_OP_DELETE, .name = T("newest")},
        {.kind = HEARTH_OP_LIST_PUSH, .name = T("log"), .value = T("x")},
        {.kind = HEARTH_OP_LIST_PUSH, .name = T("to"), .value = T("x")},
    };
    cr_expect_eq(hearth_transaction(h, bad, 4), HEARTH_E_TYPE);
    bad[3] = (struct hearth_op){.kind = HEARTH_OP_VALUE_ADD, .name = T("newest"), .by = INT64_MAX};
    cr_expect_eq(hearth_transaction(h, &bad[2], 2), HEARTH_E_NUMBER);
    bad[3] = (struct hearth_op){.kind = HEARTH_OP_RENAME, .name = T("none"), .to = T("log")};
    cr_expect_eq(hearth_transaction(h, bad, 4), HEARTH_E_ABSENT);
    cr_expect_eq(hearth_transaction(h, bad, 0), -EINVAL);
    bad[3].kind = 99;
    cr_expect_eq(hearth_transaction(h, bad, 4), -EINVAL);
    cr_expect_eq(hearth_list_length(h, T("log"), &gone), 0);
    cr_expect_eq(gone, 0);
    int64_t v = 0;
    OK(hearth_dict_add(h, T("from"), T("a"), 0, &v));
    cr_expect_eq(v, 7);
    OK(hearth_object_delete(h, names, 3, &gone));
    cr_expect_eq(gone, 3);
}

static void story_of_dicts(void) {
    struct hearth_bytes b, f, one = T("1"), two = T("2"), fields[] = {T("c"), T("none"), T("a")};
    struct hearth_bytes pairs[] = {T("a"), T("x"), T("c"), T("")};
    const struct hearth_bytes *many;
    uint64_t n = 0, cursor = 0;
    size_t count = 0;
    int64_t v = 0;
    int flag = -1;
    double sum = 0;
    cr_expect_eq(hearth_dict_get(h, T("d"), T("a"), &b), HEARTH_E_ABSENT);
    OK(hearth_dict_set(h, T("d"), T("a"), T("1"), &flag));
    cr_expect_eq(flag, 1);
    OK(hearth_dict_set(h, T("d"), T("a"), T("2"), &flag));
    cr_expect_eq(flag, 0);
    OK(hearth_dict_get(h, T("d"), T("a"), &b));
    cr_expect(IS(b, "2"));
    OK(hearth_dict_update(h, T("d"), pairs, 2, &n));
    cr_expect_eq(n, 1);
    OK(hearth_dict_get_many(h, T("d"), fields, 3, &many));
    cr_expect(IS(many[0], "") && !many[1].data && IS(many[2], "x"));
    OK(hearth_dict_contains(h, T("d"), T("a"), &flag));
    cr_expect_eq(flag, 1);
    OK(hearth_dict_contains(h, T("d"), T("b"), &flag));
    cr_expect_eq(flag, 0);
    OK(hearth_dict_setdefault(h, T("d"), T("a"), T("z"), &b));
    cr_expect(IS(b, "x"));
    OK(hearth_dict_setdefault(h, T("d"), T("e"), T("z"), &b));
    cr_expect(IS(b, "z"));
    OK(hearth_dict_length(h, T("d"), &n));
    cr_expect_eq(n, 3);
    cr_expect_eq(hearth_dict_add(h, T("d"), T("a"), 1, &v), HEARTH_E_NUMBER);
    OK(hearth_dict_add(h, T("d"), T("n"), -7, &v));
    cr_expect_eq(v, -7);
    OK(hearth_dict_add_float(h, T("d"), T("n"), 0.5, &sum));
    cr_expect_eq(sum, -6.5);
    OK(hearth_dict_pop(h, T("d"), T("n"), &b));
    cr_expect(IS(b, "-6.5"));
    cr_expect_eq(hearth_dict_pop(h, T("d"), T("n"), &b), HEARTH_E_ABSENT);
    OK(hearth_dict_swap(h, T("d"), T("s"), &one, &two, &flag));
    cr_expect_eq(flag, 0);
    OK(hearth_dict_swap(h, T("d"), T("s"), NULL, &one, &flag));
    cr_expect_eq(flag, 1);
    OK(hearth_dict_swap(h, T("d"), T("s"), &one, &two, &flag));
    cr_expect_eq(flag, 1);
    OK(hearth_dict_swap(h, T("d"), T("s"), &two, NULL, &flag));
    cr_expect_eq(flag, 1);
    OK(hearth_dict_scan(h, T("d"), &cursor, 100, &many, &count));
    cr_expect(cursor == 0 && count == 6);
    OK(hearth_dict_items(h, T("d"), HEARTH_ITEMS, &many, &count));
    cr_expect(count == 6 && many[0].len == 1);
    OK(hearth_dict_items(h, T("d"), HEARTH_VALUES, &many, &count));
    cr_expect_eq(count, 3);
    OK(hearth_dict_items(h, T("none"), HEARTH_FIELDS, &many, &count));
    cr_expect_eq(count, 0);
    OK(hearth_dict_add_many(h, T("sums"), fields, (int64_t[]){1, 2, 3}, 3));
    OK(hearth_dict_add_many(h, T("sums"), fields, (int64_t[]){1, 2, 3}, 3));
    OK(hearth_dict_set(h, T("sums"), T("none"), T("x"), NULL));
    cr_expect_eq(hearth_dict_add_many(h, T("sums"), fields, (int64_t[]){1, 2, 3}, 3),
                 HEARTH_E_NUMBER);
    OK(hearth_dict_get(h, T("sums"), T("c"), &b));
    cr_expect(IS(b, "2"));
    OK(hearth_dict_clear(h, T("sums")));
    OK(hearth_dict_delete(h, T("d"), fields, 3, &n));
    cr_expect_eq(n, 2);
    OK(hearth_dict_popitem(h, T("d"), &f, &b));
    cr_expect(IS(f, "e") && IS(b, "z"));
    cr_expect_eq(hearth_dict_popitem(h, T("d"), &f, &b), HEARTH_E_ABSENT);
    OK(hearth_dict_clear(h, T("d")));
    OK(hearth_list_push(h, T("d"), HEARTH_LEFT, &one, 1, NULL));
    cr_expect_eq(hearth_dict_clear(h, T("d")), HEARTH_E_TYPE);
    cr_expect_eq(hearth_dict_get(h, T("d"), T("a"), &b), HEARTH_E_TYPE);
    cr_expect_eq(hearth_dict_pop(h, T("d"), T("a"), &b), HEARTH_E_TYPE);
    cr_expect_eq(hearth_dict_swap(h, T("d"), T("a"), NULL, &one, &flag), HEARTH_E_TYPE);
    cr_expect_eq(hearth_dict_setdefault(h, T("d"), T("a"), one, &b), HEARTH_E_TYPE);
    OK(hearth_list_pop(h, T("d"), HEARTH_LEFT, NULL));
    OK(hearth_dict_set(h, T("d"), T("a"), T("1"), NULL));
    OK(hearth_dict_clear(h, T("d")));
}

static void expect_list(const char *all) {
    const struct hearth_bytes *items;
    char text[200] = "";
    size_t n = 0;
    uint64_t len = 0;
    OK(hearth_list_range(h, T("l"), 0, -1, &items, &n));
    for (size_t i = 0; i < n; i++) {
        strncat(text, items[i].data, items[i].len);
    }
    cr_expect_str_eq(text, all);
    OK(hearth_list_length(h, T("l"), &len));
    cr_expect_eq(len, n);
}

static void story_of_lists(void) {
    struct hearth_bytes b, abc[] = {T("a"), T("b"), T("c")};
    const struct hearth_bytes *items;
    uint64_t n = 0;
    size_t count = 0;
    cr_expect_eq(hearth_list_pop(h, T("l"), HEARTH_LEFT, &b), HEARTH_E_ABSENT);
    cr_expect_eq(hearth_list_pop_wait(h, T("l"), HEARTH_LEFT, 0, &b), HEARTH_E_PENDING);
    cr_expect_eq(hearth_list_pop_wait(h, T("l"), HEARTH_LEFT, 20, &b), HEARTH_E_PENDING);
    OK(hearth_list_push(h, T("l"), HEARTH_RIGHT, abc, 3, &n));
    OK(hearth_list_push(h, T("l"), HEARTH_LEFT, abc, 3, &n));
    cr_expect_eq(n, 6);
    expect_list("cbaabc");
    OK(hearth_list_at(h, T("l"), -2, &b));
    cr_expect(IS(b, "b"));
    cr_expect_eq(hearth_list_at(h, T("l"), 6, &b), HEARTH_E_ABSENT);
    OK(hearth_list_set(h, T("l"), 0, T("X")));
    cr_expect_eq(hearth_list_set(h, T("l"), 6, T("X")), HEARTH_E_ABSENT);
    cr_expect_eq(hearth_list_set(h, T("none"), 0, T("X")), HEARTH_E_ABSENT);
    OK(hearth_list_index(h, T("l"), T("a"), &n));
    cr_expect_eq(n, 2);
    cr_expect_eq(hearth_list_index(h, T("l"), T("none"), &n), HEARTH_E_ABSENT);
    OK(hearth_list_remove(h, T("l"), T("a"), -1, &n));
    cr_expect_eq(n, 1);
    expect_list("Xbabc");
    OK(hearth_list_range(h, T("l"), -9, 6, &items, &count));
    cr_expect(count == 2 && IS(items[1], "b"));
    OK(hearth_list_range(h, T("l"), 1, 0, &items, &count));
    cr_expect_eq(count, 0);
    OK(hearth_list_trim(h, T("l"), -3, 2));
    expect_list("ab");
    OK(hearth_list_move(h, T("l"), HEARTH_LEFT, T("m"), HEARTH_RIGHT, &b));
    cr_expect(IS(b, "a"));
    OK(hearth_list_pop_wait(h, T("l"), HEARTH_LEFT, -1, &b));
    cr_expect(IS(b, "b"));
    cr_expect_eq(hearth_list_move(h, T("l"), HEARTH_LEFT, T("m"), HEARTH_RIGHT, &b),
                 HEARTH_E_ABSENT);
    OK(hearth_list_trim(h, T("m"), 0, 0));
    OK(hearth_list_length(h, T("m"), &n));
    cr_expect_eq(n, 0);
}

static void story_of_order(void) {
    struct hearth_bytes numbers[] = {T("10"), T("9"), T("1e1"), T("-2"), T("9")};
    uint64_t n = 0;
    OK(hearth_list_reverse(h, T("l")));
    OK(hearth_list_sort(h, T("l"), 0));
    cr_expect_eq(hearth_list_insert_beside(h, T("l"), T("9"), 0, T("x"), &n), HEARTH_E_ABSENT);
    OK(hearth_list_push(h, T("l"), HEARTH_RIGHT, numbers, 5, NULL));
    OK(hearth_object_expire(h, T("l"), 60000));
    OK(hearth_list_count(h, T("l"), T("9"), &n));
    cr_expect_eq(n, 2);
    OK(hearth_list_reverse(h, T("l")));
    expect_list("9-21e1910");
    OK(hearth_list_sort(h, T("l"), 0));
    expect_list("-299101e1");
    OK(hearth_list_sort(h, T("l"), HEARTH_BY_BYTES | HEARTH_DESCENDING));
    expect_list("991e110-2");
    OK(hearth_list_insert(h, T("l"), 1, T("A"), &n));
    cr_expect_eq(n, 6);
    OK(hearth_list_insert(h, T("l"), 99, T("B"), &n));
    OK(hearth_list_insert_beside(h, T("l"), T("9"), 0, T("C"), &n));
    OK(hearth_list_insert_beside(h, T("l"), T("9"), 1, T("D"), &n));
    cr_expect_eq(n, 9);
    expect_list("C9DA91e110-2B");
    cr_expect_eq(hearth_list_insert_beside(h, T("l"), T("Z"), 1, T("D"), &n), HEARTH_E_ABSENT);
    OK(hearth_list_delete(h, T("l"), 2, 2, &n));
    cr_expect_eq(n, 2);
    OK(hearth_list_delete(h, T("l"), -1, -1, &n));
    cr_expect_eq(n, 1);
    expect_list("C991e110-2");
    cr_expect_eq(hearth_list_sort(h, T("l"), 0), HEARTH_E_NUMBER);
    int64_t ttl = 0;
    OK(hearth_object_ttl(h, T("l"), &ttl));
    cr_expect(ttl > 50000);
    OK(hearth_list_delete(h, T("l"), 0, -1, &n));
    cr_expect_eq(n, 6);
}

static void story(void) {
    story_of_more_values();
    story_of_wrong_words();
    story_of_transactions();
    story_of_order();
    story_of_values();
    story_of_dicts();
    story_of_lists();
    check();
}

Test(mapped, over_the_connection) {
    cr_expect_eq(hearth_attached(h), 0);
    story();
}

Test(mapped, in_memory) {
    OK(hearth_attach(h, 0));
    cr_expect_eq(hearth_attached(h), 2);
    cr_expect_eq(hearth_attach(h, 0), -EISCONN);
    story();
}

Test(mapped, for_reading_only) {
    OK(hearth_attach(h, 1));
    cr_expect_eq(hearth_attached(h), 1);
    story();
}

/* ---- both at once ---- */

static int ping_pong(void *arg) {
    struct hearth *mine;
    struct hearth_bytes b;
    int r = hearth_connect(d.socket, &mine);
    r = r || !arg ? r : hearth_attach(mine, 0);
    for (int i = 0; i < 500 && r == 0; i++) {
        r = hearth_list_pop_wait(mine, T("ping"), HEARTH_LEFT, 20000, &b);
        r = r ? r : hearth_list_push(mine, T("pong"), HEARTH_RIGHT, &b, 1, NULL);
    }
    hearth_close(mine);
    return r != 0;
}

static void play(bool he_maps, bool i_map) {
    struct hearth_bytes b, e;
    char text[24];
    if (i_map && !hearth_attached(h)) {
        OK(hearth_attach(h, 0));
    }
    pid_t child = child_start(ping_pong, he_maps ? &he_maps : NULL);
    for (int i = 0; i < 500; i++) {
        snprintf(text, sizeof(text), "%d", i);
        e = T(text);
        cr_assert_eq(hearth_list_push(h, T("ping"), HEARTH_RIGHT, &e, 1, NULL), 0);
        cr_assert_eq(hearth_list_pop_wait(h, T("pong"), HEARTH_LEFT, 20000, &b), 0, "round %d", i);
        cr_assert(IS(b, text));
    }
    cr_expect_eq(child_wait(child), 0);
}

Test(mapped, waits_of_both_kinds_hear_each_other) {
    play(false, false);
    play(true, false);
    play(false, true);
    play(true, true);
    check();
}

/* ---- who may ---- */

static void let_all_connect(void) {
    cr_assert_eq(chmod(d.dir, 0755), 0);
    cr_assert_eq(chmod(d.socket, 0666), 0);
}

/* As another user: root's test only. */
static int as_user(void *arg) {
    const int *ids = arg;
    struct hearth *mine;
    struct hearth_bytes b;
    if (setgid((gid_t)ids[1]) || setuid((uid_t)ids[0]) || hearth_connect(d.socket, &mine)) {
        return 100;
    }
    int r = hearth_attach(mine, ids[2]);
    int result = hearth_attached(mine) * 10 + (r == HEARTH_E_REFUSED);
    if (hearth_dict_get(mine, T("d"), T("f"), &b) != 0 || !IS(b, "v")) {
        return 101; /* whatever was said, the calls work */
    }
    hearth_close(mine);
    return result;
}

Test(mapped, only_those_who_may) {
    int nobody[] = {65534, 65534, 0}, reader[] = {65534, 65534, 1}, member[] = {65534, 1, 0},
        other[] = {12345, 12345, 1};
    if (getuid() != 0) {
        cr_skip_test("only root can be somebody else");
    }
    let_all_connect();
    OK(hearth_dict_set(h, T("d"), T("f"), T("v"), NULL));
    cr_expect_eq(child_wait(child_start(as_user, nobody)), 1);
    cr_expect_eq(child_wait(child_start(as_user, reader)), 10);
    cr_expect_eq(child_wait(child_start(as_user, member)), 20);
    cr_expect_eq(child_wait(child_start(as_user, other)), 1);
}

/* The descriptor of a reader: whatever he does, he cannot write. 0, or which of the ways was open. */
static int try_to_write(void *arg) {
    static const char ask[] = "*2\r\n$14\r\nSEGMENT.ATTACH\r\n$8\r\nREADONLY\r\n";
    char reply[200], path[40];
    struct wire w;
    int fd = -1;
    (void)arg;
    if (setgid(65534) || setuid(65534) || wire_open(&w, d.socket) ||
        wire_send_raw(&w, ask, sizeof(ask) - 1) || fd_recv(w.fd, reply, sizeof(reply), &fd) <= 0 ||
        fd < 0) {
        return 100;
    }
    if (mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED) {
        return 1;
    }
    void *at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        return 101;
    }
    if (mprotect(at, 4096, PROT_READ | PROT_WRITE) == 0) {
        return 2;
    }
    if (write(fd, "x", 1) >= 0 || pwrite(fd, "x", 1, 100) >= 0 || ftruncate(fd, 0) == 0 ||
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0) {
        return 3;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (open(path, O_RDWR | O_CLOEXEC) >= 0 || open(path, O_WRONLY | O_CLOEXEC) >= 0 ||
        fchmod(fd, 0666) == 0) {
        return 4;
    }
    return 0;
}

Test(mapped, a_reader_cannot_write) {
    if (getuid() != 0) {
        cr_skip_test("only root can be somebody else");
    }
    let_all_connect();
    cr_expect_eq(child_wait(child_start(try_to_write, NULL)), 0);
}

/* ---- deaths ---- */

static int slots_used(void) {
    const struct hearth_reply *r;
    const char *words[] = {"SEGMENT.INFO"};
    cr_assert_eq(hearth_command(h, 1, words, NULL, &r), 0);
    return (int)hearth_reply_int(hearth_reply_get(r, "slots_used"));
}

static bool slots_become(int n) {
    double end = now_ms() + within(10000);
    while (slots_used() != n && now_ms() < end) {
    }
    return slots_used() == n;
}

/* The other one may have taken the last field, which both have set. */
static bool has_failed(int r) {
    return r != 0 && r != HEARTH_E_ABSENT;
}

static int churn(void *arg) {
    struct hearth *mine;
    char text[64];
    if (hearth_connect(d.socket, &mine) || hearth_attach(mine, 0)) {
        return 1;
    }
    memset(text, 'x', sizeof(text));
    for (unsigned i = 0;; i++) {
        struct hearth_bytes pair[2] = {{text, 8 + i % 40}, {text, i % 64}}, e = {text, i % 60};
        snprintf(text, sizeof(text), "%06u", i % 5000);
        text[6] = 'x';
        if (hearth_dict_update(mine, T("d"), pair, 1, NULL) ||
            hearth_dict_add(mine, T("n"), T("count"), 1, NULL) ||
            hearth_list_push(mine, T("l"), i & 1 ? HEARTH_LEFT : HEARTH_RIGHT, &e, 1, NULL) ||
            (i % 3 && hearth_list_pop(mine, T("l"), HEARTH_LEFT, NULL)) ||
            (i % 7 == 0 && has_failed(hearth_dict_popitem(mine, T("d"), NULL, NULL)))) {
            return 2;
        }
        if (i == 20) {
            *(volatile int *)arg = 1;
        }
    }
}

Test(mapped, killed_anywhere_they_leave_all_in_order) {
    volatile int *at_work =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int before = slots_used();
    for (int round = 0; round < 60; round++) {
        *at_work = 0;
        pid_t a = child_start(churn, (void *)(uintptr_t)at_work),
              b = child_start(churn, (void *)(uintptr_t)at_work);
        while (!*at_work) {
        }
        uint64_t until = clock_now() + (uint64_t)(round % 20) * 100000;
        while (clock_now() < until) {
        }
        child_kill(a);
        if (round % 2) {
            child_kill(b);
        } else {
            kill(b, SIGTERM);
            int how = child_wait(b);
            cr_assert_eq(how, CHILD_SIGNALLED + SIGTERM, "round %d: %d", round, how);
        }
        cr_assert(slots_become(before), "round %d: %d slots used, not %d", round, slots_used(),
                  before);
        check();
    }
    cr_expect_gt(hearth_dict_add(h, T("n"), T("count"), 0, &(int64_t){0}), -1);
}

static int attach_and_go(void *arg) {
    struct hearth *mine;
    int r = hearth_connect(d.socket, &mine);
    for (int i = 0; i < *(int *)arg && r == 0; i++) {
        r = hearth_attach(mine, 0);
        if (r == 0) {
            r = hearth_dict_add(mine, T("n"), T("count"), 1, NULL);
            hearth_close(mine);
            r = r ? r : hearth_connect(d.socket, &mine);
        }
    }
    hearth_close(mine);
    return r != 0;
}

Test(mapped, who_leaves_gives_the_slot_back_while_he_lives) {
    int times = 1;
    int before = slots_used();
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(child_wait(child_start(attach_and_go, &times)), 0);
    }
    cr_expect(slots_become(before));
    /* in this process, which stays */
    for (int i = 0; i < 5; i++) {
        struct hearth *mine;
        cr_assert_eq(hearth_connect(d.socket, &mine), 0);
        cr_assert_eq(hearth_attach(mine, 0), 0, "%s", hearth_errmsg(mine));
        cr_expect_eq(slots_used(), before + 1);
        hearth_close(mine);
        cr_expect(slots_become(before));
    }
}

Test(mapped, not_more_than_max_mapped) {
    struct hearth *many[4] = {0};
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(hearth_connect(d.socket, &many[i]), 0);
        int r = hearth_attach(many[i], 0);
        cr_expect_eq(r, i < 3 ? 0 : HEARTH_E_REFUSED);
        OK(hearth_dict_add(many[i], T("n"), T("count"), 1, NULL));
    }
    for (int i = 0; i < 4; i++) {
        hearth_close(many[i]);
    }
}

Test(mapped, a_dead_daemon_is_noticed_and_a_new_one_attached_to) {
    struct hearth_bytes b;
    OK(hearth_attach(h, 0));
    OK(hearth_dict_set(h, T("d"), T("f"), T("v"), NULL));
    daemon_kill(&d);
    cr_expect_eq(hearth_dict_get(h, T("d"), T("f"), &b), HEARTH_E_DISCONNECTED);
    cr_expect_eq(hearth_dict_set(h, T("d"), T("f"), T("w"), NULL), HEARTH_E_DISCONNECTED);
    cr_assert_eq(daemon_restart(&d), 0);
    OK(hearth_reconnect(h));
    cr_expect_eq(hearth_attached(h), 2);
    OK(hearth_dict_set(h, T("d"), T("f"), T("w"), NULL));
    OK(hearth_dict_get(h, T("d"), T("f"), &b));
    cr_expect(IS(b, "w"));
}

/* A mapped handle asks the daemon for a manager, and works in it in memory. */
static void story_of_managers(void) {
    char prefix[HEARTH_PREFIX_MAX + 1], buf[64], small[20];
    struct hearth_bytes name, b, e = T("x");
    uint64_t n = 0;
    OK(hearth_manager_open(h, prefix));
    cr_expect_eq(hearth_manager_name(prefix, T("list"), small, sizeof(small), &name),
                 -ENAMETOOLONG);
    cr_expect_eq(hearth_manager_name(prefix, T("list"), buf, sizeof(buf), &name), 0);
    OK(hearth_list_push(h, name, HEARTH_RIGHT, &e, 1, &n));
    OK(hearth_list_at(h, name, 0, &b));
    OK(hearth_manager_close(h, prefix));
    cr_expect_eq(hearth_manager_close(h, prefix), HEARTH_E_ENDED);
    cr_expect_eq(hearth_list_at(h, name, 0, &b), HEARTH_E_ABSENT);
    cr_expect_eq(hearth_list_push(h, name, HEARTH_RIGHT, &e, 1, &n), HEARTH_E_ENDED);
    cr_expect_eq(hearth_list_pop_wait(h, name, HEARTH_LEFT, -1, &b), HEARTH_E_ENDED);
    check();
}

Test(mapped, managers) {
    story_of_managers();
    OK(hearth_attach(h, 0));
    story_of_managers();
}

static int stop_in_here(struct shm *s, void *arg) {
    (void)s;
    *(volatile int *)arg = 1;
    raise(SIGSTOP);
    return 0;
}

static int sit_on_all(void *arg) {
    struct hearth *mine;
    return hearth_connect(d.socket, &mine) || hearth_attach(mine, 0) ||
           op_run(&mine->shm, OP_ALL, stop_in_here, arg);
}

Test(mapped, who_is_stopped_on_a_lock_is_reported_and_nobody_waits_for_ever) {
    volatile int *sits =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct hearth_bytes b;
    OK(hearth_value_set(h, T("v"), T("1"), 0, 0));
    pid_t pid = child_start(sit_on_all, (void *)(uintptr_t)sits);
    while (!*sits) {
    }
    cr_expect_eq(hearth_value_set(h, T("v"), T("2"), 0, 0), HEARTH_E_BUSY);
    cr_expect(strstr(hearth_errmsg(h), "sits on part"), "%s", hearth_errmsg(h));
    OK(hearth_value_get(h, T("v"), &b)); /* who reads needs no lock */
    cr_expect(IS(b, "1"));
    cr_expect_eq(hearth_value_set(h, T("v"), T("2"), 0, 0), HEARTH_E_BUSY);
    kill(pid, SIGCONT);
    cr_expect_eq(child_wait(pid), 0);
    OK(hearth_value_set(h, T("v"), T("2"), 0, 0));
    cr_expect(strstr(daemon_log(&d), "is it stopped?"));
}
