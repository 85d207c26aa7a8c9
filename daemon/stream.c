/* SPDX-License-Identifier: MIT */
/* The reading end of the tasks' streams. A task that is followed has an entry, found by its index; the table of pointers
 * costs no memory until it is touched.
 *
 *     hint --> look --> all followers ready?  yes: frames are read and given to each, the writer gets room
 *                                             no: the entry is `held`, until one of them has taken more (stream_resume) or
 *                                                 the timer has looked; one that keeps the task waiting for longer than
 *                                                 limits.follow_stall is told to go
 *
 * One turn reads what was there when it began, which is at most what a stream holds; more makes another hint. At the end of
 * the task the rest, as little as that, is given whether they are ready or not: so the end is never late.
 *
 * Followers come and go from inside commands, never from inside of what is called here: walks need no care.
 *
 * Fails: as stream.h says. A stream that makes no sense is read no further. */
#include "daemon/stream.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "daemon/log.h"
#include "lib/base/clock.h"

enum {
    LOOK_MS = 500,
    TURN_BYTES = 16384, /* at least what a stream holds */
};

struct followed {
    struct list all, held; /* streams.all; streams.held, or none */
    struct list followers;
    uint32_t idx;
    uint64_t id;
    struct stream_place at;
    uint64_t held_ns; /* since when nothing has gone on; 0: it goes on */
};

struct streams {
    struct followed **of; /* by index of the task */
    uint32_t n;
    struct list all, held;
    struct event *timer;
};

static void timer_start(struct streams *s) {
    struct timeval tv = {.tv_usec = LOOK_MS * 1000};
    if (!list_empty(&s->held) && !evtimer_pending(s->timer, NULL)) {
        event_add(s->timer, &tv);
    }
}

static void tell_late(struct followed *e) {
    list_for_each (it, &e->followers) {
        struct stream_follower *f = list_entry(it, struct stream_follower, node);
        if (!f->ready(f)) {
            f->late(f);
        }
    }
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    struct hearthd *d = arg;
    uint64_t now = clock_now(), most = (uint64_t)d->config->limits.follow_stall_ms * NS_PER_MS;
    (void)fd;
    (void)what;
    list_for_each (it, &d->streams->held) {
        struct followed *e = list_entry(it, struct followed, held);
        if (now - e->held_ns > most) {
            tell_late(e);
        }
    }
    stream_resume(d);
    d->heard++;
}

int stream_open(struct hearthd *d) {
    struct shm_usage u;
    struct streams *s = calloc(1, sizeof(*s));
    if (!s) {
        return -ENOMEM;
    }
    shm_usage(&d->shm, &u);
    s->n = u.tasks;
    list_init(&s->all);
    list_init(&s->held);
    s->of = mmap(NULL, sizeof(*s->of) * s->n, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    s->timer = s->of == MAP_FAILED ? NULL : evtimer_new(d->base, on_timer, d);
    if (!s->timer) {
        if (s->of != MAP_FAILED) {
            munmap(s->of, sizeof(*s->of) * s->n);
        }
        free(s);
        return -ENOMEM;
    }
    d->streams = s;
    return 0;
}

/* Off everything; what follows it is told by the caller. */
static void forget(struct streams *s, struct followed *e) {
    s->of[e->idx] = NULL;
    list_del(&e->all);
    list_del(&e->held);
    free(e);
}

static void end(struct hearthd *d, struct followed *e, const struct task_view *v) {
    uint32_t idx = e->idx;
    while (!list_empty(&e->followers)) {
        struct stream_follower *f = list_first(&e->followers, struct stream_follower, node);
        list_del(&f->node);
        f->of = NULL;
        f->ended(f, idx, v);
    }
    forget(d->streams, e);
}

void stream_close(struct hearthd *d) {
    struct streams *s = d->streams;
    if (!s) {
        return;
    }
    while (!list_empty(&s->all)) {
        end(d, list_first(&s->all, struct followed, all), NULL);
    }
    event_free(s->timer);
    munmap(s->of, sizeof(*s->of) * s->n);
    free(s);
    d->streams = NULL;
}

/* ---- reading ---- */

static bool all_ready(const struct followed *e) {
    list_for_each (it, &e->followers) {
        struct stream_follower *f = list_entry(it, struct stream_follower, node);
        if (!f->ready(f)) {
            return false;
        }
    }
    return true;
}

static void give(const struct followed *e, const struct stream_frame *frame) {
    list_for_each (it, &e->followers) {
        struct stream_follower *f = list_entry(it, struct stream_follower, node);
        f->frame(f, e->idx, e->id, frame);
    }
}

static void give_retry(const struct followed *e) {
    struct stream_frame frame = {.kind = STREAM_RETRY};
    frame.len = (uint32_t)snprintf((char *)frame.words, sizeof(frame.words), "%u", e->at.attempt);
    give(e, &frame);
}

/* It goes on by the timer, or by stream_resume(); at_once: in the next turn. */
static void hold(struct streams *s, struct followed *e, bool at_once) {
    e->held_ns = e->held_ns ? e->held_ns : clock_now();
    if (list_empty(&e->held)) {
        list_append(&s->held, &e->held);
    }
    if (at_once) {
        event_active(s->timer, EV_TIMEOUT, 0);
    } else {
        timer_start(s);
    }
}

static void look(struct hearthd *d, struct followed *e, bool all) {
    struct stream_frame frame;
    uint64_t budget = TURN_BYTES;
    bool ready = all || all_ready(e);
    stream_listen(&d->shm, e->idx, e->id);
    while (ready && budget > 0) {
        struct stream_place at = e->at;
        if (stream_read(&d->shm, e->idx, e->id, &at, &frame) < 0) {
            stream_sent(&d->shm, e->idx, e->id, &e->at);
            e->held_ns = 0;
            return;
        }
        bool again = e->at.attempt && e->at.attempt != at.attempt;
        e->at = at;
        e->held_ns = 0;
        if (again) {
            give_retry(e);
        }
        give(e, &frame);
        budget -= budget < frame.len + 8 ? budget : frame.len + 8;
        ready = all || all_ready(e);
    }
    stream_sent(&d->shm, e->idx, e->id, &e->at);
    hold(d->streams, e, ready);
}

void stream_resume(struct hearthd *d) {
    struct streams *s = d->streams;
    struct list now;
    list_init(&now);
    while (!list_empty(&s->held)) {
        struct list *node = s->held.next;
        list_del(node);
        list_append(&now, node);
    }
    while (!list_empty(&now)) {
        struct followed *e = list_first(&now, struct followed, held);
        list_del(&e->held);
        look(d, e, false);
    }
}

static struct followed *entry_of(const struct streams *s, uint32_t idx) {
    return idx < s->n && !list_empty(&s->all) ? s->of[idx] : NULL;
}

void stream_look(struct hearthd *d, uint32_t idx, uint64_t id, bool ended) {
    struct followed *e = entry_of(d->streams, idx);
    if (e) {
        look(d, e, ended);
    } else if (!ended) {
        stream_watch(&d->shm, idx, id, false);
    }
}

void stream_look_all(struct hearthd *d) {
    list_for_each (it, &d->streams->all) {
        look(d, list_entry(it, struct followed, all), false);
    }
}

void stream_ended(struct hearthd *d, uint32_t idx, const struct task_view *v) {
    struct followed *e = entry_of(d->streams, idx);
    if (e) {
        end(d, e, v);
    }
    if (!stream_stays(d, v)) {
        stream_drop(&d->shm, idx, v->id);
    }
}

/* What a command has told is in its result and its log. */
bool stream_stays(const struct hearthd *d, const struct task_view *v) {
    return v->pool >= d->n_pools || d->pools[v->pool].config->kind != POOL_EXEC;
}

/* ---- following ---- */

void stream_replay(struct hearthd *d, uint32_t idx, uint64_t id,
                   void (*fn)(void *arg, uint32_t idx, uint64_t id,
                              const struct stream_frame *frame),
                   void *arg) {
    const struct followed *e = entry_of(d->streams, idx);
    struct stream_frame frame;
    struct stream_place at = {0};
    uint64_t left = TURN_BYTES; /* who writes may be quicker than we */
    while (left > 0 && stream_read(&d->shm, idx, id, &at, &frame) == 0 &&
           (!e || (e->at.attempt == at.attempt && at.at <= e->at.at))) {
        fn(arg, idx, id, &frame);
        left -= left < frame.len + 8 ? left : frame.len + 8;
    }
}

static void replay_to(void *arg, uint32_t idx, uint64_t id, const struct stream_frame *frame) {
    struct stream_follower *f = arg;
    f->frame(f, idx, id, frame);
}

bool stream_is_followed(struct hearthd *d, uint32_t idx) {
    return entry_of(d->streams, idx) != NULL;
}

int stream_follow(struct hearthd *d, uint32_t idx, struct stream_follower *f) {
    struct streams *s = d->streams;
    struct followed *e = s->of[idx];
    struct task_view v;
    bool first = !e;
    if (first && task_view(&d->shm, idx, &v) < 0) {
        return -EBADMSG;
    }
    if (first) {
        e = calloc(1, sizeof(*e));
        if (!e) {
            return -ENOMEM;
        }
        e->idx = idx;
        e->id = v.id;
        list_init(&e->held);
        list_init(&e->all);
        list_init(&e->followers);
        list_append(&s->all, &e->all);
        s->of[idx] = e;
    } else {
        stream_replay(d, idx, e->id, replay_to, f);
    }
    list_append(&e->followers, &f->node);
    f->of = e;
    if (first) {
        stream_watch(&d->shm, idx, e->id, true);
        look(d, e, false);
    }
    return 0;
}

void stream_unfollow(struct hearthd *d, struct stream_follower *f) {
    struct followed *e = f->of;
    if (!e) {
        return;
    }
    list_del(&f->node);
    f->of = NULL;
    if (list_empty(&e->followers)) {
        stream_watch(&d->shm, e->idx, e->id, false);
        forget(d->streams, e);
    } else if (!list_empty(&e->held)) {
        event_active(d->streams->timer, EV_TIMEOUT, 0);
    }
}
