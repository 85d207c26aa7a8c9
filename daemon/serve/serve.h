/* SPDX-License-Identifier: MIT */
/* The daemon's gateway: the listening socket, the clients, and the commands they send. main.c opens
 * and closes it and gives it one turn per turn of the loop; everything else happens in libevent
 * callbacks. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/hearthd.h"

/* Takes the listening socket "hearth" from systemd if it was passed, else makes the one the config
 * names (mode, owner, group as configured; a stale socket is replaced, a live one refused with
 * -EADDRINUSE; the parent directory must exist and must not be writable by everybody unless sticky;
 * the path must fit sun_path). Connections are accepted once serve_accepting() says so. Needs
 * d->base, d->config, d->shm and d->tasks; sets d->serve. 0 or -errno, the reason logged. */
int serve_open(struct hearthd *d);

/* Before `next` takes over from d->config: the roles it gives. 0 or -ENOMEM. */
int serve_prepare(struct hearthd *d, const struct config *next);
/* d->config is another one, which has been prepared: every connection follows. */
void serve_configure(struct hearthd *d);

/* Starts or stops accepting connections. Stopped, the socket stays open and new clients wait in its
 * backlog. */
void serve_accepting(struct hearthd *d, bool on);

/* One turn: goes on with clients whose commands were held back, writes what the clients have been
 * answered, buries closed connections. Called after tasks_turn(), before the loop sleeps. True:
 * there is more to do, so do not sleep. */
bool serve_turn(struct hearthd *d);

/* Before the loop sleeps: has another process left something in the segment for serve_turn()? */
bool serve_has_news(struct hearthd *d);

/* Stopping: blocks until every client has been sent what it was answered, or until deadline_ns
 * (clock_now()). */
void serve_flush(struct hearthd *d, uint64_t deadline_ns);

/* Closes every connection and the listening socket (a socket file of our own is removed). Accepts
 * d->serve == NULL. */
void serve_close(struct hearthd *d);
