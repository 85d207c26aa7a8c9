/* SPDX-License-Identifier: MIT */
/* The commands that are not about tasks, each with its replies in RESP2 and RESP3, and the errors.
 * Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "lib/wire/commands.h"
#include "tests/daemon/serve_support.h"

static struct wire w, other;

static void end(void) {
    wire_close(&w);
    wire_close(&other);
    serve_end();
}

static void begin(void) {
    serve_begin(NULL);
    serve_connect(&w);
}

TestSuite(serve, .timeout = 60, .fini = end);

struct row {
    const char *line, *reply; /* reply NULL: the same as the row's before */
};

static void rows(struct wire *to, const struct row *r, size_t n) {
    for (size_t i = 0; i < n; i++) {
        expect(to, r[i].reply, "%s", r[i].line);
    }
}
#define ROWS(to, r) rows(to, r, sizeof(r) / sizeof((r)[0]))

Test(serve, connection_in_resp2) {
    static const struct row r[] = {
        {"PING", "+PONG"},
        {"ping hello", "\"hello\""},
        {"PING a b", "-ERR wrong number of arguments for 'ping' command"},
        {"ECHO 'a b'", "\"a b\""},
        {"ECHO", "-ERR wrong number of arguments for 'echo' command"},
        {"SELECT 0", "+OK"},
        {"SELECT 1", "-ERR DB index is out of range"},
        {"SELECT x", "-ERR value is not an integer or out of range"},
        {"AUTH secret", "-ERR AUTH <password> called without any password configured*"},
        {"AUTH me secret", "-ERR AUTH <password> called without any password configured*"},
        {"AUTH a b c", "-ERR syntax error"},
        {"HELLO", "[\"server\" \"hearth\" \"version\" \"*\" \"proto\" :2 \"id\" :1 \"mode\" "
                  "\"standalone\" \"role\" \"master\" \"modules\" []]"},
        {"HELLO 4", "-NOPROTO unsupported protocol version"},
        {"HELLO x", "-ERR Protocol version is not an integer or out of range"},
        {"HELLO 2 AUTH a b", "-ERR AUTH <password> called without any password configured*"},
        {"HELLO 2 SETNAME", "-ERR Syntax error in HELLO option 'SETNAME'"},
        {"HELLO 2 SETNAME 'a b'", "-ERR Client names cannot contain spaces*"},
        {"HELLO 2 SETNAME tester", "[\"server\"*"},
        {"CLIENT GETNAME", "\"tester\""},
        {"NOSUCH a 'b c'", "-ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b c' "},
        {"RESET", "+RESET"},
        {"CLIENT GETNAME", "nil"},
    };
    begin();
    ROWS(&w, r);
    expect(&w, "+OK", "QUIT");
    expect_closed(&w);
}

Test(serve, connection_in_resp3) {
    static const struct row r[] = {
        {"HELLO 3 SETNAME me", "{\"server\" \"hearth\" \"version\" \"*\" \"proto\" :3 *}"},
        {"CLIENT GETNAME", "\"me\""},
        {"CLIENT SETNAME ''", "+OK"},
        {"CLIENT GETNAME", "nil"},
        {"CONFIG GET databases", "{\"databases\" \"1\"}"},
        {"COMMAND INFO nosuch", "[nil]"},
        {"HELLO 2", "[\"server\" *"},
        {"CONFIG GET databases", "[\"databases\" \"1\"]"},
        {"HELLO 3", "{*"},
        {"RESET", "+RESET"},
        {"CONFIG GET databases", "[\"databases\" \"1\"]"},
    };
    begin();
    ROWS(&w, r);
}

Test(serve, client_describes_connections) {
    static const struct row r[] = {
        {"CLIENT ID", ":1"},
        {"CLIENT SETNAME worker-7", "+OK"},
        {"CLIENT SETNAME 'a b'", "-ERR Client names cannot contain spaces, newlines or special "
                                 "characters."},
        {"CLIENT SETINFO LIB-NAME redis-py", "+OK"},
        {"CLIENT SETINFO LIB-VER 5.0", "+OK"},
        {"CLIENT SETINFO LIB-NAME 'a b'", "-ERR *cannot contain spaces*"},
        {"CLIENT SETINFO COLOUR red", "-ERR Unrecognized option 'COLOUR'"},
        {"CLIENT INFO", "\"id=1 addr=* name=worker-7 age=* flags=U db=0 * cmd=client|info * resp=2 "
                        "lib-name=redis-py lib-ver=5.0 uid=* pid=* tasks=0 *"},
        {"CLIENT NO-EVICT ON", "+OK"},
        {"CLIENT NO-TOUCH ON", "+OK"},
        {"CLIENT NO-TOUCH maybe", "-ERR syntax error"},
        {"CLIENT INFO", "*flags=eTU *"},
        {"CLIENT TRACKING OFF", "+OK"},
        {"CLIENT TRACKING ON", "-ERR client tracking is not supported*"},
        {"CLIENT GETREDIR", ":-1"},
        {"CLIENT UNBLOCK 1", ":0"},
        {"CLIENT UNBLOCK 99", ":0"},
        {"CLIENT UNBLOCK 1 NOW", "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"},
        {"CLIENT LIST ID 77", "\"\""},
        {"CLIENT LIST ID x", "-ERR Invalid client ID"},
        {"CLIENT LIST TYPE pubsub", "\"\""},
        {"CLIENT LIST TYPE nosuch", "-ERR Unknown client type 'nosuch'"},
        {"CLIENT HELP", "[+CLIENT <subcommand>*"},
        {"CLIENT", "-ERR wrong number of arguments for 'client' command"},
        {"CLIENT ID x", "-ERR wrong number of arguments for 'client|id' command"},
        {"CLIENT DANCE", "-ERR unknown subcommand 'DANCE'. Try CLIENT HELP."},
    };
    begin();
    ROWS(&w, r);
    serve_connect(&other);
    expect(&other, ":2", "CLIENT ID");
    expect(&w, "\"id=1 *\\nid=2 *\"", "CLIENT LIST");
    expect(&w, "\"id=2 *\\n\"", "CLIENT LIST ID 2 3");
    expect(&w, "\"id=1 *\\nid=2 *\"", "CLIENT LIST TYPE normal");
}

Test(serve, client_kill) {
    begin();
    serve_connect(&other);
    expect(&other, "+PONG", "PING");
    expect(&w, ":0", "CLIENT KILL ID 77");
    expect(&w, ":0", "CLIENT KILL TYPE pubsub");
    expect(&w, "-ERR client-id should be greater than 0", "CLIENT KILL ID 0");
    expect(&w, "-ERR syntax error", "CLIENT KILL ID 1 SKIPME");
    expect(&w, "-ERR No such client", "CLIENT KILL 127.0.0.1:80");
    expect(&w, ":1", "CLIENT KILL TYPE normal");
    expect_closed(&other);
    expect(&w, ":1", "CLIENT KILL ID 1 SKIPME no");
    expect_closed(&w);
}

Test(serve, client_reply) {
    begin();
    tell(&w, "CLIENT REPLY SKIP");
    tell(&w, "ECHO skipped");
    expect(&w, "\"heard\"", "ECHO heard");
    tell(&w, "CLIENT REPLY OFF");
    tell(&w, "ECHO off");
    tell(&w, "NOSUCH");
    tell(&w, "TASK.SUBMIT demo echo hello");
    tell(&w, "TASK.CALL demo echo hello");
    expect(&w, "+OK", "CLIENT REPLY ON");
    expect(&w, "-ERR syntax error", "CLIENT REPLY LOUD");
    expect_silence(&w);
}

Test(serve, every_command_is_described) {
    begin();
    expect(&w, ":*", "COMMAND COUNT");
    cr_assert_eq(w.doc.v[0].integer, COMMAND_COUNT_OF);
    ask(&w, "COMMAND");
    cr_assert_eq(w.doc.v[0].count, COMMAND_COUNT_OF);
    ask(&w, "COMMAND LIST"); /* and subcommands */
    cr_assert_gt(w.doc.v[0].count, COMMAND_COUNT_OF);
    expect(&w, "[\"config|resetstat\"]", "COMMAND LIST FILTERBY PATTERN config|*stat");
    ask(&w, "HELLO 3");
    ask(&w, "COMMAND DOCS");
    cr_assert_eq(w.doc.v[0].count, 2 * COMMAND_COUNT_OF); /* a map: keys and values */
    for (int i = 0; i < COMMAND_COUNT_OF; i++) {
        char want[512];
        ask(&w, "COMMAND INFO %s", commands[i].name);
        snprintf(want, sizeof(want), "[[\"*\" :%d ~[*] :%u :%d :%u ~[+@%s] [] [] []]]",
                 commands[i].arity, command_first_key(&commands[i]), command_last_key(&commands[i]),
                 command_key_step(&commands[i]), commands[i].group);
        cr_assert(like(want, wire_show(&w)), "%s", wire_show(&w));
        ask(&w, "COMMAND DOCS %s", commands[i].name);
        snprintf(want, sizeof(want), "{\"*\" {\"summary\" \"%s\" *}}", commands[i].summary);
        cr_assert(like(want, wire_show(&w)), "%s", wire_show(&w));
        /* the table's arity holds: one word too few is refused */
        if (commands[i].arity != 1 && commands[i].arity != -1) {
            expect(&w, "-ERR wrong number of arguments for '*' command", "%s", commands[i].name);
        }
    }
    expect(&w, "[\"task.log\" \"task.list\"]", "COMMAND LIST FILTERBY PATTERN task.l*");
    expect(&w, "[*\"pool.list\"*]", "COMMAND LIST FILTERBY ACLCAT pool");
    expect(&w, "[]", "COMMAND LIST FILTERBY MODULE any");
    expect(&w, "-ERR syntax error", "COMMAND LIST FILTERBY");
    expect(&w, "-ERR The command has no key arguments", "COMMAND GETKEYS PING x");
    expect(&w, "-ERR Invalid command specified", "COMMAND GETKEYS nosuch x");
    expect(&w, "[+COMMAND <subcommand>*", "COMMAND HELP");
}

Test(serve, server) {
    static const struct row r[] = {
        {"INFO", "\"# Server\\r\\nredis_version:7*\\r\\n# Clients\\r\\nconnected_clients:1\\r\\n*"
                 "# Tasks\\r\\n*# Pools\\r\\npool_demo:state=ready,workers=2,*"},
        {"INFO clients tasks", "\"# Clients\\r\\n*\\r\\n\\r\\n# Tasks\\r\\n*\""},
        {"INFO nosuch", "\"\""},
        {"INFO everything",
         "*# Commandstats\\r\\ncmdstat_info:calls=3,rejected_calls=0,failed_calls=0*"},
        {"CONFIG GET segment_size", "[\"segment_size\" \"67108864\"]"},
        {"CONFIG GET save appendonly", "[\"save\" \"\" \"appendonly\" \"no\"]"},
        {"CONFIG GET LIMITS.max_c*", "[\"limits.max_clients\" \"10000\"]"},
        {"CONFIG GET maxmemory", "[\"maxmemory\" \"67108864\"]"},
        {"CONFIG GET nosuch", "[]"},
        {"CONFIG GET", "-ERR wrong number of arguments for 'config|get' command"},
        {"CONFIG SET save x", "-ERR CONFIG SET failed (possibly related to argument 'save') - "
                              "can't set immutable config"},
        {"CONFIG RESETSTAT", "+OK"},
        {"INFO stats", "*total_commands_processed:1\\r\\n*"},
        {"CONFIG HELP", "[+CONFIG <subcommand>*"},
        {"TIME", "[\"1*\" \"*\"]"},
        {"FUNCTION LIST", "[]"},
        {"FUNCTION FLUSH", "+OK"},
        {"FUNCTION FLUSH ASYNC", "+OK"},
        {"FUNCTION FLUSH NEVER", "-ERR FUNCTION FLUSH only supports SYNC|ASYNC option"},
        {"FUNCTION LOAD x", "-ERR unknown subcommand 'LOAD'. Try FUNCTION HELP."},
        {"FUNCTION HELP", "[+FUNCTION <subcommand>*"},
    };
    begin();
    ROWS(&w, r);
}

Test(serve, pools_and_workers) {
    begin();
    expect(&w,
           "[[\"name\" \"demo\" \"kind\" \"module\" \"state\" \"ready\" \"workers\" :2 \"busy\" :0 "
           "\"queued\" :0 \"delayed\" :0 \"running\" :0 \"done\" :0 *] [\"name\" \"shell\" "
           "\"kind\" \"exec\" *]]",
           "POOL.LIST");
    expect(&w, "[\"name\" \"demo\"*\"handlers\" [\"echo\" \"sleep\"*]*\"last_error\" \"\"]",
           "POOL.INFO demo");
    expect(&w, "-NOPOOL no such pool 'nosuch'", "POOL.INFO nosuch");
    expect(&w, "-ERR wrong number of arguments for 'pool.list' command", "POOL.LIST x");
    /* warm is what READY promises; each says by itself, a moment later, that it serves */
    do {
        ask(&w, "WORKER.LIST");
        cr_assert_eq(w.doc.v[0].count, 4);
    } while (like("*\"state\" \"warm\"*", wire_show(&w)));
    expect(
        &w,
        "[[\"pool\" \"shell\" \"slot\" :* \"pid\" :* \"state\" \"serving\" \"task\" nil "
        "\"tasks_done\" :0 \"uptime_s\" :* \"running_us\" :0 \"child_pid\" :0 \"client\" :0] [*]]",
        "WORKER.LIST POOL shell");
    expect(&w, "-NOPOOL no such pool 'nosuch'", "WORKER.LIST POOL nosuch");
    expect(&w, "-ERR syntax error", "WORKER.LIST demo");
    /* at work */
    char id[SERVE_ID];
    submit_line(&w, id, "demo sleep '' ARG 60000");
    do {
        ask(&w, "TASK.STATUS %s", id);
    } while (!like("*\"state\" \"running\"*", wire_show(&w)));
    ask(&w, "WORKER.LIST POOL demo");
    cr_assert(strstr(wire_show(&w), id), "%s", wire_show(&w));
    expect(&w, "[[\"name\" \"demo\"*\"busy\" :1 \"queued\" :0 \"delayed\" :0 \"running\" :1 *",
           "POOL.LIST");
    expect(&w, ":1", "TASK.CANCEL %s", id);
}
