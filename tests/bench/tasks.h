/* SPDX-License-Identifier: MIT */
/* The parts of the benchmark `tasks`. Each starts its own daemons, prints its lines and leaves
 * nothing behind; 0, or what did not work has been said and it is not 0. */
#pragma once

#include <stddef.h>

#include "client/hearth.h"
#include "tests/support/daemon.h"

extern const char site_config[]; /* pools demo and shell, 2 workers each */

/* A daemon, ready, and a client of it, both made with the process bound as it is now. */
struct site {
    struct daemon daemon;
    struct hearth *h;
};
int site_open(struct site *s, const char *config);
/* 0 or what was wrong with the daemon's end. Harmless on a zeroed one. */
int site_close(struct site *s);

/* Runs demo.echo (or what task says) and waits: 0 if it is done with this many bytes. */
int site_call(struct site *s, const struct hearth_task *task, size_t want_len);

int tasks_trips(void);   /* one task at a time */
int tasks_stream(void);  /* many under way */
int tasks_exec(void);    /* commands */
int tasks_program(void); /* in Python */
int tasks_start(void);   /* from exec to READY; memory and CPU when idle */
int tasks_process(void); /* processes, started and waited for */
int tasks_queue(void);   /* cost and bytes of queued tasks */
int tasks_plans(void);   /* of those with priorities and delays */
