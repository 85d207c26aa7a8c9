/* SPDX-License-Identifier: MIT */
/* What a task may take, live: soft limits, memory, output; what is slow; and that nothing a worker
 * does keeps it from being stopped. Fails: as a Criterion suite. */
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
             "  { name = \"trouble\"; workers = 2; module = \"%s\"; kill_grace = 0.2; },\n"
             "  { name = \"shell\"; workers = 2; exec = [ ]; kill_grace = 0.2; }\n"
             ");\n"
             "stop_timeout = 0.2;\n",
             trouble_module());
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

TestSuite(limits, .timeout = 60, .init = begin, .fini = end);

/* ---- a handler that writes where it must not ---- */

static void wild(const char *state, bool forever, char ret_id[ID_MAX]) {
    cr_assert_eq(wire_send(&w, "TASK.SUBMIT", "trouble", "wild", "", "ARG", state,
                           forever ? "ARG" : NULL, "forever", NULL),
                 0);
    cr_assert_eq(wire_read(&w, WIRE_LIMIT_MS), 0);
    snprintf(ret_id, ID_MAX, "%.*s", (int)w.doc.v[0].len, w.doc.v[0].data);
}

Test(limits, a_handler_that_frees_its_own_record) {
    char id[ID_MAX], other[ID_MAX];
    wild("0", false, id);
    cr_assert_str_eq(wait_end(&w, id), "lost|nil|record damaged");
    /* the record is taken by another task while somebody waits for the first */
    struct wire second = {0};
    cr_assert_eq(daemon_connect(&daemon_, &second), 0);
    cr_assert_eq(
        wire_send(&second, "TASK.CALL", "trouble", "wild", "", "ARG", "0", "ARG", "forever", NULL),
        0);
    cr_assert(pool_becomes(&w, "trouble", "running", "1", within(3000)));
    double until = now_ms() + within(5000);
    do {
        cr_assert(now_ms() < until);
        submit(&w, "trouble", "named", NULL, NULL, other);
        const char *got = wait_end(&w, other);
        cr_assert_eq(strncmp(got, "done|", 5), 0, "%s\n%s", got, daemon_log(&daemon_));
    } while (wire_read(&second, 0) != 0);
    cr_assert_str_eq(wire_show(&second), "-LOST record damaged");
    wire_close(&second);
    cr_assert(strstr(daemon_log(&daemon_), "does not make sense"));
    cr_assert(pool_becomes(&w, "trouble", "deaths", "1", within(3000)));
    cr_assert(pool_becomes(&w, "trouble", "workers", "2", within(3000)));
    cr_assert_str_eq(pool_info(&w, "trouble", "lost"), "2");
}

Test(limits, a_handler_that_puts_its_record_into_another_state) {
    static const char *const states[] = {"1", "2", "3", "4", "11", "15", "18446744073709551615"};
    char id[ID_MAX];
    for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++) {
        wild(states[i], true, id);
        double until = now_ms() + within(3000);
        do { /* at each limit the daemon looks at all of them */
            submit(&w, "trouble", "deaf", NULL, "20", id);
            wait_end(&w, id);
            cr_assert(now_ms() < until, "state %s", states[i]);
        } while (strcmp(pool_info(&w, "trouble", "running"), "0") != 0);
    }
    cr_assert_str_eq(wire_call(&w, "PING", NULL), "+PONG");
}
