/* SPDX-License-Identifier: MIT */
/* What object*.c share: functions on shared objects that are done in memory if they can be, else by a command. */
#pragma once

#include <errno.h>

#include "client/handle.h"
#include "lib/shm/objects.h"

#define WORDS(...)                                                                                 \
    (const struct hearth_bytes[]){__VA_ARGS__},                                                    \
        sizeof((const struct hearth_bytes[]){__VA_ARGS__}) / sizeof(struct hearth_bytes)

static inline struct task_bytes in(struct hearth_bytes b) {
    return (struct task_bytes){b.data, b.len};
}
/* The same two words by another name (asserted in object.c); neither side looks into the other's arrays. */
static inline const struct task_bytes *ins(const struct hearth_bytes *b) {
    return (const struct task_bytes *)(const void *)b;
}
static inline struct task_bytes *out(struct hearth_bytes *b) {
    return (struct task_bytes *)(void *)b;
}
static inline const struct task_bytes **outs(const struct hearth_bytes **b) {
    return (const struct task_bytes **)(void *)b;
}

/* An integer as a word. */
struct digits {
    char text[24];
};
struct hearth_bytes object_number(struct digits *d, int64_t v);

/* What a call in memory returned: is it the answer? Not when a mapping that only reads met a lock: then ask. */
static inline bool object_final(const struct hearth *h, int64_t r) {
    return r != -EAGAIN || h->attached == 2;
}
/* The answer: r < 0 as an error of this library, else it goes to *ret (NULL: nobody wants it) and 0. */
int object_count(struct hearth *h, int64_t r, uint64_t *ret);
int object_flag(struct hearth *h, int64_t r, int *ret);
static inline int object_done(struct hearth *h, int64_t r) {
    return object_count(h, r, NULL);
}

/* What a function says that was given none of what it needs one of; or what makes no sense. */
int object_none(struct hearth *h);
int object_invalid(struct hearth *h);

/* Sends a command of n words (`first` and then `more`, m of them) and waits for its reply, which is no error reply then. */
int object_ask(struct hearth *h, const struct hearth_reply **ret, const struct hearth_bytes *first,
               size_t n);
int object_ask_more(struct hearth *h, const struct hearth_reply **ret,
                    const struct hearth_bytes *first, size_t n, const struct hearth_bytes *more,
                    size_t m);
/* ... and takes it for an integer, or a text (null: HEARTH_E_ABSENT). */
int object_ask_count(struct hearth *h, uint64_t *ret, const struct hearth_bytes *first, size_t n);
int object_ask_flag(struct hearth *h, int *ret, const struct hearth_bytes *first, size_t n);
int object_ask_text(struct hearth *h, struct hearth_bytes *ret, const struct hearth_bytes *first,
                    size_t n);
/* ... whose reply brings a descriptor: *ret_fd, the caller's to close. HEARTH_E_PROTOCOL: none has come. */
int object_ask_fd(struct hearth *h, const struct hearth_reply **ret, int *ret_fd,
                  const struct hearth_bytes *first, size_t n);
/* The elements of an array. 0, -ENOMEM, HEARTH_E_PROTOCOL. */
int object_items(struct hearth *h, const struct hearth_reply *array,
                 const struct hearth_bytes **ret, size_t *ret_n);
struct hearth_bytes object_text(const struct hearth_reply *r);
/* Adds `by` with a command that takes it as its last word and answers the sum. */
int object_ask_float(struct hearth *h, double *ret, double by, const struct hearth_bytes *first,
                     size_t n);
/* A SCAN or HSCAN: `first` are the words before the cursor, pattern (NULL: none) is what MATCH is given. */
int object_scan(struct hearth *h, const struct hearth_bytes *first, size_t n,
                const struct hearth_bytes *pattern, uint64_t *cursor, uint32_t count,
                const struct hearth_bytes **ret, size_t *ret_n);
/* MULTI, n commands, EXEC.ALL. 0 with *ret the array of replies, none of them an error. */
struct object_command {
    const struct hearth_bytes *words;
    size_t n;
};
int object_exec(struct hearth *h, const struct hearth_reply **ret, const struct object_command *c,
                size_t n);
/* `count` from `from` on, as the first and last index that Redis's ranges take. */
void object_range(int64_t from, int64_t count, int64_t *ret_first, int64_t *ret_last);
