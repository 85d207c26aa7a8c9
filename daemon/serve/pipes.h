/* SPDX-License-Identifier: MIT */
/* Socket pairs of which one end has been given out: cmd_pipe_fd.c. */
#pragma once

#include "daemon/serve/conn.h"

/* A word that is 0 or 1. False: replied. */
bool pipes_end_of(struct conn *c, const struct resp_arg *a, unsigned *ret);

void pipes_open(struct serve *s);
void pipes_close(struct serve *s);
/* Those that the connection has made and nobody has asked for the other end of are closed. */
void pipes_conn_ends(struct conn *c);
