/* SPDX-License-Identifier: MIT */
/* The whole segment, accounted for. Every block that some word owns (of a task, a pool, a slot; of a key, and of what is
 * to be taken apart or given back) is collected and sorted; then
 * each chunk is gone through in the same order: its free list, its owned blocks and what was never
 * used must add up, a run must have one owner and be marked used in the map, a free chunk must be
 * free everywhere, each account must have what its counters say, and each chunk with room must be on its class's list exactly once.
 *
 * Everything is read once and bounds-checked; every walk is bounded by the size of what it walks,
 * so a hostile segment costs time in proportion to its size and nothing else. Fails: -ENOMEM. */
#include "lib/shm/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/shm/alloc.h"
#include "lib/shm/dirty.h"
#include "lib/shm/internal.h"
#include "lib/shm/lock.h"
#include "lib/shm/op.h"
#include "lib/shm/keys.h"
#include "lib/shm/list.h"
#include "lib/shm/manager.h"
#include "lib/shm/slot.h"
#include "lib/shm/sync_private.h"
#include "lib/shm/task.h"

struct walk {
    struct shm *s;
    struct shm_report *report;
    uint64_t *owned; /* offsets some word owns, sorted */
    size_t n, cap, at;
    uint64_t owned_keys[SHM_MANAGERS]; /* of the shard in hand, by manager */
    uint64_t syncs;                    /* sync objects of the shard in hand */
    uint64_t durables;                 /* durable keys, likewise */
    uint64_t waiting;                  /* parties in lines */
    struct {
        uint64_t bytes, objects;
    } uses[SHM_ACCOUNTS]; /* what accounts have, counted */
};

__attribute__((format(printf, 2, 3))) static void wrong(struct walk *w, const char *fmt, ...) {
    if (w->report->errors++ == 0) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(w->report->first, sizeof(w->report->first), fmt, ap);
        va_end(ap);
    }
}

static int own(struct walk *w, uint64_t off, uint64_t need, const char *what, uint32_t who) {
    if (!off) {
        return 0;
    }
    uint64_t size = alloc_size(w->s, off);
    if (size == 0 || size < need) {
        wrong(w, "%s of %u: offset %llx holds %llu bytes, %llu needed", what, who,
              (unsigned long long)off, (unsigned long long)size, (unsigned long long)need);
        return 0;
    }
    if (w->n > w->s->size / 32) {
        wrong(w, "more blocks are owned than there is room for");
        return 1; /* something goes in circles: enough was seen of it */
    }
    if (w->n == w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 1024;
        uint64_t *more = realloc(w->owned, cap * sizeof(*more));
        if (!more) {
            return -ENOMEM;
        }
        w->owned = more;
        w->cap = cap;
    }
    w->owned[w->n++] = off;
    w->report->blocks++;
    w->report->block_bytes += size;
    return 0;
}

/* The words of a record as they were at one moment: workers change them without a lock while a live check goes on. */
struct task_words {
    uint64_t state, owners[5], lens[5];
};

static void read_task(struct shm_task *t, struct task_words *ret) {
    *ret = (struct task_words){get(&t->state),
                               {get(&t->input_off), get(&t->output_off), get(&t->log_off),
                                get(&t->spare_off), get(&t->stream_off)},
                               {peek(t->input_len), peek(t->args_len), peek(t->policy_len),
                                peek(t->output_len), peek(t->log_len)}};
    atomic_thread_fence(memory_order_acquire);
}

enum { READS = 64 };

static struct task_words task_now(struct shm_task *t) {
    struct task_words a, b;
    read_task(t, &a);
    for (int i = 0; i < READS; i++) {
        read_task(t, &b);
        if (memcmp(&a, &b, sizeof(a)) == 0) {
            break;
        }
        a = b;
    }
    return a;
}

static int collect_task(struct walk *w, uint32_t i) {
    struct shm_task *t = &w->s->tasks[i];
    struct task_words now = task_now(t);
    uint32_t state = now.state & 15;
    w->report->tasks[state]++;
    if (state >= TASK_STATES) {
        wrong(w, "task record %u: state %u", i, state);
    }
    const uint64_t *owners = now.owners;
    bool free = state == TASK_FREE;
    bool waits = state == TASK_WAITING || state == TASK_QUEUED;
    bool settled = waits || task_state_is_terminal(state);
    uint64_t len = now.lens[0];
    uint64_t in = settled && len <= ALLOC_MAX ? len + now.lens[1] + now.lens[2] : 0;
    uint64_t out = task_state_is_terminal(state) ? now.lens[3] : 0;
    if (free && (owners[0] || owners[1] || owners[2] || owners[3] || owners[4])) {
        wrong(w, "task record %u is free and owns a block", i);
    }
    /* a spare may stay behind when a lock was busy; it goes with the record */
    if ((waits && (owners[3] || owners[4])) ||
        (settled && (in > SHM_INLINE_IN) != (owners[0] != 0))) {
        wrong(w, "task record %u (%s): input and blocks do not agree", i, task_state_names[state]);
    }
    bool bit = get(&w->s->free_map[i / 64]) >> (i % 64) & 1;
    if (free && !bit) {
        wrong(w, "task record %u is free and cannot be found", i);
    }
    int r = own(w, owners[0], in, "input", i);
    r = r ? r : own(w, owners[1], out, "output", i);
    r = r ? r : own(w, owners[2], task_state_is_terminal(state) ? now.lens[4] : 0, "log", i);
    r = r ? r : own(w, owners[3], 0, "spare", i);
    return r ? r : own(w, owners[4], sizeof(struct shm_stream), "stream", i);
}

/* ---- shared objects ---- */

struct part {
    struct walk *w;
    const char *what;
    uint32_t who;
    int account;    /* whose its blocks are; NOBODY */
    uint64_t nodes; /* met in this table */
    bool keyspace;  /* its names are those of living keys */
};

enum { NOBODY = -1, FLUSHED = -2 }; /* FLUSHED: nobody's either, and the keys in it count no more */

static int own_part(void *arg, uint64_t off, uint64_t bytes) {
    const struct part *p = arg;
    if (p->account >= 0) {
        p->w->uses[p->account].bytes += alloc_size(p->w->s, off);
    }
    return own(p->w, off, bytes, p->what, p->who);
}

static int count_node(void *arg, struct shm_node *n) {
    struct part *p = arg;
    (void)n;
    p->nodes++;
    return 0;
}

/* What a walk returned: 0 or an error of our own, after saying what was found. */
static int walked(const struct part *p, int r) {
    if (r == -ESTALE) {
        wrong(p->w, "%s of shard %u makes no sense", p->what, p->who);
        return 0;
    }
    return r;
}

static int check_hash(struct part *p, const struct shm_hash *h, hash_visit *node) {
    p->nodes = 0;
    int r = walked(p, hash_blocks(p->w->s, h, own_part, node, p));
    if (r == 0 && p->nodes != get(&h->count)) {
        wrong(p->w, "%s of shard %u: %llu entries, the count says %llu", p->what, p->who,
              (unsigned long long)p->nodes, (unsigned long long)get(&h->count));
    }
    return r;
}

static int count_element(void *arg, uint64_t index, const void *data, size_t len) {
    uint64_t *n = arg;
    (void)index;
    (void)data;
    (void)len;
    ++*n;
    return 0;
}

static int check_list(struct part *p, struct shm_list *l) {
    struct list_object o = {.list = l};
    uint64_t n = 0;
    int r = walked(p, list_blocks(p->w->s, l, own_part, p));
    r = r ? r : walked(p, list_walk(p->w->s, &o, 0, false, count_element, &n));
    if (r == 0 && n != get(&l->count)) {
        wrong(p->w, "a list of shard %u: %llu elements, the count says %llu", p->who,
              (unsigned long long)n, (unsigned long long)get(&l->count));
    }
    return r;
}

static int check_key(void *arg, struct shm_node *n);

/* The line of an object: each party in its owner's seat, and as many as are counted. */
static void check_line(struct walk *w, uint32_t shard, const struct shm_sync *o) {
    uint64_t off = get(&o->first), prev = 0, n = 0, self = sync_off(w->s, o);
    uint64_t first = sync_off(w->s, &w->s->seats[0].waiting);
    for (; off && n < w->s->n_seats; n++) {
        uint64_t seat = (off - first) / sizeof(struct shm_seat);
        if (off < first || (off - first) % sizeof(struct shm_seat) || seat >= w->s->n_seats) {
            break;
        }
        const struct shm_party *p = &w->s->seats[seat].waiting;
        if (get(&p->object) != self || party_state(get(&p->state)) != PARTY_WAITS ||
            get(&p->prev) != prev || owner_slot(party_owner(p)) != seat) {
            break;
        }
        prev = off;
        off = get(&p->next);
    }
    if (off || get(&o->last) != prev || n != get(&o->waiting) || (n && !(get(&o->word) & SYNC_W))) {
        wrong(w, "an object of shard %u: those who wait for it do not stand in line", shard);
    }
    w->waiting += n;
}

static int check_sync(struct part *p, uint64_t off, bool whole) {
    const struct shm_sync *o = sync_at(p->w->s, off);
    int r = own_part(p, off, sizeof(*o));
    if (r || !o) {
        return r;
    }
    p->w->syncs++;
    check_line(p->w, p->who, o);
    if (sync_shard(o) != p->who || (get(&o->place) >> 32 == SYNC_LIVES) != whole) {
        wrong(p->w, "a %s of shard %u is in another place", key_type_names[sync_type(o)], p->who);
    }
    const struct sync_kind *k = sync_kind_of(sync_type(o));
    const char *bad = whole && k && k->check ? k->check(p->w->s, o) : NULL;
    if (bad) {
        wrong(p->w, "a %s of shard %u: %s", key_type_names[sync_type(o)], p->who, bad);
    }
    p->what = "a sync object";
    return walked(p, sync_blocks(p->w->s, o, own_part, p));
}

static int check_object(struct walk *w, uint32_t shard, uint64_t off, bool whole) {
    struct shm_object *o = alloc_ptr(w->s, off, sizeof(*o));
    if (!o) {
        return own(w, off, sizeof(*o), "object of shard", shard);
    }
    uint64_t kind = get(&o->kind) & 0xff;
    struct part p = {.w = w,
                     .what = "object of shard",
                     .who = shard,
                     .account = kind == DOOMED_KEYS ? FLUSHED : (int)object_account(o)};
    if (key_is_sync(kind)) {
        return check_sync(&p, off, whole);
    }
    int r = own_part(&p, off, sizeof(*o));
    if (r) {
        return r;
    }
    if (kind == KEY_LIST) {
        p.what = "a list";
        return whole ? check_list(&p, &o->list)
                     : walked(&p, list_blocks(w->s, &o->list, own_part, &p));
    }
    p.what = "a dict";
    return check_hash(&p, &o->dict, kind == DOOMED_KEYS ? check_key : count_node);
}

/* A key with the name of a manager is one of those that its place in the table counts. */
static void count_owned(const struct part *p, const struct shm_node *n) {
    size_t len;
    const void *name = hash_key(p->w->s, n, &len);
    uint64_t id = name ? manager_of(name, len) : 0;
    if (name && p->keyspace) {
        struct key_name k = {.word = {.data = name, .len = len}};
        p->w->durables += dirty_is_durable(&k);
    }
    if (!id || !p->keyspace) {
        return;
    }
    uint32_t i = id % SHM_MANAGERS;
    if (i >= p->w->s->n_managers ||
        (get(&p->w->s->managers[i].word) & INT64_MAX) != (id & INT64_MAX)) {
        wrong(p->w, "a key of shard %u belongs to a manager that is not there", p->who);
        return;
    }
    p->w->owned_keys[i]++;
}

static void check_managers(struct walk *w, uint32_t shard) {
    uint64_t used = get(&w->s->head->managers_used);
    for (uint32_t i = 0; i < w->s->n_managers && i < used; i++) {
        uint64_t n = get(&w->s->managers[i].keys[shard]);
        if (n != w->owned_keys[i]) {
            wrong(w, "manager %u: %llu keys in shard %u, the count says %llu", i,
                  (unsigned long long)w->owned_keys[i], shard, (unsigned long long)n);
        }
    }
}

static int check_key(void *arg, struct shm_node *n) {
    struct part *p = arg;
    size_t len;
    const struct shm_key *k = hash_value(p->w->s, n, &len);
    p->nodes++;
    count_owned(p, n);
    if (!k || len < offsetof(struct shm_key, bytes)) {
        wrong(p->w, "a key of shard %u is too short", p->who);
        return 0;
    }
    uint64_t kind = get(&k->kind) & 0xff;
    unsigned account = key_record_account(k);
    p->w->uses[account].bytes += alloc_size(p->w->s, (uint64_t)((uint8_t *)n - p->w->s->base));
    p->w->uses[account].objects += p->account != FLUSHED;
    if (kind == KEY_DICT || kind == KEY_LIST || key_is_sync(kind)) {
        const struct shm_object *o = alloc_ptr(p->w->s, get(&k->object), sizeof(*o));
        if (o && ((get(&o->kind) & 0xff) != kind || object_account(o) != account)) {
            wrong(p->w, "a key of shard %u and its object are of different types or accounts",
                  p->who);
        }
        return check_object(p->w, p->who, get(&k->object), true);
    }
    if (kind != KEY_VALUE || get(&k->len) > len - offsetof(struct shm_key, bytes)) {
        wrong(p->w, "a key of shard %u has an unknown type or length", p->who);
    }
    return 0;
}

/* Blocks linked by their first words. */
static int check_chain(struct walk *w, uint32_t shard, const _Atomic uint64_t *first,
                       bool objects) {
    uint64_t off = get(first);
    int r = 0;
    while (r == 0 && off) {
        const _Atomic uint64_t *link = alloc_ptr(w->s, off, sizeof(*link));
        r = objects ? check_object(w, shard, off, false)
                    : own(w, off, 1, "garbage of shard", shard);
        off = link ? get(link) : 0;
    }
    return r;
}

/* The list of the shard's sync objects, and blocks of former ones, which are nobody's. */
static int check_syncs(struct walk *w, uint32_t shard) {
    struct shm_shard *d = &w->s->shards[shard];
    uint64_t off = get(&d->syncs), prev = 0, n = 0, most = w->s->size / sizeof(struct shm_sync);
    const struct shm_sync *o;
    int r = 0;
    for (; (o = sync_at(w->s, off)) && n < most; n++) {
        if (get(&o->prev) != prev || sync_shard(o) != shard) {
            break;
        }
        if (get(&o->place) >> 32 == SYNC_KEPT) { /* found nowhere else */
            if (!get(&o->holders)) {
                wrong(w, "a deleted object of shard %u is kept for nobody", shard);
            }
            r = check_object(w, shard, off, false);
            if (r) {
                return r;
            }
        }
        prev = off;
        off = get(&o->next);
    }
    if (off || n != w->syncs) {
        wrong(w, "shard %u: %llu sync objects are listed, there are %llu", shard,
              (unsigned long long)n, (unsigned long long)w->syncs);
    }
    uint64_t blocks = w->report->blocks, bytes = w->report->block_bytes;
    for (off = get(&d->sync_free); r == 0 && off;) {
        o = alloc_ptr(w->s, off, sizeof(*o));
        r = own(w, off, sizeof(*o), "free sync object of shard", shard);
        off = o ? get(&o->link) : 0;
    }
    w->report->blocks = blocks; /* kept for later, not in use */
    w->report->block_bytes = bytes;
    return r;
}

/* What a party owns: of one that waits, or has been given something and not come for it yet. */
static int check_party(struct walk *w, uint32_t seat, const struct shm_party *p) {
    uint64_t state = get(&p->state);
    const struct sync_kind *k = sync_kind_of(party_kind(state));
    struct part part = {.w = w, .what = "what is handed over", .who = seat, .account = NOBODY};
    bool has = party_state(state) == PARTY_WAITS || party_answer(state) >= 0;
    if (!get(&p->object) || !has || !k || !k->party_blocks) {
        return 0;
    }
    return walked(&part, k->party_blocks(w->s, p, own_part, &part, &part.account));
}

/* Who waits stands in a line; what parties own. */
static int check_seats(struct walk *w) {
    uint64_t waiting = 0;
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < w->s->n_seats; i++) {
        const struct shm_party *p = &w->s->seats[i].waiting;
        waiting += get(&p->object) && party_state(get(&p->state)) == PARTY_WAITS;
        r = check_party(w, i, p);
    }
    if (r) {
        return r;
    }
    if (waiting != w->waiting) {
        wrong(w, "%llu wait for sync objects, %llu stand in lines", (unsigned long long)waiting,
              (unsigned long long)w->waiting);
    }
    return 0;
}

static int collect_shard(struct walk *w, uint32_t i) {
    struct shm_shard *d = &w->s->shards[i];
    struct part p = {.w = w, .what = "the keys", .who = i, .account = NOBODY, .keyspace = true};
    memset(w->owned_keys, 0, sizeof(w->owned_keys));
    w->syncs = w->durables = 0;
    int r = check_hash(&p, &d->keys, check_key);
    if (r == 0) {
        check_managers(w, i);
    }
    r = r ? r : check_chain(w, i, &d->garbage, false);
    r = r ? r : check_chain(w, i, &d->doomed, true);
    for (int k = 0; k < 2 && r == 0; k++) {
        struct part noted = {.w = w, .what = "what is noted", .who = i, .account = NOBODY};
        r = check_hash(&noted, &d->dirty[k], count_node);
    }
    if (r == 0 && w->durables != get(&d->durables)) {
        wrong(w, "shard %u: %llu durable keys, the count says %llu", i,
              (unsigned long long)w->durables, (unsigned long long)get(&d->durables));
    }
    return r ? r : check_syncs(w, i);
}

static void check_accounts(struct walk *w) {
    for (unsigned a = 0; a < SHM_ACCOUNTS; a++) {
        uint64_t bytes = 0, objects = 0;
        for (unsigned i = 0; i < SHM_SHARDS; i++) {
            bytes += get(&w->s->uses[i * SHM_ACCOUNTS + a].bytes);
            objects += get(&w->s->uses[i * SHM_ACCOUNTS + a].objects);
        }
        if (bytes != w->uses[a].bytes || objects != w->uses[a].objects) {
            wrong(w, "account %u has %llu bytes and %llu objects, the counts say %llu and %llu", a,
                  (unsigned long long)w->uses[a].bytes, (unsigned long long)w->uses[a].objects,
                  (unsigned long long)bytes, (unsigned long long)objects);
        }
    }
}

static int collect(struct walk *w) {
    for (uint32_t i = 0; i < SHM_SHARDS; i++) {
        int r = collect_shard(w, i);
        if (r) {
            return r;
        }
    }
    int e = check_seats(w);
    if (e) {
        return e;
    }
    for (uint32_t i = 0; i < w->s->n_slots; i++) {
        int r = own(w, get(&w->s->slots[i].undo_more), 1, "log of slot", i);
        if (r) {
            return r;
        }
    }
    e = own(w, get(&w->s->head->kept_off), 1, "what the daemon keeps", 0);
    e = e ? e : own(w, get(&w->s->head->kept_spare), 1, "what the daemon keeps", 0);
    if (e) {
        return e;
    }
    for (uint32_t i = 0; i < SHM_POOLS; i++) {
        struct shm_ring *ring = &w->s->pools[i].ready;
        uint64_t n = get(&ring->capacity) + get(&w->s->pools[i].front.capacity);
        uint64_t bytes = n < ALLOC_MAX ? n * 8 : ALLOC_MAX;
        int r = own(w, get(&ring->entries_off), bytes, "rings of pool", i);
        r = r ? r : own(w, get(&w->s->pools[i].handlers_off), 1, "handlers of pool", i);
        r = r ? r : own(w, get(&w->s->pools[i].handlers_spare), 1, "handlers of pool", i);
        if (r) {
            return r;
        }
    }
    for (uint32_t i = 0; i < w->s->n_tasks; i++) {
        int r = collect_task(w, i);
        if (r) {
            return r;
        }
    }
    return 0;
}

static int by_offset(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Marks the owned blocks of the chunk in `seen`; returns how many. */
static unsigned owned_blocks(struct walk *w, uint32_t chunk, const struct alloc_chunk *c,
                             uint64_t seen[8]) {
    uint64_t begin = w->s->data_off + (uint64_t)chunk * SHM_CHUNK;
    unsigned n = 0;
    for (; w->at < w->n && w->owned[w->at] < begin + SHM_CHUNK; w->at++) {
        unsigned block = (unsigned)((w->owned[w->at] - begin) / c->size);
        if (seen[block / 64] >> (block % 64) & 1) {
            wrong(w, "block %llx has two owners", (unsigned long long)w->owned[w->at]);
            continue;
        }
        seen[block / 64] |= UINT64_C(1) << (block % 64);
        n++;
    }
    return n;
}

static unsigned free_blocks(struct walk *w, uint32_t chunk, const struct alloc_chunk *c,
                            uint64_t seen[8]) {
    uint64_t begin = w->s->data_off + (uint64_t)chunk * SHM_CHUNK;
    unsigned n = 0;
    uint64_t at = c->first;
    while (at) {
        if (at > c->fresh || at > c->total || (seen[(at - 1) / 64] >> ((at - 1) % 64) & 1)) {
            wrong(w, "chunk %u: free list meets block %llu, which is owned, free twice or unused",
                  chunk, (unsigned long long)at);
            break;
        }
        seen[(at - 1) / 64] |= UINT64_C(1) << ((at - 1) % 64);
        n++;
        at = get((_Atomic uint64_t *)(void *)(w->s->base + begin + (at - 1) * c->size));
    }
    return n;
}

/* Owned blocks inside of a run, or of chunks that make no sense: their chunks were passed over. */
static void skip_before(struct walk *w, uint32_t chunk) {
    uint64_t begin = w->s->data_off + (uint64_t)chunk * SHM_CHUNK;
    for (; w->at < w->n && w->owned[w->at] < begin; w->at++) {
        wrong(w, "block %llx lies in no chunk of blocks", (unsigned long long)w->owned[w->at]);
    }
}

static void check_small(struct walk *w, uint32_t chunk, const struct alloc_chunk *c) {
    uint64_t seen[8] = {0};
    unsigned owned = owned_blocks(w, chunk, c, seen), free = free_blocks(w, chunk, c, seen);
    if (c->fresh > c->total || owned != c->used || owned + free != c->fresh) {
        wrong(w, "chunk %u (blocks of %u): %u owned, %u free, %u used so far, head says %u owned",
              chunk, c->size, owned, free, c->fresh, c->used);
    }
}

static void check_run(struct walk *w, uint32_t chunk) {
    uint64_t begin = w->s->data_off + (uint64_t)chunk * SHM_CHUNK;
    unsigned n = 0;
    for (; w->at < w->n && w->owned[w->at] < begin + SHM_CHUNK; w->at++) {
        n++;
    }
    w->report->runs++;
    if (n != 1) {
        wrong(w, "run at chunk %u has %u owners", chunk, n);
    }
}

static bool chunk_is_free(const struct shm *s, uint32_t chunk) {
    return get(&s->chunk_map[chunk / 64]) >> (chunk % 64) & 1;
}

/* A list of chunks with room: bounded, right class, each once (listed counts them). */
static void check_partial(struct walk *w, unsigned arena, unsigned cls, uint32_t *listed) {
    uint32_t at = get32(&w->s->arenas[arena].partial[cls]), prev = 0;
    for (uint32_t steps = 0; at; steps++) {
        struct alloc_chunk c;
        if (at > w->s->n_chunks || steps > w->s->n_chunks || !alloc_describe(w->s, at - 1, &c) ||
            !c.small || c.cls != cls || c.arena != arena || (!c.first && c.fresh == c.total)) {
            wrong(w, "arena %u class %u lists chunk %u, which has no place there", arena, cls, at);
            return;
        }
        uint64_t link = get(&w->s->chunks[at - 1].link);
        if ((uint32_t)link != prev) {
            wrong(w, "arena %u class %u: chunk %u does not point back", arena, cls, at - 1);
            return;
        }
        (*listed)++;
        prev = at;
        at = (uint32_t)(link >> 32);
    }
}

static void check_chunks(struct walk *w) {
    uint32_t free = 0, with_room = 0, listed = 0;
    for (uint32_t i = 0; i < w->s->n_chunks;) {
        struct alloc_chunk c;
        if (!alloc_describe(w->s, i, &c)) {
            wrong(w, "chunk %u: its head makes no sense", i++);
            continue;
        }
        uint32_t n = c.run ? c.run : 1;
        bool used = c.run || c.small;
        skip_before(w, i);
        for (uint32_t k = i; k < i + n; k++) {
            free += chunk_is_free(w->s, k);
            if (chunk_is_free(w->s, k) == used || (k > i && get(&w->s->chunks[k].w0))) {
                wrong(w, "chunk %u: map and head do not agree", k);
            }
        }
        if (c.small) {
            check_small(w, i, &c);
            with_room += c.first || c.fresh < c.total;
        } else if (c.run) {
            check_run(w, i);
        }
        w->report->chunks_used += used ? n : 0;
        i += n;
    }
    for (unsigned a = 0; a < SHM_ARENAS; a++) {
        for (unsigned k = 0; k < SHM_CLASSES; k++) {
            check_partial(w, a, k, &listed);
        }
    }
    if (listed != with_room) {
        wrong(w, "%u chunks have room, %u are listed", with_room, listed);
    }
    if (free != get(&w->s->head->chunks_free)) {
        wrong(w, "%u chunks are free, the count says %llu", free,
              (unsigned long long)get(&w->s->head->chunks_free));
    }
}

int shm_check(struct shm *s, struct shm_report *ret) {
    struct shm_report report = {0};
    struct walk w = {.s = s, .report = &report};
    for (uint32_t i = 0; i < s->n_slots; i++) {
        const struct shm_slot *d = &s->slots[i];
        if (get32(&d->state) != SLOT_FREE && slot_is_dead(s, owner_word(i, get32(&d->gen)))) {
            report.dead_slots++;
        }
    }
    int r = collect(&w);
    r = r > 0 ? 0 : r;
    if (r == 0) {
        if (w.n) {
            qsort(w.owned, w.n, sizeof(*w.owned), by_offset);
        }
        check_chunks(&w);
        check_accounts(&w);
    }
    free(w.owned);
    if (r == 0) {
        *ret = report;
    }
    return r;
}

/* ---- while others live ---- */

enum { LOOKS = 8 };

/* Under every shard's lock: the arenas' and the chunk lock, too. */
static int check_locked(struct shm *s, void *arg) {
    struct shm_report *ret = arg;
    unsigned held = 0;
    int r = 0;
    while (r == 0 && held < SHM_ARENAS) {
        r = lock_take(s, &s->arenas[held].lock);
        held += r == 0;
    }
    if (r == 0) {
        r = lock_take(s, &s->head->chunk_lock);
    }
    bool all = r == 0;
    for (int i = 0; i < LOOKS && r == 0; i++) {
        r = shm_check(s, ret);
        if (ret->errors == 0) {
            break;
        }
    }
    if (all) {
        lock_drop(s, &s->head->chunk_lock);
    }
    while (held > 0) {
        lock_drop(s, &s->arenas[--held].lock);
    }
    return r;
}

int shm_check_live(struct shm *s, struct shm_report *ret) {
    struct shm_report report = {0};
    int r = s->mine ? op_run(s, OP_ALL, check_locked, &report) : -EPERM;
    if (r == 0) {
        *ret = report;
    }
    return r;
}
