/* SPDX-License-Identifier: MIT */
/* A dict that grows from empty to millions of fields: how long did the longest operation take, and what does a field cost in
 * memory?
 *
 * What is timed includes what the machine does meanwhile: first touches of pages, other processes, the host. So beside it
 * runs a loop that does nothing but touch as many new bytes of a memfd per turn; a maximum that both have is the machine's.
 * Operations above 1 ms are counted together with how often the process lost its CPU against its will.
 *
 * HEARTH_BENCH_LONG=1: 10 million fields. Fails: what did not work is said on stderr and returned. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include <inttypes.h>
#include "tests/bench/bench.h"
#include "tests/bench/objects.h"

enum { TIMES = 100000, UNIT_NS = 20, NOISE_STEP = 128 };

static const struct task_bytes dict = {"dict", 4};

/* Both clocks: what went by, and what this thread used of its CPU, which leaves out that it was put off.
 * Times in steps of 20 ns, the last one for all that took 2 ms or more. */
struct times {
    uint32_t counts[TIMES];
    uint64_t n, max, over, moment, cpu_max, cpu_over, cpu_moment;
    long lost, lost_begin;
};
static struct times ours, noise;

static long lost_cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_nivcsw;
}

static uint64_t cpu_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

static void times_begin(struct times *t) {
    *t = (struct times){.lost_begin = lost_cpu(), .cpu_moment = cpu_now(), .moment = clock_now()};
}

static void times_add(struct times *t) {
    uint64_t ns = clock_now() - t->moment, i = ns / UNIT_NS;
    uint64_t cpu = cpu_now() - t->cpu_moment;
    t->counts[i < TIMES ? i : TIMES - 1]++;
    t->n++;
    t->max = ns > t->max ? ns : t->max;
    t->over += ns > NS_PER_MS;
    t->cpu_max = cpu > t->cpu_max ? cpu : t->cpu_max;
    t->cpu_over += cpu > NS_PER_MS;
    t->cpu_moment = cpu_now();
    t->moment = clock_now();
}

static double at_most_us(const struct times *t, double part) {
    uint64_t want = (uint64_t)((double)t->n * part), n = 0;
    for (unsigned i = 0; i < TIMES; i++) {
        n += t->counts[i];
        if (n >= want) {
            return (i + 1) * (double)UNIT_NS / 1000;
        }
    }
    return (double)t->max / 1000;
}

static int make_noise(uint64_t n) {
    int fd = memfd_create("noise", MFD_CLOEXEC);
    size_t bytes = n * NOISE_STEP;
    char *p = MAP_FAILED;
    if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0) {
        p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (p == MAP_FAILED) {
        return bench_failed("memory for the comparison", -ENOMEM);
    }
    times_begin(&noise);
    for (uint64_t i = 0; i < n; i++) {
        memset(p + i * NOISE_STEP, 1, NOISE_STEP);
        times_add(&noise);
    }
    noise.lost = lost_cpu() - noise.lost_begin;
    munmap(p, bytes);
    return 0;
}

static int grow(struct field_segment *f, uint64_t n) {
    char key[KEY_BYTES_16], value[VALUE_BYTES_64];
    memset(value, 'v', sizeof(value));
    times_begin(&ours);
    for (uint64_t i = 0; i < n; i++) {
        field_key(key, i);
        int r = objects_dict_set(&f->objects, dict, (struct task_bytes){key, sizeof(key)},
                                 (struct task_bytes){value, sizeof(value)});
        if (r < 0) {
            return bench_failed("dict set", r);
        }
        times_add(&ours);
    }
    ours.lost = lost_cpu() - ours.lost_begin;
    return 0;
}

static int redis_bytes(uint64_t n, double *ret) {
    struct redis r;
    int e = redis_open(&r);
    if (e <= 0) {
        return e;
    }
    char key[KEY_BYTES_16], value[VALUE_BYTES_64];
    memset(value, 'v', sizeof(value));
    for (uint64_t i = 0; i < n && e >= 0; i++) {
        field_key(key, i);
        struct resp_arg words[] = {{"HSET", 4}, {"dict", 4}, {key, sizeof(key)}, {value, 64}};
        e = wire_send_words(&r.wire, words, 4);
        e = e < 0 ? e : wire_read(&r.wire, WIRE_LIMIT_MS);
    }
    int64_t bytes = 0;
    if (e >= 0) {
        const char *text = wire_call(&r.wire, "MEMORY", "USAGE", "dict", "SAMPLES", "0", NULL);
        e = sscanf(text, ":%" SCNd64, &bytes) == 1 ? 1 : -EBADMSG;
    }
    redis_close(&r);
    *ret = (double)bytes / (double)n;
    return e < 0 ? bench_failed("HSET and MEMORY USAGE of redis-server", e) : 1;
}

static uint64_t used_bytes(struct shm *s) {
    struct shm_usage u;
    shm_usage(s, &u);
    return (u.chunks - u.chunks_free) * u.chunk_bytes;
}

static int entry_bytes(uint64_t n) {
    struct field_segment f;
    int r = field_segment_open(&f, UINT64_C(64) << 20);
    if (r < 0) {
        return r;
    }
    uint64_t before = used_bytes(&f.shm);
    r = grow(&f, n);
    double mine = (double)(used_bytes(&f.shm) - before) / (double)n, theirs = 0;
    field_segment_close(&f);
    if (r < 0) {
        return r;
    }
    r = redis_bytes(n, &theirs);
    struct bench_line l = {
        "memory of a dict entry, 16 + 64 bytes", "bytes", mine, NULL, 0, 0, 0, 0};
    if (r > 0) {
        l.beside = "redis-server";
        l.other = theirs;
        l.goal = BENCH_RATIO_AT_MOST;
        l.goal_value = 1.3;
    }
    bench_print(&l);
    bench_note("whole chunks of the segment, against MEMORY USAGE; %llu entries",
               (unsigned long long)n);
    return r < 0 ? r : 0;
}

int objects_growth(void) {
    const char *all = getenv("HEARTH_BENCH_LONG");
    uint64_t n = bench_count(all && *all == '1' ? 10000000 : 2000000, 50000);
    char title[96];
    struct field_segment f;
    snprintf(title, sizeof(title), "A dict grows from empty to %llu fields of 16 + 64 bytes",
             (unsigned long long)n);
    bench_heading(title);
    int r = field_segment_open(&f, (UINT64_C(64) << 20) + n * 256);
    if (r < 0) {
        return r;
    }
    r = grow(&f, n);
    field_segment_close(&f);
    r = r < 0 ? r : make_noise(n);
    if (r < 0) {
        return r;
    }
    struct bench_line l = {"dict set, 99.9 of 100",
                           "us",
                           at_most_us(&ours, 0.999),
                           "touching 128 new bytes",
                           at_most_us(&noise, 0.999),
                           0,
                           0,
                           0};
    bench_print(&l);
    l.what = "dict set, the longest";
    l.ours = (double)ours.max / 1000;
    l.other = (double)noise.max / 1000;
    bench_print(&l);
    l.what = "dict set, the longest by CPU time";
    l.ours = (double)ours.cpu_max / 1000;
    l.other = (double)noise.cpu_max / 1000;
    l.goal = BENCH_AT_MOST;
    l.goal_value = 1000;
    bench_print(&l);
    bench_note(
        "over 1 ms: %llu (%llu beside it); put off the CPU %ld times (%ld); page faults are in it",
        (unsigned long long)ours.over, (unsigned long long)noise.over, ours.lost, noise.lost);
    bench_note("by CPU time over 1 ms: %llu (%llu beside it)", (unsigned long long)ours.cpu_over,
               (unsigned long long)noise.cpu_over);
    return entry_bytes(bench_count(ENTRIES, 5000));
}
