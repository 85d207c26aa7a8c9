/* SPDX-License-Identifier: MIT */
/* Commands that change the configuration in force: cmd_config.c. */
#pragma once

#include "daemon/serve/conn.h"

/* Puts a configuration in force that differs in these. 0; -EINVAL, -ENOMEM ...: *err. */
int config_put(struct conn *c, const struct config_edits *e, const char *command,
               struct config_error *err);
