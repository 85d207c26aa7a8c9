/* SPDX-License-Identifier: MIT */
/* Temporary directories. A test that makes one removes it, also when it failed: see daemon_stop()
 * for the usual caller. TMPDIR is honoured only while a socket path still fits below it (108 bytes
 * in all); else /tmp is used.
 *
 * Fails: returns -errno. */
#include "tests/support/tmp.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/fd.h"

enum { TMP_FILE_MAX = 256 << 20 };

int tmp_dir(char ret_path[TMP_PATH]) {
    const char *base = getenv("TMPDIR");
    if (!base || base[0] != '/' || strlen(base) > TMP_PATH - 32) {
        base = "/tmp";
    }
    char path[TMP_PATH];
    snprintf(path, sizeof(path), "%s/hearth-test-XXXXXX", base);
    if (!mkdtemp(path)) {
        return -errno;
    }
    memcpy(ret_path, path, sizeof(path));
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at) {
    (void)st;
    (void)kind;
    (void)at;
    return remove(path) < 0 && errno != ENOENT ? -errno : 0;
}

int tmp_remove(const char *path) {
    int r = nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return r == -1 ? (errno == ENOENT ? 0 : -errno) : r;
}

int tmp_write(const char *dir, const char *name, const void *data, size_t len) {
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    return fd < 0 ? -errno : len > 0 ? fd_write_all(fd, data, len) : 0;
}

int tmp_read(const char *path, char **ret, size_t *ret_len) {
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd_read_all(fd, TMP_FILE_MAX, ret, ret_len);
}
