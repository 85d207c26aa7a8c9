/* SPDX-License-Identifier: MIT */
/* Answering the command in hand. Each adds to the connection's output; a muted connection (CLIENT
 * REPLY) gets nothing; if memory ran out the connection is marked broken, if the reply is longer
 * than a connection's output may be (limits.client_max_output) it is marked overrun and gets no
 * more; both are closed after the command, so no caller needs to look. */
#pragma once

#include "daemon/serve/conn.h"

static inline void reply_made(struct conn *c, int r) {
    c->broken |= r < 0;
    c->overrun |= buf_len(&c->out) > c->serve->out_max;
}

#define REPLY(c, call)                                                                             \
    do {                                                                                           \
        if (!(c)->muted && !(c)->overrun) {                                                        \
            reply_made(c, call);                                                                   \
        }                                                                                          \
    } while (0)

static inline void reply_simple(struct conn *c, const char *text) {
    REPLY(c, resp_put_simple(&c->out, text));
}
static inline void reply_ok(struct conn *c) {
    reply_simple(c, "OK");
}
static inline void reply_int(struct conn *c, int64_t v) {
    REPLY(c, resp_put_int(&c->out, v));
}
static inline void reply_bulk(struct conn *c, const void *data, size_t len) {
    REPLY(c, resp_put_bulk(&c->out, data, len));
}
static inline void reply_text(struct conn *c, const char *text) {
    REPLY(c, resp_put_text(&c->out, text));
}
/* A text for people, such as INFO's. */
static inline void reply_verbatim(struct conn *c, const struct buf *text) {
    REPLY(c, resp_put_verbatim(&c->out, c->proto, text->data ? buf_head(text) : "", buf_len(text)));
}
#define reply_textf(c, ...) REPLY(c, resp_put_textf(&(c)->out, __VA_ARGS__))
static inline void reply_array(struct conn *c, uint32_t n) {
    REPLY(c, resp_put_array(&c->out, n));
}
static inline void reply_map(struct conn *c, uint32_t pairs) {
    REPLY(c, resp_put_map(&c->out, c->proto, pairs));
}
static inline void reply_set(struct conn *c, uint32_t n) {
    REPLY(c, resp_put_set(&c->out, c->proto, n));
}
static inline void reply_null(struct conn *c) {
    REPLY(c, resp_put_null(&c->out, c->proto));
}
static inline void reply_null_array(struct conn *c) {
    REPLY(c, resp_put_null_array(&c->out, c->proto));
}
#define reply_errorf(c, ...)                                                                       \
    do {                                                                                           \
        (c)->serve->errors++;                                                                      \
        REPLY(c, resp_put_errorf(&(c)->out, __VA_ARGS__));                                         \
    } while (0)
#define reply_error(c, text) reply_errorf(c, "%s", text)

/* A pair of a map. */
static inline void reply_field_text(struct conn *c, const char *key, const char *value) {
    reply_text(c, key);
    reply_text(c, value);
}
static inline void reply_field_int(struct conn *c, const char *key, int64_t value) {
    reply_text(c, key);
    reply_int(c, value);
}

/* Redis's words for the usual mistakes. */
static inline void reply_syntax(struct conn *c) {
    reply_error(c, "ERR syntax error");
}
/* "HELP" and misspelt subcommands. */
void reply_unknown_sub(struct conn *c, const char *command, const struct resp_arg *sub);
void reply_wrong_args(struct conn *c, const char *command, const char *sub);
/* A subcommand that checks the number of its words itself. */
void reply_sub_syntax(struct conn *c, const char *command, const struct resp_arg *sub);
/* lines ends with NULL; they are framed as Redis frames its HELP. */
void reply_help(struct conn *c, const char *command, const char *const *lines);
