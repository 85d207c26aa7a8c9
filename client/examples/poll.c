/* SPDX-License-Identifier: MIT */
/* libhearth in a poll() loop of your own: submits one task per argument, goes on with other work
 * (here: counts the turns of the loop), prints each result when it arrives.
 *
 *     poll POOL HANDLER TEXT...
 *
 * Fails: exit status 1, after saying why. */
#include <hearth.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

static void on_done(struct hearth *h, const struct hearth_result *r, void *arg) {
    const char *text = arg;
    (void)h;
    if (r->status == HEARTH_DONE) {
        printf("%s -> %.*s\n", text, (int)r->len, r->data);
    } else {
        printf("%s: %s: %s\n", text, hearth_status_name(r->status), r->cause);
        failures++;
    }
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: poll POOL HANDLER TEXT...\n");
        return 2;
    }
    struct hearth *h;
    int r = hearth_connect(NULL, &h);
    if (r != 0) {
        fprintf(stderr, "cannot connect: %s\n", hearth_strerror(r));
        return 1;
    }
    for (int i = 3; i < argc && r == 0; i++) {
        struct hearth_task task = {.pool = argv[1],
                                   .handler = argv[2],
                                   .payload = argv[i],
                                   .payload_len = strlen(argv[i])};
        r = hearth_submit(h, &task, on_done, argv[i], NULL);
    }
    int turns = 0;
    while (r == 0 && hearth_pending(h) > 0) {
        /* Add the descriptors of your own program here. Ask for the events each time: output may
         * wait. */
        struct pollfd fds[] = {{.fd = hearth_get_fd(h), .events = (short)hearth_events(h)}};
        if (poll(fds, 1, -1) > 0 && fds[0].revents) {
            r = hearth_dispatch(h); /* never blocks; calls on_done() */
        }
        turns++;
    }
    if (r != 0) {
        fprintf(stderr, "%s: %s\n", hearth_strerror(r), hearth_errmsg(h));
    }
    fprintf(stderr, "%d turns of the loop\n", turns);
    hearth_close(h);
    return r != 0 || failures ? 1 : 0;
}
