/* SPDX-License-Identifier: MIT */
/* Mapped clients. A client with the role `map` is given the segment and a slot, and from then on takes locks in it as a worker
 * does. So its death matters as a worker's does: a pidfd of the process tells of it, and the slot is buried (its transaction
 * rolled back) and released. Burying never waits; when somebody else is at it, a timer tries again.
 *
 *     ATTACH --> watched --process ends-----------------------+--> dying --buried--> released
 *                   |                                         |
 *                   +--connection ends, slot let go of--------+
 *
 * A client that goes in an orderly way sets its slot RETIRED, lets go of it and then closes the connection. A connection
 * that ends while the process lives on and holds the slot changes nothing: that process may still be at work in the segment.
 *
 * Fails: -errno. */
#include "daemon/serve/mapped.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "daemon/log.h"
#include "lib/shm/adopt.h"
#include "lib/shm/slot.h"
#include "lib/shm/task.h"

enum { RETRY_US = 1000, LOOK_S = 1 };

struct peer {
    struct list node; /* mapped.peers or mapped.dying */
    struct serve *serve;
    struct conn *conn; /* NULL: it is gone */
    uint32_t slot, gen;
    pid_t pid;
    int pidfd;
    struct event ev;
};

struct mapped {
    struct list peers, dying;
    struct event *retry;
    struct event *look; /* at those that a former daemon let in: they cannot ring us */
    uint32_t n;
};

static void peer_free(struct peer *p) {
    event_del(&p->ev);
    if (p->pidfd >= 0) {
        close(p->pidfd);
    }
    list_del(&p->node);
    if (p->conn) {
        p->conn->peer = NULL;
    }
    p->serve->mapped->n--;
    free(p);
}

/* True: its slot is free again. */
static bool bury(struct peer *p) {
    struct shm *s = &p->serve->d->shm;
    struct task_outcome lost = {.state = TASK_LOST, .cause = CAUSE_SIGNAL};
    uint32_t ended = 0;
    if (slot_bury(s, p->slot, p->gen) == -EAGAIN) {
        return false;
    }
    int r = task_reap(s, p->slot, p->gen, &lost, &ended);
    if (r == -EAGAIN) {
        return false;
    }
    slot_release(s, p->slot, p->gen);
    if (r == 1) {
        tasks_ended(p->serve->d, ended);
    }
    return true;
}

static void bury_all(struct mapped *m) {
    list_for_each_safe (it, &m->dying) {
        struct peer *p = list_entry(it, struct peer, node);
        if (bury(p)) {
            peer_free(p);
        }
    }
    if (!list_empty(&m->dying)) {
        event_add(m->retry, &(struct timeval){.tv_usec = RETRY_US});
    }
}

static void on_retry(evutil_socket_t fd, short what, void *arg) {
    struct serve *s = arg;
    (void)fd;
    (void)what;
    bury_all(s->mapped);
}

static void dies(struct peer *p) {
    event_del(&p->ev);
    list_del(&p->node);
    list_append(&p->serve->mapped->dying, &p->node);
    bury_all(p->serve->mapped);
}

static void on_exit_of(evutil_socket_t fd, short what, void *arg) {
    struct peer *p = arg;
    (void)fd;
    (void)what;
    log_debug(NULL, "mapped client %d has ended", (int)p->pid);
    dies(p);
}

/* ---- those of a former daemon ---- */

static int adopt(struct serve *s, uint32_t slot, const struct slot_view *v) {
    struct peer *p = calloc(1, sizeof(*p));
    if (!p) {
        return -ENOMEM;
    }
    *p = (struct peer){.serve = s, .slot = slot, .gen = v->gen, .pid = (pid_t)v->pid};
    p->pidfd = pidfd_open(p->pid, 0);
    event_assign(&p->ev, s->d->base, p->pidfd, EV_READ, on_exit_of, p);
    list_append(&s->mapped->peers, &p->node);
    s->mapped->n++;
    if (p->pidfd < 0 || slot_life(&s->d->shm, slot) != SLOT_ALIVE) {
        dies(p);
    } else {
        event_add(&p->ev, NULL);
    }
    return 0;
}

/* Their connections have ended: they let go of their slots when they notice. */
static void on_look(evutil_socket_t fd, short what, void *arg) {
    struct serve *s = arg;
    bool left = false;
    (void)fd;
    (void)what;
    list_for_each_safe (it, &s->mapped->peers) {
        struct peer *p = list_entry(it, struct peer, node);
        if (p->conn) {
            continue;
        }
        if (slot_life(&s->d->shm, p->slot) == SLOT_ALIVE) {
            left = true;
        } else {
            dies(p);
        }
    }
    if (left) {
        event_add(s->mapped->look, &(struct timeval){.tv_sec = LOOK_S});
    }
}

static int adopt_all(struct serve *s) {
    struct shm_usage u;
    int r = 0;
    shm_usage(&s->d->shm, &u);
    for (uint32_t i = 0; r == 0 && s->d->found && i < u.slots; i++) {
        struct slot_view v;
        slot_view(&s->d->shm, i, &v);
        if (v.state != SLOT_FREE && i != s->d->shm.slot && v.pool >= SHM_POOLS) {
            r = adopt(s, i, &v);
        }
    }
    if (!list_empty(&s->mapped->peers)) {
        event_add(s->mapped->look, &(struct timeval){.tv_sec = LOOK_S});
    }
    return r;
}

int mapped_open(struct serve *s) {
    s->mapped = calloc(1, sizeof(*s->mapped));
    if (!s->mapped) {
        return -ENOMEM;
    }
    list_init(&s->mapped->peers);
    list_init(&s->mapped->dying);
    s->mapped->retry = evtimer_new(s->d->base, on_retry, s);
    s->mapped->look = evtimer_new(s->d->base, on_look, s);
    return s->mapped->retry && s->mapped->look ? adopt_all(s) : -ENOMEM;
}

void mapped_close(struct serve *s) {
    struct mapped *m = s->mapped;
    if (!m) {
        return;
    }
    while (!list_empty(&m->peers)) {
        peer_free(list_first(&m->peers, struct peer, node));
    }
    while (!list_empty(&m->dying)) {
        peer_free(list_first(&m->dying, struct peer, node));
    }
    if (m->retry) {
        event_free(m->retry);
    }
    if (m->look) {
        event_free(m->look);
    }
    free(m);
    s->mapped = NULL;
}

int mapped_add(struct conn *c, uint32_t *ret_slot, uint32_t *ret_gen) {
    struct serve *s = c->serve;
    if (c->peer) {
        return -EEXIST;
    }
    if (s->mapped->n >= s->d->config->limits.max_mapped) {
        return -ENOSPC;
    }
    struct peer *p = calloc(1, sizeof(*p));
    if (!p) {
        return -ENOMEM;
    }
    *p = (struct peer){.serve = s, .conn = c, .pid = c->pid};
    p->pidfd = pidfd_open(c->pid, 0);
    int r = p->pidfd < 0 ? -errno : slot_reserve(&s->d->shm, UINT32_MAX, &p->slot, &p->gen);
    if (r < 0) {
        if (p->pidfd >= 0) {
            close(p->pidfd);
        }
        free(p);
        return r;
    }
    event_assign(&p->ev, s->d->base, p->pidfd, EV_READ, on_exit_of, p);
    event_add(&p->ev, NULL);
    list_append(&s->mapped->peers, &p->node);
    s->mapped->n++;
    c->peer = p;
    *ret_slot = p->slot;
    *ret_gen = p->gen;
    return 0;
}

void mapped_conn_ends(struct conn *c) {
    struct peer *p = c->peer;
    struct slot_view v;
    if (!p) {
        return;
    }
    c->peer = NULL;
    p->conn = NULL;
    slot_view(&c->serve->d->shm, p->slot, &v);
    if (v.gen == p->gen && v.state == SLOT_RETIRED) {
        dies(p);
    }
}
