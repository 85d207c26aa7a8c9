/* SPDX-License-Identifier: MIT */
/* The process from which a pool's workers are forked. */
#pragma once

#include "worker/options.h"

/* Runs the zygote on the inherited descriptors (lib/wire/control.h) until the daemon hangs up.
 * Returns the exit status. In a forked worker it does not return. */
int zygote_run(const struct options *o);
