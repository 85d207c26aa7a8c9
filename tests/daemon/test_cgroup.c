/* SPDX-License-Identifier: MIT */
/* Control groups, in a directory of the real hierarchy that the test makes in its own group and removes: who is where, who goes
 * with whom, what a killed daemon leaves, when the daemon takes them and when not. Without a cgroup2 that we may write to, all is
 * skipped, and said; likewise memory limits without its controller. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "tests/daemon/pool_support.h"
#include "tests/daemon/serve_support.h"
#include "tests/support/child.h"

enum { PATH = 512, TEXT = 4096, READY_MS = 60000, GONE_MS = 10000 };

static struct wire w;
static char top[PATH]; /* "": there is none */

/* "/sys/fs/cgroup" of a mount whose root is the root that we see. */
static bool find_mount(char *out, size_t size) {
    char line[TEXT], root[TEXT], point[TEXT];
    FILE *f = fopen("/proc/self/mountinfo", "re");
    bool found = false;
    while (!found && f && fgets(line, sizeof(line), f)) {
        found = strstr(line, " - cgroup2 ") &&
                sscanf(line, "%*s %*s %*s %4095s %4095s", root, point) == 2 &&
                strcmp(root, "/") == 0 && snprintf(out, size, "%s", point) < (int)size;
    }
    if (f) {
        fclose(f);
    }
    return found;
}

/* The part of /proc/PID/cgroup that is of version 2; static. */
static const char *group_of(pid_t pid) {
    static char out[TEXT];
    char path[64], *text;
    size_t len;
    snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
    if (tmp_read(path, &text, &len) < 0) {
        return "";
    }
    const char *at = strstr(text, "0::");
    snprintf(out, sizeof(out), "%.*s", at ? (int)strcspn(at + 3, "\n") : 0, at ? at + 3 : "");
    free(text);
    return out;
}

static void begin(void) {
    char mount[256];
    top[0] = '\0';
    if (find_mount(mount, sizeof(mount))) {
        snprintf(top, sizeof(top), "%s%s/hearth-test-%d", mount, group_of(getpid()), (int)getpid());
    }
    if (!*top || mkdir(top, 0755) < 0) {
        top[0] = '\0';
    }
}

static int subdirectories(void) {
    DIR *d = opendir(top);
    int n = 0;
    for (const struct dirent *e = readdir(d); e; e = readdir(d)) {
        n += e->d_type == DT_DIR && e->d_name[0] != '.';
    }
    closedir(d);
    return n;
}

static void end(void) {
    wire_close(&w);
    serve_end();
    child_kill_all();
    if (*top) {
        cr_assert_eq(subdirectories(), 0);
        cr_assert_eq(rmdir(top), 0, "%s: %s", top, strerror(errno));
        top[0] = '\0';
    }
}

/* There is no .fini after it. */
static void skip(const char *why) {
    fprintf(stderr, "SKIPPED: %s\n", why);
    end();
    cr_skip_test("%s", why);
}

TestSuite(cgroup, .timeout = 120, .init = begin, .fini = end);

/* False: skipped. */
static bool start(const char *rest) {
    static char config[TEXT * 2];
    if (!*top) {
        skip("no cgroup2 here that we may write to");
        return false;
    }
    snprintf(config, sizeof(config), "cgroup = \"%s\";\nsegment_size = \"64M\";\n%s", top, rest);
    struct daemon_options o = {.config = config};
    cr_assert_eq(daemon_start(&server, &o), 0);
    cr_assert_eq(daemon_wait_ready(&server, READY_MS), 0, "%s", daemon_log(&server));
    serve_connect(&w);
    return true;
}

#define SHELL                                                                                      \
    "pools = ( { name = \"demo\"; workers = 2; module = \"demo.so\"; },\n"                         \
    "  { name = \"shell\"; workers = 1; exec = [ ]; kill_grace = 0.1; } );\n"

static bool ends_like(const char *text, const char *pattern) {
    char whole[TEXT];
    snprintf(whole, sizeof(whole), "*%s", pattern);
    return like(whole, text);
}

/* ---- who is where ---- */

Test(cgroup, everybody_has_one) {
    pid_t pid[64];
    char name[64];
    if (!start(SHELL)) {
        return;
    }
    cr_assert(ends_like(group_of(server.pid), "/supervisor"), "%s", group_of(server.pid));
    cr_assert_eq(children_of(server.pid, "hearth-worker", pid, 64), 2);
    for (int i = 0; i < 2; i++) {
        cr_assert(ends_like(group_of(pid[i]), "/pool.*/zygote"), "%s", group_of(pid[i]));
    }
    int n = children_of(server.pid, "hearth:", pid, 64);
    cr_assert_eq(n, 3);
    for (int i = 0; i < n; i++) {
        cr_assert(ends_like(group_of(pid[i]), "/pool.*/worker.*"), "%s", group_of(pid[i]));
    }
    expect(&w, "*0::*/pool.shell/worker.*", "TASK.CALL shell run '' ARG cat ARG /proc/self/cgroup");
    expect(&w, "[*", "PROC.START NAME p COMMAND cat /proc/self/cgroup");
    expect(&w, "*\"exit_status\" :0*", "PROC.WAIT p");
    expect(&w, "*0::*/processes/*.1*", "PROC.LOG p");
    /* a worker's goes with it */
    expect(&w, "*0::*", "TASK.CALL shell run '' ARG cat ARG /proc/self/cgroup");
    snprintf(name, sizeof(name), "%s", strrchr(wire_show(&w), '/'));
    name[strcspn(name, "\\\"")] = '\0';
    char path[TEXT + 128];
    snprintf(path, sizeof(path), "%s/pool.shell%s", top, name);
    cr_assert_eq(access(path, F_OK), 0, "%s", path);
    expect(
        &w, "-*",
        "TASK.CALL shell run '' TIMEOUT 100 ARG sh ARG -c ARG 'trap \"\" TERM; exec sleep 1000'");
    uint64_t until = clock_now() + GONE_MS * NS_PER_MS;
    while (access(path, F_OK) == 0 && clock_now() < until) {
        expect(&w, "+PONG", "PING");
    }
    cr_assert_neq(access(path, F_OK), 0, "%s", path);
}

/* One that nobody could find by its parents, its session or its environment. */
#define RUN_AWAY "env -i setsid -f sleep 1000 >/dev/null 2>&1"

/* Waits until the daemon, to whom orphans come, has no such child. */
static void none_sleeps(const char *after) {
    uint64_t until = clock_now() + GONE_MS * NS_PER_MS;
    pid_t left[64];
    while (children_of(server.pid, "sleep", left, 64) > 0 && clock_now() < until) {
        expect(&w, "+PONG", "PING");
    }
    cr_assert_eq(children_of(server.pid, "sleep", left, 64), 0, "%s", after);
}

Test(cgroup, what_runs_away_goes_too) {
    if (!start(SHELL)) {
        return;
    }
    expect(&w, "\"*\"", "TASK.CALL shell run '' ARG sh ARG -c ARG \"" RUN_AWAY "\"");
    none_sleeps("a command that ends");
    expect(&w, "-TIMEOUT*",
           "TASK.CALL shell run '' TIMEOUT 300 ARG sh ARG -c ARG \"" RUN_AWAY
           "; exec sleep 1000\"");
    none_sleeps("a command that is told to end");
    expect(&w, "-TIMEOUT*",
           "TASK.CALL shell run '' TIMEOUT 300 ARG sh ARG -c ARG \"" RUN_AWAY
           "; trap '' TERM; exec sleep 1000\"");
    none_sleeps("a command that is killed");
    expect(&w, "[*", "PROC.START NAME a COMMAND sh -c \"" RUN_AWAY "\"");
    expect(&w, "*\"exit_status\" :0*", "PROC.WAIT a");
    none_sleeps("a process that ends");
    expect(&w, "[*", "PROC.START NAME b COMMAND sh -c \"" RUN_AWAY "; exec sleep 1000\"");
    expect(&w, ":*", "PROC.SIGNAL b KILL");
    expect(&w, "*\"signal\" :9*", "PROC.WAIT b");
    none_sleeps("a process that is killed");
}

/* ---- whose they are ---- */

Test(cgroup, those_of_a_killed_daemon) {
    if (!start(SHELL)) {
        return;
    }
    expect(&w, "[*", "PROC.START NAME p COMMAND setsid -f sleep 1000");
    daemon_kill(&server);
    wire_close(&w);
    cr_assert_eq(daemon_restart(&server), 0);
    cr_assert_eq(daemon_wait_ready(&server, READY_MS), 0, "%s", daemon_log(&server));
    serve_connect(&w);
    expect(&w, "*0::*/pool.shell/worker.*", "TASK.CALL shell run '' ARG cat ARG /proc/self/cgroup");
}

Test(cgroup, those_who_are_handed_over) {
    char dir[TMP_PATH], rest[TEXT], script[2 * TMP_PATH], id[ID_MAX], before[TEXT], path[TEXT];
    cr_assert_eq(tmp_dir(dir), 0);
    snprintf(rest, sizeof(rest), "restart = \"handover\";\nsegment_path = \"%s/segment\";\n" SHELL,
             dir);
    if (!start(rest)) {
        return;
    }
    snprintf(script, sizeof(script), "until test -e %s/go; do sleep 0.01; done; echo through", dir);
    submit_shell(&w, script, NULL, id);
    pid_t pid = wait_running(&w, id);
    snprintf(before, sizeof(before), "%s", group_of(pid));
    cr_assert(ends_like(before, "/pool.shell/worker.*"), "%s", before);
    kill(server.pid, SIGTERM);
    cr_assert_eq(daemon_wait(&server, READY_MS), 0, "%s", daemon_log(&server));
    wire_close(&w);
    cr_assert_str_eq(group_of(pid), before);
    cr_assert_eq(daemon_restart(&server), 0);
    cr_assert_eq(daemon_wait_ready(&server, READY_MS), 0, "%s", daemon_log(&server));
    serve_connect(&w);
    cr_assert_str_eq(group_of(pid), before);
    cr_assert_eq(tmp_write(dir, "go", "", 0), 0);
    cr_assert(strstr(wait_end(&w, id), "done|through"), "%s", daemon_log(&server));
    cr_assert_neq(child_wait_ms(pid, GONE_MS), -ETIMEDOUT); /* it is ours in the end */
    snprintf(path, sizeof(path), "%s%s", top, strstr(before, "/pool."));
    for (uint64_t until = clock_now() + GONE_MS * NS_PER_MS;
         access(path, F_OK) == 0 && clock_now() < until;) {
        expect(&w, "+PONG", "PING");
    }
    cr_assert_neq(access(path, F_OK), 0, "%s", path);
    wire_close(&w);
    cr_assert_eq(daemon_stop(&server), 0);
    tmp_remove(dir);
}

Test(cgroup, one_daemon_at_a_time) {
    static char config[TEXT];
    if (!start(SHELL)) {
        return;
    }
    struct daemon first = server;
    snprintf(config, sizeof(config), "cgroup = \"%s\";\n", top);
    struct daemon_options o = {.config = config};
    cr_assert_eq(daemon_start(&server, &o), 0);
    cr_assert_eq(daemon_wait(&server, READY_MS), 1);
    cr_assert(strstr(daemon_log(&server), "another daemon has it"), "%s", daemon_log(&server));
    tmp_remove(server.dir);
    server = first;
    expect(&w, "\"hello\"", "TASK.CALL demo echo hello");
}

Test(cgroup, a_directory_that_is_none) {
    struct daemon_options o = {.config = "cgroup = \"/tmp\";\n"};
    cr_assert_eq(daemon_start(&server, &o), 0);
    cr_assert_eq(daemon_wait(&server, READY_MS), 1);
    cr_assert(strstr(daemon_log(&server), "not in a cgroup2"), "%s", daemon_log(&server));
}

/* In the group `top`, as a unit is in its own. */
static void start_in(const char *delegate, const char *key) {
    static char config[TEXT], enter[TEXT + 64];
    static const char *wrapper[] = {"sh", "-c", enter, "sh", NULL};
    snprintf(enter, sizeof(enter), "echo 0 >%s/cgroup.procs; exec \"$@\"", top);
    snprintf(config, sizeof(config), "%s" SHELL, key);
    struct daemon_options o = {.config = config, .wrapper = wrapper};
    if (delegate && setxattr(top, "trusted.delegate", delegate, 1, 0) < 0) {
        skip("no extended attributes on cgroups here");
        return;
    }
    cr_assert_eq(daemon_start(&server, &o), 0);
    cr_assert_eq(daemon_wait_ready(&server, READY_MS), 0, "%s", daemon_log(&server));
}

Test(cgroup, taken_when_delegated) {
    if (!*top) {
        skip("no cgroup2 here that we may write to");
        return;
    }
    start_in("1", "");
    cr_assert(strstr(daemon_log(&server), "cgroups: /"), "%s", daemon_log(&server));
    cr_assert(ends_like(group_of(server.pid), "/supervisor"), "%s", group_of(server.pid));
}

Test(cgroup, not_taken_when_not) {
    if (!*top) {
        skip("no cgroup2 here that we may write to");
        return;
    }
    start_in(NULL, "");
    cr_assert(strstr(daemon_log(&server), "none is delegated"), "%s", daemon_log(&server));
    cr_assert_eq(subdirectories(), 0);
    cr_assert_eq(daemon_stop(&server), 0);
    start_in("1", "cgroup = \"none\";\n");
    cr_assert(strstr(daemon_log(&server), "no cgroups:"), "%s", daemon_log(&server));
    cr_assert_eq(subdirectories(), 0);
}

/* ---- limits ---- */

Test(cgroup, limits) {
    static const char config[] =
        "pools = ( { name = \"shell\"; workers = 1; exec = [ ]; cgroup_memory_max = \"64M\";\n"
        "  cgroup_pids_max = 20; cgroup_cpu_weight = 50; cgroup_pool_memory = \"1G\"; } );\n";
    char path[TEXT + 64], *text;
    size_t len;
    if (!start(config)) {
        return;
    }
    snprintf(path, sizeof(path), "%s/cgroup.controllers", top);
    cr_assert_eq(tmp_read(path, &text, &len), 0);
    bool memory = strstr(text, "memory"), pids = strstr(text, "pids"),
         all = memory && pids && strstr(text, "cpu");
    free(text);
    cr_assert_eq(!strstr(daemon_log(&server), "its cgroup_ keys are not kept"), all, "%s",
                 daemon_log(&server));
    if (pids) {
        expect(&w, "*20*",
               "TASK.CALL shell run '' ARG sh ARG -c ARG 'cat %s$(grep ^0:: /proc/self/cgroup | "
               "sed s,.*/pool,/pool,)/pids.max'",
               top);
    }
    if (!memory) {
        skip("the memory controller is not in version 2 here: that the kernel keeps the limit is "
             "not seen");
        return;
    }
    expect(
        &w, "-LOST memory*",
        "TASK.CALL shell run '' ARG sh ARG -c ARG 'head -c 200M /dev/zero | tail -c 190M | wc -c'");
}
