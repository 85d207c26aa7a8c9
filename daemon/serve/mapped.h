/* SPDX-License-Identifier: MIT */
/* Clients that have the segment mapped: each has a slot, as a worker has, and is buried as one. */
#pragma once

#include "daemon/serve/conn.h"

int mapped_open(struct serve *s); /* 0 or -ENOMEM */
void mapped_close(struct serve *s);

/* Gives the connection's process a slot. 0; -EEXIST: it has one; -ENOSPC: none is left; -errno. */
int mapped_add(struct conn *c, uint32_t *ret_slot, uint32_t *ret_gen);
/* The connection ends: if the process has let go of the slot, or died, the slot is given back; else that is waited for. */
void mapped_conn_ends(struct conn *c);
