/* SPDX-License-Identifier: MIT */
/* Durable dicts, lists and values: what was acknowledged survives the loss of the segment. The segment here ends with the daemon, so a
 * SIGKILL is as much as the loss of power (but for what the kernel has not written yet). Fails: as a Criterion suite. */
#include "client/hearth.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "tests/support/child.h"
#include "tests/support/daemon.h"

static struct daemon d;
static struct wire w;
static char dir[TMP_PATH], db[TMP_PATH + 16], segment[TMP_PATH + 16], config[4096];

static void begin_with(const char *segment_path) {
    snprintf(db, sizeof(db), "%s/hearth.db", dir);
    snprintf(
        config, sizeof(config),
        "segment_size = \"32M\"; stop_timeout = 1; segment_path = \"%s\";\n"
        "durable_path = \"%s\"; map_users = [ \"@daemon\" ];\n"
        "pools = ( { name = \"use\"; module = \"%s/tests/daemon/mod_use.so\"; workers = 1; } );\n",
        segment_path, db, getenv("HEARTH_BUILD"));
    cr_assert_eq(daemon_start(&d, &(struct daemon_options){.config = config}), 0);
    cr_assert_eq(daemon_wait_ready(&d, 30000), 0, "%s", daemon_log(&d));
    cr_assert_eq(daemon_connect(&d, &w), 0);
}

static void begin(void) {
    cr_assert_eq(tmp_dir(dir), 0);
    begin_with("none");
}

static void begin_kept(void) {
    cr_assert_eq(tmp_dir(dir), 0);
    snprintf(segment, sizeof(segment), "%s/segment", dir);
    begin_with(segment);
}

static void stop(void) {
    wire_close(&w);
    int r = daemon_stop(&d);
    child_kill_all();
    int e = tmp_remove(dir);
    cr_assert_eq(r, 0, "the daemon's end: %d", r);
    cr_assert_eq(e, 0);
}

TestSuite(durable_objects, .timeout = 60, .init = begin, .fini = stop);
TestSuite(durable_kept, .timeout = 60, .init = begin_kept, .fini = stop);

static void again(void) {
    wire_close(&w);
    cr_assert_eq(daemon_restart(&d), 0);
    cr_assert_eq(daemon_wait_ready(&d, 30000), 0, "%s", daemon_log(&d));
    cr_assert_eq(daemon_connect(&d, &w), 0);
}

static void power_lost(void) {
    daemon_kill(&d);
    if (*segment) {
        cr_assert_eq(unlink(segment), 0);
    }
    again();
}

/* What the first column of the first row is. */
static const char *query(const char *sql) {
    static char found[256];
    sqlite3 *q;
    sqlite3_stmt *s;
    cr_assert_eq(sqlite3_open_v2(db, &q, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_prepare_v2(q, sql, -1, &s, NULL), SQLITE_OK, "%s", sqlite3_errmsg(q));
    int r = sqlite3_step(s);
    const char *text = r == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 0) : NULL;
    snprintf(found, sizeof(found), "%s", text ? text : "");
    sqlite3_finalize(s);
    sqlite3_close(q);
    return found;
}

#define CALL(expected, ...)                                                                        \
    cr_assert_str_eq(wire_call(&w, __VA_ARGS__, NULL), expected, "%s", wire_show(&w))
#define SQL(expected, sql) cr_assert_str_eq(query(sql), expected)

Test(durable_objects, each_kind_survives_the_segment) {
    CALL(":2", "HSET", "durable:d", "a", "1", "b", "2");
    CALL(":1", "HDEL", "durable:d", "a");
    CALL(":7", "HINCRBY", "durable:d", "n", "7");
    CALL("+OK", "SET", "durable:v", "text");
    CALL(":1", "INCR", "durable:n");
    CALL(":2", "INCR", "durable:n");
    CALL(":3", "RPUSH", "durable:l", "x", "y", "z");
    CALL(":4", "LPUSH", "durable:l", "w");
    CALL("\"z\"", "RPOP", "durable:l");
    CALL("+OK", "LSET", "durable:l", "1", "X");
    CALL("+OK", "SET", "plain", "gone");
    SQL("2", "SELECT count(*) FROM dict_fields");
    SQL("2", "SELECT value FROM dict_fields WHERE key = 'durable:d' AND field = 'b'");
    SQL("text", "SELECT value FROM key_values WHERE key = 'durable:v'");
    SQL("w,X,y",
        "SELECT group_concat(value) FROM (SELECT value FROM list_items ORDER BY position)");
    for (int i = 0; i < 2; i++) {
        power_lost();
        CALL("[\"2\" \"7\" nil]", "HMGET", "durable:d", "b", "n", "a");
        CALL("\"text\"", "GET", "durable:v");
        CALL("\"2\"", "GET", "durable:n");
        CALL("[\"w\" \"X\" \"y\"]", "LRANGE", "durable:l", "0", "-1");
        CALL("nil", "GET", "plain");
    }
}

Test(durable_objects, lists_in_the_middle_and_at_both_ends) {
    CALL(":5", "RPUSH", "durable:l", "a", "b", "c", "d", "e");
    CALL(":6", "LINSERT", "durable:l", "BEFORE", "c", "B");
    CALL(":1", "LREM", "durable:l", "1", "d");
    CALL("+OK", "LTRIM", "durable:l", "1", "-1");
    CALL("\"b\"", "LPOP", "durable:l");
    CALL(":4", "LPUSH", "durable:l", "0");
    power_lost();
    CALL("[\"0\" \"B\" \"c\" \"e\"]", "LRANGE", "durable:l", "0", "-1");
    CALL("\"0\"", "LPOP", "durable:l"); /* positions go on where they were */
    CALL(":4", "RPUSH", "durable:l", "f");
    CALL("\"B\"", "LMOVE", "durable:l", "durable:m", "LEFT", "RIGHT");
    power_lost();
    CALL("[\"c\" \"e\" \"f\"]", "LRANGE", "durable:l", "0", "-1");
    CALL("[\"B\"]", "LRANGE", "durable:m", "0", "-1");
    CALL("\"B\"", "RPOP", "durable:m");
    SQL("0", "SELECT count(*) FROM key_values WHERE key = 'durable:m'");
    SQL("3", "SELECT count(*) FROM list_items");
}

Test(durable_objects, names_types_and_times) {
    CALL(":1", "HSET", "durable:a", "f", "1");
    CALL(":1", "HSET", "plain", "g", "2");
    CALL("+OK", "RENAME", "durable:a", "durable:b");
    CALL("+OK", "RENAME", "plain", "durable:c");
    CALL(":1", "COPY", "durable:b", "durable:d");
    CALL("+OK", "RENAME", "durable:c", "other");
    CALL(":1", "HSET", "durable:type", "f", "1");
    CALL("+OK", "SET", "durable:type", "now a value");
    CALL(":1", "DEL", "durable:d");
    CALL(":1", "HSET", "durable:d", "new", "3"); /* without the old field */
    CALL("+OK", "SET", "durable:late", "x", "PX", "100000");
    CALL("+OK", "SET", "durable:soon", "x", "PX", "40");
    CALL(":1", "EXPIRE", "durable:b", "1000");
    power_lost();
    CALL("[]", "KEYS", "other*");
    CALL(":0", "EXISTS", "durable:a", "durable:c");
    CALL("\"1\"", "HGET", "durable:b", "f");
    CALL("\"now a value\"", "GET", "durable:type");
    CALL(":1", "HLEN", "durable:d");
    CALL("\"3\"", "HGET", "durable:d", "new");
    cr_assert_geq(atoi(wire_call(&w, "TTL", "durable:b", NULL) + 1), 900);
    cr_assert_geq(atoi(wire_call(&w, "PTTL", "durable:late", NULL) + 1), 50000);
    uint64_t until = clock_now() + 10 * NS_PER_SEC;
    while (strcmp(query("SELECT count(*) FROM key_values WHERE key = 'durable:soon'"), "0") != 0) {
        cr_assert(clock_now() < until);
        wire_call(&w, "GET", "durable:soon", NULL);
    }
    CALL("+OK", "FLUSHALL");
    SQL("0", "SELECT count(*) FROM key_values");
    SQL("0", "SELECT count(*) FROM dict_fields");
    power_lost();
    CALL(":0", "DBSIZE");
}

Test(durable_objects, a_transaction_is_there_whole) {
    CALL("+OK", "MULTI");
    CALL("+QUEUED", "HSET", "durable:a", "f", "1");
    CALL("+QUEUED", "RPUSH", "durable:b", "e");
    CALL("+QUEUED", "SET", "durable:c", "v");
    CALL("[:1 :1 +OK]", "EXEC");
    power_lost();
    CALL(":3", "EXISTS", "durable:a", "durable:b", "durable:c");
}

Test(durable_objects, many_at_once_and_none_lost) {
    enum { N = 2000 };
    char text[16];
    for (int i = 0; i < N; i++) {
        snprintf(text, sizeof(text), "%d", i);
        cr_assert_eq(wire_send(&w, "HSET", "durable:many", text, text, NULL), 0);
        cr_assert_eq(wire_send(&w, "RPUSH", "durable:row", text, NULL), 0);
    }
    for (int i = 0; i < 2 * N; i++) {
        cr_assert_eq(wire_read(&w, WIRE_LIMIT_MS), 0);
    }
    power_lost();
    CALL(":2000", "HLEN", "durable:many");
    CALL(":2000", "LLEN", "durable:row");
    CALL("\"1999\"", "LINDEX", "durable:row", "-1");
    cr_assert(strstr(wire_call(&w, "SEGMENT.CHECK", NULL), "\"errors\" :0"), "%s", wire_show(&w));
}

Test(durable_objects, who_waits_for_an_element_is_served_when_it_is_gone_for_good) {
    struct wire other;
    cr_assert_eq(daemon_connect(&d, &other), 0);
    cr_assert_eq(wire_send(&other, "BLPOP", "durable:l", "0", NULL), 0);
    cr_assert_str_eq(wire_call(&w, "RPUSH", "durable:l", "a", "b", NULL), ":2");
    cr_assert_eq(wire_read(&other, WIRE_LIMIT_MS), 0);
    cr_assert_str_eq(wire_show(&other), "[\"durable:l\" \"a\"]");
    wire_close(&other);
    power_lost();
    CALL("[\"b\"]", "LRANGE", "durable:l", "0", "-1");
}

/* They are not held up; who wants to know asks. */
Test(durable_objects, handlers_and_mapped_clients) {
    struct hearth *h;
    uint64_t n = 0;
    int64_t v = 0;
    CALL("\"\"", "TASK.CALL", "use", "append", "", "ARG", "durable:log", "ARG", "w", "ARG", "30");
    cr_assert_eq(hearth_connect(d.socket, &h), 0);
    cr_assert_eq(hearth_attach(h, 0), 0, "%s", hearth_errmsg(h));
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(hearth_value_add(h, hearth_text("durable:n"), 1, &v), 0);
        cr_assert_eq(hearth_dict_add(h, hearth_text("durable:d"), hearth_text("f"), 2, &v), 0);
    }
    cr_assert_eq(hearth_list_push(h, hearth_text("durable:log"), HEARTH_LEFT,
                                  &(struct hearth_bytes){"m", 1}, 1, &n),
                 0);
    cr_assert_eq(hearth_durable_sync(h), 0, "%s", hearth_errmsg(h));
    SQL("100", "SELECT value FROM key_values WHERE key = 'durable:n'");
    cr_assert_eq(hearth_value_add(h, hearth_text("durable:n"), 1, &v), 0);
    CALL("\"0\"", "TASK.CALL", "use", "sync", "");
    SQL("101", "SELECT value FROM key_values WHERE key = 'durable:n'");
    hearth_close(h);
    power_lost();
    CALL("\"101\"", "GET", "durable:n");
    CALL("\"200\"", "HGET", "durable:d", "f");
    CALL(":31", "LLEN", "durable:log");
    CALL("[\"m\" \"w:0\"]", "LRANGE", "durable:log", "0", "1");
}

Test(durable_objects, a_full_disk_refuses_and_serves_the_rest) {
    enum { LARGE = 1 << 20 };
    static char large[LARGE + 1];
    struct rlimit before, few;
    memset(large, 'x', LARGE);
    CALL("+OK", "SET", "durable:v", "before");
    cr_assert_eq(prlimit(d.pid, RLIMIT_FSIZE, NULL, &before), 0);
    few = (struct rlimit){LARGE / 2, before.rlim_max};
    cr_assert_eq(prlimit(d.pid, RLIMIT_FSIZE, &few, NULL), 0);
    cr_assert(strstr(wire_call(&w, "SET", "durable:large", large, NULL),
                     "-DURABLE it is done, but not on the disk yet: "),
              "%s", wire_show(&w));
    cr_assert(strstr(wire_call(&w, "SET", "durable:v", "refused", NULL),
                     "-DURABLE the database cannot be written: "),
              "%s", wire_show(&w));
    CALL("\"before\"", "GET", "durable:v");
    CALL("+OK", "SET", "plain", "served");
    cr_assert_eq(prlimit(d.pid, RLIMIT_FSIZE, &before, NULL), 0);
    uint64_t until = clock_now() + 10 * NS_PER_SEC;
    while (strcmp(wire_call(&w, "SET", "durable:v", "after", NULL), "+OK") != 0) {
        cr_assert(clock_now() < until, "%s", wire_show(&w));
    }
    power_lost();
    CALL(":1048576", "STRLEN", "durable:large");
    CALL("\"after\"", "GET", "durable:v");
}

Test(durable_objects, a_database_of_version_1_is_upgraded) {
    sqlite3 *q;
    kill(d.pid, SIGTERM);
    cr_assert_eq(daemon_wait(&d, 10000), 0);
    cr_assert_eq(sqlite3_open(db, &q), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(q,
                              "DROP TABLE key_values; DROP TABLE dict_fields; DROP TABLE "
                              "list_items; PRAGMA user_version = 1",
                              NULL, NULL, NULL),
                 SQLITE_OK);
    sqlite3_close(q);
    again();
    CALL("+OK", "SET", "durable:v", "x");
    SQL("2", "PRAGMA user_version");
    power_lost();
    CALL("\"x\"", "GET", "durable:v");
}

Test(durable_objects, without_a_database_they_are_refused) {
    wire_close(&w);
    kill(d.pid, SIGTERM);
    cr_assert_eq(daemon_wait(&d, 10000), 0);
    static const char none[] =
        "pools = ( { name = \"demo\"; module = \"demo.so\"; workers = 1; } );\n";
    cr_assert_eq(tmp_write(d.dir, strrchr(d.config, '/') + 1, none, strlen(none)), 0);
    again();
    CALL("-DURABLE there is no database: set durable_path", "SET", "durable:v", "x");
    CALL("-DURABLE there is no database: set durable_path", "HSET", "durable:d", "a", "x");
    CALL(":0", "EXISTS", "durable:v", "durable:d");
    CALL("+OK", "SET", "durable", "x");
}

Test(durable_objects, other_kinds_cannot_be_durable) {
    CALL("-ERR only dicts, lists and values can be durable", "QUEUE.PUT", "durable:q", "x");
}

/* ---- with the segment of the former daemon ---- */

Test(durable_kept, what_is_noted_while_nobody_is_there_is_written_by_the_next) {
    struct hearth *h;
    int64_t v = 0;
    CALL(":1", "INCR", "durable:n");
    cr_assert_eq(hearth_connect(d.socket, &h), 0);
    cr_assert_eq(hearth_attach(h, 0), 0, "%s", hearth_errmsg(h));
    kill(d.pid, SIGSTOP);
    cr_assert_eq(hearth_value_add(h, hearth_text("durable:n"), 1, &v), 0);
    cr_assert_eq(hearth_value_set(h, hearth_text("durable:new"), hearth_text("x"), 0, 0), 0);
    daemon_kill(&d);
    SQL("1", "SELECT value FROM key_values");
    again();
    CALL("\"2\"", "GET", "durable:n");
    CALL("+OK", "DURABLE.SYNC");
    SQL("2", "SELECT value FROM key_values WHERE key = 'durable:n'");
    hearth_close(h);
    power_lost();
    CALL("\"2\"", "GET", "durable:n");
    CALL("\"x\"", "GET", "durable:new");
}

Test(durable_kept, the_segment_counts_and_the_database_follows) {
    sqlite3 *q;
    CALL(":1", "HSET", "durable:d", "f", "1");
    CALL(":2", "RPUSH", "durable:l", "a", "b");
    daemon_kill(&d);
    cr_assert_eq(sqlite3_open(db, &q), SQLITE_OK);
    cr_assert_eq(
        sqlite3_exec(q,
                     "DELETE FROM key_values WHERE key = 'durable:l'; DELETE FROM list_items;"
                     "INSERT INTO key_values VALUES('durable:none', 'hash', NULL, NULL);"
                     "INSERT INTO dict_fields VALUES('durable:none', 'f', 'x')",
                     NULL, NULL, NULL),
        SQLITE_OK);
    sqlite3_close(q);
    again();
    CALL("+OK", "DURABLE.SYNC");
    SQL("2", "SELECT count(*) FROM key_values");
    SQL("1", "SELECT count(*) FROM dict_fields");
    SQL("a,b", "SELECT group_concat(value) FROM (SELECT value FROM list_items ORDER BY position)");
    power_lost();
    CALL(":2", "DBSIZE");
    CALL("[\"a\" \"b\"]", "LRANGE", "durable:l", "0", "-1");
}

Test(durable_kept, an_orderly_stop_leaves_nothing_to_be_written) {
    struct hearth *h;
    int64_t v = 0;
    cr_assert_eq(hearth_connect(d.socket, &h), 0);
    cr_assert_eq(hearth_attach(h, 0), 0, "%s", hearth_errmsg(h));
    for (int i = 0; i < 500; i++) {
        cr_assert_eq(hearth_value_add(h, hearth_text("durable:n"), 1, &v), 0);
    }
    hearth_close(h);
    kill(d.pid, SIGTERM);
    cr_assert_eq(daemon_wait(&d, 10000), 0);
    SQL("500", "SELECT value FROM key_values");
    again();
    CALL("\"500\"", "GET", "durable:n");
}

Test(durable_kept, without_the_database_they_stay_as_they_are) {
    static const char none[] = "segment_size = \"32M\"; segment_path = \"%s\";";
    char text[512];
    CALL(":1", "HSET", "durable:d", "f", "1");
    CALL("+OK", "SET", "durable:soon", "x", "PX", "30");
    wire_close(&w);
    daemon_kill(&d);
    int n = snprintf(text, sizeof(text), none, segment);
    cr_assert_eq(tmp_write(d.dir, strrchr(d.config, '/') + 1, text, (size_t)n), 0);
    again();
    CALL("\"1\"", "HGET", "durable:d", "f");
    CALL("-DURABLE there is no database: set durable_path", "DEL", "durable:d");
    CALL("-DURABLE there is no database: set durable_path", "FLUSHALL");
    CALL("-DURABLE there is no database: set durable_path", "DURABLE.SYNC");
    CALL("+OK", "SET", "plain", "x");
    uint64_t until = clock_now() + 10 * NS_PER_SEC;
    while (strcmp(wire_call(&w, "DBSIZE", NULL), ":2") != 0) { /* its time is over all the same */
        cr_assert(clock_now() < until);
        wire_call(&w, "GET", "durable:soon", NULL);
    }
    wire_close(&w);
    daemon_kill(&d);
    cr_assert_eq(tmp_write(d.dir, strrchr(d.config, '/') + 1, config, strlen(config)), 0);
    again();
    CALL("+OK", "DURABLE.SYNC");
    SQL("1", "SELECT count(*) FROM key_values");
}
