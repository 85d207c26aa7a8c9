/* SPDX-License-Identifier: MIT */
/* The parts of the benchmark `objects`. Each prints its lines and leaves nothing behind; 0, or what did not work has been
 * said and it is not 0. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/shm/objects.h"
#include "lib/shm/segment.h"
#include "tests/support/tmp.h"
#include "tests/support/wire.h"

enum { KEY_BYTES_16 = 16, VALUE_BYTES_64 = 64, ENTRIES = 100000 };

int objects_mapped(void); /* rates in memory */
int objects_growth(void); /* the longest operation; bytes per entry */

/* A segment of so many bytes that this process is attached to, with a handle on its objects. */
struct field_segment {
    struct shm shm;
    struct objects objects;
};
int field_segment_open(struct field_segment *f, uint64_t bytes);
void field_segment_close(struct field_segment *f);
/* Key number i: 16 bytes, no NUL behind them. */
void field_key(char out[KEY_BYTES_16], uint64_t i);

/* The table everything is compared with: open addressing, linear probing, entries of fixed size, in a memfd, under one
 * robust mutex shared between processes, with nothing done for the case that its holder dies half-way. */
struct plain;
/* NULL when there is no memory for n entries in at most half of its places. */
struct plain *plain_new(size_t n);
void plain_free(struct plain *p);
/* 1, or 0 when there is none. Copies the value out. */
int plain_get(struct plain *p, const char *key, char value[VALUE_BYTES_64]);
/* 1 new, 0 replaced, -ENOSPC. */
int plain_set(struct plain *p, const char *key, const char *value);
/* The mutex alone. */
void plain_lock(struct plain *p);
void plain_unlock(struct plain *p);

/* LMDB, an environment of its own on /dev/shm. 1: open; 0: there is no LMDB or no /dev/shm; -errno. */
int objects_lmdb_open(void);
int objects_lmdb_get(const char *key, char value[VALUE_BYTES_64]);
int objects_lmdb_set(const char *key, const char *value);
/* Harmless when it is not open. */
void objects_lmdb_close(void);

/* A redis-server on a Unix socket, and a connection to it. */
struct redis {
    char dir[TMP_PATH], socket[TMP_PATH + 16];
    pid_t pid;
    struct wire wire;
};
/* 1: started; 0: it is not installed, which has been noted; -errno. */
int redis_open(struct redis *r);
/* Harmless on a zeroed one. */
void redis_close(struct redis *r);
