/* SPDX-License-Identifier: MIT */
/* Raw blocks that outlive the daemon, in the service manager's store. Without a store everything here does nothing. */
#pragma once

#include <stdint.h>

#include "daemon/serve/blocks.h"

enum { BLOCKS_KEEP_ROWS = 1024 };

struct blocks_keep {
    int table; /* -1: there is no store */
    uint32_t n_rows;
    uint8_t used[BLOCKS_KEEP_ROWS];
};

/* `store`: there is one. Gives fn each block that a former daemon has left, as a struct block on the stack whose descriptor is
 * fn's, and its name (not NUL-terminated). What fn returns an errno for is forgotten. */
void blocks_keep_open(struct blocks_keep *k, bool store,
                      int (*fn)(void *arg, const struct block *b), void *arg);
void blocks_keep_close(struct blocks_keep *k);
/* Sets b->row. A block that cannot be kept ends with the daemon: the log says so. */
void blocks_keep_add(struct blocks_keep *k, struct block *b);
void blocks_keep_remove(struct blocks_keep *k, struct block *b);
