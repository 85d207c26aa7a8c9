/* SPDX-License-Identifier: MIT */
/* What the daemon's processes are born with and what they cannot do: descriptors, capabilities, system calls, paths; and that
 * nothing of one task is there for the next. Looked at from outside (/proc) and from inside (commands that tell).
 * Fails: as a Criterion suite; what the kernel or the build cannot do is skipped, and said. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/daemon/serve_support.h"
#include "tests/support/child.h"

enum { TEXT = 4096, PIDS = 64, READY_MS = 60000 };

static struct wire w;

static void end(void) {
    wire_close(&w);
    serve_end();
    child_kill_all();
}

TestSuite(confine, .timeout = 120, .fini = end);

static void begin(const char *config) {
    serve_begin(config);
    serve_connect(&w);
}

static void skip(const char *why) {
    fprintf(stderr, "SKIPPED: %s\n", why);
    cr_skip_test("%s", why);
}

/* A daemon whose configuration names files of its own directory: %s, twice. */
static void begin_inside(const char *format) {
    static char config[TEXT], inside[TMP_PATH];
    cr_assert_eq(tmp_dir(inside), 0);
    setenv("INSIDE", inside, 1);
    snprintf(config, sizeof(config), format, inside, inside);
    struct daemon_options o = {.config = config};
    cr_assert_eq(daemon_start(&server, &o), 0);
}

static void end_inside(void) {
    tmp_remove(getenv("INSIDE"));
}

/* ---- looking ---- */

static int by_number(const struct dirent **a, const struct dirent **b) {
    return atoi((*a)->d_name) - atoi((*b)->d_name);
}

static int is_number(const struct dirent *e) {
    return e->d_name[0] != '.';
}

/* "0 1 2": what it has open. */
static const char *descriptors(pid_t pid) {
    static char out[TEXT];
    char path[64];
    struct dirent **e;
    size_t at = 0;
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    int n = scandir(path, &e, is_number, by_number);
    cr_assert_geq(n, 0, "%s", path);
    for (int i = 0; i < n; i++) {
        at += (size_t)snprintf(out + at, sizeof(out) - at, "%s%s", i ? " " : "", e[i]->d_name);
        free(e[i]);
    }
    free(e);
    return out;
}

/* The daemon's children. */
static int children(pid_t out[PIDS]) {
    char path[64], *text, *at, *rest;
    size_t len;
    int n = 0;
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)server.pid, (int)server.pid);
    cr_assert_eq(tmp_read(path, &text, &len), 0);
    for (at = text; n < PIDS && strtol(at, &rest, 10) > 0; at = rest) {
        out[n++] = (pid_t)strtol(at, NULL, 10);
    }
    free(text);
    return n;
}

static void name_of(pid_t pid, char out[32]) {
    char path[64], *text;
    size_t len;
    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    cr_assert_eq(tmp_read(path, &text, &len), 0);
    snprintf(out, 32, "%.*s", (int)strcspn(text, "\n"), text);
    free(text);
}

static void has_no_privileges(const char *status) {
    static const char *const none[] = {"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000",
                                       "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000",
                                       "NoNewPrivs:\t1"};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        cr_assert(strstr(status, none[i]), "%s: %s", none[i], status);
    }
    if (geteuid() == 0) {
        cr_assert(strstr(status, "CapBnd:\t0000000000000000"), "%s", status);
    }
}

/* What a command has written: its reply to TASK.CALL, done. */
static const char *call(const char *pool, const char *script) {
    static char out[TEXT];
    struct wire *c = &w;
    cr_assert_eq(
        wire_send(c, "TASK.CALL", pool, "run", "", "ARG", "sh", "ARG", "-c", "ARG", script, NULL),
        0);
    cr_assert_eq(wire_read(c, WIRE_LIMIT_MS), 0);
    snprintf(out, sizeof(out), "%s", wire_show(c));
    return out;
}

static void says(const char *pool, const char *pattern, const char *script) {
    const char *said = call(pool, script);
    cr_assert(like(pattern, said), "%s\nsays %s\nnot  %s", script, said, pattern);
}

/* ---- born with ---- */

/* 0 to 6 are as lib/wire/control.h says; 7 is how shm_attach() holds the segment. */

Test(confine, descriptors_of_all_kinds) {
    begin("pools = ( { name = \"demo\"; workers = 2; module = \"demo.so\"; },\n"
          "  { name = \"shell\"; workers = 2; exec = [ ]; } );\nsegment_size = \"64M\";\n");
    pid_t pid[PIDS];
    char name[32];
    int n = children(pid), zygotes = 0, workers = 0;
    for (int i = 0; i < n; i++) {
        const char *have = descriptors(pid[i]);
        name_of(pid[i], name);
        if (strcmp(name, "hearth-worker") == 0) {
            cr_assert_str_eq(have, "0 1 2 3 4 5 6 7", "zygote: %s", have);
            zygotes++;
        } else if (strcmp(name, "hearth:demo") == 0) {
            cr_assert_str_eq(have, "0 1 2 4 5 6 7", "worker: %s", have);
            workers++;
        } else {
            cr_assert_str_eq(name, "hearth:shell");
            cr_assert_str_eq(have, "0 1 2 3 4 5 6 7", "worker of commands: %s",
                             have); /* 3: its TMPDIR */
            workers++;
        }
    }
    cr_assert_eq(zygotes, 2);
    cr_assert_eq(workers, 4);
    says("shell", "*\"0\\n1\\n2\\n\"*", "ls /proc/$$/fd");
    expect(&w, "[*", "PROC.START NAME p COMMAND sh -c 'ls /proc/$$/fd'");
    expect(&w, "*\"exit_status\" :0*", "PROC.WAIT p");
    expect(&w, "*\"0\\n1\\n2\\n\"*", "PROC.LOG p");
}

Test(confine, descriptors_of_a_program) {
    begin_inside("pools = ( { name = \"prog\"; workers = 1; handlers = [ \"x\" ]; program = [ "
                 "\"sh\", \"-c\", "
                 "\"(ls /proc/$$/fd) >%s/fifo; exec sleep 1000\" ]; } ); segment_size = \"64M\"; "
                 "stop_timeout = 0.1; # %s\n");
    char path[TMP_PATH + 16], text[TEXT] = "";
    snprintf(path, sizeof(path), "%s/fifo", getenv("INSIDE"));
    cr_assert_eq(mkfifo(path, 0600), 0);
    int fd = open(path, O_RDWR | O_CLOEXEC); /* either of us may be first */
    struct pollfd p = {.fd = fd, .events = POLLIN};
    for (size_t n = 0; !strchr(text, '4');) {
        cr_assert_eq(poll(&p, 1, READY_MS), 1, "%s", daemon_log(&server));
        n += (size_t)read(fd, text + n, sizeof(text) - 1 - n);
    }
    close(fd);
    end_inside();
    cr_assert_str_eq(text, "0\n1\n2\n4\n"); /* 4: its connection */
}

Test(confine, the_daemon_s_own_are_closed_on_exec) {
    begin(NULL);
    expect(&w, "[*", "PROC.START NAME p COMMAND sleep 1000");
    char path[300];
    struct dirent **e;
    snprintf(path, sizeof(path), "/proc/%d/fdinfo", (int)server.pid);
    int n = scandir(path, &e, is_number, by_number);
    cr_assert_gt(n, 3);
    for (int i = 0; i < n; i++) {
        char *text;
        size_t len;
        snprintf(path, sizeof(path), "/proc/%d/fdinfo/%s", (int)server.pid, e[i]->d_name);
        cr_assert_eq(tmp_read(path, &text, &len), 0);
        unsigned long flags = strtoul(strstr(text, "flags:") + 6, NULL, 8);
        cr_assert(atoi(e[i]->d_name) <= 2 || (flags & O_CLOEXEC), "descriptor %s: %s", e[i]->d_name,
                  text);
        free(text);
        free(e[i]);
    }
    free(e);
}

Test(confine, nobody_has_privileges) {
    begin(NULL);
    pid_t pid[PIDS];
    int n = children(pid);
    cr_assert_gt(n, 4);
    for (int i = 0; i < n; i++) {
        char path[64], *text;
        size_t len;
        snprintf(path, sizeof(path), "/proc/%d/status", (int)pid[i]);
        cr_assert_eq(tmp_read(path, &text, &len), 0);
        has_no_privileges(text);
        free(text);
    }
    says("shell", "*NoNewPrivs:\\x091*", "grep -E 'Cap|NoNew' /proc/self/status");
    says("shell", "*CapPrm:\\x090000000000000000*", "grep -E 'Cap|NoNew' /proc/self/status");
    expect(&w, "[*", "PROC.START NAME p COMMAND grep -E 'Cap|NoNew' /proc/self/status");
    expect(&w, "*\"exit_status\" :0*", "PROC.WAIT p");
    expect(&w, "*CapPrm:\\x090000000000000000*CapAmb:\\x090000000000000000*NoNewPrivs:\\x091*",
           "PROC.LOG p");
}

Test(confine, root_only_when_told) {
    if (geteuid() != 0) {
        skip("only root can see root refused");
        return;
    }
    unsetenv("HEARTH_ALLOW_ROOT");
    cr_assert_eq(daemon_start(&server, NULL), 0);
    cr_assert_eq(daemon_wait(&server, READY_MS), 1);
    cr_assert(strstr(daemon_log(&server), "it will not run as root"), "%s", daemon_log(&server));
    cr_assert_eq(daemon_stop(&server), 0);
    begin("allow_root = true;\npools = ( { name = \"shell\"; workers = 1; exec = [ ]; } );\n");
    says("shell", "*\"0\\n\"*", "id -u");
}

/* ---- from one task to the next ---- */

#define ONE                                                                                        \
    "pools = ( { name = \"one\"; workers = 1; exec = [ ]; kill_grace = 0.1; } );\n"                \
    "segment_size = \"64M\";\n"

Test(confine, nothing_stays_of_a_command) {
    begin(ONE);
    char before[TEXT];
    const char *tell_env = "env | sort | grep -v ^HEARTH_TASK; pwd; umask; ulimit -a";
    snprintf(before, sizeof(before), "%s", call("one", tell_env));
    expect(&w, "\"*",
           "TASK.CALL one run 'secret payload' ARG sh ARG -c ARG "
           "'export SECRET=1; cd $TMPDIR; umask 0; ulimit -c 0; head -c 3 >here; exec 7<here; echo "
           "x >.hidden'");
    says("one", "\"/*/one/*\\n\"*", "echo $TMPDIR; ls -A $TMPDIR; cat");
    cr_assert_str_eq(before, call("one", tell_env));
    says("one", "*\"0\\n1\\n2\\n\"*", "ls /proc/$$/fd");
}

Test(confine, temporary_files_of_any_shape) {
    begin(ONE);
    says("one", "\"*",
         "cd $TMPDIR; i=0; while [ $i -lt 100 ]; do mkdir ddddddddddddddd; echo $i "
         ">ddddddddddddddd/f; cd ddddddddddddddd; "
         "i=$((i+1)); done; cd $TMPDIR; mkdir -p a/b; touch a/b/c; ln -s / root; mkfifo p; chmod "
         "000 a/b a; mkdir .moved-0");
    says("one", "\"\"*", "ls -A $TMPDIR");
    says("one", "\"*", "rmdir $TMPDIR"); /* it is made again */
    says("one", "\"x\\n\"*", "echo x >$TMPDIR/x; cat $TMPDIR/x");
    cr_assert_eq(access("/etc/passwd", F_OK), 0); /* no link was followed */
}

Test(confine, temporary_files_of_the_killed) {
    begin(ONE);
    expect(&w, "-TIMEOUT*",
           "TASK.CALL one run '' TIMEOUT 200 ARG sh ARG -c ARG 'trap \"\" TERM; touch "
           "$TMPDIR/left; sleep 1000'");
    says("one", "\"\"*", "ls -A $TMPDIR");
    char *at = strstr(call("one", "echo $TMPDIR"), "\"/");
    cr_assert(at);
    char path[TEXT];
    snprintf(path, sizeof(path), "%.*s", (int)strcspn(at + 1, "\\"), at + 1);
    *strstr(path, "/one/") = '\0';
    cr_assert_eq(access(path, F_OK), 0, "%s", path);
    daemon_kill(&server); /* it leaves all, and the next one takes it over */
    cr_assert_eq(daemon_restart(&server), 0);
    cr_assert_eq(daemon_wait_ready(&server, READY_MS), 0);
    wire_close(&w);
    serve_connect(&w);
    cr_assert(strstr(call("one", "echo $TMPDIR"), path));
    kill(server.pid, SIGTERM);
    cr_assert_eq(daemon_wait(&server, READY_MS), 0);
    cr_assert_neq(access(path, F_OK), 0, "%s", path);
}

/* ---- what a pool asks for ---- */

Test(confine, paths) {
    if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 0) {
        skip("this kernel has no Landlock");
        return;
    }
    begin_inside(
        "pools = ( { name = \"walled\"; workers = 1; exec = [ ]; paths_read = [ \"%s/in\" ];\n"
        "  paths_write = [ \"%s/out\" ]; } );\nsegment_size = \"64M\";\n");
    const char *inside = getenv("INSIDE");
    char script[TEXT];
    /* it starts without them: the pool fails, and says for what */
    cr_assert_eq(daemon_wait(&server, READY_MS), 1);
    cr_assert(strstr(daemon_log(&server), "/in: No such file"), "%s", daemon_log(&server));
    snprintf(script, sizeof(script), "%s/in", inside);
    mkdir(script, 0700);
    cr_assert_eq(tmp_write(script, "x", "read", 4), 0);
    cr_assert_eq(tmp_write(inside, "secret", "s", 1), 0);
    snprintf(script, sizeof(script), "%s/out", inside);
    mkdir(script, 0700);
    cr_assert_eq(daemon_restart(&server), 0);
    cr_assert_eq(daemon_wait_ready(&server, READY_MS), 0, "%s", daemon_log(&server));
    serve_connect(&w);
    snprintf(script, sizeof(script),
             "cd %s; cat in/x; cat secret || echo no1; echo w >in/x || echo no2; echo w >out/x && "
             "cat out/x; rm in/x || echo no3; "
             "ls / >/dev/null || echo no4; echo t >$TMPDIR/t && cat $TMPDIR/t; ls /etc >/dev/null "
             "|| echo no5; "
             "cat /proc/1/environ >/dev/null || echo no6",
             inside);
    says("walled", "\"readno1\\nno2\\nw\\nno3\\nno4\\nt\\nno5\\nno6\\n\"*", script);
    end_inside();
}

static const char *const filtered =
    "pools = ( { name = \"basic\"; workers = 1; exec = [ ]; seccomp = \"basic\"; },\n"
    "  { name = \"offline\"; workers = 1; exec = [ ]; seccomp = \"offline\"; },\n"
    "  { name = \"demo\"; workers = 1; module = \"demo.so\"; seccomp = \"offline\"; } "
    ");\nsegment_size = \"64M\";\n";

Test(confine, system_calls) {
    struct daemon_options o = {.config = filtered};
    cr_assert_eq(daemon_start(&server, &o), 0);
    if (daemon_wait_ready(&server, READY_MS) < 0) {
        cr_assert(strstr(daemon_log(&server), "seccomp: Operation not supported"), "%s",
                  daemon_log(&server));
        serve_end();
        skip("built without libseccomp");
        return;
    }
    serve_connect(&w);
    says("basic", "\"Seccomp:\\x092\\n\"*", "grep ^Seccomp: /proc/self/status");
    says("basic", "\"no\\n\"*", "unshare -U true || echo no");
    says("basic", "\"made\\n\"*",
         "python3 -c 'import socket, threading; socket.socket(); t = "
         "threading.Thread(target=print, args=(\"made\",)); "
         "t.start(); t.join()'");
    says("offline", "\"97\\n\"*",
         "python3 -c 'import socket\nsocket.socket(socket.AF_UNIX)\ntry:\n socket.socket()\nexcept "
         "OSError as e:\n print(e.errno)'");
    expect(&w, "\"hello\"*", "TASK.CALL demo echo hello");
}
