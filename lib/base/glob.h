/* SPDX-License-Identifier: MIT */
/* Redis's patterns: * ? [abc] [^abc] [a-z] and \ before a character that means itself. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Time is at most the product of the lengths, whatever the pattern. */
bool glob_match(const char *pattern, size_t pattern_len, const char *text, size_t text_len);
/* The same, letters of either case being equal. */
bool glob_match_nocase(const char *pattern, size_t pattern_len, const char *text, size_t text_len);
