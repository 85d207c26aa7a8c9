/* SPDX-License-Identifier: MIT */
/* Shared objects from both sides: handlers in workers change them in memory, clients see them over the socket. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/daemon/pool_support.h"
#include "tests/support/child.h"
#include "tests/support/daemon.h"

static struct daemon d;
static struct wire w;

static void begin(void) {
    char config[1024];
    snprintf(config, sizeof(config),
             "pools = (\n"
             "  { name = \"text\"; workers = 2; module = \"text.so\"; },\n"
             "  { name = \"shared\"; workers = 2; module = \"%s/tests/daemon/mod_shared.so\"; }\n"
             ");\n"
             "segment_size = \"256M\";\n",
             getenv("HEARTH_BUILD"));
    struct daemon_options options = {.config = config};
    cr_assert_eq(daemon_start(&d, &options), 0);
    cr_assert_eq(daemon_wait_ready(&d, within(20000)), 0, "%s", daemon_log(&d));
    cr_assert_eq(daemon_connect(&d, &w), 0);
}

static void end(void) {
    wire_close(&w);
    cr_expect_eq(daemon_stop(&d), 0);
    child_kill_all();
}

TestSuite(shared, .init = begin, .fini = end, .timeout = 100);

Test(shared, every_function_of_the_table) {
    for (int i = 0; i < 20; i++) {
        cr_assert_str_eq(wire_call(&w, "TASK.CALL", "shared", "check", "", NULL), "\"well\"");
    }
}
