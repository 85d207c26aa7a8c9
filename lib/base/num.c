/* SPDX-License-Identifier: MIT */
/* Strict numbers. strtoull() skips spaces, takes signs and wraps; none of that is wanted from a
 * peer's bytes. Fails: -EINVAL for anything that is not the whole number, -ERANGE for one that does
 * not fit. */
#include "lib/base/num.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int num_u64(const char *text, size_t len, uint64_t *ret) {
    uint64_t v = 0;
    bool over = false;
    if (len == 0) {
        return -EINVAL;
    }
    for (size_t i = 0; i < len; i++) {
        unsigned d = (unsigned char)text[i] - (unsigned)'0';
        if (d > 9) {
            return -EINVAL;
        }
        over |= __builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, d, &v);
    }
    if (over) {
        return -ERANGE;
    }
    *ret = v;
    return 0;
}

int num_i64(const char *text, size_t len, int64_t *ret) {
    bool negative = len && text[0] == '-';
    uint64_t v;
    int r = num_u64(text + negative, len - negative, &v);
    if (r) {
        return r;
    }
    if (v > (uint64_t)INT64_MAX + negative) {
        return -ERANGE;
    }
    *ret = negative ? (int64_t)(~v + 1) : (int64_t)v;
    return 0;
}

int num_size(const char *text, uint64_t *ret) {
    size_t digits = strspn(text, "0123456789");
    uint64_t v;
    int r = num_u64(text, digits, &v);
    if (r) {
        return r;
    }
    const char *unit = text + digits;
    static const char units[] = "KMGT";
    const char *u = *unit ? strchr(units, *unit) : NULL;
    if (u) {
        unit++;
        if (__builtin_mul_overflow(v, UINT64_C(1) << (10 * (u - units + 1)), &v)) {
            return -ERANGE;
        }
        if (*unit == 'i') {
            unit++;
            if (*unit != 'B') {
                return -EINVAL;
            }
        }
    }
    if (*unit == 'B') {
        unit++;
    }
    if (*unit) {
        return -EINVAL;
    }
    *ret = v;
    return 0;
}

size_t num_put_u64(char *out, uint64_t v) {
    char tmp[20];
    size_t n = 0;
    do {
        tmp[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    for (size_t i = 0; i < n; i++) {
        out[i] = tmp[n - 1 - i];
    }
    return n;
}

size_t num_put_i64(char *out, int64_t v) {
    if (v >= 0) {
        return num_put_u64(out, (uint64_t)v);
    }
    *out = '-';
    return 1 + num_put_u64(out + 1, ~(uint64_t)v + 1);
}

char *num_size_text(char out[24], uint64_t bytes) {
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    unsigned u = 0;
    uint64_t v = bytes;
    while (u < 4 && v >= 1024 && v % 1024 == 0) {
        v /= 1024;
        u++;
    }
    if (v < 10240) {
        snprintf(out, 24, "%llu %s", (unsigned long long)v, unit[u]);
        return out;
    }
    double d = (double)v;
    while (u < 4 && d >= 1024) {
        d /= 1024;
        u++;
    }
    snprintf(out, 24, "%.1f %s", d, unit[u]);
    return out;
}

int num_float(const char *text, size_t len, long double *ret) {
    char copy[NUM_FLOAT], *end;
    if (len == 0 || len >= sizeof(copy) || isspace((unsigned char)*text)) {
        return -EINVAL;
    }
    memcpy(copy, text, len);
    copy[len] = '\0';
    errno = 0;
    long double v = strtold_l(copy, &end, num_locale());
    bool over = errno == ERANGE && (isinf(v) || fpclassify(v) == FP_ZERO);
    if (end != copy + len || over || isnan(v)) {
        return -EINVAL;
    }
    *ret = v;
    return 0;
}

size_t num_put_float(char out[NUM_FLOAT], long double v) {
    locale_t before = uselocale(num_locale());
    int n = snprintf(out, NUM_FLOAT, "%.17Lf", v);
    uselocale(before);
    size_t len = n > 0 && n < NUM_FLOAT ? (size_t)n : 0;
    if (memchr(out, '.', len)) {
        while (out[len - 1] == '0') {
            len--;
        }
        len -= out[len - 1] == '.';
    }
    if (len == 2 && memcmp(out, "-0", 2) == 0) {
        out[0] = '0';
        len = 1;
    }
    return len;
}
