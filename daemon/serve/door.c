/* SPDX-License-Identifier: MIT */
/* Workers and zygotes of modules have the segment, but some things only the daemon can give: the descriptor of a raw block. They
 * make a socketpair and send one end of it through the door, which all of them have inherited; that end becomes a connection
 * like any other, so that every command is there for them. It works whatever they can see of the file system, under the
 * daemon's own user or another. Who it is says the kernel, as always: the credentials of a socketpair are its maker's.
 *
 * Such connections do not count as clients: workers must not wait for places that clients have taken.
 *
 * Fails: -errno from door_open(); a message that makes no sense is dropped. */
#include "daemon/serve/door.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/fd.h"

enum { DOOR_MESSAGES = 16 /* in one turn */ };

static bool is_stream(int fd) {
    int domain = 0, type = 0;
    socklen_t len = sizeof(int);
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

static void take(struct serve *s, int fd) {
    if (!is_stream(fd) || fd_set_nonblock(fd, 1) < 0) {
        close(fd);
        return;
    }
    struct conn *c = conn_new(s, fd);
    if (c) {
        c->own = true;
        s->n_own++;
    }
}

static void on_door(evutil_socket_t sock, short what, void *arg) {
    struct serve *s = arg;
    (void)what;
    s->now_ns = clock_now();
    for (int i = 0; i < DOOR_MESSAGES; i++) {
        char byte;
        int fd = -1;
        ssize_t n = fd_recv(sock, &byte, sizeof(byte), &fd);
        if (fd >= 0) {
            s->d->heard++;
            take(s, fd);
        }
        if (n < 0 && n != -EMSGSIZE) {
            break;
        }
    }
}

int door_open(struct serve *s) {
    int r = fd_set_nonblock(s->d->door_fds[0], 1);
    if (r < 0) {
        return r;
    }
    s->ev_door = event_new(s->d->base, s->d->door_fds[0], EV_READ | EV_PERSIST, on_door, s);
    return s->ev_door && event_add(s->ev_door, NULL) == 0 ? 0 : -ENOMEM;
}

void door_close(struct serve *s) {
    if (s->ev_door) {
        event_free(s->ev_door);
        s->ev_door = NULL;
    }
}
