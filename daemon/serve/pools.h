/* SPDX-License-Identifier: MIT */
/* What the commands about pools share: cmd_pool.c. */
#pragma once

#include "daemon/serve/conn.h"

/* The pool that a word names; NULL: there is none, which has been replied. */
struct pool *pool_arg(struct conn *c, const struct resp_arg *a);
