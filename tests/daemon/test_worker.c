/* SPDX-License-Identifier: MIT */
/* The sample modules and commands behind the real daemon: the main job over its socket, many tasks
 * in flight. What a worker does by itself is in tests/unit/test_handlers*.c. */
#include <criterion/criterion.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "tests/support/child.h"
#include "tests/support/daemon.h"

static const char config[] =
    "pools = (\n"
    "  { name = \"text\"; workers = 2; module = \"text.so\"; env = [ \"LC_ALL=C.UTF-8\" ]; },\n"
    "  { name = \"compress\"; workers = 2; module = \"compress.so\"; max_tasks = 7; },\n"
    "  { name = \"shell\"; workers = 2; exec = [ ]; max_output = \"32M\"; kill_grace = 0.3; }\n"
    ");\n"
    "segment_size = \"256M\";\n";

static struct daemon d;
static struct wire w;

static void begin(void) {
    struct daemon_options options = {.config = config};
    cr_assert_eq(daemon_start(&d, &options), 0);
    cr_assert_eq(daemon_wait_ready(&d, 20000), 0, "%s", daemon_log(&d));
    cr_assert_eq(daemon_connect(&d, &w), 0);
}

static void end(void) {
    wire_close(&w);
    cr_expect_eq(daemon_stop(&d), 0);
    child_kill_all();
}

TestSuite(worker, .init = begin, .fini = end, .timeout = 100);

static struct resp_arg word(const char *text) {
    return (struct resp_arg){text, strlen(text)};
}

/* The documents: up to DOCUMENTS real files, of up to 1 MiB each. */
enum { DOCUMENTS = 300 };
static char *paths[DOCUMENTS];
static size_t count;

static int add(const char *path, const struct stat *st, int type, struct FTW *at) {
    (void)at;
    if (type == FTW_F && st->st_size <= 1 << 20 && count < DOCUMENTS && access(path, R_OK) == 0) {
        paths[count++] = strdup(path);
    }
    return 0;
}

static size_t wc(const char *path) {
    struct child_output out = {0};
    const char *const argv[] = {"wc", "-w", "--", path, NULL};
    const char *const env[] = {"LC_ALL=C.UTF-8", NULL};
    cr_assert_eq(child_run(argv, env, NULL, 0, &out), 0);
    cr_assert_eq(out.status, 0);
    size_t n = strtoull(buf_head(&out.out), NULL, 10);
    child_output_deinit(&out);
    return n;
}

static bool is(uint32_t i, const void *data, size_t len) {
    return w.doc.v[i].type == RESP_BULK && w.doc.v[i].len == len &&
           memcmp(w.doc.v[i].data, data, len) == 0;
}

static bool is_text(uint32_t i, const char *text) {
    return is(i, text, strlen(text));
}

/* A few hundred documents, all in flight; each is counted as wc counts it. */
Test(worker, documents) {
    static char ids[DOCUMENTS][64];
    nftw("/usr/share/common-licenses", add, 16, FTW_PHYS);
    nftw("/usr/share/doc", add, 16, FTW_PHYS);
    cr_assert_gt(count, 0);
    for (size_t i = 0; i < count; i++) {
        _cleanup_free_ char *text = NULL;
        size_t len = 0;
        cr_assert_eq(tmp_read(paths[i], &text, &len), 0);
        const struct resp_arg words[] = {word("TASK.SUBMIT"), word("text"), word("words"),
                                         {text, len},         word("ARG"),  word("0")};
        cr_assert_eq(wire_send_words(&w, words, ARRAY_SIZE(words)), 0);
        cr_assert_eq(wire_read(&w, WIRE_LIMIT_MS), 0);
        cr_assert_eq(w.doc.v[0].type, RESP_BULK, "%s", wire_show(&w));
        snprintf(ids[i], sizeof(ids[i]), "%.*s", (int)w.doc.v[0].len, w.doc.v[0].data);
    }
    for (size_t i = 0; i < count; i++) {
        char want[32];
        snprintf(want, sizeof(want), "%zu\n", wc(paths[i]));
        cr_assert_eq(wire_send(&w, "TASK.WAIT", ids[i], NULL), 0);
        cr_assert_eq(wire_read(&w, WIRE_LIMIT_MS), 0);
        cr_assert(is_text(1, ids[i]) && is_text(2, "done"), "%s", wire_show(&w));
        cr_expect(is_text(3, want), "%s: %s, wc says %s", paths[i], wire_show_at(&w, 3), want);
        free(paths[i]);
    }
}

/* Workers retire every seven tasks meanwhile: nobody notices. */
Test(worker, compress_over_retiring_workers) {
    enum { LEN = 200000 };
    static char data[LEN];
    struct child_output out = {0};
    for (size_t i = 0; i < LEN; i++) {
        data[i] = (char)(i % 97 * (i >> 12));
    }
    const struct resp_arg pack[] = {word("TASK.CALL"), word("compress"), word("deflate"),
                                    {data, LEN},       word("ARG"),      word("9")};
    for (int i = 0; i < 50; i++) {
        cr_assert_eq(wire_send_words(&w, pack, ARRAY_SIZE(pack)), 0);
        cr_assert_eq(wire_read(&w, WIRE_LIMIT_MS), 0);
        cr_assert(w.doc.v[0].type == RESP_BULK && w.doc.v[0].len < LEN / 4, "%s", wire_show(&w));
    }
    const char *const gunzip[] = {"gunzip", "-c", NULL};
    cr_assert_eq(child_run(gunzip, NULL, w.doc.v[0].data, w.doc.v[0].len, &out), 0);
    cr_assert(out.status == 0 && buf_len(&out.out) == LEN);
    cr_assert_eq(memcmp(buf_head(&out.out), data, LEN), 0);
    child_output_deinit(&out);
    cr_assert_str_eq(wire_call(&w, "TASK.CALL", "compress", "deflate", "x", "ARG", "10", NULL),
                     "-FAILED 22 LEVEL must be a number from 0 to 9, not \"10\"");
}

Test(worker, commands) {
    size_t len = 20 << 20;
    _cleanup_free_ char *data = malloc(len);
    memset(data, 'a', len);
    data[len / 2] = 'b';
    const struct resp_arg cat[] = {word("TASK.CALL"), word("shell"), word("run"),
                                   {data, len},       word("ARG"),   word("cat")};
    cr_assert_eq(wire_send_words(&w, cat, ARRAY_SIZE(cat)), 0);
    cr_assert_eq(wire_read(&w, WIRE_LIMIT_MS), 0);
    cr_assert(is(0, data, len));
    cr_assert_str_eq(wire_call(&w, "TASK.CALL", "shell", "run", "", "ARG", "printf", "ARG", "%s,",
                               "ARG", "a b", "ARG", "$HOME", NULL),
                     "\"a b,$HOME,\"");
    const char *show = wire_call(&w, "TASK.CALL", "shell", "run", "", "ARG", "head", "ARG", "-c",
                                 "ARG", "40000000", "ARG", "/dev/zero", NULL);
    cr_assert(strstr(show, "FAILED 27 the output is larger than") != NULL, "%s", show);
    show = wire_call(&w, "TASK.CALL", "shell", "run", "", "ARG", "no-such-program", NULL);
    cr_assert(strstr(show, "No such file or directory") != NULL, "%s", show);
    show = wire_call(&w, "TASK.CALL", "shell", "run", "", NULL);
    cr_assert(strstr(show, "Invalid argument") != NULL, "%s", show);
    show = wire_call(&w, "TASK.CALL", "shell", "run", "", "ARG", "sleep", "ARG", "300", "TIMEOUT",
                     "50", NULL);
    cr_assert(strstr(show, "time limit of 50 ms") != NULL, "%s", show);
    /* one that does not listen to SIGTERM goes after kill_grace, and the pool is whole again */
    show = wire_call(&w, "TASK.CALL", "shell", "run", "", "ARG", "sh", "ARG", "-c", "ARG",
                     "trap '' TERM; sleep 300; sleep 300", "TIMEOUT", "50", NULL);
    cr_assert(strstr(show, "time limit of 50 ms") != NULL, "%s", show);
    cr_assert_str_eq(wire_call(&w, "TASK.CALL", "shell", "run", "fine", "ARG", "cat", NULL),
                     "\"fine\"");
}
