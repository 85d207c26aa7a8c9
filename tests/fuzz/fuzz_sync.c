/* SPDX-License-Identifier: MIT */
/* Sync objects, queues and pipes in a segment in which another process may have written anything. A valid small one in which slots and
 * connections hold and wait for each kind is patched as the input says and then used as it says: first byte, how many patches;
 * each patch, a place and a value; then verbs, a byte each and an operand. Nothing may crash, assert, read or write outside (the
 * image lies in memory of exactly its size) or take long. With no patch at all the segment must be in order afterwards. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/shm/alloc.h"
#include "lib/shm/check.h"
#include "lib/shm/internal.h"
#include "lib/shm/keys.h"
#include "lib/shm/op.h"
#include "lib/shm/pipe.h"
#include "lib/shm/queue.h"
#include "lib/shm/slot.h"
#include "lib/shm/sync.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SIZE = 1 << 20, PATCHES_MAX = 24, VERBS_MAX = 40, PLACES_MAX = 4096, SEATS = 4, SLOTS = 3 };

static uint8_t *image, *work;
static uint64_t places[PLACES_MAX]; /* words that differ from an empty segment */
static uint32_t n_places, seats[SEATS];
static char text[4096];

static void require(int truth) {
    if (!truth) {
        abort();
    }
}

/* A handle on a slot without its life word, which belongs to the C library and to a live segment. */
static void become(struct shm *s, uint32_t slot) {
    s->patience_ns = 0;
    s->slot = slot;
    s->mine = &s->slots[slot];
    s->me = owner_word(slot, get32(&s->mine->gen));
}

/* ---- verbs ---- */

struct act {
    uint8_t verb;
    uint32_t n;
};

static const char *const names[] = {"lock", "rlock", "rw", "sem", "event",
                                    "cond", "bar",   "q",  "l",   "p"};

static struct key_name named(const struct shm *s, uint32_t n) {
    const char *t = names[n % ARRAY_SIZE(names)];
    return key_name(s, t, strlen(t));
}

static uint64_t lease, seen; /* the last item's, and something of its bytes */

static int see_item(void *arg, const void *data, size_t len, uint64_t number) {
    (void)arg;
    lease = number;
    seen += len ? *(const uint8_t *)data + ((const uint8_t *)data)[len - 1] : 0;
    return 0;
}

static int see_message(void *arg, const void *data, size_t len) {
    return see_item(arg, data, len, 0);
}

static int see_party(void *arg, const struct sync_party_view *v) {
    (void)v;
    return ++*(uint64_t *)arg > 100000;
}

static int use_queue(struct shm *s, const struct act *a, const struct key_name *k) {
    struct task_bytes items[4] = {{text, 10}, {text, a->n >> 8 & 1023}, {text, 0}, {text, 40}};
    struct queue_view view;
    switch (a->verb % 9) {
    case 0:
        return queue_put(s, k, items, 1 + a->n % 4, SYNC_WAIT);
    case 1:
        return queue_get(s, k, 1 + a->n % 5, a->n >> 20 & SYNC_WAIT, see_item, NULL);
    case 2:
        return queue_done(s, k, a->n & 1 ? lease : a->n, SYNC_FORCE);
    case 3:
        return queue_extend(s, k, lease, (int64_t)(a->n % 100) - 10, SYNC_FORCE);
    case 4:
        return queue_return(s, k, lease, SYNC_FORCE);
    case 5:
        return queue_task_done(s, k);
    case 6:
        return queue_join(s, k, SYNC_WAIT);
    case 7:
        return a->n % 4 ? queue_view(s, k, &view) : queue_close(s, k);
    default:
        return queue_create(s, k, &(struct queue_params){a->n % 8, (int64_t)(a->n >> 8 & 3) - 1});
    }
}

static int use_pipe(struct shm *s, const struct act *a, const struct key_name *k) {
    struct pipe_view view;
    unsigned end = a->n & 1;
    switch (a->verb % 7) {
    case 0:
    case 1:
        return pipe_send(s, k, end, text, a->n >> 8 & 1023, SYNC_WAIT);
    case 2:
    case 3:
        return pipe_recv(s, k, end, SYNC_WAIT, see_message, NULL);
    case 4:
        return pipe_poll(s, k, end, SYNC_WAIT);
    case 5:
        return a->n & 2 ? pipe_open(s, k, end) : pipe_close(s, k, end);
    default:
        return a->n & 2 ? pipe_view(s, k, &view)
                        : pipe_create(s, k, &(struct pipe_params){a->n & 4, a->n >> 8 & 255});
    }
}

static int use_lock(struct shm *s, const struct act *a,
                    const struct key_name k[ARRAY_SIZE(names)]) {
    switch (a->verb % 9) {
    case 0:
        return sync_lock_acquire(s, &k[0], SYNC_WAIT);
    case 1:
        return sync_lock_release(s, &k[0], a->n & SYNC_FORCE);
    case 2:
        return sync_rlock_acquire(s, &k[1], SYNC_WAIT);
    case 3:
        return sync_rlock_release(s, &k[1], a->n & SYNC_FORCE);
    case 4:
        return sync_rwlock_read(s, &k[2], SYNC_WAIT);
    case 5:
        return sync_rwlock_write(s, &k[2], SYNC_WAIT);
    case 6:
        return sync_rwlock_release(s, &k[2], 0);
    case 7:
        return sync_cond_wait(s, &k[5], &k[a->n & 1], SYNC_WAIT);
    default:
        return sync_cond_notify(s, &k[5], a->n % 3) < 0 ? -EINVAL : 0;
    }
}

static int use_count(struct shm *s, const struct act *a,
                     const struct key_name k[ARRAY_SIZE(names)]) {
    uint64_t n = 0;
    switch (a->verb % 9) {
    case 0:
        return sync_sem_acquire(s, &k[3], 1 + a->n % 3, SYNC_WAIT);
    case 1:
        return sync_sem_release(s, &k[3], 1 + a->n % 3);
    case 2:
        return sync_event_set(s, &k[4]);
    case 3:
        return sync_event_clear(s, &k[4]);
    case 4:
        return sync_event_wait(s, &k[4], SYNC_WAIT);
    case 5:
        return sync_barrier_wait(s, &k[6], SYNC_WAIT);
    case 6:
        return sync_barrier_reset(s, &k[6]);
    case 7:
        return sync_barrier_abort(s, &k[6]);
    default:
        return sync_parties(s, &k[a->n % ARRAY_SIZE(names)], see_party, &n);
    }
}

static int move_key(struct shm *s, const struct act *a, const struct key_name *k) {
    struct key_name to = key_name(s, "elsewhere", 9);
    struct key key;
    int r = key_find_write(s, k, &key);
    if (r || a->n & 1024) {
        return r ? r : key_delete(s, &key);
    }
    r = key_rename(s, &key, &to);
    r = r ? r : key_find_write(s, &to, &key);
    return r ? r : key_rename(s, &key, k);
}

static int in_act(struct shm *s, void *arg) {
    const struct act *a = arg;
    struct key_name k[ARRAY_SIZE(names)];
    for (uint32_t i = 0; i < ARRAY_SIZE(names); i++) {
        k[i] = named(s, i);
    }
    switch (a->verb >> 4 & 7) {
    case 0:
    case 1:
    case 2:
        return use_queue(s, a, &k[7 + (a->n >> 4 & 1)]);
    case 3:
    case 4:
        return use_pipe(s, a, &k[9]);
    case 5:
        return use_lock(s, a, k);
    case 6:
        return use_count(s, a, k);
    default:
        return move_key(s, a, &k[a->n % ARRAY_SIZE(names)]);
    }
}

static void act_outside(struct shm *s, const struct act *a) {
    struct shm_report report;
    uint64_t conn;
    uint32_t seat = seats[a->n % SEATS];
    switch (a->verb % 11) {
    case 0:
    case 1:
        sync_poll(s);
        break;
    case 2:
        sync_give_up(s);
        break;
    case 3:
        sync_forgo(s);
        break;
    case 4:
        sync_check_cycle(s);
        break;
    case 5:
        queue_expire_leases(s);
        break;
    case 6:
        while (sync_next_granted(s, &conn)) {
        }
        break;
    case 7:
        slot_bury(s, 1 + a->n % (SLOTS - 1), get32(&s->slots[1 + a->n % (SLOTS - 1)].gen));
        break;
    case 8:
        s->actor = 0;
        sync_seat_end(s, seat);
        break;
    case 9:
        op_tidy(s, a->n % SHM_SHARDS);
        break;
    default:
        shm_check(s, &report);
    }
}

/* Who acts: this slot, or one of the connections. */
static void act(struct shm *s, const struct act *a) {
    uint32_t who = a->n >> 28;
    s->actor = who % (SEATS + 1) ? seats[who % (SEATS + 1) - 1] : 0;
    if (a->verb & 0x80) {
        act_outside(s, a);
    } else {
        op_run(s, OP_ALL, in_act, (void *)(uintptr_t)a);
    }
    s->actor = 0;
}

/* ---- the image ---- */

static int fill(struct shm *s, void *arg) {
    (void)arg;
    struct key_name sem = named(s, 3), bar = named(s, 6), q = named(s, 7), l = named(s, 8),
                    p = named(s, 9);
    int r = sync_sem_create(s, &sem, 2, true);
    r = r < 0 ? r : sync_barrier_create(s, &bar, 3);
    r = r < 0 ? r : queue_create(s, &q, &(struct queue_params){4, 0});
    r = r < 0 ? r : queue_create(s, &l, &(struct queue_params){0, 60000});
    return r < 0 ? r : pipe_create(s, &p, &(struct pipe_params){true, 500});
}

/* Each kind has somebody who holds, and somebody who waits. The upper four bits say who. */
static void use_all(struct shm *s) {
    static const struct act acts[] = {
        {0x50, 1u << 28},
        {0x50, 2u << 28},
        {0x52, 1u << 28},
        {0x54, 3u << 28},
        {0x60, 1u << 28},
        {0x60, 4u << 28},
        {0x00, 4u << 28 | 3},
        {0x00, 3u << 28 | 16},
        {0x00, 4u << 28 | 19},
        {0x01, 3u << 28 | 20},
        {0x01, 1u << 28 | 1 << 4},
        {0x30, 1u << 28 | 300 << 8},
        {0x31, 3u << 28 | 400 << 8},
        {0x05, 2u << 28 | 16},
        {0x66, 0},
        {0x24, 3u << 28 | 16},
    };
    for (size_t i = 0; i < ARRAY_SIZE(acts); i++) {
        act(s, &acts[i]);
    }
    become(s, 1);
    act(s, &(struct act){0x01, 16});
    act(s, &(struct act){0x62, 0});
    become(s, 0);
}

static void make_image(void) {
    struct shm s;
    struct shm_params params = {.size = SIZE, .slots = SLOTS, .tasks = 16};
    uint32_t slot, gen;
    memset(text, 't', sizeof(text));
    require(shm_create(&s, &params) == 0);
    s.head->seed = 42; /* an input must mean the same each time */
    s.seed = 42;
    image = malloc(SIZE);
    work = aligned_alloc(4096, SIZE);
    require(image && work);
    for (uint32_t i = 0; i < SLOTS; i++) {
        require(slot_reserve(&s, 0, &slot, &gen) == 0);
    }
    become(&s, 0);
    memcpy(work, s.base, SIZE);
    for (uint32_t i = 0; i < SEATS; i++) {
        require(sync_seat_take(&s, i + 1, 1, 0, &seats[i]) == 0);
    }
    require(op_run(&s, OP_ALL, fill, NULL) >= 0);
    use_all(&s);
    const uint64_t *a = (const void *)work, *b = (const void *)s.base;
    for (uint64_t i = 0; i < SIZE / 8 && n_places < PLACES_MAX; i++) {
        if (i * 8 > sizeof(struct shm_header) && a[i] != b[i]) {
            places[n_places++] = i * 8;
        }
    }
    memcpy(image, s.base, SIZE);
    s.mine = NULL; /* never locked */
    shm_detach(&s);
}

/* ---- the input ---- */

struct input {
    const uint8_t *p;
    size_t left;
};

static uint64_t take(struct input *in, size_t bytes) {
    uint64_t v = 0;
    for (size_t i = 0; i < bytes && in->left; i++, in->p++, in->left--) {
        v |= (uint64_t)*in->p << i * 8;
    }
    return v;
}

/* Small numbers, offsets of real things, bits of what is there, anything. */
static uint64_t value_for(struct input *in, uint64_t old) {
    switch (take(in, 1) % 5) {
    case 0:
        return take(in, 1);
    case 1:
        return places[take(in, 2) % n_places];
    case 2:
        return old ^ UINT64_C(1) << take(in, 1) % 64;
    case 3:
        return places[take(in, 2) % n_places] & ~UINT64_C(15);
    default:
        return take(in, 8);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    struct shm s;
    struct shm_report report;
    if (!image) {
        make_image();
    }
    memcpy(work, image, SIZE);
    lease = 0; /* an input must mean the same each time */
    uint64_t patches = take(&in, 1) % (PATCHES_MAX + 1);
    for (uint64_t i = 0; i < patches; i++) {
        uint64_t *w = (void *)(work + places[take(&in, 2) % n_places]);
        *w = value_for(&in, *w);
    }
    if (shm_view(&s, work, SIZE)) {
        return 0;
    }
    become(&s, 0);
    for (int i = 0; i < VERBS_MAX && in.left; i++) {
        struct act a = {.verb = (uint8_t)take(&in, 1), .n = (uint32_t)take(&in, 4)};
        act(&s, &a);
    }
    require(shm_check(&s, &report) == 0);
    require(patches || report.errors == 0);
    return 0;
}
