/* SPDX-License-Identifier: MIT */
/* What happens is told: events by number, resumed and waited for, and on channels; the figures of
 * pools and workers; metrics. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "tests/daemon/serve_support.h"

static struct wire w, other;

static void begin(void) {
    serve_begin(
        "pools = ( { name = \"demo\"; workers = 1; module = \"demo.so\"; kill_grace = 0.1;\n"
        "    retries = 1; backoff = 0.01; retry_on = [ \"crash\" ]; },\n"
        "  { name = \"shell\"; workers = 1; exec = [ ]; } );\n"
        "limits = { events_kept = 1024; }; stop_timeout = 1;\n");
    serve_connect(&w);
    serve_connect(&other);
}

static void end(void) {
    wire_close(&w);
    wire_close(&other);
    serve_end();
}

TestSuite(events, .timeout = 60, .init = begin, .fini = end);

static long long number(const char *field) {
    long long n = 0;
    uint32_t at = wire_find(&w, 0, field);
    cr_assert(at, "no %s in %s", field, wire_show(&w));
    cr_assert_eq(sscanf(wire_show_at(&w, at), ":%lld", &n), 1);
    return n;
}

/* The number of the next event there will be. */
static long long now(void) {
    ask(&w, "EVENTS.READ FROM $");
    return number("next");
}

/* Reads from an event on until the answer is like the pattern. */
static void until(const char *pattern, long long from) {
    uint64_t limit = clock_now() + 20 * NS_PER_SEC;
    while (!like(pattern, ask(&w, "EVENTS.READ FROM %lld COUNT 1000", from))) {
        cr_assert(clock_now() < limit, "not like %s: %s", pattern, wire_show(&w));
        ask(&w, "EVENTS.READ FROM $ BLOCK 50");
    }
}

Test(events, a_start_is_told) {
    until("*\"event\" \"worker.spawned\" \"pool\" \"demo\" \"worker_pid\" :* \"slot\" :*"
          "\"event\" \"worker.warm\" * \"warm_us\" :*",
          0);
    until("*\"event\" \"pool.ready\" \"pool\" \"demo\" \"workers\" :1]*", 0);
    /* everything from the beginning is there, so only what never was is missed */
    cr_assert_eq(number("missed"), number("first"));
    expect(&w,
           "[\"first\" :* \"next\" :* \"missed\" :* \"events\" [[\"seq\" :* \"time_ms\" :* "
           "\"event\" \"pool.ready\"*",
           "EVENTS.READ TYPE pool");
    cr_assert(!strstr(wire_show(&w), "worker."), "%s", wire_show(&w));
}

Test(events, the_life_of_a_task) {
    char id[SERVE_ID], want[512];
    long long from = now();
    submit_line(&w, id, "demo echo hello PRIORITY 200");
    expect(&w, "[*done*", "TASK.WAIT %s", id);
    snprintf(
        want, sizeof(want),
        "[*\"events\" [[\"seq\" :%lld \"time_ms\" :* \"event\" \"task.submitted\" \"pool\" "
        "\"demo\" "
        "\"task\" \"%s\" \"handler\" \"echo\" \"priority\" :200 \"payload_bytes\" :5 \"client\" "
        ":*] "
        "[\"seq\" :%lld \"time_ms\" :* \"event\" \"task.ended\" \"pool\" \"demo\" \"task\" \"%s\" "
        "\"handler\" \"echo\" \"priority\" :200 \"state\" \"done\" \"attempt\" :1 \"worker_pid\" "
        ":* "
        "\"wait_us\" :* \"run_us\" :* \"cause\" \"\"]]]",
        from, id, from + 1, id);
    expect(&w, want, "EVENTS.READ FROM %lld TYPE task", from);
    expect(&w, "[*\"events\" []]", "EVENTS.READ FROM %lld", from + 2);
    cr_assert_eq(number("next"), from + 2);
    expect(&w, "[*\"events\" [[*\"task.submitted\"*]]]", "EVENTS.READ FROM %lld COUNT 1", from);
    cr_assert_eq(number("next"), from + 1);
}

Test(events, a_crash_its_retry_and_the_workers_death) {
    char id[SERVE_ID];
    long long from = now();
    submit_line(&w, id, "demo crash ''");
    expect(&w, "[*lost*", "TASK.WAIT %s", id);
    until("*\"worker.died\" \"pool\" \"demo\" \"worker_pid\" :* \"slot\" :* \"tasks_done\" :* "
          "\"cause\" \"signal *"
          "\"task.retried\"*\"state\" \"lost\" \"attempt\" :1*\"cause\" \"signal *"
          "\"task.ended\"*\"state\" \"lost\" \"attempt\" :2*",
          from);
}

Test(events, a_killed_worker_and_a_paused_pool) {
    char id[SERVE_ID];
    long long from = now();
    submit_line(&w, id, "demo spin '' TIMEOUT 100");
    expect(&w, "[*timeout*", "TASK.WAIT %s", id);
    expect(&w, "+OK", "POOL.PAUSE demo IN");
    expect(&w, "+OK", "POOL.RESUME demo");
    until("*\"worker.killed\"*\"cause\" \"over the time limit\"*\"state\" \"timeout\"*"
          "\"cause\" \"time limit of 100 ms\"*"
          "\"pool.paused\" \"pool\" \"demo\" \"ways\" \"in\"*\"pool.resumed\"*\"in out\"*",
          from);
}

Test(events, who_waits_is_told_and_who_waited_too_long) {
    char id[SERVE_ID];
    tell(&w, "EVENTS.READ FROM $ BLOCK 20000 TYPE task");
    tell(&w, "PING");
    submit_line(&other, id, "demo echo x");
    expect_next(&w, "[*\"events\" [[*\"task.submitted\"*]]]");
    expect_next(&w, "+PONG");
    /* another type does not wake it */
    tell(&w, "EVENTS.READ FROM $ BLOCK 20000 TYPE pool");
    submit_line(&other, id, "demo echo x");
    expect(&other, "[*done*", "TASK.WAIT %s", id);
    expect(&other, "+OK", "POOL.PAUSE shell OUT");
    expect_next(&w, "[*\"events\" [[*\"pool.paused\"*]]]");
    expect(&w, "[*\"events\" []]", "EVENTS.READ FROM $ BLOCK 20");
    expect(&w, "-ERR block is not an integer from 0 to 4294967295", "EVENTS.READ BLOCK -1");
    expect(&w, "-ERR count is not an integer from 1 to 10000", "EVENTS.READ COUNT 0");
    expect(&w, "-ERR from is not the number of an event, nor $", "EVENTS.READ FROM x");
    expect(&w, "-ERR type is one of *", "EVENTS.READ TYPE x");
    expect(&w, "-ERR syntax error", "EVENTS.READ FROM");
    expect(&w, "-ERR syntax error", "EVENTS.READ x 1");
}

Test(events, what_is_gone_is_counted) {
    long long from = now();
    for (int i = 0; i < 20; i++) {
        tell(
            &w,
            "TASK.MSUBMIT demo echo 50 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 "
            "0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9");
        hear(&w);
        expect(&w, "*", "TASK.CALL demo echo last");
    }
    ask(&w, "EVENTS.READ FROM %lld COUNT 10000", from);
    long long first = number("first");
    cr_assert_eq(number("missed"), first - from);
    cr_assert_eq(number("next") - first, 1024);
    cr_assert_eq(w.doc.v[wire_find(&w, 0, "events")].count, 1024);
    /* one that was never there, as of a daemon before this one */
    ask(&w, "EVENTS.READ FROM 17");
    cr_assert_eq(number("missed"), first - 17);
}

Test(events, channels_have_them_as_json) {
    char id[SERVE_ID];
    expect(&w, "[\"psubscribe\" \"events:*\" :1]", "PSUBSCRIBE events:*");
    submit_line(&other, id, "demo echo x");
    hear(&w);
    cr_assert(strstr(wire_show(&w), "task.submitted") && strstr(wire_show(&w), id), "%s",
              wire_show(&w));
    hear(&w);
    cr_assert(strstr(wire_show(&w), "task.ended") && strstr(wire_show(&w), "events:task"), "%s",
              wire_show(&w));
    expect(&other, "+OK", "POOL.PAUSE demo IN");
    hear(&w);
    cr_assert(strstr(wire_show(&w), "events:pool") && strstr(wire_show(&w), "pool.paused"), "%s",
              wire_show(&w));
    expect(&other, "-ERR channels that begin with *", "PUBLISH events:task x");
}

Test(events, times_of_a_pool) {
    for (int i = 0; i < 20; i++) {
        expect(&w, "*", "TASK.CALL demo sleep '' ARG %d", i == 19 ? 100 : 10);
    }
    ask(&w, "POOL.INFO demo");
    cr_assert_eq(number("minute_ended"), 20);
    cr_assert(number("run_p50_us") >= 10000 && number("run_p50_us") < 90000, "%s", wire_show(&w));
    cr_assert(number("run_max_us") >= 100000);
    cr_assert(number("run_p99_us") >= number("run_p90_us") &&
              number("run_p99_us") <= number("run_max_us"));
    cr_assert(number("wait_p50_us") <= number("wait_max_us"));
    cr_assert_eq(number("oldest_queued_ms"), 0);
    expect(&w, "+OK", "POOL.PAUSE demo OUT");
    char id[SERVE_ID];
    submit_line(&w, id, "demo echo '' DELAY 60000"); /* is not waiting for a worker */
    submit_line(&w, id, "demo echo ''");
    uint64_t submitted = clock_now();
    uint64_t limit = submitted + 10 * NS_PER_SEC;
    do {
        ask(&w, "POOL.INFO demo");
        cr_assert(clock_now() < limit);
    } while (number("oldest_queued_ms") < 20);
    cr_assert(number("oldest_queued_ms") <= (long long)((clock_now() - submitted) / NS_PER_MS) + 5);
}

Test(events, one_worker) {
    char id[SERVE_ID];
    long long pid;
    submit_line(&w, id, "demo sleep '' ARG 60000");
    uint64_t limit = clock_now() + 10 * NS_PER_SEC;
    do {
        ask(&w, "TASK.STATUS %s", id);
        pid = number("worker_pid");
        cr_assert(clock_now() < limit);
    } while (pid == 0);
    expect(&w,
           "[\"pool\" \"demo\" \"slot\" :* \"pid\" :* \"state\" \"serving\" \"task\" \"*\" "
           "\"tasks_done\" :0 *",
           "WORKER.INFO %lld", pid);
    cr_assert(strstr(wire_show(&w), id));
    cr_assert_eq(number("pid"), pid);
    cr_assert(number("rss_bytes") > 100000);
    cr_assert(number("private_bytes") > 0 && number("private_bytes") <= number("rss_bytes"));
    cr_assert(number("begun_ms") >= number("spawned_ms") - 10);
    cr_assert(number("warm_us") > 0);
    expect(&w, "-NOWORKER no such worker '1'", "WORKER.INFO 1");
    expect(&w, "-NOWORKER no such worker 'x'", "WORKER.INFO x");
}

static double metric(const char *name) {
    char line[128];
    double v = -1;
    snprintf(line, sizeof(line), "\\n%s ", name); /* wire_show() writes line ends so */
    const char *at = strstr(wire_show(&w), line);
    cr_assert(at, "no %s in %s", line, wire_show(&w));
    cr_assert_eq(sscanf(at + strlen(line), "%lf", &v), 1);
    return v;
}

Test(events, metrics_and_info_have_the_same_figures) {
    for (int i = 0; i < 3; i++) {
        expect(&w, "*", "TASK.CALL demo echo x");
    }
    expect(&w, "-FAILED*", "TASK.CALL demo fail x");
    ask(&w, "METRICS.READ");
    cr_assert_eq(metric("hearth_tasks_done_total"), 3);
    cr_assert_eq(metric("hearth_tasks_failed_total"), 1);
    cr_assert_eq(metric("hearth_pool_done_total{pool=\\\"demo\\\"}"), 3);
    cr_assert_eq(metric("hearth_pool_workers{pool=\\\"shell\\\"}"), 1);
    cr_assert_eq(metric("hearth_pool_run_seconds_count{pool=\\\"demo\\\"}"), 4);
    cr_assert(metric("hearth_pool_run_seconds{pool=\\\"demo\\\",quantile=\\\"1\\\"}") > 0);
    /* every figure of the table, in both forms */
#define METRIC(scope, name, type, value, doc) METRIC_##scope(name, type)
#define GAUGE                                 ""
#define COUNTER                               "_total"
#define METRIC_TASKS(name, type)                                                                   \
    cr_assert(strstr(wire_show(&w), "# HELP hearth_" #name type " "), "no " #name);
#define METRIC_SYNC METRIC_TASKS
#define METRIC_POOL(name, type)                                                                    \
    cr_assert(strstr(wire_show(&w), "hearth_pool_" #name type "{pool="), "no " #name);
#include "daemon/metrics.def"
#undef METRIC_TASKS
#undef METRIC_POOL
    ask(&w, "INFO tasks sync pools");
#define METRIC_TASKS(name, type) cr_assert(strstr(wire_show(&w), #name ":"), "no " #name);
#define METRIC_POOL(name, type)  cr_assert(strstr(wire_show(&w), "," #name "="), "no " #name);
#include "daemon/metrics.def"
    cr_assert_eq(info_number(&w, "tasks_done"), 3);
}

/* ---- under load ---- */

enum { BATCH = 1000, QUEUED = 40 * BATCH, LATER = 20 * BATCH };

static void submit_many(uint32_t n, bool later) {
    static struct resp_arg words[BATCH + 6];
    char count[16];
    snprintf(count, sizeof(count), "%d", BATCH);
    const char *const first[] = {"TASK.MSUBMIT", "demo", "echo", count};
    for (uint32_t i = 0; i < BATCH + 4; i++) {
        const char *word = i < 4 ? first[i] : "x";
        words[i] = (struct resp_arg){word, strlen(word)};
    }
    words[BATCH + 4] = (struct resp_arg){"DELAY", 5};
    words[BATCH + 5] = (struct resp_arg){"3600000", 7};
    for (uint32_t done = 0; done < n; done += BATCH) {
        cr_assert_eq(wire_send_words(&other, words, BATCH + (later ? 6 : 4)), 0);
        cr_assert_eq(wire_read(&other, WIRE_LIMIT_MS), 0);
        cr_assert_eq(other.doc.v[0].count, BATCH, "%s", wire_show(&other));
    }
}

Test(events, answers_under_load) {
    static struct wire deaf;
    char id[SERVE_ID];
    ask(&w, "WORKER.LIST POOL demo");
    long long pid = 0;
    char worker[24];
    cr_assert_eq(sscanf(wire_show_at(&w, wire_find(&w, 1, "pid")), ":%lld", &pid), 1);
    snprintf(worker, sizeof(worker), "%lld", pid);
    cr_assert_eq(kill((pid_t)pid, SIGSTOP), 0);
    /* somebody who wants to hear of everything and listens to nothing */
    serve_connect(&deaf);
    cr_assert_eq(wire_send(&deaf, "PSUBSCRIBE", "*", NULL), 0);
    submit_many(LATER, true);
    submit_many(QUEUED, false);
    submit_line(&w, id, "demo echo last");
    uint64_t slowest = 0;
    for (int i = 0; i < 60; i++) {
        uint64_t began = clock_now();
        if (i % 3 == 0) {
            expect(&w, "[\"name\" \"demo\"*", "POOL.INFO demo");
            cr_assert(number("queued") >= QUEUED && number("queued") <= QUEUED + 1, "%s",
                      wire_show(&w));
            cr_assert_eq(number("delayed"), LATER);
        } else {
            expect(&w, "[*", i % 3 == 1 ? "TASK.STATUS %s" : "WORKER.INFO %s",
                   i % 3 == 1 ? id : worker);
        }
        uint64_t took = clock_now() - began;
        slowest = took > slowest ? took : slowest;
    }
    cr_assert(slowest < NS_PER_SEC, "%llu ms", (unsigned long long)(slowest / NS_PER_MS));
    ask(&w, "POOL.INFO demo");
    cr_assert(number("oldest_queued_ms") > 0);
    wire_close(&deaf);
    cr_assert_eq(kill((pid_t)pid, SIGKILL), 0);
}
