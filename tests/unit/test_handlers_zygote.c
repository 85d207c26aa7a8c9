/* SPDX-License-Identifier: MIT */
/* The life of a zygote and its workers: start, refusals, GO and EXIT, max_tasks, the death of
 * either side; and the example of worker/README.md, compiled as its reader would. The test is the
 * daemon (tests/support/rig.h). */
#include "tests/support/rig.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "tests/support/child.h"
#include "tests/support/tmp.h"
#include "worker/hearth_handler.h"
#include "worker/module.h"

static struct rig rig;
static struct rig_worker worker;
static char dir[TMP_PATH];

static void end(void) {
    rig_close(&rig);
    child_kill_all();
    if (dir[0] != '\0') {
        tmp_remove(dir);
    }
}

TestSuite(zygote, .timeout = 60, .fini = end);
TestSuite(module, .timeout = 30, .fini = end);

static const char *sample(const char *name) {
    static char path[4096];
    snprintf(path, sizeof(path), "%s/%s.so", getenv("HEARTH_MODULE_PATH"), name);
    return path;
}

static const char *bad(int kind) {
    static char path[4096];
    snprintf(path, sizeof(path), "%s/tests/unit/modules/bad_%d.so", getenv("HEARTH_BUILD"), kind);
    return path;
}

/* The zygote refuses, and says this. */
static void expect_refusal(const char *module, const char *text) {
    struct control_msg m = {0};
    cr_assert_eq(rig_open(&rig, module, (const char *const[]){"--", "ARG", NULL}), 0);
    cr_assert_eq(rig_hear(&rig, &m), 0);
    cr_assert_eq(m.kind, CONTROL_FAILED);
    m.text[m.text_len] = '\0';
    cr_assert(strstr(m.text, text) != NULL, "%s", m.text);
    cr_assert(strstr(m.text, module) != NULL, "%s", m.text);
    cr_assert_eq(rig_hang_up(&rig), 1);
    rig_close(&rig);
}

Test(zygote, refusals) {
    expect_refusal("/nowhere/to/be/found.so", "No such file");
    expect_refusal("/etc/passwd", "cannot load");
    expect_refusal(bad(0), "exports no `hearth_module`");
    expect_refusal(bad(1), "version 2 of the handler ABI");
    expect_refusal(bad(2), "no handlers");
    expect_refusal(bad(3), "two handlers are named first");
    expect_refusal(bad(4), "no model at ARG");
    expect_refusal(bad(5), "init made 1 thread");
}

Test(zygote, ready_names_the_handlers) {
    struct control_msg m = {0};
    cr_assert_eq(rig_open(&rig, bad(7), NULL), 0);
    cr_assert_eq(rig_hear(&rig, &m), 0);
    cr_assert(m.kind == CONTROL_READY && m.text_len == 13);
    cr_assert_eq(memcmp(m.text, "first\nsecond\n", 13), 0);
    cr_assert_eq(rig_hang_up(&rig), 0);
    rig_close(&rig);
    cr_assert_eq(rig_open(&rig, NULL, NULL), 0);
    cr_assert_eq(rig_hear(&rig, &m), 0);
    cr_assert(m.kind == CONTROL_READY && m.text_len == 4 && memcmp(m.text, "run\n", 4) == 0);
}

static size_t count_marks(const char *prefix) {
    size_t n = 0;
    DIR *d = opendir(dir);
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        n += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
    }
    closedir(d);
    return n;
}

Test(zygote, hooks) {
    struct rig_worker other;
    struct task_view v;
    struct task_ref t;
    cr_assert_eq(tmp_dir(dir), 0);
    setenv("HEARTH_TEST_MARKS", dir, 1);
    cr_assert_eq(rig_open(&rig, bad(7), (const char *const[]){"--", "a", "b c", NULL}), 0);
    cr_assert_eq(rig_ready(&rig), 0);
    cr_assert_eq(rig_worker(&rig, true, &worker), 0);
    cr_assert_eq(rig_worker(&rig, false, &other), 0);
    cr_assert_eq(rig_run(&rig, 0, "", 0, NULL, &v), 0);
    cr_assert(v.state == TASK_DONE && v.output.len == 9, "code %d", v.code);
    cr_assert_eq(memcmp(v.output.data, "a,b c,11!", 9), 0);
    cr_assert_eq((pid_t)v.worker_pid, worker.pid);
    cr_assert_eq(rig_submit(&rig, 1, 60000, "", 0, (const char *const[]){"limit", NULL}, &t), 0);
    cr_assert_eq(rig_result(&rig, &t, &v), 0);
    cr_assert(v.state == TASK_DONE, "code %d", v.code);
    /* one that serves, and one that was never told to go: both leave when told */
    cr_assert_eq(rig_retire(&rig, &worker), 0);
    cr_assert_eq(rig_retire(&rig, &other), 0);
    cr_assert_eq(count_marks("worker-"), 2);
    cr_assert_eq(rig_hang_up(&rig), 0);
    cr_assert_eq(count_marks("exit-"), 1);
}

Test(zygote, worker_init_fails) {
    struct control_msg m = {.kind = CONTROL_SPAWN};
    int status;
    cr_assert_eq(rig_open(&rig, bad(6), NULL), 0);
    cr_assert_eq(rig_ready(&rig), 0);
    cr_assert_eq(slot_reserve(&rig.s, RIG_POOL, &m.slot, &m.gen), 0);
    cr_assert_gt(send(rig.control, &m, CONTROL_HEAD, 0), 0);
    cr_assert_eq(rig_hear(&rig, &m), 0);
    cr_assert_eq(m.kind, CONTROL_SPAWNED);
    struct rig_worker w = {m.slot, m.gen, m.pid};
    status = rig_bury(&rig, &w);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    /* a slot that has moved on is nobody's */
    m = (struct control_msg){.kind = CONTROL_SPAWN, .slot = w.slot, .gen = w.gen};
    cr_assert_gt(send(rig.control, &m, CONTROL_HEAD, 0), 0);
    cr_assert_eq(rig_hear(&rig, &m), 0);
    cr_assert_eq(m.kind, CONTROL_SPAWNED);
    w.pid = m.pid;
    status = rig_bury(&rig, &w);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
}

Test(zygote, max_tasks) {
    struct task_view v;
    struct slot_view s;
    cr_assert_eq(rig_open(&rig, sample("demo"), (const char *const[]){"--max-tasks", "20", NULL}),
                 0);
    cr_assert_eq(rig_ready(&rig), 0);
    cr_assert_eq(rig_worker(&rig, true, &worker), 0);
    for (int i = 0; i < 20; i++) {
        slot_view(&rig.s, worker.slot, &s);
        cr_assert(s.state == SLOT_SERVING && s.ending == (i >= 18), "after %d: ending %u", i,
                  s.ending);
        cr_assert_eq(rig_run(&rig, 0, "x", 1, NULL, &v), 0);
        cr_assert_eq(v.state, TASK_DONE);
        if (i == 17) { /* the note comes after the finish */
            uint64_t limit = clock_now() + 10 * NS_PER_SEC;
            do {
                slot_view(&rig.s, worker.slot, &s);
            } while (!s.ending && clock_now() < limit);
        }
    }
    cr_assert_eq(rig_wait_state(&rig, worker.slot, SLOT_RETIRED), 0);
    struct rig_worker next;
    cr_assert_eq(rig_worker(&rig, true, &next), 0);
    cr_assert_eq(rig_run(&rig, 0, "x", 1, NULL, &v), 0);
    cr_assert_eq((pid_t)v.worker_pid, next.pid);
    cr_assert_eq(rig_retire(&rig, &worker), 0);
}

/* Many workers over a queue: every task ends once, and all have their share of the work. */
Test(zygote, several_workers) {
    enum { WORKERS = 4, TASKS = 2000 };
    struct rig_worker w[WORKERS];
    static struct task_ref t[TASKS];
    cr_assert_eq(rig_open(&rig, sample("demo"), NULL), 0);
    cr_assert_eq(rig_ready(&rig), 0);
    for (int i = 0; i < WORKERS; i++) {
        cr_assert_eq(rig_worker(&rig, true, &w[i]), 0);
    }
    for (int i = 0; i < TASKS; i++) {
        char text[16];
        int len = snprintf(text, sizeof(text), "%d", i);
        while (rig_submit(&rig, 0, 0, text, (size_t)len, NULL, &t[i]) == -ENOBUFS) {
            struct task_view v;
            cr_assert_eq(rig_result(&rig, &t[i - 500], &v), 0);
        }
    }
    for (int i = 0; i < TASKS; i++) {
        struct task_view v;
        char text[16];
        int len = snprintf(text, sizeof(text), "%d", i);
        cr_assert_eq(rig_result(&rig, &t[i], &v), 0);
        cr_assert(v.state == TASK_DONE && v.output.len == (size_t)len &&
                  memcmp(v.output.data, text, v.output.len) == 0);
    }
    uint64_t claims = 0;
    for (int i = 0; i < WORKERS; i++) {
        struct slot_view s;
        slot_view(&rig.s, w[i].slot, &s);
        claims += s.claims;
        cr_assert_eq(rig_retire(&rig, &w[i]), 0);
    }
    cr_assert_eq(claims, TASKS);
}

/* In the part of a daemon that is killed: prints the pids of zygote and worker, then waits for the
 * end. */
static int short_daemon(void *arg) {
    int *pipe_fd = arg;
    struct rig r;
    struct rig_worker w;
    struct task_ref t;
    if (rig_open(&r, sample("demo"), NULL) < 0 || rig_ready(&r) < 0 ||
        rig_worker(&r, true, &w) < 0 ||
        rig_submit(&r, 1, 0, "", 0, (const char *const[]){"600000", NULL}, &t) < 0) {
        return 1;
    }
    prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
    pid_t pids[2] = {r.zygote, w.pid};
    if (write(pipe_fd[1], pids, sizeof(pids)) != sizeof(pids)) {
        return 1;
    }
    pause();
    return 0;
}

/* When the daemon is killed, nothing of the pool survives it. */
Test(zygote, daemon_dies) {
    pid_t pids[2];
    int fds[2];
    int status;
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    cr_assert_eq(pipe(fds), 0);
    pid_t daemon = child_start(short_daemon, fds);
    cr_assert_gt(daemon, 0);
    close(fds[1]);
    cr_assert_eq(read(fds[0], pids, sizeof(pids)), (ssize_t)sizeof(pids));
    child_kill(daemon);
    cr_assert_eq(waitpid(pids[0], &status, 0), pids[0]);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the zygote saw EOF");
    cr_assert_eq(waitpid(pids[1], &status, 0), pids[1]);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    close(fds[0]);
}

/* By hand it explains itself. */
Test(zygote, command_line) {
    struct child_output out = {0};
    const char *program = getenv("HEARTH_WORKER");
    const char *const alone[] = {program, NULL};
    cr_assert_eq(child_run(alone, NULL, "", 0, &out), 0);
    cr_assert(out.status == 2 && strstr(buf_head(&out.err), "started by hearthd") != NULL);
    child_output_deinit(&out);
    const char *const no_socket[] = {program, "--pool", "p", "--index", "0", "--exec", NULL};
    cr_assert_eq(child_run(no_socket, NULL, "", 0, &out), 0);
    cr_assert(out.status == 2 && strstr(buf_head(&out.err), "control socket") != NULL);
    child_output_deinit(&out);
    const char *const wrong[] = {program, "--index", "99999", NULL};
    cr_assert_eq(child_run(wrong, NULL, "", 0, &out), 0);
    cr_assert_eq(out.status, 2);
    child_output_deinit(&out);
    const char *const list[] = {program, "--list", sample("demo"), NULL};
    cr_assert_eq(child_run(list, NULL, "", 0, &out), 0);
    cr_assert(out.status == 0 && strstr(buf_head(&out.out), "  echo ") != NULL);
    child_output_deinit(&out);
}

/* ---- the ABI's growth ---- */

static int nothing(struct hearth_task *task, const struct hearth_api *api) {
    (void)task;
    (void)api;
    return 0;
}

/* A module from a later header: both structs have grown. */
Test(module, newer) {
    struct later_handler {
        struct hearth_handler known;
        void *later[3];
    } table[] = {{{"one", "", nothing}, {table}}, {{"two", "", nothing}, {table}}, {{0}, {table}}};
    struct later_module {
        struct hearth_module known;
        void *later[5];
    } later = {{HEARTH_ABI, sizeof(later), sizeof(table[0]), 0, .name = "later",
                .handlers = &table[0].known},
               {table}};
    struct module m;
    char why[MODULE_WHY];
    cr_assert_eq(module_check(&m, &later.known, why), 0);
    cr_assert_eq(m.count, 2);
    cr_assert_str_eq(m.handlers[1].name, "two");
    cr_assert_eq((void *)m.handlers[1].run, (void *)nothing);
    module_deinit(&m);
}

Test(module, refused) {
    static const struct hearth_handler good[] = {{"a", NULL, nothing}, {0}};
    static const struct hearth_handler nameless[] = {{"", NULL, nothing}, {0}};
    static const struct hearth_handler spaced[] = {{"a b", NULL, nothing}, {0}};
    static const struct hearth_handler empty[] = {{"a", NULL, NULL}, {0}};
    static const struct {
        struct hearth_module m;
        int error;
        const char *why;
    } cases[] = {
        {{0, sizeof(struct hearth_module), sizeof(good[0]), 0, "x", NULL, good},
         -EPROTONOSUPPORT,
         "rebuild"},
        {{HEARTH_ABI, 8, sizeof(good[0]), 0, "x", NULL, good}, -ELIBBAD, "HEARTH_MODULE_HEAD"},
        {{HEARTH_ABI, sizeof(struct hearth_module), 8, 0, "x", NULL, good},
         -ELIBBAD,
         "HEARTH_MODULE_HEAD"},
        {{HEARTH_MODULE_HEAD, NULL, NULL, good}, -ELIBBAD, "missing"},
        {{HEARTH_MODULE_HEAD, "x", NULL, NULL}, -ELIBBAD, "missing"},
        {{HEARTH_MODULE_HEAD, "x", NULL, nameless}, -ELIBBAD, "a name is"},
        {{HEARTH_MODULE_HEAD, "x", NULL, spaced}, -ELIBBAD, "a b"},
        {{HEARTH_MODULE_HEAD, "x", NULL, empty}, -ELIBBAD, "no run"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct module m = {0};
        char why[MODULE_WHY] = "";
        cr_expect_eq(module_check(&m, &cases[i].m, why), cases[i].error, "case %zu", i);
        cr_expect(strstr(why, cases[i].why) != NULL, "case %zu: %s", i, why);
        cr_expect_eq((void *)m.handlers, NULL);
    }
}

/* ---- the example of the README ---- */

Test(module, readme) {
    struct child_output out = {0};
    struct task_view v;
    char source[TMP_PATH + 16], so[TMP_PATH + 16], path[4096], include[4096];
    _cleanup_free_ char *text = NULL;
    size_t len = 0;
    if (rig_under_valgrind()) {
        cr_skip_test("valgrind");
    }
    snprintf(path, sizeof(path), "%s/worker/README.md", getenv("HEARTH_SOURCE"));
    cr_assert_eq(tmp_read(path, &text, &len), 0);
    char *begin = strstr(text, "```c\n");
    cr_assert_neq(begin, NULL);
    char *finish = strstr(begin + 5, "```");
    cr_assert_neq(finish, NULL);
    cr_assert_eq(tmp_dir(dir), 0);
    cr_assert_eq(tmp_write(dir, "rev.c", begin + 5, (size_t)(finish - begin - 5)), 0);
    snprintf(source, sizeof(source), "%s/rev.c", dir);
    snprintf(so, sizeof(so), "%s/rev.so", dir);
    snprintf(include, sizeof(include), "-I%s/worker", getenv("HEARTH_SOURCE"));
    const char *const cc[] = {"cc",      "-std=c99", "-pedantic", "-Wall", "-Wextra",
                              "-Werror", include,    "-shared",   "-fPIC", "-o",
                              so,        source,     NULL};
    cr_assert_eq(child_run(cc, NULL, "", 0, &out), 0);
    cr_assert_eq(out.status, 0, "%s", buf_head(&out.err));
    child_output_deinit(&out);
    cr_assert_eq(rig_open(&rig, so, NULL), 0);
    cr_assert_eq(rig_ready(&rig), 0);
    cr_assert_eq(rig_worker(&rig, true, &worker), 0);
    cr_assert_eq(rig_run(&rig, 0, "hello", 5, NULL, &v), 0);
    cr_assert(v.state == TASK_DONE && v.output.len == 5 && memcmp(v.output.data, "olleh", 5) == 0);
    cr_assert_eq(rig_run(&rig, 0, "", 0, NULL, &v), 0);
    cr_assert(v.state == TASK_FAILED && v.code == 22);
}

/* The header is for C++ too. */
Test(module, cplusplus) {
    static const char text[] =
        "#include \"hearth_handler.h\"\n"
        "static int run(struct hearth_task *t, const struct hearth_api *api) {\n"
        "    return api->write(t, \"hi\", 2);\n}\n"
        "static const struct hearth_handler handlers[] = {{\"hi\", 0, run}, {0, 0, 0}};\n"
        "const struct hearth_module hearth_module = {HEARTH_MODULE_HEAD, \"cpp\", 0, handlers,\n"
        "                                            0, 0, 0, 0};\n";
    struct child_output out = {0};
    char source[TMP_PATH + 16], so[TMP_PATH + 16], include[4096];
    const char *const which[] = {"sh", "-c", "command -v c++", NULL};
    cr_assert_eq(child_run(which, NULL, "", 0, &out), 0);
    bool none = out.status != 0;
    child_output_deinit(&out);
    if (none || rig_under_valgrind()) {
        cr_skip_test("no C++ compiler, or valgrind");
    }
    cr_assert_eq(tmp_dir(dir), 0);
    cr_assert_eq(tmp_write(dir, "hi.cc", text, strlen(text)), 0);
    snprintf(source, sizeof(source), "%s/hi.cc", dir);
    snprintf(so, sizeof(so), "%s/hi.so", dir);
    snprintf(include, sizeof(include), "-I%s/worker", getenv("HEARTH_SOURCE"));
    const char *const cc[] = {"c++",     "-std=c++11", "-pedantic", "-Wall", "-Wextra",
                              "-Werror", include,      "-shared",   "-fPIC", "-fvisibility=hidden",
                              "-o",      so,           source,      NULL};
    cr_assert_eq(child_run(cc, NULL, "", 0, &out), 0);
    cr_assert_eq(out.status, 0, "%s", buf_head(&out.err));
    child_output_deinit(&out);
    const char *const list[] = {getenv("HEARTH_WORKER"), "--list", so, NULL};
    cr_assert_eq(child_run(list, NULL, "", 0, &out), 0);
    cr_assert(out.status == 0 && strstr(buf_head(&out.out), "  hi") != NULL);
    child_output_deinit(&out);
}
