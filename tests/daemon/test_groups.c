/* SPDX-License-Identifier: MIT */
/* Groups of tasks: their one end, by waiting and on their channel; what comes after them; cancelling;
 * workers killed between. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>

#include "lib/base/clock.h"
#include "tests/daemon/serve_support.h"

static struct wire w, other;

static void begin(void) {
    serve_begin(
        "result_keep = 0.3;\n"
        "pools = ( { name = \"demo\"; workers = 2; module = \"demo.so\"; kill_grace = 0.2;\n"
        "    queue_max = 20; backoff = 0.01; } );\n");
    serve_connect(&w);
    serve_connect(&other);
}

static void end(void) {
    wire_close(&w);
    wire_close(&other);
    serve_end();
}

TestSuite(groups, .timeout = 60, .init = begin, .fini = end);

Test(groups, one_end_when_closed_and_all_have_ended) {
    char id[SERVE_ID], last[SERVE_ID];
    expect(&w, "-NOGROUP no such group 'g'", "GROUP.INFO g");
    submit_line(&w, last, "demo sleep '' ARG 60000 GROUP g");
    submit_line(&w, id, "demo echo x GROUP g");
    expect(&w, "[\"*\" \"*\"]", "TASK.MSUBMIT demo fail 2 a b ARG no GROUP g");
    expect(&other, "*", "SUBSCRIBE group:g");
    while (!like("*\"total\" :4 \"live\" :1 \"done\" :1 \"failed\" :2*", ask(&w, "GROUP.INFO g"))) {
    }
    expect(&w, "*\"closed\" \"\" \"complete\" \"\"*\"ended_ms\" :0]", "GROUP.INFO g");
    expect(&w, "nil", "GROUP.WAIT g TIMEOUT 20");
    expect(&w, "+OK", "GROUP.CLOSE g");
    expect(&w, "+OK", "GROUP.CLOSE g");
    expect(&w, "-CLOSED this group takes no more tasks", "TASK.SUBMIT demo echo x GROUP g");
    expect(&w, "*\"closed\" \"yes\" \"complete\" \"\"*", "GROUP.INFO g");
    expect(&w, "nil", "GROUP.WAIT g TIMEOUT 0");
    expect(&other, "*", "SUBSCRIBE task:%s", last);
    expect(&w, ":1", "TASK.CANCEL %s", last);
    /* after the task's own */
    expect_next(&other, "[\"message\" \"task:*\" *]");
    expect_next(&other,
                "[\"message\" \"group:g\" \"g failed total=4 done=1 failed=2 lost=0 timeout=0 "
                "cancelled=1 expired=0*\"]");
    expect(&other, "[\"pong\" \"\"]", "PING"); /* once */
    expect(&w, "*\"complete\" \"yes\" \"total\" :4 \"live\" :0*", "GROUP.WAIT g");
    /* late ones are told at once */
    expect(&w, "[\"subscribe\"*]", "SUBSCRIBE group:g");
    expect_next(&w, "[\"message\" \"group:g\" \"g failed *\"]");
    expect(&w, "*", "UNSUBSCRIBE group:g");
    expect(&w, "-ERR channels that begin *", "PUBLISH group:g x");
}

Test(groups, waiting) {
    char id[SERVE_ID];
    submit_line(&w, id, "demo echo x DELAY 100 GROUP h");
    tell(&other, "GROUP.WAIT h");
    expect(&w, "[*]", "TASK.MSUBMIT demo echo 5 1 2 3 4 5 GROUP h LAST");
    expect_next(&other, "*\"total\" :6 \"live\" :0 \"done\" :6*");
    cr_expect(like("[\"done\"*]", ask(&w, "TASK.RESULT %s", id)));
    expect(&w, "-ERR LAST closes a group*", "TASK.SUBMIT demo echo x LAST");
    /* retries are no ends; a last call */
    submit_line(&w, id, "demo fail '' ARG no RETRY 2 GROUP i");
    expect(&w, "\"y\"", "TASK.CALL demo echo y GROUP i LAST");
    expect(&w, "*\"total\" :2 \"live\" :0 \"done\" :1 \"failed\" :1*", "GROUP.WAIT i");
    /* who leaves while he waits */
    submit_line(&w, id, "demo sleep '' ARG 60000 GROUP j LAST");
    tell(&other, "GROUP.WAIT j");
    while (info_number(&w, "blocked_clients") != 1) {
    }
    wire_close(&other);
    expect(&w, ":1", "GROUP.CANCEL j");
    expect(&w, "*\"cancelled\" :1*", "GROUP.WAIT j");
    expect(&w, "*cancelled by client *, with its group*", "TASK.STATUS %s", id);
    expect(&w, "-ERR syntax error", "GROUP.WAIT j TIMEOUT");
    expect(&w, "-ERR a group's name *", "TASK.SUBMIT demo echo x GROUP a,b");
    expect(&w, "-ERR a group's name *", "TASK.SUBMIT demo echo x GROUP ''");
}

/* What was refused as a whole has never been in it. */
Test(groups, all_or_none) {
    char id[SERVE_ID];
    expect(&w, "+OK", "POOL.PAUSE demo OUT");
    submit_line(&w, id, "demo echo x GROUP g");
    expect(&w, "-BUSY*",
           "TASK.MSUBMIT demo echo 20 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 "
           "GROUP g LAST");
    expect(&w, "*\"closed\" \"\"*\"total\" :1*", "GROUP.INFO g");
    expect(&w, ":1", "GROUP.CANCEL g");
    expect(&w, ":0", "GROUP.CANCEL g");
    expect(&w, "+OK", "GROUP.CLOSE g");
    expect(&w, "*\"complete\" \"yes\"*\"cancelled\" :1*", "GROUP.INFO g");
    /* forgotten result_keep after its end; one that is waited for is not */
    submit_line(&w, id, "demo echo x GROUP open");
    expect(&w, "+OK", "POOL.RESUME demo");
    tell(&other, "GROUP.WAIT open");
    uint64_t until = clock_now() + 600 * NS_PER_MS;
    while (clock_now() < until) {
        expect(&w, "\"x\"", "TASK.CALL demo echo x");
    }
    expect(&w, "-NOGROUP*", "GROUP.INFO g");
    expect(&w, "+OK", "GROUP.CLOSE open");
    expect_next(&other, "*\"done\" :1*");
}

Test(groups, tasks_come_after_a_group) {
    char ok[SERVE_ID], any[SERVE_ID], failed[SERVE_ID];
    submit_line(&w, ok, "demo sleep '' ARG 50 GROUP g");
    submit_line(&w, ok, "demo echo ok AFTER group:g OK");
    submit_line(&w, any, "demo echo any AFTER group:g ANY");
    submit_line(&w, failed, "demo echo failed AFTER group:g FAILED GROUP h LAST");
    expect(&w, "*\"waits_for\" \"after\"*", "TASK.STATUS %s", ok);
    expect(&w, "-FAILED*", "TASK.CALL demo fail '' ARG no GROUP g");
    expect(&w, "nil", "TASK.RESULT %s", any); /* it is not closed */
    expect(&w, "+OK", "GROUP.CLOSE g");
    expect(&w, "[*\"cancelled\" nil \"cancelled by group g, which it comes after\"]",
           "TASK.WAIT %s", ok);
    expect(&w, "[*\"done\" \"any\" \"\"]", "TASK.WAIT %s", any);
    expect(&w, "[*\"done\" \"failed\" \"\"]", "TASK.WAIT %s", failed);
    /* a chain of groups, each known already when the next is made */
    expect(&w, "\"x\"", "TASK.CALL demo echo x AFTER group:h OK");
    submit_line(&w, ok, "demo echo x DELAY 30 GROUP k LAST");
    expect(&w, "\"y\"", "TASK.CALL demo echo y AFTER group:k OK GROUP l LAST");
    submit_line(&w, ok, "demo echo x DELAY 60000 GROUP m");
    submit_line(&w, any, "demo echo x AFTER group:m ANY");
    expect(&w, ":1", "TASK.CANCEL %s", any);
    expect(&w, "-NOGROUP*", "TASK.SUBMIT demo echo x AFTER group:none OK");
    expect(&w, "-ERR a task cannot come after its own group",
           "TASK.SUBMIT demo echo x AFTER group:m OK GROUP m");
}

/* Workers die under the tasks of many groups: each is told once, with as many ends as tasks. */
Test(groups, each_is_told_once_whatever_dies) {
    enum { GROUPS = 12, EACH = 12 };
    expect(&other, "*", "PSUBSCRIBE group:*");
    for (int i = 0; i < GROUPS; i++) {
        for (int k = 0; k < EACH; k++) {
            const char *how = k % 4 == 0   ? "crash '' ARG KILL RETRY 1 BACKOFF 1"
                              : k % 4 == 1 ? "fail '' ARG no RETRY 1 BACKOFF 1"
                                           : "echo x PRIORITY 140";
            while (!like("\"*\"", ask(&w, "TASK.SUBMIT demo %s GROUP n%d%s", how, i,
                                      k == EACH - 1 ? " LAST" : ""))) {
            }
        }
    }
    for (int i = 0; i < GROUPS; i++) {
        hear(&other);
        cr_expect(like("[\"pmessage\" * \"n* failed total=12 done=6 failed=3 lost=3 *\"]",
                       wire_show(&other)),
                  "%s", wire_show(&other));
    }
    expect(&other, "[\"pong\" \"\"]", "PING");
    expect(&w, "*\"errors\" :0*", "SEGMENT.CHECK");
}
