/* SPDX-License-Identifier: MIT */
/* Locks for those who have the segment mapped. A wait is an operation that stands in line, a look for a cycle, and sleep.
 *
 * A handle remembers the locks it used last, so that the next time is the short way of sync.h (sync_ref_lock()) without a look
 * into the keyspace. Inside of a transaction everything goes the long way, since it may be undone.
 *
 * Fails: as objects_sync.h says. */
#include "lib/shm/objects_sync.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/shm/internal.h"
#include "lib/shm/objects_wait.h"
#include "lib/shm/op.h"
#include "lib/shm/sync.h"

/* ---- running ---- */

struct sync_ask objects_sync_ask(struct objects *o, struct task_bytes name, unsigned flags) {
    return (struct sync_ask){.o = o, .name = key_name(o->shm, name.data, name.len), .flags = flags};
}

static bool is_listed(const struct objects *o, const struct key_name *name) {
    for (size_t i = 0; o->names && i < o->n_names; i++) {
        if (objects_same_name(&o->names[i], name)) {
            return true;
        }
    }
    return !o->names;
}

static int run(struct sync_ask *a, sync_fn *fn) {
    struct shm *s = a->o->shm;
    uint64_t shards = key_shard_bit(&a->name) | (a->also ? key_shard_bit(&a->to) : 0);
    if (!is_listed(a->o, &a->name) || (a->also && !is_listed(a->o, &a->to))) {
        return -EDEADLK;
    }
    int r = s->mine ? op_run(s, shards, fn, a) : -EPERM;
    return r == -ESTALE ? -EBADMSG : r;
}

int objects_sync_wait(struct sync_ask *a, int64_t ms, sync_fn *fn) {
    struct shm *s = a->o->shm;
    if (ms && a->o->names) {
        int r = run(a, fn);
        return r == -EBUSY ? -EDEADLK : r;
    }
    a->flags |= ms ? SYNC_WAIT : 0;
    int r = run(a, fn);
    if (r == -EINPROGRESS && !(a->flags & SYNC_NO_CHECK)) {
        r = sync_check_cycle(s);
        r = r == -EAGAIN ? -EINPROGRESS : r;
    }
    return r == -EINPROGRESS ? sync_wait(s, ms) : r;
}

int objects_sync_change(struct sync_ask *a, sync_fn *fn) {
    return run(a, fn);
}

int objects_sync_look(struct sync_ask *a, sync_fn *fn) {
    if (!is_listed(a->o, &a->name)) {
        return -EDEADLK;
    }
    return op_read(a->o->shm, a->name.shard, fn, a);
}

int objects_sync_release_all(struct objects *o) {
    return o->shm->mine && !o->names ? sync_release_all(o->shm) : -EPERM;
}

/* ---- the locks used last ---- */

/* The place for a lock of that name; NULL: none, it goes the long way. A place that had another name is made over. */
static struct sync_ref *recall(struct objects *o, const struct key_name *name, bool again) {
    struct objects_lock *l;
    if (o->names || !o->shm->mine || name->word.len > sizeof(l->text)) {
        return NULL;
    }
    if (!o->locks) {
        o->locks = calloc((size_t)2 * OBJECTS_LOCKS, sizeof(*o->locks));
        if (!o->locks) {
            return NULL;
        }
    }
    l = &o->locks[name->word.hash % OBJECTS_LOCKS + (again ? OBJECTS_LOCKS : 0)];
    if (!l->ref.name.word.data || !objects_same_name(&l->ref.name, name)) {
        l->ref = (struct sync_ref){.name = *name};
        if (name->word.len) {
            memcpy(l->text, name->word.data, name->word.len);
        }
        l->ref.name.word.data = l->text;
    }
    return &l->ref;
}

/* ---- Lock ---- */

static int lock_acquire(struct shm *s, void *arg) {
    const struct sync_ask *a = arg;
    return sync_lock_acquire(s, &a->name, a->flags);
}

static int lock_release(struct shm *s, void *arg) {
    const struct sync_ask *a = arg;
    return sync_lock_release(s, &a->name, a->flags);
}

static int lock_is_held(struct shm *s, void *arg) {
    const struct sync_ask *a = arg;
    return sync_lock_is_held(s, &a->name);
}

int objects_lock_acquire(struct objects *o, struct task_bytes name, int64_t ms, unsigned flags) {
    struct sync_ask a = objects_sync_ask(o, name, flags);
    struct sync_ref *ref = recall(o, &a.name, false);
    return ref && sync_ref_lock(o->shm, ref) == 0 ? 0 : objects_sync_wait(&a, ms, lock_acquire);
}

int objects_lock_release(struct objects *o, struct task_bytes name, unsigned flags) {
    struct sync_ask a = objects_sync_ask(o, name, flags);
    struct sync_ref *ref = recall(o, &a.name, false);
    return ref && sync_ref_unlock(o->shm, ref) == 0 ? 0 : objects_sync_change(&a, lock_release);
}

int objects_lock_is_held(struct objects *o, struct task_bytes name) {
    struct sync_ask a = objects_sync_ask(o, name, 0);
    return objects_sync_look(&a, lock_is_held);
}

/* ---- RLock ---- */

static int rlock_acquire(struct shm *s, void *arg) {
    const struct sync_ask *a = arg;
    return sync_rlock_acquire(s, &a->name, a->flags);
}

static int rlock_release(struct shm *s, void *arg) {
    const struct sync_ask *a = arg;
    return sync_rlock_release(s, &a->name, a->flags);
}

int objects_rlock_acquire(struct objects *o, struct task_bytes name, int64_t ms, unsigned flags) {
    struct sync_ask a = objects_sync_ask(o, name, flags);
    struct sync_ref *ref = recall(o, &a.name, true);
    return ref && sync_ref_rlock(o->shm, ref) == 0 ? 0 : objects_sync_wait(&a, ms, rlock_acquire);
}

int objects_rlock_release(struct objects *o, struct task_bytes name, unsigned flags) {
    struct sync_ask a = objects_sync_ask(o, name, flags);
    struct sync_ref *ref = flags & SYNC_FORCE ? NULL : recall(o, &a.name, true);
    int r = ref ? sync_ref_runlock(o->shm, ref) : -EBUSY;
    return r >= 0 ? r : objects_sync_change(&a, rlock_release);
}

/* ---- reader-writer locks ---- */

static int rwlock_read(struct shm *s, void *arg) {
    const struct sync_ask *a = arg;
    return sync_rwlock_read(s, &a->name, a->flags);
}

static int rwlock_write(struct shm *s, void *arg) {
    const struct sync_ask *a = arg;
    return sync_rwlock_write(s, &a->name, a->flags);
}

static int rwlock_release(struct shm *s, void *arg) {
    const struct sync_ask *a = arg;
    return sync_rwlock_release(s, &a->name, a->flags);
}

int objects_rwlock_read(struct objects *o, struct task_bytes name, int64_t ms, unsigned flags) {
    struct sync_ask a = objects_sync_ask(o, name, flags);
    return objects_sync_wait(&a, ms, rwlock_read);
}

int objects_rwlock_write(struct objects *o, struct task_bytes name, int64_t ms, unsigned flags) {
    struct sync_ask a = objects_sync_ask(o, name, flags);
    return objects_sync_wait(&a, ms, rwlock_write);
}

int objects_rwlock_release(struct objects *o, struct task_bytes name, unsigned flags) {
    struct sync_ask a = objects_sync_ask(o, name, flags);
    return objects_sync_change(&a, rwlock_release);
}
