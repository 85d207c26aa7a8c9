/* SPDX-License-Identifier: MIT */
/* The format is that of Redis's RDB files (public documentation; S. Sanfilippo), for one key:
 *
 *     type (1 byte)  content  version (2 bytes)  CRC-64 of all before it (8 bytes)         little-endian
 *
 *     length   00xxxxxx | 01xxxxxx +1 byte | 10000000 +4 bytes | 10000001 +8 bytes           big-endian
 *     string   length and bytes, or an integer: 11000000 +1 | 11000001 +2 | 11000010 +4, or compressed: 11000011 (LZF)
 *     listpack its size (4), the number of its entries (2), entries each with its own length behind it, 0xff
 *
 * The bytes come from a client: every length is held against what is left, and what is decompressed against what was
 * announced, at most DUMP_MAX.
 *
 * Fails: -EILSEQ, -ENOMEM. */
#include "daemon/serve/dump.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "lib/base/num.h"

enum {
    VERSION = 10, /* of Redis 7.0 */
    FOOT = 10,    /* bytes of version and checksum */
    DUMP_MAX = 64 << 20,
    INTEGER_MAX = 11, /* bytes of text that may be kept as an integer */
    SPECIAL_INT8 = 0,
    SPECIAL_INT16 = 1,
    SPECIAL_INT32 = 2,
    SPECIAL_LZF = 3,
    LISTPACK_HEAD = 6,
    LISTPACK_END = 0xff,
};

/* ---- CRC-64, polynomial of D. Jones, bits reversed ---- */

static uint64_t crc_table[256];

__attribute__((constructor)) static void build_table(void) {
    for (unsigned i = 0; i < 256; i++) {
        uint64_t v = i;
        for (int k = 0; k < 8; k++) {
            v = v & 1 ? v >> 1 ^ UINT64_C(0x95ac9329ac4bc9b5) : v >> 1;
        }
        crc_table[i] = v;
    }
}

static uint64_t crc64(const uint8_t *p, size_t n) {
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        v = crc_table[(v ^ p[i]) & 0xff] ^ v >> 8;
    }
    return v;
}

/* ---- writing ---- */

int dump_put_type(struct buf *b, enum dump_type type) {
    uint8_t t = (uint8_t)type;
    return buf_append(b, &t, 1);
}

int dump_put_len(struct buf *b, uint64_t len) {
    uint8_t out[9];
    if (len < 64) {
        out[0] = (uint8_t)len;
        return buf_append(b, out, 1);
    }
    if (len < 16384) {
        out[0] = (uint8_t)(0x40 | len >> 8);
        out[1] = (uint8_t)len;
        return buf_append(b, out, 2);
    }
    bool large = len > UINT32_MAX;
    uint32_t be32 = htobe32((uint32_t)len);
    uint64_t be64 = htobe64(len);
    out[0] = large ? 0x81 : 0x80;
    memcpy(out + 1, large ? (const void *)&be64 : &be32, large ? 8 : 4);
    return buf_append(b, out, large ? 9 : 5);
}

/* An integer that is written in one way only. */
static bool as_integer(const char *text, size_t len, int32_t *ret) {
    int64_t v;
    char again[24];
    if (len > INTEGER_MAX || num_i64(text, len, &v) || v > INT32_MAX || v < INT32_MIN ||
        num_put_i64(again, v) != len || memcmp(again, text, len) != 0) {
        return false;
    }
    *ret = (int32_t)v;
    return true;
}

int dump_put_string(struct buf *b, const void *data, size_t len) {
    int32_t v;
    if (as_integer(data, len, &v)) {
        int bytes = v >= INT8_MIN && v <= INT8_MAX ? 1 : v >= INT16_MIN && v <= INT16_MAX ? 2 : 4;
        uint32_t le = htole32((uint32_t)v);
        uint8_t out[5] = {(uint8_t)(0xc0 | bytes / 2)};
        memcpy(out + 1, &le, sizeof(le));
        return buf_append(b, out, (size_t)bytes + 1);
    }
    int r = dump_put_len(b, len);
    return r || !len ? r : buf_append(b, data, len);
}

int dump_put_end(struct buf *b) {
    uint16_t version = htole16(VERSION);
    int r = buf_append(b, &version, sizeof(version));
    if (r == 0) {
        uint64_t crc = htole64(crc64((const uint8_t *)buf_head(b), buf_len(b)));
        r = buf_append(b, &crc, sizeof(crc));
    }
    return r;
}

/* ---- reading ---- */

static size_t left(const struct dump *d) {
    return (size_t)(d->end - d->at);
}

/* The next n bytes; NULL: there are not so many. */
static const uint8_t *take(struct dump *d, uint64_t n) {
    const uint8_t *p = d->at;
    if (n > left(d)) {
        return NULL;
    }
    d->at += n;
    return p;
}

int dump_open(struct dump *d, const void *data, size_t len) {
    uint16_t version;
    uint64_t crc;
    if (len < FOOT) {
        return -EILSEQ;
    }
    const uint8_t *foot = (const uint8_t *)data + len - FOOT;
    memcpy(&version, foot, sizeof(version));
    memcpy(&crc, foot + sizeof(version), sizeof(crc));
    if (le16toh(version) > VERSION || le64toh(crc) != crc64(data, len - sizeof(crc))) {
        return -EILSEQ;
    }
    *d = (struct dump){.at = data, .end = foot};
    return 0;
}

void dump_close(struct dump *d) {
    buf_deinit(&d->scratch);
}

int dump_byte(struct dump *d, uint8_t *ret) {
    const uint8_t *p = take(d, 1);
    if (!p) {
        return -EILSEQ;
    }
    *ret = *p;
    return 0;
}

/* A length, or (*special) the number of a special form of string. */
static int read_len(struct dump *d, uint64_t *ret, bool *special) {
    uint8_t first = 0;
    int r = dump_byte(d, &first);
    size_t more = first >> 6 == 1 ? 1 : first == 0x80 ? 4 : first == 0x81 ? 8 : 0;
    const uint8_t *p = r == 0 ? take(d, more) : NULL;
    if (!p || (first >> 6 == 2 && more == 0)) {
        return -EILSEQ;
    }
    *special = first >> 6 == 3;
    uint64_t v = more == 4 || more == 8 ? 0 : first & 0x3f;
    for (size_t i = 0; i < more; i++) {
        v = v << 8 | p[i];
    }
    *ret = v;
    return 0;
}

int dump_len(struct dump *d, uint64_t *ret) {
    bool special;
    uint64_t v;
    int r = read_len(d, &v, &special);
    if (r || special) {
        return -EILSEQ;
    }
    *ret = v;
    return 0;
}

/* LZF (M. Lehmann): literal runs, and copies of what was written up to 8 KiB before. */
static int unlzf(const uint8_t *p, size_t n, uint8_t *out, size_t len) {
    size_t at = 0;
    for (size_t i = 0; i < n;) {
        unsigned ctrl = p[i++];
        if (ctrl < 32) {
            size_t run = ctrl + 1;
            if (run > n - i || run > len - at) {
                return -EILSEQ;
            }
            memcpy(out + at, p + i, run);
            at += run;
            i += run;
            continue;
        }
        size_t run = ctrl >> 5;
        if (run == 7) {
            if (i == n) {
                return -EILSEQ;
            }
            run += p[i++];
        }
        run += 2;
        if (i == n) {
            return -EILSEQ;
        }
        size_t back = ((ctrl & 0x1f) << 8 | p[i++]) + 1;
        if (back > at || run > len - at) {
            return -EILSEQ;
        }
        for (size_t k = 0; k < run; k++, at++) {
            out[at] = out[at - back]; /* one by one: it may overlap itself */
        }
    }
    return at == len ? 0 : -EILSEQ;
}

static int read_lzf(struct dump *d, const void **ret, size_t *ret_len) {
    uint64_t n, len;
    int r = dump_len(d, &n);
    r = r ? r : dump_len(d, &len);
    const uint8_t *p = r ? NULL : take(d, n);
    if (!p || len == 0 || len > DUMP_MAX) {
        return -EILSEQ;
    }
    buf_consume(&d->scratch, buf_len(&d->scratch));
    char *out = buf_room(&d->scratch, len);
    if (!out) {
        return -ENOMEM;
    }
    r = unlzf(p, n, (uint8_t *)out, len);
    *ret = out;
    *ret_len = len;
    return r;
}

/* Little-endian, two's complement, 1 to 8 bytes. */
static int64_t signed_of(const uint8_t *p, size_t bytes) {
    uint64_t v = 0;
    for (size_t i = 0; i < bytes; i++) {
        v |= (uint64_t)p[i] << 8 * i;
    }
    unsigned shift = (unsigned)(64 - 8 * bytes);
    return (int64_t)(v << shift) >> shift;
}

static int read_integer(struct dump *d, size_t bytes, const void **ret, size_t *ret_len) {
    const uint8_t *p = take(d, bytes);
    if (!p) {
        return -EILSEQ;
    }
    buf_consume(&d->scratch, buf_len(&d->scratch));
    char *out = buf_room(&d->scratch, 24);
    if (!out) {
        return -ENOMEM;
    }
    *ret_len = num_put_i64(out, signed_of(p, bytes));
    *ret = out;
    return 0;
}

int dump_string(struct dump *d, const void **ret, size_t *ret_len) {
    bool special;
    uint64_t len;
    int r = read_len(d, &len, &special);
    if (r) {
        return r;
    }
    if (special) {
        return len == SPECIAL_LZF     ? read_lzf(d, ret, ret_len)
               : len <= SPECIAL_INT32 ? read_integer(d, (size_t)1 << len, ret, ret_len)
                                      : -EILSEQ;
    }
    const uint8_t *p = take(d, len);
    if (!p) {
        return -EILSEQ;
    }
    *ret = p;
    *ret_len = len;
    return 0;
}

/* ---- listpacks ---- */

struct entry {
    size_t head, len; /* bytes before the content, and of it */
    bool integer;
    int64_t value;
};

static size_t length_of(const uint8_t *p, size_t bytes) {
    return (size_t)((uint64_t)signed_of(p, bytes) & (bytes == 4 ? UINT32_MAX : 0xff));
}

/* What begins at p; n bytes are there. False: it is nothing. */
static bool read_entry(const uint8_t *p, size_t n, struct entry *ret) {
    static const uint8_t widths[] = {4, 2, 3, 4, 8}; /* of 0xf0 .. 0xf4 */
    uint8_t c = p[0];
    struct entry e = {.head = 1};
    if (c < 0x80) {
        e.integer = true;
        e.value = c;
    } else if (c < 0xc0) {
        e.len = c & 0x3f;
    } else if (n < 2) {
        return false;
    } else if (c < 0xe0) {
        int64_t v = (c & 0x1f) << 8 | p[1];
        e = (struct entry){.head = 2, .integer = true, .value = v >= 4096 ? v - 8192 : v};
    } else if (c < 0xf0) {
        e = (struct entry){.head = 2, .len = (size_t)(c & 0x0f) << 8 | p[1]};
    } else {
        size_t width = c <= 0xf4 ? widths[c - 0xf0] : 0;
        if (!width || n < 1 + width) {
            return false;
        }
        e.head = 1 + width;
        e.integer = c != 0xf0;
        if (e.integer) {
            e.value = signed_of(p + 1, width);
        } else {
            e.len = length_of(p + 1, width);
        }
    }
    *ret = e;
    return e.len <= n - e.head;
}

/* Bytes of the length that stands behind an entry of n bytes. */
static size_t back_len(size_t n) {
    return n < 128 ? 1 : n < 16384 ? 2 : n < 2097152 ? 3 : n < 268435456 ? 4 : 5;
}

int dump_listpack(const void *data, size_t len, int (*fn)(void *arg, const void *data, size_t len),
                  void *arg) {
    const uint8_t *p = data;
    if (len < LISTPACK_HEAD + 1 || length_of(p, 4) != len || p[len - 1] != LISTPACK_END) {
        return -EILSEQ;
    }
    for (size_t at = LISTPACK_HEAD; at < len - 1;) {
        struct entry e;
        char digits[24];
        if (!read_entry(p + at, len - 1 - at, &e)) {
            return -EILSEQ;
        }
        size_t whole = e.head + e.len;
        if (back_len(whole) > len - 1 - at - whole) {
            return -EILSEQ;
        }
        int r = e.integer ? fn(arg, digits, num_put_i64(digits, e.value))
                          : fn(arg, p + at + e.head, e.len);
        if (r) {
            return r;
        }
        at += whole + back_len(whole);
    }
    return 0;
}
