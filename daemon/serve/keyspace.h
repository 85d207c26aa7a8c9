/* SPDX-License-Identifier: MIT */
/* The upkeep of the keyspace: what no command waits for. */
#pragma once

#include "daemon/serve/conn.h"

int keyspace_open(struct serve *s); /* 0 or -ENOMEM */
void keyspace_close(struct serve *s);
/* Something may have been left to do: sees to it soon. Cheap when there is nothing new. */
void keyspace_stir(struct serve *s);
/* Managers have ended: what is left of their keys is to be swept. */
void keyspace_managers_ended(struct serve *s);
/* There is something new to see to. */
bool keyspace_has_news(const struct serve *s);
/* Whether expired keys that nobody asks for are looked for (DEBUG SET-ACTIVE-EXPIRE); at first they are. */
void keyspace_set_active(struct serve *s, bool active);
/* A command has removed expired keys. */
void keyspace_note_expired(struct serve *s, uint64_t n);
/* Keys removed because their time was over or their manager had ended, since the start. */
uint64_t keyspace_expired(const struct serve *s);
