/* SPDX-License-Identifier: MIT */
/* The value parser must say the same of a stream however it is cut, and every tree it gives must be
 * sound: siblings follow each other, subtrees end inside their parent, text lies inside the
 * message. The first byte of an input picks the cuts, the rest is the stream. */
#include "lib/wire/resp.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int truth) {
    if (!truth) {
        abort();
    }
}

static void tell_tree(struct buf *b, const struct resp_doc *d, const char *data) {
    uint32_t open[RESP_DEPTH + 1], left[RESP_DEPTH + 1], depth = 0;
    for (uint32_t i = 0; i < d->n; i++) {
        const struct resp_value *v = &d->v[i];
        require(v->next > i && v->next <= d->n);
        buf_printf(b, "%u%c%u %lld ", depth, v->type, v->count, (long long)v->integer);
        if (v->data) {
            require(v->count == 0 && v->next == i + 1);
            require(v->data >= data && v->len <= d->used);
            require((size_t)(v->data - data) + v->len <= d->used);
            buf_append(b, v->data, v->len);
        }
        if (v->count) {
            require(depth <= RESP_DEPTH);
            open[depth] = i;
            left[depth++] = v->count;
            continue;
        }
        require(v->next == i + 1);
        while (depth && --left[depth - 1] == 0) {
            depth--;
            require(d->v[open[depth]].next == i + 1);
        }
        require(depth || i + 1 == d->n);
    }
    require(depth == 0 && d->n > 0 && d->v[0].next == d->n);
}

static void tell(struct buf *b, const struct resp_doc *d, int result, const char *data) {
    require(result == RESP_OK || result == RESP_E_PROTO);
    if (result == RESP_E_PROTO) {
        require(d->error != NULL);
        buf_printf(b, "error %s\n", d->error);
        return;
    }
    buf_printf(b, "%zu\n", d->used);
    tell_tree(b, d, data);
}

static void parse_whole(const char *p, size_t len, struct buf *told) {
    struct resp_doc d = {0};
    int result;
    while ((result = resp_parse(&d, p, len)) != RESP_MORE) {
        tell(told, &d, result, p);
        if (result != RESP_OK) {
            break;
        }
        require(d.used > 0 && d.used <= len);
        p += d.used;
        len -= d.used;
    }
    resp_doc_deinit(&d);
}

static void parse_pieces(const char *p, size_t len, uint32_t seed, struct buf *told) {
    struct resp_doc d = {0};
    size_t have = 0;
    char *exact = NULL;
    for (;;) {
        char *moved = malloc(have ? have : 1);
        require(moved != NULL);
        memcpy(moved, p, have);
        free(exact);
        exact = moved;
        int result = resp_parse(&d, exact, have);
        if (result == RESP_MORE) {
            require(d.need > have);
            if (have == len) {
                break;
            }
            seed = seed * 1103515245U + 12345U;
            have += 1 + (seed >> 16) % (seed & 0x4000 ? 3 : 50);
            have = have < len ? have : len;
            continue;
        }
        tell(told, &d, result, exact);
        if (result != RESP_OK) {
            break;
        }
        p += d.used;
        len -= d.used;
        have -= d.used;
    }
    free(exact);
    resp_doc_deinit(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    const char *stream = (const char *)data + 1;
    struct buf whole = BUF_INIT, pieces = BUF_INIT;
    parse_whole(stream, size - 1, &whole);
    parse_pieces(stream, size - 1, data[0], &pieces);
    require(buf_len(&whole) == buf_len(&pieces));
    require(buf_len(&whole) == 0 ||
            memcmp(buf_head(&whole), buf_head(&pieces), buf_len(&whole)) == 0);
    buf_deinit(&whole);
    buf_deinit(&pieces);
    return 0;
}
