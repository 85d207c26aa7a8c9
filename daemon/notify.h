/* SPDX-License-Identifier: MIT */
/* What we say to a service manager, and what it hands us. Everything is a no-op, and 0, without
 * one. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* READY=1, STOPPING=1 and STATUS= of $NOTIFY_SOCKET. Failures are of no consequence and are
 * ignored. Only notify_ready() may wait for the manager. */
void notify_ready(void);
void notify_stopping(void);
/* The configuration is being read again; notify_ready() follows. */
void notify_reloading(void);
/* "Give me so much more time from now", in microseconds. */
void notify_extend(uint64_t usec);
void notify_status(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* How often notify_watchdog() must be called at least, in microseconds (half of WatchdogSec=); 0:
 * no watchdog. */
uint64_t notify_watchdog_interval(void);
/* WATCHDOG=1: call it from a turn of the loop that has done its work, not from a timer of its own.
 */
void notify_watchdog(void);

/* What the manager keeps for us, and hands to the next daemon of this service. `name` begins with "hearth-". The descriptor
 * stays the caller's. May wait for the manager. 0, -ENOENT: there is no manager; -errno. */
#define KEEP_SEGMENT "hearth-segment"
int notify_store(const char *name, int fd);
int notify_unstore(const char *name);
/* The next descriptor of that name among those we were started with, *at begins with 0; it is close-on-exec, and the caller's from now on.
 * -ENOENT: no more. */
int passed_fd(const char *name, int *at);
/* Were any passed that are not from the store? */
bool passed_any(void);

/* Takes the listening socket that we were started with (LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES):
 * the one called `name`, or the only one, whatever its name. *ret_fd is close-on-exec and
 * non-blocking. The variables are removed from the environment, so that no child takes them for its
 * own; hence call it once. 0; -ENOENT: none was passed; -ENOTUNIQ: several, none of that name, or
 * more than one; -EINVAL: it is not a listening AF_UNIX stream socket; -errno. On failure the
 * passed descriptors stay open. */
int listen_fds_take(const char *name, int *ret_fd);
