/* SPDX-License-Identifier: MIT */
/* The daemon's directory for temporary files, with one directory for each pool of commands, in which their workers have one
 * each. */
#pragma once

#include <limits.h>
#include <stdbool.h>

struct scratch;

/* Makes it, below $TMPDIR or /tmp, or takes over what a former daemon has left: empty, unless its workers are still at it. NULL: it cannot be had, and the log says why; the functions below take that. */
struct scratch *scratch_new(bool in_use);
/* Removes it with all that is in it, unless it is in use. Returns NULL. */
struct scratch *scratch_free(struct scratch *s, bool in_use);
/* The pool's directory, made if it is not there. NULL: there is none. Valid until the next call. */
const char *scratch_pool(struct scratch *s, const char *name);
