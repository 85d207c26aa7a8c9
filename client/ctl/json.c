/* SPDX-License-Identifier: MIT */
/* JSON on standard output. JSON has no bytes: text that is UTF-8 is a string; other bytes are
 * base64, marked by an `encoding` beside them, or inside a reply as {"base64":"..."}.
 *
 * Fails: write errors show when main() closes standard output. */
#include "client/ctl/ctl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Length of the UTF-8 sequence at s (shortest form, no surrogates); 0: not one. */
static size_t sequence(const unsigned char *s, size_t left) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
    if (n == 0 || n > left) {
        return 0;
    }
    uint32_t v = n == 1 ? s[0] : s[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if (s[i] >> 6 != 2) {
            return 0;
        }
        v = v << 6 | (s[i] & 0x3f);
    }
    return v < least[n] || v > 0x10ffff || (v >= 0xd800 && v < 0xe000) ? 0 : n;
}

static bool is_utf8(const char *data, size_t len) {
    const unsigned char *s = (const unsigned char *)data;
    for (size_t i = 0; i < len;) {
        size_t n = sequence(s + i, len - i);
        if (n == 0) {
            return false;
        }
        i += n;
    }
    return true;
}

bool json_text(const char *data, size_t len) {
    if (!is_utf8(data, len)) {
        return false;
    }
    putchar('"');
    for (size_t i = 0; i < len; i++) {
        unsigned char ch = (unsigned char)data[i];
        switch (ch) {
        case '"':
        case '\\':
            putchar('\\');
            putchar(ch);
            break;
        case '\n':
            fputs("\\n", stdout);
            break;
        case '\t':
            fputs("\\t", stdout);
            break;
        case '\r':
            fputs("\\r", stdout);
            break;
        default:
            if (ch < 0x20 || ch == 0x7f) {
                printf("\\u%04x", ch);
            } else {
                putchar(ch);
            }
        }
    }
    putchar('"');
    return true;
}

static void base64(const char *data, size_t len) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *s = (const unsigned char *)data;
    putchar('"');
    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        uint32_t v = (uint32_t)s[i] << 16 | (left > 1 ? (uint32_t)s[i + 1] << 8 : 0) |
                     (left > 2 ? s[i + 2] : 0);
        putchar(digits[v >> 18]);
        putchar(digits[v >> 12 & 63]);
        putchar(left > 1 ? digits[v >> 6 & 63] : '=');
        putchar(left > 2 ? digits[v & 63] : '=');
    }
    putchar('"');
}

void json_bytes(const char *key, const char *data, size_t len) {
    printf("\"%s\":", key);
    if (!json_text(data, len)) {
        base64(data, len);
        fputs(",\"encoding\":\"base64\"", stdout);
    }
}

void json_value(const char *data, size_t len) {
    if (!json_text(data, len)) {
        fputs("{\"base64\":", stdout);
        base64(data, len);
        putchar('}');
    }
}

static void json_key(const struct hearth_reply *r) {
    size_t len;
    const char *text = hearth_reply_text(r, &len);
    if (!json_text(text, len)) {
        base64(text, len);
    }
}

static void json_container(const struct hearth_reply *r, bool map) {
    const struct hearth_reply *e = hearth_reply_first(r);
    putchar(map ? '{' : '[');
    for (size_t n = hearth_reply_count(r), i = 0; i < n; i++) {
        if (i) {
            putchar(',');
        }
        if (map) {
            json_key(e);
            putchar(':');
            e = hearth_reply_next(e);
        }
        json_reply(e);
        e = hearth_reply_next(e);
    }
    putchar(map ? '}' : ']');
}

void json_reply(const struct hearth_reply *r) {
    size_t len;
    const char *text = hearth_reply_text(r, &len);
    switch (hearth_reply_type(r)) {
    case HEARTH_REPLY_NULL:
        fputs("null", stdout);
        break;
    case HEARTH_REPLY_TEXT:
        json_value(text, len);
        break;
    case HEARTH_REPLY_ERROR:
        putchar('{');
        json_bytes("error", text, len);
        putchar('}');
        break;
    case HEARTH_REPLY_INT:
        printf("%lld", (long long)hearth_reply_int(r));
        break;
    case HEARTH_REPLY_DOUBLE:
        if (isfinite(hearth_reply_double(r))) {
            printf("%.17g", hearth_reply_double(r));
        } else {
            fputs("null", stdout);
        }
        break;
    case HEARTH_REPLY_BOOL:
        fputs(hearth_reply_int(r) ? "true" : "false", stdout);
        break;
    case HEARTH_REPLY_ARRAY:
        json_container(r, false);
        break;
    case HEARTH_REPLY_MAP:
        json_container(r, true);
        break;
    }
}

void json_result(const struct hearth_result *r, bool with_data) {
    printf("{\"id\":");
    json_text(r->id, strlen(r->id));
    printf(",\"status\":\"%s\"", hearth_status_name(r->status));
    if (r->status == HEARTH_DONE) {
        if (with_data) {
            putchar(',');
            json_bytes("result", r->data, r->len);
        }
        return;
    }
    fputs(",\"result\":null,\"cause\":", stdout);
    if (!json_text(r->cause, strlen(r->cause))) {
        base64(r->cause, strlen(r->cause));
    }
    if (r->status == HEARTH_FAILED) {
        printf(",\"code\":%d", r->code);
    }
}
