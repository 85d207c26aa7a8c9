/* SPDX-License-Identifier: MIT */
/* Results and values as text on standard output, as they are: bytes are not altered. Only where a
 * result is tagged are its lines taken apart.
 *
 * Fails: write errors show when main() closes standard output. */
#include <stdio.h>
#include <string.h>

#include "client/ctl/ctl.h"

void ctl_print_tagged(const char *tag, const char *data, size_t len) {
    do {
        const char *end = len ? memchr(data, '\n', len) : NULL;
        size_t n = end ? (size_t)(end - data) : len;
        fputs(tag, stdout);
        putchar('\t');
        fwrite(data, 1, n, stdout);
        putchar('\n');
        n += end != NULL;
        data += n;
        len -= n;
    } while (len > 0);
}

void ctl_print_line(const char *data, size_t len) {
    fwrite(data, 1, len, stdout);
    if (len == 0 || data[len - 1] != '\n') {
        putchar('\n');
    }
}

void ctl_print_value(const struct hearth_reply *r) {
    size_t len;
    const char *text = hearth_reply_text(r, &len);
    switch (hearth_reply_type(r)) {
    case HEARTH_REPLY_NULL:
        fputs("(null)", stdout);
        break;
    case HEARTH_REPLY_BOOL:
        fputs(hearth_reply_int(r) ? "true" : "false", stdout);
        break;
    case HEARTH_REPLY_ERROR:
        printf("(error) %s", text);
        break;
    default:
        fwrite(text, 1, len, stdout);
    }
}
