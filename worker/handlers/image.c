/* SPDX-License-Identifier: MIT */
/* The module `image`: thumbnails of JPEG and PNG pictures by libvips.
 *
 *     thumbnail WIDTH[xHEIGHT] [jpeg|png]
 *
 * The picture is shrunk to fit into the box (a lone WIDTH is the box's height too), turned as its
 * EXIF data says, and never enlarged. The result has the format of the input unless one is named.
 *
 * libvips is initialised in the zygote: that takes time and memory once, which the workers then share,
 * and starts no threads yet (the first picture does, in the worker). Its own cache is off (no two
 * tasks ask the same) and it works with one thread: the pool's workers are the parallelism. Loaders
 * that libvips itself calls unfit for untrusted data are blocked, and of the rest only those for
 * JPEG and PNG are accepted.
 *
 * Fails: EINVAL (arguments), EBADMSG (not a JPEG or PNG, or damaged; with what libvips says),
 * ENOMEM. A damaged picture is refused rather than half shown. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vips/vips.h>

#include "worker/hearth_handler.h"

enum { SIDE_MAX = 16384 };

/* libvips warns on stderr about each oddity of a picture, for every row of it. What matters comes
 * as an error too. */
static void drop_warning(const gchar *domain, GLogLevelFlags level, const gchar *text,
                         gpointer data) {
    (void)domain;
    (void)level;
    (void)text;
    (void)data;
}

static int image_init(const struct hearth_api *api, int argc, const char *const *argv) {
    (void)argc;
    (void)argv;
    if (VIPS_INIT("hearth-image") != 0) {
        return api->fail(NULL, 1, "libvips: %s", vips_error_buffer());
    }
    g_log_set_handler("VIPS", G_LOG_LEVEL_WARNING | G_LOG_LEVEL_INFO, drop_warning, NULL);
    vips_concurrency_set(1);
    vips_cache_set_max(0);
    vips_block_untrusted_set(TRUE);
    return 0;
}

static void image_exit(const struct hearth_api *api) {
    (void)api;
    vips_shutdown();
}

/* "200" or "200x100". */
static int parse_box(const char *text, size_t len, int *ret_width, int *ret_height) {
    int side[2] = {0, 0};
    int which = 0;
    int digits = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] >= '0' && text[i] <= '9' && side[which] <= SIDE_MAX) {
            side[which] = side[which] * 10 + (text[i] - '0');
            digits++;
        } else if (text[i] == 'x' && which == 0 && digits > 0) {
            which = 1;
            digits = 0;
        } else {
            return -EINVAL;
        }
    }
    if (which == 0) {
        side[1] = side[0];
    }
    if (digits == 0 || side[0] < 1 || side[1] < 1 || side[0] > SIDE_MAX || side[1] > SIDE_MAX) {
        return -EINVAL;
    }
    *ret_width = side[0];
    *ret_height = side[1];
    return 0;
}

/* libvips gathers its messages in one text of lines; the handler's failure is one line. */
static int fail_vips(struct hearth_task *task, const struct hearth_api *api) {
    char text[400];
    snprintf(text, sizeof(text), "%s", vips_error_buffer());
    vips_error_clear();
    for (char *c = text; *c != '\0'; c++) {
        if (*c == '\n') {
            *c = c[1] != '\0' ? ';' : '\0';
        }
    }
    return api->fail(task, EBADMSG, "%s", text);
}

static int save(struct hearth_task *task, const struct hearth_api *api, VipsImage *image,
                int as_png) {
    void *bytes = NULL;
    size_t len = 0;
    int r = as_png ? vips_pngsave_buffer(image, &bytes, &len, "strip", TRUE, NULL)
                   : vips_jpegsave_buffer(image, &bytes, &len, "Q", 85, "strip", TRUE, NULL);
    if (r != 0) {
        return fail_vips(task, api);
    }
    r = api->write(task, bytes, len);
    g_free(bytes);
    return r != 0 ? api->fail(task, ENOMEM, "no room for %zu bytes", len) : 0;
}

static int image_thumbnail(struct hearth_task *task, const struct hearth_api *api) {
    struct hearth_bytes in = api->payload(task);
    struct hearth_bytes box = api->arg(task, 0);
    struct hearth_bytes format = api->arg(task, 1);
    int width = 0;
    int height = 0;
    if (box.data == NULL || parse_box(box.data, box.len, &width, &height) < 0) {
        return api->fail(task, EINVAL, "give the size as WIDTH or WIDTHxHEIGHT, each from 1 to %d",
                         SIDE_MAX);
    }
    int as_png = -1;
    if (format.data != NULL) {
        as_png = strcmp(format.data, "png") == 0                                       ? 1
                 : strcmp(format.data, "jpeg") == 0 || strcmp(format.data, "jpg") == 0 ? 0
                                                                                       : -1;
        if (as_png < 0) {
            return api->fail(task, EINVAL, "the format is jpeg or png, not \"%.100s\"",
                             (const char *)format.data);
        }
    }
    const char *loader = in.len > 0 ? vips_foreign_find_load_buffer(in.data, in.len) : NULL;
    int is_png = loader != NULL && strncmp(loader, "VipsForeignLoadPng", 18) == 0;
    if (!is_png && (loader == NULL || strncmp(loader, "VipsForeignLoadJpeg", 19) != 0)) {
        vips_error_clear();
        return api->fail(task, EBADMSG, "the payload is neither a JPEG nor a PNG picture");
    }
    VipsImage *small = NULL;
    /* thumbnail_buffer only reads its input, but is declared otherwise */
    if (vips_thumbnail_buffer((void *)(uintptr_t)in.data, in.len, &small, width, "height", height,
                              "size", VIPS_SIZE_DOWN, "fail_on", VIPS_FAIL_ON_ERROR, NULL) != 0) {
        return fail_vips(task, api);
    }
    int r = save(task, api, small, as_png >= 0 ? as_png : is_png);
    g_object_unref(small);
    return r;
}

static const struct hearth_handler handlers[] = {
    {"thumbnail", "WIDTH[xHEIGHT] [jpeg|png] shrinks a JPEG or PNG picture", image_thumbnail},
    {0},
};

HEARTH_EXPORT const struct hearth_module hearth_module = {
    HEARTH_MODULE_HEAD,   .name = "image",    .version = "1.0",
    .handlers = handlers, .init = image_init, .exit = image_exit,
};
