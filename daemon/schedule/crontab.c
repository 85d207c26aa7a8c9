/* SPDX-License-Identifier: MIT */
/* Lines of `schedules` in the configuration. The words lie in one copy of the line, cut up in place.
 *
 * Fails: -EINVAL with a reason, -ENOMEM. */
#include "daemon/crontab.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/cleanup.h"
#include "lib/base/num.h"

enum { EVERY_MIN = 100 };
#define EVERY_MAX (UINT64_C(366) * 86400000)

bool crontab_is_name(const char *name, size_t len) {
    for (size_t i = 0; i < len; i++) {
        char ch = name[i];
        if (!((ch | 0x20) >= 'a' && (ch | 0x20) <= 'z') && !(ch >= '0' && ch <= '9') &&
            !(ch && strchr("_.:-", ch))) {
            return false;
        }
    }
    return len > 0 && len <= CRONTAB_NAME;
}

static int wrong(char ret_error[CRON_ERROR], const char *text) {
    snprintf(ret_error, CRON_ERROR, "%s", text);
    return -EINVAL;
}

/* Cuts the next word off; NULL: there is none, or a quote is not closed. */
static char *next_word(char **at) {
    char *word = *at + strspn(*at, " \t");
    if (!*word) {
        return NULL;
    }
    bool quoted = *word == '\'';
    word += quoted;
    char *end = word + strcspn(word, quoted ? "'" : " \t");
    if (quoted && !*end) {
        return NULL;
    }
    *at = *end ? end + 1 : end;
    *end = '\0';
    return word;
}

static int read_every(struct crontab_line *l, const char *text, char ret_error[CRON_ERROR]) {
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    size_t digits = text ? strspn(text, "0123456789") : 0;
    uint64_t n;
    for (size_t i = 0; digits > 0 && num_u64(text, digits, &n) == 0 && i < ARRAY_SIZE(units); i++) {
        if (strcmp(text + digits, units[i].unit) == 0 && n <= EVERY_MAX / units[i].ms &&
            n * units[i].ms >= EVERY_MIN) {
            l->every_ms = n * units[i].ms;
            return 0;
        }
    }
    return wrong(ret_error, "every is followed by a time from 100ms to 366d, as 30s, 5m, 1h");
}

/* Five words, or one that begins with @. */
static int read_expression(struct crontab_line *l, char *first, char **at,
                           char ret_error[CRON_ERROR]) {
    size_t n = 0;
    int64_t next;
    bool nickname = first && *first == '@';
    for (int i = 0; first && i < 5; i++) {
        n += (size_t)snprintf(l->when + n, n < CRON_ERROR ? CRON_ERROR - n : 0, "%s%s",
                              i > 0 ? " " : "", first);
        first = nickname || i == 4 ? NULL : next_word(at);
    }
    if (n >= CRON_ERROR) {
        return wrong(ret_error, "the time is too long");
    }
    int r = cron_parse(l->when, n, &l->cron, ret_error);
    if (r == 0 && cron_next(&l->cron, (int64_t)time(NULL), &next) < 0) {
        return wrong(ret_error, "this time never comes");
    }
    return r;
}

static int read_words(struct crontab_line *l, char *at, char ret_error[CRON_ERROR]) {
    l->words = calloc(strlen(at) / 2 + 2, sizeof(*l->words));
    if (!l->words) {
        return -ENOMEM;
    }
    for (char *word = next_word(&at); word; word = next_word(&at)) {
        l->words[l->n_words++] = word;
    }
    if (at[strspn(at, " \t")]) {
        return wrong(ret_error, "a quote is not closed");
    }
    return l->n_words > 0 ? 0 : wrong(ret_error, "the handler is missing");
}

static int parse(struct crontab_line *l, const char *line, char ret_error[CRON_ERROR]) {
    const char *colon = strstr(line, ": ");
    if (!colon || !crontab_is_name(line, (size_t)(colon - line))) {
        return wrong(ret_error, "it does not begin with NAME: (a-z, A-Z, 0-9, _ . : -)");
    }
    memcpy(l->name, line, (size_t)(colon - line));
    l->text = strdup(colon + 1);
    if (!l->text) {
        return -ENOMEM;
    }
    char *at = l->text;
    char *first = next_word(&at);
    bool every = first && strcmp(first, "every") == 0;
    int r = every ? read_every(l, next_word(&at), ret_error)
                  : read_expression(l, first, &at, ret_error);
    if (r == 0 && every) {
        snprintf(l->when, sizeof(l->when), "every %llu ms", (unsigned long long)l->every_ms);
    }
    return r < 0 ? r : read_words(l, at, ret_error);
}

int crontab_parse(const char *line, struct crontab_line *ret, char ret_error[CRON_ERROR]) {
    struct crontab_line l = {.text = NULL};
    ret_error[0] = '\0';
    int r = parse(&l, line, ret_error);
    if (r < 0) {
        crontab_deinit(&l);
        return r;
    }
    *ret = l;
    return 0;
}

void crontab_deinit(struct crontab_line *l) {
    free(l->words);
    free(l->text);
    *l = (struct crontab_line){.text = NULL};
}
