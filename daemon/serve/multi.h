/* SPDX-License-Identifier: MIT */
/* MULTI and WATCH of a connection: what dispatch must know of them. */
#pragma once

#include "daemon/serve/conn.h"

/* Is this command to be queued, or refused, instead of being carried out? */
bool multi_takes(const struct conn *c, int id);
/* Queues it and replies. */
void multi_queue(struct conn *c, int id, const struct resp_arg *argv, uint32_t argc);
/* A command could not be queued: EXEC will refuse. Nothing without MULTI. */
void multi_failed(struct conn *c);
/* Commands queued; -1: there is no MULTI. */
int multi_count(const struct conn *c);
/* Bytes it has queued and watches. */
size_t multi_bytes(const struct conn *c);
/* Neither queues nor watches any more. */
void multi_free(struct conn *c);
