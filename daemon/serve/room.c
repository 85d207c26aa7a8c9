/* SPDX-License-Identifier: MIT */
/* Waiting for room in a queue. The words of the command that submits stay in the connection's buffer,
 * as they do when a lock is busy, and are taken again; so nothing of the command is kept here but how
 * much room it needs, and nobody holds memory for a task that has not been accepted.
 *
 * Who came first goes first: while somebody waits, others of the pool wait behind him, also when what
 * they need would fit. One of each pool goes on at a time; the next is looked at when his command has
 * been carried out. The workers tell of each claim meanwhile (schedule_hear), since only that makes
 * room.
 *
 * It ends with the connection; when the task would have expired, or its deadline has come; when the
 * pool is paused or the daemon stops; and by CLIENT UNBLOCK: then the command is refused as ever.
 *
 * Fails: without memory for its timer a command is refused at once. */
#include "daemon/serve/room.h"

#include "daemon/schedule.h"
#include "lib/base/clock.h"

bool room_is_ours(const struct conn *c, const struct pool *p) {
    return c->room.first || c->serve->n_room[p->index] == 0 || p->paused_in;
}

/* How long it may wait, by what was asked for. */
static uint64_t patience_ms(const struct conn *c, const struct submit_words *w) {
    uint64_t now = clock_now(), until = UINT64_MAX;
    if (policy_has(&w->policy, POLICY_EXPIRE)) {
        until = w->policy.expire_ns;
    }
    if (policy_has(&w->policy, POLICY_DEADLINE) && w->policy.deadline_ns < until) {
        until = w->policy.deadline_ns;
    }
    if (until != UINT64_MAX && c->room.first) {
        until = c->wait_until_ns; /* counted from when it first asked */
    }
    return until == UINT64_MAX ? until : until > now ? (until - now) / NS_PER_MS + 1 : 0;
}

bool room_wait(struct conn *c, const struct submit_words *w, uint32_t n, uint64_t bytes) {
    struct serve *s = c->serve;
    struct pool *p = w->pool;
    bool may = p->config->overflow == OVERFLOW_BLOCK && !p->paused_in;
    if (!may) {
        return false; /* and has been counted */
    }
    bool full = !room_is_ours(c, p) || !tasks_has_room(s->d, p, n, bytes);
    if (!full || c->room.over || c->exec || s->d->stopping || !tasks_could_have_room(p, n, bytes) ||
        block_as(c, BLOCK_ROOM, patience_ms(c, w)) < 0) {
        p->count.busy_refused++;
        return false;
    }
    c->room.pool = p;
    c->room.n = n;
    c->room.bytes = bytes;
    if (c->room.first) {
        list_prepend(&s->in_room, &c->room.node);
    } else {
        list_append(&s->in_room, &c->room.node);
    }
    c->room.first = false;
    if (s->n_room[p->index]++ == 0) {
        schedule_hear(s->d, p, true);
    }
    return true;
}

void room_leave(struct conn *c) {
    struct serve *s = c->serve;
    if (list_empty(&c->room.node)) {
        return;
    }
    list_del(&c->room.node);
    if (--s->n_room[c->room.pool->index] == 0) {
        schedule_hear(s->d, c->room.pool, false);
    }
}

static bool may_go_on(struct serve *s, const struct conn *c) {
    struct pool *p = c->room.pool;
    return p->paused_in || p->removed || s->d->stopping ||
           tasks_has_room(s->d, p, c->room.n, c->room.bytes);
}

/* The first of each pool who may go on; woken: he does. Returns whether there was one. */
static bool look(struct serve *s, bool wake) {
    uint64_t seen = 0;
    bool any = false;
    list_for_each_safe (it, &s->in_room) {
        struct conn *c = list_entry(it, struct conn, room.node);
        uint64_t pool = UINT64_C(1) << c->room.pool->index;
        if (seen & pool) {
            continue;
        }
        seen |= pool;
        if (may_go_on(s, c)) {
            any = true;
            if (wake) {
                block_end(c);
                c->room.first = true;
            }
        }
    }
    return any;
}

void room_turn(struct serve *s) {
    if (!list_empty(&s->in_room)) {
        look(s, true);
    }
}

bool room_has_news(struct serve *s) {
    return !list_empty(&s->in_room) && look(s, false);
}
