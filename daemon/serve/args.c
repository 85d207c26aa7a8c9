/* SPDX-License-Identifier: MIT */
/* Words that several commands have. Redis takes numbers in several ways: integers strictly, cursors and (lib/base/num.h) numbers
 * with a fraction as the C library does, with the loose ends cut off. Clients see the difference, so each is done as there.
 *
 * Fails: replies Redis's refusals. */
#include "daemon/serve/args.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/serve/dispatch.h"
#include "daemon/serve/reply.h"
#include "lib/base/clock.h"
#include "lib/base/num.h"

bool args_i64(struct conn *c, const struct resp_arg *a, int64_t *ret) {
    if (dispatch_i64(a, ret) < 0) {
        reply_error(c, "ERR value is not an integer or out of range");
        return false;
    }
    return true;
}

bool args_range(struct conn *c, const struct resp_arg *a, int64_t min, int64_t max,
                const char *refusal, int64_t *ret) {
    int64_t v = 0;
    bool number = dispatch_i64(a, &v) == 0;
    if (number && v >= min && v <= max) {
        *ret = v;
        return true;
    }
    if (refusal) {
        reply_errorf(c, "ERR %s", refusal);
    } else if (number) {
        reply_errorf(c, "ERR value is out of range, value must between %lld and %lld",
                     (long long)min, (long long)max);
    } else {
        reply_error(c, "ERR value is not an integer or out of range");
    }
    return false;
}

bool args_timeout(struct conn *c, const struct resp_arg *a, uint64_t *ret_ms) {
    uint64_t ms;
    if (num_u64(a->data, a->len, &ms) < 0 || ms > (uint64_t)INT64_MAX / NS_PER_MS) {
        reply_error(c, "ERR timeout is not an integer or out of range");
        return false;
    }
    *ret_ms = ms;
    return true;
}

bool args_wait(struct conn *c, const struct resp_arg *argv, uint32_t argc, uint64_t *ret_ms) {
    if (argc == 0) {
        *ret_ms = UINT64_MAX;
        return true;
    }
    if (argc != 2 || !resp_is(&argv[0], "TIMEOUT")) {
        reply_syntax(c);
        return false;
    }
    return args_timeout(c, &argv[1], ret_ms);
}

bool args_cursor(struct conn *c, const struct resp_arg *a, uint64_t *ret) {
    char copy[32], *end;
    if (a->len < sizeof(copy) && (a->len == 0 || !isspace((unsigned char)a->data[0]))) {
        memcpy(copy, a->data, a->len);
        copy[a->len] = '\0';
        errno = 0;
        unsigned long long v = strtoull(copy, &end, 10);
        if (end == copy + strlen(copy) && errno != ERANGE) {
            *ret = v;
            return true;
        }
    }
    reply_error(c, "ERR invalid cursor");
    return false;
}

bool args_scan(struct conn *c, const struct resp_arg *argv, uint32_t argc, struct args_scan *ret) {
    struct args_scan s = {.count = 10};
    for (uint32_t i = 0; i < argc; i += 2) {
        if (i + 1 < argc && resp_is(&argv[i], "COUNT")) {
            if (!args_i64(c, &argv[i + 1], &s.count)) {
                return false;
            }
            if (s.count < 1) {
                reply_syntax(c);
                return false;
            }
        } else if (i + 1 < argc && resp_is(&argv[i], "MATCH")) {
            s.match = &argv[i + 1];
        } else {
            reply_syntax(c);
            return false;
        }
    }
    *ret = s;
    return true;
}
