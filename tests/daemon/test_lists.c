/* SPDX-License-Identifier: MIT */
/* Waiting for lists, live: who is served, when and in which order, whoever pushes. What Redis does in the same place is
 * compared by oracle_objects.py; here are the clock, the deaths, workers that push, and large numbers. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "tests/daemon/serve_support.h"
#include "tests/support/child.h"

enum { CLIENTS = 8, CROWD = 300 };

static struct wire w, c[CLIENTS], crowd[CROWD];

static void begin(void) {
    char config[1024];
    snprintf(config, sizeof(config),
             "stop_timeout = 1;\n"
             "pools = ( { name = \"shared\"; workers = 2; module = "
             "\"%s/tests/daemon/mod_shared.so\"; } );\n",
             getenv("HEARTH_BUILD"));
    serve_begin(config);
    serve_connect(&w);
    for (int i = 0; i < CLIENTS; i++) {
        serve_connect(&c[i]);
    }
}

static void end(void) {
    wire_close(&w);
    for (int i = 0; i < CLIENTS; i++) {
        wire_close(&c[i]);
    }
    for (int i = 0; i < CROWD; i++) {
        wire_close(&crowd[i]);
    }
    serve_end();
}

TestSuite(lists, .init = begin, .fini = end, .timeout = 100);

/* Until so many clients are blocked. */
static void blocked(int n) {
    uint64_t until = clock_now() + 10 * NS_PER_SEC;
    while (info_number(&w, "blocked_clients") != n) {
        cr_assert_lt(clock_now(), until, "not %d clients are blocked", n);
    }
}

/* Says it and waits until it is the n-th to wait. */
#define wait_as(n, wire, ...)                                                                      \
    do {                                                                                           \
        tell(wire, __VA_ARGS__);                                                                   \
        blocked(n);                                                                                \
    } while (0)

static double ms_since(uint64_t at) {
    return (double)(clock_now() - at) / 1e6;
}

Test(lists, the_first_to_come_is_the_first_to_be_served) {
    for (int i = 0; i < CLIENTS; i++) {
        wait_as(i + 1, &c[i], i % 2 ? "BLPOP q 0" : "BRPOP q 0");
    }
    cr_assert_str_eq(ask(&w, "RPUSH q a"), ":1");
    expect_next(&c[0], "[\"q\" \"a\"]");
    cr_assert_str_eq(ask(&w, "RPUSH q b c d"), ":3");
    expect_next(&c[1], "[\"q\" \"b\"]");
    expect_next(&c[2], "[\"q\" \"d\"]");
    expect_next(&c[3], "[\"q\" \"c\"]");
    blocked(4);
    /* who has been served and comes again is the last one */
    wait_as(5, &c[0], "BLPOP q 0");
    cr_assert_str_eq(ask(&w, "RPUSH q 1 2 3 4 5 6"), ":6");
    expect_next(&c[4], "[\"q\" \"6\"]");
    expect_next(&c[5], "[\"q\" \"1\"]");
    expect_next(&c[6], "[\"q\" \"5\"]");
    expect_next(&c[7], "[\"q\" \"2\"]");
    expect_next(&c[0], "[\"q\" \"3\"]");
    cr_assert_str_eq(ask(&w, "LRANGE q 0 -1"), "[\"4\"]");
    blocked(0);
}

Test(lists, of_several_keys_the_first_that_has_something) {
    ask(&w, "RPUSH b 1");
    ask(&w, "RPUSH c 2");
    expect(&c[0], "[\"b\" \"1\"]", "BLPOP a b c 0");
    expect(&c[0], "[\"c\" \"2\"]", "BLPOP a b c 0");
    expect(&w, ":0", "EXISTS a b c");
    wait_as(1, &c[0], "BLPOP a b c 0");
    wait_as(2, &c[1], "BLMPOP 0 3 c b a RIGHT COUNT 2");
    ask(&w, "RPUSH c 1 2 3");
    expect_next(&c[0], "[\"c\" \"1\"]");
    expect_next(&c[1], "[\"c\" [\"3\" \"2\"]]");
    /* neither waits anywhere any more */
    ask(&w, "RPUSH a x");
    ask(&w, "RPUSH b x");
    expect(&w, "[\"x\"]", "LRANGE a 0 -1");
    expect(&w, "[\"x\"]", "LRANGE b 0 -1");
    /* what is no list is no reason to go, but none to begin either */
    expect(&w, "+OK", "SET s text");
    expect(&c[0], "-WRONGTYPE *", "BLPOP none s a 0");
    wait_as(1, &c[0], "BLPOP late 0");
    expect(&w, "+OK", "SET late text");
    expect(&w, ":1", "DEL late");
    expect(&w, ":1", "RPUSH late 1");
    expect_next(&c[0], "[\"late\" \"1\"]");
}

Test(lists, the_time_is_up) {
    uint64_t at = clock_now();
    expect(&c[0], "nil", "BLPOP q 0.15");
    double took = ms_since(at);
    cr_assert(took > 149 && took < 5000, "%.1f ms", took);
    at = clock_now();
    tell(&c[0], "BLPOP q p 0.2");
    tell(&c[1], "BLMOVE q p LEFT LEFT 0.05");
    tell(&c[2], "BRPOP q 0.1");
    tell(&c[0], "PING behind");
    expect_next(&c[1], "nil");
    expect_next(&c[2], "nil");
    cr_assert_gt(ms_since(at), 99);
    expect_next(&c[0], "nil");
    cr_assert_gt(ms_since(at), 199);
    expect_next(&c[0], "\"behind\"");
    /* nobody takes it now */
    expect(&w, ":1", "RPUSH q 1");
    expect(&w, ":1", "LLEN q");
    /* many waits that end at once */
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < CLIENTS; i++) {
            tell(&c[i], "BLPOP none 0.001");
            tell(&c[i], "BLPOP none 0.002");
        }
        for (int i = 0; i < CLIENTS; i++) {
            expect_next(&c[i], "nil");
            expect_next(&c[i], "nil");
        }
    }
    blocked(0);
}

Test(lists, who_is_gone_takes_nothing) {
    for (int i = 0; i < CLIENTS; i++) {
        wait_as(i + 1, &c[i], "BLPOP q other:%d 0", i);
    }
    for (int i = 0; i < CLIENTS; i += 2) {
        wire_close(&c[i]);
    }
    blocked(CLIENTS / 2);
    cr_assert_str_eq(ask(&w, "RPUSH q 1 2 3 4 5"), ":5");
    for (int i = 1; i < CLIENTS; i += 2) {
        char text[64];
        snprintf(text, sizeof(text), "[\"q\" \"%d\"]", i / 2 + 1);
        expect_next(&c[i], text);
    }
    expect(&w, "[\"5\"]", "LRANGE q 0 -1");
    blocked(0);
}

Test(lists, who_is_killed_takes_nothing) {
    expect(&c[0], ":*", "CLIENT ID");
    long long id = atoll(wire_show(&c[0]) + 1);
    wait_as(1, &c[0], "BLPOP q 0");
    wait_as(2, &c[1], "BLPOP q 0");
    expect(&w, ":1", "CLIENT KILL ID %lld", id);
    expect_closed(&c[0]);
    expect(&w, ":1", "RPUSH q 1");
    expect_next(&c[1], "[\"q\" \"1\"]");
    expect(&c[2], ":*", "CLIENT ID");
    id = atoll(wire_show(&c[2]) + 1);
    wait_as(1, &c[2], "BLMOVE q p LEFT LEFT 0");
    expect(&w, ":1", "CLIENT UNBLOCK %lld", id);
    expect_next(&c[2], "nil");
    wait_as(1, &c[2], "BLMOVE q p LEFT LEFT 0");
    expect(&w, ":1", "CLIENT UNBLOCK %lld ERROR", id);
    expect_next(&c[2], "-UNBLOCKED *");
    expect(&w, ":0", "CLIENT UNBLOCK %lld", id);
    expect(&w, ":1", "RPUSH q 1");
    expect(&w, "[\"1\"]", "LRANGE q 0 -1");
}

Test(lists, a_chain_of_moves_passes_an_element_on) {
    /* the last first, so that each finds its list empty */
    wait_as(1, &c[0], "BLPOP l:%d 0", CLIENTS - 1);
    for (int i = 1; i < CLIENTS; i++) {
        wait_as(i + 1, &c[i], "BLMOVE l:%d l:%d LEFT RIGHT 0", CLIENTS - 1 - i, CLIENTS - i);
    }
    cr_assert_str_eq(ask(&w, "RPUSH l:0 hot"), ":1");
    for (int i = 1; i < CLIENTS; i++) {
        expect_next(&c[i], "\"hot\"");
    }
    expect_next(&c[0], "[\"l:7\" \"hot\"]");
    expect(&w, ":0", "DBSIZE");
    /* in a ring it stops when everybody has been served */
    wait_as(1, &c[0], "BLMOVE a b LEFT LEFT 0");
    wait_as(2, &c[1], "BLMOVE b a LEFT LEFT 0");
    wait_as(3, &c[2], "BRPOPLPUSH a a 0");
    cr_assert_str_eq(ask(&w, "RPUSH a 1"), ":1");
    for (int i = 0; i < 3; i++) {
        expect_next(&c[i], "\"1\"");
    }
    expect(&w, "[\"1\"]", "LRANGE a 0 -1");
    /* a wrong destination is told, and costs nothing */
    ask(&w, "DEL a");
    wait_as(1, &c[0], "BLMOVE a text LEFT LEFT 0");
    wait_as(2, &c[1], "BLPOP a 0");
    ask(&w, "SET text x");
    ask(&w, "RPUSH a 1");
    expect_next(&c[0], "-WRONGTYPE *");
    expect_next(&c[1], "[\"a\" \"1\"]");
}

Test(lists, a_transaction_serves_when_it_is_over) {
    wait_as(1, &c[0], "BLPOP x y 0");
    wait_as(2, &c[1], "BLPOP y 0");
    expect(&w, "+OK", "MULTI");
    expect(&w, "+QUEUED", "RPUSH y 1 2 3");
    expect(&w, "+QUEUED", "RPUSH x 4");
    expect(&w, "+QUEUED", "LPOP y");
    expect(&w, "+QUEUED", "BLPOP x 0");
    expect(&w, "+QUEUED", "BLPOP x 0");
    expect(&w, "+QUEUED", "BLMOVE x y LEFT LEFT 0");
    expect(&w, "[:3 :1 \"1\" [\"x\" \"4\"] nil nil]", "EXEC");
    expect_next(&c[0], "[\"y\" \"2\"]");
    expect_next(&c[1], "[\"y\" \"3\"]");
    /* what comes and goes within it nobody sees */
    wait_as(1, &c[0], "BLPOP x 0");
    tell(&w, "MULTI");
    tell(&w, "RPUSH x 1");
    tell(&w, "DEL x");
    tell(&w, "EXEC");
    for (int i = 0; i < 3; i++) {
        hear(&w);
    }
    expect_next(&w, "[:1 :1]");
    blocked(1);
    expect(&w, ":1", "RPUSH x 2");
    expect_next(&c[0], "[\"x\" \"2\"]");
}

Test(lists, a_list_that_another_name_becomes_serves_too) {
    wait_as(1, &c[0], "BLPOP new 0");
    expect(&w, ":2", "RPUSH old 1 2");
    expect(&w, "+OK", "RENAME old new");
    expect_next(&c[0], "[\"new\" \"1\"]");
    wait_as(1, &c[0], "BLPOP copy 0");
    expect(&w, ":1", "COPY new copy");
    expect_next(&c[0], "[\"copy\" \"2\"]");
    expect(&w, ":1", "LLEN new");
}

Test(lists, a_worker_that_pushes_serves_clients) {
    for (int round = 0; round < 100; round++) {
        wait_as(1, &c[0], "BLPOP nothing from:worker 0");
        wait_as(2, &c[1], "BLMOVE from:worker moved LEFT LEFT 0");
        wait_as(3, &c[2], "BRPOP moved 0");
        expect(&w, "\"\"", "TASK.CALL shared push first ARG from:worker");
        expect_next(&c[0], "[\"from:worker\" \"first\"]");
        uint64_t at = clock_now();
        expect(&w, "\"\"", "TASK.CALL shared push second ARG from:worker");
        expect_next(&c[1], "\"second\"");
        expect_next(&c[2], "[\"moved\" \"second\"]");
        cr_assert_lt(ms_since(at), 5000);
    }
    /* and the other way round: a worker waits, a client pushes */
    char id[SERVE_ID];
    submit_line(&w, id, "shared pop \"\" ARG for:worker ARG 60000");
    expect(&w, ":1", "RPUSH for:worker given");
    expect(&w, "[* \"done\" \"given\" \"\"]", "TASK.WAIT %s", id);
    expect(&w, ":0", "DBSIZE");
}

Test(lists, a_crowd) {
    for (int i = 0; i < CROWD; i++) {
        serve_connect(&crowd[i]);
        tell(&crowd[i], "BLPOP all own:%d 0", i);
    }
    blocked(CROWD);
    for (int i = 0; i < CROWD; i += 2) {
        ask(&w, "RPUSH own:%d %d", i, i);
        char text[64];
        snprintf(text, sizeof(text), "[\"own:%d\" \"%d\"]", i, i);
        expect_next(&crowd[i], text);
    }
    blocked(CROWD / 2);
    /* one push for all that are left */
    struct resp_arg words[CROWD / 2 + 2] = {{"RPUSH", 5}, {"all", 3}};
    for (int i = 0; i < CROWD / 2; i++) {
        words[i + 2] = (struct resp_arg){"x", 1};
    }
    cr_assert_eq(wire_send_words(&w, words, CROWD / 2 + 2), 0);
    expect_next(&w, ":150");
    for (int i = 1; i < CROWD; i += 2) {
        expect_next(&crowd[i], "[\"all\" \"x\"]");
    }
    blocked(0);
    expect(&w, ":0", "DBSIZE");
}

Test(lists, what_waits_behind_a_wait_is_carried_out_after_it) {
    tell(&c[0], "BLPOP q 0");
    for (int i = 0; i < 100; i++) {
        tell(&c[0], "RPUSH p %d", i);
    }
    tell(&c[0], "BLPOP p 0");
    blocked(1);
    expect(&w, ":0", "LLEN p");
    expect(&w, ":1", "RPUSH q go");
    expect_next(&c[0], "[\"q\" \"go\"]");
    for (int i = 1; i <= 100; i++) {
        char text[16];
        snprintf(text, sizeof(text), ":%d", i);
        expect_next(&c[0], text);
    }
    expect_next(&c[0], "[\"p\" \"0\"]");
}
