/* SPDX-License-Identifier: MIT */
/* From the daemon's words to ours: error replies to HEARTH_E_ codes, [status, result, cause] to
 * struct hearth_result, and the walk over any reply. Nothing is copied: results point into the
 * input buffer, whose every text is followed by the protocol's CR LF, so that a NUL can be put
 * there once the message has been parsed as a whole.
 *
 * Fails: HEARTH_E_PROTOCOL for a reply of the wrong shape. */
#include "client/handle.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/num.h"

static const char *const status_names[] = {
    [HEARTH_DONE] = "done",
    [HEARTH_FAILED] = "failed",
    [HEARTH_LOST] = "lost",
    [HEARTH_TIMEOUT] = "timeout",
    [HEARTH_CANCELLED] = "cancelled",
    [HEARTH_REFUSED] = "refused",
    [HEARTH_DISCONNECTED] = "disconnected",
    [HEARTH_EXPIRED] = "expired",
};

const char *hearth_status_name(enum hearth_status status) {
    unsigned i = (unsigned)status;
    return i < sizeof(status_names) / sizeof(status_names[0]) ? status_names[i] : "unknown";
}

const char *hearth_strerror(int error) {
    switch (error) {
    case 0:
        return "no error";
    case HEARTH_E_REFUSED:
        return "refused by the daemon";
    case HEARTH_E_NOPOOL:
        return "no such pool";
    case HEARTH_E_NOHANDLER:
        return "no such handler";
    case HEARTH_E_BUSY:
        return "the queue is full";
    case HEARTH_E_OOM:
        return "the daemon's segment is full";
    case HEARTH_E_QUOTA:
        return "over the limits of the user whose object it is";
    case HEARTH_E_NOTASK:
        return "no such task";
    case HEARTH_E_PENDING:
        return "not ended yet";
    case HEARTH_E_DISCONNECTED:
        return "not connected to the daemon";
    case HEARTH_E_PROTOCOL:
        return "not Hearth's protocol";
    case HEARTH_E_ABSENT:
        return "no such object, field or element";
    case HEARTH_E_EXISTS:
        return "there is one already";
    case HEARTH_E_TYPE:
        return "the object is of another type";
    case HEARTH_E_NUMBER:
        return "not a number, or the sum is none";
    case HEARTH_E_ENDED:
        return "its manager has ended, or it has been deleted";
    case HEARTH_E_NOTOWNER:
        return "not held by this one";
    case HEARTH_E_DEADLOCK:
        return "each of a circle would wait for another";
    case HEARTH_E_BROKEN:
        return "the barrier is broken";
    case HEARTH_E_CLOSED:
        return "it is closed";
    case HEARTH_E_OVERFLOW:
        return "more is given back than was taken";
    case HEARTH_E_UNEXPECTED:
        return "something is not as expected";
    default:;
        const char *text = error < 0 ? strerrordesc_np(-error) : NULL;
        return text ? text : "unknown error";
    }
}

int result_say(struct hearth *h, int error, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(h->message, sizeof(h->message), fmt, ap);
    va_end(ap);
    return error;
}

void result_init(struct hearth_result *r) {
    *r = (struct hearth_result){.id = "", .data = "", .cause = ""};
}

void result_seal(struct resp_doc *d) {
    for (uint32_t i = 0; i < d->n; i++) {
        struct resp_value *v = &d->v[i];
        v->next -= i;
        switch (v->type) {
        case RESP_ARRAY:
        case RESP_MAP:
        case RESP_SET:
        case RESP_PUSH:
        case RESP_NULL:
            break;
        default:
            if (v->data) {
                ((char *)(uintptr_t)v->data)[v->len] = 0;
            }
        }
    }
}

/* Whether text begins with the word and a space or nothing follows it. */
static bool has_code(const struct resp_value *v, const char *word) {
    size_t n = strlen(word);
    return v->len >= n && memcmp(v->data, word, n) == 0 && (v->len == n || v->data[n] == ' ');
}

int result_error(struct hearth *h, const struct resp_value *v) {
    static const struct {
        const char *word;
        int error;
    } codes[] = {
        {"NOPOOL", HEARTH_E_NOPOOL},     {"NOHANDLER", HEARTH_E_NOHANDLER},
        {"BUSY", HEARTH_E_BUSY},         {"OOM", HEARTH_E_OOM},
        {"NOTASK", HEARTH_E_NOTASK},     {"NOMANAGER", HEARTH_E_ENDED},
        {"QUOTA", HEARTH_E_QUOTA},       {"GONE", HEARTH_E_ENDED},
        {"NOTOWNER", HEARTH_E_NOTOWNER}, {"DEADLOCK", HEARTH_E_DEADLOCK},
        {"BROKEN", HEARTH_E_BROKEN},     {"CLOSED", HEARTH_E_CLOSED},
        {"OVERFLOW", HEARTH_E_OVERFLOW}, {"EXISTS", HEARTH_E_EXISTS},
        {"TIMEOUT", HEARTH_E_PENDING},
    };
    if (v->type != RESP_ERROR && v->type != RESP_BLOB_ERROR) {
        return result_say(h, HEARTH_E_PROTOCOL, "unexpected reply of type '%c'", v->type);
    }
    int error = HEARTH_E_REFUSED;
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (has_code(v, codes[i].word)) {
            error = codes[i].error;
        }
    }
    return result_say(h, error, "%.*s", (int)(v->len < 500 ? v->len : 500), v->data);
}

/* The number in "error 3: text" or "exit status 2"; 0 when there is none. */
static int cause_code(const char *cause) {
    static const char *const heads[] = {"error ", "exit status "};
    for (size_t i = 0; i < 2; i++) {
        size_t n = strlen(heads[i]);
        if (strncmp(cause, heads[i], n) == 0) {
            int64_t v;
            size_t len = strspn(cause + n, "-0123456789");
            return num_i64(cause + n, len, &v) == 0 && v >= INT32_MIN && v <= INT32_MAX ? (int)v
                                                                                        : 0;
        }
    }
    return 0;
}

static int status_of(const char *text, size_t len) {
    for (int i = HEARTH_DONE; i <= HEARTH_EXPIRED; i++) {
        if (strlen(status_names[i]) == len && memcmp(status_names[i], text, len) == 0) {
            return i;
        }
    }
    return -1;
}

int result_fill(struct hearth *h, const struct resp_value *v, struct hearth_result *ret) {
    const struct resp_value *data = value_next(v), *cause = value_next(data);
    int status = value_is_text(v) ? status_of(v->data, v->len) : -1;
    if (status < 0) {
        return result_say(h, HEARTH_E_PROTOCOL, "a task ended in an unknown way");
    }
    ret->status = (enum hearth_status)status;
    if (status != HEARTH_DONE && value_is_text(cause)) {
        ret->cause = cause->data;
    }
    if (status == HEARTH_DONE && value_is_text(data)) {
        ret->data = data->data;
        ret->len = data->len;
    } else if (status == HEARTH_FAILED) {
        ret->code = cause_code(ret->cause);
    }
    return 0;
}

static bool is_command_end(const char *cause) {
    static const char *const heads[] = {"exit status ", "signal ", "could not start: "};
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        if (strncmp(cause, heads[i], strlen(heads[i])) == 0) {
            return true;
        }
    }
    return false;
}

int result_call_error(struct hearth *h, const struct resp_value *v, struct hearth_result *ret) {
    static const struct {
        const char *word;
        enum hearth_status status;
    } ends[] = {
        {"FAILED", HEARTH_FAILED},       {"LOST", HEARTH_LOST},       {"TIMEOUT", HEARTH_TIMEOUT},
        {"CANCELLED", HEARTH_CANCELLED}, {"EXPIRED", HEARTH_EXPIRED},
    };
    for (size_t i = 0; v->type == RESP_ERROR && i < sizeof(ends) / sizeof(ends[0]); i++) {
        if (!has_code(v, ends[i].word)) {
            continue;
        }
        size_t skip = strlen(ends[i].word);
        const char *text = v->data + skip + (v->len > skip);
        ret->status = ends[i].status;
        ret->cause = text;
        if (ret->status != HEARTH_FAILED) {
            return 0;
        }
        size_t digits = strspn(text, "-0123456789");
        int64_t code;
        if (num_i64(text, digits, &code) < 0 || code < INT32_MIN || code > INT32_MAX) {
            return 0;
        }
        ret->code = (int)code;
        text += digits + (text[digits] == ' ');
        /* The same words as everywhere else: a command's end names itself, a handler's error is
         * given its number. */
        if (is_command_end(text)) {
            ret->code = cause_code(text);
            ret->cause = text;
            return 0;
        }
        h->text.head = h->text.tail = 0;
        if (buf_printf(&h->text, "error %d: %s", ret->code, text) < 0 ||
            buf_append(&h->text, "", 1) < 0) {
            return -ENOMEM;
        }
        ret->cause = buf_head(&h->text);
        return 0;
    }
    return result_error(h, v);
}

/* ---- the public walk ---- */

static const struct resp_value *value(const struct hearth_reply *r) {
    return (const struct resp_value *)(const void *)r;
}
static const struct hearth_reply *reply(const struct resp_value *v) {
    return (const struct hearth_reply *)(const void *)v;
}

enum hearth_reply_type hearth_reply_type(const struct hearth_reply *r) {
    if (!r) {
        return HEARTH_REPLY_NULL;
    }
    switch (value(r)->type) {
    case RESP_ERROR:
    case RESP_BLOB_ERROR:
        return HEARTH_REPLY_ERROR;
    case RESP_INT:
        return HEARTH_REPLY_INT;
    case RESP_DOUBLE:
        return HEARTH_REPLY_DOUBLE;
    case RESP_BOOL:
        return HEARTH_REPLY_BOOL;
    case RESP_ARRAY:
    case RESP_SET:
    case RESP_PUSH:
        return HEARTH_REPLY_ARRAY;
    case RESP_MAP:
        return HEARTH_REPLY_MAP;
    case RESP_NULL:
        return HEARTH_REPLY_NULL;
    default:
        return HEARTH_REPLY_TEXT;
    }
}

const char *hearth_reply_text(const struct hearth_reply *r, size_t *ret_len) {
    enum hearth_reply_type type = hearth_reply_type(r);
    bool text = type == HEARTH_REPLY_TEXT || type == HEARTH_REPLY_ERROR ||
                type == HEARTH_REPLY_INT || type == HEARTH_REPLY_DOUBLE;
    text = text && value(r)->data;
    if (ret_len) {
        *ret_len = text ? value(r)->len : 0;
    }
    return text ? value(r)->data : "";
}

int64_t hearth_reply_int(const struct hearth_reply *r) {
    int64_t v = 0;
    enum hearth_reply_type type = hearth_reply_type(r);
    if (type == HEARTH_REPLY_INT || type == HEARTH_REPLY_BOOL) {
        v = value(r)->integer;
    } else if (type == HEARTH_REPLY_TEXT) {
        (void)num_i64(value(r)->data, value(r)->len, &v);
    }
    return v;
}

double hearth_reply_double(const struct hearth_reply *r) {
    return hearth_reply_type(r) == HEARTH_REPLY_DOUBLE ? value(r)->number
                                                       : (double)hearth_reply_int(r);
}

size_t hearth_reply_count(const struct hearth_reply *r) {
    enum hearth_reply_type type = hearth_reply_type(r);
    if (type == HEARTH_REPLY_MAP) {
        return value(r)->count / 2;
    }
    return type == HEARTH_REPLY_ARRAY ? value(r)->count : 0;
}

const struct hearth_reply *hearth_reply_first(const struct hearth_reply *r) {
    return hearth_reply_count(r) > 0 ? reply(value(r) + 1) : NULL;
}

const struct hearth_reply *hearth_reply_next(const struct hearth_reply *element) {
    return element ? reply(value_next(value(element))) : NULL;
}

const struct hearth_reply *hearth_reply_get(const struct hearth_reply *r, const char *key) {
    size_t pairs = hearth_reply_count(r), len = strlen(key);
    if (hearth_reply_type(r) == HEARTH_REPLY_ARRAY) {
        pairs /= 2;
    }
    const struct resp_value *k = pairs ? value(r) + 1 : NULL;
    for (; pairs > 0; pairs--) {
        const struct resp_value *v = value_next(k);
        if (value_is_text(k) && k->len == len && memcmp(k->data, key, len) == 0) {
            return reply(v);
        }
        k = value_next(v);
    }
    return NULL;
}
