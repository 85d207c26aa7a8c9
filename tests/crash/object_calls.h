/* SPDX-License-Identifier: MIT */
/* Calls of objects.h for test_object_steps: those that are more than one verb of the floors below. */
#pragma once

#include "lib/shm/objects.h"

enum object_call {
    CALL_COPY,
    CALL_EXCHANGE,
    CALL_ADD_FLOAT,
    CALL_BESIDE,
    CALL_REVERSE,
    CALL_SORT,
    CALL_EXPIRE_NOW,
    CALL_PERSIST,
    CALL_SET_TTL,
    CALL_DELETE_SEVERAL,
    CALL_RENAME_OVER,
    CALL_WRITE_BEYOND,
    CALL_DEFAULT,
    CALL_POP_FIELD,
    CALL_POP_ITEM,
    CALL_SWAP,
    CALL_SWAP_AWAY,
    CALL_UPDATE,
    CALL_DELETE_FIELDS,
    CALL_ADD_FIELD,
    CALL_ADD_FIELD_FLOAT,
    CALL_ADD_FIELDS,
    CALL_CLEAR,
    CALL_PUSH_SEVERAL,
    CALL_POP_WAIT,
    CALL_MOVE,
    CALL_TRIM,
    CALL_REMOVE_EQUAL,
    CALL_TRANSACTION,
    CALL_ONE_SHARD,
};

/* Makes the call on the key; `to` is the other key of those that have two. letters: 9000 bytes, a to z over and over, of which
 * the test's objects are made. */
int64_t object_call(struct objects *o, enum object_call call, const char *key, const char *to,
                    const char *letters);
