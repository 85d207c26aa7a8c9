/* SPDX-License-Identifier: MIT */
/* A look at configuration text before libconfig gets it. Private to config.c. */
#pragma once

#include <stddef.h>

#include "daemon/config.h"

/* `name` stands for the file in messages; `dir` is where included files lie, NULL: @include is
 * refused. 0; -EINVAL or -errno (an included file cannot be read): *err is filled. */
int config_scan(const char *text, size_t len, const char *name, const char *dir,
                struct config_error *err);

/* Reads a whole file (up to 1 MiB) into a new NUL-terminated block. 0; -errno: *err is filled. */
int config_read_text(const char *path, char **ret, size_t *ret_len, struct config_error *err);
