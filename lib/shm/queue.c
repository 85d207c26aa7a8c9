/* SPDX-License-Identifier: MIT */
/* Queues: a list (list.h) of what is to be got, before it what came back from leases, and those who wait.
 *
 * Nobody is handed an item while he sleeps. What is handed over is a right: rights[WAIT_GET] of the items are spoken for, and
 * rights[WAIT_PUT] of the places; who has one makes his call again and finds his party answered. Which of the items it
 * will be does not matter, since a call that is under way may take effect at any moment of it. So the bytes of a waiting
 * putter stay in his own memory, and a getter that dies with a right leaves nothing behind but a number.
 *
 * Invariant, at the end of every operation (settle()): nobody waits to get while there is an item that nobody has a right to, nor
 * to put while there is such a place. waiting[k] and rights[k] count the parties of each kind that stand in line, and that
 * have a right. Of a queue that is closed and drained nobody waits to get: it is drained when it is empty and nobody else has an
 * item on lease, which could come back.
 *
 * Fails: as queue.h says; -EBADMSG where words make no sense. */
#include "lib/shm/queue.h"

#include <errno.h>

#include "lib/base/clock.h"
#include "lib/shm/account.h"
#include "lib/shm/alloc.h"
#include "lib/shm/list.h"
#include "lib/shm/op.h"
#include "lib/shm/queue_private.h"

enum {
    AT_ONCE = 1024,          /* items one operation moves, ... */
    AT_ONCE_BYTES = 1 << 20, /* ... and bytes, so that others come in between */
    WORDS = 24,
    TAKE_APART = 16,
    BURY = 8,
    LOOK = 32,
    EXPIRE = 64,
};
#define ITEM_MAX (UINT64_C(64) << 20)

struct queue {
    struct shm_sync *o;
    struct shm_queue *c;
    struct list_object list;
    unsigned shard;
};

/* ---- counts ---- */

static uint64_t items_in(const struct shm_queue *c) {
    return get(&c->list.count) + get(&c->returned);
}

static uint64_t minus(uint64_t a, uint64_t b) {
    return a > b ? a - b : 0;
}

/* Items, and places, that nobody has a right to. */
static uint64_t free_items(const struct shm_queue *c) {
    return minus(items_in(c), get(&c->rights[WAIT_GET]));
}

static uint64_t free_places(const struct shm_queue *c) {
    uint64_t max = get(&c->max_items);
    return max ? minus(max, items_in(c) + get(&c->rights[WAIT_PUT])) : UINT64_MAX;
}

/* ---- opening ---- */

static struct shm_queue *queue_of(const struct shm *s, const struct shm_sync *o) {
    return content_at(s, o, sizeof(struct shm_queue));
}

static int bind_queue(struct shm *s, unsigned shard, struct shm_sync *o, struct queue *ret) {
    *ret = (struct queue){.o = o, .c = queue_of(s, o), .shard = shard};
    if (!ret->c) {
        return -EBADMSG;
    }
    ret->list.list = &ret->c->list;
    ret->list.key.name.shard = shard;
    ret->list.account = kind_account(get(&o->kind));
    return 0;
}

static int make_content(struct shm *s, unsigned shard, struct shm_sync *o,
                        const struct queue_params *p) {
    void *made;
    int r = content_make(s, shard, o, sizeof(struct shm_queue), &made);
    if (r == 0) {
        struct shm_queue *c = made;
        put(&c->max_items, p->max_items);
        put(&c->lease_ms, (uint64_t)p->lease_ms);
    }
    return r;
}

/* params: NULL: it is not made. */
static int open_queue(struct shm *s, const struct key_name *name, const struct queue_params *params,
                      struct queue *ret, bool *ret_made) {
    struct shm_sync *o;
    bool made = false;
    op_changes(s, name->shard);
    int r = sync_open(s, name, KEY_QUEUE, params != NULL, &o, &made);
    if (r == 0 && made) {
        r = make_content(s, name->shard, o, params);
    }
    r = r ? r : bind_queue(s, name->shard, o, ret);
    if (r == 0 && ret_made) {
        *ret_made = made;
    }
    return r;
}

/* ---- who waits ---- */

/* The first in line of a kind, from p on. */
static struct shm_party *first_of(struct shm *s, struct shm_party *p, unsigned mode) {
    uint64_t left = s->n_seats;
    while (p && party_mode(get(&p->state)) != mode && left--) {
        p = sync_next(s, p);
    }
    return p && party_mode(get(&p->state)) == mode ? p : NULL;
}

static int answer(struct shm *s, struct queue *q, struct shm_party *p, unsigned mode, int how) {
    int r = tx_need(s, WORDS);
    if (r == 0) {
        word_take(s, &q->c->waiting[mode], 1);
        if (how == 0 && mode != WAIT_JOIN) {
            word_add(s, &q->c->rights[mode], 1);
        }
        r = sync_answer(s, q->o, p, how);
    }
    return r;
}

/* Answers the first of a kind. 1: done; 0: there is none. */
static int answer_first(struct shm *s, struct queue *q, unsigned mode, int how) {
    struct shm_party *p = first_of(s, sync_first_of(s, q->o), mode);
    int r = p ? answer(s, q, p, mode, how) : 0;
    return r ? r : p != NULL;
}

static bool is_drained(struct shm *s, const struct shm_queue *c, uint32_t owner) {
    return get(&c->closed) && !items_in(c) && !(get(&c->leased) && lease_others(s, c, owner));
}

/* The queue is closed and empty: those go for whom nothing can come back. */
static int dismiss_getters(struct shm *s, struct queue *q) {
    int r = 0;
    struct shm_party *p = first_of(s, sync_first_of(s, q->o), WAIT_GET), *next;
    for (uint64_t left = s->n_seats; r == 0 && p && left; p = next, left--) {
        next = first_of(s, sync_next(s, p), WAIT_GET);
        if (is_drained(s, q->c, party_owner(p))) {
            r = answer(s, q, p, WAIT_GET, -EPIPE);
        }
    }
    return r;
}

/* Every change ends with this: whoever can go on is told. */
static int settle(struct shm *s, struct queue *q) {
    struct shm_queue *c = q->c;
    bool closed = get(&c->closed);
    int r = 1;
    while (r > 0 && get(&c->waiting[WAIT_GET]) && free_items(c)) {
        r = answer_first(s, q, WAIT_GET, 0);
    }
    r = r < 0 ? r : 1;
    while (r > 0 && get(&c->waiting[WAIT_PUT]) && (closed || free_places(c))) {
        r = answer_first(s, q, WAIT_PUT, closed ? -EPIPE : 0);
    }
    r = r < 0 ? r : 1;
    while (r > 0 && get(&c->waiting[WAIT_JOIN]) && !get(&c->unfinished)) {
        r = answer_first(s, q, WAIT_JOIN, 0);
    }
    if (r >= 0 && closed && get(&c->waiting[WAIT_GET]) && !items_in(c)) {
        r = dismiss_getters(s, q);
    }
    return r < 0 ? r : 0;
}

/* The right is used up, one way or the other. */
static int use_right(struct shm *s, struct queue *q, struct shm_party *p, unsigned mode) {
    int r = tx_need(s, WORDS);
    if (r == 0) {
        word_take(s, &q->c->rights[mode], 1);
        tx_set(s, &p->object, 0);
    }
    return r;
}

static int park(struct shm *s, struct queue *q, unsigned mode, unsigned flags) {
    return right_await(s, q->o, mode, 1, flags, &q->c->waiting[mode]);
}

/* Begins a call that may wait. 1: it has a right, which is used up; 0: it stands nowhere; else what to return. */
static int begin(struct shm *s, struct queue *q, unsigned mode) {
    struct shm_party *mine = NULL;
    int r = right_of(s, q->o, mode, &mine);
    if (r == 1) {
        r = use_right(s, q, mine, mode);
        return r ? r : 1;
    }
    return r;
}

/* ---- making ---- */

static const struct queue_params unbounded = {0, 0};

int queue_create(struct shm *s, const struct key_name *name, const struct queue_params *p) {
    struct queue q = {0};
    bool made = false;
    struct queue_params norm = {p->max_items, p->lease_ms < 0 ? -1 : p->lease_ms};
    int r = open_queue(s, name, &norm, &q, &made);
    if (r || made) {
        return r ? r : 1;
    }
    bool same =
        get(&q.c->max_items) == norm.max_items && get(&q.c->lease_ms) == (uint64_t)norm.lease_ms;
    return same ? 0 : -EEXIST;
}

/* ---- putting ---- */

int queue_put(struct shm *s, const struct key_name *name, const struct task_bytes *items, size_t n,
              unsigned flags) {
    struct queue q = {0};
    if (n == 0) {
        return 0;
    }
    int r = open_queue(s, name, &unbounded, &q, NULL);
    int right = r ? r : begin(s, &q, WAIT_PUT);
    if (right < 0) {
        return right;
    }
    if (get(&q.c->closed)) {
        return -EPIPE;
    }
    uint64_t room = free_places(q.c), put_in = 0, bytes = 0;
    if (room == 0) {
        return park(s, &q, WAIT_PUT, flags);
    }
    while (r == 0 && put_in < n && put_in < room && put_in < AT_ONCE) {
        size_t len = items[put_in].len;
        if (put_in && bytes + len > AT_ONCE_BYTES) {
            break;
        }
        r = len > ITEM_MAX ? -EMSGSIZE : list_push(s, &q.list, false, items[put_in].data, len);
        bytes += len;
        put_in++;
    }
    r = r ? r : tx_need(s, WORDS);
    if (r == 0) {
        word_add(s, &q.c->unfinished, put_in);
        r = settle(s, &q);
    }
    return r ? r : (int)put_in;
}

/* ---- getting ---- */

struct take {
    queue_item *fn;
    void *arg;
    uint64_t bytes;
};

/* The next item goes to the caller. */
static int take_one(struct shm *s, struct queue *q, struct take *t) {
    struct shm_item *item = NULL;
    struct task_bytes b;
    uint64_t lease = 0;
    int r = lease_pop_front(s, q->c, &item);
    if (r == 0) {
        b = (struct task_bytes){item->bytes, get(&item->len)};
        r = alloc_ptr(s, item_off(s, item), sizeof(*item) + b.len) ? 0 : -EBADMSG;
    } else if (r == -ENOENT) {
        r = list_pop(s, &q->list, true, &b);
        r = r == -ENOENT ? -EBADMSG : r; /* it was counted */
    }
    if (r == 0 && get(&q->c->lease_ms)) {
        sync_enrol(s, q->shard);
        account_pays(s, q->shard, q->list.account);
        r = lease_grant(s, q->shard, q->c, item, &b, &lease);
    }
    t->bytes += r ? 0 : b.len;
    return r ? r : t->fn(t->arg, b.data, b.len, lease);
}

int queue_get(struct shm *s, const struct key_name *name, uint64_t max, unsigned flags,
              queue_item *fn, void *arg) {
    struct queue q = {0};
    struct take t = {fn, arg, 0};
    int r = open_queue(s, name, flags & SYNC_WAIT ? &unbounded : NULL, &q, NULL), got = 0;
    if (r == -ENOENT) {
        return -EBUSY;
    }
    int right = r ? r : begin(s, &q, WAIT_GET);
    if (right < 0) {
        return right;
    }
    uint64_t n = free_items(q.c);
    if (n == 0) {
        return is_drained(s, q.c, sync_actor(s)) ? -EPIPE : park(s, &q, WAIT_GET, flags);
    }
    n = n < max ? n : max;
    n = n < AT_ONCE ? n : AT_ONCE;
    for (; r == 0 && (uint64_t)got < n && (!got || t.bytes < AT_ONCE_BYTES); got += r == 0) {
        r = take_one(s, &q, &t);
    }
    r = r ? r : settle(s, &q);
    return r ? r : got;
}

/* ---- afterwards ---- */

static int open_lease(struct shm *s, const struct key_name *name, uint64_t lease, unsigned flags,
                      struct queue *ret, struct shm_item **ret_item) {
    int r = open_queue(s, name, NULL, ret, NULL);
    if (r == 0) {
        account_pays(s, name->shard, ret->list.account);
        r = lease_find(s, ret->c, lease, flags & SYNC_FORCE, ret_item);
    }
    return r;
}

int queue_done(struct shm *s, const struct key_name *name, uint64_t lease, unsigned flags) {
    struct queue q = {0};
    struct shm_item *item;
    int r = open_lease(s, name, lease, flags, &q, &item);
    r = r ? r : lease_end(s, q.c, item);
    r = r ? r : tx_need(s, WORDS);
    if (r == 0) {
        op_free(s, q.shard, item_off(s, item));
        word_take(s, &q.c->unfinished, 1);
        r = settle(s, &q);
    }
    return r;
}

int queue_extend(struct shm *s, const struct key_name *name, uint64_t lease, int64_t ms,
                 unsigned flags) {
    struct queue q = {0};
    struct shm_item *item;
    int r = open_lease(s, name, lease, flags, &q, &item);
    return r ? r : lease_set(s, q.shard, q.c, item, ms);
}

int queue_return(struct shm *s, const struct key_name *name, uint64_t lease, unsigned flags) {
    struct queue q = {0};
    struct shm_item *item;
    int r = open_lease(s, name, lease, flags, &q, &item);
    r = r ? r : lease_return(s, q.c, item);
    return r ? r : settle(s, &q);
}

int queue_task_done(struct shm *s, const struct key_name *name) {
    struct queue q = {0};
    int r = open_queue(s, name, NULL, &q, NULL);
    r = r ? r : get(&q.c->unfinished) ? tx_need(s, WORDS) : -EOVERFLOW;
    if (r == 0) {
        word_take(s, &q.c->unfinished, 1);
        r = settle(s, &q);
    }
    return r;
}

int queue_join(struct shm *s, const struct key_name *name, unsigned flags) {
    struct queue q = {0};
    struct shm_party *mine = NULL;
    int r = open_queue(s, name, NULL, &q, NULL);
    if (r) {
        return r == -ENOENT ? 0 : r;
    }
    r = right_of(s, q.o, WAIT_JOIN, &mine);
    if (r == 1) {
        r = tx_need(s, 1);
        if (r == 0) {
            tx_set(s, &mine->object, 0);
        }
        return r;
    }
    return r ? r : get(&q.c->unfinished) ? park(s, &q, WAIT_JOIN, flags) : 0;
}

int queue_close(struct shm *s, const struct key_name *name) {
    struct queue q = {0};
    int r = open_queue(s, name, NULL, &q, NULL);
    r = r ? r : tx_need(s, WORDS);
    if (r == 0 && !get(&q.c->closed)) {
        tx_set(s, &q.c->closed, 1);
        r = settle(s, &q);
    }
    return r;
}

/* ---- looking ---- */

int queue_view(struct shm *s, const struct key_name *name, struct queue_view *ret) {
    struct shm_sync *o;
    int r = sync_find(s, name, KEY_QUEUE, &o);
    const struct shm_queue *c = r ? NULL : queue_of(s, o);
    if (r || !c) {
        return r ? r : -ESTALE;
    }
    *ret = (struct queue_view){.max_items = get(&c->max_items),
                               .lease_ms = (int64_t)get(&c->lease_ms),
                               .items = items_in(c),
                               .leased = get(&c->leased),
                               .unfinished = get(&c->unfinished),
                               .getters = get(&c->waiting[WAIT_GET]),
                               .putters = get(&c->waiting[WAIT_PUT]),
                               .closed = get(&c->closed)};
    return 0;
}

/* ---- leases whose time is over ---- */

struct expire {
    unsigned shard;
    uint64_t now_ms, next_ms;
};

static int expire_queue(struct shm *s, struct expire *e, struct shm_sync *o) {
    struct queue q = {0};
    int r = bind_queue(s, e->shard, o, &q);
    r = r ? r : lease_expire(s, q.c, e->now_ms, EXPIRE, &e->next_ms);
    int settled = r < 0 ? r : settle(s, &q);
    return settled ? settled : r;
}

/* 1: there is more. */
static int expire_shard(struct shm *s, void *arg) {
    struct expire *e = arg;
    uint64_t left = s->size / sizeof(struct shm_sync);
    int r = 0;
    op_changes(s, e->shard);
    for (struct shm_sync *o = sync_at(s, get(&s->shards[e->shard].syncs)); r == 0 && o && left;
         o = sync_at(s, get(&o->next)), left--) {
        if (sync_type(o) == KEY_QUEUE && sync_shard(o) == e->shard && queue_of(s, o)) {
            r = expire_queue(s, e, o);
        }
    }
    if (r == 0 && e->next_ms == UINT64_MAX) { /* none is left; who takes one next holds the lock */
        atomic_fetch_and(&s->head->lease_shards, ~(UINT64_C(1) << e->shard));
    }
    return r;
}

int64_t queue_expire_leases(struct shm *s) {
    enum { BUSY_MS = 5 };
    uint64_t now_ms = clock_now() / NS_PER_MS, next_ms = UINT64_MAX;
    s->lease_said = 0;
    atomic_store(&s->head->lease_next, 0); /* what is taken from here on says so by itself */
    for (uint64_t v = get(&s->head->lease_shards) | get(&s->head->strays); v; v &= v - 1) {
        struct expire e = {(unsigned)__builtin_ctzll(v), now_ms, UINT64_MAX};
        int r = 1;
        while (r == 1) {
            r = op_run(s, v & -v, expire_shard, &e);
        }
        if (r < 0 && r != -EBADMSG) {
            e.next_ms = now_ms + BUSY_MS;
        }
        next_ms = e.next_ms < next_ms ? e.next_ms : next_ms;
    }
    if (next_ms == UINT64_MAX) {
        return -1;
    }
    lease_tell(s, next_ms);
    s->lease_said = next_ms;
    return next_ms > now_ms ? (int64_t)(next_ms - now_ms) : 0;
}

bool queue_lease_news(const struct shm *s) {
    uint64_t next = atomic_load(&s->head->lease_next);
    return next && (!s->lease_said || next < s->lease_said);
}

/* ---- as a kind of sync object ---- */

static int bury(struct shm *s, struct shm_sync *o, uint32_t owner) {
    struct queue q = {0};
    if (!queue_of(s, o)) {
        return 0;
    }
    int r = bind_queue(s, sync_shard(o), o, &q);
    int n = r || !get(&q.c->leased) ? r : lease_bury(s, q.c, owner, BURY);
    r = n > 0 ? settle(s, &q) : n;
    return r ? r : n > 0;
}

static int has_left(struct shm *s, struct shm_sync *o, struct shm_party *p, bool died) {
    struct queue q = {0};
    unsigned mode = party_mode(get(&p->state));
    (void)died;
    if (mode >= WAITS || !queue_of(s, o)) {
        return 0;
    }
    int r = bind_queue(s, sync_shard(o), o, &q);
    r = r ? r : tx_need(s, WORDS);
    if (r == 0) { /* nobody behind it can go on for that: it had no right */
        word_take(s, &q.c->waiting[mode], 1);
    }
    return r;
}

/* Those who have something on lease may have died without anybody having seen it. */
static int look(struct shm *s, struct shm_sync *o, struct shm_party *p) {
    struct queue q = {0};
    (void)p;
    if (!queue_of(s, o)) {
        return 0;
    }
    int r = bind_queue(s, sync_shard(o), o, &q);
    r = r || !get(&q.c->leased) ? r : lease_look(s, q.c, LOOK);
    return r <= 0 ? r : settle(s, &q);
}

static int undo(struct shm *s, struct shm_sync *o, unsigned shard, struct shm_party *p) {
    struct queue q = {0};
    uint64_t state = get(&p->state);
    unsigned mode = party_mode(state);
    if (!o || mode >= WAIT_JOIN || party_answer(state) < 0) {
        return 0;
    }
    int r = bind_queue(s, shard, o, &q);
    r = r ? r : tx_need(s, WORDS);
    if (r == 0) {
        word_take(s, &q.c->rights[mode], 1);
        r = settle(s, &q);
    }
    return r;
}

static int take_apart(struct shm *s, unsigned shard, struct shm_sync *o) {
    struct shm_queue *c = queue_of(s, o);
    if (!c) {
        return 0;
    }
    int r = lease_take_apart(s, shard, c, TAKE_APART);
    r = r ? r : list_take_apart(s, shard, &c->list, TAKE_APART);
    return r ? r : content_free(s, shard, o);
}

static int blocks(struct shm *s, const struct shm_sync *o,
                  int (*fn)(void *arg, uint64_t off, uint64_t bytes), void *arg) {
    const struct shm_queue *c = queue_of(s, o);
    if (!c) {
        return get(&o->words[0]) ? -ESTALE : 0;
    }
    int r = fn(arg, get(&o->words[0]), sizeof(*c));
    r = r ? r : list_blocks(s, &c->list, fn, arg);
    return r ? r : lease_blocks(s, c, fn, arg);
}

const struct sync_kind sync_kind_queue = {.bury = bury,
                                          .left = has_left,
                                          .look = look,
                                          .collect = right_collect,
                                          .undo = undo,
                                          .take_apart = take_apart,
                                          .blocks = blocks,
                                          .check = queue_check};
