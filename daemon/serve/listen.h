/* SPDX-License-Identifier: MIT */
/* The listening socket: getting it, and taking connections from it as long as there are descriptors
 * for them. */
#pragma once

#include "daemon/serve/conn.h"

/* See serve_open(). 0 or -errno, logged. */
int listen_open(struct serve *s);
void listen_close(struct serve *s);
/* Accepts or not, as s->accepting and s->paused say. */
void listen_update(struct serve *s);
/* A descriptor has become free. */
void listen_resume(struct serve *s);
