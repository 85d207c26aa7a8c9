/* SPDX-License-Identifier: MIT */
/* The daemon's end, live: SIGTERM and SIGINT with tasks running and queued, SIGKILL, and what it
 * tells a service manager. daemon_stop() in .fini sees that nothing is left behind. Fails: as a
 * Criterion suite. */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/daemon/pool_support.h"
#include "tests/support/child.h"

static struct daemon daemon_;
static struct wire w, other;

static void end(void) {
    wire_close(&w);
    wire_close(&other);
    int r = daemon_stop(&daemon_);
    child_kill_all();
    cr_assert_eq(r, 0);
}

TestSuite(pool_end, .timeout = 60, .fini = end);

static void begin(const char *stop_timeout, const char *const *env) {
    static char config[2048];
    snprintf(config, sizeof(config),
             "pools = (\n"
             "  { name = \"demo\"; workers = 1; module = \"demo.so\"; },\n"
             "  { name = \"trouble\"; workers = 1; module = \"%s\"; },\n"
             "  { name = \"shell\"; workers = 1; exec = [ ]; }\n"
             ");\n"
             "stop_timeout = %s;\n",
             trouble_module(), stop_timeout);
    struct daemon_options o = {.config = config, .env = env};
    cr_assert_eq(daemon_start(&daemon_, &o), 0);
    cr_assert_eq(daemon_connect(&daemon_, &w), 0);
    cr_assert_eq(daemon_connect(&daemon_, &other), 0);
}

/* Sends TASK.CALL, whose reply is read later. */
static void call(struct wire *c, const char *pool, const char *handler, const char *arg) {
    cr_assert_eq(wire_send(c, "TASK.CALL", pool, handler, "", "ARG", arg, NULL), 0);
}

Test(pool_end, SIGTERM_lets_running_tasks_finish_and_ends_queued_ones) {
    char id[ID_MAX], line[128];
    begin("10", NULL);
    submit(&w, "demo", "sleep", "500", NULL, id);
    wait_running(&w, id);
    call(&other, "demo", "sleep", "10"); /* queued behind it */
    cr_assert(pool_becomes(&w, "demo", "queued", "1", within(2000)));
    cr_assert_eq(wire_send(&w, "TASK.WAIT", id, NULL), 0);
    double at = now_ms();
    cr_assert_eq(kill(daemon_.pid, SIGTERM), 0);
    cr_assert_eq(wire_read(&other, WIRE_LIMIT_MS), 0);
    cr_assert_str_eq(wire_show(&other), "-LOST daemon stopping");
    cr_assert(now_ms() - at < 400, "the queued one hears at once");
    /* new tasks are refused meanwhile */
    wire_call(&other, "TASK.SUBMIT", "demo", "echo", "x", NULL);
    cr_assert_eq(strncmp(wire_show(&other), "-ERR", 4), 0, "%s", wire_show(&other));
    cr_assert_eq(wire_read(&w, WIRE_LIMIT_MS), 0);
    snprintf(line, sizeof(line), "[\"%s\" \"done\" \"\" \"\"]", id);
    cr_assert_str_eq(wire_show(&w), line);
    cr_assert_eq(daemon_wait(&daemon_, within(3000)), 0);
}

Test(pool_end, SIGINT_kills_what_does_not_end_in_time) {
    begin("0.3", NULL);
    call(&w, "trouble", "deaf", "");
    cr_assert_eq(wire_send(&other, "TASK.CALL", "shell", "run", "", "ARG", "sh", "ARG", "-c", "ARG",
                           "sleep 1000 & trap '' TERM; sleep 1000; wait", NULL),
                 0);
    cr_assert_eq(daemon_wait_ready(&daemon_, within(10000)), 0);
    struct wire third = {0};
    cr_assert_eq(daemon_connect(&daemon_, &third), 0);
    cr_assert(pool_becomes(&third, "trouble", "running", "1", within(3000)));
    cr_assert(pool_becomes(&third, "shell", "running", "1", within(3000)));
    wire_close(&third);
    double at = now_ms();
    cr_assert_eq(kill(daemon_.pid, SIGINT), 0);
    cr_assert_eq(wire_read(&w, WIRE_LIMIT_MS), 0);
    cr_assert_str_eq(wire_show(&w), "-LOST daemon stopping");
    cr_assert_eq(wire_read(&other, WIRE_LIMIT_MS), 0);
    cr_assert_str_eq(wire_show(&other), "-LOST daemon stopping");
    cr_assert_eq(daemon_wait(&daemon_, within(3000)), 0);
    double took = now_ms() - at;
    cr_assert(took >= 290 && took < 300 + within(500), "after %.1f ms", took);
}

Test(pool_end, a_second_SIGINT_ends_it_at_once) {
    begin("60", NULL);
    call(&w, "trouble", "deaf", "");
    cr_assert_eq(daemon_wait_ready(&daemon_, within(10000)), 0);
    cr_assert(pool_becomes(&other, "trouble", "running", "1", within(3000)));
    cr_assert_eq(kill(daemon_.pid, SIGINT), 0);
    cr_assert_eq(daemon_wait(&daemon_, 200), -ETIMEDOUT, "it waits for the running task");
    double at = now_ms();
    cr_assert_eq(kill(daemon_.pid, SIGINT), 0);
    cr_assert_eq(daemon_wait(&daemon_, within(2000)), 1);
    cr_assert(now_ms() - at < within(300));
}

Test(pool_end, nothing_outlives_a_killed_daemon) {
    pid_t all[16];
    begin("5", NULL);
    cr_assert_eq(daemon_wait_ready(&daemon_, within(10000)), 0);
    call(&w, "trouble", "deaf", "");
    cr_assert_eq(
        wire_send(&other, "TASK.CALL", "shell", "run", "", "ARG", "sleep", "ARG", "1000", NULL), 0);
    struct wire third = {0};
    cr_assert_eq(daemon_connect(&daemon_, &third), 0);
    cr_assert(pool_becomes(&third, "trouble", "running", "1", within(3000)));
    cr_assert(pool_becomes(&third, "shell", "running", "1", within(3000)));
    wire_close(&third);
    int n = children_of(daemon_.pid, "hearth", all, 16);
    cr_assert_eq(n, 6, "three zygotes and three workers: %d", n);
    daemon_kill(&daemon_);
    /* that they are gone is seen by daemon_stop(), to which the orphans come */
}

/* Reads notifications until one contains `text`. */
static bool notified(const char *text, int ms) {
    char got[4096];
    double until = now_ms() + ms;
    while (now_ms() < until) {
        struct pollfd p = {.fd = daemon_.notify_fd, .events = POLLIN};
        if (poll(&p, 1, (int)(until - now_ms()) + 1) != 1) {
            continue;
        }
        ssize_t n = recv(daemon_.notify_fd, got, sizeof(got) - 1, MSG_DONTWAIT);
        if (n < 0) {
            continue;
        }
        got[n] = '\0';
        if (strstr(got, text)) {
            return true;
        }
    }
    return false;
}

Test(pool_end, the_service_manager_is_told) {
    static const char *const env[] = {"WATCHDOG_USEC=400000", NULL};
    begin("5", env);
    /* The figures come with the news, not a second after it. */
    cr_assert(notified("STATUS=3 pools, 3 workers, 0 queued, 0 running", within(10000)));
    cr_assert(notified("READY=1", within(500)));
    cr_assert(notified("WATCHDOG=1", within(1000)));
    cr_assert(notified("WATCHDOG=1", within(1000)));
    cr_assert_eq(wire_send(&w, "TASK.SUBMIT", "demo", "sleep", "", "ARG", "2000", NULL), 0);
    cr_assert(notified("STATUS=3 pools, 3 workers, 0 queued, 1 running", within(3000)));
    cr_assert_eq(kill(daemon_.pid, SIGTERM), 0);
    cr_assert(notified("STOPPING=1", within(1000)));
    cr_assert_eq(daemon_wait(&daemon_, within(6000)), 0);
}
