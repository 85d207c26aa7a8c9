/* SPDX-License-Identifier: MIT */
/* EVENTS.READ and the channels events:TYPE. A reader says where it stands and is told where to go on,
 * so that it misses nothing that is still kept, whatever connections it has lost meanwhile; when
 * something is gone it is told how much. A subscriber hears each event once, as a line of JSON, when
 * the turn is over in which it happened; what happens while nobody listens to a channel of a type is
 * not put into words for it.
 *
 * Fails: replies. A subscriber for whom there is no memory is marked broken. */
#include <string.h>

#include "daemon/events.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/events_push.h"
#include "daemon/serve/pubsub.h"
#include "daemon/serve/reply.h"
#include "lib/base/num.h"

enum { COUNT_USUAL = 100, COUNT_MAX = 10000 };

/* ---- reading ---- */

static void reply_event(struct conn *c, uint64_t seq) {
    struct event_view v;
    events_view(c->serve->d, seq, &v);
    reply_map(c, v.n);
    for (uint32_t i = 0; i < v.n; i++) {
        const struct event_field *f = &v.fields[i];
        if (f->text) {
            reply_field_text(c, f->key, f->text);
        } else {
            reply_field_int(c, f->key, f->number);
        }
    }
}

/* How many of the wanted types there are from `from` on, at most count; *ret_end: behind the last. */
static uint32_t find(const struct hearthd *d, const struct event_wish *w, uint64_t from,
                     uint64_t *ret_end) {
    uint64_t next = events_next(d);
    uint32_t n = 0;
    for (; from < next && n < w->count; from++) {
        n += (events_type(d, from) & w->types) != 0;
    }
    *ret_end = from;
    return n;
}

static void reply_events(struct conn *c, const struct event_wish *w) {
    struct hearthd *d = c->serve->d;
    uint64_t first = events_first(d), end;
    uint64_t from = w->from < first ? first : w->from;
    uint32_t n = find(d, w, from, &end);
    reply_map(c, 4);
    reply_field_int(c, "first", (int64_t)first);
    reply_field_int(c, "next", (int64_t)end);
    reply_field_int(c, "missed", (int64_t)(from - w->from));
    reply_text(c, "events");
    reply_array(c, n);
    for (; from < end; from++) {
        if (events_type(d, from) & w->types) {
            reply_event(c, from);
        }
    }
}

static bool any(const struct hearthd *d, const struct event_wish *w) {
    uint64_t end, first = events_first(d);
    return w->from < first || find(d, w, w->from, &end) > 0;
}

void events_reply_over(struct conn *c) {
    reply_events(c, &c->wish);
}

static bool read_type(struct conn *c, const struct resp_arg *a, struct event_wish *w) {
    for (uint32_t i = 0; i < EVENT_TYPES; i++) {
        if (resp_is(a, event_type_names[i])) {
            w->types |= 1u << i;
            return true;
        }
    }
    reply_error(c, "ERR type is one of task, worker, pool, schedule");
    return false;
}

static bool read_from(struct conn *c, const struct resp_arg *a, struct event_wish *w) {
    uint64_t next = events_next(c->serve->d);
    if (a->len == 1 && a->data[0] == '$') {
        w->from = next;
    } else if (num_u64(a->data, a->len, &w->from) < 0) {
        reply_error(c, "ERR from is not the number of an event, nor $");
        return false;
    }
    w->from = w->from > next ? next : w->from; /* it comes from a clock that went wrong */
    return true;
}

static bool read_number(struct conn *c, const struct resp_arg *a, const char *what, uint64_t min,
                        uint64_t max, uint64_t *ret) {
    if (num_u64(a->data, a->len, ret) < 0 || *ret < min || *ret > max) {
        reply_errorf(c, "ERR %s is not an integer from %llu to %llu", what, (unsigned long long)min,
                     (unsigned long long)max);
        return false;
    }
    return true;
}

int cmd_EVENTS_READ(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct hearthd *d = c->serve->d;
    struct event_wish w = {.from = events_first(d), .count = COUNT_USUAL};
    uint64_t block = 0;
    if (argc % 2 == 0) {
        reply_syntax(c);
        return 0;
    }
    for (uint32_t i = 1; i < argc; i += 2) {
        const struct resp_arg *value = &argv[i + 1];
        bool ok =
            resp_is(&argv[i], "FROM")    ? read_from(c, value, &w)
            : resp_is(&argv[i], "TYPE")  ? read_type(c, value, &w)
            : resp_is(&argv[i], "COUNT") ? read_number(c, value, "count", 1, COUNT_MAX, &w.count)
            : resp_is(&argv[i], "BLOCK") ? read_number(c, value, "block", 0, UINT32_MAX, &block)
                                         : (reply_syntax(c), false);
        if (!ok) {
            return 0;
        }
    }
    w.types = w.types ? w.types : EVENTS_ALL;
    if (block == 0 || c->exec || any(d, &w)) {
        reply_events(c, &w);
    } else if (block_events(c, &w, block) < 0) {
        reply_error(c, "OOM the daemon is out of memory");
    }
    return 0;
}

/* ---- telling ---- */

static int put_json_text(struct buf *b, const char *text) {
    int r = buf_append(b, "\"", 1);
    for (; *text && r >= 0; text++) {
        unsigned char ch = (unsigned char)*text;
        if (ch == '"' || ch == '\\') {
            r = buf_printf(b, "\\%c", ch);
        } else if (ch < 0x20 || ch >= 0x7f) {
            r = buf_printf(b, "\\u%04x", ch);
        } else {
            r = buf_append(b, text, 1);
        }
    }
    return r < 0 ? r : buf_append(b, "\"", 1);
}

static int put_json(struct buf *b, const struct event_view *v) {
    int r = buf_append(b, "{", 1);
    for (uint32_t i = 0; i < v->n && r >= 0; i++) {
        const struct event_field *f = &v->fields[i];
        r = buf_printf(b, "%s\"%s\":", i ? "," : "", f->key);
        if (r >= 0) {
            r = f->text ? put_json_text(b, f->text) : buf_printf(b, "%lld", (long long)f->number);
        }
    }
    return r < 0 ? r : buf_append(b, "}", 1);
}

static void publish(struct serve *s, uint64_t seq, const struct resp_arg *channel) {
    struct event_view v;
    struct buf line = BUF_INIT;
    uint32_t exact;
    events_view(s->d, seq, &v);
    if (put_json(&line, &v) >= 0) {
        struct message m = {.head = {buf_head(&line), buf_len(&line)}};
        pubsub_publish(s, channel, &m, &exact);
    }
    buf_deinit(&line);
}

static void publish_new(struct serve *s, uint64_t from, uint64_t next) {
    struct resp_arg channels[EVENT_TYPES];
    char names[EVENT_TYPES][24];
    uint32_t wanted = 0;
    for (uint32_t i = 0; i < EVENT_TYPES; i++) {
        strcpy(names[i], EVENTS_CHANNEL);
        strcat(names[i], event_type_names[i]);
        channels[i] = (struct resp_arg){names[i], strlen(names[i])};
        wanted |= pubsub_is_wanted(s, &channels[i]) ? 1u << i : 0;
    }
    for (; wanted && from < next; from++) {
        uint32_t type = events_type(s->d, from);
        if (type & wanted) {
            publish(s, from, &channels[__builtin_ctz(type)]);
        }
    }
}

static void answer_readers(struct serve *s) {
    list_for_each (it, &s->conns) {
        struct conn *c = list_entry(it, struct conn, node);
        if (c->block == BLOCK_EVENTS && any(s->d, &c->wish)) {
            reply_events(c, &c->wish);
            block_end(c);
        }
    }
}

void events_push_turn(struct serve *s) {
    uint64_t from = s->events_told, next = events_next(s->d), first = events_first(s->d);
    if (from == next) {
        return;
    }
    s->events_told = next;
    if (!pubsub_idle(s)) {
        publish_new(s, from < first ? first : from, next);
    }
    if (s->n_event_readers > 0) {
        answer_readers(s);
    }
}

bool events_push_has_news(const struct serve *s) {
    return s->events_told != events_next(s->d) && (s->n_event_readers > 0 || !pubsub_idle(s));
}
