/* SPDX-License-Identifier: MIT */
/* For the tests of the hearth command: a private daemon, and scripts that are given to bash with its socket in HEARTH_SOCKET
 * and the command as `hearth`. */
#pragma once

#include "tests/support/child.h"
#include "tests/support/daemon.h"

extern struct daemon d;
extern struct child_output out; /* of the last script */

/* Around each test. */
void ctl_begin(void);
void ctl_end(void);

/* Runs a script in the daemon's directory; its exit status. */
int sh(const char *script);
/* Runs a script and compares its exit status and standard output; err is to be found in standard error. */
void expect(const char *script, int status, const char *text, const char *err);
