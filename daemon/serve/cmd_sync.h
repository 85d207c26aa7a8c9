/* SPDX-License-Identifier: MIT */
/* What the commands on synchronisation objects share: words about waiting, and the usual way of one that may wait. */
#pragma once

#include "daemon/serve/wait_sync.h"
#include "lib/shm/keys.h"

struct sync_words {
    uint64_t timeout_ms; /* SYNC_FOR_EVER; 0: NOWAIT */
    unsigned flags;      /* SYNC_NO_CHECK */
};

/* [TIMEOUT ms|NOWAIT] and, with `check`, [NOCHECK]. False: replied. */
bool sync_words(struct conn *c, const struct resp_arg *argv, uint32_t argc, bool check,
                struct sync_words *ret);
/* The answers 0 and SYNC_DIED: OK, OWNER_DIED. */
void sync_say_ok(struct conn *c, int answer);

/* A number of things, at least one. */
bool sync_count(struct conn *c, const struct resp_arg *a, uint64_t *ret);

/* Waits for the key argv[1] by fn; the words about waiting begin at argv[from]. A handler's result. */
typedef int sync_named(struct shm *s, const struct key_name *name, unsigned flags);
int sync_wait_for(struct conn *c, const struct resp_arg *argv, uint32_t argc, uint32_t from,
                  sync_named *fn, bool check);
