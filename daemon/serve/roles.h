/* SPDX-License-Identifier: MIT */
/* Who may do what: the lists of users of the configuration, held against the peer of a connection. */
#pragma once

#include "daemon/serve/conn.h"

enum role { ROLE_ADMIN, ROLE_MAP, ROLE_READ, ROLES };

/* Resolves the names. 0 or -ENOMEM. */
int roles_open(struct serve *s);
void roles_close(struct serve *s);
/* Root and the daemon's own user always may. */
bool roles_may(const struct conn *c, enum role role);
/* The same, and replies when not. */
bool roles_check(struct conn *c, enum role role, const char *what);
