/* SPDX-License-Identifier: MIT */
/* A process holds a lock of the segment for microseconds. One that is stopped in between (SIGSTOP, a debugger, a machine that
 * swaps) holds it for as long as that lasts, and death, which would free it, does not come. Commands that need the lock are
 * tried again each millisecond; here is counted for how long it has been the same owner, and that he has changed nothing.
 *
 *     lock_timeout is over: he is reported, once. Our worker is killed: his lock is taken over with the log rolled back, his
 *     task ends or is retried as after any death. Somebody else (a mapped client) is not ours to kill: the command is
 *     answered with BUSY, and further ones after the same time.
 *
 * Fails: never. */
#include "daemon/serve/sitting.h"

#include <signal.h>
#include <sys/pidfd.h>

#include "daemon/log.h"
#include "daemon/serve/reply.h"
#include "lib/base/clock.h"
#include "lib/shm/lock.h"

/* True: he was killed just now. */
static bool report(struct serve *s, const struct lock_holder *h, uint64_t ms) {
    const struct shm *shm = &s->d->shm;
    struct worker *w = s->d->workers[h->slot];
    bool ours = w && (w->gen & 0x7fff) == h->gen;
    if (s->sat_owner == shm->busy_owner && s->sat_lock == shm->busy_lock) {
        return false;
    }
    s->sat_owner = shm->busy_owner;
    s->sat_lock = shm->busy_lock;
    s->lock_timeouts++;
    log_warn(LOG_ABOUT(.message = MESSAGE_LOCK_HELD),
             "process %u%s has sat on %s for %llu ms and changes nothing%s", (unsigned)h->pid,
             ours ? ", a worker," : "", h->what, (unsigned long long)ms,
             ours ? ": it is killed" : ": is it stopped?");
    return ours && pidfd_send_signal(w->pidfd, SIGKILL, NULL, 0) == 0;
}

bool sitting_ends_wait(struct conn *c) {
    struct serve *s = c->serve;
    struct shm *shm = &s->d->shm;
    struct lock_holder h;
    uint64_t now = clock_now(), ms;
    if (!lock_holder(shm, &h)) {
        c->busy_since_ns = 0;
        return false;
    }
    if (!c->busy_since_ns || c->busy_owner != shm->busy_owner || c->busy_progress != h.progress) {
        c->busy_since_ns = now;
        c->busy_owner = shm->busy_owner;
        c->busy_progress = h.progress;
        return false;
    }
    ms = (now - c->busy_since_ns) / NS_PER_MS;
    if (ms < s->d->config->lock_timeout_ms || c->partial || c->sync.again) {
        return false; /* of an MSUBMIT some is done, or something has been granted: it goes on */
    }
    c->busy_since_ns = 0;
    if (report(s, &h, ms)) {
        return false;
    }
    reply_errorf(c, "BUSY process %u sits on %s in shared memory", (unsigned)h.pid, h.what);
    return true;
}
