/* SPDX-License-Identifier: MIT */
/* Putting another configuration in force. */
#pragma once

#include "daemon/hearthd.h"

/* Sets d->reconfigure and d->reload. path: the file, NULL: none; socket: what -s said, or NULL,
 * which must stay. */
void reload_open(struct hearthd *d, const char *path, const char *socket);
