/* SPDX-License-Identifier: MIT */
/* Mapping the daemon's segment. The reply to SEGMENT.ATTACH brings descriptors beside its bytes; the handle then has a slot of
 * its own, like a worker, and takes locks in it. The daemon watches the process and buries the slot when it dies.
 *
 * A segment does not say that its daemon is gone: the daemon's own slot does, and is looked at before each call (two loads).
 * A call that finds it dead goes to the connection, which fails as a lost one does.
 *
 * Fails: as hearth.h says. */
#include <errno.h>
#include <unistd.h>

#include "client/handle.h"
#include "lib/base/cleanup.h"
#include "lib/shm/account.h"
#include "lib/shm/slot.h"

void attach_drop_fds(struct hearth *h) {
    for (int i = 0; i < h->n_fds; i++) {
        close(h->fds[i]);
    }
    h->n_fds = 0;
}

void attach_end(struct hearth *h) {
    if (h->attached == 0) {
        return;
    }
    int bell = h->shm.bell_fd;
    objects_deinit(&h->objects);
    if (h->shm.mine) {
        slot_set_state(&h->shm, SLOT_RETIRED); /* the daemon may have it back once we hang up */
    }
    shm_detach(&h->shm);
    if (bell >= 0) {
        close(bell);
    }
    h->attached = 0;
}

void hearth_abandon(struct hearth *h) {
    if (!h) {
        return;
    }
    int bell = h->attached ? h->shm.bell_fd : -1;
    if (h->attached) {
        h->shm.mine =
            NULL; /* the slot is the parent's: its mutex stays locked, its state as it is */
        shm_detach(&h->shm);
        h->attached = 0;
    }
    if (bell >= 0) {
        close(bell);
    }
    if (h->fd >= 0) {
        close(h->fd);
        h->fd = -1;
    }
}

static uint64_t number(const struct hearth_reply *map, const char *key) {
    return (uint64_t)hearth_reply_int(hearth_reply_get(map, key));
}

static int take_slot(struct hearth *h, const struct hearth_reply *map) {
    uint32_t slot = (uint32_t)number(map, "slot"), gen = (uint32_t)number(map, "generation");
    int r = slot_attach(&h->shm, slot, gen);
    if (r < 0) {
        return result_say(h, r, "the slot in the segment is not for this process");
    }
    h->shm.bell_fd = steal_fd(&h->fds[1]);
    h->n_fds = 1;
    slot_set_state(&h->shm, SLOT_SERVING);
    account_act_as(&h->shm, geteuid());
    return 0;
}

/* With the reply and its descriptors here. */
static int map_segment(struct hearth *h, const struct hearth_reply *map, bool readonly) {
    if (hearth_reply_type(map) == HEARTH_REPLY_ERROR) {
        return result_error(h, h->doc.v);
    }
    if (hearth_reply_type(map) != HEARTH_REPLY_MAP || h->n_fds != (readonly ? 1 : 2)) {
        return result_say(h, HEARTH_E_PROTOCOL, "not an answer to SEGMENT.ATTACH");
    }
    int r = readonly ? shm_attach_readonly(&h->shm, h->fds[0]) : shm_attach(&h->shm, h->fds[0]);
    if (r < 0) {
        return result_say(h, r, "the segment cannot be mapped: %s", hearth_strerror(r));
    }
    r = readonly ? 0 : take_slot(h, map);
    if (r < 0) {
        shm_detach(&h->shm);
        return r;
    }
    h->daemon = (uint32_t)number(map, "daemon");
    objects_init(&h->objects, &h->shm);
    h->attached = readonly ? 1 : 2;
    h->attach_turn++;
    return 0;
}

int hearth_attach(struct hearth *h, int readonly) {
    const char *const words[] = {"SEGMENT.ATTACH", "READONLY"};
    const struct hearth_reply *map;
    if (h->attached) {
        return result_say(h, -EISCONN, "attached already");
    }
    h->takes_fds = true;
    int r = hearth_command(h, readonly ? 2 : 1, words, NULL, &map);
    h->takes_fds = false;
    if (r == 0) {
        r = map_segment(h, map, readonly != 0);
    }
    attach_drop_fds(h);
    if (r == 0) {
        h->wanted = h->attached;
    }
    return r;
}

int hearth_attached(const struct hearth *h) {
    return h->attached;
}

void attach_again(struct hearth *h) {
    if (h->wanted) {
        hearth_attach(h, h->wanted == 1);
    }
}

bool attach_can(struct hearth *h, bool change) {
    return h->attached > change && !h->lost && !slot_is_dead(&h->shm, h->daemon);
}
