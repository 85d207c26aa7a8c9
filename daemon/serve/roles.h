/* SPDX-License-Identifier: MIT */
/* Who may do what: the lists of users of the configuration, held against the peer of a connection once, when it connects. */
#pragma once

#include "daemon/serve/conn.h"

/* Bits of conn.roles. The first ones are flags of commands, so that what a command needs and a user lacks is one AND. */
enum role {
    ROLE_READ = CMD_READ,
    ROLE_WRITE = CMD_WRITE,
    ROLE_ADMIN = CMD_ADMIN,
    ROLE_SUBMIT = CMD_SUBMIT, /* to some pool; which ones: conn.may_submit */
    ROLE_PROC = CMD_PROC,
    ROLE_MAP = 1 << 29,
    ROLE_MAP_READ = 1 << 30,
};

/* Resolves the names. 0 or -ENOMEM. */
int roles_open(struct serve *s);
/* Another configuration: first what it says, 0 or -ENOMEM; then in force, for those connected as well. */
int roles_prepare(struct serve *s, const struct config *next);
void roles_configure(struct serve *s);
void roles_close(struct serve *s);
/* Sets the roles of a new connection whose uid is known. Root and the daemon's own user have them all; who may map may look
 * and change as well. */
void roles_grant(struct conn *c, gid_t gid);
/* The reply to who lacks a role. */
void roles_refuse(struct conn *c, const char *command);
