/* SPDX-License-Identifier: MIT */
/* restart = "handover": what runs when a daemon is told to stop runs on, and is the next one's. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "tests/daemon/pool_support.h"
#include "tests/support/child.h"
#include "tests/support/daemon.h"

static struct daemon d;
static struct wire w;
static char dir[TMP_PATH], segment[TMP_PATH + 16], go[TMP_PATH + 16], config[4096];

static const char shape[] =
    "segment_size = \"32M\";\nstop_timeout = %s;\nsegment_path = \"%s\";\nrestart = \"%s\";\n"
    "pools = ( { name = \"demo\"; module = \"demo.so\"; workers = 1; kill_grace = 0.1; },\n"
    "          { name = \"two\"; module = \"demo.so\"; workers = 1; threads = 2; },\n"
    "          { name = \"bad\"; module = \"%s\"; workers = 1; kill_grace = 0.1; },\n"
    "          { name = \"shell\"; exec = [ ]; workers = 2; kill_grace = 0.1; } );\n";

static void configure(const char *stop_timeout, const char *restart) {
    snprintf(config, sizeof(config), shape, stop_timeout, segment, restart, trouble_module());
}

static void begin(void) {
    cr_assert_eq(tmp_dir(dir), 0);
    snprintf(segment, sizeof(segment), "%s/segment", dir);
    snprintf(go, sizeof(go), "%s/go", dir);
    configure("20", "handover");
    cr_assert_eq(daemon_start(&d, &(struct daemon_options){.config = config}), 0);
    cr_assert_eq(daemon_wait_ready(&d, 30000), 0, "%s", daemon_log(&d));
    cr_assert_eq(daemon_connect(&d, &w), 0);
}

static void stop(void) {
    wire_close(&w);
    int r = daemon_stop(&d);
    child_kill_all();
    int e = tmp_remove(dir);
    cr_assert_eq(r, 0, "the daemon's end: %d", r);
    cr_assert_eq(e, 0);
}

TestSuite(handover, .timeout = 60, .init = begin, .fini = stop);

/* Who was handed over is this process's child in the end. */
static bool has_left(pid_t pid) {
    return child_wait_ms(pid, within(3000)) != -ETIMEDOUT && gone(pid, within(3000));
}

/* It ends without waiting for what runs. */
static void ended(void) {
    kill(d.pid, SIGTERM);
    double from = now_ms();
    cr_assert_eq(daemon_wait(&d, 10000), 0, "%s", daemon_log(&d));
    cr_assert_lt(now_ms() - from, within(1500), "%s", daemon_log(&d));
    wire_close(&w);
}

static void next(void) {
    cr_assert_eq(daemon_restart(&d), 0);
    cr_assert_eq(daemon_wait_ready(&d, 30000), 0, "%s", daemon_log(&d));
    cr_assert_eq(daemon_connect(&d, &w), 0);
}

static void again(void) {
    ended();
    next();
}

static void proceed(void) {
    cr_assert_eq(tmp_write(dir, "go", "", 0), 0);
}

/* A command that runs until the test says so. */
static void submit_waiting(char id[ID_MAX]) {
    char script[2 * TMP_PATH + 128];
    snprintf(
        script, sizeof(script),
        "f=$(mktemp) || exit; until test -e %s; do sleep 0.01; done; test -e $f && echo through",
        go);
    submit_shell(&w, script, NULL, id);
}

static void expect_end(const char *id, const char *what) {
    const char *end = wait_end(&w, id);
    cr_assert(strstr(end, what), "%s, not %s: %s", end, what, daemon_log(&d));
}

static void check(void) {
    const char *shown = wire_call(&w, "SEGMENT.CHECK", NULL);
    cr_assert(strstr(shown, "\"errors\" :0"), "%s", shown);
}

static const char *status(const char *id, const char *field) {
    wire_call(&w, "TASK.STATUS", id, NULL);
    return wire_show_at(&w, wire_find(&w, 0, field));
}

Test(handover, what_runs_goes_on_and_ends_once) {
    char module[ID_MAX], command[ID_MAX], queued[ID_MAX];
    submit(&w, "demo", "sleep", "700", NULL, module);
    submit_waiting(command);
    pid_t a = wait_running(&w, module), b = wait_running(&w, command);
    submit(&w, "demo", "echo", NULL, NULL, queued);
    again();
    cr_assert_str_eq(status(command, "state"), "\"running\"");
    cr_assert_str_eq(status(command, "attempt"), ":1");
    cr_assert_eq(wait_running(&w, command), b);
    proceed();
    expect_end(module, "done|");
    expect_end(command, "done|through\n");
    expect_end(queued, "done|");
    cr_assert(has_left(a) && has_left(b));
    cr_assert(pool_becomes(&w, "demo", "workers", "1", 5000));
    cr_assert_str_eq(pool_info(&w, "demo", "queued"), "0");
    cr_assert_str_eq(pool_info(&w, "demo", "deaths"), "0");
    check();
}

/* Of one worker for each task no more than there may be. */
Test(handover, it_has_its_workers_place) {
    char runs[ID_MAX], queued[ID_MAX];
    submit(&w, "demo", "sleep", "1000", NULL, runs);
    wait_running(&w, runs);
    again();
    submit(&w, "demo", "echo", NULL, NULL, queued);
    cr_assert_str_eq(status(runs, "state"), "\"running\"");
    cr_assert_str_eq(status(queued, "state"), "\"queued\"");
    expect_end(queued, "done|");
    cr_assert_str_eq(status(runs, "state"), "\"done\"");
}

Test(handover, it_keeps_its_limit_key) {
    char runs[ID_MAX], queued[ID_MAX];
    wire_call(&w, "TASK.SUBMIT", "demo", "sleep", "", "ARG", "800", "LIMIT", "disk", "1", NULL);
    cr_assert_eq(sscanf(wire_show(&w), "\"%31[^\"]\"", runs), 1);
    wait_running(&w, runs);
    again();
    wire_call(&w, "TASK.SUBMIT", "shell", "run", "", "ARG", "true", "LIMIT", "disk", "1", NULL);
    cr_assert_eq(sscanf(wire_show(&w), "\"%31[^\"]\"", queued), 1);
    expect_end(queued, "done|");
    cr_assert_str_eq(status(runs, "state"), "\"done\"");
}

Test(handover, cancelled_and_over_time) {
    char cancelled[ID_MAX], late[ID_MAX], deaf[ID_MAX];
    submit_waiting(cancelled);
    submit_shell(&w, "exec sleep 60", "1500", late);
    submit(&w, "bad", "deaf", NULL, NULL, deaf);
    wait_running(&w, cancelled);
    wait_running(&w, late);
    pid_t pid = wait_running(&w, deaf);
    again();
    cr_assert_str_eq(wire_call(&w, "TASK.CANCEL", cancelled, NULL), ":1");
    cr_assert_str_eq(wire_call(&w, "TASK.CANCEL", deaf, NULL), ":1");
    expect_end(cancelled, "cancelled|");
    expect_end(deaf, "cancelled|");
    cr_assert(has_left(pid));
    expect_end(late, "timeout|");
    check();
}

Test(handover, a_worker_that_is_killed) {
    char id[ID_MAX], retried[ID_MAX];
    submit(&w, "bad", "deaf", NULL, NULL, id);
    pid_t pid = wait_running(&w, id);
    wire_call(&w, "TASK.SUBMIT", "demo", "sleep", "", "ARG", "400", "RETRY", "1", NULL);
    cr_assert_eq(sscanf(wire_show(&w), "\"%31[^\"]\"", retried), 1);
    pid_t other = wait_running(&w, retried);
    again();
    kill(pid, SIGKILL);
    kill(other, SIGKILL);
    expect_end(id, "lost|");
    expect_end(retried, "done|");
    cr_assert_str_eq(status(retried, "attempt"), ":2");
    check();
}

Test(handover, from_one_to_the_next_to_the_next) {
    char id[ID_MAX], other[ID_MAX];
    submit_waiting(id);
    pid_t pid = wait_running(&w, id);
    again();
    submit_waiting(other);
    wait_running(&w, other);
    again();
    cr_assert_eq(wait_running(&w, id), pid);
    daemon_kill(&d); /* with him dies who is his own, and nobody else */
    wire_close(&w);
    next();
    again();
    cr_assert_eq(wait_running(&w, id), pid);
    proceed();
    expect_end(id, "done|through\n");
    expect_end(other, "done|through\n");
    check();
}

Test(handover, threads_of_a_worker) {
    char one[ID_MAX], two[ID_MAX], later[ID_MAX];
    submit(&w, "two", "sleep", "300", NULL, one);
    submit(&w, "two", "sleep", "900", NULL, two);
    pid_t pid = wait_running(&w, one);
    cr_assert_eq(wait_running(&w, two), pid);
    again();
    submit(&w, "two", "echo", NULL, NULL, later);
    expect_end(one, "done|");
    cr_assert_str_eq(status(two, "state"), "\"running\"");
    expect_end(later, "done|");
    cr_assert_str_eq(status(two, "state"), "\"done\"");
    cr_assert(has_left(pid));
    cr_assert(pool_becomes(&w, "two", "workers", "1", 5000));
    check();
}

Test(handover, one_thread_of_two) {
    char id[ID_MAX];
    submit(&w, "two", "sleep", "800", NULL, id);
    wait_running(&w, id);
    again();
    cr_assert_str_eq(status(id, "state"), "\"running\"");
    expect_end(id, "done|");
}

/* What was told to end is waited for, and is not left to anybody. */
Test(handover, not_what_is_told_to_end) {
    char id[ID_MAX];
    submit_shell(&w, "trap '' TERM; sleep 60", NULL, id);
    pid_t pid = wait_running(&w, id);
    cr_assert_str_eq(wire_call(&w, "TASK.CANCEL", id, NULL), ":1");
    again();
    expect_end(id, "cancelled|");
    cr_assert(has_left(pid));
}

Test(handover, a_killed_daemon_takes_its_workers_with_it) {
    char id[ID_MAX];
    submit(&w, "bad", "deaf", NULL, NULL, id);
    pid_t pid = wait_running(&w, id);
    daemon_kill(&d);
    wire_close(&w);
    cr_assert(has_left(pid));
    next();
    expect_end(id, "lost|");
    check();
}

Test(handover, a_daemon_that_drains_ends_what_it_was_handed) {
    char id[ID_MAX];
    submit(&w, "bad", "deaf", NULL, NULL, id);
    pid_t pid = wait_running(&w, id);
    ended();
    configure("0.2", "drain");
    cr_assert_eq(tmp_write(d.dir, strrchr(d.config, '/') + 1, config, strlen(config)), 0);
    next();
    cr_assert_str_eq(status(id, "state"), "\"running\"");
    again();
    cr_assert(has_left(pid));
    expect_end(id, "lost|");
}

Test(handover, no_daemon_comes) {
    char id[ID_MAX];
    submit(&w, "demo", "sleep", "300", NULL, id);
    pid_t pid = wait_running(&w, id);
    ended();
    cr_assert(has_left(pid));
    next();
    expect_end(id, "done|");
    check();
}
