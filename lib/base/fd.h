/* SPDX-License-Identifier: MIT */
/* File descriptor helpers. All return 0 (or a count) or -errno; none consumes the fd it is given.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/* Sets or clears O_NONBLOCK. */
int fd_set_nonblock(int fd, int on);
/* Sets or clears FD_CLOEXEC. */
int fd_set_cloexec(int fd, int on);
/* Writes all n bytes, going on after EINTR and short writes. The fd must be blocking. */
int fd_write_all(int fd, const void *data, size_t n);
/* Reads until EOF into a new NUL-terminated block (the NUL is not counted). *ret is the caller's to
 * free(). -EFBIG when there are more than max bytes. */
int fd_read_all(int fd, size_t max, char **ret, size_t *ret_len);

/* Receives one message; *ret_fd is a close-on-exec fd, or -1 when none came. Returns its length, 0
 * at EOF, or -errno (-EMSGSIZE: longer than n, and dropped). */
ssize_t fd_recv(int sock, void *data, size_t n, int *ret_fd);
