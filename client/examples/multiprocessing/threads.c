/* SPDX-License-Identifier: MIT */
/* Ten processes, each of which runs a thread that prints its id.
 *
 * Fails: exit status 1, after saying why. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tutorial.h"

static void *print_id(void *number) {
    printf("process %s: pid %d, thread %d\n", (const char *)number, getpid(), gettid());
    return NULL;
}

/* def child(number): t = Thread(target=print_id, args=(number,)); t.start(); t.join() */
static int child(char *number) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, print_id, number) != 0) {
        return 1;
    }
    return pthread_join(thread, NULL);
}

int main(int argc, char **argv) {
    struct child processes[10];
    if (argc > 2 && strcmp(argv[1], "child") == 0) {
        return child(argv[2]);
    }
    struct hearth *h = tutorial_connect();
    for (int i = 0; i < 10; i++) {
        char number[16];
        snprintf(number, sizeof(number), "%d", i);
        processes[i] = tutorial_start(h, number, NULL);
    }
    for (int i = 0; i < 10; i++) {
        tutorial_join(h, &processes[i]);
    }
    return 0;
}
