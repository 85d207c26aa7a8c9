/* SPDX-License-Identifier: MIT */
/* Raw blocks: named memory beside the segment, each a memfd of fixed size that is handed out to clients, who map it. */
#pragma once

#include "daemon/serve/conn.h"

#define BLOCK_BYTES_MAX (INT64_C(1) << 44) /* of one block */
enum { BLOCK_NAME_MAX = 255 };

struct block {
    char *name; /* NUL-terminated, and may have others */
    size_t len;
    int fd;
    uint64_t size;
    uid_t uid;           /* who made it */
    uint64_t manager;    /* that it goes with; 0: none */
    struct conn *owner;  /* that it goes with; NULL: none */
    uint64_t created_ms; /* since 1970 */
    uint64_t opened;     /* how often its descriptor has been passed */
    int row;             /* blocks_keep.h; -1: it ends with the daemon */
};

int blocks_open(struct serve *s);
void blocks_close(struct serve *s);
/* Makes one, which goes with the connection if `owned`. -EEXIST; -EIDRM: the name's manager has ended; -EDQUOT: serve.quota
 * says which limit is in the way; -errno. */
int blocks_create(struct conn *c, const struct resp_arg *name, uint64_t size, bool owned,
                  struct block **ret);
/* NULL: there is none. */
struct block *blocks_find(struct serve *s, const struct resp_arg *name);
/* Forgets the name. The memory is there until the last who has it open lets go of it. */
void blocks_unlink(struct serve *s, struct block *b);
/* Goes through all, by name, until fn returns non-zero, which is returned. fn unlinks none. */
int blocks_each(struct serve *s, int (*fn)(void *arg, const struct block *b), void *arg);
uint32_t blocks_count(const struct serve *s);
uint64_t blocks_bytes(const struct serve *s);
/* What goes with a connection, or with a manager, goes. */
void blocks_conn_ends(struct conn *c);
void blocks_manager_ends(struct serve *s, uint64_t manager);
