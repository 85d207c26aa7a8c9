/* SPDX-License-Identifier: MIT */
/* Tasks, and processes, that end with their connection (OWNED). The connection keeps a list of them; those that have
 * ended are thrown out of it whenever it is full, before it grows. They are cancelled when the dead
 * connection is buried, at the end of the turn: never while subscribers are being walked, nor from
 * within a command.
 *
 * Fails: -ENOMEM from owned_add(). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/serve/conn.h"

enum { FIRST = 8 };

static void throw_out_ended(struct conn *c) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_owned; i++) {
        if (tasks_is_live(c->serve->d, c->owned[i].idx, c->owned[i].id)) {
            c->owned[n++] = c->owned[i];
        }
    }
    c->n_owned = n;
}

int owned_room(struct conn *c) {
    if (c->n_owned == c->cap_owned) {
        throw_out_ended(c);
    }
    if (c->n_owned >= c->cap_owned / 2) { /* so that throwing out is worth its while */
        uint32_t cap = c->cap_owned ? c->cap_owned * 2 : FIRST;
        struct task_ref *owned = realloc(c->owned, cap * sizeof(*owned));
        if (!owned) {
            return c->n_owned < c->cap_owned ? 0 : -ENOMEM;
        }
        c->owned = owned;
        c->cap_owned = cap;
    }
    return 0;
}

void owned_add(struct conn *c, const struct task_ref *t) {
    c->owned[c->n_owned++] = *t;
}

void owned_end(struct conn *c) {
    struct hearthd *d = c->serve->d;
    char who[64];
    snprintf(who, sizeof(who), "the end of its client %llu", (unsigned long long)c->id);
    for (uint32_t i = 0; i < c->n_owned; i++) {
        if (tasks_is_live(d, c->owned[i].idx, c->owned[i].id)) {
            tasks_cancel(d, c->owned[i].idx, who);
        }
    }
    if (c->owns_procs) {
        proc_client_ends(d, c->id);
    }
    free(c->owned);
    c->owned = NULL;
    c->n_owned = c->cap_owned = 0;
}
