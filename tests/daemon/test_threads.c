/* SPDX-License-Identifier: MIT */
/* Workers that run several tasks at once, with the real daemon: that they do, what a death costs, and
 * that each task has one end whoever is killed. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

TestSuite(threads, .timeout = 60, .fini = end);

static struct daemon_options options(const char *pool, const char *module, const char *keys) {
    static char text[1024];
    snprintf(text, sizeof(text),
             "pools = ( { name = \"%s\"; module = \"%s\"; %s } );\nstop_timeout = 0.2;\n", pool,
             module, keys);
    return (struct daemon_options){.config = text};
}

static void begin_with(const char *module, const char *keys) {
    struct daemon_options o = options("demo", module, keys);
    cr_assert_eq(daemon_start(&daemon_, &o), 0);
    cr_assert_eq(daemon_wait_ready(&daemon_, within(10000)), 0, "%s", daemon_log(&daemon_));
    cr_assert_eq(daemon_connect(&daemon_, &w), 0);
    cr_assert_eq(daemon_connect(&daemon_, &other), 0);
}

static void begin(const char *keys) {
    begin_with("demo.so", keys);
}

static long info(const char *field) {
    return strtol(pool_info(&w, "demo", field), NULL, 10);
}

static void check_is_clean(void) {
    wire_call(&w, "SEGMENT.CHECK", NULL);
    cr_assert_eq(w.doc.v[wire_find(&w, 0, "errors")].integer, 0, "%s", wire_show(&w));
}

Test(threads, a_worker_runs_as_many_tasks_at_once) {
    char id[8][ID_MAX];
    pid_t pid = 0, children[2];
    begin("workers = 1; threads = 8;");
    cr_assert_eq(info("workers"), 1);
    cr_assert_eq(children_of(daemon_.pid, "hearth:demo", children, 2), 1);
    for (int i = 0; i < 8; i++) {
        submit(&w, "demo", "sleep", "1000", NULL, id[i]);
    }
    for (int i = 0; i < 8; i++) {
        pid_t of = wait_running(&w, id[i]);
        cr_assert(pid == 0 || of == pid);
        pid = of;
    }
    cr_assert_eq(info("busy"), 8);
    cr_assert_eq(pid, children[0]);
    for (int i = 0; i < 8; i++) {
        cr_assert_str_eq(wait_end(&w, id[i]), "done||");
    }
    wire_call(&w, "WORKER.LIST", NULL);
    cr_assert_eq(w.doc.v[0].count, 8);
    check_is_clean();
}

Test(threads, a_time_limit_costs_the_worker_and_all_its_tasks) {
    char late[ID_MAX], lost[ID_MAX], again[ID_MAX];
    begin("workers = 1; threads = 3; kill_grace = 0.1;");
    submit(&w, "demo", "sleep", "60000", NULL, lost);
    cr_assert_eq(sscanf(wire_call(&w, "TASK.SUBMIT", "demo", "sleep", "", "ARG", "300", "RETRY",
                                  "1", "BACKOFF", "1", NULL),
                        "\"%31[^\"]", again),
                 1, "%s", wire_show(&w));
    wait_running(&w, lost);
    wait_running(&w, again);
    submit(&w, "demo", "spin", "60000", "100", late);
    cr_assert_eq(strncmp(wait_end(&w, late), "timeout|", 8), 0);
    cr_assert_str_eq(wait_end(&w, lost), "lost|nil|signal 9 (SIGKILL)");
    cr_assert_str_eq(wait_end(&w, again), "done||");
    cr_assert_eq(info("deaths"), 1);
    check_is_clean();
}

Test(threads, max_tasks_replaces_the_whole_worker) {
    begin("workers = 2; threads = 4; max_tasks = 20;");
    char id[200][ID_MAX];
    for (int i = 0; i < 200; i++) {
        submit(&w, "demo", "sleep", "2", NULL, id[i]);
    }
    for (int i = 0; i < 200; i++) {
        cr_assert_str_eq(wait_end(&w, id[i]), "done||");
    }
    cr_assert_eq(info("deaths"), 0);
    /* each ran 20, and at most those that its other threads had in hand */
    long recycled = info("recycled"), spawned = info("spawned");
    cr_assert(recycled >= 200 / 23 - 2 && spawned <= 200 / 20 + 4, "%ld %ld", recycled, spawned);
    /* one that is about to have run 20 has its replacement beside it */
    cr_assert(info("workers") >= 2 && info("workers") <= 4, "%ld", info("workers"));
    check_is_clean();
}

Test(threads, each_task_has_one_end_whoever_is_killed) {
    enum { KILLS = 40, EACH = 40, TASKS = KILLS * EACH };
    static char id[TASKS][ID_MAX];
    unsigned seed = 7;
    int done = 0, lost = 0;
    begin("workers = 3; threads = 6;");
    for (int i = 0; i < TASKS; i++) {
        char ms[8];
        bool victim = i % EACH == EACH - 1;
        snprintf(ms, sizeof(ms), "%d", victim ? 30000 : rand_r(&seed) % 8);
        submit(&w, "demo", victim || i % 3 ? "sleep" : "echo", ms, NULL, id[i]);
        if (victim) {
            cr_assert_eq(kill(wait_running(&w, id[i]), SIGKILL), 0);
        }
    }
    for (int i = 0; i < TASKS; i++) {
        const char *how = wait_end(&w, id[i]);
        done += strncmp(how, "done|", 5) == 0;
        lost += strcmp(how, "lost|nil|signal 9 (SIGKILL)") == 0;
    }
    cr_assert_eq(done + lost, TASKS);
    cr_assert_eq(info("done"), done);
    cr_assert_eq(info("lost"), lost);
    cr_assert_eq(info("deaths"), KILLS);
    cr_assert(lost >= KILLS && lost <= 6 * KILLS, "%d lost", lost);
    cr_assert(pool_becomes(&w, "demo", "workers", "3", within(5000)));
    cr_assert_str_eq(pool_info(&w, "demo", "queued"), "0");
    check_is_clean();
}

/* Each thread has a transaction of its own, and what was killed in one has left nothing. */
Test(threads, shared_objects_are_whole_whoever_is_killed) {
    enum { TASKS = 1200, EACH = 60 };
    static char id[TASKS][ID_MAX];
    char module[512];
    pid_t workers[4];
    int done = 0, lost = 0;
    snprintf(module, sizeof(module), "%s/tests/daemon/mod_shared.so", getenv("HEARTH_BUILD"));
    begin_with(module, "workers = 2; threads = 4;");
    for (int i = 0; i < TASKS; i++) {
        cr_assert_eq(
            sscanf(wire_call(&w, "TASK.SUBMIT", "demo", "count", "", "ARG", "n", "ARG", "l", NULL),
                   "\"%31[^\"]", id[i]),
            1, "%s", wire_show(&w));
        if (i % EACH == EACH - 1) {
            int n = children_of(daemon_.pid, "hearth:demo", workers, 4);
            if (n > 0) {
                kill(workers[i / EACH % n], SIGKILL);
            }
        }
    }
    for (int i = 0; i < TASKS; i++) {
        const char *how = wait_end(&w, id[i]);
        done += strncmp(how, "done|", 5) == 0;
        lost += strncmp(how, "lost|", 5) == 0;
    }
    cr_assert_eq(done + lost, TASKS); /* none has found the two of different sizes */
    long n = 0, len = 0;
    cr_assert_eq(sscanf(wire_call(&w, "GET", "n", NULL), "\"%ld\"", &n), 1);
    cr_assert_eq(sscanf(wire_call(&w, "LLEN", "l", NULL), ":%ld", &len), 1);
    cr_assert(n == len && n >= done && n <= TASKS, "%ld %ld, %d done", n, len, done);
    check_is_clean();
}

Test(threads, sizing_counts_threads) {
    char id[6][ID_MAX];
    begin("sizing = \"dynamic\"; min = 1; spare = 0; max = 4; threads = 3; idle_timeout = 0.3;");
    for (int i = 0; i < 6; i++) {
        submit(&w, "demo", "sleep", "1000", NULL, id[i]);
    }
    for (int i = 0; i < 6; i++) {
        wait_running(&w, id[i]);
    }
    cr_assert_eq(info("workers"), 2);
    for (int i = 0; i < 6; i++) {
        cr_assert_str_eq(wait_end(&w, id[i]), "done||");
    }
    cr_assert(pool_becomes(&w, "demo", "workers", "1", within(5000)));
    cr_assert_eq(info("deaths"), 0);
}

Test(threads, a_module_that_does_not_allow_it_is_refused) {
    struct daemon_options o = options("trouble", trouble_module(), "threads = 2;");
    cr_assert_eq(daemon_start(&daemon_, &o), 0);
    cr_assert_eq(daemon_wait(&daemon_, within(5000)), 1);
    cr_assert(strstr(daemon_log(&daemon_), "HEARTH_THREADS") != NULL, "%s", daemon_log(&daemon_));
}
