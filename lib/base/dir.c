/* SPDX-License-Identifier: MIT */
/* Removing a tree that a stranger may have made: as deep as he liked, with names as long as he liked. It is therefore not
 * walked: what is in a directory of the top directory is moved up into that, and so becomes an entry of the top itself, until
 * nothing is left. That takes two descriptors and no recursion, and paths never grow.
 *
 * Each pass over the top must remove something, or it ends: it cannot go on for ever with what will not go.
 *
 * Fails: -errno of the first thing that stays; the rest is removed all the same. */
#include "lib/base/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/base/cleanup.h"

enum { NAMES_MAX = 100000 };

struct emptying {
    int top;
    unsigned next;    /* of the names that what is moved up is given */
    unsigned removed; /* in this pass */
    int error;        /* the first one; 0: none */
};

int dir_is_empty(int fd) {
    char space[512] __attribute__((aligned(8)));
    long n = lseek(fd, 0, SEEK_SET) < 0 ? -1 : syscall(SYS_getdents64, fd, space, sizeof(space));
    if (n < 0) {
        return -errno;
    }
    for (long at = 0; at < n;) {
        const struct dirent64 *e = (const void *)(space + at);
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            return 0;
        }
        at += e->d_reclen;
    }
    return 1;
}

static DIR *open_entries(int parent, const char *name) {
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d && fd >= 0) {
        close(fd);
    }
    return d;
}

static void note(struct emptying *m, int error) {
    m->error = m->error ? m->error : -error;
}

/* 0: removed; ENOTEMPTY: it is a directory with something in it; or another errno. */
static int remove_entry(struct emptying *m, int parent, const char *name) {
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) {
        m->removed++;
        return 0;
    }
    if (errno != EISDIR) {
        return errno;
    }
    if (unlinkat(parent, name, AT_REMOVEDIR) == 0) {
        m->removed++;
        return 0;
    }
    return errno == EEXIST ? ENOTEMPTY : errno;
}

/* A directory goes up, under another name. */
static void move_up(struct emptying *m, int parent, const char *name) {
    char as[32];
    fchmodat(parent, name, 0700, 0); /* or it could not be moved, nor looked into */
    do {
        snprintf(as, sizeof(as), ".moved-%u", m->next++);
        if (renameat2(parent, name, m->top, as, RENAME_NOREPLACE) == 0) {
            m->removed++;
            return;
        }
    } while (errno == EEXIST && m->next < NAMES_MAX);
    note(m, errno);
}

static void open_up(struct emptying *m, const char *name) {
    fchmodat(m->top, name, 0700, 0);
    DIR *d = open_entries(m->top, name);
    if (!d) {
        note(m, errno);
        return;
    }
    for (const struct dirent *e = readdir(d); e; e = readdir(d)) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            int error = remove_entry(m, dirfd(d), e->d_name);
            if (error == ENOTEMPTY) {
                move_up(m, dirfd(d), e->d_name);
            } else if (error != 0) {
                note(m, error);
            }
        }
    }
    closedir(d);
    if (unlinkat(m->top, name, AT_REMOVEDIR) == 0) {
        m->removed++;
    }
}

int dir_empty(int fd) {
    struct emptying m = {.top = fd};
    int empty;
    while ((empty = dir_is_empty(fd)) == 0) {
        m.removed = 0;
        m.error = 0;
        DIR *d = open_entries(fd, ".");
        if (!d) {
            return -errno;
        }
        for (const struct dirent *e = readdir(d); e; e = readdir(d)) {
            if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
                int error = remove_entry(&m, fd, e->d_name);
                if (error == ENOTEMPTY) {
                    open_up(&m, e->d_name);
                } else if (error != 0) {
                    note(&m, error);
                }
            }
        }
        closedir(d);
        if (m.removed == 0) {
            return m.error ? m.error : -EBUSY;
        }
    }
    return empty < 0 ? empty : 0;
}
