/* SPDX-License-Identifier: MIT */
/* The module `text`: words of a document.
 *
 *     words [N [LOCALE]]
 *     count DICT
 *
 * The result is the count as `wc -w` gives it, then the N (10) most frequent words, one a line,
 * each with its count: "2968", "the 309", ...
 *
 * The locale decides what a character is, for wc too; it is that of the environment (LC_ALL,
 * LC_CTYPE, LANG: a pool's `env` can set it), or the one named by the task. For the table of
 * frequencies a word is taken without the ASCII punctuation around it and in lower case as far as
 * ASCII goes, and words with unprintable bytes inside are left out; the count is of all of them.
 * Words of equal frequency are in the order of their bytes, so that a document has one answer.
 *
 * The table is a hash of open addressing over slices of the payload (nothing is copied; case is
 * folded in comparing), and is kept by the worker from task to task.
 *
 * `count` adds how often each word occurs to the shared dict of that name, for all documents and all workers in one; a word is
 * there a run of ASCII letters, in lower case, as `tr -cs A-Za-z '\n' | tr A-Z a-z` makes them. A document counts as a whole: it
 * is one transaction, so that a worker's death in the middle of it adds nothing. The result is the number of words, and of
 * different ones.
 *
 * Fails: EINVAL for a bad argument or an unknown locale, ENOMEM; for `count` also what the dict says. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/handlers/args.h"
#include "worker/handlers/words.h"
#include "worker/hearth_handler.h"

enum { FIRST_CELLS = 4096, KEEP_CELLS = 1 << 18 };

struct cell {
    const char *word; /* NULL: empty */
    uint32_t len;
    uint32_t hash;
    uint64_t count;
};

static struct cell *cells;
static size_t cells_cap; /* a power of two, or 0 */
static size_t cells_used;
static locale_t default_locale;

static unsigned char fold(char c) {
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

static int is_punctuation(char c) {
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
}

static int compare_words(const struct cell *a, const struct cell *b) {
    uint32_t n = a->len < b->len ? a->len : b->len;
    for (uint32_t i = 0; i < n; i++) {
        if (fold(a->word[i]) != fold(b->word[i])) {
            return fold(a->word[i]) < fold(b->word[i]) ? -1 : 1;
        }
    }
    return a->len < b->len ? -1 : a->len > b->len;
}

/* The cell of that word, or the empty one where it belongs. */
static struct cell *find(struct cell *table, size_t cap, const struct cell *key) {
    size_t i = key->hash & (cap - 1);
    while (table[i].word != NULL &&
           (table[i].hash != key->hash || compare_words(&table[i], key) != 0)) {
        i = (i + 1) & (cap - 1);
    }
    return &table[i];
}

static int grow(void) {
    size_t cap = cells_cap == 0 ? FIRST_CELLS : cells_cap * 2;
    struct cell *more = calloc(cap, sizeof(*more));
    if (more == NULL) {
        return ENOMEM;
    }
    for (size_t i = 0; i < cells_cap; i++) {
        if (cells[i].word != NULL) {
            *find(more, cap, &cells[i]) = cells[i];
        }
    }
    free(cells);
    cells = more;
    cells_cap = cap;
    return 0;
}

static int visit(void *arg, const char *word, size_t len) {
    (void)arg;
    while (len > 0 && is_punctuation(*word)) {
        word++;
        len--;
    }
    while (len > 0 && is_punctuation(word[len - 1])) {
        len--;
    }
    if (len == 0 || len > UINT32_MAX) {
        return 0;
    }
    if (cells_used * 2 >= cells_cap && grow() != 0) {
        return ENOMEM;
    }
    struct cell key = {word, (uint32_t)len, 2166136261U, 0};
    for (size_t i = 0; i < len; i++) {
        key.hash = (key.hash ^ fold(word[i])) * 16777619U;
    }
    key.hash ^= key.hash >> 15;
    struct cell *c = find(cells, cells_cap, &key);
    if (c->word == NULL) {
        *c = key;
        cells_used++;
    }
    c->count++;
    return 0;
}

static int compare_cells(const void *x, const void *y) {
    const struct cell *a = x;
    const struct cell *b = y;
    if (a->count != b->count) {
        return a->count > b->count ? -1 : 1;
    }
    return compare_words(a, b);
}

static void forget(void) {
    if (cells_cap > KEEP_CELLS) {
        free(cells);
        cells = NULL;
        cells_cap = 0;
    } else if (cells_used > 0) {
        memset(cells, 0, cells_cap * sizeof(*cells));
    }
    cells_used = 0;
}

/* One line: the word in lower case, its count. */
static int write_word(struct hearth_task *task, const struct hearth_api *api,
                      const struct cell *c) {
    char tail[32];
    int n = snprintf(tail, sizeof(tail), " %llu\n", (unsigned long long)c->count);
    char *to = api->reserve(task, c->len + (size_t)n);
    if (to == NULL) {
        return ENOMEM;
    }
    for (uint32_t i = 0; i < c->len; i++) {
        to[i] = (char)fold(c->word[i]);
    }
    memcpy(to + c->len, tail, (size_t)n);
    api->commit(task, c->len + (size_t)n);
    return 0;
}

static int answer(struct hearth_task *task, const struct hearth_api *api, size_t words,
                  long long top) {
    char first[32];
    int n = snprintf(first, sizeof(first), "%zu\n", words);
    int r = api->write(task, first, (size_t)n);
    /* the words that are there, packed and sorted; the table is rebuilt for the next task anyway */
    size_t count = 0;
    for (size_t i = 0; i < cells_cap; i++) {
        if (cells[i].word != NULL) {
            cells[count++] = cells[i];
        }
    }
    if (count > 0) {
        qsort(cells, count, sizeof(*cells), compare_cells);
    }
    for (size_t i = 0; r == 0 && i < count && (long long)i < top; i++) {
        r = write_word(task, api, &cells[i]);
    }
    return r;
}

static int text_words(struct hearth_task *task, const struct hearth_api *api) {
    struct hearth_bytes in = api->payload(task);
    struct hearth_bytes name = api->arg(task, 1);
    locale_t locale = default_locale;
    long long top = 0;
    size_t words = 0;
    int r = args_number(task, api, 0, "N", 0, 1000000, 10, &top);
    if (r != 0) {
        return r;
    }
    if (name.data != NULL) {
        locale = newlocale(LC_CTYPE_MASK, name.data, (locale_t)0);
        if (locale == (locale_t)0) {
            return api->fail(task, EINVAL, "no locale %.100s on this machine",
                             (const char *)name.data);
        }
    }
    r = words_count(in.len > 0 ? in.data : "", in.len, locale, top > 0 ? visit : NULL, NULL,
                    &words);
    if (r == 0) {
        r = answer(task, api, words, top);
    }
    forget();
    if (name.data != NULL) {
        freelocale(locale);
    }
    return r != 0 ? api->fail(task, ENOMEM, "no memory") : 0;
}

/* ---- count ---- */

static int is_letter(char c) {
    return fold(c) >= 'a' && fold(c) <= 'z';
}

static int count_letters(struct hearth_bytes in) {
    const char *text = in.data;
    for (size_t i = 0; i < in.len;) {
        size_t from = i;
        while (i < in.len && is_letter(text[i])) {
            i++;
        }
        if (i > from && visit(NULL, text + from, i - from) != 0) {
            return ENOMEM;
        }
        i += i == from;
    }
    return 0;
}

/* What is in the table goes into the dict. *ret_words: how often in all. */
static int add_to_dict(const struct hearth_api *api, struct hearth_bytes dict,
                       uint64_t *ret_words) {
    size_t bytes = 0, n = 0;
    for (size_t i = 0; i < cells_cap; i++) {
        bytes += cells[i].len;
    }
    char *text = malloc(bytes + 1);
    struct hearth_bytes *fields = malloc((cells_used + 1) * sizeof(*fields));
    int64_t *by = malloc((cells_used + 1) * sizeof(*by));
    int r = text != NULL && fields != NULL && by != NULL ? 0 : -ENOMEM;
    char *at = text;
    *ret_words = 0;
    for (size_t i = 0; r == 0 && i < cells_cap; i++) {
        if (cells[i].word == NULL) {
            continue;
        }
        fields[n] = (struct hearth_bytes){at, cells[i].len};
        by[n++] = (int64_t)cells[i].count;
        *ret_words += cells[i].count;
        for (uint32_t k = 0; k < cells[i].len; k++) {
            *at++ = (char)fold(cells[i].word[k]);
        }
    }
    if (r == 0) {
        r = api->objects->dict_add_many(dict, fields, by, n);
    }
    free(text);
    free(fields);
    free(by);
    return r;
}

static int text_count(struct hearth_task *task, const struct hearth_api *api) {
    struct hearth_bytes dict = api->arg(task, 0);
    char answer[64];
    uint64_t words = 0;
    if (dict.len == 0) {
        return api->fail(task, EINVAL, "count needs the name of a dict");
    }
    if (!HEARTH_HAS(api, objects)) {
        return api->fail(task, ENOSYS, "this Hearth has no shared objects");
    }
    int r = -count_letters(api->payload(task));
    if (r == 0) {
        r = add_to_dict(api, dict, &words);
    }
    size_t different = cells_used;
    forget();
    if (r < 0) {
        return api->fail(task, -r, "dict %.100s: %s", (const char *)dict.data, strerror(-r));
    }
    int n = snprintf(answer, sizeof(answer), "%llu %zu\n", (unsigned long long)words, different);
    return api->write(task, answer, (size_t)n) < 0 ? api->fail(task, ENOMEM, "no memory") : 0;
}

/* As setlocale(3) does it for wc: the environment's locale, or "C" when there is no such. */
static int text_init(const struct hearth_api *api, int argc, const char *const *argv) {
    (void)argc;
    (void)argv;
    default_locale = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
    if (default_locale == (locale_t)0) {
        default_locale = newlocale(LC_CTYPE_MASK, "C", (locale_t)0);
    }
    return default_locale == (locale_t)0 ? api->fail(NULL, ENOMEM, "no locale") : 0;
}

static const struct hearth_handler handlers[] = {
    {"words", "[N [LOCALE]] counts words as wc -w, and the N (10) most frequent ones", text_words},
    {"count", "DICT adds how often each word occurs to a shared dict", text_count},
    {0},
};

HEARTH_EXPORT const struct hearth_module hearth_module = {
    HEARTH_MODULE_HEAD, .name = "text", .version = "1.0", .handlers = handlers, .init = text_init,
};
