/* SPDX-License-Identifier: MIT */
/* Ten processes that print under one lock, letter by letter, so that the screen is not mixed up. Should one die while it holds
 * the lock, the next one gets it.
 *
 * Fails: exit status 1, after saying why. */
#include <hearth.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tutorial.h"

static void print_slowly(const char *text) {
    for (; *text; text++) {
        if (write(STDOUT_FILENO, text, 1) < 0) {
            return;
        }
        usleep(100); /* so that the others have their chance */
    }
}

/* def child(lock, i): with lock: print(...) */
static int child(const char *name, const char *number) {
    struct hearth *h = tutorial_connect();
    struct hearth_bytes lock = hearth_text(name);
    char text[64];
    snprintf(text, sizeof(text), "hello from process %s\n", number);
    tutorial_check(h, hearth_lock_acquire(h, lock, -1, 0, NULL), "acquire");
    print_slowly(text);
    tutorial_check(h, hearth_lock_release(h, lock, 0), "release");
    hearth_close(h);
    return 0;
}

int main(int argc, char **argv) {
    char prefix[HEARTH_PREFIX_MAX + 1], name[64], number[16];
    struct hearth_bytes lock;
    struct child processes[10];
    if (argc > 3 && strcmp(argv[1], "child") == 0) {
        return child(argv[2], argv[3]);
    }
    struct hearth *h = tutorial_connect();
    tutorial_check(h, hearth_manager_open(h, prefix), "manager");
    hearth_manager_name(prefix, hearth_text("lock"), name, sizeof(name), &lock); /* Lock() */
    for (int i = 0; i < 10; i++) {
        snprintf(number, sizeof(number), "%d", i);
        processes[i] = tutorial_start(h, name, number);
    }
    for (int i = 0; i < 10; i++) {
        tutorial_join(h, &processes[i]);
    }
    hearth_close(h);
    return 0;
}
