/* SPDX-License-Identifier: MIT */
/* Every instruction of every verb of queues and pipes, of giving up and forgoing, and of the end of owners (DESIGN section 4.1). The
 * victim is a slot; connections with seats, and a slot that sleeps, put, get, hold and wait around it. After each death and
 * burial everything must be as if the victim had died before the operation, or just after it: every item is there once, on
 * lease or gone with who took it; whoever has a right is told; and when all have gone no block is left.
 * Fails: prints "not ok" and exits 1. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/shm/internal.h"
#include "lib/shm/keys.h"
#include "lib/shm/list.h"
#include "lib/shm/op.h"
#include "lib/shm/pipe.h"
#include "lib/shm/queue.h"
#include "lib/shm/sync_private.h"
#include "tests/crash/cast.h"

enum { LARGE = 3000 };
static char large[LARGE];

enum verb {
    MAKE,       /* a queue with at most n items (0: no bound) */
    MAKE_LEASE, /* ... n ms; n < 0: until death */
    PUT,        /* the word, n times with a digit behind it if n > 0 */
    PUT_LARGE,
    GET, /* at most n (0: 1) */
    DONE,
    EXTEND,
    RETURN,
    DEALT,
    JOIN,
    CLOSE,
    EXPIRE, /* outside */
    PASS,   /* 3 ms go by */
    PIPE,   /* made, for n bytes */
    OPEN,   /* end n, as the following */
    SHUT,
    SEND,
    SEND_LARGE,
    RECV,
    LOOK,
    DELETE,
    RENAME,
    GIVE_UP, /* outside, as the next one */
    FORGO,
};

/* ---- acting ---- */

static struct key_name name_of(const struct shm *s, const char *text) {
    return key_name(s, text, strlen(text));
}

static struct shm_sync *object_named(struct shm *s, const char *text, enum key_type type) {
    struct key_name k = name_of(s, text);
    struct shm_sync *o;
    return sync_find(s, &k, type, &o) ? NULL : o;
}

static struct shm_queue *queue_named(struct shm *s, const char *text) {
    const struct shm_sync *o = object_named(s, text, KEY_QUEUE);
    return o ? (void *)(s->base + get(&o->words[0])) : NULL;
}

/* The lease of the item with that word. */
static uint64_t lease_of(struct shm *s, const char *word) {
    const struct shm_queue *c = queue_named(s, "q");
    for (int i = 0; i < 2; i++) {
        for (uint64_t off = get(&c->chains[i].first); off;) {
            const struct shm_item *item = (void *)(s->base + off);
            if (get(&item->len) == strlen(word) && memcmp(item->bytes, word, strlen(word)) == 0) {
                return get(&item->lease);
            }
            off = get(&item->next);
        }
    }
    return 1;
}

static int drop_item(void *arg, const void *data, size_t len, uint64_t lease) {
    (void)arg;
    (void)data;
    (void)len;
    (void)lease;
    return 0;
}

static int drop_message(void *arg, const void *data, size_t len) {
    return drop_item(arg, data, len, 0);
}

static int put_words(struct shm *s, const struct key_name *k, const struct cast_act *a) {
    char words[16][16];
    struct task_bytes items[16];
    size_t n = a->n > 1 ? (size_t)a->n : 1;
    for (size_t i = 0; i < n; i++) {
        int len = n > 1 ? snprintf(words[i], 16, "%s%zu", a->word, i)
                        : snprintf(words[i], 16, "%s", a->word);
        items[i] = (struct task_bytes){words[i], (size_t)len};
    }
    return queue_put(s, k, items, n, SYNC_WAIT);
}

static int rename_key(struct shm *s, const struct key_name *k) {
    struct key_name to = name_of(s, "moved");
    struct key key;
    int r = key_find_write(s, k, &key);
    return r ? r : key_rename(s, &key, &to);
}

static int delete_key(struct shm *s, const struct key_name *k) {
    struct key key;
    int r = key_find_write(s, k, &key);
    return r ? r : key_delete(s, &key);
}

static int pipe_verb(struct shm *s, const struct key_name *k, const struct cast_act *a) {
    unsigned end = (unsigned)a->n;
    switch (a->verb) {
    case PIPE:
        return pipe_create(s, k, &(struct pipe_params){true, (uint64_t)a->n});
    case OPEN:
        return pipe_open(s, k, end);
    case SHUT:
        return pipe_close(s, k, end);
    case SEND:
        return pipe_send(s, k, end, a->word, strlen(a->word), SYNC_WAIT);
    case SEND_LARGE:
        return pipe_send(s, k, end, large, LARGE, SYNC_WAIT);
    case RECV:
        return pipe_recv(s, k, end, SYNC_WAIT, drop_message, NULL);
    default:
        return pipe_poll(s, k, end, SYNC_WAIT);
    }
}

static int in_act(struct shm *s, void *arg) {
    const struct cast_act *a = arg;
    struct key_name q = name_of(s, "q"), p = name_of(s, "p");
    switch (a->verb) {
    case MAKE:
        return queue_create(s, &q, &(struct queue_params){(uint64_t)a->n, 0});
    case MAKE_LEASE:
        return queue_create(s, &q, &(struct queue_params){0, a->n});
    case PUT:
        return put_words(s, &q, a);
    case PUT_LARGE:
        return queue_put(s, &q, &(struct task_bytes){large, LARGE}, 1, SYNC_WAIT);
    case GET:
        return queue_get(s, &q, a->n ? (uint64_t)a->n : 1, SYNC_WAIT, drop_item, NULL);
    case DONE:
        return queue_done(s, &q, lease_of(s, a->word), 0);
    case EXTEND:
        return queue_extend(s, &q, lease_of(s, a->word), a->n, 0);
    case RETURN:
        return queue_return(s, &q, lease_of(s, a->word), 0);
    case DEALT:
        return queue_task_done(s, &q);
    case JOIN:
        return queue_join(s, &q, SYNC_WAIT);
    case CLOSE:
        return queue_close(s, &q);
    case DELETE:
        return delete_key(s, *a->word == 'q' ? &q : &p);
    case RENAME:
        return rename_key(s, *a->word == 'q' ? &q : &p);
    default:
        return pipe_verb(s, &p, a);
    }
}

static void pass(void) {
    for (uint64_t until = clock_now() + 3 * NS_PER_MS; clock_now() < until;) {
    }
}

static int64_t act(struct shm *s, uint32_t owner, const struct cast_act *a) {
    int r;
    s->actor = owner;
    switch (a->verb) {
    case PASS:
        pass();
        r = 0;
        break;
    case EXPIRE:
        r = (int)(queue_expire_leases(s) / INT64_C(1000000));
        break;
    case GIVE_UP:
        r = sync_give_up(s);
        break;
    case FORGO:
        r = sync_forgo(s);
        break;
    default:
        r = op_run(s, OP_ALL, in_act, (void *)(uintptr_t)a);
    }
    s->actor = 0;
    return r;
}

static bool may_say(int64_t r) {
    return r >= 0 || r == -EINPROGRESS || r == -ETIMEDOUT || r == -EPIPE;
}

/* ---- everything, as text ---- */

static int dump_element(void *arg, uint64_t index, const void *data, size_t len) {
    (void)index;
    buf_printf(arg, " [%.*s|%zu]", (int)(len > 10 ? 10 : len), (const char *)data, len);
    return 0;
}

static void dump_list(struct shm *s, struct buf *b, struct shm_list *list) {
    struct list_object l = {.list = list};
    int r = list_walk(s, &l, 0, false, dump_element, b);
    assert(r == 0);
}

static void dump_chain(struct shm *s, struct buf *b, uint64_t off, bool owners) {
    while (off) {
        const struct shm_item *item = (void *)(s->base + off);
        dump_element(b, 0, item->bytes, get(&item->len));
        if (owners) {
            buf_printf(b, "@%x", (unsigned)get(&item->owner));
        }
        off = get(&item->next);
    }
}

static void dump_queue(struct shm *s, struct buf *b, const char *name) {
    struct shm_queue *c = queue_named(s, name);
    if (!c) {
        return;
    }
    buf_printf(b, "%s: front", name);
    dump_chain(s, b, get(&c->front), false);
    buf_printf(b, " list");
    dump_list(s, b, &c->list);
    buf_printf(b, " leased");
    dump_chain(s, b, get(&c->chains[0].first), true);
    buf_printf(b, " timed");
    dump_chain(s, b, get(&c->chains[1].first), true);
    const _Atomic uint64_t *counts[] = {&c->closed,     &c->unfinished, &c->waiting[0],
                                        &c->waiting[1], &c->waiting[2], &c->rights[0],
                                        &c->rights[1],  &c->returned,   &c->leased};
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        buf_printf(b, " %llu", (unsigned long long)get(counts[i]));
    }
    buf_printf(b, "\n");
}

static void dump_pipe(struct shm *s, struct buf *b, const char *name) {
    const struct shm_sync *o = object_named(s, name, KEY_PIPE);
    if (!o) {
        return;
    }
    struct shm_pipe *c = (void *)(s->base + get(&o->words[0]));
    buf_printf(b, "%s: held %llu", name, (unsigned long long)get(&c->held));
    for (const struct shm_party *p = sync_party_at(s, get(&o->holders)); p; p = sync_next(s, p)) {
        buf_printf(b, " %x %llu %llu", party_owner(p), (unsigned long long)get(&p->data[0]),
                   (unsigned long long)get(&p->data[1]));
    }
    for (int i = 0; i < 2; i++) {
        struct shm_pipe_way *w = &c->way[i];
        const _Atomic uint64_t *counts[] = {&c->holders[i], &w->bytes,     &w->rights,
                                            &w->room,       &w->rooms,     &w->waiting[0],
                                            &w->waiting[1], &w->waiting[2]};
        buf_printf(b, " way %d", i);
        dump_list(s, b, &w->list);
        for (size_t k = 0; k < ARRAY_SIZE(counts); k++) {
            buf_printf(b, " %llu", (unsigned long long)get(counts[k]));
        }
    }
    buf_printf(b, "\n");
}

static void dump(struct shm *s, struct buf *b) {
    dump_queue(s, b, "q");
    dump_queue(s, b, "moved");
    dump_pipe(s, b, "p");
    dump_pipe(s, b, "moved");
}

static const char *judge_end(struct shm *s, const struct cast_case *c) {
    const struct shm_queue *q = queue_named(s, "q");
    bool left = q && (get(&q->leased) || get(&q->rights[0]) || get(&q->rights[1]));
    (void)c;
    return left ? "a lease or a right is left" : NULL;
}

static const struct cast queues = {act, may_say, dump, judge_end};

/* ---- the cases ---- */

static const struct cast_case cases[] = {
    {"queue: made", {{0}}, {CAST_ME, MAKE, "", 3}, 0, 0},
    {"queue: put, made by that", {{0}}, {CAST_ME, PUT, "a", 0}, 0, 0},
    {"queue: put, several", {{1, PUT, "a", 0}}, {CAST_ME, PUT, "b", 12}, 0, 0},
    {"queue: put, a large one", {{1, PUT, "a", 0}}, {CAST_ME, PUT_LARGE, "", 0}, 0, 0},
    {"queue: put for those who wait",
     {{1, GET, "", 0}, {CAST_SLOT, GET, "", 0}, {2, GET, "", 0}},
     {CAST_ME, PUT, "a", 2},
     0,
     0},
    {"queue: put, no room",
     {{1, MAKE, "", 1}, {1, PUT, "a", 0}, {2, PUT, "b", 0}},
     {CAST_ME, PUT, "c", 0},
     0,
     0},
    {"queue: put, with a right to the place",
     {{1, MAKE, "", 1},
      {1, PUT, "a", 0},
      {CAST_ME, PUT, "b", 0},
      {2, PUT, "c", 0},
      {3, GET, "", 0}},
     {CAST_ME, PUT, "b", 0},
     0,
     0},
    {"queue: got", {{1, PUT, "a", 3}}, {CAST_ME, GET, "", 0}, 0, 0},
    {"queue: got, several", {{1, PUT, "a", 12}}, {CAST_ME, GET, "", 10}, 0, 0},
    {"queue: got, a large one", {{1, PUT_LARGE, "", 0}}, {CAST_ME, GET, "", 0}, 0, 0},
    {"queue: got, making room",
     {{1, MAKE, "", 2}, {1, PUT, "a", 2}, {CAST_SLOT, PUT, "b", 0}, {2, PUT, "c", 0}},
     {CAST_ME, GET, "", 2},
     0,
     0},
    {"queue: got, empty", {{1, GET, "", 0}}, {CAST_ME, GET, "", 0}, 0, 0},
    {"queue: got, with a right",
     {{CAST_ME, GET, "", 0}, {1, PUT, "a", 0}},
     {CAST_ME, GET, "", 0},
     0,
     0},
    {"queue: its time over",
     {{1, GET, "", 0}, {CAST_ME, GET, "", 0}, {2, GET, "", 0}},
     {CAST_ME, GIVE_UP, "", 0},
     0,
     0},
    {"queue: a right forgone, the next one has it",
     {{CAST_ME, GET, "", 0}, {CAST_SLOT, GET, "", 0}, {1, PUT, "a", 0}},
     {CAST_ME, FORGO, "", 0},
     0,
     0},
    {"queue: closed",
     {{1, MAKE, "", 1}, {1, PUT, "a", 0}, {2, PUT, "b", 0}, {CAST_SLOT, PUT, "c", 0}},
     {CAST_ME, CLOSE, "", 0},
     0,
     0},
    {"queue: closed, empty",
     {{1, GET, "", 0}, {CAST_SLOT, GET, "", 0}},
     {CAST_ME, CLOSE, "", 0},
     0,
     0},
    {"queue: joined", {{1, PUT, "a", 0}, {1, JOIN, "", 0}}, {CAST_ME, JOIN, "", 0}, 0, 0},
    {"queue: the last one dealt with",
     {{1, PUT, "a", 0}, {1, JOIN, "", 0}, {CAST_SLOT, JOIN, "", 0}},
     {CAST_ME, DEALT, "", 0},
     0,
     0},
    {"queue: deleted",
     {{1, PUT, "a", 3}, {1, JOIN, "", 0}, {CAST_SLOT, JOIN, "", 0}},
     {CAST_ME, DELETE, "q", 0},
     0,
     0},
    {"queue: renamed", {{1, PUT, "a", 3}, {1, JOIN, "", 0}}, {CAST_ME, RENAME, "q", 0}, 0, 0},
    {"lease: taken", {{1, MAKE_LEASE, "", -1}, {1, PUT, "a", 3}}, {CAST_ME, GET, "", 2}, 0, 0},
    {"lease: taken, one that came back",
     {{1, MAKE_LEASE, "", 100000}, {1, PUT, "a", 3}, {2, GET, "", 1}, {2, RETURN, "a0", 0}},
     {CAST_ME, GET, "", 2},
     0,
     0},
    {"lease: taken, a large one, the table grows",
     {{1, MAKE_LEASE, "", -1}, {1, PUT, "a", 16}, {1, PUT_LARGE, "", 0}, {2, GET, "", 16}},
     {CAST_ME, GET, "", 0},
     0,
     0},
    {"lease: done",
     {{1, MAKE_LEASE, "", -1}, {1, PUT, "a", 3}, {CAST_ME, GET, "", 2}, {1, GET, "", 1}},
     {CAST_ME, DONE, "a1", 0},
     0,
     0},
    {"lease: done, the last one",
     {{1, MAKE_LEASE, "", -1}, {1, PUT, "a", 0}, {CAST_ME, GET, "", 1}, {CAST_SLOT, JOIN, "", 0}},
     {CAST_ME, DONE, "a", 0},
     0,
     0},
    {"lease: done, closed, those who wait go",
     {{1, MAKE_LEASE, "", -1},
      {1, PUT, "a", 0},
      {CAST_ME, GET, "", 1},
      {CAST_SLOT, GET, "", 0},
      {1, CLOSE, "", 0}},
     {CAST_ME, DONE, "a", 0},
     0,
     0},
    {"lease: extended",
     {{1, MAKE_LEASE, "", 100000}, {1, PUT, "a", 3}, {CAST_ME, GET, "", 3}},
     {CAST_ME, EXTEND, "a1", 200000},
     0,
     0},
    {"lease: given back for one who waits",
     {{1, MAKE_LEASE, "", -1}, {1, PUT, "a", 2}, {CAST_ME, GET, "", 2}, {CAST_SLOT, GET, "", 0}},
     {CAST_ME, RETURN, "a0", 0},
     0,
     0},
    {"lease: over",
     {{1, MAKE_LEASE, "", 1},
      {1, PUT, "a", 4},
      {1, GET, "", 1},
      {2, GET, "", 2},
      {2, EXTEND, "a1", 100000},
      {CAST_SLOT, GET, "", 2},
      {3, GET, "", 1},
      {1, PASS, "", 0}},
     {CAST_ME, EXPIRE, "", 0},
     0,
     0},
    {"lease: deleted with all",
     {{1, MAKE_LEASE, "", -1}, {1, PUT, "a", 3}, {2, GET, "", 2}, {2, RETURN, "a0", 0}},
     {CAST_ME, DELETE, "q", 0},
     0,
     0},
    {"lease: renamed",
     {{1, MAKE_LEASE, "", -1}, {1, PUT, "a", 3}, {CAST_ME, GET, "", 1}, {2, GET, "", 1}},
     {CAST_ME, RENAME, "q", 0},
     0,
     0},
    {"end: of a slot with leases",
     {{1, MAKE_LEASE, "", 100000},
      {1, PUT, "a", 14},
      {CAST_SLOT, GET, "", 6},
      {2, GET, "", 1},
      {CAST_SLOT, GET, "", 6},
      {1, GET, "", 1},
      {3, GET, "", 1}},
     {CAST_SLOT, CAST_BURY, "", 0},
     CAST_AGAIN | CAST_DEAD,
     0},
    {"end: of a slot that waits, and of one with a right",
     {{CAST_SLOT, GET, "", 0}, {1, GET, "", 0}, {2, PUT, "a", 0}},
     {CAST_SLOT, CAST_BURY, "", 0},
     CAST_AGAIN | CAST_DEAD,
     0},
    {"end: of a connection with a place",
     {{1, MAKE, "", 1}, {1, PUT, "a", 0}, {2, PUT, "b", 0}, {3, PUT, "c", 0}, {4, GET, "", 0}},
     {2, CAST_BURY, "", 0},
     CAST_AGAIN,
     0},
    {"pipe: made", {{0}}, {CAST_ME, PIPE, "", 0}, 0, 0},
    {"pipe: opened", {{1, PIPE, "", 0}}, {CAST_ME, OPEN, "", 0}, 0, 0},
    {"pipe: opened, a second time",
     {{1, PIPE, "", 0}, {CAST_ME, OPEN, "", 0}, {1, OPEN, "", 0}},
     {CAST_ME, OPEN, "", 1},
     0,
     0},
    {"pipe: closed",
     {{1, PIPE, "", 0}, {CAST_ME, OPEN, "", 0}, {1, RECV, "", 1}, {CAST_SLOT, LOOK, "", 1}},
     {CAST_ME, SHUT, "", 0},
     0,
     0},
    {"pipe: sent", {{1, PIPE, "", 0}, {CAST_ME, OPEN, "", 0}}, {CAST_ME, SEND, "hello", 0}, 0, 0},
    {"pipe: sent by one who did not hold it",
     {{1, PIPE, "", 0}},
     {CAST_ME, SEND, "hello", 0},
     0,
     0},
    {"pipe: sent to those who wait",
     {{1, PIPE, "", 0}, {1, RECV, "", 1}, {CAST_SLOT, RECV, "", 1}, {2, LOOK, "", 1}},
     {CAST_ME, SEND, "hello", 0},
     0,
     0},
    {"pipe: sent, a large one", {{1, PIPE, "", 0}}, {CAST_ME, SEND_LARGE, "", 1}, 0, 0},
    {"pipe: sent, no room",
     {{1, PIPE, "", 4}, {1, SEND, "hello", 0}, {2, SEND, "more", 0}},
     {CAST_ME, SEND, "yet", 0},
     0,
     0},
    {"pipe: sent, with a right to the room",
     {{1, PIPE, "", 4}, {1, SEND, "hello", 0}, {CAST_ME, SEND, "more", 0}, {2, RECV, "", 1}},
     {CAST_ME, SEND, "more", 0},
     0,
     0},
    {"pipe: received, making room",
     {{1, PIPE, "", 4}, {1, SEND, "hello", 0}, {2, SEND, "m", 0}, {CAST_SLOT, SEND, "n", 0}},
     {CAST_ME, RECV, "", 1},
     0,
     0},
    {"pipe: received, none there", {{1, PIPE, "", 0}}, {CAST_ME, RECV, "", 1}, 0, 0},
    {"pipe: received, with a right",
     {{1, PIPE, "", 0}, {CAST_ME, RECV, "", 1}, {1, SEND, "x", 0}},
     {CAST_ME, RECV, "", 1},
     0,
     0},
    {"pipe: looked at", {{1, PIPE, "", 0}, {CAST_ME, OPEN, "", 1}}, {CAST_ME, LOOK, "", 1}, 0, 0},
    {"pipe: one who waits to send gives up, a smaller one fits",
     {{1, PIPE, "", 4},
      {1, SEND, "abc", 0},
      {CAST_ME, SEND, "defg", 0},
      {CAST_SLOT, SEND, "h", 0},
      {2, SEND, "i", 0}},
     {CAST_ME, GIVE_UP, "", 0},
     0,
     0},
    {"pipe: deleted",
     {{1, PIPE, "", 0}, {1, SEND_LARGE, "", 0}, {1, RECV, "", 0}},
     {CAST_ME, DELETE, "p", 0},
     0,
     0},
    {"pipe: renamed",
     {{1, PIPE, "", 0}, {1, SEND, "a", 0}, {1, RECV, "", 0}, {CAST_ME, OPEN, "", 0}},
     {CAST_ME, RENAME, "p", 0},
     0,
     0},
    {"end: of a slot that held both ends, and had a right",
     {{1, PIPE, "", 0},
      {CAST_SLOT, OPEN, "", 0},
      {CAST_SLOT, OPEN, "", 1},
      {CAST_SLOT, RECV, "", 1},
      {1, RECV, "", 0},
      {2, RECV, "", 1},
      {3, SEND, "a", 0}},
     {CAST_SLOT, CAST_BURY, "", 0},
     CAST_AGAIN | CAST_DEAD,
     0},
};

int main(int argc, char **argv) {
    memset(large, 'L', sizeof(large));
    return cast_run(&queues, cases, ARRAY_SIZE(cases), argc < 2 ? NULL : argv[1]);
}
