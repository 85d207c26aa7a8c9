/* SPDX-License-Identifier: MIT */
/* Temporary directories of a test, short enough for a socket path below them. */
#pragma once

#include <stddef.h>

enum { TMP_PATH = 80 };

/* Makes a directory that only we can enter, below $TMPDIR or /tmp. 0 or -errno. */
int tmp_dir(char ret_path[TMP_PATH]);
/* Removes path and all below it, not following links. 0 or -errno of the first thing that stayed.
 */
int tmp_remove(const char *path);
/* Writes a file dir/name. 0 or -errno. */
int tmp_write(const char *dir, const char *name, const void *data, size_t len);
/* Reads a whole file; *ret is NUL-terminated and the caller's to free(). 0 or -errno. */
int tmp_read(const char *path, char **ret, size_t *ret_len);
