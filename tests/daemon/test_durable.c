/* SPDX-License-Identifier: MIT */
/* Durable tasks: what was accepted survives the loss of the segment, with its id, and so does how it ended. The segment here ends
 * with the daemon, so a SIGKILL is as much as the loss of power (but for what the kernel has not written yet). Fails: as a
 * Criterion suite. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "tests/support/child.h"
#include "tests/support/daemon.h"

static struct daemon d;
static struct wire w;
static char dir[TMP_PATH], db[TMP_PATH + 16], config[4096];

static void begin(void) {
    cr_assert_eq(tmp_dir(dir), 0);
    snprintf(db, sizeof(db), "%s/hearth.db", dir);
    snprintf(config, sizeof(config),
             "segment_size = \"32M\";\nstop_timeout = 1;\nsegment_path = \"none\";\ndurable_path = "
             "\"%s\";\n"
             "pools = ( { name = \"sure\"; exec = [ ]; workers = 1; durable = true; },\n"
             "          { name = \"demo\"; module = \"demo.so\"; workers = 2; } );\n",
             db);
    cr_assert_eq(daemon_start(&d, &(struct daemon_options){.config = config}), 0);
    cr_assert_eq(daemon_wait_ready(&d, 30000), 0, "%s", daemon_log(&d));
    cr_assert_eq(daemon_connect(&d, &w), 0);
}

static void stop(void) {
    wire_close(&w);
    int r = daemon_stop(&d);
    child_kill_all();
    int e = tmp_remove(dir);
    cr_assert_eq(r, 0, "the daemon's end: %d", r);
    cr_assert_eq(e, 0);
}

TestSuite(durable, .timeout = 60, .init = begin, .fini = stop);

static void again(void) {
    wire_close(&w);
    cr_assert_eq(daemon_restart(&d), 0);
    cr_assert_eq(daemon_wait_ready(&d, 30000), 0, "%s", daemon_log(&d));
    cr_assert_eq(daemon_connect(&d, &w), 0);
}

#define SUBMIT(id, ...) submit(id, wire_call(&w, "TASK.SUBMIT", __VA_ARGS__, NULL))
static void submit(char id[80], const char *shown) {
    cr_assert_eq(sscanf(shown, "\"%79[^\"]\"", id), 1, "%s", shown);
}

static int rows(const char *where) {
    char sql[256];
    sqlite3 *q;
    sqlite3_stmt *s;
    snprintf(sql, sizeof(sql), "SELECT count(*) FROM tasks WHERE %s", where);
    cr_assert_eq(sqlite3_open_v2(db, &q, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_prepare_v2(q, sql, -1, &s, NULL), SQLITE_OK, "%s", sqlite3_errmsg(q));
    cr_assert_eq(sqlite3_step(s), SQLITE_ROW);
    int n = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(q);
    return n;
}

Test(durable, tasks_and_results_survive_the_segment) {
    char done[80], runs[80], queued[80], late[80], plain[80];
    SUBMIT(done, "sure", "run", "result", "ARG", "cat");
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", done, NULL), "\"result\""), "%s", wire_show(&w));
    SUBMIT(runs, "sure", "run", "", "ARG", "sleep", "ARG", "1");
    SUBMIT(queued, "sure", "run", "hello", "ARG", "cat", "PRIORITY", "10");
    SUBMIT(late, "demo", "echo", "later", "DELAY", "300", "DURABLE");
    SUBMIT(plain, "demo", "sleep", "", "ARG", "60000");
    cr_assert_eq(rows("state = 'queued'"), 3);
    cr_assert_eq(rows("state = 'done' AND result = x'726573756c74'"), 1);
    daemon_kill(&d);
    again();
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", done, NULL), "\"result\""), "%s", wire_show(&w));
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", late, NULL), "\"later\""), "%s", wire_show(&w));
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", runs, NULL), "\"done\""), "%s", wire_show(&w));
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", queued, NULL), "\"hello\""), "%s", wire_show(&w));
    cr_assert(strstr(wire_call(&w, "TASK.STATUS", plain, NULL), "NOTASK"), "%s", wire_show(&w));
}

Test(durable, many_at_once_and_none_lost) {
    enum { N = 200 };
    static char id[N][80];
    for (int i = 0; i < N; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        cr_assert_eq(
            wire_send(&w, "TASK.SUBMIT", "demo", "echo", text, "DURABLE", "DELAY", "500", NULL), 0);
    }
    for (int i = 0; i < N; i++) {
        cr_assert_eq(wire_read(&w, WIRE_LIMIT_MS), 0);
        submit(id[i], wire_show(&w));
    }
    cr_assert_eq(rows("1"), N);
    daemon_kill(&d);
    again();
    for (int i = 0; i < N; i++) {
        char text[16];
        snprintf(text, sizeof(text), "\"%d\"", i);
        cr_assert(strstr(wire_call(&w, "TASK.WAIT", id[i], NULL), text), "%s", wire_show(&w));
    }
}

Test(durable, what_is_forgotten_leaves_the_database) {
    cr_assert_str_eq(wire_call(&w, "CONFIG", "SET", "result_keep", "0.05", NULL), "+OK");
    cr_assert_str_eq(wire_call(&w, "TASK.CALL", "sure", "run", "x", "ARG", "cat", NULL), "\"x\"");
    uint64_t until = clock_now() + 10 * NS_PER_SEC;
    while (rows("1") > 0) {
        cr_assert(clock_now() < until);
        wire_call(&w, "PING", NULL);
    }
}

Test(durable, a_damaged_database_is_set_aside) {
    char id[80], pattern[TMP_PATH + 32];
    glob_t found;
    SUBMIT(id, "sure", "run", "", "ARG", "sleep", "ARG", "60");
    kill(d.pid, SIGTERM);
    cr_assert_eq(daemon_wait(&d, 10000), 0);
    cr_assert_eq(truncate(db, 5000), 0);
    again();
    cr_assert(strstr(daemon_log(&d), "set aside"), "%s", daemon_log(&d));
    cr_assert(strstr(wire_call(&w, "TASK.STATUS", id, NULL), "NOTASK"));
    cr_assert_str_eq(wire_call(&w, "TASK.CALL", "sure", "run", "x", "ARG", "cat", NULL), "\"x\"");
    snprintf(pattern, sizeof(pattern), "%s/hearth.db.[0-9]*", dir);
    cr_assert_eq(glob(pattern, 0, NULL, &found), 0);
    globfree(&found);
}

Test(durable, a_later_schema_is_refused_and_left_alone) {
    sqlite3 *q;
    kill(d.pid, SIGTERM);
    cr_assert_eq(daemon_wait(&d, 10000), 0);
    cr_assert_eq(sqlite3_open(db, &q), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(q, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(q);
    cr_assert_eq(daemon_restart(&d), 0);
    cr_assert_eq(daemon_wait_ready(&d, 30000), -ECHILD);
    cr_assert_eq(daemon_wait(&d, 10000), 1);
    cr_assert(strstr(daemon_log(&d), "version 99"), "%s", daemon_log(&d));
    cr_assert_eq(sqlite3_open(db, &q), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(q, "PRAGMA user_version = 2", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(q);
    again();
}

/* The disk is full: the file may not grow any more. */
Test(durable, a_full_disk_refuses_durable_tasks_and_serves_the_rest) {
    char id[80], big[65537];
    struct rlimit none = {0}, all;
    struct stat st;
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    SUBMIT(id, "demo", "echo", "before", "DURABLE", "DELAY", "1000");
    cr_assert_eq(prlimit(d.pid, RLIMIT_FSIZE, NULL, &all), 0);
    cr_assert_eq(stat(db, &st), 0);
    none.rlim_cur = 4096;
    none.rlim_max = all.rlim_max;
    cr_assert_eq(prlimit(d.pid, RLIMIT_FSIZE, &none, NULL), 0);
    /* the first one meets it, with its reply already on the way; later ones are refused at once */
    for (int i = 0; i < 2; i++) {
        const char *shown = wire_call(&w, "TASK.SUBMIT", "demo", "echo", big, "DURABLE", NULL);
        cr_assert(strncmp(shown, "-DURABLE ", 9) == 0, "%.200s", shown);
    }
    cr_assert_str_eq(wire_call(&w, "TASK.CALL", "demo", "echo", "hi", NULL), "\"hi\"");
    cr_assert_str_eq(wire_call(&w, "HSET", "h", "f", "v", NULL), ":1");
    cr_assert(strstr(daemon_log(&d), "what is durable is refused"), "%s", daemon_log(&d));
    cr_assert_eq(prlimit(d.pid, RLIMIT_FSIZE, &all, NULL), 0);
    uint64_t until = clock_now() + 10 * NS_PER_SEC;
    char after[80];
    while (sscanf(wire_call(&w, "TASK.SUBMIT", "demo", "echo", "after", "DURABLE", NULL),
                  "\"%79[^\"]\"", after) != 1) {
        cr_assert(clock_now() < until, "it never becomes writable again: %s", daemon_log(&d));
    }
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", after, NULL), "\"after\""), "%s", wire_show(&w));
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", id, NULL), "\"before\""), "%s", wire_show(&w));
    /* what was refused is not there afterwards either */
    wire_call(&w, "PING", NULL);
    daemon_kill(&d);
    again();
    cr_assert_eq(rows("length(payload) > 65000"), 0);
}

Test(durable, a_torn_page_is_noticed) {
    char id[80], junk[4096];
    glob_t found;
    char pattern[TMP_PATH + 32];
    for (int i = 0; i < 100; i++) {
        SUBMIT(id, "demo", "echo", "some payload or other, so that there are pages", "DURABLE",
               "DELAY", "60000");
    }
    kill(d.pid, SIGTERM); /* with the last connection the log is moved into the database */
    cr_assert_eq(daemon_wait(&d, 10000), 0);
    memset(junk, 0xa5, sizeof(junk));
    int fd = open(db, O_WRONLY | O_CLOEXEC);
    cr_assert_eq(pwrite(fd, junk, sizeof(junk), 4096), (ssize_t)sizeof(junk));
    close(fd);
    again();
    cr_assert(strstr(daemon_log(&d), "set aside"), "%s", daemon_log(&d));
    snprintf(pattern, sizeof(pattern), "%s/hearth.db.[0-9]*", dir);
    cr_assert_eq(glob(pattern, 0, NULL, &found), 0);
    globfree(&found);
}

Test(durable, a_directory_that_cannot_be_written) {
    wire_close(&w);
    kill(d.pid, SIGTERM);
    cr_assert_eq(daemon_wait(&d, 10000), 0);
    char text[4096];
    snprintf(text, sizeof(text), "durable_path = \"%s/none/hearth.db\";\n", dir);
    cr_assert_eq(tmp_write(d.dir, strrchr(d.config, '/') + 1, text, strlen(text)), 0);
    cr_assert_eq(daemon_restart(&d), 0);
    cr_assert_eq(daemon_wait_ready(&d, 30000), -ECHILD);
    cr_assert_eq(daemon_wait(&d, 10000), 1);
    cr_assert(strstr(daemon_log(&d), "cannot use the database"), "%s", daemon_log(&d));
    cr_assert_eq(tmp_write(d.dir, strrchr(d.config, '/') + 1, config, strlen(config)), 0);
    again();
}

Test(durable, two_daemons_never_share_a_database) {
    char other[TMP_PATH + 16];
    struct stat st;
    snprintf(other, sizeof(other), "%s/other", dir);
    const char *const argv[] = {getenv("HEARTHD"), "-c", d.config, "-s", other, NULL};
    struct child_output second;
    cr_assert_eq(child_run(argv, NULL, NULL, 0, &second), 0);
    cr_assert_eq(second.status, 1);
    cr_assert(strstr(second.err.data + second.err.head, "another daemon has it"), "%s",
              second.err.data + second.err.head);
    child_output_deinit(&second);
    cr_assert_eq(stat(db, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0600);
}

/* What is written to a file without a name is written for nobody. */
Test(durable, a_database_that_is_removed_is_noticed) {
    char id[80];
    cr_assert_eq(unlink(db), 0);
    const char *shown = wire_call(&w, "TASK.SUBMIT", "sure", "run", "", "ARG", "true", NULL);
    cr_assert(strstr(shown, "-DURABLE cannot be written down: the file has been removed"), "%s",
              shown);
    cr_assert_str_eq(wire_call(&w, "TASK.CALL", "demo", "echo", "x", NULL), "\"x\"");
    daemon_kill(&d);
    again();
    SUBMIT(id, "sure", "run", "", "ARG", "true");
    cr_assert_eq(rows("1"), 1);
}

static void keep_the_segment(const char *more) {
    char text[4096];
    snprintf(text, sizeof(text),
             "segment_size = \"32M\";\nstop_timeout = 1;\nsegment_path = \"%s/segment\";\n"
             "durable_path = \"%s\";\npools = ( { name = \"sure\"; exec = [ ]; workers = 1; "
             "durable = true; %s } );\n",
             dir, db, more);
    cr_assert_eq(tmp_write(d.dir, strrchr(d.config, '/') + 1, text, strlen(text)), 0);
    daemon_kill(&d);
    again();
}

/* And its pause goes on where it was, whether the segment is found or not. */
Test(durable, attempts_are_counted_over_all_starts) {
    char id[80], more[80];
    uint64_t until = clock_now() + 10 * NS_PER_SEC;
    keep_the_segment("retries = 9; backoff = 60.0;");
    SUBMIT(id, "sure", "run", "", "ARG", "false");
    while (rows("attempts = 1") == 0) {
        cr_assert(clock_now() < until);
    }
    daemon_kill(&d);
    again();
    SUBMIT(more, "sure", "run", "", "ARG", "true"); /* on the disk after that */
    cr_assert_eq(rows("attempts = 1 AND state = 'queued'"), 1);
    daemon_kill(&d);
    char file[TMP_PATH + 16];
    snprintf(file, sizeof(file), "%s/segment", dir);
    cr_assert_eq(unlink(file), 0);
    again();
    SUBMIT(more, "sure", "run", "", "ARG", "true");
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", more, NULL), "done"), "%s", wire_show(&w));
    cr_assert(strstr(wire_call(&w, "TASK.STATUS", id, NULL), "\"attempt\" :1"), "%s",
              wire_show(&w));
}

/* An end that was told while the disk was full is written by the next daemon. */
Test(durable, an_end_that_could_not_be_written) {
    char id[80], more[80], file[TMP_PATH + 16];
    struct rlimit full = {4096, RLIM_INFINITY}, all;
    keep_the_segment("");
    SUBMIT(id, "sure", "run", "", "ARG", "sh", "ARG", "-c", "ARG", "sleep 0.5; echo end");
    cr_assert_eq(prlimit(d.pid, RLIMIT_FSIZE, NULL, &all), 0);
    full.rlim_max = all.rlim_max;
    cr_assert_eq(prlimit(d.pid, RLIMIT_FSIZE, &full, NULL), 0);
    const char *shown = wire_call(&w, "TASK.SUBMIT", "sure", "run", "", "ARG", "true", NULL);
    cr_assert(strncmp(shown, "-DURABLE ", 9) == 0, "%s", shown);
    cr_assert(strstr(wire_call(&w, "TASK.WAIT", id, NULL), "end"), "%s", wire_show(&w));
    daemon_kill(&d);
    cr_assert_eq(rows("state = 'queued'"), 1);
    again();
    SUBMIT(more, "sure", "run", "", "ARG", "true");
    cr_assert_eq(rows("state = 'done' AND CAST(result AS TEXT) LIKE 'end%'"), 1);
    daemon_kill(&d);
    snprintf(file, sizeof(file), "%s/segment", dir);
    cr_assert_eq(unlink(file), 0);
    again();
    cr_assert(strstr(wire_call(&w, "TASK.RESULT", id, NULL), "end"), "%s", wire_show(&w));
}

Test(durable, without_a_database_it_is_refused) {
    wire_close(&w);
    kill(d.pid, SIGTERM);
    cr_assert_eq(daemon_wait(&d, 10000), 0);
    static const char none[] =
        "pools = ( { name = \"demo\"; module = \"demo.so\"; workers = 1; } );\n";
    cr_assert_eq(tmp_write(d.dir, strrchr(d.config, '/') + 1, none, strlen(none)), 0);
    again();
    cr_assert_str_eq(wire_call(&w, "TASK.SUBMIT", "demo", "echo", "", "DURABLE", NULL),
                     "-DURABLE there is no database: set durable_path");
}
