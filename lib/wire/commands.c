/* SPDX-License-Identifier: MIT */
/* The table of commands and the way from a word to its line. Every request passes here, so the
 * search is a small open hash over the length and four bytes of the name, built before main()
 * begins and never changed, which makes it thread-safe without a check. Four bytes tell the present
 * names well apart (a test looks at the length of the probes); a wrong guess costs one comparison,
 * never a wrong answer.
 *
 * Fails: never; a word that is no command gives -1. */
#include "lib/wire/commands.h"

#include <string.h>

const struct command commands[COMMAND_COUNT_OF] = {
#define COMMAND(id, name, arity, flags, group, args, summary)                                      \
    [COMMAND_##id] = {name, arity, flags, #group, args, summary},
#include "lib/wire/commands.def"
#undef COMMAND
};

enum { TABLE_SIZE = 512, NAME_MAX_LEN = 32, EMPTY = 0xff };
_Static_assert(COMMAND_COUNT_OF * 2 <= TABLE_SIZE && (int)COMMAND_COUNT_OF < EMPTY,
               "the table stays half empty, so that probes stay short and end");

static uint8_t table[TABLE_SIZE];
static uint8_t lengths[COMMAND_COUNT_OF];

/* Bit 5 is the case of a letter; it does not count. len > 0. */
static inline unsigned hash(const char *s, size_t len) {
    unsigned first = (unsigned char)s[0] & 0xdfU, middle = (unsigned char)s[len / 2] & 0xdfU;
    unsigned last = (unsigned char)s[len - 1] & 0xdfU;
    unsigned before = (unsigned char)s[len > 1 ? len - 2 : 0] & 0xdfU;
    unsigned h = first * 31 + middle * 7 + before * 61 + last * 5 + (unsigned)len * 11;
    return (h ^ (h >> 7)) % TABLE_SIZE;
}

__attribute__((constructor)) static void build_table(void) {
    memset(table, EMPTY, sizeof(table));
    for (unsigned id = 0; id < COMMAND_COUNT_OF; id++) {
        size_t len = strlen(commands[id].name);
        lengths[id] = (uint8_t)len;
        unsigned at = hash(commands[id].name, len);
        while (table[at] != EMPTY) {
            at = (at + 1) % TABLE_SIZE;
        }
        table[at] = (uint8_t)id;
    }
}

static bool same_word(const char *word, const char *upper, size_t len) {
    if (memcmp(word, upper, len) == 0) {
        return true;
    }
    for (size_t i = 0; i < len; i++) {
        char c = word[i];
        if (c >= 'a' && c <= 'z') {
            c = (char)(c - 32);
        }
        if (c != upper[i]) {
            return false;
        }
    }
    return true;
}

int command_find(const struct resp_arg *name) {
    if (name->len == 0 || name->len > NAME_MAX_LEN) {
        return -1;
    }
    unsigned at = hash(name->data, name->len);
    for (; table[at] != EMPTY; at = (at + 1) % TABLE_SIZE) {
        unsigned id = table[at];
        if (lengths[id] == name->len && same_word(name->data, commands[id].name, name->len)) {
            return (int)id;
        }
    }
    return -1;
}
