/* SPDX-License-Identifier: MIT */
/* The language is that of Debian's crontab(5): five fields of lists, ranges and steps, names of
 * months and days of the week, 7 for Sunday, and @yearly, @monthly, @weekly, @daily, @hourly. If
 * both the day of the month and that of the week are restricted, either of them is enough.
 *
 * The next time is searched in local time, from the months down to the minutes; what does not match
 * is jumped over as a whole. Where the clock is put forward or back, it is done as cron(8) of Debian
 * does: times that a job asks for by the minute and the hour (neither field begins with *) are
 * all met exactly once: one that is left out as the clock goes forward comes at the moment of the
 * change, one that comes twice as it goes back counts the first time. Jobs with a * there follow
 * the clock as it is: they have the hour that comes twice twice, and nothing of the one left out.
 * (cron runs a job several times in a row whose times were all left out; here that is once.)
 *
 * mktime() knows the zone's rules but not which of two equal times is meant, so the one before is
 * looked for as well; the moment of a change is found by halving.
 *
 * Fails: -EINVAL with a reason, -ENOENT. */
#include "daemon/cron.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "lib/base/cleanup.h"

enum { YEARS = 9, MINUTE = 60, HOUR = 3600, DAY = 24 * HOUR, CHANGE_MAX = 3 * HOUR };

/* ---- reading ---- */

static const struct field {
    const char *what;
    unsigned low, high;
    const char *const *names; /* of low and on */
} fields[5] = {
    {"minute", 0, 59, NULL},
    {"hour", 0, 23, NULL},
    {"day of the month", 1, 31, NULL},
    {"month", 1, 12,
     (const char *const[]){"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct",
                           "nov", "dec", NULL}},
    {"day of the week", 0, 7,
     (const char *const[]){"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL}},
};

static const struct {
    const char *name, *fields;
} nicknames[] = {
    {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"},
    {"@weekly", "0 0 * * 0"}, {"@daily", "0 0 * * *"},    {"@midnight", "0 0 * * *"},
    {"@hourly", "0 * * * *"},
};

struct reader {
    const char *at, *end;
    const struct field *field;
    char *error;
};

static bool wrong(struct reader *r, const char *what, const char *at) {
    size_t len = 0;
    while (at + len < r->end && at[len] != ' ' && at[len] != '\t' && len < 24) {
        len++;
    }
    snprintf(r->error, CRON_ERROR, "%s: %s%s%.*s%s", r->field->what, what, len ? " at '" : "",
             (int)len, at, len ? "'" : "");
    return false;
}

static bool at_digit(const struct reader *r) {
    return r->at < r->end && *r->at >= '0' && *r->at <= '9';
}

static bool at_letter(const struct reader *r) {
    return r->at < r->end && ((*r->at | 0x20) >= 'a' && (*r->at | 0x20) <= 'z');
}

static bool read_number(struct reader *r, unsigned *ret) {
    unsigned n = 0;
    while (at_digit(r)) {
        n = n * 10 + (unsigned)(*r->at++ - '0');
        n = n > 10000 ? 10000 : n;
    }
    *ret = n;
    return true;
}

/* A number or a name, within the field's bounds. */
static bool read_value(struct reader *r, unsigned *ret) {
    const struct field *f = r->field;
    const char *begin = r->at;
    unsigned n = 0;
    if (at_digit(r)) {
        read_number(r, &n);
    } else if (f->names && at_letter(r)) {
        while (at_letter(r)) {
            r->at++;
        }
        while (f->names[n] && (r->at - begin != 3 || strncasecmp(begin, f->names[n], 3) != 0)) {
            n++;
        }
        if (!f->names[n]) {
            return wrong(r, "no such name", begin);
        }
        n += f->low;
    } else {
        return wrong(
            r, f->names ? "a number, a name or * is expected" : "a number or * is expected", begin);
    }
    if (n < f->low || n > f->high) {
        char text[64];
        snprintf(text, sizeof(text), "not from %u to %u", f->low, f->high);
        return wrong(r, text, begin);
    }
    *ret = n;
    return true;
}

/* One element of a list. */
static bool read_range(struct reader *r, uint64_t *bits) {
    const struct field *f = r->field;
    const char *begin = r->at;
    unsigned from = f->low, to = f->high, step = 1;
    bool range = true;
    if (r->at < r->end && *r->at == '*') {
        r->at++;
        to = f->high == 7 ? 6 : f->high;
    } else {
        if (!read_value(r, &from)) {
            return false;
        }
        range = r->at < r->end && *r->at == '-';
        to = from;
        if (range) {
            r->at++;
            if (!read_value(r, &to)) {
                return false;
            }
        }
        if (to < from) {
            return wrong(r, "the range goes backwards", begin);
        }
    }
    if (r->at < r->end && *r->at == '/') {
        r->at++;
        if (!range) {
            return wrong(r, "a step needs a range or *", begin);
        }
        if (!at_digit(r) || !read_number(r, &step) || step == 0 || step > 10000) {
            return wrong(r, "a step is a positive number", begin);
        }
    }
    for (unsigned v = from; v <= to; v += step) {
        *bits |= UINT64_C(1) << (f->high == 7 ? v % 7 : v % 64);
    }
    return true;
}

static bool read_field(struct reader *r, uint64_t *ret, bool *ret_star) {
    uint64_t bits = 0;
    *ret_star = r->at < r->end && *r->at == '*';
    do {
        if (!read_range(r, &bits)) {
            return false;
        }
    } while (r->at < r->end && *r->at == ',' && r->at++);
    if (r->at < r->end && *r->at != ' ' && *r->at != '\t') {
        return wrong(r, "cannot go on", r->at);
    }
    *ret = bits;
    return true;
}

static void skip_blanks(struct reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t')) {
        r->at++;
    }
}

static bool nickname(struct reader *r) {
    size_t len = (size_t)(r->end - r->at);
    for (size_t i = 0; i < ARRAY_SIZE(nicknames); i++) {
        if (strlen(nicknames[i].name) == len && strncasecmp(r->at, nicknames[i].name, len) == 0) {
            r->at = nicknames[i].fields;
            r->end = r->at + strlen(r->at);
            return true;
        }
    }
    snprintf(r->error, CRON_ERROR,
             "'%.*s' is none of @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually",
             (int)(len < 24 ? len : 24), r->at);
    return false;
}

int cron_parse(const char *text, size_t len, struct cron *ret, char ret_error[CRON_ERROR]) {
    struct reader r = {.at = text, .end = text + len, .error = ret_error};
    uint64_t bits[5];
    bool star[5];
    skip_blanks(&r);
    while (r.end > r.at && (r.end[-1] == ' ' || r.end[-1] == '\t')) {
        r.end--;
    }
    if (r.at < r.end && *r.at == '@' && !nickname(&r)) {
        return -EINVAL;
    }
    for (int i = 0; i < 5; i++) {
        r.field = &fields[i];
        if (r.at == r.end) {
            snprintf(
                ret_error, CRON_ERROR,
                "%d of 5 fields: the %s is missing (minute, hour, day of the month, month, day "
                "of the week)",
                i, r.field->what);
            return -EINVAL;
        }
        if (!read_field(&r, &bits[i], &star[i])) {
            return -EINVAL;
        }
        skip_blanks(&r);
    }
    if (r.at != r.end) {
        snprintf(ret_error, CRON_ERROR, "more than 5 fields");
        return -EINVAL;
    }
    *ret = (struct cron){.minutes = bits[0],
                         .hours = (uint32_t)bits[1],
                         .days = (uint32_t)bits[2],
                         .months = (uint32_t)bits[3],
                         .wdays = (uint32_t)bits[4],
                         .any_day = star[2],
                         .any_wday = star[4],
                         .wild = star[0] || star[1]};
    return 0;
}

/* ---- searching ---- */

static bool month_fits(const struct cron *c, const struct tm *tm) {
    return c->months >> (tm->tm_mon + 1) & 1;
}

static bool day_fits(const struct cron *c, const struct tm *tm) {
    bool day = c->days >> tm->tm_mday & 1, wday = c->wdays >> tm->tm_wday & 1;
    return c->any_day || c->any_wday ? day && wday : day || wday;
}

/* What a clock on the wall shows. */
static struct tm wall(time_t at) {
    struct tm tm = {0};
    localtime_r(&at, &tm);
    return tm;
}

/* The first moment of a day, `days` after that of tm. */
static time_t midnight(const struct tm *tm, int months, int days) {
    struct tm to = {.tm_year = tm->tm_year,
                    .tm_mon = tm->tm_mon + months,
                    .tm_mday = months ? 1 : tm->tm_mday + days,
                    .tm_isdst = -1};
    return mktime(&to);
}

static int next_wild(const struct cron *c, time_t after, time_t *ret) {
    time_t at = after - after % MINUTE + MINUTE, over = after + (time_t)YEARS * 366 * DAY;
    while (at < over) {
        struct tm tm = wall(at);
        time_t to = at;
        if (!month_fits(c, &tm)) {
            to = midnight(&tm, 1, 0);
        } else if (!day_fits(c, &tm)) {
            to = midnight(&tm, 0, 1);
        } else if (!(c->hours >> tm.tm_hour & 1)) {
            to = at + (60 - tm.tm_min) * MINUTE;
        } else if (!(c->minutes >> tm.tm_min & 1)) {
            to = at + MINUTE;
        } else {
            *ret = at;
            return 0;
        }
        at = to > at ? to : at + MINUTE;
    }
    return -ENOENT;
}

static bool shows(time_t at, const struct tm *want) {
    struct tm tm = wall(at);
    return tm.tm_year == want->tm_year && tm.tm_mon == want->tm_mon &&
           tm.tm_mday == want->tm_mday && tm.tm_hour == want->tm_hour && tm.tm_min == want->tm_min;
}

/* When the clock was changed, between two moments with different offsets. */
static time_t change_between(time_t before, time_t after) {
    long offset = wall(after).tm_gmtoff;
    while (after - before > 1) {
        time_t middle = before + (after - before) / 2;
        if (wall(middle).tm_gmtoff == offset) {
            after = middle;
        } else {
            before = middle;
        }
    }
    return after;
}

/* The first moment at which the wall shows this; if it never does, that of the change. */
static time_t moment(const struct tm *want) {
    time_t first = 0;
    bool found = false;
    for (int dst = -1; dst <= 1; dst++) {
        struct tm tm = *want;
        tm.tm_isdst = dst;
        time_t at = mktime(&tm);
        for (int back = 0; back <= 2 * HOUR; back += HOUR / 2) {
            if (shows(at - back, want) && (!found || at - back < first)) {
                first = at - back;
                found = true;
            }
        }
    }
    if (found) {
        return first;
    }
    struct tm tm = *want;
    tm.tm_isdst = -1;
    time_t near = mktime(&tm);
    return change_between(near - CHANGE_MAX, near + CHANGE_MAX);
}

/* The first of a day's times after `after`; 0: none. */
static time_t next_of_day(const struct cron *c, const struct tm *day, time_t after) {
    struct tm now = wall(after);
    bool today = now.tm_year == day->tm_year && now.tm_yday == day->tm_yday;
    /* What is long past need not be looked at. */
    for (int hour = today && now.tm_hour > 4 ? now.tm_hour - 4 : 0; hour < 24; hour++) {
        for (int minute = 0; minute < 60 && c->hours >> hour & 1; minute++) {
            if (c->minutes >> minute & 1) {
                struct tm want = {.tm_year = day->tm_year,
                                  .tm_mon = day->tm_mon,
                                  .tm_mday = day->tm_mday,
                                  .tm_hour = hour,
                                  .tm_min = minute};
                time_t at = moment(&want);
                if (at > after) {
                    return at;
                }
            }
        }
    }
    return 0;
}

static int next_fixed(const struct cron *c, time_t after, time_t *ret) {
    struct tm day = wall(after);
    for (int i = 0; i < YEARS * 366; i++) {
        time_t at = 0;
        if (month_fits(c, &day) && day_fits(c, &day)) {
            at = next_of_day(c, &day, after);
        }
        if (at) {
            *ret = at;
            return 0;
        }
        struct tm noon = {.tm_year = day.tm_year,
                          .tm_mon = day.tm_mon,
                          .tm_mday = day.tm_mday + 1,
                          .tm_hour = 12,
                          .tm_isdst = -1}; /* no clock is changed at noon */
        mktime(&noon);
        day = noon;
    }
    return -ENOENT;
}

int cron_next(const struct cron *c, int64_t after_s, int64_t *ret_s) {
    time_t at;
    int r = c->wild ? next_wild(c, (time_t)after_s, &at) : next_fixed(c, (time_t)after_s, &at);
    if (r == 0) {
        *ret_s = (int64_t)at;
    }
    return r;
}
