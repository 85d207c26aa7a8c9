/* SPDX-License-Identifier: MIT */
/* Exec pools: what becomes of a command's input, output, stderr, status, signals and relatives. A
 * real zygote and a real worker; the test is the daemon (tests/support/rig.h). */
#include "tests/support/rig.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"

static struct rig rig;
static struct rig_worker worker;

static void open_with(const char *const more[]) {
    if (rig_under_valgrind()) {
        cr_skip_test("valgrind");
    }
    cr_assert_eq(rig_open(&rig, NULL, more), 0);
    cr_assert_eq(rig_ready(&rig), 0);
    cr_assert_eq(rig_worker(&rig, true, &worker), 0);
}

static void end(void) {
    rig_close(&rig);
}

TestSuite(exec, .timeout = 60, .fini = end);

#define RUN(v, payload, ...)                                                                       \
    cr_assert_eq(                                                                                  \
        rig_run(&rig, 0, payload, strlen(payload), (const char *const[]){__VA_ARGS__, NULL}, v),   \
        0)

static void expect_output(const struct task_view *v, const char *text) {
    cr_assert_eq(v->output.len, strlen(text), "%zu bytes: %.*s", v->output.len, (int)v->output.len,
                 (const char *)v->output.data);
    cr_assert_eq(memcmp(v->output.data, text, v->output.len), 0);
}

static bool output_has(const struct task_view *v, const char *text) {
    return memmem(v->output.data, v->output.len, text, strlen(text)) != NULL;
}

Test(exec, outcomes) {
    struct task_view v;
    open_with(NULL);
    RUN(&v, "", "true");
    cr_assert(v.state == TASK_DONE && v.cause == CAUSE_RESULT && v.output.len == 0 && !v.log.len);
    RUN(&v, "", "true");
    cr_assert_eq(v.state, TASK_DONE);
    RUN(&v, "", "/bin/echo", "two words", "*");
    expect_output(&v, "two words *\n");
    RUN(&v, "a payload", "cat");
    expect_output(&v, "a payload");
    RUN(&v, "", "cat");
    cr_assert(v.state == TASK_DONE && v.output.len == 0);
    RUN(&v, "never read", "true");
    cr_assert_eq(v.state, TASK_DONE);
    RUN(&v, "", "sh", "-c", "echo out; echo err >&2; exit 7");
    cr_assert(v.state == TASK_FAILED && v.cause == CAUSE_EXIT && v.code == 7);
    expect_output(&v, "out\n");
    cr_assert(v.log.len == 4 && memcmp(v.log.data, "err\n", 4) == 0);
    RUN(&v, "", "sh", "-c", "kill -USR1 $$");
    cr_assert(v.state == TASK_FAILED && v.cause == CAUSE_SIGNAL && v.signal == SIGUSR1 && !v.core);
    RUN(&v, "", "sh", "-c", "kill -PIPE $$");
    cr_assert(v.cause == CAUSE_SIGNAL && v.signal == SIGPIPE);
    /* a payload makes the worker ignore SIGPIPE meanwhile: not the command */
    RUN(&v, "x", "sh", "-c", "kill -PIPE $$");
    cr_assert(v.cause == CAUSE_SIGNAL && v.signal == SIGPIPE);
}

Test(exec, cannot_start) {
    struct task_view v;
    open_with(NULL);
    RUN(&v, "", "no-such-program-of-hearth");
    cr_assert(v.state == TASK_FAILED && v.cause == CAUSE_START && v.code == ENOENT,
              "state %u cause %u code %d", v.state, v.cause, v.code);
    cr_assert(output_has(&v, "no-such-program-of-hearth: No such file"));
    RUN(&v, "in", "/etc/passwd");
    cr_assert(v.cause == CAUSE_START && v.code == EACCES);
    RUN(&v, "", "");
    cr_assert(v.cause == CAUSE_START && v.code == ENOENT);
    cr_assert_eq(rig_run(&rig, 0, "x", 1, NULL, &v), 0);
    cr_assert(v.state == TASK_FAILED && v.cause == CAUSE_START && v.code == EINVAL);
    struct task_bytes nul = {"a\0b", 3};
    struct task_spec spec = {.pool = RIG_POOL, .args = &nul, .nargs = 1};
    struct task_ref t;
    cr_assert_eq(task_submit(&rig.s, &spec, &t), 0);
    task_wake(&rig.s, RIG_POOL, 1);
    cr_assert_eq(rig_result(&rig, &t, &v), 0);
    cr_assert(v.cause == CAUSE_START && v.code == EINVAL && output_has(&v, "NUL"));
    RUN(&v, "", "true");
    cr_assert_eq(v.state, TASK_DONE);
}

Test(exec, words_of_the_pool) {
    struct task_view v;
    open_with((const char *const[]){"--", "printf", "<%s>", NULL});
    RUN(&v, "", "a b", "$HOME", "");
    expect_output(&v, "<a b><$HOME><>");
    cr_assert_eq(rig_run(&rig, 0, "", 0, NULL, &v), 0);
    expect_output(&v, "<>");
}

Test(exec, environment) {
    struct task_view v;
    struct task_ref t;
    char text[128], id[TASK_ID_TEXT];
    setenv("HEARTH_TASK", "an older one", 1);
    setenv("OF_THE_POOL", "yes", 1);
    open_with(NULL);
    const char *const args[] = {
        "sh", "-c",
        "echo $HEARTH_TASK $HEARTH_POOL $HEARTH_ATTEMPT $OF_THE_POOL; env | grep -c HEARTH_TASK",
        NULL};
    cr_assert_eq(rig_submit(&rig, 0, 0, "", 0, args, &t), 0);
    cr_assert_eq(rig_result(&rig, &t, &v), 0);
    task_id_text(id, t.id, t.idx);
    snprintf(text, sizeof(text), "%s rig 1 yes\n1\n", id);
    expect_output(&v, text);
    /* nothing of ours but 0, 1 and 2 (3 is the directory being read) */
    RUN(&v, "", "ls", "-m", "/proc/self/fd");
    expect_output(&v, "0, 1, 2, 3\n");
    RUN(&v, "", "grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status");
    expect_output(&v, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

Test(exec, large) {
    struct task_view v;
    size_t len = 5 << 20;
    char *data = malloc(len);
    open_with(NULL);
    for (size_t i = 0; i < len; i++) {
        data[i] = (char)(i * 2654435761U >> 13);
    }
    for (int i = 0; i < 3; i++) {
        struct task_ref t;
        cr_assert_eq(rig_submit(&rig, 0, 0, data, len, (const char *const[]){"cat", NULL}, &t), 0);
        cr_assert_eq(rig_result(&rig, &t, &v), 0);
        cr_assert(v.state == TASK_DONE && v.output.len == len);
        cr_assert_eq(memcmp(v.output.data, data, len), 0);
        cr_assert_eq(task_free(&rig.s, t.idx, t.id), 0);
    }
    /* stdout full and stdin full at once, stderr too */
    cr_assert_eq(
        rig_run(&rig, 0, data, len, (const char *const[]){"sh", "-c", "tee /dev/stderr", NULL}, &v),
        0);
    cr_assert(v.state == TASK_DONE && v.output.len == len);
    cr_assert_eq(v.log.len, 65536);
    cr_assert_eq(memcmp(v.log.data, data + len - 65536, 65536), 0);
    /* a reader that has enough */
    cr_assert_eq(rig_run(&rig, 0, data, len, (const char *const[]){"head", "-c", "3", NULL}, &v),
                 0);
    cr_assert(v.state == TASK_DONE && v.output.len == 3);
    free(data);
}

Test(exec, max_output) {
    struct task_view v;
    open_with((const char *const[]){"--max-output", "10000", NULL});
    RUN(&v, "", "head", "-c", "10000", "/dev/zero");
    cr_assert(v.state == TASK_DONE && v.output.len == 10000);
    RUN(&v, "", "head", "-c", "10001", "/dev/zero");
    cr_assert(v.state == TASK_FAILED && v.cause == CAUSE_ERROR && v.code == EFBIG);
    cr_assert(output_has(&v, "larger than 10000 bytes"));
    RUN(&v, "", "cat", "/dev/zero");
    cr_assert(v.state == TASK_FAILED && v.cause == CAUSE_ERROR && v.code == EFBIG);
}

/* A task ends with its leader, and its group with it. */
Test(exec, relatives) {
    struct task_view v;
    open_with(NULL);
    uint64_t began = clock_now();
    RUN(&v, "", "sh", "-c", "sleep 300 & echo $!");
    cr_assert(v.state == TASK_DONE && v.output.len > 1);
    pid_t left = (pid_t)strtol(v.output.data, NULL, 10);
    cr_assert_gt(left, 1);
    /* one that left the group and holds stdout does not hold the task */
    RUN(&v, "", "setsid", "--fork", "sleep", "2");
    cr_assert_eq(v.state, TASK_DONE);
    cr_assert_lt(clock_now() - began, 1500 * NS_PER_MS);
    /* the subreaper is this process: the killed one is ours to reap, once it is dead */
    while (waitpid(left, NULL, 0) < 0 && errno == EINTR) {
    }
    cr_assert_eq(kill(left, 0), -1);
    /* a command that closes its outputs early is waited for all the same */
    RUN(&v, "", "sh", "-c", "exec >&- 2>&-; sleep 0.2; exit 3");
    cr_assert(v.cause == CAUSE_EXIT && v.code == 3);
}

/* Reads what the command has written so far by waiting for its group to be named in the slot. */
static pid_t group_of_worker(void) {
    struct slot_view v;
    uint64_t limit = clock_now() + 10 * NS_PER_SEC;
    do {
        slot_view(&rig.s, worker.slot, &v);
    } while (v.child == 0 && clock_now() < limit);
    return (pid_t)v.child;
}

Test(exec, cancelled) {
    struct task_view v;
    struct task_ref t;
    open_with(NULL);
    cr_assert_eq(rig_submit(&rig, 0, 0, "", 0, (const char *const[]){"sleep", "300", NULL}, &t), 0);
    pid_t group = group_of_worker();
    cr_assert_gt(group, 1);
    task_set_cancel(&rig.s, t.idx, t.id);
    kill(-group, SIGTERM);
    cr_assert_eq(rig_result(&rig, &t, &v), 0);
    cr_assert(v.state == TASK_CANCELLED && v.cause == CAUSE_CANCELLED);
    /* the same signal without a cancel is just a signal */
    cr_assert_eq(rig_submit(&rig, 0, 0, "", 0, (const char *const[]){"sleep", "300", NULL}, &t), 0);
    kill(-group_of_worker(), SIGTERM);
    cr_assert_eq(rig_result(&rig, &t, &v), 0);
    cr_assert(v.state == TASK_FAILED && v.cause == CAUSE_SIGNAL && v.signal == SIGTERM);
    /* one that puts things in order and then leaves */
    cr_assert_eq(
        rig_submit(&rig, 0, 0, "", 0,
                   (const char *const[]){
                       "sh", "-c", "trap 'echo tidy; exit 143' TERM; echo; sleep 300 & wait", NULL},
                   &t),
        0);
    group = group_of_worker();
    struct task_view running;
    do {
        cr_assert_eq(task_view(&rig.s, t.idx, &running), 0);
    } while (running.state != TASK_RUNNING);
    task_set_cancel(&rig.s, t.idx, t.id);
    while (kill(-group, SIGTERM) == 0 && rig_result(&rig, &t, &v) != 0) {
    }
    cr_assert_eq(v.state, TASK_CANCELLED);
}

/* Over its limit a command is sent the same signal, and the cancel word says that it is ours. */
Test(exec, over_its_limit) {
    struct task_view v;
    struct task_ref t;
    open_with(NULL);
    cr_assert_eq(rig_submit(&rig, 0, 20, "", 0, (const char *const[]){"sleep", "300", NULL}, &t),
                 0);
    pid_t group = group_of_worker();
    struct slot_view s;
    do {
        slot_view(&rig.s, worker.slot, &s);
    } while (s.deadline_ns > clock_now());
    task_set_cancel(&rig.s, t.idx, t.id);
    kill(-group, SIGTERM);
    cr_assert_eq(rig_result(&rig, &t, &v), 0);
    cr_assert(v.state == TASK_TIMEOUT && v.cause == CAUSE_TIMEOUT);
}

/* The worker killed in mid-command takes the command with it. */
Test(exec, worker_killed) {
    struct task_view v;
    struct task_ref t;
    open_with(NULL);
    cr_assert_eq(rig_submit(&rig, 0, 0, "", 0, (const char *const[]){"sleep", "300", NULL}, &t), 0);
    pid_t group = group_of_worker();
    kill(worker.pid, SIGKILL);
    int status = rig_bury(&rig, &worker);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    cr_assert_eq(rig_result(&rig, &t, &v), 0);
    cr_assert(v.state == TASK_LOST && v.signal == SIGKILL);
    cr_assert_eq(waitpid(group, &status, 0), group);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}
