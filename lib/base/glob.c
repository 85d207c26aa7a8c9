/* SPDX-License-Identifier: MIT */
/* Patterns as Redis matches them, but without its recursion: only the last star ever needs to be
 * tried again, one character further, so "a*a*a*a*b" from a hostile client costs a product and no
 * power.
 *
 * Fails: nothing. A class without its ']' ends with the pattern. */
#include "lib/base/glob.h"

#include <ctype.h>

static unsigned char fold(char ch, bool nocase) {
    return (unsigned char)(nocase ? tolower((unsigned char)ch) : ch);
}

/* The class that begins behind '[' at p[at]: does ch belong? *ret_at is behind its ']'. */
static bool in_class(const char *p, size_t len, size_t at, char ch, bool nocase, size_t *ret_at) {
    bool negated = at < len && p[at] == '^';
    bool found = false;
    unsigned char c = fold(ch, nocase);
    at += negated;
    while (at < len && p[at] != ']') {
        if (p[at] == '\\' && at + 1 < len) {
            found |= p[at + 1] == ch;
            at += 2;
        } else if (at + 2 < len && p[at + 1] == '-') {
            unsigned char a = fold(p[at], nocase), b = fold(p[at + 2], nocase);
            found |= a <= b ? c >= a && c <= b : c >= b && c <= a;
            at += 3;
        } else {
            found |= fold(p[at], nocase) == c;
            at++;
        }
    }
    *ret_at = at < len ? at + 1 : len;
    return found != negated;
}

/* Does the element of the pattern at `at` (no star) match ch? *ret_at is behind it. */
static bool one(const char *p, size_t len, size_t at, char ch, bool nocase, size_t *ret_at) {
    if (p[at] == '?') {
        *ret_at = at + 1;
        return true;
    }
    if (p[at] == '[') {
        return in_class(p, len, at + 1, ch, nocase, ret_at);
    }
    if (p[at] == '\\' && at + 1 < len) {
        at++;
    }
    *ret_at = at + 1;
    return fold(p[at], nocase) == fold(ch, nocase);
}

static bool match(const char *p, size_t plen, const char *s, size_t slen, bool nocase) {
    size_t i = 0, j = 0;
    size_t star = plen + 1,
           from = 0; /* where to go on behind the last star, and the text it ends at */
    while (j < slen) {
        size_t next;
        if (i < plen && p[i] == '*') {
            star = ++i;
            from = j;
        } else if (i < plen && one(p, plen, i, s[j], nocase, &next)) {
            i = next;
            j++;
        } else if (star <= plen) {
            i = star;
            j = ++from;
        } else {
            return false;
        }
    }
    while (i < plen && p[i] == '*') {
        i++;
    }
    return i == plen;
}

bool glob_match(const char *pattern, size_t pattern_len, const char *text, size_t text_len) {
    return match(pattern, pattern_len, text, text_len, false);
}

bool glob_match_nocase(const char *pattern, size_t pattern_len, const char *text, size_t text_len) {
    return match(pattern, pattern_len, text, text_len, true);
}
