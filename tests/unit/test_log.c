/* SPDX-License-Identifier: MIT */
/* The log's lines: form, fields, escaping, cutting; what the level lets through; the ids of the
 * journal. */
#include "daemon/log.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(log, .timeout = 30);

/* The line without "hearthd[PID]: " and its newline. */
static const char *line(char *out, size_t n, enum log_level level, const struct log_fields *fields,
                        const char *text) {
    char head[40];
    size_t len = log_format(out, n, level, fields, text);
    cr_assert_eq(len, strlen(out));
    cr_assert_lt(len, n);
    cr_assert_eq(out[len - 1], '\n');
    cr_assert_eq(strchr(out, '\n'), out + len - 1, "two lines: %s", out);
    out[len - 1] = '\0';
    snprintf(head, sizeof(head), "hearthd[%d]: ", (int)getpid());
    cr_assert_eq(strncmp(out, head, strlen(head)), 0);
    return out + strlen(head);
}

Test(log, a_line_has_level_text_and_fields) {
    char out[400];
    cr_assert_str_eq(line(out, sizeof(out), LOG_LEVEL_INFO, NULL, "hello"), "info: hello");
    cr_assert_str_eq(
        line(out, sizeof(out), LOG_LEVEL_ERR, LOG_ABOUT(.message = MESSAGE_READY), "x"), "err: x");
    cr_assert_str_eq(line(out, sizeof(out), LOG_LEVEL_WARNING,
                          LOG_ABOUT(.pool = "text", .task = "1a-2", .worker = 77), "died"),
                     "warning: died (pool=text task=1a-2 worker=77)");
    cr_assert_str_eq(line(out, sizeof(out), LOG_LEVEL_DEBUG, LOG_ABOUT(.worker = 7), "x"),
                     "debug: x (worker=7)");
    cr_assert_str_eq(
        line(out, sizeof(out), LOG_LEVEL_NOTICE, LOG_ABOUT(.pool = "p", .worker = 7), "x"),
        "notice: x (pool=p worker=7)");
}

Test(log, nothing_in_the_text_can_make_a_line) {
    char out[400];
    cr_assert_str_eq(
        line(out, sizeof(out), LOG_LEVEL_INFO, LOG_ABOUT(.task = "a\nb"),
             "a\r\nhearthd[1]: err: \x1b[31mforged\x7f \xc3\xa9"),
        "info: a\\x0d\\x0ahearthd[1]: err: \\x1b[31mforged\\x7f \xc3\xa9 (task=a\\x0ab)");
}

Test(log, a_long_text_is_cut_and_keeps_its_fields) {
    char out[120], text[500];
    for (size_t n = 0; n < sizeof(text); n++) {
        memset(text, n % 2 ? '\n' : 'x', n);
        text[n] = '\0';
        const char *got = line(out, sizeof(out), LOG_LEVEL_INFO, LOG_ABOUT(.pool = "p"), text);
        cr_assert_str_eq(got + strlen(got) - strlen(" (pool=p)"), " (pool=p)");
    }
}

/* What is written to stderr between the calls. */
static void capture(int fds[2], int *saved) {
    cr_assert_eq(pipe(fds), 0);
    *saved = dup(2);
    dup2(fds[1], 2);
    close(fds[1]);
}

Test(log, the_level_decides) {
    int fds[2], saved;
    char got[4096];
    unsetenv("JOURNAL_STREAM");
    capture(fds, &saved);
    log_open(LOG_LEVEL_NOTICE);
    log_err(NULL, "one %d", 1);
    log_warn(LOG_ABOUT(.pool = "p"), "two");
    log_notice(NULL, "three");
    log_info(NULL, "four");
    log_debug(NULL, "five");
    dup2(saved, 2);
    ssize_t n = read(fds[0], got, sizeof(got) - 1);
    cr_assert_gt(n, 0);
    got[n] = '\0';
    close(fds[0]);
    close(saved);
    cr_assert(strstr(got, "err: one 1\n"));
    cr_assert(strstr(got, "warning: two (pool=p)\n"));
    cr_assert(strstr(got, "notice: three\n"));
    cr_assert_null(strstr(got, "four"));
    cr_assert_null(strstr(got, "five"));
    cr_assert(log_wants(LOG_LEVEL_NOTICE) && !log_wants(LOG_LEVEL_INFO));
}

/* A reader that does not read must not stop us; what it missed is counted when it reads again. */
Test(log, a_full_pipe_drops_lines_and_says_so) {
    int fds[2], saved;
    static char text[3000], got[1 << 20];
    memset(text, 'x', sizeof(text) - 1);
    unsetenv("JOURNAL_STREAM");
    capture(fds, &saved);
    log_open(LOG_LEVEL_INFO);
    for (int i = 0; i < 40; i++) { /* a pipe holds 64 KiB */
        log_info(NULL, "%s", text);
    }
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    size_t n = 0;
    for (ssize_t k; (k = read(fds[0], got + n, sizeof(got) - n)) > 0; n += (size_t)k) {
    }
    unsigned lines = 0, dropped = 0;
    for (size_t i = 0; i < n; i++) {
        lines += got[i] == '\n';
    }
    cr_assert_lt(lines, 40);
    log_info(NULL, "last");
    dup2(saved, 2);
    ssize_t k = read(fds[0], got, sizeof(got) - 1);
    cr_assert_gt(k, 0);
    got[k] = '\0';
    close(fds[0]);
    close(saved);
    const char *said = strstr(got, "warning: ");
    cr_assert_not_null(said);
    cr_assert_eq(sscanf(said, "warning: %u lines", &dropped), 1);
    cr_assert_eq(lines + dropped, 40);
    cr_assert(strstr(said, "info: last\n"));
}

/* A stale $JOURNAL_STREAM must not send the log away from where stderr leads now. */
Test(log, a_journal_stream_that_is_not_our_stderr_is_ignored) {
    int fds[2], saved;
    char got[400] = "";
    setenv("JOURNAL_STREAM", "1:1", 1);
    capture(fds, &saved);
    log_open(LOG_LEVEL_INFO);
    log_info(NULL, "here");
    dup2(saved, 2);
    cr_assert_gt(read(fds[0], got, sizeof(got) - 1), 0);
    close(fds[0]);
    close(saved);
    cr_assert(strstr(got, "info: here\n"));
}

Test(log, message_ids_are_ids_and_all_different) {
    cr_assert_null(log_message_ids[MESSAGE_NONE]);
    for (int i = 1; i < MESSAGES; i++) {
        cr_assert_eq(strlen(log_message_ids[i]), 32);
        cr_assert_eq(strspn(log_message_ids[i], "0123456789abcdef"), 32);
        cr_assert_gt(strlen(log_message_docs[i]), 10);
        for (int j = 1; j < i; j++) {
            cr_assert_str_neq(log_message_ids[i], log_message_ids[j]);
        }
    }
}
