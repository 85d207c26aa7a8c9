/* SPDX-License-Identifier: MIT */
/* The sample modules, each loaded by a real zygote and run by a real worker (tests/support/rig.h),
 * and the counting of words by itself, held against `wc -w` over the documents and programs of this
 * machine. */
#include "tests/support/rig.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/num.h"
#include "tests/support/child.h"
#include "worker/handlers/words.h"

static struct rig rig;
static struct rig_worker worker;

static void end(void) {
    rig_close(&rig);
    child_kill_all();
}

TestSuite(words, .timeout = 120, .fini = child_kill_all);
TestSuite(modules, .timeout = 60, .fini = end);

/* ---- words ---- */

static size_t count(const char *text, size_t len, const char *locale_name) {
    size_t n = 0;
    locale_t locale = newlocale(LC_CTYPE_MASK, locale_name, (locale_t)0);
    cr_assert_neq((void *)locale, NULL);
    cr_assert_eq(words_count(text, len, locale, NULL, NULL, &n), 0);
    freelocale(locale);
    return n;
}

static size_t wc(const char *text, size_t len, const char *locale_name) {
    char env[64];
    uint64_t n = 0;
    struct child_output out = {0};
    snprintf(env, sizeof(env), "LC_ALL=%s", locale_name);
    const char *const argv[] = {"wc", "-w", NULL};
    const char *const envs[] = {env, NULL};
    cr_assert_eq(child_run(argv, envs, text, len, &out), 0);
    cr_assert_eq(out.status, 0);
    const char *line = buf_head(&out.out);
    cr_assert_eq(num_u64(line, strcspn(line, "\n"), &n), 0, "wc says %s", line);
    child_output_deinit(&out);
    return n;
}

Test(words, odd_input) {
    static const struct {
        const char *text;
        size_t len;
    } cases[] = {
#define TEXT(s) {s, sizeof(s) - 1}
        TEXT(""),
        TEXT(" "),
        TEXT("one"),
        TEXT(" one  two\n"),
        TEXT("a\vb\fc\rd\te"),
        TEXT("a\001b"),
        TEXT("\001"),
        TEXT("a\0b"),
        TEXT("\0"),
        TEXT("a \377 b"),
        TEXT("a\377b"),
        TEXT("\302\240"),
        TEXT("a\302\240b"),
        TEXT("a\342\200\207b\342\200\257c\342\201\240d"),
        TEXT("a\343\200\200b"),
        TEXT("a\302\205b"),
        TEXT("\314\201"),
        TEXT("a\342\200\250b"),
        TEXT("\342\200\213"),
        TEXT("a\341\240\216b"),
        TEXT("a \342"),
        TEXT("a \342\202"),
        TEXT("\360\237\230\200 \360\237\230\200"),
        TEXT("\355\240\200 surrogate"),
        TEXT("\300\200 overlong \301\277"),
        TEXT("\364\220\200\200 beyond"),
        TEXT("\342x\202 y\342 z"),
        TEXT("\342\202 \254"),
#undef TEXT
    };
    static const char *const locales[] = {"C", "C.UTF-8"};
    for (size_t l = 0; l < ARRAY_SIZE(locales); l++) {
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
            size_t want = wc(cases[i].text, cases[i].len, locales[l]);
            size_t got = count(cases[i].text, cases[i].len, locales[l]);
            cr_expect_eq(got, want, "case %zu in %s: %zu, wc says %zu", i, locales[l], got, want);
        }
    }
}

/* Random bytes, most of them such that sequences of UTF-8 begin, break and end. */
Test(words, random) {
    static const char bytes[] =
        "a b\n\302\240\342\200\207\257\201\343\360\237\230\377\300\001\0x\t\205\355\364\220";
    static const char *const locales[] = {"C", "C.UTF-8"};
    size_t len = 100000;
    _cleanup_free_ char *text = malloc(len);
    unsigned seed = 7;
    for (int round = 0; round < 10; round++) {
        for (size_t i = 0; i < len; i++) {
            seed = seed * 1103515245U + 12345U;
            text[i] = round & 1 ? (char)(seed >> 16) : bytes[(seed >> 16) % (sizeof(bytes) - 1)];
        }
        for (size_t l = 0; l < ARRAY_SIZE(locales); l++) {
            cr_expect_eq(count(text, len, locales[l]), wc(text, len, locales[l]), "round %d in %s",
                         round, locales[l]);
        }
    }
}

/* The files of a tree, for one run of wc over all of them. */
enum { FILES_MAX = 20000 };
static char *files[FILES_MAX];
static size_t files_count;
static off_t files_bytes, files_bytes_max;

static int add_file(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)ftw;
    if (type == FTW_F && S_ISREG(st->st_mode) && files_count < FILES_MAX &&
        files_bytes + st->st_size < files_bytes_max && access(path, R_OK) == 0) {
        files[files_count++] = strdup(path);
        files_bytes += st->st_size;
    }
    return 0;
}

static size_t count_file(const char *path, const char *locale_name) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    cr_assert(fd >= 0 && fstat(fd, &st) == 0);
    void *text =
        st.st_size > 0 ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    cr_assert_neq(text, MAP_FAILED);
    size_t n = count(text != NULL ? text : "", (size_t)st.st_size, locale_name);
    if (text != NULL) {
        munmap(text, (size_t)st.st_size);
    }
    close(fd);
    return n;
}

static void compare_tree(const char *const roots[], const char *locale_name) {
    char env[64];
    struct child_output out = {0};
    files_count = 0;
    files_bytes = 0;
    /* under valgrind, which is some 50 times slower, a part has to do */
    files_bytes_max = rig_under_valgrind() ? 2 << 20 : 128 << 20;
    for (size_t i = 0; roots[i] != NULL; i++) {
        nftw(roots[i], add_file, 16, FTW_PHYS);
    }
    cr_assert_gt(files_count, 0);
    struct buf names = BUF_INIT;
    for (size_t i = 0; i < files_count; i++) {
        cr_assert_eq(buf_append(&names, files[i], strlen(files[i]) + 1), 0);
    }
    const char *const argv[] = {"wc", "-w", "--files0-from=-", NULL};
    snprintf(env, sizeof(env), "LC_ALL=%s", locale_name);
    const char *const envs[] = {env, NULL};
    cr_assert_eq(child_run(argv, envs, buf_head(&names), buf_len(&names), &out), 0);
    cr_assert_eq(out.status, 0);
    buf_deinit(&names);
    const char *line = buf_head(&out.out);
    for (size_t i = 0; i < files_count; i++) {
        char *after = NULL;
        size_t want = strtoull(line, &after, 10);
        size_t len = strlen(files[i]);
        cr_assert(strncmp(after + 1, files[i], len) == 0 && after[1 + len] == '\n');
        size_t got = count_file(files[i], locale_name);
        cr_expect_eq(got, want, "%s in %s: %zu, wc says %zu", files[i], locale_name, got, want);
        line = after + len + 2;
        free(files[i]);
    }
    child_output_deinit(&out);
}

Test(words, documents) {
    static const char *const roots[] = {"/usr/share/common-licenses", "/usr/share/doc", NULL};
    compare_tree(roots, "C.UTF-8");
    compare_tree(roots, "C");
}

Test(words, programs) {
    static const char *const roots[] = {"/usr/sbin", "/usr/lib/locale", NULL};
    compare_tree(roots, "C.UTF-8");
    compare_tree(roots, "C");
}

/* ---- the modules ---- */

static void open_module(const char *name, const char *const more[]) {
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s.so", getenv("HEARTH_MODULE_PATH"), name);
    cr_assert_eq(rig_open(&rig, path, more), 0);
    cr_assert_eq(rig_ready(&rig), 0);
    cr_assert_eq(rig_worker(&rig, true, &worker), 0);
}

#define RUN(v, handler, payload, len, ...)                                                         \
    cr_assert_eq(rig_run(&rig, handler, payload, len,                                              \
                         (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL}, v),               \
                 0)

static bool is(const struct task_view *v, const char *text) {
    return v->output.len == strlen(text) && memcmp(v->output.data, text, v->output.len) == 0;
}

static bool has(const struct task_view *v, const char *text) {
    return memmem(v->output.data, v->output.len, text, strlen(text)) != NULL;
}

static bool failed(const struct task_view *v, int code) {
    return v->state == TASK_FAILED && v->cause == CAUSE_ERROR && v->code == code;
}

enum { ECHO, SLEEP, SPIN, FAIL, CRASH, EXIT, LEAK };

Test(modules, demo) {
    struct task_view v;
    open_module("demo", NULL);
    RUN(&v, ECHO, "hello", 5);
    cr_assert(v.state == TASK_DONE && v.cause == CAUSE_RESULT && is(&v, "hello"));
    RUN(&v, ECHO, "", 0);
    cr_assert(v.state == TASK_DONE && v.output.len == 0);
    RUN(&v, ECHO, "", 0, "two", "", "words");
    cr_assert(is(&v, "two  words"));
    RUN(&v, SLEEP, "", 0, "1");
    cr_assert(v.state == TASK_DONE && v.ended_ns - v.started_ns >= NS_PER_MS);
    RUN(&v, SPIN, "", 0, "1");
    cr_assert(v.state == TASK_DONE && v.ended_ns - v.started_ns >= NS_PER_MS);
    RUN(&v, FAIL, "", 0, "no such luck: %s%n", "42");
    cr_assert(failed(&v, 42) && is(&v, "no such luck: %s%n"));
    RUN(&v, FAIL, "", 0);
    cr_assert(failed(&v, 1));
    RUN(&v, SLEEP, "", 0, "soon");
    cr_assert(failed(&v, EINVAL) && has(&v, "\"soon\""));
    RUN(&v, LEAK, "", 0, "100000");
    cr_assert_eq(v.state, TASK_DONE);
    RUN(&v, 99, "", 0);
    cr_assert(failed(&v, 1) && has(&v, "no handler number 99"));
    cr_assert_eq(rig_retire(&rig, &worker), 0);
    cr_assert_eq(rig_hang_up(&rig), 0);
}

Test(modules, large_echo) {
    struct task_view v;
    size_t len = 40 << 20;
    char *data = malloc(len);
    open_module("demo", NULL);
    memset(data, 'x', len);
    data[len - 1] = 'y';
    RUN(&v, ECHO, data, len);
    cr_assert(v.state == TASK_DONE && v.output.len == len && memcmp(v.output.data, data, len) == 0);
    free(data);
}

Test(modules, max_output) {
    struct task_view v;
    open_module("demo", (const char *const[]){"--max-output", "100", NULL});
    char data[101] = {0};
    RUN(&v, ECHO, data, 100);
    cr_assert(v.state == TASK_DONE && v.output.len == 100);
    RUN(&v, ECHO, data, 101);
    cr_assert_eq(v.state, TASK_FAILED);
}

Test(modules, deaths) {
    struct task_view v;
    struct task_ref t;
    open_module("demo", NULL);
    cr_assert_eq(rig_submit(&rig, CRASH, 0, "", 0, (const char *const[]){"SEGV", NULL}, &t), 0);
    int status = rig_bury(&rig, &worker);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    cr_assert_eq(rig_result(&rig, &t, &v), 0);
    cr_assert(v.state == TASK_LOST && v.cause == CAUSE_SIGNAL && v.signal == SIGSEGV);
    /* the zygote lives, and another takes its place */
    cr_assert_eq(rig_worker(&rig, true, &worker), 0);
    cr_assert_eq(rig_submit(&rig, EXIT, 0, "", 0, (const char *const[]){"9", NULL}, &t), 0);
    status = rig_bury(&rig, &worker);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 9);
    cr_assert_eq(rig_worker(&rig, true, &worker), 0);
    RUN(&v, ECHO, "still here", 10);
    cr_assert(is(&v, "still here"));
}

Test(modules, cancelled) {
    struct task_view v;
    struct task_ref t;
    open_module("demo", NULL);
    cr_assert_eq(rig_submit(&rig, SLEEP, 0, "", 0, (const char *const[]){"600000", NULL}, &t), 0);
    do {
        cr_assert_eq(task_view(&rig.s, t.idx, &v), 0);
    } while (v.state != TASK_RUNNING);
    task_set_cancel(&rig.s, t.idx, t.id);
    cr_assert_eq(rig_result(&rig, &t, &v), 0);
    cr_assert(v.state == TASK_CANCELLED && v.cause == CAUSE_CANCELLED);
    RUN(&v, ECHO, "next", 4);
    cr_assert_eq(v.state, TASK_DONE);
}

Test(modules, text) {
    struct task_view v;
    static const char text[] =
        "The cat, the dog; THE (cat) sat.\nA dog's day: sat?\377 -- na\303\257ve\n";
    setenv("LC_ALL", "C.UTF-8", 1);
    open_module("text", NULL);
    RUN(&v, 0, text, sizeof(text) - 1, "4");
    cr_assert(is(&v, "13\nthe 3\ncat 2\na 1\nday 1\n"), "%.*s", (int)v.output.len,
              (const char *)v.output.data);
    RUN(&v, 0, text, sizeof(text) - 1, "0");
    cr_assert(is(&v, "13\n"));
    RUN(&v, 0, "", 0);
    cr_assert(is(&v, "0\n"));
    RUN(&v, 0, "a\302\240b", 4, "2", "C");
    cr_assert(is(&v, "1\n"), "in C, bytes over 127 print nothing");
    RUN(&v, 0, "a\302\240b", 4, "2");
    cr_assert(is(&v, "2\na 1\nb 1\n"));
    RUN(&v, 0, "a", 1, "2", "xx_XX.nowhere");
    cr_assert(failed(&v, EINVAL) && has(&v, "xx_XX.nowhere"));
    RUN(&v, 0, "a", 1, "many");
    cr_assert(failed(&v, EINVAL));
    /* more distinct words than the table begins with; then a small text again */
    struct buf b = BUF_INIT;
    for (int i = 0; i < 300000; i++) {
        cr_assert_eq(buf_printf(&b, "w%d ", i % 150000), 0);
    }
    cr_assert_eq(buf_append(&b, "w7", 2), 0);
    RUN(&v, 0, buf_head(&b), buf_len(&b), "2");
    cr_assert(is(&v, "300001\nw7 3\nw0 2\n"));
    RUN(&v, 0, "b a b", 5);
    cr_assert(is(&v, "3\nb 2\na 1\n"));
    buf_deinit(&b);
}

Test(modules, compress) {
    struct task_view v, back;
    struct child_output out = {0};
    struct buf twice = BUF_INIT;
    size_t len = 3 << 20;
    char *data = malloc(len);
    open_module("compress", NULL);
    for (size_t i = 0; i < len; i++) {
        data[i] = (char)(i % 251 * (i >> 14));
    }
    static const char *const levels[] = {"0", "1", "6", "9", NULL};
    for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
        cr_assert_eq(rig_run(&rig, 0, data, len, (const char *const[]){levels[i], NULL}, &v), 0);
        cr_assert_eq(v.state, TASK_DONE);
        cr_assert(i == 0 || v.output.len < len / 4);
        const char *const gunzip[] = {"gunzip", "-c", NULL};
        cr_assert_eq(child_run(gunzip, NULL, v.output.data, v.output.len, &out), 0);
        cr_assert(out.status == 0 && buf_len(&out.out) == len);
        cr_assert_eq(memcmp(buf_head(&out.out), data, len), 0);
        child_output_deinit(&out);
        RUN(&back, 1, v.output.data, v.output.len);
        cr_assert(back.state == TASK_DONE && back.output.len == len &&
                  memcmp(back.output.data, data, len) == 0);
    }
    /* two members one after the other, then padding */
    RUN(&v, 0, "hello ", 6);
    cr_assert_eq(buf_append(&twice, v.output.data, v.output.len), 0);
    RUN(&v, 0, "world", 5);
    cr_assert_eq(buf_append(&twice, v.output.data, v.output.len), 0);
    RUN(&back, 1, buf_head(&twice), buf_len(&twice));
    cr_assert(is(&back, "hello world"));
    cr_assert_eq(buf_append(&twice, "\0\0\0", 3), 0);
    RUN(&back, 1, buf_head(&twice), buf_len(&twice));
    cr_assert(is(&back, "hello world"));
    /* every cut of it is refused, or is the first member alone */
    for (size_t n = 0; n < buf_len(&twice) - 3; n++) {
        RUN(&back, 1, buf_head(&twice), n);
        cr_assert(failed(&back, EBADMSG) || is(&back, "hello "), "cut at %zu", n);
    }
    RUN(&back, 1, "what is this", 12);
    cr_assert(failed(&back, EBADMSG));
    RUN(&back, 0, "", 0);
    cr_assert_eq(back.state, TASK_DONE);
    RUN(&v, 1, back.output.data, back.output.len);
    cr_assert(v.state == TASK_DONE && v.output.len == 0);
    RUN(&v, 0, "x", 1, "10");
    cr_assert(failed(&v, EINVAL));
    RUN(&v, 0, "x", 1, "-1");
    cr_assert(failed(&v, EINVAL));
    buf_deinit(&twice);
    free(data);
}

/* 10 MiB of zeros in 10 KiB: a bomb ends at max_output, and the worker goes on. */
Test(modules, compress_bomb) {
    struct task_view v, back;
    size_t len = 10 << 20;
    char *data = calloc(1, len);
    open_module("compress", (const char *const[]){"--max-output", "11000000", NULL});
    RUN(&v, 0, data, len);
    cr_assert_eq(v.state, TASK_DONE);
    RUN(&back, 1, v.output.data, v.output.len);
    cr_assert(back.state == TASK_DONE && back.output.len == len);
    rig_close(&rig);
    struct buf bomb = BUF_INIT;
    open_module("compress", (const char *const[]){"--max-output", "11000000", NULL});
    RUN(&v, 0, data, len);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(buf_append(&bomb, v.output.data, v.output.len), 0);
    }
    RUN(&back, 1, buf_head(&bomb), buf_len(&bomb));
    cr_assert(failed(&back, EFBIG));
    RUN(&back, 1, v.output.data, v.output.len);
    cr_assert_eq(back.state, TASK_DONE);
    buf_deinit(&bomb);
    free(data);
}
