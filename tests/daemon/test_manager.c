/* SPDX-License-Identifier: MIT */
/* Managers over the socket: what belongs to one, how it ends, what is refused afterwards, to clients and workers alike, and
 * that the memory comes back while others are served. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "tests/daemon/serve_support.h"

TestSuite(manager, .timeout = 120, .fini = serve_end);

enum { PREFIX = 24 };

static struct wire w, other;
static char p[PREFIX], q[PREFIX];

static void open_manager(struct wire *c, char prefix[PREFIX]) {
    ask(c, "MANAGER.OPEN");
    cr_assert_eq(c->doc.v[0].len, 18, "%s", wire_show(c));
    snprintf(prefix, PREFIX, "%.18s", c->doc.v[0].data);
}

static void begin(void) {
    char config[1024];
    snprintf(config, sizeof(config),
             "segment_size = \"64M\"; stop_timeout = 1;\n"
             "pools = ( { name = \"shared\"; workers = 2; "
             "module = \"%s/tests/daemon/mod_shared.so\"; } );\n",
             getenv("HEARTH_BUILD"));
    serve_begin(config);
    serve_connect(&w);
    serve_connect(&other);
    open_manager(&w, p);
}

static void check(struct wire *c) {
    ask(c, "SEGMENT.CHECK");
    uint32_t at = wire_find(c, 0, "errors");
    cr_assert(at && c->doc.v[at].integer == 0, "%s", wire_show(c));
}

static long long field(struct wire *c, const char *command, const char *name) {
    ask(c, "%s", command);
    uint32_t at = wire_find(c, 0, name);
    cr_assert_neq(at, 0, "%s", wire_show(c));
    return c->doc.v[at].integer;
}

Test(manager, opened_used_and_closed) {
    begin();
    open_manager(&w, q);
    cr_assert_str_neq(p, q);
    expect(&w, "+OK", "SET %sv 1", p);
    expect(&other, ":1", "HSET %sd f x", p); /* the name decides, not who makes it */
    expect(&other, ":2", "RPUSH %sl a b", p);
    expect(&w, "+OK", "SET %sv 2", q);
    expect(&w, "+OK", "SET free 3");
    expect(&w, ":5", "DBSIZE");
    expect(&w,
           "[[\"prefix\" \"@*:\" \"client\" :* \"uid\" :* \"keys\" :3 \"age_ms\" :*] [*\"keys\" :1 "
           "*]]",
           "MANAGER.LIST");
    expect(&other, "+OK", "WATCH %sv", p);
    expect(&w, "+OK", "MANAGER.CLOSE %s", p);
    expect(&w, ":2", "DBSIZE");
    expect(&w, "nil", "GET %sv", p);
    expect(&w, ":0", "EXISTS %sv %sd %sl", p, p, p);
    expect(&w, ":0", "HLEN %sd", p);
    expect(&w, "+none", "TYPE %sl", p);
    expect(&w, ":-2", "TTL %sv", p);
    expect(&w, "[]", "KEYS %s*", p);
    expect(&w, "[\"0\" []]", "SCAN 0 MATCH %s* COUNT 100000", p);
    expect(&w, "\"2\"", "GET %sv", q);
    expect(&w, "\"3\"", "GET free");
    expect(&w, "-NOMANAGER *", "MANAGER.CLOSE %s", p);
    expect(&w, "[[\"prefix\" \"@*:\" *]]", "MANAGER.LIST");
    /* those who watched one of its keys are told, as if it had been deleted */
    expect(&other, "+OK", "MULTI");
    expect(&other, "+QUEUED", "PING");
    expect(&other, "nil", "EXEC");
    check(&w);
}

Test(manager, nothing_is_made_under_the_name_of_one_that_has_ended) {
    begin();
    expect(&w, "+OK", "SET free 1");
    expect(&w, ":1", "RPUSH list x");
    expect(&w, "+OK", "SET %sv 1", p);
    expect(&w, "+OK", "MANAGER.CLOSE %s", p);
    static const char *const makers[] = {"SET %sv 2",
                                         "SET %sv 2 NX",
                                         "INCR %sn",
                                         "APPEND %sv x",
                                         "HSET %sd f 1",
                                         "HINCRBY %sd f 1",
                                         "LPUSH %sl x",
                                         "RENAME free %sv",
                                         "COPY free %sv",
                                         "MSET a 1 %sv 2",
                                         "LMOVE list %sl LEFT LEFT",
                                         "SETRANGE %sv 1 x",
                                         "SORT list ALPHA STORE %ss"};
    for (size_t i = 0; i < sizeof(makers) / sizeof(makers[0]); i++) {
        char line[128];
        snprintf(line, sizeof(line), makers[i], p);
        expect(&w, "-NOMANAGER *", "%s", line);
    }
    expect(&w, "-NOMANAGER *", "SET @0000000000000000:x 1");
    expect(&w, "-NOMANAGER *", "SET @ffffffffffffffff:x 1");
    /* names that only look like it are ordinary */
    expect(&w, "+OK", "SET @000000000000000g:x 1");
    expect(&w, "+OK", "SET @00000000000000000:x 1");
    expect(&w, "nil", "GET a");
    expect(&w, "\"1\"", "GET free");
    expect(&w, ":1", "LLEN list");
    expect(&w, "-ERR no such key", "RENAME %sv free", p);
    expect(&w, ":0", "DEL %sv", p);
    /* in a transaction that command alone fails */
    expect(&w, "+OK", "MULTI");
    expect(&w, "+QUEUED", "SET %sv 1", p);
    expect(&w, "+QUEUED", "SET free 2");
    expect(&w, "[-NOMANAGER * +OK]", "EXEC");
    check(&w);
}

Test(manager, ends_with_its_connection) {
    begin();
    struct wire third;
    char id[32];
    serve_connect(&third);
    open_manager(&third, q);
    expect(&third, "+OK", "SET %sv 1", q);
    expect(&w, "+OK", "SET %sv 1", p);
    snprintf(id, sizeof(id), "%s", ask(&third, "CLIENT ID") + 1);
    expect(&w, ":1", "CLIENT KILL ID %s", id);
    expect(&w, "nil", "GET %sv", q);
    expect(&w, "\"1\"", "GET %sv", p);
    expect(&w, "-NOMANAGER *", "SET %sv 2", q);
    wire_close(&third);
    serve_connect(&third);
    open_manager(&third, q);
    expect(&third, "+OK", "SET %sv 1", q);
    expect(&third, "+RESET", "RESET");
    expect(&third, "nil", "GET %sv", q);
    open_manager(&third, q);
    expect(&third, "+OK", "SET %sv 1", q);
    wire_close(&third);
    uint64_t until = clock_now() + 10 * NS_PER_SEC;
    while (strcmp(ask(&w, "GET %sv", q), "nil") != 0) {
        cr_assert_lt(clock_now(), until);
    }
    expect(&w, "\"1\"", "GET %sv", p);
    check(&w);
}

Test(manager, rules_and_limits) {
    begin();
    expect(&w, "+OK", "MULTI");
    expect(&w, "-ERR *", "MANAGER.OPEN");
    expect(&w, "-EXECABORT *", "EXEC");
    expect(&w, "-NOMANAGER *", "MANAGER.CLOSE nonsense");
    expect(&w, "-NOMANAGER *", "MANAGER.CLOSE %sv", p);
    expect(&w, "-ERR wrong number *", "MANAGER.CLOSE");
    expect(&other, "+OK", "MANAGER.CLOSE %s", p); /* an administrator may */
    for (int i = 0; i < 64; i++) {
        open_manager(&w, p);
    }
    expect(&w, "-ERR this connection has 64 managers open*", "MANAGER.OPEN");
    /* places are used again, at once */
    for (int i = 0; i < 3000; i++) {
        open_manager(&other, q);
        expect(&other, "+OK", "SET %sv 1", q);
        expect(&other, ":1", "DEL %sv", q);
        expect(&other, "+OK", "MANAGER.CLOSE %s", q);
    }
    check(&w);
}

Test(manager, the_name_alone_decides) {
    begin();
    expect(&w, "+OK", "SET %sgiven 1", p);
    expect(&w, "+OK", "SET taken 2");
    expect(&w, ":2", "RPUSH %sl a b", p);
    expect(&w, "+OK", "RENAME %sgiven given", p);
    expect(&w, "+OK", "RENAME taken %staken", p);
    expect(&w, "\"a\"", "LMOVE %sl list LEFT LEFT", p);
    expect(&w, ":1", "COPY %staken copy", p);
    expect(&w, "+OK", "SET %sshort 1 PX 1", p);
    expect(&w, "+OK", "SET %slong 1 EX 1000", p);
    check(&w);
    expect(&w, "+OK", "MANAGER.CLOSE %s", p);
    expect(&w, "[\"1\" nil \"2\"]", "MGET given %staken copy", p);
    expect(&w, "[\"a\"]", "LRANGE list 0 -1");
    expect(&w, ":3", "DBSIZE");
    check(&w);
}

Test(manager, who_waits_for_its_list_is_told) {
    begin();
    tell(&other, "BLPOP %sl other 0", p);
    while (info_number(&w, "blocked_clients") != 1) {
    }
    expect(&w, "+OK", "MANAGER.CLOSE %s", p);
    expect_next(&other, "-NOMANAGER *");
    expect(&other, "-NOMANAGER *", "BLPOP %sl 0", p);
    open_manager(&w, p);
    char id[SERVE_ID];
    submit_line(&w, id, "shared pop \"\" ARG %sl ARG -1", p);
    uint64_t until = clock_now() + 10 * NS_PER_SEC;
    while (!like("*running*", ask(&w, "TASK.STATUS %s", id))) {
        cr_assert_lt(clock_now(), until);
    }
    expect(&w, "+OK", "MANAGER.CLOSE %s", p);
    expect(&w, "[* \"failed\" * \"error*Identifier removed*\"]", "TASK.WAIT %s TIMEOUT 10000", id);
}

Test(manager, a_worker_that_comes_late_leaves_nothing) {
    begin();
    expect(&w, "*", "TASK.CALL shared push x ARG %sl ARG %sm", p, p);
    expect(&w, ":1", "LLEN %sm", p);
    expect(&w, "+OK", "MANAGER.CLOSE %s", p);
    expect(&w, "-FAILED 43 Identifier removed", "TASK.CALL shared push x ARG %sl", p);
    expect(&w, ":0", "DBSIZE");
    check(&w);
}

Test(manager, ten_thousand_keys_go_without_a_stall) {
    begin();
    long long longest = 0, free_before = field(&w, "SEGMENT.INFO", "free_bytes");
    for (int i = 0; i < 10000; i++) {
        tell(&w, i % 10 ? "SET %sk%d value" : "HSET %sk%d f v g w", p, i);
    }
    for (int i = 0; i < 10000; i++) {
        hear(&w);
    }
    expect(&w, ":10000", "DBSIZE");
    expect(&w, "+OK", "SET free 1");
    expect(&w, "+OK", "MANAGER.CLOSE %s", p);
    expect(&w, ":1", "DBSIZE");
    uint64_t until = clock_now() + 20 * NS_PER_SEC;
    while (field(&w, "SEGMENT.INFO", "free_bytes") < free_before - (1 << 20)) {
        uint64_t began = clock_now();
        expect(&other, "\"1\"", "GET free");
        long long took = (long long)((clock_now() - began) / 1000);
        longest = took > longest ? took : longest;
        cr_assert_lt(clock_now(), until);
    }
    cr_assert_lt(
        longest, 100000,
        "us"); /* in one go it would be a wait for all; here other processes may interfere */
    check(&w);
    expect(&w, ":1", "DBSIZE");
}
