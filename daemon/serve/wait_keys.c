/* SPDX-License-Identifier: MIT */
/* Waiting for lists. A key that somebody waits for is a record here (struct waited) with a queue of waiters, found by the
 * key's hash, and listed by shard. A connection waits in the queues of all its keys; the first key that has something for
 * it takes it out of all of them.
 *
 * Nobody who pushes needs to know: the segment has a word of the shards that are watched, and each commit that touches one
 * of them says so in another word and rings the daemon (op.h). The daemon then looks at the waited keys of these shards. So a
 * push by a worker, a RENAME or an EXEC serves as well as an LPUSH, after the command, in the same turn. What our own clients
 * push is noted besides, for among several keys the first to be pushed to is served first, as in Redis.
 *
 * A shard is watched from within the operation that found its lists empty, under the lock that a pusher needs, so no push
 * can fall in between. While a list has both waiters and elements, its shard is in `touched`, on `ready` or in `again`:
 * somebody is about to look; and a newcomer stands in line behind those who wait (wait_keys_any).
 *
 * Nothing will ever come under the name of a manager that has ended: who waits there is told so.
 *
 * Fails: -ENOMEM, -EIDRM. A busy lock is tried again 1 ms later. */
#include "daemon/serve/wait_keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/serve/cmd_list.h"
#include "daemon/serve/hold.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"
#include "lib/base/cpu.h"
#include "lib/shm/manager.h"

enum { SHARDS = 64, TABLE_FIRST = 64, TRIES = 200, RETRY_US = 1000, ROUNDS = 64 };

struct waited {
    struct waited *hash_next;
    struct list in_shard;
    struct list ready;   /* wait_keys.ready */
    struct list waiters; /* struct key_waiter.node */
    uint64_t hash;
    unsigned shard;
    size_t len;
    char name[];
};

struct key_waiter {
    struct list node;
    struct conn *conn;
    struct waited *key;
};

/* What a connection waits for. */
struct conn_keys {
    enum wait_kind kind;
    bool left, to_left;
    uint64_t count;
    char *dest;
    size_t dest_len;
    uint32_t n;
    struct key_waiter w[];
};

struct wait_keys {
    struct waited **table;
    size_t size, n;
    uint64_t watched, again;
    struct list ready;
    struct list shards[SHARDS];
    const struct waited *serving; /* the record in hand; NULL: it has gone */
};

int wait_keys_open(struct serve *s) {
    struct wait_keys *k = calloc(1, sizeof(*k));
    if (!k) {
        return -ENOMEM;
    }
    k->size = TABLE_FIRST;
    k->table = calloc(k->size, sizeof(struct waited *));
    if (!k->table) {
        free(k);
        return -ENOMEM;
    }
    list_init(&k->ready);
    for (unsigned i = 0; i < SHARDS; i++) {
        list_init(&k->shards[i]);
    }
    s->wait_keys = k;
    op_watch(&s->d->shm, 0);
    op_touched(&s->d->shm);
    return 0;
}

void wait_keys_close(struct serve *s) {
    if (s->wait_keys) {
        free(s->wait_keys->table);
        free(s->wait_keys);
        s->wait_keys = NULL;
    }
}

/* ---- the table ---- */

static struct waited **place_of(const struct wait_keys *k, const struct key_name *name) {
    struct waited **p = &k->table[name->word.hash & (k->size - 1)];
    while (*p && ((*p)->hash != name->word.hash || (*p)->len != name->word.len ||
                  memcmp((*p)->name, name->word.data, name->word.len) != 0)) {
        p = &(*p)->hash_next;
    }
    return p;
}

static void grow(struct wait_keys *k) {
    size_t size = k->size * 2;
    struct waited **table = calloc(size, sizeof(struct waited *));
    if (!table) {
        return; /* longer chains, then */
    }
    for (size_t i = 0; i < k->size; i++) {
        while (k->table[i]) {
            struct waited *e = k->table[i];
            k->table[i] = e->hash_next;
            e->hash_next = table[e->hash & (size - 1)];
            table[e->hash & (size - 1)] = e;
        }
    }
    free(k->table);
    k->table = table;
    k->size = size;
}

static struct waited *waited_get(struct wait_keys *k, const struct key_name *name) {
    struct waited *e, **p = place_of(k, name);
    e = *p;
    if (e) {
        return e;
    }
    e = calloc(1, sizeof(*e) + name->word.len);
    if (!e) {
        return NULL;
    }
    e->hash = name->word.hash;
    e->shard = name->shard;
    e->len = name->word.len;
    memcpy(e->name, name->word.data, name->word.len);
    list_init(&e->waiters);
    list_init(&e->ready);
    list_init(&e->in_shard);
    list_append(&k->shards[e->shard], &e->in_shard);
    *p = e;
    if (++k->n > k->size) {
        grow(k);
    }
    return e;
}

static struct key_name name_of(const struct waited *e) {
    return (struct key_name){{e->name, e->len, e->hash}, e->shard};
}

static void waited_drop(struct wait_keys *k, struct waited *e) {
    struct key_name name = name_of(e);
    if (!list_empty(&e->waiters)) {
        return;
    }
    *place_of(k, &name) = e->hash_next;
    k->n--;
    if (k->serving == e) {
        k->serving = NULL;
    }
    list_del(&e->in_shard);
    list_del(&e->ready);
    free(e);
}

/* ---- waiting ---- */

static void watch(struct serve *s) {
    struct wait_keys *k = s->wait_keys;
    uint64_t shards = 0;
    for (unsigned i = 0; i < SHARDS; i++) {
        shards |= (uint64_t)!list_empty(&k->shards[i]) << i;
    }
    if (shards != k->watched) {
        k->watched = shards;
        op_watch(&s->d->shm, shards);
    }
}

static void drop(struct serve *s, struct conn_keys *w) {
    for (uint32_t i = 0; i < w->n; i++) {
        list_del(&w->w[i].node);
        waited_drop(s->wait_keys, w->w[i].key);
    }
    free(w->dest);
    free(w);
    watch(s);
}

void wait_keys_forget(struct conn *c) {
    if (c->keys) {
        struct conn_keys *w = c->keys;
        c->keys = NULL;
        drop(c->serve, w);
    }
}

bool wait_keys_any(const struct serve *s, const struct key_name *name) {
    return s->wait_keys->n > 0 && *place_of(s->wait_keys, name);
}

/* The name is that of a manager that has ended. */
static bool is_over(struct shm *s, const struct key_name *name) {
    return manager_name_is_over(s, name->word.data, name->word.len);
}

int wait_keys_block(struct conn *c, const struct wait_for *f) {
    struct serve *s = c->serve;
    for (uint32_t i = 0; i < f->n_keys; i++) {
        struct key_name name = object_name(c, &f->keys[i]);
        if (is_over(&s->d->shm, &name)) {
            return -EIDRM;
        }
    }
    struct conn_keys *w = calloc(1, sizeof(*w) + f->n_keys * sizeof(w->w[0]));
    if (!w) {
        return -ENOMEM;
    }
    *w = (struct conn_keys){f->kind, f->left, f->to_left, f->count, NULL, 0, 0};
    bool good = true;
    if (f->dest) {
        w->dest_len = f->dest->len;
        w->dest = malloc(f->dest->len + 1);
        good = w->dest != NULL;
        if (good) {
            memcpy(w->dest, f->dest->data, f->dest->len);
        }
    }
    for (uint32_t i = 0; good && i < f->n_keys; i++) {
        struct key_name name = object_name(c, &f->keys[i]);
        struct key_waiter *kw = &w->w[i];
        kw->conn = c;
        kw->key = waited_get(s->wait_keys, &name);
        good = kw->key != NULL;
        if (good) {
            list_append(&kw->key->waiters, &kw->node);
            w->n++;
        }
    }
    if (!good || block_as(c, BLOCK_KEYS, f->timeout_ms ? f->timeout_ms : UINT64_MAX) < 0) {
        drop(s, w);
        return -ENOMEM;
    }
    c->keys = w;
    watch(s);
    return 0;
}

/* ---- serving ---- */

struct serving {
    struct waited *e;
    struct conn *conn;
    size_t mark; /* bytes of output before the reply */
};

static struct key_name dest_of(struct conn *c) {
    return key_name(object_shm(c), c->keys->dest, c->keys->dest_len);
}

static int serve_inside(struct shm *s, void *arg) {
    struct serving *v = arg;
    struct conn *c = v->conn;
    const struct conn_keys *w = c->keys;
    struct key_name name = name_of(v->e);
    c->out.tail = c->out.head + v->mark;
    if (is_over(s, &name)) {
        return -EIDRM;
    }
    switch (w->kind) {
    case WAIT_POP:
        return list_pop_one(c, &name, w->left, true);
    case WAIT_MPOP:
        return list_pop_many(c, &name, w->left, w->count);
    default: {
        struct key_name dest = dest_of(c);
        return list_move(c, &name, &dest, w->left, w->to_left);
    }
    }
}

struct peek {
    struct key_name name;
    bool full; /* of elements, or there will never be any */
};

static int peek_inside(struct shm *s, void *arg) {
    struct peek *p = arg;
    struct list_object l;
    int r = list_open(s, &p->name, false, &l);
    p->full = (r == 0 && list_count(&l) > 0) || is_over(s, &p->name);
    return r == -ESTALE ? r : 0;
}

static int try_some(struct shm *s, uint64_t shards, struct serving *v) {
    int r = -EAGAIN;
    for (int i = 0; r == -EAGAIN && i < TRIES; i++) {
        r = op_run(s, shards, serve_inside, v);
        if (r == -EAGAIN) {
            cpu_pause();
        }
    }
    return r;
}

/* Serves the first who waits for the key. 0: served, or told why not; 1: there is nothing for him; -EAGAIN. */
static int serve_first(struct serve *s, struct waited *e) {
    struct key_waiter *kw = list_first(&e->waiters, struct key_waiter, node);
    struct conn *c = kw->conn;
    struct serving v = {e, c, buf_len(&c->out)};
    uint64_t shards = UINT64_C(1) << e->shard;
    if (c->keys->kind == WAIT_MOVE) {
        struct key_name dest = dest_of(c);
        shards |= key_shard_bit(&dest);
    }
    s->d->shm.account = c->account;
    s->d->shm.dirtied = false;
    int r = try_some(&s->d->shm, shards, &v);
    if (r != 0) {
        c->out.tail = c->out.head + v.mark;
    }
    if (r == 1 || r == -EAGAIN) {
        return r;
    }
    if (r == -EPROTOTYPE && c->keys->kind != WAIT_MOVE) {
        return 1; /* it is something else now; he waits on */
    }
    if (r < 0) {
        object_error(c, r);
    }
    if (s->d->shm.dirtied) {
        hold_objects(c, v.mark);
    }
    block_end(c);
    return 0;
}

static void serve_key(struct serve *s, struct waited *e) {
    struct wait_keys *k = s->wait_keys;
    struct peek p = {name_of(e), false};
    int r = op_read(&s->d->shm, e->shard, peek_inside, &p);
    while (r == 0 && p.full) {
        /* with the last one who waits, the record goes */
        k->serving = e;
        r = serve_first(s, e);
        if (r == 0 && k->serving != e) {
            return;
        }
    }
    if (r == -EAGAIN) {
        k->again |= UINT64_C(1) << e->shard;
        if (!evtimer_pending(s->ev_retry, NULL)) {
            event_add(s->ev_retry, &(struct timeval){.tv_usec = RETRY_US});
        }
    }
}

void wait_keys_pushed(struct serve *s, const struct key_name *name) {
    struct wait_keys *k = s->wait_keys;
    if (k->n == 0) {
        return;
    }
    struct waited *e = *place_of(k, name);
    if (e && list_empty(&e->ready)) {
        list_append(&k->ready, &e->ready);
    }
}

static void all_of(struct wait_keys *k, unsigned shard) {
    list_for_each (it, &k->shards[shard]) {
        struct waited *e = list_entry(it, struct waited, in_shard);
        if (list_empty(&e->ready)) {
            list_append(&k->ready, &e->ready);
        }
    }
}

void wait_keys_turn(struct serve *s) {
    struct wait_keys *k = s->wait_keys;
    uint64_t shards = k->again;
    k->again = 0;
    /* a moved element may serve somebody else, and so on; what workers push on and on is for the next turn */
    for (int i = 0; i < ROUNDS; i++) {
        while (!list_empty(&k->ready)) {
            struct waited *e = list_first(&k->ready, struct waited, ready);
            list_del(&e->ready);
            serve_key(s, e);
        }
        shards |= op_any_touched(&s->d->shm) ? op_touched(&s->d->shm) : 0;
        if (!shards) {
            break;
        }
        for (; shards; shards &= shards - 1) {
            all_of(k, (unsigned)__builtin_ctzll(shards));
        }
    }
}

bool wait_keys_has_news(const struct serve *s) {
    return !list_empty(&s->wait_keys->ready) || op_any_touched(&s->d->shm);
}
