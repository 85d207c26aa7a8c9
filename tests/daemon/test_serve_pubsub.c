/* SPDX-License-Identifier: MIT */
/* Channels, and the ends of tasks on them and as pushes. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "tests/daemon/serve_support.h"

static struct wire w, other, third;

static void end(void) {
    wire_close(&w);
    wire_close(&other);
    wire_close(&third);
    serve_end();
}

static void begin(void) {
    serve_begin(NULL);
    serve_connect(&w);
    serve_connect(&other);
    ask(&w, "PING"); /* so that it is client 1 */
    ask(&other, "PING");
}

TestSuite(serve_pubsub, .timeout = 60, .fini = end);

Test(serve_pubsub, between_clients) {
    begin();
    expect(&w, "[\"subscribe\" \"news\" :1]", "SUBSCRIBE news weather");
    expect_next(&w, "[\"subscribe\" \"weather\" :2]");
    expect(&w, "[\"subscribe\" \"news\" :2]", "SUBSCRIBE news");
    expect(&w, "[\"psubscribe\" \"n?w[s-z]\" :3]", "PSUBSCRIBE n?w[s-z]");
    expect(&other, ":2", "PUBLISH news hello");
    expect_next(&w, "[\"message\" \"news\" \"hello\"]");
    expect_next(&w, "[\"pmessage\" \"n?w[s-z]\" \"news\" \"hello\"]");
    expect(&other, ":1", "PUBLISH newt hello");
    expect_next(&w, "[\"pmessage\" \"n?w[s-z]\" \"newt\" \"hello\"]");
    expect(&other, ":0", "PUBLISH newr hello");
    expect(&other, "[\"news\" :1 \"none\" :0]", "PUBSUB NUMSUB news none");
    expect(&other, ":1", "PUBSUB NUMPAT");
    ask(&other, "PUBSUB CHANNELS");
    cr_assert_eq(other.doc.v[0].count, 2);
    expect(&other, "[\"weather\"]", "PUBSUB CHANNELS w*");
    expect(&other, "[+PUBSUB <subcommand>*", "PUBSUB HELP");
    expect(&w, "[\"unsubscribe\" \"weather\" :2]", "UNSUBSCRIBE weather none");
    expect_next(&w, "[\"unsubscribe\" \"none\" :2]");
    expect(&w, "[\"unsubscribe\" \"news\" :1]", "UNSUBSCRIBE");
    expect(&w, "[\"unsubscribe\" nil :1]", "UNSUBSCRIBE");
    expect(&w, "[\"punsubscribe\" \"n?w[s-z]\" :0]", "PUNSUBSCRIBE");
    expect(&w, "+PONG", "PING");
    expect(&other, ":0", "PUBLISH news hello");
    expect(&other, "[]", "PUBSUB CHANNELS");
}

Test(serve_pubsub, what_a_resp2_subscriber_may_say) {
    begin();
    expect(&w, "[\"subscribe\" \"a\" :1]", "SUBSCRIBE a");
    expect(&w,
           "-ERR Can't execute 'echo': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / "
           "RESET are allowed in this context",
           "ECHO x");
    expect(&w, "-ERR Can't execute 'task.submit': *", "TASK.SUBMIT demo echo x");
    expect(&w, "[\"pong\" \"\"]", "PING");
    expect(&w, "[\"pong\" \"x\"]", "PING x");
    expect(&w, "+RESET", "RESET");
    expect(&w, "\"x\"", "ECHO x");
    expect(&w, "{*", "HELLO 3");
    expect(&w, ">[\"subscribe\" \"a\" :1]", "SUBSCRIBE a");
    expect(&w, "\"x\"", "ECHO x");
    expect(&w, "+PONG", "PING");
    expect(&w, ">[\"message\" \"a\" \"me\"]", "PUBLISH a me");
    expect_next(&w, ":1");
    expect(&w, ">[\"unsubscribe\" \"a\" :0]", "UNSUBSCRIBE a");
}

Test(serve_pubsub, reserved_channels) {
    begin();
    expect(&w, "-ERR channels that begin with task:, tasks:, group: or events: are reserved",
           "PUBLISH task:1-1 x");
    expect(&w, "-ERR channels that begin with *", "PUBLISH tasks:1 x");
    expect(&w, ":0", "PUBLISH taskx x");
    char name[600];
    memset(name, 'n', 599);
    name[599] = '\0';
    expect(&w, "-ERR a connection has at most *", "SUBSCRIBE %s", name);
}

Test(serve_pubsub, ends_of_tasks) {
    char id[SERVE_ID], want[256];
    begin();
    serve_connect(&third);
    expect(&third, "[\"psubscribe\" \"task:*\" :1]", "PSUBSCRIBE task:*");
    expect(&w, "[\"subscribe\" \"tasks:2\" :1]", "SUBSCRIBE tasks:2");
    submit_line(&other, id, "demo echo hello");
    snprintf(want, sizeof(want), "[\"message\" \"tasks:2\" \"%s done \\nhello\"]", id);
    expect_next(&w, want);
    snprintf(want, sizeof(want), "[\"pmessage\" \"task:*\" \"task:%s\" \"%s done \\nhello\"]", id,
             id);
    expect_next(&third, want);
    submit_line(&other, id, "demo fail '' ARG 'no such' ARG 5");
    snprintf(want, sizeof(want), "[\"message\" \"tasks:2\" \"%s failed error 5: no such\\n\"]", id);
    expect_next(&w, want);
    submit_line(&other, id, "demo crash '' ARG KILL");
    snprintf(want, sizeof(want), "[\"message\" \"tasks:2\" \"%s lost signal 9 (SIGKILL)\\n\"]", id);
    expect_next(&w, want);
    /* listening to one's own name counts as fetching; watching by a pattern does not */
    cr_assert_eq(info_number(&other, "tasks_fetched"), 3);
    wire_close(&w);
    submit_line(&other, id, "demo echo x");
    expect(&other, "[*", "TASK.WAIT %s", id);
    while (info_number(&other, "pubsub_clients") != 1) {
    }
    submit_line(&other, id, "demo echo x");
    while (info_number(&other, "tasks_live") != 0) {
    }
    cr_assert_eq(info_number(&other, "tasks_kept"), 1);
}

Test(serve_pubsub, subscribing_late_is_no_race) {
    char id[SERVE_ID], want[256];
    begin();
    for (int i = 0; i < 300; i++) {
        submit_line(&other, id, "demo echo hello");
        tell(&w, "SUBSCRIBE task:%s", id); /* before, at, or after its end */
        expect_next(&w, "[\"subscribe\" *");
        snprintf(want, sizeof(want), "[\"message\" \"task:%s\" \"%s done \\nhello\"]", id, id);
        expect_next(&w, want);
        expect(&w, "[\"unsubscribe\" *", "UNSUBSCRIBE");
    }
    expect(&w, "[\"subscribe\" *", "SUBSCRIBE task:%s", id); /* fetched, and still there */
    expect_next(&w, want);
    expect(&w, "[\"subscribe\" *", "SUBSCRIBE task:0-0"); /* unknown: nothing will ever come */
    expect(&w, "[\"pong\" \"\"]", "PING");
}

Test(serve_pubsub, pushes) {
    char id[SERVE_ID], want[256];
    begin();
    expect(&w, "-ERR TASK.NOTIFY needs RESP3*", "TASK.NOTIFY ON");
    expect(&w, "+OK", "TASK.NOTIFY OFF");
    ask(&w, "HELLO 3");
    expect(&w, "+OK", "TASK.NOTIFY ON");
    submit_line(&w, id, "demo echo hello");
    snprintf(want, sizeof(want), ">[\"task.done\" \"%s\" \"done\" \"hello\" \"\"]", id);
    expect_next(&w, want);
    submit_line(&w, id, "demo fail '' ARG why");
    snprintf(want, sizeof(want), ">[\"task.done\" \"%s\" \"failed\" nil \"error 1: why\"]", id);
    expect_next(&w, want);
    submit_line(&w, id, "demo sleep '' ARG 60000 TIMEOUT 20");
    snprintf(want, sizeof(want), ">[\"task.done\" \"%s\" \"timeout\" nil \"time limit of 20 ms\"]",
             id);
    expect_next(&w, want);
    /* TASK.CALL is answered, not pushed; nor are the tasks of others */
    expect(&w, "\"x\"", "TASK.CALL demo echo x");
    expect(&other, "\"y\"", "TASK.CALL demo echo y");
    submit_line(&other, id, "demo echo z");
    expect(&other, "[*", "TASK.WAIT %s", id);
    expect_silence(&w);
    /* pushes are not held back by a command that waits */
    submit_line(&other, id, "demo sleep '' ARG 60000");
    tell(&w, "TASK.SUBMIT demo echo pushed");
    expect_next(&w, "\"*");
    tell(&w, "TASK.WAIT %s", id);
    expect_next(&w, ">[\"task.done\" \"*\" \"done\" \"pushed\" \"\"]");
    expect(&other, ":1", "TASK.CANCEL %s", id);
    expect_next(&w, "[\"*\" \"cancelled\" nil \"cancelled by client 2\"]");
    /* the ids of an MSUBMIT are told before any end */
    tell(&w, "TASK.MSUBMIT demo echo 3 a b c");
    expect_next(&w, "[\"*\" \"*\" \"*\"]");
    for (int i = 0; i < 3; i++) {
        expect_next(&w, ">[\"task.done\" *");
    }
    expect(&w, "[\"server\"*", "HELLO 2");
    submit_line(&w, id, "demo echo quiet");
    expect(&w, "[*", "TASK.WAIT %s", id);
    expect_silence(&w);
}

Test(serve_pubsub, one_task_reaches_everybody_who_wants_it) {
    enum { CLIENTS = 50 };
    static struct wire all[CLIENTS];
    char id[SERVE_ID];
    begin();
    ask(&w, "HELLO 3");
    ask(&w, "TASK.NOTIFY ON");
    submit_line(&w, id, "demo sleep '' ARG 300");
    for (int i = 0; i < CLIENTS; i++) {
        serve_connect(&all[i]);
        if (i % 2) {
            tell(&all[i], "TASK.WAIT %s", id);
        } else {
            expect(&all[i], "[\"subscribe\"*", "SUBSCRIBE task:%s", id);
        }
    }
    expect_next(&w, ">[\"task.done\"*");
    for (int i = 0; i < CLIENTS; i++) {
        expect_next(&all[i], i % 2 ? "[\"*\" \"done\" \"\" \"\"]" : "[\"message\" \"task:*\" *");
        wire_close(&all[i]);
    }
}
