/* SPDX-License-Identifier: MIT */
/* Supervision, live: deaths of workers and zygotes, recycling, failing starts. Each test has a real
 * daemon of its own and looks at it from outside only: replies, processes, signals. What must be
 * quick is timed. Fails: as a Criterion suite. */
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

static void end(void) {
    wire_close(&w);
    wire_close(&other);
    int r = daemon_stop(&daemon_);
    child_kill_all();
    cr_assert_eq(r, 0);
}

TestSuite(pool, .timeout = 60, .fini = end);

static void begin(const char *config) {
    struct daemon_options o = {.config = config};
    cr_assert_eq(daemon_start(&daemon_, &o), 0);
    cr_assert_eq(daemon_wait_ready(&daemon_, within(10000)), 0, "%s", daemon_log(&daemon_));
    cr_assert_eq(daemon_connect(&daemon_, &w), 0);
    cr_assert_eq(daemon_connect(&daemon_, &other), 0);
}

/* A configuration with mod_trouble.c's module; `keys` are more keys of the pool. */
static const char *trouble_config(const char *keys) {
    static char text[2048];
    snprintf(text, sizeof(text),
             "pools = ( { name = \"trouble\"; module = \"%s\"; kill_grace = 0.2; %s } );\n"
             "stop_timeout = 0.2;\n",
             trouble_module(), keys);
    return text;
}

Test(pool, a_worker_killed_at_work_is_told_and_replaced) {
    char lost[ID_MAX], kept[ID_MAX];
    begin(NULL);
    submit(&w, "demo", "sleep", "60000", NULL, lost);
    submit(&w, "demo", "sleep", "400", NULL, kept);
    pid_t pid = wait_running(&w, lost);
    wait_running(&w, kept);
    double at = now_ms();
    cr_assert_eq(kill(pid, SIGKILL), 0);
    cr_assert_str_eq(wait_end(&w, lost), "lost|nil|signal 9 (SIGKILL)");
    double took = now_ms() - at;
    cr_assert(took < within(100), "the submitter heard after %.1f ms", took);
    /* the other one went on, and the pool is whole again */
    cr_assert_str_eq(wait_end(&w, kept), "done||");
    cr_assert(pool_becomes(&w, "demo", "workers", "2", within(2000)));
    cr_assert_str_eq(pool_info(&w, "demo", "state"), "ready");
    submit(&w, "demo", "sleep", "100", NULL, lost);
    submit(&w, "demo", "sleep", "100", NULL, kept);
    cr_assert_neq(wait_running(&w, lost), wait_running(&other, kept));
}

Test(pool, every_way_to_die_is_named) {
    static const struct {
        const char *handler, *arg, *end;
    } ways[] = {
        {"crash", "SEGV", "lost|nil|signal 11 (SIGSEGV)"},
        {"crash", "KILL", "lost|nil|signal 9 (SIGKILL)"},
        {"exit", "3", "lost|nil|exit status 3"},
        {"exit", "0", "lost|nil|exit status 0"},
    };
    char id[ID_MAX];
    begin(NULL);
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        submit(&w, "demo", ways[i].handler, ways[i].arg, NULL, id);
        const char *end_text = wait_end(&w, id);
        /* whether there was a core is the machine's business */
        cr_assert_eq(strncmp(end_text, ways[i].end, strlen(ways[i].end)), 0, "%s: %s",
                     ways[i].handler, end_text);
    }
    cr_assert_str_eq(wire_call(&w, "TASK.CALL", "demo", "echo", "still here", NULL),
                     "\"still here\"");
}

Test(pool, many_deaths_lose_no_task_and_no_worker) {
    char id[64][ID_MAX];
    int lost = 0, done = 0;
    begin(NULL);
    for (int i = 0; i < 64; i++) {
        if (i % 4 == 0) {
            submit(&w, "demo", "crash", "KILL", NULL, id[i]);
        } else {
            submit(&w, "demo", "echo", "x", NULL, id[i]);
        }
    }
    for (int i = 0; i < 64; i++) {
        const char *end_text = wait_end(&w, id[i]);
        lost += strcmp(end_text, "lost|nil|signal 9 (SIGKILL)") == 0;
        done += strcmp(end_text, "done|x|") == 0;
    }
    cr_assert_eq(lost, 16);
    cr_assert_eq(done, 48);
    cr_assert(pool_becomes(&w, "demo", "workers", "2", within(2000)));
    cr_assert_str_eq(pool_info(&w, "demo", "queued"), "0");
}

Test(pool, a_killed_zygote_does_not_disturb_its_workers) {
    char id[ID_MAX];
    pid_t zygotes[8];
    begin(NULL);
    submit(&w, "demo", "sleep", "300", NULL, id);
    pid_t worker = wait_running(&w, id);
    int n = children_of(daemon_.pid, "hearth-worker", zygotes, 8);
    cr_assert_eq(n, 2, "%d zygotes", n);
    for (int i = 0; i < n; i++) {
        cr_assert_eq(kill(zygotes[i], SIGKILL), 0);
    }
    cr_assert_str_eq(wait_end(&w, id), "done||");
    /* the next death needs a zygote again */
    submit(&w, "demo", "sleep", "60000", NULL, id);
    worker = wait_running(&w, id);
    cr_assert_eq(kill(worker, SIGKILL), 0);
    cr_assert_str_eq(wait_end(&w, id), "lost|nil|signal 9 (SIGKILL)");
    cr_assert(pool_becomes(&w, "demo", "workers", "2", within(3000)));
    cr_assert(pool_becomes(&w, "demo", "state", "ready", within(3000)));
}

/* More workers are missing than requests for them fit into its socket. */
Test(pool, a_zygote_that_does_not_answer_is_waited_for_without_a_spin) {
    enum { WORKERS = 350 };
    pid_t zygote, workers[WORKERS];
    char id[ID_MAX];
#if defined(__SANITIZE_ADDRESS__)
    cr_skip_test("so many workers with a shadow memory each");
#endif
    begin("pools = ( { name = \"many\"; workers = 350; exec = [ ]; } );");
    cr_assert_eq(children_of(daemon_.pid, "hearth-worker", &zygote, 1), 1);
    cr_assert_eq(children_of(daemon_.pid, "hearth:many", workers, WORKERS), WORKERS);
    cr_assert_eq(kill(zygote, SIGSTOP), 0);
    for (int i = 0; i < WORKERS; i++) {
        cr_assert_eq(kill(workers[i], SIGKILL), 0);
    }
    char deaths[16];
    snprintf(deaths, sizeof(deaths), "%d", WORKERS);
    cr_assert(pool_becomes(&w, "many", "deaths", deaths, within(5000)));
    submit(&w, "many", "run", "true", NULL, id);
    long before = loop_turns(&w);
    cr_assert_str_eq(wire_call(&w, "TASK.WAIT", id, "TIMEOUT", "200", NULL), "nil");
    long turns = loop_turns(&w) - before;
    cr_assert(turns < 100, "%ld turns", turns);
    cr_assert_eq(kill(zygote, SIGCONT), 0);
    cr_assert_str_eq(wait_end(&w, id), "done||");
    cr_assert(pool_becomes(&w, "many", "workers", "350", within(5000)));
}

Test(pool, max_tasks_recycles_exactly_and_without_a_gap) {
    pid_t before = 0;
    int served = 0, workers = 0;
    begin(trouble_config("workers = 1; max_tasks = 3;"));
    for (int i = 0; i < 30; i++) {
        pid_t pid = call_named(&w, "trouble");
        if (pid != before) {
            cr_assert(before == 0 || served == 3, "worker %d served %d tasks", (int)before, served);
            workers++;
            served = 0;
        }
        before = pid;
        served++;
    }
    cr_assert_eq(workers, 10);
    cr_assert(pool_becomes(&w, "trouble", "recycled", "10", within(2000)));
    cr_assert_str_eq(pool_info(&w, "trouble", "deaths"), "0");
}

Test(pool, workers_that_die_in_their_start_are_tried_again_with_pauses) {
    char sign[TMP_PATH + 16], keys[256], id[ID_MAX], dir[TMP_PATH];
    cr_assert_eq(tmp_dir(dir), 0);
    snprintf(sign, sizeof(sign), "%s/fail", dir);
    snprintf(keys, sizeof(keys), "workers = 1; args = [ \"%s\" ];", sign);
    begin(trouble_config(keys));
    pid_t pid = call_named(&w, "trouble");
    cr_assert_eq(tmp_write(dir, "fail", "", 0), 0);
    cr_assert_eq(kill(pid, SIGKILL), 0);
    cr_assert(pool_becomes(&w, "trouble", "state", "failing", within(3000)));
    cr_assert(strstr(pool_info(&w, "trouble", "last_error"), "exit status 7") != NULL, "%s",
              pool_info(&w, "trouble", "last_error"));
    submit(&w, "trouble", "named", NULL, NULL, id);
    /* 100 + 200 + 400 ms: in 700 ms and a bit at most four starts */
    cr_assert_str_eq(wire_call(&w, "TASK.WAIT", id, "TIMEOUT", "700", NULL), "nil");
    long tries = strtol(pool_info(&w, "trouble", "spawn_failures"), NULL, 10);
    cr_assert(tries >= 2 && tries <= 6, "%ld starts", tries);
    cr_assert_eq(unlink(sign), 0);
    cr_assert_eq(tmp_remove(dir), 0);
    /* and it recovers by itself, with the task that waited */
    cr_assert_eq(strncmp(wait_end(&w, id), "done|", 5), 0);
    cr_assert(pool_becomes(&w, "trouble", "state", "ready", within(3000)));
}

Test(pool, a_pool_that_cannot_start_ends_the_daemon_with_the_reason) {
    struct daemon_options o = {.config = trouble_config("workers = 2; args = [ \"refuse\" ];")};
    cr_assert_eq(daemon_start(&daemon_, &o), 0);
    cr_assert_eq(daemon_wait(&daemon_, within(5000)), 1);
    cr_assert(strstr(daemon_log(&daemon_), "refused, as asked") != NULL, "%s",
              daemon_log(&daemon_));
}

/* The loader cannot load it: it ends before it can say anything (status 127; by a signal with a sanitizer). */
Test(pool, a_zygote_that_ends_without_a_word_is_a_failure_too) {
    struct daemon_options o = {.config =
                                   trouble_config("workers = 2; rlimits = { as = \"1M\"; };")};
    cr_assert_eq(daemon_start(&daemon_, &o), 0);
    cr_assert_eq(daemon_wait(&daemon_, within(5000)), 1);
    cr_assert(strstr(daemon_log(&daemon_), "its zygote ended while starting: "), "%s",
              daemon_log(&daemon_));
}
