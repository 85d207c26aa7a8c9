/* SPDX-License-Identifier: MIT */
/* What tasks tell while they run: as messages, as pushes, afterwards; and who waits for whom. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "tests/daemon/serve_support.h"

static struct wire w, other;

static void end(void) {
    wire_close(&w);
    wire_close(&other);
    serve_end();
}

#define POOLS                                                                                      \
    "pools = ( { name = \"demo\"; workers = 2; module = \"demo.so\"; kill_grace = 0.2; },\n"       \
    "          { name = \"shell\"; workers = 2; exec = [ ]; kill_grace = 0.2; } );\n"              \
    "segment_size = \"64M\"; stop_timeout = 5;\n"

#define POOLS_PROGRAM                                                                              \
    "pools = ( { name = \"outside\"; program = [ ]; worker_users = [ \"*\" ]; handlers = [ "       \
    "\"run\" ]; } );\n"                                                                            \
    "segment_size = \"64M\"; stop_timeout = 5;\n"

static void begin(const char *config) {
    serve_begin(config);
    serve_connect(&w);
    serve_connect(&other);
}

static void begin_resp3(const char *config) {
    begin(config);
    ask(&w, "HELLO 3");
}

static void settled(void) {
    expect(&other, "*\"errors\" :0 *", "SEGMENT.CHECK");
}

/* The text of element i (from 0) of the last message, an array or push. */
static const char *element(struct wire *from, uint32_t i, size_t *ret_len) {
    const struct resp_value *v = from->doc.v + 1;
    while (i--) {
        v = &from->doc.v[v->next];
    }
    *ret_len = v->len;
    return v->data;
}

TestSuite(stream, .timeout = 60, .fini = end);

Test(stream, messages_as_they_come_and_what_was_kept) {
    char id[SERVE_ID];
    begin(NULL);
    submit_line(&other, id, "demo steps \"\" ARG 3 ARG 100");
    expect(&w, "[\"subscribe\" *", "SUBSCRIBE task:%s:stream", id);
    for (int i = 1; i <= 3; i++) {
        char data[256], progress[256];
        snprintf(data, sizeof(data), "[\"message\" \"task:%s:stream\" \"%s data \\nstep %d\\n\"]",
                 id, id, i);
        snprintf(progress, sizeof(progress),
                 "[\"message\" \"task:%s:stream\" \"%s progress %d 3\\nstepping\"]", id, id, i);
        expect_next(&w, data);
        expect(&other, i < 3 ? "*\"running\"*" : "*", "TASK.STATUS %s", id);
        expect_next(&w, progress);
    }
    expect_next(&w, "[\"message\" * \"* done \\n\"]");
    expect(&w, "[\"pong\" \"\"]", "PING");
    /* somebody comes after the end */
    expect(&other,
           "[[\"data\" \"step 1\\n\"] [\"progress\" \"stepping\" :1 :3] *[\"progress\" "
           "\"stepping\" :3 :3]]",
           "TASK.LOG %s", id);
    expect(&other, "[\"subscribe\" *", "SUBSCRIBE task:%s:stream", id);
    expect_next(&other, "*step 1\\n\"]");
    expect_next(&other, "*progress 1 3\\nstepping\"]");
    for (int i = 0; i < 4; i++) {
        expect_next(&other, "*");
    }
    expect_next(&other, "[\"message\" * \"* done \\n\"]");
    expect(&other, "[\"pong\" \"\"]", "PING");
}

Test(stream, pushes_for_the_submitter) {
    begin_resp3(NULL);
    expect(&other, "-ERR STREAM needs RESP3*", "TASK.SUBMIT demo steps \"\" STREAM");
    expect(&w, "-ERR a schedule's task has no *STREAM*",
           "SCHEDULE.ADD s EVERY 1000 demo steps \"\" STREAM");
    expect(&w, "+OK", "TASK.NOTIFY ON");
    expect(&w, "\"*-*\"", "TASK.SUBMIT demo steps \"\" ARG 2 ARG 50 STREAM");
    expect_next(&w, ">[\"task.data\" \"*\" \"data\" \"step 1\\n\"]");
    expect_next(&w, ">[\"task.progress\" \"*\" :1 :2 \"stepping\"]");
    expect_next(&w, ">[\"task.data\" \"*\" \"data\" \"step 2\\n\"]");
    expect_next(&w, ">[\"task.progress\" \"*\" :2 :2 \"stepping\"]");
    expect_next(&w, ">[\"task.done\" \"*\" \"done\" \"all steps\" \"\"]");
    expect(&w, "\"*-*\"", "TASK.SUBMIT demo steps \"\" ARG 2 ARG 0");
    expect_next(&w, ">[\"task.done\" *");
    expect_silence(&w);
    /* also of one that is waited for, and of many at a time */
    tell(&w, "TASK.CALL demo steps \"\" ARG 1 ARG 0 STREAM");
    expect_next(&w, ">[\"task.data\" \"*\" \"data\" \"step 1\\n\"]");
    expect_next(&w, ">[\"task.progress\" *");
    expect_next(&w, "\"all steps\"");
    expect(&w, "[\"*\" \"*\"]", "TASK.MSUBMIT demo steps 2 a b ARG 1 ARG 0 STREAM");
    for (int i = 0; i < 6; i++) {
        expect_next(&w, ">[\"task.*");
    }
    expect_silence(&w);
    settled();
}

Test(stream, commands_tell_what_they_write) {
    char id[SERVE_ID];
    begin_resp3(NULL);
    submit_line(&w, id,
                "shell run \"\" ARG sh ARG -c ARG "
                "\"echo one; sleep 0.2; echo two >&2; sleep 0.2; echo three; exit 3\" STREAM");
    expect_next(&w, ">[\"task.data\" \"*\" \"stdout\" \"one\\n\"]");
    expect(&other, "[[\"stdout\" \"one\\n\"]]", "TASK.LOG %s", id);
    expect_next(&w, ">[\"task.data\" \"*\" \"stderr\" \"two\\n\"]");
    expect(&other, "*\"running\"*", "TASK.STATUS %s", id);
    expect_next(&w, ">[\"task.data\" \"*\" \"stdout\" \"three\\n\"]");
    expect(&w, "[\"*\" \"failed\" nil \"exit status 3\"]", "TASK.WAIT %s", id);
    /* kept apart, also of one that has failed */
    expect(&other, "[[\"stdout\" \"one\\nthree\\n\"] [\"stderr\" \"two\\n\"]]", "TASK.LOG %s", id);
    expect(&other, "*\"stderr\" \"two\\n\"*", "TASK.STATUS %s", id);
    settled();
}

/* What a handler logs is told too, if somebody follows. */
Test(stream, lines_of_the_log) {
    char config[600];
    snprintf(config, sizeof(config),
             "pools = ( { name = \"trouble\"; workers = 1; module = "
             "\"%s/tests/daemon/mod_trouble.so\"; } );\n"
             "segment_size = \"64M\";",
             getenv("HEARTH_BUILD"));
    begin_resp3(config);
    tell(&w, "TASK.CALL trouble chatty something STREAM");
    expect_next(&w, ">[\"task.data\" \"*\" \"log\" \"is told something\\n\"]");
    expect_next(&w, "\"\"");
    expect(&w, "\"\"", "TASK.CALL trouble chatty something");
    settled();
}

Test(stream, following_from_another_connection) {
    char id[SERVE_ID];
    begin_resp3(NULL);
    submit_line(&other, id, "shell run \"\" ARG sh ARG -c ARG \"echo one; sleep 0.3; echo two\"");
    expect(&other, "-ERR FOLLOW needs RESP3*", "TASK.LOG %s FOLLOW", id);
    while (strcmp(ask(&other, "TASK.LOG %s", id), "[]") == 0) {
    }
    expect(&w, "+OK", "TASK.LOG %s FOLLOW", id);
    expect_next(&w, ">[\"task.data\" \"*\" \"stdout\" \"one\\n\"]");
    expect_next(&w, ">[\"task.data\" \"*\" \"stdout\" \"two\\n\"]");
    expect_next(&w, ">[\"task.done\" \"*\" \"done\" nil \"\"]");
    expect(&w, "+OK", "TASK.LOG %s FOLLOW", id);
    expect_next(&w, ">[\"task.data\" \"*\" \"stdout\" \"one\\ntwo\\n\"]");
    expect_next(&w, ">[\"task.done\" \"*\" \"done\" nil \"\"]");
    expect_silence(&w);
    expect(&w, "-NOTASK*", "TASK.LOG 1-1");
    expect(&w, "-ERR syntax*", "TASK.LOG %s AWAY", id);
}

Test(stream, another_attempt_begins_anew) {
    begin_resp3(NULL);
    tell(&w, "TASK.CALL shell run \"\" ARG sh ARG -c ARG "
             "\"echo a$HEARTH_ATTEMPT; sleep 0.05; [ $HEARTH_ATTEMPT = 3 ]\" RETRY 2 ON error "
             "BACKOFF 10 STREAM");
    expect_next(&w, ">[\"task.data\" \"*\" \"stdout\" \"a1\\n\"]");
    expect_next(&w, ">[\"task.data\" \"*\" \"retry\" \"2\"]");
    expect_next(&w, ">[\"task.data\" \"*\" \"stdout\" \"a2\\n\"]");
    expect_next(&w, ">[\"task.data\" \"*\" \"retry\" \"3\"]");
    expect_next(&w, ">[\"task.data\" \"*\" \"stdout\" \"a3\\n\"]");
    expect_next(&w, "\"a3\\n\"");
    settled();
}

/* 64 MiB that nobody wants: no wait. */
Test(stream, nobody_follows) {
    begin(NULL);
    expect(&w, "\"all steps\"", "TASK.CALL demo steps \"\" ARG 64 ARG 0 ARG 1048576");
    expect(&w, "*", "TASK.CALL shell run \"\" ARG head ARG -c ARG 20000000 ARG /dev/zero");
    settled();
}

/* The follower does not read: its task waits, nobody else, and the daemon does not grow; then it reads, and all is there. */
Test(stream, a_slow_follower_delays_only_its_task) {
    enum { STEPS = 48 };
    char id[SERVE_ID];
    begin_resp3(POOLS "limits: { follow_stall = 60; };");
    long long before = resident();
    submit_line(&w, id, "demo steps \"\" ARG %d ARG 0 ARG 1048576 STREAM", STEPS);
    uint64_t until = clock_now() + 500 * NS_PER_MS;
    int calls = 0;
    while (clock_now() < until) {
        expect(&other, "\"x\"", "TASK.CALL demo echo x");
        calls++;
    }
    cr_assert_gt(calls, 100);
    expect(&other, "*\"running\"*", "TASK.STATUS %s", id);
    cr_assert_lt(resident() - before, 8 << 20);
    uint64_t bytes = 0;
    for (int done = 0; done < STEPS;) {
        size_t len, kind_len;
        cr_assert_eq(wire_read(&w, WIRE_LIMIT_MS), 0);
        if (element(&w, 0, &len)[5] == 'd') {
            const char *data = element(&w, 3, &len);
            const char *kind = element(&w, 2, &kind_len);
            cr_assert(kind_len == 4 && memcmp(kind, "data", 4) == 0);
            if (bytes % 1048576 == 0) {
                char head[32];
                int n = snprintf(head, sizeof(head), "step %d\n", done + 1);
                cr_assert(memcmp(data, head, (size_t)n) == 0);
            }
            bytes += len;
        } else {
            done++;
        }
    }
    cr_assert_eq(bytes, (uint64_t)STEPS << 20);
    expect(&w, "[\"*\" \"done\" \"all steps\" \"\"]", "TASK.WAIT %s", id);
    settled();
}

/* Neither a time limit nor a cancel is held up by it, and of a command neither. */
Test(stream, a_task_that_waits_for_a_follower_can_be_ended) {
    static const char *const endless[] = {"demo steps \"\" ARG 1000000 ARG 0 ARG 100000",
                                          "shell run \"\" ARG cat ARG /dev/zero"};
    for (int i = 0; i < 2; i++) {
        char id[SERVE_ID];
        begin_resp3(POOLS "limits: { follow_stall = 60; };");
        submit_line(&w, id, "%s STREAM TIMEOUT 300", endless[i]);
        expect(&other, "[\"*\" \"timeout\" *", "TASK.WAIT %s TIMEOUT 5000", id);
        wire_close(&w);
        serve_connect(&w);
        ask(&w, "HELLO 3");
        submit_line(&w, id, "%s STREAM", endless[i]);
        uint64_t until = clock_now() + 200 * NS_PER_MS;
        while (clock_now() < until) {
            ask(&other, "PING");
        }
        expect(&other, "*\"running\"*", "TASK.STATUS %s", id);
        expect(&other, ":1", "TASK.CANCEL %s", id);
        expect(&other, "[\"*\" \"cancelled\" *", "TASK.WAIT %s TIMEOUT 5000", id);
        settled();
        end();
    }
}

Test(stream, a_follower_that_does_not_read_is_closed) {
    char id[SERVE_ID];
    begin_resp3(POOLS "limits: { follow_stall = 1; };");
    submit_line(&other, id, "demo steps \"\" ARG 32 ARG 0 ARG 1048576");
    submit_line(&w, id, "demo steps \"\" ARG 32 ARG 0 ARG 1048576 STREAM");
    expect(&other, "[\"*\" \"done\" \"all steps\" \"\"]", "TASK.WAIT %s TIMEOUT 8000", id);
    while (wire_read(&w, WIRE_LIMIT_MS) == 0) {
    }
    cr_assert_eq(wire_read(&w, WIRE_LIMIT_MS), -EPIPE);
    settled();
}

/* A channel is as fast as the slowest of its listeners; when one goes the other goes on. */
Test(stream, listeners_of_one_channel) {
    char id[SERVE_ID];
    begin(POOLS "limits: { follow_stall = 60; };");
    struct wire lazy = {0};
    serve_connect(&lazy);
    submit_line(&other, id, "demo steps \"\" ARG 8 ARG 0 ARG 1000000 TIMEOUT 30000 DELAY 200");
    ask(&lazy, "SUBSCRIBE task:%s:stream", id);
    ask(&w, "SUBSCRIBE task:%s:stream", id);
    int n = 0;
    while (wire_read(&w, 600) == 0) {
        n++;
    }
    cr_assert_gt(n, 10);
    expect(&other, "*\"running\"*", "TASK.STATUS %s", id);
    wire_close(&lazy);
    while (!like("*done \\n*", hear(&w))) {
    }
    settled();
}

/* What came before the death is whole, then comes the end; nothing is left in the segment. */
Test(stream, a_worker_dies_while_it_tells) {
    begin_resp3(NULL);
    for (int i = 0; i < 20; i++) {
        char id[SERVE_ID];
        expect(&w, "+OK", "TASK.NOTIFY ON");
        submit_line(&w, id, "demo steps \"\" ARG 1000000 ARG 0 ARG %d STREAM", 100 + i * 300);
        expect_next(&w, ">[\"task.data\" *");
        ask(&other, "TASK.STATUS %s", id);
        int pid = (int)other.doc.v[wire_find(&other, 0, "worker_pid")].integer;
        cr_assert_gt(pid, 0);
        kill(pid, SIGKILL);
        size_t len;
        do {
            cr_assert_eq(wire_read(&w, WIRE_LIMIT_MS), 0);
        } while (memcmp(element(&w, 0, &len), "task.done", 9) != 0 || len != 9);
        cr_assert(like(">[\"task.done\" \"*\" \"lost\" nil \"signal 9 (SIGKILL)*", wire_show(&w)));
        expect_silence(&w);
    }
    settled();
}

Test(stream, the_follower_leaves) {
    char id[SERVE_ID];
    begin_resp3(NULL);
    submit_line(&w, id, "demo steps \"\" ARG 200 ARG 0 ARG 1000000 STREAM");
    expect_next(&w, ">[\"task.data\" *");
    wire_close(&w);
    expect(&other, "[\"*\" \"done\" \"all steps\" \"\"]", "TASK.WAIT %s TIMEOUT 20000", id);
    settled();
}

Test(stream, what_a_task_has_used) {
    char id[SERVE_ID];
    begin(NULL);
    submit_line(&w, id, "demo spin \"\" ARG 200");
    ask(&w, "TASK.WAIT %s", id);
    ask(&w, "TASK.STATUS %s", id);
    long long user = w.doc.v[wire_find(&w, 0, "user_us")].integer;
    long long system = w.doc.v[wire_find(&w, 0, "system_us")].integer;
    cr_assert(user + system > 10000 && user + system < 210000, "%lld %lld", user, system);
    submit_line(&w, id, "demo sleep \"\" ARG 100");
    ask(&w, "TASK.WAIT %s", id);
    ask(&w, "TASK.STATUS %s", id);
    cr_assert_lt(w.doc.v[wire_find(&w, 0, "user_us")].integer, 20000);
    submit_line(
        &w, id,
        "shell run \"\" ARG sh ARG -c ARG \"i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done\"");
    ask(&w, "TASK.WAIT %s", id);
    ask(&w, "TASK.STATUS %s", id);
    cr_assert_gt(w.doc.v[wire_find(&w, 0, "user_us")].integer, 1000);
    cr_assert_gt(w.doc.v[wire_find(&w, 0, "max_rss_kib")].integer, 100);
}

Test(stream, results_are_kept_by_number_and_bytes) {
    char id[8][SERVE_ID];
    begin(POOLS "result_max = 5;");
    for (int i = 0; i < 8; i++) {
        submit_line(&w, id[i], "demo echo x%d", i);
        while (like("*\"running\"*", ask(&other, "TASK.STATUS %s", id[i])) ||
               like("*\"queued\"*", wire_show(&other))) {
        }
    }
    expect(&w, "-NOTASK no such task '*': its result is forgotten*", "TASK.RESULT %s", id[2]);
    expect(&w, "[\"done\" \"x3\" \"\"]", "TASK.RESULT %s", id[3]);
    expect(&w, "[\"done\" \"x7\" \"\"]", "TASK.RESULT %s", id[7]);
    expect(&w, "-NOTASK no such task '1-1'", "TASK.RESULT 1-1");
    cr_assert_eq(info_number(&w, "tasks_forgotten_early"), 3);
    end();
    begin(POOLS "result_bytes = \"100K\";");
    for (int i = 0; i < 3; i++) {
        submit_line(&w, id[i], "shell run \"\" ARG head ARG -c ARG 40000 ARG /dev/zero");
        while (like("*\"running\"*", ask(&other, "TASK.STATUS %s", id[i])) ||
               like("*\"queued\"*", wire_show(&other))) {
        }
    }
    expect(&w, "-NOTASK*forgotten*", "TASK.RESULT %s", id[0]);
    expect(&w, "[\"done\" *", "TASK.RESULT %s", id[1]);
    expect(&w, "[\"done\" *", "TASK.RESULT %s", id[2]);
}

/* A worker without the segment, of a pool of kind program. */
Test(stream, programs_tell_too) {
    char id[SERVE_ID];
    struct wire follower = {0};
    begin_resp3(POOLS_PROGRAM);
    serve_connect(&follower);
    ask(&follower, "HELLO 3");
    expect(&w, "+OK", "WORKER.JOIN outside");
    submit_line(&other, id, "outside run x");
    expect(&w, "[\"*\" \"run\" *", "WORKER.NEXT");
    expect(&w, "+OK", "WORKER.EMIT %s early", id);
    expect(&follower, "+OK", "TASK.LOG %s FOLLOW", id);
    expect_next(&follower, ">[\"task.data\" \"*\" \"data\" \"early\"]");
    expect(&w, "+OK", "WORKER.EMIT %s warning STDERR", id);
    expect(&w, "+OK", "WORKER.PROGRESS %s 3 10 counting", id);
    expect(&w, "-ERR syntax*", "WORKER.EMIT %s x NOWHERE", id);
    expect(&w, "-ERR done*", "WORKER.PROGRESS %s 3 x", id);
    expect(&w, "-NOTASK*", "WORKER.EMIT 1-1 x");
    expect_next(&follower, ">[\"task.data\" \"*\" \"stderr\" \"warning\"]");
    expect_next(&follower, ">[\"task.progress\" \"*\" :3 :10 \"counting\"]");
    /* the follower does not read: the worker's reply comes when he has */
    static char big[200000];
    memset(big, 'x', sizeof(big));
    int sent = 0;
    while (sent < 200) {
        const struct resp_arg words[] = {{"WORKER.EMIT", 11}, {id, strlen(id)}, {big, sizeof(big)}};
        cr_assert_eq(wire_send_words(&w, words, 3), 0);
        sent++;
        if (wire_read(&w, 300) == -ETIMEDOUT) {
            break;
        }
    }
    cr_assert(sent > 1 && sent < 100, "%d", sent);
    size_t bytes = 0, len;
    while (bytes < sent * sizeof(big)) {
        cr_assert_eq(wire_read(&follower, WIRE_LIMIT_MS), 0);
        element(&follower, 3, &len);
        bytes += len;
    }
    cr_assert_eq(bytes, sent * sizeof(big));
    expect_next(&w, "+OK");
    expect(&w, "+OK", "WORKER.DONE %s result", id);
    expect_next(&follower, ">[\"task.done\" \"*\" \"done\" nil \"\"]");
    wire_close(&follower);
    settled();
}

/* 100,000 tasks in one request: the others are served meanwhile. */
Test(stream, a_hundred_thousand_tasks_at_once) {
    enum { N = 100000 };
    begin(
        "pools = ( { name = \"demo\"; workers = 2; module = \"demo.so\"; queue_max = 200000; } );\n"
        "segment_size = \"256M\"; stop_timeout = 5; result_keep = 600;");
    struct resp_arg *words = calloc(N + 4, sizeof(*words));
    words[0] = (struct resp_arg){"TASK.MSUBMIT", 12};
    words[1] = (struct resp_arg){"demo", 4};
    words[2] = (struct resp_arg){"echo", 4};
    words[3] = (struct resp_arg){"100000", 6};
    for (int i = 0; i < N; i++) {
        words[4 + i] = (struct resp_arg){"payload", 7};
    }
    cr_assert_eq(wire_send_words(&w, words, N + 4), 0);
    uint64_t worst = 0, sent = clock_now();
    int calls = 0;
    while (wire_read(&w, 1) == -ETIMEDOUT) {
        uint64_t begun = clock_now();
        expect(&other, "+PONG", "PING");
        uint64_t took = clock_now() - begun;
        worst = took > worst ? took : worst;
        calls++;
    }
    cr_assert_eq(w.doc.v[0].count, N);
    fprintf(stderr, "# %d pings, the slowest %llu us; in all %llu us\n", calls,
            (unsigned long long)worst / 1000, (unsigned long long)(clock_now() - sent) / 1000);
    cr_assert_gt(calls, 8);
    cr_assert_lt(worst, 1000 * NS_PER_MS);
    while (info_number(&other, "tasks_live") > 0) {
        cr_assert_eq(wire_read(&w, 10), -ETIMEDOUT);
    }
    cr_assert_eq(info_number(&other, "tasks_kept"), N);
    free(words);
}
