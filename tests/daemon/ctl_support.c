/* SPDX-License-Identifier: MIT */
/* See ctl_support.h. Fails: the test that uses it. */
#include "tests/daemon/ctl_support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

struct daemon d;
struct child_output out;

void ctl_begin(void) {
    cr_assert_eq(daemon_start(&d, NULL), 0);
    cr_assert_eq(daemon_wait_ready(&d, 20000), 0, "%s", daemon_log(&d));
}

void ctl_end(void) {
    child_output_deinit(&out);
    cr_expect_eq(daemon_stop(&d), 0); /* before child_kill_all(), which would not spare it */
    child_kill_all();
}

int sh(const char *script) {
    char whole[8000], socket[200], dir[200], pid[40];
    snprintf(whole, sizeof(whole), "set -u; cd \"$DIR\"; hearth() { \"$HEARTH_CTL\" \"$@\"; }\n%s",
             script);
    snprintf(socket, sizeof(socket), "HEARTH_SOCKET=%s", d.socket);
    snprintf(dir, sizeof(dir), "DIR=%s", d.dir);
    snprintf(pid, sizeof(pid), "HEARTHD_PID=%d", (int)d.pid);
    const char *argv[] = {"bash", "-c", whole, NULL};
    const char *env[] = {socket, dir, pid, NULL};
    child_output_deinit(&out);
    cr_assert_eq(child_run(argv, env, NULL, 0, &out), 0);
    return out.status;
}

void expect(const char *script, int status, const char *text, const char *err) {
    int got = sh(script);
    cr_expect_eq(got, status, "%s\nexit status %d, not %d: %s", script, got, status,
                 buf_head(&out.err));
    cr_expect_str_eq(buf_head(&out.out), text, "%s\nstandard output: %s", script,
                     buf_head(&out.out));
    cr_expect(strstr(buf_head(&out.err), err), "%s\nstandard error: %s", script,
              buf_head(&out.err));
}
