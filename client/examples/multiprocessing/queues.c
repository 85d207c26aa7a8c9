/* SPDX-License-Identifier: MIT */
/* A queue that the child fills and the parent reads. Its name begins with a manager's prefix, so it goes when this program ends.
 *
 * Fails: exit status 1, after saying why. */
#include <hearth.h>
#include <stdio.h>
#include <string.h>

#include "tutorial.h"

/* def child(q): for item in (...): q.put(item); q.close() */
static int child(const char *name) {
    static const char *const items[] = {"42", "a text", "the last one"};
    struct hearth *h = tutorial_connect();
    struct hearth_bytes q = hearth_text(name);
    for (int i = 0; i < 3; i++) {
        tutorial_check(h, hearth_queue_put(h, q, hearth_text(items[i]), -1), "put");
    }
    tutorial_check(h, hearth_queue_close(h, q), "close");
    hearth_close(h);
    return 0;
}

int main(int argc, char **argv) {
    char prefix[HEARTH_PREFIX_MAX + 1], name[64];
    struct hearth_bytes q, item;
    int r;
    if (argc > 2 && strcmp(argv[1], "child") == 0) {
        return child(argv[2]);
    }
    struct hearth *h = tutorial_connect();
    tutorial_check(h, hearth_manager_open(h, prefix), "manager");
    hearth_manager_name(prefix, hearth_text("queue"), name, sizeof(name), &q); /* q = Queue() */
    struct child process = tutorial_start(h, name, NULL);
    while ((r = hearth_queue_get(h, q, -1, &item, NULL)) == 0) { /* q.get() */
        printf("%s\n", (const char *)item.data);
    }
    if (r != HEARTH_E_CLOSED) { /* empty, and nothing will come any more */
        tutorial_check(h, r, "get");
    }
    tutorial_join(h, &process);
    hearth_close(h);
    return 0;
}
