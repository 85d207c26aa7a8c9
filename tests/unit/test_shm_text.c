/* SPDX-License-Identifier: MIT */
/* Tasks in words, and arguments as bytes: pure functions, also given what no honest process
 * would write. */
#include "lib/shm/task.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "lib/base/cleanup.h"

TestSuite(shm_text, .timeout = 10);

static int first_bad_arg(const void *bytes, size_t len) {
    struct task_view v = {.nargs = 100, .args_raw = {bytes, len}};
    struct task_bytes a;
    size_t at = 0;
    int r;
    do {
        r = task_arg(&v, &at, &a);
    } while (r == 0);
    return r;
}

Test(shm_text, arguments_of_hostile_bytes) {
    cr_expect_eq(first_bad_arg("", 0), -ENOENT);
    cr_expect_eq(first_bad_arg("\0\0\0\0\0", 5), -ENOENT);
    cr_expect_eq(first_bad_arg("\2\0\0\0ab\0", 7), -ENOENT);
    cr_expect_eq(first_bad_arg("\2\0\0\0abc", 7), -EBADMSG, "no NUL");
    cr_expect_eq(first_bad_arg("\3\0\0\0ab\0", 7), -EBADMSG, "longer than what is there");
    cr_expect_eq(first_bad_arg("\377\377\377\377ab\0", 7), -EBADMSG);
    cr_expect_eq(first_bad_arg("\373\377\377\377ab\0", 7), -EBADMSG);
    cr_expect_eq(first_bad_arg("\0\0\0\0", 4), -EBADMSG, "cut off");
    cr_expect_eq(first_bad_arg("\0", 1), -EBADMSG);
    cr_expect_eq(first_bad_arg("\0\0\0\0\0\1", 6), -EBADMSG);
}

Test(shm_text, ids_as_text) {
    static const struct {
        uint64_t id;
        uint32_t idx;
        const char *text;
    } good[] = {{0, 0, "0-0"},
                {1, 15, "1-f"},
                {0x18f3a2b4c5d, 0x10, "18f3a2b4c5d-10"},
                {UINT64_MAX, UINT32_MAX, "ffffffffffffffff-ffffffff"}};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        char text[TASK_ID_TEXT];
        uint64_t id;
        uint32_t idx;
        cr_expect_eq(task_id_text(text, good[i].id, good[i].idx), strlen(good[i].text));
        cr_expect_str_eq(text, good[i].text);
        cr_assert_eq(task_id_parse(text, strlen(text), &id, &idx), 0);
        cr_expect(id == good[i].id && idx == good[i].idx);
    }
    static const char *const bad[] = {"",
                                      "-",
                                      "1",
                                      "1-",
                                      "-1",
                                      "01-1",
                                      "1-01",
                                      "A-1",
                                      "1-G",
                                      "1-1 ",
                                      " 1-1",
                                      "1--1",
                                      "1-1-1",
                                      "+1-1",
                                      "0x1-1",
                                      "1-100000000",
                                      "10000000000000000-1",
                                      "1_1",
                                      "1.1",
                                      "g-0"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        uint64_t id = 7;
        uint32_t idx = 7;
        cr_expect_eq(task_id_parse(bad[i], strlen(bad[i]), &id, &idx), -EINVAL, "%s", bad[i]);
        cr_expect(id == 7 && idx == 7);
    }
}

Test(shm_text, causes_as_text) {
    static const struct {
        struct task_view v;
        const char *text;
    } cases[] = {
        {{.cause = CAUSE_NONE}, "none"},
        {{.cause = CAUSE_RESULT}, "result"},
        {{.cause = CAUSE_ERROR, .code = 3}, "error 3"},
        {{.cause = CAUSE_ERROR, .code = INT32_MIN}, "error -2147483648"},
        {{.cause = CAUSE_SIGNAL, .signal = SIGSEGV, .core = 1}, "signal 11 (SIGSEGV), core dumped"},
        {{.cause = CAUSE_SIGNAL, .signal = SIGKILL}, "signal 9 (SIGKILL)"},
        {{.cause = CAUSE_SIGNAL, .signal = 200}, "signal 200 (?)"},
        {{.cause = CAUSE_EXIT, .code = 2}, "exit status 2"},
        {{.cause = CAUSE_TIMEOUT, .timeout_ms = 500}, "time limit of 500 ms"},
        {{.cause = CAUSE_CANCELLED}, "cancelled"},
        {{.cause = CAUSE_STOPPING}, "daemon stopping"},
        {{.cause = CAUSE_EXPIRED}, "not begun in time"},
        {{.cause = CAUSE_DEADLINE}, "not ended by its deadline"},
        {{.cause = CAUSE_HANGUP}, "the connection of its worker ended"},
        {{.cause = CAUSE_SOFT}, "ended at its soft time limit"},
        {{.cause = CAUSE_MEMORY, .code = 65536}, "memory limit of 64 MiB"},
        {{.cause = CAUSE_MEMORY, .code = 1000}, "memory limit of 1000 KiB"},
        {{.cause = CAUSE_MEMORY}, "killed by the kernel: out of memory"},
        {{.cause = CAUSE_START, .code = ENOENT}, "could not start: No such file or directory"},
        {{.cause = CAUSE_START, .code = -77}, "could not start: ?"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char text[96];
        task_cause_text(&cases[i].v, text);
        cr_expect_str_eq(text, cases[i].text);
    }
    for (int i = 0; i < TASK_STATES; i++) {
        cr_expect_not_null(task_state_names[i]);
    }
    for (int i = 0; i < TASK_CAUSES; i++) {
        cr_expect_not_null(task_cause_names[i]);
    }
}
