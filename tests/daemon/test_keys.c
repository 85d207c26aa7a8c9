/* SPDX-License-Identifier: MIT */
/* The keyspace where a comparison with Redis (oracle_keys.py) cannot look: keys that expire though nobody asks for them, a
 * full segment, transactions that cannot be carried out whole, WATCH between connections, and the quiet afterwards. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "tests/daemon/serve_support.h"

TestSuite(keys, .timeout = 120, .fini = serve_end);

static struct wire w, other;

/* No workers: the segment is the clients' alone. */
static const char small[] =
    "segment_size = \"4M\"; tasks_max = 64; stop_timeout = 1;\n"
    "pools = ( { name = \"demo\"; module = \"demo.so\"; workers = 1; queue_max = 16; } );\n";

static void begin(const char *config) {
    serve_begin(config);
    serve_connect(&w);
    serve_connect(&other);
}

/* SET with a value of n bytes; what is said. */
static const char *set_bytes(const char *key, size_t n) {
    char *value = malloc(n + 1);
    cr_assert_not_null(value);
    memset(value, 'x', n);
    value[n] = '\0';
    const char *said = wire_call(&w, "SET", key, value, NULL);
    free(value);
    return said;
}

/* Sets keys until the segment is full; how many it took. */
static int fill(size_t n) {
    for (int i = 0;; i++) {
        char key[32];
        snprintf(key, sizeof(key), "fill:%d", i);
        const char *said = set_bytes(key, n);
        if (strncmp(said, "-OOM ", 5) == 0) {
            return i;
        }
        cr_assert_str_eq(said, "+OK");
        cr_assert_lt(i, 100000);
    }
}

Test(keys, expired_keys_go_though_nobody_asks) {
    begin(NULL);
    for (int i = 0; i < 1000; i++) {
        expect(&w, "+OK", "SET e:%d value PX %d", i, 50 + i % 50);
    }
    expect(&w, "+OK", "SET stays value EX 1000");
    expect(&w, "+OK", "SET forever value");
    uint64_t until = clock_now() + 20 * NS_PER_SEC;
    do {
        ask(&w, "DBSIZE");
    } while (w.doc.v[0].integer != 2 && clock_now() < until);
    cr_assert_eq(w.doc.v[0].integer, 2, "%s", wire_show(&w));
    cr_assert_geq(info_number(&w, "expired_keys"), 1000);
    expect(&w, "\"value\"", "GET stays");
}

/* Turns of the daemon's loop while nobody says anything for this long. */
static long long turns_in(int ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    long long before = info_number(&w, "loop_turns");
    nanosleep(&t, NULL);
    return info_number(&w, "loop_turns") - before;
}

Test(keys, idle_when_there_is_nothing_to_do) {
    begin(NULL);
    for (int i = 0; i < 2000; i++) {
        expect(&w, "+OK", "SET k:%d value PX 20", i);
    }
    expect(&w, "+OK", "FLUSHALL");
    expect(&w, ":0", "DBSIZE");
    uint64_t until = clock_now() + 20 * NS_PER_SEC;
    while (turns_in(300) > 12) {
        cr_assert_lt(clock_now(), until, "it does not come to rest");
    }
}

Test(keys, every_key_is_as_likely_as_another) {
    begin(NULL);
    int seen[4] = {0};
    expect(&w, "+OK", "MSET a 1 b 2 c 3 d 4");
    for (int i = 0; i < 2000; i++) {
        const char *key = ask(&w, "RANDOMKEY");
        cr_assert(key[0] == '"' && key[1] >= 'a' && key[1] <= 'd', "%s", key);
        seen[key[1] - 'a']++;
    }
    for (int i = 0; i < 4; i++) { /* 500 with a standard deviation of 19 */
        cr_expect(seen[i] > 375 && seen[i] < 625, "key %d: %d times", i, seen[i]);
    }
}

/* All of it is full of one thing that goes as a whole: what follows at once finds the room. */
Test(keys, a_segment_full_to_the_last_block_can_be_emptied) {
    begin(small);
    int n = fill(100);
    expect(&w, "+OK", "FLUSHALL");
    cr_assert_geq(fill(100), n / 2);
    expect(&w, "+OK", "FLUSHALL");
    for (int i = 0; i < n; i++) {
        if (!like("+OK", ask(&w, "SET brief:%d %0100d PX 1", i, i))) {
            cr_assert_fail("refused, full of what has expired, after %d", i);
        }
    }
}

Test(keys, a_full_segment_refuses_and_loses_nothing) {
    begin(small);
    expect(&w, "+OK", "SET before value");
    int n = fill(3000);
    cr_assert_gt(n, 100);
    expect(&w, "\"value\"", "GET before");
    for (int i = 0; i < n; i++) {
        expect(&w, ":3000", "STRLEN fill:%d", i);
    }
    ask(&w, "DBSIZE");
    cr_assert_eq(w.doc.v[0].integer, n + 1);
    /* all or none of MSET; and of APPEND the old value */
    char *big = calloc(1, 20001);
    cr_assert_not_null(big);
    memset(big, 'y', 20000);
    cr_assert(like("-OOM *", wire_call(&w, "MSET", "before", "changed", "m", big, NULL)));
    cr_assert(like("-OOM *", wire_call(&w, "APPEND", "fill:0", big, NULL)));
    free(big);
    expect(&w, "\"value\"", "GET before");
    expect(&w, ":0", "EXISTS m");
    expect(&w, ":3000", "STRLEN fill:0");
    /* room is found again */
    for (int i = 0; i < n; i += 2) {
        expect(&w, ":1", "DEL fill:%d", i);
    }
    cr_assert_str_eq(set_bytes("again", 3000), "+OK");
    expect(&w, "+OK", "FLUSHALL");
    cr_assert_geq(fill(3000), n * 9 / 10);
}

Test(keys, exec_is_all_or_nothing_when_memory_runs_out) {
    begin(small);
    expect(&w, "+OK", "MSET a 1 b 2");
    fill(3000);
    expect(&w, "+OK", "MULTI");
    expect(&w, "+QUEUED", "INCR a");
    expect(&w, "+QUEUED", "DEL b");
    expect(&w, "+QUEUED", "PUBLISH news gone");
    cr_assert_str_eq(set_bytes("c", 30000), "+QUEUED");
    expect(&w, "+QUEUED", "INCR a");
    expect(&other, "[*\"subscribe\" \"news\" :1]", "SUBSCRIBE news");
    expect(&w, "-EXECABORT Transaction discarded because of: OOM *", "EXEC");
    expect(&w, "[\"1\" \"2\" nil]", "MGET a b c");
    expect(&w, "-ERR EXEC without MULTI", "EXEC");
    expect(&other, "[\"pong\" \"\"]", "PING");
}

Test(keys, a_command_that_fails_inside_leaves_no_trace) {
    begin(NULL);
    expect(&w, "+OK", "MSET a 1 text words");
    expect(&w, "+OK", "MULTI");
    expect(&w, "+QUEUED", "INCR a");
    expect(&w, "+QUEUED", "INCR text");
    expect(&w, "+QUEUED", "RENAME nosuch a");
    expect(&w, "+QUEUED", "INCRBY a 9223372036854775807");
    expect(&w, "+QUEUED", "PING between");
    expect(&w, "+QUEUED", "GET a");
    expect(&w,
           "[:2 -ERR value is not an integer or out of range -ERR no such key "
           "-ERR increment or decrement would overflow \"between\" \"2\"]",
           "EXEC");
}

Test(keys, watch_sees_other_connections) {
    begin(NULL);
    expect(&w, "+OK", "MSET a 1 b 1");
    expect(&w, "+OK", "WATCH a");
    expect(&other, "+OK", "SET b 2");
    expect(&w, "+OK", "MULTI");
    expect(&w, "+QUEUED", "INCR a");
    expect(&w, "[:2]", "EXEC");
    expect(&w, "+OK", "WATCH a");
    expect(&w, "+OK", "MULTI");
    expect(&w, "+QUEUED", "SET a mine");
    expect(&other, "+OK", "SET a theirs");
    expect(&w, "nil", "EXEC");
    expect(&w, "\"theirs\"", "GET a");
    /* it is removed and comes back the same */
    expect(&w, "+OK", "WATCH a");
    expect(&other, ":1", "DEL a");
    expect(&other, "+OK", "SET a theirs");
    expect(&w, "+OK", "MULTI");
    expect(&w, "+QUEUED", "PING");
    expect(&w, "nil", "EXEC");
    /* the end of a transaction is the end of watching; so is RESET */
    expect(&w, "+OK", "WATCH a");
    expect(&w, "+RESET", "RESET");
    expect(&other, "+OK", "SET a 5");
    expect(&w, "+OK", "MULTI");
    expect(&w, "+QUEUED", "INCR a");
    expect(&w, "[:6]", "EXEC");
}

Test(keys, watch_of_a_key_that_is_not_there) {
    begin(NULL);
    /* others come and go */
    expect(&w, "+OK", "WATCH absent");
    for (int i = 0; i < 1000; i++) {
        expect(&other, "+OK", "SET other:%d x", i);
    }
    expect(&other, "+OK", "FLUSHALL");
    expect(&w, "+OK", "MULTI");
    expect(&w, "+QUEUED", "PING");
    expect(&w, "[+PONG]", "EXEC");
    /* made and removed */
    expect(&w, "+OK", "WATCH absent");
    expect(&other, "+OK", "SET absent x");
    expect(&other, ":1", "DEL absent");
    expect(&w, "+OK", "MULTI");
    expect(&w, "+QUEUED", "PING");
    expect(&w, "nil", "EXEC");
    /* another one's new name for an instant */
    expect(&other, "+OK", "SET a x");
    expect(&w, "+OK", "WATCH absent");
    expect(&other, "+OK", "RENAME a absent");
    expect(&other, "+OK", "RENAME absent a");
    expect(&w, "+OK", "MULTI");
    expect(&w, "+QUEUED", "PING");
    expect(&w, "nil", "EXEC");
    /* a dict that was filled and emptied; what was made before WATCH does not count */
    expect(&w, "+OK", "WATCH absent");
    expect(&other, ":1", "HSET absent f v");
    expect(&other, ":1", "HDEL absent f");
    expect(&w, "+OK", "UNWATCH");
    expect(&w, "+OK", "WATCH absent");
    expect(&w, "+OK", "MULTI");
    expect(&w, "+QUEUED", "PING");
    expect(&w, "[+PONG]", "EXEC");
}

Test(keys, an_expired_key_counts_until_somebody_asks_for_it) {
    begin(NULL);
    expect(&w, "+OK", "DEBUG SET-ACTIVE-EXPIRE 0");
    for (int i = 0; i < 5; i++) {
        expect(&w, "+OK", "SET e:%d x PX 1", i);
    }
    expect(&w, "+OK", "SET stays x");
    uint64_t until = clock_now() + 20 * NS_PER_MS;
    while (clock_now() < until) {
        expect(&w, "+PONG", "PING");
    }
    expect(&w, ":6", "DBSIZE");
    expect(&w, ":1", "HSET e:4 f v"); /* a writing command finds nothing there either */
    expect(&w, ":1", "DEL e:4");
    expect(&w, ":5", "DBSIZE");
    expect(&w, "nil", "GET e:0");
    expect(&w, ":4", "DBSIZE");
    expect(&w, "[nil nil \"x\"]", "MGET e:1 e:2 stays");
    expect(&w, ":2", "DBSIZE");
    cr_assert_not_null(strstr(wire_call(&w, "INFO", "stats", NULL), "expired_keys:4\\r"));
    expect(&w, "+OK", "DEBUG SET-ACTIVE-EXPIRE 1");
    until = clock_now() + 10 * NS_PER_SEC;
    while (strcmp(wire_call(&w, "DBSIZE", NULL), ":1") != 0) {
        cr_assert_lt(clock_now(), until);
    }
    expect(&w, "-ERR syntax error", "DEBUG SET-ACTIVE-EXPIRE 2");
    expect(&w, "-ERR unknown subcommand 'SLEEP'. Try DEBUG HELP.", "DEBUG SLEEP 1");
}

Test(keys, watch_sees_expiry) {
    begin(NULL);
    expect(&w, "+OK", "SET a 1 PX 50");
    expect(&w, "+OK", "WATCH a");
    uint64_t until = clock_now() + 10 * NS_PER_SEC;
    do {
        ask(&other, "EXISTS a");
    } while (other.doc.v[0].integer && clock_now() < until);
    expect(&w, "+OK", "MULTI");
    expect(&w, "+QUEUED", "SET a 2");
    expect(&w, "nil", "EXEC");
}

Test(keys, what_waits_is_refused_in_a_transaction) {
    begin(NULL);
    expect(&w, "+OK", "MULTI");
    expect(&w, "-ERR Command not allowed inside a transaction", "TASK.CALL demo echo x");
    expect(&w, "-EXECABORT *", "EXEC");
    expect(&w, "+OK", "MULTI");
    expect(&w, "+QUEUED", "TASK.SUBMIT demo echo x");
    expect(&w, "+QUEUED", "SET a 1");
    expect(&w, "[\"*-*\" +OK]", "EXEC");
}

Test(keys, a_queue_of_commands_is_bounded) {
    begin("limits = { client_max_input = \"128K\"; };\n"
          "pools = ( { name = \"demo\"; module = \"demo.so\"; workers = 1; } );\n");
    expect(&w, "+OK", "MULTI");
    cr_assert_str_eq(set_bytes("a", 60000), "+QUEUED");
    cr_assert_str_eq(set_bytes("a", 60000), "+QUEUED");
    cr_assert(like("-ERR the transaction is larger than*", set_bytes("a", 60000)));
    expect(&w, "-EXECABORT *", "EXEC");
    expect(&w, ":0", "EXISTS a");
    /* so is what is watched, and it is given back */
    char name[1001];
    memset(name, 'n', 1000);
    name[1000] = '\0';
    for (int round = 0; round < 3; round++) {
        int n = 0;
        do {
            snprintf(name + 990, 11, "%010d", n++);
        } while (strcmp(wire_call(&w, "WATCH", name, NULL), "+OK") == 0);
        cr_assert(n > 50 && n < 140, "%d", n);
        expect(&w, "+OK", "UNWATCH");
    }
}

Test(keys, info_tells_of_the_keyspace) {
    begin(NULL);
    expect(&w, "+OK", "FLUSHALL");
    ask(&w, "INFO keyspace");
    cr_assert_null(strstr(wire_show(&w), "db0"), "%s", wire_show(&w));
    expect(&w, "+OK", "MSET a 1 b 2 c 3");
    expect(&w, ":1", "EXPIRE a 1000");
    ask(&w, "INFO keyspace");
    cr_assert_not_null(strstr(wire_show(&w), "db0:keys=3,expires=1,avg_ttl="), "%s", wire_show(&w));
    expect(&w, "\"1\"", "GET a");
    expect(&w, "nil", "GET nosuch");
    cr_assert_geq(info_number(&w, "keyspace_hits"), 1);
    cr_assert_geq(info_number(&w, "keyspace_misses"), 1);
}
