/* SPDX-License-Identifier: MIT */
/* Times at which keys vanish, as arguments. */
#pragma once

#include "daemon/serve/conn.h"

/* A time that must lie above 0, in seconds or milliseconds, from now or since 1970. Replies and returns false when it is
 * none; `command` names the command in the error. */
bool expiry_arg(struct conn *c, const struct resp_arg *a, const char *command, bool seconds,
                bool relative, uint64_t *ret_ms);
void expiry_invalid(struct conn *c, const char *command);
