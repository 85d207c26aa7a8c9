/* SPDX-License-Identifier: MIT */
/* A pool of three workers (or as many as the first word says) that runs ten tasks: by apply, one after the other, and by
 * apply_async with a callback, which runs here, in the process that has submitted them. The pool is there already, warm, and stays.
 *
 *     pool [WORKERS]
 *
 * Fails: exit status 1, after saying why. */
#include <hearth.h>
#include <stdio.h>
#include <unistd.h>

#include "tutorial.h"

/* What a worker does: a square, and who made it. The pool `shell` of the sample configuration runs commands; in a pool of handlers
 * this is a function in C. */
static struct hearth_task square(const char **args, char number[16], int i) {
    snprintf(number, 16, "%d", i);
    args[0] = "sh";
    args[1] = "-c";
    args[2] = "sleep 0.05; printf '%s squared is %s (worker %s)' $0 $(($0 * $0)) $PPID";
    args[3] = number;
    return (struct hearth_task){.pool = "shell", .handler = "run", .args = args, .n_args = 4};
}

static void print_result(const char *how, const struct hearth_result *r) {
    printf("%s: %s%s\n", how, r->data, r->cause);
}

/* for i in range(10): print(pool.apply(square, (i,))) */
static void apply(struct hearth *h) {
    const char *args[4];
    char number[16];
    struct hearth_result r;
    for (int i = 0; i < 10; i++) {
        struct hearth_task task = square(args, number, i);
        tutorial_check(h, hearth_call(h, &task, &r), "apply");
        print_result("apply", &r);
    }
}

static void callback(struct hearth *h, const struct hearth_result *r, void *arg) {
    char how[64];
    int *count = arg;
    (void)h;
    ++*count;
    snprintf(how, sizeof(how), "callback in %d", getpid());
    print_result(how, r);
}

/* for i in range(10): pool.apply_async(square, (i,), callback=callback)
 * pool.close(); pool.join() */
static void apply_async(struct hearth *h) {
    const char *args[4];
    char number[16];
    int count = 0;
    for (int i = 0; i < 10; i++) {
        struct hearth_task task = square(args, number, i);
        tutorial_check(h, hearth_submit(h, &task, callback, &count, NULL), "apply_async");
    }
    printf("all are submitted by %d\n", getpid());
    tutorial_check(h, hearth_run(h, -1), "join");
    printf("all %d have ended\n", count);
}

int main(int argc, char **argv) {
    struct hearth *h = tutorial_connect();
    const char *resize[] = {"POOL.RESIZE", "shell", argc > 1 ? argv[1] : "3"};
    const struct hearth_reply *reply;
    tutorial_check(h, hearth_command(h, 3, resize, NULL, &reply), "resize"); /* Pool(3) */
    if (hearth_reply_type(reply) == HEARTH_REPLY_ERROR) {
        fprintf(stderr, "resize: %s\n", hearth_reply_text(reply, NULL));
        return 1;
    }
    apply(h);
    apply_async(h);
    hearth_close(h);
    return 0;
}
