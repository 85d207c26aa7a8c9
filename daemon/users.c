/* SPDX-License-Identifier: MIT */
/* Users by their numbers: a table of places that grows, and a hash of their indices, open addressing. A place stays its user's
 * for ever, so that a task can name it in 12 bits. Place 0 is that of users for whom there is none left, or no memory: they are
 * counted together, and have no limits.
 *
 * Fails: place 0. */
#include "daemon/users.h"

#include <stdlib.h>

enum { SLOTS = 2 * USERS_MAX };

struct users {
    struct user *v;
    uint32_t n, cap;
    uint16_t slots[SLOTS]; /* place; 0: free */
};

struct users *users_new(void) {
    struct users *u = calloc(1, sizeof(*u));
    if (u) {
        u->cap = 16;
        u->n = 1;
        u->v = calloc(u->cap, sizeof(*u->v));
    }
    return u && u->v ? u : users_free(u);
}

struct users *users_free(struct users *u) {
    if (u) {
        free(u->v);
        free(u);
    }
    return NULL;
}

static uint32_t add(struct users *u, uid_t uid) {
    if (u->n == USERS_MAX) {
        return 0;
    }
    if (u->n == u->cap) {
        struct user *more = realloc(u->v, 2 * (size_t)u->cap * sizeof(*more));
        if (!more) {
            return 0;
        }
        u->v = more;
        u->cap *= 2;
    }
    u->v[u->n] = (struct user){.uid = uid};
    return u->n++;
}

uint32_t users_place(struct users *u, uid_t uid) {
    uint32_t at = (uint32_t)uid * UINT32_C(2654435761) >> 19; /* SLOTS is 2^13 */
    _Static_assert(SLOTS == 1 << 13, "the hash's shift");
    for (; u->slots[at]; at = (at + 1) % SLOTS) {
        if (u->v[u->slots[at]].uid == uid) {
            return u->slots[at];
        }
    }
    uint32_t place = add(u, uid);
    u->slots[at] = (uint16_t)place;
    return place;
}

struct user *users_at(struct users *u, uint32_t place) {
    return &u->v[place < u->n ? place : 0];
}
