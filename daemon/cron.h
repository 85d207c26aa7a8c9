/* SPDX-License-Identifier: MIT */
/* Times that come again, as crontab(5) writes them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cron {
    uint64_t minutes;                    /* bit n: at minute n */
    uint32_t hours, days, months, wdays; /* days from bit 1, months from bit 1, wdays 0: Sunday */
    bool any_day, any_wday;              /* the field begins with * */
    bool wild;                           /* the minute or the hour does */
};

enum { CRON_ERROR = 128 };
/* Five fields, or @hourly and its kin. 0, or -EINVAL with the reason in ret_error. */
int cron_parse(const char *text, size_t len, struct cron *ret, char ret_error[CRON_ERROR]);
/* The first time after `after_s` (seconds since 1970), in the local time zone. 0; -ENOENT: there is
 * none within nine years, as for the 30th of February. */
int cron_next(const struct cron *c, int64_t after_s, int64_t *ret_s);
