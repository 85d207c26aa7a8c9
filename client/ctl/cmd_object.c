/* SPDX-License-Identifier: MIT */
/* dict, list, get, set, incr, del, expire, keys: shared objects, by the protocol's (Redis's) commands. Each verb is one
 * command, and so one transaction of the daemon's; only clear, keys and the transfers are several.
 *
 * Fails: exit statuses. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/ctl.h"
#include "lib/base/cleanup.h"
#include "lib/base/num.h"

enum { SCAN_COUNT = 1000 };

static bool has_fraction(const char *number) {
    return strpbrk(number, ".eE") != NULL;
}

/* ---- dict ---- */

static int dict_incr(struct ctl *c, struct ctl_words *w) {
    if (w->n == 2 && !object_insert(c, w, 2, "1")) {
        return CTL_LOCAL;
    }
    const char *command = has_fraction(w->v[2]) ? "HINCRBYFLOAT" : "HINCRBY";
    return object_insert(c, w, 0, command) ? object_send(c, w, CTL_SHOW_VALUE) : CTL_LOCAL;
}

static int dict_set(struct ctl *c, struct ctl_words *w) {
    if (w->n % 2 == 0) {
        return ctl_usage(c, "the last field has no value: %s", w->v[w->n - 1]);
    }
    return object_insert(c, w, 0, "HSET") ? object_send(c, w, CTL_SHOW_NOTHING) : CTL_LOCAL;
}

/* Deletes the name if it is of that type: `length` is a command that only this type takes. */
static int clear(struct ctl *c, struct ctl_words *w, const char *length) {
    const struct hearth_reply *reply;
    const char *ask[] = {length, w->v[0]};
    int status = ctl_ask(c, 2, ask, NULL, &reply);
    if (status != CTL_OK) {
        return status;
    }
    return object_insert(c, w, 0, "DEL") ? object_send(c, w, CTL_SHOW_NOTHING) : CTL_LOCAL;
}

static int dict_clear(struct ctl *c, struct ctl_words *w) {
    return clear(c, w, "HLEN");
}

const struct ctl_verb ctl_dict_verbs[] = {
    {"get", "FIELD...", "print the values of fields", 1, -1, "HMGET", CTL_SHOW_LINES, NULL},
    {"set", "FIELD VALUE...", "set fields", 2, -1, NULL, CTL_SHOW_NOTHING, dict_set},
    {"del", "FIELD...", "remove fields; print how many were there", 1, -1, "HDEL", CTL_SHOW_VALUE,
     NULL},
    {"incr", "FIELD [BY]", "add to a number (1); print the sum", 1, 2, NULL, CTL_SHOW_VALUE,
     dict_incr},
    {"has", "FIELD", "print yes or no", 1, 1, "HEXISTS", CTL_SHOW_YES, NULL},
    {"items", "", "print fields and values", 0, 0, "HGETALL", CTL_SHOW_PAIRS, NULL},
    {"keys", "", "print the fields", 0, 0, "HKEYS", CTL_SHOW_LINES, NULL},
    {"values", "", "print the values", 0, 0, "HVALS", CTL_SHOW_LINES, NULL},
    {"len", "", "print the number of fields", 0, 0, "HLEN", CTL_SHOW_VALUE, NULL},
    {"clear", "", "remove all of it", 0, 0, NULL, CTL_SHOW_NOTHING, dict_clear},
    {"export", "[FILE]", "write it as JSON Lines", 0, 1, NULL, CTL_SHOW_NOTHING, dict_export},
    {"import", "[FILE]", "add what was exported", 0, 1, NULL, CTL_SHOW_NOTHING, dict_import},
    {0},
};

/* ---- list ---- */

static int list_push(struct ctl *c, struct ctl_words *w) {
    return object_insert(c, w, 0, w->left ? "LPUSH" : "RPUSH") ? object_send(c, w, CTL_SHOW_VALUE)
                                                               : CTL_LOCAL;
}

/* BLPOP answers [name, element]. */
static int pop_wait(struct ctl *c, struct ctl_words *w) {
    const struct hearth_reply *reply;
    char seconds[32];
    if (w->n > 1) {
        return ctl_usage(c, "pop --wait takes one element");
    }
    snprintf(seconds, sizeof(seconds), "%llu.%03u", (unsigned long long)w->wait_ms / 1000,
             (unsigned)(w->wait_ms % 1000));
    const char *ask[] = {w->right ? "BRPOP" : "BLPOP", w->v[0], seconds};
    int status = ctl_ask(c, 3, ask, NULL, &reply);
    if (status != CTL_OK) {
        return status;
    }
    if (hearth_reply_type(reply) == HEARTH_REPLY_NULL) {
        return CTL_PENDING;
    }
    return object_show(c, hearth_reply_next(hearth_reply_first(reply)), CTL_SHOW_VALUE);
}

static int list_pop(struct ctl *c, struct ctl_words *w) {
    if (w->wait) {
        return pop_wait(c, w);
    }
    return object_insert(c, w, 0, w->right ? "RPOP" : "LPOP") ? object_send(c, w, CTL_SHOW_LINES)
                                                              : CTL_LOCAL;
}

static int list_range(struct ctl *c, struct ctl_words *w) {
    if ((w->n == 1 && !object_insert(c, w, 1, "0")) ||
        (w->n == 2 && !object_insert(c, w, 2, "-1"))) {
        return CTL_LOCAL;
    }
    return object_insert(c, w, 0, "LRANGE") ? object_send(c, w, CTL_SHOW_LINES) : CTL_LOCAL;
}

/* LREM has the count before the value. */
static int list_rem(struct ctl *c, struct ctl_words *w) {
    const char *count = w->n == 3 ? w->v[--w->n] : "0";
    return object_insert(c, w, 1, count) && object_insert(c, w, 0, "LREM")
               ? object_send(c, w, CTL_SHOW_VALUE)
               : CTL_LOCAL;
}

static int list_insert(struct ctl *c, struct ctl_words *w) {
    const struct hearth_reply *reply;
    if (strcmp(w->v[1], "before") != 0 && strcmp(w->v[1], "after") != 0) {
        return ctl_usage(c, "insert before or after, not %s", w->v[1]);
    }
    if (!object_insert(c, w, 0, "LINSERT")) {
        return CTL_LOCAL;
    }
    int status = ctl_ask(c, w->n, w->v, NULL, &reply);
    if (status != CTL_OK) {
        return status;
    }
    return hearth_reply_int(reply) > 0 ? object_show(c, reply, CTL_SHOW_VALUE) : CTL_NOTASK;
}

static int list_move(struct ctl *c, struct ctl_words *w) {
    const char *from = w->right ? "RIGHT" : "LEFT", *to = w->left ? "LEFT" : "RIGHT";
    return object_insert(c, w, 2, from) && object_insert(c, w, 3, to) &&
                   object_insert(c, w, 0, "LMOVE")
               ? object_send(c, w, CTL_SHOW_VALUE)
               : CTL_LOCAL;
}

static int list_clear(struct ctl *c, struct ctl_words *w) {
    return clear(c, w, "LLEN");
}

const struct ctl_verb ctl_list_verbs[] = {
    {"push", "VALUE...", "append; print the new length (--left: before the first)", 1, -1, NULL,
     CTL_SHOW_VALUE, list_push},
    {"pop", "[N]", "take the first (--right: the last) and print it", 0, 1, NULL, CTL_SHOW_LINES,
     list_pop},
    {"get", "INDEX", "print an element; -1 is the last", 1, 1, "LINDEX", CTL_SHOW_VALUE, NULL},
    {"set", "INDEX VALUE", "replace an element", 2, 2, "LSET", CTL_SHOW_NOTHING, NULL},
    {"range", "[FROM [TO]]", "print elements, FROM and TO included", 0, 2, NULL, CTL_SHOW_LINES,
     list_range},
    {"len", "", "print the length", 0, 0, "LLEN", CTL_SHOW_VALUE, NULL},
    {"index", "VALUE", "print where the first such element is", 1, 1, "LPOS", CTL_SHOW_VALUE, NULL},
    {"insert", "before|after PIVOT VALUE", "insert beside the first element PIVOT", 3, 3, NULL,
     CTL_SHOW_VALUE, list_insert},
    {"rem", "VALUE [COUNT]", "remove such elements; -COUNT: from the end; print how many", 1, 2,
     NULL, CTL_SHOW_VALUE, list_rem},
    {"trim", "FROM TO", "keep only those", 2, 2, "LTRIM", CTL_SHOW_NOTHING, NULL},
    {"move", "NAME", "move the first (--right: last) to the end (--left: front) of another", 1, 1,
     NULL, CTL_SHOW_VALUE, list_move},
    {"clear", "", "remove all of it", 0, 0, NULL, CTL_SHOW_NOTHING, list_clear},
    {"export", "[FILE]", "write it as JSON Lines", 0, 1, NULL, CTL_SHOW_NOTHING, list_export},
    {"import", "[FILE]", "append what was exported", 0, 1, NULL, CTL_SHOW_NOTHING, list_import},
    {0},
};

/* ---- names and values ---- */

/* Words of a command that takes `least` to `most` operands, with a first word put before them. */
static int plain(struct ctl *c, struct ctl_words *w, const char *first, size_t least, size_t most) {
    int status = object_words(c, w);
    if (status == CTL_OK && (w->n < least || w->n > most)) {
        status = ctl_usage(c, w->n < least ? "a word is missing" : "there is a word too many: %s",
                           w->n > most ? w->v[most] : "");
    }
    if (status == CTL_OK && !object_insert(c, w, 0, first)) {
        status = CTL_LOCAL;
    }
    return status;
}

int cmd_get(struct ctl *c) {
    struct ctl_words w;
    int status = plain(c, &w, "MGET", 1, SIZE_MAX);
    if (status == CTL_OK && w.n == 2) {
        w.v[0] = "GET"; /* one that is no value is an error, not absent */
    }
    if (status == CTL_OK) {
        status = object_send(c, &w, CTL_SHOW_LINES);
    }
    object_words_end(&w);
    return status;
}

int cmd_set(struct ctl *c) {
    struct ctl_words w;
    char ttl[24];
    int status = plain(c, &w, "SET", 2, 2);
    bool ok = status == CTL_OK;
    if (ok && w.ttl_ms) {
        ttl[num_put_u64(ttl, w.ttl_ms)] = 0;
        ok = object_insert(c, &w, w.n, "PX") && object_insert(c, &w, w.n, ttl);
    }
    ok = ok && (!w.fresh || object_insert(c, &w, w.n, "NX"));
    ok = ok && (!w.replace || object_insert(c, &w, w.n, "XX"));
    ok = ok && (!w.keep || object_insert(c, &w, w.n, "KEEPTTL"));
    const struct hearth_reply *reply;
    if (status == CTL_OK) {
        status = ok ? ctl_ask(c, w.n, w.v, NULL, &reply) : CTL_LOCAL;
        if (status == CTL_OK && hearth_reply_type(reply) == HEARTH_REPLY_NULL) {
            status =
                ctl_say(c, CTL_FAILED, w.fresh ? "%s is there already" : "%s is not there", w.v[1]);
        }
    }
    object_words_end(&w);
    return status;
}

int cmd_incr(struct ctl *c) {
    struct ctl_words w;
    int status = plain(c, &w, "INCRBY", 1, 2);
    if (status == CTL_OK && w.n == 2 && !object_insert(c, &w, 2, "1")) {
        status = CTL_LOCAL;
    }
    if (status == CTL_OK) {
        w.v[0] = has_fraction(w.v[2]) ? "INCRBYFLOAT" : "INCRBY";
        status = object_send(c, &w, CTL_SHOW_VALUE);
    }
    object_words_end(&w);
    return status;
}

int cmd_del(struct ctl *c) {
    struct ctl_words w;
    int status = plain(c, &w, "DEL", 1, SIZE_MAX);
    if (status == CTL_OK) {
        status = object_send(c, &w, CTL_SHOW_VALUE);
    }
    object_words_end(&w);
    return status;
}

int cmd_expire(struct ctl *c) {
    struct ctl_words w;
    char text[24];
    uint64_t ms = 0;
    const struct hearth_reply *reply;
    int status = plain(c, &w, "PEXPIRE", 2, 2);
    if (status == CTL_OK && strcmp(w.v[2], "never") == 0) {
        w.v[0] = "PERSIST";
        w.n = 2;
    } else if (status == CTL_OK) {
        status = ctl_duration(c, w.v[2], &ms) ? CTL_OK : CTL_USAGE;
        text[num_put_u64(text, ms)] = 0;
        w.v[2] = text;
    }
    if (status == CTL_OK) {
        status = ctl_ask(c, w.n, w.v, NULL, &reply);
    }
    if (status == CTL_OK && ms && hearth_reply_int(reply) == 0) {
        status = CTL_NOTASK;
    }
    object_words_end(&w);
    return status;
}

/* ---- keys ---- */

/* One name with its type and time left; gone meanwhile: nothing. */
static int show_full(struct ctl *c, const char *name, size_t len) {
    const struct hearth_reply *reply;
    const char *words[] = {"TYPE", name};
    const size_t lens[] = {4, len}, ttl_lens[] = {4, len};
    char type[16];
    int status = ctl_ask(c, 2, words, lens, &reply);
    if (status != CTL_OK) {
        return status;
    }
    snprintf(type, sizeof(type), "%s", hearth_reply_text(reply, NULL));
    words[0] = "PTTL";
    status = ctl_ask(c, 2, words, ttl_lens, &reply);
    int64_t ms = hearth_reply_int(reply);
    if (status != CTL_OK || ms == -2) {
        return status;
    }
    if (c->json) {
        fputs("{\"name\":", stdout);
        if (!json_text(name, len)) {
            fputs("null", stdout);
        }
        printf(",\"type\":\"%s\",\"ttl_ms\":", type);
        printf(ms < 0 ? "null}\n" : "%lld}\n", (long long)ms);
    } else {
        printf("%-6s  %10s  ", type, ms < 0 ? "-" : table_micros(ms * 1000));
        ctl_print_line(name, len);
    }
    return CTL_OK;
}

/* The names of a SCAN's reply. With more to ask for each, they are copied first: an answer ends the one before. */
static int show_names(struct ctl *c, const struct hearth_reply *names, bool full) {
    if (!full) {
        return object_show(c, names, CTL_SHOW_LINES);
    }
    size_t n = hearth_reply_count(names), bytes = 0, at = 0, len;
    const struct hearth_reply *e = hearth_reply_first(names);
    for (size_t i = 0; i < n; i++, e = hearth_reply_next(e)) {
        hearth_reply_text(e, &len);
        bytes += len;
    }
    _cleanup_free_ char *text = malloc(bytes + 1);
    _cleanup_free_ size_t *lens = calloc(n + 1, sizeof(*lens));
    if (!text || !lens) {
        return ctl_say(c, CTL_LOCAL, "out of memory");
    }
    e = hearth_reply_first(names);
    for (size_t i = 0; i < n; i++, e = hearth_reply_next(e)) {
        const char *name = hearth_reply_text(e, &lens[i]);
        memcpy(text + at, name, lens[i]);
        at += lens[i];
    }
    int status = CTL_OK;
    at = 0;
    for (size_t i = 0; i < n && status == CTL_OK; i++) {
        status = show_full(c, text + at, lens[i]);
        at += lens[i];
    }
    return status;
}

int cmd_keys(struct ctl *c) {
    struct ctl_words w;
    char cursor[32] = "0";
    int status = object_words(c, &w);
    if (status == CTL_OK && w.n > 1) {
        status = ctl_usage(c, "one PATTERN only");
    }
    while (status == CTL_OK) {
        char count[24];
        count[num_put_u64(count, SCAN_COUNT)] = 0;
        const char *words[] = {"SCAN", cursor, "COUNT", count, "MATCH", w.n ? w.v[0] : "*"};
        const struct hearth_reply *reply;
        status = ctl_ask(c, 6, words, NULL, &reply);
        if (status == CTL_OK) {
            const struct hearth_reply *at = hearth_reply_first(reply);
            snprintf(cursor, sizeof(cursor), "%s", hearth_reply_text(at, NULL));
            status = show_names(c, hearth_reply_next(at), w.full);
        }
        if (strcmp(cursor, "0") == 0) {
            break;
        }
    }
    object_words_end(&w);
    return status;
}
