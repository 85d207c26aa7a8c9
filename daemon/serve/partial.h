/* SPDX-License-Identifier: MIT */
/* TASK.MSUBMIT and TASK.MAP: all or none, though a busy lock may stretch it over several turns. */
#pragma once

#include "daemon/serve/conn.h"

struct submit_words;

/* What the tasks get. */
struct partial_input {
    const struct resp_arg *payload; /* one each; or the one that is split */
    uint32_t n;                     /* tasks */
    uint64_t chunk; /* 0: one payload each; else so many pieces of the one that is split, ... */
    struct resp_arg delimiter; /* ... each of which ends with this, but the last need not */
};

/* How many tasks *in makes of its payload; chunk 0: about four for each worker of the pool, and sets it. */
void partial_split(const struct pool *p, struct partial_input *in);
/* Begins, or goes on with (c->partial), what `w` describes; then `n` and `chunk` of *in are those that it began
 * with. Replies when it is through. 0 or -EAGAIN. */
int partial_run(struct conn *c, const struct submit_words *w, const struct partial_input *in);
/* The connection is gone: takes back what it was never told of. */
void partial_drop(struct conn *c);
