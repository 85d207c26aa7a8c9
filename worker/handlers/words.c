/* SPDX-License-Identifier: MIT */
/* Words, as `wc -w` of GNU coreutils 9.1 counts them, found by reading what it prints for odd input
 * and held to it by a test over every document on the machine:
 *
 * - Space, tab, newline, return, form feed and vertical tab end a word, and so does every printable
 * character that the locale calls white space, and the four that are spaces which do not break a
 * line (U+00A0, U+2007, U+202F, U+2060) unless POSIXLY_CORRECT is set.
 * - A word needs one printable character. What is neither printable nor a separator (control
 * characters, bytes that are no character) neither makes a word nor ends one: "a<FF>b" is one word,
 * "<FF>" none.
 * - In a one-byte locale (C) bytes are judged one by one; in others characters are decoded, and an
 * incomplete one at the very end counts as nothing.
 *
 * Nearly all text is ASCII, so a table decides for a byte that is itself whenever no multibyte
 * character is under way.
 *
 * Fails: only as the visitor says. */
#include "worker/handlers/words.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <wchar.h>
#include <wctype.h>

enum kind { KIND_NOTHING, KIND_PRINTS, KIND_SEPARATES };

struct count {
    words_visit *visit;
    void *arg;
    size_t words;
    bool in_word; /* a printable character was seen since the last separator */
    bool pure;    /* and nothing that does not print */
    const char *start;
    int stop;
};

static void step(struct count *c, enum kind kind, const char *at, size_t len) {
    if (kind == KIND_SEPARATES) {
        if (c->in_word) {
            c->words++;
            if (c->visit != NULL && c->pure && c->stop == 0) {
                c->stop = c->visit(c->arg, c->start, (size_t)(at - c->start));
            }
        }
        c->in_word = false;
        c->pure = true;
        c->start = at + len;
    } else if (kind == KIND_PRINTS) {
        c->in_word = true;
    } else {
        c->pure = false;
    }
}

/* The kinds of single bytes, in the locale in use. */
static void fill_table(unsigned char table[256]) {
    for (int b = 0; b < 256; b++) {
        table[b] = KIND_NOTHING;
        if (b == ' ' || (b >= '\t' && b <= '\r')) {
            table[b] = KIND_SEPARATES;
        } else if (isprint(b)) {
            table[b] = isspace(b) ? KIND_SEPARATES : KIND_PRINTS;
        }
    }
}

static enum kind kind_of(wchar_t w, bool posix) {
    if (w == L' ' || (w >= L'\t' && w <= L'\r')) {
        return KIND_SEPARATES;
    }
    if (!iswprint((wint_t)w)) {
        return KIND_NOTHING;
    }
    bool glued = w == 0xA0 || w == 0x2007 || w == 0x202F || w == 0x2060;
    return iswspace((wint_t)w) || (glued && !posix) ? KIND_SEPARATES : KIND_PRINTS;
}

static void count_bytes(struct count *c, const char *text, size_t len) {
    unsigned char table[256];
    fill_table(table);
    for (const char *p = text; p < text + len && c->stop == 0; p++) {
        step(c, table[(unsigned char)*p], p, 1);
    }
}

static void count_characters(struct count *c, const char *text, size_t len) {
    const bool posix = getenv("POSIXLY_CORRECT") != NULL;
    const char *p = text;
    const char *end = text + len;
    unsigned char table[256];
    mbstate_t state = {0};
    bool plain = true; /* no multibyte character is under way, so ASCII bytes are themselves */
    fill_table(table);
    while (p < end && c->stop == 0) {
        if (plain && (unsigned char)*p < 0x80 && *p != '\0') {
            step(c, table[(unsigned char)*p], p, 1);
            p++;
            continue;
        }
        wchar_t w = 0;
        plain = false;
        size_t n = mbrtowc(&w, p, (size_t)(end - p), &state);
        if (n == (size_t)-2) {
            return;
        }
        if (n == (size_t)-1) {
            step(c, KIND_NOTHING, p, 1);
            p++;
            continue;
        }
        plain = mbsinit(&state) != 0;
        n = n == 0 ? 1 : n;
        step(c, kind_of(w, posix), p, n);
        p += n;
    }
}

int words_count(const char *text, size_t len, locale_t locale, words_visit *visit, void *arg,
                size_t *ret) {
    struct count c = {.visit = visit, .arg = arg, .pure = true, .start = text};
    locale_t before = uselocale(locale);
    if (MB_CUR_MAX > 1) {
        count_characters(&c, text, len);
    } else {
        count_bytes(&c, text, len);
    }
    step(&c, KIND_SEPARATES, text + len, 0);
    uselocale(before);
    if (c.stop != 0) {
        return c.stop;
    }
    *ret = c.words;
    return 0;
}
