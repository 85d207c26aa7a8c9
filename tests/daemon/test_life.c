/* SPDX-License-Identifier: MIT */
/* The daemon's life as its service manager sees it: started with a socket or making its own, ready
 * when its pools are warm, ended by a signal, started again. Also the proof that the harness
 * (tests/support/daemon.h) notices what it must. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "tests/support/child.h"
#include "tests/support/daemon.h"

static struct daemon d;

static void stop(void) {
    int r = daemon_stop(&d);
    child_kill_all();
    cr_assert_eq(r, 0, "the daemon's end: %d", r);
}

TestSuite(life, .timeout = 60, .fini = stop);

static void ping(void) {
    struct wire w;
    cr_assert_eq(daemon_connect(&d, &w), 0);
    cr_assert_str_eq(wire_call(&w, "PING", NULL), "+PONG", "%s", daemon_log(&d));
    wire_close(&w);
}

/* Submits a task of 30 s and returns when a worker has it. */
static void submit_spin(struct wire *w) {
    const char *shown = wire_call(w, "TASK.SUBMIT", "demo", "spin", "", "ARG", "30000", NULL);
    char id[80];
    cr_assert_eq(sscanf(shown, "\"%79[^\"]\"", id), 1, "%s", shown);
    uint64_t until = clock_now() + 10 * NS_PER_SEC;
    do {
        cr_assert(clock_now() < until, "no worker takes the task: %s", daemon_log(&d));
        wire_call(w, "TASK.STATUS", id, NULL);
    } while (strcmp(wire_show_at(w, wire_find(w, 0, "state")), "\"running\"") != 0);
}

Test(life, socket_from_the_manager) {
    cr_assert_eq(daemon_start(&d, NULL), 0);
    ping(); /* sent before it is ready: waits in the socket */
    cr_assert_eq(daemon_wait_ready(&d, 30000), 0);
    ping();
    struct wire w;
    cr_assert_eq(daemon_connect(&d, &w), 0);
    cr_assert_str_eq(wire_call(&w, "TASK.CALL", "demo", "echo", "hello", NULL), "\"hello\"");
    /* It tells the path of that socket, not the one of the configuration. */
    wire_call(&w, "CONFIG", "GET", "socket", NULL);
    cr_assert(strstr(wire_show(&w), d.socket), "%s", wire_show(&w));
    cr_assert(strstr(daemon_log(&d), "listening on /"));
    cr_assert(strstr(strstr(daemon_log(&d), "listening on /"), d.socket), "%s", daemon_log(&d));
    wire_close(&w);
}

Test(life, socket_of_its_own_is_removed_at_the_end) {
    struct daemon_options o = {.own_socket = true};
    struct stat st;
    cr_assert_eq(daemon_start(&d, &o), 0);
    ping();
    cr_assert_eq(stat(d.socket, &st), 0);
    cr_assert(S_ISSOCK(st.st_mode));
    kill(d.pid, SIGTERM);
    cr_assert_eq(daemon_wait(&d, 10000), 0);
    cr_assert_eq(stat(d.socket, &st), -1);
    cr_assert_eq(errno, ENOENT);
}

Test(life, a_stale_socket_is_replaced_a_live_one_refused) {
    struct daemon_options o = {.own_socket = true};
    cr_assert_eq(daemon_start(&d, &o), 0);
    cr_assert_eq(daemon_wait_ready(&d, 30000), 0);
    const char *const argv[] = {
        getenv("HEARTHD"), "--foreground", "-c", d.config, "-s", d.socket, NULL};
    struct child_output second;
    cr_assert_eq(child_run(argv, NULL, NULL, 0, &second), 0);
    cr_assert_neq(second.status, 0, "a second daemon took the socket of a living one");
    cr_assert_lt(second.status, CHILD_SIGNALLED);
    child_output_deinit(&second);
    ping();
    daemon_kill(&d);
    cr_assert_eq(daemon_restart(&d), 0);
    cr_assert_eq(daemon_wait_ready(&d, 30000), 0, "%s", daemon_log(&d));
    ping();
}

Test(life, killed_and_started_again_the_socket_never_refuses) {
    struct daemon_options o = {.keep_listening = true};
    cr_assert_eq(daemon_start(&d, &o), 0);
    cr_assert_eq(daemon_wait_ready(&d, 30000), 0);
    daemon_kill(&d);
    struct wire w;
    cr_assert_eq(daemon_connect(&d, &w), 0, "nobody is there, but the socket listens");
    cr_assert_eq(wire_send(&w, "PING", NULL), 0);
    cr_assert_eq(daemon_restart(&d), 0);
    cr_assert_eq(wire_read(&w, WIRE_LIMIT_MS), 0);
    cr_assert_str_eq(wire_show(&w), "+PONG");
    wire_close(&w);
}

Test(life, sigint_ends_it_too_and_a_second_one_at_once) {
    cr_assert_eq(daemon_start(&d, NULL), 0);
    struct wire w;
    cr_assert_eq(daemon_connect(&d, &w), 0);
    cr_assert_eq(daemon_wait_ready(&d, 30000), 0);
    submit_spin(&w);
    kill(d.pid, SIGINT);
    cr_assert_eq(daemon_wait(&d, 200), -ETIMEDOUT, "it lets the task finish (stop_timeout is 5 s)");
    kill(d.pid, SIGINT);
    int r = daemon_wait(&d, 3000);
    cr_assert(r >= 0, "two SIGINT, and it still runs");
    wire_close(&w);
}

Test(life, sigterm_again_and_again_is_an_orderly_end) {
    cr_assert_eq(daemon_start(&d, NULL), 0);
    cr_assert_eq(daemon_wait_ready(&d, 30000), 0);
    int r;
    do {
        kill(d.pid, SIGTERM); /* a child that has not been waited for is still there */
        r = daemon_wait(&d, 0);
    } while (r == -ETIMEDOUT);
    cr_assert_eq(r, 0, "%d", r);
}

Test(life, a_bad_configuration_is_refused_and_said) {
    struct daemon_options o = {.config = "pools = ( { name = \"demo\"; worker = 2; } );\n"};
    cr_assert_eq(daemon_start(&d, &o), 0);
    cr_assert_eq(daemon_wait_ready(&d, 30000), -ECHILD);
    int r = daemon_wait(&d, 10000);
    cr_assert(r > 0 && r < CHILD_SIGNALLED, "exit %d", r);
    cr_assert(strstr(daemon_log(&d), "worker"), "%s", daemon_log(&d));
}

Test(life, stopped_with_clients_and_tasks_it_leaves_nothing) {
    cr_assert_eq(daemon_start(&d, NULL), 0);
    struct wire idle, busy;
    cr_assert_eq(daemon_connect(&d, &idle), 0);
    cr_assert_eq(daemon_connect(&d, &busy), 0);
    for (int i = 0; i < 20; i++) {
        cr_assert_eq(wire_send(&busy, "TASK.SUBMIT", "demo", "sleep", "", "ARG", "60000", NULL), 0);
        cr_assert_eq(
            wire_send(&busy, "TASK.SUBMIT", "shell", "run", "", "ARG", "sleep", "ARG", "60", NULL),
            0);
    }
    for (int i = 0; i < 40; i++) {
        cr_assert_eq(wire_read(&busy, WIRE_LIMIT_MS), 0);
        cr_assert_eq(wire_show(&busy)[0], '"', "%s", wire_show(&busy));
    }
    cr_assert_eq(daemon_stop(&d), 0);
    wire_close(&idle);
    wire_close(&busy);
}
