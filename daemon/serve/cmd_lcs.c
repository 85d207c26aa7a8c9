/* SPDX-License-Identifier: MIT */
/* LCS: the longest common subsequence of two values. The usual table of lengths, of which only one row is kept; of the rest one
 * bit a cell remembers which neighbour was the longer one, which is all that going back through it needs.
 *
 * The work is the product of the two lengths and the daemon does nothing else meanwhile, so the product is bounded
 * (LCS_CELLS). Both values are copied in one operation; the work is done without a lock, but for
 * EXEC's.
 *
 * Fails: replies; the errnos of lib/shm. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/serve/args.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"
#include "lib/base/cleanup.h"

enum { LCS_CELLS = 4 << 20 };

struct lcs {
    struct conn *c;
    const struct resp_arg *argv;
    char *text[2];
    size_t len[2];
    /* what is asked for */
    bool length, indexes, with_len;
    int64_t min_len;
    /* found */
    uint32_t total;
    uint8_t *up; /* bit per cell: the length above is larger than that to the left */
};

/* A piece of both values that is the same. */
struct match {
    uint32_t a, b, len;
};

/* ---- what is given ---- */

/* Inside of an operation: copies the values. */
static int copy_values(struct shm *s, void *arg) {
    struct lcs *l = arg;
    for (int i = 0; i < 2; i++) {
        char digits[24];
        struct task_bytes b = {0};
        struct key_name name = object_name(l->c, &l->argv[1 + i]);
        int r = value_get(s, &name, digits, &b);
        if (r && r != -ENOENT) {
            return r;
        }
        free(l->text[i]);
        l->text[i] = malloc(b.len + 1);
        if (!l->text[i]) {
            return -ENOMEM;
        }
        if (b.len) {
            memcpy(l->text[i], b.data, b.len);
        }
        l->len[i] = b.len;
    }
    return 0;
}

/* False: replied. */
static bool parse(struct lcs *l, uint32_t argc) {
    struct conn *c = l->c;
    for (uint32_t i = 3; i < argc; i++) {
        if (resp_is(&l->argv[i], "IDX")) {
            l->indexes = true;
        } else if (resp_is(&l->argv[i], "LEN")) {
            l->length = true;
        } else if (resp_is(&l->argv[i], "WITHMATCHLEN")) {
            l->with_len = true;
        } else if (resp_is(&l->argv[i], "MINMATCHLEN") && i + 1 < argc) {
            if (!args_i64(c, &l->argv[++i], &l->min_len)) {
                return false;
            }
        } else {
            reply_syntax(c);
            return false;
        }
    }
    if (l->length && l->indexes) {
        reply_error(c, "ERR If you want both the length and indexes, please just use IDX.");
        return false;
    }
    if (l->len[0] && l->len[1] > LCS_CELLS / l->len[0]) {
        reply_errorf(c, "ERR String too long for LCS: the product of the lengths is over %d",
                     LCS_CELLS);
        return false;
    }
    return true;
}

/* ---- the table ---- */

static int fill(struct lcs *l) {
    size_t n = l->len[1];
    uint32_t *row = calloc(n + 1, sizeof(*row));
    l->up = calloc(l->len[0] * n / 8 + 1, 1);
    if (!row || !l->up) {
        free(row);
        return -ENOMEM;
    }
    for (size_t i = 0, cell = 0; i < l->len[0]; i++) {
        uint32_t corner = 0, left = 0; /* lengths at (i - 1, j - 1) and (i, j - 1) */
        for (size_t j = 0; j < n; j++, cell++) {
            uint32_t above = row[j + 1];
            uint32_t longer = above > left ? above : left;
            l->up[cell / 8] |= (uint8_t)((above > left) << cell % 8);
            left = l->text[0][i] == l->text[1][j] ? corner + 1 : longer;
            corner = above;
            row[j + 1] = left;
        }
    }
    l->total = row[n];
    free(row);
    return 0;
}

static bool goes_up(const struct lcs *l, size_t i, size_t j) {
    size_t cell = (i - 1) * l->len[1] + j - 1;
    return l->up[cell / 8] >> cell % 8 & 1;
}

/* The pieces, the last one first; in all they have `total` bytes, so there are at most so many. */
static uint32_t pieces(const struct lcs *l, struct match *to) {
    uint32_t n = 0;
    bool open = false;
    size_t i = l->len[0], j = l->len[1];
    while (i > 0 && j > 0) {
        if (l->text[0][i - 1] == l->text[1][j - 1]) {
            n += !open;
            struct match *m = &to[n - 1];
            m->len = open ? m->len + 1 : 1;
            m->a = (uint32_t)--i;
            m->b = (uint32_t)--j;
            open = true;
        } else {
            *(goes_up(l, i, j) ? &i : &j) -= 1;
            open = false;
        }
    }
    return n;
}

/* ---- the reply ---- */

static void reply_range(struct conn *c, uint32_t from, uint32_t len) {
    reply_array(c, 2);
    reply_int(c, from);
    reply_int(c, (int64_t)from + len - 1);
}

static void reply_indexes(const struct lcs *l, const struct match *m, uint32_t n) {
    struct conn *c = l->c;
    uint32_t shown = 0;
    for (uint32_t i = 0; i < n; i++) {
        shown += m[i].len >= l->min_len;
    }
    reply_map(c, 2);
    reply_text(c, "matches");
    reply_array(c, shown);
    for (uint32_t i = 0; i < n; i++) {
        if (m[i].len >= l->min_len) {
            reply_array(c, l->with_len ? 3 : 2);
            reply_range(c, m[i].a, m[i].len);
            reply_range(c, m[i].b, m[i].len);
            if (l->with_len) {
                reply_int(c, m[i].len);
            }
        }
    }
    reply_field_int(c, "len", l->total);
}

static int reply_text_of(const struct lcs *l, const struct match *m, uint32_t n) {
    _cleanup_free_ char *text = malloc(l->total + 1);
    if (!text) {
        return -ENOMEM;
    }
    for (size_t at = 0; n-- > 0; at += m[n].len) {
        memcpy(text + at, l->text[0] + m[n].a, m[n].len);
    }
    reply_bulk(l->c, text, l->total);
    return 0;
}

static int compare(struct lcs *l) {
    int r = fill(l);
    if (r || l->length) {
        if (r == 0) {
            reply_int(l->c, l->total);
        }
        return r;
    }
    _cleanup_free_ struct match *m = calloc((size_t)l->total + 1, sizeof(*m));
    if (!m) {
        return -ENOMEM;
    }
    uint32_t n = pieces(l, m);
    if (l->indexes) {
        reply_indexes(l, m, n);
        return 0;
    }
    return reply_text_of(l, m, n);
}

int cmd_LCS(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct lcs l = {.c = c, .argv = argv};
    struct key_name a = object_name(c, &argv[1]), b = object_name(c, &argv[2]);
    int r = op_run(object_shm(c), key_shard_bit(&a) | key_shard_bit(&b), copy_values, &l);
    if (r == -EPROTOTYPE) {
        reply_error(c, "ERR The specified keys must contain string values");
        r = 0;
    } else if (r == 0 && parse(&l, argc)) {
        r = compare(&l);
    }
    free(l.text[0]);
    free(l.text[1]);
    free(l.up);
    return r;
}
