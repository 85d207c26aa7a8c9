/* SPDX-License-Identifier: MIT */
/* load: what `hearth dump` has written (its format is told there), into any daemon.
 *
 * An object is put together under the prefix of a manager and then renamed, so that others see it as a whole or not at all, and a
 * load that is killed leaves nothing half done. Without --replace what exists already stays as it is.
 *
 * Tasks get new ids; AFTER follows them. Each is submitted under a UNIQUE key made of its old id, if it has none of its own: so the
 * same dump can be loaded again, after whatever went wrong, and starts no task twice as long as the daemon knows the first.
 * Times are told from when they were dumped.
 *
 * Fails: what cannot be loaded is told and left out, and the exit status is that of the first such; a line that is none ends it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "client/ctl/ctl.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/num.h"

enum { BATCH = 1000, TOLD_MAX = 20, BUSY_MS = 30000, PAUSE_MS = 20, FORMAT = 1 };

struct words {
    const char **v;
    size_t *lens;
    size_t n, cap;
};

struct moved {
    char from[HEARTH_ID_MAX + 1], to[HEARTH_ID_MAX + 1];
};

struct load {
    struct ctl *c;
    bool replace;
    char prefix[HEARTH_PREFIX_MAX + 8]; /* where objects are put together */
    bool open;                          /* one is: a line with "more" was the last */
    uint64_t line, objects, tasks, there, failed;
    int status; /* of the first that failed */
    struct moved *moved;
    size_t n_moved, cap_moved;
    struct words words; /* of a request */
};

/* A line, read. */
struct line {
    const char *type;
    struct json_item name;
    bool more, closed;
    int64_t format, at, expire_at; /* 0: not there */
    struct json_item pool, handler, payload;
    struct words items, args, options;
    bool no_memory;
};

/* ---- words ---- */

static bool add(struct words *w, const char *data, size_t len) {
    if (w->n == w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 64;
        void *v = realloc((void *)w->v, cap * sizeof(*w->v));
        if (!v) {
            return false;
        }
        w->v = v;
        size_t *lens = realloc(w->lens, cap * sizeof(*lens));
        if (!lens) {
            return false;
        }
        w->lens = lens;
        w->cap = cap;
    }
    w->v[w->n] = data;
    w->lens[w->n++] = len;
    return true;
}

static bool add_text(struct words *w, const char *text) {
    return add(w, text, strlen(text));
}

static void words_free(struct words *w) {
    free((void *)w->v);
    free(w->lens);
}

static bool is(const struct words *w, size_t i, const char *text) {
    return w->lens[i] == strlen(text) && memcmp(w->v[i], text, w->lens[i]) == 0;
}

/* ---- lines ---- */

static bool key_is(const struct json_item *key, const char *name) {
    return key->len == strlen(name) && memcmp(key->data, name, key->len) == 0;
}

static bool member(void *arg, const struct json_item *key, const struct json_item *item) {
    static const char *const types[] = {"value", "dict", "list", "task", "group", "hearth"};
    struct line *l = arg;
    const struct {
        const char *name;
        struct json_item *text;
        int64_t *number;
        bool *flag;
        struct words *words;
    } members[] = {
        {"more", NULL, NULL, &l->more, NULL},       {"closed", NULL, NULL, &l->closed, NULL},
        {"at", NULL, &l->at, NULL, NULL},           {"expire_at", NULL, &l->expire_at, NULL, NULL},
        {"pool", &l->pool, NULL, NULL, NULL},       {"handler", &l->handler, NULL, NULL, NULL},
        {"payload", &l->payload, NULL, NULL, NULL}, {"items", NULL, NULL, NULL, &l->items},
        {"args", NULL, NULL, NULL, &l->args},       {"options", NULL, NULL, NULL, &l->options},
    };
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        if (key_is(key, types[i]) && item->data) {
            l->type = types[i];
            l->name = *item;
            return strcmp(types[i], "hearth") != 0 ||
                   num_i64(item->data, item->len, &l->format) == 0;
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
        if (!key_is(key, members[i].name)) {
            continue;
        }
        if (members[i].words) {
            l->no_memory |= item->data && !add(members[i].words, item->data, item->len);
        } else if (members[i].text && item->data) {
            *members[i].text = *item;
        } else if (members[i].flag) {
            *members[i].flag = true;
        } else if (!item->data || num_i64(item->data, item->len, members[i].number) < 0) {
            return false;
        }
        return true;
    }
    return true; /* of a later version */
}

/* ---- asking ---- */

/* What is in d->words. A lost connection: an exit status; else *ret, an error among them. */
static int send(struct load *d, const struct hearth_reply **ret) {
    int e = hearth_command(d->c->h, d->words.n, d->words.v, d->words.lens, ret);
    d->words.n = 0;
    return e == 0 ? CTL_OK : ctl_failed(d->c, e);
}

/* This one is left out; the rest goes on. */
static int fail(struct load *d, const struct line *l, const char *why) {
    if (d->failed++ < TOLD_MAX) {
        ctl_say(d->c, 0, "line %llu: %s %.*s: %s", (unsigned long long)d->line, l->type,
                (int)(l->name.len < 64 ? l->name.len : 64), l->name.data, why);
    }
    d->status = d->status ? d->status : CTL_REFUSED;
    return CTL_OK;
}

static int no_memory(struct load *d) {
    return ctl_say(d->c, CTL_LOCAL, "out of memory");
}

static bool is_error(const struct hearth_reply *r) {
    return hearth_reply_type(r) == HEARTH_REPLY_ERROR;
}

/* ---- objects ---- */

/* Has it expired since? */
static bool is_over(const struct line *l) {
    return l->expire_at && (uint64_t)l->expire_at <= clock_wall_ms();
}

static int drop_copy(struct load *d) {
    const struct hearth_reply *r;
    return add_text(&d->words, "DEL") && add_text(&d->words, d->prefix) ? send(d, &r)
                                                                        : no_memory(d);
}

/* The line's items, in batches. *ret_r: the last answer, or an error; NULL: there were none. */
static int put_items(struct load *d, const struct line *l, const struct hearth_reply **ret_r) {
    const char *command = strcmp(l->type, "dict") == 0   ? "HSET"
                          : strcmp(l->type, "list") == 0 ? "RPUSH"
                                                         : "SET";
    int status = CTL_OK;
    *ret_r = NULL;
    for (size_t i = 0; i < l->items.n && status == CTL_OK && !(*ret_r && is_error(*ret_r));) {
        bool ok = add_text(&d->words, command) && add_text(&d->words, d->prefix);
        for (size_t n = 0; n < BATCH && i < l->items.n && ok; n++, i++) {
            ok = add(&d->words, l->items.v[i], l->items.lens[i]);
        }
        status = ok ? send(d, ret_r) : no_memory(d);
    }
    return status;
}

static int rename_copy(struct load *d, const struct line *l) {
    const struct hearth_reply *r = NULL;
    char digits[24];
    int status = CTL_OK;
    if (l->expire_at) {
        digits[num_put_i64(digits, l->expire_at)] = 0;
        bool ok = add_text(&d->words, "PEXPIREAT") && add_text(&d->words, d->prefix) &&
                  add_text(&d->words, digits);
        status = ok ? send(d, &r) : no_memory(d);
    }
    if (status != CTL_OK) {
        return status;
    }
    bool ok = add_text(&d->words, d->replace ? "RENAME" : "RENAMENX") &&
              add_text(&d->words, d->prefix) && add(&d->words, l->name.data, l->name.len);
    status = ok ? send(d, &r) : no_memory(d);
    if (status != CTL_OK) {
        return status;
    }
    if (is_error(r)) {
        return is_over(l) ? CTL_OK : fail(d, l, hearth_reply_text(r, NULL));
    }
    if (!d->replace && hearth_reply_int(r) == 0) {
        d->there++;
        return drop_copy(d);
    }
    d->objects++;
    return CTL_OK;
}

static int load_object(struct load *d, const struct line *l) {
    const struct hearth_reply *r;
    if ((l->items.n == 0 && !d->open) || (strcmp(l->type, "value") == 0 && l->items.n != 1) ||
        (strcmp(l->type, "dict") == 0 && l->items.n % 2 != 0)) {
        return fail(d, l, "it has no items, or half of one");
    }
    int status = d->open ? CTL_OK : drop_copy(d);
    status = status == CTL_OK ? put_items(d, l, &r) : status;
    if (status != CTL_OK) {
        return status;
    }
    d->open = l->more;
    if (r && is_error(r)) {
        return fail(d, l, hearth_reply_text(r, NULL));
    }
    return l->more ? CTL_OK : is_over(l) ? drop_copy(d) : rename_copy(d, l);
}

/* ---- tasks ---- */

static const char *new_id(const struct load *d, const char *id, size_t len) {
    for (size_t i = d->n_moved; i-- > 0;) {
        if (strlen(d->moved[i].from) == len && memcmp(d->moved[i].from, id, len) == 0) {
            return d->moved[i].to;
        }
    }
    return NULL;
}

static bool note_id(struct load *d, const struct json_item *from, const char *to) {
    if (d->n_moved == d->cap_moved) {
        size_t cap = d->cap_moved ? d->cap_moved * 2 : 256;
        struct moved *more = realloc(d->moved, cap * sizeof(*more));
        if (!more) {
            return false;
        }
        d->moved = more;
        d->cap_moved = cap;
    }
    struct moved *m = &d->moved[d->n_moved++];
    snprintf(m->from, sizeof(m->from), "%.*s", (int)from->len, from->data);
    snprintf(m->to, sizeof(m->to), "%s", to);
    return true;
}

/* The ids of an AFTER as they are now; those that were not dumped had ended, and are left out. *ret is the caller's to free();
 * empty: none is left. */
static bool move_after(const struct load *d, const char *ids, size_t len, char **ret) {
    char *to = calloc(len / 2 + 2, HEARTH_ID_MAX + 2);
    if (!to) {
        return false;
    }
    size_t n = 0;
    bool group = len > 6 && memcmp(ids, "group:", 6) == 0;
    if (group) {
        memcpy(to, ids, len);
    }
    for (size_t at = 0; at < len && !group;) {
        const char *comma = memchr(ids + at, ',', len - at);
        size_t one = comma ? (size_t)(comma - ids) - at : len - at;
        const char *id = new_id(d, ids + at, one);
        if (id) {
            n += (size_t)sprintf(to + n, "%s%s", n ? "," : "", id);
        }
        at += one + 1;
    }
    *ret = to;
    return true;
}

/* What is left of a time, told at the dump. */
static void move_span(const struct line *l, const char *text, size_t len, char out[24]) {
    uint64_t ms = 0, now = clock_wall_ms(),
             gone = l->at > 0 && now > (uint64_t)l->at ? now - (uint64_t)l->at : 0;
    (void)num_u64(text, len, &ms);
    out[num_put_u64(out, ms > gone ? ms - gone : 0)] = 0;
}

struct options {
    char expire[24], deadline[24], key[HEARTH_ID_MAX + 16];
    char *after;
    bool no_after; /* that for which it was to wait is over, and forgotten */
};

static bool put_options(struct load *d, const struct line *l, struct options *o) {
    const struct words *w = &l->options;
    bool unique = false, ok = true;
    for (size_t i = 0, n; i < w->n && ok; i += n) {
        bool after = is(w, i, "AFTER"), expire = is(w, i, "EXPIRE");
        n = after || is(w, i, "LIMIT") || is(w, i, "UNIQUE") ? 3 : is(w, i, "DURABLE") ? 1 : 2;
        n = i + n > w->n ? w->n - i : n;
        unique |= is(w, i, "UNIQUE");
        if (after && o->no_after) {
            continue;
        }
        if (after && n == 3) {
            ok = move_after(d, w->v[i + 1], w->lens[i + 1], &o->after);
            if (ok && o->after[0]) {
                ok = add_text(&d->words, "AFTER") && add_text(&d->words, o->after) &&
                     add(&d->words, w->v[i + 2], w->lens[i + 2]);
            }
        } else if ((expire || is(w, i, "DEADLINE")) && n == 2) {
            char *to = expire ? o->expire : o->deadline;
            move_span(l, w->v[i + 1], w->lens[i + 1], to);
            ok = add(&d->words, w->v[i], w->lens[i]) && add_text(&d->words, to);
        } else {
            for (size_t k = 0; k < n && ok; k++) {
                ok = add(&d->words, w->v[i + k], w->lens[i + k]);
            }
        }
    }
    if (!unique && ok) {
        snprintf(o->key, sizeof(o->key), "load:%.*s", (int)l->name.len, l->name.data);
        ok = add_text(&d->words, "UNIQUE") && add_text(&d->words, o->key) &&
             add_text(&d->words, "KEEP");
    }
    return ok;
}

/* The request, from the start: a refused one is made again. */
static bool put_task(struct load *d, const struct line *l, struct options *o) {
    d->words.n = 0;
    bool ok = add_text(&d->words, "TASK.SUBMIT") && add(&d->words, l->pool.data, l->pool.len) &&
              add(&d->words, l->handler.data, l->handler.len) &&
              add(&d->words, l->payload.data, l->payload.len);
    for (size_t i = 0; i < l->args.n && ok; i++) {
        ok = add_text(&d->words, "ARG") && add(&d->words, l->args.v[i], l->args.lens[i]);
    }
    return ok && put_options(d, l, o);
}

static int load_task(struct load *d, const struct line *l) {
    const struct hearth_reply *r = NULL;
    int status = CTL_OK;
    if (!l->pool.data || !l->handler.data || !l->payload.data || l->name.len > HEARTH_ID_MAX) {
        return fail(d, l, "it has no pool, handler or payload");
    }
    const char *text;
    bool no_after = false;
    for (int ms = 0;; ms += PAUSE_MS) {
        struct options o = {.no_after = no_after};
        status = put_task(d, l, &o) ? send(d, &r) : no_memory(d);
        free(o.after);
        if (status != CTL_OK) {
            return status;
        }
        text = hearth_reply_text(r, NULL);
        if (strncmp(text, "NOGROUP ", 8) == 0 && !no_after) {
            no_after = true;
        } else if (strncmp(text, "BUSY the queue", 14) != 0 || ms >= BUSY_MS || ctl_interrupted()) {
            break;
        } else {
            usleep(PAUSE_MS * 1000);
        }
    }
    if (is_error(r)) {
        d->there += strncmp(text, "EXISTS", 6) == 0;
        return strncmp(text, "EXISTS", 6) == 0 ? CTL_OK : fail(d, l, text);
    }
    d->tasks++;
    return note_id(d, &l->name, text) ? CTL_OK : no_memory(d);
}

static int load_group(struct load *d, const struct line *l) {
    const struct hearth_reply *r;
    bool ok = add_text(&d->words, "GROUP.CLOSE") && add(&d->words, l->name.data, l->name.len);
    int status = !l->closed ? CTL_OK : ok ? send(d, &r) : no_memory(d);
    d->words.n = 0;
    return status;
}

/* ---- the whole ---- */

static int load_line(struct load *d, char *text, size_t len) {
    struct line l = {.type = ""};
    const char *wrong = json_read_object(text, len, member, &l);
    int status = CTL_OK;
    if (l.no_memory) {
        status = no_memory(d);
    } else if (wrong || !l.type[0]) {
        status = ctl_say(d->c, CTL_LOCAL, "line %llu: %s", (unsigned long long)d->line,
                         wrong ? wrong : "nothing that a dump has");
    } else if (strcmp(l.type, "hearth") == 0) {
        status = l.format == FORMAT ? CTL_OK
                                    : ctl_say(d->c, CTL_LOCAL, "a dump of format %lld, not %d",
                                              (long long)l.format, FORMAT);
    } else if (strcmp(l.type, "task") == 0) {
        status = load_task(d, &l);
    } else if (strcmp(l.type, "group") == 0) {
        status = load_group(d, &l);
    } else {
        status = load_object(d, &l);
    }
    words_free(&l.items);
    words_free(&l.args);
    words_free(&l.options);
    return status;
}

static int load_all(struct load *d, FILE *from) {
    _cleanup_free_ char *text = NULL;
    const struct hearth_reply *r;
    const char *open[] = {"MANAGER.OPEN"};
    size_t cap = 0;
    ssize_t len;
    int status = ctl_ask(d->c, 1, open, NULL, &r);
    if (status == CTL_OK) {
        snprintf(d->prefix, sizeof(d->prefix), "%scopy", hearth_reply_text(r, NULL));
    }
    while (status == CTL_OK && !ctl_interrupted() && (len = getline(&text, &cap, from)) >= 0) {
        d->line++;
        if ((size_t)len != strspn(text, " \t\r\n")) {
            status = load_line(d, text, (size_t)len);
        }
    }
    if (status == CTL_OK && ferror(from)) {
        status = ctl_say(d->c, CTL_LOCAL, "cannot read: %s", strerror(errno));
    }
    return ctl_interrupted() ? CTL_INTERRUPTED : status;
}

static void summary(const struct load *d) {
    ctl_say(d->c, 0, "%llu objects and %llu tasks", (unsigned long long)d->objects,
            (unsigned long long)d->tasks);
    if (d->there) {
        ctl_say(d->c, 0, "%llu were there already and are as they were%s",
                (unsigned long long)d->there, d->replace ? "" : " (--replace replaces objects)");
    }
    if (d->failed) {
        ctl_say(d->c, 0, "%llu could not be loaded", (unsigned long long)d->failed);
    }
}

int cmd_load(struct ctl *c) {
    struct load d = {.c = c};
    FILE *from = stdin;
    const char *file = NULL;
    for (;;) {
        int o = ctl_option(c);
        if (o == CTL_STOP) {
            return c->status;
        }
        if (o != CTL_END) {
            d.replace = true;
        } else if (file || !(file = ctl_operand(c))) {
            break;
        }
    }
    int status = c->argc ? ctl_usage(c, "one FILE only") : ctl_connect(c);
    if (status == CTL_OK && file && strcmp(file, "-") != 0 && !(from = fopen(file, "re"))) {
        return ctl_say(c, CTL_LOCAL, "cannot open %s: %s", file, strerror(errno));
    }
    if (status != CTL_OK) {
        return status;
    }
    ctl_catch_signals();
    status = load_all(&d, from);
    summary(&d);
    words_free(&d.words);
    free(d.moved);
    if (from != stdin) {
        fclose(from);
    }
    return status != CTL_OK ? status : d.status;
}
