/* SPDX-License-Identifier: MIT */
/* TASK.*: submitting, waiting, results kept and forgotten, cancelling, pipelines, limits. Fails: as
 * a Criterion suite. */
#include <criterion/criterion.h>
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

static void begin(const char *config) {
    serve_begin(config);
    serve_connect(&w);
}

TestSuite(serve_task, .timeout = 100, .fini = end);

/* A configuration of the pool demo with more keys for the pool and for all. */
static const char *config(const char *pool, const char *all) {
    static char text[1024];
    snprintf(text, sizeof(text),
             "pools = ( { name = \"demo\"; workers = 1; module = \"demo.so\"; kill_grace = 0.2; %s "
             "} );\nstop_timeout = 1;\n%s\n",
             pool, all);
    return text;
}

static void wait_state(struct wire *c, const char *id, const char *state) {
    uint64_t until = clock_now() + 20 * NS_PER_SEC;
    char want[64];
    snprintf(want, sizeof(want), "*\"state\" \"%s\"*", state);
    while (!like(want, ask(c, "TASK.STATUS %s", id))) {
        cr_assert(clock_now() < until, "%s is not %s: %s", id, state, wire_show(c));
    }
}

Test(serve_task, call) {
    begin(NULL);
    expect(&w, "\"hello\"", "TASK.CALL demo echo hello");
    expect(&w, "\"\"", "TASK.CALL demo echo ''");
    expect(&w, "\"a\\x00\\xff\"", "TASK.CALL demo echo \"a\\x00\\xff\"");
    expect(&w, "-FAILED 1 no such file", "TASK.CALL demo fail '' ARG 'no such file'");
    expect(&w, "-FAILED 7 two  lines", "TASK.CALL demo fail '' ARG \"two\\r\\nlines\" ARG 7");
    expect(&w, "-LOST signal 9 (SIGKILL)", "TASK.CALL demo crash '' ARG KILL");
    expect(&w, "-TIMEOUT time limit of 50 ms", "TASK.CALL demo sleep '' ARG 60000 TIMEOUT 50");
    expect(&w, "\"b\\na\\n\"", "TASK.CALL shell run \"a\\nb\\n\" ARG sort ARG -r");
    expect(&w, "-FAILED 3 exit status 3", "TASK.CALL shell run '' ARG sh ARG -c ARG 'exit 3'");
    expect(&w, "-FAILED 2 could not start: No such file or directory",
           "TASK.CALL shell run '' ARG /nonexistent");
}

Test(serve_task, refusals) {
    begin(NULL);
    expect(&w, "-NOPOOL no such pool 'nosuch'", "TASK.SUBMIT nosuch echo x");
    expect(&w, "-NOHANDLER pool 'demo' has no handler 'nosuch'", "TASK.CALL demo nosuch x");
    expect(&w, "-ERR syntax error", "TASK.SUBMIT demo echo x ARG");
    expect(&w, "-ERR syntax error", "TASK.SUBMIT demo echo x WHAT y");
    expect(&w, "-ERR timeout is not an integer or out of range",
           "TASK.SUBMIT demo echo x TIMEOUT -1");
    expect(&w, "-ERR timeout is not an integer or out of range",
           "TASK.SUBMIT demo echo x TIMEOUT 4294967296");
    expect(&w, "-ERR wrong number of arguments for 'task.submit' command", "TASK.SUBMIT demo echo");
    expect(&w, "-ERR n is not a positive integer", "TASK.MSUBMIT demo echo 0 x");
    expect(&w, "-ERR n is not a positive integer", "TASK.MSUBMIT demo echo x x");
    expect(&w, "-ERR there are fewer payloads than n", "TASK.MSUBMIT demo echo 3 x y");
    expect(&w, "-NOTASK no such task 'x'", "TASK.WAIT x");
    expect(&w, "-NOTASK no such task '0-0'", "TASK.RESULT 0-0");
    expect(&w, "-NOTASK no such task '1-ffffffff'", "TASK.STATUS 1-ffffffff");
    expect(&w, ":0", "TASK.CANCEL x 0-0");
    expect(&w, "-ERR state is one of *", "TASK.LIST STATE nosuch");
    expect(&w, "-NOPOOL no such pool 'x'", "TASK.LIST POOL x");
    expect(&w, "-ERR count is not a positive integer", "TASK.LIST COUNT 0");
    expect(&w, "-ERR syntax error", "TASK.LIST COUNT");
    expect(&w, "-ERR syntax error", "TASK.LIST x y");
    expect(&w, "-ERR syntax error", "TASK.NOTIFY maybe");
    expect(&w, "[]", "TASK.LIST");
    cr_assert_eq(info_number(&w, "tasks_live"), 0);
}

Test(serve_task, results_stay_until_looked_at_and_after) {
    char id[SERVE_ID];
    begin(NULL);
    submit_line(&w, id, "demo echo hello");
    wait_state(&w, id, "done");
    serve_connect(&other); /* from anywhere, and more than once */
    expect(&other, "[\"done\" \"hello\" \"\"]", "TASK.RESULT %s", id);
    expect(&w, "[\"done\" \"hello\" \"\"]", "TASK.RESULT %s", id);
    ask(&w, "TASK.WAIT %s", id);
    char want[128];
    snprintf(want, sizeof(want), "[\"%s\" \"done\" \"hello\" \"\"]", id);
    cr_assert_str_eq(wire_show(&w), want);
    expect(&w,
           "[\"id\" \"*\" \"pool\" \"demo\" \"handler\" \"echo\" \"state\" \"done\" \"attempt\" :1 "
           "\"kills\" :0 \"priority\" :128 \"waits_for\" \"\" \"due_ms\" :0 \"expire_ms\" :0 "
           "\"deadline_ms\" :0 \"schedule\" \"\" "
           "\"worker_pid\" :* \"wait_us\" :* \"run_us\" :* \"submitted_ms\" :1* \"payload_bytes\" "
           ":5 \"result_bytes\" :5 \"cause\" \"result\" \"cause_code\" :0 \"cause_text\" \"\" "
           "\"stderr\" \"\" \"failures\" []]",
           "TASK.STATUS %s", id);
    submit_line(&w, id, "shell run '' ARG sh ARG -c ARG 'echo oops >&2; exit 4'");
    expect(&w, "[\"*\" \"failed\" nil \"exit status 4\"]", "TASK.WAIT %s", id);
    expect(&w,
           "*\"cause\" \"exit\" \"cause_code\" :4 \"cause_text\" \"exit status 4\" \"stderr\" "
           "\"oops\\n\" \"failures\" []]",
           "TASK.STATUS %s", id);
    expect(&w, "[[\"id\" \"*\"*\"pool\" \"shell\"*\"failed\"*] [*\"pool\" \"demo\"*\"done\"*]]",
           "TASK.LIST");
    expect(&w, "[[*\"pool\" \"demo\"*]]", "TASK.LIST POOL demo STATE done COUNT 5");
    expect(&w, "[]", "TASK.LIST POOL demo STATE failed");
    expect(&w, "[[*\"pool\" \"shell\"*]]", "TASK.LIST COUNT 1");
}

Test(serve_task, results_are_forgotten_in_time) {
    char id[SERVE_ID], fetched[SERVE_ID];
    begin(config("", "result_keep = 0.3;"));
    submit_line(&w, id, "demo echo hello");
    submit_line(&w, fetched, "demo echo hello");
    expect(&w, "[\"*\" \"done\" \"hello\" \"\"]", "TASK.WAIT %s", fetched);
    uint64_t until = clock_now() + 10 * NS_PER_SEC;
    while (like("[\"*", ask(&w, "TASK.STATUS %s", id)) ||
           like("[\"*", ask(&w, "TASK.STATUS %s", fetched))) {
        cr_assert(clock_now() < until);
    }
    expect(&w, "-NOTASK *", "TASK.RESULT %s", id);
    cr_assert_eq(info_number(&w, "tasks_kept"), 0);
}

Test(serve_task, fetched_results_make_room_for_newer_ones) {
    char first[SERVE_ID], kept[SERVE_ID];
    begin(NULL);
    submit_line(&w, kept, "demo echo kept");
    wait_state(&w, kept, "done");
    submit_line(&w, first, "demo echo hello");
    expect(&w, "[*", "TASK.WAIT %s", first);
    for (int i = 0; i < 1024; i++) {
        expect(&w, "\"x\"", "TASK.CALL demo echo x");
    }
    expect(&w, "-NOTASK *", "TASK.STATUS %s", first);
    cr_assert_eq(info_number(&w, "tasks_fetched"), 1024);
    expect(&w, "[\"done\" \"kept\" \"\"]", "TASK.RESULT %s", kept);
}

Test(serve_task, wait_for_the_first_of_several) {
    char slow[SERVE_ID], fast[SERVE_ID];
    begin(NULL);
    submit_line(&w, slow, "demo sleep '' ARG 60000");
    submit_line(&w, fast, "demo sleep '' ARG 50");
    uint64_t at = clock_now();
    expect(&w, "nil", "TASK.WAIT %s TIMEOUT 0", slow);
    expect(&w, "nil", "TASK.WAIT %s %s TIMEOUT 1", slow, slow);
    expect(&w, "[\"*\" \"done\" \"\" \"\"]", "TASK.WAIT %s %s %s", slow, fast, fast);
    cr_assert(clock_now() - at < 20 * NS_PER_SEC);
    expect(&w, "nil", "TASK.WAIT %s TIMEOUT 20", slow);
    expect(&w, "-NOTASK no such task 'x'", "TASK.WAIT %s x", slow);
    expect(&w, "-ERR timeout is not an integer or out of range", "TASK.WAIT %s TIMEOUT x", slow);
    tell(&w, "TASK.WAIT %s %s", slow, slow);
    serve_connect(&other);
    expect(&other, ":1", "TASK.CANCEL %s", slow);
    expect_next(&w, "[\"*\" \"cancelled\" nil \"cancelled by client 2\"]");
    expect(&other, ":0", "TASK.CANCEL %s", slow);
    wait_state(&other, slow, "cancelled");
    expect(&other, "*\"cause\" \"cancelled\"*\"cause_text\" \"cancelled by client 2\"*",
           "TASK.STATUS %s", slow);
}

Test(serve_task, cancel_in_the_queue) {
    char busy[SERVE_ID], queued[SERVE_ID];
    begin(config("", ""));
    submit_line(&w, busy, "demo sleep '' ARG 60000");
    wait_state(&w, busy, "running");
    submit_line(&w, queued, "demo echo x");
    expect(&w, "+OK", "CLIENT SETNAME boss");
    expect(&w, "nil", "TASK.RESULT %s", queued);
    expect(&w, ":1", "TASK.CANCEL %s", queued);
    expect(&w, "[\"cancelled\" nil \"cancelled by client 1 (boss)\"]", "TASK.RESULT %s", queued);
    expect(&w, "*\"queued\" :0 *", "POOL.INFO demo");
    tell(&w, "TASK.WAIT %s", busy);
    serve_connect(&other);
    expect(&other, ":1", "TASK.CANCEL %s %s", queued, busy);
    expect_next(&w, "[\"*\" \"cancelled\" nil *");
}

Test(serve_task, cancelled_tasks_leave_the_queue) {
    enum { N = 300 }; /* more than the ring has places */
    char busy[SERVE_ID], first[SERVE_ID], second[SERVE_ID], id[SERVE_ID];
    begin(config("queue_max = 4;", ""));
    submit_line(&w, busy, "demo sleep '' ARG 60000");
    wait_state(&w, busy, "running");
    submit_line(&w, first, "demo echo 1");
    submit_line(&w, second, "demo echo 2");
    for (int i = 0; i < N; i++) {
        submit_line(&w, id, "demo echo x");
        expect(&w, ":1", "TASK.CANCEL %s", id);
    }
    expect(&w, "*\"queued\" :2 *\"busy_refused\" :0*", "POOL.INFO demo");
    expect(&w, ":1", "TASK.CANCEL %s", busy);
    expect(&w, "[*\"1\" *]", "TASK.WAIT %s", first);
    expect(&w, "[*\"2\" *]", "TASK.WAIT %s", second);
}

/* Ends the wait of client 1, as soon as it waits. */
static void unblock(struct wire *c, const char *how) {
    uint64_t until = clock_now() + 10 * NS_PER_SEC;
    while (like(":0", ask(c, "CLIENT UNBLOCK 1 %s", how))) {
        cr_assert(clock_now() < until);
    }
}

Test(serve_task, blocked_clients) {
    char id[SERVE_ID];
    begin(NULL);
    serve_connect(&other);
    submit_line(&other, id, "demo sleep '' ARG 60000");
    /* what follows a blocking command waits for it; its replies come in order */
    tell(&w, "TASK.WAIT %s\r\nECHO after\r\nTASK.CALL demo echo x\r\nPING", id);
    unblock(&other, "");
    expect_next(&w, "nil");
    expect_next(&w, "\"after\"");
    expect_next(&w, "\"x\"");
    expect_next(&w, "+PONG");
    tell(&w, "TASK.WAIT %s %s", id, id);
    while (!like("*flags=bU *", ask(&other, "CLIENT LIST ID 1"))) {
    }
    cr_assert_eq(info_number(&other, "blocked_clients"), 1);
    unblock(&other, "ERROR");
    expect_next(&w, "-UNBLOCKED client unblocked via CLIENT UNBLOCK");
    tell(&w, "TASK.CALL demo sleep '' ARG 60001");
    unblock(&other, "TIMEOUT");
    expect_next(&w, "nil");
    /* a client that goes away while it waits hurts nobody, and its tasks go on */
    tell(&w, "TASK.WAIT %s", id);
    wire_close(&w);
    expect(&other, "*\"state\" \"running\"*", "TASK.STATUS %s", id);
    expect(&other, ":1", "TASK.CANCEL %s", id);
    expect(&other, "[\"*\" \"cancelled\" *", "TASK.WAIT %s", id);
}

Test(serve_task, msubmit) {
    begin(NULL);
    ask(&w, "TASK.MSUBMIT demo echo 3 a bb '' TIMEOUT 60000");
    cr_assert_eq(w.doc.v[0].count, 3);
    char ids[3][SERVE_ID];
    for (uint32_t i = 0; i < 3; i++) {
        snprintf(ids[i], SERVE_ID, "%.*s", (int)w.doc.v[i + 1].len, w.doc.v[i + 1].data);
    }
    expect(&w, "[\"*\" \"done\" \"bb\" \"\"]", "TASK.WAIT %s", ids[1]);
    expect(&w, "[\"*\" \"done\" \"\" \"\"]", "TASK.WAIT %s", ids[2]);
    expect(&w, "[\"*\" \"done\" \"a\" \"\"]", "TASK.WAIT %s", ids[0]);
    expect(&w, "[\"*\" \"*\"]", "TASK.MSUBMIT demo echo 2 '' '' ARG words ARG more");
}

Test(serve_task, a_full_queue_refuses_at_once) {
    char busy[SERVE_ID];
    begin(config("queue_max = 4; queue_bytes = \"1000\";", ""));
    submit_line(&w, busy, "demo sleep '' ARG 60000");
    wait_state(&w, busy, "running");
    expect(&w, "-BUSY the queue of pool 'demo' is full", "TASK.MSUBMIT demo echo 5 1 2 3 4 5");
    cr_assert_eq(info_number(&w, "tasks_live"), 1);
    expect(&w, "[\"*", "TASK.MSUBMIT demo echo 4 1 2 3 4");
    expect(&w, "-BUSY the queue of pool 'demo' is full", "TASK.SUBMIT demo echo 5");
    expect(&w, "-BUSY the queue of pool 'demo' is full", "TASK.CALL demo echo 5");
    expect(&w, "*\"queued\" :4 *\"busy_refused\" :3*", "POOL.INFO demo");
    expect(&w, ":1", "TASK.CANCEL %s", busy);
    expect(&w, "[*", "TASK.WAIT %s", busy);
    while (info_number(&w, "tasks_live") !=
           0) { /* the four that were queued run now; the suite has a time limit */
    }
    submit_line(&w, busy, "demo sleep '' ARG 60000");
    wait_state(&w, busy, "running");
    char big[1200];
    memset(big, 'x', 990);
    big[990] = '\0';
    expect(&w, "\"*", "TASK.SUBMIT demo echo %s", big);
    expect(&w, "-BUSY *", "TASK.SUBMIT demo echo %s", big);
    expect(&w, "\"*", "TASK.SUBMIT demo echo x");
    expect(&w, ":1", "TASK.CANCEL %s", busy);
}

Test(serve_task, a_connection_has_its_share) {
    begin(config("", "limits: { client_max_tasks = 3; };"));
    expect(&w, "[\"*", "TASK.MSUBMIT demo sleep 3 '' '' '' ARG 300");
    expect(&w, "-BUSY this connection has 3 tasks that have not ended, the limit is 3",
           "TASK.SUBMIT demo echo x");
    expect(&w, "-BUSY this connection *", "TASK.MSUBMIT demo echo 1 x");
    serve_connect(&other);
    expect(&other, "\"x\"", "TASK.CALL demo echo x");
    expect(&w, "\"x\"", "TASK.CALL demo echo x"); /* they have ended: the pool has one worker */
}

Test(serve_task, the_limits_of_a_pool_are_shown) {
    begin(config("timeout = 9; soft_timeout = 1.5; memory_max = \"256M\"; slow_after = 3;", ""));
    expect(&w,
           "*\"timeout_ms\" :9000 \"soft_timeout_ms\" :1500 \"memory_max\" :268435456 "
           "\"slow_after_ms\" :3000 \"kill_grace_ms\" :200 *",
           "POOL.INFO demo");
}

/* ---- pipelines ---- */

static const char submit_words[] = "*4\r\n$11\r\nTASK.SUBMIT\r\n$4\r\ndemo\r\n$4\r\necho\r\n"
                                   "$8\r\n%08d\r\n";

static char *pipeline(int n, size_t *ret_len) {
    char *all = malloc((size_t)n * 96);
    size_t len = 0;
    for (int i = 0; i < n; i++) {
        len += (size_t)sprintf(all + len, submit_words, i);
    }
    *ret_len = len;
    return all;
}

Test(serve_task, ten_thousand_in_one_write) {
    enum { N = 10000 };
    size_t len;
    begin(NULL);
    char *all = pipeline(N, &len);
    static char ids[N][SERVE_ID];
    static bool seen[N];
    ask(&w, "HELLO 3");
    expect(&w, "+OK", "TASK.NOTIFY ON");
    /* all is written before the first reply is read */
    cr_assert_eq(wire_send_raw(&w, all, len), 0);
    free(all);
    int accepted = 0, ended = 0;
    while (accepted < N || ended < N) {
        cr_assert_eq(wire_read(&w, WIRE_LIMIT_MS), 0);
        const struct resp_value *v = w.doc.v;
        if (v[0].type == RESP_BULK) {
            take_id(&w, ids[accepted++]);
            continue;
        }
        cr_assert(v[0].type == RESP_PUSH && v[0].count == 5, "%s", wire_show(&w));
        int i = atoi(v[4].data); /* the payload says which it was; its id came before its end */
        cr_assert(i < accepted && !seen[i]);
        cr_assert(strlen(ids[i]) == v[2].len && memcmp(ids[i], v[2].data, v[2].len) == 0);
        cr_assert(v[3].len == 4 && memcmp(v[3].data, "done", 4) == 0);
        seen[i] = true;
        ended++;
    }
    expect_silence(&w);
    cr_assert_eq(info_number(&w, "tasks_done"), N);
    cr_assert_eq(info_number(&w, "tasks_live"), 0);
}

Test(serve_task, calls_in_a_pipeline_answer_in_order) {
    begin(NULL);
    for (int i = 0; i < 500; i++) {
        tell(&w, "TASK.CALL demo echo %d", i);
        tell(&w, "ECHO e%d", i);
    }
    for (int i = 0; i < 500; i++) {
        char want[32];
        snprintf(want, sizeof(want), "\"%d\"", i);
        expect_next(&w, want);
        snprintf(want, sizeof(want), "\"e%d\"", i);
        expect_next(&w, want);
    }
}

Test(serve_task, large_payloads_and_results) {
    static const size_t sizes[] = {1,     55,    56,    57,    64,      65,
                                   32767, 32768, 32769, 65536, 1000000, 16 << 20};
    begin("pools = ( { name = \"demo\"; workers = 2; module = \"demo.so\"; } );");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t n = sizes[i];
        char *data = malloc(n);
        for (size_t k = 0; k < n; k++) {
            data[k] = (char)(k * 31 + (k >> 8));
        }
        struct resp_arg words[] = {{"TASK.CALL", 9}, {"demo", 4}, {"echo", 4}, {data, n}};
        /* twice in a row, so that copied and referenced output mix */
        cr_assert_eq(wire_send_words(&w, words, 4), 0);
        cr_assert_eq(wire_send_words(&w, words, 4), 0);
        for (int k = 0; k < 2; k++) {
            cr_assert_eq(wire_read(&w, WIRE_LIMIT_MS), 0);
            cr_assert(w.doc.v[0].type == RESP_BULK && w.doc.v[0].len == n &&
                          memcmp(w.doc.v[0].data, data, n) == 0,
                      "%zu bytes came back as %zu", n, w.doc.v[0].len);
        }
        free(data);
    }
    cr_assert_eq(info_number(&w, "tasks_live"), 0);
}

Test(serve_task, ends_of_tasks_of_other_connections) {
    char id[SERVE_ID], done[SERVE_ID];
    struct wire late;
    begin(NULL);
    serve_connect(&late);
    submit_line(&w, done, "demo echo x");
    expect(&w, "[*\"done\" \"x\"*]", "TASK.WAIT %s", done);
    submit_line(&w, id, "demo sleep '' ARG 60000");
    expect(&late, "-ERR TASK.NOTIFY needs RESP3*", "TASK.NOTIFY ON %s", id);
    ask(&late, "HELLO 3");
    expect(&late, "-ERR syntax error", "TASK.NOTIFY OFF %s", id);
    tell(&late, "TASK.NOTIFY ON %s %s 1-1 %s", id, done, id);
    expect_next(&late, ">[\"task.done\" * \"done\" \"x\" \"\"]");
    expect_next(&late, "[\"1-1\"]");
    expect(&w, ":1", "TASK.CANCEL %s", id);
    expect_next(&late, ">[\"task.done\" * \"cancelled\" nil *]");
    /* an older one of the same key is told, too; many keys at once */
    submit_line(&w, id, "demo sleep '' ARG 60000 UNIQUE k KEEP");
    submit_line(&late, done, "demo sleep '' ARG 60000 UNIQUE k KEEP");
    cr_assert_str_eq(id, done);
    expect(&w, ":1", "TASK.CANCEL %s", id);
    expect_next(&late, ">[\"task.done\" * \"cancelled\" nil *]");
    expect(&late, "+PONG", "PING");
    char first[256];
    snprintf(first, sizeof(first), "%s", ask(&w, "TASK.MSUBMIT demo echo 2 a b UNIQUE m KEEP"));
    cr_assert_str_eq(ask(&w, "TASK.MSUBMIT demo echo 2 a b UNIQUE m KEEP"), first);
    expect(&w, "\"b\"", "TASK.CALL demo echo c UNIQUE m:1 KEEP");
    wire_close(&late);
}
