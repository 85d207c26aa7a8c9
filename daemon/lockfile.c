/* SPDX-License-Identifier: MIT */
/* A lock between daemons, beside what only one of them may have: flock() on a file of its own, since what it guards is replaced
 * by renaming and unlinking, and a lock on that would be on a file that is nobody's any more. The kernel drops it with its
 * holder, however he ends; the descriptor is close-on-exec, and zygotes are exec'd, so no child inherits it.
 *
 * The file is removed on an orderly end, by its holder. Who waits meanwhile for nothing (LOCK_NB) may get the lock of a file
 * that has no name any more: then the name is tried again.
 *
 * Fails: -errno; nothing is logged, the caller knows what it means. */
#include "daemon/lockfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/cleanup.h"

static char *name_of(const char *path) {
    char *name;
    return asprintf(&name, "%s.lock", path) < 0 ? NULL : name;
}

int lockfile_take(const char *path, int *ret_fd) {
    _cleanup_free_ char *name = name_of(path);
    if (!name) {
        return -ENOMEM;
    }
    for (;;) {
        _cleanup_close_ int fd =
            open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
        struct stat mine, there;
        if (fd < 0) {
            return -errno;
        }
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
            return errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
        }
        if (fstat(fd, &mine) == 0 && stat(name, &there) == 0 && mine.st_ino == there.st_ino &&
            mine.st_dev == there.st_dev) {
            *ret_fd = steal_fd(&fd);
            return 0;
        } /* its last holder has removed it meanwhile */
    }
}

void lockfile_remove(const char *path, int fd) {
    if (fd < 0) {
        return;
    }
    _cleanup_free_ char *name = name_of(path);
    if (name) {
        unlink(name);
    }
    close(fd);
}
