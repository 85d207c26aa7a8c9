/* SPDX-License-Identifier: MIT */
/* The distribution of durations against the sorted truth, and its window. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "daemon/times.h"
#include "lib/base/clock.h"

TestSuite(times, .timeout = 20);

enum { N = 20000 };
#define AT (1000 * NS_PER_SEC)

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void near(uint64_t got, uint64_t truth) {
    cr_assert(got >= truth && got <= truth + truth / TIMES_SUB + 1, "%llu for %llu",
              (unsigned long long)got, (unsigned long long)truth);
}

Test(times, percentiles_are_within_an_eighth) {
    static struct times t;
    static uint64_t all[N];
    uint64_t random = 1, sum = 0;
    for (int i = 0; i < N; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        all[i] = (random >> 33) >> (random >> 59); /* over nine orders of magnitude */
        sum += all[i];
        times_add(&t, AT, all[i]);
    }
    struct times_view v;
    times_view(&t, AT, &v);
    qsort(all, N, sizeof(all[0]), compare);
    cr_assert_eq(v.count, N);
    near(v.p50_us, all[N / 2 - 1]);
    near(v.p90_us, all[N * 9 / 10 - 1]);
    near(v.p99_us, all[N * 99 / 100 - 1]);
    cr_assert_eq(v.max_us, all[N - 1]);
    cr_assert_eq(t.sum_us, sum);
}

Test(times, one_is_shown_as_it_is) {
    static const uint64_t each[] = {0, 1, 7, 8, 9, 1000, 123456, UINT64_C(1) << 36, UINT64_MAX};
    for (size_t i = 0; i < sizeof(each) / sizeof(each[0]); i++) {
        static struct times t;
        struct times_view v;
        t = (struct times){.count = 0};
        times_add(&t, AT, each[i]);
        times_view(&t, AT, &v);
        cr_assert_eq(v.count, 1);
        cr_assert_eq(v.max_us, each[i]);
        if (each[i] < UINT64_C(1) << 36) {
            cr_assert_eq(v.p50_us, each[i]);
            cr_assert_eq(v.p99_us, each[i]);
        }
    }
}

Test(times, what_is_older_than_the_window_is_forgotten) {
    static struct times t;
    struct times_view v;
    times_view(&t, AT, &v);
    cr_assert_eq(v.count, 0);
    cr_assert_eq(v.max_us, 0);
    times_add(&t, AT, 5000);
    times_view(&t, AT + 40 * NS_PER_SEC, &v);
    cr_assert_eq(v.count, 1);
    times_add(&t, AT + 40 * NS_PER_SEC, 10);
    times_view(&t, AT + 61 * NS_PER_SEC, &v);
    cr_assert_eq(v.count, 1);
    cr_assert_eq(v.max_us, 10);
    times_view(&t, AT + 3600 * NS_PER_SEC, &v);
    cr_assert_eq(v.count, 0);
    times_add(&t, AT + 3600 * NS_PER_SEC, 20); /* the slices of an hour ago are used again */
    times_view(&t, AT + 3600 * NS_PER_SEC, &v);
    cr_assert_eq(v.count, 1);
    cr_assert_eq(t.count, 3);
}
