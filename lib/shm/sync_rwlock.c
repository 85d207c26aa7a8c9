/* SPDX-License-Identifier: MIT */
/* Reader-writer locks. The writer stands in the word; a reader is a party that holds, and words[0] counts those that read. Strictly in
 * order of coming: who comes behind a waiting writer waits, so writers are not starved; only who reads already may read
 * once more at once, or it would wait for itself.
 *
 * A reader's block is made when it gets in line, with a count of 0, so that letting it in needs no memory.
 *
 * Fails: as sync.h says. */
#include <errno.h>

#include "lib/base/clock.h"
#include "lib/shm/internal.h"
#include "lib/shm/lock.h"
#include "lib/shm/op.h"
#include "lib/shm/sync_private.h"

enum { READING }; /* word: readers let in */
enum { MODE_READ = 'r', MODE_WRITE = 'w' };

static uint32_t writer_of(const struct shm_sync *o) {
    return sync_word_owner(get(&o->word));
}

static int set_writer(struct shm *s, struct shm_sync *o, uint32_t owner) {
    int r = tx_need(s, 4);
    if (r == 0) {
        op_changes(s, sync_shard(o));
        tx_set(s, &o->word, sync_word(sync_word_serial(get(&o->word)), true, owner));
        tx_set(s, &o->since, owner ? clock_now() / NS_PER_MS : 0);
    }
    return r;
}

static int count_reader(struct shm *s, struct shm_sync *o, struct shm_party *holder, int by) {
    int r = tx_need(s, 4);
    if (r == 0) {
        op_changes(s, sync_shard(o));
        uint64_t before = get(&holder->count), after = before + (uint64_t)(int64_t)by;
        tx_set(s, &holder->count, after);
        if (!before != !after) {
            tx_set(s, &o->words[READING], get(&o->words[READING]) + (uint64_t)(int64_t)by);
        }
    }
    return r;
}

/* Lets in whom there is room for now. */
static int let_in(struct shm *s, struct shm_sync *o, int answer) {
    struct shm_party *p;
    int r = 0;
    while (r == 0 && !writer_of(o) && (p = sync_first(s, o, &r)) != NULL) {
        bool reads = party_mode(get(&p->state)) == MODE_READ;
        struct shm_party *holder = reads ? sync_holder(s, o, party_owner(p)) : NULL;
        if (reads && !holder) {
            r = sync_answer(s, o, p, -EBADMSG); /* damaged by somebody */
            continue;
        }
        if (!reads && get(&o->words[READING])) {
            break;
        }
        r = reads ? count_reader(s, o, holder, 1) : set_writer(s, o, party_owner(p));
        r = r ? r : sync_answer(s, o, p, answer);
    }
    return r;
}

static int drop_reader(struct shm *s, struct shm_sync *o, struct shm_party *holder) {
    int r = tx_need(s, 4);
    if (r == 0 && get(&holder->count)) {
        op_changes(s, sync_shard(o));
        tx_set(s, &o->words[READING], get(&o->words[READING]) - 1);
    }
    return r ? r : sync_holder_drop(s, o, holder);
}

static int bury(struct shm *s, struct shm_sync *o, uint32_t owner) {
    struct shm_party *holder = sync_holder(s, o, owner);
    bool wrote = writer_of(o) == owner;
    if (!wrote && !holder) {
        return 0;
    }
    int r = wrote ? set_writer(s, o, 0) : 0;
    if (r == 0 && holder) {
        r = drop_reader(s, o, holder);
    }
    r = r ? r : let_in(s, o, wrote ? SYNC_DIED : 0);
    return r ? r : 1;
}

static int left(struct shm *s, struct shm_sync *o, struct shm_party *p, bool died) {
    struct shm_party *holder = sync_holder(s, o, party_owner(p));
    (void)died;
    int r = holder && !get(&holder->count) ? sync_holder_drop(s, o, holder) : 0;
    return r ? r : let_in(s, o, 0);
}

/* Whoever of the holders has died goes. */
static int drop_dead(struct shm *s, struct shm_sync *o) {
    int r = 0;
    if (writer_of(o) && sync_is_dead(s, writer_of(o))) {
        r = bury(s, o, writer_of(o));
    }
    struct shm_party *p = sync_holders(s, o), *next;
    for (uint64_t n = sync_at_most(s, &o->n_holders); r >= 0 && p && n > 0; n--, p = next) {
        next = sync_next(s, p);
        if (sync_is_dead(s, party_owner(p))) {
            r = bury(s, o, party_owner(p));
        }
    }
    return r < 0 ? r : 0;
}

static int look(struct shm *s, struct shm_sync *o, struct shm_party *p) {
    (void)p;
    return drop_dead(s, o);
}

const struct sync_kind sync_kind_rwlock = {.bury = bury, .left = left, .look = look};

static int open_rwlock(struct shm *s, const struct key_name *name, struct shm_sync **ret) {
    int r = sync_open(s, name, KEY_RWLOCK, true, ret, NULL);
    return r ? r : drop_dead(s, *ret);
}

int sync_rwlock_read(struct shm *s, const struct key_name *name, unsigned flags) {
    struct shm_sync *o;
    struct shm_party *holder;
    uint32_t me = sync_actor(s);
    bool died =
        sync_find(s, name, KEY_RWLOCK, &o) == 0 && writer_of(o) && sync_is_dead(s, writer_of(o));
    int r = open_rwlock(s, name, &o);
    if (r) {
        return r;
    }
    if (writer_of(o) == me && !(flags & SYNC_NO_CHECK)) {
        return -EDEADLK;
    }
    holder = sync_holder(s, o, me);
    bool reads = holder && get(&holder->count), free = !writer_of(o) && !get(&o->first);
    if (!reads && !free && !(flags & SYNC_WAIT)) {
        return -EBUSY;
    }
    r = sync_holder_make(s, o, me, MODE_READ, &holder);
    if (r) {
        return r;
    }
    if (!reads && !free) {
        return sync_park(s, o, MODE_READ, 1, flags, NULL);
    }
    r = count_reader(s, o, holder, 1);
    return r ? r : died ? SYNC_DIED : 0;
}

int sync_rwlock_write(struct shm *s, const struct key_name *name, unsigned flags) {
    struct shm_sync *o;
    uint32_t me = sync_actor(s);
    bool died =
        sync_find(s, name, KEY_RWLOCK, &o) == 0 && writer_of(o) && sync_is_dead(s, writer_of(o));
    int r = open_rwlock(s, name, &o);
    if (r) {
        return r;
    }
    if ((writer_of(o) == me || sync_holder(s, o, me)) && !(flags & SYNC_NO_CHECK)) {
        return -EDEADLK;
    }
    if (writer_of(o) || get(&o->words[READING]) || get(&o->first)) {
        return sync_park(s, o, MODE_WRITE, 1, flags, NULL);
    }
    sync_enrol(s, name->shard);
    r = set_writer(s, o, me);
    return r ? r : died ? SYNC_DIED : 0;
}

int sync_rwlock_release(struct shm *s, const struct key_name *name, unsigned flags) {
    struct shm_sync *o;
    uint32_t me = sync_actor(s);
    int r = sync_open(s, name, KEY_RWLOCK, false, &o, NULL);
    if (r) {
        return r == -ENOENT ? -EPERM : r;
    }
    uint32_t writer = writer_of(o);
    if (writer && (writer == me || flags & SYNC_FORCE)) {
        r = set_writer(s, o, 0);
        return r ? r : let_in(s, o, 0);
    }
    struct shm_party *holder = sync_holder(s, o, me);
    if (!holder || !get(&holder->count)) {
        return -EPERM;
    }
    if (get(&holder->count) > 1) {
        r = count_reader(s, o, holder, -1);
        return r ? r : 1;
    }
    r = drop_reader(s, o, holder);
    return r ? r : let_in(s, o, 0);
}
