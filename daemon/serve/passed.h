/* SPDX-License-Identifier: MIT */
/* Descriptors that a client sends along with its commands (SCM_RIGHTS). They are taken only from one that has said it will
 * (PROC.PASS), and wait in the order in which they came for a command that names them. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "daemon/serve/conn.h"

enum { PASSED_MAX = 12 }; /* that wait; a client that sends more is closed */

/* From now on they are taken. 0 or -ENOMEM. */
int passed_open(struct conn *c);
/* recv() without waiting, with what comes along. */
ssize_t passed_recv(struct conn *c, char *data, size_t size);
/* The oldest one, which is the caller's to close; -1: there is none. */
int passed_take(struct conn *c);
/* Closes those that wait, and takes no more. */
void passed_free(struct conn *c);
