/* SPDX-License-Identifier: MIT */
/* Reads the JSON that json.c writes of bytes: strings, {"base64":"..."}, and numbers, alone, as the "field" and "value" of
 * an object, or as the members of one and in arrays of these. Not a parser for all of JSON: anything else is refused with a word about it. A string is never longer than its
 * JSON, so it is unfolded in place.
 *
 * Fails: a static text. */
#include <string.h>

#include "client/ctl/ctl.h"

struct reader {
    char *at, *end;
    const char *wrong;
};

static void skip(struct reader *r) {
    while (r->at < r->end && strchr(" \t\r\n", *r->at)) {
        r->at++;
    }
}

/* Takes a character if it is next. */
static bool take(struct reader *r, char c) {
    skip(r);
    if (r->at < r->end && *r->at == c) {
        r->at++;
        return true;
    }
    return false;
}

static bool refuse(struct reader *r, const char *wrong) {
    if (!r->wrong) {
        r->wrong = wrong;
    }
    return false;
}

static int hex4(const struct reader *r, const char *at) {
    static const char digits[] = "0123456789abcdef";
    int v = 0;
    if (r->end - at < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        const char *d = at[i] ? strchr(digits, at[i] | 0x20) : NULL;
        if (!d) {
            return -1;
        }
        v = v * 16 + (int)(d - digits);
    }
    return v;
}

static char *put_utf8(char *to, uint32_t v) {
    if (v < 0x80) {
        *to++ = (char)v;
    } else if (v < 0x800) {
        *to++ = (char)(0xc0 | v >> 6);
        *to++ = (char)(0x80 | (v & 0x3f));
    } else if (v < 0x10000) {
        *to++ = (char)(0xe0 | v >> 12);
        *to++ = (char)(0x80 | (v >> 6 & 0x3f));
        *to++ = (char)(0x80 | (v & 0x3f));
    } else {
        *to++ = (char)(0xf0 | v >> 18);
        *to++ = (char)(0x80 | (v >> 12 & 0x3f));
        *to++ = (char)(0x80 | (v >> 6 & 0x3f));
        *to++ = (char)(0x80 | (v & 0x3f));
    }
    return to;
}

/* Behind "\u". */
static bool read_unicode(struct reader *r, char **to) {
    int v = hex4(r, r->at);
    if (v < 0) {
        return refuse(r, "\\u without four hexadecimal digits");
    }
    r->at += 4;
    uint32_t c = (uint32_t)v;
    if (c >= 0xd800 && c < 0xdc00) {
        int low =
            r->end - r->at >= 6 && r->at[0] == '\\' && r->at[1] == 'u' ? hex4(r, r->at + 2) : -1;
        if (low < 0xdc00 || low > 0xdfff) {
            return refuse(r, "half of a surrogate pair");
        }
        c = 0x10000 + ((c - 0xd800) << 10 | (uint32_t)(low - 0xdc00));
        r->at += 6;
    } else if (c >= 0xdc00 && c < 0xe000) {
        return refuse(r, "half of a surrogate pair");
    }
    *to = put_utf8(*to, c);
    return true;
}

static bool read_escape(struct reader *r, char **to) {
    static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    if (r->at == r->end) {
        return refuse(r, "a string does not end");
    }
    char c = *r->at++;
    if (c == 'u') {
        return read_unicode(r, to);
    }
    const char *at = c ? strchr(names, c) : NULL;
    if (!at) {
        return refuse(r, "an unknown escape in a string");
    }
    *(*to)++ = meant[at - names];
    return true;
}

/* Behind the opening quote. */
static bool read_string(struct reader *r, struct json_item *ret) {
    char *begin = r->at, *to = begin;
    while (r->at < r->end && *r->at != '"') {
        char c = *r->at++;
        if (c != '\\') {
            *to++ = c;
        } else if (!read_escape(r, &to)) {
            return false;
        }
    }
    if (r->at == r->end) {
        return refuse(r, "a string does not end");
    }
    r->at++;
    *ret = (struct json_item){begin, (size_t)(to - begin)};
    return true;
}

static int base64_digit(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static bool read_base64(struct reader *r, struct json_item *item) {
    char *begin = (char *)(uintptr_t)item->data, *to = begin;
    uint32_t v = 0;
    size_t digits = 0;
    for (size_t i = 0; i < item->len && begin[i] != '='; i++) {
        int d = base64_digit(begin[i]);
        if (d < 0) {
            return refuse(r, "a character that base64 does not have");
        }
        v = v << 6 | (uint32_t)d;
        if (++digits % 4 != 1) {
            *to++ = (char)(v >> (6 - 2 * ((digits - 1) % 4)));
        }
    }
    if (digits % 4 == 1) {
        return refuse(r, "base64 that is cut off");
    }
    item->len = (size_t)(to - begin);
    return true;
}

/* Bytes: a string, {"base64":"..."}, or a number as it is written. */
static bool read_bytes(struct reader *r, struct json_item *ret) {
    struct json_item key;
    if (take(r, '"')) {
        return read_string(r, ret);
    }
    if (take(r, '{')) {
        if (!take(r, '"') || !read_string(r, &key) || key.len != 6 ||
            memcmp(key.data, "base64", 6) != 0 || !take(r, ':') || !take(r, '"') ||
            !read_string(r, ret) || !take(r, '}')) {
            return refuse(r, "an object that is not {\"base64\":\"...\"}");
        }
        return read_base64(r, ret);
    }
    char *begin = r->at;
    while (r->at < r->end && strchr("+-.0123456789eE", *r->at)) {
        r->at++;
    }
    *ret = (struct json_item){begin, (size_t)(r->at - begin)};
    return ret->len || refuse(r, "neither a string nor a number nor base64");
}

static const char *finish(struct reader *r) {
    skip(r);
    if (r->at < r->end) {
        refuse(r, "something behind the end of it");
    }
    return r->wrong;
}

const char *json_read_value(char *line, size_t len, struct json_item *ret) {
    struct reader r = {line, line + len, NULL};
    skip(&r);
    return read_bytes(&r, ret) ? finish(&r) : r.wrong;
}

const char *json_read_pair(char *line, size_t len, struct json_item *ret_field,
                           struct json_item *ret_value) {
    struct reader r = {line, line + len, NULL};
    struct json_item key, item;
    int have = 0;
    if (!take(&r, '{')) {
        return "not an object of \"field\" and \"value\"";
    }
    do {
        bool ok = take(&r, '"') && read_string(&r, &key) && take(&r, ':');
        skip(&r);
        if (!ok || !read_bytes(&r, &item)) {
            return r.wrong ? r.wrong : "not an object of \"field\" and \"value\"";
        }
        if (key.len == 5 && memcmp(key.data, "field", 5) == 0) {
            *ret_field = item;
            have |= 1;
        } else if (key.len == 5 && memcmp(key.data, "value", 5) == 0) {
            *ret_value = item;
            have |= 2;
        }
    } while (take(&r, ','));
    if (!take(&r, '}') || have != 3) {
        return "not an object of \"field\" and \"value\"";
    }
    return finish(&r);
}

static bool read_array(struct reader *r, const struct json_item *key, json_member_fn fn,
                       void *arg) {
    struct json_item item = {NULL, 0};
    if (!fn(arg, key, &item)) {
        return refuse(r, "an unknown member");
    }
    if (take(r, ']')) {
        return true;
    }
    do {
        skip(r);
        if (!read_bytes(r, &item)) {
            return false;
        }
        if (!fn(arg, key, &item)) {
            return refuse(r, "an unknown member");
        }
    } while (take(r, ','));
    return take(r, ']') || refuse(r, "an array that does not end");
}

const char *json_read_object(char *line, size_t len, json_member_fn fn, void *arg) {
    struct reader r = {line, line + len, NULL};
    struct json_item key, item;
    if (!take(&r, '{')) {
        return "not an object";
    }
    do {
        if (!take(&r, '"') || !read_string(&r, &key) || !take(&r, ':')) {
            return r.wrong ? r.wrong : "not an object";
        }
        if (take(&r, '[')) {
            if (!read_array(&r, &key, fn, arg)) {
                return r.wrong;
            }
            continue;
        }
        skip(&r);
        if (!read_bytes(&r, &item)) {
            return r.wrong;
        }
        if (!fn(arg, &key, &item)) {
            return "an unknown member";
        }
    } while (take(&r, ','));
    return take(&r, '}') ? finish(&r) : "an object that does not end";
}
