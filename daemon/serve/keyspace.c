/* SPDX-License-Identifier: MIT */
/* One timer does what no command waits for: keys whose time is over, or whose manager has ended, are removed though nobody
 * asks for them, objects that were deleted are taken apart, blocks are given back. Whoever leaves such work in the segment says so there, a worker by
 * the bell; the timer runs only then, so an idle daemon stays idle.
 *
 *     OP_UNTIDY   every millisecond, at most SLICE_NS at a time, until all is tidy
 *     OP_EXPIRY   a pass over the shards with expiring keys, in slices; then a pause, twice as long each time that a pass
 *                 finds nothing, up to PAUSE_MAX ms. Nobody sees an expired key meanwhile; only its memory waits
 *                 A pass for managers that have ended begins at once, or right after the one under way; one serves all
 *                 that had ended when it began
 *     OP_IDLE     the timer rests
 *
 * Fails: a busy lock or a damaged shard is passed over and tried again later, less and less often. */
#include "daemon/serve/keyspace.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/serve/object.h"
#include "lib/base/clock.h"
#include "lib/shm/keys.h"
#include "lib/shm/manager.h"
#include "lib/shm/op.h"

#define SLICE_NS (500 * UINT64_C(1000))

enum {
    SHARDS = 64,
    TURN_MS = 1,      /* between two slices of tidying, ... */
    TURN_MAX = 1024,  /* ... and when nothing can be done */
    PASS_MS = 5,      /* between two slices of a pass */
    PAUSE_MIN = 100,  /* ms between passes that find something */
    PAUSE_MAX = 5000, /* ... and that have long found nothing */
    BUDGET = 32,      /* buckets or keys per operation */
};

struct keyspace {
    struct event *timer;
    enum op_upkeep known; /* what the timer has been set for */
    unsigned shard;       /* of the pass */
    uint64_t cursor;      /* in it */
    bool in_pass, found;
    bool ended; /* managers that no pass has begun for */
    struct manager_pass managers;
    uint64_t sweep_at; /* when to go on with it, or to begin the next one */
    uint32_t pause_ms, turn_ms;
    bool lazy; /* no passes: only who asks for an expired key removes it */
    uint64_t expired;
};

static void set_timer(struct keyspace *k, uint32_t ms) {
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    event_add(k->timer, &tv);
}

void keyspace_stir(struct serve *s) {
    struct keyspace *k = s->keyspace;
    enum op_upkeep wanted = op_upkeep(&s->d->shm);
    if (wanted <= k->known) {
        return;
    }
    if (k->known == OP_IDLE) {
        k->pause_ms = PAUSE_MIN;
        k->sweep_at = clock_now() + PAUSE_MIN * NS_PER_MS;
    }
    k->known = wanted;
    k->turn_ms = TURN_MS;
    set_timer(k, wanted == OP_UNTIDY ? TURN_MS : PAUSE_MIN);
}

void keyspace_managers_ended(struct serve *s) {
    struct keyspace *k = s->keyspace;
    if (!k->ended && !k->in_pass) {
        k->sweep_at = clock_now();
        if (k->known < OP_UNTIDY) {
            set_timer(k, TURN_MS);
        }
    }
    k->ended = true;
    k->known = k->known < OP_EXPIRY ? OP_EXPIRY : k->known;
}

bool keyspace_has_news(const struct serve *s) {
    return op_upkeep(&s->d->shm) > s->keyspace->known;
}

void keyspace_set_active(struct serve *s, bool active) {
    s->keyspace->lazy = !active;
}

void keyspace_note_expired(struct serve *s, uint64_t n) {
    s->keyspace->expired += n;
}

uint64_t keyspace_expired(const struct serve *s) {
    return s->keyspace->expired;
}

/* Tidies until all is done or the time is over. 0: all is tidy; 1: something is left; -EAGAIN: ... and nothing could be
 * done about it. */
static int tidy(struct shm *s, uint64_t until) {
    bool left = false, done = false;
    for (unsigned i = 0; i < SHARDS; i++) {
        int r = op_upkeep_shard(s, i) == OP_UNTIDY;
        while (r == 1 && clock_now() < until) {
            r = op_tidy(s, i);
            done |= r >= 0;
        }
        left |= r != 0;
    }
    return !left ? 0 : done ? 1 : -EAGAIN;
}

struct sweep {
    struct keyspace *k;
    int budget;
    uint64_t cursor;
};

static int sweep_shard(struct shm *s, void *arg) {
    struct sweep *w = arg;
    w->cursor = w->k->cursor;
    return keys_expire_some(s, w->k->shard, clock_wall_ms(), &w->cursor, w->budget);
}

/* Goes on with the pass. False: it is through. */
static bool sweep(struct keyspace *k, struct shm *s, uint64_t until) {
    while (k->shard < SHARDS && clock_now() < until) {
        struct sweep w = {.k = k, .budget = BUDGET};
        int r = op_run(s, UINT64_C(1) << k->shard, sweep_shard, &w);
        if (r == -ENOMEM) { /* for a larger log */
            w.budget = 1;
            r = op_run(s, UINT64_C(1) << k->shard, sweep_shard, &w);
        }
        if (r > 0) {
            k->found = true;
            k->expired += (uint64_t)r;
        }
        k->managers.missed |= r < 0;
        k->cursor = r < 0 ? 0 : w.cursor; /* a shard that cannot be had now is passed over */
        k->shard += k->cursor == 0;
    }
    return k->shard < SHARDS;
}

/* Goes on with the pass, or begins one, if it is time. */
static void sweep_if_due(struct keyspace *k, struct shm *s) {
    uint64_t now = clock_now();
    bool wanted = k->ended || (!k->lazy && keys_expiring(s));
    if (now < k->sweep_at || (!k->in_pass && !wanted)) {
        return;
    }
    if (!k->in_pass) {
        k->in_pass = true;
        k->found = false;
        k->shard = 0;
        k->cursor = 0;
        k->ended = false;
        manager_pass_begin(s, &k->managers);
    }
    if (sweep(k, s, now + SLICE_NS)) {
        k->sweep_at = now + PASS_MS * NS_PER_MS;
        return;
    }
    k->in_pass = false;
    bool again = k->ended;
    k->ended |= manager_pass_end(s, &k->managers);
    k->pause_ms = k->found ? PAUSE_MIN : k->pause_ms * 2;
    k->pause_ms = k->pause_ms < PAUSE_MAX ? k->pause_ms : PAUSE_MAX;
    k->sweep_at = now + (again ? 0 : k->pause_ms * NS_PER_MS);
}

static uint32_t ms_until_sweep(const struct keyspace *k) {
    uint64_t now = clock_now();
    return k->sweep_at > now ? (uint32_t)((k->sweep_at - now) / NS_PER_MS) + 1 : 1;
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    struct serve *serve = arg;
    struct keyspace *k = serve->keyspace;
    struct shm *s = &serve->d->shm;
    int left = tidy(s, clock_now() + SLICE_NS);
    sweep_if_due(k, s);
    if (left == 0) {
        k->known =
            op_upkeep_known(s, k->in_pass || k->ended || keys_expiring(s) ? OP_EXPIRY : OP_IDLE);
        left = k->known == OP_UNTIDY;
    }
    k->turn_ms = left < 0 && k->turn_ms < TURN_MAX ? k->turn_ms * 2 : TURN_MS;
    if (left) {
        set_timer(k, k->turn_ms);
    } else if (k->known == OP_EXPIRY) {
        set_timer(k, ms_until_sweep(k));
    }
}

int keyspace_open(struct serve *s) {
    s->keyspace = calloc(1, sizeof(*s->keyspace));
    if (!s->keyspace) {
        return -ENOMEM;
    }
    s->keyspace->timer = evtimer_new(s->d->base, on_timer, s);
    return s->keyspace->timer ? 0 : -ENOMEM;
}

void keyspace_close(struct serve *s) {
    if (s->keyspace) {
        if (s->keyspace->timer) {
            event_free(s->keyspace->timer);
        }
        free(s->keyspace);
        s->keyspace = NULL;
    }
}
