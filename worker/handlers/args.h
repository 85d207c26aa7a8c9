/* SPDX-License-Identifier: MIT */
/* What the sample handlers share: arguments as numbers. */
#pragma once

#include <errno.h>
#include <stdlib.h>

#include "worker/hearth_handler.h"

/* Argument i as a decimal number from min to max, or fallback when it is absent. 0, or the code of
 * a failure already reported. `what` names it in the message. */
static inline int args_number(struct hearth_task *task, const struct hearth_api *api, size_t i,
                              const char *what, long long min, long long max, long long fallback,
                              long long *ret) {
    struct hearth_bytes a = api->arg(task, i);
    char *end = NULL;
    if (a.data == NULL) {
        *ret = fallback;
        return 0;
    }
    const char *text = a.data;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (a.len == 0 || end != text + a.len || errno != 0 || v < min || v > max ||
        !((text[0] >= '0' && text[0] <= '9') || text[0] == '-')) {
        return api->fail(task, EINVAL, "%s must be a number from %lld to %lld, not \"%.100s\"",
                         what, min, max, text);
    }
    *ret = v;
    return 0;
}
