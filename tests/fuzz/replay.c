/* SPDX-License-Identifier: MIT */
/* Gives a fuzz target the files of folders named on the command line, so that what the fuzzer once
 * found stays tested under any compiler, without libFuzzer. Each input lies in memory of exactly
 * its size.
 *
 * Fails: exit status 1 when a folder cannot be read or holds no file; a target itself aborts. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/fd.h"

enum { INPUT_MAX = 16 * 1024 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(int dir, const char *name) {
    _cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    _cleanup_free_ char *text = NULL;
    size_t len;
    int r = fd_read_all(fd, INPUT_MAX, &text, &len);
    if (r < 0) {
        return r;
    }
    _cleanup_free_ uint8_t *exact = malloc(len ? len : 1);
    if (!exact) {
        return -ENOMEM;
    }
    memcpy(exact, text, len);
    LLVMFuzzerTestOneInput(exact, len);
    return 0;
}

/* Returns the number of files given. */
static int replay_folder(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) {
        return -errno;
    }
    int n = 0;
    for (struct dirent *e; n >= 0 && (e = readdir(dir));) {
        if (e->d_name[0] != '.') {
            int r = replay_file(dirfd(dir), e->d_name);
            n = r < 0 ? r : n + 1;
        }
    }
    closedir(dir);
    return n;
}

int main(int argc, char **argv) {
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    int total = 0;
    for (int i = 1; i < argc; i++) {
        int n = replay_folder(argv[i]);
        if (n < 0) {
            fprintf(stderr, "%s: %s\n", argv[i], strerror(-n));
            return 1;
        }
        total += n;
    }
    printf("%d inputs\n", total);
    return total ? 0 : 1;
}
