/* SPDX-License-Identifier: MIT */
/* A worker that writes anywhere into the segment, live: what is in it may be lost, tasks may never end,
 * every command may fail, but the daemon goes on answering and stops when told. It must not trip over
 * an assertion, read beyond the segment, or go round in circles. HEARTH_SCRIBBLES: how many daemons are
 * treated so (20), from the seed HEARTH_SEED (1) on. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/daemon/pool_support.h"
#include "tests/support/child.h"

static struct daemon daemon_;
static struct wire w;

static void end(void) {
    wire_close(&w);
    daemon_kill(&daemon_);
    daemon_stop(&daemon_);
    child_kill_all();
}

TestSuite(scribble, .timeout = 600, .fini = end);

/* Sends a command whatever comes of it; false: no answer in time. */
static bool say(const char *const *words) {
    struct resp_arg a[8];
    size_t n = 0;
    for (; words[n]; n++) {
        a[n] = (struct resp_arg){words[n], strlen(words[n])};
    }
    return wire_send_words(&w, a, n) == 0 && wire_read(&w, within(20000)) == 0;
}

static const char *const commands[][8] = {
    {"SET", "v1", "one"},
    {"HSET", "d1", "f", "v"},
    {"RPUSH", "l1", "a", "b", "c"},
    {"HGETALL", "d1"},
    {"LRANGE", "l1", "0", "-1"},
    {"GET", "v1"},
    {"INCR", "n1"},
    {"DEL", "l1", "v2"},
    {"LINSERT", "l1", "BEFORE", "b", "x"},
    {"KEYS", "*"},
    {"EXPIRE", "v1", "1"},
    {"TASK.SUBMIT", "trouble", "named", ""},
    {"TASK.SUBMIT", "trouble", "named", "", "PRIORITY", "200"},
    {"TASK.SUBMIT", "shell", "run", "", "ARG", "true"},
    {"TASK.SUBMIT", "trouble", "named", "", "DELAY", "5"},
    {"TASK.LIST"},
    {"POOL.LIST"},
    {"POOL.INFO", "trouble"},
    {"WORKER.LIST"},
    {"INFO"},
    {"DEAD.LIST"},
    {"SEGMENT.INFO"},
    {"DBSIZE"},
    {"RANDOMKEY"},
    {"RENAME", "d1", "d2"},
    {"PING"},
};

static void one(unsigned seed) {
    static char config[1024];
    char number[16], big[600];
    snprintf(config, sizeof(config),
             "segment_size = \"8M\"; lock_timeout = 0.2;\n"
             "pools = (\n"
             "  { name = \"trouble\"; workers = 2; module = \"%s\"; kill_grace = 0.1; timeout = "
             "0.5; },\n"
             "  { name = \"shell\"; workers = 1; exec = [ ]; kill_grace = 0.1; timeout = 0.5; }\n"
             ");\n"
             "stop_timeout = 0.1;\n",
             trouble_module());
    struct daemon_options o = {.config = config};
    cr_assert_eq(daemon_start(&daemon_, &o), 0);
    cr_assert_eq(daemon_wait_ready(&daemon_, within(10000)), 0, "%s", daemon_log(&daemon_));
    cr_assert_eq(daemon_connect(&daemon_, &w), 0);
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    say((const char *const[]){"SET", "v2", big, NULL});
    for (unsigned round = 0; round < 4; round++) {
        snprintf(number, sizeof(number), "%u", seed * 16 + round);
        const char *const words[] = {"TASK.SUBMIT", "trouble", "scribble", "x",
                                     "ARG",         number,    "ARG",      "20"};
        struct resp_arg a[8];
        for (size_t i = 0; i < 8; i++) {
            a[i] = (struct resp_arg){words[i], strlen(words[i])};
        }
        cr_assert(wire_send_words(&w, a, 8) == 0 && wire_read(&w, within(20000)) == 0,
                  "seed %u round %u: %s", seed, round, daemon_log(&daemon_));
        for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
            cr_assert(say(commands[i]), "seed %u round %u: no answer to %s\n%s", seed, round,
                      commands[i][0], daemon_log(&daemon_));
        }
    }
    wire_close(&w);
    cr_assert_eq(kill(daemon_.pid, SIGTERM), 0);
    int r = daemon_wait(&daemon_, within(10000));
    cr_assert_eq(r, 0, "seed %u: %d %s", seed, r, daemon_log(&daemon_));
    daemon_stop(&daemon_);
}

static unsigned number_of(const char *name, unsigned usual) {
    const char *text = getenv(name);
    return text ? (unsigned)strtoul(text, NULL, 10) : usual;
}

Test(scribble, the_daemon_lives) {
    unsigned n = number_of("HEARTH_SCRIBBLES", 20), seed = number_of("HEARTH_SEED", 1);
    for (unsigned i = 0; i < n; i++) {
        one(seed + i);
    }
}
