/* SPDX-License-Identifier: MIT */
/* Bytes that can be checked: a stream that a seed names, any part of which can be made or held
 * against memory by itself. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t pattern_mix(uint64_t x) {
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* The next of a series of numbers. */
static inline uint64_t pattern_random(uint64_t *state) {
    return *state = pattern_mix(*state + 1);
}

/* Writes bytes from .. to of the stream `seed` to base + from .. base + to. */
static inline void pattern_fill(void *base, uint64_t from, uint64_t to, uint64_t seed) {
    while (from < to) {
        uint64_t word = pattern_mix(seed + from / 8), at = from % 8;
        size_t n = 8 - at < to - from ? 8 - at : to - from;
        memcpy((char *)base + from, (char *)&word + at, n);
        from += n;
    }
}

static inline bool pattern_is(const void *base, uint64_t len, uint64_t seed) {
    for (uint64_t at = 0; at < len; at += 8) {
        uint64_t word = pattern_mix(seed + at / 8);
        if (memcmp((const char *)base + at, &word, len - at < 8 ? len - at : 8) != 0) {
            return false;
        }
    }
    return true;
}
