/* SPDX-License-Identifier: MIT */
/* The module `image` in a real worker: a picture made here, as PNG; the JPEG is the module's own.
 * Skipped where libvips is not installed, as the module is not built there. */
#include "tests/support/rig.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "lib/base/buf.h"
#include "lib/base/cleanup.h"

enum { WIDE = 640, HIGH = 320 };

static struct rig rig;
static struct rig_worker worker;
static struct buf png;

static void end(void) {
    buf_deinit(&png);
    rig_close(&rig);
}

TestSuite(image, .timeout = 60, .fini = end);

static void put32(uint8_t out[4], uint32_t v) {
    out[0] = (uint8_t)(v >> 24);
    out[1] = (uint8_t)(v >> 16);
    out[2] = (uint8_t)(v >> 8);
    out[3] = (uint8_t)v;
}

static uint32_t get32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put_chunk(const char *name, const void *data, size_t len) {
    uint8_t word[4];
    put32(word, (uint32_t)len);
    buf_append(&png, word, 4);
    size_t at = buf_len(&png);
    buf_append(&png, name, 4);
    buf_append(&png, data, len);
    put32(word, (uint32_t)crc32(0, (const Bytef *)buf_head(&png) + at, (uInt)(len + 4)));
    buf_append(&png, word, 4);
}

/* A gradient in RGB. */
static void make_png(void) {
    uint8_t head[13] = {[8] = 8, [9] = 2};
    size_t len = HIGH * (1 + WIDE * 3);
    uLongf packed_len = compressBound(len);
    _cleanup_free_ uint8_t *rows = calloc(1, len);
    _cleanup_free_ uint8_t *packed = malloc(packed_len);
    for (size_t y = 0; y < HIGH; y++) {
        for (size_t x = 0; x < WIDE; x++) {
            uint8_t *p = rows + y * (1 + WIDE * 3) + 1 + x * 3;
            p[0] = (uint8_t)(x * 255 / WIDE);
            p[1] = (uint8_t)(y * 255 / HIGH);
            p[2] = (uint8_t)(x ^ y);
        }
    }
    cr_assert_eq(compress(packed, &packed_len, rows, len), Z_OK);
    put32(head, WIDE);
    put32(head + 4, HIGH);
    buf_append(&png, "\x89PNG\r\n\x1a\n", 8);
    put_chunk("IHDR", head, sizeof(head));
    put_chunk("IDAT", packed, packed_len);
    put_chunk("IEND", "", 0);
}

static void open_image(void) {
    char path[4096];
    snprintf(path, sizeof(path), "%s/image.so", getenv("HEARTH_MODULE_PATH"));
    if (access(path, R_OK) < 0) {
        cr_skip_test("built without libvips");
    }
    make_png();
    cr_assert_eq(rig_open(&rig, path, NULL), 0);
    cr_assert_eq(rig_ready(&rig), 0);
    cr_assert_eq(rig_worker(&rig, true, &worker), 0);
}

#define RUN(v, payload, len, ...)                                                                  \
    cr_assert_eq(                                                                                  \
        rig_run(&rig, 0, payload, len, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL}, v), \
        0)

static bool is_png(const struct task_view *v, uint32_t width, uint32_t height) {
    const uint8_t *p = v->output.data;
    return v->state == TASK_DONE && v->output.len > 24 && memcmp(p, "\x89PNG\r\n\x1a\n", 8) == 0 &&
           get32(p + 16) == width && get32(p + 20) == height;
}

/* Walks the segments of a JPEG up to its frame header. */
static bool is_jpeg(const struct task_view *v, unsigned width, unsigned height) {
    const uint8_t *p = v->output.data;
    size_t n = v->output.len;
    if (v->state != TASK_DONE || n < 4 || p[0] != 0xff || p[1] != 0xd8) {
        return false;
    }
    for (size_t at = 2; at + 9 < n && p[at] == 0xff;) {
        unsigned len = (unsigned)p[at + 2] << 8 | p[at + 3];
        if (p[at + 1] >= 0xc0 && p[at + 1] <= 0xc2) {
            return ((unsigned)p[at + 5] << 8 | p[at + 6]) == height &&
                   ((unsigned)p[at + 7] << 8 | p[at + 8]) == width;
        }
        at += 2 + len;
    }
    return false;
}

static bool failed(const struct task_view *v, int code) {
    return v->state == TASK_FAILED && v->cause == CAUSE_ERROR && v->code == code &&
           v->output.len > 0;
}

Test(image, thumbnail) {
    struct task_view v, again;
    open_image();
    RUN(&v, buf_head(&png), buf_len(&png), "64");
    cr_assert(is_png(&v, 64, 32));
    RUN(&v, buf_head(&png), buf_len(&png), "100x10");
    cr_assert(is_png(&v, 20, 10));
    RUN(&v, buf_head(&png), buf_len(&png), "5000");
    cr_assert(is_png(&v, WIDE, HIGH), "never enlarged");
    RUN(&v, buf_head(&png), buf_len(&png), "320", "jpeg");
    cr_assert(is_jpeg(&v, 320, 160));
    RUN(&again, v.output.data, v.output.len, "32");
    cr_assert(is_jpeg(&again, 32, 16));
    RUN(&again, v.output.data, v.output.len, "32x32", "png");
    cr_assert(is_png(&again, 32, 16));
    cr_assert_eq(rig_retire(&rig, &worker), 0);
}

Test(image, bad_input) {
    static const char *const sizes[] = {
        "", "0", "x", "10x", "x10", "10x0", "-1", "1 ", "1x2x3", "99999", "100000000000000000000"};
    struct task_view v;
    open_image();
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        RUN(&v, buf_head(&png), buf_len(&png), sizes[i]);
        cr_assert(failed(&v, EINVAL), "size %s", sizes[i]);
    }
    RUN(&v, buf_head(&png), buf_len(&png));
    cr_assert(failed(&v, EINVAL));
    RUN(&v, buf_head(&png), buf_len(&png), "10", "gif");
    cr_assert(failed(&v, EINVAL));
    RUN(&v, "", 0, "10");
    cr_assert(failed(&v, EBADMSG));
    RUN(&v, "GIF89a is not wanted", 20, "10");
    cr_assert(failed(&v, EBADMSG));
    RUN(&v, "<svg xmlns='http://www.w3.org/2000/svg'/>", 41, "10");
    cr_assert(failed(&v, EBADMSG));
}

/* The same worker survives pictures cut short and with bytes changed, and then makes a good one. */
Test(image, damaged) {
    struct task_view v;
    unsigned seed = 5;
    struct buf jpeg = BUF_INIT;
    open_image();
    RUN(&v, buf_head(&png), buf_len(&png), "320", "jpeg");
    buf_append(&jpeg, v.output.data, v.output.len);
    const struct buf *both[] = {&png, &jpeg};
    for (int i = 0; i < 120; i++) {
        const struct buf *b = both[i & 1];
        size_t len = buf_len(b);
        _cleanup_free_ char *copy = malloc(len);
        memcpy(copy, buf_head(b), len);
        seed = seed * 1103515245U + 12345U;
        if (i % 4 < 2) {
            len = seed % len;
        } else {
            copy[seed % len] ^= (char)(1 + (seed >> 24) % 255);
        }
        struct task_ref t;
        cr_assert_eq(rig_submit(&rig, 0, 0, copy, len, (const char *const[]){"40", NULL}, &t), 0);
        cr_assert_eq(rig_result(&rig, &t, &v), 0);
        cr_assert(v.state == TASK_DONE || failed(&v, EBADMSG));
        cr_assert_eq(task_free(&rig.s, t.idx, t.id), 0);
    }
    RUN(&v, buf_head(&png), buf_len(&png), "64");
    cr_assert(is_png(&v, 64, 32));
    buf_deinit(&jpeg);
}
