/* SPDX-License-Identifier: MIT */
/* What a task may take, live: soft limits, memory, output; what is slow; and that nothing a worker
 * does keeps it from being stopped. Fails: as a Criterion suite. */
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
static struct wire w;

static void begin(void) {
    static char config[2048];
    snprintf(
        config, sizeof(config),
        "pools = (\n"
        "  { name = \"trouble\"; workers = 2; module = \"%s\"; kill_grace = 0.2;\n"
        "    slow_after = 0.1; },\n"
        "  { name = \"tight\"; workers = 1; module = \"%s\"; kill_grace = 0.2;\n"
        "    soft_timeout = 0.1; memory_max = \"32M\"; },\n"
        "  { name = \"shell\"; workers = 2; exec = [ ]; kill_grace = 0.2; max_output = \"1M\";\n"
        "    slow_after = 0.1; },\n"
        "  { name = \"usr\"; workers = 1; exec = [ \"sh\", \"-c\" ]; soft_timeout = 0.1;\n"
        "    soft_signal = \"USR1\"; memory_max = \"64M\"; }\n"
        ");\n"
        "stop_timeout = 0.2;\n",
        trouble_module(), trouble_module());
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

/* ---- soft limits ---- */

/* Submits with options and answers how it ended. */
static const char *end_with(const char *pool, const char *handler, const char *arg,
                            const char *option, const char *value) {
    static char id[ID_MAX];
    cr_assert_eq(wire_send(&w, "TASK.SUBMIT", pool, handler, "", "ARG", arg, option, value, NULL),
                 0);
    cr_assert_eq(wire_read(&w, WIRE_LIMIT_MS), 0);
    cr_assert_eq(w.doc.v[0].type, RESP_BULK, "%s", wire_show(&w));
    snprintf(id, sizeof(id), "%.*s", (int)w.doc.v[0].len, w.doc.v[0].data);
    return wait_end(&w, id);
}

Test(limits, a_handler_is_told_of_its_soft_limit) {
    double at = now_ms();
    cr_assert_str_eq(end_with("trouble", "soft", "0", "SOFT", "150"), "done|part|");
    double took = now_ms() - at;
    cr_assert(took >= 150 && took < 150 + within(100), "after %.1f ms", took);
    cr_assert_str_eq(end_with("trouble", "soft", "3", "SOFT", "20"),
                     "timeout|nil|ended at its soft time limit");
    /* the pool's, for those that name none */
    cr_assert_str_eq(end_with("tight", "soft", "0", NULL, NULL), "done|part|");
    /* the worker lived through it, and the limit proper still counts */
    cr_assert_str_eq(pool_info(&w, "tight", "deaths"), "0");
    cr_assert_str_eq(end_with("tight", "deaf", "", "TIMEOUT", "200"),
                     "timeout|nil|time limit of 200 ms");
    cr_assert_eq(strncmp(wire_call(&w, "TASK.SUBMIT", "tight", "soft", "", "SOFT", "x", NULL),
                         "-ERR SOFT is not an integer", 27),
                 0);
}

Test(limits, a_command_is_sent_a_signal_at_its_soft_limit) {
    /* by itself it dies of it, which is not a crash */
    cr_assert_str_eq(end_with("usr", "run", "while :; do sleep 0.01; done", NULL, NULL),
                     "timeout|nil|ended at its soft time limit");
    cr_assert_str_eq(
        end_with("usr", "run", "trap 'exit 138' USR1; while :; do sleep 0.01; done", NULL, NULL),
        "timeout|nil|ended at its soft time limit");
    /* it may clean up and give what it has */
    cr_assert_str_eq(end_with("usr", "run",
                              "trap 'printf part; exit 0' USR1; while :; do sleep 0.01; done",
                              "SOFT", "50"),
                     "done|part|");
    /* or go on until its time limit */
    cr_assert_str_eq(
        end_with("usr", "run", "trap '' USR1; while :; do sleep 0.01; done", "TIMEOUT", "300"),
        "timeout|nil|time limit of 300 ms");
    cr_assert_str_eq(pool_info(&w, "usr", "deaths"), "0");
}

/* ---- memory ---- */

Test(limits, memory) {
#if defined(__SANITIZE_ADDRESS__)
    cr_skip_test("a sanitizer's allocator takes and keeps memory as it likes");
#endif
    cr_assert_str_eq(end_with("trouble", "greedy", "64", "MEMORY", "33554432"),
                     "lost|nil|memory limit of 32 MiB");
    cr_assert_str_eq(end_with("tight", "greedy", "64", NULL, NULL),
                     "lost|nil|memory limit of 32 MiB");
    cr_assert_str_eq(end_with("tight", "greedy", "8", "TIMEOUT", "200"),
                     "timeout|nil|time limit of 200 ms");
    /* a command: it and its children together, also those of another session */
    cr_assert_str_eq(end_with("usr", "run",
                              "setsid head -c 100000000 /dev/zero | setsid tail -n 1 & "
                              "trap '' USR1; wait; sleep 100",
                              NULL, NULL),
                     "lost|nil|memory limit of 64 MiB");
    cr_assert(pool_becomes(&w, "usr", "workers", "1", within(3000)));
    cr_assert_str_eq(end_with("usr", "run", "echo small", NULL, NULL), "done|small\n|");
    /* a retry for exactly that */
    wire_call(&w, "TASK.CALL", "tight", "greedy", "", "ARG", "64", "RETRY", "1", "ON", "memory",
              "BACKOFF", "1", NULL);
    cr_assert_str_eq(wire_show(&w), "-LOST memory limit of 32 MiB");
    wire_call(&w, "DEAD.LIST", NULL);
    uint32_t attempt = wire_find(&w, 1, "attempt");
    cr_assert(attempt && w.doc.v[attempt].integer == 2, "%s", wire_show(&w));
}

/* ---- output ---- */

Test(limits, output_that_does_not_end) {
    cr_assert_str_eq(end_with("shell", "run", "yes", NULL, NULL),
                     "failed|nil|error 27: the output is larger than 1048576 bytes (max_output)");
    /* of stderr the end is kept */
    char id[ID_MAX];
    submit_shell(&w, "head -c 3000000 /dev/zero | tr '\\0' x >&2; echo end >&2; exit 3", NULL, id);
    cr_assert_str_eq(wait_end(&w, id), "failed|nil|exit status 3");
    wire_call(&w, "TASK.STATUS", id, NULL);
    const struct resp_value *log = &w.doc.v[wire_find(&w, 0, "stderr")];
    cr_assert_eq(log->len, 65536);
    cr_assert_eq(memcmp(log->data + log->len - 5, "xend\n", 5), 0);
}

/* ---- nobody evades a cancel ---- */

static void cancelled(const char *id) {
    double at = now_ms();
    cr_assert_str_eq(wire_call(&w, "TASK.CANCEL", id, NULL), ":1");
    cr_assert_eq(strncmp(wait_end(&w, id), "cancelled|nil|cancelled", 23), 0);
    double took = now_ms() - at;
    cr_assert(took < 200 + within(150), "after %.1f ms", took);
}

Test(limits, cancelling_handlers_that_resist) {
    static const char *const names[] = {"deaf", "stuck"};
    char id[ID_MAX];
    for (int stopped = 0; stopped < 2; stopped++) {
        for (int i = 0; i < 2; i++) {
            submit(&w, "trouble", names[i], NULL, NULL, id);
            pid_t pid = wait_running(&w, id);
            if (stopped) {
                cr_assert_eq(kill(pid, SIGSTOP), 0);
            }
            cancelled(id);
            cr_assert(gone(pid, within(2000)));
        }
    }
    cr_assert(pool_becomes(&w, "trouble", "workers", "2", within(3000)));
}

/* The pid that a script has written. */
static pid_t pid_in(const char *name, int ms) {
    char path[TMP_PATH + 32], *text = NULL;
    double until = now_ms() + ms;
    size_t len;
    pid_t pid = 0;
    snprintf(path, sizeof(path), "%s/%s", daemon_.dir, name);
    while (pid <= 1 && now_ms() < until) {
        if (tmp_read(path, &text, &len) == 0) {
            pid = strchr(text, '\n') ? (pid_t)strtol(text, NULL, 10) : 0;
            free(text);
        }
    }
    cr_assert(pid > 1);
    return pid;
}

Test(limits, cancelling_a_command_that_resists) {
    char id[ID_MAX], script[4 * TMP_PATH];
    /* it ignores SIGTERM and is stopped; one child is in its group, one in another session, and one
     * has a parent that has ended */
    snprintf(
        script, sizeof(script),
        "trap '' TERM; cd %s; sleep 1000 & echo $! > a; setsid sh -c 'echo $$ > b; sleep 1000; "
        ":' & setsid sh -c '(echo $(exec sh -c \"echo \\$PPID\") > c; sleep 1000; :) &'; "
        "echo $$ > d; while :; do sleep 1; done",
        daemon_.dir);
    for (int ended_by = 0; ended_by < 2; ended_by++) {
        submit_shell(&w, script, ended_by ? "500" : NULL, id);
        pid_t all[] = {pid_in("a", within(3000)), pid_in("b", within(3000)),
                       pid_in("c", within(3000)), pid_in("d", within(3000))};
        cr_assert_eq(kill(all[3], SIGSTOP), 0);
        if (ended_by) {
            cr_assert_str_eq(wait_end(&w, id), "timeout|nil|time limit of 500 ms");
        } else {
            cancelled(id);
        }
        for (int i = 0; i < 4; i++) {
            cr_assert(gone(all[i], within(2000)), "%c lives on", "abcd"[i]);
            char path[TMP_PATH + 8];
            snprintf(path, sizeof(path), "%s/%c", daemon_.dir, "abcd"[i]);
            remove(path);
        }
    }
    /* one that obeys leaves nobody behind either */
    snprintf(script, sizeof(script), "setsid sh -c 'echo $$ > %s/e; sleep 1000; :' & sleep 1000",
             daemon_.dir);
    submit_shell(&w, script, NULL, id);
    pid_t e = pid_in("e", within(3000));
    cancelled(id);
    cr_assert(gone(e, within(2000)));
}

/* ---- the slow log ---- */

Test(limits, the_slow_log) {
    char id[ID_MAX], want[64];
    submit(&w, "trouble", "stuck", NULL, "250", id);
    wait_end(&w, id);
    wire_call(&w, "TASK.SLOW", NULL);
    cr_assert(w.doc.v[0].type == RESP_ARRAY && w.doc.v[0].count == 1, "%s", wire_show(&w));
    cr_assert(strstr(wire_show(&w), id));
    uint32_t ms = wire_find(&w, 1, "run_ms"), where = wire_find(&w, 1, "where");
    cr_assert(ms && w.doc.v[ms].integer >= 100 && w.doc.v[ms].integer < 100 + within(100));
    snprintf(want, sizeof(want), "%.*s", 30, w.doc.v[where].data);
    cr_assert_eq(strncmp(want, "hearth:trouble: sleeping", 24), 0, "%s", want);
    cr_assert(strstr(daemon_log(&daemon_), "a task of stuck has run for"));
    cr_assert(strstr(wire_call(&w, "EVENTS.READ", "TYPE", "task", NULL),
                     "\"where\" \"hearth:trouble: sleeping"),
              "%s", wire_show(&w));
    /* what spins, and what a command waits for */
    submit(&w, "trouble", "deaf", NULL, "250", id);
    wait_end(&w, id);
    wire_call(&w, "TASK.SLOW", "COUNT", "1", NULL);
    cr_assert(strstr(wire_show(&w), "hearth:trouble: running, "), "%s", wire_show(&w));
    submit_shell(&w, "sleep 0.25; :", NULL, id);
    wait_end(&w, id);
    wire_call(&w, "TASK.SLOW", "COUNT", "1", NULL);
    cr_assert(strstr(wire_show(&w), "hearth:shell > sh > sleep: sleeping in "), "%s",
              wire_show(&w));
    /* quick ones are not in it, and it can be emptied */
    submit(&w, "trouble", "named", NULL, NULL, id);
    wait_end(&w, id);
    wire_call(&w, "TASK.SLOW", "COUNT", "100", NULL);
    cr_assert_eq(w.doc.v[0].count, 3, "%s", wire_show(&w));
    cr_assert_str_eq(wire_call(&w, "TASK.SLOW", "RESET", NULL), "+OK");
    cr_assert_str_eq(wire_call(&w, "TASK.SLOW", NULL), "[]");
    cr_assert_eq(wire_call(&w, "TASK.SLOW", "COUNT", "0", NULL)[0], '-');
}

/* ---- killed by the kernel ---- */

static char cgroup[512], home[512];

static bool write_file(const char *dir, const char *name, const char *text) {
    char path[600];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    bool good = f && fputs(text, f) >= 0;
    return f && fclose(f) == 0 && good;
}

/* Puts this process, and so the daemon, into a cgroup with little memory. False: not to be had here. */
static bool join_small_cgroup(void) {
    char *text = NULL, pid[16];
    size_t len;
    cr_assert_eq(tmp_read("/proc/self/cgroup", &text, &len), 0);
    const char *one = strstr(text, ":memory:"), *two = strstr(text, "0::");
    const char *at = one ? one + 8 : two ? two + 3 : NULL;
    bool good = false;
    if (at) {
        snprintf(home, sizeof(home), "/sys/fs/cgroup%s%.*s", one ? "/memory" : "",
                 (int)strcspn(at, "\n"), at);
        snprintf(cgroup, sizeof(cgroup), "%.400s/hearth-test-%d", home, (int)getpid());
        snprintf(pid, sizeof(pid), "%d", (int)getpid());
        good = mkdir(cgroup, 0755) == 0 &&
               write_file(cgroup, one ? "memory.limit_in_bytes" : "memory.max", "134217728") &&
               write_file(cgroup, "cgroup.procs", pid);
    }
    free(text);
    return good;
}

static void leave_cgroup(void) {
    char pid[16];
    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    write_file(home, "cgroup.procs", pid);
    rmdir(cgroup);
}

static void end_oom(void) {
    wire_close(&w);
    int r = daemon_stop(&daemon_);
    child_kill_all();
    leave_cgroup();
    cr_assert_eq(r, 0);
}

TestSuite(oom, .timeout = 60, .fini = end_oom);

Test(oom, what_the_kernel_kills_is_told_as_such) {
#if defined(__SANITIZE_ADDRESS__)
    cr_skip_test("a sanitizer's allocator takes and keeps memory as it likes");
#endif
    if (!join_small_cgroup()) {
        leave_cgroup();
        cr_skip_test("no memory cgroup can be made here");
    }
    begin();
    /* a worker, a command, and the child of a shell that tells of it by its status */
    cr_assert_str_eq(end_with("trouble", "greedy", "256", NULL, NULL),
                     "lost|nil|killed by the kernel: out of memory");
    char id[ID_MAX];
    submit_shell(&w, "head -c 300000000 /dev/zero | tail -n 1; exit 137", NULL, id);
    cr_assert_str_eq(wait_end(&w, id), "failed|nil|killed by the kernel: out of memory");
    /* anybody else's SIGKILL is none of that */
    submit(&w, "trouble", "deaf", NULL, NULL, id);
    cr_assert_eq(kill(wait_running(&w, id), SIGKILL), 0);
    cr_assert_str_eq(wait_end(&w, id), "lost|nil|signal 9 (SIGKILL)");
    submit_shell(&w, "kill -9 $$", NULL, id);
    cr_assert_str_eq(wait_end(&w, id), "failed|nil|signal 9 (SIGKILL)");
}
