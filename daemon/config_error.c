/* SPDX-License-Identifier: MIT */
/* Where a mistake in the configuration stands, and how it is told. libconfig knows the line of each
 * setting, and the file only when it was included (by the name in the @include, relative to the
 * including file's directory); what it was read from as text has no name there, so the reader
 * brings it.
 *
 * Fails: never; a place that does not fit its buffer is cut. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "daemon/config_value.h"
#include "lib/base/buf.h"

void config_setting_place(const struct reader *r, const config_setting_t *s, char out[PATH_MAX]) {
    const char *file = s ? config_setting_source_file(s) : NULL;
    if (file && r->dir) {
        snprintf(out, PATH_MAX, "%s/%s", r->dir, file);
    } else {
        snprintf(out, PATH_MAX, "%s", r->file);
    }
}

/* "pools[1].rlimits.as" */
static void key_path(const config_setting_t *s, struct buf *b) {
    if (!s || config_setting_is_root(s)) {
        return;
    }
    const config_setting_t *parent = config_setting_parent(s);
    key_path(parent, b);
    if (config_setting_name(s)) {
        buf_printf(b, "%s%s", buf_len(b) ? "." : "", config_setting_name(s));
    } else {
        buf_printf(b, "[%d]", config_setting_index(s));
    }
}

int config_fail(const struct reader *r, const config_setting_t *s, const char *fmt, ...) {
    struct buf key = BUF_INIT;
    va_list ap;
    config_setting_place(r, s, r->err->file);
    r->err->line = s ? config_setting_source_line(s) : 0;
    key_path(s, &key);
    snprintf(r->err->key, sizeof(r->err->key), "%.*s", (int)buf_len(&key),
             buf_len(&key) ? buf_head(&key) : "");
    buf_deinit(&key);
    va_start(ap, fmt);
    vsnprintf(r->err->text, sizeof(r->err->text), fmt, ap);
    va_end(ap);
    return -EINVAL;
}

char *config_error_format(const struct config_error *err, char *out, size_t n) {
    char line[16] = "";
    if (err->line) {
        snprintf(line, sizeof(line), ":%u", err->line);
    }
    snprintf(out, n, "%s%s: %s%s%s", err->file, line, err->key, err->key[0] ? ": " : "", err->text);
    return out;
}
