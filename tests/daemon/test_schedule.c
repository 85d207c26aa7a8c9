/* SPDX-License-Identifier: MIT */
/* When tasks run: priority and ageing, delay, expiry, deadline, retries by kind and their pauses,
 * poison, dead letters, pausing and draining; with workers killed between. The order is seen by what
 * the tasks of a pool with one worker append to one file; the pool is paused while they are
 * submitted. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/num.h"
#include "tests/daemon/serve_support.h"
#include "tests/support/tmp.h"

static struct wire w, other;
static char dir[TMP_PATH];

static void begin(void) {
    static char config[2048];
    cr_assert_eq(tmp_dir(dir), 0);
    snprintf(config, sizeof(config),
             "pools = ( { name = \"demo\"; workers = 1; module = \"demo.so\"; kill_grace = 0.2;\n"
             "    backoff = 0.01; poison = 2; dead_letters = 3; },\n"
             "  { name = \"one\"; workers = 1; exec = [ \"sh\", \"-c\" ]; kill_grace = 0.1;\n"
             "    ageing = 0.1; working_directory = \"%s\"; },\n"
             "  { name = \"lim\"; workers = 4; exec = [ \"sh\", \"-c\" ]; },\n"
             "  { name = \"shell\"; workers = 1; exec = [ ]; },\n"
             "  { name = \"try\"; workers = 2; exec = [ \"sh\", \"-c\" ]; retries = 2;\n"
             "    backoff = 0.01; retry_on = [ \"error\" ]; } );\n"
             "stop_timeout = 1;\n",
             dir);
    serve_begin(config);
    serve_connect(&w);
    serve_connect(&other);
}

static void end(void) {
    wire_close(&w);
    wire_close(&other);
    serve_end();
    cr_assert_eq(tmp_remove(dir), 0);
}

TestSuite(schedule, .timeout = 60, .init = begin, .fini = end);

static uint64_t now_ms(void) {
    return clock_now() / NS_PER_MS;
}

/* Waits for what the tasks have written to be this. */
static void expect_order(const char *want) {
    char path[TMP_PATH + 16], *text = NULL;
    size_t len;
    expect(&w, "+OK", "POOL.DRAIN one");
    expect(&w, "+OK", "POOL.RESUME one IN");
    snprintf(path, sizeof(path), "%s/order", dir);
    cr_assert_eq(tmp_read(path, &text, &len), 0);
    cr_assert_str_eq(text, want);
    free(text);
}

/* A task that writes one letter. */
static void letter(char id[SERVE_ID], char which, const char *options) {
    submit_line(&w, id, "one run %c ARG 'cat >>order' %s", which, options);
}

static long long status_number(const char *id, const char *field) {
    ask(&w, "TASK.STATUS %s", id);
    uint32_t at = wire_find(&w, 0, field);
    cr_assert(at);
    long long n = 0;
    cr_assert_eq(sscanf(wire_show_at(&w, at), ":%lld", &n), 1);
    return n;
}

static void wait_state(const char *id, const char *state) {
    uint64_t until = now_ms() + 20000;
    char want[64];
    snprintf(want, sizeof(want), "*\"state\" \"%s\"*", state);
    while (!like(want, ask(&w, "TASK.STATUS %s", id))) {
        cr_assert(now_ms() < until, "%s is not %s: %s", id, state, wire_show(&w));
    }
}

Test(schedule, priorities) {
    char id[SERVE_ID], last[SERVE_ID];
    expect(&w, "+OK", "POOL.PAUSE one OUT");
    letter(id, 'c', "");
    letter(id, 'd', "");
    letter(id, 'a', "PRIORITY 255");
    letter(id, 'b', "PRIORITY 200");
    letter(last, 'f', "PRIORITY 0");
    letter(id, 'e', "");
    expect(&w, "*\"state\" \"waiting\"*\"priority\" :0 \"waits_for\" \"priority\"*",
           "TASK.STATUS %s", last);
    expect(&w, "[[*\"state\" \"waiting\"*]]", "TASK.LIST STATE waiting COUNT 1");
    expect(&w, "+OK", "POOL.RESUME one");
    expect_order("abcdef");
}

Test(schedule, who_came_much_earlier_goes_first_all_the_same) {
    char id[SERVE_ID];
    expect(&w, "+OK", "POOL.PAUSE one OUT");
    letter(id, 'a', "");
    /* one level is worth 100 ms here, so one of two levels more that comes a second later is not
     * sooner: its submission is put off by a task that takes so long */
    expect(&w, "\"\"", "TASK.CALL demo sleep '' ARG 300");
    letter(id, 'b', "PRIORITY 129");
    letter(id, 'A', "PRIORITY 255");
    letter(id, 'c', "PRIORITY 128");
    expect(&w, "+OK", "POOL.RESUME one");
    expect_order("Aabc");
}

Test(schedule, a_priority_can_be_changed) {
    char a[SERVE_ID], b[SERVE_ID], c[SERVE_ID];
    expect(&w, "+OK", "POOL.PAUSE one OUT");
    letter(a, 'c', "PRIORITY 140");
    letter(b, 'a', "");
    letter(c, 'b', "PRIORITY 130");
    expect(&w, ":1", "TASK.PRIORITY %s 250", b);
    expect(&w, ":1", "TASK.PRIORITY %s 100", a);
    expect(&w, "-ERR priority is not an integer from 0 to 255", "TASK.PRIORITY %s 256", a);
    expect(&w, "-NOTASK*", "TASK.PRIORITY x 1");
    expect(&w, "+OK", "POOL.RESUME one");
    expect_order("abc");
    expect(&w, ":0", "TASK.PRIORITY %s 1", a);
}

/* Plain tasks wait behind ones that come before them; when those are cancelled nobody sleeps on. */
Test(schedule, cancelled_ones_keep_nobody_waiting) {
    enum { N = 40 };
    char id[N][SERVE_ID], plain[SERVE_ID];
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < N; i++) {
            submit_line(&w, id[i], "demo echo x PRIORITY %d", 129 + i);
        }
        submit_line(&w, plain, "demo echo plain");
        for (int i = 0; i < N; i++) {
            ask(&w, "TASK.CANCEL %s", id[i]);
        }
        expect(&w, "[*\"plain\" \"\"]", "TASK.WAIT %s TIMEOUT 5000", plain);
    }
}

/* A long one runs; what is fed behind it is recalled for a better one, and for a plain one. */
Test(schedule, the_order_is_exact_behind_a_running_task) {
    char id[SERVE_ID], letters[] = "d PRIORITY 100";
    submit_line(&w, id, "one run '' ARG 'sleep 0.5'");
    wait_state(id, "running");
    letter(id, 'd', letters + 2);
    letter(id, 'b', "");
    letter(id, 'e', "PRIORITY 90");
    letter(id, 'a', "PRIORITY 150");
    letter(id, 'c', "");
    expect_order("abcde");
}

Test(schedule, delays) {
    char a[SERVE_ID], b[SERVE_ID], c[SERVE_ID];
    uint64_t from = now_ms();
    submit_line(&w, a, "demo echo later DELAY 150");
    submit_line(&w, b, "demo echo now");
    uint64_t at = clock_wall_ms() + 80;
    submit_line(&w, c, "demo echo at AT %llu", (unsigned long long)at);
    expect(&w, "*\"state\" \"waiting\"*\"waits_for\" \"delay\"*", "TASK.STATUS %s", a);
    expect(&w, "[*\"now\" \"\"]", "TASK.WAIT %s", b);
    expect(&w, "*\"queued\" :0 \"delayed\" :2*", "POOL.INFO demo");
    cr_expect_lt(now_ms() - from, 100);
    expect(&w, "[*\"at\" \"\"]", "TASK.WAIT %s %s", c, a);
    cr_expect_geq(clock_wall_ms() + 1, at);
    expect(&w, "[*\"later\" \"\"]", "TASK.WAIT %s", a);
    uint64_t took = now_ms() - from;
    cr_expect(took >= 149 && took < 400, "%llu ms", (unsigned long long)took);
    submit_line(&w, a, "demo echo x DELAY 100000000");
    expect(&w, ":1", "TASK.CANCEL %s", a);
    expect(&w, "[\"cancelled\"*]", "TASK.RESULT %s", a);
    expect(&w, "\"past\"", "TASK.CALL demo echo past AT 1");
    expect(&w, "*\"delayed\" :0*", "POOL.INFO demo");
}

Test(schedule, expiry_and_deadline) {
    char id[SERVE_ID], run[SERVE_ID];
    expect(&w, "\"x\"", "TASK.CALL demo echo x EXPIRE 10000 DEADLINE 10000");
    expect(&w, "+OK", "POOL.PAUSE demo OUT");
    submit_line(&w, id, "demo echo x EXPIRE 50");
    expect(&w, "[*\"expired\" nil \"not begun in time\"]", "TASK.WAIT %s", id);
    submit_line(&w, id, "demo echo x PRIORITY 3 DEADLINE 50");
    expect(&w, "[*\"expired\" nil \"not ended by its deadline\"]", "TASK.WAIT %s", id);
    expect(&w, "-EXPIRED not begun in time", "TASK.CALL demo echo x DELAY 5000 EXPIRE 50");
    expect(&w, "+OK", "POOL.RESUME demo");
    /* of running ones: a handler, and a command that does not listen */
    submit_line(&w, run, "demo sleep '' ARG 60000 DEADLINE 100 EXPIRE 50 RETRY 5");
    expect(&w, "[*\"timeout\" nil \"not ended by its deadline\"]", "TASK.WAIT %s", run);
    submit_line(&w, run, "one run '' ARG 'sleep 60' DEADLINE 100");
    expect(&w, "[*\"timeout\" nil \"not ended by its deadline\"]", "TASK.WAIT %s", run);
    submit_line(&w, run, "one run '' ARG \"trap '' TERM; sleep 60\" DEADLINE 100");
    expect(&w, "[*\"timeout\" nil \"not ended by its deadline\"]", "TASK.WAIT %s", run);
    /* across retries: after pauses of 100 and 200 ms the next would end 400 ms later, which is after
     * its deadline, be they all a tenth shorter */
    submit_line(&w, run, "demo fail '' ARG no DEADLINE 600 RETRY 100 BACKOFF 100");
    expect(&w, "[*\"failed\" nil*]", "TASK.WAIT %s", run);
    long long attempts = status_number(run, "attempt");
    cr_expect(attempts >= 3 && attempts <= 8, "%lld", attempts);
}

Test(schedule, retries) {
    char id[SERVE_ID];
    /* the third attempt is well */
    expect(&w, "\"3\\n\"", "TASK.CALL try run '' ARG 'test $HEARTH_ATTEMPT = 3 && echo 3'");
    /* the pool's two are used up */
    submit_line(&w, id, "try run '' ARG 'echo out; echo err >&2; exit 9'");
    expect(&w, "[*\"failed\" nil \"exit status 9\"]", "TASK.WAIT %s", id);
    expect(&w,
           "*\"attempt\" :3*\"stderr\" \"err\\n\" \"failures\" [[*] [*] [*\"run_ms\" :* "
           "\"worker_pid\" :* \"state\" \"failed\" \"cause_text\" \"exit status 9\"]]]",
           "TASK.STATUS %s", id);
    /* what the task says goes before the pool */
    submit_line(&w, id, "try run '' ARG 'exit 9' RETRY 0");
    expect(&w, "[*\"failed\"*]", "TASK.WAIT %s", id);
    cr_expect_eq(status_number(id, "attempt"), 1);
    submit_line(&w, id, "try run '' ARG 'exit 9' ON crash,timeout");
    expect(&w, "[*\"failed\"*]", "TASK.WAIT %s", id);
    cr_expect_eq(status_number(id, "attempt"), 1);
    submit_line(&w, id, "try run '' ARG 'kill -9 $$' ON Crash");
    expect(&w, "[*\"failed\"*]", "TASK.WAIT %s", id);
    cr_expect_eq(status_number(id, "attempt"), 3);
    submit_line(&w, id, "try run '' ARG 'sleep 60' ON timeout RETRY 1 TIMEOUT 50");
    expect(&w, "[*\"timeout\"*]", "TASK.WAIT %s", id);
    cr_expect_eq(status_number(id, "attempt"), 2);
    expect(&w, "-ERR on is a list of *", "TASK.SUBMIT try run '' ON never");
    expect(&w, "-ERR RETRY is not an integer from 0 to 250", "TASK.SUBMIT try run '' RETRY 251");
    /* cancelled between two attempts, and while running: not tried again */
    submit_line(&w, id, "demo fail '' ARG no RETRY 5 BACKOFF 60000");
    wait_state(id, "waiting");
    expect(&w, "*\"attempt\" :1*\"waits_for\" \"retry\"*", "TASK.STATUS %s", id);
    expect(&w, ":1", "TASK.CANCEL %s", id);
    expect(&w, "[*\"cancelled\"*]", "TASK.WAIT %s", id);
    submit_line(&w, id, "demo sleep '' ARG 60000 RETRY 5");
    wait_state(id, "running");
    expect(&w, ":1", "TASK.CANCEL %s", id);
    expect(&w, "[*\"cancelled\"*]", "TASK.WAIT %s", id);
}

Test(schedule, pauses_double_up_to_the_longest) {
    uint64_t from = now_ms();
    expect(&w, "-FAILED 1 no", "TASK.CALL demo fail '' ARG no RETRY 3 BACKOFF 40 MAX 80");
    uint64_t took = now_ms() - from; /* 40 + 80 + 80, a tenth less or more */
    cr_expect(took >= 179 && took < 1000, "%llu ms", (unsigned long long)took);
}

Test(schedule, poison_is_not_tried_again) {
    char id[SERVE_ID];
    submit_line(&w, id, "demo crash '' ARG KILL RETRY 50");
    expect(&w, "[*\"lost\" nil \"signal 9 (SIGKILL)\"]", "TASK.WAIT %s", id);
    expect(&w, "*\"attempt\" :2 \"kills\" :1*", "TASK.STATUS %s", id);
    expect(&w, "[[\"id\" \"*\"*\"state\" \"lost\"*]]", "DEAD.LIST");
    expect(&w, "\"alive\"", "TASK.CALL demo echo alive");
}

Test(schedule, dead_letters) {
    char id[5][SERVE_ID], again[SERVE_ID], want[256];
    for (int i = 0; i < 5; i++) {
        submit_line(&w, id[i], "demo fail p%d ARG no ARG %d RETRY 1 PRIORITY %d", i, i, 120 + i);
        expect(&w, "[*\"failed\"*]", "TASK.WAIT %s", id[i]);
    }
    /* three are kept */
    snprintf(want, sizeof(want), "[[\"id\" \"%s\"*] [\"id\" \"%s\"*] [\"id\" \"%s\"*]]", id[4],
             id[3], id[2]);
    expect(&w, want, "DEAD.LIST POOL demo");
    expect(&w, "[[*]]", "DEAD.LIST COUNT 1");
    expect(&w, "[]", "DEAD.LIST POOL one");
    expect(&w, "*\"dead\" :3*", "POOL.INFO demo");
    expect(&w, "-NOTASK*", "DEAD.INFO %s", id[1]);
    expect(&w, "[\"failed\" nil *]", "TASK.RESULT %s", id[1]);
    expect(&w, "*\"attempt\" :2*\"failures\" [[*] [*\"cause_text\" \"error 2\"]]]", "DEAD.INFO %s",
           id[2]);
    expect(&w, "-NOTASK no such dead letter", "DEAD.INFO x");
    expect(&w, "[\"failed\" nil *]", "TASK.RESULT %s", id[2]);
    /* another try is another task, with all it had */
    expect(&w, "[\"*\" nil]", "DEAD.REQUEUE %s x", id[4]);
    sscanf(wire_show(&w), "[\"%63[^\"]", again);
    cr_assert_str_neq(again, id[4]);
    expect(&w, "[*\"failed\" nil \"error 4: no\"]", "TASK.WAIT %s", again);
    expect(&w, "*\"attempt\" :2*\"priority\" :124*\"payload_bytes\" :2*", "TASK.STATUS %s", again);
    expect(&w, "-NOTASK*", "TASK.STATUS %s", id[4]);
    expect(&w, ":1", "DEAD.PURGE %s x", id[2]);
    expect(&w, ":2", "DEAD.PURGE POOL demo");
    expect(&w, ":0", "DEAD.PURGE");
    expect(&w, "[]", "DEAD.LIST");
}

/* Tasks that note how many of their key run with them. */
Test(schedule, limits_are_kept_and_block_nobody_else) {
    char id[SERVE_ID], first[SERVE_ID];
    const char *run = "mkdir try.$$; ls -d try.* | wc -l >>most; sleep "
                      "0.02; rmdir try.$$";
    expect(&w, "+OK", "POOL.PAUSE lim OUT");
    for (int i = 0; i < 12; i++) {
        submit_line(&w, i ? id : first, "lim run '' ARG 'cd %s; %s' LIMIT a 2 PRIORITY %d", dir,
                    run, 20 * i);
    }
    expect(&w, "*\"waits_for\" \"limit\"*", "TASK.STATUS %s", first);
    expect(&w, "+OK", "POOL.RESUME lim");
    uint64_t from = now_ms();
    expect(&w, "\"free\"", "TASK.CALL lim run free ARG cat PRIORITY 1");
    expect(&w, "\"other\"", "TASK.CALL lim run other ARG cat LIMIT b 1");
    cr_expect_lt(now_ms() - from, 100, "others wait for it");
    expect(&w, "+OK", "POOL.DRAIN lim");
    expect(&w, "+OK", "POOL.RESUME lim");
    char path[TMP_PATH + 16], *text = NULL;
    size_t len;
    snprintf(path, sizeof(path), "%s/most", dir);
    cr_assert_eq(tmp_read(path, &text, &len), 0);
    cr_assert_eq(len, 24, "%s", text);
    for (size_t i = 0; i < len; i += 2) {
        cr_expect(text[i] == '1' || text[i] == '2', "%s", text);
    }
    free(text);
    /* one that dies or is tried again gives its place back */
    expect(&w, "-LOST*", "TASK.CALL demo crash '' ARG KILL LIMIT c 1");
    expect(&w, "-FAILED*", "TASK.CALL demo fail '' ARG no LIMIT c 1 RETRY 2");
    submit_line(&w, id, "demo sleep '' ARG 60000 LIMIT c 1");
    wait_state(id, "running");
    char next[SERVE_ID];
    submit_line(&w, next, "demo echo x LIMIT c 1 EXPIRE 50");
    expect(&w, "[*\"expired\"*]", "TASK.WAIT %s", next);
    submit_line(&w, next, "demo echo x LIMIT c 1");
    expect(&w, ":1", "TASK.CANCEL %s", id);
    expect(&w, "[*\"done\" \"x\"*]", "TASK.WAIT %s", next);
    expect(&w, "-ERR the number of a limit is not a positive integer",
           "TASK.SUBMIT demo echo x LIMIT c 0");
    expect(&w, "-ERR syntax error", "TASK.SUBMIT demo echo x LIMIT c");
}

Test(schedule, unique_keys) {
    char id[SERVE_ID], next[SERVE_ID];
    submit_line(&w, id, "demo sleep '' ARG 60000 UNIQUE k REJECT");
    expect(&w, "-EXISTS*", "TASK.SUBMIT demo echo x UNIQUE k REJECT");
    expect(&w, "\"free\"", "TASK.CALL shell run '' ARG printf ARG free UNIQUE k REJECT");
    ask(&w, "TASK.SUBMIT demo echo x UNIQUE k ATTACH");
    take_id(&w, next);
    cr_assert_str_eq(next, id);
    tell(&other, "TASK.CALL demo echo x UNIQUE k ATTACH");
    while (info_number(&w, "blocked_clients") < 1) {
    }
    submit_line(&w, next, "demo echo new UNIQUE k REPLACE");
    cr_assert_str_neq(next, id);
    expect_next(&other, "-CANCELLED cancelled by its replacement");
    expect(&w, "[*\"done\" \"new\"*]", "TASK.WAIT %s", next);
    /* free again, and free while one is tried again it is not */
    submit_line(&w, id, "demo fail '' ARG no UNIQUE k REJECT RETRY 1 BACKOFF 60000");
    wait_state(id, "waiting");
    expect(&w, "-EXISTS*", "TASK.SUBMIT demo echo x UNIQUE k REJECT");
    expect(&w, "\"now\"", "TASK.CALL demo echo now UNIQUE k REPLACE");
    expect(&w, "[\"cancelled\"*]", "TASK.RESULT %s", id);
    expect(&w, "-ERR of many tasks *", "TASK.MSUBMIT demo echo 2 x y UNIQUE k REJECT");
    expect(&w, "-ERR unique is followed by *", "TASK.SUBMIT demo echo x UNIQUE k NEVER");
}

Test(schedule, keys_that_are_kept) {
    char id[SERVE_ID], again[SERVE_ID];
    submit_line(&w, id, "demo sleep '' ARG 60000 UNIQUE k KEEP");
    submit_line(&w, again, "demo sleep '' ARG 60000 UNIQUE k KEEP");
    cr_assert_str_eq(again, id);
    expect(&w, "-EXISTS*", "TASK.SUBMIT demo echo x UNIQUE k REJECT");
    expect(&w, ":1", "TASK.CANCEL %s", id);
    expect(&w, "[*\"cancelled\"*]", "TASK.WAIT %s", id);
    submit_line(&w, again, "demo sleep '' ARG 60000 UNIQUE k KEEP");
    cr_assert_str_eq(again, id);
    expect(&w, "-CANCELLED *", "TASK.CALL demo echo x UNIQUE k KEEP");
    expect(&w, "-EXISTS*", "TASK.SUBMIT demo echo x UNIQUE k REJECT");
    expect(&w, "\"new\"", "TASK.CALL demo echo new UNIQUE k REPLACE");
    expect(&w, "\"one\"", "TASK.CALL demo echo one UNIQUE k KEEP");
    expect(&w, "\"one\"", "TASK.CALL demo echo two UNIQUE k KEEP");
    expect(&w, "\"pool\"", "TASK.CALL shell run '' ARG printf ARG pool UNIQUE k KEEP");
    /* a dead letter that is tried anew hands its key on */
    submit_line(&w, id, "demo fail '' ARG no UNIQUE d KEEP RETRY 1 BACKOFF 1");
    expect(&w, "[*\"failed\"*]", "TASK.WAIT %s", id);
    ask(&w, "DEAD.REQUEUE %s", id);
    cr_assert(strstr(wire_show(&w), "\""), "%s", wire_show(&w));
    submit_line(&w, again, "demo echo x UNIQUE d KEEP");
    cr_assert_str_neq(again, id);
    expect(&w, "[*\"failed\"*]", "TASK.WAIT %s", again);
}

Test(schedule, a_key_is_kept_as_long_as_its_task) {
    expect(&w, "+OK", "CONFIG SET result_keep 0.01");
    expect(&w, "\"a\"", "TASK.CALL demo echo a UNIQUE f KEEP");
    uint64_t until = clock_now() + 10 * NS_PER_SEC;
    while (strcmp(ask(&w, "TASK.CALL demo echo b UNIQUE f KEEP"), "\"b\"") != 0) {
        cr_assert(clock_now() < until);
    }
}

Test(schedule, dependencies) {
    char a[SERVE_ID], b[SERVE_ID], c[SERVE_ID], id[SERVE_ID], last[SERVE_ID];
    expect(&w, "+OK", "POOL.PAUSE demo OUT");
    submit_line(&w, a, "demo echo a");
    submit_line(&w, b, "demo fail '' ARG no RETRY 1 BACKOFF 1");
    submit_line(&w, c, "shell run after ARG cat AFTER %s,%s ANY", a, b);
    submit_line(&w, id, "shell run '' ARG true AFTER %s,%s OK", a, b);
    submit_line(&w, last, "shell run '' ARG true AFTER %s,%s OK", id, a); /* a chain */
    expect(&w, "*\"state\" \"waiting\"*\"waits_for\" \"after\"*", "TASK.STATUS %s", c);
    expect(&w, "\"free\"", "TASK.CALL shell run free ARG cat");
    expect(&w, "+OK", "POOL.RESUME demo");
    expect(&w, "[*\"done\" \"after\" \"\"]", "TASK.WAIT %s", c);
    expect(&w, "[*\"cancelled\" nil \"cancelled by *, which it comes after\"]", "TASK.WAIT %s", id);
    expect(&w, "[*\"cancelled\" nil \"cancelled by *, which it comes after\"]", "TASK.WAIT %s",
           last);
    /* of those that have ended already */
    expect(&w, "\"x\"", "TASK.CALL demo echo x AFTER %s OK", a);
    expect(&w, "\"x\"", "TASK.CALL demo echo x AFTER %s FAILED DELAY 20", b);
    expect(&w, "-CANCELLED*", "TASK.CALL demo echo x AFTER %s OK", b);
    expect(&w, "-CANCELLED*", "TASK.CALL demo echo x AFTER %s FAILED", a);
    expect(&w, "-NOTASK*", "TASK.SUBMIT demo echo x AFTER %s,0-0 OK", a);
    expect(&w, "-ERR after is followed *", "TASK.SUBMIT demo echo x AFTER %s PERHAPS", a);
    submit_line(&w, id, "demo fail '' ARG no AFTER %s ANY RETRY 1 BACKOFF 1", a);
    expect(&w, "[*\"failed\"*]", "TASK.WAIT %s", id);
    expect(&w, "[\"*\"]", "DEAD.REQUEUE %s", id);
    ask(&w, "TASK.MSUBMIT demo echo 2 m n AFTER %s OK", a);
    /* one that waits can be cancelled, and expires */
    submit_line(&w, a, "demo sleep '' ARG 60000");
    submit_line(&w, id, "demo echo x AFTER %s ANY", a);
    expect(&w, "-EXPIRED*", "TASK.CALL demo echo x AFTER %s ANY EXPIRE 30", a);
    expect(&w, ":1", "TASK.CANCEL %s", id);
    submit_line(&w, id, "demo echo then AFTER %s FAILED", a);
    expect(&w, ":1", "TASK.CANCEL %s", a);
    expect(&w, "[*\"done\" \"then\" \"\"]", "TASK.WAIT %s", id);
}

Test(schedule, owned_tasks_end_with_their_connection) {
    char run[SERVE_ID], late[SERVE_ID], free_one[SERVE_ID];
    for (int i = 0; i < 100; i++) { /* those that have ended are not kept */
        expect(&other, "\"x\"", "TASK.CALL demo echo x OWNED");
    }
    submit_line(&other, run, "demo sleep '' ARG 60000 OWNED RETRY 3");
    submit_line(&other, late, "demo echo x OWNED DELAY 60000 PRIORITY 9");
    submit_line(&other, free_one, "demo echo x DELAY 200");
    ask(&other, "TASK.MSUBMIT demo echo 2 x y DELAY 60000 OWNED");
    wait_state(run, "running");
    wire_close(&other);
    expect(&w, "[*\"cancelled\" nil \"cancelled by the end of its client *\"]", "TASK.WAIT %s",
           run);
    expect(&w, "[\"cancelled\"*]", "TASK.RESULT %s", late);
    expect(&w, "[*\"done\"*]", "TASK.WAIT %s", free_one);
    expect(&w, "*\"queued\" :0 \"delayed\" :0*", "POOL.INFO demo");
}

Test(schedule, pausing_and_draining) {
    char id[SERVE_ID];
    expect(&w, "+OK", "POOL.PAUSE demo OUT");
    submit_line(&w, id, "demo echo x");
    expect(&w, "*\"queued\" :1*\"paused\" \"out\"*", "POOL.INFO demo");
    expect(&w, "nil", "POOL.DRAIN demo TIMEOUT 30");
    expect(&w, "*\"paused\" \"in out\"*", "POOL.INFO demo");
    expect(&w, "-BUSY pool 'demo' is paused", "TASK.SUBMIT demo echo x");
    tell(&other, "POOL.DRAIN demo");
    expect(&w, "+OK", "POOL.RESUME demo OUT");
    expect_next(&other, "+OK");
    expect(&w, "[\"done\" \"x\" \"\"]", "TASK.RESULT %s", id);
    expect(&w, "-BUSY*", "TASK.SUBMIT demo echo x");
    expect(&w, "+OK", "POOL.RESUME demo");
    expect(&w, "\"y\"", "TASK.CALL demo echo y");
    expect(&w, "-ERR syntax error", "POOL.PAUSE demo UP");
    expect(&w, "-NOPOOL*", "POOL.RESUME nosuch");
}

/* Workers die under tasks that are tried again: each has one end, and runs no more often than it
 * may. */
Test(schedule, one_end_each_whatever_dies) {
    enum { N = 60 };
    char id[N][SERVE_ID];
    long long client = 0;
    cr_assert_eq(sscanf(ask(&w, "CLIENT ID"), ":%lld", &client), 1);
    expect(&other, "*", "SUBSCRIBE tasks:%lld", client);
    for (int i = 0; i < N; i++) {
        const char *how = i % 3 == 0   ? "crash '' ARG KILL RETRY 1"
                          : i % 3 == 1 ? "fail '' ARG no "
                                         "RETRY 3"
                                       : "echo x RETRY 2";
        submit_line(&w, id[i], "demo %s BACKOFF 5 PRIORITY %d DELAY %d", how, i * 4, i % 7);
    }
    for (int i = 0; i < N; i++) {
        hear(&other);
        cr_assert(like("[\"message\" *]", wire_show(&other)), "%s", wire_show(&other));
    }
    for (int i = 0; i < N; i++) {
        cr_expect_eq(status_number(id[i], "attempt"), i % 3 == 0 ? 2 : i % 3 == 1 ? 4 : 1);
    }
    expect(&other, "[\"pong\" \"\"]", "PING");
    expect(&w, "*\"queued\" :0 \"delayed\" :0*", "POOL.INFO demo");
    expect(&w, "*\"errors\" :0*", "SEGMENT.CHECK");
}
