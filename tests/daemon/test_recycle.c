/* SPDX-License-Identifier: MIT */
/* Workers that are replaced while they live, with the real daemon: when, why, and that nobody has to
 * wait for it. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/daemon/pool_support.h"
#include "tests/support/child.h"

static struct daemon daemon_;
static struct wire w;

static void end(void) {
    wire_close(&w);
    int r = daemon_stop(&daemon_);
    child_kill_all();
    cr_assert_eq(r, 0);
}

TestSuite(recycle, .timeout = 60, .fini = end);

static void begin(const char *keys) {
    static char text[1024];
    struct daemon_options o = {.config = text};
    snprintf(text, sizeof(text),
             "pools = ( { name = \"trouble\"; module = \"%s\"; %s } );\nstop_timeout = 0.2;\n",
             trouble_module(), keys);
    cr_assert_eq(daemon_start(&daemon_, &o), 0);
    cr_assert_eq(daemon_wait_ready(&daemon_, within(10000)), 0, "%s", daemon_log(&daemon_));
    cr_assert_eq(daemon_connect(&daemon_, &w), 0);
}

static long info(const char *field) {
    return strtol(pool_info(&w, "trouble", field), NULL, 10);
}

static pid_t call(const char *handler, const char *arg) {
    wire_call(&w, "TASK.CALL", "trouble", handler, "", "ARG", arg, NULL);
    cr_assert_eq(w.doc.v[0].type, RESP_BULK, "TASK.CALL: %s", wire_show(&w));
    return (pid_t)strtol(w.doc.v[0].data, NULL, 10);
}

static bool logged(const char *words) {
    return strstr(daemon_log(&daemon_), words) != NULL;
}

Test(recycle, max_tasks_has_jitter) {
    int served = 1, workers = 0, least = 100, most = 0;
    begin("workers = 1; max_tasks = 3; max_tasks_jitter = 6;");
    for (pid_t before = call("named", ""); workers < 12; served++) {
        pid_t pid = call("named", "");
        if (pid != before) {
            least = served < least ? served : least;
            most = served > most ? served : most;
            served = 0;
            workers++;
        }
        before = pid;
    }
    cr_assert(least >= 3 && most <= 3 + 6, "%d to %d", least, most);
    cr_assert(least < most, "all of them %d", most);
    cr_assert_eq(info("deaths"), 0);
}

/* A worker takes a second to be warm here; a task never waits for that. */
Test(recycle, max_age_replaces_a_worker_by_a_warm_one) {
    begin("workers = 1; max_age = 0.3; max_age_jitter = 0.1; args = [ \"slow\" ];");
    double worst = 0;
    while (info("recycled") < 2) {
        double at = now_ms();
        call("named", "");
        worst = now_ms() - at > worst ? now_ms() - at : worst;
    }
    cr_assert(worst < 900, "a task took %.0f ms", worst);
    cr_assert_eq(info("deaths"), 0);
    cr_assert(logged("has left: its max_age has come"), "%s", daemon_log(&daemon_));
}

Test(recycle, a_worker_that_has_grown_is_replaced) {
    begin("workers = 1; max_growth = \"16M\";");
    pid_t first = call("grow", "4000000");
    call("grow", "4000000");
    cr_assert_eq(info("spawned"), 1);
    call("grow", "20000000");
    double until = now_ms() + within(3000);
    while (call("named", "") == first) {
        cr_assert(now_ms() < until, "not replaced");
    }
    cr_assert(pool_becomes(&w, "trouble", "recycled", "1", within(2000)));
    cr_assert_eq(info("deaths"), 0);
    cr_assert(logged("has left: its memory has grown"), "%s", daemon_log(&daemon_));
}

Test(recycle, a_handler_can_ask_for_its_worker_s_end) {
    begin("workers = 2;");
    for (int i = 0; i < 5; i++) {
        pid_t pid = call("last", "");
        for (int k = 0; k < 5; k++) {
            cr_assert_neq(call("named", ""), pid);
        }
    }
    cr_assert(pool_becomes(&w, "trouble", "recycled", "5", within(2000)));
    cr_assert_eq(info("deaths"), 0);
    cr_assert(logged("has left: its handler wants it"), "%s", daemon_log(&daemon_));
}

Test(recycle, all_of_a_pool_can_be_replaced_without_a_gap) {
    pid_t before[4], after[4];
    begin("workers = 4; args = [ \"slow\" ];");
    cr_assert_eq(children_of(daemon_.pid, "hearth:trouble", before, 4), 4);
    cr_assert_str_eq(wire_call(&w, "POOL.RECYCLE", "trouble", NULL), "+OK");
    while (info("recycled") < 4) {
        double at = now_ms();
        call("named", "");
        cr_assert(now_ms() - at < 900, "%.0f ms", now_ms() - at);
    }
    cr_assert_eq(children_of(daemon_.pid, "hearth:trouble", after, 4), 4);
    for (int i = 0; i < 16; i++) {
        cr_assert_neq(before[i / 4], after[i % 4]);
    }
    cr_assert_eq(info("deaths"), 0);
}

Test(recycle, a_pool_can_be_made_larger_and_smaller) {
    char id[3][ID_MAX];
    begin("workers = 1; kill_grace = 0.1;");
    cr_assert_str_eq(wire_call(&w, "POOL.RESIZE", "trouble", "6", NULL), "+OK");
    cr_assert(pool_becomes(&w, "trouble", "workers", "6", within(2000)));
    cr_assert_eq(info("target"), 6);
    for (int i = 0; i < 3; i++) {
        submit(&w, "trouble", "deaf", NULL, NULL, id[i]);
        wait_running(&w, id[i]);
    }
    cr_assert_str_eq(wire_call(&w, "POOL.RESIZE", "trouble", "2", NULL), "+OK");
    cr_assert(pool_becomes(&w, "trouble", "workers", "3", within(2000))); /* the busy ones */
    cr_assert_eq(info("busy"), 3);
    for (int i = 0; i < 3; i++) {
        wire_call(&w, "TASK.CANCEL", id[i], NULL);
        wait_end(&w, id[i]);
    }
    cr_assert(pool_becomes(&w, "trouble", "workers", "2", within(2000)));
    call("named", "");
    cr_assert_eq(info("recycled"), 0);
    cr_assert(logged("asked for: 2 to 2 workers"));
    cr_assert_str_eq(wire_call(&w, "POOL.RESIZE", "trouble", "0", NULL),
                     "-ERR pool 'trouble' stays as it is: 0 is out of range: 1 to 500");
    cr_assert_eq(strncmp(wire_call(&w, "POOL.RESIZE", "trouble", "500", NULL),
                         "-ERR pool 'trouble' stays as it is: the segment", 41),
                 0);
}

/* A pool sized by need that cannot start: it says so, waits longer each time, and recovers by itself. */
Test(recycle, an_ondemand_pool_that_cannot_start_recovers) {
    char dir[TMP_PATH], sign[TMP_PATH + 16], keys[TMP_PATH + 128], id[ID_MAX];
    cr_assert_eq(tmp_dir(dir), 0);
    snprintf(sign, sizeof(sign), "%s/fail", dir);
    snprintf(keys, sizeof(keys), "sizing = \"ondemand\"; max = 3; args = [ \"%s\" ];", sign);
    cr_assert_eq(tmp_write(dir, "fail", "", 0), 0);
    begin(keys);
    cr_assert_str_eq(pool_info(&w, "trouble", "state"), "ready");
    submit(&w, "trouble", "named", NULL, NULL, id);
    cr_assert(pool_becomes(&w, "trouble", "state", "failing", within(2000)));
    cr_assert(strstr(pool_info(&w, "trouble", "last_error"), "exit status 7") != NULL);
    cr_assert_str_eq(wire_call(&w, "TASK.WAIT", id, "TIMEOUT", "700", NULL), "nil");
    long tries = info("spawn_failures"); /* after 0, 100, 300, 700 ms */
    cr_assert(tries >= 2 && tries <= 5, "%ld", tries);
    cr_assert_str_eq(pool_info(&w, "trouble", "state"), "failing");
    cr_assert_eq(remove(sign), 0);
    cr_assert_eq(tmp_remove(dir), 0);
    cr_assert_eq(strncmp(wait_end(&w, id), "done|", 5), 0);
    cr_assert(pool_becomes(&w, "trouble", "state", "ready", within(2000)));
}
