/* SPDX-License-Identifier: MIT */
/* A pipe: two messages from the child, and one back. The parent has end 0, the child end 1.
 *
 * Fails: exit status 1, after saying why. */
#include <hearth.h>
#include <stdio.h>
#include <string.h>

#include "tutorial.h"

/* def child(conn): conn.send(...); conn.send(...); print(conn.recv()) */
static int child(const char *name) {
    struct hearth *h = tutorial_connect();
    struct hearth_bytes pipe = hearth_text(name), message;
    tutorial_check(h, hearth_pipe_send(h, pipe, 1, hearth_text("hello"), -1), "send");
    tutorial_check(h, hearth_pipe_send(h, pipe, 1, hearth_text("how are you?"), -1), "send");
    tutorial_check(h, hearth_pipe_recv(h, pipe, 1, -1, &message), "recv");
    printf("parent says: %s\n", (const char *)message.data);
    hearth_close(h);
    return 0;
}

int main(int argc, char **argv) {
    char prefix[HEARTH_PREFIX_MAX + 1], name[64];
    struct hearth_bytes pipe, message;
    if (argc > 2 && strcmp(argv[1], "child") == 0) {
        return child(argv[2]);
    }
    struct hearth *h = tutorial_connect();
    tutorial_check(h, hearth_manager_open(h, prefix), "manager");
    hearth_manager_name(prefix, hearth_text("pipe"), name, sizeof(name), &pipe);
    tutorial_check(h, hearth_pipe_create(h, pipe, 1, 0, NULL), "pipe"); /* Pipe() */
    struct child process = tutorial_start(h, name, NULL);
    for (int i = 0; i < 2; i++) {
        tutorial_check(h, hearth_pipe_recv(h, pipe, 0, -1, &message), "recv");
        printf("child says: %s\n", (const char *)message.data);
    }
    fflush(stdout);
    tutorial_check(h, hearth_pipe_send(h, pipe, 0, hearth_text("fine, thank you"), -1), "send");
    tutorial_join(h, &process);
    hearth_close(h);
    return 0;
}
