/* SPDX-License-Identifier: MIT */
/* Every instruction of every verb of queues and pipes, of giving up and forgoing, and of the end of owners (DESIGN section 4.1). The
 * victim is a slot; connections with seats, and a slot that sleeps, put, get, hold and wait around it. After each death and
 * burial everything must be as if the victim had died before the operation, or just after it: every item is there once, on
 * lease or gone with who took it; whoever has a right is told; and when all have gone no block is left.
 * Fails: prints "not ok" and exits 1. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/base/buf.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/shm/alloc.h"
#include "lib/shm/internal.h"
#include "lib/shm/keys.h"
#include "lib/shm/list.h"
#include "lib/shm/op.h"
#include "lib/shm/pipe.h"
#include "lib/shm/queue.h"
#include "lib/shm/sync_private.h"
#include "tests/crash/step.h"

enum { SLEEPER = 3, SEATS = 4, ME = 0, SLOT = SEATS + 1, PEOPLE, PREP = 10, LARGE = 3000 };

enum verb {
    NOTHING,
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
    GIVE_UP, /* outside, as the following */
    FORGO,
    BURY,
};

/* By whom (ME: the victim; 1 .. SEATS: a connection; SLOT: the one that sleeps), and what. */
struct act {
    unsigned who;
    enum verb verb;
    const char *word;
    int64_t n;
};

struct queue_case {
    const char *name;
    struct act prep[PREP];
    struct act op;
    bool again;    /* what was begun is done again from the start, and then it is as after */
    unsigned dead; /* who has died before the operation and is not buried: SLOT */
};

static const struct queue_case *current;
static struct buf before, after;
static uint32_t who[PEOPLE], bell;
static void *scratch;
static char large[LARGE];

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

static int put_words(struct shm *s, const struct key_name *k, const struct act *a) {
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

static int pipe_verb(struct shm *s, const struct key_name *k, const struct act *a) {
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
    const struct act *a = arg;
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

static int run_act(struct shm *s, uint32_t owner, const struct act *a) {
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

static int act(void *base, const struct act *a) {
    bool slot = a->who == ME || a->who == SLOT;
    unsigned n = a->who == ME ? STEP_VICTIM : a->who == SLOT ? SLEEPER : STEP_SUPERVISOR;
    struct shm s = step_handle(base, n);
    return run_act(&s, slot ? 0 : who[a->who], a);
}

/* The operation, by the victim: some cases end others. */
static int run_op(struct shm *s) {
    const struct act *a = &current->op;
    if (a->verb != BURY) {
        return run_act(s, 0, a);
    }
    return a->who == SLOT ? slot_bury(s, SLEEPER, get32(&s->slots[SLEEPER].gen))
                          : sync_seat_end(s, who[a->who]);
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

static int in_dump(struct shm *s, void *arg) {
    struct buf *b = arg;
    for (unsigned i = 1; i < PEOPLE; i++) {
        const struct shm_party *p = &sync_seat(s, who[i])->waiting;
        uint64_t v = get(&p->object) ? get(&p->state) : 0;
        buf_printf(b, "%u: %u %u %d\n", i, party_state(v), party_mode(v), party_answer(v));
    }
    dump_queue(s, b, "q");
    dump_queue(s, b, "moved");
    dump_pipe(s, b, "p");
    dump_pipe(s, b, "moved");
    return 0;
}

static void dump(struct shm *s, struct buf *ret) {
    buf_deinit(ret);
    int r = op_run(s, OP_ALL, in_dump, ret);
    assert(r == 0);
    buf_append(ret, "", 1);
}

/* ---- the cases ---- */

static bool is_told(struct shm *s, unsigned i) {
    uint32_t seat = owner_slot(who[i]);
    if (i == SLOT) {
        return get32(&s->seats[seat].bell) != bell;
    }
    return s->head->granted && get(&s->granted[seat / 64]) >> (seat % 64) & 1;
}

static const char *all_told(struct shm *s) {
    for (unsigned i = 1; i < PEOPLE; i++) {
        const struct shm_party *p = &sync_seat(s, who[i])->waiting;
        if (get(&p->object) && party_state(get(&p->state)) == PARTY_ANSWERED && !is_told(s, i)) {
            return "one who has an answer sleeps";
        }
    }
    return NULL;
}

static void be_told(struct shm *s) {
    for (uint64_t conn; sync_next_granted(s, &conn);) {
    }
    bell = get32(&s->seats[SLEEPER].bell);
}

static bool is_expected(int r) {
    return r >= 0 || r == -EINPROGRESS || r == -ETIMEDOUT || r == -EPIPE;
}

static void setup(struct shm *s) {
    for (unsigned i = 1; i <= SEATS; i++) {
        int r = sync_seat_take(s, i, 1, 0, &who[i]);
        assert(r == 0);
    }
    struct shm sleeper = step_handle(s->base, SLEEPER);
    who[SLOT] = sleeper.me;
    for (int i = 0; i < PREP && current->prep[i].verb; i++) {
        int r = act(s->base, &current->prep[i]);
        if (r < 0 && r != -EINPROGRESS) {
            printf("# %s: step %d: %d\n", current->name, i, r);
        }
        assert(r >= 0 || r == -EINPROGRESS);
    }
    if (current->dead) {
        step_mark_dead(s, SLEEPER);
    }
    bool waits = get(&s->seats[STEP_VICTIM].waiting.object) != 0;
    if (!waits) { /* what they were told before does not count */
        be_told(s);
    }
    memcpy(scratch, s->base, step_size);
    struct shm copy = step_handle(scratch, STEP_SUPERVISOR);
    step_mark_dead(&copy, STEP_VICTIM);
    const char *bad = step_recover(&copy, STEP_VICTIM);
    assert(!bad);
    dump(&copy, &before);

    memcpy(scratch, s->base, step_size);
    struct shm victim = step_handle(scratch, STEP_VICTIM);
    int r = run_op(&victim);
    if (!is_expected(r)) {
        printf("# %s: %d\n", current->name, r);
    }
    assert(is_expected(r));
    bad = all_told(&copy); /* by the operation itself */
    step_mark_dead(&copy, STEP_VICTIM);
    bad = bad ? bad : step_recover(&copy, STEP_VICTIM);
    if (bad) {
        printf("# %s: %s\n", current->name, bad);
    }
    assert(!bad);
    dump(&copy, &after);
}

static void op(struct shm *s) {
    run_op(s);
}

static int in_flush(struct shm *s, void *arg) {
    return keys_flush_some(s, *(unsigned *)arg, 1000);
}

static const char *checked(struct shm *s, uint64_t blocks, const char *when) {
    struct shm_report report;
    if (shm_check(s, &report) || report.errors) {
        fprintf(stderr, "# %s\n", report.first);
        return when;
    }
    return blocks && report.blocks != blocks ? "a block is lost" : NULL;
}

/* Everybody goes, then every object. */
static const char *end_all(struct shm *s) {
    for (unsigned i = 1; i <= SEATS; i++) {
        if (sync_seat_end(s, who[i])) {
            return "a connection cannot be ended";
        }
    }
    if (!current->dead) {
        step_mark_dead(s, SLEEPER);
    }
    const char *bad = step_recover(s, SLEEPER);
    bad = bad ? bad : checked(s, 0, "check after everybody has gone");
    const struct shm_queue *c = queue_named(s, "q");
    if (!bad && c && (get(&c->leased) || get(&c->rights[0]) || get(&c->rights[1]))) {
        bad = "a lease or a right is left";
    }
    for (unsigned i = 0; i < SHM_SHARDS && !bad; i++) {
        int r;
        do {
            r = op_run(s, UINT64_C(1) << i, in_flush, &i);
        } while (r == 1);
        while (r == 0 && (r = op_tidy(s, i)) == 1) {
            r = 0;
        }
        bad = r ? "objects cannot be removed" : NULL;
    }
    /* the one is the pool's ring */
    return bad ? bad : checked(s, 1, "check after everything was removed");
}

static bool same(const struct buf *a, const struct buf *b) {
    return buf_len(a) == buf_len(b) && memcmp(buf_head(a), buf_head(b), buf_len(a)) == 0;
}

static const char *judge(struct shm *s, bool finished) {
    struct buf now = BUF_INIT;
    const char *bad = checked(s, 0, "check after recovery");
    bad = bad ? bad : all_told(s);
    if (!bad && current->again) {
        bad = run_op(s) < 0 ? "it cannot be done again" : all_told(s);
        finished = true;
    }
    if (bad) {
        return bad;
    }
    dump(s, &now);
    if (!same(&now, &after) && (finished || !same(&now, &before))) {
        bad = finished ? "the operation has no effect" : "neither as before nor as after";
        fprintf(stderr, "# is:\n%s# before:\n%s# after:\n%s", buf_head(&now), buf_head(&before),
                buf_head(&after));
    }
    buf_deinit(&now);
    return bad ? bad : end_all(s);
}

static const char *verify(struct shm *s, bool finished) {
    const char *bad = step_recover(s, STEP_VICTIM);
    return bad ? bad : judge(s, finished);
}

static void op_rescue(struct shm *s) {
    const char *bad = step_recover(s, STEP_VICTIM);
    assert(!bad);
}

static const char *verify_rescue(struct shm *s, bool finished) {
    (void)finished;
    const char *bad = step_recover(s, STEP_OTHER);
    bad = bad ? bad : step_recover(s, STEP_VICTIM);
    return bad ? bad : judge(s, false);
}

static const struct queue_case cases[] = {
    {"queue: made", {{0}}, {ME, MAKE, "", 3}, false, 0},
    {"queue: put, made by that", {{0}}, {ME, PUT, "a", 0}, false, 0},
    {"queue: put, several", {{1, PUT, "a", 0}}, {ME, PUT, "b", 12}, false, 0},
    {"queue: put, a large one", {{1, PUT, "a", 0}}, {ME, PUT_LARGE, "", 0}, false, 0},
    {"queue: put for those who wait",
     {{1, GET, "", 0}, {SLOT, GET, "", 0}, {2, GET, "", 0}},
     {ME, PUT, "a", 2},
     false,
     0},
    {"queue: put, no room",
     {{1, MAKE, "", 1}, {1, PUT, "a", 0}, {2, PUT, "b", 0}},
     {ME, PUT, "c", 0},
     false,
     0},
    {"queue: put, with a right to the place",
     {{1, MAKE, "", 1}, {1, PUT, "a", 0}, {ME, PUT, "b", 0}, {2, PUT, "c", 0}, {3, GET, "", 0}},
     {ME, PUT, "b", 0},
     false,
     0},
    {"queue: got", {{1, PUT, "a", 3}}, {ME, GET, "", 0}, false, 0},
    {"queue: got, several", {{1, PUT, "a", 12}}, {ME, GET, "", 10}, false, 0},
    {"queue: got, a large one", {{1, PUT_LARGE, "", 0}}, {ME, GET, "", 0}, false, 0},
    {"queue: got, making room",
     {{1, MAKE, "", 2}, {1, PUT, "a", 2}, {SLOT, PUT, "b", 0}, {2, PUT, "c", 0}},
     {ME, GET, "", 2},
     false,
     0},
    {"queue: got, empty", {{1, GET, "", 0}}, {ME, GET, "", 0}, false, 0},
    {"queue: got, with a right", {{ME, GET, "", 0}, {1, PUT, "a", 0}}, {ME, GET, "", 0}, false, 0},
    {"queue: its time over",
     {{1, GET, "", 0}, {ME, GET, "", 0}, {2, GET, "", 0}},
     {ME, GIVE_UP, "", 0},
     false,
     0},
    {"queue: a right forgone, the next one has it",
     {{ME, GET, "", 0}, {SLOT, GET, "", 0}, {1, PUT, "a", 0}},
     {ME, FORGO, "", 0},
     false,
     0},
    {"queue: closed",
     {{1, MAKE, "", 1}, {1, PUT, "a", 0}, {2, PUT, "b", 0}, {SLOT, PUT, "c", 0}},
     {ME, CLOSE, "", 0},
     false,
     0},
    {"queue: closed, empty", {{1, GET, "", 0}, {SLOT, GET, "", 0}}, {ME, CLOSE, "", 0}, false, 0},
    {"queue: joined", {{1, PUT, "a", 0}, {1, JOIN, "", 0}}, {ME, JOIN, "", 0}, false, 0},
    {"queue: the last one dealt with",
     {{1, PUT, "a", 0}, {1, JOIN, "", 0}, {SLOT, JOIN, "", 0}},
     {ME, DEALT, "", 0},
     false,
     0},
    {"queue: deleted",
     {{1, PUT, "a", 3}, {1, JOIN, "", 0}, {SLOT, JOIN, "", 0}},
     {ME, DELETE, "q", 0},
     false,
     0},
    {"queue: renamed", {{1, PUT, "a", 3}, {1, JOIN, "", 0}}, {ME, RENAME, "q", 0}, false, 0},
    {"lease: taken", {{1, MAKE_LEASE, "", -1}, {1, PUT, "a", 3}}, {ME, GET, "", 2}, false, 0},
    {"lease: taken, one that came back",
     {{1, MAKE_LEASE, "", 100000}, {1, PUT, "a", 3}, {2, GET, "", 1}, {2, RETURN, "a0", 0}},
     {ME, GET, "", 2},
     false,
     0},
    {"lease: taken, a large one, the table grows",
     {{1, MAKE_LEASE, "", -1}, {1, PUT, "a", 16}, {1, PUT_LARGE, "", 0}, {2, GET, "", 16}},
     {ME, GET, "", 0},
     false,
     0},
    {"lease: done",
     {{1, MAKE_LEASE, "", -1}, {1, PUT, "a", 3}, {ME, GET, "", 2}, {1, GET, "", 1}},
     {ME, DONE, "a1", 0},
     false,
     0},
    {"lease: done, the last one",
     {{1, MAKE_LEASE, "", -1}, {1, PUT, "a", 0}, {ME, GET, "", 1}, {SLOT, JOIN, "", 0}},
     {ME, DONE, "a", 0},
     false,
     0},
    {"lease: done, closed, those who wait go",
     {{1, MAKE_LEASE, "", -1},
      {1, PUT, "a", 0},
      {ME, GET, "", 1},
      {SLOT, GET, "", 0},
      {1, CLOSE, "", 0}},
     {ME, DONE, "a", 0},
     false,
     0},
    {"lease: extended",
     {{1, MAKE_LEASE, "", 100000}, {1, PUT, "a", 3}, {ME, GET, "", 3}},
     {ME, EXTEND, "a1", 200000},
     false,
     0},
    {"lease: given back for one who waits",
     {{1, MAKE_LEASE, "", -1}, {1, PUT, "a", 2}, {ME, GET, "", 2}, {SLOT, GET, "", 0}},
     {ME, RETURN, "a0", 0},
     false,
     0},
    {"lease: over",
     {{1, MAKE_LEASE, "", 1},
      {1, PUT, "a", 4},
      {1, GET, "", 1},
      {2, GET, "", 2},
      {2, EXTEND, "a1", 100000},
      {SLOT, GET, "", 2},
      {3, GET, "", 1},
      {1, PASS, "", 0}},
     {ME, EXPIRE, "", 0},
     false,
     0},
    {"lease: deleted with all",
     {{1, MAKE_LEASE, "", -1}, {1, PUT, "a", 3}, {2, GET, "", 2}, {2, RETURN, "a0", 0}},
     {ME, DELETE, "q", 0},
     false,
     0},
    {"lease: renamed",
     {{1, MAKE_LEASE, "", -1}, {1, PUT, "a", 3}, {ME, GET, "", 1}, {2, GET, "", 1}},
     {ME, RENAME, "q", 0},
     false,
     0},
    {"end: of a slot with leases",
     {{1, MAKE_LEASE, "", 100000},
      {1, PUT, "a", 14},
      {SLOT, GET, "", 6},
      {2, GET, "", 1},
      {SLOT, GET, "", 6},
      {1, GET, "", 1},
      {3, GET, "", 1}},
     {SLOT, BURY, "", 0},
     true,
     SLOT},
    {"end: of a slot that waits, and of one with a right",
     {{SLOT, GET, "", 0}, {1, GET, "", 0}, {2, PUT, "a", 0}},
     {SLOT, BURY, "", 0},
     true,
     SLOT},
    {"end: of a connection with a place",
     {{1, MAKE, "", 1}, {1, PUT, "a", 0}, {2, PUT, "b", 0}, {3, PUT, "c", 0}, {4, GET, "", 0}},
     {2, BURY, "", 0},
     true,
     0},
    {"pipe: made", {{0}}, {ME, PIPE, "", 0}, false, 0},
    {"pipe: opened", {{1, PIPE, "", 0}}, {ME, OPEN, "", 0}, false, 0},
    {"pipe: opened, a second time",
     {{1, PIPE, "", 0}, {ME, OPEN, "", 0}, {1, OPEN, "", 0}},
     {ME, OPEN, "", 1},
     false,
     0},
    {"pipe: closed",
     {{1, PIPE, "", 0}, {ME, OPEN, "", 0}, {1, RECV, "", 1}, {SLOT, LOOK, "", 1}},
     {ME, SHUT, "", 0},
     false,
     0},
    {"pipe: sent", {{1, PIPE, "", 0}, {ME, OPEN, "", 0}}, {ME, SEND, "hello", 0}, false, 0},
    {"pipe: sent by one who did not hold it", {{1, PIPE, "", 0}}, {ME, SEND, "hello", 0}, false, 0},
    {"pipe: sent to those who wait",
     {{1, PIPE, "", 0}, {1, RECV, "", 1}, {SLOT, RECV, "", 1}, {2, LOOK, "", 1}},
     {ME, SEND, "hello", 0},
     false,
     0},
    {"pipe: sent, a large one", {{1, PIPE, "", 0}}, {ME, SEND_LARGE, "", 1}, false, 0},
    {"pipe: sent, no room",
     {{1, PIPE, "", 4}, {1, SEND, "hello", 0}, {2, SEND, "more", 0}},
     {ME, SEND, "yet", 0},
     false,
     0},
    {"pipe: sent, with a right to the room",
     {{1, PIPE, "", 4}, {1, SEND, "hello", 0}, {ME, SEND, "more", 0}, {2, RECV, "", 1}},
     {ME, SEND, "more", 0},
     false,
     0},
    {"pipe: received, making room",
     {{1, PIPE, "", 4}, {1, SEND, "hello", 0}, {2, SEND, "m", 0}, {SLOT, SEND, "n", 0}},
     {ME, RECV, "", 1},
     false,
     0},
    {"pipe: received, none there", {{1, PIPE, "", 0}}, {ME, RECV, "", 1}, false, 0},
    {"pipe: received, with a right",
     {{1, PIPE, "", 0}, {ME, RECV, "", 1}, {1, SEND, "x", 0}},
     {ME, RECV, "", 1},
     false,
     0},
    {"pipe: looked at", {{1, PIPE, "", 0}, {ME, OPEN, "", 1}}, {ME, LOOK, "", 1}, false, 0},
    {"pipe: one who waits to send gives up, a smaller one fits",
     {{1, PIPE, "", 4},
      {1, SEND, "abc", 0},
      {ME, SEND, "defg", 0},
      {SLOT, SEND, "h", 0},
      {2, SEND, "i", 0}},
     {ME, GIVE_UP, "", 0},
     false,
     0},
    {"pipe: deleted",
     {{1, PIPE, "", 0}, {1, SEND_LARGE, "", 0}, {1, RECV, "", 0}},
     {ME, DELETE, "p", 0},
     false,
     0},
    {"pipe: renamed",
     {{1, PIPE, "", 0}, {1, SEND, "a", 0}, {1, RECV, "", 0}, {ME, OPEN, "", 0}},
     {ME, RENAME, "p", 0},
     false,
     0},
    {"end: of a slot that held both ends, and had a right",
     {{1, PIPE, "", 0},
      {SLOT, OPEN, "", 0},
      {SLOT, OPEN, "", 1},
      {SLOT, RECV, "", 1},
      {1, RECV, "", 0},
      {2, RECV, "", 1},
      {3, SEND, "a", 0}},
     {SLOT, BURY, "", 0},
     true,
     SLOT},
};

enum { KEEP = 3 };

static bool step_case(const struct queue_case *k, unsigned *number) {
    void *keep[KEEP] = {0};
    uint32_t kept = 0;
    struct step_case c = {.name = k->name,
                          .setup = setup,
                          .op = op,
                          .verify = verify,
                          .keep = keep,
                          .n_kept = &kept,
                          .n_keep = KEEP};
    current = k;
    bool ok = step_run(&c, (*number)++);
    for (uint32_t i = 0; i < kept; i++) {
        char name[128];
        snprintf(name, sizeof(name), "rescue %u of: %s", i, k->name);
        struct step_case r = {.name = name,
                              .op = op_rescue,
                              .verify = verify_rescue,
                              .victim = STEP_OTHER,
                              .image = keep[i]};
        ok &= step_run(&r, (*number)++);
        free(keep[i]);
    }
    return ok;
}

int main(int argc, char **argv) {
    unsigned number = 1;
    bool ok = true;
    memset(large, 'L', sizeof(large));
    scratch = mmap(NULL, step_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert(scratch != MAP_FAILED);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        if (argc < 2 || strstr(cases[i].name, argv[1])) {
            ok &= step_case(&cases[i], &number);
        }
    }
    printf("1..%u\n", number - 1);
    buf_deinit(&before);
    buf_deinit(&after);
    return ok ? 0 : 1;
}
