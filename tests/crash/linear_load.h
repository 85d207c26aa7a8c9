/* SPDX-License-Identifier: MIT */
/* A load of calls on a few hot keys, recorded by the processes that make them, and judged key by key. What a call is made by
 * (the segment, a connection) is the user's. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/crash/linear_check.h"

enum { LOAD_PROCESSES = 8, LOAD_CALLS = 20000, LOAD_TEXT = 600 };

/* What the keys are. The wide ones hold long texts that begin with their number; a torn one is seen. */
enum load_key {
    LOAD_VALUE, /* get set add */
    LOAD_VALUE_WIDE,
    LOAD_FIELD, /* of one dict: get set add swap */
    LOAD_FIELD_WIDE,
    LOAD_LIST,
    LOAD_LIST_OTHER,
    LOAD_KEYS
};
extern const char *const load_names[LOAD_KEYS]; /* of the key; fields are all in load_dict */
extern const char load_dict[5];

/* In memory that the processes share. */
struct load {
    _Atomic uint64_t
        stamp; /* the clock: each call takes one before it begins and one when it has ended */
    uint64_t seed;
    uint64_t limit; /* calls of each process: at most, and if 0, LOAD_CALLS */
    struct load_log {
        _Atomic uint64_t n;
        struct load_call {
            struct linear_call call;
            uint32_t key;
        } calls[LOAD_CALLS];
    } logs[LOAD_PROCESSES];
};

/* Makes one call and sets its result. 0, or an error that ends the process. */
typedef int load_do(void *arg, enum load_key key, struct linear_call *c);

struct load *load_new(uint64_t seed);
/* Makes calls as process p until it has made as many as it may (0), or one fails (its error). */
int load_run(struct load *l, int p, load_do *fn, void *arg);
/* Process p is dead and what it did has been kept or undone: the call it died in has ended. */
void load_died(struct load *l, int p);
/* Checks each key's history. NULL, or what is wrong (static text). Then the logs are empty again. Adds the number of calls, and
 * of those that overlapped with another of the same key, and of those that died. */
struct load_counts {
    uint64_t calls, overlapped, unknown;
};
const char *load_judge(struct load *l, struct load_counts *counts);

/* The text of a number on this key, and back: -EBADMSG when it is not whole. */
uint32_t load_text(enum load_key key, int64_t v, char out[LOAD_TEXT]);
int load_number(enum load_key key, const void *data, uint64_t len, int64_t *ret);
