/* SPDX-License-Identifier: MIT */
/* The floor under everything: byte queue, list, numbers, the count of CPUs, and when polling is left alone. */
#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/cpu.h"
#include "lib/base/list.h"
#include "lib/base/num.h"
#include "lib/base/yield.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/support/tmp.h"

TestSuite(buf, .timeout = 10);
TestSuite(list, .timeout = 10);
TestSuite(num, .timeout = 10);
TestSuite(cpu, .timeout = 10);
TestSuite(yield, .timeout = 10);

Test(buf, queue) {
    struct buf b = BUF_INIT;
    cr_assert_eq(buf_len(&b), 0);
    cr_assert_eq(buf_append(&b, "hello", 5), 0);
    cr_assert_eq(buf_append(&b, NULL, 0), 0);
    cr_assert_eq(buf_printf(&b, " %s %d", "world", 42), 0);
    cr_assert_eq(buf_len(&b), 14);
    cr_assert_eq(memcmp(buf_head(&b), "hello world 42", 14), 0);
    buf_consume(&b, 6);
    cr_assert_eq(memcmp(buf_head(&b), "world 42", 8), 0);
    buf_consume(&b, 8);
    cr_assert_eq(buf_len(&b), 0);
    buf_deinit(&b);
    buf_deinit(&b);
}

/* However the pieces fall, what comes out is what went in, and the area follows what is in it, not
 * what went through. */
Test(buf, stream) {
    struct buf b = BUF_INIT;
    unsigned in = 0, out = 0, seed = 1;
    for (int i = 0; i < 200000; i++) {
        seed = seed * 1103515245U + 12345U;
        size_t n = (seed >> 16) % 200;
        if (buf_len(&b) < 2000) {
            char *p = buf_room(&b, n);
            cr_assert_not_null(p);
            for (size_t k = 0; k < n; k++) {
                p[k] = (char)in++;
            }
            buf_wrote(&b, n);
        }
        size_t take = (seed >> 8) % 200;
        take = take < buf_len(&b) ? take : buf_len(&b);
        for (size_t k = 0; k < take; k++) {
            cr_assert_eq(buf_head(&b)[k], (char)out++);
        }
        buf_consume(&b, take);
    }
    cr_assert_leq(b.cap, 8192);
    buf_deinit(&b);
}

Test(buf, emptied_it_gives_back_large_memory_and_keeps_small) {
    struct buf b = BUF_INIT;
    cr_assert_not_null(buf_room(&b, 1000));
    buf_wrote(&b, 1000);
    buf_consume(&b, 1000);
    cr_assert_not_null(b.data);
    cr_assert_not_null(buf_room(&b, 100000));
    buf_wrote(&b, 100000);
    buf_consume(&b, 99999);
    cr_assert_not_null(b.data);
    buf_consume(&b, 1);
    cr_assert_null(b.data);
    buf_deinit(&b);
}

Test(buf, impossible_sizes_leave_it_as_it_was) {
    struct buf b = BUF_INIT;
    buf_append(&b, "abc", 3);
    cr_assert_null(buf_room(&b, SIZE_MAX));
    cr_assert_null(buf_room(&b, SIZE_MAX / 2));
    cr_assert_eq(buf_append(&b, "x", SIZE_MAX), -ENOMEM);
    cr_assert(buf_len(&b) == 3 && memcmp(buf_head(&b), "abc", 3) == 0);
    buf_deinit(&b);
}

Test(buf, long_printf) {
    struct buf b = BUF_INIT;
    cr_assert_eq(buf_printf(&b, "%5000d|", 7), 0);
    cr_assert_eq(buf_len(&b), 5001);
    cr_assert_eq(memcmp(buf_head(&b) + 4998, " 7|", 3), 0);
    buf_deinit(&b);
}

struct item {
    int value;
    struct list node;
};

static int sum(struct list *head) {
    int s = 0;
    list_for_each (it, head) {
        s = s * 10 + list_entry(it, struct item, node)->value;
    }
    return s;
}

Test(list, order_and_deletion) {
    struct list head = LIST_INIT(head);
    struct item a = {.value = 1}, b = {.value = 2}, c = {.value = 3};
    cr_assert(list_empty(&head));
    list_append(&head, &b.node);
    list_append(&head, &c.node);
    list_prepend(&head, &a.node);
    cr_assert_eq(sum(&head), 123);
    cr_assert_eq(list_first(&head, struct item, node), &a);
    list_del(&b.node);
    cr_assert_eq(sum(&head), 13);
    list_del(&b.node);
    cr_assert_eq(sum(&head), 13, "deleting twice is harmless");
    list_link(&c.node, &b.node);
    cr_assert_eq(sum(&head), 123);
    list_for_each_safe (it, &head) {
        list_del(it);
    }
    cr_assert(list_empty(&head));
    list_init(&a.node);
    list_del(&a.node);
}

static int u64(const char *text, uint64_t *ret) {
    return num_u64(text, strlen(text), ret);
}

static int i64(const char *text, int64_t *ret) {
    return num_i64(text, strlen(text), ret);
}

Test(num, parse) {
    uint64_t u = 5;
    int64_t i = 5;
    static const char *const bad[] = {"", " 1", "1 ", "+1", "0x1", "1.0", "--1", "a", "-"};
    for (size_t k = 0; k < ARRAY_SIZE(bad); k++) {
        cr_assert_eq(u64(bad[k], &u), -EINVAL, "\"%s\"", bad[k]);
        cr_assert_eq(i64(bad[k], &i), -EINVAL, "\"%s\"", bad[k]);
    }
    cr_assert_eq(u64("-1", &u), -EINVAL);
    cr_assert_eq(u64("18446744073709551616", &u), -ERANGE);
    cr_assert_eq(u64("99999999999999999999999999", &u), -ERANGE);
    cr_assert_eq(u64("99999999999999999999999999x", &u), -EINVAL);
    cr_assert_eq(i64("9223372036854775808", &i), -ERANGE);
    cr_assert_eq(i64("-9223372036854775809", &i), -ERANGE);
    cr_assert(u == 5 && i == 5, "untouched on failure");
    cr_assert(u64("18446744073709551615", &u) == 0 && u == UINT64_MAX);
    cr_assert(u64("007", &u) == 0 && u == 7);
    cr_assert(i64("-9223372036854775808", &i) == 0 && i == INT64_MIN);
    cr_assert(i64("9223372036854775807", &i) == 0 && i == INT64_MAX);
    cr_assert(num_u64("123456", 3, &u) == 0 && u == 123);
}

Test(num, put_reads_back) {
    char out[21];
    for (unsigned shift = 0; shift < 64; shift++) {
        for (uint64_t v = (UINT64_C(1) << shift) - 1, k = 0; k < 3; k++, v++) {
            uint64_t u;
            int64_t i;
            cr_assert_eq(num_u64(out, num_put_u64(out, v), &u), 0);
            cr_assert_eq(u, v);
            cr_assert_eq(num_i64(out, num_put_i64(out, (int64_t)v), &i), 0);
            cr_assert_eq(i, (int64_t)v);
        }
    }
    cr_assert_eq(num_put_u64(out, UINT64_MAX), 20);
    cr_assert(num_put_i64(out, INT64_MIN) == 20 && memcmp(out, "-9223372036854775808", 20) == 0);
}

Test(num, sizes) {
    static const struct {
        const char *text;
        uint64_t want;
    } good[] = {{"0", 0},
                {"1", 1},
                {"512B", 512},
                {"4K", 4096},
                {"4KB", 4096},
                {"4KiB", 4096},
                {"256M", 256 << 20},
                {"2G", 2ULL << 30},
                {"1TiB", 1ULL << 40}};
    uint64_t v;
    for (size_t k = 0; k < ARRAY_SIZE(good); k++) {
        cr_assert_eq(num_size(good[k].text, &v), 0, "%s", good[k].text);
        cr_assert_eq(v, good[k].want, "%s", good[k].text);
    }
    static const char *const bad[] = {"", "K", "-1", "1Ki", "1KK", "1k", "1X", "1.5M", "1 M", "BB"};
    v = 5;
    for (size_t k = 0; k < ARRAY_SIZE(bad); k++) {
        cr_assert_eq(num_size(bad[k], &v), -EINVAL, "\"%s\"", bad[k]);
    }
    cr_assert_eq(num_size("16777216T", &v), -ERANGE);
    cr_assert_eq(v, 5);
    char text[24];
    cr_assert_str_eq(num_size_text(text, 0), "0 B");
    cr_assert_str_eq(num_size_text(text, 1023), "1023 B");
    cr_assert_str_eq(num_size_text(text, 256 << 20), "256 MiB");
    cr_assert_str_eq(num_size_text(text, UINT64_MAX), "16777216.0 TiB");
}

Test(num, numbers_with_a_fraction) {
    static const struct {
        const char *text, *back;
    } good[] = {{"0", "0"},       {"-0", "0"},    {"1.50", "1.5"},
                {"10.", "10"},    {".5", "0.5"},  {"3e3", "3000"},
                {"-0x10", "-16"}, {"0.1", "0.1"}, {"1e18", "1000000000000000000"},
                {"inf", "inf"}};
    static const char *const bad[] = {"",  " 1",  "\t1",     "1 ",      "1,5",
                                      "x", "nan", "1e99999", "1e-99999"};
    char out[NUM_FLOAT];
    long double v = 7;
    for (size_t k = 0; k < ARRAY_SIZE(good); k++) {
        cr_assert_eq(num_float(good[k].text, strlen(good[k].text), &v), 0, "%s", good[k].text);
        out[num_put_float(out, v)] = '\0';
        cr_assert_str_eq(out, good[k].back);
    }
    v = 7;
    for (size_t k = 0; k < ARRAY_SIZE(bad); k++) {
        cr_assert_eq(num_float(bad[k], strlen(bad[k]), &v), -EINVAL, "\"%s\"", bad[k]);
    }
    cr_assert_eq(v, 7);
    cr_assert_eq(num_float("1\0", 2, &v), -EINVAL);
}

Test(cpu, at_least_one_and_no_more_than_the_affinity_mask) {
    cpu_set_t set, old;
    cr_assert_eq(sched_getaffinity(0, sizeof(old), &old), 0);
    unsigned n = cpu_available();
    cr_assert(n >= 1 && n <= (unsigned)CPU_COUNT(&old));
    CPU_ZERO(&set);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &old)) {
            CPU_SET(cpu, &set);
            break;
        }
    }
    cr_assert_eq(sched_setaffinity(0, sizeof(set), &set), 0);
    cr_assert_eq(cpu_available(), 1);
    cr_assert_eq(sched_setaffinity(0, sizeof(old), &old), 0);
    cpu_pause();
}

/* What cpu_quota() says to these groups; dir has the hierarchies. */
static unsigned quota_of(const char *dir, const char *groups) {
    char path[TMP_PATH + 16];
    cr_assert_eq(tmp_write(dir, "groups", groups, strlen(groups)), 0);
    snprintf(path, sizeof(path), "%s/groups", dir);
    return cpu_quota(path, dir);
}

static void put(const char *dir, const char *name, const char *text) {
    char path[200];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    for (char *slash = path + strlen(dir) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = '\0';
        cr_assert(mkdir(path, 0700) == 0 || errno == EEXIST);
    }
    cr_assert_eq(tmp_write(dir, name, text, strlen(text)), 0);
}

Test(cpu, the_quota_is_the_least_of_the_group_and_those_above) {
    char dir[TMP_PATH];
    cr_assert_eq(tmp_dir(dir), 0);
    cr_expect_eq(cpu_quota("/nonexistent", dir), 0);
    cr_expect_eq(quota_of(dir, "0::/\n"), 0, "no files");
    put(dir, "a/b/cpu.max", "max 100000\n");
    cr_expect_eq(quota_of(dir, "0::/a/b\n"), 0, "max is none");
    put(dir, "a/b/cpu.max", "250000 100000\n");
    cr_expect_eq(quota_of(dir, "0::/a/b\n"), 3, "2.5 CPUs are three");
    put(dir, "a/cpu.max", "50000 100000\n");
    cr_expect_eq(quota_of(dir, "0::/a/b\n"), 1, "half a CPU above");
    put(dir, "a/cpu.max", "900000 100000\n");
    cr_expect_eq(quota_of(dir, "0::/a/b\n"), 3, "nine CPUs above");
    put(dir, "cpu/c/cpu.cfs_quota_us", "-1\n");
    put(dir, "cpu/c/cpu.cfs_period_us", "100000\n");
    cr_expect_eq(quota_of(dir, "3:cpuset:/c\n2:cpu,cpuacct:/c\n0::/\n"), 0);
    put(dir, "cpu/c/cpu.cfs_quota_us", "200000\n");
    cr_expect_eq(quota_of(dir, "3:cpuset:/c\n2:cpu,cpuacct:/c\n0::/\n"), 2);
    cr_expect_eq(quota_of(dir, "2:cpu:/c\n0::/a/b\n"), 2, "both hierarchies count");
    cr_expect_eq(quota_of(dir, "nonsense\n0\n0:\n:::\n"), 0);
    cr_expect_eq(tmp_remove(dir), 0);
}

/* A yield that lasts ms: the clock is told to have been read so long ago. */
static bool lose(struct yield *y, uint64_t ms, uint64_t *ret_now) {
    uint64_t now = clock_now() - ms * NS_PER_MS;
    bool kept = yield_cpu(y, &now);
    *ret_now = now;
    return !kept;
}

Test(yield, who_loses_the_cpu_does_not_poll_for_a_while) {
    struct yield y = {0};
    uint64_t now;
    cr_assert(yield_may_poll(&y, clock_now()));
    cr_assert(lose(&y, 5, &now));
    cr_expect_not(yield_may_poll(&y, now));
    cr_expect_not(yield_may_poll(&y, now + 5 * NS_PER_MS));
    cr_expect(yield_may_poll(&y, now + NS_PER_SEC), "but not for ever");
}

Test(yield, losing_soon_again_holds_for_longer) {
    struct yield y = {0};
    uint64_t now;
    cr_assert(lose(&y, 1, &now));
    uint64_t first = y.hold_ns;
    y.crowded_until = clock_now() - 2 * NS_PER_MS; /* tried again a millisecond ago */
    cr_assert(lose(&y, 1, &now));
    cr_expect(y.hold_ns == first * 2, "%llu after %llu", (unsigned long long)y.hold_ns,
              (unsigned long long)first);
    for (int i = 0; i < 20; i++) {
        y.crowded_until = clock_now() - 2 * NS_PER_MS;
        cr_assert(lose(&y, 1, &now));
    }
    cr_expect_leq(y.hold_ns, NS_PER_SEC, "there is a limit");
    uint64_t most = y.hold_ns;
    y.crowded_until = clock_now() - 10 * NS_PER_SEC; /* polling has gone well for long */
    cr_assert(lose(&y, 1, &now));
    cr_expect(y.hold_ns < most);
}
