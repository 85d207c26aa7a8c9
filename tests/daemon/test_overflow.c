/* SPDX-License-Identifier: MIT */
/* Full queues: refuse, let the submitter wait, or drop the oldest. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "tests/daemon/serve_support.h"

static struct wire w, a, b;

static void begin(void) {
    serve_begin("pools = ( { name = \"wait\"; workers = 1; module = \"demo.so\"; queue_max = 3;\n"
                "    kill_grace = 0.2; overflow = \"block\"; queue_bytes = \"3K\"; },\n"
                "  { name = \"drop\"; workers = 1; module = \"demo.so\"; queue_max = 3;\n"
                "    kill_grace = 0.2; overflow = \"drop_oldest\"; },\n"
                "  { name = \"other\"; workers = 1; module = \"demo.so\"; queue_max = 3; } );\n");
    serve_connect(&w);
    serve_connect(&a);
    serve_connect(&b);
}

static void end(void) {
    wire_close(&w);
    wire_close(&a);
    wire_close(&b);
    serve_end();
}

TestSuite(overflow, .timeout = 60, .init = begin, .fini = end);

static void wait_blocked(int n) {
    while (info_number(&w, "blocked_clients") != n) {
    }
}

static void fill(const char *pool, int n) {
    char id[SERVE_ID];
    expect(&w, "+OK", "POOL.PAUSE %s OUT", pool);
    for (int i = 0; i < n; i++) {
        submit_line(&w, id, "%s echo %d", pool, i);
    }
}

Test(overflow, submitters_wait_and_go_on_in_their_order) {
    fill("wait", 3);
    tell(&a, "TASK.CALL wait echo a");
    wait_blocked(1);
    tell(&b, "TASK.MSUBMIT wait echo 2 b c");
    wait_blocked(2);
    tell(&b, "PING"); /* its later commands wait too, those of others do not */
    expect(&w, "\"x\"", "TASK.CALL other echo x");
    expect(&w, "*\"queued\" :3*\"busy_refused\" :0*", "POOL.INFO wait");
    expect(&w, "+OK", "POOL.RESUME wait OUT");
    expect_next(&a, "\"a\"");
    expect_next(&b, "[\"*\" \"*\"]");
    expect_next(&b, "+PONG");
    expect(&w, "+OK", "POOL.DRAIN wait TIMEOUT 10000");
}

/* The place is given at the claim, not at the end: a long task runs. */
Test(overflow, room_is_made_by_claims) {
    char id[SERVE_ID], last[SERVE_ID];
    fill("wait", 1);
    submit_line(&w, last, "wait sleep '' ARG 60000");
    submit_line(&w, id, "wait echo 2");
    tell(&a, "TASK.SUBMIT wait echo a");
    wait_blocked(1);
    expect(&w, "+OK", "POOL.RESUME wait OUT");
    take_id((hear(&a), &a), id);
    expect(&w, ":1", "TASK.CANCEL %s", last);
    expect(&w, "[*\"done\" \"a\" \"\"]", "TASK.WAIT %s", id);
    /* and by cancels */
    fill("wait", 2);
    submit_line(&w, id, "wait echo x DELAY 60000");
    tell(&a, "TASK.SUBMIT wait echo a DELAY 60000");
    wait_blocked(1);
    expect(&w, ":1", "TASK.CANCEL %s", id);
    expect(&w, "+OK", "POOL.RESUME wait");
    expect_next(&a, "\"*\"");
}

Test(overflow, the_wait_has_its_ends) {
    fill("wait", 3);
    uint64_t from = clock_now();
    expect(&a, "-BUSY the queue of pool 'wait' is full", "TASK.CALL wait echo a EXPIRE 80");
    cr_expect_geq(clock_now() - from, 79 * NS_PER_MS);
    expect(&a, "-BUSY*", "TASK.SUBMIT wait echo a DEADLINE 20");
    expect(&a, "-BUSY*", "TASK.MSUBMIT wait echo 4 1 2 3 4"); /* never */
    expect(&a, "+OK", "MULTI");
    expect(&a, "+QUEUED", "TASK.SUBMIT wait echo a");
    expect(&a, "[-BUSY*]", "EXEC");
    /* somebody makes it end */
    long long id = 0;
    cr_assert_eq(sscanf(ask(&a, "CLIENT ID"), ":%lld", &id), 1);
    tell(&a, "TASK.SUBMIT wait echo a");
    wait_blocked(1);
    expect(&w, ":1", "CLIENT UNBLOCK %lld ERROR", id);
    expect_next(&a, "-BUSY*");
    /* it leaves: its task is never submitted, and who waits behind it is next */
    tell(&a, "TASK.SUBMIT wait echo gone");
    wait_blocked(1);
    tell(&b, "TASK.CALL wait echo b");
    wait_blocked(2);
    wire_close(&a);
    wait_blocked(1);
    expect(&w, "+OK", "POOL.RESUME wait");
    expect_next(&b, "\"b\"");
    expect(&w, "*\"submitted\" :4*", "POOL.INFO wait");
    /* a pool that takes nothing makes nobody wait */
    fill("wait", 3);
    tell(&b, "TASK.SUBMIT wait echo b");
    wait_blocked(1);
    expect(&w, "+OK", "POOL.PAUSE wait IN");
    expect_next(&b, "-BUSY pool 'wait' is paused");
    expect(&b, "-BUSY pool 'wait' is paused", "TASK.SUBMIT wait echo b");
}

Test(overflow, bytes_count_too) {
    static char big[2048];
    char id[SERVE_ID];
    memset(big, 'x', sizeof(big) - 1);
    expect(&w, "+OK", "POOL.PAUSE wait OUT");
    submit_line(&w, id, "wait echo %s", big);
    tell(&a, "TASK.CALL wait echo %s", big);
    wait_blocked(1);
    tell(&b, "TASK.CALL wait echo 1"); /* would fit, but waits behind the other */
    wait_blocked(2);
    expect(&w, "+OK", "POOL.RESUME wait");
    expect_next(&a, "\"x*x\"");
    expect_next(&b, "\"1\"");
}

Test(overflow, the_oldest_is_dropped) {
    char id[4][SERVE_ID];
    expect(&w, "+OK", "POOL.PAUSE drop OUT");
    tell(&a, "TASK.CALL drop echo first");
    wait_blocked(1);
    for (int i = 0; i < 3; i++) {
        submit_line(&w, id[i], "drop echo %d%s", i, i == 1 ? " RETRY 3 PRIORITY 200" : "");
    }
    expect_next(&a, "-CANCELLED cancelled by a newer one: the queue was full");
    expect(&w, "[\"*\" \"*\"]", "TASK.MSUBMIT drop echo 2 x y");
    expect(&w, "[\"cancelled\" nil \"cancelled by a newer one: the queue was full\"]",
           "TASK.RESULT %s", id[0]);
    expect(&w, "[\"cancelled\"*]", "TASK.RESULT %s", id[1]);
    expect(&w, "nil", "TASK.RESULT %s", id[2]);
    expect(&w, "-BUSY*", "TASK.MSUBMIT drop echo 4 1 2 3 4");
    expect(&w, "*\"queued\" :3*\"dropped\" :3*", "POOL.INFO drop");
    expect(&w, "+OK", "POOL.RESUME drop");
    expect(&w, "[*\"done\" \"2\" \"\"]", "TASK.WAIT %s", id[2]);
    /* what runs is left alone */
    submit_line(&w, id[3], "drop sleep '' ARG 60000");
    while (!like("*\"running\"*", ask(&w, "TASK.STATUS %s", id[3]))) {
    }
    for (int i = 0; i < 9; i++) {
        submit_line(&w, id[i % 3], "drop echo %d", i);
    }
    expect(&w, "*\"state\" \"running\"*", "TASK.STATUS %s", id[3]);
    expect(&w, ":1", "TASK.CANCEL %s", id[3]);
    expect(&w, "[*\"done\" \"6\" \"\"]", "TASK.WAIT %s", id[0]);
    expect(&w, "*\"errors\" :0*", "SEGMENT.CHECK");
}
