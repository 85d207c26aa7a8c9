/* SPDX-License-Identifier: MIT */
/* Supervision, live: time limits and cancelling, of handlers that listen, that do not, that are
 * stopped, and of commands with children. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/daemon/pool_support.h"
#include "tests/support/child.h"

static struct daemon daemon_;
static struct wire w;

static void begin(void) {
    static char config[2048];
    snprintf(config, sizeof(config),
             "pools = (\n"
             "  { name = \"demo\"; workers = 2; module = \"demo.so\"; kill_grace = 0.2; },\n"
             "  { name = \"brief\"; workers = 1; module = \"demo.so\"; timeout = 0.1; },\n"
             "  { name = \"trouble\"; workers = 1; module = \"%s\"; kill_grace = 0.2; },\n"
             "  { name = \"shell\"; workers = 2; exec = [ ]; kill_grace = 0.2; },\n"
             "  { name = \"patient\"; workers = 1; exec = [ ]; kill_grace = 0.7; },\n"
             "  { name = \"lazy\"; workers = 1; module = \"%s\"; kill_grace = 60.0; }\n"
             ");\n"
             "stop_timeout = 0.2;\n",
             trouble_module(), trouble_module());
    struct daemon_options o = {.config = config};
    cr_assert_eq(daemon_start(&daemon_, &o), 0);
    cr_assert_eq(daemon_wait_ready(&daemon_, within(10000)), 0, "%s", daemon_log(&daemon_));
    cr_assert_eq(daemon_connect(&daemon_, &w), 0);
}

static void end(void) {
    wire_close(&w);
    int r = daemon_stop(&daemon_);
    child_kill_all();
    cr_assert_eq(r, 0);
}

TestSuite(pool_time, .timeout = 60, .init = begin, .fini = end);

/* Milliseconds from submitting until the end, which must be `want`. */
static double end_of(const char *id, const char *want, double since) {
    const char *got = wait_end(&w, id);
    cr_assert_str_eq(got, want);
    return now_ms() - since;
}

Test(pool_time, a_handler_over_its_limit_is_killed_at_once) {
    char id[ID_MAX];
    double at = now_ms();
    submit(&w, "trouble", "deaf", NULL, "150", id);
    double took = end_of(id, "timeout|nil|time limit of 150 ms", at);
    cr_assert(took >= 150 && took < 150 + within(100), "after %.1f ms", took);
    /* its successor has a limit of its own */
    at = now_ms();
    submit(&w, "trouble", "deaf", NULL, "50", id);
    end_of(id, "timeout|nil|time limit of 50 ms", at);
}

Test(pool_time, a_task_within_its_limit_is_left_alone) {
    char id[ID_MAX];
    for (int i = 0; i < 20; i++) {
        submit(&w, "demo", "echo", "x", "60", id);
        cr_assert_str_eq(wait_end(&w, id), "done|x|");
    }
    /* the limits of the short ones pass while this one runs in their worker */
    submit(&w, "demo", "sleep", "200", NULL, id);
    cr_assert_str_eq(wait_end(&w, id), "done||");
}

Test(pool_time, the_pool_has_a_limit_for_tasks_that_name_none) {
    char id[ID_MAX];
    submit(&w, "brief", "sleep", "60000", NULL, id);
    cr_assert_str_eq(wait_end(&w, id), "timeout|nil|time limit of 100 ms");
    submit(&w, "brief", "sleep", "60000", "0", id); /* 0 names none */
    cr_assert_str_eq(wait_end(&w, id), "timeout|nil|time limit of 100 ms");
    submit(&w, "brief", "sleep", "300", "60000", id);
    cr_assert_str_eq(wait_end(&w, id), "done||");
}

Test(pool_time, a_command_over_its_limit_is_ended_with_its_children) {
    char id[ID_MAX], script[TMP_PATH + 128], path[TMP_PATH + 16], *text = NULL;
    size_t len;
    double at = now_ms();
    snprintf(path, sizeof(path), "%s/pid", daemon_.dir);
    snprintf(script, sizeof(script), "sleep 1000 & echo $! > %s; trap '' TERM; wait; sleep 1000",
             path);
    submit_shell(&w, script, "300", id);
    double took = end_of(id, "timeout|nil|time limit of 300 ms", at);
    cr_assert(took >= 300 && took < 500 + within(200), "after %.1f ms", took);
    cr_assert_eq(tmp_read(path, &text, &len), 0);
    pid_t grandchild = (pid_t)strtol(text, NULL, 10);
    free(text);
    cr_assert(grandchild > 1);
    cr_assert(gone(grandchild, within(1000)));
}

Test(pool_time, a_command_that_obeys_SIGTERM_keeps_its_worker) {
    char id[ID_MAX];
    double at = now_ms();
    submit(&w, "shell", "run", "true", NULL, id);
    cr_assert_str_eq(wait_end(&w, id), "done||");
    submit_shell(&w, "exec sleep 1000", "100", id);
    double took = end_of(id, "timeout|nil|time limit of 100 ms", at);
    cr_assert(took < 100 + within(100), "after %.1f ms", took);
    cr_assert_str_eq(pool_info(&w, "shell", "deaths"), "0");
}

Test(pool_time, cancelling_a_handler_that_listens) {
    char id[ID_MAX];
    submit(&w, "demo", "sleep", "60000", NULL, id);
    wait_running(&w, id);
    cr_assert_str_eq(wire_call(&w, "TASK.CANCEL", id, NULL), ":1");
    cr_assert_eq(strncmp(wait_end(&w, id), "cancelled|nil|cancelled", 23), 0);
    cr_assert_str_eq(pool_info(&w, "demo", "deaths"), "0");
}

Test(pool_time, cancelling_one_that_does_not_or_is_stopped) {
    char id[ID_MAX];
    submit(&w, "trouble", "deaf", NULL, NULL, id);
    wait_running(&w, id);
    double at = now_ms();
    cr_assert_str_eq(wire_call(&w, "TASK.CANCEL", id, NULL), ":1");
    cr_assert_eq(strncmp(wait_end(&w, id), "cancelled|nil|cancelled", 23), 0);
    double took = now_ms() - at;
    cr_assert(took >= 190 && took < 200 + within(100), "after %.1f ms", took);

    submit(&w, "demo", "sleep", "60000", NULL, id);
    pid_t pid = wait_running(&w, id);
    cr_assert_eq(kill(pid, SIGSTOP), 0);
    cr_assert_str_eq(wire_call(&w, "TASK.CANCEL", id, NULL), ":1");
    cr_assert_eq(strncmp(wait_end(&w, id), "cancelled|nil|cancelled", 23), 0);
    cr_assert(pool_becomes(&w, "demo", "workers", "2", within(2000)));
}

Test(pool_time, cancelling_a_command_and_a_queued_task) {
    char id[ID_MAX], queued[ID_MAX];
    submit_shell(&w, "exec sleep 1000", NULL, id);
    wait_running(&w, id);
    cr_assert_str_eq(wire_call(&w, "TASK.CANCEL", id, NULL), ":1");
    cr_assert_eq(strncmp(wait_end(&w, id), "cancelled|nil|cancelled", 23), 0);

    submit(&w, "trouble", "deaf", NULL, "300", id);
    submit(&w, "trouble", "deaf", NULL, "300", queued);
    wait_running(&w, id);
    double at = now_ms();
    cr_assert_str_eq(wire_call(&w, "TASK.CANCEL", queued, NULL), ":1");
    cr_assert_eq(strncmp(wait_end(&w, queued), "cancelled|nil|cancelled", 23), 0);
    cr_assert(now_ms() - at < within(50));
    cr_assert_str_eq(wait_end(&w, id), "timeout|nil|time limit of 300 ms");
}

Test(pool_time, a_limit_that_passes_after_the_cancel) {
    char id[ID_MAX];
    /* a handler that does not listen has its grace, but not beyond its limit */
    double at = now_ms();
    submit(&w, "lazy", "deaf", NULL, "300", id);
    wait_running(&w, id);
    cr_assert_str_eq(wire_call(&w, "TASK.CANCEL", id, NULL), ":1");
    end_of(id, "timeout|nil|time limit of 300 ms", at);
    /* a command has had its SIGTERM; the limit has nothing to add, and nobody waits for it busily */
    at = now_ms();
    submit(&w, "patient", "run", NULL, "100", id);
    wait_end(&w, id);
    wire_call(&w, "TASK.SUBMIT", "patient", "run", "", "ARG", "sh", "ARG", "-c", "ARG",
              "trap '' TERM; while :; do sleep 1000; done", "TIMEOUT", "100", NULL);
    snprintf(id, sizeof(id), "%.*s", (int)w.doc.v[0].len, w.doc.v[0].data);
    wait_running(&w, id);
    cr_assert_str_eq(wire_call(&w, "TASK.CANCEL", id, NULL), ":1");
    long before = loop_turns(&w);
    cr_assert_eq(strncmp(wait_end(&w, id), "cancelled|nil|cancelled", 23), 0);
    long turns = loop_turns(&w) - before;
    cr_assert(turns < 60, "%ld turns", turns);
}
