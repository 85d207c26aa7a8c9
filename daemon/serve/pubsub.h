/* SPDX-License-Identifier: MIT */
/* Channels and patterns, and who listens to them. */
#pragma once

#include "daemon/serve/conn.h"

int pubsub_open(struct serve *s);
void pubsub_close(struct serve *s); /* nobody listens any more */
/* Takes the connection off everything it listens to, without a word. */
void pubsub_drop(struct conn *c);

/* What is published: some bytes of the daemon's, then some of a task's output. */
struct message {
    struct task_bytes head;
    struct task_bytes body;
    uint32_t idx; /* the task that owns body, if body.len > 0 */
};
/* To all who listen. Returns how many got it; *ret_exact: how many of them by the channel's own
 * name. */
uint32_t pubsub_publish(struct serve *s, const struct resp_arg *channel, const struct message *m,
                        uint32_t *ret_exact);
/* To those who listen to exactly this channel. */
void pubsub_tell(struct serve *s, const struct resp_arg *channel, const struct message *m);
/* True for all of those? All are asked. */
bool pubsub_all(struct serve *s, const struct resp_arg *channel, bool (*fn)(struct conn *c));
/* To one, as if it had just been published. */
void pubsub_send(struct conn *c, const struct resp_arg *channel, const struct message *m);
/* Nobody listens to anything: not worth the making of a message. */
bool pubsub_idle(const struct serve *s);
/* Would a message on it reach anybody? */
bool pubsub_is_wanted(const struct serve *s, const struct resp_arg *channel);
/* Channels and patterns of one connection. */
uint32_t pubsub_count(const struct conn *c);
