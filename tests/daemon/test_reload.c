/* SPDX-License-Identifier: MIT */
/* A daemon is given another configuration while it runs: by SIGHUP, CONFIG SET, CONFIG RELOAD; and its workers another version
 * of their module. What is good comes into force, what is not changes nothing, and no task is lost on the way. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "tests/daemon/pool_support.h"
#include "tests/daemon/serve_support.h"

static char dir[TMP_PATH];
static struct wire w;

static const char *in_dir(const char *name) {
    static char path[2][TMP_PATH + 64];
    static int turn;
    turn ^= 1;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
    return path[turn];
}

/* The pids of the workers, as many as max; how many there are. */
static int workers_now(pid_t *ret, int max) {
    int n = 0;
    for (const char *at = ask(&w, "WORKER.LIST"); (at = strstr(at, "\"pid\" :")); at++) {
        cr_assert(n < max);
        ret[n++] = (pid_t)atoi(at + strlen("\"pid\" :"));
    }
    return n;
}

/* Puts a version of the module where the pool loads it from. */
static void install(int version) {
    char built[512];
    _cleanup_free_ char *data = NULL;
    size_t len;
    snprintf(built, sizeof(built), "%s/tests/daemon/mod_version%d.so", getenv("HEARTH_BUILD"),
             version);
    cr_assert_eq(tmp_read(built, &data, &len), 0, "%s", built);
    cr_assert_eq(tmp_write(dir, "new.so", data, len), 0);
    cr_assert_eq(rename(in_dir("new.so"), in_dir("version.so")), 0);
}

static void write_config(const char *top, const char *pools) {
    char text[4096];
    int n = snprintf(text, sizeof(text),
                     "%s\npools = (\n    { name = \"version\"; workers = 2; module = "
                     "\"%s/version.so\"; }%s );\n",
                     top, dir, pools);
    cr_assert(n > 0 && n < (int)sizeof(text));
    if (server.pid) {
        cr_assert_eq(tmp_write(server.dir, strrchr(server.config, '/') + 1, text, (size_t)n), 0);
    } else {
        serve_begin(text);
    }
}

static void begin(void) {
    cr_assert_eq(tmp_dir(dir), 0);
    install(1);
    write_config("segment_size = \"64M\"; admin_users = [ \"*\" ];", "");
    serve_connect(&w);
}

static void end(void) {
    wire_close(&w);
    serve_end();
    cr_assert_eq(tmp_remove(dir), 0);
}

TestSuite(reload, .init = begin, .fini = end, .timeout = 90);

/* Until INFO has that line, the daemon has not heard its signal. */
static void info_becomes(const char *line) {
    double until = now_ms() + within(5000);
    while (!strstr(ask(&w, "INFO server"), line)) {
        cr_assert(now_ms() < until, "no %s in %s", line, wire_show(&w));
    }
}

static void hang_up(int reloads) {
    char line[64];
    snprintf(line, sizeof(line), "config_reloads:%d\\r\\nconfig_last_reload_status:ok", reloads);
    cr_assert_eq(kill(server.pid, SIGHUP), 0);
    info_becomes(line);
}

Test(reload, a_signal_puts_the_files_in_force_and_tells_what_is_different) {
    write_config("segment_size = \"32M\"; admin_users = [ \"*\" ]; result_keep = 7;\n"
                 "limits = { max_clients = 77; };",
                 "");
    hang_up(1);
    expect(&w, "*\"limits.max_clients\" \"77\"*", "CONFIG GET limits.max_clients");
    expect(&w, "*\"7.000\"*", "CONFIG GET result_keep");
    expect(&w, "*\"67108864\"*", "CONFIG GET segment_size");
    const char *log = daemon_log(&server);
    cr_expect(strstr(log, "limits.max_clients: 10000 -> 77"), "%s", log);
    cr_expect(strstr(log, "segment_size: stays \"64M\", \"32M\" needs a restart"), "%s", log);
}

/* As the service manager wants to hear it (sd_notify(3)). */
Test(reload, the_manager_hears_of_it) {
    char all[4096] = "";
    size_t n = 0;
    hang_up(1);
    for (ssize_t got = 0; got >= 0 && n < sizeof(all) - 1;) {
        got = recv(server.notify_fd, all + n, sizeof(all) - 1 - n, MSG_DONTWAIT);
        n += got > 0 ? (size_t)got : 0;
    }
    const char *begun = strstr(all, "RELOADING=1\nMONOTONIC_USEC=");
    cr_assert(begun && strstr(begun, "READY=1"), "%s", all);
}

Test(reload, what_does_not_check_changes_nothing) {
    write_config("admin_users = [ \"*\" ];\nresult_kep = 7;", "");
    cr_assert_eq(kill(server.pid, SIGHUP), 0);
    info_becomes("config_last_reload_status:err");
    cr_expect(strstr(wire_show(&w), ".conf:2: result_kep: unknown key"), "%s", wire_show(&w));
    cr_expect(strstr(daemon_log(&server), ".conf:2: result_kep: unknown key"));
    expect(&w, "*\"300.000\"*", "CONFIG GET result_keep");
    expect(&w, "-ERR the configuration stays as it is: *conf:2: result_kep: *", "CONFIG RELOAD");
    expect(&w, "\"1\"", "TASK.CALL version who x");
    write_config("admin_users = [ \"*\" ]; result_keep = 9;", "");
    expect(&w, "[*\"result_keep: 300 -> 9\"*]", "CONFIG RELOAD");
    info_becomes("config_last_reload_status:ok");
}

Test(reload, pools_come_and_go_and_their_tasks_end) {
    char id[SERVE_ID], late[SERVE_ID];
    write_config("admin_users = [ \"*\" ];",
                 ", { name = \"extra\"; workers = 1; exec = [ ]; submit_users = [ \"*\" ]; }");
    hang_up(1);
    cr_assert(pool_becomes(&w, "extra", "state", "ready", within(10000)));
    expect(&w, "\"hi\\n\"", "TASK.CALL extra run x ARG echo ARG hi");
    /* one runs and one waits when the pool is removed */
    submit_line(&w, id, "extra run x ARG sleep ARG 0.5");
    submit_line(&w, late, "extra run x ARG echo ARG late");
    write_config("admin_users = [ \"*\" ];", "");
    hang_up(2);
    expect(&w, "-NOPOOL no such pool 'extra'", "TASK.SUBMIT extra run x ARG true");
    cr_expect(strstr(ask(&w, "POOL.LIST"), "removing"), "%s", wire_show(&w));
    cr_expect_str_eq(wait_end(&w, id), "done||");
    cr_expect_str_eq(wait_end(&w, late), "done|late\n|");
    double until = now_ms() + within(5000);
    while (strstr(ask(&w, "POOL.LIST"), "extra")) {
        cr_assert(now_ms() < until, "%s", wire_show(&w));
    }
    /* and it may come back */
    write_config("admin_users = [ \"*\" ];", ", { name = \"extra\"; workers = 2; exec = [ ]; }");
    hang_up(3);
    cr_assert(pool_becomes(&w, "extra", "workers", "2", within(10000)));
    expect(&w, "\"hi\\n\"", "TASK.CALL extra run x ARG echo ARG hi");
}

Test(reload, set_takes_the_keys_of_the_file) {
    expect(&w, "+OK", "CONFIG SET log_level debug limits.max_clients 55");
    expect(&w, "[\"log_level\" \"debug\"]", "CONFIG GET log_level");
    expect(&w, "[\"maxclients\" \"55\"]", "CONFIG GET maxclients");
    expect(&w, "+OK", "CONFIG SET limits.client_max_input 1048576 pools.version.timeout 2.5");
    expect(&w, "[\"pools.version.timeout\" \"2.500\"]", "CONFIG GET pools.version.timeout");
    expect(&w, "+OK",
           "CONFIG SET pools.version.retry_on \"error crash\" read_users \"[ \\\"*\\\" ]\"");
    expect(&w, "*\"[ \\\"error\\\", \\\"crash\\\" ]\"*", "CONFIG GET pools.version.retry_on");
    expect(&w, "+OK", "CONFIG SET pools.version.workers 3 save \"\"");
    cr_expect(pool_becomes(&w, "version", "workers", "3", within(10000)));
    expect(&w, "+OK", "CONFIG SET pools.version.workers 1");
    cr_expect(pool_becomes(&w, "version", "workers", "1", within(10000)));
}

Test(reload, set_makes_all_changes_or_none) {
    expect(&w, "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'",
           "CONFIG SET result_keep 5 nosuch 1");
    expect(&w,
           "-ERR CONFIG SET failed (possibly related to argument 'limits.max_clients') - "
           "0 is out of range: 1 to 1000000",
           "CONFIG SET result_keep 5 limits.max_clients 0");
    expect(&w, "-ERR CONFIG SET failed (possibly related to argument 'pools.version.workers') - *",
           "CONFIG SET result_keep 5 pools.version.workers 501");
    expect(&w,
           "-ERR CONFIG SET failed (possibly related to argument 'segment_size') - can't set "
           "immutable config",
           "CONFIG SET result_keep 5 segment_size 1");
    expect(&w,
           "-ERR CONFIG SET failed (possibly related to argument 'RESULT_KEEP') - duplicate "
           "parameter",
           "CONFIG SET result_keep 5 RESULT_KEEP 6");
    expect(&w, "-ERR syntax error", "CONFIG SET result_keep 5 log_level");
    expect(&w, "-ERR CONFIG SET failed*", "CONFIG SET result_keep \"5; log_level = debug\"");
    expect(&w, "-ERR CONFIG SET failed*",
           "CONFIG SET read_users \"[ ]; admin_users = [ \\\"nobody\\\" ]; write_users = [ ]\"");
    expect(&w, "[\"result_keep\" \"300.000\"]", "CONFIG GET result_keep");
    expect(&w, "[\"read_users\" \"[ \\\"*\\\" ]\"]", "CONFIG GET read_users");
}

Test(reload, rewrite_keeps_what_was_set_and_leaves_the_files_alone) {
    _cleanup_free_ char *before = NULL, *after = NULL, *made = NULL;
    size_t len;
    char drop_in[TMP_PATH + 64];
    snprintf(drop_in, sizeof(drop_in), "%s.d/config-rewrite.conf", server.config);
    cr_assert_eq(tmp_read(server.config, &before, &len), 0);
    expect(&w, "+OK",
           "CONFIG SET log_level notice limits.max_clients 44 pools.version.workers 3 "
           "pools.version.rlimits.nofile 100 pools.version.env \"A=b C=d\"");
    expect(&w, "+OK", "CONFIG REWRITE");
    cr_assert_eq(tmp_read(server.config, &after, &len), 0);
    cr_expect_str_eq(before, after);
    cr_assert_eq(tmp_read(drop_in, &made, &len), 0);
    cr_expect(strstr(made, "override_pools") && strstr(made, "max_clients = 44"), "%s", made);
    expect(&w, "[]", "CONFIG RELOAD"); /* what is in force is what the files say */
    kill(server.pid, SIGTERM);
    wire_close(&w);
    cr_assert_eq(daemon_wait(&server, within(15000)), 0);
    cr_assert_eq(daemon_restart(&server), 0);
    cr_assert_eq(daemon_wait_ready(&server, within(15000)), 0);
    serve_connect(&w);
    expect(&w, "[\"log_level\" \"notice\"]", "CONFIG GET log_level");
    expect(&w, "*\"3\"*", "CONFIG GET pools.version.workers");
    expect(&w, "*\"100\"*", "CONFIG GET pools.version.rlimits.nofile");
    /* as it was: nothing is left to be kept */
    expect(&w, "+OK",
           "CONFIG SET log_level info limits.max_clients 10000 pools.version.workers 2 "
           "pools.version.rlimits.nofile inherit pools.version.env \"\"");
    expect(&w, "+OK", "CONFIG REWRITE");
    cr_expect_eq(access(drop_in, F_OK), -1);
}

Test(reload, rewrite_says_when_it_cannot) {
    char drop_ins[TMP_PATH + 64];
    snprintf(drop_ins, sizeof(drop_ins), "%s.d", server.config);
    cr_assert_eq(tmp_write(server.dir, strrchr(drop_ins, '/') + 1, "", 0), 0); /* no directory */
    expect(&w, "+OK", "CONFIG SET log_level notice");
    expect(&w, "-ERR Rewriting config file: *", "CONFIG REWRITE");
    cr_assert_eq(unlink(drop_ins), 0);
    expect(&w, "+OK", "CONFIG REWRITE");
}

/* ---- versions ---- */

static void version_becomes(const char *version) {
    char text[16];
    snprintf(text, sizeof(text), "\"%s\"", version);
    double until = now_ms() + within(10000);
    while (strcmp(ask(&w, "TASK.CALL version who x"), text) != 0) {
        cr_assert(now_ms() < until, "%s\n%s", wire_show(&w), daemon_log(&server));
    }
    cr_assert(pool_becomes(&w, "version", "rolling", "", within(10000)), "%s",
              ask(&w, "POOL.INFO version"));
    for (int i = 0; i < 8; i++) {
        expect(&w, text, "TASK.CALL version who x");
    }
}

Test(reload, a_new_version_takes_over_and_no_task_is_lost) {
    enum { TASKS = 200 };
    static char ids[TASKS][SERVE_ID];
    expect(&w, "\"1\"", "TASK.CALL version old x");
    expect(&w, "-NOHANDLER *", "TASK.CALL version new x");
    for (int i = 0; i < TASKS / 2; i++) {
        submit_line(&w, ids[i], i % 2 ? "version slow x" : "version who x");
    }
    install(2);
    hang_up(1);
    cr_expect(strstr(daemon_log(&server), "version.so has been exchanged"));
    for (int i = TASKS / 2; i < TASKS; i++) {
        submit_line(&w, ids[i], i % 2 ? "version slow x" : "version who x");
    }
    int by[3] = {0};
    for (int i = 0; i < TASKS; i++) {
        const char *end = wait_end(&w, ids[i]);
        cr_assert(strcmp(end, "done|1|") == 0 || strcmp(end, "done|2|") == 0, "%s", end);
        by[end[5] - '0']++;
    }
    cr_expect(by[1] > 0 && by[2] > 0, "%d by the old version, %d by the new one", by[1], by[2]);
    version_becomes("2");
    expect(&w, "\"2\"", "TASK.CALL version new x");
    expect(&w, "-NOHANDLER *", "TASK.CALL version old x");
    expect(&w, "\"2\"", "TASK.CALL version slow x");
    cr_expect_str_eq(pool_info(&w, "version", "deaths"), "0");
}

Test(reload, a_version_that_does_not_start_changes_nothing) {
    pid_t before[8], after[8];
    for (int version = 3; version <= 4; version++) {
        int n = workers_now(before, 8);
        cr_assert_eq(n, 2);
        install(version);
        expect(&w, "+OK", "POOL.RECYCLE version RELOAD");
        cr_assert(pool_becomes(&w, "version", "rolling", "failed", within(10000)), "%s",
                  ask(&w, "POOL.INFO version"));
        const char *why = pool_info(&w, "version", "roll_error");
        cr_expect(strstr(why, version == 3 ? "version 3 refuses" : "exit status 9"), "%s", why);
        cr_expect_str_eq(pool_info(&w, "version", "state"), "ready");
        expect(&w, "\"1\"", "TASK.CALL version who x");
        cr_expect_eq(workers_now(after, 8), n);
        cr_expect_eq(memcmp(before, after, sizeof(pid_t) * (size_t)n), 0);
    }
    install(2);
    expect(&w, "+OK", "POOL.RECYCLE version RELOAD");
    version_becomes("2");
    cr_expect_str_eq(pool_info(&w, "version", "roll_error"), "");
}

/* Taken back, what could not start is no failure any more: what is in force runs. */
Test(reload, what_did_not_start_is_forgotten_when_it_is_taken_back) {
    pid_t before[8], after[8];
    cr_assert_eq(workers_now(before, 8), 2);
    expect(&w, "+OK", "CONFIG SET pools.version.rlimits.as 1048576");
    cr_assert(pool_becomes(&w, "version", "rolling", "failed", within(10000)), "%s",
              ask(&w, "POOL.INFO version"));
    const char *why = pool_info(&w, "version", "roll_error");
    cr_expect(strstr(why, "its zygote ended while starting: "), "%s", why);
    expect(&w, "+OK", "CONFIG SET log_level debug"); /* has nothing to do with it */
    cr_assert(pool_becomes(&w, "version", "rolling", "failed", within(10000)));
    expect(&w, "+OK", "CONFIG SET pools.version.rlimits.as inherit");
    cr_assert(pool_becomes(&w, "version", "rolling", "", within(10000)), "%s",
              ask(&w, "POOL.INFO version"));
    cr_expect_str_eq(pool_info(&w, "version", "roll_error"), "");
    cr_expect(strstr(daemon_log(&server), "version: what runs is what is wanted again"));
    cr_assert_eq(workers_now(after, 8), 2);
    cr_expect_eq(memcmp(before, after, 2 * sizeof(pid_t)), 0);
}

Test(reload, recycle_replaces_each_worker_once) {
    pid_t before[8], after[8];
    char id[SERVE_ID];
    cr_assert_eq(workers_now(before, 8), 2);
    submit_line(&w, id, "version slow x");
    expect(&w, "+OK", "POOL.RECYCLE version");
    cr_assert(pool_becomes(&w, "version", "rolling", "", within(10000)));
    cr_expect_str_eq(wait_end(&w, id), "done|1|");
    int n_after = workers_now(after, 8);
    cr_assert_eq(n_after, 2, "%d: %s\n%s", n_after, ask(&w, "WORKER.LIST"), daemon_log(&server));
    for (int i = 0; i < 4; i++) {
        cr_expect_neq(before[i / 2], after[i % 2]);
    }
    cr_expect_str_eq(pool_info(&w, "version", "recycled"), "2");
    cr_expect_str_eq(pool_info(&w, "version", "deaths"), "0");
}

Test(reload, what_workers_are_started_with_replaces_them) {
    pid_t before[8], after[8];
    cr_assert_eq(workers_now(before, 8), 2);
    expect(&w, "+OK", "CONFIG SET pools.version.nice 1");
    cr_assert(pool_becomes(&w, "version", "rolling", "", within(10000)));
    int n_after = workers_now(after, 8);
    cr_assert_eq(n_after, 2, "%d: %s\n%s", n_after, ask(&w, "WORKER.LIST"), daemon_log(&server));
    for (int i = 0; i < 4; i++) {
        cr_expect_neq(before[i / 2], after[i % 2]);
    }
}

Test(reload, resize) {
    expect(&w, "+OK", "POOL.RESIZE version 4");
    cr_expect(pool_becomes(&w, "version", "workers", "4", within(10000)));
    expect(&w, "*\"4\"*", "CONFIG GET pools.version.workers");
    expect(&w, "+OK", "POOL.RESIZE version 1 3");
    cr_expect(pool_becomes(&w, "version", "sizing", "dynamic", within(10000)));
    cr_expect(pool_becomes(&w, "version", "max", "3", within(10000)));
    expect(&w, "\"1\"", "TASK.CALL version who x");
    expect(&w, "-ERR pool 'version' stays as it is: *", "POOL.RESIZE version 4 3");
    expect(&w, "-ERR pool 'version' stays as it is: *", "POOL.RESIZE version 0");
    expect(&w, "-NOPOOL *", "POOL.RESIZE nosuch 1");
    expect(&w, "-ERR a number of workers *", "POOL.RESIZE version x");
    /* what means the same with another sizing stays */
    expect(&w, "+OK", "CONFIG SET pools.version.idle_timeout 2 pools.version.spawn_rate 7");
    expect(&w, "+OK", "CONFIG SET pools.version.sizing ondemand");
    expect(&w, "*\"2.000\"*", "CONFIG GET pools.version.idle_timeout");
    expect(&w, "+OK", "POOL.RESIZE version 1 2");
    expect(&w, "*\"dynamic\"*", "CONFIG GET pools.version.sizing");
    expect(&w, "*\"2.000\"*", "CONFIG GET pools.version.idle_timeout");
    expect(&w, "*\"7\"*", "CONFIG GET pools.version.spawn_rate");
}

/* ---- broadcast ---- */

Test(reload, a_broadcast_runs_once_in_every_worker) {
    pid_t pids[8];
    struct wire other;
    char slow[SERVE_ID], line[1024] = "[";
    cr_assert_eq(workers_now(pids, 8), 2);
    /* one of them is at work, the pool is paused, and others wait */
    submit_line(&w, slow, "version slow x");
    expect(&w, "+OK", "POOL.PAUSE version OUT");
    const char *all = ask(&w, "POOL.BROADCAST version who x");
    for (int i = 0; i < 2; i++) {
        snprintf(line, sizeof(line), "[*[:%d \"*\" \"done\" \"1\" \"\"]*]", (int)pids[i]);
        cr_expect(like(line, all), "%s", all);
    }
    expect(&w, "+OK", "POOL.RESUME version OUT");
    cr_expect_str_eq(wait_end(&w, slow), "done|1|");
    cr_expect_str_eq(pool_info(&w, "version", "done"), "3");
    cr_expect_str_eq(pool_info(&w, "version", "queued"), "0");
    expect(&w, "-NOHANDLER *", "POOL.BROADCAST version nosuch x");
    expect(&w, "-ERR a broadcast has no options*", "POOL.BROADCAST version who x DELAY 5");
    /* the next one waits until all have begun the last */
    serve_connect(&other);
    cr_assert_eq(kill(pids[0], SIGSTOP), 0);
    tell(&other, "POOL.BROADCAST version who x");
    cr_assert(pool_becomes(&w, "version", "queued", "1", within(5000)));
    expect(&w, "-BUSY *", "POOL.BROADCAST version who x");
    /* a worker that is gone has not run it */
    cr_assert_eq(kill(pids[0], SIGKILL), 0);
    expect_next(&other, "[*\"lost\" nil \"its worker has left\"*]");
    expect(&w, "[*\"done\"*]", "POOL.BROADCAST version who x");
    wire_close(&other);
}
