/* SPDX-License-Identifier: MIT */
/* The segment outlives the daemon: in a file, which a second daemon finds after a SIGKILL or an orderly stop of the first, with
 * the same objects, the same tasks under the same ids, and each end told once. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
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
static struct wire w;
static char dir[TMP_PATH], segment[TMP_PATH + 16], config[4096];

static const char pools[] =
    "pools = ( { name = \"demo\"; module = \"demo.so\"; workers = 2; },\n"
    "          { name = \"shell\"; exec = [ ]; workers = 1; backoff = 0.01; retries = 1; },\n"
    "          { name = \"once\"; exec = [ ]; workers = 1; } );\n";

static void configure(const char *more) {
    snprintf(config, sizeof(config),
             "segment_size = \"32M\";\nstop_timeout = 1;\nsegment_path = \"%s\";\n%s", segment,
             more);
}

static void begin(void) {
    cr_assert_eq(tmp_dir(dir), 0);
    snprintf(segment, sizeof(segment), "%s/segment", dir);
    configure(pools);
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

TestSuite(survive, .timeout = 60, .init = begin, .fini = stop);

static void again(void) {
    wire_close(&w);
    cr_assert_eq(daemon_restart(&d), 0);
    cr_assert_eq(daemon_wait_ready(&d, 30000), 0, "%s", daemon_log(&d));
    cr_assert_eq(daemon_connect(&d, &w), 0);
}

static void killed(void) {
    daemon_kill(&d);
    again();
}

#define SUBMIT(id, ...) submit(id, wire_call(&w, "TASK.SUBMIT", __VA_ARGS__, NULL))
static void submit(char id[80], const char *shown) {
    cr_assert_eq(sscanf(shown, "\"%79[^\"]\"", id), 1, "%s", shown);
}

static const char *state(const char *id) {
    wire_call(&w, "TASK.STATUS", id, NULL);
    return wire_show_at(&w, wire_find(&w, 0, "state"));
}

static void wait_for(const char *id, const char *wanted) {
    uint64_t until = clock_now() + 10 * NS_PER_SEC;
    while (strcmp(state(id), wanted) != 0) {
        cr_assert(clock_now() < until, "%s is %s, not %s: %s", id, state(id), wanted,
                  daemon_log(&d));
    }
}

static void check(void) {
    const char *shown = wire_call(&w, "SEGMENT.CHECK", NULL);
    cr_assert(strstr(shown, "\"errors\" :0"), "%s", shown);
}

/* The slot of a handler's process is buried as a worker's. */
Test(survive, a_handler_in_a_process_of_its_own_ends_with_the_daemon) {
    char id[80];
    wire_call(&w, "PROC.START", "HANDLER", "demo", "sleep", "", "ARG", "60000", NULL);
    const char *at = strstr(wire_show(&w), "\"task\" ");
    cr_assert_not_null(at, "%s", wire_show(&w));
    submit(id, at + strlen("\"task\" "));
    wait_for(id, "\"running\"");
    killed();
    wire_call(&w, "TASK.WAIT", id, NULL);
    cr_assert(strstr(wire_show(&w), "the daemon ended while it ran"), "%s", wire_show(&w));
    cr_assert(strstr(wire_call(&w, "SEGMENT.CHECK", NULL), "\"dead_slots\" :0"));
    check();
}

Test(survive, a_killed_daemons_objects_and_tasks_are_there) {
    char done[80], failed[80], runs[80], queued[80], late[80];
    cr_assert_str_eq(wire_call(&w, "HSET", "h", "a", "1", NULL), ":1");
    cr_assert_str_eq(wire_call(&w, "RPUSH", "l", "x", "y", NULL), ":2");
    SUBMIT(done, "demo", "echo", "kept");
    SUBMIT(failed, "demo", "fail", "");
    SUBMIT(runs, "once", "run", "", "ARG", "sleep", "ARG", "60");
    wait_for(done, "\"done\"");
    wait_for(failed, "\"failed\"");
    wait_for(runs, "\"running\"");
    SUBMIT(queued, "once", "run", "hello", "ARG", "cat");
    SUBMIT(late, "demo", "echo", "later", "DELAY", "1500", "PRIORITY", "200");
    killed();
    cr_assert_str_eq(wire_call(&w, "HGET", "h", "a", NULL), "\"1\"");
    cr_assert_str_eq(wire_call(&w, "LRANGE", "l", "0", "-1", NULL), "[\"x\" \"y\"]");
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", done, NULL), "\"kept\""), "%s", wire_show(&w));
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", failed, NULL), "\"failed\""));
    wire_call(&w, "TASK.WAIT", runs, NULL);
    cr_assert(strstr(wire_show(&w), "\"lost\""), "%s", wire_show(&w));
    cr_assert(strstr(wire_show(&w), "the daemon ended while it ran"), "%s", wire_show(&w));
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", queued, NULL), "\"hello\""), "%s", wire_show(&w));
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", late, NULL), "\"later\""));
    check();
}

/* What its clients held is let go; what they left in queues is there. */
Test(survive, locks_of_a_killed_daemons_clients_are_free) {
    cr_assert_str_eq(wire_call(&w, "LOCK.ACQUIRE", "l", NULL), "+OK");
    cr_assert_str_eq(wire_call(&w, "SEM.CREATE", "s", "2", NULL), ":1");
    cr_assert_str_eq(wire_call(&w, "SEM.ACQUIRE", "s", NULL), "+OK");
    cr_assert_str_eq(wire_call(&w, "QUEUE.CREATE", "q", "LEASE", "-1", NULL), ":1");
    cr_assert_str_eq(wire_call(&w, "QUEUE.PUT", "q", "ITEM", "1", "2", NULL), ":2");
    cr_assert(strstr(wire_call(&w, "QUEUE.GET", "q", NULL), "\"1\""));
    killed();
    cr_assert_str_eq(wire_call(&w, "SEM.VALUE", "s", NULL), ":2");
    cr_assert(strstr(wire_call(&w, "QUEUE.GET", "q", NULL), "\"1\""), "%s", wire_show(&w));
    wire_call(&w, "LOCK.ACQUIRE", "l", "NOWAIT", NULL);
    cr_assert(wire_show(&w)[0] == '+', "%s", wire_show(&w));
    check();
}

Test(survive, a_task_with_a_retry_left_is_tried_again) {
    char id[80], file[TMP_PATH + 16];
    snprintf(file, sizeof(file), "%s/ran", dir);
    SUBMIT(id, "shell", "run", "", "ARG", "sh", "ARG", "-c", "ARG",
           "test -e $0 || { : > $0; exec sleep 60; }; echo again", "ARG", file);
    uint64_t until = clock_now() + 10 * NS_PER_SEC;
    while (access(file, F_OK) < 0) {
        cr_assert(clock_now() < until);
    }
    killed();
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", id, NULL), "\"again\\n\""), "%s", wire_show(&w));
    wire_call(&w, "TASK.STATUS", id, NULL);
    cr_assert_str_eq(wire_show_at(&w, wire_find(&w, 0, "attempt")), ":2");
    check();
}

Test(survive, an_orderly_stop_keeps_what_waits) {
    char runs[80], queued[80];
    SUBMIT(runs, "once", "run", "", "ARG", "sleep", "ARG", "0.2");
    wait_for(runs, "\"running\"");
    SUBMIT(queued, "once", "run", "after", "ARG", "cat");
    kill(d.pid, SIGTERM);
    cr_assert_eq(daemon_wait(&d, 10000), 0);
    again();
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", runs, NULL), "\"done\""), "%s", wire_show(&w));
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", queued, NULL), "\"after\""), "%s", wire_show(&w));
}

Test(survive, policies_go_on) {
    char one[80], two[80], after[80], member[80];
    SUBMIT(one, "shell", "run", "", "ARG", "sleep", "ARG", "60", "LIMIT", "disk", "1", "RETRY",
           "0");
    wait_for(one, "\"running\"");
    SUBMIT(two, "once", "run", "2", "ARG", "cat", "LIMIT", "disk", "1", "UNIQUE", "u", "REJECT",
           "GROUP", "g");
    SUBMIT(after, "demo", "echo", "3", "AFTER", two, "OK", "GROUP", "g");
    SUBMIT(member, "demo", "echo", "4", "OWNED", "DELAY", "60000");
    killed();
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", after, NULL), "\"3\""), "%s", wire_show(&w));
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", two, NULL), "\"2\""), "%s", wire_show(&w));
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", member, NULL), "\"cancelled\""), "%s",
              wire_show(&w));
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", one, NULL), "\"lost\""), "%s", wire_show(&w));
    check();
}

Test(survive, keys_that_are_kept) {
    char done[80], runs[80], again_id[80];
    SUBMIT(done, "demo", "echo", "x", "UNIQUE", "a", "KEEP");
    wait_for(done, "\"done\"");
    SUBMIT(runs, "shell", "run", "", "ARG", "sleep", "ARG", "60", "UNIQUE", "b", "KEEP", "RETRY",
           "0");
    wait_for(runs, "\"running\"");
    for (int i = 0; i < 2; i++) {
        killed();
        SUBMIT(again_id, "demo", "echo", "y", "UNIQUE", "a", "KEEP");
        cr_assert_str_eq(again_id, done);
        cr_assert_str_eq(
            wire_call(&w, "TASK.CALL", "demo", "echo", "y", "UNIQUE", "a", "KEEP", NULL), "\"x\"");
        SUBMIT(again_id, "shell", "run", "", "ARG", "true", "UNIQUE", "b", "KEEP");
        cr_assert_str_eq(again_id, runs);
        wait_for(runs, "\"lost\"");
    }
    check();
}

Test(survive, schedules_go_on) {
    const char *shown;
    char first[80];
    cr_assert_str_eq(wire_call(&w, "SCHEDULE.ADD", "beat", "EVERY", "100", "demo", "echo", "tick",
                               "ARG", "a", "PRIORITY", "7", "LIMIT", "l", "3", NULL),
                     "+OK");
    cr_assert_str_eq(wire_call(&w, "SCHEDULE.ADD", "held", "5 4 * * *", "demo", "echo", "x",
                               "MISFIRE", "ONCE", "OVERLAP", "ALLOW", NULL),
                     "+OK");
    cr_assert_str_eq(wire_call(&w, "SCHEDULE.PAUSE", "held", NULL), "+OK");
    cr_assert_str_eq(wire_call(&w, "SCHEDULE.ADD", "gone", "@daily", "demo", "echo", "x", NULL),
                     "+OK");
    cr_assert_str_eq(wire_call(&w, "SCHEDULE.DEL", "gone", NULL), ":1");
    for (int i = 0; i < 2; i++) {
        uint64_t until = clock_now() + 10 * NS_PER_SEC;
        do {
            cr_assert(clock_now() < until);
            wire_call(&w, "SCHEDULE.INFO", "beat", NULL);
            snprintf(first, sizeof(first), "%s", wire_show_at(&w, wire_find(&w, 0, "last_task")));
        } while (strcmp(wire_show_at(&w, wire_find(&w, 0, "runs")), ":0") == 0);
        killed();
        shown = wire_call(&w, "SCHEDULE.LIST", NULL);
        cr_assert(strstr(shown, "\"beat\"") && strstr(shown, "\"held\"") && !strstr(shown, "gone"),
                  "%s", shown);
        wire_call(&w, "SCHEDULE.INFO", "held", NULL);
        cr_assert_str_eq(wire_show_at(&w, wire_find(&w, 0, "when")), "\"5 4 * * *\"");
        cr_assert_str_eq(wire_show_at(&w, wire_find(&w, 0, "paused")), "\"yes\"");
        cr_assert_str_eq(wire_show_at(&w, wire_find(&w, 0, "misfire")), "\"once\"");
        cr_assert_str_eq(wire_show_at(&w, wire_find(&w, 0, "overlap")), "\"allow\"");
        first[strlen(first) - 1] = 0;
        wire_call(&w, "TASK.STATUS", first + 1, NULL);
        cr_assert_str_eq(wire_show_at(&w, wire_find(&w, 0, "priority")), ":7");
        cr_assert_str_eq(wire_show_at(&w, wire_find(&w, 0, "schedule")), "\"beat\"");
    }
    check();
}

Test(survive, closed_groups_stay_closed) {
    char live[80], done[80], after[80];
    SUBMIT(live, "demo", "echo", "x", "DELAY", "60000", "GROUP", "live", "LAST");
    SUBMIT(done, "demo", "echo", "x", "GROUP", "over");
    wait_for(done, "\"done\"");
    cr_assert_str_eq(wire_call(&w, "GROUP.CLOSE", "over", NULL), "+OK");
    SUBMIT(after, "demo", "echo", "late", "AFTER", "group:live", "ANY");
    SUBMIT(done, "demo", "echo", "x", "GROUP", "open");
    wait_for(done, "\"done\"");
    for (int i = 0; i < 2; i++) {
        killed();
        cr_assert(strstr(wire_call(&w, "TASK.SUBMIT", "demo", "echo", "x", "GROUP", "live", NULL),
                         "CLOSED"));
        cr_assert(strstr(wire_call(&w, "TASK.SUBMIT", "demo", "echo", "x", "GROUP", "over", NULL),
                         "CLOSED"));
        wire_call(&w, "GROUP.WAIT", "over", "TIMEOUT", "5000", NULL);
        cr_assert_str_eq(wire_show_at(&w, wire_find(&w, 0, "complete")), "\"yes\"");
        SUBMIT(done, "demo", "echo", "x", "GROUP", "open");
    }
    cr_assert_str_eq(wire_call(&w, "TASK.CANCEL", live, NULL), ":1");
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", after, NULL), "\"late\""), "%s", wire_show(&w));
    check();
}

Test(survive, a_pool_that_is_gone_ends_its_tasks_and_keeps_its_results) {
    char done[80], runs[80], queued[80];
    SUBMIT(done, "once", "run", "result", "ARG", "cat");
    wait_for(done, "\"done\"");
    SUBMIT(runs, "once", "run", "", "ARG", "sleep", "ARG", "60");
    wait_for(runs, "\"running\"");
    SUBMIT(queued, "once", "run", "", "ARG", "cat");
    daemon_kill(&d);
    configure("pools = ( { name = \"new\"; module = \"demo.so\"; workers = 1; } );\n");
    cr_assert_eq(tmp_write(d.dir, strrchr(d.config, '/') + 1, config, strlen(config)), 0);
    again();
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", done, NULL), "\"result\""), "%s", wire_show(&w));
    wire_call(&w, "TASK.STATUS", done, NULL);
    cr_assert_str_eq(wire_show_at(&w, wire_find(&w, 0, "pool")), "\"once\"");
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", queued, NULL), "not in the configuration"), "%s",
              wire_show(&w));
    cr_assert_str_eq(wire_call(&w, "TASK.CALL", "new", "echo", "hi", NULL), "\"hi\"");
    cr_assert(strstr(wire_call(&w, "TASK.CALL", "once", "run", "", NULL), "NOPOOL"));
    check();
}

Test(survive, another_version_is_set_aside) {
    cr_assert_str_eq(wire_call(&w, "SET", "k", "v", NULL), "+OK");
    daemon_kill(&d);
    int fd = open(segment, O_RDWR | O_CLOEXEC);
    const uint32_t other = 9999;
    cr_assert_eq(pwrite(fd, &other, sizeof(other), 8), (ssize_t)sizeof(other));
    close(fd);
    again();
    cr_assert_str_eq(wire_call(&w, "GET", "k", NULL), "nil");
    cr_assert(strstr(daemon_log(&d), "another version of Hearth"), "%s", daemon_log(&d));
    char pattern[TMP_PATH + 32];
    glob_t found;
    snprintf(pattern, sizeof(pattern), "%s/segment.[0-9]*", dir);
    cr_assert_eq(glob(pattern, 0, NULL, &found), 0, "it is not there any more");
    globfree(&found);
}

/* What a damaged segment has is not thrown away, and the log says what can be done. */
Test(survive, a_damaged_segment_is_left_alone) {
    static const char noise[65536] = {[0 ... 65535] = 0x5a};
    char aside[TMP_PATH + 32];
    wire_close(&w);
    daemon_kill(&d);
    int fd = open(segment, O_RDWR | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    for (off_t at = 4096; at < 1 << 20; at += sizeof(noise)) {
        cr_assert_eq(pwrite(fd, noise, sizeof(noise), at), (ssize_t)sizeof(noise));
    }
    close(fd);
    cr_assert_eq(daemon_restart(&d), 0);
    cr_assert_eq(daemon_wait_ready(&d, 30000), -ECHILD);
    cr_assert_eq(daemon_wait(&d, 10000), 1);
    cr_assert(strstr(daemon_log(&d), "to start without what is in it"), "%s", daemon_log(&d));
    snprintf(aside, sizeof(aside), "%s.aside", segment);
    cr_assert_eq(rename(segment, aside), 0);
    again();
    cr_assert_str_eq(wire_call(&w, "TASK.CALL", "demo", "echo", "x", NULL), "\"x\"");
}

Test(survive, killed_while_it_made_the_segment) {
    daemon_kill(&d);
    int fd = open(segment, O_RDWR | O_CLOEXEC);
    const uint64_t none = 0;
    cr_assert_eq(pwrite(fd, &none, sizeof(none), 0), (ssize_t)sizeof(none));
    close(fd);
    again();
    cr_assert_str_eq(wire_call(&w, "TASK.CALL", "demo", "echo", "hi", NULL), "\"hi\"");
}

Test(survive, two_daemons_never_share_a_segment) {
    char other[TMP_PATH + 16];
    snprintf(other, sizeof(other), "%s/other", dir);
    const char *const argv[] = {getenv("HEARTHD"), "-c", d.config, "-s", other, NULL};
    struct child_output second;
    cr_assert_eq(child_run(argv, NULL, NULL, 0, &second), 0);
    cr_assert_eq(second.status, 1);
    cr_assert(strstr(second.err.data + second.err.head, "another daemon has"), "%s",
              second.err.data + second.err.head);
    child_output_deinit(&second);
    cr_assert_str_eq(wire_call(&w, "PING", NULL), "+PONG");
}

Test(survive, killed_again_and_again) {
    char id[50][80];
    for (int i = 0; i < 50; i++) {
        SUBMIT(id[i], i % 2 ? "once" : "shell", "run", "x", "ARG", "cat", "RETRY", "250");
        if (i % 5 == 4) {
            killed();
        }
    }
    for (int i = 0; i < 50; i++) {
        wire_call(&w, "TASK.WAIT", id[i], NULL);
        cr_assert(strstr(wire_show(&w), "\"done\""), "%d: %s", i, wire_show(&w));
    }
    check();
}
