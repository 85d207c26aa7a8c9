/* SPDX-License-Identifier: MIT */
/* Connections that wait until something is pushed to a list: BLPOP and its kin. Whoever began to wait first is served first. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/serve/conn.h"
#include "lib/shm/keys.h"

enum wait_kind {
    WAIT_POP,  /* [key, element] */
    WAIT_MPOP, /* [key, [elements]] */
    WAIT_MOVE, /* element, which goes to `dest` */
};

struct wait_for {
    enum wait_kind kind;
    bool left;
    bool to_left;                /* WAIT_MOVE */
    uint64_t count;              /* WAIT_MPOP */
    const struct resp_arg *keys; /* in the order in which they are looked at */
    uint32_t n_keys;
    const struct resp_arg *dest; /* WAIT_MOVE */
    uint64_t timeout_ms;         /* 0: for ever */
};

/* 0, -ENOMEM, -EAGAIN or -errno. */
int wait_keys_open(struct serve *s);
/* No connection waits any more. */
void wait_keys_close(struct serve *s);

/* Blocks the connection; inside of an operation that holds the keys' shards, so that no push is missed. 0 or -ENOMEM. */
int wait_keys_block(struct conn *c, const struct wait_for *f);
/* For block_end(): it waits no more. */
void wait_keys_forget(struct conn *c);
/* Does somebody wait for the key? Then he comes first, whatever is in the list. */
bool wait_keys_any(const struct serve *s, const struct key_name *name);

/* A handler has pushed to the key. Only the order in which keys are served depends on it. */
void wait_keys_pushed(struct serve *s, const struct key_name *name);
/* Serves whoever can be: after each command, and once a turn for what other processes have pushed. */
void wait_keys_turn(struct serve *s);
/* There is something for wait_keys_turn(). */
bool wait_keys_has_news(const struct serve *s);
