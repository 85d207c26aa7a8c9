/* SPDX-License-Identifier: MIT */
/* Export and import of a dict or list as JSON Lines: a field and its value, or an element, on each line. Both ways in batches,
 * so that memory is bounded whatever the size; so an export of what changes meanwhile is of no single moment (of a dict, what
 * is there throughout is in it; of a list, elements may be missed or come twice when it is pushed or popped at the left).
 *
 * Fails: exit statuses; a line that cannot be read is named, and what came before it has been imported. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/ctl.h"
#include "lib/base/cleanup.h"
#include "lib/base/num.h"

enum { BATCH = 500, BATCH_BYTES = 1 << 20 };

/* ---- export ---- */

/* The standard output is the file from here on. */
static int open_output(struct ctl *c, const struct ctl_words *w) {
    if (w->n > 1 && strcmp(w->v[1], "-") != 0 && !freopen(w->v[1], "w", stdout)) {
        return ctl_say(c, CTL_LOCAL, "cannot write %s: %s", w->v[1], strerror(errno));
    }
    c->json = true;
    return CTL_OK;
}

int dict_export(struct ctl *c, struct ctl_words *w) {
    char cursor[32] = "0";
    int status = open_output(c, w);
    while (status == CTL_OK) {
        const char *words[] = {"HSCAN", w->v[0], cursor, "COUNT", "500"};
        const struct hearth_reply *reply;
        status = ctl_ask(c, 5, words, NULL, &reply);
        if (status == CTL_OK) {
            const struct hearth_reply *at = hearth_reply_first(reply);
            snprintf(cursor, sizeof(cursor), "%s", hearth_reply_text(at, NULL));
            status = object_show(c, hearth_reply_next(at), CTL_SHOW_PAIRS);
        }
        if (strcmp(cursor, "0") == 0) {
            break;
        }
    }
    return status;
}

int list_export(struct ctl *c, struct ctl_words *w) {
    int status = open_output(c, w);
    for (uint64_t from = 0; status == CTL_OK; from += BATCH) {
        char first[24], last[24];
        const struct hearth_reply *reply;
        first[num_put_u64(first, from)] = 0;
        last[num_put_u64(last, from + BATCH - 1)] = 0;
        const char *words[] = {"LRANGE", w->v[0], first, last};
        status = ctl_ask(c, 4, words, NULL, &reply);
        if (status == CTL_OK) {
            status = object_show(c, reply, CTL_SHOW_LINES);
        }
        if (status == CTL_OK && hearth_reply_count(reply) < BATCH) {
            break;
        }
    }
    return status;
}

/* ---- import ---- */

struct batch {
    const char *words[2 + 2 * BATCH];
    size_t lens[2 + 2 * BATCH];
    size_t n;
    char *lines[BATCH]; /* what the words lie in */
    size_t n_lines, bytes;
};

static int send_batch(struct ctl *c, struct batch *b) {
    const struct hearth_reply *reply;
    int status = b->n > 2 ? ctl_ask(c, b->n, b->words, b->lens, &reply) : CTL_OK;
    for (size_t i = 0; i < b->n_lines; i++) {
        free(b->lines[i]);
    }
    b->n = 2;
    b->n_lines = b->bytes = 0;
    return status;
}

static void add_word(struct batch *b, const struct json_item *item) {
    b->words[b->n] = item->data;
    b->lens[b->n++] = item->len;
}

/* Takes a line, which becomes the batch's. */
static const char *add_line(struct batch *b, char *line, size_t len, bool pairs) {
    struct json_item field, value;
    const char *wrong =
        pairs ? json_read_pair(line, len, &field, &value) : json_read_value(line, len, &value);
    b->lines[b->n_lines++] = line;
    b->bytes += len;
    if (!wrong && pairs) {
        add_word(b, &field);
    }
    if (!wrong) {
        add_word(b, &value);
    }
    return wrong;
}

static int import_lines(struct ctl *c, FILE *from, struct batch *b, bool pairs) {
    int status = CTL_OK;
    for (uint64_t number = 1; status == CTL_OK; number++) {
        char *line = NULL;
        size_t cap = 0;
        ssize_t len = getline(&line, &cap, from);
        if (len < 0 || (size_t)len == strspn(line, " \t\r\n")) {
            free(line);
            if (len < 0) {
                return ferror(from) ? ctl_say(c, CTL_LOCAL, "cannot read: %s", strerror(errno))
                                    : send_batch(c, b);
            }
            continue;
        }
        const char *wrong = add_line(b, line, (size_t)len, pairs);
        if (wrong) {
            status = send_batch(c, b);
            return status
                       ? status
                       : ctl_say(c, CTL_LOCAL, "line %llu: %s", (unsigned long long)number, wrong);
        }
        if (b->n_lines == BATCH || b->bytes >= BATCH_BYTES) {
            status = send_batch(c, b);
        }
    }
    return status;
}

static int import(struct ctl *c, const struct ctl_words *w, const char *command, bool pairs) {
    FILE *from = stdin;
    _cleanup_free_ struct batch *b = calloc(1, sizeof(*b));
    if (!b) {
        return ctl_say(c, CTL_LOCAL, "out of memory");
    }
    if (w->n > 1 && strcmp(w->v[1], "-") != 0) {
        from = fopen(w->v[1], "re");
    }
    if (!from) {
        return ctl_say(c, CTL_LOCAL, "cannot open %s: %s", w->v[1], strerror(errno));
    }
    b->words[0] = command;
    b->lens[0] = strlen(command);
    b->words[1] = w->v[0];
    b->lens[1] = strlen(w->v[0]);
    b->n = 2;
    int status = import_lines(c, from, b, pairs);
    for (size_t i = 0; i < b->n_lines; i++) {
        free(b->lines[i]);
    }
    if (from != stdin) {
        fclose(from);
    }
    return status;
}

int dict_import(struct ctl *c, struct ctl_words *w) {
    return import(c, w, "HSET", true);
}

int list_import(struct ctl *c, struct ctl_words *w) {
    return import(c, w, "RPUSH", false);
}
