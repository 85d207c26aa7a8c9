/* SPDX-License-Identifier: MIT */
/* The size of pools, live: growing by need, shrinking when idle, the limits of both, and what is said
 * about it. The memory that is left is read from a tree of files the test makes (HEARTH_MEMORY_ROOT).
 * Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/daemon/pool_support.h"
#include "tests/support/child.h"

static struct daemon daemon_;
static struct wire w, other;
static char tree[TMP_PATH];

static void end(void) {
    wire_close(&w);
    wire_close(&other);
    int r = daemon_stop(&daemon_);
    child_kill_all();
    if (tree[0]) {
        cr_assert_eq(tmp_remove(tree), 0);
    }
    cr_assert_eq(r, 0);
}

TestSuite(sizing, .timeout = 60, .fini = end);

/* One pool of the demo module; `keys` are more keys of it. */
static void begin(const char *keys, const char *const *env) {
    static char text[1024];
    struct daemon_options o = {.config = text, .env = env};
    snprintf(text, sizeof(text),
             "pools = ( { name = \"demo\"; module = \"demo.so\"; %s } );\n"
             "stop_timeout = 0.1;\n",
             keys);
    cr_assert_eq(daemon_start(&daemon_, &o), 0);
    cr_assert_eq(daemon_wait_ready(&daemon_, within(10000)), 0, "%s", daemon_log(&daemon_));
    cr_assert_eq(daemon_connect(&daemon_, &w), 0);
    cr_assert_eq(daemon_connect(&daemon_, &other), 0);
}

static long info(const char *field) {
    return strtol(pool_info(&w, "demo", field), NULL, 10);
}

static void expect_reason(const char *decision, const char *words) {
    cr_assert_str_eq(pool_info(&w, "demo", "last_decision"), decision);
    cr_assert(strstr(pool_info(&w, "demo", "last_reason"), words) != NULL, "%s",
              pool_info(&w, "demo", "last_reason"));
}

static int times_logged(const char *words) {
    int n = 0;
    for (const char *at = daemon_log(&daemon_); (at = strstr(at, words)); at++) {
        n++;
    }
    return n;
}

Test(sizing, ondemand_has_no_worker_until_there_is_a_task) {
    begin("sizing = \"ondemand\"; max = 2; idle_timeout = 0.3;", NULL);
    cr_assert_str_eq(pool_info(&w, "demo", "state"), "ready");
    cr_assert_str_eq(pool_info(&w, "demo", "sizing"), "ondemand");
    cr_assert_eq(info("workers"), 0);
    cr_assert_eq(info("spawned"), 0);
    cr_assert_str_eq(wire_call(&w, "TASK.CALL", "demo", "echo", "first", NULL), "\"first\"");
    expect_reason("grow", "no worker");
    cr_assert_eq(info("workers"), 1);
    cr_assert_eq(info("target"), 1);
    cr_assert(pool_becomes(&w, "demo", "workers", "0", within(2000)));
    expect_reason("shrink", "idle for 300 ms");
    cr_assert_eq(info("target"), 0);
    cr_assert_eq(info("deaths"), 0);
    cr_assert_eq(info("recycled"), 0);
    /* and again, for one that comes due by itself */
    char id[ID_MAX];
    cr_assert_eq(sscanf(wire_call(&w, "TASK.SUBMIT", "demo", "echo", "later", "DELAY", "200", NULL),
                        "\"%31[^\"]", id),
                 1);
    cr_assert_str_eq(wait_end(&w, id), "done|later|");
    cr_assert_eq(times_logged("grow, 1 workers wanted"), 2);
    /* a task of a pool that is paused is no reason, until it is not */
    cr_assert(pool_becomes(&w, "demo", "workers", "0", within(2000)));
    cr_assert_str_eq(wire_call(&w, "POOL.PAUSE", "demo", "OUT", NULL), "+OK");
    submit(&w, "demo", "echo", "x", NULL, id);
    cr_assert_str_eq(wire_call(&w, "TASK.WAIT", id, "TIMEOUT", "100", NULL), "nil");
    cr_assert_eq(info("workers"), 0);
    cr_assert_str_eq(wire_call(&w, "POOL.RESUME", "demo", "OUT", NULL), "+OK");
    cr_assert_str_eq(wait_end(&w, id), "done|x|");
}

/* Its workers are old before they have been idle for long enough. */
Test(sizing, an_idle_worker_that_is_old_is_not_replaced) {
    begin("sizing = \"ondemand\"; max = 2; max_age = 0.2; idle_timeout = 20;", NULL);
    cr_assert_str_eq(wire_call(&w, "TASK.CALL", "demo", "echo", "x", NULL), "\"x\"");
    cr_assert(pool_becomes(&w, "demo", "workers", "0", within(3000)));
    expect_reason("shrink", "idle when they were to be replaced");
}

/* More workers could not run them. */
Test(sizing, tasks_that_wait_for_each_other_are_no_reason_to_grow) {
    char id[4][ID_MAX];
    begin("sizing = \"dynamic\"; min = 1; spare = 0; max = 4;", NULL);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(sscanf(wire_call(&w, "TASK.SUBMIT", "demo", "sleep", "", "ARG", "150", "LIMIT",
                                      "key", "1", NULL),
                            "\"%31[^\"]", id[i]),
                     1, "%s", wire_show(&w));
    }
    for (int i = 0; i < 4; i++) {
        cr_assert_str_eq(wait_end(&w, id[i]), "done||");
    }
    cr_assert_eq(info("spawned"), 1);
}

Test(sizing, dynamic_grows_for_spares_and_for_a_queue_and_shrinks_again) {
    char id[5][ID_MAX];
    begin("sizing = \"dynamic\"; min = 1; spare = 2; max = 5; idle_timeout = 0.3;", NULL);
    cr_assert_eq(info("workers"), 2);
    for (int i = 0; i < 5; i++) {
        submit(&w, "demo", "sleep", "1500", NULL, id[i]);
    }
    for (int i = 0; i < 5; i++) {
        wait_running(&w, id[i]); /* all at once */
    }
    cr_assert_eq(info("workers"), 5);
    cr_assert_eq(info("busy"), 5);
    for (int i = 0; i < 5; i++) {
        cr_assert_str_eq(wait_end(&w, id[i]), "done||");
    }
    cr_assert(pool_becomes(&w, "demo", "workers", "2", within(5000)));
    expect_reason("shrink", "idle");
    cr_assert_eq(info("deaths"), 0);
    cr_assert(times_logged("spare: ") > 0);
    /* at its size and idle it costs nothing */
    long before = loop_turns(&w);
    submit(&w, "demo", "sleep", "400", NULL, id[0]);
    cr_assert_str_eq(wait_end(&w, id[0]), "done||");
    long turns = loop_turns(&w) - before;
    cr_assert(turns < 60, "%ld turns", turns);
}

Test(sizing, a_queue_that_waits_grows_the_pool_up_to_max) {
    char id[6][ID_MAX];
    begin("sizing = \"dynamic\"; min = 1; spare = 0; max = 3;", NULL);
    cr_assert_eq(info("workers"), 1);
    for (int i = 0; i < 6; i++) {
        submit(&w, "demo", "sleep", "700", NULL, id[i]);
    }
    cr_assert(pool_becomes(&w, "demo", "busy", "3", within(2000)));
    expect_reason("grow", "queue: the oldest of");
    cr_assert_eq(info("workers"), 3);
    for (int i = 0; i < 6; i++) {
        cr_assert_str_eq(wait_end(&w, id[i]), "done||");
    }
    cr_assert_eq(info("spawned"), 3);
}

Test(sizing, it_grows_no_faster_than_it_may) {
    char id[5][ID_MAX];
    begin("sizing = \"dynamic\"; min = 1; spare = 0; max = 5; spawn_rate = 2;", NULL);
    double at = now_ms();
    for (int i = 0; i < 5; i++) {
        submit(&w, "demo", "sleep", "30000", NULL, id[i]);
    }
    cr_assert(pool_becomes(&w, "demo", "busy", "5", within(4000)));
    double took = now_ms() - at; /* two at once, then one each half a second */
    cr_assert(took > 700, "%.0f ms", took);
    for (int i = 0; i < 5; i++) {
        wire_call(&w, "TASK.CANCEL", id[i], NULL);
    }
}

/* Workers leave all the time while tasks arrive: none is lost, none waits for nobody. */
Test(sizing, leaving_workers_take_no_task_with_them) {
    char id[ID_MAX];
    begin("sizing = \"ondemand\"; max = 3; spawn_rate = 500; idle_timeout = 0.01;", NULL);
    for (int i = 0; i < 150; i++) {
        char ms[8];
        snprintf(ms, sizeof(ms), "%d", 8 + i % 16);
        double at = now_ms();
        wire_call(&other, "TASK.CALL", "demo", "sleep", "", "ARG", ms, NULL); /* the pause */
        submit(&w, "demo", "echo", "x", NULL, id);
        cr_assert_str_eq(wait_end(&w, id), "done|x|");
        cr_assert(now_ms() - at < within(2000), "%.0f ms", now_ms() - at);
        if (i % 3 == 0) {
            cr_assert(pool_becomes(&w, "demo", "workers", "0", within(2000)));
        }
    }
    cr_assert_eq(info("deaths"), 0);
}

/* Workers come, go, and are killed at random: each task has one end, and the pool finds its size. */
Test(sizing, a_pool_that_changes_its_size_survives_kills) {
    enum { TASKS = 900, EACH = 15 };
    static char id[TASKS][ID_MAX];
    unsigned seed = 3;
    int done = 0, lost = 0, killed = 0;
    begin("sizing = \"dynamic\"; min = 1; spare = 1; max = 6; spawn_rate = 500; "
          "idle_timeout = 0.02; max_tasks = 40; max_age = 0.2; max_age_jitter = 0.2;",
          NULL);
    for (int i = 0; i < TASKS; i++) {
        char ms[8];
        bool victim = i % EACH == EACH - 1;
        snprintf(ms, sizeof(ms), "%d", victim ? 30000 : rand_r(&seed) % 10);
        submit(&w, "demo", victim || i % 2 ? "sleep" : "echo", ms, NULL, id[i]);
        if (victim) {
            cr_assert_eq(kill(wait_running(&w, id[i]), SIGKILL), 0);
            killed++;
        }
        if (i % (2 * EACH) == 0) { /* a pause, in which some leave */
            wire_call(&w, "TASK.WAIT", id[i], NULL);
            wire_call(&w, "TASK.CALL", "demo", "sleep", "", "ARG", "40", NULL);
        }
    }
    for (int i = 0; i < TASKS; i++) {
        const char *how = wait_end(&w, id[i]);
        done += strncmp(how, "done|", 5) == 0;
        lost += strcmp(how, "lost|nil|signal 9 (SIGKILL)") == 0;
    }
    cr_assert_eq(done + lost, TASKS);
    cr_assert_eq(lost, killed);
    cr_assert_eq(info("deaths"), killed);
    cr_assert(pool_becomes(&w, "demo", "target", "1", within(5000)));
    cr_assert_str_eq(pool_info(&w, "demo", "queued"), "0");
    wire_call(&w, "SEGMENT.CHECK", NULL);
    cr_assert_eq(w.doc.v[wire_find(&w, 0, "errors")].integer, 0, "%s", wire_show(&w));
}

/* A handler that always crashes costs one worker a task, and nobody else his answers. */
Test(sizing, a_storm_of_crashes_delays_nobody) {
    enum { CRASHES = 300 };
    static char id[CRASHES][ID_MAX];
    double worst = 0;
    begin("workers = 2;", NULL);
    for (int i = 0; i < CRASHES; i++) {
        submit(&w, "demo", "crash", "KILL", NULL, id[i]);
    }
    for (int i = 0; i < CRASHES; i++) {
        double at = now_ms();
        cr_assert_str_eq(wire_call(&other, "PING", NULL), "+PONG");
        worst = now_ms() - at > worst ? now_ms() - at : worst;
        cr_assert_str_eq(wait_end(&w, id[i]), "lost|nil|signal 9 (SIGKILL)");
    }
    cr_assert(worst < within(200), "an answer took %.0f ms", worst);
    cr_assert_eq(info("deaths"), CRASHES);
    cr_assert_str_eq(pool_info(&w, "demo", "state"), "ready");
}

static void put(const char *name, const char *text) {
    char path[TMP_PATH + 64];
    snprintf(path, sizeof(path), "%s/%s", tree, name);
    for (char *slash = path + strlen(tree) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *f = fopen(path, "w");
    cr_assert(f != NULL);
    fputs(text, f);
    cr_assert_eq(fclose(f), 0);
}

static const char *const *memory_tree(void) {
    static char root[TMP_PATH + 32];
    static const char *env[2];
    cr_assert_eq(tmp_dir(tree), 0);
    snprintf(root, sizeof(root), "HEARTH_MEMORY_ROOT=%s", tree);
    env[0] = root;
    put("proc/self/cgroup", "3:memory:/old\n0::/outer/inner\n");
    put("proc/meminfo", "MemTotal:       16000000 kB\nMemAvailable:    8000000 kB\n");
    put("sys/fs/cgroup/outer/inner/memory.max", "max\n");
    put("sys/fs/cgroup/outer/inner/memory.current", "1000\n");
    put("sys/fs/cgroup/outer/memory.max", "104857600\n");
    put("sys/fs/cgroup/outer/memory.current", "104800000\n");
    return env;
}

Test(sizing, it_does_not_grow_past_the_memory_there_is) {
    char id[2][ID_MAX];
    begin("sizing = \"dynamic\"; min = 1; spare = 0; max = 4;", memory_tree());
    submit(&w, "demo", "sleep", "60000", NULL, id[0]);
    submit(&w, "demo", "sleep", "60000", NULL, id[1]);
    cr_assert(pool_becomes(&w, "demo", "last_decision", "refused", within(2000)));
    expect_reason("refused", "limit of its cgroup");
    cr_assert_eq(info("workers"), 1);
    wire_call(&w, "TASK.WAIT", id[1], "TIMEOUT", "1200",
              NULL); /* it looks again, and says no more */
    cr_assert_eq(times_logged("refused, 1 workers wanted"), 1);
    cr_assert_eq(info("workers"), 1);
    /* cache that is not in use does not count */
    put("sys/fs/cgroup/outer/memory.stat", "anon 100\ninactive_file 90000000\nslab 1\n");
    cr_assert(pool_becomes(&w, "demo", "busy", "2", within(3000)));
    expect_reason("grow", "queue:");
    /* pressure is a reason by itself */
    put("sys/fs/cgroup/outer/inner/memory.pressure",
        "some avg10=55.10 avg60=20.00 avg300=1.00 total=1\nfull avg10=0.00 total=0\n");
    submit(&w, "demo", "sleep", "60000", NULL, id[1]);
    cr_assert(pool_becomes(&w, "demo", "last_decision", "refused", within(2000)));
    expect_reason("refused", "memory pressure");
    cr_assert_eq(kill(wait_running(&w, id[0]), SIGKILL), 0); /* a replacement is not asked */
    cr_assert(pool_becomes(&w, "demo", "busy", "2", within(3000)));
    put("sys/fs/cgroup/outer/inner/memory.pressure", "some avg10=0.00 avg60=20.00 total=1\n");
    submit(&w, "demo", "sleep", "60000", NULL, id[0]);
    cr_assert(pool_becomes(&w, "demo", "busy", "3", within(3000)));
}
