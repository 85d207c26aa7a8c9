/* SPDX-License-Identifier: MIT */
/* Who is connected, by id, and what one connection may cause. Ids count up and are never used
 * twice, so a task's record names its submitter by id, and the submitter's being gone shows as "not
 * found". The table is indexed by the low bits of the id: as ids are given out in order, entries
 * hardly ever share a place.
 *
 * Fails: -ENOMEM when it is opened. */
#include <errno.h>
#include <stdlib.h>

#include "daemon/serve/conn.h"

int accounts_open(struct serve *s) {
    uint32_t size = 64;
    while (size < s->d->config->limits.max_clients) {
        size *= 2;
    }
    s->by_id = calloc(size, sizeof(*s->by_id));
    s->by_id_size = size;
    s->next_id = 1;
    return s->by_id ? 0 : -ENOMEM;
}

static struct conn **place_of(struct serve *s, uint64_t id) {
    return &s->by_id[id & (s->by_id_size - 1)];
}

void accounts_add(struct conn *c) {
    struct serve *s = c->serve;
    c->id = s->next_id++;
    struct conn **place = place_of(s, c->id);
    c->hash_next = *place;
    *place = c;
    s->n_conns++;
}

void accounts_remove(struct conn *c) {
    struct serve *s = c->serve;
    struct conn **at = place_of(s, c->id);
    while (*at != c) {
        at = &(*at)->hash_next;
    }
    *at = c->hash_next;
    s->n_conns--;
}

struct conn *accounts_find(struct serve *s, uint64_t id) {
    struct conn *c = *place_of(s, id);
    while (c && c->id != id) {
        c = c->hash_next;
    }
    return c;
}

bool accounts_may_submit(const struct conn *c, uint64_t n) {
    uint32_t max = c->serve->d->config->limits.client_max_tasks;
    return max == 0 || c->live + n <= max;
}

bool accounts_may_push(struct conn *c) {
    if (c->dead || c->overrun) {
        return false;
    }
    if (conn_pending(c) + buf_len(&c->held) <= c->serve->d->config->limits.client_max_output) {
        return true;
    }
    c->overrun = true;
    c->serve->closed_output++;
    conn_dirty(c);
    return false;
}
