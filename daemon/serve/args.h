/* SPDX-License-Identifier: MIT */
/* Words that several commands have, read as Redis reads them. What says `c` replies when it refuses. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/serve/conn.h"

/* "ERR value is not an integer or out of range". */
bool args_i64(struct conn *c, const struct resp_arg *a, int64_t *ret);
/* min .. max, else `refusal`; NULL: the texts Redis has for ranges without one of their own. */
bool args_range(struct conn *c, const struct resp_arg *a, int64_t min, int64_t max,
                const char *refusal, int64_t *ret);

/* Milliseconds to wait: "ERR timeout is not an integer or out of range". */
bool args_timeout(struct conn *c, const struct resp_arg *a, uint64_t *ret_ms);
/* [TIMEOUT ms] and nothing else; UINT64_MAX without it. */
bool args_wait(struct conn *c, const struct resp_arg *argv, uint32_t argc, uint64_t *ret_ms);

/* The cursor of a SCAN. */
bool args_cursor(struct conn *c, const struct resp_arg *a, uint64_t *ret);

/* What follows the cursor of HSCAN and the like: [MATCH pattern] [COUNT n]. */
struct args_scan {
    const struct resp_arg *match; /* NULL: everything */
    int64_t count;
};
bool args_scan(struct conn *c, const struct resp_arg *argv, uint32_t argc, struct args_scan *ret);
