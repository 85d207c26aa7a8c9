/* SPDX-License-Identifier: MIT */
/* The request parser must say the same of a stream however it is cut. The first byte of an input
 * picks the cuts and the limits, the rest is the stream. It is read once whole and once in pieces
 * (each call from memory of exactly its size, so that a sanitizer sees a read too far), and the two
 * accounts must agree. What was read is also written again, and must read back as the same words.
 */
#include "lib/wire/resp.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int truth) {
    if (!truth) {
        abort();
    }
}

static void tell(struct buf *b, const struct resp_reader *r, int result) {
    require(result == RESP_OK || result == RESP_E_PROTO);
    if (result == RESP_E_PROTO) {
        require(r->error != NULL);
        buf_printf(b, "error %s\n", r->error);
        return;
    }
    buf_printf(b, "%zu %u\n", r->used, r->argc);
    for (uint32_t i = 0; i < r->argc; i++) {
        buf_printf(b, "%zu:", r->argv[i].len);
        buf_append(b, r->argv[i].data, r->argv[i].len);
    }
}

static void check_round_trip(const struct resp_reader *r) {
    struct buf b = BUF_INIT;
    resp_put_array(&b, r->argc);
    for (uint32_t i = 0; i < r->argc; i++) {
        resp_put_bulk(&b, r->argv[i].data, r->argv[i].len);
    }
    struct resp_reader again;
    resp_reader_init(&again, NULL);
    require(resp_read(&again, buf_head(&b), buf_len(&b)) == RESP_OK);
    require(again.argc == r->argc && again.used == buf_len(&b));
    for (uint32_t i = 0; i < r->argc; i++) {
        require(again.argv[i].len == r->argv[i].len &&
                memcmp(again.argv[i].data, r->argv[i].data, r->argv[i].len) == 0);
    }
    resp_reader_deinit(&again);
    buf_deinit(&b);
}

static void read_whole(const struct resp_limits *limits, const char *p, size_t len,
                       struct buf *told) {
    struct resp_reader r;
    resp_reader_init(&r, limits);
    int result;
    while ((result = resp_read(&r, p, len)) != RESP_MORE) {
        tell(told, &r, result);
        if (result != RESP_OK) {
            break;
        }
        require(r.used > 0 && r.used <= len);
        check_round_trip(&r);
        p += r.used;
        len -= r.used;
    }
    resp_reader_deinit(&r);
}

static void read_pieces(const struct resp_limits *limits, const char *p, size_t len, uint32_t seed,
                        struct buf *told) {
    struct resp_reader r;
    resp_reader_init(&r, limits);
    size_t have = 0;
    for (;;) {
        char *exact = malloc(have ? have : 1);
        require(exact != NULL);
        memcpy(exact, p, have);
        int result = resp_read(&r, exact, have);
        if (result == RESP_MORE) {
            require(r.need > have);
            free(exact);
            if (have == len) {
                break;
            }
            seed = seed * 1103515245U + 12345U;
            have += 1 + (seed >> 16) % (seed & 0x4000 ? 3 : 50);
            have = have < len ? have : len;
            continue;
        }
        tell(told, &r, result);
        free(exact);
        if (result != RESP_OK) {
            break;
        }
        p += r.used;
        len -= r.used;
        have -= r.used;
    }
    resp_reader_deinit(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct resp_limits tight = {
        .max_args = 5, .max_bulk = 20, .max_total = 60, .max_inline = 30};
    if (size == 0) {
        return 0;
    }
    const struct resp_limits *limits = data[0] & 1 ? &tight : &resp_limits_default;
    const char *stream = (const char *)data + 1;
    struct buf whole = BUF_INIT, pieces = BUF_INIT;
    read_whole(limits, stream, size - 1, &whole);
    read_pieces(limits, stream, size - 1, data[0], &pieces);
    require(buf_len(&whole) == buf_len(&pieces));
    require(buf_len(&whole) == 0 ||
            memcmp(buf_head(&whole), buf_head(&pieces), buf_len(&whole)) == 0);
    buf_deinit(&whole);
    buf_deinit(&pieces);
    return 0;
}
