/* SPDX-License-Identifier: MIT */
/* Users take turns. Only root can be several of them. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/daemon/serve_support.h"
#include "tests/support/child.h"

enum { ADA = 12341, BOB = 12342, MANY = 300, FEW = 20 };

static struct wire w, ends;

static void begin(void) {
    serve_begin("pools = ( { name = \"fair\"; workers = 1; module = \"demo.so\"; fair = true;\n"
                "    weights = [ \"12341:3\" ]; ageing = 0.1; },\n"
                "  { name = \"not\"; workers = 1; module = \"demo.so\"; } );\n");
    cr_assert_eq(chmod(server.dir, 0755), 0);
    cr_assert_eq(chmod(server.socket, 0666), 0);
    serve_connect(&w);
    serve_connect(&ends);
}

static void end(void) {
    wire_close(&w);
    wire_close(&ends);
    serve_end();
}

TestSuite(fair, .timeout = 60, .init = begin, .fini = end);

struct batch {
    const char *pool;
    uid_t uid;
    int n;
    char letter;
};

static int submit_batch(void *arg) {
    const struct batch *b = arg;
    struct wire mine;
    if (setgroups(0, NULL) || setgid(b->uid) || setuid(b->uid) || wire_open(&mine, server.socket)) {
        return 100;
    }
    for (int i = 0; i < b->n; i++) {
        char id[SERVE_ID];
        submit_line(&mine, id, "%s echo %c", b->pool, b->letter);
    }
    wire_close(&mine);
    return 0;
}

static void submit_as(const char *pool, uid_t uid, int n, char letter) {
    struct batch b = {pool, uid, n, letter};
    cr_assert_eq(child_wait(child_start(submit_batch, &b)), 0);
}

/* The letters in the order in which the tasks ended. */
static void run_all(const char *pool, int n, char *ret) {
    expect(&ends, "*", "PSUBSCRIBE task:*");
    expect(&w, "+OK", "POOL.RESUME %s", pool);
    for (int i = 0; i < n; i++) {
        const char *text = hear(&ends);
        const char *last = strrchr(text, '"');
        cr_assert(last && last > text, "%s", text);
        ret[i] = last[-1];
    }
    ret[n] = '\0';
    expect(&ends, "*", "PUNSUBSCRIBE");
}

static int count(const char *text, int n, char letter) {
    int found = 0;
    for (int i = 0; i < n; i++) {
        found += text[i] == letter;
    }
    return found;
}

Test(fair, turns_are_by_weight_whoever_queues_how_much) {
    static char order[2 * MANY + FEW + 1];
    if (getuid() != 0) {
        cr_skip_test("only root can be somebody else");
    }
    expect(&w, "+OK", "POOL.PAUSE fair OUT");
    submit_as("fair", BOB, MANY, 'b');
    submit_as("fair", ADA, MANY, 'a');
    submit_as("fair", 0, FEW, 'r');
    run_all("fair", 2 * MANY + FEW, order);
    /* 3 : 1 : 1 while all three have some, ... */
    for (int n = 20; n <= 5 * FEW; n += 10) {
        cr_expect(abs(count(order, n, 'a') - n * 3 / 5) <= 2, "%d of %d: %.*s",
                  count(order, n, 'a'), n, n, order);
        cr_expect(abs(count(order, n, 'r') - n / 5) <= 2);
    }
    /* ... and 3 : 1 afterwards, until she has none */
    int two = count(order, 300, 'b') + count(order, 300, 'a');
    cr_expect_eq(two, 300 - FEW);
    cr_expect(abs(count(order, 300, 'a') - (60 + 200 * 3 / 4)) <= 4, "%d", count(order, 300, 'a'));
    cr_expect_eq(count(order, 2 * MANY + FEW, 'b'), MANY);
    /* nobody has saved turns up while he had nothing to do: his ones come in turn, not all first */
    expect(&w, "+OK", "POOL.PAUSE fair OUT");
    submit_as("fair", BOB, 40, 'b');
    submit_as("fair", 0, 40, 'r');
    run_all("fair", 80, order);
    cr_expect(abs(count(order, 40, 'b') - 20) <= 2, "%.80s", order);
}

/* Without it, who came first goes first. */
Test(fair, others_are_first_come_first_served) {
    static char order[81];
    if (getuid() != 0) {
        cr_skip_test("only root can be somebody else");
    }
    expect(&w, "+OK", "POOL.PAUSE not OUT");
    submit_as("not", BOB, 40, 'b');
    submit_as("not", ADA, 40, 'a');
    run_all("not", 80, order);
    cr_expect_eq(count(order, 40, 'b'), 40);
}

Test(fair, of_one_user_priorities_count_and_all_else_works) {
    char a[SERVE_ID], b[SERVE_ID], c[SERVE_ID];
    static char order[4];
    expect(&w, "+OK", "POOL.PAUSE fair OUT");
    submit_line(&w, a, "fair echo 3 PRIORITY 200");
    submit_line(&w, b, "fair echo 2");
    submit_line(&w, c, "fair echo 1 PRIORITY 200 LIMIT k 1");
    expect(&w, ":1", "TASK.PRIORITY %s 1", a);
    run_all("fair", 3, order);
    cr_assert_str_eq(order, "123");
    expect(&w, "-FAILED*", "TASK.CALL fair fail '' ARG no RETRY 2 BACKOFF 1");
    submit_line(&w, a, "fair sleep '' ARG 60000");
    submit_line(&w, b, "fair echo x EXPIRE 30");
    expect(&w, "[*\"expired\"*]", "TASK.WAIT %s", b);
    submit_line(&w, c, "fair echo y");
    expect(&w, ":1", "TASK.CANCEL %s", a);
    expect(&w, "[*\"done\" \"y\" \"\"]", "TASK.WAIT %s", c);
    expect(&w, "*\"errors\" :0*", "SEGMENT.CHECK");
}
