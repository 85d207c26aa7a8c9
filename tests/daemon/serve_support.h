/* SPDX-License-Identifier: MIT */
/* What the tests of the gateway do over and over: a daemon, a command as one types it, and what its
 * answer looks like. All fail the test (cr_assert) when something is not as asked. */
#pragma once

#include <stdbool.h>

#include "tests/support/daemon.h"

/* The daemon of the running test, ended by serve_end(), which every suite has as its .fini. */
extern struct daemon server;
void serve_begin(const char *config); /* NULL: daemon_sample_config */
void serve_end(void);
/* A client. */
void serve_connect(struct wire *w);

/* Sends a line, read as Redis reads inline commands ("..." and '...' quote). printf-like. */
void tell(struct wire *w, const char *line, ...) __attribute__((format(printf, 2, 3)));
/* The next message, as wire_show() shows it. */
const char *hear(struct wire *w);
/* Both. */
const char *ask(struct wire *w, const char *line, ...) __attribute__((format(printf, 2, 3)));

/* Whether text is like the pattern, where * stands for anything. */
bool like(const char *pattern, const char *text);
/* Asks, and the answer must be like the pattern. */
void expect(struct wire *w, const char *pattern, const char *line, ...)
    __attribute__((format(printf, 3, 4)));
/* The next message must be like the pattern. */
void expect_next(struct wire *w, const char *pattern);
/* Nothing more comes: the answer to a PING is next. */
void expect_silence(struct wire *w);
/* The daemon closes: end of stream is next. */
void expect_closed(struct wire *w);

enum { SERVE_ID = 64 };
/* An id out of the last message (a bulk string). */
void take_id(struct wire *w, char id[SERVE_ID]);
/* TASK.SUBMIT with these words; its id. */
void submit_line(struct wire *w, char id[SERVE_ID], const char *words, ...)
    __attribute__((format(printf, 3, 4)));
/* The value of a line "name:..." in INFO, as a number; -1: no such line. */
long long info_number(struct wire *w, const char *name);
/* Until INFO has this number there; asked by a client of its own, since w may be waiting. */
void until_info(const char *name, long long n);
/* Until so many connections wait for locks, queues and the like. */
void until_waiting(long long n);
/* Resident bytes of the daemon. */
long long resident(void);
