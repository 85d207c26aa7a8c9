/* SPDX-License-Identifier: MIT */
/* The module `compress`: zlib, in the format of gzip.
 *
 *     deflate [LEVEL]    0 (stored) to 9 (smallest), 6 unless given; the result is for gunzip
 *     inflate            what gzip or zlib made; several members one after the other, too
 *
 * Both write where the result stays. deflate knows the most its output can be and asks for that
 * once; inflate asks for more as it goes, and each time for as much as it has already, so that a
 * file of n bytes costs O(n). A zlib stream is kept by the worker and reset from task to task:
 * making one clears 256 KiB.
 *
 * Fails: EINVAL (bad level), EBADMSG (not compressed data, or damaged, or cut short), EFBIG (over
 * the pool's max_output, or no memory for the output), ENOMEM. */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zlib.h>

#include "worker/handlers/args.h"
#include "worker/hearth_handler.h"

enum { GZIP = 16, GZIP_OR_ZLIB = 32, PIECE = 65536 };

static z_stream packer, unpacker;
static int packer_level = -1; /* -1: not made yet */
static bool unpacker_made;

/* zlib counts in 32 bits: it is given its input in pieces that fit. */
static void give(z_stream *z, const Bytef **next, size_t *left) {
    if (z->avail_in == 0 && *left > 0) {
        uInt n = *left > (1U << 30) ? 1U << 30 : (uInt)*left;
        z->next_in = (Bytef *)(uintptr_t)*next;
        z->avail_in = n;
        *next += n;
        *left -= n;
    }
}

static bool prepare_packer(int level) {
    if (packer_level == level) {
        return deflateReset(&packer) == Z_OK;
    }
    if (packer_level >= 0) {
        deflateEnd(&packer);
        packer_level = -1;
    }
    packer = (z_stream){0};
    if (deflateInit2(&packer, level, Z_DEFLATED, MAX_WBITS + GZIP, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        return false;
    }
    packer_level = level;
    return true;
}

static int compress_deflate(struct hearth_task *task, const struct hearth_api *api) {
    struct hearth_bytes in = api->payload(task);
    const Bytef *next = in.data;
    size_t left = in.len;
    long long level = 0;
    int r = args_number(task, api, 0, "LEVEL", 0, 9, 6, &level);
    if (r != 0) {
        return r;
    }
    if (!prepare_packer((int)level)) {
        return api->fail(task, ENOMEM, "no memory");
    }
    size_t most = deflateBound(&packer, in.len);
    uint8_t *out = api->reserve(task, most);
    if (out == NULL || most > UINT32_MAX) {
        return api->fail(task, EFBIG, "no room for an output of up to %zu bytes", most);
    }
    packer.avail_in = 0;
    packer.next_out = out;
    packer.avail_out = (uInt)most;
    do {
        if (api->cancelled(task)) {
            return api->fail(task, ECANCELED, "cancelled");
        }
        give(&packer, &next, &left);
        r = deflate(&packer, left > 0 ? Z_NO_FLUSH : Z_FINISH);
    } while (r == Z_OK);
    if (r != Z_STREAM_END) {
        return api->fail(task, EFBIG, "zlib stopped with %d", r);
    }
    api->commit(task, (size_t)(packer.next_out - out));
    return 0;
}

static bool prepare_unpacker(void) {
    if (unpacker_made) {
        return inflateReset(&unpacker) == Z_OK;
    }
    unpacker_made = inflateInit2(&unpacker, MAX_WBITS + GZIP_OR_ZLIB) == Z_OK;
    return unpacker_made;
}

static int damaged(struct hearth_task *task, const struct hearth_api *api) {
    return api->fail(task, EBADMSG, "not gzip or zlib data, or damaged: %s",
                     unpacker.msg != NULL ? unpacker.msg : "it ends early");
}

/* Unpacks into `room` bytes at out; *done counts them. Z_OK: wants more room; Z_STREAM_END: all
 * members are done. */
static int unpack_some(const Bytef **next, size_t *left, uint8_t *out, uInt room, uInt *done) {
    int r;
    unpacker.next_out = out;
    unpacker.avail_out = room;
    do {
        give(&unpacker, next, left);
        r = inflate(&unpacker, Z_NO_FLUSH);
        bool more = unpacker.avail_in > 0 || *left > 0;
        if (r == Z_STREAM_END && more) {
            give(&unpacker, next, left);
            /* another member, unless what follows is padding, which gunzip ignores too */
            r = unpacker.next_in[0] == 0x1f && inflateReset(&unpacker) == Z_OK ? Z_OK
                                                                               : Z_STREAM_END;
        } else if (r == Z_BUF_ERROR && unpacker.avail_out == 0) {
            r = Z_OK;
        }
    } while (r == Z_OK && unpacker.avail_out > 0);
    *done = room - unpacker.avail_out;
    return r;
}

static int compress_inflate(struct hearth_task *task, const struct hearth_api *api) {
    struct hearth_bytes in = api->payload(task);
    const Bytef *next = in.data;
    size_t left = in.len;
    size_t total = 0;
    int r = Z_OK;
    if (!prepare_unpacker()) {
        return api->fail(task, ENOMEM, "no memory");
    }
    unpacker.msg = NULL;
    unpacker.avail_in = 0;
    while (r == Z_OK) {
        size_t room = total > PIECE ? total : in.len < PIECE / 4 ? PIECE : in.len * 4;
        room = room > (1U << 30) ? 1U << 30 : room;
        uint8_t *out = api->reserve(task, room);
        while (out == NULL && room > PIECE) {
            room /= 2; /* near the limit: by smaller steps */
            out = api->reserve(task, room);
        }
        if (out == NULL) {
            return api->fail(task, EFBIG, "no room for more than %zu bytes of output", total);
        }
        if (api->cancelled(task)) {
            return api->fail(task, ECANCELED, "cancelled");
        }
        uInt done = 0;
        r = unpack_some(&next, &left, out, (uInt)room, &done);
        api->commit(task, done);
        total += done;
    }
    return r == Z_STREAM_END ? 0 : damaged(task, api);
}

static const struct hearth_handler handlers[] = {
    {"deflate", "[LEVEL] compresses in the format of gzip, level 0 to 9", compress_deflate},
    {"inflate", "uncompresses what gzip or zlib made", compress_inflate},
    {0},
};

HEARTH_EXPORT const struct hearth_module hearth_module = {
    HEARTH_MODULE_HEAD,
    .name = "compress",
    .version = "1.0",
    .handlers = handlers,
};
