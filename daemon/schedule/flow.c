/* SPDX-License-Identifier: MIT */
/* The users of a pool with `fair` take turns. Each has a heap of its tasks that are due, in the order
 * that priority and age give them; whose turn it is start-time fair queueing decides (P. Goyal, H. M.
 * Vin, H. Cheng, "Start-time Fair Queuing: A Scheduling Algorithm for Integrated Services Packet
 * Switching Networks", SIGCOMM 1996). A user has a start tag: when he comes to have something to do,
 * the greater of the pool's virtual time and his own last finish; next is who has the smallest. His
 * task moves the virtual time to that tag, and his own on by one over his weight. So whoever has something
 * to do gets the share of the workers' turns that his weight is of the weights of all who have, at any
 * time, whatever the others queue; and nobody saves up turns while he has nothing.
 *
 * Turns are counted, not the time that tasks take: that is not known before they have run. No task
 * waits in the ready ring in such a pool, or it would have its turn there; and none is recalled once it
 * has been fed, for its turn has been counted.
 *
 * Users are few: they are looked through. One without tasks, who would begin at the virtual time all
 * the same, makes room for a new one.
 *
 * Fails: -ENOMEM from flow_join(). */
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/schedule/private.h"
#include "lib/base/num.h"

enum { TURN = 1 << 20 }; /* of virtual time, for a weight of one */

/* Of the list in the configuration, "user:weight"; who is not in it has 1. */
static uint32_t weight_of(const struct pool *p, uint32_t uid) {
    for (uint32_t i = 0; i < p->config->weights.n; i++) {
        const char *text = p->config->weights.v[i], *colon = strrchr(text, ':');
        uint64_t weight, id;
        char name[256];
        if (!colon || (size_t)(colon - text) >= sizeof(name) ||
            num_u64(colon + 1, strlen(colon + 1), &weight) < 0) {
            continue; /* it was checked: it is none */
        }
        memcpy(name, text, (size_t)(colon - text));
        name[colon - text] = '\0';
        const struct passwd *user = num_u64(name, strlen(name), &id) == 0 ? NULL : getpwnam(name);
        if (user ? user->pw_uid == uid : num_u64(name, strlen(name), &id) == 0 && id == uid) {
            return (uint32_t)weight;
        }
    }
    return 1;
}

static struct flow *find(struct lane *l, uint32_t uid) {
    struct flow *spare = NULL;
    for (uint32_t i = 0; i < l->n_flows; i++) {
        if (l->flows[i]->uid == uid) {
            return l->flows[i];
        }
        if (l->flows[i]->plans == 0 && l->flows[i]->finish <= l->virtual) {
            spare = l->flows[i];
        }
    }
    if (spare) {
        spare->due.n = 0;
    }
    return spare;
}

static struct flow *make(struct lane *l) {
    struct flow **more = realloc(l->flows, (l->n_flows + 1) * sizeof(struct flow *));
    if (!more) {
        return NULL;
    }
    l->flows = more;
    l->flows[l->n_flows] = calloc(1, sizeof(struct flow));
    return l->flows[l->n_flows] ? l->flows[l->n_flows++] : NULL;
}

struct flow *flow_of(struct schedule *s, const struct pool *p, uint32_t uid) {
    struct lane *l = &s->lanes[p->index];
    struct flow *f = find(l, uid);
    if (f && f->uid == uid && f->weight) {
        return f;
    }
    bool new = !f;
    f = f ? f : make(l);
    if (f) {
        if (new) {
            heap_init(&f->due, l->due.is_live, s);
        }
        f->uid = uid;
        f->weight = weight_of(p, uid);
        f->start = f->finish = 0;
    }
    return f;
}

void flows_close(struct lane *l) {
    for (uint32_t i = 0; i < l->n_flows; i++) {
        heap_deinit(&l->flows[i]->due);
        free(l->flows[i]);
    }
    free(l->flows);
    l->flows = NULL;
    l->n_flows = 0;
}

void flow_begins(struct lane *l, struct flow *f) {
    f->start = f->finish > l->virtual ? f->finish : l->virtual;
}

struct flow *flow_next(struct lane *l) {
    struct flow *best = NULL;
    for (uint32_t i = 0; i < l->n_flows; i++) {
        struct flow *f = l->flows[i];
        if (f->n_due > 0 && (!best || f->start < best->start)) {
            best = f;
        }
    }
    return best;
}

void flow_served(struct lane *l, struct flow *f) {
    l->virtual = f->start;
    f->finish = f->start + TURN / f->weight;
    f->start = f->finish;
}
