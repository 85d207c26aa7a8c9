/* SPDX-License-Identifier: MIT */
/* The tests' own tools: what they promise is what the other tests lean on, above all that a hanging
 * child is ended and that a reply is shown exactly. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/child.h"
#include "tests/support/tmp.h"
#include "tests/support/wire.h"

TestSuite(support, .timeout = 30, .fini = child_kill_all);

static int answer(void *arg) {
    return *(int *)arg;
}

static int hang(void *arg) {
    (void)arg;
    while (pause() < 0) {
    }
    return 0;
}

Test(support, child_reports_by_exit_status) {
    int n = 42;
    pid_t pid = child_start(answer, &n);
    cr_assert(pid > 0);
    cr_assert(child_is_known(pid));
    cr_assert_eq(child_wait(pid), 42);
    cr_assert_not(child_is_known(pid));
}

Test(support, child_that_hangs_times_out_and_is_killed) {
    pid_t pid = child_start(hang, NULL);
    cr_assert_eq(child_wait_ms(pid, 20), -ETIMEDOUT);
    child_kill(pid);
    cr_assert_eq(kill(pid, 0), -1);
    cr_assert_eq(errno, ESRCH);
}

Test(support, child_run_gives_output_and_signal) {
    const char *const argv[] = {"sh", "-c", "cat; echo \"$WORD\" >&2; kill -9 $$", NULL};
    const char *const env[] = {"WORD=from env", NULL};
    struct child_output o;
    cr_assert_eq(child_run(argv, env, "given", 5, &o), 0);
    cr_assert_eq(o.status, CHILD_SIGNALLED + SIGKILL);
    cr_assert_str_eq(buf_head(&o.out), "given");
    cr_assert_str_eq(buf_head(&o.err), "from env\n");
    child_output_deinit(&o);
}

Test(support, child_run_shows_a_failed_exec) {
    const char *const argv[] = {"/nonexistent/program", NULL};
    struct child_output o;
    cr_assert_eq(child_run(argv, NULL, NULL, 0, &o), 0);
    cr_assert_eq(o.status, 127);
    child_output_deinit(&o);
}

Test(support, tmp_is_private_and_removed_whole) {
    char dir[TMP_PATH], below[TMP_PATH + 8];
    cr_assert_eq(tmp_dir(dir), 0);
    struct stat st;
    cr_assert_eq(stat(dir, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0700);
    snprintf(below, sizeof(below), "%s/a", dir);
    cr_assert_eq(mkdir(below, 0700), 0);
    cr_assert_eq(tmp_write(below, "f", "text", 4), 0);
    cr_assert_eq(tmp_remove(dir), 0);
    cr_assert_eq(stat(dir, &st), -1);
    cr_assert_eq(tmp_remove(dir), 0, "removing what is gone is no error");
}

static void feed(int fd, struct wire *w, const char *text, size_t len) {
    cr_assert_eq(write(fd, text, len), (ssize_t)len);
    cr_assert_eq(wire_read(w, 1000), 0);
}

Test(support, wire_shows_every_kind_of_value) {
    int s[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    struct wire w = {.fd = s[0]};
#define FEED(text) feed(s[1], &w, text, sizeof(text) - 1)
    FEED("%2\r\n+a\r\n:1\r\n$4\r\nb\"\n\x01\r\n*2\r\n$-1\r\n#t\r\n");
    cr_assert_str_eq(wire_show(&w), "{+a :1 \"b\\\"\\n\\x01\" [nil #1]}");
    cr_assert_str_eq(wire_show_at(&w, wire_find(&w, 0, "a")), ":1");
    cr_assert_eq(wire_find(&w, 0, "none"), 0);
    FEED("-ERR no\r\n");
    cr_assert_str_eq(wire_show(&w), "-ERR no");
    FEED(">2\r\n$1\r\na\r\n,1.5\r\n");
    cr_assert_str_eq(wire_show(&w), ">[\"a\" ,1.5]");
    FEED("~1\r\n:-7\r\n");
    cr_assert_str_eq(wire_show(&w), "~[:-7]");
#undef FEED
    close(s[1]);
    wire_close(&w);
}

Test(support, wire_keeps_its_time_limit_and_sees_the_end) {
    int s[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    struct wire w = {.fd = s[0]};
    cr_assert_eq(write(s[1], "*2\r\n:1\r\n", 8), 8);
    cr_assert_eq(wire_read(&w, 20), -ETIMEDOUT, "half a message");
    cr_assert_eq(write(s[1], ":2\r\n", 4), 4);
    cr_assert_eq(wire_read(&w, 1000), 0, "the rest");
    cr_assert_str_eq(wire_show(&w), "[:1 :2]");
    close(s[1]);
    cr_assert_eq(wire_read(&w, 1000), -EPIPE);
    wire_close(&w);
}
