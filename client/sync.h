/* SPDX-License-Identifier: MIT */
/* What sync*.c share: functions that may wait, done in memory if they can be, else by a command. */
#pragma once

#include "client/object.h"

/* What a call in memory returned, as the answer: an errno as an error of this library, else 0 with the number in *ret (NULL: nobody
 * wants it). */
int wait_done(struct hearth *h, int64_t r, int64_t *ret);
/* ... of one whose number says whether the holder before has died. */
int wait_taken(struct hearth *h, int64_t r, int *ret_died);
/* The segment, for a call that changes and may wait: NULL: ask the daemon. */
struct objects *wait_mapped(struct hearth *h);

/* Sends the n words, and TIMEOUT for ms >= 0, and waits for the reply as long as it takes. A null reply: HEARTH_E_PENDING. */
int wait_ask(struct hearth *h, const struct hearth_reply **ret, int64_t ms,
             const struct hearth_bytes *words, size_t n);
/* The same with the words for the time in their place already. */
int wait_ask_more(struct hearth *h, const struct hearth_reply **ret, bool may_wait,
                  const struct hearth_bytes *words, size_t n, const struct hearth_bytes *more,
                  size_t m);
/* ... that is "OK", or "OWNER_DIED" (*ret_died; it may be NULL). */
int wait_ask_taken(struct hearth *h, int *ret_died, int64_t ms, const struct hearth_bytes *words,
                   size_t n);
