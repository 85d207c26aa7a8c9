/* SPDX-License-Identifier: MIT */
/* What a client says about itself. */
#pragma once

#include "daemon/serve/conn.h"

/* Sets a name (empty: none), if it is one that fits into a line of CLIENT LIST; else replies and
 * returns false. */
bool client_set_text(struct conn *c, char **text, const struct resp_arg *value);
