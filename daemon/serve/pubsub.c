/* SPDX-License-Identifier: MIT */
/* Publish and subscribe, with Redis's replies. A channel exists while somebody listens to it.
 * Channels are found by a hash with a random seed (clients choose the names); patterns are few and
 * tried one after the other.
 *
 *     pubsub.buckets  --> channel --> sub <-- conn.subs     a sub is on two lists: its channel's
 *     pubsub.patterns --> channel --> sub <-- conn.subs     and its connection's
 *
 * While the subs of a channel are walked nothing is removed: a client that is too far behind is
 * marked (accounts_may_push) and closed at the end of the turn.
 *
 * In RESP2 messages and confirmations are arrays, in RESP3 pushes. They are never muted by CLIENT
 * REPLY.
 *
 * Fails: a client for which there is no memory is marked broken. */
#include "daemon/serve/pubsub.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "daemon/serve/dispatch.h"
#include "daemon/serve/follow.h"
#include "lib/base/glob.h"
#include "daemon/serve/notify_push.h"
#include "daemon/serve/reply.h"

enum {
    BUCKETS = 64,        /* at first; doubled when there are twice as many channels */
    SUBS_MAX = 65536,    /* per connection, ... */
    PATTERNS_MAX = 1024, /* ... of which patterns: each is tried for every message of anybody */
    CHANNEL_MAX = 512,   /* bytes of a name */
};

struct channel {
    struct list node;
    struct list subs;
    struct follow *follow; /* of task:<id>:stream while that task runs; else NULL */
    uint32_t n;
    bool pattern;
    size_t len;
    char name[];
};

struct sub {
    struct list in_channel, in_conn;
    struct channel *channel;
    struct conn *conn;
};

struct pubsub {
    struct list *buckets;
    uint32_t n_buckets;
    uint32_t n_channels, n_patterns;
    struct list patterns;
    uint64_t seed;
};

/* ---- channels ---- */

static struct list *buckets_new(uint32_t n) {
    struct list *b = malloc(n * sizeof(*b));
    for (uint32_t i = 0; b && i < n; i++) {
        list_init(&b[i]);
    }
    return b;
}

int pubsub_open(struct serve *s) {
    struct pubsub *p = calloc(1, sizeof(*p));
    if (!p) {
        return -ENOMEM;
    }
    p->buckets = buckets_new(BUCKETS);
    if (!p->buckets) {
        free(p);
        return -ENOMEM;
    }
    p->n_buckets = BUCKETS;
    list_init(&p->patterns);
    if (getrandom(&p->seed, sizeof(p->seed), GRND_NONBLOCK) != sizeof(p->seed)) {
        p->seed = s->now_ns; /* early in the boot: weaker against bad names, no more */
    }
    s->pubsub = p;
    return 0;
}

void pubsub_close(struct serve *s) {
    struct pubsub *p = s->pubsub;
    if (p) {
        assert(p->n_channels == 0 && p->n_patterns == 0);
        free(p->buckets);
        free(p);
        s->pubsub = NULL;
    }
}

bool pubsub_idle(const struct serve *s) {
    return s->pubsub->n_channels + s->pubsub->n_patterns == 0;
}

uint32_t pubsub_count(const struct conn *c) {
    return c->n_channels + c->n_patterns;
}

static struct list *bucket_of(const struct pubsub *p, const char *name, size_t len) {
    uint64_t h = p->seed;
    for (size_t i = 0; i < len; i++) {
        h = (h ^ (unsigned char)name[i]) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 29;
    }
    return &p->buckets[h & (p->n_buckets - 1)];
}

static struct channel *channel_find(const struct pubsub *p, const struct resp_arg *name,
                                    bool pattern) {
    const struct list *in = pattern ? &p->patterns : bucket_of(p, name->data, name->len);
    list_for_each (it, in) {
        struct channel *ch = list_entry(it, struct channel, node);
        if (ch->len == name->len && memcmp(ch->name, name->data, name->len) == 0) {
            return ch;
        }
    }
    return NULL;
}

static void grow(struct pubsub *p) {
    struct list *old = p->buckets;
    uint32_t n_old = p->n_buckets;
    struct list *b = buckets_new(n_old * 2);
    if (!b) {
        return; /* longer chains, that is all */
    }
    p->buckets = b;
    p->n_buckets = n_old * 2;
    for (uint32_t i = 0; i < n_old; i++) {
        list_for_each_safe (it, &old[i]) {
            struct channel *ch = list_entry(it, struct channel, node);
            list_del(it);
            list_append(bucket_of(p, ch->name, ch->len), &ch->node);
        }
    }
    free(old);
}

static struct channel *channel_new(struct pubsub *p, const struct resp_arg *name, bool pattern) {
    struct channel *ch = malloc(sizeof(*ch) + name->len);
    if (!ch) {
        return NULL;
    }
    *ch = (struct channel){.pattern = pattern, .len = name->len};
    memcpy(ch->name, name->data, name->len);
    list_init(&ch->subs);
    if (!pattern && p->n_channels >= p->n_buckets * 2) {
        grow(p);
    }
    list_append(pattern ? &p->patterns : bucket_of(p, ch->name, ch->len), &ch->node);
    pattern ? p->n_patterns++ : p->n_channels++;
    return ch;
}

static struct sub *sub_find(const struct conn *c, const struct channel *ch) {
    if (ch->n < pubsub_count(c)) {
        list_for_each (it, &ch->subs) {
            struct sub *s = list_entry(it, struct sub, in_channel);
            if (s->conn == c) {
                return s;
            }
        }
        return NULL;
    }
    list_for_each (it, &c->subs) {
        struct sub *s = list_entry(it, struct sub, in_conn);
        if (s->channel == ch) {
            return s;
        }
    }
    return NULL;
}

/* Listens, if it does not yet. 0 or -ENOMEM. */
static int sub_add(struct conn *c, const struct resp_arg *name, bool pattern) {
    struct pubsub *p = c->serve->pubsub;
    struct channel *ch = channel_find(p, name, pattern);
    if (ch && sub_find(c, ch)) {
        return 0;
    }
    struct sub *sub = malloc(sizeof(*sub));
    ch = sub && !ch ? channel_new(p, name, pattern) : ch;
    if (!sub || !ch) {
        free(sub);
        return -ENOMEM;
    }
    *sub = (struct sub){.channel = ch, .conn = c};
    list_append(&ch->subs, &sub->in_channel);
    list_append(&c->subs, &sub->in_conn);
    ch->n++;
    pattern ? c->n_patterns++ : c->n_channels++;
    return 0;
}

/* The sub ends; its channel too, if it was the last: then the channel is returned for the caller to
 * free. */
static struct channel *sub_take(struct sub *sub) {
    struct channel *ch = sub->channel;
    struct conn *c = sub->conn;
    struct pubsub *p = c->serve->pubsub;
    list_del(&sub->in_channel);
    list_del(&sub->in_conn);
    free(sub);
    ch->pattern ? c->n_patterns-- : c->n_channels--;
    if (--ch->n > 0) {
        return NULL;
    }
    follow_drop(ch->follow);
    list_del(&ch->node);
    ch->pattern ? p->n_patterns-- : p->n_channels--;
    return ch;
}

static void sub_remove(struct sub *sub) {
    free(sub_take(sub));
}

void pubsub_drop(struct conn *c) {
    list_for_each_safe (it, &c->subs) {
        sub_remove(list_entry(it, struct sub, in_conn));
    }
}

/* ---- messages ---- */

static void send_message(struct conn *c, const struct channel *pattern,
                         const struct resp_arg *channel, const struct message *m) {
    struct buf *to = conn_push_buf(c);
    int r = resp_put_push(to, c->proto, pattern ? 4 : 3);
    r = r < 0 ? r : resp_put_text(to, pattern ? "pmessage" : "message");
    if (pattern) {
        r = r < 0 ? r : resp_put_bulk(to, pattern->name, pattern->len);
    }
    r = r < 0 ? r : resp_put_bulk(to, channel->data, channel->len);
    r = r < 0 ? r : resp_put_bulk_head(to, m->head.len + m->body.len);
    r = r < 0 ? r : buf_append(to, m->head.data, m->head.len);
    if (m->body.len > 0) {
        r = r < 0 ? r : output_bytes(c, to, m->idx, &m->body);
    }
    r = r < 0 ? r : buf_append(to, "\r\n", 2);
    reply_made(c, r);
    conn_dirty(c);
}

void pubsub_send(struct conn *c, const struct resp_arg *channel, const struct message *m) {
    if (accounts_may_push(c)) {
        send_message(c, NULL, channel, m);
    }
}

static uint32_t send_all(const struct channel *ch, const struct resp_arg *channel,
                         const struct message *m) {
    uint32_t n = 0;
    list_for_each (it, &ch->subs) {
        struct conn *c = list_entry(it, struct sub, in_channel)->conn;
        if (accounts_may_push(c)) {
            send_message(c, ch->pattern ? ch : NULL, channel, m);
            n++;
        }
    }
    return n;
}

void pubsub_tell(struct serve *s, const struct resp_arg *channel, const struct message *m) {
    const struct channel *ch = channel_find(s->pubsub, channel, false);
    if (ch) {
        send_all(ch, channel, m);
    }
}

bool pubsub_all(struct serve *s, const struct resp_arg *channel, bool (*fn)(struct conn *c)) {
    const struct channel *ch = channel_find(s->pubsub, channel, false);
    bool all = true;
    if (ch) {
        list_for_each (it, &ch->subs) {
            all &= fn(list_entry(it, struct sub, in_channel)->conn);
        }
    }
    return all;
}

uint32_t pubsub_publish(struct serve *s, const struct resp_arg *channel, const struct message *m,
                        uint32_t *ret_exact) {
    struct pubsub *p = s->pubsub;
    const struct channel *ch = p->n_channels ? channel_find(p, channel, false) : NULL;
    uint32_t exact = ch ? send_all(ch, channel, m) : 0;
    uint32_t n = exact;
    list_for_each (it, &p->patterns) {
        const struct channel *pattern = list_entry(it, struct channel, node);
        if (glob_match(pattern->name, pattern->len, channel->data, channel->len)) {
            n += send_all(pattern, channel, m);
        }
    }
    *ret_exact = exact;
    return n;
}

bool pubsub_is_wanted(const struct serve *s, const struct resp_arg *channel) {
    const struct pubsub *p = s->pubsub;
    if (p->n_channels && channel_find(p, channel, false)) {
        return true;
    }
    list_for_each (it, &p->patterns) {
        const struct channel *pattern = list_entry(it, struct channel, node);
        if (glob_match(pattern->name, pattern->len, channel->data, channel->len)) {
            return true;
        }
    }
    return false;
}

/* ---- commands ---- */

static void confirm(struct conn *c, const char *what, const struct resp_arg *name) {
    int r = resp_put_push(&c->out, c->proto, 3);
    r = r < 0 ? r : resp_put_text(&c->out, what);
    if (r == 0) {
        r = name ? resp_put_bulk(&c->out, name->data, name->len) : resp_put_null(&c->out, c->proto);
    }
    r = r < 0 ? r : resp_put_int(&c->out, pubsub_count(c));
    reply_made(c, r);
}

static int subscribe(struct conn *c, const struct resp_arg *argv, uint32_t argc, bool pattern) {
    bool fits = pubsub_count(c) + argc - 1 <= SUBS_MAX &&
                (!pattern || c->n_patterns + argc - 1 <= PATTERNS_MAX);
    for (uint32_t i = 1; i < argc; i++) {
        fits &= argv[i].len <= CHANNEL_MAX;
    }
    if (!fits) {
        reply_errorf(c,
                     "ERR a connection has at most %d subscriptions, %d of them patterns, and a "
                     "name at most %d bytes",
                     SUBS_MAX, PATTERNS_MAX, CHANNEL_MAX);
        return 0;
    }
    for (uint32_t i = 1; i < argc; i++) {
        if (sub_add(c, &argv[i], pattern) < 0) {
            c->broken = true;
            return 0;
        }
        confirm(c, pattern ? "psubscribe" : "subscribe", &argv[i]);
        if (!pattern) {
            notify_subscribed(c, &argv[i],
                              &channel_find(c->serve->pubsub, &argv[i], false)->follow);
        }
    }
    return 0;
}

static void leave_all(struct conn *c, const char *what, bool pattern) {
    uint32_t n = 0;
    list_for_each_safe (it, &c->subs) {
        struct sub *sub = list_entry(it, struct sub, in_conn);
        struct channel *ch = sub->channel;
        if (ch->pattern != pattern) {
            continue;
        }
        struct channel *last = sub_take(sub);
        confirm(c, what, &(struct resp_arg){ch->name, ch->len});
        free(last);
        n++;
    }
    if (n == 0) {
        confirm(c, what, NULL);
    }
}

static int unsubscribe(struct conn *c, const struct resp_arg *argv, uint32_t argc, bool pattern) {
    const char *what = pattern ? "punsubscribe" : "unsubscribe";
    if (argc == 1) {
        leave_all(c, what, pattern);
        return 0;
    }
    for (uint32_t i = 1; i < argc; i++) {
        const struct channel *ch = channel_find(c->serve->pubsub, &argv[i], pattern);
        struct sub *sub = ch ? sub_find(c, ch) : NULL;
        if (sub) {
            sub_remove(sub);
        }
        confirm(c, what, &argv[i]);
    }
    return 0;
}

int cmd_SUBSCRIBE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return subscribe(c, argv, argc, false);
}

int cmd_PSUBSCRIBE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return subscribe(c, argv, argc, true);
}

int cmd_UNSUBSCRIBE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return unsubscribe(c, argv, argc, false);
}

int cmd_PUNSUBSCRIBE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return unsubscribe(c, argv, argc, true);
}

int cmd_PUBLISH(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    if (notify_is_reserved(&argv[1])) {
        reply_error(c,
                    "ERR channels that begin with task:, tasks:, group: or events: are reserved");
        return 0;
    }
    uint32_t exact;
    struct message m = {.head = {argv[2].data, argv[2].len}};
    reply_int(c, pubsub_publish(c->serve, &argv[1], &m, &exact));
    return 0;
}

static int pubsub_channels(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct pubsub *p = c->serve->pubsub;
    if (argc > 3) {
        reply_sub_syntax(c, "PUBSUB", &argv[1]);
        return 0;
    }
    uint32_t n = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < p->n_buckets; i++) {
            list_for_each (it, &p->buckets[i]) {
                const struct channel *ch = list_entry(it, struct channel, node);
                if (argc == 3 && !glob_match(argv[2].data, argv[2].len, ch->name, ch->len)) {
                    continue;
                }
                n++;
                if (pass == 1) {
                    reply_bulk(c, ch->name, ch->len);
                }
            }
        }
        if (pass == 0) {
            reply_array(c, n);
        }
    }
    return 0;
}

static int pubsub_numsub(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    reply_array(c, (argc - 2) * 2);
    for (uint32_t i = 2; i < argc; i++) {
        const struct channel *ch = channel_find(c->serve->pubsub, &argv[i], false);
        reply_bulk(c, argv[i].data, argv[i].len);
        reply_int(c, ch ? ch->n : 0);
    }
    return 0;
}

static int pubsub_numpat(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    reply_int(c, c->serve->pubsub->n_patterns);
    return 0;
}

static int pubsub_help(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    static const char *const lines[] = {
        "CHANNELS [<pattern>]",
        "    Return the currently active channels matching a <pattern> (default: '*').",
        "NUMPAT",
        "    Return number of subscriptions to patterns.",
        "NUMSUB [<channel> ...]",
        "    Return the number of subscribers for the specified channels, excluding",
        "    pattern subscriptions(default: no channels).",
        NULL,
    };
    reply_help(c, "PUBSUB", lines);
    return 0;
}

int cmd_PUBSUB(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    static const struct subcommand table[] = {
        {"CHANNELS", -2, pubsub_channels},
        {"NUMSUB", -2, pubsub_numsub},
        {"NUMPAT", 2, pubsub_numpat},
        {"HELP", 2, pubsub_help},
        {NULL, 0, NULL},
    };
    return dispatch_sub(c, "PUBSUB", table, argv, argc);
}
