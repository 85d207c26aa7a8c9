/* SPDX-License-Identifier: MIT */
/* A handler module: loading it and holding it against the ABI. */
#pragma once

#include <stdint.h>

#include "worker/hearth_handler.h"

enum { MODULE_WHY = 512, MODULE_HANDLERS = 256 };

struct module {
    struct hearth_module head; /* a copy; members its header did not know are 0 */
    uint32_t count;
    struct hearth_handler *handlers; /* copies, likewise */
};

/* Loads the shared object at path (with a slash in it). On failure: -errno, and a sentence in why.
 * A module once loaded stays: many libraries cannot be unloaded, and the zygote ends with it
 * anyway. */
int module_load(struct module *ret, const char *path, char why[MODULE_WHY]);
/* Puts the handlers into an order: those that `known` ("echo,sleep,...") names first, as it names them,
 * the rest behind. One that is not there, or has no name, has its place all the same, with a name of
 * no length and nothing to run. On failure as module_load(). */
int module_order(struct module *m, const char *known, char why[MODULE_WHY]);
/* Frees the copies. Accepts a zeroed struct. */
void module_deinit(struct module *m);

/* The checks alone, for an already loaded struct. */
int module_check(struct module *ret, const struct hearth_module *theirs, char why[MODULE_WHY]);
