/* SPDX-License-Identifier: MIT */
/* What the tests of supervision ask the daemon and the system, over and over. Each fails the test
 * (cr_assert) when the answer does not come in time; none sleeps: they ask again until the time is
 * up. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "tests/support/daemon.h"

/* A promise of so many ms, as long as it may take with a sanitizer on a loaded machine. */
int within(int ms);
/* Milliseconds since some fixed time. */
double now_ms(void);

enum { ID_MAX = 32 };
/* TASK.SUBMIT pool handler "" [ARG arg] [TIMEOUT ms]; arg, timeout may be NULL. */
void submit(struct wire *w, const char *pool, const char *handler, const char *arg,
            const char *timeout, char ret_id[ID_MAX]);
/* An exec task: sh -c script. */
void submit_shell(struct wire *w, const char *script, const char *timeout, char ret_id[ID_MAX]);
/* Waits until it runs; the pid of its worker. */
pid_t wait_running(struct wire *w, const char *id);
/* Text after the id of TASK.WAIT's answer: "done|result text|cause", nil shown as "nil". Static. */
const char *wait_end(struct wire *w, const char *id);
/* TASK.CALL of a handler without arguments must give this many workers' pids at most; returns the
 * one. */
pid_t call_named(struct wire *w, const char *pool);
/* A field of POOL.INFO as text ("ready", "2"); static. */
const char *pool_info(struct wire *w, const char *pool, const char *field);
/* Until that field has that value, at most ms. */
bool pool_becomes(struct wire *w, const char *pool, const char *field, const char *value, int ms);
/* How often the daemon's loop has turned, this question included. */
long loop_turns(struct wire *w);
/* Pids of the daemon's children whose name begins with `comm`; returns how many there are. */
int children_of(pid_t daemon, const char *comm, pid_t *ret, int max);
/* Until no such process is there, at most ms. */
bool gone(pid_t pid, int ms);
/* The module built from mod_trouble.c. */
const char *trouble_module(void);
