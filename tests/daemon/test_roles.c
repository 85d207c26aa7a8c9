/* SPDX-License-Identifier: MIT */
/* Who may do what, and how much: real other users connect and are told. Only root can be somebody else. */
#include <criterion/criterion.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "tests/daemon/serve_support.h"
#include "tests/support/child.h"

enum { ADA = 12341, BOB = 12342, EVE = 12343, CREW = 12399 };

static const char config[] =
    "read_users = [ \"12341\", \"12342\" ];\n"
    "write_users = [ \"12341\", \"@12399\" ];\n"
    "admin_users = [ \"12342\" ];\n"
    "map_users = [ \"12343\" ];\n"
    "limits = { user_memory = \"128K\"; user_objects = 5; };\n"
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
        {"TASK.MAP shut echo abc", "-NOPERM *"},
        {"TASK.CALL none echo abc", "-NOPOOL *"},
        {"TASK.CALL open echo abc", "\"abc\""},
        {NULL, NULL}};
    if (getuid() != 0) {
        cr_skip_test("only root can be somebody else");
    }
    play(ADA, 0, ada);
    play(BOB, 0, bob);
}

/* Everybody may look at a task; to steer it one must have submitted it, or be an administrator. */
Test(roles, other_users_tasks_are_left_alone) {
    char id[SERVE_ID], done[SERVE_ID], cancel[96], priority[96], result[96], both[96];
    struct wire w;
    if (getuid() != 0) {
        cr_skip_test("only root can be somebody else");
    }
    serve_connect(&w);
    submit_line(&w, done, "open echo abc");
    submit_line(&w, id, "open sleep x ARG 60000");
    snprintf(cancel, sizeof(cancel), "TASK.CANCEL %s", id);
    snprintf(priority, sizeof(priority), "TASK.PRIORITY %s 1", id);
    snprintf(result, sizeof(result), "TASK.WAIT %s TIMEOUT 20000", done);
    snprintf(both, sizeof(both), "TASK.CANCEL 1-1 %s", id);
    const struct line ada[] = {
        {cancel, "-NOPERM User 12341 has no permissions to change another *"},
        {both, "-NOPERM *"},
        {priority, "-NOPERM *"},
        {result, "[* \"done\" \"abc\" *"},
        {result, "[* \"done\" \"abc\" *"},
        {NULL, NULL}};
    const struct line bob[] = {{priority, ":*"}, {cancel, ":1"}, {NULL, NULL}};
    play(ADA, 0, ada);
    play(BOB, 0, bob);
    expect(&w, "[* \"cancelled\" *", "TASK.WAIT %s TIMEOUT 20000", id);
    wire_close(&w);
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

/* ---- how much ---- */

#define QUOTA(uid) "-QUOTA user " #uid " would have more than the limits let him: *"

Test(roles, so_many_objects_of_one_user) {
    static const struct line ada[] = {{"MSET a 1 b 2 c 3", "+OK"},
                                      {"HSET d f v", ":1"},
                                      {"RPUSH e x", ":1"},
                                      {"SET f 1", QUOTA(12341)},
                                      {"EXISTS f", ":0"},
                                      {"INCR a", ":2"},
                                      {"RPUSH e y", ":2"},
                                      {"MULTI", "+OK"},
                                      {"INCR a", "+QUEUED"},
                                      {"SET f 1", "+QUEUED"},
                                      {"DEL b", "+QUEUED"},
                                      {"SET g 1", "+QUEUED"},
                                      {"EXEC", "*" QUOTA(12341)},
                                      {"MGET a b f g", "*"},
                                      {"RENAME g h", "+OK"},
                                      {"COPY h i", QUOTA(12341)},
                                      {"LPOP e 2", "*"},
                                      {"COPY h i", ":1"},
                                      {"INFO accounts", "*user_12341:objects=5,*"},
                                      {NULL, NULL}};
    static const struct line bob[] = {{"SET theirs 1", "-NOPERM *"}, {NULL, NULL}};
    struct wire w;
    if (getuid() != 0) {
        cr_skip_test("only root can be somebody else");
    }
    play(ADA, 0, ada);
    play(BOB, 0, bob);
    serve_connect(&w);
    for (int i = 0; i < 20; i++) { /* the daemon's own user may have any number */
        expect(&w, "+OK", "SET mine%d x", i);
    }
    expect(&w, "*errors*:0*", "SEGMENT.CHECK");
    expect(&w, "+OK", "FLUSHALL");
    expect(&w, "*user_12341:objects=0,*", "INFO accounts");
    expect(&w, "*errors*:0*", "SEGMENT.CHECK");
    wire_close(&w);
}

Test(roles, so_many_bytes_of_one_user) {
    static const struct line ada[] = {{"SETRANGE v 30000 x", ":30001"},
                                      {"SETRANGE w 40000 x", QUOTA(12341)},
                                      {"EXISTS w", ":0"},
                                      {"HSET d f v", ":1"},
                                      {"APPEND v more", ":30005"},
                                      {"SETRANGE v 70000 x", QUOTA(12341)},
                                      {"STRLEN v", ":30005"},
                                      {"SET v small", "+OK"},
                                      {"SETRANGE w 30000 x", ":30001"},
                                      {"DEL v w", ":2"},
                                      {"SETRANGE v 31000 x", ":31001"},
                                      {NULL, NULL}};
    static const struct line crew[] = {
        {"APPEND v x", ":31002"}, {"SETRANGE v 65000 x", QUOTA(12341)}, {NULL, NULL}};
    struct wire w;
    if (getuid() != 0) {
        cr_skip_test("only root can be somebody else");
    }
    play(ADA, 0, ada);
    play(12349, CREW, crew); /* what he adds to another's object is the other's */
    serve_connect(&w);
    expect(&w, "*errors*:0*", "SEGMENT.CHECK");
    wire_close(&w);
}

/* ---- quotas ---- */

static int connect_twice(void *arg) {
    struct wire one = {0}, two = {0};
    (void)arg;
    if (setgroups(0, NULL) || setgid(ADA) || setuid(ADA) || wire_open(&one, server.socket)) {
        return 100;
    }
    tell(&one, "PING");
    if (!like("+PONG", hear(&one)) || wire_open(&two, server.socket) ||
        wire_read(&two, WIRE_LIMIT_MS)) {
        return 101;
    }
    snprintf(told, 4096, "%s", wire_show(&two));
    bool refused = like("-QUOTA user 12341 has 1 connections, the limit is 1", told);
    wire_close(&two);
    wire_close(&one);
    return !refused;
}

Test(roles, a_user_is_bounded_whatever_his_connections_are) {
    static const struct line first[] = {
        {"TASK.SUBMIT open sleep x ARG 300", "\"*"},
        {"TASK.SUBMIT open echo x",
         "-BUSY user 12341 has 1 tasks that have not ended, the limit is 1"},
        {"TASK.MSUBMIT open echo 2 a b", "-BUSY user 12341 has 1 tasks*"},
        {"CLIENT INFO", "*user-clients=1 user-tasks=1 user-task-bytes=256 user-results=0*"},
        {NULL, NULL}};
    static const struct line again[] = {/* another connection */
                                        {"TASK.CALL open echo x", "-BUSY user 12341 has 1 tasks*"},
                                        {NULL, NULL}};
    static const struct line late[] = {
        {"TASK.SUBMIT open echo x",
         "-QUOTA user 12341 has 1 results that nobody has fetched, the limit is 1"},
        {NULL, NULL}};
    static const struct line large[] = {
        {"TASK.CALL open echo small", "\"small\""},
        {"TASK.CALL open echo "
         "0123456789012345678901234567890123456789012345678901234567890123456789",
         "-BUSY user 12341 has given 0 bytes with tasks that have not ended, the limit is 64"},
        {NULL, NULL}};
    struct wire w;
    if (getuid() != 0) {
        cr_skip_test("only root can be somebody else");
    }
    serve_connect(&w);
    expect(&w, "+OK", "CONFIG SET limits.user_tasks 1 limits.user_results 1");
    play(ADA, 0, first);
    play(ADA, 0, again);
    expect(&w, "\"x\"", "TASK.CALL open echo x"); /* root has no such limits */
    expect(&w, "+OK", "POOL.DRAIN open");
    expect(&w, "+OK", "POOL.RESUME open");
    cr_expect(like("*user_12341:*tasks=0,task_bytes=0,results=1*", ask(&w, "INFO accounts")), "%s",
              wire_show(&w));
    play(ADA, 0, late);
    expect(&w, "+OK",
           "CONFIG SET limits.user_tasks 0 limits.user_results 0 "
           "limits.user_task_bytes 64");
    play(ADA, 0, large);
    expect(&w, "+OK", "CONFIG SET limits.user_clients 1");
    cr_expect_eq(child_wait(child_start(connect_twice, NULL)), 0, "%s", told);
    wire_close(&w);
}

Test(roles, another_configuration_counts_for_those_connected) {
    static const struct line bob[] = {{"GET k", "nil"},
                                      {"CONFIG SET read_users 12341", "+OK"},
                                      {"GET k", NOPERM(12342, "get")},
                                      {"CONFIG SET read_users \"12341 12342\"", "+OK"},
                                      {"GET k", "nil"},
                                      {NULL, NULL}};
    static const struct line ada[] = {{"CONFIG SET log_level debug", NOPERM(12341, "config|set")},
                                      {"CONFIG REWRITE", NOPERM(12341, "config|rewrite")},
                                      {"CONFIG RELOAD", NOPERM(12341, "config|reload")},
                                      {"POOL.RESIZE open 2", NOPERM(12341, "pool.resize")},
                                      {"POOL.RECYCLE open", NOPERM(12341, "pool.recycle")},
                                      {NULL, NULL}};
    if (getuid() != 0) {
        cr_skip_test("only root can be somebody else");
    }
    play(BOB, 0, bob);
    play(ADA, 0, ada);
}

/* A schedule is its user's, and its tasks count as his. */
Test(roles, schedules_belong_to_users) {
    static const struct line ada[] = {
        {"SCHEDULE.ADD hers EVERY 100 shut sleep x ARG 60000 OVERLAP ALLOW", "+OK"}, {NULL, NULL}};
    static const struct line eve[] = {
        {"SCHEDULE.ADD x EVERY 100 shut echo x", "-NOPERM User 12343 has no * pool 'shut'"},
        {"SCHEDULE.LIST", "[[\"name\" \"hers\"*]]"},
        {"SCHEDULE.DEL hers", NOPERM(12343, "schedule.del")},
        {"SCHEDULE.PAUSE hers", NOPERM(12343, "schedule.pause")},
        {"SCHEDULE.RUN hers", NOPERM(12343, "schedule.run")},
        {"SCHEDULE.ADD hers @daily REPLACE open echo x", NOPERM(12343, "schedule.add")},
        {NULL, NULL}};
    static const struct line bob[] = {{"SCHEDULE.DEL hers", ":1"}, {NULL, NULL}}; /* admin */
    struct wire w;
    if (getuid() != 0) {
        cr_skip_test("only root can be somebody else");
    }
    serve_connect(&w);
    expect(&w, "+OK", "CONFIG SET limits.user_tasks 2 stop_timeout 0.1");
    play(ADA, 0, ada);
    play(EVE, 0, eve);
    uint64_t limit = clock_now() + 20 * NS_PER_SEC;
    while (!like("*\"uid\" :12341*\"last_error\" \"its user is over a limit\"*",
                 ask(&w, "SCHEDULE.INFO hers"))) {
        cr_assert(clock_now() < limit, "%s", wire_show(&w));
        ask(&w, "EVENTS.READ FROM $ BLOCK 20");
    }
    cr_expect(like("*\"runs\" :2 *", ask(&w, "SCHEDULE.INFO hers")), "%s", wire_show(&w));
    play(BOB, 0, bob);
    wire_close(&w);
}
