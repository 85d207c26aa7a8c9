/* SPDX-License-Identifier: MIT */
/* Making, laying out, sealing and mapping the segment.
 *
 * Where everything lies is a pure function of (size, slots, tasks): lay_out(). Attaching recomputes
 * it and compares, so a header that was damaged, or written by another build, is refused as a
 * whole, and the handle keeps its own copies of the pointers: no offset of the header is ever read
 * again. The memfd is sealed against shrinking and growing, so nobody can turn another process's
 * read into SIGBUS.
 *
 * Fails: -EINVAL (parameters), -EBADMSG and -EPROTO (not our segment, another layout), -errno of
 * the system. */
#include "lib/shm/segment.h"

#include "lib/shm/adopt.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/shm/alloc.h"
#include "lib/shm/internal.h"
#include "lib/shm/layout.h"
#include "lib/shm/ring.h"

enum { DONE_RING_MAX = 16384, FRONT_RING_MAX = 4096, SLOTS_MAX = 1024, TASKS_MAX = 16 << 20 };
enum { SEATS_FEW = 64, SEATS_MAX = 32768, SEAT_SHARE = 64 }; /* a 64th of it, at most 4 MiB */
enum { MANAGERS_FEW = 16, MANAGERS_FEW_SIZE = 16 << 20 };

/* FNV-1a over everything a process built differently would disagree on. */
static uint32_t layout_signature(void) {
    static const uint32_t facts[] = {
        SHM_VERSION,
        sizeof(struct shm_header),
        sizeof(struct shm_pool),
        sizeof(struct shm_slot),
        sizeof(struct shm_seat),
        sizeof(struct shm_sync),
        sizeof(struct shm_queue),
        sizeof(struct shm_item),
        sizeof(struct shm_pipe),
        sizeof(struct shm_shard),
        sizeof(struct shm_manager),
        sizeof(struct shm_key),
        sizeof(struct shm_hash),
        sizeof(struct shm_use),
        sizeof(struct shm_account),
        sizeof(struct shm_arena),
        sizeof(struct shm_chunk),
        sizeof(struct shm_task),
        sizeof(struct shm_stream),
        sizeof(pthread_mutex_t),
        offsetof(struct shm_header, done),
        offsetof(struct shm_header, chunk_lock),
        offsetof(struct shm_slot, hand),
        offsetof(struct shm_slot, undo),
        offsetof(struct shm_pool, napping),
        offsetof(struct shm_task, in),
        offsetof(struct shm_task, out),
        SHM_CHUNK,
        SHM_CLASSES,
        SHM_ACCOUNTS,
        SHM_UNDO,
    };
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < ARRAY_SIZE(facts); i++) {
        h = (h ^ facts[i]) * 16777619u;
    }
    return h;
}

static uint64_t align_up(uint64_t v, uint64_t to) {
    return (v + to - 1) & ~(to - 1);
}

static uint64_t power_of_two(uint64_t at_least) {
    uint64_t v = 1;
    while (v < at_least) {
        v *= 2;
    }
    return v;
}

/* Seats for slots, and for connections as many as the segment is large enough for. */
static uint32_t seat_count(uint64_t size, uint32_t slots) {
    uint64_t more = size / SEAT_SHARE / sizeof(struct shm_seat);
    more = more < SEATS_FEW ? SEATS_FEW : more > SEATS_MAX ? SEATS_MAX : more;
    return slots + (uint32_t)more;
}

static uint64_t done_capacity(uint32_t tasks) {
    uint64_t want = power_of_two((uint64_t)tasks * 2);
    return want < DONE_RING_MAX ? want : DONE_RING_MAX;
}

/* Fills in the places; -EINVAL when size cannot hold them and at least one chunk. */
static int lay_out(struct shm_header *h, uint64_t size, uint32_t slots, uint32_t tasks) {
    *h = (struct shm_header){.magic = SHM_MAGIC,
                             .version = SHM_VERSION,
                             .signature = layout_signature(),
                             .size = size,
                             .pools = SHM_POOLS,
                             .slots = slots,
                             .seats = seat_count(size, slots),
                             .tasks = tasks,
                             .managers = size < MANAGERS_FEW_SIZE ? MANAGERS_FEW : SHM_MANAGERS};
    uint64_t at = align_up(sizeof(*h), 4096);
    h->pools_off = at;
    at = align_up(at + SHM_POOLS * sizeof(struct shm_pool), 4096);
    h->slots_off = at;
    at = align_up(at + slots * sizeof(struct shm_slot), 4096);
    h->seats_off = at;
    at += h->seats * sizeof(struct shm_seat);
    h->granted_off = at;
    at = align_up(at + ((uint64_t)h->seats + 63) / 64 * 8, 4096);
    h->done_off = at;
    at += done_capacity(tasks) * 8;
    h->free_off = at;
    at = align_up(at + ((uint64_t)tasks + 63) / 64 * 8, 4096);
    h->tasks_off = at;
    at += (uint64_t)tasks * sizeof(struct shm_task);
    h->shards_off = at;
    at += SHM_SHARDS * sizeof(struct shm_shard);
    h->managers_off = at;
    at += h->managers * sizeof(struct shm_manager);
    h->uses_off = at;
    at += SHM_SHARDS * SHM_ACCOUNTS * sizeof(struct shm_use);
    h->accounts_off = at;
    at += SHM_ACCOUNTS * sizeof(struct shm_account);
    h->arenas_off = at;
    at = align_up(at + SHM_ARENAS * sizeof(struct shm_arena), 4096);
    if (at + 4 * SHM_CHUNK > size) {
        return -EINVAL;
    }
    /* heads, map and data share what is left */
    uint64_t chunks = (size - at) / (SHM_CHUNK + sizeof(struct shm_chunk) + 1);
    for (;; chunks--) {
        h->chunks_off = at;
        h->map_off = at + chunks * sizeof(struct shm_chunk);
        h->data_off = align_up(h->map_off + (chunks + 63) / 64 * 8, SHM_CHUNK);
        if (chunks <= 1 || h->data_off + chunks * SHM_CHUNK <= size) {
            break;
        }
    }
    if (chunks < 1 || chunks >= UINT32_MAX) {
        return -EINVAL;
    }
    h->chunks = (uint32_t)chunks;
    return 0;
}

static void bind_handle(struct shm *s, uint8_t *base, const struct shm_header *h) {
    *s = (struct shm){
        .base = base,
        .size = h->size,
        .fd = -1,
        .bell_fd = -1,
        .patience_ns = 5 * NS_PER_SEC,
        .work_spin = {.ns = SHM_SPIN_MAX},
        .head = (void *)base,
        .pools = (void *)(base + h->pools_off),
        .slots = (void *)(base + h->slots_off),
        .seats = (void *)(base + h->seats_off),
        .granted = (void *)(base + h->granted_off),
        .free_map = (void *)(base + h->free_off),
        .tasks = (void *)(base + h->tasks_off),
        .shards = (void *)(base + h->shards_off),
        .managers = (void *)(base + h->managers_off),
        .uses = (void *)(base + h->uses_off),
        .accounts = (void *)(base + h->accounts_off),
        .arenas = (void *)(base + h->arenas_off),
        .chunks = (void *)(base + h->chunks_off),
        .chunk_map = (void *)(base + h->map_off),
        .data_off = h->data_off,
        .seed = h->seed,
        .tx_room = SHM_UNDO,
        .op_arena = -1,
        .n_slots = h->slots,
        .n_seats = h->seats,
        .n_tasks = h->tasks,
        .n_managers = h->managers,
        .n_chunks = h->chunks,
    };
}

static void fill_bits(_Atomic uint64_t *map, uint64_t n) {
    for (uint64_t i = 0; i < n / 64; i++) {
        put(&map[i], UINT64_MAX);
    }
    if (n % 64) {
        put(&map[n / 64], (UINT64_C(1) << (n % 64)) - 1);
    }
}

int shm_create_in(struct shm *ret, const struct shm_params *p, int fd_in) {
    uint64_t size = align_up(p->size, 4096);
    uint64_t tasks = p->tasks ? p->tasks : size / 4 / sizeof(struct shm_task);
    if (!p->tasks && tasks > TASKS_MAX) {
        tasks = TASKS_MAX;
    }
    if (p->size < (1 << 20) || p->size > (UINT64_C(1) << 40) || p->slots < 2 ||
        p->slots > SLOTS_MAX || tasks < 16 || tasks > TASKS_MAX) {
        return -EINVAL;
    }
    struct shm_header h;
    int r = lay_out(&h, size, p->slots, (uint32_t)tasks);
    if (r) {
        return r;
    }
    _cleanup_close_ int fd = fcntl(fd_in, F_DUPFD_CLOEXEC, 3);
    if (fd < 0 || ftruncate(fd, 0) < 0 || ftruncate(fd, (off_t)size) < 0) {
        return -errno;
    }
    uint8_t *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        return -errno;
    }
    h.created_ms = clock_wall_ms();
    /* room for 2^20 ids a millisecond: no restart can give an id twice */
    h.next_id = h.created_ms << 20;
    h.next_check_ns = UINT64_MAX;
    if (getrandom(&h.seed, sizeof(h.seed), GRND_NONBLOCK) != sizeof(h.seed)) {
        h.seed = clock_now() * UINT64_C(0x9e3779b97f4a7c15);
    }
    h.chunks_free = h.chunks;
    ring_init(&h.done, h.done_off, done_capacity(h.tasks));
    h.magic = 0;
    memcpy(base, &h, sizeof(h));
    bind_handle(ret, base, &h);
    ret->fd = steal_fd(&fd);
    fill_bits(ret->free_map, h.tasks);
    fill_bits(ret->chunk_map, h.chunks);
    atomic_signal_fence(
        memory_order_seq_cst); /* who is killed before it leaves a file that is no segment */
    ret->head->magic = SHM_MAGIC;
    return 0;
}

int shm_create(struct shm *ret, const struct shm_params *p) {
    _cleanup_close_ int fd = memfd_create("hearth-segment", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    /* whoever is given a descriptor that only reads must not open it anew for writing: hence the mode */
    if (fd < 0 || fchmod(fd, S_IRUSR | S_IWUSR) < 0) {
        return -errno;
    }
    int r = shm_create_in(ret, p, fd);
    if (r == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        r = -errno;
        shm_detach(ret);
    }
    return r;
}

int shm_view(struct shm *ret, void *base, uint64_t size) {
    const struct shm_header *h = base;
    if (size < sizeof(*h) || h->magic != SHM_MAGIC) {
        return -EBADMSG;
    }
    if (h->version != SHM_VERSION || h->signature != layout_signature()) {
        return -EPROTO;
    }
    struct shm_header want, have;
    memcpy(&have, h, sizeof(have));
    if (have.size != size || have.slots < 2 || have.slots > SLOTS_MAX || have.tasks < 16 ||
        have.tasks > TASKS_MAX || lay_out(&want, size, have.slots, have.tasks) ||
        memcmp(&want.pools_off, &have.pools_off,
               offsetof(struct shm_header, chunks) + sizeof(want.chunks) -
                   offsetof(struct shm_header, pools_off)) != 0) {
        return -EBADMSG;
    }
    want.seed = have.seed;
    bind_handle(ret, base, &want);
    return 0;
}

static int attach(struct shm *ret, int fd, int prot) {
    struct stat st;
    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    /* a file that has a name cannot be sealed: whose it is, is trusted not to shorten it */
    int seals = fcntl(fd, F_GET_SEALS);
    bool sealed = seals >= 0 && (seals & F_SEAL_SHRINK) && (seals & F_SEAL_GROW);
    if (!S_ISREG(st.st_mode) || (!sealed && st.st_nlink == 0) || st.st_size < (1 << 20)) {
        return -EBADMSG;
    }
    _cleanup_close_ int mine = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (mine < 0) {
        return -errno;
    }
    void *base = mmap(NULL, (size_t)st.st_size, prot, MAP_SHARED, mine, 0);
    if (base == MAP_FAILED) {
        return -errno;
    }
    struct shm s;
    int r = shm_view(&s, base, (uint64_t)st.st_size);
    if (r) {
        munmap(base, (size_t)st.st_size);
        return r;
    }
    s.fd = steal_fd(&mine);
    *ret = s;
    return 0;
}

int shm_attach(struct shm *ret, int fd) {
    return attach(ret, fd, PROT_READ | PROT_WRITE);
}

int shm_attach_readonly(struct shm *ret, int fd) {
    return attach(ret, fd, PROT_READ);
}

void shm_share(const struct shm *s, struct shm *ret) {
    *ret = *s;
    ret->fd = ret->bell_fd = -1;
    ret->me = ret->slot = 0;
    ret->mine = NULL;
    ret->tx_room = SHM_UNDO;
    ret->tx_entries = 0;
    ret->work_spin.ns = 0;
    ret->actor = 0;
    assert(ret->op_shards == 0 && ret->op_depth == 0 && ret->op_arena < 0 && !ret->op_chunks);
    memset(ret->seen, 0, sizeof(ret->seen));
}

/* A word of this process, wherever it is; false: there is none. */
static bool read_word(uintptr_t at, uintptr_t *ret) {
    struct iovec to = {ret, sizeof(*ret)}, from = {(void *)at, sizeof(*ret)};
    return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == (ssize_t)sizeof(*ret) ||
           errno != EFAULT; /* not allowed to ask: as it always was */
}

/* A robust mutex is in a list of its thread's, whose links lie in the mutex, and so in the segment: to
 * unlock it follows them. Whether its neighbours, where it believes them to be, know of it. */
static bool life_is_linked(struct shm_slot *d) {
#if __PTHREAD_MUTEX_HAVE_PREV
    const struct __pthread_internal_list *l = &d->life.__data.__list;
    uintptr_t self = (uintptr_t)&l->__next, next = (uintptr_t)l->__next & ~(uintptr_t)1;
    uintptr_t prev = (uintptr_t)l->__prev & ~(uintptr_t)1, back = self, forth = self;
    return next && prev && read_word(next - sizeof(void *), &back) && read_word(prev, &forth) &&
           (back & ~(uintptr_t)1) == self && (forth & ~(uintptr_t)1) == self;
#else
    (void)d;
    return true;
#endif
}

void shm_detach(struct shm *s) {
    if (!s->base) {
        return;
    }
    if (s->mine) {
        assert(s->tx_entries == 0);
        if (life_is_linked(s->mine)) {
            pthread_mutex_unlock(&s->mine->life);
        }
    }
    if (s->fd >= 0) {
        munmap(s->base, s->size);
        close(s->fd);
    }
    *s = (struct shm){.fd = -1, .bell_fd = -1};
}

/* The pool's rings must read as zeroes; a punched hole does, without touching a page. */
static int zero_block(struct shm *s, uint64_t off, uint64_t len) {
    if (s->fd >= 0 &&
        fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) == 0) {
        return 0;
    }
    memset(s->base + off, 0, len);
    return 0;
}

/* half as many again: hints double when a process dies, and cancelled tasks leave theirs behind */
static uint64_t ready_capacity(uint32_t queue_max) {
    return power_of_two((uint64_t)queue_max + queue_max / 2 + 64);
}

uint32_t shm_pool_room(uint32_t queue_max) {
    return (uint32_t)((ready_capacity(queue_max) - 64) / 3 * 2);
}

static int make_rings(struct shm *s, struct shm_pool *p, uint32_t queue_max) {
    uint64_t capacity = ready_capacity(queue_max);
    uint64_t front = capacity < FRONT_RING_MAX ? capacity : FRONT_RING_MAX;
    int r = alloc_take_back(s, &p->ready.entries_off); /* who was killed here may have left some */
    if (r == -EAGAIN) {
        return r;
    }
    r = alloc_give(s, &p->ready.entries_off, (capacity + front) * 8);
    if (r) {
        return r == -EMSGSIZE ? -EINVAL : r;
    }
    uint64_t off = get(&p->ready.entries_off);
    if (!alloc_ptr(s, off, (capacity + front) * 8)) {
        return -EBADMSG;
    }
    r = zero_block(s, off, (capacity + front) * 8);
    ring_init(&p->ready, off, capacity);
    ring_init(&p->front, off + capacity * 8, front);
    return r;
}

int shm_pool_create(struct shm *s, uint32_t index, const char *name, uint32_t queue_max) {
    if (index >= SHM_POOLS || !*name || strlen(name) >= sizeof(s->pools[0].name) || queue_max < 1 ||
        queue_max > 4 << 20) {
        return -EINVAL;
    }
    struct shm_pool *p = &s->pools[index];
    if (p->name[0]) {
        return -EEXIST;
    }
    int r = make_rings(s, p, queue_max);
    if (r == 0) {
        strcpy(p->name, name);
    }
    return r;
}

int shm_pool_renew(struct shm *s, uint32_t index, uint32_t queue_max) {
    struct shm_pool *p = &s->pools[index];
    if (index >= SHM_POOLS || queue_max < 1 || queue_max > 4 << 20) {
        return -EINVAL;
    }
    return make_rings(s, p, queue_max);
}

void shm_ring_daemon(struct shm *s) {
    if (s->bell_fd < 0 || !atomic_load(&s->head->asleep)) {
        return;
    }
    if (atomic_exchange(&s->head->asleep, 0)) {
        uint64_t one = 1;
        ssize_t w;
        do {
            w = write(s->bell_fd, &one, sizeof(one));
        } while (w < 0 && errno == EINTR);
    }
}

void shm_usage(struct shm *s, struct shm_usage *ret) {
    *ret = (struct shm_usage){.size = s->size,
                              .chunk_bytes = SHM_CHUNK,
                              .chunks = s->n_chunks,
                              .chunks_free = get(&s->head->chunks_free),
                              .tasks = s->n_tasks,
                              .slots = s->n_slots};
}

void shm_daemon_sleeps(struct shm *s) {
    atomic_store(&s->head->asleep, 1);
}

void shm_daemon_wakes(struct shm *s) {
    atomic_store_explicit(&s->head->asleep, 0, memory_order_relaxed);
}

uint32_t shm_news(struct shm *s) {
    return atomic_load(&s->head->news); /* after `asleep` was stored */
}

void shm_next_check(struct shm *s, uint64_t at_ns) {
    atomic_store(&s->head->next_check_ns, at_ns);
}
