/* SPDX-License-Identifier: MIT */
/* What the commands on shared objects have in common: their words, sending them, showing the reply, and verbs.
 *
 * A word that is a negative number is an operand here, not an option: one counts down and looks at the end of lists often.
 * What is not there (no such name, field or element) is told by the exit status alone, as grep does.
 *
 * Fails: exit statuses. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/ctl.h"

/* ---- words ---- */

void object_words_end(struct ctl_words *w) {
    free((void *)w->v);
    w->v = NULL;
}

bool object_insert(struct ctl *c, struct ctl_words *w, size_t at, const char *word) {
    if (w->n == w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 16;
        const char **more = realloc((void *)w->v, cap * sizeof(*more));
        if (!more) {
            ctl_say(c, 0, "out of memory");
            return false;
        }
        w->v = more;
        w->cap = cap;
    }
    memmove((void *)(w->v + at + 1), (void *)(w->v + at), (w->n - at) * sizeof(*w->v));
    w->v[at] = word;
    w->n++;
    return true;
}

static bool take_lease(struct ctl *c, struct ctl_words *w) {
    uint64_t ms = 0;
    if (strcmp(c->value, "forever") != 0 && !ctl_duration(c, c->value, &ms)) {
        return false;
    }
    w->lease_ms = ms ? (int64_t)ms : -1;
    return true;
}

static bool take_option(struct ctl *c, struct ctl_words *w, int letter) {
    switch (letter) {
    case 'l':
        w->left = true;
        return true;
    case 'r':
        w->right = true;
        return true;
    case 'n':
        w->fresh = true;
        return true;
    case 'x':
        w->replace = true;
        return true;
    case 'k':
        w->keep = true;
        return true;
    case 'L':
        w->full = true;
        return true;
    case 't':
        return ctl_duration(c, c->value, &w->ttl_ms);
    case 'm':
        return ctl_count(c, c->value, INT64_MAX, &w->most);
    case 'i':
        w->file = c->value;
        return true;
    case CTL_SIMPLEX:
        w->left = true;
        return true;
    case CTL_LEASE:
        return take_lease(c, w);
    default:
        w->wait = true;
        return strcmp(c->value, "forever") == 0 || ctl_duration(c, c->value, &w->wait_ms);
    }
}

int object_words(struct ctl *c, struct ctl_words *w) {
    *w = (struct ctl_words){0};
    while (c->argc > 0) {
        bool number = c->argv[0][0] == '-' && c->argv[0][1] >= '0' && c->argv[0][1] <= '9';
        int o = number ? CTL_END : ctl_option(c);
        if (o == CTL_STOP) {
            return c->status;
        }
        if (o != CTL_END) {
            if (!take_option(c, w, o)) {
                return CTL_USAGE;
            }
        } else if (c->argc > 0 && !object_insert(c, w, w->n, ctl_operand(c))) {
            return CTL_LOCAL;
        }
    }
    return CTL_OK;
}

/* ---- showing ---- */

static void show_one(struct ctl *c, const struct hearth_reply *r) {
    size_t len;
    const char *text = hearth_reply_text(r, &len);
    if (c->json) {
        json_reply(r);
        putchar('\n');
    } else {
        ctl_print_line(text, len);
    }
}

static int show_lines(struct ctl *c, const struct hearth_reply *r) {
    const struct hearth_reply *e = hearth_reply_first(r);
    int status = CTL_OK;
    for (size_t n = hearth_reply_count(r); n > 0; n--, e = hearth_reply_next(e)) {
        if (hearth_reply_type(e) == HEARTH_REPLY_NULL) {
            status = CTL_NOTASK;
        }
        show_one(c, e);
    }
    return status;
}

static void show_pair(struct ctl *c, const struct hearth_reply *field,
                      const struct hearth_reply *value) {
    size_t len, vlen;
    const char *f = hearth_reply_text(field, &len), *v = hearth_reply_text(value, &vlen);
    if (c->json) {
        fputs("{\"field\":", stdout);
        json_reply(field);
        fputs(",\"value\":", stdout);
        json_reply(value);
        puts("}");
    } else {
        fwrite(f, 1, len, stdout);
        putchar('\t');
        ctl_print_line(v, vlen);
    }
}

int object_show(struct ctl *c, const struct hearth_reply *r, enum ctl_show show) {
    const struct hearth_reply *e = hearth_reply_first(r);
    size_t n = hearth_reply_count(r);
    switch (show) {
    case CTL_SHOW_NOTHING:
        return CTL_OK;
    case CTL_SHOW_YES:
        if (c->json) {
            puts(hearth_reply_int(r) ? "true" : "false");
        } else {
            puts(hearth_reply_int(r) ? "yes" : "no");
        }
        return hearth_reply_int(r) ? CTL_OK : CTL_NOTASK;
    case CTL_SHOW_PAIRS:
        n = hearth_reply_type(r) == HEARTH_REPLY_MAP ? n : n / 2;
        for (; n > 0; n--) {
            const struct hearth_reply *value = hearth_reply_next(e);
            show_pair(c, e, value);
            e = hearth_reply_next(value);
        }
        return CTL_OK;
    case CTL_SHOW_LINES:
        if (hearth_reply_type(r) == HEARTH_REPLY_ARRAY) {
            return show_lines(c, r);
        }
        break;
    case CTL_SHOW_VALUE:
        break;
    }
    if (hearth_reply_type(r) == HEARTH_REPLY_NULL && !c->json) {
        return CTL_NOTASK;
    }
    show_one(c, r);
    return hearth_reply_type(r) == HEARTH_REPLY_NULL ? CTL_NOTASK : CTL_OK;
}

int object_send(struct ctl *c, const struct ctl_words *w, enum ctl_show show) {
    const struct hearth_reply *reply;
    int status = ctl_ask(c, w->n, w->v, NULL, &reply);
    return status == CTL_OK ? object_show(c, reply, show) : status;
}

/* ---- verbs ---- */

static const struct ctl_verb *find_verb(const struct ctl *c, const char *name) {
    for (const struct ctl_verb *v = c->command->verbs; v->name; v++) {
        if (strcmp(v->name, name) == 0) {
            return v;
        }
    }
    return NULL;
}

static int run_verb(struct ctl *c, struct ctl_words *w) {
    if (w->n < 2) {
        return ctl_usage(c, w->n ? "VERB is missing" : "NAME is missing");
    }
    const struct ctl_verb *v = find_verb(c, w->v[1]);
    if (!v) {
        return ctl_usage(c, "there is no verb %s", w->v[1]);
    }
    w->n--; /* the verb is taken out */
    memmove((void *)(w->v + 1), (void *)(w->v + 2), (w->n - 1) * sizeof(*w->v));
    int given = (int)w->n - 1;
    if (given < v->least || (v->most >= 0 && given > v->most)) {
        return ctl_usage(c, "%s takes these words: %s", v->name, v->args[0] ? v->args : "none");
    }
    if (v->run) {
        return v->run(c, w);
    }
    return object_insert(c, w, 0, v->command) ? object_send(c, w, v->show) : CTL_LOCAL;
}

int object_verb(struct ctl *c) {
    struct ctl_words w;
    int status = object_words(c, &w);
    if (status == CTL_OK) {
        status = run_verb(c, &w);
    }
    object_words_end(&w);
    return status;
}
