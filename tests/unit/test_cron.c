/* SPDX-License-Identifier: MIT */
/* Expressions against times computed by hand, in zones that change their clocks. Fails: as a
 * Criterion suite. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/crontab.h"

TestSuite(cron, .timeout = 30);

static void zone(const char *name) {
    setenv("TZ", name, 1);
    tzset();
}

static struct cron parsed(const char *text) {
    struct cron c;
    char error[CRON_ERROR] = "";
    cr_assert_eq(cron_parse(text, strlen(text), &c, error), 0, "%s: %s", text, error);
    return c;
}

/* "2024-02-28 23:59:00 +0000" */
static int64_t seconds(const char *text) {
    struct tm tm = {0};
    char *rest = strptime(text, "%Y-%m-%d %H:%M:%S", &tm);
    cr_assert(rest, "%s", text);
    long h = strtol(rest + 1, NULL, 10);
    return (int64_t)timegm(&tm) - (h / 100 * 3600 + h % 100 * 60);
}

/* Each of the times, one after the other. */
#define COMES(expression, ...) comes(__LINE__, expression, (const char *const[]){__VA_ARGS__, NULL})
static void comes(int line, const char *expression, const char *const *times) {
    struct cron c = parsed(expression);
    int64_t at = seconds(times[0]);
    for (int i = 1; times[i]; i++) {
        int64_t next;
        cr_assert_eq(cron_next(&c, at, &next), 0, "line %d", line);
        cr_assert_eq(next, seconds(times[i]), "line %d, %s, number %d: %lld s off", line,
                     expression, i, (long long)(next - seconds(times[i])));
        at = next;
    }
}

Test(cron, plain_times) {
    zone("UTC");
    COMES("* * * * *", "2024-05-05 12:00:30 +0000", "2024-05-05 12:01:00 +0000",
          "2024-05-05 12:02:00 +0000");
    COMES("*/15 * * * *", "2024-05-05 12:46:00 +0000", "2024-05-05 13:00:00 +0000",
          "2024-05-05 13:15:00 +0000");
    COMES("5,10-12 3 * * *", "2024-05-05 03:04:59 +0000", "2024-05-05 03:05:00 +0000",
          "2024-05-05 03:10:00 +0000", "2024-05-05 03:11:00 +0000", "2024-05-05 03:12:00 +0000",
          "2024-05-06 03:05:00 +0000");
    COMES("0-59/20 */12 * * *", "2024-05-05 12:40:00 +0000", "2024-05-06 00:00:00 +0000");
    COMES("@hourly", "2024-12-31 23:30:00 +0000", "2025-01-01 00:00:00 +0000");
    COMES("@yearly", "2024-12-31 23:30:00 +0000", "2025-01-01 00:00:00 +0000",
          "2026-01-01 00:00:00 +0000");
    COMES("@weekly", "2024-05-05 00:00:00 +0000", "2024-05-12 00:00:00 +0000");
    COMES("  0\t0 1 Jan *  ", "2024-05-05 00:00:00 +0000", "2025-01-01 00:00:00 +0000");
}

Test(cron, ends_of_months_and_leap_years) {
    zone("UTC");
    COMES("0 12 31 * *", "2024-01-31 12:00:00 +0000", "2024-03-31 12:00:00 +0000",
          "2024-05-31 12:00:00 +0000", "2024-07-31 12:00:00 +0000", "2024-08-31 12:00:00 +0000");
    COMES("0 0 29 2 *", "2024-02-29 00:00:00 +0000", "2028-02-29 00:00:00 +0000");
    COMES("0 0 29 feb *", "2096-02-29 00:00:00 +0000", "2104-02-29 00:00:00 +0000");
    COMES("*/30 * 29 2 *", "2023-03-01 00:00:00 +0000", "2024-02-29 00:00:00 +0000",
          "2024-02-29 00:30:00 +0000");
    struct cron c = parsed("0 0 30 2 *");
    int64_t next;
    cr_assert_eq(cron_next(&c, seconds("2024-01-01 00:00:00 +0000"), &next), -ENOENT);
    c = parsed("* * 31 4,6,9,11 *");
    cr_assert_eq(cron_next(&c, seconds("2024-01-01 00:00:00 +0000"), &next), -ENOENT);
}

Test(cron, days_of_the_week) {
    zone("UTC");
    /* 2024-05-05 was a Sunday */
    COMES("0 9 * * mon-fri", "2024-05-03 10:00:00 +0000", "2024-05-06 09:00:00 +0000",
          "2024-05-07 09:00:00 +0000");
    COMES("0 9 * * 7", "2024-05-03 10:00:00 +0000", "2024-05-05 09:00:00 +0000");
    COMES("0 9 * * 0", "2024-05-03 10:00:00 +0000", "2024-05-05 09:00:00 +0000");
    COMES("0 9 * * 5-7", "2024-05-05 10:00:00 +0000", "2024-05-10 09:00:00 +0000",
          "2024-05-11 09:00:00 +0000", "2024-05-12 09:00:00 +0000");
    /* both restricted: either will do; 2024-05-13 was a Monday */
    COMES("0 0 15 * Mon", "2024-05-12 00:00:00 +0000", "2024-05-13 00:00:00 +0000",
          "2024-05-15 00:00:00 +0000", "2024-05-20 00:00:00 +0000");
    /* one begins with *: both must fit; the next odd-numbered Monday after the 13th is the 27th */
    COMES("0 0 */2 * mon", "2024-05-12 00:00:00 +0000", "2024-05-13 00:00:00 +0000",
          "2024-05-27 00:00:00 +0000");
}

/* Berlin: forward on 2024-03-31 at 02:00 (+1 to +2), back on 2024-10-27 at 03:00. */
Test(cron, the_clock_goes_forward) {
    zone("Europe/Berlin");
    COMES("30 2 * * *", "2024-03-30 02:30:00 +0100", "2024-03-31 03:00:00 +0200",
          "2024-04-01 02:30:00 +0200");
    COMES("0,30 2 * * *", "2024-03-30 02:30:00 +0100", "2024-03-31 03:00:00 +0200",
          "2024-04-01 02:00:00 +0200");
    COMES("0 3 * * *", "2024-03-30 03:00:00 +0100", "2024-03-31 03:00:00 +0200");
    COMES("30 * * * *", "2024-03-31 00:30:00 +0100", "2024-03-31 01:30:00 +0100",
          "2024-03-31 03:30:00 +0200");
    COMES("*/20 2 * * *", "2024-03-30 02:40:00 +0100", "2024-04-01 02:00:00 +0200");
}

Test(cron, the_clock_goes_back) {
    zone("Europe/Berlin");
    COMES("30 2 * * *", "2024-10-26 02:30:00 +0200", "2024-10-27 02:30:00 +0200",
          "2024-10-28 02:30:00 +0100");
    COMES("0 3 * * *", "2024-10-26 03:00:00 +0200", "2024-10-27 03:00:00 +0100");
    COMES("30 * * * *", "2024-10-27 01:30:00 +0200", "2024-10-27 02:30:00 +0200",
          "2024-10-27 02:30:00 +0100", "2024-10-27 03:30:00 +0100");
}

/* New York, forward on 2025-03-09; Lord Howe, which changes by half an hour (2024-10-06 at 02:00);
 * Beirut, whose clock goes forward at midnight (2024-03-31). */
Test(cron, other_zones) {
    zone("America/New_York");
    COMES("15 2 * * *", "2025-03-08 02:15:00 -0500", "2025-03-09 03:00:00 -0400",
          "2025-03-10 02:15:00 -0400");
    zone("Australia/Lord_Howe");
    COMES("15 2 * * *", "2024-10-05 02:15:00 +1030", "2024-10-06 02:30:00 +1100",
          "2024-10-07 02:15:00 +1100");
    zone("Asia/Beirut");
    COMES("@daily", "2024-03-30 00:00:00 +0200", "2024-03-31 01:00:00 +0300",
          "2024-04-01 00:00:00 +0300");
    COMES("0 * * * *", "2024-03-30 22:00:00 +0200", "2024-03-30 23:00:00 +0200",
          "2024-03-31 01:00:00 +0300");
    COMES("*/30 1 31 3 *", "2024-03-01 22:00:00 +0200", "2024-03-31 01:00:00 +0300",
          "2024-03-31 01:30:00 +0300");
}

Test(cron, mistakes_are_named) {
    static const struct {
        const char *text, *error;
    } rows[] = {
        {"", "0 of 5 fields: the minute is missing"},
        {"* * * *", "4 of 5 fields: the day of the week is missing"},
        {"* * * * * *", "more than 5 fields"},
        {"60 * * * *", "minute: not from 0 to 59 at '60'"},
        {"* 24 * * *", "hour: not from 0 to 23 at '24'"},
        {"* * 0 * *", "day of the month: not from 1 to 31 at '0'"},
        {"* * * 13 *", "month: not from 1 to 12 at '13'"},
        {"* * * * 8", "day of the week: not from 0 to 7 at '8'"},
        {"* * * foo *", "month: no such name at 'foo'"},
        {"* * * january *", "month: no such name at 'january'"},
        {"a * * * *", "minute: a number or * is expected at 'a'"},
        {"*/0 * * * *", "minute: a step is a positive number at '*/0'"},
        {"*/x * * * *", "minute: a step is a positive number at '*/x'"},
        {"5/15 * * * *", "minute: a step needs a range or * at '5/15'"},
        {"30-10 * * * *", "minute: the range goes backwards at '30-10'"},
        {"1,,2 * * * *", "minute: a number or * is expected at ',2'"},
        {"1- * * * *", "minute: a number or * is expected"},
        {"1x * * * *", "minute: cannot go on at 'x'"},
        {"99999999999999999999 * * * *", "minute: not from 0 to 59 at '99999999999999999999'"},
        {"@often", "'@often' is none of @hourly"},
        {"@reboot", "'@reboot' is none of @hourly"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cron c;
        char error[CRON_ERROR] = "";
        cr_assert_eq(cron_parse(rows[i].text, strlen(rows[i].text), &c, error), -EINVAL, "%s",
                     rows[i].text);
        cr_assert_eq(strncmp(error, rows[i].error, strlen(rows[i].error)), 0, "%s: %s",
                     rows[i].text, error);
    }
}

Test(cron, lines) {
    struct crontab_line l;
    char error[CRON_ERROR];
    zone("UTC");
    cr_assert_eq(crontab_parse("a.b:c-1: 0  2 * *\tmon run  'two words' x", &l, error), 0, "%s",
                 error);
    cr_assert_str_eq(l.name, "a.b:c-1");
    cr_assert_str_eq(l.when, "0 2 * * mon");
    cr_assert_eq(l.n_words, 3);
    cr_assert_str_eq(l.words[0], "run");
    cr_assert_str_eq(l.words[1], "two words");
    cr_assert_str_eq(l.words[2], "x");
    crontab_deinit(&l);
    cr_assert_eq(crontab_parse("x: @daily echo ''", &l, error), 0, "%s", error);
    cr_assert_eq(l.n_words, 2);
    cr_assert_str_eq(l.words[1], "");
    crontab_deinit(&l);
    cr_assert_eq(crontab_parse("x: every 90s echo", &l, error), 0, "%s", error);
    cr_assert_eq(l.every_ms, 90000);
    crontab_deinit(&l);
    static const char *const bad[][2] = {
        {"", "it does not begin with NAME:"},
        {"x * * * * * run", "it does not begin with NAME:"},
        {"x y: * * * * * run", "it does not begin with NAME:"},
        {"x: ", "0 of 5 fields"},
        {"x: * * * *", "4 of 5 fields"},
        {"x: * * * * *", "the handler is missing"},
        {"x: @daily", "the handler is missing"},
        {"x: 0 0 31 2 * run", "this time never comes"},
        {"x: every 5 run", "every is followed by a time"},
        {"x: every", "every is followed by a time"},
        {"x: every 400d run", "every is followed by a time"},
        {"x: every 10ms run", "every is followed by a time"},
        {"x: @daily run 'open", "a quote is not closed"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_eq(crontab_parse(bad[i][0], &l, error), -EINVAL, "%s", bad[i][0]);
        cr_assert_eq(strncmp(error, bad[i][1], strlen(bad[i][1])), 0, "%s: %s", bad[i][0], error);
    }
}

/* Whatever it is: no crash, no endless search, and what comes next is later. */
Test(cron, anything) {
    static const char letters[] = "0123456789*,-/ @abcjanmonsun\t";
    uint64_t random = 7;
    zone("Europe/Berlin");
    for (int i = 0; i < 20000; i++) {
        char text[40], error[CRON_ERROR];
        size_t n = 0;
        struct cron c;
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        for (uint64_t bits = random >> 8; n < random >> 59; n++) {
            bits = bits * UINT64_C(6364136223846793005) + 1;
            text[n] = letters[(bits >> 40) % (sizeof(letters) - 1)];
        }
        if (cron_parse(text, n, &c, error) == 0) {
            int64_t next;
            cr_assert(cron_next(&c, 1700000000, &next) < 0 || next > 1700000000);
        }
        c = (struct cron){.minutes = random >> 4 & ((UINT64_C(1) << 60) - 1),
                          .hours = (uint32_t)(random >> 20) & 0xffffff,
                          .days = (uint32_t)(random >> 13) & 0xfffffffe,
                          .months = (uint32_t)(random >> 33) & 0x1ffe,
                          .wdays = (uint32_t)(random >> 50) & 0x7f,
                          .wild = i & 1};
        int64_t next, after = 1700000000 + (int64_t)(random >> 36);
        if (i % 20 == 0 && cron_next(&c, after, &next) == 0) {
            cr_assert_gt(next, after);
            cr_assert_eq(next % 60, 0);
        }
    }
}
