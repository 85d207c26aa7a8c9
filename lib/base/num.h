/* SPDX-License-Identifier: MIT */
/* Text to number, strictly: the whole of the text, no spaces, no sign where none is allowed, no
 * silent clamp. Out parameters are untouched on failure. */
#pragma once

#include <locale.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal. 0, -EINVAL (not a number) or -ERANGE. text need not be NUL-terminated. */
int num_u64(const char *text, size_t len, uint64_t *ret);
int num_i64(const char *text, size_t len, int64_t *ret);

/* A size with an optional unit, as "256M": K, M, G, T are powers of 1024; B and iB may follow
 * ("4KiB"). */
int num_size(const char *text, uint64_t *ret);

/* Writes v in decimal to out (20 bytes suffice for u64, 21 for i64 with sign), no NUL; returns the
 * length. */
size_t num_put_u64(char *out, uint64_t v);
size_t num_put_i64(char *out, int64_t v);

/* Writes a size for people, as "256 MiB", with NUL; returns out. */
char *num_size_text(char out[24], uint64_t bytes);

/* A decimal number with a fraction, as Redis takes it: all of the text, nothing in front, not NaN; but "inf" and hexadecimal
 * digits as strtold() has them. In the locale "C", whichever the process has set. 0 or -EINVAL. */
enum { NUM_FLOAT = 5 * 1024 }; /* bytes of the longest one in decimal digits */
int num_float(const char *text, size_t len, long double *ret);
/* As Redis writes it: 17 decimals, without the zeroes at the end, no NUL. Returns the length. */
size_t num_put_float(char out[NUM_FLOAT], long double v);

/* The locale "C", for numbers with a fraction: libraries run in processes that may have set another, whose comma is not ours.
 * Nothing to free. */
static inline locale_t num_locale(void) {
    return newlocale(LC_ALL_MASK, "C", (locale_t)0);
}
