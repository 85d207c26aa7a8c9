/* SPDX-License-Identifier: MIT */
/* Connections as workers: what daemon/lease.h asks of serve/, and what its files ask of each other. */
#pragma once

#include "daemon/lease.h"
#include "daemon/serve/conn.h"

/* The connection is over: its leases end. */
void leases_conn_ends(struct conn *c);
/* A WORKER.NEXT that waits is over, without a reply. */
void leases_unwait(struct conn *c);
/* The client has said something else while it waited for a task: that it has none is the answer. */
void leases_said_more_now(struct conn *c);
static inline void leases_said_more(struct conn *c) {
    if (c->block == BLOCK_NEXT) {
        leases_said_more_now(c);
    }
}
/* Answers WORKER.NEXT, or waits. */
void leases_next(struct conn *c, uint64_t timeout_ms);
/* After a task has ended: a worker that joined by itself and is to go, goes. */
void leases_settle(struct conn *c);
/* The connection that has the lease, by its id; 0: none, or no lease. */
uint64_t leases_client(const struct lease *l);
