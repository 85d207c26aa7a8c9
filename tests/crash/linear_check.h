/* SPDX-License-Identifier: MIT */
/* Decides whether a recorded history of calls on one object is linearizable: whether each call can be thought to have happened at
 * one moment between its invocation and its response, so that all of them one after the other give the results recorded. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LINEAR_PROCESSES = 32, /* calls in hand at once */
    LINEAR_LIST = 64,      /* elements of a list at most */
};
#define LINEAR_NONE INT64_MIN /* no value, no element */

/* A register is a list of one element or none. */
enum linear_kind {
    LINEAR_GET,        /* result: the value, or NONE */
    LINEAR_SET,        /* a */
    LINEAR_ADD,        /* a; result: the sum (NONE counts as 0) */
    LINEAR_SWAP,       /* a expected (NONE: absent), b new (NONE: none); result: 1 or 0 */
    LINEAR_PUSH_LEFT,  /* a; result: the length */
    LINEAR_PUSH_RIGHT, /* a; result: the length */
    LINEAR_POP_LEFT,   /* result: the element, or NONE */
    LINEAR_POP_RIGHT,
    LINEAR_LENGTH, /* result */
    LINEAR_FIRST,  /* result: the element, or NONE */
    LINEAR_KINDS
};
extern const char *const linear_names[LINEAR_KINDS];

/* One call. Stamps come from one clock; no two are the same. */
struct linear_call {
    uint64_t invoked, responded;
    int64_t a, b, result;
    uint16_t kind, process;
    bool
        unknown; /* its process died in it, and was buried at `responded`: it has taken effect by then, or never */
};

/* 1: linearizable; 0: not, and *ret_bad (an index) is the first call whose response nothing explains; -ENOMEM; -EINVAL: no
 * history (a process in two calls at once, a response before its invocation). The calls are sorted by invocation. */
int linear_check(struct linear_call *calls, size_t n, size_t *ret_bad);
