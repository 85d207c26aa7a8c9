/* SPDX-License-Identifier: MIT */
/* Rates of operations in memory.
 *
 * The keys are visited in one order by chance, the same for both tables, made before the clock starts. Each turn sets other
 * values than the one before, all bytes of them, since a set that changes nothing is cheaper. Readers on two CPUs are two
 * processes with a slot each, bound to a CPU each; they say how long they took through memory of their own.
 *
 * Rates are by the CPU time of the process that does the work: what others do on the machine counts for less.
 *
 * Fails: what did not work is said on stderr and returned. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/base/clock.h"
#include "lib/shm/layout.h"
#include "lib/shm/lock.h"
#include "lib/shm/slot.h"
#include "tests/bench/bench.h"
#include "tests/bench/objects.h"
#include "tests/support/child.h"

enum { READERS = 2 };

static const struct task_bytes dict = {"dict", 4}, list = {"list", 4}, counter = {"counter", 7};
static struct field_segment field;
static struct plain *plain;
static char (*keys)[KEY_BYTES_16];
static char value[VALUE_BYTES_64];

static struct task_bytes key_at(uint64_t i) {
    return (struct task_bytes){keys[i % ENTRIES], KEY_BYTES_16};
}

static int make_keys(void) {
    keys = calloc(ENTRIES, sizeof(*keys));
    if (!keys) {
        return -ENOMEM;
    }
    uint64_t rnd = 88172645463325252;
    for (uint64_t i = 0; i < ENTRIES; i++) {
        field_key(keys[i], i);
    }
    for (uint64_t i = ENTRIES - 1; i > 0; i--) {
        char swap[KEY_BYTES_16];
        rnd ^= rnd << 13;
        rnd ^= rnd >> 7;
        rnd ^= rnd << 17;
        uint64_t k = rnd % (i + 1);
        memcpy(swap, keys[i], sizeof(swap));
        memcpy(keys[i], keys[k], sizeof(swap));
        memcpy(keys[k], swap, sizeof(swap));
    }
    return 0;
}

/* ---- one turn of each: operations a second, or -errno ---- */

typedef double turn_fn(unsigned n);

static double rate(unsigned n, uint64_t since) {
    return n / bench_seconds(since);
}

static double dict_set_turn(unsigned n) {
    memset(value, value[0] ^ 0x55, sizeof(value));
    uint64_t since = clock_now();
    for (unsigned i = 0; i < n; i++) {
        int r = objects_dict_set(&field.objects, dict, key_at(i),
                                 (struct task_bytes){value, sizeof(value)});
        if (r < 0) {
            return r;
        }
    }
    return rate(n, since);
}

static double dict_get_turn(unsigned n) {
    uint64_t since = clock_now();
    for (unsigned i = 0; i < n; i++) {
        struct task_bytes b;
        int r = objects_dict_get(&field.objects, dict, key_at(i), &b);
        if (r < 0 || b.len != VALUE_BYTES_64) {
            return r < 0 ? r : -EBADMSG;
        }
        __asm__ volatile("" : : "r"(b.data) : "memory");
    }
    return rate(n, since);
}

static double plain_set_turn(unsigned n) {
    static char other[VALUE_BYTES_64];
    memset(other, other[0] ^ 0x55, sizeof(other));
    uint64_t since = clock_now();
    for (unsigned i = 0; i < n; i++) {
        int r = plain_set(plain, key_at(i).data, other);
        if (r < 0) {
            return r;
        }
    }
    return rate(n, since);
}

static double plain_get_turn(unsigned n) {
    char out[VALUE_BYTES_64];
    uint64_t since = clock_now();
    for (unsigned i = 0; i < n; i++) {
        if (!plain_get(plain, key_at(i).data, out)) {
            return -ENOENT;
        }
        __asm__ volatile("" : : "r"(out) : "memory");
    }
    return rate(n, since);
}

static double lmdb_set_turn(unsigned n) {
    static char other[VALUE_BYTES_64];
    memset(other, other[0] ^ 0x55, sizeof(other));
    for (unsigned i = 0; i < n; i++) {
        int r = objects_lmdb_set(key_at(i).data, other);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static double lmdb_get_turn(unsigned n) {
    char out[VALUE_BYTES_64];
    for (unsigned i = 0; i < n; i++) {
        int r = objects_lmdb_get(key_at(i).data, out);
        if (r < 0) {
            return r;
        }
        __asm__ volatile("" : : "r"(out) : "memory");
    }
    return 0;
}

static const struct task_bytes element = {"an element of 24 bytes..", 24};

static double push_turn(unsigned n) {
    uint64_t since = clock_now();
    for (unsigned i = 0; i < n; i++) {
        int64_t r = objects_list_push(&field.objects, list, OBJECTS_RIGHT, &element, 1);
        if (r < 0) {
            return (double)r;
        }
    }
    return rate(n, since);
}

static double pop_turn(unsigned n) {
    uint64_t since = clock_now();
    for (unsigned i = 0; i < n; i++) {
        struct task_bytes b;
        int r = objects_list_pop(&field.objects, list, OBJECTS_LEFT, &b);
        if (r < 0) {
            return r;
        }
    }
    return rate(n, since);
}

static double add_turn(unsigned n) {
    uint64_t since = clock_now();
    for (unsigned i = 0; i < n; i++) {
        int r = objects_value_add(&field.objects, counter, 1, NULL);
        if (r < 0) {
            return r;
        }
    }
    return rate(n, since);
}

/* As LMDB's, these two by the CPU's time only. */
static double lock_turn(unsigned n) {
    struct shm_lock *lock = &field.shm.shards[0].lock;
    for (unsigned i = 0; i < n; i++) {
        int r = lock_take(&field.shm, lock);
        if (r < 0) {
            return r;
        }
        lock_drop(&field.shm, lock);
    }
    return 0;
}

static double mutex_turn(unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        plain_lock(plain);
        plain_unlock(plain);
    }
    return 0;
}

/* ---- readers ---- */

/* What this process has used of its CPU. */
static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct reading {
    _Atomic uint32_t ready, go;
    double rates[READERS];
};
static struct reading *reading;

struct reader {
    unsigned number, n;
    bool plain;
    uint32_t slot, gen;
};

static int reader_main(void *arg) {
    const struct reader *m = arg;
    cpu_set_t all, one;
    if (sched_getaffinity(0, sizeof(all), &all)) {
        return 1;
    }
    CPU_ZERO(&one);
    for (int cpu = 0, k = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &all) && k++ == (int)m->number) {
            CPU_SET(cpu, &one);
        }
    }
    if (CPU_COUNT(&one) && sched_setaffinity(0, sizeof(one), &one)) {
        return 1;
    }
    struct shm own;
    if (shm_attach(&own, field.shm.fd) || slot_attach(&own, m->slot, m->gen)) {
        return 1;
    }
    field.shm = own;
    objects_init(&field.objects, &field.shm);
    /* the pages of a new mapping are met one by one: not part of what is measured */
    double warm = m->plain ? plain_get_turn(ENTRIES) : dict_get_turn(ENTRIES);
    reading->ready++;
    while (!reading->go) {
        sched_yield();
    }
    double since = cpu_seconds();
    double r = m->plain ? plain_get_turn(m->n) : dict_get_turn(m->n);
    reading->rates[m->number] = m->n / (cpu_seconds() - since);
    return warm > 0 && r > 0 ? 0 : 1;
}

/* Starts one with a slot of its own: its pid or -errno. */
static pid_t reader_start(struct reader *m) {
    int r = slot_reserve(&field.shm, 0, &m->slot, &m->gen);
    pid_t pid = r < 0 ? r : child_start(reader_main, m);
    if (r == 0 && pid < 0) {
        slot_release(&field.shm, m->slot, m->gen);
    }
    return pid;
}

static int reader_end(const struct reader *m, pid_t pid) {
    int r = child_wait(pid);
    int buried = slot_bury(&field.shm, m->slot, m->gen);
    if (buried == 0) {
        slot_release(&field.shm, m->slot, m->gen);
    }
    return r ? -ECHILD : buried;
}

/* So many at once: gets a second, of all together. */
static double read_together(unsigned readers, unsigned n, bool of_plain) {
    struct reader m[READERS];
    pid_t pids[READERS];
    double sum = 0;
    *reading = (struct reading){0};
    for (unsigned i = 0; i < readers; i++) {
        m[i] = (struct reader){.number = i, .n = n, .plain = of_plain};
        pids[i] = reader_start(&m[i]);
        if (pids[i] < 0) {
            return pids[i];
        }
    }
    uint64_t since = clock_now();
    while (reading->ready < readers && bench_seconds(since) < 10) {
        sched_yield();
    }
    reading->go = 1;
    for (unsigned i = 0; i < readers; i++) {
        int r = reader_end(&m[i], pids[i]);
        sum = r < 0 ? r : sum + reading->rates[i];
        if (r < 0) {
            return sum;
        }
    }
    return sum;
}

static double one_reader(unsigned n) {
    return read_together(1, n, false);
}
static double two_readers(unsigned n) {
    return read_together(2, n, false);
}
static double one_plain(unsigned n) {
    return read_together(1, n, true);
}
static double two_plain(unsigned n) {
    return read_together(2, n, true);
}

/* ---- all of them ---- */

enum what {
    SET,
    P_SET,
    GET,
    P_GET,
    ONE,
    TWO,
    P_ONE,
    P_TWO,
    PUSH,
    POP,
    ADD,
    LOCK,
    MUTEX,
    L_SET,
    L_GET,
    WHATS
};

static const struct {
    const char *name;
    turn_fn *fn;
    unsigned n, quick;
} whats[WHATS] = {
    [SET] = {"dict set", dict_set_turn, 400000, ENTRIES},
    [P_SET] = {"set of the plain table", plain_set_turn, 400000, ENTRIES},
    [GET] = {"dict get", dict_get_turn, 400000, ENTRIES},
    [P_GET] = {"get of the plain table", plain_get_turn, 400000, ENTRIES},
    [ONE] = {"one reader", one_reader, 1000000, ENTRIES},
    [TWO] = {"two readers", two_readers, 1000000, ENTRIES},
    [P_ONE] = {"one reader of the plain table", one_plain, 1000000, ENTRIES},
    [P_TWO] = {"two readers of the plain table", two_plain, 1000000, ENTRIES},
    [PUSH] = {"list push", push_turn, 500000, 10000},
    [POP] = {"list pop", pop_turn, 500000, 10000},
    [ADD] = {"increments", add_turn, 1000000, 10000},
    [LOCK] = {"lock", lock_turn, 2000000, 10000},
    [MUTEX] = {"robust mutex", mutex_turn, 2000000, 10000},
    [L_SET] = {"put of LMDB", lmdb_set_turn, 40000, 1000},
    [L_GET] = {"get of LMDB", lmdb_get_turn, 100000, 1000},
};

static int measure(struct bench_samples s[WHATS], struct bench_samples cpu[WHATS], bool with_lmdb) {
    /* the first of each makes what the others find */
    double v = dict_set_turn(ENTRIES);
    v = v < 0 ? v : plain_set_turn(ENTRIES);
    v = v < 0 || !with_lmdb ? v : lmdb_set_turn(ENTRIES);
    if (v < 0) {
        return bench_failed("filling the tables", (int)v);
    }
    for (unsigned turn = 0; turn < bench_count(11, 1); turn++) {
        for (unsigned k = 0; k < (with_lmdb ? WHATS : L_SET); k++) {
            unsigned n = bench_count(whats[k].n, whats[k].quick);
            double since = cpu_seconds();
            v = whats[k].fn(n);
            since = cpu_seconds() - since;
            if (v < 0) {
                return bench_failed(whats[k].name, (int)v);
            }
            bench_add(&s[k], v);
            bench_add(&cpu[k], k == LOCK || k == MUTEX ? since * 1e9 / n : n / since);
        }
    }
    return 0;
}

/* Prints gets and sets a second of multiprocessing's Manager().dict(), on two lines. */
static int manager(double *ret_get, double *ret_set) {
    const char *source = getenv("HEARTH_SOURCE");
    char script[512], count[16];
    snprintf(script, sizeof(script), "%s/tests/bench/manager.py", source ? source : ".");
    snprintf(count, sizeof(count), "%u", bench_count(20000, 200));
    const char *const argv[] = {"python3", script, count, NULL};
    struct child_output out;
    int r = child_run(argv, NULL, NULL, 0, &out);
    if (r == 0) {
        r = out.status == 0 && sscanf(buf_head(&out.out), "%lf %lf", ret_get, ret_set) == 2
                ? 0
                : -ENOENT;
        child_output_deinit(&out);
    }
    return r;
}

static void print_manager(const struct bench_samples s[WHATS]) {
    double get, set;
    if (manager(&get, &set)) {
        bench_note("Manager().dict: skipped, python3 does not run");
        return;
    }
    struct bench_line l = {"dict get", "/s", bench_median(&s[GET]), "Manager().dict",
                           get,        0,    BENCH_RATIO_AT_LEAST,  100};
    bench_print(&l);
    l.what = "dict set";
    l.ours = bench_median(&s[SET]);
    l.other = set;
    bench_print(&l);
}

static void print_lmdb(const struct bench_samples cpu[WHATS]) {
    if (cpu[L_GET].n == 0) {
        bench_note("LMDB: skipped, it was not there when this was built, or there is no /dev/shm");
        return;
    }
    struct bench_line l = {"dict get", "/s", 0, "LMDB on /dev/shm", 0, 0, BENCH_RATIO_AT_LEAST, 3};
    bench_compare(l, &cpu[GET], &cpu[L_GET]);
    l.what = "dict set";
    l.goal_value = 5;
    bench_compare(l, &cpu[SET], &cpu[L_SET]);
}

static void print(const struct bench_samples s[WHATS], const struct bench_samples cpu[WHATS]) {
    bench_heading("Mapped: 100,000 entries, 16-byte keys, 64-byte values");
    struct bench_line l = {"dict get",           "/s", 0, "plain table, robust mutex", 0, 0,
                           BENCH_RATIO_AT_LEAST, 0.8};
    bench_compare(l, &cpu[GET], &cpu[P_GET]);
    l.what = "dict set";
    l.goal_value = 0.5;
    bench_compare(l, &cpu[SET], &cpu[P_SET]);
    l = (struct bench_line){
        "list push, 24-byte elements", "/s", 0, NULL, 0, 0, BENCH_AT_LEAST, 5e6};
    bench_compare(l, &cpu[PUSH], NULL);
    l.what = "list pop";
    bench_compare(l, &cpu[POP], NULL);
    l.what = "increment of a value";
    bench_compare(l, &cpu[ADD], NULL);
    l = (struct bench_line){
        "lock and unlock, uncontended", "ns", 0, "robust mutex", 0, 0, BENCH_AT_MOST, 25};
    bench_compare(l, &cpu[LOCK], &cpu[MUTEX]);
    print_lmdb(cpu);
    l = (struct bench_line){"dict get, two readers on two CPUs",
                            "/s",
                            0,
                            "one reader",
                            0,
                            0,
                            BENCH_RATIO_AT_LEAST,
                            1.8};
    bench_compare(l, &s[TWO], &s[ONE]);
    l = (struct bench_line){"plain table, two readers", "/s", 0, "one reader", 0, 0, 0, 0};
    bench_compare(l, &s[P_TWO], &s[P_ONE]);
    bench_note("above: by each process's CPU time, so that others on the machine count for less");
    print_manager(s);
}

int objects_mapped(void) {
    static struct bench_samples s[WHATS], cpu[WHATS];
    int r = field_segment_open(&field, UINT64_C(256) << 20);
    if (r < 0) {
        return r;
    }
    plain = plain_new(ENTRIES);
    reading =
        mmap(NULL, sizeof(*reading), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    r = !plain || reading == MAP_FAILED ? -ENOMEM : make_keys();
    r = r < 0 ? bench_failed("memory", r) : objects_lmdb_open();
    r = r < 0 ? r : measure(s, cpu, r == 1);
    if (r == 0) {
        print(s, cpu);
    }
    if (reading != MAP_FAILED) {
        munmap(reading, sizeof(*reading));
    }
    objects_lmdb_close();
    plain_free(plain);
    free(keys);
    field_segment_close(&field);
    return r;
}
