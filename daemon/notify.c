/* SPDX-License-Identifier: MIT */
/* The service manager's side of the daemon: readiness, status, watchdog, and the socket it opened
 * for us. Without a manager the environment variables are absent and everything here does nothing.
 *
 * The messages are sent by ourselves, not by sd_notify(): that waits while the manager's queue (of
 * ten messages, usually) is full, and the loop waits for nobody. A status or a ping that finds no
 * room is dropped, the next one says the same; only READY=1, RELOADING=1 and what is for the store
 * wait, and not for ever.
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

enum { PATIENCE_S = 2 };

/* fd -1: none goes with it. 0 or -errno. */
static int send_to(const char *text, int fd_with, int flags) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t n = path ? strlen(path) : 0;
    if (n < 2 || n >= sizeof(to.sun_path) || (path[0] != '/' && path[0] != '@')) {
        return -ENOENT;
    }
    memcpy(to.sun_path, path, n);
    if (path[0] == '@') {
        to.sun_path[0] = '\0';
    }
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){.tv_sec = PATIENCE_S},
               sizeof(struct timeval));
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {(char *)(uintptr_t)text, strlen(text)};
    struct msghdr m = {.msg_name = &to,
                       .msg_namelen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n),
                       .msg_iov = &iov,
                       .msg_iovlen = 1};
    if (fd_with >= 0) {
        m.msg_control = control.space;
        m.msg_controllen = sizeof(control.space);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd_with, sizeof(int));
    }
    ssize_t sent;
    do {
        sent = sendmsg(fd, &m, flags | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

static void say(const char *text, int flags) {
    (void)send_to(text, -1, flags); /* of no consequence */
}

/* FDPOLL=0: a memfd, or a pidfd, is not to be dropped because it can be read. */
int notify_store(const char *name, int fd) {
    char text[128];
    snprintf(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
    return send_to(text, fd, 0);
}

int notify_unstore(const char *name) {
    char text[128];
    snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
    return send_to(text, -1, 0);
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

void notify_extend(uint64_t usec) {
    char text[64];
    snprintf(text, sizeof(text), "EXTEND_TIMEOUT_USEC=%llu", (unsigned long long)usec);
    say(text, MSG_DONTWAIT);
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

/* ---- what we were started with ---- */

enum { PASSED_MAX = 4096 };

/* names[i] is of descriptor SD_LISTEN_FDS_START + i; NULL: it has been taken. */
static struct {
    char **names;
    int n; /* or an errno */
    bool known;
} passed;

/* The variables are removed from the environment, so that no child takes them for its own. */
static int look(void) {
    if (!passed.known) {
        passed.known = true;
        passed.n = sd_listen_fds_with_names(1, &passed.names);
        passed.n = passed.n > PASSED_MAX ? -EMFILE : passed.n;
    }
    return passed.n;
}

static const char *name_of(int i) {
    return passed.names && passed.names[i] ? passed.names[i] : "";
}

static bool is_stored(int i) {
    return strncmp(name_of(i), "hearth-", strlen("hearth-")) == 0;
}

int passed_fd(const char *name, int *at) {
    for (int n = look(); *at < n; ++*at) {
        if (strcmp(name_of(*at), name) == 0) {
            return SD_LISTEN_FDS_START + (*at)++;
        }
    }
    return -ENOENT;
}

bool passed_any(void) {
    bool any = false;
    for (int i = 0; i < look(); i++) {
        any |= !is_stored(i);
    }
    return any;
}

/* The one that is called `name`, or the only one that is not from the store. An index; -ENOENT: there are none but those;
 * -ENOTUNIQ. */
static int choose(const char *name) {
    int found = -1, only = -1, others = 0;
    for (int i = 0; i < passed.n; i++) {
        if (is_stored(i)) {
            continue;
        }
        others++;
        only = i;
        if (strcmp(name_of(i), name) == 0) {
            if (found >= 0) {
                return -ENOTUNIQ;
            }
            found = i;
        }
    }
    return found >= 0 ? found : others == 1 ? only : others == 0 ? -ENOENT : -ENOTUNIQ;
}

int listen_fds_take(const char *name, int *ret_fd) {
    int n = look();
    if (n <= 0) {
        return n < 0 ? n : -ENOENT;
    }
    int chosen = choose(name);
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
