/* SPDX-License-Identifier: MIT */
/* The listening socket. systemd's is taken as it is. Our own: the file may be left over from a
 * daemon that was killed, and then refuses connections; only such a file is replaced. A socket that
 * answers belongs to a living daemon, and anything that is no socket to somebody else: both are
 * left alone. Of two daemons that find the same left-over at once, the one that gets the lock file
 * beside it goes on (lockfile.h). The file is made without any permission (umask), then given to its owner and group,
 * then opened up, so nobody connects in between who may not. On closing it is removed only if it
 * still is ours.
 *
 * Connections are taken while there are descriptors for them. When there are none, accepting pauses
 * until a connection closes, or 100 ms have passed (others may have freed some): clients meanwhile
 * wait in the backlog instead of being turned away, and the loop does not spin on a socket it
 * cannot serve. Over max_clients they are refused, in Redis's words.
 *
 * Fails: -errno, with the reason and what to do in the log. */
#include "daemon/serve/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <pwd.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/lockfile.h"
#include "daemon/log.h"
#include "daemon/notify.h"
#include "daemon/serve/blocks.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/num.h"

enum { ACCEPTS = 64, PAUSE_US = 100000 };

#define ABOUT LOG_ABOUT(.message = MESSAGE_SOCKET)

/* ---- making it ---- */

static int check_parent(const char *path) {
    _cleanup_free_ char *copy = strdup(path);
    if (!copy) {
        return -ENOMEM;
    }
    const char *dir = dirname(copy);
    struct stat st;
    if (stat(dir, &st) < 0) {
        int r = -errno;
        log_err(ABOUT, "cannot use the socket's directory %s: %s", dir, strerror(-r));
        return r;
    }
    if (!S_ISDIR(st.st_mode)) {
        log_err(ABOUT, "%s is not a directory, the socket cannot be in it", dir);
        return -ENOTDIR;
    }
    if ((st.st_mode & S_IWOTH) && !(st.st_mode & S_ISVTX)) {
        log_err(ABOUT,
                "%s is writable by everybody, who could put another socket in our place: use "
                "another directory, or chmod o-w",
                dir);
        return -EPERM;
    }
    return 0;
}

static int address_of(const char *path, struct sockaddr_un *ret) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len >= sizeof(a.sun_path)) {
        log_err(ABOUT, "the path of the socket is longer than %zu bytes: %s",
                sizeof(a.sun_path) - 1, path);
        return -ENAMETOOLONG;
    }
    memcpy(a.sun_path, path, len + 1);
    *ret = a;
    return 0;
}

/* Does somebody answer there? 0: it is stale; -EADDRINUSE; -errno. */
static int probe(const struct sockaddr_un *a) {
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    if (connect(fd, (const struct sockaddr *)a, sizeof(*a)) == 0 || errno == EAGAIN ||
        errno == EINPROGRESS || errno == EACCES) {
        return -EADDRINUSE;
    }
    return errno == ECONNREFUSED || errno == ENOENT ? 0 : -errno;
}

static int refuse_second(const char *path) {
    log_err(ABOUT,
            "a daemon is already listening on %s: stop it first, or choose another path (-s)",
            path);
    return -EADDRINUSE;
}

static int take_lock(struct serve *s, const char *path) {
    int r = lockfile_take(path, &s->lock_fd);
    if (r == -EADDRINUSE) {
        return refuse_second(path);
    }
    if (r < 0) {
        log_err(ABOUT, "cannot make the lock file %s.lock: %s", path, strerror(-r));
    }
    return r;
}

static int remove_stale(const struct sockaddr_un *a) {
    struct stat st;
    if (lstat(a->sun_path, &st) < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    if (!S_ISSOCK(st.st_mode)) {
        log_err(ABOUT, "%s exists and is not a socket: remove it, or choose another path",
                a->sun_path);
        return -EEXIST;
    }
    int r = probe(a);
    if (r == -EADDRINUSE) {
        return refuse_second(a->sun_path);
    }
    if (r < 0) {
        log_err(ABOUT, "cannot tell whether somebody listens on %s: %s", a->sun_path, strerror(-r));
        return r;
    }
    log_info(ABOUT, "replacing the socket %s that a daemon has left behind", a->sun_path);
    return unlink(a->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

static int find_owner(const struct config *f, uid_t *ret_uid, gid_t *ret_gid) {
    uint64_t v;
    const char *owner = f->socket_owner, *group = f->socket_group;
    *ret_uid = (uid_t)-1;
    *ret_gid = (gid_t)-1;
    if (owner && *owner && num_u64(owner, strlen(owner), &v) == 0) {
        *ret_uid = (uid_t)v;
    } else if (owner && *owner) {
        const struct passwd *pw = getpwnam(owner);
        if (!pw) {
            log_err(ABOUT, "socket_owner: there is no user %s", owner);
            return -ENOENT;
        }
        *ret_uid = pw->pw_uid;
    }
    if (group && *group && num_u64(group, strlen(group), &v) == 0) {
        *ret_gid = (gid_t)v;
    } else if (group && *group) {
        const struct group *gr = getgrnam(group);
        if (!gr) {
            log_err(ABOUT, "socket_group: there is no group %s", group);
            return -ENOENT;
        }
        *ret_gid = gr->gr_gid;
    }
    return 0;
}

static int give_away(const struct config *f, const char *path) {
    uid_t uid;
    gid_t gid;
    int r = find_owner(f, &uid, &gid);
    if (r < 0) {
        return r;
    }
    if ((uid != (uid_t)-1 || gid != (gid_t)-1) && lchown(path, uid, gid) < 0) {
        r = -errno;
        log_err(ABOUT, "cannot give %s to %s:%s: %s", path, f->socket_owner, f->socket_group,
                strerror(-r));
        return r;
    }
    if (chmod(path, f->socket_mode) < 0) {
        r = -errno;
        log_err(ABOUT, "cannot set the mode of %s: %s", path, strerror(-r));
        return r;
    }
    return 0;
}

static int bind_closed(int fd, const struct sockaddr_un *a) {
    mode_t mask = umask(0777);
    int r = bind(fd, (const struct sockaddr *)a, sizeof(*a)) < 0 ? -errno : 0;
    umask(mask);
    if (r < 0) {
        log_err(ABOUT, "cannot make the socket %s: %s", a->sun_path, strerror(-r));
    }
    return r;
}

static int make_own(struct serve *s) {
    const struct config *f = s->d->config;
    struct sockaddr_un a;
    struct stat st;
    int r = address_of(f->socket_path, &a);
    r = r < 0 ? r : check_parent(f->socket_path);
    r = r < 0 ? r : take_lock(s, f->socket_path);
    r = r < 0 ? r : remove_stale(&a);
    if (r < 0) {
        return r;
    }
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    r = bind_closed(fd, &a);
    if (r < 0) {
        return r;
    }
    if (lstat(a.sun_path, &st) == 0) {
        s->own_socket = true;
        s->socket_dev = st.st_dev;
        s->socket_ino = st.st_ino;
    }
    r = give_away(f, a.sun_path);
    if (r == 0 && listen(fd, SOMAXCONN) < 0) {
        r = -errno;
        log_err(ABOUT, "cannot listen on %s: %s", a.sun_path, strerror(-r));
    }
    if (r < 0) {
        return r;
    }
    s->listen_fd = steal_fd(&fd);
    return 0;
}

/* ---- accepting ---- */

static void pause_accepting(struct serve *s) {
    if (!s->paused) {
        s->paused = true;
        log_warn(LOG_ABOUT(.message = MESSAGE_NO_FILES),
                 "out of file descriptors with %u clients: new ones wait", s->n_conns);
    }
    event_add(s->ev_resume, &(struct timeval){.tv_usec = PAUSE_US});
    listen_update(s);
}

static void refuse(struct serve *s, int fd, const char *text, const char *why) {
    if (send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        log_debug(NULL, "a refused client was gone already");
    }
    close(fd);
    if (s->refused++ % 1000 == 0) {
        log_warn(LOG_ABOUT(.message = MESSAGE_CLIENT_REFUSED), "refusing clients: %s", why);
    }
}

/* 0, or -EAGAIN: enough for now. */
static int accept_one(struct serve *s) {
    if (s->n_conns - s->n_own + blocks_count(s) >= s->conns_max) {
        pause_accepting(s);
        return -EAGAIN;
    }
    int fd = accept4(s->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause_accepting(s);
            return -EAGAIN;
        }
        return errno == EINTR || errno == ECONNABORTED ? 0 : -EAGAIN;
    }
    s->d->heard++;
    if (s->n_conns - s->n_own >= s->d->config->limits.max_clients) {
        refuse(s, fd, "-ERR max number of clients reached\r\n", "limits.max_clients is reached");
        return 0;
    }
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t len = sizeof(peer);
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
    if (accounts_may_connect(s, peer.uid) < 0) {
        char text[sizeof(s->quota) + 4];
        snprintf(text, sizeof(text), "-%s\r\n", s->quota);
        refuse(s, fd, text, s->quota);
        return 0;
    }
    s->paused = false;
    if (conn_new(s, fd)) {
        s->accepted++;
    }
    return 0;
}

static void on_accept(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    struct serve *s = arg;
    s->now_ns = clock_now();
    for (int i = 0; i < ACCEPTS && accept_one(s) == 0; i++) {
    }
}

static void on_resume(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    listen_update(arg);
}

void listen_resume(struct serve *s) {
    if (s->paused && s->ev_resume) {
        event_del(s->ev_resume);
        listen_update(s);
    }
}

void listen_update(struct serve *s) {
    if (!s->ev_accept) {
        return;
    }
    if (s->accepting && !evtimer_pending(s->ev_resume, NULL)) {
        event_add(s->ev_accept, NULL);
    } else {
        event_del(s->ev_accept);
    }
}

/* A socket that was passed has the path it has, whatever the configuration says: what we tell about
 * it (READY, CLIENT LIST, CONFIG GET) must be true. */
static int learn_path(struct serve *s) {
    struct sockaddr_un a = {0};
    socklen_t len = sizeof(a) - 1; /* so that a path that fills it has an end */
    if (getsockname(s->listen_fd, (struct sockaddr *)&a, &len) < 0) {
        return -errno;
    }
    s->d->socket_is_passed = true;
    return a.sun_path[0] ? config_set_socket(s->d->config, a.sun_path) : 0;
}

int listen_open(struct serve *s) {
    int r = listen_fds_take("hearth", &s->listen_fd);
    if (r == 0) {
        r = learn_path(s);
        log_info(ABOUT, "serving the socket that was passed to us: %s", s->d->config->socket_path);
    } else if (r == -ENOENT) {
        r = make_own(s);
        if (r == 0) {
            log_info(ABOUT, "serving %s", s->d->config->socket_path);
        }
    } else {
        log_err(ABOUT,
                "cannot use the sockets that were passed to us (one listening Unix stream socket "
                "called \"hearth\" is expected): %s",
                strerror(-r));
    }
    if (r < 0) {
        return r;
    }
    s->ev_accept = event_new(s->d->base, s->listen_fd, EV_READ | EV_PERSIST, on_accept, s);
    s->ev_resume = evtimer_new(s->d->base, on_resume, s);
    return s->ev_accept && s->ev_resume ? 0 : -ENOMEM;
}

void listen_close(struct serve *s) {
    struct stat st;
    const char *path = s->d->config->socket_path;
    if (s->ev_accept) {
        event_free(s->ev_accept);
        s->ev_accept = NULL;
    }
    if (s->ev_resume) {
        event_free(s->ev_resume);
        s->ev_resume = NULL;
    }
    if (s->own_socket && lstat(path, &st) == 0 && st.st_dev == s->socket_dev &&
        st.st_ino == s->socket_ino) {
        unlink(path);
    }
    lockfile_remove(path, s->lock_fd);
    s->lock_fd = -1;
    if (s->listen_fd >= 0) {
        close(s->listen_fd);
        s->listen_fd = -1;
    }
}
