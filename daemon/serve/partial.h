/* SPDX-License-Identifier: MIT */
/* TASK.MSUBMIT: all or none, though a busy lock may stretch it over several turns. */
#pragma once

#include "daemon/serve/conn.h"

struct submit_words;

/* Begins, or goes on with (c->partial), what `w` describes: n payloads at `payloads`. Replies when
 * it is through. 0 or -EAGAIN. */
int partial_run(struct conn *c, const struct submit_words *w, const struct resp_arg *payloads,
                uint32_t n);
/* The connection is gone: takes back what it was never told of. */
void partial_drop(struct conn *c);
