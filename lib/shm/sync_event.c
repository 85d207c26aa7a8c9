/* SPDX-License-Identifier: MIT */
/* Events: a flag, and those who wait until it is set. Who waited when it was set has seen it, even if it is cleared again before he
 * looks. An event that nobody has made yet is one that is not set.
 *
 * Setting answers everybody in line in one transaction; of thousands the undo log grows (op_run()).
 *
 * Fails: as sync.h says. */
#include <errno.h>

#include "lib/shm/internal.h"
#include "lib/shm/lock.h"
#include "lib/shm/op.h"
#include "lib/shm/sync_private.h"

enum { FLAG }; /* words of the object */

static int put_flag(struct shm *s, struct shm_sync *o, uint64_t v) {
    int r = tx_need(s, 1);
    if (r == 0 && get(&o->words[FLAG]) != v) {
        op_changes(s, sync_shard(o));
        tx_set(s, &o->words[FLAG], v);
    }
    return r;
}

int sync_event_set(struct shm *s, const struct key_name *name) {
    struct shm_sync *o;
    int r = sync_open(s, name, KEY_EVENT, true, &o, NULL);
    r = r ? r : put_flag(s, o, 1);
    if (r) {
        return r;
    }
    int64_t n = sync_answer_all(s, o, 0);
    return n < 0 ? (int)n : 0;
}

int sync_event_clear(struct shm *s, const struct key_name *name) {
    struct shm_sync *o;
    int r = sync_open(s, name, KEY_EVENT, false, &o, NULL);
    return r == -ENOENT ? 0 : r ? r : put_flag(s, o, 0);
}

int sync_event_is_set(struct shm *s, const struct key_name *name) {
    struct shm_sync *o;
    int r = sync_find(s, name, KEY_EVENT, &o);
    return r == -ENOENT ? 0 : r ? r : get(&o->words[FLAG]) != 0;
}

int sync_event_wait(struct shm *s, const struct key_name *name, unsigned flags) {
    struct shm_sync *o;
    int r = sync_open(s, name, KEY_EVENT, true, &o, NULL);
    if (r) {
        return r;
    }
    return get(&o->words[FLAG]) ? 0 : sync_park(s, o, 'w', 0, flags, NULL);
}

const struct sync_kind sync_kind_event = {0};
