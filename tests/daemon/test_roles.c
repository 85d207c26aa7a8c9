/* SPDX-License-Identifier: MIT */
/* Who may do what, and how much: real other users connect and are told. Only root can be somebody else. */
#include <criterion/criterion.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/daemon/serve_support.h"
#include "tests/support/child.h"

enum { ADA = 12341, BOB = 12342, EVE = 12343, CREW = 12399 };

static const char config[] =
    "read_users = [ \"12341\", \"12342\" ];\n"
    "write_users = [ \"12341\", \"@12399\" ];\n"
    "admin_users = [ \"12342\" ];\n"
    "map_users = [ \"12343\" ];\n"
    "pools = ( { name = \"shut\"; workers = 1; module = \"demo.so\"; submit_users = [ \"12341\" ]; "
    "},\n"
    "          { name = \"open\"; workers = 1; module = \"demo.so\"; } );\n";

struct line {
    const char *said, *heard;
};

struct user {
    uid_t uid;
    gid_t extra; /* a supplementary group; 0: none */
    const struct line *lines;
};

static char *told; /* shared: what went wrong in a child */

static void begin(void) {
    serve_begin(config);
    told = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(told, MAP_FAILED);
    cr_assert_eq(chmod(server.dir, 0755), 0);
    cr_assert_eq(chmod(server.socket, 0666), 0);
}

static void end(void) {
    munmap(told, 4096);
    serve_end();
}

TestSuite(roles, .init = begin, .fini = end, .timeout = 60);

static int say_lines(void *arg) {
    const struct user *u = arg;
    struct wire w;
    if (setgroups(u->extra != 0, &u->extra) || setgid(u->uid) || setuid(u->uid) ||
        wire_open(&w, server.socket)) {
        return 100;
    }
    for (const struct line *l = u->lines; l->said; l++) {
        tell(&w, "%s", l->said);
        const char *heard = hear(&w);
        if (!like(l->heard, heard)) {
            snprintf(told, 4096, "%u: %s: %.200s", (unsigned)u->uid, l->said, heard);
            return 1;
        }
    }
    wire_close(&w);
    return 0;
}

static void play(uid_t uid, gid_t extra, const struct line *lines) {
    struct user u = {uid, extra, lines};
    cr_expect_eq(child_wait(child_start(say_lines, &u)), 0, "%s", told);
}

#define NOPERM(uid, command)                                                                       \
    "-NOPERM User " #uid " has no permissions to run the '" command "' command"

Test(roles, each_command_by_what_it_does) {
    static const struct line ada[] = {{"SET k v", "+OK"},
                                      {"GET k", "\"v\""},
                                      {"LPUSH l a b", ":2"},
                                      {"MANAGER.OPEN", "\"@*:\""},
                                      {"SEGMENT.CHECK", NOPERM(12341, "segment.check")},
                                      {"config resetstat", NOPERM(12341, "config|resetstat")},
                                      {"CONFIG GET save", "*"},
                                      {NULL, NULL}};
    static const struct line bob[] = {{"GET k", "\"v\""},
                                      {"set k w", NOPERM(12342, "set")},
                                      {"BLPOP l 0", NOPERM(12342, "blpop")},
                                      {"FLUSHALL", NOPERM(12342, "flushall")},
                                      {"MANAGER.OPEN", NOPERM(12342, "manager.open")},
                                      {"KEYS *", "*"},
                                      {"SEGMENT.CHECK", "*errors*"},
                                      {"CONFIG RESETSTAT", "+OK"},
                                      {NULL, NULL}};
    static const struct line crew[] = {{"GET k", NOPERM(12349, "get")},
                                       {"SCAN 0", NOPERM(12349, "scan")},
                                       {"RPUSH l c", ":3"},
                                       {"PING", "+PONG"},
                                       {NULL, NULL}};
    static const struct line eve[] = {{"GET k", "\"v\""}, {"INCR n", ":1"}, {NULL, NULL}};
    if (getuid() != 0) {
        cr_skip_test("only root can be somebody else");
    }
    play(ADA, 0, ada);
    play(BOB, 0, bob);
    play(12349, CREW, crew);
    play(EVE, 0, eve); /* who may map may do in memory what the commands do */
}

Test(roles, in_a_transaction_as_well) {
    static const struct line bob[] = {
        {"MULTI", "+OK"},
        {"GET k", "+QUEUED"},
        {"SET k w", NOPERM(12342, "set")},
        {"EXEC", "-EXECABORT Transaction discarded because of previous errors."},
        {"EXISTS k", ":0"},
        {NULL, NULL}};
    if (getuid() != 0) {
        cr_skip_test("only root can be somebody else");
    }
    play(BOB, 0, bob);
}

Test(roles, submitting_to_each_pool) {
    static const struct line ada[] = {{"TASK.CALL shut echo abc", "\"abc\""},
                                      {"TASK.CALL open echo abc", "\"abc\""},
                                      {NULL, NULL}};
    static const struct line bob[] = {
        {"TASK.CALL shut echo abc", "-NOPERM User 12342 has no permissions to use pool 'shut'"},
        {"TASK.SUBMIT shut echo abc", "-NOPERM *"},
        {"TASK.MSUBMIT shut echo 1 abc", "-NOPERM *"},
        {"TASK.CALL none echo abc", "-NOPOOL *"},
        {"TASK.CALL open echo abc", "\"abc\""},
        {NULL, NULL}};
    if (getuid() != 0) {
        cr_skip_test("only root can be somebody else");
    }
    play(ADA, 0, ada);
    play(BOB, 0, bob);
}

Test(roles, other_users_connections_are_left_alone) {
    static const struct line ada[] = {
        {"CLIENT KILL TYPE normal", ":0"}, {"CLIENT UNBLOCK 1", ":0"}, {NULL, NULL}};
    static const struct line bob[] = {{"CLIENT KILL TYPE normal", ":1"}, {NULL, NULL}};
    struct wire w;
    if (getuid() != 0) {
        cr_skip_test("only root can be somebody else");
    }
    serve_connect(&w);
    expect(&w, "+PONG", "PING");
    play(ADA, 0, ada);
    expect(&w, "+PONG", "PING");
    play(BOB, 0, bob);
    expect_closed(&w);
    wire_close(&w);
}
