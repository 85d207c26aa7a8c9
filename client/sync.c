/* SPDX-License-Identifier: MIT */
/* Locks, semaphores, events, conditions and barriers. As in object.c each function is written twice: as a call on the mapped
 * segment, where the handle's slot is the owner, and as a command, where its connection is.
 *
 * A wait over the connection is a request whose reply comes late. It is interrupted (hearth_on_interrupt()) from the side: a
 * second connection asks the daemon to unblock the first, whose reply then comes at once; so the place in the line is kept until
 * the very end, and what was granted at the last moment is not lost. A mapped wait looks for itself.
 *
 * hearth_lock is a lock with what was found out about its place in the segment (struct sync_ref): with nobody else there, taking it
 * is a compare-and-swap. What it knows is of one mapping, so it is forgotten when the handle attaches again.
 *
 * Fails: as hearth.h says. */
#include "client/sync.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/num.h"
#include "lib/shm/objects_sync.h"

/* ---- answers ---- */

static int error_of(int64_t r) {
    switch (r) {
    case -EPERM:
        return HEARTH_E_NOTOWNER;
    case -EDEADLK:
        return HEARTH_E_DEADLOCK;
    case -ECONNABORTED:
        return HEARTH_E_BROKEN;
    case -EPIPE:
        return HEARTH_E_CLOSED;
    case -EOVERFLOW:
        return HEARTH_E_OVERFLOW;
    case -EBUSY:
    case -ETIMEDOUT:
        return HEARTH_E_PENDING;
    default:
        return 0;
    }
}

int wait_done(struct hearth *h, int64_t r, int64_t *ret) {
    int error = r < 0 ? error_of(r) : 0;
    if (error) {
        return result_say(h, error, "%s",
                          error == HEARTH_E_PENDING ? "not in time" : hearth_strerror(error));
    }
    if (r < 0) {
        return object_done(h, r);
    }
    if (ret) {
        *ret = r;
    }
    return 0;
}

int wait_taken(struct hearth *h, int64_t r, int *ret_died) {
    int64_t died = 0;
    int e = wait_done(h, r, &died);
    if (e == 0 && ret_died) {
        *ret_died = died == SYNC_DIED;
    }
    return e;
}

static int look(void *arg) {
    struct hearth *h = arg;
    return h->interrupt_fn && h->interrupt_fn(h, h->interrupt_arg) ? -EINTR : 0;
}

struct objects *wait_mapped(struct hearth *h) {
    if (!attach_can(h, true)) {
        return NULL;
    }
    h->shm.wait_look = look;
    h->shm.wait_arg = h;
    return &h->objects;
}

/* To give back: what is held in the segment is held there, whatever has become of the daemon, and others wait for it. */
static struct objects *mapped_still(struct hearth *h) {
    return h->attached == 2 ? &h->objects : NULL;
}

/* ---- commands ---- */

/* Has somebody else tell the daemon that this connection waits no more. Whether it has been told. */
static bool unblock(struct hearth *h) {
    const char *words[] = {"CLIENT", "UNBLOCK", NULL};
    const struct hearth_reply *reply;
    struct hearth *other;
    char digits[24];
    if (hearth_connect(h->addr.sun_path, &other) != 0) {
        return false;
    }
    digits[num_put_u64(digits, h->client_id)] = '\0';
    words[2] = digits;
    int r = hearth_command(other, 3, words, NULL, &reply);
    hearth_close(other);
    return r == 0;
}

void wait_signalled(struct hearth *h) {
    if (h->waits && h->has_path && !h->unblocked && (h->interrupted || look(h))) {
        h->interrupted = true;
        h->unblocked = unblock(h); /* if not, the wait goes on, until the next signal */
    }
}

int wait_ask_more(struct hearth *h, const struct hearth_reply **ret, bool may_wait,
                  const struct hearth_bytes *words, size_t n, const struct hearth_bytes *more,
                  size_t m) {
    h->interrupted = h->unblocked = false;
    h->waits = h->interrupt_fn && may_wait;
    int r = object_ask_more(h, ret, words, n, more, m);
    h->waits = false;
    if (r == 0 && hearth_reply_type(*ret) == HEARTH_REPLY_NULL) {
        return h->interrupted ? -EINTR : wait_done(h, -ETIMEDOUT, NULL);
    }
    return r;
}

int wait_ask(struct hearth *h, const struct hearth_reply **ret, int64_t ms,
             const struct hearth_bytes *words, size_t n) {
    struct digits d;
    const struct hearth_bytes limit[] = {hearth_text("TIMEOUT"), object_number(&d, ms)};
    return wait_ask_more(h, ret, ms != 0, words, n, limit, ms < 0 ? 0 : 2);
}

int wait_ask_taken(struct hearth *h, int *ret_died, int64_t ms, const struct hearth_bytes *words,
                   size_t n) {
    const struct hearth_reply *reply = NULL;
    int r = wait_ask(h, &reply, ms, words, n);
    if (r == 0 && ret_died) {
        *ret_died = strcmp(hearth_reply_text(reply, NULL), "OWNER_DIED") == 0;
    }
    return r;
}

/* ---- locks ---- */

/* Our flags as those of lib/shm/sync.h. */
static unsigned flags_of(unsigned flags) {
    return (flags & HEARTH_NO_CHECK ? SYNC_NO_CHECK : 0) | (flags & HEARTH_FORCE ? SYNC_FORCE : 0);
}

typedef int acquire_fn(struct objects *o, struct task_bytes name, int64_t ms, unsigned flags);
typedef int release_fn(struct objects *o, struct task_bytes name, unsigned flags);

static int acquire(struct hearth *h, acquire_fn *fn, const char *command, struct hearth_bytes name,
                   int64_t ms, unsigned flags, int *ret_died) {
    const struct hearth_bytes words[] = {hearth_text(command), name, hearth_text("NOCHECK")};
    struct objects *o = wait_mapped(h);
    if (o) {
        return wait_taken(h, fn(o, in(name), ms, flags_of(flags)), ret_died);
    }
    return wait_ask_taken(h, ret_died, ms, words, flags & HEARTH_NO_CHECK ? 3 : 2);
}

static int release(struct hearth *h, release_fn *fn, const char *command, struct hearth_bytes name,
                   unsigned flags) {
    const struct hearth_bytes words[] = {hearth_text(command), name, hearth_text("FORCE")};
    const struct hearth_reply *reply;
    struct objects *o = mapped_still(h);
    if (o) {
        return wait_done(h, fn(o, in(name), flags_of(flags)), NULL);
    }
    return object_ask(h, &reply, words, flags & HEARTH_FORCE ? 3 : 2);
}

int hearth_lock_acquire(struct hearth *h, struct hearth_bytes name, int64_t ms, unsigned flags,
                        int *ret_died) {
    return acquire(h, objects_lock_acquire, "LOCK.ACQUIRE", name, ms, flags, ret_died);
}

int hearth_lock_release(struct hearth *h, struct hearth_bytes name, unsigned flags) {
    return release(h, objects_lock_release, "LOCK.RELEASE", name, flags);
}

int hearth_lock_is_held(struct hearth *h, struct hearth_bytes name, int *ret) {
    if (attach_can(h, false)) {
        int r = objects_lock_is_held(&h->objects, in(name));
        if (object_final(h, r)) {
            return object_flag(h, r, ret);
        }
    }
    return object_ask_flag(h, ret, WORDS(hearth_text("LOCK.ISHELD"), name));
}

int hearth_rlock_acquire(struct hearth *h, struct hearth_bytes name, int64_t ms, unsigned flags,
                         int *ret_died) {
    return acquire(h, objects_rlock_acquire, "RLOCK.ACQUIRE", name, ms, flags, ret_died);
}

int hearth_rlock_release(struct hearth *h, struct hearth_bytes name, unsigned flags) {
    return release(h, objects_rlock_release, "RLOCK.RELEASE", name, flags);
}

int hearth_rwlock_read(struct hearth *h, struct hearth_bytes name, int64_t ms, unsigned flags,
                       int *ret_died) {
    return acquire(h, objects_rwlock_read, "RWLOCK.READ", name, ms, flags, ret_died);
}

int hearth_rwlock_write(struct hearth *h, struct hearth_bytes name, int64_t ms, unsigned flags,
                        int *ret_died) {
    return acquire(h, objects_rwlock_write, "RWLOCK.WRITE", name, ms, flags, ret_died);
}

int hearth_rwlock_release(struct hearth *h, struct hearth_bytes name, unsigned flags) {
    return release(h, objects_rwlock_release, "RWLOCK.RELEASE", name, flags);
}

/* ---- locks at hand ---- */

struct hearth_lock {
    struct hearth *h;
    bool recursive;
    uint64_t turn; /* of the mapping that ref is about; 0: none */
    struct sync_ref ref;
    struct hearth_bytes name;
    char text[];
};

int hearth_lock_open(struct hearth *h, struct hearth_bytes name, int recursive,
                     struct hearth_lock **ret) {
    struct hearth_lock *l = calloc(1, sizeof(*l) + name.len + 1);
    if (!l) {
        return -ENOMEM;
    }
    if (name.len) {
        memcpy(l->text, name.data, name.len);
    }
    l->h = h;
    l->recursive = recursive != 0;
    l->name = (struct hearth_bytes){l->text, name.len};
    *ret = l;
    return 0;
}

void hearth_lock_close(struct hearth_lock *l) {
    free(l);
}

static void at_hand(struct hearth_lock *l) {
    struct hearth *h = l->h;
    if (l->turn != h->attach_turn) {
        l->turn = h->attach_turn;
        l->ref = (struct sync_ref){.name = key_name(&h->shm, l->text, l->name.len)};
    }
}

int hearth_lock_enter(struct hearth_lock *l, int64_t ms, unsigned flags, int *ret_died) {
    struct hearth *h = l->h;
    if (attach_can(h, true)) {
        at_hand(l);
        int r = l->recursive ? sync_ref_rlock(&h->shm, &l->ref) : sync_ref_lock(&h->shm, &l->ref);
        if (r == 0) {
            if (ret_died) {
                *ret_died = 0;
            }
            return 0;
        }
    }
    return l->recursive ? hearth_rlock_acquire(h, l->name, ms, flags, ret_died)
                        : hearth_lock_acquire(h, l->name, ms, flags, ret_died);
}

int hearth_lock_leave(struct hearth_lock *l, unsigned flags) {
    struct hearth *h = l->h;
    if (mapped_still(h)) {
        at_hand(l);
        int r =
            l->recursive ? sync_ref_runlock(&h->shm, &l->ref) : sync_ref_unlock(&h->shm, &l->ref);
        if (r >= 0) { /* 1: of an rlock that is still held */
            return 0;
        }
    }
    return l->recursive ? hearth_rlock_release(h, l->name, flags)
                        : hearth_lock_release(h, l->name, flags);
}

/* ---- semaphores ---- */

int hearth_sem_create(struct hearth *h, struct hearth_bytes name, uint64_t value, int bounded,
                      int *ret_made) {
    struct digits d;
    struct objects *o = wait_mapped(h);
    if (value > INT64_MAX) {
        return object_invalid(h);
    }
    if (o) {
        return object_flag(h, objects_sem_create(o, in(name), value, bounded != 0), ret_made);
    }
    const struct hearth_bytes words[] = {hearth_text("SEM.CREATE"), name,
                                         object_number(&d, (int64_t)value), hearth_text("BOUNDED")};
    return object_ask_flag(h, ret_made, words, bounded ? 4 : 3);
}

int hearth_sem_acquire(struct hearth *h, struct hearth_bytes name, uint64_t n, int64_t ms) {
    struct digits d;
    struct objects *o = wait_mapped(h);
    if (n > INT64_MAX) {
        return object_invalid(h);
    }
    if (o) {
        return wait_done(h, objects_sem_acquire(o, in(name), n, ms, 0), NULL);
    }
    return wait_ask_taken(h, NULL, ms,
                          WORDS(hearth_text("SEM.ACQUIRE"), name, object_number(&d, (int64_t)n)));
}

int hearth_sem_release(struct hearth *h, struct hearth_bytes name, uint64_t n) {
    const struct hearth_reply *reply;
    struct digits d;
    struct objects *o = mapped_still(h);
    if (n > INT64_MAX) {
        return object_invalid(h);
    }
    if (o) {
        return wait_done(h, objects_sem_release(o, in(name), n), NULL);
    }
    return object_ask(h, &reply,
                      WORDS(hearth_text("SEM.RELEASE"), name, object_number(&d, (int64_t)n)));
}

int hearth_sem_value(struct hearth *h, struct hearth_bytes name, uint64_t *ret) {
    if (attach_can(h, false)) {
        int64_t r = objects_sem_value(&h->objects, in(name));
        if (object_final(h, r)) {
            return object_count(h, r, ret);
        }
    }
    return object_ask_count(h, ret, WORDS(hearth_text("SEM.VALUE"), name));
}

/* ---- events ---- */

int hearth_event_set(struct hearth *h, struct hearth_bytes name) {
    const struct hearth_reply *reply;
    struct objects *o = wait_mapped(h);
    return o ? wait_done(h, objects_event_set(o, in(name)), NULL)
             : object_ask(h, &reply, WORDS(hearth_text("EVENT.SET"), name));
}

int hearth_event_clear(struct hearth *h, struct hearth_bytes name) {
    const struct hearth_reply *reply;
    struct objects *o = wait_mapped(h);
    return o ? wait_done(h, objects_event_clear(o, in(name)), NULL)
             : object_ask(h, &reply, WORDS(hearth_text("EVENT.CLEAR"), name));
}

int hearth_event_is_set(struct hearth *h, struct hearth_bytes name, int *ret) {
    if (attach_can(h, false)) {
        int r = objects_event_is_set(&h->objects, in(name));
        if (object_final(h, r)) {
            return object_flag(h, r, ret);
        }
    }
    return object_ask_flag(h, ret, WORDS(hearth_text("EVENT.ISSET"), name));
}

int hearth_event_wait(struct hearth *h, struct hearth_bytes name, int64_t ms) {
    struct objects *o = wait_mapped(h);
    return o ? wait_done(h, objects_event_wait(o, in(name), ms), NULL)
             : wait_ask_taken(h, NULL, ms, WORDS(hearth_text("EVENT.WAIT"), name));
}

/* ---- conditions ---- */

int hearth_cond_wait(struct hearth *h, struct hearth_bytes cond, struct hearth_bytes lock,
                     int64_t ms, int *ret_died) {
    struct objects *o = wait_mapped(h);
    return o ? wait_taken(h, objects_cond_wait(o, in(cond), in(lock), ms), ret_died)
             : wait_ask_taken(h, ret_died, ms, WORDS(hearth_text("COND.WAIT"), cond, lock));
}

int hearth_cond_notify(struct hearth *h, struct hearth_bytes cond, uint64_t n, uint64_t *ret_n) {
    struct digits d;
    struct objects *o = wait_mapped(h);
    if (o) {
        return object_count(h, objects_cond_notify(o, in(cond), n), ret_n);
    }
    if (n > INT64_MAX) {
        return object_ask_count(h, ret_n, WORDS(hearth_text("COND.NOTIFYALL"), cond));
    }
    return object_ask_count(h, ret_n,
                            WORDS(hearth_text("COND.NOTIFY"), cond, object_number(&d, (int64_t)n)));
}

/* ---- barriers ---- */

int hearth_barrier_create(struct hearth *h, struct hearth_bytes name, uint32_t parties,
                          int *ret_made) {
    struct digits d;
    struct objects *o = wait_mapped(h);
    if (o) {
        return object_flag(h, objects_barrier_create(o, in(name), parties), ret_made);
    }
    return object_ask_flag(h, ret_made,
                           WORDS(hearth_text("BARRIER.CREATE"), name, object_number(&d, parties)));
}

int hearth_barrier_wait(struct hearth *h, struct hearth_bytes name, int64_t ms,
                        uint32_t *ret_index) {
    const struct hearth_reply *reply = NULL;
    struct objects *o = wait_mapped(h);
    int64_t index = 0;
    int r = o ? wait_done(h, objects_barrier_wait(o, in(name), ms), &index)
              : wait_ask(h, &reply, ms, WORDS(hearth_text("BARRIER.WAIT"), name));
    if (r == 0 && ret_index) {
        *ret_index = (uint32_t)(o ? index : hearth_reply_int(reply));
    }
    return r;
}

int hearth_barrier_reset(struct hearth *h, struct hearth_bytes name) {
    const struct hearth_reply *reply;
    struct objects *o = wait_mapped(h);
    return o ? wait_done(h, objects_barrier_reset(o, in(name)), NULL)
             : object_ask(h, &reply, WORDS(hearth_text("BARRIER.RESET"), name));
}

int hearth_barrier_abort(struct hearth *h, struct hearth_bytes name) {
    const struct hearth_reply *reply;
    struct objects *o = wait_mapped(h);
    return o ? wait_done(h, objects_barrier_abort(o, in(name)), NULL)
             : object_ask(h, &reply, WORDS(hearth_text("BARRIER.ABORT"), name));
}

int hearth_barrier_info(struct hearth *h, struct hearth_bytes name,
                        struct hearth_barrier_info *ret) {
    const struct hearth_reply *map;
    struct sync_barrier_view v;
    if (attach_can(h, false)) {
        int r = objects_barrier_view(&h->objects, in(name), &v);
        if (object_final(h, r)) {
            if (r == 0) {
                *ret = (struct hearth_barrier_info){v.parties, v.waiting, v.broken};
            }
            return wait_done(h, r, NULL);
        }
    }
    int r = object_ask(h, &map, WORDS(hearth_text("BARRIER.INFO"), name));
    if (r == 0) {
        ret->parties = (uint32_t)hearth_reply_int(hearth_reply_get(map, "parties"));
        ret->waiting = (uint32_t)hearth_reply_int(hearth_reply_get(map, "waiting"));
        ret->broken = (int)hearth_reply_int(hearth_reply_get(map, "broken"));
    }
    return r;
}

void hearth_on_interrupt(struct hearth *h, hearth_interrupt_fn fn, void *arg) {
    h->interrupt_fn = fn;
    h->interrupt_arg = arg;
}
