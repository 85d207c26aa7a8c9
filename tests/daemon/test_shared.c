/* SPDX-License-Identifier: MIT */
/* Shared objects from both sides: handlers in workers change them in memory, clients see them over the socket. */
#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/cleanup.h"
#include "tests/daemon/pool_support.h"
#include "tests/support/child.h"
#include "tests/support/daemon.h"

static struct daemon d;
static struct wire w;

static void begin(void) {
    char config[1024];
    snprintf(config, sizeof(config),
             "pools = (\n"
             "  { name = \"text\"; workers = 2; module = \"text.so\"; },\n"
             "  { name = \"shared\"; workers = 2; module = \"%s/tests/daemon/mod_shared.so\"; }\n"
             ");\n"
             "lock_timeout = 0.5;\n"
             "segment_size = \"256M\";\n",
             getenv("HEARTH_BUILD"));
    struct daemon_options options = {.config = config};
    cr_assert_eq(daemon_start(&d, &options), 0);
    cr_assert_eq(daemon_wait_ready(&d, within(20000)), 0, "%s", daemon_log(&d));
    cr_assert_eq(daemon_connect(&d, &w), 0);
}

static void end(void) {
    wire_close(&w);
    cr_expect_eq(daemon_stop(&d), 0);
    child_kill_all();
}

TestSuite(shared, .init = begin, .fini = end, .timeout = 100);

static struct resp_arg word(const char *text) {
    return (struct resp_arg){text, strlen(text)};
}

Test(shared, every_function_of_the_table) {
    for (int i = 0; i < 20; i++) {
        cr_assert_str_eq(wire_call(&w, "TASK.CALL", "shared", "check", "", NULL), "\"well\"");
    }
}

Test(shared, a_handler_waits_for_what_a_client_pushes) {
    char id[ID_MAX];
    const struct resp_arg pop[] = {word("TASK.SUBMIT"), word("shared"), word("pop"), word(""),
                                   word("ARG"),         word("queue"),  word("ARG"), word("-1")};
    cr_assert_eq(wire_send_words(&w, pop, ARRAY_SIZE(pop)), 0);
    cr_assert_eq(wire_read(&w, WIRE_LIMIT_MS), 0);
    snprintf(id, sizeof(id), "%.*s", (int)w.doc.v[0].len, w.doc.v[0].data);
    wait_running(&w, id);
    cr_expect_str_eq(wire_call(&w, "RPUSH", "queue", "hello", NULL), ":1");
    cr_expect_str_eq(wait_end(&w, id), "done|hello|");
    /* and stops waiting when it is cancelled */
    cr_assert_eq(wire_send_words(&w, pop, ARRAY_SIZE(pop)), 0);
    cr_assert_eq(wire_read(&w, WIRE_LIMIT_MS), 0);
    snprintf(id, sizeof(id), "%.*s", (int)w.doc.v[0].len, w.doc.v[0].data);
    wait_running(&w, id);
    cr_expect_str_eq(wire_call(&w, "TASK.CANCEL", id, NULL), ":1");
    cr_expect(strncmp(wait_end(&w, id), "cancelled|", 10) == 0);
}

Test(shared, containers_in_containers) {
    char program[300], socket[200];
    snprintf(program, sizeof(program), "%s/client/examples/example-nested", getenv("HEARTH_BUILD"));
    snprintf(socket, sizeof(socket), "HEARTH_SOCKET=%s", d.socket);
    const char *const argv[] = {program, "a b a", "c", NULL}, *const env[] = {socket, NULL};
    struct child_output out = {0};
    cr_assert_eq(child_run(argv, env, NULL, 0, &out), 0);
    cr_expect_eq(out.status, 0, "%s", buf_head(&out.err));
    cr_expect_str_eq(buf_head(&out.out), "texts:1: seen 1, 2 words\ntexts:2: seen 1, 1 words\n"
                                         "left: 0; ended\n");
    child_output_deinit(&out);
    cr_expect_str_eq(wire_call(&w, "DBSIZE", NULL), ":0");
}

/* ---- counting words, as the shell does ---- */

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

/* "  12 word" lines, sorted by word, of all documents. */
static void shell_count(struct child_output *ret) {
    static const char script[] =
        "xargs -0 -n1 sh -c 'cat -- \"$0\"; echo' | LC_ALL=C tr -cs A-Za-z '\\n' |"
        " LC_ALL=C tr A-Z a-z | LC_ALL=C sort | LC_ALL=C uniq -c";
    const char *const argv[] = {"sh", "-c", script, NULL};
    struct buf in = BUF_INIT;
    for (size_t i = 0; i < count; i++) {
        cr_assert_eq(buf_append(&in, paths[i], strlen(paths[i]) + 1), 0);
    }
    cr_assert_eq(child_run(argv, NULL, buf_head(&in), buf_len(&in), ret), 0);
    cr_assert_eq(ret->status, 0);
    buf_deinit(&in);
}

/* A few hundred documents, all in flight, all workers adding to one dict. */
Test(shared, words_of_many_documents_in_one_dict) {
    static char ids[DOCUMENTS][ID_MAX];
    struct child_output out = {0};
    nftw("/usr/share/common-licenses", add, 16, FTW_PHYS);
    nftw("/usr/share/doc", add, 16, FTW_PHYS);
    cr_assert_gt(count, 0);
    for (size_t i = 0; i < count; i++) {
        _cleanup_free_ char *text = NULL;
        size_t len = 0;
        cr_assert_eq(tmp_read(paths[i], &text, &len), 0);
        /* the shell sees one stream: a word must not go on in the next document */
        const struct resp_arg words[] = {word("TASK.SUBMIT"), word("text"), word("count"),
                                         {text, len},         word("ARG"),  word("words")};
        cr_assert_eq(wire_send_words(&w, words, ARRAY_SIZE(words)), 0);
        cr_assert_eq(wire_read(&w, WIRE_LIMIT_MS), 0);
        snprintf(ids[i], sizeof(ids[i]), "%.*s", (int)w.doc.v[0].len, w.doc.v[0].data);
    }
    for (size_t i = 0; i < count; i++) {
        cr_expect(strncmp(wait_end(&w, ids[i]), "done|", 5) == 0, "%s", paths[i]);
    }
    shell_count(&out);
    size_t different = 0;
    for (const char *line = buf_head(&out.out); *line; line = strchr(line, '\n') + 1) {
        char text[1024] = "", got[32], want[32];
        unsigned long n = 0;
        if (sscanf(line, "%lu %1000[a-z]", &n, text) != 2) {
            continue; /* what was before the first word */
        }
        different++;
        snprintf(want, sizeof(want), "\"%lu\"", n);
        snprintf(got, sizeof(got), "%s", wire_call(&w, "HGET", "words", text, NULL));
        cr_assert_str_eq(got, want, "%s", text);
    }
    snprintf(ids[0], sizeof(ids[0]), ":%zu", different);
    cr_expect_str_eq(wire_call(&w, "HLEN", "words", NULL), ids[0]);
    child_output_deinit(&out);
    for (size_t i = 0; i < count; i++) {
        free(paths[i]);
    }
}

Test(shared, a_worker_stopped_on_a_lock_is_killed_and_nothing_is_half_done) {
    char id[ID_MAX];
    const struct resp_arg stop[] = {word("TASK.SUBMIT"), word("shared"), word("stop"), word(""),
                                    word("ARG"),         word("k")};
    cr_assert_str_eq(wire_call(&w, "SET", "k", "before", NULL), "+OK");
    cr_assert_eq(wire_send_words(&w, stop, ARRAY_SIZE(stop)), 0);
    cr_assert_eq(wire_read(&w, WIRE_LIMIT_MS), 0);
    snprintf(id, sizeof(id), "%.*s", (int)w.doc.v[0].len, w.doc.v[0].data);
    wait_running(&w, id);
    /* until the task has come so far this is done at once; then it waits, and is done after the worker's death */
    double end = now_ms() + within(20000);
    const char *info = "";
    do {
        cr_assert_str_eq(wire_call(&w, "APPEND", "k", "", NULL), ":6");
        info = wire_call(&w, "INFO", "stats", NULL);
    } while (!strstr(info, "lock_timeouts:1") && now_ms() < end);
    cr_expect(strstr(info, "lock_timeouts:1"));
    cr_expect(strstr(wire_call(&w, "TASK.WAIT", id, NULL), "lost"));
    cr_expect_str_eq(wire_call(&w, "GET", "k", NULL), "\"before\"");
    cr_expect(strstr(daemon_log(&d), "sat on part"));
}
