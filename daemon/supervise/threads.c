/* SPDX-License-Identifier: MIT */
/* Workers that run several tasks at once, on threads (config key `threads`). Each thread has a slot of
 * its own, as every owner of a task, a lock or a transaction has, and a struct worker for it, so that
 * whatever looks at workers by their slots (limits, cancels, the sums over claims) need not know.
 *
 *   first:   the process: pidfd, phases, seat, replacement
 *   others:  PHASE_THREAD from asked to dead; on first's list `team`; pid and pidfd are first's
 *
 * They come and go with the first one: asked for in one message, told in one go (worker_command()),
 * and when the process is dead each is buried like a worker of its own, with the task it had in hand.
 * A limit or a cancel that costs one thread costs the process: the tasks of the others end LOST, by
 * the signal, or are tried again.
 *
 * Fails: -ENOSPC or -ENOMEM from threads_reserve(); nothing is left then but what threads_release()
 * takes back. */
#include <errno.h>
#include <string.h>

#include "daemon/lease.h"
#include "daemon/supervise/private.h"

int threads_reserve(struct supervise *s, struct worker *w, uint32_t threads) {
    struct watch *first = watch_of(w);
    for (uint32_t i = 1; i < threads; i++) {
        struct worker *t;
        int r = worker_new(s, w->pool, &t);
        if (r < 0) {
            return r;
        }
        struct watch *x = watch_of(t);
        x->first = first;
        x->is_thread = true;
        w->pool->n_workers--; /* which counts processes */
        list_append(&first->team, &x->team);
        worker_set_phase(t, PHASE_THREAD);
    }
    return 0;
}

size_t threads_put(const struct worker *w, char *out, size_t size) {
    size_t n = 0;
    list_for_each (it, &watch_of((struct worker *)w)->team) {
        const struct worker *t = list_entry(it, struct watch, team)->worker;
        const uint32_t seat[2] = {t->slot, t->gen};
        if (n + sizeof(seat) <= size) {
            memcpy(out + n, seat, sizeof(seat));
            n += sizeof(seat);
        }
    }
    return n;
}

void threads_spawned(struct worker *w) {
    list_for_each (it, &watch_of(w)->team) {
        struct worker *t = list_entry(it, struct watch, team)->worker;
        t->pid = w->pid;
        t->pidfd = w->pidfd;
        t->warm_ns = t->spawned_ns;
    }
}

static void leave_team(struct watch *x) {
    list_del(&x->team);
    x->first = NULL;
    x->worker->pidfd = -1;
}

void threads_died(struct supervise *s, struct worker *w) {
    struct watch *first = watch_of(w);
    list_for_each_safe (it, &first->team) {
        struct watch *x = list_entry(it, struct watch, team);
        x->status = first->status;
        x->status_known = true;
        leave_team(x);
        worker_died(s, x->worker);
    }
}

void threads_release(struct supervise *s, struct worker *w) {
    list_for_each_safe (it, &watch_of(w)->team) {
        struct watch *x = list_entry(it, struct watch, team);
        struct worker *t = x->worker;
        leave_team(x);
        slot_release(&s->d->shm, t->slot, t->gen);
        worker_free(s, t);
    }
}

void worker_command(struct supervise *s, struct worker *w, enum slot_command command) {
    slot_command(&s->d->shm, w->slot, command);
    if (w->lease) {
        lease_told(s->d, w->lease);
    }
    list_for_each (it, &watch_of(w)->team) {
        slot_command(&s->d->shm, list_entry(it, struct watch, team)->worker->slot, command);
    }
}

static bool look(struct supervise *s, const struct worker *w, uint64_t *claims) {
    struct slot_view v;
    slot_view(&s->d->shm, w->slot, &v);
    *claims += v.claims;
    return v.hand != 0 && v.started_ns != 0;
}

uint32_t worker_busy(struct supervise *s, const struct worker *w, uint64_t *ret_claims) {
    uint64_t claims = 0;
    uint32_t n = look(s, w, &claims);
    list_for_each (it, &watch_of((struct worker *)w)->team) {
        n += look(s, list_entry(it, struct watch, team)->worker, &claims);
    }
    *ret_claims = claims;
    return n;
}
