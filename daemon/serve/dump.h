/* SPDX-License-Identifier: MIT */
/* The bytes of DUMP and RESTORE: Redis's format of one key, as its RDB files have it, with a version and a checksum behind.
 * Written are plain strings, lists and hashes, which every Redis since 2.6 reads; read is also what Redis 7.0 to 7.2 writes. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/buf.h"

enum dump_type {
    DUMP_STRING = 0,
    DUMP_LIST = 1,
    DUMP_HASH = 4,
    DUMP_HASH_LISTPACK = 16,
    DUMP_LIST_QUICKLIST = 18, /* of listpacks and plain nodes */
};
enum { DUMP_PLAIN = 1, DUMP_PACKED = 2 }; /* nodes of the last */

/* ---- writing: 0 or -ENOMEM ---- */
int dump_put_type(struct buf *b, enum dump_type type);
int dump_put_len(struct buf *b, uint64_t len);
int dump_put_string(struct buf *b, const void *data, size_t len);
/* Ends it: the version and the checksum over all of b. */
int dump_put_end(struct buf *b);

/* ---- reading ---- */
struct dump {
    const uint8_t *at, *end;
    struct buf scratch; /* what was compressed, or an integer, is written out here */
};
/* Checks version and checksum. 0 or -EILSEQ; then dump_close(). */
int dump_open(struct dump *d, const void *data, size_t len);
void dump_close(struct dump *d);
/* 0, -EILSEQ. */
int dump_byte(struct dump *d, uint8_t *ret);
int dump_len(struct dump *d, uint64_t *ret);
/* 0, -EILSEQ, -ENOMEM. The bytes are valid until the next call. */
int dump_string(struct dump *d, const void **ret, size_t *ret_len);
/* Calls fn for every entry of a listpack until it returns non-zero. 0, -EILSEQ, or what fn returned. */
int dump_listpack(const void *data, size_t len, int (*fn)(void *arg, const void *data, size_t len),
                  void *arg);
