/* SPDX-License-Identifier: MIT */
/* The service manager's side of the daemon: readiness, status, watchdog, and the socket it opened
 * for us. Without a manager the environment variables are absent and everything here does nothing.
 *
 * The messages are sent by ourselves, not by sd_notify(): that waits while the manager's queue (of
 * ten messages, usually) is full, and the loop waits for nobody. A status or a ping that finds no
 * room is dropped, the next one says the same; only READY=1 and RELOADING=1 wait.
 *
 * The watchdog interval is half of what the manager waits, so that one late turn of the loop is not
 * fatal. Fails: the notices never; listen_fds_take() with -ENOENT, -ENOTUNIQ, -EINVAL, -errno. */
#include "daemon/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/fd.h"

static void say(const char *text, int flags) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t n = path ? strlen(path) : 0;
    if (n < 2 || n >= sizeof(to.sun_path) || (path[0] != '/' && path[0] != '@')) {
        return;
    }
    memcpy(to.sun_path, path, n);
    if (path[0] == '@') {
        to.sun_path[0] = '\0';
    }
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
        (void)sendto(fd, text, strlen(text), flags | MSG_NOSIGNAL, (struct sockaddr *)&to, len);
    }
}

void notify_ready(void) {
    say("READY=1", 0);
}

void notify_reloading(void) {
    char text[64];
    snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%llu",
             (unsigned long long)(clock_now() / 1000));
    say(text, 0);
}

void notify_stopping(void) {
    say("STOPPING=1", MSG_DONTWAIT);
}

void notify_watchdog(void) {
    say("WATCHDOG=1", MSG_DONTWAIT);
}

void notify_status(const char *fmt, ...) {
    char text[512] = "STATUS=";
    size_t head = strlen(text);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text + head, sizeof(text) - head, fmt, ap);
    va_end(ap);
    for (char *p = text; (p = strpbrk(p, "\r\n")); p++) {
        *p = ' '; /* a new line would begin another assignment */
    }
    say(text, MSG_DONTWAIT);
}

uint64_t notify_watchdog_interval(void) {
    uint64_t usec;
    return sd_watchdog_enabled(0, &usec) > 0 ? usec / 2 : 0;
}

static void names_free(char **names) {
    for (size_t i = 0; names && names[i]; i++) {
        free(names[i]);
    }
    free(names);
}

/* Which of the n passed descriptors is called `name`, or is the only one. An index or -ENOTUNIQ. */
static int choose(char *const *names, int n, const char *name) {
    int found = -1;
    for (int i = 0; names && names[i] && i < n; i++) {
        if (!strcmp(names[i], name)) {
            if (found >= 0) {
                return -ENOTUNIQ;
            }
            found = i;
        }
    }
    return found >= 0 ? found : n == 1 ? 0 : -ENOTUNIQ;
}

int listen_fds_take(const char *name, int *ret_fd) {
    char **names = NULL;
    int n = sd_listen_fds_with_names(1, &names);
    if (n <= 0) {
        names_free(names);
        return n < 0 ? n : -ENOENT;
    }
    int chosen = choose(names, n, name);
    names_free(names);
    if (chosen < 0) {
        return chosen;
    }
    int fd = SD_LISTEN_FDS_START + chosen;
    int r = sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0);
    if (r <= 0) {
        return r < 0 ? r : -EINVAL;
    }
    r = fd_set_nonblock(fd, 1);
    if (r < 0) {
        return r;
    }
    *ret_fd = fd;
    return 0;
}
