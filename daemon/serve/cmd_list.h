/* SPDX-License-Identifier: MIT */
/* What the list commands that wait and those that do not have in common. */
#pragma once

#include "daemon/serve/conn.h"
#include "lib/shm/list.h"

/* LEFT or RIGHT; replies a syntax error. */
bool list_end(struct conn *c, const struct resp_arg *a, bool *ret_left);

/* numkeys key ... LEFT|RIGHT [COUNT n], argv[0] being numkeys. */
struct list_mpop {
    const struct resp_arg *keys;
    uint32_t n;
    bool left;
    int64_t count;
};
bool list_mpop_words(struct conn *c, const struct resp_arg *argv, uint32_t argc,
                     struct list_mpop *ret);

/* These run inside of an operation on the keys' shards. Each answers `to` and returns 0; 1: there is no such list, nothing
 * is said or done; or a negative errno. */

/* The element (with `pair`: [key, element]). */
int list_pop_one(struct conn *to, const struct key_name *name, bool left, bool pair);
/* [key, [elements]], up to `count` of them. */
int list_pop_many(struct conn *to, const struct key_name *name, bool left, uint64_t count);
/* The element, which goes from one list to the other (the same one, perhaps). */
int list_move(struct conn *to, const struct key_name *from, const struct key_name *dest, bool left,
              bool to_left);
