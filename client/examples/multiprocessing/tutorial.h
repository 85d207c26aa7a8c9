/* SPDX-License-Identifier: MIT */
/* What the programs here have in common: they connect, and start themselves again as children. Any failure ends the program with a
 * word why. */
#pragma once

struct hearth;

struct child {
    char id[64]; /* the daemon's name for the process */
    long pid;
};

/* A connection to the daemon at $HEARTH_SOCKET. */
struct hearth *tutorial_connect(void);

/* Ends the program unless r is 0. */
void tutorial_check(struct hearth *h, int r, const char *what);

/* Process(target=..., args=(a, b)).start(): this program once more, as a child with "child", a and b as its words, which writes to
 * this one's standard output. */
struct child tutorial_start(struct hearth *h, const char *a, const char *b);

/* process.join() */
void tutorial_join(struct hearth *h, const struct child *child);
