/* SPDX-License-Identifier: MIT */
/* Connections as owners. A mapped process waits for a lock by sleeping in its slot; a connection has a seat in the segment
 * instead, given to it with its first such command, and cannot sleep: it is blocked as BLPOP blocks it, while its party stands
 * in the object's line beside those of mapped processes. Whoever hands the lock over to a seat sets its bit and rings the
 * daemon, which then polls for exactly that connection.
 *
 *     command --parked--> CHECK --no cycle--> POLL --granted--> answered
 *                           |                  |
 *                           +--cycle: refused  +--time is over, UNBLOCK--> GIVE_UP --> answered, or POLL (COND.WAIT: it stands
 *                                                                              in its lock's line now, which has no limit)
 *
 * A queue or pipe gives a waiter the right to an item or a place, not the thing: its command's words stay in the connection's
 * buffer, as those of one that waits for room do, and are taken again, so nothing is copied and nothing is lost (`again`).
 *
 * Each of the three is a call that may meet a busy shard: then it is tried again each millisecond (`retry`). The end of a
 * connection ends its seat, which releases all that it held and withdraws what it waited for; that too may have to be tried
 * again (`ending`), so a seat outlives its connection by a moment.
 *
 * Invariant: while c->block is BLOCK_SYNC, the seat waits for something in the segment, or the connection is on `retry`.
 *
 * Fails: -ENOMEM, the errnos of lib/shm; without memory for a timer the connection is closed. */
#include "daemon/serve/wait_sync.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/log.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"
#include "lib/base/clock.h"
#include "lib/shm/sync.h"

enum { RETRY_US = 1000 };

struct seat {
    struct list node; /* wait_sync.ending */
    uint32_t owner;
};

struct wait_sync {
    struct list retry;  /* conn.sync.node */
    struct list ending; /* struct seat.node */
    struct event *timer;
    uint64_t seats, waiting, deadlocks, owners_died;
};

static void on_timer(evutil_socket_t fd, short what, void *arg);

int wait_sync_open(struct serve *s) {
    struct wait_sync *w = calloc(1, sizeof(*w));
    if (!w) {
        return -ENOMEM;
    }
    list_init(&w->retry);
    list_init(&w->ending);
    w->timer = evtimer_new(s->d->base, on_timer, s);
    s->wait_sync = w;
    return w->timer ? 0 : -ENOMEM;
}

void wait_sync_close(struct serve *s) {
    struct wait_sync *w = s->wait_sync;
    if (!w) {
        return;
    }
    while (!list_empty(&w->ending)) {
        struct seat *seat = list_first(&w->ending, struct seat, node);
        list_del(&seat->node);
        free(seat);
    }
    if (w->timer) {
        event_free(w->timer);
    }
    free(w);
    s->wait_sync = NULL;
}

static void try_later(struct serve *s, struct list *where, struct list *node) {
    struct wait_sync *w = s->wait_sync;
    if (list_empty(&w->retry) && list_empty(&w->ending)) {
        event_add(w->timer, &(struct timeval){.tv_usec = RETRY_US});
    }
    list_append(where, node);
}

/* ---- seats ---- */

bool wait_sync_seat(struct conn *c) {
    struct serve *s = c->serve;
    struct shm *shm = &s->d->shm;
    if (c->seat) {
        return true;
    }
    struct seat *seat = calloc(1, sizeof(*seat));
    int r = seat ? sync_seat_take(shm, c->id, (uint32_t)c->pid, c->uid, &seat->owner) : -ENOMEM;
    if (r < 0) {
        free(seat);
        reply_error(c, r == -ENOSPC ? "BUSY as many connections hold or wait for locks as may be"
                                    : "OOM the daemon is out of memory");
        return false;
    }
    list_init(&seat->node);
    c->seat = seat;
    s->wait_sync->seats++;
    shm->actor = seat->owner;
    return true;
}

uint32_t wait_sync_owner(const struct conn *c) {
    return c->seat ? c->seat->owner : 0;
}

static void end_seat(struct serve *s, struct seat *seat) {
    int r = sync_seat_end(&s->d->shm, seat->owner);
    if (r == -EAGAIN) {
        try_later(s, &s->wait_sync->ending, &seat->node);
        return;
    }
    s->wait_sync->seats--;
    free(seat);
}

void wait_sync_conn_ends(struct conn *c) {
    struct seat *seat = c->seat;
    if (seat) {
        c->seat = NULL;
        c->serve->d->shm.actor = 0;
        end_seat(c->serve, seat);
    }
}

/* ---- answers ---- */

static void say_late(struct conn *c, enum sync_late late) {
    if (c->sync.error) {
        reply_error(c, "UNBLOCKED client unblocked via CLIENT UNBLOCK");
    } else if (late == LATE_ZERO) {
        reply_int(c, 0);
    } else if (late == LATE_NULL_ARRAY) {
        reply_null_array(c);
    } else {
        reply_null(c);
    }
}

static void log_deadlock(const struct conn *c) {
    const struct shm *s = &c->serve->d->shm;
    char circle[(SHM_CYCLE + 1) * 24] = "";
    size_t at = 0;
    if (s->cycle_n > SHM_CYCLE) {
        at = (size_t)snprintf(circle, sizeof(circle), " waits for ...");
    }
    for (uint32_t i = s->cycle_n < SHM_CYCLE ? s->cycle_n : SHM_CYCLE; i > 0; i--) {
        at += (size_t)snprintf(circle + at, sizeof(circle) - at, " waits for %u",
                               (unsigned)s->cycle_pids[i - 1]);
    }
    log_notice(LOG_ABOUT(.message = MESSAGE_DEADLOCK),
               "deadlock: client %llu is refused to wait for a lock: its process %d%s",
               (unsigned long long)c->id, (int)c->pid,
               s->cycle_n ? circle : " has the lock already");
}

static void count(struct conn *c, int r, bool died) {
    struct wait_sync *w = c->serve->wait_sync;
    w->owners_died += r == SYNC_DIED && died;
    if (r == -EDEADLK) {
        w->deadlocks++;
        log_deadlock(c);
    }
}

/* Of one that has waited. */
static void answer(struct conn *c, int r) {
    const struct conn_sync *w = &c->sync;
    count(c, r, w->died);
    if (r >= 0) {
        w->say(c, r);
    } else if (r == -ETIMEDOUT) {
        say_late(c, w->late);
    } else if (r == -EIDRM) {
        reply_error(c, "GONE the object has been removed");
    } else {
        object_error(c, r);
    }
}

/* ---- waiting ---- */

static int ask(struct shm *s, enum conn_sync_phase phase) {
    switch (phase) {
    case PHASE_CHECK:
        return sync_check_cycle(s);
    case PHASE_GIVE_UP:
        return sync_give_up(s);
    default:
        return sync_poll(s);
    }
}

static void step(struct conn *c) {
    struct serve *s = c->serve;
    struct shm *shm = &s->d->shm;
    uint32_t actor = shm->actor;
    assert(c->block == BLOCK_SYNC && c->seat);
    shm->actor = c->seat->owner;
    int r = ask(shm, c->sync.phase);
    shm->actor = actor;
    list_del(&c->sync.node);
    if (r == -EAGAIN) {
        try_later(s, &s->wait_sync->retry, &c->sync.node);
    } else if (r == -EINPROGRESS) {
        c->sync.phase = PHASE_POLL;
    } else if (c->sync.again) {
        c->sync.answered = r < 0;
        c->sync.answer = r;
        block_end(c); /* its words are taken again in this turn */
    } else {
        answer(c, r);
        block_end(c);
    }
}

static void take_all(struct list *to, struct list *from) {
    list_init(to);
    while (!list_empty(from)) {
        struct list *node = from->next;
        list_del(node);
        list_append(to, node);
    }
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    struct serve *s = arg;
    struct list now;
    (void)fd;
    (void)what;
    take_all(&now, &s->wait_sync->ending);
    while (!list_empty(&now)) {
        struct seat *seat = list_first(&now, struct seat, node);
        list_del(&seat->node);
        end_seat(s, seat);
    }
    take_all(&now, &s->wait_sync->retry);
    while (!list_empty(&now)) {
        step(list_first(&now, struct conn, sync.node));
    }
    s->d->heard++;
}

/* ---- commands ---- */

struct call {
    struct conn *c;
    const struct sync_do *what;
    unsigned flags;
    size_t mark; /* bytes of output before it */
};

static int inside(struct shm *s, void *arg) {
    struct call *k = arg;
    k->c->out.tail = k->c->out.head + k->mark;
    return k->what->run(s, k->what->arg, k->flags);
}

/* How long is left; of one that waits again since it began. */
static uint64_t patience_ms(struct conn *c, const struct sync_do *what) {
    struct conn_sync *w = &c->sync;
    uint64_t now = clock_now();
    if (!w->again) {
        w->until_ns =
            what->timeout_ms == SYNC_FOR_EVER ? UINT64_MAX : now + what->timeout_ms * NS_PER_MS;
        return what->timeout_ms;
    }
    return w->until_ns == UINT64_MAX ? SYNC_FOR_EVER
           : w->until_ns > now       ? (w->until_ns - now) / NS_PER_MS + 1
                                     : 0;
}

static int begin_wait(struct conn *c, const struct sync_do *what) {
    struct conn_sync *w = &c->sync;
    if (block_as(c, BLOCK_SYNC, patience_ms(c, what)) < 0) {
        c->broken = true;
        return 0;
    }
    c->serve->wait_sync->waiting++;
    w->say = what->say;
    w->late = what->late;
    w->died = what->died;
    w->again = what->again;
    w->error = false;
    w->phase = what->flags & SYNC_NO_CHECK ? PHASE_POLL : PHASE_CHECK;
    if (w->phase == PHASE_CHECK) {
        step(c);
    }
    return w->again ? -EINPROGRESS : 0;
}

int wait_sync_do(struct conn *c, const struct sync_do *what) {
    struct conn_sync *w = &c->sync;
    bool waits = what->timeout_ms > 0 && !c->exec;
    struct call k = {.c = c,
                     .what = what,
                     .flags = what->flags | (waits ? SYNC_WAIT : 0),
                     .mark = buf_len(&c->out)};
    if (w->again && w->answered) {
        w->say = NULL;
        w->late = what->late;
        w->again = w->answered = false;
        answer(c, w->answer);
        return 0;
    }
    struct shm *shm = &c->serve->d->shm;
    int r = w->again || c->exec ? 0 : sync_forgo(shm);
    if (r) {
        return r; /* a right that a call of before has failed to use up */
    }
    shm->cycle_n = 0;
    r = op_run(shm, what->shards, inside, &k);
    if (r == -EINPROGRESS) {
        return begin_wait(c, what);
    }
    if (r == -EAGAIN) {
        return r;
    }
    if (r < 0 && w->again) {
        sync_forgo(
            shm); /* the next in line has it now; if locks are busy, before the next command */
    }
    w->again = w->error = false;
    count(c, r, what->died);
    if (r == -EBUSY) {
        say_late(c, what->late);
    } else if (r >= 0 && what->say) {
        what->say(c, r);
    }
    return r < 0 && r != -EBUSY ? r : 0;
}

void wait_sync_over(struct conn *c, bool error) {
    c->sync.error |= error;
    c->sync.phase = PHASE_GIVE_UP;
    if (list_empty(&c->sync.node)) {
        step(c);
    }
}

void wait_sync_forget(struct conn *c) {
    list_del(&c->sync.node);
    c->serve->wait_sync->waiting--;
}

bool wait_sync_has_news(const struct serve *s) {
    return sync_any_granted(&s->d->shm);
}

void wait_sync_turn(struct serve *s) {
    uint64_t id = 0;
    uint32_t owner;
    while (sync_any_granted(&s->d->shm) && (owner = sync_next_granted(&s->d->shm, &id)) != 0) {
        struct conn *c = accounts_find(s, id);
        if (c && c->block == BLOCK_SYNC && wait_sync_owner(c) == owner &&
            list_empty(&c->sync.node)) {
            step(c);
        }
    }
}

void wait_sync_stats(const struct serve *s, struct wait_sync_stats *ret) {
    const struct wait_sync *w = s->wait_sync;
    *ret = (struct wait_sync_stats){w->seats, w->waiting, w->deadlocks, w->owners_died};
}
