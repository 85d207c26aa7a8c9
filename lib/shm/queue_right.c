/* SPDX-License-Identifier: MIT */
/* What queues and pipes are alike in. Nobody is handed an item, a place or a message while he sleeps, but a right to one: his party
 * stays answered until he makes his call again, which finds it and uses the right up. And what they hold lies in a block of
 * its own, since the words of an object are too few for it.
 *
 * Fails: as sync.h says. */
#include <errno.h>
#include <string.h>

#include "lib/shm/account.h"
#include "lib/shm/alloc.h"
#include "lib/shm/op.h"
#include "lib/shm/queue_private.h"

int right_of(struct shm *s, const struct shm_sync *o, unsigned mode, struct shm_party **ret) {
    struct shm_seat *seat = sync_seat(s, sync_actor(s));
    struct shm_party *p = seat ? &seat->waiting : NULL;
    uint64_t state = p ? get(&p->state) : 0;
    if (!p || !get(&p->object)) {
        return 0;
    }
    if (get(&p->object) != sync_off(s, o) || get(&p->who) >> 32 != (uint32_t)get(&o->birth) ||
        party_mode(state) != mode) {
        return -EALREADY;
    }
    if (party_state(state) == PARTY_WAITS) {
        return -EINPROGRESS;
    }
    *ret = p;
    return party_answer(state) < 0 ? party_answer(state) : 1;
}

int right_await(struct shm *s, struct shm_sync *o, unsigned mode, uint64_t count, unsigned flags,
                _Atomic uint64_t *waiting) {
    int r = sync_park(s, o, mode, count, flags, NULL);
    if (r == -EINPROGRESS) {
        int e = tx_need(s, 1);
        if (e) {
            return e;
        }
        word_add(s, waiting, 1);
    }
    return r;
}

int right_collect(struct shm *s, struct shm_sync *o, struct shm_party *p, int *answer) {
    (void)s;
    (void)p;
    (void)answer;
    return o != NULL;
}

void *content_at(const struct shm *s, const struct shm_sync *o, size_t size) {
    return alloc_ptr(s, get(&o->words[0]), size);
}

int content_make(struct shm *s, unsigned shard, struct shm_sync *o, size_t size, void **ret) {
    uint64_t off;
    account_pays(s, shard, kind_account(get(&o->kind)));
    int r = alloc_tx(s, size, &off);
    r = r ? r : tx_need(s, 1);
    if (r == 0) {
        memset(s->base + off, 0, size); /* nobody's before the commit */
        tx_set(s, &o->words[0], off);
        *ret = s->base + off;
    }
    return r;
}

int content_free(struct shm *s, unsigned shard, struct shm_sync *o) {
    int r = tx_need(s, 4);
    if (r == 0) {
        op_free(s, shard, get(&o->words[0]));
        tx_set(s, &o->words[0], 0);
    }
    return r;
}
