/* SPDX-License-Identifier: MIT */
/* libhearth in a libevent loop. One event for the handle; after each dispatch and each submission
 * its interest is looked at again, since hearth_events() tells whether output waits. A timer shows
 * that the loop is free for others.
 *
 *     libevent POOL HANDLER TEXT...
 *
 * Fails: exit status 1, after saying why. */
#include <event2/event.h>
#include <hearth.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct app {
    struct event_base *base;
    struct event *io;
    struct hearth *h;
    int failures;
};

static void on_io(evutil_socket_t fd, short what, void *arg);

/* Makes the event what the handle wants now. */
static void watch(struct app *app) {
    int events = hearth_events(app->h);
    short what =
        (short)(EV_PERSIST | (events & POLLIN ? EV_READ : 0) | (events & POLLOUT ? EV_WRITE : 0));
    event_del(app->io);
    event_assign(app->io, app->base, hearth_get_fd(app->h), what, on_io, app);
    if (events) {
        event_add(app->io, NULL);
    }
    if (hearth_pending(app->h) == 0) {
        event_base_loopbreak(app->base);
    }
}

static void on_io(evutil_socket_t fd, short what, void *arg) {
    struct app *app = arg;
    (void)fd;
    (void)what;
    int r = hearth_dispatch(app->h);
    if (r != 0) {
        fprintf(stderr, "%s: %s\n", hearth_strerror(r), hearth_errmsg(app->h));
        app->failures++;
    }
    watch(app);
}

static void on_done(struct hearth *h, const struct hearth_result *r, void *arg) {
    struct app *app = arg;
    (void)h;
    if (r->status == HEARTH_DONE) {
        printf("%s %.*s\n", r->id, (int)r->len, r->data);
    } else {
        printf("%s %s: %s\n", r->id, hearth_status_name(r->status), r->cause);
        app->failures++;
    }
}

static void on_tick(evutil_socket_t fd, short what, void *arg) {
    int *ticks = arg;
    (void)fd;
    (void)what;
    ++*ticks;
}

static int run(struct app *app, int argc, char **argv) {
    int ticks = 0;
    struct timeval every = {.tv_usec = 10000};
    struct event *timer = event_new(app->base, -1, EV_PERSIST, on_tick, &ticks);
    app->io = event_new(app->base, hearth_get_fd(app->h), EV_READ, on_io, app);
    if (!timer || !app->io) {
        return 1;
    }
    event_add(timer, &every);
    for (int i = 3; i < argc; i++) {
        struct hearth_task task = {.pool = argv[1],
                                   .handler = argv[2],
                                   .payload = argv[i],
                                   .payload_len = strlen(argv[i])};
        if (hearth_submit(app->h, &task, on_done, app, NULL) != 0) {
            app->failures++;
        }
    }
    watch(app);
    event_base_dispatch(app->base);
    fprintf(stderr, "%d ticks of a timer meanwhile\n", ticks);
    event_free(app->io);
    event_free(timer);
    return app->failures ? 1 : 0;
}

int main(int argc, char **argv) {
    struct app app = {0};
    if (argc < 4) {
        fprintf(stderr, "usage: libevent POOL HANDLER TEXT...\n");
        return 2;
    }
    int r = hearth_connect(NULL, &app.h);
    if (r != 0) {
        fprintf(stderr, "cannot connect: %s\n", hearth_strerror(r));
        return 1;
    }
    app.base = event_base_new();
    int status = app.base ? run(&app, argc, argv) : 1;
    hearth_close(app.h); /* after the event that watched its descriptor */
    if (app.base) {
        event_base_free(app.base);
    }
    return status;
}
