/* SPDX-License-Identifier: MIT */
/* The service manager's side of the daemon, through libsystemd: readiness, status, watchdog, and
 * the socket it opened for us. Without a manager the environment variables are absent and
 * everything here does nothing.
 *
 * The watchdog interval is half of what the manager waits, so that one late turn of the loop is not
 * fatal. Fails: the notices never; listen_fds_take() with -ENOENT, -ENOTUNIQ, -EINVAL, -errno. */
#include "daemon/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include "lib/base/fd.h"

void notify_ready(void) {
    (void)sd_notify(0, "READY=1");
}

void notify_stopping(void) {
    (void)sd_notify(0, "STOPPING=1");
}

void notify_watchdog(void) {
    (void)sd_notify(0, "WATCHDOG=1");
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
    (void)sd_notify(0, text);
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
