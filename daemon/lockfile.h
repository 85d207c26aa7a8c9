/* SPDX-License-Identifier: MIT */
/* A file PATH.lock that says: PATH is in use by a daemon that lives. */
#pragma once

/* *ret_fd is held for life. 0; -EADDRINUSE: somebody alive has it; -errno. */
int lockfile_take(const char *path, int *ret_fd);
/* Removes the file and lets go of it; -1: nothing to do. */
void lockfile_remove(const char *path, int fd);
