/* SPDX-License-Identifier: MIT */
/* multiprocessing.Pool side by side. The Python is in the comments; the pool `demo` of the sample
 * configuration stands for it, whose handler echo gives back its payload.
 *
 *     apply
 *
 * Fails: exit status 1, after saying why. */
#include <hearth.h>
#include <stdio.h>
#include <string.h>

static int wrong;

static void check(int ok, const char *what) {
    printf("%-11s %s\n", what, ok ? "ok" : "WRONG");
    wrong += !ok;
}

static struct hearth_task echo(const char *text) {
    return (struct hearth_task){
        .pool = "demo", .handler = "echo", .payload = text, .payload_len = strlen(text)};
}

/* pool.apply(echo, ["hello"]) */
static void apply(struct hearth *h) {
    struct hearth_task task = echo("hello");
    struct hearth_result r;
    int e = hearth_call(h, &task, &r);
    check(e == 0 && r.status == HEARTH_DONE && strcmp(r.data, "hello") == 0, "apply");
}

static void on_done(struct hearth *h, const struct hearth_result *r, void *arg) {
    int *count = arg;
    (void)h;
    *count += r->status == HEARTH_DONE && r->len == 1;
}

/* for c in "abc": pool.apply_async(echo, [c], callback=on_done)
 * pool.close(); pool.join() */
static void apply_async(struct hearth *h) {
    static const char *const texts[] = {"a", "b", "c"};
    int count = 0, e = 0;
    for (int i = 0; i < 3 && e == 0; i++) {
        struct hearth_task task = echo(texts[i]);
        e = hearth_submit(h, &task, on_done, &count, NULL);
    }
    if (e == 0) {
        e = hearth_run(h, -1); /* join: until every callback has been called */
    }
    check(e == 0 && count == 3, "apply_async");
}

static int join_up(void *arg, const struct hearth_result *r) {
    if (r->status == HEARTH_DONE) {
        strncat(arg, r->data, r->len);
    }
    return 0;
}

/* "".join(pool.map(echo, "hearth"))            ordered = 1
 * for x in pool.imap_unordered(echo, "hearth") ordered = 0 */
static void map(struct hearth *h) {
    const struct hearth_bytes letters[] = {{"h", 1}, {"e", 1}, {"a", 1},
                                           {"r", 1}, {"t", 1}, {"h", 1}};
    char text[16] = "";
    struct hearth_map m = {.task = {.pool = "demo", .handler = "echo"},
                           .payloads = letters,
                           .n = 6,
                           .ordered = 1,
                           .done = join_up,
                           .arg = text};
    check(hearth_map(h, &m) == 0 && strcmp(text, "hearth") == 0, "map");
}

/* try: pool.apply(fail, ["no such file"]) except Exception as e: ... */
static void exception(struct hearth *h) {
    const char *args[] = {"no such file"};
    struct hearth_task task = {.pool = "demo", .handler = "fail", .args = args, .n_args = 1};
    struct hearth_result r;
    int e = hearth_call(h, &task, &r);
    check(e == 0 && r.status == HEARTH_FAILED && strstr(r.cause, "no such file"), "exception");
}

/* for r in pool.imap(echo, "hearth"): text += r */
static void imap(struct hearth *h) {
    static const struct hearth_bytes letters[] = {{"h", 1}, {"e", 1}, {"a", 1},
                                                  {"r", 1}, {"t", 1}, {"h", 1}};
    struct hearth_map map = {
        .task = echo(""), .payloads = letters, .n = 6, .ordered = 1, .window = 3};
    struct hearth_imap *it;
    struct hearth_result r;
    char text[16] = "";
    int e = hearth_imap_open(h, &map, &it);
    if (e == 0) {
        while ((e = hearth_imap_next(it, &r)) == 0 && r.status == HEARTH_DONE) {
            strncat(text, r.data, r.len);
        }
        hearth_imap_close(it);
    }
    check(e == HEARTH_E_ABSENT && strcmp(text, "hearth") == 0, "imap");
}

static void two_words(void *arg, size_t index, struct hearth_task *task) {
    static const char *const pairs[][2] = {{"good", "morning"}, {"good", "night"}};
    (void)arg;
    task->args = pairs[index];
    task->n_args = 2;
}

/* pool.starmap(join, [("good", "morning"), ("good", "night")]) */
static void starmap(struct hearth *h) {
    static const struct hearth_bytes none[2];
    char text[64] = "";
    struct hearth_map map = {.task = echo(""),
                             .payloads = none,
                             .n = 2,
                             .ordered = 1,
                             .vary = two_words,
                             .done = join_up,
                             .arg = text};
    int e = hearth_map(h, &map);
    check(e == 0 && strcmp(text, "good morninggood night") == 0, "starmap");
}

int main(void) {
    struct hearth *h;
    /* pool = multiprocessing.Pool() - but the workers are warm already, and outlive us. */
    int r = hearth_connect(NULL, &h);
    if (r != 0) {
        fprintf(stderr, "cannot connect: %s\n", hearth_strerror(r));
        return 1;
    }
    apply(h);
    apply_async(h);
    map(h);
    exception(h);
    imap(h);
    starmap(h);
    hearth_close(h);
    return wrong ? 1 : 0;
}
