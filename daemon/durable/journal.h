/* SPDX-License-Identifier: MIT */
/* A SQLite database that a thread of its own writes, so that the daemon's loop never waits for the disk. Changes are put in
 * order into batches; each batch is one transaction, and while one is being written the next one fills: group commit. All
 * functions are for the loop's thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct journal;
struct sqlite3;

enum { JOURNAL_WHY = 256 };

/* One of journal.def: what a change does. */
enum journal_statement {
#define STATEMENT(name, sql) JOURNAL_##name,
#include "daemon/durable/journal.def"
#undef STATEMENT
    JOURNAL_STATEMENTS,
};

enum journal_type { JOURNAL_NULL, JOURNAL_INT, JOURNAL_TEXT, JOURNAL_BLOB };
struct journal_value {
    enum journal_type type;
    int64_t i;
    const void *data; /* TEXT, BLOB; copied */
    size_t len;
};
static inline struct journal_value journal_int(int64_t i) {
    return (struct journal_value){.type = JOURNAL_INT, .i = i};
}
static inline struct journal_value journal_blob(const void *data, size_t len) {
    return (struct journal_value){.type = JOURNAL_BLOB, .data = data, .len = len};
}
struct journal_value journal_text(const char *text); /* NULL: null */
/* Bytes that are shown as text, whatever they are. */
static inline struct journal_value journal_name(const void *data, size_t len) {
    return (struct journal_value){.type = JOURNAL_TEXT, .data = data, .len = len};
}

/* Opens the database, makes it if there is none, and starts the thread. A file that is damaged or no database of ours is
 * renamed, with the time behind its name, and a new one made: then *ret_aside is true and `why` says what it was about. 0;
 * -EPROTO: it is of a later version of Hearth; -errno: `why` says why. */
int journal_open(const char *path, struct journal **ret, bool *ret_aside, char why[JOURNAL_WHY]);
/* Writes what has been put, if it can, and closes. NULL is accepted. Returns NULL. */
struct journal *journal_close(struct journal *j);
/* A connection for reading, before the first change has been put. */
struct sqlite3 *journal_reader(struct journal *j);

/* Puts a change: the number of its batch, > 0; 0: there is no memory, or too much waits to be written. */
uint64_t journal_put(struct journal *j, enum journal_statement what, const struct journal_value *v,
                     size_t n);
/* The same for what is bounded by other means: 0 only for want of memory. */
uint64_t journal_put_known(struct journal *j, enum journal_statement what,
                           const struct journal_value *v, size_t n);
/* Takes back what was put since journal_waiting_bytes() was this, in this turn. */
void journal_back(struct journal *j, uint64_t bytes);
/* Hands over the batch that fills, if the thread has nothing to do. */
void journal_turn(struct journal *j);
/* Becomes readable when a batch is through; journal_done() takes that away. */
int journal_fd(const struct journal *j);
/* Every batch up to this one is on the disk. */
uint64_t journal_done(struct journal *j);
/* Why the batch after journal_done() cannot be written; it is tried again every second, and whatever is put meanwhile waits. NULL:
 * nothing is wrong. Valid until the next call. */
const char *journal_trouble(struct journal *j);
/* The batch that fills. */
uint64_t journal_filling(const struct journal *j);
uint64_t journal_waiting_bytes(const struct journal *j);
