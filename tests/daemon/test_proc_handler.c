/* SPDX-License-Identifier: MIT */
/* Handlers in processes of their own (PROC.START HANDLER), over the socket and by libhearth: every way in which they end, that they are
 * nothing to their pool, that they hold what workers hold and let go of it, and the ends of the starter and the daemon. Fails: as a
 * Criterion suite. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/hearth.h"
#include "lib/base/clock.h"
#include "tests/daemon/serve_support.h"

static struct wire w;

static const char pools[] =
    "limits = { max_processes = 100; };\n"
    "pools = ( { name = \"demo\"; module = \"demo.so\"; workers = 1; env = [ \"TRY_A=1\", "
    "\"TRY_B=1\" ]; "
    "},\n"
    "          { name = \"text\"; module = \"text.so\"; workers = 1; timeout = 0.01; },\n"
    "          { name = \"shell\"; exec = [ ]; workers = 1; } );\n";

static void begin_with(const char *config) {
    serve_begin(config);
    serve_connect(&w);
}

static void begin(void) {
    begin_with(pools);
}

static void end(void) {
    expect(&w, "[\"errors\" :0 *\"dead_slots\" :0*", "SEGMENT.CHECK");
    wire_close(&w);
    serve_end();
}

TestSuite(proc_handler, .timeout = 60, .init = begin, .fini = end);
/* With a configuration of its own: a suite's init runs beside that of a test, not in place of it. */
TestSuite(proc_handler_own, .timeout = 60, .fini = end);

Test(proc_handler, how_they_end) {
    expect(&w, "[\"id\" * \"pid\" :* \"task\" \"*\"]", "PROC.START NAME a HANDLER demo echo hello");
    expect(&w,
           "[*\"command\" \"demo.echo\" *\"cause\" \"exit status 0\" *\"task\" \"*\" \"status\" "
           "\"done\" \"result\" \"hello\" \"failure\" \"\"]",
           "PROC.WAIT a");
    expect(&w, "[*", "PROC.START NAME b HANDLER demo echo '' ARG one ARG two");
    expect(&w, "*\"result\" \"one two\" *", "PROC.WAIT b");
    expect(&w, "[*", "PROC.START NAME c HANDLER demo fail '' ARG 'no luck' ARG 7");
    expect(&w,
           "*\"exit_status\" :1*\"status\" \"failed\" \"result\" nil \"failure\" \"error 7: no "
           "luck\"]",
           "PROC.WAIT c");
    expect(&w, "[*", "PROC.START NAME d HANDLER demo crash '' ARG KILL");
    expect(&w,
           "*\"signal\" :9*\"status\" \"lost\" \"result\" nil \"failure\" \"signal 9 (SIGKILL)\"]",
           "PROC.WAIT d");
    expect(&w, "[*", "PROC.START NAME e HANDLER demo exit '' ARG 3");
    expect(&w, "*\"exit_status\" :3*\"status\" \"lost\"*\"failure\" \"exit status 3\"]",
           "PROC.WAIT e");
    expect(&w, "*\"status\" \"done\" \"result\" \"hello\" *", "PROC.WAIT a"); /* again */
    expect(&w, "[*", "PROC.START NAME f COMMAND true");
    expect(&w, "*\"task\" \"\" \"status\" \"\" \"result\" nil \"failure\" \"\"]", "PROC.WAIT f");
    /* to the pool they are no workers, and their tasks wait for none of its */
    expect(&w, "*\"busy\" :0 \"queued\" :0*\"done\" :2 \"failed\" :1 \"lost\" :2*\"deaths\" :0*",
           "POOL.INFO demo");
}

/* The pool's one worker is free for others, and its time limit is not theirs. */
Test(proc_handler, they_are_none_of_the_pools_workers) {
    expect(&w, "[*", "PROC.START NAME a HANDLER demo sleep '' ARG 60000");
    expect(&w, "\"next\"", "TASK.CALL demo echo next");
    expect(&w, "*\"workers\" :1 \"busy\" :0 \"queued\" :0*", "POOL.INFO demo");
    expect(&w, "*\"state\" \"running\"*", "PROC.INFO a");
    expect(&w, "+OK", "POOL.PAUSE demo OUT");
    expect(&w, "[*", "PROC.START NAME b HANDLER demo echo hello");
    expect(&w, "*\"result\" \"hello\" *", "PROC.WAIT b");
    expect(&w, ":1", "PROC.SIGNAL a TERMINATE");
    expect(&w, "*\"status\" \"lost\" *", "PROC.WAIT a");
}

Test(proc_handler, their_task_is_a_task) {
    char id[80];
    const char *reply = ask(&w, "PROC.START NAME a HANDLER demo sleep '' ARG 60000");
    cr_assert_eq(sscanf(strstr(reply, "\"task\" \""), "\"task\" \"%79[^\"]", id), 1, "%s", reply);
    uint64_t until = clock_now() + 10 * NS_PER_SEC;
    while (!like("*\"state\" \"running\"*", ask(&w, "TASK.STATUS %s", id))) {
        cr_assert_lt(clock_now(), until, "%s", wire_show(&w));
    }
    expect(&w, ":1", "TASK.CANCEL %s", id);
    expect(&w, "*\"exit_status\" :1*\"status\" \"cancelled\" \"result\" nil*", "PROC.WAIT a");
    expect(&w, "[\"*\" \"cancelled\" nil *]", "TASK.WAIT %s", id);
}

Test(proc_handler, words_that_are_refused) {
    expect(&w, "-ERR syntax error", "PROC.START HANDLER demo echo");
    expect(&w, "-NOPOOL *", "PROC.START HANDLER nonesuch echo x");
    expect(&w, "-NOHANDLER *", "PROC.START HANDLER demo nonesuch x");
    expect(&w, "-ERR it is not a pool of a module*", "PROC.START HANDLER shell run x");
    expect(&w, "-ERR a handler has one task*", "PROC.START RESTART always HANDLER demo echo x");
    expect(&w, "-ERR the task of a process has no options but ARG",
           "PROC.START HANDLER demo echo x PRIORITY 3");
    expect(&w, "-ERR the task of a process has no options but ARG",
           "PROC.START HANDLER demo echo x TIMEOUT 1000");
    expect(&w, "-ERR it cannot be started: working_directory: *",
           "PROC.START DIR /nonesuch HANDLER demo echo x");
    expect(&w, "[*", "PROC.START NAME a HANDLER demo sleep '' ARG 60000");
    expect(&w, "-EXISTS process * has that name", "PROC.START NAME a HANDLER demo echo x");
    expect(&w, "*\"queued\" :0*", "POOL.INFO demo");
    expect(&w, "[[*\"handler\" \"sleep\"*]]", "TASK.LIST"); /* no task has stayed */
    expect(&w, ":1", "PROC.SIGNAL a KILL");
    expect(&w, "*\"signal\" :9*", "PROC.WAIT a");
}

Test(proc_handler, so_many_at_a_time) {
    for (int i = 0; i < 32; i++) {
        expect(&w, "[*", "PROC.START NAME p%d HANDLER demo sleep '' ARG 60000", i);
    }
    expect(&w, "-QUOTA as many of handlers as may (32) run", "PROC.START HANDLER demo echo x");
    for (int i = 0; i < 32; i++) {
        expect(&w, ":1", "PROC.SIGNAL p%d KILL", i);
        expect(&w, "*\"signal\" :9*", "PROC.WAIT p%d", i);
    }
    expect(&w, "[*", "PROC.START NAME p HANDLER demo echo x");
    expect(&w, "*\"result\" \"x\" *", "PROC.WAIT p");
    expect(&w, "*\"queued\" :0*", "POOL.INFO demo");
}

/* What the pool's module calls is done in shared memory, and what it holds is let go of when it dies. */
Test(proc_handler_own, it_holds_what_a_worker_holds) {
    char config[512];
    snprintf(config, sizeof(config),
             "pools = ( { name = \"sync\"; workers = 1; module = \"%s/tests/daemon/mod_sync.so\"; "
             "} );\n",
             getenv("HEARTH_BUILD"));
    begin_with(config);
    expect(&w, "[*", "PROC.START NAME a HANDLER sync check ''");
    expect(&w, "*\"result\" \"well\" *", "PROC.WAIT a");
    expect(&w, "[*", "PROC.START NAME b HANDLER sync die ''");
    expect(&w, "*\"signal\" :9*", "PROC.WAIT b");
    expect(&w, "+OWNER_DIED", "LOCK.ACQUIRE l");
    expect(&w, "[*", "PROC.START NAME c HANDLER sync lock ''");
    expect(&w, "+OK", "LOCK.RELEASE l");
    expect(&w, "*\"result\" \"taken 0\" *", "PROC.WAIT c");
}

Test(proc_handler, what_it_is_started_with) {
    struct hearth *h;
    char id[HEARTH_ID_MAX + 1], payload[] = "with a \0 in it", got[64] = "";
    const char *const args[] = {"TERM", NULL};
    int ends[2];
    const struct hearth_proc echo = {
        .pool = "demo", .handler = "echo", .payload = payload, .payload_len = sizeof(payload)};
    const struct hearth_proc crash = {.pool = "demo", .handler = "crash", .argv = args};
    struct hearth_proc_info info;
    cr_assert_eq(hearth_connect(server.socket, &h), 0);
    cr_assert_eq(hearth_proc_start(h, &echo, id, NULL), 0, "%s", hearth_errmsg(h));
    cr_assert_eq(hearth_proc_wait(h, id, -1, &info), 0);
    cr_assert_eq(info.result.len, sizeof(payload));
    cr_assert_eq(memcmp(info.result.data, payload, sizeof(payload)), 0);
    cr_assert_str_eq(info.status, "done");
    cr_assert_str_neq(info.task, "");
    cr_assert_eq(hearth_proc_start(h, &crash, id, NULL), 0);
    cr_assert_eq(hearth_proc_wait(h, id, -1, &info), 0);
    cr_assert_eq(info.signal, SIGTERM);
    cr_assert_null(info.result.data);
    cr_assert_str_eq(info.failure, "signal 15 (SIGTERM)");
    cr_assert_eq(hearth_proc_start(h, &(struct hearth_proc){.pool = "demo"}, id, NULL), -EINVAL);

    /* its own descriptors, and the pool's environment below its own */
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    const struct hearth_proc slow = {.pool = "demo",
                                     .handler = "sleep",
                                     .env = (const char *const[]){"TRY_B=2", NULL},
                                     .directory = "/tmp",
                                     .argv = (const char *const[]){"60000", NULL},
                                     .fds = (int[]){ends[0], ends[1], HEARTH_PROC_NULL}};
    int64_t pid;
    cr_assert_eq(hearth_proc_start(h, &slow, id, &pid), 0, "%s", hearth_errmsg(h));
    char path[64], env[16384];
    snprintf(path, sizeof(path), "/proc/%d/cwd", (int)pid);
    cr_assert_eq(readlink(path, got, sizeof(got) - 1), 4);
    cr_assert_str_eq(got, "/tmp");
    snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
    ssize_t n = 0; /* the kernel says that it has been executed a little before this is there */
    for (uint64_t until = clock_now() + NS_PER_SEC; n == 0 && clock_now() < until;) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        n = read(fd, env, sizeof(env));
        close(fd);
    }
    cr_assert(n > 0 && memmem(env, (size_t)n, "TRY_A=1", 7) &&
              memmem(env, (size_t)n, "TRY_B=2", 7) && !memmem(env, (size_t)n, "TRY_B=1", 7));
    close(ends[1]);
    cr_assert_eq(hearth_proc_signal(h, id, "KILL"), 0);
    cr_assert_eq(hearth_proc_wait(h, id, -1, &info), 0);
    cr_assert_eq(read(ends[0], got, 1), 0); /* it had the other end */
    close(ends[0]);
    hearth_close(h);
}

Test(proc_handler_own, it_is_confined_as_its_pool) {
    begin_with("pools = ( { name = \"demo\"; module = \"demo.so\"; workers = 1; seccomp = "
               "\"basic\"; nice = 3; } );\n");
    const char *reply = ask(&w, "PROC.START NAME a HANDLER demo sleep '' ARG 60000");
    char path[64], text[4096], *line;
    int pid;
    cr_assert_eq(sscanf(strstr(reply, "\"pid\" :"), "\"pid\" :%d", &pid), 1, "%s", reply);
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    FILE *f = fopen(path, "re");
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    line = strstr(text, "\nSeccomp:\t");
    cr_assert(line && line[strlen("\nSeccomp:\t")] == '2', "%s", text);
    cr_assert(strstr(text, "\nNoNewPrivs:\t1"));
    expect(&w, ":1", "PROC.SIGNAL a KILL");
    expect(&w, "*\"signal\" :9*", "PROC.WAIT a");
}

Test(proc_handler, it_ends_with_its_connection) {
    struct wire other;
    serve_connect(&other);
    expect(&other, "[*", "PROC.START NAME a OWNED HANDLER demo sleep '' ARG 60000");
    wire_close(&other);
    expect(&w, "*\"cause\" \"signal 15 (SIGTERM)\"*\"status\" \"lost\"*", "PROC.WAIT a");
}

/* A result of any size, and one that had to go since others that were fetched came after it. */
Test(proc_handler_own, results) {
    begin_with(
        "segment_size = \"128M\";\npools = ( { name = \"demo\"; module = \"demo.so\"; } );\n");
    struct hearth *h;
    struct hearth_proc_info info;
    char id[HEARTH_ID_MAX + 1], another[HEARTH_ID_MAX + 1];
    size_t len = 8 << 20;
    char *big = malloc(len);
    memset(big, 'x', len);
    const struct hearth_proc echo = {
        .pool = "demo", .handler = "echo", .payload = big, .payload_len = len};
    cr_assert_eq(hearth_connect(server.socket, &h), 0);
    cr_assert_eq(hearth_proc_start(h, &echo, id, NULL), 0, "%s", hearth_errmsg(h));
    cr_assert_eq(hearth_proc_wait(h, id, -1, &info), 0);
    cr_assert(info.result.len == len && memcmp(info.result.data, big, len) == 0);
    cr_assert_eq(hearth_proc_start(h, &echo, another, NULL), 0, "%s", hearth_errmsg(h));
    cr_assert_eq(hearth_proc_wait(h, another, -1, &info), 0);
    cr_assert_eq(info.result.len, len);
    cr_assert_eq(hearth_proc_wait(h, id, -1, &info), 0);
    cr_assert(*info.status == '\0' && *info.task && !info.result.data);
    cr_assert_eq(info.exit_status, 0);
    hearth_close(h);
    free(big);
}
