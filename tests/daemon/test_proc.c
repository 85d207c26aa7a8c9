/* SPDX-License-Identifier: MIT */
/* Processes that the daemon starts for clients: real ones. How they end, what they write, descriptors that are passed, signals for
 * the whole tree with those who have run away, restarts, limits, and the ends of the starter and the daemon. Readiness
 * is told by the processes themselves, on a pipe that is passed to them. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/num.h"
#include "tests/daemon/serve_support.h"

enum { LINE = 256, GONE_MS = 5000 };

static struct wire w, other;
static int ends[2] = {-1, -1}; /* of the pipe that processes write to */

static void begin_with(const char *config) {
    struct rlimit core = {0, 0};
    setrlimit(RLIMIT_CORE, &core);
    serve_begin(config);
    serve_connect(&w);
    serve_connect(&other);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
}

static void begin(void) {
    begin_with("limits = { process_output = \"4K\"; };\n");
}

static void close_ends(void) {
    for (int i = 0; i < 2; i++) {
        if (ends[i] >= 0) {
            close(ends[i]);
            ends[i] = -1;
        }
    }
}

static void end(void) {
    wire_close(&w);
    wire_close(&other);
    close_ends();
    serve_end();
}

TestSuite(proc, .timeout = 120, .init = begin, .fini = end);
/* With a configuration of its own: a suite's init runs beside that of a test, not in place of it. */
TestSuite(proc_own, .timeout = 120, .fini = end);

/* A command with descriptors. */
static void send_with(struct wire *to, const int *fds, size_t n, const char *const *words) {
    struct buf b = BUF_INIT;
    size_t count = 0;
    while (words[count]) {
        count++;
    }
    cr_assert_eq(buf_printf(&b, "*%zu\r\n", count), 0);
    for (size_t i = 0; i < count; i++) {
        cr_assert_eq(buf_printf(&b, "$%zu\r\n%s\r\n", strlen(words[i]), words[i]), 0);
    }
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(16 * sizeof(int))];
    } control = {0};
    struct iovec iov = {(char *)(uintptr_t)buf_head(&b), buf_len(&b)};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = CMSG_SPACE(n * sizeof(int))};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(n * sizeof(int));
    memcpy(CMSG_DATA(h), fds, n * sizeof(int));
    cr_assert_eq(sendmsg(to->fd, &m, 0), (ssize_t)iov.iov_len);
    buf_deinit(&b);
}

/* The same, and the reply. */
static const char *ask_with(struct wire *to, const int *fds, size_t n, const char *const *words) {
    send_with(to, fds, n, words);
    return hear(to);
}

/* A shell with this script whose stdout is our pipe. */
static void start_telling(struct wire *to, const char *name, const char *script) {
    expect(to, "+OK", "PROC.PASS");
    const char *const words[] = {"PROC.START", "NAME",    name, "FD", "1",    "STOP",
                                 "60000",      "COMMAND", "sh", "-c", script, NULL};
    cr_assert(like("[\"id\" * \"pid\" :*]", ask_with(to, &ends[1], 1, words)), "%s", wire_show(to));
}

/* The next line that a process says; "" at the end of the pipe. */
static const char *heard(void) {
    static char line[LINE];
    size_t n = 0;
    struct pollfd p = {.fd = ends[0], .events = POLLIN};
    do {
        cr_assert_eq(poll(&p, 1, 10000), 1, "nothing is said");
    } while (read(ends[0], line + n, 1) == 1 && line[n++] != '\n' && n < sizeof(line) - 1);
    line[n && line[n - 1] == '\n' ? n - 1 : n] = '\0';
    return line;
}

/* Closed by all others: who had it as its stdout is gone. */
static void expect_all_gone(void) {
    close(ends[1]);
    ends[1] = -1;
    cr_assert_str_eq(heard(), "");
}

static pid_t heard_pid(void) {
    const char *line = heard();
    uint64_t pid;
    cr_assert_eq(num_u64(line, strlen(line), &pid), 0, "%s", line);
    return (pid_t)pid;
}

Test(proc, how_they_end) {
    expect(&w, "[\"id\" \"*\" \"pid\" :*]", "PROC.START NAME a COMMAND sh -c 'exit 3'");
    expect(
        &w,
        "[\"id\" * \"name\" \"a\" \"state\" \"ended\" \"pid\" :0 \"ppid\" :0 *\"command\" \"sh -c "
        "exit "
        "3\" \"directory\" \"/\" *\"runs\" :1 \"restart\" \"never\" *\"cause\" \"exit status 3\" "
        "\"exit_status\" :3 \"signal\" :0 \"core\" :0 \"user_us\" :*",
        "PROC.WAIT a");
    expect(&w, "[*", "PROC.START NAME b COMMAND sh -c 'kill -SEGV $$'");
    expect(&w, "*\"cause\" \"signal 11 (SIGSEGV)\" \"exit_status\" :-1 \"signal\" :11 \"core\" :0*",
           "PROC.WAIT b");
    expect(&w, "*\"cause\" \"exit status 3\"*", "PROC.WAIT a"); /* again */
    expect(&w, "-NOPROC there is no such process", "PROC.WAIT c");
    expect(&w, "+OK", "PROC.REMOVE a");
    expect(&w, "-NOPROC *", "PROC.INFO a");
    expect(&w, "[*", "PROC.START NAME c COMMAND sleep 1000");
    expect(&w, "-RUNNING it has not ended", "PROC.REMOVE c");
    expect(&w, "-EXISTS process * has that name", "PROC.START NAME c COMMAND true");
    expect(&w, "nil", "PROC.WAIT c TIMEOUT 20");
    expect(&w, "nil", "PROC.WAIT c TIMEOUT 0");
    tell(&other, "PROC.WAIT c");
    expect(&w, ":1", "PROC.SIGNAL c KILL");
    expect_next(&other, "*\"cause\" \"signal 9 (SIGKILL)\"*");
    expect(&w, ":0", "PROC.SIGNAL c KILL");
    expect(&w, "[[*\"name\" \"b\"*] [*\"name\" \"c\"*]]", "PROC.LIST");
    expect(&w, "[*", "PROC.START NAME c COMMAND true"); /* the name is free again */
    expect(&w, "*\"exit_status\" :0*", "PROC.WAIT c");
}

Test(proc, words_that_are_refused) {
    expect(&w, "-ERR it cannot be started: nonesuch: No such file or directory",
           "PROC.START COMMAND nonesuch");
    expect(&w, "-ERR it cannot be started: /etc/passwd: Permission denied",
           "PROC.START COMMAND /etc/passwd");
    expect(&w, "-ERR it cannot be started: working_directory: *",
           "PROC.START DIR /nonesuch COMMAND true");
    expect(&w, "-ERR DIR takes an absolute path", "PROC.START DIR tmp COMMAND true");
    expect(&w, "-ERR syntax error", "PROC.START COMMAND ''");
    expect(&w, "-ERR syntax error", "PROC.START OWNED COMMAND");
    expect(&w, "-ERR syntax error", "PROC.START SOMETHING COMMAND true");
    expect(&w, "-ERR a name has *", "PROC.START NAME 1a COMMAND true");
    expect(&w, "-ERR a name has *", "PROC.START NAME a/b COMMAND true");
    expect(&w, "-ERR ENV takes NAME=value", "PROC.START ENV =x COMMAND true");
    expect(&w, "-ERR value is not *", "PROC.START BACKOFF -1 COMMAND true");
    expect(&w, "-ERR value is not *", "PROC.START MAX 3 COMMAND true");
    expect(&w, "-ERR value is not *", "PROC.START FD 3 COMMAND true");
    expect(&w, "-ERR RESTART is *", "PROC.START RESTART sometimes COMMAND true");
    expect(&w, "-ERR PROC.PASS comes before *", "PROC.START FD 1 COMMAND true");
    expect(&w, "+OK", "PROC.PASS");
    expect(&w, "-ERR a descriptor was not sent along", "PROC.START FD 1 COMMAND true");
    expect(&w, "-ERR a descriptor is named twice", "PROC.START NULL 1 NULL 1 COMMAND true");
    expect(&w, "-ERR there is no such signal", "PROC.SIGNAL x NONE");
    expect(&w, "[]", "PROC.LIST");
}

Test(proc, what_it_is_started_with) {
    expect(&w, "[*",
           "PROC.START NAME a DIR /tmp ENV A=1 ENV PATH=/usr/bin:/bin:/x COMMAND sh -c "
           "'pwd; echo $A $PATH; ls /proc/self/fd | wc -l; cat; ps -o pid=,pgid=,sid= $$ | "
           "xargs -n1 | sort -u | wc -l; test $HEARTH_PROC_RUN = 1 && echo run 1'");
    expect(&w, "*\"exit_status\" :0*", "PROC.WAIT a");
    /* 0, 1, 2 and ls's own; it leads its group and session */
    expect(&w, "[:0 \"/tmp\\n1 /usr/bin:/bin:/x\\n4\\n1\\nrun 1\\n\" :1]", "PROC.LOG a");
}

Test(proc, output_is_bounded) {
    expect(&w, "[*", "PROC.START NAME a COMMAND sh -c 'seq 1 200000; echo the end >&2'");
    expect(&w, "*\"written\" :1288903*", "PROC.WAIT a");
    expect(&w, "[:1284807 \"*199999\\n200000\\nthe end\\n\" :1]", "PROC.LOG a");
    expect(&w, "[:1288895 \"the end\\n\" :1]", "PROC.LOG a FROM 1288895");
    expect(&w, "[:1288903 \"\" :1]", "PROC.LOG a FROM 9999999");
    cr_assert_lt(resident(), 60 << 20);
}

Test(proc, descriptors_are_passed) {
    int in[2];
    cr_assert_eq(pipe2(in, O_CLOEXEC), 0);
    expect(&w, "+OK", "PROC.PASS");
    const char *const words[] = {"PROC.START",
                                 "NAME",
                                 "cat",
                                 "FD",
                                 "1",
                                 "FD",
                                 "0",
                                 "COMMAND",
                                 "sh",
                                 "-c",
                                 "cat; echo to the log >&2",
                                 NULL};
    const int fds[] = {ends[1], in[0]};
    cr_assert(like("[*", ask_with(&w, fds, 2, words)));
    close(in[0]);
    cr_assert_eq(write(in[1], "one\ntwo\n", 8), 8);
    cr_assert_str_eq(heard(), "one");
    cr_assert_str_eq(heard(), "two");
    close(in[1]);
    expect(&w, "*\"exit_status\" :0*", "PROC.WAIT cat");
    expect(&w, "[:0 \"to the log\\n\" :1]", "PROC.LOG cat");
    expect_all_gone(); /* the daemon has kept none */
}

Test(proc, more_descriptors_than_are_named) {
    int many[13];
    for (int i = 0; i < 13; i++) {
        many[i] = ends[1];
    }
    expect(&w, "+OK", "PROC.PASS");
    const char *const ping[] = {"PING", NULL};
    cr_assert_str_eq(ask_with(&w, many, 12, ping), "+PONG");
    send_with(&w, many, 1, ping);
    expect_closed(&w);
    expect_all_gone();
}

/* The shell, one of its group, one that has left it, one whose parent has ended. */
static const char tree_of_four[] = "sh -c 'echo $$; exec sleep 1000' & "
                                   "setsid sh -c 'trap \"\" HUP; echo $$; (setsid sh -c \"echo "
                                   "\\$\\$; exec sleep 1000\" &); exec sleep 1000' & "
                                   "echo $$; wait";

static void expect_dead(const pid_t *pids, int n) {
    uint64_t until = clock_now() + GONE_MS * NS_PER_MS;
    for (int i = 0; i < n; i++) {
        while (kill(pids[i], 0) == 0 && clock_now() < until) {
            sched_yield();
        }
        cr_assert_eq(kill(pids[i], 0), -1, "%d lives", (int)pids[i]);
    }
}

Test(proc, a_signal_reaches_the_whole_tree) {
    pid_t pids[4];
    for (int way = 0; way < 2; way++) {
        start_telling(&w, "tree", tree_of_four);
        for (int i = 0; i < 4; i++) {
            pids[i] = heard_pid();
        }
        expect(&w, ":1", "PROC.SIGNAL tree %s", way ? "KILL" : "TERMINATE");
        expect(&w, way ? "*\"signal\" :9*" : "*\"signal\" :15*", "PROC.WAIT tree");
        expect_dead(pids, 4);
    }
    expect_all_gone();
}

Test(proc, what_is_left_behind_is_killed) {
    pid_t pids[4];
    start_telling(&w, "tree", tree_of_four);
    for (int i = 0; i < 4; i++) {
        pids[i] = heard_pid();
    }
    expect(&w, ":1", "PROC.SIGNAL tree 9 ALONE");
    expect(&w, "*\"signal\" :9*", "PROC.WAIT tree");
    expect_dead(pids, 4);
    expect_all_gone();
}

Test(proc, any_signal_and_then_no_restart) {
    start_telling(&w, "a",
                  "trap 'echo hup' HUP; trap 'echo term; exit 5' TERM; echo ready; while :; do "
                  "sleep 1000 & wait; done");
    cr_assert_str_eq(heard(), "ready");
    expect(&w, ":1", "PROC.SIGNAL a sighup ALONE");
    cr_assert_str_eq(heard(), "hup");
    expect(&w, ":1", "PROC.SIGNAL a TERMINATE");
    cr_assert_str_eq(heard(), "term");
    expect(&w, "*\"cause\" \"exit status 5\"*", "PROC.WAIT a");
    expect_all_gone();
}

Test(proc, killed_when_it_does_not_end_in_time) {
    expect(&w, "[*",
           "PROC.START NAME a STOP 50 COMMAND sh -c 'trap \"\" TERM; echo; while :; do sleep 1; "
           "done'");
    while (!like("[:0 \"\\n\" :0]", ask(&w, "PROC.LOG a"))) {
    }
    expect(&w, ":1", "PROC.SIGNAL a TERMINATE");
    expect(&w, "*\"state\" \"stopping\"*", "PROC.INFO a");
    expect(&w, "*\"cause\" \"signal 9 (SIGKILL)\"*", "PROC.WAIT a");
}

Test(proc, restarts) {
    expect(&w, "[*",
           "PROC.START NAME a RESTART always BACKOFF 1 MAX 5 60000 COMMAND sh -c 'echo run'");
    expect(&w, "*\"runs\" :6 *\"cause\" \"exit status 0; restarted too often\"*", "PROC.WAIT a");
    expect(&w, "[:0 \"run\\nrun\\nrun\\nrun\\nrun\\nrun\\n\" :1]", "PROC.LOG a");
    expect(
        &w, "[*",
        "PROC.START NAME b RESTART on-failure BACKOFF 1 COMMAND sh -c 'test $HEARTH_PROC_RUN = 4'");
    expect(&w, "*\"runs\" :4 *\"cause\" \"exit status 0\"*", "PROC.WAIT b");
    /* doubled: 20, 40, 80 */
    uint64_t began = clock_now();
    expect(&w, "[*",
           "PROC.START NAME c RESTART on-failure BACKOFF 20 COMMAND sh -c 'test $HEARTH_PROC_RUN = "
           "4'");
    expect(&w, "*\"runs\" :4*", "PROC.WAIT c");
    cr_assert_geq(clock_now() - began, 140 * NS_PER_MS);
    /* told to end while it pauses */
    expect(&w, "[*", "PROC.START NAME d RESTART always BACKOFF 60000 COMMAND true");
    while (
        !like("*\"state\" \"pausing\" \"pid\" :0*\"pause_ms\" :60000*", ask(&w, "PROC.INFO d"))) {
    }
    expect(&w, ":1", "PROC.SIGNAL d TERMINATE");
    expect(&w, "*\"state\" \"ended\"*\"cause\" \"exit status 0\"*", "PROC.WAIT d");
    expect(&w, "*\"proc.restarting\"*", "EVENTS.READ TYPE proc");
}

Test(proc, killed_from_outside_it_is_started_again) {
    start_telling(&w, "x", "true");
    expect(&w, "*", "PROC.WAIT x");
    const char *const words[] = {"PROC.START",
                                 "NAME",
                                 "a",
                                 "FD",
                                 "1",
                                 "RESTART",
                                 "always",
                                 "BACKOFF",
                                 "1",
                                 "COMMAND",
                                 "sh",
                                 "-c",
                                 "echo $$; exec sleep 1000",
                                 NULL};
    cr_assert(like("[*", ask_with(&w, &ends[1], 1, words)));
    pid_t first = heard_pid();
    cr_assert_eq(kill(first, SIGKILL), 0);
    pid_t second = heard_pid();
    cr_assert_neq(first, second);
    expect(&w, "*\"state\" \"running\" \"pid\" :*\"runs\" :2*\"cause\" \"signal 9 (SIGKILL)\"*",
           "PROC.INFO a");
    expect(&w, ":1", "PROC.SIGNAL a KILL");
    expect(&w, "*\"runs\" :2*", "PROC.WAIT a");
    expect_all_gone();
}

Test(proc, ends_with_its_connection) {
    expect(&other, "[*", "PROC.START NAME mine OWNED COMMAND sleep 1000");
    expect(&other, "[*", "PROC.START NAME other COMMAND sleep 1000");
    tell(&w, "PROC.WAIT mine");
    wire_close(&other);
    expect_next(&w, "*\"cause\" \"signal 15 (SIGTERM)\"*");
    expect(&w, "*\"state\" \"running\"*", "PROC.INFO other");
}

Test(proc, the_daemon_is_killed) {
    start_telling(&w, "a", "echo $$; exec sleep 1000");
    heard_pid();
    daemon_kill(&server);
    expect_all_gone();
    wire_close(&w);
    wire_close(&other);
    cr_assert_eq(daemon_restart(&server), 0);
    serve_connect(&w);
    expect(&w, "[]", "PROC.LIST");
}

Test(proc, the_daemon_stops) {
    start_telling(&w, "a",
                  "trap 'echo term; exit 0' TERM; echo ready; while :; do sleep 1000 & wait; done");
    cr_assert_str_eq(heard(), "ready");
    kill(server.pid, SIGTERM);
    cr_assert_str_eq(heard(), "term");
    expect_all_gone();
}

/* Waits until the process of this name runs for the n-th time. */
static void expect_runs(const char *name, int n) {
    char pattern[64];
    snprintf(pattern, sizeof(pattern), "*\"state\" \"running\"*\"runs\" :%d *", n);
    uint64_t until = clock_now() + GONE_MS * NS_PER_MS;
    while (!like(pattern, ask(&w, "PROC.INFO %s", name))) {
        cr_assert_lt(clock_now(), until, "%s", wire_show(&w));
    }
}

static void reload_with(const char *processes, const char *pattern) {
    char text[1024];
    int n = snprintf(text, sizeof(text), "processes = ( %s );\n", processes);
    cr_assert_eq(tmp_write(server.dir, strrchr(server.config, '/') + 1, text, (size_t)n), 0);
    expect(&w, pattern, "CONFIG RELOAD");
}

Test(proc_own, those_of_the_configuration) {
    begin_with("processes = (\n"
               "  { name = \"a\"; command = [ \"sleep\", \"1000\" ]; backoff = 0.001; },\n"
               "  { name = \"b\"; command = [ \"sh\", \"-c\", \"echo $X; exec sleep 1000\" ]; "
               "env = [ \"X=1\" ]; },\n"
               "  { name = \"once\"; command = [ \"true\" ]; restart = \"never\"; } );\n");
    expect_runs("a", 1);
    expect(&w, "*\"pid\" :0*\"exit_status\" :0*", "PROC.WAIT once");
    expect(&w, "-EXISTS *", "PROC.START NAME a COMMAND true");
    expect(&w, "*\"processes.b.env\" *", "CONFIG GET processes.b.*");
    expect(&w, "[]", "CONFIG RELOAD");
    /* a dies; b changes; once goes; c comes */
    ask(&w, "PROC.INFO a");
    pid_t pid = (pid_t)w.doc.v[wire_find(&w, 0, "pid")].integer;
    cr_assert_eq(kill(pid, SIGKILL), 0);
    expect_runs("a", 2);
    reload_with(
        "{ name = \"a\"; command = [ \"sleep\", \"1000\" ]; backoff = 0.001; },"
        "{ name = \"b\"; command = [ \"sh\", \"-c\", \"echo $X; exec sleep 1000\" ]; "
        "env = [ \"X=2\" ]; }, { name = \"c\"; command = [ \"sleep\", \"1000\" ]; }",
        "[*\"processes.b: is another, is ended and started anew\" \"processes.once: removed, "
        "is told to end\" \"processes.c: added\"*]");
    expect_runs("c", 1);
    while (!like("[:0 \"2\\n\" :0]", ask(&w, "PROC.LOG b"))) {
    }
    expect(&w, "-NOPROC *", "PROC.INFO once");
    expect_runs("a", 2);
    reload_with("", "[*]");
    while (!like("[]", ask(&w, "PROC.LIST"))) {
    }
    reload_with("{ name = \"a\"; }", "-ERR *process \"a\" has no command*");
}

Test(proc_own, as_many_as_may) {
    begin_with("limits = { max_processes = 2; };\n");
    expect(&w, "[*", "PROC.START NAME a COMMAND sleep 1000");
    expect(&w, "[*", "PROC.START NAME b COMMAND sleep 1000");
    expect(&w, "-QUOTA as many as may *", "PROC.START COMMAND true");
    expect(&w, ":1", "PROC.SIGNAL a KILL");
    expect(&w, "*\"name\" \"a\"*", "PROC.WAIT a");
    for (int i = 0; i < 4; i++) { /* two of the ended ones are kept */
        expect(&w, "[*", "PROC.START NAME x%d COMMAND true", i);
        expect(&w, "[*", "PROC.WAIT x%d", i);
    }
    expect(&w, "[[*\"name\" \"b\"*] [*\"name\" \"x2\"*] [*\"name\" \"x3\"*]]", "PROC.LIST");
}

Test(proc_own, no_process_can_be_made) {
    static const char *const strace[] = {
        "strace",      "-D",        "-qq",
        "-o",          "/dev/null", "-e",
        "trace=vfork", "-e",        "inject=vfork:error=EAGAIN:when=1+2",
        NULL};
    const struct daemon_options o = {.config = "", .wrapper = strace};
    cr_assert_eq(daemon_start(&server, &o), 0);
    serve_connect(&w);
    expect(&w, "-ERR it cannot be started: fork: Resource temporarily unavailable",
           "PROC.START COMMAND true");
    expect(&w, "[]", "PROC.LIST");
    /* tried again as after any failure */
    expect(&w, "[*",
           "PROC.START NAME a RESTART on-failure BACKOFF 1 COMMAND sh -c 'exit $((3 - "
           "HEARTH_PROC_RUN))'");
    expect(&w, "*\"runs\" :3*\"exit_status\" :0*", "PROC.WAIT a");
}

Test(proc, five_hundred_at_once) {
    enum { N = 500 };
    for (int i = 0; i < N; i++) {
        tell(&w, "PROC.START NAME p%d COMMAND sleep 1000", i);
    }
    for (int i = 0; i < N; i++) {
        cr_assert(like("[\"id\"*", hear(&w)));
    }
    for (int i = 0; i < N; i++) {
        tell(&w, "PROC.SIGNAL p%d KILL", i);
    }
    for (int i = 0; i < N; i++) {
        cr_assert_str_eq(hear(&w), ":1");
    }
    for (int i = 0; i < N; i++) {
        expect(&w, "*\"signal\" :9*", "PROC.WAIT p%d", i);
    }
    cr_assert_eq(info_number(&w, "processes"), 0);
    cr_assert_eq(info_number(&w, "processes_started"), N);
}
