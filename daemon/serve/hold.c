/* SPDX-License-Identifier: MIT */
/* A held reply is a stretch of the connection's output; sending stops before the first. So replies keep their order, the client's
 * next commands are carried out meanwhile, and a client that submits many at once pays for one write to the disk.
 *
 * Fails: without memory to note it the connection is closed, its tasks stay. */
#include "daemon/serve/hold.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/durable.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/submit.h"
#include "lib/base/cleanup.h"

struct held {
    uint64_t at; /* as out_ref.at */
    size_t len;
    uint64_t batch; /* of tasks; ... */
    uint64_t drain; /* of objects: daemon/durable.h; 0: none */
    uint32_t n;
    struct task_ref *refs;
};

struct holds {
    uint32_t n, cap;
    struct held *v;
};

size_t hold_limit(const struct conn *c) {
    return c->holds && c->holds->n ? (size_t)(c->holds->v[0].at - c->out_sent) : SIZE_MAX;
}

static bool note(struct conn *c, const struct held *h) {
    struct holds *s = c->holds ? c->holds : (c->holds = calloc(1, sizeof(*s)));
    if (s && s->n == s->cap) {
        uint32_t cap = s->cap ? s->cap * 2 : 4;
        struct held *v = realloc(s->v, cap * sizeof(*v));
        if (!v) {
            return false;
        }
        s->v = v;
        s->cap = cap;
    }
    if (!s) {
        return false;
    }
    if (list_empty(&c->holding)) {
        list_append(&c->serve->holding, &c->holding);
    }
    s->v[s->n++] = *h;
    return true;
}

void hold_reply(struct conn *c, size_t start, const struct task_ref *refs, uint32_t n) {
    struct hearthd *d = c->serve->d;
    uint64_t batch = durable_last(d);
    bool durable = false;
    for (uint32_t i = 0; i < n && !durable; i++) {
        durable = tasks_is_durable(d, refs[i].idx);
    }
    if (!durable || durable_is_done(d, batch) || c->dead) {
        return;
    }
    struct held h = {c->out_sent + start,      buf_len(&c->out) - start, batch, 0, 0,
                     malloc(n * sizeof(*refs))};
    for (uint32_t i = 0; h.refs && i < n; i++) {
        if (!task_ref_is_older(&refs[i])) {
            h.refs[h.n++] = refs[i];
        }
    }
    if (!h.refs || !note(c, &h)) {
        free(h.refs);
        c->broken = true;
    }
}

void hold_objects(struct conn *c, size_t start) {
    const struct hearthd *d = c->serve->d;
    uint64_t batch = durable_last(d), drain = durable_next_drain(d);
    const struct held h = {c->out_sent + start, buf_len(&c->out) - start, batch, drain, 0, NULL};
    if (h.len == 0 || c->dead || (drain <= durable_drained(d) && durable_is_done(d, batch))) {
        return;
    }
    if (!note(c, &h)) {
        c->broken = true;
    }
}

void hold_forget(struct conn *c) {
    for (uint32_t i = 0; c->holds && i < c->holds->n; i++) {
        free(c->holds->v[i].refs);
    }
    if (c->holds) {
        free(c->holds->v);
    }
    free(c->holds);
    c->holds = NULL;
    list_del(&c->holding);
}

/* The reply becomes an error. */
static void refuse(struct conn *c, const struct held *h, const char *why) {
    size_t start = (size_t)(h->at - c->out_sent);
    struct buf rest = BUF_INIT;
    int r =
        buf_append(&rest, buf_head(&c->out) + start + h->len, buf_len(&c->out) - start - h->len);
    c->out.tail = c->out.head + start;
    r = r < 0
            ? r
            : buf_printf(
                  &c->out, "-DURABLE %s: %s\r\n",
                  h->drain ? "it is done, but not on the disk yet" : "cannot be written down", why);
    int64_t moved = (int64_t)(buf_len(&c->out) - start) - (int64_t)h->len;
    r = r < 0 || buf_len(&rest) == 0 ? r : buf_append(&c->out, buf_head(&rest), buf_len(&rest));
    buf_deinit(&rest);
    if (r < 0) {
        c->broken = true;
    }
    for (uint32_t i = 1; i < c->holds->n; i++) {
        c->holds->v[i].at += (uint64_t)moved;
    }
    for (uint32_t i = 0; i < c->refs_n; i++) {
        struct out_ref *ref = &c->refs[c->refs_first + i];
        ref->at += ref->at > h->at ? (uint64_t)moved : 0;
    }
    for (uint32_t i = 0; i < h->n; i++) {
        if (tasks_is_known(c->serve->d, h->refs[i].idx, h->refs[i].id)) {
            tasks_abandon(c->serve->d, h->refs[i].idx);
        }
    }
}

/* The first n are held no longer. */
static void let_go(struct holds *s, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        free(s->v[i].refs);
    }
    s->n -= n;
    memmove(s->v, s->v + n, s->n * sizeof(*s->v));
}

static void release(struct conn *c, uint64_t done, const char *trouble) {
    struct holds *s = c->holds;
    uint64_t drained = durable_drained(c->serve->d);
    for (;;) {
        uint32_t n = 0;
        while (n < s->n && s->v[n].batch <= done && s->v[n].drain <= drained) {
            n++;
        }
        let_go(s, n);
        if (s->n == 0 || !trouble) {
            break;
        }
        refuse(c, &s->v[0], trouble);
        let_go(s, 1);
    }
    if (s->n == 0) {
        list_del(&c->holding);
    }
    conn_dirty(c);
}

void hold_turn(struct hearthd *d, uint64_t done, const char *trouble) {
    list_for_each_safe (it, &d->serve->holding) {
        release(list_entry(it, struct conn, holding), done, trouble);
    }
}
