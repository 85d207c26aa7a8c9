/* SPDX-License-Identifier: MIT */
/* What the commands on synchronisation objects share: words about waiting, and the usual way of one that may wait. */
#pragma once

#include "daemon/serve/wait_sync.h"
#include "lib/shm/keys.h"

/* The answers 0 and SYNC_DIED: OK, OWNER_DIED. */
void sync_say_ok(struct conn *c, int answer);

/* A number of things, at least one. */
bool sync_count(struct conn *c, const struct resp_arg *a, uint64_t *ret);

/* Does `what` and waits as long as the words say: [TIMEOUT ms|NOWAIT] and, with `check`, [NOCHECK]; without it no circles are
 * looked for. A handler's result. */
int sync_wait_words(struct conn *c, const struct resp_arg *words, uint32_t n, bool check,
                    struct sync_do what);
/* The same for the key argv[1] by fn; the words begin at argv[2]. */
typedef int sync_named(struct shm *s, const struct key_name *name, unsigned flags);
int sync_wait_for(struct conn *c, const struct resp_arg *argv, uint32_t argc, bool check,
                  sync_named *fn, struct sync_do what);
