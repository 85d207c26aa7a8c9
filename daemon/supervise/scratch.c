/* SPDX-License-Identifier: MIT */
/* Where commands put temporary files, so that the next task does not find them: each worker of an exec pool has a directory of
 * its own, which is its commands' TMPDIR and is emptied after each of them (worker/exec.c). Here is what they lie in.
 *
 * A worker that is killed leaves its directory; the next one in its slot empties it. A daemon that is killed leaves the whole.
 * Its name is therefore one of a few, hearth-UID.N, and it is held by a lock: the next daemon of that user takes the first one
 * that nobody holds, and empties it. (With workers that were handed over in it, handover.c, it is left as it is: whoever gets
 * a slot's directory empties that.) Somebody else's directory of such a name is passed over.
 *
 * Fails: without a directory commands have the TMPDIR that the daemon has, and the log says so. */
#include "daemon/supervise/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/log.h"
#include "lib/base/cleanup.h"
#include "lib/base/dir.h"

enum { NAMES = 1000 };

struct scratch {
    char path[PATH_MAX - 64], pool[PATH_MAX];
    int fd; /* holds the lock */
};

/* A descriptor that holds it; -errno: it is somebody else's, or cannot be made. */
static int take(const char *path) {
    struct stat st;
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        return -errno;
    }
    _cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        return -EEXIST;
    }
    if (st.st_uid != geteuid() || (st.st_mode & 077) != 0 || flock(fd, LOCK_EX | LOCK_NB) < 0) {
        return -EEXIST;
    }
    if (fstat(fd, &st) < 0 || st.st_nlink == 0) { /* its owner has just removed it */
        return -EAGAIN;
    }
    return steal_fd(&fd);
}

struct scratch *scratch_new(bool in_use) {
    const char *in = getenv("TMPDIR");
    struct scratch *s = calloc(1, sizeof(*s));
    in = in && *in == '/' ? in : "/tmp";
    int fd = s ? -EEXIST : -ENOMEM;
    for (unsigned n = 0; s && n < NAMES && (fd == -EEXIST || fd == -EAGAIN); n += fd != -EAGAIN) {
        int len = snprintf(s->path, sizeof(s->path), "%s/hearth-%u.%u", in, (unsigned)geteuid(), n);
        fd = len < (int)sizeof(s->path) ? take(s->path) : -ENAMETOOLONG;
    }
    if (fd < 0) {
        log_warn(NULL,
                 "no directory for commands' temporary files in %s: %s; they have that of all", in,
                 strerror(-fd));
        free(s);
        return NULL;
    }
    s->fd = fd;
    if (!in_use) {
        dir_empty(fd);
    }
    return s;
}

struct scratch *scratch_free(struct scratch *s, bool in_use) {
    if (s && !in_use) {
        dir_empty(s->fd);
        rmdir(s->path);
    }
    if (s) {
        close(s->fd);
        free(s);
    }
    return NULL;
}

const char *scratch_pool(struct scratch *s, const char *name) {
    if (!s) {
        return NULL;
    }
    snprintf(s->pool, sizeof(s->pool), "%s/%s", s->path, name);
    return mkdir(s->pool, 0700) == 0 || errno == EEXIST ? s->pool : NULL;
}
