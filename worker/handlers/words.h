/* SPDX-License-Identifier: MIT */
/* Counting words as GNU wc does. Of the module `text`; apart from it so that a test can call it. */
#pragma once

#include <locale.h>
#include <stddef.h>

/* Called for each word that consists of printable characters only. Non-zero stops the count, which
 * returns it. */
typedef int words_visit(void *arg, const char *word, size_t len);

/* The words of a text, as `wc -w` counts them in that locale. visit may be NULL. 0, or what visit
 * returned. */
int words_count(const char *text, size_t len, locale_t locale, words_visit *visit, void *arg,
                size_t *ret);
