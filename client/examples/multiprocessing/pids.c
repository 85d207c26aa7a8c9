/* SPDX-License-Identifier: MIT */
/* Parent and child, and their process ids. The one who is waited for here is a child of the daemon, so that it goes on when the one
 * who started it ends, if it is wanted to.
 *
 * Fails: exit status 1, after saying why. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tutorial.h"

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "child") == 0) {
        printf("child: my pid is %d, hearthd's is %d, started by %s\n", getpid(), getppid(),
               argv[2]);
        return 0;
    }
    struct hearth *h = tutorial_connect();
    char mine[16];
    snprintf(mine, sizeof(mine), "%d", getpid());
    struct child child = tutorial_start(h, mine, NULL);
    tutorial_join(h, &child);
    printf("parent: my pid is %s, the child's was %ld\n", mine, child.pid);
    return 0;
}
