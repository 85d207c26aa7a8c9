/* SPDX-License-Identifier: MIT */
/* What is in a directory, and its removal. */
#pragma once

#include <stdbool.h>

/* 1: there is nothing in it; 0: there is; -ENOENT: it has been removed; -errno. Two system calls. */
int dir_is_empty(int fd);
/* Removes all below it, of any depth, and no other thing: symbolic links are not followed. 0, or -errno for the first thing that
 * could not be removed. */
int dir_empty(int fd);
