/* SPDX-License-Identifier: MIT */
/* Whether a queue or a pipe is as it should be, for check.c: what is counted is there, rights are in the hands of those who were
 * answered, and nobody waits for what is to be had. That blocks are owned once is seen to elsewhere.
 *
 * Fails: says what is wrong. Walks are bounded. */
#include "lib/shm/alloc.h"
#include "lib/shm/list.h"
#include "lib/shm/queue_private.h"
#include "lib/shm/sync_private.h"

enum { MODES = 6 };

/* Those who wait for an object, and those who have been answered and not come yet, by mode. */
struct count {
    uint64_t waiting[MODES], rights[MODES], room;
};

static void count_parties(const struct shm *s, const struct shm_sync *o, unsigned sender,
                          struct count *ret) {
    uint32_t used = get32(&s->head->seats_used);
    *ret = (struct count){0};
    used = used < s->n_slots ? s->n_slots : used > s->n_seats ? s->n_seats : used;
    for (uint32_t i = 0; i < used; i++) {
        const struct shm_party *p = &s->seats[i].waiting;
        uint64_t state = get(&p->state);
        unsigned mode = party_mode(state);
        bool ours = get(&p->object) == sync_off(s, o) && mode < MODES &&
                    get(&p->who) >> 32 == (uint32_t)get(&o->birth);
        if (ours && party_state(state) == PARTY_WAITS) {
            ret->waiting[mode]++;
        } else if (ours && party_answer(state) >= 0) {
            ret->rights[mode]++;
            ret->room += mode / 2 == sender ? get(&p->count) : 0;
        }
    }
}

static int count_one(void *arg, uint64_t index, const void *data, size_t len) {
    uint64_t *n = arg;
    (void)index;
    (void)data;
    n[0]++;
    n[1] += len;
    return 0;
}

static bool is_counted(struct shm *s, struct shm_list *l, uint64_t *ret_bytes) {
    struct list_object o = {.list = l};
    uint64_t n[2] = {0, 0};
    int r = list_walk(s, &o, 0, false, count_one, n);
    *ret_bytes = n[1];
    return r == 0 && n[0] == get(&l->count);
}

/* ---- queues ---- */

static uint64_t chain_length(struct shm *s, const struct shm_queue *c, uint64_t off, bool leased,
                             bool *ret_sound) {
    uint64_t n = 0;
    for (; off && n <= get(&c->leased) + get(&c->returned); n++) {
        struct shm_item *item = alloc_ptr(s, off, sizeof(*item)), *found = NULL;
        if (!item || (get(&item->lease) != 0) != leased ||
            (leased && (lease_find(s, c, get(&item->lease), true, &found) || found != item))) {
            *ret_sound = false;
            return n;
        }
        off = get(&item->next);
    }
    return n;
}

const char *queue_check(struct shm *s, const struct shm_sync *o) {
    struct shm_queue *c = content_at(s, o, sizeof(*c));
    struct count n;
    uint64_t bytes, leased = 0;
    bool sound = true;
    if (!c) {
        return "it has no content";
    }
    leased = chain_length(s, c, get(&c->chains[0].first), true, &sound) +
             chain_length(s, c, get(&c->chains[1].first), true, &sound);
    if (!sound || leased != get(&c->leased) ||
        chain_length(s, c, get(&c->front), false, &sound) != get(&c->returned) || !sound) {
        return "what is on lease, or came back, is not what is counted";
    }
    if (!is_counted(s, &c->list, &bytes)) {
        return "its items are not what is counted";
    }
    count_parties(s, o, MODES, &n);
    for (unsigned i = 0; i < WAITS; i++) {
        if (n.waiting[i] != get(&c->waiting[i]) ||
            (i < WAIT_JOIN && n.rights[i] != get(&c->rights[i]))) {
            return "those who wait, or have a right, are not those who are counted";
        }
    }
    uint64_t items = get(&c->list.count) + get(&c->returned), max = get(&c->max_items);
    if ((n.waiting[WAIT_GET] && items > n.rights[WAIT_GET]) ||
        (n.waiting[WAIT_PUT] && (!max || get(&c->closed) || items + n.rights[WAIT_PUT] < max)) ||
        (n.waiting[WAIT_JOIN] && !get(&c->unfinished))) {
        return "somebody waits for what is to be had";
    }
    return NULL;
}

/* ---- pipes: modes are kind * 2 + end, kinds are receiving, sending, polling ---- */

const char *pipe_check(struct shm *s, const struct shm_sync *o) {
    struct shm_pipe *c = content_at(s, o, sizeof(*c));
    struct count n;
    uint64_t holders[2] = {0, 0}, left = get(&o->n_holders);
    if (!c) {
        return "it has no content";
    }
    const struct shm_party *p = sync_party_at(s, get(&o->holders));
    for (; p && left--; p = sync_next(s, p)) {
        holders[0] += get(&p->data[0]) != 0;
        holders[1] += get(&p->data[1]) != 0;
    }
    count_parties(s, o, 1, &n);
    for (unsigned i = 0; i < 2; i++) {
        struct shm_pipe_way *w = &c->way[i];
        uint64_t bytes;
        if (!is_counted(s, &w->list, &bytes) || bytes != get(&w->bytes)) {
            return "its messages are not what is counted";
        }
        if (holders[i] != get(&c->holders[i])) {
            return "those who hold an end are not those who are counted";
        }
        if (n.waiting[i] != get(&w->waiting[0]) || n.waiting[3 - i] != get(&w->waiting[1]) ||
            n.waiting[4 + i] != get(&w->waiting[2]) || n.rights[i] != get(&w->rights) ||
            n.rights[3 - i] != get(&w->rooms)) {
            return "those who wait, or have a right, are not those who are counted";
        }
        if ((n.waiting[i] && get(&w->list.count) > n.rights[i]) ||
            (n.waiting[4 + i] && get(&w->list.count))) {
            return "somebody waits for what is to be had";
        }
    }
    return n.room == get(&c->way[0].room) + get(&c->way[1].room) ? NULL
                                                                 : "room is promised to nobody";
}
