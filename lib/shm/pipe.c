/* SPDX-License-Identifier: MIT */
/* Pipes: two ways, each a list (list.h) of messages towards one end, with those who wait at either side of it; and who holds
 * which end how many times.
 *
 * As in queue.c a waiter is handed a right and makes its call again: a receiver the right to a message, a sender that to the bytes
 * it asked for (`count` of its party). Senders go in order: one whose message fits waits behind one whose does not. Who
 * polls is told that there is something, and has no right to it.
 *
 * Invariant, at the end of every operation (settle()): nobody waits to receive, or polls, while a message is there that nobody
 * has a right to, or the way has come to its end; the first who waits to send does not fit, and somebody may yet receive.
 * held: bits of the ends that anybody ever held; holders[e]: owners who hold end e, listed as the object's holders with
 * data[e] for how many times each.
 *
 * Fails: as pipe.h says; -EBADMSG where words make no sense. */
#include "lib/shm/pipe.h"

#include <errno.h>

#include "lib/shm/account.h"
#include "lib/shm/alloc.h"
#include "lib/shm/list.h"
#include "lib/shm/op.h"
#include "lib/shm/queue_private.h"

enum pipe_wait { RECV, SEND, POLL, KINDS }; /* the mode of a party: kind * 2 + its end */
enum { WORDS = 24, TAKE_APART = 16 };
#define MESSAGE_MAX (UINT64_C(64) << 20)

struct pipe {
    struct shm_sync *o;
    struct shm_pipe *c;
    unsigned shard;
};

static unsigned mode_of(enum pipe_wait kind, unsigned end) {
    return (unsigned)kind * 2 + end;
}

/* The way that one who waits like that at that end waits for: that towards a receiver's own end, the other one for a sender. */
static unsigned way_of(unsigned mode) {
    return mode / 2 == SEND ? 1 - mode % 2 : mode % 2;
}

/* ---- opening ---- */

static struct shm_pipe *pipe_of(const struct shm *s, const struct shm_sync *o) {
    return content_at(s, o, sizeof(struct shm_pipe));
}

static int bind_pipe(struct shm *s, unsigned shard, struct shm_sync *o, struct pipe *ret) {
    *ret = (struct pipe){o, pipe_of(s, o), shard};
    return ret->c ? 0 : -EBADMSG;
}

static struct list_object list_of(struct pipe *p, unsigned way) {
    struct list_object l = {.list = &p->c->way[way].list};
    l.key.name.shard = p->shard;
    l.account = kind_account(get(&p->o->kind));
    return l;
}

static int open_pipe(struct shm *s, const struct key_name *name, struct pipe *ret) {
    struct shm_sync *o;
    op_changes(s, name->shard);
    int r = sync_open(s, name, KEY_PIPE, false, &o, NULL);
    return r ? r : bind_pipe(s, name->shard, o, ret);
}

/* ... for one who does something at an end. */
static int open_end(struct shm *s, const struct key_name *name, unsigned end, enum pipe_wait kind,
                    struct pipe *ret) {
    int r = end > 1 ? -EINVAL : open_pipe(s, name, ret);
    if (r == 0 && !get(&ret->c->duplex) && (kind == SEND) != (end == 1)) {
        r = -EBADF;
    }
    return r;
}

int pipe_create(struct shm *s, const struct key_name *name, const struct pipe_params *params) {
    struct shm_sync *o;
    struct pipe p = {0};
    uint64_t buffer = params->buffer ? params->buffer : PIPE_BUFFER;
    bool made = false;
    op_changes(s, name->shard);
    int r = sync_open(s, name, KEY_PIPE, true, &o, &made);
    if (r == 0 && made) {
        void *content;
        r = content_make(s, name->shard, o, sizeof(struct shm_pipe), &content);
        if (r == 0) {
            struct shm_pipe *c = content;
            put(&c->duplex, params->duplex);
            put(&c->buffer, buffer);
        }
        return r ? r : 1;
    }
    r = r ? r : bind_pipe(s, name->shard, o, &p);
    if (r == 0 && (get(&p.c->duplex) != params->duplex || get(&p.c->buffer) != buffer)) {
        r = -EEXIST;
    }
    return r;
}

/* ---- what is there ---- */

/* An end was held, and is no longer. */
static bool is_left(const struct shm_pipe *c, unsigned end) {
    return get(&c->held) >> end & 1 && !get(&c->holders[end]);
}

static uint64_t free_messages(const struct shm_pipe_way *w) {
    uint64_t n = get(&w->list.count), rights = get(&w->rights);
    return n > rights ? n - rights : 0;
}

static bool is_empty(const struct shm_pipe_way *w) {
    return get(&w->list.count) == 0;
}

static bool fits(const struct shm_pipe *c, const struct shm_pipe_way *w, uint64_t len) {
    uint64_t used = get(&w->bytes) + get(&w->room), buffer = get(&c->buffer);
    return (used <= buffer && len <= buffer - used) || (is_empty(w) && !get(&w->rooms));
}

/* ---- who waits ---- */

static _Atomic uint64_t *waiting(struct pipe *p, unsigned mode) {
    return &p->c->way[way_of(mode)].waiting[mode / 2];
}

static int answer(struct shm *s, struct pipe *p, struct shm_party *party, unsigned mode, int how) {
    struct shm_pipe_way *w = &p->c->way[way_of(mode)];
    int r = tx_need(s, WORDS);
    if (r == 0) {
        word_take(s, waiting(p, mode), 1);
        if (how == 0 && mode / 2 == RECV) {
            word_add(s, &w->rights, 1);
        } else if (how == 0 && mode / 2 == SEND) {
            word_add(s, &w->room, get(&party->count));
            word_add(s, &w->rooms, 1);
        }
        r = sync_answer(s, p->o, party, how);
    }
    return r;
}

/* The answer for one who waits like that, now. -EINPROGRESS: none. */
static int answer_for(const struct pipe *p, unsigned mode, uint64_t count) {
    const struct shm_pipe_way *w = &p->c->way[way_of(mode)];
    bool over = is_left(p->c, 1 - way_of(mode)), gone = is_left(p->c, way_of(mode));
    switch (mode / 2) {
    case RECV:
        return free_messages(w) ? 0 : over && is_empty(w) ? -EPIPE : -EINPROGRESS;
    case SEND:
        return gone ? -EPIPE : fits(p->c, w, count) ? 0 : -EINPROGRESS;
    default:
        return over || !is_empty(w) ? 0 : -EINPROGRESS;
    }
}

/* Those of one mode, in order, until one has to go on waiting. */
static int settle_mode(struct shm *s, struct pipe *p, unsigned mode) {
    int r = 0;
    if (!get(waiting(p, mode))) {
        return 0;
    }
    struct shm_party *party = sync_first_of(s, p->o), *next;
    for (uint64_t left = s->n_seats; r == 0 && party && left; party = next, left--) {
        next = sync_next(s, party);
        if (party_mode(get(&party->state)) == mode) {
            int how = answer_for(p, mode, get(&party->count));
            if (how == -EINPROGRESS) {
                break;
            }
            r = answer(s, p, party, mode, how);
        }
    }
    return r;
}

static int settle(struct shm *s, struct pipe *p) {
    int r = 0;
    for (unsigned mode = 0; r == 0 && mode < KINDS * 2; mode++) {
        r = settle_mode(s, p, mode);
    }
    return r;
}

static int drop_right(struct shm *s, struct pipe *p, const struct shm_party *party) {
    unsigned mode = party_mode(get(&party->state));
    struct shm_pipe_way *w = &p->c->way[way_of(mode)];
    int r = tx_need(s, WORDS);
    if (r == 0 && mode / 2 == RECV) {
        word_take(s, &w->rights, 1);
    } else if (r == 0 && mode / 2 == SEND) {
        word_take(s, &w->room, get(&party->count));
        word_take(s, &w->rooms, 1);
    }
    return r;
}

/* Begins a call that may wait. 1: it had a right, which is used up; 0: it had none; or what to return. */
static int begin(struct shm *s, struct pipe *p, unsigned mode, uint64_t count) {
    struct shm_party *mine = NULL;
    int r = right_of(s, p->o, mode, &mine);
    if (r == 1) {
        r = get(&mine->count) == count ? drop_right(s, p, mine) : -EINVAL;
        r = r ? r : tx_need(s, 1);
        if (r == 0) {
            tx_set(s, &mine->object, 0);
        }
        return r ? r : 1;
    }
    return r;
}

static int park(struct shm *s, struct pipe *p, unsigned mode, uint64_t count, unsigned flags) {
    return right_await(s, p->o, mode, count, flags, waiting(p, mode));
}

/* ---- holding ---- */

static int hold(struct shm *s, struct pipe *p, unsigned end, bool again) {
    struct shm_party *h = sync_holder(s, p->o, sync_actor(s));
    int r = 0;
    if (h && get(&h->data[end]) && !again) {
        return 0;
    }
    if (!h) {
        account_pays(s, p->shard, kind_account(get(&p->o->kind)));
        r = sync_holder_make(s, p->o, sync_actor(s), 0, &h);
    }
    r = r ? r : tx_need(s, WORDS);
    if (r == 0) {
        if (!get(&h->data[end])) {
            tx_set(s, &p->c->held, get(&p->c->held) | 1u << end);
            word_add(s, &p->c->holders[end], 1);
        }
        word_add(s, &h->data[end], 1);
        tx_set(s, &h->count, get(&h->data[0]) + get(&h->data[1]));
    }
    return r;
}

/* `all`: however many times. */
static int let_go(struct shm *s, struct pipe *p, struct shm_party *h, unsigned end, bool all) {
    uint64_t n = get(&h->data[end]);
    int r = tx_need(s, WORDS);
    if (r == 0 && n) {
        tx_set(s, &h->data[end], all ? 0 : n - 1);
        tx_set(s, &h->count, get(&h->data[0]) + get(&h->data[1]));
        if (all || n == 1) {
            word_take(s, &p->c->holders[end], 1);
        }
    }
    return r;
}

static int drop_if_idle(struct shm *s, struct pipe *p, struct shm_party *h) {
    account_pays(s, p->shard, kind_account(get(&p->o->kind)));
    return get(&h->count) ? 0 : sync_holder_drop(s, p->o, h);
}

int pipe_open(struct shm *s, const struct key_name *name, unsigned end) {
    struct pipe p = {0};
    int r = end > 1 ? -EINVAL : open_pipe(s, name, &p);
    return r ? r : hold(s, &p, end, true);
}

int pipe_close(struct shm *s, const struct key_name *name, unsigned end) {
    struct pipe p = {0};
    int r = end > 1 ? -EINVAL : open_pipe(s, name, &p);
    struct shm_party *h = r ? NULL : sync_holder(s, p.o, sync_actor(s));
    if (r || !h || !get(&h->data[end])) {
        return r ? r : -EPERM;
    }
    r = let_go(s, &p, h, end, false);
    r = r ? r : drop_if_idle(s, &p, h);
    return r ? r : settle(s, &p);
}

/* ---- messages ---- */

int pipe_send(struct shm *s, const struct key_name *name, unsigned end, const void *data,
              size_t len, unsigned flags) {
    struct pipe p = {0};
    unsigned mode = mode_of(SEND, end);
    int r = len > MESSAGE_MAX ? -EMSGSIZE : open_end(s, name, end, SEND, &p);
    int right = r ? r : begin(s, &p, mode, len);
    if (right < 0) {
        return right;
    }
    struct shm_pipe_way *w = &p.c->way[way_of(mode)];
    if (is_left(p.c, 1 - end)) {
        return -EPIPE;
    }
    r = hold(s, &p, end, false);
    if (r == 0 && !right && (get(waiting(&p, mode)) || !fits(p.c, w, len))) {
        return park(s, &p, mode, len, flags);
    }
    struct list_object l = list_of(&p, way_of(mode));
    r = r ? r : list_push(s, &l, false, data, len);
    r = r ? r : tx_need(s, WORDS);
    if (r == 0) {
        word_add(s, &w->bytes, len);
        r = settle(s, &p);
    }
    return r;
}

int pipe_recv(struct shm *s, const struct key_name *name, unsigned end, unsigned flags,
              pipe_message *fn, void *arg) {
    struct pipe p = {0};
    struct task_bytes b = {0};
    unsigned mode = mode_of(RECV, end);
    int r = open_end(s, name, end, RECV, &p);
    int right = r ? r : begin(s, &p, mode, 1);
    if (right < 0) {
        return right;
    }
    struct shm_pipe_way *w = &p.c->way[end];
    if (!right && !free_messages(w) && is_empty(w) && is_left(p.c, 1 - end)) {
        return -EPIPE;
    }
    r = hold(s, &p, end, false);
    if (r == 0 && !free_messages(w)) {
        return park(s, &p, mode, 1, flags);
    }
    struct list_object l = list_of(&p, end);
    r = r ? r : list_pop(s, &l, true, &b);
    r = r ? r : tx_need(s, WORDS);
    if (r == 0) {
        word_take(s, &w->bytes, b.len);
        r = settle(s, &p);
    }
    r = r ? r : fn(arg, b.data, b.len);
    return r < 0 ? r : 0;
}

int pipe_poll(struct shm *s, const struct key_name *name, unsigned end, unsigned flags) {
    struct pipe p = {0};
    unsigned mode = mode_of(POLL, end);
    int r = open_end(s, name, end, POLL, &p);
    int right = r ? r : begin(s, &p, mode, 1);
    if (right != 0) {
        return right < 0 ? right : 0;
    }
    return answer_for(&p, mode, 1) == 0 ? 0 : park(s, &p, mode, 1, flags);
}

int pipe_view(struct shm *s, const struct key_name *name, struct pipe_view *ret) {
    struct shm_sync *o;
    int r = sync_find(s, name, KEY_PIPE, &o);
    const struct shm_pipe *c = r ? NULL : pipe_of(s, o);
    if (r || !c) {
        return r ? r : -ESTALE;
    }
    *ret = (struct pipe_view){.duplex = get(&c->duplex), .buffer = get(&c->buffer)};
    for (unsigned i = 0; i < 2; i++) {
        ret->end[i].holders = get(&c->holders[i]);
        ret->end[i].held = get(&c->held) >> i & 1;
        ret->end[i].messages = get(&c->way[i].list.count);
        ret->end[i].bytes = get(&c->way[i].bytes);
    }
    return 0;
}

/* ---- as a kind of sync object ---- */

static int bury(struct shm *s, struct shm_sync *o, uint32_t owner) {
    struct pipe p = {0};
    struct shm_party *h = pipe_of(s, o) ? sync_holder(s, o, owner) : NULL;
    int r = h ? bind_pipe(s, sync_shard(o), o, &p) : 0;
    if (r || !h) {
        return r;
    }
    r = let_go(s, &p, h, 0, true);
    r = r ? r : let_go(s, &p, h, 1, true);
    r = r ? r : drop_if_idle(s, &p, h);
    r = r ? r : settle(s, &p);
    return r ? r : 1;
}

static int has_left(struct shm *s, struct shm_sync *o, struct shm_party *party, bool died) {
    struct pipe p = {0};
    unsigned mode = party_mode(get(&party->state));
    (void)died;
    if (mode >= KINDS * 2 || !pipe_of(s, o)) {
        return 0;
    }
    int r = bind_pipe(s, sync_shard(o), o, &p);
    r = r ? r : tx_need(s, WORDS);
    if (r == 0) {
        word_take(s, waiting(&p, mode), 1);
        r = mode / 2 == SEND ? settle(s, &p) : 0; /* the next one may be smaller */
    }
    return r;
}

/* Holders may have died without anybody having seen it. */
static int look(struct shm *s, struct shm_sync *o, struct shm_party *party) {
    int r = 0;
    (void)party;
    uint64_t off = get(&o->holders), left = s->n_seats;
    while (r == 0 && off && left--) {
        const struct shm_party *h = alloc_ptr(s, off, sizeof(*h));
        if (!h) {
            return -EBADMSG;
        }
        off = get(&h->next);
        if (sync_is_dead(s, party_owner(h))) {
            op_changes(s, sync_shard(o));
            r = bury(s, o, party_owner(h));
            r = r > 0 ? 0 : r;
        }
    }
    return r;
}

static int undo(struct shm *s, struct shm_sync *o, unsigned shard, struct shm_party *party) {
    struct pipe p = {0};
    uint64_t state = get(&party->state);
    if (!o || party_mode(state) >= KINDS * 2 || party_answer(state) < 0 || !pipe_of(s, o)) {
        return 0;
    }
    int r = bind_pipe(s, shard, o, &p);
    r = r ? r : drop_right(s, &p, party);
    return r ? r : settle(s, &p);
}

static int take_apart(struct shm *s, unsigned shard, struct shm_sync *o) {
    struct shm_pipe *c = pipe_of(s, o);
    if (!c) {
        return 0;
    }
    int r = list_take_apart(s, shard, &c->way[0].list, TAKE_APART);
    r = r ? r : list_take_apart(s, shard, &c->way[1].list, TAKE_APART);
    return r ? r : content_free(s, shard, o);
}

static int blocks(struct shm *s, const struct shm_sync *o,
                  int (*fn)(void *arg, uint64_t off, uint64_t bytes), void *arg) {
    const struct shm_pipe *c = pipe_of(s, o);
    if (!c) {
        return get(&o->words[0]) ? -ESTALE : 0;
    }
    int r = fn(arg, get(&o->words[0]), sizeof(*c));
    r = r ? r : list_blocks(s, &c->way[0].list, fn, arg);
    return r ? r : list_blocks(s, &c->way[1].list, fn, arg);
}

const struct sync_kind sync_kind_pipe = {.bury = bury,
                                         .left = has_left,
                                         .look = look,
                                         .collect = right_collect,
                                         .undo = undo,
                                         .take_apart = take_apart,
                                         .blocks = blocks,
                                         .check = pipe_check};
