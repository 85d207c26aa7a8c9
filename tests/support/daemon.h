/* SPDX-License-Identifier: MIT */
/* The real hearthd under test: private directory, private socket, and a check at the end that
 * nothing is left behind. The listening socket is made here before the daemon starts and passed as
 * systemd passes one, so that a client's connect() never races with the daemon's start; no test
 * sleeps. Programs come from the environment that meson sets (HEARTHD, HEARTH_WORKER,
 * HEARTH_MODULE_PATH). Not for several threads; one daemon at a time checks for strays. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "tests/support/tmp.h"
#include "tests/support/wire.h"

/* A configuration with the pools that most tests want: `demo` (2 workers) and `shell` (exec, 2
 * workers). */
extern const char daemon_sample_config[];

struct daemon_options {
    const char *config;      /* text of the file; NULL: daemon_sample_config */
    const char *const *args; /* more arguments of hearthd, NULL-terminated; NULL: none */
    const char *const *env; /* "NAME=value" added to the environment, NULL-terminated; NULL: none */
    const char *const
        *wrapper;    /* words put before hearthd (strace ...), NULL-terminated; NULL: none */
    bool own_socket; /* hearthd makes the socket itself (-s), nothing is passed; connecting may race
                        with its start: daemon_connect() then waits for READY first */
    bool keep_listening; /* this process keeps the listening socket too, as systemd does, so that
                            connections survive a restart in the queue */
};

struct daemon {
    char dir[TMP_PATH]; /* holds all that follows; tests may put files there */
    char socket[TMP_PATH + 16];
    char config[TMP_PATH + 16];
    char log[TMP_PATH + 16]; /* its stdout and stderr */
    char notify[TMP_PATH + 16];
    int listen_fd; /* -1: not (any more) ours */
    int notify_fd; /* where sd_notify messages arrive */
    pid_t pid;     /* 0: not running */
    bool ready;    /* READY=1 was seen */
    struct daemon_options options;
};

/* Makes the directory and starts hearthd in the foreground; options NULL: all defaults. 0 or
 * -errno; after a failure there is nothing to clean up. It does not wait for READY: what a client
 * sends early waits in the socket. */
int daemon_start(struct daemon *d, const struct daemon_options *options);
/* Waits until it says READY=1 (all pools warm), at most ms. 0, -ETIMEDOUT, -ECHILD (it ended
 * instead: see daemon_log). */
int daemon_wait_ready(struct daemon *d, int ms);
/* A client. 0 or -errno. */
int daemon_connect(struct daemon *d, struct wire *ret);
/* Starts it again in the same directory with the same socket, after daemon_wait() or daemon_kill().
 * 0 or -errno. */
int daemon_restart(struct daemon *d);
/* Waits for its end, at most ms: exit status, CHILD_SIGNALLED + signal, or -ETIMEDOUT. */
int daemon_wait(struct daemon *d, int ms);
/* SIGKILL, and reaps it; the directory stays. */
void daemon_kill(struct daemon *d);
/* What it has logged; static, valid until the next call. Never NULL. */
const char *daemon_log(struct daemon *d);

/* Ends it with SIGTERM (SIGKILL after 15 s), sees that no process of its is left, and removes the
 * directory. 0; it would be its exit status, CHILD_SIGNALLED + signal (SIGTERM's is 0 for a healthy daemon: it
 * exits 0), -ETIMEDOUT (had to be killed) or -ECHILD (left processes behind, killed now). Harmless
 * (0) on one that was never started. When it would not be 0 the log is written to stderr, and the
 * process aborts: call it in .fini, so that it is done after a failed assertion too, where
 * Criterion counts no assertion. */
int daemon_stop(struct daemon *d);
