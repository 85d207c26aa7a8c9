/* SPDX-License-Identifier: MIT */
/* What a service manager hands over, and what it is told. The descriptors must be 3 and up, which a
 * test does not own: each case runs in a child and reports by its exit status. */
#include "daemon/notify.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "tests/support/child.h"

TestSuite(notify, .timeout = 30, .fini = child_kill_all);

enum made { LISTENER, DATAGRAM, NOT_LISTENING, PIPE, NOTHING };

struct handover {
    enum made fd[3];
    int n;
    const char *names; /* NULL: no LISTEN_FDNAMES */
    bool other_pid;    /* LISTEN_PID of somebody else */
    int expected;      /* the result, ... */
    int index;         /* ... and which one it is */
};

static int make(enum made kind) {
    struct sockaddr_un any = {.sun_family = AF_UNIX}; /* the kernel chooses an abstract name */
    int fds[2];
    if (kind == PIPE) {
        return pipe(fds) ? -1 : fds[0];
    }
    int fd = socket(AF_UNIX, kind == DATAGRAM ? SOCK_DGRAM : SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&any, sizeof(sa_family_t)) ||
        (kind == LISTENER && listen(fd, 5))) {
        return -1;
    }
    return fd;
}

/* Lays the descriptors out from 3 on, as systemd does; 0 when everything is as expected. */
static int take(void *arg) {
    const struct handover *h = arg;
    int made[3];
    char text[16];
    for (int i = 0; i < h->n; i++) {
        int fd = make(h->fd[i]);
        made[i] = fd < 0 ? -1 : fcntl(fd, F_DUPFD, 20);
        if (made[i] < 0) {
            return 2;
        }
    }
    for (int i = 0; i < h->n; i++) {
        dup2(made[i], 3 + i);
    }
    snprintf(text, sizeof(text), "%d", h->other_pid ? (int)getppid() : (int)getpid());
    setenv("LISTEN_PID", text, 1);
    snprintf(text, sizeof(text), "%d", h->n);
    if (h->n) {
        setenv("LISTEN_FDS", text, 1);
    } else {
        unsetenv("LISTEN_FDS");
    }
    if (h->names) {
        setenv("LISTEN_FDNAMES", h->names, 1);
    } else {
        unsetenv("LISTEN_FDNAMES");
    }
    int fd = -7;
    int r = listen_fds_take("hearth", &fd);
    if (r != h->expected || getenv("LISTEN_FDS")) {
        return 3;
    }
    if (r) {
        return fd == -7 ? 0 : 4;
    }
    bool ok = fd == 3 + h->index && (fcntl(fd, F_GETFD) & FD_CLOEXEC) &&
              (fcntl(fd, F_GETFL) & O_NONBLOCK);
    return ok ? 0 : 5;
}

Test(notify, the_listening_socket_is_found_by_name) {
    static const struct handover cases[] = {
        {{LISTENER}, 1, "hearth", false, 0, 0},
        {{LISTENER}, 1, "hearthd.socket", false, 0, 0},
        {{LISTENER}, 1, NULL, false, 0, 0},
        {{PIPE, LISTENER}, 2, "segment:hearth", false, 0, 1},
        {{LISTENER, LISTENER}, 2, "a:b", false, -ENOTUNIQ, 0},
        {{LISTENER, LISTENER}, 2, "hearth:hearth", false, -ENOTUNIQ, 0},
        {{DATAGRAM}, 1, "hearth", false, -EINVAL, 0},
        {{NOT_LISTENING}, 1, "hearth", false, -EINVAL, 0},
        {{PIPE}, 1, "hearth", false, -EINVAL, 0},
        {{LISTENER}, 1, "hearth", true, -ENOENT, 0},
        {{NOTHING}, 0, NULL, false, -ENOENT, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        pid_t pid = child_start(take, (void *)&cases[i]);
        cr_assert_gt(pid, 0);
        cr_expect_eq(child_wait(pid), 0, "case %zu", i);
    }
}

/* The socket of a manager, told by the environment. */
static int manager(void) {
    struct sockaddr_un any = {.sun_family = AF_UNIX}, addr;
    socklen_t len = sizeof(addr);
    char name[120];
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&any, sizeof(sa_family_t)), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    snprintf(name, sizeof(name), "@%.*s", (int)(len - offsetof(struct sockaddr_un, sun_path) - 1),
             addr.sun_path + 1);
    setenv("NOTIFY_SOCKET", name, 1);
    return fd;
}

/* It would hang here. */
Test(notify, a_manager_that_does_not_listen_stops_nobody) {
    _cleanup_close_ int fd = manager();
    cr_assert_geq(fd, 0);
    for (int i = 0; i < 10000; i++) {
        notify_status("%d", i);
        notify_watchdog();
    }
    notify_stopping();
}

Test(notify, the_manager_is_told) {
    char got[600];
    int fd = manager();
    static const char *const expected[] = {"READY=1", "STATUS=2 pools, FDSTORE=1", "WATCHDOG=1",
                                           "STOPPING=1"};
    notify_ready();
    notify_status("%d pools,\n%s", 2, "FDSTORE=1");
    notify_watchdog();
    notify_stopping();
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
        ssize_t n = recv(fd, got, sizeof(got) - 1, MSG_DONTWAIT);
        cr_assert_gt(n, 0);
        got[n] = '\0';
        cr_expect_str_eq(got, expected[i]);
    }
    close(fd);
}

Test(notify, without_a_manager_nothing_happens) {
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    notify_ready();
    notify_status("x");
    notify_watchdog();
    notify_stopping();
    cr_assert_eq(notify_watchdog_interval(), 0);
    char pid[16];
    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    setenv("WATCHDOG_PID", pid, 1);
    setenv("WATCHDOG_USEC", "30000000", 1);
    cr_assert_eq(notify_watchdog_interval(), 15000000);
}
