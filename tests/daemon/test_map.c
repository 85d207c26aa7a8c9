/* SPDX-License-Identifier: MIT */
/* TASK.MAP: what the chunks are, one after the other the payload again; all or none; other clients meanwhile. Fails: as a
 * Criterion suite. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "tests/daemon/serve_support.h"

static struct wire w, other;

static void begin(void) {
    serve_begin(
        "pools = ( { name = \"demo\"; workers = 2; module = \"demo.so\"; queue_max = 50000; },\n"
        "  { name = \"small\"; workers = 1; module = \"demo.so\"; queue_max = 4; },\n"
        "  { name = \"patient\"; workers = 1; module = \"demo.so\"; queue_max = 4; overflow = "
        "\"block\"; } );\n"
        "segment_size = \"128M\"; result_keep = 600; stop_timeout = 1;");
    serve_connect(&w);
    serve_connect(&other);
}

static void end(void) {
    wire_close(&w);
    wire_close(&other);
    serve_end();
}

TestSuite(map, .timeout = 100, .init = begin, .fini = end);

/* The ids of the last message: *ret is the caller's. */
static uint32_t take_ids(char (**ret)[SERVE_ID]) {
    uint32_t n = w.doc.v[0].count;
    *ret = calloc(n + 1, SERVE_ID);
    for (uint32_t i = 0; i < n; i++) {
        snprintf((*ret)[i], SERVE_ID, "%.*s", (int)w.doc.v[i + 1].len, w.doc.v[i + 1].data);
    }
    return n;
}

/* The last message are the ids of tasks that gave these results, with blanks between. */
static void check_chunks(const char *want) {
    char(*ids)[SERVE_ID];
    struct buf got = BUF_INIT;
    uint32_t n = take_ids(&ids);
    for (uint32_t i = 0; i < n; i++) {
        expect(&w, "[\"*\" \"done\" *]", "TASK.WAIT %s", ids[i]);
        cr_assert_eq(buf_printf(&got, i ? " %.*s" : "%.*s", (int)w.doc.v[3].len, w.doc.v[3].data),
                     0);
    }
    cr_assert_eq(buf_append(&got, "", 1), 0);
    cr_expect_str_eq(got.data, want);
    buf_deinit(&got);
    free(ids);
}

Test(map, chunks) {
    static const struct {
        const char *words, *want;
    } cases[] = {
        {"\"a\\nb\\nc\\nd\\n\" CHUNK 2", "a\nb\n c\nd\n"},
        {"\"a\\nb\\nc\\n\" CHUNK 2", "a\nb\n c\n"},
        {"\"a\\nb\\nc\" CHUNK 1", "a\n b\n c"}, /* no newline at the end */
        {"\"a\\nb\\nc\" CHUNK 100", "a\nb\nc"},
        {"\"a\\nb\\nc\" CHUNK 18446744073709551615", "a\nb\nc"},
        {"\"\\n\\n\" CHUNK 1", "\n \n"},
        {"a,b,c DELIMITER , CHUNK 1", "a, b, c"},
        {"a--b---c-- chunk 1 delimiter --", "a-- b-- -c--"},
        {"a-b DELIMITER -- CHUNK 1", "a-b"}, /* it is not there */
        {"a DELIMITER longer", "a"},
        {"abc CHUNK 1 TIMEOUT 1000 PRIORITY 3", "abc"},
        /* 4 for each of the 2 workers: 8 of one piece, then of two, the last has what is left */
        {"1,2,3,4,5,6,7,8 DELIMITER ,", "1, 2, 3, 4, 5, 6, 7, 8"},
        {"1,2,3,4,5,6,7,8,9 DELIMITER ,", "1,2, 3,4, 5,6, 7,8, 9"},
        {"1,2 DELIMITER ,", "1, 2"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ask(&w, "TASK.MAP demo echo %s", cases[i].words);
        check_chunks(cases[i].want);
    }
    expect(&w, "[]", "TASK.MAP demo echo ''");
    expect(&w, "[]", "TASK.MAP small echo '' CHUNK 3 GROUP none LAST");
    expect(&w, "[\"*\"]", "TASK.MAP demo echo \"a\\x00\\xff\\n\" DELIMITER \"\\x00\\xff\" CHUNK 9");
}

Test(map, refusals) {
    expect(&w, "-ERR wrong number of arguments*", "TASK.MAP demo echo");
    expect(&w, "-NOPOOL*", "TASK.MAP none echo x");
    expect(&w, "-NOHANDLER*", "TASK.MAP demo none ''");
    expect(&w, "-ERR chunk is not a positive integer", "TASK.MAP demo echo x CHUNK 0");
    expect(&w, "-ERR chunk is not a positive integer", "TASK.MAP demo echo x CHUNK -1");
    expect(&w, "-ERR the delimiter is empty", "TASK.MAP demo echo x DELIMITER ''");
    expect(&w, "-ERR syntax error", "TASK.MAP demo echo x CHUNK");
    expect(&w, "-ERR syntax error", "TASK.MAP demo echo x TIMEOUT 5 CHUNK 1");
    expect(&w, "-ERR syntax error", "TASK.SUBMIT demo echo x CHUNK 1");
    expect(&w, "-ERR of many tasks *", "TASK.MAP demo echo x UNIQUE k REJECT");
    expect(&w, "+OK", "MULTI");
    expect(&w, "-ERR *", "TASK.MAP demo echo x");
    expect(&w, "*", "DISCARD");
    cr_assert_eq(info_number(&w, "tasks_live"), 0);
}

/* Chunks count for the queue, not pieces; none is queued of what is refused. */
Test(map, all_or_none) {
    char busy[SERVE_ID];
    submit_line(&w, busy, "small sleep '' ARG 60000");
    while (!like("*\"state\" \"running\"*", ask(&w, "TASK.STATUS %s", busy))) {
    }
    expect(&w, "-BUSY the queue of pool 'small' is full",
           "TASK.MAP small echo 1,2,3,4,5 DELIMITER , CHUNK 1 GROUP g LAST");
    cr_assert_eq(info_number(&w, "tasks_live"), 1);
    expect(&w, "-NOGROUP*", "GROUP.INFO g");
    expect(&w, "[\"*\" \"*\" \"*\"]",
           "TASK.MAP small echo 1,2,3,4,5 DELIMITER , CHUNK 2 GROUP g LAST");
    expect(&w, "*\"closed\" \"yes\"*\"total\" :3*", "GROUP.INFO g");
    expect(&w, ":1", "TASK.CANCEL %s", busy);
    expect(&w, "*\"total\" :3 \"live\" :0 \"done\" :3*", "GROUP.WAIT g");
    /* who may wait for room does */
    submit_line(&w, busy, "patient sleep '' ARG 60000");
    while (!like("*\"state\" \"running\"*", ask(&w, "TASK.STATUS %s", busy))) {
    }
    expect(&w, "[\"*\" \"*\"]", "TASK.MAP patient echo 1,2 DELIMITER ,");
    expect(&w, "-BUSY*", "TASK.MAP patient echo 1,2,3,4,5 DELIMITER , CHUNK 1"); /* never */
    tell(&w, "TASK.MAP patient echo 3,4,5 DELIMITER , CHUNK 1");
    while (info_number(&other, "blocked_clients") != 1) {
    }
    expect(&other, ":1", "TASK.CANCEL %s", busy);
    hear(&w);
    check_chunks("3, 4, 5");
}

/* 100,000 lines as many tasks, and as two: nobody else waits for it. */
static void many(const char *chunk, uint32_t want) {
    enum { N = 100000, LINE = 7 };
    char *all = malloc((size_t)N * LINE + 1);
    for (int i = 0; i < N; i++) {
        snprintf(all + (size_t)i * LINE, LINE + 1, "%06d\n", i);
    }
    const size_t len = (size_t)N * LINE;
    struct resp_arg words[] = {{"TASK.MAP", 8}, {"demo", 4},  {"echo", 4},
                               {all, len},      {"CHUNK", 5}, {chunk, strlen(chunk)}};
    cr_assert_eq(wire_send_words(&w, words, 6), 0);
    uint64_t worst = 0;
    while (wire_read(&w, 1) == -ETIMEDOUT) {
        uint64_t begun = clock_now();
        expect(&other, "+PONG", "PING");
        uint64_t took = clock_now() - begun;
        worst = took > worst ? took : worst;
    }
    cr_assert_lt(worst, 1000 * NS_PER_MS);
    cr_assert_eq(w.doc.v[0].count, want, "%s", wire_show(&w));
    char(*ids)[SERVE_ID];
    take_ids(&ids);
    size_t at = 0;
    for (uint32_t i = 0; i < want; i++) {
        ask(&w, "TASK.WAIT %s", ids[i]);
        cr_assert(at + w.doc.v[3].len <= len && w.doc.v[3].len > 0);
        cr_assert_eq(memcmp(all + at, w.doc.v[3].data, w.doc.v[3].len), 0);
        at += w.doc.v[3].len;
    }
    cr_assert_eq(at, len);
    free(ids);
    free(all);
}

Test(map, a_hundred_thousand_lines) {
    many("3", 33334);
    many("99999", 2);
    expect(&w, "[\"*\" \"*\"]", "TASK.MAP demo echo a,b DELIMITER ,");
}

/* More chunks than the queue takes are counted and refused, however many. */
Test(map, more_than_the_queue) {
    enum { N = 1000000 };
    char *all = malloc(N);
    memset(all, '\n', N);
    struct resp_arg words[] = {{"TASK.MAP", 8}, {"demo", 4},  {"echo", 4},
                               {all, N},        {"CHUNK", 5}, {"1", 1}};
    cr_assert_eq(wire_send_words(&w, words, 6), 0);
    expect_next(&w, "-BUSY*");
    cr_assert_eq(info_number(&w, "tasks_live"), 0);
    free(all);
}
